//! `init`: creates a repository and proves that its store keeps what it is given.

use serde_json::json;

use crate::base::error::{Context, Error, Result};
use crate::config::RepositoryConfig;
use crate::operations::options;
use crate::operations::said::said;
use crate::operations::{Outcome, Session, Status, meant, open, probe};
use crate::repository::Repository;

/// Probes the store, then writes `repository.json`.
pub async fn run(session: &Session, options: &options::Init) -> Outcome {
    let config = session.repository_config()?;
    if options.adopt {
        return adopt(session, &config).await;
    }
    encryption_decided(options)?;
    let store = open::store(&config, &session.cancel).await?;
    meant::may_lie_here(&config)?;
    let probed = session
        .or_cancelled(probe::store(&store))
        .await
        .with_context(|| format!("probe \"{}\"", config.url))?;
    let repository = session
        .or_cancelled(Repository::init(store))
        .await
        .with_context(|| format!("create repository \"{}\"", config.url))?;
    meant::remember(session, &config, &repository);
    let mut text = format!(
        "created repository {} at {} (not encrypted)\n",
        repository.id(),
        config.url
    );
    for lack in &probed.lacks {
        text.push_str(&format!("  {lack}\n"));
    }
    said(
        json!({ "repository": repository.id(), "url": config.url, "encrypted": false, "store_lacks": probed.lacks }),
        text,
        Status::Done,
    )
}

/// Takes the repository that is there for the one that is meant here.
async fn adopt(session: &Session, config: &RepositoryConfig) -> Outcome {
    let act = || format!("open repository \"{}\"", config.url);
    let store = open::store(config, &session.cancel).await.with_context(act)?;
    let repository = session.or_cancelled(Repository::open(store)).await.with_context(act)?;
    meant::remember(session, config, &repository);
    let text = format!(
        "{} is repository {}: this host expects it there\n",
        config.url,
        repository.id()
    );
    let document = json!({ "repository": repository.id(), "url": config.url, "adopted": true });
    said(document, text, Status::Done)
}

fn encryption_decided(options: &options::Init) -> Result<()> {
    if options.no_encryption {
        return Ok(());
    }
    Err(Error::unsupported("encryption is not yet supported by this version")
        .with_hint("Say --no-encryption to create a repository that whoever reads the store can read."))
}
