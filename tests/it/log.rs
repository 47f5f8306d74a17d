//! The archive of the write-ahead log: servers that archive into it, and recover out of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use wirevault::engines::postgres::wal::{Lsn, RecordKind, Scan, SegmentHeader, Timeline};

use crate::documents::pin_output;
use crate::support::program::{files_below, serve_s3};
use crate::support::wal_server::{Home, WalServer};

/// Where a server archives: a directory, or a bucket.
pub(crate) struct Repository {
    /// What says it on the command line, behind `--to` or `--from`.
    url: String,
    variables: Vec<(&'static str, &'static str)>,
    endpoint: Option<String>,
}

impl Repository {
    pub(crate) fn directory(home: &Home) -> Self {
        Self {
            url: home.inside("repository"),
            variables: Vec::new(),
            endpoint: None,
        }
    }

    pub(crate) fn bucket(home: &Home) -> Self {
        fs::create_dir_all(home.outside("s3/bucket")).unwrap();
        Self {
            url: "s3://bucket/app".to_owned(),
            variables: vec![
                ("AWS_ACCESS_KEY_ID", "tester"),
                ("AWS_SECRET_ACCESS_KEY", "tester-secret"),
                ("AWS_REGION", "us-east-1"),
            ],
            endpoint: Some(serve_s3(&home.outside("s3"))),
        }
    }

    pub(crate) fn flags(&self) -> Vec<&str> {
        let endpoint = self.endpoint.iter().flat_map(|endpoint| ["--endpoint", endpoint]);
        ["--repository", &self.url].into_iter().chain(endpoint).collect()
    }

    fn words(&self) -> String {
        self.flags().join(" ")
    }
}

/// Makes a repository and a server that archives into it, with more lines of configuration; it runs.
pub(crate) fn archiving(home: &Arc<Home>, repository: &Repository, more: &str) -> WalServer {
    let server = WalServer::init(home, "primary", &repository.variables);
    server.expect(0, &[&["init", "--no-encryption"][..], &repository.flags()].concat());
    let push = format!("{} log push %p {}", home.inside("wirevault"), repository.words());
    let lines = format!("archive_mode = on\narchive_command = '{push}'\nmax_prepared_transactions = 5\n{more}");
    server.append("postgresql.conf", &lines);
    server.start();
    server
}

/// Tells a data directory to recover with the program.
fn recover(server: &WalServer, repository: &Repository, signal: &str) {
    let fetch = format!(
        "{} log fetch %f %p {}",
        server.home.inside("wirevault"),
        repository.words()
    );
    server.append("postgresql.conf", &format!("restore_command = '{fetch}'\n"));
    server.append(signal, "");
}

/// Writes rows in many transactions, some of them undone, some in two phases.
fn load(server: &WalServer, from: u32, to: u32) {
    let (half, prepared) = (from.midpoint(to), format!("p{from}"));
    server.sql(&[
        "CREATE TABLE IF NOT EXISTS rows (number int, text text)",
        &format!(
            "DO $$ BEGIN FOR i IN {from}..{half} LOOP INSERT INTO rows SELECT i, repeat(md5(i::text), 20); COMMIT; END LOOP; END $$"
        ),
        "BEGIN; INSERT INTO rows VALUES (-1, 'undone'); SAVEPOINT a; INSERT INTO rows VALUES (-2, 'x'); ROLLBACK",
        &format!("BEGIN; INSERT INTO rows SELECT i, 'two phases' FROM generate_series({half} + 1, {to}) i; PREPARE TRANSACTION '{prepared}'"),
        &format!("COMMIT PREPARED '{prepared}'"),
        &format!("BEGIN; INSERT INTO rows VALUES (-3, 'x'); PREPARE TRANSACTION '{prepared}'"),
        &format!("ROLLBACK PREPARED '{prepared}'"),
        "SELECT pg_create_restore_point('here')",
    ]);
}

fn rows(server: &WalServer) -> String {
    server.sql(&["SELECT count(*), sum(number), md5(string_agg(text, ',' ORDER BY number)) FROM rows"])
}

fn show(server: &WalServer, repository: &Repository) -> Value {
    server.json(0, &[&["log", "show"][..], &repository.flags()].concat())["logs"].clone()
}

/// Archives under load, loses the server, recovers a cold copy to the newest row, promotes it, and goes on on its timeline.
fn archive_and_recover(home: &Arc<Home>, repository: &Repository) {
    let primary = archiving(home, repository, "");
    load(&primary, 1, 400);
    primary.stop("fast");
    let (copy, again) = (primary.copied("copy"), primary.copied("again"));
    primary.start();
    load(&primary, 401, 3000);
    let last = primary.archive_all();
    let expected = rows(&primary);
    let shown = show(&primary, repository);
    let (log, window) = (&shown[0], &shown[0]["windows"][0]);
    assert_eq!(shown.as_array().unwrap().len(), 1, "{shown:#}");
    assert_eq!(
        (&log["gaps"], &log["segment_bytes"]),
        (&Value::Array(vec![]), &Value::from(1 << 20)),
        "{shown:#}"
    );
    assert_eq!(
        (&log["newest"]["file"], &window["timeline"]),
        (&Value::from(last), &Value::from(1)),
        "{shown:#}"
    );
    assert!(
        window["first_time"].as_str() < window["last_time"].as_str(),
        "{shown:#}"
    );
    primary.stop("immediate");

    recover(&copy, repository, "recovery.signal");
    copy.start();
    copy.recovered();
    assert_eq!(rows(&copy), expected);
    // It is on timeline 2 now, archives the history file and the part of a segment in which 1 ended, and goes on.
    load(&copy, 3001, 3100);
    copy.archive_all();
    let shown = show(&copy, repository);
    let log = &shown[0];
    assert_eq!(log["gaps"], Value::Array(vec![]), "{shown:#}");
    let forked = &log["timelines"][1];
    assert_eq!(
        (&forked["timeline"], &forked["parent"]),
        (&Value::from(2), &Value::from(1)),
        "{shown:#}"
    );
    let windows = log["windows"].as_array().unwrap();
    let over = windows.iter().find(|window| window["timeline"] == 2).unwrap();
    assert_eq!(
        (&over["first_timeline"], &over["from"]),
        (&Value::from(1), &windows[0]["from"]),
        "{shown:#}"
    );

    // A second copy of the same old directory goes over the switch.
    let expected = rows(&copy);
    assert!(copy.log().contains("selected new timeline ID: 2"), "{}", copy.log());
    copy.stop("immediate");
    recover(&again, repository, "recovery.signal");
    again.start();
    again.recovered();
    assert_eq!(rows(&again), expected);
}

#[test]
fn a_server_of_15_recovers_out_of_a_directory() {
    let home = Home::of_15();
    archive_and_recover(&home, &Repository::directory(&home));
}

#[test]
fn a_server_of_15_recovers_out_of_a_bucket() {
    let home = Home::of_15();
    archive_and_recover(&home, &Repository::bucket(&home));
}

#[test]
fn a_server_of_18_recovers_out_of_a_directory() {
    let Some(home) = Home::of_18() else { return };
    archive_and_recover(&home, &Repository::directory(&home));
}

#[test]
fn a_server_of_18_recovers_out_of_a_bucket() {
    let Some(home) = Home::of_18() else { return };
    archive_and_recover(&home, &Repository::bucket(&home));
}

/// A base backup over the wire and the log that the server archived bring back the moment before a DELETE.
fn before_the_delete(home: &Arc<Home>, repository: &Repository) {
    let primary = archiving(home, repository, "");
    primary.sql(&["CREATE TABLE orders AS SELECT generate_series(1, 1000) AS number"]);
    let cluster = format!("postgres-physical://admin@127.0.0.1:{}", primary.port);
    primary.expect(0, &[&["backup", &cluster][..], &repository.flags()].concat());
    primary.sql(&["INSERT INTO orders SELECT generate_series(1001, 2000)"]);
    let before = primary.sql(&["SELECT clock_timestamp()"]);
    primary.sql(&["DELETE FROM orders", "INSERT INTO orders VALUES (-1)"]);
    primary.archive_all();
    primary.stop("immediate");

    let restored = primary.without_data("restored");
    primary.expect(
        0,
        &[
            &["restore", "latest", "--into", &restored.data()][..],
            &repository.flags(),
        ]
        .concat(),
    );
    recover(&restored, repository, "recovery.signal");
    let target = format!("recovery_target_time = '{before}'\nrecovery_target_action = promote\n");
    restored.append("postgresql.conf", &target);
    restored.start();
    restored.recovered();
    assert_eq!(restored.sql(&["SELECT count(*), max(number) FROM orders"]), "2000|2000");
}

#[test]
fn a_base_and_the_log_of_15_bring_back_the_moment_before_a_delete() {
    let home = Home::of_15();
    before_the_delete(&home, &Repository::directory(&home));
}

#[test]
fn a_base_and_the_log_of_18_bring_back_the_moment_before_a_delete() {
    let Some(home) = Home::of_18() else { return };
    before_the_delete(&home, &Repository::bucket(&home));
}

/// What pg_waldump says of the ends of transactions: position, what happened, when.
fn dumped(home: &Home, first: &str, last: &str) -> Vec<(String, String, String)> {
    let output = home.waldump(&["--rmgr=Transaction", first, last]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!text.is_empty(), "{said}");
    let mut found = Vec::new();
    for line in text.lines() {
        let after = |word: &str| line.split_once(word).map(|(_, rest)| rest);
        let at = after("lsn: ").unwrap().split(',').next().unwrap();
        let what = after("desc: ").unwrap();
        let kind = match what.split([' ', ';']).next().unwrap() {
            "COMMIT" | "COMMIT_PREPARED" => "Commit",
            "ABORT" | "ABORT_PREPARED" => "Abort",
            _ => continue,
        };
        let end = what.find(" UTC").unwrap();
        let time = &what[..end];
        let date = time.rfind(' ').and_then(|space| time[..space].rfind(' ')).unwrap();
        found.push((
            at.parse::<Lsn>().unwrap().to_string(),
            kind.to_owned(),
            time[date + 1..].to_owned(),
        ));
    }
    found
}

/// Every end of a transaction is found where pg_waldump finds it, with the same time, over the borders of segments as well; what
/// was archived and fetched is the server's file byte for byte; and stock tools read it.
fn as_pg_waldump(home: &Arc<Home>) {
    let repository = Repository::directory(home);
    let server = archiving(home, &repository, "");
    server.sql(&["ALTER SYSTEM SET wal_keep_size = '200MB'", "SELECT pg_reload_conf()"]);
    let first = server.sql(&["SELECT pg_walfile_name(pg_switch_wal() + 1)"]);
    load(&server, 1, 4000);
    server.sql(&[
        "SELECT pg_logical_emit_message(true, 'large', repeat('x', 2500000))",
        "CHECKPOINT",
    ]);
    load(&server, 4001, 5000);
    let last = server.archive_all();
    let stored: Vec<String> = files_below(&home.outside("repository/wal"))
        .into_iter()
        .map(|(path, _)| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .trim_end_matches(".zst")
                .to_owned()
        })
        .filter(|name| name.len() == 24 && *name > first && *name <= last)
        .collect();
    assert!(stored.len() > 4, "{stored:?}");
    let mut walk: Option<Scan> = None;
    let mut marks = Vec::new();
    for name in &stored {
        server.expect(
            0,
            &[&["log", "fetch", name, "fetched"][..], &repository.flags()].concat(),
        );
        let fetched = fs::read(server.file("fetched")).unwrap();
        assert!(
            fetched == fs::read(server.file(&format!("pg_wal/{name}"))).unwrap(),
            "{name}"
        );
        let header = SegmentHeader::parse(&fetched).unwrap();
        let walk = walk.get_or_insert_with(|| Scan::begin(header, Timeline(1)));
        walk.feed(&fetched, &mut |mark| marks.push(mark));
    }
    let path = |name: &String| server.home.inside(&format!("primary/pg_wal/{name}"));
    let expected = dumped(home, &path(&stored[0]), &path(stored.last().unwrap()));
    let found: Vec<_> = marks
        .iter()
        .filter(|mark| mark.kind != RecordKind::RestorePoint)
        .map(|mark| {
            (
                mark.at.to_string(),
                format!("{:?}", mark.kind),
                mark.time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string(),
            )
        })
        .collect();
    assert!(found.len() > 2400, "{}", found.len());
    assert_eq!(found.len(), expected.len());
    assert_eq!(found, expected);
    let points = marks
        .iter()
        .filter(|mark| mark.kind == RecordKind::RestorePoint)
        .count();
    assert_eq!(points, 2);
    let object = home.outside(&format!(
        "repository/wal/{}/00000001/{}.zst",
        system(&server),
        stored[0]
    ));
    let raw = zstd::stream::decode_all(fs::File::open(object).unwrap()).unwrap();
    assert!(raw == fs::read(server.file(&format!("pg_wal/{}", stored[0]))).unwrap());
}

fn system(server: &WalServer) -> String {
    server.sql(&["SELECT system_identifier FROM pg_control_system()"])
}

#[test]
fn ends_of_transactions_are_those_that_pg_waldump_of_15_sees() {
    as_pg_waldump(&Home::of_15());
}

#[test]
fn ends_of_transactions_are_those_that_pg_waldump_of_18_sees() {
    if let Some(home) = Home::of_18() {
        as_pg_waldump(&home);
    }
}

/// Writes a file that the server's user may read.
fn place(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o666)).unwrap();
}

/// Flips a byte in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// A file that is no segment, or not the one of its name, is refused; one that is stored is stored once; other bytes under its
/// name are told; and nothing that failed leaves anything behind.
#[test]
fn what_is_pushed_is_what_its_name_says_and_stays_what_it_is() {
    let home = Home::of_15();
    let repository = Repository::directory(&home);
    let server = archiving(&home, &repository, "");
    load(&server, 1, 300);
    let name = server.archive_all();
    let system_id = system(&server);
    let segment = fs::read(server.file(&format!("pg_wal/{name}"))).unwrap();
    server.stop("fast");
    fs::create_dir_all(server.file("odd")).unwrap();
    fs::set_permissions(server.file("odd"), PermissionsExt::from_mode(0o777)).unwrap();
    let push = |code: i32, name: &str, bytes: &[u8]| {
        place(&server.file(&format!("odd/{name}")), bytes);
        server.expect(
            code,
            &[&["log", "push", &format!("odd/{name}")][..], &repository.flags()].concat(),
        )
    };
    let before = files_below(&home.outside("repository/wal"));
    assert_eq!(push(0, &name, &segment), "");
    for (called, bytes, why) in [
        (
            name.as_str(),
            &segment[..segment.len() / 2],
            "its header says segments of 1048576",
        ),
        (&name, &vec![0; 1 << 20][..], "does not begin with a WAL page"),
        (&name, b"", "header"),
        (&name, &[&segment[8192..], &[0; 8192][..]].concat(), "WAL"),
        ("0000000100000000000000F0", &segment, "its header says position"),
        ("00000001000000000000000", &segment, "is not a WAL file name"),
        ("notes.txt", &segment, "is not a WAL file name"),
        ("00000002.history", b"nonsense", "history file"),
        ("00000002.history", b"", "names no ancestor"),
        ("000000010000000000000002.00000028.backup", b"x", "no backup label"),
    ] {
        let said = push(1, called, bytes);
        assert!(
            said.contains(why) && said.lines().filter(|line| line.starts_with("error: ")).count() == 1,
            "{called}: {said}"
        );
    }
    // Another cluster's segment of the same name has another system; the same system's with other bytes is an alarm.
    let mut other = segment.clone();
    let last = other.len() - 1;
    other[last] ^= 1;
    let said = push(1, &name, &other);
    assert!(
        said.contains("is stored already, with other bytes") && said.contains("Two servers"),
        "{said}"
    );
    assert_eq!(files_below(&home.outside("repository/wal")), before);
    assert_eq!(files_below(&home.outside("repository/.uploads")), []);
    let path = format!("odd/{name}");
    let wrong = [&["log", "push", &path, "--system-id", "7"][..], &repository.flags()].concat();
    assert!(server.expect(1, &wrong).contains("--system-id says 7"));

    // A damaged object is never handed to a server, and leaves nothing.
    let key = home.outside(&format!("repository/wal/{system_id}/00000001/{name}.zst"));
    let whole = fs::read(&key).unwrap();
    let fetch = |code: i32, arguments: &[&str]| {
        server.expect(code, &[&["log", "fetch"], arguments, &repository.flags()].concat())
    };
    let damages: [&dyn Fn(); 3] = [
        &|| flip(&key),
        &|| fs::write(&key, &whole[..whole.len() / 3]).unwrap(),
        &|| fs::write(&key, b"").unwrap(),
    ];
    for damage in damages {
        damage();
        let said = fetch(200, &[&name, "odd/RECOVERYXLOG"]);
        assert!(said.contains("error: "), "{said}");
        let left: Vec<_> = files_below(&server.file("odd"))
            .into_iter()
            .filter(|(path, _)| path.to_string_lossy().contains("RECOVERY"))
            .collect();
        assert_eq!(left, []);
        fs::write(&key, &whole).unwrap();
    }
    // Another object under its name is not it.
    fs::copy(&key, key.with_file_name("0000000100000000000000EE.zst")).unwrap();
    fs::set_permissions(
        key.with_file_name("0000000100000000000000EE.zst"),
        PermissionsExt::from_mode(0o666),
    )
    .unwrap();
    assert!(fetch(200, &["0000000100000000000000EE", "odd/x"]).contains("holds another segment"));
    fs::remove_file(key.with_file_name("0000000100000000000000EE.zst")).unwrap();

    // Not there is quiet; a path, a slip or a missing repository is not "not there".
    assert_eq!(fetch(1, &["00000007.history", "odd/x"]), "");
    assert_eq!(fetch(1, &["0000000100000000000000EF", "odd/x"]), "");
    for wrong in ["../pg_wal/x", "odd/000000010000000000000001", "RECOVERYXLOG", ""] {
        assert!(
            fetch(200, &[wrong, "odd/x"]).contains("is not a WAL file name"),
            "{wrong}"
        );
    }
    server.expect(200, &["log", "fetch", &name, "--frm", "nowhere"]);
    server.expect(200, &["log", "fetch", &name]);
    server.expect(200, &["log", "fetch", &name, "odd/x", "--from", "/nowhere/at/all"]);
    server.expect(
        200,
        &[
            "log",
            "fetch",
            &name,
            "odd/x",
            "--system-id",
            "7",
            "--from",
            &repository.url,
        ],
    );
    server.expect(
        0,
        &[&["log", "fetch", &name, "odd/x"][..], &repository.flags()].concat(),
    );
    assert!(fs::read(server.file("odd/x")).unwrap() == segment);
}

/// A store that is away is no end of the log: the server stops, and goes on where it was once the store is back. A push fails, and
/// the server keeps the segment.
#[test]
fn a_store_that_is_away_is_no_end_of_the_log() {
    let home = Home::of_15();
    let repository = Repository::directory(&home);
    let primary = archiving(&home, &repository, "");
    load(&primary, 1, 100);
    primary.stop("fast");
    let copy = primary.copied("copy");
    primary.start();
    load(&primary, 101, 900);
    let name = primary.archive_all();
    let expected = rows(&primary);
    let (here, away) = (home.outside("repository"), home.outside("away"));
    fs::rename(&here, &away).unwrap();
    let said = primary.expect(
        1,
        &[&["log", "push", &format!("pg_wal/{name}")][..], &repository.flags()].concat(),
    );
    assert!(said.contains("error: ") && !here.exists(), "{said}");
    primary.stop("immediate");

    recover(&copy, &repository, "recovery.signal");
    copy.start_in_vain();
    assert!(
        copy.log().contains("child process exited with exit code 200"),
        "{}",
        copy.log()
    );
    // A standby asks again by itself.
    let fetch = [&["log", "fetch", &name, "pg_wal/RECOVERYXLOG"][..], &repository.flags()].concat();
    copy.expect(200, &fetch);
    copy.append("standby.signal", "");
    copy.expect(1, &fetch);
    fs::remove_file(copy.file("standby.signal")).unwrap();

    fs::rename(&away, &here).unwrap();
    copy.start();
    copy.recovered();
    assert_eq!(rows(&copy), expected);
}

/// Several servers, holes, foreign objects; `prune` leaves all of it alone. The documents are pinned.
#[test]
fn what_there_is_of_logs_is_shown_and_left_alone() {
    let home = Home::of_15();
    let repository = Repository::directory(&home);
    let server = archiving(&home, &repository, "");
    let run = |arguments: &[&str]| server.tool(&[arguments, &repository.flags(), &["--json"]].concat());
    load(&server, 1, 9000);
    let last = server.archive_all();
    let system_id = system(&server);
    pin_output("log_push", &run(&["log", "push", &format!("pg_wal/{last}")]));
    pin_output("log_fetch", &run(&["log", "fetch", &last, "fetched"]));
    pin_output(
        "log_fetch_absent",
        &run(&["log", "fetch", "00000009.history", "fetched"]),
    );
    pin_output("log_show", &run(&["log", "show"]));

    let segments: Vec<_> = files_below(&home.outside(&format!("repository/wal/{system_id}/00000001")))
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert!(segments.len() > 3, "{segments:?}");
    pin_output("log_verify", &run(&["log", "verify"]));
    fs::remove_file(&segments[2]).unwrap();
    server.expect(2, &[&["log", "verify"][..], &repository.flags()].concat());
    let shown = show(&server, &repository);
    let gap = &shown[0]["gaps"][0];
    assert_eq!(
        (&gap["segments"], &gap["why"]),
        (&Value::from(1), &Value::from("missing")),
        "{shown:#}"
    );
    let text = server.expect(0, &[&["log", "show"][..], &repository.flags()].concat());
    assert!(text.contains("1 segment is not stored"), "{text}");

    // A second server: whose log is meant has to be known.
    let second = WalServer::init(&home, "second", &[]);
    let push = format!("{} log push %p {}", home.inside("wirevault"), repository.words());
    second.append(
        "postgresql.conf",
        &format!("archive_mode = on\narchive_command = '{push}'\n"),
    );
    second.start();
    let other = second.archive_all();
    assert_eq!(show(&server, &repository).as_array().unwrap().len(), 2);
    let elsewhere = home.inside("elsewhere");
    let fetch = [&["log", "fetch", &other, &elsewhere][..], &repository.flags()].concat();
    assert!(second.expect(200, &fetch).contains("several servers"));
    second.expect(0, &[&fetch[..], &["--system-id", &system(&second)]].concat());
    // In the data directory nothing has to be said.
    second.expect(
        0,
        &[
            &["log", "fetch", &other, "pg_wal/RECOVERYXLOG"][..],
            &repository.flags(),
        ]
        .concat(),
    );

    flip(&segments[0]);
    place(&home.outside("repository/wal/notes.txt"), b"mine");
    let text = server.expect(
        1,
        &[&["log", "verify", "--system-id", &system_id][..], &repository.flags()].concat(),
    );
    assert_eq!(text.matches("DAMAGED").count(), 1, "{text}");
    let last_bytes = fs::read(segments.last().unwrap()).unwrap();
    fs::write(segments.last().unwrap(), &last_bytes[..100]).unwrap();
    pin_output("log_show_damaged", &run(&["log", "show", "--system-id", &system_id]));
    let before = files_below(&home.outside("repository/wal"));
    server.expect(0, &[&["prune", "--keep-last", "1"][..], &repository.flags()].concat());
    assert_eq!(files_below(&home.outside("repository/wal")), before);
}
