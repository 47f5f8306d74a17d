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
        let sql = format!(
            "SELECT n.nspname, c.relname, c.oid, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE (n.nspname::text, c.relname::text) IN ({}) ORDER BY 1, 2",
            list.join(", ")
        );
        for row in rows(connection, &sql).await? {
            if let [schema, name, oid, kind] = row.as_slice() {
                found.push(((schema.clone(), name.clone()), oid.clone(), kind.clone()));
            }
        }
    }
    Ok(found)
}

/// Runs a query and returns its rows; a null is an empty text.
pub(crate) async fn rows(connection: &mut Connection, sql: &str) -> Result<Vec<Vec<String>>> {
    let found = connection.query(sql).await?;
    let row = |row: Vec<Option<String>>| row.into_iter().map(Option::unwrap_or_default).collect();
    Ok(found.rows.into_iter().map(row).collect())
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

    /// Returns the common table expression `gone`: everything that goes with the tables, and the views over them with all that
    /// goes with those.
    fn gone(&self) -> String {
        format!(
            "WITH RECURSIVE gone(classid, objid) AS (SELECT 1259::pg_catalog.oid, o FROM pg_catalog.unnest({}) o \
             UNION SELECT u.classid, u.objid FROM gone g JOIN pg_catalog.pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid \
             LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 2618 AND r.oid = d.objid AND r.rulename = '_RETURN' \
             LEFT JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.relkind = 'v', \
             LATERAL (VALUES (d.classid, d.objid), (1259::pg_catalog.oid, v.oid)) u(classid, objid) \
             WHERE u.objid IS NOT NULL AND (d.deptype IN ('a', 'i', 'P', 'S') OR (d.deptype = 'n' AND v.oid IS NOT NULL))) ",
            self.list()
        )
    }

    /// Views over the tables, at every level.
    async fn views(&mut self, connection: &mut Connection) -> Result<()> {
        let sql = format!(
            "{}SELECT c.oid FROM gone g JOIN pg_catalog.pg_class c ON g.classid = 1259 AND c.oid = g.objid WHERE c.relkind = 'v'",
            self.gone()
        );
        let oids: Vec<String> = rows(connection, &sql).await?.into_iter().flatten().collect();
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
        let gone = self.gone();
        let strays = format!(
            "{gone}SELECT c.oid::pg_catalog.regclass FROM gone g JOIN pg_catalog.pg_class c ON g.classid = 1259 AND c.oid = g.objid \
             WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f') AND NOT c.oid = ANY ({}) ORDER BY 1",
            self.list()
        );
        let strays = rows(connection, &strays).await?;
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
        // A rule that makes a view is told by the view; foreign keys are made again; a constraint trigger goes with the
        // table that it names second.
        let outside = format!(
            "{gone}SELECT DISTINCT CASE WHEN r.oid IS NOT NULL THEN pg_catalog.pg_describe_object(1259, r.ev_class, 0) \
             ELSE pg_catalog.pg_describe_object(d.classid, d.objid, 0) END FROM gone g \
             JOIN pg_catalog.pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid AND d.deptype = 'n' \
             LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 2618 AND r.oid = d.objid AND r.rulename = '_RETURN' \
             WHERE NOT EXISTS (SELECT FROM gone h WHERE h.classid = d.classid AND h.objid = d.objid) \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE d.classid = 2606 AND k.oid = d.objid AND k.contype = 'f') \
             UNION SELECT pg_catalog.pg_describe_object(2620, t.oid, 0) FROM gone g JOIN pg_catalog.pg_trigger t ON g.classid = 2620 AND t.oid = g.objid \
             WHERE NOT t.tgisinternal AND NOT EXISTS (SELECT FROM gone h WHERE h.classid = 1259 AND h.objid = t.tgrelid) ORDER BY 1"
        );
        let outside = rows(connection, &outside).await?;
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
        let sql = format!(
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S' \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE d.classid = 1259 AND d.refclassid = 1259 AND d.deptype = 'a' \
             AND d.refobjid = ANY ({}) ORDER BY 1, 2",
            self.list()
        );
        for row in rows(connection, &sql).await? {
            if let [schema, name] = row.as_slice()
                && !made.contains(&(schema.clone(), name.clone()))
            {
                self.drops
                    .push(format!("ALTER SEQUENCE {} OWNED BY NONE", qualified(schema, name)));
            }
        }
        Ok(())
    }

    /// Foreign keys of other tables.
    async fn foreign_keys(&mut self, connection: &mut Connection) -> Result<()> {
        // Of a partitioned key the topmost one is made again; it brings those of the partitions.
        let sql = format!(
            "{}, keys(oid) AS (SELECT k.oid FROM gone g JOIN pg_catalog.pg_constraint k ON k.contype = 'f' AND g.classid = 1259 AND k.confrelid = g.objid \
             WHERE NOT EXISTS (SELECT FROM gone h WHERE h.classid = 1259 AND h.objid = k.conrelid)), \
             up(oid, parent) AS (SELECT k.oid, k.conparentid FROM keys JOIN pg_catalog.pg_constraint k USING (oid) \
             UNION SELECT k.oid, k.conparentid FROM up JOIN pg_catalog.pg_constraint k ON k.oid = up.parent) \
             SELECT k.conrelid::pg_catalog.regclass, pg_catalog.quote_ident(k.conname), pg_catalog.pg_get_constraintdef(k.oid), \
             pg_catalog.quote_nullable(pg_catalog.obj_description(k.oid, 'pg_constraint')) \
             FROM up JOIN pg_catalog.pg_constraint k USING (oid) WHERE up.parent = 0 ORDER BY 1, 2",
            self.gone().trim_end()
        );
        for row in rows(connection, &sql).await? {
            let [table, name, definition, comment] = row.as_slice() else {
                continue;
            };
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
        let extra = if version(connection).await? >= 150_000 {
            "COALESCE(' (' || (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY u.place) FROM pg_catalog.unnest(r.prattrs) \
             WITH ORDINALITY u(number, place) JOIN pg_catalog.pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = u.number) || ')', '') \
             || COALESCE(' WHERE (' || pg_catalog.pg_get_expr(r.prqual, r.prrelid) || ')', '')"
        } else {
            "''"
        };
        let sql = format!(
            "SELECT pg_catalog.quote_ident(p.pubname), r.prrelid::pg_catalog.regclass, {extra} FROM pg_catalog.pg_publication_rel r \
             JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = ANY ({}) ORDER BY 1, 2",
            self.list()
        );
        for row in rows(connection, &sql).await? {
            let [publication, table, rest] = row.as_slice() else {
                continue;
            };
            self.again.push((
                format!("the place of table {table} in publication {publication}"),
                format!("ALTER PUBLICATION {publication} ADD TABLE ONLY {table}{rest}"),
            ));
        }
        Ok(())
    }

    /// Places below partitioned tables that stay.
    async fn attachments(&mut self, connection: &mut Connection) -> Result<()> {
        let sql = format!(
            "SELECT n.nspname, c.relname, i.inhparent::pg_catalog.regclass, pg_catalog.pg_get_expr(c.relpartbound, c.oid) FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid \
             WHERE c.relispartition AND c.oid = ANY ({0}) AND NOT i.inhparent = ANY ({0}) ORDER BY 1, 2",
            self.list()
        );
        for row in rows(connection, &sql).await? {
            if let [schema, name, parent, bound] = row.as_slice() {
                let sql = format!(
                    "ALTER TABLE ONLY {parent} ATTACH PARTITION {} {bound}",
                    qualified(schema, name)
                );
                self.places.push(((schema.clone(), name.clone()), sql));
            }
        }
        Ok(())
    }
}

/// Returns `server_version_num`.
pub(crate) async fn version(connection: &mut Connection) -> Result<i32> {
    let found = connection
        .query("SELECT pg_catalog.current_setting('server_version_num')")
        .await?;
    Ok(found.scalar().and_then(|n| n.parse().ok()).unwrap_or(0))
}

fn refusal(text: &str) -> Error {
    Error::new(
        ErrorKind::PreconditionFailed,
        format!("unable to replace the tables: {text}"),
    )
}

fn depending(objects: &[Vec<String>]) -> Error {
    let error = refusal(&format!("{} depend on the objects to be replaced", listed("", objects)));
    error.with_hint(
        "Restore only the rows with --data-only --clean, restore the table next to the existing one (without --into), \
         or select the dependent tables with --table too.",
    )
}

fn head(sql: &str) -> String {
    sql.chars().take(120).collect()
}

/// Names the first column of some rows, and counts the rest.
fn listed(word: &str, rows: &[Vec<String>]) -> String {
    let names: Vec<&str> = rows.iter().filter_map(|r| r.first()).map(String::as_str).collect();
    let (shown, rest) = names.split_at(names.len().min(NAMED));
    let mut text = format!("{word} {}", shown.join(", ")).trim_start().to_owned();
    if !rest.is_empty() {
        text.push_str(&format!(" and {} more", rest.len()));
    }
    text
}
