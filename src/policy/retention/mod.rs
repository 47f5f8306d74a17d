//! Which snapshots stay: a pure decision, `(facts, policy, now, time zone) -> plan` with a reason for every snapshot.
//!
//! The rules are applied per host and job, to several histories that are independent of each other: the complete
//! snapshots, and for each source that the job still has, the snapshots in which that source succeeded. So a source that
//! failed never takes the place of one that succeeded, and one source that fails for weeks costs the others none of
//! their history. The newest of each history always stays, whatever the rules say. A snapshot is expired only when no
//! rule keeps it in any history; with no rule at all, everything stays.
//!
//! Three things stand above the rules: a pin keeps its snapshot, a lock of the store keeps what it locks, and of each
//! history at least `minimum` snapshots stay. A plan after which a job that has a restorable snapshot would have none is
//! refused by [`PrunePlan::check`], whatever brought it about.
//!
//! Nothing here reads or removes anything: `prune` carries the plan out.

mod plan;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

pub use plan::{Decision, PrunePlan, Reason};

use crate::repository::ADHOC_JOB;
use crate::repository::{Manifest, ManifestSource, PRE_RESTORE_JOB, SnapshotId, is_ahead};

/// What a decision needs to know of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SnapshotFacts {
    /// Its id.
    pub id: SnapshotId,
    /// Host that made it.
    pub host: String,
    /// Job that made it.
    pub job: String,
    /// When it was begun.
    pub started: Timestamp,
    /// When its last source was finished.
    pub finished: Timestamp,
    /// Its sources by name; whether each succeeded.
    pub sources: BTreeMap<String, bool>,
    /// Those of them whose failure is only a warning.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub optional: BTreeSet<String>,
    /// Why a person pinned it; not pinned when `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
}

impl SnapshotFacts {
    /// Returns whether every source succeeded that is not optional, and there is one that did.
    pub fn is_complete(&self) -> bool {
        let counts = |(name, ok): (&String, &bool)| *ok || self.optional.contains(name);
        self.has_something() && self.sources.iter().all(counts)
    }

    /// Returns whether something of it can be restored.
    pub fn has_something(&self) -> bool {
        self.sources.values().any(|ok| *ok)
    }
}

impl From<&Manifest> for SnapshotFacts {
    fn from(manifest: &Manifest) -> Self {
        let state = |source: &ManifestSource| (source.name.clone(), source.outcome.is_some());
        let optional = manifest.sources.iter().filter(|source| source.optional);
        Self {
            id: manifest.id.clone(),
            host: manifest.host.clone(),
            job: manifest.job.clone(),
            started: manifest.started,
            finished: manifest.finished,
            sources: manifest.sources.iter().map(state).collect(),
            optional: optional.map(|source| source.name.clone()).collect(),
            pin: None,
        }
    }
}

/// Keep rules. Zero means that the rule does not exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionPolicy {
    /// The newest so many.
    pub last: u32,
    /// All of the last so many days of 24 hours.
    pub within_days: u32,
    /// The newest of each of the newest so many hours that have one.
    pub hourly: u32,
    /// The newest of each of the newest so many days that have one.
    pub daily: u32,
    /// The newest of each of the newest so many ISO weeks (from Monday) that have one.
    pub weekly: u32,
    /// The newest of each of the newest so many months that have one.
    pub monthly: u32,
    /// The newest of each of the newest so many years that have one.
    pub yearly: u32,
    /// No rule for what to keep but a bound for what may go: so many always stay, the newest first. It counts what the
    /// rules keep.
    pub minimum: u32,
}

impl RetentionPolicy {
    /// Returns whether there is no rule; then everything stays.
    pub fn is_empty(&self) -> bool {
        let rules = Self { minimum: 0, ..*self };
        rules == Self::default()
    }
}

/// Keep rules of a job. A snapshot is kept when any rule keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct KeepConfig {
    /// The newest so many.
    pub last: u32,
    /// The newest of each of so many hours.
    pub hourly: u32,
    /// The newest of each of so many days.
    pub daily: u32,
    /// The newest of each of so many weeks.
    pub weekly: u32,
    /// The newest of each of so many months.
    pub monthly: u32,
    /// The newest of each of so many years.
    pub yearly: u32,
    /// All of the last so many days.
    pub within_days: u32,
    /// So many always stay, whatever the rules say.
    pub minimum: u32,
    /// Storage class of new archives in this repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

impl From<&KeepConfig> for RetentionPolicy {
    fn from(keep: &KeepConfig) -> Self {
        Self {
            last: keep.last,
            within_days: keep.within_days,
            hourly: keep.hourly,
            daily: keep.daily,
            weekly: keep.weekly,
            monthly: keep.monthly,
            yearly: keep.yearly,
            minimum: keep.minimum,
        }
    }
}

/// Snapshots that compete for the places of one policy.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group<'a> {
    host: &'a str,
    job: &'a str,
    /// Backups by hand all have one job: there only those of the same sources push each other out.
    sources: Option<Vec<&'a str>>,
}

impl<'a> Group<'a> {
    fn of(snapshot: &'a SnapshotFacts) -> Self {
        let by_hand = snapshot.job == ADHOC_JOB;
        let sources = by_hand.then(|| snapshot.sources.keys().map(String::as_str).collect());
        Self {
            host: &snapshot.host,
            job: &snapshot.job,
            sources,
        }
    }
}

/// How long snapshots stay that a restore took of what it replaced, in days.
const PRE_RESTORE_DAYS: u32 = 7;

/// Decides for every snapshot. Those of [`PRE_RESTORE_JOB`] have a rule of their own, and no other; those that a wrong clock
/// dated ahead of `now`, the time by the store's clock, stay and take nobody's place.
/// `policy_of` gives the policy of a job on a host; jobs without one keep everything. Days and
/// weeks are those of `zone`.
pub fn decide(
    facts: &[SnapshotFacts],
    policy_of: impl Fn(&str, &str) -> Option<RetentionPolicy>,
    now: Timestamp,
    zone: &TimeZone,
) -> PrunePlan {
    let mut groups: BTreeMap<Group<'_>, Vec<&SnapshotFacts>> = BTreeMap::new();
    let mut decisions = Vec::with_capacity(facts.len());
    for snapshot in facts {
        if is_ahead(snapshot.started.max(snapshot.finished), now) {
            decisions.push(Decision::kept(snapshot, Some(Reason::Ahead)));
        } else if snapshot.job == PRE_RESTORE_JOB {
            let age = now.duration_since(snapshot.started);
            let young = age <= SignedDuration::from_hours(i64::from(PRE_RESTORE_DAYS) * 24);
            decisions.push(Decision::kept(snapshot, young.then_some(Reason::PreRestore)));
        } else {
            groups.entry(Group::of(snapshot)).or_default().push(snapshot);
        }
    }
    for (Group { host, job, .. }, mut snapshots) in groups {
        snapshots.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
        let policy = policy_of(host, job).unwrap_or_default();
        decisions.extend(decide_group(&snapshots, policy, now, zone));
    }
    decisions.sort_by(|a, b| a.snapshot.id.cmp(&b.snapshot.id));
    PrunePlan { decisions }
}

/// Decides for the snapshots of one host and job, newest first.
fn decide_group(
    snapshots: &[&SnapshotFacts],
    policy: RetentionPolicy,
    now: Timestamp,
    zone: &TimeZone,
) -> Vec<Decision> {
    let mut reasons: Vec<BTreeSet<Reason>> = vec![BTreeSet::new(); snapshots.len()];
    for (snapshot, reasons) in snapshots.iter().zip(&mut reasons) {
        reasons.extend(snapshot.pin.clone().map(Reason::Pinned));
    }
    if policy.is_empty() {
        for kept in &mut reasons {
            kept.insert(Reason::NoRule);
        }
    } else {
        // Sources that left the job age out with the complete snapshots; they hold nothing for ever.
        let current = snapshots.first().map(|newest| newest.sources.keys());
        let sources = current.into_iter().flatten().map(|name| Some(name.as_str()));
        let histories: Vec<Option<&str>> = std::iter::once(None).chain(sources).collect();
        for source in &histories {
            rules::apply(snapshots, &mut reasons, *source, policy, now, zone);
        }
        for source in &histories {
            rules::fill(snapshots, &mut reasons, *source, policy.minimum);
        }
    }
    let decide = |(snapshot, reasons): (&&SnapshotFacts, BTreeSet<Reason>)| Decision {
        snapshot: (*snapshot).clone(),
        reasons,
    };
    snapshots.iter().zip(reasons).map(decide).collect()
}

#[cfg(test)]
mod tests;
