//! What an S3 error means, and what the reader can do about it.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::S3Options;
use crate::base::error::{Error, ErrorKind};

/// The HTTP status behind an error, where there is one.
pub(super) trait Status {
    /// Returns the status code.
    fn status(&self) -> u16;
}

impl Status for HttpResponse {
    fn status(&self) -> u16 {
        self.status().as_u16()
    }
}

/// One row per S3 error code: kind and hint.
fn by_code(code: &str) -> Option<(ErrorKind, &'static str)> {
    use ErrorKind as K;
    Some(match code {
        "NoSuchKey" | "NotFound" | "NoSuchUpload" => (K::NotFound, ""),
        "InvalidBucketName" => (
            K::Invalid,
            "Correct the bucket in the repository URL: 3 to 63 lowercase letters, digits, dots and hyphens.",
        ),
        "NoSuchBucket" => (
            K::NotFound,
            "Create the bucket, or correct its name in the repository URL.",
        ),
        "AccessDenied" | "AllAccessDisabled" | "Forbidden" => (
            K::Denied,
            "The credentials lack a permission on this bucket or prefix; `backup` needs s3:PutObject and s3:AbortMultipartUpload.",
        ),
        "InvalidAccessKeyId" | "NotSignedUp" => (
            K::Denied,
            "The store does not know this access key; check S3_ACCESS_KEY or AWS_ACCESS_KEY_ID.",
        ),
        "SignatureDoesNotMatch" => (
            K::Denied,
            "The secret key is wrong; check S3_SECRET_KEY or AWS_SECRET_ACCESS_KEY.",
        ),
        "ExpiredToken" | "InvalidToken" => (
            K::Denied,
            "The session token is no longer valid; renew the credentials.",
        ),
        "RequestTimeTooSkewed" | "RequestExpired" => (
            K::Denied,
            "This host's clock is too far from the store's; set it (NTP) and try again.",
        ),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => (
            K::Invalid,
            "The bucket is in another region; set `region` in the repository's configuration or AWS_REGION.",
        ),
        "PreconditionFailed" => (K::AlreadyExists, ""),
        "NotImplemented" | "MethodNotAllowed" => (K::Unsupported, "The store does not offer this operation."),
        "InvalidRange" => (
            K::Corrupt,
            "The object is shorter than its manifest says; run `wirevault verify`.",
        ),
        "EntityTooSmall" | "EntityTooLarge" => (K::Invalid, "The store requires another part size; set `part_size`."),
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => (K::LimitExceeded, "The store is full."),
        "InvalidObjectState" => (K::Archived, crate::storage::THAW),
        "ConditionalRequestConflict"
        | "SlowDown"
        | "InternalError"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "Throttling"
        | "ThrottlingException"
        | "BadDigest"
        | "IncompleteBody"
        | "XAmzContentSHA256Mismatch" => (K::Unavailable, ""),
        _ => return None,
    })
}

/// Whether an error, or what caused it, says one of these words: the SDK tells some things by its text alone.
fn says(failure: &aws_smithy_runtime_api::client::result::ConnectorError, words: &[&str]) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(failure);
    while let Some(error) = cause {
        let text = error.to_string();
        if words.iter().any(|word| text.contains(word)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Why a request could not be sent, where a repetition would change nothing. What else the SDK calls "other" is mostly a
/// connection that the server closed, which may be tried again.
fn unsendable(
    failure: &aws_smithy_runtime_api::client::result::ConnectorError,
    place: &str,
) -> Option<(ErrorKind, String, String)> {
    if says(failure, &["invalid peer certificate"]) {
        let hint = "Name the authority that signed it: ca_file of the repository, AWS_CA_BUNDLE or SSL_CERT_FILE.";
        let message = format!("the certificate of {place} is not trusted");
        return Some((ErrorKind::Denied, message, hint.to_owned()));
    }
    if says(
        failure,
        &[
            "feature(s) enabled: sso",
            "`sso`",
            "feature(s) enabled: credentials-login",
        ],
    ) {
        let hint = "Write credential_process = aws configure export-credentials --profile NAME into a profile of its own, or set \
                    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.";
        let message = "the profile logs in through IAM Identity Center (SSO), which is not supported";
        return Some((ErrorKind::Denied, message.to_owned(), hint.to_owned()));
    }
    if says(failure, &["external process"]) {
        let hint = "Run the command of credential_process in the profile by hand; it has to print the keys as JSON.";
        let message = "credential_process of the profile gave no credentials";
        return Some((ErrorKind::Denied, message.to_owned(), hint.to_owned()));
    }
    if says(failure, &["credentials"]) {
        let hint =
            "Set S3_ACCESS_KEY and S3_SECRET_KEY (or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), or a profile.";
        return Some((
            ErrorKind::Denied,
            "no credentials for the store".to_owned(),
            hint.to_owned(),
        ));
    }
    None
}

fn by_status(status: u16) -> ErrorKind {
    match status {
        301 | 307 | 400 => ErrorKind::Invalid,
        401 | 403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        405 | 501 => ErrorKind::Unsupported,
        507 => ErrorKind::LimitExceeded,
        408 | 429 | 500..=599 => ErrorKind::Unavailable,
        409 | 412 => ErrorKind::AlreadyExists,
        416 => ErrorKind::Corrupt,
        _ => ErrorKind::Other,
    }
}

/// Turns an SDK error into ours.
pub(super) fn classify<E, R>(options: &S3Options, act: &str, key: &str, error: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: Status + std::fmt::Debug + Send + Sync + 'static,
{
    let place = options.endpoint.as_deref().unwrap_or("AWS S3");
    let (kind, message, hint) = match &error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status();
            let code = service.err().code().unwrap_or_default().to_owned();
            let said = service.err().message().unwrap_or_default().to_owned();
            // HEAD answers have no body, so no code: only the status speaks.
            let (kind, hint) = by_code(&code).unwrap_or((by_status(status), ""));
            let hint = if hint.is_empty() && matches!(status, 301 | 307) {
                by_code("PermanentRedirect").map_or("", |r| r.1)
            } else {
                hint
            };
            let code = if code.is_empty() {
                format!("HTTP {status}")
            } else {
                code
            };
            let dash = if said.is_empty() { "" } else { ": " };
            (kind, format!("the store returned {code}{dash}{said}"), hint.to_owned())
        }
        SdkError::TimeoutError(_) => (
            ErrorKind::TimedOut,
            format!("no answer from {place} in time"),
            String::new(),
        ),
        SdkError::DispatchFailure(failure) if failure.is_user() => (
            ErrorKind::Invalid,
            "the request could not be sent".to_owned(),
            String::new(),
        ),
        SdkError::DispatchFailure(failure) => {
            let told = failure
                .as_connector_error()
                .and_then(|failure| unsendable(failure, place));
            told.unwrap_or_else(|| {
                let hint = format!(
                    "Check that {place} is reachable from this host and that the endpoint is spelled \
                                    correctly."
                );
                (ErrorKind::Unavailable, format!("could not connect to {place}"), hint)
            })
        }
        SdkError::ConstructionFailure(_) => (
            ErrorKind::Invalid,
            "the request could not be built".to_owned(),
            String::new(),
        ),
        SdkError::ResponseError(_) => (
            ErrorKind::Unavailable,
            "invalid response from the store".to_owned(),
            String::new(),
        ),
        _ => (ErrorKind::Other, "the store failed".to_owned(), String::new()),
    };
    let cause = Error::new(kind, message);
    let cause = if hint.is_empty() { cause } else { cause.with_hint(hint) };
    // The SDK's own chain says "connection refused" and the like; a service error is told whole above.
    let cause = if matches!(error, SdkError::ServiceError(_)) {
        cause
    } else {
        cause.with_cause(error.into_source().unwrap_or_else(|e| Box::new(e)))
    };
    cause.context(format!("{act} \"{key}\""))
}
