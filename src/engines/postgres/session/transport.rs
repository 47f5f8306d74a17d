//! The byte stream to a server: TCP, TLS over TCP, or a Unix socket.

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls;
use super::url::{ConnectOptions, Host, SslMode};
use crate::base::error::{Context as _, Error, ErrorKind, Result};
pub(crate) use crate::engines::transport::Transport;
use crate::engines::transport::{dial_unix, dial_with};

/// What errors call the server.
const SERVER: &str = "PostgreSQL";

/// Dials and, as the mode asks, starts TLS. As libpq, a Unix socket goes without TLS whatever the mode.
pub(crate) async fn open(options: &ConnectOptions) -> Result<Transport> {
    match &options.host {
        Host::Unix(directory) => {
            let path = directory.join(format!(".s.PGSQL.{}", options.port));
            Ok(Transport::Unix(dial_unix(&path, SERVER).await?))
        }
        Host::Tcp(host) => open_tcp(options, host).await,
    }
}

async fn open_tcp(options: &ConnectOptions, host: &str) -> Result<Transport> {
    let place = format!("{host}:{}", options.port);
    let address = options.host_address.map(|address| address.to_string());
    let dialled = address.as_deref().unwrap_or(host);
    let mut stream = dial_with(dialled, options.port, SERVER, &options.keepalive).await?;
    if matches!(options.ssl_mode, SslMode::Disable | SslMode::Allow) {
        return Ok(Transport::Tcp(stream));
    }
    // Direct TLS begins at once, and its protocol is named within.
    if !options.tls.is_direct && !offers_tls(&mut stream).await? {
        if options.ssl_mode == SslMode::Prefer {
            return Ok(Transport::Tcp(stream));
        }
        return Err(
            Error::new(ErrorKind::Denied, format!("server \"{place}\" does not support TLS")).with_hint(
                "Turn on ssl in postgresql.conf; in a network you trust, add ?sslmode=disable (or prefer) to the URL, or set PGSSLMODE.",
            ),
        );
    }
    let (config, certificate) = tls::client_config(options)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|e| Error::invalid(format!("host \"{host}\" is not a valid TLS server name")).with_cause(e))?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| tls::handshake_error(error, options))?;
    if options.tls.is_direct && stream.get_ref().1.alpn_protocol() != Some(tls::ALPN) {
        return Err(
            Error::unsupported(format!("server \"{place}\" does not support direct TLS"))
                .with_hint("PostgreSQL supports it since 17; set sslnegotiation=postgres."),
        );
    }
    certificate.check_asked(options)?;
    Ok(Transport::Tls(Box::new(stream)))
}

impl Transport {
    /// Returns whether nobody on the way can read along.
    pub(crate) fn is_private(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Unix(_))
    }

    /// Returns whether this is TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Returns the `tls-server-end-point` binding, where there is one.
    pub(crate) fn channel_binding(&self) -> Option<Vec<u8>> {
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
        _ => Err(
            Error::corrupt("the answer to SSLRequest is not that of a PostgreSQL server")
                .with_hint("Check host and port."),
        ),
    }
}
