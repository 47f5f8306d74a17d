#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions)]
use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::archive::Pipeline;
use crate::base::error::{ErrorKind, Result};
use crate::base::memory::{MIB, MemoryPlan};
use crate::storage::fault::{Effect, Fault, FaultStore, Operation};
use crate::storage::memory::MemoryStore;
use crate::storage::{ObjectKey, ObjectOptions, ObjectStore, PutMode, SharedStore};

fn key() -> ObjectKey {
    ObjectKey::new("wal/7/00000001/000000010000000000000003.zst").unwrap()
}

fn pipeline() -> Pipeline {
    Pipeline::start(MemoryPlan::for_limit(96 * MIB, 2).unwrap())
}

fn about() -> About {
    About {
        engine: "toy".into(),
        kind: "segment".into(),
        span: Some(Span { from: 3, to: 9 }),
        times: Some(Times {
            first: "2026-01-01T00:00:00.000001Z".parse().unwrap(),
            last: "2026-01-02T00:00:00Z".parse().unwrap(),
        }),
        facts: BTreeMap::from([("size".to_owned(), "16".to_owned())]),
    }
}

async fn put(store: &SharedStore, raw: &[u8]) -> Result<Kept> {
    let pipeline = pipeline();
    let mut writer = LogWriter::create(store.clone(), key(), &pipeline, &LogOptions::default()).await?;
    let chunk = pipeline.plan.chunk_bytes;
    if let Err(error) = feed(&mut writer, raw, chunk).await {
        writer.abandon().await;
        return Err(error);
    }
    writer.finish(about()).await
}

async fn feed(writer: &mut LogWriter, raw: &[u8], chunk: usize) -> Result<()> {
    for piece in raw.chunks(chunk) {
        let mut buffer = writer.buffer().await?;
        buffer.bytes.extend_from_slice(piece);
        writer.write(buffer)?;
    }
    Ok(())
}

async fn raw(store: &SharedStore) -> Result<Vec<u8>> {
    LogReader::open(store, &key()).await?.read_small(u64::MAX).await
}

/// Bytes that do not compress, so that an object has several parts.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

#[tokio::test]
async fn what_was_written_comes_back_and_any_decoder_reads_it() {
    for raw_bytes in [vec![], b"abc".to_vec(), vec![7; 16 << 20], noise(20 << 20)] {
        let store: SharedStore = Arc::new(MemoryStore::new());
        let Kept::Stored { stored_bytes } = put(&store, &raw_bytes).await.unwrap() else {
            panic!()
        };
        let reader = LogReader::look(&store, &key()).await.unwrap();
        let descriptor = reader.descriptor();
        assert_eq!(
            (descriptor.raw_bytes, &descriptor.about),
            (raw_bytes.len() as u64, &about())
        );
        assert!(reader.read_small(u64::MAX).await.unwrap() == raw_bytes);
        assert!(raw(&store).await.unwrap() == raw_bytes);
        let object = store.get(&key(), u64::MAX).await.unwrap();
        assert_eq!(object.len() as u64, stored_bytes);
        // As `zstd -dc` does.
        assert!(zstd::stream::decode_all(&object[..]).unwrap() == raw_bytes);
    }
}

#[tokio::test]
async fn the_same_again_is_no_error_and_other_bytes_are_one() {
    for conditional in [true, false] {
        let memory = MemoryStore::new();
        let store: SharedStore = if conditional {
            Arc::new(memory)
        } else {
            let mut capabilities = memory.capabilities();
            capabilities.conditional_create = Some(false);
            Arc::new(memory.with_capabilities(capabilities))
        };
        let (first, other) = (noise(3 << 20), vec![1; 3 << 20]);
        assert!(matches!(put(&store, &first).await.unwrap(), Kept::Stored { .. }));
        assert_eq!(put(&store, &first).await.unwrap(), Kept::WasThere);
        let error = put(&store, &other).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
        assert!(raw(&store).await.unwrap() == first, "{conditional}");
    }
}

/// A part that is refused fails the segment, and leaves no open upload.
#[tokio::test]
async fn a_part_that_fails_leaves_no_upload() {
    let memory: SharedStore = Arc::new(MemoryStore::new());
    let fault = Arc::new(FaultStore::new(memory.clone()));
    fault.inject(Fault::once(
        Operation::PutPart,
        "",
        Effect::FailBefore(ErrorKind::Unavailable),
    ));
    let store: SharedStore = fault.clone();
    let error = put(&store, &noise(40 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(fault.count(Operation::CreateUpload), 1);
    assert_eq!(memory.list_uploads("").await.unwrap(), []);
    assert!(matches!(put(&store, b"again").await.unwrap(), Kept::Stored { .. }));
}

/// Whatever byte of an object is damaged or cut off, what comes of it is an error or the same bytes.
#[tokio::test]
async fn no_damage_goes_unnoticed() {
    let store: SharedStore = Arc::new(MemoryStore::new());
    let bytes = b"some of the log, some of the log ".repeat(20);
    put(&store, &bytes).await.unwrap();
    let object = store.get(&key(), u64::MAX).await.unwrap();
    let replace = async |with: Vec<u8>| {
        let options = ObjectOptions::default();
        store
            .put(&key(), with.into(), PutMode::Overwrite, &options)
            .await
            .unwrap();
        match raw(&store).await {
            Ok(read) => assert!(read == bytes),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported),
                "{error:?}"
            ),
        }
    };
    for at in 0..object.len() {
        replace(object[..at].to_vec()).await;
        for bit in [0, 3, 7] {
            let mut damaged = object.to_vec();
            damaged[at] ^= 1 << bit;
            replace(damaged).await;
        }
    }
    let mut longer = object.to_vec();
    longer.insert(object.len() / 3, 0);
    replace(longer).await;
}

#[tokio::test]
async fn a_frame_that_holds_more_than_it_should_is_refused() {
    let store: SharedStore = Arc::new(MemoryStore::new());
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let descriptor = super::Descriptor::new(1000, "0".repeat(64), bomb.len() as u64, about());
    let object = [bomb, descriptor.encode().unwrap()].concat();
    let options = ObjectOptions::default();
    store
        .put(&key(), object.into(), PutMode::Create, &options)
        .await
        .unwrap();
    let reader = LogReader::open(&store, &key()).await.unwrap();
    let mut most = 0;
    let mut count = |piece: &[u8]| {
        most += piece.len();
        Ok(())
    };
    let error = reader.read(&mut count).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(most, 0);
}
