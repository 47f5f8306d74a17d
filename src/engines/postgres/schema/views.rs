//! Views, placeholders for views in loops, materialized views and their refresh.

use std::collections::HashMap;

use super::comments::comment;
use super::extensions::{needed_column, needs};
use super::node::{class, flag};
use super::options::{self, Of};
use super::rows::{Columns, query};
use super::write::{Context, Rendered, relation};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{options_list, qualified, quote_ident};

struct ViewColumn {
    name: String,
    kind: String,
    collation: Option<String>,
    comment: Option<String>,
}

/// Writes views: whole ones and placeholders before the data (`body` false), definitions of placeholders after it.
pub(super) async fn views(context: &Context<'_>, oids: &[u32], body: bool) -> Result<Rendered> {
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text, pg_catalog.pg_get_viewdef(c.oid), c.reloptions, pg_catalog.pg_get_userbyid(c.relowner)::text, \
               (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = c.oid AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND ds.objsubid = 0) \
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1::oid[])";
    let mut columns = columns(context, oids).await?;
    let mut rendered = Rendered::new();
    for row in query(context.client, "views", sql, &[&oids]).await? {
        let oid = row.oid(0)?;
        let name = qualified(&row.text(1)?, &row.text(2)?);
        let columns = columns.remove(&oid).unwrap_or_default();
        let split = context
            .graph
            .find(class::RELATION, oid)
            .and_then(|i| context.graph.node(i))
            .is_some_and(|n| n.has(flag::PLACEHOLDER));
        let mut sql = if split && !body {
            placeholder(&name, &columns)
        } else {
            let options = options::known(context, Of::View, row.list(4)?, &name);
            definition(&name, &row.text(3)?, &options, body)
        };
        if !body {
            context.owner(&mut sql, &format!("VIEW {name}"), &row.text(5)?);
            comments(&mut sql, "VIEW", &name, row.opt(6)?.as_deref(), &columns);
        }
        rendered.insert(oid, sql);
    }
    Ok(rendered)
}

fn definition(name: &str, text: &str, options: &[String], replace: bool) -> String {
    let mut kept = Vec::new();
    let mut check = String::new();
    for option in options {
        match option.strip_prefix("check_option=") {
            Some(how) => check = format!("\n  WITH {} CHECK OPTION", how.to_uppercase()),
            None => kept.push(option.clone()),
        }
    }
    let with = if kept.is_empty() {
        String::new()
    } else {
        format!(" WITH ({})", options_list(&kept, ""))
    };
    let verb = if replace { "CREATE OR REPLACE" } else { "CREATE" };
    format!("{verb} VIEW {name}{with} AS\n{}{check};\n", body_text(text))
}

fn body_text(text: &str) -> &str {
    let text = text.trim_end();
    text.strip_suffix(';').unwrap_or(text)
}

fn placeholder(name: &str, columns: &[ViewColumn]) -> String {
    let one = |c: &ViewColumn| {
        let collation = c
            .collation
            .as_deref()
            .map(|c| format!(" COLLATE {c}"))
            .unwrap_or_default();
        format!("NULL::{}{collation} AS {}", c.kind, quote_ident(&c.name))
    };
    format!(
        "CREATE VIEW {name} AS\nSELECT\n    {};\n",
        columns.iter().map(one).collect::<Vec<_>>().join(",\n    ")
    )
}

fn comments(sql: &mut String, word: &str, name: &str, text: Option<&str>, columns: &[ViewColumn]) {
    comment(sql, &format!("{word} {name}"), text);
    for column in columns {
        comment(
            sql,
            &format!("COLUMN {name}.{}", quote_ident(&column.name)),
            column.comment.as_deref(),
        );
    }
}

async fn columns(context: &Context<'_>, oids: &[u32]) -> Result<HashMap<u32, Vec<ViewColumn>>> {
    let sql = "SELECT a.attrelid, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), cn.nspname::text, co.collname::text, \
               (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = a.attrelid AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND ds.objsubid = a.attnum) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
               LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation AND a.attcollation <> t.typcollation \
               LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace \
               WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum";
    let mut columns: HashMap<u32, Vec<ViewColumn>> = HashMap::new();
    for row in query(context.client, "view columns", sql, &[&oids]).await? {
        let collation = match (row.opt(3)?, row.opt(4)?) {
            (Some(schema), Some(name)) => Some(qualified(&schema, &name)),
            _ => None,
        };
        let column = ViewColumn {
            name: row.text(1)?,
            kind: row.text(2)?,
            collation,
            comment: row.opt(5)?,
        };
        columns.entry(row.oid(0)?).or_default().push(column);
    }
    Ok(columns)
}

pub(super) async fn matviews(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let compression = context.since(
        14,
        "CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END",
        "NULL",
    );
    let settings = format!(
        "ARRAY(SELECT pg_catalog.quote_ident(a.attname) || ' SET ' || x.what FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid, LATERAL (VALUES \
         (CASE WHEN a.attstattarget >= 0 THEN 'STATISTICS ' || a.attstattarget END), \
         (CASE WHEN a.attstorage <> t.typstorage THEN 'STORAGE ' || CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'x' THEN 'EXTENDED' ELSE 'MAIN' END END), \
         ('COMPRESSION ' || {compression})) x(what) WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND x.what IS NOT NULL ORDER BY a.attnum)"
    );
    let sql = format!(
        "SELECT c.oid, n.nspname::text, c.relname::text, pg_catalog.pg_get_viewdef(c.oid), c.reloptions, t.reloptions, am.amname::text, ts.spcname::text, \
         pg_catalog.pg_get_userbyid(c.relowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = c.oid AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND ds.objsubid = 0), {settings}, {}, {}, {} \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam \
         LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = c.reltablespace WHERE c.oid = ANY($1::oid[])",
        needed_column(class::RELATION, "c.oid"),
        column_options("a.attname::text"),
        column_options("x.stored")
    );
    let mut columns = columns(context, oids).await?;
    let mut rendered = Rendered::new();
    for row in query(context.client, "materialized views", &sql, &[&oids]).await? {
        let oid = row.oid(0)?;
        let name = qualified(&row.text(1)?, &row.text(2)?);
        let what = format!("MATERIALIZED VIEW {name}");
        let mut sql = format!("CREATE {what}");
        if let Some(am) = row.opt(6)?.filter(|am| am != "heap") {
            sql.push_str(&format!(" USING {}", quote_ident(&am)));
        }
        let options = options::of_table(context, row.list(4)?, row.list(5)?, &name);
        if !options.is_empty() {
            sql.push_str(&format!(" WITH ({options})"));
        }
        if let Some(space) = row.opt(7)? {
            sql.push_str(&format!(" TABLESPACE {}", quote_ident(&space)));
        }
        sql.push_str(&format!(" AS\n{}\n  WITH NO DATA;\n", body_text(&row.text(3)?)));
        for setting in row.list(10)? {
            sql.push_str(&format!("ALTER {what} ALTER COLUMN {setting};\n"));
        }
        for (column, option) in row.list(12)?.iter().zip(row.list(13)?) {
            let column = quote_ident(column);
            let options = options::known(context, Of::Column, vec![option], &format!("{what} column {column}"));
            if !options.is_empty() {
                sql.push_str(&format!(
                    "ALTER {what} ALTER COLUMN {column} SET ({});\n",
                    options_list(&options, "")
                ));
            }
        }
        context.owner(&mut sql, &what, &row.text(8)?);
        needs(&mut sql, &what, &row.list(11)?);
        comments(
            &mut sql,
            "MATERIALIZED VIEW",
            &name,
            row.opt(9)?.as_deref(),
            &columns.remove(&oid).unwrap_or_default(),
        );
        rendered.insert(oid, sql);
    }
    Ok(rendered)
}

/// A column of a query: `what` of each option of a column of relation `c`.
fn column_options(what: &str) -> String {
    format!(
        "ARRAY(SELECT {what} FROM pg_catalog.pg_attribute a, pg_catalog.unnest(a.attoptions) x(stored) \
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum, x.stored)"
    )
}

pub(super) fn refreshes(context: &Context<'_>, oids: &[u32]) -> Rendered {
    // What row security let its owner see when it was filled, it shall let it see again.
    let refresh = |oid: u32| {
        let name = relation(context, oid)?;
        let sql = format!("SET row_security = on;\nREFRESH MATERIALIZED VIEW {name};\nSET row_security = off;\n");
        Some((oid, sql))
    };
    oids.iter().filter_map(|&oid| refresh(oid)).collect()
}
