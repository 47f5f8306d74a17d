//! What a snapshot says of itself. It names no table, file or key: those stand in the (encryptable) indexes.

use jiff::Timestamp;

use crate::archive::SourceOutcome;
use crate::base::error::{Error, Result};
use crate::repository::{SnapshotId, StoredPlan, StoredSource, document, untrusted};
use crate::storage::upload::StoredObject;

/// The manifest of a snapshot; its presence in the store is the snapshot.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Manifest {
    /// Repository format; see [`document::FORMAT`].
    pub format: u32,
    /// Id of the repository the snapshot belongs to.
    pub repository: String,
    /// The snapshot's own id.
    pub id: SnapshotId,
    /// Name of the host that ran the job.
    pub host: String,
    /// Job; `adhoc` for sources given on the command line.
    pub job: String,
    /// When the run began, by the host's clock.
    pub started: Timestamp,
    /// When the last source was finished, by the host's clock.
    pub finished: Timestamp,
    /// The previous snapshot of the same host and job, if there is one.
    pub previous: Option<Previous>,
    /// Seconds between the earliest and the latest moment at which the sources are consistent.
    pub skew_seconds: f64,
    /// Every source of the job, failed ones included.
    pub sources: Vec<ManifestSource>,
    /// The validated plan that made the snapshot, without secrets.
    pub plan: StoredPlan,
    /// Version of the program.
    pub program: String,
}

/// The snapshot before this one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Previous {
    /// Its id.
    pub id: SnapshotId,
    /// SHA-256 of its manifest object, lowercase hex.
    pub sha256: String,
}

/// One source of a snapshot.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ManifestSource {
    /// Name in the configuration.
    pub name: String,
    /// `postgres`, `sqlite`, `files`.
    pub kind: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// What was stored; `None` if the source failed.
    pub outcome: Option<SourceOutcome>,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether its failure is only a warning: the snapshot is complete without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl Manifest {
    /// Returns what the plan that made the snapshot says of a source, as it was written.
    pub fn plan_of(&self, source: &ManifestSource) -> Option<&StoredSource> {
        let is = |plan: &StoredSource, key: &str, wanted: &str| plan.text(key) == Some(wanted);
        let mut plans = self.plan.sources().iter();
        plans.find(|plan| is(plan, "name", &source.name) && is(plan, "kind", &source.kind))
    }

    /// Returns whether every source succeeded that is not optional.
    pub fn is_complete(&self) -> bool {
        self.sources
            .iter()
            .all(|source| source.outcome.is_some() || source.optional)
    }

    /// Returns whether the named source is there and succeeded.
    pub fn has(&self, source: &str) -> bool {
        let mut meant = self.sources.iter().filter(|one| self.means(source, one)).peekable();
        meant.peek().is_some() && meant.all(|one| one.outcome.is_some())
    }

    /// Returns whether a name means a source: its own, or that of the source which found it among several.
    pub fn means(&self, name: &str, source: &ManifestSource) -> bool {
        source.name == name || self.group_of(&source.name) == Some(name)
    }

    /// Returns the name of the source that found this one at the time of the run.
    pub fn group_of(&self, source: &str) -> Option<&str> {
        self.plan.source(source)?.text("group")
    }

    /// Returns every object the snapshot needs: archives and their indexes.
    pub fn objects(&self) -> impl Iterator<Item = &StoredObject> {
        let outcomes = self.sources.iter().filter_map(|source| source.outcome.as_ref());
        outcomes
            .flat_map(|outcome| &outcome.archives)
            .flat_map(|info| [&info.archive, &info.index])
    }

    /// Parses a manifest and refuses one that does not belong here: a manifest is untrusted input.
    pub fn decode(bytes: &[u8], repository: &str, id: &SnapshotId) -> Result<Self> {
        let manifest: Self = document::decode(bytes)?;
        if manifest.repository != repository {
            return Err(Error::corrupt(format!(
                "the manifest belongs to repository {:?}",
                manifest.repository
            )));
        }
        if manifest.id != *id {
            return Err(Error::corrupt(format!(
                "the manifest under this id is that of snapshot {}",
                manifest.id
            )));
        }
        untrusted::check(&manifest)?;
        Ok(manifest)
    }
}
