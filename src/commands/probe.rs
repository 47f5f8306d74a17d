//! Proves that a store keeps what it is given: one small object written, read back, removed.

use bytes::Bytes;

use crate::error::{Context, Error, Result};
use crate::storage::{ObjectKey, ObjectOptions, PutMode, SharedStore};

/// Writes, reads and removes one object under `runs/`, where a sweep would take it if this process died.
pub(super) async fn store(store: &SharedStore) -> Result<()> {
    let key = ObjectKey::new(format!("runs/probe-{:016x}", rand::random::<u64>()))?;
    let body = Bytes::from_static(b"wirevault probes this store\n");
    store
        .put(&key, body.clone(), PutMode::Overwrite, &ObjectOptions::default())
        .await
        .context("write a probe object")?;
    let read = store.get(&key, 1024).await.context("read the probe object");
    store.delete(&key).await.context("remove the probe object")?;
    if read? == body {
        Ok(())
    } else {
        Err(Error::corrupt("the store returned other bytes than it was given")
            .with_hint("Do not use this store for backups."))
    }
}
