//! `log verify`: reads every stored file, beside what `log show` looks at.

use super::{Look, MissingLog, ReadLog};
use crate::archive::log::LogReader;
use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::engines::postgres::wal::{FileName, HEADER_BYTES, Lsn, SegmentName, SegmentReader, TimelineHistory};
use crate::repository::ListedLog;

/// Bytes of a file that are kept while it is read: the largest text file, and the beginning of a segment.
const KEPT_BYTES: usize = 1 << 20;

impl Look<'_> {
    /// Reads everything of this system: digests of all, records of segments. Returns what was read and where segments are not
    /// valid to their end; what is damaged is noted.
    pub(super) async fn read_all(&mut self) -> Result<(ReadLog, Vec<MissingLog>)> {
        let (mut read, mut gaps, mut next) = (ReadLog::default(), Vec::new(), None);
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
                if let Some((raw_bytes, gap)) = self.readable(&name, done)? {
                    read.files += 1;
                    read.raw_bytes = read.raw_bytes.saturating_add(raw_bytes);
                    gaps.extend(gap);
                }
            }
            next = page.next;
            if next.is_none() {
                return Ok((read, gaps));
            }
        }
    }

    /// Reads one file; returns its length, and of a segment what of it is not valid.
    async fn read(&self, log: &ListedLog, name: &FileName) -> Result<(u64, Option<MissingLog>)> {
        let reader = LogReader::open(self.repository.store(), &log.key).await?;
        let raw_bytes = reader.descriptor().raw_bytes;
        let gap = match name {
            FileName::Segment(segment) => self.read_segment(&reader, segment).await?,
            // What stands behind the end of its timeline is of no account.
            FileName::Partial(segment) => self.read_segment(&reader, segment).await.map(|_| None)?,
            FileName::History(timeline) => {
                let text = reader.read_small(exact::u64_from(KEPT_BYTES)).await?;
                TimelineHistory::parse(*timeline, &text).map(|_| None)?
            }
            FileName::BackupLabel(..) => reader.read_small(exact::u64_from(KEPT_BYTES)).await.map(|_| None)?,
        };
        Ok((raw_bytes, gap))
    }

    async fn read_segment(&self, reader: &LogReader, name: &SegmentName) -> Result<Option<MissingLog>> {
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
        if SegmentReader::is_full(&header, &scanned) {
            return Ok(None);
        }
        let end = Lsn(header.position.0 + header.segment.bytes());
        Ok(Some(MissingLog::not_valid(name.timeline, scanned.end, end)))
    }
}
