//! `restore`: brings sources back. Everything is checked before the first write: the manifest, every index, presence
//! and size of every archive, of all sources together.

pub(crate) mod report;

use crate::archive::ArchiveReader;
use crate::base::error::{Context, ErrorKind, Result};
use crate::engines::{RestoreReport as _, Restorer, Spec, TargetPlan};
use crate::operations::choose::Purpose;
use crate::operations::destination::{self, Destination, destinations, select};
use crate::operations::log::recovery::{self, Aimed};
use crate::operations::log::redis::restore as commands;
use crate::operations::options;
use crate::operations::snapshots::{open_reader, open_repository, open_snapshot};
use crate::operations::{Outcome, Session, backup, settle, thaw};
use crate::repository::{Manifest, ManifestSource, Repository};
use report::{Again, PlannedSource, RestorePreview, RestoreReport, RestoredSource};

/// One source and what brings it back.
#[derive(Debug)]
struct Step<'a> {
    source: &'a ManifestSource,
    reader: ArchiveReader,
    restorer: Box<dyn Restorer>,
    /// What was found out about its target.
    plan: Option<Box<dyn TargetPlan>>,
}

/// Selects sources, opens and checks all of them, decides targets, and only then writes.
pub async fn run(session: &Session, options: &options::Restore) -> Outcome {
    let repository = open_repository(session).await?;
    let aimed = Box::pin(recovery::aim(session, &repository, options)).await?;
    let Aimed { manifest, options } = &aimed;
    let selected = select(&session.engines, manifest, options)?;
    if options.undo || options.resume {
        let settled = Box::pin(settle::run(session, options, &repository, manifest, &selected)).await?;
        return Ok(Box::new(settled));
    }
    // What has a log of commands comes back by it, into a directory of its own.
    let is_one_of_several = selected.len() > 1;
    let (logged, selected) = commands::logged(session, &repository, options, selected).await?;
    let places = destinations(session, manifest, &selected, is_one_of_several, options)?;
    if !options.dry_run {
        thaw::sources(session, repository.store(), &selected, &options.thaw).await?;
    }
    let steps = Box::pin(prepare(session, &repository, places)).await?;
    let mut moments = Vec::new();
    for own in &logged {
        moments.push(Box::pin(commands::plan(session, own)).await?);
    }
    if options.dry_run {
        let moments = moments.into_iter().map(planned_moment);
        return Ok(Box::new(RestorePreview {
            snapshot: manifest.id.clone(),
            would_restore: steps.into_iter().map(planned).chain(moments).collect(),
            errors: Vec::new(),
            engines: session.engines.clone(),
            again: Again::new(session, options, manifest),
        }));
    }
    let mut report = Box::pin(carry_out(session, options, manifest, steps, is_one_of_several)).await?;
    for own in &logged {
        session.check_cancelled()?;
        match Box::pin(commands::run(session, own)).await {
            Ok(one) => {
                let name = one.source.clone();
                report
                    .errors
                    .extend(one.failures().into_iter().map(|line| format!("{name}: {line}")));
                report.restored.push(RestoredSource {
                    into: one.into.to_string(),
                    source: name,
                    report: Box::new(one),
                });
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => report.errors.push(error.chain_and_hint()),
        }
    }
    Ok(Box::new(report))
}

/// Restores for another verb; one source goes to `given`, wherever it would go by itself.
pub(crate) async fn bring_back(
    session: &Session,
    options: &options::Restore,
    given: Option<Spec>,
) -> Result<RestoreReport> {
    let (repository, chosen) = open_snapshot(session, &options.snapshot, &options.source, Purpose::Write).await?;
    let manifest = chosen.manifest;
    let selected = select(&session.engines, &manifest, options)?;
    let places = match (given, selected.as_slice()) {
        (Some(place), [source]) => vec![destination::given(session, &manifest, source, options, place)?],
        (_, several) => destinations(session, &manifest, several, several.len() > 1, options)?,
    };
    thaw::sources(session, repository.store(), &selected, &options.thaw).await?;
    let steps = Box::pin(prepare(session, &repository, places)).await?;
    let several = steps.len() > 1;
    Box::pin(carry_out(session, options, &manifest, steps, several)).await
}

/// Refuses whatever a restore for another verb would refuse before it writes.
pub(crate) async fn check(session: &Session, options: &options::Restore) -> Result<()> {
    let (repository, chosen) = open_snapshot(session, &options.snapshot, &options.source, Purpose::Write).await?;
    let manifest = chosen.manifest;
    let selected = select(&session.engines, &manifest, options)?;
    let places = destinations(session, &manifest, &selected, selected.len() > 1, options)?;
    Box::pin(prepare(session, &repository, places)).await.map(drop)
}

/// Opens and checks every source, and looks at its target. Nothing is written.
async fn prepare<'a>(
    session: &Session,
    repository: &Repository,
    places: Vec<Destination<'a>>,
) -> Result<Vec<Step<'a>>> {
    let mut steps = Vec::new();
    for Destination { source, mut restorer } in places {
        restorer.check_target()?;
        let reader = open_reader(session, repository.store(), source).await?;
        let plan = session.or_cancelled(restorer.plan(&reader)).await;
        let plan = plan.with_context(|| format!("plan the restore of source \"{}\"", source.name))?;
        steps.push(Step {
            source,
            reader,
            restorer,
            plan,
        });
    }
    Ok(steps)
}

/// Restores one source after another. One of several that fails does not keep the others from it.
async fn carry_out(
    session: &Session,
    options: &options::Restore,
    manifest: &Manifest,
    steps: Vec<Step<'_>>,
    is_one_of_several: bool,
) -> Result<RestoreReport> {
    let (mut restored, mut errors) = (Vec::new(), Vec::new());
    let single = !is_one_of_several;
    for step in steps {
        session.check_cancelled()?;
        let name = step.source.name.clone();
        session
            .reporter
            .begin(&name, step.source.outcome.as_ref().map(|o| o.raw_bytes));
        let result = Box::pin(restore_source(session, step)).await;
        session.reporter.end(&name, result.is_ok());
        match result {
            Ok(one) => {
                errors.extend(one.report.failures().into_iter().map(|line| format!("{name}: {line}")));
                restored.push(one);
            }
            Err(error) if single || error.kind() == ErrorKind::Cancelled => {
                return Err(error.context(format!("restore source \"{name}\"")));
            }
            Err(error) => errors.push(format!("{name}: {}", error.chain_and_hint())),
        }
    }
    Ok(RestoreReport {
        snapshot: manifest.id.clone(),
        restored,
        errors,
        again: Again::new(session, options, manifest),
    })
}

async fn restore_source(session: &Session, step: Step<'_>) -> Result<RestoredSource> {
    let Step {
        source,
        reader,
        mut restorer,
        ..
    } = step;
    if let Some(removed) = restorer.to_keep().await? {
        let snapshot = backup::safety_snapshot(session, removed).await?;
        restorer.is_kept(snapshot).context(backup::SAFETY)?;
    }
    let target = restorer.target();
    let report = restorer.restore(reader).await?;
    Ok(RestoredSource {
        source: source.name.clone(),
        into: report.place().unwrap_or(target),
        report,
    })
}

/// Says what a restore by a log of commands would do.
fn planned_moment(moment: commands::RestoredMoment) -> PlannedSource {
    PlannedSource {
        source: moment.source.clone(),
        kind: commands::kind().to_owned(),
        into: moment.into.to_string(),
        bytes: None,
        plan: Some(Box::new(moment)),
    }
}

/// Says what was found out about a target.
fn planned(step: Step<'_>) -> PlannedSource {
    let stored = step.source.outcome.as_ref().map(|outcome| outcome.raw_bytes);
    PlannedSource {
        source: step.source.name.clone(),
        kind: step.source.kind.clone(),
        into: step.restorer.target(),
        bytes: step.plan.as_ref().and_then(|plan| plan.bytes()).or(stored),
        plan: step.plan,
    }
}
