//! Which snapshot `latest` means, what is said of those that it never means, and what a verification may call proven.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use wirevault::repository::{Manifest, SnapshotId, document};

use crate::support::postgres::Cluster;
use crate::support::program::Program;
use crate::support::redis::{Kind, RedisServer, kinds};

/// A tree with one file that says which version it is.
fn with_tree() -> Program {
    let program = Program::on_directory();
    fs::create_dir(program.path("tree")).unwrap();
    program
}

fn id_of(made: &Value) -> String {
    made["snapshots"][0]["id"].as_str().unwrap().to_owned()
}

fn back_up(program: &Program, version: &str) -> String {
    fs::write(program.path("tree/file"), version).unwrap();
    id_of(&program.json(&["backup", "files:tree"]))
}

fn restored(program: &Program, code: i32, arguments: &[&str]) -> String {
    let _ = fs::remove_dir_all(program.path("back"));
    let said = program.expect(code, &[&["restore"], arguments, &["--into", "back"]].concat());
    assert!(said.contains("the same snapshot again: wirevault restore 2"), "{said}");
    assert!(said.contains(" --into back"), "{said}");
    fs::read_to_string(program.path("back/file")).unwrap()
}

/// Stores a copy of a snapshot's manifest as if its run had begun at another time.
pub(crate) fn redate(program: &Program, id: &str, started: Timestamp) -> String {
    let read = fs::read(program.path(&format!("repo/snapshots/{id}.json"))).unwrap();
    let mut manifest: Manifest = document::decode(&read).unwrap();
    manifest.id = SnapshotId::unique(started, &manifest.job);
    (manifest.started, manifest.finished) = (started, started);
    for source in &mut manifest.sources {
        source.outcome.as_mut().unwrap().archives.clear();
    }
    let place = program.path(&format!("repo/snapshots/{}.json", manifest.id));
    fs::write(place, document::encode(&manifest).unwrap()).unwrap();
    manifest.id.to_string()
}

/// One run with a clock that was a year ahead hides nothing, stops nothing, and is named.
#[test]
fn a_snapshot_from_the_future_is_never_the_latest() {
    let program = with_tree();
    let config = format!(
        "[repository]\nurl = \"file://{}\"\n[source.tree]\nkind = \"files\"\nroot = \"tree\"\n[job.full]\n\
         sources = [\"tree\"]\nschedule = \"0 * * * *\"\nkeep = {{ last = 1 }}\n",
        program.path("repo").display()
    );
    fs::write(program.path("wirevault.toml"), config).unwrap();
    fs::write(program.path("tree/file"), "one").unwrap();
    let first = id_of(&program.json(&["backup", "full"]));
    let future = redate(
        &program,
        &first,
        Timestamp::now() + SignedDuration::from_hours(400 * 24),
    );

    assert_eq!(restored(&program, 0, &["latest"]), "one");
    let listed = program.json(&["list"]);
    let ahead = listed["snapshots"].as_array().unwrap().iter();
    let ahead: Vec<_> = ahead.filter(|one| one["ahead"] == true).map(|one| &one["id"]).collect();
    assert_eq!(ahead, [future.as_str()]);
    let said = program.expect(0, &["list"]);
    assert!(said.contains(&format!("{future} is dated in the future")), "{said}");

    fs::write(program.path("tree/file"), "two").unwrap();
    let made = program.json(&["backup", "full"]);
    assert_eq!(made["snapshots"][0]["previous"]["id"], first.as_str());
    let said = program.expect(0, &["prune"]);
    assert!(
        said.contains(&format!("keep   {future}: dated in the future")),
        "{said}"
    );
    assert_eq!(program.listed(), [id_of(&made), future]);
    assert_eq!(restored(&program, 0, &["latest"]), "two");

    // The next run waits for its hour, not for that of the other clock.
    let planned = program.json(&["run", "--dry-run", "--listen", "off"]);
    let next: Timestamp = planned["jobs"][0]["next"].as_str().unwrap().parse().unwrap();
    assert!(next < Timestamp::now() + SignedDuration::from_hours(2), "{planned}");
}

/// Past a damaged newest snapshot nothing is written; whoever reads goes on, and is told.
#[test]
fn a_damaged_newest_snapshot_is_not_passed_over_in_silence() {
    let program = with_tree();
    let old = back_up(&program, "old");
    let newest = back_up(&program, "new");
    let place = program.path(&format!("repo/snapshots/{newest}.json"));
    let mut bytes = fs::read(&place).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&place, bytes).unwrap();

    for verb in [
        &["restore", "latest", "--into", "back"][..],
        &["pin", "latest"],
        &["recover"],
    ] {
        program.refused(verb, &format!("the newest snapshot cannot be read: {newest}"), &old);
    }
    assert!(!program.path("back").exists());
    assert_eq!(restored(&program, 0, &[&old]), "old");

    let shown = program.expect(2, &["show", "latest"]);
    assert!(
        shown.contains(&old) && shown.contains(&format!("skipping snapshot {newest}")),
        "{shown}"
    );
    assert_eq!(program.expect(2, &["cat", "latest", "tree", "file"]), "old");
    let verified = program.expect(2, &["verify", "latest"]);
    assert!(
        verified.contains(&format!("{old} ok (level content: tree)")) && verified.contains(&newest),
        "{verified}"
    );

    // An older one that is damaged is nobody's business here.
    let good = back_up(&program, "newer");
    assert!(program.expect(0, &["show", "latest"]).contains(&good));
    assert_eq!(restored(&program, 0, &["latest"]), "newer");
}

/// A restore of Redis keeps what it replaces; the same command again brings the backup again.
#[test]
fn what_a_restore_put_aside_is_never_the_latest() {
    let kind: Kind = kinds()[0];
    let server = RedisServer::start(kind, &[]);
    let program = Program::on_directory();
    server.client().say("SET k good");
    program.expect(0, &["backup", &server.url()]);
    server.client().say("SET k damaged");
    for _ in 0..2 {
        program.expect(0, &["restore", "latest", "--source", "redis", "--clean"]);
        assert_eq!(server.client().text(&[b"GET", b"k"]), "good");
    }
    let jobs: Vec<bool> = program.listed().iter().map(|id| id.contains("pre-restore")).collect();
    assert_eq!(jobs.iter().filter(|aside| **aside).count(), 2, "{jobs:?}");
    assert!(program.expect(0, &["show", "latest"]).contains("job adhoc"));
    assert!(
        program
            .expect(0, &["show", "latest:pre-restore"])
            .contains("job pre-restore")
    );
    // No rule by hand is asked about them.
    program.expect(0, &["prune", "--keep-last", "1"]);
    assert_eq!(program.listed().len(), 3);
}

/// Two jobs, of which one has a source more.
fn with_two_jobs() -> Program {
    let program = Program::bare();
    for name in ["a", "b"] {
        fs::create_dir(program.path(name)).unwrap();
        fs::write(program.path(name).join("file"), "one").unwrap();
    }
    let text = format!(
        "[repository]\nurl = \"file://{}\"\n[source.a]\nkind = \"files\"\nroot = \"a\"\n[source.b]\nkind = \"files\"\nroot = \
         \"b\"\n[job.full]\nsources = [\"a\", \"b\"]\n[job.quick]\nsources = [\"a\"]\n",
        program.path("repo").display()
    );
    fs::write(program.path("wirevault.toml"), text).unwrap();
    program.expect(0, &["backup", "full"]);
    fs::write(program.path("a/file"), "two").unwrap();
    program.expect(0, &["backup", "quick"]);
    program
}

#[test]
fn a_source_comes_from_the_newest_snapshot_of_any_job() {
    let program = with_two_jobs();
    assert_eq!(restored(&program, 0, &["latest", "--source", "a"]), "two");
    assert_eq!(restored(&program, 0, &["latest", "--source", "b"]), "one");
    program.refused(
        &["restore", "latest", "--into", "back2"],
        "several jobs have snapshots",
        "latest:quick, latest:full",
    );
    assert!(!program.path("back2").exists());
    program.expect(0, &["restore", "latest:full", "--into", "back2"]);
    assert_eq!(fs::read_to_string(program.path("back2/a/file")).unwrap(), "one");
}

/// Of each source the newest good copy comes back, and it is said from when.
#[test]
fn a_recovery_takes_each_source_from_its_newest_copy() {
    let program = with_two_jobs();
    let ids = program.listed();
    let planned = program.json(&["recover", "--dry-run"]);
    let from = |name: &str| {
        let sources = planned["sources"].as_array().unwrap();
        let one = sources.iter().find(|one| one["source"] == name).unwrap();
        one["snapshot"].as_str().unwrap().to_owned()
    };
    assert_eq!((from("a"), from("b")), (ids[1].clone(), ids[0].clone()), "{planned}");
    assert!(planned["skew_seconds"].as_f64().unwrap() > 0.0);
    let said = program.expect(0, &["recover", "--dry-run"]);
    assert!(said.contains("ago: snapshot") && said.contains("apart"), "{said}");
    for name in ["a", "b"] {
        fs::remove_dir_all(program.path(name)).unwrap();
    }
    program.expect(0, &["recover"]);
    assert_eq!(fs::read_to_string(program.path("a/file")).unwrap(), "two");
    assert_eq!(fs::read_to_string(program.path("b/file")).unwrap(), "one");
}

fn evidence(program: &Program) -> Vec<Value> {
    let mut found = Vec::new();
    for snapshot in fs::read_dir(program.path("repo/evidence")).unwrap() {
        let mut names: Vec<_> = fs::read_dir(snapshot.unwrap().path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        found.extend(
            names
                .iter()
                .map(|name| document::decode(&fs::read(name).unwrap()).unwrap()),
        );
    }
    found
}

#[test]
fn no_evidence_replaces_another() {
    let program = with_tree();
    back_up(&program, "one");
    for level in ["content", "stored", "stored"] {
        program.expect(0, &["verify", "latest", "--level", level]);
    }
    let levels: Vec<Value> = evidence(&program)
        .iter()
        .map(|one| one["proved"]["level"].clone())
        .collect();
    assert_eq!(levels, ["content", "stored", "stored"]);
}

/// Files and SQLite come back into the spool directory, of which nothing stays; PostgreSQL needs a server, and without one
/// the level is not reached, whoever asks.
#[test]
fn a_level_is_reached_only_where_it_was() {
    let mut program = with_tree();
    let cluster = Cluster::shared();
    let name = cluster.fresh_name();
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(&name, "CREATE TABLE t AS SELECT generate_series(1, 100) AS a");
    program.set("PGPASSWORD", "secret");
    fs::create_dir_all(program.path("tree/sub/empty")).unwrap();
    std::os::unix::fs::symlink("file", program.path("tree/link")).unwrap();
    let holes = fs::File::create(program.path("tree/holes")).unwrap();
    holes.set_len(1 << 20).unwrap();
    back_up(&program, "one");
    fs::hard_link(program.path("tree/file"), program.path("tree/other")).unwrap();
    let database = rusqlite::Connection::open(program.path("app.db")).unwrap();
    database
        .execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
        .unwrap();
    let server = format!("postgres://admin@127.0.0.1:{}?sslmode=disable", cluster.port);
    let url = format!("postgres://admin@127.0.0.1:{}/{name}?sslmode=disable", cluster.port);
    program.expect(0, &["backup", "files:tree", "sqlite:app.db", &url]);
    fs::create_dir(program.path("spool")).unwrap();
    let verify = |more: &[&str], code: i32| {
        let words = [
            "verify",
            "latest",
            "--level",
            "restored",
            "--spool-dir",
            "spool",
            "--json",
        ];
        let text = program.expect(code, &[&words, more].concat());
        assert_eq!(fs::read_dir(program.path("spool")).unwrap().count(), 0);
        serde_json::from_str::<Value>(&text).unwrap()["verified"][0].clone()
    };
    let levels = |verified: &Value| -> Vec<(String, String, bool)> {
        let word = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
        let all = verified["levels"].as_array().unwrap().iter();
        all.map(|one| (word(one, "source"), word(one, "level"), one["why_not"].is_null()))
            .collect()
    };
    let reached = |postgres: &str, all: bool| {
        let one = |name: &str, level: &str, all: bool| (name.to_owned(), level.to_owned(), all);
        vec![
            one("tree", "restored", true),
            one("app", "restored", true),
            one(&name, postgres, all),
        ]
    };
    let verified = verify(&[], 2);
    assert_eq!(levels(&verified), reached("content", false), "{verified}");
    assert_eq!(
        (&verified["level"], &verified["asked"]),
        (&"content".into(), &"restored".into())
    );
    let said = program.expect(2, &["verify", "latest", "--level", "restored"]);
    assert!(!said.contains(" ok ") && said.contains("--into postgres://"), "{said}");

    // A role that may make databases is enough; it is no superuser.
    cluster.psql(
        "postgres",
        &format!("CREATE ROLE {name}_drill LOGIN CREATEDB PASSWORD 'secret'"),
    );
    let drill = server.replace("admin@", &format!("{name}_drill@"));
    for server in [&server, &drill] {
        let verified = verify(&["--into", server], 0);
        assert_eq!(levels(&verified), reached("restored", true), "{verified}");
        assert_eq!(verified["level"], "restored");
    }
    assert_eq!(
        evidence(&program).last().unwrap()["proved"]["levels"][2]["level"],
        "restored"
    );
    cluster.psql("postgres", &format!("DROP DATABASE {name}"));
    cluster.psql("postgres", &format!("DROP ROLE {name}_drill"));
}
