//! Reads a stored log segment: its descriptor, then its bytes.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use crate::archive::inflate::{WINDOW_LOG, undecodable};
use crate::archive::log::Descriptor;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::storage::{ObjectKey, SharedStore};

/// An object up to this size is read at once, in bytes; a larger one in pieces of this.
const PIECE_BYTES: u64 = 8 << 20;

/// Bytes of an object's end that are read first: room for any usual descriptor.
const TAIL_BYTES: u64 = 2048;

/// Decoded bytes that are handed on at once, at most.
const OUT_BYTES: usize = 1 << 20;

/// A stored segment. Its length and its descriptor are known.
#[derive(Debug)]
pub struct LogReader {
    store: SharedStore,
    key: ObjectKey,
    descriptor: Descriptor,
    /// All of it, where it was read at once.
    whole: Option<Bytes>,
}

impl LogReader {
    /// Reads the descriptor alone; [`ErrorKind::NotFound`] where there is no such segment.
    pub async fn look(store: &SharedStore, key: &ObjectKey) -> Result<Self> {
        let size = store.head(key).await?.size_bytes;
        Self::look_at(store, key, size).await
    }

    /// As [`LogReader::look`], of an object whose size is known from a listing.
    pub async fn look_at(store: &SharedStore, key: &ObjectKey, size: u64) -> Result<Self> {
        let mut tail = Vec::new();
        store
            .read_range(key, size.saturating_sub(TAIL_BYTES)..size, &mut tail)
            .await?;
        let damaged = || format!("log segment \"{key}\"");
        let frame = Descriptor::frame_bytes(size, &tail).with_context(damaged)?;
        if frame > exact::u64_from(tail.len()) {
            tail.clear();
            store.read_range(key, size - frame..size, &mut tail).await?;
        }
        let frame = exact::last(&tail, exact::usize_from(frame));
        let descriptor = Descriptor::decode(frame, size).with_context(damaged)?;
        Ok(Self {
            store: store.clone(),
            key: key.clone(),
            descriptor,
            whole: None,
        })
    }

    /// Opens a segment whose bytes are wanted: one that is not large costs one request.
    pub async fn open(store: &SharedStore, key: &ObjectKey) -> Result<Self> {
        let whole = match store.get(key, PIECE_BYTES).await {
            Ok(whole) => whole,
            Err(error) if error.kind() == ErrorKind::LimitExceeded => return Self::look(store, key).await,
            Err(error) => return Err(error),
        };
        Self::of_whole(store, key, whole)
    }

    /// Opens a segment all of which has been read.
    pub fn of_whole(store: &SharedStore, key: &ObjectKey, whole: Bytes) -> Result<Self> {
        let size = exact::u64_from(whole.len());
        let read = || {
            let frame = exact::usize_from(Descriptor::frame_bytes(size, &whole)?);
            Descriptor::decode(exact::last(&whole, frame), size)
        };
        let descriptor = read().with_context(|| format!("log segment \"{key}\""))?;
        Ok(Self {
            store: store.clone(),
            key: key.clone(),
            descriptor,
            whole: Some(whole),
        })
    }

    /// Returns what its end says of it.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Returns what its end says of it, alone.
    pub fn into_descriptor(self) -> Descriptor {
        self.descriptor
    }

    /// Hands the raw bytes on, in order. Only when this returns without an error are they what was stored: nothing may be made
    /// final before.
    pub async fn read(&self, out: &mut (dyn FnMut(&[u8]) -> Result<()> + Send)) -> Result<()> {
        self.decode(out)
            .await
            .with_context(|| format!("log segment \"{}\"", self.key))
    }

    async fn decode(&self, out: &mut (dyn FnMut(&[u8]) -> Result<()> + Send)) -> Result<()> {
        let end = self.descriptor.data_bytes;
        let mut decoding = Decoding::new(self.descriptor.raw_bytes)?;
        if let Some(whole) = &self.whole {
            let data = exact::range(whole, ..exact::usize_from(end), "the object")?;
            decoding.feed(data, out)?;
        } else {
            let (mut at, mut piece) = (0, Vec::new());
            while at < end {
                let next = end.min(at + PIECE_BYTES);
                piece.clear();
                self.store.read_range(&self.key, at..next, &mut piece).await?;
                decoding.feed(&piece, out)?;
                at = next;
            }
        }
        decoding.finish(&self.descriptor)
    }

    /// Reads a small segment into memory.
    pub async fn read_small(&self, most: u64) -> Result<Vec<u8>> {
        if self.descriptor.raw_bytes > most {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "\"{}\" has {} bytes, more than {most}",
                    self.key, self.descriptor.raw_bytes
                ),
            ));
        }
        let mut bytes = Vec::new();
        self.read(&mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(bytes)
    }
}

/// Frames becoming raw bytes.
struct Decoding {
    decoder: Decoder<'static>,
    out: Vec<u8>,
    digest: Sha256,
    raw_bytes: u64,
    most: u64,
    /// Whether the last frame has ended.
    whole: bool,
}

impl Decoding {
    fn new(most: u64) -> Result<Self> {
        let mut decoder = Decoder::new().context("make decompression context")?;
        decoder
            .set_parameter(zstd::stream::raw::DParameter::WindowLogMax(WINDOW_LOG))
            .context("make decompression context")?;
        Ok(Self {
            decoder,
            out: vec![0; OUT_BYTES],
            digest: Sha256::new(),
            raw_bytes: 0,
            most,
            whole: true,
        })
    }

    fn feed(&mut self, stored: &[u8], out: &mut (dyn FnMut(&[u8]) -> Result<()> + Send)) -> Result<()> {
        if stored.is_empty() {
            return Ok(());
        }
        let mut input = InBuffer::around(stored);
        loop {
            let mut output = OutBuffer::around(self.out.as_mut_slice());
            let left = self.decoder.run(&mut input, &mut output).map_err(undecodable)?;
            let raw = output.as_slice();
            self.raw_bytes += exact::u64_from(raw.len());
            if self.raw_bytes > self.most {
                return Err(Error::corrupt(format!("it has more than {} raw bytes", self.most)));
            }
            self.digest.update(raw);
            if !raw.is_empty() {
                out(raw)?;
            }
            self.whole = left == 0;
            let more = raw.len() == OUT_BYTES && !self.whole;
            if input.pos() == stored.len() && !more {
                return Ok(());
            }
        }
    }

    fn finish(self, descriptor: &Descriptor) -> Result<()> {
        let right = self.whole
            && self.raw_bytes == descriptor.raw_bytes
            && hex::encode(self.digest.finalize()) == descriptor.raw_sha256;
        if right {
            Ok(())
        } else {
            Err(Error::corrupt(
                "its bytes do not have the length and digest that its descriptor says",
            ))
        }
    }
}
