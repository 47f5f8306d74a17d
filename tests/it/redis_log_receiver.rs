//! What a receiver of the log of Redis makes of servers that lose, repeat or rewrite what they said, and of a store that is away.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use crate::run::{Scheduler, get};
use crate::support::program::{Program, files_below, noise};
use crate::support::redis::{Kind, RedisServer};
use crate::support::redis_log::{Piece, Receiver, acknowledged, base_is_there, offset, pieces, restored, stored_to};
use crate::support::redis_primary::{Primary, id};
use crate::support::wait;

fn program() -> Program {
    let program = Program::on_directory();
    program.expect(0, &["init", "--no-encryption"]);
    program
}

fn stored(program: &Program, id: &str, to: u64) {
    wait::until("the log is stored", || stored_to(program, id) >= to);
}

fn snapshots(program: &Program) -> usize {
    files_below(&program.path("repo/snapshots")).len()
}

/// Lets nothing be stored in a directory, or again.
fn mode(directory: &Path, mode: u32) {
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn newest<'a>(all: &'a [Piece], id: &str) -> &'a Piece {
    all.iter().rfind(|piece| piece.id == id).unwrap()
}

/// A new primary that continues the old one from before the snapshot needs a snapshot of its own.
#[test]
fn a_snapshot_that_a_failover_leaves_behind_is_taken_anew() {
    let (program, primary) = (program(), Primary::start('a', 1000));
    let kept = primary.write("kept", 3);
    let lost = primary.write("lost", 5);
    let mut receiver = Receiver::start(&program, &primary.url());
    receiver.until_said("begins the log");
    let end = primary.write("more", 1);
    stored(&program, &id('a'), end);
    // As after a crash: the server has what its last RDB had, under a new ID.
    {
        let mut state = primary.lock();
        state.go_back(kept);
        state.promote(&id('b'));
        state.cut();
    }
    receiver.until_said("dead branch");
    wait::until("another snapshot begins it", || {
        receiver.said().matches("begins the log").count() == 2
    });
    let end = primary.write("after", 1);
    stored(&program, &id('b'), end);
    let report = receiver.stop();
    assert_eq!((&report["gaps"], snapshots(&program)), (&json!([]), 2), "{report:#}");
    let all = pieces(&program);
    let piece = newest(&all, &id('b'));
    // It was left in front of all that is stored of it.
    assert_eq!((piece.from, piece.fact("follows")), (kept, None));
    assert!(piece.fact("base").unwrap().starts_with(&id('b')), "{piece:?}");
    assert!(lost > kept && newest(&all, &id('a')).to > lost);
}

/// Two changes of the ID without a byte between them: what the first one continued leads into the second.
#[test]
fn two_failovers_without_a_byte_between_them_lose_nothing() {
    let (program, primary) = (program(), Primary::start('a', 1000));
    let mut receiver = Receiver::start(&program, &primary.url());
    receiver.until_said("begins the log");
    let end = primary.write("first", 3);
    stored(&program, &id('a'), end);
    for next in ['b', 'c'] {
        {
            let mut state = primary.lock();
            state.promote(&id(next));
            state.cut();
        }
        receiver.until_said(&format!("comes from {}", id(next)));
    }
    let last = primary.write("after", 1);
    stored(&program, &id('c'), last);
    let report = receiver.stop();
    assert_eq!((&report["gaps"], snapshots(&program)), (&json!([]), 1), "{report:#}");
    let all = pieces(&program);
    let piece = newest(&all, &id('c'));
    assert_eq!(piece.fact("follows"), Some(format!("{}:{end}", id('a')).as_str()));
    assert!(piece.fact("base").unwrap().starts_with(&id('a')), "{piece:?}");
    program.expect(0, &["log", "verify"]);
}

/// What is acknowledged to the new primary is stored, also while what the old one wrote still waits for the store.
#[test]
fn nothing_is_acknowledged_that_is_not_stored() {
    let (program, primary) = (program(), Primary::start('a', 1000));
    let mut receiver = Receiver::start(&program, &primary.url());
    receiver.until_said("begins the log");
    let before = primary.write("first", 3);
    stored(&program, &id('a'), before);
    wait::until("it is acknowledged", || {
        primary.lock().acknowledged.iter().any(|(_, to)| *to == before)
    });
    let directory = pieces(&program)[0].path.parent().unwrap().to_owned();
    mode(&directory, 0o500);
    let end = primary.write("second", 3);
    receiver.until_said("unable to store the log");
    {
        let mut state = primary.lock();
        state.promote(&id('b'));
        state.cut();
    }
    let of_new = |primary: &Primary| {
        let state = primary.lock();
        let acknowledged = state.acknowledged.iter();
        acknowledged
            .filter(|(number, _)| *number > 1)
            .map(|(_, to)| *to)
            .collect::<Vec<_>>()
    };
    wait::until("the new primary hears of it", || of_new(&primary).len() >= 2);
    assert_eq!(stored_to(&program, &id('a')), before);
    assert!(
        of_new(&primary).iter().all(|to| *to == before),
        "{:?}",
        of_new(&primary)
    );
    mode(&directory, 0o700);
    wait::until("the rest is acknowledged", || of_new(&primary).last() == Some(&end));
    assert_eq!(stored_to(&program, &id('a')), end);
    assert_eq!(receiver.stop()["gaps"], json!([]));
}

/// A server that continues nothing of what is stored leaves a gap, whether it goes on by itself or not.
#[test]
fn a_history_that_nobody_knows_is_a_gap() {
    let (program, first) = (program(), Primary::start('a', 1000));
    let mut receiver = Receiver::start(&program, &first.url());
    receiver.until_said("begins the log");
    let end = first.write("first", 3);
    stored(&program, &id('a'), end);
    receiver.stop();
    // It lost its data and its history while nobody looked, and once more under the receiver's eyes.
    let second = Primary::start('b', 50);
    let mut receiver = Receiver::start(&program, &second.url());
    receiver.until_said("begins the log");
    let end_of_second = second.write("second", 3);
    stored(&program, &id('b'), end_of_second);
    {
        let mut state = second.lock();
        state.id = id('c');
        state.cut();
    }
    wait::until("a snapshot follows the second gap", || {
        receiver.said().matches("begins the log").count() == 2
    });
    let last = second.write("third", 1);
    stored(&program, &id('c'), last);
    let report = receiver.stops(2);
    let gap = |from: (char, u64), to: (char, u64)| {
        json!({
            "from": format!("{}:{}", id(from.0), from.1),
            "to": format!("{}:{}", id(to.0), to.1),
            "why": "unknown-history",
        })
    };
    let expected = json!([
        gap(('a', end), ('b', 50)),
        gap(('b', end_of_second), ('c', end_of_second))
    ]);
    assert_eq!(report["gaps"], expected, "{report:#}");
    // Each piece behind a gap says what is missing before it.
    for piece in pieces(&program) {
        let (from, why) = (piece.fact("gap_from"), piece.fact("gap_why"));
        let expected = match piece.id.chars().next() {
            Some('b') => Some(format!("{}:{end}", id('a'))),
            Some('c') => Some(format!("{}:{end_of_second}", id('b'))),
            _ => None,
        };
        assert_eq!(from, expected.as_deref());
        assert_eq!(why, expected.as_ref().map(|_| "unknown-history"));
    }
}

/// A replica that is promoted while it is asked where it is says too little: it is asked again.
#[test]
fn a_promotion_between_two_questions_is_seen() {
    let (program, primary) = (program(), Primary::start('a', 1000));
    let mut receiver = Receiver::start(&program, &primary.url());
    receiver.until_said("begins the log");
    let end = primary.write("first", 3);
    stored(&program, &id('a'), end);
    {
        let mut state = primary.lock();
        // In the middle of a command, which is longer than an object: so it shows that its beginning has come.
        let half = state.stream.len() + (5 << 20);
        state.write(&["SET", "long", &"x".repeat(6 << 20)]);
        let rest = state.stream.split_off(half);
        state.at_psync = Some(Box::new(move |state| {
            state.stream.extend(rest);
            state.promote(&id('b'));
        }));
    }
    stored(&program, &id('a'), end + (4 << 20));
    primary.lock().cut();
    receiver.until_said("while it was asked where it is");
    let last = primary.write("after", 1);
    stored(&program, &id('b'), last);
    let report = receiver.stop();
    assert_eq!(report["gaps"], json!([]), "{report:#}");
    let all = pieces(&program);
    let first = all.iter().find(|piece| piece.id == id('b')).unwrap();
    assert!(
        first.raw().starts_with(b"*3\r\n$3\r\nSET\r\n") && first.from == end,
        "{first:?}"
    );
}

/// A server that never goes on where it should is asked more and more seldom.
#[test]
fn full_resynchronizations_come_more_and_more_seldom() {
    let (program, primary) = (program(), Primary::start('a', 1000));
    primary.lock().is_broken = true;
    let receiver = Receiver::start(&program, &primary.url());
    let longest = |said: &str| {
        let pauses = said.split("the next try is in ").skip(1);
        let pauses = pauses.filter_map(|rest| rest.split_once(" ms")?.0.parse::<u64>().ok());
        pauses.max().unwrap_or(0)
    };
    wait::until("it waits for seconds", || longest(&receiver.said()) > 3000);
    let said = receiver.said();
    assert!(
        said.matches("does not come").count() <= 6 && snapshots(&program) <= 6,
        "{said}"
    );
    receiver.stops(2);
}

/// What a server that went back writes at offsets that are stored has no place there: nothing is replaced, and a gap follows.
#[test]
fn a_server_that_went_back_is_an_alarm_and_a_gap() {
    // Whether the receiver sees it behind, or has to compare; whether it was there meanwhile.
    for (is_ahead, restarts) in [(false, false), (true, false), (true, true)] {
        let (program, primary) = (program(), Primary::start('a', 1000));
        let kept = primary.write("kept", 3);
        let mut receiver = Receiver::start(&program, &primary.url());
        receiver.until_said("begins the log");
        let end = primary.write("first", 10);
        stored(&program, &id('a'), end);
        let before = pieces(&program);
        if restarts {
            receiver.stop();
            let mut state = primary.lock();
            state.go_back(kept);
            drop(state);
            primary.write("other", 20);
            receiver = Receiver::start(&program, &primary.url());
        } else {
            let mut state = primary.lock();
            state.go_back(kept);
            state.cut();
            for number in 0..if is_ahead { 20 } else { 2 } {
                state.write(&["SET", &format!("other:{number}"), "value"]);
            }
        }
        receiver.until_said("ALARM");
        if !is_ahead {
            receiver.until_said("before it went back");
            assert_eq!(stored_to(&program, &id('a')), end);
        }
        primary.write("ahead", 20);
        receiver.until_said("a gap in the log of");
        let snapshots = if restarts { 1 } else { 2 };
        wait::until("a snapshot follows the gap", || {
            receiver.said().matches("begins the log").count() == snapshots
        });
        let last = primary.write("last", 1);
        stored(&program, &id('a'), last);
        let report = receiver.stops(2);
        assert_eq!(report["gaps"].as_array().unwrap().len(), 1, "{report:#}");
        let gap = &report["gaps"][0];
        assert_eq!(gap["why"], "rolled-back", "{report:#}");
        assert_eq!(gap["from"], format!("{}:{end}", id('a')));
        let all = pieces(&program);
        for old in &before {
            let same = all.iter().find(|piece| piece.path == old.path).unwrap();
            assert_eq!(same.descriptor, old.descriptor);
        }
        for new in all
            .iter()
            .filter(|piece| before.iter().all(|old| old.path != piece.path))
        {
            assert!(new.from >= end && new.fact("gap_why") == Some("rolled-back"), "{new:?}");
            let base = new
                .fact("base")
                .and_then(|base| base.rsplit_once(':')?.1.parse::<u64>().ok());
            assert!(base.is_none_or(|base| base >= end), "{new:?}");
        }
    }
}

/// A server that went back and has a new ID before anything else is stored: nothing that is stored leads to what it writes, and a
/// receiver that was not there knows it.
#[test]
fn that_a_server_went_back_is_known_after_a_restart_of_both() {
    // Whether a receiver has noticed; else nothing is left to compare.
    for is_noticed in [true, false] {
        let (program, primary) = (program(), Primary::start('a', 1000));
        let mut receiver = Receiver::start(&program, &primary.url());
        receiver.until_said("begins the log");
        let kept = primary.write("kept", 3);
        let end = primary.write("first", 10);
        stored(&program, &id('a'), end);
        if is_noticed {
            {
                let mut state = primary.lock();
                state.go_back(kept);
                state.write(&["SET", "other", "value"]);
                state.cut();
            }
            receiver.until_said("ALARM");
            let report = receiver.stops(2);
            assert_eq!(report["problems"].as_array().unwrap().len(), 1, "{report:#}");
            assert!(
                program
                    .path(&format!("repo/log/redis/redis/{}/went-back.json", id('a')))
                    .exists()
            );
        } else {
            receiver.stop();
            primary.lock().go_back(kept);
            primary.write("other", 1);
        }
        let left = {
            let mut state = primary.lock();
            state.promote(&id('b'));
            state.forget();
            state.offset()
        };
        let mut receiver = Receiver::start(&program, &primary.url());
        receiver.until_said("a gap in the log of");
        receiver.until_said("begins the log");
        let last = primary.write("last", 1);
        stored(&program, &id('b'), last);
        let report = receiver.stops(2);
        let why = if is_noticed { "rolled-back" } else { "backlog" };
        let from = if is_noticed { end } else { left };
        let gap = json!({
            "from": format!("{}:{from}", id('a')), "to": format!("{}:{left}", id('b')), "why": why,
        });
        assert_eq!(report["gaps"], json!([gap]), "{report:#}");
        let all = pieces(&program);
        let piece = newest(&all, &id('b'));
        assert_eq!(
            (piece.from, piece.fact("follows"), piece.fact("gap_why")),
            (left, None, Some(why))
        );
        assert!(piece.fact("base").unwrap().starts_with(&id('b')), "{piece:?}");
        assert_eq!(stored_to(&program, &id('a')), end);
        // That is told once.
        let mut receiver = Receiver::start(&program, &primary.url());
        receiver.until_said(&format!("comes from {}", id('b')));
        assert_eq!(receiver.stop()["gaps"], json!([]));
    }
}

/// Where what a server writes after it went back meets the end of what is stored, it does not continue that.
#[test]
fn a_server_that_went_back_and_is_as_far_as_before_leaves_a_hole() {
    let (program, primary) = (program(), Primary::start('a', 1000));
    let mut receiver = Receiver::start(&program, &primary.url());
    receiver.until_said("begins the log");
    let kept = primary.write("kept", 3);
    let end = primary.write("first", 10);
    stored(&program, &id('a'), end);
    {
        let mut state = primary.lock();
        state.go_back(kept);
        for number in 0..10 {
            state.write(&["SET", &format!("other:{number}"), "value"]);
        }
        assert_eq!(state.offset(), end);
        state.cut();
    }
    receiver.until_said("before it went back");
    let begins = primary.write("more", 1);
    receiver.until_said("a gap in the log of");
    let last = primary.write("last", 1);
    stored(&program, &id('a'), last);
    receiver.stops(2);
    let all = pieces(&program);
    let piece = all.iter().find(|piece| piece.from >= end).unwrap();
    assert_eq!((piece.from, piece.fact("gap_why")), (begins, Some("rolled-back")));
}

/// The last piece alone says little: a server that went back may have written the same since.
#[test]
fn what_a_server_sends_is_compared_with_more_than_the_last_piece() {
    let (program, primary) = (program(), Primary::start('a', 1000));
    let mut receiver = Receiver::start(&program, &primary.url());
    receiver.until_said("begins the log");
    let kept = primary.write("kept", 3);
    let end = primary.write("first", 10);
    stored(&program, &id('a'), end);
    let end = primary.write("last", 1);
    stored(&program, &id('a'), end);
    receiver.stop();
    let all = pieces(&program);
    assert!(newest(&all, &id('a')).from > kept, "{all:?}");
    primary.lock().go_back(kept);
    primary.write("other", 10);
    assert_eq!(primary.write("last", 1), end);
    let mut receiver = Receiver::start(&program, &primary.url());
    receiver.until_said("ALARM");
    receiver.stops(2);
    assert_eq!(stored_to(&program, &id('a')), end);
}

/// A descriptor that says of a wrong place that a command ends there costs a gap, and no receiver.
#[test]
fn a_place_where_no_command_begins_is_a_gap() {
    let (program, primary) = (program(), Primary::start('a', 1000));
    let mut receiver = Receiver::start(&program, &primary.url());
    receiver.until_said("begins the log");
    let end = primary.write("first", 3);
    stored(&program, &id('a'), end);
    receiver.stop();
    let all = pieces(&program);
    newest(&all, &id('a')).forge("commands_to", &(end - 3).to_string());
    let begins = primary.write("lost", 1);
    let mut receiver = Receiver::start(&program, &primary.url());
    receiver.until_said("a gap in the log of");
    receiver.until_said("begins the log");
    let last = primary.write("last", 1);
    stored(&program, &id('a'), last);
    let report = receiver.stops(2);
    assert_eq!(report["gaps"][0]["why"], "damaged", "{report:#}");
    let all = pieces(&program);
    let piece = all.iter().find(|piece| piece.from >= end).unwrap();
    assert_eq!((piece.from, piece.fact("gap_why")), (begins, Some("damaged")));
}

/// The snapshot that began the log may have been removed since.
#[test]
fn a_snapshot_that_is_gone_is_taken_anew() {
    let (program, primary) = (program(), Primary::start('a', 1000));
    let mut receiver = Receiver::start(&program, &primary.url());
    receiver.until_said("begins the log");
    let end = primary.write("first", 3);
    stored(&program, &id('a'), end);
    receiver.stop();
    for (path, _) in files_below(&program.path("repo/snapshots")) {
        std::fs::remove_file(path).unwrap();
    }
    let mut receiver = Receiver::start(&program, &primary.url());
    receiver.until_said("is gone");
    receiver.until_said("begins the log");
    let end = primary.write("second", 1);
    stored(&program, &id('a'), end);
    let report = receiver.stop();
    assert_eq!((&report["gaps"], snapshots(&program)), (&json!([]), 1), "{report:#}");
}

/// Nothing in the log is nothing to be content with.
#[test]
fn a_receiver_without_a_server_does_not_end_well() {
    let program = program();
    // Nobody listens there any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut receiver = Receiver::start(&program, &format!("redis://127.0.0.1:{port}"));
    receiver.until_said("does not come");
    let report = receiver.stops(2);
    assert!(
        report["problems"][0].as_str().unwrap().contains("nothing came"),
        "{report:#}"
    );
}

/// Two servers with one replication ID, as where a running machine was copied: what the second one writes takes nobody's place, and
/// has one only once the other receiver has ended.
#[test]
fn two_servers_with_one_replication_id_are_not_mixed() {
    let (program, one, two) = (program(), Primary::start('a', 1000), Primary::start('a', 1000));
    let mut first = Receiver::start(&program, &one.url());
    let mut second = Receiver::start(&program, &two.url());
    first.until_said("begins the log");
    second.until_said("begins the log");
    wait::until("both show that they are at work", || {
        files_below(&program.path("repo/log/redis/redis/receivers")).len() == 2
    });
    let end = one.write("one", 3);
    stored(&program, &id('a'), end);
    let before = pieces(&program);
    two.write("two", 5);
    second.until_said("ALARM");
    second.until_said("stores another stream");
    assert_eq!(first.stop()["gaps"], json!([]));
    second.until_said("a gap in the log of");
    wait::until("a snapshot follows the gap", || {
        second.said().matches("begins the log").count() == 2
    });
    let last = two.write("more", 1);
    stored(&program, &id('a'), last);
    let report = second.stops(2);
    assert_eq!(report["gaps"][0]["why"], "rolled-back", "{report:#}");
    for piece in pieces(&program) {
        let old = before.iter().find(|old| old.path == piece.path);
        match old {
            Some(old) => assert_eq!(piece.descriptor, old.descriptor),
            None => assert!(piece.from >= end, "{piece:?}"),
        }
    }
}

/// A source has one server: a second one is told to take another name, as long as the first is received.
#[test]
fn a_second_server_under_one_name_is_refused() {
    let (program, first, second) = (program(), Primary::start('a', 1000), Primary::start('b', 1000));
    let mut receiver = Receiver::start(&program, &first.url());
    receiver.until_said("begins the log");
    wait::until("it shows that it is at work", || {
        !files_below(&program.path("repo/log/redis/redis/receivers")).is_empty()
    });
    let (code, said) = Receiver::start(&program, &second.url()).ends();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("--source NAME") && said.contains("another server is received"),
        "{said}"
    );
    let mut other = Receiver::start_with(&program, &second.url(), &["--source", "second"]);
    other.until_said("begins the log");
    let end = second.write("key", 1);
    stored(&program, &id('b'), end);
    other.stop();
    // One server may have two receivers.
    let mut same = Receiver::start(&program, &first.url());
    same.until_said("comes from");
    let end = first.write("key", 1);
    stored(&program, &id('a'), end);
    assert_eq!(same.stop()["gaps"], json!([]));
    assert_eq!(receiver.stop()["gaps"], json!([]));
    program.refused(
        &["log", "receive", &first.url(), "--source", "no/name"],
        "invalid name",
        "letters",
    );
}

/// What is stored last and damaged keeps no receiver from going on: it is set aside, and comes again from the server.
#[test]
fn a_damaged_end_of_the_log_is_set_aside() {
    for is_descriptor in [true, false] {
        let program = program();
        let server = RedisServer::start(Kind::Redis7, &["--repl-backlog-size", "64mb"]);
        let mut client = server.client();
        let mut receiver = Receiver::start(&program, &server.url());
        base_is_there(&program);
        for number in 0..3 {
            client.say(&format!("SET key:{number} {number}"));
            receiver.catch_up(&server);
        }
        receiver.stop();
        let all = pieces(&program);
        let last = all.last().unwrap();
        let mut bytes = std::fs::read(&last.path).unwrap();
        let at = if is_descriptor { bytes.len() - 1 } else { 12 };
        bytes[at] ^= 0x20;
        std::fs::write(&last.path, &bytes).unwrap();
        let mut receiver = Receiver::start(&program, &server.url());
        receiver.until_said("is damaged");
        assert!(
            receiver.said().contains(&format!("{:020}", last.from)),
            "{}",
            receiver.said()
        );
        client.say("SET after damage");
        receiver.catch_up(&server);
        let end = offset(&mut client);
        let report = receiver.stop();
        assert_eq!(
            (&report["gaps"], &report["snapshots"]),
            (&json!([]), &json!([])),
            "{report:#}"
        );
        program.expect(0, &["log", "verify"]);
        let (copy, _) = restored(&program, &server, &["--offset", &end.to_string()]);
        assert_eq!(copy.digest(), server.digest());
        let files = files_below(&program.path("repo/log/redis"));
        let aside = files
            .iter()
            .find(|(path, _)| path.extension().is_some_and(|end| end == "damaged"));
        assert_eq!(std::fs::read(&aside.unwrap().0).unwrap(), bytes);
    }
}

/// A signal while the store is away: what it did not take is counted and named, and comes again.
#[test]
fn a_stop_says_what_is_not_stored() {
    let program = program();
    let server = RedisServer::start(Kind::Redis7, &["--repl-backlog-size", "64mb"]);
    let mut client = server.client();
    let mut receiver = Receiver::start(&program, &server.url());
    base_is_there(&program);
    client.say("SET first value");
    receiver.catch_up(&server);
    let directory = pieces(&program)[0].path.parent().unwrap().to_owned();
    mode(&directory, 0o500);
    client.say("SET second value");
    let behind = offset(&mut client) - acknowledged(&mut client).unwrap();
    receiver.until_said("unable to store the log");
    let report = receiver.stops(2);
    assert!(report["unstored_bytes"].as_u64().unwrap() >= behind, "{report:#}");
    mode(&directory, 0o700);
    let mut receiver = Receiver::start(&program, &server.url());
    wait::until("it is there again", || acknowledged(&mut client).is_some());
    receiver.catch_up(&server);
    let end = offset(&mut client);
    let report = receiver.stop();
    assert_eq!((&report["gaps"], &report["unstored_bytes"]), (&json!([]), &json!(0)));
    let (copy, _) = restored(&program, &server, &["--offset", &end.to_string()]);
    assert_eq!(copy.digest(), server.digest());
}

/// A spool directory without room is one that is full: the server waits, and nothing is lost.
#[test]
fn a_spool_that_takes_nothing_makes_the_server_wait() {
    let program = program();
    let server = RedisServer::start(Kind::Redis7, &["--repl-backlog-size", "64mb"]);
    let spool = program.path("spool");
    std::fs::create_dir(&spool).unwrap();
    let flags = ["--spool-dir", spool.to_str().unwrap()];
    let mut receiver = Receiver::start_with(&program, &server.url(), &flags);
    base_is_there(&program);
    let mut client = server.client();
    client.say("SET first value");
    receiver.catch_up(&server);
    let directory = pieces(&program)[0].path.parent().unwrap().to_owned();
    mode(&spool, 0o500);
    mode(&directory, 0o500);
    for number in 0..4 {
        client.ask(&[b"SET", format!("long:{number}").as_bytes(), &noise(5_000_000)]);
    }
    receiver.until_said("can be held until");
    mode(&directory, 0o700);
    receiver.catch_up(&server);
    receiver.until_said("is held again");
    let end = offset(&mut client);
    let report = receiver.stop();
    assert_eq!((&report["gaps"], &report["unstored_bytes"]), (&json!([]), &json!(0)));
    assert!(report["raw_bytes"].as_u64().unwrap() > 20_000_000, "{report:#}");
    let (copy, _) = restored(&program, &server, &["--offset", &end.to_string()]);
    assert_eq!(copy.digest(), server.digest());
}

/// The scheduler receives what the configuration asks for, begins with a snapshot, and shows how far it is.
#[test]
fn the_scheduler_receives_command_streams() {
    let server = RedisServer::start(Kind::Redis7, &["--repl-backlog-size", "64mb"]);
    let mut program = Program::bare();
    let repository = program.path("repository").display().to_string();
    let configuration = format!(
        "[repository.near]\nurl = \"file://{repository}\"\n[source.cache]\nkind = \"redis\"\nurl = \"{}\"\nlog = true\n\
         [job.yearly]\nsources = [\"cache\"]\nschedule = \"0 0 1 1 *\"\n",
        server.url()
    );
    std::fs::write(program.path("wirevault.toml"), configuration).unwrap();
    program.expect(0, &["init", "--no-encryption"]);
    let scheduler = Scheduler::start(&program);
    let address = scheduler.event("serving")["address"].as_str().unwrap().to_owned();
    let metric = |name: &str, value: &str| {
        let line = format!("{name}{{source=\"cache\",repository=\"near\"}} {value}\n");
        wait::until(&line, || get(&address, "/metrics").1.contains(&line));
    };
    wait::until("a snapshot begins the log", || {
        !files_below(&program.path("repository/snapshots")).is_empty()
    });
    let mut client = server.client();
    client.say("SET some value");
    let end = offset(&mut client);
    wait::until("it is stored", || acknowledged(&mut client) >= Some(end));
    metric("wirevault_log_receiving", "1");
    metric("wirevault_log_lag_bytes", "0");
    metric("wirevault_log_gaps_total", "0");
    let page = get(&address, "/").1;
    assert!(page.contains("<h2>Logs</h2>") && page.contains("receiving"), "{page}");
    let digest = server.digest();
    assert!(client.integer("CLIENT KILL TYPE replica") >= 1);
    metric("wirevault_log_reconnects_total", "1");
    metric("wirevault_log_receiving", "1");
    drop((client, server));
    metric("wirevault_log_receiving", "0");
    scheduler.end();
    program.expect(0, &["log", "verify"]);
    program.set("WIREVAULT_REPOSITORY", &repository);
    let copy = RedisServer::start_in(Kind::Redis7, &["--appendonly", "yes"], |directory| {
        let into = directory.display().to_string();
        program.expect(
            0,
            &[
                "restore",
                "latest",
                "--source",
                "cache",
                "--into",
                &into,
                "--offset",
                &end.to_string(),
            ],
        );
    });
    assert_eq!(copy.digest(), digest);
}
