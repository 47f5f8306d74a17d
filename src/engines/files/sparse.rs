//! Sparse files: their data segments, and the map of GNU.sparse 1.0 that stands before the data of the member.
//!
//! The map is decimal numbers, each ended by a newline: the count, then offset and size of each segment, padded with
//! NUL to a block of 512. A trailing hole is a last segment of size 0 at the end. Stock GNU tar reads it.
//!
//! Format: <https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html#PAX-1>

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::SeekFrom;

use crate::base::error::{Error, Result};
use crate::base::exact;

/// Segments of one file at most; what lies behind is stored as data, holes included.
const MAX_SEGMENTS: usize = 16_384;

/// Bytes of a map at most: count and 16,385 pairs of 20-digit numbers.
pub(crate) const MAX_MAP_BYTES: usize = 1 << 20;

/// Offset and length of data within the file, ascending.
pub(crate) type Segment = (u64, u64);

/// Returns the data segments of an open file of `size` bytes, or `None` if it has no hole (or they cannot be seen).
pub(crate) fn segments(fd: impl AsFd, size: u64) -> Option<Vec<Segment>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&fd, SeekFrom::Data(at)) {
            Ok(start) => start.min(size),
            Err(rustix::io::Errno::NXIO) => size,
            Err(_) => return None,
        };
        if start >= size {
            break;
        }
        let end = if found.len() + 1 >= MAX_SEGMENTS {
            size
        } else {
            rustix::fs::seek(&fd, SeekFrom::Hole(start)).ok()?.min(size)
        };
        if end <= start {
            return None;
        }
        found.push((start, end - start));
        at = end;
    }
    let data: u64 = found.iter().map(|s| s.1).sum();
    if data >= size {
        return None;
    }
    if found.last().is_none_or(|(offset, len)| offset + len < size) {
        found.push((size, 0));
    }
    Some(found)
}

/// Returns the map as it stands before the data.
pub(crate) fn map(segments: &[Segment]) -> Vec<u8> {
    let mut text = format!("{}\n", segments.len());
    for (offset, len) in segments {
        text.push_str(&format!("{offset}\n{len}\n"));
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Returns the pax records of a sparse member.
pub(crate) fn records(path: &[u8], size: u64) -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([
        ("GNU.sparse.major".to_owned(), b"1".to_vec()),
        ("GNU.sparse.minor".to_owned(), b"0".to_vec()),
        ("GNU.sparse.name".to_owned(), path.to_vec()),
        ("GNU.sparse.realsize".to_owned(), size.to_string().into_bytes()),
    ])
}

/// Returns the file's own size if its pax records say that it is a sparse 1.0 member.
pub(crate) fn real_size(pax: &BTreeMap<String, Vec<u8>>) -> Result<Option<u64>> {
    if pax.get("GNU.sparse.major").map(Vec::as_slice) != Some(b"1") {
        return Ok(None);
    }
    let text = pax.get("GNU.sparse.realsize").and_then(|v| std::str::from_utf8(v).ok());
    text.and_then(|t| t.parse().ok())
        .filter(|n: &u64| i64::try_from(*n).is_ok())
        .map(Some)
        .ok_or_else(|| Error::corrupt("a sparse member has no real size"))
}

/// Reads a map as it arrives.
#[derive(Debug, Default)]
pub(crate) struct MapParser {
    text: Vec<u8>,
}

impl MapParser {
    /// Takes bytes of the member until the map is whole. Returns how many were used, and the segments when it is.
    pub(crate) fn take(&mut self, bytes: &[u8], real_size: u64) -> Result<(usize, Option<Vec<Segment>>)> {
        let mut used = 0;
        while used < bytes.len() {
            let room = 512 - self.text.len() % 512;
            let piece = exact::first(exact::part(bytes, used.., "the loop ends there"), room);
            self.text.extend_from_slice(piece);
            used += piece.len();
            if self.text.len().is_multiple_of(512)
                && let Some(found) = self.parse(real_size)?
            {
                return Ok((used, Some(found)));
            }
            if self.text.len() > MAX_MAP_BYTES {
                return Err(Error::corrupt("the map of a sparse member is too long"));
            }
        }
        Ok((used, None))
    }

    fn parse(&self, real_size: u64) -> Result<Option<Vec<Segment>>> {
        let bad = || Error::corrupt("the map of a sparse member is not one");
        let mut numbers = self.text.split(|b| *b == b'\n');
        let lines = numbers.clone().count().saturating_sub(1);
        let mut next = || -> Result<u64> {
            let text = numbers
                .next()
                .and_then(|n| std::str::from_utf8(n).ok())
                .ok_or_else(bad)?;
            text.parse().map_err(|_| bad())
        };
        if lines == 0 {
            return Err(bad());
        }
        let count = usize::try_from(next()?).map_err(|_| bad())?;
        if count > MAX_SEGMENTS + 1 {
            return Err(bad());
        }
        if lines < count * 2 + 1 {
            return Ok(None);
        }
        let mut found = Vec::with_capacity(count);
        let mut end = 0;
        for _ in 0..count {
            let (offset, len) = (next()?, next()?);
            let after = offset.checked_add(len).ok_or_else(bad)?;
            if offset < end || after > real_size {
                return Err(bad());
            }
            end = after;
            found.push((offset, len));
        }
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_map_comes_back_whatever_the_pieces() {
        let segments: Vec<Segment> = (0..100)
            .map(|n| (n * 1_000_000, 4096))
            .chain([(200_000_000, 0)])
            .collect();
        let mut bytes = map(&segments);
        let map_len = bytes.len();
        bytes.extend_from_slice(b"data");
        for piece in [1, 7, 512, 100_000] {
            let mut parser = MapParser::default();
            let mut at = 0;
            let found = loop {
                let end = bytes.len().min(at + piece);
                let (used, found) = parser.take(&bytes[at..end], 200_000_000).unwrap();
                at += used;
                if let Some(found) = found {
                    break found;
                }
            };
            assert_eq!((found, at), (segments.clone(), map_len));
        }
    }

    #[test]
    fn maps_that_lie_are_refused() {
        for text in [
            "x\n",
            "1\n10\n20\n",
            "2\n0\n5\n4\n1\n",
            "99999999\n",
            "1\n18446744073709551615\n2\n",
        ] {
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(512, 0);
            assert!(MapParser::default().take(&bytes, 25).is_err(), "{text:?}");
        }
    }
}
