//! Finds the time marks around a moment. They lie in order in the ends of pieces, so few of these are read.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::engines::redis::log::marks::Mark;
use crate::engines::redis::log::position::ReplicationId;
use crate::operations::log::redis::lineage::{History, Stretch};
use crate::operations::log::redis::stored::Streams;

/// Finds the last time mark of a stretch up to a moment, and the first one behind it. Marks lie in order in the ends of pieces, so
/// few of them are read.
pub(super) async fn marks_around(
    streams: &Streams,
    histories: &BTreeMap<ReplicationId, History>,
    stretch: &Stretch,
    at: Timestamp,
) -> Result<(Option<Mark>, Option<Mark>)> {
    let Some(history) = histories.get(&stretch.id) else {
        return Ok((None, None));
    };
    let is_within = |mark: &&Mark| mark.offset >= stretch.from && stretch.to.is_none_or(|to| mark.offset <= to);
    let all = &history.pieces;
    // The piece that may hold the beginning of the stretch, and those behind it.
    let first = all.partition_point(|from| *from <= stretch.from).saturating_sub(1);
    let end = stretch
        .to
        .map_or(all.len(), |to| all.partition_point(|from| *from < to));
    let pieces = exact::part(all, first..end.max(first), "both lie within, in this order");
    let look = async |number: usize| -> Result<Vec<Mark>> {
        let from = pieces.get(number).copied();
        let from = from.ok_or_else(|| Error::corrupt("a piece of the log is not listed"))?;
        Ok(streams.look(&stretch.id, from).await?.marks)
    };
    // The first piece whose last mark lies behind the moment; pieces of one long command have none.
    let (mut low, mut high) = (0, pieces.len());
    while low < high {
        let mut probed = low.midpoint(high);
        let middle = probed;
        let mut marks = look(probed).await?;
        while marks.is_empty() && probed.saturating_add(1) < high {
            probed += 1;
            marks = look(probed).await?;
        }
        match marks.last() {
            Some(mark) if mark.at <= at => low = probed + 1,
            _ => high = middle,
        }
    }
    let (mut before, mut after) = (None, None);
    if low < pieces.len() {
        let marks = look(low).await?;
        let within = || marks.iter().filter(is_within);
        before = within().rfind(|mark| mark.at <= at).copied();
        after = within().find(|mark| mark.at > at).copied();
    }
    let mut number = low;
    while let (None, Some(previous)) = (before, number.checked_sub(1)) {
        number = previous;
        let marks = look(number).await?;
        before = marks.iter().filter(is_within).rfind(|mark| mark.at <= at).copied();
    }
    Ok((before, after))
}
