//! The databases that are in some place at the time of a run: below a directory, or by a pattern.
//!
//! A database is known by how it begins, not by its name; `-wal`, `-shm` and `-journal` are parts of one, and what a restore
//! kept beside is none. Links to directories are not followed, and repositories are not entered.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use globset::{GlobBuilder, GlobMatcher};
use sha2::{Digest, Sha256};

use super::open;
use super::registry::SUFFIXES;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::own;
use crate::engines::{BackupContext, Finding, Source, SourceOutcome};

/// Letters that make a pattern of a path.
const WILD: &[char] = &['*', '?', '[', '{'];

/// Endings that say of a file which cannot be read that it is meant.
const ENDINGS: &[&str] = &["db", "db3", "sqlite", "sqlite3"];

/// The smallest page of a database, in bytes.
const SMALLEST_PAGE: u64 = 512;

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
    /// Files that a pattern means and that are no databases, or cannot be looked at and are none by their size.
    pub others: Vec<(PathBuf, String)>,
    /// Where databases may be that nobody can see, and listed places that hold none.
    pub unsearched: Vec<Unsearched>,
}

/// A part of the places that could not be searched, or one of several places without a database.
#[derive(Debug)]
pub struct Unsearched {
    /// A directory, a link, or the place as it was listed.
    pub path: PathBuf,
    /// The ending of its source's name.
    pub ending: String,
    /// Why no database of it is seen.
    pub why: Unseen,
}

/// Why a source stands where no database is seen. In documents it is its sentence.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(into = "String")]
pub enum Unseen {
    /// A place was searched and holds none.
    Absent {
        /// The place, or several with commas between.
        places: String,
    },
    /// It cannot be searched, so databases may be there.
    Unsearchable {
        /// A directory or a link.
        place: String,
        /// What the system says.
        reason: String,
    },
}

impl Unseen {
    fn absent(path: &Path) -> Self {
        Self::Absent {
            places: path.display().to_string(),
        }
    }

    fn unsearchable(path: &Path, error: &io::Error) -> Self {
        Self::Unsearchable {
            place: path.display().to_string(),
            reason: error.to_string(),
        }
    }

    /// Says what can be done.
    fn hint(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "Correct the path; in a container, mount the directory.",
            Self::Unsearchable { .. } => {
                "Give this user the permission to list it, or use a pattern that does not match it."
            }
        }
    }
}

impl std::fmt::Display for Unseen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent { places } => write!(f, "no SQLite database in \"{places}\""),
            Self::Unsearchable { place, reason } => {
                write!(f, "\"{place}\" cannot be searched for databases: {reason}")
            }
        }
    }
}

impl From<Unseen> for String {
    fn from(why: Unseen) -> Self {
        why.to_string()
    }
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

/// Refuses a pattern that cannot be read. The name of a file that is there is none, whatever letters it has.
pub fn check_pattern(path: &Path) -> Result<()> {
    if is_wild(path) && path.symlink_metadata().is_err() {
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
    let mut known: BTreeMap<PathBuf, bool> = BTreeMap::new();
    for place in places {
        check_pattern(place)?;
        let by_name = !place.is_dir();
        let root = fixed_part(place);
        // A file that was named is taken as it is, and fails as a source if it is none.
        let named = by_name && !is_place(place);
        let ending_of = |path: &Path| {
            let below = if named { None } else { path.strip_prefix(&root).ok() };
            let below = below.filter(|below| places.len() == 1 && !below.as_os_str().is_empty());
            ending(below.unwrap_or(path))
        };
        let Search { files, failures, .. } = Search::through(place);
        let mut holds_some = false;
        for path in files {
            let is_one = if let Some(is_one) = known.get(&path) {
                *is_one
            } else {
                let is_one = named || is_database(&path, by_name, &mut found.others);
                if is_one {
                    found.databases.push((path.clone(), ending_of(&path)));
                }
                known.insert(path, is_one);
                is_one
            };
            holds_some |= is_one;
        }
        // A single place without any is the failure of its source.
        if !holds_some && failures.is_empty() && places.len() > 1 {
            found.unsearched.push(Unsearched {
                path: place.clone(),
                ending: ending(place),
                why: Unseen::absent(place),
            });
        }
        for (path, error) in failures {
            let is_known = found.unsearched.iter().any(|one| one.path == path);
            if !is_known {
                let (ending, why) = (ending_of(&path), Unseen::unsearchable(&path, &error));
                found.unsearched.push(Unsearched { path, ending, why });
            }
        }
    }
    found.databases.sort();
    Ok(found)
}

fn is_database(path: &Path, by_name: bool, others: &mut Vec<(PathBuf, String)>) -> bool {
    match open::begins_like_one(path) {
        Ok(true) => true,
        Ok(false) => {
            if by_name && path.metadata().is_ok_and(|meta| meta.len() > 0) {
                let why = "is not a SQLite database, or is fully encrypted".to_owned();
                others.push((path.to_owned(), why));
            }
            false
        }
        // It went away meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        // Not to be able to look is not to know that it is none. Every page of one is so many times 512 bytes.
        Err(_) if by_name || has_ending(path) => true,
        Err(error) => {
            let is_whole = path
                .metadata()
                .map_or(true, |meta| meta.len() > 0 && meta.len().is_multiple_of(SMALLEST_PAGE));
            if !is_whole {
                others.push((path.to_owned(), format!("cannot be inspected: {error}")));
            }
            is_whole
        }
    }
}

/// Returns the files that may be databases, by their names alone.
pub fn candidates(places: &[PathBuf]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = places.iter().flat_map(|place| Search::through(place).files).collect();
    files.sort();
    files.dedup();
    files
}

/// The way through one place.
#[derive(Default)]
struct Search {
    matcher: Option<GlobMatcher>,
    /// By its number of names, what a directory must match to hold something that is meant; every other may.
    levels: Vec<GlobMatcher>,
    files: Vec<PathBuf>,
    failures: Vec<(PathBuf, io::Error)>,
}

impl Search {
    fn through(place: &Path) -> Self {
        let mut search = Self::default();
        if !is_place(place) {
            search.files.push(place.to_owned());
            return search;
        }
        let mut depth = usize::MAX;
        if !place.is_dir() {
            search.matcher = matcher(place).ok();
            search.levels = levels(place);
            if !place.to_string_lossy().contains("**") {
                depth = place.components().count() - fixed_part(place).components().count();
            }
        }
        search.walk(&fixed_part(place), depth);
        search.files.sort();
        search
    }

    fn walk(&mut self, directory: &Path, depth: usize) {
        let Some(below) = depth.checked_sub(1) else { return };
        let names = directory.components().count();
        if self.levels.get(names).is_some_and(|level| !level.is_match(directory)) {
            return;
        }
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            // What a check of the filesystem found without a name, root's alone on every ext4.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && directory.ends_with("lost+found") => {
                return;
            }
            Err(error) => return self.failures.push((directory.to_owned(), error)),
        };
        if std::fs::File::open(directory).is_ok_and(own::contains) {
            return;
        }
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.failures.push((directory.to_owned(), error)),
            };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.walk(&entry.path(), below),
                Ok(kind) => self.file(entry.path(), kind),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.failures.push((entry.path(), error)),
            }
        }
    }

    fn file(&mut self, path: PathBuf, kind: std::fs::FileType) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_part = SUFFIXES
            .iter()
            .any(|suffix| !suffix.is_empty() && name.ends_with(suffix));
        let is_kept = KEPT.iter().any(|kept| name.contains(kept));
        let is_meant = self.matcher.as_ref().is_none_or(|matcher| matcher.is_match(&path));
        if is_part || is_kept || !is_meant {
            return;
        }
        // A pattern may mean a link to a database; below a directory the database itself is there, or is not meant.
        let links = self.matcher.is_some() && kind.is_symlink();
        match if links { Some(path.metadata()) } else { None } {
            Some(Ok(target)) if target.is_file() => self.files.push(path),
            Some(Err(error)) => self.failures.push((path, error)),
            None if kind.is_file() => self.files.push(path),
            _ => {}
        }
    }
}

/// Returns what directories must match, from none of the names of a pattern up to all before `**`.
fn levels(pattern: &Path) -> Vec<GlobMatcher> {
    let (mut prefix, mut levels) = (PathBuf::new(), Vec::new());
    let parts: Vec<Component<'_>> = pattern.components().collect();
    // Alternatives with a slash in them are names of different numbers.
    let alone = |part: &Component<'_>| matcher(Path::new(part.as_os_str())).is_ok();
    if !parts.iter().all(alone) {
        return levels;
    }
    for part in parts {
        let Ok(level) = matcher(&prefix) else { break };
        levels.push(level);
        if part.as_os_str().to_string_lossy().contains("**") {
            return levels;
        }
        prefix.push(part);
    }
    levels
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
        exact::text(&made, start.., "all its characters are ASCII"),
        exact::text(&digest, ..8, "SHA-256 has 64 digits")
    )
}

/// A source in whose places there is no database: a disk that is not mounted, a path that moved; or a part of a place that
/// could not be searched.
#[derive(Debug)]
pub struct NoDatabases {
    places: Vec<PathBuf>,
    why: Unseen,
}

impl NoDatabases {
    /// Of these files, patterns and directories; without a reason none was found in any of them.
    pub fn of(places: Vec<PathBuf>, why: Option<Unseen>) -> Self {
        let why = why.unwrap_or_else(|| Unseen::Absent {
            places: joined(&places),
        });
        Self { places, why }
    }

    fn error(&self) -> Error {
        Error::new(ErrorKind::NotFound, self.why.to_string()).with_hint(self.why.hint())
    }
}

fn joined(places: &[PathBuf]) -> String {
    let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    places.join(", ")
}

#[async_trait]
impl Source for NoDatabases {
    fn location(&self) -> String {
        joined(&self.places)
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

    /// What stands in for a directory that may not be listed, for the tests may run as root: a link that leads nowhere, and a
    /// place that is not there.
    #[test]
    fn what_cannot_be_searched_is_told_and_not_left_out() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        database(&root.join("app.db"));
        let told = |places: &[PathBuf]| {
            let found = databases(places).unwrap();
            assert_eq!(found.databases.len(), 1, "{found:?}");
            let of = |one: Unsearched| (one.path.clone(), one.why.to_string());
            found.unsearched.into_iter().map(of).collect::<Vec<_>>()
        };
        let usb = root.join("usb/*.db");
        let absent = told(&[root.join("*.db"), usb.clone()]);
        assert!(
            absent.len() == 1 && absent[0].0 == usb && absent[0].1.starts_with("no SQLite database in"),
            "{absent:?}"
        );
        // A place whose databases another one names too is not without any.
        assert_eq!(told(&[root.to_owned(), root.join("*.db")]), []);
        std::os::unix::fs::symlink(root.join("nowhere"), root.join("far.db")).unwrap();
        let far = told(&[root.join("*.db")]);
        assert!(
            far.len() == 1 && far[0].0 == root.join("far.db") && far[0].1.contains("cannot be searched"),
            "{far:?}"
        );
        assert_eq!(told(&[root.to_owned()]), []);
    }

    /// The sentence of a place begins with the place, whatever that is called.
    #[test]
    fn what_can_be_done_goes_by_the_reason_and_not_by_its_words() {
        let odd = Path::new("there is no");
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        let of = |why| NoDatabases::of(vec![odd.to_owned()], why).error();
        let refused = of(Some(Unseen::unsearchable(odd, &error)));
        assert!(refused.hint().unwrap().contains("permission to list"), "{refused:?}");
        let absent = of(Some(Unseen::absent(odd)));
        assert!(absent.hint().unwrap().contains("Correct the path"), "{absent:?}");
        assert_eq!(of(None).chain(), absent.chain());
        let written = serde_json::to_value(Unseen::absent(odd)).unwrap();
        assert_eq!(written, "no SQLite database in \"there is no\"");
    }

    #[test]
    fn a_search_enters_what_a_pattern_can_mean_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        for name in ["t1/app.db", "t2/deep/app.db", "other/app.db", "b/c/app.db"] {
            database(&root.join(name));
        }
        let enters = |pattern: &str, name: &str| {
            let directory: PathBuf = root.join(name).components().collect();
            let levels = levels(&root.join(pattern));
            let level = levels.get(directory.components().count());
            level.is_none_or(|level| level.is_match(&directory))
        };
        assert!(enters("t*/app.db", "t1") && enters("t*/app.db", "") && !enters("t*/app.db", "other"));
        assert!(enters("t*/**/app.db", "t2") && enters("t*/**/app.db", "t2/deep") && !enters("t*/**/*", "b"));
        assert!(enters("{a,b/c}/{x,y}/app.db", "b"));
        assert_eq!(names(&[root.join("t*/**/app.db")]).len(), 2);
        assert_eq!(names(&[root.join("{other,b/c}/app.db")]).len(), 2);
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
        let odd = root.join("a[1.db");
        database(&odd);
        assert!(check_pattern(&odd).is_ok() && databases(&[odd]).unwrap().databases.len() == 1);
        assert_eq!(fixed_part(Path::new("/data/t*/x.db")), Path::new("/data"));
    }
}
