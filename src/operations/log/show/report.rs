//! What `log show` says.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::found::Found;
use crate::base::claim::Claim;
use crate::base::exact;
use crate::base::table::Table;
use crate::base::units::{format_bytes, format_duration};
use crate::engines::postgres::wal::{Lsn, SegmentName, SegmentSize, Timeline};
use crate::operations::log::redis::show::LoggedStream;
use crate::operations::show::local_time;
use crate::operations::{Report, Status, document_of};
use crate::policy::log::{Branch, Gap, Why, Window};

/// What there is of logs. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct ShowLogReport {
    /// Each server's.
    pub logs: Vec<LoggedSystem>,
    /// Objects under `wal/` whose key is none of a log.
    pub unknown: u64,
    /// The command streams of Redis and Valkey servers, one for each history.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<LoggedStream>,
}

/// The log of one server and of its copies.
#[derive(Debug, serde::Serialize)]
pub struct LoggedSystem {
    /// Its system identifier; a number of 64 bits, so a string.
    pub system: String,
    /// Its major version, by the newest segment.
    pub major: Option<String>,
    /// Bytes of a segment.
    pub segment_bytes: Option<u64>,
    /// Stored segments.
    pub segments: u64,
    /// Bytes that everything of it takes in the store.
    pub stored_bytes: u64,
    /// The segment that was stored last.
    pub newest: Option<NewestLog>,
    /// Its timelines.
    pub timelines: Vec<LoggedTimeline>,
    /// What a recovery can go through.
    pub windows: Vec<LoggedWindow>,
    /// What is missing in between.
    pub gaps: BTreeSet<MissingLog>,
    /// Objects that are not WAL files.
    pub unknown: u64,
    /// Segments of another size than the newest, of those that were looked at or, by `log verify`, read.
    pub other_size: u64,
    /// Files whose stored bytes are damaged. `log show` looks at those at the ends of windows and at history files alone.
    pub damaged: Vec<DamagedLog>,
    /// Of `log verify`: what was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<ReadLog>,
}

/// What was read, and has its digest.
#[derive(Debug, Default, serde::Serialize)]
pub struct ReadLog {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub raw_bytes: u64,
    /// Files that lie in a cold class of the store, and were not read.
    pub archived: u64,
}

/// The segment that was stored last.
#[derive(Debug, serde::Serialize)]
pub struct NewestLog {
    /// Its name.
    pub file: String,
    /// When it was stored, by the store's clock.
    pub stored: Timestamp,
    /// How long ago that is.
    pub age_seconds: u64,
}

/// A timeline.
#[derive(Debug, serde::Serialize)]
pub struct LoggedTimeline {
    /// Its number.
    pub timeline: Timeline,
    /// The one that it continues.
    pub parent: Option<Timeline>,
    /// From where on.
    pub forked: Option<Lsn>,
    /// Stored segments.
    pub segments: u64,
}

/// What a recovery can go through without a hole.
#[derive(Debug, serde::Serialize)]
pub struct LoggedWindow {
    /// The timeline that it ends on.
    pub timeline: Timeline,
    /// The timeline that it begins on.
    pub first_timeline: Timeline,
    /// Where it begins.
    pub from: Lsn,
    /// Where it ends.
    pub to: Lsn,
    /// The earliest end of a transaction near its beginning.
    pub first_time: Option<Timestamp>,
    /// The latest near its end.
    pub last_time: Option<Timestamp>,
}

/// A part of the log that is not there.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct MissingLog {
    /// The timeline.
    pub timeline: Timeline,
    /// Where what is stored before it ends.
    pub from: Lsn,
    /// Where it goes on.
    pub to: Lsn,
    /// How many segments are missing.
    pub segments: u64,
    /// Why: `missing`, `begins-late`, `no-history`, `not-valid`.
    pub why: &'static str,
}

/// A file whose stored bytes are damaged.
#[derive(Debug, serde::Serialize)]
pub struct DamagedLog {
    /// Its name.
    pub file: String,
    /// What is wrong.
    pub error: String,
}

impl LoggedSystem {
    pub(super) fn of(system: u64, found: &Found) -> Self {
        Self {
            system: system.to_string(),
            major: None,
            segment_bytes: None,
            segments: found.segments,
            stored_bytes: found.stored_bytes,
            newest: None,
            timelines: Vec::new(),
            windows: Vec::new(),
            gaps: BTreeSet::new(),
            unknown: found.unknown,
            other_size: 0,
            damaged: Vec::new(),
            read: None,
        }
    }

    fn text(&self) -> String {
        let size = self.segment_bytes.map(|bytes| format!(" of {}", format_bytes(bytes)));
        let mut text = format!(
            "system {}{}: {}{}, {} stored",
            self.system,
            self.major
                .as_ref()
                .map(|major| format!(", PostgreSQL {major}"))
                .unwrap_or_default(),
            counted(self.segments, "segment"),
            size.unwrap_or_default(),
            format_bytes(self.stored_bytes),
        );
        if let Some(newest) = &self.newest {
            let age = format_duration(std::time::Duration::from_secs(newest.age_seconds));
            text.push_str(&format!("; the newest is {}, {age} old", newest.file));
        }
        text.push('\n');
        let mut table = Table::new(&["timeline", ">from", ">to", "first commit", "last commit"]);
        let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), local_time);
        for window in &self.windows {
            table.row([
                window.path(),
                window.from.to_string(),
                window.to.to_string(),
                time(window.first_time),
                time(window.last_time),
            ]);
        }
        if !table.is_empty() {
            text.push_str(&table.render());
        }
        text.extend(self.gaps.iter().map(MissingLog::text));
        for damaged in &self.damaged {
            text.push_str(&format!("DAMAGED {}: {}\n", damaged.file, damaged.error));
        }
        if let Some(read) = &self.read {
            text.push_str(&format!(
                "read {} of {}",
                counted(read.files, "file"),
                format_bytes(read.raw_bytes)
            ));
            if read.archived > 0 {
                let files = counted(read.archived, "file");
                text.push_str(&format!(", not {files} in a cold storage class"));
            } else if self.damaged.is_empty() {
                text.push_str(&format!(", {}", Claim::EveryDigestChecked.words()));
            }
            text.push('\n');
        }
        if self.unknown > 0 {
            let are = if self.unknown == 1 {
                "is not a WAL file"
            } else {
                "are not WAL files"
            };
            text.push_str(&format!("{} {are}\n", counted(self.unknown, "object")));
        }
        if self.other_size > 0 {
            let segments = counted(self.other_size, "segment");
            text.push_str(&format!(
                "{segments} of another size: no window is shown where they are\n"
            ));
        }
        text
    }
}

impl NewestLog {
    pub(super) fn of(segment: SegmentName, stored: Timestamp, now: Timestamp) -> Self {
        let age = now.duration_since(stored).as_secs();
        Self {
            file: segment.to_string(),
            stored,
            age_seconds: exact::saturating_u64(age),
        }
    }
}

impl LoggedTimeline {
    pub(super) fn of((number, branch): (&u32, &Branch)) -> Self {
        Self {
            timeline: Timeline(*number),
            parent: branch.parent.map(|fork| Timeline(fork.branch)),
            forked: branch.parent.map(|fork| Lsn(fork.at)),
            segments: branch.stretches.iter().map(|stretch| stretch.segments).sum(),
        }
    }
}

impl LoggedWindow {
    pub(super) fn of(window: &Window) -> Self {
        Self {
            timeline: Timeline(window.branch),
            first_timeline: Timeline(window.first_branch),
            from: Lsn(window.from),
            to: Lsn(window.to),
            first_time: None,
            last_time: None,
        }
    }

    fn path(&self) -> String {
        if self.first_timeline == self.timeline {
            self.timeline.to_string()
        } else {
            format!("{} to {}", self.first_timeline, self.timeline)
        }
    }
}

impl MissingLog {
    pub(super) fn of(gap: &Gap, size: SegmentSize) -> Self {
        Self {
            timeline: Timeline(gap.branch),
            from: Lsn(gap.from),
            to: Lsn(gap.to),
            segments: gap.to.saturating_sub(gap.from).div_ceil(size.bytes()),
            why: match gap.why {
                Why::Missing => "missing",
                Why::BeginsLate => "begins-late",
                Why::NoHistory => "no-history",
            },
        }
    }

    /// A segment is not what a server writes, from a position to its end.
    pub(super) fn not_valid(timeline: Timeline, from: Lsn, to: Lsn) -> Self {
        Self {
            timeline,
            from,
            to,
            segments: 1,
            why: "not-valid",
        }
    }

    fn text(&self) -> String {
        let (timeline, from, to, segments) = (self.timeline, self.from, self.to, self.segments);
        let what = match self.why {
            "no-history" => {
                return format!(
                    "gap on timeline {timeline} before {to}: its history file is not stored, so nothing says what it continues\n"
                );
            }
            "not-valid" => "the segment holds no valid records from there on".to_owned(),
            _ => {
                let are = if segments == 1 { "is" } else { "are" };
                format!("{} {are} not stored", counted(segments, "segment"))
            }
        };
        format!(
            "gap on timeline {timeline} from {from} to {to}: {what}; recovery past {to} needs a base backup taken after it\n"
        )
    }
}

/// Writes a number of things.
fn counted(number: u64, thing: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{end}")
}

impl Report for ShowLogReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        if self.logs.is_empty() && self.streams.is_empty() {
            return "no logs\n".to_owned();
        }
        let streams = self.streams.iter().map(LoggedStream::text);
        let texts: Vec<String> = self.logs.iter().map(LoggedSystem::text).chain(streams).collect();
        texts.join("\n")
    }

    fn status(&self) -> Status {
        // A gap is a fact to whoever looks, and something that is missing to whoever asks whether all is there.
        let status = |log: &LoggedSystem| match &log.read {
            _ if !log.damaged.is_empty() => Status::Failed,
            Some(read) if !log.gaps.is_empty() || log.other_size > 0 || read.archived > 0 => Status::Partial,
            _ => Status::Done,
        };
        let streams = self.streams.iter().map(LoggedStream::status);
        let all = self.logs.iter().map(status).chain(streams);
        all.fold(Status::Done, Status::worse)
    }
}
