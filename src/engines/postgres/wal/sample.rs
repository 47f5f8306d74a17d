//! Writes a log as a server does, for tests.
#![allow(clippy::as_conversions, clippy::cast_possible_truncation)]

use crc_fast::{CrcAlgorithm, Digest};

/// Bytes of a segment and of a page.
pub(super) const SEGMENT: usize = 1 << 20;
pub(super) const PAGE: usize = 8192;
pub(super) const SYSTEM: u64 = 7_123_456_789_012_345_678;

/// A log from the beginning of a segment on.
pub(super) struct Sample {
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) timeline: u32,
    pub(super) before: u64,
    /// Where each record begins.
    pub(super) records: Vec<u64>,
}

impl Sample {
    pub(super) fn new(segment: u64) -> Self {
        let start = segment * SEGMENT as u64;
        Self {
            start,
            bytes: Vec::new(),
            timeline: 1,
            before: start - 32,
            records: Vec::new(),
        }
    }

    pub(super) fn at(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Writes a page's header, if it is time for one.
    pub(super) fn header(&mut self, flags: u16, left: u32) {
        if !self.bytes.len().is_multiple_of(PAGE) {
            return;
        }
        let (at, long) = (self.at(), self.bytes.len().is_multiple_of(SEGMENT));
        self.bytes.extend(0xD110_u16.to_le_bytes());
        self.bytes.extend((flags | if long { 2 } else { 0 }).to_le_bytes());
        self.bytes.extend(self.timeline.to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend(left.to_le_bytes());
        self.bytes.extend([0; 4]);
        if long {
            self.bytes.extend(SYSTEM.to_le_bytes());
            self.bytes.extend((SEGMENT as u32).to_le_bytes());
            self.bytes.extend((PAGE as u32).to_le_bytes());
        }
    }

    /// Makes the bytes of the record that comes next.
    pub(super) fn encoded(&self, manager: u8, info: u8, data: &[u8]) -> Vec<u8> {
        let mut record = ((24 + data.len()) as u32).to_le_bytes().to_vec();
        record.extend(7_u32.to_le_bytes());
        record.extend(self.before.to_le_bytes());
        record.extend([info, manager, 0, 0]);
        let mut crc = Digest::new(CrcAlgorithm::Crc32Iscsi);
        crc.update(data);
        crc.update(&record);
        record.extend((crc.finalize() as u32).to_le_bytes());
        record.extend(data);
        record
    }

    /// Writes a record over as many pages as it takes, or only its first `most` bytes.
    fn write(&mut self, record: &[u8], most: usize) {
        self.header(0, 0);
        let start = self.at();
        let mut rest = record;
        while !rest.is_empty() && record.len() - rest.len() < most {
            self.header(1, rest.len() as u32);
            let room = PAGE - self.bytes.len() % PAGE;
            let (now, later) = rest.split_at(room.min(rest.len()).min(most - (record.len() - rest.len())));
            self.bytes.extend(now);
            rest = later;
        }
        if most >= record.len() {
            self.before = start;
            self.records.push(start);
            self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        }
    }

    pub(super) fn record(&mut self, manager: u8, info: u8, data: &[u8]) -> u64 {
        let record = self.encoded(manager, info, data);
        self.write(&record, usize::MAX);
        self.before
    }

    /// Begins a record that is never finished: a crash comes after `most` bytes.
    pub(super) fn torn(&mut self, data: &[u8], most: usize) {
        let record = self.encoded(10, 0, data);
        self.write(&record, most);
    }

    /// The end of a transaction, so many microseconds after the beginning of 2000.
    pub(super) fn commit(&mut self, micros: i64) -> u64 {
        let data = [&[255, 8][..], &micros.to_le_bytes()].concat();
        self.record(1, 0, &data)
    }

    /// Leaves the rest of the segment empty, as `pg_switch_wal()`.
    pub(super) fn switch(&mut self) {
        self.record(0, 0x40, &[]);
        self.pad();
    }

    /// Fills the segment with zeros.
    pub(super) fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(SEGMENT), 0);
    }

    /// Fills the segment with records up to its last byte.
    pub(super) fn fill(&mut self) {
        let mut number = 0_u32;
        while self.bytes.is_empty() || !self.bytes.len().is_multiple_of(SEGMENT) {
            number += 1;
            let length = (number.wrapping_mul(2_654_435_761) % 3000) as usize;
            let left = SEGMENT - self.bytes.len() % SEGMENT;
            let length = if left <= 2 * PAGE { 40_000.min(left) } else { length };
            let data: Vec<u8> = (0..length).map(|at| (at as u32 * 31 + number) as u8).collect();
            let record = self.encoded(10, 0, &data);
            let whole = record.len();
            if self.fits(whole) {
                self.record(10, 0, &data);
            } else {
                // It goes on in the next segment.
                self.write(&record, usize::MAX);
                return;
            }
        }
    }

    /// Whether a record ends within this segment.
    fn fits(&self, bytes: usize) -> bool {
        SEGMENT - self.bytes.len() % SEGMENT > bytes + 24 * (bytes / PAGE + 2)
    }
}
