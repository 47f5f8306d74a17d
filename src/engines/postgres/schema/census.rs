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
use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use tokio_postgres::{Client, Row};

use super::graph::{Graph, reads_subscriptions};
use super::large_objects::READABLE_SQL;
use super::node::{Kind, NONE, class, flag};
use super::rows::{Columns, failed, query};
use crate::base::error::Result;
use crate::base::exact;

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
            (row.oid(0)?, row.oid(1)?),
            (row.oid(2)?, row.oid(3)?),
            (row.oid(4)?, row.oid(5)?),
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
        let sql = format!(
            "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_catalog.pg_class c {} WHERE c.relkind = 'r' AND c.oid >= 16384 \
             AND c.relpersistence <> 't' AND {} AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())",
            schema("c.relnamespace"),
            no_member(class::RELATION, "c.oid")
        );
        let act = "tables for the census";
        let no_params: [i32; 0] = [];
        let rows = client.query_raw(&sql, no_params).await.map_err(|e| failed(act, e))?;
        tokio::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(|e| failed(act, e))? {
            let oid = row.oid(0)?;
            let left_out = self.excludes(class::RELATION, oid) || self.options.excluded.rows.contains(&oid);
            if !left_out && !copied.contains(&oid) {
                let name = qualified(&row.text(1)?, &row.text(2)?);
                self.note_collector
                    .add(CODE, "its rows are not in this backup", format!("TABLE {name}"));
            }
        }
        Ok(())
    }

    /// Each object must have as many comments in the backup as the catalog has for it.
    async fn count_comments(&self, client: &Client) -> Result<()> {
        // Comments of what is no object of its own stand with its table. Those of large objects are written with them.
        let sql = "SELECT d.classoid, d.objoid, d.objsubid, COALESCE(k.conrelid, 0::oid), d.classoid::pg_catalog.regclass::text \
            FROM pg_catalog.pg_description d LEFT JOIN pg_catalog.pg_constraint k ON d.classoid = 2606 AND k.oid = d.objoid \
            WHERE d.objoid >= 16384 AND d.classoid NOT IN (2613, 6100)";
        let act = "comments for the census";
        let mut left = self.accounted().comments.clone();
        let mut late = self.accounted().late_comments;
        let no_params: [i32; 0] = [];
        let rows = client.query_raw(sql, no_params).await.map_err(|e| failed(act, e))?;
        tokio::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(|e| failed(act, e))? {
            let (class, oid, table) = (row.oid(0)?, row.oid(1)?, row.oid(3)?);
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
                    let what = format!("comment on {name} ({} {oid}, {})", row.text(4)?, row.col::<i32>(2)?);
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
        let condition = if readable_only { READABLE_SQL } else { "true" };
        let sql = format!(
            "SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata o WHERE {condition}), \
             (SELECT pg_catalog.count(*) FROM pg_catalog.pg_seclabel), \
             (SELECT pg_catalog.count(*) FROM pg_catalog.pg_extension e WHERE e.oid >= 16384)"
        );
        let rows = query(client, "large objects and labels for the census", &sql, &[]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let (objects, labels) = {
            let written = self.accounted();
            (written.large_objects, written.labels)
        };
        let count = |at| exact::count(row.col(at)?, "a number of the census");
        for (what, there, stored) in [
            ("large objects", count(0)?, objects),
            ("security labels", count(1)?, labels),
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
    Ok(match row.opt(6)?.as_deref() {
        Some("pg_catalog" | "information_schema") => "is in a system schema and is not in this backup",
        _ => "is not in this backup",
    })
}

fn name(row: &Row) -> Result<String> {
    let name = row.text(7)?;
    Ok(match row.opt(6)? {
        Some(schema) => qualified(&schema, &name),
        None => quote_ident(&name),
    })
}

/// Joins the schema: TOAST tables are a part of their tables, temporary objects belong to their session. Whoever makes the information
/// schema anew has what a new cluster has.
fn schema(column: &str) -> String {
    format!(
        "JOIN pg_catalog.pg_namespace n ON n.oid = {column} AND n.nspname !~ '^pg_(temp|toast)' \
         AND NOT (n.nspname = 'information_schema' AND n.oid >= 16384)"
    )
}

fn no_member(class: u32, oid: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = {class} AND d.objid = {oid} AND d.objsubid = 0 AND d.deptype = 'e')"
    )
}

/// Catalogs with a row for each object: class, catalog, prefix of its columns, whether it has a schema, word, condition on `o`.
const PLAIN: [(u32, &str, &str, bool, &str, &str); 18] = [
    (class::PROC, "pg_proc", "pro", true, "FUNCTION", "true"),
    (class::TYPE, "pg_type", "typ", true, "TYPE", "true"),
    // An operator without a function is one that others name.
    (
        class::OPERATOR,
        "pg_operator",
        "opr",
        true,
        "OPERATOR",
        "o.oprcode <> 0",
    ),
    (class::OPCLASS, "pg_opclass", "opc", true, "OPERATOR CLASS", "true"),
    (class::OPFAMILY, "pg_opfamily", "opf", true, "OPERATOR FAMILY", "true"),
    (class::CONVERSION, "pg_conversion", "con", true, "CONVERSION", "true"),
    (class::COLLATION, "pg_collation", "coll", true, "COLLATION", "true"),
    (
        class::TS_PARSER,
        "pg_ts_parser",
        "prs",
        true,
        "TEXT SEARCH PARSER",
        "true",
    ),
    (
        class::TS_TEMPLATE,
        "pg_ts_template",
        "tmpl",
        true,
        "TEXT SEARCH TEMPLATE",
        "true",
    ),
    (
        class::TS_DICT,
        "pg_ts_dict",
        "dict",
        true,
        "TEXT SEARCH DICTIONARY",
        "true",
    ),
    (
        class::TS_CONFIG,
        "pg_ts_config",
        "cfg",
        true,
        "TEXT SEARCH CONFIGURATION",
        "true",
    ),
    (class::STATISTIC, "pg_statistic_ext", "stx", true, "STATISTICS", "true"),
    (class::LANGUAGE, "pg_language", "lan", false, "LANGUAGE", "true"),
    (class::AM, "pg_am", "am", false, "ACCESS METHOD", "true"),
    (
        class::FDW,
        "pg_foreign_data_wrapper",
        "fdw",
        false,
        "FOREIGN DATA WRAPPER",
        "true",
    ),
    (class::SERVER, "pg_foreign_server", "srv", false, "SERVER", "true"),
    (
        class::PUBLICATION,
        "pg_publication",
        "pub",
        false,
        "PUBLICATION",
        "true",
    ),
    (
        class::EVENT_TRIGGER,
        "pg_event_trigger",
        "evt",
        false,
        "EVENT TRIGGER",
        "true",
    ),
];

/// Parts of relations: class, catalog, columns of the relation and of the name, word, condition on `o` and its relation `c`.
const PARTS: [(u32, &str, &str, &str, &str, &str); 4] = [
    (
        class::REWRITE,
        "pg_rewrite",
        "ev_class",
        "rulename",
        "RULE",
        "o.rulename <> '_RETURN'",
    ),
    // Partitions' copies of a trigger come with the parent's.
    (
        class::TRIGGER,
        "pg_trigger",
        "tgrelid",
        "tgname",
        "TRIGGER",
        "NOT o.tgisinternal AND o.tgparentid = 0",
    ),
    (class::POLICY, "pg_policy", "polrelid", "polname", "POLICY", "true"),
    // What is inherited, cloned or a column's NOT NULL stands with its table; a trigger's is the trigger.
    (
        class::CONSTRAINT,
        "pg_constraint",
        "conrelid",
        "conname",
        "CONSTRAINT",
        "(o.contype IN ('p', 'u', 'x') OR (o.contype = 'f' AND o.conparentid = 0) OR (o.contype = 'c' AND o.conislocal) \
         OR (o.contype = 'n' AND o.conislocal AND NOT o.convalidated))",
    ),
];

/// Subscriptions of this database; names are unique in a database only, and the catalog is one for all.
const SUBSCRIPTIONS: &str = "SELECT 6100::oid, o.oid, 0::oid, 0::oid, 0::oid, 0::oid, NULL::text, o.subname::text FROM pg_catalog.pg_subscription o \
    JOIN pg_catalog.pg_database d ON d.oid = o.subdbid WHERE d.datname = pg_catalog.current_database()";

/// Queries of all objects, each with its word. Rows: the object (class, oid), one whose SQL makes it as well, one of which it is a part,
/// schema, name.
fn objects(version: i32) -> Vec<(&'static str, String)> {
    let nothing = "0::oid, 0::oid";
    let mut list = Vec::new();
    for (class, catalog, prefix, has_schema, word, condition) in PLAIN {
        let (column, join) = if has_schema {
            ("n.nspname::text", schema(&format!("o.{prefix}namespace")))
        } else {
            ("NULL::text", String::new())
        };
        let sql = format!(
            "SELECT {class}::oid, o.oid, {nothing}, {nothing}, {column}, o.{prefix}name::text FROM pg_catalog.{catalog} o {join} \
             WHERE o.oid >= 16384 AND {condition} AND {}",
            no_member(class, "o.oid")
        );
        list.push((word, sql));
    }
    for (class, catalog, relation, name, word, condition) in PARTS {
        let sql = format!(
            "SELECT {class}::oid, o.oid, {nothing}, 1259::oid, o.{relation}, n.nspname::text, c.relname || ' ' || o.{name} FROM pg_catalog.{catalog} o \
             JOIN pg_catalog.pg_class c ON c.oid = o.{relation} AND c.relpersistence <> 't' {} WHERE o.oid >= 16384 AND {condition}",
            schema("c.relnamespace")
        );
        list.push((word, sql));
    }
    let relations = format!(
        "SELECT 1259::oid, c.oid, {nothing}, 1259::oid, COALESCE(i.indrelid, 0::oid), n.nspname::text, c.relname::text FROM pg_catalog.pg_class c {} \
         LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid WHERE c.oid >= 16384 AND c.relpersistence <> 't' AND {} \
         AND (i.indexrelid IS NULL OR c.relkind = 'I' OR (i.indisready AND i.indisvalid))",
        schema("c.relnamespace"),
        no_member(class::RELATION, "c.oid")
    );
    let defaults = format!(
        "SELECT 2604::oid, o.oid, CASE WHEN a.attgenerated <> '' THEN 1259::oid ELSE 0::oid END, o.adrelid, 1259::oid, o.adrelid, n.nspname::text, \
         c.relname || ' ' || a.attname FROM pg_catalog.pg_attrdef o JOIN pg_catalog.pg_class c ON c.oid = o.adrelid AND c.relpersistence <> 't' {} \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = o.adrelid AND a.attnum = o.adnum WHERE o.oid >= 16384",
        schema("c.relnamespace")
    );
    let of_domains = format!(
        "SELECT 2606::oid, o.oid, {nothing}, 1247::oid, o.contypid, n.nspname::text, t.typname || ' ' || o.conname FROM pg_catalog.pg_constraint o \
         JOIN pg_catalog.pg_type t ON t.oid = o.contypid {} WHERE o.oid >= 16384 AND o.contype = 'c'",
        schema("t.typnamespace")
    );
    list.extend([
        ("RELATION", relations),
        ("DEFAULT", defaults),
        ("CONSTRAINT", of_domains),
        (
            "SCHEMA",
            format!(
                "SELECT 2615::oid, o.oid, {nothing}, {nothing}, NULL::text, o.nspname::text FROM pg_catalog.pg_namespace o WHERE o.oid >= 16384 \
                 AND o.nspname !~ '^pg_(temp|toast)' AND o.nspname <> 'information_schema' AND {}",
                no_member(class::NAMESPACE, "o.oid")
            ),
        ),
        (
            "EXTENSION",
            format!("SELECT 3079::oid, o.oid, {nothing}, {nothing}, NULL::text, o.extname::text FROM pg_catalog.pg_extension o WHERE o.oid >= 16384"),
        ),
        (
            // A multirange's cast from its range is the type's own.
            "CAST",
            format!(
                "SELECT 2605::oid, o.oid, {nothing}, {nothing}, NULL::text, s.typname || ' AS ' || t.typname FROM pg_catalog.pg_cast o \
                 JOIN pg_catalog.pg_type s ON s.oid = o.castsource JOIN pg_catalog.pg_type t ON t.oid = o.casttarget WHERE o.oid >= 16384 AND {} \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 2605 AND d.objid = o.oid AND d.deptype = 'i')",
                no_member(class::CAST, "o.oid")
            ),
        ),
        (
            "TRANSFORM",
            format!(
                "SELECT 3576::oid, o.oid, {nothing}, {nothing}, NULL::text, t.typname || ' ' || l.lanname FROM pg_catalog.pg_transform o \
                 JOIN pg_catalog.pg_type t ON t.oid = o.trftype JOIN pg_catalog.pg_language l ON l.oid = o.trflang WHERE o.oid >= 16384 AND {}",
                no_member(class::TRANSFORM, "o.oid")
            ),
        ),
        (
            "USER MAPPING",
            format!(
                "SELECT 1418::oid, o.umid, {nothing}, 1417::oid, o.srvid, NULL::text, o.srvname || ' ' || o.usename FROM pg_catalog.pg_user_mappings o"
            ),
        ),
        (
            "PUBLICATION TABLE",
            format!(
                "SELECT 6106::oid, o.oid, {nothing}, 6104::oid, o.prpubid, n.nspname::text, c.relname::text FROM pg_catalog.pg_publication_rel o \
                 JOIN pg_catalog.pg_class c ON c.oid = o.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            ),
        ),
        (
            "DEFAULT ACL",
            format!(
                "SELECT 826::oid, o.oid, {nothing}, {nothing}, NULL::text, pg_catalog.pg_get_userbyid(o.defaclrole) || ' ' || o.defaclobjtype::text \
                 FROM pg_catalog.pg_default_acl o WHERE o.oid >= 16384"
            ),
        ),
    ]);
    if version >= 150_000 {
        list.push((
            "PUBLICATION TABLES IN SCHEMA",
            format!(
                "SELECT 6237::oid, o.oid, {nothing}, 6104::oid, o.pnpubid, NULL::text, n.nspname::text FROM pg_catalog.pg_publication_namespace o \
                 JOIN pg_catalog.pg_namespace n ON n.oid = o.pnnspid"
            ),
        ));
    }
    list
}
