//! Walks the records of a log as its bytes come.
//!
//! Bytes may be cut anywhere. A record counts once all of it was seen and its checksum is right, whatever pages and segments it
//! spans; of each only the first bytes are kept. So memory is a few hundred bytes, whatever a length says. The first thing that
//! is not as a server writes it ends the valid part: recycled files hold older records behind it, which look sound by
//! themselves, and are told by the position that each page and each record names.

use crc_fast::{CrcAlgorithm, Digest};
use jiff::Timestamp;

use super::lsn::{Lsn, Timeline};
use super::page::{CONTINUES, LONG_HEADER_BYTES, OVERWRITES, PageHeader, SHORT_HEADER_BYTES, SegmentHeader};
use super::record::{CRC_AT, KEPT_BYTES, MAX_RECORD_BYTES, Mark, RECORD_HEADER_BYTES, RecordHeader, RecordKind};
use crate::base::exact;

/// Why the valid part of a log ends where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The last byte that was fed belongs to it; a record may go on behind that.
    Fed,
    /// The server left the rest of the segment empty: the log goes on with the next one.
    Switched,
    /// What follows was never written.
    Unwritten,
    /// What follows is damaged, or older than what is before it.
    Broken,
}

/// What a walk has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Where the valid part ends: behind the last whole record, or with what was fed, or with the segment that a switch left.
    pub end: Lsn,
    /// Why.
    pub why: End,
    /// Whole records with the right checksum.
    pub records: u64,
    /// The earliest and the latest time that a record tells.
    pub times: Option<(Timestamp, Timestamp)>,
}

/// The record at work.
struct Record {
    start: Lsn,
    kept: [u8; KEPT_BYTES],
    header: Option<RecordHeader>,
    /// Bytes of it, once its first four are there.
    bytes: u32,
    seen: u32,
    crc: Digest,
}

/// What the next byte is.
enum State {
    /// Part of a page's header, of which so many bytes are there.
    Page { have: usize },
    /// Part of a record that began before the walk: so many bytes are left.
    Skip { left: u32 },
    /// Part of a record.
    Record(Box<Record>),
    /// Between records.
    Between,
    /// Nothing any more.
    Ended(End),
}

/// A walk over the log of one server from the beginning of a segment on.
pub struct Scan {
    segment: SegmentHeader,
    /// Timelines that pages may name: none later than the files, none earlier than the page before.
    timelines: (Timeline, Timeline),
    at: u64,
    page: [u8; LONG_HEADER_BYTES],
    state: State,
    /// What goes on behind a page's header.
    suspended: State,
    /// Where the last whole record begins.
    before: Option<Lsn>,
    first_page: bool,
    tablespace: Option<String>,
    found: Scanned,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scan at {}", Lsn(self.at))
    }
}

impl Scan {
    /// Begins with the first byte of a segment, whose header was read from there. `timeline` is that of its file.
    pub fn begin(segment: SegmentHeader, timeline: Timeline) -> Self {
        Self {
            timelines: (segment.timeline, timeline),
            at: segment.position.0,
            page: [0; LONG_HEADER_BYTES],
            state: State::Page { have: 0 },
            suspended: State::Between,
            before: None,
            first_page: true,
            tablespace: None,
            found: Scanned {
                end: segment.position,
                why: End::Fed,
                records: 0,
                times: None,
            },
            segment,
        }
    }

    /// Takes the bytes that follow; tells of each record with a time.
    pub fn feed(&mut self, mut bytes: &[u8], tell: &mut dyn FnMut(Mark)) {
        while !bytes.is_empty() {
            let taken = match std::mem::replace(&mut self.state, State::Between) {
                State::Ended(why) => {
                    self.state = State::Ended(why);
                    return;
                }
                State::Page { have } => self.take_page(have, bytes),
                State::Skip { left } => self.skip(left, bytes),
                State::Between => self.take_between(bytes),
                State::Record(record) => self.take_record(record, bytes, tell),
            };
            self.at += exact::u64_from(taken);
            bytes = exact::part(bytes, taken.., "no more is taken than there is");
            self.turn_page();
        }
    }

    /// Returns why the valid part has ended, if it has; behind a switch another walk begins with the next segment.
    pub fn ended(&self) -> Option<End> {
        match self.state {
            State::Ended(why) => Some(why),
            _ => None,
        }
    }

    /// Returns the position behind what was fed.
    pub fn position(&self) -> Lsn {
        Lsn(self.at)
    }

    /// Returns where the last whole record begins that was seen.
    pub fn last_record(&self) -> Option<Lsn> {
        self.before
    }

    /// Returns where the first tablespace is made of those that records make outside the data directory.
    pub fn tablespace(&self) -> Option<&str> {
        self.tablespace.as_deref()
    }

    /// Ends the walk.
    pub fn finish(mut self) -> Scanned {
        match self.state {
            State::Ended(why) => self.found.why = why,
            _ => self.found.end = Lsn(self.at),
        }
        self.found
    }

    /// Returns the bytes that are left on this page.
    fn room(&self) -> usize {
        let page = u64::from(self.segment.page_bytes);
        exact::usize_from(page - self.at % page)
    }

    /// At the end of a page, its successor's header comes first.
    fn turn_page(&mut self) {
        let in_header = matches!(self.state, State::Page { .. } | State::Ended(_));
        if !in_header && self.at.is_multiple_of(u64::from(self.segment.page_bytes)) {
            self.suspended = std::mem::replace(&mut self.state, State::Page { have: 0 });
        }
    }

    fn end(&mut self, why: End) {
        self.state = State::Ended(why);
    }

    fn take_page(&mut self, have: usize, bytes: &[u8]) -> usize {
        let start = self.at - exact::u64_from(have);
        let first_of_segment = start.is_multiple_of(self.segment.segment.bytes());
        let wanted = if first_of_segment {
            LONG_HEADER_BYTES
        } else {
            SHORT_HEADER_BYTES
        };
        let new = exact::first(bytes, wanted - have);
        let whole = have + new.len();
        exact::part_mut(&mut self.page, have..whole, "no more than a header is taken").copy_from_slice(new);
        if whole < wanted {
            self.state = State::Page { have: whole };
        } else {
            self.open_page(start, first_of_segment);
        }
        new.len()
    }

    /// Goes on behind a page's header with what it interrupted.
    fn open_page(&mut self, start: u64, first_of_segment: bool) {
        let broken = |this: &mut Self| {
            // Behind a short header stands what is left of a long one.
            let header = exact::first(&this.page, SHORT_HEADER_BYTES);
            let unwritten = header.iter().all(|byte| *byte == 0);
            this.end(if unwritten { End::Unwritten } else { End::Broken });
        };
        let Ok(page) = PageHeader::parse(&self.page, first_of_segment) else {
            return broken(self);
        };
        let (earliest, latest) = self.timelines;
        let right_segment = !first_of_segment
            || SegmentHeader::parse(&self.page).is_ok_and(|header| {
                (header.system, header.segment, header.page_bytes)
                    == (self.segment.system, self.segment.segment, self.segment.page_bytes)
            });
        let right_place = page.position == Lsn(start) && page.magic == self.segment.magic;
        if !right_place || !right_segment || page.timeline < earliest || page.timeline > latest {
            return broken(self);
        }
        self.timelines.0 = page.timeline;
        let continues = (page.flags & CONTINUES != 0).then_some(page.left);
        let first = std::mem::replace(&mut self.first_page, false);
        let left = match &self.suspended {
            State::Skip { left } => Some(*left),
            State::Record(record) => Some(record.bytes - record.seen),
            _ => None,
        };
        self.state = match (left, continues) {
            // The record was lost in a crash, and the server has written past it.
            _ if page.flags & OVERWRITES != 0 && continues.is_none() => State::Between,
            (Some(left), Some(said)) if left == said => std::mem::replace(&mut self.suspended, State::Between),
            (None, None) => State::Between,
            (None, Some(said)) if first && said > 0 => State::Skip { left: said },
            _ => return self.end(End::Broken),
        };
        self.suspended = State::Between;
    }

    fn skip(&mut self, left: u32, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room()).min(exact::usize_from(u64::from(left)));
        let left = left - exact::known::<u32, _>(taken, "no more than is left is taken");
        if left > 0 {
            self.state = State::Skip { left };
        } else {
            self.found.end = aligned(self.at + exact::u64_from(taken));
        }
        taken
    }

    /// Records begin at multiples of eight.
    fn take_between(&mut self, bytes: &[u8]) -> usize {
        let padding = aligned(self.at).0 - self.at;
        if padding > 0 {
            return bytes.len().min(exact::usize_from(padding));
        }
        self.found.end = Lsn(self.at);
        self.state = State::Record(Box::new(Record {
            start: Lsn(self.at),
            kept: [0; KEPT_BYTES],
            header: None,
            bytes: 0,
            seen: 0,
            crc: Digest::new(CrcAlgorithm::Crc32Iscsi),
        }));
        0
    }

    fn take_record(&mut self, mut record: Box<Record>, bytes: &[u8], tell: &mut dyn FnMut(Mark)) -> usize {
        let seen = exact::usize_from(u64::from(record.seen));
        // The length first, then the header, then the rest: each says how far to read.
        let wanted = match (&record.header, record.bytes) {
            (None, 0) => 4 - seen,
            (None, _) => RECORD_HEADER_BYTES - seen,
            (Some(_), whole) => exact::usize_from(u64::from(whole - record.seen)),
        };
        let new = exact::first(bytes, wanted.min(self.room()));
        let keep = exact::first(new, KEPT_BYTES.saturating_sub(seen));
        exact::part_mut(&mut record.kept, seen.min(KEPT_BYTES).., "it is no longer than that")
            .split_at_mut(keep.len())
            .0
            .copy_from_slice(keep);
        if record.header.is_some() {
            record.crc.update(new);
        }
        record.seen += exact::known::<u32, _>(new.len(), "no more than a record is taken");
        let taken = new.len();
        if taken == wanted {
            self.step(record, self.at + exact::u64_from(taken), tell);
        } else {
            self.state = State::Record(record);
        }
        taken
    }

    /// Goes on with a record of which everything up to a position is there.
    fn step(&mut self, mut record: Box<Record>, at: u64, tell: &mut dyn FnMut(Mark)) {
        if record.bytes == 0 {
            let [a, b, c, d, ..] = record.kept;
            record.bytes = u32::from_le_bytes([a, b, c, d]);
            let least = exact::known::<u32, _>(RECORD_HEADER_BYTES, "24 bytes");
            self.state = match record.bytes {
                0 => State::Ended(End::Unwritten),
                whole if whole < least || whole > MAX_RECORD_BYTES => State::Ended(End::Broken),
                _ => State::Record(record),
            };
            return;
        }
        if record.header.is_none() {
            let header = RecordHeader::parse(&record.kept).ok();
            let follows = |header: &RecordHeader| match self.before {
                Some(before) => header.before == before,
                None => header.before < record.start,
            };
            record.header = header.filter(follows);
            if record.header.is_none() {
                return self.end(End::Broken);
            }
            if record.seen < record.bytes {
                self.state = State::Record(record);
                return;
            }
        }
        self.complete(&record, at, tell);
    }

    fn complete(&mut self, record: &Record, at: u64, tell: &mut dyn FnMut(Mark)) {
        let Some(header) = record.header else {
            return self.end(End::Broken);
        };
        let mut crc = record.crc;
        crc.update(exact::part(&record.kept, ..CRC_AT, "a header is kept"));
        if crc.finalize() != u64::from(header.crc) {
            return self.end(End::Broken);
        }
        self.found.records += 1;
        self.found.end = aligned(at);
        self.before = Some(record.start);
        let kept = exact::first(&record.kept, exact::usize_from(u64::from(record.bytes)));
        if self.tablespace.is_none() {
            self.tablespace = header.location(kept);
        }
        if let Ok(Some(time)) = header.time(kept) {
            let times = self.found.times.unwrap_or((time, time));
            self.found.times = Some((times.0.min(time), times.1.max(time)));
            tell(Mark {
                at: record.start,
                kind: header.kind(),
                time,
                name: header.point_name(kept),
            });
        }
        if header.kind() == RecordKind::Switch {
            let size = self.segment.segment.bytes();
            self.found.end = Lsn(record.start.0 - record.start.0 % size + size);
            self.end(End::Switched);
        }
    }
}

/// Returns the next multiple of eight.
fn aligned(at: u64) -> Lsn {
    Lsn(at.next_multiple_of(8))
}

#[cfg(test)]
mod tests;
