//! A tokio-postgres client on a connection that this crate has logged in, for typed catalog queries.
//!
//! tokio-postgres is given a stream on which login has already happened: its startup message is swallowed and
//! answered from memory. So TLS, SCRAM, channel binding and the clear-text rule exist once, in this crate.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio_postgres::{Client, Config, NoTls};

use super::connection::{Connection, Husk};
use super::sessions::open_patiently;
use super::settings;
use super::settings::Session;
use super::transport::Transport;
use super::url::ConnectOptions;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::raw_text::to_bytes;
use crate::engines::postgres::wire::server_error::ServerError;

/// Opens a connection and puts a client on it. The client's task ends when the client is dropped.
pub async fn open_client(options: &ConnectOptions) -> Result<Client> {
    let (client, _) = lend(open_patiently(options).await?, options).await?;
    Ok(client)
}

/// As [`open_client`], with the settings of a session that reads; returns what gives the connection back, too.
pub(crate) async fn open_reading_client(options: &ConnectOptions) -> Result<(Client, Lent)> {
    lend(settings::open(options, Session::Reading).await?, options).await
}

/// Puts a client on a connection that is at rest.
pub(crate) async fn lend(connection: Connection, options: &ConnectOptions) -> Result<(Client, Lent)> {
    let parameters = connection.parameters().clone();
    let key = connection.key();
    let (transport, husk) = connection.lend();
    let returned = Arc::new(Returned::default());
    let stream = LoggedIn {
        inner: Some(transport),
        returned: Arc::clone(&returned),
        answer: answer(&parameters, key),
        answered: 0,
        header: Vec::new(),
        swallow: None,
        outgoing: Outgoing::default(),
    };
    let mut config = Config::new();
    config
        .user(&options.user)
        .dbname(&options.database)
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (client, driver) = config.connect_raw(stream, NoTls).await.map_err(client_error)?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "PostgreSQL connection ended");
        }
    });
    Ok((client, Lent { returned, husk }))
}

/// What gives back a connection that a client has.
#[derive(Debug)]
pub(crate) struct Lent {
    returned: Arc<Returned>,
    husk: Husk,
}

impl Lent {
    /// Drops the client, which must have no statement under way, and returns its session as it is: in its transaction.
    pub(crate) async fn give_back(self, client: Client) -> Result<Connection> {
        self.returned.is_wanted.store(true, Ordering::SeqCst);
        drop(client);
        let wait = self.returned.there.notified();
        let waited = tokio::time::timeout(GIVE_BACK, wait).await;
        let transport = self
            .returned
            .transport
            .lock()
            .expect("no panic happens under this lock")
            .take();
        match transport {
            Some(transport) if waited.is_ok() => Ok(self.husk.with(transport)),
            _ => Err(Error::new(
                ErrorKind::Unavailable,
                "the first connection of the backup was lost",
            )),
        }
    }
}

/// How long a client may take to let its connection go.
const GIVE_BACK: Duration = Duration::from_secs(30);

/// Where a client's stream leaves its transport when it is wanted back.
#[derive(Debug, Default)]
struct Returned {
    is_wanted: AtomicBool,
    transport: Mutex<Option<Transport>>,
    there: Notify,
}

/// Turns an error of tokio-postgres into ours, with kind and hint by SQLSTATE.
pub fn client_error(error: tokio_postgres::Error) -> Error {
    if let Some(db) = error.as_db_error() {
        return ServerError {
            code: db.code().code().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().map(str::to_owned),
            hint: db.hint().map(str::to_owned),
            context: db.where_().map(str::to_owned),
        }
        .into_error();
    }
    let kind = if error.is_closed() {
        ErrorKind::Unavailable
    } else {
        ErrorKind::Other
    };
    Error::new(kind, "a query failed").with_cause(error)
}

fn answer(parameters: &BTreeMap<String, String>, key: [i32; 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut message = |tag: u8, body: &[u8]| {
        bytes.push(tag);
        bytes.extend_from_slice(
            &exact::known::<u32, _>(body.len() + 4, "each came in a message of its own").to_be_bytes(),
        );
        bytes.extend_from_slice(body);
    };
    message(b'R', &[0; 4]);
    for (name, value) in parameters {
        message(b'S', format!("{name}\0{value}\0").as_bytes());
    }
    let [process, secret] = key.map(i32::to_be_bytes);
    message(b'K', &[process, secret].concat());
    message(b'Z', b"I");
    bytes
}

/// A stream whose login lies behind it.
struct LoggedIn {
    /// None once it was given back.
    inner: Option<Transport>,
    returned: Arc<Returned>,
    answer: Vec<u8>,
    answered: usize,
    /// Length field of the startup message, as far as it was written.
    header: Vec<u8>,
    /// Bytes of the startup message still to swallow, once known.
    swallow: Option<usize>,
    outgoing: Outgoing,
}

/// Messages on their way to the server. What SQL holds as characters for bytes goes as those bytes, see [`crate::base::raw_text`].
#[derive(Default)]
struct Outgoing {
    /// The message that is arriving: its header, and its body if that is SQL.
    message: Vec<u8>,
    /// Bytes that are still missing of a message that passes as it is.
    passing: usize,
    /// What the transport has not taken yet.
    ready: VecDeque<u8>,
}

impl Outgoing {
    /// Takes bytes that a client wrote.
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.passing > 0 {
                let (now, later) = bytes.split_at(self.passing.min(bytes.len()));
                self.ready.extend(now);
                self.passing -= now.len();
                bytes = later;
                continue;
            }
            // Tag and length, and all the rest of what is SQL.
            let wanted = match self.message.split_first_chunk::<5>() {
                Some((&[_, a, b, c, d], _)) => length_of([a, b, c, d]) + 1,
                None => 5,
            };
            let (now, later) = bytes.split_at((wanted - self.message.len()).min(bytes.len()));
            self.message.extend_from_slice(now);
            bytes = later;
            self.pass();
        }
    }

    /// Lets the message go that is complete, or needs no change.
    fn pass(&mut self) {
        let Some((&[tag, a, b, c, d], body)) = self.message.split_first_chunk::<5>() else {
            return;
        };
        let rest = length_of([a, b, c, d]) - 4;
        if !matches!(tag, b'Q' | b'P') {
            self.passing = rest.saturating_sub(body.len());
            self.ready.extend(self.message.drain(..));
        } else if body.len() >= rest {
            let body = with_raw_sql(tag, body);
            let length: u32 = exact::known(
                body.len() + 4,
                "SQL is no longer as bytes than as the text that a message brought",
            );
            self.ready.push_back(tag);
            self.ready.extend(length.to_be_bytes());
            self.ready.extend(body);
            self.message.clear();
        }
    }
}

/// Returns the body of a Query or Parse message with its SQL as bytes.
fn with_raw_sql(tag: u8, body: &[u8]) -> Vec<u8> {
    // The name of a statement comes before the SQL of Parse, types of parameters come after it.
    let end_of = |bytes: &[u8]| bytes.iter().position(|&b| b == 0).map_or(bytes.len(), |at| at + 1);
    let (name, rest) = body.split_at(if tag == b'P' { end_of(body) } else { 0 });
    let (sql, types) = rest.split_at(end_of(rest));
    match std::str::from_utf8(sql) {
        Ok(sql) => [name, &to_bytes(sql), types].concat(),
        Err(_) => body.to_vec(),
    }
}

/// Returns what a message's length says, its own four bytes included.
fn length_of(bytes: [u8; 4]) -> usize {
    exact::usize_from(u32::from_be_bytes(bytes).into()).max(4)
}

impl LoggedIn {
    fn inner(&mut self) -> io::Result<Pin<&mut Transport>> {
        let inner = self.inner.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Pin::new(inner))
    }

    /// Writes what is ready.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.ready.is_empty() {
            let inner = self.inner.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let (bytes, _) = self.outgoing.ready.as_slices();
            let written = match Pin::new(inner).poll_write(cx, bytes) {
                Poll::Ready(written) => written?,
                Poll::Pending => return Poll::Pending,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.ready.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

/// The message that ends a session.
const TERMINATE: &[u8] = b"X\0\0\0\x04";

impl AsyncRead for LoggedIn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = exact::part(&self.answer, self.answered.., "no more of it was read than there is");
        if rest.is_empty() {
            return match self.inner() {
                Ok(inner) => inner.poll_read(cx, buf),
                // The end of the stream.
                Err(_) => Poll::Ready(Ok(())),
            };
        }
        let rest = exact::first(rest, buf.remaining());
        let count = rest.len();
        buf.put_slice(rest);
        self.answered += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LoggedIn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.swallow {
            // The session goes on: its end is not told to the server.
            Some(0) if buf == TERMINATE && self.returned.is_wanted.load(Ordering::SeqCst) => Poll::Ready(Ok(buf.len())),
            Some(0) => {
                // No more is taken before the last is gone.
                if self.as_mut().poll_outgoing(cx)?.is_pending() {
                    return Poll::Pending;
                }
                self.outgoing.take(buf);
                Poll::Ready(Ok(buf.len()))
            }
            Some(left) => {
                let count = left.min(buf.len());
                self.swallow = Some(left - count);
                Poll::Ready(Ok(count))
            }
            None => {
                let piece = exact::first(buf, 4 - self.header.len());
                let count = piece.len();
                self.header.extend_from_slice(piece);
                if let Some(length) = self.header.first_chunk::<4>() {
                    let length = exact::usize_from(u32::from_be_bytes(*length).into());
                    self.swallow = Some(length.saturating_sub(4));
                }
                Poll::Ready(Ok(count))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.inner.is_some() && self.as_mut().poll_outgoing(cx)?.is_pending() {
            return Poll::Pending;
        }
        match self.inner() {
            Ok(inner) => inner.poll_flush(cx),
            Err(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.returned.is_wanted.load(Ordering::SeqCst) {
            if let Some(inner) = self.inner.take() {
                let mut place = self
                    .returned
                    .transport
                    .lock()
                    .expect("no panic happens under this lock");
                *place = Some(inner);
                drop(place);
                self.returned.there.notify_one();
            }
            return Poll::Ready(Ok(()));
        }
        if self.inner.is_some() && self.as_mut().poll_outgoing(cx)?.is_pending() {
            return Poll::Pending;
        }
        match self.inner() {
            Ok(inner) => inner.poll_shutdown(cx),
            Err(_) => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap_or(0);
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn sql_goes_as_bytes_however_it_is_cut() {
        let name = crate::base::raw_text::from_bytes(b"caf\xE9").into_owned();
        let sql = format!("SELECT \"{name}\"\0");
        let parse = [b"s1\0", sql.as_bytes(), b"\0\x01\xF4\x8F\xBA\x81"].concat();
        let written = [
            message(b'Q', sql.as_bytes()),
            message(b'B', b"\xF4\x8F\xBA\x81"),
            message(b'P', &parse),
            message(b'S', b""),
        ]
        .concat();
        let wanted = [
            message(b'Q', b"SELECT \"caf\xE9\"\0"),
            message(b'B', b"\xF4\x8F\xBA\x81"),
            message(b'P', b"s1\0SELECT \"caf\xE9\"\0\0\x01\xF4\x8F\xBA\x81"),
            message(b'S', b""),
        ]
        .concat();
        for size in 1..=written.len() {
            let mut outgoing = Outgoing::default();
            written.chunks(size).for_each(|piece| outgoing.take(piece));
            assert_eq!(outgoing.ready.make_contiguous(), wanted, "{size}");
        }
    }
}
