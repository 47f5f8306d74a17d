//! Sends commands without waiting for each reply, and sorts the replies as they come.
//!
//! One task writes, another reads, so neither side can block the other for good. The window is bounded: so many
//! commands without a reply, and what the server and the kernel take of the bytes.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::connection::{Connection, closed};
use super::load::{Conflict, Sent, Tally, name};
use super::resp::{self, Reply};
use super::transport::Transport;
use crate::error::{Context, Error, ErrorKind, Result};

/// Commands without a reply at most.
const WINDOW: usize = 4096;

/// A connection on which commands run ahead of their replies.
#[derive(Debug)]
pub(super) struct Pipeline {
    write: WriteHalf<Transport>,
    waiting: mpsc::Sender<Sent>,
    reader: AbortOnDropHandle<Result<Tally>>,
}

impl Pipeline {
    /// Takes a connection over.
    pub(super) fn start(connection: Connection, conflict: Option<Conflict>) -> Self {
        let (read, write) = tokio::io::split(connection.into_transport());
        let (waiting, sent) = mpsc::channel(WINDOW);
        let reader = AbortOnDropHandle::new(tokio::spawn(read_replies(read, sent, conflict)));
        Self { write, waiting, reader }
    }

    /// Sends commands; `sent` says what their replies belong to. Both are empty afterwards.
    pub(super) async fn send(&mut self, out: &mut Vec<u8>, sent: &mut Vec<Sent>) -> Result<()> {
        for one in sent.drain(..) {
            if let Err(mpsc::error::TrySendError::Full(one)) = self.waiting.try_send(one) {
                // What was announced before must be with the server, or its replies never come.
                if !self.push(out).await? {
                    break;
                }
                if self.waiting.send(one).await.is_err() {
                    break;
                }
            }
        }
        if self.waiting.is_closed() || !self.push(out).await? {
            return Err(self.failure().await);
        }
        Ok(())
    }

    /// Returns whether the server took the bytes.
    async fn push(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        let taken = self.write.write_all(out).await.is_ok() && self.write.flush().await.is_ok();
        out.clear();
        Ok(taken)
    }

    /// Why the reader ended.
    async fn failure(&mut self) -> Error {
        match (&mut self.reader).await {
            Ok(Err(error)) => error,
            Ok(Ok(_)) | Err(_) => closed(),
        }
    }

    /// Waits for the replies that are still to come.
    pub(super) async fn finish(self) -> Result<Tally> {
        let Self { write, waiting, reader } = self;
        drop(waiting);
        let tally = reader
            .await
            .map_err(|e| Error::new(ErrorKind::Other, "the reader of replies failed").with_cause(e))?;
        drop(write);
        tally
    }
}

async fn read_replies(
    mut read: ReadHalf<Transport>,
    mut sent: mpsc::Receiver<Sent>,
    conflict: Option<Conflict>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let (mut buffer, mut at) = (Vec::with_capacity(64 << 10), 0);
    let mut batch = VecDeque::new();
    loop {
        let Some(one) = batch.pop_front() else {
            let Some(one) = sent.recv().await else {
                return Ok(tally);
            };
            batch.push_back(one);
            while batch.len() < 256 {
                let Ok(more) = sent.try_recv() else { break };
                batch.push_back(more);
            }
            continue;
        };
        let reply = loop {
            if let Some((reply, used)) = resp::decode(buffer.get(at..).unwrap_or_default())? {
                at += used;
                break reply;
            }
            buffer.drain(..at);
            at = 0;
            if read.read_buf(&mut buffer).await.context("read replies")? == 0 {
                return Err(closed().context(format!(
                    "the server ended the connection after {} keys had been restored",
                    tally.restored
                )));
            }
        };
        count(&mut tally, one, reply, conflict)?;
    }
}

/// Sorts one reply.
fn count(tally: &mut Tally, one: Sent, reply: Reply, conflict: Option<Conflict>) -> Result<()> {
    let error = match reply {
        Reply::Error(text) => Some(text),
        _ => None,
    };
    match (one, error) {
        (Sent::Key(..), None) => tally.restored += 1,
        (Sent::Function, None) => tally.functions += 1,
        (Sent::Select(_), None) => {}
        (Sent::Select(number), Some(text)) => {
            return Err(resp::server_error(&text).context(format!("choose database {number}")));
        }
        (Sent::Key(..), Some(text)) if text.starts_with("BUSYKEY") && conflict == Some(Conflict::Skip) => {
            tally.skipped += 1;
        }
        (Sent::Function, Some(text)) if text.contains("already exists") && conflict == Some(Conflict::Skip) => {
            tally.skipped += 1;
        }
        (Sent::Key(_, _, ordinal), Some(text)) if not_understood(&text) && tally.again(ordinal) => {}
        (Sent::Key(database, key, _), Some(text)) => {
            let advice = advice(&text);
            tally.fail("key", name(database, &key), text, advice);
        }
        (Sent::Function, Some(text)) => {
            let advice = advice(&text);
            tally.fail("function", "library".to_owned(), text, advice);
        }
    }
    Ok(())
}

/// Returns whether the target does not know the encoding of a payload.
fn not_understood(text: &str) -> bool {
    text.contains("version or checksum") || text.contains("Bad data format")
}

fn advice(text: &str) -> &'static str {
    match text.split_whitespace().next().unwrap_or_default() {
        "OOM" => "Raise maxmemory of the target and restore again with --conflict skip.",
        "BUSYKEY" => "Choose with --conflict replace or skip what becomes of it.",
        "NOPERM" => "Give the user the right to RESTORE, SELECT and FUNCTION LOAD on all keys.",
        "MOVED" | "ASK" | "CROSSSLOT" => {
            "The target is a node of a cluster; restore into the node that serves the slot."
        }
        _ if not_understood(text) => {
            "The target does not know this encoding; restore into the version of the backup or a later one."
        }
        _ if text.contains("unknown command") => "The target is too old for it.",
        _ => "See the log of the target.",
    }
}
