//! Enums, domains, composite types and ranges.

use std::collections::HashMap;

use super::comments::comment;
use super::node::class;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, qualified, quote_ident};

const DOMAIN_CHECKS: &str = include_str!("sql/domain_checks.sql");
const COMPOSITE_COLUMNS: &str = include_str!("sql/composite_columns.sql");
const TYPES: &str = include_str!("sql/types.sql");
const ENUMS: &str = include_str!("sql/enums.sql");
const DOMAINS: &str = include_str!("sql/domains.sql");
const RANGES: &str = include_str!("sql/ranges.sql");
const BASE_TYPES: &str = include_str!("sql/base_types.sql");

pub(super) fn shells(context: &Context<'_>, oids: &[u32]) -> Rendered {
    oids.iter()
        .filter_map(|&oid| {
            Some((
                oid,
                format!("CREATE TYPE {};\n", context.graph.qualified_oid(class::TYPE, oid)?),
            ))
        })
        .collect()
}

pub(super) async fn enums(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "enum types", ENUMS, &[&oids]).await? {
        let labels: Vec<String> = row.list("labels")?.iter().map(|l| literal(l)).collect();
        let name = qualified(&row.text("schema")?, &row.text("name")?);
        let sql = format!("CREATE TYPE {name} AS ENUM ({});\n", labels.join(", "));
        rendered.insert(row.oid("oid")?, finish(context, sql, "TYPE", &name, &row)?);
    }
    Ok(rendered)
}

pub(super) async fn domains(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut checks: HashMap<u32, Vec<tokio_postgres::Row>> = HashMap::new();
    for row in query(context.client, "domain constraints", DOMAIN_CHECKS, &[&oids]).await? {
        if context.graph.is_inline(class::CONSTRAINT, row.oid("oid")?) {
            checks.entry(row.oid("domain")?).or_default().push(row);
        }
    }
    let mut rendered = Rendered::new();
    for row in query(context.client, "domains", &context.sql(DOMAINS), &[&oids]).await? {
        let oid = row.oid("oid")?;
        let name = qualified(&row.text("schema")?, &row.text("name")?);
        let mut sql = format!("CREATE DOMAIN {name} AS {}", row.text("base_type")?);
        if let (Some(schema), Some(collation)) = (row.opt("collation_schema")?, row.opt("collation_name")?) {
            sql.push_str(&format!(" COLLATE {}", qualified(&schema, &collation)));
        }
        if row.flag("not_null")? {
            if let Some(constraint) = row.opt("not_null_said")? {
                sql.push_str(&format!(" CONSTRAINT {}", quote_ident(&constraint)));
            }
            sql.push_str(" NOT NULL");
        }
        match (row.opt("default_expression")?, row.opt("default_text")?) {
            (Some(expression), _) => sql.push_str(&format!(" DEFAULT {expression}")),
            (None, Some(text)) => sql.push_str(&format!(" DEFAULT {}", literal(&text))),
            (None, None) => {}
        }
        let checks = checks.remove(&oid).unwrap_or_default();
        for check in &checks {
            sql.push_str(&format!(
                "\n    CONSTRAINT {} {}",
                quote_ident(&check.text("name")?),
                check.text("definition")?
            ));
        }
        sql.push_str(";\n");
        let mut sql = finish(context, sql, "DOMAIN", &name, &row)?;
        if let Some(constraint) = row.opt("not_null_name")? {
            comment(
                &mut sql,
                &format!("CONSTRAINT {} ON DOMAIN {name}", quote_ident(&constraint)),
                row.opt("not_null_comment")?.as_deref(),
            );
        }
        for check in &checks {
            comment(
                &mut sql,
                &format!("CONSTRAINT {} ON DOMAIN {name}", quote_ident(&check.text("name")?)),
                check.opt("comment")?.as_deref(),
            );
        }
        rendered.insert(oid, sql);
    }
    Ok(rendered)
}

pub(super) async fn composites(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut columns: HashMap<u32, Vec<tokio_postgres::Row>> = HashMap::new();
    for row in query(
        context.client,
        "columns of composite types",
        COMPOSITE_COLUMNS,
        &[&oids],
    )
    .await?
    {
        columns.entry(row.oid("type")?).or_default().push(row);
    }
    let mut rendered = Rendered::new();
    for row in query(context.client, "composite types", TYPES, &[&oids]).await? {
        let oid = row.oid("oid")?;
        let name = qualified(&row.text("schema")?, &row.text("name")?);
        let columns = columns.remove(&oid).unwrap_or_default();
        let mut lines = Vec::new();
        for column in &columns {
            let mut line = format!("{} {}", quote_ident(&column.text("name")?), column.text("column_type")?);
            if let (Some(schema), Some(collation)) = (column.opt("collation_schema")?, column.opt("collation_name")?) {
                line.push_str(&format!(" COLLATE {}", qualified(&schema, &collation)));
            }
            lines.push(line);
        }
        let body = if lines.is_empty() {
            String::new()
        } else {
            format!("\n    {}\n", lines.join(",\n    "))
        };
        let mut sql = finish(
            context,
            format!("CREATE TYPE {name} AS ({body});\n"),
            "TYPE",
            &name,
            &row,
        )?;
        for column in &columns {
            comment(
                &mut sql,
                &format!("COLUMN {name}.{}", quote_ident(&column.text("name")?)),
                column.opt("comment")?.as_deref(),
            );
        }
        rendered.insert(oid, sql);
    }
    Ok(rendered)
}

pub(super) async fn ranges(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "range types", &context.sql(RANGES), &[&oids]).await? {
        let name = qualified(&row.text("schema")?, &row.text("name")?);
        let mut lines = vec![format!("subtype = {}", row.text("subtype")?)];
        let qualified_ones = [
            ("multirange_type_name", "multirange_schema", "multirange_name"),
            ("subtype_opclass", "opclass_schema", "opclass_name"),
            ("collation", "collation_schema", "collation_name"),
        ];
        for (word, schema, name) in qualified_ones {
            if let (Some(schema), Some(object)) = (row.opt(schema)?, row.opt(name)?) {
                lines.push(format!("{word} = {}", qualified(&schema, &object)));
            }
        }
        for word in ["canonical", "subtype_diff"] {
            if let Some(function) = row.opt(word)? {
                lines.push(format!("{word} = {function}"));
            }
        }
        let sql = format!("CREATE TYPE {name} AS RANGE (\n    {}\n);\n", lines.join(",\n    "));
        rendered.insert(row.oid("oid")?, finish(context, sql, "TYPE", &name, &row)?);
    }
    Ok(rendered)
}

/// Appends owner and comment.
fn finish(context: &Context<'_>, mut sql: String, word: &str, name: &str, row: &tokio_postgres::Row) -> Result<String> {
    let what = format!("{word} {name}");
    context.owner(&mut sql, &what, &row.text("owner")?);
    comment(&mut sql, &what, row.opt("comment")?.as_deref());
    Ok(sql)
}

/// Shells that were never completed.
pub(super) async fn undefined(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "shell types", TYPES, &[&oids]).await? {
        let name = qualified(&row.text("schema")?, &row.text("name")?);
        rendered.insert(
            row.oid("oid")?,
            finish(context, format!("CREATE TYPE {name};\n"), "TYPE", &name, &row)?,
        );
    }
    Ok(rendered)
}

/// Functions of a base type: word and column.
const BASE_FUNCTIONS: [(&str, &str); 8] = [
    ("INPUT", "typinput"),
    ("OUTPUT", "typoutput"),
    ("RECEIVE", "typreceive"),
    ("SEND", "typsend"),
    ("TYPMOD_IN", "typmodin"),
    ("TYPMOD_OUT", "typmodout"),
    ("ANALYZE", "typanalyze"),
    ("SUBSCRIPT", "typsubscript"),
];

pub(super) async fn base_types(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "base types", &context.sql(BASE_TYPES), &[&oids]).await? {
        let name = qualified(&row.text("schema")?, &row.text("name")?);
        let mut lines = vec![match row.col::<i16>("length")? {
            length if length < 0 => "INTERNALLENGTH = VARIABLE".to_owned(),
            length => format!("INTERNALLENGTH = {length}"),
        }];
        for (word, column) in BASE_FUNCTIONS {
            if let Some(function) = row.opt(column)? {
                lines.push(format!("{word} = {function}"));
            }
        }
        match (row.opt("default_expression")?, row.opt("default_text")?) {
            (Some(expression), _) => lines.push(format!("DEFAULT = {expression}")),
            (None, Some(text)) => lines.push(format!("DEFAULT = {}", literal(&text))),
            (None, None) => {}
        }
        if let Some(element) = row.opt("element")? {
            lines.push(format!("ELEMENT = {element}"));
        }
        lines.push(format!("CATEGORY = {}", literal(&row.text("category")?)));
        if row.flag("preferred")? {
            lines.push("PREFERRED = true".to_owned());
        }
        lines.push(format!("DELIMITER = {}", literal(&row.text("delimiter")?)));
        let alignment = match row.text("alignment")?.as_str() {
            "c" => "char",
            "s" => "int2",
            "d" => "double",
            _ => "int4",
        };
        let storage = match row.text("storage")?.as_str() {
            "e" => "external",
            "x" => "extended",
            "m" => "main",
            _ => "plain",
        };
        lines.push(format!("ALIGNMENT = {alignment}"));
        lines.push(format!("STORAGE = {storage}"));
        if row.flag("by_value")? {
            lines.push("PASSEDBYVALUE".to_owned());
        }
        if row.flag("collatable")? {
            lines.push("COLLATABLE = true".to_owned());
        }
        let sql = format!("CREATE TYPE {name} (\n    {}\n);\n", lines.join(",\n    "));
        rendered.insert(row.oid("oid")?, finish(context, sql, "TYPE", &name, &row)?);
    }
    Ok(rendered)
}
