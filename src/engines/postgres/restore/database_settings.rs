//! What belongs to a database itself and stays when another one takes its place: owner, limit, rights, settings.

use crate::base::error::{Context as _, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::{literal, quote_ident};
use crate::engines::postgres::sql::template::with_names;

const STATEMENTS: &str = include_str!("sql/database_settings.sql");

/// Returns the statements that give these properties of a database to whichever has its name when they run. They are made by
/// the server, so that names and values are quoted by its own rules; the owner comes last.
pub(crate) async fn statements(admin: &mut Connection, name: &str) -> Result<Vec<String>> {
    let names = [("source", &literal(name)), ("target", &literal(&quote_ident(name)))];
    let sql = with_names(STATEMENTS, &names.map(|(name, value)| (name, value.as_str())));
    let found = admin
        .query(&sql)
        .await
        .context("read the database's owner, rights and settings")?;
    found.named().map(|row| Ok(row.text("statement")?.to_owned())).collect()
}
