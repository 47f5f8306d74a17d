//! Where a server is and how to log in.
//!
//! A password comes from the URL, else from `password_file`, else from `REDISCLI_AUTH`, as with `redis-cli`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::base::error::{Context, Error, Result};
use crate::base::secret::Secret;

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Host, port, and whether TLS is spoken.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// A client certificate; both are PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, with those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key; the same file may hold both.
    pub key: PathBuf,
}

/// Everything that is needed to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisAddress {
    /// Where the server listens.
    pub place: Endpoint,
    /// ACL user; `default` when `None`.
    pub user: Option<String>,
    /// Password, if one was found.
    pub password: Option<Secret>,
    /// The database that alone is meant: of the URL's path, if that is not 0, or of `db`. Without one, all of the server.
    pub database: Option<u32>,
    /// PEM file of trusted authorities; the system's when `None`.
    pub ca_file: Option<PathBuf>,
    /// What proves to the server who we are, where it asks for that.
    pub identity: Option<Identity>,
    /// How it is read for a backup.
    pub reading: ReadOptions,
    /// Bound on dialling, TLS and login together.
    pub connect_timeout: Duration,
    /// Bound on the server's silence while it owes us an answer.
    pub read_timeout: Duration,
}

/// How keys are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// By a full synchronisation, or else by SCAN and DUMP.
    #[default]
    Auto,
    /// By a full synchronisation (PSYNC) only.
    Psync,
    /// By SCAN and DUMP only.
    Scan,
}

/// What parameters of the URL say of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// `sentinel`: the address is a Sentinel's, which knows a primary of this name and its replicas.
    pub sentinel: Option<String>,
    /// `replica=yes`: a replica of the server is backed up where one is in sync.
    pub replica: bool,
    /// `cluster=no`: of a cluster, this node alone is meant.
    pub only_node: bool,
    /// `settings=no`: users, configuration and modules are not backed up.
    pub no_settings: bool,
    /// `method`: `auto`, `psync` or `scan`.
    pub method: Method,
    /// `scan_rate`: keys that SCAN and DUMP read in a second at most.
    pub keys_per_second: Option<u64>,
    /// `max_hold`: seconds that the server may wait for a store that has stalled.
    pub max_hold: Option<Duration>,
    /// `failover_wait`: seconds that a primary is waited for while a Sentinel names none that answers as one.
    pub failover_wait: Option<Duration>,
    /// `spool_limit`: MiB that go through a spool file after that.
    pub spool_limit: Option<u64>,
}

/// A primary is waited for so long at most.
const MAX_FAILOVER_WAIT_SECONDS: u64 = 3600;

impl ReadOptions {
    /// Returns what a parameter of this name takes, if there is one.
    fn takes(name: &str) -> Option<String> {
        Some(match name {
            "method" => "auto, psync or scan".to_owned(),
            "sentinel" => "the name of a primary".to_owned(),
            "replica" | "cluster" | "settings" => "yes or no".to_owned(),
            "scan_rate" => "a number of keys in a second, 1 or more".to_owned(),
            "max_hold" => "a number of seconds".to_owned(),
            "failover_wait" => format!("a number of seconds from 0 to {MAX_FAILOVER_WAIT_SECONDS}"),
            "spool_limit" => "a number of MiB".to_owned(),
            _ => return None,
        })
    }

    /// Takes a parameter; returns whether it is one and has a value that can be.
    fn set(&mut self, name: &str, value: &str) -> bool {
        let number = value.parse::<u64>().ok();
        match (name, value, number) {
            ("method", "auto", _) => self.method = Method::Auto,
            ("method", "psync", _) => self.method = Method::Psync,
            ("method", "scan", _) => self.method = Method::Scan,
            ("sentinel", name, _) if !name.is_empty() => self.sentinel = Some(name.to_owned()),
            ("replica", "yes", _) => self.replica = true,
            ("replica", "no", _) => self.replica = false,
            ("cluster", "yes", _) => self.only_node = false,
            ("cluster", "no", _) => self.only_node = true,
            ("settings", "yes", _) => self.no_settings = false,
            ("settings", "no", _) => self.no_settings = true,
            ("scan_rate", _, Some(rate)) if rate > 0 => self.keys_per_second = Some(rate),
            ("max_hold", _, Some(seconds)) => self.max_hold = Some(Duration::from_secs(seconds)),
            ("failover_wait", _, Some(seconds)) if seconds <= MAX_FAILOVER_WAIT_SECONDS => {
                self.failover_wait = Some(Duration::from_secs(seconds));
            }
            ("spool_limit", _, Some(mib)) => self.spool_limit = Some(mib.saturating_mul(1 << 20)),
            _ => return false,
        }
        true
    }
}

/// Returns a URL as a message may show it: without what stands in front of its last `@`, and without its parameters.
fn shown(text: &str) -> String {
    let without_parameters = |text: &str| text.split(['?', '#']).next().unwrap_or_default().to_owned();
    match (text.rsplit_once('@'), text.split_once("://")) {
        (Some((_, place)), Some((scheme, _))) => format!("{scheme}://***@{}", without_parameters(place)),
        (Some((_, place)), None) => format!("***@{}", without_parameters(place)),
        (None, _) => without_parameters(text),
    }
}

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl RedisAddress {
    /// Reads a URL; `password` is one that was split off it before.
    pub fn from_url(text: &str, password: Option<String>, password_file: Option<&Path>, env: Env<'_>) -> Result<Self> {
        let wrong = |why: String| {
            Error::invalid(format!("invalid URL of a Redis server \"{}\": {why}", shown(text)))
                .with_hint("Write redis://user@host:6379, rediss://host for TLS, or unix:///path/of/the.sock.")
        };
        let url = url::Url::parse(text).map_err(|e| wrong(e.to_string()))?;
        let decode = |part: &str| {
            let decoded = percent_decode_str(part).decode_utf8();
            decoded
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| wrong("it is not UTF-8".to_owned()))
        };
        let (mut ca_file, mut user, mut database) = (None, decode(url.username())?, None);
        let (mut certificate, mut key) = (None, None);
        let mut reading = ReadOptions::default();
        for (name, value) in url.query_pairs() {
            match &*name {
                "cacert" => ca_file = Some(PathBuf::from(&*value)),
                "cert" => certificate = Some(PathBuf::from(&*value)),
                "key" => key = Some(PathBuf::from(&*value)),
                "db" => {
                    let number = value.parse();
                    database = Some(number.map_err(|_| wrong(format!("\"db={value}\" is not a database number")))?);
                }
                "user" => user = value.into_owned(),
                name if reading.set(name, &value) => {}
                other => {
                    return Err(wrong(match ReadOptions::takes(other) {
                        Some(takes) => format!("\"{other}={value}\" cannot be, for {other} takes {takes}"),
                        // The value may be a secret whose name is misspelt.
                        None => format!("unknown parameter \"{other}\""),
                    }));
                }
            }
        }
        let place = if url.scheme().ends_with("unix") {
            Endpoint::Unix(PathBuf::from(decode(url.path())?))
        } else {
            let path = url.path().trim_matches('/');
            if !path.is_empty() && database.is_some() {
                return Err(wrong("it has two databases".to_owned()));
            }
            if !path.is_empty() {
                let number: u32 = path
                    .parse()
                    .map_err(|_| wrong("its path is not a database number".to_owned()))?;
                // The usual form of a URL of a server, in the settings of many programs.
                database = Some(number).filter(|number| *number > 0);
            }
            Endpoint::Tcp {
                host: url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
                port: url
                    .port()
                    .unwrap_or(if reading.sentinel.is_some() { 26379 } else { 6379 }),
                tls: matches!(url.scheme(), "rediss" | "valkeys"),
            }
        };
        let identity = match (certificate, key) {
            (None, None) => None,
            (None, Some(_)) => return Err(wrong("it has a key, but no cert".to_owned())),
            (Some(certificate), key) => Some(Identity {
                key: key.unwrap_or_else(|| certificate.clone()),
                certificate,
            }),
        };
        if identity.is_some() && !matches!(place, Endpoint::Tcp { tls: true, .. }) {
            return Err(wrong("a client certificate needs TLS, which is rediss://".to_owned()));
        }
        let password = match (password, url.password(), password_file) {
            (Some(password), _, _) => Some(password),
            (None, Some(password), _) => Some(decode(password)?),
            (None, None, Some(file)) => {
                let text = crate::base::small_file::read_small(file)
                    .with_context(|| format!("read \"{}\"", file.display()))?;
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
            (None, None, None) => env("REDISCLI_AUTH"),
        };
        Ok(Self {
            place,
            user: Some(user).filter(|user| !user.is_empty()),
            password: password.map(Secret::new),
            database,
            ca_file,
            identity,
            reading,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
        })
    }

    /// Returns whether users, configuration and modules are stored: they are of a whole server.
    pub(crate) fn wants_settings(&self) -> bool {
        !self.reading.no_settings && self.database.is_none()
    }

    /// Returns the location for people: no password.
    pub fn location(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        match &self.place {
            Endpoint::Unix(path) => {
                let database = self.database.map(|number| format!("?db={number}")).unwrap_or_default();
                format!("unix://{}{database}", path.display())
            }
            Endpoint::Tcp { host, port, tls } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                let host = if host.contains(':') {
                    format!("[{host}]")
                } else {
                    host.clone()
                };
                let database = match self.database {
                    None => String::new(),
                    Some(0) => "?db=0".to_owned(),
                    Some(number) => format!("/{number}"),
                };
                format!("{scheme}://{user}{host}:{port}{database}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<RedisAddress> {
        RedisAddress::from_url(text, None, None, &|name| {
            (name == "REDISCLI_AUTH").then(|| "env".to_owned())
        })
    }

    #[test]
    fn urls_of_every_form_are_read() {
        let address = read("rediss://backup:ge%40heim@[::1]:7000/3?cacert=/ca.pem").unwrap();
        let place = Endpoint::Tcp {
            host: "::1".to_owned(),
            port: 7000,
            tls: true,
        };
        assert_eq!((address.place.clone(), address.database), (place, Some(3)));
        assert_eq!(address.password.as_ref().unwrap().expose(), "ge@heim");
        assert_eq!(address.location(), "rediss://backup@[::1]:7000/3");
        assert_eq!(address.identity, None);
        let identity = |text: &str| read(text).unwrap().identity.map(|i| (i.certificate, i.key)).unwrap();
        let both = (PathBuf::from("/c.pem"), PathBuf::from("/k.pem"));
        assert_eq!(identity("rediss://h?cert=/c.pem&key=/k.pem"), both);
        assert_eq!(identity("rediss://h?cert=/c.pem"), (both.0.clone(), both.0));
        let address = read("unix:///run/redis.sock?user=x").unwrap();
        assert_eq!(address.place, Endpoint::Unix("/run/redis.sock".into()));
        assert_eq!(address.password.unwrap().expose(), "env");
        assert_eq!(read("redis://h").unwrap().database, None);
        assert_eq!(read("redis://h/0").unwrap().database, None);
        assert_eq!(read("redis://h/0").unwrap().location(), "redis://h:6379");
        assert_eq!(read("redis://h?db=0").unwrap().database, Some(0));
        assert_eq!(read("redis://h?db=0").unwrap().location(), "redis://h:6379?db=0");
        assert_eq!(read("unix:///run/redis.sock?db=2").unwrap().database, Some(2));
        let reading = read("redis://h?method=scan&scan_rate=500&max_hold=5&spool_limit=0&settings=no")
            .unwrap()
            .reading;
        assert!(reading.no_settings);
        assert_eq!((reading.method, reading.keys_per_second), (Method::Scan, Some(500)));
        assert_eq!(
            (reading.max_hold, reading.spool_limit),
            (Some(Duration::from_secs(5)), Some(0))
        );
        for wrong in [
            "redis://h/x",
            "redis://h?a=b",
            "redis://h?method=x",
            "redis://h?scan_rate=0",
            "redis://h/3?db=3",
            "redis://h?db=x",
            "redis://h?cert=/c.pem",
            "rediss://h?key=/k.pem",
            "redis:",
        ] {
            assert!(read(wrong).is_err() || wrong == "redis:", "{wrong}");
        }
        assert!(read("redis://h?failover_wait=3600").is_ok());
        for (wrong, takes) in [
            (
                "failover_wait=3601",
                "failover_wait takes a number of seconds from 0 to 3600",
            ),
            (
                "failover_wait=soon",
                "failover_wait takes a number of seconds from 0 to 3600",
            ),
            ("scan_rate=0", "scan_rate takes a number of keys in a second, 1 or more"),
            ("method=x", "method takes auto, psync or scan"),
            ("replica=maybe", "replica takes yes or no"),
            ("sentinel=", "sentinel takes the name of a primary"),
        ] {
            let said = read(&format!("redis://h?{wrong}")).unwrap_err().to_string();
            assert!(said.contains(&format!("\"{wrong}\"")) && said.contains(takes), "{said}");
        }
    }
}
