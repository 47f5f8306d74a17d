//! Bytes that change on the way: what is read differently once is read again, what differs twice is damage, and a store that does
//! not hold what it was sent gets no snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use wirevault::ErrorKind;
use wirevault::archive::{ArchiveInfo, ArchiveReader, EntryEvent, EntryMeta, Selection};
use wirevault::engines::SourceOutcome;
use wirevault::repository::{Manifest, ManifestSource, Repository, RunOptions, document};
use wirevault::storage::fault::{Effect, Fault, FaultStore, Operation};
use wirevault::storage::memory::MemoryStore;
use wirevault::storage::{ObjectKey, SharedStore};

use crate::support::archives::Vault;
use crate::support::program::noise;

fn flips(operation: Operation, key: &str, count: usize) -> Fault {
    Fault {
        operation: Some(operation),
        key_contains: key.to_owned(),
        skip: 0,
        count,
        effect: Effect::Flip,
    }
}

/// An archive with some files.
async fn archive() -> Vault {
    let mut vault = Vault::new();
    let writer = vault.writer().await;
    for number in 0..4_u8 {
        let mut data = writer.chunk_buffer().await.unwrap();
        let content = noise(300_000);
        data.extend(&content);
        let meta = EntryMeta::file(format!("file{number}"), 300_000, (1, 0));
        writer.submit_entry(meta, data).await.unwrap();
    }
    vault.archives = writer.finish().await.unwrap();
    vault
}

/// Reads all of it; returns how many entries were whole.
async fn read_all(vault: &Vault, store: SharedStore) -> wirevault::Result<usize> {
    let reader = ArchiveReader::open(store, &vault.pipeline, vault.archives.clone()).await?;
    let mut entries = reader.entries(Selection::All);
    let mut whole = 0;
    while let Some(event) = entries.next().await? {
        whole += usize::from(matches!(event, EntryEvent::End { .. }));
    }
    Ok(whole)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_differs_once_is_no_damage_and_twice_is() {
    let vault = archive().await;
    for (what, key) in [("the index", ".index."), ("the archive", ".tar.")] {
        for skip in 0..3 {
            let store = Arc::new(FaultStore::new(vault.store.clone()));
            store.inject(Fault {
                skip,
                ..flips(Operation::ReadRange, key, 1)
            });
            assert_eq!(read_all(&vault, store).await.unwrap(), 4, "{what}, after {skip} reads");
        }
        let store = Arc::new(FaultStore::new(vault.store.clone()));
        store.inject(flips(Operation::ReadRange, key, usize::MAX));
        assert_eq!(
            read_all(&vault, store).await.unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{what}"
        );
    }
}

fn manifest(repository: &Repository, run: &wirevault::repository::SnapshotId, archives: Vec<ArchiveInfo>) -> Manifest {
    let now = Timestamp::now();
    let outcome = SourceOutcome {
        versions: BTreeMap::new(),
        position: BTreeMap::new(),
        consistent_at: now,
        raw_bytes: 1,
        items: 1,
        note_counts: BTreeMap::new(),
        archives,
    };
    Manifest {
        format: document::FORMAT,
        repository: repository.id().to_owned(),
        id: run.clone(),
        host: "web1".to_owned(),
        job: "full".to_owned(),
        started: now,
        finished: now,
        previous: None,
        skew_seconds: 0.0,
        sources: vec![ManifestSource {
            name: "db".to_owned(),
            kind: "files".to_owned(),
            started: now,
            finished: now,
            outcome: Some(outcome),
            error: None,
            optional: false,
        }],
        plan: serde_json::json!({}).into(),
        program: "test".to_owned(),
    }
}

/// A run that stores one archive and commits.
async fn back_up(store: SharedStore) -> wirevault::Result<wirevault::repository::SnapshotId> {
    let repository = Repository::open(store.clone()).await?;
    let (id, run) = repository
        .begin_run("full", "web1", RunOptions::default(), CancellationToken::new())
        .await?;
    let vault = Vault::new();
    let options = wirevault::archive::ArchiveOptions {
        prefix: ObjectKey::new(format!("data/{id}/db"))?,
        compression: wirevault::archive::Compression::Zstd(1),
        upload: wirevault::storage::upload::UploadOptions::default(),
        max_index_bytes: 4 << 20,
        readme: "how to restore".to_owned(),
    };
    let writer = wirevault::archive::ArchiveWriter::create(store, &vault.pipeline, options).await?;
    let mut data = writer.chunk_buffer().await?;
    data.extend(b"content");
    writer.submit_entry(EntryMeta::file("file", 7, (1, 0)), data).await?;
    let archives = writer.finish().await?;
    run.commit(&manifest(&repository, &id, archives)).await?;
    Ok(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_differs_once_is_read_again() {
    let memory: SharedStore = Arc::new(MemoryStore::new());
    Repository::init(memory.clone()).await.unwrap();
    let id = back_up(memory.clone()).await.unwrap();
    let store = Arc::new(FaultStore::new(memory));
    for key in ["repository.json", "snapshots/"] {
        store.inject(flips(Operation::Get, key, 1));
    }
    let repository = Repository::open(store.clone()).await.unwrap();
    assert_eq!(repository.resolve("latest").await.unwrap(), id);
    store.inject(flips(Operation::Get, "snapshots/", usize::MAX));
    assert_eq!(repository.load(&id).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_holds_something_else_gets_no_snapshot() {
    for key in [".index.", "snapshots/"] {
        let memory: SharedStore = Arc::new(MemoryStore::new());
        Repository::init(memory.clone()).await.unwrap();
        let store = Arc::new(FaultStore::new(memory.clone()));
        store.inject(flips(Operation::Put, key, 1));
        let error = back_up(store).await.unwrap_err();
        assert!(
            error.chain().contains("returned different data than was sent"),
            "{key}: {error:?}"
        );
        let repository = Repository::open(memory).await.unwrap();
        assert_eq!(repository.list().await.unwrap(), [], "{key}");
    }
}

/// Who may only write has the word of the store.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_read_are_enough() {
    let memory: SharedStore = Arc::new(MemoryStore::new());
    Repository::init(memory.clone()).await.unwrap();
    let store = Arc::new(FaultStore::new(memory.clone()));
    for operation in [Operation::Get, Operation::ReadRange] {
        for key in [".index.", "snapshots/"] {
            store.inject(Fault {
                effect: Effect::FailBefore(ErrorKind::Denied),
                ..flips(operation, key, usize::MAX)
            });
        }
    }
    let id = back_up(store).await.unwrap();
    let repository = Repository::open(memory).await.unwrap();
    assert_eq!(repository.list().await.unwrap(), [id]);
}
