//! The digest of a table's rows, independent of their order.
//!
//! It is the sum modulo 2^128 of XXH3-128 (seed 0) over each row's image. In text format the image is the row's COPY
//! line without its final newline. A sum, not an exclusive-or: two equal rows do not cancel each other. It shows loss
//! and error, not forgery.

use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

/// Row count and digest of a table, or of any part of one; parts are joined with [`RowDigest::merge`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowDigest {
    /// Rows.
    pub rows: u64,
    sum: u128,
}

impl RowDigest {
    /// Counts a whole row.
    pub fn add(&mut self, image: &[u8]) {
        self.add_hash(xxh3_128(image));
    }

    /// Adds the rows of another part.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// Returns what a record states; a digest that is none counts as 0, and so differs.
    pub(crate) fn of_record(rows: u64, hex: &str) -> Self {
        Self {
            rows,
            sum: u128::from_str_radix(hex, 16).unwrap_or(0),
        }
    }

    /// Returns 32 lowercase hex digits.
    pub fn hex(&self) -> String {
        format!("{:032x}", self.sum)
    }

    fn add_hash(&mut self, hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }
}

/// Feeds a [`RowDigest`] with rows that arrive in pieces, holding none of them.
#[derive(Default)]
pub(crate) struct RowHasher {
    /// What was counted so far.
    pub(crate) digest: RowDigest,
    partial: Option<Box<Xxh3Default>>,
}

impl std::fmt::Debug for RowHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowHasher")
            .field("digest", &self.digest)
            .field("partial", &self.partial.is_some())
            .finish()
    }
}

impl RowHasher {
    /// Takes the next piece of a row's image; `ends` tells that it is the last one.
    pub(crate) fn piece(&mut self, bytes: &[u8], ends: bool) {
        match (&mut self.partial, ends) {
            (None, true) => self.digest.add(bytes),
            (None, false) => {
                let mut hasher = Box::new(Xxh3Default::new());
                hasher.update(bytes);
                self.partial = Some(hasher);
            }
            (Some(hasher), false) => hasher.update(bytes),
            (Some(hasher), true) => {
                hasher.update(bytes);
                let hash = hasher.digest128();
                self.partial = None;
                self.digest.add_hash(hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn order_and_cutting_do_not_matter_but_every_row_does() {
        let rows: [&[u8]; 4] = [b"1\ta", b"2\tb", b"", b"1\ta"];
        let mut forward = RowDigest::default();
        for row in rows {
            forward.add(row);
        }
        let mut backward = RowHasher::default();
        for row in rows.iter().rev() {
            let middle = row.len() / 2;
            backward.piece(&row[..middle], false);
            backward.piece(&row[middle..], true);
        }
        assert_eq!(forward, backward.digest);
        let mut fewer = RowDigest::default();
        rows[..3].iter().for_each(|r| fewer.add(r));
        assert_ne!(forward, fewer);
    }

    #[test]
    fn the_digest_of_one_row_is_its_xxh3() {
        let mut one = RowDigest::default();
        one.add(b"");
        // XXH3_128bits of the empty input, from the algorithm's reference.
        assert_eq!(one.hex(), "99aa06d3014798d86001c324468d497f");
    }
}
