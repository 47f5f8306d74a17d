//! `run`: the scheduler. One process that runs each job at its time, prunes after it, and says what it did.
//!
//! Runs take place one after another, since the memory budget is one per process; a job whose time passes meanwhile waits
//! for its turn and is caught up once. When a job is due is decided by [`crate::schedule`]; this file only asks, waits and
//! acts. It waits in short steps, so that a clock that is set or a machine that slept is noticed within one of them.
//!
//! SIGHUP reads the configuration again, between runs; one that is wrong is reported and the old one stays. SIGTERM and
//! SIGINT end the present run (its uploads are given up) and then the process, with exit code 0.

mod event;
mod job;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use event::Event;
use job::ScheduledJob;

use crate::cli::args;
use crate::commands::said::said;
use crate::commands::{Outcome, Report, Session, Status, backup, prune};
use crate::config::{Config, JobConfig};
use crate::error::{Error, Result};
use crate::schedule::{Next, Why};

/// The longest pause without a look at the clock.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Data without a snapshot are swept after a job's run at most this often in each repository.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);

/// How `run` reads its configuration again, and where it says what it does.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Reads the configuration as at the start of the program.
    pub reload: &'a (dyn Fn() -> Result<Config> + Sync),
    /// Receives each event.
    pub tell: &'a (dyn Fn(&Event) + Sync),
}

/// Now, moved by `WIREVAULT_TEST_CLOCK_SECONDS`, by which tests let days pass.
fn now() -> Timestamp {
    let moved = std::env::var("WIREVAULT_TEST_CLOCK_SECONDS").ok();
    let moved = moved.and_then(|text| text.parse().ok()).unwrap_or(0);
    let now = Timestamp::now();
    now.checked_add(SignedDuration::from_secs(moved)).unwrap_or(now)
}

/// Runs jobs until a signal ends it, or prints when each would run.
pub async fn run(session: &Session, options: &args::Run, surroundings: Surroundings<'_>) -> Outcome {
    let mut scheduler = Scheduler::new(session, surroundings)?;
    scheduler.remember().await;
    if options.dry_run {
        let planned = scheduler.planned();
        let text = planned.iter().map(ToString::to_string).collect();
        return said(serde_json::json!({ "jobs": planned }), text, Status::Done);
    }
    let mut hangup = signal(SignalKind::hangup())?;
    for planned in scheduler.planned() {
        (surroundings.tell)(&planned);
    }
    notify(sd_notify::NotifyState::Ready);
    scheduler.work(&mut hangup).await;
    notify(sd_notify::NotifyState::Stopping);
    (surroundings.tell)(&Event::Stopped);
    Ok(Box::new(Told))
}

/// Nothing more to say: the events have said it.
struct Told;

impl Report for Told {
    fn document(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    fn text(&self) -> String {
        String::new()
    }
    fn prints(&self) -> bool {
        false
    }
}

/// Tells systemd, if it listens (sd_notify(3)).
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("sd_notify: {error}");
    }
}

struct Scheduler<'a> {
    session: &'a Session,
    surroundings: Surroundings<'a>,
    config: Config,
    jobs: Vec<ScheduledJob>,
    swept: BTreeMap<String, Instant>,
}

impl<'a> Scheduler<'a> {
    fn new(session: &'a Session, surroundings: Surroundings<'a>) -> Result<Self> {
        let config = session.config.clone();
        let jobs = scheduled_jobs(&config, now())?;
        Ok(Self {
            session,
            surroundings,
            config,
            jobs,
            swept: BTreeMap::new(),
        })
    }

    /// Looks for each job's last snapshot. A repository that does not answer costs only the catching up.
    async fn remember(&mut self) {
        for job in &mut self.jobs {
            let found = job.last_snapshot(self.session).await;
            match found {
                Ok(Some(start)) => job.history.last_start = start,
                Ok(None) => {}
                Err(error) => tracing::warn!("job \"{}\": its last snapshot is unknown: {}", job.name, error.chain()),
            }
        }
    }

    /// What comes next, job by job.
    fn planned(&self) -> Vec<Event> {
        self.jobs
            .iter()
            .map(|job| Event::Planned {
                job: job.name.clone(),
                next: job.next(now()).map(|next| next.at),
            })
            .collect()
    }

    async fn work(&mut self, hangup: &mut Signal) {
        let cancel = self.session.cancel.clone();
        while !cancel.is_cancelled() {
            let wait = match self.due() {
                Some((at, next)) => {
                    self.run_job(at, next).await;
                    Duration::ZERO
                }
                None => self.pause(),
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                _ = hangup.recv() => self.reload(),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// The job that has waited longest, if one is due.
    fn due(&self) -> Option<(usize, Next)> {
        let now = now();
        let due = self
            .jobs
            .iter()
            .enumerate()
            .filter_map(|(at, job)| Some((at, job.next(now)?)));
        due.filter(|(_, next)| next.at <= now).min_by_key(|(_, next)| next.at)
    }

    fn pause(&self) -> Duration {
        let now = now();
        let nearest = self.jobs.iter().filter_map(|job| Some(job.next(now)?.at)).min();
        let until = nearest.map(|at| at.duration_since(now));
        until
            .and_then(|until| Duration::try_from(until).ok())
            .map_or(LONGEST_WAIT, |until| until.min(LONGEST_WAIT))
    }

    async fn run_job(&mut self, at: usize, next: Next) {
        let Some(job) = self.jobs.get(at) else { return };
        let (name, timeout, started, clock) = (job.name.clone(), job.timeout, now(), Instant::now());
        (self.surroundings.tell)(&Event::Begun {
            job: name.clone(),
            why: next.why,
            missed: next.missed,
        });
        let result = back_up(self.session, &self.config, &name, timeout).await;
        let (committed, error) = match &result {
            Ok(status) => (*status != Status::Failed, None),
            Err(error) => (false, Some((error.chain(), error.hint().map(str::to_owned)))),
        };
        if let Some(job) = self.jobs.get_mut(at) {
            job.ended(committed, started, now());
        }
        let following = self.jobs.get(at).and_then(|job| job.next(now()));
        let (error, hint) = error.unzip();
        (self.surroundings.tell)(&Event::Ended {
            job: name.clone(),
            status: result.unwrap_or(Status::Failed),
            seconds: clock.elapsed().as_secs_f64(),
            error,
            hint: hint.flatten(),
            next: following.map(|next| next.at),
            repeats: following.is_some_and(|next| next.why == Why::Repeated),
        });
        if committed {
            self.prune(&name).await;
        }
    }

    /// Applies the job's keep rules where it has some.
    async fn prune(&mut self, name: &str) {
        let plans = match with_config(self.session, &self.config).plans(&[name.to_owned()]) {
            Ok(plans) => plans,
            Err(error) => return tracing::warn!("prune after job \"{name}\": {}", error.chain()),
        };
        for plan in plans.into_iter().filter(|plan| plan.keep.is_some()) {
            if self.session.cancel.is_cancelled() {
                return;
            }
            let mut session = with_config(self.session, &self.config);
            session.repository.get_or_insert_with(|| plan.repository.name.clone());
            let url = plan.repository.url;
            let recent = self.swept.get(&url).is_some_and(|at| at.elapsed() < SWEEP_EVERY);
            let options = args::Prune {
                job: Some(name.to_owned()),
                no_sweep: recent,
                ..args::Prune::default()
            };
            match Box::pin(prune::run(&session, &options)).await {
                Ok(report) => {
                    if !recent {
                        self.swept.insert(url.clone(), Instant::now());
                    }
                    let document = report.document();
                    (self.surroundings.tell)(&Event::pruned(name, &url, &document));
                }
                Err(error) => tracing::warn!("prune {url} after job \"{name}\": {}", error.chain()),
            }
        }
    }

    /// Reads the configuration again. Jobs of the same name keep their history.
    fn reload(&mut self) {
        let read = (self.surroundings.reload)().and_then(|config| {
            let jobs = scheduled_jobs(&config, now())?;
            Ok((config, jobs))
        });
        match read {
            Err(error) => (self.surroundings.tell)(&Event::ReloadRefused {
                error: error.chain(),
                hint: error.hint().map(str::to_owned),
            }),
            Ok((config, mut jobs)) => {
                for job in &mut jobs {
                    if let Some(old) = self.jobs.iter().find(|old| old.name == job.name) {
                        job.history = old.history;
                    }
                }
                (self.config, self.jobs) = (config, jobs);
                (self.surroundings.tell)(&Event::Reloaded { jobs: self.jobs.len() });
                for planned in self.planned() {
                    (self.surroundings.tell)(&planned);
                }
            }
        }
    }
}

fn scheduled_jobs(config: &Config, started: Timestamp) -> Result<Vec<ScheduledJob>> {
    let scheduled = config.jobs.iter().filter(|job| job.schedule.is_some());
    let jobs = scheduled
        .map(|job: &JobConfig| ScheduledJob::new(config, job, started))
        .collect::<Result<Vec<_>>>()?;
    if jobs.is_empty() {
        return Err(Error::invalid(format!("{} has no job with a schedule", config.origin))
            .with_hint("Write schedule = \"0 2 * * *\" into a [job.NAME], or set BACKUP_SCHEDULE."));
    }
    Ok(jobs)
}

/// The session with the configuration of now.
fn with_config(session: &Session, config: &Config) -> Session {
    Session {
        config: config.clone(),
        repository: session.repository.clone(),
        endpoint: session.endpoint.clone(),
        pipeline: session.pipeline.clone(),
        reporter: session.reporter.clone(),
        cancel: session.cancel.child_token(),
        spool_dir: session.spool_dir.clone(),
    }
}

/// Runs one job, for so long at most.
async fn back_up(session: &Session, config: &Config, name: &str, timeout: Option<Duration>) -> Result<Status> {
    let session = with_config(session, config);
    let options = args::Backup {
        max_block: None,
        targets: vec![name.to_owned()],
        dry_run: false,
        parallel: args::DEFAULT_PARALLEL,
        level: None,
    };
    let mut work = Box::pin(backup::run(&session, &options));
    let Some(timeout) = timeout else {
        return work.await.map(|report| report.status());
    };
    tokio::select! {
        done = &mut work => done.map(|report| report.status()),
        () = tokio::time::sleep(timeout) => {
            // It gives its uploads up and ends; a manifest that was being written may still count.
            session.cancel.cancel();
            work.await.map(|report| report.status()).map_err(|_| {
                Error::new(crate::error::ErrorKind::TimedOut, format!("not done within {}", crate::config::format_duration(timeout)))
                    .with_hint("Raise the job's timeout, or find out what it waits for with -v.")
            })
        }
    }
}
