//! Constraints on their own: keys, exclusions, foreign keys, and CHECKs that are not printed within their container.

use super::comments::comment;
use super::node::class;
use super::options::{self, Of};
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{options_list, qualified, quote_ident};

pub(super) async fn constraints(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT k.oid, k.conname::text, k.contype::text, pg_catalog.pg_get_constraintdef(k.oid), k.condeferrable, k.condeferred, \
               (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = k.oid AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND ds.objsubid = 0), n.nspname::text, c.relname::text, c.relkind::text, \
               i.reloptions, ts.spcname::text, x.indisclustered, x.indisreplident, ic.relname::text, k.contypid, \
               ARRAY(SELECT a.attnum || ' ' || a.attstattarget FROM pg_catalog.pg_attribute a WHERE a.attrelid = k.conindid AND a.attstattarget >= 0 AND k.contype IN ('p', 'u', 'x') ORDER BY a.attnum), \
               (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = ic.oid AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND ds.objsubid = 0) \
               FROM pg_catalog.pg_constraint k LEFT JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
               LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               LEFT JOIN pg_catalog.pg_class i ON i.oid = k.conindid AND k.contype IN ('p', 'u') \
               LEFT JOIN pg_catalog.pg_class ic ON ic.oid = k.conindid AND k.contype IN ('p', 'u', 'x') \
               LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = ic.reltablespace \
               LEFT JOIN pg_catalog.pg_index x ON x.indexrelid = ic.oid WHERE k.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "constraints", sql, &[&oids]).await? {
        let name = quote_ident(&row.text(1)?);
        let kind = row.text(2)?;
        let mut definition = row.text(3)?;
        let mut sql = String::new();
        let Some(table) = row.opt(8)? else {
            if let Some(domain) = context.graph.qualified_oid(class::TYPE, row.oid(15)?) {
                sql.push_str(&format!("ALTER DOMAIN {domain} ADD CONSTRAINT {name} {definition};\n"));
                comment(
                    &mut sql,
                    &format!("CONSTRAINT {name} ON DOMAIN {domain}"),
                    row.opt(6)?.as_deref(),
                );
            }
            rendered.insert(row.oid(0)?, sql);
            continue;
        };
        let schema = row.opt(7)?.unwrap_or_default();
        let table = qualified(&schema, &table);
        let options = options::known(context, Of::Key, row.list(10)?, &format!("{table} constraint {name}"));
        if !options.is_empty() {
            // The server prints neither storage options nor the tablespace of a key; options stand before DEFERRABLE.
            let mut suffix = String::new();
            if row.flag(4)? {
                suffix.push_str(" DEFERRABLE");
            }
            if row.flag(5)? {
                suffix.push_str(" INITIALLY DEFERRED");
            }
            let stem = definition.strip_suffix(&suffix).unwrap_or(&definition);
            definition = format!("{stem} WITH ({}){suffix}", options_list(&options, ""));
        }
        // A foreign key of a partitioned table, and a CHECK of a parent, reach the children; the others have rows of their own.
        let only = if matches!(kind.as_str(), "c" | "n") || (kind == "f" && row.opt(9)?.as_deref() == Some("p")) {
            ""
        } else {
            "ONLY "
        };
        let space = row.opt(11)?;
        if context.graph.split_keys.contains(&row.oid(0)?) {
            let word = if kind == "p" { "PRIMARY KEY" } else { "UNIQUE" };
            definition = format!("{word} USING INDEX {name}");
        }
        if context.graph.not_valid.contains(&row.oid(0)?) {
            definition.push_str(" NOT VALID");
        }
        let add = format!("ALTER TABLE {only}{table}\n    ADD CONSTRAINT {name} {definition};\n");
        sql.push_str(&in_tablespace(space.as_deref(), &add));
        if let Some(index) = row.opt(14)? {
            if row.col::<Option<bool>>(12)? == Some(true) {
                sql.push_str(&format!("ALTER TABLE {table} CLUSTER ON {};\n", quote_ident(&index)));
            }
            if row.col::<Option<bool>>(13)? == Some(true) {
                sql.push_str(&format!(
                    "ALTER TABLE ONLY {table} REPLICA IDENTITY USING INDEX {};\n",
                    quote_ident(&index)
                ));
            }
            let index = qualified(&schema, &index);
            column_statistics(&mut sql, &index, &row.list(16)?);
            comment(&mut sql, &format!("INDEX {index}"), row.opt(17)?.as_deref());
        }
        comment(
            &mut sql,
            &format!("CONSTRAINT {name} ON {table}"),
            row.opt(6)?.as_deref(),
        );
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

/// Wraps a statement whose grammar has no place for the tablespace.
pub(super) fn in_tablespace(space: Option<&str>, statement: &str) -> String {
    match space {
        Some(space) => format!(
            "SET default_tablespace = {};\n{statement}SET default_tablespace = '';\n",
            quote_ident(space)
        ),
        None => statement.to_owned(),
    }
}

/// Appends statistics targets of an index's columns (`"attnum target"`).
pub(super) fn column_statistics(sql: &mut String, index: &str, targets: &[String]) {
    for (column, target) in targets.iter().filter_map(|t| t.split_once(' ')) {
        sql.push_str(&format!(
            "ALTER INDEX {index} ALTER COLUMN {column} SET STATISTICS {target};\n"
        ));
    }
}
