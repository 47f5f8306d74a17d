//! The segments of WAL that came, until the server says at the end which of them a base needs.

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::postgres::physical::stored::WAL;
use crate::engines::postgres::physical::stored::facts::BaseFacts;
use crate::engines::postgres::physical::stored::wal::{HEADER_BYTES, WalCover};

/// Bytes of the name of a segment.
const NAME_BYTES: usize = 24;

/// A segment, in 64 bytes.
#[derive(Debug)]
struct WalFile {
    name: [u8; NAME_BYTES],
    size: u64,
    /// Zeros follow where the file is shorter; no segment is.
    head: [u8; HEADER_BYTES],
}

/// The segments that came.
#[derive(Debug)]
pub(super) struct WalFiles {
    limit_bytes: usize,
    files: Vec<WalFile>,
}

impl WalFiles {
    /// Makes an empty list that may take so many bytes.
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes: exact::usize_from(limit_bytes),
            files: Vec::new(),
        }
    }

    /// Adds a segment by its path and how it begins.
    pub(super) fn add(&mut self, path: &[u8], size: u64, head: &[u8]) -> Result<()> {
        let name = path.strip_prefix(WAL).and_then(|name| name.try_into().ok());
        let name = name.ok_or_else(|| {
            let path = path.escape_ascii();
            Error::corrupt(format!("\"{path}\" is no name of a WAL segment"))
        })?;
        let capacity = exact::grown_capacity(&self.files, 1);
        if capacity.saturating_mul(size_of::<WalFile>()) > self.limit_bytes {
            let message = format!("{} WAL segments are too many to be checked", self.files.len());
            return Err(Error::new(ErrorKind::LimitExceeded, message).with_hint("Raise --memory-limit."));
        }
        self.files.reserve_exact(capacity - self.files.len());
        let mut begin = [0; HEADER_BYTES];
        begin.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
        self.files.push(WalFile {
            name,
            size,
            head: begin,
        });
        Ok(())
    }

    /// Refuses a hole, and a segment of another cluster or place.
    pub(super) fn check(&self, facts: &BaseFacts) -> Result<()> {
        let mut cover = WalCover::default();
        for file in &self.files {
            cover.add(facts, &[WAL, &file.name].concat(), file.size, &file.head)?;
        }
        cover.finish(facts)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_of_segments_has_a_bound() {
        assert_eq!(size_of::<WalFile>(), 64);
        let mut files = WalFiles::new(10_000);
        let failed = (0..1000).find_map(|number| {
            let path = format!("pg_wal/0000000100000000{number:08X}");
            files.add(path.as_bytes(), 1, b"").err()
        });
        assert_eq!(failed.unwrap().kind(), ErrorKind::LimitExceeded);
        assert!(files.files.capacity() * 64 <= 10_000 && files.files.len() > 100);
        assert!(files.add(b"pg_wal/00000001.history", 1, b"").is_err());
    }
}
