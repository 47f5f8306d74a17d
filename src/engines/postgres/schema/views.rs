//! Views, placeholders for views in loops, materialized views and their refresh.

use std::collections::HashMap;

use super::comments::comment;
use super::extensions::needs;
use super::node::{class, flag};
use super::options::{self, Of};
use super::rows::{Columns, query};
use super::write::{Context, Rendered, relation};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{options_list, qualified, quote_ident};

const VIEWS: &str = include_str!("sql/views.sql");
const COLUMNS: &str = include_str!("sql/view_columns.sql");
const MATVIEWS: &str = include_str!("sql/materialized_views.sql");

struct ViewColumn {
    name: String,
    kind: String,
    collation: Option<String>,
    comment: Option<String>,
}

/// Writes views: whole ones and placeholders before the data (`body` false), definitions of placeholders after it.
pub(super) async fn views(context: &Context<'_>, oids: &[u32], body: bool) -> Result<Rendered> {
    let mut columns = columns(context, oids).await?;
    let mut rendered = Rendered::new();
    for row in query(context.client, "views", VIEWS, &[&oids]).await? {
        let oid = row.oid("oid")?;
        let name = qualified(&row.text("schema")?, &row.text("name")?);
        let columns = columns.remove(&oid).unwrap_or_default();
        let split = context
            .graph
            .find(class::RELATION, oid)
            .and_then(|i| context.graph.node(i))
            .is_some_and(|n| n.has(flag::PLACEHOLDER));
        let mut sql = if split && !body {
            placeholder(&name, &columns)
        } else {
            let options = options::known(context, Of::View, row.list("options")?, &name);
            definition(&name, &row.text("definition")?, &options, body)
        };
        if !body {
            context.owner(&mut sql, &format!("VIEW {name}"), &row.text("owner")?);
            comments(&mut sql, "VIEW", &name, row.opt("comment")?.as_deref(), &columns);
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
    let mut columns: HashMap<u32, Vec<ViewColumn>> = HashMap::new();
    for row in query(context.client, "view columns", COLUMNS, &[&oids]).await? {
        let collation = match (row.opt("collation_schema")?, row.opt("collation_name")?) {
            (Some(schema), Some(name)) => Some(qualified(&schema, &name)),
            _ => None,
        };
        let column = ViewColumn {
            name: row.text("name")?,
            kind: row.text("type")?,
            collation,
            comment: row.opt("comment")?,
        };
        columns.entry(row.oid("relation")?).or_default().push(column);
    }
    Ok(columns)
}

pub(super) async fn matviews(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut columns = columns(context, oids).await?;
    let mut rendered = Rendered::new();
    for row in query(context.client, "materialized views", &context.sql(MATVIEWS), &[&oids]).await? {
        let oid = row.oid("oid")?;
        let name = qualified(&row.text("schema")?, &row.text("name")?);
        let what = format!("MATERIALIZED VIEW {name}");
        let mut sql = format!("CREATE {what}");
        if let Some(am) = row.opt("method")?.filter(|am| am != "heap") {
            sql.push_str(&format!(" USING {}", quote_ident(&am)));
        }
        let options = options::of_table(context, row.list("options")?, row.list("toast_options")?, &name);
        if !options.is_empty() {
            sql.push_str(&format!(" WITH ({options})"));
        }
        if let Some(space) = row.opt("tablespace")? {
            sql.push_str(&format!(" TABLESPACE {}", quote_ident(&space)));
        }
        sql.push_str(&format!(
            " AS\n{}\n  WITH NO DATA;\n",
            body_text(&row.text("definition")?)
        ));
        for setting in row.list("settings")? {
            sql.push_str(&format!("ALTER {what} ALTER COLUMN {setting};\n"));
        }
        for (column, option) in row.list("optioned_columns")?.iter().zip(row.list("column_options")?) {
            let column = quote_ident(column);
            let options = options::known(context, Of::Column, vec![option], &format!("{what} column {column}"));
            if !options.is_empty() {
                sql.push_str(&format!(
                    "ALTER {what} ALTER COLUMN {column} SET ({});\n",
                    options_list(&options, "")
                ));
            }
        }
        context.owner(&mut sql, &what, &row.text("owner")?);
        needs(&mut sql, &what, &row.list("needed_extensions")?);
        comments(
            &mut sql,
            "MATERIALIZED VIEW",
            &name,
            row.opt("comment")?.as_deref(),
            &columns.remove(&oid).unwrap_or_default(),
        );
        rendered.insert(oid, sql);
    }
    Ok(rendered)
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
