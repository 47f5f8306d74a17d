//! A source of base backups: options, and what the rest of the program asks of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::base::environment::variable;
use crate::base::error::{Context, Result};
use crate::base::secret::Secret;
use crate::engines::postgres::physical::backup::PhysicalSource;
use crate::engines::postgres::physical::{Checkpoint, KIND, ManifestChecksums};
use crate::engines::postgres::session::conninfo::Params;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::source_url::split_postgres_url;
use crate::engines::redact::redact_url;
use crate::engines::{EngineKind, ReceivedLog, Source, SourceSpec, Spec};

/// The scheme of its URLs. What stands behind it is as in a URL of libpq.
pub(super) const SCHEME: &str = "postgres-physical";

/// What `~/.pgpass` and `pg_hba.conf` call the database of a replication connection.
const REPLICATION: &str = "replication";

/// A PostgreSQL cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PhysicalSpec {
    /// `postgres://user@host:port?options`, without a password.
    pub url: String,
    /// The password, if it is known already; otherwise PGPASSWORD and `~/.pgpass` are asked.
    #[serde(skip)]
    pub password: Option<Secret>,
    /// A file whose first line is the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whether the log of the server is received as long as the scheduler runs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// Whether a job of it is run where no base backup leads to what is received.
    #[serde(skip)]
    pub auto_base: bool,
    /// The replication slot of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// How far back the log leads to any moment.
    #[serde(skip_serializing_if = "Option::is_none", rename = "log_window_seconds")]
    pub log_window: Option<u64>,
    /// Its data directory on this host, for restores.
    #[serde(skip)]
    pub data_directory: Option<PathBuf>,
    /// How the checkpoint comes.
    pub checkpoint: Checkpoint,
    /// How files are summed.
    pub manifest_checksums: ManifestChecksums,
    /// Whether this host does not answer for the place: only a manifest names it. No secret goes there that was not
    /// meant for it.
    #[serde(skip)]
    pub foreign: bool,
}

impl PhysicalSpec {
    /// Reads a connection string, with its password; its scheme may be that of a database.
    pub fn of_url(text: &str) -> Result<Self> {
        let rest = text
            .split_once("://")
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
        let text = rest.map_or_else(|| text.to_owned(), |(_, rest)| format!("postgres://{rest}"));
        let (url, password) = split_postgres_url(&text)?;
        Ok(Self {
            url,
            password,
            ..Self::default()
        })
    }

    /// Finds out how to log in to a WAL sender: as of a database, whose name in password files is `replication`.
    pub fn connect_options(&self) -> Result<ConnectOptions> {
        self.options_for(Some(REPLICATION))
    }

    /// Finds out how to log in to an ordinary session: of the database that the URL names, or else of `postgres`.
    pub(super) fn sql_options(&self) -> Result<ConnectOptions> {
        let names_one = Params::parse(&self.url).is_ok_and(|params| params.has("dbname"));
        self.options_for((!names_one).then_some("postgres"))
    }

    fn options_for(&self, database: Option<&str>) -> Result<ConnectOptions> {
        let wrong = || format!("invalid PostgreSQL URL \"{}\"", redact_url(&self.url));
        let mut params = Params::parse(&self.url).with_context(wrong)?;
        if let Some(database) = database {
            params.set("dbname", database.to_owned())?;
        }
        if let Some(password) = &self.password {
            params.set("password", password.expose().to_owned())?;
        }
        let env = |name: &str| variable(name).filter(|value| !value.is_empty());
        if self.foreign {
            return ConnectOptions::from_foreign_params(params, &env);
        }
        ConnectOptions::from_params(params, self.password_file.as_deref(), &env)
    }

    /// Returns what a source is called after: its service, or the name of its first host.
    pub(super) fn name(&self) -> String {
        let params = Params::parse(&self.url).unwrap_or_default();
        let host = params
            .get("host")
            .and_then(|hosts| hosts.split(',').next())
            .map(str::trim);
        let is_name = |host: &&str| {
            let is_local = host.eq_ignore_ascii_case("localhost") || host.starts_with('/');
            !is_local && host.parse::<std::net::IpAddr>().is_err()
        };
        let name = params.get("service").or(host.filter(is_name));
        name.unwrap_or_default().to_owned()
    }
}

#[async_trait]
impl SourceSpec for PhysicalSpec {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn place(&self) -> String {
        let shown = redact_url(&self.url);
        shown
            .strip_prefix("postgres://")
            .map_or(shown.clone(), |rest| format!("{SCHEME}://{rest}"))
    }

    fn open(&self) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(PhysicalSource::new(self)?))
    }

    fn received_log(&self) -> Option<ReceivedLog> {
        self.log.then(|| ReceivedLog {
            slot: self.slot.clone(),
            // What waits lies in the spool directory.
            held_bytes: 0,
            auto_base: self.auto_base,
        })
    }

    fn is_foreign(&self) -> bool {
        self.foreign
    }

    fn local_path(&self) -> Option<&Path> {
        self.data_directory.as_deref()
    }

    fn place_of(&self, _: Option<&dyn SourceSpec>) -> Result<Option<Spec>> {
        Ok(Some(Box::new(self.clone())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_names_a_server() {
        let spec = PhysicalSpec::of_url("postgres-physical://backup:geheim@db1.example:5433?sslmode=require").unwrap();
        assert_eq!(spec.url, "postgres://backup@db1.example:5433?sslmode=require");
        assert_eq!(
            spec.place(),
            "postgres-physical://backup@db1.example:5433?sslmode=require"
        );
        assert!(spec.password.is_some() && !format!("{spec:?}").contains("geheim"));
        assert_eq!(spec.name(), "db1.example");
        let options = spec.connect_options().unwrap();
        assert_eq!(
            (options.database.as_str(), options.user.as_str()),
            ("replication", "backup")
        );
        assert_eq!(spec.sql_options().unwrap().database, "postgres");
        for text in [
            "postgres://u@127.0.0.1",
            "postgres-physical://u@localhost:1",
            "host=/run/pg user=u",
            "postgres://u@[::1]",
        ] {
            assert_eq!(PhysicalSpec::of_url(text).unwrap().name(), "", "{text}");
        }
        let named = PhysicalSpec::of_url("postgres-physical://u@h/app").unwrap();
        assert_eq!(named.sql_options().unwrap().database, "app");
        assert_eq!(named.connect_options().unwrap().database, "replication");
    }
}
