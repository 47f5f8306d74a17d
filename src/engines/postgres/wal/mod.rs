//! The write-ahead log as it lies in files: names, page headers, records, timeline history. No I/O.
//!
//! A server hands its log on in segments of a fixed size (`archive_command`). What is read here is what an archive has to know
//! of one: whose it is, which positions it covers, when transactions in it ended, and whether its records are what the server
//! wrote. Nothing of a segment is believed: whatever is not as the format has it ends the valid part, and nothing allocates by
//! a number that a segment says.
//!
//! Formats: `src/include/access/{xlog_internal,xlogrecord,xact}.h` of PostgreSQL 13 to 18, little-endian machines.

mod control;
mod describe;
mod file_name;
mod history;
mod lsn;
mod page;
mod record;
#[cfg(test)]
mod sample;
mod scan;
mod segment;

pub use control::{CONTROL_BYTES, system_identifier};
pub use describe::{about_file, about_part, about_segment, segment_facts, sent_at};
pub use file_name::{FileName, SegmentName};
pub use history::{MAX_HISTORY_BYTES, TimelineHistory};
pub use lsn::{Lsn, SegmentSize, Timeline};
pub use page::{SegmentHeader, goes_on, major_of};
pub use record::{Mark, PointName, RecordKind};
pub(crate) use record::{microseconds, timestamp};
pub use scan::{End, Scan, Scanned};
pub use segment::SegmentReader;

/// Bytes of a segment file that [`SegmentReader::begin`] has to see at once.
pub const HEADER_BYTES: usize = page::LONG_HEADER_BYTES;
