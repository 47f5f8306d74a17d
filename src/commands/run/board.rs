//! What the scheduler knows of itself, for the metrics, the health address and the status page.
//!
//! It learns from the same events that are printed, and from a look at the repositories after each run; whoever asks over
//! HTTP reads it under one short lock and touches no store. Its size is bounded by the number of snapshots there are.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::commands::Status;
use crate::commands::run::{Event, What};
use crate::metrics::{Kind, Text, memory_bytes};
use crate::repository::Evidence;
use crate::retention::{RetentionPolicy, SnapshotFacts};

/// A run that is this late without having begun is a finding of the health address.
const OVERDUE: SignedDuration = SignedDuration::from_hours(1);

/// One snapshot of one repository.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) repository: String,
    pub(super) facts: SnapshotFacts,
    pub(super) finished: Timestamp,
    pub(super) raw_bytes: u64,
    pub(super) stored_bytes: u64,
}

/// How the last run of a task ended.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub(super) status: Status,
    pub(super) ended: Timestamp,
    pub(super) seconds: f64,
    pub(super) error: Option<String>,
}

/// What is known of a job, drill or rule.
#[derive(Debug, Clone)]
pub(super) struct TaskState {
    pub(super) what: What,
    pub(super) next: Option<Timestamp>,
    pub(super) running_since: Option<Timestamp>,
    pub(super) last: Option<Last>,
    pub(super) last_success: Option<Timestamp>,
    pub(super) failures: u32,
    pub(super) missed: u64,
    /// Runs by outcome: done, partial, failed.
    pub(super) runs: [u64; 3],
}

impl TaskState {
    fn new(what: What) -> Self {
        Self {
            what,
            next: None,
            running_since: None,
            last: None,
            last_success: None,
            failures: 0,
            missed: 0,
            runs: [0; 3],
        }
    }
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) host: String,
    pub(super) zone: Option<TimeZone>,
    pub(super) tasks: BTreeMap<String, TaskState>,
    pub(super) snapshots: Vec<Line>,
    pub(super) evidence: Vec<Evidence>,
    /// Keep rules by job and repository.
    pub(super) policies: BTreeMap<(String, String), RetentionPolicy>,
    pub(super) surveyed: Option<Timestamp>,
    pub(super) survey_error: Option<String>,
    expired: u64,
    swept: u64,
}

/// The shared state.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<State>);

impl Board {
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
                seconds,
                error,
                next,
                ..
            } => {
                let task = state.task(job, *what);
                task.running_since = None;
                task.next = *next;
                let (at, well) = match status {
                    Status::Done => (0, true),
                    Status::Partial => (1, false),
                    Status::Failed => (2, false),
                };
                if let Some(count) = task.runs.get_mut(at) {
                    *count += 1;
                }
                task.failures = if well { 0 } else { task.failures.saturating_add(1) };
                if well {
                    task.last_success = Some(now);
                }
                task.last = Some(Last {
                    status: *status,
                    ended: now,
                    seconds: *seconds,
                    error: error.clone(),
                });
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

    /// What is not well, in words; nothing when all is.
    pub(super) fn complaints(&self, now: Timestamp) -> Vec<String> {
        let state = self.lock();
        let mut complaints = Vec::new();
        for (name, task) in &state.tasks {
            let failed = task.last.as_ref().is_some_and(|last| last.status != Status::Done);
            let overdue = task.next.is_some_and(|next| now.duration_since(next) > OVERDUE);
            if failed {
                complaints.push(format!("{} {name}: the last run was not well", task.what.word()));
            } else if overdue && task.running_since.is_none() {
                complaints.push(format!("{} {name}: overdue", task.what.word()));
            }
        }
        complaints
    }

    /// Renders the metrics.
    pub(super) fn metrics(&self, now: Timestamp) -> String {
        let state = self.lock();
        let mut text = Text::default();
        state.task_metrics(&mut text);
        state.snapshot_metrics(&mut text, now);
        let (resident, peak) = memory_bytes();
        let gauge = Kind::Gauge;
        text.single(
            "wirevault_memory_bytes",
            gauge,
            "Resident memory of this process.",
            resident,
        );
        text.single(
            "wirevault_memory_peak_bytes",
            gauge,
            "Highest resident memory of this process.",
            peak,
        );
        let repeated = crate::storage::retry::repeated_calls();
        let (retries, help) = ("wirevault_store_retries_total", "Calls to stores that were repeated.");
        text.single(retries, Kind::Counter, help, Some(number(repeated)));
        let (expired, help) = (
            "wirevault_expired_snapshots_total",
            "Snapshots that the keep rules removed.",
        );
        text.single(expired, Kind::Counter, help, Some(number(state.expired)));
        let (swept, help) = (
            "wirevault_swept_objects_total",
            "Objects that no snapshot needed any more.",
        );
        text.single(swept, Kind::Counter, help, Some(number(state.swept)));
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        text.family(
            "wirevault_build_info",
            gauge,
            "The program's version.",
            [(version, 1.0)],
        );
        text.finish()
    }
}

impl State {
    pub(super) fn task(&mut self, name: &str, what: What) -> &mut TaskState {
        self.tasks
            .entry(name.to_owned())
            .or_insert_with(|| TaskState::new(what))
    }

    /// Days are those of this zone.
    pub(super) fn zone(&self) -> TimeZone {
        self.zone.clone().unwrap_or_else(TimeZone::system)
    }

    fn task_metrics(&self, text: &mut Text) {
        let labels =
            |name: &String, task: &TaskState| vec![("job", name.clone()), ("what", task.what.word().to_owned())];
        let mut family = |name: &str, kind, help: &str, value: &dyn Fn(&TaskState) -> Option<f64>| {
            let samples = self
                .tasks
                .iter()
                .filter_map(|(job, task)| Some((labels(job, task), value(task)?)));
            text.family(name, kind, help, samples);
        };
        let gauge = Kind::Gauge;
        family(
            "wirevault_last_success_timestamp_seconds",
            gauge,
            "End of the last run that was well.",
            &|t| t.last_success.map(seconds),
        );
        family(
            "wirevault_last_run_timestamp_seconds",
            gauge,
            "End of the last run of this process.",
            &|t| t.last.as_ref().map(|last| seconds(last.ended)),
        );
        family(
            "wirevault_last_run_success",
            gauge,
            "Whether the last run was well: 1, or 0.",
            &|t| {
                t.last
                    .as_ref()
                    .map(|last| f64::from(u8::from(last.status == Status::Done)))
            },
        );
        family(
            "wirevault_last_run_duration_seconds",
            gauge,
            "Duration of the last run.",
            &|t| t.last.as_ref().map(|last| last.seconds),
        );
        family(
            "wirevault_next_run_timestamp_seconds",
            gauge,
            "When it runs next.",
            &|t| t.next.map(seconds),
        );
        family("wirevault_running", gauge, "Whether it runs now.", &|t| {
            Some(f64::from(u8::from(t.running_since.is_some())))
        });
        family(
            "wirevault_failures_in_a_row",
            gauge,
            "Runs since the last one that was well.",
            &|t| Some(f64::from(t.failures)),
        );
        family(
            "wirevault_missed_runs_total",
            Kind::Counter,
            "Times that passed without a run.",
            &|t| Some(number(t.missed)),
        );
        let runs = self.tasks.iter().flat_map(|(job, task)| {
            ["done", "partial", "failed"]
                .into_iter()
                .zip(task.runs)
                .map(move |(status, count)| {
                    let mut labels = labels(job, task);
                    labels.push(("status", status.to_owned()));
                    (labels, number(count))
                })
        });
        text.family(
            "wirevault_runs_total",
            Kind::Counter,
            "Runs of this process by outcome.",
            runs,
        );
    }

    fn snapshot_metrics(&self, text: &mut Text, now: Timestamp) {
        let mut groups: BTreeMap<(&str, &str, &str), Vec<&Line>> = BTreeMap::new();
        for line in &self.snapshots {
            let key = (
                line.repository.as_str(),
                line.facts.host.as_str(),
                line.facts.job.as_str(),
            );
            groups.entry(key).or_default().push(line);
        }
        let mut family = |name: &str, help: &str, value: &dyn Fn(&[&Line]) -> Option<f64>| {
            let samples = groups.iter().filter_map(|((repository, host, job), lines)| {
                let labels = vec![
                    ("repository", (*repository).to_owned()),
                    ("host", (*host).to_owned()),
                    ("job", (*job).to_owned()),
                ];
                Some((labels, value(lines)?))
            });
            text.family(name, Kind::Gauge, help, samples);
        };
        let newest = |lines: &[&Line]| {
            lines
                .iter()
                .rev()
                .find(|line| line.facts.is_complete())
                .map(|line| (*line).clone())
        };
        family("wirevault_snapshots", "Snapshots in the repository.", &|lines| {
            Some(number(u64::try_from(lines.len()).unwrap_or(u64::MAX)))
        });
        family("wirevault_stored_bytes", "Stored bytes of all snapshots.", &|lines| {
            Some(number(lines.iter().map(|line| line.stored_bytes).sum()))
        });
        family(
            "wirevault_newest_snapshot_timestamp_seconds",
            "Start of the newest complete snapshot.",
            &|lines| newest(lines).map(|line| seconds(line.facts.started)),
        );
        family(
            "wirevault_newest_snapshot_age_seconds",
            "Age of the newest complete snapshot.",
            &|lines| newest(lines).map(|line| now.duration_since(line.facts.started).as_secs_f64()),
        );
        family(
            "wirevault_newest_snapshot_stored_bytes",
            "Stored bytes of the newest complete snapshot.",
            &|lines| newest(lines).map(|line| number(line.stored_bytes)),
        );
        family(
            "wirevault_newest_snapshot_raw_bytes",
            "Bytes read for the newest complete snapshot.",
            &|lines| newest(lines).map(|line| number(line.raw_bytes)),
        );
        family(
            "wirevault_newest_snapshot_duration_seconds",
            "Duration of the newest complete snapshot.",
            &|lines| newest(lines).map(|line| line.finished.duration_since(line.facts.started).as_secs_f64()),
        );
        family(
            "wirevault_verified_timestamp_seconds",
            "When a snapshot was last proven undamaged.",
            &|lines| {
                let ours = |e: &&Evidence| lines.iter().any(|line| line.facts.id == e.snapshot) && is_well(e);
                self.evidence
                    .iter()
                    .filter(ours)
                    .map(|e| seconds(e.time))
                    .reduce(f64::max)
            },
        );
    }
}

/// Whether evidence found no damage.
pub(super) fn is_well(evidence: &Evidence) -> bool {
    let empty = |key| {
        evidence
            .proved
            .get(key)
            .and_then(serde_json::Value::as_array)
            .is_none_or(Vec::is_empty)
    };
    empty("damage") && empty("refused")
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

/// As Prometheus has numbers: exact up to 2^53.
#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a sample is a double")]
fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_complaint_until_a_run_is_well() {
        let board = Board::default();
        let now = Timestamp::UNIX_EPOCH;
        let ended = |status| Event::Ended {
            what: What::Backup,
            job: "full".into(),
            status,
            seconds: 2.5,
            error: None,
            hint: None,
            next: None,
            repeats: false,
        };
        board.observe(&ended(Status::Failed), now);
        assert_eq!(board.complaints(now).len(), 1);
        assert!(
            board
                .metrics(now)
                .contains("wirevault_failures_in_a_row{job=\"full\",what=\"backup\"} 1\n")
        );
        board.observe(&ended(Status::Done), now);
        assert_eq!(board.complaints(now).len(), 0);
        let text = board.metrics(now);
        assert!(
            text.contains("wirevault_runs_total{job=\"full\",what=\"backup\",status=\"failed\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("wirevault_last_run_duration_seconds{job=\"full\",what=\"backup\"} 2.5\n"),
            "{text}"
        );
        assert!(!text.contains("next_run"), "{text}");
    }
}
