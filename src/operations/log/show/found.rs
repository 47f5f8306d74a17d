//! What a listing says of one system's log, in memory for its holes.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::engines::postgres::wal::{FileName, SegmentName, Timeline};
use crate::repository::ListedLog;
use crate::storage::ObjectKey;

/// Segments that are asked for their size, at most.
const SAMPLES: usize = 8;

/// What was listed.
#[derive(Debug, Default)]
pub(in crate::operations::log) struct Found {
    /// Segments by timeline, in runs whose numbers follow one another.
    pub(in crate::operations::log) timelines: BTreeMap<Timeline, Vec<Run>>,
    /// Timelines whose history file is there, in order.
    pub(in crate::operations::log) histories: Vec<Timeline>,
    /// Segments.
    pub(in crate::operations::log) segments: u64,
    /// Bytes of all objects.
    pub(in crate::operations::log) stored_bytes: u64,
    /// The segment that was stored last, and when.
    pub(in crate::operations::log) newest: Option<(SegmentName, Timestamp)>,
    /// Segments of each timeline that are not stored, but parts of them, as far as these have no hole: the one that was being written last,
    /// and those at which a gap begins. In order.
    pub(in crate::operations::log) open: BTreeMap<Timeline, Vec<OpenSegment>>,
    /// Objects whose name is none of a file of a log.
    pub(in crate::operations::log) unknown: u64,
}

/// A segment of which parts are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::operations::log) struct OpenSegment {
    pub(super) segment: SegmentName,
    /// The offset at which the parts end.
    pub(super) end: u32,
    /// The first and the last of them.
    pub(super) first: ObjectKey,
    pub(super) last: ObjectKey,
    /// When the last was stored.
    pub(super) stored: Timestamp,
}

/// Segments whose names follow one another. How many there are in 4 GiB depends on their size, which no name tells, so a run
/// ends there as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operations::log) struct Run {
    pub(in crate::operations::log) first: SegmentName,
    pub(in crate::operations::log) last: SegmentName,
    pub(in crate::operations::log) segments: u64,
}

impl Found {
    /// Adds an object; they come in the order of their keys.
    pub(in crate::operations::log) fn add(&mut self, log: &ListedLog) {
        self.stored_bytes = self.stored_bytes.saturating_add(log.stored_bytes);
        match log.name.parse() {
            Ok(FileName::Segment(segment)) if log.part.is_some() => self.add_part(segment, log),
            Ok(FileName::Segment(segment)) => self.add_segment(segment, log),
            Ok(FileName::History(timeline)) => self.histories.push(timeline),
            Ok(FileName::Partial(_) | FileName::BackupLabel(..)) => {}
            Err(_) => self.unknown += 1,
        }
    }

    /// Returns segments out of which the size of all can be learnt: the newest, and some others in case it is damaged.
    pub(in crate::operations::log) fn samples(&self) -> impl Iterator<Item = SegmentName> {
        let newest = self.newest.map(|(segment, _)| segment);
        let runs = self.timelines.values().rev().flatten();
        newest.into_iter().chain(runs.map(|run| run.first)).take(SAMPLES)
    }

    /// Returns whether nothing is stored behind a segment on its timeline: it may be being written.
    pub(in crate::operations::log) fn is_last(&self, open: &OpenSegment) -> bool {
        let timeline = &open.segment.timeline;
        let run = self.timelines.get(timeline).and_then(|runs| runs.last());
        let other = self.open.get(timeline).and_then(|all| all.last());
        run.is_none_or(|run| run.last < open.segment) && other.is_none_or(|other| other.segment <= open.segment)
    }

    /// Returns the one of which parts are stored last.
    pub(in crate::operations::log) fn last_open(&self) -> Option<&OpenSegment> {
        self.open.values().next_back().and_then(|all| all.last())
    }

    /// Adds a part; those of a segment come in the order of their offsets. Of a segment that is stored itself nothing is held.
    fn add_part(&mut self, segment: SegmentName, log: &ListedLog) {
        let Some((from, to)) = log.part else { return };
        let is_stored = self
            .timelines
            .get(&segment.timeline)
            .is_some_and(|runs| runs.iter().any(|run| (run.first..=run.last).contains(&segment)));
        if is_stored {
            return;
        }
        let all = self.open.entry(segment.timeline).or_default();
        if let Some(open) = all.last_mut().filter(|open| open.segment == segment) {
            if from <= open.end && to > open.end {
                (open.end, open.last, open.stored) = (to, log.key.clone(), log.stored);
            }
        } else if from == 0 {
            let open = OpenSegment {
                segment,
                end: to,
                first: log.key.clone(),
                last: log.key.clone(),
                stored: log.stored,
            };
            all.push(open);
        }
    }

    fn add_segment(&mut self, segment: SegmentName, log: &ListedLog) {
        self.segments += 1;
        if self.newest.is_none_or(|(_, stored)| stored <= log.stored) {
            self.newest = Some((segment, log.stored));
        }
        let runs = self.timelines.entry(segment.timeline).or_default();
        match runs.last_mut() {
            Some(run) if run.last.precedes(&segment) => {
                run.last = segment;
                run.segments += 1;
            }
            _ => runs.push(Run {
                first: segment,
                last: segment,
                segments: 1,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::repository::layout;

    #[test]
    fn a_log_of_years_takes_the_memory_of_its_holes() {
        let mut found = Found::default();
        for number in 0..200_000_u64 {
            // Two holes, and an object of somebody else.
            if number == 70_000 || number == 140_000 {
                continue;
            }
            let name = format!("00000001{:08X}{:08X}", number / 256, number % 256);
            found.add(&ListedLog {
                key: layout::wal_file(7, Some(1), &name).unwrap(),
                system: 7,
                name,
                part: None,
                stored_bytes: 10,
                stored: Timestamp::UNIX_EPOCH,
            });
        }
        let runs = found.timelines.get(&Timeline(1)).unwrap();
        assert_eq!(runs.len(), 200_000 / 256 + 1 + 2);
        assert_eq!((found.segments, found.stored_bytes), (199_998, 1_999_980));
        assert_eq!(found.newest.unwrap().0, runs.last().unwrap().last);
    }
}
