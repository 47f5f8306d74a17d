//! SQLite databases: pages read through SQLite's own pager under its own locks, and put back whole.
//!
//! In WAL mode the pages of one held read transaction are streamed through `sqlite_dbpage`: nothing is copied on disk
//! and no writer waits. Otherwise, or with [`Method::OnlineBackup`], the online backup API makes one copy in the spool
//! directory in one step (small steps starve under a writer). `docs/sqlite.md` tells the rest.

pub mod discover;
mod engine;
mod guard;
mod integrity;
mod inuse;
pub mod keys;
mod lock;
mod members;
mod open;
pub mod plan;
mod private;
mod read;
pub mod registry;
pub mod restore;
mod restorer;
mod spec;
mod swap;
mod verify;
mod watch;

pub use engine::SqliteEngine;
pub use spec::SqliteSpec;

pub use integrity::Integrity;
pub(crate) use open::MAGIC;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use crate::archive::StreamRecord;
use crate::base::blocking::blocking;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::{BackupContext, EngineKind, Finding, FindingLevel, Notes, Source, SourceOutcome};

/// What tells it from other engines.
pub const KIND: EngineKind = EngineKind::new("sqlite", "SQLite");

/// Name of the stream record that holds the database's own facts ([`DatabaseFacts`]).
pub const STREAM: &str = "sqlite";

/// How a database is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Pages in WAL mode, the online backup API otherwise.
    #[default]
    Auto,
    /// The online backup API, with a copy in the spool directory.
    OnlineBackup,
}

/// Options of a SQLite source.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The database file.
    pub path: PathBuf,
    /// How it is read.
    pub method: Method,
    /// How long a lock of another process is waited for.
    pub busy_timeout: Duration,
    /// A WAL that grows by more than this while it is read is noted, in bytes.
    pub max_wal_growth_bytes: u64,
}

impl SqliteOptions {
    /// Makes the usual options for a database.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            method: Method::Auto,
            busy_timeout: Duration::from_secs(30),
            max_wal_growth_bytes: 1 << 30,
        }
    }
}

/// What the archive says of the database as a whole; in the facts of the stream record [`STREAM`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DatabaseFacts {
    /// Where it was, for people.
    pub path: String,
    /// Name of its member in the archive.
    pub member: String,
    /// Page size in bytes.
    pub page_size: u64,
    /// Pages.
    pub page_count: u64,
    /// Journal mode it was in; the stored file is in rollback mode, so that it opens without a `-wal`.
    pub journal_mode: String,
    /// How it was read: `pages`, `online-backup`, or `private-copy` after a recovery.
    pub method: String,
    /// Mode of the file.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What SQLite said of it when it was stored; missing in what older versions stored, which did not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<Integrity>,
}

/// A SQLite database. While this exists, no walk of this process touches its files.
#[derive(Debug)]
pub struct SqliteSource {
    options: SqliteOptions,
    _registration: registry::Registration,
}

impl SqliteSource {
    /// Registers the database; nothing is opened yet.
    pub fn new(options: SqliteOptions) -> Self {
        let registration = registry::register(&options.path);
        Self {
            options,
            _registration: registration,
        }
    }
}

#[async_trait]
impl Source for SqliteSource {
    fn location(&self) -> String {
        self.options.path.display().to_string()
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        let options = self.options.clone();
        blocking(move || check(&options)).await
    }

    async fn backup(&self, context: BackupContext) -> Result<SourceOutcome> {
        let options = self.options.clone();
        let BackupContext {
            name,
            writer,
            reporter,
            cancel,
            spool_dir,
            ..
        } = context;
        let mut writer = writer.into_sequential();
        let (writer, facts, consistent_at, note_counts) = blocking(move || {
            let notes = Notes::new(name.clone(), reporter.clone());
            let mut progress = |bytes: u64| {
                reporter.advance(&name, bytes, 0);
                if cancel.is_cancelled() {
                    Err(Error::new(ErrorKind::Cancelled, "cancelled"))
                } else {
                    Ok(())
                }
            };
            let (facts, consistent_at) = read::read(&options, &spool_dir, &mut writer, &notes, &mut progress)?;
            writer.finish_stream(StreamRecord {
                stream: STREAM.to_owned(),
                prefixes: vec![facts.member.clone()],
                chunks: 0,
                bytes: facts.page_size.saturating_mul(facts.page_count),
                rows: None,
                row_digest: None,
                facts: serde_json::to_value(&facts)
                    .map_err(|e| Error::new(ErrorKind::Other, "write the database's facts").with_cause(e))?,
            })?;
            reporter.advance(&name, 0, 1);
            Ok((writer, facts, consistent_at, notes.counts()))
        })
        .await
        .with_context(|| format!("back up \"{}\"", self.options.path.display()))?;
        Ok(SourceOutcome {
            versions: BTreeMap::from([("sqlite".to_owned(), rusqlite::version().to_owned())]),
            position: BTreeMap::from([
                ("page_size".to_owned(), facts.page_size.to_string()),
                ("page_count".to_owned(), facts.page_count.to_string()),
                ("journal_mode".to_owned(), facts.journal_mode),
                ("method".to_owned(), facts.method),
            ]),
            consistent_at,
            raw_bytes: facts.page_size.saturating_mul(facts.page_count),
            items: 1,
            note_counts,
            archives: writer.finish().await?,
        })
    }
}

fn check(options: &SqliteOptions) -> Result<Vec<Finding>> {
    let db = match open::open(&options.path, options.busy_timeout)? {
        open::Access::Live(db) => db,
        open::Access::Private(pending) => return Ok(vec![private_finding(&pending)]),
    };
    let facts = read::facts(&db, options)?;
    let bytes = facts.page_size.saturating_mul(facts.page_count);
    let mut findings = vec![Finding {
        level: FindingLevel::Info,
        message: format!(
            "{} pages of {} bytes, journal mode {}, read by {}",
            facts.page_count, facts.page_size, facts.journal_mode, facts.method
        ),
        hint: None,
    }];
    if db.is_guarded() {
        findings.push(Finding {
            level: FindingLevel::Note,
            message: "its -shm cannot be created here; it is read while idle, and the backup fails if it is written \
                      meanwhile"
                .to_owned(),
            hint: None,
        });
    }
    if facts.method == "online-backup" {
        findings.push(Finding {
            level: FindingLevel::Warning,
            message: format!(
                "a copy of {} MiB is made in the spool directory, and writers wait for it",
                bytes >> 20
            ),
            hint: Some(
                "Put the database into WAL mode (`PRAGMA journal_mode=WAL`) and it is streamed without a copy."
                    .to_owned(),
            ),
        });
    }
    Ok(findings)
}

fn private_finding(pending: &open::Pending) -> Finding {
    let bytes = pending.file().metadata().map_or(0, |meta| meta.len());
    let why = match pending.reason {
        open::Reason::HotJournal => "its last writer crashed in a transaction",
        open::Reason::Wal => "its -wal holds transactions and its -shm cannot be created here",
    };
    Finding {
        level: FindingLevel::Warning,
        message: format!(
            "{why}; it is recovered in a copy of {} MiB in the spool directory",
            bytes >> 20
        ),
        hint: Some("Open it once with its application: it is then read in place.".to_owned()),
    }
}

/// Runs SQLite's own check over a database file that nobody else uses: `quick_check`, or `integrity_check` if `full`.
/// Only a file that is no database at all is an error.
pub fn check_file(path: &Path, full: bool) -> Result<Integrity> {
    let act = || format!("check \"{}\"", path.display());
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = rusqlite::Connection::open_with_flags(path, flags)
        .map_err(open::error)
        .with_context(act)?;
    integrity::judge(&mut db, full, &integrity::Budget::default()).with_context(act)
}
