//! Databases that came or went between two runs, of sources that stand for all in some place.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use crate::archive::StoredSource;
use crate::engines::sqlite::SqliteSpec;
use crate::engines::sqlite::discover;
use crate::engines::{Change, SourceSpec};

/// Compares a run with an earlier one.
pub(super) fn changes(now: &[(&str, &dyn SourceSpec)], before: &[(&StoredSource, bool)]) -> Vec<Change> {
    let (now, before) = (Members::of_run(now), Members::of_snapshot(before));
    let mut changes = Vec::new();
    for (group, names) in &now.groups {
        // The first run of a source has nothing to compare with.
        let Some(earlier) = before.groups.get(group) else {
            continue;
        };
        let kinds = [
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
        for (code, names_of_kind, message) in kinds {
            // What could not be searched, this time or the last, says nothing of what may be there.
            let shown = names_of_kind.filter(|name| now.shows(name, &before) && before.shows(name, &now));
            changes.extend(shown.map(|name| Change {
                group: group.clone(),
                members: names.clone(),
                code,
                object: name.clone(),
                message,
            }));
        }
    }
    changes
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
    fn of_run(sources: &[(&str, &dyn SourceSpec)]) -> Self {
        let mut members = Self::default();
        for (name, spec) in sources {
            if let Some(sqlite) = spec.downcast_ref::<SqliteSpec>() {
                let is_unseen = sqlite.unsearched.is_some();
                members.add(name, sqlite.group.as_deref(), sqlite.path.clone(), is_unseen);
            }
        }
        members
    }

    /// Of a snapshot: its plan says where, and its sources are what it holds.
    fn of_snapshot(sources: &[(&StoredSource, bool)]) -> Self {
        let mut members = Self::default();
        for (source, is_stored) in sources {
            let (Some(name), Some(path)) = (source.text("name"), source.text("path")) else {
                continue;
            };
            let group = source.text("group").filter(|_| *is_stored);
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
