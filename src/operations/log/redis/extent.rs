//! How far a history is stored without a hole, learnt out of few descriptors.
//!
//! A listing says where pieces begin; where a piece ends, and since where its receiver has stored everything, its descriptor says. The
//! pieces of one receiver follow one another. Those of two overlap, so the piece that begins last need not be the one that reaches
//! furthest: some before it are looked at as well. What is damaged counts as missing here, and is noted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::log::described::{Gap, GapCause, Piece};
use crate::engines::redis::log::marks::Mark;
use crate::engines::redis::log::position::{Position, ReplicationId};
use crate::operations::log::redis::stored::Streams;
use crate::operations::log::redis::windows::Window;

/// Pieces before a place that are looked at: one of them reaches furthest.
const LOOKED_BACK: usize = 16;

/// The same where pieces are about to be removed: a receiver that stores seldom has long ones among the short ones of another.
const LOOKED_FAR_BACK: usize = 64;

/// Damaged pieces of which is noted what is wrong, at most.
pub(super) const MOST_DAMAGED: usize = 64;

/// Descriptors that are read at once.
const AT_ONCE: usize = 8;

/// The stored pieces of one history.
#[derive(Debug)]
pub(super) struct Extent<'a> {
    streams: &'a Streams,
    pub(super) id: &'a ReplicationId,
    /// Where they begin, in order.
    pub(super) pieces: &'a [u64],
    /// What is wrong with pieces that were looked at, with the first of them.
    damaged: Mutex<BTreeMap<u64, Error>>,
}

impl<'a> Extent<'a> {
    pub(super) fn new(streams: &'a Streams, id: &'a ReplicationId, pieces: &'a [u64]) -> Self {
        Self {
            streams,
            id,
            pieces,
            damaged: Mutex::default(),
        }
    }

    /// Returns what is wrong with pieces that were looked at, by where they begin.
    pub(super) fn into_damaged(self) -> BTreeMap<u64, Error> {
        self.damaged.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what is wrong with the first of the pieces that were looked at, of those that begin at an offset or behind it.
    pub(super) fn damage_behind(&self, offset: u64) -> Option<Error> {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let first = damaged.range(offset..).next().map(|(from, _)| *from)?;
        damaged.remove(&first)
    }

    /// Takes out what is wrong with one of the pieces that were looked at.
    pub(super) fn damage(&self) -> Option<Error> {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.pop_first().map(|(_, error)| error)
    }

    /// Reads what the descriptor of a piece says; None of one that is damaged, or was removed since.
    pub(super) async fn look(&self, from: u64) -> Result<Option<Piece>> {
        match self.streams.look(self.id, from).await {
            Ok(piece) => Ok(Some(piece)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if is_damage(error.kind()) => {
                let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
                if damaged.len() < MOST_DAMAGED {
                    damaged.insert(from, error);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the descriptors of some pieces, by their numbers, in order.
    async fn looks(&self, numbers: std::ops::Range<usize>) -> Result<Vec<Piece>> {
        let pieces = exact::part(self.pieces, numbers, "whoever asks has counted them");
        let looks = futures_util::stream::iter(pieces).map(|from| self.look(*from));
        let found: Vec<Option<Piece>> = looks.buffered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Looks at the first piece that can be read: returns what the history continues.
    pub(super) async fn follows(&self) -> Result<Option<Position>> {
        let mut begin = 0;
        while begin < self.pieces.len() {
            // Mostly it is the first.
            let count = if begin == 0 { 1 } else { LOOKED_BACK };
            let end = self.pieces.len().min(begin + count);
            if let Some(first) = self.looks(begin..end).await?.into_iter().next() {
                return Ok(first.follows);
            }
            begin = end;
        }
        Ok(None)
    }

    /// Returns the first time mark behind an offset, of the pieces that are near.
    pub(super) async fn first_mark_behind(&self, offset: u64) -> Result<Option<Mark>> {
        let first = self.pieces.partition_point(|from| *from <= offset).saturating_sub(1);
        let least = self.pieces.len().min(first.saturating_add(LOOKED_FAR_BACK));
        let (mut begin, mut count) = (first, 2);
        while begin < least {
            let end = least.min(begin + count);
            let found = self.looks(begin..end).await?;
            let marks = found.iter().flat_map(|piece| &piece.marks);
            let behind = marks.filter(|mark| mark.offset > offset);
            if let Some(first) = behind.min_by_key(|mark| (mark.offset, mark.at)) {
                return Ok(Some(*first));
            }
            (begin, count) = (end, LOOKED_BACK);
        }
        Ok(None)
    }

    /// Returns what is stored without a hole, the newest first, as many windows as are wanted at most.
    pub(super) async fn windows(&self, most: usize) -> Result<Vec<Window>> {
        let (mut windows, mut left) = (Vec::new(), self.pieces.len());
        while windows.len() < most
            && let Some(newest) = self.furthest(left).await?
        {
            let begin = self.begin(newest.to, 0).await?.min(newest.from);
            let oldest = self.holding(begin.saturating_add(1), u64::MAX).await?;
            windows.push(Window {
                from: begin,
                to: newest.to,
                gap: oldest.as_ref().and_then(|piece| gap_before(piece, begin)),
                first: oldest.and_then(|piece| Some(piece.marks.first()?.at)),
                last: newest.marks.last().map(|mark| mark.at),
            });
            left = self.pieces.partition_point(|from| *from < begin);
        }
        Ok(windows)
    }

    /// Of the first `count` pieces, returns the one that reaches furthest.
    pub(super) async fn furthest(&self, count: usize) -> Result<Option<Piece>> {
        let mut end = count.min(self.pieces.len());
        while end > 0 {
            let begin = end.saturating_sub(LOOKED_BACK);
            let found = self.looks(begin..end).await?;
            if let Some(furthest) = found.into_iter().max_by_key(|piece| piece.to) {
                return Ok(Some(furthest));
            }
            end = begin;
        }
        Ok(None)
    }

    /// Returns how far is stored what begins before an offset.
    pub(super) async fn end_before(&self, offset: u64) -> Result<Option<u64>> {
        let count = self.pieces.partition_point(|from| *from < offset);
        Ok(self.furthest(count).await?.map(|piece| piece.to))
    }

    /// Returns where the first piece begins that reaches behind an offset; none of those before it does.
    pub(super) async fn first_behind(&self, offset: u64) -> Result<u64> {
        let end = self.pieces.partition_point(|from| *from <= offset);
        let begin = end.saturating_sub(LOOKED_FAR_BACK);
        let near = exact::part(self.pieces, begin..end, "both lie within, in this order");
        let looks = futures_util::stream::iter(near).map(|from| self.look(*from));
        let looks: Vec<Option<Piece>> = looks.buffered(AT_ONCE).try_collect().await?;
        // One that cannot be read may reach there.
        let reaches = |piece: &Option<Piece>| piece.as_ref().is_none_or(|piece| piece.to > offset);
        let first = looks.iter().zip(near).find(|(piece, _)| reaches(piece));
        Ok(first.map_or(offset, |(_, from)| *from))
    }

    /// Returns a piece that holds the byte before an offset: the first that says of itself that all is stored since `enough`, or the one
    /// that says so since the earliest.
    pub(super) async fn holding(&self, offset: u64, enough: u64) -> Result<Option<Piece>> {
        let mut end = self.pieces.partition_point(|from| *from < offset);
        let least = end.saturating_sub(LOOKED_BACK);
        let mut held: Option<Piece> = None;
        // Mostly it is the nearest.
        let mut begin = end.saturating_sub(1);
        while begin < end {
            for piece in self.looks(begin..end).await?.into_iter().rev() {
                if piece.to >= offset && held.as_ref().is_none_or(|held| piece.since < held.since) {
                    held = Some(piece);
                }
            }
            if held.as_ref().is_some_and(|piece| piece.since <= enough) {
                break;
            }
            (begin, end) = (least, begin);
        }
        Ok(held)
    }

    /// Returns the offset from which on all is stored up to `to`; `floor` if it is stored from there on at least, `to` if nothing is stored
    /// before it. Not below `floor`.
    pub(super) async fn begin(&self, to: u64, floor: u64) -> Result<u64> {
        let mut begin = to;
        while begin > floor {
            let Some(piece) = self.holding(begin, floor).await? else {
                break;
            };
            // It lies before the piece, and that before the offset it holds.
            begin = piece.since;
            if is_another_course(piece.gap.as_ref()) {
                break;
            }
        }
        let begin = begin.max(floor);
        if begin >= to || self.holding(begin.saturating_add(1), u64::MAX).await?.is_some() {
            return Ok(begin);
        }
        // What lies before was removed since.
        let next = self.pieces.partition_point(|from| *from <= begin);
        match self.pieces.get(next) {
            Some(next) if *next < to => Ok(*next),
            _ => Ok(to),
        }
    }
}

/// Returns what is known to be missing before a window that begins with a piece. Of one whose beginning was removed, nothing is.
pub(super) fn gap_before(piece: &Piece, begin: u64) -> Option<Gap> {
    piece.gap.clone().filter(|_| piece.since == begin)
}

/// Returns whether what is stored before the `since` of a piece is of another course, even where it reaches up to there: the server went
/// back to an older state, and wrote other bytes. A hole of one receiver another one may have filled.
pub(super) fn is_another_course(gap: Option<&Gap>) -> bool {
    gap.is_some_and(|gap| matches!(gap.why, GapCause::RolledBack | GapCause::Other))
}

/// Returns whether an error is that of a damaged piece, and not that of its store.
pub(super) fn is_damage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported)
}
