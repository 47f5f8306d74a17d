//! Entries of known length, one after another: small ones share a frame, a big one spans frames.
//!
//! An entry of at most one chunk lies in one frame whole and a worker digests it; a bigger one begins a frame of its
//! own, and its SHA-256 grows here as bytes are counted. So only frames inside a big entry begin within an entry.

use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::archive::assembler::entry_line;
use crate::archive::index_format::{EndLine, EntryLine};
use crate::archive::writer::RawFrame;
use crate::archive::{ArchiveInfo, ArchiveWriter, EntryMeta, StreamRecord, header};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::memory::Buffer;

/// Writes entries of known length one after another; an entry may span any number of frames, small ones share one.
///
/// The calls block and must come from a blocking thread of the runtime. It holds at most one buffer, and hands that
/// over before it waits for the next one.
#[derive(Debug)]
pub struct SequentialWriter {
    writer: ArchiveWriter,
    runtime: Handle,
    frame: Option<Building>,
    entry: Option<Open>,
}

/// The frame being filled. Only `filled` bytes of the buffer count.
#[derive(Debug)]
struct Building {
    buffer: Buffer,
    filled: usize,
    entries: Vec<EntryLine>,
    digests: Vec<(usize, std::ops::Range<usize>)>,
    end: Option<EndLine>,
    at_boundary: bool,
}

/// The entry being written.
#[derive(Debug)]
struct Open {
    size: u64,
    remaining: u64,
    /// Where its data begins, if it lies in one frame whole.
    data: Option<usize>,
    sha256: Sha256,
}

impl SequentialWriter {
    pub(crate) fn new(writer: ArchiveWriter) -> Self {
        Self {
            writer,
            runtime: Handle::current(),
            frame: None,
            entry: None,
        }
    }

    /// Writes the header of the next entry. On an error of the entry itself nothing was written.
    pub fn begin_entry(&mut self, meta: &EntryMeta) -> Result<()> {
        if self.entry.is_some() {
            return Err(Error::invalid("the entry before was not finished"));
        }
        let head = header::encode(meta)?;
        let limit = self.writer.frame_bytes();
        if head.len() > limit {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("header of {:?} is too long", String::from_utf8_lossy(&meta.path)),
            )
            .with_hint("Its extended attributes are larger than a chunk."));
        }
        let whole = usize::try_from(meta.size_bytes)
            .ok()
            .map(|size| head.len() + size + header::padding(meta.size_bytes));
        let whole = whole.filter(|whole| *whole <= limit);
        let room = self.frame.as_ref().map_or(0, |frame| limit - frame.filled);
        if whole.is_none_or(|whole| whole > room) {
            self.flush(0)?;
        }
        let frame = self.frame(true)?;
        let offset = u32::try_from(frame.filled).map_err(|_| Error::invalid("frame is too long"))?;
        frame.entries.push(entry_line(meta, offset));
        frame.put(&head);
        let data = whole.is_some().then_some(frame.filled);
        self.entry = Some(Open {
            size: meta.size_bytes,
            remaining: meta.size_bytes,
            data,
            sha256: Sha256::new(),
        });
        Ok(())
    }

    /// Returns a writable slice of the current frame (never empty while the entry has bytes left): read straight into
    /// it, then call [`SequentialWriter::advance`]. It is never longer than what the entry still needs.
    pub fn space(&mut self) -> Result<&mut [u8]> {
        let remaining = self.entry.as_ref().map_or(0, |entry| entry.remaining);
        let limit = self.writer.frame_bytes();
        if remaining == 0 {
            return Ok(&mut []);
        }
        if self.frame.as_ref().is_some_and(|frame| frame.filled >= limit) {
            self.flush(remaining)?;
        }
        let frame = self.frame(false)?;
        let len = (limit - frame.filled).min(exact::usize_from(remaining));
        let end = frame.filled + len;
        if frame.buffer.bytes.len() < end {
            frame.buffer.bytes.resize(end, 0);
        }
        frame
            .buffer
            .bytes
            .get_mut(frame.filled..end)
            .ok_or_else(|| Error::invalid("frame has no room"))
    }

    /// Counts `len` bytes of the last [`SequentialWriter::space`] as data.
    pub fn advance(&mut self, len: usize) -> Result<()> {
        let (Some(frame), Some(entry)) = (&mut self.frame, &mut self.entry) else {
            return if len == 0 {
                Ok(())
            } else {
                Err(Error::invalid("no entry is open"))
            };
        };
        let count = exact::u64_from(len);
        let data = frame.buffer.bytes.get(frame.filled..frame.filled.saturating_add(len));
        let data = data
            .filter(|_| count <= entry.remaining)
            .ok_or_else(|| Error::invalid("more bytes than there was space"))?;
        if entry.data.is_none() {
            entry.sha256.update(data);
        }
        entry.remaining -= count;
        frame.filled += len;
        Ok(())
    }

    /// Copies data in.
    pub fn write(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let space = self.space()?;
            let len = space.len().min(data.len());
            let (now, later) = data.split_at(len);
            if now.is_empty() {
                return Err(Error::invalid("more data than the entry announced"));
            }
            space.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
            self.advance(len)?;
            data = later;
        }
        Ok(())
    }

    /// Ends the entry. Missing bytes are padded with zeros; `changed` marks an entry whose source changed meanwhile.
    pub fn finish_entry(&mut self, changed: bool) -> Result<()> {
        loop {
            let space = self.space()?;
            if space.is_empty() {
                break;
            }
            space.fill(0);
            let len = space.len();
            self.advance(len)?;
        }
        let Some(entry) = self.entry.take() else {
            return Err(Error::invalid("no entry is open"));
        };
        let padding = header::padding(entry.size);
        let limit = self.writer.frame_bytes();
        if self.frame.as_ref().is_some_and(|frame| frame.filled + padding > limit) {
            self.flush(exact::u64_from(padding))?;
        }
        let frame = self.frame(false)?;
        match entry.data {
            Some(from) => {
                let last = frame.entries.len().saturating_sub(1);
                if entry.size > 0 {
                    frame.digests.push((last, from..frame.filled));
                }
                if let Some(line) = frame.entries.last_mut() {
                    line.changed = changed;
                }
            }
            None => {
                frame.end = Some(EndLine {
                    sha256: hex::encode(entry.sha256.finalize()),
                    changed,
                });
            }
        }
        frame.put(exact::part(
            &[0; header::BLOCK],
            ..padding,
            "padding is shorter than a block",
        ));
        Ok(())
    }

    /// Writes a stream record (e.g. a source's facts) into the index.
    pub fn finish_stream(&mut self, record: StreamRecord) -> Result<()> {
        self.writer.finish_stream_now(record)
    }

    /// Writes indexes, completes the objects, and returns them in order.
    pub async fn finish(mut self) -> Result<Vec<ArchiveInfo>> {
        if self.entry.is_some() {
            return Err(Error::invalid("the last entry was not finished"));
        }
        self.flush(0)?;
        self.writer.finish().await
    }

    /// Gives everything up.
    pub async fn abort(mut self) -> Result<()> {
        self.frame = None;
        self.writer.abort().await
    }

    /// Returns the frame being filled; waits for a buffer if there is none (then nothing is held).
    fn frame(&mut self, at_boundary: bool) -> Result<&mut Building> {
        if self.frame.is_none() {
            self.writer.check()?;
            let buffer = self.runtime.block_on(self.writer.buffer());
            self.writer.check()?;
            self.frame = Some(Building {
                buffer,
                filled: 0,
                entries: Vec::new(),
                digests: Vec::new(),
                end: None,
                at_boundary,
            });
        }
        self.frame.as_mut().ok_or_else(|| Error::invalid("no frame is open"))
    }

    /// Hands the frame over; `remaining` bytes of the open entry follow in later frames.
    fn flush(&mut self, remaining: u64) -> Result<()> {
        self.writer.check()?;
        let Some(Building {
            mut buffer,
            filled,
            entries,
            digests,
            end,
            at_boundary,
        }) = self.frame.take()
        else {
            return Ok(());
        };
        buffer.bytes.truncate(filled);
        self.writer.submit_frame(RawFrame {
            buffer,
            start: 0,
            entries,
            digests,
            end,
            at_boundary,
            remaining,
        });
        Ok(())
    }
}

impl Building {
    fn put(&mut self, bytes: &[u8]) {
        self.buffer.bytes.truncate(self.filled);
        self.buffer.bytes.extend_from_slice(bytes);
        self.filled = self.buffer.bytes.len();
    }
}
