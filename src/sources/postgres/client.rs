//! A tokio-postgres client on a connection that this crate has logged in, for typed catalog queries.
//!
//! tokio-postgres is given a stream on which login has already happened: its startup message is swallowed and
//! answered from memory. So TLS, SCRAM, channel binding and the clear-text rule exist once, in this crate.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{Client, Config, NoTls};

use super::connection::Connection;
use super::server_error::ServerError;
use super::transport::Transport;
use super::url::ConnectOptions;
use crate::error::{Error, ErrorKind, Result};

/// Opens a connection and puts a client on it. The client's task ends when the client is dropped.
pub async fn open_client(options: &ConnectOptions) -> Result<Client> {
    let connection = Connection::open(options).await?;
    let (transport, parameters, key) = connection.into_parts();
    let stream = LoggedIn {
        inner: transport,
        answer: answer(&parameters, key),
        answered: 0,
        header: Vec::new(),
        swallow: None,
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
    Ok(client)
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
        bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
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
    inner: Transport,
    answer: Vec<u8>,
    answered: usize,
    /// Length field of the startup message, as far as it was written.
    header: Vec<u8>,
    /// Bytes of the startup message still to swallow, once known.
    swallow: Option<usize>,
}

impl AsyncRead for LoggedIn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = self.answer.get(self.answered..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let count = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..count).unwrap_or_default());
        self.answered += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LoggedIn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.swallow {
            Some(0) => Pin::new(&mut self.inner).poll_write(cx, buf),
            Some(left) => {
                let count = left.min(buf.len());
                self.swallow = Some(left - count);
                Poll::Ready(Ok(count))
            }
            None => {
                let count = buf.len().min(4 - self.header.len());
                self.header.extend_from_slice(buf.get(..count).unwrap_or_default());
                if let Some(length) = self.header.first_chunk::<4>() {
                    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
                    self.swallow = Some(length.saturating_sub(4));
                }
                Poll::Ready(Ok(count))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
