//! Looks at the repositories for the board: every manifest, the pins, the newest evidence.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::board::{Board, Line};
use super::task::if_there;
use crate::commands::backup::host_name;
use crate::commands::snapshots::stored_bytes;
use crate::commands::{Session, open};
use crate::config::RepositoryConfig;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::repository::{Evidence, Manifest, is_ahead};
use crate::retention::{RetentionPolicy, SnapshotFacts};

/// A repository with very many snapshots takes a while; one that does not answer must not take as long.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// Evidence that is kept in memory for each repository.
const EVIDENCE: usize = 100;

/// Replaces what the board knows of the repositories. One that does not answer keeps what was known of it.
pub(super) async fn look(session: &Session, board: &Board, now: Timestamp) {
    let mut repositories = session.config.repositories.clone();
    if session.repository.is_some() {
        repositories = session.repository_config().into_iter().collect();
    }
    let mut failed = None;
    let (mut snapshots, mut evidence) = (Vec::new(), Vec::new());
    for repository in &repositories {
        let looked = tokio::time::timeout(PATIENCE, one(session, repository)).await;
        let late = |_| Err(Error::new(ErrorKind::TimedOut, "it does not answer"));
        match looked.unwrap_or_else(late) {
            Ok((lines, proofs)) => {
                snapshots.extend(lines);
                evidence.extend(proofs);
            }
            Err(error) => {
                tracing::warn!("look at repository {}: {}", repository.url, error.chain());
                failed = Some(format!("{}: {}", repository.name, error.chain()));
                let state = board.lock();
                let known: Vec<Line> = state
                    .snapshots
                    .iter()
                    .filter(|line| line.repository == repository.name)
                    .cloned()
                    .collect();
                evidence.extend(
                    state
                        .evidence
                        .iter()
                        .filter(|e| known.iter().any(|l| l.facts.id == e.snapshot))
                        .cloned(),
                );
                snapshots.extend(known);
            }
        }
    }
    snapshots.sort_by(|a, b| a.facts.id.cmp(&b.facts.id));
    evidence.sort_by_key(|e| std::cmp::Reverse(e.time));
    let host = host_name();
    let mut state = board.lock();
    for (name, task) in &mut state.tasks {
        let ours = |line: &&Line| line.facts.job == *name && line.facts.host == host && line.facts.is_complete();
        let newest = snapshots.iter().filter(ours).map(|line| line.finished).max();
        let of_drill = |e: &&Evidence| {
            e.proved.get("drill").and_then(serde_json::Value::as_str) == Some(name) && super::board::is_well(e)
        };
        let proven = evidence.iter().filter(of_drill).map(|e| e.time).max();
        task.last_success = task.last_success.max(newest).max(proven);
    }
    (state.snapshots, state.evidence) = (snapshots, evidence);
    (state.survey_error, state.surveyed) = (failed, Some(now));
    state.host = host;
    state.policies = policies(session, &repositories);
    let zone = session
        .config
        .timezone
        .as_deref()
        .and_then(|name| TimeZone::get(name).ok());
    state.zone = Some(zone.unwrap_or_else(TimeZone::system));
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

async fn one(session: &Session, config: &RepositoryConfig) -> Result<(Vec<Line>, Vec<Evidence>)> {
    let store = open::store(config, &session.cancel).await?;
    let Some(repository) = if_there(session, store).await.context("open it")? else {
        return Ok((Vec::new(), Vec::new()));
    };
    let line = |manifest: &Manifest| {
        let outcomes = || manifest.sources.iter().filter_map(|source| source.outcome.as_ref());
        Line {
            repository: config.name.clone(),
            facts: SnapshotFacts::from(manifest),
            finished: manifest.finished,
            raw_bytes: outcomes().map(|outcome| outcome.raw_bytes).sum(),
            stored_bytes: outcomes().map(stored_bytes).sum(),
        }
    };
    let now = repository.clock().await;
    let mut lines = session.or_cancelled(repository.survey(line)).await?.snapshots;
    // What a wrong clock dated ahead says nothing of how fresh anything is.
    lines.retain(|line| !is_ahead(line.facts.started.max(line.finished), now));
    let pins = session.or_cancelled(repository.pins()).await?;
    for line in &mut lines {
        line.facts.pin = pins.get(&line.facts.id).cloned();
    }
    let evidence = session.or_cancelled(repository.evidence(EVIDENCE)).await?;
    Ok((lines, evidence))
}
