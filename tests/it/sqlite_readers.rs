//! SQLite databases that the backup may only read, and whose application comes while it is read.
//!
//! The application is the stock `sqlite3` program, since connections of one process share their locks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;
use wirevault::base::report::{Note, Reporter};
use wirevault::engines::sqlite::restore::{self, SqliteRestoreOptions};
use wirevault::engines::sqlite::{SqliteOptions, SqliteSource};
use wirevault::engines::{BackupContext, Source, SourceOutcome};

use crate::support::archives::{Vault, as_nobody};

/// Calls `act` with the number of each progress report, about every 4 MiB, from the thread that reads.
struct AtProgress<F> {
    calls: AtomicUsize,
    act: F,
}

impl<F> std::fmt::Debug for AtProgress<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AtProgress")
    }
}

impl<F: Fn(usize) + Send + Sync> Reporter for AtProgress<F> {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn phase(&self, _: &str, _: &str) {}
    fn advance(&self, _: &str, bytes: u64, _: u64) {
        if bytes > 0 {
            (self.act)(self.calls.fetch_add(1, Ordering::SeqCst));
        }
    }
    fn note(&self, _: &str, _: Note) {}
    fn end(&self, _: &str, _: bool) {}
}

fn options(path: &Path) -> SqliteOptions {
    SqliteOptions {
        busy_timeout: Duration::from_secs(10),
        ..SqliteOptions::new(path)
    }
}

async fn backup(path: &Path, spool: &Path) -> wirevault::Result<(Vault, SourceOutcome)> {
    let mut vault = Vault::new();
    let outcome = vault.backup(&SqliteSource::new(options(path)), spool).await?;
    Ok((vault, outcome))
}

/// Backs up while `act` is called at each progress report.
async fn backup_with(
    path: &Path,
    spool: &Path,
    act: impl Fn(usize) + Send + Sync + 'static,
) -> wirevault::Result<Vault> {
    let mut vault = Vault::new();
    let context = BackupContext {
        name: "s".to_owned(),
        writer: vault.writer().await,
        pipeline: vault.pipeline.clone(),
        reporter: Arc::new(AtProgress {
            calls: AtomicUsize::new(0),
            act,
        }),
        cancel: CancellationToken::new(),
        parallel: 2,
        spool_dir: spool.to_path_buf(),
    };
    vault.archives = SqliteSource::new(options(path)).backup(context).await?.archives;
    Ok(vault)
}

async fn restored(vault: &Vault, to: &Path) -> Connection {
    let how = SqliteRestoreOptions {
        full_check: true,
        ..SqliteRestoreOptions::default()
    };
    let report = restore::restore(
        vault.reader().await,
        to,
        &how,
        vault.reporter(),
        CancellationToken::new(),
    )
    .await
    .unwrap();
    assert_eq!(report.integrity, wirevault::engines::sqlite::Integrity::default());
    Connection::open(to).unwrap()
}

fn one<T: rusqlite::types::FromSql>(db: &Connection, sql: &str) -> T {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    found
}

/// Runs statements in another process and returns what it printed.
fn sqlite3(path: &Path, sql: &str) -> String {
    let said = Command::new("sqlite3").arg(path).arg(sql).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    assert!(
        said.status.success(),
        "{sql}: {text}{}",
        String::from_utf8_lossy(&said.stderr)
    );
    text
}

/// Makes a resting WAL database of some 20 MB whose rows sum up to nothing in every committed state.
fn make_resting(path: &Path) {
    sqlite3(
        path,
        "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, g INT, pad BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 6000)
         INSERT INTO t(g, pad) SELECT 0, randomblob(3300) FROM n",
    );
}

const SUM: &str = "SELECT sum(g) FROM t";
const FIRST: &str = "SELECT g FROM t WHERE id = 1";
/// The first row lies in the pages that are read first, the last one in the last.
const MOVE: &str = "BEGIN; UPDATE t SET g = g - 1 WHERE id = 1; UPDATE t SET g = g + 1 WHERE id = 6000; COMMIT;";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Returns a directory in which nothing can be made but by `application`, with a resting database in it.
fn unwritable(dir: &Path) -> (PathBuf, PathBuf) {
    let inner = dir.join("app");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("app.db");
    make_resting(&path);
    assert_eq!(names(&inner), ["app.db"]);
    set_mode(&inner, 0o555);
    (inner, path)
}

fn application(inner: &Path, sql: &str) -> String {
    set_mode(inner, 0o755);
    let said = sqlite3(&inner.join("app.db"), sql);
    set_mode(inner, 0o555);
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_comes_while_a_guest_reads_does_not_tear_the_backup() {
    if as_nobody("sqlite_readers::an_application_that_comes_while_a_guest_reads_does_not_tear_the_backup") {
        return;
    }
    // It writes a little and goes; then it writes more, and would copy all of it into the database if it were let.
    let checkpoint = format!("{MOVE} UPDATE t SET pad = randomblob(3300); PRAGMA wal_checkpoint;");
    for (acts, state) in [(vec![MOVE.to_owned()], -1), (vec![MOVE.to_owned(), checkpoint], -2)] {
        let dir = tempfile::tempdir().unwrap();
        let (inner, path) = unwritable(dir.path());
        let (place, count) = (inner.clone(), acts.len());
        let came = Arc::new(AtomicUsize::new(0));
        let seen = came.clone();
        let vault = backup_with(&path, &dir.path().join("spool"), move |call| {
            if let Some(sql) = acts.get(call) {
                application(&place, sql);
                seen.fetch_add(1, Ordering::SeqCst);
            }
        })
        .await
        .unwrap();
        assert_eq!(came.load(Ordering::SeqCst), count);
        let db = restored(&vault, &dir.path().join("restored.db")).await;
        assert_eq!((one::<i64>(&db, SUM), one::<i64>(&db, FIRST)), (0, 0));
        assert_eq!(one::<String>(&db, "PRAGMA journal_mode"), "wal");
        // What the application wrote is there, and the next one to come finds it.
        assert_eq!(application(&inner, FIRST), state.to_string());
        assert_eq!(application(&inner, SUM), "0");
        assert_eq!(application(&inner, "PRAGMA integrity_check"), "ok");
        assert_eq!(names(&inner), ["app.db"], "and nothing of ours is left");
        set_mode(&inner, 0o755);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_under_a_guest_ends_the_backup_and_stores_nothing() {
    if as_nobody("sqlite_readers::a_checkpoint_under_a_guest_ends_the_backup_and_stores_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (inner, path) = unwritable(dir.path());
    let place = inner.clone();
    let sql = format!("{MOVE} PRAGMA wal_checkpoint(TRUNCATE);");
    let error = backup_with(&path, &dir.path().join("spool"), move |call| {
        if call == 0 {
            application(&place, &sql);
        }
    })
    .await
    .unwrap_err();
    assert!(
        error.chain().contains("was written while it was read"),
        "{}",
        error.chain()
    );
    assert!(error.hint().is_some());
    // The next one finds it at rest again.
    let (vault, outcome) = backup(&path, &dir.path().join("spool")).await.unwrap();
    assert_eq!(
        (
            outcome.position["journal_mode"].as_str(),
            outcome.position["method"].as_str()
        ),
        ("wal", "pages")
    );
    let db = restored(&vault, &dir.path().join("restored.db")).await;
    assert_eq!((one::<i64>(&db, SUM), one::<i64>(&db, FIRST)), (0, -1));
    set_mode(&inner, 0o755);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reads_beside_an_application_that_has_the_database_open() {
    if as_nobody("sqlite_readers::a_guest_reads_beside_an_application_that_has_the_database_open") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (inner, path) = unwritable(dir.path());
    set_mode(&inner, 0o755);
    let mut running = Command::new("sqlite3")
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = running.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, format!("{MOVE} {FIRST};\n").as_bytes()).unwrap();
    let mut said = [0; 2];
    std::io::Read::read_exact(running.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert_eq!(&said, b"-1");
    set_mode(&inner, 0o555);
    let place = inner.clone();
    let vault = backup_with(&path, &dir.path().join("spool"), move |call| {
        if call == 0 {
            application(&place, &format!("{MOVE} PRAGMA wal_checkpoint;"));
        }
    })
    .await
    .unwrap();
    let db = restored(&vault, &dir.path().join("restored.db")).await;
    assert_eq!((one::<i64>(&db, SUM), one::<i64>(&db, FIRST)), (0, -1));
    drop(input);
    assert!(running.wait().unwrap().success());
    set_mode(&inner, 0o755);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_beside_a_database_that_was_read() {
    if as_nobody("sqlite_readers::nothing_stays_beside_a_database_that_was_read") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("app");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("app.db");
    make_resting(&path);
    let spool = dir.path().join("spool");
    // Its owner, who makes the companions and takes them away.
    SqliteSource::new(options(&path)).check().await.unwrap();
    assert_eq!(names(&inner), ["app.db"]);
    backup(&path, &spool).await.unwrap();
    assert_eq!(names(&inner), ["app.db"]);
    // One that came meanwhile and went is no reason for them to stay.
    let app = path.clone();
    let vault = backup_with(&path, &spool, move |call| {
        if call == 0 {
            sqlite3(&app, MOVE);
        }
    })
    .await
    .unwrap();
    assert_eq!(names(&inner), ["app.db"]);
    assert_eq!(sqlite3(&path, FIRST), "-1");
    let db = restored(&vault, &dir.path().join("restored.db")).await;
    assert_eq!((one::<i64>(&db, SUM), one::<i64>(&db, FIRST)), (0, 0));
    // One that has it open keeps them.
    let mut running = Command::new("sqlite3")
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = running.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, format!("{MOVE} {FIRST};\n").as_bytes()).unwrap();
    let mut said = [0; 2];
    std::io::Read::read_exact(running.stdout.as_mut().unwrap(), &mut said).unwrap();
    backup(&path, &spool).await.unwrap();
    assert_eq!(names(&inner), ["app.db", "app.db-shm", "app.db-wal"]);
    drop(input);
    assert!(running.wait().unwrap().success());
    assert_eq!(names(&inner), ["app.db"]);
    // Somebody who may write the directory but not the database makes none: they would be his, and in the owner's way.
    set_mode(&path, 0o444);
    let (_, outcome) = backup(&path, &spool).await.unwrap();
    assert_eq!(outcome.position["method"], "pages");
    assert_eq!(names(&inner), ["app.db"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wal_without_a_place_for_its_index_is_taken_into_a_private_copy() {
    if as_nobody("sqlite_readers::a_wal_without_a_place_for_its_index_is_taken_into_a_private_copy") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("app");
    fs::create_dir(&inner).unwrap();
    let live = dir.path().join("live.db");
    let db = Connection::open(&live).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x)")
        .unwrap();
    db.execute_batch("INSERT INTO t VALUES (1), (2), (3)").unwrap();
    let path = inner.join("app.db");
    fs::copy(&live, &path).unwrap();
    fs::copy(dir.path().join("live.db-wal"), inner.join("app.db-wal")).unwrap();
    drop(db);
    let before = fs::read(inner.join("app.db-wal")).unwrap();
    set_mode(&inner, 0o555);
    let spool = dir.path().join("spool");
    let (vault, outcome) = backup(&path, &spool).await.unwrap();
    assert_eq!(outcome.position["method"], "private-copy");
    assert_eq!(outcome.position["journal_mode"], "wal");
    assert_eq!(
        outcome.note_counts.get("recovered"),
        Some(&1),
        "{:?}",
        outcome.note_counts
    );
    assert_eq!(fs::read(inner.join("app.db-wal")).unwrap(), before);
    assert_eq!((names(&inner).len(), names(&spool).len()), (2, 0));
    let db = restored(&vault, &dir.path().join("restored.db")).await;
    assert_eq!(one::<i64>(&db, "SELECT sum(x) FROM t"), 6);
    set_mode(&inner, 0o755);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_writer_died_is_rolled_back_in_a_private_copy() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("app");
    fs::create_dir(&inner).unwrap();
    let live = dir.path().join("live.db");
    let db = Connection::open(&live).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=DELETE; PRAGMA cache_size=5; CREATE TABLE t(x INTEGER PRIMARY KEY, y);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 3000) INSERT INTO t SELECT i, 'whole' FROM n;
         BEGIN; UPDATE t SET y = 'torn'",
    )
    .unwrap();
    let path = inner.join("app.db");
    fs::copy(&live, &path).unwrap();
    fs::copy(dir.path().join("live.db-journal"), inner.join("app.db-journal")).unwrap();
    drop(db);
    let files = || {
        (
            fs::read(&path).unwrap(),
            fs::read(inner.join("app.db-journal")).unwrap(),
        )
    };
    let before = files();
    let findings = SqliteSource::new(options(&path)).check().await.unwrap();
    assert!(findings[0].message.contains("crashed in a transaction"), "{findings:?}");
    let spool = dir.path().join("spool");
    let (vault, outcome) = backup(&path, &spool).await.unwrap();
    assert_eq!(
        outcome.note_counts.get("rolled-back"),
        Some(&1),
        "{:?}",
        outcome.note_counts
    );
    assert!(files() == before, "the database is as it was");
    assert_eq!((names(&inner).len(), names(&spool).len()), (2, 0));
    let db = restored(&vault, &dir.path().join("restored.db")).await;
    assert_eq!(one::<i64>(&db, "SELECT count(*) FROM t WHERE y = 'whole'"), 3000);
}
