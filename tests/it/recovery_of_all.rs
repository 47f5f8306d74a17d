//! `recover --at`: every source of a host as of one moment; a server by its log, and what has none as of its newest snapshot before it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::log::Repository;
use crate::recovery::{by, committed, primary, rows, segments, started, write};
use crate::support::program::Program;
use crate::support::redis::{Kind, RedisServer};
use crate::support::redis_log::{Receiver, base_is_there};
use crate::support::wait;
use crate::support::wal_server::{Home, WalServer};

/// A host: a server with its log, a tree of files, and two jobs.
struct Host {
    home: Arc<Home>,
    server: WalServer,
}

impl Host {
    fn start() -> Self {
        let home = Home::of_15();
        let repository = Repository::directory(&home);
        let server = primary(&home, &repository);
        let host = Self { home, server };
        host.run("mkdir", &[&host.home.inside("etc")]);
        host.write_file("first");
        let config = format!(
            "[repository]\nurl = \"{}\"\n\n[source.db]\nkind = \"postgres-physical\"\nurl = \"{}\"\n\n\
             [source.etc]\nkind = \"files\"\nroot = \"{}\"\n\n[job.full]\nsources = [\"db\"]\n\n[job.files]\nsources = [\"etc\"]\n",
            repository.flags()[1],
            host.server.url(),
            host.home.inside("etc")
        );
        fs::write(host.home.outside("wirevault.toml"), config).unwrap();
        host
    }

    /// Runs a program as the server's user, to whom all of this belongs.
    fn run(&self, program: &str, arguments: &[&str]) {
        let status = self.home.command(program).args(arguments).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}");
    }

    fn file(&self) -> PathBuf {
        self.home.outside("etc/app.conf")
    }

    fn write_file(&self, text: &str) {
        let script = format!("printf %s {text} > {}", self.home.inside("etc/app.conf"));
        self.run("sh", &["-c", &script]);
    }

    /// The flags of a command on this host: its configuration, and for a recovery its state.
    fn flags(&self) -> [String; 2] {
        ["--config".to_owned(), self.home.inside("wirevault.toml")]
    }

    fn backup(&self, job: &str) -> Value {
        let flags = self.flags();
        self.server.json(0, &["backup", job, &flags[0], &flags[1]])
    }

    fn recover(&self, code: i32, words: &[&str], is_json: bool) -> (Value, String) {
        let flags = self.flags();
        let state = self.home.inside("recover.json");
        let all = [
            &["recover", "latest"],
            words,
            &["--state", &state, &flags[0], &flags[1]],
        ]
        .concat();
        if is_json {
            (self.server.json(code, &all), String::new())
        } else {
            (Value::Null, self.server.expect(code, &all))
        }
    }
}

fn source<'a>(document: &'a Value, name: &str) -> &'a Value {
    let sources = document["sources"].as_array().unwrap();
    sources.iter().find(|one| one["source"] == name).unwrap()
}

#[test]
fn every_source_of_a_host_comes_back_as_of_one_moment() {
    let host = Host::start();
    let server = &host.server;
    let before = server.sql(&["SELECT clock_timestamp()"]);
    let files = host.backup("files");
    let base = host.backup("full");
    write(server, 1, 100);
    let (moment, later) = (committed(server, 60, 0), committed(server, 61, 0));
    let expected = by(server, &moment);
    // What comes after the moment: of one source a newer snapshot, of the other a newer base.
    host.write_file("second");
    host.backup("files");
    host.backup("full");
    write(server, 101, 150);
    server.archive_all();
    // How far that goes is said.
    let flags = host.flags();
    let sources = server.json(0, &["status", &flags[0], &flags[1]]);
    let log = &sources
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["source"] == "db")
        .unwrap()["log"];
    assert!(
        log["to"].is_string() && log["last_time"].is_string() && log["error"].is_null(),
        "{log:#}"
    );
    let said = server.expect(0, &["status", &flags[0], &flags[1]]);
    assert!(said.contains("log of db: recoverable to "), "{said}");
    let id = |document: &Value| document["snapshots"][0]["id"].clone();

    let into = host.home.inside("recovered");
    let directory = format!("db={into}");
    let to = ["--at", moment.as_str(), "--data-directory", directory.as_str()];
    let (plan, _) = host.recover(0, &[&to[..], &["--clean", "--dry-run"]].concat(), true);
    assert_eq!(source(&plan, "db")["snapshot"], id(&base), "{plan:#}");
    assert_eq!(source(&plan, "etc")["snapshot"], id(&files), "{plan:#}");
    let as_of = |name: &str| {
        source(&plan, name)["as_of"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
    };
    let at: jiff::Timestamp = moment.replace(' ', "T").parse().unwrap();
    assert_eq!(as_of("db"), at);
    assert!(as_of("etc") < at);
    let apart = at.duration_since(as_of("etc")).as_secs_f64();
    assert!(
        (plan["skew_seconds"].as_f64().unwrap() - apart).abs() < 0.001,
        "{plan:#}"
    );
    let tree = plan["plan"]["trees"]
        .as_array()
        .unwrap()
        .iter()
        .find(|tree| tree["source"] == "db")
        .unwrap();
    assert_eq!(
        tree["recovery"]["target"],
        json!({ "kind": "time", "value": at }),
        "{plan:#}"
    );
    assert!(!host.home.outside("recovered").exists());

    let (_, said) = host.recover(0, &[&to[..], &["--clean"]].concat(), false);
    for part in [
        "by its log",
        " before: snapshot",
        "sources are up to",
        "start the server of db",
    ] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    assert_eq!(fs::read_to_string(host.file()).unwrap(), "first");
    let recovered = started(server.without_data("recovered"));
    assert_eq!(rows(&recovered), expected, "{moment}");
    drop(recovered);

    // To the end of the log, into the directory that the configuration names; of the files the newest.
    let mut config = fs::read_to_string(host.home.outside("wirevault.toml")).unwrap();
    let own = host.home.inside("own");
    config = config.replace("[source.etc]", &format!("data_directory = \"{own}\"\n\n[source.etc]"));
    fs::write(host.home.outside("wirevault.toml"), config).unwrap();
    host.recover(0, &["--at", "latest", "--clean"], false);
    assert_eq!(fs::read_to_string(host.file()).unwrap(), "second");
    assert_eq!(rows(&started(server.without_data("own"))), rows(server));

    // What cannot be reached is said of the source, and nothing is written.
    let refused = ["--at", before.as_str(), "--clean", "--dry-run"];
    let (_, said) = host.recover(1, &refused, false);
    assert!(said.contains("no snapshot for \"latest\" from before"), "{said}");
    let end = server.sql(&["SELECT clock_timestamp()"]);
    let (_, said) = host.recover(
        1,
        &[
            "--at",
            &end,
            "--clean",
            "--only",
            "db",
            "--data-directory",
            "db=/nowhere",
        ],
        false,
    );
    assert!(
        said.contains("problem: source db: ") && said.contains("the log ends at"),
        "{said}"
    );
    let newest = host.backup("files");
    let named = id(&newest);
    let flags = host.flags();
    let said = server.expect(
        1,
        &["recover", named.as_str().unwrap(), "--at", &later, &flags[0], &flags[1]],
    );
    assert!(said.contains("is before that"), "{said}");
}

/// A server on what was restored of a log of commands.
fn loaded(server: &RedisServer, directory: &Path) -> RedisServer {
    RedisServer::start_in(server.kind, &["--appendonly", "yes"], |own| {
        let status = Command::new("cp")
            .arg("-a")
            .arg(directory.join("appendonlydir"))
            .arg(own)
            .status();
        assert!(status.unwrap().success());
    })
}

#[test]
fn a_cache_comes_back_by_its_commands_beside_the_files_of_its_job() {
    let server = RedisServer::start(Kind::Redis7, &["--repl-backlog-size", "64mb"]);
    let program = Program::on_directory();
    fs::create_dir(program.path("etc")).unwrap();
    fs::write(program.path("etc/app.conf"), "first").unwrap();
    let config = |more: &str| {
        let config = format!(
            "[repository]\nurl = \"{}\"\n\n[source.cache]\nkind = \"redis\"\nurl = \"{}\"\n{more}\n[source.etc]\nkind = \"files\"\n\
             root = \"{}\"\n\n[job.all]\nsources = [\"cache\", \"etc\"]\n",
            program.path("repo").display(),
            server.url(),
            program.path("etc").display()
        );
        fs::write(program.path("wirevault.toml"), config).unwrap();
    };
    config("");
    program.expect(0, &["init", "--no-encryption"]);
    let mut receiver = Receiver::start_with(&program, "cache", &[]);
    base_is_there(&program);
    let mut client = server.client();
    client.say("SET first mark");
    receiver.catch_up(&server);
    program.expect(0, &["backup", "all"]);
    for number in 1..=20 {
        client.say(&format!("RPUSH numbers {number}"));
    }
    receiver.catch_up(&server);
    // The first mark behind them is at this moment or before it, and the next one behind it.
    let wanted = jiff::Timestamp::now();
    wait::until("the clock goes on", || jiff::Timestamp::now() > wanted);
    client.say("RPUSH numbers 21");
    fs::write(program.path("etc/app.conf"), "second").unwrap();
    program.expect(0, &["backup", "all"]);
    receiver.catch_up(&server);
    receiver.stop();
    let at = ["--at", &wanted.to_string()];

    // Both below one directory: the files as of the snapshot before, the cache by its commands.
    let into = program.path("out").display().to_string();
    let restore = [&["restore", "latest:all", "--into", &into], &at[..]].concat();
    let plan = program.json(&[&restore[..], &["--dry-run"]].concat());
    let planned = plan["would_restore"].as_array().unwrap();
    let names: Vec<_> = planned.iter().map(|one| one["source"].as_str().unwrap()).collect();
    assert_eq!(names, ["etc", "cache"], "{plan:#}");
    assert!(
        planned[1]["redis"]["to"].is_string() && !program.path("out").exists(),
        "{plan:#}"
    );
    let done = program.json(&restore);
    assert!(done["errors"].as_array().unwrap().is_empty(), "{done:#}");
    assert_eq!(fs::read_to_string(program.path("out/etc/app.conf")).unwrap(), "first");
    let copy = loaded(&server, &program.path("out/cache"));
    // What came in the half second before the moment may be missing.
    let held = copy.client().integer("LLEN numbers");
    assert!(held <= 20, "{held}: {done:#}");
    drop(copy);
    // Of several sources none goes to a moment in a server.
    let refused = [&["restore", "latest:all", "--clean"], &at[..]].concat();
    program.refused(
        &refused,
        "has a log, and together with others it is restored to a moment into a directory alone",
        "Add --into DIRECTORY",
    );

    // A recovery, into the data directory that the configuration names; without one the cache is as of its snapshot.
    let own = program.path("own");
    let recover = [&["recover", "latest", "--clean"], &at[..]].concat();
    let plan = program.json(&[&recover[..], &["--dry-run"]].concat());
    assert_eq!(plan["plan"]["databases"][0]["source"], "cache", "{plan:#}");
    config(&format!("data_directory = \"{}\"\n", own.display()));
    let plan = program.json(&[&recover[..], &["--dry-run"]].concat());
    assert_eq!(plan["plan"]["databases"], json!([]), "{plan:#}");
    let moment = source(&plan, "cache")["as_of"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();
    assert!(moment <= wanted, "{plan:#}");
    let done = program.json(&recover);
    assert!(done["failed"].as_array().unwrap().is_empty(), "{done:#}");
    assert_eq!(fs::read_to_string(program.path("etc/app.conf")).unwrap(), "first");
    assert_eq!(loaded(&server, &own).client().integer("LLEN numbers"), held);
}

#[test]
fn a_verification_reads_the_log_to_a_moment() {
    let host = Host::start();
    let (server, flags) = (&host.server, host.flags());
    let verify = [
        "verify",
        "latest",
        "--level",
        "restored",
        &flags[0],
        &flags[1],
        "--no-evidence",
    ];
    host.backup("full");
    server.archive_all();
    let begun = jiff::Timestamp::now();
    write(server, 1, 200);
    let ended = jiff::Timestamp::now();
    server.archive_all();
    let done = server.json(0, &verify);
    let log = &done["verified"][0]["logs"][0];
    assert_eq!(log["source"], "db", "{done:#}");
    let moment = log["moment"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(
        begun <= moment && moment <= ended,
        "{begun}, {moment}, {ended}: {done:#}"
    );
    assert!(log["segments"].as_u64() > Some(0), "{done:#}");
    let said = server.expect(0, &verify);
    assert!(said.contains("log of db read to "), "{said}");

    // Whatever moment is chosen, it lies behind the first segment; the digest of that one no longer holds.
    let mut segments = segments(&host.home);
    segments.sort();
    let first = log["from"].as_str().unwrap().rsplit_once('/').unwrap().1;
    let number = u64::from_str_radix(first, 16).unwrap() >> 20;
    let name = format!("0000000100000000{number:08X}");
    let damaged = segments
        .iter()
        .find(|path| path.file_stem().unwrap().to_str().unwrap() == name);
    let damaged = damaged.unwrap_or_else(|| panic!("{name} is none of {segments:?}"));
    let mut bytes = fs::read(damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(damaged, bytes).unwrap();
    // The base itself is sound, and not called damaged for it.
    let said = server.expect(2, &verify);
    assert!(said.contains("its log is damaged") && said.contains(&name), "{said}");
    let done = server.json(2, &verify);
    assert_eq!(done["verified"][0]["damage"], json!([]), "{done:#}");
}
