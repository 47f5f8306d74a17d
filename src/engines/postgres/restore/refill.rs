//! Rows alone: living tables are emptied and filled again, while foreign keys and triggers are off.
//!
//! TRUNCATE refuses a table that another one refers to, so such a table is emptied by DELETE, which without triggers reaches no
//! other table. What was off is proved afterwards: every foreign key from or to the tables is read through before the commit.

use super::fk_order::by_foreign_keys;
use super::load::TableData;
use super::replace::{names_of, version};
use super::statements::FailedItem;
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::literal;
use crate::engines::postgres::sql::template::{for_version, with_names};

const TRIGGERS: &str = include_str!("sql/triggers_to_silence.sql");
const REFERRING: &str = include_str!("sql/referring_keys.sql");
const TO_PROVE: &str = include_str!("sql/foreign_keys_to_prove.sql");

/// Tables that are filled again.
#[derive(Debug, Default)]
pub(crate) struct Refill {
    /// Quoted names.
    names: Vec<String>,
    /// Whether foreign keys and ordinary triggers are off for the whole session.
    quiet: bool,
    /// What turns single triggers on again.
    triggers: Vec<String>,
}

impl Refill {
    /// Turns foreign keys and triggers off, and makes room: empties the tables, or refuses those that are not empty.
    pub(crate) async fn prepare(connection: &mut Connection, tables: &mut Vec<TableData>, clean: bool) -> Result<Self> {
        // Foreign keys and triggers saw these rows when they were first written.
        let quiet =
            "SAVEPOINT \"wirevault\"; SET LOCAL session_replication_role = replica; RELEASE SAVEPOINT \"wirevault\"";
        let quiet = connection.execute(quiet).await.is_ok();
        if !quiet {
            connection.execute("ROLLBACK TO SAVEPOINT \"wirevault\"").await?;
            by_foreign_keys(connection, tables).await?;
        }
        // An extension's table holds rows of its own.
        let own = tables.iter().filter(|t| t.pieces.is_none() && t.filter.is_none());
        let mut refill = Self {
            names: own.map(TableData::qualified).collect(),
            quiet,
            triggers: Vec::new(),
        };
        refill.refuse_absent(connection).await?;
        refill.silence(connection).await?;
        if clean {
            refill.empty(connection).await?;
        }
        refill.refuse_rows(connection, clean).await?;
        Ok(refill)
    }

    /// Returns the tables' OIDs as an array.
    fn list(&self) -> String {
        let names: Vec<String> = self
            .names
            .iter()
            .map(|n| format!("pg_catalog.to_regclass({})", literal(n)))
            .collect();
        format!("ARRAY[{}]::pg_catalog.oid[]", names.join(", "))
    }

    async fn refuse_absent(&self, connection: &mut Connection) -> Result<()> {
        for names in self.names.chunks(1000) {
            let names: Vec<String> = names.iter().map(|n| literal(n)).collect();
            let sql = format!(
                "SELECT u.name AS name FROM pg_catalog.unnest(ARRAY[{}]) u(name) WHERE pg_catalog.to_regclass(u.name) IS NULL",
                names.join(", ")
            );
            if let Some(name) = names_of(connection, &sql).await?.first() {
                return Err(Error::new(ErrorKind::NotFound, format!("table {name} does not exist"))
                    .with_hint("The table must exist with its columns; --data-only creates nothing."));
            }
        }
        Ok(())
    }

    /// Turns off the triggers that would still run. Without the right to be quiet that is every trigger of a user.
    async fn silence(&mut self, connection: &mut Connection) -> Result<()> {
        let states = if self.quiet { "'A', 'R'" } else { "'O', 'A'" };
        let sql = with_names(TRIGGERS, &[("states", states), ("oids", &self.list())]);
        let found = connection.query(&sql).await?;
        for row in found.named() {
            let (table, trigger) = (row.text("table_name")?, row.text("name")?);
            let state = row.text("state")?;
            connection
                .execute(&format!("ALTER TABLE ONLY {table} DISABLE TRIGGER {trigger}"))
                .await
                .with_context(|| format!("turn trigger {trigger} of {table} off while rows are loaded"))?;
            self.triggers
                .push(format!("ALTER TABLE ONLY {table} ENABLE {state}TRIGGER {trigger}"));
        }
        Ok(())
    }

    async fn empty(&self, connection: &mut Connection) -> Result<()> {
        if self.names.is_empty() {
            return Ok(());
        }
        let sql = with_names(REFERRING, &[("oids", &self.list())]);
        let referring = connection.query(&sql).await?;
        if let Some(row) = referring.named().next()
            && !self.quiet
        {
            let (table, key) = (row.text("table_name")?, row.text("name")?);
            let other = row.text("referring")?;
            return Err(Error::new(
                ErrorKind::Denied,
                format!("unable to empty table {table}: foreign key \"{key}\" of table {other} refers to it"),
            )
            .with_hint("Choose that table too, or restore as a role that may set session_replication_role."));
        }
        if referring.rows.is_empty() {
            // One statement, so that tables may refer to each other.
            connection
                .execute(&format!("TRUNCATE TABLE ONLY {}", self.names.join(", ONLY ")))
                .await
                .context("empty the tables")?;
            return Ok(());
        }
        for name in &self.names {
            connection
                .execute(&format!("DELETE FROM ONLY {name}"))
                .await
                .with_context(|| format!("empty table {name}"))?;
        }
        Ok(())
    }

    async fn refuse_rows(&self, connection: &mut Connection, clean: bool) -> Result<()> {
        for name in &self.names {
            let found = connection
                .query(&format!("SELECT EXISTS (SELECT FROM ONLY {name})"))
                .await?;
            if found.scalar() != Some("t") {
                continue;
            }
            if clean {
                return Err(Error::new(
                    ErrorKind::PreconditionFailed,
                    format!("table {name} could not be emptied: a rule or row security prevents it"),
                ));
            }
            return Err(
                Error::new(ErrorKind::AlreadyExists, format!("table {name} is not empty"))
                    .with_hint("Add --clean to replace its rows in one transaction."),
            );
        }
        Ok(())
    }

    /// Turns triggers on again and proves the foreign keys. Returns those that cannot be proved.
    pub(crate) async fn finish(&self, connection: &mut Connection) -> Result<Vec<FailedItem>> {
        if !self.quiet {
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
        }
        for sql in &self.triggers {
            connection.execute(sql).await.context("turn the triggers on again")?;
        }
        if !self.quiet || self.names.is_empty() {
            return Ok(Vec::new());
        }
        let version = version(connection).await?;
        let sql = with_names(&for_version(TO_PROVE, version), &[("oids", &self.list())]);
        let mut unproved = Vec::new();
        let found = connection.query(&sql).await.context("read the foreign keys")?;
        for row in found.named() {
            let (table, key) = (row.text("table_name")?, row.text("name")?);
            let other = row.text("referenced")?;
            if row.flag("has_period")? {
                unproved.push(FailedItem {
                    excuse: None,
                    kind: "FK CONSTRAINT".to_owned(),
                    name: format!("{table} {key}"),
                    error: "a foreign key with PERIOD is not checked after rows were loaded past it".to_owned(),
                    advice: "Drop it and add it again: the server then checks every row.".to_owned(),
                });
                continue;
            }
            // As ADD FOREIGN KEY does: a row that another session is deleting is not gone yet, and its delete saw none of ours.
            let mut lock = format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE");
            if other != table {
                lock = format!("{lock}; LOCK TABLE {other} IN SHARE ROW EXCLUSIVE MODE");
            }
            connection
                .execute(&lock)
                .await
                .with_context(|| format!("lock the tables of foreign key {key} of table {table}"))?;
            let (only, other_only) = (row.text("only_word")?, row.text("referenced_only_word")?);
            let (present, equal) = (row.text("present")?, row.text("matching")?);
            let sql = format!(
                "SELECT EXISTS (SELECT FROM {only}{table} f WHERE {present} AND NOT EXISTS (SELECT FROM {other_only}{other} r WHERE {equal}))"
            );
            let found = connection
                .query(&sql)
                .await
                .with_context(|| format!("check foreign key {key} of table {table}"))?;
            if found.scalar() == Some("t") {
                return Err(Error::new(
                    ErrorKind::PreconditionFailed,
                    format!("with the backup's rows, foreign key {key} of table {table} would refer to rows of {other} that are not there"),
                )
                .with_hint("Restore both tables (--table for each), or restore next to the existing tables (without \
                            --into) and copy what you need."));
            }
        }
        Ok(unproved)
    }
}
