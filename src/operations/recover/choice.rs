//! Which copy of each source a recovery brings back.
//!
//! A server is seldom whole in one snapshot: jobs run at times of their own, and one source of the last run may have failed.
//! `latest` therefore means, for each job of the host, the sources of its newest plan, and of each source the newest good
//! copy. How old each is, and how far apart they are, is said before anything is done. A named snapshot is taken as it is.
//! To a moment, it is the newest good copy before it, and what has a log goes on by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::course::{self, Course};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::moment::local;
use crate::base::nearest::nearest;
use crate::base::units::format_duration;
use crate::operations::options::{self, At};
use crate::operations::show::local_time;
use crate::operations::{Session, choose};
use crate::repository::ADHOC_JOB;
use crate::repository::{
    Manifest, ManifestSource, PRE_RESTORE_JOB, Repository, Selector, SnapshotId, Survey, id, is_ahead,
};

/// A source and the snapshot that it comes from.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) manifest: Arc<Manifest>,
    pub(super) source: ManifestSource,
    /// How it goes on by its log.
    pub(super) course: Option<Course>,
}

impl Piece {
    fn new(manifest: Arc<Manifest>, source: ManifestSource) -> Self {
        Self {
            manifest,
            source,
            course: None,
        }
    }

    /// The snapshot that the source comes back from.
    fn snapshot(&self) -> &SnapshotId {
        let course = self.course.as_ref().and_then(Course::snapshot);
        course.unwrap_or(&self.manifest.id)
    }

    /// The moment that the source comes back as of.
    fn as_of(&self) -> Timestamp {
        let stored = || self.source.outcome.as_ref().map(|outcome| outcome.consistent_at);
        let moment = self.course.as_ref().and_then(Course::at);
        moment.or_else(stored).unwrap_or(self.manifest.finished)
    }
}

/// What a recovery brings back.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    /// In the order of the plans.
    pub(super) pieces: Vec<Piece>,
    /// Those that were not chosen and stay as they are.
    pub(super) left: Vec<Piece>,
    /// Sources of the plans that have no good copy, and why.
    pub(super) missing: Vec<String>,
    /// Sources that cannot be brought to the moment, and why.
    pub(super) unreachable: Vec<String>,
    host: String,
    now: Timestamp,
    /// The moment that is asked for.
    at: Option<At>,
}

/// The copy of a source that comes back, for programs.
#[derive(Debug, serde::Serialize)]
pub(super) struct SourceCopy {
    source: String,
    snapshot: SnapshotId,
    job: String,
    finished: Timestamp,
    /// How long ago the snapshot was finished.
    age_seconds: u64,
    /// The moment that the source comes back as of.
    as_of: Timestamp,
}

/// What is known of a snapshot while others are looked at.
#[derive(Debug, Clone)]
struct Candidate {
    id: SnapshotId,
    host: String,
    job: String,
    started: Timestamp,
    finished: Timestamp,
    /// Names, and the moment that each is consistent at if it succeeded.
    sources: Vec<(String, Option<Timestamp>)>,
}

impl Candidate {
    fn of(manifest: &Manifest) -> Self {
        let sources = manifest.sources.iter();
        Self {
            id: manifest.id.clone(),
            host: manifest.host.clone(),
            job: manifest.job.clone(),
            started: manifest.started,
            finished: manifest.finished,
            sources: sources
                .map(|source| {
                    let outcome = source.outcome.as_ref();
                    (source.name.clone(), outcome.map(|outcome| outcome.consistent_at))
                })
                .collect(),
        }
    }

    /// Returns whether it has a good copy of a source, of no later moment than `until`.
    fn has(&self, source: &str, until: Option<Timestamp>) -> bool {
        let suits = |at: Timestamp| until.is_none_or(|until| at <= until);
        self.sources
            .iter()
            .any(|(name, at)| name == source && at.is_some_and(suits))
    }
}

/// Chooses what `name` means.
pub(super) async fn choose(session: &Session, repository: &Repository, options: &options::Recover) -> Result<Choice> {
    let (name, at) = (options.snapshot.as_str(), options.at);
    let until = match at {
        Some(At::Moment(moment)) => Some(moment),
        _ => None,
    };
    let Selector::Latest { host, job } = Selector::parse(name) else {
        let purpose = choose::Purpose::Write;
        let chosen = choose::snapshot(session, repository, name, &[], purpose).await?;
        let choice = Choice::of_one(chosen.manifest, repository.clock().await, at);
        choice.refuse_later(until)?;
        return Ok(choice);
    };
    let now = session.or_cancelled(async { Ok(repository.clock().await) }).await?;
    if let Some(until) = until.filter(|until| is_ahead(*until, now)) {
        let message = format!("{} has not come yet", local(until));
        return Err(Error::invalid(message).with_hint("Is its time zone the one that was meant?"));
    }
    let mut survey = session.or_cancelled(repository.survey(Candidate::of)).await?;
    // What was begun later cannot hold the moment, and does not keep others from it.
    let begun = |started: Timestamp| until.is_none_or(|until| started <= until);
    survey.snapshots.retain(|facts| begun(facts.started));
    survey.damaged.retain(|(id, _)| begun(id.started()));
    let wanted = |facts: &Candidate| match &job {
        Some(job) => facts.job == *job,
        None => facts.job != PRE_RESTORE_JOB,
    };
    survey
        .snapshots
        .retain(|facts| wanted(facts) && !is_ahead(facts.started.max(facts.finished), now));
    let host = match host {
        Some(host) => host,
        None => host_of(&survey.snapshots, session.host())?,
    };
    survey.snapshots.retain(|facts| facts.host == host);
    if survey.snapshots.iter().any(|facts| facts.job != ADHOC_JOB) && job.is_none() {
        // What was backed up by hand beside the jobs belongs to no plan.
        survey.snapshots.retain(|facts| facts.job != ADHOC_JOB);
    }
    if survey.snapshots.is_empty() {
        let place = repository.store().location();
        let before = until.map_or_else(String::new, |until| format!(" from before {}", local(until)));
        let message = format!("no snapshot for \"{name}\"{before} in {place}");
        return Err(Error::new(ErrorKind::NotFound, message).with_hint("`wirevault list` shows all snapshots."));
    }
    let mut lost = refuse_unreadable(&survey, now)?;
    lost.retain(|lost, _| job.as_ref().is_none_or(|job| id::sanitised_job(job) == *lost));
    let mut choice = gather(session, repository, &survey.snapshots, until).await?;
    (choice.host, choice.now, choice.at) = (host, now, at);
    choice.missing.extend(lost.into_values());
    Ok(choice)
}

/// The host whose server comes back: this one, or the only one there is.
fn host_of(snapshots: &[Candidate], here: String) -> Result<String> {
    let hosts: BTreeSet<&str> = snapshots.iter().map(|facts| facts.host.as_str()).collect();
    let mut names = hosts.iter();
    match (hosts.contains(here.as_str()), names.next(), names.next()) {
        (true, ..) | (_, None, _) => Ok(here),
        (_, Some(only), None) => Ok((*only).to_owned()),
        _ => {
            let all: Vec<&str> = hosts.into_iter().collect();
            Err(Error::invalid(format!(
                "the repository has snapshots of several hosts: {}",
                all.join(", ")
            ))
            .with_hint("Nothing was changed. Give latest:HOST/JOB or a snapshot id."))
        }
    }
}

/// Refuses to pass over what may be the newest of a job. Returns a line for each job of which nothing can be read.
fn refuse_unreadable(survey: &Survey<Candidate>, now: Timestamp) -> Result<BTreeMap<String, String>> {
    let mut lost = BTreeMap::new();
    for (damaged, error) in &survey.damaged {
        let same = |facts: &&Candidate| id::sanitised_job(&facts.job) == damaged.job();
        let newest = survey.snapshots.iter().filter(same).map(|facts| &facts.id).max();
        let beside = [PRE_RESTORE_JOB, ADHOC_JOB].contains(&damaged.job());
        if newest.is_none() && !beside {
            let line = format!(
                "job {} has no readable snapshot: {damaged}: {}",
                damaged.job(),
                error.chain()
            );
            lost.insert(damaged.job().to_owned(), line);
        }
        if newest.is_some_and(|newest| damaged > newest) && !is_ahead(damaged.started(), now) {
            return Err(Error::corrupt(format!(
                "the newest snapshot cannot be read: {damaged}: {}",
                error.chain()
            ))
            .with_hint(format!(
                "Nothing was changed. To use another one: wirevault recover {}.",
                newest.map_or("ID", SnapshotId::as_str)
            )));
        }
    }
    Ok(lost)
}

/// Finds the newest good copy of each source of the newest plan of each job.
async fn gather(
    session: &Session,
    repository: &Repository,
    snapshots: &[Candidate],
    until: Option<Timestamp>,
) -> Result<Choice> {
    let age = |facts: &&Candidate| (facts.finished, facts.started, facts.id.clone());
    let jobs: BTreeSet<&str> = snapshots.iter().map(|facts| facts.job.as_str()).collect();
    let newest = jobs
        .iter()
        .filter_map(|job| snapshots.iter().filter(|facts| facts.job == *job).max_by_key(age));
    let mut names: Vec<&str> = Vec::new();
    for name in newest.flat_map(|facts| &facts.sources).map(|(name, _)| name.as_str()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let (mut pieces, mut missing) = (Vec::new(), Vec::new());
    let mut read: BTreeMap<SnapshotId, Arc<Manifest>> = BTreeMap::new();
    for name in names {
        let Some(facts) = snapshots.iter().filter(|facts| facts.has(name, until)).max_by_key(age) else {
            let before = until.map_or_else(String::new, |until| format!(" from before {}", local(until)));
            missing.push(format!(
                "source {name} has no good copy{before} and will not be recovered"
            ));
            continue;
        };
        let manifest = match read.get(&facts.id) {
            Some(manifest) => Arc::clone(manifest),
            None => Arc::new(session.or_cancelled(repository.load(&facts.id)).await?),
        };
        read.insert(facts.id.clone(), Arc::clone(&manifest));
        let source = manifest.sources.iter().find(|source| source.name == name).cloned();
        pieces.extend(source.map(|source| Piece::new(manifest, source)));
    }
    Ok(Choice {
        pieces,
        missing,
        ..Choice::default()
    })
}

impl Choice {
    fn of_one(manifest: Manifest, now: Timestamp, at: Option<At>) -> Self {
        let manifest = Arc::new(manifest);
        let (mut pieces, mut missing) = (Vec::new(), Vec::new());
        for source in &manifest.sources {
            if source.outcome.is_some() {
                pieces.push(Piece::new(Arc::clone(&manifest), source.clone()));
            } else {
                missing.push(format!(
                    "source {} failed in this snapshot and will not be recovered: {}",
                    source.name,
                    source.error.as_deref().unwrap_or("no reason was recorded")
                ));
            }
        }
        let host = manifest.host.clone();
        Self {
            pieces,
            missing,
            host,
            now,
            at,
            ..Self::default()
        }
    }

    /// Refuses a snapshot that was named and holds something later than the moment.
    fn refuse_later(&self, until: Option<Timestamp>) -> Result<()> {
        let Some(until) = until else { return Ok(()) };
        let Some(late) = self.pieces.iter().find(|piece| piece.as_of() > until) else {
            return Ok(());
        };
        let (name, id) = (&late.source.name, &late.manifest.id);
        let message = format!(
            "source {name} of snapshot {id} is as of {}, and {} is before that",
            local(late.as_of()),
            local(until)
        );
        Err(Error::invalid(message).with_hint("`latest` takes the newest copy of each source before it."))
    }

    /// Plans how the sources that have a log go on by it, into their data directories.
    pub(super) async fn aim(
        &mut self,
        session: &Session,
        repository: &Repository,
        options: &options::Recover,
    ) -> Result<()> {
        let Some(at) = self.at else { return Ok(()) };
        for piece in &mut self.pieces {
            match course::of(session, repository, (&piece.manifest, &piece.source), (at, options)).await {
                Ok(course) => piece.course = course,
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => {
                    let name = &piece.source.name;
                    self.unreachable
                        .push(format!("source {name}: {}", error.chain_and_hint()));
                }
            }
        }
        Ok(())
    }

    /// Leaves out what was not chosen; a name that there is not is an error.
    pub(super) fn only(&mut self, names: &[String], addressed: &[(String, String)]) -> Result<()> {
        for name in names.iter().chain(addressed.iter().map(|(name, _)| name)) {
            if self.piece(name).is_none() {
                let all = || self.pieces.iter().map(|piece| piece.source.name.as_str());
                let error = Error::new(ErrorKind::NotFound, format!("no copy of source \"{name}\""));
                return Err(match nearest(name, all()) {
                    Some(near) => error.with_hint(format!("Did you mean \"{near}\"?")),
                    None => error.with_hint(format!("There are {}.", all().collect::<Vec<_>>().join(", "))),
                });
            }
        }
        if !names.is_empty() {
            let all = std::mem::take(&mut self.pieces).into_iter();
            (self.pieces, self.left) = all.partition(|piece| names.contains(&piece.source.name));
            self.missing.clear();
        }
        if self.pieces.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "no good copy of any source")
                .with_hint("`wirevault list` shows all snapshots."));
        }
        Ok(())
    }

    pub(super) fn piece(&self, name: &str) -> Option<&Piece> {
        self.pieces.iter().find(|piece| piece.source.name == name)
    }

    /// Returns the snapshot that a source comes from.
    pub(super) fn snapshot_of(&self, name: &str) -> String {
        self.piece(name)
            .map_or_else(String::new, |piece| piece.manifest.id.to_string())
    }

    /// Returns the snapshots, the newest first.
    pub(super) fn snapshots(&self) -> Vec<&SnapshotId> {
        let mut all: Vec<&Manifest> = self.pieces.iter().map(|piece| piece.manifest.as_ref()).collect();
        all.sort_by_key(|manifest| std::cmp::Reverse((manifest.finished, &manifest.id)));
        all.dedup_by(|a, b| a.id == b.id);
        all.into_iter().map(|manifest| &manifest.id).collect()
    }

    /// What a recovery is told from another by.
    pub(super) fn word(&self) -> String {
        let ids: Vec<String> = self.snapshots().into_iter().map(ToString::to_string).collect();
        match self.at {
            Some(At::Moment(at)) => format!("{} at {at}", ids.join(" ")),
            Some(At::Latest) => format!("{} at the latest", ids.join(" ")),
            None => ids.join(" "),
        }
    }

    /// Seconds between the earliest and the latest moment at which the sources are consistent.
    pub(super) fn skew_seconds(&self) -> f64 {
        let moments = || self.pieces.iter().map(Piece::as_of);
        match (moments().min(), moments().max()) {
            (Some(first), Some(last)) => last.duration_since(first).as_secs_f64(),
            _ => 0.0,
        }
    }

    /// One that is dated ahead is as if it were made now.
    fn age(&self, manifest: &Manifest) -> std::time::Duration {
        let age = self.now.duration_since(manifest.finished);
        age.max(SignedDuration::ZERO).unsigned_abs()
    }

    /// Says what comes back from when.
    pub(super) fn text(&self) -> String {
        let mut text = format!("host {}\n", self.host);
        if let Some(At::Moment(at)) = self.at {
            text = format!("host {} as of {}\n", self.host, local(at));
        }
        for piece in &self.pieces {
            let (name, manifest) = (&piece.source.name, &piece.manifest);
            let (id, job) = (piece.snapshot(), &manifest.job);
            let line = match (&piece.course, self.at) {
                (Some(course), _) => {
                    let to = course.at().map_or_else(|| "the end of its log".to_owned(), local);
                    format!("{name} as of {to}, by its log: snapshot {id}, job {job}")
                }
                (None, Some(At::Moment(at))) => {
                    let before = at.duration_since(piece.as_of()).max(SignedDuration::ZERO);
                    let (time, before) = (local_time(piece.as_of()), format_duration(before.unsigned_abs()));
                    format!("{name} as of {time}, {before} before: snapshot {id}, job {job}")
                }
                (None, _) => {
                    let (time, age) = (local_time(manifest.finished), format_duration(self.age(manifest)));
                    format!("{name} as of {time}, {age} ago: snapshot {id}, job {job}")
                }
            };
            text.push_str(&format!("  {line}\n"));
        }
        let skew = std::time::Duration::try_from_secs_f64(self.skew_seconds()).unwrap_or_default();
        text.push_str(&format!("  sources are up to {} apart\n", format_duration(skew)));
        text
    }

    /// Says the same for programs.
    pub(super) fn copies(&self) -> Vec<SourceCopy> {
        let copy = |piece: &Piece| SourceCopy {
            source: piece.source.name.clone(),
            snapshot: piece.snapshot().clone(),
            job: piece.manifest.job.clone(),
            finished: piece.manifest.finished,
            age_seconds: self.age(&piece.manifest).as_secs(),
            as_of: piece.as_of(),
        };
        self.pieces.iter().map(copy).collect()
    }
}
