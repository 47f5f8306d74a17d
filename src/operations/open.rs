//! Configuration to live stores.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Result};
use crate::config::RepositoryConfig;
use crate::engines::own;
use crate::operations::meant;
use crate::storage::limit::{LimitOptions, LimitStore};
use crate::storage::retry::RetryOptions;
use crate::storage::s3::{Encryption, S3Options};
use crate::storage::{self, SharedStore};

/// Opens the store of a repository; nothing is sent yet. `cancel` ends what waits for its rate limit.
pub(crate) async fn store(repository: &RepositoryConfig, cancel: &CancellationToken) -> Result<SharedStore> {
    let encryption = match repository.sse.as_deref() {
        None => None,
        Some("AES256") => Some(Encryption::Aes256),
        Some("aws:kms") => Some(Encryption::Kms(repository.sse_kms_key.clone())),
        Some(_) => return Err(Error::invalid("unknown server-side encryption").with_hint("Write AES256 or aws:kms.")),
    };
    let options = S3Options {
        endpoint: repository.endpoint.clone(),
        region: repository.region.clone(),
        access_key: repository
            .static_keys
            .as_ref()
            .map(|(key, secret)| (key.expose().to_owned(), secret.expose().to_owned())),
        encryption,
        path_style: repository.path_style,
        checksums: repository.checksums.unwrap_or_default(),
        max_parts: repository.max_parts,
        part_bytes: repository.part_size_bytes.unwrap_or_default(),
        ca_file: repository.ca_file.clone(),
        ..S3Options::default()
    };
    meant::check_mount(repository)?;
    if let Some(path) = storage::open::local_path(&repository.url) {
        own::keep_out(&path);
    }
    let store = storage::open::open(&repository.url, options, RetryOptions::default()).await?;
    Ok(match repository.rate_limit_bytes {
        None => store,
        Some(rate) => {
            let options = LimitOptions {
                upload_bytes_per_second: Some(rate),
                download_bytes_per_second: Some(rate),
            };
            Arc::new(LimitStore::new(store, options).until(cancel.clone()))
        }
    })
}
