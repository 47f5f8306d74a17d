//! `check`.

use crate::cli::args;
use crate::commands::{Outcome, Session};
use crate::error::Error;

/// Runs it.
pub async fn run(session: &Session, _options: &args::Check) -> Outcome {
    session.open_store().await?;
    Err(Error::unsupported("`check` is not wired up yet"))
}
