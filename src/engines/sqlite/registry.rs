//! The SQLite databases this process works with, so that nothing else in it opens and closes them.
//!
//! Closing any descriptor of a file drops all POSIX locks of the process on it: another process would then commit
//! under our read transaction, and the `-wal` is deleted under our reader. So every database that is configured is
//! registered here, and every walk leaves out the database, its `-wal`, `-shm` and `-journal`. A file is known by its
//! device and inode, and by its name within its directory (device and inode again), because a `-wal` that comes later
//! has an inode nobody has seen yet.
//!
//! Locks: <https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// Device and inode.
pub type FileId = (u64, u64);

/// What a database's own files are called, after its name.
pub const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Returns the name of a companion of the database at `path`.
pub(super) fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[derive(Debug, Default)]
struct Registered {
    names: HashMap<(FileId, Vec<u8>), usize>,
    files: HashMap<FileId, usize>,
    /// Descriptors that were opened by mistake; they stay open, since closing them would drop the locks.
    kept: Vec<OwnedFd>,
}

static REGISTERED: Mutex<Option<Registered>> = Mutex::new(None);

fn registered() -> MutexGuard<'static, Option<Registered>> {
    REGISTERED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Keeps a database registered until it is dropped.
#[derive(Debug)]
pub struct Registration {
    names: Vec<(FileId, Vec<u8>)>,
    files: Vec<FileId>,
}

/// Registers the database at `path` (it need not exist yet) and its companions.
pub fn register(path: &Path) -> Registration {
    let mut result = Registration {
        names: Vec::new(),
        files: Vec::new(),
    };
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
        return result;
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    for suffix in SUFFIXES {
        let mut own = name.as_bytes().to_vec();
        own.extend_from_slice(suffix.as_bytes());
        if let Ok(file) = std::fs::metadata(parent.join(OsString::from_vec(own.clone()))) {
            result.files.push((file.dev(), file.ino()));
        }
        if let Ok(directory) = std::fs::metadata(parent) {
            result.names.push(((directory.dev(), directory.ino()), own));
        }
    }
    let mut guard = registered();
    let all = guard.get_or_insert_default();
    for name in &result.names {
        *all.names.entry(name.clone()).or_default() += 1;
    }
    for file in &result.files {
        *all.files.entry(*file).or_default() += 1;
    }
    result
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut guard = registered();
        let Some(all) = guard.as_mut() else { return };
        for name in &self.names {
            if let Some(count) = all.names.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    all.names.remove(name);
                }
            }
        }
        for file in &self.files {
            if let Some(count) = all.files.get_mut(file) {
                *count -= 1;
                if *count == 0 {
                    all.files.remove(file);
                }
            }
        }
    }
}

/// Returns whether `name` in the directory `directory`, being the file `file`, belongs to a registered database.
pub fn is_registered(directory: FileId, name: &[u8], file: FileId) -> bool {
    let guard = registered();
    let Some(all) = guard.as_ref() else { return false };
    all.files.contains_key(&file) || (!all.names.is_empty() && all.names.contains_key(&(directory, name.to_vec())))
}

/// Returns whether the open file `file` belongs to a registered database.
pub fn is_registered_file(file: FileId) -> bool {
    registered().as_ref().is_some_and(|all| all.files.contains_key(&file))
}

/// Keeps a descriptor open for good: it turned out to be of a registered database after it was opened.
pub fn keep_open(fd: OwnedFd) {
    registered().get_or_insert_default().kept.push(fd);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_database_and_a_wal_that_comes_later_are_known_until_the_last_registration_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        std::fs::write(&path, b"").unwrap();
        let first = register(&path);
        let second = register(&path);
        let meta = std::fs::metadata(dir.path()).unwrap();
        let here = (meta.dev(), meta.ino());
        assert!(is_registered(here, b"app.db-wal", (0, 0)));
        assert!(!is_registered(here, b"app.db-other", (0, 0)));
        let file = std::fs::metadata(&path).unwrap();
        assert!(is_registered_file((file.dev(), file.ino())));
        drop(first);
        assert!(is_registered(here, b"app.db", (0, 0)));
        drop(second);
        assert!(!is_registered(here, b"app.db", (0, 0)));
    }
}
