//! Carries a sweep plan out, one snapshot id after another.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::{SweepItem, SweepPlan, Verdict, for_each_object};
use crate::base::error::{Context, Error, ErrorKind, Result, if_there};
use crate::base::exact;
use crate::repository::run::{Marker, mark_removed};
use crate::repository::sweep::standing::Standing;
use crate::repository::{Manifest, Repository, SnapshotId, document, layout};
use crate::storage::{ObjectKey, ObjectOptions, PutMode, SharedStore, UploadId};

/// Deletions that are under way at once.
const CONCURRENT_DELETES: usize = 16;

/// What a sweep did.
#[derive(Debug, Default, serde::Serialize)]
pub struct SweepReport {
    /// Runs whose data are gone.
    #[serde(skip)]
    pub swept: Vec<SnapshotId>,
    /// Objects that were removed.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Uploads that were aborted (those that had ended already are counted as well).
    pub uploads: u64,
    /// Temporary files of processes that died, which the store itself knew to be neither object nor upload.
    pub leftovers: u64,
    /// What was left alone, and why; what the reader should look at.
    pub notes: Vec<String>,
    /// What failed, by snapshot id; the next sweep goes on there.
    #[serde(serialize_with = "named_failures")]
    pub failures: Vec<(SnapshotId, Error)>,
}

/// Writes what failed as `{"id", "error"}`, the error with its causes.
fn named_failures<S: serde::Serializer>(
    failures: &[(SnapshotId, Error)],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    #[derive(serde::Serialize)]
    struct Failure<'a> {
        id: &'a SnapshotId,
        error: String,
    }
    serializer.collect_seq(failures.iter().map(|(id, error)| Failure {
        id,
        error: error.chain(),
    }))
}

/// The tombstone of a run.
#[derive(Debug, serde::Serialize)]
struct Tombstone<'a> {
    format: u32,
    id: &'a SnapshotId,
    swept: Timestamp,
}

pub(super) async fn apply(repository: &Repository, plan: &SweepPlan) -> SweepReport {
    let mut report = SweepReport {
        notes: plan.notes.clone(),
        ..SweepReport::default()
    };
    for item in &plan.items {
        let done = match item.verdict {
            Verdict::Sweep => sweep_run(repository, plan, item, &mut report).await,
            Verdict::Tidy => tidy(repository, plan, item, &mut report).await,
            Verdict::Forget => forget(repository.store(), &item.id).await,
            Verdict::Nothing | Verdict::Wait => Ok(()),
        };
        if let Err(error) = done {
            let error = error.context(format!("sweep {}", item.id));
            report.failures.push((item.id.clone(), error));
        }
    }
    let grace = exact::saturating_signed(plan.options.grace);
    if let Ok(before) = plan.now.checked_sub(grace) {
        match repository.store().remove_leftovers(before).await {
            Ok(count) => report.leftovers = count,
            Err(error) => report
                .notes
                .push(format!("unable to remove leftovers in the store: {}", error.chain())),
        }
    }
    report
}

/// Removes what a run without a manifest left: tombstone first, then a last look for the manifest, then uploads, data
/// and, when all of that is gone, the marker.
async fn sweep_run(
    repository: &Repository,
    plan: &SweepPlan,
    item: &SweepItem,
    report: &mut SweepReport,
) -> Result<()> {
    let (store, id) = (repository.store(), &item.id);
    let standing = look_again(store, item).await?;
    if standing.judge(plan.now, plan.options.grace) != Verdict::Sweep {
        report
            .notes
            .push(format!("keeping {id}: it has changed since the sweep was planned"));
        return Ok(());
    }
    let mut uploads = marked_uploads(store, id, &mut report.notes).await?;
    uploads.extend(
        item.uploads
            .iter()
            .map(|upload| (upload.key.clone(), upload.id.clone())),
    );

    let tombstone = Tombstone {
        format: document::FORMAT,
        id,
        swept: plan.now,
    };
    let body = Bytes::from(document::encode(&tombstone)?);
    store
        .put(&layout::swept(id)?, body, PutMode::Overwrite, &ObjectOptions::default())
        .await
        .context("write tombstone")?;
    // From here on the run cannot commit: it looks for the tombstone after it has written its manifest. A manifest that
    // is there now was written before, and its run may not have seen the tombstone.
    if if_there(store.head(&layout::manifest(id)?).await)?.is_some() {
        report
            .notes
            .push(format!("keeping the data of {id}: it was committed in the meantime"));
        return Ok(());
    }
    abort(store, uploads, report).await?;
    remove_data(store, id, report).await?;
    store.delete(&layout::marker(id)?).await.context("remove run marker")?;
    report.swept.push(id.clone());
    Ok(())
}

/// Removes what the run of an existing snapshot left beside it. The data stay, named by the manifest or not.
async fn tidy(repository: &Repository, plan: &SweepPlan, item: &SweepItem, report: &mut SweepReport) -> Result<()> {
    let (store, id) = (repository.store(), &item.id);
    let standing = look_again(store, item).await?;
    if standing.judge(plan.now, plan.options.grace) != Verdict::Tidy {
        report
            .notes
            .push(format!("keeping {id}: it has changed since the sweep was planned"));
        return Ok(());
    }
    let mut uploads = marked_uploads(store, id, &mut report.notes).await?;
    uploads.extend(
        item.uploads
            .iter()
            .map(|upload| (upload.key.clone(), upload.id.clone())),
    );
    abort(store, uploads, report).await?;
    if standing.marker.is_some() {
        store.delete(&layout::marker(id)?).await.context("remove run marker")?;
        // A snapshot that was removed meanwhile had a new marker, and it was that one which went: its data must not
        // be without one, or the next sweep would take them before their grace.
        if if_there(store.head(&layout::manifest(id)?).await)?.is_none() {
            mark_removed(store, id).await?;
        }
    }
    // A younger tombstone may belong to a sweep that is still removing.
    if standing.has_old_tombstone(plan.now, plan.options.grace) {
        settle_tombstone(repository, id, report).await?;
    }
    Ok(())
}

/// A run was swept while it committed, and did not live to take its manifest back. With every object there, the sweep
/// had left it alone and the tombstone goes; otherwise it is for a person to look at.
async fn settle_tombstone(repository: &Repository, id: &SnapshotId, report: &mut SweepReport) -> Result<()> {
    let lacks = match repository.load(id).await {
        Ok(manifest) => missing_object(repository.store(), &manifest)
            .await?
            .map(|key| format!("\"{key}\"")),
        Err(error) if error.kind() == ErrorKind::Corrupt => Some("a readable manifest".to_owned()),
        Err(error) => return Err(error),
    };
    match lacks {
        None => forget(repository.store(), id).await?,
        Some(what) => report.notes.push(format!(
            "snapshot {id} was swept while it was committed and lacks {what}; run `wirevault verify {id}`"
        )),
    }
    Ok(())
}

/// Removes the tombstone of a run.
async fn forget(store: &SharedStore, id: &SnapshotId) -> Result<()> {
    store.delete(&layout::swept(id)?).await.context("remove tombstone")
}

/// Looks at one id anew; only the uploads are those of the plan, since listing them costs most.
async fn look_again(store: &SharedStore, item: &SweepItem) -> Result<Standing> {
    let id = &item.id;
    let mut standing = Standing {
        uploads: item.uploads.clone(),
        ..Standing::default()
    };
    let time = |meta: Option<crate::storage::ObjectMeta>| meta.map(|meta| meta.modified);
    standing.marker = time(if_there(store.head(&layout::marker(id)?).await)?);
    standing.tombstone = time(if_there(store.head(&layout::swept(id)?).await)?);
    for_each_object(store, &layout::data(id), |object| standing.add(&object)).await?;
    standing.manifest = if_there(store.head(&layout::manifest(id)?).await)?.is_some();
    Ok(standing)
}

/// Returns the uploads that a run journaled in its marker. A marker is untrusted: only uploads of the run's own data count.
async fn marked_uploads(
    store: &SharedStore,
    id: &SnapshotId,
    notes: &mut Vec<String>,
) -> Result<BTreeSet<(ObjectKey, UploadId)>> {
    let read = store.get(&layout::marker(id)?, document::MAX_DOCUMENT_BYTES).await;
    let Some(bytes) = if_there(read).context("read run marker")? else {
        return Ok(BTreeSet::new());
    };
    match document::decode::<Marker>(&bytes) {
        Ok(marker) => Ok(marker
            .uploads
            .into_iter()
            .filter(|upload| upload.key.as_str().starts_with(&layout::data(id)))
            .map(|upload| (upload.key, upload.id))
            .collect()),
        // A marker of a newer format stays, with all it names: another program knows what it means.
        Err(error) if error.kind() == ErrorKind::Unsupported => Err(error),
        Err(error) => {
            notes.push(format!("the run marker of {id} cannot be read: {}", error.chain()));
            Ok(BTreeSet::new())
        }
    }
}

async fn abort(store: &SharedStore, uploads: BTreeSet<(ObjectKey, UploadId)>, report: &mut SweepReport) -> Result<()> {
    for (key, upload) in uploads {
        match store.abort_upload(&key, &upload).await {
            Ok(()) => report.uploads += 1,
            // A marker names an upload until the run's next heartbeat, even one that was completed, and some stores deny
            // to abort what they no longer know. Where the object is, its upload has ended.
            Err(error) if error.kind() == ErrorKind::Denied && if_there(store.head(&key).await)?.is_some() => {}
            Err(error) => return Err(error.context(format!("abort upload of \"{key}\""))),
        }
    }
    Ok(())
}

/// Removes everything under `data/<id>/`, page by page.
async fn remove_data(store: &SharedStore, id: &SnapshotId, report: &mut SweepReport) -> Result<()> {
    let prefix = layout::data(id);
    let mut before = None;
    loop {
        // Always the first page: what it listed is gone when the next one is asked for.
        let page = store.list(&prefix, None).await.context("list data")?;
        if page.objects.is_empty() {
            return Ok(());
        }
        let first = page.objects.first().map(|object| object.key.clone());
        if first == before {
            let message = format!("\"{prefix}\" still lists objects that were removed");
            return Err(Error::new(ErrorKind::Other, message).with_hint("The next sweep tries again."));
        }
        before = first;
        let bytes: u64 = page.objects.iter().map(|object| object.size_bytes).sum();
        let count = page.objects.len();
        futures_util::stream::iter(page.objects)
            .map(|object| async move {
                let deleted = store.delete(&object.key).await;
                deleted.with_context(|| format!("remove object \"{}\"", object.key))
            })
            .buffer_unordered(CONCURRENT_DELETES)
            .try_collect::<()>()
            .await?;
        report.objects += exact::u64_from(count);
        report.bytes = report.bytes.saturating_add(bytes);
    }
}

/// Returns the first object of a snapshot that is not there with its size.
async fn missing_object(store: &SharedStore, manifest: &Manifest) -> Result<Option<ObjectKey>> {
    for object in manifest.objects() {
        match if_there(store.head(&object.key).await)? {
            Some(meta) if meta.size_bytes == object.size_bytes => {}
            _ => return Ok(Some(object.key.clone())),
        }
    }
    Ok(None)
}
