//! Whether a live file holds the bytes of the backup: compared piece by piece as the archive is read.
//!
//! Size and time do not tell: a disk fault changes neither, and deployers give every file the same time. What arrives here
//! was checked against the digests of the index, so a file that is equal needs no copy beside it. One that turns out to
//! differ is read from the archive again, and staged.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::sparse;
use crate::archive::EntryMeta;
use crate::base::error::{Error, Result};
use crate::base::exact;

/// Where the data of a member belongs in its file: all of it in one piece, or by the map of a sparse member.
#[derive(Debug)]
pub(super) struct Layout {
    map: Option<sparse::MapParser>,
    segments: Vec<sparse::Segment>,
    segment: usize,
    at: u64,
    real_size: u64,
}

impl Layout {
    pub(super) fn new(meta: &EntryMeta) -> Result<Self> {
        let real = sparse::real_size(&meta.pax)?;
        Ok(Self {
            map: real.map(|_| sparse::MapParser::default()),
            segments: if real.is_some() {
                Vec::new()
            } else {
                vec![(0, meta.size_bytes)]
            },
            segment: 0,
            at: 0,
            real_size: real.unwrap_or(meta.size_bytes),
        })
    }

    /// The length of the file.
    pub(super) fn real_size(&self) -> u64 {
        self.real_size
    }

    /// Whether the member's map is not whole yet.
    pub(super) fn in_map(&self) -> bool {
        self.map.is_some()
    }

    /// The pieces of data, once the map is whole.
    fn segments(&self) -> &[sparse::Segment] {
        &self.segments
    }

    /// Calls `put` with the next data of the member and where each piece belongs.
    pub(super) fn place(&mut self, mut data: &[u8], put: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        if let Some(map) = &mut self.map {
            let (used, found) = map.take(data, self.real_size)?;
            data = exact::part(data, used.., "a map uses no more than it is given");
            let Some(found) = found else { return Ok(()) };
            self.segments = found;
            self.map = None;
        }
        while !data.is_empty() {
            let (offset, len) = *self
                .segments
                .get(self.segment)
                .ok_or_else(|| Error::corrupt("a member has more data than its map says"))?;
            let take = exact::usize_from(len - self.at).min(data.len());
            let (now, rest) = data.split_at(take);
            put(offset + self.at, now)?;
            self.at += exact::u64_from(take);
            data = rest;
            if self.at == len {
                self.segment += 1;
                self.at = 0;
            }
        }
        Ok(())
    }
}

/// A live file beside a member of the archive.
#[derive(Debug)]
pub(super) struct Comparison {
    /// Where it stands.
    pub(super) path: Vec<u8>,
    live: File,
    layout: Layout,
    differs: bool,
    buffer: Vec<u8>,
}

impl Comparison {
    pub(super) fn new(path: Vec<u8>, live: File, meta: &EntryMeta) -> Result<Self> {
        Ok(Self {
            path,
            live,
            layout: Layout::new(meta)?,
            differs: false,
            buffer: vec![0; exact::usize_from(meta.size_bytes).clamp(1, 64 << 10)],
        })
    }

    /// The length of the file in the backup.
    pub(super) fn size(&self) -> u64 {
        self.layout.real_size()
    }

    /// Compares the next data of the member.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<()> {
        let Self {
            live,
            layout,
            differs,
            buffer,
            ..
        } = self;
        layout.place(data, &mut |mut offset, data| {
            for piece in data.chunks(buffer.len()) {
                let there = exact::part_mut(buffer, ..piece.len(), "pieces are cut to the buffer");
                // A file that cannot be read is one to be replaced.
                *differs = *differs || live.read_exact_at(there, offset).is_err() || there != piece;
                offset += exact::u64_from(piece.len());
            }
            Ok(())
        })
    }

    /// Returns whether the file is that of the backup, after all data.
    pub(super) fn is_equal(&self) -> bool {
        if self.differs || self.layout.in_map() {
            return false;
        }
        let mut end = 0;
        let after = [(self.layout.real_size(), 0)];
        for (offset, len) in self.layout.segments().iter().chain(&after) {
            if !is_zero(&self.live, end, *offset) {
                return false;
            }
            end = offset.saturating_add(*len);
        }
        true
    }
}

/// Returns whether a file has nothing but zeros between two offsets; holes are not read.
fn is_zero(file: &File, from: u64, to: u64) -> bool {
    if from >= to {
        return true;
    }
    let mut at = from;
    let mut buffer = vec![0; 64 << 10];
    while at < to {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // No data until the end.
            Err(Errno::NXIO) => return true,
            Err(_) => at,
        };
        if data >= to {
            return true;
        }
        let piece = exact::first_mut(&mut buffer, exact::usize_from(to - data));
        if file.read_exact_at(piece, data).is_err() || piece.iter().any(|byte| *byte != 0) {
            return false;
        }
        at = data + exact::u64_from(piece.len());
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn holes_are_zeros_and_nothing_else_is() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 << 20).unwrap();
        file.write_all_at(b"island", 1 << 20).unwrap();
        assert!(is_zero(&file, 0, 1 << 20));
        assert!(!is_zero(&file, 0, (1 << 20) + 1));
        assert!(is_zero(&file, (1 << 20) + 6, 4 << 20));
        file.write_all_at(&vec![0; 100_000], 2 << 20).unwrap();
        assert!(is_zero(&file, (1 << 20) + 6, 4 << 20));
        file.write_all_at(b"x", (4 << 20) - 1).unwrap();
        assert!(!is_zero(&file, (1 << 20) + 6, 4 << 20));
    }
}
