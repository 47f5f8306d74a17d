//! The databases of a whole server.

use super::look::open_admin;
use super::marks;
use super::url::ConnectOptions;
use crate::error::{Context as _, Result};

/// What a server holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Databases {
    /// Databases that can be backed up, by name.
    pub names: Vec<String>,
    /// Databases that cannot, and why.
    pub skipped: Vec<(String, String)>,
}

/// A database that a restore fills, or did not come to the end of, is nobody's yet.
fn unfinished(row: &[Option<String>]) -> Option<String> {
    let oid = row.get(1)?.as_deref()?.parse().ok()?;
    let comment = row.get(2)?.as_deref()?;
    marks::is_filling(comment, oid).then(|| "a restore fills it, or was interrupted there".to_owned())
}

/// Lists the databases of a server; templates are left out.
pub async fn databases(server: &ConnectOptions) -> Result<Databases> {
    // No database is wanted, so none is passed by for the connection.
    let mut admin = open_admin(&server.with_database("")).await?;
    let sql = "SELECT datname, oid, pg_catalog.shobj_description(oid, 'pg_database'), CASE WHEN datconnlimit = -2 THEN 'it is invalid: its DROP was interrupted' \
        WHEN NOT datallowconn THEN 'it allows no connections' END FROM pg_catalog.pg_database \
        WHERE datname NOT IN ('template0', 'template1') ORDER BY datname";
    let found = admin.query(sql).await.context("list the databases")?;
    admin.close().await;
    let mut databases = Databases::default();
    for mut row in found.rows {
        let why = row.get_mut(3).and_then(Option::take).or_else(|| unfinished(&row));
        let Some(name) = row.get_mut(0).and_then(Option::take) else {
            continue;
        };
        match why {
            Some(why) => databases.skipped.push((name, why)),
            None => databases.names.push(name),
        }
    }
    Ok(databases)
}
