//! Functions and procedures in the server's own text; aggregates from their catalog row.

use super::comments::comment;
use super::extensions::{needed_column, needs};
use super::node::class;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::base::exact;
use crate::engines::postgres::sql::quote::{literal, qualified, quote_ident};

/// A column of a query: settings of function `p` that its server does not know itself. A name with a dot may be an extension's that is
/// not loaded.
const UNKNOWN_SETTINGS: &str = "ARRAY(SELECT x.name FROM pg_catalog.unnest(p.proconfig) c(stored), \
     LATERAL (SELECT pg_catalog.split_part(c.stored, '=', 1) AS name) x WHERE x.name !~ '[.]' AND pg_catalog.current_setting(x.name, true) IS NULL)";

/// Returns a definition without one of its settings, each of which the server prints on a line before the body.
fn without_setting(definition: &str, setting: &str) -> String {
    let line = format!("\n SET {} TO ", quote_ident(setting));
    let body = ["\nAS ", "\nBEGIN ATOMIC", "\nRETURN "];
    let body = body.iter().filter_map(|word| definition.find(word)).min();
    let head = body.map_or(definition, |at| exact::text(definition, ..at, "a word was found there"));
    let Some(start) = head.find(&line) else {
        return definition.to_owned();
    };
    let rest = exact::text(definition, start + line.len().., "the line was found there");
    let end = rest.find('\n').unwrap_or(rest.len());
    format!(
        "{}{}",
        exact::text(definition, ..start, "the line was found there"),
        exact::text(rest, end.., "it is an end of a line")
    )
}

pub(super) async fn functions(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = format!(
        "SELECT p.oid, pg_catalog.pg_get_functiondef(p.oid), n.nspname::text, p.proname::text, pg_catalog.pg_get_function_identity_arguments(p.oid), \
               p.prokind::text, pg_catalog.pg_get_userbyid(p.proowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = p.oid AND ds.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND ds.objsubid = 0), \
               {}, {UNKNOWN_SETTINGS} FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = ANY($1::oid[])",
        needed_column(class::PROC, "p.oid")
    );
    let mut rendered = Rendered::new();
    for row in query(context.client, "functions", &sql, &[&oids]).await? {
        let word = if row.text(5)? == "p" { "PROCEDURE" } else { "FUNCTION" };
        let what = format!("{word} {}({})", qualified(&row.text(2)?, &row.text(3)?), row.text(4)?);
        let mut sql = row.text(1)?;
        sql.truncate(sql.trim_end().len());
        sql.push_str(";\n");
        for setting in row.list(9)? {
            let message = format!("setting \"{setting}\" is unknown to the server and is not in this backup");
            context
                .graph
                .note_collector
                .add("unknown-option", message, what.as_str());
            sql = without_setting(&sql, &setting);
        }
        context.owner(&mut sql, &what, &row.text(6)?);
        needs(&mut sql, &what, &row.list(8)?);
        comment(&mut sql, &what, row.opt(7)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn aggregates(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let function = |column: &str| {
        format!(
            "(SELECT pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.proname) FROM pg_catalog.pg_proc f \
             JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace WHERE f.oid = a.{column})"
        )
    };
    let functions = [
        "aggtransfn",
        "aggfinalfn",
        "aggcombinefn",
        "aggserialfn",
        "aggdeserialfn",
        "aggmtransfn",
        "aggminvtransfn",
        "aggmfinalfn",
    ]
    .map(function);
    let sql = format!(
        "SELECT p.oid, n.nspname::text, p.proname::text, pg_catalog.pg_get_function_arguments(p.oid), pg_catalog.pg_get_function_identity_arguments(p.oid), \
         pg_catalog.pg_get_userbyid(p.proowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = p.oid AND ds.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND ds.objsubid = 0), \
         a.aggkind::text, pg_catalog.format_type(a.aggtranstype, NULL), CASE WHEN a.aggmtranstype <> 0 THEN pg_catalog.format_type(a.aggmtranstype, NULL) END, \
         a.aggtransspace, a.aggmtransspace, a.agginitval, a.aggminitval, a.aggfinalextra, a.aggmfinalextra, a.aggfinalmodify::text, a.aggmfinalmodify::text, \
         p.proparallel::text, (SELECT 'OPERATOR(' || pg_catalog.quote_ident(opn.nspname) || '.' || o.oprname || ')' FROM pg_catalog.pg_operator o \
         JOIN pg_catalog.pg_namespace opn ON opn.oid = o.oprnamespace WHERE o.oid = a.aggsortop), {} \
         FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = p.oid WHERE p.oid = ANY($1::oid[])",
        functions.join(", ")
    );
    let mut rendered = Rendered::new();
    for row in query(context.client, "aggregates", &sql, &[&oids]).await? {
        let name = qualified(&row.text(1)?, &row.text(2)?);
        let kind = row.text(7)?;
        // `*` is printed as an empty argument list.
        let or_star = |text: String| if text.is_empty() { "*".to_owned() } else { text };
        let mut parts = Vec::new();
        let mut add = |word: &str, value: Option<String>| parts.extend(value.map(|v| format!("{word} = {v}")));
        add("SFUNC", row.opt(20)?);
        add("STYPE", row.opt(8)?);
        add(
            "SSPACE",
            Some(row.col::<i32>(10)?).filter(|s| *s != 0).map(|s| s.to_string()),
        );
        add("INITCOND", row.opt(12)?.map(|t| literal(&t)));
        let usual = if kind == "n" { "r" } else { "w" };
        let modify = |m: String| {
            Some(m).filter(|m| m != usual).map(|m| {
                match m.as_str() {
                    "r" => "READ_ONLY",
                    "s" => "SHAREABLE",
                    _ => "READ_WRITE",
                }
                .to_owned()
            })
        };
        if let Some(function) = row.opt(21)? {
            add("FINALFUNC", Some(function));
            add("FINALFUNC_MODIFY", modify(row.text(16)?));
        }
        add("COMBINEFUNC", row.opt(22)?);
        add("SERIALFUNC", row.opt(23)?);
        add("DESERIALFUNC", row.opt(24)?);
        add("MSFUNC", row.opt(25)?);
        add("MINVFUNC", row.opt(26)?);
        add("MSTYPE", row.opt(9)?);
        add(
            "MSSPACE",
            Some(row.col::<i32>(11)?).filter(|s| *s != 0).map(|s| s.to_string()),
        );
        add("MINITCOND", row.opt(13)?.map(|t| literal(&t)));
        if let Some(function) = row.opt(27)? {
            add("MFINALFUNC", Some(function));
            add("MFINALFUNC_MODIFY", modify(row.text(17)?));
        }
        add("SORTOP", row.opt(19)?);
        add(
            "PARALLEL",
            match row.text(18)?.as_str() {
                "s" => Some("SAFE".to_owned()),
                "r" => Some("RESTRICTED".to_owned()),
                _ => None,
            },
        );
        for (set, word) in [
            (row.flag(14)?, "FINALFUNC_EXTRA"),
            (row.flag(15)?, "MFINALFUNC_EXTRA"),
            (kind == "h", "HYPOTHETICAL"),
        ] {
            if set {
                parts.push(word.to_owned());
            }
        }
        let mut sql = format!(
            "CREATE AGGREGATE {name}({}) (\n    {}\n);\n",
            or_star(row.text(3)?),
            parts.join(",\n    ")
        );
        let what = format!("AGGREGATE {name}({})", or_star(row.text(4)?));
        context.owner(&mut sql, &what, &row.text(5)?);
        comment(&mut sql, &what, row.opt(6)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_taken_out_of_the_head_alone() {
        let text = "CREATE OR REPLACE FUNCTION \"public\".\"f\"()\n RETURNS integer\n LANGUAGE \"sql\"\n SET \"odd\" TO '1'\n SET \"work_mem\" TO '5MB'\n\
            AS $function$\n SET \"odd\" TO '1'\n SET \"work_mem\" TO '5MB'\n$function$;\n";
        let without = without_setting(text, "odd");
        assert_eq!(without.len(), text.len() - "\n SET \"odd\" TO '1'".len());
        assert!(without.contains("\"sql\"\n SET \"work_mem\""), "{without}");
        assert_eq!(without_setting(&without, "odd"), without);
    }
}
