//! `pin` and `unpin`: a person's word stands above the keep rules.

use serde_json::json;

use crate::operations::choose::{self, Purpose};
use crate::operations::options;
use crate::operations::said::said;
use crate::operations::snapshots::open_to_change;
use crate::operations::{Outcome, Session, Status};

/// Pins a snapshot.
pub async fn pin(session: &Session, options: &options::Pin) -> Outcome {
    let repository = open_to_change(session).await?;
    let (id, _) = choose::named(session, &repository, &options.snapshot, Purpose::Write).await?;
    repository.pin(&id, &options.reason).await?;
    let document = json!({ "snapshot": id, "pinned": true, "reason": options.reason });
    said(document, format!("{id} is pinned; no rule expires it\n"), Status::Done)
}

/// Removes a pin.
pub async fn unpin(session: &Session, options: &options::Unpin) -> Outcome {
    let repository = open_to_change(session).await?;
    let (id, _) = choose::named(session, &repository, &options.snapshot, Purpose::Write).await?;
    let was = repository.unpin(&id).await?;
    let text = if was {
        format!("{id} is no longer pinned\n")
    } else {
        format!("{id} was not pinned\n")
    };
    said(
        json!({ "snapshot": id, "pinned": false, "was_pinned": was }),
        text,
        Status::Done,
    )
}
