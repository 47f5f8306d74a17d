//! Restores a part of a backup into a database that is in use: one connection, one transaction.
//!
//! Whatever fails before the commit rolls all of it back, so the database is then as it was. Statements that may fail
//! without harm (an index, a foreign key to a table that is not here) run behind a savepoint each, and are reported.

use super::compare::compare_within;
use super::connection::Connection;
use super::keep_going::{costs_only_its_table, failed_rows, ways_on};
use super::load::{TableData, load_within};
use super::restore::{PostgresRestore, RestoreReport, is_of_database};
use super::schema::{literal, qualified, quote_ident};
use super::selection::Chosen;
use super::server_error::sqlstate;
use super::sql_text::Contents;
use super::statements::{open_session, run_on};
use crate::error::{Context as _, Error, ErrorKind, Result};

impl PostgresRestore {
    /// Restores what was chosen into the target database itself.
    pub(super) async fn in_place(&self, contents: &Contents, chosen: &Chosen<'_>) -> Result<RestoreReport> {
        let mut connection = open_session(&self.target).await?;
        connection
            .execute("BEGIN")
            .await
            .context("begin the restore's transaction")?;
        let done = self.in_transaction(&mut connection, contents, chosen).await;
        match done {
            Ok(mut report) => {
                self.analyze_chosen(&mut connection, chosen).await;
                connection.close().await;
                report.next = self.ways_on(chosen);
                Ok(report)
            }
            Err(error) => {
                if !connection.is_dead() {
                    // Closing would do the same.
                    let _ = connection.execute("ROLLBACK").await;
                }
                connection.close().await;
                Err(error.context(format!(
                    "restore into \"{}\", which stays as it was",
                    self.target.location()
                )))
            }
        }
    }

    async fn in_transaction(
        &self,
        connection: &mut Connection,
        contents: &Contents,
        chosen: &Chosen<'_>,
    ) -> Result<RestoreReport> {
        let mut report = RestoreReport::default();
        let data_only = self.options.selection.data_only;
        if data_only {
            self.make_room(connection, chosen).await?;
        } else {
            self.make_place(connection, contents, chosen).await?;
        }
        self.reporter.phase(&self.task, "schema");
        report.failed = run_on(connection, contents, &chosen.pre_data).await?;
        if let Some(table) = report
            .failed
            .iter()
            .find(|f| f.kind == "TABLE" && !self.options.keep_going)
        {
            return Err(Error::new(
                ErrorKind::Other,
                format!("unable to create table {}: {}", table.name, table.error),
            ));
        }
        report
            .failed
            .extend(run_on(connection, contents, &chosen.large_objects).await?);
        self.reporter.phase(&self.task, "data");
        let total = chosen.tables.iter().map(|t| t.record.bytes).sum();
        self.reporter.begin(&self.task, Some(total));
        let mut loaded = Vec::new();
        for table in &chosen.tables {
            let moved = self.moved(table);
            let rows = load_within(connection, contents, &moved, &self.reporter, &self.task).await;
            let rows = match rows {
                Err(error) if self.options.keep_going && costs_only_its_table(&error, connection) => {
                    report.failed.push(failed_rows(&moved, &error, 0));
                    continue;
                }
                rows => rows.map_err(|e| {
                    let hint = "The table must exist with these columns; --data-only creates nothing.";
                    let missing = data_only && sqlstate(&e) == Some("42P01");
                    if missing {
                        e.with_hint_instead(hint)
                    } else {
                        ways_on(e, &report.failed)
                    }
                })?,
            };
            loaded.push(moved);
            report.rows += rows;
            report.bytes += table.record.bytes;
            report.tables += 1;
        }
        if self.options.verify_rows {
            self.reporter.phase(&self.task, "compare rows");
            compare_within(connection, &loaded).await?;
            report.rows_verified = loaded.len() == chosen.tables.len();
        }
        self.reporter.phase(&self.task, "indexes and constraints");
        // The database keeps what belongs to itself.
        let mut post_data = chosen.post_data.clone();
        post_data.retain(|l| !is_of_database(l));
        report
            .failed
            .extend(run_on(connection, contents, &chosen.sequences).await?);
        report.failed.extend(run_on(connection, contents, &post_data).await?);
        connection.execute("COMMIT").await.context("commit")?;
        report.database.clone_from(&self.target.database);
        self.note_failed(&report.failed);
        Ok(report)
    }

    /// Makes schemas, and takes away the tables that are to be replaced.
    async fn make_place(&self, connection: &mut Connection, contents: &Contents, chosen: &Chosen<'_>) -> Result<()> {
        if let Some(schema) = &self.options.beside {
            self.refuse_inheritance(contents, chosen).await?;
            return connection
                .execute(&format!("CREATE SCHEMA {}", quote_ident(schema)))
                .await
                .with_context(|| format!("create schema \"{schema}\""));
        }
        if self.options.selection.tables.is_empty() {
            return Ok(());
        }
        for schema in schemas(chosen) {
            connection
                .execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", quote_ident(&schema)))
                .await?;
        }
        for line in chosen.pre_data.iter().filter(|l| l.item.kind == "TABLE") {
            let name = qualified(line.item.schema.as_deref().unwrap_or_default(), &line.item.name);
            let exists = connection
                .query(&format!("SELECT pg_catalog.to_regclass({})", literal(&name)))
                .await?;
            if exists.scalar().is_none() {
                continue;
            }
            if !self.options.clean {
                return Err(Error::new(ErrorKind::AlreadyExists, format!("table {name} exists"))
                    .with_hint("Add --clean to replace it in one transaction, or leave --into out to get it beside."));
            }
            connection
                .execute(&format!("DROP TABLE {name}"))
                .await
                .map_err(|e| match sqlstate(&e) {
                    Some("2BP01") => e.with_hint(
                        "Other objects depend on the table: restore it beside (without --into) and copy its rows, or use --data-only --clean.",
                    ),
                    _ => e,
                })
                .with_context(|| format!("drop table {name}"))?;
        }
        Ok(())
    }

    /// A child that is restored beside would show its rows in its living parent.
    async fn refuse_inheritance(&self, contents: &Contents, chosen: &Chosen<'_>) -> Result<()> {
        let mut texts = contents.texts();
        for line in chosen.pre_data.iter().filter(|l| l.item.kind == "TABLE") {
            let sql = texts.get(line).await?;
            if sql.contains("\nINHERITS (") || sql.contains("\nPARTITION BY ") {
                return Err(Error::unsupported(format!(
                    "table \"{}\" has parents or partitions: it cannot stand beside",
                    line.item.name
                ))
                .with_hint("Restore it into another database with --into."));
            }
        }
        Ok(())
    }

    /// Empties the tables whose rows are to come back, or refuses those that are not empty.
    async fn make_room(&self, connection: &mut Connection, chosen: &Chosen<'_>) -> Result<()> {
        // Foreign keys and triggers saw these rows when they were first written.
        let quiet =
            "SAVEPOINT \"wirevault\"; SET LOCAL session_replication_role = replica; RELEASE SAVEPOINT \"wirevault\"";
        if connection.execute(quiet).await.is_err() {
            connection.execute("ROLLBACK TO SAVEPOINT \"wirevault\"").await?;
        }
        let names: Vec<String> = chosen
            .tables
            .iter()
            // An extension's table holds rows of its own.
            .filter(|t| t.pieces.is_none() && t.filter.is_none())
            .map(TableData::qualified)
            .collect();
        if self.options.clean {
            for names in names.chunks(1000) {
                connection
                    .execute(&format!("TRUNCATE TABLE ONLY {}", names.join(", ONLY ")))
                    .await
                    .context("empty the tables")?;
            }
            return Ok(());
        }
        for name in &names {
            let found = connection
                .query(&format!("SELECT EXISTS (SELECT FROM ONLY {name})"))
                .await?;
            if found.scalar() == Some("t") {
                return Err(
                    Error::new(ErrorKind::AlreadyExists, format!("table {name} is not empty"))
                        .with_hint("Add --clean to replace its rows in one transaction."),
                );
            }
        }
        Ok(())
    }

    /// Returns the table as it is called at the target.
    pub(super) fn moved(&self, table: &TableData) -> TableData {
        let mut table = table.clone();
        if let Some(schema) = self.options.beside.as_ref().filter(|_| table.pieces.is_none()) {
            table.schema.clone_from(schema);
        }
        table
    }

    async fn analyze_chosen(&self, connection: &mut Connection, chosen: &Chosen<'_>) {
        self.reporter.phase(&self.task, "analyze");
        for table in chosen.tables.iter().filter(|t| t.pieces.is_none()) {
            // The rows are committed: statistics come by themselves later.
            if let Err(error) = connection
                .execute(&format!("ANALYZE {}", self.moved(table).qualified()))
                .await
            {
                tracing::warn!("statistics were not collected: {}", error.chain());
            }
        }
    }

    /// Returns what a person does next with tables that stand beside.
    fn ways_on(&self, chosen: &Chosen<'_>) -> Vec<String> {
        let Some(schema) = &self.options.beside else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        for table in &chosen.tables {
            let (old, new) = (table.qualified(), qualified(schema, &table.name));
            let kept = format!("{}_before", table.name.chars().take(40).collect::<String>());
            lines.push(format!(
                "replace: BEGIN; ALTER TABLE {old} RENAME TO {}; ALTER TABLE {new} SET SCHEMA {}; COMMIT;",
                quote_ident(&kept),
                quote_ident(&table.schema)
            ));
            lines.push(format!(
                "or copy missing rows: INSERT INTO {old} SELECT * FROM {new} ON CONFLICT DO NOTHING;"
            ));
        }
        lines.push(format!("afterwards: DROP SCHEMA {} CASCADE;", quote_ident(schema)));
        lines
    }
}

/// Returns the schemas of the chosen relations.
pub(super) fn schemas(chosen: &Chosen<'_>) -> Vec<String> {
    let mut schemas: Vec<String> = chosen.relations.iter().map(|(schema, _)| schema.clone()).collect();
    schemas.sort();
    schemas.dedup();
    schemas
}
