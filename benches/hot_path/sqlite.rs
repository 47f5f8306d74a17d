//! The pages of a SQLite database into an archive, with the check that goes beside.

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;
use wirevault::base::report::silent;
use wirevault::engines::sqlite::{SqliteOptions, SqliteSource};
use wirevault::engines::{BackupContext, Source};

use crate::Case;
use crate::archive::{Bench, memory};
use crate::inputs::{self, MIB};

/// Streams a database of about 24 MiB in WAL mode, rows and an index.
pub(crate) fn page_stream() -> Case {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("bench.db");
    let writer = fill(&path);
    let pages: u32 = writer.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let bytes = pages as usize * 4096;
    let bench = Bench::start();
    let source = SqliteSource::new(SqliteOptions::new(&path));
    Case::new(bytes, move || {
        // A connection that stays keeps the WAL where it is.
        let _ = &writer;
        let outcome = bench.runtime.block_on(async {
            let context = BackupContext {
                name: "bench".to_owned(),
                writer: bench.writer(&memory()).await,
                pipeline: bench.pipeline.clone(),
                reporter: silent(),
                cancel: CancellationToken::new(),
                parallel: 1,
                spool_dir: place.path().to_owned(),
            };
            source.backup(context).await.unwrap()
        });
        assert_eq!(outcome.raw_bytes, bytes as u64);
    })
}

fn fill(path: &std::path::Path) -> Connection {
    let mut db = Connection::open(path).unwrap();
    db.execute_batch(
        "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL;
         CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT); CREATE INDEX by_note ON orders (substr(note, 1, 24))",
    )
    .unwrap();
    let insert = db.transaction().unwrap();
    let mut statement = insert.prepare("INSERT INTO orders (note) VALUES (?1)").unwrap();
    for row in inputs::rows(16 * MIB) {
        statement.execute([String::from_utf8(row).unwrap()]).unwrap();
    }
    drop(statement);
    insert.commit().unwrap();
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    db
}
