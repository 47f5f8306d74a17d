//! Locks that need no right but to read the file.
//!
//! SQLite's shared lock is a read lock on a range of bytes of the database, and a reader's lock of the WAL-index is one on
//! a byte of the `-shm`. Both are taken here on descriptors of our own, as locks of the open file description: they stand
//! against the POSIX locks of every connection, and closing another descriptor of the file does not drop them.
//!
//! The other way round it does: closing ours would drop the POSIX locks of this process's connections. So a descriptor is
//! unlocked and kept until nothing of this process has the database open any more (see [`close_kept`]).
//!
//! Bytes: <https://www.sqlite.org/fileformat2.html#the_lock_byte_page>, <https://www.sqlite.org/walformat.html#wal_locks>

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::registry::FileId;
use crate::base::error::{Error, ErrorKind, Result};

/// `PENDING_BYTE`: a writer that waits for its readers holds it, and no new reader may pass.
const PENDING: i64 = 0x4000_0000;
/// `SHARED_FIRST` and `SHARED_SIZE`.
const SHARED: (i64, i64) = (PENDING + 2, 510);
/// `WAL_READ_LOCK(0)` in the `-shm`: while it is read-locked, no checkpoint writes into the database.
const NO_CHECKPOINT: (i64, i64) = (123, 1);

static KEPT: Mutex<Vec<(FileId, File)>> = Mutex::new(Vec::new());

fn kept() -> MutexGuard<'static, Vec<(FileId, File)>> {
    KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Closes the descriptors that were kept for a database. Call it when this process has no connection to it.
pub(super) fn close_kept(id: FileId) {
    kept().retain(|(other, _)| *other != id);
}

/// A read lock, held until this is dropped.
#[derive(Debug)]
pub(super) struct ReadLock {
    /// `None` only while it is dropped.
    file: Option<File>,
    id: FileId,
}

impl ReadLock {
    /// Takes SQLite's shared lock on the database at `path`; `id` is its device and inode.
    ///
    /// While it is held nobody writes a rollback-mode database, changes the journal mode, or removes the `-wal`.
    pub(super) fn shared(path: &Path, id: FileId, timeout: Duration) -> Result<Self> {
        let lock = Self::open(path, id)?;
        let file = lock.file();
        let began = Instant::now();
        loop {
            if set(file, libc::F_RDLCK, (PENDING, 1))? {
                let got = set(file, libc::F_RDLCK, SHARED)?;
                set(file, libc::F_UNLCK, (PENDING, 1))?;
                if got {
                    return Ok(lock);
                }
            }
            if began.elapsed() > timeout {
                return Err(
                    Error::new(ErrorKind::TimedOut, "another process holds a lock on the database")
                        .with_hint("Raise the busy timeout, or try again when its writer is idle."),
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Keeps checkpoints away by a lock on the `-shm` of the database `id`; `None` if it cannot be had now.
    pub(super) fn against_checkpoints(shm: &Path, id: FileId) -> Option<Self> {
        let lock = Self::open(shm, id).ok()?;
        set(lock.file(), libc::F_RDLCK, NO_CHECKPOINT).ok()?.then_some(lock)
    }

    fn open(path: &Path, id: FileId) -> Result<Self> {
        Ok(Self {
            file: Some(File::open(path)?),
            id,
        })
    }

    /// Returns the locked file.
    pub(super) fn file(&self) -> &File {
        self.file.as_ref().expect("the file is taken only by drop")
    }
}

impl Drop for ReadLock {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Zero bytes are all of them.
            let _ = set(&file, libc::F_UNLCK, (0, 0));
            kept().push((self.id, file));
        }
    }
}

/// Returns whether somebody holds SQLite's shared lock on a database: a connection in WAL mode does it while it is open,
/// others while they read or write.
pub(super) fn is_held(path: &Path, id: FileId) -> Result<bool> {
    let probe = ReadLock::open(path, id)?;
    let mut lock = describe(libc::F_WRLCK, SHARED)?;
    fcntl(probe.file(), FcntlArg::F_OFD_GETLK(&mut lock)).map_err(std::io::Error::from)?;
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}

/// Sets or drops a lock without waiting. Returns whether it was granted.
fn set(file: &File, kind: libc::c_int, range: (i64, i64)) -> Result<bool> {
    let lock = describe(kind, range)?;
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
            Err(cause) => {
                return Err(Error::unsupported("the database cannot be locked here")
                    .with_cause(std::io::Error::from(cause))
                    .with_hint(
                        "Its filesystem or this kernel has no file locks, without which no copy can be proven \
                         consistent; back it up where it is written.",
                    ));
            }
        }
    }
}

fn describe(kind: libc::c_int, (start, len): (i64, i64)) -> Result<libc::flock> {
    let number = |value: libc::c_int| {
        libc::c_short::try_from(value).map_err(|e| Error::new(ErrorKind::Other, "number of a lock").with_cause(e))
    };
    Ok(libc::flock {
        l_type: number(kind)?,
        l_whence: number(libc::SEEK_SET)?,
        l_start: start,
        l_len: len,
        l_pid: 0,
    })
}
