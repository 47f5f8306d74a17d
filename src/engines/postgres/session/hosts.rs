//! Several servers in one connection string: which are tried, in what order, and which one is taken.
//!
//! All sessions of one piece of work must reach the same server, for a snapshot is exported by one of them and imported by the
//! others. So the first session that is opened chooses, and every clone of its options goes where it went; that holds for a name
//! with several addresses as well.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use rand::seq::SliceRandom;

use super::connection::{Connection, timed_out};
use super::conninfo::Params;
use super::url::{ConnectOptions, Host, Secret, SslMode, one_of};
use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::postgres::wire::server_error::sqlstate;

/// One server of a connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name, as certificates and password files have it.
    pub host: Host,
    /// Address that is dialled in place of the name.
    pub address: Option<IpAddr>,
    /// Port.
    pub port: u16,
    /// Password for it, if one was found.
    pub password: Option<Secret>,
    /// TLS mode.
    pub ssl_mode: SslMode,
}

impl Server {
    /// Returns `host:port` for people.
    pub(crate) fn place(&self) -> String {
        match &self.host {
            Host::Tcp(host) if host.contains(':') => format!("[{host}]:{}", self.port),
            Host::Tcp(host) => format!("{host}:{}", self.port),
            Host::Unix(path) => format!("{}:{}", path.display(), self.port),
        }
    }
}

/// The server that the first session went to; shared by clones.
#[derive(Debug, Clone, Default)]
pub struct Chosen(Arc<OnceLock<Server>>);

/// What a server must be to be taken: `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetSessionAttrs {
    /// Whatever it is.
    Any,
    /// Its sessions can write.
    ReadWrite,
    /// Its sessions cannot write by default.
    ReadOnly,
    /// It is no standby.
    Primary,
    /// It is a standby.
    Standby,
    /// A standby if there is one.
    PreferStandby,
}

impl TargetSessionAttrs {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "any" => Self::Any,
            "read-write" => Self::ReadWrite,
            "read-only" => Self::ReadOnly,
            "primary" => Self::Primary,
            "standby" => Self::Standby,
            "prefer-standby" => Self::PreferStandby,
            other => {
                let words = "any, read-write, read-only, primary, standby or prefer-standby";
                return Err(one_of("target_session_attrs", other, words));
            }
        })
    }

    fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }
}

/// Where a server listens if nothing says it.
const DEFAULT_PORT: u16 = 5432;

/// Returns the servers of a connection string, without passwords. As in libpq, `hostaddr` goes with `host` item by item, and
/// one port stands for all.
pub(crate) fn listed(params: &Params) -> Result<Vec<Server>> {
    let list = |name: &str| {
        params
            .get(name)
            .map(|text| text.split(',').map(str::trim).collect::<Vec<_>>())
    };
    let (hosts, addresses) = (list("host"), list("hostaddr"));
    let count = hosts.as_ref().or(addresses.as_ref()).map_or(1, Vec::len);
    let unlike = |what: &str, number: usize| {
        Error::invalid(format!("{number} values of {what} do not match {count} hosts"))
            .with_hint("Write as many as there are hosts, separated by commas.")
    };
    if let Some(addresses) = addresses.as_ref().filter(|list| list.len() != count) {
        return Err(unlike("hostaddr", addresses.len()));
    }
    let ports = list("port").unwrap_or_default();
    if ports.len() > 1 && ports.len() != count {
        return Err(unlike("port", ports.len()));
    }
    let item = |list: Option<&Vec<&str>>, number: usize| -> Option<String> {
        let value = list?.get(number)?;
        (!value.is_empty()).then(|| (*value).to_owned())
    };
    let server = |number: usize| -> Result<Server> {
        let address = item(addresses.as_ref(), number);
        let parsed = address.as_ref().map(|text| text.parse::<IpAddr>()).transpose();
        let parsed = parsed.map_err(|e| {
            Error::invalid(format!(
                "hostaddr {:?} is not an IP address",
                address.clone().unwrap_or_default()
            ))
            .with_cause(e)
            .with_hint("Put host names into host.")
        })?;
        let host = match item(hosts.as_ref(), number) {
            Some(path) if path.starts_with('/') => Host::Unix(path.into()),
            Some(name) => Host::Tcp(name),
            None => Host::Tcp(address.unwrap_or_else(|| "localhost".to_owned())),
        };
        let port = ports.get(number).or(ports.first().filter(|_| ports.len() == 1));
        let port = match port.filter(|text| !text.is_empty()) {
            None => DEFAULT_PORT,
            Some(text) => {
                let port = text.parse::<u16>().ok().filter(|port| *port != 0);
                port.ok_or_else(|| {
                    Error::invalid(format!("{text:?} is not a port")).with_hint("Ports are 1 to 65535.")
                })?
            }
        };
        Ok(Server {
            host,
            address: parsed,
            port,
            password: None,
            ssl_mode: SslMode::VerifyFull,
        })
    };
    (0..count).map(server).collect()
}

impl ConnectOptions {
    /// Returns the servers in the order in which they stand; the one that was chosen, if one was.
    pub(crate) fn servers(&self) -> Vec<Server> {
        if let Some(chosen) = self.chosen.0.get() {
            return vec![chosen.clone()];
        }
        let first = Server {
            host: self.host.clone(),
            address: self.host_address,
            port: self.port,
            password: self.password.clone(),
            ssl_mode: self.ssl_mode,
        };
        std::iter::once(first).chain(self.others.iter().cloned()).collect()
    }

    /// Returns options for one server alone.
    fn at(&self, server: &Server) -> Self {
        Self {
            host: server.host.clone(),
            host_address: server.address,
            port: server.port,
            password: server.password.clone(),
            ssl_mode: server.ssl_mode,
            others: Vec::new(),
            wanted: TargetSessionAttrs::Any,
            chosen: Chosen::default(),
            ..self.clone()
        }
    }
}

/// Returns a server once for each address of its name, which is looked up once for each session.
async fn addresses(server: &Server, options: &ConnectOptions) -> Result<Vec<Server>> {
    let Server {
        host: Host::Tcp(name),
        address: None,
        port,
        ..
    } = server
    else {
        return Ok(vec![server.clone()]);
    };
    // A name that is not found is told by the dialling.
    let looked_up = tokio::net::lookup_host((name.as_str(), *port));
    let act = format!("look up the address of \"{name}\"");
    let found = within(
        options,
        &act,
        "Check the name servers, or raise connect_timeout.",
        looked_up,
    )
    .await?;
    let found: Vec<SocketAddr> = found.into_iter().flatten().collect();
    let is_scoped = |address: &SocketAddr| matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0);
    // An address of one link says nothing without the link, which the name may hold.
    if found.is_empty() || (found.len() == 1 && found.iter().any(is_scoped)) {
        return Ok(vec![server.clone()]);
    }
    let mut found: Vec<IpAddr> = found.iter().map(SocketAddr::ip).collect();
    found.dedup();
    if options.is_balanced {
        found.shuffle(&mut rand::rng());
    }
    let at = |address| Server {
        address: Some(address),
        ..server.clone()
    };
    Ok(found.into_iter().map(at).collect())
}

/// Bounds what precedes and follows a login by `connect_timeout`, too.
async fn within<T>(options: &ConnectOptions, act: &str, hint: &str, work: impl Future<Output = T>) -> Result<T> {
    let done = tokio::time::timeout(options.connect_timeout, work).await;
    done.map_err(|_| timed_out(act).with_hint(hint))
}

/// Opens a session on the first server that answers and is what is wanted.
pub(crate) async fn open(options: &ConnectOptions) -> Result<Connection> {
    let mut servers = options.servers();
    if options.is_balanced {
        servers.shuffle(&mut rand::rng());
    }
    // What was chosen was looked at.
    let wanted = match options.chosen.0.get() {
        Some(_) => TargetSessionAttrs::Any,
        None => options.wanted,
    };
    let passes: &[TargetSessionAttrs] = match wanted {
        TargetSessionAttrs::PreferStandby => &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any],
        ref one => std::slice::from_ref(one),
    };
    let mut failed = Vec::new();
    for pass in passes {
        // The second pass asks every server once more, and its errors are those that count.
        failed.clear();
        for server in &servers {
            let several = match addresses(server, options).await {
                Ok(several) => several,
                Err(error) => {
                    failed.push((server.place(), error));
                    continue;
                }
            };
            for place in &several {
                match open_at(&options.at(place), *pass).await {
                    Ok(connection) => {
                        if servers.len() < 2 && several.len() < 2 {
                            return Ok(connection);
                        }
                        let chosen = options.chosen.0.get_or_init(|| place.clone());
                        if chosen == place {
                            return Ok(connection);
                        }
                        // Another session was quicker to choose.
                        connection.close().await;
                        return Connection::open_one(&options.at(chosen)).await;
                    }
                    Err(error) if tries_next(&error) => failed.push((place.place(), error)),
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Err(none(failed, servers.len()))
}

async fn open_at(options: &ConnectOptions, wanted: TargetSessionAttrs) -> Result<Connection> {
    let mut connection = Connection::open_one(options).await?;
    if is_wanted(&mut connection, options, wanted).await? {
        return Ok(connection);
    }
    connection.close().await;
    let message = format!(
        "server \"{}\" does not match target_session_attrs={}",
        options.location(),
        wanted.word()
    );
    Err(Error::new(ErrorKind::Unavailable, message).with_hint("Use a server that does, or another value."))
}

async fn is_wanted(connection: &mut Connection, options: &ConnectOptions, wanted: TargetSessionAttrs) -> Result<bool> {
    let place = options.location();
    let act = format!("check target_session_attrs on \"{place}\"");
    let hint = "The server accepts logins but does not answer queries: check its load, or raise connect_timeout.";
    within(options, &act, hint, fits(connection, wanted)).await?
}

/// Returns whether a server is what is wanted. From 14 on it says so at login.
async fn fits(connection: &mut Connection, wanted: TargetSessionAttrs) -> Result<bool> {
    if wanted == TargetSessionAttrs::Any {
        return Ok(true);
    }
    let said = |connection: &Connection, name: &str| connection.parameter(name).map(|value| value == "on");
    let standby = match said(connection, "in_hot_standby") {
        Some(standby) => standby,
        None => {
            connection
                .query("SELECT pg_catalog.pg_is_in_recovery()")
                .await?
                .scalar()
                == Some("t")
        }
    };
    let read_only = match said(connection, "default_transaction_read_only") {
        Some(read_only) => standby || read_only,
        None => connection.query("SHOW transaction_read_only").await?.scalar() == Some("on"),
    };
    Ok(match wanted {
        TargetSessionAttrs::Any | TargetSessionAttrs::PreferStandby => true,
        TargetSessionAttrs::ReadWrite => !read_only,
        TargetSessionAttrs::ReadOnly => read_only,
        TargetSessionAttrs::Primary => !standby,
        TargetSessionAttrs::Standby => standby,
    })
}

/// SQLSTATE of a server that starts, stops or recovers.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// Returns whether another server may be tried. As in libpq, a server that refuses the login ends it.
fn tries_next(error: &Error) -> bool {
    match sqlstate(error) {
        Some(state) => state == CANNOT_CONNECT_NOW,
        None => matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut),
    }
}

/// The error where no server was taken: the last one, with what the others said.
fn none(mut failed: Vec<(String, Error)>, servers: usize) -> Error {
    let Some((_, last)) = failed.pop() else {
        return Error::invalid("the connection string has no host");
    };
    if failed.is_empty() || servers < 2 {
        return last;
    }
    let said: Vec<String> = failed
        .iter()
        .map(|(place, error)| format!("{place}: {}", error.chain()))
        .collect();
    last.context(format!(
        "could not connect to any of {} hosts ({})",
        failed.len() + 1,
        said.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn places(text: &str) -> Result<Vec<(String, Option<String>)>> {
        let servers = listed(&Params::parse(text)?)?;
        let place = |one: &Server| (one.place(), one.address.map(|address| address.to_string()));
        Ok(servers.iter().map(place).collect())
    }

    #[test]
    fn lists_go_together_item_by_item() {
        let one = |place: &str| (place.to_owned(), None);
        assert_eq!(places("postgres://").unwrap(), [one("localhost:5432")]);
        assert_eq!(
            places("postgres://a:1,b,[::1]:3/x").unwrap(),
            [one("a:1"), one("b:5432"), one("[::1]:3")]
        );
        assert_eq!(
            places("host=a,b,/run/pg port=7").unwrap(),
            [one("a:7"), one("b:7"), one("/run/pg:7")]
        );
        assert_eq!(
            places("host=a, hostaddr=10.0.0.1,::1").unwrap(),
            [
                ("a:5432".to_owned(), Some("10.0.0.1".to_owned())),
                ("[::1]:5432".to_owned(), Some("::1".to_owned()))
            ]
        );
        for bad in [
            "host=a,b port=1,2,3",
            "host=a,b hostaddr=1.1.1.1",
            "hostaddr=db.example",
            "host=a port=0",
            "host=a port=70000",
        ] {
            assert!(places(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_and_its_address_is_dialled() {
        let options = ConnectOptions::from_url_with("postgres://u@127.0.0.1:7/x", None, &|_| None).unwrap();
        let server = options.servers().remove(0);
        assert_eq!(server.address, None);
        let found = addresses(&server, &options).await.unwrap();
        let address = Some(IpAddr::from([127, 0, 0, 1]));
        assert_eq!(found, [Server { address, ..server }]);
    }

    #[tokio::test]
    async fn a_server_that_is_silent_after_the_login_is_no_fault_of_name_servers() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://u@{}/x?sslmode=disable", listener.local_addr().unwrap());
        let mut options = ConnectOptions::from_url_with(&url, None, &|_| None).unwrap();
        let silent = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let _ = client.read(&mut [0; 1024]).await.unwrap();
            client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
            // To the end of the connection.
            while client.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {}
        });
        let mut connection = Connection::open_one(&options).await.unwrap();
        options.connect_timeout = std::time::Duration::ZERO;
        let error = is_wanted(&mut connection, &options, TargetSessionAttrs::Primary)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.hint().unwrap().contains("accepts logins"), "{error:?}");
        drop(connection);
        silent.await.unwrap();
    }

    #[test]
    fn a_refused_login_ends_it_and_a_silent_server_does_not() {
        assert!(tries_next(&Error::new(ErrorKind::Unavailable, "x")));
        assert!(tries_next(&Error::new(ErrorKind::TimedOut, "x").context("connect")));
        assert!(!tries_next(&Error::new(ErrorKind::Denied, "x")));
        let failed = vec![
            ("a:1".to_owned(), Error::new(ErrorKind::Unavailable, "first")),
            ("b:2".to_owned(), Error::new(ErrorKind::TimedOut, "second")),
        ];
        let all = none(failed, 2);
        assert!(
            all.chain().contains("a:1: first") && all.chain().contains("second"),
            "{all:?}"
        );
        assert_eq!(all.kind(), ErrorKind::TimedOut);
    }
}
