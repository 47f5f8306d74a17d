//! Functions and procedures in the server's own text; aggregates from their catalog row.

use super::comments::comment;
use super::extensions::needs;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::base::exact;
use crate::engines::postgres::sql::quote::{literal, qualified, quote_ident};

const FUNCTIONS: &str = include_str!("sql/functions.sql");
const AGGREGATES: &str = include_str!("sql/aggregates.sql");

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
    let mut rendered = Rendered::new();
    for row in query(context.client, "functions", FUNCTIONS, &[&oids]).await? {
        let word = if row.text("kind")? == "p" {
            "PROCEDURE"
        } else {
            "FUNCTION"
        };
        let what = format!(
            "{word} {}({})",
            qualified(&row.text("schema")?, &row.text("name")?),
            row.text("arguments")?
        );
        let mut sql = row.text("definition")?;
        sql.truncate(sql.trim_end().len());
        sql.push_str(";\n");
        for setting in row.list("unknown_settings")? {
            let message = format!("setting \"{setting}\" is unknown to the server and is not in this backup");
            context
                .graph
                .note_collector
                .add("unknown-option", message, what.as_str());
            sql = without_setting(&sql, &setting);
        }
        context.owner(&mut sql, &what, &row.text("owner")?);
        needs(&mut sql, &what, &row.list("needed_extensions")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn aggregates(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "aggregates", AGGREGATES, &[&oids]).await? {
        let name = qualified(&row.text("schema")?, &row.text("name")?);
        let kind = row.text("kind")?;
        // `*` is printed as an empty argument list.
        let or_star = |text: String| if text.is_empty() { "*".to_owned() } else { text };
        let mut parts = Vec::new();
        let mut add = |word: &str, value: Option<String>| parts.extend(value.map(|v| format!("{word} = {v}")));
        add("SFUNC", row.opt("transition")?);
        add("STYPE", row.opt("state_type")?);
        add(
            "SSPACE",
            Some(row.col::<i32>("state_space")?)
                .filter(|s| *s != 0)
                .map(|s| s.to_string()),
        );
        add("INITCOND", row.opt("initial")?.map(|t| literal(&t)));
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
        if let Some(function) = row.opt("final")? {
            add("FINALFUNC", Some(function));
            add("FINALFUNC_MODIFY", modify(row.text("final_modify")?));
        }
        add("COMBINEFUNC", row.opt("combine")?);
        add("SERIALFUNC", row.opt("serial")?);
        add("DESERIALFUNC", row.opt("deserial")?);
        add("MSFUNC", row.opt("moving_transition")?);
        add("MINVFUNC", row.opt("moving_inverse")?);
        add("MSTYPE", row.opt("moving_state_type")?);
        add(
            "MSSPACE",
            Some(row.col::<i32>("moving_state_space")?)
                .filter(|s| *s != 0)
                .map(|s| s.to_string()),
        );
        add("MINITCOND", row.opt("moving_initial")?.map(|t| literal(&t)));
        if let Some(function) = row.opt("moving_final")? {
            add("MFINALFUNC", Some(function));
            add("MFINALFUNC_MODIFY", modify(row.text("moving_final_modify")?));
        }
        add("SORTOP", row.opt("sort_operator")?);
        add(
            "PARALLEL",
            match row.text("parallel")?.as_str() {
                "s" => Some("SAFE".to_owned()),
                "r" => Some("RESTRICTED".to_owned()),
                _ => None,
            },
        );
        for (set, word) in [
            (row.flag("final_extra")?, "FINALFUNC_EXTRA"),
            (row.flag("moving_final_extra")?, "MFINALFUNC_EXTRA"),
            (kind == "h", "HYPOTHETICAL"),
        ] {
            if set {
                parts.push(word.to_owned());
            }
        }
        let mut sql = format!(
            "CREATE AGGREGATE {name}({}) (\n    {}\n);\n",
            or_star(row.text("arguments")?),
            parts.join(",\n    ")
        );
        let what = format!("AGGREGATE {name}({})", or_star(row.text("identity_arguments")?));
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
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
