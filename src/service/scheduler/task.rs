//! One thing that is run at its times: a job, a drill, a clean-up rule. Its times and what is known of its runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::watch::Watch;

use crate::base::clock::{Moment, SharedClock};
use crate::base::error::{Error, Result};
use crate::config::{CleanupConfig, Config, DrillConfig, JobConfig, RepositoryConfig};
use crate::operations::{Session, meant, records};
use crate::policy::schedule::{History, Next, Schedule, Why};
use crate::repository::{RunOutcome, RunRecord, TaskKind};

/// What is to be done.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Backup {
        timeout: Option<Duration>,
        idle_timeout: Option<Duration>,
    },
    /// Brings repositories up to date that a run had to leave behind.
    Copy {
        job: String,
    },
    Drill(DrillConfig),
    Cleanup(CleanupConfig),
}

impl Work {
    pub(super) fn what(&self) -> TaskKind {
        match self {
            Self::Backup { .. } => TaskKind::Backup,
            Self::Copy { .. } => TaskKind::Copy,
            Self::Drill(_) => TaskKind::Drill,
            Self::Cleanup(_) => TaskKind::Cleanup,
        }
    }
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) work: Work,
    pub(super) history: History,
    /// When its last run by this process that was well was begun.
    began: Option<Instant>,
    schedule: Option<Schedule>,
    /// Whether no repository has told yet when it last ran: it is asked again before the task runs by that.
    pub(super) last_unknown: bool,
    pub(super) watch: Option<Watch>,
    /// Since when a log needs a base backup of it.
    pub(super) base_needed: Option<Timestamp>,
}

impl Task {
    fn new(name: String, work: Work, schedule: Option<Schedule>, started: Timestamp) -> Self {
        let since = schedule
            .as_ref()
            .map_or(started, |schedule| schedule.never_ran(started));
        Self {
            name,
            work,
            history: well(since),
            began: None,
            schedule,
            last_unknown: false,
            watch: None,
            base_needed: None,
        }
    }

    /// Makes the tasks of a configuration.
    pub(super) fn all(
        (config, host): (&Config, &str),
        clock: &SharedClock,
        drills_only: bool,
        woken: &Arc<Notify>,
    ) -> Result<Vec<Self>> {
        let (started, system) = (clock.now(), clock.zone());
        let zone = config.timezone.as_deref().or(system.iana_name());
        let mut tasks = Vec::new();
        if !drills_only {
            for job in config
                .jobs
                .iter()
                .filter(|job| job.schedule.is_some() || job.on_change.is_some())
            {
                let mut task = Self::backup(job, zone, host, started)?;
                task.watch = Watch::start(config, job, clock, woken)?;
                tasks.push(task);
                let all = config.repositories.iter();
                let targets = all.filter(|r| job.repositories.is_empty() || job.repositories.contains(&r.name));
                if targets.count() > 1 {
                    let work = Work::Copy { job: job.name.clone() };
                    let mut copies = Self::new(format!("copy.{}", job.name), work, None, started);
                    // A process before this one may have left something behind.
                    copies.history.failed_at = Some(Timestamp::UNIX_EPOCH);
                    tasks.push(copies);
                }
            }
        }
        for drill in &config.drills {
            let section = format!("[drill.{}]", drill.name);
            let schedule = Schedule::of_timing(&drill.timing, &section, zone, host)?;
            tasks.push(Self::new(
                drill.name.clone(),
                Work::Drill(drill.clone()),
                Some(schedule),
                started,
            ));
        }
        for rule in config.cleanups.iter().filter(|_| !drills_only) {
            let name = format!("cleanup.{}", rule.name);
            let schedule = Schedule::of_timing(&rule.timing, &format!("[{name}]"), zone, host)?;
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
        Ok(Self::new(job.name.clone(), work, job.schedule(zone, host)?, started))
    }

    /// When it runs next. One without a schedule runs after changes, and again after a failure.
    pub(super) fn next(&self, moment: Moment) -> Option<Next> {
        let now = moment.now;
        let why = match self.work {
            Work::Copy { .. } => Why::Behind,
            _ => Why::Repeated,
        };
        let planned = match &self.schedule {
            Some(schedule) => schedule.next(&self.history, now),
            None => self.history.again().map(|at| Next { at, why, missed: 0 }),
        };
        let changed = self.watch.as_ref().and_then(Watch::due).map(|at| Next {
            at: time_of(at, moment),
            why: Why::Changed,
            missed: 0,
        });
        let needed = self.base_needed.map(|at| Next {
            at: at.min(now),
            why: Why::BaseNeeded,
            missed: 0,
        });
        match (planned, needed.or(changed)) {
            // What is due anyway is not put off by a change.
            (Some(planned), Some(changed)) if planned.at <= changed.at || planned.at <= now => Some(planned),
            (planned, changed) => changed.or(planned),
        }
    }

    /// Brings what is known of its runs into the past, before its next one is asked for; `set_back` is by how much the time of
    /// day was.
    pub(super) fn settle(&mut self, moment: Moment, set_back: Option<SignedDuration>) {
        if let Some(by) = set_back {
            self.set_back(moment, by);
        }
        match &self.schedule {
            Some(schedule) => schedule.settle(&mut self.history, moment.now),
            None => self.history.end_by(moment.now),
        }
    }

    /// What ran, or failed, by a wrong time of day did so as long ago as has passed.
    fn set_back(&mut self, moment: Moment, by: SignedDuration) {
        let back = |time: Timestamp| time.checked_sub(by).unwrap_or(Timestamp::MIN);
        let history = &mut self.history;
        if let Some(began) = self.began {
            let ago = moment.instant.saturating_duration_since(began);
            let began = moment.now.checked_sub(ago).unwrap_or(Timestamp::MIN);
            // A machine that slept meanwhile counts less time than has passed.
            history.last_start = history.last_start.min(began);
        } else if history.failed_at.is_some() || history.last_start > moment.now {
            history.last_start = back(history.last_start);
        }
        history.failed_at = history.failed_at.map(back);
    }

    /// Takes over what is known of the runs of the task of this name in the configuration before.
    pub(super) fn follow(&mut self, old: &Self) {
        (self.history, self.began, self.last_unknown) = (old.history, old.began, old.last_unknown);
        self.base_needed = old.base_needed;
    }

    /// Remembers how a run ended.
    pub(super) fn ended(&mut self, well_done: bool, started: Moment, ended: Timestamp) {
        if well_done {
            self.history = well(started.now);
            self.began = Some(started.instant);
            self.last_unknown = false;
        } else {
            self.history.failed_at = Some(ended);
            self.history.failures = self.history.failures.saturating_add(1);
        }
    }

    /// When it last ran well, as far as a repository tells: this host's last snapshot of the job, the last evidence of the
    /// drill, the last record of the rule.
    pub(super) async fn last_run(&self, session: &Session) -> Result<Option<Timestamp>> {
        match &self.work {
            Work::Copy { .. } => Ok(None),
            Work::Cleanup(_) => self.last_cleanup(session).await,
            Work::Backup { .. } => {
                let plans = session.plans(std::slice::from_ref(&self.name))?;
                let (mut last, mut unknown) = (None, None);
                for plan in &plans {
                    match last_in(session, &plan.repository, &self.name).await {
                        Ok(found) => last = last.max(found),
                        Err(error) => unknown = Some(error),
                    }
                }
                // One of several repositories that answers is enough.
                match (last, unknown) {
                    (None, Some(error)) => Err(error),
                    (last, _) => Ok(last),
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
                let Some(repository) = meant::if_there(session, config).await? else {
                    return Ok(None);
                };
                let evidence = session.or_cancelled(repository.evidence(100)).await?;
                let ours = |e: &&crate::repository::Evidence| e.proved.drill.as_ref() == Some(&drill.name);
                Ok(evidence.iter().find(ours).map(|evidence| evidence.time))
            }
        }
    }

    /// Its records are in any repository, or wait for one.
    async fn last_cleanup(&self, session: &Session) -> Result<Option<Timestamp>> {
        let (host, mut last, mut unknown) = (session.host(), None, None);
        for config in &session.config.repositories {
            last = last.max(last_of(&records::waiting(session, config), &host, &self.name));
            let stored = async {
                match meant::if_there(session, config).await? {
                    Some(repository) => {
                        let of_this = repository.records_of(&host, TaskKind::Cleanup, &self.name);
                        session.or_cancelled(of_this).await
                    }
                    None => Ok(vec![]),
                }
            };
            match stored.await {
                Ok(stored) => last = last.max(last_of(&stored, &host, &self.name)),
                Err(error) => unknown = Some(error),
            }
        }
        match (last, unknown) {
            (None, Some(error)) => Err(error),
            (last, _) => Ok(last),
        }
    }
}

/// When a rule last ran by the records of this host. One that could not remove everything has had its run.
fn last_of(records: &[RunRecord], host: &str, rule: &str) -> Option<Timestamp> {
    let ours = |record: &&RunRecord| {
        (record.task, record.host.as_str(), record.name.as_str()) == (TaskKind::Cleanup, host, rule)
            && record.outcome != RunOutcome::Failed
    };
    records.iter().filter(ours).map(|record| record.started).max()
}

/// When this host's last snapshot of a job in a repository was begun.
async fn last_in(session: &Session, config: &RepositoryConfig, job: &str) -> Result<Option<Timestamp>> {
    let Some(repository) = meant::if_there(session, config).await? else {
        return Ok(None);
    };
    let last = session.or_cancelled(repository.previous(&session.host(), job)).await?;
    match last {
        Some(last) => Ok(Some(repository.load(&last.id).await?.started)),
        None => Ok(None),
    }
}

/// The time of day of an instant.
fn time_of(instant: Instant, moment: Moment) -> Timestamp {
    let time = match instant.checked_duration_since(moment.instant) {
        Some(ahead) => moment.now.checked_add(ahead),
        None => moment
            .now
            .checked_sub(moment.instant.saturating_duration_since(instant)),
    };
    time.unwrap_or(moment.now)
}

fn well(last_start: Timestamp) -> History {
    History {
        last_start,
        failed_at: None,
        failures: 0,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A backup with a schedule, in the clock's own zone.
    pub(in crate::service::scheduler) fn scheduled(expression: &str, clock: &SharedClock) -> Task {
        let schedule =
            Schedule::parse(expression, &clock.zone(), Duration::ZERO, "web1/full").expect("it is a schedule");
        let work = Work::Backup {
            timeout: None,
            idle_timeout: None,
        };
        Task::new("full".to_owned(), work, Some(schedule), clock.now())
    }

    #[test]
    fn a_rule_ran_when_its_own_records_say_so() {
        let record = |second: i64, name: &str, outcome| RunRecord {
            format: crate::repository::document::FORMAT,
            host: "h".to_owned(),
            task: TaskKind::Cleanup,
            name: name.to_owned(),
            started: Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(second),
            ended: Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(second + 1),
            outcome,
            error: None,
            hint: None,
            log: vec![],
            snapshots: vec![],
            sources: vec![],
            schedule: None,
            program: String::new(),
        };
        let records = [
            record(40, "cleanup.tmp", RunOutcome::Failed),
            record(30, "cleanup.other", RunOutcome::Done),
            record(20, "cleanup.tmp", RunOutcome::Partial),
            record(10, "cleanup.tmp", RunOutcome::Done),
        ];
        let last = last_of(&records, "h", "cleanup.tmp");
        assert_eq!(last.map(Timestamp::as_second), Some(20));
        assert_eq!(last_of(&records, "elsewhere", "cleanup.tmp"), None);
    }
}
