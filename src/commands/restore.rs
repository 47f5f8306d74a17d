//! `restore`.

use crate::cli::args;
use crate::commands::{Outcome, Session};
use crate::error::Error;

/// Runs it.
pub async fn run(session: &Session, _options: &args::Restore) -> Outcome {
    session.open_store().await?;
    Err(Error::unsupported("`restore` is not wired up yet"))
}
