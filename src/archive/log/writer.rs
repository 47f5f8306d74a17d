//! Writes a log segment: frames through the shared workers, one upload, and the descriptor at the end.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::archive::log::descriptor::MAX_RAW_BYTES;
use crate::archive::log::{About, Descriptor, LogReader};
use crate::archive::{Compression, Pipeline};
use crate::base::error::{Error, ErrorKind, Result, if_there};
use crate::base::exact;
use crate::base::memory::Buffer;
use crate::storage::upload::{ObjectWriter, UploadOptions};
use crate::storage::{ObjectKey, ObjectOptions, PutMode, SharedStore};

/// Options of a [`LogWriter`].
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Parts that are sent at once, beside the one that is filled; those of the memory plan if nothing is said.
    pub parts_in_flight: Option<usize>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            level: 1,
            parts_in_flight: None,
        }
    }
}

/// What became of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It was stored. Durable.
    Stored {
        /// Bytes of the object.
        stored_bytes: u64,
    },
    /// The same bytes were there already.
    WasThere,
}

/// Writes one segment. Dropped without [`LogWriter::finish`], it may leave an open upload.
#[derive(Debug)]
pub struct LogWriter {
    store: SharedStore,
    key: ObjectKey,
    pipeline: Pipeline,
    level: i32,
    /// What stands under the key: then nothing is sent, and only digests are compared.
    present: Option<Descriptor>,
    upload: ObjectWriter,
    digest: Sha256,
    raw_bytes: u64,
    /// Frames in the hands of workers, in order.
    frames: VecDeque<oneshot::Receiver<Result<Buffer>>>,
}

impl LogWriter {
    /// Begins a segment. A store that may not honour the condition of a creation is asked what is there first.
    pub async fn create(store: SharedStore, key: ObjectKey, pipeline: &Pipeline, options: &LogOptions) -> Result<Self> {
        let present = if is_conditional(&store) {
            None
        } else {
            let looked = LogReader::look(&store, &key).await;
            if_there(looked)?.map(LogReader::into_descriptor)
        };
        let upload = UploadOptions {
            part_bytes: pipeline.plan.part_bytes,
            parts_in_flight: options.parts_in_flight.unwrap_or(pipeline.plan.parts_in_flight),
            object: ObjectOptions::default(),
            mode: PutMode::Create,
            journal: None,
        };
        Ok(Self {
            upload: ObjectWriter::create(store.clone(), key.clone(), upload),
            store,
            key,
            pipeline: pipeline.clone(),
            level: options.level,
            present,
            digest: Sha256::new(),
            raw_bytes: 0,
            frames: VecDeque::new(),
        })
    }

    /// Takes a buffer for the next frame; at most a chunk of the memory plan goes into it. The caller must hold none.
    pub async fn buffer(&mut self) -> Result<Buffer> {
        // Whoever waits for a buffer lets go of frames that are ready, so a buffer comes back in the end.
        while self.frames.len() > self.pipeline.plan.workers {
            self.reap().await?;
        }
        loop {
            if let Some(buffer) = self.pipeline.pool.try_acquire() {
                return Ok(buffer);
            }
            if self.frames.is_empty() {
                return Ok(self.pipeline.pool.acquire().await);
            }
            self.reap().await?;
        }
    }

    /// Appends the bytes of a buffer, as one frame.
    pub fn write(&mut self, mut buffer: Buffer) -> Result<()> {
        self.digest.update(&buffer.bytes);
        self.raw_bytes += exact::u64_from(buffer.bytes.len());
        if self.raw_bytes > MAX_RAW_BYTES {
            return Err(Error::new(ErrorKind::LimitExceeded, "a log segment has at most 1 GiB"));
        }
        if self.present.is_some() {
            return Ok(());
        }
        let (send, receive) = oneshot::channel();
        let level = self.level;
        self.pipeline.run(move |worker| {
            let done = worker.compress(&mut buffer, 0, Compression::Zstd(level));
            let _ = send.send(done.map(|()| buffer));
        });
        self.frames.push_back(receive);
        Ok(())
    }

    /// Sends the oldest frame that is at work.
    async fn reap(&mut self) -> Result<()> {
        let Some(frame) = self.frames.pop_front() else {
            return Ok(());
        };
        let lost = |error| Error::new(ErrorKind::Other, "a compression worker ended early").with_cause(error);
        let frame = frame.await.map_err(lost)??;
        self.upload.write(&frame.bytes).await
    }

    /// Gives the segment up: nothing is stored.
    pub async fn abandon(self) {
        if let Err(error) = self.upload.abort().await {
            tracing::debug!("an upload stays open: {}", error.chain());
        }
    }

    /// Makes the segment exist. Durable on return, and what stands under the key has these bytes;
    /// [`ErrorKind::AlreadyExists`] where it has others, which stay.
    pub async fn finish(mut self, about: About) -> Result<Kept> {
        let digest = hex::encode(std::mem::take(&mut self.digest).finalize());
        if let Some(present) = &self.present {
            return same(present, &digest, &self.key).map(|()| Kept::WasThere);
        }
        if let Err(error) = self.send_rest(&digest, about).await {
            self.abandon().await;
            return Err(error);
        }
        let one_put = self.upload.written_bytes() <= exact::u64_from(self.pipeline.plan.part_bytes);
        let (kept, sure) = match self.upload.finish().await {
            Ok(stored) => {
                let stored_bytes = stored.size_bytes;
                (Kept::Stored { stored_bytes }, one_put && is_conditional(&self.store))
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => (Kept::WasThere, false),
            Err(error) => return Err(error),
        };
        if !sure {
            let present = LogReader::look(&self.store, &self.key).await?;
            same(present.descriptor(), &digest, &self.key)?;
        }
        Ok(kept)
    }

    /// Sends the frames that are at work, and the descriptor.
    async fn send_rest(&mut self, digest: &str, about: About) -> Result<()> {
        while !self.frames.is_empty() {
            self.reap().await?;
        }
        let data_bytes = self.upload.written_bytes();
        let descriptor = Descriptor::new(self.raw_bytes, digest.to_owned(), data_bytes, about);
        self.upload.write(&descriptor.encode()?).await
    }
}

/// Whether a store is known to refuse a second object under a key.
fn is_conditional(store: &SharedStore) -> bool {
    store.capabilities().conditional_create == Some(true)
}

fn same(present: &Descriptor, digest: &str, key: &ObjectKey) -> Result<()> {
    if present.raw_sha256 == digest {
        return Ok(());
    }
    let message = format!("\"{key}\" is stored already, with other bytes");
    Err(Error::new(ErrorKind::AlreadyExists, message).with_hint(
        "Two servers write into one log: this one and a copy of it, or two standbys that were promoted. Give one of them a repository of its own. Nothing was replaced.",
    ))
}
