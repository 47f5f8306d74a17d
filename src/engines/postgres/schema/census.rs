//! The closing census: what the catalogs hold against what was written.
//!
//! [`super::catalog`] decides what becomes a node, and may err: a schema that it does not know hides all that lies in it. So the census
//! reads the catalogs once more, in the same snapshot, by conditions of its own, and asks of each row: was SQL written for the
//! object or for the one that it is a part of, does an extension make it? What is left is named, and the backup ends with exit code 2.
//! Comments are counted per object, security labels and large objects as a whole, and each table must have rows in the backup.
//!
//! Rows are looked at one by one as they arrive; of what is missing a bounded number is named.

use crate::engines::postgres::sql::quote::qualified;
use crate::engines::postgres::sql::quote::quote_ident;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use tokio_postgres::{Client, Row};

use super::graph::{Graph, reads_subscriptions};
use super::large_objects::READABLE;
use super::node::{Kind, NONE, class, flag};
use super::rows::{Columns, failed, query};
use crate::base::error::Result;
use crate::base::exact;
use crate::engines::postgres::sql::template::with_names;

const ROWS: &str = include_str!("sql/census/tables_with_rows.sql");
const COMMENTS: &str = include_str!("sql/census/comments.sql");
const OTHERS: &str = include_str!("sql/census/others.sql");
const SUBSCRIPTIONS: &str = include_str!("sql/census/subscriptions.sql");

/// Code of the notes. A backup with such a note ends with exit code 2.
const CODE: &str = "not-stored";

/// What was written so far.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// A bit for each node.
    nodes: Vec<u64>,
    /// Comments by node.
    comments: HashMap<u32, u32>,
    /// Comments of columns that came after their tables.
    late_comments: u32,
    labels: u64,
    large_objects: u64,
}

fn place(index: u32) -> (usize, u64) {
    (exact::usize_from((index / 64).into()), 1 << (index % 64))
}

impl Graph {
    fn accounted(&self) -> std::sync::MutexGuard<'_, Written> {
        self.accounted.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notes that the SQL of a node is in the backup.
    pub(super) fn note_written(&self, index: u32, sql: &str) {
        let mut written = self.accounted();
        let (word, bit) = place(index);
        if written.nodes.len() <= word {
            written.nodes.resize(self.nodes.len() / 64 + 1, 0);
        }
        if let Some(bits) = written.nodes.get_mut(word) {
            *bits |= bit;
        }
        let comments = sql.lines().filter(|line| line.starts_with("COMMENT ON ")).count();
        let comments = exact::saturating_u32(exact::u64_from(comments));
        if comments == 0 {
            return;
        }
        if self.node(index).is_some_and(|n| n.kind == Kind::LateColumns) {
            written.late_comments = written.late_comments.saturating_add(comments);
        } else {
            written.comments.insert(index, comments);
        }
    }

    pub(super) fn note_labels(&self, count: usize) {
        let mut written = self.accounted();
        written.labels = written.labels.saturating_add(exact::u64_from(count));
    }

    pub(super) fn note_large_objects(&self, count: usize) {
        let mut written = self.accounted();
        let count = exact::u64_from(count);
        written.large_objects = written.large_objects.saturating_add(count);
    }

    /// Has the writer pass over objects of this name, so that a test can see the census find them.
    #[doc(hidden)]
    pub fn forget(&mut self, name: &str) {
        let order = std::mem::take(&mut self.order);
        self.order = order
            .into_iter()
            .filter(|&index| self.node(index).is_none_or(|n| self.name(n) != name))
            .collect();
    }

    /// Compares the catalogs with what was written; what is missing is among the findings afterwards. The connection is in the transaction in
    /// which the graph was read, and everything is written.
    pub async fn census(&self, client: &Client, readable_objects_only: bool) -> Result<()> {
        for (word, sql) in objects(self.version) {
            self.count_objects(client, word, &sql).await?;
        }
        if reads_subscriptions(client).await? {
            self.count_objects(client, "SUBSCRIPTION", SUBSCRIPTIONS).await?;
        }
        self.count_rows(client).await?;
        self.count_comments(client).await?;
        self.count_others(client, readable_objects_only).await
    }

    /// Returns whether the node's definition is in the backup, or comes with an extension or a node that is.
    fn is_stored(&self, written: &Written, index: u32) -> bool {
        let Some(node) = self.node(index) else { return false };
        let (word, bit) = place(index);
        // What the user leaves out is named elsewhere.
        node.has(flag::EXCLUDED)
            || node.kind.is_member()
            || written.nodes.get(word).is_some_and(|bits| bits & bit != 0)
            || (node.has(flag::INLINE) && node.parent != NONE && self.is_stored(written, node.parent))
    }

    async fn count_objects(&self, client: &Client, word: &'static str, sql: &str) -> Result<()> {
        let act = "the catalogs for the census";
        let no_params: [i32; 0] = [];
        let rows = client.query_raw(sql, no_params).await.map_err(|e| failed(act, e))?;
        tokio::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(|e| failed(act, e))? {
            if !self.accounts_for(&row)? {
                self.note_collector
                    .add(CODE, reason(&row)?, format!("{word} {}", name(&row)?));
            }
        }
        Ok(())
    }

    /// Whether the row's object, or what it is a part of, is in the backup or an extension's.
    fn accounts_for(&self, row: &Row) -> Result<bool> {
        let (own, via, part_of) = (
            (row.oid("class")?, row.oid("oid")?),
            (row.oid("via_class")?, row.oid("via_oid")?),
            (row.oid("whole_class")?, row.oid("whole_oid")?),
        );
        let written = self.accounted();
        let stored = |object: (u32, u32)| {
            self.find(object.0, object.1)
                .is_some_and(|index| self.is_stored(&written, index))
        };
        Ok(stored(own)
            || stored(via)
            || self.owner(own.0, own.1).is_some()
            || self.owner(via.0, via.1).is_some()
            || (self.find(own.0, own.1).is_none() && self.owner(part_of.0, part_of.1).is_some()))
    }

    /// Every table must be among those that are copied; one that cannot be read on a standby is named elsewhere.
    async fn count_rows(&self, client: &Client) -> Result<()> {
        let copied: HashSet<u32> = self.tables.iter().map(|t| t.oid).collect();
        let act = "tables for the census";
        let no_params: [i32; 0] = [];
        let rows = client.query_raw(ROWS, no_params).await.map_err(|e| failed(act, e))?;
        tokio::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(|e| failed(act, e))? {
            let oid = row.oid("oid")?;
            let left_out = self.excludes(class::RELATION, oid) || self.options.excluded.rows.contains(&oid);
            if !left_out && !copied.contains(&oid) {
                let name = qualified(&row.text("schema")?, &row.text("name")?);
                self.note_collector
                    .add(CODE, "its rows are not in this backup", format!("TABLE {name}"));
            }
        }
        Ok(())
    }

    /// Each object must have as many comments in the backup as the catalog has for it.
    async fn count_comments(&self, client: &Client) -> Result<()> {
        let act = "comments for the census";
        let mut left = self.accounted().comments.clone();
        let mut late = self.accounted().late_comments;
        let no_params: [i32; 0] = [];
        let rows = client
            .query_raw(COMMENTS, no_params)
            .await
            .map_err(|e| failed(act, e))?;
        tokio::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(|e| failed(act, e))? {
            let (class, oid, table) = (row.oid("class")?, row.oid("oid")?, row.oid("relation")?);
            let is_own = |class, oid| self.owner(class, oid).is_some();
            if is_own(class, oid) || is_own(class::RELATION, table) {
                continue;
            }
            let node = self.find(class, oid).or_else(|| self.find(class::RELATION, table));
            let node = node.map(|index| self.printed_by(index));
            // A comment of something that nothing is known of: temporary, or named above.
            let Some(index) = node.filter(|&i| !self.is_excluded(i)) else {
                continue;
            };
            match left.get_mut(&index) {
                Some(count) if *count > 0 => *count -= 1,
                _ if late > 0 => late -= 1,
                _ => {
                    let name = self.node(index).map(|n| self.qualified(n)).unwrap_or_default();
                    let what = format!(
                        "comment on {name} ({} {oid}, {})",
                        row.text("catalog")?,
                        row.col::<i32>("sub")?
                    );
                    self.note_collector.add(CODE, "is not in this backup", what);
                }
            }
        }
        Ok(())
    }

    fn printed_by(&self, index: u32) -> u32 {
        match self.node(index) {
            Some(node) if node.has(flag::INLINE) => node.parent,
            _ => index,
        }
    }

    async fn count_others(&self, client: &Client, readable_only: bool) -> Result<()> {
        let rows = query(
            client,
            "large objects and labels for the census",
            &with_names(OTHERS, &[("readable", READABLE)]),
            &[&readable_only],
        )
        .await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let (objects, labels) = {
            let written = self.accounted();
            (written.large_objects, written.labels)
        };
        let count = |name| exact::count(row.col(name)?, "a number of the census");
        for (what, there, stored) in [
            ("large objects", count("large_objects")?, objects),
            ("security labels", count("labels")?, labels),
        ] {
            let left_out = what == "large objects" && self.options.excluded.large_objects;
            if there > stored && !left_out {
                let message = format!("{} of {there} are not in this backup", there - stored);
                self.note_collector.add(CODE, message, what);
            }
        }
        Ok(())
    }
}

/// Returns what a person reads of a row that is missing.
fn reason(row: &Row) -> Result<&'static str> {
    Ok(match row.opt("schema")?.as_deref() {
        Some("pg_catalog" | "information_schema") => "is in a system schema and is not in this backup",
        _ => "is not in this backup",
    })
}

fn name(row: &Row) -> Result<String> {
    let name = row.text("name")?;
    Ok(match row.opt("schema")? {
        Some(schema) => qualified(&schema, &name),
        None => quote_ident(&name),
    })
}

/// Catalogs with a row for each object: class, catalog, prefix of its columns, whether it has a schema, word. An operator without a function
/// is one that others name.
const PLAIN: [(u32, &str, &str, bool, &str); 18] = [
    (class::PROC, "pg_proc", "pro", true, "FUNCTION"),
    (class::TYPE, "pg_type", "typ", true, "TYPE"),
    (class::OPERATOR, "pg_operator", "opr", true, "OPERATOR"),
    (class::OPCLASS, "pg_opclass", "opc", true, "OPERATOR CLASS"),
    (class::OPFAMILY, "pg_opfamily", "opf", true, "OPERATOR FAMILY"),
    (class::CONVERSION, "pg_conversion", "con", true, "CONVERSION"),
    (class::COLLATION, "pg_collation", "coll", true, "COLLATION"),
    (class::TS_PARSER, "pg_ts_parser", "prs", true, "TEXT SEARCH PARSER"),
    (
        class::TS_TEMPLATE,
        "pg_ts_template",
        "tmpl",
        true,
        "TEXT SEARCH TEMPLATE",
    ),
    (class::TS_DICT, "pg_ts_dict", "dict", true, "TEXT SEARCH DICTIONARY"),
    (
        class::TS_CONFIG,
        "pg_ts_config",
        "cfg",
        true,
        "TEXT SEARCH CONFIGURATION",
    ),
    (class::STATISTIC, "pg_statistic_ext", "stx", true, "STATISTICS"),
    (class::LANGUAGE, "pg_language", "lan", false, "LANGUAGE"),
    (class::AM, "pg_am", "am", false, "ACCESS METHOD"),
    (
        class::FDW,
        "pg_foreign_data_wrapper",
        "fdw",
        false,
        "FOREIGN DATA WRAPPER",
    ),
    (class::SERVER, "pg_foreign_server", "srv", false, "SERVER"),
    (class::PUBLICATION, "pg_publication", "pub", false, "PUBLICATION"),
    (class::EVENT_TRIGGER, "pg_event_trigger", "evt", false, "EVENT TRIGGER"),
];

const OF_SCHEMAS: &str = include_str!("sql/census/of_schemas.sql");
const OF_DATABASE: &str = include_str!("sql/census/of_database.sql");

/// Parts of relations: class, catalog, columns of the relation and of the name, word, condition on `o`. Partitions' copies of a trigger come with
/// the parent's.
const PARTS: [(u32, &str, &str, &str, &str, &str); 3] = [
    (
        class::REWRITE,
        "pg_rewrite",
        "ev_class",
        "rulename",
        "RULE",
        "o.rulename <> '_RETURN'",
    ),
    (
        class::TRIGGER,
        "pg_trigger",
        "tgrelid",
        "tgname",
        "TRIGGER",
        "NOT o.tgisinternal AND o.tgparentid = 0",
    ),
    (class::POLICY, "pg_policy", "polrelid", "polname", "POLICY", "true"),
];

const OF_RELATIONS: &str = include_str!("sql/census/of_relations.sql");

/// Queries with a word for their objects.
const OTHER_OBJECTS: [(&str, &str); 11] = [
    ("CONSTRAINT", include_str!("sql/census/table_constraints.sql")),
    ("RELATION", include_str!("sql/census/relations.sql")),
    ("DEFAULT", include_str!("sql/census/column_defaults.sql")),
    ("CONSTRAINT", include_str!("sql/census/domain_constraints.sql")),
    ("SCHEMA", include_str!("sql/census/schemas.sql")),
    ("EXTENSION", include_str!("sql/census/extensions.sql")),
    ("CAST", include_str!("sql/census/casts.sql")),
    ("TRANSFORM", include_str!("sql/census/transforms.sql")),
    ("USER MAPPING", include_str!("sql/census/user_mappings.sql")),
    ("PUBLICATION TABLE", include_str!("sql/census/publication_tables.sql")),
    ("DEFAULT ACL", include_str!("sql/census/default_privileges.sql")),
];

/// From 15 on.
const PUBLICATION_SCHEMAS: (&str, &str) = (
    "PUBLICATION TABLES IN SCHEMA",
    include_str!("sql/census/publication_schemas.sql"),
);

/// Queries of all objects, each with its word. Rows: the object (`class`, `oid`), one whose SQL makes it as well (`via_class`, `via_oid`), one of
/// which it is a part (`whole_class`, `whole_oid`), `schema`, `name`. TOAST tables are a part of their tables, temporary objects belong to
/// their session. Whoever makes the information schema anew has what a new cluster has.
fn objects(version: i32) -> Vec<(&'static str, Cow<'static, str>)> {
    let plain = PLAIN.iter().map(|&(class, catalog, prefix, has_schema, word)| {
        let class_oid = class.to_string();
        let names = [
            ("class", class_oid.as_str()),
            ("catalog", catalog),
            ("schema_column", &format!("{prefix}namespace")),
            ("name_column", &format!("{prefix}name")),
            (
                "condition",
                if class == class::OPERATOR {
                    "o.oprcode <> 0"
                } else {
                    "true"
                },
            ),
        ];
        let query = if has_schema { OF_SCHEMAS } else { OF_DATABASE };
        (word, with_names(query, &names).into())
    });
    let parts = PARTS.iter().map(|&(class, catalog, relation, name, word, condition)| {
        let class_oid = class.to_string();
        let names = [
            ("class", class_oid.as_str()),
            ("catalog", catalog),
            ("relation_column", relation),
            ("name_column", name),
            ("condition", condition),
        ];
        (word, with_names(OF_RELATIONS, &names).into())
    });
    let mut list: Vec<(&str, Cow<'_, str>)> = plain.chain(parts).collect();
    list.extend(OTHER_OBJECTS.map(|(word, query)| (word, query.into())));
    if version >= 150_000 {
        list.push((PUBLICATION_SCHEMAS.0, PUBLICATION_SCHEMAS.1.into()));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::postgres::sql::template::missing_names;

    #[test]
    fn every_query_has_its_names() {
        for (word, query) in objects(180_000) {
            assert!(missing_names(&query).is_empty(), "{word}: {query}");
        }
    }
}
