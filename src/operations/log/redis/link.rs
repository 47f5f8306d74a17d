//! The connection to the server, as the receiver waits for it.

use std::future::pending;
use std::pin::Pin;
use std::time::Instant;

use crate::base::error::Result;
use crate::base::exact;
use crate::engines::redis::log::replica::Replica;
use crate::engines::redis::log::tail::Tail;
use crate::operations::log::redis::attach::{Attached, Met};

/// The connection to the server.
pub(super) enum Link<'a> {
    /// There is none until then.
    Down(Instant),
    /// One is made.
    Attaching(Pin<Box<dyn Future<Output = Result<Met>> + Send + 'a>>),
    /// It brings another history: what is held of the one before goes first.
    Waiting(Box<Attached>),
    /// The stream comes.
    Up(Box<Incoming>),
}

/// What came of the link.
pub(super) enum Event {
    /// It is time for another connection.
    Retry,
    Attached(Box<Result<Met>>),
    /// Bytes came, or the connection ended.
    Came(Result<()>),
}

impl Link<'_> {
    pub(super) async fn next(&mut self) -> Event {
        match self {
            Self::Down(until) => {
                tokio::time::sleep_until((*until).into()).await;
                Event::Retry
            }
            Self::Attaching(attaching) => Event::Attached(Box::new(attaching.await)),
            Self::Waiting(_) => pending().await,
            Self::Up(incoming) => Event::Came(incoming.replica.wait().await),
        }
    }

    /// Tells the server how far the stream is stored. Of a history that continues the one before, that is no further than the one
    /// before is stored; of one that begins, nothing is.
    pub(super) async fn acknowledge(&mut self, stored: Option<u64>) -> Result<()> {
        match self {
            Self::Up(incoming) => incoming.replica.acknowledge(stored.unwrap_or(0)).await,
            Self::Waiting(attached) => {
                let continues = attached.branch.follows.is_some() && attached.gap.is_none();
                let to = stored.filter(|_| continues).unwrap_or(0);
                attached.replica.acknowledge(to.min(attached.hold_from)).await
            }
            _ => Ok(()),
        }
    }

    /// Returns whether the stream comes, and all that could be compared with what is known has come.
    pub(super) fn is_sure(&self) -> bool {
        match self {
            Self::Up(incoming) => incoming.at >= incoming.tail.to(),
            _ => false,
        }
    }

    /// Fails if nothing came for too long. While nothing is read on purpose, that says nothing.
    pub(super) fn is_heard(&mut self, is_read: bool) -> Result<()> {
        match self {
            Self::Up(incoming) if is_read => incoming.replica.is_heard(),
            Self::Up(incoming) => {
                incoming.replica.hear();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A stream that comes.
pub(super) struct Incoming {
    replica: Replica,
    /// The offset of the next byte.
    at: u64,
    /// What is known of it from before.
    tail: Tail,
}

impl Incoming {
    pub(super) fn new(replica: Replica, at: u64, tail: Tail) -> Self {
        Self { replica, at, tail }
    }

    /// Returns what came behind an offset; what comes before it is passed over. None where the server sends other bytes than those
    /// that are known.
    pub(super) fn bytes(&mut self, from: u64) -> Option<&[u8]> {
        let bytes = self.replica.bytes();
        if !self.tail.agrees(self.at, bytes) {
            return None;
        }
        let passed = exact::usize_from(from.saturating_sub(self.at)).min(bytes.len());
        self.take(passed);
        Some(self.replica.bytes())
    }

    /// Takes what was looked at.
    pub(super) fn take(&mut self, count: usize) {
        self.replica.take(count);
        self.at = self.at.saturating_add(exact::u64_from(count));
    }
}
