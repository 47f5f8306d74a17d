//! A stored file as one run of bytes: the holes of a sparse member become zeros.

use super::compare::Layout;
use crate::archive::EntryMeta;
use crate::base::error::{Error, Result};
use crate::base::exact;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Takes the data of a member and gives the bytes of its file, in order.
#[derive(Debug)]
pub(crate) struct Filled {
    layout: Layout,
    /// Bytes given so far.
    at: u64,
}

impl Filled {
    /// Begins a file.
    pub(crate) fn new(meta: &EntryMeta) -> Result<Self> {
        Ok(Self {
            layout: Layout::new(meta)?,
            at: 0,
        })
    }

    /// Takes the next data of the member.
    pub(crate) fn take(&mut self, data: &[u8], put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let at = &mut self.at;
        self.layout.place(data, &mut |offset, piece| {
            zeros(at, offset, put)?;
            put(piece)?;
            *at += exact::u64_from(piece.len());
            Ok(())
        })
    }

    /// Gives the hole at the end.
    pub(crate) fn finish(mut self, put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if self.layout.in_map() {
            return Err(Error::corrupt("a sparse member ends within its map"));
        }
        zeros(&mut self.at, self.layout.real_size(), put)
    }
}

fn zeros(at: &mut u64, until: u64, put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    while *at < until {
        let some = exact::first(&ZEROS, exact::usize_from(until - *at));
        put(some)?;
        *at += exact::u64_from(some.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::sparse;
    use super::*;

    #[test]
    fn holes_become_zeros_however_the_data_come() {
        let segments = [(3, 2), (70_000, 1), (70_010, 0)];
        let meta = EntryMeta {
            pax: sparse::records(b"f", 70_010),
            ..EntryMeta::file("f", 0, (0, 0))
        };
        let member = [sparse::map(&segments), b"abc".to_vec()].concat();
        for size in [1, 7, 4096] {
            let mut file = Vec::new();
            let mut put = |piece: &[u8]| {
                file.extend_from_slice(piece);
                Ok(())
            };
            let mut filled = Filled::new(&meta).unwrap();
            for piece in member.chunks(size) {
                filled.take(piece, &mut put).unwrap();
            }
            filled.finish(&mut put).unwrap();
            let mut wanted = vec![0; 70_010];
            wanted.splice(3..5, *b"ab");
            wanted.splice(70_000..70_001, *b"c");
            assert!(file == wanted, "{size}");
        }
        let cut = Filled::new(&meta).unwrap();
        assert!(cut.finish(&mut |_| Ok(())).is_err(), "the map is missing");
    }
}
