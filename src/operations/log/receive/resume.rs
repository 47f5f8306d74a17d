//! Where a receiver goes on: behind what is stored, on the line of timelines that the server has.

use std::collections::{BTreeMap, BTreeSet};

use crate::engines::postgres::wal::{FileName, Lsn, SegmentSize, Timeline, TimelineHistory};
use crate::repository::ListedLog;
use crate::storage::ObjectKey;

/// Parts of segments that are stored whole, whose keys are held to be removed, at most.
const MOST_LEFT_OVER: usize = 10_000;

/// What of a system's log is stored, or on its way into the store.
#[derive(Debug)]
pub(super) struct Stored {
    size: SegmentSize,
    /// Where segments that follow one another begin and end, in order.
    runs: BTreeMap<Timeline, Vec<(Lsn, Lsn)>>,
    /// Where the last segment begins of which parts alone are stored, or which this receiver has begun.
    open: BTreeMap<Timeline, Lsn>,
    /// Timelines whose history file is there.
    pub(super) histories: BTreeSet<Timeline>,
    /// Parts that nobody needs: their segments are stored. Parts come behind the segments in a listing.
    pub(super) left_over: Vec<ObjectKey>,
}

impl Stored {
    /// Begins with nothing, of a server whose segments have a size.
    pub(super) fn new(size: SegmentSize) -> Self {
        Self {
            size,
            runs: BTreeMap::new(),
            open: BTreeMap::new(),
            histories: BTreeSet::new(),
            left_over: Vec::new(),
        }
    }

    /// Adds what a listing has; objects come in the order of their keys.
    pub(super) fn add(&mut self, log: &ListedLog) {
        match log.name.parse() {
            Ok(FileName::Segment(segment)) => {
                let Some(start) = segment.start(self.size) else { return };
                if log.part.is_none() {
                    self.holds(segment.timeline, start);
                } else if self.run_of(segment.timeline, start).is_none() {
                    self.open.insert(segment.timeline, start);
                } else if self.left_over.len() < MOST_LEFT_OVER {
                    self.left_over.push(log.key.clone());
                }
            }
            Ok(FileName::History(timeline)) => {
                self.histories.insert(timeline);
            }
            _ => {}
        }
    }

    /// Takes note of the segment that begins at a position.
    pub(super) fn holds(&mut self, timeline: Timeline, start: Lsn) {
        if self.run_of(timeline, start).is_some() {
            return;
        }
        let end = Lsn(start.0.saturating_add(self.size.bytes()));
        let runs = self.runs.entry(timeline).or_default();
        let place = runs.partition_point(|(from, _)| *from < start);
        runs.insert(place, (start, end));
        // With the one behind it, then with the one before it.
        for place in [place, place.saturating_sub(1)] {
            if let (Some((from, to)), Some((next, last))) = (runs.get(place).copied(), runs.get(place + 1).copied())
                && to == next
            {
                runs.splice(place..=place + 1, [(from, last)]);
            }
        }
    }

    /// Returns the segments that follow one another and hold a position.
    fn run_of(&self, timeline: Timeline, at: Lsn) -> Option<(Lsn, Lsn)> {
        let runs = self.runs.get(&timeline)?;
        let before = runs.partition_point(|(from, _)| *from <= at).checked_sub(1)?;
        runs.get(before).copied().filter(|(_, to)| at < *to)
    }

    /// Returns where the last segment of a timeline ends; None if none is stored.
    pub(super) fn end(&self, timeline: Timeline) -> Option<Lsn> {
        self.runs.get(&timeline)?.last().map(|(_, end)| *end)
    }

    /// Takes note that a segment is received: whatever becomes of it, the log does not go on before it, nor on an older timeline.
    pub(super) fn begins(&mut self, timeline: Timeline, start: Lsn) {
        let open = self.open.entry(timeline).or_insert(start);
        *open = start.max(*open);
    }

    /// Returns a later timeline of which something is stored, or was received.
    pub(super) fn later(&self, timeline: Timeline) -> Option<Timeline> {
        let stored = self.runs.keys().next_back();
        let last = stored.max(self.open.keys().next_back()).copied();
        last.filter(|last| *last > timeline)
    }

    /// Returns the timeline and the position at which the log goes on: the beginning of a segment. None if nothing on the way to the
    /// server's timeline is stored.
    ///
    /// It is the first that is not stored of what the slot keeps, though something behind it may be: another archiver stores into the
    /// same log. Where the slot begins behind all that is stored, the server may still have what is between.
    pub(super) fn resume(&self, line: &Line, slot: (Timeline, Lsn)) -> Option<(Timeline, Lsn)> {
        let newest = self.newest(line)?;
        let hole = self.first_hole(line, slot);
        Some(
            hole.filter(|hole| line.order(*hole) <= line.order(newest))
                .unwrap_or(newest),
        )
    }

    /// Returns what follows the newest segment on a line.
    fn newest(&self, line: &Line) -> Option<(Timeline, Lsn)> {
        let mut next = None;
        for (timeline, left) in line.0.iter().rev() {
            let open = self.open.get(timeline).copied();
            if let Some(at) = self.end(*timeline).max(open) {
                return match (left, next) {
                    (Some(left), Some(next)) if at >= *left => Some((next, self.size.start_of(*left))),
                    _ => Some((*timeline, at)),
                };
            }
            next = Some(*timeline);
        }
        None
    }

    /// Returns the first segment from a position on that is not stored; None where the position is on no timeline of the line.
    fn first_hole(&self, line: &Line, (timeline, from): (Timeline, Lsn)) -> Option<(Timeline, Lsn)> {
        let mut at = self.size.start_of(from);
        let mut legs = line.0.iter().skip_while(|(one, _)| *one != timeline).peekable();
        legs.peek()?;
        for (timeline, left) in legs {
            while let Some((_, to)) = self.run_of(*timeline, at) {
                at = to;
            }
            match left {
                // The next timeline begins with the segment in which this one was left.
                Some(left) if at >= self.size.start_of(*left) => at = self.size.start_of(*left),
                _ => return Some((*timeline, at)),
            }
        }
        None
    }
}

/// The timelines that a server came through, oldest first, with the position at which each was left; its own is last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line(Vec<(Timeline, Option<Lsn>)>);

impl Line {
    /// Returns the line of a server whose timeline has this history; the first one has none.
    pub(super) fn of(timeline: Timeline, history: Option<&TimelineHistory>) -> Self {
        let ancestors = history.into_iter().flat_map(|history| &history.ancestors);
        let mut line: Vec<_> = ancestors.map(|(ancestor, left)| (*ancestor, Some(*left))).collect();
        line.push((timeline, None));
        Self(line)
    }

    /// Returns what puts positions of the line in order.
    fn order(&self, (timeline, at): (Timeline, Lsn)) -> (Option<usize>, Lsn) {
        (self.0.iter().position(|(one, _)| *one == timeline), at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MIB: u64 = 1 << 20;

    fn line(ancestors: &[(u32, u64)], timeline: u32) -> Line {
        let ancestors = ancestors
            .iter()
            .map(|(one, left)| (Timeline(*one), Lsn(*left)))
            .collect();
        let history = TimelineHistory {
            timeline: Timeline(timeline),
            ancestors,
        };
        Line::of(Timeline(timeline), Some(&history))
    }

    fn stored(segments: &[(u32, u64)]) -> Stored {
        let mut stored = Stored::new(SegmentSize::new(MIB).unwrap());
        for (timeline, number) in segments {
            stored.holds(Timeline(*timeline), Lsn(number * MIB));
        }
        stored
    }

    #[test]
    fn it_goes_on_behind_the_newest_segment_of_the_servers_line() {
        let at = |timeline, number: u64| Some((Timeline(timeline), Lsn(number * MIB)));
        let first = Line::of(Timeline(1), None);
        // A slot that begins behind everything.
        let late = (Timeline(1), Lsn(50 * MIB));
        assert_eq!(stored(&[]).resume(&first, late), None);
        assert_eq!(stored(&[(1, 3), (1, 4)]).resume(&first, late), at(1, 5));
        // Of another line of history: a server that was recovered to an earlier moment.
        assert_eq!(stored(&[(2, 7)]).resume(&first, late), None);
        let second = line(&[(1, 5 * MIB + 100)], 2);
        let late = (Timeline(2), Lsn(50 * MIB));
        // What timeline 1 has left to give comes first.
        assert_eq!(stored(&[(1, 3)]).resume(&second, late), at(1, 4));
        // All of it is there but the segment within which it was left, which timeline 2 has.
        assert_eq!(stored(&[(1, 4)]).resume(&second, late), at(1, 5));
        // The old primary went on behind the fork.
        assert_eq!(stored(&[(1, 5)]).resume(&second, late), at(2, 5));
        assert_eq!(stored(&[(1, 9)]).resume(&second, late), at(2, 5));
        assert_eq!(stored(&[(1, 9), (2, 5)]).resume(&second, late), at(2, 6));
        // Left exactly between two segments.
        assert_eq!(stored(&[(1, 4)]).resume(&line(&[(1, 5 * MIB)], 2), late), at(2, 5));
        // Two promotions within a segment.
        let third = line(&[(1, 5 * MIB + 100), (2, 5 * MIB + 900)], 3);
        let late = (Timeline(3), Lsn(50 * MIB));
        assert_eq!(stored(&[(1, 9)]).resume(&third, late), at(2, 5));
        assert_eq!(stored(&[(2, 5)]).resume(&third, late), at(3, 5));
    }

    #[test]
    fn what_the_slot_keeps_and_nobody_stored_comes_first() {
        let at = |timeline, number: u64| Some((Timeline(timeline), Lsn(number * MIB)));
        let slot = |timeline, number: u64| (Timeline(timeline), Lsn(number * MIB + 77));
        let first = Line::of(Timeline(1), None);
        // archive_command stored what is behind the hole.
        let holed = stored(&[(1, 3), (1, 6), (1, 7)]);
        assert_eq!(holed.resume(&first, slot(1, 3)), at(1, 4));
        assert_eq!(holed.resume(&first, slot(1, 4)), at(1, 4));
        assert_eq!(holed.resume(&first, slot(1, 6)), at(1, 8));
        assert_eq!(stored(&[(1, 3), (1, 4)]).resume(&first, slot(1, 3)), at(1, 5));
        // The new primary archived, and the tail of the old timeline is not stored.
        let second = line(&[(1, 5 * MIB + 100)], 2);
        assert_eq!(stored(&[(1, 3), (2, 5), (2, 6)]).resume(&second, slot(1, 3)), at(1, 4));
        assert_eq!(stored(&[(1, 3), (1, 4), (2, 5)]).resume(&second, slot(1, 3)), at(2, 6));
        assert_eq!(stored(&[(1, 4)]).resume(&second, slot(1, 4)), at(1, 5));
    }

    #[test]
    fn segments_become_runs_in_whatever_order_they_come() {
        let stored = stored(&[(1, 5), (1, 3), (1, 4), (1, 9), (1, 4)]);
        let runs = stored.runs.get(&Timeline(1)).unwrap();
        assert_eq!(*runs, [(Lsn(3 * MIB), Lsn(6 * MIB)), (Lsn(9 * MIB), Lsn(10 * MIB))]);
    }

    #[test]
    fn only_parts_of_segments_that_are_there_are_left_over() {
        let mut stored = stored(&[(1, 3), (1, 9)]);
        let part = |segment: &str| ListedLog {
            key: crate::repository::layout::wal_part(7, 1, segment, (0, 8192)).unwrap(),
            system: 7,
            name: segment.to_owned(),
            part: Some((0, 8192)),
            stored_bytes: 1,
            stored: jiff::Timestamp::UNIX_EPOCH,
        };
        // Before a gap the parts are all that there is.
        for segment in [
            "000000010000000000000003",
            "000000010000000000000004",
            "00000001000000000000000A",
        ] {
            stored.add(&part(segment));
        }
        assert_eq!(stored.left_over, [part("000000010000000000000003").key]);
        // A timeline of which parts alone are stored is no less the later one.
        assert_eq!(stored.later(Timeline(1)), None);
        stored.begins(Timeline(2), Lsn(11 * MIB));
        assert_eq!(stored.later(Timeline(1)), Some(Timeline(2)));
        // What follows a gap may be parts alone: it goes on there, and not at what was missed.
        let first = Line::of(Timeline(1), None);
        assert_eq!(
            stored.resume(&first, (Timeline(1), Lsn(10 * MIB + 5))),
            Some((Timeline(1), Lsn(10 * MIB)))
        );
    }
}
