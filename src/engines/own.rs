//! Directories of this program that no walk enters: repositories in directories, and a spool directory of its own.
//!
//! A backup that took its own repository would grow with every run, and a restore with `--delete` would move the
//! repository away as something that the backup does not know. They are known by device and inode, whatever path leads
//! to them, and looked up when a walk begins: the first backup makes the repository.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::engines::files::walk::id;

static DIRECTORIES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Keeps walks of this process out of a directory, whether it exists yet or not.
pub(crate) fn keep_out(path: &Path) {
    let mut directories = DIRECTORIES.lock().unwrap_or_else(PoisonError::into_inner);
    directories.insert(path.to_path_buf());
}

/// Returns device and inode of each that exists.
pub(crate) fn ids() -> HashSet<(u64, u64)> {
    let directories = DIRECTORIES.lock().unwrap_or_else(PoisonError::into_inner);
    let stats = directories.iter().filter_map(|path| rustix::fs::stat(path).ok());
    stats.map(|stat| id(&stat)).collect()
}

/// Returns whether an open directory is one of them.
pub(crate) fn contains(directory: impl AsFd) -> bool {
    rustix::fs::fstat(directory).is_ok_and(|stat| ids().contains(&id(&stat)))
}
