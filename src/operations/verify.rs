//! `verify`: reads stored data back. What it names is damaged; what it does not name is proven, as deeply as it says.
//!
//! Level `stored` compares size and SHA-256 of every object with the manifest, so no byte of an archive or index
//! escapes. Level `content` does that first, then decodes every frame and every entry, and refuses what a restore would
//! refuse. Level `restored` restores SQLite databases and file trees into the spool directory, PostgreSQL databases into a
//! scratch database of the named server, and Redis into an empty scratch server; all of it is compared there and removed
//! afterwards.
//!
//! A level counts as reached, source by source, only where it was: a snapshot of which one source did not reach what was
//! asked for is not "ok", and the exit code is 2.

mod prove;
mod report;

use crate::base::error::{Error, ErrorKind, Result};
use crate::operations::choose::{self, Purpose};
use crate::operations::options::{self, Level};
use crate::operations::snapshots::{open_repository, outcome_of, stored_bytes};
use crate::operations::{Session, stored, thaw};
use crate::repository::{ManifestSource, Reached, Repository, SnapshotId};
pub use report::{Restored, Verified, VerifyReport};

/// Checks each snapshot that was named, keeps evidence where it may, and fails if anything is damaged.
pub async fn run(session: &Session, options: &options::Verify) -> Result<VerifyReport> {
    if options.level == Level::Restored {
        prove::check_servers(session, &options.into)?;
    } else if let Some(kind) = options.engines.given().next() {
        let message = format!("a server is started for {} at level restored only", kind.word());
        return Err(Error::invalid(message).with_hint("Add --level restored."));
    }
    let repository = open_repository(session).await?;
    let (ids, passed_over) = wanted(session, &repository, options).await?;
    let mut all = Vec::new();
    for id in ids {
        let verified = verify_snapshot(session, &repository, id, options).await?;
        if !options.no_evidence {
            let written = repository.write_evidence(&verified.proved.snapshot, &verified).await;
            if let Err(error) = written {
                tracing::warn!("unable to record the verification: {}", error.chain());
            }
        }
        all.push(verified);
    }
    let chain = if options.all {
        session.or_cancelled(repository.chain()).await?
    } else {
        Vec::new()
    };
    Ok(VerifyReport {
        verified: all,
        passed_over,
        chain,
    })
}

/// Returns the snapshots, and what was passed over on the way to a latest one.
async fn wanted(
    session: &Session,
    repository: &Repository,
    options: &options::Verify,
) -> Result<(Vec<SnapshotId>, Vec<String>)> {
    if options.all {
        let ids = session.or_cancelled(repository.list()).await?;
        if ids.is_empty() {
            let place = repository.store().location();
            let message = format!("no snapshot in {place} to verify");
            return Err(Error::new(ErrorKind::NotFound, message).with_hint("Run a backup first."));
        }
        return Ok((ids, Vec::new()));
    }
    let (mut ids, mut passed) = (Vec::new(), Vec::new());
    for name in &options.snapshots {
        let chosen = choose::named(session, repository, name, Purpose::Read).await?;
        ids.push(chosen.0);
        passed.extend(chosen.1);
    }
    Ok((ids, passed))
}

async fn verify_snapshot(
    session: &Session,
    repository: &Repository,
    id: SnapshotId,
    options: &options::Verify,
) -> Result<Verified> {
    let mut verified = Verified::new(id.clone(), options.level, options.drill.clone());
    let manifest = match session.or_cancelled(repository.load(&id)).await {
        Ok(manifest) => manifest,
        Err(error) => {
            keep_going(error, &mut verified.proved.damage)?;
            return Ok(verified);
        }
    };
    for source in &manifest.sources {
        if source.outcome.is_none() {
            let why = "failed when it was backed up";
            verified.proved.skipped.push(format!("{}: {why}", source.name));
            // Nothing of it can come back. Only of one whose failure is a warning that is what was agreed.
            if !source.optional {
                verified.proved.reach(Reached {
                    source: source.name.clone(),
                    level: None,
                    why_not: Some(why.to_owned()),
                });
            }
            continue;
        }
        let before = verified.proved.damage.len();
        session
            .reporter
            .begin(&source.name, source.outcome.as_ref().map(stored_bytes));
        thaw::sources(session, repository.store(), &[source], &options.thaw).await?;
        let (level, proven) = verify_source(session, repository, source, options, &mut verified).await;
        let why_not = match proven {
            Ok(why_not) => why_not,
            Err(error) if error.kind() == ErrorKind::Archived => {
                verified.proved.archived = true;
                Some(error.chain())
            }
            Err(error) => return Err(error),
        };
        let damaged = verified.proved.damage.len() > before;
        session
            .reporter
            .end(&source.name, !damaged && !verified.proved.archived);
        if let Some(why) = why_not.as_ref().filter(|_| !damaged) {
            verified.proved.skipped.push(format!("{}: {why}", source.name));
        }
        verified.proved.reach(Reached {
            source: source.name.clone(),
            level,
            why_not: why_not.or_else(|| damaged.then(|| "it is damaged".to_owned())),
        });
    }
    Ok(verified)
}

/// Goes from level to level. Returns the deepest that was reached, and why not the one that was asked for.
async fn verify_source(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
    options: &options::Verify,
    verified: &mut Verified,
) -> (Option<Level>, Result<Option<String>>) {
    let mut reached = None;
    for level in [Level::Stored, Level::Content, Level::Restored] {
        if level > options.level {
            break;
        }
        let before = verified.proved.damage.len();
        let proven = match level {
            Level::Stored => objects(session, repository, source, verified).await.map(|()| None),
            Level::Content | Level::Restored => {
                Box::pin(deeper(session, repository, source, (level, options), verified)).await
            }
        };
        let why_not = match proven {
            Ok(why_not) => why_not,
            Err(error) => match keep_going(error, &mut verified.proved.damage) {
                Ok(()) => None,
                Err(error) => return (reached, Err(error)),
            },
        };
        if verified.proved.damage.len() > before || why_not.is_some() {
            return (reached, Ok(why_not));
        }
        reached = Some(level);
    }
    (reached, Ok(None))
}

/// Proves what stored objects hold.
async fn deeper(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
    (level, options): (Level, &options::Verify),
    verified: &mut Verified,
) -> Result<Option<String>> {
    let stored = prove::open(session, repository, &verified.proved.snapshot, source, &options.engines).await?;
    if level == Level::Content {
        return prove::content(session, source, &stored).await;
    }
    prove::restored(session, repository, source, stored, &options.into, verified).await
}

/// Compares size and digest of every object.
async fn objects(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
    verified: &mut Verified,
) -> Result<()> {
    for info in &outcome_of(source)?.archives {
        for object in [&info.archive, &info.index] {
            if let Err(error) = stored::check_object(session, repository.store(), &source.name, object).await {
                keep_going(error, &mut verified.proved.damage)?;
            }
        }
    }
    Ok(())
}

/// Damage is written down and the work goes on; anything else (no network, no key) ends it.
fn keep_going(error: Error, damage: &mut Vec<String>) -> Result<()> {
    if error.kind() == ErrorKind::Corrupt {
        damage.push(error.chain());
        return Ok(());
    }
    Err(error)
}
