//! A connection for commands: the `redis` crate encodes them, reads their replies, and keeps the two in order.
//!
//! What a server says of itself, its users, its configuration and its cluster is asked here. Data go over a
//! [`Connection`](super::connection::Connection), whose bytes are ours: RDBs, pages of keys, values piece by piece.
//!
//! Dialling, TLS and the login are those of every connection: the crate drops what a server says before it is asked (that it
//! takes no more clients, or none from here), and keeps what it says to a wrong password to itself. It gets the stream behind a
//! [`Fence`], for its parser reads as many bytes as a server announces, and sends nothing of its own.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, RedisResult, Value};
use tokio_util::task::AbortOnDropHandle;

use super::address::RedisAddress;
use super::connection::{Connection, closed, lost, selected, silent};
use crate::base::error::{Error, Result};
use crate::base::fence::{Fence, Fenced};
use crate::engines::redis::wire::resp::Reply;

/// Bytes of the answer to one question at most. The smallest element of an array has three bytes and takes 56 in memory, in a
/// list that may be half empty: a hostile answer takes some 600 MiB while it is read.
const MAX_REPLY_BYTES: u64 = 16 << 20;

/// A connection for commands that is logged in.
#[derive(Debug)]
pub(crate) struct Client {
    connection: MultiplexedConnection,
    fence: Arc<Fence>,
    read_timeout: Duration,
    /// Reads and writes the stream.
    _driver: AbortOnDropHandle<()>,
}

impl Client {
    /// Dials and logs in.
    pub(crate) async fn open(address: &RedisAddress) -> Result<Self> {
        Self::of(Connection::open(address).await?).await
    }

    /// Takes a connection on which nothing was asked that is not answered.
    pub(crate) async fn of(connection: Connection) -> Result<Self> {
        if !connection.waiting().is_empty() {
            return Err(Error::corrupt("the server sent more replies than expected"));
        }
        let read_timeout = connection.read_timeout();
        Self::over(connection.into_transport(), read_timeout).await
    }

    /// Takes a stream that is logged in, and on which nothing is to be read.
    async fn over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        read_timeout: Duration,
    ) -> Result<Self> {
        let fence = Fence::new("a reply of the server is too large");
        fence.allow(MAX_REPLY_BYTES);
        let stream = Fenced::new(stream, Arc::clone(&fence), lost);
        // How long a server may be silent is ours to say, however long all of an answer takes.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let nothing = RedisConnectionInfo::default().set_skip_set_lib_name();
        let made = MultiplexedConnection::new_with_config(&nothing, stream, config).await;
        let (connection, driver) = made.map_err(|error| failed(&fence, &error))?;
        Ok(Self {
            connection,
            fence,
            read_timeout,
            _driver: AbortOnDropHandle::new(tokio::spawn(driver)),
        })
    }

    /// Sends a command and returns the reply; an error of the server is ours.
    pub(crate) async fn call(&self, arguments: &[&[u8]]) -> Result<Reply> {
        self.ask(arguments).await?.checked()
    }

    /// Sends a command and returns the reply, whatever it is.
    pub(crate) async fn ask(&self, arguments: &[&[u8]]) -> Result<Reply> {
        let mut command = Cmd::new();
        for argument in arguments {
            command.arg(*argument);
        }
        let mut connection = self.connection.clone();
        reply_of(self.answer(connection.send_packed_command(&command)).await?)
    }

    /// Chooses a database. What follows would go into another one unless the server said OK.
    pub(crate) async fn select(&self, database: u32) -> Result<()> {
        selected(self.ask(&[b"SELECT", database.to_string().as_bytes()]).await?)
    }

    /// Waits for an answer as long as the server sends something of it.
    async fn answer<T>(&self, answer: impl Future<Output = RedisResult<T>>) -> Result<T> {
        self.fence.allow(MAX_REPLY_BYTES);
        let mut answer = pin!(answer);
        loop {
            let left = self.fence.left();
            match tokio::time::timeout(self.read_timeout, &mut answer).await {
                Ok(answer) => return answer.map_err(|error| failed(&self.fence, &error)),
                Err(_) if self.fence.left() != left => {}
                Err(_) => return Err(silent(self.read_timeout)),
            }
        }
    }
}

/// Returns why the crate has no answer.
fn failed(fence: &Fence, error: &RedisError) -> Error {
    if let Some(error) = fence.failure() {
        return error;
    }
    match error.kind() {
        // Its text quotes the reply.
        redis::ErrorKind::Parse if !fence.has_ended() => Error::corrupt("a reply does not follow the Redis protocol")
            .with_hint(
                "Check that host and port are those of a Redis or Valkey server; an error text that is not UTF-8 looks the same.",
            ),
        _ => closed(),
    }
}

fn reply_of(value: Value) -> Result<Reply> {
    Ok(match value {
        Value::Nil => Reply::Bulk(None),
        Value::Int(number) => Reply::Integer(number),
        Value::BulkString(bytes) => Reply::Bulk(Some(bytes)),
        Value::SimpleString(text) => Reply::Simple(text),
        Value::Okay => Reply::Simple("OK".to_owned()),
        Value::Array(elements) => Reply::Array(elements.into_iter().map(reply_of).collect::<Result<_>>()?),
        Value::ServerError(error) => Reply::Error(match error.details() {
            Some(details) => format!("{} {details}", error.code()),
            None => error.code().to_owned(),
        }),
        _ => return Err(Error::corrupt("a reply has an unexpected form (RESP3)")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::error::ErrorKind;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    /// A client, and the end of its stream where a server would be.
    async fn pair(read_timeout: Duration) -> (Client, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        (Client::over(ours, read_timeout).await.unwrap(), theirs)
    }

    /// Returns what a client makes of the answer to one command.
    async fn answered(bytes: &'static [u8]) -> Result<Reply> {
        let (client, mut server) = pair(Duration::from_secs(60)).await;
        let serve = async {
            let mut command = [0; 14];
            server.read_exact(&mut command).await.unwrap();
            assert_eq!(&command, b"*1\r\n$4\r\nPING\r\n");
            server.write_all(bytes).await.unwrap();
            server
        };
        tokio::join!(client.ask(&[b"PING"]), serve).0
    }

    #[tokio::test]
    async fn replies_are_byte_for_byte_what_the_server_sent() {
        let nested = b"*6\r\n+OK\r\n+QUEUED\r\n:-5\r\n$-1\r\n$3\r\na\r\n\r\n*0\r\n";
        let parts = vec![
            Reply::Simple("OK".to_owned()),
            Reply::Simple("QUEUED".to_owned()),
            Reply::Integer(-5),
            Reply::Bulk(None),
            Reply::Bulk(Some(b"a\r\n".to_vec())),
            Reply::Array(Vec::new()),
        ];
        assert_eq!(answered(nested).await.unwrap(), Reply::Array(parts));
        for text in [
            "ERR unknown command 'X',  with args",
            "NOPERM no",
            "LOADING",
            "Unknown: x",
            "ERR",
        ] {
            let bytes: &'static [u8] = format!("-{text}\r\n").into_bytes().leak();
            assert_eq!(answered(bytes).await.unwrap(), Reply::Error(text.to_owned()));
        }
    }

    /// A server that takes no more clients says so before it is asked, and closes.
    #[tokio::test]
    async fn what_a_server_says_before_it_is_asked_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let address = RedisAddress::from_url(&url, None, None, &|_| None).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream
                .write_all(b"-ERR max number of clients reached\r\n")
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
            // What it is sent is read, or the system would take back what it said.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let (opened, ()) = tokio::join!(Client::open(&address), serve);
        let error = opened.unwrap_err();
        assert!(error.chain().contains("max number of clients reached"), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_no_reply_is_an_error() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"$1\r\nabcd\r\n",
            b":x\r\n",
            b"#t\r\n",
        ] {
            let error = answered(bytes).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{}: {error:?}", bytes.escape_ascii());
            assert!(!error.chain().contains("Bad"), "{error:?}");
        }
        let deep: &'static [u8] = b"*1\r\n".repeat(10_000).leak();
        assert_eq!(answered(deep).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }

    /// The server announces terabytes and sends for ever: only so much is taken.
    #[tokio::test]
    async fn an_answer_has_a_bound_whatever_the_server_announces() {
        assert!(size_of::<Value>() <= 56, "MAX_REPLY_BYTES counts with 56");
        for announced in [&b"$9999999999999\r\n"[..], b"*9999999999999\r\n", b"+"] {
            let (client, mut server) = pair(Duration::from_secs(60)).await;
            let serve = async {
                let mut sent = 0_u64;
                server.write_all(announced).await.unwrap();
                let piece = match announced {
                    b"+" => vec![b'x'; 1 << 17],
                    _ => [&b"$1000\r\n"[..], &[b'x'; 1000], b"\r\n"].concat().repeat(100),
                };
                while server.write_all(&piece).await.is_ok() {
                    sent += u64::try_from(piece.len()).unwrap();
                }
                sent
            };
            let (answer, sent) = tokio::join!(client.ask(&[b"PING"]), serve);
            let error = answer.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error:?}");
            assert!(sent <= MAX_REPLY_BYTES + (4 << 20), "{sent} bytes were taken");
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_and_one_that_is_silent_are_told_apart() {
        let (client, server) = pair(Duration::from_secs(60)).await;
        drop(server);
        let error = client.ask(&[b"PING"]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.chain().contains("closed the connection"), "{error:?}");
        let (client, _server) = pair(Duration::from_millis(1)).await;
        let error = client.ask(&[b"PING"]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
    }
}
