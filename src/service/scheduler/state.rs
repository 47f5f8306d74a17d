//! What the scheduler knows of itself, for the metrics, the health address and the status page.
//!
//! It learns from the same events that are printed, and from a look at the repositories after each run; whoever asks over
//! HTTP reads it under one short lock and touches no store. Its size is bounded by the number of snapshots there are.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::base::units::format_duration;
use crate::operations::Status;
use crate::operations::log::progress::Watched;
use crate::policy::health::{self, Facts, Finding, Health, State as Verdict, TaskHealth, Verification};
use crate::policy::retention::{RetentionPolicy, SnapshotFacts};
use crate::repository::{Evidence, RunRecord};
use crate::service::scheduler::receivers::Pair;
use crate::service::scheduler::{Event, TaskKind};

/// Records of this process that are remembered beside those that are stored.
const REMEMBERED: usize = 200;

/// One snapshot of one repository.
#[derive(Debug, Clone)]
pub(super) struct SnapshotLine {
    pub(super) repository: String,
    pub(super) facts: SnapshotFacts,
    pub(super) finished: Timestamp,
    pub(super) raw_bytes: u64,
    pub(super) stored_bytes: u64,
}

/// What is known of a job, drill or rule.
#[derive(Debug, Clone)]
pub(super) struct TaskState {
    pub(super) what: TaskKind,
    pub(super) next: Option<Timestamp>,
    pub(super) running_since: Option<Timestamp>,
    /// Its last run and those before, by the records.
    pub(super) known: Option<TaskHealth>,
    pub(super) last_success: Option<Timestamp>,
    pub(super) missed: u64,
    /// Runs by outcome: done, partial, failed.
    pub(super) runs: [u64; 3],
}

impl TaskState {
    fn new(what: TaskKind) -> Self {
        Self {
            what,
            next: None,
            running_since: None,
            known: None,
            last_success: None,
            missed: 0,
            runs: [0; 3],
        }
    }

    pub(super) fn last(&self) -> Option<&RunRecord> {
        self.known.as_ref().map(|known| &known.last)
    }
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) host: String,
    pub(super) zone: Option<TimeZone>,
    pub(super) tasks: BTreeMap<String, TaskState>,
    pub(super) snapshots: Vec<SnapshotLine>,
    pub(super) evidence: Vec<Evidence>,
    /// Keep rules by job and repository.
    pub(super) policies: BTreeMap<(String, String), RetentionPolicy>,
    pub(super) surveyed: Option<Timestamp>,
    /// What is known of each repository, by its name; nothing before the first look.
    pub(super) facts: BTreeMap<String, Facts>,
    /// How the receivers of logs are getting on, by source and repository.
    pub(super) logs: BTreeMap<Pair, Watched>,
    /// Whether other hosts' jobs are judged too: by a process that has none of its own.
    pub(super) judges_others: bool,
    /// Which configuration this is.
    pub(super) configuration: String,
    made: Vec<RunRecord>,
    pub(super) expired: u64,
    pub(super) swept: u64,
}

/// The shared state.
#[derive(Debug, Default)]
pub(super) struct SchedulerState(Mutex<State>);

impl SchedulerState {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic happens under this lock")
    }

    /// Learns from an event.
    pub(super) fn observe(&self, event: &Event, now: Timestamp) {
        let mut state = self.lock();
        match event {
            Event::Planned { what, job, next } => state.task(job, *what).next = *next,
            Event::Begun { what, job, missed, .. } => {
                let task = state.task(job, *what);
                task.running_since = Some(now);
                task.missed += u64::from(*missed);
            }
            Event::Ended {
                what,
                job,
                status,
                next,
                ..
            } => {
                let task = state.task(job, *what);
                task.running_since = None;
                task.next = *next;
                let at = match status {
                    Status::Done => 0,
                    Status::Partial => 1,
                    Status::Failed => 2,
                };
                if let Some(count) = task.runs.get_mut(at) {
                    *count += 1;
                }
            }
            Event::Pruned { expired, swept, .. } => {
                state.expired += expired;
                state.swept += swept;
            }
            _ => {}
        }
    }

    /// Forgets tasks that a new configuration does not have.
    pub(super) fn keep_tasks(&self, names: &[&str]) {
        self.lock().tasks.retain(|name, _| names.contains(&name.as_str()));
    }

    /// Remembers the record of a run, for the case that it can be stored nowhere.
    pub(super) fn keep(&self, record: RunRecord, now: Timestamp) {
        let mut state = self.lock();
        if state.made.len() == REMEMBERED {
            state.made.remove(0);
        }
        state.made.push(record);
        state.refresh(now);
    }

    /// Replaces what is known of the repositories.
    pub(super) fn learn(&self, facts: BTreeMap<String, Facts>, now: Timestamp) {
        let mut state = self.lock();
        state.facts = facts;
        state.surveyed = Some(now);
        state.refresh(now);
    }

    /// Whether the last look did not reach a repository.
    pub(super) fn misses_a_repository(&self) -> bool {
        self.lock().facts.values().any(|facts| facts.away.is_some())
    }

    /// How things stand: the worst state, and what is not well.
    pub(super) fn verdict(&self, now: Timestamp) -> (Verdict, Vec<String>) {
        self.lock().verdict(now)
    }
}

impl State {
    pub(super) fn task(&mut self, name: &str, what: TaskKind) -> &mut TaskState {
        self.tasks
            .entry(name.to_owned())
            .or_insert_with(|| TaskState::new(what))
    }

    /// Judges each repository now.
    pub(super) fn healths(&self, now: Timestamp) -> Vec<Health> {
        let ours =
            |finding: &Finding| self.judges_others || finding.host.as_ref().is_none_or(|host| *host == self.host);
        let judge = |facts: &Facts| {
            let mut health = health::assess(facts, now);
            health.findings.retain(ours);
            health
        };
        self.facts.values().map(judge).collect()
    }

    /// The worst state, and what is not well, once for all repositories of which it is true.
    pub(super) fn verdict(&self, now: Timestamp) -> (Verdict, Vec<String>) {
        if self.facts.is_empty() {
            return (
                Verdict::Unknown,
                vec!["the repositories have not been checked yet".to_owned()],
            );
        }
        let healths = self.healths(now);
        let mut said: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for health in &healths {
            for finding in &health.findings {
                said.entry(finding.to_string()).or_default().push(&health.repository);
            }
        }
        let line = |(text, repositories): (String, Vec<&str>)| {
            if repositories.len() == healths.len() || text.starts_with("repository ") {
                text
            } else {
                format!("{text} (in repository {})", repositories.join(", "))
            }
        };
        let mut worst = healths.iter().map(Health::state).max().unwrap_or(Verdict::Ok);
        let mut said: Vec<String> = said.into_iter().map(line).collect();
        let late = self.logs.iter().filter_map(|(pair, watched)| late(pair, watched));
        for complaint in late {
            worst = worst.max(Verdict::Overdue);
            said.push(complaint);
        }
        (worst, said)
    }

    /// Brings what the records say of each task up to date.
    fn refresh(&mut self, now: Timestamp) {
        for facts in self.facts.values_mut() {
            for made in &self.made {
                if !facts.runs.iter().any(|run| run.is_of_the_run(made)) {
                    facts.runs.push(made.clone());
                }
            }
        }
        let healths = self.healths(now);
        let tasks: Vec<TaskHealth> = healths.into_iter().flat_map(|health| health.tasks).collect();
        for (name, state) in &mut self.tasks {
            let of = tasks
                .iter()
                .filter(|task| task.last.host == self.host && task.last.task == state.what && task.last.name == *name);
            // A repository that lags behind has older ones.
            state.known = of.max_by_key(|task| task.last.ended).cloned();
            let success = state.known.as_ref().and_then(|known| known.last_success);
            state.last_success = state.last_success.max(success);
        }
    }

    /// Days are those of this zone.
    pub(super) fn zone(&self) -> TimeZone {
        self.zone.clone().unwrap_or_else(TimeZone::system)
    }
}

/// A log that lags further behind is a complaint.
const LATE: Duration = Duration::from_secs(300);

/// Says of a log that it lags behind, or is of no use.
fn late((source, repository): &Pair, watched: &Watched) -> Option<String> {
    let progress = watched.lock();
    let lag = progress.lag();
    if lag > LATE {
        let error = progress.error().map(|error| format!(": {error}"));
        return Some(format!(
            "log of {source}: what repository {repository} has is {} behind{}",
            format_duration(lag),
            error.unwrap_or_default()
        ));
    }
    let complaint = progress.complaint()?;
    Some(format!("log of {source}, repository {repository}: {complaint}"))
}

/// Whether evidence proves what it was to prove, of every source.
pub(super) fn is_well(evidence: &Evidence) -> bool {
    Verification::of_document(&evidence.proved).is_some_and(|came| came.claim().is_some())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::repository::RunOutcome;

    /// A state of one repository, without jobs.
    pub(in crate::service::scheduler) fn state() -> SchedulerState {
        let state = SchedulerState::default();
        "web1".clone_into(&mut state.lock().host);
        let mut facts = Facts::default();
        facts.expected.jobs = Some(Vec::new());
        state.learn([("near".to_owned(), facts)].into(), Timestamp::UNIX_EPOCH);
        state
    }

    pub(in crate::service::scheduler) fn record(
        outcome: RunOutcome,
        error: Option<&str>,
        ended: Timestamp,
    ) -> RunRecord {
        RunRecord {
            format: 1,
            host: "web1".into(),
            task: TaskKind::Backup,
            name: "full".into(),
            started: Timestamp::UNIX_EPOCH,
            ended,
            outcome,
            error: error.map(str::to_owned),
            hint: None,
            log: vec![],
            snapshots: vec![],
            sources: vec![],
            schedule: None,
            program: "test".into(),
        }
    }

    #[test]
    fn nothing_is_claimed_before_the_first_look() {
        let state = SchedulerState::default();
        let (verdict, complaints) = state.verdict(Timestamp::UNIX_EPOCH);
        assert_eq!((verdict, complaints.len()), (Verdict::Unknown, 1));
        assert!(state.metrics(Timestamp::UNIX_EPOCH).contains("wirevault_ok 0\n"));
    }

    #[test]
    fn a_failure_is_a_complaint_until_a_run_is_well() {
        let state = state();
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        let ended = |status| Event::Ended {
            what: TaskKind::Backup,
            job: "full".into(),
            status,
            seconds: 2.5,
            error: None,
            hint: None,
            next: None,
            repeats: false,
        };
        state.observe(&ended(Status::Failed), at(2));
        state.keep(record(RunOutcome::Failed, None, at(2)), at(2));
        assert_eq!(state.verdict(at(2)).1, ["job full: the last run failed"]);
        assert!(
            state
                .metrics(at(2))
                .contains("wirevault_consecutive_failures{job=\"full\",what=\"backup\"} 1\n")
        );
        state.observe(&ended(Status::Done), at(4));
        state.keep(record(RunOutcome::Done, None, at(4)), at(4));
        assert_eq!(state.verdict(at(4)), (Verdict::Ok, vec![]));
        let text = state.metrics(at(4));
        for line in [
            "wirevault_ok 1",
            "wirevault_runs_total{job=\"full\",what=\"backup\",status=\"failed\"} 1",
            "wirevault_last_run_duration_seconds{job=\"full\",what=\"backup\"} 4",
            "wirevault_last_success_timestamp_seconds{job=\"full\",what=\"backup\"} 4",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{text}");
        }
        assert!(!text.contains("next_run"), "{text}");
    }
}
