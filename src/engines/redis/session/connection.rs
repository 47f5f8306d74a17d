//! One connection whose bytes are ours: values piece by piece, commands in batches, full synchronisations. What is only asked
//! goes over a [`Client`](super::client::Client).

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::address::{Endpoint, RedisAddress};
use super::incoming::Incoming;
use super::transport;
use super::transport::Transport;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::wire::resp;
use crate::engines::redis::wire::resp::{Reply, server_error};

/// A line of a reply longer than this is none of the protocol's, in bytes.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Bytes that are sent at once; the server has its time for each of them.
const SEND_BYTES: usize = 64 << 10;

/// A connection that is logged in.
#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    /// Bytes that came and were not taken yet, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    read_timeout: Duration,
}

impl Connection {
    /// Dials and logs in.
    pub(crate) async fn open(address: &RedisAddress) -> Result<Self> {
        if address.reading.sentinel.is_some() {
            let primary = Box::pin(super::nodes::primary(address)).await?;
            return Box::pin(Self::open(&primary)).await;
        }
        in_time(address, async {
            let mut connection = Self {
                transport: transport::open(address).await?,
                buffer: Vec::new(),
                at: 0,
                read_timeout: address.read_timeout,
            };
            if let Some(arguments) = credentials(address) {
                connection.call(&arguments).await?;
            }
            greeted(&connection.ask(&[b"PING"]).await?)?;
            Ok(connection)
        })
        .await
    }

    /// Sends a command and returns the reply; an error of the server is ours.
    pub(crate) async fn call(&mut self, arguments: &[&[u8]]) -> Result<Reply> {
        self.ask(arguments).await?.checked()
    }

    /// Chooses a database. What follows would go into another one unless the server said OK.
    pub(crate) async fn select(&mut self, database: u32) -> Result<()> {
        selected(self.ask(&[b"SELECT", database.to_string().as_bytes()]).await?)
    }

    /// Sends a command and returns the reply, whatever it is.
    pub(crate) async fn ask(&mut self, arguments: &[&[u8]]) -> Result<Reply> {
        self.send(arguments).await?;
        self.reply().await
    }

    /// Sends a command.
    pub(crate) async fn send(&mut self, arguments: &[&[u8]]) -> Result<()> {
        let mut bytes = Vec::new();
        resp::encode(arguments, &mut bytes);
        self.send_encoded(&bytes).await
    }

    /// Sends commands that were encoded before.
    pub(crate) async fn send_encoded(&mut self, bytes: &[u8]) -> Result<()> {
        let bound = self.read_timeout;
        // Piece by piece, so that a server is given up for taking nothing and not for taking much.
        for piece in bytes.chunks(SEND_BYTES) {
            let sent = tokio::time::timeout(bound, self.transport.write_all(piece)).await;
            sent.map_err(|_| silent(bound))?.context("send commands")?;
        }
        let flushed = tokio::time::timeout(bound, self.transport.flush()).await;
        flushed.map_err(|_| silent(bound))?.context("send commands")
    }

    /// Waits for the next reply.
    pub(crate) async fn reply(&mut self) -> Result<Reply> {
        loop {
            if let Some((reply, used)) = resp::decode(self.waiting())? {
                self.take(used);
                return Ok(reply);
            }
            self.fill().await?;
        }
    }

    /// Returns the bytes that came and were not taken yet.
    pub(crate) fn waiting(&self) -> &[u8] {
        exact::part(&self.buffer, self.at.., "no more is taken than there is")
    }

    /// Takes bytes.
    pub(crate) fn take(&mut self, used: usize) {
        self.at = self.at.saturating_add(used).min(self.buffer.len());
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
    }

    /// Waits for more bytes; it is an error if none come.
    pub(crate) async fn fill(&mut self) -> Result<()> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.reserve(64 << 10);
        let read = self.transport.read_buf(&mut self.buffer);
        match tokio::time::timeout(self.read_timeout, read).await {
            Err(_) => Err(silent(self.read_timeout)),
            Ok(Ok(0)) => Err(closed()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(lost(error)),
        }
    }

    /// Reads up to the bytes of a string; returns how many those are, or nothing where the server has none.
    pub(crate) async fn bulk_header(&mut self) -> Result<Option<u64>> {
        loop {
            let waiting = self.waiting();
            if let Some(end) = waiting.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(exact::part(waiting, ..end, "it was found there")).into_owned();
                self.take(end + 2);
                let odd = || Error::corrupt(format!("a reply begins with \"{}\"", line.escape_debug()));
                return match line.split_at_checked(1) {
                    Some(("$", "-1")) => Ok(None),
                    Some(("$", number)) => number.parse().map(Some).map_err(|_| odd()),
                    Some(("-", text)) => Err(server_error(text)),
                    _ => Err(odd()),
                };
            }
            if waiting.len() > MAX_LINE_BYTES {
                return Err(Error::corrupt("a line of a reply has no end"));
            }
            self.fill().await?;
        }
    }

    /// Waits for the next bytes, at most so many of them. They must be taken.
    pub(crate) async fn piece(&mut self, most: u64) -> Result<&[u8]> {
        if self.waiting().is_empty() {
            self.fill().await?;
        }
        let waiting = self.waiting();
        Ok(exact::first(waiting, exact::usize_from(most)))
    }

    /// Reads over what follows the bytes of a string.
    pub(crate) async fn end_of_bulk(&mut self) -> Result<()> {
        for expected in *b"\r\n" {
            if self.piece(1).await?.first() != Some(&expected) {
                return Err(Error::corrupt(
                    "a string of a reply has another length than it announces",
                ));
            }
            self.take(1);
        }
        Ok(())
    }

    /// Reads over a string.
    pub(crate) async fn discard_bulk(&mut self) -> Result<()> {
        let Some(mut left) = self.bulk_header().await? else {
            return Ok(());
        };
        while left > 0 {
            let used = self.piece(left).await?.len();
            self.take(used);
            left -= exact::u64_from(used);
        }
        self.end_of_bulk().await
    }

    /// Goes over to what the server sends on its own.
    pub(crate) fn into_incoming(self) -> Result<Incoming> {
        let first = self.waiting().to_vec();
        Incoming::start(self.transport, first, self.read_timeout)
    }

    /// Returns how long the server may be silent while it owes us an answer.
    pub(crate) fn read_timeout(&self) -> Duration {
        self.read_timeout
    }

    /// Returns our address and that of the server; nothing by a Unix socket.
    pub(crate) fn ends(&self) -> Result<Option<(SocketAddr, SocketAddr)>> {
        let stream = match &self.transport {
            Transport::Tcp(stream) => stream,
            Transport::Tls(stream) => stream.get_ref().0,
            Transport::Unix(_) => return Ok(None),
        };
        let act = "look at the connection";
        Ok(Some((
            stream.local_addr().context(act)?,
            stream.peer_addr().context(act)?,
        )))
    }

    /// Returns the byte stream, for a pipeline. Nothing may be waiting.
    pub(crate) fn into_transport(self) -> Transport {
        self.transport
    }
}

/// Dials and logs in within the time for that. Boxed, for it would be a large part of all that asks something.
fn in_time<'a, T: 'a>(
    address: &'a RedisAddress,
    connect: impl Future<Output = Result<T>> + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    let silent = |_| {
        let error = Error::new(ErrorKind::TimedOut, "no answer from the server in time");
        match address.place {
            // A server without TLS waits for the end of a line.
            Endpoint::Tcp { tls: true, .. } => {
                error.with_hint("Check that the port uses TLS, and check address and network.")
            }
            _ => error,
        }
    };
    let connecting = tokio::time::timeout(address.connect_timeout, connect);
    Box::pin(async move {
        connecting
            .await
            .map_err(silent)
            .and_then(|result| result)
            .with_context(|| format!("connect to \"{}\"", address.location()))
    })
}

/// Returns the command of the login, if there is a password.
fn credentials(address: &RedisAddress) -> Option<Vec<&[u8]>> {
    let password = address.password.as_ref()?.expose().as_bytes();
    let user = address.user.as_ref().map(String::as_bytes);
    Some(
        [Some(&b"AUTH"[..]), user, Some(password)]
            .into_iter()
            .flatten()
            .collect(),
    )
}

/// Refuses a server whose answer to PING says that it wants a login.
fn greeted(reply: &Reply) -> Result<()> {
    match reply {
        // The right to PING is not needed for anything.
        Reply::Error(text) if !text.starts_with("NOPERM") && !text.starts_with("LOADING") => Err(server_error(text)),
        _ => Ok(()),
    }
}

/// Returns whether a database was chosen, by the answer to SELECT.
pub(super) fn selected(reply: Reply) -> Result<()> {
    let error = match reply {
        Reply::Simple(text) if text == "OK" => return Ok(()),
        Reply::Error(text) => server_error(&text),
        other => Error::unsupported(format!("the server answers {other:?} to SELECT")),
    };
    Err(error.with_hint(
        "Give the user +select. A target needs as many `databases` as the backup has, and a cluster has database 0 only, \
         before Valkey 9.",
    ))
}

/// The error of a stream that cannot be read or written.
pub(super) fn lost(error: std::io::Error) -> Error {
    let hint = transport::wants_certificate(&error);
    let error = Error::from(error).context("talk to the server");
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The error of a server that sends nothing.
pub(crate) fn silent(after: Duration) -> Error {
    Error::new(
        ErrorKind::TimedOut,
        format!("no data from the server for {} seconds", after.as_secs()),
    )
}

/// The error of a connection that ended too early.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the server closed the connection").with_hint("See the server's log.")
}
