//! The databases of a whole server.

use std::collections::HashSet;

use crate::base::error::{Context as _, Result};
use crate::engines::postgres::session::maintenance::open_admin;
use crate::engines::postgres::session::marks;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::wire::text_row::TextRow;

const DATABASES: &str = include_str!("sql/databases.sql");

/// What a server holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Databases {
    /// Databases that can be backed up, by name.
    pub names: Vec<String>,
    /// Databases that cannot, and why.
    pub skipped: Vec<(String, String)>,
}

/// Returns the OID of a database that a restore fills, or did not come to the end of: it is nobody's yet.
fn unfinished(row: TextRow<'_>) -> Result<Option<u32>> {
    let (Some(oid), Some(comment)) = (row.number("oid")?, row.opt("comment")?) else {
        return Ok(None);
    };
    Ok(marks::is_filling(comment, oid).then_some(oid))
}

/// Lists the databases of a server; templates are left out.
pub async fn databases(server: &ConnectOptions) -> Result<Databases> {
    // No database is wanted, so none is passed by for the connection.
    let mut admin = open_admin(&server.with_database("")).await?;
    let sql = "SELECT oid, pg_catalog.shobj_description(oid, 'pg_database') AS comment FROM pg_catalog.pg_database";
    let comments = admin.query(sql).await;
    let comments = comments.context("read the comments of the databases")?;
    let unfinished = comments.named().filter_map(|row| unfinished(row).transpose());
    let unfinished = unfinished.collect::<Result<HashSet<u32>>>()?;
    let found = admin.query(DATABASES).await.context("list the databases")?;
    admin.close().await;
    let mut databases = Databases::default();
    for row in found.named() {
        let name = row.text("name")?.to_owned();
        let is_half = row.number("oid")?.is_some_and(|oid| unfinished.contains(&oid));
        let half = is_half.then_some("a restore fills it, or was interrupted there");
        match row.opt("why")?.or(half) {
            Some(why) => databases.skipped.push((name, why.to_owned())),
            None => databases.names.push(name),
        }
    }
    Ok(databases)
}
