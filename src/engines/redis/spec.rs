//! A Redis or Valkey source: options, and what the rest of the program asks of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use url::Url;

use crate::base::environment::variable;
use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::engines::redact::redact_url;
use crate::engines::redis::log::held::RECEIVER_BYTES;
use crate::engines::redis::secrets::with_password;
use crate::engines::redis::source_url::{split_redis_url, tls_files, with_tls_files};
use crate::engines::redis::{KIND, RedisAddress, RedisOptions, RedisSource};
use crate::engines::{EngineKind, ReceivedLog, Secrets, Server, Source, SourceSpec, Spec};

/// A Redis or Valkey server.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct RedisSpec {
    /// `redis://user@host:port`, `rediss://…` for TLS, or `unix:///path/of/the.sock`, without a password.
    pub url: String,
    /// The password, if it is known already; otherwise REDISCLI_AUTH is asked.
    #[serde(skip)]
    pub password: Option<Secret>,
    /// A file whose first line is the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whether the log of the server is received as long as the scheduler runs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// How far back the log leads to any moment.
    #[serde(skip_serializing_if = "Option::is_none", rename = "log_window_seconds")]
    pub log_window: Option<u64>,
    /// Its data directory on this host, for restores by its log.
    #[serde(skip)]
    pub data_directory: Option<PathBuf>,
    /// Whether this host does not answer for the place: only a manifest names it. No secret goes there that was not
    /// meant for it.
    #[serde(skip)]
    pub foreign: bool,
}

impl RedisSpec {
    /// Reads a URL, with its password.
    pub fn of_url(text: &str) -> Result<Self> {
        let (url, password) = split_redis_url(text)?;
        Ok(Self {
            url,
            password,
            ..Self::default()
        })
    }

    /// Finds out how to log in: the configuration's password, its file, REDISCLI_AUTH, in this order. A server that only a
    /// manifest names gets none but a password that was found for it.
    pub fn address(&self) -> Result<RedisAddress> {
        let env = |name: &str| variable(name).filter(|value| !value.is_empty() && !self.foreign);
        let password = self.password.as_ref().map(|password| password.expose().to_owned());
        let file = self.password_file.as_deref().filter(|_| !self.foreign);
        RedisAddress::from_url(&self.url, password, file, &env)
    }
}

/// Words in the names of images of such servers.
pub(super) const IMAGES: &[&str] = &["redis", "valkey"];

#[async_trait]
impl SourceSpec for RedisSpec {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn place(&self) -> String {
        redact_url(&self.url)
    }

    fn open(&self) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(RedisSource::new(RedisOptions::new(self.address()?))))
    }

    fn received_log(&self) -> Option<ReceivedLog> {
        self.log.then_some(ReceivedLog {
            slot: None,
            held_bytes: RECEIVER_BYTES,
            auto_base: false,
        })
    }

    fn is_foreign(&self) -> bool {
        self.foreign
    }

    fn local_path(&self) -> Option<&Path> {
        self.data_directory.as_deref()
    }

    fn borrow_login(&mut self, known: &dyn SourceSpec) -> bool {
        let Some(known) = known.downcast_ref::<Self>() else {
            return false;
        };
        if !same_login(&known.url, &self.url) {
            return false;
        }
        if self.password.is_none() {
            self.password.clone_from(&known.password);
            self.password_file.clone_from(&known.password_file);
        }
        if self.url.starts_with("rediss:") || self.url.starts_with("valkeys:") {
            let mut files = tls_files(&known.url);
            // A certificate and its key belong together.
            if tls_files(&self.url).iter().any(|(name, _)| name != "cacert") {
                files.retain(|(name, _)| name == "cacert");
            }
            let files: Vec<_> = files
                .iter()
                .map(|(name, file)| (name.as_str(), file.as_str()))
                .collect();
            self.url = with_tls_files(&self.url, &files);
        }
        true
    }

    fn server(&self) -> Option<Server<'_>> {
        Some(Server {
            url: &self.url,
            default_port: 6379,
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
}

/// Returns whether two URLs mean the same user of the same server.
fn same_login(one: &str, other: &str) -> bool {
    let login = |text: &str| {
        let url = Url::parse(text).ok()?;
        let socket = url.scheme().ends_with("unix").then(|| url.path().to_owned());
        let host = socket.or_else(|| url.host_str().map(str::to_owned));
        let user = url
            .query_pairs()
            .find(|(name, _)| name == "user")
            .map(|(_, user)| user.into_owned());
        let user = user.unwrap_or_else(|| url.username().to_owned());
        Some((host.filter(|host| !host.is_empty())?, url.port().unwrap_or(6379), user))
    };
    login(one).is_some_and(|one| login(other) == Some(one))
}
