//! SQLite databases: read while they are written, and put back whole or not at all.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;
use wirevault::engines::sqlite::restore::{self, SqliteRestoreOptions, SqliteRestoreReport};
use wirevault::engines::sqlite::{Method, SqliteOptions, SqliteSource};
use wirevault::engines::{Source, SourceOutcome};

use crate::support::archives::{Vault, as_nobody};
use crate::support::wait;

fn options(path: &Path) -> SqliteOptions {
    SqliteOptions {
        busy_timeout: Duration::from_millis(300),
        ..SqliteOptions::new(path)
    }
}

async fn try_backup(options: SqliteOptions, spool: &Path) -> wirevault::Result<(Vault, SourceOutcome)> {
    let mut vault = Vault::new();
    let outcome = vault.backup(&SqliteSource::new(options), spool).await?;
    Ok((vault, outcome))
}

async fn backup(path: &Path) -> (Vault, SourceOutcome) {
    try_backup(options(path), &path.with_extension("spool")).await.unwrap()
}

async fn put_back(vault: &Vault, target: &Path, replace: bool) -> wirevault::Result<SqliteRestoreReport> {
    let options = SqliteRestoreOptions {
        replace,
        full_check: true,
        busy_timeout: Duration::from_millis(300),
        ..SqliteRestoreOptions::default()
    };
    restore::restore(
        vault.reader().await,
        target,
        &options,
        vault.reporter(),
        CancellationToken::new(),
    )
    .await
}

async fn undo(target: &Path, previous: &Path) -> PathBuf {
    restore::undo(target, previous, &SqliteRestoreOptions::default())
        .await
        .unwrap()
}

fn one<T: rusqlite::types::FromSql>(path: &Path, sql: &str) -> T {
    Connection::open(path)
        .unwrap()
        .query_row(sql, [], |row| row.get(0))
        .unwrap()
}

fn rows(path: &Path) -> i64 {
    one(path, "SELECT count(*) FROM t")
}

fn make(path: &Path, pragmas: &str, rows: u32) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(pragmas).unwrap();
    db.execute_batch("CREATE TABLE t(x INTEGER PRIMARY KEY, y); BEGIN")
        .unwrap();
    for n in 0..rows {
        db.execute("INSERT INTO t(y) VALUES (?1)", [format!("row {n} ☃")])
            .unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    db
}

fn names(dir: &Path) -> Vec<String> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_writer_neither_waits_nor_tears_the_backup() {
    for method in [Method::Auto, Method::OnlineBackup] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let db = make(&path, "PRAGMA journal_mode=WAL", 0);
        db.execute_batch(
            "CREATE TABLE a(v); CREATE TABLE b(v); CREATE TABLE pad(d); INSERT INTO pad VALUES (randomblob(30000000))",
        )
        .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, begun) = (stop.clone(), Arc::new(AtomicBool::new(false)));
        let writes = begun.clone();
        let writer = std::thread::spawn(move || {
            db.busy_timeout(wait::PATIENCE).unwrap();
            let mut n = 0;
            while !stopped.load(Ordering::Relaxed) {
                let sql = format!(
                    "BEGIN; INSERT INTO a VALUES ({n}); UPDATE pad SET d = d WHERE 0; INSERT INTO b VALUES ({n}); COMMIT"
                );
                db.execute_batch(&sql).unwrap();
                n += 1;
                writes.store(true, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
            n
        });
        wait::until("the writer writes", || begun.load(Ordering::Relaxed));
        let options = SqliteOptions {
            method,
            ..options(&path)
        };
        let (vault, outcome) = try_backup(options, dir.path()).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        let written: i64 = writer.join().unwrap();
        let expected = if method == Method::Auto {
            "pages"
        } else {
            "online-backup"
        };
        assert_eq!(outcome.position["method"], expected);
        let target = dir.path().join("restored.db");
        put_back(&vault, &target, false).await.unwrap();
        let sums: i64 = one(
            &target,
            "SELECT (SELECT count(*)*1000000000 + total(v) FROM a) - (SELECT count(*)*1000000000 + total(v) FROM b) = 0",
        );
        assert_eq!(sums, 1);
        let found: i64 = one(&target, "SELECT count(*) FROM a");
        assert!(found > 0 && found <= written, "{found} of {written}");
        assert_eq!(one::<String>(&target, "PRAGMA integrity_check"), "ok");
        assert_eq!(one::<String>(&target, "PRAGMA journal_mode"), "wal");
        assert!(
            names(dir.path()).iter().all(|n| !n.starts_with("sqlite-")),
            "the spool copy is gone"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_size_encoding_and_vacuum_mode_comes_back() {
    let mut cases: Vec<String> = (9..=16).map(|bits| format!("PRAGMA page_size={}", 1 << bits)).collect();
    cases.extend(
        [
            "PRAGMA encoding='UTF-16le'",
            "PRAGMA encoding='UTF-16be'",
            "PRAGMA auto_vacuum=FULL",
            "PRAGMA auto_vacuum=INCREMENTAL",
            "PRAGMA user_version=7; PRAGMA application_id=99",
        ]
        .map(str::to_owned),
    );
    for (number, pragmas) in cases.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b?#%.db");
        let mode = if number % 3 == 2 { "DELETE" } else { "WAL" };
        let db = make(&path, &format!("{pragmas}; PRAGMA journal_mode={mode}"), 300);
        db.execute_batch("DELETE FROM t WHERE x % 7 = 0").unwrap();
        let (vault, outcome) = backup(&path).await;
        let target = dir.path().join("restored");
        let report = put_back(&vault, &target, false).await.unwrap();
        assert_eq!(report.bytes, outcome.raw_bytes);
        assert_eq!(rows(&target), rows(&path), "{pragmas}");
        for pragma in [
            "page_size",
            "encoding",
            "auto_vacuum",
            "user_version",
            "application_id",
            "journal_mode",
        ] {
            let sql = format!("PRAGMA {pragma}");
            let (was, is): (rusqlite::types::Value, rusqlite::types::Value) = (one(&path, &sql), one(&target, &sql));
            assert_eq!(was, is, "{pragmas}: {pragma}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_and_a_wal_that_holds_everything_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.db");
    fs::write(&empty, b"").unwrap();
    let (vault, _) = backup(&empty).await;
    let target = dir.path().join("empty restored.db");
    put_back(&vault, &target, false).await.unwrap();
    // The online backup makes a first page of nothing.
    assert_eq!(one::<i64>(&target, "SELECT count(*) FROM sqlite_schema"), 0);
    // Everything but the first page is in a WAL that nobody has checkpointed, of a process that was killed.
    let path = dir.path().join("wal.db");
    let db = make(&path, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0", 500);
    let copy = dir.path().join("killed.db");
    for suffix in ["", "-wal"] {
        let with = |p: &Path| PathBuf::from(format!("{}{suffix}", p.display()));
        fs::copy(with(&path), with(&copy)).unwrap();
    }
    drop(db);
    let (vault, _) = backup(&copy).await;
    let target = dir.path().join("wal restored.db");
    put_back(&vault, &target, false).await.unwrap();
    assert_eq!(rows(&target), 500);
}

/// Copies a database as a kill in the middle of a transaction leaves it.
fn with_hot_journal(dir: &Path) -> PathBuf {
    let (path, copy) = (dir.join("hot source.db"), dir.join("hot.db"));
    let db = make(&path, "PRAGMA journal_mode=DELETE; PRAGMA cache_size=5", 3000);
    db.execute_batch("BEGIN; UPDATE t SET y = 'torn'").unwrap();
    fs::copy(&path, &copy).unwrap();
    fs::copy(dir.join("hot source.db-journal"), dir.join("hot.db-journal")).unwrap();
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_database_or_is_locked_is_said_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.db");
    fs::write(&text, "this is no database, and it is longer than a header of one is").unwrap();
    let error = try_backup(options(&text), dir.path()).await.unwrap_err();
    assert!(error.chain().contains("not a SQLite database"), "{}", error.chain());
    assert!(error.hint().is_some());
    assert!(SqliteSource::new(options(&text)).check().await.is_err());
    let error = try_backup(options(&dir.path().join("none.db")), dir.path())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), wirevault::ErrorKind::NotFound);
    assert!(!dir.path().join("none.db").exists());
    let path = dir.path().join("locked.db");
    let db = make(&path, "PRAGMA journal_mode=DELETE", 10);
    db.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = try_backup(options(&path), dir.path()).await.unwrap_err();
    assert_eq!(error.kind(), wirevault::ErrorKind::TimedOut, "{}", error.chain());
    db.execute_batch("COMMIT").unwrap();
    let (_, outcome) = backup(&path).await;
    assert_eq!(outcome.position["method"], "online-backup");
    let findings = SqliteSource::new(options(&path)).check().await.unwrap();
    assert_eq!(findings.len(), 2, "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_database_is_kept_beside_and_comes_back_with_undo() {
    for mode in ["WAL", "DELETE", "PERSIST"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let db = make(&path, &format!("PRAGMA journal_mode={mode}"), 20);
        let (vault, _) = backup(&path).await;
        db.execute_batch("DELETE FROM t WHERE x > 5").unwrap();
        drop(db);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = put_back(&vault, &path, false).await.unwrap_err();
        assert_eq!(error.kind(), wirevault::ErrorKind::AlreadyExists);
        let report = put_back(&vault, &path, true).await.unwrap();
        let previous = report.previous.unwrap();
        assert_eq!((rows(&path), rows(&previous)), (20, 5), "{mode}");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
        assert_eq!(path.metadata().unwrap().nlink(), 1);
        assert_eq!(one::<String>(&path, "PRAGMA integrity_check"), "ok");
        let aside = undo(&path, &previous).await;
        assert_eq!((rows(&path), rows(&aside)), (5, 20), "{mode}");
        assert!(!previous.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wal_of_a_killed_application_stays_with_the_old_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("live.db");
    let db = make(&path, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0", 50);
    let (vault, _) = backup(&path).await;
    db.execute_batch("DELETE FROM t WHERE x > 7").unwrap();
    let live = dir.path().join("app.db");
    for suffix in ["", "-wal", "-shm"] {
        let with = |p: &Path| PathBuf::from(format!("{}{suffix}", p.display()));
        fs::copy(with(&path), with(&live)).unwrap();
    }
    drop(db);
    let report = put_back(&vault, &live, true).await.unwrap();
    assert!(!dir.path().join("app.db-wal").exists(), "{:?}", names(dir.path()));
    assert_eq!((rows(&live), rows(&report.previous.unwrap())), (50, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_use_is_not_replaced() {
    for mode in ["WAL", "DELETE"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let db = make(&path, &format!("PRAGMA journal_mode={mode}"), 20);
        let (vault, _) = backup(&path).await;
        // In WAL mode an idle connection is enough; in the others one must be reading or writing.
        if mode == "DELETE" {
            db.execute_batch("BEGIN; SELECT count(*) FROM t; INSERT INTO t(y) VALUES (0)")
                .unwrap();
        }
        let inode = path.metadata().unwrap().ino();
        let error = put_back(&vault, &path, true).await.unwrap_err();
        assert!(error.chain().contains("has the old database open"), "{}", error.chain());
        assert_eq!(path.metadata().unwrap().ino(), inode);
        let mut left = names(dir.path());
        left.retain(|n| !n.starts_with("app.db-") && n != "app.spool");
        assert_eq!(left, ["app.db"], "{mode}");
        // Another process, which POSIX locks know apart.
        drop(db);
        let mut other = Command::new("sqlite3")
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = other.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"BEGIN IMMEDIATE; SELECT count(*) FROM t;\n").unwrap();
        let mut said = [0; 2];
        std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(&said, b"20");
        let error = put_back(&vault, &path, true).await.unwrap_err();
        assert!(error.chain().contains("has the old database open"), "{}", error.chain());
        std::io::Write::write_all(&mut input, b"DELETE FROM t WHERE x > 3; COMMIT;\n").unwrap();
        drop(input);
        assert!(other.wait().unwrap().success());
        assert_eq!(rows(&path), 3, "{mode}");
        put_back(&vault, &path, true).await.unwrap();
        assert_eq!(rows(&path), 20, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_leaves_the_live_file_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    drop(make(&path, "PRAGMA journal_mode=DELETE", 5000));
    let (vault, _) = backup(&path).await;
    let bytes = fs::read(&path).unwrap();
    vault.damage().await;
    let error = put_back(&vault, &path, true).await.unwrap_err();
    assert_eq!(error.kind(), wirevault::ErrorKind::Corrupt, "{}", error.chain());
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(names(dir.path()), ["app.db", "app.spool"]);
    // Pages that were damaged before the backup: they come back as they were, and that is said.
    let page = fs::File::options().write(true).open(&path).unwrap();
    page.write_all_at(&[0xff; 3000], 3 * 4096).unwrap();
    let (vault, _) = backup(&path).await;
    let live = dir.path().join("live.db");
    drop(make(&live, "", 3));
    let report = put_back(&vault, &live, true).await.unwrap();
    assert!(!report.integrity.damaged.is_empty());
    assert_eq!(fs::read(&live).unwrap()[100..], fs::read(&path).unwrap()[100..]);
    assert_eq!(rows(&report.previous.unwrap()), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_restore_left_does_not_stand_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    drop(make(&path, "PRAGMA journal_mode=DELETE", 50));
    let (vault, _) = backup(&path).await;
    let target = dir.path().join("target.db");
    let hot = with_hot_journal(dir.path());
    fs::copy(&hot, dir.path().join("target.db.restore.tmp")).unwrap();
    fs::copy(
        dir.path().join("hot.db-journal"),
        dir.path().join("target.db.restore.tmp-journal"),
    )
    .unwrap();
    put_back(&vault, &target, false).await.unwrap();
    assert_eq!(rows(&target), 50);
    // A kill between the old one's second name and the rename: the old one stands under both, and is replaced again.
    fs::hard_link(&target, dir.path().join("target.db.pre-restore-x")).unwrap();
    put_back(&vault, &target, true).await.unwrap();
    assert_eq!(rows(&target), 50);
    assert!(names(dir.path()).iter().all(|n| !n.contains(".restore.tmp")));
    // One that still runs is not disturbed.
    let running = fs::File::create(dir.path().join("target.db.restore.tmp")).unwrap();
    rustix::fs::flock(&running, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = put_back(&vault, &target, true).await.unwrap_err();
    assert!(error.chain().contains("another restore"), "{}", error.chain());
    assert!(dir.path().join("target.db.restore.tmp").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_file_that_is_no_database_can_be_replaced_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    drop(make(&path, "PRAGMA journal_mode=WAL", 50));
    let (vault, _) = backup(&path).await;
    fs::create_dir(dir.path().join("real")).unwrap();
    let real = dir.path().join("real/app.db");
    fs::write(&real, vec![b'x'; 10_000]).unwrap();
    fs::write(dir.path().join("real/app.db-wal"), "stale").unwrap();
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let report = put_back(&vault, &link, true).await.unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(rows(&real), 50);
    assert_eq!(fs::read(report.previous.unwrap()).unwrap(), vec![b'x'; 10_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_written_is_no_obstacle() {
    if as_nobody("sqlite::a_directory_that_cannot_be_written_is_no_obstacle") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).unwrap();
    drop(make(&inner.join("rollback.db"), "PRAGMA journal_mode=DELETE", 30));
    drop(make(&inner.join("wal.db"), "PRAGMA journal_mode=WAL", 30));
    let db = make(
        &dir.path().join("x.db"),
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0",
        30,
    );
    fs::copy(dir.path().join("x.db"), inner.join("busy.db")).unwrap();
    fs::copy(dir.path().join("x.db-wal"), inner.join("busy.db-wal")).unwrap();
    drop(db);
    with_hot_journal(&inner);
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
    for name in ["rollback.db", "wal.db"] {
        let (vault, _) = try_backup(options(&inner.join(name)), dir.path()).await.unwrap();
        let target = dir.path().join(name);
        put_back(&vault, &target, false).await.unwrap();
        assert_eq!(rows(&target), 30);
    }
    // A WAL and a hot journal are taken into a private copy.
    for (name, count) in [("busy.db", 30), ("hot.db", 3000)] {
        let (vault, outcome) = try_backup(options(&inner.join(name)), dir.path()).await.unwrap();
        assert_eq!(outcome.position["method"], "private-copy");
        let target = dir.path().join(name);
        put_back(&vault, &target, false).await.unwrap();
        assert_eq!(rows(&target), count);
    }
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
}

/// SQLite keeps the page at 1 GiB for its locks and stores nothing there. Reads and writes 1.2 GiB, so only by name.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "reads and writes 1.2 GiB"]
async fn a_database_beyond_the_lock_byte_page_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let db = make(&path, "PRAGMA page_size=65536; PRAGMA journal_mode=WAL", 10);
    db.execute_batch("INSERT INTO t(y) VALUES (zeroblob(600000000)); INSERT INTO t(y) VALUES (zeroblob(600000000))")
        .unwrap();
    let (vault, outcome) = backup(&path).await;
    assert!(outcome.raw_bytes > 1 << 30);
    let target = dir.path().join("restored.db");
    put_back(&vault, &target, false).await.unwrap();
    assert_eq!(rows(&target), 12);
}
