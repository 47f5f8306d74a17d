//! The repositories of one run: each gets the same snapshot id, the same stored bytes, and a manifest of its own.
//!
//! A repository that cannot be opened, or holds the others back for longer than the job's `max_stall` in all, is left
//! behind: the others commit. What it has by then stays there; `copy` finishes it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::config::Plan;
use crate::operations::clock;
use crate::operations::lease::{self, HeldLease};
use crate::operations::{Session, meant};
use crate::repository::{Manifest, Repository, Run, RunOptions, SnapshotId, layout};
use crate::storage::mirror::{MirrorStore, MirrorTarget};
use crate::storage::upload::UploadOptions;
use crate::storage::{ObjectOptions, SharedStore};

/// What a repository that was left behind still has open may take so long to be given up.
const GIVE_UP: Duration = Duration::from_secs(10);

/// A repository that takes part in a run.
pub(crate) struct Target<'a> {
    /// Its place among the plans.
    pub(crate) at: usize,
    pub(crate) plan: &'a Plan,
    pub(crate) repository: Repository,
    /// Whether this run made it.
    created: bool,
    run: Arc<Run>,
    lease: Option<HeldLease>,
}

/// Opens each repository, begins the run there and takes the lease. Returns those that are ready, and why others are not.
pub(crate) async fn prepare<'a>(
    session: &Session,
    plans: &'a [Plan],
    id: &SnapshotId,
    host: &str,
    times: &RunOptions,
) -> (Vec<Target<'a>>, Vec<(usize, Error)>) {
    let (mut ready, mut failed) = (Vec::new(), Vec::new());
    let patience = plans.iter().map(|plan| plan.max_stall).min().unwrap_or_default();
    let begin = |(at, plan)| async move { (at, begin(session, (at, plan), id, host, times).await) };
    let mut all: FuturesUnordered<_> = plans.iter().enumerate().map(begin).collect();
    let mut waited_since = None;
    loop {
        let next = match waited_since {
            // Nobody waits for anybody yet.
            None => all.next().await,
            Some(since) => tokio::time::timeout_at(since, all.next()).await.unwrap_or_default(),
        };
        match next {
            None => break,
            Some((_, Ok(target))) => {
                ready.push(target);
                waited_since.get_or_insert_with(|| tokio::time::Instant::now() + patience);
            }
            Some((at, Err(error))) => failed.push((at, error)),
        }
    }
    drop(all);
    for (at, plan) in plans.iter().enumerate() {
        let known =
            ready.iter().any(|target: &Target<'_>| target.at == at) || failed.iter().any(|(other, _)| *other == at);
        if !known {
            let message = format!("no answer from {}", plan.repository.url);
            failed.push((at, Error::new(ErrorKind::TimedOut, message)));
        }
    }
    ready.sort_by_key(|target| target.at);
    (ready, failed)
}

async fn begin<'a>(
    session: &Session,
    (at, plan): (usize, &'a Plan),
    id: &SnapshotId,
    host: &str,
    times: &RunOptions,
) -> Result<Target<'a>> {
    let (repository, created) = open_or_create(session, plan).await?;
    session.or_cancelled(clock::agree(&repository)).await?;
    let (store, cancel) = (repository.store().clone(), session.cancel.child_token());
    let run = session
        .or_cancelled(Run::begin(store, id.clone(), &plan.job, host, times.clone(), cancel))
        .await?;
    let locks = session.state.directory().map(|state| state.join("leases"));
    match lease::take(&repository, &plan.job, host, id, times, locks.as_deref()).await {
        Ok(lease) => Ok(Target {
            at,
            plan,
            repository,
            created,
            run: Arc::new(run),
            lease,
        }),
        Err(busy) => {
            run.abandon().await;
            Err(busy)
        }
    }
}

/// Opens the repository; a place that never held one becomes one, so that the first backup needs no other command.
async fn open_or_create(session: &Session, plan: &Plan) -> Result<(Repository, bool)> {
    let act = || format!("open repository \"{}\"", plan.repository.url);
    let opened = meant::open_or_create(session, &plan.repository).await;
    let (repository, created) = opened.with_context(act)?;
    if created {
        tracing::warn!(
            "created repository {} at {}, not encrypted",
            repository.id(),
            plan.repository.url
        );
    }
    Ok((repository, created))
}

impl Target<'_> {
    /// Fails when the run has lost its lease here.
    pub(crate) fn check_lease(&self) -> Result<()> {
        self.run.check_lease()
    }

    /// Returns the id that the manifest names. Two first backups that met on a store without conditional writes have both
    /// made a repository, and the later one stands.
    pub(crate) async fn repository_id(&self) -> Result<String> {
        if !self.created {
            return Ok(self.repository.id().to_owned());
        }
        let there = Repository::open(self.repository.store().clone()).await;
        there.map(|repository| repository.id().to_owned())
    }

    /// Makes the snapshot exist here.
    pub(crate) async fn commit(self, manifest: &Manifest) -> Result<()> {
        let lease = self.lease;
        let result = match Arc::into_inner(self.run) {
            Some(run) => run.commit(manifest).await.context("commit the snapshot"),
            None => Err(Error::new(ErrorKind::Other, "the run is still in use")),
        };
        if let Some(lease) = lease {
            lease.release().await;
        }
        for note in result? {
            tracing::warn!("{note}");
        }
        Ok(())
    }

    /// Ends the run here without a snapshot.
    pub(crate) async fn abandon(self) {
        let lease = self.lease;
        if let Some(run) = Arc::into_inner(self.run) {
            run.abandon().await;
        }
        if let Some(lease) = lease {
            lease.release().await;
        }
    }

    /// Ends the run in a repository that may not answer any more: it is not waited for. A sweep finds what stays.
    pub(crate) async fn leave(self) {
        let _ = tokio::time::timeout(GIVE_UP, self.abandon()).await;
    }

    /// Removes the complete archives of a source that will not be in the snapshot, as far as the credentials allow; the
    /// rest waits for a sweep.
    pub(crate) async fn discard(&self, id: &SnapshotId, source: &str) {
        let Ok(data) = layout::source_data(id, source) else {
            return;
        };
        let (store, prefix) = (self.repository.store(), format!("{data}/"));
        let mut next = None;
        while let Ok(page) = store.list(&prefix, next).await {
            for object in &page.objects {
                if let Err(error) = store.delete(&object.key).await {
                    tracing::warn!("\"{}\" waits for a sweep: {}", object.key, error.chain());
                }
            }
            next = page.next;
            if next.is_none() {
                return;
            }
        }
    }
}

/// The way into all targets of a run.
pub(crate) struct WritePath {
    pub(crate) store: SharedStore,
    pub(crate) upload: UploadOptions,
    /// Ends the reading: by a signal, or when the lease of the only target is lost.
    pub(crate) cancel: CancellationToken,
    mirror: Option<Arc<MirrorStore>>,
    /// Watch the leases of several targets.
    _watching: Vec<AbortOnDropHandle<()>>,
}

impl WritePath {
    /// Joins the targets.
    pub(crate) fn into(session: &Session, targets: &[Target<'_>]) -> Result<Self> {
        let memory = session.memory();
        let object = ObjectOptions {
            storage_class: None,
            part_bytes: memory.part_bytes,
        };
        let mut upload = UploadOptions {
            part_bytes: memory.part_bytes,
            parts_in_flight: memory.parts_in_flight,
            object,
            ..UploadOptions::default()
        };
        if let [only] = targets {
            upload
                .object
                .storage_class
                .clone_from(&only.plan.repository.storage_class);
            upload.journal = Some(only.run.journal());
            return Ok(Self {
                store: only.repository.store().clone(),
                upload,
                cancel: only.run.cancel().clone(),
                mirror: None,
                _watching: vec![],
            });
        }
        let first = targets.first().ok_or_else(|| Error::invalid("no repository"))?;
        // The part buffers are divided: half for the writer, half for those that lag.
        let lagging = memory.parts_in_flight / 2;
        upload.parts_in_flight = memory.parts_in_flight.saturating_sub(lagging).max(1);
        let share = lagging / targets.len().saturating_sub(1).max(1);
        let target = |target: &Target<'_>| MirrorTarget {
            store: target.repository.store().clone(),
            storage_class: target.plan.repository.storage_class.clone(),
            journal: Some(target.run.journal()),
        };
        let all = targets.iter().map(target).collect();
        let mirror = Arc::new(MirrorStore::new(all, share, first.plan.max_stall));
        let watching = targets.iter().enumerate().map(|(at, target)| {
            let (run, mirror) = (Arc::downgrade(&target.run), Arc::clone(&mirror));
            let lost = target.run.cancel().clone();
            AbortOnDropHandle::new(tokio::spawn(async move {
                lost.cancelled().await;
                if let Some(Err(error)) = run.upgrade().map(|run| run.check_lease()) {
                    mirror.detach(at, error);
                }
            }))
        });
        let watching = watching.collect();
        Ok(Self {
            store: mirror.clone(),
            upload,
            cancel: session.cancel.child_token(),
            mirror: Some(mirror),
            _watching: watching,
        })
    }

    /// Why a target was left behind.
    pub(crate) fn left_behind(&self, index: usize) -> Option<Error> {
        self.mirror.as_ref().and_then(|mirror| mirror.detached(index))
    }

    /// Everything is written: leases are looked after by the commits themselves.
    pub(crate) fn written(self) -> Written {
        Written(self.mirror)
    }
}

/// What is left of a way when everything is written.
pub(crate) struct Written(Option<Arc<MirrorStore>>);

impl Written {
    /// Ends what those that were left behind have open.
    pub(crate) async fn give_up(self) {
        if let Some(mirror) = &self.0 {
            mirror.give_up_detached(GIVE_UP).await;
        }
    }
}
