//! Looks at the repositories for the state: every manifest, the pins, the newest evidence.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::state::{SchedulerState, SnapshotLine};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::config::RepositoryConfig;
use crate::operations::facts::{Gathered, expected, gather};
use crate::operations::snapshots::stored_bytes;
use crate::operations::{Session, meant, records};
use crate::policy::health::{Expected, Facts};
use crate::policy::retention::{RetentionPolicy, SnapshotFacts};
use crate::repository::{Evidence, Manifest, Repository, TaskKind, is_ahead};

/// A repository that does not answer must not hold the scheduler up.
const PATIENCE: Duration = Duration::from_secs(20);

/// One with very many snapshots takes a while.
const WHOLE_LOOK: Duration = Duration::from_secs(180);

/// Evidence that is kept in memory for each repository.
const EVIDENCE: usize = 100;

/// Replaces what the state knows of the repositories. One that does not answer keeps what was known of it. A process that
/// runs drills alone expects no snapshots of its own host, and judges those of all.
pub(super) async fn look(session: &Session, shared: &SchedulerState, drills_only: bool) {
    let now = session.clock.now();
    let repositories = session.repositories().unwrap_or_default();
    let (mut snapshots, mut evidence, mut facts) = (Vec::new(), Vec::new(), BTreeMap::new());
    for repository in &repositories {
        let mut expected = expected(session, repository, true);
        if drills_only {
            expected.jobs = None;
            expected.tasks.retain(|(kind, ..)| *kind == TaskKind::Drill);
        }
        let looked = one(session, repository, expected.clone()).await;
        match looked {
            Ok(mut found) => {
                found.evidence.truncate(EVIDENCE);
                snapshots.extend(found.snapshots);
                evidence.extend(found.evidence);
                facts.insert(repository.name.clone(), found.facts);
            }
            Err(error) => {
                if !shared.misses_a_repository() {
                    tracing::warn!("check repository {}: {}", repository.url, error.chain());
                }
                let (lines, proofs, known) = known(shared, session, repository, expected, &error);
                snapshots.extend(lines);
                evidence.extend(proofs);
                facts.insert(repository.name.clone(), known);
            }
        }
    }
    snapshots.sort_by(|a, b| a.facts.id.cmp(&b.facts.id));
    evidence.sort_by_key(|e| std::cmp::Reverse(e.time));
    let host = session.host();
    let mut state = shared.lock();
    for (name, task) in &mut state.tasks {
        let ours = |line: &&SnapshotLine| {
            line.facts.job == *name && line.facts.host == host && line.facts.is_complete() && line.finished <= now
        };
        let newest = snapshots.iter().filter(ours).map(|line| line.finished).max();
        let of_drill = |e: &&Evidence| e.proved.drill.as_ref() == Some(name) && super::state::is_well(e);
        let proven = evidence.iter().filter(of_drill).map(|e| e.time).max();
        task.last_success = task.last_success.max(newest).max(proven);
    }
    (state.snapshots, state.evidence) = (snapshots, evidence);
    state.host = host;
    state.judges_others = drills_only;
    state.policies = policies(session, &repositories);
    let zone = session
        .config
        .timezone
        .as_deref()
        .and_then(|name| TimeZone::get(name).ok());
    state.zone = Some(zone.unwrap_or_else(|| session.clock.zone()));
    drop(state);
    shared.learn(facts, now);
}

/// What an earlier look found, and what waits in the state directory since.
fn known(
    state: &SchedulerState,
    session: &Session,
    repository: &RepositoryConfig,
    expected: Expected,
    why: &Error,
) -> (Vec<SnapshotLine>, Vec<Evidence>, Facts) {
    let state = state.lock();
    let of_it = |line: &&SnapshotLine| line.repository == repository.name;
    let lines: Vec<SnapshotLine> = state.snapshots.iter().filter(of_it).cloned().collect();
    let about = |e: &&Evidence| lines.iter().any(|line| line.facts.id == e.snapshot);
    let evidence = state.evidence.iter().filter(about).cloned().collect();
    let mut facts = state.facts.get(&repository.name).cloned().unwrap_or_default();
    facts.repository.clone_from(&repository.name);
    facts.expected = expected;
    for record in records::waiting(session, repository) {
        if !facts.runs.iter().any(|run| run.is_of_the_run(&record)) {
            facts.runs.push(record);
        }
    }
    facts.away = Some(why.chain());
    (lines, evidence, facts)
}

fn policies(session: &Session, repositories: &[RepositoryConfig]) -> BTreeMap<(String, String), RetentionPolicy> {
    let mut policies = BTreeMap::new();
    for repository in repositories {
        for job in &session.config.jobs {
            if let Some(keep) = job.keep_in.get(&repository.name).or(job.keep.as_ref()) {
                policies.insert((job.name.clone(), repository.name.clone()), RetentionPolicy::from(keep));
            }
        }
    }
    policies
}

async fn one(session: &Session, config: &RepositoryConfig, expected: Expected) -> Result<Gathered<SnapshotLine>> {
    let opening = async {
        let repository = meant::if_there(session, config).await.context("open it")?;
        if let Some(repository) = &repository {
            records::hand_in(session, config, repository).await;
        }
        Ok(repository)
    };
    let opened: Result<Option<Repository>> = tokio::time::timeout(PATIENCE, opening)
        .await
        .unwrap_or_else(|_| Err(late()));
    let opened = opened?;
    let looking = async {
        let line = |manifest: &Manifest| line(config, manifest);
        let mut found = gather(session, (config, expected), opened.as_ref(), line).await?;
        if let Some(repository) = &opened {
            // What a wrong clock dated ahead says nothing of how fresh anything is.
            let now = repository.clock().await;
            found
                .snapshots
                .retain(|line| !is_ahead(line.facts.started.max(line.finished), now));
            let pins = session.or_cancelled(repository.pins()).await?;
            for line in &mut found.snapshots {
                line.facts.pin = pins.get(&line.facts.id).cloned();
            }
        }
        Ok(found)
    };
    tokio::time::timeout(WHOLE_LOOK, looking)
        .await
        .unwrap_or_else(|_| Err(late()))
}

fn late() -> Error {
    Error::new(ErrorKind::TimedOut, "no answer in time")
}

fn line(config: &RepositoryConfig, manifest: &Manifest) -> SnapshotLine {
    let outcomes = || manifest.sources.iter().filter_map(|source| source.outcome.as_ref());
    SnapshotLine {
        repository: config.name.clone(),
        facts: SnapshotFacts::from(manifest),
        finished: manifest.finished,
        raw_bytes: outcomes().map(|outcome| outcome.raw_bytes).sum(),
        stored_bytes: outcomes().map(stored_bytes).sum(),
    }
}
