//! One snapshot of files, SQLite and PostgreSQL, through every verb and back, on a directory and on S3.

use std::path::Path;
use std::process::Stdio;

use crate::support::postgres::Cluster;
use crate::support::program::{Program, files_below, noise, open_uploads, serve_s3};
use crate::support::wait;

const DATABASE: &str = "
    CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE notes (id bigserial PRIMARY KEY, owner bigint REFERENCES users, body text);
    INSERT INTO users SELECT g, 'user ' || g FROM generate_series(1, 500) g;
    INSERT INTO notes (owner, body) SELECT 1 + g % 500, repeat(md5(g::text), 20) FROM generate_series(1, 4000) g;";
const DIGEST: &str = "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM notes t;
    SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM users t; SELECT last_value, is_called FROM notes_id_seq";

fn make_tree(root: &Path) {
    std::fs::create_dir_all(root.join("sub/empty")).unwrap();
    std::fs::write(root.join("hello.txt"), "hello\n").unwrap();
    std::fs::write(root.join("sub/big"), noise(3 << 20)).unwrap();
    std::os::unix::fs::symlink("hello.txt", root.join("link")).unwrap();
}

fn make_sqlite(path: &Path) {
    let database = rusqlite::Connection::open(path).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t SELECT i, 'row ' || i FROM n;",
        )
        .unwrap();
}

fn rows_of(path: &Path) -> (i64, i64) {
    let database = rusqlite::Connection::open(path).unwrap();
    let query = "SELECT count(*), sum(length(b)) FROM t";
    database
        .query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
}

fn there_and_back(mut program: Program) {
    let cluster = Cluster::shared();
    let (name, copy) = (cluster.fresh_name(), format!("{}_copy", cluster.fresh_name()));
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(&name, DATABASE);
    let before = cluster.psql_in(&name, Path::new("/"), &["-c", DIGEST]);
    program.set("PGPASSWORD", "secret");
    make_tree(&program.path("tree"));
    make_sqlite(&program.path("app.db"));
    let url = |database: &str| format!("postgres://admin@127.0.0.1:{}/{database}?sslmode=disable", cluster.port);
    let sources = [url(&name), "sqlite:app.db".to_owned(), "files:tree".to_owned()];
    let with = |verb: &[&str]| -> Vec<String> {
        verb.iter()
            .map(|word| (*word).to_owned())
            .chain(sources.iter().cloned())
            .collect()
    };
    let run = |words: &[String]| program.expect(0, &words.iter().map(String::as_str).collect::<Vec<_>>());

    program.expect(0, &["init", "--no-encryption"]);
    run(&with(&["check"]));
    // A dry run changes nothing.
    run(&with(&["backup", "--dry-run"]));
    assert!(program.listed().is_empty());
    run(&with(&["backup"]));
    let ids = program.listed();
    assert_eq!(ids.len(), 1);
    let shown = program.json(&["show", "latest"]);
    assert_eq!(shown["snapshot"]["id"], ids[0].as_str());
    let names: Vec<_> = shown["snapshot"]["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].clone())
        .collect();
    assert_eq!(names, [name.as_str(), "app", "tree"]);
    // Without a scratch server the database comes back nowhere.
    for (level, code) in [("stored", 0), ("content", 0), ("restored", 2)] {
        let verified = program.expect(code, &["verify", "latest", "--level", level, "--json"]);
        let verified: serde_json::Value = serde_json::from_str(&verified).unwrap();
        assert_eq!(verified["verified"][0]["damage"].as_array().unwrap().len(), 0);
        assert_eq!(verified["verified"][0]["sources"].as_array().unwrap().len(), 3);
    }
    assert_eq!(program.expect(0, &["cat", "latest", "tree", "hello.txt"]), "hello\n");
    let big = program.run(&["cat", "latest", "tree", "sub/big"]).stdout;
    assert!(big == noise(3 << 20), "{} bytes", big.len());
    assert!(
        program
            .expect(0, &["cat", "latest", &name, "pre-data.sql"])
            .contains("notes")
    );

    // Nothing is written while anything stands in the way of any source.
    let occupied = ["restore", "latest", "--source", "tree", "--source", "app"];
    std::fs::remove_dir_all(program.path("tree")).unwrap();
    program.refused(&occupied, "app.db\" exists", "--clean");
    assert!(!program.path("tree").exists());

    let planned = program.json(&[
        "restore",
        "latest",
        "--source",
        &name,
        "--into",
        &url(&copy),
        "--dry-run",
    ]);
    assert_eq!(planned["would_restore"].as_array().unwrap().len(), 1);
    cluster.psql("postgres", &format!("CREATE DATABASE {copy}"));
    program.expect(0, &["restore", "latest", "--source", &name, "--into", &url(&copy)]);
    program.expect(0, &["restore", "latest", "--source", "app", "--into", "there/copy.db"]);
    program.expect(0, &["restore", "latest", "--source", "tree", "--into", "there/tree"]);
    program.expect(
        0,
        &[
            "restore",
            "latest",
            "--source",
            "tree",
            "--into",
            "there/part",
            "--path",
            "sub/big",
        ],
    );
    assert_eq!(
        rows_of(&program.path("there/copy.db")),
        rows_of(&program.path("app.db"))
    );
    for tree in ["there/tree", "there/part"] {
        assert!(std::fs::read(program.path(tree).join("sub/big")).unwrap() == noise(3 << 20));
    }
    assert!(!program.path("there/part/hello.txt").exists());
    assert_eq!(
        std::fs::read_link(program.path("there/tree/link")).unwrap(),
        Path::new("hello.txt")
    );
    assert!(program.path("there/tree/sub/empty").is_dir());

    // Everything destroyed, and back to where it came from, from another directory.
    let original = rows_of(&program.path("app.db"));
    for file in ["app.db", "app.db-wal", "app.db-shm"] {
        let _ = std::fs::remove_file(program.path(file));
    }
    cluster.psql("postgres", &format!("DROP DATABASE {name}"));
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = program.command(&["restore", "latest"]);
    if program.path("wirevault.toml").exists() {
        command.env("WIREVAULT_CONFIG", program.path("wirevault.toml"));
    }
    let output = command.current_dir(elsewhere.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(rows_of(&program.path("app.db")), original);
    assert_eq!(std::fs::read(program.path("tree/hello.txt")).unwrap(), b"hello\n");
    for database in [&name, &copy] {
        assert_eq!(cluster.psql_in(database, Path::new("/"), &["-c", DIGEST]), before);
    }

    // A second snapshot, then only the newest is kept; a dry run keeps both.
    run(&with(&["backup"]));
    program.expect(0, &["prune", "--keep-last", "1", "--dry-run"]);
    assert_eq!(program.listed().len(), 2);
    program.expect(0, &["prune", "--keep-last", "1"]);
    let left = program.listed();
    assert!(left.len() == 1 && left != ids, "{left:?}");
    program.expect(0, &["verify", "--all"]);
    cluster.psql("postgres", &format!("DROP DATABASE {name}"));
    cluster.psql("postgres", &format!("DROP DATABASE {copy}"));
}

#[test]
fn every_verb_on_a_directory() {
    there_and_back(Program::on_directory());
}

#[test]
fn every_verb_on_s3() {
    there_and_back(Program::on_s3());
}

/// Writes a configuration whose repository takes bytes so slowly that a run would need an hour, starts a backup, and ends
/// it in its middle: one that paid for its queue first would not end before the test is given up.
fn ended_by_a_signal(program: &Program, repository: &str, has_begun: impl Fn() -> bool) {
    std::fs::create_dir(program.path("tree")).unwrap();
    std::fs::write(program.path("tree/noise"), noise(48 << 20)).unwrap();
    let config = format!("[repository]\n{repository}\nrate_limit = \"16KiB/s\"\n");
    std::fs::write(program.path("wirevault.toml"), config).unwrap();
    program.expect(0, &["init", "--no-encryption"]);
    let mut command = program.command(&["backup", "files:tree"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait::until("an upload is begun", has_begun);
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("interrupted by a signal"), "{text}");
    assert!(program.listed().is_empty());
}

/// Whether a run's marker names an upload: before, the marker may still be on its way to the store, and arrive after it was
/// removed.
fn journaled(root: &Path) -> bool {
    files_below(root).iter().any(|(path, _)| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        path.to_string_lossy().contains("/runs/") && text.contains("\"uploads\":[{")
    })
}

#[test]
fn a_signal_leaves_nothing_in_a_directory() {
    let program = Program::bare();
    let repository = format!("url = \"file://{}\"", program.path("repo").display());
    let uploads = program.path("repo/.uploads");
    ended_by_a_signal(&program, &repository, || {
        !open_uploads(&uploads).is_empty() && journaled(&program.path("repo"))
    });
    let left = files_below(&program.path("repo"));
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].0.ends_with("repository.json"));
}

#[test]
fn a_signal_leaves_nothing_on_s3() {
    let mut program = Program::bare();
    std::fs::create_dir_all(program.path("s3/bucket")).unwrap();
    program.set("AWS_ACCESS_KEY_ID", "tester");
    program.set("AWS_SECRET_ACCESS_KEY", "tester-secret");
    let endpoint = serve_s3(&program.path("s3"));
    let repository = format!("url = \"s3://bucket/app\"\nendpoint = \"{endpoint}\"\nregion = \"us-east-1\"");
    let root = program.path("s3");
    let open = || {
        let all = files_below(&root);
        all.iter()
            .filter(|(path, _)| path.file_name().unwrap().to_string_lossy().starts_with(".upload"))
            .count()
    };
    ended_by_a_signal(&program, &repository, || open() > 0 && journaled(&root));
    assert_eq!(open(), 0);
    let left = files_below(&root.join("bucket"));
    assert_eq!(left.len(), 1, "{left:?}");
}
