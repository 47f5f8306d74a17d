//! The log that a base brings along, looked through before a server replays it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::base::error::{Context, ErrorKind, Result};
use crate::base::exact;
use crate::engines::postgres::physical::BaseFacts;
use crate::engines::postgres::wal::{FileName, HEADER_BYTES, Lsn, Scan, SegmentName, SegmentReader, SegmentSize};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 256 << 10;

/// Returns where the log in `pg_wal` makes a tablespace outside the data directory, if it does: a server that replays it writes there, be it the
/// directory of the original.
pub(super) fn makes_tablespace(data: &Path, facts: &BaseFacts) -> Result<Option<String>> {
    let size = SegmentSize::new(facts.wal_segment_bytes)?;
    let directory = data.join("pg_wal");
    let mut segments: Vec<(Lsn, SegmentName)> = Vec::new();
    for entry in std::fs::read_dir(&directory).context("look into \"pg_wal\"")? {
        let name = entry.context("look into \"pg_wal\"")?.file_name();
        let Some(Ok(FileName::Segment(name))) = name.to_str().map(str::parse) else {
            continue;
        };
        let start = name.start(size);
        // What lies behind the end is replayed as well, if it is valid.
        let is_replayed = |start: &Lsn| start.0.saturating_add(size.bytes()) > facts.start_lsn.0;
        segments.extend(start.filter(is_replayed).map(|start| (start, name)));
    }
    segments.sort_by_key(|(start, name)| (name.timeline.0, *start));
    let mut scan: Option<Scan> = None;
    for (start, name) in segments {
        // A record may go on in the next segment.
        scan = scan.filter(|scan| scan.ended().is_none() && scan.position() == start);
        match feed(&directory.join(name.to_string()), &name, size, &mut scan) {
            // One that was recycled, or never written.
            Err(error) if error.kind() == ErrorKind::Corrupt && start >= facts.end_lsn => scan = None,
            read => read.with_context(|| format!("read WAL segment {name}"))?,
        }
        if let Some(place) = scan.as_ref().and_then(Scan::tablespace) {
            return Ok(Some(place.to_owned()));
        }
    }
    Ok(None)
}

fn feed(path: &Path, name: &SegmentName, size: SegmentSize, scan: &mut Option<Scan>) -> Result<()> {
    let mut file = File::open(path)?;
    let mut beginning = vec![0; HEADER_BYTES];
    file.read_exact(&mut beginning)?;
    let header = *SegmentReader::begin(name, size.bytes(), &beginning)?.header();
    let scan = scan.get_or_insert_with(|| Scan::begin(header, name.timeline));
    scan.feed(&beginning, &mut |_| {});
    let mut buffer = vec![0; PIECE_BYTES];
    while scan.ended().is_none() {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        scan.feed(exact::filled(&buffer, len), &mut |_| {});
    }
    Ok(())
}
