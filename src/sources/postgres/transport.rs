//! The byte stream to a server: TCP, TLS over TCP, or a Unix socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls;
use super::url::{ConnectOptions, Host, SslMode};
use crate::error::{Context as _, Error, ErrorKind, Result};

/// An open byte stream.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Transport {
    /// Dials and, as the mode asks, starts TLS.
    pub(super) async fn open(options: &ConnectOptions) -> Result<Self> {
        match &options.host {
            Host::Unix(directory) => {
                let path = directory.join(format!(".s.PGSQL.{}", options.port));
                let stream = UnixStream::connect(&path).await;
                let stream = stream.map_err(|e| refused(e, &path.display().to_string()))?;
                if !matches!(options.ssl_mode, SslMode::Disable | SslMode::Prefer) {
                    return Err(Error::unsupported("TLS over a Unix socket is not possible")
                        .with_hint("Remove sslmode from the URL."));
                }
                Ok(Self::Unix(stream))
            }
            Host::Tcp(host) => Self::open_tcp(options, host).await,
        }
    }

    async fn open_tcp(options: &ConnectOptions, host: &str) -> Result<Self> {
        let place = format!("{host}:{}", options.port);
        let mut stream = TcpStream::connect((host, options.port))
            .await
            .map_err(|e| refused(e, &place))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        // A peer that vanishes without a word is noticed after 60 s; no timeout on unsent data, because a server that
        // waits for a lock in the middle of COPY IN may rightly not read for long.
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10))
            .with_retries(3);
        socket2::SockRef::from(&stream)
            .set_tcp_keepalive(&keepalive)
            .context("set TCP keepalive")?;
        if options.ssl_mode == SslMode::Disable {
            return Ok(Self::Tcp(stream));
        }
        if !offers_tls(&mut stream).await? {
            if options.ssl_mode == SslMode::Prefer {
                return Ok(Self::Tcp(stream));
            }
            return Err(Error::new(ErrorKind::Denied, format!("server \"{place}\" does not offer TLS")).with_hint(
                "Turn on ssl in postgresql.conf; in a network you trust, add ?sslmode=disable (or prefer) to the URL.",
            ));
        }
        let config = tls::client_config(options)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| Error::invalid(format!("host \"{host}\" cannot be a TLS server name")).with_cause(e))?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(tls::handshake_error)?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Returns whether nobody on the way can read along.
    pub(super) fn is_private(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Unix(_))
    }

    /// Returns whether this is TLS.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Returns the `tls-server-end-point` binding, where there is one.
    pub(super) fn channel_binding(&self) -> Option<Vec<u8>> {
        match self {
            Self::Tls(stream) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first)?;
                tls::server_end_point(certificate)
            }
            _ => None,
        }
    }
}

/// Sends SSLRequest and reads the one byte of the answer, not one more: what came after it unencrypted would be an
/// attacker's (CVE-2021-23222).
async fn offers_tls(stream: &mut TcpStream) -> Result<bool> {
    let mut request = bytes::BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    stream.write_all(&request).await.context("ask for TLS")?;
    let mut answer = [0u8];
    stream.read_exact(&mut answer).await.context("ask for TLS")?;
    match answer {
        [b'S'] => Ok(true),
        [b'N'] => Ok(false),
        _ => {
            Err(Error::corrupt("the peer's answer to SSLRequest is not PostgreSQL's").with_hint("Check host and port."))
        }
    }
}

fn refused(error: io::Error, place: &str) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("unable to reach PostgreSQL at \"{place}\""))
        .with_cause(error)
        .with_hint("Check host and port, and that the server is running and listens there.")
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
