//! `pin` and `unpin`: a person's word stands above the keep rules.

use crate::base::error::Result;
use crate::operations::choose::{self, Purpose};
use crate::operations::options;
use crate::operations::snapshots::open_to_change;
use crate::operations::{Report, Session, document_of};
use crate::repository::SnapshotId;

/// What `pin` did. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct PinReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// It is.
    pub pinned: bool,
    /// What the person said.
    pub reason: String,
}

/// What `unpin` did. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct UnpinReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// It is not.
    pub pinned: bool,
    /// Whether it was.
    pub was_pinned: bool,
}

impl Report for PinReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        format!("{} is pinned; no rule expires it\n", self.snapshot)
    }
}

impl Report for UnpinReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        let was = if self.was_pinned { "is no longer" } else { "was not" };
        format!("{} {was} pinned\n", self.snapshot)
    }
}

/// Pins a snapshot.
pub async fn pin(session: &Session, options: &options::Pin) -> Result<PinReport> {
    let repository = open_to_change(session).await?;
    let (snapshot, _) = choose::named(session, &repository, &options.snapshot, Purpose::Write).await?;
    repository.pin(&snapshot, &options.reason).await?;
    Ok(PinReport {
        snapshot,
        pinned: true,
        reason: options.reason.clone(),
    })
}

/// Removes a pin.
pub async fn unpin(session: &Session, options: &options::Unpin) -> Result<UnpinReport> {
    let repository = open_to_change(session).await?;
    let (snapshot, _) = choose::named(session, &repository, &options.snapshot, Purpose::Write).await?;
    let was_pinned = repository.unpin(&snapshot).await?;
    Ok(UnpinReport {
        snapshot,
        pinned: false,
        was_pinned,
    })
}
