//! The JSON documents of the verbs, pinned: which keys there are, and of which type each value is. Programs read them, so a change here is
//! one of the interface (docs/json.md).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::postgres::Cluster;
use crate::support::program::Program;
use crate::support::redis::{Kind, RedisServer};

/// Replaces each value by its type. Of a list, each form that its members have stands once.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(all) => {
            let shapes: BTreeMap<String, Value> = all.iter().map(shape).map(|one| (one.to_string(), one)).collect();
            shapes.into_values().collect()
        }
        Value::Object(all) => all.iter().map(|(key, one)| (key.clone(), shape(one))).collect(),
    }
}

/// Runs with `--json`, and pins the exit code and what is printed under a name.
fn pin(program: &Program, name: &str, arguments: &[&str]) {
    pin_output(name, &program.run(&[arguments, &["--json"]].concat()));
}

/// Pins the exit code and the document of what was run with `--json`.
pub(crate) fn pin_output(name: &str, output: &std::process::Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{name}: {error}: {said}"));
    assert_is_documented(name, &document);
    let code = output.status.code().unwrap();
    let shape = shape(&document);
    insta::assert_snapshot!(format!("json_{name}"), format!("exit code {code}\n{shape:#}"));
}

/// Each key of a document stands in docs/json.md, in the section of its verb.
fn assert_is_documented(name: &str, document: &Value) {
    let verb = name.split('_').find(|word| *word != "several").unwrap();
    let sections = include_str!("../../docs/json.md").split("\n## ");
    let title = |section: &&str| section.lines().next().unwrap().split(", ").any(|title| title == verb);
    let section = sections.clone().find(title);
    let section = section.unwrap_or_else(|| sections.clone().nth(1).unwrap());
    let rows = document.as_array().into_iter().flatten();
    for object in rows.chain([document]).filter_map(Value::as_object) {
        for key in object
            .keys()
            .filter(|key| *key != "repository" && *key != "repositories")
        {
            let named = [format!("`{key}`"), format!("`{key}[]`")];
            assert!(
                named.iter().any(|key| section.contains(key)),
                "{name}: {key} in:\n{section}"
            );
        }
    }
}

fn old(path: std::path::PathBuf) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(40 * 86_400))
        .unwrap();
}

fn configured() -> Program {
    let program = Program::bare();
    std::fs::create_dir(program.path("tree")).unwrap();
    std::fs::write(program.path("tree/file"), b"content").unwrap();
    let database = rusqlite::Connection::open(program.path("app.db")).unwrap();
    database
        .execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        .unwrap();
    let text = format!(
        "[repository]\nurl = \"file://{}\"\n\
         [source.tree]\nkind = \"files\"\nroot = \"tree\"\n\
         [source.app]\nkind = \"sqlite\"\npath = \"app.db\"\n\
         [source.gone]\nkind = \"sqlite\"\npath = \"gone.db\"\noptional = true\n\
         [job.full]\nsources = [\"tree\", \"app\"]\nschedule = \"0 2 * * *\"\nkeep = {{ last = 2 }}\n\
         [job.less]\nsources = [\"tree\", \"gone\"]\n\
         [drill.weekly]\nschedule = \"0 3 * * 0\"\n\
         [cleanup.logs]\npath = \"{}\"\nglob = \"*.log\"\nkeep = \"30d\"\n",
        program.path("repo").display(),
        program.path("logs/app").display(),
    );
    std::fs::write(program.path("wirevault.toml"), text).unwrap();
    program
}

/// The snapshots in the order in which they were made. Ids have whole seconds.
fn oldest_first(program: &Program) -> Vec<String> {
    let listed = program.json(&["list"]);
    let finished = |one: &Value| one["finished"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let mut all = listed["snapshots"].as_array().unwrap().clone();
    all.sort_by_key(finished);
    all.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn documents_of_one_repository() {
    let program = configured();
    pin(&program, "init", &["init", "--no-encryption"]);
    pin(&program, "init_adopt", &["init", "--adopt"]);
    pin(&program, "check", &["check", "less"]);
    pin(&program, "config", &["config"]);
    pin(&program, "backup_dry_run", &["backup", "full", "--dry-run"]);
    pin(&program, "backup", &["backup", "full"]);
    pin(&program, "backup_optional", &["backup", "less"]);
    for _ in 0..3 {
        program.expect(0, &["backup", "full"]);
    }
    pin(&program, "show", &["show", "latest"]);
    pin(&program, "verify", &["verify", "latest"]);
    pin(&program, "pin", &["pin", "latest:full", "--reason", "audit"]);
    pin(&program, "list", &["list"]);
    pin(&program, "status", &["status"]);
    pin(&program, "health", &["health"]);
    pin(&program, "run_dry_run", &["run", "--dry-run"]);

    // Left by a run that died long ago.
    old(program.path("repo/data/20200101T000000Z-full-0123456789abcdef/tree/0000.tar.zst"));
    pin(&program, "prune_dry_run", &["prune", "--dry-run"]);
    pin(&program, "prune", &["prune"]);
    pin(&program, "prune_no_sweep", &["prune", "--no-sweep"]);
    pin(&program, "unpin", &["unpin", "latest:full"]);
    let last = oldest_first(&program).pop().unwrap();

    old(program.path("logs/app/old.log"));
    pin(&program, "cleanup", &["cleanup"]);

    // A manifest that cannot be read, one that is gone without a word, and an archive that is.
    program.expect(0, &["backup", "full"]);
    program.expect(0, &["backup", "full"]);
    let ids = oldest_first(&program);
    let manifest = |id: &str| program.path(&format!("repo/snapshots/{id}.json"));
    std::fs::remove_file(manifest(&ids[ids.len() - 2])).unwrap();
    std::fs::write(manifest("20200101T000000Z-full-0123456789abcdef"), b"{").unwrap();
    std::fs::remove_dir_all(program.path(&format!("repo/data/{last}"))).unwrap();
    pin(&program, "list_damaged", &["list"]);
    pin(&program, "show_past_damage", &["show", &last]);
    pin(&program, "verify_damaged", &["verify", "--all"]);
}

#[test]
fn documents_of_several_repositories() {
    let program = Program::bare();
    std::fs::create_dir(program.path("tree")).unwrap();
    std::fs::write(program.path("tree/file"), b"content").unwrap();
    let text = format!(
        "[repository.near]\nurl = \"file://{}\"\n[repository.far]\nurl = \"file://{}\"\n\
         [source.tree]\nkind = \"files\"\nroot = \"tree\"\n[job.full]\nsources = [\"tree\"]\n",
        program.path("near").display(),
        program.path("far").display(),
    );
    std::fs::write(program.path("wirevault.toml"), text).unwrap();
    program.expect(0, &["backup", "full"]);
    pin(&program, "backup_unchanged", &["backup", "full", "--if-changed"]);
    program.expect(0, &["backup", "full", "--to", "near"]);
    pin(&program, "copy_dry_run", &["copy", "--dry-run"]);
    pin(&program, "copy", &["copy"]);
    pin(&program, "several_list", &["list"]);
    pin(&program, "several_show", &["show", "latest"]);
    pin(&program, "several_verify", &["verify", "latest"]);
    pin(&program, "several_prune", &["prune", "--keep-last", "1"]);
    std::fs::remove_file(program.path("far/repository.json")).unwrap();
    pin(&program, "several_failed", &["list"]);
    pin(&program, "backup_partial", &["backup", "full"]);
}

#[test]
fn document_of_a_restore_test() {
    let (cluster, redis) = (Cluster::shared(), RedisServer::start(Kind::Redis7, &[]));
    let database = cluster.fresh_name();
    cluster.psql("postgres", &format!("CREATE DATABASE {database}"));
    cluster.psql(&database, "CREATE TABLE t AS SELECT 1 AS a");
    redis.client().say("SET a b");
    let mut program = configured();
    program.set("PGPASSWORD", "secret");
    let url = |database: &str| format!("postgres://admin@127.0.0.1:{}/{database}?sslmode=disable", cluster.port);
    program.expect(
        0,
        &["backup", "files:tree", "sqlite:app.db", &url(&database), &redis.url()],
    );
    let scratch = RedisServer::start(Kind::Redis7, &[]);
    let (server, keys) = (url("postgres"), scratch.url());
    let arguments = [
        "verify", "latest", "--level", "restored", "--into", &server, "--into", &keys,
    ];
    pin(&program, "verify_restored", &arguments);
    pin(&program, "show_servers", &["show", "latest"]);
}
