//! A SQLite source of several databases: by a pattern, a directory or a list, found anew at each run.

use rusqlite::Connection;

use crate::support::program::Program;

fn database(program: &Program, name: &str, value: &str) {
    let path = program.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (x)")
        .unwrap();
    db.execute("INSERT INTO t VALUES (?)", [value]).unwrap();
}

fn value(path: &std::path::Path) -> String {
    let db = Connection::open(path).unwrap();
    db.query_row("SELECT x FROM t", [], |row| row.get(0)).unwrap()
}

/// Names and states of the sources of the newest snapshot.
fn sources(program: &Program, snapshot: &str) -> Vec<(String, bool)> {
    let document = program.json(&["show", snapshot]);
    let sources = document["snapshot"]["sources"].as_array().unwrap();
    let one = |source: &serde_json::Value| {
        (
            source["name"].as_str().unwrap().to_owned(),
            !source["outcome"].is_null(),
        )
    };
    sources.iter().map(one).collect()
}

fn configured(path: &str) -> Program {
    let program = Program::on_directory();
    let text = format!(
        "[repository]\nurl = \"file://{}\"\n[source.data]\nkind = \"sqlite\"\npath = {path}\n[job.full]\nsources = [\"data\"]\n",
        program.path("repo").display()
    );
    std::fs::write(program.path("wirevault.toml"), text).unwrap();
    program
}

#[test]
fn databases_of_a_pattern_come_and_go_under_lasting_names() {
    let program = configured("\"data/*.db\"");
    program.refused(&["backup", "full"], "no SQLite database", "mount the directory");
    database(&program, "data/app.db", "one");
    database(&program, "data/users.db", "two");
    std::fs::write(program.path("data/notes.db"), "no database").unwrap();
    program.expect(0, &["backup", "full"]);
    let names = |found: Vec<(String, bool)>| found.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(sources(&program, "latest")), ["data.app.db", "data.users.db"]);

    // One comes, one goes: both are told, and the others keep their names.
    database(&program, "data/aaa.db", "three");
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(program.path(&format!("data/users.db{ending}")));
    }
    let output = program.run(&["backup", "full"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    for told in [
        "data.aaa.db",
        "is new since",
        "data.users.db",
        "not there any more",
        "notes.db",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert_eq!(names(sources(&program, "latest")), ["data.aaa.db", "data.app.db"]);

    // All of them go back by the name of their source, one by its own.
    for name in ["data/aaa.db", "data/app.db"] {
        let db = Connection::open(program.path(name)).unwrap();
        db.execute("UPDATE t SET x = 'wrong'", []).unwrap();
    }
    program.expect(0, &["restore", "latest", "--source", "data.app.db", "--clean"]);
    assert_eq!(value(&program.path("data/app.db")), "one");
    assert_eq!(value(&program.path("data/aaa.db")), "wrong");
    program.expect(0, &["restore", "latest", "--source", "data", "--clean"]);
    assert_eq!(value(&program.path("data/aaa.db")), "three");
    program.expect(0, &["restore", "latest", "--source", "data", "--into", "look/"]);
    assert_eq!(value(&program.path("look/data.aaa.db/aaa.db")), "three");
}

#[test]
fn a_database_that_fails_fails_alone_and_is_named() {
    let program = configured("\"data\"");
    database(&program, "data/app.db", "one");
    database(&program, "data/deep/broken.db", "two");
    // An SQLite header with nothing that belongs behind it.
    let whole = std::fs::read(program.path("data/deep/broken.db")).unwrap();
    let mut broken = whole.clone();
    broken[16..24].fill(0xff);
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(program.path(&format!("data/deep/broken.db{ending}")));
    }
    std::fs::write(program.path("data/deep/broken.db"), broken).unwrap();
    let output = program.run(&["backup", "full"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("deep/broken.db"), "{said}");
    let id = program.listed().pop().unwrap();
    let found = sources(&program, &id);
    assert_eq!(found.iter().filter(|(_, good)| *good).count(), 1, "{found:?}");
    assert!(
        found
            .iter()
            .any(|(name, good)| name.starts_with("data.deep_broken.db-") && !good),
        "{found:?}"
    );
}

/// The pattern that was typed is this host's word for every database that it found.
#[test]
fn what_a_typed_pattern_found_goes_back_and_a_lost_host_gets_all() {
    let program = Program::on_directory();
    database(&program, "data/app.db", "one");
    database(&program, "data/users.db", "two");
    let pattern = format!("sqlite:{}/*.db", program.path("data").display());
    program.expect(0, &["check", &pattern]);
    program.expect(0, &["backup", &pattern]);
    std::fs::remove_dir_all(program.path("data")).unwrap();
    std::fs::create_dir(program.path("data")).unwrap();
    program.expect(0, &["restore", "latest"]);
    assert_eq!(value(&program.path("data/app.db")), "one");
    assert_eq!(value(&program.path("data/users.db")), "two");
    std::fs::remove_dir_all(program.path("data")).unwrap();
    program.expect(0, &["recover", "latest"]);
    assert_eq!(value(&program.path("data/app.db")), "one");
    assert_eq!(value(&program.path("data/users.db")), "two");
}

/// On a host whose disk is new, the configuration still says which places are meant.
#[test]
fn a_configured_directory_says_where_its_databases_go() {
    let program = configured("[\"data\", \"other/*.sqlite\"]");
    database(&program, "data/app.db", "one");
    database(&program, "other/x.sqlite", "two");
    program.expect(0, &["backup", "full"]);
    let found = sources(&program, "latest");
    assert_eq!(found.len(), 2, "{found:?}");
    std::fs::remove_dir_all(program.path("data")).unwrap();
    std::fs::remove_dir_all(program.path("other")).unwrap();
    std::fs::remove_dir_all(program.state.path()).unwrap();
    program.expect(0, &["recover", "latest"]);
    assert_eq!(value(&program.path("data/app.db")), "one");
    assert_eq!(value(&program.path("other/x.sqlite")), "two");
}

#[test]
fn a_live_database_in_a_file_tree_is_told() {
    let program = Program::on_directory();
    database(&program, "tree/app.db", "one");
    std::fs::write(program.path("tree/plain"), vec![0; 4096]).unwrap();
    let source = format!("files:{}", program.path("tree").display());
    let told = |program: &Program| {
        let output = program.run(&["backup", &source]);
        assert_eq!(output.status.code(), Some(0));
        let show = program.json(&["show", "latest"]);
        show["snapshot"]["sources"][0]["outcome"]["note_counts"]["sqlite-in-files"].as_u64()
    };
    let open = Connection::open(program.path("tree/app.db")).unwrap();
    open.execute("INSERT INTO t VALUES ('more')", []).unwrap();
    assert_eq!(told(&program), Some(1));
    // At rest it is a file like any other.
    drop(open);
    assert_eq!(told(&program), None);
}

/// Object keys keep small letters only: the second would have replaced what the first stored.
#[test]
fn names_that_differ_in_case_alone_keep_their_data_apart() {
    let program = Program::on_directory();
    database(&program, "App.db", "one");
    database(&program, "app.db", "two");
    program.expect(0, &["backup", "sqlite:App.db", "sqlite:app.db"]);
    program.expect(0, &["verify", "latest"]);
    program.expect(0, &["restore", "latest", "--into", "out/"]);
    assert_eq!(value(&program.path("out/App/App.db")), "one");
    assert_eq!(value(&program.path("out/app-2/app.db")), "two");
}

/// A disk that is not mounted is missed although another place holds databases, and what was on it is not called gone.
#[test]
fn a_place_that_is_not_there_is_missed_beside_one_that_is() {
    let program = configured("[\"data/*.db\", \"usb/*.db\"]");
    database(&program, "data/app.db", "one");
    database(&program, "usb/far.db", "two");
    program.expect(0, &["check", "full"]);
    program.expect(0, &["backup", "full"]);
    std::fs::rename(program.path("usb"), program.path("elsewhere")).unwrap();
    program.expect(1, &["check", "full"]);
    let output = program.run(&["backup", "full"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("no SQLite database in") && said.contains("usb/*.db"),
        "{said}"
    );
    assert!(!said.contains("not there any more"), "{said}");
    let found = sources(&program, &program.listed().pop().unwrap());
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found.iter().filter(|(_, good)| *good).count(), 1, "{found:?}");
    // Back again it is whole, and nothing is called new or gone.
    std::fs::rename(program.path("elsewhere"), program.path("usb")).unwrap();
    let output = program.run(&["backup", "full"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        !said.contains("is new since") && !said.contains("not there any more"),
        "{said}"
    );
}

/// Letters of patterns in the name of one file: it goes back to a host where it is not there yet.
#[test]
fn a_file_whose_name_could_be_a_pattern_goes_back() {
    let program = configured("\"data/app{1}.db\"");
    database(&program, "data/app{1}.db", "one");
    program.expect(0, &["backup", "full"]);
    std::fs::remove_dir_all(program.path("data")).unwrap();
    program.expect(0, &["recover", "latest"]);
    assert_eq!(value(&program.path("data/app{1}.db")), "one");
}

/// The program of the tests is no superuser: a directory that it may not list holds what nobody knows.
#[test]
fn a_directory_that_may_not_be_listed_is_missed() {
    use std::os::unix::fs::PermissionsExt;
    let program = configured("\"data\"");
    database(&program, "data/app.db", "one");
    database(&program, "data/tenants/t.db", "two");
    program.expect(0, &["backup", "full"]);
    let tenants = program.path("data/tenants");
    let mode = |mode| std::fs::set_permissions(&tenants, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0);
    let output = program.run(&["backup", "full"]);
    mode(0o755);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("data/tenants\" cannot be searched for databases: Permission denied"),
        "{said}"
    );
    assert!(!said.contains("not there any more"), "{said}");
}
