//! What is known: facts out of manifests, evidence and run records, and what the configuration expects.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::repository::PlannedSchedule;
use crate::repository::record::RecordedSource;
use crate::repository::{Evidence, Level, Manifest, Reached, RunRecord, SnapshotId, TaskKind, is_ahead};

/// Everything that is known of one repository.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Name or URL of the repository, for people.
    pub repository: String,
    /// Snapshots, in any order.
    pub snapshots: Vec<SnapshotFact>,
    /// What verifications found, in any order.
    pub proofs: Vec<Proof>,
    /// Runs, in any order.
    pub runs: Vec<RunRecord>,
    /// Snapshots whose manifest cannot be read, and why.
    pub unreadable: Vec<(SnapshotId, String)>,
    /// What the configuration of this host expects.
    pub expected: Expected,
    /// When the repository was made, where that is known.
    pub created: Option<Timestamp>,
    /// Why the repository could not be looked at. What else stands here is then of an earlier look.
    pub away: Option<String>,
}

/// What the configuration of a host expects of a repository.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The host.
    pub host: String,
    /// Its jobs; `None` where no configuration is at hand.
    pub jobs: Option<Vec<ExpectedJob>>,
    /// Whether it is certain that this host runs them. Otherwise the file may be a copy of another host's: a job that only
    /// others have run is then not missed here.
    pub runs_here: bool,
    /// Its drills and rules by name, with their times.
    pub tasks: Vec<(TaskKind, String, PlannedSchedule)>,
    /// Since when the configuration stands as it is, where that is known.
    pub since: Option<Timestamp>,
}

/// A job of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedJob {
    /// Its name.
    pub name: String,
    /// Its sources.
    pub sources: Vec<RecordedSource>,
    /// When it runs.
    pub schedule: Option<PlannedSchedule>,
}

/// What a manifest says.
#[derive(Debug, Clone)]
pub struct SnapshotFact {
    /// The snapshot.
    pub id: SnapshotId,
    /// Host that made it.
    pub host: String,
    /// Job that made it.
    pub job: String,
    /// When it was begun.
    pub started: Timestamp,
    /// When it was finished.
    pub finished: Timestamp,
    /// Its sources.
    pub sources: Vec<SourceFact>,
    /// When the job was to run.
    pub schedule: Option<PlannedSchedule>,
}

/// What a manifest says of a source.
#[derive(Debug, Clone)]
pub struct SourceFact {
    /// Its name.
    pub name: String,
    /// Whether it succeeded.
    pub good: bool,
    /// Whether its failure is only a warning.
    pub optional: bool,
    /// Stored bytes.
    pub stored_bytes: u64,
}

impl SnapshotFact {
    /// Takes what counts out of a manifest.
    pub fn of(manifest: &Manifest) -> Self {
        let source = |source: &crate::repository::ManifestSource| {
            let archives = source.outcome.iter().flat_map(|outcome| &outcome.archives);
            SourceFact {
                name: source.name.clone(),
                good: source.outcome.is_some(),
                optional: source.optional,
                stored_bytes: archives.fold(0, |sum: u64, info| {
                    sum.saturating_add(info.archive.size_bytes)
                        .saturating_add(info.index.size_bytes)
                }),
            }
        };
        Self {
            id: manifest.id.clone(),
            host: manifest.host.clone(),
            job: manifest.job.clone(),
            started: manifest.started,
            finished: manifest.finished,
            sources: manifest.sources.iter().map(source).collect(),
            schedule: manifest.plan.schedule(),
        }
    }

    /// Returns whether a source is there and succeeded.
    pub fn has(&self, source: &str) -> bool {
        self.source(source).is_some_and(|source| source.good)
    }

    /// Returns whether its dates lie ahead of `now`: its host's clock was wrong.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        is_ahead(self.started.max(self.finished), now)
    }

    /// Returns whether every source succeeded that is not optional.
    pub fn is_complete(&self) -> bool {
        self.sources.iter().all(|source| source.good || source.optional)
    }

    pub(super) fn source(&self, name: &str) -> Option<&SourceFact> {
        self.sources.iter().find(|source| source.name == name)
    }
}

/// What a verification found in one snapshot.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When it was looked at.
    pub time: Timestamp,
    /// The drill that asked, if one did.
    pub drill: Option<String>,
    /// The level that was asked for.
    pub asked: Level,
    /// What each source reached.
    pub reached: Vec<Reached>,
    /// What is damaged.
    pub damage: Vec<String>,
}

impl Proof {
    /// Reads evidence of any release; `None` where it does not say what was asked for, nor names
    /// damage.
    pub fn of(evidence: &Evidence) -> Option<Self> {
        let proved = &evidence.proved;
        Some(Self {
            snapshot: evidence.snapshot.clone(),
            time: evidence.time,
            drill: proved.drill.clone(),
            // Damage is damage, however deep the look was to be that found it.
            asked: proved
                .asked
                .or((!proved.damage.is_empty()).then_some(Level::Restored))?,
            reached: proved.levels.clone(),
            damage: proved.damage.clone(),
        })
    }

    /// Returns whether every source is undamaged and reached what was asked for.
    pub fn is_reached(&self) -> bool {
        !self.is_damaged() && !self.reached.is_empty() && self.reached.iter().all(|one| one.level >= Some(self.asked))
    }

    /// Returns whether something is damaged.
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty()
    }

    /// Returns whether it says that a source of the snapshot is damaged. A line of damage that names none of the sources
    /// counts for all of them.
    pub fn damages(&self, source: &str) -> bool {
        let names: BTreeSet<&str> = self.reached.iter().map(|one| one.source.as_str()).collect();
        let names_it = |line: &str, name: &str| {
            line.contains(&format!("source \"{name}\""))
                || line.starts_with(&format!("{name}: "))
                || line.contains(&format!("/{}/", crate::repository::id::sanitised_job(name)))
        };
        self.damage
            .iter()
            .any(|line| names_it(line, source) || !names.iter().any(|name| *name != source && names_it(line, name)))
    }

    /// Returns the level at which a source was proven.
    pub fn level_of(&self, source: &str) -> Option<Level> {
        if self.damages(source) {
            return None;
        }
        self.reached.iter().find(|one| one.source == source)?.level
    }
}
