//! Base backups of real servers, restored into data directories that servers start from.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use crate::support::data_directory::Server;
use crate::support::postgres::is_root;
use crate::support::program::Program;
use crate::support::wait;

/// A program that knows the superuser's password.
fn program() -> Program {
    let mut program = Program::on_directory();
    program.set("PGPASSWORD", "secret");
    program.expect(0, &["init", "--no-encryption"]);
    program
}

/// Checks that a verb refuses a source with one error and one hint.
fn refused_by(program: &Program, verb: &str, url: &str, message: &str, hint: &str) {
    let output = program.run(&[verb, url]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(message), "{message:?} is not in: {said}");
    assert!(said.contains(hint), "{hint:?} is not in: {said}");
    assert!(!said.contains("secret") && !said.contains("geheim"), "{said}");
}

/// Returns what the newest snapshot says of its only source.
fn latest(program: &Program) -> Value {
    program.json(&["show", "latest"])["snapshot"]["sources"][0].clone()
}

fn text(program: &Program, name: &str) -> String {
    program.path(name).display().to_string()
}

/// Runs with all capabilities that the test has.
fn with_capabilities(program: &Program, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("wirevault"));
    program.equip(&mut command);
    command.args(arguments).output().unwrap()
}

/// Ends a writer when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn base_under_a_writer(server: &Server) {
    let program = program();
    server.psql("CREATE TABLE journal (n bigint PRIMARY KEY, v text)");
    server.psql("CREATE TABLE big AS SELECT g AS a, repeat('x', 100) AS b FROM generate_series(1, 50000) g");
    server.psql("CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS a");
    let url = server.url("admin");
    let (confirmed, ends) = (AtomicU64::new(0), AtomicBool::new(false));
    let (before, after) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1.. {
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                server.psql(&format!("INSERT INTO journal VALUES ({n}, 'v{n}')"));
                confirmed.store(n, Ordering::SeqCst);
            }
        });
        // Also where the backup fails: the writer is waited for.
        let ends = Ends(&ends);
        wait::until("rows are written", || confirmed.load(Ordering::SeqCst) > 3);
        let before = confirmed.load(Ordering::SeqCst);
        let said = program.expect(0, &["backup", &url]);
        drop(ends);
        assert!(said.contains("postgres-physical"), "{said}");
        (before, confirmed.load(Ordering::SeqCst) + 1)
    });

    let source = latest(&program);
    let outcome = &source["outcome"];
    assert_eq!(source["kind"], "postgres-physical");
    let system = server.psql("SELECT system_identifier FROM pg_control_system()");
    assert_eq!(outcome["position"]["system_identifier"], Value::String(system));
    assert_eq!(outcome["position"]["data_checksums"], "true");
    assert!(
        program
            .expect(0, &["show", "latest"])
            .contains("is a base backup of PostgreSQL")
    );
    for level in ["stored", "content", "restored"] {
        let said = program.expect(0, &["verify", "latest", "--level", level]);
        assert_eq!(said.contains("no server of PostgreSQL"), level == "restored", "{said}");
    }
    let version = server.psql("SHOW server_version_num");
    let major = version.parse::<u32>().unwrap() / 10_000;
    assert_eq!(
        program.expect(0, &["cat", "latest", "postgres-physical", "PG_VERSION"]),
        format!("{major}\n")
    );

    let into = program.path("restored");
    let plan = program.expect(
        0,
        &["restore", "latest", "--into", &text(&program, "restored"), "--dry-run"],
    );
    assert!(
        plan.contains(&format!("needs PostgreSQL {major}")) && !into.exists(),
        "{plan}"
    );
    let said = program.expect(0, &["restore", "latest", "--into", &text(&program, "restored")]);
    assert!(
        said.contains(&format!("start a server of PostgreSQL {major}")),
        "{said}"
    );
    assert_eq!(into.metadata().unwrap().mode() & 0o7777, 0o700);
    assert_eq!(into.join("base").metadata().unwrap().mode() & 0o7777, 0o700);

    let restored = server.on_copy_of(&into, "restored");
    let judged = server.verify_backup(&restored.data(), &[]);
    assert!(judged.contains("successfully verified"), "{judged}");
    restored.run(&[]);
    let found = restored.psql("SELECT count(*), max(n), bool_and(v = 'v' || n) FROM journal");
    let parts: Vec<&str> = found.split('|').collect();
    let rows: u64 = parts[0].parse().unwrap();
    assert_eq!((parts[1], parts[2]), (parts[0], "t"), "{found}");
    assert!((before..=after).contains(&rows), "{before} {found} {after}");
    assert_eq!(
        restored.psql("SELECT count(*), sum(a), sum(length(b)) FROM big"),
        "50000|1250025000|5000000"
    );
    assert_eq!(restored.psql("SELECT count(*) FROM unlogged"), "0");
    assert_eq!(restored.psql("SELECT count(*) FROM pg_replication_slots"), "0");
    assert_eq!(server.psql("SELECT count(*) FROM pg_replication_slots"), "0");
}

#[test]
fn a_base_under_a_writer_is_what_was_committed() {
    base_under_a_writer(&Server::start());
}

#[test]
fn a_base_of_postgresql_18_is_what_was_committed() {
    if let Some(server) = Server::start_18() {
        base_under_a_writer(&server);
    }
}

#[test]
fn tablespaces_go_where_they_are_sent_and_nowhere_else() {
    let server = Server::start();
    let fast = server.make_directory("fast");
    server.psql(&format!("CREATE TABLESPACE fast LOCATION '{}'", fast.display()));
    server.psql("CREATE TABLE there TABLESPACE fast AS SELECT g AS a FROM generate_series(1, 1000) g");
    let program = program();
    let url = server.url("admin");
    program.expect(0, &["backup", &url]);
    program.expect(0, &["verify", "latest", "--level", "restored"]);
    let restore = |flags: &[&str]| {
        let into = text(&program, "at/data");
        with_capabilities(&program, &[&["restore", "latest", "--into", &into], flags].concat())
    };
    let refused = |flags: &[&str], message: &str| {
        let output = restore(flags);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(1) && said.contains(message),
            "{flags:?}: {said}"
        );
        assert!(!program.path("at").exists(), "{flags:?}");
    };
    let old = fast.display();
    refused(&[], "no directory given for tablespace");
    refused(&["--tablespace", "/elsewhere=/x"], "has no tablespace \"/elsewhere\"");
    refused(&["--tablespace", &format!("{old}={old}")], "is not empty");
    refused(
        &["--tablespace", &format!("{old}={}", text(&program, "at/data/x"))],
        "within another",
    );

    // Files belong to the owner of the directory where root restores.
    std::fs::create_dir(program.path("at")).unwrap();
    std::fs::set_permissions(program.place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    server.own(&program.path("at"));
    let output = restore(&["--tablespace", &format!("{old}={}", text(&program, "at/space"))]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("tablespace_map was left out"), "{said}");
    let owner = program.path("at").metadata().unwrap().uid();
    let files = [
        "at/data/PG_VERSION",
        "at/data/global/pg_control",
        "at/data/pg_tblspc",
        "at/data",
        "at/space",
    ];
    for file in files {
        assert_eq!(program.path(file).metadata().unwrap().uid(), owner, "{file}");
    }
    let restored = server.on_copy_of(&program.path("at/data"), "restored");
    let judged = server.verify_backup(&restored.data(), &["-i", "tablespace_map"]);
    assert!(judged.contains("successfully verified"), "{judged}");
    restored.run(&[]);
    assert_eq!(restored.psql("SELECT count(*), sum(a) FROM there"), "1000|500500");
    restored.psql("INSERT INTO there VALUES (1); CHECKPOINT");
    let link = restored.psql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'");
    assert_eq!(link, text(&program, "at/space"));
    assert_eq!(server.psql("SELECT count(*) FROM there"), "1000");
}

#[test]
fn a_base_of_a_standby_starts_as_a_primary() {
    let primary = Server::start();
    primary.psql("CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 1000) g");
    let standby = primary.standby();
    wait::until("the standby has replayed", || {
        standby.psql("SELECT to_regclass('t') IS NOT NULL") == "t"
    });
    let program = program();
    let url = standby.url("admin");
    let checked = program.expect(0, &["check", &url]);
    assert!(checked.contains("it is a standby"), "{checked}");
    program.expect(0, &["backup", &url]);
    let source = latest(&program);
    assert_eq!(source["outcome"]["note_counts"]["standby"], 1);
    let said = program.expect(0, &["restore", "latest", "--into", &text(&program, "restored")]);
    assert!(said.contains("standby.signal was left out"), "{said}");
    let restored = primary.on_copy_of(&program.path("restored"), "restored");
    restored.run(&[]);
    assert_eq!(restored.psql("SELECT pg_is_in_recovery(), count(*) FROM t"), "f|1000");
}

#[test]
fn what_the_server_refuses_comes_with_what_to_change() {
    let server = Server::start();
    server.psql("CREATE ROLE plain LOGIN PASSWORD 'secret'");
    server.psql("CREATE ROLE backup LOGIN REPLICATION PASSWORD 'secret'");
    let mut program = program();
    program.expect(0, &["backup", &server.url("backup")]);
    for verb in ["backup", "check"] {
        refused_by(
            &program,
            verb,
            &server.url("plain"),
            "replication",
            "ALTER ROLE \"plain\" REPLICATION",
        );
    }
    program.set("PGPASSWORD", "geheim");
    refused_by(
        &program,
        "backup",
        &server.url("backup"),
        "password authentication failed",
        "PGPASSWORD",
    );
    program.set("PGPASSWORD", "secret");

    // A lasting slot in the only place; then no place at all.
    server.stop();
    server.run(&["max_replication_slots=1"]);
    server.psql("SELECT pg_create_physical_replication_slot('other')");
    refused_by(
        &program,
        "backup",
        &server.url("backup"),
        "all replication slots are in use",
        "max_replication_slots",
    );
    let checked = String::from_utf8_lossy(&program.run(&["check", &server.url("admin")]).stdout).into_owned();
    assert!(checked.contains("all 1 replication slots are in use"), "{checked}");
    server.psql("SELECT pg_drop_replication_slot('other')");
    server.stop();
    server.run(&["max_replication_slots=0"]);
    program.expect(0, &["backup", &server.url("backup")]);
    let source = latest(&program);
    assert_eq!(source["outcome"]["note_counts"]["wal-not-kept"], 1);
    server.stop();
    server.run(&["max_wal_senders=0"]);
    refused_by(
        &program,
        "backup",
        &server.url("backup"),
        "max_wal_senders",
        "raise max_wal_senders",
    );

    let hba = server.data().join("pg_hba.conf");
    std::fs::write(&hba, "host all all 127.0.0.1/32 scram-sha-256\n").unwrap();
    server.stop();
    server.run(&[]);
    refused_by(
        &program,
        "backup",
        &server.url("backup"),
        "no pg_hba.conf entry",
        "host replication backup",
    );
}

#[test]
fn a_damaged_page_is_named_and_the_base_is_there() {
    let server = Server::start();
    server.psql("CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 10000) g; CHECKPOINT");
    let file = server.psql("SELECT pg_relation_filepath('t')");
    server.stop();
    let path = server.data().join(&file);
    let mut bytes = std::fs::read(&path).unwrap();
    for block in [3, 5] {
        bytes[block * 8192 + 4000] ^= 0x40;
    }
    std::fs::write(&path, &bytes).unwrap();
    // Nothing else looks at the table.
    server.run(&["autovacuum=off"]);
    let program = program();
    let output = program.run(&["backup", &server.url("admin")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains(&file) && said.contains("wrong page checksum in blocks 3, 5"),
        "{said}"
    );
    program.expect(0, &["verify", "latest"]);
    let output = program.run(&["restore", "latest", "--into", &text(&program, "restored")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("1 file had damaged pages"), "{said}");
    assert_eq!(std::fs::read(program.path("restored").join(&file)).unwrap(), bytes);
}

#[test]
fn a_directory_that_holds_something_is_replaced_only_where_it_may_be() {
    let server = Server::start();
    let program = program();
    program.expect(0, &["backup", &server.url("admin")]);
    let into = text(&program, "data");
    program.refused(&["restore", "latest"], "goes into a directory", "--into DIRECTORY");
    program.refused(
        &["restore", "latest", "--into", &server.url("admin")],
        "into no URL",
        "--into DIRECTORY",
    );
    std::fs::create_dir(program.path("data")).unwrap();
    std::fs::write(program.path("data/old"), b"old").unwrap();
    program.refused(&["restore", "latest", "--into", &into], "is not empty", "--clean");
    std::fs::write(program.path("data/postmaster.pid"), b"1\n").unwrap();
    program.refused(
        &["restore", "latest", "--into", &into, "--clean"],
        "a server may run",
        "pg_ctl stop",
    );
    std::fs::remove_file(program.path("data/postmaster.pid")).unwrap();
    let plan = program.expect(0, &["restore", "latest", "--into", &into, "--clean", "--dry-run"]);
    assert!(plan.contains("kept beside"), "{plan}");
    let said = program.expect(0, &["restore", "latest", "--into", &into, "--clean"]);
    assert!(said.contains("the previous data is kept in"), "{said}");
    assert!(program.path("data/global/pg_control").exists() && !program.path("data/old").exists());
    let undone = program.expect(0, &["restore", "latest", "--into", &into, "--undo"]);
    assert!(undone.contains("again"), "{undone}");
    assert_eq!(std::fs::read(program.path("data/old")).unwrap(), b"old");
    // Nothing of a restore is left over.
    let names = std::fs::read_dir(program.place.path()).unwrap().flatten();
    let names: Vec<String> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.ends_with(".tmp")), "{names:?}");
}

#[test]
fn an_archive_is_a_data_directory_by_hand() {
    let server = Server::start();
    server.psql("CREATE TABLE t AS SELECT 7 AS a");
    let program = program();
    program.expect(0, &["backup", &server.url("admin")]);
    let hand = program.path("by-hand");
    std::fs::create_dir(&hand).unwrap();
    std::fs::set_permissions(&hand, PermissionsExt::from_mode(0o700)).unwrap();
    let script = "cat $(find repo -name '0*.tar.zst' | sort) | zstd -dc | tar -xi -C by-hand --no-same-owner";
    let mut shell = std::process::Command::new("sh");
    let unpacked = shell.args(["-c", script]).current_dir(program.place.path()).status();
    assert!(unpacked.unwrap().success(), "{script}");
    let restored = server.on_copy_of(&hand, "restored");
    restored.run(&[]);
    assert_eq!(restored.psql("SELECT a FROM t"), "7");
}

#[test]
fn a_configured_source_takes_its_choices() {
    let server = Server::start();
    let program = program();
    std::fs::write(program.path("password"), "secret\n").unwrap();
    let config = format!(
        "[source.cluster]\nkind = \"postgres-physical\"\nurl = \"{}\"\npassword_file = \"password\"\ncheckpoint = \"fast\"\n\
         manifest_checksums = \"sha256\"\nrate_limit = \"200MiB/s\"\n[job.full]\nsources = [\"cluster\"]\n",
        server.url("admin")
    );
    std::fs::write(program.path("wirevault.toml"), config).unwrap();
    program.expect(0, &["check", "full"]);
    program.expect(0, &["backup", "full"]);
    let manifest = program.expect(0, &["cat", "latest:full", "cluster", "backup_manifest"]);
    assert!(manifest.contains("\"Checksum-Algorithm\": \"SHA256\""));
    program.expect(0, &["verify", "latest:full", "--level", "restored"]);
    program.expect(0, &["status"]);
    // Without capabilities root cannot give files away, which is said.
    if is_root() {
        let owned = program.path("owned");
        std::fs::create_dir(&owned).unwrap();
        std::fs::set_permissions(&owned, PermissionsExt::from_mode(0o777)).unwrap();
        server.own(&owned);
        let output = program.run(&["restore", "latest:full", "--into", &text(&program, "owned")]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("chown -R"), "{said}");
    }
}
