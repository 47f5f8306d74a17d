//! The byte stream to a server: TCP, TLS over TCP, or a Unix socket.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::address::{Endpoint, Identity, RedisAddress};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::tls::{trusting, usual_roots};
pub(crate) use crate::engines::transport::Transport;
use crate::engines::transport::{dial, dial_unix};

/// What errors call the server.
const SERVER: &str = "the Redis server";

/// Dials and, if asked for, starts TLS; a server's certificate is always verified.
pub(crate) async fn open(address: &RedisAddress) -> Result<Transport> {
    let (host, port, tls) = match &address.place {
        Endpoint::Unix(path) => {
            return Ok(Transport::Unix(dial_unix(path, SERVER).await?));
        }
        Endpoint::Tcp { host, port, tls } => (host.as_str(), *port, *tls),
    };
    let stream = dial(host, port, SERVER).await?;
    if !tls {
        return Ok(Transport::Tcp(stream));
    }
    let name = ServerName::try_from(host.to_owned())
        .map_err(|e| Error::invalid(format!("host \"{host}\" is not a valid TLS server name")).with_cause(e))?;
    let connector = TlsConnector::from(tls_config(address)?);
    let stream = connector.connect(name, stream).await.map_err(|e| {
        let error = Error::new(ErrorKind::Denied, "TLS handshake failed");
        match wants_certificate(&e) {
            Some(hint) => error.with_cause(e).with_hint(hint),
            None => error
                .with_cause(e)
                .with_hint("Set the CA with ?cacert=FILE, and check the host name and that the port uses TLS."),
        }
    })?;
    Ok(Transport::Tls(Box::new(stream)))
}

/// Returns what to do if the server ended TLS because of the client certificate, or because there was none. It may say so
/// in the handshake, or with TLS 1.3 in place of its first answer.
pub(crate) fn wants_certificate(error: &std::io::Error) -> Option<&'static str> {
    use rustls::AlertDescription as Alert;
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::AlertReceived(alert) = inner else {
        return None;
    };
    match alert {
        Alert::CertificateRequired | Alert::NoCertificate => {
            Some("The server requires a client certificate: set ?cert=FILE&key=FILE.")
        }
        Alert::HandshakeFailure => {
            Some("The server may require a client certificate (tls-auth-clients): set ?cert=FILE&key=FILE.")
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA => Some(
            "The server does not accept the client certificate: it must be signed by a CA that the server trusts \
             (tls-ca-cert-file), and not expired.",
        ),
        _ => None,
    }
}

fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| {
            Error::invalid(format!("unable to read {what} \"{}\"", path.display()))
                .with_cause(e)
                .with_hint("Use a PEM file that this user can read.")
        })
}

/// Reads a client certificate and its key.
fn identity(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = certificates(&identity.certificate, "cert")?;
    if chain.is_empty() {
        let path = identity.certificate.display();
        return Err(Error::invalid(format!("\"{path}\" holds no certificate"))
            .with_hint("Set cert to a PEM file with the client certificate."));
    }
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(|e| {
        Error::invalid(format!(
            "unable to read the private key in \"{}\"",
            identity.key.display()
        ))
        .with_cause(e)
        .with_hint("Set key to a PEM file with an unencrypted key; openssl pkey -in FILE -out NEW decrypts one.")
    })?;
    Ok((chain, key))
}

/// Trusts the given file, else the system's roots, else Mozilla's (an empty container has no roots of its own).
fn tls_config(address: &RedisAddress) -> Result<Arc<ClientConfig>> {
    let roots = if let Some(path) = address.ca_file.as_deref() {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(path, "cacert")?);
        if roots.is_empty() {
            return Err(Error::invalid(format!("\"{}\" holds no certificate", path.display()))
                .with_hint("Use a PEM file of trusted certificates."));
        }
        roots
    } else {
        usual_roots()
    };
    let config = trusting(roots)?;
    let config = match &address.identity {
        None => config.with_no_client_auth(),
        Some(files) => {
            let (chain, key) = identity(files)?;
            config.with_client_auth_cert(chain, key).map_err(|e| {
                Error::invalid(format!(
                    "\"{}\" is not the key of the certificate \"{}\"",
                    files.key.display(),
                    files.certificate.display()
                ))
                .with_cause(e)
                .with_hint("Set key to the private key of this certificate.")
            })?
        }
    };
    Ok(Arc::new(config))
}
