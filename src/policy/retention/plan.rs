//! The plan: each snapshot with the reasons that keep it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use crate::base::error::{Error, ErrorKind, Result};
use crate::policy::retention::SnapshotFacts;
use crate::repository::{PRE_RESTORE_JOB, SnapshotId};

/// Why a snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No rule exists for its host and job.
    NoRule,
    /// The newest complete snapshot of its host and job.
    LastGood,
    /// The newest snapshot in which this source succeeded.
    LastGoodOf(String),
    /// `last`.
    Last,
    /// `within_days`.
    Within,
    /// `hourly`, with the hour: `2026-02-01T02`.
    Hourly(String),
    /// `daily`, with the day: `2026-02-01`.
    Daily(String),
    /// `weekly`, with the ISO week: `2026-W05`.
    Weekly(String),
    /// `monthly`, with the month: `2026-02`.
    Monthly(String),
    /// `yearly`, with the year: `2026`.
    Yearly(String),
    /// `minimum`: without it, too few would stay.
    Minimum,
    /// A restore took it of what it replaced, less than seven days ago.
    PreRestore,
    /// A wrong clock dated it ahead of the store's: nothing is concluded from it.
    Ahead,
    /// A person pinned it, with what they said.
    Pinned(String),
    /// The store keeps it until then (object lock).
    Locked(Timestamp),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no keep rule"),
            Self::LastGood => f.write_str("newest complete"),
            Self::LastGoodOf(source) => write!(f, "newest with source \"{source}\""),
            Self::Last => f.write_str("last"),
            Self::Within => f.write_str("within"),
            Self::Hourly(hour) => write!(f, "hourly {hour}"),
            Self::Daily(day) => write!(f, "daily {day}"),
            Self::Weekly(week) => write!(f, "weekly {week}"),
            Self::Monthly(month) => write!(f, "monthly {month}"),
            Self::Yearly(year) => write!(f, "yearly {year}"),
            Self::Minimum => f.write_str("minimum"),
            Self::PreRestore => f.write_str("taken before a restore, less than 7 days ago"),
            Self::Ahead => f.write_str("dated in the future; remove it manually when it is no longer needed"),
            Self::Pinned(why) if why.is_empty() => f.write_str("pinned"),
            Self::Pinned(why) => write!(f, "pinned: {why}"),
            Self::Locked(until) if *until == Timestamp::MAX => f.write_str("locked by the store (legal hold)"),
            Self::Locked(until) => write!(f, "locked by the store until {}", until.strftime("%Y-%m-%d")),
        }
    }
}

/// What becomes of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Decision {
    /// The snapshot.
    pub snapshot: SnapshotFacts,
    /// What keeps it; it expires when nothing does.
    pub reasons: BTreeSet<Reason>,
}

impl Decision {
    /// Makes the decision about a snapshot that no history counts; a pin keeps it all the same.
    pub(super) fn kept(snapshot: &SnapshotFacts, reason: Option<Reason>) -> Self {
        let pinned = snapshot.pin.clone().map(Reason::Pinned);
        Self {
            snapshot: snapshot.clone(),
            reasons: reason.into_iter().chain(pinned).collect(),
        }
    }

    /// Returns whether the snapshot stays.
    pub fn keeps(&self) -> bool {
        !self.reasons.is_empty()
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.keeps() {
            let why = if self.snapshot.is_complete() {
                "no rule keeps it"
            } else {
                "no rule keeps it; failed sources take no place"
            };
            return write!(f, "expire {}: {why}", self.snapshot.id);
        }
        let reasons: Vec<_> = self.reasons.iter().map(ToString::to_string).collect();
        write!(f, "keep   {}: {}", self.snapshot.id, reasons.join(", "))
    }
}

/// A decision for every snapshot, in id order.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PrunePlan {
    /// The decisions.
    pub decisions: Vec<Decision>,
}

impl PrunePlan {
    /// Returns the snapshots that expire, oldest first.
    pub fn expired(&self) -> impl Iterator<Item = &SnapshotId> {
        self.decisions.iter().filter(|d| !d.keeps()).map(|d| &d.snapshot.id)
    }

    /// Keeps a snapshot for a further reason.
    pub fn keep(&mut self, id: &SnapshotId, reason: &Reason) {
        for decision in self.decisions.iter_mut().filter(|d| d.snapshot.id == *id) {
            decision.reasons.insert(reason.clone());
        }
    }

    /// Refuses a plan after which a job, on a host, would have nothing to restore although it has now. No rule asks for
    /// that; if it comes to it, the facts or the decision are wrong.
    pub fn check(&self) -> Result<()> {
        let mut stays: BTreeMap<(&str, &str), bool> = BTreeMap::new();
        let counts = |decision: &&Decision| {
            // What a restore replaced may all go, and what a wrong clock dated says nothing of a job.
            let own = decision.snapshot.job != PRE_RESTORE_JOB && !decision.reasons.contains(&Reason::Ahead);
            own && decision.snapshot.has_something()
        };
        for decision in self.decisions.iter().filter(counts) {
            let snapshot = &decision.snapshot;
            *stays.entry((&snapshot.host, &snapshot.job)).or_default() |= decision.keeps();
        }
        let emptied = stays.iter().find(|(_, stays)| !**stays);
        emptied.map_or(Ok(()), |((host, job), _)| {
            Err(Error::new(
                ErrorKind::PreconditionFailed,
                format!("the rules would remove every snapshot of job \"{job}\" on host \"{host}\""),
            )
            .with_hint("Nothing was removed. Check `wirevault prune --dry-run` and the clock of this host."))
        })
    }

    /// Returns the snapshots that stay, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &SnapshotId> {
        self.decisions.iter().filter(|d| d.keeps()).map(|d| &d.snapshot.id)
    }
}

impl fmt::Display for PrunePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.decisions.iter().try_for_each(|decision| writeln!(f, "{decision}"))
    }
}
