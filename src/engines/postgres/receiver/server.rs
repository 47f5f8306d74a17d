//! A server whose log can be received.

use super::session::LogSession;
use crate::base::error::{Error, Result};
use crate::engines::SourceSpec;
use crate::engines::postgres::physical::PhysicalSpec;
use crate::engines::postgres::session::replication::Replication;

/// The name by which the server knows its receiver (`pg_stat_replication`, `synchronous_standby_names`).
pub(super) const APPLICATION: &str = "wirevault";

/// How to reach a server.
#[derive(Debug, Clone)]
pub struct LogServer {
    spec: PhysicalSpec,
    location: String,
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
        physical.connect_options()?;
        Ok(Self {
            location: physical.place(),
            spec: physical.clone(),
        })
    }

    /// Returns where it is, for people.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Logs in and asks who it is. Of several hosts it is the first that answers now, whichever it was before; a password is looked
    /// up anew.
    pub async fn connect(&self) -> Result<LogSession> {
        let mut options = self.spec.connect_options()?;
        APPLICATION.clone_into(&mut options.application_name);
        LogSession::begin(Replication::open(&options).await?).await
    }
}
