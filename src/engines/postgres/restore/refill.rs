//! Rows alone: living tables are emptied and filled again, while foreign keys and triggers are off.
//!
//! TRUNCATE refuses a table that another one refers to, so such a table is emptied by DELETE, which without triggers reaches no
//! other table. What was off is proved afterwards: every foreign key from or to the tables is read through before the commit.

use super::fk_order::by_foreign_keys;
use super::load::TableData;
use super::replace::{rows, version};
use super::statements::FailedItem;
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::literal;

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
                "SELECT u.name FROM pg_catalog.unnest(ARRAY[{}]) u(name) WHERE pg_catalog.to_regclass(u.name) IS NULL",
                names.join(", ")
            );
            if let Some(name) = rows(connection, &sql).await?.first().and_then(|r| r.first()) {
                return Err(Error::new(ErrorKind::NotFound, format!("table {name} does not exist"))
                    .with_hint("The table must exist with its columns; --data-only creates nothing."));
            }
        }
        Ok(())
    }

    /// Turns off the triggers that would still run. Without the right to be quiet that is every trigger of a user.
    async fn silence(&mut self, connection: &mut Connection) -> Result<()> {
        let states = if self.quiet { "'A', 'R'" } else { "'O', 'A'" };
        let sql = format!(
            "SELECT t.tgrelid::pg_catalog.regclass, pg_catalog.quote_ident(t.tgname), \
             CASE t.tgenabled WHEN 'A' THEN 'ALWAYS ' WHEN 'R' THEN 'REPLICA ' ELSE '' END FROM pg_catalog.pg_trigger t \
             WHERE NOT t.tgisinternal AND t.tgenabled IN ({states}) AND t.tgrelid = ANY ({}) ORDER BY 1, 2",
            self.list()
        );
        for row in rows(connection, &sql).await? {
            let [table, trigger, state] = row.as_slice() else {
                continue;
            };
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
        let sql = format!(
            "SELECT DISTINCT k.confrelid::pg_catalog.regclass, k.conname, k.conrelid::pg_catalog.regclass FROM pg_catalog.pg_constraint k \
             WHERE k.contype = 'f' AND k.confrelid = ANY ({0}) AND NOT k.conrelid = ANY ({0}) ORDER BY 1, 2",
            self.list()
        );
        let referring = rows(connection, &sql).await?;
        if let Some([table, key, other]) = referring.first().map(Vec::as_slice)
            && !self.quiet
        {
            return Err(Error::new(
                ErrorKind::Denied,
                format!("unable to empty table {table}: foreign key \"{key}\" of table {other} refers to it"),
            )
            .with_hint("Choose that table too, or restore as a role that may set session_replication_role."));
        }
        if referring.is_empty() {
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
        let (enforced, period) = if version >= 180_000 {
            ("k.conenforced", "k.conperiod")
        } else {
            ("true", "false")
        };
        // Of a partitioned key the topmost one is read, which goes through all partitions.
        let sql = format!(
            "WITH RECURSIVE up(oid, parent) AS (SELECT k.oid, k.conparentid FROM pg_catalog.pg_constraint k, LATERAL (SELECT {} AS oids) n \
             WHERE k.contype = 'f' AND (k.conrelid = ANY (n.oids) OR k.confrelid = ANY (n.oids)) \
             UNION SELECT k.oid, k.conparentid FROM up JOIN pg_catalog.pg_constraint k ON k.oid = up.parent) \
             SELECT k.conrelid::pg_catalog.regclass, pg_catalog.quote_ident(k.conname), k.confrelid::pg_catalog.regclass, {period}, \
             CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END, CASE r.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END, \
             (SELECT pg_catalog.string_agg('f.' || pg_catalog.quote_ident(a.attname) || ' IS NOT NULL', ' AND ') FROM pg_catalog.unnest(k.conkey) u(n) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n), \
             (SELECT pg_catalog.string_agg(pg_catalog.format('r.%I OPERATOR(%I.%s) f.%I', b.attname, n.nspname, o.oprname, a.attname), ' AND ') \
             FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey), pg_catalog.unnest(k.conpfeqop)) u(f, r, op) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.f JOIN pg_catalog.pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.r \
             JOIN pg_catalog.pg_operator o ON o.oid = u.op JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace) \
             FROM up JOIN pg_catalog.pg_constraint k USING (oid) JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_class r ON r.oid = k.confrelid \
             WHERE up.parent = 0 AND k.convalidated AND {enforced} ORDER BY 1, 2",
            self.list()
        );
        let mut unproved = Vec::new();
        for row in rows(connection, &sql).await.context("read the foreign keys")? {
            let [table, key, other, period, only, other_only, present, equal] = row.as_slice() else {
                continue;
            };
            if period == "t" {
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
