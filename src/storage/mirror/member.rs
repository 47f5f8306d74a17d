//! One store among several: how long it was waited for, and whether it still takes part.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::MirrorTarget;
use super::branch::Slot;
use crate::base::error::{Error, ErrorKind};
use crate::storage::{ObjectOptions, SharedStore, UploadJournal};

#[derive(Debug)]
pub(super) struct Member {
    pub(super) store: SharedStore,
    storage_class: Option<String>,
    pub(super) journal: Option<Arc<dyn UploadJournal>>,
    /// Calls that may go on behind the writer's back.
    room: Arc<Semaphore>,
    max_stall: Duration,
    stall: Mutex<Stall>,
    why: Mutex<Option<Error>>,
    /// Cancelled when it is detached.
    pub(super) gone: CancellationToken,
}

/// Time during which at least one caller waits for the store alone.
#[derive(Debug, Default)]
struct Stall {
    waiting: usize,
    since: Option<Instant>,
    before: Duration,
}

impl Member {
    pub(super) fn new(target: MirrorTarget, share: usize, max_stall: Duration) -> Self {
        Self {
            store: target.store,
            storage_class: target.storage_class,
            journal: target.journal,
            room: Arc::new(Semaphore::new(share)),
            max_stall,
            stall: Mutex::default(),
            why: Mutex::default(),
            gone: CancellationToken::new(),
        }
    }

    /// The options of an object in this store.
    pub(super) fn options(&self, options: &ObjectOptions) -> ObjectOptions {
        ObjectOptions {
            storage_class: self.storage_class.clone(),
            ..options.clone()
        }
    }

    pub(super) fn is_detached(&self) -> bool {
        self.gone.is_cancelled()
    }

    pub(super) fn why(&self) -> Option<Error> {
        let why = self.why.lock().expect("no panic happens under this lock");
        why.as_ref().map(Error::duplicate)
    }

    /// Takes it out; the first reason stays.
    pub(super) fn detach(&self, error: Error) {
        self.why
            .lock()
            .expect("no panic happens under this lock")
            .get_or_insert(error);
        self.gone.cancel();
    }

    pub(super) fn stalled(&self) -> Duration {
        let stall = self.stall.lock().expect("no panic happens under this lock");
        stall.before + stall.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// For how long it may still be waited for.
    pub(super) fn patience(&self) -> Duration {
        self.max_stall.saturating_sub(self.stalled())
    }

    pub(super) fn detach_if_spent(&self) {
        if self.patience().is_zero() {
            let message = format!(
                "{} delayed the other repositories by {} s in total",
                self.store.location(),
                self.max_stall.as_secs()
            );
            self.detach(Error::new(ErrorKind::TimedOut, message).with_hint(
                "`wirevault copy` brings it up to date, and `run` does so automatically; raise max_stall of the job \
                 to wait longer.",
            ));
        }
    }

    /// Lets a call go on behind the writer's back, if there is room.
    pub(super) fn lets_go(&self, slot: &Slot) -> bool {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            return false;
        };
        slot.let_go(permit)
    }
}

/// While it lives, its store is being waited for.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Member>);

impl Waiting {
    pub(super) fn begin(member: &Arc<Member>) -> Self {
        let mut stall = member.stall.lock().expect("no panic happens under this lock");
        stall.waiting += 1;
        stall.since.get_or_insert_with(Instant::now);
        drop(stall);
        Self(Arc::clone(member))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut stall = self.0.stall.lock().expect("no panic happens under this lock");
        stall.waiting = stall.waiting.saturating_sub(1);
        if stall.waiting == 0
            && let Some(since) = stall.since.take()
        {
            stall.before += since.elapsed();
        }
    }
}
