//! Named streams of bytes as a compressed, checksummed tar, cut into frames that can be fetched alone.
//!
//! An [`ArchiveWriter`] writes the archives of one source: entries become frames (consecutive tar bytes, compressed
//! alone as one zstd frame or gzip member), a pool of workers digests and compresses them, one ordered writer cuts
//! parts. An archive is one object; it rolls over to the next when the store's part limit or the index bound is near.
//! The index of an archive is an object beside it and the archive's last entry. The bytes stand in `docs/format.md`.

mod assembler;
pub mod entry;
mod entry_stream;
mod frames;
pub(crate) mod header;
pub mod index;
mod index_check;
mod index_format;
mod index_reader;
mod inflate;
pub mod log;
mod outcome;
pub mod pipeline;
pub mod reader;
pub mod sealing;
mod sequential;
mod stored_source;
pub mod writer;

pub use entry::{EntryKind, EntryMeta};
pub use entry_stream::EntryStream;
pub use index::{ChunkFacts, ChunkRef, EntryRef, StreamRecord};
pub(crate) use index_format::is_sha256;
pub use outcome::SourceOutcome;
pub use pipeline::{Compression, Pipeline};
pub use reader::{ArchiveReader, ChunkStream, DataSlice, EntryEvent, Selection};
pub use sealing::Sealing;
pub use stored_source::StoredSource;
pub use writer::{AbortHandle, ArchiveOptions, ArchiveWriter, ChunkBuffer, SequentialWriter};

use crate::storage::upload::StoredObject;

/// One finished archive with its index, as the manifest names them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ArchiveInfo {
    /// The archive object.
    pub archive: StoredObject,
    /// The index object.
    pub index: StoredObject,
    /// Bytes of the index's first frame, its directory, and their SHA-256: enough to find one entry by ranged reads.
    pub directory_bytes: u64,
    /// SHA-256 of those bytes, lowercase hex.
    pub directory_sha256: String,
    /// Raw tar bytes before compression.
    pub raw_bytes: u64,
    /// Entries that begin in this archive.
    pub entries: u64,
    /// Frames in this archive.
    pub frames: u64,
    /// How frames are compressed.
    pub compression: Compression,
    /// SHA-256 over what the entries are (names, kinds, sizes, modes, owners, digests of their data), without their times:
    /// two archives with the same one hold the same content. Archives of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_sha256: Option<String>,
}
