//! A repository that an older version wrote (fixtures/README.md) is listed, verified, restored and pruned by this one.
//!
//! What each source held stands beside it in a form that no version of this program wrote: SQL and Redis commands that are loaded
//! into fresh places and compared there with what a restore brings, and listings of files.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::types::Value;
use sha2::{Digest, Sha256};

use crate::postgres_schema::Cluster;
use crate::support::docker::{DockerEngine, expect_as_root};
use crate::support::program::Program;
use crate::support::redis::{Kind, RedisServer};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/old_repository")
        .join(name)
}

fn expected(name: &str) -> String {
    std::fs::read_to_string(fixture("expected").join(name)).unwrap()
}

/// A program over a copy of the repository: verifying and pruning write into it.
fn program() -> Program {
    let program = Program::on_directory();
    let copied = Command::new("cp")
        .arg("-R")
        .arg(fixture("repository"))
        .arg(program.path("repo"))
        .status();
    assert!(copied.unwrap().success());
    program
}

#[test]
fn its_snapshots_are_listed_and_verified() {
    let program = program();
    let listed = program.json(&["list"]);
    let snapshots: Vec<_> = listed["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let sources = one["sources"].as_array().unwrap().len();
            (one["job"].as_str().unwrap(), one["host"].as_str().unwrap(), sources)
        })
        .collect();
    let full = ("full", "old-host", 5);
    assert_eq!(snapshots, [full, full, ("newer", "old-host", 1)]);
    program.expect(0, &["show", "latest:full"]);
    program.expect(0, &["verify", "--all", "--level", "stored"]);
    program.expect(0, &["verify", "--all", "--level", "content"]);
}

#[test]
fn its_snapshots_are_proved_in_scratch_places() {
    // Owners of a volume are root's to set.
    let Some(cluster) = Cluster::start_18() else { return };
    let (program, redis) = (program(), RedisServer::start(Kind::Redis7, &[]));
    let (server, keys) = (url(&cluster, "postgres"), redis.url());
    let verify = ["verify", "latest:full", "latest:newer", "--level", "restored"];
    expect_as_root(
        &program,
        0,
        &[&verify[..], &["--into", &server, "--into", &keys]].concat(),
    );
}

#[test]
fn its_database_of_the_distributions_server_comes_back() {
    let bin = std::env::var("WIREVAULT_TEST_PG15_BIN").expect("tests/servers/setup.sh says where");
    a_database_comes_back(&Cluster::start(&bin), "latest:full", "app15", "postgres15.sql");
}

#[test]
fn its_database_of_postgres_18_comes_back() {
    let Some(cluster) = Cluster::start_18() else { return };
    a_database_comes_back(&cluster, "latest:newer", "app18", "postgres18.sql");
}

fn url(cluster: &Cluster, database: &str) -> String {
    format!(
        "postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable",
        cluster.port
    )
}

/// What psql makes of the dump that was taken then, and what a restore makes of the backup, dump alike.
fn a_database_comes_back(cluster: &Cluster, snapshot: &str, source: &str, dump: &str) {
    let program = program();
    let into = url(cluster, "restored");
    program.expect(
        0,
        &[
            "restore",
            snapshot,
            "--source",
            source,
            "--into",
            &into,
            "--verify-rows",
        ],
    );
    let client = |name: &str, database: &str| {
        let port = cluster.port.to_string();
        let mut command = cluster.program(name);
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-d", database]);
        command
    };
    let output = |command: &mut Command| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    output(client("psql", "postgres").args(["-X", "-q", "-c", "CREATE DATABASE expected TEMPLATE template0"]));
    let sql = std::fs::File::open(fixture("expected").join(dump)).unwrap();
    let load = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"];
    output(client("psql", "expected").args(load).stdin(Stdio::from(sql)));
    let dumped = |database: &str| {
        let text = output(&mut client("pg_dump", database));
        let lines = text.lines().filter(|line| !line.contains("restrict "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(dumped("restored"), dumped("expected"));
}

#[test]
fn its_keys_come_back() {
    let (program, redis) = (program(), RedisServer::start(Kind::Redis7, &[]));
    program.expect(
        0,
        &["restore", "latest:full", "--source", "cache", "--into", &redis.url()],
    );
    let other = RedisServer::start(Kind::Redis7, &[]);
    let mut client = other.client();
    for command in expected("redis.commands").lines() {
        client.say(command);
    }
    assert_eq!(redis.digest(), other.digest());
    let functions = redis.client().ask(&[b"FUNCTION", b"LIST"]);
    assert!(
        format!("{functions:?}").contains(&format!("{:?}", b"wv_one")),
        "{functions:?}"
    );
}

#[test]
fn its_sqlite_database_comes_back() {
    let program = program();
    program.expect(
        0,
        &["restore", "latest:full", "--source", "items", "--into", "items.db"],
    );
    let restored = rusqlite::Connection::open(program.path("items.db")).unwrap();
    let mode: String = restored
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
    let loaded = rusqlite::Connection::open_in_memory().unwrap();
    loaded.execute_batch(&expected("items.sql")).unwrap();
    for query in [
        "SELECT type, name, sql FROM sqlite_schema ORDER BY name",
        "SELECT * FROM items ORDER BY id",
        "SELECT * FROM keyed ORDER BY a, b",
        "SELECT * FROM dear ORDER BY name",
    ] {
        let rows = rows(&restored, query);
        assert!(!rows.is_empty(), "{query}");
        assert_eq!(rows, self::rows(&loaded, query), "{query}");
    }
}

fn rows(database: &rusqlite::Connection, query: &str) -> Vec<Vec<Value>> {
    let mut statement = database.prepare(query).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect());
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn its_files_come_back() {
    let program = program();
    program.expect(0, &["restore", "latest:full", "--source", "tree", "--into", "tree"]);
    // Owners are root's to set, and this is not root.
    let without_owner = |line: &str| {
        let words: Vec<_> = line.split(' ').enumerate().filter(|(at, _)| *at != 3).collect();
        words.into_iter().map(|(_, word)| word.to_owned()).collect::<Vec<_>>()
    };
    let found: Vec<_> = listing(&program.path("tree"))
        .iter()
        .map(|line| without_owner(line))
        .collect();
    let expected: Vec<_> = expected("tree.txt").lines().map(without_owner).collect();
    assert_eq!(found, expected);
    let names = |name: &str| program.path("tree").join(name).metadata().unwrap().ino();
    assert_eq!(names("a/numbers"), names("z-second-name"));
}

#[test]
fn its_volume_comes_back() {
    let Some(engine) = DockerEngine::start() else { return };
    let mut program = program();
    program.set("DOCKER_HOST", &format!("unix://{}", engine.socket().display()));
    let into = format!("{}?volume=uploads", engine.url());
    let restore = [
        "restore",
        "latest:full",
        "--source",
        "volumes",
        "--volume",
        "uploads",
        "--into",
        &into,
    ];
    expect_as_root(&program, 0, &restore);
    let expected: Vec<_> = expected("uploads.txt").lines().map(str::to_owned).collect();
    assert_eq!(listing(&engine.volume("uploads")), expected);
}

/// Lists what lies below a directory as the fixture does: name, kind, mode, owner, time, length, SHA-256 or target.
fn listing(top: &Path) -> Vec<String> {
    const PLAIN: AsciiSet = NON_ALPHANUMERIC
        .remove(b'/')
        .remove(b'_')
        .remove(b'.')
        .remove(b'-')
        .remove(b'~');
    let (mut found, mut waiting) = (Vec::new(), vec![top.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let (kind, size, content) = if meta.is_dir() {
                waiting.push(path.clone());
                ("directory", 0, "-".to_owned())
            } else if meta.is_symlink() {
                ("symlink", meta.len(), path.read_link().unwrap().display().to_string())
            } else {
                (
                    "file",
                    meta.len(),
                    hex::encode(Sha256::digest(std::fs::read(&path).unwrap())),
                )
            };
            let name = percent_encode(path.strip_prefix(top).unwrap().as_os_str().as_bytes(), &PLAIN);
            let (mode, uid, gid) = (meta.permissions().mode() & 0o7777, meta.uid(), meta.gid());
            found.push(format!(
                "{name} {kind} {mode:o} {uid}:{gid} {} {size} {content}",
                meta.mtime()
            ));
        }
    }
    found.sort();
    found
}

#[test]
fn its_snapshots_expire() {
    let program = program();
    let ids = program.listed();
    program.expect(0, &["prune", "--keep-last", "1", "--dry-run"]);
    assert_eq!(program.listed(), ids);
    program.expect(0, &["prune", "--keep-last", "1"]);
    assert_eq!(program.listed(), ids[1..]);
    program.expect(0, &["verify", "--all", "--level", "content"]);
}
