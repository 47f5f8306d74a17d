//! The keep rules over one history.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use crate::base::exact;
use crate::policy::retention::{Reason, RetentionPolicy, SnapshotFacts};

/// How many periods a rule keeps, how a period is named, and the reason it gives.
type Calendar = (u32, &'static str, fn(String) -> Reason);

/// Adds the reasons of one history: of the complete snapshots, or of those in which `source` succeeded. `snapshots` are
/// of one host and job, newest first; `reasons` lie beside them.
pub(super) fn apply(
    snapshots: &[&SnapshotFacts],
    reasons: &mut [BTreeSet<Reason>],
    source: Option<&str>,
    policy: RetentionPolicy,
    now: Timestamp,
    zone: &TimeZone,
) {
    let mut history = history(snapshots, reasons, source);
    if let Some((_, newest)) = history.first_mut() {
        newest.insert(source.map_or(Reason::LastGood, |name| Reason::LastGoodOf(name.to_owned())));
    }
    for (_, reasons) in history.iter_mut().take(count(policy.last)) {
        reasons.insert(Reason::Last);
    }
    if policy.within_days > 0 {
        let span = SignedDuration::from_hours(i64::from(policy.within_days).saturating_mul(24));
        // One whose clock was a little fast is within any span.
        for (_, reasons) in history
            .iter_mut()
            .filter(|(s, _)| now.duration_since(s.started) <= span)
        {
            reasons.insert(Reason::Within);
        }
    }
    let calendar: [Calendar; 5] = [
        (policy.hourly, "%Y-%m-%dT%H%z", Reason::Hourly),
        (policy.daily, "%Y-%m-%d", Reason::Daily),
        (policy.weekly, "%G-W%V", Reason::Weekly),
        (policy.monthly, "%Y-%m", Reason::Monthly),
        (policy.yearly, "%Y", Reason::Yearly),
    ];
    for (wanted, format, reason) in calendar {
        let (mut left, mut before) = (wanted, None);
        for (snapshot, reasons) in &mut history {
            let period = period(&snapshot.started.to_zoned(zone.clone()), format);
            // Newest first, so the first of a period is the newest in it, and equal periods lie together.
            if left == 0 {
                break;
            }
            if before.as_ref() != Some(&period) {
                reasons.insert(reason(period.clone()));
                left -= 1;
                before = Some(period);
            }
        }
    }
}

/// Fills one history up with its newest, until so many stay. What stays for another reason counts.
pub(super) fn fill(snapshots: &[&SnapshotFacts], reasons: &mut [BTreeSet<Reason>], source: Option<&str>, minimum: u32) {
    let mut history = history(snapshots, reasons, source);
    let stay = history.iter().filter(|(_, reasons)| !reasons.is_empty()).count();
    let missing = count(minimum).saturating_sub(stay);
    let unkept = history.iter_mut().filter(|(_, reasons)| reasons.is_empty());
    for (_, reasons) in unkept.take(missing) {
        reasons.insert(Reason::Minimum);
    }
}

/// The complete snapshots, or those in which `source` succeeded, with their reasons.
fn history<'a>(
    snapshots: &[&'a SnapshotFacts],
    reasons: &'a mut [BTreeSet<Reason>],
    source: Option<&str>,
) -> Vec<(&'a SnapshotFacts, &'a mut BTreeSet<Reason>)> {
    let counts = |snapshot: &SnapshotFacts| match source {
        None => snapshot.is_complete(),
        Some(name) => snapshot.sources.get(name).copied().unwrap_or(false),
    };
    let all = snapshots.iter().zip(reasons);
    all.filter(|(snapshot, _)| counts(snapshot))
        .map(|(snapshot, reasons)| (*snapshot, reasons))
        .collect()
}

/// Names the period. Hours carry their offset: the hour that a change of the clocks repeats is two hours.
fn period(time: &Zoned, format: &str) -> String {
    time.strftime(format).to_string()
}

fn count(number: u32) -> usize {
    exact::usize_from(u64::from(number))
}
