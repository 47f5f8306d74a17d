//! `run`: the scheduler. One process that runs each job at its time, prunes after it, and says what it did.
//!
//! Runs take place one after another, since the memory budget is one per process (so do the snapshots that receivers of logs begin
//! with); a job whose time passes meanwhile waits
//! for its turn and is caught up once. When a job is due is decided by [`crate::policy::schedule`]; what comes next by [`agenda`];
//! this file only asks, waits and acts, by the session's clock. It waits in short steps, so that a clock that is set or a
//! machine that slept is noticed within one of them.
//!
//! Notifications, dead man's switches and the status page learn from the same events that are printed; none of them can
//! delay a run. Keep rules are applied after each run, and once a day for jobs that seldom run.
//!
//! SIGHUP reads the configuration again, between runs; one that is wrong is reported and the old one stays. SIGTERM and
//! SIGINT end the present run (its uploads are given up) and then the process, with exit code 0.

mod agenda;
mod bases;
mod event;
mod execute;
mod figures;
mod keeping;
mod look;
mod page;
mod pruning;
mod receivers;
mod running;
pub(super) mod server;
mod state;
mod task;
mod tell;
mod watch;
mod watched;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use agenda::{Agenda, Turns};
use bases::Bases;
pub use event::{Event, TaskKind};
use receivers::Receivers;
use state::SchedulerState;
use task::{Task, Work};
use tell::Teller;

use crate::base::error::Result;
use crate::config::Config;
use crate::operations::options;
use crate::operations::{Report, Session, clock, document_of, records};

/// A repository is waited for so long, before it is pruned.
const REACH: Duration = Duration::from_secs(10);

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
    scheduler.receive_logs().await?;
    // What is stored is known before the first run, which may take hours.
    scheduler.look_now().await;
    scheduler.teller.remember(&scheduler.state.lock().facts);
    notify(sd_notify::NotifyState::Ready);
    scheduler.work(&mut hangup).await;
    notify(sd_notify::NotifyState::Stopping);
    scheduler.receivers.end().await;
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
    agenda: Agenda,
    /// Wakes it when files changed.
    woken: Arc<Notify>,
    state: Arc<SchedulerState>,
    teller: Teller,
    turns: Turns,
    receivers: Receivers,
    bases: Bases,
    /// When the repositories were last looked at, and whether something happened since.
    looked: Option<Instant>,
    news: bool,
}

impl<'a> Scheduler<'a> {
    fn new(session: &'a Session, options: &options::Run, surroundings: Surroundings<'a>) -> Result<Self> {
        let config = session.config.clone();
        let woken = Arc::default();
        let host = session.host();
        let tasks = Task::all((&config, &host), &session.clock, options.drills_only, &woken)?;
        let now = session.clock.moment();
        Ok(Self {
            session,
            surroundings,
            config,
            drills_only: options.drills_only,
            agenda: Agenda::new(tasks, now),
            woken,
            state: Arc::default(),
            teller: Teller::start(host),
            turns: Turns::default(),
            receivers: Receivers::new(),
            bases: Bases::default(),
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
        match server::start(listen, Arc::clone(&self.state), token, self.session.clock.clone()).await {
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

    /// The time of day.
    fn now(&self) -> Timestamp {
        self.session.clock.now()
    }

    /// Prints an event and lets the state learn from it.
    fn tell(&self, event: &Event) {
        self.state.observe(event, self.now());
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
        for task in &mut self.agenda.tasks {
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
        let Some(task) = self.agenda.tasks.get_mut(at).filter(|task| task.last_unknown) else {
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
        let moment = self.session.clock.moment();
        let tasks = self.agenda.tasks.iter();
        tasks
            .filter(|task| !matches!(task.work, Work::Copy { .. }))
            .map(|task| Event::Planned {
                what: task.work.what(),
                job: task.name.clone(),
                next: task.next(moment).map(|next| next.at),
            })
            .collect()
    }

    async fn work(&mut self, hangup: &mut Signal) {
        let (cancel, clock) = (self.session.cancel.clone(), self.session.clock.clone());
        while !cancel.is_cancelled() {
            let wait = match self.agenda.due(clock.moment()) {
                Some((at, _)) => {
                    let runs = self.receivers.runs();
                    // A receiver may be taking a snapshot.
                    let turn = tokio::select! {
                        biased;
                        () = cancel.cancelled() => continue,
                        turn = runs.acquire() => turn,
                    };
                    self.asked_again(at).await;
                    // What it was told, or the wait, may have put it off, or changed why it runs and what it missed.
                    if let Some((due, next)) = self.agenda.due(clock.moment())
                        && due == at
                    {
                        self.run_task(at, next).await;
                    }
                    drop(turn);
                    Duration::ZERO
                }
                None if self.look().await || self.prune_one().await || self.look_at_bases().await => Duration::ZERO,
                None => self.agenda.pause(clock.moment(), self.news),
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                _ = hangup.recv() => {
                    self.reload();
                    if let Err(error) = self.receive_logs().await {
                        tracing::error!("logs are received as before: {}", error.chain());
                    }
                }
                () = self.woken.notified() => {}
                () = clock.sleep_until(clock.instant() + wait) => {}
            }
        }
    }

    /// Has the logs received that the configuration asks for.
    async fn receive_logs(&mut self) -> Result<()> {
        if self.drills_only {
            return Ok(());
        }
        let session = Session {
            config: self.config.clone(),
            ..self.session.clone()
        };
        self.receivers.follow(&session, &self.state).await
    }

    /// How long ago an instant was.
    fn since(&self, instant: Instant) -> Duration {
        self.session.clock.instant().saturating_duration_since(instant)
    }

    /// Looks at the repositories for the status page, when something happened or it was long ago.
    async fn look(&mut self) -> bool {
        let ago = self.looked.map(|at| self.since(at));
        if !agenda::is_look_due(ago, self.news, self.state.misses_a_repository()) {
            return false;
        }
        self.look_now().await;
        true
    }

    async fn look_now(&mut self) {
        let session = with_config(self.session, &self.config);
        self.state.lock().configuration = server::fingerprint(&self.config);
        look::look(&session, &self.state, self.drills_only).await;
        (self.looked, self.news) = (Some(self.session.clock.instant()), false);
    }

    /// Reads the configuration again. Tasks of the same name keep their history.
    fn reload(&mut self) {
        let read = (self.surroundings.reload)().and_then(|config| {
            let host = with_config(self.session, &config).host();
            let tasks = Task::all((&config, &host), &self.session.clock, self.drills_only, &self.woken)?;
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
                    if let Some(old) = self.agenda.tasks.iter().find(|old| old.name == task.name) {
                        task.follow(old);
                    }
                }
                (self.config, self.agenda.tasks, self.news) = (config, tasks, true);
                let names: Vec<&str> = self.agenda.tasks.iter().map(|task| task.name.as_str()).collect();
                self.state.keep_tasks(&names);
                self.tell(&Event::Reloaded {
                    jobs: self.agenda.tasks.len(),
                });
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
        cancel: session.cancel.child_token(),
        ..session.clone()
    }
}
