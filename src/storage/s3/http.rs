//! The HTTP client below the SDK: which authorities it trusts, and which way a request goes.

use std::path::Path;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector, tls};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::base::environment;
use crate::base::error::{Context, Error, Result};
use crate::base::proxy::Proxies;

/// Makes the client: with the authorities of `ca_file` alone, where there is one, and by the proxies of the environment.
pub(super) fn client(ca_file: Option<&Path>) -> Result<SharedHttpClient> {
    let trust = trust(ca_file)?;
    let proxies = Proxies::of_process();
    let direct = by_way_of(&trust, None);
    if proxies.is_empty() {
        return Ok(direct);
    }
    let proxied = |scheme: &str| -> Result<Option<SharedHttpClient>> {
        // One that cannot be used is told when something has to go through it.
        let Some(address) = proxies.address(scheme).ok().flatten() else {
            return Ok(None);
        };
        let way = ProxyConfig::all(address.to_string());
        let way = way.map_err(|_| Error::invalid("the environment sets an unusable proxy"))?;
        Ok(Some(by_way_of(&trust, Some(way))))
    };
    let (http, https) = (proxied("http")?, proxied("https")?);
    Ok(SharedHttpClient::new(Chooser {
        direct,
        http,
        https,
        proxies: std::sync::Arc::new(proxies),
    }))
}

fn by_way_of(trust: &tls::TlsContext, way: Option<ProxyConfig>) -> SharedHttpClient {
    let trust = trust.clone();
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder();
        builder.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            builder.set_sleep_impl(components.sleep_impl());
        }
        builder.set_proxy_config(way.clone());
        builder
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .tls_context(trust.clone())
            .build()
    })
}

/// Sends each request directly or by the proxy for its scheme. The SDK knows one proxy for everything; here the rule is that
/// of [`Proxies`], like everywhere else in this program.
#[derive(Debug)]
struct Chooser<T = SharedHttpClient> {
    direct: T,
    http: Option<T>,
    https: Option<T>,
    proxies: std::sync::Arc<Proxies>,
}

impl HttpClient for Chooser {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let of = |client: &SharedHttpClient| client.http_connector(settings, components);
        SharedHttpConnector::new(Chooser {
            direct: of(&self.direct),
            http: self.http.as_ref().map(of),
            https: self.https.as_ref().map(of),
            proxies: std::sync::Arc::clone(&self.proxies),
        })
    }
}

impl HttpConnector for Chooser<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let address = url::Url::parse(request.uri()).ok();
        let scheme = address.as_ref().map(|url| url.scheme().to_owned()).unwrap_or_default();
        let host = address.as_ref().and_then(url::Url::host_str).unwrap_or_default();
        let proxied = match self.proxies.towards(&scheme, host) {
            Ok(found) => found.is_some(),
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let way = match scheme.as_str() {
            "https" => self.https.as_ref(),
            _ => self.http.as_ref(),
        };
        way.filter(|_| proxied).unwrap_or(&self.direct).call(request)
    }
}

/// Whom the store's certificate must come from: the authorities of `ca_file` and no others, where there is one; else those of
/// `AWS_CA_BUNDLE` and of the system, or of Mozilla where that has none.
fn trust(ca_file: Option<&Path>) -> Result<tls::TlsContext> {
    let mut store = tls::TrustStore::empty();
    if let Some(path) = ca_file {
        add_file(&mut store, path)?;
    } else {
        if let Some(path) = environment::variable("AWS_CA_BUNDLE") {
            add_file(&mut store, Path::new(&path))?;
        }
        // The SDK knows the system's alone, and an image from scratch holds none.
        if rustls_native_certs::load_native_certs().certs.is_empty() {
            add_bundled(&mut store);
        } else {
            store = store.with_native_roots(true);
        }
    }
    let context = tls::TlsContext::builder().with_trust_store(store).build();
    context.map_err(|error| Error::unsupported("unable to set up TLS").with_cause(error))
}

/// Reads the certificates of a file. The SDK answers one that it cannot read by a panic, so only those that can be are given to it.
fn add_file(store: &mut tls::TrustStore, path: &Path) -> Result<()> {
    let act = || format!("read the certificates in \"{}\"", path.display());
    let hint = "It is a file of certificates in PEM form, named by ca_file or AWS_CA_BUNDLE.";
    let bytes = std::fs::read(path).with_context(act).map_err(|e| e.with_hint(hint))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate
            .map_err(|e| Error::invalid("one of them is damaged").with_cause(e).with_hint(hint))
            .with_context(act)?;
        if rustls::RootCertStore::empty().add(certificate.clone()).is_ok() {
            store.add_pem_certificate(pem(&certificate));
            count += 1;
        }
    }
    if count == 0 {
        return Err(Error::invalid("there is none that can be used")
            .with_hint(hint)
            .context(act()));
    }
    Ok(())
}

/// Adds the authorities that Mozilla trusts.
fn add_bundled(store: &mut tls::TrustStore) {
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        store.add_pem_certificate(pem(certificate));
    }
}

/// A certificate as text, which is what the SDK takes.
fn pem(der: &[u8]) -> String {
    let text = aws_smithy_types::base64::encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bundled_certificates_can_be_read() {
        let mut count = 0;
        for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
            let text = pem(certificate);
            let read = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            assert_eq!(read, *certificate);
            rustls::RootCertStore::empty().add(read).unwrap();
            count += 1;
        }
        assert!(count > 100, "{count}");
        add_bundled(&mut tls::TrustStore::empty());
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_its_name() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("ca.pem");
        let refused = |path: &Path| {
            let error = trust(Some(path)).unwrap_err();
            assert!(error.chain().contains("ca.pem"), "{}", error.chain());
            assert!(error.hint().unwrap().contains("AWS_CA_BUNDLE"), "{error:?}");
        };
        refused(&path);
        for text in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, text).unwrap();
            refused(&path);
        }
        std::fs::write(&path, pem(webpki_root_certs::TLS_SERVER_ROOT_CERTS.first().unwrap())).unwrap();
        trust(Some(&path)).unwrap();
    }
}
