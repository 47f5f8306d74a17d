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
    /// Where the last segment of each timeline ends.
    ends: BTreeMap<Timeline, Lsn>,
    /// Where the last segment begins of which parts are stored.
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
            ends: BTreeMap::new(),
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
                } else if self.ends.get(&segment.timeline).is_some_and(|end| start < *end) {
                    if self.left_over.len() < MOST_LEFT_OVER {
                        self.left_over.push(log.key.clone());
                    }
                } else {
                    self.open.insert(segment.timeline, start);
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
        let end = Lsn(start.0.saturating_add(self.size.bytes()));
        let known = self.ends.entry(timeline).or_insert(end);
        *known = (*known).max(end);
    }

    /// Returns where the last segment of a timeline ends; None if none is stored.
    pub(super) fn end(&self, timeline: Timeline) -> Option<Lsn> {
        self.ends.get(&timeline).copied()
    }

    /// Returns the timeline and the position at which the log goes on: the beginning of a segment. None if nothing on the way to the
    /// server's timeline is stored.
    pub(super) fn resume(&self, line: &Line) -> Option<(Timeline, Lsn)> {
        let mut next = None;
        for (timeline, left) in line.0.iter().rev() {
            let end = self.ends.get(timeline).copied();
            let open = self.open.get(timeline).copied();
            if let Some(at) = end.max(open) {
                return match (left, next) {
                    (Some(left), Some(next)) if at >= *left => Some((next, self.size.start_of(*left))),
                    _ => Some((*timeline, at)),
                };
            }
            next = Some(*timeline);
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
        assert_eq!(stored(&[]).resume(&first), None);
        assert_eq!(stored(&[(1, 3), (1, 4)]).resume(&first), at(1, 5));
        // Of another line of history: a server that was recovered to an earlier moment.
        assert_eq!(stored(&[(2, 7)]).resume(&first), None);
        let second = line(&[(1, 5 * MIB + 100)], 2);
        // What timeline 1 has left to give comes first.
        assert_eq!(stored(&[(1, 3)]).resume(&second), at(1, 4));
        // All of it is there but the segment within which it was left, which timeline 2 has.
        assert_eq!(stored(&[(1, 4)]).resume(&second), at(1, 5));
        // The old primary went on behind the fork.
        assert_eq!(stored(&[(1, 5)]).resume(&second), at(2, 5));
        assert_eq!(stored(&[(1, 9)]).resume(&second), at(2, 5));
        assert_eq!(stored(&[(1, 9), (2, 5)]).resume(&second), at(2, 6));
        // Left exactly between two segments.
        assert_eq!(stored(&[(1, 4)]).resume(&line(&[(1, 5 * MIB)], 2)), at(2, 5));
        // Two promotions within a segment.
        let third = line(&[(1, 5 * MIB + 100), (2, 5 * MIB + 900)], 3);
        assert_eq!(stored(&[(1, 9)]).resume(&third), at(2, 5));
        assert_eq!(stored(&[(2, 5)]).resume(&third), at(3, 5));
    }

    #[test]
    fn a_segment_of_which_parts_are_stored_is_begun_anew() {
        let mut stored = stored(&[(1, 3)]);
        let part = |segment: &str| ListedLog {
            key: crate::repository::layout::wal_part(7, 1, segment, (0, 8192)).unwrap(),
            system: 7,
            name: segment.to_owned(),
            part: Some((0, 8192)),
            stored_bytes: 1,
            stored: jiff::Timestamp::UNIX_EPOCH,
        };
        stored.add(&part("000000010000000000000003"));
        stored.add(&part("000000010000000000000004"));
        let first = Line::of(Timeline(1), None);
        assert_eq!(stored.resume(&first), Some((Timeline(1), Lsn(4 * MIB))));
        assert_eq!(stored.left_over.len(), 1);
    }
}
