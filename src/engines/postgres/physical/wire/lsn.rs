//! Positions in the write-ahead log, and the names of its segments.

use std::fmt;
use std::str::FromStr;

use crate::base::error::{Error, Result};

/// A log sequence number: a byte position in the write-ahead log. Its text is PostgreSQL's, `0/3000028`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let half = |part: &str| {
            let is_hex = !part.is_empty() && part.len() <= 8 && part.bytes().all(|b| b.is_ascii_hexdigit());
            is_hex.then(|| u64::from_str_radix(part, 16).ok()).flatten()
        };
        let halves = text
            .split_once('/')
            .and_then(|(high, low)| Some((half(high)?, half(low)?)));
        let (high, low) = halves.ok_or_else(|| Error::corrupt(format!("\"{}\" is no LSN", text.escape_debug())))?;
        Ok(Self(high << 32 | low))
    }
}

impl serde::Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom("no LSN"))
    }
}

/// Bytes of a WAL segment may be any power of two from 1 MiB to 1 GiB.
pub fn is_segment_size(bytes: u64) -> bool {
    bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)
}

/// A segment of the write-ahead log of one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Its timeline.
    pub timeline: u32,
    /// Its number, counted from 0.
    pub number: u64,
}

impl Segment {
    /// Returns the name of its file: timeline, then the number in two parts, 8 hex digits each.
    pub fn file_name(self, segment_bytes: u64) -> String {
        let per_id = 0x1_0000_0000 / segment_bytes.max(1);
        let (high, low) = (self.number / per_id.max(1), self.number % per_id.max(1));
        format!("{:08X}{high:08X}{low:08X}", self.timeline)
    }

    /// Reads the name of a file; `None` if it is not that of a whole segment.
    pub fn of_file_name(name: &[u8], segment_bytes: u64) -> Option<Self> {
        let text = std::str::from_utf8(name).ok()?;
        let is_upper = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
        if text.len() != 24 || !text.bytes().all(is_upper) {
            return None;
        }
        let part = |range| u64::from_str_radix(text.get(range)?, 16).ok();
        let (timeline, high, low) = (part(0..8)?, part(8..16)?, part(16..24)?);
        let per_id = 0x1_0000_0000_u64.checked_div(segment_bytes)?;
        (low < per_id).then_some(Self {
            timeline: u32::try_from(timeline).ok()?,
            number: high.checked_mul(per_id)?.checked_add(low)?,
        })
    }

    /// Returns where it begins.
    pub fn start(self, segment_bytes: u64) -> Lsn {
        Lsn(self.number.saturating_mul(segment_bytes))
    }
}

/// Returns the numbers of the segments that hold what lies from `start` to `end`, which is exclusive.
pub fn segments_between(start: Lsn, end: Lsn, segment_bytes: u64) -> std::ops::RangeInclusive<u64> {
    let bytes = segment_bytes.max(1);
    start.0 / bytes..=end.0.saturating_sub(1) / bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn positions_are_written_as_the_server_writes_them() {
        for (text, number) in [("0/0", 0), ("0/3000028", 0x300_0028), ("1A/B", 0x1A_0000_000B)] {
            assert_eq!(text.parse::<Lsn>().unwrap(), Lsn(number));
            assert_eq!(Lsn(number).to_string(), text);
        }
        for bad in ["", "0", "0/", "/1", "0/123456789", "0/x", "+1/2", "0/1/2"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn segments_are_named_for_every_size() {
        for (bytes, number, name) in [
            (16 << 20, 1, "000000010000000000000001"),
            (16 << 20, 256, "000000010000000100000000"),
            (1 << 20, 4097, "000000010000000100000001"),
            (1 << 30, 5, "000000010000000100000001"),
        ] {
            let segment = Segment { timeline: 1, number };
            assert_eq!(segment.file_name(bytes), name);
            assert_eq!(Segment::of_file_name(name.as_bytes(), bytes), Some(segment));
        }
        for bad in [
            "00000001000000000000000",
            "00000001000000000000001a",
            "0000000100000000000000FF.partial",
        ] {
            assert_eq!(Segment::of_file_name(bad.as_bytes(), 16 << 20), None);
        }
        // Beyond the last one of its part.
        assert_eq!(Segment::of_file_name(b"000000010000000000000100", 16 << 20), None);
        let within = |start, end| segments_between(Lsn(start), Lsn(end), 1 << 20);
        assert_eq!(within(0x20_0028, 0x20_0100), 2..=2);
        assert_eq!(within(0x20_0028, 0x30_0000), 2..=2);
        assert_eq!(within(0x20_0028, 0x30_0001), 2..=3);
    }
}
