//! Statistics for the planner at the end of a restore.
//!
//! Only what has rows is analysed, by several connections, the largest first; the others have nothing to be sampled.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use futures_util::future::try_join_all;

use super::connection::Connection;
use super::load::TableData;
use super::schema::qualified;
use super::statements::open_session;
use super::url::ConnectOptions;
use crate::error::{Context as _, Error, Result};

/// Tables in one ANALYZE, at most.
const BATCH: usize = 100;

/// Collects statistics. Returns the tables that cannot be analysed, with the reason (a foreign child whose server is away): the
/// rest of the database has statistics all the same.
pub(super) async fn analyze(
    into: &ConnectOptions,
    tables: &[TableData],
    parallel: usize,
) -> Result<Vec<(String, Error)>> {
    let mut connection = open_session(into).await?;
    let partitions: HashSet<String> = relations(&mut connection, "c.relispartition")
        .await?
        .into_iter()
        .collect();
    // The parents' statement goes through their partitions.
    let mut names = relations(
        &mut connection,
        "(c.relkind = 'p' AND NOT c.relispartition) OR c.relkind = 'm'",
    )
    .await?;
    connection.close().await;
    let filled = tables
        .iter()
        .filter(|t| t.pieces.is_none() && t.record.rows.unwrap_or(0) > 0);
    let mut filled: Vec<&TableData> = filled.collect();
    filled.sort_by_key(|t| std::cmp::Reverse(t.record.bytes));
    let filled = filled.into_iter().map(TableData::qualified);
    names.extend(filled.filter(|n| !partitions.contains(n)));
    // Everybody has several turns.
    let batch = (names.len() / (8 * parallel.max(1))).clamp(1, BATCH);
    let queue = Mutex::new(names.chunks(batch).collect::<VecDeque<_>>());
    let work = || async {
        let mut connection = open_session(into).await?;
        let mut failed = Vec::new();
        loop {
            let next = queue.lock().expect("no panic happens under this lock").pop_front();
            let Some(batch) = next else { break };
            match connection.execute(&format!("ANALYZE {}", batch.join(", "))).await {
                Ok(()) => {}
                Err(error) if connection.is_dead() => return Err(error),
                Err(_) => analyze_each(&mut connection, batch, &mut failed).await?,
            }
        }
        connection.close().await;
        Ok::<_, Error>(failed)
    };
    let workers = parallel.clamp(1, names.len().div_ceil(batch).max(1));
    let failed = try_join_all((0..workers).map(|_| work())).await?;
    Ok(failed.into_iter().flatten().collect())
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
    let sql = format!(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE ({condition}) AND c.relkind IN ('r', 'p', 'm') AND c.oid >= 16384 AND n.nspname !~ '^pg_' ORDER BY c.oid"
    );
    let found = connection.query(&sql).await.context("list the tables")?;
    let name = |row: &Vec<Option<String>>| {
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        qualified(&text(0), &text(1))
    };
    Ok(found.rows.iter().map(name).collect())
}
