//! A PostgreSQL source: options, and what the rest of the program asks of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::environment::variable;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::secret::Secret;
use crate::engines::postgres::flags::BackupFlags;
use crate::engines::postgres::secrets::with_password;
use crate::engines::postgres::server_url::{database_of, names_database, plain_name, with_database};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::conninfo::Params;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::source_url::split_postgres_url;
use crate::engines::postgres::{Exclusion, KIND, PostgresSource, databases};
use crate::engines::redact::redact_url;
use crate::engines::{EngineFlags, EngineKind, Member, Secrets, Server, Source, SourceSpec, Spec};

/// A PostgreSQL database.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PostgresSpec {
    /// `postgres://user@host:port/database?options`, without a password.
    pub url: String,
    /// The password, if it is known already; otherwise PGPASSWORD and `~/.pgpass` are asked.
    #[serde(skip)]
    pub password: Option<Secret>,
    /// A file whose first line is the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Connections that read tables at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<usize>,
    /// How long, in seconds, a statement may wait behind the backup before the backup gives way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_block_seconds: Option<u64>,
    /// Leave out the passwords of roles.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_role_passwords: bool,
    /// Patterns of tables, views and sequences that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_tables: Vec<String>,
    /// Patterns of schemas that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_schemas: Vec<String>,
    /// Patterns of tables and sequences whose rows and values are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_table_data: Vec<String>,
    /// Patterns of extensions that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_extensions: Vec<String>,
    /// Leave out large objects.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exclude_large_objects: bool,
    /// Whether this host does not answer for the place: only a manifest names it. No secret goes there that was not
    /// meant for it.
    #[serde(skip)]
    pub foreign: bool,
}

impl PostgresSpec {
    /// Reads a connection string, with its password.
    pub fn of_url(text: &str) -> Result<Self> {
        let (url, password) = split_postgres_url(text)?;
        Ok(Self {
            url,
            password,
            ..Self::default()
        })
    }

    /// Returns what is left out.
    pub fn exclusion(&self) -> Exclusion {
        Exclusion {
            tables: self.exclude_tables.clone(),
            schemas: self.exclude_schemas.clone(),
            table_data: self.exclude_table_data.clone(),
            extensions: self.exclude_extensions.clone(),
            large_objects: self.exclude_large_objects,
        }
    }

    /// Returns the same, of a database of the same server.
    fn of_database(&self, database: &str) -> Self {
        Self {
            url: with_database(&self.url, database),
            ..self.clone()
        }
    }

    /// Finds out how to log in: the configuration's password, its file, PGPASSWORD, `~/.pgpass`, in this order. A server that
    /// only a manifest names gets none of them that was not meant for it.
    pub fn connect_options(&self) -> Result<ConnectOptions> {
        let wrong = || format!("invalid PostgreSQL URL \"{}\"", redact_url(&self.url));
        let mut params = Params::parse(&self.url).with_context(wrong)?;
        if let Some(password) = &self.password {
            params.set("password", password.expose().to_owned())?;
        }
        let env = |name: &str| variable(name).filter(|value| !value.is_empty());
        if self.foreign {
            return ConnectOptions::from_foreign_params(params, &env);
        }
        ConnectOptions::from_params(params, self.password_file.as_deref(), &env)
    }

    /// Returns the database of this server that bears the name it had.
    fn same_database(&self, called: Option<&dyn SourceSpec>) -> Option<Self> {
        let called: &Self = called?.downcast_ref()?;
        database_of(&called.url).map(|database| self.of_database(&database))
    }
}

/// Words in the names of images of such servers.
pub(super) const IMAGES: &[&str] = &["postgres", "postgis", "pgvector", "timescale"];

#[async_trait]
impl SourceSpec for PostgresSpec {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn parallel(&self) -> Option<usize> {
        self.parallel
    }

    fn place(&self) -> String {
        redact_url(&self.url)
    }

    fn open(&self) -> Result<Arc<dyn Source>> {
        let limit = self.max_block_seconds.map(Duration::from_secs);
        let opened = PostgresSource::new(self.connect_options()?).with_max_block(limit);
        let opened = opened.without_role_passwords(self.no_role_passwords);
        Ok(Arc::new(opened.without(self.exclusion())))
    }

    fn take_flags(&mut self, flags: &EngineFlags) -> Result<()> {
        let flags: BackupFlags = flags.of();
        self.no_role_passwords |= flags.no_role_passwords;
        if let Some(limit) = flags.max_block {
            self.max_block_seconds = Some(limit.as_secs().max(1));
        }
        flags.exclude.add_to(self)
    }

    /// A server as a whole stands for its databases, each of which carries the server's roles and settings.
    async fn members(&self, name: &str) -> Result<Option<Vec<Member>>> {
        if names_database(&self.url) {
            return Ok(None);
        }
        // The environment, or a service, may name it as well.
        let options = self.connect_options()?;
        if options.names_database {
            return Ok(None);
        }
        let found = databases(&options).await.context("list its databases")?;
        for (name, why) in &found.skipped {
            tracing::warn!("database \"{name}\" is not backed up: {why}");
        }
        let member = |database: &String| Member {
            name: format!("{name}.{}", plain_name(database)),
            spec: Box::new(self.of_database(database)),
        };
        Ok(Some(found.names.iter().map(member).collect()))
    }

    fn is_foreign(&self) -> bool {
        self.foreign
    }

    fn place_of(&self, called: Option<&dyn SourceSpec>) -> Result<Option<Spec>> {
        if names_database(&self.url) {
            return Ok(Some(Box::new(self.clone())));
        }
        // A server as a whole stands for its databases, which have names of their own. Which of them the manifest may not say,
        // nor the environment: then nobody does.
        let here = || self.connect_options().is_ok_and(|options| options.names_database);
        let found = self.same_database(called);
        let found = found.or_else(|| here().then(|| self.clone()));
        Ok(found.map(|found| -> Spec { Box::new(found) }))
    }

    fn place_of_member(&self, group: &str, source: &str, called: Option<&dyn SourceSpec>) -> Option<Spec> {
        let suffix = source.strip_prefix(group)?.strip_prefix('.')?;
        if names_database(&self.url) {
            return None;
        }
        let found = self.same_database(called)?;
        let plain = plain_name(&database_of(&found.url)?);
        let rest = suffix.strip_prefix(&plain)?;
        let numbered = rest
            .strip_prefix('-')
            .is_some_and(|number| number.parse::<u32>().is_ok());
        (rest.is_empty() || numbered).then(|| -> Spec { Box::new(found) })
    }

    fn borrow_login(&mut self, known: &dyn SourceSpec) -> bool {
        let has_own =
            self.password.is_some() || Params::parse(&self.url).is_ok_and(|params| params.has("password_file"));
        match known.downcast_ref::<Self>() {
            Some(known) if !has_own && same_login(&known.url, &self.url) => {
                self.password.clone_from(&known.password);
                self.password_file.clone_from(&known.password_file);
                true
            }
            _ => false,
        }
    }

    fn server(&self) -> Option<Server<'_>> {
        Some(Server {
            url: &self.url,
            default_port: 5432,
            images: IMAGES,
        })
    }

    fn reached_at(&self, url: &str, secrets: &Secrets) -> Spec {
        let mut server = self.clone();
        if let Ok(found) = Self::of_url(&with_password(secrets, url)) {
            server.url = found.url;
            if server.password.is_none() && server.password_file.is_none() {
                server.password = found.password;
            }
        }
        Box::new(server)
    }

    /// The database itself may be what is to be restored: any one will do.
    async fn ask(&self) -> Result<String> {
        let mut options = self.connect_options()?;
        // Each server and address has its own time: the first that is silent does not take that of the others.
        options.connect_timeout = options.connect_timeout.min(SILENCE);
        options.read_timeout = options.read_timeout.min(SILENCE);
        let wanted = options.database.clone();
        let mut last = Error::new(ErrorKind::TimedOut, "no answer from the server");
        for database in [wanted.as_str(), "postgres"] {
            database.clone_into(&mut options.database);
            match Connection::open(&options).await {
                Ok(mut connection) => {
                    let answer = connection.query("SELECT current_setting('server_version')").await?;
                    let version = answer.scalar().unwrap_or_default().to_owned();
                    connection.close().await;
                    return Ok(format!("PostgreSQL {version}"));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// How long a server that is asked whether it answers may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Returns whether two connection strings mean the same user of the same server.
fn same_login(one: &str, other: &str) -> bool {
    let login = |text: &str| {
        let mut params = Params::parse(text).ok()?;
        Some((
            params.take("host")?,
            params.take("port").unwrap_or_else(|| "5432".to_owned()),
            params.take("user").unwrap_or_default(),
            params.take("hostaddr"),
        ))
    };
    login(one).is_some_and(|one| login(other) == Some(one))
}
