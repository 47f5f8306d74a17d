//! Job by job: what there is, what there should be, and what is wrong.

mod proofs;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    ExpectedJob, Facts, Finding, Health, Level, Proof, SnapshotFact, SourceFact, SourceHealth, State, TaskHealth,
};
use crate::policy::schedule::Schedule;
use crate::repository::record::RecordedSource;
use crate::repository::{ADHOC_JOB, PlannedSchedule};
use crate::repository::{PRE_RESTORE_JOB, RunOutcome, RunRecord, SnapshotId, TaskKind, is_ahead};

/// A snapshot may be late by this, and by as long as the last good one took.
const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// A drill without a record may wait for another task, or still be at its first run.
const FIRST_DRILL: SignedDuration = SignedDuration::from_hours(24);

/// The facts that count, and the moment.
pub(super) struct Judge<'a> {
    facts: &'a Facts,
    now: Timestamp,
    /// By finish time, oldest first.
    snapshots: Vec<&'a SnapshotFact>,
    /// Newest first, as the others.
    runs: Vec<&'a RunRecord>,
    proofs: Vec<&'a Proof>,
    proofs_by_snapshot: BTreeMap<&'a SnapshotId, Vec<&'a Proof>>,
}

/// How the last run of a job ended that was not well.
struct Ended<'a> {
    state: State,
    text: String,
    /// The snapshots that it brought all the same.
    brought: &'a [SnapshotId],
}

/// What a job has to have.
struct Wanted {
    sources: Vec<RecordedSource>,
    schedule: Option<Schedule>,
    /// Whether anybody still wants it.
    retired: bool,
}

impl<'a> Judge<'a> {
    pub(super) fn new(facts: &'a Facts, now: Timestamp) -> Self {
        let counts = |snapshot: &&SnapshotFact| snapshot.job != PRE_RESTORE_JOB && !snapshot.is_ahead(now);
        let mut snapshots: Vec<_> = facts.snapshots.iter().filter(counts).collect();
        snapshots.sort_by(|a, b| (a.finished, &a.id).cmp(&(b.finished, &b.id)));
        let mut runs: Vec<_> = facts.runs.iter().filter(|run| !is_ahead(run.ended, now)).collect();
        runs.sort_by_key(|run| std::cmp::Reverse((run.ended, run.started)));
        let mut proofs: Vec<_> = facts.proofs.iter().filter(|proof| !is_ahead(proof.time, now)).collect();
        proofs.sort_by_key(|proof| std::cmp::Reverse(proof.time));
        let mut proofs_by_snapshot: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for proof in &proofs {
            proofs_by_snapshot.entry(&proof.snapshot).or_default().push(*proof);
        }
        Self {
            facts,
            now,
            snapshots,
            runs,
            proofs,
            proofs_by_snapshot,
        }
    }

    pub(super) fn ahead(&self) -> Vec<SnapshotId> {
        let mut ids: Vec<_> = self
            .facts
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.is_ahead(self.now))
            .map(|one| one.id.clone())
            .collect();
        ids.sort();
        ids
    }

    /// Every job that has left something, or is expected to.
    pub(super) fn jobs(&self) -> BTreeSet<(String, String)> {
        let snapshots = self.snapshots.iter().map(|one| (one.host.clone(), one.job.clone()));
        let backups = self.runs.iter().filter(|run| run.task == TaskKind::Backup);
        let runs = backups.map(|run| (run.host.clone(), run.name.clone()));
        let expected = &self.facts.expected;
        let elsewhere = |job: &ExpectedJob| {
            self.snapshots
                .iter()
                .any(|one| one.job == job.name && one.host != expected.host)
        };
        let jobs = expected
            .jobs
            .iter()
            .flatten()
            .filter(|job| expected.runs_here || !elsewhere(job));
        let jobs = jobs.map(|job| (expected.host.clone(), job.name.clone()));
        snapshots.chain(runs).chain(jobs).collect()
    }

    /// Sources and schedule of a job: as configured on this host, else as its newest run or snapshot had them.
    fn wanted(&self, host: &str, job: &str, snapshots: &[&'a SnapshotFact]) -> Wanted {
        let expected = &self.facts.expected;
        let ours = expected.jobs.as_ref().filter(|_| expected.host == host);
        if job == ADHOC_JOB {
            // Each backup by hand has sources of its own, and nobody promised another one.
            let names: BTreeSet<&str> = snapshots
                .iter()
                .flat_map(|one| one.sources.iter().map(|source| source.name.as_str()))
                .collect();
            let source = |name: &str| RecordedSource {
                name: name.to_owned(),
                optional: false,
            };
            return Wanted {
                sources: names.into_iter().map(source).collect(),
                schedule: None,
                retired: true,
            };
        }
        if let Some(configured) = ours.and_then(|jobs| jobs.iter().find(|one| one.name == job)) {
            return Wanted {
                sources: with_members(&configured.sources, snapshots.last().copied()),
                schedule: configured.schedule.as_ref().and_then(parsed),
                retired: false,
            };
        }
        let run = self
            .runs
            .iter()
            .find(|run| run.task == TaskKind::Backup && run.host == host && run.name == job && !run.sources.is_empty());
        let last = snapshots.last();
        let (sources, schedule) = match (run, last) {
            (Some(run), Some(last)) if run.ended < last.finished => (recorded(last), &last.schedule),
            (Some(run), last) => (with_members(&run.sources, last.copied()), &run.schedule),
            (None, Some(last)) => (recorded(last), &last.schedule),
            (None, None) => (Vec::new(), &None),
        };
        Wanted {
            sources,
            schedule: schedule.as_ref().and_then(parsed),
            retired: ours.is_some(),
        }
    }

    pub(super) fn job(&self, host: &str, job: &str, health: &mut Health) {
        let all = self.snapshots.iter().copied();
        let snapshots: Vec<&SnapshotFact> = all.filter(|one| one.host == host && one.job == job).collect();
        let wanted = self.wanted(host, job, &snapshots);
        let mut finding = |state, text| {
            health.findings.push(Finding {
                state,
                host: Some(host.to_owned()),
                subject: format!("job {job}"),
                text,
            });
        };
        let ended = self.last_end(host, job, &snapshots).filter(|_| !wanted.retired);
        if let Some(ended) = &ended {
            finding(ended.state, ended.text.clone());
        }
        for source in &wanted.sources {
            let mut row = self.source(host, job, source, &snapshots, &wanted);
            if wanted.retired && job != ADHOC_JOB {
                row.state = State::NotJudged;
            }
            for (state, text) in self.complaints(&row, source, &snapshots, wanted.retired) {
                row.state = row.state.max(state);
                finding(state, text);
            }
            // What a run brought of one source is good, whatever became of the others.
            let spared = |ended: &&Ended<'_>| {
                source.optional || row.newest_good.as_ref().is_some_and(|id| ended.brought.contains(id))
            };
            if let Some(ended) = ended.as_ref().filter(|ended| !spared(ended)) {
                row.state = row.state.max(ended.state);
            }
            health.sources.push(row);
        }
    }

    /// What is wrong with a row, but for its last run.
    fn complaints(
        &self,
        row: &SourceHealth,
        source: &RecordedSource,
        snapshots: &[&'a SnapshotFact],
        retired: bool,
    ) -> Vec<(State, String)> {
        let mut found = Vec::new();
        let name = &source.name;
        if row.damaged {
            let line = self.damage_of(name, snapshots).unwrap_or_default();
            found.push((State::Damaged, format!("source {name} is damaged: {line}")));
        }
        let bound = !source.optional && !retired;
        if bound && row.newest_good.is_none() {
            found.push((State::NeverBackedUp, format!("source {name} has no good snapshot")));
        } else if bound && row.overdue {
            let age = row.age_seconds.map_or_else(String::new, age);
            found.push((
                State::Overdue,
                format!("source {name} is overdue: its newest good snapshot is {age} old"),
            ));
        }
        if let Some((reached, proof)) = self.fell_short(name, snapshots).filter(|_| !row.damaged) {
            let (asked, drill) = (proof.asked.word(), proof.drill.as_deref().unwrap_or_default());
            let why = reached
                .why_not
                .as_ref()
                .map_or_else(String::new, |why| format!(" ({why})"));
            let level = reached.level.map_or("none", Level::word);
            let text = format!("drill {drill} verified source {name} to level {level} instead of {asked}{why}");
            found.push((State::LevelNotReached, text));
        }
        found
    }

    fn source(
        &self,
        host: &str,
        job: &str,
        source: &RecordedSource,
        snapshots: &[&'a SnapshotFact],
        wanted: &Wanted,
    ) -> SourceHealth {
        let name = &source.name;
        let good = |one: &&&SnapshotFact| one.has(name) && !self.is_damaged(&one.id, name);
        let newest = snapshots.iter().rev().find(good);
        let mut proofs = self.proofs_of(snapshots, job);
        let proven = proofs.find_map(|proof| Some((proof.level_of(name)?, proof.time)));
        let bound = !source.optional && !wanted.retired;
        let overdue = match (&wanted.schedule, newest) {
            (Some(_), None) => bound,
            (Some(schedule), Some(newest)) => {
                let up_to = self.up_to(host, job, newest, name, snapshots);
                let took = newest.finished.duration_since(newest.started).max(SignedDuration::ZERO);
                bound && due(schedule, up_to, took).is_some_and(|due| due < self.now)
            }
            (None, _) => false,
        };
        SourceHealth {
            host: host.to_owned(),
            job: job.to_owned(),
            source: name.clone(),
            newest_good: newest.map(|one| one.id.clone()),
            age_seconds: newest.map(|one| self.now.duration_since(one.started).as_secs().max(0)),
            overdue,
            verified_level: proven.map(|(level, _)| level),
            verified_at: proven.map(|(_, time)| time),
            damaged: self.damage_of(name, snapshots).is_some(),
            stored_bytes: newest
                .and_then(|one| one.source(name))
                .map_or(0, |source| source.stored_bytes),
            state: if newest.is_some() {
                State::Ok
            } else {
                State::NeverBackedUp
            },
            optional: source.optional,
            log: None,
        }
    }

    /// Up to when a job has what it should: the start of its newest good snapshot, or of a run that found the content
    /// unchanged since a snapshot that is still there.
    fn up_to(
        &self,
        host: &str,
        job: &str,
        newest: &SnapshotFact,
        source: &str,
        snapshots: &[&'a SnapshotFact],
    ) -> Timestamp {
        let there = |id: &SnapshotId| {
            let one = snapshots.iter().find(|one| one.id == *id);
            one.is_some_and(|one| one.has(source) && !self.is_damaged(id, source))
        };
        let done = |run: &&&RunRecord| {
            run.task == TaskKind::Backup
                && run.host == host
                && run.name == job
                && run.outcome == RunOutcome::Done
                && run.snapshots.iter().any(there)
        };
        let run = self.runs.iter().find(done).map(|run| run.started);
        run.map_or(newest.started, |run| run.max(newest.started))
    }

    /// How the last run of a job ended, if it was not well. A complete snapshot after it stands above it.
    fn last_end(&self, host: &str, job: &str, snapshots: &[&'a SnapshotFact]) -> Option<Ended<'a>> {
        let mut runs = self.runs.iter();
        let run = runs.find(|run| run.task == TaskKind::Backup && run.host == host && run.name == job);
        let last = snapshots.last().copied();
        if let Some(run) = run {
            let since = |one: &SnapshotFact| one.is_complete() && one.started > run.ended;
            return match run.outcome {
                RunOutcome::Done => None,
                _ if last.is_some_and(since) => None,
                outcome => {
                    let (state, text) = ended(outcome, run);
                    let brought = &run.snapshots;
                    Some(Ended { state, text, brought })
                }
            };
        }
        // Snapshots of older releases have no records.
        let failed = last.filter(|last| !last.is_complete())?;
        let names: Vec<&str> = failed
            .sources
            .iter()
            .filter(|source| !source.good && !source.optional)
            .map(|source| source.name.as_str())
            .collect();
        Some(Ended {
            state: State::Incomplete,
            text: format!("the last snapshot is missing {}", names.join(", ")),
            brought: std::slice::from_ref(&failed.id),
        })
    }

    /// Every task that has run.
    pub(super) fn tasks(&self) -> Vec<TaskHealth> {
        let mut tasks: BTreeMap<(&str, TaskKind, &str), TaskHealth> = BTreeMap::new();
        for run in &self.runs {
            let well = run.outcome == RunOutcome::Done;
            let task = tasks
                .entry((&run.host, run.task, &run.name))
                .or_insert_with(|| TaskHealth {
                    last: (*run).clone(),
                    failures: 0,
                    last_success: None,
                });
            if task.last_success.is_none() {
                task.failures += u32::from(!well);
                task.last_success = well.then_some(run.ended);
            }
        }
        tasks.into_values().collect()
    }

    /// Drills, rules and copies whose last run was not well, or whose time has passed.
    pub(super) fn other_tasks(&self, health: &mut Health) {
        let expected = &self.facts.expected;
        let mut findings = Vec::new();
        for task in health.tasks.iter().filter(|task| task.last.task != TaskKind::Backup) {
            let known = expected.jobs.is_some() || !expected.tasks.is_empty();
            let (run, ours) = (&task.last, task.last.host == expected.host && known);
            let timing = expected
                .tasks
                .iter()
                .find(|(kind, name, _)| *kind == run.task && *name == run.name);
            let wanted = !ours || timing.is_some() || run.task == TaskKind::Copy;
            if !wanted {
                continue;
            }
            let mut finding = |state, text| {
                findings.push(Finding {
                    state,
                    host: Some(run.host.clone()),
                    subject: format!("{} {}", run.task.word(), run.name),
                    text,
                });
            };
            if run.outcome != RunOutcome::Done {
                let (state, text) = ended(run.outcome, run);
                finding(state, text);
            } else if let Some(schedule) = timing.filter(|_| ours).and_then(|(.., schedule)| parsed(schedule)) {
                let took = run.ended.duration_since(run.started).max(SignedDuration::ZERO);
                if due(&schedule, run.started, took).is_some_and(|due| due < self.now) {
                    finding(State::Overdue, "overdue".to_owned());
                }
            }
        }
        findings.extend(self.never_ran());
        health.findings.extend(findings);
    }

    /// Drills of the configuration that have left no record, though one of their times has passed since the configuration had
    /// them and the repository was made. Only a scheduler runs drills; rules are also applied by hand, which leaves no record.
    fn never_ran(&self) -> impl Iterator<Item = Finding> {
        let expected = &self.facts.expected;
        let since = expected
            .since
            .zip(self.facts.created)
            .map(|(since, created)| since.max(created));
        let drills = expected.tasks.iter().filter(|(kind, ..)| *kind == TaskKind::Drill);
        drills.filter_map(move |(kind, name, schedule)| {
            let ran = self.runs.iter().any(|run| run.task == *kind && run.name == *name);
            let first = due(&parsed(schedule)?, since?, FIRST_DRILL)?;
            (!ran && first < self.now).then(|| Finding {
                state: State::Overdue,
                host: Some(expected.host.clone()),
                subject: format!("{} {name}", kind.word()),
                text: "never ran".to_owned(),
            })
        })
    }

    /// Says that a repository holds nothing, where something was to be there: a drill has nothing to prove, and whoever asks
    /// for its state without a configuration is told so.
    pub(super) fn emptiness(&self, health: &mut Health) {
        let expected = &self.facts.expected;
        let drilled = expected.tasks.iter().any(|(kind, ..)| *kind == TaskKind::Drill);
        let asked = drilled || (expected.jobs.is_none() && expected.tasks.is_empty());
        if health.sources.is_empty() && health.findings.is_empty() && asked && self.snapshots.is_empty() {
            health.findings.push(Finding {
                state: State::NeverBackedUp,
                host: None,
                subject: format!("repository {}", self.facts.repository),
                text: "has no snapshot".to_owned(),
            });
        }
    }
}

/// The sources of a job, with the databases of a server in the place of the server: which they are, only snapshots tell.
fn with_members(sources: &[RecordedSource], last: Option<&SnapshotFact>) -> Vec<RecordedSource> {
    let mut all = Vec::new();
    for one in sources {
        let prefix = format!("{}.", one.name);
        let members = last.filter(|last| last.source(&one.name).is_none()).map(recorded);
        let members: Vec<_> = members
            .into_iter()
            .flatten()
            .filter(|of| of.name.starts_with(&prefix))
            .collect();
        if members.is_empty() {
            all.push(one.clone());
        }
        all.extend(members);
    }
    all
}

fn recorded(snapshot: &SnapshotFact) -> Vec<RecordedSource> {
    let source = |source: &SourceFact| RecordedSource {
        name: source.name.clone(),
        optional: source.optional,
    };
    snapshot.sources.iter().map(source).collect()
}

fn ended(outcome: RunOutcome, run: &RunRecord) -> (State, String) {
    let (state, words) = match outcome {
        RunOutcome::Done => (State::Ok, ""),
        RunOutcome::Partial => (State::Incomplete, "the last run was incomplete"),
        RunOutcome::Failed => (State::Failing, "the last run failed"),
    };
    let why = run
        .error
        .as_deref()
        .map_or_else(String::new, |error| format!(": {error}"));
    (state, format!("{words}{why}"))
}

/// A schedule that came out of a manifest may be anything; one that is none promises nothing.
fn parsed(planned: &PlannedSchedule) -> Option<Schedule> {
    /// No schedule that a person wrote is longer.
    const LONGEST: usize = 200;
    if planned.schedule.len() > LONGEST {
        return None;
    }
    Schedule::of_timing(&planned.timing(), "", None, "").ok()
}

/// When the snapshot after one that was begun at `last` is overdue.
fn due(schedule: &Schedule, last: Timestamp, took: SignedDuration) -> Option<Timestamp> {
    let latest = schedule.latest_after(last)?;
    latest.checked_add(GRACE).ok()?.checked_add(took).ok()
}

/// `3 days`, `5 hours`: one unit is enough to see what is wrong.
fn age(seconds: i64) -> String {
    match seconds {
        ..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
