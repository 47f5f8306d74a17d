//! The log of Redis and Valkey servers: received while clients write, and restored to a moment or an offset.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;
use serde_json::json;

use crate::documents::pin_output;
use crate::support::program::{Program, noise};
use crate::support::redis::{Client, Kind, RedisServer, Value, fill, kinds};
use crate::support::redis_log::{Piece, Receiver, acknowledged, base_is_there, info, offset, pieces, restored};
use crate::support::wait;

/// A server whose backlog outlasts what a test does.
fn server(kind: Kind) -> RedisServer {
    RedisServer::start(kind, &["--repl-backlog-size", "64mb"])
}

fn program() -> Program {
    let program = Program::on_directory();
    program.expect(0, &["init", "--no-encryption"]);
    program
}

/// Writes one number, alone, in another database, or in a block with a key that expires before the block is over.
pub(crate) fn write(client: &mut Client, number: u64) {
    match number % 4 {
        0 => {
            client.say("MULTI");
            client.say(&format!("SET late:{number} 41 PX 1"));
            client.say(&format!("INCR late:{number}"));
            client.say(&format!("PERSIST late:{number}"));
            client.say(&format!("RPUSH numbers {number}"));
            client.say("EXEC");
        }
        1 => {
            client.say("SELECT 3");
            client.say(&format!("SET other:{number} {number}"));
            client.say("SELECT 0");
            client.say(&format!("RPUSH numbers {number}"));
        }
        _ => {
            client.say(&format!("RPUSH numbers {number}"));
        }
    }
}

/// Returns how many numbers a server holds; they must be a prefix of what was written, with all that belongs to them.
pub(crate) fn numbers(server: &RedisServer) -> u64 {
    let mut client = server.client();
    let count = client.integer("LLEN numbers") as u64;
    let all = client.ask(&[b"LRANGE", b"numbers", b"0", b"-1"]);
    let Value::Array(all) = all else { panic!() };
    for (number, value) in all.into_iter().enumerate() {
        let expected = (number as u64 + 1).to_string().into_bytes();
        assert_eq!(value, Value::Text(expected));
    }
    for number in (4..=count).step_by(4) {
        assert_eq!(
            client.text(&[b"GET", format!("late:{number}").as_bytes()]),
            "42",
            "{number}"
        );
    }
    assert_eq!(client.integer(&format!("EXISTS late:{}", (count / 4 + 1) * 4)), 0);
    client.say("SELECT 3");
    let Value::Array(others) = client.say("KEYS other:*") else {
        panic!()
    };
    let others = others.len() as u64;
    // The write beside the last number may have been first.
    let expected = count.div_ceil(4);
    assert!(others == expected || others == expected + 1, "{others} beside {count}");
    count
}

#[test]
fn a_moment_holds_a_prefix_and_an_offset_all_before_it() {
    for kind in kinds() {
        let (server, program) = (server(kind), program());
        fill(&server);
        let mut receiver = Receiver::start(&program, &server.url());
        base_is_there(&program);
        let mut client = server.client();
        // Moments before the first time mark are not known.
        client.say("SET first mark");
        receiver.catch_up(&server);
        let mut journal = Vec::new();
        for number in 1..=400 {
            let before = Timestamp::now();
            write(&mut client, number);
            if number % 100 == 0 {
                // A mark tells the time of what came before.
                receiver.catch_up(&server);
            }
            journal.push((before, offset(&mut client), Timestamp::now()));
        }
        receiver.catch_up(&server);
        client.say("PING");
        let expected = server.digest();
        let report = receiver.stop();
        assert_eq!(report["gaps"], json!([]), "{report:#}");
        assert_eq!(report["snapshots"].as_array().unwrap().len(), 1, "{report:#}");

        // Moments: whatever was begun later is not there, and nothing is there without what came before it.
        for _ in 0..3 {
            let at = rand::random::<u32>() as usize % 390;
            let moment = journal[at].2;
            let (copy, report) = restored(&program, &server, &["--at", &moment.to_string()]);
            let held = numbers(&copy);
            let begun = journal.iter().filter(|(before, ..)| *before <= moment).count() as u64;
            assert!(held <= begun, "{kind:?}, {at}: {held} of {begun}: {report:#}");
            let marked: Option<Timestamp> = report["at"].as_str().map(|at| at.parse().unwrap());
            assert!(marked.is_none_or(|marked| marked <= moment), "{report:#}");
            let next: Timestamp = report["next_at"].as_str().unwrap().parse().unwrap();
            assert!(next > moment, "{at}: {report:#}");
        }
        // Offsets are exact.
        for at in [0_usize, 100, 202, 399] {
            let (copy, report) = restored(&program, &server, &["--offset", &journal[at].1.to_string()]);
            assert_eq!(numbers(&copy), at as u64 + 1, "{kind:?}: {report:#}");
            if at == 399 {
                assert_eq!(copy.digest(), expected, "{kind:?}");
            }
        }
        let (copy, _) = restored(&program, &server, &["--at", "latest"]);
        assert_eq!(copy.digest(), expected, "{kind:?}");
        // In the middle of a block, none of it is there.
        let block = journal[102].1.midpoint(journal[103].1);
        let (copy, _) = restored(&program, &server, &["--offset", &block.to_string()]);
        assert_eq!(numbers(&copy), 103);
    }
}

#[test]
fn a_flush_of_everything_is_undone() {
    for kind in kinds() {
        let (server, program) = (server(kind), program());
        let mut receiver = Receiver::start(&program, &server.url());
        base_is_there(&program);
        fill(&server);
        let mut client = server.client();
        let (before, digest) = (offset(&mut client), server.digest());
        client.say("FLUSHALL");
        client.say("FUNCTION FLUSH");
        client.say("SET after all");
        receiver.catch_up(&server);
        receiver.stop();
        let (copy, _) = restored(&program, &server, &["--offset", &before.to_string()]);
        assert_eq!(copy.digest(), digest, "{kind:?}");
        assert_eq!(copy.client().integer("FCALL wv_one 0"), 1);
        program.expect(0, &["log", "verify"]);
        let id = info(&mut client, "master_replid").unwrap();
        let (copy, _) = restored(
            &program,
            &server,
            &["--offset", &format!("{id}:{}", offset(&mut client))],
        );
        assert_eq!(copy.client().integer("DBSIZE"), 1);
    }
}

/// Writes until it is told to stop; counts what the server has answered.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Load {
    fn start(server: &RedisServer) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (mut client, ended, count) = (server.client(), stop.clone(), written.clone());
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                number += 1;
                write(&mut client, number);
                count.store(number, Ordering::Relaxed);
            }
        });
        Self { stop, written, thread }
    }

    /// Waits for so many more writes.
    fn more(&self, count: u64) {
        let goal = self.written.load(Ordering::Relaxed) + count;
        wait::until("clients have written", || self.written.load(Ordering::Relaxed) >= goal);
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.written.load(Ordering::Relaxed)
    }
}

/// Whenever the receiver is killed, what it has acknowledged is stored, and the next one goes on there.
#[test]
fn a_receiver_that_is_killed_leaves_no_hole() {
    for kind in kinds() {
        let (server, program) = (server(kind), program());
        let first = Receiver::start(&program, &server.url());
        base_is_there(&program);
        let load = Load::start(&server);
        let mut client = server.client();
        let mut receiver = first;
        for round in 0..5 {
            let begun = offset(&mut client);
            wait::until("something more is stored", || acknowledged(&mut client) > Some(begun));
            load.more(20 * round);
            let acknowledged = acknowledged(&mut client).unwrap();
            receiver.kill();
            let stored = pieces(&program).iter().map(|piece| piece.to).max().unwrap();
            assert!(stored >= acknowledged, "{kind:?}: {stored} of {acknowledged}");
            load.more(20);
            receiver = Receiver::start(&program, &server.url());
        }
        let begun = offset(&mut client);
        wait::until("the last one has come", || acknowledged(&mut client) > Some(begun));
        let written = load.stop();
        receiver.catch_up(&server);
        let end = offset(&mut client);
        let report = receiver.stop();
        assert_eq!(report["gaps"], json!([]), "{report:#}");
        let all = pieces(&program);
        assert!(
            all.windows(2)
                .all(|two| two[0].to == two[1].from && two[0].id == two[1].id),
            "{all:#?}"
        );
        let (copy, _) = restored(&program, &server, &["--offset", &end.to_string()]);
        assert_eq!(numbers(&copy), written, "{kind:?}");
        assert_eq!(copy.digest(), server.digest());
    }
}

#[test]
fn a_connection_that_breaks_goes_on_where_it_was() {
    let (server, program) = (server(Kind::Redis7), program());
    let mut receiver = Receiver::start(&program, &server.url());
    base_is_there(&program);
    let load = Load::start(&server);
    let mut client = server.client();
    for _ in 0..4 {
        load.more(50);
        let begun = offset(&mut client);
        assert!(client.integer("CLIENT KILL TYPE replica") >= 1);
        wait::until("it has come back", || acknowledged(&mut client) > Some(begun));
    }
    let written = load.stop();
    receiver.catch_up(&server);
    let end = offset(&mut client);
    assert!(receiver.said().contains("does not come"), "{}", receiver.said());
    assert_eq!(receiver.stop()["gaps"], json!([]));
    let (copy, _) = restored(&program, &server, &["--offset", &end.to_string()]);
    assert_eq!(numbers(&copy), written);
}

#[test]
fn a_backlog_that_is_lost_is_a_gap_with_a_snapshot_behind_it() {
    for kind in kinds() {
        let program = program();
        let server = RedisServer::start(kind, &["--repl-backlog-size", "16kb"]);
        let mut client = server.client();
        let mut receiver = Receiver::start(&program, &server.url());
        base_is_there(&program);
        client.say("SET before gap");
        receiver.catch_up(&server);
        let before = offset(&mut client);
        receiver.kill();
        // Once it is dropped, the server forgets what it has not taken.
        wait::until("the server has lost it", || acknowledged(&mut client).is_none());
        for number in 0..10 {
            client.ask(&[b"SET", format!("lost:{number}").as_bytes(), &vec![b'x'; 10_000]]);
        }
        let within = offset(&mut client) - 50_000;
        let mut receiver = Receiver::start(&program, &server.url());
        wait::until("there is another snapshot", || {
            receiver.said().matches("begins the log").count() == 1
        });
        assert!(receiver.said().contains("a gap in the log"), "{}", receiver.said());
        client.say("SET after gap");
        receiver.catch_up(&server);
        let (after, digest) = (offset(&mut client), server.digest());
        let report = receiver.stops(2);
        assert_eq!(report["gaps"].as_array().unwrap().len(), 1, "{report:#}");
        assert_eq!(report["gaps"][0]["why"], "backlog", "{report:#}");
        assert_eq!(report["snapshots"].as_array().unwrap().len(), 1, "{report:#}");

        let (copy, _) = restored(&program, &server, &["--offset", &after.to_string()]);
        assert_eq!(copy.digest(), digest, "{kind:?}");
        let (copy, _) = restored(&program, &server, &["--offset", &before.to_string()]);
        assert_eq!(copy.client().integer("DBSIZE"), 1);
        let shown = program.json(&["log", "show"]);
        let gaps = shown["streams"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|stream| stream["gaps"].as_array().unwrap());
        let [gap] = gaps.collect::<Vec<_>>()[..] else {
            panic!("{shown:#}")
        };
        assert!(
            gap["from"].as_u64().unwrap() >= before && gap["to"].as_u64().unwrap() > within,
            "{shown:#}"
        );
        let verified = program.run(&["log", "verify", "--json"]);
        assert_eq!(verified.status.code(), Some(2), "{verified:?}");

        let into = program.path("nothing").display().to_string();
        let restore = ["restore", "latest", "--into", &into, "--offset", &within.to_string()];
        program.refused(&restore, "does not hold offset", "stored");
        assert!(!program.path("nothing/appendonlydir").exists());
    }
}

/// A replica that becomes a primary continues the log; what the old primary wrote meanwhile is a dead branch.
#[test]
fn a_failover_continues_the_log() {
    for kind in kinds() {
        let (old, program) = (server(kind), program());
        let new = server(kind);
        let (mut old_client, mut new_client) = (old.client(), new.client());
        new_client.say(&format!("REPLICAOF 127.0.0.1 {}", old.port));
        let link = |client: &mut Client| info(client, "master_link_status");
        wait::until("the replica is in sync", || {
            link(&mut new_client).as_deref() == Some("up")
        });
        let mut receiver = Receiver::start(&program, &old.url());
        base_is_there(&program);
        for number in 1..=50 {
            write(&mut old_client, number);
        }
        let common = offset(&mut old_client);
        wait::until("the replica has it all", || offset(&mut new_client) >= common);
        new_client.say("REPLICAOF NO ONE");
        old_client.say("SET dead branch");
        receiver.catch_up(&old);
        let dead = offset(&mut old_client);
        receiver.kill();
        let (old_id, digest) = (info(&mut old_client, "master_replid").unwrap(), old.digest());

        let mut receiver = Receiver::start(&program, &new.url());
        for number in 51..=80 {
            write(&mut new_client, number);
        }
        wait::until("it follows the new primary", || acknowledged(&mut new_client).is_some());
        receiver.catch_up(&new);
        let end = offset(&mut new_client);
        assert!(receiver.said().contains("dead branch"), "{}", receiver.said());
        let report = receiver.stop();
        assert_eq!(report["gaps"], json!([]), "{report:#}");
        assert_eq!(report["snapshots"], json!([]), "the base goes on: {report:#}");
        let new_id = info(&mut new_client, "master_replid").unwrap();
        assert_ne!(old_id, new_id);

        let shown = program.expect(0, &["log", "show"]);
        assert!(
            shown.contains(&format!("it continues {old_id}:")) && shown.contains(&new_id),
            "{shown}"
        );

        let (copy, _) = restored(&program, &new, &["--offset", &end.to_string()]);
        assert_eq!(numbers(&copy), 80, "{kind:?}");
        assert_eq!(copy.digest(), new.digest());
        let (copy, _) = restored(&program, &old, &["--offset", &format!("{old_id}:{dead}")]);
        assert_eq!(copy.digest(), digest, "{kind:?}");
    }
}

/// What comes while the store refuses everything is held, in memory, in the spool, by the server; a receiver that is killed in the
/// middle of a long command reads it again.
#[test]
fn a_store_that_is_away_loses_nothing() {
    for kind in kinds() {
        let (server, program) = (server(kind), program());
        let url = format!("{}?spool_limit=4", server.url());
        let mut receiver = Receiver::start(&program, &url);
        base_is_there(&program);
        let mut client = server.client();
        client.say("SET first value");
        receiver.catch_up(&server);
        let directory = pieces(&program)[0].path.parent().unwrap().to_owned();
        let mode = |mode| std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o500);
        for number in 0..4 {
            client.ask(&[b"SET", format!("long:{number}").as_bytes(), &noise(10_000_000)]);
            client.say(&format!("SET short:{number} value"));
        }
        wait::until("the spool is full", || receiver.said().contains("filled to 4 quarters"));
        assert!(
            receiver.said().contains("unable to store the log"),
            "{}",
            receiver.said()
        );
        mode(0o700);
        let is_split = |piece: &Piece| {
            let commands_to = piece.descriptor["facts"]["commands_to"].as_str().unwrap();
            commands_to.parse() != Ok(piece.to)
        };
        wait::until("a part of a command is stored", || {
            pieces(&program).iter().any(is_split)
        });
        receiver.kill();
        let mut receiver = Receiver::start(&program, &url);
        wait::until("it is there again", || acknowledged(&mut client).is_some());
        receiver.catch_up(&server);
        let end = offset(&mut client);
        assert_eq!(receiver.stop()["gaps"], json!([]));
        let all = pieces(&program);
        assert!(all.windows(2).all(|two| two[0].to == two[1].from), "{all:#?}");
        let (copy, _) = restored(&program, &server, &["--offset", &end.to_string()]);
        assert_eq!(copy.digest(), server.digest(), "{kind:?}");
    }
}

/// What a server is told about receivers that would count where they should not.
#[test]
fn a_receiver_says_where_it_counts() {
    let program = program();
    let server = RedisServer::start(Kind::Redis7, &["--min-replicas-to-write", "1"]);
    let mut receiver = Receiver::start(&program, &server.url());
    base_is_there(&program);
    // It counts as one, so writes are allowed.
    let mut client = server.client();
    wait::until("it is in sync", || acknowledged(&mut client).is_some());
    client.say("SET a b");
    assert_eq!(client.integer("WAIT 1 0"), 1);
    receiver.catch_up(&server);
    let said = receiver.said();
    for expected in [
        "min-replicas-to-write is set",
        "repl-backlog-size",
        "counts as a replica for WAIT",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    receiver.stop();
    program.refused(
        &["log", "receive", &format!("{}/3", server.url())],
        "one database",
        "Remove the number",
    );
    program.refused(
        &["log", "receive", &format!("{}?method=scan", server.url())],
        "method=scan",
        "Remove",
    );
}

#[test]
fn documents_of_the_log() {
    let (server, program) = (server(Kind::Redis7), program());
    let mut receiver = Receiver::start(&program, &server.url());
    base_is_there(&program);
    let mut client = server.client();
    client.say("SET a b");
    receiver.catch_up(&server);
    let end = offset(&mut client).to_string();
    pin_output("log_receive", &receiver.ended());
    pin_output("log_show_streams", &program.run(&["log", "show", "--json"]));
    pin_output("log_verify_streams", &program.run(&["log", "verify", "--json"]));
    let restore = ["restore", "latest", "--into", "copy", "--offset", &end, "--json"];
    pin_output(
        "restore_moment_dry_run",
        &program.run(&[&restore[..], &["--dry-run"]].concat()),
    );
    assert!(!program.path("copy").exists());
    pin_output("restore_moment", &program.run(&restore));
    let text = program.expect(0, &[&restore[..6], &["--clean"]].concat());
    for words in ["start a server on it", "is kept in", "2 commands after the snapshot"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}
