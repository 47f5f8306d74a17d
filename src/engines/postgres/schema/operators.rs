//! Operators, their families and classes, access methods, casts and transforms.

use std::collections::HashMap;

use super::comments::comment;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{qualified, quote_ident};

const FAMILIES: &str = include_str!("sql/operator_families.sql");
const CLASSES: &str = include_str!("sql/operator_classes.sql");
const ACCESS_METHODS: &str = include_str!("sql/access_methods.sql");
const CASTS: &str = include_str!("sql/casts.sql");
const TRANSFORMS: &str = include_str!("sql/transforms.sql");
const OPERATORS: &str = include_str!("sql/operators.sql");
const MEMBERS: &str = include_str!("sql/operator_members.sql");

pub(super) async fn operators(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "operators", OPERATORS, &[&oids]).await? {
        // An operator's name is never quoted.
        let name = format!("{}.{}", quote_ident(&row.text("schema")?), row.text("name")?);
        let (left, right) = (row.opt("left_type")?, row.opt("right_type")?);
        let mut lines = vec![format!("FUNCTION = {}", row.text("function")?)];
        let parts = [
            ("LEFTARG", left.clone()),
            ("RIGHTARG", right.clone()),
            ("COMMUTATOR", row.opt("commutator")?),
            ("NEGATOR", row.opt("negator")?),
            ("RESTRICT", row.opt("restriction")?),
            ("JOIN", row.opt("join_estimator")?),
        ];
        lines.extend(
            parts
                .into_iter()
                .filter_map(|(word, value)| Some(format!("{word} = {}", value?))),
        );
        for (column, word) in [("merges", "MERGES"), ("hashes", "HASHES")] {
            if row.flag(column)? {
                lines.push(word.to_owned());
            }
        }
        let none = || "NONE".to_owned();
        let what = format!(
            "OPERATOR {name} ({}, {})",
            left.unwrap_or_else(none),
            right.unwrap_or_else(none)
        );
        let mut sql = format!("CREATE OPERATOR {name} (\n    {}\n);\n", lines.join(",\n    "));
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

/// Reads operators and functions that depend on families (2753) or classes (2616), as items of a definition.
async fn members(context: &Context<'_>, oids: &[u32], class: u32) -> Result<HashMap<u32, Vec<String>>> {
    let mut members: HashMap<u32, Vec<String>> = HashMap::new();
    for row in query(
        context.client,
        "members of operator families",
        MEMBERS,
        &[&oids, &class],
    )
    .await?
    {
        members
            .entry(row.oid("container")?)
            .or_default()
            .push(row.text("definition")?);
    }
    Ok(members)
}

pub(super) async fn families(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut members = members(context, oids, super::node::class::OPFAMILY).await?;
    let mut rendered = Rendered::new();
    for row in query(context.client, "operator families", FAMILIES, &[&oids]).await? {
        let what = format!(
            "OPERATOR FAMILY {} USING {}",
            qualified(&row.text("schema")?, &row.text("name")?),
            quote_ident(&row.text("method")?)
        );
        let mut sql = format!("CREATE {what};\n");
        if let Some(loose) = members.remove(&row.oid("oid")?) {
            sql.push_str(&format!("ALTER {what} ADD\n    {};\n", loose.join(",\n    ")));
        }
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn classes(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut members = members(context, oids, super::node::class::OPCLASS).await?;
    let mut rendered = Rendered::new();
    for row in query(context.client, "operator classes", CLASSES, &[&oids]).await? {
        let name = qualified(&row.text("schema")?, &row.text("name")?);
        let method = quote_ident(&row.text("method")?);
        let default = if row.flag("is_default")? { "DEFAULT " } else { "" };
        let kind = row.text("input_type")?;
        let mut lines: Vec<String> = row
            .opt("key_type")?
            .map(|t| format!("STORAGE {t}"))
            .into_iter()
            .collect();
        lines.extend(members.remove(&row.oid("oid")?).unwrap_or_default());
        if lines.is_empty() {
            // The grammar wants one item; this one says nothing.
            lines.push(format!("STORAGE {kind}"));
        }
        let mut sql = format!(
            "CREATE OPERATOR CLASS {name}\n    {default}FOR TYPE {kind} USING {method} FAMILY {} AS\n    {};\n",
            qualified(&row.text("family_schema")?, &row.text("family_name")?),
            lines.join(",\n    ")
        );
        let what = format!("OPERATOR CLASS {name} USING {method}");
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn access_methods(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "access methods", ACCESS_METHODS, &[&oids]).await? {
        let what = format!("ACCESS METHOD {}", quote_ident(&row.text("name")?));
        let kind = if row.text("type")? == "i" { "INDEX" } else { "TABLE" };
        let mut sql = format!("CREATE {what} TYPE {kind} HANDLER {};\n", row.text("handler")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn casts(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "casts", CASTS, &[&oids]).await? {
        let what = format!("CAST ({} AS {})", row.text("source")?, row.text("target")?);
        let how = match (row.text("method")?.as_str(), row.opt("function")?) {
            ("f", Some(function)) => format!("WITH FUNCTION {function}"),
            ("i", _) => "WITH INOUT".to_owned(),
            _ => "WITHOUT FUNCTION".to_owned(),
        };
        let when = match row.text("context")?.as_str() {
            "a" => " AS ASSIGNMENT",
            "i" => " AS IMPLICIT",
            _ => "",
        };
        let mut sql = format!("CREATE {what} {how}{when};\n");
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn transforms(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "transforms", TRANSFORMS, &[&oids]).await? {
        let what = format!(
            "TRANSFORM FOR {} LANGUAGE {}",
            row.text("type")?,
            quote_ident(&row.text("language")?)
        );
        let parts = [("FROM SQL", row.opt("from_sql")?), ("TO SQL", row.opt("to_sql")?)];
        let functions: Vec<String> = parts
            .into_iter()
            .filter_map(|(word, function)| Some(format!("{word} WITH FUNCTION {}", function?)))
            .collect();
        let mut sql = format!("CREATE {what} ({});\n", functions.join(", "));
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}
