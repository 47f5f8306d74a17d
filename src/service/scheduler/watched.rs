//! A reporter that also knows when something last moved.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::base::report::{Note, Reporter, SharedReporter};

/// Passes everything on.
#[derive(Debug)]
pub(super) struct Watched {
    inner: SharedReporter,
    moved: Mutex<Instant>,
}

impl Watched {
    pub(super) fn new(inner: SharedReporter) -> Self {
        Self {
            inner,
            moved: Mutex::new(Instant::now()),
        }
    }

    /// For how long nothing has moved.
    pub(super) fn idle(&self) -> Duration {
        self.moved.lock().expect("no panic happens under this lock").elapsed()
    }

    fn moves(&self) {
        *self.moved.lock().expect("no panic happens under this lock") = Instant::now();
    }
}

impl Reporter for Watched {
    fn begin(&self, task: &str, total_bytes: Option<u64>) {
        self.moves();
        self.inner.begin(task, total_bytes);
    }
    fn phase(&self, task: &str, phase: &str) {
        self.moves();
        self.inner.phase(task, phase);
    }
    fn advance(&self, task: &str, raw_bytes: u64, items: u64) {
        if raw_bytes > 0 || items > 0 {
            self.moves();
        }
        self.inner.advance(task, raw_bytes, items);
    }
    fn note(&self, task: &str, note: Note) {
        self.inner.note(task, note);
    }
    fn end(&self, task: &str, ok: bool) {
        self.moves();
        self.inner.end(task, ok);
    }
}
