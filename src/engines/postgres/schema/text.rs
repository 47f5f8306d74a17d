//! Languages, collations, conversions, and the four classes of text search.

use std::collections::HashMap;

use super::comments::comment;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, qualified, quote_ident};

pub(super) async fn languages(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT l.oid, l.lanname::text, l.lanpltrusted, NULLIF(l.lanplcallfoid, 0)::pg_catalog.regproc::text, \
               NULLIF(l.laninline, 0)::pg_catalog.regproc::text, NULLIF(l.lanvalidator, 0)::pg_catalog.regproc::text, \
               pg_catalog.pg_get_userbyid(l.lanowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = l.oid AND ds.classoid = 'pg_catalog.pg_language'::pg_catalog.regclass AND ds.objsubid = 0) \
               FROM pg_catalog.pg_language l WHERE l.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "languages", sql, &[&oids]).await? {
        let name = quote_ident(&row.text(1)?);
        let mut sql = format!("CREATE {}LANGUAGE {name}", if row.flag(2)? { "TRUSTED " } else { "" });
        for (at, word) in [(3, "HANDLER"), (4, "INLINE"), (5, "VALIDATOR")] {
            if let Some(function) = row.opt(at)? {
                sql.push_str(&format!(" {word} {function}"));
            }
        }
        sql.push_str(";\n");
        let what = format!("LANGUAGE {name}");
        context.owner(&mut sql, &what, &row.text(6)?);
        comment(&mut sql, &what, row.opt(7)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn collations(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    // One column until 14, two until 16, renamed in 17. Versions are not carried: they are the target's.
    let locale = match context.graph.version {
        170_000.. => "c.colllocale",
        150_000.. => "c.colliculocale",
        _ => "CASE WHEN c.collprovider = 'i' THEN c.collcollate::text END",
    };
    let rules = context.since(16, "c.collicurules", "NULL");
    let sql = format!(
        "SELECT c.oid, n.nspname::text, c.collname::text, pg_catalog.pg_get_userbyid(c.collowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = c.oid AND ds.classoid = 'pg_catalog.pg_collation'::pg_catalog.regclass AND ds.objsubid = 0), \
         c.collprovider::text, c.collisdeterministic, c.collcollate::text, c.collctype::text, {locale}::text, {rules}::text \
         FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = ANY($1::oid[])"
    );
    let mut rendered = Rendered::new();
    for row in query(context.client, "collations", &sql, &[&oids]).await? {
        let what = format!("COLLATION {}", qualified(&row.text(1)?, &row.text(2)?));
        let mut parts = Vec::new();
        match row.text(5)?.as_str() {
            "b" => parts.push("provider = builtin".to_owned()),
            "c" => parts.push("provider = libc".to_owned()),
            "i" => parts.push("provider = icu".to_owned()),
            _ => parts.push("provider = default".to_owned()),
        }
        if !row.flag(6)? {
            parts.push("deterministic = false".to_owned());
        }
        match (row.opt(9)?, row.opt(7)?, row.opt(8)?) {
            (Some(locale), _, _) => parts.push(format!("locale = {}", literal(&locale))),
            (None, Some(collate), Some(ctype)) if collate == ctype => {
                parts.push(format!("locale = {}", literal(&collate)));
            }
            (None, collate, ctype) => {
                parts.extend(collate.map(|c| format!("lc_collate = {}", literal(&c))));
                parts.extend(ctype.map(|c| format!("lc_ctype = {}", literal(&c))));
            }
        }
        parts.extend(row.opt(10)?.map(|r| format!("rules = {}", literal(&r))));
        let mut sql = format!("CREATE {what} ({});\n", parts.join(", "));
        context.owner(&mut sql, &what, &row.text(3)?);
        comment(&mut sql, &what, row.opt(4)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn conversions(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT c.oid, n.nspname::text, c.conname::text, pg_catalog.pg_get_userbyid(c.conowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = c.oid AND ds.classoid = 'pg_catalog.pg_conversion'::pg_catalog.regclass AND ds.objsubid = 0), \
               c.condefault, pg_catalog.pg_encoding_to_char(c.conforencoding)::text, pg_catalog.pg_encoding_to_char(c.contoencoding)::text, c.conproc::text \
               FROM pg_catalog.pg_conversion c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace WHERE c.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "conversions", sql, &[&oids]).await? {
        let what = format!("CONVERSION {}", qualified(&row.text(1)?, &row.text(2)?));
        let default = if row.flag(5)? { "DEFAULT " } else { "" };
        let mut sql = format!(
            "CREATE {default}{what} FOR {} TO {} FROM {};\n",
            literal(&row.text(6)?),
            literal(&row.text(7)?),
            row.text(8)?
        );
        context.owner(&mut sql, &what, &row.text(3)?);
        comment(&mut sql, &what, row.opt(4)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

/// Parsers and templates: nothing but functions, and owned by nobody.
async fn of_functions(
    context: &Context<'_>,
    oids: &[u32],
    word: &str,
    catalog: &str,
    prefix: &str,
    functions: &[(&str, &str)],
) -> Result<Rendered> {
    let columns: Vec<String> = functions
        .iter()
        .map(|(_, column)| format!(", NULLIF(o.{prefix}{column}::oid, 0)::pg_catalog.regproc::text"))
        .collect();
    let sql = format!(
        "SELECT o.oid, n.nspname::text, o.{prefix}name::text, pg_catalog.obj_description(o.oid, '{catalog}'){} FROM pg_catalog.{catalog} o \
         JOIN pg_catalog.pg_namespace n ON n.oid = o.{prefix}namespace WHERE o.oid = ANY($1::oid[])",
        columns.concat()
    );
    let mut rendered = Rendered::new();
    for row in query(context.client, catalog, &sql, &[&oids]).await? {
        let what = format!("TEXT SEARCH {word} {}", qualified(&row.text(1)?, &row.text(2)?));
        let mut parts = Vec::new();
        for (at, (name, _)) in (4..).zip(functions) {
            parts.extend(row.opt(at)?.map(|f| format!("{name} = {f}")));
        }
        let mut sql = format!("CREATE {what} (\n    {}\n);\n", parts.join(",\n    "));
        comment(&mut sql, &what, row.opt(3)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn parsers(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let functions = [
        ("START", "start"),
        ("GETTOKEN", "token"),
        ("END", "end"),
        ("HEADLINE", "headline"),
        ("LEXTYPES", "lextype"),
    ];
    of_functions(context, oids, "PARSER", "pg_ts_parser", "prs", &functions).await
}

pub(super) async fn templates(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let functions = [("INIT", "init"), ("LEXIZE", "lexize")];
    of_functions(context, oids, "TEMPLATE", "pg_ts_template", "tmpl", &functions).await
}

pub(super) async fn dictionaries(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT d.oid, n.nspname::text, d.dictname::text, pg_catalog.pg_get_userbyid(d.dictowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = d.oid AND ds.classoid = 'pg_catalog.pg_ts_dict'::pg_catalog.regclass AND ds.objsubid = 0), \
               tn.nspname::text, t.tmplname::text, d.dictinitoption FROM pg_catalog.pg_ts_dict d JOIN pg_catalog.pg_namespace n ON n.oid = d.dictnamespace \
               JOIN pg_catalog.pg_ts_template t ON t.oid = d.dicttemplate JOIN pg_catalog.pg_namespace tn ON tn.oid = t.tmplnamespace WHERE d.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "text search dictionaries", sql, &[&oids]).await? {
        let what = format!("TEXT SEARCH DICTIONARY {}", qualified(&row.text(1)?, &row.text(2)?));
        let mut parts = vec![format!("TEMPLATE = {}", qualified(&row.text(5)?, &row.text(6)?))];
        // Stored in the form in which it is written.
        parts.extend(row.opt(7)?.filter(|o| !o.is_empty()));
        let mut sql = format!("CREATE {what} (\n    {}\n);\n", parts.join(",\n    "));
        context.owner(&mut sql, &what, &row.text(3)?);
        comment(&mut sql, &what, row.opt(4)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn configurations(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mappings = "SELECT m.mapcfg, k.alias, pg_catalog.string_agg(pg_catalog.quote_ident(dn.nspname) || '.' || pg_catalog.quote_ident(d.dictname), ', ' ORDER BY m.mapseqno) \
                    FROM pg_catalog.pg_ts_config c JOIN pg_catalog.pg_ts_config_map m ON m.mapcfg = c.oid \
                    JOIN LATERAL pg_catalog.ts_token_type(c.cfgparser) k ON k.tokid = m.maptokentype JOIN pg_catalog.pg_ts_dict d ON d.oid = m.mapdict \
                    JOIN pg_catalog.pg_namespace dn ON dn.oid = d.dictnamespace WHERE c.oid = ANY($1::oid[]) GROUP BY m.mapcfg, m.maptokentype, k.alias ORDER BY m.mapcfg, m.maptokentype";
    let mut mapped: HashMap<u32, Vec<(String, String)>> = HashMap::new();
    for row in query(context.client, "text search mappings", mappings, &[&oids]).await? {
        mapped
            .entry(row.oid(0)?)
            .or_default()
            .push((row.text(1)?, row.text(2)?));
    }
    let sql = "SELECT c.oid, n.nspname::text, c.cfgname::text, pg_catalog.pg_get_userbyid(c.cfgowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = c.oid AND ds.classoid = 'pg_catalog.pg_ts_config'::pg_catalog.regclass AND ds.objsubid = 0), \
               pn.nspname::text, p.prsname::text FROM pg_catalog.pg_ts_config c JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace \
               JOIN pg_catalog.pg_ts_parser p ON p.oid = c.cfgparser JOIN pg_catalog.pg_namespace pn ON pn.oid = p.prsnamespace WHERE c.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "text search configurations", sql, &[&oids]).await? {
        let oid = row.oid(0)?;
        let what = format!("TEXT SEARCH CONFIGURATION {}", qualified(&row.text(1)?, &row.text(2)?));
        let mut sql = format!(
            "CREATE {what} (\n    PARSER = {}\n);\n",
            qualified(&row.text(5)?, &row.text(6)?)
        );
        for (token, dictionaries) in mapped.remove(&oid).unwrap_or_default() {
            sql.push_str(&format!(
                "ALTER {what} ADD MAPPING FOR {} WITH {dictionaries};\n",
                quote_ident(&token)
            ));
        }
        context.owner(&mut sql, &what, &row.text(3)?);
        comment(&mut sql, &what, row.opt(4)?.as_deref());
        rendered.insert(oid, sql);
    }
    Ok(rendered)
}
