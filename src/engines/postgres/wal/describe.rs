//! What the descriptor of a stored file says of WAL, and how it is read back.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::file_name::{FileName, SegmentName};
use super::lsn::SegmentSize;
use super::page::SegmentHeader;
use super::scan::Scanned;
use crate::archive::log::{About, Descriptor, Span, Times};
use crate::base::error::{Error, Result};

const SYSTEM: &str = "system";
const TIMELINE: &str = "timeline";
const SEGMENT_BYTES: &str = "segment_bytes";
const PAGE_MAGIC: &str = "page_magic";
const MAJOR: &str = "major";
const SENT: &str = "sent_at";

/// Describes a segment, or the part of one in which a timeline ended.
pub fn about_segment(name: &FileName, header: &SegmentHeader, scanned: &Scanned) -> About {
    let facts = segment(name, header);
    let (from, to) = (header.position.0, scanned.end.0);
    About {
        span: Some(Span { from, to }),
        times: scanned.times.map(|(first, last)| Times { first, last }),
        ..about(name, facts)
    }
}

/// Describes a part of a segment that is still being written. `sent` is when the server sent its last byte, by its clock.
pub fn about_part(
    name: SegmentName,
    header: &SegmentHeader,
    span: Span,
    times: Option<Times>,
    sent: Option<Timestamp>,
) -> About {
    let mut facts = segment(&FileName::Segment(name), header);
    facts.extend(sent.map(|sent| (SENT.to_owned(), sent.to_string())));
    About {
        kind: "part".to_owned(),
        span: Some(span),
        times,
        ..about(&FileName::Segment(name), facts)
    }
}

/// Adds to a description when the server sent the last byte, by its clock.
pub fn sent_at(mut about: About, sent: Option<Timestamp>) -> About {
    about.facts.extend(sent.map(|sent| (SENT.to_owned(), sent.to_string())));
    about
}

/// Describes a file that is no part of the log itself: a history file, a backup label.
pub fn about_file(name: &FileName, system: u64) -> About {
    about(name, facts(name, system))
}

/// Returns the size of segments and the major version out of a segment's descriptor.
pub fn segment_facts(descriptor: &Descriptor) -> Result<(SegmentSize, String)> {
    let fact = |name: &str| {
        let found = descriptor.about.facts.get(name);
        found.ok_or_else(|| Error::corrupt(format!("the descriptor does not say {name}")))
    };
    let bytes = fact(SEGMENT_BYTES)?.parse().ok();
    let size = bytes.ok_or_else(|| Error::corrupt("the descriptor has a segment_bytes that is no number"))?;
    Ok((SegmentSize::new(size)?, fact(MAJOR)?.clone()))
}

fn segment(name: &FileName, header: &SegmentHeader) -> BTreeMap<String, String> {
    let mut facts = facts(name, header.system);
    facts.insert(SEGMENT_BYTES.to_owned(), header.segment.bytes().to_string());
    facts.insert(PAGE_MAGIC.to_owned(), format!("{:04X}", header.magic));
    facts.insert(MAJOR.to_owned(), header.major.to_string());
    facts
}

fn facts(name: &FileName, system: u64) -> BTreeMap<String, String> {
    BTreeMap::from([
        (SYSTEM.to_owned(), system.to_string()),
        (TIMELINE.to_owned(), name.timeline().to_string()),
    ])
}

fn about(name: &FileName, facts: BTreeMap<String, String>) -> About {
    let kind = match name {
        FileName::Segment(_) => "segment",
        FileName::Partial(_) => "partial",
        FileName::BackupLabel(..) => "backup-label",
        FileName::History(_) => "history",
    };
    About {
        engine: super::super::KIND.word().to_owned(),
        kind: kind.to_owned(),
        facts,
        ..About::default()
    }
}
