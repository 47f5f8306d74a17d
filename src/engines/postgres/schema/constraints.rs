//! Constraints on their own: keys, exclusions, foreign keys, and CHECKs that are not printed within their container.

use super::comments::comment;
use super::node::class;
use super::options::{self, Of};
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{options_list, qualified, quote_ident};

const CONSTRAINTS: &str = include_str!("sql/constraints.sql");

pub(super) async fn constraints(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "constraints", CONSTRAINTS, &[&oids]).await? {
        let name = quote_ident(&row.text("name")?);
        let kind = row.text("kind")?;
        let mut definition = row.text("definition")?;
        let mut sql = String::new();
        let Some(table) = row.opt("table_name")? else {
            if let Some(domain) = context.graph.qualified_oid(class::TYPE, row.oid("domain")?) {
                sql.push_str(&format!("ALTER DOMAIN {domain} ADD CONSTRAINT {name} {definition};\n"));
                comment(
                    &mut sql,
                    &format!("CONSTRAINT {name} ON DOMAIN {domain}"),
                    row.opt("comment")?.as_deref(),
                );
            }
            rendered.insert(row.oid("oid")?, sql);
            continue;
        };
        let schema = row.opt("schema")?.unwrap_or_default();
        let table = qualified(&schema, &table);
        let options = options::known(
            context,
            Of::Key,
            row.list("options")?,
            &format!("{table} constraint {name}"),
        );
        if !options.is_empty() {
            // The server prints neither storage options nor the tablespace of a key; options stand before DEFERRABLE.
            let mut suffix = String::new();
            if row.flag("deferrable")? {
                suffix.push_str(" DEFERRABLE");
            }
            if row.flag("deferred")? {
                suffix.push_str(" INITIALLY DEFERRED");
            }
            let stem = definition.strip_suffix(&suffix).unwrap_or(&definition);
            definition = format!("{stem} WITH ({}){suffix}", options_list(&options, ""));
        }
        // A foreign key of a partitioned table, and a CHECK of a parent, reach the children; the others have rows of their own.
        let only =
            if matches!(kind.as_str(), "c" | "n") || (kind == "f" && row.opt("table_kind")?.as_deref() == Some("p")) {
                ""
            } else {
                "ONLY "
            };
        let space = row.opt("tablespace")?;
        if context.graph.split_keys.contains(&row.oid("oid")?) {
            let word = if kind == "p" { "PRIMARY KEY" } else { "UNIQUE" };
            definition = format!("{word} USING INDEX {name}");
        }
        if context.graph.not_valid.contains(&row.oid("oid")?) {
            definition.push_str(" NOT VALID");
        }
        let add = format!("ALTER TABLE {only}{table}\n    ADD CONSTRAINT {name} {definition};\n");
        sql.push_str(&in_tablespace(space.as_deref(), &add));
        if let Some(index) = row.opt("index_name")? {
            if row.col::<Option<bool>>("clustered")? == Some(true) {
                sql.push_str(&format!("ALTER TABLE {table} CLUSTER ON {};\n", quote_ident(&index)));
            }
            if row.col::<Option<bool>>("replica_identity")? == Some(true) {
                sql.push_str(&format!(
                    "ALTER TABLE ONLY {table} REPLICA IDENTITY USING INDEX {};\n",
                    quote_ident(&index)
                ));
            }
            let index = qualified(&schema, &index);
            column_statistics(&mut sql, &index, &row.list("statistics_targets")?);
            comment(
                &mut sql,
                &format!("INDEX {index}"),
                row.opt("index_comment")?.as_deref(),
            );
        }
        comment(
            &mut sql,
            &format!("CONSTRAINT {name} ON {table}"),
            row.opt("comment")?.as_deref(),
        );
        rendered.insert(row.oid("oid")?, sql);
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
