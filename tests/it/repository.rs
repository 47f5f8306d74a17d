//! The repository under crashes: whatever a run or a sweep does not live to do, only whole snapshots are offered, and
//! sweeping by the default grace, under a clock that is moved, leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use wirevault::archive::{ArchiveInfo, Compression};
use wirevault::base::error::{ErrorKind, Result};
use wirevault::engines::SourceOutcome;
use wirevault::repository::{
    Manifest, ManifestSource, Repository, Run, RunOptions, SnapshotId, SweepOptions, document, layout,
};
use wirevault::storage::directory::DirectoryStore;
use wirevault::storage::memory::MemoryStore;
use wirevault::storage::upload::{ObjectWriter, StoredObject, UploadOptions};
use wirevault::storage::{Capabilities, ObjectKey, ObjectOptions, ObjectStore, PutMode, SharedStore};

use crate::faults::{FAULTS, Fault, FaultStore};
use crate::support::wait::{self, PATIENCE};

const DAY: SignedDuration = SignedDuration::from_hours(25);

/// A store, its wrapper with faults, and a repository in it.
struct Bench {
    memory: Arc<MemoryStore>,
    faults: Arc<FaultStore>,
    /// Reaches the store without faults.
    sound: Repository,
    /// Reaches it through them.
    faulty: Repository,
}

async fn bench_in(memory: MemoryStore) -> Bench {
    let memory = Arc::new(memory);
    let faults = FaultStore::new(Arc::clone(&memory));
    let sound = Repository::init(Arc::clone(&memory) as SharedStore).await.unwrap();
    let faulty = Repository::open(Arc::clone(&faults) as SharedStore).await.unwrap();
    Bench {
        memory,
        faults,
        sound,
        faulty,
    }
}

async fn bench() -> Bench {
    bench_in(MemoryStore::new().with_page_size(2)).await
}

async fn begin(repository: &Repository) -> Result<(SnapshotId, Run)> {
    begin_with(repository, RunOptions::default(), CancellationToken::new()).await
}

async fn begin_with(
    repository: &Repository,
    options: RunOptions,
    cancel: CancellationToken,
) -> Result<(SnapshotId, Run)> {
    repository.begin_run("full", "web1", options, cancel).await
}

async fn store_object(repository: &Repository, run: &Run, key: String, size: usize) -> Result<StoredObject> {
    let options = UploadOptions {
        part_bytes: 16,
        parts_in_flight: 1,
        journal: Some(run.journal()),
        ..UploadOptions::default()
    };
    let mut writer = ObjectWriter::create(repository.store().clone(), ObjectKey::new(key)?, options);
    writer.write(&vec![7; size]).await?;
    writer.finish().await
}

/// Stores an archive of several parts and an index of one.
async fn store_source(repository: &Repository, run: &Run, id: &SnapshotId, name: &str) -> Result<ManifestSource> {
    let home = layout::source_data(id, name)?;
    let archive = store_object(repository, run, format!("{home}/0000.tar.zst"), 40).await?;
    let index = store_object(repository, run, format!("{home}/0000.index.zst"), 5).await?;
    let info = ArchiveInfo {
        archive,
        index,
        directory_bytes: 5,
        directory_sha256: document::sha256_hex(&[7; 5]),
        raw_bytes: 1000,
        entries: 1,
        frames: 1,
        compression: Compression::default(),
        content_sha256: None,
    };
    Ok(source_record(name, Some(vec![info])))
}

fn source_record(name: &str, archives: Option<Vec<ArchiveInfo>>) -> ManifestSource {
    let now = Timestamp::now();
    let error = archives.is_none().then(|| "unable to connect".to_owned());
    let outcome = archives.map(|archives| SourceOutcome {
        versions: BTreeMap::new(),
        position: BTreeMap::new(),
        consistent_at: now,
        raw_bytes: 100,
        items: 1,
        note_counts: BTreeMap::new(),
        archives,
    });
    ManifestSource {
        name: name.to_owned(),
        kind: "files".to_owned(),
        started: now,
        finished: now,
        outcome,
        error,
        optional: false,
    }
}

fn manifest_of(repository: &Repository, id: &SnapshotId, sources: Vec<ManifestSource>) -> Manifest {
    Manifest {
        format: document::FORMAT,
        repository: repository.id().to_owned(),
        id: id.clone(),
        host: "web1".to_owned(),
        job: "full".to_owned(),
        started: Timestamp::now(),
        finished: Timestamp::now(),
        previous: None,
        skew_seconds: 0.0,
        sources,
        plan: serde_json::json!({}).into(),
        program: "test".to_owned(),
    }
}

/// A whole backup of two sources.
async fn back_up(repository: &Repository) -> Result<SnapshotId> {
    let (id, run) = begin(repository).await?;
    let manifest = store_all(repository, &run, &id).await?;
    run.commit(&manifest).await?;
    Ok(id)
}

async fn store_all(repository: &Repository, run: &Run, id: &SnapshotId) -> Result<Manifest> {
    let mut sources = Vec::new();
    for name in ["db", "config"] {
        sources.push(store_source(repository, run, id, name).await?);
    }
    Ok(manifest_of(repository, id, sources))
}

/// A run that died with an object, an open upload and a marker.
async fn crashed_run(repository: &Repository) -> SnapshotId {
    let (id, run) = begin(repository).await.unwrap();
    store_source(repository, &run, &id, "db").await.unwrap();
    let options = UploadOptions {
        part_bytes: 16,
        journal: Some(run.journal()),
        ..UploadOptions::default()
    };
    let key = ObjectKey::new(format!("data/{id}/config/0000.tar.zst")).unwrap();
    let mut writer = ObjectWriter::create(repository.store().clone(), key, options);
    writer.write(&[1; 40]).await.unwrap();
    id
}

async fn sweep(repository: &Repository) -> wirevault::repository::SweepReport {
    let now = repository.store().now().await.unwrap();
    let plan = repository.sweep_plan(now, &SweepOptions::default()).await.unwrap();
    repository.sweep(&plan).await
}

async fn keys(store: &MemoryStore, prefix: &str) -> Vec<String> {
    let (mut keys, mut next) = (Vec::new(), None);
    loop {
        let page = store.list(prefix, next).await.unwrap();
        keys.extend(page.objects.into_iter().map(|object| object.key.to_string()));
        next = page.next;
        if next.is_none() {
            return keys;
        }
    }
}

/// Every snapshot that is offered is whole.
async fn assert_whole_only(bench: &Bench, what: &str) -> Vec<SnapshotId> {
    let ids = bench.sound.list().await.unwrap();
    for id in &ids {
        let manifest = bench.sound.load(id).await.unwrap();
        for object in manifest.objects() {
            let meta = bench.memory.head(&object.key).await;
            let meta = meta.unwrap_or_else(|error| panic!("{what}: {}", error.chain()));
            assert_eq!(meta.size_bytes, object.size_bytes, "{what}");
        }
    }
    ids
}

/// Sweeps twice by the default grace (the second takes the tombstones) and finds nothing but whole snapshots.
async fn assert_sweeps_clean(bench: &Bench, what: &str) {
    let before = bench.sound.list().await.unwrap();
    for _ in 0..2 {
        bench.memory.advance(DAY);
        let report = sweep(&bench.sound).await;
        assert!(report.failures.is_empty(), "{what}: {:?}", report.failures);
    }
    assert_eq!(
        assert_whole_only(bench, what).await,
        before,
        "{what}: a sweep removes no snapshot"
    );
    assert_eq!(keys(&bench.memory, "runs/").await, [""; 0], "{what}");
    for key in keys(&bench.memory, "data/").await {
        assert!(
            before.iter().any(|id| key.starts_with(&layout::data(id))),
            "{what}: orphan {key}"
        );
    }
    assert_eq!(bench.memory.open_uploads(), 0, "{what}: open uploads");
}

#[tokio::test]
async fn a_run_makes_a_snapshot_and_leaves_no_marker() {
    let bench = bench().await;
    let id = back_up(&bench.sound).await.unwrap();
    assert_eq!(bench.sound.list().await.unwrap(), std::slice::from_ref(&id));
    assert_eq!(bench.sound.resolve("latest").await.unwrap(), id);
    assert_eq!(bench.sound.resolve(&id.as_str()[..20]).await.unwrap(), id);
    assert_eq!(keys(&bench.memory, "runs/").await, [""; 0]);
    let previous = bench.sound.previous("web1", "full").await.unwrap().unwrap();
    let stored = bench
        .memory
        .get(&layout::manifest(&id).unwrap(), 1 << 20)
        .await
        .unwrap();
    assert_eq!((previous.id, previous.sha256), (id, document::sha256_hex(&stored)));
    assert_sweeps_clean(&bench, "after a good run").await;
}

/// Every call of a backup fails, loses its reply, or is the last thing the process does.
#[tokio::test]
async fn a_backup_that_fails_at_any_call_leaves_a_whole_snapshot_or_nothing() {
    let clean = bench().await;
    let opened = clean.faults.calls();
    back_up(&clean.faulty).await.unwrap();
    let calls = clean.faults.calls() - opened;
    // Marker; two sources, each of an upload (begin, journal, three parts, complete) and a put; check, both indexes read back,
    // manifest, the manifest read back, check, marker. A call that is added here is one more place to crash at, and is covered by the loop.
    assert_eq!(calls, 1 + 2 * 7 + 5 + 2 + 1 + 1 + 5 + 1);
    for fault in FAULTS {
        for call in 0..calls {
            let what = format!("{fault:?} at call {call}");
            let bench = bench().await;
            let older = back_up(&bench.sound).await.unwrap();
            bench.faults.fail_at(call, fault);
            let result = back_up(&bench.faulty).await;
            let ids = assert_whole_only(&bench, &what).await;
            assert!(ids.contains(&older), "{what}");
            match &result {
                Ok(id) => assert!(ids.contains(id), "{what}"),
                // Only a process that died after its manifest was written leaves a snapshot that it never spoke of.
                Err(_) => assert!(
                    ids.len() == 1 || fault == Fault::DiesAfter || fault == Fault::DiesBefore,
                    "{what}"
                ),
            }
            assert_sweeps_clean(&bench, &what).await;
        }
    }
}

/// The reply to the manifest's put is lost, and the store does not say either what it has: the run fails and takes back
/// what it may have written.
#[tokio::test]
async fn a_commit_of_unknown_outcome_leaves_no_manifest() {
    let mut failed = 0;
    for call in 0..12 {
        let bench = bench().await;
        let (id, run) = begin(&bench.faulty).await.unwrap();
        let manifest = store_all(&bench.faulty, &run, &id).await.unwrap();
        bench.faults.refuses_reads.store(true, Ordering::SeqCst);
        bench.faults.fail_at(call, Fault::LosesReply);
        let committed = run.commit(&manifest).await.is_ok();
        assert_eq!(
            bench.sound.list().await.unwrap().contains(&id),
            committed,
            "call {call}"
        );
        failed += usize::from(!committed);
    }
    // Whichever call it is: a manifest that cannot be read back, though reading is allowed, proves nothing.
    assert_eq!(failed, 12);
}

/// The same on a store that ignores conditions and lists no uploads: the journal alone names them.
#[tokio::test]
async fn a_store_with_few_abilities_is_swept_as_well() {
    for call in 0..28 {
        for fault in [Fault::DiesBefore, Fault::DiesAfter] {
            let what = format!("{fault:?} at call {call}");
            let memory = MemoryStore::new();
            let few = Capabilities {
                conditional_create: Some(false),
                lists_uploads: false,
                ..memory.capabilities()
            };
            let bench = bench_in(memory.with_capabilities(few)).await;
            bench.faults.fail_at(call, fault);
            let _ = back_up(&bench.faulty).await;
            let open = bench.memory.open_uploads();
            let journaled = journaled_uploads(&bench).await;
            let reader = FaultStore::new(Arc::clone(&bench.memory));
            reader.hides_uploads.store(true, Ordering::SeqCst);
            let repository = Repository::open(reader as SharedStore).await.unwrap();
            for _ in 0..2 {
                bench.memory.advance(DAY);
                let report = sweep(&repository).await;
                assert!(report.failures.is_empty(), "{what}: {:?}", report.failures);
                assert_eq!(report.notes.len(), 1, "{what}: {:?}", report.notes);
            }
            let ids = assert_whole_only(&bench, &what).await;
            for key in keys(&bench.memory, "data/").await {
                assert!(
                    ids.iter().any(|id| key.starts_with(&layout::data(id))),
                    "{what}: orphan {key}"
                );
            }
            // An upload whose id died with the process, before it could be journaled, is known to nobody here.
            assert_eq!(bench.memory.open_uploads(), open.saturating_sub(journaled), "{what}");
            assert!(bench.memory.open_uploads() <= 1, "{what}");
        }
    }
}

/// Counts uploads that are open and stand in a marker.
async fn journaled_uploads(bench: &Bench) -> usize {
    let open = bench.memory.list_uploads("data/").await.unwrap();
    let mut count = 0;
    for key in keys(&bench.memory, "runs/").await {
        let bytes = bench.memory.get(&ObjectKey::new(key).unwrap(), 1 << 20).await.unwrap();
        let marker: wirevault::repository::run::Marker = document::decode(&bytes).unwrap();
        count += open
            .iter()
            .filter(|upload| marker.uploads.iter().any(|m| m.id == upload.id))
            .count();
    }
    count
}

/// Every call of a sweep fails or is its last: the next sweep finishes it, and snapshots are untouched.
#[tokio::test]
async fn a_sweep_that_fails_at_any_call_is_finished_by_the_next() {
    for fault in FAULTS {
        for call in 0.. {
            let what = format!("{fault:?} at call {call} of the sweep");
            let bench = bench().await;
            let kept = back_up(&bench.sound).await.unwrap();
            let removed = back_up(&bench.sound).await.unwrap();
            bench.sound.remove_snapshot(&removed).await.unwrap();
            crashed_run(&bench.sound).await;
            bench.memory.advance(DAY);
            let before = bench.faults.calls();
            bench.faults.fail_at(call, fault);
            let now = bench.memory.now().await.unwrap();
            if let Ok(plan) = bench.faulty.sweep_plan(now, &SweepOptions::default()).await {
                bench.faulty.sweep(&plan).await;
            }
            let finished = bench.faults.calls() - before <= call;
            assert_eq!(assert_whole_only(&bench, &what).await, [kept], "{what}");
            assert_sweeps_clean(&bench, &what).await;
            if finished {
                break;
            }
        }
    }
}

/// A whole sweep happens between any two calls of a commit whose marker has become old.
#[tokio::test]
async fn a_run_swept_at_any_call_of_its_commit_does_not_lose_its_data_and_commit() {
    let (mut committed, mut overtaken) = (0, 0);
    for call in 0.. {
        let what = format!("sweep before call {call} of the commit");
        let bench = bench().await;
        let (id, run) = begin(&bench.faulty).await.unwrap();
        let manifest = store_all(&bench.faulty, &run, &id).await.unwrap();
        bench.memory.advance(DAY);
        let before = bench.faults.calls();
        let sweeper = bench.sound.clone();
        bench.faults.before(
            call,
            Box::new(move || Box::pin(async move { drop(sweep(&sweeper).await) })),
        );
        match run.commit(&manifest).await {
            Ok(_) => committed += 1,
            Err(error) => {
                overtaken += 1;
                assert!(
                    matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::NotFound),
                    "{what}: {error:?}"
                );
                assert_eq!(bench.sound.list().await.unwrap(), [], "{what}");
            }
        }
        assert_whole_only(&bench, &what).await;
        let finished = bench.faults.calls() - before <= call;
        assert_sweeps_clean(&bench, &what).await;
        if finished {
            break;
        }
    }
    assert!(
        committed > 0 && overtaken > 0,
        "{committed} committed, {overtaken} overtaken"
    );
}

/// A whole commit happens between any two calls of a sweep that takes its run for dead.
#[tokio::test]
async fn a_commit_at_any_call_of_a_sweep_keeps_all_its_data_or_fails() {
    let (mut committed, mut overtaken) = (0, 0);
    for call in 0.. {
        let what = format!("commit before call {call} of the sweep");
        let bench = bench().await;
        let (id, run) = begin(&bench.sound).await.unwrap();
        let manifest = store_all(&bench.sound, &run, &id).await.unwrap();
        bench.memory.advance(DAY);
        let before = bench.faults.calls();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let commit = async move {
            let _ = sender.send(run.commit(&manifest).await.is_ok());
        };
        bench.faults.before(call, Box::new(move || Box::pin(commit)));
        let report = sweep(&bench.faulty).await;
        assert!(report.failures.is_empty(), "{what}: {:?}", report.failures);
        let finished = bench.faults.calls() - before <= call;
        if finished {
            break;
        }
        if receiver.await.unwrap() {
            committed += 1;
        } else {
            overtaken += 1;
        }
        assert_whole_only(&bench, &what).await;
        assert_sweeps_clean(&bench, &what).await;
    }
    assert!(
        committed > 0 && overtaken > 0,
        "{committed} committed, {overtaken} overtaken"
    );
}

/// A sweep beside a long run takes what died long ago, and not what is alive: its marker is young, its data are not.
#[tokio::test]
async fn a_run_at_work_is_not_disturbed_by_sweeps_and_other_runs() {
    let bench = bench().await;
    let options = RunOptions {
        heartbeat: Duration::from_millis(10),
        ..RunOptions::default()
    };
    let dead = crashed_run(&bench.sound).await;
    let (id, run) = begin_with(&bench.sound, options, CancellationToken::new())
        .await
        .unwrap();
    let manifest = store_all(&bench.sound, &run, &id).await.unwrap();
    let other = back_up(&bench.sound).await.unwrap();
    bench.memory.advance(DAY);
    let now = bench.memory.now().await.unwrap();
    let marker = layout::marker(&id).unwrap();
    wait::until_async("the run renews its marker", async || {
        bench.memory.head(&marker).await.unwrap().modified >= now
    })
    .await;
    let now = bench.memory.now().await.unwrap();
    let plan = bench.sound.sweep_plan(now, &SweepOptions::default()).await.unwrap();
    assert_eq!(plan.waiting, std::slice::from_ref(&id));
    assert_eq!(plan.totals().0, 2);
    let report = bench.sound.sweep(&plan).await;
    assert_eq!(report.swept, [dead]);
    assert_eq!((report.objects, report.uploads), (2, 1));
    run.commit(&manifest).await.unwrap();
    let mut both = vec![id, other];
    both.sort();
    assert_eq!(assert_whole_only(&bench, "beside a sweep").await, both);
    assert_sweeps_clean(&bench, "beside a sweep").await;
}

/// A run that shows that it is alive after the sweep was planned is left alone.
#[tokio::test]
async fn a_marker_that_is_renewed_after_the_plan_stops_the_sweep() {
    let bench = bench().await;
    let (id, run) = begin(&bench.sound).await.unwrap();
    let manifest = store_all(&bench.sound, &run, &id).await.unwrap();
    bench.memory.advance(DAY);
    let now = bench.memory.now().await.unwrap();
    let plan = bench.sound.sweep_plan(now, &SweepOptions::default()).await.unwrap();
    assert_eq!(plan.items.len(), 1);
    let key = manifest.objects().next().unwrap().key.clone();
    let upload = bench
        .memory
        .create_upload(&key, &ObjectOptions::default())
        .await
        .unwrap();
    run.journal().opened(&key, &upload).await.unwrap();
    let report = bench.sound.sweep(&plan).await;
    assert!(report.swept.is_empty() && report.failures.is_empty());
    assert_eq!(report.notes.len(), 1);
    run.commit(&manifest).await.unwrap();
    assert_sweeps_clean(&bench, "after a renewed marker").await;
}

/// Without a marker the age of the youngest object decides.
#[tokio::test]
async fn young_data_without_a_marker_wait_as_well() {
    let bench = bench().await;
    let (id, run) = begin(&bench.sound).await.unwrap();
    store_source(&bench.sound, &run, &id, "db").await.unwrap();
    bench.memory.advance(DAY);
    store_source(&bench.sound, &run, &id, "config").await.unwrap();
    run.abandon().await;
    assert_eq!(keys(&bench.memory, "runs/").await, [""; 0]);
    assert!(sweep(&bench.sound).await.swept.is_empty());
    assert_eq!(keys(&bench.memory, "data/").await.len(), 4);
    assert_sweeps_clean(&bench, "after the grace").await;
}

#[tokio::test]
async fn a_run_that_cannot_write_its_marker_ends_itself() {
    let bench = bench().await;
    let cancel = CancellationToken::new();
    let options = RunOptions {
        heartbeat: Duration::from_millis(5),
        lease_ttl: Duration::from_millis(100),
    };
    let (id, run) = begin_with(&bench.faulty, options, cancel.clone()).await.unwrap();
    let manifest = manifest_of(&bench.faulty, &id, vec![source_record("db", Some(Vec::new()))]);
    bench.faults.refuses_markers.store(true, Ordering::SeqCst);
    tokio::time::timeout(PATIENCE, cancel.cancelled()).await.unwrap();
    let error = run.commit(&manifest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    assert!(error.hint().is_some());
    assert_eq!(bench.sound.list().await.unwrap(), []);
}

/// The whole process stands still beyond its lease, heartbeat and all, and the marker can be written again afterwards.
#[tokio::test(flavor = "current_thread")]
async fn a_run_that_was_frozen_beyond_its_lease_does_not_commit() {
    let bench = bench().await;
    let cancel = CancellationToken::new();
    let options = RunOptions {
        heartbeat: Duration::from_millis(20),
        lease_ttl: Duration::from_millis(200),
    };
    let (id, run) = begin_with(&bench.sound, options, cancel.clone()).await.unwrap();
    let manifest = manifest_of(&bench.sound, &id, vec![source_record("db", Some(Vec::new()))]);
    std::thread::sleep(Duration::from_millis(400));
    tokio::time::timeout(PATIENCE, cancel.cancelled()).await.unwrap();
    assert_eq!(
        run.commit(&manifest).await.unwrap_err().kind(),
        ErrorKind::PreconditionFailed
    );
    assert_eq!(bench.sound.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_commit_refuses_a_missing_or_shorter_object() {
    for shorten in [false, true] {
        let bench = bench().await;
        let (id, run) = begin(&bench.sound).await.unwrap();
        let manifest = store_all(&bench.sound, &run, &id).await.unwrap();
        let key = manifest.objects().nth(3).unwrap().key.clone();
        bench.memory.delete(&key).await.unwrap();
        if shorten {
            let options = ObjectOptions::default();
            bench
                .memory
                .put(&key, Bytes::from_static(b"less"), PutMode::Overwrite, &options)
                .await
                .unwrap();
        }
        let error = run.commit(&manifest).await.unwrap_err();
        assert_eq!(
            error.kind(),
            if shorten {
                ErrorKind::Corrupt
            } else {
                ErrorKind::NotFound
            }
        );
        assert_eq!(bench.sound.list().await.unwrap(), []);
    }
}

#[tokio::test]
async fn credentials_that_may_only_put_commit_with_one_note() {
    let bench = bench().await;
    let (id, run) = begin(&bench.faulty).await.unwrap();
    let manifest = store_all(&bench.faulty, &run, &id).await.unwrap();
    bench.faults.denies_head.store(true, Ordering::SeqCst);
    assert_eq!(run.commit(&manifest).await.unwrap().len(), 1);
    assert_eq!(bench.sound.list().await.unwrap(), [id]);
}

/// Old data of a removed snapshot stay for the grace, counted from the removal: a restore that runs can end.
#[tokio::test]
async fn data_of_a_removed_snapshot_outlive_it_by_the_grace() {
    let bench = bench().await;
    let id = back_up(&bench.sound).await.unwrap();
    bench.memory.advance(SignedDuration::from_hours(24 * 90));
    bench.sound.remove_snapshot(&id).await.unwrap();
    assert_eq!(bench.sound.list().await.unwrap(), []);
    assert!(sweep(&bench.sound).await.swept.is_empty());
    bench.memory.advance(SignedDuration::from_hours(23));
    assert!(sweep(&bench.sound).await.swept.is_empty());
    assert_eq!(keys(&bench.memory, "data/").await.len(), 4);
    bench.memory.advance(SignedDuration::from_hours(2));
    assert_eq!(sweep(&bench.sound).await.swept, [id]);
    assert_sweeps_clean(&bench, "after a removal").await;
}

/// Every call of a removal fails or is its last: the snapshot is there with its data, or gone with the grace running.
#[tokio::test]
async fn a_removal_that_fails_at_any_call_never_shortens_the_grace() {
    for fault in FAULTS {
        for call in 0..4 {
            let what = format!("{fault:?} at call {call} of the removal");
            let bench = bench().await;
            let id = back_up(&bench.sound).await.unwrap();
            bench.memory.advance(SignedDuration::from_hours(24 * 90));
            bench.faults.fail_at(call, fault);
            let _ = bench.faulty.remove_snapshot(&id).await;
            sweep(&bench.sound).await;
            assert_eq!(keys(&bench.memory, "data/").await.len(), 4, "{what}");
            assert_sweeps_clean(&bench, &what).await;
        }
    }
}

/// A damaged manifest is named by the survey, passed over by `latest`, and keeps its data.
#[tokio::test]
async fn every_flip_and_every_truncation_of_a_manifest_is_noticed() {
    let bench = bench().await;
    let good = back_up(&bench.sound).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let id = back_up(&bench.sound).await.unwrap();
    let key = layout::manifest(&id).unwrap();
    let whole = bench.memory.get(&key, 1 << 20).await.unwrap();
    let mut variants: Vec<Vec<u8>> = (0..whole.len()).map(|at| whole[..at].to_vec()).collect();
    for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 1 << bit;
        variants.push(damaged);
    }
    for damaged in variants {
        assert!(Manifest::decode(&damaged, bench.sound.id(), &id).is_err());
    }
    let options = ObjectOptions::default();
    let mut damaged = whole.to_vec();
    damaged[whole.len() / 2] ^= 1;
    bench
        .memory
        .put(&key, Bytes::from(damaged), PutMode::Overwrite, &options)
        .await
        .unwrap();
    let survey = bench.sound.survey(|manifest| manifest.id.clone()).await.unwrap();
    assert_eq!(survey.snapshots, std::slice::from_ref(&good));
    assert_eq!(survey.damaged.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&id]);
    assert_eq!(survey.damaged[0].1.kind(), ErrorKind::Corrupt);
    assert_eq!(bench.sound.resolve("latest").await.unwrap(), good);
    bench.memory.advance(DAY);
    assert!(sweep(&bench.sound).await.swept.is_empty());
    assert_eq!(keys(&bench.memory, "data/").await.len(), 8);
}

#[tokio::test]
async fn a_manifest_from_elsewhere_is_refused() {
    let (ours, theirs) = (bench().await, bench().await);
    let id = back_up(&ours.sound).await.unwrap();
    let manifest = ours.sound.load(&id).await.unwrap();
    let decode = |manifest: &Manifest| {
        let bytes = document::encode(manifest).unwrap();
        Manifest::decode(&bytes, ours.sound.id(), &id)
    };
    decode(&manifest).unwrap();
    let mut foreign = manifest.clone();
    foreign.repository = theirs.sound.id().to_owned();
    assert_eq!(decode(&foreign).unwrap_err().kind(), ErrorKind::Corrupt);
    let mut renamed = manifest.clone();
    renamed.id = SnapshotId::new(Timestamp::now(), "full", 1);
    assert_eq!(decode(&renamed).unwrap_err().kind(), ErrorKind::Corrupt);
    for key in [
        format!("data/{}/db/0000.tar.zst", renamed.id),
        format!("data/{id}x/db"),
        "repository.json".to_owned(),
    ] {
        let mut pointing = manifest.clone();
        let archives = &mut pointing.sources[0].outcome.as_mut().unwrap().archives;
        archives[0].index.key = ObjectKey::new(key).unwrap();
        assert_eq!(decode(&pointing).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn a_failed_source_is_never_the_latest() {
    let bench = bench().await;
    let whole = back_up(&bench.sound).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (id, run) = begin(&bench.sound).await.unwrap();
    let db = store_source(&bench.sound, &run, &id, "db").await.unwrap();
    let manifest = manifest_of(&bench.sound, &id, vec![db, source_record("config", None)]);
    run.commit(&manifest).await.unwrap();
    let latest = async |source| bench.sound.resolve_for("latest", source).await.unwrap();
    assert_eq!(latest(None).await, whole);
    assert_eq!(latest(Some("config")).await, whole);
    assert_eq!(latest(Some("db")).await, id);
    assert_eq!(bench.sound.resolve("latest:web1/full").await.unwrap(), whole);
    assert_eq!(bench.sound.resolve(id.as_str()).await.unwrap(), id);
    for nothing in ["latest:other", "latest:web2/full", "1999"] {
        assert_eq!(
            bench.sound.resolve(nothing).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
    for unclear in ["2", ""] {
        assert_eq!(
            bench.sound.resolve(unclear).await.unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }
}

/// The same rules on a directory, whose clock is not ours to move: the plan is made for a later moment.
#[tokio::test]
async fn a_directory_is_swept_under_an_injected_clock() {
    let folder = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(DirectoryStore::open(folder.path()).unwrap());
    let repository = Repository::init(store.clone()).await.unwrap();
    let kept = back_up(&repository).await.unwrap();
    let removed = back_up(&repository).await.unwrap();
    repository.remove_snapshot(&removed).await.unwrap();
    crashed_run(&repository).await;
    for (hours, gone) in [(1, 0), (25, 2), (50, 0)] {
        let now = store
            .now()
            .await
            .unwrap()
            .checked_add(SignedDuration::from_hours(hours))
            .unwrap();
        let plan = repository.sweep_plan(now, &SweepOptions::default()).await.unwrap();
        let report = repository.sweep(&plan).await;
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert_eq!(report.swept.len(), gone, "after {hours} h");
    }
    assert_eq!(repository.list().await.unwrap(), std::slice::from_ref(&kept));
    assert!(store.list_uploads("").await.unwrap().is_empty());
    assert!(store.list("runs/", None).await.unwrap().objects.is_empty());
    let left = store.list("data/", None).await.unwrap().objects;
    assert!(
        left.iter()
            .all(|object| object.key.as_str().starts_with(&layout::data(&kept)))
    );
    assert_eq!(left.len(), 4);
    // Empty folders stay, by the store's own choice: removing one could race with a put.
}

/// What a process that is killed leaves in the directory's working space besides uploads: temporary files of single puts, a
/// description whose upload was completed, one that was cut short. They go after the grace, and an open upload is none.
#[tokio::test]
async fn leftovers_in_a_directory_go_after_the_grace() {
    let folder = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(DirectoryStore::open(folder.path()).unwrap());
    let repository = Repository::init(store.clone()).await.unwrap();
    let options = ObjectOptions {
        part_bytes: 16,
        ..ObjectOptions::default()
    };
    let (open, cut) = (
        store
            .create_upload(&ObjectKey::new("other/object").unwrap(), &options)
            .await
            .unwrap(),
        store
            .create_upload(&ObjectKey::new("other/cut").unwrap(), &options)
            .await
            .unwrap(),
    );
    let uploads = folder.path().join(".uploads");
    std::fs::write(uploads.join("aa-1-1"), b"half a manifest").unwrap();
    std::fs::write(uploads.join("bb-1-2.about"), b"16\ndata/object").unwrap();
    std::fs::write(uploads.join(format!("{}.about", cut.0)), b"1").unwrap();
    for (hours, removed) in [(1, 0), (25, 4), (25, 0)] {
        let now = store
            .now()
            .await
            .unwrap()
            .checked_add(SignedDuration::from_hours(hours))
            .unwrap();
        let plan = repository.sweep_plan(now, &SweepOptions::default()).await.unwrap();
        assert_eq!(repository.sweep(&plan).await.leftovers, removed, "after {hours} h");
    }
    let left = store.list_uploads("").await.unwrap();
    assert_eq!(left.iter().map(|upload| &upload.id).collect::<Vec<_>>(), [&open]);
    assert_eq!(std::fs::read_dir(&uploads).unwrap().count(), 2);
}

/// The marker of a run killed after Complete still names the upload, and some stores deny to abort what they do not know.
#[tokio::test]
async fn a_completed_upload_that_the_store_denies_to_abort_holds_no_sweep_up() {
    let bench = bench().await;
    let faults = Arc::new(wirevault::storage::fault::FaultStore::new(
        Arc::clone(&bench.memory) as SharedStore
    ));
    let repository = Repository::open(Arc::clone(&faults) as SharedStore).await.unwrap();
    let (id, run) = begin(&repository).await.unwrap();
    store_source(&repository, &run, &id, "db").await.unwrap();
    drop(run);
    let marker = layout::marker(&id).unwrap();
    let bytes = bench.memory.get(&marker, 1 << 20).await.unwrap();
    let named: wirevault::repository::run::Marker = document::decode(&bytes).unwrap();
    assert_eq!(named.uploads.len(), 1, "the archive's, which is complete");
    bench.memory.advance(DAY);
    let deny = |key: &str| wirevault::storage::fault::Fault {
        operation: Some(wirevault::storage::fault::Operation::AbortUpload),
        key_contains: key.to_owned(),
        skip: 0,
        count: usize::MAX,
        effect: wirevault::storage::fault::Effect::FailBefore(ErrorKind::Denied),
    };
    faults.inject(deny("db/0000.tar.zst"));
    let report = sweep(&repository).await;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(report.swept, [id]);

    // Where there is no object, the upload may be open: its id must not be forgotten.
    let id = crashed_run(&repository).await;
    bench.memory.advance(DAY);
    faults.inject(deny("config/0000.tar.zst"));
    let report = sweep(&repository).await;
    assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
    assert!(bench.memory.head(&layout::marker(&id).unwrap()).await.is_ok());
    assert_eq!(bench.memory.open_uploads(), 1);
}

/// Uploads that a marker names outside its own data are not touched: a marker is untrusted.
#[tokio::test]
async fn a_forged_marker_aborts_no_upload_of_others() {
    let bench = bench().await;
    let victim = ObjectKey::new("elsewhere/object").unwrap();
    let upload = bench
        .memory
        .create_upload(&victim, &ObjectOptions::default())
        .await
        .unwrap();
    let id = SnapshotId::new(Timestamp::now(), "full", 1);
    let forged = serde_json::json!({
        "format": 1, "id": id, "host": "h", "pid": 1, "job": "full", "heartbeat": Timestamp::now(),
        "uploads": [{ "key": victim, "id": upload }],
    });
    let body = Bytes::from(document::encode(&forged).unwrap());
    let key = layout::marker(&id).unwrap();
    bench
        .memory
        .put(&key, body, PutMode::Overwrite, &ObjectOptions::default())
        .await
        .unwrap();
    bench.memory.advance(DAY);
    assert_eq!(sweep(&bench.sound).await.swept, [id]);
    assert_eq!(bench.memory.open_uploads(), 1);
}
