//! Puts a database back: beside, checked, then in place of the old one, which is kept.
//!
//! Until the last step the live database is untouched. A stale `-wal` beside a new file would corrupt it, so the old
//! database, `-wal`, `-shm` and `-journal` move away together, and nobody may have the old one open.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        if !options.replace && target.symlink_metadata().is_ok() {
            return Err(
                Error::new(ErrorKind::AlreadyExists, format!("\"{}\" exists", target.display()))
                    .with_hint("Restore into another file, or allow the old one to be replaced; it is kept beside."),
            );
        }
        let temporary = with_suffix(&target, ".restore.tmp");
        let bytes = facts.page_size.saturating_mul(facts.page_count);
        check_space(&target, bytes)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .with_context(|| format!("create \"{}\"", temporary.display()))?;
        let mut beside = Beside(Some(temporary.clone()));
        runtime.block_on(receive(&reader, &facts, &file, &options, &reporter, &cancel))?;
        if file.metadata()?.len() != bytes {
            return Err(Error::corrupt(format!(
                "the stored database has {} bytes instead of {bytes}",
                file.metadata()?.len()
            )));
        }
        file.sync_all().context("write the database to disk")?;
        drop(file);
        reporter.phase(&options.task, "check");
        check_file(&temporary, options.full_check)
            .context("check the restored database; the live one was not touched")?;
        dress(&temporary, &target, &facts, &options, &reporter)?;
        let previous = swap(&temporary, &target, &options)?;
        beside.0 = None;
        Ok(SqliteRestoreReport {
            path: target,
            bytes,
            previous,
        })
    })
    .await
    .context(act)
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

/// Moves the old database away and the new one in its place. Returns where the old one is.
fn swap(new: &Path, target: &Path, options: &SqliteRestoreOptions) -> Result<Option<PathBuf>> {
    let directory = File::open(parent(target))?;
    let suffix = format!(".pre-restore-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
    let exists = target.symlink_metadata().is_ok();
    let lock = if exists {
        hold_exclusively(target, options.busy_timeout)?
    } else {
        None
    };
    let moved = move_all(target, &with_suffix(target, &suffix))?;
    // SQLite removes `<target>-wal` by its name when it lets go: so it lets go before the new database has that name.
    drop(lock);
    move_all_companions(target, &with_suffix(target, &suffix))?;
    if let Err(cause) = rename_new(new, target) {
        move_back(&moved);
        return Err(cause.context("put the new database in place; the old one is back"));
    }
    directory.sync_all()?;
    Ok(exists.then(|| with_suffix(target, &suffix)))
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
fn hold_exclusively(path: &Path, timeout: Duration) -> Result<Option<Connection>> {
    let attempt = || -> rusqlite::Result<Connection> {
        let db = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        db.busy_timeout(timeout)?;
        // In WAL mode BEGIN EXCLUSIVE alone lets readers be; with this locking mode they must have left.
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        db.execute_batch("BEGIN EXCLUSIVE")?;
        Ok(db)
    };
    match attempt() {
        Ok(db) => Ok(Some(db)),
        Err(cause) if cause.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => Ok(None),
        Err(cause) if cause.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt) => Ok(None),
        Err(cause) => Err(error(cause)
            .context("another process has the old database open; it was not touched")
            .with_hint("Stop the application, then restore again.")),
    }
}

fn move_all(from: &Path, to: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut moved = Vec::new();
    for suffix in registry::SUFFIXES {
        let pair = (with_suffix(from, suffix), with_suffix(to, suffix));
        match std::fs::rename(&pair.0, &pair.1) {
            Ok(()) => moved.push(pair),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => {
                move_back(&moved);
                return Err(Error::from(cause).context(format!("move \"{}\" away", pair.0.display())));
            }
        }
    }
    Ok(moved)
}

fn move_all_companions(from: &Path, to: &Path) -> Result<()> {
    for suffix in registry::SUFFIXES.into_iter().filter(|s| !s.is_empty()) {
        let name = with_suffix(from, suffix);
        if name.exists() && !with_suffix(to, suffix).exists() {
            std::fs::rename(&name, with_suffix(to, suffix))
                .with_context(|| format!("move \"{}\" away", name.display()))?;
        }
    }
    Ok(())
}

fn move_back(moved: &[(PathBuf, PathBuf)]) {
    for (from, to) in moved.iter().rev() {
        let _ = std::fs::rename(to, from);
    }
}

/// Puts the old database back that [`restore`] kept; the restored one is kept beside under `.undone-<time>`.
pub async fn undo(target: &Path, previous: &Path, options: &SqliteRestoreOptions) -> Result<PathBuf> {
    let (target, previous, options) = (target.to_path_buf(), previous.to_path_buf(), options.clone());
    blocking(move || {
        if !previous.exists() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("\"{}\" does not exist", previous.display()),
            ));
        }
        let aside = with_suffix(
            &target,
            &format!(".undone-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ")),
        );
        let lock = if target.exists() {
            hold_exclusively(&target, options.busy_timeout)?
        } else {
            None
        };
        let moved = move_all(&target, &aside)?;
        drop(lock);
        if let Err(cause) = move_all(&previous, &target) {
            move_back(&moved);
            return Err(cause);
        }
        File::open(parent(&target))?.sync_all()?;
        Ok(aside)
    })
    .await
}
