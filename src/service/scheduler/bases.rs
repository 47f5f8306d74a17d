//! Base backups that logs need: where none leads to what is received, a job of the source is run at once.
//!
//! So it is when a log begins, behind a gap, and when a server went on on a timeline that no base leads to. Of a source with
//! `auto_base = false`, `status` and `/health` say so, and nothing is run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::receivers::Pair;
use super::task::Work;
use super::{Scheduler, with_config};
use crate::base::error::{Error, ErrorKind, Result};
use crate::config::RepositoryConfig;
use crate::operations::log::state::lacks_base;
use crate::operations::meant;

/// A log is looked at this often; soon where something has just changed, for what is behind that may not be stored yet.
const EVERY: Duration = Duration::from_secs(60 * 60);
const SOON: Duration = Duration::from_secs(60);

/// A look that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is known of the logs that are received.
#[derive(Debug, Default)]
pub(super) struct Bases {
    seen: BTreeMap<Pair, Seen>,
}

/// How a log stood when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    system: u64,
    line: String,
    gaps: u64,
    /// How often in a row a job was run for it.
    asked: u32,
    /// How often in a row a look failed.
    failed: u32,
    /// When it is looked at again.
    again: Instant,
}

impl Scheduler<'_> {
    /// Looks at one log whose turn it is, and has a job run where it needs that. Returns whether it did anything.
    pub(super) async fn look_at_bases(&mut self) -> bool {
        let now = self.session.clock.instant();
        let all = self.receivers.with_auto_base();
        self.bases
            .seen
            .retain(|pair, _| all.iter().any(|(known, _)| known == pair));
        for (pair, repository) in all {
            let Some((system, line, gaps)) = self.received(&pair) else {
                continue;
            };
            let seen = self.bases.seen.get(&pair);
            let is_as_before = seen.is_some_and(|seen| (seen.system, &seen.line, seen.gaps) == (system, &line, gaps));
            if is_as_before && seen.is_some_and(|seen| now < seen.again) {
                continue;
            }
            let why = self.lacks_base(&repository, system).await;
            let (asked_before, failed_before) = seen.map_or((0, 0), |seen| (seen.asked, seen.failed));
            let failed = if why.is_err() {
                failed_before.saturating_add(1)
            } else {
                0
            };
            let asked = match &why {
                Ok(Some(_)) if is_as_before => asked_before.saturating_add(1),
                Err(_) => asked_before,
                why => u32::from(matches!(why, Ok(Some(_)))),
            };
            let pause = match &why {
                // Where one base did not help, the next one may not either.
                Ok(_) if is_as_before => EVERY * 2_u32.saturating_pow(asked.min(5)).min(24),
                Ok(_) => SOON,
                Err(_) => SOON * 2_u32.saturating_pow(failed.min(6)),
            };
            let seen = Seen {
                system,
                line,
                gaps,
                asked,
                failed,
                again: self.session.clock.instant() + pause,
            };
            self.bases.seen.insert(pair.clone(), seen);
            match why {
                Ok(Some(why)) => self.need_base(&pair, &why),
                Ok(None) => {}
                Err(error) if failed == 1 => tracing::warn!(
                    "whether the log of \"{}\" needs a base backup is not known: {}",
                    pair.0,
                    error.chain()
                ),
                Err(error) => tracing::debug!("\"{}\": {}", pair.0, error.chain()),
            }
            return true;
        }
        false
    }

    /// Returns of which system and line a log is received, and how many gaps it has; None as long as nothing is stored of it.
    fn received(&self, pair: &Pair) -> Option<(u64, String, u64)> {
        let watched = self.state.lock().logs.get(pair).cloned()?;
        let progress = watched.lock();
        let is_stored = progress.connected && progress.stored_bytes > 0;
        let system = progress.system.filter(|_| is_stored)?;
        Some((system, progress.line.clone(), progress.gaps))
    }

    async fn lacks_base(&self, config: &RepositoryConfig, system: u64) -> Result<Option<String>> {
        let session = with_config(self.session, &self.config);
        let look = async {
            let Some(repository) = meant::if_there(&session, config).await? else {
                return Ok(None);
            };
            lacks_base(&session, &repository, system).await
        };
        let late = |_| Error::new(ErrorKind::TimedOut, "no answer in time");
        tokio::time::timeout(PATIENCE, look).await.map_err(late)?
    }

    /// Has a job run that takes a base backup of a source.
    fn need_base(&mut self, (source, repository): &Pair, why: &str) {
        let now = self.now();
        let jobs = self.config.jobs.iter().filter(|job| {
            let goes_there = job.repositories.is_empty() || job.repositories.contains(repository);
            goes_there && job.sources.iter().any(|name| name == source)
        });
        let names: Vec<&str> = jobs.map(|job| job.name.as_str()).collect();
        let tasks = self.agenda.tasks.iter_mut();
        let mut tasks =
            tasks.filter(|task| matches!(task.work, Work::Backup { .. }) && names.contains(&task.name.as_str()));
        let Some(task) = tasks.next() else {
            tracing::warn!("the log of \"{source}\" needs a base backup, and no job with a schedule takes one: {why}");
            return;
        };
        // One that has just failed is repeated in its own time.
        if task.history.failed_at.is_none() && task.base_needed.is_none() {
            tracing::info!("the log of \"{source}\" needs a base backup: {why}");
            task.base_needed = Some(now);
        }
    }
}
