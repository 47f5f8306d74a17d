//! Reads one database into an entry of exactly its size.
//!
//! The stored file is in rollback mode (bytes 18 and 19 of page 1 are 1), so that it opens anywhere without a `-wal`;
//! the journal mode it had stands in the facts and comes back with a restore.
//!
//! Header: <https://www.sqlite.org/fileformat2.html#the_database_header>

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::integrity::{self, Budget, Integrity};
use super::open::{self, Access, Opened, Pending, Reason, error};
use super::private::{self, Spool};
use super::{DatabaseFacts, Method, SqliteOptions, guard};
use crate::archive::{EntryMeta, SequentialWriter};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::Note;
use crate::engines::Notes;

/// A check that is not done when everything is stored gets this much more time, or twice what the storing took.
const CHECK_TIME: Duration = Duration::from_secs(60);

/// Reads size and mode of a database. Inside a transaction they are those of its snapshot.
pub(super) fn facts(db: &Opened, options: &SqliteOptions) -> Result<DatabaseFacts> {
    let (page_size, page_count) = size_of(db)?;
    // Without its locks SQLite does not tell of the WAL, and only a WAL database is read so.
    let journal_mode: String = if db.is_guarded() {
        "wal".to_owned()
    } else {
        db.pragma_query_value(None, "journal_mode", |row| row.get(0))
            .map_err(error)?
    };
    let by_pages = options.method == Method::Auto && journal_mode == "wal";
    let method = if by_pages { "pages" } else { "online-backup" };
    facts_with(options, (page_size, page_count), &journal_mode, method)
}

fn facts_with(
    options: &SqliteOptions,
    (page_size, page_count): (u64, u64),
    journal_mode: &str,
    method: &str,
) -> Result<DatabaseFacts> {
    let meta = std::fs::metadata(&options.path)?;
    Ok(DatabaseFacts {
        path: options.path.display().to_string(),
        member: member_name(&options.path),
        page_size,
        page_count,
        journal_mode: journal_mode.to_owned(),
        method: method.to_owned(),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        integrity: None,
    })
}

/// Returns page size and number of pages.
fn size_of(db: &Connection) -> Result<(u64, u64)> {
    let number = |name: &str| -> Result<u64> {
        let value: i64 = db.pragma_query_value(None, name, |row| row.get(0)).map_err(error)?;
        u64::try_from(value).map_err(|_| Error::corrupt(format!("SQLite says {value} for {name}")))
    };
    Ok((number("page_size")?, number("page_count")?))
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
    for _ in 0..5 {
        match open::open(&options.path, options.busy_timeout)? {
            Access::Live(db) => return read_live(*db, options, spool_dir, writer, notes, progress),
            Access::Private(pending) => {
                let spool = Spool::create(spool_dir)?;
                let at = Timestamp::now();
                if !private::recover(&pending, &spool, &mut || progress(0))? {
                    continue;
                }
                let facts = recovered(&pending, &spool, options, notes)?;
                drop(pending);
                return store_spooled(&spool, facts, writer, notes, progress).map(|facts| (facts, at));
            }
        }
    }
    Err(guard::moved())
}

fn read_live(
    db: Opened,
    options: &SqliteOptions,
    spool_dir: &Path,
    writer: &mut SequentialWriter,
    notes: &Notes,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<(DatabaseFacts, Timestamp)> {
    let mut facts = facts(&db, options)?;
    if facts.method == "pages" {
        if !db.is_guarded() {
            open::passive_checkpoint(db.path());
        }
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
        let path = options.path.clone();
        let (stored, integrity) = beside_a_check(
            |budget| check_live(&path, options.busy_timeout, budget),
            progress,
            |progress| read_pages(&db, options, writer, notes, progress),
        )?;
        let (mut facts, at) = stored;
        note_integrity(&mut facts, integrity, notes);
        return Ok((facts, at));
    }
    let spool = Spool::create(spool_dir)?;
    let consistent_at = copy(&db, &spool.file(), options)?;
    db.watch()?;
    drop(db);
    let copied = open::connect(&spool.file(), Duration::ZERO, "&immutable=1").map_err(error)?;
    (facts.page_size, facts.page_count) = size_of(&copied)?;
    drop(copied);
    let facts = store_spooled(&spool, facts, writer, notes, progress)?;
    Ok((facts, consistent_at))
}

/// Returns the facts of a recovered copy, and says that it is one.
fn recovered(pending: &Pending, spool: &Spool, options: &SqliteOptions, notes: &Notes) -> Result<DatabaseFacts> {
    let journal_mode = open::stored_journal_mode(pending.file())?;
    let copy = open::connect(&spool.file(), Duration::ZERO, "&immutable=1").map_err(error)?;
    let facts = facts_with(options, size_of(&copy)?, journal_mode, "private-copy")?;
    let (code, message) = match pending.reason {
        Reason::HotJournal => (
            "rolled-back",
            "its last writer crashed in a transaction; it was rolled back in a private copy, and the database was not \
             changed",
        ),
        Reason::Wal => (
            "recovered",
            "its -wal was applied to a private copy, since no -shm can be created here; the database was not changed",
        ),
    };
    notes.add(Note::new(code, facts.path.clone(), message));
    Ok(facts)
}

/// Stores the file in the spool directory.
fn store_spooled(
    spool: &Spool,
    mut facts: DatabaseFacts,
    writer: &mut SequentialWriter,
    notes: &Notes,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<DatabaseFacts> {
    let file = spool.file();
    let ((), integrity) = beside_a_check(
        |budget| {
            let mut copy = open::connect(&file, Duration::ZERO, "&immutable=1").map_err(error)?;
            integrity::judge(&mut copy, false, budget)
        },
        progress,
        |progress| stream_file(&file, &facts, writer, progress),
    )?;
    note_integrity(&mut facts, integrity, notes);
    Ok(facts)
}

/// Stores while a second connection checks. Reading is the quicker of the two, and compression the slowest of all.
fn beside_a_check<T>(
    check: impl FnOnce(&Budget) -> Result<Integrity> + Send,
    progress: &mut dyn FnMut(u64) -> Result<()>,
    store: impl FnOnce(&mut dyn FnMut(u64) -> Result<()>) -> Result<T>,
) -> Result<(T, Integrity)> {
    let budget = Budget::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let checking = scope.spawn(|| check(&budget));
        let stored = store(progress);
        if stored.is_ok() {
            budget.allow(CHECK_TIME.max(began.elapsed().saturating_mul(2)));
        } else {
            budget.stop();
        }
        let mut cancelled = Ok(());
        while !checking.is_finished() && cancelled.is_ok() {
            std::thread::sleep(Duration::from_millis(5));
            cancelled = progress(0);
            if cancelled.is_err() {
                budget.stop();
            }
        }
        let integrity = match checking.join() {
            Ok(Ok(integrity)) => integrity,
            Ok(Err(cause)) => Integrity::unknown(&cause.chain()),
            Err(_) => Integrity::unknown("the check ended unexpectedly"),
        };
        cancelled?;
        Ok((stored?, integrity))
    })
}

/// Checks the database where it is, by a connection of its own.
fn check_live(path: &Path, busy_timeout: Duration, budget: &Budget) -> Result<Integrity> {
    match open::open(path, busy_timeout)? {
        Access::Live(mut db) => {
            let found = integrity::judge(&mut db, false, budget)?;
            // Under a guard, what looks damaged may only be torn.
            db.watch()?;
            Ok(found)
        }
        Access::Private(_) => Ok(Integrity::unknown("its writer crashed while it was stored")),
    }
}

fn note_integrity(facts: &mut DatabaseFacts, integrity: Integrity, notes: &Notes) {
    for note in integrity.notes(&facts.path) {
        notes.add(note);
    }
    facts.integrity = Some(integrity);
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
    db: &Opened,
    options: &SqliteOptions,
    writer: &mut SequentialWriter,
    notes: &Notes,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<(DatabaseFacts, Timestamp)> {
    let snapshot = db.unchecked_transaction().map_err(error)?;
    // The snapshot is taken by the first read, which this is, not by BEGIN.
    let facts = facts(db, options)?;
    let at = Timestamp::now();
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
            .map_err(|e| Error::corrupt("a page is not a blob").with_cause(e))?;
        let len = exact::u64_from(page.len());
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
            db.watch()?;
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
    db.watch()?;
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
                .with_hint("Back it up when its writer is idle, or put it into WAL mode."));
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
        let len = exact::u64_from(len);
        at += len;
        progress(len)?;
    }
    writer.finish_entry(false)
}
