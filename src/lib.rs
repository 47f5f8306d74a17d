//! wirevault: a protocol-level backup and restore engine.
//!
//! Bytes flow one way, from a source through frames and parts into a store, and knowledge flows down only:
//! [`storage`] does not know what an archive is, [`archive`] knows only named streams of bytes, [`sources`] do not
//! know where bytes go, [`repository`] knows which objects make a snapshot, [`commands`] put them together.
//!
//! The promises this crate keeps, and the place where each is kept, stand in `docs/architecture.md`; the bytes it
//! writes stand in `docs/format.md`.

pub mod archive;
pub mod cli;
pub mod commands;
pub mod config;
pub mod docker;
pub mod environment;
pub mod error;
pub mod health;
pub(crate) mod held;
pub mod memory;
pub mod metrics;
pub mod notify;
pub mod proxy;
pub mod raw_text;
pub mod report;
pub mod repository;
pub mod retention;
pub mod schedule;
pub mod sources;
pub mod storage;
pub(crate) mod tls;

pub use error::{Error, ErrorKind, Result};
