//! Living tables that a restore replaces: what hangs on them from outside is kept, or named before anything is touched.
//!
//! A table is dropped and made again, so that it is what the backup says. Foreign keys of other tables, places in publications and
//! the place below a partitioned table and views are read before and made again in the same transaction; sequences that the backup does
//! not bring are let go. All else that depends on the table (materialized views, children, functions) makes the restore refuse, and
//! so does a partition that the backup does not have: it would go with its rows.

use std::collections::HashSet;

use super::ownership::{Name, makes_table, name_of};
use super::replaced_views;
use super::replaced_views::View;
use super::selection::Chosen;
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::{literal, qualified};
use crate::engines::postgres::sql::template::{for_version, with_names};

const GONE: &str = include_str!("sql/gone.sql");
const LIVING: &str = include_str!("sql/living_relations.sql");
const VIEWS: &str = include_str!("sql/views_over_tables.sql");
const STRAYS: &str = include_str!("sql/stray_partitions.sql");
const OUTSIDE: &str = include_str!("sql/dependent_objects.sql");
const SEQUENCES: &str = include_str!("sql/owned_sequences.sql");
const FOREIGN_KEYS: &str = include_str!("sql/foreign_keys_to_tables.sql");
const PUBLICATIONS: &str = include_str!("sql/publications_of_tables.sql");
const PLACES: &str = include_str!("sql/places_of_partitions.sql");

/// How many objects a refusal names.
const NAMED: usize = 20;

/// Tables that are there and are to be replaced, and what is to be made again.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    /// Their OIDs.
    oids: Vec<String>,
    /// What takes them away, in order.
    drops: Vec<String>,
    /// What is made again when the new tables are there: in words, and as SQL.
    again: Vec<(String, String)>,
    /// Views over them, each after those it reads from.
    views: Vec<View>,
    /// Partitions that have their place below a living table, and its statement.
    places: Vec<(Name, String)>,
}

/// Relations that exist: schema, name, OID, kind.
async fn living(connection: &mut Connection, names: &[Name]) -> Result<Vec<(Name, String, String)>> {
    let mut found = Vec::new();
    for page in names.chunks(1000) {
        let list: Vec<String> = page
            .iter()
            .map(|(schema, name)| format!("({}, {})", literal(schema), literal(name)))
            .collect();
        let sql = with_names(LIVING, &[("names", &list.join(", "))]);
        let rows = connection.query(&sql).await?;
        for row in rows.named() {
            let text = |name| row.text(name).map(str::to_owned);
            found.push(((text("schema")?, text("name")?), text("oid")?, text("kind")?));
        }
    }
    Ok(found)
}

/// Runs a query and returns its column `name`; a null is an empty text.
pub(crate) async fn names_of(connection: &mut Connection, sql: &str) -> Result<Vec<String>> {
    let found = connection.query(sql).await?;
    found.named().map(|row| Ok(row.text("name")?.to_owned())).collect()
}

/// Returns which of the names are relations of the database.
pub(crate) async fn present(connection: &mut Connection, names: &[Name]) -> Result<HashSet<Name>> {
    let found = living(connection, names).await?;
    Ok(found.into_iter().map(|(name, ..)| name).collect())
}

impl Replaced {
    /// Looks at the tables that the chosen ones would take the place of. Refuses if something would be lost. With `lock` nobody
    /// can hang anything on them afterwards.
    pub(crate) async fn look(connection: &mut Connection, chosen: &Chosen<'_>, lock: bool) -> Result<Self> {
        let names: Vec<Name> = chosen
            .pre_data
            .iter()
            .filter(|l| makes_table(l) && !chosen.needed.contains_key(&l.item.id))
            .map(|l| name_of(l))
            .collect();
        let mut replaced = Self::default();
        let (mut tables, mut foreign) = (Vec::new(), Vec::new());
        for ((schema, name), oid, kind) in living(connection, &names).await? {
            let name = qualified(&schema, &name);
            match kind.as_str() {
                "r" | "p" => tables.push(name),
                "f" => foreign.push(name),
                _ => {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("{name} exists and is not a table"),
                    ));
                }
            }
            replaced.oids.push(oid);
        }
        if replaced.oids.is_empty() {
            return Ok(replaced);
        }
        if lock && !tables.is_empty() {
            let sql = format!("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE", tables.join(", ONLY "));
            connection.execute(&sql).await.context("lock the existing tables")?;
        }
        replaced.refuse(connection).await?;
        replaced.views(connection).await?;
        replaced.free_sequences(connection, chosen).await?;
        replaced.foreign_keys(connection).await?;
        replaced.publications(connection).await?;
        replaced.attachments(connection).await?;
        for (word, names) in [("FOREIGN TABLE", foreign), ("TABLE", tables)] {
            if !names.is_empty() {
                replaced.drops.push(format!("DROP {word} {}", names.join(", ")));
            }
        }
        Ok(replaced)
    }

    /// Returns in words what is made again.
    pub(crate) fn again(&self) -> impl Iterator<Item = String> {
        let views = self.views.iter().map(|v| format!("view {}", v.name));
        self.again.iter().map(|(what, _)| what.clone()).chain(views)
    }

    /// Returns the statement that gives a partition the place it had below a living table.
    pub(crate) fn place(&self, partition: &Name) -> Option<&str> {
        self.places
            .iter()
            .find(|(name, _)| name == partition)
            .map(|(_, sql)| sql.as_str())
    }

    /// Takes the tables away.
    pub(crate) async fn drop(&self, connection: &mut Connection) -> Result<()> {
        for sql in &self.drops {
            connection
                .execute(sql)
                .await
                .with_context(|| format!("drop the existing tables ({})", head(sql)))?;
        }
        Ok(())
    }

    /// Makes again what hung on them.
    pub(crate) async fn make_again(&self, connection: &mut Connection) -> Result<()> {
        replaced_views::make_again(connection, &self.views).await?;
        for (what, sql) in &self.again {
            connection.execute(sql).await.map_err(|e| {
                e.context(format!("create {what} again")).with_hint(
                    "It does not match the backup's table. Restore the table next to the existing one (without \
                     --into) and copy what you need.",
                )
            })?;
        }
        Ok(())
    }

    fn list(&self) -> String {
        format!("'{{{}}}'::pg_catalog.oid[]", self.oids.join(","))
    }

    /// Returns a query about the tables.
    fn about(&self, query: &str) -> String {
        let oids = self.list();
        let gone = with_names(GONE, &[("oids", &oids)]);
        with_names(query, &[("gone", &gone), ("oids", &oids)])
    }

    /// Views over the tables, at every level.
    async fn views(&mut self, connection: &mut Connection) -> Result<()> {
        let oids = names_of(connection, &self.about(VIEWS)).await?;
        if oids.is_empty() {
            return Ok(());
        }
        let list = format!("'{{{}}}'::pg_catalog.oid[]", oids.join(","));
        let unrepeatable = replaced_views::unrepeatable(connection, &list).await?;
        if !unrepeatable.is_empty() {
            return Err(depending(&unrepeatable));
        }
        self.views = replaced_views::read(connection, &list).await?;
        let names: Vec<&str> = self.views.iter().map(|v| v.name.as_str()).collect();
        self.drops.push(format!("DROP VIEW {}", names.join(", ")));
        Ok(())
    }

    async fn refuse(&self, connection: &mut Connection) -> Result<()> {
        let strays = names_of(connection, &self.about(STRAYS)).await?;
        if !strays.is_empty() {
            return Err(refusal(&format!(
                "the backup does not have {}, which would be dropped with its rows",
                listed("partition", &strays)
            ))
            .with_hint(
                "Detach it first (ALTER TABLE … DETACH PARTITION …), or restore only the rows with --data-only \
                        --clean.",
            ));
        }
        let outside = names_of(connection, &self.about(OUTSIDE)).await?;
        if outside.is_empty() {
            return Ok(());
        }
        Err(depending(&outside))
    }

    /// Sequences that the tables own and the backup does not bring stay.
    async fn free_sequences(&mut self, connection: &mut Connection, chosen: &Chosen<'_>) -> Result<()> {
        let made: HashSet<Name> = chosen
            .pre_data
            .iter()
            .filter(|l| l.item.kind == "SEQUENCE")
            .map(|l| name_of(l))
            .collect();
        let found = connection.query(&self.about(SEQUENCES)).await?;
        for row in found.named() {
            let (schema, name) = (row.text("schema")?, row.text("name")?);
            if !made.contains(&(schema.to_owned(), name.to_owned())) {
                self.drops
                    .push(format!("ALTER SEQUENCE {} OWNED BY NONE", qualified(schema, name)));
            }
        }
        Ok(())
    }

    /// Foreign keys of other tables.
    async fn foreign_keys(&mut self, connection: &mut Connection) -> Result<()> {
        let found = connection.query(&self.about(FOREIGN_KEYS)).await?;
        for row in found.named() {
            let (table, name) = (row.text("table_name")?, row.text("name")?);
            let (definition, comment) = (row.text("definition")?, row.text("comment")?);
            self.drops.push(format!("ALTER TABLE {table} DROP CONSTRAINT {name}"));
            let mut sql = format!("ALTER TABLE {table} ADD CONSTRAINT {name} {definition}");
            if comment != "NULL" {
                sql.push_str(&format!("; COMMENT ON CONSTRAINT {name} ON {table} IS {comment}"));
            }
            self.again.push((format!("foreign key {name} of table {table}"), sql));
        }
        Ok(())
    }

    /// Places in publications.
    async fn publications(&mut self, connection: &mut Connection) -> Result<()> {
        let version = version(connection).await?;
        let found = connection
            .query(&self.about(&for_version(PUBLICATIONS, version)))
            .await?;
        for row in found.named() {
            let (publication, table) = (row.text("publication")?, row.text("table_name")?);
            let rest = row.text("rest")?;
            self.again.push((
                format!("the place of table {table} in publication {publication}"),
                format!("ALTER PUBLICATION {publication} ADD TABLE ONLY {table}{rest}"),
            ));
        }
        Ok(())
    }

    /// Places below partitioned tables that stay.
    async fn attachments(&mut self, connection: &mut Connection) -> Result<()> {
        let found = connection.query(&self.about(PLACES)).await?;
        for row in found.named() {
            let (schema, name) = (row.text("schema")?, row.text("name")?);
            let (parent, bound) = (row.text("parent")?, row.text("bound")?);
            let sql = format!(
                "ALTER TABLE ONLY {parent} ATTACH PARTITION {} {bound}",
                qualified(schema, name)
            );
            self.places.push(((schema.to_owned(), name.to_owned()), sql));
        }
        Ok(())
    }
}

/// Returns `server_version_num`.
pub(crate) async fn version(connection: &mut Connection) -> Result<i32> {
    let found = connection
        .query("SELECT pg_catalog.current_setting('server_version_num') AS version")
        .await?;
    let version = found.only()?.number("version")?;
    version.ok_or_else(|| Error::corrupt("the server does not say its version"))
}

fn refusal(text: &str) -> Error {
    Error::new(
        ErrorKind::PreconditionFailed,
        format!("unable to replace the tables: {text}"),
    )
}

fn depending(objects: &[String]) -> Error {
    let error = refusal(&format!("{} depend on the objects to be replaced", listed("", objects)));
    error.with_hint(
        "Restore only the rows with --data-only --clean, restore the table next to the existing one (without --into), \
         or select the dependent tables with --table too.",
    )
}

fn head(sql: &str) -> String {
    sql.chars().take(120).collect()
}

/// Names some, and counts the rest.
fn listed(word: &str, names: &[String]) -> String {
    let (shown, rest) = names.split_at(names.len().min(NAMED));
    let mut text = format!("{word} {}", shown.join(", ")).trim_start().to_owned();
    if !rest.is_empty() {
        text.push_str(&format!(" and {} more", rest.len()));
    }
    text
}
