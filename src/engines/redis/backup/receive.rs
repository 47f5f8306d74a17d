//! Takes an RDB off the wire into an archive, walking it in passing.
//!
//! The server is read as long as the archive takes chunks. If it takes none for `max_hold`, because the store has
//! stalled, the rest goes through a spool file, at most `spool_limit` bytes, so that the server is never left waiting:
//! it drops a replica that is silent for `repl-timeout` (60 s), and holds its forked child meanwhile. Memory: three read
//! buffers beside the chunk being filled.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::psync::Framing;
use super::sieve::Sieve;
use crate::archive::{ArchiveWriter, ChunkBuffer, ChunkFacts};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::{Note, SharedReporter};
use crate::engines::redis::session::connection::{Connection, closed};
use crate::engines::redis::spool::Spool;
use crate::engines::redis::wire::rdb::walk::State;
use crate::engines::redis::wire::rdb::{Census, Counter, Flavour, Walker};

/// Bytes read from the spool file at once.
const READ_BYTES: usize = 256 << 10;

/// Bounds on a store that stalls.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// How long the server may wait for us.
    pub(crate) max_hold: Duration,
    /// Bytes that may be spooled; 0 fails instead.
    pub(crate) spool_limit: u64,
    /// Where the spool file is made.
    pub(crate) spool_dir: PathBuf,
}

/// What came.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: u64,
    pub(crate) chunks: u32,
    pub(crate) census: Census,
    pub(crate) version: u16,
    pub(crate) valkey: bool,
    /// What could not be understood; then the census is that of the part before.
    pub(crate) unknown: Option<String>,
    /// Whether the server keeps CRC64s.
    pub(crate) has_crc: bool,
    /// Bytes that went through the spool file.
    pub(crate) spooled: u64,
    /// Keys of other databases, where one alone is wanted.
    pub(crate) others: u64,
}

/// Fills chunks of one stream.
pub(crate) struct Chunks<'a> {
    writer: &'a ArchiveWriter,
    prefix: &'a str,
    open: Option<ChunkBuffer>,
    number: u32,
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(writer: &'a ArchiveWriter, prefix: &'a str) -> Self {
        Self {
            writer,
            prefix,
            open: None,
            number: 0,
        }
    }

    /// Appends all of it, waiting for the archive.
    pub(crate) async fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.open.is_none() {
                self.open = Some(self.writer.chunk_buffer().await?);
            }
            let used = self.append(bytes).await?;
            bytes = exact::part(bytes, used.., "no more is appended than there is");
        }
        Ok(())
    }

    /// Submits what is left; returns how many chunks there are.
    pub(crate) async fn finish(mut self) -> Result<u32> {
        self.submit().await?;
        Ok(self.number)
    }

    /// Appends as much as fits into the open chunk and submits it when it is full; returns how much that was.
    async fn append(&mut self, bytes: &[u8]) -> Result<usize> {
        let Some(chunk) = &mut self.open else { return Ok(0) };
        let piece = exact::first(bytes, chunk.room());
        let count = piece.len();
        chunk.extend(piece);
        if chunk.room() == 0 {
            self.submit().await?;
        }
        Ok(count)
    }

    async fn submit(&mut self) -> Result<()> {
        if let Some(chunk) = self.open.take().filter(|chunk| !chunk.data().is_empty()) {
            let facts = ChunkFacts {
                starts_row: true,
                ..ChunkFacts::default()
            };
            self.writer.submit_chunk(self.prefix, self.number, chunk, facts).await?;
            self.number = self
                .number
                .checked_add(1)
                .ok_or_else(|| Error::invalid("too many chunks"))?;
        }
        Ok(())
    }
}

/// Finds the end of the RDB while its bytes pass.
struct Ender {
    walker: Walker,
    counter: Counter,
    /// Takes the place of the counter where one database alone is wanted.
    sieve: Option<Sieve>,
    framing: Framing,
    /// Bytes of the RDB that came.
    bytes: u64,
    /// Bytes of it that are stored.
    stored: u64,
    /// Bytes of the mark that came, once the RDB is over.
    mark: Vec<u8>,
    over: bool,
    /// The end of what the sieve leaves is written.
    cut: bool,
    /// Where the bytes are not understood: the last ones, in which the mark may have begun.
    held: Vec<u8>,
}

impl Ender {
    fn new(framing: Framing, only: Option<u32>) -> Self {
        Self {
            walker: Walker::new(),
            counter: Counter::default(),
            sieve: only.map(Sieve::new),
            framing,
            bytes: 0,
            stored: 0,
            mark: Vec::new(),
            over: false,
            cut: false,
            held: Vec::new(),
        }
    }

    /// Takes a piece; returns what of the RDB is sure by now.
    fn take<'a>(&mut self, piece: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        let limited = match self.framing {
            Framing::Mark(_) => piece,
            Framing::Length(length) => {
                let left = exact::usize_from(length.saturating_sub(self.bytes));
                exact::first(piece, left)
            }
        };
        let used = match &mut self.sieve {
            Some(sieve) => self.walker.feed(limited, sieve)?,
            None => self.walker.feed(limited, &mut self.counter)?,
        };
        let sure = match self.walker.state() {
            State::Opaque => self.opaque(limited),
            State::Walking => Cow::Borrowed(limited),
            State::Done => {
                let (sure, rest) = piece
                    .split_at_checked(used)
                    .ok_or_else(|| Error::corrupt("the end of the RDB lies elsewhere"))?;
                self.ending(rest)?;
                Cow::Borrowed(sure)
            }
        };
        self.bytes = self.bytes.saturating_add(exact::u64_from(sure.len()));
        if let Framing::Length(length) = self.framing {
            let done = self.walker.state() == State::Done;
            if done && self.bytes != length {
                return Err(Error::corrupt(format!(
                    "the RDB ends after {} of the {length} bytes that were announced",
                    self.bytes
                )));
            }
            self.over = self.bytes == length;
        }
        if self.over {
            match &mut self.sieve {
                Some(sieve) => self.walker.end(sieve)?,
                None => self.walker.end(&mut self.counter)?,
            }
        }
        let sure = match &mut self.sieve {
            None => sure,
            Some(_) if self.walker.state() == State::Opaque => {
                let unknown = self.walker.unknown().unwrap_or("something unknown");
                return Err(not_cut(unknown));
            }
            Some(sieve) => {
                // The walk is done once, and so is the end written.
                let over = self.walker.state() == State::Done && !std::mem::replace(&mut self.cut, true);
                self.cut = self.walker.state() == State::Done;
                Cow::Owned(sieve.ready(self.walker.flavour(), self.walker.version(), over))
            }
        };
        self.stored = self.stored.saturating_add(exact::u64_from(sure.len()));
        Ok(sure)
    }

    /// Returns the keys so far.
    fn keys(&self) -> u64 {
        match &self.sieve {
            Some(sieve) => sieve.counter.keys(),
            None => self.counter.keys(),
        }
    }

    /// Compares what follows the RDB with the mark.
    fn ending(&mut self, rest: &[u8]) -> Result<()> {
        let Framing::Mark(mark) = self.framing else {
            return Ok(());
        };
        let missing = mark.len() - self.mark.len();
        self.mark.extend_from_slice(exact::first(rest, missing));
        if !mark.starts_with(&self.mark) {
            return Err(Error::corrupt("the RDB is not followed by the mark that was announced"));
        }
        self.over = self.mark.len() == mark.len();
        Ok(())
    }

    /// Without understanding, the mark is searched for, and what may begin it is held back.
    fn opaque<'a>(&mut self, piece: &'a [u8]) -> Cow<'a, [u8]> {
        let Framing::Mark(mark) = self.framing else {
            self.walker.feed_opaque(piece);
            return Cow::Borrowed(piece);
        };
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(piece);
        let found = joined.windows(mark.len()).position(|window| window == mark);
        let sure = found.unwrap_or(joined.len().saturating_sub(mark.len() - 1));
        self.held = joined.split_off(sure);
        self.over = found.is_some();
        self.walker.feed_opaque(&joined);
        Cow::Owned(joined)
    }
}

/// Receives one RDB as the chunks of stream `prefix`.
pub(crate) async fn receive(
    connection: Connection,
    framing: Framing,
    writer: &ArchiveWriter,
    (prefix, only): (&str, Option<u32>),
    hold: &Bounds,
    (task, reporter): (&str, &SharedReporter),
    cancel: &CancellationToken,
) -> Result<Received> {
    let mut ender = Ender::new(framing, only);
    let mut chunks = Chunks::new(writer, prefix);
    let mut spool: Option<Spool> = None;
    let mut spooled = 0;
    let mut incoming = connection.into_incoming()?;
    let mut counted = 0;
    while !ender.over {
        let piece = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::new(ErrorKind::Cancelled, "cancelled")),
            chunk = writer.chunk_buffer(), if chunks.open.is_none() && spool.as_ref().is_some_and(|s| !s.is_empty()) => {
                chunks.open = Some(chunk?);
                drain(&mut chunks, spool.as_mut()).await?;
                continue;
            }
            piece = incoming.next() => piece?,
        };
        if piece.is_empty() {
            return Err(ended(&ender));
        }
        let sure = ender.take(&piece)?;
        // Keys that were counted are not believed any more where a value of a young type has another form than guessed.
        let found = ender.keys().saturating_sub(counted);
        reporter.advance(task, exact::u64_from(sure.len()), found);
        counted = ender.keys();
        let mut rest: &[u8] = &sure;
        while !rest.is_empty() {
            let waits = spool.as_ref().is_some_and(|spool| !spool.is_empty());
            if !waits && chunks.open.is_none() {
                chunks.open = match tokio::time::timeout(hold.max_hold, writer.chunk_buffer()).await {
                    Ok(chunk) => Some(chunk?),
                    Err(_) => None,
                };
            }
            if waits || chunks.open.is_none() {
                let spool = match &mut spool {
                    Some(spool) => spool,
                    none => none.insert(open_spool(hold, task, reporter)?),
                };
                spooled += exact::u64_from(rest.len());
                if spool.end().saturating_add(exact::u64_from(rest.len())) > hold.spool_limit {
                    return Err(stalled(hold));
                }
                tokio::task::block_in_place(|| spool.push(rest))?;
                break;
            }
            let used = chunks.append(rest).await?;
            rest = exact::part(rest, used.., "no more is appended than there is");
        }
        drop(sure);
        incoming.done(piece);
    }
    drop(incoming);
    while spool.as_ref().is_some_and(|spool| !spool.is_empty()) {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::new(ErrorKind::Cancelled, "cancelled")),
            chunk = writer.chunk_buffer(), if chunks.open.is_none() => chunks.open = Some(chunk?),
            () = std::future::ready(()), if chunks.open.is_some() => {}
        }
        drain(&mut chunks, spool.as_mut()).await?;
    }
    chunks.submit().await?;
    Ok(Received {
        others: ender.sieve.as_ref().map_or(0, |sieve| sieve.others),
        bytes: ender.stored,
        chunks: chunks.number,
        version: ender.walker.version(),
        valkey: ender.walker.flavour() == Flavour::Valkey,
        unknown: ender.walker.unknown().map(str::to_owned),
        has_crc: ender.walker.stored_crc() != 0,
        census: match ender.sieve {
            Some(sieve) => sieve.counter.finish(),
            None => ender.counter.finish(),
        },
        spooled,
    })
}

/// The error of an RDB that one database cannot be cut out of.
fn not_cut(unknown: &str) -> Error {
    Error::unsupported(format!("one database cannot be cut out of an RDB that holds {unknown}")).with_hint(
        "?method=scan reads its keys one by one; without the number in the URL the whole server is backed up.",
    )
}

/// Fills the open chunk from the spool file.
async fn drain(chunks: &mut Chunks<'_>, spool: Option<&mut Spool>) -> Result<()> {
    let Some(spool) = spool else { return Ok(()) };
    let mut buffer = vec![0; READ_BYTES];
    while let Some(room) = chunks.open.as_ref().map(ChunkBuffer::room) {
        let piece = exact::first_mut(&mut buffer, room);
        let count = tokio::task::block_in_place(|| spool.pull(piece))?;
        if count == 0 {
            return Ok(());
        }
        chunks.append(exact::filled(piece, count)).await?;
    }
    Ok(())
}

fn open_spool(hold: &Bounds, task: &str, reporter: &SharedReporter) -> Result<Spool> {
    if hold.spool_limit == 0 {
        return Err(stalled(hold));
    }
    let message = format!(
        "the store accepted no data for {} s; the rest goes through a spool file in \"{}\"",
        hold.max_hold.as_secs(),
        hold.spool_dir.display()
    );
    reporter.note(task, Note::new("spooled", "dump.rdb", message));
    tokio::task::block_in_place(|| Spool::create(&hold.spool_dir))
}

fn stalled(hold: &Bounds) -> Error {
    Error::new(
        ErrorKind::LimitExceeded,
        format!(
            "the store takes data more slowly than the server may wait, and {} MiB of spool file are full",
            hold.spool_limit >> 20
        ),
    )
    .with_hint("Raise spool_limit, or use a store that takes the data faster.")
}

fn ended(ender: &Ender) -> Error {
    let announced = match ender.framing {
        Framing::Length(length) => format!(" of {length}"),
        Framing::Mark(_) => String::new(),
    };
    closed().context(format!("the RDB was cut short after {}{announced} bytes", ender.bytes))
}
