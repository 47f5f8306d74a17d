//! Sessions where the server gives few of them: a role with CONNECTION LIMIT 1 restores, too.
//!
//! A session that was closed counts until its process has ended, so a full server is asked again for a while. Workers beside
//! the first are optional: whoever gets no session leaves its work to the others.

use std::time::Duration;

use super::connection::Connection;
use super::search_path;
use super::settings;
use super::settings::Session;
use super::url::ConnectOptions;
use crate::base::error::{Context as _, Result};
use crate::base::exact;
use crate::engines::postgres::wire::server_error::sqlstate;

const ROLE: &str = include_str!("sql/role.sql");

/// How long a session that is needed is asked for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// SQLSTATE of a role, a database or a server that has as many sessions as it may.
pub(crate) const TOO_MANY: &str = "53300";

/// Opens a session that is needed.
pub(crate) async fn open_patiently(options: &ConnectOptions) -> Result<Connection> {
    open_within(options, PATIENCE).await
}

/// Opens a session; where there is no room for it, again for so long.
pub(crate) async fn open_within(options: &ConnectOptions, patience: Duration) -> Result<Connection> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match Connection::open(options).await {
            Err(error) if sqlstate(&error) == Some(TOO_MANY) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            opened => return opened,
        }
    }
}

/// Opens the session of a worker: the first one patiently, any other only if the server has room for it.
pub(crate) async fn open_worker(options: &ConnectOptions, number: usize) -> Result<Option<Connection>> {
    if number == 0 {
        return open_session(options).await.map(Some);
    }
    match Connection::open(options).await {
        Ok(connection) => set_up(connection, options).await.map(Some),
        Err(error) if sqlstate(&error) == Some(TOO_MANY) => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`open_worker`], of a session that reads.
pub(crate) async fn open_reading_worker(options: &ConnectOptions, number: usize) -> Result<Option<Connection>> {
    let patience = if number == 0 { PATIENCE } else { Duration::ZERO };
    match open_within(options, patience).await {
        Ok(mut connection) => {
            settings::set(&mut connection, Session::Reading, &options.context)
                .await
                .context("set up the session")?;
            Ok(Some(connection))
        }
        Err(error) if number > 0 && sqlstate(&error) == Some(TOO_MANY) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the role of a session may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Role {
    /// Whether it may create databases.
    pub(crate) creates: bool,
    /// Sessions that it may have beside this one; none if there is no limit.
    pub(crate) room: Option<usize>,
}

/// Asks what the session's role may do.
pub(crate) async fn role(connection: &mut Connection) -> Result<Role> {
    let found = connection.query(ROLE).await.context("look at the role's rights")?;
    let row = found.only()?;
    let room: Option<i64> = row.number("room")?;
    Ok(Role {
        creates: row.flag("creates")?,
        room: room.map(|room| exact::usize_from(exact::saturating_u64(room))),
    })
}

/// Opens a session that writes.
pub(crate) async fn open_session(options: &ConnectOptions) -> Result<Connection> {
    set_up(open_patiently(options).await?, options).await
}

/// Makes a session one that writes.
pub(crate) async fn set_up(mut connection: Connection, options: &ConnectOptions) -> Result<Connection> {
    settings::set(&mut connection, Session::Writing, &options.context)
        .await
        .context("set up the session")?;
    if !options.search_path.is_empty() {
        let path = search_path::of_schemas(&options.search_path);
        search_path::set(&mut connection, &path).await?;
    }
    Ok(connection)
}
