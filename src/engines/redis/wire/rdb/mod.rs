//! The RDB format: a walk over its bytes as they pass, and what it counts.
//!
//! Lengths, opcodes and types: <https://rdb.fnordig.de/file_format.html> and `rdb.h` of Redis 5 to 8.4 and Valkey 7.2 to
//! 9. Numbers above 21 mean different things to Redis and Valkey, so the magic of the file decides.

pub mod census;
pub mod crc64;
pub mod decode;
pub(crate) mod encode;
pub mod lzf;
pub mod module;
pub mod packed;
pub mod pull;
#[cfg(test)]
pub(crate) mod tests;
pub mod types;
pub mod walk;

pub use census::{Census, Counter, DatabaseCounts, LargeKey, TypeCounts};
pub use crc64::Crc64;
pub use types::Flavour;
pub use walk::{KeyHeader, Sink, Walker};
