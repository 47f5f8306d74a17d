//! What a source leaves behind beside its archives.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::archive::ArchiveInfo;

/// What a finished backup of one source says of itself; it stands in the manifest, so it names no table, file or key.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SourceOutcome {
    /// Versions of server, library, format.
    pub versions: BTreeMap<String, String>,
    /// Position in the source's own terms (LSN, replication offset, page count).
    pub position: BTreeMap<String, String>,
    /// The moment the data is consistent at.
    pub consistent_at: Timestamp,
    /// Raw bytes read.
    pub raw_bytes: u64,
    /// Tables, files, keys: the source's own items.
    pub items: u64,
    /// How many notes of each code were made.
    pub note_counts: BTreeMap<String, u64>,
    /// The archives.
    pub archives: Vec<ArchiveInfo>,
}
