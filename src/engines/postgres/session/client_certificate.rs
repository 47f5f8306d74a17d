//! The client's own certificate: `sslcert` and `sslkey`, else `~/.postgresql/postgresql.crt` and `.key`.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::tls::{CertificateMode, TlsOptions};
use super::url::ConnectOptions;
use crate::base::error::{Error, ErrorKind, Result};

/// A certificate that is sent if the server asks for one, if there is one.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    key: Option<Arc<CertifiedKey>>,
    /// Whether the server asked.
    was_asked: AtomicBool,
}

impl ClientCertificate {
    /// Reads certificate and key. A certificate that is not there is not sent, as with libpq: the server says if it needs one.
    pub(crate) fn read(options: &TlsOptions, provider: &CryptoProvider) -> Result<Self> {
        let none = Self {
            key: None,
            was_asked: AtomicBool::new(false),
        };
        let Some(path) = options
            .certificate
            .as_deref()
            .filter(|_| options.certificate_mode != CertificateMode::Disable)
        else {
            return Ok(none);
        };
        if matches!(path.metadata(), Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
            tracing::warn!(
                "no client certificate is sent: sslcert \"{}\" does not exist",
                path.display()
            );
            return Ok(none);
        }
        let act = || format!("unable to read sslcert \"{}\"", path.display());
        let chain: Vec<_> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|e| Error::invalid(act()).with_cause(e))?;
        if chain.is_empty() {
            return Err(Error::invalid(act()).with_hint("The file holds no certificate in PEM form."));
        }
        let key_path = options.key.as_deref().ok_or_else(|| {
            Error::invalid(format!("sslcert \"{}\" has no private key", path.display()))
                .with_hint("Set it with sslkey (PGSSLKEY).")
        })?;
        let key = read_key(key_path, options.has_key_password)?;
        let pair = CertifiedKey::from_der(chain, key, provider).map_err(|e| {
            Error::invalid(format!(
                "sslkey \"{}\" cannot be used with sslcert \"{}\"",
                key_path.display(),
                path.display()
            ))
            .with_cause(e)
            .with_hint("They must belong together; keys are RSA, ECDSA (P-256, P-384) or Ed25519.")
        })?;
        Ok(Self {
            key: Some(Arc::new(pair)),
            ..none
        })
    }

    /// Fails if the server had to ask for a certificate and did not.
    pub(crate) fn check_asked(&self, options: &ConnectOptions) -> Result<()> {
        if options.tls.certificate_mode != CertificateMode::Require {
            return Ok(());
        }
        let why = match (&self.key, self.was_asked.load(Ordering::SeqCst)) {
            (None, _) => "no client certificate is configured",
            (_, false) => "the server did not ask for a client certificate",
            (Some(_), true) => return Ok(()),
        };
        Err(
            Error::new(ErrorKind::Denied, format!("sslcertmode=require, and {why}")).with_hint(
                "Set it with sslcert and sslkey, and set ssl_ca_file on the server; or write sslcertmode=allow.",
            ),
        )
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::SeqCst);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// Reads a private key that nobody else can read, as libpq demands.
fn read_key(path: &Path, has_password: bool) -> Result<PrivateKeyDer<'static>> {
    let shown = path.display();
    let act = || format!("unable to read sslkey \"{shown}\"");
    let metadata = path.metadata().map_err(|e| {
        Error::invalid(act())
            .with_cause(e)
            .with_hint("Set the private key with sslkey (PGSSLKEY).")
    })?;
    // Keys of root may be read by a group.
    let others = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if !metadata.is_file() || metadata.mode() & others != 0 {
        return Err(Error::new(
            ErrorKind::Denied,
            format!("ignoring sslkey \"{shown}\": others can read it, or it is not a regular file"),
        )
        .with_hint(format!("Run chmod 0600 \"{shown}\" (0640 if it belongs to root).")));
    }
    let text = std::fs::read(path).map_err(|e| Error::invalid(act()).with_cause(e))?;
    let has = |words: &[u8]| text.windows(words.len()).any(|window| window == words);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        let message = format!("sslkey \"{shown}\" is encrypted, which is not supported");
        let hint = format!(
            "{}Store it decrypted with mode 0600: openssl pkey -in KEY -out NEW.",
            if has_password { "sslpassword is not used. " } else { "" }
        );
        return Err(Error::unsupported(message).with_hint(hint));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| {
        Error::invalid(act())
            .with_cause(e)
            .with_hint("Use a private key in PEM form: PKCS#8, PKCS#1 or SEC1.")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_that_others_can_read_or_that_are_encrypted_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("client.key");
        std::fs::write(&path, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n").unwrap();
        let said = |mode: u32| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read_key(&path, true).unwrap_err().chain_and_hint()
        };
        assert!(said(0o604).contains("chmod 0600") && said(0o660).contains("chmod 0600"));
        assert!(said(0o600).contains("encrypted") && said(0o600).contains("sslpassword"));
        std::fs::write(&path, "nothing").unwrap();
        assert!(said(0o600).contains("PEM"));
        assert!(
            read_key(Path::new("/nonexistent"), false)
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("sslkey")
        );
    }
}
