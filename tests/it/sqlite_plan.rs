//! `restore --dry-run` of SQLite databases: it refuses what the restore would refuse, and changes nothing.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;
use serde_json::Value;

use crate::support::program::{Program, assert_one_error};

const CLEAN: [&str; 4] = ["restore", "latest", "--clean", "--dry-run"];

fn stored(mode: &str) -> Program {
    let program = Program::on_directory();
    let path = program.path("data/a.db");
    fs::create_dir(program.path("data")).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch(&format!(
            "PRAGMA journal_mode={mode}; CREATE TABLE t(x); INSERT INTO t VALUES (1)"
        ))
        .unwrap();
    program.expect(0, &["backup", &format!("sqlite:{}", path.display())]);
    program
}

/// Runs the program with the rights of this process, which it needs to see the files of processes that have them.
fn with_all_rights(program: &Program, arguments: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("wirevault"));
    command.args(arguments);
    program.equip(&mut command);
    command.output().unwrap()
}

fn names(program: &Program) -> Vec<String> {
    let entries = fs::read_dir(program.path("data")).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn it_says_what_is_there_and_leaves_it() {
    let program = stored("WAL");
    let bytes = fs::read(program.path("data/a.db")).unwrap();
    let said = with_all_rights(&program, &["restore", "latest", "--clean", "--dry-run", "--json"]);
    assert!(said.status.success());
    let document: Value = serde_json::from_slice(&said.stdout).unwrap();
    let plan = &document["would_restore"][0]["sqlite"];
    assert_eq!(plan["replaces"], true, "{document}");
    assert_eq!(plan["bytes"], bytes.len());
    assert!(plan["free_bytes"].as_u64().unwrap() > 0);
    let text = program.expect(0, &["restore", "latest", "--into", "new/place/a.db", "--dry-run"]);
    assert!(text.contains("creates a new file"), "{text}");
    assert!(!program.path("new").exists());
    assert!(fs::read(program.path("data/a.db")).unwrap() == bytes);
    assert_eq!(names(&program), ["a.db"]);
}

#[test]
fn it_refuses_a_database_that_is_open_and_a_place_that_cannot_be_written() {
    for mode in ["WAL", "DELETE"] {
        let program = stored(mode);
        let mut command = Command::new("sqlite3");
        command
            .arg(program.path("data/a.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut running = command.spawn().unwrap();
        let mut input = running.stdin.take().unwrap();
        input.write_all(b"SELECT count(*) FROM t;\n").unwrap();
        let mut said = [0; 1];
        running.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        let refused = with_all_rights(&program, &CLEAN);
        assert_eq!(refused.status.code(), Some(1), "{mode}");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_one_error(&said, "has the old database open", "Stop the application");
        // In WAL mode the lock tells it also where the process cannot be looked into.
        if mode == "WAL" {
            program.refused(&CLEAN, "has the old database open", "Stop the application");
        }
        drop(input);
        assert!(running.wait().unwrap().success());
        program.expect(0, &CLEAN);
        fs::set_permissions(program.path("data"), fs::Permissions::from_mode(0o555)).unwrap();
        let refused = program.run(&CLEAN);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            refused.status.code() == Some(1) && said.contains("write into"),
            "{mode}: {said}"
        );
        fs::set_permissions(program.path("data"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}
