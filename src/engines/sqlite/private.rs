//! A copy of our own: where the online backup API writes to, or where a database is recovered that its last writer left in
//! the middle of a transaction. The original is left as it is.
//!
//! Recovery needs the database together with its `-journal` or `-wal`, of one moment. SQLite's shared lock keeps everybody
//! from writing and from rolling back meanwhile; a `-wal` can be written under it, so all of them must look the same
//! before and after.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::guard::Stamp;
use super::open::{Pending, error};
use super::registry::companion;
use crate::base::error::{Context, Error, ErrorKind, Result};

/// Bytes between two looks at whether the work was cancelled.
const STRETCH: u64 = 16 << 20;

/// What is copied beside the database; the `-shm` is made anew.
const COMPANIONS: [&str; 2] = ["-journal", "-wal"];

/// A directory of our own for the copy; removed when it is dropped.
#[derive(Debug)]
pub(super) struct Spool(PathBuf);

impl Spool {
    pub(super) fn create(parent: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::create_dir_all(parent).with_context(|| format!("create spool directory \"{}\"", parent.display()))?;
        let path = parent.join(format!("sqlite-{:016x}", rand::random::<u64>()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("create \"{}\"", path.display()))?;
        Ok(Self(path))
    }

    /// Returns the file of the copy.
    pub(super) fn file(&self) -> PathBuf {
        self.0.join("copy.db")
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Copies a database that must be recovered and recovers the copy. Returns whether it was read in one piece; otherwise
/// it was written meanwhile, and is to be opened again.
pub(super) fn recover(pending: &Pending, spool: &Spool, cancel: &mut dyn FnMut() -> Result<()>) -> Result<bool> {
    let look = || -> Result<Vec<Option<Stamp>>> {
        let names = COMPANIONS.iter().map(|suffix| companion(&pending.path, suffix));
        std::iter::once(pending.path.clone())
            .chain(names)
            .map(|path| Stamp::settled(&path))
            .collect()
    };
    let before = look()?;
    let copy = spool.file();
    let mut source = pending.file();
    source.rewind()?;
    copy_to(source, &copy, cancel)?;
    for suffix in COMPANIONS {
        let path = companion(&pending.path, suffix);
        match File::open(&path) {
            Ok(file) => copy_to(&file, &companion(&copy, suffix), cancel)?,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => {
                return Err(Error::from(cause).context(format!(
                    "read \"{}\", without which the database is torn",
                    path.display()
                )));
            }
        }
    }
    if look()? != before {
        for suffix in ["", "-journal", "-wal"] {
            let _ = std::fs::remove_file(companion(&copy, suffix));
        }
        return Ok(false);
    }
    settle(&copy).context("recover the private copy")?;
    Ok(true)
}

fn copy_to(mut from: &File, to: &Path, cancel: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let act = || format!("copy to \"{}\"", to.display());
    let mut to = File::create_new(to).with_context(act)?;
    loop {
        cancel()?;
        // Within one filesystem that can share blocks, this shares them.
        let copied = std::io::copy(&mut Read::take(&mut from, STRETCH), &mut to).with_context(act)?;
        if copied == 0 {
            return to.flush().with_context(act);
        }
    }
}

/// Rolls a journal back and empties a WAL into the file, as the next writer of the original would.
fn settle(copy: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(copy, flags).map_err(error)?;
    db.pragma_update(None, "synchronous", "OFF").map_err(error)?;
    db.pragma_update(None, "writable_schema", true).map_err(error)?;
    let pages: i64 = db
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .map_err(error)?;
    let busy: i64 = db
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(error)?;
    db.close().map_err(|(_, cause)| error(cause))?;
    let left = COMPANIONS
        .iter()
        .any(|suffix| std::fs::metadata(companion(copy, suffix)).is_ok_and(|meta| meta.len() > 0));
    if busy != 0 || left || (pages == 0 && std::fs::metadata(copy)?.len() > 0) {
        return Err(Error::new(
            ErrorKind::Other,
            "SQLite did not recover the journal or WAL of its last writer",
        ));
    }
    Ok(())
}
