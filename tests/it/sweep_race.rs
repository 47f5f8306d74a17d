//! A removal that happens between any two calls of another host's sweep keeps its grace.

use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use wirevault::repository::{Repository, SnapshotId, SweepOptions, document, layout};
use wirevault::storage::memory::MemoryStore;
use wirevault::storage::{ObjectKey, ObjectOptions, ObjectStore, PutMode, SharedStore};

use crate::faults::FaultStore;

async fn put(memory: &MemoryStore, key: ObjectKey, body: Bytes) {
    memory
        .put(&key, body, PutMode::Overwrite, &ObjectOptions::default())
        .await
        .unwrap();
}

/// An old snapshot whose run could not remove its marker (credentials that may only put).
struct Scene {
    memory: Arc<MemoryStore>,
    sweeping: Arc<FaultStore>,
    removing: Arc<FaultStore>,
    sweeper: Repository,
    remover: Repository,
    id: SnapshotId,
    data: ObjectKey,
}

async fn scene() -> Scene {
    let memory = Arc::new(MemoryStore::new());
    let (sweeping, removing) = (
        FaultStore::new(Arc::clone(&memory)),
        FaultStore::new(Arc::clone(&memory)),
    );
    Repository::init(Arc::clone(&memory) as SharedStore).await.unwrap();
    let sweeper = Repository::open(Arc::clone(&sweeping) as SharedStore).await.unwrap();
    let remover = Repository::open(Arc::clone(&removing) as SharedStore).await.unwrap();
    let id = SnapshotId::new(Timestamp::now(), "full", 1);
    let data = ObjectKey::new(format!("data/{id}/db/0000.tar.zst")).unwrap();
    put(&memory, data.clone(), Bytes::from_static(b"data")).await;
    let marker = serde_json::json!({ "format": 1, "id": id, "host": "h", "pid": 1, "job": "full",
        "heartbeat": Timestamp::now(), "uploads": [] });
    let marker = Bytes::from(document::encode(&marker).unwrap());
    put(&memory, layout::marker(&id).unwrap(), marker).await;
    put(&memory, layout::manifest(&id).unwrap(), Bytes::from_static(b"manifest")).await;
    memory.advance(SignedDuration::from_hours(24 * 30));
    Scene {
        memory,
        sweeping,
        removing,
        sweeper,
        remover,
        id,
        data,
    }
}

async fn sweep(repository: &Repository) {
    let now = repository.store().now().await.unwrap();
    let plan = repository.sweep_plan(now, &SweepOptions::default()).await.unwrap();
    repository.sweep(&plan).await;
}

/// The removal begins before one call of the sweep, and goes on from one of its own calls when the sweep has ended.
#[tokio::test]
async fn a_removal_that_overlaps_a_sweep_anyhow_keeps_its_grace() {
    let mut broken = Vec::new();
    let mut call = 0;
    loop {
        let mut finished = false;
        for pause in 0..5 {
            let scene = scene().await;
            let (reached, at_pause) = tokio::sync::oneshot::channel();
            let (go_on, gate) = tokio::sync::oneshot::channel::<()>();
            let (done, ended) = tokio::sync::oneshot::channel();
            let (over, is_over) = tokio::sync::oneshot::channel();
            let wait = async move {
                let _ = reached.send(());
                let _ = gate.await;
            };
            scene.removing.before(pause, Box::new(move || Box::pin(wait)));
            let (remover, id) = (scene.remover.clone(), scene.id.clone());
            let begin = async move {
                tokio::spawn(async move {
                    let _ = done.send(remover.remove_snapshot(&id).await.is_ok());
                    let _ = over.send(());
                });
                // Ends with the pause, or with the removal when that makes fewer calls.
                tokio::select! { _ = at_pause => {}, _ = is_over => {} }
            };
            let before = scene.sweeping.calls();
            scene.sweeping.before(call, Box::new(move || Box::pin(begin)));
            sweep(&scene.sweeper).await;
            finished = scene.sweeping.calls() - before <= call;
            if finished {
                break;
            }
            let _ = go_on.send(());
            assert!(ended.await.unwrap());
            scene.memory.advance(SignedDuration::from_secs(60));
            sweep(&scene.sweeper).await;
            if scene.memory.head(&scene.data).await.is_err() {
                broken.push((call, pause));
            }
            scene.memory.advance(SignedDuration::from_hours(25));
            sweep(&scene.sweeper).await;
            assert!(scene.memory.head(&scene.data).await.is_err(), "swept after the grace");
        }
        if finished {
            break;
        }
        call += 1;
    }
    assert!(call > 8, "the sweep tidies");
    assert_eq!(
        broken,
        [],
        "(call of the sweep, pause of the removal) after which the data go before their grace"
    );
}
