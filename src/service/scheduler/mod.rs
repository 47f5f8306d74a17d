//! `run`: the scheduler. One process that runs each job at its time, prunes after it, and says what it did.
//!
//! Runs take place one after another, since the memory budget is one per process; a job whose time passes meanwhile waits
//! for its turn and is caught up once. When a job is due is decided by [`crate::policy::schedule`]; this file only asks, waits and
//! acts. It waits in short steps, so that a clock that is set or a machine that slept is noticed within one of them.
//!
//! Notifications, dead man's switches and the status page learn from the same events that are printed; none of them can
//! delay a run. Keep rules are applied after each run, and once a day for jobs that seldom run.
//!
//! SIGHUP reads the configuration again, between runs; one that is wrong is reported and the old one stays. SIGTERM and
//! SIGINT end the present run (its uploads are given up) and then the process, with exit code 0.

mod board;
mod event;
mod execute;
mod figures;
mod keeping;
mod look;
mod page;
pub(super) mod server;
mod task;
mod tell;
mod watch;
mod watched;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use board::Board;
pub use event::{Event, What};
use task::{Task, Work};
use tell::Teller;

use crate::base::error::Result;
use crate::config::Config;
use crate::operations::clock::now;
use crate::operations::options;
use crate::operations::{Report, Session, Status, clock, document_of, prune, records};
use crate::policy::schedule::{Next, Why};
use crate::repository::RunRecord;

/// The longest pause without a look at the clock.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Data without a snapshot are swept after a job's run at most this often in each repository.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);

/// Keep rules are applied at least this often, and first this long after the start.
const PRUNE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
const FIRST_PRUNE: Duration = Duration::from_secs(60 * 60);

/// A repository is waited for so long, before it is pruned.
const REACH: Duration = Duration::from_secs(10);

/// Repositories are looked at for the status page at most, and at least, this often.
const LOOK_AT_MOST: Duration = Duration::from_secs(10);
const LOOK_AT_LEAST: Duration = Duration::from_secs(30 * 60);

/// One that could not be reached is looked for this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What is told when it ends has so long to arrive.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How `run` reads its configuration again, and where it says what it does.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Reads the configuration as at the start of the program.
    pub reload: &'a (dyn Fn() -> Result<Config> + Sync),
    /// Receives each event.
    pub tell: &'a (dyn Fn(&Event) + Sync),
}

/// Runs jobs until a signal ends it, or prints when each would run.
pub async fn run(session: &Session, options: &options::Run, surroundings: Surroundings<'_>) -> Result<RunReport> {
    let mut scheduler = Scheduler::new(session, options, surroundings)?;
    if options.dry_run {
        scheduler.remember().await;
        let jobs = scheduler.planned();
        return Ok(RunReport::Planned { jobs });
    }
    let mut hangup = signal(SignalKind::hangup())?;
    scheduler.compare_clocks().await?;
    let _server = scheduler.serve(options).await?;
    scheduler.remember().await;
    for planned in scheduler.planned() {
        scheduler.tell(&planned);
    }
    for repository in with_config(session, &scheduler.config).repositories()? {
        records::bury(session, &repository);
    }
    // What is stored is known before the first run, which may take hours.
    scheduler.look_now().await;
    scheduler.teller.remember(&scheduler.board.lock().facts);
    notify(sd_notify::NotifyState::Ready);
    scheduler.work(&mut hangup).await;
    notify(sd_notify::NotifyState::Stopping);
    scheduler.teller.finish(LAST_WORDS).await;
    (surroundings.tell)(&Event::Stopped);
    Ok(RunReport::Ended)
}

/// What `run` has to say at its end.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
pub enum RunReport {
    /// With `--dry-run`: when each job would run.
    Planned {
        /// A `planned` event each.
        jobs: Vec<Event>,
    },
    /// Nothing more: the events have said it.
    Ended,
}

impl Report for RunReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        match self {
            Self::Planned { jobs } => jobs.iter().map(ToString::to_string).collect(),
            Self::Ended => String::new(),
        }
    }

    fn prints(&self) -> bool {
        matches!(self, Self::Planned { .. })
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
    drills_only: bool,
    tasks: Vec<Task>,
    /// Wakes it when files changed.
    woken: Arc<Notify>,
    board: Arc<Board>,
    teller: Teller,
    swept: BTreeMap<String, Instant>,
    /// When keep rules are applied next, by job.
    prune_at: BTreeMap<String, Instant>,
    /// When the repositories were last looked at, and whether something happened since.
    looked: Option<Instant>,
    news: bool,
}

impl<'a> Scheduler<'a> {
    fn new(session: &'a Session, options: &options::Run, surroundings: Surroundings<'a>) -> Result<Self> {
        let config = session.config.clone();
        let woken = Arc::default();
        let host = session.host();
        let tasks = Task::all((&config, &host), now(), options.drills_only, &woken)?;
        Ok(Self {
            session,
            surroundings,
            config,
            drills_only: options.drills_only,
            tasks,
            woken,
            board: Arc::default(),
            teller: Teller::start(host),
            swept: BTreeMap::new(),
            prune_at: BTreeMap::new(),
            looked: None,
            news: true,
        })
    }

    /// Begins to listen. A default address that is taken costs the status page, one that was asked for the start.
    async fn serve(&self, options: &options::Run) -> Result<Option<server::Server>> {
        let listen = options.listen.as_deref().unwrap_or(options::DEFAULT_LISTEN);
        if matches!(listen, "off" | "none" | "") {
            return Ok(None);
        }
        let token = self.config.status_token.clone();
        match server::start(listen, Arc::clone(&self.board), token, now).await {
            Ok(server) => {
                let address = server.address.to_string();
                self.tell(&Event::Serving { address });
                Ok(Some(server))
            }
            Err(error) if options.listen.is_none() => {
                tracing::warn!("no status page: {}", error.chain());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Prints an event and lets the board learn from it.
    fn tell(&self, event: &Event) {
        self.board.observe(event, now());
        (self.surroundings.tell)(event);
    }

    /// Fails when a repository's clock is another than this host's. One that does not answer now is asked again by each run.
    async fn compare_clocks(&self) -> Result<()> {
        let session = with_config(self.session, &self.config);
        for config in &session.repositories()? {
            let opened = crate::operations::meant::if_there(&session, config);
            if let Ok(Ok(Some(repository))) = tokio::time::timeout(REACH, opened).await {
                session.or_cancelled(clock::agree(&repository)).await?;
            }
        }
        Ok(())
    }

    /// Looks for each task's last run. A repository that does not answer costs only the catching up.
    async fn remember(&mut self) {
        let session = with_config(self.session, &self.config);
        for task in &mut self.tasks {
            match task.last_run(&session).await {
                Ok(Some(start)) => task.history.last_start = start,
                Ok(None) => {}
                Err(error) => {
                    task.last_unknown = true;
                    tracing::warn!("\"{}\": its last run is unknown: {}", task.name, error.chain());
                }
            }
        }
    }

    /// Asks once more for the last run of a task that is due, if no repository told it at the start: it may not be due at all.
    /// Where there is still no answer it runs, for its last run may be long ago.
    async fn asked_again(&mut self, at: usize) {
        let session = with_config(self.session, &self.config);
        let Some(task) = self.tasks.get_mut(at).filter(|task| task.last_unknown) else {
            return;
        };
        if let Ok(Ok(last)) = tokio::time::timeout(REACH, task.last_run(&session)).await {
            task.last_unknown = false;
            if let Some(start) = last {
                task.history.last_start = task.history.last_start.max(start);
            }
        }
    }

    /// What comes next, task by task.
    fn planned(&self) -> Vec<Event> {
        self.tasks
            .iter()
            .filter(|task| !matches!(task.work, Work::Copy { .. }))
            .map(|task| Event::Planned {
                what: task.work.what(),
                job: task.name.clone(),
                next: task.next(now()).map(|next| next.at),
            })
            .collect()
    }

    async fn work(&mut self, hangup: &mut Signal) {
        let cancel = self.session.cancel.clone();
        while !cancel.is_cancelled() {
            let wait = match self.due() {
                Some((at, _)) => {
                    self.asked_again(at).await;
                    // What it was told may have put it off, or changed why it runs and what it missed.
                    if let Some((due, next)) = self.due()
                        && due == at
                    {
                        self.run_task(at, next).await;
                    }
                    Duration::ZERO
                }
                None if self.look().await || self.prune_one().await => Duration::ZERO,
                None => self.pause(),
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                _ = hangup.recv() => self.reload(),
                () = self.woken.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// The task that has waited longest, if one is due.
    fn due(&mut self) -> Option<(usize, Next)> {
        let now = now();
        for task in &mut self.tasks {
            task.history.end_by(now);
        }
        let due = self
            .tasks
            .iter()
            .enumerate()
            .filter_map(|(at, task)| Some((at, task.next(now)?)));
        // What brings repositories up to date waits for everything that has its time.
        due.filter(|(_, next)| next.at <= now)
            .min_by_key(|(_, next)| (next.why == Why::Behind, next.at))
    }

    fn pause(&self) -> Duration {
        let now = now();
        let nearest = self.tasks.iter().filter_map(|task| Some(task.next(now)?.at)).min();
        let until = nearest.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        let longest = if self.news { LOOK_AT_MOST } else { LONGEST_WAIT };
        until.map_or(longest, |until| until.min(longest))
    }

    async fn run_task(&mut self, at: usize, next: Next) {
        let Some(task) = self.tasks.get(at) else { return };
        if let Some(watch) = &task.watch {
            watch.taken();
        }
        let (name, work, started, clock) = (task.name.clone(), task.work.clone(), now(), Instant::now());
        let begun = Event::Begun {
            what: work.what(),
            job: name.clone(),
            why: next.why,
            missed: next.missed,
        };
        // Whether a repository lacks something is asked far more often than it is so.
        let silent = matches!(work, Work::Copy { .. });
        let log_from = Timestamp::now();
        if !silent {
            self.tell(&begun);
            self.teller.begun(&self.config, &name, &next, started);
        }
        let repositories = self.repositories(&name, &work);
        let begun_here = if silent {
            records::Begun::default()
        } else {
            let mut killed = self.record(work.what(), &name, started);
            killed.error = Some("the process ended in the middle of the run".to_owned());
            records::begin(self.session, &repositories, &killed)
        };
        let result = execute::execute(self.session, &self.config, &name, &work, next.why).await;
        let (more, seconds) = (
            result.as_ref().is_ok_and(|done| done.more),
            clock.elapsed().as_secs_f64(),
        );
        let (status, error, hint, events, snapshots) = match result {
            Ok(done) => (done.status, done.complaint, None, done.events, done.snapshots),
            Err(error) => (
                Status::Failed,
                Some(error.chain()),
                error.hint().map(str::to_owned),
                vec![],
                vec![],
            ),
        };
        for event in &events {
            self.tell(event);
        }
        // A drill that found damage and a rule that could not remove everything have had their run.
        let ran = status != Status::Failed || (error.is_some() && !events.is_empty());
        if let Some(task) = self.tasks.get_mut(at) {
            task.ended(ran, started, now());
            if more {
                task.history.failed_at = Some(Timestamp::UNIX_EPOCH);
            }
        }
        if silent && status == Status::Done && events.is_empty() {
            return;
        }
        if status != Status::Done && matches!(work, Work::Backup { .. }) {
            self.is_behind(&name);
        }
        // Ended by us: that is nobody's failure.
        if !self.session.cancel.is_cancelled() {
            let record = RunRecord {
                outcome: status.into(),
                error: error.clone(),
                hint: hint.clone(),
                log: crate::base::report::tail::since(log_from),
                snapshots,
                ..self.record(work.what(), &name, started)
            };
            self.keep(&repositories, record).await;
        }
        drop(begun_here);
        let following = self.tasks.get(at).and_then(|task| task.next(now()));
        let ended = Event::Ended {
            what: work.what(),
            job: name.clone(),
            status,
            seconds,
            error,
            hint,
            // What is due as soon as there is time has no time of its own.
            next: following.filter(|next| next.why != Why::Behind).map(|next| next.at),
            repeats: following.is_some_and(|next| next.why == Why::Repeated),
        };
        self.tell(&ended);
        // Ended by us: nobody needs to be woken for that.
        if !self.session.cancel.is_cancelled() {
            self.teller.ended(&self.config, &ended, now());
        }
        if ran && matches!(work, Work::Backup { .. }) {
            self.prune(&name).await;
        }
    }

    /// A run did not reach every repository: what they lack is copied as soon as they answer.
    fn is_behind(&mut self, job: &str) {
        let copies = |task: &&mut Task| matches!(&task.work, Work::Copy { job: of } if of == job);
        if let Some(task) = self.tasks.iter_mut().find(copies)
            && task.history.failed_at.is_none()
        {
            task.history.failed_at = Some(now());
        }
    }

    /// Looks at the repositories for the status page, when something happened or it was long ago.
    async fn look(&mut self) -> bool {
        let ago = self.looked.map(|at| at.elapsed());
        let least = match self.news {
            true => LOOK_AT_MOST,
            false if self.board.misses_a_repository() => LOOK_AGAIN,
            false => LOOK_AT_LEAST,
        };
        if ago.is_some_and(|ago| ago < least) {
            return false;
        }
        self.look_now().await;
        true
    }

    async fn look_now(&mut self) {
        let session = with_config(self.session, &self.config);
        self.board.lock().configuration = server::fingerprint(&self.config);
        look::look(&session, &self.board, self.drills_only, now()).await;
        (self.looked, self.news) = (Some(Instant::now()), false);
    }

    /// Applies the keep rules of a job whose turn it is.
    async fn prune_one(&mut self) -> bool {
        if self.drills_only {
            return false;
        }
        let now = Instant::now();
        for job in self
            .config
            .jobs
            .iter()
            .filter(|job| job.keep.is_some() || !job.keep_in.is_empty())
        {
            let first = || now.checked_add(FIRST_PRUNE).unwrap_or(now);
            let at = self.prune_at.entry(job.name.clone()).or_insert_with(first);
            if *at <= now {
                let name = job.name.clone();
                self.prune(&name).await;
                return true;
            }
        }
        false
    }

    /// Applies the job's keep rules where it has some.
    async fn prune(&mut self, name: &str) {
        let next = Instant::now().checked_add(PRUNE_EVERY);
        self.prune_at.extend(next.map(|next| (name.to_owned(), next)));
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
            // Retries would keep the other jobs waiting; the keep rules come again with the next run.
            let reached = tokio::time::timeout(REACH, crate::operations::snapshots::open_repository(&session)).await;
            let url = plan.repository.url;
            match reached {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!("prune {url} after job \"{name}\": {}", error.chain());
                    continue;
                }
                Err(_) => {
                    tracing::warn!("prune {url} after job \"{name}\": it does not answer");
                    continue;
                }
            }
            let recent = self.swept.get(&url).is_some_and(|at| at.elapsed() < SWEEP_EVERY);
            let options = options::Prune {
                job: Some(name.to_owned()),
                no_sweep: recent,
                ..options::Prune::default()
            };
            match Box::pin(prune::run(&session, &options)).await {
                Ok(report) => {
                    if !recent {
                        self.swept.insert(url.clone(), Instant::now());
                    }
                    self.tell(&Event::pruned(name, &url, &report));
                    self.news = true;
                }
                Err(error) => tracing::warn!("prune {url} after job \"{name}\": {}", error.chain()),
            }
        }
    }

    /// Reads the configuration again. Tasks of the same name keep their history.
    fn reload(&mut self) {
        let read = (self.surroundings.reload)().and_then(|config| {
            let host = with_config(self.session, &config).host();
            let tasks = Task::all((&config, &host), now(), self.drills_only, &self.woken)?;
            Ok((config, tasks, host))
        });
        match read {
            Err(error) => self.tell(&Event::ReloadRefused {
                error: error.chain(),
                hint: error.hint().map(str::to_owned),
            }),
            Ok((config, mut tasks, host)) => {
                self.teller.host = host;
                for task in &mut tasks {
                    if let Some(old) = self.tasks.iter().find(|old| old.name == task.name) {
                        (task.history, task.last_unknown) = (old.history, old.last_unknown);
                    }
                }
                (self.config, self.tasks, self.news) = (config, tasks, true);
                let names: Vec<&str> = self.tasks.iter().map(|task| task.name.as_str()).collect();
                self.board.keep_tasks(&names);
                self.tell(&Event::Reloaded { jobs: self.tasks.len() });
                for planned in self.planned() {
                    self.tell(&planned);
                }
            }
        }
    }
}

/// The session with the configuration of now.
fn with_config(session: &Session, config: &Config) -> Session {
    Session {
        config: config.clone(),
        engines: session.engines.clone(),
        repository: session.repository.clone(),
        endpoint: session.endpoint.clone(),
        host: session.host.clone(),
        limit_rate: session.limit_rate,
        pipeline: session.pipeline.clone(),
        reporter: session.reporter.clone(),
        cancel: session.cancel.child_token(),
        spool_dir: session.spool_dir.clone(),
        seen: session.seen.clone(),
        state: session.state.clone(),
        ask: session.ask,
        arguments: session.arguments.clone(),
    }
}
