//! The byte stream to a server: TCP, TLS over TCP, or a Unix socket.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::address::{Place, RedisAddress};
use crate::error::{Error, ErrorKind, Result};
pub(super) use crate::sources::transport::Transport;
use crate::sources::transport::{dial, dial_unix};

/// What errors call the server.
const SERVER: &str = "the Redis server";

/// Dials and, if asked for, starts TLS; a server's certificate is always verified.
pub(super) async fn open(address: &RedisAddress) -> Result<Transport> {
    let (host, port, tls) = match &address.place {
        Place::Unix(path) => {
            return Ok(Transport::Unix(dial_unix(path, SERVER).await?));
        }
        Place::Tcp { host, port, tls } => (host.as_str(), *port, *tls),
    };
    let stream = dial(host, port, SERVER).await?;
    if !tls {
        return Ok(Transport::Tcp(stream));
    }
    let name = ServerName::try_from(host.to_owned())
        .map_err(|e| Error::invalid(format!("host \"{host}\" cannot be a TLS server name")).with_cause(e))?;
    let connector = TlsConnector::from(tls_config(address.ca_file.as_deref())?);
    let stream = connector.connect(name, stream).await.map_err(|e| {
        Error::new(ErrorKind::Denied, "TLS handshake failed")
            .with_cause(e)
            .with_hint("Name the authority with ?cacert=FILE, check the host name, and that the port speaks TLS.")
    })?;
    Ok(Transport::Tls(Box::new(stream)))
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
