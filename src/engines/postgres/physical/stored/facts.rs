//! The facts of a base backup: one stream record of its archive.

use crate::archive::{ArchiveReader, StreamRecord};
use crate::base::error::{Context, Error, Result};
use crate::engines::postgres::physical::ManifestChecksums;
use crate::engines::postgres::physical::stored::TABLESPACES;
use crate::engines::postgres::wal::{Lsn, SegmentSize};

/// Name of the stream record that holds them.
pub(crate) const STREAM: &str = "postgres-physical";

/// A tablespace beside the data directory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tablespace {
    /// Its OID: its files lie below `pg_tblspc/<oid>/` in the archive.
    pub oid: u32,
    /// Where it was, as the server says it.
    pub location: String,
}

impl Tablespace {
    /// Returns where its entries lie in the archive, with a slash.
    pub fn prefix(&self) -> String {
        format!("{TABLESPACES}{}/", self.oid)
    }

    /// Returns whether it lies within the data directory, where it stays: `allow_in_place_tablespaces`.
    pub fn is_in_place(&self) -> bool {
        self.location == format!("{TABLESPACES}{}", self.oid)
    }
}

/// What the archive says of the base as a whole.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BaseFacts {
    /// As the server writes it: `15.4 (Debian 15.4-1)`.
    pub server_version: String,
    /// Major version: the one that a server of its files must have.
    pub major: u32,
    /// The same for a primary and its standbys, and for no other cluster.
    pub system_identifier: u64,
    /// The timeline on which the backup began.
    pub timeline: u32,
    /// Where recovery begins.
    pub start_lsn: Lsn,
    /// The timeline on which it ended.
    pub end_timeline: u32,
    /// Where recovery must come to, at least; exclusive.
    pub end_lsn: Lsn,
    /// Bytes of a WAL segment.
    pub wal_segment_bytes: u64,
    /// Whether pages have checksums.
    pub data_checksums: bool,
    /// Mode of the data directory: 0700 or 0750.
    pub directory_mode: u32,
    /// Whether a standby was read.
    pub from_standby: bool,
    /// How files are summed in the backup manifest.
    pub manifest_checksums: ManifestChecksums,
    /// Tablespaces beside the data directory.
    pub tablespaces: Vec<Tablespace>,
    /// Files with pages that were damaged where they were read; they are stored as they were.
    pub damaged_files: u64,
}

impl BaseFacts {
    /// Reads the facts of an archive. Nothing of them is believed that a restore would build on.
    pub(crate) async fn of(reader: &ArchiveReader) -> Result<Self> {
        let streams = reader.streams().await?;
        let record = streams.into_iter().find(|record| record.stream == STREAM);
        let record = record.ok_or_else(|| Error::corrupt("the archive holds no base backup"))?;
        let facts: Self = serde_json::from_value(record.facts)
            .map_err(|e| Error::corrupt("read the facts of the base backup").with_cause(e))?;
        facts.check().context("read the facts of the base backup")?;
        Ok(facts)
    }

    /// Refuses facts that no server has. A backup that had them would not come back.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::corrupt(what));
        if SegmentSize::new(self.wal_segment_bytes).is_err() {
            return wrong(format!("invalid WAL segment size {}", self.wal_segment_bytes));
        }
        if self.start_lsn >= self.end_lsn {
            let (start, end) = (self.start_lsn, self.end_lsn);
            return wrong(format!("the base ends before it begins: {start} to {end}"));
        }
        if self.timeline == 0 || self.end_timeline < self.timeline {
            return wrong(format!("invalid timelines {} to {}", self.timeline, self.end_timeline));
        }
        if !matches!(self.directory_mode, 0o700 | 0o750) {
            return wrong(format!(
                "invalid mode of the data directory: {:04o}",
                self.directory_mode
            ));
        }
        let mut oids: Vec<u32> = self.tablespaces.iter().map(|one| one.oid).collect();
        oids.sort_unstable();
        match oids.windows(2).find(|pair| matches!(pair, [a, b] if a == b)) {
            Some(pair) => wrong(format!("tablespace {} is listed twice", pair.iter().sum::<u32>() / 2)),
            None => Ok(()),
        }
    }

    /// Makes the record of the archive.
    pub(crate) fn record(&self, bytes: u64) -> Result<StreamRecord> {
        Ok(StreamRecord {
            stream: STREAM.to_owned(),
            prefixes: Vec::new(),
            chunks: 0,
            bytes,
            rows: None,
            row_digest: None,
            facts: serde_json::to_value(self)
                .map_err(|e| Error::corrupt("write the facts of the base backup").with_cause(e))?,
        })
    }
}
