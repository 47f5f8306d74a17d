//! Indexes without a constraint, attachments of partition indexes, extended statistics.

use super::comments::comment;
use super::constraints::{column_statistics, in_tablespace};
use super::extensions::needs;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{qualified, quote_ident};

const KEY_INDEXES: &str = include_str!("sql/key_indexes.sql");
const INDEX_PARTITIONS: &str = include_str!("sql/index_partitions.sql");
const EXTENDED_STATISTICS: &str = include_str!("sql/extended_statistics.sql");
const INDEXES: &str = include_str!("sql/indexes.sql");

pub(super) async fn indexes(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "indexes", INDEXES, &[&oids]).await? {
        let name = row.text("name")?;
        let index = qualified(&row.text("schema")?, &name);
        let table = qualified(&row.text("table_schema")?, &row.text("table_name")?);
        let mut sql = in_tablespace(
            row.opt("tablespace")?.as_deref(),
            &format!("{};\n", row.text("definition")?),
        );
        column_statistics(&mut sql, &index, &row.list("statistics_targets")?);
        if row.flag("clustered")? {
            sql.push_str(&format!("ALTER TABLE {table} CLUSTER ON {};\n", quote_ident(&name)));
        }
        if row.flag("replica_identity")? {
            sql.push_str(&format!(
                "ALTER TABLE ONLY {table} REPLICA IDENTITY USING INDEX {};\n",
                quote_ident(&name)
            ));
        }
        needs(&mut sql, &format!("INDEX {index}"), &row.list("needed_extensions")?);
        comment(&mut sql, &format!("INDEX {index}"), row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

/// The indexes of keys of large tables, by the oids of their constraints.
pub(super) async fn of_keys(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "indexes of keys", KEY_INDEXES, &[&oids]).await? {
        let sql = in_tablespace(
            row.opt("tablespace")?.as_deref(),
            &format!("{};\n", row.text("definition")?),
        );
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn attachments(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "partition indexes", INDEX_PARTITIONS, &[&oids]).await? {
        let child = qualified(&row.text("schema")?, &row.text("name")?);
        let parent = qualified(&row.text("parent_schema")?, &row.text("parent_name")?);
        rendered.insert(
            row.oid("oid")?,
            format!("ALTER INDEX {parent} ATTACH PARTITION {child};\n"),
        );
    }
    Ok(rendered)
}

pub(super) async fn statistics(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "extended statistics", EXTENDED_STATISTICS, &[&oids]).await? {
        let what = format!("STATISTICS {}", qualified(&row.text("schema")?, &row.text("name")?));
        let mut sql = format!("{};\n", row.text("definition")?);
        context.owner(&mut sql, &what, &row.text("owner")?);
        let target: i32 = row.col("target")?;
        if target >= 0 {
            sql.push_str(&format!("ALTER {what} SET STATISTICS {target};\n"));
        }
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}
