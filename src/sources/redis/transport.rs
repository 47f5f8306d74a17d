//! The byte stream to a server: TCP, TLS over TCP, or a Unix socket.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::{Place, RedisAddress};
use crate::error::{Context as _, Error, ErrorKind, Result};

/// An open byte stream.
pub(super) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    /// Dials and, if asked for, starts TLS; a server's certificate is always verified.
    pub(super) async fn open(address: &RedisAddress) -> Result<Self> {
        let (host, port, tls) = match &address.place {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                return Ok(Self::Unix(stream.map_err(|e| refused(e, address))?));
            }
            Place::Tcp { host, port, tls } => (host.as_str(), *port, *tls),
        };
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|e| refused(e, address))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10))
            .with_retries(3);
        socket2::SockRef::from(&stream)
            .set_tcp_keepalive(&keepalive)
            .context("set TCP keepalive")?;
        if !tls {
            return Ok(Self::Tcp(stream));
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| Error::invalid(format!("host \"{host}\" cannot be a TLS server name")).with_cause(e))?;
        let connector = TlsConnector::from(tls_config(address.ca_file.as_deref())?);
        let stream = connector.connect(name, stream).await.map_err(|e| {
            Error::new(ErrorKind::Denied, "TLS handshake failed")
                .with_cause(e)
                .with_hint("Name the authority with ?cacert=FILE, check the host name, and that the port speaks TLS.")
        })?;
        Ok(Self::Tls(Box::new(stream)))
    }
}

/// Trusts the given file, else the system's roots, else Mozilla's (an empty container has no roots of its own).
fn tls_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|e| Error::invalid(format!("unable to read cacert \"{}\"", path.display())).with_cause(e))?;
        roots.add_parsable_certificates(certificates);
        if roots.is_empty() {
            return Err(Error::invalid(format!("\"{}\" holds no certificate", path.display()))
                .with_hint("Name a PEM file of trusted certificates."));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::unsupported("unable to set up TLS").with_cause(e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn refused(error: io::Error, address: &RedisAddress) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    };
    Error::new(
        kind,
        format!("unable to reach the Redis server at \"{}\"", address.location()),
    )
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
