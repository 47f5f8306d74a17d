//! What `status` says of a log: how far a recovery goes that begins with the newest base, and whether the log goes on behind that.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::operations::Session;
use crate::operations::log::recovery::{Moment, is_base, system_of, to_moment};
use crate::operations::log::show::{self, LoggedSystem};
use crate::operations::options::At;
use crate::policy::health::{Finding, Health, LogState, SourceHealth, State};
use crate::repository::{Manifest, ManifestSource, Repository, SnapshotId};

/// The base backups of a snapshot.
pub(crate) fn bases(manifest: &Manifest) -> Vec<(SnapshotId, ManifestSource)> {
    let sources = manifest.sources.iter();
    let bases = sources.filter(|source| is_base(source) && source.outcome.is_some());
    bases.map(|source| (manifest.id.clone(), source.clone())).collect()
}

/// Adds to the rows of base backups how their logs stand. A server whose log was never stored here has none.
pub(crate) async fn add(
    session: &Session,
    repository: &Repository,
    bases: &[(SnapshotId, ManifestSource)],
    health: &mut Health,
) -> Result<()> {
    let mut logs: BTreeMap<u64, Option<LoggedSystem>> = BTreeMap::new();
    for row in &mut health.sources {
        let newest = row.newest_good.as_ref();
        let is_its = |(id, source): &&(SnapshotId, ManifestSource)| Some(id) == newest && source.name == row.source;
        let Some((_, base)) = bases.iter().find(is_its) else {
            continue;
        };
        let look = async {
            let system = system_of(base)?;
            if let Entry::Vacant(vacant) = logs.entry(system) {
                vacant.insert(show::of_system(session, repository, system).await?);
            }
            Ok::<_, Error>(system)
        };
        let log = match look.await {
            Ok(system) => logs.get(&system).and_then(Option::as_ref),
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                // One log that cannot be read keeps no other row from being shown.
                health.findings.push(finding(row, &error.chain()));
                continue;
            }
        };
        let Some(log) = log else { continue };
        let mut state = LogState {
            system: log.system.clone(),
            to: None,
            last_time: None,
            newest_age_seconds: log.newest.as_ref().map(|newest| newest.age_seconds),
            gaps: exact::u64_from(log.gaps.len()),
            error: None,
        };
        match to_moment(session, repository, base, At::Latest).await {
            Ok(moment) => {
                state.error = moment.as_ref().and_then(|moment| left_behind(moment, log));
                state.to = moment.as_ref().map(|moment| moment.recovery.to.to_string());
                state.last_time = moment.and_then(|moment| moment.at);
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => state.error = Some(error.chain()),
        }
        if let Some(error) = &state.error {
            health.findings.push(finding(row, error));
        }
        row.log = Some(state);
    }
    Ok(())
}

/// Returns why a recovery that comes to a moment, the last one, does not come to the end of the log.
fn left_behind(last: &Moment, log: &LoggedSystem) -> Option<String> {
    let (to, timeline) = (last.recovery.to, last.recovery.timeline);
    let newest = log.windows.iter().max_by_key(|window| (window.timeline, window.to))?;
    if newest.to > to && newest.from > to {
        return Some(format!(
            "the log goes on at {}, which needs a base backup taken after that",
            newest.from
        ));
    }
    (newest.timeline > timeline).then(|| {
        format!(
            "the server went on on timeline {}, which this base does not lead to: take a base backup",
            newest.timeline
        )
    })
}

/// Returns why no base backup leads to the end of a server's log, if none does.
pub(crate) async fn lacks_base(session: &Session, repository: &Repository, system: u64) -> Result<Option<String>> {
    let survey = session.or_cancelled(repository.survey(bases)).await?;
    // One that cannot be read leads nowhere.
    for (id, error) in survey.damaged {
        tracing::warn!("snapshot {id} is not looked at for a base backup: {}", error.chain());
    }
    let ended = |source: &ManifestSource| source.outcome.as_ref().map(|outcome| outcome.consistent_at);
    let all = survey.snapshots.into_iter().flatten().map(|(_, source)| source);
    let of_it = all.filter(|source| system_of(source).is_ok_and(|of| of == system));
    let Some(base) = of_it.max_by_key(ended) else {
        return Ok(Some("no base backup of the server is in the repository".to_owned()));
    };
    let Some(log) = show::of_system(session, repository, system).await? else {
        return Ok(None);
    };
    match to_moment(session, repository, &base, At::Latest).await {
        Ok(last) => Ok(last.and_then(|last| left_behind(&last, &log))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(Some(error.chain())),
        Err(error) => Err(error),
    }
}

fn finding(row: &SourceHealth, error: &str) -> Finding {
    Finding {
        state: State::Incomplete,
        host: Some(row.host.clone()),
        subject: format!("job {}", row.job),
        text: format!("log of source {}: {error}", row.source),
    }
}
