//! Evidence, snapshot by snapshot: what is known of each that is there.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt};

use crate::base::error::{ErrorKind, Result};
use crate::repository::{Evidence, Repository, SnapshotId, document, layout};
use crate::storage::ObjectKey;

/// Documents of one snapshot that are read at most. Damage that was found deep is not taken back by shallower looks after it,
/// of which there may be one an hour.
const OF_ONE: usize = 200;

/// Documents of snapshots that are gone that are read at most: they say when something was proven last.
const OF_GONE: usize = 20;

/// Documents that are read at once.
const CONCURRENT_READS: usize = 8;

impl Repository {
    /// Returns the newest evidence of each snapshot, and of some that are gone; newest first. `decides` says whether what is
    /// older than a document need not be read. What cannot be read is passed over.
    pub async fn evidence_of(
        &self,
        present: &BTreeSet<SnapshotId>,
        decides: impl Fn(&Evidence) -> bool,
    ) -> Result<Vec<Evidence>> {
        let mut by_snapshot: BTreeMap<SnapshotId, Vec<ObjectKey>> = BTreeMap::new();
        let mut of_gone = Vec::new();
        for key in self.keys_below(layout::EVIDENCE).await? {
            match layout::id_in(&key, layout::EVIDENCE, "/") {
                Some(id) if present.contains(&id) => by_snapshot.entry(id).or_default().push(key),
                Some(_) => of_gone.push(key),
                None => {}
            }
        }
        // The last part of a key begins with the time.
        let newest_first = |keys: &mut Vec<ObjectKey>, limit| {
            let name = |key: &ObjectKey| key.as_str().rsplit('/').next().unwrap_or_default().to_owned();
            keys.sort_by_key(|key| std::cmp::Reverse(name(key)));
            keys.truncate(limit);
        };
        newest_first(&mut of_gone, OF_GONE);
        for keys in by_snapshot.values_mut() {
            newest_first(keys, OF_ONE);
        }
        let decides = &decides;
        let read = |keys: Vec<ObjectKey>| async move {
            let mut found = Vec::new();
            for key in keys {
                if let Some(evidence) = self.one_evidence(&key).await? {
                    let decided = decides(&evidence);
                    found.push(evidence);
                    if decided {
                        break;
                    }
                }
            }
            Ok::<_, crate::Error>(found)
        };
        let gone = of_gone.into_iter().map(|key| vec![key]);
        let all = futures_util::stream::iter(by_snapshot.into_values().chain(gone).map(read));
        let found: Vec<Vec<Evidence>> = all.buffer_unordered(CONCURRENT_READS).try_collect().await?;
        let mut found: Vec<Evidence> = found.into_iter().flatten().collect();
        found.sort_by_key(|evidence| std::cmp::Reverse(evidence.time));
        Ok(found)
    }

    async fn one_evidence(&self, key: &ObjectKey) -> Result<Option<Evidence>> {
        let bytes = match self.store().get(key, document::MAX_DOCUMENT_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::LimitExceeded) => return Ok(None),
            Err(error) => return Err(error.context("read evidence")),
        };
        let decoded = document::decode(&bytes);
        if let Err(error) = &decoded {
            tracing::warn!("ignoring evidence \"{key}\": {}", error.chain());
        }
        Ok(decoded.ok())
    }
}
