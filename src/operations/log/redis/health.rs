//! How well a log is received: what is told to whoever watches, and what is not as it should be at the end.

use std::time::{Duration, Instant};

use crate::base::exact;
use crate::operations::log::progress::{Progress, Watched};
use crate::operations::log::redis::link::Link;
use crate::operations::log::redis::receive::Receiver;

/// A log that no snapshot has begun, or that has no time marks, for so long is worth a complaint.
const BASELESS: Duration = Duration::from_secs(300);

/// What the receivers before this one have counted.
pub(super) struct Counted {
    reconnects: u64,
    gaps: u64,
    stored_bytes: u64,
}

impl Counted {
    pub(super) fn of(watched: &Watched) -> Self {
        let progress = watched.lock();
        Self {
            reconnects: progress.reconnects,
            gaps: progress.gaps,
            stored_bytes: progress.stored_bytes,
        }
    }
}

impl Receiver<'_> {
    /// Returns what is not as it should be, beside what is counted.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.was_up {
            let why = self
                .last_error
                .as_deref()
                .unwrap_or("it was ended before there was a connection");
            problems.push(format!("nothing came of the server: {why}"));
        }
        if let Some(lost) = &self.lost {
            let why = lost.why.told();
            problems.push(format!(
                "nothing that the server wrote since {} was known is in the log: {why}",
                lost.known
            ));
        }
        problems.extend(self.lacks_base());
        problems.extend(self.lacks_marks());
        problems
    }

    /// Returns what to say of a log that has had no time marks for long.
    fn lacks_marks(&self) -> Option<String> {
        let (last, behind) = self.follower.as_ref()?.early()?;
        (behind >= BASELESS).then(|| {
            format!(
                "no time marks for {} minutes, because the clock lies behind the last one, of {last}: until then --at leads to what was before it, and --offset to the rest",
                behind.as_secs() / 60
            )
        })
    }

    /// Returns what to say of a log that no snapshot has begun for long.
    fn lacks_base(&self) -> Option<String> {
        let since = self.baseless.filter(|since| since.elapsed() >= BASELESS)?;
        let minutes = since.elapsed().as_secs() / 60;
        Some(format!(
            "no snapshot has begun the log for {minutes} minutes: nothing of it can be restored by itself"
        ))
    }

    /// Looks whether a snapshot begins the log, and complains where there is none for long.
    pub(super) fn look_at_base(&mut self) {
        let lacks_base = self
            .follower
            .as_ref()
            .is_some_and(|follower| follower.branch.base.is_none());
        if lacks_base {
            self.baseless.get_or_insert_with(Instant::now);
        } else {
            self.baseless = None;
        }
        let complaint = self.lacks_base().or_else(|| self.lacks_marks());
        self.watch(|progress| progress.complaint = complaint);
    }

    /// Brings what is known of it up to date for whoever watches.
    pub(super) fn watch(&self, tell: impl FnOnce(&mut Progress)) {
        let mut progress = self.watched.lock();
        let (before, gaps) = (&self.before, exact::u64_from(self.report.gaps.len()));
        progress.reconnects = before.reconnects.saturating_add(self.reconnects);
        progress.gaps = before.gaps.saturating_add(gaps);
        progress.stored_bytes = before.stored_bytes.saturating_add(self.report.stored_bytes);
        if let (Some(follower), Link::Up(_)) = (&self.follower, &self.link) {
            let (id, stored) = (&follower.branch.id, follower.stored());
            progress.reached(id.to_string(), follower.written(), stored, stored.to_string());
        }
        tell(&mut progress);
    }
}
