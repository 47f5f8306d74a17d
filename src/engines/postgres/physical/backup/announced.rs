//! The rows around a base backup: where it begins and which tablespaces come, and at the end where it ended.

use crate::base::error::{Error, Result};
use crate::engines::postgres::physical::stored::facts::Tablespace;
use crate::engines::postgres::session::replication::Rows;
use crate::engines::postgres::wal::Lsn;

/// What the server says in front of the data.
#[derive(Debug)]
pub(super) struct Announced {
    /// Where recovery begins.
    pub(super) start: Lsn,
    pub(super) timeline: u32,
    /// Those beside the data directory.
    pub(super) tablespaces: Vec<Tablespace>,
    /// Bytes of all of it, by an estimate.
    pub(super) bytes: u64,
}

impl Announced {
    /// Reads a row of a position, and one for each tablespace: OID, location, KiB. The data directory is the one without an OID.
    pub(super) fn read(rows: &Rows) -> Result<Self> {
        let mut rows = rows.iter();
        let start = rows.next().and_then(|row| position(row));
        let (start, timeline) =
            start.ok_or_else(|| Error::corrupt("the server does not say where the base backup begins"))?;
        let (mut tablespaces, mut kib, mut bases) = (Vec::new(), 0_u64, 0);
        for row in rows {
            // A size that is not known only makes the estimate smaller.
            if let Some(size) = column(row, 2).and_then(|text| text.parse::<u64>().ok()) {
                kib = kib.saturating_add(size);
            }
            match (column(row, 0), column(row, 1)) {
                (None, _) => bases += 1,
                (Some(oid), Some(location)) => tablespaces.push(Tablespace {
                    oid: oid
                        .parse()
                        .map_err(|_| Error::corrupt("a tablespace of the base backup has no OID"))?,
                    location: location.to_owned(),
                }),
                _ => return Err(Error::corrupt("a tablespace of the base backup has no place")),
            }
        }
        if bases != 1 {
            let message = "the server's list of tablespaces does not hold the data directory once";
            return Err(Error::corrupt(message));
        }
        Ok(Self {
            start,
            timeline,
            tablespaces,
            bytes: kib.saturating_mul(1024),
        })
    }
}

/// Reads the row behind the data: where the base is consistent, and on which timeline.
pub(super) fn end(rows: &Rows) -> Result<(Lsn, u32)> {
    let end = rows.last().and_then(|row| position(row));
    end.ok_or_else(|| Error::corrupt("the server does not say where the base backup ends"))
}

/// Reads a position, `0/3000028`, and its timeline.
fn position(row: &[Option<String>]) -> Option<(Lsn, u32)> {
    Some((column(row, 0)?.parse().ok()?, column(row, 1)?.parse().ok()?))
}

/// Returns a column of a row.
fn column(row: &[Option<String>], at: usize) -> Option<&str> {
    row.get(at)?.as_deref()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(text: &[&[&str]]) -> Rows {
        let value = |text: &&str| (!text.is_empty()).then(|| (*text).to_owned());
        text.iter().map(|row| row.iter().map(value).collect()).collect()
    }

    #[test]
    fn a_backup_begins_with_a_position_and_tablespaces() {
        let read = Announced::read(&rows(&[
            &["0/2000028", "3"][..],
            &["16385", "/mnt/fast", "7"],
            &["", "", "100"],
        ]));
        let read = read.unwrap();
        assert_eq!((read.start, read.timeline, read.bytes), (Lsn(0x200_0028), 3, 107 << 10));
        assert_eq!((read.tablespaces.len(), read.tablespaces[0].oid), (1, 16385));
        assert_eq!(end(&rows(&[&["0/2000100", "3"]])).unwrap(), (Lsn(0x200_0100), 3));
        let start: &[&str] = &["0/2000028", "3"];
        let (base, no_place): (&[&str], &[&str]) = (&["", "", ""], &["7", "", "1"]);
        let odd: &[&str] = &["x", "/mnt", "1"];
        let no_timeline: &[&str] = &["0/2000028", ""];
        for bad in [
            vec![],
            vec![no_timeline, base],
            vec![start],
            vec![start, odd, base],
            vec![start, base, base],
            vec![start, no_place, base],
        ] {
            assert!(Announced::read(&rows(&bad)).is_err(), "{bad:?}");
        }
        assert!(end(&rows(&[])).is_err());
    }
}
