//! The lease of a job during a backup: two runs of one job on one host would only waste each other's time.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::repository::lease::{Lease, LeaseAttempt};
use crate::repository::{Repository, RunOptions, SnapshotId};

/// A held lease with the task that renews it.
#[derive(Debug)]
pub(super) struct HeldLease {
    lease: Arc<Lease>,
    renewing: AbortOnDropHandle<()>,
}

/// Takes the lease of a job. Sources given on the command line have none; where the store or the credentials do not allow
/// one, the run goes on without it and says so.
pub(super) async fn take(
    repository: &Repository,
    job: &str,
    host: &str,
    run: &SnapshotId,
    times: &RunOptions,
) -> Result<Option<HeldLease>> {
    if job == crate::config::ADHOC_JOB {
        return Ok(None);
    }
    let now = match repository.store().now().await {
        Ok(now) => now,
        Err(error) => return Ok(without(&error.chain())),
    };
    match repository.lease(job, host, run, times.lease_ttl, now).await {
        Ok(LeaseAttempt::Held(lease)) => {
            let lease = Arc::new(lease);
            let (renewed, pause) = (Arc::clone(&lease), times.heartbeat);
            let renewing = AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    tokio::time::sleep(pause).await;
                    if let Err(error) = renewed.renew().await {
                        tracing::debug!("renew the job's lease: {}", error.chain());
                    }
                }
            }));
            Ok(Some(HeldLease { lease, renewing }))
        }
        Ok(LeaseAttempt::Busy(other)) => {
            let message = format!(
                "job \"{job}\" is running on {} already (process {}, run {})",
                other.host, other.pid, other.run
            );
            let minutes = times.lease_ttl.as_secs().div_ceil(60);
            Err(Error::new(ErrorKind::AlreadyExists, message).with_hint(format!(
                "Wait for it to end; if it died, its lease expires after {minutes} minutes."
            )))
        }
        Ok(LeaseAttempt::Without(why)) => Ok(without(&why)),
        Err(error) => Ok(without(&error.chain())),
    }
}

fn without(why: &str) -> Option<HeldLease> {
    tracing::info!("the job runs without a lease: {why}");
    None
}

impl HeldLease {
    /// Gives the lease back.
    pub(super) async fn release(self) {
        // Until the task has ended it holds the lease as well, and a renewal under way would bring it back.
        self.renewing.abort();
        let _ = self.renewing.await;
        let Some(lease) = Arc::into_inner(self.lease) else {
            return;
        };
        if let Err(error) = lease.release().await.context("give the job's lease back") {
            tracing::debug!("{}", error.chain());
        }
    }
}
