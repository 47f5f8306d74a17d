//! What there is at the target before a restore: the database under the wanted name, the role's rights, and a database from
//! which others can be created, renamed and dropped.

use super::create_database::Made;
use crate::base::error::{Context as _, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::maintenance::open_admin;
use crate::engines::postgres::session::pooler;
use crate::engines::postgres::session::sessions;
use crate::engines::postgres::session::sessions::Role;
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::settings::Session;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::wire::server_error::sqlstate;

const STATE: &str = include_str!("sql/target_state.sql");

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
            look = look_at(&mut connection).await.context("inspect the target")?;
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
    let found = connection.query(STATE).await?;
    let row = found.only()?;
    Ok(TargetState {
        exists: true,
        empty: row.text("objects")? == "0",
        bytes: row.number("bytes")?.unwrap_or(0),
        owned: row.flag("owned")?,
        made: Made::from_row(row)?,
        role: Role::default(),
    })
}
