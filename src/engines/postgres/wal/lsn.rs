//! Positions in the log, timelines, and the size of a segment.

use std::fmt;
use std::str::FromStr;

use crate::base::error::{Error, Result};

/// A position in the log: a byte offset from its beginning, over all segments. Printed as the server does: `16/B374D848`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::read(text).ok_or_else(|| {
            Error::invalid(format!("\"{text}\" is no position in the log")).with_hint("Write 16/B374D848.")
        })
    }
}

impl Lsn {
    fn read(text: &str) -> Option<Self> {
        let half = |text: &str| {
            let digits = !text.is_empty() && text.len() <= 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
            digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        let (high, low) = text.split_once('/')?;
        Some(Self((half(high)? << 32) | half(low)?))
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
        Self::read(&text).ok_or_else(|| serde::de::Error::custom("no LSN"))
    }
}

/// A timeline: a line of history that a recovery begins. The first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Bytes of a segment: a power of two from 1 MiB to 1 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// Checks a size that a header or a descriptor says.
    pub fn new(bytes: u64) -> Result<Self> {
        match u32::try_from(bytes) {
            Ok(size) if size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size) => Ok(Self(size)),
            _ => Err(Error::corrupt(format!(
                "{bytes} bytes is no size of a WAL segment (a power of two from 1 MiB to 1 GiB)"
            ))),
        }
    }

    /// Returns the size in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// Returns where the segment begins that holds a position.
    pub fn start_of(self, at: Lsn) -> Lsn {
        Lsn(at.0 - at.0 % self.bytes())
    }

    /// Returns where the segments begin that hold what lies from `from` to `to`, which is exclusive.
    pub fn starts_between(self, from: Lsn, to: Lsn) -> impl Iterator<Item = Lsn> {
        let bytes = self.bytes();
        (from.0 / bytes..=to.0.saturating_sub(1) / bytes).map(move |number| Lsn(number * bytes))
    }

    /// Returns how many segments there are in the 4 GiB that the middle part of a file's name counts.
    pub fn per_name(self) -> u64 {
        (1 << 32) / self.bytes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_printed() {
        for (text, value) in [
            ("0/0", 0),
            ("16/B374D848", 0x16_B374_D848),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(text.parse::<Lsn>().unwrap(), Lsn(value));
            assert_eq!(Lsn(value).to_string(), text);
        }
        for wrong in ["", "/", "1", "1/", "/1", "1/+1", "1/123456789", "g/1", "1/2/3"] {
            assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_powers_of_two_within_bounds() {
        for good in [1 << 20, 16 << 20, 1 << 30] {
            assert_eq!(SegmentSize::new(good).unwrap().bytes(), good);
        }
        for wrong in [0, 1, 1 << 19, 1 << 31, (16 << 20) + 1, 1 << 32, u64::MAX] {
            assert!(SegmentSize::new(wrong).is_err(), "{wrong}");
        }
        assert_eq!(SegmentSize::new(16 << 20).unwrap().per_name(), 256);
        let size = SegmentSize::new(1 << 20).unwrap();
        let within = |from, to| size.starts_between(Lsn(from), Lsn(to)).collect::<Vec<_>>();
        assert_eq!(within(0x20_0028, 0x20_0100), [Lsn(0x20_0000)]);
        assert_eq!(within(0x20_0028, 0x30_0000), [Lsn(0x20_0000)]);
        assert_eq!(within(0x20_0028, 0x30_0001), [Lsn(0x20_0000), Lsn(0x30_0000)]);
    }
}
