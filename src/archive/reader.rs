//! Reads archives by ranges: every frame's digest is checked before a byte of it is handed on.

use crate::archive::{ArchiveInfo, ChunkRef, EntryMeta, EntryRef, Pipeline, StreamRecord};
use crate::error::Result;
use crate::memory::Buffer;
use crate::storage::SharedStore;

/// Reads the archives of one source (cheap to clone).
#[derive(Debug, Clone)]
pub struct ArchiveReader {}

/// What [`EntryStream::next`] yields.
#[derive(Debug)]
pub enum EntryEvent {
    /// An entry begins.
    Begin(EntryMeta),
    /// Bytes `range` of `buffer` are the next data of the entry; its frame's digest was checked.
    Data(DataSlice),
    /// The entry ended and its SHA-256 was checked; `changed` as written.
    End {
        /// Whether the source changed while the entry was read.
        changed: bool,
    },
}

/// A piece of a decoded frame; the frame returns to the pool with its last slice.
#[derive(Debug, Clone)]
pub struct DataSlice {
    pub(crate) frame: std::sync::Arc<Buffer>,
    pub(crate) range: std::ops::Range<usize>,
}

impl std::ops::Deref for DataSlice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.frame.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

/// Which entries to read.
#[derive(Debug, Clone)]
pub enum Selection {
    /// Every entry that counts, in archive order.
    All,
    /// Entries whose path satisfies the predicate's globs is decided by the caller: these entries, in this order.
    Entries(Vec<EntryRef>),
}

impl ArchiveReader {
    /// Checks that each archive and index is there with its size, that every index has its digest and parses.
    /// Nothing of the archives themselves is read yet.
    pub async fn open(_store: SharedStore, _pipeline: &Pipeline, _archives: Vec<ArchiveInfo>) -> Result<Self> {
        todo!()
    }

    /// Like `open`, but reads only the directories of the indexes: for one entry out of many.
    pub async fn open_lazily(_store: SharedStore, _pipeline: &Pipeline, _archives: Vec<ArchiveInfo>) -> Result<Self> {
        todo!()
    }

    /// Returns every completed stream.
    pub async fn streams(&self) -> Result<Vec<StreamRecord>> {
        todo!()
    }

    /// Calls `visit` with every chunk of every completed stream, in archive order: prefix and place.
    pub async fn for_each_chunk(&self, _visit: &mut (dyn FnMut(&str, ChunkRef) -> Result<()> + Send)) -> Result<()> {
        todo!()
    }

    /// Calls `visit` with every entry in archive order (no frame of the archive is read).
    pub async fn for_each_entry(&self, _visit: &mut (dyn FnMut(EntryRef) -> Result<()> + Send)) -> Result<()> {
        todo!()
    }

    /// Finds one entry by path; by binary search where names are sorted (file trees).
    pub async fn find(&self, _path: &[u8]) -> Result<Option<EntryRef>> {
        todo!()
    }

    /// Reads entries with read-ahead; frames are fetched and decoded in parallel and handed on in order.
    pub fn entries(&self, _selection: Selection) -> EntryStream {
        todo!()
    }

    /// Reads chunks with read-ahead, in the order given.
    pub fn chunks(&self, _chunks: Vec<ChunkRef>) -> ChunkStream {
        todo!()
    }

    /// Returns the bytes fetched from the store so far.
    pub fn fetched_bytes(&self) -> u64 {
        todo!()
    }
}

/// Entries with their data, in order.
#[derive(Debug)]
pub struct EntryStream {}

impl EntryStream {
    /// Returns the next event; `None` after the last entry. After an error nothing more comes.
    pub async fn next(&mut self) -> Result<Option<EntryEvent>> {
        todo!()
    }
}

/// Data of chunk members, in order.
#[derive(Debug)]
pub struct ChunkStream {}

impl ChunkStream {
    /// Returns the next chunk's reference and data; its digest was checked.
    pub async fn next(&mut self) -> Result<Option<(ChunkRef, DataSlice)>> {
        todo!()
    }
}
