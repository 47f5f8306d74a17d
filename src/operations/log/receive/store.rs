//! What a receiver stores: one thing after the other, each until the store has it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::archive::Pipeline;
use crate::archive::log::{About, Kept, LogOptions, LogReader, LogWriter};
use crate::base::cancel::{cancelled, or_cancelled};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::postgres::wal::{FileName, Lsn, SegmentName, Timeline, about_file};
use crate::operations::log::key_of;
use crate::operations::log::parts::Part;
use crate::operations::log::progress::Watched;
use crate::repository::layout;
use crate::storage::{ObjectKey, ObjectOptions, PutMode, SharedStore};

/// Waits between two attempts: from the first to the longest, doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// As [`FIRST_WAIT`].
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Bytes of a segment in the spool.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) spool: Arc<File>,
    /// Where the segment begins.
    pub(super) start: Lsn,
    /// Offsets in it.
    pub(super) from: u64,
    /// As `from`, behind the last byte.
    pub(super) to: u64,
}

/// Something to be stored.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// What came of a segment since the last part.
    Part {
        piece: Piece,
        name: SegmentName,
        about: About,
        /// Parts of an earlier receiver, whose bytes have to be those that came.
        to_compare: Vec<Part>,
        /// Parts that this one takes the place of.
        replaces: Vec<ObjectKey>,
    },
    /// What came of a segment again, all of which an earlier receiver has stored in parts.
    Compare { piece: Piece, to_compare: Vec<Part> },
    /// A segment, or the one in which a timeline ended. Then its parts are removed.
    Whole {
        piece: Piece,
        name: FileName,
        about: About,
        to_compare: Vec<Part>,
        parts: Vec<ObjectKey>,
        /// How far it is stored in parts.
        kept: Lsn,
    },
    /// Where a timeline came from.
    History { timeline: Timeline, text: Vec<u8> },
    /// That the log was seen to end at a position, and when.
    Seen(Seen),
    /// Objects that nobody needs.
    Remove(Vec<ObjectKey>),
}

impl Work {
    /// Returns where what of the log begins that is not stored as long as this is not; None for what is not of the log.
    pub(super) fn kept(&self) -> Option<Lsn> {
        match self {
            Self::Whole { kept, .. } => Some(*kept),
            Self::Part { piece, .. } => Some(Lsn(piece.start.0.saturating_add(piece.from))),
            Self::Compare { .. } | Self::History { .. } | Self::Seen(_) | Self::Remove(_) => None,
        }
    }
}

/// That a server had nothing behind a position at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(super) struct Seen {
    format: u32,
    /// The timeline that it wrote.
    timeline: Timeline,
    /// Where its log ended, all of which is stored.
    lsn: Lsn,
    /// When, by its clock.
    at: Timestamp,
}

impl Seen {
    pub(super) fn new(timeline: Timeline, lsn: Lsn, at: Timestamp) -> Self {
        Self {
            format: 1,
            timeline,
            lsn,
            at,
        }
    }
}

/// Stores.
#[derive(Debug, Clone)]
pub(super) struct Storing {
    pub(super) store: SharedStore,
    pub(super) pipeline: Pipeline,
    pub(super) level: i32,
    pub(super) system: u64,
    pub(super) cancel: CancellationToken,
    pub(super) watched: Watched,
    /// One of several receivers of a process stores at a time: memory is that of one upload.
    pub(super) turn: Option<Arc<Semaphore>>,
}

impl Storing {
    /// Stores until it is done; tries again, for as long as the store is away and nobody ends the receiver. What another attempt
    /// does not change is an error.
    pub(super) async fn patiently(self, work: Work) -> Result<u64> {
        let mut wait = FIRST_WAIT;
        loop {
            let error = match self.once(&work).await {
                // It is not the bytes of this one that are damaged.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let message = "what is stored under the name already cannot be read";
                    let error = Error::new(ErrorKind::AlreadyExists, message).with_cause(error);
                    return Err(error.with_hint(
                        "Remove the object, and the segment is stored anew: nothing of it was confirmed to the server.",
                    ));
                }
                Ok(stored_bytes) => {
                    self.watched.lock().unstored = None;
                    return Ok(stored_bytes);
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => error,
            };
            self.watched.lock().unstored = Some(error.chain());
            tracing::warn!(
                "the log is not stored, which is tried again in {} s: {}",
                wait.as_secs(),
                error.chain()
            );
            let slept = or_cancelled(&self.cancel, async {
                tokio::time::sleep(wait).await;
                Ok(())
            });
            if slept.await.is_err() {
                return Err(cancelled().with_cause(error));
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Returns the bytes that were stored: none of what was there.
    async fn once(&self, work: &Work) -> Result<u64> {
        let turn = self.turn.as_ref().map(|turn| turn.acquire());
        let _turn = match turn {
            // It is never closed.
            Some(turn) => turn.await.ok(),
            None => None,
        };
        match work {
            Work::Part {
                piece,
                name,
                about,
                to_compare,
                replaces,
            } => {
                self.compare(piece, to_compare).await?;
                let part = Part::of(self.system, name, piece.from, piece.to)?;
                let stored = self.put(part.key, piece, about).await?;
                self.remove(replaces).await;
                Ok(stored)
            }
            Work::Compare { piece, to_compare } => self.compare(piece, to_compare).await.map(|()| 0),
            Work::Whole {
                piece,
                name,
                about,
                to_compare,
                parts,
                ..
            } => {
                self.compare(piece, to_compare).await?;
                let stored = match self.put(key_of(self.system, name)?, piece, about).await {
                    // Nothing recovers from what stands behind the end of its timeline.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists && matches!(name, FileName::Partial(_)) => {
                        tracing::warn!("{}; the first one stays", error.chain());
                        0
                    }
                    stored => stored?,
                };
                self.remove(parts).await;
                Ok(stored)
            }
            Work::History { timeline, text } => {
                let name = FileName::History(*timeline);
                let act = || format!("store the history of timeline {timeline}");
                let writer = self.writer(key_of(self.system, &name)?).await.with_context(act)?;
                let mut left = text.as_slice();
                let mut next = |bytes: &mut Vec<u8>| {
                    bytes.clear();
                    bytes.extend_from_slice(std::mem::take(&mut left));
                    Ok(())
                };
                let stored = self.finish(writer, &mut next, &about_file(&name, self.system)).await;
                stored.with_context(act)
            }
            Work::Seen(seen) => {
                let text = serde_json::to_vec(seen).map_err(|e| Error::invalid("write a document").with_cause(e))?;
                let (key, mode) = (layout::wal_seen(self.system)?, PutMode::Overwrite);
                let options = ObjectOptions::default();
                self.store
                    .put(&key, Bytes::from(text), mode, &options)
                    .await
                    .map(|()| 0)
            }
            Work::Remove(keys) => {
                self.remove(keys).await;
                Ok(0)
            }
        }
    }

    /// Compares what an earlier receiver stored with what the server sends now: a log that goes on otherwise is another one.
    async fn compare(&self, piece: &Piece, parts: &[Part]) -> Result<()> {
        for part in parts {
            let reader = match LogReader::look(&self.store, &part.key).await {
                // Whoever removed it has the whole; and what cannot be read the whole takes the place of.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!("{}", error.chain());
                    continue;
                }
                reader => reader?,
            };
            let mut digest = Sha256::new();
            let (mut at, mut bytes) = (part.from, Vec::new());
            while at < part.to {
                read(piece, at, part.to, self.pipeline.plan.chunk_bytes, &mut bytes)?;
                digest.update(&bytes);
                at += exact::u64_from(bytes.len());
            }
            if hex::encode(digest.finalize()) != reader.descriptor().raw_sha256 {
                let message = format!(
                    "\"{}\" is stored already, with other bytes than the server sends now",
                    part.key
                );
                return Err(Error::new(ErrorKind::AlreadyExists, message).with_hint(
                    "The server was brought back from a copy of its disk, or a copy of it was received, too. Receive it into another repository, or begin with a new base backup after `pg_resetwal` or a promotion gave it a timeline of its own. Nothing was replaced.",
                ));
            }
        }
        Ok(())
    }

    async fn put(&self, key: ObjectKey, piece: &Piece, about: &About) -> Result<u64> {
        let act = format!("store \"{key}\"");
        let chunk = self.pipeline.plan.chunk_bytes;
        let stored = async {
            let writer = self.writer(key).await?;
            let (mut at, to) = (piece.from, piece.to);
            let mut next = |bytes: &mut Vec<u8>| {
                read(piece, at, to, chunk, bytes)?;
                at += exact::u64_from(bytes.len());
                Ok(())
            };
            self.finish(writer, &mut next, about).await
        };
        stored.await.context(act)
    }

    async fn writer(&self, key: ObjectKey) -> Result<LogWriter> {
        let options = LogOptions {
            level: self.level,
            // Beside a job that has the parts of the memory plan.
            parts_in_flight: self.turn.as_ref().map(|_| 1),
        };
        LogWriter::create(self.store.clone(), key, &self.pipeline, &options).await
    }

    /// Fills a writer with the pieces that `next` puts into an empty buffer, until it puts none, and makes the object exist.
    async fn finish(
        &self,
        mut writer: LogWriter,
        next: &mut (dyn FnMut(&mut Vec<u8>) -> Result<()> + Send),
        about: &About,
    ) -> Result<u64> {
        loop {
            let filled = async {
                let mut buffer = writer.buffer().await?;
                next(&mut buffer.bytes)?;
                let more = !buffer.bytes.is_empty();
                if more {
                    writer.write(buffer)?;
                }
                Ok(more)
            };
            match filled.await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    writer.abandon().await;
                    return Err(error);
                }
            }
        }
        match writer.finish(about.clone()).await? {
            Kept::Stored { stored_bytes } => Ok(stored_bytes),
            Kept::WasThere => Ok(0),
        }
    }

    /// Removes what is not needed any more, as far as that is allowed: a receiver need not be.
    async fn remove(&self, keys: &[ObjectKey]) {
        for key in keys {
            if let Err(error) = self.store.delete(key).await {
                tracing::debug!("parts stay in the repository: {}", error.chain());
                return;
            }
        }
    }
}

/// Returns whether another attempt would end in the same way.
pub(super) fn is_final(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AlreadyExists | ErrorKind::Cancelled | ErrorKind::Invalid | ErrorKind::Unsupported
    )
}

/// Puts the next bytes of a segment into an empty buffer: at most `chunk`, from an offset on, none from `to` on.
fn read(piece: &Piece, at: u64, to: u64, chunk: usize, bytes: &mut Vec<u8>) -> Result<()> {
    let length = exact::usize_from(to.saturating_sub(at)).min(chunk);
    bytes.clear();
    bytes.resize(length, 0);
    piece
        .spool
        .read_exact_at(bytes, at)
        .context("read the log from the spool directory")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::base::memory::{MIB, MemoryPlan};
    use crate::base::unnamed_file::unnamed_file;
    use crate::storage::fault::{Effect, Fault, FaultStore, Operation};
    use crate::storage::memory::MemoryStore;

    struct Place {
        fault: Arc<FaultStore>,
        storing: Storing,
        spool: Arc<File>,
        _directory: tempfile::TempDir,
    }

    fn place(content: &[u8]) -> Place {
        let fault = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
        let directory = tempfile::tempdir().unwrap();
        let spool = unnamed_file(directory.path()).unwrap();
        spool.write_all_at(content, 0).unwrap();
        let storing = Storing {
            store: fault.clone(),
            pipeline: Pipeline::start(MemoryPlan::for_limit(128 * MIB, 2).unwrap()),
            level: 1,
            system: 7,
            cancel: CancellationToken::new(),
            watched: Watched::default(),
            turn: None,
        };
        Place {
            fault,
            storing,
            spool: Arc::new(spool),
            _directory: directory,
        }
    }

    fn name() -> SegmentName {
        match "000000010000000000000003".parse() {
            Ok(FileName::Segment(name)) => name,
            other => unreachable!("{other:?}"),
        }
    }

    impl Place {
        fn piece(&self, from: u64, to: u64) -> Piece {
            Piece {
                spool: Arc::clone(&self.spool),
                start: Lsn(3 << 20),
                from,
                to,
            }
        }

        fn part(&self, from: u64, to: u64, to_compare: Vec<Part>) -> Work {
            Work::Part {
                piece: self.piece(from, to),
                name: name(),
                about: About::default(),
                to_compare,
                replaces: Vec::new(),
            }
        }
    }

    fn stored(from: u32, to: u32) -> Part {
        Part {
            key: layout::wal_part(7, 1, &name().to_string(), (from, to)).unwrap(),
            from: from.into(),
            to: to.into(),
        }
    }

    #[tokio::test]
    async fn what_the_store_does_not_take_is_tried_again_until_it_does() {
        let place = place(&[7; 3000]);
        let fault = Fault::once(Operation::Put, "", Effect::FailBefore(ErrorKind::Unavailable));
        place.fault.inject(fault);
        let done = place
            .storing
            .clone()
            .patiently(place.part(1000, 3000, Vec::new()))
            .await
            .unwrap();
        assert!(done > 0);
        let reader = LogReader::open(&place.storing.store, &stored(1000, 3000).key)
            .await
            .unwrap();
        assert_eq!(reader.read_small(5000).await.unwrap(), [7; 2000]);
        // The same once more, as after a crash.
        let again = place
            .storing
            .clone()
            .patiently(place.part(1000, 3000, Vec::new()))
            .await
            .unwrap();
        assert_eq!(again, 0);
    }

    #[tokio::test]
    async fn it_ends_where_the_receiver_does() {
        let place = place(&[7; 3000]);
        place.fault.inject(Fault {
            count: usize::MAX,
            ..Fault::once(Operation::Put, "", Effect::FailBefore(ErrorKind::Unavailable))
        });
        place.storing.cancel.cancel();
        let error = place
            .storing
            .clone()
            .patiently(place.part(0, 3000, Vec::new()))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }

    #[tokio::test]
    async fn a_whole_segment_takes_the_place_of_its_parts() {
        let place = place(&[7; 3000]);
        place.storing.once(&place.part(0, 1000, Vec::new())).await.unwrap();
        let whole = Work::Whole {
            piece: place.piece(0, 3000),
            name: FileName::Segment(name()),
            about: About::default(),
            to_compare: vec![stored(0, 1000), stored(1000, 2000)],
            parts: vec![stored(0, 1000).key, stored(1000, 2000).key],
            kept: Lsn(3 << 20),
        };
        place.storing.once(&whole).await.unwrap();
        let listed = place.storing.store.list("", None).await.unwrap().objects;
        let keys: Vec<&str> = listed.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(keys, ["wal/7/00000001/000000010000000000000003.zst"]);
    }

    #[tokio::test]
    async fn a_log_that_goes_on_otherwise_than_what_is_stored_is_another_one() {
        let place = place(&[7; 3000]);
        place.storing.once(&place.part(0, 1000, Vec::new())).await.unwrap();
        place.spool.write_all_at(&[8], 999).unwrap();
        let error = place
            .storing
            .once(&place.part(1000, 2000, vec![stored(0, 1000)]))
            .await
            .unwrap_err();
        assert!(
            error.kind() == ErrorKind::AlreadyExists && is_final(&error),
            "{error:?}"
        );
        let history = |text: &[u8]| Work::History {
            timeline: Timeline(2),
            text: text.to_vec(),
        };
        place.storing.once(&history(b"1\t0/3000000\tx\n")).await.unwrap();
        place.storing.once(&history(b"1\t0/3000000\tx\n")).await.unwrap();
        let error = place.storing.once(&history(b"1\t0/2000000\tx\n")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
    }
}
