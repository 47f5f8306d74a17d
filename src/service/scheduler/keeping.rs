//! The records of what the scheduler runs.

use jiff::Timestamp;

use super::task::Work;
use super::{Scheduler, TaskKind, with_config};
use crate::config::RepositoryConfig;
use crate::operations::records;
use crate::repository::{RunOutcome, RunRecord, document};

impl Scheduler<'_> {
    /// The record of a task that ends now.
    pub(super) fn record(&self, task: TaskKind, name: &str, started: Timestamp) -> RunRecord {
        let job = self
            .config
            .jobs
            .iter()
            .find(|job| task == TaskKind::Backup && job.name == name);
        let job = job.map(|job| records::expected_job(&self.config, job));
        RunRecord {
            format: document::FORMAT,
            host: with_config(self.session, &self.config).host(),
            task,
            name: name.to_owned(),
            started,
            ended: self.now().max(started),
            outcome: RunOutcome::Failed,
            error: None,
            hint: None,
            log: vec![],
            snapshots: vec![],
            schedule: job.as_ref().and_then(|job| job.schedule.clone()),
            sources: job.map(|job| job.sources).unwrap_or_default(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The repositories that a task is about.
    pub(super) fn repositories(&self, name: &str, work: &Work) -> Vec<RepositoryConfig> {
        let goes_there = |job: &str, repository: &RepositoryConfig| {
            let job = self.config.jobs.iter().find(|one| one.name == job);
            job.is_none_or(|job| job.repositories.is_empty() || job.repositories.contains(&repository.name))
        };
        let wanted = |repository: &&RepositoryConfig| match work {
            Work::Backup { .. } => goes_there(name, repository),
            Work::Copy { job } => goes_there(job, repository),
            Work::Drill(drill) => drill.repository.as_ref().is_none_or(|name| *name == repository.name),
            Work::Cleanup(_) => true,
        };
        let session = with_config(self.session, &self.config);
        match &session.repository {
            Some(_) => session.repository_config().into_iter().collect(),
            None => self.config.repositories.iter().filter(wanted).cloned().collect(),
        }
    }

    /// Keeps the record of a run, and looks at what the run left: what is told next is already so for whoever asks.
    pub(super) async fn keep(&mut self, repositories: &[RepositoryConfig], record: RunRecord) {
        let session = with_config(self.session, &self.config);
        records::keep(&session, repositories, &record).await;
        self.state.keep(record, self.now());
        self.look_now().await;
    }
}
