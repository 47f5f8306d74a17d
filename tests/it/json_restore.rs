//! The documents of `restore --json` and `recover --json` are an interface: their keys are pinned (docs/json.md).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use serde_json::{Value, json};

use crate::support::postgres::Cluster;
use crate::support::program::Program;
use crate::support::redis::{Kind, RedisServer};
use crate::support::shape::shape_lines;

/// Pins what a command prints with `--json`.
fn pin(name: &str, program: &Program, arguments: &[&str]) {
    let arguments = [arguments, &["--json"]].concat();
    let printed = program.expect(0, &arguments);
    insta::assert_snapshot!(name, shape_lines(printed.as_bytes()));
}

/// Makes a tree and a SQLite database.
fn make_files(program: &Program) {
    fs::create_dir_all(program.path("tree/sub")).unwrap();
    fs::write(program.path("tree/a.txt"), "stored\n").unwrap();
    rusqlite::Connection::open(program.path("app.db"))
        .unwrap()
        .execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t VALUES (1, 'stored')")
        .unwrap();
}

#[test]
fn of_files_and_sqlite() {
    let program = Program::on_directory();
    make_files(&program);
    program.expect(0, &["backup", "files:tree", "sqlite:app.db"]);
    fs::write(program.path("tree/a.txt"), "changed\n").unwrap();
    pin(
        "files_dry_run",
        &program,
        &["restore", "latest", "--clean", "--dry-run"],
    );
    pin("files", &program, &["restore", "latest", "--clean"]);
    pin("files_undo", &program, &["restore", "latest", "--undo"]);
    assert_eq!(fs::read_to_string(program.path("tree/a.txt")).unwrap(), "changed\n");
}

#[test]
fn of_postgres() {
    let cluster = Cluster::shared();
    let (name, copy) = (cluster.fresh_name(), cluster.fresh_name());
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(
        &name,
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'stored')",
    );
    let mut program = Program::on_directory();
    program.set("PGPASSWORD", "secret");
    let url = |database: &str| format!("postgres://admin@127.0.0.1:{}/{database}?sslmode=disable", cluster.port);
    program.expect(0, &["backup", &url(&name)]);
    let into = url(&copy);
    let restore = ["restore", "latest", "--into", &into];
    pin("postgres_dry_run", &program, &[&restore[..], &["--dry-run"]].concat());
    pin("postgres", &program, &restore);
    pin("postgres_clean", &program, &[&restore[..], &["--clean"]].concat());
    pin("postgres_undo", &program, &[&restore[..], &["--undo"]].concat());
}

#[test]
fn of_redis() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    server.client().say("SET stored 1");
    let program = Program::on_directory();
    program.expect(0, &["backup", &server.url()]);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let into = target.url();
    let restore = ["restore", "latest:adhoc", "--into", &into];
    pin("redis_dry_run", &program, &[&restore[..], &["--dry-run"]].concat());
    pin("redis", &program, &restore);
    pin("redis_clean", &program, &[&restore[..], &["--clean"]].concat());
    pin(
        "redis_file",
        &program,
        &["restore", "latest:adhoc", "--into", "file:dump.rdb"],
    );
}

#[test]
fn of_a_recovery() {
    let cluster = Cluster::shared();
    let name = cluster.fresh_name();
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(
        &name,
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'stored')",
    );
    let server = RedisServer::start(Kind::Redis7, &[]);
    server.client().say("SET stored 1");
    let mut program = Program::on_directory();
    program.set("PGPASSWORD", "secret");
    make_files(&program);
    let url = format!("postgres://admin@127.0.0.1:{}/{name}?sslmode=disable", cluster.port);
    program.expect(0, &["backup", "files:tree", "sqlite:app.db", &url, &server.url()]);
    fs::remove_dir_all(program.path("tree")).unwrap();
    pin("recover_dry_run", &program, &["recover", "latest:adhoc", "--dry-run"]);
    pin("recover", &program, &["recover", "latest:adhoc", "--clean"]);
    assert_eq!(fs::read_to_string(program.path("tree/a.txt")).unwrap(), "stored\n");
}

/// A name need not be UTF-8; the document once ended with a panic, after the database had been replaced.
#[test]
fn a_place_that_is_not_utf8_is_shown() {
    let program = Program::on_directory();
    make_files(&program);
    program.expect(0, &["backup", "sqlite:app.db"]);
    let odd = program.place.path().join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&odd).unwrap();
    fs::copy(program.path("app.db"), odd.join("app.db")).unwrap();
    let mut command = program.command(&["restore", "latest", "--into", "app.db", "--clean", "--json"]);
    let output = command.current_dir(&odd).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let one = &document["restored"][0];
    assert!(
        one["into"].as_str().unwrap().ends_with("caf\u{fffd}/app.db"),
        "{document}"
    );
    assert!(
        one["previous"]
            .as_str()
            .unwrap()
            .contains("caf\u{fffd}/app.db.pre-restore-"),
        "{document}"
    );
}

/// What an earlier release had finished is not done again, and what it had proved is told.
#[test]
fn a_recovery_goes_on_with_the_state_that_an_earlier_release_wrote() {
    let program = Program::on_directory();
    make_files(&program);
    program.expect(0, &["backup", "files:tree", "sqlite:app.db"]);
    fs::remove_dir_all(program.path("tree")).unwrap();
    fs::remove_file(program.path("app.db")).unwrap();
    let id = program.listed().remove(0);
    let into = |name: &str| program.path(name).display().to_string();
    let began = "2026-01-01T00:00:00Z";
    let state = json!({ "snapshot": id, "steps": {
        "restore files tree": { "begun": began, "done": began, "proof": {
            "source": "tree", "into": into("tree"), "written": 7, "replaced": 0, "unchanged": 3, "deleted": 0, "bytes": 9,
            "previous": null, "lost": 1, "errors": ["tree: an owner could not be set"] } },
        "restore sqlite app": { "begun": began, "done": began, "proof": {
            "source": "app", "into": into("app.db"), "bytes": 8192, "previous": into("app.db.pre-restore-1"),
            "integrity": { "damaged": ["a page"] }, "errors": [] } },
        "wait for redis gone": { "begun": began, "done": null, "proof": null },
    } });
    let path = program.path(&format!("wirevault-recover-{id}.json"));
    fs::write(&path, state.to_string()).unwrap();
    let printed = program.expect(2, &["recover", "latest:adhoc", "--json"]);
    let document: Value = serde_json::from_str(&printed).unwrap();
    let (tree, file) = (&document["steps"][0]["proof"], &document["steps"][1]["proof"]);
    for (proof, step) in [(tree, "restore files tree"), (file, "restore sqlite app")] {
        assert_eq!(proof, &state["steps"][step]["proof"], "{document}");
    }
    let failed = &document["failed"];
    assert_eq!(failed[0], "tree: an owner could not be set", "{document}");
    assert!(
        failed[1].as_str().unwrap().contains("damaged when it was stored"),
        "{document}"
    );
    let text = program.expect(2, &["recover", "latest:adhoc"]);
    assert!(text.contains("files tree: 7 written, 3 unchanged"), "{text}");
    assert!(text.contains("sqlite app: 8192 bytes, DAMAGED"), "{text}");
    assert!(!program.path("tree").exists() && !program.path("app.db").exists());

    // A proof that cannot be read is no proof.
    let broken = state.to_string().replace("\"written\":7", "\"written\":\"many\"");
    fs::write(&path, broken).unwrap();
    let recover = ["recover", "latest:adhoc"];
    program.refused(
        &recover,
        "the result of step \"restore files tree\"",
        "Move the file away",
    );
}
