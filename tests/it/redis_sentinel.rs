//! A Sentinel while one primary gives way to another.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::child::Guarded;
use crate::support::program::Program;
use crate::support::redis::{Client, Kind, RedisServer};
use crate::support::redis_log::{Receiver, acknowledged, offset, restored};
use crate::support::wait;

fn replication(server: &RedisServer) -> String {
    server.client().text(&[b"INFO", b"replication"])
}

fn replica_of(primary: &RedisServer) -> RedisServer {
    let follow = format!("127.0.0.1 {}", primary.port);
    let replica = RedisServer::start(Kind::Redis7, &["--replicaof", &follow]);
    wait::until("the replica is in sync", || {
        replication(&replica).contains("master_link_status:up") && replication(primary).contains("state=online")
    });
    replica
}

/// Starts a Sentinel that watches a primary; returns its port.
fn sentinel(directory: &Path, primary: &RedisServer, down_after: u32) -> (Guarded, u16) {
    let config = directory.join("sentinel.conf");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor shop 127.0.0.1 {} 1\n\
         sentinel down-after-milliseconds shop {down_after}\nsentinel failover-timeout shop 6000\n",
        directory.display(),
        primary.port
    );
    std::fs::write(&config, text).unwrap();
    let sentinel = Guarded::spawn(
        std::process::Command::new(std::env::var_os("WIREVAULT_TEST_REDIS7").unwrap())
            .arg(&config)
            .arg("--sentinel")
            .stdout(std::process::Stdio::null()),
    );
    (sentinel, port)
}

/// The receiver of a log asks the Sentinel anew when its connection ends, and goes on with what was promoted. As a backup, it prefers a replica.
#[test]
fn a_log_goes_on_with_the_new_primary() {
    let primary = RedisServer::start(Kind::Redis7, &[]);
    let replica = replica_of(&primary);
    let directory = tempfile::tempdir().unwrap();
    let (_sentinel, port) = sentinel(directory.path(), &primary, 600_000);
    let program = Program::on_s3();
    program.expect(0, &["init", "--no-encryption"]);
    let url = format!("redis://127.0.0.1:{port}?sentinel=shop&failover_wait=120");
    let mut receiver = Receiver::start(&program, &url);
    receiver.until_said("begins the log");
    wait::until("the Sentinel knows the replica", || {
        let mut client = Client::connect(port).unwrap();
        !client.text(&[b"INFO", b"sentinel"]).contains("slaves=0")
    });
    let mut client = primary.client();
    for number in 0..50 {
        client.say(&format!("SET before:{number} x"));
    }
    let stored = |end: u64| {
        wait::until("all of it is acknowledged", || {
            let all = [&primary, &replica].map(|server| acknowledged(&mut server.client()));
            all.into_iter().max() >= Some(Some(end))
        });
    };
    let end = offset(&mut client);
    stored(end);
    wait::until("the replica has it all", || offset(&mut replica.client()) >= end);
    let failover = Client::connect(port)
        .unwrap()
        .text(&[b"SENTINEL", b"FAILOVER", b"shop"]);
    assert_eq!(failover, "OK");
    wait::until("the replica is promoted", || {
        replication(&replica).contains("role:master")
    });
    let mut client = replica.client();
    for number in 0..50 {
        client.say(&format!("SET after:{number} x"));
    }
    stored(offset(&mut client));
    let report = receiver.stop();
    assert_eq!(report["gaps"], serde_json::json!([]), "{report:#}");
    let (copy, _) = restored(&program, &replica, &["--at", "latest"]);
    assert_eq!(
        (copy.client().integer("DBSIZE"), copy.digest()),
        (100, replica.digest())
    );
}

/// A real Sentinel promotes the replica of a primary that died; a backup that begins at that moment waits for it.
#[test]
fn a_backup_waits_for_the_new_primary() {
    let primary = RedisServer::start(Kind::Redis7, &[]);
    primary.client().say("SET a b");
    let replica = replica_of(&primary);
    let directory = tempfile::tempdir().unwrap();
    let (sentinel, port) = sentinel(directory.path(), &primary, 1000);
    let url = format!("redis://127.0.0.1:{port}?sentinel=shop&failover_wait=120");
    let program = Program::on_directory();
    let node = |program: &Program| {
        let shown = program.json(&["show", "latest"]);
        shown["snapshot"]["sources"][0]["outcome"]["position"]["node"].clone()
    };
    wait::until("the Sentinel knows the replica", || {
        let output = program.run(&["backup", &url]);
        output.status.success() && node(&program) == replica.url()
    });
    drop(primary);
    wait::until("the replica has lost its primary", || {
        !replication(&replica).contains("master_link_status:up")
    });
    let output = program.run(&["backup", &url]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("waiting up to 120 s"), "{said}");
    assert!(replication(&replica).contains("role:master"));
    assert_eq!(node(&program), replica.url());
    // It is the primary that keys go into now.
    replica.client().say("FLUSHALL");
    program.expect(0, &["restore", "latest", "--source", "redis", "--into", &url]);
    assert_eq!(replica.client().text(&[b"GET", b"a"]), "b");
    drop(sentinel);
}

/// A Sentinel that names one port, and says flags of it; how often it was asked is counted.
#[derive(Clone)]
struct Scripted {
    port: u16,
    named: Arc<AtomicU16>,
    flags: Arc<Mutex<&'static str>>,
    asked: Arc<AtomicU16>,
    /// What becomes of it once it has named a primary.
    later: Option<Later>,
}

#[derive(Debug, Clone, Copy)]
enum Later {
    /// It closes every connection.
    Gone,
    /// It says this of the primary.
    Flags(&'static str),
    /// It names another port.
    Port(u16),
}

impl Scripted {
    fn start(named: u16, flags: &'static str, later: Option<Later>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scripted = Self {
            port: listener.local_addr().unwrap().port(),
            named: Arc::new(AtomicU16::new(named)),
            flags: Arc::new(Mutex::new(flags)),
            asked: Arc::default(),
            later,
        };
        let serving = scripted.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream.unwrap()));
            }
        });
        scripted
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut input = BufReader::new(stream.try_clone().unwrap());
        while let Some(words) = words(&mut input) {
            let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
            let answer = match words.get(1).map(String::as_str) {
                Some("GET-MASTER-ADDR-BY-NAME") => {
                    let before = self.asked.fetch_add(1, Ordering::SeqCst);
                    match self.later.filter(|_| before > 0) {
                        Some(Later::Gone) => return,
                        Some(Later::Flags(flags)) => *self.flags.lock().unwrap() = flags,
                        Some(Later::Port(port)) => self.named.store(port, Ordering::SeqCst),
                        None => {}
                    }
                    let port = self.named.load(Ordering::SeqCst).to_string();
                    format!("*2\r\n{}{}", bulk("127.0.0.1"), bulk(&port))
                }
                Some("MASTER") => format!("*2\r\n{}{}", bulk("flags"), bulk(*self.flags.lock().unwrap())),
                Some("REPLICAS") => "*0\r\n".to_owned(),
                _ => "+OK\r\n".to_owned(),
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    }
}

fn words(input: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut number = || {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let count: usize = line.trim_end().get(1..)?.parse().ok()?;
        Some(count)
    };
    let count = number()?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let length: usize = line.trim_end().get(1..)?.parse().ok()?;
        let mut bytes = vec![0; length + 2];
        input.read_exact(&mut bytes).ok()?;
        words.push(String::from_utf8_lossy(&bytes[..length]).to_uppercase());
    }
    Some(words)
}

/// The old primary is a replica by now, or still answers as a primary while the Sentinel says that it is down: neither is taken.
#[test]
fn the_old_primary_is_not_taken() {
    let primary = RedisServer::start(Kind::Redis7, &[]);
    primary.client().say("SET new primary");
    let old = replica_of(&primary);
    let program = Program::on_directory();
    for (named, flags) in [
        (old.port, "master"),
        (primary.port, "master,o_down,failover_in_progress"),
    ] {
        let sentinel = Scripted::start(named, flags, None);
        let url = |seconds: u32| {
            format!(
                "redis://127.0.0.1:{}?sentinel=shop&failover_wait={seconds}",
                sentinel.port
            )
        };
        program.refused(&["backup", &url(0)], "no reachable primary", "failover_wait");
        let checked = program.run(&["check", &url(0)]);
        let said = [checked.stdout, checked.stderr].concat();
        assert!(
            String::from_utf8_lossy(&said).contains("no reachable primary"),
            "{said:?}"
        );
        let (asked, before) = (Arc::clone(&sentinel.asked), sentinel.asked.load(Ordering::SeqCst));
        let (place, flags) = (Arc::clone(&sentinel.named), Arc::clone(&sentinel.flags));
        let port = primary.port;
        let over = std::thread::spawn(move || {
            // It has asked twice, so it waits.
            wait::until("the Sentinel is asked again", || {
                asked.load(Ordering::SeqCst) >= before + 2
            });
            place.store(port, Ordering::SeqCst);
            *flags.lock().unwrap() = "master";
        });
        program.expect(0, &["backup", &url(120)]);
        over.join().unwrap();
        let shown = program.json(&["show", "latest"]);
        let position = &shown["snapshot"]["sources"][0]["outcome"]["position"];
        assert_eq!(position["node"], primary.url(), "{position}");
    }
}

/// After a restore the Sentinel is asked once more, and not waited for. That it does not answer is not another primary.
#[test]
fn a_primary_that_cannot_be_asked_for_is_no_other_one() {
    let source = RedisServer::start(Kind::Redis7, &[]);
    source.client().say("SET a b");
    let program = Program::on_directory();
    program.expect(0, &["backup", &source.url()]);
    let target = RedisServer::start(Kind::Redis7, &[]);
    for (later, said, not) in [
        (
            Later::Gone,
            "unable to determine whether it is still the primary",
            "another server became",
        ),
        (
            Later::Flags("master,o_down"),
            "the Sentinel reports that primary",
            "another server became",
        ),
        (
            Later::Port(source.port),
            "another server became the primary",
            "unable to determine",
        ),
    ] {
        target.client().say("FLUSHALL");
        let sentinel = Scripted::start(target.port, "master", Some(later));
        let into = format!("redis://127.0.0.1:{}?sentinel=shop&failover_wait=3600", sentinel.port);
        let restore = ["restore", "latest", "--source", "redis", "--into", &into, "--json"];
        let done: serde_json::Value = serde_json::from_str(&program.expect(2, &restore)).unwrap();
        let error = done["errors"][0].as_str().unwrap();
        assert!(error.contains(said) && !error.contains(not), "{later:?}: {error}");
        assert_eq!(target.client().text(&[b"GET", b"a"]), "b");
        assert_eq!(sentinel.asked.load(Ordering::SeqCst), 2, "{later:?}");
    }
}
