//! One segment file, read from its first byte to its last: whose it is, whether its name is right, what it covers.

use super::file_name::SegmentName;
use super::lsn::Lsn;
use super::page::SegmentHeader;
use super::record::Mark;
use super::scan::{End, Scan, Scanned};
use crate::base::error::{Error, Result};
use crate::base::exact;

/// Reads a segment.
#[derive(Debug)]
pub struct SegmentReader {
    header: SegmentHeader,
    scan: Scan,
    fed: u64,
}

impl SegmentReader {
    /// Looks at the first bytes of a file ([`super::HEADER_BYTES`] or more) and refuses one that is no WAL, of another length
    /// than its header says, or of another place than its name says.
    pub fn begin(name: &SegmentName, file_bytes: u64, beginning: &[u8]) -> Result<Self> {
        let header = SegmentHeader::parse(beginning)?;
        if header.segment.bytes() != file_bytes {
            return Err(Error::corrupt(format!(
                "it has {file_bytes} bytes, and its header says segments of {}",
                header.segment.bytes()
            )));
        }
        if name.start(header.segment) != Some(header.position) {
            return Err(Error::corrupt(format!(
                "its name is {name}, and its header says position {}",
                header.position
            )));
        }
        // The first segment of a timeline begins as a copy of the one that it left.
        if header.timeline > name.timeline {
            return Err(Error::corrupt(format!(
                "its name is {name}, and its header says timeline {}",
                header.timeline
            )));
        }
        Ok(Self {
            scan: Scan::begin(header, name.timeline),
            header,
            fed: 0,
        })
    }

    /// Returns what its first page says.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Takes the bytes that follow, from the file's first on.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.feed_telling(bytes, &mut |_| {});
    }

    /// As [`Self::feed`]; tells of each record with a time.
    pub fn feed_telling(&mut self, bytes: &[u8], tell: &mut dyn FnMut(Mark)) {
        self.fed += exact::u64_from(bytes.len());
        self.scan.feed(bytes, tell);
    }

    /// Says what it covers, once all of it was fed; a file that became shorter meanwhile is an error.
    pub fn finish(self) -> Result<Scanned> {
        if self.fed != self.header.segment.bytes() {
            return Err(Error::corrupt(format!(
                "{} bytes came of a segment of {}",
                self.fed,
                self.header.segment.bytes()
            )));
        }
        Ok(self.scan.finish())
    }

    /// Returns whether the log goes on behind the segment without a hole.
    pub fn is_full(header: &SegmentHeader, scanned: &Scanned) -> bool {
        let end = Lsn(header.position.0 + header.segment.bytes());
        scanned.end == end && matches!(scanned.why, End::Fed | End::Switched)
    }
}
