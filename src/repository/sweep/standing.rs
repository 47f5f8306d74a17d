//! What lies under one snapshot id, and what follows from it: a pure decision.

use std::time::Duration;

use jiff::Timestamp;

use crate::base::exact;
use crate::storage::{ObjectMeta, OpenUpload};

/// What lies in a repository under one snapshot id. Times are those of the store.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// Whether there is a manifest, whatever its state.
    pub(super) manifest: bool,
    /// When the run marker was last written.
    pub(super) marker: Option<Timestamp>,
    /// When the tombstone was written.
    pub(super) tombstone: Option<Timestamp>,
    /// Objects under `data/<id>/`.
    pub(super) objects: u64,
    /// Their size in bytes.
    pub(super) bytes: u64,
    /// When the youngest of them was written.
    pub(super) newest: Option<Timestamp>,
    /// Open uploads under `data/<id>/`.
    pub(super) uploads: Vec<OpenUpload>,
}

/// What a sweep does under one snapshot id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing is to be done.
    Nothing,
    /// Something may have to be done later: a run is at work, or the grace has not passed.
    Wait,
    /// No snapshot: uploads, data and marker go.
    Sweep,
    /// A snapshot: its data stay; a left marker, left uploads or a left tombstone go.
    Tidy,
    /// The tombstone of a run of which nothing else is left goes.
    Forget,
}

impl Standing {
    /// Adds an object under `data/<id>/`.
    pub(super) fn add(&mut self, object: &ObjectMeta) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(object.size_bytes);
        self.newest = self.newest.max(Some(object.modified));
    }

    /// Returns whether there is a tombstone older than the grace: the sweep that wrote it has ended.
    pub(super) fn has_old_tombstone(&self, now: Timestamp, grace: Duration) -> bool {
        self.tombstone.is_some_and(|time| !is_young(time, now, grace))
    }

    /// Decides.
    pub(super) fn judge(&self, now: Timestamp, grace: Duration) -> Verdict {
        let young = |time: Timestamp| is_young(time, now, grace);
        let at_work = self.marker.is_some_and(young);
        let uploading = self.uploads.iter().any(|upload| young(upload.initiated));
        if self.manifest {
            let left = self.marker.is_some() || !self.uploads.is_empty();
            return match (at_work || uploading, left || self.has_old_tombstone(now, grace)) {
                (true, _) => Verdict::Wait,
                (false, true) => Verdict::Tidy,
                (false, false) => Verdict::Nothing,
            };
        }
        if self.marker.is_none() && self.objects == 0 && self.uploads.is_empty() {
            return match self.tombstone {
                Some(time) if young(time) => Verdict::Wait,
                Some(_) => Verdict::Forget,
                None => Verdict::Nothing,
            };
        }
        if at_work || uploading || self.newest.is_some_and(young) {
            Verdict::Wait
        } else {
            Verdict::Sweep
        }
    }
}

/// A time in the future is young: nothing goes because a clock was wrong.
fn is_young(time: Timestamp, now: Timestamp, grace: Duration) -> bool {
    now.duration_since(time) <= exact::saturating_signed(grace)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::storage::{ObjectKey, UploadId};

    const GRACE: Duration = Duration::from_secs(24 * 3600);

    fn hours_ago(hours: i64) -> Timestamp {
        now().checked_sub(SignedDuration::from_hours(hours)).unwrap()
    }

    fn now() -> Timestamp {
        "2026-02-03T00:00:00Z".parse().unwrap()
    }

    fn upload(hours: i64) -> OpenUpload {
        let key = ObjectKey::new("data/x/db/0000.tar.zst").unwrap();
        let id = UploadId("1".to_owned());
        OpenUpload {
            key,
            id,
            initiated: hours_ago(hours),
        }
    }

    /// Every combination of what may lie there: data go only if there is no manifest and nothing is young.
    #[test]
    fn only_old_data_without_a_manifest_are_swept() {
        let ages = [None, Some(-1), Some(1), Some(24), Some(25)];
        for manifest in [false, true] {
            for (marker, newest) in ages.iter().flat_map(|m| ages.iter().map(move |n| (*m, *n))) {
                for (pending, tombstone) in ages.iter().flat_map(|u| ages.iter().map(move |t| (*u, *t))) {
                    let standing = Standing {
                        manifest,
                        marker: marker.map(hours_ago),
                        tombstone: tombstone.map(hours_ago),
                        objects: u64::from(newest.is_some()),
                        bytes: 0,
                        newest: newest.map(hours_ago),
                        uploads: pending.map(upload).into_iter().collect(),
                    };
                    let verdict = standing.judge(now(), GRACE);
                    let old = |age: Option<i64>| age.is_none_or(|hours| hours > 24);
                    let there = marker.is_some() || newest.is_some() || pending.is_some();
                    let goes = !manifest && there && old(marker) && old(newest) && old(pending);
                    assert_eq!(verdict == Verdict::Sweep, goes, "{standing:?}");
                    if verdict == Verdict::Forget {
                        assert!(!manifest && !there && old(tombstone), "{standing:?}");
                    }
                    if verdict == Verdict::Tidy {
                        assert!(manifest && old(marker) && old(pending), "{standing:?}");
                    }
                }
            }
        }
    }
}
