//! The workers and buffers that all archives of a process share.

use std::sync::Arc;

use crate::memory::{BufferPool, MemoryPlan};

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
}

impl Pipeline {
    /// Starts the workers.
    pub fn start(plan: MemoryPlan) -> Self {
        let pool = BufferPool::for_plan(&plan);
        Self {
            plan: Arc::new(plan),
            pool,
        }
    }
}
