//! One contract for every store and every wrapper: what `ObjectStore` promises, tried on each.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wirevault::base::error::ErrorKind;
use wirevault::storage::directory::DirectoryStore;
use wirevault::storage::fault::{Effect, Fault, FaultStore, Operation};
use wirevault::storage::limit::{LimitOptions, LimitStore};
use wirevault::storage::memory::MemoryStore;
use wirevault::storage::retry::{RetryOptions, RetryStore};
use wirevault::storage::s3::{ChecksumMode, S3Options, S3Store};
use wirevault::storage::upload::{ObjectWriter, UploadOptions};
use wirevault::storage::{ObjectKey, ObjectOptions, ObjectStore, PutMode, SharedStore, UploadId};

use crate::support::moto::Moto;
use crate::support::s3::S3Server;
use crate::support::wait::PATIENCE;

const PART: usize = 5 << 20;
const KEYS: (&str, &str) = ("tester", "tester-secret");

fn key(key: &str) -> ObjectKey {
    ObjectKey::new(key).unwrap()
}

fn bytes(length: usize, seed: usize) -> Bytes {
    (0..length).map(|i| ((i * 31 + i / 251 + seed) % 256) as u8).collect()
}

fn parts_of(part_bytes: usize) -> ObjectOptions {
    ObjectOptions {
        part_bytes,
        ..ObjectOptions::default()
    }
}

async fn read(store: &dyn ObjectStore, at: &ObjectKey) -> Bytes {
    store.get(at, 64 << 20).await.unwrap()
}

async fn contract(store: SharedStore) {
    whole_objects(&*store).await;
    odd_keys(&*store).await;
    listing(&*store).await;
    conditions(&*store).await;
    multipart(&*store).await;
    aborted(&*store).await;
    never_torn(&store).await;
}

async fn whole_objects(store: &dyn ObjectStore) {
    let (at, options) = (key("whole/object"), ObjectOptions::default());
    let body = bytes(100_000, 1);
    store
        .put(&at, body.clone(), PutMode::Overwrite, &options)
        .await
        .unwrap();
    assert_eq!(read(store, &at).await, body);
    assert_eq!(store.head(&at).await.unwrap().size_bytes, 100_000);

    let mut buffer = b"kept".to_vec();
    store.read_range(&at, 10..2000, &mut buffer).await.unwrap();
    assert_eq!(buffer[..4], *b"kept");
    assert_eq!(buffer[4..], body[10..2000]);
    for range in [99_999..100_001, 100_000..100_001, 200_000..200_010] {
        let mut buffer = b"kept".to_vec();
        let error = store.read_range(&at, range.clone(), &mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{range:?}: {}", error.chain());
        assert_eq!(buffer, b"kept");
    }
    assert_eq!(
        store.get(&at, 99_999).await.unwrap_err().kind(),
        ErrorKind::LimitExceeded
    );
    assert_eq!(store.get(&at, 100_000).await.unwrap().len(), 100_000);

    let empty = key("whole/empty");
    store
        .put(&empty, Bytes::new(), PutMode::Overwrite, &options)
        .await
        .unwrap();
    assert!(read(store, &empty).await.is_empty());

    for missing in [key("whole/missing"), key("nowhere/at/all")] {
        let mut buffer = Vec::new();
        assert_eq!(store.get(&missing, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(store.head(&missing).await.unwrap_err().kind(), ErrorKind::NotFound);
        let error = store.read_range(&missing, 0..1, &mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        store.delete(&missing).await.unwrap();
    }
    store.delete(&at).await.unwrap();
    store.delete(&at).await.unwrap();
    assert_eq!(store.head(&at).await.unwrap_err().kind(), ErrorKind::NotFound);
    let skew = store.now().await.unwrap().duration_since(jiff::Timestamp::now());
    assert!(skew.abs() < jiff::SignedDuration::from_secs(60), "{skew:?}");
}

async fn odd_keys(store: &dyn ObjectStore) {
    let names = [
        "odd/a b",
        "odd/a+b",
        "odd/a%20b",
        "odd/ünï/日本",
        "odd/x&y=z;?#'\"",
        "odd/a~b!(c)*",
    ];
    let options = ObjectOptions::default();
    for name in names {
        let body = Bytes::from(name.to_owned());
        store.put(&key(name), body, PutMode::Overwrite, &options).await.unwrap();
    }
    for name in names {
        assert_eq!(read(store, &key(name)).await, name.as_bytes(), "{name}");
    }
    let mut expected = names.map(key).to_vec();
    expected.sort();
    assert_eq!(list_all(store, "odd/").await, expected);
    for name in names {
        store.delete(&key(name)).await.unwrap();
    }
    assert!(list_all(store, "odd/").await.is_empty());
}

async fn list_all(store: &dyn ObjectStore, prefix: &str) -> Vec<ObjectKey> {
    let (mut keys, mut next) = (Vec::new(), None);
    loop {
        let page = store.list(prefix, next).await.unwrap();
        keys.extend(page.objects.into_iter().map(|object| object.key));
        next = page.next;
        if next.is_none() {
            return keys;
        }
    }
}

async fn listing(store: &dyn ObjectStore) {
    let options = ObjectOptions::default();
    let mut expected = Vec::new();
    // More than one page of every store, and names where "/" sorts between others.
    for i in 0..1003 {
        expected.push(key(&format!("list/n{i:04}")));
    }
    expected.extend(["list/n/deep", "list/n-a", "list/n0"].map(key));
    for at in &expected {
        store
            .put(at, Bytes::from_static(b"x"), PutMode::Overwrite, &options)
            .await
            .unwrap();
    }
    store
        .put(&key("listed"), Bytes::new(), PutMode::Overwrite, &options)
        .await
        .unwrap();
    expected.sort();
    assert_eq!(list_all(store, "list/").await, expected);
    let tens: Vec<_> = expected
        .iter()
        .filter(|k| k.as_str().starts_with("list/n001"))
        .cloned()
        .collect();
    assert_eq!(
        list_all(store, "list/n001").await,
        tens,
        "a prefix need not end at a slash"
    );
    assert!(list_all(store, "list/none").await.is_empty());
}

async fn conditions(store: &dyn ObjectStore) {
    let (at, options) = (key("cond/object"), ObjectOptions::default());
    store
        .put(&at, Bytes::from_static(b"1"), PutMode::Create, &options)
        .await
        .unwrap();
    let second = store
        .put(&at, Bytes::from_static(b"2"), PutMode::Create, &options)
        .await;
    assert_eq!(second.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(read(store, &at).await, "1");
    store
        .put(&at, Bytes::from_static(b"3"), PutMode::Overwrite, &options)
        .await
        .unwrap();
    assert_eq!(read(store, &at).await, "3");
}

/// Aborting an upload that is not there is no error; s3s-fs alone answers AccessDenied to it.
fn gone(aborted: wirevault::base::error::Result<()>) {
    if let Err(error) = aborted {
        assert!(error.chain().contains("AccessDenied"), "{}", error.chain());
    }
}

async fn multipart(store: &dyn ObjectStore) {
    let at = key("multi/part object");
    let upload = store.create_upload(&at, &parts_of(PART)).await.unwrap();
    let (one, two, three) = (bytes(PART, 1), bytes(PART, 2), bytes(1234, 3));
    let third = store.put_part(&at, &upload, 3, three.clone()).await.unwrap();
    store.put_part(&at, &upload, 1, bytes(PART, 9)).await.unwrap();
    let second = store.put_part(&at, &upload, 2, two.clone()).await.unwrap();
    let first = store.put_part(&at, &upload, 1, one.clone()).await.unwrap();
    assert_eq!((first.number, first.size_bytes), (1, PART as u64));
    assert_eq!(store.head(&at).await.unwrap_err().kind(), ErrorKind::NotFound);
    let receipts = [first, second, third];
    store
        .complete_upload(&at, &upload, &receipts, PutMode::Create)
        .await
        .unwrap();
    let whole = [one, two, three].concat();
    assert!(
        read(store, &at).await == whole,
        "parts in order, the repeated one replaced"
    );
    // The same call again, as after a lost reply.
    store
        .complete_upload(&at, &upload, &receipts, PutMode::Create)
        .await
        .unwrap();
    assert!(read(store, &at).await == whole);
    gone(store.abort_upload(&at, &upload).await);
    assert!(
        read(store, &at).await == whole,
        "aborting a completed upload leaves the object"
    );
}

async fn aborted(store: &dyn ObjectStore) {
    let at = key("abort/object");
    let upload = store.create_upload(&at, &parts_of(PART)).await.unwrap();
    let receipt = store.put_part(&at, &upload, 1, bytes(PART, 1)).await.unwrap();
    match store.list_uploads("abort/").await {
        Ok(open) => assert_eq!(
            open.iter().map(|u| (&u.key, &u.id)).collect::<Vec<_>>(),
            [(&at, &upload)]
        ),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", error.chain()),
    }
    store.abort_upload(&at, &upload).await.unwrap();
    gone(store.abort_upload(&at, &upload).await);
    if let Ok(open) = store.list_uploads("abort/").await {
        assert!(open.is_empty(), "{open:?}");
    }
    assert!(
        store
            .complete_upload(&at, &upload, &[receipt], PutMode::Create)
            .await
            .is_err()
    );
    assert_eq!(store.head(&at).await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn never_torn(store: &SharedStore) {
    let at = key("torn/object");
    let mut writers = tokio::task::JoinSet::new();
    for seed in 0..4_u8 {
        let (store, at) = (Arc::clone(store), at.clone());
        writers.spawn(async move {
            for _ in 0..4 {
                let body = Bytes::from(vec![seed; 200_000]);
                store
                    .put(&at, body, PutMode::Overwrite, &ObjectOptions::default())
                    .await
                    .unwrap();
                let seen = read(&*store, &at).await;
                assert_eq!(seen.len(), 200_000);
                assert!(seen.iter().all(|b| *b == seen[0]), "a torn object");
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
}

fn memory() -> SharedStore {
    Arc::new(MemoryStore::new().with_page_size(10))
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_contract() {
    contract(memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    contract(Arc::new(DirectoryStore::open(root.path()).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrappers_keep_the_contract() {
    let options = LimitOptions {
        upload_bytes_per_second: Some(1 << 30),
        download_bytes_per_second: Some(1 << 30),
    };
    contract(Arc::new(RetryStore::new(memory(), RetryOptions::default()))).await;
    contract(Arc::new(LimitStore::new(memory(), options))).await;
    contract(Arc::new(FaultStore::new(memory()))).await;
}

fn s3_options(endpoint: String) -> S3Options {
    S3Options {
        bucket: "bucket".to_owned(),
        prefix: "some prefix/repo".to_owned(),
        endpoint: Some(endpoint),
        access_key: Some((KEYS.0.to_owned(), KEYS.1.to_owned())),
        ..S3Options::default()
    }
}

async fn serve(root: &Path, ignore_if_none_match: bool) -> String {
    std::fs::create_dir(root.join("bucket")).unwrap();
    let server = S3Server::bind(root, ("127.0.0.1", 0), KEYS, ignore_if_none_match)
        .await
        .unwrap();
    let endpoint = format!("http://{}", server.address().unwrap());
    tokio::spawn(server.serve());
    endpoint
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    let store = S3Store::connect(s3_options(serve(root.path(), false).await))
        .await
        .unwrap();
    assert_eq!(store.probe(&key("probe")).await.unwrap().conditional_create, Some(true));
    contract(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_without_conditions_is_found_out() {
    let root = tempfile::tempdir().unwrap();
    let store = S3Store::connect(s3_options(serve(root.path(), true).await))
        .await
        .unwrap();
    assert_eq!(
        store.probe(&key("probe")).await.unwrap().conditional_create,
        Some(false)
    );
    multipart(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_keeps_the_contract() {
    let moto = Moto::start();
    moto.create_bucket("bucket");
    let store = S3Store::connect(s3_options(moto.endpoint().to_owned())).await.unwrap();
    assert_eq!(store.probe(&key("probe")).await.unwrap().conditional_create, Some(true));
    // moto answers 500 to some writes of one key at once.
    contract(Arc::new(RetryStore::new(Arc::new(store), RetryOptions::default()))).await;
}

/// Such a bucket refuses a put without a checksum.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_locks_its_objects_takes_puts_and_parts() {
    let moto = Moto::start();
    moto.create_locked_bucket("locked");
    for checksums in [ChecksumMode::Auto, ChecksumMode::Crc32, ChecksumMode::Sha256] {
        let options = S3Options {
            bucket: "locked".to_owned(),
            prefix: format!("{checksums:?}"),
            checksums,
            ..s3_options(moto.endpoint().to_owned())
        };
        let store = S3Store::connect(options).await.unwrap();
        let (small, large) = (key("small"), key("large"));
        store
            .put(&small, bytes(10, 1), PutMode::Create, &ObjectOptions::default())
            .await
            .unwrap();
        let upload = store.create_upload(&large, &parts_of(PART)).await.unwrap();
        let one = store.put_part(&large, &upload, 1, bytes(PART, 1)).await.unwrap();
        let two = store.put_part(&large, &upload, 2, bytes(10, 2)).await.unwrap();
        store
            .complete_upload(&large, &upload, &[one, two], PutMode::Overwrite)
            .await
            .unwrap();
        assert_eq!(read(&store, &small).await, bytes(10, 1));
        assert_eq!(store.head(&large).await.unwrap().size_bytes, PART as u64 + 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_errors_say_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let right = s3_options(serve(root.path(), false).await);
    let wrong = |access: &str, secret: &str| S3Options {
        access_key: Some((access.to_owned(), secret.to_owned())),
        ..right.clone()
    };
    let no_bucket = S3Options {
        bucket: "elsewhere".to_owned(),
        ..right.clone()
    };
    let nobody = S3Options {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        ..right.clone()
    };
    let cases = [
        (wrong(KEYS.0, "no"), ErrorKind::Denied, "secret key is wrong"),
        (wrong("nobody", KEYS.1), ErrorKind::Denied, "access key"),
        (no_bucket, ErrorKind::NotFound, "Create the bucket"),
        (nobody, ErrorKind::Unavailable, "reachable"),
    ];
    for (options, kind, hint) in cases {
        let store = S3Store::connect(options).await.unwrap();
        let error = store.list("", None).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.chain());
        let said = error.hint().unwrap_or_default().to_owned();
        assert!(said.contains(hint), "\"{said}\" lacks \"{hint}\": {}", error.chain());
    }
}

fn writer(store: &SharedStore, at: &str) -> ObjectWriter {
    let options = UploadOptions {
        part_bytes: 1000,
        ..UploadOptions::default()
    };
    ObjectWriter::create(Arc::clone(store), key(at), options)
}

#[tokio::test]
async fn a_writer_puts_small_objects_and_uploads_large_ones() {
    let memory = Arc::new(MemoryStore::new());
    let fault = Arc::new(FaultStore::new(Arc::clone(&memory) as SharedStore));
    let store: SharedStore = Arc::clone(&fault) as SharedStore;
    for (length, parts) in [(0, 0), (999, 0), (1000, 0), (1001, 2), (5000, 5), (12_345, 13)] {
        let before = fault.count(Operation::PutPart);
        let body = bytes(length, length);
        let mut writer = writer(&store, "w");
        for piece in body.chunks(77) {
            writer.write(piece).await.unwrap();
        }
        store.delete(&key("w")).await.unwrap();
        let stored = writer.finish().await.unwrap();
        assert_eq!(stored.size_bytes, length as u64);
        assert_eq!(fault.count(Operation::PutPart) - before, parts, "{length} bytes");
        assert_eq!(read(&*store, &key("w")).await, body);
    }
    assert_eq!(memory.open_uploads(), 0);
}

#[tokio::test]
async fn a_failing_part_leaves_no_open_upload() {
    let memory = Arc::new(MemoryStore::new());
    let fault = Arc::new(FaultStore::new(Arc::clone(&memory) as SharedStore));
    let store: SharedStore = Arc::clone(&fault) as SharedStore;
    let effect = Effect::FailBefore(ErrorKind::Denied);
    fault.inject(Fault {
        skip: 2,
        ..Fault::once(Operation::PutPart, "w", effect)
    });
    let mut writer = writer(&store, "w");
    let written = writer.write(&bytes(10_000, 1)).await;
    match written {
        Ok(()) => assert_eq!(writer.finish().await.unwrap_err().kind(), ErrorKind::Denied),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Denied);
            writer.abort().await.unwrap();
        }
    }
    assert_eq!(memory.open_uploads(), 0);
    assert_eq!(store.head(&key("w")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn lost_replies_are_repeated_until_they_are_heard() {
    let fault = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    for operation in [
        Operation::CreateUpload,
        Operation::PutPart,
        Operation::CompleteUpload,
        Operation::Delete,
    ] {
        fault.inject(Fault::once(operation, "w", Effect::FailAfter(ErrorKind::Unavailable)));
    }
    let options = RetryOptions {
        first_pause: Duration::from_millis(1),
        ..RetryOptions::default()
    };
    let store: SharedStore = Arc::new(RetryStore::new(Arc::clone(&fault) as SharedStore, options));
    let mut writer = writer(&store, "w");
    writer.write(&bytes(2500, 1)).await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!(read(&*store, &key("w")).await, bytes(2500, 1));
    assert_eq!(fault.count(Operation::CompleteUpload), 2);
    store.delete(&key("w")).await.unwrap();
    assert_eq!(fault.count(Operation::Delete), 2);
}

#[tokio::test]
async fn the_limit_lets_one_burst_pass_and_then_holds_the_rate() {
    let options = LimitOptions {
        upload_bytes_per_second: Some(500_000),
        download_bytes_per_second: None,
    };
    let store = LimitStore::new(Arc::new(MemoryStore::new()), options);
    let begun = tokio::time::Instant::now();
    for i in 0..10 {
        let body = bytes(100_000, i);
        store
            .put(&key("a"), body, PutMode::Overwrite, &ObjectOptions::default())
            .await
            .unwrap();
    }
    // 1,000,000 bytes less one burst. A slow machine only adds to it.
    assert!(begun.elapsed() >= Duration::from_millis(900));
}

/// A run's marker is small: were it to stand behind the parts, a low rate would cost the run its lease.
#[tokio::test]
async fn a_small_object_does_not_wait_behind_parts() {
    let options = LimitOptions {
        upload_bytes_per_second: Some(100),
        download_bytes_per_second: None,
    };
    let store = Arc::new(LimitStore::new(Arc::new(MemoryStore::new()), options));
    let upload = store.create_upload(&key("data"), &parts_of(100_000)).await.unwrap();
    let parts = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.put_part(&key("data"), &upload, 1, bytes(100_000, 1)).await })
    };
    // On one thread, the part is polled now and stands in its queue.
    tokio::task::yield_now().await;
    let (marker, options) = (key("marker"), ObjectOptions::default());
    let small = store.put(&marker, bytes(500, 1), PutMode::Overwrite, &options);
    tokio::time::timeout(PATIENCE, small).await.unwrap().unwrap();
    assert!(!parts.is_finished(), "the part waits");
    parts.abort();
}

/// Parts of a stopped run would be paid for, one after another, before the upload could be aborted.
#[tokio::test]
async fn a_stopped_run_does_not_pay_for_the_parts_it_queued() {
    let memory = Arc::new(MemoryStore::new());
    let (limit, cancel) = (
        LimitOptions {
            upload_bytes_per_second: Some(1),
            download_bytes_per_second: Some(1),
        },
        tokio_util::sync::CancellationToken::new(),
    );
    let store = Arc::new(LimitStore::new(memory.clone(), limit).until(cancel.clone()));
    let options = UploadOptions {
        part_bytes: 100_000,
        ..UploadOptions::default()
    };
    let small = bytes(1000, 1);
    memory
        .put(&key("lease"), small.clone(), PutMode::Create, &ObjectOptions::default())
        .await
        .unwrap();
    let mut writer = ObjectWriter::create(store.clone(), key("big"), options);
    writer.write(&bytes(350_000, 1)).await.unwrap();
    cancel.cancel();
    writer.abort().await.unwrap();
    assert_eq!(memory.list_uploads("").await.unwrap(), []);
    let refused = store.read_range(&key("big"), 0..100_000, &mut Vec::new()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Cancelled);
    // What tidies up is small, and goes on.
    assert_eq!(store.get(&key("lease"), 1000).await.unwrap(), small);
}

#[tokio::test]
async fn an_unknown_upload_cannot_be_completed() {
    let store = memory();
    let unknown = UploadId("no-such".to_owned());
    assert!(
        store
            .complete_upload(&key("a"), &unknown, &[], PutMode::Create)
            .await
            .is_err()
    );
}

/// The store had begun the upload, and whoever asked for it was gone before its answer came.
#[tokio::test]
async fn an_upload_whose_beginning_was_cancelled_is_aborted() {
    let memory = Arc::new(MemoryStore::new());
    let store = crate::faults::FaultStore::new(Arc::clone(&memory));
    let (answer, waits) = tokio::sync::oneshot::channel::<()>();
    store.before(0, Box::new(|| Box::pin(async { waits.await.unwrap() })));
    let options = UploadOptions {
        part_bytes: 1024,
        ..UploadOptions::default()
    };
    let mut writer = ObjectWriter::create(store, key("cancelled/object"), options);
    {
        let mut write = std::pin::pin!(writer.write(&[7; 4096]));
        assert!(futures_util::poll!(write.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    answer.send(()).unwrap();
    writer.abort().await.unwrap();
    assert!(memory.list_uploads("").await.unwrap().is_empty());
}

#[tokio::test]
async fn credentials_that_cannot_delete_are_told_apart() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    assert!(store.probe(&key("probe")).await.unwrap().deletes);
    store.inject(Fault::once(
        Operation::Delete,
        "",
        Effect::FailBefore(ErrorKind::Denied),
    ));
    assert!(!store.probe(&key("probe")).await.unwrap().deletes);
    store.inject(Fault::once(
        Operation::Delete,
        "",
        Effect::FailBefore(ErrorKind::Unavailable),
    ));
    assert!(store.probe(&key("probe")).await.is_err());
}
