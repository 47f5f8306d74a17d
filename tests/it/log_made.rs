//! The archive of the write-ahead log, with segments that are made here: what no server does on demand.

use std::fs;

use serde_json::{Value, json};

use crate::support::program::Program;

const MIB: u64 = 1 << 20;
const SYSTEM: u64 = 7_123_456_789_012_345_678;

/// A log that is pushed file by file.
struct Archive {
    program: Program,
}

impl Archive {
    fn new() -> Self {
        let program = Program::on_directory();
        program.expect(0, &["init", "--no-encryption"]);
        Self { program }
    }

    fn push(&self, code: i32, name: &str, bytes: &[u8]) -> String {
        fs::write(self.program.path(name), bytes).unwrap();
        self.said(code, &["log", "push", name, "--system-id", &SYSTEM.to_string()])
    }

    /// Runs the program and returns what it says on standard error.
    fn said(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.program.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    /// Pushes the segments of a timeline by their numbers, each of 1 MiB.
    fn push_segments(&self, timeline: u32, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.push(0, &name(timeline, number), &segment(timeline, number, MIB));
        }
    }

    fn log(&self) -> Value {
        let shown = self.program.json(&["log", "show"]);
        shown["logs"][0].clone()
    }
}

fn name(timeline: u32, number: u64) -> String {
    format!("{timeline:08X}{:08X}{:08X}", 0, number)
}

/// A segment that holds no more than a switch: the log goes on with the next one.
fn segment(timeline: u32, number: u64, bytes: u64) -> Vec<u8> {
    let start = number * bytes;
    let mut segment = Vec::new();
    // The long header of a page of 15.
    segment.extend(0xD110_u16.to_le_bytes());
    segment.extend(2_u16.to_le_bytes());
    segment.extend(timeline.to_le_bytes());
    segment.extend(start.to_le_bytes());
    segment.extend([0; 8]);
    segment.extend(SYSTEM.to_le_bytes());
    segment.extend((bytes as u32).to_le_bytes());
    segment.extend(8192_u32.to_le_bytes());
    let mut record = 24_u32.to_le_bytes().to_vec();
    record.extend(0_u32.to_le_bytes());
    record.extend((start - 32).to_le_bytes());
    record.extend([0x40, 0, 0, 0]);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &record);
    segment.extend(record);
    segment.extend((crc as u32).to_le_bytes());
    segment.resize(bytes as usize, 0);
    segment
}

/// The history files of a server that recovered twice, the second time to an earlier moment, at a restore point that is named in
/// LATIN1.
#[test]
fn history_files_are_taken_as_servers_write_them() {
    let archive = Archive::new();
    let history = b"1\t0/500080\tno recovery target specified\n2\t0/300080\tat restore point \"\xfcbung\"\n";
    assert_eq!(archive.push(0, "00000003.history", history), "");
    archive.push_segments(1, 2..6);
    archive.push_segments(2, 5..7);
    archive.push_segments(3, 3..5);
    let log = archive.log();
    assert_eq!(log["gaps"], json!([]), "{log:#}");
    let last = &log["windows"][2];
    assert_eq!(
        (&last["timeline"], &last["from"], &last["to"]),
        (&json!(3), &json!("0/200000"), &json!("0/500000")),
        "{log:#}"
    );
}

/// A server that was promoted twice within a segment archives nothing of the timeline between, and its history file may be lost:
/// the one after it tells the same.
#[test]
fn a_timeline_of_which_nothing_is_stored_hides_no_gap_and_is_none() {
    let archive = Archive::new();
    archive.push(0, "00000003.history", b"1\t0/500080\tx\n2\t0/500100\tx\n");
    archive.push_segments(1, 2..5);
    archive.push_segments(3, 5..7);
    let log = archive.log();
    assert_eq!(log["gaps"], json!([]), "{log:#}");
    let over = &log["windows"][1];
    assert_eq!(
        (&over["first_timeline"], &over["from"], &over["to"]),
        (&json!(1), &json!("0/200000"), &json!("0/700000")),
        "{log:#}"
    );
    archive.program.expect(0, &["log", "verify"]);

    fs::remove_file(segment_path(&archive, 1, 4)).unwrap();
    let said = archive.program.expect(2, &["log", "verify"]);
    assert!(
        said.contains("gap on timeline 3 from 0/400000 to 0/500000: 1 segment is not stored; recovery past 0/500000 needs a base backup taken after it"),
        "{said}"
    );
}

fn segment_path(archive: &Archive, timeline: u32, number: u64) -> std::path::PathBuf {
    let repository = archive.program.path("repo");
    repository.join(format!("wal/{SYSTEM}/{timeline:08X}/{}.zst", name(timeline, number)))
}

/// `pg_resetwal --wal-segsize` gives the names that were there to other places.
#[test]
fn segments_of_another_size_are_no_window() {
    let archive = Archive::new();
    archive.push_segments(1, 1..4);
    archive.push(0, &name(1, 9), &segment(1, 9, 16 * MIB));
    let log = archive.log();
    assert_eq!(log["segment_bytes"], json!(16 * MIB));
    let windows = log["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 1, "{log:#}");
    assert_eq!(
        (&windows[0]["from"], &windows[0]["to"]),
        (&json!("0/9000000"), &json!("0/A000000")),
        "{log:#}"
    );
    let said = archive.program.expect(0, &["log", "show"]);
    assert!(
        said.contains("of another size: no window is shown where they are"),
        "{said}"
    );
    let said = archive.program.expect(2, &["log", "verify"]);
    assert!(said.contains("3 segments of another size"), "{said}");
}

/// Two servers that were promoted out of one timeline each archive its last part, as far as they had it.
#[test]
fn another_partial_segment_does_not_stop_an_archiver() {
    let archive = Archive::new();
    let partial = format!("{}.partial", name(1, 5));
    let first = segment(1, 5, MIB);
    archive.push(0, &partial, &first);
    let mut other = first.clone();
    *other.last_mut().unwrap() = 1;
    let said = archive.push(0, &partial, &other);
    assert!(
        said.contains("is stored already, with other bytes; the first one stays"),
        "{said}"
    );
    archive.program.expect(0, &["log", "fetch", &partial, "fetched"]);
    assert!(fs::read(archive.program.path("fetched")).unwrap() == first);
    // A whole segment is another matter.
    archive.push(0, &name(1, 5), &first);
    archive.push(1, &name(1, 5), &other);
}

/// An object under a name of an older timeline than its pages say is not handed to a server.
#[test]
fn a_page_of_a_later_timeline_is_not_fetched() {
    let archive = Archive::new();
    archive.push_segments(3, [5]);
    let copy = segment_path(&archive, 2, 5);
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::copy(segment_path(&archive, 3, 5), copy).unwrap();
    let said = archive.said(200, &["log", "fetch", &name(2, 5), "fetched"]);
    assert!(
        said.contains("holds another segment than its name says") && said.contains("its header says timeline 3"),
        "{said}"
    );
    assert!(!archive.program.path("fetched").exists());
}
