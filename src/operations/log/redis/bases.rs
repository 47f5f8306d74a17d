//! Snapshots with which a restore of a log can begin.

use jiff::Timestamp;

use crate::engines::redis::KIND;
use crate::engines::redis::log::position::Position;
use crate::operations::log::redis::lineage;
use crate::repository::{Manifest, SnapshotId};

/// A snapshot of all that one server held at one place in its history. Whatever host took it, and under whatever name: replication ID and
/// offset say of which server it is.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) id: SnapshotId,
    /// Its name in the snapshot.
    pub(crate) source: String,
    pub(crate) position: Position,
    /// By the clock of the host that took it: nothing that is compared with time marks.
    pub(crate) at: Timestamp,
    /// How many seconds back moments are wanted, if its source says so.
    pub(crate) window: Option<u64>,
}

/// Returns those of a snapshot.
pub(crate) fn of(manifest: &Manifest) -> Vec<Base> {
    let sources = manifest.sources.iter().filter(|source| source.kind == KIND.word());
    let bases = sources.filter_map(|source| {
        Some(Base {
            id: manifest.id.clone(),
            source: source.name.clone(),
            position: lineage::position_of(source.outcome.as_ref())?,
            at: source.outcome.as_ref()?.consistent_at,
            window: manifest
                .plan_of(source)
                .and_then(|plan| plan.number("log_window_seconds")),
        })
    });
    bases.collect()
}
