#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions)]
use proptest::prelude::*;

use super::*;
use crate::engines::postgres::wal::sample::{PAGE, SEGMENT, SYSTEM, Sample};
use crate::engines::postgres::wal::{FileName, SegmentName, SegmentReader};

fn name(text: &str) -> SegmentName {
    match text.parse().unwrap() {
        FileName::Segment(name) => name,
        other => panic!("{other}"),
    }
}

/// Walks bytes in pieces.
fn walk(sample: &Sample, bytes: &[u8], piece: usize) -> (Scanned, Vec<Mark>) {
    let header = SegmentHeader::parse(&sample.bytes).unwrap();
    let (mut scan, mut marks) = (Scan::begin(header, Timeline(sample.timeline)), Vec::new());
    for part in bytes.chunks(piece) {
        scan.feed(part, &mut |mark| marks.push(mark));
    }
    (scan.finish(), marks)
}

#[test]
fn records_are_found_however_the_bytes_are_cut() {
    let mut sample = Sample::new(3);
    sample.record(10, 0, &vec![7; 20_000]);
    let commit = sample.commit(1_000_000);
    sample.fill();
    let second = sample.commit(3_000_000);
    sample.commit(2_000_000);
    let end = sample.at();
    let whole = walk(&sample, &sample.bytes, usize::MAX);
    assert_eq!(whole.0.records, sample.records.len() as u64);
    assert_eq!((whole.0.end, whole.0.why), (Lsn(end), End::Fed));
    assert_eq!(whole.1.len(), 3);
    assert_eq!((whole.1[0].at, whole.1[1].at), (Lsn(commit), Lsn(second)));
    assert_eq!(whole.1[0].time.to_string(), "2000-01-01T00:00:01Z");
    let (first, last) = whole.0.times.unwrap();
    assert_eq!((last - first).get_seconds(), 2);
    for piece in [1, 3, 7, 8, 23, 24, 25, 4096, PAGE, PAGE + 1] {
        assert_eq!(walk(&sample, &sample.bytes, piece), whole, "{piece}");
    }
}

#[test]
fn a_segment_that_begins_within_a_record_is_walked_from_the_next_one_on() {
    let mut sample = Sample::new(3);
    sample.fill();
    let commit = sample.commit(5);
    sample.switch();
    let second = Sample {
        bytes: sample.bytes.split_off(SEGMENT),
        records: Vec::new(),
        start: 4 * SEGMENT as u64,
        ..sample
    };
    let (scanned, marks) = walk(&second, &second.bytes, 1000);
    assert_eq!(marks.len(), 1);
    assert_eq!((marks[0].at, marks[0].kind), (Lsn(commit), RecordKind::Commit));
    assert_eq!((scanned.end, scanned.why), (Lsn(5 * SEGMENT as u64), End::Switched));
    assert_eq!(scanned.records, 2);
}

#[test]
fn what_was_never_written_and_what_is_older_end_the_valid_part() {
    let mut sample = Sample::new(3);
    sample.commit(1);
    let end = sample.at();
    let mut blank = sample.bytes.clone();
    blank.resize(SEGMENT, 0);
    let (scanned, _) = walk(&sample, &blank, 100);
    assert_eq!(
        (scanned.end, scanned.why, scanned.records),
        (Lsn(end), End::Unwritten, 1)
    );
    // A recycled file: records of an earlier segment at the same places.
    let mut older = Sample::new(2);
    older.fill();
    let mut recycled = older.bytes[..SEGMENT].to_vec();
    recycled[..sample.bytes.len()].copy_from_slice(&sample.bytes);
    let (scanned, _) = walk(&sample, &recycled, 100);
    assert_eq!((scanned.end, scanned.why, scanned.records), (Lsn(end), End::Broken, 1));
    // The valid part ends with a page.
    let mut sample = Sample::new(3);
    let room = PAGE - 40 - 24;
    sample.record(10, 0, &vec![1; room]);
    assert_eq!(sample.bytes.len(), PAGE);
    let mut blank = sample.bytes.clone();
    blank.resize(SEGMENT, 0);
    let (scanned, _) = walk(&sample, &blank, 100);
    assert_eq!((scanned.end.0, scanned.why), (sample.at(), End::Unwritten));
    recycled[..PAGE].copy_from_slice(&sample.bytes);
    let (scanned, _) = walk(&sample, &recycled, 100);
    assert_eq!((scanned.end.0, scanned.why), (sample.at(), End::Broken));
}

#[test]
fn a_record_that_a_crash_lost_is_passed_over() {
    let mut sample = Sample::new(3);
    sample.commit(1);
    // Up to the end of the page, and no further: the server goes on with the next page, which says so.
    let most = PAGE - sample.bytes.len();
    sample.torn(&vec![3; 30_000], most);
    assert_eq!(sample.bytes.len(), PAGE);
    sample.header(8, 0);
    let commit = sample.commit(2);
    let (scanned, marks) = walk(&sample, &sample.bytes, 100);
    assert_eq!((scanned.why, scanned.records), (End::Fed, 2));
    assert_eq!(marks[1].at, Lsn(commit));
}

#[test]
fn times_stand_behind_origin_and_top_transaction() {
    let mut sample = Sample::new(3);
    let time = 9_000_000_i64.to_le_bytes();
    let short = [&[255, 8][..], &time].concat();
    let long = [&[254, 8, 0, 0, 0][..], &time].concat();
    for (info, headers, kind) in [
        (0x00, &[][..], RecordKind::Commit),
        (0x80, &[253, 1, 0], RecordKind::Commit),
        (0x30, &[252, 1, 0, 0, 0], RecordKind::Commit),
        (0xA0, &[253, 1, 0, 252, 1, 0, 0, 0], RecordKind::Abort),
        (0x40, &[], RecordKind::Abort),
    ] {
        for data in [&short, &long] {
            let at = sample.record(1, info, &[headers, data].concat());
            let (_, marks) = walk(&sample, &sample.bytes, 50);
            let mark = marks.last().unwrap();
            assert_eq!((mark.at, mark.kind), (Lsn(at), kind), "{info:x}");
            assert_eq!(mark.time.to_string(), "2000-01-01T00:00:09Z");
        }
    }
    let before = walk(&sample, &sample.bytes, 50).1.len();
    let point = sample.record(0, 0x70, &short);
    // An assignment, invalidations, a prepared transaction that has not ended; a commit without a time; one out of all years.
    for (info, data) in [
        (0x50, &short[..]),
        (0x60, &short),
        (0x10, &short),
        (0, &[]),
        (0, &[255, 4, 0]),
        (0, &[1, 2, 3]),
    ] {
        sample.record(1, info, data);
    }
    sample.commit(i64::MAX);
    sample.commit(i64::MIN);
    let (scanned, marks) = walk(&sample, &sample.bytes, 50);
    assert_eq!(marks.len(), before + 1);
    assert_eq!(marks.last().unwrap().at, Lsn(point));
    assert_eq!(marks.last().unwrap().name, None);
    assert_eq!(scanned.records, sample.records.len() as u64);
}

#[test]
fn restore_points_have_their_names_and_no_other_bytes() {
    let mut sample = Sample::new(3);
    let point = |name: &[u8]| {
        let mut data = [&[255, 72][..], &9_000_000_i64.to_le_bytes(), name].concat();
        data.resize(2 + 8 + 64, 0);
        data
    };
    sample.record(0, 0x70, &point(b"before the migration"));
    sample.record(0, 0x70, &point(&[b'x'; 64]));
    sample.record(0, 0x70, &point(b"\xfcbung\0behind the end"));
    sample.record(0, 0x70, &point(b"a\nb"));
    let (_, marks) = walk(&sample, &sample.bytes, 7);
    let names: Vec<String> = marks.iter().map(|mark| mark.name.unwrap().to_string()).collect();
    assert_eq!(names, ["before the migration", &"x".repeat(64), "\u{fffd}bung", "a?b"]);
    assert_eq!(marks[2].name.unwrap().as_bytes(), b"\xfcbung");
    assert!(marks.iter().all(|mark| !mark.is_end()));
}

#[test]
fn a_file_is_what_its_name_and_its_header_say() {
    let mut sample = Sample::new(3);
    sample.fill();
    let bytes = &sample.bytes[..SEGMENT];
    let begin = |text: &str, bytes: &[u8], length: usize| SegmentReader::begin(&name(text), length as u64, bytes);
    let mut reader = begin("000000010000000000000003", bytes, SEGMENT).unwrap();
    assert_eq!((reader.header().system, reader.header().major), (SYSTEM, 15));
    reader.feed(bytes);
    let header = *reader.header();
    let scanned = reader.finish().unwrap();
    assert!(SegmentReader::is_full(&header, &scanned), "{scanned:?}");
    // The first segment of a timeline is a copy of the last one of the timeline before.
    begin("000000020000000000000003", bytes, SEGMENT).unwrap();
    for (text, bytes, length) in [
        ("000000010000000000000004", bytes, SEGMENT),
        ("000000010000000100000003", bytes, SEGMENT),
        ("000000010000000000000003", bytes, 2 * SEGMENT),
        ("000000010000000000000003", bytes, 0),
        ("000000010000000000000003", &bytes[..39], SEGMENT),
        ("000000010000000000000003", b"", SEGMENT),
        ("000000010000000000000003", &bytes[1..], SEGMENT),
        ("000000010000000000000003", &bytes[PAGE..], SEGMENT),
        ("000000010000000000000003", &[0; PAGE], SEGMENT),
    ] {
        assert!(begin(text, bytes, length).is_err(), "{text} {length}");
    }
    let mut later = bytes.to_vec();
    later[4] = 2;
    assert!(begin("000000010000000000000003", &later, SEGMENT).is_err());
    let mut short = begin("000000010000000000000003", bytes, SEGMENT).unwrap();
    short.feed(&bytes[..SEGMENT - 1]);
    assert!(short.finish().is_err());
}

#[test]
fn newer_and_older_majors_are_named() {
    let mut sample = Sample::new(3);
    sample.commit(1);
    for (magic, word) in [(0xD119_u16, "newer"), (0xD101, "before 13"), (0x1234, "does not begin")] {
        sample.bytes[..2].copy_from_slice(&magic.to_le_bytes());
        let error = SegmentHeader::parse(&sample.bytes).unwrap_err();
        assert!(error.message().contains(word), "{error:?}");
    }
}

/// Whatever byte is damaged, the valid part ends at or before the record or page that it belongs to, and nothing panics.
#[test]
fn a_damaged_byte_ends_the_valid_part() {
    let mut sample = Sample::new(3);
    for number in 0..60 {
        sample.record(10, 0, &vec![number; usize::from(number) * 11]);
        sample.commit(i64::from(number));
    }
    sample.commit(1);
    let whole = walk(&sample, &sample.bytes, usize::MAX).0.records;
    // A length that leads past the last page is found out by the next one alone.
    for at in 0..sample.bytes.len() - PAGE {
        let mut damaged = sample.bytes.clone();
        damaged[at] ^= 0x40;
        let (scanned, _) = walk(&sample, &damaged, usize::MAX);
        let behind = sample.start + at as u64;
        // Padding between records and in headers belongs to nothing.
        let harmless = scanned.records == whole;
        assert!(harmless || scanned.end <= Lsn(behind), "{at}: {scanned:?}");
        let within = sample.records.iter().rev().find(|start| **start <= behind);
        if let (true, Some(start)) = (harmless, within) {
            assert!(behind - start >= 18, "a damaged record counts: {at}");
        }
    }
}

proptest! {
    /// Random damage in random pieces: no panic, and what is found lies within what was fed.
    #[test]
    fn any_bytes_are_walked(damage in proptest::collection::vec((0usize..3 * PAGE, any::<u8>()), 0..12), piece in 1usize..9000) {
        let mut sample = Sample::new(3);
        while sample.bytes.len() < 3 * PAGE {
            sample.record(10, 0, &vec![5; 700]);
            sample.commit(77);
        }
        let mut bytes = sample.bytes.clone();
        for (at, value) in damage {
            bytes[at] = value;
        }
        let (scanned, marks) = walk(&sample, &bytes, piece);
        prop_assert!(scanned.end.0 >= sample.start && scanned.end.0 <= sample.at().next_multiple_of(SEGMENT as u64));
        prop_assert!(marks.len() as u64 <= scanned.records);
        prop_assert_eq!(walk(&sample, &bytes, usize::MAX).0, scanned);
    }

    /// Any header at all.
    #[test]
    fn any_header_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = SegmentHeader::parse(&bytes);
        let _ = PageHeader::parse(&bytes, true);
        let _ = RecordHeader::parse(&bytes).map(|header| header.time(&bytes));
        let _ = crate::engines::postgres::wal::system_identifier(&bytes);
        let _ = crate::engines::postgres::wal::TimelineHistory::parse(Timeline(9), &bytes);
    }
}

#[test]
fn a_tablespace_is_told_where_it_is_made_outside() {
    let made = |place: &[u8]| {
        let data = [
            &[255, u8::try_from(4 + place.len()).unwrap()][..],
            &16_400_u32.to_le_bytes(),
            place,
        ]
        .concat();
        let mut sample = Sample::new(3);
        sample.commit(1);
        sample.record(5, 0x00, &data);
        sample.record(5, 0x00, &[255, 5, 0, 0, 0, 0, b'/', b'z', 0]);
        let header = SegmentHeader::parse(&sample.bytes).unwrap();
        let mut scan = Scan::begin(header, Timeline(1));
        for piece in sample.bytes.chunks(7) {
            scan.feed(piece, &mut |_| {});
        }
        scan.tablespace().map(str::to_owned)
    };
    assert_eq!(made(b"/srv/fast\0").as_deref(), Some("/srv/fast"));
    // One within the data directory names no place.
    assert_eq!(made(b"\0").as_deref(), Some("/z"));
    assert_eq!(made(&[b'/'; 200]).map(|place| place.len()), Some(128 - 24 - 2 - 4));
    // One that is removed is none.
    let mut sample = Sample::new(3);
    sample.record(5, 0x10, &[255, 4, 0, 0, 0, 0]);
    let header = SegmentHeader::parse(&sample.bytes).unwrap();
    let mut scan = Scan::begin(header, Timeline(1));
    scan.feed(&sample.bytes, &mut |_| {});
    assert_eq!(scan.tablespace(), None);
}
