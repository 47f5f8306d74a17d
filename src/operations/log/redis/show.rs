//! The command streams that are stored, for `log show` and `log verify`: each history with its windows, and what is missing between them.
//!
//! A window costs two small reads: the end of a piece says from where on its history has no hole. `log verify` reads every piece.

use jiff::Timestamp;

use crate::base::error::{ErrorKind, Result};
use crate::base::exact;
use crate::base::table::Table;
use crate::base::units::format_bytes;
use crate::engines::redis::log::described::Piece;
use crate::engines::redis::log::position::{Position, ReplicationId};
use crate::operations::log::redis::stored::{Listed, Streams};
use crate::operations::show::local_time;
use crate::operations::{Session, Status};
use crate::repository::Repository;

/// Windows that are shown, the newest of a history.
const WINDOWS: usize = 64;

/// One history of a server. Its fields are keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct LoggedStream {
    /// Name of the source.
    pub source: String,
    /// Its replication ID.
    pub id: String,
    /// Where the history was left that this one continues, as ID:OFFSET.
    pub follows: Option<String>,
    /// Stored pieces.
    pub pieces: u64,
    /// Bytes that they take in the store.
    pub stored_bytes: u64,
    /// What a restore can go through, the newest first.
    pub windows: Vec<StreamWindow>,
    /// What is missing between two windows.
    pub gaps: Vec<StreamGap>,
    /// Pieces whose stored bytes are damaged.
    pub damaged: Vec<DamagedPiece>,
    /// Of `log verify`: bytes that were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
}

/// A part of a history without a hole.
#[derive(Debug, serde::Serialize)]
pub struct StreamWindow {
    /// The offset where it begins.
    pub from: u64,
    /// The offset where it ends.
    pub to: u64,
    /// Its first time mark.
    pub first_time: Option<Timestamp>,
    /// Its last time mark.
    pub last_time: Option<Timestamp>,
    /// The snapshot with which a restore begins, as ID:OFFSET, as far as the receiver knew.
    pub base: Option<String>,
}

/// A part of a history that is not stored.
#[derive(Debug, serde::Serialize)]
pub struct StreamGap {
    /// The offset where it begins.
    pub from: u64,
    /// The offset where it ends.
    pub to: u64,
}

/// A piece whose stored bytes are damaged.
#[derive(Debug, serde::Serialize)]
pub struct DamagedPiece {
    /// The offset where it begins.
    pub from: u64,
    /// What is wrong.
    pub error: String,
}

impl LoggedStream {
    /// Returns it for people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "source {}, replication ID {}: {} pieces, {} stored\n",
            self.source,
            self.id,
            self.pieces,
            format_bytes(self.stored_bytes)
        );
        if let Some(follows) = &self.follows {
            text.push_str(&format!("it continues {follows}\n"));
        }
        let mut table = Table::new(&[">from", ">to", "first time mark", "last time mark", "snapshot at"]);
        // Mostly it lies in this history.
        let own = format!("{}:", self.id);
        let base = |base: &str| base.strip_prefix(&own).unwrap_or(base).to_owned();
        let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), local_time);
        for window in &self.windows {
            table.row([
                window.from.to_string(),
                window.to.to_string(),
                time(window.first_time),
                time(window.last_time),
                window.base.as_deref().map_or_else(|| "-".to_owned(), base),
            ]);
        }
        if !table.is_empty() {
            text.push_str(&table.render());
        }
        for gap in &self.gaps {
            text.push_str(&format!(
                "gap from {} to {}: restore past {} needs a snapshot taken after it\n",
                gap.from, gap.to, gap.to
            ));
        }
        for damaged in &self.damaged {
            text.push_str(&format!("DAMAGED at {}: {}\n", damaged.from, damaged.error));
        }
        if let Some(bytes) = self.read_bytes {
            text.push_str(&format!("read {}\n", format_bytes(bytes)));
        }
        text
    }

    /// Returns how a look at it ends. A gap is something that is missing to whoever asks whether all is there.
    pub(crate) fn status(&self) -> Status {
        match self.read_bytes {
            _ if !self.damaged.is_empty() => Status::Failed,
            Some(_) if !self.gaps.is_empty() => Status::Partial,
            _ => Status::Done,
        }
    }
}

/// Looks at all streams of a repository; `read` reads every piece.
pub(crate) async fn streams(session: &Session, repository: &Repository, read: bool) -> Result<Vec<LoggedStream>> {
    let mut found = Vec::new();
    for (source, histories) in session.or_cancelled(Streams::every(repository.store())).await? {
        let streams = Streams {
            store: repository.store().clone(),
            source,
        };
        for (id, pieces) in histories {
            let mut look = Look::at(&streams, id, &pieces);
            session.or_cancelled(look.windows(&pieces)).await?;
            if read {
                look.read(session, &pieces).await?;
            }
            found.push(look.stream);
        }
    }
    Ok(found)
}

struct Look<'a> {
    streams: &'a Streams,
    id: ReplicationId,
    stream: LoggedStream,
}

impl<'a> Look<'a> {
    fn at(streams: &'a Streams, id: ReplicationId, pieces: &[Listed]) -> Self {
        let stream = LoggedStream {
            source: streams.source.clone(),
            id: id.to_string(),
            follows: None,
            pieces: exact::u64_from(pieces.len()),
            stored_bytes: pieces.iter().map(|piece| piece.stored_bytes).sum(),
            windows: Vec::new(),
            gaps: Vec::new(),
            damaged: Vec::new(),
            read_bytes: None,
        };
        Self { streams, id, stream }
    }

    /// Reads what a descriptor says; None of a damaged piece, which is noted.
    async fn piece(&mut self, from: u64) -> Result<Option<Piece>> {
        match self.streams.look(&self.id, from).await {
            Ok(piece) => Ok(Some(piece)),
            Err(error) if is_damage(error.kind()) => {
                self.damaged(from, error.chain());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn damaged(&mut self, from: u64, error: String) {
        if self.stream.damaged.iter().all(|known| known.from != from) {
            self.stream.damaged.push(DamagedPiece { from, error });
        }
    }

    /// Goes back from the newest piece, window by window.
    async fn windows(&mut self, pieces: &[Listed]) -> Result<()> {
        let mut left = pieces;
        while let (Some((last, before)), true) = (left.split_last(), self.stream.windows.len() < WINDOWS) {
            let Some(newest) = self.piece(last.from).await? else {
                left = before;
                continue;
            };
            let begin = left.partition_point(|piece| piece.from < newest.since);
            let (earlier, within) = left.split_at_checked(begin).expect("it lies within, by the partition");
            let first = within.first().unwrap_or(last);
            let oldest = if first.from == last.from {
                Some(newest.clone())
            } else {
                self.piece(first.from).await?
            };
            let text = |position: &Option<Position>| position.as_ref().map(Position::to_string);
            if self.stream.follows.is_none() {
                self.stream.follows = text(&newest.follows);
            }
            if let Some(later) = self.stream.windows.last()
                && newest.to < later.from
            {
                self.stream.gaps.push(StreamGap {
                    from: newest.to,
                    to: later.from,
                });
            }
            self.stream.windows.push(StreamWindow {
                from: first.from,
                to: newest.to,
                first_time: oldest.and_then(|piece| piece.marks.first().map(|mark| mark.at)),
                last_time: newest.marks.last().map(|mark| mark.at),
                base: text(&newest.base),
            });
            left = earlier;
        }
        Ok(())
    }

    /// Reads every piece: its digest, and that one follows another.
    async fn read(&mut self, session: &Session, pieces: &[Listed]) -> Result<()> {
        let mut bytes = 0_u64;
        let mut end = None;
        let mut gaps = Vec::new();
        for listed in pieces {
            let read = async {
                let (reader, piece) = self.streams.open(&self.id, listed.from).await?;
                reader.read(&mut |_| Ok(())).await?;
                Ok(piece)
            };
            match session.or_cancelled(read).await {
                Ok(piece) => {
                    bytes = bytes.saturating_add(piece.to.saturating_sub(piece.from));
                    if let Some(end) = end.filter(|end| *end < piece.from) {
                        gaps.push(StreamGap {
                            from: end,
                            to: piece.from,
                        });
                    }
                    end = end.max(Some(piece.to));
                }
                Err(error) if is_damage(error.kind()) => self.damaged(listed.from, error.chain()),
                Err(error) => return Err(error),
            }
        }
        gaps.reverse();
        self.stream.gaps = gaps;
        self.stream.read_bytes = Some(bytes);
        Ok(())
    }
}

fn is_damage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported)
}
