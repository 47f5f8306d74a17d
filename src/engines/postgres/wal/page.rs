//! Page headers: `XLogPageHeaderData` and, on the first page of a segment, `XLogLongPageHeaderData`.
//!
//! ```text
//!  0  u16  magic: the major version        16  u32  bytes left of a record that began before this page
//!  2  u16  flags                           20  4 bytes of padding
//!  4  u32  timeline                        24  u64  system identifier      (long headers)
//!  8  u64  position of the page            32  u32  bytes of a segment     (long headers)
//!                                          36  u32  bytes of a page        (long headers)
//! ```

use super::lsn::{Lsn, SegmentSize, Timeline};
use crate::base::error::{Error, Result};
use crate::base::exact;

/// Bytes of a header, and of a long one.
pub(super) const SHORT_HEADER_BYTES: usize = 24;
/// As [`SHORT_HEADER_BYTES`].
pub(super) const LONG_HEADER_BYTES: usize = 40;

/// Magic numbers and the major version that writes them (`XLOG_PAGE_MAGIC`).
const MAGICS: [(u16, u32); 6] = [
    (0xD106, 13),
    (0xD10D, 14),
    (0xD110, 15),
    (0xD113, 16),
    (0xD116, 17),
    (0xD118, 18),
];

/// The page goes on with a record that began before it.
pub(super) const CONTINUES: u16 = 0x0001;
/// The header is a long one.
const LONG: u16 = 0x0002;
/// The record that began before it was lost in a crash: the page begins anew.
pub(super) const OVERWRITES: u16 = 0x0008;
/// Every flag that a server sets.
const FLAGS: u16 = 0x000F;

/// Returns the major version of a magic number; None for one that no release from 13 to 18 writes.
pub fn major_of(magic: u16) -> Option<u32> {
    MAGICS
        .iter()
        .find(|(known, _)| *known == magic)
        .map(|(_, major)| *major)
}

/// What every page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) magic: u16,
    pub(super) flags: u16,
    pub(super) timeline: Timeline,
    pub(super) position: Lsn,
    /// Bytes that are left of a record, on this page and those that follow.
    pub(super) left: u32,
}

/// What the first page of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The magic number of its pages.
    pub magic: u16,
    /// The major version that this is.
    pub major: u32,
    /// The timeline on which its first page was written: that of its name, or one from which that came.
    pub timeline: Timeline,
    /// Where it begins.
    pub position: Lsn,
    /// Whose it is.
    pub system: u64,
    /// Bytes of a segment.
    pub segment: SegmentSize,
    /// Bytes of a page.
    pub page_bytes: u32,
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(array(bytes, at)?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(array(bytes, at)?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(array(bytes, at)?))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let found = exact::range(bytes, at.., "the header")?.first_chunk();
    found
        .copied()
        .ok_or_else(|| Error::corrupt(format!("the header ends at byte {}, within a number", bytes.len())))
}

impl PageHeader {
    /// Reads the header of a page; it is a long one where a segment begins and nowhere else.
    pub(super) fn parse(bytes: &[u8], first_of_segment: bool) -> Result<Self> {
        let header = Self {
            magic: u16_at(bytes, 0)?,
            flags: u16_at(bytes, 2)?,
            timeline: Timeline(u32_at(bytes, 4)?),
            position: Lsn(u64_at(bytes, 8)?),
            left: u32_at(bytes, 16)?,
        };
        if header.flags & !FLAGS != 0 || (header.flags & LONG != 0) != first_of_segment || header.timeline.0 == 0 {
            return Err(Error::corrupt("no header of a WAL page"));
        }
        Ok(header)
    }
}

/// Returns whether a page of a segment, which is to be at a position, goes on with anything from an offset within it on. Of a file that the
/// server has renamed for later use, the page is of another position.
pub fn goes_on(page: &[u8], at: Lsn, first_of_segment: bool, from: usize) -> bool {
    let header = PageHeader::parse(page, first_of_segment);
    let is_its = header.is_ok_and(|header| header.position == at && major_of(header.magic).is_some());
    is_its && page.get(from..).is_some_and(|rest| rest.iter().any(|byte| *byte != 0))
}

impl SegmentHeader {
    /// Reads the header of a segment's first page.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let magic = u16_at(bytes, 0)?;
        let Some(major) = major_of(magic) else {
            // Later majors count on from 18, earlier ones lie below 13.
            let error = if (0xD119..=0xD1FF).contains(&magic) {
                Error::unsupported(format!("WAL of a newer PostgreSQL (page magic {magic:04X})"))
                    .with_hint("A newer version of wirevault reads it.")
            } else if (0xD050..0xD106).contains(&magic) {
                Error::unsupported(format!("WAL of a PostgreSQL before 13 (page magic {magic:04X})"))
            } else {
                Error::corrupt(format!("it does not begin with a WAL page (page magic {magic:04X})"))
            };
            return Err(error);
        };
        let page = PageHeader::parse(bytes, true)?;
        let segment = SegmentSize::new(u64::from(u32_at(bytes, 32)?))?;
        let (system, page_bytes) = (u64_at(bytes, 24)?, u32_at(bytes, 36)?);
        let right_page = page_bytes.is_power_of_two() && (1 << 10..=1 << 16).contains(&page_bytes);
        let right_place =
            page.position.0.is_multiple_of(segment.bytes()) && page.position.0.checked_add(segment.bytes()).is_some();
        if !right_page || system == 0 || !right_place {
            return Err(Error::corrupt("its first page header is none of a WAL segment"));
        }
        Ok(Self {
            magic,
            major,
            timeline: page.timeline,
            position: page.position,
            system,
            segment,
            page_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_only_at_its_own_place() {
        let mut page = vec![0; 8192];
        let header: Vec<u8> = [
            &0xD110_u16.to_le_bytes()[..],
            &0_u16.to_le_bytes(),
            &1_u32.to_le_bytes(),
            &0x0300_2000_u64.to_le_bytes(),
        ]
        .concat();
        page.splice(..header.len(), header);
        let at = Lsn(0x0300_2000);
        // Nothing but the header.
        assert!(goes_on(&page, at, false, 0) && !goes_on(&page, at, false, 24));
        if let Some(byte) = page.get_mut(100) {
            *byte = 7;
        }
        assert!(goes_on(&page, at, false, 100) && !goes_on(&page, at, false, 101));
        // A file that was renamed for later use has what it had before.
        assert!(!goes_on(&page, Lsn(0x0400_2000), false, 24));
        assert!(!goes_on(&[0; 8192], at, false, 0) && !goes_on(&[], at, false, 0));
        assert!(!goes_on(&page, at, false, 9000));
    }
}
