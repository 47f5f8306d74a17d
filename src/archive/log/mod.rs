//! Segments of a log: what an engine writes between snapshots, one object each.
//!
//! An object is zstd frames of the engine's own bytes, so that `zstd -dc` gives exactly these, and a last frame that decoders
//! skip, with the segment's [`Descriptor`]. What the bytes mean is the engine's affair; here they have a length, a digest and,
//! if the engine says so, a range of positions and of times. The bytes stand in `docs/format.md`.
//!
//! A name is given once. The same bytes again are no error, because whoever hands a segment on may have lost the answer; other
//! bytes under the same name are one, because then two writers share a log.

mod descriptor;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use descriptor::{About, Descriptor, Span, Times};
pub use reader::LogReader;
pub use writer::{Kept, LogOptions, LogWriter};
