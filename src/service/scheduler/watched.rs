//! A reporter that also knows when something last moved.

use std::sync::Mutex;
use std::time::Instant;

use crate::base::clock::SharedClock;
use crate::base::report::{Note, Reporter, SharedReporter};

/// Passes everything on.
#[derive(Debug)]
pub(super) struct Watched {
    inner: SharedReporter,
    clock: SharedClock,
    moved: Mutex<Instant>,
}

impl Watched {
    pub(super) fn new(inner: SharedReporter, clock: SharedClock) -> Self {
        Self {
            inner,
            moved: Mutex::new(clock.instant()),
            clock,
        }
    }

    /// When something last moved.
    pub(super) fn moved(&self) -> Instant {
        *self.moved.lock().expect("no panic happens under this lock")
    }

    fn moves(&self) {
        *self.moved.lock().expect("no panic happens under this lock") = self.clock.instant();
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
