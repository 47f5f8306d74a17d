//! Record headers, and the times that records tell.
//!
//! ```text
//!  0  u32  bytes of the record, this header included     16  u8   what it is (high bits: of the resource manager)
//!  4  u32  transaction                                   17  u8   resource manager
//!  8  u64  position of the record before                 18  2 bytes of padding
//!                                                        20  u32  CRC-32C of what follows, then of bytes 0 to 20
//! ```

use std::fmt;

use jiff::Timestamp;

use super::lsn::Lsn;
use super::page::{u16_at, u32_at, u64_at};
use crate::base::error::{Error, Result};
use crate::base::exact;

/// Bytes of a record's header.
pub(super) const RECORD_HEADER_BYTES: usize = 24;
/// Where the checksum stands in it.
pub(super) const CRC_AT: usize = 20;
/// Bytes from a record's beginning that are kept until it is whole: enough for everything that is read out of one, of which the
/// name of a restore point ends last.
pub(super) const KEPT_BYTES: usize = 128;
/// Bytes of the name of a restore point, its terminating zero included (`MAXFNAMELEN`).
const NAME_BYTES: usize = 64;
/// No record is longer (`XLogRecordMaxSize` and its predecessors), in bytes.
pub(super) const MAX_RECORD_BYTES: u32 = 1 << 30;

const RM_XLOG: u8 = 0;
const RM_XACT: u8 = 1;
const RM_TABLESPACE: u8 = 5;
/// The high bits of `info` are the resource manager's.
const INFO: u8 = 0xF0;
/// Of those, the ones that say what a record of a transaction is; the highest says that more follows.
const XACT_INFO: u8 = 0x70;

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) bytes: u32,
    pub(super) before: Lsn,
    info: u8,
    manager: u8,
    pub(super) crc: u32,
}

/// What of a record matters to an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// The rest of the segment is empty.
    Switch,
    /// The end of a transaction, at once or in its second phase.
    Commit,
    /// As [`RecordKind::Commit`], undone.
    Abort,
    /// A named point.
    RestorePoint,
    /// A tablespace is made: a server that replays this makes its directory where the record says.
    Tablespace,
    /// Anything else.
    Other,
}

/// A record that tells a time: those by which a recovery decides whether it has reached `recovery_target_time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Where the record begins.
    pub at: Lsn,
    /// What it is.
    pub kind: RecordKind,
    /// When the transaction ended, by the server's clock, to the microsecond.
    pub time: Timestamp,
    /// Of a restore point: what it is called.
    pub name: Option<PointName>,
}

impl Mark {
    /// Returns whether it is the end of a transaction: only before one of these a server stops at a `recovery_target_time`.
    pub fn is_end(&self) -> bool {
        matches!(self.kind, RecordKind::Commit | RecordKind::Abort)
    }
}

/// The name of a restore point, in whatever encoding the database had in which it was made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PointName([u8; NAME_BYTES]);

impl PointName {
    /// Returns its bytes, 63 at most.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or(&self.0)
    }
}

impl fmt::Display for PointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.as_bytes());
        f.write_str(&text.replace(char::is_control, "?"))
    }
}

impl fmt::Debug for PointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl RecordHeader {
    /// Reads a header.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let [info, manager] = u16_at(bytes, 16)?.to_le_bytes();
        Ok(Self {
            bytes: u32_at(bytes, 0)?,
            before: Lsn(u64_at(bytes, 8)?),
            info,
            manager,
            crc: u32_at(bytes, CRC_AT)?,
        })
    }

    /// Says what the record is.
    pub(super) fn kind(&self) -> RecordKind {
        match (self.manager, self.info & INFO) {
            (RM_XLOG, 0x40) => RecordKind::Switch,
            (RM_XLOG, 0x70) => RecordKind::RestorePoint,
            (RM_TABLESPACE, 0x00) => RecordKind::Tablespace,
            (RM_XACT, info) => match info & XACT_INFO {
                // At once, and prepared.
                0x00 | 0x30 => RecordKind::Commit,
                0x20 | 0x40 => RecordKind::Abort,
                _ => RecordKind::Other,
            },
            _ => RecordKind::Other,
        }
    }

    /// Reads the time that a record tells, out of its first bytes. Its data begin with it.
    pub(super) fn time(&self, beginning: &[u8]) -> Result<Option<Timestamp>> {
        match self.kind() {
            RecordKind::Commit | RecordKind::Abort | RecordKind::RestorePoint => {
                let data = data_at(beginning)?;
                let micros = i64::from_le_bytes(u64_at(beginning, data)?.to_le_bytes());
                Ok(Some(timestamp(micros)?))
            }
            RecordKind::Switch | RecordKind::Tablespace | RecordKind::Other => Ok(None),
        }
    }

    /// Reads where a tablespace is made, out of its record's first bytes: behind its OID, as far as that was kept. None of one within the data
    /// directory, which names no place.
    pub(super) fn location(&self, beginning: &[u8]) -> Option<String> {
        if self.kind() != RecordKind::Tablespace {
            return None;
        }
        let place = beginning.get(data_at(beginning).ok()?..)?.get(4..)?;
        let place = place
            .split(|byte| *byte == 0)
            .next()
            .filter(|place| !place.is_empty())?;
        Some(String::from_utf8_lossy(place).replace(char::is_control, "?"))
    }

    /// Reads the name of a restore point, out of its first bytes: it stands behind the time.
    pub(super) fn point_name(&self, beginning: &[u8]) -> Option<PointName> {
        if self.kind() != RecordKind::RestorePoint {
            return None;
        }
        let name = beginning.get(data_at(beginning).ok()?..)?.get(8..)?.first_chunk()?;
        Some(PointName(*name))
    }
}

/// Returns where the data of a record begin that has no blocks: behind the headers, each with its number first.
fn data_at(beginning: &[u8]) -> Result<usize> {
    let mut at = RECORD_HEADER_BYTES;
    loop {
        match exact::range(beginning, at.., "the record")?.first() {
            // The data's own header, short or long, is the last.
            Some(255) => return Ok(at + 2),
            Some(254) => return Ok(at + 5),
            // Where a replicated transaction came from; the transaction above it.
            Some(253) => at += 3,
            Some(252) => at += 5,
            _ => return Err(Error::corrupt("a record of a transaction has an unknown header")),
        }
    }
}

/// The year 2000, in microseconds since 1970.
const EPOCH: i64 = 946_684_800_000_000;

/// Returns the microseconds since the year 2000 of a time, as servers write it.
pub(crate) fn microseconds(time: Timestamp) -> i64 {
    time.as_microsecond().saturating_sub(EPOCH)
}

/// Makes a time of microseconds since the year 2000.
pub(crate) fn timestamp(micros: i64) -> Result<Timestamp> {
    let unix = micros.checked_add(EPOCH).map(Timestamp::from_microsecond);
    match unix {
        Some(Ok(time)) => Ok(time),
        _ => Err(Error::corrupt(format!("a time of {micros} microseconds since 2000"))),
    }
}
