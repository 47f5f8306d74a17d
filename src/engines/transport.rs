//! The byte stream to a server, whichever protocol it carries: TCP, TLS over TCP, or a Unix socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::base::error::{Context as _, Error, ErrorKind, Result};

/// An open byte stream.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// How a peer that vanished without a word is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether an idle connection is probed.
    pub is_on: bool,
    /// Silence until the first probe.
    pub idle: Duration,
    /// Pause between probes.
    pub interval: Duration,
    /// Probes without an answer that end the connection.
    pub count: u32,
    /// How long sent data may stay unacknowledged; the system's bound if none. It is none by default, because a server that
    /// waits for a lock in the middle of COPY IN may rightly not read for long.
    pub user_timeout: Option<Duration>,
}

impl Default for Keepalive {
    /// Notices within 60 s.
    fn default() -> Self {
        Self {
            is_on: true,
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            count: 3,
            user_timeout: None,
        }
    }
}

/// Dials by TCP; `server` is what errors call it.
pub(crate) async fn dial(host: &str, port: u16, server: &str) -> Result<TcpStream> {
    dial_with(host, port, server, &Keepalive::default()).await
}

/// As [`dial`], with a keepalive of the caller's.
pub(crate) async fn dial_with(host: &str, port: u16, server: &str, keepalive: &Keepalive) -> Result<TcpStream> {
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|e| refused(e, server, &format!("{host}:{port}")))?;
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    let socket = socket2::SockRef::from(&stream);
    if keepalive.is_on {
        let probes = socket2::TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.count);
        socket.set_tcp_keepalive(&probes).context("set TCP keepalive")?;
    }
    if let Some(timeout) = keepalive.user_timeout {
        socket
            .set_tcp_user_timeout(Some(timeout))
            .context("set TCP_USER_TIMEOUT")?;
    }
    Ok(stream)
}

/// Dials a Unix socket.
pub(crate) async fn dial_unix(path: &std::path::Path, server: &str) -> Result<UnixStream> {
    let stream = UnixStream::connect(path).await;
    stream.map_err(|e| refused(e, server, &path.display().to_string()))
}

fn refused(error: io::Error, server: &str, place: &str) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("could not connect to {server} at \"{place}\""))
        .with_cause(error)
        .with_hint("Check host and port, and that the server is running and accepts connections there.")
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
