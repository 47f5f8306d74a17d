//! The checksum of a data page: FNV-1a over 32 columns of 32-bit words, folded, with the block number in it.
//!
//! The algorithm stands in PostgreSQL's `src/include/storage/checksum_impl.h`, the header in `bufpage.h`. Numbers are read
//! as little-endian; the byte order of the server is not looked at, and pages of a big-endian one come out as damaged.

use crate::base::exact;

/// Columns that are summed beside one another.
const COLUMNS: usize = 32;
const PRIME: u32 = 16_777_619;

/// What each column begins with.
const BASE: [u32; COLUMNS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// Where `pd_lsn`, `pd_checksum` and `pd_upper` lie in the header of a page.
const CHECKSUM: usize = 8;
const UPPER: usize = 14;

fn mix(sum: u32, value: u32) -> u32 {
    let mixed = sum ^ value;
    mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
}

/// Returns the checksum of a page, as it stands in the header of one that is whole. Its length is a multiple of 128.
pub(crate) fn checksum(page: &[u8], block: u32) -> u16 {
    let mut sums = BASE;
    for (number, row) in page.chunks_exact(COLUMNS * 4).enumerate() {
        let (words, _) = row.as_chunks::<4>();
        for (column, (sum, word)) in sums.iter_mut().zip(words).enumerate() {
            // The checksum itself, the lower half of its word, counts as zero.
            let is_own = number == 0 && column == CHECKSUM / 4;
            let mask = if is_own { 0xffff_0000 } else { u32::MAX };
            *sum = mix(*sum, u32::from_le_bytes(*word) & mask);
        }
    }
    for _ in 0..2 {
        for sum in &mut sums {
            *sum = mix(*sum, 0);
        }
    }
    let folded = sums.iter().fold(block, |all, sum| all ^ sum);
    exact::known(folded % 65_535 + 1, "it is 1 to 65,535")
}

/// Returns whether a page may be what was written: it is new, its record in the WAL is replayed anyway, or its checksum is right.
///
/// A page whose LSN is not below `start` was changed after the backup began: recovery writes it anew from the WAL, and it may
/// have been read while it was being written.
pub(crate) fn is_plausible(page: &[u8], block: u32, start: u64) -> bool {
    let short = |at: usize| {
        page.get(at..)
            .and_then(|rest| rest.first_chunk::<2>())
            .map(|two| u16::from_le_bytes(*two))
    };
    let word = |at: usize| {
        page.get(at..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map(|four| u32::from_le_bytes(*four))
    };
    let (Some(high), Some(low), Some(stored), Some(upper)) = (word(0), word(4), short(CHECKSUM), short(UPPER)) else {
        return false;
    };
    let lsn = u64::from(high) << 32 | u64::from(low);
    upper == 0 || lsn >= start || checksum(page, block) == stored
}

/// Checks the pages of one segment of a relation as its bytes come, in pieces of any length.
#[derive(Debug)]
pub(crate) struct PageChecker {
    page_bytes: usize,
    start: u64,
    block: u32,
    /// The beginning of a page whose end has not come.
    begun: Vec<u8>,
    bad: Vec<u32>,
    bad_count: u64,
}

/// Block numbers of a file that are kept; more are counted.
const MOST_BLOCKS: usize = 8;

impl PageChecker {
    /// Begins at block `first`; pages that were written from the LSN `start` on are passed over.
    pub(crate) fn new(page_bytes: usize, start: u64, first: u32) -> Self {
        Self {
            page_bytes,
            start,
            block: first,
            begun: Vec::new(),
            bad: Vec::new(),
            bad_count: 0,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        if !self.begun.is_empty() {
            let piece = exact::first(bytes, self.page_bytes - self.begun.len());
            self.begun.extend_from_slice(piece);
            bytes = exact::part(bytes, piece.len().., "it is a part of them");
            if self.begun.len() < self.page_bytes {
                return;
            }
            let page = std::mem::take(&mut self.begun);
            self.check(&page);
            self.begun = page;
            self.begun.clear();
        }
        let pages = bytes.chunks_exact(self.page_bytes);
        self.begun.extend_from_slice(pages.remainder());
        for page in pages {
            self.check(page);
        }
    }

    fn check(&mut self, page: &[u8]) {
        if !is_plausible(page, self.block, self.start) {
            self.bad_count += 1;
            if self.bad.len() < MOST_BLOCKS {
                self.bad.push(self.block);
            }
        }
        self.block = self.block.wrapping_add(1);
    }

    /// Says which pages are wrong; `None` if none is. A page that the file's end cuts is the server's business: it is extended.
    pub(crate) fn finish(self) -> Option<String> {
        let shown: Vec<String> = self.bad.iter().map(u32::to_string).collect();
        let more = self.bad_count.saturating_sub(exact::u64_from(shown.len()));
        let blocks = if self.bad_count == 1 { "block" } else { "blocks" };
        match (self.bad_count, more) {
            (0, _) => None,
            (_, 0) => Some(format!("wrong page checksum in {blocks} {}", shown.join(", "))),
            _ => Some(format!(
                "wrong page checksum in {blocks} {} and {more} more",
                shown.join(", ")
            )),
        }
    }
}

/// Returns the number of the segment of a relation's main fork that a path of a data directory is: `base/5/1259` is 0,
/// `base/5/1259.2` is 2. `None` if it is no such file.
pub(crate) fn main_fork_segment(path: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(path).ok()?;
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        ["global", name] | ["base", _, name] => *name,
        ["pg_tblspc", _, version, _, name] if version.starts_with("PG_") => *name,
        _ => return None,
    };
    let is_number = |text: &str| !text.is_empty() && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit());
    match name.split_once('.') {
        None => is_number(name).then_some(0),
        Some((node, segment)) => (is_number(node) && is_number(segment))
            .then(|| segment.parse().ok())
            .flatten(),
    }
}

/// Returns the number of the first block of a relation's segment.
pub(crate) fn first_block(segment: u32, segment_bytes: u64, page_bytes: u64) -> Option<u32> {
    let blocks = segment_bytes.checked_div(page_bytes)?;
    u32::try_from(u64::from(segment).checked_mul(blocks)?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// See fixtures/README.md.
    fn real() -> Vec<u8> {
        let stored = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/pg_database.page.zst"));
        zstd::decode_all(&stored[..]).unwrap()
    }

    #[test]
    fn a_real_page_has_the_checksum_that_the_server_wrote() {
        let page = real();
        assert_eq!(page.len(), 8192);
        let stored = u16::from_le_bytes([page[8], page[9]]);
        assert_ne!(stored, 0);
        assert_eq!(checksum(&page, 0), stored);
        assert_ne!(checksum(&page, 1), stored);
        let all = u64::MAX;
        assert!(is_plausible(&page, 0, all) && !is_plausible(&page, 1, all));
        // What is written anew by recovery, and a page of zeros, say nothing.
        assert!(is_plausible(&page, 1, 0));
        assert!(is_plausible(&[0; 8192], 7, all));
        assert!(!is_plausible(&page[..10], 0, all));
    }

    #[test]
    fn every_flipped_byte_is_seen_however_the_bytes_come() {
        let good = real();
        let mut bad = good.clone();
        bad[5000] ^= 1;
        let file = [good.as_slice(), &bad, &good, &bad[..100]].concat();
        for step in [1, 7, 4096, 8192, 8193, file.len()] {
            let mut checker = PageChecker::new(8192, u64::MAX, 0);
            file.chunks(step).for_each(|piece| checker.push(piece));
            // Only block 0 is at its place.
            assert_eq!(checker.finish().unwrap(), "wrong page checksum in blocks 1, 2");
        }
        let mut checker = PageChecker::new(8192, u64::MAX, 0);
        checker.push(&good);
        assert_eq!(checker.finish(), None);
        let mut checker = PageChecker::new(8192, u64::MAX, 10);
        (0..12).for_each(|_| checker.push(&good));
        let said = checker.finish().unwrap();
        assert!(
            said.ends_with("blocks 10, 11, 12, 13, 14, 15, 16, 17 and 4 more"),
            "{said}"
        );
    }

    #[test]
    fn only_main_forks_are_pages_of_relations() {
        for (path, segment) in [
            ("base/5/1259", Some(0)),
            ("base/5/1259.12", Some(12)),
            ("global/1262", Some(0)),
            ("pg_tblspc/16385/PG_15_202209061/5/16386.1", Some(1)),
            ("base/5/1259_fsm", None),
            ("base/5/pg_filenode.map", None),
            ("global/pg_control", None),
            ("pg_wal/000000010000000000000001", None),
            ("pg_xact/0000", None),
            ("base/5/1259.x", None),
        ] {
            assert_eq!(main_fork_segment(path.as_bytes()), segment, "{path}");
        }
    }
}
