//! Bytes of an RDB as a decoder wants them: it waits until a token is whole.

use std::ops::Deref;

use super::lzf::Window;
use super::walk;
use super::walk::{StringHeader, length_at, string_header_at};
use crate::archive::ChunkStream;
use crate::base::error::{Error, Result};
use crate::base::exact;

/// Bytes that are taken from a piece at once.
const STEP_BYTES: usize = 128 << 10;

/// A string longer than this is not held as a whole, in bytes.
pub const MAX_HELD_BYTES: u64 = 32 << 20;

/// Where pieces of the RDB come from.
pub trait Pieces: Send {
    /// A piece.
    type Piece: Deref<Target = [u8]> + Send + std::fmt::Debug;
    /// Returns the next piece; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Piece>>> + Send;
}

impl Pieces for ChunkStream {
    type Piece = crate::archive::DataSlice;
    async fn next(&mut self) -> Result<Option<Self::Piece>> {
        Ok(Self::next(self).await?.map(|(_, data)| data))
    }
}

/// Pieces in memory.
#[derive(Debug)]
pub struct InMemory(pub std::vec::IntoIter<Vec<u8>>);

impl Pieces for InMemory {
    type Piece = Vec<u8>;
    async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(self.0.next())
    }
}

/// The bytes at hand.
#[derive(Debug)]
pub struct Input<P: Pieces> {
    pieces: P,
    piece: Option<P::Piece>,
    piece_at: usize,
    buffer: Vec<u8>,
    at: usize,
    /// Strings are passed over as if they were too long to be held.
    pub(super) passing: bool,
}

impl<P: Pieces> Input<P> {
    /// Nothing is read yet.
    pub fn new(pieces: P) -> Self {
        Self {
            pieces,
            piece: None,
            piece_at: 0,
            buffer: Vec::new(),
            at: 0,
            passing: false,
        }
    }

    /// Returns what is at hand.
    pub fn here(&self) -> &[u8] {
        exact::part(&self.buffer, self.at.., "no more is skipped than there is")
    }

    /// Takes bytes that are at hand.
    pub fn skip(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.buffer.len());
    }

    /// Waits until so many bytes are at hand.
    pub async fn want(&mut self, count: usize) -> Result<()> {
        while self.buffer.len() - self.at < count {
            self.more().await?;
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let rest = loop {
            let rest = self.piece.as_deref().and_then(|piece| piece.get(self.piece_at..));
            if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
                break rest;
            }
            self.piece = None;
            self.piece_at = 0;
            let cut = || Error::corrupt("the RDB was cut short");
            self.piece = Some(self.pieces.next().await?.ok_or_else(cut)?);
        };
        let step = exact::first(rest, STEP_BYTES);
        self.buffer.extend_from_slice(step);
        self.piece_at += step.len();
        if self.buffer.len() < 64 << 10 && self.buffer.capacity() > 1 << 20 {
            self.buffer.shrink_to(1 << 20);
        }
        Ok(())
    }

    /// Takes a byte.
    pub async fn byte(&mut self) -> Result<u8> {
        self.chunk::<1>().await.map(|[byte]| byte)
    }

    /// Takes so many bytes.
    pub async fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.want(N).await?;
        let chunk = self.here().first_chunk::<N>().copied();
        self.skip(N);
        chunk.ok_or_else(|| Error::corrupt("the RDB was cut short"))
    }

    /// Takes a little-endian number of eight bytes.
    pub async fn number(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.chunk().await?))
    }

    /// Takes a length.
    pub async fn length(&mut self) -> Result<u64> {
        loop {
            if let Some((length, used)) = length_at(self.here())? {
                self.skip(used);
                return Ok(length);
            }
            self.more().await?;
        }
    }

    async fn string_header(&mut self) -> Result<StringHeader> {
        loop {
            if let Some(header) = string_header_at(self.here())? {
                self.skip(header.used);
                return Ok(header);
            }
            self.more().await?;
        }
    }

    /// Passes over bytes.
    pub async fn pass(&mut self, mut left: u64) -> Result<()> {
        while left > 0 {
            self.want(1).await?;
            let count = self.here().len().min(exact::usize_from(left));
            self.skip(count);
            left -= exact::u64_from(count);
        }
        Ok(())
    }

    /// Puts a string into `out`. Returns false where it is longer than can be held: it is passed over, `out` is empty.
    pub async fn string(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        out.clear();
        let header = self.string_header().await?;
        if self.passing || header.stored.max(header.raw.unwrap_or(0)) > MAX_HELD_BYTES {
            self.pass(header.stored).await?;
            return Ok(false);
        }
        if out.capacity() > 1 << 20 && header.stored < 1 << 16 {
            *out = Vec::new();
        }
        let stored = exact::usize_from(header.stored);
        self.want(stored).await?;
        let bytes = exact::range(self.here(), ..stored, "the RDB at hand")?;
        match (header.integer, header.raw) {
            (Some(_), _) => out.extend_from_slice(walk::integer(bytes)?.to_string().as_bytes()),
            (None, Some(raw)) => {
                let raw = exact::usize_from(raw);
                super::lzf::decompress_into(bytes, raw, out)?;
            }
            (None, None) => out.extend_from_slice(bytes),
        }
        self.skip(stored);
        Ok(true)
    }

    /// Hands a string of any length on in pieces.
    pub async fn pieces<E: super::decode::Elements>(&mut self, to: &mut E) -> Result<()> {
        use super::decode::Element::Piece;
        let header = self.string_header().await?;
        if self.passing {
            return self.pass(header.stored).await;
        }
        if header.integer.is_some() {
            let stored = exact::usize_from(header.stored);
            self.want(stored).await?;
            let text = walk::integer(exact::range(self.here(), ..stored, "the RDB at hand")?)?.to_string();
            self.skip(stored);
            return to.element(Piece(text.as_bytes())).await;
        }
        let mut left = header.stored;
        let mut window = header.raw.map(Window::new);
        while left > 0 {
            // An instruction of LZF is 33 bytes at most.
            let least = left.min(33);
            self.want(exact::usize_from(least)).await?;
            let bytes = exact::first(self.here(), exact::usize_from(left));
            let count = bytes.len();
            let used = match &mut window {
                None => {
                    to.element(Piece(bytes)).await?;
                    count
                }
                Some(window) => {
                    let used = window.feed(bytes)?;
                    if !window.ready().is_empty() {
                        to.element(Piece(window.ready())).await?;
                        window.slide();
                    }
                    if used == 0 && exact::u64_from(count) == left {
                        return Err(Error::corrupt("a compressed string of the RDB is cut"));
                    }
                    used
                }
            };
            self.skip(used);
            left -= exact::u64_from(used);
        }
        window.map_or(Ok(()), |window| window.finish())
    }
}
