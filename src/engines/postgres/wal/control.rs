//! The system identifier out of `global/pg_control`.

use super::page::{u32_at, u64_at};
use crate::base::error::{Error, Result};

/// Bytes of the file's beginning that are looked at.
pub const CONTROL_BYTES: usize = 16;

/// Versions of the file: of PostgreSQL 13 (1300) and whatever comes in a century of releases.
const VERSIONS: std::ops::RangeInclusive<u32> = 1300..=11300;

/// Reads the system identifier: the first eight bytes of the file; four of its version and four of the catalog's follow. The
/// server rewrites the file in place while it runs, so that its check sum may be torn; these bytes never change.
pub fn system_identifier(file: &[u8]) -> Result<u64> {
    let wrong = || Error::corrupt("pg_control does not begin as PostgreSQL 13 and later write it");
    let (system, version) = (u64_at(file, 0)?, u32_at(file, 8)?);
    if system == 0 || !VERSIONS.contains(&version) {
        return Err(wrong());
    }
    Ok(system)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_identifier_stands_first() {
        let version = |number: u32| [&7_u64.to_le_bytes()[..], &number.to_le_bytes(), &[0; 8]].concat();
        // Of 15 and 18.
        for number in [1300, 1800] {
            assert_eq!(system_identifier(&version(number)).unwrap(), 7);
        }
        for wrong in [
            &version(0)[..],
            &version(0x0514_0000),
            &[0; 64],
            b"",
            &version(1300)[..11],
        ] {
            assert!(system_identifier(wrong).is_err());
        }
    }
}
