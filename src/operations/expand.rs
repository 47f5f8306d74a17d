//! A source that stands for several: a server for its databases, a pattern for the files that match it. Each becomes a source of
//! its own, with its own archives, and fails alone. All of them stand in one manifest.

use std::collections::HashSet;

use crate::base::error::Result;
use crate::base::report::{Note, SharedReporter};
use crate::config::{Plan, SourceConfig};
use crate::engines::{Change, Engine, Member};
use crate::operations::Session;
use crate::repository::id::sanitised_job;
use crate::repository::{Manifest, ManifestSource, Repository, StoredSource};

/// Replaces sources by what they stand for. One that cannot be asked, or stands for nothing, stays: it fails as a source, alone.
pub(crate) async fn expand(session: &Session, plans: &mut [Plan]) -> Result<()> {
    // Plans of one job differ in their repositories alone.
    let mut before: Option<(String, Vec<SourceConfig>, Vec<SourceConfig>)> = None;
    for plan in plans {
        if let Some((job, given, found)) = &before
            && *job == plan.job
            && *given == plan.sources
        {
            plan.sources.clone_from(found);
            continue;
        }
        let given = std::mem::take(&mut plan.sources);
        plan.sources = expanded(session, &given).await?;
        before = Some((plan.job.clone(), given, plan.sources.clone()));
    }
    Ok(())
}

async fn expanded(session: &Session, given: &[SourceConfig]) -> Result<Vec<SourceConfig>> {
    // Names that differ only in what object keys leave out would share their archives.
    let mut names: HashSet<String> = given.iter().map(|source| sanitised_job(&source.name)).collect();
    let mut sources = Vec::new();
    for source in given {
        let members = match session.or_cancelled(source.kind.spec().members(&source.name)).await {
            Ok(members) => members.unwrap_or_default(),
            Err(error) => {
                session.check_cancelled()?;
                tracing::warn!("source \"{}\" is taken as a whole: {}", source.name, error.chain());
                Vec::new()
            }
        };
        if members.is_empty() {
            sources.push(source.clone());
        }
        for Member { name, spec } in members {
            sources.push(SourceConfig {
                name: unique(&name, &mut names),
                kind: spec.into(),
                ..source.clone()
            });
        }
    }
    Ok(sources)
}

/// Numbers a name that is taken.
fn unique(base: &str, names: &mut HashSet<String>) -> String {
    let mut name = base.to_owned();
    let mut number = 2;
    while !names.insert(sanitised_job(&name)) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

/// Notes what came or went since the job's last snapshot among sources that others stand for.
pub(crate) async fn note(
    session: &Session,
    repository: &Repository,
    host: &str,
    plan: &Plan,
    sources: &mut [ManifestSource],
) {
    if plan.sources.iter().all(|source| source.kind.spec().group().is_none()) {
        return;
    }
    let Ok(Some(previous)) = repository.previous(host, &plan.job).await else {
        return;
    };
    let Ok(previous) = repository.load(&previous.id).await else {
        return;
    };
    let engines = session.engines.iter();
    for change in engines.flat_map(|engine| changes(engine, plan, &previous)) {
        tell(change, &session.reporter, sources);
    }
}

/// Compares the sources of one engine with those of an earlier snapshot.
fn changes(engine: &dyn Engine, plan: &Plan, previous: &Manifest) -> Vec<Change> {
    let kind = engine.kind();
    let now = plan
        .sources
        .iter()
        .map(|source| (source.name.as_str(), source.kind.spec()));
    let now: Vec<_> = now.filter(|(_, spec)| spec.kind() == kind).collect();
    let stored: HashSet<&str> = previous.sources.iter().map(|source| source.name.as_str()).collect();
    let is_stored = |source: &StoredSource| source.text("name").is_some_and(|name| stored.contains(name));
    let before = previous.plan.sources().iter();
    let before = before.filter(|source| source.text("kind") == Some(kind.word()));
    let before: Vec<_> = before.map(|source| (source, is_stored(source))).collect();
    engine.changes(&now, &before)
}

/// Tells a change, and counts it with the first of the sources that it is about.
fn tell(change: Change, reporter: &SharedReporter, sources: &mut [ManifestSource]) {
    let of_group = |source: &&mut ManifestSource| source.outcome.is_some() && change.members.contains(&source.name);
    let first = sources.iter_mut().find(of_group);
    let Some(outcome) = first.and_then(|source| source.outcome.as_mut()) else {
        return;
    };
    reporter.note(&change.group, Note::new(change.code, change.object, change.message));
    *outcome.note_counts.entry(change.code.to_owned()).or_default() += 1;
}
