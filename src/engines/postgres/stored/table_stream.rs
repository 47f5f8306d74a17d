//! Streams rows and SQL into chunk members.
//!
//! Neither stream holds a pooled buffer while it waits for one, nor while it waits for a lock: a buffer is taken when
//! bytes for it are in hand, and handed over before the next is taken. A row's length is known before its first byte
//! ([`crate::engines::postgres::wire::copy_out`]), so a chunk is ended before a row that does not fit, and only a row larger than a chunk
//! spans chunks.

use crate::archive::{ArchiveWriter, ChunkBuffer, ChunkFacts};
use crate::base::error::{Error, Result};
use crate::base::exact;

use crate::engines::postgres::wire::binary_copy::{CopyFormat, HEADER, TRAILER};
use crate::engines::postgres::wire::copy_out::RowPiece;
use crate::engines::postgres::wire::row_digest::{RowDigest, RowHasher};

/// What one attempt at a part wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartResult {
    pub(crate) prefix: String,
    pub(crate) chunks: u32,
    pub(crate) bytes: u64,
    pub(crate) digest: RowDigest,
    /// Runs of chunks that hold a row larger than a chunk: first and last number.
    pub(crate) joined: Vec<(u32, u32)>,
}

/// Writes the rows of one part of a table under one prefix.
#[derive(Debug)]
pub(crate) struct RowStream {
    writer: ArchiveWriter,
    prefix: String,
    chunk: Option<ChunkBuffer>,
    facts: ChunkFacts,
    number: u32,
    bytes: u64,
    hasher: RowHasher,
    joined: Vec<(u32, u32)>,
    format: CopyFormat,
    /// This part's number, and how many there are.
    part: (u32, u32),
}

impl RowStream {
    pub(crate) fn new(writer: ArchiveWriter, prefix: String, part: (u32, u32), format: CopyFormat) -> Self {
        let facts = ChunkFacts {
            starts_row: true,
            rows: 0,
            part: part.0,
        };
        Self {
            format,
            part,
            writer,
            prefix,
            chunk: None,
            facts,
            number: 0,
            bytes: 0,
            hasher: RowHasher::default(),
            joined: Vec::new(),
        }
    }

    /// Takes the next piece of a row, and the piece's share of the row's image.
    pub(crate) async fn piece(&mut self, piece: &RowPiece<'_>, image: &[u8]) -> Result<()> {
        if let Some(length) = piece.starts {
            if self.untouched() && self.part.0 == 0 && self.format == CopyFormat::Binary {
                self.append(&HEADER).await?;
            }
            if self
                .chunk
                .as_ref()
                .is_some_and(|c| !c.data().is_empty() && c.room() < length)
            {
                self.flush().await?;
            }
            if self.chunk.is_none() {
                self.facts.starts_row = true;
            }
            self.facts.rows += 1;
        }
        self.hasher.piece(image, piece.ends);
        self.append(piece.bytes).await
    }

    fn untouched(&self) -> bool {
        self.number == 0 && self.chunk.is_none()
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.chunk.as_ref().is_some_and(|c| c.room() == 0) {
                self.flush().await?;
                // Only reached within a row: its start made room.
                self.facts.starts_row = false;
            }
            let chunk = match &mut self.chunk {
                Some(chunk) => chunk,
                none => none.insert(self.writer.chunk_buffer().await?),
            };
            let (now, later) = rest.split_at(rest.len().min(chunk.room()));
            chunk.extend(now);
            rest = later;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let Some(chunk) = self.chunk.take() else { return Ok(()) };
        self.bytes += exact::u64_from(chunk.data().len());
        if !self.facts.starts_row {
            match self.joined.last_mut() {
                Some((_, last)) if *last + 1 == self.number => *last = self.number,
                _ => self.joined.push((self.number.saturating_sub(1), self.number)),
            }
        }
        self.writer
            .submit_chunk(&self.prefix, self.number, chunk, self.facts.clone())
            .await?;
        self.number = self
            .number
            .checked_add(1)
            .ok_or_else(|| Error::unsupported("a table has too many chunks"))?;
        self.facts = ChunkFacts {
            starts_row: true,
            rows: 0,
            part: self.facts.part,
        };
        Ok(())
    }

    /// Returns the bytes handed over so far.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands over the last chunk.
    ///
    /// In binary format the first part begins with COPY's header and the last one ends with its trailer, so that a
    /// table's members in order are one COPY file. A table without rows has neither, unless it was read in parts.
    pub(crate) async fn finish(mut self) -> Result<PartResult> {
        let (number, of) = self.part;
        if self.format == CopyFormat::Binary && !(of == 1 && self.untouched()) {
            if number == 0 && self.untouched() {
                self.append(&HEADER).await?;
            }
            if number + 1 == of {
                if self.chunk.as_ref().is_some_and(|c| c.room() < TRAILER.len()) {
                    self.flush().await?;
                }
                self.append(&TRAILER).await?;
            }
        }
        self.flush().await?;
        Ok(PartResult {
            prefix: self.prefix,
            chunks: self.number,
            bytes: self.bytes,
            digest: self.hasher.digest,
            joined: self.joined,
        })
    }
}

/// Bytes of SQL that are gathered before a chunk is taken for them.
const STAGING_BYTES: usize = 256 * 1024;

/// Writes text items under one prefix, chunks cut at item ends; only an item larger than a chunk spans chunks.
#[derive(Debug)]
pub(crate) struct TextStream {
    writer: ArchiveWriter,
    name: &'static str,
    prefix: String,
    staging: Vec<u8>,
    number: u32,
    /// Bytes given so far.
    pub(crate) bytes: u64,
    /// Runs of chunks that hold an item larger than a chunk.
    pub(crate) joined: Vec<(u32, u32)>,
}

impl TextStream {
    /// Begins an attempt at a stream, counted from 1.
    pub(crate) fn new(writer: ArchiveWriter, name: &'static str, attempt: u32) -> Self {
        Self {
            writer,
            name,
            prefix: if attempt > 1 {
                format!("{name}.try{attempt}")
            } else {
                name.to_owned()
            },
            staging: Vec::new(),
            number: 0,
            bytes: 0,
            joined: Vec::new(),
        }
    }

    /// Appends one item.
    pub(crate) async fn push(&mut self, text: &[u8]) -> Result<()> {
        self.bytes += exact::u64_from(text.len());
        if self.staging.len() + text.len() > STAGING_BYTES {
            self.flush().await?;
        }
        if text.len() > STAGING_BYTES {
            return self.submit(text).await;
        }
        self.staging.extend_from_slice(text);
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if self.staging.is_empty() {
            return Ok(());
        }
        let staging = std::mem::take(&mut self.staging);
        let done = self.submit(&staging).await;
        self.staging = staging;
        self.staging.clear();
        done
    }

    async fn submit(&mut self, text: &[u8]) -> Result<()> {
        let first = self.number;
        let mut rest = text;
        while !rest.is_empty() {
            let mut chunk = self.writer.chunk_buffer().await?;
            let (now, later) = rest.split_at(rest.len().min(chunk.room()));
            if now.is_empty() {
                return Err(Error::invalid("a chunk has no room"));
            }
            chunk.extend(now);
            let facts = ChunkFacts {
                starts_row: self.number == first,
                rows: 0,
                part: 0,
            };
            self.writer
                .submit_chunk(&self.prefix, self.number, chunk, facts)
                .await?;
            self.number += 1;
            rest = later;
        }
        if self.number > first + 1 {
            self.joined.push((first, self.number - 1));
        }
        Ok(())
    }

    /// Writes what is left; returns how many chunks there are.
    pub(crate) async fn finish(mut self) -> Result<TextResult> {
        self.flush().await?;
        Ok(TextResult {
            name: self.name,
            prefix: self.prefix,
            chunks: self.number,
            bytes: self.bytes,
            joined: self.joined,
        })
    }
}

/// What a [`TextStream`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextResult {
    /// Name of the stream.
    pub(crate) name: &'static str,
    /// Name of its members: the attempt's.
    pub(crate) prefix: String,
    pub(crate) chunks: u32,
    pub(crate) bytes: u64,
    pub(crate) joined: Vec<(u32, u32)>,
}
