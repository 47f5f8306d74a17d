//! Random databases, there and back: schemas, contents, page sizes and journal modes by a seed, writers that are killed.
//!
//! The oracle is the stock `sqlite3` program: its `.dump` of the original and of what came back must be the same text, and
//! so must the pages, but for what the online backup API counts in the header. `WIREVAULT_TEST_SEED` repeats one history.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;
use wirevault::engines::sqlite::restore::{self, SqliteRestoreOptions};
use wirevault::engines::sqlite::{Method, SqliteOptions, SqliteSource};

use crate::support::archives::Vault;

const DATABASES: u64 = 24;

fn name(rng: &mut StdRng, number: usize) -> String {
    let odd = ["a", "x y", "quo\"te", "select", "ünï", "semi;colon", "d'q"];
    format!("\"{}{number}\"", odd.choose(rng).unwrap().replace('"', "\"\""))
}

fn value(rng: &mut StdRng) -> String {
    match rng.random_range(0..8) {
        0 => "NULL".to_owned(),
        1 => rng.random::<i64>().to_string(),
        2 => format!("{:e}", rng.random::<f64>() * 1e9),
        3 => format!("randomblob({})", rng.random_range(0..9000)),
        4 => "'it''s ☃ ' || char(10) || 'two lines'".to_owned(),
        5 => format!("x'{}'", "00ff".repeat(rng.random_range(0..20))),
        6 => "''".to_owned(),
        _ => format!("hex(randomblob({}))", rng.random_range(1..400)),
    }
}

/// Returns the statements that make one table with what belongs to it, and its columns.
fn table(rng: &mut StdRng, number: usize) -> (String, String, usize) {
    let table = name(rng, number);
    let columns = rng.random_range(1..6);
    let names: Vec<String> = (0..columns).map(|column| name(rng, column)).collect();
    let kinds = [
        "INTEGER",
        "TEXT",
        "BLOB",
        "REAL",
        "",
        "ANY",
        "VARCHAR(20) COLLATE NOCASE",
    ];
    let defined: Vec<String> = names
        .iter()
        .map(|column| format!("{column} {}", kinds.choose(rng).unwrap()))
        .collect();
    let first = &names[0];
    let (key, end) = match rng.random_range(0..4) {
        0 => ("id INTEGER PRIMARY KEY AUTOINCREMENT, ", ""),
        1 => ("id INTEGER PRIMARY KEY, ", ""),
        2 => ("id INTEGER NOT NULL PRIMARY KEY, ", " WITHOUT ROWID"),
        _ => ("id INTEGER, ", ""),
    };
    let mut sql = format!("CREATE TABLE {table}({key}{}){end};", defined.join(", "));
    if rng.random_bool(0.6) {
        sql.push_str(&format!("CREATE INDEX i{number} ON {table}({first} DESC, id);"));
    }
    if rng.random_bool(0.3) {
        sql.push_str(&format!(
            "CREATE INDEX p{number} ON {table}(length({first})) WHERE {first} IS NOT NULL;"
        ));
    }
    if rng.random_bool(0.3) {
        sql.push_str(&format!("CREATE VIEW v{number} AS SELECT {first} FROM {table};"));
    }
    if rng.random_bool(0.3) {
        sql.push_str(&format!(
            "CREATE TRIGGER g{number} AFTER DELETE ON {table} BEGIN UPDATE {table} SET {first} = old.{first} WHERE id = 1; END;"
        ));
    }
    (sql, table, columns)
}

/// Makes a database and changes it for a while. Returns the connection, in an open transaction if it is to be killed.
fn make(rng: &mut StdRng, path: &Path, mode: &str, killed: bool) -> Connection {
    let db = Connection::open(path).unwrap();
    let page_size = 512 << rng.random_range(0..8);
    let vacuum = ["NONE", "FULL", "INCREMENTAL"].choose(rng).unwrap();
    let encoding = ["UTF-8", "UTF-16le", "UTF-16be"].choose(rng).unwrap();
    db.execute_batch(&format!(
        "PRAGMA page_size={page_size}; PRAGMA auto_vacuum={vacuum}; PRAGMA encoding='{encoding}'; PRAGMA cache_size=8;
         PRAGMA synchronous=OFF; PRAGMA foreign_keys=OFF; PRAGMA journal_mode={mode}; PRAGMA user_version={}",
        rng.random_range(0..1000)
    ))
    .unwrap();
    let mut tables = Vec::new();
    for number in 0..rng.random_range(1..6) {
        let (sql, table, columns) = table(rng, number);
        db.execute_batch(&sql).unwrap();
        tables.push((table, columns));
    }
    if rng.random_bool(0.4) {
        db.execute_batch(
            "CREATE VIRTUAL TABLE words USING fts5(body); INSERT INTO words VALUES ('hello world'), ('again');
             CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1); INSERT INTO boxes VALUES (1, 0, 2)",
        )
        .unwrap();
    }
    let rounds = rng.random_range(1..6);
    for round in 0..rounds {
        db.execute_batch("BEGIN").unwrap();
        for _ in 0..rng.random_range(1..60) {
            let (table, columns) = tables.choose(rng).unwrap();
            let sql = match rng.random_range(0..10) {
                0 => format!("DELETE FROM {table} WHERE id % 3 = 0"),
                1 => format!("UPDATE {table} SET id = id WHERE id % 2 = 0"),
                _ => {
                    let values: Vec<String> = (0..*columns).map(|_| value(rng)).collect();
                    format!(
                        "INSERT OR REPLACE INTO {table} VALUES ({}, {})",
                        rng.random_range(0..500),
                        values.join(", ")
                    )
                }
            };
            db.execute_batch(&sql).unwrap();
        }
        match (round + 1 == rounds, killed) {
            (true, true) => {
                // More than the cache holds, so that some of it is in the file, or in the WAL, already.
                let (table, _) = &tables[0];
                for id in 0..40 {
                    let sql = format!("INSERT OR REPLACE INTO {table}(id) VALUES ({})", 1000 + id);
                    db.execute_batch(&sql).unwrap();
                }
                db.execute_batch("CREATE TABLE lost(x); INSERT INTO lost VALUES (randomblob(300000))")
                    .unwrap();
            }
            _ if rng.random_bool(0.2) => db.execute_batch("ROLLBACK").unwrap(),
            _ => db.execute_batch("COMMIT").unwrap(),
        }
    }
    db
}

/// Copies what a kill would leave: the files as they are now.
fn kill(path: &Path, to: &Path, rng: &mut StdRng) {
    for suffix in ["", "-wal", "-journal"] {
        let with = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        if with(path).exists() {
            fs::copy(with(path), with(to)).unwrap();
        }
    }
    // A machine that lost power leaves no -shm, a killed process does.
    let shm = PathBuf::from(format!("{}-shm", path.display()));
    if shm.exists() && rng.random_bool(0.5) {
        fs::copy(shm, format!("{}-shm", to.display())).unwrap();
    }
}

fn dump(path: &Path) -> String {
    let said = Command::new("sqlite3").arg(path).arg(".dump").output().unwrap();
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && error.is_empty(), "{error}");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// Returns the pages, without what the header counts, and in rollback mode as they are stored.
fn image(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    if bytes.len() >= 100 {
        for range in [18..20, 24..28, 40..44, 92..100] {
            bytes[range].fill(0);
        }
    }
    bytes
}

async fn one(seed: u64) {
    let rng = &mut StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made.db");
    let mode = *["WAL", "WAL", "DELETE", "TRUNCATE", "PERSIST"].choose(rng).unwrap();
    let killed = rng.random_bool(0.4);
    let live = make(rng, &made, mode, killed);
    let source = dir.path().join("a b?#.db");
    let holds = if killed {
        kill(&made, &source, rng);
        drop(live);
        None
    } else {
        drop(live);
        fs::rename(&made, &source).unwrap();
        // Some have an application that is connected and rests.
        rng.random_bool(0.5).then(|| {
            let db = Connection::open(&source).unwrap();
            let _: i64 = db
                .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
                .unwrap();
            db
        })
    };
    let mut options = SqliteOptions::new(&source);
    options.busy_timeout = Duration::from_secs(20);
    if rng.random_bool(0.3) {
        options.method = Method::OnlineBackup;
    }
    let mut vault = Vault::new();
    let outcome = vault
        .backup(&SqliteSource::new(options), &dir.path().join("spool"))
        .await
        .unwrap();
    let losses: Vec<_> = outcome
        .note_counts
        .keys()
        .filter(|code| !["rolled-back", "recovered"].contains(&code.as_str()))
        .collect();
    assert!(losses.is_empty(), "{losses:?}");
    drop(holds);
    let back = dir.path().join("back.db");
    let how = SqliteRestoreOptions {
        full_check: true,
        ..SqliteRestoreOptions::default()
    };
    let report = restore::restore(
        vault.reader().await,
        &back,
        &how,
        vault.reporter(),
        CancellationToken::new(),
    )
    .await
    .unwrap();
    assert_eq!(report.integrity, wirevault::engines::sqlite::Integrity::default());
    let returned = image(&back);
    assert!(
        !dump(&source).contains("CREATE TABLE lost"),
        "the transaction was never committed"
    );
    // The stock program has rolled back what its writer left, and taken the WAL in when it closed.
    assert_eq!(dump(&source), dump(&back), "{mode}, killed: {killed}");
    assert!(image(&source) == returned, "{mode}, killed: {killed}: the pages differ");
    let stored: String = Connection::open(&back)
        .unwrap()
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(stored == "wal", mode == "WAL");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_databases_come_back_page_by_page() {
    let given = std::env::var("WIREVAULT_TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seeds = given.map_or_else(
        || {
            let first = rand::random::<u64>() >> 1;
            first..first + DATABASES
        },
        |seed: u64| seed..seed + 1,
    );
    for seed in seeds {
        eprintln!("WIREVAULT_TEST_SEED={seed}");
        one(seed).await;
    }
}
