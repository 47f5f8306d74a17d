//! The advisory lease of a job: `locks/<job>.json`.
//!
//! It only avoids wasted work, two runs of one job at once on one host. Nothing rests on it: it may be lost, stolen or
//! never written (some stores ignore If-None-Match, some credentials may only put), and every snapshot is as sound
//! without it. Another host's job of the same name is another job; its lease is left alone and holds nobody up.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::base::error::{Context, ErrorKind, Result};
use crate::base::exact;
use crate::base::held::{self, LockFile, Standing};
use crate::repository::holder::Holder;
use crate::repository::{Repository, SnapshotId, document, layout};
use crate::storage::{ObjectKey, ObjectOptions, PutMode, SharedStore};

/// Content of a lease object.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeaseDocument {
    /// Repository format.
    pub format: u32,
    /// The job.
    pub job: String,
    /// The host.
    pub host: String,
    /// Process id there.
    pub pid: u32,
    /// The run that holds it.
    pub run: SnapshotId,
    /// Which process that is; older versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

impl LeaseDocument {
    /// Returns whether its process, one of this host, has ended for certain without giving it back.
    fn is_dead(&self, locks: Option<&Path>, repository: &str) -> bool {
        let lock = locks.map(|locks| held::standing(&locks.join(lock_name(repository, &self.run))));
        match lock {
            Some(Standing::Held) => false,
            Some(Standing::Free) => true,
            Some(Standing::Unknown) | None => self.holder.as_ref().is_some_and(|holder| holder.is_gone(self.pid)),
        }
    }
}

/// Names the file that is locked while a run holds its lease. The id comes out of a repository, so it is named by a digest.
fn lock_name(repository: &str, run: &SnapshotId) -> String {
    let digest = document::sha256_hex(format!("{repository}\n{run}").as_bytes());
    digest.chars().take(32).collect()
}

/// A lease that was asked for.
#[derive(Debug)]
pub enum LeaseAttempt {
    /// It is ours.
    Held(Lease),
    /// Another run of this job is at work on this host; a second one would waste its time.
    Busy(LeaseDocument),
    /// There is none to be had here; the run goes on without, and says why.
    Without(String),
}

/// A held lease. Dropping it leaves it to expire.
#[derive(Debug)]
pub struct Lease {
    store: SharedStore,
    key: ObjectKey,
    body: Bytes,
    /// Shows other processes of this host that the run is at work.
    _lock: Option<LockFile>,
}

/// What came of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// It is ours for another while.
    Renewed,
    /// This run has it, or nobody, if it was removed or is damaged: it is not ours any more.
    Lost(Option<LeaseDocument>),
}

impl Repository {
    /// Asks for the lease of a job. One that was not renewed for `ttl` by the store's clock, of which `now` is the time, has
    /// expired and is taken over. In `locks`, a directory of this host, a file is locked while the lease is held: it tells of
    /// processes that cannot be seen, those of other containers.
    pub async fn lease(
        &self,
        job: &str,
        host: &str,
        run: &SnapshotId,
        (ttl, now): (Duration, Timestamp),
        locks: Option<&Path>,
    ) -> Result<LeaseAttempt> {
        let key = layout::lock(job)?;
        let wanted = LeaseDocument {
            format: document::FORMAT,
            job: job.to_owned(),
            host: host.to_owned(),
            pid: std::process::id(),
            run: run.clone(),
            holder: Holder::this(),
        };
        let body = Bytes::from(document::encode(&wanted)?);
        // Before the lease is written: whoever reads that asks the lock.
        let lock = locks.and_then(|locks| {
            let made = LockFile::create(locks, &lock_name(self.id(), run));
            made.map_err(|error| tracing::debug!("no lock in \"{}\": {error}", locks.display()))
                .ok()
        });
        let lease = Lease {
            store: self.store().clone(),
            key,
            body,
            _lock: lock,
        };
        match lease.present(ttl, now).await {
            Ok(Present::Free(mode)) => lease.take(mode).await,
            Ok(Present::Held(other)) if other.host == host && other.is_dead(locks, self.id()) => {
                tracing::info!(
                    "the lease of run {} is taken over: its process {} has ended",
                    other.run,
                    other.pid
                );
                if let Some(locks) = locks {
                    let _ = std::fs::remove_file(locks.join(lock_name(self.id(), &other.run)));
                }
                lease.take(PutMode::Overwrite).await
            }
            Ok(Present::Held(other)) if other.host == host && other.job == job => Ok(LeaseAttempt::Busy(other)),
            Ok(Present::Held(other)) => Ok(LeaseAttempt::Without(format!(
                "the lease of job \"{job}\" is held by host \"{}\"",
                other.host
            ))),
            Err(error) if error.kind() == ErrorKind::Denied => Ok(without_right(job)),
            Err(error) => Err(error.context(format!("check the lease of job \"{job}\""))),
        }
    }
}

/// What stands where the lease would.
enum Present {
    /// Nothing that holds; to be written in this mode.
    Free(PutMode),
    Held(LeaseDocument),
}

impl Lease {
    async fn present(&self, ttl: Duration, now: Timestamp) -> Result<Present> {
        let meta = match self.store.head(&self.key).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Present::Free(PutMode::Create)),
            other => other?,
        };
        let ttl = exact::saturating_signed(ttl);
        if now.duration_since(meta.modified) > ttl {
            return Ok(Present::Free(PutMode::Overwrite));
        }
        match self.store.get(&self.key, document::MAX_DOCUMENT_BYTES).await {
            // Released just now, or damaged: nobody is known to hold it.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Present::Free(PutMode::Create)),
            Ok(bytes) => Ok(document::decode(&bytes).map_or(Present::Free(PutMode::Overwrite), Present::Held)),
            Err(error) => Err(error),
        }
    }

    async fn take(self, mode: PutMode) -> Result<LeaseAttempt> {
        let put = self
            .store
            .put(&self.key, self.body.clone(), mode, &ObjectOptions::default())
            .await;
        match put {
            Ok(()) => Ok(LeaseAttempt::Held(self)),
            Err(error) if error.kind() == ErrorKind::Denied => Ok(LeaseAttempt::Without(format!(
                "the credentials do not allow writing \"{}\"",
                self.key
            ))),
            // Somebody was faster, or a repeated put met our own.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let present = self.store.get(&self.key, document::MAX_DOCUMENT_BYTES).await?;
                if present == self.body {
                    return Ok(LeaseAttempt::Held(self));
                }
                document::decode(&present).map(LeaseAttempt::Busy)
            }
            Err(error) => Err(error.with_hint("The run may go on without its lease.")),
        }
        .context("write lease")
    }

    /// Renews the lease, if it is still ours.
    pub async fn renew(&self) -> Result<Renewal> {
        match self.store.get(&self.key, document::MAX_DOCUMENT_BYTES).await {
            Ok(bytes) if bytes == self.body => {}
            Ok(bytes) => return Ok(Renewal::Lost(document::decode(&bytes).ok())),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Renewal::Lost(None)),
            Err(error) => return Err(error.context("read lease")),
        }
        let options = ObjectOptions::default();
        let put = self
            .store
            .put(&self.key, self.body.clone(), PutMode::Overwrite, &options);
        put.await.context("renew lease").map(|()| Renewal::Renewed)
    }

    /// Gives the lease back, if it is still ours.
    pub async fn release(self) -> Result<()> {
        if self.is_ours().await? {
            self.store.delete(&self.key).await.context("release lease")?;
        }
        Ok(())
    }

    async fn is_ours(&self) -> Result<bool> {
        match self.store.get(&self.key, document::MAX_DOCUMENT_BYTES).await {
            Ok(bytes) => Ok(bytes == self.body),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.context("read lease")),
        }
    }
}

fn without_right(job: &str) -> LeaseAttempt {
    LeaseAttempt::Without(format!(
        "the credentials do not allow looking at the lease of job \"{job}\""
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use jiff::SignedDuration;

    use super::*;
    use crate::storage::ObjectStore;
    use crate::storage::memory::MemoryStore;

    const TTL: Duration = Duration::from_secs(600);

    struct Bench {
        memory: Arc<MemoryStore>,
        repository: Repository,
        locks: tempfile::TempDir,
    }

    impl Bench {
        async fn new() -> Self {
            let memory = Arc::new(MemoryStore::new());
            let repository = Repository::init(memory.clone()).await.unwrap();
            let locks = tempfile::tempdir().unwrap();
            Self {
                memory,
                repository,
                locks,
            }
        }

        async fn ask(&self, host: &str, run: u64) -> LeaseAttempt {
            let now = self.memory.now().await.unwrap();
            let run = SnapshotId::new(now, "full", run);
            let locks = self.locks.path();
            let asked = self.repository.lease("full", host, &run, (TTL, now), Some(locks));
            asked.await.unwrap()
        }

        async fn hold(&self, host: &str, run: u64) -> Lease {
            match self.ask(host, run).await {
                LeaseAttempt::Held(lease) => lease,
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_second_run_of_the_job_is_told_and_another_host_is_not_held_up() {
        let bench = Bench::new().await;
        let lease = bench.hold("web1", 1).await;
        assert!(matches!(bench.ask("web1", 2).await, LeaseAttempt::Busy(other) if other.host == "web1"));
        assert!(matches!(bench.ask("web2", 3).await, LeaseAttempt::Without(_)));
        assert_eq!(lease.renew().await.unwrap(), Renewal::Renewed);
        lease.release().await.unwrap();
        bench.hold("web1", 4).await;
    }

    #[tokio::test]
    async fn an_expired_lease_is_taken_over_and_its_former_holder_leaves_it_alone() {
        let bench = Bench::new().await;
        let old = bench.hold("web1", 1).await;
        bench.memory.advance(SignedDuration::from_secs(601));
        let new = bench.hold("web1", 2).await;
        let Renewal::Lost(Some(taker)) = old.renew().await.unwrap() else {
            panic!("it was taken over");
        };
        assert!(taker.host == "web1" && taker.run.as_str().ends_with('2'), "{taker:?}");
        old.release().await.unwrap();
        assert_eq!(new.renew().await.unwrap(), Renewal::Renewed);
        bench.memory.delete(&layout::lock("full").unwrap()).await.unwrap();
        assert_eq!(new.renew().await.unwrap(), Renewal::Lost(None));
    }

    #[tokio::test]
    async fn a_lease_whose_process_is_gone_is_taken_over_at_once_and_a_strangers_is_not() {
        let bench = Bench::new().await;
        let run = SnapshotId::new(bench.memory.now().await.unwrap(), "full", 7);
        let mut dead = LeaseDocument {
            format: document::FORMAT,
            job: "full".to_owned(),
            host: "web1".to_owned(),
            // In a container both processes are number 1; here both are this one.
            pid: std::process::id(),
            run,
            holder: Holder::this(),
        };
        let write = async |lease: &LeaseDocument| {
            let (key, body) = (layout::lock("full").unwrap(), document::encode(lease).unwrap());
            let options = ObjectOptions::default();
            let put = bench.memory.put(&key, body.into(), PutMode::Overwrite, &options);
            put.await.unwrap();
        };
        write(&dead).await;
        assert!(matches!(bench.ask("web1", 2).await, LeaseAttempt::Busy(_)), "it runs");
        dead.holder.as_mut().unwrap().started -= 1;
        write(&dead).await;
        assert!(
            matches!(bench.ask("web2", 3).await, LeaseAttempt::Without(_)),
            "another host cannot know"
        );
        bench.hold("web1", 4).await;
        // One of another container is not seen here, and not gone for that: only its lock says so.
        let mut elsewhere = dead.clone();
        let holder = elsewhere.holder.as_mut().unwrap();
        holder.pid_namespace = holder.pid_namespace.map(|inode| inode + 1);
        write(&elsewhere).await;
        assert!(matches!(bench.ask("web1", 2).await, LeaseAttempt::Busy(_)));
        let name = lock_name(bench.repository.id(), &elsewhere.run);
        let lock = LockFile::create(bench.locks.path(), &name).unwrap();
        assert!(matches!(bench.ask("web1", 2).await, LeaseAttempt::Busy(_)));
        drop(lock);
        std::fs::write(bench.locks.path().join(&name), "").unwrap();
        bench.hold("web1", 4).await;
        assert_eq!(std::fs::read_dir(bench.locks.path()).unwrap().count(), 0);
        // What an older version wrote does not say which process it was.
        dead.holder = None;
        write(&dead).await;
        assert!(matches!(bench.ask("web1", 5).await, LeaseAttempt::Busy(_)));
    }

    #[tokio::test]
    async fn a_damaged_lease_holds_nobody_up() {
        let bench = Bench::new().await;
        let key = layout::lock("full").unwrap();
        let options = ObjectOptions::default();
        let body = Bytes::from_static(b"{}");
        bench
            .memory
            .put(&key, body, PutMode::Overwrite, &options)
            .await
            .unwrap();
        bench.hold("web1", 1).await;
    }
}
