//! From a repository URL to a store.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::environment;
use crate::base::error::{Context, Error, Result};
use crate::storage::SharedStore;
use crate::storage::directory::DirectoryStore;
use crate::storage::memory::MemoryStore;
use crate::storage::retry::{RetryOptions, RetryStore};
use crate::storage::s3::{S3Options, S3Store};

/// Opens the store behind `s3://bucket/prefix`, `file:///path`, a plain path, or `memory:` (tests).
///
/// `s3` gives everything but bucket and prefix. Nothing is sent to the store yet.
pub async fn open(url: &str, s3: S3Options, retry: RetryOptions) -> Result<SharedStore> {
    let store: SharedStore = if let Some(rest) = url.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(
                Error::invalid(format!("no bucket in \"{url}\"")).with_hint("Write s3://bucket or s3://bucket/prefix.")
            );
        }
        let given = |name: &str| environment::variable(name).map(|value| (name.to_owned(), value));
        let endpoint = match s3.endpoint {
            Some(endpoint) => Some(checked_endpoint(&endpoint)?),
            None => given("AWS_ENDPOINT_URL_S3")
                .or_else(|| given("AWS_ENDPOINT_URL"))
                .map(|(name, value)| checked_endpoint(&value).context(name))
                .transpose()?,
        };
        let prefix = prefix.trim_matches('/').to_owned();
        Arc::new(
            S3Store::connect(S3Options {
                bucket: bucket.to_owned(),
                prefix,
                endpoint,
                ..s3
            })
            .await?,
        )
    } else if url == "memory:" {
        Arc::new(MemoryStore::new())
    } else if let Some(path) = local_path(url) {
        Arc::new(DirectoryStore::open(path)?)
    } else {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        return Err(Error::invalid(format!("unknown kind of repository \"{scheme}://\""))
            .with_hint("A repository is s3://bucket/prefix, file:///path or a plain path."));
    };
    Ok(Arc::new(RetryStore::new(store, retry)))
}

/// Checks the address of an S3-compatible store, and returns it without a slash at its end. It may have a path: that of a
/// gateway behind another server.
pub fn checked_endpoint(text: &str) -> Result<String> {
    let text = text.trim();
    if text.contains('@') {
        return Err(Error::invalid("the endpoint contains a user or a password").with_hint(
            "Write http://host:port; keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the configuration.",
        ));
    }
    let wrong = |why: &str| Error::invalid(format!("\"{text}\" is not the address of a store: {why}"));
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(wrong("it does not start with http:// or https://").with_hint(format!(
            "Write https://{text}, or http://{text} for a store without TLS."
        )));
    };
    if !matches!(scheme, "http" | "https") {
        return Err(wrong(&format!("\"{scheme}://\" is not supported")).with_hint(format!(
            "Write https://{rest}, or http://{rest} for a store without TLS."
        )));
    }
    let hint = "Write https://host, https://host:port or https://host/path; the bucket belongs in the repository's \
                URL.";
    let url = url::Url::parse(text).map_err(|e| wrong(&e.to_string()).with_hint(hint))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has query parameters").with_hint(hint));
    }
    if url.port() == Some(0) {
        return Err(wrong("there is no port 0").with_hint(hint));
    }
    if text.contains(char::is_whitespace) {
        return Err(wrong("it has a space in it").with_hint(hint));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Returns the path of a `file://` URL or plain path; `None` for another scheme.
pub fn local_path(url: &str) -> Option<PathBuf> {
    if let Some(path) = url.strip_prefix("file://") {
        return Some(PathBuf::from(path));
    }
    (!url.contains("://")).then(|| PathBuf::from(url))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn endpoints_are_addresses_of_http_servers() {
        for (text, right) in [
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            (" https://store.example/ ", "https://store.example"),
            ("https://h/gw/s3/", "https://h/gw/s3"),
            ("http://[::1]:9000", "http://[::1]:9000"),
        ] {
            assert_eq!(checked_endpoint(text).unwrap(), right);
        }
        for (text, hint) in [
            ("127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("minio:9000", "https://minio:9000"),
            ("htp://minio", "http://minio"),
            ("s3://bucket", "https://bucket"),
            ("http://", "https://host"),
            ("http://h:99999", "https://host"),
            ("http://h?x=1", "https://host"),
            ("http://h:0", "https://host"),
            ("http://user:geheim@h", "keys come from"),
            ("", "Write"),
        ] {
            let error = checked_endpoint(text).unwrap_err();
            assert!(error.hint().unwrap().contains(hint), "{text}: {error:?}");
            assert!(!format!("{error:?}").contains("geheim"));
        }
    }
}
