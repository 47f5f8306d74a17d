//! Reads one database into an entry of exactly its size.
//!
//! The stored file is in rollback mode (bytes 18 and 19 of page 1 are 1), so that it opens anywhere without a `-wal`;
//! the journal mode it had stands in the facts and comes back with a restore.
//!
//! Header: <https://www.sqlite.org/fileformat2.html#the_database_header>

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::open::{self, error};
use super::{DatabaseFacts, Method, SqliteOptions};
use crate::archive::{EntryMeta, SequentialWriter};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::report::Note;
use crate::sources::Notes;

/// Reads size and mode of a database. Inside a transaction they are those of its snapshot.
pub(super) fn facts(db: &Connection, options: &SqliteOptions) -> Result<DatabaseFacts> {
    let number = |name: &str| -> Result<u64> {
        let value: i64 = db.pragma_query_value(None, name, |row| row.get(0)).map_err(error)?;
        u64::try_from(value).map_err(|_| Error::corrupt(format!("SQLite says {value} for {name}")))
    };
    let journal_mode: String = db
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .map_err(error)?;
    let meta = std::fs::metadata(&options.path)?;
    let by_pages = options.method == Method::Auto && journal_mode == "wal";
    Ok(DatabaseFacts {
        path: options.path.display().to_string(),
        member: member_name(&options.path),
        page_size: number("page_size")?,
        page_count: number("page_count")?,
        journal_mode,
        method: if by_pages { "pages" } else { "online-backup" }.to_owned(),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    })
}

fn member_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(|| "database.db".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Reads the database. `progress` is told of bytes and may end the work.
pub(super) fn read(
    options: &SqliteOptions,
    spool_dir: &Path,
    writer: &mut SequentialWriter,
    notes: &Notes,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<(DatabaseFacts, Timestamp)> {
    let db = open::open(&options.path, options.busy_timeout)?;
    let before = facts(&db, options)?;
    if before.method == "pages" {
        open::passive_checkpoint(&options.path);
        let page_vtab: bool = db
            .query_row("SELECT sqlite_compileoption_used('ENABLE_DBPAGE_VTAB')", [], |row| {
                row.get(0)
            })
            .map_err(error)?;
        if !page_vtab {
            return Err(
                Error::unsupported("this build of SQLite has no sqlite_dbpage").with_hint(
                    "Build with LIBSQLITE3_FLAGS=-DSQLITE_ENABLE_DBPAGE_VTAB, or use method = \"online-backup\".",
                ),
            );
        }
        return read_pages(&db, options, writer, notes, progress);
    }
    let spool = Spool::create(spool_dir)?;
    let consistent_at = copy(&db, &spool.file(), options)?;
    drop(db);
    let mut facts = before;
    let copied = Connection::open_with_flags(spool.file(), OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(error)?;
    let number = |name: &str| {
        copied
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(error)
    };
    facts.page_size = u64::try_from(number("page_size")?).unwrap_or(0);
    facts.page_count = u64::try_from(number("page_count")?).unwrap_or(0);
    drop(copied);
    stream_file(&spool.file(), &facts, writer, progress)?;
    Ok((facts, consistent_at))
}

fn begin(facts: &DatabaseFacts, at: Timestamp, writer: &mut SequentialWriter) -> Result<u64> {
    let size = facts
        .page_size
        .checked_mul(facts.page_count)
        .ok_or_else(|| Error::corrupt("the database is impossibly large"))?;
    let mut meta = EntryMeta::file(facts.member.as_bytes(), size, (at.as_second(), 0));
    (meta.mode, meta.uid, meta.gid) = (facts.mode, facts.uid, facts.gid);
    writer.begin_entry(&meta)?;
    Ok(size)
}

/// Writes a page, or the first bytes of the file, with the versions of rollback mode.
fn write_first(page: &[u8], writer: &mut SequentialWriter) -> Result<()> {
    match (page.get(..18), page.get(20..)) {
        (Some(head), Some(rest)) => {
            writer.write(head)?;
            writer.write(&[1, 1])?;
            writer.write(rest)
        }
        _ => Err(Error::corrupt("the first page is shorter than its header")),
    }
}

fn read_pages(
    db: &Connection,
    options: &SqliteOptions,
    writer: &mut SequentialWriter,
    notes: &Notes,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<(DatabaseFacts, Timestamp)> {
    let snapshot = db.unchecked_transaction().map_err(error)?;
    // The snapshot is taken by the first read, not by BEGIN.
    snapshot
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .map_err(error)?;
    let at = Timestamp::now();
    let facts = facts(&snapshot, options)?;
    begin(&facts, at, writer)?;
    let wal_before = open::wal_bytes(&options.path);
    let (mut pages, mut unreported, mut noted) = (0u64, 0u64, false);
    let mut statement = snapshot
        .prepare("SELECT data FROM sqlite_dbpage('main')")
        .map_err(error)?;
    let mut rows = statement.query([]).map_err(error)?;
    while let Some(row) = rows.next().map_err(error)? {
        let page = row
            .get_ref(0)
            .map_err(error)?
            .as_blob()
            .map_err(|e| Error::corrupt("a page is no blob").with_cause(e))?;
        let len = u64::try_from(page.len()).unwrap_or(0);
        if len != facts.page_size {
            return Err(Error::corrupt(format!(
                "page {} has {len} bytes instead of {}",
                pages + 1,
                facts.page_size
            )));
        }
        if pages == 0 {
            write_first(page, writer)?;
        } else {
            writer.write(page)?;
        }
        pages += 1;
        unreported += len;
        if unreported >= 4 << 20 {
            progress(std::mem::take(&mut unreported))?;
            let grown = open::wal_bytes(&options.path).saturating_sub(wal_before);
            if grown > options.max_wal_growth_bytes && !noted {
                noted = true;
                let message = format!(
                    "the WAL grew by {} MiB while its snapshot was read; it shrinks again after the next checkpoint",
                    grown >> 20
                );
                notes.add(Note::new("wal-growth", options.path.display().to_string(), message));
            }
        }
    }
    if pages != facts.page_count {
        return Err(Error::corrupt(format!(
            "SQLite gave {pages} pages of {}",
            facts.page_count
        )));
    }
    writer.finish_entry(false)?;
    progress(unreported)?;
    Ok((facts, at))
}

/// Copies the database by the online backup API in one step, which holds one read transaction.
fn copy(db: &Connection, to: &Path, options: &SqliteOptions) -> Result<Timestamp> {
    let mut target = Connection::open(to).map_err(error).context("create the spool copy")?;
    target.pragma_update(None, "synchronous", "OFF").map_err(error)?;
    target.pragma_update(None, "journal_mode", "OFF").map_err(error)?;
    let backup = Backup::new(db, &mut target).map_err(error)?;
    let began = Instant::now();
    loop {
        let at = Timestamp::now();
        match backup.step(-1).map_err(error).context("copy the database")? {
            StepResult::Done => return Ok(at),
            _ if began.elapsed() > options.busy_timeout.saturating_mul(2) => {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    format!("the database was locked for {} s", began.elapsed().as_secs()),
                )
                .with_hint("Back it up when its writer rests, or put it into WAL mode."));
            }
            _ => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    }
}

fn stream_file(
    path: &Path,
    facts: &DatabaseFacts,
    writer: &mut SequentialWriter,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let file = std::fs::File::open(path)?;
    let size = begin(facts, Timestamp::now(), writer)?;
    let mut at = 0;
    if size > 0 {
        let mut head = [0; 100];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut head, 0)?;
        write_first(&head, writer)?;
        at = 100;
    }
    while at < size {
        let space = writer.space()?;
        let len = std::os::unix::fs::FileExt::read_at(&file, space, at)?;
        if len == 0 {
            return Err(Error::corrupt("the spool copy is shorter than its header says"));
        }
        writer.advance(len)?;
        let len = u64::try_from(len).unwrap_or(0);
        at += len;
        progress(len)?;
    }
    writer.finish_entry(false)
}

/// A directory of our own for the copy; removed when it is dropped.
#[derive(Debug)]
struct Spool(PathBuf);

impl Spool {
    fn create(parent: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::create_dir_all(parent).with_context(|| format!("create spool directory \"{}\"", parent.display()))?;
        let path = parent.join(format!("sqlite-{:016x}", rand::random::<u64>()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("create \"{}\"", path.display()))?;
        Ok(Self(path))
    }

    fn file(&self) -> PathBuf {
        self.0.join("copy.db")
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
