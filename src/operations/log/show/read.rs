//! `log verify`: reads every stored file, beside what `log show` looks at.

use super::{Look, MissingLog, ReadLog};
use crate::archive::log::LogReader;
use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::postgres::wal::{
    FileName, HEADER_BYTES, Lsn, MAX_HISTORY_BYTES, SegmentName, SegmentReader, SegmentSize, TimelineHistory,
};
use crate::repository::ListedLog;

/// What reading everything has shown.
#[derive(Debug, Default)]
pub(super) struct Everything {
    pub(super) read: ReadLog,
    /// Where segments are not valid to their end.
    pub(super) not_valid: Vec<MissingLog>,
    /// Segments of another size than the newest.
    pub(super) other_size: u64,
}

/// A file that was read, and has its digest.
struct FileRead {
    raw_bytes: u64,
    /// The size that a segment says; None for another file.
    size: Option<SegmentSize>,
    /// Where a segment is not valid to its end.
    not_valid: Option<MissingLog>,
}

/// Reads a part of a segment: its digest, and that it has the bytes that its name says.
async fn read_part(reader: &LogReader, from: u32, to: u32) -> Result<FileRead> {
    let raw_bytes = reader.descriptor().raw_bytes;
    if raw_bytes != u64::from(to.saturating_sub(from)) {
        return Err(Error::corrupt(format!(
            "it has {raw_bytes} bytes, and its name says {from} to {to}"
        )));
    }
    reader.read(&mut |_| Ok(())).await?;
    Ok(FileRead {
        raw_bytes,
        size: None,
        not_valid: None,
    })
}

impl Look<'_> {
    /// Reads everything of this system: digests of all, records of segments, whose size is to be `size`. What is damaged is noted.
    pub(super) async fn read_all(&mut self, size: Option<SegmentSize>) -> Result<Everything> {
        let (mut found, mut next) = (Everything::default(), None);
        loop {
            let page = self
                .session
                .or_cancelled(self.repository.logs(Some(self.system), next))
                .await?;
            for log in page.logs {
                let Ok(name) = log.name.parse::<FileName>() else {
                    continue;
                };
                let done = self.session.or_cancelled(self.read(&log, &name)).await;
                if done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Archived) {
                    found.read.archived += 1;
                }
                if let Some(file) = self.readable(&name, done)? {
                    found.read.files += 1;
                    found.read.raw_bytes = found.read.raw_bytes.saturating_add(file.raw_bytes);
                    found.not_valid.extend(file.not_valid);
                    found.other_size += u64::from(size.is_some() && file.size.is_some() && file.size != size);
                }
            }
            next = page.next;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// Reads one file.
    async fn read(&self, log: &ListedLog, name: &FileName) -> Result<FileRead> {
        let reader = LogReader::open(self.repository.store(), &log.key).await?;
        if let Some((from, to)) = log.part {
            return read_part(&reader, from, to).await;
        }
        match name {
            FileName::Segment(segment) => return self.read_segment(&reader, segment).await,
            FileName::Partial(segment) => {
                let read = self.read_segment(&reader, segment).await?;
                // What stands behind the end of its timeline is of no account.
                return Ok(FileRead {
                    not_valid: None,
                    ..read
                });
            }
            FileName::History(timeline) => {
                let text = reader.read_small(MAX_HISTORY_BYTES).await?;
                TimelineHistory::parse(*timeline, &text)?;
            }
            FileName::BackupLabel(..) => {
                reader.read_small(MAX_HISTORY_BYTES).await?;
            }
        }
        Ok(FileRead {
            raw_bytes: reader.descriptor().raw_bytes,
            size: None,
            not_valid: None,
        })
    }

    async fn read_segment(&self, reader: &LogReader, name: &SegmentName) -> Result<FileRead> {
        let raw_bytes = reader.descriptor().raw_bytes;
        let (mut beginning, mut segment): (Vec<u8>, Option<SegmentReader>) = (Vec::new(), None);
        let mut take = |bytes: &[u8]| -> Result<()> {
            if let Some(segment) = &mut segment {
                segment.feed(bytes);
                return Ok(());
            }
            beginning.extend_from_slice(bytes);
            if beginning.len() >= HEADER_BYTES {
                let mut opened = SegmentReader::begin(name, raw_bytes, &beginning)?;
                opened.feed(&beginning);
                segment = Some(opened);
            }
            Ok(())
        };
        reader.read(&mut take).await?;
        let segment = segment.ok_or_else(|| Error::corrupt("it is shorter than the header of a segment"))?;
        let header = *segment.header();
        if header.system != self.system {
            return Err(Error::corrupt(format!("it is of system {}", header.system)));
        }
        let scanned = segment.finish()?;
        let end = Lsn(header.position.0 + header.segment.bytes());
        let rest = || MissingLog::not_valid(name.timeline, scanned.end, end);
        Ok(FileRead {
            raw_bytes,
            size: Some(header.segment),
            not_valid: (!SegmentReader::is_full(&header, &scanned)).then(rest),
        })
    }
}
