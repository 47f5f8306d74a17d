//! Finds the time marks around a moment. Along a way they ascend, so few pieces are looked at.
//!
//! Where they do not, because the clock of a receiver was set back or two receivers have different clocks, no one offset is a moment: that
//! is refused.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::engines::redis::log::marks::{MOST, Mark};
use crate::engines::redis::log::position::ReplicationId;
use crate::operations::log::redis::extent::Extent;
use crate::operations::log::redis::lineage::{History, Stretch};
use crate::operations::log::redis::stored::Streams;
use crate::operations::show::local_time;

/// Pieces on each side of a moment whose marks are compared.
const NEIGHBOURS: usize = 8;

/// Marks that are compared, at most. Where they ascend, it is those of the neighbours.
const MOST_MARKS: usize = 4 * NEIGHBOURS * MOST;

/// Clocks of two receivers may be so far apart: marks are a second apart anyway.
const APART: SignedDuration = SignedDuration::from_secs(1);

/// A time mark on a way. Their order is that of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// Number of the stretch.
    pub(super) stretch: usize,
    pub(super) mark: Mark,
}

impl Placed {
    fn key(&self) -> (usize, u64, Timestamp) {
        (self.stretch, self.mark.offset, self.mark.at)
    }
}

/// The marks around a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Around {
    /// The last one up to it.
    pub(super) before: Option<Placed>,
    /// The first one behind it.
    pub(super) after: Option<Placed>,
}

/// The pieces along a way, one behind another.
#[derive(Debug)]
pub(super) struct MarkedWay<'a> {
    legs: Vec<Leg<'a>>,
}

#[derive(Debug)]
struct Leg<'a> {
    extent: Extent<'a>,
    /// Marks before it belong to the history before.
    from: u64,
    to: Option<u64>,
}

impl<'a> MarkedWay<'a> {
    /// Takes the pieces of a way, of its first history also those before the snapshot.
    pub(super) fn new(
        streams: &'a Streams,
        histories: &'a BTreeMap<ReplicationId, History>,
        way: &'a [Stretch],
    ) -> Self {
        let leg = |(number, stretch): (usize, &'a Stretch)| {
            let from = if number == 0 { 0 } else { stretch.from };
            let all = histories.get(&stretch.id).map(|history| history.pieces.as_slice());
            let all = all.unwrap_or_default();
            // The piece that may hold the beginning of the stretch, and those behind it.
            let first = all.partition_point(|piece| *piece <= from).saturating_sub(1);
            let end = stretch
                .to
                .map_or(all.len(), |to| all.partition_point(|piece| *piece < to));
            let pieces = exact::part(all, first..end.max(first), "both lie within, in this order");
            Leg {
                extent: Extent::new(streams, &stretch.id, pieces),
                from,
                to: stretch.to,
            }
        };
        Self {
            legs: way.iter().enumerate().map(leg).collect(),
        }
    }

    /// Takes out what is wrong with one of the pieces that were looked at.
    pub(super) fn damage(&self) -> Option<Error> {
        self.legs.iter().find_map(|leg| leg.extent.damage())
    }

    fn len(&self) -> usize {
        self.legs.iter().map(|leg| leg.extent.pieces.len()).sum()
    }

    /// Reads the marks of a piece by its number, in order; none of one that is damaged.
    async fn marks(&self, number: usize) -> Result<Vec<Placed>> {
        let mut left = number;
        for (stretch, leg) in self.legs.iter().enumerate() {
            let Some(from) = leg.extent.pieces.get(left) else {
                left = left.saturating_sub(leg.extent.pieces.len());
                continue;
            };
            let Some(piece) = leg.extent.look(*from).await? else {
                break;
            };
            let is_within = |mark: &Mark| mark.offset >= leg.from && leg.to.is_none_or(|to| mark.offset <= to);
            let marks = piece.marks.into_iter().filter(is_within);
            return Ok(marks.map(|mark| Placed { stretch, mark }).collect());
        }
        Ok(Vec::new())
    }

    /// Finds the marks around a moment. An error says that they are out of order there.
    pub(super) async fn around(&self, at: Timestamp) -> Result<Around> {
        let middle = self.place(at).await?;
        let mut marks = Vec::new();
        let (mut found, mut number) = (false, middle);
        while number < self.len() && (!found || number - middle < NEIGHBOURS) {
            let more = self.marks(number).await?;
            found |= more.iter().any(|placed| placed.mark.at > at);
            marks.extend(more);
            number += 1;
            are_few(&marks, at)?;
        }
        (found, number) = (false, middle);
        while number > 0 && (!found || middle - number < NEIGHBOURS) {
            number -= 1;
            let more = self.marks(number).await?;
            found |= more.iter().any(|placed| placed.mark.at <= at);
            marks.extend(more);
            are_few(&marks, at)?;
        }
        marks.sort_by_key(Placed::key);
        let first = marks.iter().position(|placed| placed.mark.at > at);
        let first = first.unwrap_or(marks.len());
        let (before, after) = marks.split_at_checked(first).expect("it lies within");
        let around = Around {
            before: before.last().copied(),
            after: after.first().copied(),
        };
        if let Some(first) = around.after {
            let again = after
                .iter()
                .find(|later| later.mark.at <= at && first.mark.at.duration_since(later.mark.at) > APART);
            if let Some(again) = again {
                return Err(self.doubt(at, &first, again));
            }
        }
        Ok(around)
    }

    /// Returns the number of the first piece whose last mark lies behind a moment.
    async fn place(&self, at: Timestamp) -> Result<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            // Pieces within one long command may have no marks.
            let (mut probed, mut last) = (middle, None);
            while probed < high && last.is_none() {
                last = self.marks(probed).await?.last().copied();
                probed += 1;
            }
            match last {
                Some(last) if last.mark.at <= at => low = probed,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    fn doubt(&self, at: Timestamp, first: &Placed, again: &Placed) -> Error {
        let place = |placed: &Placed| {
            let id = self.legs.get(placed.stretch).map(|leg| leg.extent.id.as_str());
            format!("{}:{}", id.unwrap_or("?"), placed.mark.offset)
        };
        let (first_at, again_at) = (local_time(first.mark.at), local_time(again.mark.at));
        let (first, again) = (place(first), place(again));
        out_of_order(
            at,
            &format!(": {first} came by {first_at}, and {again} behind it by {again_at}"),
        )
    }
}

/// Ends a search among marks that do not ascend anywhere.
fn are_few(marks: &[Placed], at: Timestamp) -> Result<()> {
    if marks.len() > MOST_MARKS {
        return Err(out_of_order(at, ""));
    }
    Ok(())
}

fn out_of_order(at: Timestamp, which: &str) -> Error {
    let at = local_time(at);
    Error::unsupported(format!("the time marks of the log are out of order around {at}{which}")).with_hint(
        "The clock of the receiver was set back, or those of two receivers differ, so no one offset is that moment. Use --offset.",
    )
}
