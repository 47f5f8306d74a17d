//! Work that blocks.

use crate::base::error::{Error, ErrorKind, Result};

/// Runs blocking work on a blocking thread.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::new(ErrorKind::Other, "the worker thread ended early").with_cause(e))?
}
