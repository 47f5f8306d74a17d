//! Foreign data wrappers, servers and user mappings. Options may hold secrets; who may not see them backs up without, and is told.

use super::comments::comment;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, quote_ident};

const HIDDEN_OPTIONS: &str = "its options, which may hold a password, are not in this backup: the backup role has no \
                              permission to see them \
     (GRANT SELECT ON pg_catalog.pg_user_mapping, or back up as a superuser)";

/// Returns ` OPTIONS (…)` for stored `name=value` options, nothing for none.
pub(super) fn options(stored: &[String]) -> String {
    if stored.is_empty() {
        return String::new();
    }
    let one = |option: &String| {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        format!("{} {}", quote_ident(name), literal(value))
    };
    let list: Vec<String> = stored.iter().map(one).collect();
    format!(" OPTIONS ({})", list.join(", "))
}

pub(super) async fn wrappers(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT w.oid, w.fdwname::text, NULLIF(w.fdwhandler, 0)::pg_catalog.regproc::text, NULLIF(w.fdwvalidator, 0)::pg_catalog.regproc::text, \
               w.fdwoptions, pg_catalog.pg_get_userbyid(w.fdwowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = w.oid AND ds.classoid = 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass AND ds.objsubid = 0) \
               FROM pg_catalog.pg_foreign_data_wrapper w WHERE w.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "foreign data wrappers", sql, &[&oids]).await? {
        let what = format!("FOREIGN DATA WRAPPER {}", quote_ident(&row.text(1)?));
        let mut sql = format!("CREATE {what}");
        for (at, word) in [(2, "HANDLER"), (3, "VALIDATOR")] {
            if let Some(function) = row.opt(at)? {
                sql.push_str(&format!(" {word} {function}"));
            }
        }
        sql.push_str(&format!("{};\n", options(&row.list(4)?)));
        context.owner(&mut sql, &what, &row.text(5)?);
        comment(&mut sql, &what, row.opt(6)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn servers(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT s.oid, s.srvname::text, s.srvtype, s.srvversion, w.fdwname::text, s.srvoptions, pg_catalog.pg_get_userbyid(s.srvowner)::text, \
               (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = s.oid AND ds.classoid = 'pg_catalog.pg_foreign_server'::pg_catalog.regclass AND ds.objsubid = 0) FROM pg_catalog.pg_foreign_server s \
               JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw WHERE s.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "foreign servers", sql, &[&oids]).await? {
        let what = format!("SERVER {}", quote_ident(&row.text(1)?));
        let mut sql = format!("CREATE {what}");
        for (at, word) in [(2, "TYPE"), (3, "VERSION")] {
            if let Some(text) = row.opt(at)?.filter(|t| !t.is_empty()) {
                sql.push_str(&format!(" {word} {}", literal(&text)));
            }
        }
        sql.push_str(&format!(
            " FOREIGN DATA WRAPPER {}{};\n",
            quote_ident(&row.text(4)?),
            options(&row.list(5)?)
        ));
        context.owner(&mut sql, &what, &row.text(6)?);
        comment(&mut sql, &what, row.opt(7)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn user_mappings(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sees = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT')";
    let sees = query(context.client, "user mappings", sees, &[]).await?;
    let sql = if sees.first().map_or(Ok(false), |row| row.flag(0))? {
        "SELECT u.oid, s.srvname::text, CASE WHEN u.umuser <> 0 THEN pg_catalog.pg_get_userbyid(u.umuser)::text END, u.umoptions, true \
         FROM pg_catalog.pg_user_mapping u JOIN pg_catalog.pg_foreign_server s ON s.oid = u.umserver WHERE u.oid = ANY($1::oid[])"
    } else {
        // The view shows no options where it shows none to this role, and where there are none: its own condition tells which.
        "SELECT u.umid, u.srvname::text, CASE WHEN u.umuser <> 0 THEN u.usename::text END, u.umoptions, u.umoptions IS NOT NULL \
         OR (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) \
         OR (u.umuser = 0 AND pg_catalog.pg_has_role(s.srvowner, 'USAGE')) OR (u.umuser <> 0 AND u.usename = current_user \
         AND (pg_catalog.pg_has_role(s.srvowner, 'USAGE') OR pg_catalog.has_server_privilege(s.oid, 'USAGE'))) \
         FROM pg_catalog.pg_user_mappings u JOIN pg_catalog.pg_foreign_server s ON s.oid = u.srvid WHERE u.umid = ANY($1::oid[])"
    };
    let mut rendered = Rendered::new();
    for row in query(context.client, "user mappings", sql, &[&oids]).await? {
        let user = row.opt(2)?.map_or("PUBLIC".to_owned(), |u| quote_ident(&u));
        if !row.flag(4)? {
            let what = format!("USER MAPPING FOR {user} SERVER {}", quote_ident(&row.text(1)?));
            context.graph.note_collector.add("hidden-options", HIDDEN_OPTIONS, what);
        }
        let sql = format!(
            "CREATE USER MAPPING FOR {user} SERVER {}{};\n",
            quote_ident(&row.text(1)?),
            options(&row.list(3)?)
        );
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}
