//! Tar entries out of decoded frames, each compared with what the index says of it.

use std::collections::VecDeque;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::archive::frames::{DecodedFrame, FrameData, FrameStream};
use crate::archive::header;
use crate::archive::index_format::{EndLine, EntryLine, Line};
use crate::archive::reader::DataSlice;
use crate::archive::{EntryEvent, EntryMeta};
use crate::base::error::{Context, Error, Result};
use crate::base::exact;

/// Entries with their data, in archive order.
#[derive(Debug)]
pub struct EntryStream {
    frames: FrameStream,
    current: Option<Current>,
    open: Option<Open>,
    failed: bool,
}

#[derive(Debug)]
struct Current {
    archive: u32,
    frame: u32,
    lines: VecDeque<Line>,
    data: Arc<FrameData>,
    at: usize,
}

#[derive(Debug)]
struct Open {
    name: Vec<u8>,
    line: EntryLine,
    remaining: u64,
    digest: Sha256,
    hidden: bool,
}

impl EntryStream {
    pub(crate) fn new(frames: FrameStream) -> Self {
        Self {
            frames,
            current: None,
            open: None,
            failed: false,
        }
    }

    /// Returns the next event; `None` after the last entry. After an error nothing more comes.
    pub async fn next(&mut self) -> Result<Option<EntryEvent>> {
        if self.failed {
            return Ok(None);
        }
        let result = self.step().await;
        self.failed = result.is_err();
        let name = self.open.as_ref().map(|open| open.name.clone());
        result.map_err(|error| match name {
            Some(name) => error.context(format!("read entry \"{}\"", name.escape_ascii())),
            None => error,
        })
    }

    async fn step(&mut self) -> Result<Option<EntryEvent>> {
        loop {
            if let Some(open) = &mut self.open {
                if open.remaining > 0 {
                    let slice = self.current.as_mut().and_then(|current| current.take(open.remaining));
                    let Some(slice) = slice else {
                        self.follow().await?;
                        continue;
                    };
                    open.remaining -= exact::u64_from(slice.len());
                    open.digest.update(&*slice);
                    if open.hidden {
                        continue;
                    }
                    return Ok(Some(EntryEvent::Data(slice)));
                }
                let event = self.close().await?;
                if event.is_some() {
                    return Ok(event);
                }
                continue;
            }
            match self.current.as_mut().and_then(|current| current.lines.pop_front()) {
                Some(Line::Entry(line)) => {
                    let event = self.begin(line)?;
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                // The end of an entry that was not asked for.
                Some(_) => {}
                None => match self.frames.next().await? {
                    Some(frame) => self.current = Some(Current::new(frame)),
                    None => return Ok(None),
                },
            }
        }
    }

    /// Goes on to the frame that must follow within an entry.
    async fn follow(&mut self) -> Result<()> {
        let before = self.current.take().map(|current| (current.archive, current.frame));
        let next = self
            .frames
            .next()
            .await?
            .ok_or_else(|| Error::corrupt("the archive ends within the entry"))?;
        let follows = before.is_some_and(|(archive, frame)| {
            archive == next.archive && frame.checked_add(1) == Some(next.about.frame.frame)
        });
        if !follows {
            return Err(Error::corrupt("the entry goes on in a frame that does not follow"));
        }
        self.current = Some(Current::new(next));
        Ok(())
    }

    fn begin(&mut self, line: EntryLine) -> Result<Option<EntryEvent>> {
        let name = line.name.bytes()?;
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        let act = || format!("read entry \"{}\"", name.escape_ascii());
        let offset = exact::usize_from(line.offset.into());
        let bytes = exact::range(&current.data.buffer.bytes, offset.., "its frame").with_context(act)?;
        let (meta, length) = header::parse(bytes).with_context(act)?;
        if meta.path != name || meta.size_bytes != line.size || meta.kind != line.kind {
            return Err(Error::corrupt("the tar header and the index disagree")).with_context(act);
        }
        current.at = offset.saturating_add(length);
        let hidden = line.own;
        self.open = Some(Open {
            name,
            remaining: line.size,
            line,
            digest: Sha256::new(),
            hidden,
        });
        Ok((!hidden).then_some(EntryEvent::Begin(meta)))
    }

    /// Compares the digest of an entry whose data have all been seen.
    async fn close(&mut self) -> Result<Option<EntryEvent>> {
        let Some(open) = &self.open else { return Ok(None) };
        let (expected, changed) = if open.line.spans() {
            let end = self.end_line().await?;
            (Some(end.sha256), end.changed)
        } else {
            (open.line.sha256.clone(), open.line.changed)
        };
        let Some(open) = self.open.take() else { return Ok(None) };
        let got = hex::encode(open.digest.finalize());
        if open.line.size > 0 && expected.as_deref() != Some(got.as_str()) {
            let name = open.name.escape_ascii();
            return Err(Error::corrupt(format!(
                "entry \"{name}\" does not have the digest the index names"
            )));
        }
        Ok((!open.hidden).then_some(EntryEvent::End { changed }))
    }

    /// Takes the line that ends a spanning entry: in this frame, or in the next one when the data filled this one.
    async fn end_line(&mut self) -> Result<EndLine> {
        for _ in 0..2 {
            match self.current.as_mut().and_then(|current| current.lines.pop_front()) {
                Some(Line::End(end)) => return Ok(end),
                Some(_) => break,
                None => self.follow().await?,
            }
        }
        Err(Error::corrupt("the index does not say where the entry ends"))
    }
}

impl Current {
    fn new(frame: DecodedFrame) -> Self {
        Self {
            archive: frame.archive,
            frame: frame.about.frame.frame,
            lines: frame.about.lines,
            data: frame.data,
            at: 0,
        }
    }

    fn take(&mut self, most: u64) -> Option<DataSlice> {
        let end = self.data.buffer.bytes.len();
        let len = end.saturating_sub(self.at).min(exact::usize_from(most));
        if len == 0 {
            return None;
        }
        let range = self.at..self.at + len;
        self.at = range.end;
        Some(DataSlice::new(Arc::clone(&self.data), range))
    }
}

/// Returns the entry behind a header and what follows it in a frame that holds one chunk member.
pub(crate) fn chunk_of(frame: &DecodedFrame, path: &str, size: u64) -> Result<DataSlice> {
    let (meta, length): (EntryMeta, usize) = header::parse(&frame.data.buffer.bytes)?;
    let end = usize::try_from(size).ok().and_then(|size| length.checked_add(size));
    let end = end.filter(|end| *end <= frame.data.buffer.bytes.len() && meta.size_bytes == size);
    match end {
        Some(end) if meta.path == path.as_bytes() => Ok(DataSlice::new(Arc::clone(&frame.data), length..end)),
        _ => Err(Error::corrupt(format!(
            "the tar header and the index disagree on \"{path}\""
        ))),
    }
}
