//! A SQLite source that names a directory or a pattern stands for every database that is there when a run begins: each becomes a
//! source of its own, fails alone, and goes back to its own place.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use crate::base::report::{Note, SharedReporter};
use crate::config::{Plan, SourceConfig, SourceKind, SqliteSource};
use crate::engines::sqlite::discover::{self, Unseen};
use crate::repository::id::sanitised_job;
use crate::repository::{Manifest, ManifestSource, Repository};

/// Replaces places by the databases in them. A place without any stays: it fails as a source, alone.
pub(crate) fn expand(plans: &mut [Plan]) {
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
    if found.databases.is_empty()
        && found
            .unsearched
            .iter()
            .all(|one| matches!(one.why, Unseen::Absent { .. }))
    {
        return vec![];
    }
    // What cannot be searched fails beside what was found: databases may be there that nobody can see.
    let databases = found.databases.into_iter().map(|(path, ending)| (path, ending, None));
    let unsearched = found
        .unsearched
        .into_iter()
        .map(|one| (one.path, one.ending, Some(one.why)));
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
pub(crate) async fn note(
    repository: &Repository,
    host: &str,
    plan: &Plan,
    reporter: &SharedReporter,
    sources: &mut [ManifestSource],
) {
    let now = Members::of_plan(plan);
    if now.groups.is_empty() {
        return;
    }
    let Ok(Some(previous)) = repository.previous(host, &plan.job).await else {
        return;
    };
    let Ok(previous) = repository.load(&previous.id).await else {
        return;
    };
    let before = Members::of_manifest(&previous);
    for (group, names) in &now.groups {
        // The first run of a source has nothing to compare with.
        let Some(earlier) = before.groups.get(group) else {
            continue;
        };
        let first = sources
            .iter_mut()
            .find(|one| one.outcome.is_some() && names.contains(&one.name));
        let Some(outcome) = first.and_then(|source| source.outcome.as_mut()) else {
            continue;
        };
        let changes = [
            (
                "database-appeared",
                names.difference(earlier),
                "is new since the last snapshot",
            ),
            (
                "database-vanished",
                earlier.difference(names),
                "was in the last snapshot and is not there any more",
            ),
        ];
        for (code, names, message) in changes {
            // What could not be searched, this time or the last, says nothing of what may be there.
            for name in names.filter(|name| now.shows(name, &before) && before.shows(name, &now)) {
                reporter.note(group, Note::new(code, name.as_str(), message));
                *outcome.note_counts.entry(code.to_owned()).or_default() += 1;
            }
        }
    }
}

/// The databases of one run, by the source that means them.
#[derive(Default)]
struct Members {
    /// Names, by the name of the source that stands for them.
    groups: BTreeMap<String, BTreeSet<String>>,
    /// Where each lies.
    paths: HashMap<String, PathBuf>,
    /// Sources of what could not be searched, and the places.
    unseen_names: HashSet<String>,
    unseen: Vec<PathBuf>,
}

impl Members {
    fn of_plan(plan: &Plan) -> Self {
        let mut members = Self::default();
        for source in &plan.sources {
            if let SourceKind::Sqlite(sqlite) = &source.kind {
                let is_unseen = sqlite.unsearched.is_some();
                members.add(&source.name, sqlite.group.as_deref(), sqlite.path.clone(), is_unseen);
            }
        }
        members
    }

    /// Of a snapshot: its plan says where, and its sources are what it holds.
    fn of_manifest(manifest: &Manifest) -> Self {
        let mut members = Self::default();
        let stored: HashSet<&str> = manifest.sources.iter().map(|source| source.name.as_str()).collect();
        for source in manifest.plan.sources() {
            let (Some(name), Some(path)) = (source.text("name"), source.text("path")) else {
                continue;
            };
            let group = source.text("group").filter(|_| stored.contains(name));
            members.add(name, group, path.into(), source.has("unsearched"));
        }
        members
    }

    fn add(&mut self, name: &str, group: Option<&str>, path: PathBuf, is_unseen: bool) {
        if let Some(group) = group {
            self.groups.entry(group.to_owned()).or_default().insert(name.to_owned());
        }
        if is_unseen {
            self.unseen_names.insert(name.to_owned());
            self.unseen.push(path.clone());
        }
        self.paths.insert(name.to_owned(), path);
    }

    /// Whether this run would have seen a database, its own or one of another run.
    fn shows(&self, name: &str, other: &Self) -> bool {
        let path = self.paths.get(name).or_else(|| other.paths.get(name));
        !self.unseen_names.contains(name) && !path.is_some_and(|path| discover::covers(&self.unseen, path))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_could_not_be_searched_hides_what_may_be_in_it() {
        let mut now = Members::default();
        now.add("s.a.db", Some("s"), "/data/a.db".into(), false);
        now.add("s.t2", Some("s"), "/data/t2".into(), true);
        let mut before = Members::default();
        before.add("s.a.db", Some("s"), "/data/a.db".into(), false);
        before.add("s.b.db", Some("s"), "/data/t2/b.db".into(), false);
        before.add("s.c.db", Some("s"), "/data/c.db".into(), false);
        assert!(now.shows("s.c.db", &before) && before.shows("s.c.db", &now));
        assert!(!now.shows("s.b.db", &before), "it may be there still");
        assert!(!now.shows("s.t2", &before));
        assert_eq!(now.groups.get("s").unwrap().len(), 2);
    }
}
