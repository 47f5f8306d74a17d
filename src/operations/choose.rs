//! Which snapshot a command works on: `latest` as this host means it, or one that is named.
//!
//! Whoever writes something refuses to guess: past a newest snapshot that cannot be read, between several hosts, or
//! between jobs that hold different sources, the id is asked for. Whoever only reads goes on and names what was passed over.

use std::collections::BTreeSet;

use crate::base::error::{Error, ErrorKind, Result};
use crate::operations::{Session, Status};
use crate::repository::ADHOC_JOB;
use crate::repository::{Found, Latest, Manifest, PRE_RESTORE_JOB, Repository, Selector, SnapshotId, Suits};

/// What a command does with the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is only looked at.
    Read,
    /// Something is changed by it or about it, here or in the repository.
    Write,
}

/// A snapshot, and what was passed over on the way to it.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) manifest: Manifest,
    /// Unreadable snapshots that may be newer, a line each.
    pub(crate) passed: Vec<String>,
}

impl Chosen {
    /// Returns how a command ends that did all it could with this snapshot.
    pub(crate) fn status(&self, status: Status) -> Status {
        match status {
            Status::Done if !self.passed.is_empty() => Status::Partial,
            other => other,
        }
    }
}

/// Finds the snapshot that `name` means. With sources, `latest` is the newest in which those succeeded, of any job; without,
/// the newest in which all did. Where the name says no host, this host's come first.
pub(crate) async fn snapshot(
    session: &Session,
    repository: &Repository,
    name: &str,
    sources: &[String],
    purpose: Purpose,
) -> Result<Chosen> {
    suited(session, repository, name, sources, None, purpose).await
}

/// As [`snapshot`], where `latest` is the newest of those that suit. One that is named is not asked.
pub(crate) async fn suited(
    session: &Session,
    repository: &Repository,
    name: &str,
    sources: &[String],
    suits: Option<Suits<'_>>,
    purpose: Purpose,
) -> Result<Chosen> {
    let found = match latest_suited(session, repository, name, sources, suits).await? {
        Some(Ok(found)) => found,
        Some(Err(unreadable)) => return Err(nothing(repository, name, &unreadable)),
        None => {
            let id = session.or_cancelled(repository.resolve(name)).await?;
            let manifest = session.or_cancelled(repository.load(&id)).await?;
            return Ok(Chosen {
                manifest,
                passed: Vec::new(),
            });
        }
    };
    if purpose == Purpose::Write {
        refuse_to_guess(&found)?;
        let any_job = matches!(Selector::parse(name), Selector::Latest { job: None, .. });
        if any_job && sources.is_empty() {
            session
                .or_cancelled(refuse_other_jobs(repository, &found.manifest))
                .await?;
        }
    }
    let line = |(id, why): &(SnapshotId, String)| format!("skipping snapshot {id}: {why}");
    let passed: Vec<String> = found.passed.iter().map(line).collect();
    for line in &passed {
        tracing::warn!("{line}");
    }
    Ok(Chosen {
        manifest: found.manifest,
        passed,
    })
}

/// Finds the newest snapshot that `name` means here, or returns the unreadable ones; nothing for a name that is no `latest`.
pub(crate) async fn latest(
    session: &Session,
    repository: &Repository,
    name: &str,
    sources: &[String],
) -> Result<Option<std::result::Result<Found, Vec<(SnapshotId, String)>>>> {
    latest_suited(session, repository, name, sources, None).await
}

async fn latest_suited(
    session: &Session,
    repository: &Repository,
    name: &str,
    sources: &[String],
    suits: Option<Suits<'_>>,
) -> Result<Option<std::result::Result<Found, Vec<(SnapshotId, String)>>>> {
    let Selector::Latest { host, job } = Selector::parse(name) else {
        return Ok(None);
    };
    let here = session.host();
    let wanted = Latest {
        host: host.as_deref(),
        job: job.as_deref(),
        sources,
        here: Some(&here),
        suits,
    };
    session.or_cancelled(repository.latest(&wanted)).await.map(Some)
}

/// Finds the id that `name` means, and what was passed over; one that is named need not be readable.
pub(crate) async fn named(
    session: &Session,
    repository: &Repository,
    name: &str,
    purpose: Purpose,
) -> Result<(SnapshotId, Vec<String>)> {
    match Selector::parse(name) {
        Selector::Prefix(_) => Ok((session.or_cancelled(repository.resolve(name)).await?, Vec::new())),
        Selector::Latest { .. } => {
            let chosen = snapshot(session, repository, name, &[], purpose).await?;
            Ok((chosen.manifest.id, chosen.passed))
        }
    }
}

/// The error where there is no such snapshot; [`ErrorKind::Corrupt`] where one that cannot be read may be it.
pub(crate) fn nothing(repository: &Repository, name: &str, unreadable: &[(SnapshotId, String)]) -> Error {
    let mut message = format!(
        "no complete snapshot for \"{name}\" in {}",
        repository.store().location()
    );
    if let Some((id, why)) = unreadable.last() {
        message.push_str(&format!("; {} cannot be read, such as {id}: {why}", unreadable.len()));
    }
    let kind = if unreadable.is_empty() {
        ErrorKind::NotFound
    } else {
        ErrorKind::Corrupt
    };
    Error::new(kind, message).with_hint("`wirevault list` shows all snapshots.")
}

/// Refuses what only a person can decide: past a snapshot that cannot be read, or between hosts.
fn refuse_to_guess(found: &Found) -> Result<()> {
    let id = &found.manifest.id;
    if let Some((damaged, why)) = found.passed.first() {
        return Err(
            Error::corrupt(format!("the newest snapshot cannot be read: {damaged}: {why}")).with_hint(format!(
                "Nothing was changed. To use the newest readable one, of {}, give its id: {id}.",
                found.manifest.finished
            )),
        );
    }
    if found.hosts.len() > 1 {
        let hosts: Vec<&str> = found.hosts.iter().map(String::as_str).collect();
        return Err(Error::invalid(format!(
            "this host has no such snapshot, but {} others have: {}",
            hosts.len(),
            hosts.join(", ")
        ))
        .with_hint(format!(
            "Nothing was changed. Give host and job, such as latest:{}/{}, or a snapshot id.",
            found.manifest.host, found.manifest.job
        )));
    }
    Ok(())
}

/// Refuses to take one job for the whole where another one of the same host has sources that the snapshot lacks. What was
/// backed up by hand does not count beside a job.
async fn refuse_other_jobs(repository: &Repository, chosen: &Manifest) -> Result<()> {
    let ids = repository.list().await?;
    let own = chosen.id.job();
    let others = ids.iter().map(SnapshotId::job);
    let others: BTreeSet<&str> = others
        .filter(|job| *job != own && *job != PRE_RESTORE_JOB && *job != ADHOC_JOB)
        .collect();
    let mut beside = Vec::new();
    for job in others {
        let wanted = Latest {
            host: Some(&chosen.host),
            job: Some(job),
            ..Latest::default()
        };
        // A job whose name is not its name in ids cannot be looked for by the id alone; then its sources are not known here.
        if let Ok(found) = repository.latest(&wanted).await? {
            let has = |name: &str| chosen.sources.iter().any(|source| source.name == name);
            if found.manifest.sources.iter().any(|source| !has(&source.name)) {
                beside.push(found.manifest.job);
            }
        }
    }
    if beside.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = std::iter::once(&chosen.job)
        .chain(&beside)
        .map(|job| format!("latest:{job}"))
        .collect();
    Err(
        Error::invalid("several jobs have snapshots, but no snapshot contains all sources").with_hint(format!(
            "Nothing was changed. Choose one: {}; or choose sources with --source.",
            all.join(", ")
        )),
    )
}
