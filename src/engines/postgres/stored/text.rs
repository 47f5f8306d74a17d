//! Finds the SQL of an item in a backup: the table of contents is held in memory (part of the schema's 600 bytes an
//! object), the text is read chunk by chunk when an item's turn comes.

use std::collections::{HashMap, HashSet};

use super::FACTS;
use super::streams::{TOC, TocEntry};
use crate::archive::{ArchiveReader, ChunkRef, StreamRecord};
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::raw_text::{from_vec, length as length_of, unchanged};
use crate::engines::postgres::sql::clean::clean;
use crate::engines::postgres::sql::rewrite::Rewrite;

/// Largest item that is read, in bytes: PostgreSQL itself refuses a statement above 1 GB. Besides, it takes no more than a share of
/// the memory limit.
const MAX_ITEM_BYTES: u64 = 1 << 30;
const SHARE_OF_LIMIT: u64 = 4;

/// Longest line of the table of contents, in bytes.
const MAX_LINE_BYTES: usize = 16 << 20;

/// What a backup holds: records by name, chunks by prefix.
#[derive(Debug, Clone)]
pub(crate) struct Contents {
    pub(crate) reader: ArchiveReader,
    pub(crate) records: Vec<StreamRecord>,
    chunks: HashMap<String, Vec<ChunkRef>>,
    /// `server_version_num` of the server that was backed up; 0 if the backup does not say.
    source_version: u32,
    /// The roles that the database names; none if the backup does not say.
    named_roles: Option<HashSet<String>>,
    /// Streams of SQL whose members have another name: that of the attempt that counts.
    attempts: HashMap<String, String>,
    /// What is changed in every item's SQL.
    pub(crate) rewrite: Rewrite,
    /// The source's own `search_path`, with which is tried again what fails without one; none if that is not wanted.
    pub(crate) search_path: Option<String>,
}

impl Contents {
    pub(crate) async fn open(reader: ArchiveReader) -> Result<Self> {
        let records = reader.streams().await?;
        let mut chunks: HashMap<String, Vec<ChunkRef>> = records
            .iter()
            .flat_map(|r| &r.prefixes)
            .map(|p| (p.clone(), Vec::new()))
            .collect();
        reader
            .for_each_chunk(&mut |prefix, chunk| {
                if let Some(list) = chunks.get_mut(prefix) {
                    list.push(chunk);
                }
                Ok(())
            })
            .await?;
        for list in chunks.values_mut() {
            list.sort_by_key(|c| c.number);
        }
        let facts = records.iter().find(|r| r.stream == FACTS);
        let source_version = facts.and_then(|r| r.facts.get("version_num")?.as_u64()?.try_into().ok());
        let named_roles = facts.and_then(|r| serde_json::from_value(r.facts.get("roles")?.clone()).ok());
        let other_name = |r: &StreamRecord| match r.prefixes.as_slice() {
            [one] if r.facts.is_null() && *one != r.stream => Some((r.stream.clone(), one.clone())),
            _ => None,
        };
        let attempts = records.iter().filter_map(other_name).collect();
        let contents = Self {
            reader,
            source_version: source_version.unwrap_or(0),
            named_roles,
            records,
            chunks,
            attempts,
            rewrite: Rewrite::default(),
            search_path: None,
        };
        contents.check_complete()?;
        Ok(contents)
    }

    /// Checks that no chunk of a stream is missing or there twice.
    fn check_complete(&self) -> Result<()> {
        for record in &self.records {
            let lists: Vec<&[ChunkRef]> = record.prefixes.iter().map(|p| self.chunks(p)).collect();
            let in_order = lists.iter().all(|l| l.iter().zip(0u32..).all(|(c, n)| c.number == n));
            let count: u64 = lists.iter().map(|l| exact::u64_from(l.len())).sum();
            let bytes: u64 = lists.iter().flat_map(|l| l.iter()).map(|c| c.size_bytes).sum();
            if !in_order || count != record.chunks || bytes != record.bytes {
                return Err(Error::corrupt(format!(
                    "stream \"{}\" has {count} chunks of {} in the index",
                    record.stream, record.chunks
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn chunks(&self, prefix: &str) -> &[ChunkRef] {
        self.chunks.get(prefix).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns whether the database names a role of its server. Older backups do not say, then it may.
    pub(crate) fn names_role(&self, role: &str) -> bool {
        self.named_roles.as_ref().is_none_or(|named| named.contains(role))
    }

    /// Returns the chunks of a stream of SQL.
    fn sql_chunks(&self, stream: &str) -> &[ChunkRef] {
        self.chunks(self.attempts.get(stream).map_or(stream, String::as_str))
    }

    pub(crate) fn record(&self, stream: &str) -> Option<&StreamRecord> {
        self.records.iter().find(|r| r.stream == stream)
    }

    /// Reads the table of contents.
    pub(crate) async fn toc(&self) -> Result<Vec<TocEntry>> {
        let mut stream = self.reader.chunks(self.sql_chunks(TOC).to_vec());
        let (mut lines, mut partial) = (Vec::new(), Vec::new());
        let (mut bytes, limit) = (0_u64, self.reader.memory_limit() / 2);
        while let Some((_, data)) = stream.next().await.context("read table of contents")? {
            bytes = bytes.saturating_add(exact::u64_from(data.len()));
            if bytes > limit {
                let message = format!("the table of contents has more than {limit} bytes");
                return Err(Error::new(ErrorKind::LimitExceeded, message).with_hint("Raise --memory-limit."));
            }
            for piece in data.split_inclusive(|&b| b == b'\n') {
                partial.extend_from_slice(piece);
                if partial.ends_with(b"\n") {
                    let line = serde_json::from_slice(&partial);
                    lines.push(line.map_err(|e| {
                        Error::corrupt("a line of the table of contents is not readable").with_cause(e)
                    })?);
                    partial.clear();
                } else if partial.len() > MAX_LINE_BYTES {
                    return Err(Error::corrupt("a line of the table of contents is too long"));
                }
            }
        }
        if partial.is_empty() {
            Ok(lines)
        } else {
            Err(Error::corrupt("the table of contents ends within a line"))
        }
    }

    /// Returns a reader of items' texts; each task has its own.
    pub(crate) fn texts(&self) -> Texts<'_> {
        Texts {
            contents: self,
            cached: None,
        }
    }
}

/// Reads items' texts, remembering the chunk read last.
#[derive(Debug)]
pub(crate) struct Texts<'a> {
    contents: &'a Contents,
    cached: Option<(String, u32, Vec<u8>)>,
}

impl Texts<'_> {
    /// Returns the SQL of an item.
    pub(crate) async fn get(&mut self, line: &TocEntry) -> Result<String> {
        let length = line.item.sql_bytes;
        self.check_size(line, length)?;
        let (start, end) = (line.offset, line.offset.saturating_add(length));
        let chunks = self.contents.sql_chunks(&line.stream);
        let (mut text, mut at) = (Vec::new(), 0u64);
        for chunk in chunks {
            let next = at.saturating_add(chunk.size_bytes);
            if next > start && at < end {
                let data = self.chunk(&line.stream, chunk).await?;
                let clamp = |n: u64| exact::usize_from(n.clamp(at, next) - at);
                text.extend_from_slice(exact::range(
                    data,
                    clamp(start)..clamp(end),
                    format_args!("chunk {} of stream \"{}\"", chunk.number, line.stream),
                )?);
            }
            at = next;
            if at >= end {
                break;
            }
        }
        if u64::try_from(text.len()).ok() != Some(length) {
            return Err(Error::corrupt(format!(
                "the SQL of \"{}\" is not in \"{}\"",
                line.item.name, line.stream
            )));
        }
        let text = match unchanged(text) {
            Ok(text) => text,
            Err(bytes) => {
                // A byte that is no UTF-8 takes four in a string.
                self.check_size(line, exact::u64_from(length_of(&bytes)))?;
                from_vec(bytes)
            }
        };
        let text = clean(text, self.contents.source_version);
        Ok(self.contents.rewrite.apply(text))
    }

    fn check_size(&self, line: &TocEntry, bytes: u64) -> Result<()> {
        if bytes <= MAX_ITEM_BYTES.min(self.contents.reader.memory_limit() / SHARE_OF_LIMIT) {
            return Ok(());
        }
        let message = format!(
            "the SQL of \"{}\" has {bytes} bytes, too many for the memory limit",
            line.item.name
        );
        Err(Error::new(ErrorKind::LimitExceeded, message).with_hint("Raise --memory-limit."))
    }

    async fn chunk(&mut self, stream: &str, chunk: &ChunkRef) -> Result<&[u8]> {
        let hit = self
            .cached
            .as_ref()
            .is_some_and(|(name, number, _)| name == stream && *number == chunk.number);
        if !hit {
            let mut read = self.contents.reader.chunks(vec![chunk.clone()]);
            let (_, data) = read
                .next()
                .await?
                .ok_or_else(|| Error::corrupt(format!("a chunk of \"{stream}\" is missing")))?;
            self.cached = Some((stream.to_owned(), chunk.number, data.to_vec()));
        }
        Ok(self
            .cached
            .as_ref()
            .map(|(_, _, data)| data.as_slice())
            .unwrap_or_default())
    }
}
