//! Proves that a store keeps what it is given, and says what it cannot do.

use crate::base::error::Result;
use crate::storage::{ObjectKey, SharedStore};

/// What a probe found.
#[derive(Debug)]
pub(crate) struct Probed {
    /// What was tried and holds.
    pub(crate) holds: &'static str,
    /// What the store cannot do, and how the program makes up for it; a line for each.
    pub(crate) lacks: Vec<&'static str>,
}

/// Probes with one object under `runs/`, where a sweep would take it if this process died.
pub(crate) async fn store(store: &SharedStore) -> Result<Probed> {
    let key = ObjectKey::new(format!("runs/probe-{:016x}", rand::random::<u64>()))?;
    let found = store.probe(&key).await?;
    let mut lacks = Vec::new();
    if found.conditional_create == Some(false) {
        lacks.push(
            "the store ignores If-None-Match; stored data is safe, but two simultaneous backups of a job may \
                    both run",
        );
    }
    if !found.lists_uploads {
        lacks.push("the store does not list incomplete uploads; a sweep aborts only those recorded in run markers");
    }
    if !found.deletes {
        lacks.push(
            "these credentials cannot delete objects; `prune` needs others, and the test object remains until \
                    then",
        );
    }
    let holds = if found.deletes {
        "objects can be written, read (by ranges) and removed"
    } else {
        "objects can be written and read (by ranges)"
    };
    Ok(Probed { holds, lacks })
}
