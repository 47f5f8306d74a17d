//! Archives written and read back: every way in and every way out, and damage.

use std::sync::Arc;

use wirevault::archive::{
    ArchiveInfo, ArchiveOptions, ArchiveReader, ArchiveWriter, ChunkFacts, Compression, EntryEvent, EntryKind,
    EntryMeta, Pipeline, Selection, StreamRecord,
};
use wirevault::base::memory::{MIB, MemoryPlan};
use wirevault::storage::memory::MemoryStore;
use wirevault::storage::upload::UploadOptions;
use wirevault::storage::{ObjectKey, ObjectOptions, ObjectStore, PutMode, SharedStore};

fn pipeline() -> Pipeline {
    Pipeline::start(MemoryPlan::for_limit(96 * MIB, 2).unwrap())
}

fn options(compression: Compression, max_index_bytes: usize) -> ArchiveOptions {
    ArchiveOptions {
        prefix: ObjectKey::new("data/x/s").unwrap(),
        compression,
        upload: UploadOptions::default(),
        max_index_bytes,
        readme: "how to restore".to_owned(),
    }
}

/// Bytes that neither compress to nothing nor are random: a counter mixed by a multiplication.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64)
        .map(|i| ((i / 7).wrapping_mul(seed | 1) >> 5) as u8)
        .collect()
}

/// A tree with every size that matters: empty, within a frame, exactly a frame, spanning several.
fn tree() -> Vec<(EntryMeta, Vec<u8>)> {
    let mut entries = Vec::new();
    for (at, size) in [
        0,
        1,
        511,
        512,
        513,
        100_000,
        (1 << 20) - 512,
        1 << 20,
        (1 << 20) + 1,
        3_500_000,
        7,
    ]
    .into_iter()
    .enumerate()
    {
        let meta = EntryMeta::file(
            format!("dir/{at:03}"),
            size as u64,
            (1_700_000_000 + at as i64, 123_456_789),
        );
        entries.push((meta, pattern(size, at as u64 + 3)));
    }
    let mut odd = EntryMeta::file(b"dir/\xff\xfe name".to_vec(), 3, (-5, 1));
    odd.pax.insert("SCHILY.xattr.user.k".to_owned(), vec![0, 1, 255]);
    entries.push((odd, b"abc".to_vec()));
    let directory = EntryMeta {
        kind: EntryKind::Directory,
        mode: 0o755,
        ..EntryMeta::file("empty/", 0, (1, 0))
    };
    entries.push((directory, Vec::new()));
    let link = EntryMeta {
        kind: EntryKind::Symlink,
        link: Some(b"../x".to_vec()),
        ..EntryMeta::file("link", 0, (1, 0))
    };
    entries.push((link, Vec::new()));
    entries
}

async fn write_tree(
    store: &SharedStore,
    pipeline: &Pipeline,
    options: ArchiveOptions,
    entries: Vec<(EntryMeta, Vec<u8>)>,
) -> Vec<ArchiveInfo> {
    let writer = ArchiveWriter::create(store.clone(), pipeline, options).await.unwrap();
    let mut sequential = writer.into_sequential();
    let sequential = tokio::task::spawn_blocking(move || {
        for (meta, data) in &entries {
            sequential.begin_entry(meta).unwrap();
            sequential.write(data).unwrap();
            sequential.finish_entry(false).unwrap();
        }
        sequential
    });
    sequential.await.unwrap().finish().await.unwrap()
}

async fn read_entries(reader: &ArchiveReader, selection: Selection) -> wirevault::Result<Vec<(EntryMeta, Vec<u8>)>> {
    let mut stream = reader.entries(selection);
    let mut found: Vec<(EntryMeta, Vec<u8>)> = Vec::new();
    while let Some(event) = stream.next().await? {
        match event {
            EntryEvent::Begin(meta) => found.push((meta, Vec::new())),
            EntryEvent::Data(data) => found.last_mut().unwrap().1.extend_from_slice(&data),
            EntryEvent::End { .. } => {}
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_comes_back_whole_and_one_by_one() {
    for compression in [Compression::Zstd(1), Compression::Gzip(6)] {
        let (store, pipeline) = (Arc::new(MemoryStore::new()) as SharedStore, pipeline());
        let infos = write_tree(&store, &pipeline, options(compression, 4 << 20), tree()).await;
        let reader = ArchiveReader::open(store.clone(), &pipeline, infos.clone())
            .await
            .unwrap();
        assert_eq!(read_entries(&reader, Selection::All).await.unwrap(), tree());
        let lazy = ArchiveReader::open_lazily(store.clone(), &pipeline, infos)
            .await
            .unwrap();
        let mut all = Vec::new();
        for (meta, data) in tree() {
            let found = lazy.find(&meta.path).await.unwrap().expect("every entry is found");
            all.push(found.clone());
            assert_eq!(
                read_entries(&lazy, Selection::Entries(vec![found])).await.unwrap(),
                vec![(meta, data)]
            );
        }
        assert_eq!(read_entries(&lazy, Selection::Entries(all)).await.unwrap(), tree());
        assert!(lazy.find(b"dir/none").await.unwrap().is_none());
        assert_eq!(pipeline.pool.in_use(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_roll_over_and_read_as_one() {
    let (store, pipeline) = (Arc::new(MemoryStore::new()) as SharedStore, pipeline());
    let entries: Vec<_> = (0..3000)
        .map(|at| {
            (
                EntryMeta::file(format!("f{at:06}"), 1500, (at, 0)),
                pattern(1500, at as u64),
            )
        })
        .collect();
    let infos = write_tree(
        &store,
        &pipeline,
        options(Compression::Zstd(1), 25_000),
        entries.clone(),
    )
    .await;
    assert!(infos.len() > 2, "{} archives", infos.len());
    let reader = ArchiveReader::open(store.clone(), &pipeline, infos.clone())
        .await
        .unwrap();
    assert_eq!(read_entries(&reader, Selection::All).await.unwrap(), entries);
    let lazy = ArchiveReader::open_lazily(store, &pipeline, infos).await.unwrap();
    for at in [0, 1, 1234, 2999] {
        let (meta, data) = &entries[at];
        let found = lazy.find(&meta.path).await.unwrap().expect("found");
        assert_eq!(
            read_entries(&lazy, Selection::Entries(vec![found])).await.unwrap(),
            vec![(meta.clone(), data.clone())]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_streams_come_back_and_voided_attempts_do_not() {
    let (store, pipeline) = (Arc::new(MemoryStore::new()) as SharedStore, pipeline());
    let writer = ArchiveWriter::create(store.clone(), &pipeline, options(Compression::default(), 4 << 20))
        .await
        .unwrap();
    let mut tasks = Vec::new();
    for stream in 0..4_u64 {
        let writer = writer.clone();
        tasks.push(tokio::spawn(async move {
            for (prefix, last) in [(format!("t/{stream}.try1"), 3), (format!("t/{stream}.try2"), 20)] {
                for number in 0..last {
                    let mut chunk = writer.chunk_buffer().await.unwrap();
                    chunk.extend(&pattern(
                        200_000 + number as usize * 1000,
                        stream * 100 + u64::from(number),
                    ));
                    writer
                        .submit_chunk(
                            &prefix,
                            number,
                            chunk,
                            ChunkFacts {
                                starts_row: true,
                                rows: 5,
                                part: 0,
                            },
                        )
                        .await
                        .unwrap();
                }
            }
            let record = StreamRecord {
                stream: format!("t/{stream}"),
                prefixes: vec![format!("t/{stream}.try2")],
                chunks: 20,
                bytes: 0,
                rows: Some(100),
                row_digest: None,
                facts: serde_json::Value::Null,
            };
            writer.finish_stream(record).await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let infos = writer.finish().await.unwrap();
    let reader = ArchiveReader::open(store, &pipeline, infos).await.unwrap().share(4);
    assert_eq!(reader.streams().await.unwrap().len(), 4);
    let mut by_stream: Vec<Vec<_>> = vec![Vec::new(); 4];
    reader
        .for_each_chunk(&mut |prefix, chunk| {
            assert!(prefix.ends_with(".try2"), "{prefix}");
            by_stream[prefix[2..3].parse::<usize>().unwrap()].push(chunk);
            Ok(())
        })
        .await
        .unwrap();
    // Read in turn by one consumer: the worst case for a shared pool.
    let mut streams: Vec<_> = by_stream.iter().map(|chunks| reader.chunks(chunks.clone())).collect();
    for number in 0..20_u32 {
        for (stream, chunks) in streams.iter_mut().enumerate() {
            let (chunk, data) = chunks.next().await.unwrap().expect("a chunk");
            assert_eq!(chunk.number, number);
            assert_eq!(
                *data,
                pattern(
                    200_000 + number as usize * 1000,
                    stream as u64 * 100 + u64::from(number)
                )
            );
        }
    }
    drop(streams);
}

/// Every single-byte flip and truncation of the index, and a flip in every part of the archive, is noticed.
#[tokio::test(flavor = "multi_thread")]
async fn damage_never_passes() {
    let (store, pipeline) = (Arc::new(MemoryStore::new()), pipeline());
    let shared = store.clone() as SharedStore;
    let entries: Vec<_> = (0..20)
        .map(|at| {
            (
                EntryMeta::file(format!("f{at:02}"), 900, (at, 0)),
                pattern(900, at as u64),
            )
        })
        .collect();
    let infos = write_tree(&shared, &pipeline, options(Compression::default(), 4 << 20), entries).await;
    let info = infos[0].clone();
    let damaged = async |key: &ObjectKey, bytes: Vec<u8>| {
        store
            .put(key, bytes.into(), PutMode::Overwrite, &ObjectOptions::default())
            .await
            .unwrap();
        match ArchiveReader::open(shared.clone(), &pipeline, vec![info.clone()]).await {
            Ok(reader) => read_entries(&reader, Selection::All).await.err(),
            Err(error) => Some(error),
        }
    };
    let index = store.get(&info.index.key, 1 << 20).await.unwrap().to_vec();
    for at in 0..index.len() {
        let mut flipped = index.clone();
        flipped[at] ^= 0x10;
        assert!(damaged(&info.index.key, flipped).await.is_some(), "index byte {at}");
        assert!(
            damaged(&info.index.key, index[..at].to_vec()).await.is_some(),
            "index cut at {at}"
        );
    }
    assert!(damaged(&info.index.key, index).await.is_none());
    let archive = store.get(&info.archive.key, 1 << 20).await.unwrap().to_vec();
    // Behind the described bytes stand the index entry and the end blocks: level `stored` compares those.
    let described = archive.len() - index_entry_bytes(&archive, &info);
    for at in (0..described).step_by(7) {
        let mut flipped = archive.clone();
        flipped[at] ^= 0x10;
        assert!(damaged(&info.archive.key, flipped).await.is_some(), "archive byte {at}");
    }
}

/// Stored bytes of the archive's own last entry, a little overestimated.
fn index_entry_bytes(archive: &[u8], info: &ArchiveInfo) -> usize {
    let entry = usize::try_from(info.index.size_bytes).unwrap() + 1024;
    entry.min(archive.len())
}
