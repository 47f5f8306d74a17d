//! `prune`: expires snapshots by the keep rules and sweeps what no snapshot needs.
//!
//! Deciding and doing are two steps: `--dry-run` prints both plans and stops there. Expiring removes manifests only; data
//! without a manifest go by the sweep, once they are older than its grace by the store's clock. Pins and locks of the store
//! stand above the rules, and a plan that would leave a job nothing is refused.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt};
use jiff::tz::TimeZone;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::units::format_bytes;
use crate::operations::log::prune::{FailedLog, KnownBases, Pruned, PrunedLog};
use crate::operations::log::redis::prune::PrunedStream;
use crate::operations::snapshots::open_to_change;
use crate::operations::{Report, Session, Status, document_of, log, options};
use crate::policy::retention::{PrunePlan, Reason, RetentionPolicy, SnapshotFacts, decide};
use crate::repository::sweep::{SweepOptions, SweepPlan, SweepReport};
use crate::repository::{Manifest, PRE_RESTORE_JOB, Repository, SnapshotId, layout};

/// What `prune` did. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct PruneReport {
    /// Whether it only says what would be done.
    pub dry_run: bool,
    /// What becomes of each snapshot.
    #[serde(flatten)]
    pub plan: PrunePlan,
    /// Snapshots that nothing may be concluded about, and why: they stay.
    pub damaged: Vec<(SnapshotId, String)>,
    /// What is to be swept; nothing where it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepPlan>,
    /// What no base needs of logs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<PrunedLog>,
    /// What no snapshot needs of command streams.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<PrunedStream>,
    /// Logs with which something failed; the others were pruned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_failures: Vec<FailedLog>,
    /// What was swept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swept: Option<SweepReport>,
}

impl Report for PruneReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        let mut text = self.plan.to_string();
        for (id, error) in &self.damaged {
            text.push_str(&format!("keep   {id}: its manifest cannot be read ({error})\n"));
        }
        let (kept, expired) = (
            self.plan.kept().count() + self.damaged.len(),
            self.plan.expired().count(),
        );
        let did = if self.dry_run { "would expire" } else { "expired" };
        text.push_str(&format!("{did} {expired} of {} snapshots\n", kept + expired));
        for log in &self.logs {
            text.push_str(&log.text(self.dry_run));
        }
        for stream in &self.streams {
            text.push_str(&stream.text(self.dry_run));
        }
        for failed in &self.log_failures {
            text.push_str(&format!("failed log {}: {}\n", failed.log, failed.error));
        }
        if let Some(sweep) = &self.sweep {
            text.push_str(&planned_text(sweep, self.dry_run));
        }
        let nothing = self.sweep.as_ref().is_none_or(SweepPlan::is_empty);
        if let Some(swept) = self.swept.as_ref().filter(|swept| !nothing || swept.leftovers > 0) {
            text.push_str(&swept_text(swept));
        }
        text
    }

    fn status(&self) -> Status {
        match &self.swept {
            Some(swept) if !swept.failures.is_empty() => Status::Partial,
            _ if !self.log_failures.is_empty() => Status::Partial,
            _ if self.logs.iter().any(|log| log.refused.is_some()) => Status::Partial,
            _ if self.streams.iter().any(|stream| stream.refused.is_some()) => Status::Partial,
            _ => Status::Done,
        }
    }
}

/// Decides, removes unless it is only to be shown, then sweeps.
pub async fn run(session: &Session, options: &options::Prune) -> Result<PruneReport> {
    let repository = open_to_change(session).await?;
    let (mut plan, damaged, bases) = plan(session, &repository, options).await?;
    plan.check()?;
    if !options.dry_run {
        remove(session, &repository, &mut plan).await?;
    }
    let pruned = match bases {
        Some(mut bases) if !options.no_sweep => {
            let expired: BTreeSet<&SnapshotId> = plan.expired().collect();
            bases.retain(|snapshot| !expired.contains(snapshot));
            log::prune::prune(session, &repository, &bases, options.dry_run).await?
        }
        _ => Pruned::default(),
    };
    let mut report = PruneReport {
        dry_run: options.dry_run,
        plan,
        damaged,
        sweep: None,
        logs: pruned.systems,
        streams: pruned.streams,
        log_failures: pruned.failures,
        swept: None,
    };
    if !options.no_sweep {
        let now = repository.store().now().await.context("ask the store for the time")?;
        let sweep = session
            .or_cancelled(repository.sweep_plan(now, &SweepOptions::default()))
            .await?;
        if !options.dry_run {
            report.swept = Some(repository.sweep(&sweep).await);
        }
        report.sweep = Some(sweep);
    }
    Ok(report)
}

/// Removes what expires. A pin that was written since the plan was made still holds.
async fn remove(session: &Session, repository: &Repository, plan: &mut PrunePlan) -> Result<()> {
    for id in plan.expired().cloned().collect::<Vec<_>>() {
        session.check_cancelled()?;
        if repository.is_pinned(&id).await? {
            plan.keep(&id, &Reason::Pinned(String::new()));
        } else {
            repository
                .remove_snapshot_by(&id, "expired: no keep rule keeps it")
                .await?;
        }
    }
    repository.forget_removals().await
}

/// Reads every manifest and applies the rules; returns also the snapshots that nothing may be concluded about, and all bases of
/// logs, if all are known.
async fn plan(
    session: &Session,
    repository: &Repository,
    options: &options::Prune,
) -> Result<(PrunePlan, Vec<(SnapshotId, String)>, Option<KnownBases>)> {
    let survey = session
        .or_cancelled(
            repository.survey(|manifest: &Manifest| (SnapshotFacts::from(manifest), KnownBases::of(manifest))),
        )
        .await?;
    let mut bases = survey.damaged.is_empty().then(KnownBases::default);
    let mut facts = Vec::with_capacity(survey.snapshots.len());
    for (snapshot, found) in survey.snapshots {
        facts.push(snapshot);
        bases = match (bases, found) {
            (Some(mut bases), Ok(found)) => {
                bases.extend(found);
                Some(bases)
            }
            _ => None,
        };
    }
    // What restores have put aside goes along: no job of its own would ever prune it.
    let wanted = |job: &str| options.job.as_ref().is_none_or(|wanted| wanted == job) || job == PRE_RESTORE_JOB;
    facts.retain(|snapshot| wanted(&snapshot.job));
    let pins = session.or_cancelled(repository.pins()).await?;
    for snapshot in &mut facts {
        snapshot.pin = pins.get(&snapshot.id).cloned();
    }
    let name = session.repository_config()?.name;
    let given = given_policy(options)?;
    let policy_of = |_host: &str, job: &str| {
        let configured = session.config.jobs.iter().find(|configured| configured.name == job);
        let configured = configured.and_then(|job| job.keep_in.get(&name).or(job.keep.as_ref()));
        let configured = configured.map(RetentionPolicy::from);
        // Rules by hand replace those of the file; the minimum of the file holds against them too.
        given.map_or(configured, |given| {
            let minimum = configured.map_or(0, |policy| policy.minimum);
            Some(RetentionPolicy { minimum, ..given })
        })
    };
    // Never by this host's clock, which may be wrong: it would expire what is young.
    let now = session.or_cancelled(repository.store().now()).await;
    let now = now.context("ask the store for the time")?;
    let mut plan = decide(&facts, policy_of, now, &TimeZone::system());
    session.or_cancelled(keep_locked(repository, &mut plan)).await?;
    let damaged = survey
        .damaged
        .iter()
        .map(|(id, error)| (id.clone(), error.chain()))
        .collect();
    Ok((plan, damaged, bases))
}

/// Keeps what the store would not let go: its manifest is locked. Only what would expire is asked about.
async fn keep_locked(repository: &Repository, plan: &mut PrunePlan) -> Result<()> {
    let expired: Vec<SnapshotId> = plan.expired().cloned().collect();
    if expired.is_empty() {
        return Ok(());
    }
    let now = repository.store().now().await.context("ask the store for the time")?;
    let look = |id: SnapshotId| async move {
        let found = repository.store().head(&layout::manifest(&id)?).await;
        let locked = match found {
            Ok(meta) => meta.locked_until.filter(|until| *until > now),
            // Gone since, or not for these credentials to see: then the removal itself will tell.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Denied) => None,
            Err(error) => return Err(error.context(format!("look for a lock of snapshot {id}"))),
        };
        Ok((id, locked))
    };
    let mut looks = futures_util::stream::iter(expired).map(look).buffer_unordered(8);
    while let Some((id, locked)) = looks.try_next().await? {
        if let Some(until) = locked {
            plan.keep(&id, &Reason::Locked(until));
        }
    }
    Ok(())
}

/// Returns the rules on the command line; they replace those of the configuration.
fn given_policy(options: &options::Prune) -> Result<Option<RetentionPolicy>> {
    let given = [
        options.keep_last,
        options.keep_within,
        options.keep_hourly,
        options.keep_daily,
        options.keep_weekly,
        options.keep_monthly,
        options.keep_yearly,
    ];
    let [last, within_days, hourly, daily, weekly, monthly, yearly] = given.map(Option::unwrap_or_default);
    let policy = RetentionPolicy {
        last,
        within_days,
        hourly,
        daily,
        weekly,
        monthly,
        yearly,
        minimum: 0,
    };
    if policy.is_empty() && given.iter().any(Option::is_some) {
        return Err(Error::invalid("these rules keep no snapshot")
            .with_hint("Give at least one rule with a number above 0, for example --keep-last 1."));
    }
    Ok((!policy.is_empty()).then_some(policy))
}

fn planned_text(plan: &SweepPlan, dry_run: bool) -> String {
    let mut text = String::new();
    if dry_run {
        for item in &plan.items {
            text.push_str(&format!(
                "sweep  {}: {} objects, {}\n",
                item.id,
                item.objects,
                format_bytes(item.bytes)
            ));
        }
        let (objects, bytes) = plan.totals();
        text.push_str(&format!("would sweep {objects} objects, {}\n", format_bytes(bytes)));
    }
    if !plan.waiting.is_empty() {
        let hours = plan.options.grace.as_secs() / 3600;
        text.push_str(&format!(
            "{} runs or removed snapshots are in their grace period of {hours} h\n",
            plan.waiting.len()
        ));
    }
    text
}

fn swept_text(report: &SweepReport) -> String {
    let mut text = format!(
        "swept {} objects, {}, {} uploads\n",
        report.objects,
        format_bytes(report.bytes),
        report.uploads
    );
    if report.leftovers > 0 {
        text.push_str(&format!("removed {} leftover temporary files\n", report.leftovers));
    }
    for note in &report.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    for (id, error) in &report.failures {
        text.push_str(&format!("  failed {id}: {}\n", error.chain()));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use bytes::Bytes;
    use jiff::Timestamp;

    use super::*;
    use crate::policy::retention::Decision;
    use crate::storage::memory::MemoryStore;
    use crate::storage::{ObjectOptions, ObjectStore, PutMode};

    /// The store is asked only about what would expire, and its word stands above the rules.
    #[tokio::test]
    async fn a_locked_snapshot_counts_as_kept_until_the_lock_ends() {
        let store = Arc::new(MemoryStore::new());
        let repository = Repository::init(store.clone()).await.unwrap();
        let mut plan = PrunePlan::default();
        for (hour, lock_hours) in [(1, None), (2, Some(48)), (3, Some(-1))] {
            let started = Timestamp::from_second(hour * 3600).unwrap();
            let id = SnapshotId::new(started, "full", 1);
            let key = layout::manifest(&id).unwrap();
            let body = Bytes::from_static(b"manifest");
            store
                .put(&key, body, PutMode::Create, &ObjectOptions::default())
                .await
                .unwrap();
            if let Some(hours) = lock_hours {
                store.lock_object(key, Timestamp::now() + jiff::SignedDuration::from_hours(hours));
            }
            let snapshot = SnapshotFacts {
                id,
                host: "h".into(),
                job: "full".into(),
                started,
                finished: started,
                sources: [("db".to_owned(), true)].into(),
                optional: std::collections::BTreeSet::new(),
                pin: None,
            };
            let reasons = std::collections::BTreeSet::new();
            plan.decisions.push(Decision { snapshot, reasons });
        }
        keep_locked(&repository, &mut plan).await.unwrap();
        let kept: Vec<bool> = plan.decisions.iter().map(Decision::keeps).collect();
        assert_eq!(kept, [false, true, false], "{plan}");
        assert!(plan.to_string().contains("locked by the store until"), "{plan}");
    }
}
