//! The descriptor of a log segment, and the frame that it lies in.
//!
//! ```text
//! 0      u32  0x184D2A57, the magic number of a frame that zstd skips
//! 4      u32  bytes that follow
//! 8      …    the descriptor, JSON
//! n - 8  u64  n: bytes of this frame
//! ```
//!
//! Numbers are little-endian. The frame is the object's end: its last eight bytes say where it begins.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::archive::is_sha256;
use crate::base::error::{Error, Result};
use crate::base::exact;

/// The format of descriptors that this release writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// One of the sixteen magic numbers of skippable frames.
const MAGIC: u32 = 0x184D_2A57;

/// Bytes of the frame beside the JSON text.
const AROUND: usize = 16;

/// A descriptor's frame is not longer, in bytes.
pub(super) const MAX_FRAME_BYTES: u64 = 16 << 10;

/// Raw bytes of a segment, at most: what PostgreSQL allows.
pub(super) const MAX_RAW_BYTES: u64 = 1 << 30;

/// What an engine says of a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct About {
    /// The engine, by its word in manifests.
    pub engine: String,
    /// What the bytes are, by the engine's word.
    pub kind: String,
    /// The positions that it covers without a hole; None for what is no part of the log itself.
    pub span: Option<Span>,
    /// The earliest and the latest moment at which something in it became final; None if nothing in it tells a time.
    pub times: Option<Times>,
    /// What else the engine says, for itself.
    pub facts: BTreeMap<String, String>,
}

/// A range of positions: `from` is the first, `to` the first that is not covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Span {
    /// The first position.
    pub from: u64,
    /// The first position behind it.
    pub to: u64,
}

/// A range of moments, both within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Times {
    /// The earliest.
    pub first: Timestamp,
    /// The latest.
    pub last: Timestamp,
}

/// What the end of a stored segment says of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Descriptor {
    /// Format of descriptors.
    pub format: u32,
    /// Raw bytes.
    pub raw_bytes: u64,
    /// SHA-256 of the raw bytes, lowercase hex.
    pub raw_sha256: String,
    /// Stored bytes before the descriptor's frame.
    pub data_bytes: u64,
    /// What the engine says.
    #[serde(flatten)]
    pub about: About,
    /// Room for a signature; this release writes none and looks at none.
    #[serde(default)]
    pub signature: Option<serde_json::Value>,
}

impl Descriptor {
    /// Describes a segment.
    pub(super) fn new(raw_bytes: u64, raw_sha256: String, data_bytes: u64, about: About) -> Self {
        Self {
            format: FORMAT,
            raw_bytes,
            raw_sha256,
            data_bytes,
            about,
            signature: None,
        }
    }

    /// Returns the frame.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(self).map_err(|e| Error::invalid("write a descriptor as JSON").with_cause(e))?;
        let length = exact::u64_from(json.len() + AROUND);
        if length > MAX_FRAME_BYTES {
            return Err(Error::invalid(format!("a descriptor of {length} bytes is too long")));
        }
        let mut frame = MAGIC.to_le_bytes().to_vec();
        frame.extend(exact::known::<u32, _>(length - 8, "it is shorter than 16 KiB").to_le_bytes());
        frame.extend(json);
        frame.extend(length.to_le_bytes());
        Ok(frame)
    }

    /// Returns how long the frame is at the end of an object of `object_bytes`, by its last eight bytes.
    pub(super) fn frame_bytes(object_bytes: u64, tail: &[u8]) -> Result<u64> {
        let last = tail.last_chunk().copied().map(u64::from_le_bytes);
        let least = exact::u64_from(AROUND);
        last.filter(|length| (least..=MAX_FRAME_BYTES.min(object_bytes)).contains(length))
            .ok_or_else(|| damaged("it does not end with a descriptor"))
    }

    /// Reads the frame of an object of `object_bytes`.
    pub(super) fn decode(frame: &[u8], object_bytes: u64) -> Result<Self> {
        let (whole, json) = (
            exact::u64_from(frame.len()),
            frame.get(8..frame.len().saturating_sub(8)),
        );
        let number = |at: usize| {
            frame
                .get(at..)
                .and_then(|rest| rest.first_chunk())
                .copied()
                .map(u32::from_le_bytes)
        };
        let (Some(json), Some(MAGIC), Some(length)) = (json, number(0), number(4)) else {
            return Err(damaged("its last frame is no descriptor"));
        };
        if u64::from(length).saturating_add(8) != whole {
            return Err(damaged("its descriptor has another length than it says"));
        }
        let read: Self =
            serde_json::from_slice(json).map_err(|e| damaged("its descriptor cannot be read").with_cause(e))?;
        if read.format > FORMAT {
            return Err(Error::unsupported(format!(
                "a log segment of format {}, this program reads up to {FORMAT}",
                read.format
            ))
            .with_hint("Use a newer version of wirevault with this repository."));
        }
        let span = read.about.span.is_none_or(|span| span.from <= span.to);
        let right = read.raw_bytes <= MAX_RAW_BYTES
            && read.data_bytes.checked_add(whole) == Some(object_bytes)
            && is_sha256(&read.raw_sha256);
        if right && span {
            Ok(read)
        } else {
            Err(damaged("its descriptor says what cannot be"))
        }
    }
}

fn damaged(what: &str) -> Error {
    Error::corrupt(what).with_hint("The stored object is damaged, or another program wrote it.")
}
