//! `init`.

use crate::cli::args;
use crate::commands::{Outcome, Session};
use crate::error::Error;

/// Runs it.
pub async fn run(session: &Session, _options: &args::Init) -> Outcome {
    session.open_store().await?;
    Err(Error::unsupported("`init` is not wired up yet"))
}
