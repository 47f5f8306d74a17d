//! Levels `content` and `restored`: what each engine proves of its archives. Each function returns why the level was not reached,
//! if it was not, and it is no damage.

use super::report::{Restored, Verified};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::config::redact_url;
use crate::engines::{Engine, EngineFlags, Spec, Stored};
use crate::operations::log::recovery::{self, Proven};
use crate::operations::options::StartServer;
use crate::operations::snapshots::open_reader;
use crate::operations::{Session, places};
use crate::repository::{ManifestSource, Repository, SnapshotId};

/// Opens an archive for its proof.
pub(super) async fn open(
    session: &Session,
    repository: &Repository,
    snapshot: &SnapshotId,
    source: &ManifestSource,
    flags: &EngineFlags,
) -> Result<Stored> {
    Ok(Stored {
        source: source.name.clone(),
        snapshot: snapshot.to_string(),
        reader: open_reader(session, repository.store(), source).await?,
        tools: session.tools(),
        flags: flags.clone(),
    })
}

/// Decodes every frame and parses every entry; what a restore would refuse is refused here.
pub(super) async fn content(session: &Session, source: &ManifestSource, stored: &Stored) -> Result<Option<String>> {
    // A restore reads what streams say of themselves, so that must be readable and said once.
    let streams = session.or_cancelled(stored.reader.streams()).await;
    streams.with_context(|| format!("read source \"{}\"", source.name))?;
    match session.engines.of_kind(&source.kind) {
        Some(engine) => engine.prove_content(stored).await,
        // That its entries can be read is all that is known of them here.
        None => stored.read_everything().await.map(|()| None),
    }
}

/// Restores a source into a scratch place. The log of a base backup is read first, because a server that is started on what was restored goes
/// on by it.
pub(super) async fn restored(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
    mut stored: Stored,
    into: &[String],
    verified: &mut Verified,
) -> Result<Option<String>> {
    let Some(engine) = session.engines.of_kind(&source.kind) else {
        return Ok(Some(format!(
            "this version cannot restore sources of kind {} for a test; content was checked",
            source.kind
        )));
    };
    let server = scratch_server(session, engine, into)?;
    let mut why_not = None;
    if recovery::is_base(source) {
        why_not = log(session, repository, source, &mut stored, verified).await?;
    }
    let proof = engine.prove_restored(&stored, server).await?;
    let named = |line: String| format!("{}: {line}", source.name);
    let proved = &mut verified.proved;
    proved.damage.extend(proof.damage.into_iter().map(named));
    proved.integrity.extend(proof.integrity.into_iter().map(named));
    proved.refused.extend(proof.refused.into_iter().map(named));
    proved.skipped.extend(proof.skipped.into_iter().map(named));
    verified.restored.extend(proof.restored.map(|report| Restored {
        source: source.name.clone(),
        report,
    }));
    Ok(proof.why_not.or(why_not))
}

/// Reads the log behind a base, and lets a server that is started on it go on by that. Returns why it leads nowhere: the base itself comes back
/// all the same.
async fn log(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
    stored: &mut Stored,
    verified: &mut Verified,
) -> Result<Option<String>> {
    let proven = match recovery::prove(session, repository, source).await {
        Ok(Some(proven)) => proven,
        Ok(None) => return Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => {
            return Ok(Some(format!("its log leads to no moment: {}", error.chain_and_hint())));
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            return Ok(Some(format!("its log is damaged: {}", error.chain())));
        }
        Err(error) => return Err(error),
    };
    let Proven { log, recovery } = proven;
    verified.logs.push(log);
    let start: StartServer = stored.flags.of();
    if !start.start {
        return Ok(None);
    }
    match recovery {
        Ok(recovery) => {
            stored.flags = stored.flags.clone().with(StartServer {
                recovery: Some(recovery),
                ..start
            });
            Ok(None)
        }
        Err(error) => Ok(Some(format!(
            "no server recovered over its log: {}",
            error.chain_and_hint()
        ))),
    }
}

/// Returns the server that was named for an engine.
fn scratch_server(session: &Session, engine: &dyn Engine, into: &[String]) -> Result<Option<Spec>> {
    for url in into.iter().filter(|_| engine.needs_scratch_server()) {
        let server = places::given(session, url)?;
        if server.kind() == engine.kind() {
            return Ok(Some(server));
        }
    }
    Ok(None)
}

/// Refuses what was named for scratch databases and is no server of an engine that needs one.
pub(super) fn check_servers(session: &Session, into: &[String]) -> Result<()> {
    for url in into {
        let named = session.engines.read_url(url).transpose()?;
        let engine = named.and_then(|named| session.engines.of_kind(named.spec.kind().word()));
        if !engine.is_some_and(Engine::needs_scratch_server) {
            let shown = redact_url(url);
            return Err(
                Error::invalid(format!("\"{shown}\" is not a server for scratch databases"))
                    .with_hint("Scratch servers are postgres://user@host and redis://host."),
            );
        }
    }
    Ok(())
}
