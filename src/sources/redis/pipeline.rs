//! Sends commands without waiting for each reply, and sorts the replies as they come.
//!
//! One thread writes, another reads, so neither side can block the other for good, and the walk that makes the commands
//! goes on meanwhile: the server's one thread, whose work a restore mostly is, never waits for us. Both block in the
//! socket itself; the reader naps before it reads, because a server that wakes somebody for each of its small writes
//! spends a tenth of its time on that. The window is bounded: so many keys without a reply, three buffers of commands,
//! and what the server and the kernel take of the bytes.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::address::RedisAddress;
use super::connection::{Connection, closed};
use super::ends::{Breaker, Ends};
use super::load::{Conflict, Group, Sent, Tally, name};
use super::resp::{self, Reply};
use super::route::Redirects;
use crate::error::{Context, Error, ErrorKind, Result};

/// Keys without a reply at most, over all nodes; of one node, at least so many.
const WINDOW: usize = 16 << 10;
const NODE_WINDOW: usize = 256;

/// A buffer of commands that grew beyond this is not used again, in bytes.
const KEPT_BYTES: usize = 1 << 20;

/// Commands on their way to the writer.
struct Batch {
    out: Vec<u8>,
    sent: Vec<Sent>,
}

/// Commands whose replies are still to come, and how much of the window they hold.
struct Waiting {
    sent: Vec<Sent>,
    window: usize,
}

/// A connection on which commands run ahead of their replies.
#[derive(Debug)]
pub(super) struct Pipeline {
    batches: Option<mpsc::Sender<Batch>>,
    empty: mpsc::UnboundedReceiver<Vec<u8>>,
    writer: JoinHandle<Result<()>>,
    reader: JoinHandle<Result<Tally>>,
    stop: Arc<Stop>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} bytes, {} commands)", self.out.len(), self.sent.len())
    }
}

/// What replies mean.
#[derive(Debug, Clone)]
pub(super) struct Meaning {
    pub(super) conflict: Option<Conflict>,
    /// Where a node of a cluster sends us on, and that node; nothing if keys that it does not take have failed.
    pub(super) redirects: Option<(Redirects, RedisAddress)>,
    /// Nodes that share the window.
    pub(super) nodes: usize,
}

impl Meaning {
    /// Returns whether a key that was refused may find its place in another pass.
    fn elsewhere(&self, error: &str) -> bool {
        let redirects = self.redirects.as_ref();
        redirects.is_some_and(|(redirects, answered)| redirects.note(answered, error))
    }
}

/// Ends both threads wherever they wait.
#[derive(Debug)]
struct Stop {
    window: Semaphore,
    /// Permits of the window.
    most: usize,
    breaker: Breaker,
}

impl Stop {
    fn stop(&self) {
        self.window.close();
        self.breaker.end();
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

impl Pipeline {
    /// Takes a connection over.
    pub(super) fn start(connection: Connection, meaning: Meaning) -> Result<Self> {
        let most = (WINDOW / meaning.nodes.max(1)).max(NODE_WINDOW);
        let Ends {
            read,
            write,
            breaker,
            nap,
        } = Ends::of(connection.into_transport())?;
        let stop = Arc::new(Stop {
            window: Semaphore::new(most),
            most,
            breaker,
        });
        let (batches, to_write) = mpsc::channel(1);
        let (to_fill, empty) = mpsc::unbounded_channel();
        let (waiting, to_read) = mpsc::unbounded_channel();
        let (handle, bound) = (Handle::current(), Arc::clone(&stop));
        let writer = tokio::task::spawn_blocking(move || {
            let written = write_batches(write, to_write, &waiting, &to_fill, &bound, &handle);
            if written.is_err() {
                bound.stop();
            }
            written
        });
        let bound = Arc::clone(&stop);
        let reader = tokio::task::spawn_blocking(move || {
            let tally = read_replies((read, nap), to_read, &meaning, &bound);
            if tally.is_err() {
                bound.stop();
            }
            tally
        });
        Ok(Self {
            batches: Some(batches),
            empty,
            writer,
            reader,
            stop,
        })
    }

    /// Sends commands; `sent` says what their replies belong to. Both are empty afterwards.
    pub(super) async fn send(&mut self, out: &mut Vec<u8>, sent: &mut Vec<Sent>) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let batch = Batch {
            out: std::mem::take(out),
            sent: std::mem::take(sent),
        };
        let taken = match &self.batches {
            Some(batches) => batches.send(batch).await.is_ok(),
            None => false,
        };
        if !taken {
            return Err(self.failure().await);
        }
        *out = self.empty.try_recv().unwrap_or_default();
        Ok(())
    }

    /// Why the threads ended: the reader knows best, since a server says why it closes a connection.
    async fn failure(&mut self) -> Error {
        self.batches = None;
        match (&mut self.reader).await {
            Ok(Err(error)) => error,
            Ok(Ok(_)) | Err(_) => match (&mut self.writer).await {
                Ok(Err(error)) => error,
                Ok(Ok(())) | Err(_) => closed(),
            },
        }
    }

    /// Waits for the replies that are still to come.
    pub(super) async fn finish(mut self) -> Result<Tally> {
        self.batches = None;
        let lost = |e| Error::new(ErrorKind::Other, "a thread of the connection failed").with_cause(e);
        let tally = (&mut self.reader).await.map_err(lost)??;
        (&mut self.writer).await.map_err(lost)??;
        Ok(tally)
    }
}

fn write_batches(
    mut write: Box<dyn Write + Send>,
    mut batches: mpsc::Receiver<Batch>,
    waiting: &mpsc::UnboundedSender<Waiting>,
    empty: &mpsc::UnboundedSender<Vec<u8>>,
    stop: &Stop,
    handle: &Handle,
) -> Result<()> {
    while let Some(Batch { mut out, sent }) = batches.blocking_recv() {
        // Whatever is waited for here is with the server already, so its replies come.
        let keys: usize = sent.iter().map(Sent::keys).sum();
        let window = keys.min(stop.most);
        let permits = stop.window.acquire_many(u32::try_from(window).unwrap_or(u32::MAX));
        handle.block_on(permits).map_err(|_| closed())?.forget();
        if waiting.send(Waiting { sent, window }).is_err() {
            return Err(closed());
        }
        write.write_all(&out).context("send commands")?;
        write.flush().context("send commands")?;
        if out.capacity() <= KEPT_BYTES {
            out.clear();
            let _ = empty.send(out);
        }
    }
    Ok(())
}

fn read_replies(
    (mut read, nap): (Box<dyn Read + Send>, Duration),
    mut waiting: mpsc::UnboundedReceiver<Waiting>,
    meaning: &Meaning,
    stop: &Stop,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut buffer = vec![0; 64 << 10];
    let (mut at, mut end) = (0, 0);
    while let Some(Waiting { sent, window }) = waiting.blocking_recv() {
        for one in sent {
            let reply = loop {
                if let Some((reply, used)) = resp::decode(buffer.get(at..end).unwrap_or_default())? {
                    at += used;
                    break reply;
                }
                buffer.copy_within(at..end, 0);
                (at, end) = (0, end - at);
                if end == buffer.len() {
                    buffer.resize(2 * end, 0);
                }
                if !nap.is_zero() {
                    std::thread::sleep(nap);
                }
                let count = read.read(buffer.get_mut(end..).unwrap_or_default());
                end += match count.context("read replies")? {
                    0 => {
                        return Err(closed().context(format!(
                            "the server ended the connection after {} keys had been restored",
                            tally.restored
                        )));
                    }
                    count => count,
                };
            };
            count(&mut tally, one, reply, meaning)?;
        }
        stop.window.add_permits(window);
    }
    Ok(tally)
}

/// Sorts one reply.
fn count(tally: &mut Tally, one: Sent, reply: Reply, meaning: &Meaning) -> Result<()> {
    let conflict = meaning.conflict;
    let (error, number) = match reply {
        Reply::Error(text) => (Some(text), None),
        Reply::Integer(number) => (None, Some(number)),
        _ => (None, None),
    };
    match (one, error) {
        (Sent::Group(group), None) if number == Some(1) => tally.restored += group.len(),
        (Sent::Group(group), error) => not_set(tally, &group, error),
        (Sent::Key(..), None) => tally.restored += 1,
        (Sent::Function(node), None) => tally.functions += u64::from(node == 0),
        // If it is not taken, the reply to the key tells.
        (Sent::Asking, _) | (Sent::Select(_), None) => {}
        (Sent::Select(number), Some(text)) => {
            return Err(resp::server_error(&text).context(format!("choose database {number}")));
        }
        (Sent::Key(..), Some(text)) if text.starts_with("BUSYKEY") && conflict == Some(Conflict::Skip) => {
            tally.skipped += 1;
        }
        (Sent::Function(node), Some(text)) if text.contains("already exists") && conflict == Some(Conflict::Skip) => {
            tally.skipped += u64::from(node == 0);
        }
        (Sent::Key(_, _, ordinal), Some(text)) if meaning.elsewhere(&text) && tally.moved(ordinal) => {}
        (Sent::Key(_, _, ordinal), Some(text)) if not_understood(&text) && tally.again(ordinal) => {}
        (Sent::Key(database, key, _), Some(text)) => {
            let advice = advice(&text);
            tally.fail("key", name(database, &key), text, advice);
        }
        (Sent::Function(_), Some(text)) => {
            let advice = advice(&text);
            tally.fail("function", "library".to_owned(), text, advice);
        }
    }
    Ok(())
}

/// None of the keys that were to be set together were. The target got one of them meanwhile, or takes them one by one
/// only: they go again, each by itself. Where it has no memory left, that would not help.
fn not_set(tally: &mut Tally, group: &Group, error: Option<String>) {
    let full = error.as_ref().is_some_and(|text| text.starts_with("OOM"));
    let text = error.unwrap_or_else(|| "BUSYKEY Target key name already exists.".to_owned());
    for (key, ordinal) in group.keys() {
        if full || !tally.again(ordinal) {
            tally.fail("key", name(group.database, key), text.clone(), advice(&text));
        }
    }
}

/// Returns whether the target does not know the encoding of a payload.
fn not_understood(text: &str) -> bool {
    text.contains("version or checksum") || text.contains("Bad data format")
}

/// What to do about a key whose slot has moved.
pub(super) const MOVED: &str =
    "Slots of the cluster were moving; restore again with --conflict skip when they are settled.";

fn advice(text: &str) -> &'static str {
    match text.split_whitespace().next().unwrap_or_default() {
        "OOM" => "Raise maxmemory of the target and restore again with --conflict skip.",
        "BUSYKEY" => "Choose with --conflict replace or skip what becomes of it.",
        "NOPERM" => "Give the user the right to RESTORE, SELECT and FUNCTION LOAD on all keys.",
        "MOVED" | "ASK" | "CLUSTERDOWN" => MOVED,
        _ if not_understood(text) => {
            "The target does not know this encoding; restore into the version of the backup or a later one."
        }
        _ if text.contains("unknown command") => "The target is too old for it.",
        _ => "See the log of the target.",
    }
}
