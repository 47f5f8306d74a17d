//! Which snapshot `latest` means.
//!
//! The newest by the moment its run finished, fractions of seconds included, in which the sources that are asked for
//! succeeded. Two kinds are never meant: the snapshots that a restore takes of what it replaces ([`PRE_RESTORE_JOB`]), unless
//! they are asked for by that name, and those dated more than [`CLOCK_TOLERANCE`] ahead of the store's clock, which a host
//! with a wrong clock made: each would hide every snapshot after it until its date.
//!
//! A manifest that cannot be read may be the newest. It is named ([`Found::passed`]); whoever is about to write something
//! refuses to guess, whoever only reads goes on and says so.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};

use crate::base::error::{ErrorKind, Result};
use crate::repository::{Manifest, Repository, SnapshotId, id};

/// Job name of a backup whose sources were given as URLs.
pub const ADHOC_JOB: &str = "adhoc";

/// Job of the snapshots that `restore --clean` takes of what it is about to remove.
pub const PRE_RESTORE_JOB: &str = "pre-restore";

/// How far the clock of a host may be from the store's.
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(10);

/// Manifests that are read at once; each is under 1 MiB.
const CONCURRENT_READS: usize = 8;

/// Returns whether a moment lies further ahead of `now` than clocks may differ.
pub fn is_ahead(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) > CLOCK_TOLERANCE
}

impl Manifest {
    /// Returns whether the run's dates lie ahead of `now`, the time by the store's clock: its host's clock was wrong.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        is_ahead(self.started.max(self.finished), now)
    }
}

/// Says of a snapshot that would count by all else whether it is meant.
#[derive(Clone, Copy)]
pub struct Suits<'a>(pub &'a (dyn Fn(&Manifest) -> bool + Sync));

impl std::fmt::Debug for Suits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Suits")
    }
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Latest<'a> {
    /// Only of this host.
    pub host: Option<&'a str>,
    /// Only of this job; without one, of all jobs but [`PRE_RESTORE_JOB`].
    pub job: Option<&'a str>,
    /// Sources that must have succeeded; all of the snapshot's where none is named.
    pub sources: &'a [String],
    /// Where no host is named, the one whose snapshots come first: others count only if it has none.
    pub here: Option<&'a str>,
    /// What else must hold: another snapshot than the newest may be meant, because of what it holds.
    pub suits: Option<Suits<'a>>,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The newest.
    pub manifest: Manifest,
    /// Snapshots that may be newer, whose manifests cannot be read, and why.
    pub passed: Vec<(SnapshotId, String)>,
    /// If the snapshot is of another host than the one that comes first: every host that has one.
    pub hosts: BTreeSet<String>,
}

/// A search under way.
struct Search<'a> {
    wanted: &'a Latest<'a>,
    now: Timestamp,
    here: Option<Manifest>,
    elsewhere: Option<Manifest>,
    hosts: BTreeSet<String>,
    unreadable: Vec<(SnapshotId, String)>,
}

impl Search<'_> {
    /// Returns whether nothing that was written by `bound` can be newer than what was found.
    fn is_over(&self, bound: Timestamp) -> bool {
        let found = self.here.as_ref();
        found.is_some_and(|best| best.finished.duration_since(bound) > CLOCK_TOLERANCE)
    }

    fn offer(&mut self, manifest: Manifest) {
        let wanted = self.wanted;
        let job = match wanted.job {
            Some(job) => manifest.job == job,
            None => manifest.job != PRE_RESTORE_JOB,
        };
        let host = wanted.host.is_none_or(|host| manifest.host == host);
        let whole = match wanted.sources {
            [] => manifest.is_complete(),
            sources => sources.iter().all(|source| manifest.has(source)),
        };
        if !(job && host && whole) || manifest.is_ahead(self.now) {
            return;
        }
        if wanted.suits.is_some_and(|Suits(suits)| !suits(&manifest)) {
            return;
        }
        let first = wanted.host.is_some() || wanted.here.is_none_or(|here| manifest.host == here);
        if !first {
            self.hosts.insert(manifest.host.clone());
        }
        let place = if first { &mut self.here } else { &mut self.elsewhere };
        let age = |one: &Manifest| (one.finished, one.started);
        if place.as_ref().is_none_or(|best| age(&manifest) > age(best)) {
            *place = Some(manifest);
        }
    }

    fn end(self) -> std::result::Result<Found, Vec<(SnapshotId, String)>> {
        let hosts = if self.here.is_some() {
            BTreeSet::new()
        } else {
            self.hosts
        };
        let Some(manifest) = self.here.or(self.elsewhere) else {
            return Err(self.unreadable);
        };
        // By its name alone: nothing else is known of it.
        let newer = |(id, _): &(SnapshotId, String)| *id > manifest.id && !is_ahead(id.started(), self.now);
        let passed = self.unreadable.into_iter().filter(newer).collect();
        Ok(Found {
            manifest,
            passed,
            hosts,
        })
    }
}

impl Repository {
    /// Returns the time by the store's clock; where it does not tell (a place that may not be written), by this host's.
    pub async fn clock(&self) -> Timestamp {
        match self.store().now().await {
            Ok(now) => now,
            Err(error) => {
                tracing::debug!("unable to get the time of the store: {}", error.chain());
                Timestamp::now()
            }
        }
    }

    /// Finds the newest snapshot, or returns the unreadable ones if there is none.
    pub async fn latest(&self, wanted: &Latest<'_>) -> Result<std::result::Result<Found, Vec<(SnapshotId, String)>>> {
        let now = self.clock().await;
        let mut listed = self.listed().await?;
        listed.retain(|(id, _)| may_be(id, wanted.job));
        // A manifest is written when its run has finished, and copied later. So by what was written last first, reading
        // ends as soon as nothing newer can follow.
        let bound = |(id, written): &(SnapshotId, Timestamp)| (*written).max(id.started());
        listed.sort_by_key(|one| Reverse(bound(one)));
        let read = |one: (SnapshotId, Timestamp)| async move {
            let manifest = self.load(&one.0).await;
            (manifest, bound(&one), one.0)
        };
        let mut manifests = futures_util::stream::iter(listed).map(read).buffered(CONCURRENT_READS);
        let mut search = Search {
            wanted,
            now,
            here: None,
            elsewhere: None,
            hosts: BTreeSet::new(),
            unreadable: Vec::new(),
        };
        while let Some((manifest, bound, id)) = manifests.next().await {
            if search.is_over(bound) {
                break;
            }
            match manifest {
                Ok(manifest) => search.offer(manifest),
                // Removed since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                    search.unreadable.push((id, error.chain()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(search.end())
    }
}

/// Whether a snapshot can be of a job, by its id alone.
fn may_be(id: &SnapshotId, job: Option<&str>) -> bool {
    match job {
        Some(job) => id.job() == id::sanitised_job(job),
        None => id.job() != PRE_RESTORE_JOB,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::archive::SourceOutcome;
    use crate::repository::{ManifestSource, document, layout};
    use crate::storage::memory::MemoryStore;
    use crate::storage::{ObjectOptions, ObjectStore, PutMode};

    struct Bench {
        store: Arc<MemoryStore>,
        repository: Repository,
    }

    fn source(name: &str, ok: bool, at: Timestamp) -> ManifestSource {
        let outcome = SourceOutcome {
            versions: BTreeMap::new(),
            position: BTreeMap::new(),
            consistent_at: at,
            raw_bytes: 0,
            items: 0,
            note_counts: BTreeMap::new(),
            archives: vec![],
        };
        ManifestSource {
            name: name.to_owned(),
            kind: "files".to_owned(),
            started: at,
            finished: at,
            outcome: ok.then_some(outcome),
            error: None,
            optional: false,
        }
    }

    impl Bench {
        async fn new() -> Self {
            let store = Arc::new(MemoryStore::new());
            let repository = Repository::init(store.clone()).await.unwrap();
            Self { store, repository }
        }

        /// Makes a snapshot that began and finished so many milliseconds from now.
        async fn add(&self, host: &str, job: &str, (from, to): (i64, i64), sources: &[(&str, bool)]) -> SnapshotId {
            let at = |ms: i64| Timestamp::now() + SignedDuration::from_millis(ms);
            let id = SnapshotId::unique(at(from), job);
            let manifest = Manifest {
                format: document::FORMAT,
                repository: self.repository.id().to_owned(),
                id: id.clone(),
                host: host.to_owned(),
                job: job.to_owned(),
                started: at(from),
                finished: at(to),
                previous: None,
                skew_seconds: 0.0,
                sources: sources.iter().map(|(name, ok)| source(name, *ok, at(to))).collect(),
                plan: crate::repository::StoredPlan::default(),
                program: "test".to_owned(),
            };
            self.put(&id, document::encode(&manifest).unwrap()).await;
            id
        }

        async fn put(&self, id: &SnapshotId, bytes: Vec<u8>) {
            let (key, options) = (layout::manifest(id).unwrap(), ObjectOptions::default());
            let put = self.store.put(&key, Bytes::from(bytes), PutMode::Overwrite, &options);
            put.await.unwrap();
        }

        async fn latest(&self, wanted: &Latest<'_>) -> Option<SnapshotId> {
            let found = self.repository.latest(wanted).await.unwrap();
            found.ok().map(|found| found.manifest.id)
        }
    }

    const DB: &[(&str, bool)] = &[("db", true)];

    #[tokio::test]
    async fn the_newest_is_the_one_that_finished_last_whatever_began_last() {
        let bench = Bench::new().await;
        let long = bench.add("web1", "full", (-5000, -100), DB).await;
        bench.add("web1", "full", (-4000, -101), DB).await;
        bench.add("web1", "full", (-300, -200), &[("db", false)]).await;
        assert_eq!(bench.latest(&Latest::default()).await, Some(long));
    }

    #[tokio::test]
    async fn a_snapshot_from_the_future_and_one_before_a_restore_are_never_meant() {
        let bench = Bench::new().await;
        let good = bench.add("web1", "full", (-5000, -4000), DB).await;
        bench.add("web1", "full", (3_600_000, 3_600_100), DB).await;
        let kept = bench.add("web1", PRE_RESTORE_JOB, (-100, -50), DB).await;
        assert_eq!(bench.latest(&Latest::default()).await, Some(good.clone()));
        let named = Latest {
            job: Some(PRE_RESTORE_JOB),
            ..Latest::default()
        };
        assert_eq!(bench.latest(&named).await, Some(kept));
        // A clock that is a little fast is nothing.
        let fast = bench.add("web1", "full", (300_000, 300_100), DB).await;
        assert_eq!(bench.latest(&Latest::default()).await, Some(fast));
    }

    #[tokio::test]
    async fn an_unreadable_snapshot_is_named_if_it_may_be_the_newest() {
        let bench = Bench::new().await;
        let old = bench.add("web1", "full", (-90_000, -80_000), DB).await;
        let good = bench.add("web1", "full", (-5000, -4000), DB).await;
        bench.put(&old, b"{".to_vec()).await;
        let found = bench.repository.latest(&Latest::default()).await.unwrap().unwrap();
        assert!(found.manifest.id == good && found.passed.is_empty(), "{found:?}");
        let newest = bench.add("web1", "full", (-300, -200), DB).await;
        bench.put(&newest, b"{".to_vec()).await;
        let found = bench.repository.latest(&Latest::default()).await.unwrap().unwrap();
        assert!(
            found.manifest.id == good && found.passed.len() == 1 && found.passed[0].0 == newest,
            "{found:?}"
        );
        // One of another job says nothing of this one.
        let other = Latest {
            job: Some("other"),
            ..Latest::default()
        };
        assert_eq!(bench.latest(&other).await, None);
    }

    #[tokio::test]
    async fn the_own_host_comes_first_and_a_source_is_taken_from_any_job() {
        let bench = Bench::new().await;
        let own = bench
            .add("web1", "nightly", (-9000, -8000), &[("db", true), ("etc", false)])
            .await;
        let other = bench.add("web2", "full", (-300, -200), DB).await;
        let db = ["db".to_owned()];
        let asked = |here| Latest {
            sources: &db,
            here: Some(here),
            ..Latest::default()
        };
        assert_eq!(bench.latest(&asked("web1")).await, Some(own));
        let found = bench.repository.latest(&asked("web9")).await.unwrap().unwrap();
        assert_eq!(found.manifest.id, other);
        assert_eq!(found.hosts.len(), 2);
    }
}
