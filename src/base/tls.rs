//! What every TLS connection of this program begins with: rustls on ring, and the authorities that are trusted where none are named.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use crate::base::error::{Error, Result};

/// Returns the system's authorities, or Mozilla's where it has none: an image from scratch holds none of its own.
pub(crate) fn usual_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// Begins the configuration of a client that trusts these authorities and nobody else.
pub(crate) fn trusting(roots: RootCertStore) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::unsupported("unable to set up TLS").with_cause(e))?;
    Ok(builder.with_root_certificates(roots))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn somebody_is_trusted_on_every_host() {
        assert!(!usual_roots().is_empty());
        trusting(usual_roots()).unwrap();
    }
}
