//! Rules, triggers, policies, event triggers.

use super::comments::comment;
use super::extensions::needs;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, qualified, quote_ident};

const RULES: &str = include_str!("sql/rules.sql");
const TRIGGER_STATES: &str = include_str!("sql/trigger_states.sql");
const POLICIES: &str = include_str!("sql/policies.sql");
const EVENT_TRIGGERS: &str = include_str!("sql/event_triggers.sql");
const TRIGGERS: &str = include_str!("sql/triggers.sql");

/// Returns the words after `ALTER TABLE t` for a state that is not the usual one.
fn enabled(state: &str, what: &str) -> Option<String> {
    match state {
        "D" => Some(format!("DISABLE {what}")),
        "A" => Some(format!("ENABLE ALWAYS {what}")),
        "R" => Some(format!("ENABLE REPLICA {what}")),
        _ => None,
    }
}

pub(super) async fn rules(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    table_objects(context, oids, "rules", RULES, "RULE").await
}

pub(super) async fn triggers(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    table_objects(context, oids, "triggers", TRIGGERS, "TRIGGER").await
}

/// Triggers that partitions have from their parent, but in another state.
pub(super) async fn states(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "triggers of partitions", TRIGGER_STATES, &[&oids]).await? {
        let what = format!("TRIGGER {}", quote_ident(&row.text("name")?));
        let state = enabled(&row.text("state")?, &what).unwrap_or_else(|| format!("ENABLE {what}"));
        let table = qualified(&row.text("schema")?, &row.text("table_name")?);
        rendered.insert(row.oid("oid")?, format!("ALTER TABLE ONLY {table} {state};\n"));
    }
    Ok(rendered)
}

/// Renders the rows of `rules.sql` or `triggers.sql`.
async fn table_objects(context: &Context<'_>, oids: &[u32], act: &str, sql: &str, word: &str) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, act, sql, &[&oids]).await? {
        let table = qualified(&row.text("schema")?, &row.text("table_name")?);
        let what = format!("{word} {}", quote_ident(&row.text("name")?));
        let mut sql = row.text("definition")?;
        sql.truncate(sql.trim_end().trim_end_matches(';').len());
        sql.push_str(";\n");
        if let Some(state) = enabled(&row.text("state")?, &what) {
            sql.push_str(&format!("ALTER TABLE {table} {state};\n"));
        }
        needs(&mut sql, &format!("{what} ON {table}"), &row.list("needed_extensions")?);
        comment(&mut sql, &format!("{what} ON {table}"), row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn policies(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "policies", POLICIES, &[&oids]).await? {
        let on = format!(
            "POLICY {} ON {}",
            quote_ident(&row.text("name")?),
            qualified(&row.text("schema")?, &row.text("table_name")?)
        );
        let mut sql = format!("CREATE {on}");
        if !row.flag("permissive")? {
            sql.push_str(" AS RESTRICTIVE");
        }
        match row.text("command")?.as_str() {
            "r" => sql.push_str(" FOR SELECT"),
            "a" => sql.push_str(" FOR INSERT"),
            "w" => sql.push_str(" FOR UPDATE"),
            "d" => sql.push_str(" FOR DELETE"),
            _ => {}
        }
        let roles: Vec<String> = row.list("roles")?.iter().map(|r| quote_ident(r)).collect();
        if !roles.is_empty() {
            sql.push_str(&format!(" TO {}", roles.join(", ")));
        }
        if let Some(using) = row.opt("using_expression")? {
            sql.push_str(&format!(" USING ({using})"));
        }
        if let Some(check) = row.opt("check_expression")? {
            sql.push_str(&format!(" WITH CHECK ({check})"));
        }
        sql.push_str(";\n");
        comment(&mut sql, &on, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn event_triggers(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "event triggers", EVENT_TRIGGERS, &[&oids]).await? {
        let what = format!("EVENT TRIGGER {}", quote_ident(&row.text("name")?));
        let tags: Vec<String> = row.list("tags")?.iter().map(|t| literal(t)).collect();
        let when = if tags.is_empty() {
            String::new()
        } else {
            format!("\n    WHEN TAG IN ({})", tags.join(", "))
        };
        let function = qualified(&row.text("function_schema")?, &row.text("function_name")?);
        let mut sql = format!(
            "CREATE {what} ON {}{when}\n    EXECUTE FUNCTION {function}();\n",
            quote_ident(&row.text("event")?)
        );
        match row.text("state")?.as_str() {
            "D" => sql.push_str(&format!("ALTER {what} DISABLE;\n")),
            "A" => sql.push_str(&format!("ALTER {what} ENABLE ALWAYS;\n")),
            "R" => sql.push_str(&format!("ALTER {what} ENABLE REPLICA;\n")),
            _ => {}
        }
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}
