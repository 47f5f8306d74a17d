//! Loads table data with several connections, and checks what arrived.
//!
//! Chunks are sent as they are; a run of chunks that hold one large row stays in one COPY on one connection. A table
//! that is loaded by one COPY is truncated and frozen in the same transaction: only tables that this run created are
//! ever loaded.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::keep_going::load_rows;
use super::locale_override::is_untranslatable;
use super::scheduler::ALL_TABLES;
use super::statements::FailedItem;
use crate::archive::{ChunkRef, StreamRecord};
use crate::base::error::{Context as _, Error, Result};
use crate::base::exact;
use crate::base::report::SharedReporter;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::{qualified, quote_ident};
use crate::engines::postgres::stored::copy_table::filtered;
use crate::engines::postgres::stored::large_objects;
use crate::engines::postgres::stored::large_objects::Pieces;
use crate::engines::postgres::stored::text::Contents;
use crate::engines::postgres::wire::binary_copy::{CopyFormat, HEADER, TRAILER};
use crate::engines::postgres::wire::server_error::{server_error, sqlstate};

/// Data of one COPY at least, in bytes: below it the round trips count.
const UNIT_BYTES: u64 = 64 << 20;

/// A table, or the large objects, as its stream record describes it.
#[derive(Debug, Clone)]
pub(crate) struct TableData {
    /// Its number in the table of contents; 0 in backups that do not say.
    pub(crate) number: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    pub(crate) format: CopyFormat,
    /// Set for the large objects.
    pub(crate) pieces: Option<Pieces>,
    /// Set for a configuration table of an extension: which of its rows are the backup's.
    pub(crate) filter: Option<String>,
    /// Schema and name of the partitioned table through which it is loaded, where its rows may belong into another partition.
    pub(crate) root: Option<(String, String)>,
    pub(crate) record: StreamRecord,
}

#[derive(Debug, serde::Deserialize)]
struct TableFacts {
    #[serde(default)]
    number: u32,
    #[serde(default)]
    schema: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    columns: Vec<String>,
    format: CopyFormat,
    #[serde(default)]
    pieces: Option<String>,
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    root: Option<(String, String)>,
}

impl TableData {
    /// Returns the tables of a backup, and its large objects.
    pub(crate) fn all(contents: &Contents) -> Result<Vec<Self>> {
        let records = contents.records.iter();
        let records = records.filter(|r| r.stream.starts_with("tables/") || r.stream == large_objects::STREAM);
        records.map(Self::from_record).collect()
    }

    fn from_record(record: &StreamRecord) -> Result<Self> {
        let facts: TableFacts = serde_json::from_value(record.facts.clone()).map_err(|e| {
            Error::corrupt(format!("the facts of \"{}\" are not readable", record.stream)).with_cause(e)
        })?;
        let pieces = match facts.pieces {
            Some(name) => Some(Pieces::from_name(&name).ok_or_else(|| large_objects::unknown_pieces(&name))?),
            None => None,
        };
        Ok(Self {
            number: facts.number,
            schema: facts.schema,
            name: facts.name,
            columns: facts.columns,
            format: facts.format,
            pieces,
            filter: facts.filter,
            root: facts.root,
            // The facts are read; kept twice they would be most of what very many tables take.
            record: StreamRecord {
                facts: serde_json::Value::Null,
                ..record.clone()
            },
        })
    }

    /// Returns the number by which items wait for its rows: that of all tables, where its rows may go to others.
    pub(crate) fn gate(&self) -> u32 {
        if self.root.is_some() || self.pieces.is_some() {
            ALL_TABLES
        } else {
            self.number
        }
    }

    /// Returns what messages call it.
    pub(crate) fn label(&self) -> String {
        match self.pieces {
            Some(_) => "large objects".to_owned(),
            None => format!("table {}", self.qualified()),
        }
    }

    /// Returns the quoted `schema.name`.
    pub(crate) fn qualified(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    fn list(&self) -> String {
        if self.columns.is_empty() {
            return String::new();
        }
        let columns: Vec<String> = self.columns.iter().map(|c| quote_ident(c)).collect();
        format!(" ({})", columns.join(", "))
    }

    fn copy_in_sql(&self, freeze: bool) -> String {
        let target = if self.pieces.is_some() {
            large_objects::STAGING.to_owned()
        } else {
            let root = self.root.as_ref().map(|(schema, name)| qualified(schema, name));
            format!("{}{}", root.unwrap_or_else(|| self.qualified()), self.list())
        };
        let more: &[&str] = if freeze { &["FREEZE"] } else { &[] };
        format!("COPY {target} FROM STDIN{}", self.format.options(more))
    }

    /// Returns the statement that reads it in the way in which it was read.
    pub(crate) fn copy_out_sql(&self) -> String {
        let source = match &self.pieces {
            Some(pieces) => format!("({})", pieces.select_sql(None)),
            None => match &self.filter {
                Some(filter) => {
                    let columns: Vec<String> = self.columns.iter().map(|c| quote_ident(c)).collect();
                    format!("({})", filtered(&self.qualified(), &columns.join(", "), filter))
                }
                None => format!("{}{}", self.qualified(), self.list()),
            },
        };
        format!("COPY {source} TO STDOUT{}", self.format.options(&[]))
    }
}

/// Chunks that one COPY sends.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) table: usize,
    /// From 0 within the table.
    pub(crate) number: usize,
    chunks: Vec<ChunkRef>,
    /// Rows of the table before it.
    rows_before: u64,
    /// Whether the first is the table's first, and the last its last.
    first: bool,
    last: bool,
}

impl Unit {
    /// Says of a row that has no equivalent in the target's encoding which one of the table it is.
    fn locate(&self, error: Error) -> Error {
        if !is_untranslatable(sqlstate(&error)) {
            return error;
        }
        // `COPY t, line 3, column v: "…"`: a line of this COPY. A server that speaks another language keeps its row to itself.
        let context = server_error(&error).and_then(|e| e.context.clone()).unwrap_or_default();
        let line: Option<u64> = context.rsplit_once(", line ").and_then(|(_, rest)| {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest.get(..end)?.parse().ok()
        });
        let row = line.map_or_else(
            || "a row ".to_owned(),
            |line| format!("row {} ", self.rows_before.saturating_add(line)),
        );
        error.context(format!("{row}cannot be converted into the target's encoding"))
    }

    /// Returns whether it is the whole table.
    fn whole(&self) -> bool {
        self.first && self.last
    }
}

/// What a load did.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) rows: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Tables, by their places, whose rows are not there.
    pub(crate) failed: Mutex<Vec<(usize, FailedItem)>>,
    /// Tables that were loaded with the source's `search_path`.
    relied: Mutex<HashSet<usize>>,
}

impl Loaded {
    /// Notes that a table needed the source's `search_path`; returns whether that is news.
    pub(crate) fn relied_on_path(&self, table: usize) -> bool {
        self.relied
            .lock()
            .expect("no panic happens under this lock")
            .insert(table)
    }

    /// Notes a table whose rows are not there.
    pub(crate) fn fail(&self, at: usize, item: FailedItem) {
        let mut failed = self.failed.lock().expect("no panic happens under this lock");
        failed.push((at, item));
    }
}

/// Cuts a table into units that begin and end at row ends.
pub(crate) fn cut(at: usize, table: &TableData, contents: &Contents) -> Result<Vec<Unit>> {
    let mut units: Vec<Unit> = Vec::new();
    let (mut bytes, mut rows) = (0, 0);
    for prefix in &table.record.prefixes {
        for (position, chunk) in contents.chunks(prefix).iter().enumerate() {
            if position == 0 && !chunk.facts.starts_row {
                return Err(Error::corrupt(format!("\"{prefix}\" begins within a row")));
            }
            match units.last_mut() {
                // Rows of an extension's table may refer to each other, which is checked when a COPY ends.
                Some(unit) if bytes < UNIT_BYTES || !chunk.facts.starts_row || table.filter.is_some() => {
                    unit.chunks.push(chunk.clone());
                    bytes += chunk.size_bytes;
                }
                _ => {
                    units.push(Unit {
                        table: at,
                        number: units.len(),
                        rows_before: rows,
                        first: units.is_empty(),
                        chunks: vec![chunk.clone()],
                        last: false,
                    });
                    bytes = chunk.size_bytes;
                }
            }
            rows += chunk.facts.rows;
        }
    }
    if let Some(unit) = units.last_mut() {
        unit.last = true;
    }
    Ok(units)
}

/// Loads a table on a connection within its transaction; returns the rows. Its count is compared. After an error none of its
/// rows is there, and the transaction can go on.
pub(crate) async fn load_within(
    connection: &mut Connection,
    contents: &Contents,
    table: &TableData,
    reporter: &SharedReporter,
    task: &str,
) -> Result<u64> {
    connection.execute("SAVEPOINT \"wirevault table\"").await?;
    let done = load_units(connection, contents, table, reporter, task).await;
    if connection.is_dead() {
        return done;
    }
    if done.is_err() {
        connection.execute("ROLLBACK TO SAVEPOINT \"wirevault table\"").await?;
    }
    connection.execute("RELEASE SAVEPOINT \"wirevault table\"").await?;
    done
}

async fn load_units(
    connection: &mut Connection,
    contents: &Contents,
    table: &TableData,
    reporter: &SharedReporter,
    task: &str,
) -> Result<u64> {
    let loaded = Loaded::default();
    let mut rows = 0;
    for unit in cut(0, table, contents)? {
        rows += load_rows(connection, contents, table, &unit, &loaded, (reporter, task))
            .await
            .with_context(|| format!("load {}", table.label()))?;
    }
    check_count(table, rows)?;
    Ok(rows)
}

/// Compares the rows that came with the backup's.
pub(crate) fn check_count(table: &TableData, rows: u64) -> Result<()> {
    let expected = table.record.rows.unwrap_or(0);
    if rows == expected {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "{} has {rows} rows, the backup {expected}",
        table.label()
    )))
}

pub(crate) async fn load(
    connection: &mut Connection,
    contents: &Contents,
    table: &TableData,
    unit: &Unit,
    loaded: &Loaded,
    reporter: &SharedReporter,
    task: &str,
) -> Result<u64> {
    // Within a transaction of the caller the table may hold rows that others see.
    let own = table.pieces.is_none() && table.filter.is_none() && table.root.is_none();
    let freeze = unit.whole() && own && !connection.in_transaction();
    if table.pieces.is_some() {
        large_objects::prepare(connection).await?;
    } else if freeze {
        connection
            .execute(&format!("BEGIN; TRUNCATE TABLE ONLY {}", table.qualified()))
            .await?;
    }
    connection.copy_in(&table.copy_in_sql(freeze)).await?;
    // The stored rows begin with a header and end with a trailer; a run out of their middle needs its own.
    let binary = table.format == CopyFormat::Binary;
    if binary && !unit.first {
        connection.copy_data(&HEADER).await?;
    }
    let mut chunks = contents.reader.chunks(unit.chunks.clone());
    let mut sent = 0;
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
        let bytes = exact::u64_from(data.len());
        sent += bytes;
        reporter.advance(task, bytes, 0);
    }
    if binary && !unit.last {
        connection.copy_data(&TRAILER).await?;
    }
    let rows = connection.copy_end().await.map_err(|e| unit.locate(e))?;
    let expected: u64 = unit.chunks.iter().map(|c| c.facts.rows).sum();
    if rows != expected {
        return Err(Error::corrupt(format!(
            "the server counted {rows} rows, the backup {expected}"
        )));
    }
    if table.pieces.is_some() {
        connection.execute(&large_objects::unstaging_sql()).await?;
    } else if freeze {
        connection.execute("COMMIT").await?;
    }
    loaded.bytes.fetch_add(sent, Ordering::Relaxed);
    Ok(rows)
}
