//! What an index may say: it is compared with itself, with the manifest, and with what this program can have written.

use crate::archive::ArchiveInfo;
use crate::archive::index_format::{self, Directory, FrameLine, Line, Name};
use crate::archive::index_reader::{FrameLines, MAX_PART_BYTES};
use crate::base::error::{Error, Result};
use crate::base::exact;

/// Stored and raw bytes of a frame at most: a chunk with its headers, compressed badly, has not much more than one mebibyte.
const MAX_FRAME_BYTES: u32 = 2 << 20;

/// Counts what an index describes, to be compared with what its directory says.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    frames: u64,
    entries: u64,
    raw_bytes: u64,
    stored_bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, about: &FrameLines) {
        let entries = about.lines.iter().filter(|line| matches!(line, Line::Entry(_))).count();
        self.frames = self.frames.saturating_add(1);
        self.entries = self.entries.saturating_add(exact::u64_from(entries));
        self.raw_bytes = self.raw_bytes.saturating_add(about.frame.raw.into());
        self.stored_bytes = self.stored_bytes.saturating_add(about.frame.length.into());
    }

    /// Fails if the directory says something else.
    pub(crate) fn compare(&self, directory: &Directory) -> Result<()> {
        let counted = (self.frames, self.entries, self.raw_bytes, self.stored_bytes);
        let said = (
            directory.frames,
            directory.entries,
            directory.raw_bytes,
            directory.described_bytes,
        );
        if counted == said {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "the index describes {} frames with {} entries, its directory says {} with {}, or their sizes differ",
            counted.0, counted.1, said.0, said.1
        )))
    }
}

/// The directory counts what the manifest counts.
pub(super) fn check_totals(directory: &Directory, info: &ArchiveInfo) -> Result<()> {
    let same = directory.entries == info.entries && directory.frames == info.frames;
    if same && directory.raw_bytes <= info.raw_bytes && directory.described_bytes <= info.archive.size_bytes {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "the manifest counts {} entries in {} frames, the directory {} in {}, or their sizes contradict each other",
        info.entries, info.frames, directory.entries, directory.frames
    )))
}

/// Parts lie one after another within the index, in frame order, each within its bounds.
pub(super) fn check_parts(directory: &Directory, room: u64) -> Result<()> {
    let (mut end, mut frame) = (0, 0);
    for part in &directory.parts {
        let next = part.offset.checked_add(part.length).filter(|next| *next <= room);
        let next = next.filter(|_| part.offset == end && part.frame >= frame && part.raw <= MAX_PART_BYTES);
        end = next.ok_or_else(|| Error::corrupt("the directory describes parts that cannot be"))?;
        frame = part.frame;
    }
    Ok(())
}

/// Frames follow one another within what the index describes, and none is larger than one may be.
pub(super) fn check_frame(frame: &FrameLine, last: Option<&FrameLines>, described_bytes: u64) -> Result<()> {
    if last.is_some_and(|last| last.frame.frame >= frame.frame) {
        return Err(Error::corrupt("index frames are out of order"));
    }
    let end = |frame: &FrameLine| frame.offset.checked_add(frame.length.into());
    let begins = last
        .map_or(Some(0), |last| end(&last.frame))
        .is_some_and(|end| end <= frame.offset);
    let ends = end(frame).is_some_and(|end| end <= described_bytes);
    if !begins || !ends || frame.length.max(frame.raw) > MAX_FRAME_BYTES || !index_format::is_sha256(&frame.sha256) {
        return Err(Error::corrupt(format!(
            "frame {} cannot be where or what the index says",
            frame.frame
        )));
    }
    Ok(())
}

/// Entries begin one behind another within their frame; one that is a chunk of a stream is alone in it.
pub(super) fn check_line(line: &Line, about: &FrameLines, raw_bytes: u64) -> Result<()> {
    /// What a header takes at least, in bytes.
    const HEADER_BYTES: u32 = 512;
    let bad = || {
        Error::corrupt(format!(
            "the lines about frame {} contradict each other",
            about.frame.frame
        ))
    };
    let last = about.lines.back();
    match (line, last) {
        (Line::Entry(entry), last) => {
            let (after, alone) = match last {
                Some(Line::Entry(last)) => (last.offset.saturating_add(HEADER_BYTES), last.chunk.is_none()),
                _ => (0, true),
            };
            let begins = entry.offset >= after && entry.offset < about.frame.raw;
            let alone = alone && (entry.chunk.is_none() || last.is_none());
            let hash = entry.sha256.as_deref().is_none_or(index_format::is_sha256);
            // One that goes on in further frames stays within its archive, so no sum of sizes can overflow.
            let room = if entry.chunk.is_some() {
                about.frame.raw.into()
            } else {
                raw_bytes
            };
            // Hidden from readers is only how to restore by hand, at the very beginning.
            let own =
                !entry.own || (about.frame.frame == 0 && entry.offset == 0 && entry.name == Name::new(b"README.txt"));
            if begins && own && alone && hash && entry.size <= room {
                Ok(())
            } else {
                Err(bad())
            }
        }
        // An entry ends in a frame before others begin in it.
        (Line::End(end), None) if index_format::is_sha256(&end.sha256) => Ok(()),
        _ => Err(bad()),
    }
}
