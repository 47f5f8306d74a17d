//! The segment that is being received: its bytes in the spool, and what they say.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::store::{Piece, Work};
use crate::archive::log::{Span, Times};
use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::base::unnamed_file::unnamed_file;
use crate::engines::postgres::wal::{
    FileName, HEADER_BYTES, Lsn, SegmentName, SegmentReader, SegmentSize, Timeline, about_part, about_segment, sent_at,
};
use crate::operations::log::parts::Part;

/// Parts of a segment beside one another, at most.
const MOST_PARTS: usize = 64;

/// Zeros that are read at once behind the end of a timeline.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A segment at work.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) name: SegmentName,
    start: Lsn,
    size: SegmentSize,
    system: u64,
    spool: Arc<File>,
    received: u64,
    beginning: Vec<u8>,
    /// Reads along, once the header is there.
    reader: Option<SegmentReader>,
    /// The times that records behind the last part tell.
    times: Option<Times>,
    /// Those that all tell that are in parts.
    all_times: Option<Times>,
    /// When the last byte was sent, by the server's clock, if its log ended with it then.
    sent: Option<Timestamp>,
    /// Parts that are stored, without a hole from the beginning on.
    parts: Vec<Part>,
    /// Whether they were stored by this receiver, or were compared with what came. Others do not count yet.
    compared: bool,
    /// Whether that is under way by itself.
    comparing: bool,
    /// Where the part ends that is on its way into the store.
    sending: u64,
}

impl OpenSegment {
    /// Begins the segment that begins at a position; parts of it may be stored.
    pub(super) fn begin(
        (system, timeline, start): (u64, Timeline, Lsn),
        size: SegmentSize,
        parts: Vec<Part>,
        spool_dir: &Path,
    ) -> Result<Self> {
        Ok(Self {
            name: SegmentName::holding(timeline, start, size),
            start,
            size,
            system,
            spool: Arc::new(unnamed_file(spool_dir)?),
            received: 0,
            beginning: Vec::new(),
            reader: None,
            times: None,
            all_times: None,
            sent: None,
            compared: parts.is_empty(),
            comparing: false,
            sending: parts.last().map_or(0, |part| part.to),
            parts,
        })
    }

    /// Returns how far the log was received.
    pub(super) fn received(&self) -> Lsn {
        Lsn(self.start.0.saturating_add(self.received))
    }

    /// Returns how far it is in the store.
    pub(super) fn kept(&self) -> Lsn {
        let last = self.parts.last().filter(|_| self.compared);
        Lsn(self.start.0.saturating_add(last.map_or(0, |part| part.to)))
    }

    /// Returns where it begins.
    pub(super) fn start(&self) -> Lsn {
        self.start
    }

    /// Returns where the next segment begins.
    pub(super) fn end(&self) -> Lsn {
        Lsn(self.start.0.saturating_add(self.size.bytes()))
    }

    /// Returns whether all of it is there.
    pub(super) fn is_full(&self) -> bool {
        self.received == self.size.bytes()
    }

    /// Takes bytes up to the end of the segment; returns how many.
    pub(super) fn take(&mut self, bytes: &[u8], sent: Option<Timestamp>) -> Result<usize> {
        let room = exact::usize_from(self.size.bytes() - self.received);
        let whole = bytes.len();
        let bytes = exact::first(bytes, room);
        self.spool
            .write_all_at(bytes, self.received)
            .context("write the log into the spool directory")?;
        self.received += exact::u64_from(bytes.len());
        // The rest goes into the next segment, which may not be stored yet.
        self.sent = sent.filter(|_| bytes.len() == whole);
        let times = &mut self.times;
        let mut tell = |time: Timestamp| {
            let known = times.unwrap_or(Times {
                first: time,
                last: time,
            });
            *times = Some(Times {
                first: known.first.min(time),
                last: known.last.max(time),
            });
        };
        if let Some(reader) = &mut self.reader {
            reader.feed_telling(bytes, &mut |mark| tell(mark.time));
            return Ok(bytes.len());
        }
        self.beginning.extend_from_slice(bytes);
        if self.beginning.len() >= HEADER_BYTES {
            let wrong = || format!("segment {} as the server streams it", self.name);
            let mut reader =
                SegmentReader::begin(&self.name, self.size.bytes(), &self.beginning).with_context(wrong)?;
            let system = reader.header().system;
            if system != self.system {
                return Err(Error::corrupt(format!("it is of system {system}"))).with_context(wrong);
            }
            reader.feed_telling(&self.beginning, &mut |mark| tell(mark.time));
            self.beginning = Vec::new();
            self.reader = Some(reader);
        }
        Ok(bytes.len())
    }

    /// Returns the part that was received since the last one, which may still be on its way; `None` if there is none.
    pub(super) fn part(&mut self) -> Option<Work> {
        let header = self.reader.as_ref()?.header();
        let (mut from, to) = (self.sending, self.received);
        if from >= to {
            return None;
        }
        // A segment that fills slowly would have thousands: then one takes the place of all.
        let is_settled = self.compared && self.parts.last().is_some_and(|last| last.to == from);
        let mut replaces = Vec::new();
        if is_settled && self.parts.len() >= MOST_PARTS {
            from = 0;
            replaces = self.parts.iter().map(|part| part.key.clone()).collect();
        }
        let span = Span {
            from: self.start.0.saturating_add(from),
            to: self.start.0.saturating_add(to),
        };
        let news = self.times.take();
        let known = self.all_times.into_iter().chain(news);
        self.all_times = known.reduce(|all, more| Times {
            first: all.first.min(more.first),
            last: all.last.max(more.last),
        });
        let times = if from == 0 { self.all_times } else { news };
        let about = about_part(self.name, header, span, times, self.sent);
        self.sending = to;
        Some(Work::Part {
            piece: self.piece(from, to),
            name: self.name,
            about,
            to_compare: self.to_compare(),
            replaces,
        })
    }

    /// Returns the work of comparing what an earlier receiver stored with what came, where nothing more came that would be stored: it counts
    /// only then. `None` where it counts already, or not all of it has come.
    pub(super) fn comparison(&mut self) -> Option<Work> {
        let last = self.parts.last().filter(|_| !self.compared && !self.comparing)?.to;
        if self.reader.is_none() || self.received < last {
            return None;
        }
        self.comparing = true;
        Some(Work::Compare {
            piece: self.piece(0, last),
            to_compare: self.to_compare(),
        })
    }

    /// Takes note that what an earlier receiver stored is what came.
    pub(super) fn is_compared(&mut self) {
        self.compared = true;
    }

    /// Takes note of a part that was stored; those before it were compared on the way.
    pub(super) fn stored(&mut self, part: Part) {
        self.compared = true;
        self.sending = self.sending.max(part.to);
        if part.from == 0 {
            self.parts.clear();
        }
        self.parts.push(part);
    }

    /// Returns whether a piece is of these bytes, and not of those of another connection.
    pub(super) fn is_of(&self, piece: &Piece) -> bool {
        Arc::ptr_eq(&self.spool, &piece.spool)
    }

    /// Returns the work of storing it whole: all of it was received.
    pub(super) fn whole(mut self) -> Result<Work> {
        let kept = self.kept();
        let (piece, to_compare) = (self.piece(0, self.size.bytes()), self.to_compare());
        // The last one may be on its way.
        let stored = self.parts.last().map_or(0, |part| part.to);
        if self.sending > stored {
            self.parts
                .push(Part::of(self.system, &self.name, stored, self.sending)?);
        }
        let reader = self.reader.take();
        let reader = reader.ok_or_else(|| Error::corrupt("a segment is shorter than its header"))?;
        let header = *reader.header();
        let scanned = reader.finish()?;
        if !SegmentReader::is_full(&header, &scanned) {
            tracing::warn!(
                "{} is not valid behind {}: a recovery ends there",
                self.name,
                scanned.end
            );
        }
        let name = FileName::Segment(self.name);
        Ok(Work::Whole {
            piece,
            about: sent_at(about_segment(&name, &header, &scanned), self.sent),
            name,
            to_compare,
            parts: self.parts.into_iter().map(|part| part.key).collect(),
            kept,
        })
    }

    /// Returns the work of storing it as the segment in which its timeline ended; `None` if nothing was received of it. Its parts
    /// stay: a recovery along this timeline asks for the segment.
    pub(super) fn partial(mut self) -> Result<Option<Work>> {
        let kept = self.kept();
        let Some(mut reader) = self.reader.take() else {
            return Ok(None);
        };
        let act = "fill the segment in which a timeline ended";
        self.spool.set_len(self.size.bytes()).context(act)?;
        let mut left = self.size.bytes() - self.received;
        while left > 0 {
            let zeros = exact::first(&ZEROS, exact::usize_from(left));
            reader.feed(zeros);
            left -= exact::u64_from(zeros.len());
        }
        let header = *reader.header();
        let name = FileName::Partial(self.name);
        let about = about_segment(&name, &header, &reader.finish()?);
        Ok(Some(Work::Whole {
            piece: self.piece(0, self.size.bytes()),
            about: sent_at(about, self.sent),
            name,
            to_compare: self.to_compare(),
            parts: Vec::new(),
            kept,
        }))
    }

    fn piece(&self, from: u64, to: u64) -> Piece {
        Piece {
            spool: Arc::clone(&self.spool),
            start: self.start,
            from,
            to,
        }
    }

    /// Returns the parts of an earlier receiver, as far as they lie within what was received by now.
    fn to_compare(&self) -> Vec<Part> {
        let parts = self
            .parts
            .iter()
            .filter(|part| !self.compared && part.to <= self.received);
        parts.cloned().collect()
    }
}
