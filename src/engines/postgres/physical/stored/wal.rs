//! The WAL of a base: every segment from where recovery begins to where the base is consistent.

use std::collections::BTreeSet;

use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::engines::postgres::physical::stored::WAL;
use crate::engines::postgres::physical::stored::facts::BaseFacts;
use crate::engines::postgres::wal::{FileName, Lsn, SegmentName, SegmentSize, Timeline};

/// Bytes of the long header of a segment's first page, as far as they are read: position and system identifier.
pub(crate) const HEADER_BYTES: usize = 32;

/// Where `xlp_info`, `xlp_pageaddr` and `xlp_sysid` lie (`src/include/access/xlog_internal.h`); little-endian.
const INFO: usize = 2;
const POSITION: usize = 8;
const SYSTEM: usize = 24;
/// The flag of a long header.
const LONG: u16 = 2;

/// The segments that were seen.
#[derive(Debug, Default)]
pub(crate) struct WalCover {
    seen: BTreeSet<Lsn>,
}

impl WalCover {
    /// Takes a file of `pg_wal` for what it is: its name, its size, and how it begins. Other files than segments are passed over.
    pub(crate) fn add(&mut self, facts: &BaseFacts, path: &[u8], size: u64, head: &[u8]) -> Result<()> {
        let segments = SegmentSize::new(facts.wal_segment_bytes)?;
        let name = path.strip_prefix(WAL).and_then(|name| std::str::from_utf8(name).ok());
        let Some(FileName::Segment(segment)) = name.and_then(|name| name.parse().ok()) else {
            return Ok(());
        };
        let Some(start) = segment.start(segments) else {
            return Ok(());
        };
        let wrong = |what: &str| Error::corrupt(format!("WAL segment \"{}\" {what}", path.escape_ascii()));
        if size != segments.bytes() {
            return Err(wrong(&format!("has {size} bytes instead of {}", segments.bytes())));
        }
        // What was not written yet has nothing to say, and nobody needs it.
        if start >= facts.end_lsn || start.0.saturating_add(size) <= facts.start_lsn.0 {
            return Ok(());
        }
        if header(head) != Some((start.0, facts.system_identifier)) {
            return Err(wrong("does not begin as a segment of this cluster at this place"));
        }
        if (facts.timeline..=facts.end_timeline).contains(&segment.timeline.0) {
            self.seen.insert(start);
        }
        Ok(())
    }

    /// Refuses a hole.
    pub(crate) fn finish(self, facts: &BaseFacts) -> Result<()> {
        let segments = SegmentSize::new(facts.wal_segment_bytes)?;
        let mut needed = segments.starts_between(facts.start_lsn, facts.end_lsn);
        match needed.find(|start| !self.seen.contains(start)) {
            None => Ok(()),
            Some(start) => {
                let name = SegmentName::holding(Timeline(facts.end_timeline), start, segments);
                Err(Error::corrupt(format!(
                    "WAL segment {name} is missing: the base needs all from {} to {}",
                    facts.start_lsn, facts.end_lsn
                )))
            }
        }
    }
}

/// Returns position and system identifier of a long header.
fn header(head: &[u8]) -> Option<(u64, u64)> {
    let wide = |at: usize| {
        head.get(at..)?
            .first_chunk::<8>()
            .map(|eight| u64::from_le_bytes(*eight))
    };
    let info = head
        .get(INFO..)?
        .first_chunk::<2>()
        .map(|two| u16::from_le_bytes(*two))?;
    (info & LONG != 0).then_some((wide(POSITION)?, wide(SYSTEM)?))
}

/// Returns the first bytes of a file, grown piece by piece.
pub(crate) fn grow_head(head: &mut Vec<u8>, bytes: &[u8]) {
    head.extend_from_slice(exact::first(bytes, HEADER_BYTES.saturating_sub(head.len())));
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::engines::postgres::physical::ManifestChecksums;

    pub(crate) fn facts() -> BaseFacts {
        BaseFacts {
            server_version: "15.4".to_owned(),
            major: 15,
            system_identifier: 77,
            timeline: 2,
            start_lsn: Lsn(0x10_0028),
            end_timeline: 2,
            end_lsn: Lsn(0x30_0000),
            wal_segment_bytes: 1 << 20,
            data_checksums: true,
            directory_mode: 0o700,
            from_standby: false,
            manifest_checksums: ManifestChecksums::Crc32c,
            tablespaces: Vec::new(),
            damaged_files: 0,
        }
    }

    fn head(position: u64, system: u64) -> Vec<u8> {
        let mut head = vec![0; HEADER_BYTES];
        head[2] = 2;
        head[8..16].copy_from_slice(&position.to_le_bytes());
        head[24..32].copy_from_slice(&system.to_le_bytes());
        head
    }

    #[test]
    fn a_hole_and_a_foreign_segment_are_seen() {
        let facts = facts();
        let first = b"pg_wal/000000020000000000000001";
        let second = b"pg_wal/000000020000000000000002";
        let mut wal = WalCover::default();
        wal.add(&facts, first, 1 << 20, &head(0x10_0000, 77)).unwrap();
        wal.add(&facts, b"pg_wal/00000002.history", 40, b"1\t0/100000").unwrap();
        wal.add(&facts, b"pg_wal/archive_status/000000020000000000000002.done", 0, b"")
            .unwrap();
        // One that was made in advance.
        wal.add(&facts, b"pg_wal/000000020000000000000009", 1 << 20, &[0; 32])
            .unwrap();
        let error = WalCover { seen: wal.seen.clone() }.finish(&facts).unwrap_err();
        assert!(
            error.chain().contains("000000020000000000000002 is missing"),
            "{error:?}"
        );
        for (size, head) in [
            (1 << 19, head(0x20_0000, 77)),
            (1 << 20, head(0x20_0000, 78)),
            (1 << 20, head(0x10_0000, 77)),
            (1 << 20, vec![0; 32]),
            (1 << 20, Vec::new()),
        ] {
            assert!(wal.add(&facts, second, size, &head).is_err(), "{head:?}");
        }
        wal.add(&facts, second, 1 << 20, &head(0x20_0000, 77)).unwrap();
        wal.finish(&facts).unwrap();
    }
}
