//! Receivers of logs: as long as the scheduler runs, one for each source that asks for it and each repository that it goes to.
//!
//! Each follows its server by itself, whatever becomes of the others and of the jobs. One that ends with an error is begun again.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::state::SchedulerState;
use crate::base::error::{Error, ErrorKind, Result};
use crate::config::{RepositoryConfig, SourceConfig};
use crate::engines::ReceivedLog;
use crate::operations::log::progress::Watched;
use crate::operations::{Session, log, options};

/// A receiver that ended with an error waits so long.
const AGAIN: Duration = Duration::from_secs(60);

/// How often what is new is stored, and how well it is compressed.
const FLUSH: Duration = Duration::from_secs(2);
const LEVEL: i32 = 1;

/// A source and a repository, by their names.
pub(super) type Pair = (String, String);

/// The receivers at work.
#[derive(Debug)]
pub(super) struct Receivers {
    running: BTreeMap<Pair, Running>,
    /// One stores at a time into each repository: one that is away holds up nobody else.
    turns: BTreeMap<String, Arc<Semaphore>>,
    /// A snapshot that a receiver begins with is a run like those of jobs: one after another.
    runs: Arc<Semaphore>,
}

#[derive(Debug)]
struct Running {
    /// What it was begun with.
    begun_with: (SourceConfig, RepositoryConfig),
    cancel: CancellationToken,
    handle: JoinHandle<()>,
}

impl Receivers {
    pub(super) fn new() -> Self {
        Self {
            running: BTreeMap::new(),
            turns: BTreeMap::new(),
            runs: Arc::new(Semaphore::new(1)),
        }
    }

    /// What each run has while it lasts.
    pub(super) fn runs(&self) -> Arc<Semaphore> {
        Arc::clone(&self.runs)
    }

    /// Returns whose base backups are taken by themselves.
    pub(super) fn with_auto_base(&self) -> Vec<(Pair, RepositoryConfig)> {
        let all = self.running.iter();
        let theirs = all.filter(|(_, running)| {
            let log = running.begun_with.0.kind.spec().received_log();
            log.is_some_and(|log| log.auto_base)
        });
        theirs
            .map(|(pair, running)| (pair.clone(), running.begun_with.1.clone()))
            .collect()
    }

    /// Begins what a configuration asks for, and ends what it does not.
    pub(super) async fn follow(&mut self, session: &Session, state: &SchedulerState) -> Result<()> {
        let wanted = wanted(session)?;
        let is_the_same = |pair: &Pair, running: &Running| {
            let same = |(source, repository, _): &Wanted| {
                format!("{source:?}{repository:?}") == format!("{:?}{:?}", running.begun_with.0, running.begun_with.1)
            };
            wanted.get(pair).is_some_and(same)
        };
        let old: Vec<Pair> = self
            .running
            .iter()
            .filter(|(pair, running)| !is_the_same(pair, running))
            .map(|(pair, _)| pair.clone())
            .collect();
        for pair in old {
            state.lock().logs.remove(&pair);
            if let Some(running) = self.running.remove(&pair) {
                running.end().await;
            }
        }
        for (pair, (source, repository, log)) in wanted {
            if self.running.contains_key(&pair) {
                continue;
            }
            let watched = Watched::default();
            watched.lock().lost(None);
            state.lock().logs.insert(pair.clone(), watched.clone());
            let cancel = session.cancel.child_token();
            let mut own = session.of_repository(Some(repository.name.clone()));
            own.cancel = cancel.clone();
            let turn = self.turns.entry(repository.name.clone());
            let turn = Arc::clone(turn.or_insert_with(|| Arc::new(Semaphore::new(1))));
            let options = options::LogReceive {
                source: source.name.clone(),
                name: None,
                slot: log.slot,
                flush: FLUSH,
                level: LEVEL,
                turn: Some(turn),
                snapshots: Some(Arc::clone(&self.runs)),
            };
            let handle = tokio::spawn(keep_receiving(own, source.clone(), options, watched));
            let begun_with = (source, repository);
            self.running.insert(
                pair,
                Running {
                    begun_with,
                    cancel,
                    handle,
                },
            );
        }
        Ok(())
    }

    /// Ends all of them, with what they have stored.
    pub(super) async fn end(&mut self) {
        for running in self.running.values() {
            running.cancel.cancel();
        }
        for (_, running) in std::mem::take(&mut self.running) {
            running.end().await;
        }
    }
}

impl Running {
    async fn end(self) {
        self.cancel.cancel();
        if let Err(error) = self.handle.await {
            tracing::error!("a receiver has ended early: {error}");
        }
    }
}

async fn keep_receiving(session: Session, source: SourceConfig, options: options::LogReceive, watched: Watched) {
    while !session.cancel.is_cancelled() {
        watched.lock().begins();
        let following = log::follow(&session, &source, &options, watched.clone());
        // Whatever becomes of one try, another one follows.
        let ended = AssertUnwindSafe(following).catch_unwind().await;
        let error = match ended {
            // Without an error it was ended.
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => Error::new(
                ErrorKind::Other,
                "the receiver crashed, which is a bug; the panic message is in the log above",
            ),
        };
        tracing::error!("the log of \"{}\" is not received: {}", source.name, error.chain());
        watched.lock().lost(Some(error.chain()));
        tokio::select! {
            () = session.cancel.cancelled() => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// What one receiver is for.
type Wanted = (SourceConfig, RepositoryConfig, ReceivedLog);

/// Returns what a configuration asks for. A source that several jobs have goes into each repository once.
fn wanted(session: &Session) -> Result<BTreeMap<Pair, Wanted>> {
    let mut wanted = BTreeMap::new();
    if session.config.jobs.is_empty() {
        return Ok(wanted);
    }
    for plan in session.plans(&[])? {
        for source in &plan.sources {
            if let Some(log) = source.kind.spec().received_log() {
                let pair = (source.name.clone(), plan.repository.name.clone());
                wanted.insert(pair, (source.clone(), plan.repository.clone(), log));
            }
        }
    }
    Ok(wanted)
}
