//! Writes the archives of one source.
//!
//! A chunk gets its place in the archive (a sequence number) when it is submitted, complete and holding its budget. No
//! stage after that waits for budget: workers swap buffers, and the ordered writer frees each one as it copies the
//! frame into a part. So whoever holds a buffer can always finish, with any number of producers.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::archive::assembler::{self, Failure, Frame, Item, Message, OrderedWriter, entry_line};
use crate::archive::index_format::{EndLine, EntryLine};
use crate::archive::{ArchiveInfo, ChunkFacts, Compression, EntryMeta, Pipeline, StreamRecord, header};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::memory::{Buffer, HEADROOM_BYTES, TAILROOM_BYTES};
use crate::storage::limit::Bucket;
use crate::storage::upload::UploadOptions;
use crate::storage::{ObjectKey, SharedStore};

pub use crate::archive::sequential::SequentialWriter;

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
        self.chunk_bytes.saturating_sub(self.data().len())
    }
    /// Returns the data so far.
    pub fn data(&self) -> &[u8] {
        exact::part(
            &self.buffer.bytes,
            HEADROOM_BYTES..,
            "a chunk lies behind the room for its header",
        )
    }
    /// Appends data; the caller has checked [`ChunkBuffer::room`]. What does not fit is a bug of the caller and is
    /// refused at submission.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.bytes.extend_from_slice(bytes);
    }
    /// Cuts the data to `len` bytes (to move a partial last row into the next chunk).
    pub fn truncate(&mut self, len: usize) {
        self.buffer.bytes.truncate(HEADROOM_BYTES.saturating_add(len));
    }
}

/// A raw frame on its way to a worker.
pub(crate) struct RawFrame {
    pub(crate) buffer: Buffer,
    /// Where the frame begins in the buffer.
    pub(crate) start: usize,
    pub(crate) entries: Vec<EntryLine>,
    /// Data of whole entries, by index into `entries`, as ranges of the buffer.
    pub(crate) digests: Vec<(usize, Range<usize>)>,
    pub(crate) end: Option<EndLine>,
    pub(crate) at_boundary: bool,
    pub(crate) remaining: u64,
}

/// Writes streams of unknown length as chunk members; shared by several tasks of one source (cheap to clone).
#[derive(Debug, Clone)]
pub struct ArchiveWriter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pipeline: Pipeline,
    compression: Compression,
    mtime: i64,
    next: Mutex<u64>,
    messages: mpsc::UnboundedSender<Message>,
    failure: Failure,
    abort: AbortHandle,
    rate: OnceLock<Bucket>,
}

/// Gives a writer up from outside, also when the writer itself was dropped.
#[derive(Debug, Clone)]
pub struct AbortHandle {
    cancel: CancellationToken,
    ended: CancellationToken,
}

impl AbortHandle {
    /// Aborts open uploads and waits until that is done. After `finish` it does nothing.
    pub async fn abort(&self) {
        self.cancel.cancel();
        self.ended.cancelled().await;
    }
}

/// Tells that the ordered writer is gone, however it ended.
struct Ended(CancellationToken);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl ArchiveWriter {
    /// Opens the first archive of a source.
    #[allow(clippy::unused_async, reason = "opening may come to ask the store")]
    pub async fn create(store: SharedStore, pipeline: &Pipeline, options: ArchiveOptions) -> Result<Self> {
        let valid = match options.compression {
            Compression::Zstd(level) => (1..=19).contains(&level),
            Compression::Gzip(level) => (1..=9).contains(&level),
        };
        if !valid {
            return Err(Error::invalid(format!(
                "compression level of {:?} is out of range",
                options.compression
            )));
        }
        let (messages, receiver) = mpsc::unbounded_channel();
        let failure = Failure::default();
        let abort = AbortHandle {
            cancel: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        let mtime = jiff::Timestamp::now().as_second();
        let compression = options.compression;
        let writer = OrderedWriter::new(store, options, mtime);
        let (cancel, ended, seen) = (abort.cancel.clone(), Ended(abort.ended.clone()), Arc::clone(&failure));
        tokio::spawn(async move {
            assembler::run(writer, receiver, cancel, seen).await;
            drop(ended);
        });
        let shared = Shared {
            pipeline: pipeline.clone(),
            compression,
            mtime,
            next: Mutex::new(0),
            messages,
            failure,
            abort,
            rate: OnceLock::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Bounds how fast the source is read, in bytes per second.
    pub fn limit_rate(&self, bytes_per_second: u64) {
        let _ = self.shared.rate.set(Bucket::new(bytes_per_second));
    }

    /// Returns how fast the source may be read, in bytes per second, if that is bounded.
    pub fn rate_limit(&self) -> Option<u64> {
        self.shared.rate.get().map(Bucket::rate)
    }

    /// Waits until what was read so far is paid for, then for a buffer.
    pub(crate) async fn buffer(&self) -> Buffer {
        if let Some(rate) = self.shared.rate.get() {
            rate.take(0).await;
        }
        self.shared.pipeline.pool.acquire().await
    }

    /// Waits for a buffer to fill. The caller must hold no other one.
    pub async fn chunk_buffer(&self) -> Result<ChunkBuffer> {
        self.check()?;
        let mut buffer = self.buffer().await;
        self.check()?;
        buffer.bytes.resize(HEADROOM_BYTES, 0);
        Ok(ChunkBuffer {
            buffer,
            chunk_bytes: self.shared.pipeline.plan.chunk_bytes,
        })
    }

    /// Hands over chunk `number` of the members under `prefix`: member `<prefix>/<8 digits>`. Its place in the archive
    /// is taken now, so this waits for nothing.
    #[allow(clippy::unused_async, reason = "the queue may come to have a bound")]
    pub async fn submit_chunk(&self, prefix: &str, number: u32, chunk: ChunkBuffer, facts: ChunkFacts) -> Result<()> {
        if !prefix.is_ascii() || prefix.len() > 90 || number > 99_999_999 {
            return Err(Error::invalid(format!(
                "chunk {number} of {prefix:?} cannot be named in a plain tar header"
            )));
        }
        let size = exact::u64_from(chunk.data().len());
        let meta = EntryMeta::file(format!("{prefix}/{number:08}"), size, (self.shared.mtime, 0));
        self.submit(&meta, chunk, Some((facts.starts_row, facts.rows, facts.part)))
    }

    /// Hands over a whole small entry (at most one chunk), e.g. `restore.sql`.
    #[allow(clippy::unused_async, reason = "the queue may come to have a bound")]
    pub async fn submit_entry(&self, meta: EntryMeta, data: ChunkBuffer) -> Result<()> {
        if u64::try_from(data.data().len()).ok() != Some(meta.size_bytes) {
            return Err(Error::invalid("entry has another length than its data"));
        }
        self.submit(&meta, data, None)
    }

    fn submit(&self, meta: &EntryMeta, chunk: ChunkBuffer, facts: Option<(bool, u64, u32)>) -> Result<()> {
        self.check()?;
        if chunk.data().len() > chunk.chunk_bytes {
            return Err(Error::invalid("chunk is longer than a chunk may be"));
        }
        let head = header::encode(meta)?;
        let mut buffer = chunk.buffer;
        let too_long = || Error::new(ErrorKind::LimitExceeded, "header of an entry is longer than its room");
        let start = HEADROOM_BYTES.checked_sub(head.len()).ok_or_else(too_long)?;
        buffer
            .bytes
            .get_mut(start..HEADROOM_BYTES)
            .ok_or_else(too_long)?
            .copy_from_slice(&head);
        let data = HEADROOM_BYTES..buffer.bytes.len();
        buffer.bytes.resize(data.end + header::padding(meta.size_bytes), 0);
        let mut line = entry_line(meta, 0);
        line.chunk = facts;
        let digests = if data.is_empty() { Vec::new() } else { vec![(0, data)] };
        self.submit_frame(RawFrame {
            buffer,
            start,
            entries: vec![line],
            digests,
            end: None,
            at_boundary: true,
            remaining: 0,
        });
        Ok(())
    }

    /// Gives the frame its place and queues it for a worker.
    pub(crate) fn submit_frame(&self, frame: RawFrame) {
        if let Some(rate) = self.shared.rate.get() {
            rate.charge(exact::u64_from(frame.buffer.bytes.len()));
        }
        let sequence = self.place();
        let (messages, compression) = (self.shared.messages.clone(), self.shared.compression);
        let mut reply = Reply(Some((sequence, messages)));
        self.shared.pipeline.run(move |worker| {
            let item = match compress(frame, worker, compression) {
                Ok(frame) => Item::Frame(Box::new(frame)),
                Err(error) => Item::Failed(error),
            };
            reply.send(item);
        });
    }

    fn place(&self) -> u64 {
        let mut next = self
            .shared
            .next
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let sequence = *next;
        *next += 1;
        sequence
    }

    /// Declares a stream complete; only now it exists for readers.
    #[allow(clippy::unused_async, reason = "the queue may come to have a bound")]
    pub async fn finish_stream(&self, record: StreamRecord) -> Result<()> {
        self.finish_stream_now(record)
    }

    pub(crate) fn finish_stream_now(&self, record: StreamRecord) -> Result<()> {
        self.check()?;
        let sequence = self.place();
        self.send(Message::Item(sequence, Item::Stream(record)))
    }

    fn send(&self, message: Message) -> Result<()> {
        self.shared.messages.send(message).map_err(|_| self.failed())
    }

    /// Surfaces a failure of the ordered writer.
    pub(crate) fn check(&self) -> Result<()> {
        let failed = self
            .shared
            .failure
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .is_some();
        if failed || self.shared.messages.is_closed() {
            Err(self.failed())
        } else {
            Ok(())
        }
    }

    fn failed(&self) -> Error {
        let failure = self
            .shared
            .failure
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (kind, message, hint) = failure
            .clone()
            .unwrap_or((ErrorKind::Cancelled, "archive is closed".into(), None));
        let error = Error::new(kind, message);
        if let Some(hint) = hint {
            error.with_hint(hint)
        } else {
            error
        }
    }

    /// Writes indexes, completes the objects, and returns them in order. Every clone must be gone, or idle for good.
    pub async fn finish(self) -> Result<Vec<ArchiveInfo>> {
        let (reply, result) = oneshot::channel();
        let total = *self
            .shared
            .next
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        self.send(Message::Finish(total, reply))?;
        match result.await {
            Ok(result) => result,
            Err(_) => Err(self.failed()),
        }
    }

    /// Gives everything up; open uploads are aborted.
    pub async fn abort(self) -> Result<()> {
        self.shared.abort.cancel.cancel();
        let ended = self.shared.abort.ended.clone();
        drop(self);
        ended.cancelled().await;
        Ok(())
    }

    /// Returns a handle that can give this writer up after it was dropped by a failed source.
    pub fn abort_handle(&self) -> AbortHandle {
        self.shared.abort.clone()
    }

    /// Raw bytes of a frame at most.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.shared.pipeline.plan.chunk_bytes + HEADROOM_BYTES + TAILROOM_BYTES
    }

    /// Turns this writer into one for entries of known length, written one after another from a blocking thread.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn into_sequential(self) -> SequentialWriter {
        SequentialWriter::new(self)
    }
}

/// Sends exactly one item for a sequence number, even if the job is lost.
struct Reply(Option<(u64, mpsc::UnboundedSender<Message>)>);

impl Reply {
    fn send(&mut self, item: Item) {
        if let Some((sequence, messages)) = self.0.take() {
            // A closed channel means that the archive was given up.
            let _ = messages.send(Message::Item(sequence, item));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.send(Item::Failed(Error::new(
            ErrorKind::Other,
            "a compression worker failed",
        )));
    }
}

fn compress(frame: RawFrame, worker: &mut super::pipeline::Worker, compression: Compression) -> Result<Frame> {
    let RawFrame {
        mut buffer,
        start,
        mut entries,
        digests,
        end,
        at_boundary,
        remaining,
    } = frame;
    for (entry, range) in digests {
        let data = buffer.bytes.get(range).unwrap_or_default();
        if let Some(entry) = entries.get_mut(entry) {
            entry.sha256 = Some(hex::encode(Sha256::digest(data)));
        }
    }
    let raw =
        u32::try_from(buffer.bytes.len().saturating_sub(start)).map_err(|_| Error::invalid("frame is too long"))?;
    worker.compress(&mut buffer, start, compression)?;
    let sha256 = hex::encode(Sha256::digest(&buffer.bytes));
    Ok(Frame {
        buffer,
        raw,
        sha256,
        entries,
        end,
        at_boundary,
        remaining,
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::disallowed_methods,
        reason = "tests; stock tools are what the archive is held against"
    )]
    use super::*;
    use crate::base::memory::{MIB, MemoryPlan};
    use crate::storage::SharedStore;
    use crate::storage::memory::MemoryStore;
    use crate::storage::upload::UploadOptions;

    fn options(compression: Compression) -> ArchiveOptions {
        let upload = UploadOptions {
            part_bytes: 64 << 10,
            parts_in_flight: 2,
            object: crate::storage::ObjectOptions::default(),
            mode: crate::storage::PutMode::Create,
            journal: None,
        };
        ArchiveOptions {
            prefix: ObjectKey::new("data/x").unwrap(),
            compression,
            upload,
            max_index_bytes: 4 << 20,
            readme: "hello\n".into(),
        }
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len)
            .map(|i| u8::try_from(i.wrapping_mul(2_654_435_761) >> 13 & 0xff).unwrap())
            .collect()
    }

    /// What stock tools make of an archive must be the source's bytes.
    #[tokio::test]
    async fn stock_tools_read_chunks_and_spanning_entries() {
        for (compression, tool) in [(Compression::Zstd(1), "zstd"), (Compression::Gzip(1), "gzip")] {
            let pipeline = Pipeline::start(MemoryPlan::for_limit(96 * MIB, 2).unwrap());
            let store: SharedStore = Arc::new(MemoryStore::new());
            let writer = ArchiveWriter::create(Arc::clone(&store), &pipeline, options(compression))
                .await
                .unwrap();
            let mut tasks = Vec::new();
            for table in 0..4u32 {
                let writer = writer.clone();
                tasks.push(tokio::spawn(async move {
                    for number in 0..5 {
                        let mut chunk = writer.chunk_buffer().await.unwrap();
                        chunk.extend(&noise(chunk.room()));
                        chunk.truncate(1000 * (usize::try_from(number).unwrap() + 1));
                        writer
                            .submit_chunk(&format!("tables/{table}"), number, chunk, ChunkFacts::default())
                            .await
                            .unwrap();
                    }
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
            let mut sequential = writer.into_sequential();
            let sequential = tokio::task::spawn_blocking(move || {
                for (name, len) in [("big", 3_500_001), ("empty", 0), ("small", 7), ("exact", 1 << 20)] {
                    let len64 = u64::try_from(len).unwrap();
                    sequential
                        .begin_entry(&EntryMeta::file(name, len64, (1_700_000_000, 500)))
                        .unwrap();
                    sequential.write(&noise(len)).unwrap();
                    sequential.finish_entry(false).unwrap();
                }
                sequential
            });
            let infos = sequential.await.unwrap().finish().await.unwrap();
            assert_eq!((infos.len(), pipeline.pool.in_use()), (1, 0));
            let bytes = store.get(&infos[0].archive.key, u64::MAX).await.unwrap();
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("archive"), &bytes).unwrap();
            let script =
                format!("set -e -o pipefail; {tool} -dc < archive | tar x; {tool} -dc < archive | wc -c > raw");
            let out = std::process::Command::new("bash")
                .current_dir(&dir)
                .args(["-c", &script])
                .output()
                .unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
            for (name, len) in [
                ("big", 3_500_001),
                ("empty", 0),
                ("small", 7),
                ("exact", 1 << 20),
                ("tables/3/00000004", 5000),
            ] {
                assert!(read(name) == noise(len), "{name}");
            }
            assert_eq!(read("README.txt"), b"hello\n");
            assert_eq!(
                String::from_utf8(read("raw")).unwrap().trim(),
                infos[0].raw_bytes.to_string()
            );
            let index = store.get(&infos[0].index.key, u64::MAX).await.unwrap();
            assert!(read("wirevault/index.zst") == index);
        }
    }

    /// A writer given up, or whose store fails, leaves no upload, no buffer and no waiting producer.
    #[tokio::test]
    async fn an_aborted_writer_leaves_nothing() {
        let pipeline = Pipeline::start(MemoryPlan::for_limit(96 * MIB, 2).unwrap());
        let store = Arc::new(MemoryStore::new());
        let writer = ArchiveWriter::create(
            Arc::<MemoryStore>::clone(&store),
            &pipeline,
            options(Compression::Zstd(1)),
        )
        .await
        .unwrap();
        for number in 0..3 {
            let mut chunk = writer.chunk_buffer().await.unwrap();
            let data: Vec<u8> = (0..chunk.room()).map(|_| rand::random()).collect();
            chunk.extend(&data);
            writer
                .submit_chunk("t", number, chunk, ChunkFacts::default())
                .await
                .unwrap();
        }
        writer.abort_handle().abort().await;
        assert_eq!(store.open_uploads(), 0);
        assert_eq!(writer.chunk_buffer().await.unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(writer.finish().await.is_err());
    }
}
