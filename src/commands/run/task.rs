//! One thing that is run at its times: a job, a drill, a clean-up rule. Its times and what is known of its runs.

use std::time::Duration;

use jiff::Timestamp;

use crate::commands::backup::host_name;
use crate::commands::run::What;
use crate::commands::{Session, open};
use crate::config::{CleanupConfig, Config, DrillConfig, JobConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use crate::schedule::{History, Next, Schedule, Why};

/// What is to be done.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Backup {
        timeout: Option<Duration>,
        idle_timeout: Option<Duration>,
    },
    Drill(DrillConfig),
    Cleanup(CleanupConfig),
}

impl Work {
    pub(super) fn what(&self) -> What {
        match self {
            Self::Backup { .. } => What::Backup,
            Self::Drill(_) => What::Drill,
            Self::Cleanup(_) => What::Cleanup,
        }
    }
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) work: Work,
    pub(super) history: History,
    schedule: Option<Schedule>,
}

impl Task {
    fn new(name: String, work: Work, schedule: Option<Schedule>, started: Timestamp) -> Self {
        Self {
            name,
            work,
            history: well(started),
            schedule,
        }
    }

    /// Makes the tasks of a configuration.
    pub(super) fn all(config: &Config, started: Timestamp, drills_only: bool) -> Result<Vec<Self>> {
        let (zone, host) = (config.timezone.as_deref(), host_name());
        let mut tasks = Vec::new();
        if !drills_only {
            for job in config
                .jobs
                .iter()
                .filter(|job| job.schedule.is_some() || job.on_change.is_some())
            {
                tasks.push(Self::backup(job, zone, &host, started)?);
            }
        }
        for drill in &config.drills {
            let section = format!("[drill.{}]", drill.name);
            let schedule = Schedule::of_timing(&drill.timing, &section, zone, &host)?;
            tasks.push(Self::new(
                drill.name.clone(),
                Work::Drill(drill.clone()),
                Some(schedule),
                started,
            ));
        }
        for rule in config.cleanups.iter().filter(|_| !drills_only) {
            let name = format!("cleanup.{}", rule.name);
            let schedule = Schedule::of_timing(&rule.timing, &format!("[{name}]"), zone, &host)?;
            tasks.push(Self::new(name, Work::Cleanup(rule.clone()), Some(schedule), started));
        }
        if tasks.is_empty() {
            let error = if drills_only {
                Error::invalid(format!("{} has no [drill.NAME]", config.origin))
                    .with_hint("Write [drill.sunday] with schedule = \"0 5 * * 0\".")
            } else {
                Error::invalid(format!("{} has no job with a schedule", config.origin))
                    .with_hint("Write schedule = \"0 2 * * *\" into a [job.NAME], or set BACKUP_SCHEDULE.")
            };
            return Err(error);
        }
        Ok(tasks)
    }

    fn backup(job: &JobConfig, zone: Option<&str>, host: &str, started: Timestamp) -> Result<Self> {
        let work = Work::Backup {
            timeout: job.timeout,
            idle_timeout: job.idle_timeout,
        };
        Ok(Self::new(
            job.name.clone(),
            work,
            Schedule::of(job, zone, host)?,
            started,
        ))
    }

    /// When it runs next. One without a schedule runs after changes, and again after a failure.
    pub(super) fn next(&self, now: Timestamp) -> Option<Next> {
        match &self.schedule {
            Some(schedule) => schedule.next(&self.history, now),
            None => self.history.again().map(|at| Next {
                at,
                why: Why::Repeated,
                missed: 0,
            }),
        }
    }

    /// Remembers how a run ended.
    pub(super) fn ended(&mut self, well_done: bool, started: Timestamp, ended: Timestamp) {
        if well_done {
            self.history = well(started);
        } else {
            self.history.failed_at = Some(ended);
            self.history.failures = self.history.failures.saturating_add(1);
        }
    }

    /// When it last ran well, as far as a repository tells: this host's last snapshot of the job, the last evidence of the
    /// drill.
    pub(super) async fn last_run(&self, session: &Session) -> Result<Option<Timestamp>> {
        match &self.work {
            Work::Cleanup(_) => Ok(None),
            Work::Backup { .. } => {
                let plans = session.plans(std::slice::from_ref(&self.name))?;
                let Some(plan) = plans.first() else { return Ok(None) };
                let Some(repository) = if_there(session, open::store(&plan.repository).await?).await? else {
                    return Ok(None);
                };
                let last = session
                    .or_cancelled(repository.previous(&host_name(), &self.name))
                    .await?;
                match last {
                    Some(last) => Ok(Some(repository.load(&last.id).await?.started)),
                    None => Ok(None),
                }
            }
            Work::Drill(drill) => {
                let wanted = drill.repository.as_deref();
                let first = session
                    .config
                    .repositories
                    .iter()
                    .find(|r| wanted.is_none_or(|name| r.name == name));
                let Some(config) = first else { return Ok(None) };
                let Some(repository) = if_there(session, open::store(config).await?).await? else {
                    return Ok(None);
                };
                let evidence = session.or_cancelled(repository.evidence(100)).await?;
                let ours = |e: &&crate::repository::Evidence| {
                    e.proved.get("drill").and_then(serde_json::Value::as_str) == Some(drill.name.as_str())
                };
                Ok(evidence.iter().find(ours).map(|evidence| evidence.time))
            }
        }
    }
}

fn well(last_start: Timestamp) -> History {
    History {
        last_start,
        failed_at: None,
        failures: 0,
    }
}

/// Opens a repository; one that the first run will make is none yet.
pub(super) async fn if_there(session: &Session, store: crate::storage::SharedStore) -> Result<Option<Repository>> {
    match session.or_cancelled(Repository::open(store)).await {
        Ok(repository) => Ok(Some(repository)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
