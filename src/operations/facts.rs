//! Gathers what is stored about a repository's health: manifests, evidence, records of runs, and what waits to be stored.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use jiff::Timestamp;

use crate::base::error::{Context, Error, Result};
use crate::config::RepositoryConfig;
use crate::operations::log::state;
use crate::operations::{Session, open, records};
use crate::policy::health::{Expected, Facts, Health, Level, Proof, SnapshotFact, assess};
use crate::repository::PlannedSchedule;
use crate::repository::{Evidence, Manifest, Repository, SnapshotId, TaskKind};

/// What was found, and what else was made of each manifest.
pub(crate) struct Gathered<T> {
    pub(crate) facts: Facts,
    pub(crate) snapshots: Vec<T>,
    /// Newest first.
    pub(crate) evidence: Vec<Evidence>,
}

/// Looks at everything once; `repository` is `None` where a first run will make one.
pub(crate) async fn gather<T>(
    session: &Session,
    (config, expected): (&RepositoryConfig, Expected),
    repository: Option<&Repository>,
    of: impl Fn(&Manifest) -> T,
) -> Result<Gathered<T>> {
    let mut facts = Facts {
        repository: config.name.clone(),
        expected,
        runs: records::waiting(session, config),
        ..Facts::default()
    };
    let Some(repository) = repository else {
        return Ok(Gathered {
            facts,
            snapshots: Vec::new(),
            evidence: Vec::new(),
        });
    };
    facts.created = Some(repository.created());
    let survey = repository.survey(|manifest| (SnapshotFact::of(manifest), of(manifest)));
    let survey = session.or_cancelled(survey).await.context("read the snapshots")?;
    let (snapshots, made) = survey.snapshots.into_iter().unzip();
    (facts.snapshots, facts.unreadable) = (
        snapshots,
        survey
            .damaged
            .into_iter()
            .map(|(id, error)| (id, error.chain()))
            .collect(),
    );
    let present: BTreeSet<SnapshotId> = facts.snapshots.iter().map(|one| one.id.clone()).collect();
    let evidence = session.or_cancelled(repository.evidence_of(&present, decides)).await?;
    facts.proofs = evidence.iter().filter_map(Proof::of).collect();
    facts.runs.extend(session.or_cancelled(repository.records()).await?);
    Ok(Gathered {
        facts,
        snapshots: made,
        evidence,
    })
}

/// Looks at one repository, as far as it can be reached.
pub(crate) async fn health_of(
    session: &Session,
    config: &RepositoryConfig,
    expected: Expected,
    now: Timestamp,
) -> Result<Health> {
    let repository = opened(session, config).await?;
    let gathered = gather(session, (config, expected), Some(&repository), |_| ()).await?;
    Ok(assess(&gathered.facts, now))
}

/// As [`health_of`], with how the logs stand that go on behind base backups.
pub(crate) async fn health_with_logs(
    session: &Session,
    config: &RepositoryConfig,
    expected: Expected,
    now: Timestamp,
) -> Result<Health> {
    let repository = opened(session, config).await?;
    let gathered = gather(session, (config, expected), Some(&repository), state::bases).await?;
    let mut health = assess(&gathered.facts, now);
    let bases: Vec<_> = gathered.snapshots.into_iter().flatten().collect();
    state::add(session, &repository, &bases, &mut health).await?;
    Ok(health)
}

async fn opened(session: &Session, config: &RepositoryConfig) -> Result<Repository> {
    let store = open::store(config, &session.cancel).await?;
    let act = || format!("open repository \"{}\"", config.url);
    session.or_cancelled(Repository::open(store)).await.with_context(act)
}

/// Judges a repository that could not be looked at.
pub(crate) fn away(
    session: &Session,
    config: &RepositoryConfig,
    expected: Expected,
    why: &Error,
    now: Timestamp,
) -> Health {
    let facts = Facts {
        repository: config.name.clone(),
        expected,
        runs: records::waiting(session, config),
        away: Some(why.chain()),
        ..Facts::default()
    };
    assess(&facts, now)
}

/// Whether nothing older than this evidence can say more of its snapshot: damage stands, and the deepest look is the deepest.
fn decides(evidence: &Evidence) -> bool {
    Proof::of(evidence).is_some_and(|proof| {
        let whole = proof.reached.iter().all(|one| one.level == Some(Level::Restored));
        proof.is_damaged() || (proof.asked == Level::Restored && whole)
    })
}

/// Returns when a configuration file came to be as it is: a copy may keep the time of its original, not its own change time.
fn last_change(file: &str) -> Option<Timestamp> {
    let about = std::fs::metadata(file).ok()?;
    Timestamp::from_second(about.mtime().max(about.ctime())).ok()
}

/// What the configuration of this host expects in a repository. Whoever `runs_here` sends everything into the repository that
/// was given on the command line, if one was.
pub(crate) fn expected(session: &Session, repository: &RepositoryConfig, runs_here: bool) -> Expected {
    let config = &session.config;
    let given = runs_here && session.repository.is_some();
    let goes_there = |names: &[String]| given || names.is_empty() || names.contains(&repository.name);
    let here = given || config.repositories.iter().any(|one| one.url == repository.url);
    let jobs = config.jobs.iter().filter(|job| here && goes_there(&job.repositories));
    let jobs: Vec<_> = jobs.map(|job| records::expected_job(config, job)).collect();
    let zone = config.timezone.as_deref();
    let drills = config
        .drills
        .iter()
        .filter(|drill| goes_there(drill.repository.as_slice()));
    let drills = drills.map(|drill| {
        (
            TaskKind::Drill,
            drill.name.clone(),
            PlannedSchedule::of(&drill.timing, zone),
        )
    });
    let rules = config.cleanups.iter().map(|rule| {
        let name = format!("cleanup.{}", rule.name);
        (TaskKind::Cleanup, name, PlannedSchedule::of(&rule.timing, zone))
    });
    Expected {
        host: session.host(),
        // A configuration of another repository says nothing of this one.
        jobs: (here && !config.jobs.is_empty()).then_some(jobs),
        runs_here,
        tasks: drills.chain(rules).filter(|_| here).collect(),
        since: last_change(&config.origin),
    }
}
