//! What `global/pg_control` says of the server that wrote it: what a scratch server needs as large, and how relations are cut into pages.
//!
//! The fields stand around `floatFormat`, which is 1234567.0 in every version, so nothing depends on what stands before them
//! (`src/include/catalog/pg_control.h` of 15 to 18).

use crate::base::error::{Error, Result};

/// The number by which a server knows another form of numbers.
const FLOAT_FORMAT: f64 = 1_234_567.0;

/// Sizes of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// `max_prepared_transactions`.
    pub(super) prepared: u32,
    /// `max_locks_per_transaction`.
    pub(super) locks: u32,
    /// Bytes of a page of a relation.
    pub(super) page_bytes: u32,
    /// Pages of a segment of a relation.
    pub(super) segment_pages: u32,
}

impl Sizes {
    /// Reads the file.
    pub(super) fn read(control: &[u8]) -> Result<Self> {
        let wrong = || Error::corrupt("global/pg_control is not as PostgreSQL 15 to 18 write it");
        let (numbers, _) = control.as_chunks::<8>();
        let anchor = numbers
            .iter()
            .position(|number| f64::from_le_bytes(*number).to_bits() == FLOAT_FORMAT.to_bits());
        let anchor = anchor.and_then(|place| place.checked_mul(8)).ok_or_else(wrong)?;
        let at = |before: usize, behind: usize| {
            let place = anchor.checked_sub(before)?.checked_add(behind)?;
            let bytes = control.get(place..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let field = |before, behind| at(before, behind).ok_or_else(wrong);
        // maxAlign tells that the others stand where they should.
        let sizes = Self {
            prepared: field(16, 0)?,
            locks: field(12, 0)?,
            page_bytes: field(0, 8)?,
            segment_pages: field(0, 12)?,
        };
        let is_right = field(4, 0)? == 8
            && sizes.page_bytes.is_power_of_two()
            && (1 << 10..=32 << 10).contains(&sizes.page_bytes)
            && sizes.segment_pages > 0
            && sizes.prepared <= 262_143
            && (10..=i32::MAX.unsigned_abs()).contains(&sizes.locks);
        is_right.then_some(sizes).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn control() -> Vec<u8> {
        let mut bytes = vec![0; 192];
        for number in [5_u32, 64, 1, 8] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(FLOAT_FORMAT.to_le_bytes());
        for number in [8192_u32, 131_072, 8192, 16 << 20] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(8192, 0);
        bytes
    }

    #[test]
    fn sizes_stand_around_the_number() {
        let sizes = Sizes {
            prepared: 5,
            locks: 64,
            page_bytes: 8192,
            segment_pages: 131_072,
        };
        assert_eq!(Sizes::read(&control()).unwrap(), sizes);
        for (at, value) in [(204, 4_u32), (216, 8000), (212, 0), (196, 0), (220, 0)] {
            let mut wrong = control();
            wrong.splice(at..at + 4, value.to_le_bytes());
            assert!(Sizes::read(&wrong).is_err(), "{at}");
        }
        assert!(Sizes::read(&[]).is_err());
        assert!(Sizes::read(&control()[..218]).is_err());
    }
}
