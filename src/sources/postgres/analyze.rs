//! Statistics for the planner at the end of a restore.
//!
//! A whole database is analysed by one statement. With very many tables that is too dear: only what has rows is, by several
//! connections; the others have nothing to be sampled.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use futures_util::future::try_join_all;

use super::connection::Connection;
use super::load::TableData;
use super::schema::qualified;
use super::statements::open_session;
use super::url::ConnectOptions;
use crate::error::{Context as _, Error, Result};

/// Objects before the data from which on only tables with rows are analysed.
const MANY_OBJECTS: usize = 2_000;

/// Tables in one ANALYZE.
const BATCH: usize = 100;

/// Collects statistics. Returns the tables that cannot be analysed, with the reason (a foreign child whose server is away): the
/// rest of the database has statistics all the same.
pub(super) async fn analyze(
    into: &ConnectOptions,
    tables: &[TableData],
    objects: usize,
    parallel: usize,
) -> Result<Vec<(String, Error)>> {
    let mut connection = open_session(into).await?;
    if objects.max(tables.len()) < MANY_OBJECTS {
        let Err(whole) = connection.execute("ANALYZE").await else {
            connection.close().await;
            return Ok(Vec::new());
        };
        if connection.is_dead() {
            return Err(whole);
        }
        let names = relations(&mut connection, "c.relkind IN ('r', 'p', 'm')").await?;
        let mut failed = Vec::new();
        analyze_each(&mut connection, &names, &mut failed).await?;
        connection.close().await;
        return Ok(failed);
    }
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
    names.extend(filled.map(TableData::qualified).filter(|n| !partitions.contains(n)));
    let queue = Mutex::new(names.chunks(BATCH).collect::<VecDeque<_>>());
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
    let workers = parallel.clamp(1, names.len().div_ceil(BATCH).max(1));
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
