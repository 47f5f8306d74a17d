//! Archives into and out of a store in memory: frames, the ordered writer with its index, reading by ranges.

use std::sync::Arc;

use tokio::runtime::Runtime;
use wirevault::archive::{
    ArchiveInfo, ArchiveOptions, ArchiveReader, ArchiveWriter, ChunkFacts, Compression, EntryEvent, EntryMeta,
    Pipeline, Selection, StreamRecord,
};
use wirevault::base::memory::{MIB as LIMIT_MIB, MemoryPlan};
use wirevault::storage::memory::MemoryStore;
use wirevault::storage::upload::UploadOptions;
use wirevault::storage::{ObjectKey, SharedStore};

use crate::Case;
use crate::inputs::{self, MIB};

/// The members of the only stream.
const PREFIX: &str = "tables/00001.orders";

/// Workers and a runtime, the same on every machine: what is measured is work, not how many processors share it.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) pipeline: Pipeline,
}

impl Bench {
    pub(crate) fn start() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Self {
            runtime: runtime.worker_threads(2).enable_all().build().unwrap(),
            pipeline: Pipeline::start(MemoryPlan::for_limit(128 * LIMIT_MIB, 2).unwrap()),
        }
    }

    pub(crate) async fn writer(&self, store: &SharedStore) -> ArchiveWriter {
        let upload = UploadOptions {
            part_bytes: self.pipeline.plan.part_bytes,
            parts_in_flight: self.pipeline.plan.parts_in_flight,
            ..UploadOptions::default()
        };
        let options = ArchiveOptions {
            prefix: ObjectKey::new("data/bench/source").unwrap(),
            compression: Compression::default(),
            upload,
            max_index_bytes: 4 * MIB,
            readme: "a benchmark".to_owned(),
        };
        ArchiveWriter::create(store.clone(), &self.pipeline, options)
            .await
            .unwrap()
    }

    /// Writes chunks as one stream.
    fn write(&self, store: &SharedStore, chunks: &[Vec<u8>]) -> Vec<ArchiveInfo> {
        self.runtime.block_on(async {
            let writer = self.writer(store).await;
            for (number, data) in (0..).zip(chunks) {
                let mut chunk = writer.chunk_buffer().await.unwrap();
                chunk.extend(data);
                let facts = ChunkFacts {
                    starts_row: true,
                    ..ChunkFacts::default()
                };
                writer.submit_chunk(PREFIX, number, chunk, facts).await.unwrap();
            }
            let record = StreamRecord {
                stream: PREFIX.to_owned(),
                prefixes: vec![PREFIX.to_owned()],
                chunks: chunks.len() as u64,
                bytes: bytes_of(chunks) as u64,
                rows: None,
                row_digest: None,
                facts: serde_json::Value::Null,
            };
            writer.finish_stream(record).await.unwrap();
            writer.finish().await.unwrap()
        })
    }

    /// Reads the whole archives, and returns the bytes of their entries.
    fn read(&self, store: &SharedStore, archives: &[ArchiveInfo]) -> usize {
        self.runtime.block_on(async {
            let reader = ArchiveReader::open(store.clone(), &self.pipeline, archives.to_vec());
            let mut stream = reader.await.unwrap().entries(Selection::All);
            let mut bytes = 0;
            while let Some(event) = stream.next().await.unwrap() {
                if let EntryEvent::Data(data) = event {
                    bytes += data.len();
                }
            }
            bytes
        })
    }
}

pub(crate) fn memory() -> SharedStore {
    Arc::new(MemoryStore::new())
}

fn bytes_of(chunks: &[Vec<u8>]) -> usize {
    chunks.iter().map(Vec::len).sum()
}

/// 32 MiB of rows, cut at row ends into chunks.
fn chunks_of_rows() -> Vec<Vec<u8>> {
    let mut chunks = vec![Vec::new()];
    for row in inputs::rows(32 * MIB) {
        if chunks[chunks.len() - 1].len() + row.len() > MIB {
            chunks.push(Vec::new());
        }
        let last = chunks.len() - 1;
        chunks[last].extend_from_slice(&row);
    }
    chunks
}

fn write_case(chunks: Vec<Vec<u8>>) -> Case {
    let bench = Bench::start();
    Case::new(bytes_of(&chunks), move || {
        bench.write(&memory(), &chunks);
    })
}

/// Digests, compresses and stores rows: compression is most of it.
pub(crate) fn frames_of_rows() -> Case {
    write_case(chunks_of_rows())
}

/// The same with bytes that do not compress: digests and copies are most of it.
pub(crate) fn frames_of_noise() -> Case {
    write_case(inputs::noise(32 * MIB).chunks(MIB).map(<[u8]>::to_vec).collect())
}

/// 40,000 files of 100 bytes: headers, the ordered writer and its index are most of it.
pub(crate) fn small_entries() -> Case {
    const FILES: usize = 40_000;
    const FILE_BYTES: usize = 100;
    let bench = Bench::start();
    let data = inputs::noise(FILES * FILE_BYTES);
    let data: Arc<[u8]> = data.into();
    Case::new(data.len(), move || {
        let (store, data) = (memory(), Arc::clone(&data));
        bench.runtime.block_on(async {
            let mut writer = bench.writer(&store).await.into_sequential();
            let writing = tokio::task::spawn_blocking(move || {
                for (number, content) in data.chunks(FILE_BYTES).enumerate() {
                    let path = format!("tree/{:03}/{number:06}.txt", number / 1000);
                    let meta = EntryMeta::file(path, content.len() as u64, (1_700_000_000, 0));
                    writer.begin_entry(&meta).unwrap();
                    writer.write(content).unwrap();
                    writer.finish_entry(false).unwrap();
                }
                writer
            });
            writing.await.unwrap().finish().await.unwrap();
        });
    })
}

/// Reads every frame of an archive of rows.
pub(crate) fn read_all() -> Case {
    let (bench, store, chunks) = (Bench::start(), memory(), chunks_of_rows());
    let archives = bench.write(&store, &chunks);
    let expected = bytes_of(&chunks);
    Case::new(expected, move || {
        assert_eq!(bench.read(&store, &archives), expected);
    })
}

/// Opens an archive of rows by its directory alone and reads every third chunk by its range.
pub(crate) fn read_ranges() -> Case {
    let (bench, store, chunks) = (Bench::start(), memory(), chunks_of_rows());
    let archives = bench.write(&store, &chunks);
    let expected = chunks.iter().step_by(3).map(Vec::len).sum();
    Case::new(expected, move || {
        let read = bench.runtime.block_on(async {
            let reader = ArchiveReader::open_lazily(store.clone(), &bench.pipeline, archives.clone());
            let reader = reader.await.unwrap();
            let mut wanted = Vec::new();
            let mut visit = |_: &str, chunk| {
                wanted.push(chunk);
                Ok(())
            };
            reader.for_each_chunk(&mut visit).await.unwrap();
            let mut stream = reader.chunks(wanted.into_iter().step_by(3).collect());
            let mut bytes = 0;
            while let Some((_, data)) = stream.next().await.unwrap() {
                bytes += data.len();
            }
            bytes
        });
        assert_eq!(read, expected);
    })
}
