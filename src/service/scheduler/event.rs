//! What the scheduler says: one line each, as text or as JSON.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::base::exact;
use crate::operations::Status;
use crate::operations::prune::PruneReport;
use crate::operations::verify::Verified;
use crate::policy::schedule::Why;
use crate::repository::Level;
pub use crate::repository::TaskKind;

/// Something that happened.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A job has its next time.
    Planned {
        /// What it is.
        what: TaskKind,
        /// Its name.
        job: String,
        /// When; never, when there is none.
        next: Option<Timestamp>,
    },
    /// A run begins.
    Begun {
        /// What begins.
        what: TaskKind,
        /// Name of the job.
        job: String,
        /// Why now.
        why: Why,
        /// Occurrences that passed before it without a run.
        missed: u32,
    },
    /// A run ended.
    Ended {
        /// What ended.
        what: TaskKind,
        /// Name of the job.
        job: String,
        /// How.
        status: Status,
        /// How long it took.
        seconds: f64,
        /// What failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// What can be done about it.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// When the job runs again.
        next: Option<Timestamp>,
        /// Whether that is a repetition of this run.
        repeats: bool,
    },
    /// Keep rules were applied.
    Pruned {
        /// Name of the job.
        job: String,
        /// URL of the repository.
        repository: String,
        /// Snapshots that were removed.
        expired: u64,
        /// Objects that no snapshot needs any more.
        swept: u64,
    },
    /// A repository that was left behind has a snapshot now.
    Copied {
        /// Name of the job.
        job: String,
        /// The snapshot.
        snapshot: String,
        /// Name of the repository that had it.
        from: String,
        /// Name of the repository that has it now.
        to: String,
        /// Objects that were sent.
        objects: u64,
        /// Their size.
        bytes: u64,
    },
    /// The content is that of the last snapshot: there is no new one.
    Unchanged {
        /// Name of the job.
        job: String,
    },
    /// A drill looked at a snapshot.
    Proved {
        /// Name of the drill.
        job: String,
        /// The snapshot.
        snapshot: String,
        /// The level that every source reached; empty if one reached none.
        level: String,
        /// The level that was asked for.
        asked: String,
        /// How it came out, in a word.
        result: &'static str,
        /// What is damaged.
        damage: Vec<String>,
        /// What could not be looked at that deep, and what was refused or found wrong beside damage.
        skipped: Vec<String>,
    },
    /// A clean-up rule was applied.
    Cleaned {
        /// Name of the rule.
        job: String,
        /// Whether anything was removed.
        deleted: bool,
        /// Files, or things of a Docker engine, older than the rule allows.
        items: u64,
        /// The same by kind, for people.
        counted: String,
        /// Their size.
        bytes: u64,
    },
    /// The status page is there.
    Serving {
        /// Its address.
        address: String,
    },
    /// The configuration was read again.
    Reloaded {
        /// Jobs with a schedule.
        jobs: usize,
    },
    /// The configuration is wrong; the old one stays.
    ReloadRefused {
        /// What is wrong.
        error: String,
        /// What can be done about it.
        hint: Option<String>,
    },
    /// A signal ended it.
    Stopped,
}

impl Event {
    /// Says what a drill found in one snapshot.
    pub(super) fn proved(drill: &str, verified: &Verified) -> Self {
        let word = |level: Option<Level>| level.map_or("", Level::word).to_owned();
        let proved = &verified.proved;
        Self::Proved {
            job: drill.to_owned(),
            snapshot: proved.snapshot.to_string(),
            level: word(proved.level),
            asked: word(proved.asked),
            result: verified.came().words(),
            damage: proved.damage.clone(),
            skipped: proved.amiss().cloned().collect(),
        }
    }

    /// Says what the keep rules of a job did.
    pub(super) fn pruned(job: &str, repository: &str, report: &PruneReport) -> Self {
        Self::Pruned {
            job: job.to_owned(),
            repository: repository.to_owned(),
            expired: exact::u64_from(report.plan.expired().count()),
            swept: report.swept.as_ref().map_or(0, |swept| swept.objects),
        }
    }
}

/// A time as people read it: local, with its zone.
fn local(time: Timestamp) -> String {
    let zoned = time.to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planned {
                job, next: Some(next), ..
            } => writeln!(f, "{job}: next run {}", local(*next)),
            Self::Planned { job, next: None, .. } => writeln!(f, "{job}: no further run"),
            Self::Begun { job, why, missed, .. } => {
                write!(f, "{job}: begun")?;
                match why {
                    Why::Scheduled => {}
                    Why::CaughtUp => write!(f, ", late")?,
                    Why::Repeated => write!(f, " again after a failure")?,
                    Why::Changed => write!(f, " after a change")?,
                    Why::BaseNeeded => write!(f, ", because the log needs a base backup")?,
                    Why::Behind => write!(f, ", to bring repositories up to date")?,
                }
                if *missed > 0 {
                    write!(f, ", also for {missed} missed runs")?;
                }
                writeln!(f)
            }
            Self::Ended {
                what,
                job,
                status,
                seconds,
                error,
                hint,
                next,
                repeats,
            } => {
                let how = match status {
                    Status::Done => "done",
                    Status::Partial if *what == TaskKind::Backup => "finished, but some sources failed or lost items",
                    Status::Partial => "finished, but not all of it",
                    Status::Failed => "failed",
                };
                write!(f, "{job}: {how} after {seconds:.1} s")?;
                if let Some(error) = error {
                    write!(f, ": {error}")?;
                }
                if let Some(hint) = hint {
                    write!(f, " ({hint})")?;
                }
                match next {
                    Some(next) if *repeats => writeln!(f, "; again {}", local(*next)),
                    Some(next) => writeln!(f, "; next run {}", local(*next)),
                    None => writeln!(f),
                }
            }
            Self::Pruned {
                job,
                repository,
                expired,
                swept,
            } => {
                writeln!(
                    f,
                    "{job}: {expired} snapshots expired, {swept} objects swept in {repository}"
                )
            }
            Self::Copied {
                job,
                snapshot,
                from,
                to,
                objects,
                bytes,
            } => {
                let size = crate::base::units::format_bytes(*bytes);
                writeln!(
                    f,
                    "{job}: {snapshot} copied from {from} to {to}, {objects} objects, {size}"
                )
            }
            Self::Unchanged { job } => writeln!(f, "{job}: unchanged since the last snapshot; nothing new was stored"),
            Self::Proved {
                job,
                snapshot,
                level,
                asked: _,
                result,
                damage,
                skipped,
            } => {
                let level = if level.is_empty() { "none" } else { level };
                write!(f, "{job}: {snapshot} {result}, level {level}")?;
                for line in damage.iter().chain(skipped) {
                    write!(f, "; {line}")?;
                }
                writeln!(f)
            }
            Self::Cleaned {
                job,
                deleted,
                counted,
                bytes,
                ..
            } => {
                let did = if *deleted { "removed" } else { "would remove" };
                writeln!(
                    f,
                    "{job}: {did} {counted}, {}",
                    crate::base::units::format_bytes(*bytes)
                )
            }
            Self::Serving { address } => writeln!(f, "status page, /metrics and /health at http://{address}/"),
            Self::Reloaded { jobs } => writeln!(f, "configuration reloaded: {jobs} jobs with a schedule"),
            Self::ReloadRefused { error, hint } => {
                write!(f, "invalid configuration, keeping the old one: {error}")?;
                match hint {
                    Some(hint) => writeln!(f, " ({hint})"),
                    None => writeln!(f),
                }
            }
            Self::Stopped => writeln!(f, "interrupted by a signal"),
        }
    }
}
