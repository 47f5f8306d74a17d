//! The lease of a job during a backup: two runs of one job on one host would only waste each other's time.

use std::path::Path;
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::repository::lease::{Lease, LeaseAttempt, LeaseDocument, Renewal};
use crate::repository::{Repository, RunOptions, SnapshotId};

/// A held lease with the task that renews it.
#[derive(Debug)]
pub(crate) struct HeldLease {
    lease: Arc<Lease>,
    renewing: AbortOnDropHandle<()>,
}

/// Takes the lease of a job. Sources given on the command line have none; where the store or the credentials do not allow
/// one, the run goes on without it and says so.
pub(crate) async fn take(
    repository: &Repository,
    job: &str,
    host: &str,
    run: &SnapshotId,
    times: &RunOptions,
    locks: Option<&Path>,
) -> Result<Option<HeldLease>> {
    if job == crate::repository::ADHOC_JOB {
        return Ok(None);
    }
    let now = match repository.store().now().await {
        Ok(now) => now,
        Err(error) => return Ok(without(&error.chain())),
    };
    match repository.lease(job, host, run, (times.lease_ttl, now), locks).await {
        Ok(LeaseAttempt::Held(lease)) => {
            let lease = Arc::new(lease);
            let (renewed, pause, job) = (Arc::clone(&lease), times.heartbeat, job.to_owned());
            let renewing = AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    tokio::time::sleep(pause).await;
                    match renewed.renew().await {
                        Ok(Renewal::Renewed) => {}
                        Ok(Renewal::Lost(other)) => {
                            // Nothing rests on a lease: this snapshot is as sound without it, and may be the only one.
                            tracing::warn!("{}", lost(&job, other.as_ref()));
                            return;
                        }
                        Err(error) => tracing::debug!("renew the job's lease: {}", error.chain()),
                    }
                }
            }));
            Ok(Some(HeldLease { lease, renewing }))
        }
        Ok(LeaseAttempt::Busy(other)) => {
            let message = format!(
                "job \"{job}\" is already running on {} (process {}, run {})",
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

/// Says that another run has the lease of one that is at work.
fn lost(job: &str, other: Option<&LeaseDocument>) -> String {
    match other {
        Some(other) => format!(
            "another run of job \"{job}\" is active ({} on {}, process {}): it took over the lease, which was not \
             renewed in time; both continue, and both may store a snapshot",
            other.run, other.host, other.pid
        ),
        None => format!(
            "the lease of job \"{job}\" is missing from the repository: this run continues, but cannot keep another \
             one from starting"
        ),
    }
}

fn without(why: &str) -> Option<HeldLease> {
    tracing::info!("the job runs without a lease: {why}");
    None
}

impl HeldLease {
    /// Gives the lease back.
    pub(crate) async fn release(self) {
        // Until the task has ended it holds the lease as well, and a renewal under way would bring it back.
        self.renewing.abort();
        let _ = self.renewing.await;
        let Some(lease) = Arc::into_inner(self.lease) else {
            return;
        };
        if let Err(error) = lease.release().await.context("release the job's lease") {
            tracing::debug!("{}", error.chain());
        }
    }
}
