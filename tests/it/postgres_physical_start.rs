//! `verify --start`: scratch servers on restored base backups, which recover, answer, and are gone afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::log::Repository;
use crate::recovery::{by, primary, segments, write};
use crate::run::Scheduler;
use crate::support::child::Guarded;
use crate::support::data_directory::Server;
use crate::support::postgres::is_root;
use crate::support::program::Program;
use crate::support::wait;
use crate::support::wal_server::{Home, WalServer};

/// A server with its log, verified in a spool directory of its own.
struct Case {
    home: Arc<Home>,
    repository: Repository,
    server: WalServer,
}

impl Case {
    fn new(home: Arc<Home>) -> Self {
        let repository = Repository::directory(&home);
        let server = primary(&home, &repository);
        let spool = home.command("mkdir").arg(home.inside("spool")).status();
        assert!(spool.unwrap().success());
        Self {
            home,
            repository,
            server,
        }
    }

    fn backup(&self) {
        let url = self.server.url();
        self.server
            .json(0, &[&["backup", &url][..], &self.repository.flags()].concat());
    }

    /// The verification of the newest snapshot, with more flags.
    fn words(&self, flags: &[&str]) -> Vec<String> {
        let spool = self.home.inside("spool");
        let verify = [
            "verify",
            "latest",
            "--level",
            "restored",
            "--start",
            "--no-evidence",
            "--spool-dir",
            &spool,
        ];
        let all = [&verify, flags, &self.repository.flags()[..]].concat();
        all.into_iter().map(str::to_owned).collect()
    }

    fn verify(&self, code: i32, flags: &[&str]) -> Value {
        let words = self.words(flags);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let document = self.server.json(code, &words);
        self.nothing_is_left();
        document["verified"][0].clone()
    }

    /// No directory is left over, and no server.
    fn nothing_is_left(&self) {
        let spool = self.home.outside("spool");
        assert_eq!(fs::read_dir(&spool).unwrap().count(), 0, "{}", spool.display());
        assert_eq!(servers_of(&self.home.inside("spool")), Vec::<String>::new());
    }

    /// Begins a verification that waits at a point; returns the file by whose removal it goes on.
    fn held_at(&self, point: &str) -> (Guarded, PathBuf) {
        let words = self.words(&["--json"]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (inside, outside) = (self.home.inside("held"), self.home.outside("held"));
        let mut command = self.server.tool_command(&words);
        command
            .env("WIREVAULT_TEST_HOLD", point)
            .env("WIREVAULT_TEST_HELD", inside);
        let child = Guarded::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        wait::until(point, || outside.exists());
        (child, outside)
    }
}

/// Command lines of processes that name a directory, but for those of this program.
fn servers_of(directory: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines
        .filter(|line| line.contains(&format!("{directory}/wirevault-verify")))
        .collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value:#}"))
}

/// The server holds what was committed by the moment that was chosen, and what was prepared is no obstacle.
fn moments(case: &Case) {
    let server = &case.server;
    server.sql(&["CREATE DATABASE \"an odd 'name'\""]);
    server.sql(&[
        "CREATE TABLE prepared (n int)",
        "BEGIN; INSERT INTO prepared VALUES (1); PREPARE TRANSACTION 'before'",
    ]);
    // Without a log the base is all there is.
    case.backup();
    let alone = case.verify(0, &[]);
    let started = &alone["restored"][0]["started"];
    assert_eq!(
        (&started["rows"], &started["tables"]),
        (&json!(0), &json!(2)),
        "{alone:#}"
    );
    assert_eq!(
        (&started["databases"], &started["closed_databases"]),
        (&json!(3), &json!(1)),
        "{alone:#}"
    );
    assert!(started["catalog_tables"].as_u64().unwrap() > 100, "{alone:#}");

    server.archive_all();
    server.sql(&["BEGIN; INSERT INTO prepared VALUES (2); PREPARE TRANSACTION 'behind'"]);
    write(server, 1, 250);
    server.archive_all();
    for _ in 0..3 {
        let found = case.verify(0, &[]);
        let (log, started) = (&found["logs"][0], &found["restored"][0]["started"]);
        let rows = by(server, text(log, "moment"));
        let rows: u64 = rows.split('|').next().unwrap().parse().unwrap();
        assert_eq!(started["rows"], json!(rows), "{found:#}");
        assert!(started["timeline"].as_u64() > Some(1), "{found:#}");
        if rows > 0 {
            let last = text(started, "last_transaction").parse::<jiff::Timestamp>().unwrap();
            assert!(last <= text(log, "moment").parse().unwrap(), "{found:#}");
        }
        assert_eq!(found["levels"][0]["level"], "restored", "{found:#}");
    }
    let words = case.words(&[]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = server.expect(0, &words);
    assert!(
        said.contains("recovered on it to ") && said.contains("3 databases opened"),
        "{said}"
    );
}

#[test]
fn a_server_recovers_to_a_moment_and_answers() {
    moments(&Case::new(Home::of_15()));
}

#[test]
fn a_server_of_postgresql_18_recovers_to_a_moment_and_answers() {
    if let Some(home) = Home::of_18() {
        moments(&Case::new(home));
    }
}

#[test]
fn what_this_host_cannot_do_is_no_fault_of_the_backup() {
    let case = Case::new(Home::of_15());
    case.backup();
    let why_not = |found: &Value, parts: &[&str]| {
        let said = text(&found["levels"][0], "why_not").to_owned();
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
        assert_eq!(found["damage"], json!([]), "{found:#}");
        assert_eq!(found["levels"][0]["level"], "content", "{found:#}");
    };
    let empty = case.home.inside("spool");
    let found = case.verify(2, &["--bin-dir", &empty]);
    why_not(&found, &["no server of PostgreSQL 15 was found in", "--bin-dir"]);
    assert!(found["restored"][0]["files"].as_u64() > Some(100), "{found:#}");

    // A program of another version.
    let bin = case.home.inside("bin");
    let script = format!(
        "mkdir {bin} && printf '#!/bin/sh\\necho postgres \\(PostgreSQL\\) 14.2\\n' > {bin}/postgres && chmod 755 {bin}/postgres"
    );
    assert!(
        case.home
            .command("sh")
            .args(["-c", &script])
            .status()
            .unwrap()
            .success()
    );
    let found = case.verify(2, &["--bin-dir", &bin]);
    why_not(&found, &["is postgres (PostgreSQL) 14.2"]);
    let found = case.verify(2, &["--run-as", "no-such-user"]);
    why_not(&found, &["no user \"no-such-user\"", "--run-as"]);

    // A log that makes a tablespace: whoever replays it writes there.
    let place = case.home.inside("elsewhere");
    assert!(case.home.command("mkdir").arg(&place).status().unwrap().success());
    case.server.archive_all();
    case.server
        .sql(&[&format!("CREATE TABLESPACE elsewhere LOCATION '{place}'")]);
    write(&case.server, 1, 100);
    case.server.archive_all();
    let before = fs::read_dir(case.home.outside("elsewhere")).unwrap().count();
    let found = case.verify(2, &[]);
    why_not(&found, &["makes a tablespace", &place]);
    // The base alone was proven all the same.
    assert_eq!(found["restored"][0]["started"]["rows"], json!(0), "{found:#}");
    assert_eq!(fs::read_dir(case.home.outside("elsewhere")).unwrap().count(), before);

    let words = ["verify", "latest", "--start"];
    let said = case.server.expect(1, &[&words[..], &case.repository.flags()].concat());
    assert!(said.contains("--level restored"), "{said}");
}

#[test]
fn a_log_that_the_server_cannot_follow_is_a_failure_in_its_words() {
    let case = Case::new(Home::of_15());
    case.backup();
    case.server.archive_all();
    write(&case.server, 1, 300);
    case.server.archive_all();
    // It is whole while it is read, and lacks segments when the server asks for them.
    let (child, held) = case.held_at("scratch-server");
    let shown = case
        .server
        .json(0, &[&["show", "latest"][..], &case.repository.flags()].concat());
    let end = shown["snapshot"]["sources"][0]["outcome"]["position"]["end_lsn"]
        .as_str()
        .unwrap()
        .to_owned();
    let end = u64::from_str_radix(end.split_once('/').unwrap().1, 16).unwrap() >> 20;
    for path in segments(&case.home) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        if u64::from_str_radix(&name[16..], 16).unwrap() > end {
            fs::remove_file(path).unwrap();
        }
    }
    fs::remove_file(held).unwrap();
    let output = finished(child);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{document:#}");
    let damage = document["verified"][0]["damage"][0].as_str().unwrap().to_owned();
    for part in [
        "a server of PostgreSQL 15 could not recover on it to",
        "FATAL:  recovery ended before configured recovery target was reached",
    ] {
        assert!(damage.contains(part), "{part:?} is not in: {damage}");
    }
    case.nothing_is_left();
}

#[test]
fn a_repository_that_the_server_cannot_read_is_no_fault_of_the_backup() {
    if !is_root() {
        return;
    }
    let case = Case::new(Home::of_15());
    case.backup();
    case.server.archive_all();
    write(&case.server, 1, 100);
    case.server.archive_all();
    let (child, held) = case.held_at("scratch-server");
    let repository = case.home.outside("repository");
    let close = |mode: u32| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(&repository, mode).unwrap();
    };
    close(0);
    fs::remove_file(held).unwrap();
    let output = finished(child);
    close(0o700);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{document:#}");
    let found = &document["verified"][0];
    let why_not = text(&found["levels"][0], "why_not");
    for part in [
        "restore_command failed",
        "from archive: child process exited with exit code 200",
    ] {
        assert!(why_not.contains(part), "{part:?} is not in: {why_not}");
    }
    assert_eq!(found["damage"], json!([]), "{found:#}");
    case.nothing_is_left();
}

fn finished(mut child: Guarded) -> Output {
    let mut stdout = Vec::new();
    std::io::Read::read_to_end(child.stdout.as_mut().unwrap(), &mut stdout).unwrap();
    let status = child.wait().unwrap();
    Output {
        status,
        stdout,
        stderr: Vec::new(),
    }
}

#[test]
fn a_signal_ends_the_server_and_removes_its_directory() {
    let case = Case::new(Home::of_15());
    case.backup();
    for point in ["scratch-server", "scratch-server-runs"] {
        let (mut child, held) = case.held_at(point);
        let running = servers_of(&case.home.inside("spool"));
        assert_eq!(!running.is_empty(), point == "scratch-server-runs", "{running:?}");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(!status.success());
        case.nothing_is_left();
        fs::remove_file(held).unwrap();
    }
}

/// A program that knows the superuser's password.
fn program(server: &Server) -> (Program, String) {
    let mut program = Program::on_directory();
    program.set("PGPASSWORD", "secret");
    program.expect(0, &["init", "--no-encryption"]);
    (program, server.url("admin"))
}

const VERIFY: [&str; 6] = ["verify", "latest", "--level", "restored", "--start", "--json"];

/// Verifies as root may, with a spool directory of a mode.
fn verified(program: &Program, code: i32, mode: u32) -> Value {
    let spool = tempfile::tempdir().unwrap();
    fs::set_permissions(spool.path(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("wirevault"));
    program.equip(&mut command);
    let output = command
        .args(VERIFY)
        .arg("--spool-dir")
        .arg(spool.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!(output.status.code(), Some(code), "{document:#}{said}");
    assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 0);
    assert_eq!(servers_of(&spool.path().display().to_string()), Vec::<String>::new());
    document["verified"][0].clone()
}

#[test]
fn root_steps_down_for_the_server_and_tablespaces_lie_beside() {
    if !is_root() {
        return;
    }
    let server = Server::start();
    let fast = server.make_directory("fast");
    server.psql(&format!("CREATE TABLESPACE fast LOCATION '{}'", fast.display()));
    server.psql("CREATE TABLE there TABLESPACE fast AS SELECT g AS a FROM generate_series(1, 1000) g");
    server.psql("CREATE TABLE here AS SELECT g AS a FROM generate_series(1, 20000) g");
    let (program, url) = program(&server);
    program.expect(0, &["backup", &url]);
    let found = verified(&program, 0, 0o755);
    let started = &found["restored"][0]["started"];
    assert_eq!(
        (&started["tables"], &started["rows"]),
        (&json!(2), &json!(21_000)),
        "{found:#}"
    );
    assert!(started["pages"].as_u64() > Some(1000), "{found:#}");
    assert_eq!(found["integrity"], Value::Null, "{found:#}");

    // Root without its powers cannot step down, and a user who may not enter the directory starts nothing.
    let output = program.run(&VERIFY);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("may not run a server as user"), "{said}");
    let found = verified(&program, 2, 0o700);
    let why_not = text(&found["levels"][0], "why_not");
    assert!(why_not.contains("may not enter the spool directory"), "{why_not}");
}

/// Changes bytes of a table's file while the server is stopped.
fn damage(server: &Server, file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    server.stop();
    let path = server.data().join(file);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    // Nothing else looks at the table.
    server.run(&["autovacuum=off"]);
}

#[test]
fn damaged_pages_are_told_by_who_wrote_them() {
    if !is_root() {
        return;
    }
    let server = Server::start();
    server.psql("CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 10000) g; CHECKPOINT");
    let file = server.psql("SELECT pg_relation_filepath('t')");
    let (program, url) = program(&server);
    // A page that says to be younger than the backup is passed over by the server and by the backup, for the log would bring it.
    damage(&server, Path::new(&file), |bytes| {
        bytes[3 * 8192..3 * 8192 + 8].copy_from_slice(&[0x7f; 8]);
    });
    program.expect(0, &["backup", &url]);
    let found = verified(&program, 1, 0o755);
    let lines: Vec<&str> = found["damage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    let page = format!("after the recovery, {file}: wrong page checksum in block 3");
    assert!(lines.iter().any(|line| line.contains(&page)), "{found:#}");
    assert!(lines.iter().any(|line| line.contains("table public.t")), "{found:#}");

    // One that is older was damaged before it was stored, as the base backup said.
    damage(&server, Path::new(&file), |bytes| {
        bytes[3 * 8192..3 * 8192 + 8].copy_from_slice(&[0; 8]);
    });
    let output = program.run(&["backup", &url]);
    assert_eq!(output.status.code(), Some(2));
    let found = verified(&program, 2, 0o755);
    assert_eq!(found["damage"], json!([]), "{found:#}");
    let integrity = found["integrity"].to_string();
    let page = format!("{file}: wrong page checksum in block 3");
    assert!(
        integrity.contains(&page) && integrity.contains("table public.t"),
        "{found:#}"
    );
}

#[test]
fn a_drill_starts_a_server_or_says_why_not() {
    let server = Server::start();
    let (program, url) = program(&server);
    let config = |level: &str, more: &str| {
        let text = format!(
            "[repository]\nurl = \"{}\"\n[source.db]\nkind = \"postgres-physical\"\nurl = \"{url}\"\n[job.full]\nsources = [\"db\"]\n\
             [drill.sunday]\nschedule = \"* * * * *\"\nlevel = \"{level}\"\n{more}",
            program.path("repo").display()
        );
        fs::write(program.path("wirevault.toml"), text).unwrap();
    };
    config("content", "start = true\n");
    program.refused(&["config"], "has \"start\", but level content", "restored");
    config("restored", "run_as = \"scratch\"\n");
    program.refused(&["config"], "starts no server", "start = true");

    config("restored", "start = true\n");
    program.expect(0, &["backup", "full"]);
    let drills = Scheduler::start_with(&program, &["--drills-only"]);
    let (proved, ended) = (drills.event("proved"), drills.event("ended"));
    // Without its powers root cannot step down.
    if is_root() {
        assert_eq!(proved["level"], "content", "{proved}");
        let error = ended["error"].as_str().unwrap();
        assert!(error.contains("may not run a server as user \"postgres\""), "{ended}");
    } else {
        assert_eq!(proved["level"], "restored", "{proved} {ended}");
    }
    drills.end();
}
