//! Stores one piece of a stream, however long that takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::archive::Pipeline;
use crate::archive::log::{Kept, LogOptions, LogWriter};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::log::described::Piece;
use crate::engines::redis::log::marks::Mark;
use crate::engines::redis::log::position::ReplicationId;
use crate::operations::log::progress::Watched;
use crate::operations::log::redis::stored::Streams;

/// Pauses between two tries, first and longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Where pieces go.
#[derive(Debug, Clone)]
pub(super) struct PieceStore {
    pub(super) streams: Streams,
    pub(super) pipeline: Pipeline,
    /// zstd level.
    pub(super) level: i32,
    /// One of several receivers of a process stores at a time: memory is that of one upload.
    pub(super) turn: Option<Arc<Semaphore>>,
}

/// What was stored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StoredPiece {
    /// Objects that were made.
    pub(super) objects: u64,
    /// Bytes of the stream that are in them.
    pub(super) raw_bytes: u64,
    /// Bytes of these.
    pub(super) stored_bytes: u64,
}

impl PieceStore {
    /// Stores bytes as one object, and tries until it is there. What another receiver of this stream has stored counts, if it has
    /// the same bytes; if it has others, that is the only error.
    pub(super) async fn store(
        self,
        id: ReplicationId,
        mut piece: Piece,
        mut bytes: Vec<u8>,
        watched: &Watched,
    ) -> Result<StoredPiece> {
        let (mut pause, longest) = PAUSES;
        let mut done = StoredPiece::default();
        loop {
            let tried = match self.put(&id, &piece, &bytes).await {
                Ok(kept) => {
                    watched.lock().unstored = None;
                    if let Kept::Stored { stored_bytes } = kept {
                        done.objects += 1;
                        done.raw_bytes = done.raw_bytes.saturating_add(exact::u64_from(bytes.len()));
                        done.stored_bytes = done.stored_bytes.saturating_add(stored_bytes);
                    }
                    return Ok(done);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => self.there(&id, &piece, &bytes).await,
                Err(error) => Err(error),
            };
            // What cannot be read stands in the place of what can be stored.
            let tried = match tried {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    match self.streams.set_aside(&id, piece.from, &error).await {
                        Ok(true) => continue,
                        // It was read wrongly, or something else is there by now.
                        Ok(false) => Err(error),
                        Err(error) => Err(error),
                    }
                }
                tried => tried,
            };
            match tried {
                Ok(Some(to)) if to >= piece.to => {
                    watched.lock().unstored = None;
                    return Ok(done);
                }
                // What follows the other one is another piece.
                Ok(Some(to)) => {
                    let count = exact::usize_from(to.saturating_sub(piece.from));
                    bytes.drain(..count.min(bytes.len()));
                    piece.from = to;
                    piece.marks = marks_behind(&piece.marks, to);
                }
                Ok(None) => {
                    watched.lock().unstored = None;
                    return Err(other_bytes(&id, piece.from));
                }
                Err(error) => {
                    watched.lock().unstored = Some(error.chain());
                    tracing::error!(
                        "unable to store the log of \"{}\" from {id}:{} on: {}; the next try is in {} s",
                        self.streams.source,
                        piece.from,
                        error.chain_and_hint(),
                        pause.as_secs()
                    );
                    tokio::time::sleep(pause).await;
                    pause = longest.min(pause * 2);
                }
            }
        }
    }

    async fn put(&self, id: &ReplicationId, piece: &Piece, bytes: &[u8]) -> Result<Kept> {
        let turn = self.turn.as_ref().map(|turn| turn.acquire());
        let _turn = match turn {
            // It is never closed.
            Some(turn) => turn.await.ok(),
            None => None,
        };
        let key = self.streams.key(id, piece.from)?;
        let store = self.streams.store.clone();
        let options = LogOptions {
            level: self.level,
            // A piece is one part.
            parts_in_flight: Some(1),
        };
        let mut writer = LogWriter::create(store, key, &self.pipeline, &options).await?;
        for part in bytes.chunks(self.pipeline.plan.chunk_bytes) {
            let mut buffer = writer.buffer().await?;
            buffer.bytes.extend_from_slice(part);
            writer.write(buffer)?;
        }
        writer.finish(piece.about()).await
    }

    /// Compares what is stored under the name of a piece. Returns where it ends, or None where it has other bytes.
    async fn there(&self, id: &ReplicationId, piece: &Piece, bytes: &[u8]) -> Result<Option<u64>> {
        let (reader, there) = self.streams.open(id, piece.from).await?;
        let (mut rest, mut same) = (bytes, true);
        let mut compare = |stored: &[u8]| {
            let stored = exact::first(stored, rest.len());
            same &= rest.starts_with(stored);
            rest = exact::part(rest, stored.len().., "it was cut to this length");
            Ok(())
        };
        reader.read(&mut compare).await?;
        Ok(same.then_some(there.to))
    }
}

/// Returns the marks of the rest of a piece: where none lies in it, the last one before it, as each piece tells a time.
fn marks_behind(marks: &[Mark], to: u64) -> Vec<Mark> {
    let (before, behind): (Vec<Mark>, Vec<Mark>) = marks.iter().copied().partition(|mark| mark.offset <= to);
    if behind.is_empty() {
        return before.last().copied().into_iter().collect();
    }
    behind
}

fn other_bytes(id: &ReplicationId, from: u64) -> Error {
    let message = format!("the log is stored already from {id}:{from} on, with other bytes");
    Error::new(ErrorKind::AlreadyExists, message).with_hint(
        "The server went back to an older state, or two servers share a replication ID, as after a restart on a copied data \
         directory: then give one of them a repository or a name of its own. Nothing was replaced.",
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_rest_of_a_piece_tells_a_time() {
        let mark = |offset: u64| Mark {
            offset,
            at: Timestamp::UNIX_EPOCH,
        };
        let marks = [mark(3), mark(5), mark(9)];
        assert_eq!(marks_behind(&marks, 5), [mark(9)]);
        assert_eq!(marks_behind(&marks, 9), [mark(9)]);
        assert_eq!(marks_behind(&[], 9), []);
    }
}
