//! Locks every table before the snapshot is taken.
//!
//! TRUNCATE and the rewriting forms of ALTER TABLE leave nothing for a snapshot that is older than they are: a snapshot that is
//! taken first, and waits for its locks then, finds an empty table where there never was one. So the leader's transaction locks
//! first and has its snapshot from its first query after that (LOCK TABLE takes none). Which tables there are is asked by another
//! session, the scout, whose every query sees the newest catalogs; names that are gone or stand for another table by the time
//! of the lock are asked for again. What matters in the end is the OID of what is locked, as `pg_locks` has it.
//!
//! <https://www.postgresql.org/docs/current/mvcc-caveats.html>, <https://www.postgresql.org/docs/current/sql-lock.html>

use std::collections::HashSet;

use tokio_postgres::Client;

use crate::base::error::{Context as _, Error, Result};
use crate::base::exact;
use crate::engines::postgres::session::client::client_error;
use crate::engines::postgres::session::connection::{Connection, QueryResult};
use crate::engines::postgres::sql::quote::qualified;
use crate::engines::postgres::sql::template::with_names;
use crate::engines::postgres::wire::raw_text::RawText;
use crate::engines::postgres::wire::server_error::sqlstate;
use crate::engines::postgres::wire::text_row::TextRow;

const HELD: &str = include_str!("sql/held_tables.sql");
const TABLES: &str = include_str!("sql/tables_to_lock.sql");
const FINGERPRINT: &str = include_str!("sql/tables_fingerprint.sql");

/// Tables in one look. A few hundred looks are enough for every database that a server can lock.
const LOOK_TABLES: usize = 20_000;

/// Looks for tables that are not locked yet. Where new ones come faster than that, the last are locked behind the snapshot.
const LOOKS: u32 = 200;

/// Looks that find nothing but what could not be locked before, until the snapshot is taken without it.
const IDLE_LOOKS: u32 = 10;

/// Bytes of SQL in one `LOCK TABLE`.
const BATCH_BYTES: usize = 100_000;

/// A leader's transaction that has no snapshot yet, and the session that looks around for it.
#[derive(Debug)]
pub(crate) struct Locking<'a> {
    /// The leader.
    pub(crate) client: &'a Client,
    /// Its process on the server.
    pub(crate) process_id: i32,
    /// The session that sees what is there now; none where the server has room for one session only.
    pub(crate) scout: Option<&'a mut Connection>,
    /// Condition on the relations `c` that are wanted.
    pub(crate) wanted: &'a str,
}

impl Locking<'_> {
    /// Locks every ordinary and partitioned table that the role may read; returns the OIDs of what is locked.
    ///
    /// Without a scout those that were seen before are locked, and what that came to is asked after the snapshot
    /// ([`Self::own_locks`]).
    pub(crate) async fn lock_all(&mut self, seen: &[Table]) -> Result<Option<HashSet<u32>>> {
        if self.scout.is_none() {
            self.lock(seen).await?;
            return Ok(None);
        }
        let (mut before, mut idle) = (HashSet::new(), 0);
        for _ in 0..LOOKS {
            let open = self.open().await?;
            if open.is_empty() {
                break;
            }
            let oids: HashSet<u32> = open.iter().map(|t| t.oid).collect();
            idle = if oids.is_subset(&before) { idle + 1 } else { 0 };
            if idle == IDLE_LOOKS {
                break;
            }
            before = oids;
            self.lock(&open).await?;
        }
        let found = self.ask(&held(self.process_id)).await?;
        let oids = found.named().filter_map(|row| row.number("relation").transpose());
        Ok(Some(oids.collect::<Result<HashSet<u32>>>()?))
    }

    /// Returns the OIDs of what the leader has locked, by its own view: it has a snapshot by now.
    pub(crate) async fn own_locks(&self) -> Result<HashSet<u32>> {
        let rows = self
            .client
            .query(&held(self.process_id), &[])
            .await
            .map_err(client_error)?;
        rows.iter()
            .map(|row| row.try_get("relation").map_err(client_error))
            .collect()
    }

    /// Asks the scout.
    async fn ask(&mut self, sql: &str) -> Result<QueryResult> {
        match &mut self.scout {
            Some(scout) => scout.query(sql).await.context("inspect tables"),
            None => Ok(QueryResult::default()),
        }
    }

    /// Returns tables that are there now and not locked.
    async fn open(&mut self) -> Result<Vec<Table>> {
        let found = self.ask(&tables_sql(self.process_id, self.wanted, LOOK_TABLES)).await?;
        found.named().map(Table::from_row).collect()
    }

    /// Locks what it can. A name that is gone leaves its table to the next look; a wait that lasts too long is an error.
    async fn lock(&self, tables: &[Table]) -> Result<()> {
        let mut waiting: Vec<&[Table]> = batches(tables);
        waiting.reverse();
        while let Some(batch) = waiting.pop() {
            let names: Vec<String> = batch.iter().map(|t| format!("ONLY {}", t.name)).collect();
            let sql = format!(
                "SAVEPOINT wirevault; LOCK TABLE {} IN ACCESS SHARE MODE; RELEASE SAVEPOINT wirevault",
                names.join(", ")
            );
            let Err(error) = self.client.batch_execute(&sql).await else {
                continue;
            };
            let error = client_error(error);
            if !is_gone(&error) {
                return Err(error.context("lock the tables (LOCK TABLE)"));
            }
            let back = "ROLLBACK TO SAVEPOINT wirevault; RELEASE SAVEPOINT wirevault";
            self.client.batch_execute(back).await.map_err(client_error)?;
            // One that comes and goes must not cost the others their locks.
            if batch.len() > 1 {
                let (first, second) = batch.split_at(batch.len() / 2);
                waiting.extend([second, first]);
            }
        }
        Ok(())
    }

    /// Returns whether tables that were locked behind the snapshot are as the snapshot has them. Without a scout nobody knows.
    ///
    /// The leader's snapshot is compared with the newest catalogs: whatever changes a table writes these rows anew.
    pub(crate) async fn stand_still(&mut self, oids: &[u32]) -> Result<bool> {
        let Some(scout) = &mut self.scout else {
            return Ok(oids.is_empty());
        };
        for oids in oids.chunks(LOOK_TABLES) {
            let sql = fingerprint_sql(oids);
            let mine = self.client.query_one(&sql, &[]).await.map_err(client_error)?;
            let mine: Option<String> = mine.try_get("digest").map_err(client_error)?;
            let newest = scout.query(&sql).await.context("inspect tables again")?;
            if newest.scalar() != mine.as_deref() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Returns the query of tables that are there now and not locked by the session.
fn tables_sql(process_id: i32, wanted: &str, limit: usize) -> String {
    let (held, limit) = (held(process_id), limit.to_string());
    let names = [("held", held.as_str()), ("wanted", wanted), ("limit", &limit)];
    with_names(TABLES, &names)
}

/// Returns the query of what a session has locked against changes.
fn held(process_id: i32) -> String {
    with_names(HELD, &[("process", &process_id.to_string())])
}

/// Looks for tables outside of any transaction.
pub(crate) async fn tables(client: &Client, wanted: &str) -> Result<Vec<Table>> {
    let sql = tables_sql(0, wanted, usize::MAX >> 1);
    let rows = client.query(&sql, &[]).await.map_err(client_error)?;
    let table = |row: &tokio_postgres::Row| {
        let (schema, name): (RawText, RawText) = (
            row.try_get("schema").map_err(client_error)?,
            row.try_get("name").map_err(client_error)?,
        );
        Ok(Table {
            oid: row.try_get("oid").map_err(client_error)?,
            name: qualified(&schema.0, &name.0),
        })
    };
    rows.iter().map(table).collect()
}

/// A table by its name of now.
#[derive(Debug)]
pub(crate) struct Table {
    oid: u32,
    /// Quoted, with its schema.
    name: String,
}

impl Table {
    /// Takes a row of `tables_to_lock.sql`.
    fn from_row(row: TextRow<'_>) -> Result<Self> {
        let oid = row.number("oid")?;
        Ok(Self {
            oid: oid.ok_or_else(|| Error::corrupt("a table has no OID"))?,
            name: qualified(row.text("schema")?, row.text("name")?),
        })
    }
}

/// Cuts tables into runs that one statement names.
fn batches(tables: &[Table]) -> Vec<&[Table]> {
    let (mut found, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, table) in tables.iter().enumerate() {
        bytes += table.name.len() + 8;
        if bytes >= BATCH_BYTES || at + 1 == tables.len() {
            found.push(exact::part(tables, start..=at, "the run ends with this table"));
            (start, bytes) = (at + 1, 0);
        }
    }
    found
}

/// Returns whether a name was not found, or names something that cannot be locked.
fn is_gone(error: &Error) -> bool {
    matches!(sqlstate(error), Some("42P01" | "3F000" | "42809"))
}

/// Returns the query of a text that changes with the tables.
fn fingerprint_sql(oids: &[u32]) -> String {
    let oids: Vec<String> = oids.iter().map(u32::to_string).collect();
    with_names(FINGERPRINT, &[("oids", &oids.join(","))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_in_one_batch() {
        let table = |oid| Table {
            oid,
            name: "x".repeat(30_000),
        };
        let tables: Vec<Table> = (1..=10).map(table).collect();
        let cut = batches(&tables);
        assert!(cut.len() > 1);
        let oids: Vec<u32> = cut.iter().copied().flatten().map(|t| t.oid).collect();
        assert_eq!(oids, (1..=10).collect::<Vec<u32>>());
        assert!(batches(&[]).is_empty());
    }
}
