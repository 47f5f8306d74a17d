//! What `/metrics` shows of the state.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::state::{SchedulerState, SnapshotLine, State, TaskState, is_well};
use crate::base::exact;
use crate::operations::log::progress::Progress;
use crate::policy::health::{SourceHealth, State as Verdict};
use crate::repository::{Evidence, RunOutcome, RunRecord, is_ahead};
use crate::service::metrics::{Kind, Text, memory_bytes};

impl SchedulerState {
    /// Renders the metrics.
    pub(super) fn metrics(&self, now: Timestamp) -> String {
        let state = self.lock();
        let mut text = Text::default();
        state.task_metrics(&mut text);
        state.snapshot_metrics(&mut text, now);
        state.health_metrics(&mut text, now);
        state.log_metrics(&mut text);
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
        let (retries, help) = ("wirevault_store_retries_total", "Calls to stores that were retried.");
        text.single(retries, Kind::Counter, help, Some(number(repeated)));
        let (expired, help) = (
            "wirevault_expired_snapshots_total",
            "Snapshots removed by the keep rules.",
        );
        text.single(expired, Kind::Counter, help, Some(number(state.expired)));
        let (swept, help) = (
            "wirevault_swept_objects_total",
            "Objects removed because no snapshot needs them.",
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
    fn log_metrics(&self, text: &mut Text) {
        let mut family = |name: &str, kind, help: &str, value: &dyn Fn(&Progress) -> f64| {
            let samples = self.logs.iter().map(|((source, repository), watched)| {
                let labels = vec![("source", source.clone()), ("repository", repository.clone())];
                (labels, value(&watched.lock()))
            });
            text.family(name, kind, help, samples);
        };
        let (gauge, counter) = (Kind::Gauge, Kind::Counter);
        let help = "Whether the log of the source is being received: 1, or 0.";
        family("wirevault_log_receiving", gauge, help, &|log| flag(log.connected));
        let help = "Age of the oldest part of the log that the repository does not have, or how long the server was not heard.";
        family("wirevault_log_lag_seconds", gauge, help, &|log| log.lag().as_secs_f64());
        let help = "Bytes of the log that were received and that the repository does not have.";
        family("wirevault_log_lag_bytes", gauge, help, &|log| {
            number(log.behind_bytes())
        });
        let help = "Bytes that the server keeps at most for whoever has not stored them (max_slot_wal_keep_size, repl-backlog-size); -1 without a bound.";
        family("wirevault_log_server_keeps_bytes", gauge, help, &|log| {
            log.server_keeps.map_or(-1.0, number)
        });
        let help = "Position in the log up to which the repository has it, in bytes.";
        family("wirevault_log_stored_position_bytes", gauge, help, &|log| {
            number(log.kept)
        });
        let help = "Parts of the log that the server had removed before they were received.";
        family("wirevault_log_gaps_total", counter, help, &|log| number(log.gaps));
        let help = "Connections to the server that were lost.";
        family("wirevault_log_reconnects_total", counter, help, &|log| {
            number(log.reconnects)
        });
        let help = "Bytes of objects that hold the log.";
        family("wirevault_log_stored_bytes_total", counter, help, &|log| {
            number(log.stored_bytes)
        });
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
            "End of the last complete run.",
            &|t| t.last_success.map(seconds),
        );
        family(
            "wirevault_last_run_timestamp_seconds",
            gauge,
            "End of the last run.",
            &|t| t.last().map(|last| seconds(last.ended)),
        );
        family(
            "wirevault_last_run_success",
            gauge,
            "Whether the last run was complete: 1, or 0.",
            &|t| t.last().map(|last| flag(last.outcome == RunOutcome::Done)),
        );
        family(
            "wirevault_last_run_duration_seconds",
            gauge,
            "Duration of the last run.",
            &|t| t.last().map(RunRecord::seconds),
        );
        family(
            "wirevault_next_run_timestamp_seconds",
            gauge,
            "When it runs next.",
            &|t| t.next.map(seconds),
        );
        family("wirevault_running", gauge, "Whether it runs now.", &|t| {
            Some(flag(t.running_since.is_some()))
        });
        family(
            "wirevault_consecutive_failures",
            gauge,
            "Runs since the last complete one.",
            &|t| Some(t.known.as_ref().map_or(0.0, |known| f64::from(known.failures))),
        );
        family(
            "wirevault_failures_in_a_row",
            gauge,
            "The old name of wirevault_consecutive_failures, for one release.",
            &|t| Some(t.known.as_ref().map_or(0.0, |known| f64::from(known.failures))),
        );
        family(
            "wirevault_missed_runs_total",
            Kind::Counter,
            "Scheduled times that were missed.",
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
        let mut groups: BTreeMap<(&str, &str, &str), Vec<&SnapshotLine>> = BTreeMap::new();
        let counts = |line: &&SnapshotLine| !is_ahead(line.facts.started.max(line.finished), now);
        for line in self.snapshots.iter().filter(counts) {
            let key = (
                line.repository.as_str(),
                line.facts.host.as_str(),
                line.facts.job.as_str(),
            );
            groups.entry(key).or_default().push(line);
        }
        let mut family = |name: &str, help: &str, value: &dyn Fn(&[&SnapshotLine]) -> Option<f64>| {
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
        let newest = |lines: &[&SnapshotLine]| {
            lines
                .iter()
                .rev()
                .find(|line| line.facts.is_complete())
                .map(|line| (*line).clone())
        };
        family("wirevault_snapshots", "Snapshots in the repository.", &|lines| {
            Some(number(exact::u64_from(lines.len())))
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

impl State {
    fn health_metrics(&self, text: &mut Text, now: Timestamp) {
        let gauge = Kind::Gauge;
        let (verdict, _) = self.verdict(now);
        let help = "Whether all is well: 1, or 0. See /health for details.";
        text.single("wirevault_ok", gauge, help, Some(flag(verdict.is_ok())));
        let reached = self.facts.iter().map(|(repository, facts)| {
            let labels = vec![("repository", repository.clone())];
            (labels, flag(facts.away.is_none()))
        });
        let help = "Whether the repository was reachable at the last check: 1, or 0.";
        text.family("wirevault_repository_reached", gauge, help, reached);
        let healths = self.healths(now);
        let mut family = |name: &str, help: &str, value: &dyn Fn(&SourceHealth) -> Option<f64>| {
            let rows = healths
                .iter()
                .flat_map(|health| health.sources.iter().map(move |row| (health, row)));
            let samples = rows.filter_map(|(health, row)| {
                let labels = vec![
                    ("repository", health.repository.clone()),
                    ("host", row.host.clone()),
                    ("job", row.job.clone()),
                    ("source", row.source.clone()),
                ];
                Some((labels, value(row)?))
            });
            text.family(name, gauge, help, samples);
        };
        family(
            "wirevault_source_ok",
            "Whether all is well with the source: 1, or 0.",
            &|row| (row.state != Verdict::NotJudged).then(|| flag(row.state.is_ok())),
        );
        family(
            "wirevault_source_overdue",
            "Whether a newer good snapshot is due: 1, or 0.",
            &|row| Some(flag(row.overdue)),
        );
        family(
            "wirevault_source_damaged",
            "Whether stored data are known to be damaged: 1, or 0.",
            &|row| Some(flag(row.damaged)),
        );
        family(
            "wirevault_source_age_seconds",
            "Age of the newest good snapshot.",
            &|row| Some(SignedDuration::from_secs(row.age_seconds?).as_secs_f64()),
        );
        family(
            "wirevault_source_verified_timestamp_seconds",
            "When the source was proven last.",
            &|row| row.verified_at.map(seconds),
        );
    }
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

/// As Prometheus has numbers: exact up to 2^53.
#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a sample is a double")]
fn number(value: u64) -> f64 {
    value as f64
}
