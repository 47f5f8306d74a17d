//! How a receiver is getting on, for whoever watches it: the status page, the metrics.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Positions that are remembered with their time, one a second.
const MARKS: usize = 3600;

/// What is known of a receiver.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Whether the log is coming.
    pub connected: bool,
    /// The system identifier of PostgreSQL; None before the first, and of others.
    pub system: Option<u64>,
    /// The timeline of PostgreSQL that is received, or the replication ID of Redis; empty before the first.
    pub line: String,
    /// How far the server's log goes, as far as it has said: bytes of the log before that.
    pub written: u64,
    /// How far it is in the repository.
    pub kept: u64,
    /// The same as the server prints it.
    pub kept_text: String,
    /// How much of its log the server keeps for whoever has not stored it yet, where that has a bound.
    pub server_keeps: Option<u64>,
    /// Connections that were lost.
    pub reconnects: u64,
    /// Gaps that it met.
    pub gaps: u64,
    /// Bytes of the objects that it made.
    pub stored_bytes: u64,
    /// Why it is not connected.
    unheard: Option<String>,
    /// Why it does not store.
    pub(super) unstored: Option<String>,
    /// What else is not as it should be, and leaves what is stored without use.
    pub(super) complaint: Option<String>,
    /// Since when it is not connected.
    apart: Option<Instant>,
    /// Positions that are not in the repository yet, and when the server was first known to have come there.
    marks: VecDeque<(u64, Instant)>,
}

impl Progress {
    /// Returns how old the oldest thing is that the repository does not have; at least how long the server was not heard.
    pub fn lag(&self) -> Duration {
        let oldest = self.marks.front().map(|(_, at)| *at);
        let since = oldest.into_iter().chain(self.apart).min();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Returns the bytes of the server's log that are not in the repository.
    pub fn behind_bytes(&self) -> u64 {
        self.written.saturating_sub(self.kept)
    }

    /// Returns what is wrong, if something is.
    pub fn error(&self) -> Option<&str> {
        let all = [&self.unheard, &self.unstored, &self.complaint];
        all.into_iter().find_map(Option::as_deref)
    }

    /// Returns what is wrong although the log comes and is stored.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Takes note that a receiver begins: what the one before had to complain of is over.
    pub fn begins(&mut self) {
        (self.unstored, self.complaint) = (None, None);
    }

    /// Takes note that the log is coming: on which line, and how far.
    pub(super) fn reached(&mut self, line: String, written: u64, kept: u64, kept_text: String) {
        if self.line != line {
            self.marks.clear();
        }
        (self.connected, self.apart, self.unheard, self.line) = (true, None, None, line);
        (self.written, self.kept, self.kept_text) = (written, kept, kept_text);
        while self.marks.front().is_some_and(|(at, _)| *at <= kept) {
            self.marks.pop_front();
        }
        let is_new = self.marks.back().is_none_or(|(at, _)| *at < written);
        if written > kept && is_new && self.marks.len() < MARKS {
            self.marks.push_back((written, Instant::now()));
        }
    }

    /// Takes note that the log is not coming, and why.
    pub fn lost(&mut self, error: Option<String>) {
        self.connected = false;
        self.apart.get_or_insert_with(Instant::now);
        self.unheard = error;
    }
}

/// What a receiver tells, and others read.
#[derive(Debug, Clone, Default)]
pub struct Watched(Arc<Mutex<Progress>>);

impl Watched {
    /// Locks it for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_thing_that_is_not_stored_says_how_far_it_lags() {
        let mut progress = Progress::default();
        assert_eq!(progress.lag(), Duration::ZERO);
        progress.lost(Some("refused".to_owned()));
        let apart = progress.lag();
        assert!(apart > Duration::ZERO && !progress.connected);
        // What is stored does not bring the connection back.
        progress.unstored = Some("503".to_owned());
        progress.unstored = None;
        assert_eq!(progress.error(), Some("refused"));
        let reached = |progress: &mut Progress, written: u64, kept: u64| {
            progress.reached("1".to_owned(), written, kept, kept.to_string());
        };
        reached(&mut progress, 10, 10);
        assert_eq!((progress.lag(), progress.behind_bytes()), (Duration::ZERO, 0));
        assert_eq!(progress.error(), None);
        for received in 11..20 {
            reached(&mut progress, received, 10);
        }
        assert_eq!((progress.marks.len(), progress.behind_bytes()), (9, 9));
        reached(&mut progress, 20, 18);
        assert_eq!(progress.marks.front().map(|(at, _)| *at), Some(19));
        reached(&mut progress, 20, 20);
        assert_eq!(progress.lag(), Duration::ZERO);
    }
}
