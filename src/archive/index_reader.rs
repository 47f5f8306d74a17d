//! Walks an index part by part: at most one part is in memory, whatever the size of the archive.
//!
//! An index is as untrusted as the manifest that names it. So everything that is kept of one has a bound that follows from what
//! this program writes: a frame holds a mebibyte, so few entries begin in it; a part is cut at 256 KiB; directories are kept as
//! far as a fixed share of memory goes, and read again beyond it; what streams say of themselves is weighed before it
//! is parsed. What does not have the digest it must have is read once more before it is called damaged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::archive::index_check::{check_frame, check_line, check_parts, check_totals};
use crate::archive::index_format::{self, Directory, FrameLine, IndexPart, Line};
use crate::archive::inflate::unzstd;
use crate::archive::{ArchiveInfo, Sealing, StreamRecord};
use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::storage::{ObjectKey, SharedStore};

/// Raw bytes of an index part at most: lines of one archive frame beyond the usual 256 KiB, never more.
pub(super) const MAX_PART_BYTES: u64 = 4 << 20;

/// Raw bytes of a directory at most; some 250 bytes are a part.
const MAX_DIRECTORY_BYTES: usize = 2 << 20;

/// Memory of the directories that are kept, in bytes; further ones are read again whenever they are needed.
const KEPT_DIRECTORIES_BYTES: usize = 4 << 20;

/// Lines of a part at most, twice what 256 KiB and one more frame can hold.
const MAX_PART_LINES: usize = 1 << 14;

/// Memory at most of what streams say of themselves in one part, in bytes.
const MAX_PART_STREAMS_BYTES: u64 = 16 << 20;

/// Pieces in which an index is read to check its digest.
const PIECE_BYTES: u64 = 1 << 20;

/// One archive as a reader knows it.
#[derive(Debug)]
pub(crate) struct OpenArchive {
    pub(crate) info: ArchiveInfo,
    pub(crate) sealing: Sealing,
    /// None where it is read again when it is needed.
    directory: Option<Arc<Directory>>,
    parts: usize,
}

/// What all readers and streams of one source share.
#[derive(Debug)]
pub(crate) struct Archives {
    pub(crate) store: SharedStore,
    pub(crate) list: Vec<OpenArchive>,
    pub(crate) fetched: AtomicU64,
    /// Memory at most of what all streams say of themselves, in bytes.
    pub(crate) stream_limit: u64,
}

impl Archives {
    pub(crate) fn archive(&self, archive: u32) -> Result<&OpenArchive> {
        let found = usize::try_from(archive).ok().and_then(|at| self.list.get(at));
        found.ok_or_else(|| Error::corrupt(format!("the source has no archive {archive}")))
    }
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

/// Appends a plain range of an index whose digest is known; reads it again if it differs.
async fn fetch_checked(
    store: &SharedStore,
    fetched: &AtomicU64,
    (key, sealing): (&ObjectKey, Sealing),
    plain: std::ops::Range<u64>,
    (sha256, what): (&str, &str),
) -> Result<Vec<u8>> {
    for _ in 0..2 {
        let mut bytes = Vec::new();
        fetch(store, fetched, key, sealing, plain.clone(), &mut bytes).await?;
        if hex_matches(&bytes, sha256) {
            return Ok(bytes);
        }
    }
    Err(Error::corrupt(what))
}

fn hex_matches(bytes: &[u8], sha256: &str) -> bool {
    hex::encode(Sha256::digest(bytes)) == sha256
}

/// Opens the archives of a source: reads and checks the directory of each; with `whole`, the digest of each index too, in pieces.
pub(crate) async fn open_all(
    store: SharedStore,
    infos: Vec<ArchiveInfo>,
    whole: bool,
    stream_limit: u64,
) -> Result<Archives> {
    let mut archives = Archives {
        store,
        list: Vec::with_capacity(infos.len()),
        fetched: AtomicU64::new(0),
        stream_limit,
    };
    let mut kept_bytes = 0_usize;
    for info in infos {
        let key = info.index.key.clone();
        let missing = |error| super::reader::missing(error, key.as_str());
        let directory = directory(&archives, &info).await.map_err(missing)?;
        if whole {
            check_whole(&archives, &info).await.map_err(missing)?;
        }
        let parts = directory.parts.len();
        let bytes = directory.memory_bytes();
        let keep = kept_bytes.saturating_add(bytes) <= KEPT_DIRECTORIES_BYTES;
        kept_bytes = if keep { kept_bytes + bytes } else { kept_bytes };
        archives.list.push(OpenArchive {
            info,
            sealing: Sealing::None,
            directory: keep.then(|| Arc::new(directory)),
            parts,
        });
    }
    Ok(archives)
}

/// Compares the whole index with its digest, in pieces.
async fn check_whole(archives: &Archives, info: &ArchiveInfo) -> Result<()> {
    let act = || format!("read index \"{}\"", info.index.key);
    for _ in 0..2 {
        let mut digest = Sha256::new();
        let (mut at, mut piece) = (0_u64, Vec::new());
        while at < info.index.size_bytes {
            let end = at.saturating_add(PIECE_BYTES).min(info.index.size_bytes);
            piece.clear();
            let (store, fetched) = (&archives.store, &archives.fetched);
            fetch(store, fetched, &info.index.key, Sealing::None, at..end, &mut piece)
                .await
                .with_context(act)?;
            digest.update(&piece);
            at = end;
        }
        if hex::encode(digest.finalize()) == info.index.sha256 {
            return Ok(());
        }
    }
    Err(Error::corrupt("the index does not have the digest the manifest names")).with_context(act)
}

/// Reads and checks the directory of an index.
async fn directory(archives: &Archives, info: &ArchiveInfo) -> Result<Directory> {
    let act = || format!("read index \"{}\"", info.index.key);
    let most = exact::u64_from(MAX_DIRECTORY_BYTES);
    if info.directory_bytes > info.index.size_bytes || info.directory_bytes > most {
        return Err(Error::corrupt(format!("directory of {} bytes", info.directory_bytes))).with_context(act);
    }
    let wanted = (
        info.directory_sha256.as_str(),
        "the directory does not have the digest the manifest names",
    );
    let place = (&info.index.key, Sealing::None);
    let bytes = fetch_checked(
        &archives.store,
        &archives.fetched,
        place,
        0..info.directory_bytes,
        wanted,
    )
    .await
    .with_context(act)?;
    let raw = zstd::zstd_safe::get_frame_content_size(&bytes)
        .ok()
        .flatten()
        .and_then(|n| usize::try_from(n).ok());
    let raw = raw
        .filter(|raw| *raw <= MAX_DIRECTORY_BYTES)
        .ok_or_else(|| Error::corrupt("directory without a length, or too long"))
        .with_context(act)?;
    let raw = unzstd(&bytes, raw).await.with_context(act)?;
    let unreadable = |error| Error::corrupt("the directory is not valid JSON of this format").with_cause(error);
    let directory: Directory = serde_json::from_slice(&raw).map_err(unreadable).with_context(act)?;
    if directory.version != 1 {
        let message = format!("archive format {}, this program reads format 1", directory.version);
        return Err(Error::unsupported(message).with_hint("Use a newer version of wirevault.")).with_context(act);
    }
    check_totals(&directory, info).with_context(act)?;
    check_parts(&directory, info.index.size_bytes.saturating_sub(info.directory_bytes)).with_context(act)?;
    Ok(directory)
}

/// Reads parts of indexes, keeping the last one.
#[derive(Debug)]
pub(crate) struct Cursor {
    shared: Arc<Archives>,
    /// The last directory that had to be read again.
    directory: Option<(u32, Arc<Directory>)>,
    loaded: Option<(u32, usize)>,
    frames: Vec<FrameLines>,
    streams: Vec<StreamRecord>,
}

impl Cursor {
    pub(crate) fn new(shared: Arc<Archives>) -> Self {
        Self {
            shared,
            directory: None,
            loaded: None,
            frames: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// Returns how many parts the index of an archive has.
    pub(crate) fn parts(&self, archive: u32) -> Result<usize> {
        Ok(self.shared.archive(archive)?.parts)
    }

    /// Returns the directory of an archive.
    pub(crate) async fn directory(&mut self, archive: u32) -> Result<Arc<Directory>> {
        let open = self.shared.archive(archive)?;
        if let Some(directory) = &open.directory {
            return Ok(Arc::clone(directory));
        }
        if let Some((number, directory)) = &self.directory
            && *number == archive
        {
            return Ok(Arc::clone(directory));
        }
        let read = Arc::new(directory(&self.shared, &open.info).await?);
        self.directory = Some((archive, Arc::clone(&read)));
        Ok(read)
    }

    /// Loads one part, unless it is loaded already; returns its frames and stream records.
    pub(crate) async fn part(&mut self, archive: u32, number: usize) -> Result<(&[FrameLines], &[StreamRecord])> {
        if self.loaded != Some((archive, number)) {
            self.loaded = None;
            let directory = self.directory(archive).await?;
            let open = self.shared.archive(archive)?;
            let act = || format!("read part {number} of index \"{}\"", open.info.index.key);
            let part = directory
                .parts
                .get(number)
                .ok_or_else(|| Error::corrupt("no such index part"))
                .with_context(act)?;
            let read = load(&self.shared, open, part, &directory).await;
            (self.frames, self.streams) = read.with_context(act)?;
            self.loaded = Some((archive, number));
        }
        Ok((&self.frames, &self.streams))
    }

    /// Returns one frame with its lines.
    pub(crate) async fn frame(&mut self, archive: u32, frame: u32) -> Result<FrameLines> {
        let directory = self.directory(archive).await?;
        let number = directory
            .parts
            .partition_point(|part| part.frame <= frame)
            .checked_sub(1);
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

async fn load(
    shared: &Archives,
    open: &OpenArchive,
    part: &IndexPart,
    directory: &Directory,
) -> Result<(Vec<FrameLines>, Vec<StreamRecord>)> {
    let start = open.info.directory_bytes.saturating_add(part.offset);
    let range = start..start.saturating_add(part.length);
    let wanted = (
        part.sha256.as_str(),
        "the part does not have the digest the directory names",
    );
    let place = (&open.info.index.key, open.sealing);
    let stored = fetch_checked(&shared.store, &shared.fetched, place, range, wanted).await?;
    let raw = unzstd(&stored, exact::usize_from(part.raw)).await?;
    drop(stored);
    let mut frames: Vec<FrameLines> = Vec::new();
    let mut streams = Vec::new();
    let mut streams_bytes = 0_u64;
    for (number, line) in raw.split(|b| *b == b'\n').filter(|line| !line.is_empty()).enumerate() {
        if number >= MAX_PART_LINES {
            return Err(Error::corrupt("an index part has too many lines"));
        }
        // Before it is parsed: JSON of a few bytes may take a hundred times as many.
        let weight_bytes = index_format::weight_bytes(line);
        if ![&b"{\"f\":"[..], b"{\"e\":", b"{\"end\":"]
            .iter()
            .any(|known| line.starts_with(known))
        {
            streams_bytes = streams_bytes.saturating_add(weight_bytes);
        }
        if streams_bytes.max(weight_bytes) > MAX_PART_STREAMS_BYTES {
            return Err(Error::corrupt("an index part says too much of its streams"));
        }
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| Error::corrupt("an index line is not valid JSON of this format").with_cause(error))?;
        match (line, frames.last_mut()) {
            (Line::Stream(record), _) => streams.push(record),
            (Line::Frame(frame), last) => {
                check_frame(&frame, last.as_deref(), directory.described_bytes)?;
                frames.push(FrameLines {
                    frame,
                    lines: VecDeque::new(),
                });
            }
            (line, Some(last)) => {
                check_line(&line, last, directory.raw_bytes)?;
                last.lines.push_back(line);
            }
            (_, None) => return Err(Error::corrupt("an index line belongs to no frame")),
        }
    }
    Ok((frames, streams))
}
