//! TLS to a server: what is verified, and the channel binding of SCRAM.
//!
//! Roots are `sslrootcert`, else the system's, else Mozilla's list (an empty container has no system roots). A
//! self-signed server certificate may itself stand in `sslrootcert`, as with libpq.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::client_certificate::ClientCertificate;
use super::url::{ConnectOptions, SslMode, one_of};
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::base::tls::usual_roots;

/// Name of the protocol within TLS (ALPN), by which direct TLS is told from other protocols.
pub(crate) const ALPN: &[u8] = b"postgresql";

/// When a client certificate is sent: `sslcertmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateMode {
    /// Never.
    Disable,
    /// If the server asks for one and there is one.
    Allow,
    /// And the server has to ask.
    Require,
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.0, which is not spoken.
    V1_0,
    /// TLS 1.1, which is not spoken.
    V1_1,
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl Version {
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "tlsv1" => Self::V1_0,
            "tlsv1.1" => Self::V1_1,
            "tlsv1.2" => Self::V1_2,
            "tlsv1.3" => Self::V1_3,
            _ => return Err(one_of(name, text, "TLSv1.2 or TLSv1.3")),
        })
    }
}

/// What a connection string says of TLS beside the mode and the trusted authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM file of the client's certificate and what leads to its authority.
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key.
    pub key: Option<PathBuf>,
    /// Whether a password was given for the key.
    pub has_key_password: bool,
    /// When it is sent.
    pub certificate_mode: CertificateMode,
    /// PEM file of revoked certificates.
    pub crl: Option<PathBuf>,
    /// Directory of such files.
    pub crl_directory: Option<PathBuf>,
    /// Whether TLS begins at once, without asking the server for it.
    pub is_direct: bool,
    /// Whether the handshake names the server (SNI).
    pub names_server: bool,
    /// Oldest version.
    pub least: Version,
    /// Newest version.
    pub most: Version,
}

/// Makes the TLS configuration of a connection, and what becomes of the client's certificate.
pub(crate) fn client_config(options: &ConnectOptions) -> Result<(Arc<ClientConfig>, Arc<ClientCertificate>)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let root_file = options.ssl_root_cert.as_deref();
    let verify = match options.ssl_mode {
        SslMode::VerifyFull | SslMode::VerifyCa => true,
        SslMode::Require => root_file.is_some(),
        SslMode::Allow | SslMode::Prefer | SslMode::Disable => false,
    };
    let mut verifier = Verifier {
        chain: None,
        pinned: Vec::new(),
        check_name: options.ssl_mode == SslMode::VerifyFull,
        provider: Arc::clone(&provider),
    };
    if verify {
        let pinned = root_file.map(read_roots).transpose()?;
        let roots = if let Some(pinned) = &pinned {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(pinned.iter().cloned());
            roots
        } else {
            usual_roots()
        };
        verifier.pinned = pinned.unwrap_or_default();
        let mut chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let revoked = read_revoked(&options.tls)?;
        if !revoked.is_empty() {
            // As OpenSSL: every certificate of the chain needs a list, and a list that has expired is none.
            chain = chain.with_crls(revoked).enforce_revocation_expiration();
        }
        let chain = chain.build().map_err(|e| {
            let crl = matches!(e, rustls::client::VerifierBuilderError::InvalidCrl(_));
            let error = Error::invalid("unable to use the trusted certificates").with_cause(e);
            if crl {
                return error.with_hint("A certificate revocation list must be version 2, with a number (RFC 5280).");
            }
            error
        })?;
        verifier.chain = Some(chain);
    }
    let certificate = Arc::new(ClientCertificate::read(&options.tls, &provider)?);
    let versions: &[&SupportedProtocolVersion] = match (options.tls.least, options.tls.most) {
        (_, Version::V1_2) => &[&rustls::version::TLS12],
        (Version::V1_3, _) => &[&rustls::version::TLS13],
        _ => &[&rustls::version::TLS12, &rustls::version::TLS13],
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|e| Error::unsupported("unable to set up TLS").with_cause(e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::<ClientCertificate>::clone(&certificate));
    config.enable_sni = options.tls.names_server;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok((Arc::new(config), certificate))
}

/// Reads lists of revoked certificates: a file, or all files of a directory.
fn read_revoked(options: &TlsOptions) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let mut files: Vec<PathBuf> = options.crl.iter().cloned().collect();
    if let Some(directory) = &options.crl_directory {
        let act = || format!("read sslcrldir \"{}\"", directory.display());
        for entry in std::fs::read_dir(directory).with_context(act)? {
            let path = entry.with_context(act)?.path();
            if path.is_file() {
                files.push(path);
            }
        }
    }
    let mut lists = Vec::new();
    for file in &files {
        let act = || format!("unable to read the certificate revocation list \"{}\"", file.display());
        let found: Vec<_> = CertificateRevocationListDer::pem_file_iter(file)
            .and_then(Iterator::collect)
            .map_err(|e| {
                Error::invalid(act())
                    .with_cause(e)
                    .with_hint("Set sslcrl (PGSSLCRL) to a PEM file, or sslcrldir to a directory of them.")
            })?;
        if found.is_empty() {
            return Err(Error::invalid(act()).with_hint("The file contains no certificate revocation list."));
        }
        lists.extend(found);
    }
    Ok(lists)
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let act = || format!("unable to read sslrootcert \"{}\"", path.display());
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| {
            Error::invalid(act())
                .with_cause(e)
                .with_hint("Use a PEM file of trusted certificates.")
        })?;
    if certificates.is_empty() {
        return Err(Error::invalid(act()).with_hint("The file holds no certificate."));
    }
    Ok(certificates)
}

/// Turns a failed handshake into an error with a hint.
pub(crate) fn handshake_error(error: std::io::Error, options: &ConnectOptions) -> Error {
    let certificate = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    let is_proof = matches!(certificate, Some(rustls::Error::InvalidCertificate(_)));
    let is_revocation = matches!(
        certificate,
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Revoked
                | CertificateError::UnknownRevocationStatus
                | CertificateError::ExpiredRevocationList
                | CertificateError::ExpiredRevocationListContext { .. }
        ))
    );
    let kind = if is_proof {
        ErrorKind::Denied
    } else {
        ErrorKind::Unavailable
    };
    let hint = if is_revocation {
        "Certificate revocation lists come from sslcrl, sslcrldir or ~/.postgresql/root.crl: each CA needs one that \
         has not expired."
    } else if is_proof {
        "Set the CA with sslrootcert=FILE, check the host name, or accept any server with sslmode=require."
    } else if options.tls.is_direct {
        "PostgreSQL supports direct TLS since 17; set sslnegotiation=postgres."
    } else {
        "Check that the server supports TLS 1.2 or newer, and accepts the client certificate (sslcert)."
    };
    Error::new(kind, "TLS handshake failed")
        .with_cause(error)
        .with_hint(hint)
}

/// Verifies as much as the mode asks for: nothing, the chain, or chain and name. Signatures always.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    pinned: Vec<CertificateDer<'static>>,
    check_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            if self.check_name {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.check_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns the `tls-server-end-point` binding of a certificate (RFC 5929 section 4): its digest by the hash of its own
/// signature, SHA-256 where that is MD5 or SHA-1. `None` where the hash is not defined (Ed25519) or not known.
pub(crate) fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    // The last arc tells the hash within each family; see RFC 4055, RFC 5758 and RFC 3279.
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    let (_, body, _) = der(certificate)?;
    let (_, _, after_tbs) = der(body)?;
    let (_, algorithm, _) = der(after_tbs)?;
    let (_, oid, parameters) = der(algorithm)?;
    let (&last, family) = oid.split_last()?;
    let bits = match (family, last) {
        (RSA, 4 | 5 | 11) | (ECDSA_SHA2, 2) => 256,
        (RSA, 12) | (ECDSA_SHA2, 3) => 384,
        (RSA, 13) | (ECDSA_SHA2, 4) => 512,
        (RSA, 10) => pss_bits(parameters)?,
        _ if oid == ECDSA_SHA1 => 256,
        _ => return None,
    };
    Some(match bits {
        256 => Sha256::digest(certificate).to_vec(),
        384 => Sha384::digest(certificate).to_vec(),
        _ => Sha512::digest(certificate).to_vec(),
    })
}

/// Finds the hash in RSASSA-PSS parameters: `SEQUENCE { [0] { SEQUENCE { OID } } ... }`.
fn pss_bits(parameters: &[u8]) -> Option<u32> {
    let (_, sequence, _) = der(parameters)?;
    let (tag, explicit, _) = der(sequence)?;
    if tag != 0xa0 {
        return Some(256);
    }
    let (_, algorithm, _) = der(explicit)?;
    let (_, oid, _) = der(algorithm)?;
    match oid.last()? {
        1 => Some(256),
        2 => Some(384),
        3 => Some(512),
        _ => None,
    }
}

/// Splits one DER element: tag, content, what follows.
fn der(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(count)?;
        (bytes.iter().fold(0usize, |n, &b| (n << 8) | usize::from(b)), rest)
    };
    let (content, after) = rest.split_at_checked(len)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_point_follows_the_signature_hash_and_never_panics() {
        // Certificate { tbs SEQUENCE {}, algorithm SEQUENCE { OID sha384WithRSAEncryption } }
        let certificate = [
            0x30, 15, 0x30, 0, 0x30, 11, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 12,
        ];
        assert_eq!(
            server_end_point(&certificate),
            Some(Sha384::digest(certificate).to_vec())
        );
        for len in 0..certificate.len() {
            assert_eq!(server_end_point(certificate.get(..len).unwrap_or_default()), None);
        }
    }
}
