//! From a repository URL to a store.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
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
        let endpoint = s3.endpoint.or_else(|| std::env::var("AWS_ENDPOINT_URL_S3").ok());
        let endpoint = endpoint
            .or_else(|| std::env::var("AWS_ENDPOINT_URL").ok())
            .filter(|text| !text.is_empty());
        if endpoint.as_deref().is_some_and(|endpoint| endpoint.contains('@')) {
            return Err(Error::invalid("the endpoint has a user or a password in it").with_hint(
                "Write http://host:port; keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the configuration.",
            ));
        }
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

/// Returns the path of a `file://` URL or plain path; `None` for another scheme.
pub fn local_path(url: &str) -> Option<PathBuf> {
    if let Some(path) = url.strip_prefix("file://") {
        return Some(PathBuf::from(path));
    }
    (!url.contains("://")).then(|| PathBuf::from(url))
}
