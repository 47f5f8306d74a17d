//! Writes the archives of one source.

use crate::archive::{ArchiveInfo, ChunkFacts, Compression, EntryMeta, Pipeline, StreamRecord};
use crate::error::Result;
use crate::memory::Buffer;
use crate::storage::upload::UploadOptions;
use crate::storage::{ObjectKey, SharedStore};

/// Options of an [`ArchiveWriter`].
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    /// Objects are `<prefix>/0000.tar.zst`, `<prefix>/0000.index.zst`, and so on.
    pub prefix: ObjectKey,
    /// How frames are compressed.
    pub compression: Compression,
    /// How parts are cut and sent.
    pub upload: UploadOptions,
    /// Roll over when the compressed index reaches this, in bytes.
    pub max_index_bytes: usize,
    /// Text of the archive's first entry, `README.txt`: how to restore by hand.
    pub readme: String,
}

/// A chunk being filled: a pooled buffer with room before the data for its tar header.
#[derive(Debug)]
pub struct ChunkBuffer {
    pub(crate) buffer: Buffer,
    pub(crate) chunk_bytes: usize,
}

impl ChunkBuffer {
    /// Returns how many data bytes still fit.
    pub fn room(&self) -> usize {
        todo!()
    }
    /// Returns the data so far.
    pub fn data(&self) -> &[u8] {
        todo!()
    }
    /// Appends data; the caller has checked [`ChunkBuffer::room`].
    pub fn extend(&mut self, _bytes: &[u8]) {
        todo!()
    }
    /// Cuts the data to `len` bytes (to move a partial last row into the next chunk).
    pub fn truncate(&mut self, _len: usize) {
        todo!()
    }
}

/// Writes streams of unknown length as chunk members; shared by several tasks of one source (cheap to clone).
#[derive(Debug, Clone)]
pub struct ArchiveWriter {}

impl ArchiveWriter {
    /// Opens the first archive of a source.
    pub async fn create(_store: SharedStore, _pipeline: &Pipeline, _options: ArchiveOptions) -> Result<Self> {
        todo!()
    }

    /// Waits for a buffer to fill. The caller must hold no other one.
    pub async fn chunk_buffer(&self) -> Result<ChunkBuffer> {
        todo!()
    }

    /// Hands over chunk `number` of the members under `prefix`: member `<prefix>/<8 digits>`. Its place in the archive
    /// is taken now, so this waits only for the queue, never for the budget.
    pub async fn submit_chunk(
        &self,
        _prefix: &str,
        _number: u32,
        _chunk: ChunkBuffer,
        _facts: ChunkFacts,
    ) -> Result<()> {
        todo!()
    }

    /// Hands over a whole small entry (at most one chunk), e.g. `restore.sql`.
    pub async fn submit_entry(&self, _meta: EntryMeta, _data: ChunkBuffer) -> Result<()> {
        todo!()
    }

    /// Declares a stream complete; only now it exists for readers.
    pub async fn finish_stream(&self, _record: StreamRecord) -> Result<()> {
        todo!()
    }

    /// Writes indexes, completes the objects, and returns them in order. Every clone must be gone.
    pub async fn finish(self) -> Result<Vec<ArchiveInfo>> {
        todo!()
    }

    /// Gives everything up; open uploads are aborted.
    pub async fn abort(self) -> Result<()> {
        todo!()
    }

    /// Turns this writer into one for entries of known length, written one after another from a blocking thread.
    pub fn into_sequential(self) -> SequentialWriter {
        todo!()
    }
}

/// Writes entries of known length one after another; an entry may span any number of frames, small ones share one.
///
/// The calls block and must come from a blocking thread of the runtime. It holds at most one buffer, and hands that
/// over before it waits for the next one.
#[derive(Debug)]
pub struct SequentialWriter {}

impl SequentialWriter {
    /// Writes the header of the next entry.
    pub fn begin_entry(&mut self, _meta: &EntryMeta) -> Result<()> {
        todo!()
    }

    /// Returns a writable slice of the current frame (never empty while the entry has bytes left): read straight into
    /// it, then call [`SequentialWriter::advance`]. It is never longer than what the entry still needs.
    pub fn space(&mut self) -> Result<&mut [u8]> {
        todo!()
    }

    /// Counts `len` bytes of the last [`SequentialWriter::space`] as data.
    pub fn advance(&mut self, _len: usize) -> Result<()> {
        todo!()
    }

    /// Copies data in.
    pub fn write(&mut self, _data: &[u8]) -> Result<()> {
        todo!()
    }

    /// Ends the entry. Missing bytes are padded with zeros; `changed` marks an entry whose source changed meanwhile.
    pub fn finish_entry(&mut self, _changed: bool) -> Result<()> {
        todo!()
    }

    /// Writes a stream record (e.g. a source's facts) into the index.
    pub fn finish_stream(&mut self, _record: StreamRecord) -> Result<()> {
        todo!()
    }

    /// Writes indexes, completes the objects, and returns them in order.
    pub async fn finish(self) -> Result<Vec<ArchiveInfo>> {
        todo!()
    }

    /// Gives everything up.
    pub async fn abort(self) -> Result<()> {
        todo!()
    }
}
