//! The memory contract: one plan and one pool of buffers per process.
//!
//! ```text
//! limit >= base + part_bytes x (parts_in_flight + 1)      parts: a fixed reserve, also the fetch buffers of a reader
//!               + context_bytes x workers + buffer_bytes x workers     compression contexts and their scratch
//!               + index_bytes                             compressed index of the archive being written or read
//!               + source_bytes                            connection and walk buffers of the source at work
//!               + buffer_bytes x buffers                  the budget: raw chunks and compressed frames on their way
//! ```
//!
//! All buffers of the budget have one size, so memory does not fragment and the budget is a count. A stage takes a
//! buffer ([`BufferPool::acquire`]) only while it holds none, and a chunk gets its place in the archive's order only
//! when it is complete; so whoever holds a buffer can always finish without waiting for another one. A worker
//! compresses from the chunk's buffer into its own scratch and swaps the two: nothing is allocated on the way.

use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;

/// 1 MiB in bytes.
pub const MIB: u64 = 1024 * 1024;

/// The smallest memory limit that is accepted.
pub const MINIMUM_LIMIT_BYTES: u64 = 96 * MIB;

/// The limit when none is given.
pub const DEFAULT_LIMIT_BYTES: u64 = 256 * MIB;

/// Raw data bytes of a chunk, whatever the limit: an archive written with much memory must be readable with little.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Room before the data of a chunk for its tar header (ustar, or pax + ustar), in bytes.
pub const HEADROOM_BYTES: usize = 2048;

/// Room after the data of a chunk for tar padding, in bytes.
pub const TAILROOM_BYTES: usize = 512;

/// How the memory limit is divided. All sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MemoryPlan {
    /// The limit the plan was made for.
    pub limit_bytes: u64,
    /// Code, runtime, TLS, SDK: measured resident size of an idle process at work, rounded up.
    pub base_bytes: u64,
    /// Size of one part of a multipart upload; every part but the last has it.
    pub part_bytes: usize,
    /// Parts being sent at once, beside the one being filled.
    pub parts_in_flight: usize,
    /// Compression (or decompression) workers.
    pub workers: usize,
    /// Memory of one compression context at the highest level that is used.
    pub context_bytes: u64,
    /// Upper bound of a compressed index held in memory, with its uncompressed tail.
    pub index_bytes: u64,
    /// Buffers of the source at work (connections, directory lists, SQLite page cache).
    pub source_bytes: u64,
    /// Raw data bytes of one chunk.
    pub chunk_bytes: usize,
    /// Capacity of one pooled buffer: a chunk with headers, or its compressed form in the worst case.
    pub buffer_bytes: usize,
    /// Number of pooled buffers: the budget.
    pub buffers: usize,
}

impl MemoryPlan {
    /// Divides `limit_bytes` for a machine with `cpus` processors.
    pub fn for_limit(limit_bytes: u64, cpus: usize) -> Result<Self> {
        Self::with_parts(limit_bytes, cpus, None)
    }

    /// The same, with parts of uploads of `part_bytes`, if that is not what it is without a word.
    pub fn with_parts(limit_bytes: u64, cpus: usize, part_bytes: Option<usize>) -> Result<Self> {
        if limit_bytes < MINIMUM_LIMIT_BYTES {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "memory limit of {} MiB is below the minimum of {} MiB",
                    limit_bytes / MIB,
                    MINIMUM_LIMIT_BYTES / MIB
                ),
            )
            .with_hint("Raise --memory-limit, or the memory limit of the container."));
        }
        // A worker's context and scratch cost as much as four buffers: few workers where memory is short.
        let workers = cpus.clamp(1, if limit_bytes < 128 * MIB { 2 } else { 4 });
        let mut plan = Self {
            limit_bytes,
            base_bytes: 36 * MIB,
            part_bytes: part_bytes.unwrap_or(8 << 20),
            parts_in_flight: if limit_bytes < 192 * MIB { 2 } else { 4 },
            workers,
            context_bytes: 3 * MIB,
            index_bytes: 6 * MIB,
            source_bytes: 8 * MIB,
            chunk_bytes: CHUNK_BYTES,
            buffer_bytes: buffer_bytes_for(CHUNK_BYTES),
            buffers: 0,
        };
        let fixed = plan.fixed_bytes();
        let left = limit_bytes.saturating_sub(fixed);
        let size = exact::u64_from(plan.buffer_bytes);
        // More buffers than 128 only lengthen the queue; the limit is an upper bound, not a target.
        plan.buffers = exact::usize_from(left / size).min(128);
        if plan.buffers < workers + 2 {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "memory limit of {} MiB leaves {} buffers for {workers} workers",
                    limit_bytes / MIB,
                    plan.buffers
                ),
            )
            .with_hint(match part_bytes {
                Some(_) => "Raise --memory-limit, or lower part_size of the repository.",
                None => "Raise --memory-limit.",
            }));
        }
        Ok(plan)
    }

    /// Bytes that are used whatever flows: everything but the pooled buffers.
    pub fn fixed_bytes(&self) -> u64 {
        let part = exact::u64_from(self.part_bytes);
        let buffer = exact::u64_from(self.buffer_bytes);
        let parts = exact::u64_from(self.parts_in_flight + 1);
        let workers = exact::u64_from(self.workers);
        self.base_bytes
            + part.saturating_mul(parts)
            + (self.context_bytes + buffer).saturating_mul(workers)
            + self.index_bytes
            + self.source_bytes
    }
}

/// Capacity that holds a chunk with headers, and its worst-case zstd or gzip form.
fn buffer_bytes_for(chunk_bytes: usize) -> usize {
    let raw = chunk_bytes + HEADROOM_BYTES + TAILROOM_BYTES;
    // ZSTD_COMPRESSBOUND is n + n/256 (+ up to 64 KiB below 128 KiB); gzip stored blocks are n + 5 per 16 KiB + 18.
    raw + raw / 256 + 4096
}

/// The pool of equal buffers that carries every chunk of the process.
#[derive(Debug, Clone)]
pub struct BufferPool {
    shared: Arc<PoolShared>,
}

#[derive(Debug)]
struct PoolShared {
    buffer_bytes: usize,
    buffers: usize,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// Makes a pool of `buffers` buffers of `buffer_bytes` capacity. Buffers are allocated at first use.
    pub fn new(buffers: usize, buffer_bytes: usize) -> Self {
        let shared = PoolShared {
            buffer_bytes,
            buffers,
            permits: Arc::new(Semaphore::new(buffers)),
            idle: Mutex::new(Vec::with_capacity(buffers)),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Makes the pool of a plan.
    pub fn for_plan(plan: &MemoryPlan) -> Self {
        Self::new(plan.buffers, plan.buffer_bytes)
    }

    /// Waits for a buffer. The caller must hold none: that is what keeps the pool free of deadlocks.
    ///
    /// # Panics
    /// Never: the semaphore it waits for is not closed while the pool lives.
    pub async fn acquire(&self) -> Buffer {
        let permit = Arc::clone(&self.shared.permits)
            .acquire_owned()
            .await
            .expect("the pool's semaphore is never closed");
        self.buffer(permit)
    }

    /// Takes a buffer if one is free now.
    pub fn try_acquire(&self) -> Option<Buffer> {
        Arc::clone(&self.shared.permits)
            .try_acquire_owned()
            .ok()
            .map(|permit| self.buffer(permit))
    }

    /// Returns the capacity of each buffer in bytes.
    pub fn buffer_bytes(&self) -> usize {
        self.shared.buffer_bytes
    }

    /// Returns how many buffers are out.
    pub fn in_use(&self) -> usize {
        self.shared.buffers - self.shared.permits.available_permits()
    }

    fn buffer(&self, permit: OwnedSemaphorePermit) -> Buffer {
        let recycled = self.shared.idle.lock().expect("no panic happens under this lock").pop();
        let bytes = recycled.unwrap_or_else(|| Vec::with_capacity(self.shared.buffer_bytes));
        Buffer {
            bytes,
            pool: Arc::clone(&self.shared),
            _permit: permit,
        }
    }
}

/// One pooled buffer; dropping it returns it to the pool.
///
/// It is a `Vec<u8>` of fixed capacity: code that would grow it past [`BufferPool::buffer_bytes`] breaks the memory
/// contract, so writers check [`Buffer::room`] first.
#[derive(Debug)]
pub struct Buffer {
    /// The content.
    pub bytes: Vec<u8>,
    pool: Arc<PoolShared>,
    _permit: OwnedSemaphorePermit,
}

impl Buffer {
    /// Returns how many bytes still fit.
    pub fn room(&self) -> usize {
        self.pool.buffer_bytes.saturating_sub(self.bytes.len())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        if bytes.capacity() >= self.pool.buffer_bytes {
            self.pool
                .idle
                .lock()
                .expect("no panic happens under this lock")
                .push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_stays_within_its_limit() {
        for mib in [96, 128, 191, 192, 256, 512, 4096] {
            for cpus in [1, 2, 4, 64] {
                let Ok(plan) = MemoryPlan::for_limit(mib * MIB, cpus) else {
                    assert!(mib < 128, "{mib} MiB must be enough for {cpus} processors");
                    continue;
                };
                let budget = u64::try_from(plan.buffers * plan.buffer_bytes).unwrap();
                assert!(plan.fixed_bytes() + budget <= plan.limit_bytes, "{plan:?}");
            }
        }
    }

    #[test]
    fn the_minimum_limit_has_a_plan_for_two_processors() {
        let plan = MemoryPlan::for_limit(MINIMUM_LIMIT_BYTES, 2).unwrap();
        assert!(plan.buffers >= 8, "{plan:?}");
        assert!(MemoryPlan::for_limit(MINIMUM_LIMIT_BYTES - 1, 2).is_err());
    }

    #[tokio::test]
    async fn a_dropped_buffer_is_used_again() {
        let pool = BufferPool::new(1, 4096);
        let first = pool.acquire().await;
        assert!(pool.try_acquire().is_none());
        let address = first.bytes.as_ptr();
        drop(first);
        assert_eq!(pool.acquire().await.bytes.as_ptr(), address);
    }
}
