//! SQLite databases that SQLite itself finds wanting, or cannot judge without their application: a backup says so, and a
//! restore brings the bytes back.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;
use serde_json::Value;

use crate::support::program::{Program, assert_one_error};

/// Makes a database and changes what its schema says afterwards, as an application's own extension would have written it.
fn make(path: &Path, sql: &str, from: &str, to: &str) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(sql).unwrap();
    db.execute_batch("PRAGMA writable_schema=ON").unwrap();
    let changed = db
        .execute(
            "UPDATE sqlite_schema SET sql = replace(sql, ?1, ?2) WHERE instr(sql, ?1)",
            [from, to],
        )
        .unwrap();
    assert!(changed > 0);
}

fn notes(program: &Program) -> Value {
    program.json(&["show", "latest"])["snapshot"]["sources"][0]["outcome"]["note_counts"].clone()
}

/// Returns the bytes of a database but for what the online backup API counts in its header: changes and versions.
fn image(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    for range in [24..28, 40..44, 92..100] {
        bytes[range].fill(0);
    }
    bytes
}

/// Backs up, verifies at every level, restores, and returns what was said at each step; the bytes must come back.
fn there_and_back(program: &Program, code: i32) -> (String, String, String) {
    let source = format!("sqlite:{}", program.path("a.db").display());
    let backup = program.expect(code, &["backup", &source]);
    program.expect(0, &["verify", "latest", "--level", "content"]);
    let drill = program.expect(code, &["verify", "latest", "--level", "restored"]);
    assert!(!drill.contains("DAMAGED"), "the backup is whole: {drill}");
    let restore = program.expect(code, &["restore", "latest", "--into", "back.db"]);
    assert!(
        image(&program.path("a.db")) == image(&program.path("back.db")),
        "the bytes are those that were there"
    );
    (backup, drill, restore)
}

#[test]
fn what_only_the_application_can_check_is_named_and_comes_back() {
    let cases = [
        (
            "CREATE TABLE t(a TEXT); CREATE INDEX i ON t(a COLLATE NOCASE); INSERT INTO t VALUES ('a'), ('B')",
            "NOCASE",
            "icu_root",
            "icu_root",
        ),
        (
            "CREATE TABLE t(a TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID; INSERT INTO t VALUES ('a'), ('B'), ('c')",
            "NOCASE",
            "icu_root",
            "icu_root",
        ),
        (
            "CREATE VIRTUAL TABLE t USING fts5(a, tokenize='porter'); INSERT INTO t VALUES ('hello world')",
            "porter",
            "ours",
            "virtual table \"t\"",
        ),
        (
            "CREATE TABLE t(a); CREATE INDEX i ON t(abs(a)); INSERT INTO t VALUES (1), (-2)",
            "abs",
            "own_fn",
            "own_fn",
        ),
        (
            "CREATE TABLE t(a, b AS (abs(a))); CREATE INDEX i ON t(b); INSERT INTO t VALUES (1), (-2)",
            "abs",
            "own_fn",
            "own_fn",
        ),
    ];
    for (sql, from, to, named) in cases {
        let program = Program::on_directory();
        make(&program.path("a.db"), sql, from, to);
        let (_, drill, restore) = there_and_back(&program, 0);
        assert!(
            drill.contains("not checked") && drill.contains(named),
            "{named}: {drill}"
        );
        // An expression is only computed by the full check, which a drill makes and a restore does not.
        if to != "own_fn" {
            assert!(restore.contains(named), "{named}: {restore}");
            assert_eq!(notes(&program)["not-checked"], 1, "{named}");
        }
        assert!(notes(&program)["damaged"].is_null(), "{named}");
    }
}

#[test]
fn rows_that_break_a_rule_of_their_table_are_named_and_come_back() {
    let program = Program::on_directory();
    make(
        &program.path("a.db"),
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT); INSERT INTO t VALUES (1, NULL)",
        "a TEXT",
        "a TEXT NOT NULL",
    );
    let (_, drill, restore) = there_and_back(&program, 0);
    assert_eq!(notes(&program)["rule-broken"], 1);
    assert!(drill.contains("NULL value in t.a"), "{drill}");
    assert!(restore.contains("NULL value in t.a"), "{restore}");
}

fn make_large(path: &Path, mode: &str) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!(
        "PRAGMA journal_mode={mode}; CREATE TABLE t(a, b); CREATE TABLE keep(x); INSERT INTO keep VALUES ('mine');
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 3000)
         INSERT INTO t SELECT i, hex(randomblob(20)) FROM n"
    ))
    .unwrap();
}

#[test]
fn damage_at_the_source_is_said_and_comes_back_as_it_is() {
    // A page of rows, the page of the schema, a pointer to nowhere.
    for (at, with) in [
        (20 * 4096, vec![0xff; 200]),
        (100, vec![0xff; 300]),
        (3 * 4096 + 8, vec![0xff; 4]),
    ] {
        let program = Program::on_directory();
        let path = program.path("a.db");
        make_large(&path, "DELETE");
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&with, at).unwrap();
        let (backup, drill, restore) = there_and_back(&program, 2);
        assert!(backup.contains("1 database was damaged"), "{at}: {backup}");
        assert!(drill.contains("damaged before it was stored"), "{at}: {drill}");
        assert!(restore.contains("it was damaged when it was stored"), "{at}: {restore}");
        assert_eq!(notes(&program)["damaged"], 1);
    }
}

/// A recovery that brings damage back has not brought back everything.
#[test]
fn a_recovery_does_not_end_well_over_damage() {
    let program = Program::on_directory();
    let path = program.path("a.db");
    make_large(&path, "DELETE");
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 200], 20 * 4096).unwrap();
    program.expect(2, &["backup", &format!("sqlite:{}", path.display())]);
    let damaged = image(&path);
    fs::remove_file(&path).unwrap();
    let said = program.expect(2, &["recover", "latest", "--containers", "manual"]);
    assert!(
        said.contains("failed: a: the database was damaged when it was stored"),
        "{said}"
    );
    assert!(image(&path) == damaged);
}

#[test]
fn damage_is_said_of_a_wal_database_and_of_one_that_was_cut_off() {
    for cut in [false, true] {
        let program = Program::on_directory();
        let path = program.path("a.db");
        make_large(&path, "WAL");
        let file = fs::File::options().write(true).open(&path).unwrap();
        if cut {
            file.set_len(20 * 4096).unwrap();
        } else {
            file.write_all_at(&[0xff; 200], 20 * 4096).unwrap();
        }
        let source = format!("sqlite:{}", path.display());
        program.expect(2, &["backup", &source]);
        assert_eq!(notes(&program)["damaged"], 1);
        let restore = program.expect(2, &["restore", "latest", "--into", "back.db", "--json"]);
        let document: Value = serde_json::from_str(&restore).unwrap();
        assert!(
            !document["restored"][0]["integrity"]["damaged"]
                .as_array()
                .unwrap()
                .is_empty()
        );
        assert!(image(&path) == image(&program.path("back.db")));
        if !cut {
            let db = Connection::open(program.path("back.db")).unwrap();
            let kept: String = db.query_row("SELECT x FROM keep", [], |row| row.get(0)).unwrap();
            assert_eq!(kept, "mine");
        }
    }
}

/// Runs the program with the rights of this process, which it needs to see the files of processes that have them.
fn with_all_rights(program: &Program, arguments: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("wirevault"));
    command.args(arguments);
    program.equip(&mut command);
    command.output().unwrap()
}

#[test]
fn an_idle_application_under_a_restore_is_noticed_in_every_journal_mode() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "WAL"] {
        let program = Program::on_directory();
        let path = program.path("a.db");
        make_large(&path, mode);
        let source = format!("sqlite:{}", path.display());
        program.expect(0, &["backup", &source]);
        Connection::open(&path)
            .unwrap()
            .execute_batch("DELETE FROM keep")
            .unwrap();
        // It has read, and rests now.
        let mut command = Command::new("sqlite3");
        command.arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = command.spawn().unwrap();
        let mut input = running.stdin.take().unwrap();
        input.write_all(b"SELECT count(*) FROM keep;\n").unwrap();
        let mut said = [0; 1];
        running.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"0");
        let before = fs::read(&path).unwrap();
        let refused = with_all_rights(&program, &["restore", "latest", "--clean"]);
        assert_eq!(refused.status.code(), Some(1), "{mode}");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_one_error(&said, "has the old database open", "Stop the application");
        assert!(fs::read(&path).unwrap() == before, "{mode}");
        drop(input);
        assert!(running.wait().unwrap().success());
        let restored = with_all_rights(&program, &["restore", "latest", "--clean"]);
        assert!(restored.status.success(), "{mode}");
        let db = Connection::open(&path).unwrap();
        let kept: String = db.query_row("SELECT x FROM keep", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "mine", "{mode}");
    }
}
