//! Names of files that a server archives: segments, the last part of a timeline, backup labels, timeline history.

use std::fmt;
use std::str::FromStr;

use super::lsn::{Lsn, SegmentSize, Timeline};
use crate::base::error::{Error, Result};

/// What `archive_command` may be given as `%f`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileName {
    /// `000000010000000000000003`: a complete segment.
    Segment(SegmentName),
    /// `000000010000000000000003.partial`: the segment in which a timeline ended.
    Partial(SegmentName),
    /// `000000010000000000000003.00000028.backup`: the label of a base backup, by where it began.
    BackupLabel(SegmentName, u32),
    /// `00000002.history`: where a timeline came from.
    History(Timeline),
}

/// The name of a segment: timeline and number, the latter in two parts whose meaning depends on the segment's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The timeline it was written on.
    pub timeline: Timeline,
    high: u32,
    low: u32,
}

impl SegmentName {
    /// Returns the name of the segment that holds a position.
    pub fn holding(timeline: Timeline, lsn: Lsn, size: SegmentSize) -> Self {
        let within = (lsn.0 & 0xFFFF_FFFF) / size.bytes();
        Self {
            timeline,
            high: crate::base::exact::known(lsn.0 >> 32, "half of 64 bits are 32"),
            low: crate::base::exact::known(within, "less than 32 bits, divided"),
        }
    }

    /// Returns whether another one follows it whatever their size is: those that begin a new 4 GiB may, and may not.
    pub fn precedes(&self, next: &Self) -> bool {
        (self.timeline, self.high) == (next.timeline, next.high) && self.low.checked_add(1) == Some(next.low)
    }

    /// Returns where the segment begins; None if no segment of this size has this name.
    pub fn start(&self, size: SegmentSize) -> Option<Lsn> {
        let low = u64::from(self.low);
        (low < size.per_name()).then(|| Lsn((u64::from(self.high) << 32) + low * size.bytes()))
    }
}

impl FileName {
    /// Returns the timeline that it is of.
    pub fn timeline(&self) -> Timeline {
        match self {
            Self::Segment(segment) | Self::Partial(segment) | Self::BackupLabel(segment, _) => segment.timeline,
            Self::History(timeline) => *timeline,
        }
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline.0, self.high, self.low)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => write!(f, "{segment}"),
            Self::Partial(segment) => write!(f, "{segment}.partial"),
            Self::BackupLabel(segment, offset) => write!(f, "{segment}.{offset:08X}.backup"),
            Self::History(timeline) => write!(f, "{:08X}.history", timeline.0),
        }
    }
}

impl FromStr for FileName {
    type Err = Error;

    /// Reads a name, without a directory before it.
    fn from_str(text: &str) -> Result<Self> {
        let read = match text.split_once('.') {
            None => segment(text).map(Self::Segment),
            Some((name, "partial")) => segment(name).map(Self::Partial),
            Some((name, "history")) => timeline(name).map(Self::History),
            Some((name, rest)) => rest
                .strip_suffix(".backup")
                .and_then(|offset| Some(Self::BackupLabel(segment(name)?, number(offset)?))),
        };
        read.ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            Error::invalid(format!("{shown:?} is not a WAL file name"))
                .with_hint("It is called 000000010000000000000003, 00000002.history, or a segment with .partial or .00000028.backup.")
        })
    }
}

/// Reads eight digits as the server writes them.
fn number(text: &str) -> Option<u32> {
    let right = text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    right.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn timeline(text: &str) -> Option<Timeline> {
    number(text).filter(|number| *number > 0).map(Timeline)
}

fn segment(text: &str) -> Option<SegmentName> {
    let (first, rest) = text.split_at_checked(8)?;
    let (high, low) = rest.split_at_checked(8)?;
    Some(SegmentName {
        timeline: timeline(first)?,
        high: number(high)?,
        low: number(low)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in [
            "000000010000000000000003",
            "0000000A000000FF000000FE.partial",
            "000000010000000000000003.00000028.backup",
            "00000002.history",
        ] {
            assert_eq!(name.parse::<FileName>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn nothing_else_is_a_name() {
        for wrong in [
            "",
            ".",
            "RECOVERYXLOG",
            "00000001000000000000000",
            "0000000100000000000000030",
            "00000001000000000000000g",
            "00000001000000000000000a",
            "000000000000000000000003",
            "00000000.history",
            "00000002.history.partial",
            "000000010000000000000003.28.backup",
            "../000000010000000000000003",
            "000000010000000000000003/",
            "0000000100000000+0000003",
            "00000001000000000000é003",
        ] {
            assert!(wrong.parse::<FileName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_position_and_its_segment_go_both_ways() {
        for (megabytes, at, name, start) in [
            (16, 0x0300_0028, "000000010000000000000003", 0x0300_0000),
            (16, 0x1_FF00_0000, "0000000100000001000000FF", 0x1_FF00_0000),
            (1024, 0x5_FFFF_FFFF, "000000010000000500000003", 0x5_C000_0000),
            (1, 0x5_FFFF_FFFF, "000000010000000500000FFF", 0x5_FFF0_0000),
        ] {
            let size = SegmentSize::new(megabytes << 20).unwrap();
            let segment = SegmentName::holding(Timeline(1), Lsn(at), size);
            assert_eq!(segment.to_string(), name);
            assert_eq!(segment.start(size), Some(Lsn(start)));
        }
        let small = "000000010000000000000FFF".parse().unwrap();
        let FileName::Segment(small) = small else {
            panic!("{small}")
        };
        assert_eq!(small.start(SegmentSize::new(16 << 20).unwrap()), None);
    }
}
