//! Opens a database read-only, and says clearly why one cannot be opened.
//!
//! The first bytes are looked at before any connection is open, since closing that descriptor would drop the locks of
//! a connection of this process. Connections of this process to a database are therefore counted.
//!
//! SQLite makes the `-wal` and `-shm` of a resting database also for a reader, and leaves a reader's there. That is only
//! let happen if they are the owner's like the database itself, so that its application can use them, and if they can be
//! taken away at the end. Everybody else reads with the files that are there under SQLite's locks, or without any files
//! under a [`Guard`], or is told to work on a private copy.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::guard::{self, Guard};
use super::lock::{self, ReadLock};
use super::registry::{self, FileId, companion};
use crate::base::error::{Context, Error, ErrorKind, Result};

/// What this process has open of one database.
#[derive(Debug, Default)]
struct Connections {
    count: usize,
    /// The `-wal` is there because of us: it was not when the first of these came.
    made_wal: bool,
}

static OPEN: Mutex<Option<HashMap<FileId, Connections>>> = Mutex::new(None);

fn table() -> MutexGuard<'static, Option<HashMap<FileId, Connections>>> {
    OPEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How a database can be read.
#[derive(Debug)]
pub(super) enum Access {
    /// Where it is.
    Live(Box<Opened>),
    /// Only after a recovery, which needs a copy.
    Private(Pending),
}

/// A connection that only reads, counted while it is open.
#[derive(Debug)]
pub(super) struct Opened {
    /// The connection; `None` only while it is dropped.
    connection: Option<Connection>,
    /// Watches over a connection that takes no locks.
    guard: Option<Guard>,
    /// Keeps the companions of another user's database where they are while they are used.
    shared: Option<ReadLock>,
    path: PathBuf,
    id: FileId,
    _registration: registry::Registration,
}

impl Opened {
    /// Fails if what was read may be torn. Under SQLite's own locks it never is.
    pub(super) fn watch(&self) -> Result<()> {
        self.guard.as_ref().map_or(Ok(()), Guard::watch)
    }

    /// Returns whether SQLite takes no locks of its own.
    pub(super) fn is_guarded(&self) -> bool {
        self.guard.is_some()
    }

    /// Returns where the database is, with links resolved.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl std::ops::Deref for Opened {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("the connection is taken only by drop")
    }
}

impl std::ops::DerefMut for Opened {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("the connection is taken only by drop")
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut all = table();
        drop(self.connection.take());
        self.guard = None;
        self.shared = None;
        let Some(ours) = all.as_mut().and_then(|all| all.get_mut(&self.id)) else {
            return;
        };
        ours.count = ours.count.saturating_sub(1);
        if ours.count == 0 && std::mem::take(&mut ours.made_wal) {
            take_companions_away(&self.path);
        }
        close_if_unused(ours, self.id);
    }
}

/// Closes what was kept open of a database, if this process has no connection to it.
pub(super) fn close_unused(id: FileId) {
    if let Some(ours) = table().get_or_insert_default().get(&id) {
        close_if_unused(ours, id);
    } else {
        lock::close_kept(id);
    }
}

fn close_if_unused(ours: &Connections, id: FileId) {
    if ours.count == 0 {
        lock::close_kept(id);
    }
}

/// A database that must be recovered before it can be read, held still by SQLite's shared lock.
#[derive(Debug)]
pub(super) struct Pending {
    /// The database, with links resolved.
    pub(super) path: PathBuf,
    /// What its recovery needs.
    pub(super) reason: Reason,
    shared: Option<ReadLock>,
    id: FileId,
    _registration: registry::Registration,
}

impl Pending {
    /// Returns the database's file.
    pub(super) fn file(&self) -> &std::fs::File {
        self.shared.as_ref().expect("the lock is taken only by drop").file()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.shared = None;
        close_unused(self.id);
    }
}

/// Why a database cannot be read where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its last writer died in a transaction, which must be rolled back.
    HotJournal,
    /// Its `-wal` holds transactions, and there is no `-shm` and none can be made.
    Wal,
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

const NOT_A_DATABASE: &str = "The file is not a SQLite database, or it is fully encrypted (SQLCipher, SEE); back up \
                              an encrypted one as a file tree while its application is stopped.";

/// Opens `path` read-only.
pub(super) fn open(path: &Path, busy_timeout: Duration) -> Result<Access> {
    let act = || format!("open SQLite database \"{}\"", path.display());
    // SQLite's companions stand beside the file itself, not beside a link to it.
    let path = &std::fs::canonicalize(path).with_context(act)?;
    let meta = std::fs::metadata(path).with_context(act)?;
    if !meta.is_file() {
        return Err(Error::invalid(format!("\"{}\" is not a file", path.display())));
    }
    let id = (meta.dev(), meta.ino());
    let registration = registry::register(path);
    // Held until the connection stands: nobody probes a file that another thread opens meanwhile.
    let mut all = table();
    let ours = all.get_or_insert_default().entry(id).or_default();
    let result = open_counted(path, &meta, ours, registration, busy_timeout).with_context(act);
    close_if_unused(ours, id);
    result
}

fn open_counted(
    path: &Path,
    meta: &std::fs::Metadata,
    ours: &mut Connections,
    registration: registry::Registration,
    busy_timeout: Duration,
) -> Result<Access> {
    let id = (meta.dev(), meta.ino());
    if ours.count == 0 {
        probe(path)?;
    }
    let owns = may_make_companions(path, meta);
    let way = if owns {
        let rests = !exists(&companion(path, "-wal"));
        match connect(path, busy_timeout, "") {
            Ok(connection) => {
                ours.made_wal |= ours.count == 0 && rests && exists(&companion(path, "-wal"));
                GuestAccess::Locked(connection, None)
            }
            Err(cause) if is_readonly_trouble(&cause) && has_journal(path) => {
                GuestAccess::Copy(ReadLock::shared(path, id, busy_timeout)?, Reason::HotJournal)
            }
            Err(cause) => return Err(error(cause)),
        }
    } else {
        as_guest(path, id, busy_timeout)?
    };
    let (connection, guard, shared) = match way {
        GuestAccess::Locked(connection, shared) => (connection, None, shared),
        GuestAccess::Guarded(connection, guard) => (connection, Some(guard), None),
        GuestAccess::Copy(shared, reason) => {
            return Ok(Access::Private(Pending {
                path: path.to_path_buf(),
                reason,
                shared: Some(shared),
                id,
                _registration: registration,
            }));
        }
    };
    ours.count += 1;
    Ok(Access::Live(Box::new(Opened {
        connection: Some(connection),
        guard,
        shared,
        path: path.to_path_buf(),
        id,
        _registration: registration,
    })))
}

/// How a connection came about.
enum GuestAccess {
    Locked(Connection, Option<ReadLock>),
    Guarded(Connection, Guard),
    Copy(ReadLock, Reason),
}

/// Opens a database beside which nothing may be made. Under our shared lock its companions do not go away meanwhile.
fn as_guest(path: &Path, id: FileId, busy_timeout: Duration) -> Result<GuestAccess> {
    let (wal, shm) = (companion(path, "-wal"), companion(path, "-shm"));
    for _ in 0..10 {
        let shared = ReadLock::shared(path, id, busy_timeout)?;
        let in_wal_mode = stored_journal_mode(shared.file())? == "wal";
        if (exists(&wal) && !exists(&shm)) || (in_wal_mode && has_journal(path)) {
            match (has_journal(path), size(&wal)) {
                (true, _) => return Ok(GuestAccess::Copy(shared, Reason::HotJournal)),
                (false, 1..) => return Ok(GuestAccess::Copy(shared, Reason::Wal)),
                (false, 0) => {}
            }
        } else if exists(&wal) || !in_wal_mode {
            match connect(path, busy_timeout, "") {
                Ok(connection) => return Ok(GuestAccess::Locked(connection, Some(shared))),
                Err(cause) if !is_readonly_trouble(&cause) => return Err(error(cause)),
                Err(_) if has_journal(path) => return Ok(GuestAccess::Copy(shared, Reason::HotJournal)),
                Err(_) if size(&wal) > 0 => return Ok(GuestAccess::Copy(shared, Reason::Wal)),
                // An empty `-wal` beside a `-shm` that cannot be used.
                Err(_) if in_wal_mode => {}
                Err(cause) => return Err(error(cause)),
            }
        }
        // All of the database is in its file, if that is so still when the guard stands.
        let guard = Guard::new(path, id, shared)?;
        if size(&wal) == 0 && !has_journal(path) {
            let connection = connect(path, busy_timeout, "&immutable=1").map_err(error)?;
            return Ok(GuestAccess::Guarded(connection, guard));
        }
    }
    Err(guard::moved())
}

/// Returns whether SQLite may make `-wal` and `-shm` for us: they will be the owner's, and we can take them away again.
fn may_make_companions(path: &Path, meta: &std::fs::Metadata) -> bool {
    use rustix::fs::{Access as Right, AtFlags, CWD, accessat};
    use rustix::thread::{CapabilitySet, capabilities};
    let user = rustix::process::geteuid();
    // As root SQLite gives what it makes to the owner of the database.
    let gives_away = || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::CHOWN));
    let writable = |path: &Path| accessat(CWD, path, Right::WRITE_OK, AtFlags::EACCESS).is_ok();
    (user.as_raw() == meta.uid() || (user.is_root() && gives_away()))
        && writable(path)
        && path.parent().is_some_and(writable)
}

/// Takes away the `-wal` and `-shm` that our reading made, as the last connection that may write does it; whoever has the
/// database open keeps them. Best effort.
fn take_companions_away(path: &Path) {
    if has_journal(path) {
        return;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if let Ok(db) = Connection::open_with_flags(path, flags) {
        let _ = db.pragma_update(None, "writable_schema", true);
        let _ = db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
    }
}

/// Returns whether a file begins like a database. One that this process has open is not touched, for closing it again would drop
/// its locks; neither is one that has a source of its own.
pub(super) fn begins_like_one(path: &Path) -> std::io::Result<bool> {
    let all = table();
    let meta = std::fs::metadata(path)?;
    let id = (meta.dev(), meta.ino());
    let in_use = all
        .as_ref()
        .is_some_and(|all| all.get(&id).is_some_and(|ours| ours.count > 0));
    if in_use || registry::is_registered_file(id) {
        return Ok(true);
    }
    let mut magic = [0; 16];
    match std::fs::File::open(path)?.read_exact(&mut magic) {
        Ok(()) => Ok(magic == *MAGIC),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// How a database begins.
pub(crate) const MAGIC: &[u8; 16] = b"SQLite format 3\0";

fn probe(path: &Path) -> Result<()> {
    let mut magic = Vec::new();
    std::fs::File::open(path)?.take(16).read_to_end(&mut magic)?;
    if magic.is_empty() || magic == MAGIC {
        return Ok(());
    }
    Err(Error::invalid("the file is not a SQLite database").with_hint(NOT_A_DATABASE))
}

/// Returns the journal mode that the header of a database tells: `wal`, or `delete` for all the others.
pub(super) fn stored_journal_mode(file: &std::fs::File) -> Result<&'static str> {
    let mut versions = [0; 2];
    match file.read_exact_at(&mut versions, 18) {
        Ok(()) if versions == [2, 2] => Ok("wal"),
        Err(cause) if cause.kind() != std::io::ErrorKind::UnexpectedEof => Err(cause.into()),
        _ => Ok("delete"),
    }
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

/// Returns whether there is a rollback journal with something in it; one that was ended begins with a zero.
fn has_journal(path: &Path) -> bool {
    let mut first = [0];
    match std::fs::File::open(companion(path, "-journal")) {
        Ok(file) => file.read_exact_at(&mut first, 0).is_ok() && first != [0],
        // One that cannot be looked at is taken for one.
        Err(cause) => cause.kind() != std::io::ErrorKind::NotFound,
    }
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

/// Connects to read. The first read meets whatever stands in the way: locks, a hot journal, a WAL without a place for its
/// index. Damage does not: it is stored as it is.
pub(super) fn connect(path: &Path, busy_timeout: Duration, extra: &str) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(uri(path, extra), flags)?;
    db.busy_timeout(busy_timeout)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // A schema that does not parse, and a file that is shorter than its header says, are no errors then.
    db.pragma_update(None, "writable_schema", true)?;
    db.pragma_update(None, "mmap_size", 0)?;
    db.pragma_update(None, "cache_size", -2048)?;
    match db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())) {
        Err(cause) if cause.sqlite_error_code() != Some(rusqlite::ErrorCode::DatabaseCorrupt) => Err(cause),
        _ => Ok(db),
    }
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
