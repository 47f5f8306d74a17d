//! Restores a part of a backup into a database that is in use: one connection, one transaction.
//!
//! Whatever fails before the commit rolls all of it back, so the database is then as it was. Statements that may fail
//! without harm (an index, a foreign key to a table that is not here) run behind a savepoint each, and are reported.

use crate::engines::postgres::sql::rewrite::publication_of;
use std::collections::{HashMap, HashSet};

use super::compare::compare_within;
use super::fk_order::by_foreign_keys;
use super::keep_going::{costs_only_its_table, failed_rows, ways_on};
use super::load::{TableData, load_within};
use super::merge_sql::{drop_twins, merge};
use super::ownership::{Name, makes_table, name_of};
use super::refill::Refill;
use super::replace::{Replaced, names_of, present};
use super::replaced_views::plain_rights;
use super::selection::Chosen;
use super::statements::{FailedItem, run_needed, run_on};
use super::{PostgresRestore, RestoreReport, is_of_database};
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::base::report::Note;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::sessions::open_session;
use crate::engines::postgres::sql::quote::{literal, qualified, quote_ident};
use crate::engines::postgres::stored::streams::TocEntry;
use crate::engines::postgres::stored::text::Contents;
use crate::engines::postgres::wire::server_error::sqlstate;

const MEMBERS: &str = include_str!("sql/publication_members.sql");

impl PostgresRestore {
    /// Restores what was chosen into the target database itself.
    pub(crate) async fn in_place(&self, contents: &Contents, mut chosen: Chosen<'_>) -> Result<RestoreReport> {
        let mut connection = open_session(&self.target).await?;
        connection
            .execute("BEGIN")
            .await
            .context("begin the restore's transaction")?;
        let done = self.in_transaction(&mut connection, contents, &mut chosen).await;
        match done {
            Ok(mut report) => {
                self.analyze_chosen(&mut connection, &chosen).await;
                report.next = self.next_steps(&mut connection, &chosen).await;
                connection.close().await;
                Ok(report)
            }
            Err(error) => {
                if !connection.is_dead() {
                    // Closing would do the same.
                    let _ = connection.execute("ROLLBACK").await;
                }
                connection.close().await;
                Err(error.context(format!(
                    "restore into \"{}\", which was not changed",
                    self.target.location()
                )))
            }
        }
    }

    async fn in_transaction(
        &self,
        connection: &mut Connection,
        contents: &Contents,
        chosen: &mut Chosen<'_>,
    ) -> Result<RestoreReport> {
        let mut report = RestoreReport::default();
        let data_only = self.options.selection.data_only;
        let (mut refill, mut replaced) = (None, Replaced::default());
        if data_only {
            refill = Some(Refill::prepare(connection, &mut chosen.tables, self.options.clean).await?);
        } else {
            leave_present(connection, chosen).await?;
            replaced = self.make_place(connection, contents, chosen).await?;
        }
        self.reporter.phase(&self.task, "schema");
        let (failed, there) = run_needed(connection, contents, &chosen.pre_data, &chosen.needed).await?;
        report.failed = failed;
        // Rights to what was there already stay what they are.
        let of_there = |l: &TocEntry| l.item.kind == "ACL" && l.item.depends_on.iter().any(|id| there.contains(id));
        chosen.post_data.retain(|l| !of_there(l));
        let single = !self.options.selection.tables.is_empty();
        let of_table = |kind: &str| kind.starts_with("TABLE") || kind == "FOREIGN TABLE";
        let is_table = |f: &&FailedItem| f.kind == "TABLE" || (single && of_table(&f.kind));
        if let Some(table) = report.failed.iter().find(is_table).filter(|_| !self.keeps_going()) {
            return Err(Error::new(
                ErrorKind::Other,
                format!(
                    "unable to create {} {}: {}",
                    table.kind.to_lowercase(),
                    table.name,
                    table.error
                ),
            )
            .with_hint("If a type, function or parent is missing here, --with-dependencies restores it too."));
        }
        if !data_only {
            plain_rights(connection, &self.made(chosen)).await?;
        }
        report
            .failed
            .extend(run_on(connection, contents, &chosen.large_objects).await?);
        self.rows(connection, contents, chosen, &mut report).await?;
        self.reporter.phase(&self.task, "indexes and constraints");
        report
            .failed
            .extend(run_on(connection, contents, &chosen.sequences).await?);
        // The database keeps what belongs to itself. A partition has its parent's triggers when it is attached; event triggers
        // would watch all that follows.
        let late = |l: &TocEntry| matches!(l.item.kind.as_str(), "TRIGGER STATE" | "EVENT TRIGGER");
        let own = chosen.post_data.iter().copied().filter(|l| !is_of_database(l));
        let (late, post_data): (Vec<&TocEntry>, Vec<&TocEntry>) = own.partition(|l| late(l));
        report.failed.extend(run_on(connection, contents, &post_data).await?);
        if let Some(refill) = refill {
            report.failed.extend(refill.finish(connection).await?);
        }
        if self.options.beside.is_none() && !data_only {
            self.attach(connection, contents, chosen, &replaced).await?;
            replaced.make_again(connection).await?;
            report.failed.extend(publish(connection, contents, chosen).await?);
            report.failed.extend(run_on(connection, contents, &late).await?);
        }
        connection.execute("COMMIT").await.context("commit")?;
        report.database.clone_from(&self.target.database);
        self.tell_left_out(&mut report);
        self.note_failed(&report.failed);
        Ok(report)
    }

    /// Returns whether a table that cannot be made or loaded costs only itself. With `--clean` it would cost its living rows.
    fn keeps_going(&self) -> bool {
        self.options.keep_going && !(self.options.clean && self.options.selection.is_partial())
    }

    /// Loads the rows of the chosen tables.
    async fn rows(
        &self,
        connection: &mut Connection,
        contents: &Contents,
        chosen: &mut Chosen<'_>,
        report: &mut RestoreReport,
    ) -> Result<()> {
        self.reporter.phase(&self.task, "data");
        let total = chosen.tables.iter().map(|t| t.record.bytes).sum();
        self.reporter.begin(&self.task, Some(total));
        if chosen.tables.iter().any(|t| t.filter.is_some()) {
            by_foreign_keys(connection, &mut chosen.tables).await?;
        }
        let mut loaded = Vec::new();
        for table in &chosen.tables {
            let moved = self.moved(table);
            let rows = load_within(connection, contents, &moved, &self.reporter, &self.task).await;
            let rows = match rows {
                Err(error) if self.keeps_going() && costs_only_its_table(&error, connection) => {
                    report.failed.push(failed_rows(&moved, &error, 0));
                    continue;
                }
                rows => rows.map_err(|e| {
                    let hint = "The table must exist with these columns; --data-only creates nothing.";
                    let missing = self.options.selection.data_only && sqlstate(&e) == Some("42P01");
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
        Ok(())
    }

    /// Makes schemas, and takes away the tables that are to be replaced.
    async fn make_place(
        &self,
        connection: &mut Connection,
        contents: &Contents,
        chosen: &Chosen<'_>,
    ) -> Result<Replaced> {
        if let Some(schema) = &self.options.beside {
            refuse_inheritance(contents, chosen).await?;
            connection
                .execute(&format!("CREATE SCHEMA {}", quote_ident(schema)))
                .await
                .with_context(|| format!("create schema \"{schema}\""))?;
            return Ok(Replaced::default());
        }
        if self.options.selection.tables.is_empty() {
            return Ok(Replaced::default());
        }
        let replaced = self.look_at_replaced(connection, chosen, true).await?;
        replaced.drop(connection).await?;
        let made: HashSet<&str> = chosen
            .pre_data
            .iter()
            .filter(|l| l.item.kind == "SCHEMA")
            .map(|l| l.item.name.as_str())
            .collect();
        for schema in schemas(chosen).iter().filter(|s| !made.contains(s.as_str())) {
            connection
                .execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", quote_ident(schema)))
                .await?;
        }
        Ok(replaced)
    }

    /// Looks at the living tables that the chosen ones replace; without `--clean` there must be none.
    pub(crate) async fn look_at_replaced(
        &self,
        connection: &mut Connection,
        chosen: &Chosen<'_>,
        lock: bool,
    ) -> Result<Replaced> {
        let asked = chosen.pre_data.iter().filter(|l| makes_table(l));
        let asked: Vec<Name> = asked
            .filter(|l| !chosen.needed.contains_key(&l.item.id))
            .map(|l| name_of(l))
            .collect();
        let there = present(connection, &asked).await?;
        if let Some((schema, name)) = there.iter().min().filter(|_| !self.options.clean) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("table {} exists", qualified(schema, name)),
            )
            .with_hint(
                "Add --clean to replace it in one transaction, or omit --into to restore it next to the \
                        existing one.",
            ));
        }
        Replaced::look(connection, chosen, lock).await
    }

    /// Gives chosen partitions their place below tables that were not chosen.
    async fn attach(
        &self,
        connection: &mut Connection,
        contents: &Contents,
        chosen: &Chosen<'_>,
        replaced: &Replaced,
    ) -> Result<()> {
        let mut texts = contents.texts();
        let mut done = HashSet::new();
        for (line, parent) in &chosen.attach {
            let child = name_of(line);
            let label = qualified(&child.0, &child.1);
            let sql = if present(connection, std::slice::from_ref(parent)).await?.is_empty() {
                None
            } else {
                Some(texts.get(line).await?)
            };
            let Some(sql) = sql else {
                let text = format!(
                    "was a partition of {}, which does not exist here: it is restored as a table of its own",
                    qualified(&parent.0, &parent.1)
                );
                self.reporter.note(&self.task, Note::new("not-attached", label, text));
                continue;
            };
            connection
                .execute(&sql)
                .await
                .with_context(|| format!("attach partition {label}"))?;
            done.insert(child);
        }
        // A table that the backup does not know as a partition goes back to where it was.
        for line in chosen.pre_data.iter().filter(|l| makes_table(l)) {
            let name = name_of(line);
            if let Some(sql) = replaced.place(&name).filter(|_| !done.contains(&name)) {
                connection
                    .execute(sql)
                    .await
                    .with_context(|| format!("attach partition {}", qualified(&name.0, &name.1)))?;
            }
        }
        Ok(())
    }

    /// Returns the quoted names of the tables and sequences that are made, as they are called here.
    fn made(&self, chosen: &Chosen<'_>) -> Vec<String> {
        let kinds = ["TABLE", "FOREIGN TABLE", "SEQUENCE", "VIEW", "MATERIALIZED VIEW"];
        let lines = chosen.pre_data.iter().filter(|l| kinds.contains(&l.item.kind.as_str()));
        let named = lines.map(|l| {
            let (schema, name) = name_of(l);
            qualified(self.options.beside.as_ref().unwrap_or(&schema), &name)
        });
        named.collect()
    }

    /// Returns the table as it is called at the target.
    pub(crate) fn moved(&self, table: &TableData) -> TableData {
        let mut table = table.clone();
        if let Some(schema) = self.options.beside.as_ref().filter(|_| table.pieces.is_none()) {
            table.schema.clone_from(schema);
            if let Some((root, _)) = &mut table.root {
                root.clone_from(schema);
            }
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
    async fn next_steps(&self, connection: &mut Connection, chosen: &Chosen<'_>) -> Vec<String> {
        let Some(beside) = &self.options.beside else {
            return Vec::new();
        };
        let mut lines = vec!["replace the existing rows: the same restore with --data-only --clean".to_owned()];
        // Rows of partitions go through the table that was chosen with them.
        let below: HashSet<Name> = chosen
            .pre_data
            .iter()
            .filter(|l| l.item.kind == "TABLE ATTACH")
            .map(|l| name_of(l))
            .collect();
        let tables = chosen.pre_data.iter().filter(|l| makes_table(l)).map(|l| name_of(l));
        for (schema, name) in tables.filter(|name| !below.contains(name)) {
            match merge(connection, (&schema, &name), beside).await {
                Ok(Some(sql)) => lines.push(format!("or copy missing rows: {sql}")),
                Ok(None) => {}
                Err(error) => tracing::warn!("unable to suggest SQL for merging: {}", error.chain()),
            }
        }
        lines.push(format!("afterwards: {}", drop_twins(beside)));
        lines
    }
}

/// A child that is restored beside would show its rows in its living parent.
async fn refuse_inheritance(contents: &Contents, chosen: &Chosen<'_>) -> Result<()> {
    let mut texts = contents.texts();
    for line in chosen.pre_data.iter().filter(|l| makes_table(l)) {
        let sql = texts.get(line).await?;
        if sql.contains("\nINHERITS (") || sql.contains(" INHERIT ") {
            return Err(Error::unsupported(format!(
                "table \"{}\" has parents: it cannot be restored next to the existing one",
                line.item.name
            ))
            .with_hint("Restore it into another database with --into."));
        }
    }
    Ok(())
}

/// Leaves out what is needed and there already: with its rows, values and rights.
async fn leave_present(connection: &mut Connection, chosen: &mut Chosen<'_>) -> Result<()> {
    let relations: HashSet<Name> = chosen.needed.values().flatten().cloned().collect();
    let names: Vec<Name> = relations.into_iter().collect();
    let there = present(connection, &names).await?;
    let needed = &chosen.needed;
    let left = |id: u32| {
        needed
            .get(&id)
            .and_then(Option::as_ref)
            .is_some_and(|of| there.contains(of))
    };
    let sequences = chosen
        .pre_data
        .iter()
        .filter(|l| l.item.kind == "SEQUENCE" && left(l.item.id));
    let sequences: HashSet<Name> = sequences.map(|l| name_of(l)).collect();
    chosen.sequences.retain(|l| !sequences.contains(&name_of(l)));
    chosen.pre_data.retain(|l| !left(l.item.id));
    chosen.post_data.retain(|l| !left(l.item.id));
    chosen.publications.retain(|l| !left(l.item.id));
    let made: HashSet<Name> = chosen
        .pre_data
        .iter()
        .filter(|l| makes_table(l))
        .map(|l| name_of(l))
        .collect();
    let is_left = |name: &Name| there.contains(name) && !made.contains(name);
    chosen.tables.retain(|t| !is_left(&(t.schema.clone(), t.name.clone())));
    let schemas = chosen.pre_data.iter().filter(|l| l.item.kind == "SCHEMA");
    let schemas: Vec<String> = schemas.map(|l| literal(&l.item.name)).collect();
    if !schemas.is_empty() {
        let sql = format!(
            "SELECT nspname AS name FROM pg_catalog.pg_namespace WHERE nspname IN ({})",
            schemas.join(", ")
        );
        let there: HashSet<String> = names_of(connection, &sql).await?.into_iter().collect();
        let left: HashSet<u32> = chosen
            .pre_data
            .iter()
            .filter(|l| l.item.kind == "SCHEMA" && there.contains(&l.item.name) && needed.contains_key(&l.item.id))
            .map(|l| l.item.id)
            .collect();
        chosen.pre_data.retain(|l| !left.contains(&l.item.id));
        let right = |l: &TocEntry| l.item.kind == "ACL" && l.item.depends_on.iter().any(|id| left.contains(id));
        chosen.post_data.retain(|l| !right(l));
    }
    Ok(())
}

/// Puts new tables into the publications that they were in, where those exist and do not have them yet.
async fn publish(connection: &mut Connection, contents: &Contents, chosen: &Chosen<'_>) -> Result<Vec<FailedItem>> {
    if chosen.publications.is_empty() {
        return Ok(Vec::new());
    }
    let found = connection.query(MEMBERS).await?;
    let mut members: HashMap<&str, HashSet<(&str, &str)>> = HashMap::new();
    for row in found.named() {
        let tables = members.entry(row.text("publication")?).or_default();
        tables.insert((row.text("schema")?, row.text("name")?));
    }
    let mut missing = Vec::new();
    let mut texts = contents.texts();
    for &line in &chosen.publications {
        let sql = texts.get(line).await?;
        let Some((publication, table)) = publication_of(&sql) else {
            continue;
        };
        let tables = members.get(publication.as_str());
        if tables.is_some_and(|tables| !tables.contains(&(table.0.as_str(), table.1.as_str()))) {
            missing.push(line);
        }
    }
    run_on(connection, contents, &missing).await
}

/// Returns the schemas of the chosen relations.
pub(crate) fn schemas(chosen: &Chosen<'_>) -> Vec<String> {
    let mut schemas: Vec<String> = chosen.relations.iter().map(|(schema, _)| schema.clone()).collect();
    schemas.sort();
    schemas.dedup();
    schemas
}
