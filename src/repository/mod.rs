//! The repository: which objects make a snapshot, which run is at work, what may be swept.
//!
//! A snapshot exists exactly when its manifest exists. It is written last and removed first. The bucket alone is enough
//! to restore: there is no other database. Everything read from it is untrusted until its digest has been compared.

pub mod catalog;
pub mod chain;
pub mod document;
mod evidence;
pub mod holder;
pub mod id;
pub mod latest;
pub mod layout;
pub mod lease;
pub mod log;
pub mod manifest;
pub mod pin;
mod planned;
mod proved;
pub mod record;
pub mod run;
pub mod sweep;
mod untrusted;

use bytes::Bytes;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use crate::archive::StoredSource;
pub use catalog::Survey;
pub use chain::{Gap, Removal};
pub use id::{Selector, SnapshotId};
pub use latest::{ADHOC_JOB, CLOCK_TOLERANCE, Found, Latest, PRE_RESTORE_JOB, Suits, is_ahead};
pub use lease::{Lease, LeaseAttempt};
pub use log::{ListedLog, SeenLog};
pub use manifest::{Manifest, ManifestSource, Previous};
pub use planned::{PlannedSchedule, StoredPlan};
pub use proved::{Level, Proved, Reached};
pub use record::{RunOutcome, RunRecord, TaskKind};
pub use run::{Marker, Run, RunOptions};
pub use sweep::{SweepOptions, SweepPlan, SweepReport};

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::storage::{ObjectOptions, PutMode, SharedStore};

/// `repository.json`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RepositoryDocument {
    /// Repository format.
    pub format: u32,
    /// 128 random bits in hex; every manifest names it.
    pub id: String,
    /// When it was created.
    pub created: Timestamp,
    /// `age` recipients; empty when the repository is not encrypted.
    pub recipients: Vec<String>,
}

/// What a verification proved.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(from = "StoredEvidence")]
pub struct Evidence {
    /// The snapshot that was looked at.
    pub snapshot: SnapshotId,
    /// When, by the clock of the host that looked.
    pub time: Timestamp,
    /// What `verify` said of it.
    pub proved: Proved,
}

/// Evidence as a file has it: what was proven may be of any release.
#[derive(serde::Deserialize)]
struct StoredEvidence {
    snapshot: SnapshotId,
    time: Timestamp,
    proved: serde_json::Value,
}

impl From<StoredEvidence> for Evidence {
    fn from(stored: StoredEvidence) -> Self {
        let proved = Proved::read(stored.snapshot.clone(), &stored.proved);
        Self {
            snapshot: stored.snapshot,
            time: stored.time,
            proved,
        }
    }
}

/// Evidence as it is written; `P` says more than [`Proved`] reads.
#[derive(serde::Serialize)]
struct NewEvidence<'a, P> {
    format: u32,
    snapshot: &'a SnapshotId,
    time: Timestamp,
    proved: &'a P,
}

/// An open repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    store: SharedStore,
    document: RepositoryDocument,
}

impl Repository {
    /// Creates a repository in an empty place; one that is there already is [`ErrorKind::AlreadyExists`].
    pub async fn init(store: SharedStore) -> Result<Self> {
        let key = layout::repository()?;
        match store.head(&key).await {
            Ok(_) => {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("{} is already a repository", store.location()),
                ));
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Denied) => {}
            Err(error) => return Err(error.context("look for a repository")),
        }
        let id = format!("{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>());
        let document = RepositoryDocument {
            format: document::FORMAT,
            id,
            created: Timestamp::now(),
            recipients: Vec::new(),
        };
        let body = Bytes::from(document::encode(&document)?);
        store
            .put(&key, body, PutMode::Create, &ObjectOptions::default())
            .await
            .context("write repository.json")?;
        Ok(Self { store, document })
    }

    /// Opens a repository.
    pub async fn open(store: SharedStore) -> Result<Self> {
        let (document, _) = document::read(&store, &layout::repository()?, document::decode::<RepositoryDocument>)
            .await
            .map_err(|error| {
                if error.kind() == ErrorKind::NotFound && error.hint().is_none() {
                    let message = format!("no repository at {}", store.location());
                    return Error::new(ErrorKind::NotFound, message)
                        .with_hint("Create one with `wirevault init`, or correct the URL.");
                }
                error.context("read repository.json")
            })?;
        if !document.recipients.is_empty() {
            return Err(
                Error::unsupported("the repository is encrypted").with_hint("A newer version of wirevault reads it.")
            );
        }
        Ok(Self { store, document })
    }

    /// Opens a repository, or creates it where there is none yet; the flag tells which.
    pub async fn open_or_init(store: SharedStore) -> Result<(Self, bool)> {
        match Self::open(store.clone()).await {
            Ok(repository) => Ok((repository, false)),
            // A missing bucket has a hint of its own and is not a place for a repository.
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && error.hint().is_some_and(|hint| hint.contains("wirevault init")) =>
            {
                match Self::init(store.clone()).await {
                    Ok(repository) => Ok((repository, true)),
                    // Another first backup was faster.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok((Self::open(store).await?, false)),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the repository's id.
    pub fn id(&self) -> &str {
        &self.document.id
    }

    /// Returns when it was made.
    pub fn created(&self) -> Timestamp {
        self.document.created
    }

    /// Returns the store.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// Returns the ids of all snapshots, oldest first.
    pub async fn list(&self) -> Result<Vec<SnapshotId>> {
        let listed = self.listed().await?;
        Ok(listed.into_iter().map(|(id, _)| id).collect())
    }

    /// Returns the ids of all snapshots, oldest first, each with the time by the store's clock at which its manifest was
    /// written here.
    async fn listed(&self) -> Result<Vec<(SnapshotId, Timestamp)>> {
        let mut listed = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .store
                .list(layout::SNAPSHOTS, next)
                .await
                .context("list snapshots")?;
            listed.extend(page.objects.iter().filter_map(|object| {
                let id = layout::id_in(&object.key, layout::SNAPSHOTS, ".json")?;
                Some((id, object.modified))
            }));
            next = page.next;
            if next.is_none() {
                listed.sort();
                return Ok(listed);
            }
        }
    }

    /// Loads and checks one manifest.
    pub async fn load(&self, id: &SnapshotId) -> Result<Manifest> {
        self.load_with_digest(id).await.map(|(manifest, _)| manifest)
    }

    /// Loads and checks one manifest; returns the SHA-256 of its object too.
    pub async fn load_with_digest(&self, id: &SnapshotId) -> Result<(Manifest, String)> {
        let act = || format!("read manifest of snapshot {id}");
        let decode = |bytes: &[u8]| Manifest::decode(bytes, self.id(), id);
        let read = document::read(&self.store, &layout::manifest(id)?, decode).await;
        let (manifest, bytes) = match read {
            // A manifest that grew past its bound is as wrong as one that was cut.
            Err(error) if error.kind() == ErrorKind::LimitExceeded => {
                Err(Error::corrupt("the manifest is too large").with_cause(error))
            }
            other => other,
        }
        .with_context(act)?;
        Ok((manifest, document::sha256_hex(&bytes)))
    }

    /// Returns the snapshot that a user's word means: an id, a unique prefix, `latest`, `latest:JOB`, `latest:HOST/JOB`.
    pub async fn resolve(&self, name: &str) -> Result<SnapshotId> {
        self.resolve_for(name, None).await
    }

    /// Like [`Repository::resolve`], but `latest` is the newest snapshot in which the named source succeeded; without a
    /// source, the newest in which all did. A failed source is never offered as the latest.
    pub async fn resolve_for(&self, name: &str, source: Option<&str>) -> Result<SnapshotId> {
        let none =
            |what: String| Error::new(ErrorKind::NotFound, what).with_hint("`wirevault list` shows all snapshots.");
        match Selector::parse(name) {
            Selector::Prefix(prefix) => {
                let ids = self.list().await?;
                if prefix.is_empty() {
                    return Err(
                        Error::invalid("the name of the snapshot is empty").with_hint("Use a snapshot id or `latest`.")
                    );
                }
                if let Some(exact) = ids.iter().find(|id| id.as_str() == prefix) {
                    return Ok(exact.clone());
                }
                let found: Vec<_> = ids.into_iter().filter(|id| id.as_str().starts_with(&prefix)).collect();
                match found.as_slice() {
                    [one] => Ok(one.clone()),
                    [] => Err(none(format!("no snapshot \"{prefix}\" in {}", self.store.location()))),
                    several => {
                        let message = format!("\"{prefix}\" matches {} snapshots", several.len());
                        Err(Error::invalid(message).with_hint("Use a longer prefix of the id."))
                    }
                }
            }
            Selector::Latest { host, job } => {
                let sources: Vec<String> = source.into_iter().map(str::to_owned).collect();
                let wanted = Latest {
                    host: host.as_deref(),
                    job: job.as_deref(),
                    sources: &sources,
                    here: None,
                    suits: None,
                };
                match self.latest(&wanted).await? {
                    Ok(found) => {
                        for (id, why) in &found.passed {
                            tracing::warn!("skipping snapshot {id}: {why}");
                        }
                        Ok(found.manifest.id)
                    }
                    Err(_) => Err(none(format!(
                        "no complete snapshot for \"{name}\" in {}",
                        self.store.location()
                    ))),
                }
            }
        }
    }

    /// Returns the newest readable snapshot of a host and job, for a manifest's `previous`. One that a wrong clock dated ahead
    /// is not the one before anything.
    pub async fn previous(&self, host: &str, job: &str) -> Result<Option<Previous>> {
        let now = self.clock().await;
        for id in self.list().await?.into_iter().rev() {
            if is_ahead(id.started(), now) || id.job() != id::sanitised_job(job) {
                continue;
            }
            if let Ok((manifest, sha256)) = self.load_with_digest(&id).await
                && manifest.host == host
                && manifest.job == job
                && !manifest.is_ahead(now)
            {
                return Ok(Some(Previous { id, sha256 }));
            }
        }
        Ok(None)
    }

    /// Reads the marker of a run, if there is one.
    pub async fn marker(&self, id: &SnapshotId) -> Result<Option<Marker>> {
        match document::read(&self.store, &layout::marker(id)?, document::decode).await {
            Ok((marker, _)) => Ok(Some(marker)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.context("read run marker")),
        }
    }

    /// Writes a run marker and starts its heartbeat.
    pub async fn begin_run(
        &self,
        job: &str,
        host: &str,
        options: RunOptions,
        cancel: CancellationToken,
    ) -> Result<(SnapshotId, Run)> {
        let id = SnapshotId::unique(Timestamp::now(), job);
        let run = Run::begin(self.store.clone(), id.clone(), job, host, options, cancel).await?;
        Ok((id, run))
    }

    /// Keeps what a verification proved, as `evidence/<id>/<time>-<16 hex>.json`: a name of its own, so that none replaces
    /// another. `proved` has at least the fields of [`Proved`].
    pub async fn write_evidence(&self, id: &SnapshotId, proved: &impl serde::Serialize) -> Result<()> {
        let now = Timestamp::now();
        let document = NewEvidence {
            format: document::FORMAT,
            snapshot: id,
            time: now,
            proved,
        };
        let body = Bytes::from(document::encode(&document)?);
        self.store
            .put(
                &layout::evidence(id, now, rand::random())?,
                body,
                PutMode::Overwrite,
                &ObjectOptions::default(),
            )
            .await
            .context("write evidence")
    }

    /// Returns the newest evidence, newest first, `limit` documents at most. What cannot be read is passed over.
    pub async fn evidence(&self, limit: usize) -> Result<Vec<Evidence>> {
        let mut keys = Vec::new();
        let mut next = None;
        loop {
            let page = self.store.list(layout::EVIDENCE, next).await.context("list evidence")?;
            keys.extend(page.objects.into_iter().map(|object| object.key));
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        // The last part of a key begins with the time.
        keys.sort_by(|a, b| b.as_str().rsplit('/').next().cmp(&a.as_str().rsplit('/').next()));
        let mut found = Vec::new();
        for key in keys.into_iter().take(limit) {
            let bytes = match self.store.get(&key, document::MAX_DOCUMENT_BYTES).await {
                Ok(bytes) => bytes,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::LimitExceeded) => continue,
                Err(error) => return Err(error.context("read evidence")),
            };
            match document::decode(&bytes) {
                Ok(evidence) => found.push(evidence),
                Err(error) => tracing::warn!("ignoring evidence \"{key}\": {}", error.chain()),
            }
        }
        // Names of older versions have whole seconds.
        found.sort_by_key(|evidence: &Evidence| std::cmp::Reverse(evidence.time));
        Ok(found)
    }

    /// Removes a snapshot: its manifest only. Its data go by a sweep after the grace, so that a restore that already runs
    /// can end: a new marker, from which the sweep counts, is durable before the manifest goes.
    pub async fn remove_snapshot(&self, id: &SnapshotId) -> Result<()> {
        let act = || format!("remove snapshot {id}");
        run::mark_removed(&self.store, id).await.with_context(act)?;
        self.store.delete(&layout::manifest(id)?).await.with_context(act)?;
        // A sweep that saw the manifest may have taken the new marker for the old one; it looks for the manifest after
        // that, as this looks for the marker after the manifest, so one of the two puts it back.
        match self.store.head(&layout::marker(id)?).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                run::mark_removed(&self.store, id).await.with_context(act)
            }
            other => other.map(drop).with_context(act),
        }
    }
}
