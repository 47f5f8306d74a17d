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
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_types::config_bag::ConfigBag;
use jiff::Timestamp;

use super::{ChecksumMode, S3Options, http};
use crate::base::environment;
use crate::base::error::Result;
use crate::base::exact;
use crate::base::proxy::Proxies;

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
    let part = exact::u64_from(options.part_bytes.max(8 << 20));
    let attempt = Duration::from_secs((part / SLOWEST_BYTES_PER_SECOND).max(60));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .build();
    let http = http::client(options.ca_file.as_deref())?;
    refuse_unusable_proxy(options)?;
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
    } else if let Some(keys) = keys_of_files(&environment::process)? {
        loader = loader.credentials_provider(keys);
    }
    // Only AWS itself has regions to look up (profile, instance service); other stores take any.
    let named = options
        .region
        .clone()
        .or_else(|| environment::variable("AWS_REGION"))
        .or_else(|| environment::variable("AWS_DEFAULT_REGION"));
    match named {
        Some(region) => loader = loader.region(Region::new(region)),
        None if options.endpoint.is_some() => loader = loader.region(Region::from_static("us-east-1")),
        None => {}
    }
    let shared = loader.load().await;
    // "When required" is never: what a request asks for by its algorithm would not be computed either.
    let calculation = match checksum_algorithm(options) {
        Some(_) => RequestChecksumCalculation::WhenSupported,
        None => RequestChecksumCalculation::WhenRequired,
    };
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .request_checksum_calculation(calculation)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(options.path_style.unwrap_or(options.endpoint.is_some()))
        .interceptor(DateInterceptor(clock));
    if shared.region().is_none() {
        config = config.region(Region::from_static("us-east-1"));
    }
    if let Some(endpoint) = &options.endpoint {
        // Behind a path the SDK writes the bucket without a slash between.
        config = config.endpoint_url(format!("{}/", endpoint.trim_end_matches('/')));
    }
    Ok(Client::from_conf(config.build()))
}

/// Fails if the store is behind a proxy that cannot be used: told now it is one sentence, and later an error of each request.
fn refuse_unusable_proxy(options: &S3Options) -> Result<()> {
    let endpoint = options.endpoint.as_deref().unwrap_or("https://s3.amazonaws.com");
    match url::Url::parse(endpoint) {
        Ok(url) => Proxies::of_process()
            .towards(url.scheme(), url.host_str().unwrap_or_default())
            .map(drop),
        Err(_) => Ok(()),
    }
}

/// Keys whose variables name files: the SDK's chain knows only the variables themselves.
fn keys_of_files(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<Credentials>> {
    let Some((id, secret)) = environment::aws_keys(lookup)? else {
        return Ok(None);
    };
    let is_file = |name: &str| lookup(name).is_some_and(|path| !path.is_empty());
    if !is_file("AWS_ACCESS_KEY_ID_FILE") && !is_file("AWS_SECRET_ACCESS_KEY_FILE") {
        return Ok(None);
    }
    let token = environment::resolve(lookup, "AWS_SESSION_TOKEN")?;
    Ok(Some(Credentials::new(id, secret, token, None, "wirevault-files")))
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
    use super::*;

    #[test]
    fn half_of_the_keys_is_refused_and_not_replaced_by_others() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        std::fs::write(&path, "AKIA\n").unwrap();
        let path = path.display().to_string();
        let keys = |pairs: &[(&str, &str)]| {
            let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
            keys_of_files(&find)
        };
        let plain = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "s")];
        assert!(keys(&plain).unwrap().is_none(), "these the SDK finds by itself");
        assert!(keys(&[("AWS_ACCESS_KEY_ID", "AKIA")]).is_err());
        let whole = keys(&[("AWS_ACCESS_KEY_ID_FILE", &path), ("AWS_SECRET_ACCESS_KEY", "s")]);
        assert_eq!(whole.unwrap().unwrap().access_key_id(), "AKIA");
        let error = keys(&[("AWS_ACCESS_KEY_ID_FILE", &path)]).unwrap_err();
        assert!(error.chain().contains("AWS_SECRET_ACCESS_KEY is not"), "{error:?}");
        let error = keys(&[("AWS_SECRET_ACCESS_KEY_FILE", &path)]).unwrap_err();
        assert!(error.chain().contains("AWS_ACCESS_KEY_ID is not"), "{error:?}");
        let unreadable = [
            ("AWS_ACCESS_KEY_ID_FILE", path.as_str()),
            ("AWS_SECRET_ACCESS_KEY_FILE", "/nowhere/s"),
        ];
        assert!(keys(&unreadable).unwrap_err().chain().contains("/nowhere/s"));
    }
}
