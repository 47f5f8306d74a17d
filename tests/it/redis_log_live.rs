//! The log of Redis and Valkey servers, restored into a live server: it is the program's replica meanwhile, and a primary again whatever
//! happens.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::documents::pin_output;
use crate::redis_certificates::certificates;
use crate::redis_log::{numbers, write};
use crate::redis_log_hostile::forge;
use crate::support::program::{Program, noise};
use crate::support::redis::{Client, Kind, RedisServer, Value as Reply, fill, kinds};
use crate::support::redis_log::{Receiver, base_is_there, info, offset, pieces, restored};
use crate::support::wait;

fn program() -> Program {
    let program = Program::on_directory();
    program.expect(0, &["init", "--no-encryption"]);
    program
}

fn source(kind: Kind) -> RedisServer {
    RedisServer::start(kind, &["--repl-backlog-size", "64mb"])
}

/// The arguments of a restore into a server.
fn restore<'a>(into: &'a str, moment: &[&'a str]) -> Vec<&'a str> {
    [&["restore", "latest", "--source", "redis", "--into", into], moment].concat()
}

/// Whether it takes writes: it is a primary, and nobody's replica.
fn is_primary(server: &RedisServer) -> bool {
    let mut client = server.client();
    info(&mut client, "role").as_deref() == Some("master")
}

fn assert_as_before(server: &RedisServer, digest: &str) {
    assert!(is_primary(server), "{}", server.log());
    assert_eq!(server.digest(), digest);
}

/// A restore that fails; returns what it said.
fn fails(program: &Program, arguments: &[&str], words: &[&str]) -> String {
    let output = program.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    for words in words {
        assert!(said.contains(words), "{words}: {said}");
    }
    said
}

/// A log of several pieces behind a snapshot of some keys, and the offset where it ends.
fn logged(kind: Kind) -> (Program, RedisServer, u64) {
    let (program, server) = (program(), source(kind));
    let mut client = server.client();
    client.ask(&[b"SET", b"in the snapshot", &noise(300_000)]);
    let mut receiver = Receiver::start(&program, &server.url());
    base_is_there(&program);
    for number in 0..4 {
        client.say(&format!("SET key:{number} {number}"));
        receiver.catch_up(&server);
    }
    let end = offset(&mut client);
    receiver.stop();
    (program, server, end)
}

/// What targets of a kind may have set: how they load, and how they log in.
fn variants(kind: Kind) -> [&'static [&'static str]; 2] {
    let plain: &[&str] = &["--appendonly", "yes", "--masterauth", "secret"];
    match kind {
        Kind::Redis7 => [
            plain,
            &[
                "--repl-diskless-load",
                "on-empty-db",
                "--masteruser",
                "somebody",
                "--masterauth",
                "secret",
            ],
        ],
        Kind::Redis8 => [plain, &["--repl-diskless-load", "swapdb", "--repl-rdb-channel", "yes"]],
        Kind::Valkey9 => [
            plain,
            &[
                "--repl-diskless-load",
                "flush-before-load",
                "--dual-channel-replication-enabled",
                "yes",
            ],
        ],
    }
}

#[test]
fn a_server_becomes_what_a_directory_makes_of_it() {
    for kind in kinds() {
        let (server, program) = (source(kind), program());
        fill(&server);
        let mut receiver = Receiver::start(&program, &server.url());
        base_is_there(&program);
        let mut client = server.client();
        for number in 1..=100 {
            write(&mut client, number);
        }
        let (whole, digest) = (offset(&mut client), server.digest());
        // In the middle of a block, small or not, none of it is there.
        let begun = offset(&mut client);
        client.say("MULTI");
        client.say("RPUSH numbers 101");
        client.ask(&[b"SET", b"large", &noise(700_000)]);
        client.say("EXEC");
        let block = begun + 500_000;
        assert!(block < offset(&mut client));
        client.say("FLUSHALL");
        client.say("FUNCTION FLUSH");
        client.say("SET after all");
        receiver.catch_up(&server);
        let end = server.digest();
        receiver.stop();
        for (number, at) in [whole, block].iter().enumerate() {
            let target = RedisServer::start(kind, variants(kind)[number]);
            let moment = ["--offset", &at.to_string()];
            let report = program.json(&restore(&target.url(), &moment));
            assert_eq!(target.digest(), digest, "{kind:?}, {number}: {report:#}");
            assert_eq!(numbers(&target), 100);
            assert_eq!(target.client().integer("FCALL wv_one 0"), 1);
            assert!(is_primary(&target));
            let (copy, directory) = restored(&program, &server, &moment);
            assert_eq!(copy.digest(), digest);
            for key in ["to", "commands", "bytes", "snapshot", "base"] {
                assert_eq!(report[key], directory[key], "{key}");
            }
            assert_eq!(report["into"], json!(target.url()));
            assert_eq!(report["refused_commands"], json!(0));
            // It goes on as any primary: others take from it what it is.
            let mut own = target.client();
            own.say("SET own write");
            let replica = RedisServer::start(kind, &[]);
            replica.client().say(&format!("REPLICAOF 127.0.0.1 {}", target.port));
            let mut client = replica.client();
            wait::until("it is in sync", || {
                info(&mut client, "master_link_status").as_deref() == Some("up")
            });
            wait::until("it has it all", || offset(&mut client) >= offset(&mut own));
            assert_eq!(replica.digest(), target.digest());
        }
        let target = RedisServer::start(kind, &[]);
        program.expect(0, &restore(&target.url(), &["--at", "latest"]));
        assert_eq!(target.digest(), end, "{kind:?}");
        // By its socket it is on this host.
        let target = RedisServer::start(kind, &[]);
        program.expect(0, &restore(&target.socket_url(), &["--at", "latest"]));
        assert_eq!(target.digest(), end, "{kind:?}");
    }
}

/// What expires between the moment and now is gone at the end, and no sooner.
#[test]
fn keys_expire_once_the_server_is_a_primary() {
    for kind in kinds() {
        let (server, program) = (source(kind), program());
        let mut receiver = Receiver::start(&program, &server.url());
        base_is_there(&program);
        let mut client = server.client();
        client.say("DEBUG SET-ACTIVE-EXPIRE 0");
        let mut moment = 0;
        client.say("MULTI");
        for command in [
            "SET n 41 PX 1",
            "INCR n",
            "PERSIST n",
            "SET soon gone PX 1",
            "SET stays x",
        ] {
            client.say(command);
        }
        client.say("EXEC");
        wait::until("it is in the stream", || {
            moment = offset(&mut client);
            moment > 0
        });
        wait::until("it has expired", || client.integer("EXISTS soon") == 0);
        receiver.catch_up(&server);
        receiver.stop();
        let target = RedisServer::start(kind, &[]);
        program.expect(0, &restore(&target.url(), &["--offset", &moment.to_string()]));
        let mut client = target.client();
        assert_eq!(client.text(&[b"GET", b"n"]), "42", "{kind:?}");
        assert_eq!(client.ask(&[b"GET", b"soon"]), Reply::Nothing);
        assert_eq!(client.integer("EXISTS stays"), 1);
    }
}

#[test]
fn what_a_server_holds_stays_unless_it_is_to_go() {
    let (program, server, end) = logged(Kind::Redis7);
    let target = source(Kind::Redis7);
    let (url, end) = (target.url(), end.to_string());
    let moment = ["--offset", end.as_str()];
    let mut client = target.client();
    client.ask(&[
        b"FUNCTION",
        b"LOAD",
        b"#!lua name=own\nredis.register_function('own', function() return 1 end)",
    ]);
    fails(
        &program,
        &restore(&url, &moment),
        &["holds 1 function libraries", "--clean"],
    );
    client.say("SELECT 5");
    client.say("SET own value");
    let digest = target.digest();
    for dry in [&[][..], &["--dry-run"]] {
        let arguments = [restore(&url, &moment), dry.to_vec()].concat();
        fails(&program, &arguments, &["the target holds 1 keys", "--clean"]);
    }
    assert_as_before(&target, &digest);
    let planned = program.json(&[restore(&url, &moment), vec!["--clean", "--dry-run"]].concat());
    assert_eq!(
        (&planned["target_keys"], &planned["dry_run"]),
        (&json!(1), &json!(true)),
        "{planned:#}"
    );
    assert_as_before(&target, &digest);
    assert!(program.listed().len() == 1);

    // A piece that cannot be read is found before anything goes.
    let all = pieces(&program);
    let piece = &all[all.len() / 2];
    let whole = std::fs::read(&piece.path).unwrap();
    let mut flipped = whole.clone();
    flipped[10] ^= 1;
    std::fs::write(&piece.path, &flipped).unwrap();
    let clean = [restore(&url, &moment), vec!["--clean"]].concat();
    fails(&program, &clean, &["log segment"]);
    assert_as_before(&target, &digest);
    assert_eq!(program.listed().len(), 1);
    std::fs::write(&piece.path, &whole).unwrap();

    let report = program.json(&clean);
    assert_eq!(target.digest(), server.digest());
    assert!(is_primary(&target));
    assert_eq!(target.client().say("FUNCTION LIST"), Reply::Array(Vec::new()));
    // What went is in a snapshot, and comes back.
    let previous = report["previous"].as_str().unwrap().strip_prefix("snapshot ").unwrap();
    let back = RedisServer::start(Kind::Redis7, &[]);
    program.expect(0, &["restore", previous, "--into", &back.url()]);
    assert_eq!(back.digest(), digest);
}

#[test]
fn documents_of_a_live_restore() {
    let (program, _server, end) = logged(Kind::Redis7);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let (url, end) = (target.url(), end.to_string());
    let arguments = [restore(&url, &["--offset", &end]), vec!["--json"]].concat();
    pin_output(
        "restore_live_dry_run",
        &program.run(&[&arguments[..], &["--dry-run"]].concat()),
    );
    assert_eq!(target.client().integer("DBSIZE"), 0);
    pin_output("restore_live", &program.run(&arguments));
    let text = program.expect(0, &[restore(&url, &["--offset", &end]), vec!["--clean"]].concat());
    for words in [
        "is a primary again and holds 5 keys",
        "the previous data is kept in snapshot",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// Says something to whoever listens on a port of this host, from an address of it; returns all that comes.
fn stranger(from: &str, port: u16, words: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    wait::until("it listens", || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let from: SocketAddr = format!("{from}:0").parse().unwrap();
        socket.bind(&from.into()).unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        if socket.connect(&to.into()).is_err() {
            return false;
        }
        let mut stream = TcpStream::from(socket);
        let _ = stream.write_all(words);
        let _ = stream.read_to_end(&mut heard);
        true
    });
    heard
}

/// The server is told an address that leads nowhere; others are let in there, and get nothing.
#[test]
fn a_server_that_cannot_connect_stays_as_it_was_and_others_get_nothing() {
    let (program, _server, end) = logged(Kind::Redis7);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let (url, end, listen) = (target.url(), end.to_string(), format!("192.0.2.1:{port}"));
    let arguments = restore(&url, &["--offset", &end, "--listen", &listen]);
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            // One of another address, and one that does not know the replication ID.
            assert_eq!(stranger("127.0.0.2", port, b"*1\r\n$4\r\nPING\r\n"), b"");
            let asks = b"*1\r\n$4\r\nPING\r\n*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n";
            assert_eq!(stranger("127.0.0.1", port, asks), b"+PONG\r\n");
        });
        let words = format!("the server did not connect to {listen} within");
        let words = [
            words.as_str(),
            "does not know the replication ID of the target",
            "refused a connection from 127.0.0.2",
            "--listen",
            "is a primary again, and holds what it held",
        ];
        fails(&program, &arguments, &words);
        others.join().unwrap();
    });
    assert!(is_primary(&target));
    assert_eq!(target.client().integer("DBSIZE"), 0);
    // An address of this host, and no more, will do.
    program.expect(0, &restore(&url, &["--offset", &end, "--listen", "127.0.0.1"]));
    assert_eq!(target.client().integer("DBSIZE"), 5);
    for (listen, words) in [("host", "is no IP address"), ("192.0.2.1", "no address of this host")] {
        fails(
            &program,
            &restore(&url, &["--offset", &end, "--listen", listen, "--clean"]),
            &[words],
        );
    }
    // As of a snapshot, nobody connects to anybody.
    std::fs::rename(program.path("repo/log"), program.path("log")).unwrap();
    let at = jiff::Timestamp::now().to_string();
    let alone = restore(&url, &["--at", &at, "--listen", "127.0.0.1", "--clean"]);
    fails(&program, &alone, &["comes back as of a snapshot"]);
    std::fs::rename(program.path("log"), program.path("repo/log")).unwrap();
    fails(
        &program,
        &restore("directory", &["--offset", &end, "--listen", "127.0.0.1"]),
        &["names a directory"],
    );
}

/// Starts a restore that stops between the snapshot and the commands.
fn held(program: &Program, arguments: &[&str]) -> Child {
    held_at(program, "live-restore", arguments)
}

/// The same, at a named point.
fn held_at(program: &Program, point: &str, arguments: &[&str]) -> Child {
    let mark = program.path("held");
    let mut command = program.command(arguments);
    command
        .env("WIREVAULT_TEST_HOLD", point)
        .env("WIREVAULT_TEST_HELD", &mark);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait::until("the snapshot is sent", || {
        mark.exists() || child.try_wait().unwrap().is_some()
    });
    assert!(mark.exists());
    child
}

fn said(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
fn a_restore_that_is_interrupted_leaves_a_primary() {
    for kind in kinds() {
        let (program, server, end) = logged(kind);
        let target = RedisServer::start(kind, &[]);
        let (url, end) = (target.url(), end.to_string());
        let arguments = restore(&url, &["--offset", &end]);
        let child = held(&program, &arguments);
        let mut client = target.client();
        wait::until("it has loaded the snapshot", || client.integer("DBSIZE") == 1);
        // Clients cannot write meanwhile.
        let refused = client.try_ask(&[b"SET", b"a", b"b"]).unwrap();
        assert!(
            matches!(&refused, Reply::Error(text) if text.starts_with("READONLY")),
            "{refused:?}"
        );
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let (code, words) = said(child);
        assert_eq!(code, Some(1), "{words}");
        assert!(
            words.contains("The target is a primary again. It holds a part"),
            "{words}"
        );
        assert!(is_primary(&target));
        let _ = std::fs::remove_file(program.path("held"));
        fails(&program, &arguments, &["the target holds 1 keys", "--clean"]);

        // Somebody else makes it a primary: it is no longer ours.
        let clean = [arguments.clone(), vec!["--clean"]].concat();
        let child = held(&program, &clean);
        client.say("REPLICAOF NO ONE");
        std::fs::remove_file(program.path("held")).unwrap();
        let (code, words) = said(child);
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains("closed the replication link"), "{words}");
        assert!(words.contains("Its previous data is in snapshot"), "{words}");
        program.expect(0, &clean);
        assert_eq!(target.digest(), server.digest());

        // Killed without a word, it leaves a replica of nobody, and the next restore says what that is.
        let child = held(&program, &clean);
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        said(child);
        std::fs::remove_file(program.path("held")).unwrap();
        fails(&program, &clean, &["the target is a replica", "REPLICAOF NO ONE"]);
    }
}

/// A store that stalls longer than the server waits for its primary (`repl-timeout`, in seconds).
#[test]
fn a_store_that_stalls_does_not_end_the_link() {
    for kind in kinds() {
        let (program, server, end) = logged(kind);
        for (point, field) in [
            ("live-restore-snapshot", "master_sync_left_bytes"),
            ("live-restore", "slave_repl_offset"),
        ] {
            let target = RedisServer::start(kind, &["--repl-timeout", "4"]);
            let (url, end) = (target.url(), end.to_string());
            let child = held_at(&program, point, &restore(&url, &["--offset", &end]));
            let mut client = target.client();
            let mut seen = std::collections::BTreeSet::new();
            // It moves by itself, once a second.
            wait::until(field, || {
                let now = info(&mut client, field);
                seen.extend(now.and_then(|now| now.parse::<i64>().ok()));
                seen.len() >= 6
            });
            std::fs::remove_file(program.path("held")).unwrap();
            let (code, words) = said(child);
            assert_eq!(code, Some(0), "{kind:?}, {point}: {words}");
            assert_eq!(target.digest(), server.digest());
        }
    }
}

#[test]
fn a_log_that_is_damaged_ends_with_a_primary() {
    let (program, server, end) = logged(Kind::Redis7);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let (url, end) = (target.url(), end.to_string());
    let arguments = restore(&url, &["--offset", &end]);
    let clean = [arguments.clone(), vec!["--clean"]].concat();
    let all = pieces(&program);
    let piece = &all[all.len() / 2];
    let whole = std::fs::read(&piece.path).unwrap();
    let length = piece.raw().len();
    let mut flipped = whole.clone();
    flipped[10] ^= 1;
    std::fs::write(&piece.path, &flipped).unwrap();
    fails(
        &program,
        &arguments,
        &["log segment", "The target is a primary again. It holds a part"],
    );
    assert!(is_primary(&target));
    target.client().say("FLUSHALL");

    // Commands that no primary sends never come to the server.
    let mut raw = b"*1\r\n$8\r\nSHUTDOWN\r\n".to_vec();
    raw.resize(length, b'x');
    forge(piece, &raw, |_| {});
    fails(
        &program,
        &arguments,
        &["SHUTDOWN, which no primary sends", "The target is a primary again"],
    );
    assert!(is_primary(&target));
    target.client().say("FLUSHALL");

    // One that the server does not know it refuses, and that is said.
    let unknown = |count: usize| format!("*1\r\n${count}\r\n{}\r\n", "N".repeat(count));
    let count = (0..length).find(|count| unknown(*count).len() == length).unwrap();
    forge(piece, unknown(count).as_bytes(), |_| {});
    let output = program.run(&arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("1 commands were refused by the server"), "{text}");
    assert!(is_primary(&target));
    std::fs::write(&piece.path, &whole).unwrap();
    program.expect(0, &clean);
    assert_eq!(target.digest(), server.digest());
}

#[test]
fn a_server_that_cannot_load_the_snapshot_is_refused() {
    for from in kinds() {
        let (program, server, end) = logged(from);
        for to in kinds() {
            let reads = from == to || from == Kind::Redis7;
            let target = RedisServer::start(to, &[]);
            let (url, end) = (target.url(), end.to_string());
            let arguments = restore(&url, &["--offset", &end]);
            if reads {
                program.expect(0, &arguments);
                assert_eq!(target.digest(), server.digest(), "{from:?} into {to:?}");
                continue;
            }
            for dry in [&[][..], &["--dry-run"]] {
                fails(
                    &program,
                    &[&arguments[..], dry].concat(),
                    &["cannot load the snapshot", "without --at and --offset"],
                );
            }
            assert!(is_primary(&target));
            assert_eq!(target.client().integer("DBSIZE"), 0);
        }
    }
}

#[test]
fn servers_that_cannot_follow_are_refused() {
    let (program, server, end) = logged(Kind::Redis7);
    let end = end.to_string();
    let moment = ["--offset", end.as_str()];
    let target = RedisServer::start(Kind::Redis7, &[]);
    let url = target.url();
    let mut client = target.client();
    let refused = |url: &str, words: &[&str]| fails(&program, &restore(url, &moment), words);
    refused(&format!("{url}/3"), &["selects database 3", "Remove the number"]);
    refused(&format!("{url}?sentinel=name"), &["behind a Sentinel"]);
    refused("postgres://nowhere/db", &["cannot go into"]);
    client.say("CONFIG SET replica-read-only no");
    refused(&url, &["replica-read-only no", "CONFIG SET replica-read-only yes"]);
    // Who may not ask for settings learns it once the target is a replica.
    client.say("ACL SETUSER less on >secret ~* +@all -config");
    let less = url.replace("redis://", "redis://less:secret@");
    refused(
        &less,
        &["replica-read-only no", "is a primary again, and holds what it held"],
    );
    assert!(is_primary(&target));
    client.say("CONFIG SET replica-read-only yes");
    client.say("ACL SETUSER less -replicaof");
    refused(&less, &["NOPERM", "+replicaof"]);
    client.say("ACL SETUSER less reset on >secret +replicaof +info +select +dbsize +function|list +ping");
    program.expect(0, &restore(&less, &moment));
    assert_eq!(target.digest(), server.digest());

    let replica = RedisServer::start(Kind::Redis7, &[]);
    replica.client().say(&format!("REPLICAOF 127.0.0.1 {}", target.port));
    refused(&replica.url(), &["the target is a replica"]);
    let cluster = RedisServer::start(
        Kind::Redis7,
        &["--cluster-enabled", "yes", "--cluster-port", &free_port()],
    );
    refused(&cluster.url(), &["node of a cluster"]);
    let renamed = RedisServer::start(Kind::Redis7, &["--rename-command", "REPLICAOF", ""]);
    refused(&renamed.url(), &["does not offer REPLICAOF"]);
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// The session with the target may be encrypted; the link of its replication is not, and a server that would encrypt it is refused.
#[test]
fn the_link_is_plain() {
    let (program, server, end) = logged(Kind::Redis7);
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path(), "ours", &["server"]);
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (port, end) = (free_port(), end.to_string());
    let (certificate, key, authority) = (path("server.crt"), path("server.key"), path("ours.crt"));
    let options = [
        &["--tls-port", &port, "--tls-auth-clients", "no"][..],
        &["--tls-cert-file", &certificate, "--tls-key-file", &key],
        &["--tls-ca-cert-file", &authority],
    ];
    let target = RedisServer::start(Kind::Redis7, &options.concat());
    let mut client = target.client();
    let url = format!("rediss://127.0.0.1:{port}?cacert={authority}");
    let arguments = restore(&url, &["--offset", &end]);
    let text = program.expect(0, &[&arguments[..], &["--dry-run"]].concat());
    assert!(text.contains("the data go over the network in clear"), "{text}");
    program.expect(0, &arguments);
    assert_eq!(target.digest(), server.digest());
    client.say("FLUSHALL");
    client.say("CONFIG SET tls-replication yes");
    fails(&program, &arguments, &["tls-replication yes", "--into DIRECTORY"]);
    client.say("ACL SETUSER less on >secret ~* +@all -config");
    let less = target.url().replace("redis://", "redis://less:secret@");
    let words = [
        "it speaks TLS on the replication link",
        "is a primary again, and holds what it held",
    ];
    fails(&program, &restore(&less, &["--offset", &end]), &words);
    assert!(is_primary(&target));
}

/// A target that is a primary of its own replicas hands on to them what it gets.
#[test]
fn replicas_of_the_target_follow() {
    let (program, server, end) = logged(Kind::Redis8);
    let target = source(Kind::Redis8);
    let replica = RedisServer::start(Kind::Redis8, &[]);
    replica.client().say(&format!("REPLICAOF 127.0.0.1 {}", target.port));
    let mut client: Client = replica.client();
    wait::until("it is in sync", || {
        info(&mut client, "master_link_status").as_deref() == Some("up")
    });
    let report: Value = program.json(&restore(&target.url(), &["--offset", &end.to_string()]));
    assert_eq!(report["keys"], json!(5), "{report:#}");
    wait::until("it has followed", || client.integer("DBSIZE") == 5);
    assert_eq!(replica.digest(), server.digest());
}
