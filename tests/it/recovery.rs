//! Base backups and the stored log, restored to a moment: servers start, and hold exactly what was committed by then.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::documents::pin_output;
use crate::log::{Repository, archiving};
use crate::support::program::files_below;
use crate::support::wal_server::{Home, WalServer};

/// A primary that archives, with a table whose rows are committed one by one; its own record of commit times is the journal. What its
/// configuration has of an earlier recovery must do no harm.
pub(crate) fn primary(home: &Arc<Home>, repository: &Repository) -> WalServer {
    let lines = "track_commit_timestamp = on\nautovacuum = off\nrecovery_target_name = 'of an earlier recovery'\n";
    let server = archiving(home, repository, lines);
    server.sql(&["CREATE TABLE journal (n int)"]);
    server
}

/// Commits rows one by one.
pub(crate) fn write(server: &WalServer, from: u32, to: u32) {
    server.sql(&[&format!(
        "DO $$ BEGIN FOR i IN {from}..{to} LOOP INSERT INTO journal VALUES (i); COMMIT; PERFORM pg_sleep(0.0005); END LOOP; END $$"
    )]);
}

/// When a row was committed, by the server's record, and some microseconds later.
pub(crate) fn committed(server: &WalServer, row: u32, more: i32) -> String {
    server.sql(&[&format!(
        "SELECT to_char((pg_xact_commit_timestamp(xmin) + interval '{more} microseconds') AT TIME ZONE 'UTC', \
         'YYYY-MM-DD HH24:MI:SS.US') || '+00' FROM journal WHERE n = {row}"
    )])
}

fn clock(server: &WalServer) -> String {
    server.sql(&["SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') || 'Z'"])
}

/// The rows that were committed by a moment, by the journal.
pub(crate) fn by(server: &WalServer, moment: &str) -> String {
    server.sql(&[&format!(
        "SELECT count(*), coalesce(sum(n), 0) FROM journal WHERE pg_xact_commit_timestamp(xmin) <= '{moment}'"
    )])
}

pub(crate) fn rows(server: &WalServer) -> String {
    server.sql(&["SELECT count(*), coalesce(sum(n), 0) FROM journal"])
}

fn backup(server: &WalServer, repository: &Repository) -> String {
    let cluster = format!("postgres-physical://admin@127.0.0.1:{}", server.port);
    let done = server.json(0, &[&["backup", &cluster][..], &repository.flags()].concat());
    done["snapshots"][0]["id"].as_str().unwrap().to_owned()
}

/// Restores with flags into a new data directory.
fn restored(server: &WalServer, repository: &Repository, name: &str, flags: &[&str]) -> WalServer {
    let restored = server.without_data(name);
    let into = restored.data();
    let said = server.expect(
        0,
        &[&["restore", "latest", "--into", &into], flags, &repository.flags()[..]].concat(),
    );
    assert!(said.contains("-o '-c archive_mode=off' start"), "{said}");
    restored
}

/// Starts what was restored, which archives nothing.
pub(crate) fn started(server: WalServer) -> WalServer {
    server.append("postgresql.conf", "archive_mode = off\n");
    server.start();
    server.recovered();
    server
}

/// Restores with flags, starts, and returns what is there.
fn rows_of(server: &WalServer, repository: &Repository, name: &str, flags: &[&str]) -> String {
    rows(&started(restored(server, repository, name, flags)))
}

/// The plan of the recovery, of a restore that writes nothing.
fn planned(server: &WalServer, repository: &Repository, flags: &[&str]) -> Value {
    let into = server.home.inside("nowhere");
    let dry = ["restore", "latest", "--into", &into, "--dry-run"];
    let plan = server.json(0, &[&dry, flags, &repository.flags()[..]].concat());
    plan["would_restore"][0]["base"]["recovery"].clone()
}

/// Checks that a restore is refused before it writes, with one error and one hint; returns what is said.
fn refused(server: &WalServer, repository: &Repository, flags: &[&str], parts: &[&str]) -> String {
    let into = server.home.inside("nowhere");
    let restore = ["restore", "--into", &into];
    let snapshot: &[&str] = if flags.first().is_some_and(|flag| flag.starts_with('-')) {
        &["latest"]
    } else {
        &[]
    };
    let said = server.expect(1, &[&restore, snapshot, flags, &repository.flags()[..]].concat());
    let lines = |start: &str| said.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((lines("error: "), lines("hint: ")), (1, 1), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    assert!(!server.home.outside("nowhere").exists(), "{said}");
    said
}

/// Three moments, of which two lie before the newest base; a position; a restore point before the newest base.
fn moments(home: &Arc<Home>, repository: &Repository) {
    let server = primary(home, repository);
    backup(&server, repository);
    write(&server, 1, 150);
    server.sql(&["SELECT pg_create_restore_point('before it''s \"changed\"')"]);
    let at_point = rows(&server);
    write(&server, 151, 300);
    let newest = backup(&server, repository);
    write(&server, 301, 400);
    let position = server.sql(&["SELECT pg_current_wal_insert_lsn()"]);
    let at_position = rows(&server);
    write(&server, 401, 500);
    server.archive_all();

    // As it was committed, between two commits, and right before one.
    for (name, row, more) in [("first", 100, 0), ("second", 200, 1), ("third", 450, -1)] {
        let moment = committed(&server, row, more);
        let expected = by(&server, &moment);
        assert_eq!(
            rows_of(&server, repository, name, &["--at", &moment]),
            expected,
            "{moment}"
        );
    }
    let found = rows_of(&server, repository, "position", &["--lsn", &position]);
    // The record that begins there is replayed too: the first row of the next transaction, which is not committed.
    assert_eq!(found, at_position);

    let plan = planned(&server, repository, &["--at", &committed(&server, 450, 0)]);
    assert_eq!(
        (&plan["target"]["kind"], &plan["until"]),
        (&json!("time"), &Value::Null),
        "{plan:#}"
    );
    // Keys of a bucket are not written down.
    let is_bucket = repository.flags()[1].starts_with("s3://");
    let needs = plan["needs"].as_array().unwrap();
    assert_eq!(needs.contains(&json!("AWS_SECRET_ACCESS_KEY")), is_bucket, "{plan:#}");
    assert!(
        plan["segments"].as_u64() > Some(0) && plan["bytes"].as_u64() > Some(0),
        "{plan:#}"
    );

    // The newest base lies behind the restore point; the server waits there.
    let name = "before it's \"changed\"";
    let paused = restored(
        &server,
        repository,
        "paused",
        &["--name", name, "--target-action", "pause"],
    );
    let settings = fs::read_to_string(paused.file("postgresql.auto.conf")).unwrap();
    assert!(
        settings.contains("recovery_target_name = 'before it''s \"changed\"'"),
        "{settings}"
    );
    assert!(!settings.contains("tester-secret"), "{settings}");
    paused.append("postgresql.conf", "archive_mode = off\n");
    paused.start();
    crate::support::wait::until("the recovery pauses", || {
        paused.sql(&["SELECT pg_get_wal_replay_pause_state()"]) == "paused"
    });
    assert_eq!(rows(&paused), at_point);
    let said = refused(&server, repository, &[&newest, "--name", name], &["no restore point"]);
    assert!(said.contains("There is none of any name"), "{said}");
    // Through all bases, to the oldest.
    let said = refused(
        &server,
        repository,
        &["--name", "mistyped"],
        &["no restore point \"mistyped\""],
    );
    assert!(said.contains(&format!("\"{name}\" of 2")), "{said}");
}

#[test]
fn moments_of_15_are_restored_out_of_a_directory() {
    let home = Home::of_15();
    moments(&home, &Repository::directory(&home));
}

#[test]
fn moments_of_18_are_restored_out_of_a_bucket() {
    let Some(home) = Home::of_18() else { return };
    moments(&home, &Repository::bucket(&home));
}

/// The log of a server, as its segments are stored.
pub(crate) fn segments(home: &Home) -> Vec<PathBuf> {
    let files = files_below(&home.outside("repository/wal")).into_iter();
    let mut paths: Vec<PathBuf> = files.map(|(path, _)| path).collect();
    paths.retain(|path| path.file_name().unwrap().len() == "000000010000000000000003.zst".len());
    paths
}

/// Puts a fact into what the end of a stored segment says of it.
fn with_fact(path: &Path, name: &str, value: &str) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(*bytes.last_chunk().unwrap()) as usize;
    let (data, frame) = bytes.split_at(bytes.len() - length);
    let mut descriptor: Value = serde_json::from_slice(&frame[8..length - 8]).unwrap();
    descriptor["facts"][name] = json!(value);
    let text = serde_json::to_vec(&descriptor).unwrap();
    let whole = text.len() + 16;
    let mut changed = data.to_vec();
    changed.extend(&frame[..4]);
    changed.extend((whole as u32 - 8).to_le_bytes());
    changed.extend(text);
    changed.extend((whole as u64).to_le_bytes());
    fs::write(path, changed).unwrap();
}

fn write_seen(home: &Home, system: &str, text: &str) {
    fs::write(home.outside(&format!("repository/wal/{system}/seen.json")), text).unwrap();
}

/// A server that did nothing since: the moment is recovered to where the log is known to reach it, and not further, whatever comes later.
fn idle(home: &Arc<Home>) {
    let repository = Repository::directory(home);
    let server = primary(home, &repository);
    backup(&server, &repository);
    write(&server, 1, 50);
    let expected = rows(&server);
    let moment = clock(&server);
    server.archive_all();
    let at = ["--at", moment.as_str()];
    let system = server.sql(&["SELECT system_identifier FROM pg_control_system()"]);
    refused(
        &server,
        &repository,
        &at,
        &["the log ends at", "last commit", "--at latest"],
    );

    // As of the last commit nothing has to be known.
    let last = committed(&server, 50, 0);
    assert_eq!(planned(&server, &repository, &["--at", &last])["target"]["kind"], "end");

    // Who may not have seen all of it, or says what cannot be, proves nothing.
    let (later, end) = (
        clock(&server),
        planned(&server, &repository, &["--at", "latest"])["to"].clone(),
    );
    let end = end.as_str().unwrap();
    let seen = |format: u32, timeline: u32, lsn: &str, at: &str| {
        json!({ "format": format, "timeline": timeline, "lsn": lsn, "at": at }).to_string()
    };
    for (text, why) in [
        (seen(1, 1, "F/0", &later), "the log ends at"),
        (seen(1, 7, end, &later), "the log ends at"),
        (seen(1, 1, end, "2020-01-01T00:00:00Z"), "the log ends at"),
        (seen(1, 1, end, "2099-01-01T00:00:00Z"), "has not come yet"),
        (seen(9, 1, end, &later), "has format 9"),
        (seen(1, 1, "elsewhere", &later), "position \"elsewhere\""),
        (seen(1, 1, end, "soon"), "no position and moment"),
        ("[".repeat(100_000), "no position and moment"),
        ("x".repeat(2 << 20), "too large"),
    ] {
        write_seen(home, &system, &text);
        let said = server.expect(
            1,
            &[
                &["restore", "latest", "--into", &home.inside("nowhere")][..],
                &at,
                &repository.flags(),
            ]
            .concat(),
        );
        assert!(said.contains(why), "{text:.100}: {said}");
    }
    write_seen(home, &system, &seen(1, 1, end, &later));
    let plan = planned(&server, &repository, &at);
    assert_eq!(
        (&plan["target"], &plan["until"]),
        (&json!({ "kind": "end" }), &json!(end)),
        "{plan:#}"
    );
    refused(
        &server,
        &repository,
        &["--at", &moment, "--target-action", "pause"],
        &["needs a place to stop at", "--lsn"],
    );
    let shown = server.json(0, &[&["log", "show"][..], &repository.flags()].concat());
    assert_eq!(shown["unknown"], 0, "{shown:#}");
    let copy = restored(&server, &repository, "seen", &at);
    fs::remove_file(home.outside(&format!("repository/wal/{system}/seen.json"))).unwrap();

    // The same by what the receiver notes of a segment.
    let stored = segments(home);
    let whole = fs::read(stored.last().unwrap()).unwrap();
    for (sent_at, why) in [("2099-01-01T00:00:00Z", "has not come yet"), ("soon", "sent_at")] {
        with_fact(stored.last().unwrap(), "sent_at", sent_at);
        let said = server.expect(
            1,
            &[
                &["restore", "latest", "--into", &home.inside("nowhere")][..],
                &at,
                &repository.flags(),
            ]
            .concat(),
        );
        assert!(said.contains(why), "{sent_at}: {said}");
    }
    with_fact(stored.last().unwrap(), "sent_at", &later);
    assert_eq!(planned(&server, &repository, &at)["until"], json!(end));
    fs::write(stored.last().unwrap(), &whole).unwrap();
    // A segment under another one's name is none.
    fs::copy(&stored[stored.len() - 2], stored.last().unwrap()).unwrap();
    let said = server.expect(
        1,
        &[
            &["restore", "latest", "--into", &home.inside("nowhere")][..],
            &at,
            &repository.flags(),
        ]
        .concat(),
    );
    assert!(said.contains("another place or size"), "{said}");
    fs::write(stored.last().unwrap(), &whole).unwrap();

    // What comes later is not the copy's.
    write(&server, 51, 60);
    server.archive_all();
    assert_eq!(rows(&started(copy)), expected);
    // Now a transaction is stored that ended later.
    assert_eq!(planned(&server, &repository, &at)["target"]["kind"], "time");
}

#[test]
fn a_moment_at_which_nothing_happened_is_restored_by_15() {
    idle(&Home::of_15());
}

#[test]
fn a_moment_at_which_nothing_happened_is_restored_by_18() {
    if let Some(home) = Home::of_18() {
        idle(&home);
    }
}

/// A restore point tells the time, but no server stops there for a time.
#[test]
fn a_restore_point_says_that_nothing_was_committed_before_it() {
    let home = Home::of_15();
    let repository = Repository::directory(&home);
    let server = primary(&home, &repository);
    backup(&server, &repository);
    write(&server, 1, 50);
    let (moment, expected) = (clock(&server), rows(&server));
    server.sql(&["SELECT pg_create_restore_point('later')"]);
    server.archive_all();
    let plan = planned(&server, &repository, &["--at", &moment]);
    assert_eq!(
        (&plan["target"]["kind"], plan["until"].is_string()),
        (&json!("end"), true),
        "{plan:#}"
    );
    assert_eq!(rows_of(&server, &repository, "copy", &["--at", &moment]), expected);

    // In a job of several kinds each source comes to the moment as it can.
    fs::create_dir(home.outside("tree")).unwrap();
    fs::write(home.outside("tree/file"), "content").unwrap();
    let cluster = format!("postgres-physical://admin@127.0.0.1:{}", server.port);
    let tree = format!("files:{}", home.inside("tree"));
    server.expect(0, &[&["backup", &cluster, &tree][..], &repository.flags()].concat());
    let into = home.inside("both");
    let both = ["restore", "latest", "--into", &into, "--dry-run", "--at", "latest"];
    let plan = server.json(0, &[&both[..], &repository.flags()].concat());
    let plans = plan["would_restore"].as_array().unwrap();
    assert_eq!(plans.len(), 2, "{plan:#}");
    assert!(plans.iter().any(|one| one["base"]["recovery"].is_object()), "{plan:#}");
    let said = server.expect(
        1,
        &[&both[..6], &[&moment], &["--source", "tree"][..], &repository.flags()].concat(),
    );
    assert!(said.contains("no snapshot ended before"), "{said}");

    // A cut within a segment: zeros behind it; behind the segment nothing is there.
    let name = segments(&home).pop().unwrap();
    let name = name
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .trim_end_matches(".zst")
        .to_owned();
    let number = u64::from_str_radix(&name[16..], 16).unwrap();
    let fetch = |code: i32, until: u64| {
        let until = format!("0/{until:X}");
        let fetch = ["log", "fetch", &name, "fetched", "--until", &until];
        server.expect(code, &[&fetch[..], &repository.flags()].concat());
        fs::read(server.file("fetched"))
    };
    let start = number << 20;
    assert!(fetch(1, start).is_err());
    let whole = fetch(0, start + (1 << 20)).unwrap();
    let cut = fetch(0, start + 5000).unwrap();
    assert!(whole.len() == 1 << 20 && cut.len() == whole.len());
    assert!(cut[..5000] == whole[..5000] && cut[5000..].iter().all(|byte| *byte == 0));
}

/// What cannot be recovered is refused before anything is written, with what can.
#[test]
fn what_cannot_be_reached_is_refused_with_what_can() {
    let home = Home::of_15();
    let repository = Repository::directory(&home);
    let server = primary(&home, &repository);
    let before = clock(&server);
    // Without a log.
    let first = backup(&server, &repository);
    write(&server, 1, 3000);
    server.archive_all();
    let before_the_gap = segments(&home).len();
    write(&server, 3001, 6000);
    let moment = clock(&server);
    refused(
        &server,
        &repository,
        &["--at", &before],
        &["no snapshot ended before", &first],
    );
    refused(
        &server,
        &repository,
        &[&first, "--at", &before],
        &["ended at", "`latest` chooses"],
    );
    refused(
        &server,
        &repository,
        &["--at", &moment],
        &["the log ends at", "--at latest"],
    );
    refused(
        &server,
        &repository,
        &["--at", "2099-01-01T00:00:00Z"],
        &["has not come yet"],
    );
    refused(&server, &repository, &["--lsn", "F/0"], &["the log ends at"]);
    refused(
        &server,
        &repository,
        &["--lsn", "0/1"],
        &["no snapshot ended before 0/1", "The oldest"],
    );
    refused(
        &server,
        &repository,
        &["--name", "x"],
        &["no restore point", "There is none"],
    );
    refused(
        &server,
        &repository,
        &["--at", "latest", "--timeline", "7"],
        &["timeline 7 does not go through", "do: 1"],
    );

    server.archive_all();
    write(&server, 6001, 6010);
    server.archive_all();
    let (early, late) = (committed(&server, 100, 0), committed(&server, 6000, 0));
    planned(&server, &repository, &["--at", &late]);
    let missing = segments(&home).swap_remove(before_the_gap);
    let removed = fs::read(&missing).unwrap();
    fs::remove_file(&missing).unwrap();
    let said = refused(
        &server,
        &repository,
        &["--at", &late],
        &[
            "a gap in the log goes from",
            "Nearest recoverable moments",
            "behind it needs a base backup",
        ],
    );
    assert!(said.contains("last commit"), "{said}");
    planned(&server, &repository, &["--at", &early]);
    let newest = backup(&server, &repository);
    write(&server, 6011, 6020);
    server.archive_all();
    // A base behind the gap goes on.
    let plan = server.expect(
        0,
        &[
            &[
                "restore",
                "latest",
                "--into",
                &home.inside("nowhere"),
                "--dry-run",
                "--at",
            ][..],
            &[&committed(&server, 6015, 0)],
            &repository.flags(),
        ]
        .concat(),
    );
    assert!(
        plan.contains(&newest) && plan.contains("before the first transaction that ended later"),
        "{plan}"
    );
    fs::write(&missing, removed).unwrap();
    let plan = planned(&server, &repository, &["--at", &late]);
    assert_eq!(plan["target"]["kind"], "time", "{plan:#}");

    let into = home.inside("copy");
    let flags = repository.flags();
    let restore = [
        &["restore", "latest", "--into", &into, "--at", &late, "--json"][..],
        &flags,
    ]
    .concat();
    pin_output(
        "restore_at_dry_run",
        &server.tool(&[&restore[..], &["--dry-run"]].concat()),
    );
    pin_output("restore_at", &server.tool(&restore));
    let said = server.expect(
        1,
        &[&["restore", "latest", "--at", "2026-11-27 10:00:00"][..], &flags].concat(),
    );
    assert!(said.contains("It has no time zone"), "{said}");
}

/// After a promotion there are two lines: the newest is followed, or the one that is named.
fn over_a_promotion(home: &Arc<Home>) {
    let repository = Repository::directory(home);
    let server = primary(home, &repository);
    backup(&server, &repository);
    write(&server, 1, 100);
    server.archive_all();
    server.stop("fast");
    let second = server.without_data("second");
    let (into, config) = (second.data(), home.inside("wirevault.toml"));
    let text = format!("[repository]\nurl = \"file://{}\"\n", home.inside("repository"));
    fs::write(home.outside("wirevault.toml"), text).unwrap();
    let restore = ["restore", "latest", "--into", &into, "--at", "latest"];
    second.expect(0, &[&restore[..], &["--config", &config]].concat());
    let settings = fs::read_to_string(second.file("postgresql.auto.conf")).unwrap();
    let command = format!("--config {config} log fetch %f \"%p\" --from default --system-id ");
    assert!(settings.contains(&command), "{settings}");
    // It goes on as the primary, and archives.
    second.start();
    second.recovered();
    assert_eq!(rows(&second), "100|5050");
    // Of its timeline the history alone is stored, and the other server goes on with the old one: what that writes is not its.
    let history = || files_below(&home.outside("repository/wal")).into_iter();
    crate::support::wait::until("the history file is archived", || {
        history().any(|(path, _)| path.ends_with("00000002.history.zst"))
    });
    server.start();
    write(&server, 1001, 1020);
    server.archive_all();
    let plan = planned(&server, &repository, &["--at", "latest"]);
    assert_eq!(
        (&plan["timeline"], &plan["until"]),
        (&json!(2), &plan["to"]),
        "{plan:#}"
    );
    let found = rows_of(&server, &repository, "at the fork", &["--at", "latest"]);
    assert_eq!(found, "100|5050");
    write(&second, 101, 200);
    second.archive_all();
    let on_second = committed(&second, 150, 0);
    let expected_on_second = by(&second, &on_second);
    write(&server, 1021, 1100);
    server.archive_all();
    let on_first = committed(&server, 1050, 0);
    let expected_on_first = by(&server, &on_first);

    let found = rows_of(&server, &repository, "third", &["--at", &on_second]);
    assert_eq!(found, expected_on_second);
    refused(
        &server,
        &repository,
        &["--at", &on_first],
        &["the log ends at", "--timeline 1"],
    );
    let found = rows_of(
        &server,
        &repository,
        "fourth",
        &["--at", &on_first, "--timeline", "current"],
    );
    assert_eq!(found, expected_on_first);
}

#[test]
fn a_moment_is_of_the_timeline_that_15_is_told_to_follow() {
    over_a_promotion(&Home::of_15());
}

#[test]
fn a_moment_is_of_the_timeline_that_18_is_told_to_follow() {
    if let Some(home) = Home::of_18() {
        over_a_promotion(&home);
    }
}
