//! The ordered writer of one source: takes compressed frames in sequence, cuts archives, writes indexes.
//!
//! It is one task. After a failure it ends; frames sent to it then are dropped where they are sent, so their buffers
//! return to the pool and nobody waits in vain. The failure surfaces at a producer's next call and at `finish`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::archive::index_format::{Directory, EndLine, EntryLine, FrameLine, IndexPart, Line, Name};
use crate::archive::pipeline::compress_small;
use crate::archive::writer::ArchiveOptions;
use crate::archive::{ArchiveInfo, Compression, EntryMeta, Sealing, StreamRecord, header};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::memory::Buffer;
use crate::storage::upload::ObjectWriter;
use crate::storage::{ObjectKey, SharedStore};

/// Raw bytes after which an index frame is cut.
const INDEX_PART_BYTES: usize = 256 << 10;
/// Raw bytes of one frame of the index entry at the archive's end.
const TAIL_FRAME_BYTES: usize = 512 << 10;
/// Room kept for end blocks, headers and the index directory.
const SLACK_BYTES: u64 = 64 << 10;

/// A compressed frame.
pub(crate) struct Frame {
    pub(crate) buffer: Buffer,
    pub(crate) raw: u32,
    pub(crate) sha256: String,
    pub(crate) entries: Vec<EntryLine>,
    pub(crate) end: Option<EndLine>,
    /// Whether it begins where an entry begins.
    pub(crate) at_boundary: bool,
    /// Raw bytes that the last entry still needs in later frames.
    pub(crate) remaining: u64,
}

/// What the producers send.
pub(crate) enum Item {
    Frame(Box<Frame>),
    Stream(StreamRecord),
    Failed(Error),
}

/// Messages to the task.
pub(crate) enum Message {
    Item(u64, Item),
    Finish(u64, oneshot::Sender<Result<Vec<ArchiveInfo>>>),
}

/// Kind, message and hint of the first failure, for every producer.
pub(crate) type Failure = Arc<Mutex<Option<(ErrorKind, String, Option<String>)>>>;

/// Runs until everything is finished, given up, or no producer is left. A failed task is gone: what is sent to it then
/// is dropped where it is sent.
pub(crate) async fn run(
    mut writer: OrderedWriter,
    messages: mpsc::UnboundedReceiver<Message>,
    cancel: CancellationToken,
    failure: Failure,
) {
    let mut finish = None;
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(cancelled()),
        result = work(&mut writer, messages, &mut finish) => result,
    };
    if let Err(error) = &result {
        set(&failure, error);
        writer.give_up().await;
    }
    if let Some(reply) = finish {
        let _ = reply.send(result.map(|()| std::mem::take(&mut writer.done)));
    }
}

async fn work(
    writer: &mut OrderedWriter,
    mut messages: mpsc::UnboundedReceiver<Message>,
    finish: &mut Option<oneshot::Sender<Result<Vec<ArchiveInfo>>>>,
) -> Result<()> {
    let mut total = None;
    while total != Some(writer.next) {
        match messages.recv().await {
            None => return Err(cancelled()),
            Some(Message::Item(sequence, item)) => writer.take(sequence, item).await?,
            Some(Message::Finish(last, reply)) => (total, *finish) = (Some(last), Some(reply)),
        }
    }
    writer.close_all().await
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "writing the archive was given up")
}

fn set(failure: &Failure, error: &Error) {
    let mut failure = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    failure.get_or_insert_with(|| (error.kind(), error.chain(), error.hint().map(str::to_owned)));
}

/// The state of the task.
pub(crate) struct OrderedWriter {
    store: SharedStore,
    options: ArchiveOptions,
    mtime: i64,
    limit_bytes: u64,
    next: u64,
    waiting: BTreeMap<u64, Item>,
    current: Option<Archive>,
    done: Vec<ArchiveInfo>,
}

/// The archive being written.
struct Archive {
    object: ObjectWriter,
    sealing: Sealing,
    raw_bytes: u64,
    entries: u64,
    frames: u32,
    index: IndexBuilder,
    /// Whether it has a frame of the source.
    used: bool,
}

#[derive(Default)]
struct IndexBuilder {
    stored: Vec<u8>,
    parts: Vec<IndexPart>,
    lines: Vec<u8>,
    /// First frame and first name of the lines.
    frame: Option<u32>,
    first: Option<Name>,
    last: Option<Vec<u8>>,
    unsorted: bool,
    /// Over what the entries are, without their times.
    content: Sha256,
}

impl IndexBuilder {
    fn push(&mut self, frame: u32, line: &Line) -> Result<()> {
        self.frame.get_or_insert(frame);
        if let Line::Entry(entry) = line
            && !entry.own
        {
            self.first.get_or_insert_with(|| entry.name.clone());
            let name = entry.name.bytes()?;
            self.unsorted |= self.last.as_ref().is_some_and(|last| *last >= name);
            self.last = Some(name);
            self.content.update(content(entry)?);
        }
        if let Line::End(end) = line {
            self.content.update(json(end)?);
        }
        serde_json::to_writer(&mut self.lines, line)
            .map_err(|e| Error::new(ErrorKind::Other, "write index line").with_cause(e))?;
        self.lines.push(b'\n');
        Ok(())
    }

    /// Upper bound of the compressed index if it ended now.
    fn bound_bytes(&self) -> u64 {
        let names: usize = self
            .parts
            .iter()
            .map(|p| 300 + p.first.as_ref().map_or(0, |n| 2 * name_bytes(n)))
            .sum();
        let bytes = self.stored.len() + self.lines.len() + self.lines.len() / 128 + names;
        exact::u64_from(bytes)
    }

    async fn cut(&mut self) -> Result<()> {
        let Some(frame) = self.frame.take() else { return Ok(()) };
        let lines = std::mem::take(&mut self.lines);
        let raw = exact::u64_from(lines.len());
        let stored = compress(lines, Compression::Zstd(3)).await?;
        self.parts.push(IndexPart {
            offset: exact::u64_from(self.stored.len()),
            length: exact::u64_from(stored.len()),
            raw,
            sha256: hex::encode(Sha256::digest(&stored)),
            frame,
            first: self.first.take(),
        });
        self.stored.extend_from_slice(&stored);
        Ok(())
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(ErrorKind::Other, "write index line").with_cause(e))
}

/// What an entry is. Its place in the archive is not part of that, nor is the time of a file or directory; a link, whose
/// target stands in the archive alone, goes by its time.
fn content(entry: &EntryLine) -> Result<Vec<u8>> {
    let mut entry = entry.clone();
    entry.offset = 0;
    if matches!(
        entry.kind,
        crate::archive::EntryKind::File | crate::archive::EntryKind::Directory
    ) {
        entry.mtime = (0, 0);
    }
    json(&entry)
}

fn name_bytes(name: &Name) -> usize {
    match name {
        Name::Text(text) | Name::Hex(text) => text.len(),
    }
}

async fn compress(raw: Vec<u8>, compression: Compression) -> Result<Vec<u8>> {
    tokio::task::spawn_blocking(move || compress_small(&raw, compression))
        .await
        .map_err(|e| Error::new(ErrorKind::Other, "compress on a blocking thread").with_cause(e))?
}

impl OrderedWriter {
    pub(crate) fn new(store: SharedStore, options: ArchiveOptions, mtime: i64) -> Self {
        let parts = store.capabilities().max_parts;
        let part_bytes = exact::u64_from(options.upload.part_bytes);
        let limit_bytes = parts.map_or(u64::MAX, |parts| u64::from(parts).saturating_mul(part_bytes));
        let (waiting, done) = (BTreeMap::new(), Vec::new());
        Self {
            store,
            options,
            mtime,
            limit_bytes,
            next: 0,
            waiting,
            current: None,
            done,
        }
    }

    async fn take(&mut self, sequence: u64, item: Item) -> Result<()> {
        self.waiting.insert(sequence, item);
        while let Some(item) = self.waiting.remove(&self.next) {
            match item {
                Item::Failed(error) => return Err(error),
                Item::Stream(record) => {
                    let archive = self.archive().await?;
                    archive.index.push(archive.frames, &Line::Stream(record))?;
                    // Very many empty streams make lines without a frame; a reader takes parts of bounded length only.
                    if archive.index.lines.len() >= INDEX_PART_BYTES {
                        archive.index.cut().await?;
                    }
                }
                Item::Frame(frame) => self.frame(*frame).await?,
            }
            self.next += 1;
        }
        Ok(())
    }

    async fn frame(&mut self, frame: Frame) -> Result<()> {
        if frame.at_boundary {
            let (limit_bytes, max_index_bytes) = (self.limit_bytes, self.options.max_index_bytes);
            let fits = self.archive().await?.fits(&frame, limit_bytes, max_index_bytes);
            if !fits && self.current.as_ref().is_some_and(|a| a.used) {
                self.close().await?;
            }
            if !self.archive().await?.fits(&frame, limit_bytes, usize::MAX) {
                let name = frame.entries.last().map(|e| e.name.clone());
                return Err(Error::new(
                    ErrorKind::LimitExceeded,
                    format!(
                        "entry {name:?} does not fit into one object of {} bytes",
                        self.limit_bytes
                    ),
                )
                .with_hint("Raise the part size: an object has a limited number of parts."));
            }
        }
        let archive = self.archive().await?;
        archive.used = true;
        archive
            .append(&frame.buffer.bytes, frame.raw, frame.sha256, &frame.entries, frame.end)
            .await
    }

    /// Returns the current archive; begins one with its README if there is none.
    async fn archive(&mut self) -> Result<&mut Archive> {
        if self.current.is_none() {
            let key = self.key(&format!("tar.{}", extension(self.options.compression)))?;
            let object = ObjectWriter::create(Arc::clone(&self.store), key, self.options.upload.clone());
            let mut archive = Archive {
                object,
                sealing: Sealing::None,
                raw_bytes: 0,
                entries: 0,
                frames: 0,
                index: IndexBuilder::default(),
                used: false,
            };
            let text = self.options.readme.as_bytes();
            let size = exact::u64_from(text.len());
            let meta = EntryMeta {
                mode: 0o644,
                ..EntryMeta::file("README.txt", size, (self.mtime, 0))
            };
            let mut raw = header::encode(&meta)?;
            raw.extend_from_slice(text);
            raw.resize(raw.len() + header::padding(size), 0);
            let mut line = entry_line(&meta, 0);
            line.own = true;
            line.sha256 = (size > 0).then(|| hex::encode(Sha256::digest(text)));
            let raw_len = u32::try_from(raw.len()).map_err(|_| Error::invalid("README is too long"))?;
            let stored = compress(raw, self.options.compression).await?;
            let sha256 = hex::encode(Sha256::digest(&stored));
            archive.append(&stored, raw_len, sha256, &[line], None).await?;
            self.current = Some(archive);
        }
        self.current
            .as_mut()
            .ok_or_else(|| Error::new(ErrorKind::Other, "no archive is open"))
    }

    fn key(&self, extension: &str) -> Result<ObjectKey> {
        ObjectKey::new(format!("{}/{:04}.{extension}", self.options.prefix, self.done.len()))
    }

    async fn close_all(&mut self) -> Result<()> {
        self.archive().await?;
        self.close().await
    }

    /// Ends the archive: index entry, end blocks; then the index object.
    async fn close(&mut self) -> Result<()> {
        let index_key = self.key("index.zst")?;
        let Some(archive) = self.current.as_mut() else {
            return Ok(());
        };
        archive.index.cut().await?;
        let directory = Directory {
            version: 1,
            raw_bytes: archive.raw_bytes,
            entries: archive.entries,
            frames: u64::from(archive.frames),
            described_bytes: archive.object.written_bytes(),
            sorted: !archive.index.unsorted,
            parts: std::mem::take(&mut archive.index.parts),
        };
        let json = serde_json::to_vec(&directory)
            .map_err(|e| Error::new(ErrorKind::Other, "write index directory").with_cause(e))?;
        let mut index = compress(json, Compression::Zstd(3)).await?;
        let directory_bytes = exact::u64_from(index.len());
        let directory_sha256 = hex::encode(Sha256::digest(&index));
        index.append(&mut archive.index.stored);
        let mut tail = Vec::new();
        let size = exact::u64_from(index.len());
        tail.extend_from_slice(&header::encode(&EntryMeta::file(
            "wirevault/index.zst",
            size,
            (self.mtime, 0),
        ))?);
        let compression = self.options.compression;
        let mut raw_bytes =
            archive.raw_bytes + size + exact::u64_from(tail.len() + header::padding(size) + 2 * header::BLOCK);
        for piece in index.chunks(TAIL_FRAME_BYTES) {
            tail.extend_from_slice(piece);
            archive
                .write(&compress(std::mem::take(&mut tail), compression).await?)
                .await?;
        }
        tail.resize(header::padding(size), 0);
        tail.resize(tail.len() + 2 * header::BLOCK, 0);
        archive.write(&compress(tail, compression).await?).await?;
        raw_bytes = raw_bytes.max(archive.raw_bytes);
        let mut options = self.options.upload.clone();
        options.parts_in_flight = 1;
        // The archive's own part buffers are gone before the index gets any.
        let Some(archive) = self.current.take() else {
            return Ok(());
        };
        let (entries, frames, sealing) = (archive.entries, u64::from(archive.frames), archive.sealing);
        let content = archive.index.content.finalize();
        let stored = archive.object.finish().await.context("finish archive")?;
        let mut object = ObjectWriter::create(Arc::clone(&self.store), index_key, options);
        if let Err(error) = sealing.write(&mut object, &index).await {
            let _ = object.abort().await;
            return Err(error.context("write index"));
        }
        let index = object.finish().await.context("finish index")?;
        self.done.push(ArchiveInfo {
            archive: stored,
            index,
            directory_bytes,
            directory_sha256,
            raw_bytes,
            entries,
            frames,
            compression,
            content_sha256: Some(hex::encode(content)),
        });
        Ok(())
    }

    async fn give_up(&mut self) {
        self.waiting.clear();
        if let Some(archive) = self.current.take() {
            // What cannot be aborted now is aborted by a sweep: the journal knows the upload.
            let _ = archive.object.abort().await;
        }
    }
}

impl Archive {
    /// Returns whether the frame, the rest of its last entry, the index and the end still fit.
    fn fits(&self, frame: &Frame, limit_bytes: u64, max_index_bytes: usize) -> bool {
        let worst = |raw: u64| raw.saturating_add(raw / 128).saturating_add(4096);
        let lines: usize = frame.entries.iter().map(|e| 320 + name_bytes(&e.name)).sum();
        let later_frames = frame.remaining / u64::from(frame.raw.max(1)) + 1;
        let index = self.index.bound_bytes() + exact::u64_from(lines);
        let index = index.saturating_add(later_frames.saturating_mul(200));
        let stored = exact::u64_from(frame.buffer.bytes.len());
        let rest = worst(frame.remaining).saturating_add(later_frames.saturating_mul(512));
        let total = self
            .object
            .written_bytes()
            .saturating_add(stored)
            .saturating_add(rest)
            .saturating_add(worst(index) + SLACK_BYTES);
        let now = self.index.stored.len() + self.index.lines.len() / 4;
        total <= limit_bytes && now < max_index_bytes
    }

    /// Writes plain bytes of the archive.
    async fn write(&mut self, plain: &[u8]) -> Result<()> {
        self.sealing.write(&mut self.object, plain).await
    }

    async fn append(
        &mut self,
        stored: &[u8],
        raw: u32,
        sha256: String,
        entries: &[EntryLine],
        end: Option<EndLine>,
    ) -> Result<()> {
        let number = self.frames;
        let length =
            u32::try_from(stored.len()).map_err(|_| Error::new(ErrorKind::LimitExceeded, "frame is too long"))?;
        let line = FrameLine {
            frame: number,
            offset: self.object.written_bytes(),
            length,
            raw,
            sha256,
        };
        self.write(stored)
            .await
            .with_context(|| format!("write frame {number}"))?;
        self.index.push(number, &Line::Frame(line))?;
        if let Some(end) = end {
            self.index.push(number, &Line::End(end))?;
        }
        for entry in entries {
            self.index.push(number, &Line::Entry(entry.clone()))?;
        }
        self.frames = number
            .checked_add(1)
            .ok_or_else(|| Error::new(ErrorKind::LimitExceeded, "archive has too many frames"))?;
        self.raw_bytes += u64::from(raw);
        self.entries += exact::u64_from(entries.len());
        if self.index.lines.len() >= INDEX_PART_BYTES {
            self.index.cut().await
        } else {
            Ok(())
        }
    }
}

/// The file extension of a compression.
pub(crate) fn extension(compression: Compression) -> &'static str {
    match compression {
        Compression::Zstd(_) => "zst",
        Compression::Gzip(_) => "gz",
    }
}

/// Makes the index line of an entry whose header begins at `offset` of its frame.
pub(crate) fn entry_line(meta: &EntryMeta, offset: u32) -> EntryLine {
    EntryLine {
        name: Name::new(&meta.path),
        kind: meta.kind,
        offset,
        size: meta.size_bytes,
        mtime: meta.mtime,
        mode: meta.mode & 0o7777,
        uid: meta.uid,
        gid: meta.gid,
        sha256: None,
        changed: false,
        chunk: None,
        own: false,
    }
}
