//! `show`.

use crate::cli::args;
use crate::commands::{Outcome, Session};
use crate::error::Error;

/// Runs it.
pub async fn run(session: &Session, _options: &args::Show) -> Outcome {
    session.open_store().await?;
    Err(Error::unsupported("`show` is not wired up yet"))
}
