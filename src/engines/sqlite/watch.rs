//! Whether databases changed, by the names, sizes and times of their files.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::engines::Watched;
use crate::engines::sqlite::discover;

/// One database.
#[derive(Debug)]
pub(super) struct WatchedDatabase(pub(super) PathBuf);

/// The databases in some places.
#[derive(Debug)]
pub(super) struct WatchedPlaces(pub(super) Vec<PathBuf>);

impl Watched for WatchedDatabase {
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        of_database(&self.0).hash(&mut hasher);
        hasher.finish()
    }
}

impl Watched for WatchedPlaces {
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for path in discover::candidates(&self.0) {
            (&path, of_database(&path)).hash(&mut hasher);
        }
        hasher.finish()
    }
}

type DatabaseFacts = (Option<Facts>, Option<Facts>);

fn of_database(path: &Path) -> DatabaseFacts {
    let mut log = path.to_owned().into_os_string();
    log.push("-wal");
    // An empty one says nothing: a backup of a resting database makes one, and takes it away.
    let log = facts(Path::new(&log)).filter(|(_, size, ..)| *size > 0);
    (facts(path), log)
}

type Facts = (u64, u64, i64, i64);

/// Asked by name: opening the database, and closing it again, would drop its locks.
fn facts(path: &Path) -> Option<Facts> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_empty_wal_does_not_change_the_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        std::fs::write(&path, b"database").unwrap();
        let watched = WatchedDatabase(path);
        let before = watched.fingerprint();
        std::fs::write(dir.path().join("app.db-wal"), b"").unwrap();
        assert_eq!(watched.fingerprint(), before);
        std::fs::write(dir.path().join("app.db-wal"), b"frames").unwrap();
        assert_ne!(watched.fingerprint(), before);
    }
}
