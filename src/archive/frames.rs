//! Fetches and decodes frames ahead of their reader, in order, within a quota of its own.
//!
//! A planner names the frames; adjacent ones become one ranged read; reads run ahead of the decoder, the decoder ahead of
//! the consumer. Every stream has a fixed share of fetch batches and of pooled buffers, and the shares of all streams
//! that are open at once add up to no more than there is ([`crate::archive::ArchiveReader::share`]). So a stream never
//! waits for a buffer that another one holds, and a consumer that reads two streams in turn cannot block itself.
//! A consumer may hold the frame it reads while it waits for the next: a share is at least two buffers.

use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::archive::index_reader::{self, Archives, FrameLines};
use crate::archive::{Compression, Pipeline};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::memory::Buffer;
use crate::storage::ObjectKey;

/// Batches fetched or being fetched by one stream: many small ones rather than few large ones, which share the line, end all at
/// once, and leave it idle while they are decoded. Three more are planned at most: one that waits for its turn to be
/// fetched, one in the queue before it, one being filled.
const BATCHES: usize = 8;

/// Memory of the index lines of the batches of all streams together, in bytes. Tiny files compress to less than the lines
/// about them, so a bound on the bytes to fetch alone would leave the lines without one.
const LINE_BYTES: usize = 14 << 20;

/// A decoded frame. It returns to the pool with its last holder.
#[derive(Debug)]
pub(crate) struct FrameData {
    pub(crate) buffer: Buffer,
    _quota: OwnedSemaphorePermit,
}

/// A decoded frame with the lines about it.
#[derive(Debug)]
pub(crate) struct DecodedFrame {
    pub(crate) archive: u32,
    pub(crate) about: FrameLines,
    pub(crate) data: Arc<FrameData>,
}

/// A frame that is wanted.
#[derive(Debug)]
pub(crate) struct FrameRequest {
    pub(crate) archive: u32,
    pub(crate) about: FrameLines,
}

/// Adjacent frames of one archive: one ranged read.
#[derive(Debug)]
struct Batch {
    archive: u32,
    range: Range<u64>,
    frames: Vec<FrameLines>,
    /// Memory of the lines about the frames, in bytes.
    line_bytes: usize,
}

/// Where a planner puts the frames it wants, in order.
#[derive(Debug)]
pub(crate) struct FrameQueue {
    batch: Option<Batch>,
    limit: u64,
    line_limit: usize,
    out: mpsc::Sender<Result<Batch>>,
}

impl FrameQueue {
    /// Adds a frame; waits while enough is planned. `false` means that nobody reads any more.
    pub(crate) async fn push(&mut self, wanted: FrameRequest) -> bool {
        let (offset, length) = (wanted.about.frame.offset, u64::from(wanted.about.frame.length));
        let Some(end) = offset.checked_add(length) else {
            return self
                .out
                .send(Err(Error::corrupt("a frame is outside any archive")))
                .await
                .is_ok();
        };
        let line_bytes = wanted.about.memory_bytes();
        if let Some(batch) = &mut self.batch
            && batch.archive == wanted.archive
            && batch.range.end == offset
            && end - batch.range.start <= self.limit
            && batch.line_bytes.saturating_add(line_bytes) <= self.line_limit
        {
            batch.range.end = end;
            batch.line_bytes += line_bytes;
            batch.frames.push(wanted.about);
            return true;
        }
        let next = Batch {
            archive: wanted.archive,
            range: offset..end,
            frames: vec![wanted.about],
            line_bytes,
        };
        match self.batch.replace(next) {
            Some(full) => self.out.send(Ok(full)).await.is_ok(),
            None => true,
        }
    }

    async fn finish(mut self, result: Result<()>) {
        if let Some(last) = self.batch.take() {
            let _ = self.out.send(Ok(last)).await;
        }
        if let Err(error) = result {
            let _ = self.out.send(Err(error)).await;
        }
    }
}

type Slot = oneshot::Receiver<Result<DecodedFrame, Box<Failed>>>;

/// A frame that could not be decoded.
#[derive(Debug)]
struct Failed {
    error: Error,
    /// What it takes to read it again, where its bytes were not what they must be.
    again: Option<(Frame, Buffer, OwnedSemaphorePermit)>,
}

/// A frame to be decoded, and where it lies.
#[derive(Debug)]
struct Frame {
    archive: u32,
    about: FrameLines,
    /// Where the bytes begin that were fetched for it.
    base: u64,
}

/// Frames in the order planned, each digest checked.
#[derive(Debug)]
pub(crate) struct FrameStream {
    slots: mpsc::UnboundedReceiver<Slot>,
    shared: Arc<Archives>,
    pipeline: Pipeline,
    inflate: bool,
    _planner: AbortOnDropHandle<()>,
    _fetcher: AbortOnDropHandle<()>,
}

impl FrameStream {
    /// Starts a stream; `share` is how many streams there are at once. Without `inflate` the frames come without data:
    /// only their digests are compared. Must be called within the runtime.
    pub(crate) fn start<P, F>(shared: Arc<Archives>, pipeline: &Pipeline, share: usize, inflate: bool, plan: P) -> Self
    where
        P: FnOnce(FrameQueue) -> F + Send + 'static,
        F: Future<Output = (FrameQueue, Result<()>)> + Send + 'static,
    {
        let share = share.max(1);
        let parts = (pipeline.plan.parts_in_flight + 1).saturating_mul(pipeline.plan.part_bytes);
        let limit = exact::u64_from(parts / share / BATCHES).max(1 << 16);
        let quota = (pipeline.plan.buffers / share).max(2);
        let (batch_out, batch_in) = mpsc::channel(1);
        let (slot_out, slots) = mpsc::unbounded_channel();
        let planned = FrameQueue {
            batch: None,
            limit,
            line_limit: LINE_BYTES / share / (BATCHES + 3),
            out: batch_out,
        };
        let planner = AbortOnDropHandle::new(tokio::spawn(async move {
            let (planned, result) = plan(planned).await;
            planned.finish(result).await;
        }));
        let decoder = Decoder {
            shared: Arc::clone(&shared),
            pipeline: pipeline.clone(),
            quota: Arc::new(Semaphore::new(quota)),
            inflate,
            out: slot_out,
        };
        let fetcher = AbortOnDropHandle::new(tokio::spawn(decoder.run(batch_in)));
        Self {
            slots,
            shared,
            pipeline: pipeline.clone(),
            inflate,
            _planner: planner,
            _fetcher: fetcher,
        }
    }

    /// Returns the next frame; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<DecodedFrame>> {
        let Some(slot) = self.slots.recv().await else {
            return Ok(None);
        };
        let failed = match slot.await.map_err(lost)? {
            Ok(frame) => return Ok(Some(frame)),
            Err(failed) => failed,
        };
        match failed.again {
            None => Err(failed.error),
            Some((frame, buffer, quota)) => self.again(frame, buffer, quota).await.map(Some),
        }
    }

    /// Reads a frame once more, alone: its bytes may have changed on their way, and only what differs twice is damaged.
    async fn again(&self, mut frame: Frame, buffer: Buffer, quota: OwnedSemaphorePermit) -> Result<DecodedFrame> {
        tracing::debug!(
            "frame {} of archive {} is read again",
            frame.about.frame.frame,
            frame.archive
        );
        frame.base = frame.about.frame.offset;
        let length = u64::from(frame.about.frame.length);
        let range = frame.base..frame.base.saturating_add(length);
        let bytes = fetch(&self.shared, frame.archive, range).await?;
        let place = place(&self.shared, frame.archive)?;
        let (done, slot) = oneshot::channel();
        let inflate = self.inflate;
        self.pipeline.run(move |worker| {
            let _ = done.send(decode(worker, frame, &bytes, &place, inflate, (buffer, quota)));
        });
        slot.await.map_err(lost)?.map_err(|failed| failed.error)
    }
}

fn lost(_: oneshot::error::RecvError) -> Error {
    Error::new(ErrorKind::Other, "a frame was not decoded")
}

/// Key and compression of an archive.
fn place(shared: &Archives, archive: u32) -> Result<(ObjectKey, Compression)> {
    let info = &shared.archive(archive)?.info;
    Ok((info.archive.key.clone(), info.compression))
}

/// Compares a frame's digest and decodes it, in a worker.
fn decode(
    worker: &mut crate::archive::pipeline::Worker,
    frame: Frame,
    bytes: &[u8],
    (key, compression): &(ObjectKey, Compression),
    inflate: bool,
    (mut buffer, quota): (Buffer, OwnedSemaphorePermit),
) -> Result<DecodedFrame, Box<Failed>> {
    let about = &frame.about;
    let checked = check(about, frame.base, bytes);
    let differs = checked.is_err();
    let decoded = checked.and_then(|stored| {
        let raw = exact::usize_from(about.frame.raw.into());
        if inflate {
            worker.decompress(stored, raw, &mut buffer, *compression)
        } else {
            Ok(())
        }
    });
    match decoded.with_context(|| describe(key, about)) {
        Ok(()) => Ok(DecodedFrame {
            archive: frame.archive,
            about: frame.about,
            data: Arc::new(FrameData { buffer, _quota: quota }),
        }),
        Err(error) => Err(Box::new(Failed {
            error,
            again: differs.then_some((frame, buffer, quota)),
        })),
    }
}

struct Decoder {
    shared: Arc<Archives>,
    pipeline: Pipeline,
    quota: Arc<Semaphore>,
    inflate: bool,
    out: mpsc::UnboundedSender<Slot>,
}

type Fetched = (Batch, OwnedSemaphorePermit, Result<Vec<u8>>);

impl Decoder {
    /// Keeps up to [`BATCHES`] batches on their way and hands their frames to the workers in order.
    async fn run(self, mut batches: mpsc::Receiver<Result<Batch>>) {
        let ahead = Arc::new(Semaphore::new(BATCHES));
        let (fetch_out, mut fetch_in) = mpsc::channel::<Result<oneshot::Receiver<Fetched>>>(BATCHES);
        let shared = Arc::clone(&self.shared);
        let fetching = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Some(batch) = batches.recv().await {
                let Ok(permit) = Arc::clone(&ahead).acquire_owned().await else {
                    return;
                };
                let (done, fetched) = oneshot::channel();
                let sent = match batch {
                    Err(error) => fetch_out.send(Err(error)).await,
                    Ok(batch) => {
                        let shared = Arc::clone(&shared);
                        tasks.spawn(async move {
                            let bytes = fetch(&shared, batch.archive, batch.range.clone()).await;
                            let _ = done.send((batch, permit, bytes));
                        });
                        fetch_out.send(Ok(fetched)).await
                    }
                };
                if sent.is_err() {
                    return;
                }
                while tasks.try_join_next().is_some() {}
            }
            // The last reads must end before their tasks are dropped.
            while tasks.join_next().await.is_some() {}
        }));
        while let Some(next) = fetch_in.recv().await {
            let fetched = match next {
                Ok(fetched) => fetched
                    .await
                    .map_err(|_| Error::new(ErrorKind::Other, "a read ended early")),
                Err(error) => Err(error),
            };
            let (batch, permit, bytes) = match fetched {
                Ok((batch, permit, Ok(bytes))) => (batch, permit, bytes),
                Ok((_, _, Err(error))) | Err(error) => {
                    self.fail(error);
                    return;
                }
            };
            if !self.decode(batch, Arc::new((bytes, permit))).await {
                return;
            }
        }
        drop(fetching);
    }

    fn fail(&self, error: Error) {
        let (done, slot) = oneshot::channel();
        let _ = done.send(Err(Box::new(Failed { error, again: None })));
        let _ = self.out.send(slot);
    }

    /// Queues the frames of a batch; waits for this stream's quota only.
    async fn decode(&self, batch: Batch, bytes: Arc<(Vec<u8>, OwnedSemaphorePermit)>) -> bool {
        let place = match place(&self.shared, batch.archive) {
            Ok(place) => Arc::new(place),
            Err(error) => {
                self.fail(error);
                return false;
            }
        };
        for about in batch.frames {
            let Ok(quota) = Arc::clone(&self.quota).acquire_owned().await else {
                return false;
            };
            let buffer = self.pipeline.pool.acquire().await;
            let (done, slot) = oneshot::channel();
            if self.out.send(slot).is_err() {
                return false;
            }
            let (bytes, place, inflate) = (Arc::clone(&bytes), Arc::clone(&place), self.inflate);
            let frame = Frame {
                archive: batch.archive,
                about,
                base: batch.range.start,
            };
            self.pipeline.run(move |worker| {
                let decoded = decode(worker, frame, &bytes.0, &place, inflate, (buffer, quota));
                drop(bytes);
                let _ = done.send(decoded);
            });
        }
        true
    }
}

fn describe(key: &ObjectKey, about: &FrameLines) -> String {
    let frame = &about.frame;
    format!(
        "read frame {} (bytes {}+{}) of archive \"{key}\"",
        frame.frame, frame.offset, frame.length
    )
}

/// Returns the stored bytes of a frame if they have the digest that the index names.
fn check<'a>(about: &FrameLines, base: u64, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let start = about
        .frame
        .offset
        .checked_sub(base)
        .and_then(|at| usize::try_from(at).ok());
    let length = usize::try_from(about.frame.length).ok();
    let stored = start
        .zip(length)
        .and_then(|(start, length)| bytes.get(start..start.checked_add(length)?));
    let stored = stored.ok_or_else(|| Error::corrupt("the frame is outside the bytes read"))?;
    if hex::encode(Sha256::digest(stored)) != about.frame.sha256 {
        return Err(Error::corrupt("the frame does not have the digest the index names")
            .with_hint("The object is damaged; restore from another snapshot or copy."));
    }
    Ok(stored)
}

async fn fetch(shared: &Archives, archive: u32, range: Range<u64>) -> Result<Vec<u8>> {
    let open = shared.archive(archive)?;
    let info = &open.info;
    if open.sealing.stored_range(range.clone()).end > info.archive.size_bytes {
        let message = format!(
            "the index names bytes {}..{} of archive \"{}\", which has {}",
            range.start, range.end, info.archive.key, info.archive.size_bytes
        );
        return Err(Error::corrupt(message));
    }
    let mut bytes = Vec::with_capacity(exact::usize_from(range.end - range.start));
    index_reader::fetch(
        &shared.store,
        &shared.fetched,
        &info.archive.key,
        open.sealing,
        range,
        &mut bytes,
    )
    .await?;
    Ok(bytes)
}
