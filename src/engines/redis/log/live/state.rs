//! What both directions of a link share: whether it goes on, and why it does not.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::redis::session::connection::closed;

/// How long the server may take nothing and say nothing: it applies one command after another, and a single one can take long.
pub(super) const STALL: Duration = Duration::from_secs(300);

/// What both directions share.
#[derive(Debug)]
pub(super) struct State {
    /// Why the link has ended.
    failure: Mutex<Option<Error>>,
    pub(super) broken: CancellationToken,
    /// When the server last took or said something.
    moved: Mutex<Instant>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            failure: Mutex::new(None),
            broken: CancellationToken::new(),
            moved: Mutex::new(Instant::now()),
        }
    }

    pub(super) fn move_on(&self) {
        *self.moved.lock().expect("no panic happens under this lock") = Instant::now();
    }

    pub(super) fn is_moving(&self) -> Result<()> {
        let since = self.moved.lock().expect("no panic happens under this lock").elapsed();
        if since > STALL {
            Err(stalled("takes nothing"))
        } else {
            Ok(())
        }
    }

    pub(super) fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().expect("no panic happens under this lock");
        failure.get_or_insert(error);
        self.broken.cancel();
    }

    pub(super) fn failure(&self) -> Error {
        let failure = self.failure.lock().expect("no panic happens under this lock");
        failure.as_ref().map_or_else(closed, Error::duplicate)
    }
}

pub(super) fn stalled(what: &str) -> Error {
    let message = format!("the server {what} for {} s", STALL.as_secs());
    Error::new(ErrorKind::TimedOut, message).with_hint("See the log of the target.")
}

/// The error of a server that ends the link.
pub(super) fn left() -> Error {
    Error::new(ErrorKind::Unavailable, "the server closed the replication link").with_hint(
        "See the log of the target: it may be unable to load the snapshot, without room, stopped, or told to follow another server.",
    )
}
