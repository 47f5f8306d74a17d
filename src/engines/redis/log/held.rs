//! Bytes of a stream that came and are not stored yet: in memory, beyond that in a spool file, beyond that nowhere.
//!
//! Memory: [`MEMORY_BYTES`], reserved with the first bytes, and the piece that is being stored; as much once more for a moment, when the rest comes out of the file.

use std::collections::VecDeque;
use std::path::PathBuf;

use crate::base::error::Result;
use crate::base::exact;
use crate::engines::redis::spool::Spool;

/// Bytes that are held in memory.
pub(crate) const MEMORY_BYTES: usize = 8 << 20;

/// Bytes of memory that a receiver takes: what is held, as much while the rest comes out of the file, a piece that is stored, and
/// the connection.
pub(crate) const RECEIVER_BYTES: u64 = 22 << 20;

/// First in, first out.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    memory: VecDeque<u8>,
    spool: Option<Spool>,
    spool_limit: u64,
    spool_dir: PathBuf,
}

impl HeldBytes {
    /// Makes an empty one. The spool file is made when it is needed.
    pub(crate) fn new(spool_dir: PathBuf, spool_limit: u64) -> Self {
        Self {
            memory: VecDeque::new(),
            spool: None,
            spool_limit,
            spool_dir,
        }
    }

    /// Returns whether a piece of the usual length may be added.
    pub(crate) fn has_room(&self) -> bool {
        match self.spooled() {
            0 => self.spool_limit > 0 || self.memory.len() < MEMORY_BYTES,
            _ => self.spool.as_ref().is_none_or(|spool| spool.end() < self.spool_limit),
        }
    }

    /// Returns how many bytes are held.
    pub(crate) fn len(&self) -> u64 {
        exact::u64_from(self.memory.len()).saturating_add(self.spooled())
    }

    /// Returns how many of them are in the spool file.
    pub(crate) fn spooled(&self) -> u64 {
        self.spool.as_ref().map_or(0, Spool::waiting)
    }

    /// Returns how full the spool file is, in quarters: 4 is full.
    pub(crate) fn quarters(&self) -> u64 {
        let end = self.spool.as_ref().map_or(0, Spool::end);
        end.saturating_mul(4).checked_div(self.spool_limit).unwrap_or_default()
    }

    /// Adds bytes: all of them, or none where the spool file does not take them.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let fits = self.memory.len().saturating_add(bytes.len()) <= MEMORY_BYTES;
        if self.spooled() == 0 && (fits || self.spool_limit == 0) {
            self.reserve(bytes.len());
            self.memory.extend(bytes);
            return Ok(());
        }
        let spool = match &mut self.spool {
            Some(spool) => spool,
            none => none.insert(Spool::create(&self.spool_dir)?),
        };
        spool.push(bytes)
    }

    /// Makes room once for all that is held in memory: a buffer that doubles takes up to twice that.
    fn reserve(&mut self, count: usize) {
        let missing = MEMORY_BYTES.saturating_sub(self.memory.len());
        self.memory.reserve_exact(missing.max(count));
    }

    /// Takes bytes off the front: so many, or fewer if no more are held. Where the spool file cannot be read, all stays as it is.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<u8>> {
        let of_memory = count.min(self.memory.len());
        let missing = exact::u64_from(count.saturating_sub(of_memory)).min(self.spooled());
        let of_spool = exact::usize_from(missing);
        let mut taken = Vec::with_capacity(of_memory.saturating_add(of_spool));
        let (first, second) = self.memory.as_slices();
        let of_first = of_memory.min(first.len());
        taken.extend_from_slice(exact::first(first, of_first));
        taken.extend_from_slice(exact::first(second, of_memory.saturating_sub(of_first)));
        if let Some(spool) = self.spool.as_mut().filter(|_| of_spool > 0) {
            taken.resize(of_memory.saturating_add(of_spool), 0);
            spool.pull(exact::part_mut(&mut taken, of_memory.., "it was made longer by that"))?;
        }
        self.memory.drain(..of_memory);
        // The rest is read when it is asked for.
        if let Err(error) = self.return_to_memory() {
            tracing::debug!("{}", error.chain());
        }
        Ok(taken)
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.memory.clear();
        self.spool = None;
    }

    /// Empties the spool file as soon as the rest fits into memory: only then its room counts again, and what waits for its own end
    /// must not keep that end from coming.
    fn return_to_memory(&mut self) -> Result<()> {
        let room = exact::u64_from(MEMORY_BYTES.saturating_sub(self.memory.len()));
        if let Some(spool) = self
            .spool
            .as_mut()
            .filter(|spool| (1..=room).contains(&spool.waiting()))
        {
            let mut rest = vec![0; exact::usize_from(spool.waiting())];
            spool.pull(&mut rest)?;
            self.reserve(rest.len());
            self.memory.extend(rest);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_the_spool_file_does_not_take_is_not_held() {
        let mut held = HeldBytes::new(PathBuf::from("/dev/null/none"), 1 << 20);
        held.push(&vec![1; MEMORY_BYTES - 10]).unwrap();
        assert_eq!(held.memory.capacity(), MEMORY_BYTES);
        assert!(held.has_room());
        held.push(&[2; 11]).unwrap_err();
        assert_eq!(held.len(), exact::u64_from(MEMORY_BYTES - 10));
        // Room in memory is room.
        held.take(1).unwrap();
        held.push(&[2; 11]).unwrap();
        let all = held.take(MEMORY_BYTES).unwrap();
        assert!(all.len() == MEMORY_BYTES && all.ends_with(&[1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]));
    }

    #[test]
    fn bytes_come_out_as_they_came_in_and_the_spool_has_a_limit() {
        let place = tempfile::tempdir().unwrap();
        let limit = 4 << 20;
        let mut held = HeldBytes::new(place.path().to_owned(), limit);
        let (mut came, mut taken) = (0_u64, 0_u64);
        let piece = |from: u64| {
            (from..from + 65_536)
                .map(|n| u8::try_from(n % 251).unwrap())
                .collect::<Vec<_>>()
        };
        let mut round = |held: &mut HeldBytes, sizes: &[usize]| {
            while held.has_room() {
                held.push(&piece(came)).unwrap();
                came += 65_536;
            }
            assert_eq!(held.quarters(), 4);
            assert!(held.len() <= 8 * 1_048_576 + limit + 65_536);
            for size in sizes {
                let bytes = held.take(*size).unwrap();
                for byte in &bytes {
                    assert_eq!(u64::from(*byte), taken % 251);
                    taken += 1;
                }
            }
            assert_eq!(held.len(), came - taken);
        };
        round(&mut held, &[1, 5_000_000]);
        // The rest fits into memory: there is room again.
        assert_eq!((held.spooled(), held.has_room()), (0, true));
        round(&mut held, &[4_000_000, 2_000_000]);
        round(&mut held, &[0, 100_000_000]);
        assert_eq!(held.len(), 0);
        assert!(held.has_room());
        let mut bare = HeldBytes::new(place.path().to_owned(), 0);
        while bare.has_room() {
            bare.push(&piece(0)).unwrap();
        }
        assert_eq!((bare.spooled(), bare.quarters()), (0, 0));
    }
}
