//! Walks an index part by part: at most one part is in memory, whatever the size of the archive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::archive::lines::{Directory, FrameLine, IndexPart, Line};
use crate::archive::{ArchiveInfo, Sealing, StreamRecord};
use crate::error::{Context, Error, Result};
use crate::storage::{ObjectKey, SharedStore};

/// Raw bytes of an index part at most: lines of one archive frame beyond the usual 256 KiB, never more.
const MAX_PART_BYTES: u64 = 4 << 20;

/// Raw bytes of a directory at most.
const MAX_DIRECTORY_BYTES: usize = 4 << 20;

/// Pieces in which an index is read to check its digest.
const PIECE_BYTES: u64 = 1 << 20;

/// One archive as a reader knows it.
#[derive(Debug)]
pub(crate) struct OpenArchive {
    pub(crate) info: ArchiveInfo,
    pub(crate) sealing: Sealing,
    pub(crate) directory: Directory,
}

/// What all readers and streams of one source share.
#[derive(Debug)]
pub(crate) struct Archives {
    pub(crate) store: SharedStore,
    pub(crate) list: Vec<OpenArchive>,
    pub(crate) fetched: AtomicU64,
}

/// One frame with the lines about it.
#[derive(Debug, Clone)]
pub(crate) struct FrameLines {
    pub(crate) frame: FrameLine,
    pub(crate) lines: VecDeque<Line>,
}

impl FrameLines {
    /// Returns the memory that the lines take, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.lines.iter().map(Line::memory_bytes).sum()
    }
}

/// Appends a plain range of an object to `buffer` and counts what is read for it.
pub(crate) async fn fetch(
    store: &SharedStore,
    fetched: &AtomicU64,
    key: &ObjectKey,
    sealing: Sealing,
    plain: std::ops::Range<u64>,
    buffer: &mut Vec<u8>,
) -> Result<()> {
    let range = sealing.stored_range(plain);
    fetched.fetch_add(range.end.saturating_sub(range.start), Ordering::Relaxed);
    store.read_range(key, range, buffer).await
}

fn hex_matches(bytes: &[u8], sha256: &str) -> bool {
    hex::encode(Sha256::digest(bytes)) == sha256
}

/// Decompresses one zstd frame of exactly `raw` bytes.
fn inflate(stored: &[u8], raw: usize) -> Result<Vec<u8>> {
    let undecodable = |error| Error::corrupt("index frame does not decompress").with_cause(error);
    let bytes = zstd::bulk::decompress(stored, raw).map_err(undecodable)?;
    if bytes.len() == raw {
        Ok(bytes)
    } else {
        Err(Error::corrupt("index frame has another length than it claims"))
    }
}

/// Reads and checks an archive's directory; with `whole`, the digest of the whole index too, in pieces.
pub(crate) async fn open(
    store: &SharedStore,
    fetched: &AtomicU64,
    info: ArchiveInfo,
    whole: bool,
) -> Result<OpenArchive> {
    let (key, sealing) = (info.index.key.clone(), Sealing::None);
    let act = || format!("read index \"{key}\"");
    let size = info.index.size_bytes;
    if info.directory_bytes > size || info.directory_bytes > MAX_PART_BYTES {
        return Err(Error::corrupt(format!("directory of {} bytes", info.directory_bytes))).with_context(act);
    }
    let mut bytes = Vec::new();
    fetch(store, fetched, &key, sealing, 0..info.directory_bytes, &mut bytes)
        .await
        .with_context(act)?;
    if !hex_matches(&bytes, &info.directory_sha256) {
        return Err(Error::corrupt(
            "the directory does not have the digest the manifest names",
        ))
        .with_context(act);
    }
    if whole {
        let mut digest = Sha256::new();
        digest.update(&bytes);
        let (mut at, mut piece) = (info.directory_bytes, Vec::new());
        while at < size {
            let end = at.saturating_add(PIECE_BYTES).min(size);
            piece.clear();
            fetch(store, fetched, &key, sealing, at..end, &mut piece)
                .await
                .with_context(act)?;
            digest.update(&piece);
            at = end;
        }
        if hex::encode(digest.finalize()) != info.index.sha256 {
            return Err(Error::corrupt("the index does not have the digest the manifest names")).with_context(act);
        }
    }
    let raw = zstd::zstd_safe::get_frame_content_size(&bytes)
        .ok()
        .flatten()
        .and_then(|n| usize::try_from(n).ok());
    let raw = raw
        .filter(|raw| *raw <= MAX_DIRECTORY_BYTES)
        .ok_or_else(|| Error::corrupt("directory without a length"))
        .with_context(act)?;
    let raw = inflate(&bytes, raw).with_context(act)?;
    let unreadable = |error| Error::corrupt("the directory is not the JSON it must be").with_cause(error);
    let directory: Directory = serde_json::from_slice(&raw).map_err(unreadable).with_context(act)?;
    if directory.version != 1 {
        let message = format!("archive format {}, this program reads format 1", directory.version);
        return Err(Error::unsupported(message).with_hint("Use a newer version of wirevault.")).with_context(act);
    }
    check_parts(&directory, size - info.directory_bytes).with_context(act)?;
    Ok(OpenArchive {
        info,
        sealing,
        directory,
    })
}

/// Parts lie one after another within the index, in frame order, each within its bounds.
fn check_parts(directory: &Directory, room: u64) -> Result<()> {
    let (mut end, mut frame) = (0, 0);
    for part in &directory.parts {
        let next = part.offset.checked_add(part.length).filter(|next| *next <= room);
        let next = next.filter(|_| part.offset == end && part.frame >= frame && part.raw <= MAX_PART_BYTES);
        end = next.ok_or_else(|| Error::corrupt("the directory describes parts that cannot be"))?;
        frame = part.frame;
    }
    Ok(())
}

/// Reads parts of indexes, keeping the last one.
#[derive(Debug)]
pub(crate) struct Cursor {
    shared: Arc<Archives>,
    loaded: Option<(u32, usize)>,
    frames: Vec<FrameLines>,
    streams: Vec<StreamRecord>,
}

impl Cursor {
    pub(crate) fn new(shared: Arc<Archives>) -> Self {
        Self {
            shared,
            loaded: None,
            frames: Vec::new(),
            streams: Vec::new(),
        }
    }

    pub(crate) fn archive(&self, archive: u32) -> Result<&OpenArchive> {
        let found = usize::try_from(archive).ok().and_then(|at| self.shared.list.get(at));
        found.ok_or_else(|| Error::corrupt(format!("the source has no archive {archive}")))
    }

    /// Returns how many parts the index of an archive has.
    pub(crate) fn parts(&self, archive: u32) -> Result<usize> {
        Ok(self.archive(archive)?.directory.parts.len())
    }

    /// Loads one part, unless it is loaded already; returns its frames and stream records.
    pub(crate) async fn part(&mut self, archive: u32, number: usize) -> Result<(&[FrameLines], &[StreamRecord])> {
        if self.loaded != Some((archive, number)) {
            self.loaded = None;
            let open = self.archive(archive)?;
            let key = open.info.index.key.clone();
            let act = || format!("read part {number} of index \"{key}\"");
            let part = open
                .directory
                .parts
                .get(number)
                .cloned()
                .ok_or_else(|| Error::corrupt("no such index part"))
                .with_context(act)?;
            let (frames, streams) = load(&self.shared, open, &part).await.with_context(act)?;
            (self.frames, self.streams) = (frames, streams);
            self.loaded = Some((archive, number));
        }
        Ok((&self.frames, &self.streams))
    }

    /// Returns one frame with its lines.
    pub(crate) async fn frame(&mut self, archive: u32, frame: u32) -> Result<FrameLines> {
        let parts = &self.archive(archive)?.directory.parts;
        let number = parts.partition_point(|part| part.frame <= frame).checked_sub(1);
        let missing = || {
            Error::corrupt(format!(
                "the index of archive {archive} does not describe frame {frame}"
            ))
        };
        let (frames, _) = self.part(archive, number.ok_or_else(missing)?).await?;
        let found = frames
            .binary_search_by_key(&frame, |lines| lines.frame.frame)
            .ok()
            .and_then(|at| frames.get(at));
        found.cloned().ok_or_else(missing)
    }
}

async fn load(shared: &Archives, open: &OpenArchive, part: &IndexPart) -> Result<(Vec<FrameLines>, Vec<StreamRecord>)> {
    let start = open.info.directory_bytes.saturating_add(part.offset);
    let mut stored = Vec::new();
    fetch(
        &shared.store,
        &shared.fetched,
        &open.info.index.key,
        open.sealing,
        start..start.saturating_add(part.length),
        &mut stored,
    )
    .await?;
    if !hex_matches(&stored, &part.sha256) {
        return Err(Error::corrupt("the part does not have the digest the directory names"));
    }
    let raw = inflate(&stored, usize::try_from(part.raw).unwrap_or(usize::MAX))?;
    let mut frames: Vec<FrameLines> = Vec::new();
    let mut streams = Vec::new();
    for line in raw.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| Error::corrupt("an index line is not the JSON it must be").with_cause(error))?;
        match (line, frames.last_mut()) {
            (Line::Stream(record), _) => streams.push(record),
            (Line::Frame(frame), last) => {
                if last.is_some_and(|last| last.frame.frame >= frame.frame) {
                    return Err(Error::corrupt("index frames are out of order"));
                }
                frames.push(FrameLines {
                    frame,
                    lines: VecDeque::new(),
                });
            }
            (line, Some(last)) => last.lines.push_back(line),
            (_, None) => return Err(Error::corrupt("an index line belongs to no frame")),
        }
    }
    Ok((frames, streams))
}
