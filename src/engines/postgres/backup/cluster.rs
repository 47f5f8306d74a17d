//! The databases of a whole server.

use std::collections::HashSet;

use crate::base::error::{Context as _, Result};
use crate::engines::postgres::session::maintenance::open_admin;
use crate::engines::postgres::session::marks;
use crate::engines::postgres::session::url::ConnectOptions;

/// What a server holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Databases {
    /// Databases that can be backed up, by name.
    pub names: Vec<String>,
    /// Databases that cannot, and why.
    pub skipped: Vec<(String, String)>,
}

/// Returns the OID of a database that a restore fills, or did not come to the end of: it is nobody's yet.
fn unfinished(row: &[Option<String>]) -> Option<String> {
    let oid = row.first()?.as_deref()?;
    let comment = row.get(1)?.as_deref()?;
    marks::is_filling(comment, oid.parse().ok()?).then(|| oid.to_owned())
}

/// Lists the databases of a server; templates are left out.
pub async fn databases(server: &ConnectOptions) -> Result<Databases> {
    // No database is wanted, so none is passed by for the connection.
    let mut admin = open_admin(&server.with_database("")).await?;
    let sql = "SELECT oid, pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database";
    let comments = admin.query(sql).await;
    let comments = comments.context("read the comments of the databases")?;
    let unfinished: HashSet<String> = comments.rows.iter().filter_map(|row| unfinished(row)).collect();
    let sql = "SELECT datname, oid, CASE WHEN datconnlimit = -2 THEN 'it is invalid: its DROP was interrupted' \
        WHEN NOT datallowconn THEN 'it allows no connections' END FROM pg_catalog.pg_database \
        WHERE datname NOT IN ('template0', 'template1') ORDER BY datname";
    let found = admin.query(sql).await.context("list the databases")?;
    admin.close().await;
    let mut databases = Databases::default();
    for mut row in found.rows {
        let why = row.get_mut(2).and_then(Option::take);
        let is_half = row
            .get(1)
            .and_then(Option::as_deref)
            .is_some_and(|oid| unfinished.contains(oid));
        let why = why.or_else(|| is_half.then(|| "a restore fills it, or was interrupted there".to_owned()));
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
