//! The checksums of files in a backup manifest, and the table of files that one list has and another must have too.

use sha2::{Digest as _, Sha256};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::postgres::physical::ManifestChecksums;

/// The checksum of a file as its bytes come.
#[derive(Debug)]
pub(crate) enum FileDigest {
    Crc32c(crc_fast::Digest),
    Sha256(Sha256),
}

impl FileDigest {
    pub(crate) fn new(algorithm: ManifestChecksums) -> Self {
        match algorithm {
            ManifestChecksums::Crc32c => Self::Crc32c(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi)),
            ManifestChecksums::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32c(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
        }
    }

    /// Returns it in the byte order of the manifest: a CRC as the server's memory has it, little-endian.
    pub(crate) fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc32c(digest) => {
                let crc: u32 = exact::known(digest.finalize(), "it is a CRC of 32 bits");
                crc.to_le_bytes().to_vec()
            }
            Self::Sha256(digest) => digest.finalize().to_vec(),
        }
    }
}

/// The files of one list, each of which has to be found in another list once.
///
/// A file takes the bytes of its path, its checksum (4 or 32) and 20 more, and lists have room for an eighth more than they hold. Both lists have one order as a rule, so the next file is looked for behind
/// the last one that was found; what is not there is searched for in an index by path, which is made only then.
#[derive(Debug)]
pub(crate) struct FileTable {
    algorithm: ManifestChecksums,
    limit_bytes: usize,
    paths: Vec<u8>,
    digests: Vec<u8>,
    files: Vec<FileRecord>,
    next: usize,
    sorted: Option<Vec<u32>>,
}

#[derive(Debug, Clone, Copy)]
struct FileRecord {
    size: u64,
    path: u32,
    path_bytes: u16,
    is_found: bool,
}

/// What a comparison with a [`FileTable`] said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Size and checksum are those of the table.
    Same,
    /// The table has no such file.
    Unknown,
    /// It was found before.
    Twice,
    /// It has so many bytes in the table.
    Size(u64),
    /// Its checksum is another one.
    Checksum,
}

impl FileTable {
    /// Makes an empty table that may take so many bytes.
    pub(crate) fn new(algorithm: ManifestChecksums, limit_bytes: u64) -> Self {
        Self {
            algorithm,
            limit_bytes: exact::usize_from(limit_bytes),
            paths: Vec::new(),
            digests: Vec::new(),
            files: Vec::new(),
            next: 0,
            sorted: None,
        }
    }

    /// Returns how its files are summed.
    pub(crate) fn algorithm(&self) -> ManifestChecksums {
        self.algorithm
    }

    /// Adds a file.
    pub(crate) fn add(&mut self, path: &[u8], size: u64, digest: &[u8]) -> Result<()> {
        if digest.len() != self.algorithm.bytes() {
            let (path, bytes) = (path.escape_ascii(), digest.len());
            return Err(Error::corrupt(format!(
                "file \"{path}\" has a checksum of {bytes} bytes"
            )));
        }
        let path_bytes = u16::try_from(path.len()).map_err(|_| {
            let (start, bytes) = (exact::first(path, 100).escape_ascii(), path.len());
            Error::corrupt(format!("the path of a file has {bytes} bytes: \"{start}…\""))
        })?;
        let path_at = u32::try_from(self.paths.len()).map_err(|_| self.is_full("their paths take 4 GiB"))?;
        let capacity = (
            exact::grown_capacity(&self.paths, path.len()),
            exact::grown_capacity(&self.digests, digest.len()),
            exact::grown_capacity(&self.files, 1),
        );
        // With room for the index.
        let record = size_of::<FileRecord>() + size_of::<u32>();
        let taken = capacity.2.saturating_mul(record);
        let taken = taken.saturating_add(capacity.0).saturating_add(capacity.1);
        if taken > self.limit_bytes {
            return Err(self
                .is_full("the memory limit is reached")
                .with_hint("Raise --memory-limit."));
        }
        self.paths.reserve_exact(capacity.0 - self.paths.len());
        self.digests.reserve_exact(capacity.1 - self.digests.len());
        self.files.reserve_exact(capacity.2 - self.files.len());
        self.files.push(FileRecord {
            size,
            path: path_at,
            path_bytes,
            is_found: false,
        });
        self.paths.extend_from_slice(path);
        self.digests.extend_from_slice(digest);
        self.sorted = None;
        Ok(())
    }

    fn is_full(&self, why: &str) -> Error {
        let count = self.files.len();
        let message = format!("{count} files are too many to be compared with the backup manifest: {why}");
        Error::new(ErrorKind::LimitExceeded, message)
    }

    /// Looks a file of the other list up.
    pub(crate) fn compare(&mut self, path: &[u8], size: u64, digest: &[u8]) -> Comparison {
        let Some(at) = self.find(path) else {
            return Comparison::Unknown;
        };
        self.next = at + 1;
        let wanted = self.digest(at) == digest;
        let Some(file) = self.files.get_mut(at) else {
            return Comparison::Unknown;
        };
        match (std::mem::replace(&mut file.is_found, true), file.size == size, wanted) {
            (true, ..) => Comparison::Twice,
            (_, false, _) => Comparison::Size(file.size),
            (_, _, false) => Comparison::Checksum,
            _ => Comparison::Same,
        }
    }

    /// Returns the path of the first file that was not found, of those that are needed.
    pub(crate) fn missing(&self, is_needed: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
        let not_found = self.files.iter().filter(|file| !file.is_found);
        let mut paths = not_found.map(|file| self.path(file));
        paths.find(|path| is_needed(path))
    }

    /// Returns each file's path, size and checksum, in order.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&[u8], u64, &[u8])> {
        let files = self.files.iter().enumerate();
        files.map(|(at, file)| (self.path(file), file.size, self.digest(at)))
    }

    fn path(&self, file: &FileRecord) -> &[u8] {
        let from = exact::usize_from(file.path.into());
        let range = from..from + usize::from(file.path_bytes);
        exact::part(&self.paths, range, "the path was added there")
    }

    fn digest(&self, at: usize) -> &[u8] {
        let bytes = self.algorithm.bytes();
        exact::part(&self.digests, at * bytes..(at + 1) * bytes, "each file has a checksum")
    }

    fn find(&mut self, path: &[u8]) -> Option<usize> {
        if self.files.get(self.next).is_some_and(|file| self.path(file) == path) {
            return Some(self.next);
        }
        let known = self.sorted.take();
        let of = |number: u32| {
            let file = self.files.get(exact::usize_from(number.into()));
            file.map(|file| self.path(file))
        };
        let sorted = known.unwrap_or_else(|| {
            let mut sorted: Vec<u32> = (0..).take(self.files.len()).collect();
            sorted.sort_unstable_by(|a, b| of(*a).cmp(&of(*b)));
            sorted
        });
        let found = sorted.binary_search_by(|number| of(*number).cmp(&Some(path)));
        let found = found
            .ok()
            .and_then(|at| sorted.get(at))
            .map(|number| exact::usize_from((*number).into()));
        self.sorted = Some(sorted);
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn checksums_are_those_of_the_manifest() {
        // As pg_basebackup writes them for a file "123456789".
        let sum = |algorithm| {
            let mut digest = FileDigest::new(algorithm);
            digest.update(b"1234");
            digest.update(b"56789");
            hex::encode(digest.finish())
        };
        assert_eq!(sum(ManifestChecksums::Crc32c), "839206e3");
        assert_eq!(
            sum(ManifestChecksums::Sha256),
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
        );
    }

    #[test]
    fn two_lists_are_compared_in_any_order() {
        let mut table = FileTable::new(ManifestChecksums::Crc32c, 1 << 20);
        for (number, path) in ["b/2", "a/1", "c"].iter().enumerate() {
            let size = u64::try_from(number).unwrap();
            table.add(path.as_bytes(), size, &[1, 2, 3, 4]).unwrap();
        }
        assert_eq!(table.compare(b"c", 2, &[1, 2, 3, 4]), Comparison::Same);
        assert_eq!(table.compare(b"c", 2, &[1, 2, 3, 4]), Comparison::Twice);
        assert_eq!(table.compare(b"d", 2, &[1, 2, 3, 4]), Comparison::Unknown);
        assert_eq!(table.missing(|_| true), Some(&b"b/2"[..]));
        assert_eq!(table.missing(|path| path != b"b/2"), Some(&b"a/1"[..]));
        assert_eq!(table.compare(b"b/2", 7, &[1, 2, 3, 4]), Comparison::Size(0));
        assert_eq!(table.compare(b"a/1", 1, &[1, 2, 3, 5]), Comparison::Checksum);
        assert_eq!(table.missing(|_| true), None);
        let files: Vec<_> = table.files().map(|(path, size, _)| (path, size)).collect();
        assert_eq!(files, [(&b"b/2"[..], 0), (b"a/1", 1), (b"c", 2)]);
        assert!(table.add(b"x", 0, &[1]).is_err());
    }

    #[test]
    fn a_table_has_a_bound() {
        let mut table = FileTable::new(ManifestChecksums::Crc32c, 10_000);
        let failed = (0..1000).find_map(|number| table.add(format!("base/5/{number}").as_bytes(), 0, &[0; 4]).err());
        assert_eq!(failed.unwrap().kind(), ErrorKind::LimitExceeded);
        let files = table.files().count();
        assert!(files > 200, "{files}");
        let record = size_of::<FileRecord>() + size_of::<u32>();
        let taken = table.paths.capacity() + table.digests.capacity() + table.files.capacity() * record;
        assert!(taken <= 10_000, "{taken}");

        let mut table = FileTable::new(ManifestChecksums::Crc32c, 1 << 20);
        let error = table.add(&vec![b'x'; 70_000], 0, &[0; 4]).unwrap_err();
        assert!(
            error.chain().contains("70000 bytes") && error.chain().len() < 200,
            "{error:?}"
        );
    }
}
