//! The workers and buffers that all archives of a process share.
//!
//! Workers are threads of their own, each with its compression contexts and one scratch buffer. A job compresses from
//! a pooled buffer into the scratch and swaps the two, so nothing is allocated on the way. The queue has no bound of
//! its own: every job holds a pooled buffer, so the pool bounds it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex};

use crate::archive::inflate::{gunzip, gzip, undecodable};
use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::base::memory::{Buffer, BufferPool, MemoryPlan};

/// How frames are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "method", content = "level")]
pub enum Compression {
    /// One zstd frame each, window at most 8 MiB; level 1 to 19.
    Zstd(i32),
    /// One gzip member each; level 1 to 9.
    Gzip(u32),
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd(1)
    }
}

/// Buffers and workers, made once per process from its memory plan. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The plan.
    pub plan: Arc<MemoryPlan>,
    /// The budget.
    pub pool: BufferPool,
    workers: Arc<Workers>,
}

impl Pipeline {
    /// Starts the workers. They end when the last clone is gone.
    pub fn start(plan: MemoryPlan) -> Self {
        let pool = BufferPool::for_plan(&plan);
        let workers = Arc::new(Workers::start(plan.workers, plan.buffer_bytes));
        Self {
            plan: Arc::new(plan),
            pool,
            workers,
        }
    }

    /// Queues a job for the next free worker.
    pub(crate) fn run(&self, job: impl FnOnce(&mut Worker) + Send + 'static) {
        self.workers.queue.lock().jobs.push_back(Box::new(job));
        self.workers.queue.changed.notify_one();
    }
}

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for a job; `None` when the queue is closed and empty.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

struct Workers {
    queue: Arc<Queue>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}

impl Workers {
    fn start(count: usize, buffer_bytes: usize) -> Self {
        let queue = Arc::new(Queue::default());
        for number in 0..count.max(1) {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new()
                .name(format!("frame-{number}"))
                .spawn(move || {
                    let mut worker = Worker::new(buffer_bytes);
                    while let Some(job) = queue.next() {
                        // A job reports its own loss: whatever waits for it sees its sender dropped.
                        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&mut worker))).is_err() {
                            worker = Worker::new(buffer_bytes);
                        }
                    }
                })
                .expect("the operating system starts a handful of threads");
        }
        Self { queue }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
    }
}

/// What one worker thread owns.
pub(crate) struct Worker {
    buffer_bytes: usize,
    scratch: Vec<u8>,
    compressor: Option<(i32, zstd::bulk::Compressor<'static>)>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

impl Worker {
    fn new(buffer_bytes: usize) -> Self {
        Self {
            buffer_bytes,
            scratch: Vec::new(),
            compressor: None,
            decompressor: None,
        }
    }

    /// Replaces the content of `buffer` by the compressed form of what it holds from `start`.
    pub(crate) fn compress(&mut self, buffer: &mut Buffer, start: usize, compression: Compression) -> Result<()> {
        let raw = exact::part(&buffer.bytes, start.., "a frame begins within its buffer");
        self.scratch.clear();
        self.scratch.reserve_exact(self.buffer_bytes);
        match compression {
            Compression::Zstd(level) => {
                if self.compressor.as_ref().is_none_or(|(l, _)| *l != level) {
                    self.compressor = Some((level, zstd_compressor(level)?));
                }
                if let Some((_, compressor)) = &mut self.compressor {
                    compressor
                        .compress_to_buffer(raw, &mut self.scratch)
                        .context("compress frame")?;
                }
            }
            Compression::Gzip(level) => gzip(raw, level, &mut self.scratch)?,
        }
        std::mem::swap(&mut buffer.bytes, &mut self.scratch);
        Ok(())
    }

    /// Decompresses exactly `raw_bytes` into the empty `buffer`; more or fewer are an error.
    pub(crate) fn decompress(
        &mut self,
        stored: &[u8],
        raw_bytes: usize,
        buffer: &mut Buffer,
        compression: Compression,
    ) -> Result<()> {
        buffer.bytes.clear();
        if raw_bytes > buffer.room() {
            return Err(Error::corrupt(format!("frame claims {raw_bytes} raw bytes")));
        }
        buffer.bytes.reserve_exact(self.buffer_bytes);
        match compression {
            Compression::Zstd(_) => {
                if self.decompressor.is_none() {
                    self.decompressor = Some(zstd::bulk::Decompressor::new()?);
                }
                if let Some(decompressor) = &mut self.decompressor {
                    decompressor
                        .decompress_to_buffer(stored, &mut buffer.bytes)
                        .map_err(undecodable)?;
                }
            }
            Compression::Gzip(_) => {
                // Read into the room there is, so that a forged member cannot make the buffer grow.
                buffer.bytes.resize(raw_bytes, 0);
                gunzip(stored, &mut buffer.bytes)?;
            }
        }
        if buffer.bytes.len() != raw_bytes {
            return Err(Error::corrupt(format!(
                "frame has {} raw bytes instead of {raw_bytes}",
                buffer.bytes.len()
            )));
        }
        Ok(())
    }
}

/// Compresses bytes that belong to no pooled buffer: index frames, the README.
pub(crate) fn compress_small(raw: &[u8], compression: Compression) -> Result<Vec<u8>> {
    match compression {
        Compression::Zstd(level) => zstd_compressor(level)?.compress(raw).context("compress frame"),
        Compression::Gzip(level) => {
            let mut member = Vec::new();
            gzip(raw, level, &mut member).map(|()| member)
        }
    }
}

fn zstd_compressor(level: i32) -> Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(level).context("make compression context")?;
    compressor.include_checksum(true).context("make compression context")?;
    compressor
        .include_contentsize(true)
        .context("make compression context")?;
    Ok(compressor)
}
