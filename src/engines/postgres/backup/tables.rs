//! Reads all tables with several connections under one snapshot.
//!
//! The largest tables come first. A large table is cut into ctid ranges (the last without an end, so that no row is
//! missed whatever the page counts say). What an attempt wrote cannot be taken back, so each attempt writes under its own
//! name, and only the table's record says which attempt counts. A lost connection costs the part it was reading.
//!
//! A statement that waits for a table stands between the leader's lock and that of a reader. Such a table is left to the
//! leader's own session, which holds the lock and waits for nobody.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::snapshot::{ServerFacts, open_reader, open_reader_at_once};
use crate::archive::{ArchiveWriter, StreamRecord};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::{Note, SharedReporter};
use crate::engines::Notes;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::sessions::TOO_MANY;
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::settings::Session;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::template::with_names;
use crate::engines::postgres::stored::copy_table::{CopyTable, Range};
use crate::engines::postgres::stored::table_stream::{PartResult, RowStream};
use crate::engines::postgres::wire::binary_copy::RowImages;
use crate::engines::postgres::wire::row_digest::RowDigest;
use crate::engines::postgres::wire::server_error::sqlstate;

const NAME_OF_NOW: &str = include_str!("sql/table_name.sql");

/// Raw size of one ctid range, in bytes: large enough that its set-up does not count, small enough to repeat.
const PART_BYTES: u64 = 64 << 20;

/// Attempts at one part.
const ATTEMPTS: u32 = 4;

/// SQLSTATE of `NOWAIT` where somebody waits, or has what conflicts.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// What all readers share.
#[derive(Debug)]
pub(crate) struct TableReaders {
    pub(crate) options: ConnectOptions,
    pub(crate) facts: ServerFacts,
    /// The one session there is, where the role may have no other; it has the locks.
    pub(crate) only: Mutex<Option<Connection>>,
    pub(crate) writer: ArchiveWriter,
    pub(crate) reporter: SharedReporter,
    pub(crate) task: String,
    pub(crate) notes: Arc<Notes>,
    pub(crate) cancel: CancellationToken,
}

/// A table that was read completely.
#[derive(Debug)]
pub(crate) struct TableResult {
    pub(crate) number: u32,
    pub(crate) parts: Vec<PartResult>,
}

#[derive(Debug, Clone)]
struct Part {
    table: usize,
    number: u32,
    of: u32,
    /// What is read of it; all, if none.
    range: Option<Range>,
    /// Attempts that were made.
    tried: u32,
}

#[derive(Debug)]
struct Queue {
    parts: Mutex<VecDeque<Part>>,
    /// Parts of tables that only the session with the snapshot's locks can read.
    held_up: Mutex<VecDeque<Part>>,
    /// Per table the parts done, by part number.
    done: Mutex<Vec<Vec<Option<PartResult>>>>,
}

/// What was read of the tables.
#[derive(Debug)]
pub(crate) struct TableReads {
    tables: Arc<[CopyTable]>,
    queue: Arc<Queue>,
}

/// Reads the tables with `parallel` connections, all but those for which a statement of somebody else waits.
pub(crate) async fn read_all(shared: &Arc<TableReaders>, tables: &[CopyTable], parallel: usize) -> Result<TableReads> {
    let tables: Arc<[CopyTable]> = tables.into();
    let parts = plan(&tables, shared.facts.version_num >= 140_000);
    let mut slots: Vec<Vec<Option<PartResult>>> = vec![Vec::new(); tables.len()];
    for part in &parts {
        if let Some(slot) = slots.get_mut(part.table) {
            slot.push(None);
        }
    }
    let workers = parallel.clamp(1, parts.len().max(1));
    let queue = Arc::new(Queue {
        parts: Mutex::new(parts.into()),
        held_up: Mutex::default(),
        done: Mutex::new(slots),
    });
    let stop = shared.cancel.child_token();
    let mut set = JoinSet::new();
    for number in 0..workers {
        let (shared, queue, tables, stop) = (
            Arc::clone(shared),
            Arc::clone(&queue),
            Arc::clone(&tables),
            stop.clone(),
        );
        set.spawn(async move {
            let connection = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(cancelled()),
                done = work(&shared, &queue, &tables, number) => done?,
            };
            if let Some(connection) = connection {
                connection.close().await;
            }
            Ok(())
        });
    }
    let mut first: Option<Error> = None;
    while let Some(ended) = set.join_next().await {
        let ended =
            ended.unwrap_or_else(|e| Err(Error::new(ErrorKind::Other, "a reader ended unexpectedly").with_cause(e)));
        if let Err(error) = ended {
            stop.cancel();
            first.get_or_insert(error);
        }
    }
    if let Some(error) = first {
        return Err(error);
    }
    Ok(TableReads { tables, queue })
}

impl TableReads {
    /// Whether there are tables that only the session with the snapshot's locks can read.
    pub(crate) fn is_held_up(&self) -> bool {
        let held_up = self.queue.held_up.lock().expect("no panic happens under this lock");
        !held_up.is_empty()
    }

    /// Reads those by the session that has the locks; returns it.
    pub(crate) async fn read_rest(&self, shared: &TableReaders, leader: Connection) -> Result<Connection> {
        let rest = std::mem::take(&mut *self.queue.held_up.lock().expect("no panic happens under this lock"));
        *self.queue.parts.lock().expect("no panic happens under this lock") = rest;
        *shared.only.lock().expect("no panic happens under this lock") = Some(leader);
        let connection = tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return Err(cancelled()),
            done = work(shared, &self.queue, &self.tables, 0) => done?,
        };
        connection.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the first connection of the backup was lost"))
    }

    /// Returns what was read, in the order of the tables' numbers.
    pub(crate) fn results(self) -> Result<Vec<TableResult>> {
        let slots = std::mem::take(&mut *self.queue.done.lock().expect("no panic happens under this lock"));
        let mut results = Vec::with_capacity(slots.len());
        for (table, parts) in self.tables.iter().zip(slots) {
            let parts: Option<Vec<PartResult>> = parts.into_iter().collect();
            let parts = parts.ok_or_else(|| Error::corrupt("a part of a table was not read"))?;
            results.push(TableResult {
                number: table.table.number,
                parts,
            });
        }
        Ok(results)
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the backup was cancelled")
}

/// Cuts tables into parts, largest tables first.
fn plan(tables: &[CopyTable], ranges_work: bool) -> Vec<Part> {
    let mut order: Vec<usize> = (0..tables.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(tables.get(at).map_or(0, CopyTable::bytes)));
    let mut parts = Vec::new();
    for at in order {
        let Some(table) = tables.get(at) else { continue };
        let mut ranges = table.ranges(ranges_work, PART_BYTES);
        if ranges.len() < 2 {
            ranges.clear();
        }
        let of = exact::known(ranges.len().max(1), "a table has fewer than 2^32 pages");
        let part = |number, range| Part {
            table: at,
            number,
            of,
            range,
            tried: 0,
        };
        if ranges.is_empty() {
            parts.push(part(0, None));
        }
        parts.extend((0..).zip(ranges).map(|(number, range)| part(number, Some(range))));
    }
    parts
}

/// Reads parts until there are none; returns the connection.
async fn work(shared: &TableReaders, queue: &Queue, tables: &[CopyTable], number: usize) -> Result<Option<Connection>> {
    let mut connection = shared.only.lock().expect("no panic happens under this lock").take();
    let has_locks = connection.is_some();
    // Readers beside the first are optional: whoever gets no session leaves its work to the others.
    if number > 0 {
        match open_reader_at_once(&shared.options, &shared.facts).await {
            Ok(reader) => connection = Some(reader),
            Err(error) if sqlstate(&error) == Some(TOO_MANY) => return Ok(None),
            // Whoever reads a part says it, and tries again.
            Err(_) => {}
        }
    }
    loop {
        let next = queue
            .parts
            .lock()
            .expect("no panic happens under this lock")
            .pop_front();
        let Some(mut part) = next else { break };
        let Some(table) = tables.get(part.table) else { continue };
        let Some(result) = read_part(shared, &mut connection, table, &mut part, has_locks).await? else {
            tracing::debug!("{} is left to the session that has its lock", table.label());
            let mut held_up = queue.held_up.lock().expect("no panic happens under this lock");
            held_up.push_back(part);
            continue;
        };
        let complete = {
            let mut done = queue.done.lock().expect("no panic happens under this lock");
            let slots = done.get_mut(part.table).map(Vec::as_mut_slice).unwrap_or_default();
            if let Some(slot) = slots.get_mut(exact::usize_from(part.number.into())) {
                *slot = Some(result);
            }
            slots.iter().cloned().collect::<Option<Vec<PartResult>>>()
        };
        if let Some(parts) = complete {
            shared
                .writer
                .finish_stream(record(table, &parts, &shared.facts.encoding))
                .await?;
            shared.reporter.advance(&shared.task, 0, 1);
        }
    }
    Ok(connection)
}

fn record(table: &CopyTable, parts: &[PartResult], encoding: &str) -> StreamRecord {
    let mut digest = RowDigest::default();
    for part in parts {
        digest.merge(&part.digest);
    }
    StreamRecord {
        stream: table.stream_name(),
        prefixes: parts.iter().map(|p| p.prefix.clone()).collect(),
        chunks: parts.iter().map(|p| u64::from(p.chunks)).sum(),
        bytes: parts.iter().map(|p| p.bytes).sum(),
        rows: Some(digest.rows),
        row_digest: Some(digest.hex()),
        facts: table.facts(encoding),
    }
}

/// Reads a part; returns nothing where a statement waits for its table, unless the session has the lock already.
async fn read_part(
    shared: &TableReaders,
    connection: &mut Option<Connection>,
    table: &CopyTable,
    part: &mut Part,
    has_locks: bool,
) -> Result<Option<PartResult>> {
    if table.table.empty {
        let prefix = table.stream_name();
        let stream = RowStream::new(shared.writer.clone(), prefix, (0, 1), table.format);
        return stream.finish().await.map(Some);
    }
    let act = || format!("copy {}", table.label());
    let mut table = Cow::Borrowed(table);
    let mut first: Option<Error> = None;
    for attempt in 1..=ATTEMPTS {
        let mut read = 0;
        part.tried += 1;
        let error = match try_part(shared, connection, &table, part, &mut read).await {
            Ok(result) => return Ok(Some(result)),
            Err(error) => error,
        };
        // After any failure the transaction is spoilt or the connection dead: the next attempt has a new one.
        *connection = None;
        if sqlstate(&error) == Some(LOCK_NOT_AVAILABLE) && !has_locks {
            return Ok(None);
        }
        // Nobody can rename a locked table, but its schema.
        if matches!(sqlstate(&error), Some("42P01" | "3F000"))
            && attempt < ATTEMPTS
            && let Some(place) = name_of_now(shared, &table).await?
        {
            table.to_mut().place = Some(place);
            continue;
        }
        if !error.is_retryable() || attempt == ATTEMPTS {
            let tries = if attempt > 1 {
                format!(" (gave up after {attempt} attempts)")
            } else {
                String::new()
            };
            return Err(first.unwrap_or(error).context(format!("{}{tries}", act())));
        }
        let text = format!("{}; {read} bytes of it are read again", error.chain());
        shared.notes.add(Note::new("repeated", table.label(), text));
        first.get_or_insert(error);
        tokio::time::sleep(Duration::from_millis(250 << attempt)).await;
    }
    Err(first.unwrap_or_else(cancelled).context(act()))
}

/// Returns the quoted name that a table has now, if it is another one.
async fn name_of_now(shared: &TableReaders, table: &CopyTable) -> Result<Option<String>> {
    if table.pieces.is_some() {
        return Ok(None);
    }
    let mut connection = settings::open(&shared.options, Session::Reading).await?;
    let sql = with_names(NAME_OF_NOW, &[("oid", &table.table.oid.to_string())]);
    let found = connection.query(&sql).await?;
    connection.close().await;
    let name = found.scalar().map(str::to_owned);
    Ok(name.filter(|name| *name != table.qualified()))
}

async fn try_part(
    shared: &TableReaders,
    connection: &mut Option<Connection>,
    table: &CopyTable,
    part: &Part,
    read: &mut u64,
) -> Result<PartResult> {
    let connection = match connection {
        Some(open) => open,
        none => none.insert(open_reader(&shared.options, &shared.facts).await?),
    };
    // A waiting ACCESS EXCLUSIVE request could stand between the leader's lock and ours: waiting would deadlock.
    let lock = table.lock_name().map_or_else(String::new, |name| {
        format!("LOCK TABLE ONLY {name} IN ACCESS SHARE MODE NOWAIT; ")
    });
    let mut prefix = table.stream_name();
    if part.of > 1 {
        prefix.push_str(&format!(".p{:04}", part.number));
    }
    if part.tried > 1 {
        prefix.push_str(&format!(".try{}", part.tried));
    }
    let mut stream = RowStream::new(shared.writer.clone(), prefix, (part.number, part.of), table.format);
    let mut images = RowImages::new(table.format);
    let mut copy = connection
        .copy_out(&format!("{lock}{}", table.copy_out_sql(part.range)))
        .await?;
    let mut told = 0;
    while let Some(piece) = copy.next().await? {
        *read += exact::u64_from(piece.bytes.len());
        let Some(piece) = images.take(piece)? else { continue };
        stream.piece(&piece, images.image(&piece)?).await?;
        let written = stream.written_bytes();
        if written > told {
            shared.reporter.advance(&shared.task, written - told, 0);
            told = written;
        }
    }
    images.finish()?;
    let counted = copy.server_rows();
    drop(copy);
    let result = stream.finish().await?;
    shared.reporter.advance(&shared.task, result.bytes - told, 0);
    if counted.is_some_and(|rows| rows != result.digest.rows) {
        return Err(Error::corrupt(format!(
            "server counted {} rows, {} arrived",
            counted.unwrap_or(0),
            result.digest.rows
        )));
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::engines::postgres::schema::DataTable;
    use crate::engines::postgres::wire::binary_copy::CopyFormat;

    fn table(number: u32, bytes: u64, pages: u64) -> CopyTable {
        CopyTable::of_table(
            DataTable {
                number,
                oid: number,
                schema: "s".into(),
                name: "t/../ü".into(),
                columns: vec!["a\"b".to_owned()],
                pages,
                bytes,
                empty: false,
                ctid_ranges: true,
                root: None,
                filter: None,
            },
            CopyFormat::Text,
        )
    }

    #[test]
    fn ranges_cover_every_page_and_the_last_has_no_end() {
        let tables = [table(1, 1000, 1), table(2, 10 * PART_BYTES + 5, 1_000_003)];
        let parts = plan(&tables, true);
        let large: Vec<&Part> = parts.iter().filter(|p| p.table == 1).collect();
        assert_eq!(parts[0].table, 1, "the largest table comes first");
        let mut next = 0;
        for part in &large {
            let range = part.range.unwrap();
            assert_eq!(range.from, next);
            next = range.to.unwrap_or(u64::MAX);
        }
        assert_eq!(next, u64::MAX);
        assert_eq!(plan(&tables, false).len(), 2);
    }

    #[test]
    fn names_in_the_archive_hold_no_surprise() {
        let table = table(12, 0, 0);
        assert_eq!(table.stream_name(), "tables/00012.t_____");
        assert_eq!(table.copy_out_sql(None), "COPY \"s\".\"t/../ü\" (\"a\"\"b\") TO STDOUT");
    }
}
