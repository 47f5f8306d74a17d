//! The chain of manifests: each names the one before it by id and digest, and what removes one leaves a record.
//!
//! So a manifest that was replaced by another, or that is gone without anybody having removed it, is noticed by what follows
//! it. A record is small and stays as long as a later manifest leads to it. It proves nothing against somebody who can write
//! records, too; it tells loss from expiry.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::repository::{Manifest, Previous, Repository, SnapshotId, document, layout};
use crate::storage::{ObjectOptions, PutMode};

/// Documents that are read at once; each is small.
const CONCURRENT_READS: usize = 8;

/// Says that a snapshot was removed, and why: `removed/<id>.json`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Removal {
    /// Repository format.
    pub format: u32,
    /// The snapshot.
    pub id: SnapshotId,
    /// SHA-256 of its manifest object.
    pub sha256: String,
    /// The snapshot before it.
    pub previous: Option<Previous>,
    /// The rule by which it went.
    pub rule: String,
    /// When, by the clock of the host that removed it.
    pub removed: Timestamp,
}

/// Something that is not as the chain says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Gap {
    /// The snapshot whose manifest leads there.
    pub snapshot: SnapshotId,
    /// The snapshot before it.
    pub previous: SnapshotId,
    /// What is wrong with that one.
    pub what: String,
    /// Whether it is damage. Releases before this one removed snapshots without a record.
    pub damage: bool,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "snapshot {}, before {}: {}", self.previous, self.snapshot, self.what)
    }
}

/// What of a manifest the chain is made of.
struct Link {
    sha256: String,
    previous: Option<Previous>,
}

impl Repository {
    /// Removes a snapshot by a rule, and records that. As [`Repository::remove_snapshot`] otherwise.
    pub async fn remove_snapshot_by(&self, id: &SnapshotId, rule: &str) -> Result<()> {
        self.record_removal(id, rule)
            .await
            .with_context(|| format!("record the removal of snapshot {id}"))?;
        self.remove_snapshot(id).await
    }

    async fn record_removal(&self, id: &SnapshotId, rule: &str) -> Result<()> {
        let bytes = match self
            .store()
            .get(&layout::manifest(id)?, document::MAX_DOCUMENT_BYTES)
            .await
        {
            Ok(bytes) => bytes,
            // Somebody else removed it, and recorded it if he does.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let manifest = Manifest::decode(&bytes, self.id(), id).ok();
        let removal = Removal {
            format: document::FORMAT,
            id: id.clone(),
            sha256: document::sha256_hex(&bytes),
            previous: manifest.and_then(|manifest| manifest.previous),
            rule: rule.to_owned(),
            removed: Timestamp::now(),
        };
        let body = Bytes::from(document::encode(&removal)?);
        let options = ObjectOptions::default();
        self.store()
            .put(&layout::removal(id)?, body, PutMode::Overwrite, &options)
            .await
    }

    /// Returns the records of removed snapshots that can be read.
    pub async fn removals(&self) -> Result<BTreeMap<SnapshotId, Removal>> {
        let keys = self.keys_below(layout::REMOVED).await?;
        let ids = keys
            .iter()
            .filter_map(|key| layout::id_in(key, layout::REMOVED, ".json"));
        let ids: Vec<SnapshotId> = ids.collect();
        let read = |id: SnapshotId| async move {
            match document::read::<Removal>(self.store(), &layout::removal(&id)?, document::decode).await {
                Ok((removal, _)) if removal.id == id => Ok(Some((id, removal))),
                // A record that tells of another one tells nothing.
                Ok(_) => Ok(None),
                Err(error) if is_unreadable(&error) => Ok(None),
                Err(error) => Err(error.context(format!("read the removal of snapshot {id}"))),
            }
        };
        let mut reads = futures_util::stream::iter(ids)
            .map(read)
            .buffer_unordered(CONCURRENT_READS);
        let mut removals = BTreeMap::new();
        while let Some(found) = reads.try_next().await? {
            removals.extend(found);
        }
        Ok(removals)
    }

    /// Walks from each manifest to the one before it, over those that were removed, and returns what is not as it must be.
    pub async fn chain(&self) -> Result<Vec<Gap>> {
        // A removal is recorded before its manifest goes, so that manifests are read first.
        let links = self.links().await?;
        let removals = self.removals().await?;
        let recorded_since = removals.values().map(|removal| removal.removed).min();
        let mut gaps = Vec::new();
        for (id, link) in &links {
            let Some(link) = link else { continue };
            gaps.extend(gap_behind(id, link, &links, &removals, recorded_since));
        }
        Ok(gaps)
    }

    /// Removes records to which no manifest leads any more.
    pub async fn forget_removals(&self) -> Result<()> {
        let removals = self.removals().await?;
        let links = self.links().await?;
        // What cannot be read now may lead to any of them.
        if links.values().any(Option::is_none) {
            return Ok(());
        }
        let mut needed = std::collections::BTreeSet::new();
        for link in links.values().flatten() {
            let mut next = link.previous.as_ref();
            while let Some(previous) = next.filter(|p| !links.contains_key(&p.id) && needed.insert(p.id.clone())) {
                // What lies behind the oldest that is left leads nowhere.
                let later = removals.get(&previous.id).and_then(|removal| removal.previous.as_ref());
                next = later.filter(|p| links.keys().next().is_some_and(|oldest| *oldest <= p.id));
            }
        }
        for id in removals.keys().filter(|id| !needed.contains(id)) {
            match self.store().delete(&layout::removal(id)?).await {
                Err(error) if error.kind() == ErrorKind::Denied => return Ok(()),
                done => done.with_context(|| format!("forget the removal of snapshot {id}"))?,
            }
        }
        Ok(())
    }

    /// Reads every manifest; one that cannot be read has no link, and is named elsewhere.
    async fn links(&self) -> Result<BTreeMap<SnapshotId, Option<Link>>> {
        let read = |id: SnapshotId| async move {
            let link = match self.load_with_digest(&id).await {
                Ok((manifest, sha256)) => Some(Link {
                    sha256,
                    previous: manifest.previous,
                }),
                Err(error) if is_unreadable(&error) => None,
                Err(error) => return Err(error),
            };
            Ok((id, link))
        };
        let ids = self.list().await?;
        let mut reads = futures_util::stream::iter(ids)
            .map(read)
            .buffer_unordered(CONCURRENT_READS);
        let mut links = BTreeMap::new();
        while let Some((id, link)) = reads.try_next().await? {
            links.insert(id, link);
        }
        Ok(links)
    }
}

fn is_unreadable(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::NotFound | ErrorKind::LimitExceeded
    )
}

/// Follows one manifest backwards to the next one that is there.
fn gap_behind(
    id: &SnapshotId,
    link: &Link,
    links: &BTreeMap<SnapshotId, Option<Link>>,
    removals: &BTreeMap<SnapshotId, Removal>,
    recorded_since: Option<Timestamp>,
) -> Option<Gap> {
    let gap = |previous: &Previous, what: &str, damage| {
        Some(Gap {
            snapshot: id.clone(),
            previous: previous.id.clone(),
            what: what.to_owned(),
            damage,
        })
    };
    let mut next = link.previous.as_ref();
    // Each step leads to another record, so a forged circle ends as well.
    for _ in 0..=removals.len() {
        let previous = next?;
        match (links.get(&previous.id), removals.get(&previous.id)) {
            (Some(Some(found)), _) if found.sha256 == previous.sha256 => return None,
            (Some(Some(_)), _) => {
                return gap(previous, "its manifest was replaced", true);
            }
            // Damaged: that is named by itself.
            (Some(None), _) => return None,
            // Records of what lies before the oldest that is left are forgotten.
            (None, Some(removal)) if removal.sha256 == previous.sha256 => {
                let oldest = links.keys().next();
                next = removal
                    .previous
                    .as_ref()
                    .filter(|p| oldest.is_some_and(|oldest| *oldest <= p.id));
            }
            (None, Some(_)) => return gap(previous, "its removal is recorded with another digest", true),
            (None, None) => {
                // From the first record on each removal has one.
                let damage = recorded_since.is_some_and(|since| previous.id.started() > since);
                return gap(previous, "it is missing, and no removal is recorded", damage);
            }
        }
    }
    None
}
