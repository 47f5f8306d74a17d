//! Views over tables that are replaced: read as the server prints them, and made again with all that belongs to them.

use std::collections::{HashMap, HashSet};

use super::replace::names_of;
use crate::base::error::{Context as _, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::literal;
use crate::engines::postgres::sql::template::with_names;

const UNREPEATABLE: &str = include_str!("sql/views_unrepeatable.sql");
const VIEWS: &str = include_str!("sql/views_to_replace.sql");
const NEEDS: &str = include_str!("sql/views_between.sql");
const PARTS: &str = include_str!("sql/view_parts.sql");
const PLAIN_RIGHTS: &str = include_str!("sql/plain_rights.sql");

/// A view that is taken away and made again.
#[derive(Debug)]
pub(crate) struct View {
    /// Its qualified and quoted name.
    pub(crate) name: String,
    create: String,
    /// Owner, defaults, rules, triggers, comments, rights: each a statement.
    rest: Vec<String>,
}

/// Returns those of the views that cannot be made again.
pub(crate) async fn unrepeatable(connection: &mut Connection, views: &str) -> Result<Vec<String>> {
    names_of(connection, &with_names(UNREPEATABLE, &[("views", views)])).await
}

/// Reads views, each after those it reads from. `views` is an array of OIDs.
pub(crate) async fn read(connection: &mut Connection, views: &str) -> Result<Vec<View>> {
    let about = |query: &str| with_names(query, &[("views", views)]);
    let mut found = HashMap::new();
    let mut order = Vec::new();
    let rows = connection.query(&about(VIEWS)).await.context("read the views")?;
    for row in rows.named() {
        let oid = row.text("oid")?.to_owned();
        order.push(oid.clone());
        let view = View {
            name: row.text("name")?.to_owned(),
            create: row.text("statement")?.to_owned(),
            rest: Vec::new(),
        };
        found.insert(oid, view);
    }
    let rows = connection.query(&about(PARTS)).await;
    for row in rows.context("read what belongs to the views")?.named() {
        if let Some(view) = found.get_mut(row.text("view")?) {
            view.rest.push(row.text("statement")?.to_owned());
        }
    }
    let mut needs: HashMap<String, HashSet<String>> = HashMap::new();
    for row in connection.query(&about(NEEDS)).await?.named() {
        let (view, needed) = (row.text("view")?.to_owned(), row.text("needed")?.to_owned());
        needs.entry(view).or_default().insert(needed);
    }
    let mut sorted = Vec::new();
    while !order.is_empty() {
        let waits = |oid: &String| needs.get(oid).is_some_and(|n| n.iter().any(|o| order.contains(o)));
        let (rest, mut ready): (Vec<String>, Vec<String>) = order.iter().cloned().partition(waits);
        order = rest;
        if ready.is_empty() {
            // Views that read from each other: the server will say so.
            ready = std::mem::take(&mut order);
        }
        sorted.extend(ready.iter().filter_map(|oid| found.remove(oid)));
    }
    Ok(sorted)
}

/// Makes views again.
pub(crate) async fn make_again(connection: &mut Connection, views: &[View]) -> Result<()> {
    for view in views {
        connection.execute(&view.create).await.map_err(|e| {
            e.context(format!("create view {} again", view.name)).with_hint(
                "It does not match the backup's table. Restore the table next to the existing one (without --into) \
                 and copy what you need.",
            )
        })?;
        plain_rights(connection, std::slice::from_ref(&view.name)).await?;
        for sql in &view.rest {
            let done = connection.execute(sql).await;
            done.with_context(|| format!("create what belongs to view {} again", view.name))?;
        }
    }
    Ok(())
}

/// Takes from new relations what the target's default privileges gave: their rights are those of the backup, or those that they had.
pub(crate) async fn plain_rights(connection: &mut Connection, names: &[String]) -> Result<()> {
    for names in names.chunks(1000) {
        let list: Vec<String> = names
            .iter()
            .map(|n| format!("pg_catalog.to_regclass({})", literal(n)))
            .collect();
        let sql = with_names(PLAIN_RIGHTS, &[("relations", &list.join(", "))]);
        let found = connection.query(&sql).await?;
        for row in found.named() {
            let done = connection.execute(row.text("statement")?).await;
            done.context("revoke default privileges")?;
        }
    }
    Ok(())
}
