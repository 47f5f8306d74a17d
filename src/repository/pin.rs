//! Pins: `pins/<snapshot-id>.json` keeps a snapshot from expiring, for as long as it is there.
//!
//! Its presence is the pin. One whose bytes are damaged therefore still pins: the doubt is in favour of the snapshot.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::repository::{Repository, SnapshotId, document, layout};
use crate::storage::{ObjectOptions, PutMode};

/// What a pin says of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pin {
    /// Repository format.
    pub format: u32,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When it was pinned, by the clock of the host that did.
    pub pinned: Timestamp,
    /// What the person said; may be empty.
    pub reason: String,
}

impl Repository {
    /// Pins a snapshot that is there. A second pin replaces the reason of the first.
    pub async fn pin(&self, id: &SnapshotId, reason: &str) -> Result<()> {
        let act = || format!("pin snapshot {id}");
        let pin = Pin {
            format: document::FORMAT,
            snapshot: id.clone(),
            pinned: Timestamp::now(),
            reason: reason.to_owned(),
        };
        let body = Bytes::from(document::encode(&pin)?);
        self.store()
            .put(&layout::pin(id)?, body, PutMode::Overwrite, &ObjectOptions::default())
            .await
            .with_context(act)?;
        // A prune that looked for the pin before it was written may have removed the manifest since.
        self.store()
            .head(&layout::manifest(id)?)
            .await
            .map(drop)
            .with_context(act)
    }

    /// Removes a pin; says whether there was one.
    pub async fn unpin(&self, id: &SnapshotId) -> Result<bool> {
        let was = self.is_pinned(id).await?;
        self.store()
            .delete(&layout::pin(id)?)
            .await
            .with_context(|| format!("unpin snapshot {id}"))?;
        Ok(was)
    }

    /// Returns whether a snapshot is pinned at this moment.
    pub async fn is_pinned(&self, id: &SnapshotId) -> Result<bool> {
        match self.store().head(&layout::pin(id)?).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.context(format!("look for a pin of snapshot {id}"))),
        }
    }

    /// Returns every pinned snapshot with the reason.
    pub async fn pins(&self) -> Result<BTreeMap<SnapshotId, String>> {
        let mut pins = BTreeMap::new();
        let mut next = None;
        loop {
            let page = self.store().list(layout::PINS, next).await.context("list pins")?;
            for object in page.objects {
                let Some(id) = layout::id_in(&object.key, layout::PINS, ".json") else {
                    continue;
                };
                let reason = match self.read_pin(&id).await {
                    Ok(pin) => pin.reason,
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                        tracing::warn!("the pin of {id} cannot be read, it counts: {}", error.chain());
                        String::new()
                    }
                    Err(error) => return Err(error),
                };
                pins.insert(id, reason);
            }
            next = page.next;
            if next.is_none() {
                return Ok(pins);
            }
        }
    }

    async fn read_pin(&self, id: &SnapshotId) -> Result<Pin> {
        let act = || format!("read the pin of snapshot {id}");
        let bytes = self.store().get(&layout::pin(id)?, document::MAX_DOCUMENT_BYTES).await;
        let bytes = match bytes {
            Err(error) if error.kind() == ErrorKind::LimitExceeded => {
                Err(Error::corrupt("the pin is too large").with_cause(error))
            }
            other => other,
        };
        document::decode(&bytes.with_context(act)?).with_context(act)
    }
}
