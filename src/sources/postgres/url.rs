//! Where a database is and how to log in: URL, `PG*` environment, password file, `~/.pgpass`.
//!
//! Order of precedence as in libpq: the URL, then the environment, then defaults; for the password the URL, then
//! `password_file`, then `PGPASSWORD`, then the password file. A password is wrapped in [`Secret`], which has no
//! readable `Debug` and no `Display`, so it cannot enter a message.
//!
//! `sslmode` defaults to `prefer` for Unix sockets and loopback addresses and to `verify-full` for every other host:
//! a backup carries the whole database, so an unverified peer must be asked for by name.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::settings;
use crate::error::{Context, Error, Result};

/// A password: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns the secret's bytes, for the wire only.
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// Host name or address.
    Tcp(String),
    /// Directory of the socket `.s.PGSQL.<port>`.
    Unix(PathBuf),
}

/// What TLS must prove, with libpq's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server offers it, without proof of who it is.
    Prefer,
    /// TLS without proof of who it is (with `sslrootcert`: as `verify-ca`).
    Require,
    /// TLS with a certificate of a trusted authority.
    VerifyCa,
    /// TLS with a certificate of a trusted authority for this host name.
    VerifyFull,
}

/// Everything that is needed to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Server.
    pub host: Host,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Password, if one was found.
    pub password: Option<Secret>,
    /// TLS mode.
    pub ssl_mode: SslMode,
    /// PEM file of trusted authorities; the system's when `None`.
    pub ssl_root_cert: Option<PathBuf>,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// Bound on dialling, TLS and login together.
    pub connect_timeout: Duration,
    /// Bound on the server's silence while it owes us an answer.
    pub read_timeout: Duration,
    /// Allows the server to ask for the password in clear text over an unencrypted connection.
    pub allow_cleartext_password: bool,
    /// Schemas in which a session that restores looks for names without one; none, unless a restore says so.
    pub search_path: Vec<String>,
    /// What sessions that restore take over from the source.
    pub context: settings::Context,
}

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl ConnectOptions {
    /// Reads a URL, filling what it leaves open from the process environment and the password file.
    pub fn from_url(text: &str) -> Result<Self> {
        Self::from_url_with(text, None, &|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
    }

    /// As [`Self::from_url`], with a file whose first line is the password, and an environment given by the caller.
    pub fn from_url_with(text: &str, password_file: Option<&Path>, env: Env<'_>) -> Result<Self> {
        let url = parse(text)?;
        let mut raw = Raw::from_url(&url)?;
        raw.fill_from(env);
        raw.finish(password_file, env)
    }

    /// Checks the parameters of a URL: one that is not known may hold a secret under a name that is misspelt, so it must not
    /// come as far as a plan, which is stored and printed.
    pub fn check_parameters(url: &url::Url) -> Result<()> {
        Raw::from_url(url).map(drop)
    }

    /// As [`Self::from_url_with`], for a URL that nobody on this host wrote. It gets no secret that was not meant for it:
    /// `PGPASSWORD` belongs to the server of `PGHOST` and `PGPORT`, and a line of the password file has to name host and
    /// port itself. A password in the URL was put there by the caller.
    pub fn from_foreign_url(text: &str, env: Env<'_>) -> Result<Self> {
        let mut raw = Raw::from_url(&parse(text)?)?;
        raw.foreign = true;
        raw.password_file = None;
        raw.allow_cleartext = false;
        raw.fill_from(env);
        raw.finish(None, env)
    }

    /// Returns the same server and role with another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self {
            database: database.to_owned(),
            ..self.clone()
        }
    }

    /// Returns the location for people: no password.
    pub fn location(&self) -> String {
        match &self.host {
            Host::Tcp(host) if host.contains(':') => {
                format!("postgres://{}@[{host}]:{}/{}", self.user, self.port, self.database)
            }
            Host::Tcp(host) => format!("postgres://{}@{host}:{}/{}", self.user, self.port, self.database),
            Host::Unix(path) => {
                format!(
                    "postgres://{}@/{}?host={}&port={}",
                    self.user,
                    self.database,
                    path.display(),
                    self.port
                )
            }
        }
    }
}

fn parse(text: &str) -> Result<url::Url> {
    let url = url::Url::parse(text).map_err(|e| {
        // The text may hold a password, so it is not repeated.
        Error::invalid("unable to read the database URL").with_cause(e).with_hint(
            "Write postgres://user@host:port/database; percent-encode special characters, or leave the password to PGPASSWORD or ~/.pgpass.",
        )
    })?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(
            Error::invalid(format!("\"{}\" is not a PostgreSQL URL scheme", url.scheme()))
                .with_hint("Write postgres://user@host:port/database."),
        );
    }
    Ok(url)
}

/// Settings as text, before defaults.
#[derive(Default)]
struct Raw {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    database: Option<String>,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    ssl_mode: Option<String>,
    ssl_root_cert: Option<String>,
    application_name: Option<String>,
    connect_timeout: Option<String>,
    read_timeout: Option<String>,
    allow_cleartext: bool,
    /// Nobody on this host wrote the URL.
    foreign: bool,
}

fn decode(text: &str, what: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Error::invalid(format!("{what} in the database URL is not UTF-8")))
}

impl Raw {
    fn from_url(url: &url::Url) -> Result<Self> {
        let mut raw = Self::default();
        if let Some(host) = url.host_str().filter(|h| !h.is_empty()) {
            raw.host = Some(decode(host.trim_start_matches('[').trim_end_matches(']'), "the host")?);
        }
        raw.port = url.port().map(|p| p.to_string());
        if !url.username().is_empty() {
            raw.user = Some(decode(url.username(), "the user")?);
        }
        if let Some(password) = url.password() {
            raw.password = Some(Secret::new(decode(password, "the password")?));
        }
        let path = url.path().trim_start_matches('/');
        if !path.is_empty() {
            raw.database = Some(decode(path, "the database")?);
        }
        for (key, value) in url.query_pairs() {
            raw.set(&key, value.into_owned())?;
        }
        Ok(raw)
    }

    fn set(&mut self, key: &str, value: String) -> Result<()> {
        match key {
            "host" => self.host = Some(value),
            "port" => self.port = Some(value),
            "user" => self.user = Some(value),
            "dbname" => self.database = Some(value),
            "password" => self.password = Some(Secret::new(value)),
            "password_file" => self.password_file = Some(value.into()),
            "sslmode" => self.ssl_mode = Some(value),
            "sslrootcert" => self.ssl_root_cert = Some(value),
            "application_name" => self.application_name = Some(value),
            "connect_timeout" => self.connect_timeout = Some(value),
            "read_timeout" => self.read_timeout = Some(value),
            "allow_cleartext_password" => self.allow_cleartext = matches!(value.as_str(), "1" | "true" | "yes" | "on"),
            _ => return Err(unknown_parameter(key)),
        }
        Ok(())
    }

    fn fill_from(&mut self, env: Env<'_>) {
        let fill = |slot: &mut Option<String>, name: &str| {
            if slot.is_none() {
                *slot = env(name);
            }
        };
        fill(&mut self.host, "PGHOST");
        fill(&mut self.port, "PGPORT");
        fill(&mut self.user, "PGUSER");
        fill(&mut self.database, "PGDATABASE");
        fill(&mut self.ssl_mode, "PGSSLMODE");
        fill(&mut self.ssl_root_cert, "PGSSLROOTCERT");
        fill(&mut self.connect_timeout, "PGCONNECT_TIMEOUT");
    }

    fn finish(self, password_file: Option<&Path>, env: Env<'_>) -> Result<ConnectOptions> {
        let host = match self.host {
            Some(h) if h.starts_with('/') => Host::Unix(h.into()),
            Some(h) => Host::Tcp(h),
            None => Host::Tcp("localhost".to_owned()),
        };
        let port = match self.port {
            None => 5432,
            Some(text) => text
                .parse()
                .map_err(|e| Error::invalid(format!("\"{text}\" is not a port")).with_cause(e))?,
        };
        let user = self
            .user
            .or_else(|| env("USER"))
            .unwrap_or_else(|| "postgres".to_owned());
        let database = self.database.unwrap_or_else(|| user.clone());
        if [&user, &database].iter().any(|s| s.contains('\0')) {
            return Err(Error::invalid(
                "a NUL character is not allowed in a user or database name",
            ));
        }
        let ssl_mode = match self.ssl_mode.as_deref() {
            None => default_ssl_mode(&host),
            Some(text) => parse_ssl_mode(text)?,
        };
        let mut password = self.password;
        if password.is_none()
            && let Some(file) = password_file.map(Path::to_owned).or(self.password_file)
        {
            password = Some(read_password_file(&file)?);
        }
        let meant = !self.foreign || is_of_environment(&host, port, env);
        if password.is_none() && meant {
            password = env("PGPASSWORD").map(Secret::new);
        }
        if password.is_none() {
            password = from_pgpass(&host, port, &user, &database, (env, !meant))?;
        }
        Ok(ConnectOptions {
            host,
            port,
            user,
            database,
            password,
            ssl_mode,
            ssl_root_cert: self.ssl_root_cert.filter(|p| p != "system").map(PathBuf::from),
            application_name: self.application_name.unwrap_or_else(|| "wirevault".to_owned()),
            connect_timeout: seconds(self.connect_timeout, "connect_timeout", 30)?,
            read_timeout: seconds(self.read_timeout, "read_timeout", 3600)?,
            allow_cleartext_password: self.allow_cleartext,
            search_path: Vec::new(),
            context: settings::Context::none(),
        })
    }
}

/// Returns whether the environment names this server itself.
fn is_of_environment(host: &Host, port: u16, env: Env<'_>) -> bool {
    let host = match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    let named = env("PGPORT").map_or(Some(5432), |text| text.parse().ok());
    env("PGHOST").is_some_and(|name| name == host) && named == Some(port)
}

fn unknown_parameter(key: &str) -> Error {
    const KNOWN: [&str; 12] = [
        "host",
        "port",
        "user",
        "dbname",
        "password",
        "password_file",
        "sslmode",
        "sslrootcert",
        "application_name",
        "connect_timeout",
        "read_timeout",
        "allow_cleartext_password",
    ];
    let near = KNOWN
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
    Error::invalid(format!("unknown parameter \"{key}\" in the database URL"))
        .with_hint(format!("Did you mean \"{}\"?", near.unwrap_or(&"sslmode")))
}

fn seconds(text: Option<String>, name: &str, default: u64) -> Result<Duration> {
    let Some(text) = text else {
        return Ok(Duration::from_secs(default));
    };
    let value: u64 = text
        .parse()
        .map_err(|e| Error::invalid(format!("{name} \"{text}\" is not a number of seconds")).with_cause(e))?;
    // As in libpq, 0 means no bound; a year is as good as none.
    Ok(Duration::from_secs(if value == 0 { 31_536_000 } else { value }))
}

fn default_ssl_mode(host: &Host) -> SslMode {
    match host {
        Host::Unix(_) => SslMode::Disable,
        Host::Tcp(name) if is_loopback(name) => SslMode::Prefer,
        Host::Tcp(_) => SslMode::VerifyFull,
    }
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn parse_ssl_mode(text: &str) -> Result<SslMode> {
    Ok(match text {
        "disable" => SslMode::Disable,
        "allow" | "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        other => {
            return Err(Error::invalid(format!("unknown sslmode \"{other}\""))
                .with_hint("Use disable, prefer, require, verify-ca or verify-full."));
        }
    })
}

fn read_password_file(path: &Path) -> Result<Secret> {
    let text = crate::config::read_small(path).with_context(|| format!("read password file \"{}\"", path.display()))?;
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}

/// Looks into the password file; `exact` leaves lines aside that do not name host and port.
fn from_pgpass(
    host: &Host,
    port: u16,
    user: &str,
    database: &str,
    (env, exact): (Env<'_>, bool),
) -> Result<Option<Secret>> {
    let named = env("PGPASSFILE").map(PathBuf::from);
    let Some(path) = named.or_else(|| env("HOME").map(|home| Path::new(&home).join(".pgpass"))) else {
        return Ok(None);
    };
    let Ok(metadata) = std::fs::metadata(&path) else {
        return Ok(None);
    };
    if !metadata.is_file() {
        return Ok(None);
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&metadata);
    if mode & 0o077 != 0 {
        // As libpq: a password that is needed then is missed at login.
        let path = path.display();
        tracing::warn!("password file \"{path}\" is not read, for others can read it: run chmod 0600 \"{path}\"");
        return Ok(None);
    }
    let text =
        crate::config::read_small(&path).with_context(|| format!("read password file \"{}\"", path.display()))?;
    let host = match host {
        Host::Tcp(name) => name.clone(),
        // libpq matches the default socket directory as "localhost".
        Host::Unix(path) if matches!(path.to_str(), Some("/tmp" | "/var/run/postgresql")) => "localhost".to_owned(),
        Host::Unix(path) => path.display().to_string(),
    };
    Ok(lookup_pgpass(&text, &[&host, &port.to_string(), database, user], exact).map(Secret::new))
}

/// Finds the password of the first matching line `host:port:database:user:password`; `\` escapes `:` and `\`.
fn lookup_pgpass(text: &str, wanted: &[&str; 4], exact: bool) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split_pgpass(line);
        let (password, keys) = fields.split_last()?;
        let named = keys.iter().take(2).all(|field| field != "*");
        let matches = keys.len() == 4
            && (named || !exact)
            && keys
                .iter()
                .zip(wanted)
                .all(|(field, want)| field == "*" || field == want);
        matches.then(|| password.clone())
    })
}

fn split_pgpass(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let literal = match c {
            '\\' => chars.next(),
            ':' if fields.len() < 5 => None,
            other => Some(other),
        };
        match literal {
            Some(c) => {
                if let Some(last) = fields.last_mut() {
                    last.push(c);
                }
            }
            None => fields.push(String::new()),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn read(text: &str, vars: &[(&str, &str)]) -> Result<ConnectOptions> {
        ConnectOptions::from_url_with(text, None, &|name| {
            vars.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn the_url_wins_over_the_environment() {
        let vars = [
            ("PGHOST", "other"),
            ("PGPORT", "1"),
            ("PGPASSWORD", "from env"),
            ("PGUSER", "eve"),
        ];
        let options = read("postgres://a%40b:p%3Aw@db.example:6000/my%2Fdb?sslmode=require", &vars).unwrap();
        assert_eq!(options.host, Host::Tcp("db.example".into()));
        assert_eq!(
            (options.port, options.user.as_str(), options.database.as_str()),
            (6000, "a@b", "my/db")
        );
        assert_eq!(options.password.unwrap().expose(), b"p:w");
        assert_eq!(options.ssl_mode, SslMode::Require);
        let options = read("postgres:///", &vars).unwrap();
        assert_eq!(
            (options.port, options.user.as_str(), options.database.as_str()),
            (1, "eve", "eve")
        );
        assert_eq!(options.password.unwrap().expose(), b"from env");
    }

    #[test]
    fn a_url_of_somebody_else_gets_no_password_that_was_not_meant_for_it() {
        let foreign = |text: &str, vars: &[(&str, &str)]| {
            let env = |name: &str| vars.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned());
            ConnectOptions::from_foreign_url(text, &env).unwrap()
        };
        let secret = ("PGPASSWORD", "top secret");
        let file =
            "postgres://app@evil/app?sslmode=disable&password_file=/proc/self/environ&allow_cleartext_password=1";
        let options = foreign(file, &[secret]);
        assert!(options.password.is_none() && !options.allow_cleartext_password);
        assert!(
            foreign("postgres://app@evil/app", &[secret, ("PGHOST", "db")])
                .password
                .is_none()
        );
        assert!(
            foreign("postgres://app@db:99/app", &[secret, ("PGHOST", "db")])
                .password
                .is_none()
        );
        let meant = foreign("postgres://app@db/app", &[secret, ("PGHOST", "db")]);
        assert_eq!(meant.password.unwrap().expose(), b"top secret");
        let own = foreign("postgres://app:own@evil/app", &[secret]);
        assert_eq!(own.password.unwrap().expose(), b"own");
    }

    #[test]
    fn strangers_must_prove_who_they_are_by_default() {
        assert_eq!(read("postgres://db/x", &[]).unwrap().ssl_mode, SslMode::VerifyFull);
        assert_eq!(read("postgres://127.0.0.1/x", &[]).unwrap().ssl_mode, SslMode::Prefer);
        assert_eq!(read("postgres://[::1]/x", &[]).unwrap().ssl_mode, SslMode::Prefer);
        let unix = read("postgres:///x?host=/tmp/socket", &[]).unwrap();
        assert_eq!(
            (unix.host, unix.ssl_mode),
            (Host::Unix("/tmp/socket".into()), SslMode::Disable)
        );
        assert_eq!(
            read("postgres://%2Ftmp%2Fs/x", &[]).unwrap().host,
            Host::Unix("/tmp/s".into())
        );
    }

    #[test]
    fn a_password_is_never_printed() {
        let options = read("postgres://u:hunter2@localhost/x", &[]).unwrap();
        assert!(!format!("{options:?} {}", options.location()).contains("hunter2"));
        let error = read("postgres://u:hunter2@local host:bad/x", &[]).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn an_unknown_parameter_is_named_with_the_nearest_right_one() {
        let error = read("postgres://h/x?sslmod=require", &[]).unwrap_err();
        assert!(error.hint().unwrap().contains("sslmode"), "{error:?}");
    }

    #[test]
    fn pgpass_lines_match_in_order_with_wildcards_and_escapes() {
        let text = "# comment\nother:5432:*:*:no\n*:5432:my\\:db:u:p\\\\w:rest\n*:*:*:*:last\n";
        assert_eq!(
            lookup_pgpass(text, &["h", "5432", "my:db", "u"], false).unwrap(),
            "p\\w:rest"
        );
        assert_eq!(lookup_pgpass(text, &["h", "1", "x", "u"], false).unwrap(), "last");
        assert_eq!(lookup_pgpass("bad line", &["h", "1", "x", "u"], false), None);
        assert_eq!(lookup_pgpass(text, &["h", "5432", "my:db", "u"], true), None);
    }
}
