//! The SDK client: credentials, endpoint, timeouts, checksums, and the server's clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, Intercept, Region, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::types::ChecksumAlgorithm;
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_types::config_bag::ConfigBag;
use jiff::Timestamp;

use super::{ChecksumMode, S3Options};
use crate::error::{Error, Result};

/// Slowest link an attempt is given time for: 64 KiB/s.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 * 1024;

/// Time after which a stalled transfer ends. The SDK's own 5 s ends slow but healthy uplinks.
const STALL_GRACE: Duration = Duration::from_secs(30);

/// Sends a request, with the payload unsigned when TLS protects it already (saves one SHA-256 per body).
macro_rules! send {
    ($store:expr, $request:expr) => {
        if crate::storage::s3::client::signs_payload(&$store.options) {
            $request.send().await
        } else {
            $request.customize().disable_payload_signing().send().await
        }
    };
}
pub(super) use send;

/// Returns whether bodies must be signed: over plain HTTP nothing else protects them.
pub(super) fn signs_payload(options: &S3Options) -> bool {
    options
        .endpoint
        .as_deref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"))
}

/// Returns the checksum that the SDK computes over each body and sends as a header.
pub(super) fn checksum_algorithm(options: &S3Options) -> Option<ChecksumAlgorithm> {
    match options.checksums {
        ChecksumMode::Auto if options.endpoint.is_none() => Some(ChecksumAlgorithm::Crc32),
        ChecksumMode::Auto | ChecksumMode::None => None,
        ChecksumMode::Crc32 => Some(ChecksumAlgorithm::Crc32),
        ChecksumMode::Sha256 => Some(ChecksumAlgorithm::Sha256),
    }
}

/// Builds the client. With static keys nothing is asked of the network.
pub(super) async fn build(options: &S3Options, clock: Arc<ServerClock>) -> Result<Client> {
    let part = u64::try_from(options.part_bytes.max(8 << 20)).unwrap_or(8 << 20);
    let attempt = Duration::from_secs((part / SLOWEST_BYTES_PER_SECOND).max(60));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .build();
    let mut http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
    if rustls_native_certs::load_native_certs().certs.is_empty() {
        http = http.tls_context(bundled_roots()?);
    }
    let http = http.build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts);
    // Retries are ours (storage::retry): one place that counts them and folds them into one message.
    loader = loader.retry_config(RetryConfig::disabled());
    loader = loader.stalled_stream_protection(
        StalledStreamProtectionConfig::enabled()
            .upload_enabled(true)
            .download_enabled(true)
            .grace_period(STALL_GRACE)
            .build(),
    );
    if let Some((id, secret)) = &options.access_key {
        loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "wirevault-configuration"));
    }
    // Only AWS itself has regions to look up (profile, instance service); other stores take any.
    let named = options
        .region
        .clone()
        .or_else(|| environment("AWS_REGION"))
        .or_else(|| environment("AWS_DEFAULT_REGION"));
    match named {
        Some(region) => loader = loader.region(Region::new(region)),
        None if options.endpoint.is_some() => loader = loader.region(Region::from_static("us-east-1")),
        None => {}
    }
    let shared = loader.load().await;
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(options.path_style.unwrap_or(options.endpoint.is_some()))
        .interceptor(DateInterceptor(clock));
    if shared.region().is_none() {
        config = config.region(Region::from_static("us-east-1"));
    }
    if let Some(endpoint) = &options.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(config.build()))
}

/// The authorities that Mozilla trusts, for an image that holds no certificates: the SDK knows the system's alone. It takes
/// them as PEM.
fn bundled_roots() -> Result<tls::TlsContext> {
    let mut store = tls::TrustStore::empty();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        store.add_pem_certificate(pem(certificate));
    }
    let context = tls::TlsContext::builder().with_trust_store(store).build();
    context.map_err(|error| Error::unsupported("unable to set up TLS").with_cause(error))
}

/// A certificate as text: base64 in lines of 64 letters.
fn pem(der: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----");
    for (at, three) in der.chunks(3).enumerate() {
        if at % 16 == 0 {
            text.push('\n');
        }
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let six = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
            let letter = LETTERS.get(six).copied().filter(|_| place <= three.len());
            text.push(letter.map_or('=', char::from));
        }
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The last `Date` a server sent: the clock that sweeping trusts.
#[derive(Debug, Default)]
pub(super) struct ServerClock(Mutex<Option<Timestamp>>);

impl ServerClock {
    /// Returns the time of the last answer and forgets it.
    pub(super) fn take(&self) -> Option<Timestamp> {
        self.0.lock().expect("no panic happens under this lock").take()
    }
}

#[derive(Debug)]
struct DateInterceptor(Arc<ServerClock>);

impl Intercept for DateInterceptor {
    fn name(&self) -> &'static str {
        "ServerDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), aws_sdk_s3::error::BoxError> {
        let date = context.response().headers().get("date");
        let parsed = date
            .and_then(|text| jiff::fmt::rfc2822::parse(text).ok())
            .map(|zoned| zoned.timestamp());
        if let Some(time) = parsed {
            *self.0.0.lock().expect("no panic happens under this lock") = Some(time);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// The SDK takes certificates it cannot read by a panic.
    #[test]
    fn bundled_certificates_can_be_read() {
        let mut count = 0;
        for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
            let text = pem(certificate);
            assert!(text.lines().all(|line| line.len() <= 64));
            let read = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            assert_eq!(read, *certificate);
            rustls::RootCertStore::empty().add(read).unwrap();
            count += 1;
        }
        assert!(count > 100, "{count}");
        bundled_roots().unwrap();
    }
}
