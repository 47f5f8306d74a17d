//! The backup manifest of a server, line by line as it comes.
//!
//! It is one JSON document that the server writes with a file a line (`src/backend/backup/backup_manifest.c`), and its last
//! line has the SHA-256 of all that stands before. Only lines are held, so that a cluster may have any number of files.
//! <https://www.postgresql.org/docs/current/backup-manifest-format.html>

use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use crate::base::error::{Error, Result};
use crate::engines::postgres::physical::ManifestChecksums;
use crate::engines::postgres::wal::Lsn;

/// Bytes of a line at most: a path that is written with escapes, and some words.
const MOST_LINE_BYTES: usize = 32 << 10;

/// WAL ranges of a manifest at most: one for each timeline that the backup touched.
const MOST_RANGES: usize = 1000;

/// A file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestFile {
    pub(crate) path: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) algorithm: ManifestChecksums,
    pub(crate) checksum: Vec<u8>,
}

/// WAL that is needed to make a base consistent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct WalRange {
    #[serde(rename = "Timeline")]
    pub(crate) timeline: u32,
    #[serde(rename = "Start-LSN")]
    pub(crate) start: Lsn,
    /// Exclusive.
    #[serde(rename = "End-LSN")]
    pub(crate) end: Lsn,
}

/// What a manifest says beside its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ManifestFacts {
    /// System identifier; servers before 17 do not write it.
    pub(crate) system_id: Option<u64>,
    pub(crate) wal_ranges: Vec<WalRange>,
}

#[derive(Deserialize)]
struct FileLine {
    #[serde(rename = "Path")]
    path: Option<String>,
    /// In hex, where it is not UTF-8.
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Last-Modified")]
    _modified: IgnoredAny,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: String,
    #[serde(rename = "Checksum")]
    checksum: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    Version,
    SystemIdOrFiles,
    File,
    RangesHead,
    Range,
    Checksum,
    Nothing,
}

/// Reads a manifest as it comes.
#[derive(Debug)]
pub(crate) struct ManifestReader {
    line: Vec<u8>,
    number: u64,
    expects: Expects,
    sha256: Sha256,
    facts: ManifestFacts,
}

impl ManifestReader {
    pub(crate) fn new() -> Self {
        Self {
            line: Vec::new(),
            number: 0,
            expects: Expects::Version,
            sha256: Sha256::new(),
            facts: ManifestFacts::default(),
        }
    }

    /// Takes the next bytes, and calls `each` with every file that is whole.
    pub(crate) fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(ManifestFile) -> Result<()>) -> Result<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len().saturating_add(piece.len()) > MOST_LINE_BYTES {
                return Err(self.broken("is too long"));
            }
            self.line.extend_from_slice(piece);
            if self.line.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.line);
                self.number += 1;
                self.take(&line, each)?;
                self.line = line;
                self.line.clear();
            }
        }
        Ok(())
    }

    /// Ends the reading: refuses a manifest that is not whole.
    pub(crate) fn finish(self) -> Result<ManifestFacts> {
        if self.expects != Expects::Nothing || !self.line.is_empty() {
            return Err(self.broken("is the last one: the rest is missing"));
        }
        Ok(self.facts)
    }

    fn take(&mut self, line: &[u8], each: &mut dyn FnMut(ManifestFile) -> Result<()>) -> Result<()> {
        if self.expects == Expects::Checksum {
            return self.check(line);
        }
        self.sha256.update(line);
        let text = line.trim_ascii();
        let value = text.strip_suffix(b",").unwrap_or(text);
        self.expects = match (self.expects, text) {
            (
                Expects::Version,
                b"{ \"PostgreSQL-Backup-Manifest-Version\": 1," | b"{ \"PostgreSQL-Backup-Manifest-Version\": 2,",
            ) => Expects::SystemIdOrFiles,
            (Expects::SystemIdOrFiles, b"\"Files\": [") => Expects::File,
            (Expects::SystemIdOrFiles, _) => {
                let digits = value.strip_prefix(b"\"System-Identifier\": ");
                let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
                let number = digits.and_then(|digits| digits.parse().ok());
                self.facts.system_id = Some(number.ok_or_else(|| self.broken("is not known here"))?);
                Expects::SystemIdOrFiles
            }
            (Expects::File, b"],") => Expects::RangesHead,
            (Expects::File, _) => {
                each(self.file(value)?)?;
                Expects::File
            }
            (Expects::RangesHead, b"\"WAL-Ranges\": [") => Expects::Range,
            (Expects::Range, b"],") => Expects::Checksum,
            (Expects::Range, _) if self.facts.wal_ranges.len() < MOST_RANGES => {
                let range = serde_json::from_slice(value);
                self.facts
                    .wal_ranges
                    .push(range.map_err(|e| self.broken("is no range of WAL").with_cause(e))?);
                Expects::Range
            }
            _ => return Err(self.broken("is not known here")),
        };
        Ok(())
    }

    fn file(&self, line: &[u8]) -> Result<ManifestFile> {
        let read: FileLine = serde_json::from_slice(line).map_err(|e| self.broken("is no file").with_cause(e))?;
        let path = match (read.path, read.encoded_path) {
            (Some(path), None) => Some(path.into_bytes()),
            (None, Some(encoded)) => hex::decode(encoded).ok(),
            _ => None,
        };
        let algorithm = ManifestChecksums::of_manifest(&read.algorithm);
        let checksum = hex::decode(&read.checksum).ok();
        match (path, algorithm, checksum) {
            (Some(path), Some(algorithm), Some(checksum)) => Ok(ManifestFile {
                path,
                size: read.size,
                algorithm,
                checksum,
            }),
            _ => Err(self.broken("has a path or a checksum that is not known here")),
        }
    }

    /// The last line: the digest of all before it.
    fn check(&mut self, line: &[u8]) -> Result<()> {
        let stored = line
            .strip_prefix(b"\"Manifest-Checksum\": \"")
            .and_then(|rest| rest.strip_suffix(b"\"}\n"));
        let stored = stored.ok_or_else(|| self.broken("is not the manifest's own checksum"))?;
        let counted = hex::encode(std::mem::take(&mut self.sha256).finalize());
        if stored != counted.as_bytes() {
            return Err(Error::corrupt("the backup manifest has another checksum than it says"));
        }
        self.expects = Expects::Nothing;
        Ok(())
    }

    fn broken(&self, what: &str) -> Error {
        Error::corrupt(format!("line {} of the backup manifest {what}", self.number))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// Ends a manifest with its own checksum.
    pub(crate) fn sealed(text: &str) -> String {
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        format!("{text}\"Manifest-Checksum\": \"{digest}\"}}\n")
    }

    fn body(head: &str) -> String {
        format!(
            "{head}\"Files\": [\n\
             {{ \"Path\": \"backup_label\", \"Size\": 3, \"Last-Modified\": \"2026-11-28 12:00:00 GMT\", \
             \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"01020304\" }},\n\
             {{ \"Encoded-Path\": \"62ff\", \"Size\": 0, \"Last-Modified\": \"2026-11-28 12:00:00 GMT\", \
             \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"00000000\" }}\n],\n\
             \"WAL-Ranges\": [\n{{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }}\n],\n"
        )
    }

    const ONE: &str = "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n";
    const TWO: &str = "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 7713199700940515586,\n";

    fn read(text: &str, step: usize) -> Result<(Vec<ManifestFile>, ManifestFacts)> {
        let mut reader = ManifestReader::new();
        let mut files = Vec::new();
        for piece in text.as_bytes().chunks(step) {
            reader.push(piece, &mut |file| {
                files.push(file);
                Ok(())
            })?;
        }
        Ok((files, reader.finish()?))
    }

    #[test]
    fn a_manifest_is_read_in_pieces() {
        for (head, system_id) in [(ONE, None), (TWO, Some(7_713_199_700_940_515_586))] {
            let text = sealed(&body(head));
            let (files, facts) = read(&text, text.len()).unwrap();
            assert_eq!(files.len(), 2);
            assert_eq!(
                (files[0].path.as_slice(), files[1].path.as_slice()),
                (&b"backup_label"[..], &b"b\xff"[..])
            );
            assert_eq!((files[0].size, files[0].checksum.as_slice()), (3, &[1, 2, 3, 4][..]));
            assert_eq!(facts.system_id, system_id);
            assert_eq!(
                (facts.wal_ranges[0].start, facts.wal_ranges[0].end),
                (Lsn(0x200_0028), Lsn(0x200_0100))
            );
            for step in [1, 3, 50] {
                assert_eq!(read(&text, step).unwrap(), (files.clone(), facts.clone()));
            }
        }
    }

    #[test]
    fn what_is_damaged_or_cut_is_refused() {
        let whole = sealed(&body(ONE));
        for cut in [0, 1, 60, 200, whole.len() - 1] {
            assert!(read(&whole[..cut], 100).is_err(), "{cut}");
        }
        assert!(
            read(&whole.replace("\"Size\": 3", "\"Size\": 4"), 100)
                .unwrap_err()
                .chain()
                .contains("another checksum")
        );
        assert!(read(&format!("{whole}\n"), 100).is_err());
        for (from, to) in [
            ("Version\": 1", "Version\": 3"),
            ("CRC32C", "MD5"),
            ("\"01020304\"", "\"0x\""),
            ("\"Path\": \"backup_label\", ", ""),
            ("0/2000028", "0-2000028"),
            ("\"WAL-Ranges\": [\n", ""),
            ("backup_label", &"x".repeat(40_000)),
        ] {
            assert!(read(&sealed(&body(ONE).replace(from, to)), 100).is_err(), "{from}");
        }
    }
}
