//! Knows which keys were read already: SCAN may name a key twice while the server resizes its tables, and an RDB that
//! holds a key twice is refused by servers.
//!
//! A Bloom filter of a fixed size tells most first sights at once. A key that it may have seen is put off; all hashes lie
//! in a file without a name, and one pass over it tells which of those keys are new after all. So memory does not depend
//! on how many keys there are. Hashes have 128 bits.

use std::collections::HashSet;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use crate::base::error::{Context, Result};
use crate::base::exact;
use crate::base::unnamed_file::unnamed_file;

/// Words of the filter: 8 MiB, which makes about one key of a thousand doubtful at three million keys.
const WORDS: usize = 1 << 20;

/// Bits that are set for a key.
const BITS: u32 = 4;

/// Bytes of names that are put off at most.
const PUT_OFF_BYTES: usize = 4 << 20;

/// The keys of one database.
#[derive(Debug)]
pub(crate) struct KeyJournal {
    filter: Vec<u64>,
    file: BufWriter<std::fs::File>,
    put_off: Vec<Vec<u8>>,
    put_off_bytes: usize,
}

impl KeyJournal {
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        Ok(Self {
            filter: vec![0; WORDS],
            file: BufWriter::with_capacity(64 << 10, unnamed_file(directory)?),
            put_off: Vec::new(),
            put_off_bytes: 0,
        })
    }

    /// Returns whether a key is certainly new. One that may not be is put off until [`Seen::settle`].
    pub(crate) fn first(&mut self, key: &[u8]) -> Result<bool> {
        let hash = xxh3_128(key);
        if self.mark(hash) {
            tokio::task::block_in_place(|| self.file.write_all(&hash.to_le_bytes()))
                .context("write to the list of keys")?;
            return Ok(true);
        }
        self.put_off_bytes += key.len() + 24;
        self.put_off.push(key.to_vec());
        Ok(false)
    }

    /// Returns whether so much is put off that it should be settled.
    pub(crate) fn is_full(&self) -> bool {
        self.put_off_bytes > PUT_OFF_BYTES
    }

    /// Returns those keys of what was put off that are new; the next database begins afterwards if this one is over.
    pub(crate) fn settle(&mut self, over: bool) -> Result<Vec<Vec<u8>>> {
        let doubtful = std::mem::take(&mut self.put_off);
        self.put_off_bytes = 0;
        let new = tokio::task::block_in_place(|| self.new_ones(doubtful)).context("read the list of keys")?;
        if over {
            self.filter.fill(0);
            self.file.get_mut().set_len(0)?;
            self.file.get_mut().seek(SeekFrom::Start(0))?;
        }
        Ok(new)
    }

    fn new_ones(&mut self, doubtful: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        self.file.flush()?;
        if doubtful.is_empty() {
            return Ok(doubtful);
        }
        let mut left: HashSet<u128> = doubtful.iter().map(|key| xxh3_128(key)).collect();
        let file = self.file.get_mut();
        file.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(256 << 10, &*file);
        let mut hash = [0; 16];
        loop {
            match reader.read_exact(&mut hash) {
                Ok(()) => left.remove(&u128::from_le_bytes(hash)),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error.into()),
            };
        }
        file.seek(SeekFrom::End(0))?;
        let mut new = Vec::new();
        for key in doubtful {
            let hash = xxh3_128(&key);
            if left.remove(&hash) {
                self.file.write_all(&hash.to_le_bytes())?;
                new.push(key);
            }
        }
        Ok(new)
    }

    /// Marks a key in the filter; returns whether a bit was new.
    fn mark(&mut self, hash: u128) -> bool {
        let mut new = false;
        for n in 0..BITS {
            let part = exact::known::<usize, _>((hash >> (32 * n)) & 0xffff_ffff, "32 bits were cut out");
            let (word, bit) = ((part >> 6) % WORDS, 1 << (part & 63));
            if let Some(word) = self.filter.get_mut(word) {
                new |= *word & bit == 0;
                *word |= bit;
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn each_key_is_new_exactly_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut key_journal = KeyJournal::new(directory.path()).unwrap();
        // A filter that is full doubts every key.
        for full in [false, true] {
            let mut found = Vec::new();
            for n in (0..3000).chain(1000..5000) {
                if full && n == 2000 {
                    key_journal.filter.fill(u64::MAX);
                }
                let key = format!("key:{n}").into_bytes();
                if key_journal.first(&key).unwrap() {
                    found.push(key);
                }
                if n % 700 == 0 {
                    found.extend(key_journal.settle(false).unwrap());
                }
            }
            found.extend(key_journal.settle(true).unwrap());
            assert_eq!(found.len(), 5000);
            assert_eq!(found.iter().collect::<HashSet<_>>().len(), 5000);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
