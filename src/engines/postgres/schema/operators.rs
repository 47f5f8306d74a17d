//! Operators, their families and classes, access methods, casts and transforms.

use std::collections::HashMap;

use super::comments::comment;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{qualified, quote_ident};

pub(super) async fn operators(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let other = |column: &str| {
        format!(
            "(SELECT 'OPERATOR(' || pg_catalog.quote_ident(xn.nspname) || '.' || x.oprname || ')' FROM pg_catalog.pg_operator x \
             JOIN pg_catalog.pg_namespace xn ON xn.oid = x.oprnamespace WHERE x.oid = o.{column})"
        )
    };
    let sql = format!(
        "SELECT o.oid, n.nspname::text, o.oprname::text, pg_catalog.pg_get_userbyid(o.oprowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = o.oid AND ds.classoid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND ds.objsubid = 0), \
         CASE WHEN o.oprleft <> 0 THEN pg_catalog.format_type(o.oprleft, NULL) END, \
         CASE WHEN o.oprright <> 0 THEN pg_catalog.format_type(o.oprright, NULL) END, o.oprcode::text, {}, {}, \
         NULLIF(o.oprrest::oid, 0)::pg_catalog.regproc::text, NULLIF(o.oprjoin::oid, 0)::pg_catalog.regproc::text, o.oprcanmerge, o.oprcanhash \
         FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid = ANY($1::oid[])",
        other("oprcom"),
        other("oprnegate")
    );
    let mut rendered = Rendered::new();
    for row in query(context.client, "operators", &sql, &[&oids]).await? {
        // An operator's name is never quoted.
        let name = format!("{}.{}", quote_ident(&row.text(1)?), row.text(2)?);
        let (left, right) = (row.opt(5)?, row.opt(6)?);
        let mut lines = vec![format!("FUNCTION = {}", row.text(7)?)];
        let parts = [
            ("LEFTARG", left.clone()),
            ("RIGHTARG", right.clone()),
            ("COMMUTATOR", row.opt(8)?),
            ("NEGATOR", row.opt(9)?),
            ("RESTRICT", row.opt(10)?),
            ("JOIN", row.opt(11)?),
        ];
        lines.extend(
            parts
                .into_iter()
                .filter_map(|(word, value)| Some(format!("{word} = {}", value?))),
        );
        for (at, word) in [(12, "MERGES"), (13, "HASHES")] {
            if row.flag(at)? {
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
        context.owner(&mut sql, &what, &row.text(3)?);
        comment(&mut sql, &what, row.opt(4)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

/// Reads operators and functions that depend on families (2753) or classes (2616), as items of a definition.
async fn members(context: &Context<'_>, oids: &[u32], class: u32) -> Result<HashMap<u32, Vec<String>>> {
    let sql = format!(
        "SELECT d.refobjid, 'OPERATOR ' || o.amopstrategy || ' ' || o.amopopr::pg_catalog.regoperator::text || COALESCE(' FOR ORDER BY ' || \
         pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.opfname), ''), 0 AS part, o.amopstrategy AS number, o.oid \
         FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_amop o ON o.oid = d.objid LEFT JOIN pg_catalog.pg_opfamily f ON f.oid = o.amopsortfamily \
         LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = f.opfnamespace \
         WHERE d.classid = 2602 AND d.refclassid = {class} AND d.refobjid = ANY($1::oid[]) \
         UNION ALL SELECT d.refobjid, 'FUNCTION ' || p.amprocnum || ' (' || pg_catalog.format_type(p.amproclefttype, NULL) || ', ' || \
         pg_catalog.format_type(p.amprocrighttype, NULL) || ') ' || p.amproc::pg_catalog.regprocedure::text, 1, p.amprocnum, p.oid \
         FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_amproc p ON p.oid = d.objid \
         WHERE d.classid = 2603 AND d.refclassid = {class} AND d.refobjid = ANY($1::oid[]) ORDER BY 1, 3, 4, 2"
    );
    let mut members: HashMap<u32, Vec<String>> = HashMap::new();
    for row in query(context.client, "members of operator families", &sql, &[&oids]).await? {
        members.entry(row.oid(0)?).or_default().push(row.text(1)?);
    }
    Ok(members)
}

pub(super) async fn families(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT f.oid, n.nspname::text, f.opfname::text, a.amname::text, pg_catalog.pg_get_userbyid(f.opfowner)::text, \
               (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = f.oid AND ds.classoid = 'pg_catalog.pg_opfamily'::pg_catalog.regclass AND ds.objsubid = 0) FROM pg_catalog.pg_opfamily f JOIN pg_catalog.pg_namespace n ON n.oid = f.opfnamespace \
               JOIN pg_catalog.pg_am a ON a.oid = f.opfmethod WHERE f.oid = ANY($1::oid[])";
    let mut members = members(context, oids, super::node::class::OPFAMILY).await?;
    let mut rendered = Rendered::new();
    for row in query(context.client, "operator families", sql, &[&oids]).await? {
        let what = format!(
            "OPERATOR FAMILY {} USING {}",
            qualified(&row.text(1)?, &row.text(2)?),
            quote_ident(&row.text(3)?)
        );
        let mut sql = format!("CREATE {what};\n");
        if let Some(loose) = members.remove(&row.oid(0)?) {
            sql.push_str(&format!("ALTER {what} ADD\n    {};\n", loose.join(",\n    ")));
        }
        context.owner(&mut sql, &what, &row.text(4)?);
        comment(&mut sql, &what, row.opt(5)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn classes(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT c.oid, n.nspname::text, c.opcname::text, a.amname::text, pg_catalog.pg_get_userbyid(c.opcowner)::text, \
               (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = c.oid AND ds.classoid = 'pg_catalog.pg_opclass'::pg_catalog.regclass AND ds.objsubid = 0), c.opcdefault, pg_catalog.format_type(c.opcintype, NULL), \
               CASE WHEN c.opckeytype <> 0 THEN pg_catalog.format_type(c.opckeytype, NULL) END, fn.nspname::text, f.opfname::text \
               FROM pg_catalog.pg_opclass c JOIN pg_catalog.pg_namespace n ON n.oid = c.opcnamespace JOIN pg_catalog.pg_am a ON a.oid = c.opcmethod \
               JOIN pg_catalog.pg_opfamily f ON f.oid = c.opcfamily JOIN pg_catalog.pg_namespace fn ON fn.oid = f.opfnamespace \
               WHERE c.oid = ANY($1::oid[])";
    let mut members = members(context, oids, super::node::class::OPCLASS).await?;
    let mut rendered = Rendered::new();
    for row in query(context.client, "operator classes", sql, &[&oids]).await? {
        let name = qualified(&row.text(1)?, &row.text(2)?);
        let method = quote_ident(&row.text(3)?);
        let default = if row.flag(6)? { "DEFAULT " } else { "" };
        let kind = row.text(7)?;
        let mut lines: Vec<String> = row.opt(8)?.map(|t| format!("STORAGE {t}")).into_iter().collect();
        lines.extend(members.remove(&row.oid(0)?).unwrap_or_default());
        if lines.is_empty() {
            // The grammar wants one item; this one says nothing.
            lines.push(format!("STORAGE {kind}"));
        }
        let mut sql = format!(
            "CREATE OPERATOR CLASS {name}\n    {default}FOR TYPE {kind} USING {method} FAMILY {} AS\n    {};\n",
            qualified(&row.text(9)?, &row.text(10)?),
            lines.join(",\n    ")
        );
        let what = format!("OPERATOR CLASS {name} USING {method}");
        context.owner(&mut sql, &what, &row.text(4)?);
        comment(&mut sql, &what, row.opt(5)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn access_methods(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT a.oid, a.amname::text, a.amtype::text, a.amhandler::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = a.oid AND ds.classoid = 'pg_catalog.pg_am'::pg_catalog.regclass AND ds.objsubid = 0) \
               FROM pg_catalog.pg_am a WHERE a.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "access methods", sql, &[&oids]).await? {
        let what = format!("ACCESS METHOD {}", quote_ident(&row.text(1)?));
        let kind = if row.text(2)? == "i" { "INDEX" } else { "TABLE" };
        let mut sql = format!("CREATE {what} TYPE {kind} HANDLER {};\n", row.text(3)?);
        comment(&mut sql, &what, row.opt(4)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn casts(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT c.oid, pg_catalog.format_type(c.castsource, NULL), pg_catalog.format_type(c.casttarget, NULL), c.castmethod::text, \
               CASE WHEN c.castfunc <> 0 THEN c.castfunc::pg_catalog.regprocedure::text END, c.castcontext::text, \
               (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = c.oid AND ds.classoid = 'pg_catalog.pg_cast'::pg_catalog.regclass AND ds.objsubid = 0) FROM pg_catalog.pg_cast c WHERE c.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "casts", sql, &[&oids]).await? {
        let what = format!("CAST ({} AS {})", row.text(1)?, row.text(2)?);
        let how = match (row.text(3)?.as_str(), row.opt(4)?) {
            ("f", Some(function)) => format!("WITH FUNCTION {function}"),
            ("i", _) => "WITH INOUT".to_owned(),
            _ => "WITHOUT FUNCTION".to_owned(),
        };
        let when = match row.text(5)?.as_str() {
            "a" => " AS ASSIGNMENT",
            "i" => " AS IMPLICIT",
            _ => "",
        };
        let mut sql = format!("CREATE {what} {how}{when};\n");
        comment(&mut sql, &what, row.opt(6)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn transforms(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT t.oid, pg_catalog.format_type(t.trftype, NULL), l.lanname::text, \
               CASE WHEN t.trffromsql <> 0 THEN t.trffromsql::pg_catalog.regprocedure::text END, \
               CASE WHEN t.trftosql <> 0 THEN t.trftosql::pg_catalog.regprocedure::text END, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = t.oid AND ds.classoid = 'pg_catalog.pg_transform'::pg_catalog.regclass AND ds.objsubid = 0) \
               FROM pg_catalog.pg_transform t JOIN pg_catalog.pg_language l ON l.oid = t.trflang WHERE t.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "transforms", sql, &[&oids]).await? {
        let what = format!("TRANSFORM FOR {} LANGUAGE {}", row.text(1)?, quote_ident(&row.text(2)?));
        let parts = [("FROM SQL", row.opt(3)?), ("TO SQL", row.opt(4)?)];
        let functions: Vec<String> = parts
            .into_iter()
            .filter_map(|(word, function)| Some(format!("{word} WITH FUNCTION {}", function?)))
            .collect();
        let mut sql = format!("CREATE {what} ({});\n", functions.join(", "));
        comment(&mut sql, &what, row.opt(5)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}
