//! A SQLite source that names a directory or a pattern stands for every database that is there when a run begins: each becomes a
//! source of its own, fails alone, and goes back to its own place.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use crate::config::{Plan, SourceConfig, SourceKind, SqliteSource};
use crate::report::{Note, SharedReporter};
use crate::repository::id::sanitised_job;
use crate::repository::{ManifestSource, Repository};
use crate::sources::sqlite::discover;

/// Replaces places by the databases in them. A place without any stays: it fails as a source, alone.
pub(super) fn expand(plans: &mut [Plan]) {
    for plan in plans {
        // Names that differ only in what object keys leave out would share their archives.
        let mut names: HashSet<String> = plan.sources.iter().map(|source| sanitised_job(&source.name)).collect();
        let mut sources = Vec::new();
        for source in std::mem::take(&mut plan.sources) {
            match &source.kind {
                SourceKind::Sqlite(sqlite) if sqlite.is_several() => {
                    let members = members(&source, sqlite, &mut names);
                    if members.is_empty() {
                        sources.push(source);
                    } else {
                        sources.extend(members);
                    }
                }
                _ => sources.push(source),
            }
        }
        plan.sources = sources;
    }
}

fn members(source: &SourceConfig, sqlite: &SqliteSource, names: &mut HashSet<String>) -> Vec<SourceConfig> {
    let found = match discover::databases(&sqlite.patterns()) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(
                "unable to look for the databases of \"{}\": {}",
                source.name,
                error.chain()
            );
            return vec![];
        }
    };
    for (path, why) in &found.others {
        tracing::warn!(
            "source \"{}\": \"{}\" is not backed up: it {why}",
            source.name,
            path.display()
        );
    }
    // Where nothing at all is there, the source says it as a whole.
    if found.databases.is_empty() && found.unsearched.iter().all(|one| one.error.is_none()) {
        return vec![];
    }
    // What cannot be searched fails beside what was found: databases may be there that nobody can see.
    let databases = found.databases.into_iter().map(|(path, ending)| (path, ending, None));
    let unsearched = found.unsearched.into_iter().map(|one| {
        let why = one.message();
        (one.path, one.ending, Some(why))
    });
    let mut members = Vec::new();
    for (path, ending, unsearched) in databases.chain(unsearched) {
        // Object keys hold 64 letters of a name. A longer one is that of a URL: configured ones are refused.
        let start: String = source.name.chars().take(discover::MAX_GROUP_NAME).collect();
        let base = format!("{start}.{ending}");
        let mut name = base.clone();
        let mut number = 2;
        while !names.insert(sanitised_job(&name)) {
            name = format!("{base}-{number}");
            number += 1;
        }
        members.push(SourceConfig {
            name,
            kind: SourceKind::Sqlite(SqliteSource {
                group: Some(source.name.clone()),
                unsearched,
                method: sqlite.method,
                ..SqliteSource::of(path)
            }),
            ..source.clone()
        });
    }
    members
}

/// Notes the databases that came or went since the job's last snapshot.
pub(super) async fn note(
    repository: &Repository,
    host: &str,
    plan: &Plan,
    reporter: &SharedReporter,
    sources: &mut [ManifestSource],
) {
    let group_of = |source: &SourceConfig| match &source.kind {
        SourceKind::Sqlite(sqlite) => sqlite.group.clone(),
        _ => None,
    };
    let groups: BTreeSet<String> = plan.sources.iter().filter_map(group_of).collect();
    if groups.is_empty() {
        return;
    }
    let Ok(Some(previous)) = repository.previous(host, &plan.job).await else {
        return;
    };
    let Ok(previous) = repository.load(&previous.id).await else {
        return;
    };
    // What could not be searched, this time or the last, says nothing of what may be there.
    let (mut unseen, mut unseen_names) = (Vec::new(), HashSet::new());
    let here = plan.sources.iter().filter_map(|source| match &source.kind {
        SourceKind::Sqlite(sqlite) if sqlite.unsearched.is_some() => Some((source.name.clone(), sqlite.path.clone())),
        _ => None,
    });
    let planned = previous.plan.get("sources").and_then(serde_json::Value::as_array);
    let planned = planned.into_iter().flatten();
    let word =
        |plan: &serde_json::Value, key: &str| plan.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
    let there = planned.clone().filter(|plan| plan.get("unsearched").is_some());
    let there = there.filter_map(|plan| Some((word(plan, "name")?, word(plan, "path")?.into())));
    for (name, path) in here.chain(there) {
        unseen_names.insert(name);
        unseen.push(path);
    }
    let mut paths: HashMap<String, PathBuf> = planned
        .filter_map(|plan| Some((word(plan, "name")?, word(plan, "path")?.into())))
        .collect();
    paths.extend(plan.sources.iter().filter_map(|source| match &source.kind {
        SourceKind::Sqlite(sqlite) => Some((source.name.clone(), sqlite.path.clone())),
        _ => None,
    }));
    let is_seen = |name: &str| {
        !unseen_names.contains(name) && !paths.get(name).is_some_and(|path| discover::covers(&unseen, path))
    };
    for group in &groups {
        let of_group = |source: &&SourceConfig| group_of(source).as_ref() == Some(group);
        let now: BTreeSet<&str> = plan
            .sources
            .iter()
            .filter(of_group)
            .map(|source| source.name.as_str())
            .collect();
        let all = previous.sources.iter().map(|source| source.name.as_str());
        let before: BTreeSet<&str> = all.filter(|name| previous.group_of(name) == Some(group)).collect();
        // The first run of a source has nothing to compare with.
        if before.is_empty() {
            continue;
        }
        let first = sources
            .iter_mut()
            .find(|one| one.outcome.is_some() && now.contains(one.name.as_str()));
        let Some(outcome) = first.and_then(|source| source.outcome.as_mut()) else {
            continue;
        };
        let changes = [
            (
                "database-appeared",
                now.difference(&before),
                "is new since the last snapshot",
            ),
            (
                "database-vanished",
                before.difference(&now),
                "was in the last snapshot and is not there any more",
            ),
        ];
        for (code, names, message) in changes {
            for name in names.filter(|name| is_seen(name)) {
                reporter.note(group, Note::new(code, *name, message));
                *outcome.note_counts.entry(code.to_owned()).or_default() += 1;
            }
        }
    }
}
