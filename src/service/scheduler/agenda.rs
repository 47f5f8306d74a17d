//! What the scheduler does next. Nothing here reads a clock, sleeps or touches a store: each decision is about a [`Moment`].
//!
//! A clock that is set must cost no run and bring none twice. Set forward, what passed is caught up once, for a machine that
//! slept looks the same. Set back by little, what ran already has had its time. Set back by more than that, the time of day
//! was wrong when it ran: its last run was as long ago as has really passed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use super::task::Task;
use crate::base::clock::Moment;
use crate::base::exact;
use crate::policy::schedule::{Next, Why};
use crate::repository::CLOCK_TOLERANCE;

/// The longest pause without a look at the clock.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Repositories are looked at for the status page at most, and at least, this often.
const LOOK_AT_MOST: Duration = Duration::from_secs(10);
const LOOK_AT_LEAST: Duration = Duration::from_secs(30 * 60);

/// One that could not be reached is looked for this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Keep rules are applied at least this often, and first this long after the start.
const PRUNE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
const FIRST_PRUNE: Duration = Duration::from_secs(60 * 60);

/// Data without a snapshot are swept after a job's run at most this often in each repository.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);

/// The tasks, and when they are due.
#[derive(Debug)]
pub(super) struct Agenda {
    pub(super) tasks: Vec<Task>,
    /// When the clocks were last compared.
    compared: Moment,
}

impl Agenda {
    pub(super) fn new(tasks: Vec<Task>, now: Moment) -> Self {
        Self { tasks, compared: now }
    }

    /// The task that has waited longest, if one is due.
    pub(super) fn due(&mut self, now: Moment) -> Option<(usize, Next)> {
        let set_back = set_back(self.compared, now);
        self.compared = now;
        for task in &mut self.tasks {
            task.settle(now, set_back);
        }
        let planned = self.tasks.iter().enumerate();
        let due = planned.filter_map(|(at, task)| Some((at, task.next(now)?)));
        // What brings repositories up to date waits for everything that has its time.
        due.filter(|(_, next)| next.at <= now.now)
            .min_by_key(|(_, next)| (next.why == Why::Behind, next.at))
    }

    /// How long nothing is due, in steps that are short enough to notice a clock that is set. `news` are yet to be looked at.
    pub(super) fn pause(&self, now: Moment, news: bool) -> Duration {
        let nearest = self.tasks.iter().filter_map(|task| Some(task.next(now)?.at)).min();
        // One that became due meanwhile is not waited for.
        let until = nearest.map(|at| at.duration_since(now.now).max(SignedDuration::ZERO).unsigned_abs());
        let longest = if news { LOOK_AT_MOST } else { LONGEST_WAIT };
        until.map_or(longest, |until| until.min(longest))
    }
}

/// Returns by how much the time of day was set back between two moments, if by more than clocks may differ.
fn set_back(before: Moment, after: Moment) -> Option<SignedDuration> {
    let passed = exact::saturating_signed(after.instant.saturating_duration_since(before.instant));
    let by = passed.saturating_sub(after.now.duration_since(before.now));
    (by > CLOCK_TOLERANCE).then_some(by)
}

/// Whether the repositories are to be looked at again, when the last look was so long `ago`: there are `news`, or one was `away`.
pub(super) fn is_look_due(ago: Option<Duration>, news: bool, away: bool) -> bool {
    let least = match (news, away) {
        (true, _) => LOOK_AT_MOST,
        (false, true) => LOOK_AGAIN,
        (false, false) => LOOK_AT_LEAST,
    };
    ago.is_none_or(|ago| ago >= least)
}

/// When keep rules are applied to jobs that did not run, and repositories swept.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// When keep rules are applied next, by job.
    prune_at: BTreeMap<String, Instant>,
    /// When data without a snapshot were last swept, by repository.
    swept: BTreeMap<String, Instant>,
}

impl Turns {
    /// Returns a job whose turn it is. One that is asked about for the first time has some time yet.
    pub(super) fn next_prune<'a>(&mut self, jobs: impl Iterator<Item = &'a str>, now: Instant) -> Option<&'a str> {
        let mut due = None;
        for job in jobs {
            let at = self.prune_at.entry(job.to_owned()).or_insert(now + FIRST_PRUNE);
            if *at <= now {
                due = due.or(Some(job));
            }
        }
        due
    }

    /// Takes note that a job's keep rules are applied.
    pub(super) fn pruned(&mut self, job: &str, now: Instant) {
        self.prune_at.insert(job.to_owned(), now + PRUNE_EVERY);
    }

    /// Whether a repository was swept a short while ago.
    pub(super) fn is_swept(&self, repository: &str, now: Instant) -> bool {
        let ago = self
            .swept
            .get(repository)
            .map(|swept| now.saturating_duration_since(*swept));
        ago.is_some_and(|ago| ago < SWEEP_EVERY)
    }

    /// Takes note that a repository was swept.
    pub(super) fn swept(&mut self, repository: &str, now: Instant) {
        self.swept.insert(repository.to_owned(), now);
    }
}

#[cfg(test)]
mod tests;
