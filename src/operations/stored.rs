//! Checks the digest of a stored object without understanding its bytes: level `stored`.

use sha2::{Digest, Sha256};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::operations::Session;
use crate::storage::upload::StoredObject;
use crate::storage::{Readiness, SharedStore, archived};

/// Reads an object by ranges of one buffer and compares size and SHA-256. Needs one part buffer of memory.
pub(crate) async fn check_object(
    session: &Session,
    store: &SharedStore,
    task: &str,
    object: &StoredObject,
) -> Result<()> {
    let present = store.head(&object.key).await.map_err(|error| missing(error, object))?;
    if present.size_bytes != object.size_bytes {
        return Err(Error::corrupt(format!(
            "\"{}\" has {} bytes, but the manifest says {}",
            object.key, present.size_bytes, object.size_bytes
        )));
    }
    if let Readiness::Cold { class } | Readiness::Thawing { class } = &present.readiness {
        return Err(archived(object.key.as_str(), class));
    }
    let mut found = digest(session, store, task, object).await?;
    if found != object.sha256 {
        // The bytes may have changed on their way: only what differs twice is damaged.
        found = digest(session, store, task, object).await?;
    }
    if found != object.sha256 {
        return Err(Error::corrupt(format!(
            "\"{}\" has SHA-256 {found}, but the manifest says {}",
            object.key, object.sha256
        )));
    }
    Ok(())
}

/// Returns the SHA-256 of what the store has.
async fn digest(session: &Session, store: &SharedStore, task: &str, object: &StoredObject) -> Result<String> {
    let step = exact::u64_from(session.memory().chunk_bytes);
    let mut buffer: Vec<u8> = Vec::with_capacity(session.memory().chunk_bytes);
    let mut digest = Sha256::new();
    let mut offset = 0;
    while offset < object.size_bytes {
        let end = object.size_bytes.min(offset.saturating_add(step));
        buffer.clear();
        session
            .or_cancelled(store.read_range(&object.key, offset..end, &mut buffer))
            .await?;
        session.reporter.advance(task, end - offset, 0);
        offset = end;
        (digest, buffer) = tokio::task::spawn_blocking(move || {
            digest.update(&buffer);
            (digest, buffer)
        })
        .await
        .map_err(|e| Error::new(ErrorKind::Other, "digest worker ended early").with_cause(e))?;
    }
    Ok(hex::encode(digest.finalize()))
}

/// A missing object of a snapshot is damage, not a wrong name.
fn missing(error: Error, object: &StoredObject) -> Error {
    if error.kind() == ErrorKind::NotFound {
        return Error::corrupt(format!("\"{}\" is missing from the store", object.key)).with_cause(error);
    }
    error.context(format!("look at \"{}\"", object.key))
}
