//! Whether all is well: a pure decision, `(facts, now) -> health`.
//!
//! The facts are what is stored: manifests, evidence of verifications, records of runs, and the schedule in the plan of the
//! newest of them. So a new process, or another host, comes to the same answer, and no process can be wrong about what it
//! remembers. A record of a run says that there was one; that there is something to restore, only a manifest says: a run that
//! was "done" and whose snapshot is gone counts for nothing.
//!
//! What is dated more than ten minutes ahead of the clock, and snapshots that a restore took of what it was about to replace,
//! are left out of everything but the notes.
//!
//! Nothing here reads a clock or a store.

mod claim;
mod facts;
mod judge;
mod state;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

pub use crate::base::claim::Claim;
pub use claim::Verification;
pub use facts::{Expected, ExpectedJob, Facts, Proof, SnapshotFact, SourceFact};
pub use state::State;

pub use crate::repository::{Level, Proved, Reached};
use crate::repository::{RunRecord, SnapshotId};
use judge::Judge;

/// How one repository stands.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Name or URL of the repository.
    pub repository: String,
    /// Each source of each job.
    pub sources: Vec<SourceHealth>,
    /// Each job, drill and rule that has run.
    pub tasks: Vec<TaskHealth>,
    /// What is not well; nothing when all is.
    pub findings: Vec<Finding>,
    /// Snapshots that are dated ahead of the clock, and count for nothing.
    pub ahead: Vec<SnapshotId>,
}

/// How a source of a job stands. Its JSON is the row of `status --json`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SourceHealth {
    /// Host that runs the job.
    pub host: String,
    /// The job.
    pub job: String,
    /// The source.
    pub source: String,
    /// The newest snapshot in which the source succeeded and is not known to be damaged.
    pub newest_good: Option<SnapshotId>,
    /// Seconds since that was begun.
    pub age_seconds: Option<i64>,
    /// Whether there should be a newer one by now.
    pub overdue: bool,
    /// The level at which the source was proven last.
    pub verified_level: Option<Level>,
    /// When that was.
    pub verified_at: Option<Timestamp>,
    /// Whether a snapshot of it is damaged, and no newer one was proven since.
    pub damaged: bool,
    /// Stored bytes of the newest good one.
    pub stored_bytes: u64,
    /// How the log stands that goes on behind it, where that was looked at and there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogState>,
    /// How it stands.
    #[serde(skip)]
    pub state: State,
    /// Whether its failure is only a warning.
    #[serde(skip)]
    pub optional: bool,
}

/// How the log of a server stands, behind its newest base backup.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LogState {
    /// The server: its system identifier, a number of 64 bits, so a string.
    pub system: String,
    /// The position that a recovery comes to.
    pub to: Option<String>,
    /// The end of the last transaction before that.
    pub last_time: Option<Timestamp>,
    /// How long ago something was stored of it last.
    pub newest_age_seconds: Option<u64>,
    /// Gaps of all that is stored, older ones as well.
    pub gaps: u64,
    /// Why a recovery does not come to its end.
    pub error: Option<String>,
}

/// What is known of the runs of a task.
#[derive(Debug, Clone)]
pub struct TaskHealth {
    /// Its last run.
    pub last: RunRecord,
    /// Runs since the last complete one.
    pub failures: u32,
    /// End of the last one that was well.
    pub last_success: Option<Timestamp>,
}

/// Something that is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it stands.
    pub state: State,
    /// The host it is about; `None` if it is about the repository.
    pub host: Option<String>,
    /// What it is about: `job full`, `drill sunday`, `repository near`.
    pub subject: String,
    /// What is wrong, in words.
    pub text: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.subject, self.text)
    }
}

impl Health {
    /// Returns the worst state of all.
    pub fn state(&self) -> State {
        let worst = self.findings.iter().map(|finding| finding.state).max();
        worst.unwrap_or(State::Ok)
    }
}

/// Judges the facts.
pub fn assess(facts: &Facts, now: Timestamp) -> Health {
    let judge = Judge::new(facts, now);
    let mut health = Health {
        repository: facts.repository.clone(),
        ahead: judge.ahead(),
        ..Health::default()
    };
    if let Some(why) = &facts.away {
        health.findings.push(Finding {
            state: State::StoreAway,
            host: None,
            subject: format!("repository {}", facts.repository),
            text: format!("not reached: {why}"),
        });
    }
    for (id, why) in &facts.unreadable {
        health.findings.push(Finding {
            state: State::Damaged,
            host: None,
            subject: format!("snapshot {id}"),
            text: format!("its manifest cannot be read: {why}"),
        });
    }
    health.tasks = judge.tasks();
    for (host, job) in judge.jobs() {
        judge.job(&host, &job, &mut health);
    }
    judge.other_tasks(&mut health);
    judge.emptiness(&mut health);
    health
}
