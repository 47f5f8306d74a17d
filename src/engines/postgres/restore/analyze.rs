//! Statistics for the planner at the end of a restore.
//!
//! A server that takes the source's (18 and later) gets them where they still describe the rows: the restored table counts as
//! changed by the rule of autovacuum, against the rows that the statistics know of. What else has rows is analysed, by several
//! connections, the largest first; extended statistics are of ANALYZE alone. Empty tables have nothing to be sampled.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;

use futures_util::future::try_join_all;

use super::load::TableData;
use super::selection::Chosen;
use super::statements::{Outcome, run_items};
use crate::base::error::{Context as _, Error, Result};
use crate::base::exact;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::sessions::open_session;
use crate::engines::postgres::session::sessions::open_worker;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::quote::qualified;
use crate::engines::postgres::sql::template::with_names;
use crate::engines::postgres::stored::streams::TocEntry;
use crate::engines::postgres::stored::text::Contents;
use crate::engines::postgres::wire::text_row::TextRow;

const PARTITIONS: &str = include_str!("sql/partition_roots.sql");
const RELATIONS: &str = include_str!("sql/relations.sql");

/// Tables in one ANALYZE, and items of statistics in one transaction, at most.
const BATCH: usize = 100;

/// The first version that takes planner statistics.
const TAKES_STATISTICS: i32 = 180_000;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Analyzed {
    /// Tables that have the backup's statistics.
    pub(crate) restored: u64,
    /// Tables that cannot be analysed, with the reason (a foreign child whose server is away): the rest of the database has
    /// statistics all the same.
    pub(crate) failed: Vec<(String, Error)>,
}

/// Restores or collects statistics.
pub(crate) async fn analyze(
    into: &ConnectOptions,
    contents: &Contents,
    chosen: &Chosen<'_>,
    parallel: usize,
) -> Result<Analyzed> {
    let mut connection = open_session(into).await?;
    let sql = "SELECT pg_catalog.current_setting('server_version_num')";
    let version = connection.query(sql).await?.scalar().and_then(|text| text.parse().ok());
    connection.close().await;
    let restored = if version.is_some_and(|version: i32| version >= TAKES_STATISTICS) {
        restore(into, contents, chosen, parallel).await?
    } else {
        HashSet::new()
    };
    let mut connection = open_session(into).await?;
    let roots = partitions(&mut connection).await?;
    // The parents' statement goes through their partitions.
    let parents = relations(&mut connection, "c.relkind = 'p' AND NOT c.relispartition").await?;
    let parents: HashSet<String> = parents.into_iter().filter(|name| !restored.contains(name)).collect();
    let mut names = relations(&mut connection, "c.relkind = 'm'").await?;
    connection.close().await;
    names.extend(parents.iter().cloned());
    names.sort();
    let mut filled: Vec<&TableData> = chosen.tables.iter().filter(|t| has_rows(t)).collect();
    filled.sort_by_key(|t| std::cmp::Reverse(t.record.bytes));
    let filled = filled.into_iter().map(TableData::qualified);
    let left = |name: &String| !restored.contains(name) && roots.get(name).is_none_or(|root| !parents.contains(root));
    names.extend(filled.filter(left));
    Ok(Analyzed {
        restored: exact::u64_from(restored.len()),
        failed: collect(into, &names, parallel).await?,
    })
}

fn has_rows(table: &TableData) -> bool {
    table.pieces.is_none() && table.record.rows.unwrap_or(0) > 0
}

/// Restores what still describes the rows; returns the tables that have it.
async fn restore(
    into: &ConnectOptions,
    contents: &Contents,
    chosen: &Chosen<'_>,
    parallel: usize,
) -> Result<HashSet<String>> {
    let rows: HashMap<(&str, &str), u64> = chosen
        .tables
        .iter()
        .map(|t| ((t.schema.as_str(), t.name.as_str()), t.record.rows.unwrap_or(0)))
        .collect();
    let describes = |line: &&TocEntry| {
        let schema = line.item.schema.as_deref().unwrap_or_default();
        // The parent of partitions has no rows of its own.
        rows.get(&(schema, line.item.name.as_str()))
            .is_none_or(|&rows| !is_changed(rows, line.item.weight))
    };
    let lines: Vec<&TocEntry> = chosen.statistics.iter().copied().filter(describes).collect();
    let done = in_turns(into, &lines, parallel, async |connection, batch| {
        let outcomes = run_items(connection, &mut contents.texts(), batch).await?;
        let done = batch
            .iter()
            .zip(outcomes)
            .filter(|(_, outcome)| matches!(outcome, Outcome::Done));
        let name = |line: &TocEntry| qualified(line.item.schema.as_deref().unwrap_or_default(), &line.item.name);
        Ok(done.map(|(line, _)| name(line)).collect())
    });
    Ok(done.await?.into_iter().collect())
}

/// Returns whether autovacuum would find so many rows of a table changed that it has to be analysed
/// (autovacuum_analyze_threshold and autovacuum_analyze_scale_factor, as built in).
fn is_changed(rows: u64, known: u64) -> bool {
    rows.abs_diff(known) > 50 + known / 10
}

/// Analyses tables; returns those that could not be.
async fn collect(into: &ConnectOptions, names: &[String], parallel: usize) -> Result<Vec<(String, Error)>> {
    in_turns(into, names, parallel, async |connection, batch| {
        let mut failed = Vec::new();
        match connection.execute(&format!("ANALYZE {}", batch.join(", "))).await {
            Ok(()) => {}
            Err(error) if connection.is_dead() => return Err(error),
            Err(_) => analyze_each(connection, batch, &mut failed).await?,
        }
        Ok(failed)
    })
    .await
}

/// Does work on several connections, a batch at a time; returns what all of them returned.
async fn in_turns<T, R>(
    into: &ConnectOptions,
    all: &[T],
    parallel: usize,
    work: impl AsyncFn(&mut Connection, &[T]) -> Result<Vec<R>>,
) -> Result<Vec<R>> {
    // Everybody has several turns.
    let batch = (all.len() / (8 * parallel.max(1))).clamp(1, BATCH);
    let queue = Mutex::new(all.chunks(batch).collect::<VecDeque<_>>());
    let (queue_of, work_of) = (&queue, &work);
    let worker = |number| async move {
        let (queue, work) = (queue_of, work_of);
        let Some(mut connection) = open_worker(into, number).await? else {
            return Ok(Vec::new());
        };
        let mut done = Vec::new();
        loop {
            let next = queue.lock().expect("no panic happens under this lock").pop_front();
            let Some(batch) = next else { break };
            done.extend(work(&mut connection, batch).await?);
        }
        connection.close().await;
        Ok::<_, Error>(done)
    };
    let workers = parallel.min(all.len().div_ceil(batch));
    let done = try_join_all((0..workers).map(worker)).await?;
    Ok(done.into_iter().flatten().collect())
}

async fn analyze_each(connection: &mut Connection, names: &[String], failed: &mut Vec<(String, Error)>) -> Result<()> {
    for name in names {
        match connection.execute(&format!("ANALYZE {name}")).await {
            Err(error) if connection.is_dead() => return Err(error),
            Err(error) => failed.push((name.clone(), error)),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Returns the quoted names of the database's own relations that meet a condition.
async fn relations(connection: &mut Connection, condition: &str) -> Result<Vec<String>> {
    let sql = with_names(RELATIONS, &[("condition", condition)]);
    let found = connection.query(&sql).await.context("list the tables")?;
    found
        .named()
        .map(|row| Ok(qualified(row.text("schema")?, row.text("name")?)))
        .collect()
}

/// Returns the partitions with their roots, by quoted names.
async fn partitions(connection: &mut Connection) -> Result<HashMap<String, String>> {
    let found = connection.query(PARTITIONS).await.context("list the partitions")?;
    let names = |row: TextRow<'_>| {
        let partition = qualified(row.text("schema")?, row.text("name")?);
        Ok((partition, qualified(row.text("root_schema")?, row.text("root_name")?)))
    };
    found.named().map(names).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_counts_as_changed_as_autovacuum_counts() {
        assert!(!is_changed(1000, 1000) && !is_changed(1100, 1000) && !is_changed(850, 1000));
        assert!(is_changed(1151, 1000) && is_changed(51, 0) && is_changed(0, 1000));
    }
}
