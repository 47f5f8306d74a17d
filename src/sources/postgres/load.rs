//! Loads table data with several connections, and checks what arrived.
//!
//! Chunks are sent as they are; a run of chunks that hold one large row stays in one COPY on one connection. A table
//! that is loaded by one COPY is truncated and frozen in the same transaction: only tables that this run created are
//! ever loaded.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::try_join_all;

use super::connection::Connection;
use super::row_digest::{RowDigest, RowHasher};
use super::schema::{qualified, quote_ident};
use super::sql_text::Contents;
use super::statements::open_session;
use super::table_stream::text_image;
use super::url::ConnectOptions;
use crate::archive::{ChunkRef, StreamRecord};
use crate::error::{Context as _, Error, Result};
use crate::report::SharedReporter;

/// Data of one COPY at least, in bytes: below it the round trips count.
const UNIT_BYTES: u64 = 64 << 20;

/// A table as its stream record describes it.
#[derive(Debug, Clone)]
pub(super) struct TableData {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    pub(super) record: StreamRecord,
}

#[derive(Debug, serde::Deserialize)]
struct TableFacts {
    schema: String,
    name: String,
    columns: Vec<String>,
    format: String,
}

impl TableData {
    /// Returns the tables of a backup.
    pub(super) fn all(contents: &Contents) -> Result<Vec<Self>> {
        let records = contents.records.iter().filter(|r| r.stream.starts_with("tables/"));
        records.map(Self::from_record).collect()
    }

    fn from_record(record: &StreamRecord) -> Result<Self> {
        let facts: TableFacts = serde_json::from_value(record.facts.clone()).map_err(|e| {
            Error::corrupt(format!("the facts of \"{}\" are not readable", record.stream)).with_cause(e)
        })?;
        if facts.format != "text" {
            return Err(Error::unsupported(format!(
                "\"{}\" is in format \"{}\"",
                record.stream, facts.format
            )));
        }
        Ok(Self {
            schema: facts.schema,
            name: facts.name,
            columns: facts.columns,
            record: record.clone(),
        })
    }

    /// Returns the quoted `schema.name`.
    pub(super) fn qualified(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    fn list(&self) -> String {
        if self.columns.is_empty() {
            return String::new();
        }
        let columns: Vec<String> = self.columns.iter().map(|c| quote_ident(c)).collect();
        format!(" ({})", columns.join(", "))
    }
}

/// Chunks that one COPY sends.
#[derive(Debug)]
struct Unit {
    table: usize,
    chunks: Vec<ChunkRef>,
    /// Whether they are the whole table.
    whole: bool,
}

/// What a load did.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) rows: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// Loads every table; the first failure ends it.
pub(super) async fn load_all(
    options: &ConnectOptions,
    contents: &Contents,
    tables: &[TableData],
    parallel: usize,
    reporter: &SharedReporter,
    task: &str,
) -> Result<Loaded> {
    let mut units = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        units.extend(cut(at, table, contents)?);
    }
    // Largest tables first, the units of one in order.
    units.sort_by_key(|u: &Unit| {
        (
            std::cmp::Reverse(tables.get(u.table).map_or(0, |t| t.record.bytes)),
            u.table,
        )
    });
    let workers = parallel.clamp(1, units.len().max(1));
    let counts: Vec<AtomicU64> = tables.iter().map(|_| AtomicU64::new(0)).collect();
    let queue = Mutex::new(VecDeque::from(units));
    let loaded = Loaded::default();
    let work = || async {
        let mut connection = open_session(options).await?;
        loop {
            let next = queue.lock().expect("no panic happens under this lock").pop_front();
            let Some(unit) = next else { break };
            let Some(table) = tables.get(unit.table) else { continue };
            let rows = load(&mut connection, contents, table, &unit, &loaded, reporter, task)
                .await
                .with_context(|| format!("load table {}", table.qualified()))?;
            loaded.rows.fetch_add(rows, Ordering::Relaxed);
            if let Some(count) = counts.get(unit.table) {
                count.fetch_add(rows, Ordering::Relaxed);
            }
        }
        connection.close().await;
        Ok::<(), Error>(())
    };
    try_join_all((0..workers).map(|_| work())).await?;
    for (table, count) in tables.iter().zip(&counts) {
        let (count, expected) = (count.load(Ordering::Relaxed), table.record.rows.unwrap_or(0));
        if count != expected {
            return Err(Error::corrupt(format!(
                "table {} has {count} rows, the backup {expected}",
                table.qualified()
            )));
        }
    }
    Ok(loaded)
}

/// Cuts a table into units that begin and end at row ends.
fn cut(at: usize, table: &TableData, contents: &Contents) -> Result<Vec<Unit>> {
    let mut units: Vec<Unit> = Vec::new();
    let mut bytes = 0;
    for prefix in &table.record.prefixes {
        for (position, chunk) in contents.chunks(prefix).iter().enumerate() {
            if position == 0 && !chunk.facts.starts_row {
                return Err(Error::corrupt(format!("\"{prefix}\" begins within a row")));
            }
            match units.last_mut() {
                Some(unit) if bytes < UNIT_BYTES || !chunk.facts.starts_row => {
                    unit.chunks.push(chunk.clone());
                    bytes += chunk.size_bytes;
                }
                _ => {
                    units.push(Unit {
                        table: at,
                        chunks: vec![chunk.clone()],
                        whole: false,
                    });
                    bytes = chunk.size_bytes;
                }
            }
        }
    }
    if let [only] = units.as_mut_slice() {
        only.whole = true;
    }
    Ok(units)
}

async fn load(
    connection: &mut Connection,
    contents: &Contents,
    table: &TableData,
    unit: &Unit,
    loaded: &Loaded,
    reporter: &SharedReporter,
    task: &str,
) -> Result<u64> {
    let (name, list) = (table.qualified(), table.list());
    if unit.whole {
        connection
            .execute(&format!("BEGIN; TRUNCATE TABLE ONLY {name}"))
            .await?;
        connection
            .copy_in(&format!("COPY {name}{list} FROM STDIN WITH (FREEZE)"))
            .await?;
    } else {
        connection.copy_in(&format!("COPY {name}{list} FROM STDIN")).await?;
    }
    let mut chunks = contents.reader.chunks(unit.chunks.clone());
    loop {
        let next = chunks.next().await;
        let data = match next {
            Ok(Some((_, data))) => data,
            Ok(None) => break,
            Err(error) => {
                connection.copy_fail("the backup could not be read").await?;
                return Err(error);
            }
        };
        connection.copy_data(&data).await?;
        let bytes = u64::try_from(data.len()).unwrap_or(0);
        loaded.bytes.fetch_add(bytes, Ordering::Relaxed);
        reporter.advance(task, bytes, 0);
    }
    let rows = connection.copy_end().await?;
    if unit.whole {
        connection.execute("COMMIT").await?;
    }
    let expected: u64 = unit.chunks.iter().map(|c| c.facts.rows).sum();
    if rows != expected {
        return Err(Error::corrupt(format!(
            "the server counted {rows} rows, the backup {expected}"
        )));
    }
    Ok(rows)
}

/// Reads a table, or any query's COPY in text format, and returns its rows' digest. The session must have the settings
/// that the digest was made with.
pub async fn table_digest(connection: &mut Connection, copy_sql: &str) -> Result<RowDigest> {
    let mut hasher = RowHasher::default();
    let mut copy = connection.copy_out(copy_sql).await?;
    while let Some(piece) = copy.next().await? {
        hasher.piece(text_image(&piece)?, piece.ends);
    }
    Ok(hasher.digest)
}

/// Reads every table again and compares rows and digest with the backup's.
pub(super) async fn compare_all(options: &ConnectOptions, tables: &[TableData], parallel: usize) -> Result<()> {
    let queue = Mutex::new(tables.iter().collect::<VecDeque<_>>());
    let work = || async {
        let mut connection = open_session(options).await?;
        loop {
            let next = queue.lock().expect("no panic happens under this lock").pop_front();
            let Some(table) = next else { break };
            let sql = format!("COPY {}{} TO STDOUT", table.qualified(), table.list());
            let digest = table_digest(&mut connection, &sql)
                .await
                .with_context(|| format!("read table {}", table.qualified()))?;
            if Some(digest.rows) != table.record.rows || Some(digest.hex()) != table.record.row_digest {
                return Err(Error::corrupt(format!(
                    "table {} differs after the restore: {} rows with digest {}, the backup has {} with {}",
                    table.qualified(),
                    digest.rows,
                    digest.hex(),
                    table.record.rows.unwrap_or(0),
                    table.record.row_digest.as_deref().unwrap_or("none")
                )));
            }
        }
        connection.close().await;
        Ok::<(), Error>(())
    };
    try_join_all((0..parallel.clamp(1, tables.len().max(1))).map(|_| work()))
        .await
        .map(drop)
}
