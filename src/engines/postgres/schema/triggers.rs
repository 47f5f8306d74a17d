//! Rules, triggers, policies, event triggers.

use super::comments::comment;
use super::extensions::{needed_column, needs};
use super::node::class;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, qualified, quote_ident};

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
    let sql = "SELECT r.oid, pg_catalog.pg_get_ruledef(r.oid), r.ev_enabled::text, r.rulename::text, n.nspname::text, c.relname::text, \
               (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = r.oid AND ds.classoid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND ds.objsubid = 0), NULL::text[] FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE r.oid = ANY($1::oid[])";
    table_objects(context, oids, "rules", sql, "RULE").await
}

pub(super) async fn triggers(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = format!(
        "SELECT t.oid, pg_catalog.pg_get_triggerdef(t.oid, false), t.tgenabled::text, t.tgname::text, n.nspname::text, c.relname::text, \
               (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = t.oid AND ds.classoid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND ds.objsubid = 0), {} FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE t.oid = ANY($1::oid[])",
        needed_column(class::TRIGGER, "t.oid")
    );
    table_objects(context, oids, "triggers", &sql, "TRIGGER").await
}

/// Triggers that partitions have from their parent, but in another state.
pub(super) async fn states(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT t.oid, t.tgname::text, t.tgenabled::text, n.nspname::text, c.relname::text FROM pg_catalog.pg_trigger t \
               JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE t.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "triggers of partitions", sql, &[&oids]).await? {
        let what = format!("TRIGGER {}", quote_ident(&row.text(1)?));
        let state = enabled(&row.text(2)?, &what).unwrap_or_else(|| format!("ENABLE {what}"));
        let table = qualified(&row.text(3)?, &row.text(4)?);
        rendered.insert(row.oid(0)?, format!("ALTER TABLE ONLY {table} {state};\n"));
    }
    Ok(rendered)
}

/// Rows: oid, definition, state, name, schema, table, comment, extensions needed.
async fn table_objects(context: &Context<'_>, oids: &[u32], act: &str, sql: &str, word: &str) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, act, sql, &[&oids]).await? {
        let table = qualified(&row.text(4)?, &row.text(5)?);
        let what = format!("{word} {}", quote_ident(&row.text(3)?));
        let mut sql = row.text(1)?;
        sql.truncate(sql.trim_end().trim_end_matches(';').len());
        sql.push_str(";\n");
        if let Some(state) = enabled(&row.text(2)?, &what) {
            sql.push_str(&format!("ALTER TABLE {table} {state};\n"));
        }
        needs(&mut sql, &format!("{what} ON {table}"), &row.list(7)?);
        comment(&mut sql, &format!("{what} ON {table}"), row.opt(6)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn policies(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT p.oid, p.polname::text, n.nspname::text, c.relname::text, p.polpermissive, p.polcmd::text, \
               ARRAY(SELECT pg_catalog.pg_get_userbyid(r)::text FROM pg_catalog.unnest(p.polroles) r WHERE r <> 0 ORDER BY 1), \
               pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), \
               (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = p.oid AND ds.classoid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND ds.objsubid = 0) FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "policies", sql, &[&oids]).await? {
        let on = format!(
            "POLICY {} ON {}",
            quote_ident(&row.text(1)?),
            qualified(&row.text(2)?, &row.text(3)?)
        );
        let mut sql = format!("CREATE {on}");
        if !row.flag(4)? {
            sql.push_str(" AS RESTRICTIVE");
        }
        match row.text(5)?.as_str() {
            "r" => sql.push_str(" FOR SELECT"),
            "a" => sql.push_str(" FOR INSERT"),
            "w" => sql.push_str(" FOR UPDATE"),
            "d" => sql.push_str(" FOR DELETE"),
            _ => {}
        }
        let roles: Vec<String> = row.list(6)?.iter().map(|r| quote_ident(r)).collect();
        if !roles.is_empty() {
            sql.push_str(&format!(" TO {}", roles.join(", ")));
        }
        if let Some(using) = row.opt(7)? {
            sql.push_str(&format!(" USING ({using})"));
        }
        if let Some(check) = row.opt(8)? {
            sql.push_str(&format!(" WITH CHECK ({check})"));
        }
        sql.push_str(";\n");
        comment(&mut sql, &on, row.opt(9)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn event_triggers(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT e.oid, e.evtname::text, e.evtevent::text, e.evttags, fn.nspname::text, f.proname::text, e.evtenabled::text, \
               pg_catalog.pg_get_userbyid(e.evtowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = e.oid AND ds.classoid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass AND ds.objsubid = 0) \
               FROM pg_catalog.pg_event_trigger e JOIN pg_catalog.pg_proc f ON f.oid = e.evtfoid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace \
               WHERE e.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "event triggers", sql, &[&oids]).await? {
        let what = format!("EVENT TRIGGER {}", quote_ident(&row.text(1)?));
        let tags: Vec<String> = row.list(3)?.iter().map(|t| literal(t)).collect();
        let when = if tags.is_empty() {
            String::new()
        } else {
            format!("\n    WHEN TAG IN ({})", tags.join(", "))
        };
        let function = qualified(&row.text(4)?, &row.text(5)?);
        let mut sql = format!(
            "CREATE {what} ON {}{when}\n    EXECUTE FUNCTION {function}();\n",
            quote_ident(&row.text(2)?)
        );
        match row.text(6)?.as_str() {
            "D" => sql.push_str(&format!("ALTER {what} DISABLE;\n")),
            "A" => sql.push_str(&format!("ALTER {what} ENABLE ALWAYS;\n")),
            "R" => sql.push_str(&format!("ALTER {what} ENABLE REPLICA;\n")),
            _ => {}
        }
        context.owner(&mut sql, &what, &row.text(7)?);
        comment(&mut sql, &what, row.opt(8)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}
