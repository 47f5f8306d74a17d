//! `init`: creates a repository and proves that its store keeps what it is given.

use serde_json::json;

use crate::cli::args;
use crate::commands::said::said;
use crate::commands::{Outcome, Session, Status, open, probe};
use crate::error::{Context, Error, Result};
use crate::repository::Repository;

/// Probes the store, then writes `repository.json`.
pub async fn run(session: &Session, options: &args::Init) -> Outcome {
    encryption_decided(options)?;
    let config = session.repository_config()?;
    let store = open::store(&config, &session.cancel).await?;
    let lacks = session
        .or_cancelled(probe::store(&store))
        .await
        .with_context(|| format!("probe \"{}\"", config.url))?;
    let repository = session
        .or_cancelled(Repository::init(store))
        .await
        .with_context(|| format!("create repository \"{}\"", config.url))?;
    let mut text = format!(
        "created repository {} at {} (not encrypted)\n",
        repository.id(),
        config.url
    );
    for lack in &lacks {
        text.push_str(&format!("  {lack}\n"));
    }
    said(
        json!({ "repository": repository.id(), "url": config.url, "encrypted": false, "store_lacks": lacks }),
        text,
        Status::Done,
    )
}

fn encryption_decided(options: &args::Init) -> Result<()> {
    if options.no_encryption {
        return Ok(());
    }
    Err(Error::unsupported("encryption is not yet supported by this version")
        .with_hint("Say --no-encryption to create a repository that whoever reads the store can read."))
}
