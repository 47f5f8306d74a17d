//! Takes away what no snapshot needs: data without a manifest, left uploads, old markers.
//!
//! A sweep takes only data without a manifest whose marker is absent or older than the grace by the store's clock, and
//! whose youngest object or upload is older than that too. Before it touches anything it writes `runs/<id>.swept`, and
//! only then looks for the manifest once more. A run writes its manifest and only then looks for `.swept`. So whatever
//! the order, one of the two sees the other: either the sweep leaves the data alone, or the run takes its manifest back.
//!
//! A run that is alive rewrites its marker every 30 s and ends itself after ten minutes without, so the grace of a day
//! never meets one. A removed snapshot gets a new marker before its manifest goes, so its data outlive it by the grace.
//!
//! A sweep never removes a manifest and never looks into one: a snapshot whose manifest is damaged keeps its data. What
//! bears no snapshot id is not ours and stays. Evidence of snapshots that are gone stays as well: it is small, and it
//! says what was proven when. A tombstone goes with a later sweep, a grace after it was written.
//!
//! A sweep that ends half-way is finished by the next one: the marker, which names the uploads, is removed last.

mod apply;
mod standing;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

pub use apply::SweepReport;
use standing::Standing;
pub use standing::Verdict;

use crate::base::error::{Context, ErrorKind, Result};
use crate::repository::{Repository, SnapshotId, layout};
use crate::storage::{ObjectMeta, OpenUpload, SharedStore};

/// Options of a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepOptions {
    /// What is younger than this, by the store's clock, is left alone. A restore of a snapshot that is removed meanwhile
    /// has this long to end.
    pub grace: Duration,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(24 * 3600),
        }
    }
}

/// What a sweep would do. Making it changes nothing; [`Repository::sweep`] carries it out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SweepPlan {
    /// The moment it was made for, by the store's clock.
    #[serde(skip)]
    pub now: Timestamp,
    /// The options it was made with.
    #[serde(skip)]
    pub options: SweepOptions,
    /// What is to be done, by snapshot id.
    pub items: Vec<SweepItem>,
    /// Data or markers that wait: of runs at work, or not older than the grace.
    pub waiting: Vec<SnapshotId>,
    /// What could not be looked at.
    pub notes: Vec<String>,
}

/// What a sweep would do under one snapshot id.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SweepItem {
    /// The id.
    pub id: SnapshotId,
    /// What is done.
    pub verdict: Verdict,
    /// Objects that go.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Open uploads that the store lists and that are aborted; those in a marker come on top.
    #[serde(skip)]
    pub uploads: Vec<OpenUpload>,
}

impl SweepPlan {
    /// Returns how many objects go and their size in bytes.
    pub fn totals(&self) -> (u64, u64) {
        let add = |(objects, bytes): (u64, u64), item: &SweepItem| (objects + item.objects, bytes + item.bytes);
        self.items.iter().fold((0, 0), add)
    }

    /// Returns whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl Repository {
    /// Looks for what no snapshot needs. `now` is the time by the store's own clock (`store.now()`).
    pub async fn sweep_plan(&self, now: Timestamp, options: &SweepOptions) -> Result<SweepPlan> {
        let mut notes = Vec::new();
        let standings = survey(self.store(), &mut notes).await?;
        let (mut items, mut waiting) = (Vec::new(), Vec::new());
        for (id, standing) in standings {
            match standing.judge(now, options.grace) {
                Verdict::Nothing => {}
                Verdict::Wait => waiting.push(id),
                verdict => items.push(SweepItem {
                    id,
                    objects: if verdict == Verdict::Sweep { standing.objects } else { 0 },
                    bytes: if verdict == Verdict::Sweep { standing.bytes } else { 0 },
                    verdict,
                    uploads: standing.uploads,
                }),
            }
        }
        let options = options.clone();
        Ok(SweepPlan {
            now,
            options,
            items,
            waiting,
            notes,
        })
    }

    /// Carries a plan out. Each id is looked at again first; a failure under one does not keep the others.
    pub async fn sweep(&self, plan: &SweepPlan) -> SweepReport {
        apply::apply(self, plan).await
    }
}

/// Collects what lies under every id. Manifests are listed last: a run that commits meanwhile is then seen as committed.
async fn survey(store: &SharedStore, notes: &mut Vec<String>) -> Result<BTreeMap<SnapshotId, Standing>> {
    let mut standings: BTreeMap<SnapshotId, Standing> = BTreeMap::new();
    let mut foreign = 0_u64;
    for_each_object(store, layout::RUNS, |object| {
        if let Some(id) = layout::id_in(&object.key, layout::RUNS, ".json") {
            standings.entry(id).or_default().marker = Some(object.modified);
        } else if let Some(id) = layout::id_in(&object.key, layout::RUNS, ".swept") {
            standings.entry(id).or_default().tombstone = Some(object.modified);
        } else {
            foreign += 1;
        }
    })
    .await?;
    for_each_object(store, layout::DATA, |object| {
        match layout::id_in(&object.key, layout::DATA, "/") {
            Some(id) => standings.entry(id).or_default().add(&object),
            None => foreign += 1,
        }
    })
    .await?;
    for upload in open_uploads(store, layout::DATA, notes).await? {
        match layout::id_in(&upload.key, layout::DATA, "/") {
            Some(id) => standings.entry(id).or_default().uploads.push(upload),
            None => foreign += 1,
        }
    }
    for_each_object(store, layout::SNAPSHOTS, |object| {
        if let Some(id) = layout::id_in(&object.key, layout::SNAPSHOTS, ".json") {
            standings.entry(id).or_default().manifest = true;
        }
    })
    .await?;
    if foreign > 0 {
        notes.push(format!("keeping {foreign} objects or uploads without a snapshot id"));
    }
    Ok(standings)
}

/// Lists page by page.
async fn for_each_object(store: &SharedStore, prefix: &str, mut each: impl FnMut(ObjectMeta)) -> Result<()> {
    let mut next = None;
    loop {
        let page = store
            .list(prefix, next)
            .await
            .with_context(|| format!("list \"{prefix}\""))?;
        page.objects.into_iter().for_each(&mut each);
        next = page.next;
        if next.is_none() {
            return Ok(());
        }
    }
}

/// Lists open uploads; where that is not possible, only those in markers are known.
async fn open_uploads(store: &SharedStore, prefix: &str, notes: &mut Vec<String>) -> Result<Vec<OpenUpload>> {
    match store.list_uploads(prefix).await {
        Ok(uploads) => Ok(uploads),
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => {
            notes.push("open uploads cannot be listed here; only those in run markers are aborted".to_owned());
            Ok(Vec::new())
        }
        Err(error) => Err(error.context("list open uploads")),
    }
}
