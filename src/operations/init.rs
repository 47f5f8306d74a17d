//! `init`: creates a repository and proves that its store keeps what it is given.

use crate::base::error::{Context, Error, Result};
use crate::config::RepositoryConfig;
use crate::operations::options;
use crate::operations::{Report, Session, document_of, meant, open, probe};
use crate::repository::Repository;

/// What `init` did. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
pub enum InitReport {
    /// There is a new repository.
    Created {
        /// Its id.
        repository: String,
        /// Where it is.
        url: String,
        /// Whether only who has a key can read it.
        encrypted: bool,
        /// What the store cannot do, a line each.
        store_lacks: Vec<&'static str>,
    },
    /// One that is there is taken for the one that is meant here.
    Adopted {
        /// Its id.
        repository: String,
        /// Where it is.
        url: String,
        /// It was.
        adopted: bool,
    },
}

impl Report for InitReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        match self {
            Self::Created {
                repository,
                url,
                store_lacks,
                ..
            } => {
                let mut text = format!("created repository {repository} at {url} (not encrypted)\n");
                for lack in store_lacks {
                    text.push_str(&format!("  {lack}\n"));
                }
                text
            }
            Self::Adopted { repository, url, .. } => {
                format!("{url} is repository {repository}; this host expects it there from now on\n")
            }
        }
    }
}

/// Probes the store, then writes `repository.json`.
pub async fn run(session: &Session, options: &options::Init) -> Result<InitReport> {
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
    Ok(InitReport::Created {
        repository: repository.id().to_owned(),
        url: config.url,
        encrypted: false,
        store_lacks: probed.lacks,
    })
}

/// Takes the repository that is there for the one that is meant here.
async fn adopt(session: &Session, config: &RepositoryConfig) -> Result<InitReport> {
    let act = || format!("open repository \"{}\"", config.url);
    let store = open::store(config, &session.cancel).await.with_context(act)?;
    let repository = session.or_cancelled(Repository::open(store)).await.with_context(act)?;
    meant::remember(session, config, &repository);
    Ok(InitReport::Adopted {
        repository: repository.id().to_owned(),
        url: config.url.clone(),
        adopted: true,
    })
}

fn encryption_decided(options: &options::Init) -> Result<()> {
    if options.no_encryption {
        return Ok(());
    }
    Err(Error::unsupported("encryption is not yet supported by this version")
        .with_hint("Use --no-encryption to create a repository that anyone with access to the store can read."))
}
