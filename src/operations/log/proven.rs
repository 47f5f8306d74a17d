//! What `verify` has read of a log.

use jiff::Timestamp;

/// What was read of the log behind a base.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProvenLog {
    /// The source.
    pub source: String,
    /// The moment that it leads to, one of those that are stored at random.
    pub moment: Timestamp,
    /// Where the base ended.
    pub from: String,
    /// Up to where a server would replay it.
    pub to: String,
    /// Segments that hold it.
    pub segments: u64,
}
