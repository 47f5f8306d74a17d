//! Files that are locked for as long as a process is at work.
//!
//! The number of a process says nothing of one in another container, where it is nobody's or another's, and little of one that
//! ended: the first process of a container is number 1 each time. A lock (flock(2)) belongs to an open file. The kernel gives it
//! back when the process ends, however it ends, and whoever has the file sees it, from other containers as well.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Files that killed processes left are removed after this. What they tell is asked within the ten minutes of a lease.
const KEPT: Duration = Duration::from_secs(86_400);

/// What a lock tells of the process that made the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is at work.
    Held,
    /// It has ended, for certain.
    Free,
    /// There is no such file here, or a file system without locks.
    Unknown,
}

/// Takes the lock of a file that is held until it is closed; returns whether it was to be had.
pub(crate) fn lock(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Asks the lock of a file that was locked before anybody could know of it.
pub(crate) fn standing(path: &Path) -> Standing {
    let Ok(file) = File::open(path) else {
        return Standing::Unknown;
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Standing::Free,
        Err(Errno::WOULDBLOCK) => Standing::Held,
        Err(_) => Standing::Unknown,
    }
}

/// A file without content that is locked, and goes away, with this.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    _file: File,
}

impl LockFile {
    /// Makes it. Under its name it is never seen without its lock.
    pub(crate) fn create(directory: &Path, name: &str) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        remove_old(directory);
        let (path, temporary) = (
            directory.join(name),
            directory.join(format!("{name}.{:08x}.new", rand::random::<u32>())),
        );
        // Another user of this host has to see the lock too; nothing is in the file.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&temporary)?;
        let named = if lock(&file) {
            std::fs::rename(&temporary, &path)
        } else {
            Err(io::ErrorKind::Unsupported.into())
        };
        if let Err(error) = named {
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
        Ok(Self { path, _file: file })
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn remove_old(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|meta| meta.modified());
        let is_old = modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > KEPT));
        if is_old && standing(&entry.path()) == Standing::Free {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_lock_tells_whether_its_process_is_at_work() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("leases");
        let path = directory.join("one");
        assert_eq!(standing(&path), Standing::Unknown);
        let held = LockFile::create(&directory, "one").unwrap();
        assert_eq!(standing(&path), Standing::Held);
        drop(held);
        assert!(!path.exists());
        // A process that was killed leaves the file and not the lock.
        std::fs::write(&path, "").unwrap();
        assert_eq!(standing(&path), Standing::Free);
        let old = std::time::SystemTime::now() - 2 * KEPT;
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
        let again = LockFile::create(&directory, "two").unwrap();
        assert!(!path.exists() && directory.join("two").exists());
        drop(again);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    }
}
