//! How the library tells what it does. It never prints: terminal, log, JSON and tests each implement [`Reporter`].

pub mod tail;

use std::fmt::Debug;
use std::sync::Arc;

use crate::base::raw_text::printable;

/// Something worth telling that does not end the work: a file that vanished, a degraded privilege.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Note {
    /// Short machine-readable class, e.g. `changed`, `vanished`, `skipped-socket`, `degraded`.
    pub code: String,
    /// The object concerned, as text (bytes that are no UTF-8 are escaped).
    pub object: String,
    /// What happened, one sentence fragment in the error style.
    pub message: String,
}

impl Note {
    /// Makes a note.
    pub fn new(code: impl Into<String>, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            object: printable(object.into()),
            message: printable(message.into()),
        }
    }
}

/// Receives progress and notes. Calls are cheap and never block; they may come from any thread.
pub trait Reporter: Send + Sync + Debug {
    /// A source (or other long task) begins; `total_bytes` is an estimate of raw bytes, if there is one.
    fn begin(&self, task: &str, total_bytes: Option<u64>);
    /// The task enters a named phase ("schema", "data", "indexes").
    fn phase(&self, task: &str, phase: &str);
    /// `raw_bytes` more have been read (backup) or written (restore), and `items` more finished.
    fn advance(&self, task: &str, raw_bytes: u64, items: u64);
    /// Something worth telling.
    fn note(&self, task: &str, note: Note);
    /// The task ended; `ok` tells whether it succeeded.
    fn end(&self, task: &str, ok: bool);
}

/// A shared reporter.
pub type SharedReporter = Arc<dyn Reporter>;

/// Discards everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Reporter for Silent {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn phase(&self, _: &str, _: &str) {}
    fn advance(&self, _: &str, _: u64, _: u64) {}
    fn note(&self, _: &str, _: Note) {}
    fn end(&self, _: &str, _: bool) {}
}

/// Returns a reporter that discards everything.
pub fn silent() -> SharedReporter {
    Arc::new(Silent)
}
