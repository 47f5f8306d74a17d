//! Indexes without a constraint, attachments of partition indexes, extended statistics.

use super::comments::comment;
use super::constraints::{column_statistics, in_tablespace};
use super::extensions::{needed_column, needs};
use super::node::class;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{qualified, quote_ident};

pub(super) async fn indexes(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = format!(
        "SELECT i.indexrelid, pg_catalog.pg_get_indexdef(i.indexrelid), n.nspname::text, c.relname::text, tn.nspname::text, t.relname::text, \
               i.indisclustered, i.indisreplident, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = c.oid AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND ds.objsubid = 0), ts.spcname::text, \
               ARRAY(SELECT a.attnum || ' ' || a.attstattarget FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attstattarget >= 0 ORDER BY a.attnum), \
               {} FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               JOIN pg_catalog.pg_class t ON t.oid = i.indrelid JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace \
               LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = c.reltablespace WHERE i.indexrelid = ANY($1::oid[])",
        needed_column(class::RELATION, "c.oid")
    );
    let mut rendered = Rendered::new();
    for row in query(context.client, "indexes", &sql, &[&oids]).await? {
        let name = row.text(3)?;
        let index = qualified(&row.text(2)?, &name);
        let table = qualified(&row.text(4)?, &row.text(5)?);
        let mut sql = in_tablespace(row.opt(9)?.as_deref(), &format!("{};\n", row.text(1)?));
        column_statistics(&mut sql, &index, &row.list(10)?);
        if row.flag(6)? {
            sql.push_str(&format!("ALTER TABLE {table} CLUSTER ON {};\n", quote_ident(&name)));
        }
        if row.flag(7)? {
            sql.push_str(&format!(
                "ALTER TABLE ONLY {table} REPLICA IDENTITY USING INDEX {};\n",
                quote_ident(&name)
            ));
        }
        needs(&mut sql, &format!("INDEX {index}"), &row.list(11)?);
        comment(&mut sql, &format!("INDEX {index}"), row.opt(8)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

/// The indexes of keys of large tables, by the oids of their constraints.
pub(super) async fn of_keys(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT k.oid, pg_catalog.pg_get_indexdef(k.conindid), ts.spcname::text FROM pg_catalog.pg_constraint k \
               JOIN pg_catalog.pg_class c ON c.oid = k.conindid LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = c.reltablespace \
               WHERE k.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "indexes of keys", sql, &[&oids]).await? {
        let sql = in_tablespace(row.opt(2)?.as_deref(), &format!("{};\n", row.text(1)?));
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn attachments(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT c.oid, cn.nspname::text, c.relname::text, pn.nspname::text, p.relname::text FROM pg_catalog.pg_inherits i \
               JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace \
               JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace \
               WHERE i.inhrelid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "partition indexes", sql, &[&oids]).await? {
        let child = qualified(&row.text(1)?, &row.text(2)?);
        let parent = qualified(&row.text(3)?, &row.text(4)?);
        rendered.insert(row.oid(0)?, format!("ALTER INDEX {parent} ATTACH PARTITION {child};\n"));
    }
    Ok(rendered)
}

pub(super) async fn statistics(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT s.oid, pg_catalog.pg_get_statisticsobjdef(s.oid), n.nspname::text, s.stxname::text, COALESCE(s.stxstattarget, -1)::int4, \
               pg_catalog.pg_get_userbyid(s.stxowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = s.oid AND ds.classoid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND ds.objsubid = 0) \
               FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace WHERE s.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "extended statistics", sql, &[&oids]).await? {
        let what = format!("STATISTICS {}", qualified(&row.text(2)?, &row.text(3)?));
        let mut sql = format!("{};\n", row.text(1)?);
        context.owner(&mut sql, &what, &row.text(5)?);
        let target: i32 = row.col(4)?;
        if target >= 0 {
            sql.push_str(&format!("ALTER {what} SET STATISTICS {target};\n"));
        }
        comment(&mut sql, &what, row.opt(6)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}
