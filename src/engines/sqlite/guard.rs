//! Reads a resting WAL database of which nothing may be written, not even its `-shm`, and proves that it stood still.
//!
//! Without a `-shm` a reader cannot take part in SQLite's locks of the WAL. Three things stand in for them:
//!
//! - Our shared lock on the database file: nobody commits in rollback mode, changes the journal mode, works in exclusive
//!   locking mode, or takes the `-wal` away. What is left is a checkpoint, and whoever makes one has made a `-wal` before.
//! - As soon as an application has made its `-shm`, a read lock there that keeps every checkpoint away.
//! - Size, inode and modification time of the database file at the beginning and at the end, since a checkpoint can come
//!   before that second lock. A time that is younger than the clock's tick is waited out, so that each write shows.
//!
//! If the file moved, nothing of it is stored.

use std::cell::RefCell;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::lock::ReadLock;
use super::registry::{self, FileId};
use crate::base::error::{Error, ErrorKind, Result};

/// What a file looks like from outside; a write changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: FileId,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// Looks at a file; `None` if there is none.
    pub(super) fn of(path: &Path) -> Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(meta) => Ok(Some(Self {
                file: (meta.dev(), meta.ino()),
                size: meta.len(),
                modified: (meta.mtime(), meta.mtime_nsec()),
            })),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Looks at a file whose next write will show: waits until its time of modification is older than the clock's tick.
    pub(super) fn settled(path: &Path) -> Result<Option<Self>> {
        loop {
            let Some(stamp) = Self::of(path)? else { return Ok(None) };
            let age = age(stamp.modified);
            // A filesystem that keeps whole seconds (or two of them) shows no fraction.
            let tick = Duration::from_millis(if stamp.modified.1 == 0 { 2100 } else { 50 });
            // A time to come is not reached by the next write.
            match age {
                Some(age) if age < tick => std::thread::sleep(tick.saturating_sub(age)),
                _ => return Ok(Some(stamp)),
            }
        }
    }
}

/// Returns how long ago a time was; `None` if it is to come.
fn age((seconds, nanos): (i64, i64)) -> Option<Duration> {
    let since = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH.checked_add(since)?)
        .ok()
}

/// Watches over a database that is read without SQLite's locks.
#[derive(Debug)]
pub(super) struct Guard {
    path: PathBuf,
    id: FileId,
    before: Option<Stamp>,
    no_checkpoints: RefCell<Option<ReadLock>>,
    /// Dropped last: until then the `-wal` of whoever came meanwhile stays.
    _shared: ReadLock,
}

impl Guard {
    /// Begins, with SQLite's shared lock taken before.
    pub(super) fn new(path: &Path, id: FileId, shared: ReadLock) -> Result<Self> {
        let guard = Self {
            path: path.to_path_buf(),
            id,
            before: Stamp::settled(path)?,
            no_checkpoints: RefCell::new(None),
            _shared: shared,
        };
        guard.watch()?;
        Ok(guard)
    }

    /// Keeps checkpoints away as soon as that is possible, and fails if the database was written. Call it often.
    pub(super) fn watch(&self) -> Result<()> {
        let mut latch = self.no_checkpoints.borrow_mut();
        if latch.is_none() {
            *latch = ReadLock::against_checkpoints(&registry::companion(&self.path, "-shm"), self.id);
        }
        if Stamp::of(&self.path)? == self.before {
            return Ok(());
        }
        Err(moved())
    }
}

/// Says that a database could not be read in one piece.
pub(super) fn moved() -> Error {
    Error::new(
        ErrorKind::PreconditionFailed,
        "the database was written while it was read from where its -shm cannot be created; it was not stored",
    )
    .with_hint(
        "Back it up again, or as the user whose database it is and with its directory writable: then SQLite's own locks \
         hold the snapshot while the application writes.",
    )
}
