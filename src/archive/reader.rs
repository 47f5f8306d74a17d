//! Reads archives by ranges: every frame's digest is checked before a byte of it is handed on.
//!
//! Opening compares the directory of each index (and, unless lazily, the whole index) with the digests of the manifest,
//! and looks whether every object is there with its size. From then on only index parts and frames that are needed are
//! read, each compared with its digest first. Memory: the directories, one index part per stream, and the stream's share
//! of fetch batches and buffers (see [`crate::archive::frames`]).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::archive::entry_stream::{self, EntryStream};
use crate::archive::frames::{FrameData, FrameQueue, FrameRequest, FrameStream};
use crate::archive::index_check::Tally;
use crate::archive::index_format::{EntryLine, Line};
use crate::archive::index_reader::{self, Archives, Cursor, FrameLines};
use crate::archive::{ArchiveInfo, ChunkRef, EntryMeta, EntryRef, Pipeline, StreamRecord};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::storage::{Readiness, SharedStore, archived};

/// Reads the archives of one source (cheap to clone).
#[derive(Debug, Clone)]
pub struct ArchiveReader {
    shared: Arc<Archives>,
    pipeline: Pipeline,
    share: usize,
}

/// What [`EntryStream::next`] yields.
#[derive(Debug)]
pub enum EntryEvent {
    /// An entry begins.
    Begin(EntryMeta),
    /// The next data of the entry; the digest of its frame was checked. Drop it before asking for much more: it holds
    /// a buffer of the stream's share.
    Data(DataSlice),
    /// The entry ended and its SHA-256 was checked.
    End {
        /// Whether the source changed while the entry was read.
        changed: bool,
    },
}

/// A piece of a decoded frame; the frame returns to the pool with its last slice.
#[derive(Debug, Clone)]
pub struct DataSlice {
    frame: Arc<FrameData>,
    range: std::ops::Range<usize>,
}

impl DataSlice {
    pub(crate) fn new(frame: Arc<FrameData>, range: std::ops::Range<usize>) -> Self {
        Self { frame, range }
    }
}

impl std::ops::Deref for DataSlice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.frame.buffer.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

impl AsRef<[u8]> for DataSlice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Which entries to read.
#[derive(Debug, Clone)]
pub enum Selection {
    /// Every entry but the archive's own, in archive order.
    All,
    /// These entries, in archive order whatever the order given.
    Entries(Vec<EntryRef>),
}

impl ArchiveReader {
    /// Checks that each archive and index is there with its size and that every index has its digest. Nothing of the
    /// archives themselves is read yet.
    pub async fn open(store: SharedStore, pipeline: &Pipeline, archives: Vec<ArchiveInfo>) -> Result<Self> {
        for object in archives.iter().flat_map(|info| [&info.archive, &info.index]) {
            let meta = store
                .head(&object.key)
                .await
                .map_err(|error| missing(error, object.key.as_str()))?;
            if meta.size_bytes != object.size_bytes {
                let message = format!(
                    "object \"{}\" has {} bytes instead of {}",
                    object.key, meta.size_bytes, object.size_bytes
                );
                return Err(Error::corrupt(message));
            }
            if let Readiness::Cold { class } | Readiness::Thawing { class } = &meta.readiness {
                return Err(archived(object.key.as_str(), class));
            }
        }
        Self::with_indexes(store, pipeline, archives, true).await
    }

    /// Like `open`, but reads only the directories of the indexes: for one entry out of many.
    pub async fn open_lazily(store: SharedStore, pipeline: &Pipeline, archives: Vec<ArchiveInfo>) -> Result<Self> {
        Self::with_indexes(store, pipeline, archives, false).await
    }

    async fn with_indexes(
        store: SharedStore,
        pipeline: &Pipeline,
        archives: Vec<ArchiveInfo>,
        whole: bool,
    ) -> Result<Self> {
        // Parsed, they take about what they weigh; a restore keeps them, and has other things to keep.
        let stream_limit = pipeline.plan.limit_bytes / 2;
        let shared = Arc::new(index_reader::open_all(store, archives, whole, stream_limit).await?);
        Ok(Self {
            shared,
            pipeline: pipeline.clone(),
            share: 2,
        })
    }

    /// Returns a reader for use where `streams` streams are open at once; without it, two may be.
    #[must_use]
    pub fn share(&self, streams: usize) -> Self {
        Self {
            share: streams.max(1),
            ..self.clone()
        }
    }

    fn archive_numbers(&self) -> impl Iterator<Item = u32> + use<> {
        (0..).take(self.shared.list.len())
    }

    /// Returns every completed stream.
    pub async fn streams(&self) -> Result<Vec<StreamRecord>> {
        let mut cursor = Cursor::new(Arc::clone(&self.shared));
        let mut found: Vec<StreamRecord> = Vec::new();
        let (mut weight, mut names, mut prefixes) = (0_u64, HashSet::new(), HashSet::new());
        for archive in self.archive_numbers() {
            for part in 0..cursor.parts(archive)? {
                for record in cursor.part(archive, part).await?.1 {
                    weight = weight.saturating_add(record.weight_bytes());
                    if weight > self.shared.stream_limit {
                        let message = format!("the records of the streams take more than {weight} bytes");
                        return Err(Error::new(ErrorKind::LimitExceeded, message).with_hint("Raise --memory-limit."));
                    }
                    // Two of one name would be loaded twice. Text alone, which says nothing of itself, is written again when its
                    // backup begins again, under another prefix: the last one counts.
                    let again = !record.facts.is_null() && !names.insert(record.stream.clone());
                    let twice = again || !record.prefixes.iter().all(|prefix| prefixes.insert(prefix.clone()));
                    if twice {
                        return Err(Error::corrupt(format!(
                            "the index names stream \"{}\" twice",
                            record.stream
                        )));
                    }
                    found.push(record.clone());
                }
            }
        }
        Ok(found)
    }

    /// Calls `visit` with every chunk of every completed stream, in archive order: prefix and place.
    pub async fn for_each_chunk(&self, visit: &mut (dyn FnMut(&str, ChunkRef) -> Result<()> + Send)) -> Result<()> {
        let complete: HashSet<String> = self
            .streams()
            .await?
            .into_iter()
            .flat_map(|stream| stream.prefixes)
            .collect();
        self.for_each_line(&mut |archive, frame, line| {
            let Some((prefix, number, facts)) = line.chunk_name() else {
                return Ok(());
            };
            if !complete.contains(prefix) {
                return Ok(());
            }
            visit(
                prefix,
                ChunkRef {
                    archive,
                    frame,
                    number,
                    size_bytes: line.size,
                    facts,
                },
            )
        })
        .await
    }

    /// Calls `visit` with every entry in archive order (no frame of the archive is read).
    pub async fn for_each_entry(&self, visit: &mut (dyn FnMut(EntryRef) -> Result<()> + Send)) -> Result<()> {
        self.for_each_line(&mut |archive, frame, line| {
            if line.own {
                Ok(())
            } else {
                visit(entry_ref(archive, frame, line)?)
            }
        })
        .await
    }

    async fn for_each_line(&self, visit: &mut (dyn FnMut(u32, u32, &EntryLine) -> Result<()> + Send)) -> Result<()> {
        let mut cursor = Cursor::new(Arc::clone(&self.shared));
        for archive in self.archive_numbers() {
            let mut tally = Tally::default();
            for part in 0..cursor.parts(archive)? {
                for frame in cursor.part(archive, part).await?.0 {
                    tally.add(frame);
                    for line in &frame.lines {
                        if let Line::Entry(line) = line {
                            visit(archive, frame.frame.frame, line)?;
                        }
                    }
                }
            }
            tally.compare(cursor.directory(archive).await?.as_ref())?;
        }
        Ok(())
    }

    /// Finds one entry by path: by binary search where names are sorted (file trees), else by walking the index.
    pub async fn find(&self, path: &[u8]) -> Result<Option<EntryRef>> {
        let mut cursor = Cursor::new(Arc::clone(&self.shared));
        for archive in self.archive_numbers() {
            let directory = cursor.directory(archive).await?;
            let mut candidates = 0..directory.parts.len();
            if directory.sorted {
                // The last part whose first name is not greater; parts in which no entry begins have none.
                let mut last = None;
                for (number, part) in directory.parts.iter().enumerate() {
                    match &part.first {
                        Some(first) if first.bytes()?.as_slice() > path => break,
                        Some(_) => last = Some(number),
                        None => {}
                    }
                }
                candidates = last.map_or(0..0, |last| last..last + 1);
            }
            for part in candidates {
                for frame in cursor.part(archive, part).await?.0 {
                    for line in &frame.lines {
                        if let Line::Entry(line) = line
                            && !line.own
                            && line.name.bytes()? == path
                        {
                            return entry_ref(archive, frame.frame.frame, line).map(Some);
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// Reads the bytes of one entry, at most so many. Returns nothing if there is none of this path. Must be called within
    /// the runtime.
    pub async fn read(&self, path: &[u8], most_bytes: usize) -> Result<Option<Vec<u8>>> {
        let Some(entry) = self.find(path).await? else {
            return Ok(None);
        };
        let mut stream = self.entries(Selection::Entries(vec![entry]));
        let mut bytes = Vec::new();
        while let Some(event) = stream.next().await? {
            if let EntryEvent::Data(data) = event {
                if bytes.len().saturating_add(data.len()) > most_bytes {
                    let path = String::from_utf8_lossy(path);
                    return Err(Error::new(ErrorKind::LimitExceeded, format!("\"{path}\" is too long")));
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(Some(bytes))
    }

    /// Reads entries with read-ahead; frames are fetched and decoded in parallel and handed on in order. Must be called
    /// within the runtime.
    pub fn entries(&self, selection: Selection) -> EntryStream {
        let cursor = Cursor::new(Arc::clone(&self.shared));
        let frames = match selection {
            Selection::All => self.frames(true, |planned| plan_all(cursor, planned)),
            Selection::Entries(mut wanted) => {
                wanted.sort_by_key(|entry| (entry.archive, entry.frame, entry.offset));
                wanted.dedup_by_key(|entry| (entry.archive, entry.frame, entry.offset));
                self.frames(true, |planned| plan_entries(cursor, planned, wanted))
            }
        };
        EntryStream::new(frames)
    }

    /// Reads chunks with read-ahead, in the order given. Must be called within the runtime.
    pub fn chunks(&self, chunks: Vec<ChunkRef>) -> ChunkStream {
        let cursor = Cursor::new(Arc::clone(&self.shared));
        let frames = self.frames(true, {
            let chunks = chunks.clone();
            |planned| plan_chunks(cursor, planned, chunks)
        });
        ChunkStream {
            frames,
            chunks: chunks.into_iter(),
        }
    }

    /// Compares the stored bytes of chunks with their digests; nothing is decompressed. Calls `each` with the raw bytes of
    /// each one that is right. Must be called within the runtime.
    pub async fn check_chunks(
        &self,
        chunks: Vec<ChunkRef>,
        each: &mut (dyn FnMut(u64) -> Result<()> + Send),
    ) -> Result<()> {
        let cursor = Cursor::new(Arc::clone(&self.shared));
        let mut frames = self.frames(false, |planned| plan_chunks(cursor, planned, chunks));
        while let Some(frame) = frames.next().await? {
            each(frame.about.frame.raw.into())?;
        }
        Ok(())
    }

    fn frames<P, F>(&self, inflate: bool, plan: P) -> FrameStream
    where
        P: FnOnce(FrameQueue) -> F + Send + 'static,
        F: Future<Output = (FrameQueue, Result<()>)> + Send + 'static,
    {
        FrameStream::start(Arc::clone(&self.shared), &self.pipeline, self.share, inflate, plan)
    }

    /// Returns the memory limit of the process, in bytes: what is read of a backup must fit.
    pub fn memory_limit(&self) -> u64 {
        self.pipeline.plan.limit_bytes
    }

    /// Returns the bytes fetched from the store so far.
    pub fn fetched_bytes(&self) -> u64 {
        self.shared.fetched.load(Ordering::Relaxed)
    }
}

/// A missing object of a snapshot is damage, not just an absence.
pub(crate) fn missing(error: Error, key: &str) -> Error {
    if error.kind() == crate::ErrorKind::NotFound {
        return Error::corrupt(format!("object \"{key}\" of the snapshot is missing")).with_cause(error);
    }
    error
}

fn entry_ref(archive: u32, frame: u32, line: &EntryLine) -> Result<EntryRef> {
    let path = line.name.bytes()?;
    Ok(EntryRef {
        path,
        archive,
        frame,
        offset: line.offset,
        size_bytes: line.size,
        mtime: line.mtime,
        kind: line.kind,
    })
}

async fn plan_all(mut cursor: Cursor, mut planned: FrameQueue) -> (FrameQueue, Result<()>) {
    let result = async {
        let mut archive = 0;
        while let Ok(parts) = cursor.parts(archive) {
            let mut tally = Tally::default();
            for part in 0..parts {
                let frames = cursor.part(archive, part).await?.0.to_vec();
                for about in frames {
                    tally.add(&about);
                    if !planned.push(FrameRequest { archive, about }).await {
                        return Ok(());
                    }
                }
            }
            tally.compare(cursor.directory(archive).await?.as_ref())?;
            archive += 1;
        }
        Ok(())
    };
    let result = result.await;
    (planned, result)
}

/// Plans the frames of some entries: the frame each begins in, and those it spans.
async fn plan_entries(mut cursor: Cursor, mut planned: FrameQueue, entries: Vec<EntryRef>) -> (FrameQueue, Result<()>) {
    let result = async {
        let mut entries = entries.into_iter().peekable();
        let mut spanning: Option<(u32, u32)> = None;
        while let Some(place) = spanning.or_else(|| entries.peek().map(|entry| (entry.archive, entry.frame))) {
            let (archive, frame) = place;
            let mut about = cursor.frame(archive, frame).await?;
            let was_spanning = spanning.take().is_some();
            let mut wanted = HashSet::new();
            while let Some(entry) = entries.next_if(|entry| (entry.archive, entry.frame) == place) {
                wanted.insert(entry.offset);
            }
            let last_spans = spans_on(&about, was_spanning, &wanted);
            about.lines.retain(|line| match line {
                Line::Entry(line) => wanted.contains(&line.offset),
                Line::End(_) => was_spanning,
                _ => false,
            });
            if last_spans {
                spanning = frame.checked_add(1).map(|next| (archive, next));
            }
            if !planned.push(FrameRequest { archive, about }).await {
                return Ok(());
            }
        }
        Ok(())
    };
    let result = result.await;
    (planned, result)
}

/// Returns whether a wanted entry goes on after this frame.
fn spans_on(about: &FrameLines, was_spanning: bool, wanted: &HashSet<u32>) -> bool {
    let ends = about.lines.iter().any(|line| matches!(line, Line::End(_)));
    let begins = about
        .lines
        .iter()
        .any(|line| matches!(line, Line::Entry(line) if line.spans() && wanted.contains(&line.offset)));
    begins || (was_spanning && !ends)
}

async fn plan_chunks(mut cursor: Cursor, mut planned: FrameQueue, chunks: Vec<ChunkRef>) -> (FrameQueue, Result<()>) {
    let result = async {
        for chunk in chunks {
            let about = cursor.frame(chunk.archive, chunk.frame).await?;
            if !planned
                .push(FrameRequest {
                    archive: chunk.archive,
                    about,
                })
                .await
            {
                return Ok(());
            }
        }
        Ok(())
    };
    let result = result.await;
    (planned, result)
}

/// Data of chunk members, in order.
#[derive(Debug)]
pub struct ChunkStream {
    frames: FrameStream,
    chunks: std::vec::IntoIter<ChunkRef>,
}

impl ChunkStream {
    /// Returns the next chunk's reference and data; its digest was checked.
    pub async fn next(&mut self) -> Result<Option<(ChunkRef, DataSlice)>> {
        let Some(frame) = self.frames.next().await? else {
            return Ok(None);
        };
        let chunk = self
            .chunks
            .next()
            .ok_or_else(|| Error::corrupt("more frames than chunks"))?;
        let act = || format!("read chunk in frame {} of archive {}", chunk.frame, chunk.archive);
        let line = frame.about.lines.iter().find_map(|line| match line {
            Line::Entry(line) if line.chunk_name().is_some_and(|(_, number, _)| number == chunk.number) => Some(line),
            _ => None,
        });
        let line = line
            .ok_or_else(|| Error::corrupt("the index names no such chunk"))
            .with_context(act)?;
        let path = line
            .name
            .bytes()
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
        let data = entry_stream::chunk_of(&frame, &path, chunk.size_bytes).with_context(act)?;
        Ok(Some((chunk, data)))
    }
}
