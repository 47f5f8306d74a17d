//! `prune`: expires snapshots by the keep rules and sweeps what no snapshot needs.

use crate::cli::args;
use crate::commands::{Outcome, Session};
use crate::error::Error;

/// Runs it.
pub async fn run(session: &Session, _options: &args::Prune) -> Outcome {
    crate::commands::snapshots::open_repository(session).await?;
    Err(Error::unsupported("`prune` is not wired up yet"))
}
