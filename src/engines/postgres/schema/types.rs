//! Enums, domains, composite types and ranges.

use std::collections::HashMap;

use super::comments::comment;
use super::node::class;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, qualified, quote_ident};

/// Columns every kind of type has: oid, schema, name, owner, comment.
const COMMON: &str = "t.oid, n.nspname::text, t.typname::text, pg_catalog.pg_get_userbyid(t.typowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = t.oid AND ds.classoid = 'pg_catalog.pg_type'::pg_catalog.regclass AND ds.objsubid = 0)";
const FROM: &str = "FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace";

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
    let sql = format!(
        "SELECT {COMMON}, ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) \
         {FROM} WHERE t.oid = ANY($1::oid[])"
    );
    let mut rendered = Rendered::new();
    for row in query(context.client, "enum types", &sql, &[&oids]).await? {
        let labels: Vec<String> = row.list(5)?.iter().map(|l| literal(l)).collect();
        let name = qualified(&row.text(1)?, &row.text(2)?);
        let sql = format!("CREATE TYPE {name} AS ENUM ({});\n", labels.join(", "));
        rendered.insert(row.oid(0)?, finish(context, sql, "TYPE", &name, &row)?);
    }
    Ok(rendered)
}

pub(super) async fn domains(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    // The NOT NULL of a domain has a name of its own from 17 on.
    let (not_null, join) = if context.at_least(17) {
        (
            "CASE WHEN nn.conname <> t.typname || '_not_null' OR (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = nn.oid AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND ds.objsubid = 0) IS NOT NULL THEN nn.conname::text END, \
             nn.conname::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = nn.oid AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND ds.objsubid = 0)",
            "LEFT JOIN pg_catalog.pg_constraint nn ON nn.contypid = t.oid AND nn.contype = 'n'",
        )
    } else {
        ("NULL::text, NULL::text, NULL::text", "")
    };
    let sql = format!(
        "SELECT {COMMON}, pg_catalog.format_type(t.typbasetype, t.typtypmod), cn.nspname::text, co.collname::text, \
         pg_catalog.pg_get_expr(t.typdefaultbin, 'pg_catalog.pg_type'::regclass), t.typdefault, t.typnotnull, {not_null} \
         {FROM} JOIN pg_catalog.pg_type u ON u.oid = t.typbasetype LEFT JOIN pg_catalog.pg_collation co ON co.oid = t.typcollation AND t.typcollation <> u.typcollation \
         LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace {join} WHERE t.oid = ANY($1::oid[])"
    );
    let checks_sql = "SELECT k.contypid, k.oid, k.conname::text, pg_catalog.pg_get_constraintdef(k.oid), (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = k.oid AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND ds.objsubid = 0) \
                      FROM pg_catalog.pg_constraint k WHERE k.contypid = ANY($1::oid[]) AND k.contype = 'c' ORDER BY k.conname";
    let mut checks: HashMap<u32, Vec<tokio_postgres::Row>> = HashMap::new();
    for row in query(context.client, "domain constraints", checks_sql, &[&oids]).await? {
        if context.graph.is_inline(class::CONSTRAINT, row.oid(1)?) {
            checks.entry(row.oid(0)?).or_default().push(row);
        }
    }
    let mut rendered = Rendered::new();
    for row in query(context.client, "domains", &sql, &[&oids]).await? {
        let oid = row.oid(0)?;
        let name = qualified(&row.text(1)?, &row.text(2)?);
        let mut sql = format!("CREATE DOMAIN {name} AS {}", row.text(5)?);
        if let (Some(schema), Some(collation)) = (row.opt(6)?, row.opt(7)?) {
            sql.push_str(&format!(" COLLATE {}", qualified(&schema, &collation)));
        }
        if row.flag(10)? {
            if let Some(constraint) = row.opt(11)? {
                sql.push_str(&format!(" CONSTRAINT {}", quote_ident(&constraint)));
            }
            sql.push_str(" NOT NULL");
        }
        match (row.opt(8)?, row.opt(9)?) {
            (Some(expression), _) => sql.push_str(&format!(" DEFAULT {expression}")),
            (None, Some(text)) => sql.push_str(&format!(" DEFAULT {}", literal(&text))),
            (None, None) => {}
        }
        let checks = checks.remove(&oid).unwrap_or_default();
        for check in &checks {
            sql.push_str(&format!(
                "\n    CONSTRAINT {} {}",
                quote_ident(&check.text(2)?),
                check.text(3)?
            ));
        }
        sql.push_str(";\n");
        let mut sql = finish(context, sql, "DOMAIN", &name, &row)?;
        if let Some(constraint) = row.opt(12)? {
            comment(
                &mut sql,
                &format!("CONSTRAINT {} ON DOMAIN {name}", quote_ident(&constraint)),
                row.opt(13)?.as_deref(),
            );
        }
        for check in &checks {
            comment(
                &mut sql,
                &format!("CONSTRAINT {} ON DOMAIN {name}", quote_ident(&check.text(2)?)),
                check.opt(4)?.as_deref(),
            );
        }
        rendered.insert(oid, sql);
    }
    Ok(rendered)
}

pub(super) async fn composites(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let columns_sql = "SELECT t.oid, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), cn.nspname::text, co.collname::text, \
                       (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = a.attrelid AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND ds.objsubid = a.attnum) FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid \
                       JOIN pg_catalog.pg_type u ON u.oid = a.atttypid LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation AND a.attcollation <> u.typcollation \
                       LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace \
                       WHERE t.oid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY t.oid, a.attnum";
    let mut columns: HashMap<u32, Vec<tokio_postgres::Row>> = HashMap::new();
    for row in query(context.client, "columns of composite types", columns_sql, &[&oids]).await? {
        columns.entry(row.oid(0)?).or_default().push(row);
    }
    let mut rendered = Rendered::new();
    for row in query(
        context.client,
        "composite types",
        &format!("SELECT {COMMON} {FROM} WHERE t.oid = ANY($1::oid[])"),
        &[&oids],
    )
    .await?
    {
        let oid = row.oid(0)?;
        let name = qualified(&row.text(1)?, &row.text(2)?);
        let columns = columns.remove(&oid).unwrap_or_default();
        let mut lines = Vec::new();
        for column in &columns {
            let mut line = format!("{} {}", quote_ident(&column.text(1)?), column.text(2)?);
            if let (Some(schema), Some(collation)) = (column.opt(3)?, column.opt(4)?) {
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
                &format!("COLUMN {name}.{}", quote_ident(&column.text(1)?)),
                column.opt(5)?.as_deref(),
            );
        }
        rendered.insert(oid, sql);
    }
    Ok(rendered)
}

pub(super) async fn ranges(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let (multirange, join) = if context.at_least(14) {
        (
            "mn.nspname::text, m.typname::text",
            "LEFT JOIN pg_catalog.pg_type m ON m.oid = r.rngmultitypid LEFT JOIN pg_catalog.pg_namespace mn ON mn.oid = m.typnamespace",
        )
    } else {
        ("NULL::text, NULL::text", "")
    };
    let function = |column: &str| {
        format!(
            "(SELECT pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.proname) FROM pg_catalog.pg_proc f \
             JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace WHERE f.oid = r.{column})"
        )
    };
    let sql = format!(
        "SELECT {COMMON}, pg_catalog.format_type(r.rngsubtype, NULL), {multirange}, \
         CASE WHEN NOT o.opcdefault THEN on_.nspname::text END, o.opcname::text, cn.nspname::text, co.collname::text, {}, {} \
         {FROM} JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid JOIN pg_catalog.pg_type st ON st.oid = r.rngsubtype \
         JOIN pg_catalog.pg_opclass o ON o.oid = r.rngsubopc JOIN pg_catalog.pg_namespace on_ ON on_.oid = o.opcnamespace \
         LEFT JOIN pg_catalog.pg_collation co ON co.oid = r.rngcollation AND r.rngcollation <> st.typcollation \
         LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace {join} WHERE t.oid = ANY($1::oid[])",
        function("rngcanonical"),
        function("rngsubdiff")
    );
    let mut rendered = Rendered::new();
    for row in query(context.client, "range types", &sql, &[&oids]).await? {
        let name = qualified(&row.text(1)?, &row.text(2)?);
        let mut lines = vec![format!("subtype = {}", row.text(5)?)];
        for (word, at) in [("multirange_type_name", 6), ("subtype_opclass", 8), ("collation", 10)] {
            if let (Some(schema), Some(object)) = (row.opt(at)?, row.opt(at + 1)?) {
                lines.push(format!("{word} = {}", qualified(&schema, &object)));
            }
        }
        for (word, at) in [("canonical", 12), ("subtype_diff", 13)] {
            if let Some(function) = row.opt(at)? {
                lines.push(format!("{word} = {function}"));
            }
        }
        let sql = format!("CREATE TYPE {name} AS RANGE (\n    {}\n);\n", lines.join(",\n    "));
        rendered.insert(row.oid(0)?, finish(context, sql, "TYPE", &name, &row)?);
    }
    Ok(rendered)
}

/// Appends owner and comment.
fn finish(context: &Context<'_>, mut sql: String, word: &str, name: &str, row: &tokio_postgres::Row) -> Result<String> {
    let what = format!("{word} {name}");
    context.owner(&mut sql, &what, &row.text(3)?);
    comment(&mut sql, &what, row.opt(4)?.as_deref());
    Ok(sql)
}

/// Shells that were never completed.
pub(super) async fn undefined(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = format!("SELECT {COMMON} {FROM} WHERE t.oid = ANY($1::oid[])");
    let mut rendered = Rendered::new();
    for row in query(context.client, "shell types", &sql, &[&oids]).await? {
        let name = qualified(&row.text(1)?, &row.text(2)?);
        rendered.insert(
            row.oid(0)?,
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
    let functions: Vec<String> = BASE_FUNCTIONS
        .iter()
        .map(|&(_, column)| match column {
            "typsubscript" if !context.at_least(14) => "NULL::text".to_owned(),
            _ => format!("NULLIF(t.{column}::oid, 0)::pg_catalog.regproc::text"),
        })
        .collect();
    let sql = format!(
        "SELECT {COMMON}, t.typlen, t.typbyval, t.typalign::text, t.typstorage::text, t.typcategory::text, t.typispreferred, t.typdelim::text, \
         pg_catalog.pg_get_expr(t.typdefaultbin, 0), t.typdefault, CASE WHEN t.typelem <> 0 THEN pg_catalog.format_type(t.typelem, NULL) END, \
         t.typcollation <> 0, {} {FROM} WHERE t.oid = ANY($1::oid[])",
        functions.join(", ")
    );
    let mut rendered = Rendered::new();
    for row in query(context.client, "base types", &sql, &[&oids]).await? {
        let name = qualified(&row.text(1)?, &row.text(2)?);
        let mut lines = vec![match row.col::<i16>(5)? {
            length if length < 0 => "INTERNALLENGTH = VARIABLE".to_owned(),
            length => format!("INTERNALLENGTH = {length}"),
        }];
        for (at, (word, _)) in (16..).zip(BASE_FUNCTIONS) {
            if let Some(function) = row.opt(at)? {
                lines.push(format!("{word} = {function}"));
            }
        }
        match (row.opt(12)?, row.opt(13)?) {
            (Some(expression), _) => lines.push(format!("DEFAULT = {expression}")),
            (None, Some(text)) => lines.push(format!("DEFAULT = {}", literal(&text))),
            (None, None) => {}
        }
        if let Some(element) = row.opt(14)? {
            lines.push(format!("ELEMENT = {element}"));
        }
        lines.push(format!("CATEGORY = {}", literal(&row.text(9)?)));
        if row.flag(10)? {
            lines.push("PREFERRED = true".to_owned());
        }
        lines.push(format!("DELIMITER = {}", literal(&row.text(11)?)));
        let alignment = match row.text(7)?.as_str() {
            "c" => "char",
            "s" => "int2",
            "d" => "double",
            _ => "int4",
        };
        let storage = match row.text(8)?.as_str() {
            "e" => "external",
            "x" => "extended",
            "m" => "main",
            _ => "plain",
        };
        lines.push(format!("ALIGNMENT = {alignment}"));
        lines.push(format!("STORAGE = {storage}"));
        if row.flag(6)? {
            lines.push("PASSEDBYVALUE".to_owned());
        }
        if row.flag(15)? {
            lines.push("COLLATABLE = true".to_owned());
        }
        let sql = format!("CREATE TYPE {name} (\n    {}\n);\n", lines.join(",\n    "));
        rendered.insert(row.oid(0)?, finish(context, sql, "TYPE", &name, &row)?);
    }
    Ok(rendered)
}
