//! Opens a database read-only, and says clearly why one cannot be opened.
//!
//! The first bytes are looked at before any connection is open, since closing that descriptor would drop the locks of
//! a connection of this process. Connections of this process to a database are therefore counted.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::registry::{self, FileId};
use crate::error::{Context, Error, ErrorKind, Result};

static OPEN: Mutex<Option<HashMap<FileId, usize>>> = Mutex::new(None);

/// A connection that only reads, counted while it is open.
#[derive(Debug)]
pub(super) struct Opened {
    /// The connection; `None` only while it is dropped.
    connection: Option<Connection>,
    id: FileId,
    _registration: registry::Registration,
}

impl std::ops::Deref for Opened {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("the connection is taken only by drop")
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut guard = OPEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(self.connection.take());
        if let Some(count) = guard.as_mut().and_then(|all| all.get_mut(&self.id)) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Turns an error of SQLite into ours.
pub(super) fn error(cause: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as Code;
    let (kind, hint) = match cause.sqlite_error_code() {
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => (
            ErrorKind::TimedOut,
            Some("Another process holds a lock on the database; raise the busy timeout or try again."),
        ),
        Some(Code::DatabaseCorrupt) => (
            ErrorKind::Corrupt,
            Some("Run `PRAGMA integrity_check` on the database."),
        ),
        Some(Code::NotADatabase) => (ErrorKind::Invalid, Some(NOT_A_DATABASE)),
        Some(Code::PermissionDenied | Code::AuthorizationForStatementDenied) => (ErrorKind::Denied, None),
        Some(Code::DiskFull) => (
            ErrorKind::LimitExceeded,
            Some("Free space, or choose another spool directory."),
        ),
        _ => (ErrorKind::Other, None),
    };
    let own = Error::new(kind, "SQLite failed").with_cause(cause);
    match hint {
        Some(hint) => own.with_hint(hint),
        None => own,
    }
}

const NOT_A_DATABASE: &str = "The file is no SQLite database, or it is encrypted as a whole (SQLCipher, SEE); store an encrypted one as a file tree while its application is stopped.";

/// Opens `path` read-only.
pub(super) fn open(path: &Path, busy_timeout: Duration) -> Result<Opened> {
    let act = || format!("open SQLite database \"{}\"", path.display());
    let meta = std::fs::metadata(path).with_context(act)?;
    if !meta.is_file() {
        return Err(Error::invalid(format!("\"{}\" is not a file", path.display())));
    }
    let id = (meta.dev(), meta.ino());
    let registration = registry::register(path);
    // Held until the connection stands: nobody probes a file that another thread opens meanwhile.
    let mut guard = OPEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let count = guard.get_or_insert_default().entry(id).or_default();
    if *count == 0 {
        probe(path).with_context(act)?;
    }
    let connection = connect(path, busy_timeout).with_context(act)?;
    *count += 1;
    Ok(Opened {
        connection: Some(connection),
        id,
        _registration: registration,
    })
}

fn probe(path: &Path) -> Result<()> {
    let mut magic = Vec::new();
    std::fs::File::open(path)?.take(16).read_to_end(&mut magic)?;
    if magic.is_empty() || magic == b"SQLite format 3\0" {
        return Ok(());
    }
    Err(Error::invalid("the file is not a SQLite database").with_hint(NOT_A_DATABASE))
}

fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

/// Returns the size of the database's `-wal`.
pub(super) fn wal_bytes(path: &Path) -> u64 {
    size(&companion(path, "-wal"))
}

fn uri(path: &Path, extra: &str) -> String {
    use std::os::unix::ffi::OsStrExt;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let encoded = percent_encoding::percent_encode(absolute.as_os_str().as_bytes(), percent_encoding::NON_ALPHANUMERIC);
    format!("file:{encoded}?mode=ro{extra}").replace("%2F", "/")
}

fn connect(path: &Path, busy_timeout: Duration) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let try_open = |extra: &str| -> rusqlite::Result<Connection> {
        let db = Connection::open_with_flags(uri(path, extra), flags)?;
        db.busy_timeout(busy_timeout)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        db.pragma_update(None, "mmap_size", 0)?;
        db.pragma_update(None, "cache_size", -2048)?;
        // The first read meets whatever stands in the way: locks, a hot journal, a WAL without a place for its index.
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(db)
    };
    let failure = match try_open("") {
        Ok(db) => return Ok(db),
        Err(failure) => failure,
    };
    if size(&companion(path, "-journal")) > 0 && is_readonly_trouble(&failure) {
        return Err(error(failure).context("the database has a hot journal: its last writer died in a transaction").with_hint(
            "Open it once for writing with its application or any SQLite client, which rolls the journal back; then back it up.",
        ));
    }
    // Only without a WAL and without anybody who could write here is the file known not to change.
    let parent = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let read_only = rustix::fs::accessat(
        rustix::fs::CWD,
        parent,
        rustix::fs::Access::WRITE_OK,
        rustix::fs::AtFlags::EACCESS,
    )
    .is_err();
    if read_only && wal_bytes(path) == 0 && is_readonly_trouble(&failure) {
        return try_open("&immutable=1").map_err(error);
    }
    let hint = if read_only {
        Some("The directory cannot be written, so the index of the WAL (-shm) cannot be made there.")
    } else {
        None
    };
    let own = error(failure);
    Err(match hint {
        Some(hint) => own.with_hint(hint),
        None => own,
    })
}

fn is_readonly_trouble(failure: &rusqlite::Error) -> bool {
    matches!(
        failure.sqlite_error_code(),
        Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::CannotOpen)
    )
}

/// Copies what is in the WAL into the database as far as no reader stands in the way; nobody waits. Best effort.
pub(super) fn passive_checkpoint(path: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(db) = Connection::open_with_flags(path, flags) else {
        return;
    };
    // Without this the last one to close would check the WAL in as a whole and delete it.
    if db
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .is_ok()
    {
        let _ = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    }
}
