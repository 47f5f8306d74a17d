//! A connection to a database that is not the wanted one, from which databases are created, renamed and dropped.

use std::time::Duration;

use super::connection::Connection;
use super::sessions::{TOO_MANY, open_within};
use super::settings;
use super::settings::Session;
use super::url::ConnectOptions;
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::engines::postgres::wire::server_error::sqlstate;

const OTHER_DATABASES: &str = include_str!("sql/other_databases.sql");

/// Databases beside the usual ones that are tried as a maintenance database, at most.
const MORE: usize = 20;

/// How long each of them is waited for where it is full.
const MOMENT: Duration = Duration::from_secs(2);

/// Connects to a database that is not the wanted one: renames and drops need it. Where there is no other, to the wanted one
/// itself. Names and comments of databases are read and written as the server stores them.
pub(crate) async fn open_admin(wanted: &ConnectOptions) -> Result<Connection> {
    let mut first = None;
    let mut names = vec!["postgres".to_owned(), "template1".to_owned(), wanted.user.clone()];
    names.retain(|name| *name != wanted.database);
    let tried = names.clone();
    if let Some(connection) = first_of(wanted, &names, &mut first).await? {
        return Ok(connection);
    }
    let mut itself = match settings::open(wanted, Session::Asking).await {
        Ok(connection) => connection,
        Err(error) => return Err(no_database(first.unwrap_or(error))),
    };
    let found = itself.query(OTHER_DATABASES).await.context("list the databases")?;
    let names = found.named().map(|row| Ok(row.text("name")?.to_owned()));
    let mut names = names.collect::<Result<Vec<String>>>()?;
    names.retain(|name| !tried.contains(name));
    names.truncate(MORE);
    if names.is_empty() {
        return settled(itself).await;
    }
    itself.close().await;
    match first_of(wanted, &names, &mut first).await? {
        Some(connection) => Ok(connection),
        None => settled(settings::open(wanted, Session::Asking).await?).await,
    }
}

async fn first_of(wanted: &ConnectOptions, names: &[String], first: &mut Option<Error>) -> Result<Option<Connection>> {
    for name in names {
        match open_within(&wanted.with_database(name), MOMENT).await {
            Ok(connection) => return settled(connection).await.map(Some),
            // It is missing, closed to this role, closed at all, or full: another one will do.
            Err(error) if matches!(sqlstate(&error), Some("3D000" | "42501" | "28000" | "55000" | TOO_MANY)) => {
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The connection rests while the database is filled: no limit of server or role may end it.
async fn settled(mut connection: Connection) -> Result<Connection> {
    let context = settings::Context::none();
    settings::set(&mut connection, Session::Asking, &context)
        .await
        .context("set up the session")?;
    settings::in_own_encoding(&mut connection).await?;
    Ok(connection)
}

fn no_database(error: Error) -> Error {
    let kind = error.kind();
    if kind == ErrorKind::Unavailable {
        return error;
    }
    error.context("connect to a maintenance database").with_hint_instead(
        "Creating and renaming a database needs a connection to another one: let the role connect \
                            to \"postgres\" or \"template1\", or restore into an existing empty database.",
    )
}
