//! `prune`: expires snapshots by the keep rules and sweeps what no snapshot needs.
//!
//! Deciding and doing are two steps: `--dry-run` prints both plans and stops there. Expiring removes manifests only; data
//! without a manifest go by the sweep, once they are older than its grace by the store's clock.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, json};

use crate::cli::args;
use crate::commands::said::said;
use crate::commands::snapshots::open_repository;
use crate::commands::{Outcome, Session, Status};
use crate::config::format_bytes;
use crate::error::{Context, Result};
use crate::repository::Repository;
use crate::repository::sweep::{SweepOptions, SweepPlan, SweepReport};
use crate::retention::{PrunePlan, RetentionPolicy, SnapshotFacts, decide};

/// Decides, prints or removes, then sweeps.
pub async fn run(session: &Session, options: &args::Prune) -> Outcome {
    let repository = open_repository(session).await?;
    let (plan, damaged) = plan(session, &repository, options).await?;
    let mut text = plan.to_string();
    for (id, error) in &damaged {
        text.push_str(&format!("keep   {id}: its manifest cannot be read ({error})\n"));
    }
    if !options.dry_run {
        for id in plan.expired() {
            session.check_cancelled()?;
            repository.remove_snapshot(id).await?;
        }
    }
    let (kept, expired) = (plan.kept().count() + damaged.len(), plan.expired().count());
    let did = if options.dry_run { "would expire" } else { "expired" };
    text.push_str(&format!("{did} {expired} of {} snapshots\n", kept + expired));

    let mut document = Map::new();
    document.insert("dry_run".into(), json!(options.dry_run));
    document.insert("decisions".into(), json!(plan.decisions));
    document.insert("damaged".into(), json!(damaged));
    let mut status = Status::Done;
    if !options.no_sweep {
        let now = repository.store().now().await.context("ask the store for the time")?;
        let sweep = session
            .or_cancelled(repository.sweep_plan(now, &SweepOptions::default()))
            .await?;
        text.push_str(&planned_text(&sweep, options.dry_run));
        let planned = json!({ "items": sweep.items, "waiting": sweep.waiting, "notes": sweep.notes });
        document.insert("sweep".into(), planned);
        if !options.dry_run {
            let report = repository.sweep(&sweep).await;
            if !sweep.is_empty() || report.leftovers > 0 {
                text.push_str(&swept_text(&report));
            }
            let swept = json!({
                "objects": report.objects, "bytes": report.bytes, "uploads": report.uploads,
                "leftovers": report.leftovers, "notes": report.notes,
                "failures": report.failures.iter().map(|(id, e)| json!({ "id": id, "error": e.chain() })).collect::<Vec<_>>(),
            });
            document.insert("swept".into(), swept);
            if !report.failures.is_empty() {
                status = Status::Partial;
            }
        }
    }
    said(document.into(), text, status)
}

/// Reads every manifest and applies the rules; returns also the snapshots that nothing may be concluded about.
async fn plan(
    session: &Session,
    repository: &Repository,
    options: &args::Prune,
) -> Result<(PrunePlan, Vec<(String, String)>)> {
    let survey = session
        .or_cancelled(repository.survey(|manifest: &crate::repository::Manifest| SnapshotFacts::from(manifest)))
        .await?;
    let mut facts = survey.snapshots;
    facts.retain(|snapshot| options.job.as_ref().is_none_or(|job| *job == snapshot.job));
    let name = session.repository_config()?.name;
    let given = given_policy(options);
    let policy_of = |_host: &str, job: &str| {
        given.or_else(|| {
            let job = session.config.jobs.iter().find(|configured| configured.name == job)?;
            job.keep_in.get(&name).or(job.keep.as_ref()).map(RetentionPolicy::from)
        })
    };
    let plan = decide(&facts, policy_of, Timestamp::now(), &TimeZone::system());
    let damaged = survey
        .damaged
        .iter()
        .map(|(id, error)| (id.to_string(), error.chain()))
        .collect();
    Ok((plan, damaged))
}

/// Returns the rules on the command line; they replace those of the configuration.
fn given_policy(options: &args::Prune) -> Option<RetentionPolicy> {
    let policy = RetentionPolicy {
        last: options.keep_last.unwrap_or(0),
        within_days: options.keep_within.unwrap_or(0),
        daily: options.keep_daily.unwrap_or(0),
        weekly: options.keep_weekly.unwrap_or(0),
        monthly: options.keep_monthly.unwrap_or(0),
        ..RetentionPolicy::default()
    };
    (!policy.is_empty()).then_some(policy)
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
            "{} runs or removed snapshots wait for their grace of {hours} h\n",
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
        text.push_str(&format!("removed {} left temporary files\n", report.leftovers));
    }
    for note in &report.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    for (id, error) in &report.failures {
        text.push_str(&format!("  failed {id}: {}\n", error.chain()));
    }
    text
}
