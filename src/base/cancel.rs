//! Work that a signal ends.

use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, ErrorKind, Result};

/// Awaits work, or fails as soon as the token is cancelled. Dropping the work must leave nothing half-done.
pub async fn or_cancelled<T>(cancel: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(cancelled()),
        done = work => done,
    }
}

/// The error of work that a signal ended.
pub fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "interrupted by a signal")
        .with_hint("Partially written data is ignored; run the command again.")
}
