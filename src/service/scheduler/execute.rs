//! Runs one task, bounded in time, and says how it ended.

use std::sync::Arc;
use std::time::Duration;

use super::task::Work;
use super::watched::Watched;
use super::{Event, with_config};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::units::format_duration;
use crate::config::{Config, DrillConfig};
use crate::operations::options;
use crate::operations::{Report, Session, Status, backup, cleanup, copy, meant, verify};
use crate::policy::schedule::Why;
use crate::repository::{Proved, SnapshotId};

/// How a run ended, and what it has to say besides.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) status: Status,
    /// What was not well, for a run that ended all the same.
    pub(super) complaint: Option<String>,
    pub(super) events: Vec<Event>,
    /// Snapshots that a backup made, or found to be up to date.
    pub(super) snapshots: Vec<SnapshotId>,
    /// Whether there is more to do at once.
    pub(super) more: bool,
}

impl Done {
    fn new(status: Status, complaint: Option<String>, events: Vec<Event>) -> Self {
        Self {
            status,
            complaint,
            events,
            snapshots: Vec::new(),
            more: false,
        }
    }
}

/// Runs a task to its end.
pub(super) async fn execute(session: &Session, config: &Config, name: &str, work: &Work, why: Why) -> Result<Done> {
    match work {
        Work::Backup { timeout, idle_timeout } => {
            let session = with_config(session, config);
            bounded(session, *timeout, *idle_timeout, async |session| {
                back_up(session, name, why == Why::Changed).await
            })
            .await
        }
        Work::Copy { job } => {
            let session = with_config(session, config);
            bring_up_to_date(&session, job).await
        }
        Work::Drill(drill) => {
            let session = with_config(session, config);
            bounded(session, drill.timeout, None, async |session| {
                verify_all(session, drill).await
            })
            .await
        }
        Work::Cleanup(rule) => {
            let cleaned = cleanup::apply(session, rule, rule.delete).await?;
            let event = Event::Cleaned {
                job: name.to_owned(),
                deleted: cleaned.deleted,
                items: cleaned.items,
                counted: cleaned.counted.clone(),
                bytes: cleaned.bytes,
            };
            Ok(Done::new(
                cleaned.status(),
                cleaned.failures.first().cloned(),
                vec![event],
            ))
        }
    }
}

/// Ends work that takes too long, or during which nothing moves for too long.
async fn bounded(
    mut session: Session,
    timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    work: impl AsyncFnOnce(&Session) -> Result<Done>,
) -> Result<Done> {
    let watched = Arc::new(Watched::new(session.reporter.clone(), session.clock.clone()));
    session.reporter = watched.clone();
    let (cancel, clock) = (session.cancel.clone(), session.clock.clone());
    let deadline = timeout.and_then(|timeout| clock.instant().checked_add(timeout));
    let mut work = Box::pin(work(&session));
    let late = loop {
        let idle_until = idle_timeout.and_then(|idle| watched.moved().checked_add(idle));
        let Some(until) = deadline.into_iter().chain(idle_until).min() else {
            return work.await;
        };
        tokio::select! {
            done = &mut work => return done,
            () = clock.sleep_until(until) => {}
        }
        let now = clock.instant();
        if let Some(timeout) = timeout.filter(|_| deadline.is_some_and(|deadline| deadline <= now)) {
            break (format!("did not finish within {}", format_duration(timeout)), "timeout");
        }
        // What moved while it was slept moves the end of its patience.
        let idle = |idle: &Duration| now.saturating_duration_since(watched.moved()) >= *idle;
        if let Some(idle) = idle_timeout.filter(idle) {
            break (format!("no progress for {}", format_duration(idle)), "idle_timeout");
        }
    };
    // It gives its uploads up and ends; a manifest that was being written may still count.
    cancel.cancel();
    let (message, key) = late;
    work.await.map_err(|_| {
        Error::new(ErrorKind::TimedOut, message).with_hint(format!(
            "Raise the job's {key}, or use -v to see what it is waiting for."
        ))
    })
}

/// Copies one snapshot that a repository lacks, if there is one: other work may be waiting.
async fn bring_up_to_date(session: &Session, job: &str) -> Result<Done> {
    let wanted = Box::pin(copy::lacking(session, Some(job))).await?;
    let failed = wanted.errors.first().cloned();
    let Some(one) = wanted.first() else {
        return match failed {
            None => Ok(Done::new(Status::Done, None, vec![])),
            Some(why) => Err(Error::new(ErrorKind::Unavailable, why)),
        };
    };
    let copied = Box::pin(one.copy(session)).await?;
    let event = Event::Copied {
        job: job.to_owned(),
        snapshot: copied.snapshot.to_string(),
        from: copied.from,
        to: copied.to,
        objects: copied.objects,
        bytes: copied.bytes,
    };
    let mut done = Done::new(Status::Done, None, vec![event]);
    done.more = true;
    Ok(done)
}

async fn back_up(session: &Session, name: &str, if_changed: bool) -> Result<Done> {
    let options = options::Backup {
        if_changed,
        engines: options::EngineFlags::default(),
        targets: vec![name.to_owned()],
        dry_run: false,
        parallel: None,
        level: None,
        scheduled: true,
    };
    let run = Box::pin(backup::back_up(session, &options)).await?;
    let lost = "some data is missing from the snapshot; see the notes in `wirevault show`";
    let status = run.status();
    let complaint = (status != Status::Done).then(|| run.complaint().unwrap_or(lost).to_owned());
    let unchanged = run.unchanged.then(|| Event::Unchanged { job: name.to_owned() });
    let mut done = Done::new(status, complaint, unchanged.into_iter().collect());
    done.snapshots = run.snapshots.into_iter().map(|manifest| manifest.id).collect();
    done.snapshots.dedup();
    Ok(done)
}

/// Verifies in each repository that the drill is for.
async fn verify_all(session: &Session, drill: &DrillConfig) -> Result<Done> {
    let repositories: Vec<String> = match (&drill.repository, &session.repository) {
        (Some(name), _) | (None, Some(name)) => vec![name.clone()],
        (None, None) => session.config.repositories.iter().map(|r| r.name.clone()).collect(),
    };
    let (mut found, mut status, mut passed) = (Vec::<verify::Verified>::new(), Status::Done, None);
    for repository in repositories {
        let mut session = with_config(session, &session.config);
        session.repository = Some(repository.clone());
        let snapshots = wanted(&session, drill).await?;
        if snapshots.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("repository \"{repository}\" has no snapshot to verify"),
            ));
        }
        let options = options::Verify {
            all: snapshots == ["all"],
            snapshots,
            level: options::Level::parse(&drill.level).unwrap_or_default(),
            into: drill.into.iter().map(|into| into.expose().to_owned()).collect(),
            no_evidence: false,
            engines: options::EngineFlags::default().with(options::StartServer {
                start: drill.start,
                bin_dir: drill.bin_dir.clone(),
                run_as: drill.run_as.clone(),
                recovery: None,
            }),
            drill: Some(drill.name.clone()),
            thaw: options::Thaw::default(),
        };
        let report = Box::pin(verify::run(&session, &options)).await?;
        status = status.worse(report.status());
        passed = passed.or_else(|| report.passed_over.first().cloned());
        found.extend(report.verified);
    }
    let damage = |one: &Proved| Some(format!("{}: {}", one.snapshot, one.damage.first()?));
    // Without damage, a drill that is not well did not prove what it was to prove.
    let amiss = |one: &Proved| Some(format!("{}: {}", one.snapshot, one.amiss().next()?));
    let all = || found.iter().map(|one| &one.proved);
    let amiss = all().find_map(amiss).filter(|_| status != Status::Done);
    let complaint = all().find_map(damage).or(amiss).or(passed);
    let events = found.iter().map(|one| Event::proved(&drill.name, one)).collect();
    Ok(Done::new(status, complaint, events))
}

/// The snapshots of the drill: those it names, or the latest of each job that has one.
async fn wanted(session: &Session, drill: &DrillConfig) -> Result<Vec<String>> {
    if !drill.snapshots.is_empty() {
        return Ok(drill.snapshots.clone());
    }
    let Some(repository) = meant::if_there(session, &session.repository_config()?).await? else {
        return Ok(Vec::new());
    };
    let mut latest = Vec::new();
    for job in &session.config.jobs {
        // The name and not the id, so that the verification itself tells what it passes over.
        let name = format!("latest:{}", job.name);
        match session.or_cancelled(repository.resolve(&name)).await {
            Ok(_) => latest.push(name),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(latest)
}
