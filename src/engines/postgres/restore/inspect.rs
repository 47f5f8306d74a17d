//! What there is at the target before a restore: the database under the wanted name, the role's rights, and a database from
//! which others can be created, renamed and dropped.

use std::time::Duration;

use super::create_database::{COLUMNS, Made};
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::pooler;
use crate::engines::postgres::session::sessions;
use crate::engines::postgres::session::sessions::{Role, TOO_MANY, open_within};
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::settings::Session;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::wire::server_error::sqlstate;

/// What there is under the wanted name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TargetState {
    pub(crate) exists: bool,
    /// Whether it holds no object of a user.
    pub(crate) empty: bool,
    /// Its size.
    pub(crate) bytes: u64,
    /// Whether the role owns it, or may act for who does.
    pub(crate) owned: bool,
    /// How it was made.
    pub(crate) made: Made,
    /// What the role may do.
    pub(crate) role: Role,
}

impl TargetState {
    /// Returns whether a database can be filled beside and then be put under the wanted name.
    pub(crate) fn may_fill_beside(&self) -> bool {
        self.role.creates && (!self.exists || self.owned)
    }
}

/// Looks whether the database exists; returns the maintenance connection too. No two sessions are open at once.
pub(crate) async fn look(wanted: &ConnectOptions) -> Result<(Connection, TargetState)> {
    let mut look = TargetState::default();
    match settings::open(wanted, Session::Asking).await {
        Ok(mut connection) => {
            look = look_at(&mut connection).await.context("look at the target")?;
            connection.close().await;
        }
        Err(error) if sqlstate(&error) == Some("3D000") => {}
        Err(error) => return Err(error),
    }
    let mut admin = open_admin(wanted).await?;
    Box::pin(pooler::refuse_lent(&mut admin, wanted)).await?;
    look.role = sessions::role(&mut admin).await?;
    Ok((admin, look))
}

async fn look_at(connection: &mut Connection) -> Result<TargetState> {
    let sql = format!(
        "SELECT pg_catalog.pg_database_size(d.oid), pg_catalog.pg_has_role(d.datdba, 'USAGE'), \
         (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class WHERE oid >= 16384 AND relnamespace::pg_catalog.regnamespace::text !~ '^pg_') \
         + (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc WHERE oid >= 16384) + (SELECT pg_catalog.count(*) FROM pg_catalog.pg_type WHERE oid >= 16384) \
         + (SELECT pg_catalog.count(*) FROM pg_catalog.pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_') \
         + (SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata), \
         {COLUMNS} FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"
    );
    let found = connection.query(&sql).await?;
    let row = found.rows.first().cloned().unwrap_or_default();
    let text = |at: usize| row.get(at).and_then(Option::as_deref);
    Ok(TargetState {
        exists: true,
        empty: text(2) == Some("0"),
        bytes: text(0).and_then(|n| n.parse().ok()).unwrap_or(0),
        owned: text(1) == Some("t"),
        made: Made::of_row(
            row.get(3..)
                .ok_or_else(|| Error::corrupt("the answer about the database is too short"))?,
        ),
        role: Role::default(),
    })
}

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
    let sql = "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND datname <> pg_catalog.current_database() \
               AND pg_catalog.has_database_privilege(oid, 'CONNECT') ORDER BY datistemplate DESC, datname";
    let found = itself.query(sql).await.context("list the databases")?;
    let names = found.rows.into_iter().filter_map(|mut row| row.get_mut(0)?.take());
    let names: Vec<String> = names.filter(|name| !tried.contains(name)).take(MORE).collect();
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
    error
        .context("connect to a maintenance database")
        .with_hint_instead("Databases are created and renamed from another one: let the role connect to \"postgres\" or \"template1\", or create an empty database and restore into that.")
}
