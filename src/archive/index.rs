//! The index of an archive: where each entry lies, its digest, and which attempt of a stream counts.

/// Facts about one chunk member, kept in its index line.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ChunkFacts {
    /// Whether the chunk begins at a row start (false only within a row larger than a chunk).
    pub starts_row: bool,
    /// Rows that begin in the chunk.
    pub rows: u64,
    /// Part of the table (ctid range number), from 0.
    pub part: u32,
}

/// Completion of a stream: which attempt counts, and what was read. A stream without one does not exist for readers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StreamRecord {
    /// Name of the stream, e.g. `tables/00012.users`.
    pub stream: String,
    /// Member prefixes that make it up, in order, e.g. `tables/00012.users`, or one per part `tables/00012.users.p1.try2`.
    pub prefixes: Vec<String>,
    /// Chunks of all prefixes together.
    pub chunks: u64,
    /// Raw data bytes.
    pub bytes: u64,
    /// Rows, for table data.
    pub rows: Option<u64>,
    /// Row digest (sum of XXH3-128 modulo 2^128), 32 lowercase hex digits, for table data.
    pub row_digest: Option<String>,
    /// Whatever the source needs again: quoted table name, column list, format, settings. Opaque here.
    #[serde(default)]
    pub facts: serde_json::Value,
}

impl StreamRecord {
    /// Returns about how much memory it takes, in bytes.
    pub(crate) fn weight_bytes(&self) -> u64 {
        serde_json::to_vec(self).map_or(u64::MAX, |line| super::index_format::weight_bytes(&line))
    }
}

/// Where one chunk member lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRef {
    /// Which archive of the source (0-based).
    pub archive: u32,
    /// Frame within the archive (0-based).
    pub frame: u32,
    /// Number of the chunk within its prefix.
    pub number: u32,
    /// Length of its data in bytes.
    pub size_bytes: u64,
    /// Its facts.
    pub facts: ChunkFacts,
}

/// Where one entry lies and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRef {
    /// Path in bytes.
    pub path: Vec<u8>,
    /// Which archive of the source (0-based).
    pub archive: u32,
    /// First frame (0-based).
    pub frame: u32,
    /// Offset of its first header block in that frame's raw bytes.
    pub offset: u32,
    /// Length of its data in bytes.
    pub size_bytes: u64,
    /// Modification time of the entry.
    pub mtime: (i64, u32),
    /// Kind of the entry.
    pub kind: super::EntryKind,
}
