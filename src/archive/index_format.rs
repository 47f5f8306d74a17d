//! The lines of an index: JSON, one object a line, short keys. `docs/format.md` explains each.

use serde::{Deserialize, Serialize};

use crate::archive::{ChunkFacts, EntryKind, StreamRecord};
use crate::base::error::{Error, Result};
use crate::base::exact;

/// The first frame of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Directory {
    /// Format version: 1.
    pub(crate) version: u32,
    pub(crate) raw_bytes: u64,
    pub(crate) entries: u64,
    pub(crate) frames: u64,
    /// Bytes of the archive that the index describes; what follows is the index entry and the end blocks.
    pub(crate) described_bytes: u64,
    /// Whether paths ascend bytewise.
    pub(crate) sorted: bool,
    pub(crate) parts: Vec<IndexPart>,
}

impl Directory {
    /// Returns the memory that it takes, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let part = |part: &IndexPart| {
            let first = match &part.first {
                Some(Name::Text(name) | Name::Hex(name)) => name.capacity(),
                None => 0,
            };
            size_of::<IndexPart>() + part.sha256.capacity() + first
        };
        self.parts.iter().map(part).sum()
    }
}

/// Returns whether a text is a SHA-256 as this program writes one.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Returns an upper bound of the memory that a line about a stream takes once it is parsed: an element of a list has the size of
/// a JSON value, and a map takes room for eleven pairs however few it has.
pub(crate) fn weight_bytes(line: &[u8]) -> u64 {
    const ELEMENT_BYTES: u64 = 56;
    const MAP_BYTES: u64 = 700;
    let own_maps = 2;
    let (mut elements, mut maps) = (0_u64, 0_u64);
    for byte in line {
        match byte {
            b',' | b'[' => elements += 1,
            b'{' => maps += 1,
            _ => {}
        }
    }
    let length = exact::u64_from(line.len());
    length
        .saturating_add(elements * ELEMENT_BYTES)
        .saturating_add(maps.saturating_sub(own_maps) * MAP_BYTES)
}

/// One frame of the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexPart {
    /// Offset within the index object after the directory frame.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) raw: u64,
    pub(crate) sha256: String,
    /// First archive frame it describes.
    pub(crate) frame: u32,
    /// Path of the first entry in it, if an entry begins in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<Name>,
}

/// A name: text, or bytes in hex where they are not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Name {
    #[serde(rename = "p")]
    Text(String),
    #[serde(rename = "px")]
    Hex(String),
}

impl Name {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::Hex(hex::encode(bytes)), |text| Self::Text(text.to_owned()))
    }

    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::Hex(text) => {
                hex::decode(text).map_err(|e| Error::corrupt("index has a name that is not hexadecimal").with_cause(e))
            }
        }
    }
}

/// A frame begins; the lines up to the next frame line are about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FrameLine {
    #[serde(rename = "f")]
    pub(crate) frame: u32,
    #[serde(rename = "o")]
    pub(crate) offset: u64,
    #[serde(rename = "l")]
    pub(crate) length: u32,
    #[serde(rename = "r")]
    pub(crate) raw: u32,
    #[serde(rename = "h")]
    pub(crate) sha256: String,
}

/// An entry begins in the frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryLine {
    #[serde(flatten)]
    pub(crate) name: Name,
    #[serde(rename = "k", default = "file", skip_serializing_if = "is_file")]
    pub(crate) kind: EntryKind,
    #[serde(rename = "o")]
    pub(crate) offset: u32,
    #[serde(rename = "s", default, skip_serializing_if = "is_zero")]
    pub(crate) size: u64,
    #[serde(rename = "t")]
    pub(crate) mtime: (i64, u32),
    #[serde(rename = "m")]
    pub(crate) mode: u32,
    #[serde(rename = "u", default, skip_serializing_if = "is_zero_u32")]
    pub(crate) uid: u32,
    #[serde(rename = "g", default, skip_serializing_if = "is_zero_u32")]
    pub(crate) gid: u32,
    /// SHA-256 of the data, when it ends in this frame and is not empty.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
    #[serde(rename = "x", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) changed: bool,
    /// Starts a row, rows, part; for chunk members.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(crate) chunk: Option<(bool, u64, u32)>,
    /// The archive's own entry: no reader shows it.
    #[serde(rename = "z", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) own: bool,
}

impl EntryLine {
    /// Returns prefix and number of a chunk member.
    pub(crate) fn chunk_name(&self) -> Option<(&str, u32, ChunkFacts)> {
        let ((starts_row, rows, part), Name::Text(path)) = (self.chunk?, &self.name) else {
            return None;
        };
        let (prefix, number) = path.rsplit_once('/')?;
        Some((prefix, number.parse().ok()?, ChunkFacts { starts_row, rows, part }))
    }

    /// Returns whether the data goes on in the next frame.
    pub(crate) fn spans(&self) -> bool {
        self.size > 0 && self.sha256.is_none()
    }
}

fn file() -> EntryKind {
    EntryKind::File
}
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
fn is_file(kind: &EntryKind) -> bool {
    *kind == EntryKind::File
}
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

/// A spanning entry ends in the frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndLine {
    #[serde(rename = "h")]
    pub(crate) sha256: String,
    #[serde(rename = "x", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) changed: bool,
}

/// Any line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Line {
    #[serde(rename = "f")]
    Frame(FrameLine),
    #[serde(rename = "e")]
    Entry(EntryLine),
    #[serde(rename = "end")]
    End(EndLine),
    #[serde(rename = "stream")]
    Stream(StreamRecord),
}

impl Line {
    /// Returns the memory that the line takes, in bytes, with what the allocator adds.
    pub(crate) fn memory_bytes(&self) -> usize {
        const ALLOCATION: usize = 16;
        let texts = match self {
            Self::Entry(entry) => {
                let (Name::Text(name) | Name::Hex(name)) = &entry.name;
                name.capacity() + entry.sha256.as_ref().map_or(0, String::capacity) + 2 * ALLOCATION
            }
            Self::Frame(frame) => frame.sha256.capacity() + ALLOCATION,
            Self::End(end) => end.sha256.capacity() + ALLOCATION,
            // Streams are not kept with their frames.
            Self::Stream(_) => 0,
        };
        size_of::<Self>() + texts
    }
}
