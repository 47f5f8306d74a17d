//! Where the target connects to, and who is let in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::handshake::greet;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::redis::log::position::ReplicationId;

/// How long the target may take to connect and to say who it is.
const CONNECT_WAIT: Duration = Duration::from_secs(20);

/// How long one that has connected may take for that.
const GREETING_WAIT: Duration = Duration::from_secs(5);

/// The address by which a target reaches this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    ip: IpAddr,
    port: Option<u16>,
}

impl FromStr for ListenAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(both) = text.parse::<SocketAddr>() {
            return Ok(Self {
                ip: both.ip(),
                port: Some(both.port()).filter(|port| *port > 0),
            });
        }
        let ip = text.trim_start_matches('[').trim_end_matches(']').parse();
        let ip = ip.map_err(|_| {
            Error::invalid(format!("invalid --listen: \"{text}\" is no IP address"))
                .with_hint("Write ADDRESS or ADDRESS:PORT, such as 10.0.0.7:6400 or [fd00::7]:6400.")
        })?;
        Ok(Self { ip, port: None })
    }
}

/// Both ends of our connection to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) local: IpAddr,
    pub(super) peer: IpAddr,
}

impl Ends {
    /// Of two addresses; nothing is one by a Unix socket, so the target is on this host.
    pub(super) fn of(both: Option<(SocketAddr, SocketAddr)>) -> Self {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        both.map_or(
            Self {
                local: here,
                peer: here,
            },
            |(local, peer)| Self {
                local: local.ip().to_canonical(),
                peer: peer.ip().to_canonical(),
            },
        )
    }
}

/// Waits for the target.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    /// What the target is told.
    announced: SocketAddr,
    /// The target.
    from: IpAddr,
}

impl Listener {
    /// Listens on our end of the connection to the target, or as it is said. An address that is not one of this host is that of
    /// something in front of it, which hands the port on: then all addresses of this host are listened on.
    pub(super) async fn bind(ends: Ends, given: Option<ListenAddress>) -> Result<Self> {
        let (ip, port) = given.map_or((ends.local, None), |given| (given.ip, given.port));
        let act = || format!("listen on {}", SocketAddr::new(ip, port.unwrap_or(0)));
        let socket = match (TcpListener::bind((ip, port.unwrap_or(0))).await, port) {
            (Err(error), Some(port)) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                let any = if ip.is_ipv4() {
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
                } else {
                    IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                };
                TcpListener::bind((any, port)).await.with_context(act)?
            }
            (Err(error), None) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                let message = format!("{ip} is no address of this host");
                return Err(Error::invalid(message).with_hint(
                    "Where something in front of this host has the address and hands a port on, name the port too: --listen ADDRESS:PORT.",
                ));
            }
            (bound, _) => bound.map_err(Error::from).map_err(|error| {
                error
                    .context(act())
                    .with_hint("Choose another port by --listen ADDRESS:PORT.")
            })?,
        };
        let bound = socket.local_addr().with_context(act)?;
        Ok(Self {
            socket,
            announced: SocketAddr::new(ip, bound.port()),
            from: ends.peer,
        })
    }

    /// Returns the address that the target is told.
    pub(super) fn announced(&self) -> SocketAddr {
        self.announced
    }

    /// Waits until the target has connected and asks for the data, with the replication ID that it has. Others are refused, one after
    /// another.
    pub(super) async fn accept(&self, id: &ReplicationId) -> Result<TcpStream> {
        let mut refused = None;
        let found = tokio::time::timeout(CONNECT_WAIT, self.first(id, &mut refused)).await;
        found.unwrap_or_else(|_| Err(self.nobody(refused)))
    }

    async fn first(&self, id: &ReplicationId, refused: &mut Option<Error>) -> Result<TcpStream> {
        loop {
            let (mut stream, peer) = self.socket.accept().await.context("accept a connection")?;
            let ip = peer.ip().to_canonical();
            let greeted = if ip == self.from {
                let greeting = tokio::time::timeout(GREETING_WAIT, greet(&mut stream, id)).await;
                greeting.unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut, "it asks for nothing")))
            } else {
                let message = format!("the target is at {}", self.from);
                Err(Error::new(ErrorKind::Denied, message))
            };
            let Err(error) = greeted else {
                return Ok(stream);
            };
            let error = error.context(format!("refused a connection from {ip}"));
            tracing::warn!("{}", error.chain());
            // That of another one may come in between, and says nothing of the target.
            if ip == self.from || refused.is_none() {
                *refused = Some(error);
            }
        }
    }

    fn nobody(&self, refused: Option<Error>) -> Error {
        let message = format!(
            "the server did not connect to {} within {} s",
            self.announced,
            CONNECT_WAIT.as_secs()
        );
        let error = Error::new(ErrorKind::TimedOut, message);
        let hint = "The target connects to this host: let its firewall pass the port, or name the address by which the \
                    target reaches it: --listen ADDRESS:PORT. See the log of the target.";
        match refused {
            Some(refused) => error.with_cause(refused).with_hint(hint),
            None => error.with_hint(hint),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        let read = |text: &str| text.parse::<ListenAddress>().map(|one| (one.ip.to_string(), one.port));
        for (text, ip, port) in [
            ("10.0.0.7", "10.0.0.7", None),
            ("10.0.0.7:6400", "10.0.0.7", Some(6400)),
            ("10.0.0.7:0", "10.0.0.7", None),
            ("[fd00::7]:6400", "fd00::7", Some(6400)),
            ("[fd00::7]", "fd00::7", None),
            ("fd00::7", "fd00::7", None),
        ] {
            assert_eq!(read(text).unwrap(), (ip.to_owned(), port), "{text}");
        }
        for wrong in ["", "host", "10.0.0.7:x", "10.0.0.7:70000", ":6400"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_address_of_something_in_front_is_told_and_every_address_listened_on() {
        let ends = Ends::of(None);
        let own = Listener::bind(ends, None).await.unwrap();
        assert_eq!(own.announced(), own.socket.local_addr().unwrap());
        let given = |text: &str| Some(text.parse::<ListenAddress>().unwrap());
        let error = Listener::bind(ends, given("192.0.2.1")).await.unwrap_err();
        assert!(error.chain().contains("no address of this host"), "{error:?}");
        let port = own.announced().port();
        drop(own);
        let front = Listener::bind(ends, given(&format!("192.0.2.1:{port}"))).await.unwrap();
        assert_eq!(front.announced().to_string(), format!("192.0.2.1:{port}"));
        assert!(front.socket.local_addr().unwrap().ip().is_unspecified());
    }
}
