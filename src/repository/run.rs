//! A run at work: its marker, its heartbeat, and the commit.
//!
//! Correctness never rests on a lease or on conditional writes. A run rewrites its marker; if it could not for
//! `lease_ttl` on a clock that counts suspended time, it ends itself. Before the manifest is written, and again after,
//! it checks that nobody swept it and that its objects are there; otherwise the manifest goes away again. A crash at any
//! point leaves either a whole snapshot or data without a manifest, which no command takes for one and a sweep removes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::repository::{Manifest, SnapshotId, document, layout};
use crate::storage::{ObjectKey, ObjectOptions, PutMode, SharedStore, UploadId, UploadJournal};

/// Times of a run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// How often the marker is rewritten.
    pub heartbeat: Duration,
    /// A run that could not rewrite its marker for this long ends itself.
    pub lease_ttl: Duration,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(30),
            lease_ttl: Duration::from_secs(600),
        }
    }
}

/// The marker object of a run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Marker {
    /// Repository format.
    pub format: u32,
    /// Id the snapshot will have.
    pub id: SnapshotId,
    /// Host that runs.
    pub host: String,
    /// Process id there.
    pub pid: u32,
    /// Job.
    pub job: String,
    /// Last heartbeat, by the host's clock; sweeping uses the object's own time instead.
    pub heartbeat: Timestamp,
    /// Whether the run is at work or its snapshot was removed.
    #[serde(default)]
    pub state: MarkerState,
    /// Uploads begun and not ended.
    pub uploads: Vec<MarkedUpload>,
}

/// What a marker stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarkerState {
    /// The run is at work, or died.
    #[default]
    Running,
    /// The snapshot was removed; its data wait for a sweep after the grace.
    Removed,
}

/// An upload in a marker.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MarkedUpload {
    /// Key of the object it would make.
    pub key: ObjectKey,
    /// The store's id of the upload.
    pub id: UploadId,
}

/// A running job. Dropping it is a crash: marker and data stay, and a sweep removes them after its grace.
#[derive(Debug)]
pub struct Run {
    shared: Arc<Shared>,
    _heartbeat: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    store: SharedStore,
    options: RunOptions,
    marker: Mutex<Marker>,
    /// Time of the last marker that was written, in milliseconds of [`uptime`].
    written_at: AtomicU64,
    cancel: CancellationToken,
}

/// Milliseconds since boot, suspended time included: a host that slept has lost its lease like one that hung.
fn uptime() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let millis = i128::from(time.tv_sec) * 1000 + i128::from(time.tv_nsec) / 1_000_000;
    exact::saturating_u64(millis)
}

impl Shared {
    /// Fails when the marker is older than the lease, whatever the reason.
    fn check_lease(&self) -> Result<()> {
        let age = Duration::from_millis(uptime().saturating_sub(self.written_at.load(Ordering::Acquire)));
        if age <= self.options.lease_ttl {
            return Ok(());
        }
        self.cancel.cancel();
        let message = format!("this run could not renew its heartbeat for {} s", age.as_secs());
        Err(Error::new(ErrorKind::PreconditionFailed, message)
            .with_hint("Its data may have been swept; nothing was committed. Run the backup again."))
    }

    async fn write_marker(&self, change: impl FnOnce(&mut Marker) + Send) -> Result<()> {
        let mut marker = self.marker.lock().await;
        // Before the write, not after it: a write by a run that slept past its lease must not renew the lease.
        self.check_lease()?;
        change(&mut marker);
        marker.heartbeat = Timestamp::now();
        let body = Bytes::from(document::encode(&*marker)?);
        let begun = uptime();
        let key = layout::marker(&marker.id)?;
        self.store
            .put(&key, body, PutMode::Overwrite, &ObjectOptions::default())
            .await
            .context("write run marker")?;
        self.written_at.store(begun, Ordering::Release);
        Ok(())
    }

    async fn beat(&self) {
        loop {
            tokio::time::sleep(self.options.heartbeat).await;
            // A store that never answers must not hold the heartbeat beyond the lease either.
            match tokio::time::timeout(self.options.lease_ttl, self.write_marker(|_| {})).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("heartbeat: {}", error.chain()),
                Err(_) => tracing::warn!("heartbeat: no answer from the store"),
            }
            if self.check_lease().is_err() {
                return;
            }
        }
    }
}

impl Run {
    /// Writes the marker and starts the heartbeat. `cancel` is cancelled when the lease is lost.
    pub async fn begin(
        store: SharedStore,
        id: SnapshotId,
        job: &str,
        host: &str,
        options: RunOptions,
        cancel: CancellationToken,
    ) -> Result<Self> {
        let marker = Marker {
            format: document::FORMAT,
            id,
            host: host.to_owned(),
            pid: std::process::id(),
            job: job.to_owned(),
            heartbeat: Timestamp::now(),
            state: MarkerState::Running,
            uploads: Vec::new(),
        };
        let shared = Arc::new(Shared {
            store,
            options,
            marker: Mutex::new(marker),
            written_at: AtomicU64::new(uptime()),
            cancel,
        });
        shared.write_marker(|_| {}).await?;
        let beating = Arc::clone(&shared);
        let heartbeat = AbortOnDropHandle::new(tokio::spawn(async move { beating.beat().await }));
        Ok(Self {
            shared,
            _heartbeat: heartbeat,
        })
    }

    /// Returns the token that is cancelled when the lease is lost.
    pub fn cancel(&self) -> &CancellationToken {
        &self.shared.cancel
    }

    /// Fails if the run has lost its lease.
    pub fn check_lease(&self) -> Result<()> {
        self.shared.check_lease()
    }

    /// Returns where uploads are journaled: in the marker.
    pub fn journal(&self) -> Arc<dyn UploadJournal> {
        Arc::new(MarkerJournal(Arc::clone(&self.shared)))
    }

    /// Makes the snapshot exist. Returns notes about checks that the credentials did not allow.
    pub async fn commit(self, manifest: &Manifest) -> Result<Vec<String>> {
        let key = layout::manifest(&manifest.id)?;
        let mut notes = Vec::new();
        self.check_standing(manifest, &mut notes)
            .await
            .context("check the run before the commit")?;
        self.read_back(manifest, &mut notes)
            .await
            .context("read stored objects back")?;
        let body = Bytes::from(document::encode(manifest)?);
        #[cfg(feature = "test-hooks")]
        crate::base::test_hooks::hold("manifest").await;
        self.put_manifest(&key, body.clone()).await?;
        if let Err(error) = self.read_manifest_back(&key, &body).await {
            return Err(self.take_back(&key, error.context("read the manifest back")).await);
        }
        #[cfg(feature = "test-hooks")]
        crate::base::test_hooks::hold("committed").await;
        if let Err(error) = self.check_standing(manifest, &mut Vec::new()).await {
            // Written last, removed first: without its manifest the snapshot is gone again.
            let error = error.context("check the run after the commit");
            return Err(self.take_back(&key, error).await);
        }
        self.remove_marker().await;
        Ok(notes)
    }

    /// Compares the directory of each index with what was written. Whoever may not read has the word of the store: it compares
    /// the checksum that goes with each body.
    async fn read_back(&self, manifest: &Manifest, notes: &mut Vec<String>) -> Result<()> {
        let outcomes = manifest.sources.iter().filter_map(|source| source.outcome.as_ref());
        for info in outcomes.flat_map(|outcome| &outcome.archives) {
            let mut again = true;
            loop {
                let mut bytes = Vec::new();
                let read = self
                    .shared
                    .store
                    .read_range(&info.index.key, 0..info.directory_bytes, &mut bytes);
                match read.await {
                    Ok(()) => {}
                    Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Archived) => {
                        notes.push(
                            "stored objects could not be read back; relying on the checksums sent with them".to_owned(),
                        );
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
                if document::sha256_hex(&bytes) == info.directory_sha256 {
                    break;
                }
                if !again {
                    return Err(Error::corrupt(format!(
                        "the store returned different data than was sent for \"{}\"",
                        info.index.key
                    ))
                    .with_hint("Run the backup again; if this happens again, do not use this store."));
                }
                again = false;
            }
        }
        Ok(())
    }

    async fn read_manifest_back(&self, key: &ObjectKey, body: &Bytes) -> Result<()> {
        for _ in 0..2 {
            match self.shared.store.get(key, document::MAX_DOCUMENT_BYTES).await {
                Ok(present) if present == *body => return Ok(()),
                Ok(_) => {}
                // Too long is other bytes, too.
                Err(error) if error.kind() == ErrorKind::LimitExceeded => {}
                Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Archived) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Err(
            Error::corrupt(format!("the store returned different data than was sent for \"{key}\""))
                .with_hint("Run the backup again; if this happens again, do not use this store."),
        )
    }

    /// Ends the run without a snapshot.
    pub async fn abandon(self) {
        // Without data, the marker only tells a sweep what is left to abort.
        if self.shared.marker.lock().await.uploads.is_empty() {
            self.remove_marker().await;
        }
    }

    async fn put_manifest(&self, key: &ObjectKey, body: Bytes) -> Result<()> {
        let options = ObjectOptions::default();
        let Err(error) = self
            .shared
            .store
            .put(key, body.clone(), PutMode::Create, &options)
            .await
        else {
            return Ok(());
        };
        match self.shared.store.get(key, document::MAX_DOCUMENT_BYTES).await {
            // A repeated put may meet the object that a lost reply had made: then it is ours, byte for byte.
            Ok(present) if present == body => return Ok(()),
            // The id is ours alone, so without the right to read, what exists already can only be our own.
            Err(denied) if denied.kind() == ErrorKind::Denied && error.kind() == ErrorKind::AlreadyExists => {
                return Ok(());
            }
            // Somebody else's object under our key is not ours to remove. What nobody can read is ours, changed on its way.
            Ok(present) if document::decode::<serde_json::Value>(&present).is_ok() => {
                return Err(error.context("write manifest"));
            }
            Ok(_) => {
                let again = self.shared.store.put(key, body, PutMode::Overwrite, &options).await;
                if again.is_ok() {
                    return Ok(());
                }
            }
            Err(_) => {}
        }
        // A put whose outcome is not known may yet have made the manifest, and a run that fails leaves none.
        Err(self.take_back(key, error.context("write manifest")).await)
    }

    /// Removes the manifest of a run that fails. Returns the error, with advice when the manifest may have stayed.
    async fn take_back(&self, key: &ObjectKey, error: Error) -> Error {
        match self.shared.store.delete(key).await {
            Ok(()) => error,
            Err(left) => error.with_hint(format!(
                "The manifest \"{key}\" could not be removed ({}); remove it.",
                left.chain()
            )),
        }
    }

    /// Checks that the lease holds, nobody swept the run, and every object is there with its size.
    async fn check_standing(&self, manifest: &Manifest, notes: &mut Vec<String>) -> Result<()> {
        self.shared.check_lease()?;
        let store = &self.shared.store;
        match store.head(&layout::swept(&manifest.id)?).await {
            Ok(_) => {
                let message = format!("run {} was removed by another process", manifest.id);
                return Err(Error::new(ErrorKind::PreconditionFailed, message).with_hint("Run the backup again."));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::Denied => {
                notes.push(
                    "the credentials do not allow reading stored objects; their presence was not checked".to_owned(),
                );
                return self.shared.check_lease();
            }
            Err(error) => return Err(error),
        }
        for object in manifest.objects() {
            let meta = store.head(&object.key).await?;
            if meta.size_bytes != object.size_bytes {
                let message = format!(
                    "object \"{}\" has {} bytes instead of {}",
                    object.key, meta.size_bytes, object.size_bytes
                );
                return Err(Error::corrupt(message));
            }
        }
        self.shared.check_lease()
    }

    async fn remove_marker(&self) {
        let removed = match layout::marker(&self.shared.marker.lock().await.id) {
            Ok(key) => self.shared.store.delete(&key).await,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            // Credentials may not allow deleting; a sweep removes markers of committed snapshots.
            tracing::debug!("run marker stays: {}", error.chain());
        }
    }
}

/// Writes the marker of a snapshot that is about to be removed: the grace of its data is counted from there.
pub(super) async fn mark_removed(store: &SharedStore, id: &SnapshotId) -> Result<()> {
    let key = layout::marker(id)?;
    let mut marker = Marker {
        format: document::FORMAT,
        id: id.clone(),
        host: String::new(),
        pid: 0,
        job: String::new(),
        heartbeat: Timestamp::now(),
        state: MarkerState::Removed,
        uploads: Vec::new(),
    };
    // A marker that its run could not remove may name uploads, which must not be forgotten.
    match store.get(&key, document::MAX_DOCUMENT_BYTES).await {
        Ok(bytes) => {
            if let Ok(left) = document::decode::<Marker>(&bytes) {
                marker.uploads = left.uploads;
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.context("read run marker")),
    }
    let body = Bytes::from(document::encode(&marker)?);
    store
        .put(&key, body, PutMode::Overwrite, &ObjectOptions::default())
        .await
        .context("write run marker")
}

/// Journals uploads in the run's marker.
#[derive(Debug)]
struct MarkerJournal(Arc<Shared>);

#[async_trait]
impl UploadJournal for MarkerJournal {
    async fn opened(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let entry = MarkedUpload {
            key: key.clone(),
            id: upload.clone(),
        };
        self.0.write_marker(|marker| marker.uploads.push(entry)).await
    }

    async fn closed(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let mut marker = self.0.marker.lock().await;
        // Nothing depends on this being durable: aborting an upload that has ended is no error.
        marker.uploads.retain(|entry| entry.id != *upload || entry.key != *key);
        Ok(())
    }
}
