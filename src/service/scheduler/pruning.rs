//! Keep rules: after each run of their job, and once a day for jobs that seldom run.

use super::{Event, REACH, Scheduler, with_config};
use crate::config::JobConfig;
use crate::operations::{options, prune};

impl Scheduler<'_> {
    /// Applies the keep rules of a job whose turn it is.
    pub(super) async fn prune_one(&mut self) -> bool {
        if self.drills_only {
            return false;
        }
        let now = self.session.clock.instant();
        let has_rules = |job: &&JobConfig| job.keep.is_some() || !job.keep_in.is_empty();
        let jobs = self.config.jobs.iter().filter(has_rules).map(|job| job.name.as_str());
        let Some(name) = self.turns.next_prune(jobs, now).map(str::to_owned) else {
            return false;
        };
        self.prune(&name).await;
        true
    }

    /// Applies the job's keep rules where it has some.
    pub(super) async fn prune(&mut self, name: &str) {
        self.turns.pruned(name, self.session.clock.instant());
        let plans = match with_config(self.session, &self.config).plans(&[name.to_owned()]) {
            Ok(plans) => plans,
            Err(error) => return tracing::warn!("prune after job \"{name}\": {}", error.chain()),
        };
        for plan in plans.into_iter().filter(|plan| plan.keep.is_some()) {
            if self.session.cancel.is_cancelled() {
                return;
            }
            let mut session = with_config(self.session, &self.config);
            session.repository.get_or_insert_with(|| plan.repository.name.clone());
            // Retries would keep the other jobs waiting; the keep rules come again with the next run.
            let reached = tokio::time::timeout(REACH, crate::operations::snapshots::open_repository(&session)).await;
            let url = plan.repository.url;
            match reached {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!("prune {url} after job \"{name}\": {}", error.chain());
                    continue;
                }
                Err(_) => {
                    tracing::warn!("prune {url} after job \"{name}\": no answer in time");
                    continue;
                }
            }
            let recent = self.turns.is_swept(&url, self.session.clock.instant());
            let options = options::Prune {
                job: Some(name.to_owned()),
                no_sweep: recent,
                ..options::Prune::default()
            };
            match Box::pin(prune::run(&session, &options)).await {
                Ok(report) => {
                    if !recent {
                        self.turns.swept(&url, self.session.clock.instant());
                    }
                    self.tell(&Event::pruned(name, &url, &report));
                    self.news = true;
                }
                Err(error) => tracing::warn!("prune {url} after job \"{name}\": {}", error.chain()),
            }
        }
    }
}
