//! Foreign data wrappers, servers and user mappings. Options may hold secrets; who may not see them backs up without, and is told.

use super::comments::comment;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, quote_ident};

const WRAPPERS: &str = include_str!("sql/foreign_data_wrappers.sql");
const SERVERS: &str = include_str!("sql/foreign_servers.sql");
const USER_MAPPINGS: &str = include_str!("sql/user_mappings.sql");
const VISIBLE_USER_MAPPINGS: &str = include_str!("sql/user_mappings_visible.sql");

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
    let mut rendered = Rendered::new();
    for row in query(context.client, "foreign data wrappers", WRAPPERS, &[&oids]).await? {
        let what = format!("FOREIGN DATA WRAPPER {}", quote_ident(&row.text("name")?));
        let mut sql = format!("CREATE {what}");
        for (column, word) in [("handler", "HANDLER"), ("validator", "VALIDATOR")] {
            if let Some(function) = row.opt(column)? {
                sql.push_str(&format!(" {word} {function}"));
            }
        }
        sql.push_str(&format!("{};\n", options(&row.list("options")?)));
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn servers(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "foreign servers", SERVERS, &[&oids]).await? {
        let what = format!("SERVER {}", quote_ident(&row.text("name")?));
        let mut sql = format!("CREATE {what}");
        for (column, word) in [("type", "TYPE"), ("version", "VERSION")] {
            if let Some(text) = row.opt(column)?.filter(|t| !t.is_empty()) {
                sql.push_str(&format!(" {word} {}", literal(&text)));
            }
        }
        sql.push_str(&format!(
            " FOREIGN DATA WRAPPER {}{};\n",
            quote_ident(&row.text("wrapper")?),
            options(&row.list("options")?)
        ));
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn user_mappings(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sees = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT') AS allowed";
    let sees = query(context.client, "user mappings", sees, &[]).await?;
    let sql = if sees.first().map_or(Ok(false), |row| row.flag("allowed"))? {
        USER_MAPPINGS
    } else {
        VISIBLE_USER_MAPPINGS
    };
    let mut rendered = Rendered::new();
    for row in query(context.client, "user mappings", sql, &[&oids]).await? {
        let user = row.opt("user_name")?.map_or("PUBLIC".to_owned(), |u| quote_ident(&u));
        if !row.flag("visible")? {
            let what = format!("USER MAPPING FOR {user} SERVER {}", quote_ident(&row.text("server")?));
            context.graph.note_collector.add("hidden-options", HIDDEN_OPTIONS, what);
        }
        let sql = format!(
            "CREATE USER MAPPING FOR {user} SERVER {}{};\n",
            quote_ident(&row.text("server")?),
            options(&row.list("options")?)
        );
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}
