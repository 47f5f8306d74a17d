//! What of the streams of a source is stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use jiff::Timestamp;

use crate::archive::log::LogReader;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::log::described::Piece;
use crate::engines::redis::log::position::{Position, ReplicationId};
use crate::engines::redis::log::tail::{TAIL_BYTES, Tail};
use crate::repository::{document, layout};
use crate::storage::{ListPage, ObjectKey, ObjectMeta, ObjectOptions, PutMode, SharedStore};

/// Pieces of one source that are looked at, at most: bounds memory, 8 or 16 bytes each.
const MOST_PIECES: usize = 16 << 20;

/// Damaged pieces that a process sets aside, at most: where everything seems damaged, it is not the pieces.
const MOST_DAMAGED: u64 = 16;

/// How many this one has set aside.
static DAMAGED: AtomicU64 = AtomicU64::new(0);

/// Pieces that are read to compare with what a server sends, at most: they may be short.
const MOST_COMPARED: usize = 16;

/// Bytes of a damaged object that is set aside, at most: no piece is as long.
const ASIDE_BYTES: u64 = 32 << 20;

/// The last piece of a history that can be read.
#[derive(Debug, Clone)]
pub(super) struct Newest {
    pub(super) piece: Piece,
    /// Its last bytes, and those of the pieces before it.
    pub(super) tail: Tail,
    /// Whether there were others behind it, which cannot be read.
    pub(super) was_damaged: bool,
}

/// A piece in a listing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    /// The offset where it begins.
    pub(super) from: u64,
    /// Bytes of the object.
    pub(super) stored_bytes: u64,
}

/// A page of a listing of pieces.
#[derive(Debug)]
pub(super) struct PiecePage {
    /// Pieces, and when they were stored.
    pub(super) pieces: Vec<(Listed, Timestamp)>,
    /// Pass it to the next call; None when this was the last page.
    pub(super) next: Option<String>,
}

/// The streams of one source in a repository.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) store: SharedStore,
    pub(super) source: String,
}

impl Streams {
    /// Names those of a source.
    pub(super) fn of(store: &SharedStore, source: &str) -> Self {
        Self {
            store: store.clone(),
            source: source.to_owned(),
        }
    }

    /// Returns where a piece lies.
    pub(super) fn key(&self, id: &ReplicationId, from: u64) -> Result<ObjectKey> {
        layout::commands(&self.source, id.as_str(), from)
    }

    /// Reads what the descriptor of a piece says.
    pub(super) async fn look(&self, id: &ReplicationId, from: u64) -> Result<Piece> {
        let key = self.key(id, from)?;
        let reader = LogReader::look(&self.store, &key).await?;
        described(&key, from, &reader)
    }

    /// Opens a piece whose bytes are wanted.
    pub(super) async fn open(&self, id: &ReplicationId, from: u64) -> Result<(LogReader, Piece)> {
        let key = self.key(id, from)?;
        let reader = LogReader::open(&self.store, &key).await?;
        let piece = described(&key, from, &reader)?;
        Ok((reader, piece))
    }

    /// Returns the last piece of a history that can be read, its bytes included; None where there is none. Damaged ones behind it
    /// are set aside.
    ///
    /// A history may have millions of pieces. So a listing of more than a page is narrowed digit by digit, from the highest on.
    pub(super) async fn newest(&self, id: &ReplicationId) -> Result<Option<Newest>> {
        self.last_before(id, u64::MAX).await
    }

    /// Returns the last bytes that are stored in front of an offset, if they reach up to it.
    pub(super) async fn tail_before(&self, id: &ReplicationId, offset: u64) -> Result<Option<Tail>> {
        let Some(last) = self.last_before(id, offset).await? else {
            return Ok(None);
        };
        let mut tail = last.tail;
        tail.cut(offset);
        Ok(Some(tail).filter(|tail| tail.to() == offset))
    }

    /// As [`Streams::newest`], of the pieces that begin in front of an offset.
    async fn last_before(&self, id: &ReplicationId, below: u64) -> Result<Option<Newest>> {
        let directory = format!("{}{id}/", layout::command_logs(&self.source));
        let (mut waiting, mut was_damaged) = (vec![String::new()], false);
        while let Some(digits) = waiting.pop() {
            if format!("{digits:0<20}")
                .parse::<u64>()
                .is_ok_and(|first| first >= below)
            {
                continue;
            }
            let page = self.list(&format!("{directory}{digits}"), None).await?;
            if page.next.is_some() && digits.len() < 20 {
                waiting.extend((0..10).map(|digit| format!("{digits}{digit}")));
                continue;
            }
            let listed = page.objects.iter().filter_map(|object| Some(self.at(&object.key)?.1));
            let mut listed: Vec<u64> = listed.filter(|from| *from < below).collect();
            while let Some(from) = listed.pop() {
                let error = match self.whole(id, from).await {
                    Ok(whole) => {
                        let tail = self.with_those_before(id, &whole, listed).await;
                        return Ok(Some(Newest {
                            piece: whole.0,
                            tail,
                            was_damaged,
                        }));
                    }
                    Err(error) if error.kind() == ErrorKind::Corrupt => error,
                    Err(error) => return Err(error),
                };
                match self.set_aside(id, from, &error).await {
                    Ok(true) => was_damaged = true,
                    Ok(false) => {
                        let message =
                            format!("what is stored from {id}:{from} on was read wrongly, or has just been replaced");
                        return Err(Error::new(ErrorKind::Unavailable, message).with_cause(error));
                    }
                    Err(why) if why.kind() == ErrorKind::LimitExceeded => return Err(why),
                    Err(why) => {
                        was_damaged = true;
                        tracing::error!("a damaged piece of the log stays where it is: {}", why.chain_and_hint());
                    }
                }
            }
        }
        Ok(None)
    }

    /// Reads a piece to its end.
    async fn whole(&self, id: &ReplicationId, from: u64) -> Result<(Piece, Vec<u8>)> {
        let (reader, piece) = self.open(id, from).await?;
        let bytes = reader.read_small(ASIDE_BYTES).await?;
        Ok((piece, bytes))
    }

    /// Returns the last bytes of a piece, and where it is short, of those before it that are listed, as far as they are stored without a
    /// hole.
    async fn with_those_before(&self, id: &ReplicationId, last: &(Piece, Vec<u8>), mut listed: Vec<u64>) -> Tail {
        let (piece, bytes) = last;
        let (mut begins, mut parts) = (piece.from, vec![exact::last(bytes, TAIL_BYTES).to_vec()]);
        let mut missing = TAIL_BYTES.saturating_sub(bytes.len());
        while missing > 0 && parts.len() < MOST_COMPARED && begins > piece.since {
            let Some(from) = listed.pop() else { break };
            let (before, mut bytes) = match self.whole(id, from).await {
                Ok(whole) => whole,
                Err(error) => {
                    tracing::debug!("nothing before {id}:{begins} is compared: {}", error.chain());
                    break;
                }
            };
            if before.to < begins {
                break;
            }
            // Pieces of two receivers may overlap.
            bytes.truncate(exact::usize_from(begins.saturating_sub(from)));
            let part = exact::last(&bytes, missing);
            missing = missing.saturating_sub(part.len());
            parts.push(part.to_vec());
            begins = from;
        }
        let known: Vec<u8> = parts.into_iter().rev().flatten().collect();
        let mut tail = Tail::at(piece.to.saturating_sub(exact::u64_from(known.len())));
        tail.push(&known);
        tail
    }

    /// Gives a damaged piece another name, so that what the server still has of it can be stored under its own. Nothing of it is lost.
    /// Returns false, and leaves it where it is, if it is not damaged when it is read once more, or is another one by then.
    pub(super) async fn set_aside(&self, id: &ReplicationId, from: u64, why: &Error) -> Result<bool> {
        let key = self.key(id, from)?;
        let act = || format!("set \"{key}\" aside");
        let bytes = self.store.get(&key, ASIDE_BYTES).await.with_context(act)?;
        match self.decoded(&key, from, bytes.clone()).await {
            Ok(()) => return Ok(false),
            Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error).with_context(act),
            Err(_) => {}
        }
        if DAMAGED.fetch_add(1, Ordering::Relaxed) >= MOST_DAMAGED {
            let message = format!(
                "{MOST_DAMAGED} damaged pieces of logs were set aside already: {}",
                why.chain()
            );
            return Err(Error::new(ErrorKind::LimitExceeded, message).with_hint(
                "Look at the store before anything is done about them: `wirevault log verify` reads all. A new process goes on.",
            ));
        }
        let digest = document::sha256_hex(&bytes);
        let aside = layout::commands_aside(
            &self.source,
            id.as_str(),
            from,
            exact::text(&digest, ..16, "SHA-256 has 64 digits"),
        )?;
        let options = ObjectOptions::default();
        match self.store.put(&aside, bytes, PutMode::Create, &options).await {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error).with_context(act),
            _ => {}
        }
        // Another receiver may have done the same, and stored what the server still has.
        let there = self.store.get(&key, ASIDE_BYTES).await.with_context(act)?;
        if document::sha256_hex(&there) != digest {
            return Ok(false);
        }
        let removed = self.store.delete(&key).await;
        removed.with_context(act).map_err(|error| {
            error.with_hint("Allow removing it, or remove it by hand: a copy has the name that ends with \".damaged\".")
        })?;
        tracing::warn!(
            "a piece of the log is damaged: {}; it is now called \"{aside}\", and the log goes on without it",
            why.chain()
        );
        Ok(true)
    }

    /// Reads a piece whose object is here.
    async fn decoded(&self, key: &ObjectKey, from: u64, bytes: Bytes) -> Result<()> {
        let reader = LogReader::of_whole(&self.store, key, bytes)?;
        described(key, from, &reader)?;
        reader.read(&mut |_| Ok(())).await
    }

    /// Returns where what was received last ends, of the histories that are named, or if nothing is stored of them, of those that the
    /// first page of a listing shows; None where nothing is stored.
    pub(super) async fn latest(&self, named: BTreeSet<ReplicationId>) -> Result<Option<Position>> {
        if let Some(latest) = self.latest_of(named).await? {
            return Ok(Some(latest));
        }
        let page = self.list(&layout::command_logs(&self.source), None).await?;
        let ids = page.objects.iter().filter_map(|object| Some(self.at(&object.key)?.0));
        self.latest_of(ids.collect()).await
    }

    async fn latest_of(&self, ids: BTreeSet<ReplicationId>) -> Result<Option<Position>> {
        let mut latest = None;
        for id in ids {
            let Some(newest) = self.newest(&id).await? else {
                continue;
            };
            let at = newest.piece.marks.last().map(|mark| mark.at);
            let offset = newest.piece.to;
            latest = latest.max(Some((at, id, offset)));
        }
        Ok(latest.map(|(_, id, offset)| Position { id, offset }))
    }

    /// Returns whether anything is stored.
    pub(super) async fn any(&self) -> Result<bool> {
        // Pieces come first: their histories begin with a digit of 16.
        let page = self.list(&layout::command_logs(&self.source), None).await?;
        Ok(page.objects.iter().any(|object| self.at(&object.key).is_some()))
    }

    /// Returns whether anything is stored of any source.
    pub(super) async fn any_at_all(store: &SharedStore) -> Result<bool> {
        Ok(Sources::of(store).next().await?.is_some())
    }

    /// Lists the offsets at which pieces begin, by history, in order.
    pub(super) async fn all(&self) -> Result<BTreeMap<ReplicationId, Vec<u64>>> {
        let (mut found, mut count): (BTreeMap<_, Vec<u64>>, _) = (BTreeMap::new(), 0_usize);
        let mut next = None;
        loop {
            let page = self.list(&layout::command_logs(&self.source), next).await?;
            for (id, from) in page.objects.iter().filter_map(|object| self.at(&object.key)) {
                found.entry(id).or_default().push(from);
                count += 1;
            }
            if count > MOST_PIECES {
                return Err(too_many(&self.source));
            }
            next = page.next;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// Lists a page of the pieces of one history, with the times at which they were stored, by the store's clock.
    pub(super) async fn page(&self, id: &ReplicationId, next: Option<String>) -> Result<PiecePage> {
        let directory = format!("{}{id}/", layout::command_logs(&self.source));
        let page = self.list(&directory, next).await?;
        let pieces = page.objects.iter().filter_map(|object| {
            let (_, from) = self.at(&object.key)?;
            let stored_bytes = object.size_bytes;
            Some((Listed { from, stored_bytes }, object.modified))
        });
        Ok(PiecePage {
            pieces: pieces.collect(),
            next: page.next,
        })
    }

    /// Lists the pieces of a history that were set aside because they could not be read.
    pub(super) async fn aside(&self, id: &ReplicationId) -> Result<Vec<Aside>> {
        let directory = format!("{}{id}/", layout::command_logs(&self.source));
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let page = self.list(&directory, next).await?;
            found.extend(page.objects.into_iter().filter_map(|object| {
                let from = layout::commands_aside_at(&self.source, id.as_str(), &object.key)?;
                Some(Aside { from, object })
            }));
            next = page.next;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    async fn list(&self, prefix: &str, next: Option<String>) -> Result<ListPage> {
        let act = || format!("list the log of source \"{}\"", self.source);
        self.store.list(prefix, next).await.with_context(act)
    }

    /// Returns what the key of a piece says.
    fn at(&self, key: &ObjectKey) -> Option<(ReplicationId, u64)> {
        let (id, from) = layout::commands_at(&self.source, key)?;
        Some((id.parse().ok()?, from))
    }
}

/// A piece that was set aside.
#[derive(Debug)]
pub(super) struct Aside {
    /// The offset where it began.
    pub(super) from: u64,
    pub(super) object: ObjectMeta,
}

/// What a listing shows of one source: its pieces by history, in order.
pub(super) type Histories = BTreeMap<ReplicationId, Vec<Listed>>;

/// Goes through the sources of a repository of which something is stored, one after another: memory is that of the largest.
#[derive(Debug)]
pub(super) struct Sources {
    store: SharedStore,
    waiting: VecDeque<ObjectMeta>,
    next: Option<String>,
    is_last: bool,
}

impl Sources {
    /// Begins before the first.
    pub(super) fn of(store: &SharedStore) -> Self {
        Self {
            store: store.clone(),
            waiting: VecDeque::new(),
            next: None,
            is_last: false,
        }
    }

    /// Returns the next one; None behind the last. One that has too many pieces is an error of its own.
    pub(super) async fn next(&mut self) -> Result<Option<(String, Result<Histories>)>> {
        let (mut source, mut histories, mut count) = (None::<String>, Histories::new(), 0_usize);
        // The keys of a source follow one another.
        while let Some(object) = self.front().await? {
            let piece = source_of(&object.key).and_then(|name| Some((name, layout::commands_at(name, &object.key)?)));
            let piece = piece.and_then(|(name, (id, from))| Some((name, id.parse::<ReplicationId>().ok()?, from)));
            let Some((name, id, from)) = piece else {
                self.waiting.pop_front();
                continue;
            };
            if source.as_ref().is_some_and(|source| source != name) {
                break;
            }
            source.get_or_insert_with(|| name.to_owned());
            count += 1;
            if count <= MOST_PIECES {
                histories.entry(id).or_default().push(Listed {
                    from,
                    stored_bytes: object.size_bytes,
                });
            }
            self.waiting.pop_front();
        }
        Ok(source.map(|source| {
            let histories = if count > MOST_PIECES {
                Err(too_many(&source))
            } else {
                Ok(histories)
            };
            (source, histories)
        }))
    }

    /// Returns the next object, without taking it.
    async fn front(&mut self) -> Result<Option<&ObjectMeta>> {
        while self.waiting.is_empty() && !self.is_last {
            let page = self.store.list(layout::COMMANDS, self.next.take()).await;
            let page = page.context("list logs of commands")?;
            self.waiting.extend(page.objects);
            self.is_last = page.next.is_none();
            self.next = page.next;
        }
        Ok(self.waiting.front())
    }
}

/// Returns the source that a key is below.
fn source_of(key: &ObjectKey) -> Option<&str> {
    let rest = key.as_str().strip_prefix(layout::COMMANDS)?;
    rest.split_once('/').map(|(source, _)| source)
}

fn too_many(source: &str) -> Error {
    let message = format!("the log of \"{source}\" has more than {MOST_PIECES} pieces");
    Error::new(ErrorKind::LimitExceeded, message)
}

fn described(key: &ObjectKey, from: u64, reader: &LogReader) -> Result<Piece> {
    Piece::read(from, reader.descriptor()).with_context(|| format!("log segment \"{key}\""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::archive::Pipeline;
    use crate::base::memory::{MIB, MemoryPlan};
    use crate::engines::redis::log::replica::History;
    use crate::operations::log::progress::Watched;
    use crate::operations::log::redis::store::PieceStore;
    use crate::storage::fault::{Effect, Fault, FaultStore, Operation};
    use crate::storage::memory::MemoryStore;

    struct Bench {
        faults: Arc<FaultStore>,
        streams: Streams,
        id: ReplicationId,
    }

    impl Bench {
        fn new() -> Self {
            let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
            let store: SharedStore = faults.clone();
            Self {
                streams: Streams::of(&store, "cache"),
                faults,
                id: "a".repeat(40).parse().unwrap(),
            }
        }

        async fn put(&self, from: u64, bytes: &[u8]) {
            let store = PieceStore {
                streams: self.streams.clone(),
                pipeline: Pipeline::start(MemoryPlan::for_limit(96 * MIB, 2).unwrap()),
                level: 1,
                turn: None,
            };
            let to = from + exact::u64_from(bytes.len());
            let piece = Piece {
                from,
                to,
                commands_to: to,
                since: from.min(90),
                follows: None,
                gap: None,
                base: None,
                marks: Vec::new(),
            };
            let watched = Watched::default();
            let stored = store.store(self.id.clone(), piece, bytes.to_vec(), &watched);
            stored.await.unwrap();
        }

        fn flip(&self, from: u64, skip: usize, count: usize) {
            self.faults.inject(Fault {
                operation: Some(Operation::Get),
                key_contains: format!("{from:020}.zst"),
                skip,
                count,
                effect: Effect::Flip,
            });
        }

        async fn keys(&self) -> Vec<String> {
            let (mut keys, mut next) = (Vec::new(), None);
            loop {
                let page = self.streams.list("", next).await.unwrap();
                keys.extend(page.objects.into_iter().map(|object| object.key.as_str().to_owned()));
                next = page.next;
                if next.is_none() {
                    return keys;
                }
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_piece_is_set_aside_only_if_it_is_damaged_whenever_it_is_read() {
        let bench = Bench::new();
        bench.put(100, b"first").await;
        bench.put(105, b"second").await;
        let before = bench.keys().await;
        bench.flip(105, 0, 1);
        let error = bench.streams.newest(&bench.id).await.unwrap_err();
        assert_eq!(
            (error.kind(), bench.keys().await),
            (ErrorKind::Unavailable, before.clone())
        );
        let newest = bench.streams.newest(&bench.id).await.unwrap().unwrap();
        assert!(newest.piece.from == 105 && !newest.was_damaged);

        // Twice; but by then another one is there.
        bench.flip(105, 0, 2);
        bench.streams.newest(&bench.id).await.unwrap_err();
        let keys = bench.keys().await;
        assert!(before.iter().all(|key| keys.contains(key)), "{keys:?}");
        assert_eq!(bench.streams.newest(&bench.id).await.unwrap().unwrap().piece.from, 105);

        // Each time.
        bench.flip(105, 0, 3);
        let newest = bench.streams.newest(&bench.id).await.unwrap().unwrap();
        assert!(newest.piece.from == 100 && newest.was_damaged);
        let keys = bench.keys().await;
        assert!(!keys.contains(before.last().unwrap()), "{keys:?}");
        assert!(
            keys.iter().filter(|key| key.ends_with(".damaged")).count() >= 1,
            "{keys:?}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_last_bytes_are_those_of_several_pieces() {
        let bench = Bench::new();
        // Two receivers were at work, and before that something is missing.
        for (from, bytes) in [
            (80, &b"xy"[..]),
            (90, b"0123456789"),
            (100, b"first"),
            (103, b"stsecond"),
            (111, b"!"),
        ] {
            bench.put(from, bytes).await;
        }
        let mut expected = Tail::at(90);
        expected.push(b"0123456789firstsecond!");
        assert_eq!(bench.streams.newest(&bench.id).await.unwrap().unwrap().tail, expected);
        expected.cut(104);
        let tail = bench.streams.tail_before(&bench.id, 104).await.unwrap().unwrap();
        assert_eq!(tail, expected);
        assert_eq!(bench.streams.tail_before(&bench.id, 90).await.unwrap(), None);
        assert_eq!(bench.streams.tail_before(&bench.id, 80).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_note_that_cannot_be_read_counts_until_something_behind_it_is_stored() {
        let bench = Bench::new();
        bench.put(100, b"abcdef").await;
        let key = layout::commands_went_back("cache", bench.id.as_str()).unwrap();
        let (store, options) = (&bench.streams.store, ObjectOptions::default());
        let text = bytes::Bytes::from_static(b"no document");
        store.put(&key, text, PutMode::Overwrite, &options).await.unwrap();
        let history = History {
            now: Position {
                id: bench.id.clone(),
                offset: 50,
            },
            before: None,
        };
        let known = Position {
            id: bench.id.clone(),
            offset: 106,
        };
        assert_eq!(bench.streams.went_back(&history).await.unwrap(), Some(known.clone()));
        assert_eq!(bench.streams.went_back(&history).await.unwrap(), Some(known));
        bench.put(200, b"ghi").await;
        assert_eq!(bench.streams.went_back(&history).await.unwrap(), None);
    }
}
