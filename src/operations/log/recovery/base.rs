//! A base backup, as the manifest of its snapshot says it. Nothing of it is believed: the restore compares it with the archive.

use std::str::FromStr;

use crate::base::error::{Context, Error, Result};
use crate::engines::postgres::physical::recovery::PlannedBase;
use crate::engines::postgres::wal::{Lsn, SegmentSize, Timeline};
use crate::operations::snapshots::outcome_of;
use crate::repository::ManifestSource;

/// Where a base lies in the log of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) system: u64,
    /// The timeline on which it ended.
    pub(super) timeline: Timeline,
    /// Where recovery begins.
    pub(super) start: Lsn,
    /// Where it is consistent; exclusive.
    pub(super) end: Lsn,
    pub(super) size: SegmentSize,
    /// Where its own log ends: a primary ends the segment behind a backup, and that is in the base as a whole.
    pub(super) own_log: Lsn,
}

impl Base {
    /// Reads the position of a source; one that failed has none.
    pub(super) fn of(source: &ManifestSource) -> Result<Self> {
        let outcome = outcome_of(source)?;
        let of_standby = outcome.note_counts.contains_key("standby");
        let said = |name: &str| outcome.position.get(name).map(String::as_str);
        Self::read(&said, of_standby).with_context(|| format!("read the position of source \"{}\"", source.name))
    }

    fn read<'a>(said: &dyn Fn(&str) -> Option<&'a str>, of_standby: bool) -> Result<Self> {
        let size = SegmentSize::new(number(said, "wal_segment_bytes")?)?;
        let (start, end): (Lsn, Lsn) = (number(said, "start_lsn")?, number(said, "end_lsn")?);
        let timeline = Timeline(number(said, "timeline")?);
        let whole = end.0.checked_next_multiple_of(size.bytes());
        let whole = whole.filter(|_| start < end && timeline.0 > 0);
        let whole = whole.ok_or_else(|| Error::corrupt(format!("it is of {start} to {end} on timeline {timeline}")))?;
        Ok(Self {
            system: number(said, "system_identifier")?,
            timeline,
            start,
            end,
            size,
            own_log: if of_standby { end } else { Lsn(whole) },
        })
    }

    pub(super) fn planned(&self) -> PlannedBase {
        PlannedBase {
            system: self.system,
            start: self.start,
            end: self.end,
        }
    }
}

fn number<'a, T: FromStr>(said: &dyn Fn(&str) -> Option<&'a str>, name: &str) -> Result<T> {
    let value = said(name).ok_or_else(|| Error::corrupt(format!("the snapshot does not say its {name}")))?;
    let read = value.parse().ok();
    read.ok_or_else(|| Error::corrupt(format!("the snapshot says {value:?} for its {name}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(changed: (&str, &'static str), of_standby: bool) -> Result<Base> {
        let said = |name: &str| {
            let usual = match name {
                "wal_segment_bytes" => "1048576",
                "start_lsn" => "0/300028",
                "end_lsn" => "0/3000F8",
                "timeline" => "2",
                _ => "7123456789012345678",
            };
            let value = if name == changed.0 { changed.1 } else { usual };
            (!value.is_empty()).then_some(value)
        };
        Base::read(&said, of_standby)
    }

    #[test]
    fn a_base_ends_with_a_segment_unless_it_is_of_a_standby() {
        let base = read(("", ""), false).unwrap();
        assert_eq!((base.system, base.own_log), (7_123_456_789_012_345_678, Lsn(0x40_0000)));
        assert_eq!(read(("", ""), true).unwrap().own_log, Lsn(0x30_00F8));
    }

    #[test]
    fn what_no_server_says_is_refused() {
        for changed in [
            ("wal_segment_bytes", "7"),
            ("start_lsn", ""),
            ("start_lsn", "0/3000F8"),
            ("end_lsn", "elsewhere"),
            ("end_lsn", "FFFFFFFF/FFFFFFFF"),
            ("timeline", "0"),
            ("timeline", "-1"),
            ("system_identifier", "x"),
        ] {
            assert!(read(changed, false).is_err(), "{changed:?}");
        }
    }
}
