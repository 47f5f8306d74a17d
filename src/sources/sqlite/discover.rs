//! The databases that are in some place at the time of a run: below a directory, or by a pattern.
//!
//! A database is known by how it begins, not by its name; `-wal`, `-shm` and `-journal` are parts of one, and what a restore
//! kept beside is none. Links to directories are not followed, and repositories are not entered.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use globset::{GlobBuilder, GlobMatcher};
use sha2::{Digest, Sha256};

use super::open;
use super::registry::SUFFIXES;
use crate::error::{Error, ErrorKind, Result};
use crate::sources::files::own;
use crate::sources::{BackupContext, Finding, Source, SourceOutcome};

/// Letters that make a pattern of a path.
const WILD: &[char] = &['*', '?', '[', '{'];

/// Endings that say of a file which cannot be read that it is meant.
const ENDINGS: &[&str] = &["db", "db3", "sqlite", "sqlite3"];

/// What restores leave beside a database has one of these in its name.
const KEPT: &[&str] = &[".pre-restore-", ".undone-", ".restore.tmp"];

/// The longest ending of the name of a source that is found.
const MAX_ENDING: usize = 32;

/// The longest name of a source of several databases: object keys hold 64 letters, and a number may follow.
pub const MAX_GROUP_NAME: usize = 28;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Databases, in the order of their paths, each with the ending of its source's name.
    pub databases: Vec<(PathBuf, String)>,
    /// Files that a pattern means and that are no databases, or cannot be looked at.
    pub others: Vec<(PathBuf, String)>,
}

/// Returns whether a path stands for what is in it: a directory, or a pattern that is not the name of a file.
pub fn is_place(path: &Path) -> bool {
    path.is_dir() || (is_wild(path) && path.symlink_metadata().is_err())
}

fn is_wild(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains(WILD))
}

/// Returns the directory that a pattern is about; a path without one is itself.
pub fn fixed_part(path: &Path) -> PathBuf {
    if !is_wild(path) || path.symlink_metadata().is_ok() {
        return path.to_owned();
    }
    let fixed = path.components().take_while(|part| !is_wild(Path::new(part)));
    let fixed: PathBuf = fixed.collect();
    if fixed.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        fixed
    }
}

/// Refuses a pattern that cannot be read.
pub fn check_pattern(path: &Path) -> Result<()> {
    if is_wild(path) {
        matcher(path)?;
    }
    Ok(())
}

fn matcher(path: &Path) -> Result<GlobMatcher> {
    let text = path.to_string_lossy();
    let glob = GlobBuilder::new(&text).literal_separator(true).build();
    let glob = glob.map_err(|e| Error::invalid(format!("invalid pattern \"{text}\"")).with_cause(e))?;
    Ok(glob.compile_matcher())
}

/// Returns whether a path is one that these files, patterns and directories mean.
pub fn covers(places: &[PathBuf], path: &Path) -> bool {
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(plain) {
        return false;
    }
    places
        .iter()
        .filter_map(|place| std::path::absolute(place).ok())
        .any(|place| {
            let wild = is_wild(&place) && place.symlink_metadata().is_err();
            if wild {
                matcher(&place).is_ok_and(|matcher| matcher.is_match(path))
            } else {
                // A directory that is gone with its host still means what was in it.
                path.starts_with(&place)
            }
        })
}

/// Finds the databases that are there now.
pub fn databases(places: &[PathBuf]) -> Result<Found> {
    let mut found = Found::default();
    let mut seen = BTreeSet::new();
    for place in places {
        check_pattern(place)?;
        let by_name = !place.is_dir();
        let root = fixed_part(place);
        for path in candidates(std::slice::from_ref(place)) {
            if !seen.insert(path.clone()) {
                continue;
            }
            // A file that was named is taken as it is, and fails as a source if it is none.
            let named = by_name && !is_place(place);
            let is_one = match open::begins_like_one(&path) {
                _ if named => true,
                Ok(is_one) => {
                    if !is_one && by_name && path.metadata().is_ok_and(|meta| meta.len() > 0) {
                        let why = "is no SQLite database, or one that is encrypted as a whole".to_owned();
                        found.others.push((path.clone(), why));
                    }
                    is_one
                }
                // It went away meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
                // Not to be able to look is not to know that it is none.
                Err(_) if by_name || has_ending(&path) => true,
                Err(error) => {
                    found
                        .others
                        .push((path.clone(), format!("cannot be looked at: {error}")));
                    false
                }
            };
            if is_one {
                let below = if named { None } else { path.strip_prefix(&root).ok() };
                let below = below.filter(|_| places.len() == 1).unwrap_or(&path);
                found.databases.push((path.clone(), ending(below)));
            }
        }
    }
    found.databases.sort();
    Ok(found)
}

/// Returns the files that may be databases, by their names alone.
pub fn candidates(places: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for place in places {
        if !is_place(place) {
            files.push(place.clone());
            continue;
        }
        let matcher = if place.is_dir() { None } else { matcher(place).ok() };
        let text = place.to_string_lossy();
        let depth = if matcher.is_some() && !text.contains("**") {
            place.components().count() - fixed_part(place).components().count()
        } else {
            usize::MAX
        };
        walk(&fixed_part(place), depth, matcher.as_ref(), &mut files);
    }
    files.sort();
    files.dedup();
    files
}

fn walk(directory: &Path, depth: usize, matcher: Option<&GlobMatcher>, files: &mut Vec<PathBuf>) {
    let Some(below) = depth.checked_sub(1) else { return };
    let is_ours = std::fs::File::open(directory).is_ok_and(own::contains);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) if !is_ours => entries,
        Ok(_) => return,
        Err(error) => {
            tracing::warn!("\"{}\" is not searched for databases: {error}", directory.display());
            return;
        }
    };
    for entry in entries.flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else {
            continue;
        };
        if kind.is_dir() {
            walk(&path, below, matcher, files);
            continue;
        }
        // A pattern may mean a link to a database; below a directory the database itself is there, or is not meant.
        let is_file = kind.is_file() || (matcher.is_some() && kind.is_symlink() && path.is_file());
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_part = SUFFIXES
            .iter()
            .any(|suffix| !suffix.is_empty() && name.ends_with(suffix));
        let is_kept = KEPT.iter().any(|kept| name.contains(kept));
        if is_file && !is_part && !is_kept && matcher.is_none_or(|matcher| matcher.is_match(&path)) {
            files.push(path);
        }
    }
}

fn has_ending(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ENDINGS.iter().any(|one| ending.eq_ignore_ascii_case(one)))
}

/// Returns what names a database among those of its source: the same whatever others there are, and another for each. A plain
/// file name is itself; everything else is made plain, and a digest tells it apart.
fn ending(below: &Path) -> String {
    let text = below.to_string_lossy();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_plain = text.split_once('.').is_some_and(|(stem, ending)| {
        !stem.is_empty()
            && !ending.is_empty()
            && stem.chars().all(|c| plain(c) || matches!(c, '_' | '-'))
            && ending.chars().all(plain)
    });
    if is_plain && text.len() <= MAX_ENDING {
        return text.into_owned();
    }
    let digest = hex::encode(Sha256::digest(below.as_os_str().as_bytes()));
    let made: String = text
        .trim_start_matches('/')
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let start = made.len().saturating_sub(MAX_ENDING - 9);
    format!(
        "{}-{}",
        made.get(start..).unwrap_or_default(),
        digest.get(..8).unwrap_or_default()
    )
}

/// A source in whose places there is no database: a disk that is not mounted, a path that moved.
#[derive(Debug)]
pub struct NoDatabases {
    places: Vec<PathBuf>,
}

impl NoDatabases {
    /// Of these files, patterns and directories.
    pub fn of(places: Vec<PathBuf>) -> Self {
        Self { places }
    }

    fn error(&self) -> Error {
        Error::new(
            ErrorKind::NotFound,
            format!("there is no SQLite database in \"{}\"", self.location()),
        )
        .with_hint("Correct the path; in a container, mount the directory.")
    }
}

#[async_trait]
impl Source for NoDatabases {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn location(&self) -> String {
        let places: Vec<String> = self.places.iter().map(|place| place.display().to_string()).collect();
        places.join(", ")
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        Err(self.error())
    }

    async fn backup(&self, _: BackupContext) -> Result<SourceOutcome> {
        Err(self.error())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn database(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let db = rusqlite::Connection::open(path).unwrap();
        db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
            .unwrap();
    }

    fn names(places: &[PathBuf]) -> Vec<String> {
        databases(places)
            .unwrap()
            .databases
            .into_iter()
            .map(|(_, name)| name)
            .collect()
    }

    #[test]
    fn databases_are_found_by_how_they_begin() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        for name in [
            "app.db",
            "users.sqlite",
            "deep/er/Tenant 1.db",
            "no-ending",
            "app.db.pre-restore-20260101T000000Z",
        ] {
            database(&root.join(name));
        }
        for (name, text) in [
            ("text.db", "hello"),
            ("empty.db", ""),
            ("app.db-wal", "SQLite format 3\0 and more"),
        ] {
            std::fs::write(root.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink(root.join("deep"), root.join("link")).unwrap();
        let whole = names(&[root.to_owned()]);
        assert_eq!(whole.len(), 4, "{whole:?}");
        assert!(whole[0] == "app.db" && whole[3] == "users.sqlite", "{whole:?}");
        assert!(whole[1].starts_with("deep_er_Tenant_1.db-"), "{whole:?}");
        assert_eq!(names(&[root.join("*.db")]), ["app.db"]);
        let found = databases(&[root.join("*.db")]).unwrap();
        assert_eq!(found.others.len(), 1, "{:?}", found.others);
        assert_eq!(names(&[root.join("**/*.db")]).len(), 2);
        assert_eq!(names(&[root.join("*.{db,sqlite}")]), ["app.db", "users.sqlite"]);
        // A database that comes later changes nobody's name.
        database(&root.join("aaa.db"));
        assert_eq!(names(&[root.join("*.db")]), ["aaa.db", "app.db"]);
        let both = names(&[root.join("app.db"), root.join("*.sqlite")]);
        assert!(both.iter().all(|name| name.contains('-')), "{both:?}");
    }

    #[test]
    fn a_pattern_covers_what_it_means_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        let covered = |pattern: &str, path: &str| covers(&[root.join(pattern)], &root.join(path));
        assert!(covered("*.db", "a.db") && covered("", "deep/a.db") && covered("a.db", "a.db"));
        for (pattern, path) in [
            ("*.db", "deep/a.db"),
            ("*.db", "a.txt"),
            ("sub", "a.db"),
            ("", "../a.db"),
            ("a.db", "b.db"),
        ] {
            assert!(!covered(pattern, path), "{pattern} {path}");
        }
        assert!(!covers(&[PathBuf::from("/")], Path::new("relative.db")));
        assert!(check_pattern(Path::new("/x/[a")).is_err());
        assert_eq!(fixed_part(Path::new("/data/t*/x.db")), Path::new("/data"));
    }
}
