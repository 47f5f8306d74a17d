//! Puts a database back: beside, checked, then in place of the old one, which is kept.
//!
//! Until the last step the live database is untouched. A stale `-wal` beside a new file would corrupt it, so nobody may
//! have the old one open, its WAL is emptied into it, and what is left of `-wal`, `-shm` and `-journal` goes away before
//! the new one is renamed over it. The old one has a second name by then, so a kill at any moment leaves one of the two whole.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio_util::sync::CancellationToken;

use super::open::error;
use super::{DatabaseFacts, STREAM, check_file, registry};
use crate::archive::reader::Selection;
use crate::archive::{ArchiveReader, EntryEvent};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::report::{Note, SharedReporter};
use crate::sources::files::blocking;

/// Options of a restore.
#[derive(Debug, Clone)]
pub struct SqliteRestoreOptions {
    /// Task name towards the reporter.
    pub task: String,
    /// Whether an existing database may be replaced; it is kept beside.
    pub replace: bool,
    /// Runs `integrity_check` instead of `quick_check`.
    pub full_check: bool,
    /// How long to wait for others to leave the old database.
    pub busy_timeout: Duration,
}

impl Default for SqliteRestoreOptions {
    fn default() -> Self {
        Self {
            task: STREAM.to_owned(),
            replace: false,
            full_check: false,
            busy_timeout: Duration::from_secs(10),
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteRestoreReport {
    /// The database.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Where the old database is kept, if there was one; pass it to [`undo`].
    pub previous: Option<PathBuf>,
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A file that is removed unless it is kept.
#[derive(Debug)]
struct Beside(Option<PathBuf>);

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            for suffix in registry::SUFFIXES {
                let _ = std::fs::remove_file(with_suffix(path, suffix));
            }
        }
    }
}

/// Restores the database of a source to the file `target`.
pub async fn restore(
    reader: ArchiveReader,
    target: &Path,
    options: &SqliteRestoreOptions,
    reporter: SharedReporter,
    cancel: CancellationToken,
) -> Result<SqliteRestoreReport> {
    let facts = facts_of(&reader).await?;
    let (target, options) = (target.to_path_buf(), options.clone());
    let runtime = tokio::runtime::Handle::current();
    let act = format!("restore \"{}\"", target.display());
    blocking(move || {
        // SQLite's companions stand beside the file itself, not beside a link to it.
        let target = std::fs::canonicalize(&target).unwrap_or(target);
        if !options.replace && target.symlink_metadata().is_ok() {
            return Err(
                Error::new(ErrorKind::AlreadyExists, format!("\"{}\" exists", target.display()))
                    .with_hint("Restore into another file, or allow the old one to be replaced; it is kept beside."),
            );
        }
        let temporary = with_suffix(&target, ".restore.tmp");
        let bytes = facts.page_size.saturating_mul(facts.page_count);
        check_space(&target, bytes)?;
        let file = claim(&temporary)?;
        let mut beside = Beside(Some(temporary.clone()));
        runtime.block_on(receive(&reader, &facts, &file, &options, &reporter, &cancel))?;
        if file.metadata()?.len() != bytes {
            return Err(Error::corrupt(format!(
                "the stored database has {} bytes instead of {bytes}",
                file.metadata()?.len()
            )));
        }
        file.sync_all().context("write the database to disk")?;
        reporter.phase(&options.task, "check");
        check_file(&temporary, options.full_check)
            .context("check the restored database; the live one was not touched")?;
        dress(&temporary, &target, &facts, &options, &reporter)?;
        let previous = swap(&temporary, &target, &options)?;
        beside.0 = None;
        // Until here no other restore takes the temporary file for a leaving.
        drop(file);
        Ok(SqliteRestoreReport {
            path: target,
            bytes,
            previous,
        })
    })
    .await
    .context(act)
}

/// Makes the temporary file, or takes over what a killed restore left.
fn claim(path: &Path) -> Result<File> {
    let act = || format!("create \"{}\"", path.display());
    for _ in 0..10 {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .with_context(act)?;
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            == Err(rustix::io::Errno::WOULDBLOCK)
        {
            return Err(Error::new(
                ErrorKind::PreconditionFailed,
                "another restore of this database is running",
            )
            .with_hint("Wait for it to end. Nothing was changed."));
        }
        // Whoever held the lock may have ended meanwhile: then this file is the live database, or is gone.
        let own = file.metadata()?;
        let same = path
            .symlink_metadata()
            .is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()));
        if same {
            for suffix in registry::SUFFIXES.into_iter().filter(|s| !s.is_empty()) {
                let _ = std::fs::remove_file(with_suffix(path, suffix));
            }
            rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o600)).map_err(std::io::Error::from)?;
            file.set_len(0).with_context(act)?;
            return Ok(file);
        }
    }
    Err(Error::new(
        ErrorKind::PreconditionFailed,
        "other restores of this database are running",
    ))
}

/// Returns the facts of the database in an archive.
pub async fn facts_of(reader: &ArchiveReader) -> Result<DatabaseFacts> {
    let record = reader.streams().await?.into_iter().find(|r| r.stream == STREAM);
    let record = record.ok_or_else(|| Error::corrupt("the archive holds no SQLite database"))?;
    serde_json::from_value(record.facts).map_err(|e| Error::corrupt("the database's facts do not parse").with_cause(e))
}

async fn receive(
    reader: &ArchiveReader,
    facts: &DatabaseFacts,
    file: &File,
    options: &SqliteRestoreOptions,
    reporter: &SharedReporter,
    cancel: &CancellationToken,
) -> Result<()> {
    let found = reader
        .find(facts.member.as_bytes())
        .await?
        .ok_or_else(|| Error::corrupt("the archive lacks the database"))?;
    let mut entries = reader.entries(Selection::Entries(vec![found]));
    let mut out = file;
    while let Some(event) = entries.next().await? {
        if cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
        }
        if let EntryEvent::Data(data) = event {
            out.write_all(&data).context("write the database")?;
            reporter.advance(&options.task, u64::try_from(data.len()).unwrap_or(0), 0);
        }
    }
    Ok(())
}

fn check_space(target: &Path, bytes: u64) -> Result<()> {
    let parent = parent(target);
    let space = rustix::fs::statvfs(parent)
        .map_err(|e| Error::from(std::io::Error::from(e)))
        .with_context(|| format!("look at \"{}\"", parent.display()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < bytes {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "the database needs {} MiB beside the old one, {} MiB are free",
                bytes >> 20,
                free >> 20
            ),
        )
        .with_hint("Free space, or restore into a file elsewhere."));
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Gives the new file journal mode, owner and mode: those of the old file, or else those of the backup.
fn dress(
    new: &Path,
    old: &Path,
    facts: &DatabaseFacts,
    options: &SqliteRestoreOptions,
    reporter: &SharedReporter,
) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(new)?;
    if facts.journal_mode == "wal" && facts.page_count > 0 {
        file.write_all_at(&[2, 2], 18)?;
    }
    let (uid, gid, mode) = match std::fs::metadata(old) {
        Ok(meta) => (meta.uid(), meta.gid(), meta.mode() & 0o777),
        Err(_) => (facts.uid, facts.gid, facts.mode & 0o777),
    };
    if let Err(cause) = std::os::unix::fs::fchown(&file, Some(uid), Some(gid)) {
        reporter.note(
            &options.task,
            Note::new(
                "owner-not-set",
                old.display().to_string(),
                format!("owner {uid}:{gid} could not be set: {cause}"),
            ),
        );
    }
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(mode)).map_err(std::io::Error::from)?;
    file.sync_all()?;
    Ok(())
}

/// Puts the new database in place of the old one. Returns where the old one is.
fn swap(new: &Path, target: &Path, options: &SqliteRestoreOptions) -> Result<Option<PathBuf>> {
    let kept = with_suffix(target, &format!(".pre-restore-{}", now()));
    let previous = if target.symlink_metadata().is_ok() {
        let held = hold_exclusively(target, options.busy_timeout)?;
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
        cause.context("put the new database in place; the old one is back")
    })
}

/// Moves `-wal`, `-shm` and `-journal` of one name to another. Those that hold nothing any more are removed if `held`.
fn move_companions(from: &Path, to: &Path, held: bool) -> Result<()> {
    for suffix in registry::SUFFIXES.into_iter().filter(|s| !s.is_empty()) {
        let name = with_suffix(from, suffix);
        let Ok(meta) = name.symlink_metadata() else { continue };
        let act = || format!("move \"{}\" away", name.display());
        if held && (meta.len() == 0 || suffix == "-shm") {
            std::fs::remove_file(&name).with_context(act)?;
        } else {
            std::fs::rename(&name, with_suffix(to, suffix)).with_context(act)?;
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
    let used = |own: Error| {
        own.context("another process has the old database open; it was not touched")
            .with_hint("Stop the application, then restore again.")
    };
    match attempt() {
        Ok((db, false)) => Ok(Some(db)),
        Ok((_, true)) => Err(used(Error::new(ErrorKind::TimedOut, "its WAL could not be emptied"))),
        Err(cause) => match cause.sqlite_error_code() {
            Some(Code::NotADatabase | Code::DatabaseCorrupt) => Ok(None),
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => Err(used(error(cause))),
            _ => Err(error(cause).context("see that nobody uses the old database; it was not touched")),
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
        let aside = with_suffix(&target, &format!(".undone-{}", now()));
        if target.symlink_metadata().is_ok() {
            let held = hold_exclusively(&target, options.busy_timeout)?;
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
