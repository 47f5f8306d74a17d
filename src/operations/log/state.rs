//! What `status` says of a log: how far a recovery goes that begins with the newest base, and whether the log goes on behind that.

use std::collections::BTreeMap;

use crate::base::error::{ErrorKind, Result};
use crate::base::exact;
use crate::operations::Session;
use crate::operations::log::recovery::{is_base, system_of, to_moment};
use crate::operations::log::show::{self, LoggedSystem};
use crate::operations::options::At;
use crate::policy::health::{Finding, Health, LogState, State};
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
        let system = system_of(base)?;
        if let std::collections::btree_map::Entry::Vacant(vacant) = logs.entry(system) {
            vacant.insert(show::of_system(session, repository, system).await?);
        }
        let Some(Some(log)) = logs.get(&system) else { continue };
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
                let to = moment.as_ref().map(|moment| moment.recovery.to);
                state.to = to.map(|to| to.to_string());
                state.last_time = moment.and_then(|moment| moment.at);
                let newest = log.windows.iter().max_by_key(|window| (window.timeline, window.to));
                let beyond = newest.filter(|window| to.is_some_and(|to| window.to > to && window.from > to));
                state.error = beyond.map(|window| {
                    format!(
                        "the log goes on at {}, which needs a base backup taken after that",
                        window.from
                    )
                });
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => state.error = Some(error.chain()),
        }
        if let Some(error) = &state.error {
            health.findings.push(Finding {
                state: State::Incomplete,
                host: Some(row.host.clone()),
                subject: format!("job {}", row.job),
                text: format!("log of source {}: {error}", row.source),
            });
        }
        row.log = Some(state);
    }
    Ok(())
}
