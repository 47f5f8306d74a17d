//! Sends commands without waiting for each reply, and sorts the replies as they come.
//!
//! One thread writes, another reads, so neither side can block the other for good, and the walk that makes the commands
//! goes on meanwhile: the server's one thread, whose work a restore mostly is, never waits for us. Both block in the
//! socket itself; the reader naps before it reads, because a server that wakes somebody for each of its small writes
//! spends a tenth of its time on that. The window is bounded: so many keys without a reply, three buffers of commands,
//! and what the server and the kernel take of the bytes.
//!
//! Nothing goes behind a SELECT before the server said OK to it: keys would be in another database. A server that owes an
//! answer and neither takes nor sends anything for `read_timeout` is given up.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::restore::load::{Conflict, Group, Sent, Tally};
use crate::engines::redis::restore::route::Redirects;
use crate::engines::redis::session::address::RedisAddress;
use crate::engines::redis::session::blocking_stream::{BlockingStream, Breaker, Waits, has_waited};
use crate::engines::redis::session::connection::{Connection, closed, silent};
use crate::engines::redis::wire::key_name::name;
use crate::engines::redis::wire::resp;
use crate::engines::redis::wire::resp::Reply;

/// Keys without a reply at most, over all nodes; of one node, at least so many.
const WINDOW: usize = 16 << 10;
const NODE_WINDOW: usize = 256;

/// A buffer of commands that grew beyond this is not used again, in bytes.
const KEPT_BYTES: usize = 1 << 20;

/// How often a thread that waits for replies looks whether the server is given up, at least.
const LOOK: Duration = Duration::from_secs(1);

/// Bytes that are written at once; the server has its time for each of them.
const WRITE_BYTES: usize = 64 << 10;

/// Commands on their way to the writer.
pub(crate) struct Batch {
    pub(crate) out: Vec<u8>,
    pub(crate) sent: Vec<Sent>,
    /// Where commands end whose replies must be there before anything follows.
    pub(crate) cuts: Vec<usize>,
    /// The last command goes on in the next batch.
    pub(crate) open: bool,
}

/// Commands whose replies are still to come, and how much of the window they hold.
struct Waiting {
    sent: Vec<Sent>,
    window: usize,
}

/// A connection on which commands run ahead of their replies.
#[derive(Debug)]
pub(crate) struct Pipeline {
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
pub(crate) struct Meaning {
    pub(crate) conflict: Option<Conflict>,
    /// Where a node of a cluster sends us on, and that node; nothing if keys that it does not take have failed.
    pub(crate) redirects: Option<(Redirects, RedisAddress)>,
    /// Nodes that share the window.
    pub(crate) nodes: usize,
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
    /// A permit for each SELECT that the server said OK to.
    selected: Semaphore,
    /// How long the server may be silent.
    bound: Duration,
    began: Instant,
    /// When bytes went or came last, in milliseconds since then.
    moved_ms: AtomicU64,
    /// The server has all of the commands whose replies are waited for.
    owes: AtomicBool,
    /// It took nothing for too long.
    silent: AtomicBool,
}

impl Stop {
    fn stop(&self) {
        self.window.close();
        self.selected.close();
        self.breaker.end();
    }

    fn now_ms(&self) -> u64 {
        exact::saturating_ms(self.began.elapsed())
    }

    /// Notes that bytes went or came.
    fn moved(&self) {
        self.moved_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Returns whether the server is given up: it owes an answer, and nothing went or came for too long.
    fn is_silent(&self) -> bool {
        let since = self.now_ms().saturating_sub(self.moved_ms.load(Ordering::Relaxed));
        let bound = exact::saturating_ms(self.bound);
        self.silent.load(Ordering::Relaxed) || (self.owes.load(Ordering::Relaxed) && since >= bound)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

impl Pipeline {
    /// Takes a connection over.
    pub(crate) fn start(connection: Connection, meaning: Meaning) -> Result<Self> {
        let most = (WINDOW / meaning.nodes.max(1)).max(NODE_WINDOW);
        let bound = connection.read_timeout();
        let waits = Waits {
            read: Some(LOOK.min(bound)),
            write: Some(bound),
        };
        let BlockingStream {
            read,
            write,
            breaker,
            nap,
        } = BlockingStream::of(connection.into_transport(), waits)?;
        let stop = Arc::new(Stop {
            window: Semaphore::new(most),
            most,
            breaker,
            selected: Semaphore::new(0),
            bound,
            began: Instant::now(),
            moved_ms: AtomicU64::new(0),
            owes: AtomicBool::new(false),
            silent: AtomicBool::new(false),
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

    /// Sends commands. Returns a buffer to be filled again.
    pub(crate) async fn send(&mut self, batch: Batch) -> Result<Vec<u8>> {
        let taken = match &self.batches {
            Some(batches) => batches.send(batch).await.is_ok(),
            None => false,
        };
        if !taken {
            return Err(self.failure().await);
        }
        Ok(self.empty.try_recv().unwrap_or_default())
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
    pub(crate) async fn finish(mut self) -> Result<Tally> {
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
    while let Some(Batch {
        mut out,
        sent,
        cuts,
        open,
    }) = batches.blocking_recv()
    {
        // Whatever is waited for here is with the server already, so its replies come.
        let keys: usize = sent.iter().map(Sent::keys).sum();
        let window = keys.min(stop.most);
        let permits = stop
            .window
            .acquire_many(exact::known(window, "it is no larger than the window"));
        handle.block_on(permits).map_err(|_| closed())?.forget();
        if waiting.send(Waiting { sent, window }).is_err() {
            return Err(closed());
        }
        let mut from = 0;
        for cut in cuts {
            put(
                &mut write,
                exact::part(&out, from..cut, "cuts lie within the batch, in their order"),
                stop,
            )?;
            from = cut;
            stop.owes.store(true, Ordering::Relaxed);
            handle.block_on(stop.selected.acquire()).map_err(|_| closed())?.forget();
        }
        put(&mut write, exact::part(&out, from.., "cuts lie within the batch"), stop)?;
        stop.owes.store(!open, Ordering::Relaxed);
        if out.capacity() <= KEPT_BYTES {
            out.clear();
            let _ = empty.send(out);
        }
    }
    Ok(())
}

/// Writes bytes as the server takes them.
fn put(write: &mut Box<dyn Write + Send>, bytes: &[u8], stop: &Stop) -> Result<()> {
    let mut put = |piece: &[u8]| {
        write.write_all(piece)?;
        write.flush()
    };
    for piece in bytes.chunks(WRITE_BYTES) {
        let written = put(piece);
        if written.as_ref().is_err_and(has_waited) {
            stop.silent.store(true, Ordering::Relaxed);
            return Err(silent(stop.bound));
        }
        written.context("send commands")?;
        stop.moved();
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
                if let Some((reply, used)) =
                    resp::decode(exact::part(&buffer, at..end, "no more is decoded than was read"))?
                {
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
                let count = match read.read(exact::part_mut(&mut buffer, end.., "a read ends within it")) {
                    Err(error) if has_waited(&error) && !stop.is_silent() => continue,
                    Err(error) if has_waited(&error) => return Err(given_up(&tally, stop)),
                    Ok(0) if stop.is_silent() => return Err(given_up(&tally, stop)),
                    count => count.context("read replies")?,
                };
                if count == 0 {
                    return Err(closed().context(format!(
                        "the server ended the connection after {} keys had been restored",
                        tally.restored
                    )));
                }
                stop.moved();
                end += count;
            };
            let selects = matches!(one, Sent::Select(_));
            count(&mut tally, one, reply, meaning)?;
            if selects {
                stop.selected.add_permits(1);
            }
        }
        stop.window.add_permits(window);
    }
    Ok(tally)
}

/// The error of a server that hangs.
fn given_up(tally: &Tally, stop: &Stop) -> Error {
    let context = format!("gave up on the server after {} keys had been restored", tally.restored);
    silent(stop.bound)
        .context(context)
        .with_hint("Check the server and the network, then restore the rest with --conflict skip.")
}

/// Sorts one reply.
fn count(tally: &mut Tally, one: Sent, reply: Reply, meaning: &Meaning) -> Result<()> {
    let conflict = meaning.conflict;
    let (error, number) = match reply {
        Reply::Error(text) => (Some(text), None),
        Reply::Simple(text) if text == "OK" => (None, None),
        // Whatever else a SELECT is answered by, it is no OK.
        other if matches!(one, Sent::Select(_)) => (Some(format!("{other:?}")), None),
        Reply::Integer(number) => (None, Some(number)),
        _ => (None, None),
    };
    match (one, error) {
        (Sent::Group(group), None) if number == Some(1) => tally.restored += group.len(),
        (Sent::Group(group), error) => not_set(tally, &group, error),
        (Sent::Key(..), None) => tally.restored += 1,
        (Sent::Function(_, node), None) => tally.functions += u64::from(node == 0),
        // If it is not taken, the reply to the key tells.
        (Sent::Asking, _) | (Sent::Select(_), None) => {}
        (Sent::Select(number), Some(text)) => {
            return Err(resp::server_error(&text).context(format!("choose database {number}")));
        }
        (Sent::Key(..), Some(text)) if text.starts_with("BUSYKEY") && conflict == Some(Conflict::Skip) => {
            tally.skipped += 1;
        }
        (Sent::Function(_, node), Some(text))
            if text.contains("already exists") && conflict == Some(Conflict::Skip) =>
        {
            tally.skipped += u64::from(node == 0);
        }
        (Sent::Key(_, _, ordinal), Some(text)) if meaning.elsewhere(&text) && tally.moved(ordinal) => {}
        (Sent::Key(_, _, ordinal), Some(text)) if not_understood(&text) && tally.again(ordinal) => {}
        (Sent::Key(database, key, ordinal), Some(text)) => {
            if text.starts_with("BUSYKEY") {
                tally.taken(ordinal);
            }
            let advice = advice(&text);
            tally.fail("key", name(database, &key), text, advice);
        }
        (Sent::Function(library, _), Some(text)) => {
            let advice = advice(&text);
            tally.fail("function", format!("library \"{library}\""), text, advice);
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
            if !full {
                tally.taken(ordinal);
            }
            tally.fail("key", name(group.database, key), text.clone(), advice(&text));
        }
    }
}

/// Returns whether the target does not know the encoding of a payload.
fn not_understood(text: &str) -> bool {
    text.contains("version or checksum") || text.contains("Bad data format")
}

/// What to do about a key whose slot has moved.
pub(crate) const MOVED: &str =
    "Slots of the cluster were migrating; restore again with --conflict skip when that is finished.";

/// What to do about an error that a target answers to a key.
pub(crate) fn advice(text: &str) -> &'static str {
    match text.split_whitespace().next().unwrap_or_default() {
        "OOM" => "Raise maxmemory of the target and restore again with --conflict skip.",
        "BUSYKEY" => "Use --conflict replace or --conflict skip.",
        "NOPERM" => "Give the user permission for RESTORE, SELECT and FUNCTION LOAD on all keys.",
        "MOVED" | "ASK" | "CLUSTERDOWN" => MOVED,
        _ if not_understood(text) => {
            "The target does not know this encoding; restore into the version of the backup or a later one."
        }
        _ if text.contains("already exists") => "Use --conflict replace or --conflict skip.",
        _ if text.contains("unknown command") => "The target is too old for it, or does not offer it.",
        _ => "See the log of the target.",
    }
}
