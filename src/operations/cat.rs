//! `cat`: writes one stored entry, holes as zeros, or all chunks of a stream, to standard output.

use std::io::Write;

use crate::archive::reader::Selection;
use crate::archive::{ArchiveReader, ChunkRef, EntryEvent, EntryKind, EntryRef, StreamRecord};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::files::filled::Filled;
use crate::engines::files::spelling;
use crate::operations::choose::Purpose;
use crate::operations::options;
use crate::operations::snapshots::{open_reader_lazily, open_snapshot, source_named};
use crate::operations::{Outcome, Report, Session, Status, thaw};

/// Nothing more to say: the bytes have been said.
struct Written(Status);

impl Report for Written {
    fn document(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    fn text(&self) -> String {
        String::new()
    }
    fn prints(&self) -> bool {
        false
    }
    fn status(&self) -> Status {
        self.0
    }
}

/// Finds the entry or stream, then copies it out; every frame's digest is checked before its bytes are written.
pub async fn run(session: &Session, options: &options::Cat) -> Outcome {
    let sources = std::slice::from_ref(&options.source);
    let (repository, chosen) = open_snapshot(session, &options.snapshot, sources, Purpose::Read).await?;
    let source = source_named(&chosen.manifest, &options.source)?;
    thaw::sources(session, repository.store(), &[source], &options.thaw).await?;
    let reader = open_reader_lazily(session, repository.store(), source).await?;
    let mut entry = reader.find(options.path.as_bytes()).await?;
    if entry.is_none() && options.path.contains('\\') {
        // A name as notes and errors show it.
        entry = reader.find(&spelling::unescaped(&options.path)).await?;
    }
    if let Some(link) = entry.as_ref().filter(|e| e.kind == EntryKind::Hardlink) {
        // The data stand under the file's first name.
        let first = link_of(session, &reader, link.clone()).await?;
        entry = reader.find(&first).await?;
    }
    if let Some(entry) = entry {
        if entry.kind != EntryKind::File {
            return Err(Error::invalid(format!("\"{}\" is not a regular file", options.path))
                .with_hint("Restore it with `wirevault restore --path`."));
        }
        let mut entries = reader.entries(Selection::Entries(vec![entry]));
        // A hole may be larger than anybody wants to see.
        let mut write = |data: &[u8]| session.check_cancelled().and_then(|()| write(data));
        let mut filled = None;
        while let Some(event) = session.or_cancelled(entries.next()).await? {
            match (event, &mut filled) {
                (EntryEvent::Begin(meta), filled) => *filled = Some(Filled::new(&meta)?),
                (EntryEvent::Data(data), Some(filled)) => filled.take(&data, &mut write)?,
                _ => {}
            }
        }
        if let Some(filled) = filled {
            filled.finish(&mut write)?;
        }
    } else {
        let record = stream_named(&reader, &options.path).await?;
        let mut chunks = reader.chunks(chunks_of(&reader, &record).await?);
        while let Some((_, data)) = session.or_cancelled(chunks.next()).await? {
            write(&data)?;
        }
    }
    blocking(std::io::Write::flush)?;
    Ok(Box::new(Written(chosen.status(Status::Done))))
}

/// Returns what a link names.
async fn link_of(session: &Session, reader: &ArchiveReader, link: EntryRef) -> Result<Vec<u8>> {
    let name = String::from_utf8_lossy(&link.path).into_owned();
    let mut entries = reader.entries(Selection::Entries(vec![link]));
    while let Some(event) = session.or_cancelled(entries.next()).await? {
        if let EntryEvent::Begin(meta) = event
            && let Some(first) = meta.link
        {
            return Ok(first);
        }
    }
    Err(Error::corrupt(format!("the link \"{name}\" has no target")))
}

fn write(data: &[u8]) -> Result<()> {
    blocking(|out| out.write_all(data))
}

/// A pipe may be full for as long as its reader likes.
fn blocking(act: impl FnOnce(&mut std::io::StdoutLock<'static>) -> std::io::Result<()>) -> Result<()> {
    tokio::task::block_in_place(|| act(&mut std::io::stdout().lock())).context("write to standard output")
}

async fn stream_named(reader: &ArchiveReader, name: &str) -> Result<StreamRecord> {
    let streams = reader.streams().await?;
    let names: Vec<String> = streams.iter().map(|record| record.stream.clone()).collect();
    streams
        .into_iter()
        .find(|record| record.stream == name.trim_end_matches('/'))
        .ok_or_else(|| {
            let error = Error::new(
                ErrorKind::NotFound,
                format!("the source has no entry or stream \"{name}\""),
            );
            match crate::base::nearest::nearest(name, names.iter().map(String::as_str)) {
                Some(near) => error.with_hint(format!("Did you mean \"{near}\"?")),
                None => error.with_hint(
                    "Entries are paths within the source, without a leading slash; tables are tables/NUMBER.NAME.",
                ),
            }
        })
}

/// Returns the chunks of a stream: prefix by prefix in the record's order, by number within each.
async fn chunks_of(reader: &ArchiveReader, record: &StreamRecord) -> Result<Vec<ChunkRef>> {
    let mut found: Vec<(usize, ChunkRef)> = Vec::new();
    reader
        .for_each_chunk(&mut |prefix, chunk| {
            if let Some(position) = record.prefixes.iter().position(|p| p == prefix) {
                found.push((position, chunk));
            }
            Ok(())
        })
        .await?;
    found.sort_by_key(|(position, chunk)| (*position, chunk.number));
    Ok(found.into_iter().map(|(_, chunk)| chunk).collect())
}
