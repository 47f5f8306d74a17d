//! The plan: each snapshot with the reasons that keep it.

use std::collections::BTreeSet;
use std::fmt;

use crate::repository::SnapshotId;
use crate::retention::SnapshotFacts;

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
    /// Returns whether the snapshot stays.
    pub fn keeps(&self) -> bool {
        !self.reasons.is_empty()
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.keeps() {
            return write!(f, "expire {}: no rule keeps it", self.snapshot.id);
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
