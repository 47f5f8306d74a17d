//! One scheduled job: its times and what is known of its runs.

use std::time::Duration;

use jiff::Timestamp;

use crate::commands::backup::host_name;
use crate::commands::{Session, open};
use crate::config::{Config, JobConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use crate::schedule::{History, Next, Schedule};

#[derive(Debug)]
pub(super) struct ScheduledJob {
    pub(super) name: String,
    pub(super) timeout: Option<Duration>,
    pub(super) history: History,
    schedule: Schedule,
}

impl ScheduledJob {
    pub(super) fn new(config: &Config, job: &JobConfig, started: Timestamp) -> Result<Self> {
        let schedule = Schedule::of(job, config.timezone.as_deref(), &host_name())?
            .ok_or_else(|| Error::invalid(format!("job \"{}\" has no schedule", job.name)))?;
        Ok(Self {
            name: job.name.clone(),
            timeout: job.timeout,
            history: History {
                last_start: started,
                failed_at: None,
                failures: 0,
            },
            schedule,
        })
    }

    pub(super) fn next(&self, now: Timestamp) -> Option<Next> {
        self.schedule.next(&self.history, now)
    }

    /// Remembers how a run ended.
    pub(super) fn ended(&mut self, committed: bool, started: Timestamp, ended: Timestamp) {
        if committed {
            self.history = History {
                last_start: started,
                failed_at: None,
                failures: 0,
            };
        } else {
            self.history.failed_at = Some(ended);
            self.history.failures = self.history.failures.saturating_add(1);
        }
    }

    /// When this host's last snapshot of the job was begun, in the first of its repositories.
    pub(super) async fn last_snapshot(&self, session: &Session) -> Result<Option<Timestamp>> {
        let plans = session.plans(std::slice::from_ref(&self.name))?;
        let Some(plan) = plans.first() else { return Ok(None) };
        let store = open::store(&plan.repository).await?;
        let repository = match session.or_cancelled(Repository::open(store)).await {
            Ok(repository) => repository,
            // The first run makes it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(last) = session
            .or_cancelled(repository.previous(&host_name(), &self.name))
            .await?
        else {
            return Ok(None);
        };
        Ok(Some(repository.load(&last.id).await?.started))
    }
}
