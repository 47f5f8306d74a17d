//! Exchanges a database for another one, and back.
//!
//! A stale `-wal` beside a new file would corrupt it, so nobody may have the old one open, its WAL is emptied into it, and
//! what is left of `-wal`, `-shm` and `-journal` goes away before the new one is renamed over it. The old one has a second
//! name by then, so a kill at any moment leaves one of the two whole.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::inuse;
use super::open::error;
use super::registry::{self, companion};
use super::restore::SqliteRestoreOptions;
use crate::base::blocking::blocking;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::report::{Note, SharedReporter};

pub(super) fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Puts the new database in place of the old one. Returns where the old one is.
pub(super) fn swap(
    new: &Path,
    target: &Path,
    options: &SqliteRestoreOptions,
    reporter: &SharedReporter,
) -> Result<Option<PathBuf>> {
    let kept = companion(target, &format!(".pre-restore-{}", now()));
    let previous = if target.symlink_metadata().is_ok() {
        let held = hold_exclusively(target, options.busy_timeout)?;
        if !held.as_ref().is_some_and(is_in_wal_mode) {
            refuse_idle(target, options, reporter)?;
        }
        replace(new, target, &kept, held.is_some())?;
        Some(kept)
    } else {
        // A `-wal` without its database would be taken for the new one's.
        move_companions(target, &kept, false)?;
        rename_new(new, target)?;
        None
    };
    File::open(parent(target))?.sync_all()?;
    Ok(previous)
}

/// Returns whether an idle connection would have kept us from holding the database.
fn is_in_wal_mode(held: &Connection) -> bool {
    held.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))
        .is_ok_and(|mode| mode == "wal")
}

/// Says that somebody has the old database open; `holders` are those that were seen.
pub(super) fn in_use(holders: &[String]) -> Error {
    let who = match holders {
        [] => String::new(),
        some => format!(": {}", some.join(", ")),
    };
    let message = format!("another process has the old database open; it was not touched{who}");
    Error::new(ErrorKind::PreconditionFailed, message).with_hint("Stop the application, then restore again.")
}

/// Fails if another process has the old file open. Outside of WAL mode an idle connection holds no lock: it would read and
/// write the old database on under its second name.
fn refuse_idle(target: &Path, options: &SqliteRestoreOptions, reporter: &SharedReporter) -> Result<()> {
    let meta = std::fs::metadata(target)?;
    let seen = inuse::who_has_open((meta.dev(), meta.ino()));
    if !seen.holders.is_empty() {
        return Err(in_use(&seen.holders));
    }
    if seen.hidden > 0 {
        let message = format!(
            "{} processes could not be inspected; if one of them has the database open, restart it, because it still \
             uses the old one",
            seen.hidden
        );
        reporter.note(
            &options.task,
            Note::new("users-unknown", target.display().to_string(), message),
        );
    }
    Ok(())
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string()
}

/// Gives the old database its second name, takes its companions away, and renames the new one over it: at every moment
/// a whole database stands at `target`. With `held`, all of the old one is in its file (see [`hold_exclusively`]).
fn replace(new: &Path, target: &Path, kept: &Path, held: bool) -> Result<()> {
    let linked = match std::fs::hard_link(target, kept) {
        Ok(()) => true,
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => return Err(cause.into()),
        // A filesystem without hard links: the name is missing between two renames.
        Err(_) => {
            move_companions(target, kept, held)?;
            std::fs::rename(target, kept).with_context(|| format!("move \"{}\" away", target.display()))?;
            false
        }
    };
    let placed = if linked {
        move_companions(target, kept, held).and_then(|()| Ok(std::fs::rename(new, target)?))
    } else {
        rename_new(new, target)
    };
    placed.map_err(|cause| {
        let _ = if linked {
            std::fs::remove_file(kept)
        } else {
            std::fs::rename(kept, target)
        };
        let _ = move_companions(kept, target, false);
        cause.context("put the new database in place; the old one was put back")
    })
}

/// Moves `-wal`, `-shm` and `-journal` of one name to another. Those that hold nothing any more are removed if `held`.
fn move_companions(from: &Path, to: &Path, held: bool) -> Result<()> {
    for suffix in registry::SUFFIXES.into_iter().filter(|s| !s.is_empty()) {
        let name = companion(from, suffix);
        let Ok(meta) = name.symlink_metadata() else { continue };
        let act = || format!("move \"{}\" away", name.display());
        if held && (meta.len() == 0 || suffix == "-shm") {
            std::fs::remove_file(&name).with_context(act)?;
        } else {
            std::fs::rename(&name, companion(to, suffix)).with_context(act)?;
        }
    }
    Ok(())
}

/// Renames without replacing what an application may have made meanwhile, where the filesystem can.
fn rename_new(new: &Path, target: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, new, CWD, target, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => Ok(std::fs::rename(new, target)?),
        other => Ok(other.map_err(std::io::Error::from)?),
    }
}

/// Returns a connection that keeps everybody else out, or `None` if the old file is no database.
///
/// All of the database is in its file then: a hot journal was rolled back, the WAL is copied into the file and empty.
/// The connection removes no `-wal` by its name when it closes: that may be the new database's by then.
fn hold_exclusively(path: &Path, timeout: Duration) -> Result<Option<Connection>> {
    use rusqlite::ErrorCode as Code;
    let attempt = || -> rusqlite::Result<(Connection, bool)> {
        let db = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        db.busy_timeout(timeout)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // In WAL mode BEGIN EXCLUSIVE alone lets readers be; with this locking mode they must have left. The lock is
        // kept after COMMIT.
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        db.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        let busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        Ok((db, busy != 0))
    };
    // Another hint than that of a lock in general: waiting longer for an application that runs is in vain.
    let used = |own: Error| {
        let seen = std::fs::metadata(path).map(|meta| inuse::who_has_open((meta.dev(), meta.ino())));
        in_use(&seen.unwrap_or_default().holders).with_cause(own.chain())
    };
    match attempt() {
        Ok((db, false)) => Ok(Some(db)),
        Ok((_, true)) => Err(used(Error::new(ErrorKind::TimedOut, "its WAL could not be emptied"))),
        Err(cause) => match cause.sqlite_error_code() {
            Some(Code::NotADatabase | Code::DatabaseCorrupt) => Ok(None),
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => Err(used(error(cause))),
            _ => Err(error(cause).context("check that no process uses the old database; it was not touched")),
        },
    }
}

/// Puts the old database back that [`restore`] kept; the restored one is kept beside under `.undone-<time>`.
pub async fn undo(target: &Path, previous: &Path, options: &SqliteRestoreOptions) -> Result<PathBuf> {
    let (target, previous, options) = (target.to_path_buf(), previous.to_path_buf(), options.clone());
    blocking(move || {
        let target = std::fs::canonicalize(&target).unwrap_or(target);
        if !previous.exists() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("\"{}\" does not exist", previous.display()),
            ));
        }
        let aside = companion(&target, &format!(".undone-{}", now()));
        if target.symlink_metadata().is_ok() {
            let held = hold_exclusively(&target, options.busy_timeout)?;
            if !held.as_ref().is_some_and(is_in_wal_mode) {
                refuse_idle(&target, &options, &crate::base::report::silent())?;
            }
            replace(&previous, &target, &aside, held.is_some())?;
        } else {
            move_companions(&target, &aside, false)?;
            rename_new(&previous, &target)?;
        }
        move_companions(&previous, &target, false)?;
        File::open(parent(&target))?.sync_all()?;
        Ok(aside)
    })
    .await
}
