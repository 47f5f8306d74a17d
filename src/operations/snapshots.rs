//! What the reading commands share: the repository, a snapshot by its name, a reader of one source.

use crate::archive::ArchiveReader;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::SourceOutcome;
use crate::operations::Session;
use crate::operations::choose::{self, Chosen, Purpose};
use crate::operations::meant::{self, Intent};
use crate::repository::{Manifest, ManifestSource, Repository};
use crate::storage::SharedStore;

/// Opens the repository this command reads.
pub(crate) async fn open_repository(session: &Session) -> Result<Repository> {
    open_for(session, Intent::Read).await
}

/// Opens the repository this command changes: only the one that is meant.
pub(crate) async fn open_to_change(session: &Session) -> Result<Repository> {
    open_for(session, Intent::Write).await
}

async fn open_for(session: &Session, intent: Intent) -> Result<Repository> {
    let config = session.repository_config()?;
    let act = || format!("open repository \"{}\"", config.url);
    meant::open(session, &config, intent).await.with_context(act)
}

/// Opens the repository and loads the snapshot that `name` means. With sources, `latest` is the newest in which those
/// succeeded, whatever became of the others.
pub(crate) async fn open_snapshot(
    session: &Session,
    name: &str,
    sources: &[String],
    purpose: Purpose,
) -> Result<(Repository, Chosen)> {
    let repository = open_repository(session).await?;
    let chosen = choose::snapshot(session, &repository, name, sources, purpose).await?;
    Ok((repository, chosen))
}

/// Finds a source of a snapshot by name.
pub(crate) fn sources_named<'a>(manifest: &'a Manifest, name: &str) -> Result<Vec<&'a ManifestSource>> {
    let meant: Vec<_> = manifest
        .sources
        .iter()
        .filter(|source| manifest.means(name, source))
        .collect();
    if meant.is_empty() {
        return source_named(manifest, name).map(|one| vec![one]);
    }
    Ok(meant)
}

/// Finds the one source of this name.
pub(crate) fn source_named<'a>(manifest: &'a Manifest, name: &str) -> Result<&'a ManifestSource> {
    manifest
        .sources
        .iter()
        .find(|source| source.name == name)
        .ok_or_else(|| {
            let names = manifest
                .sources
                .iter()
                .map(|source| source.name.as_str())
                .collect::<Vec<_>>();
            let error = Error::new(
                ErrorKind::NotFound,
                format!("snapshot {} has no source \"{name}\"", manifest.id),
            );
            match crate::base::nearest::nearest(name, names.iter().copied()) {
                Some(near) => error.with_hint(format!("Did you mean \"{near}\"?")),
                None => error.with_hint(format!("Its sources are {}.", names.join(", "))),
            }
        })
}

/// Returns what a source stored, or why there is nothing.
pub(crate) fn outcome_of(source: &ManifestSource) -> Result<&SourceOutcome> {
    source.outcome.as_ref().ok_or_else(|| {
        let why = source.error.as_deref().unwrap_or("no reason was recorded");
        Error::new(
            ErrorKind::NotFound,
            format!("source \"{}\" failed in this snapshot: {why}", source.name),
        )
        .with_hint("Choose an older snapshot; `wirevault list` shows which are complete.")
    })
}

/// Opens a reader that checks presence and size of every archive and every index first.
pub(crate) async fn open_reader(
    session: &Session,
    store: &SharedStore,
    source: &ManifestSource,
) -> Result<ArchiveReader> {
    let archives = outcome_of(source)?.archives.clone();
    session
        .or_cancelled(ArchiveReader::open(store.clone(), &session.pipeline, archives))
        .await
        .with_context(|| format!("open the archives of source \"{}\"", source.name))
}

/// Opens a reader that reads only the directories of the indexes: for one entry out of many.
pub(crate) async fn open_reader_lazily(
    session: &Session,
    store: &SharedStore,
    source: &ManifestSource,
) -> Result<ArchiveReader> {
    let archives = outcome_of(source)?.archives.clone();
    session
        .or_cancelled(ArchiveReader::open_lazily(store.clone(), &session.pipeline, archives))
        .await
        .with_context(|| format!("open the archives of source \"{}\"", source.name))
}

/// Stored bytes of a source: archives and indexes.
pub(crate) fn stored_bytes(outcome: &SourceOutcome) -> u64 {
    outcome
        .archives
        .iter()
        .map(|a| a.archive.size_bytes.saturating_add(a.index.size_bytes))
        .sum()
}
