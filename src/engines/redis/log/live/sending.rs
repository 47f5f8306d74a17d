//! The direction to the server.
//!
//! A server gives its primary up that sends nothing for `repl-timeout`. So some bytes are always held back, and go one by one while
//! nothing comes of the store; where there are none and no command is begun, PINGs go.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::state::{State, left};
use crate::archive::DataSlice;
use crate::base::error::Result;
use crate::base::exact;
use crate::engines::redis::wire::resp;

/// How often something goes while there is nothing to send.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Bytes that are held back: more than an hour of ticks.
const KEPT_BYTES: usize = 4096;

/// What goes to the server.
pub(super) enum Out {
    /// What announces the RDB. It goes with its first bytes: until then there is something to say.
    Header(Vec<u8>),
    Rdb(DataSlice),
    RdbEnd,
    /// Commands; whether one, or a transaction, ends with them.
    Commands(Vec<u8>, bool),
    /// Nothing follows. Answered with the bytes of the PINGs that went.
    End(oneshot::Sender<u64>),
}

/// What goes while there is nothing to send, and nothing is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Idle {
    /// Before the RDB is announced.
    Newline,
    /// Within it, or within a command or a transaction, nothing can.
    Nothing,
    Ping,
}

/// The direction to the server.
#[derive(Debug)]
pub(super) struct Sender {
    write: OwnedWriteHalf,
    header: Vec<u8>,
    kept: Vec<u8>,
    idle: Idle,
    ping_bytes: u64,
    state: Arc<State>,
}

impl Sender {
    pub(super) fn new(write: OwnedWriteHalf, state: Arc<State>) -> Self {
        Self {
            write,
            header: Vec::new(),
            kept: Vec::new(),
            idle: Idle::Newline,
            ping_bytes: 0,
            state,
        }
    }

    /// Sends what comes, until nothing does any more.
    pub(super) async fn run(mut self, mut pieces: mpsc::Receiver<Out>) -> Result<()> {
        loop {
            let Ok(out) = timeout(TICK, pieces.recv()).await else {
                self.tick().await?;
                continue;
            };
            match out {
                None => return Ok(()),
                Some(Out::Header(bytes)) => self.header = bytes,
                Some(Out::Rdb(bytes)) => {
                    self.begin().await?;
                    self.keep_end_of(bytes).await?;
                }
                Some(Out::RdbEnd) => {
                    self.begin().await?;
                    self.flush().await?;
                    self.idle = Idle::Ping;
                }
                Some(Out::Commands(bytes, is_whole)) => {
                    self.idle = if is_whole { Idle::Ping } else { Idle::Nothing };
                    self.keep_end_of(bytes).await?;
                }
                Some(Out::End(answer)) => {
                    self.flush().await?;
                    self.idle = Idle::Nothing;
                    let _ = answer.send(self.ping_bytes);
                }
            }
        }
    }

    /// Announces the RDB, if that is not done.
    async fn begin(&mut self) -> Result<()> {
        self.idle = Idle::Nothing;
        let header = std::mem::take(&mut self.header);
        self.write(&header).await
    }

    /// Sends what was held back, and what came but for its end.
    async fn keep_end_of(&mut self, bytes: impl Deref<Target = [u8]>) -> Result<()> {
        self.flush().await?;
        let sent = bytes.len().saturating_sub(KEPT_BYTES);
        self.write(exact::first(&bytes, sent)).await?;
        self.kept.extend_from_slice(exact::last(&bytes, KEPT_BYTES));
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let kept = std::mem::take(&mut self.kept);
        self.write(&kept).await
    }

    /// Shows that we are there.
    async fn tick(&mut self) -> Result<()> {
        if !self.kept.is_empty() {
            let byte = self.kept.remove(0);
            return self.write(&[byte]).await;
        }
        match self.idle {
            Idle::Newline => self.write(b"\n").await,
            Idle::Nothing => Ok(()),
            Idle::Ping => {
                let mut ping = Vec::new();
                resp::encode(&[b"PING"], &mut ping);
                self.ping_bytes = self.ping_bytes.saturating_add(exact::u64_from(ping.len()));
                self.write(&ping).await
            }
        }
    }

    async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match timeout(TICK, self.write.write(bytes)).await {
                Ok(Ok(0)) => return Err(left()),
                Ok(Ok(count)) => {
                    bytes = exact::part(bytes, count.., "no more is written than there is");
                    self.state.move_on();
                }
                Ok(Err(error)) => return Err(left().with_cause(error)),
                Err(_) => self.state.is_moving()?,
            }
        }
        Ok(())
    }
}
