//! Where a database is and how to log in: connection string, service file, `PG*` environment, password files.
//!
//! Order of precedence as in libpq: the connection string, then the service, then the environment, then defaults; for the
//! password the connection string, then `password_file`, the service, `PGPASSWORD`, and the password file. A password is wrapped
//! in [`Secret`], which has no readable `Debug` and no `Display`, so it cannot enter a message.
//!
//! `sslmode` defaults to `prefer` for loopback addresses and to `verify-full` for every other host: a backup carries the whole
//! database, so an unverified peer must be asked for by name. Unix sockets never use TLS.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::auth::{ChannelBindingMode, RequireAuth};
use super::conninfo::{PARAMETERS, Params};
use super::hosts::{Chosen, Server, TargetSessionAttrs};
use super::password_file;
use super::password_file::Pgpass;
use super::settings;
use super::tls::{CertificateMode, TlsOptions, Version};
use super::{hosts, service_file};
use crate::base::error::{Error, Result};
use crate::engines::transport::Keepalive;

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
    /// TLS if the server refuses to go on without, and no proof of who it is.
    Allow,
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
    /// Server; the first one, if there are [`others`](Self::others).
    pub host: Host,
    /// Address that is dialled in place of the host's name.
    pub host_address: Option<IpAddr>,
    /// Port.
    pub port: u16,
    /// Password, if one was found.
    pub password: Option<Secret>,
    /// TLS mode.
    pub ssl_mode: SslMode,
    /// Servers that are tried after the first.
    pub others: Vec<Server>,
    /// Whether servers are tried in random order.
    pub is_balanced: bool,
    /// What the session of a server must be able to do for the server to be taken.
    pub wanted: TargetSessionAttrs,
    /// The server that was taken: all sessions of one piece of work go to it.
    pub chosen: Chosen,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Whether anything named the database; otherwise it is called as the role.
    pub names_database: bool,
    /// PEM file of trusted authorities; the system's when `None`.
    pub ssl_root_cert: Option<PathBuf>,
    /// Everything else about TLS.
    pub tls: TlsOptions,
    /// Whether the login is bound to the TLS session.
    pub channel_binding: ChannelBindingMode,
    /// Ways of login that the server may ask for.
    pub require_auth: RequireAuth,
    /// Settings that the server is given at login, as its command line has them: `-c name=value`.
    pub startup_options: Option<String>,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// Bound on dialling, TLS and login together, for each server.
    pub connect_timeout: Duration,
    /// Bound on the server's silence while it owes us an answer.
    pub read_timeout: Duration,
    /// How a peer that vanished is noticed.
    pub keepalive: Keepalive,
    /// Allows the server to ask for the password in clear text over an unencrypted connection.
    pub allow_cleartext_password: bool,
    /// Schemas in which a session that restores looks for names without one; none, unless a restore says so.
    pub search_path: Vec<String>,
    /// What sessions that restore take over from the source.
    pub context: settings::Context,
    /// Whether it is a WAL sender that is wanted, of the server as a whole: base backups and WAL, and no SQL.
    pub is_replication: bool,
}

/// Where variables are looked up.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl ConnectOptions {
    /// Reads a connection string, filling what it leaves open from the process environment and files of this host.
    pub fn from_url(text: &str) -> Result<Self> {
        Self::from_url_with(text, None, &|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
    }

    /// As [`Self::from_url`], with a file whose first line is the password, and an environment given by the caller.
    pub fn from_url_with(text: &str, password_file: Option<&Path>, env: Env<'_>) -> Result<Self> {
        Self::from_params(Params::parse(text)?, password_file, env)
    }

    /// As [`Self::from_url_with`], for parameters that are read already.
    pub fn from_params(mut params: Params, password_file: Option<&Path>, env: Env<'_>) -> Result<Self> {
        let password_file = password_file.map(Path::to_owned);
        let password_file = password_file.or_else(|| params.get("password_file").map(PathBuf::from));
        // A file of this host that is named with the place comes before what a service says.
        if !params.has("password")
            && let Some(file) = password_file
        {
            let password = password_file::first_line(&file)?;
            params.set("password", password.0)?;
        }
        let service = params.get("service").map(str::to_owned).or_else(|| env("PGSERVICE"));
        if let Some(service) = service {
            let file = params.get("servicefile").map(str::to_owned);
            let file = file.or_else(|| env("PGSERVICEFILE"));
            params.fill(&service_file::look_up(&service, file.as_deref(), env)?);
        }
        finish(params, false, env)
    }

    /// Checks the values of parameters as far as no file of this host has to be read: what is refused here is refused
    /// whenever they are used. Passwords are left aside, and everything where a service may say the rest.
    pub(crate) fn check(params: &Params, env: Env<'_>) -> Result<()> {
        if params.has("service") || env("PGSERVICE").is_some() {
            return Ok(());
        }
        let mut params = params.clone();
        if !params.has("password") {
            params.set("password", String::new())?;
        }
        finish(params, false, env).map(drop)
    }

    /// As [`Self::from_url_with`], for a URL that nobody on this host wrote. It gets no secret that was not meant for it:
    /// `PGPASSWORD` belongs to the servers of `PGHOST` and `PGPORT`, and so do client certificates and `PGOPTIONS`; a line of the
    /// password file has to name host and port itself. It names no file of this host and no service. A password in the URL was
    /// put there by the caller.
    pub fn from_foreign_url(text: &str, env: Env<'_>) -> Result<Self> {
        Self::from_foreign_params(Params::parse(text)?, env)
    }

    /// As [`Self::from_foreign_url`], for parameters that are read already.
    pub fn from_foreign_params(mut params: Params, env: Env<'_>) -> Result<Self> {
        if !params.keep_foreign() {
            return Err(
                Error::invalid("the place names its server by a service or an address of another host alone")
                    .with_hint("Say where the server is: --into URL, --address SOURCE=URL, or the configuration."),
            );
        }
        // What this host demands of a login is not loosened by a stranger.
        for (name, variable) in [
            ("require_auth", "PGREQUIREAUTH"),
            ("channel_binding", "PGCHANNELBINDING"),
        ] {
            if let Some(value) = env(variable) {
                params.set(name, value)?;
            }
        }
        finish(params, true, env)
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
        let servers = self.servers();
        if let [
            Server {
                host: Host::Unix(path),
                port,
                ..
            },
        ] = servers.as_slice()
        {
            return format!(
                "postgres://{}@/{}?host={}&port={port}",
                self.user,
                self.database,
                path.display()
            );
        }
        let places: Vec<String> = servers.iter().map(Server::place).collect();
        format!("postgres://{}@{}/{}", self.user, places.join(","), self.database)
    }
}

/// Variables that belong to the servers of the environment, and go to no other that a stranger names.
const OF_ENVIRONMENT: &[&str] = &["hostaddr", "options", "sslcert", "sslkey", "sslcertmode"];

/// Fills what is not given from the environment, and makes options of it.
fn finish(mut params: Params, foreign: bool, env: Env<'_>) -> Result<ConnectOptions> {
    for (name, variable) in [("host", "PGHOST"), ("port", "PGPORT")] {
        if !params.has(name)
            && let Some(value) = env(variable)
        {
            params.set(name, value)?;
        }
    }
    let is_meant = |server: &Server| !foreign || of_environment(server, env);
    let all_meant = hosts::listed(&params)?.iter().all(is_meant);
    // Addresses go with the list of hosts that they were written for.
    let is_same_list = params.get("host") == env("PGHOST").as_deref();
    for known in PARAMETERS {
        let skip = ["password", "passfile", "service", "servicefile"].contains(&known.name)
            || (OF_ENVIRONMENT.contains(&known.name) && !all_meant)
            || (known.name == "hostaddr" && foreign && !is_same_list);
        if !skip
            && !known.variable.is_empty()
            && !params.has(known.name)
            && let Some(value) = env(known.variable)
        {
            params.set(known.name, value)?;
        }
    }
    let user = params.take("user").or_else(|| env("USER"));
    let user = user.unwrap_or_else(|| "postgres".to_owned());
    let names_database = params.has("dbname");
    let database = params.take("dbname").unwrap_or_else(|| user.clone());
    refuse_gss(&params)?;

    let system_roots = params.get("sslrootcert") == Some("system");
    let ssl_mode = params.get("sslmode").map(parse_ssl_mode).transpose()?;
    if let Some(mode) = ssl_mode.filter(|mode| system_roots && *mode != SslMode::VerifyFull) {
        return Err(
            Error::invalid(format!("sslrootcert=system does not work with sslmode={}", mode.word()))
                .with_hint("Anyone can get a certificate from a system CA for some name: set sslmode=verify-full."),
        );
    }
    let given = params.take("password").map(Secret::new);
    let mut servers = hosts::listed(&params)?;
    let mut pgpass: Option<Pgpass> = None;
    for server in &mut servers {
        server.ssl_mode = match ssl_mode {
            Some(mode) => mode,
            None if system_roots => SslMode::VerifyFull,
            None => default_ssl_mode(server),
        };
        let meant = is_meant(server);
        server.password.clone_from(&given);
        if server.password.is_none() && meant {
            server.password = env("PGPASSWORD").map(Secret::new);
        }
        if server.password.is_none() {
            if pgpass.is_none() {
                pgpass = Some(Pgpass::read(params.get("passfile"), env)?);
            }
            let called = password_file::called(&server.host);
            let found = |file: &Pgpass| file.find(&called, server.port, (&user, &database), !meant);
            server.password = pgpass.as_ref().and_then(found);
        }
    }
    let mut servers = servers.into_iter();
    let first = servers
        .next()
        .ok_or_else(|| Error::invalid("the connection string has no host"))?;
    let tls = tls_options(&params, env, all_meant)?;
    let is_weak = matches!(first.ssl_mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer);
    if tls.is_direct && is_weak && matches!(first.host, Host::Tcp(_)) {
        return Err(Error::invalid(format!(
            "sslnegotiation=direct does not work with sslmode={}",
            first.ssl_mode.word()
        ))
        .with_hint("Write sslmode=require, verify-ca or verify-full."));
    }
    let home_root = || home_file(env, "root.crt").filter(|_| !system_roots);
    let root = params.get("sslrootcert").filter(|_| !system_roots).map(PathBuf::from);
    let application_name = params.take("application_name");
    let application_name = application_name.or_else(|| params.take("fallback_application_name"));
    Ok(ConnectOptions {
        host: first.host,
        host_address: first.address,
        port: first.port,
        password: first.password,
        ssl_mode: first.ssl_mode,
        others: servers.collect(),
        is_balanced: match params.get("load_balance_hosts") {
            None | Some("disable") => false,
            Some("random") => true,
            Some(other) => return Err(one_of("load_balance_hosts", other, "disable or random")),
        },
        wanted: params
            .get("target_session_attrs")
            .map_or(Ok(TargetSessionAttrs::Any), TargetSessionAttrs::parse)?,
        chosen: Chosen::default(),
        user,
        database,
        names_database,
        ssl_root_cert: root.or_else(home_root),
        tls,
        channel_binding: match params.get("channel_binding") {
            None | Some("prefer") => ChannelBindingMode::Prefer,
            Some("disable") => ChannelBindingMode::Disable,
            Some("require") => ChannelBindingMode::Require,
            Some(other) => return Err(one_of("channel_binding", other, "disable, prefer or require")),
        },
        require_auth: params
            .get("require_auth")
            .map_or_else(|| Ok(RequireAuth::default()), RequireAuth::parse)?,
        startup_options: params.take("options"),
        application_name: application_name.unwrap_or_else(|| "wirevault".to_owned()),
        connect_timeout: seconds(&params, "connect_timeout", 30)?,
        read_timeout: seconds(&params, "read_timeout", 3600)?,
        keepalive: keepalive(&params)?,
        allow_cleartext_password: is_true(params.get("allow_cleartext_password")),
        search_path: Vec::new(),
        context: settings::Context::none(),
        is_replication: false,
    })
}

fn is_true(value: Option<&str>) -> bool {
    matches!(value, Some("1" | "true" | "yes" | "on"))
}

/// Returns whether the environment names this server itself.
fn of_environment(server: &Server, env: Env<'_>) -> bool {
    let mut named = Params::default();
    for (name, variable) in [("host", "PGHOST"), ("port", "PGPORT")] {
        let set = named.set(name, env(variable).unwrap_or_default());
        if set.is_err() {
            return false;
        }
    }
    let same = |one: &Server| one.host == server.host && one.port == server.port;
    named.has("host") && hosts::listed(&named).is_ok_and(|all| all.iter().any(same))
}

fn refuse_gss(params: &Params) -> Result<()> {
    match params.get("gssencmode") {
        // Without credentials libpq goes on without GSSAPI, too.
        None | Some("disable" | "prefer") => {}
        Some("require") => {
            return Err(Error::unsupported("encryption by GSSAPI is not supported")
                .with_hint("Write gssencmode=disable, and encrypt by TLS with sslmode."));
        }
        Some(other) => return Err(one_of("gssencmode", other, "disable")),
    }
    match params.get("min_protocol_version") {
        None | Some("3.0") => {}
        Some(other) => {
            return Err(
                Error::unsupported(format!("min_protocol_version {other:?} is not supported"))
                    .with_hint("Sessions use protocol 3.0, which every server supports; remove it."),
            );
        }
    }
    Ok(())
}

/// The error for a value that is none of the words of its parameter.
pub(crate) fn one_of(name: &str, value: &str, words: &str) -> Error {
    Error::invalid(format!("unknown {name} {value:?}")).with_hint(format!("Use {words}."))
}

fn seconds(params: &Params, name: &str, default: u64) -> Result<Duration> {
    Ok(match number(params, name)? {
        None => Duration::from_secs(default),
        // As in libpq no bound; a year is as good as none.
        Some(value) if value <= 0 => Duration::from_secs(31_536_000),
        Some(value) => Duration::from_secs(value.unsigned_abs()),
    })
}

fn number(params: &Params, name: &str) -> Result<Option<i64>> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let value = text.trim().parse::<i32>();
    value
        .map(|value| Some(value.into()))
        .map_err(|e| Error::invalid(format!("{name} {text:?} is not a number")).with_cause(e))
}

fn keepalive(params: &Params) -> Result<Keepalive> {
    // As in libpq, what is not positive leaves it to the system; to us, that is our own default.
    let positive = |name: &str| -> Result<Option<u64>> {
        let value = number(params, name)?;
        Ok(value.filter(|value| *value > 0).map(i64::unsigned_abs))
    };
    let default = Keepalive::default();
    let count = positive("keepalives_count")?.and_then(|count| u32::try_from(count).ok());
    Ok(Keepalive {
        is_on: number(params, "keepalives")? != Some(0),
        // Bounds of Linux.
        idle: positive("keepalives_idle")?.map_or(default.idle, |idle| Duration::from_secs(idle.min(32_767))),
        interval: positive("keepalives_interval")?
            .map_or(default.interval, |interval| Duration::from_secs(interval.min(32_767))),
        count: count.unwrap_or(default.count).min(127),
        user_timeout: positive("tcp_user_timeout")?.map(Duration::from_millis),
    })
}

/// Returns a file that libpq looks for in the user's home directory, if it is there.
fn home_file(env: Env<'_>, name: &str) -> Option<PathBuf> {
    let path = Path::new(&env("HOME")?).join(".postgresql").join(name);
    path.metadata().is_ok().then_some(path)
}

fn tls_options(params: &Params, env: Env<'_>, meant: bool) -> Result<TlsOptions> {
    let path = |name: &str| params.get(name).map(PathBuf::from);
    let own = |name: &str| home_file(env, name).filter(|_| meant);
    let version = |name: &str| params.get(name).map(|text| Version::parse(name, text)).transpose();
    let (least, most) = (
        version("ssl_min_protocol_version")?,
        version("ssl_max_protocol_version")?,
    );
    if most.is_some_and(|most| most < Version::V1_2) {
        return Err(
            Error::unsupported("ssl_max_protocol_version is older than TLS 1.2, which is not supported")
                .with_hint("Remove it, or set TLSv1.2."),
        );
    }
    if let (Some(least), Some(most)) = (least, most)
        && least > most
    {
        return Err(Error::invalid(
            "ssl_min_protocol_version is above ssl_max_protocol_version",
        ));
    }
    let given_crl = path("sslcrl").is_some() || path("sslcrldir").is_some();
    Ok(TlsOptions {
        certificate: path("sslcert").or_else(|| own("postgresql.crt")),
        key: path("sslkey").or_else(|| own("postgresql.key")),
        has_key_password: params.has("sslpassword"),
        certificate_mode: match params.get("sslcertmode") {
            None | Some("allow") => CertificateMode::Allow,
            Some("disable") => CertificateMode::Disable,
            Some("require") => CertificateMode::Require,
            Some(other) => return Err(one_of("sslcertmode", other, "disable, allow or require")),
        },
        crl: path("sslcrl").or_else(|| home_file(env, "root.crl").filter(|_| !given_crl)),
        crl_directory: path("sslcrldir"),
        is_direct: match params.get("sslnegotiation") {
            None | Some("postgres") => false,
            Some("direct") => true,
            Some(other) => return Err(one_of("sslnegotiation", other, "postgres or direct")),
        },
        names_server: match params.get("sslsni") {
            None | Some("1") => true,
            Some("0") => false,
            Some(other) => return Err(one_of("sslsni", other, "1 or 0")),
        },
        least: least.unwrap_or(Version::V1_2).max(Version::V1_2),
        most: most.unwrap_or(Version::V1_3),
    })
}

fn default_ssl_mode(server: &Server) -> SslMode {
    match (&server.host, server.address) {
        (Host::Unix(_), _) => SslMode::Disable,
        (Host::Tcp(_), Some(address)) if address.is_loopback() => SslMode::Prefer,
        (Host::Tcp(name), None) if is_loopback(name) => SslMode::Prefer,
        (Host::Tcp(_), _) => SslMode::VerifyFull,
    }
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn parse_ssl_mode(text: &str) -> Result<SslMode> {
    Ok(match text {
        "disable" => SslMode::Disable,
        "allow" => SslMode::Allow,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        other => {
            let words = "disable, allow, prefer, require, verify-ca or verify-full";
            return Err(one_of("sslmode", other, words));
        }
    })
}

impl SslMode {
    /// Returns its word in a connection string.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
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
}
