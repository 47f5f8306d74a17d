//! A server whose log can be received.

use super::session::LogSession;
use crate::base::error::{Error, Result};
use crate::engines::SourceSpec;
use crate::engines::postgres::physical::PhysicalSpec;
use crate::engines::postgres::session::replication::Replication;
use crate::engines::postgres::session::url::ConnectOptions;

/// The name by which the server knows its receiver (`pg_stat_replication`, `synchronous_standby_names`).
pub(super) const APPLICATION: &str = "wirevault";

/// How to reach a server.
#[derive(Debug, Clone)]
pub struct LogServer {
    options: ConnectOptions,
}

impl LogServer {
    /// Finds out how to log in to the server of a source; one of another kind has no such log.
    pub fn of(spec: &dyn SourceSpec) -> Result<Self> {
        let Some(physical) = spec.downcast_ref::<PhysicalSpec>() else {
            return Err(Error::invalid(format!(
                "a source of kind {} has no write-ahead log that can be received",
                spec.kind()
            ))
            .with_hint("Name the server as for a base backup: postgres-physical://user@host:port."));
        };
        let mut options = physical.connect_options()?;
        APPLICATION.clone_into(&mut options.application_name);
        Ok(Self { options })
    }

    /// Returns where it is, for people.
    pub fn location(&self) -> String {
        self.options.location()
    }

    /// Logs in and asks who it is.
    pub async fn connect(&self) -> Result<LogSession> {
        LogSession::begin(Replication::open(&self.options).await?).await
    }
}
