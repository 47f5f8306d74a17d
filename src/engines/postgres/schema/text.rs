//! Languages, collations, conversions, and the four classes of text search.

use std::collections::HashMap;

use super::comments::comment;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, qualified, quote_ident};

const LANGUAGES: &str = include_str!("sql/languages.sql");
const CONVERSIONS: &str = include_str!("sql/conversions.sql");
const DICTIONARIES: &str = include_str!("sql/text_search_dictionaries.sql");
const MAPPINGS: &str = include_str!("sql/text_search_mappings.sql");
const CONFIGURATIONS: &str = include_str!("sql/text_search_configurations.sql");
const COLLATIONS: &str = include_str!("sql/collations.sql");
const PARSERS: &str = include_str!("sql/text_search_parsers.sql");
const TEMPLATES: &str = include_str!("sql/text_search_templates.sql");

pub(super) async fn languages(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "languages", LANGUAGES, &[&oids]).await? {
        let name = quote_ident(&row.text("name")?);
        let mut sql = format!(
            "CREATE {}LANGUAGE {name}",
            if row.flag("trusted")? { "TRUSTED " } else { "" }
        );
        for (column, word) in [("handler", "HANDLER"), ("inline", "INLINE"), ("validator", "VALIDATOR")] {
            if let Some(function) = row.opt(column)? {
                sql.push_str(&format!(" {word} {function}"));
            }
        }
        sql.push_str(";\n");
        let what = format!("LANGUAGE {name}");
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn collations(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "collations", &context.sql(COLLATIONS), &[&oids]).await? {
        let what = format!("COLLATION {}", qualified(&row.text("schema")?, &row.text("name")?));
        let mut parts = Vec::new();
        match row.text("provider")?.as_str() {
            "b" => parts.push("provider = builtin".to_owned()),
            "c" => parts.push("provider = libc".to_owned()),
            "i" => parts.push("provider = icu".to_owned()),
            _ => parts.push("provider = default".to_owned()),
        }
        if !row.flag("deterministic")? {
            parts.push("deterministic = false".to_owned());
        }
        match (row.opt("locale")?, row.opt("lc_collate")?, row.opt("lc_ctype")?) {
            (Some(locale), _, _) => parts.push(format!("locale = {}", literal(&locale))),
            (None, Some(collate), Some(ctype)) if collate == ctype => {
                parts.push(format!("locale = {}", literal(&collate)));
            }
            (None, collate, ctype) => {
                parts.extend(collate.map(|c| format!("lc_collate = {}", literal(&c))));
                parts.extend(ctype.map(|c| format!("lc_ctype = {}", literal(&c))));
            }
        }
        parts.extend(row.opt("rules")?.map(|r| format!("rules = {}", literal(&r))));
        let mut sql = format!("CREATE {what} ({});\n", parts.join(", "));
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn conversions(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "conversions", CONVERSIONS, &[&oids]).await? {
        let what = format!("CONVERSION {}", qualified(&row.text("schema")?, &row.text("name")?));
        let default = if row.flag("is_default")? { "DEFAULT " } else { "" };
        let mut sql = format!(
            "CREATE {default}{what} FOR {} TO {} FROM {};\n",
            literal(&row.text("source_encoding")?),
            literal(&row.text("target_encoding")?),
            row.text("function")?
        );
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

/// Parsers and templates: nothing but functions, and owned by nobody. `functions`: their words and columns.
async fn of_functions(
    context: &Context<'_>,
    oids: &[u32],
    word: &str,
    sql: &str,
    functions: &[(&str, &str)],
) -> Result<Rendered> {
    let act = format!("text search {}s", word.to_lowercase());
    let mut rendered = Rendered::new();
    for row in query(context.client, &act, sql, &[&oids]).await? {
        let what = format!(
            "TEXT SEARCH {word} {}",
            qualified(&row.text("schema")?, &row.text("name")?)
        );
        let mut parts = Vec::new();
        for (name, column) in functions {
            parts.extend(row.opt(column)?.map(|f| format!("{name} = {f}")));
        }
        let mut sql = format!("CREATE {what} (\n    {}\n);\n", parts.join(",\n    "));
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn parsers(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let functions = [
        ("START", "start"),
        ("GETTOKEN", "gettoken"),
        ("END", "end_function"),
        ("HEADLINE", "headline"),
        ("LEXTYPES", "lextypes"),
    ];
    of_functions(context, oids, "PARSER", PARSERS, &functions).await
}

pub(super) async fn templates(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let functions = [("INIT", "init"), ("LEXIZE", "lexize")];
    of_functions(context, oids, "TEMPLATE", TEMPLATES, &functions).await
}

pub(super) async fn dictionaries(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "text search dictionaries", DICTIONARIES, &[&oids]).await? {
        let what = format!(
            "TEXT SEARCH DICTIONARY {}",
            qualified(&row.text("schema")?, &row.text("name")?)
        );
        let mut parts = vec![format!(
            "TEMPLATE = {}",
            qualified(&row.text("template_schema")?, &row.text("template_name")?)
        )];
        // Stored in the form in which it is written.
        parts.extend(row.opt("options")?.filter(|o| !o.is_empty()));
        let mut sql = format!("CREATE {what} (\n    {}\n);\n", parts.join(",\n    "));
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn configurations(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut mapped: HashMap<u32, Vec<(String, String)>> = HashMap::new();
    for row in query(context.client, "text search mappings", MAPPINGS, &[&oids]).await? {
        mapped
            .entry(row.oid("configuration")?)
            .or_default()
            .push((row.text("token")?, row.text("dictionaries")?));
    }
    let mut rendered = Rendered::new();
    for row in query(context.client, "text search configurations", CONFIGURATIONS, &[&oids]).await? {
        let oid = row.oid("oid")?;
        let what = format!(
            "TEXT SEARCH CONFIGURATION {}",
            qualified(&row.text("schema")?, &row.text("name")?)
        );
        let mut sql = format!(
            "CREATE {what} (\n    PARSER = {}\n);\n",
            qualified(&row.text("parser_schema")?, &row.text("parser_name")?)
        );
        for (token, dictionaries) in mapped.remove(&oid).unwrap_or_default() {
            sql.push_str(&format!(
                "ALTER {what} ADD MAPPING FOR {} WITH {dictionaries};\n",
                quote_ident(&token)
            ));
        }
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(oid, sql);
    }
    Ok(rendered)
}
