//! Redis and Valkey: the RDB of a full synchronisation, from real servers and from scripted ones that misbehave.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wirevault::engines::redis::{RedisAddress, RedisOptions, RedisSource, stored};
use wirevault::engines::{BackupContext, Source};
use wirevault::storage::fault::{Effect, Fault, FaultStore, Operation};

use crate::support::archives::Vault;
use crate::support::child::Guarded;
use crate::support::program::{Program, noise};
use crate::support::redis::{Kind, RedisServer, Value, fill, kinds};
use crate::support::wait;

/// Returns the stored RDB.
fn cat(program: &Program) -> Vec<u8> {
    let output = program.run(&["cat", "latest", "redis", "dump.rdb"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn every_server_is_backed_up_and_starts_on_the_stored_rdb() {
    for kind in kinds() {
        for diskless in ["yes", "no"] {
            let server = RedisServer::start(kind, &["--repl-diskless-sync", diskless]);
            let keys = fill(&server);
            let program = Program::on_directory();
            program.expect(0, &["backup", &server.url()]);
            let shown = program.json(&["show", "latest"]);
            let outcome = &shown["snapshot"]["sources"][0]["outcome"];
            assert_eq!(outcome["items"], keys, "{kind:?}: {outcome}");
            assert_eq!(outcome["position"]["index"], "complete", "{kind:?}: {outcome}");
            assert_eq!(outcome["position"]["functions"], "1");
            assert_eq!(outcome["position"]["crc64"], "checked");
            program.expect(0, &["verify", "latest", "--level", "content"]);
            let digest = server.digest();
            let copy = RedisServer::start_on(kind, &[], Some(&cat(&program)));
            assert_eq!(copy.digest(), digest, "{kind:?}, diskless {diskless}");
            assert!(
                program
                    .expect(0, &["cat", "latest", "redis", "acl.txt"])
                    .contains("user default on")
            );
            assert!(
                program
                    .expect(0, &["cat", "latest", "redis", "config.txt"])
                    .contains("maxmemory-policy")
            );
        }
    }
}

#[test]
fn users_sockets_and_passwords_log_in() {
    let server = RedisServer::start(Kind::Redis7, &["--requirepass", "geheim"]);
    let mut client = server.client();
    client.say("AUTH geheim");
    client.say("SET a b");
    client.say("ACL SETUSER backup on >streng-geheim +psync +replconf +ping +info");
    client.say("ACL SETUSER nobody on >streng-geheim +ping");
    let mut program = Program::on_directory();
    let (port, socket) = (server.port, server.socket_url());
    program.refused(&["backup", &server.url()], "NOAUTH", "password");
    program.refused(
        &["backup", &format!("redis://:geheim1@127.0.0.1:{port}")],
        "WRONGPASS",
        "password",
    );
    let url = format!("redis://nobody:streng-geheim@127.0.0.1:{port}");
    program.refused(&["backup", &url], "NOPERM", "+psync");
    program.expect(0, &["backup", &format!("redis://:geheim@127.0.0.1:{port}")]);
    let shown = program.expect(0, &["show", "latest", "--json"]);
    assert!(!shown.contains("geheim"));
    assert!(
        program
            .expect(0, &["cat", "latest", "redis", "config.txt"])
            .contains("requirepass ***")
    );
    // The least rights: the data is whole, and what the server does not show is noted, unless it is not wanted.
    let url = format!("redis://backup:streng-geheim@127.0.0.1:{port}");
    program.expect(2, &["backup", &url]);
    program.expect(0, &["backup", &format!("{url}?settings=no")]);
    program.set("REDISCLI_AUTH", "geheim");
    program.expect(0, &["backup", &socket]);
    assert_eq!(program.listed().len(), 4);
}

/// Serves one scripted peer: answers commands until PSYNC, then sends `after` and closes.
fn scripted(after: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, after) = (stream.unwrap(), after.clone());
            std::thread::spawn(move || {
                let mut buffer = vec![0; 4096];
                loop {
                    let count = stream.read(&mut buffer).unwrap_or(0);
                    if count == 0 {
                        return;
                    }
                    let said = String::from_utf8_lossy(&buffer[..count]).into_owned();
                    if said.contains("PSYNC") {
                        // Piece by piece, with keepalives before it.
                        let _ = stream.write_all(b"\n\n");
                        for piece in after.chunks(1000) {
                            let _ = stream.write_all(piece);
                        }
                        // Closed with something unread, a socket would take back what it has not delivered.
                        let _ = stream.shutdown(std::net::Shutdown::Write);
                        let _ = std::io::copy(&mut stream, &mut std::io::sink());
                        return;
                    }
                    let answer: &[u8] = if said.contains("INFO") {
                        b"$56\r\nredis_version:7.0.15\r\nrole:master\r\ncluster_enabled:0\r\n\r\n\r\n"
                    } else if said.contains("ACL") || said.contains("CONFIG") || said.contains("MODULE") {
                        b"*0\r\n"
                    } else {
                        b"+OK\r\n"
                    };
                    stream.write_all(answer).unwrap();
                }
            });
        }
    });
    port
}

fn stored_rdb() -> Vec<u8> {
    let server = RedisServer::start(Kind::Redis7, &["--repl-diskless-sync", "no"]);
    let mut client = server.client();
    for n in 0..2000 {
        client.say(&format!("SET key:{n} value:{n}"));
    }
    client.say("SAVE");
    std::fs::read(server.dir.path().join("dump.rdb")).unwrap()
}

#[test]
fn servers_that_misbehave_are_errors_and_leave_no_snapshot() {
    let rdb = stored_rdb();
    let full = b"+FULLRESYNC 0123456789012345678901234567890123456789 42\r\n\n\n".to_vec();
    let mark = b"abcdefghijabcdefghijabcdefghijabcdefghij".to_vec();
    let by_length =
        |rdb: &[u8], length: usize| [full.clone(), format!("${length}\r\n").into_bytes(), rdb.to_vec()].concat();
    let by_mark = |rdb: &[u8], end: &[u8]| {
        [
            full.clone(),
            b"$EOF:".to_vec(),
            mark.clone(),
            b"\r\n".to_vec(),
            rdb.to_vec(),
            end.to_vec(),
        ]
        .concat()
    };
    let mut wrong_crc = rdb.clone();
    *wrong_crc.last_mut().unwrap() ^= 1;
    // A type that nobody knows, in place of the first key's, and its CRC made right again.
    let mut unknown = rdb.clone();
    let first = unknown
        .windows(6)
        .position(|w| w == b"\x00\x05key:" || w == b"\x00\x06key:" || w == b"\x00\x07key:" || w == b"\x00\x08key:")
        .unwrap();
    unknown[first] = 99;
    let body = unknown.len() - 8;
    let crc = wirevault::engines::redis::wire::rdb::Crc64::of(&unknown[..body]);
    unknown[body..].copy_from_slice(&crc.to_le_bytes());
    let half = &rdb[..rdb.len() / 2];
    for (sent, message) in [
        (by_length(half, rdb.len()), "cut short"),
        (by_mark(half, b""), "cut short"),
        (by_length(&wrong_crc, rdb.len()), "CRC64"),
        (by_mark(&wrong_crc, &mark), "CRC64"),
        (by_mark(&rdb, b"ABCDEFGHIJabcdefghijabcdefghijabcdefghij"), "mark"),
        (by_length(&rdb, rdb.len() + 100), "announced"),
        (
            b"-LOADING Redis is loading the dataset in memory\r\n".to_vec(),
            "LOADING",
        ),
        (
            b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n".to_vec(),
            "NOMASTERLINK",
        ),
        (b"-ERR unknown command 'PSYNC'\r\n".to_vec(), "unknown command"),
        (b"+CONTINUE\r\n".to_vec(), "CONTINUE"),
        ([full.clone(), b"hello\r\n".to_vec()].concat(), "announced by"),
        (Vec::new(), "closed the connection"),
    ] {
        let program = Program::on_directory();
        let url = format!("redis://127.0.0.1:{}", scripted(sent));
        let output = program.run(&["backup", &url]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{message}: {text}");
        assert!(
            text.contains(message) && text.contains("error: ") && !text.contains("panicked"),
            "{message}: {text}"
        );
        assert!(program.listed().is_empty());
    }
    for sent in [
        by_length(&rdb, rdb.len()),
        by_mark(&rdb, &mark),
        by_mark(&rdb, &[&mark[..], b"\n\n\n"].concat()),
    ] {
        let program = Program::on_directory();
        program.expect(0, &["backup", &format!("redis://127.0.0.1:{}", scripted(sent))]);
        assert_eq!(cat(&program), rdb);
    }
    for sent in [by_length(&unknown, unknown.len()), by_mark(&unknown, &mark)] {
        let program = Program::on_directory();
        program.expect(0, &["backup", &format!("redis://127.0.0.1:{}", scripted(sent))]);
        assert_eq!(cat(&program), unknown);
        let shown = program.json(&["show", "latest"]);
        let outcome = &shown["snapshot"]["sources"][0]["outcome"];
        assert_eq!(outcome["position"]["index"], "none");
        assert_eq!(outcome["note_counts"]["rdb-not-understood"], 1);
    }
}

/// A store that takes nothing until the server has sent everything: what the archive cannot take goes through the spool file,
/// and the server keeps nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_does_not_hold_the_server() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    for n in 0..24 {
        client.ask(&[b"SET", format!("noise:{n}").as_bytes(), &noise(5_000_000)]);
    }
    for (spool_limit, fits) in [(1 << 30, true), (1 << 20, false)] {
        let mut vault = Vault::new();
        let (store, gate) = (FaultStore::new(vault.store.clone()), Arc::new(Semaphore::new(0)));
        store.inject(Fault {
            count: usize::MAX,
            ..Fault::once(Operation::PutPart, "", Effect::Hang(gate.clone()))
        });
        let store = Arc::new(store);
        client.say("CONFIG RESETSTAT");
        let spool = tempfile::tempdir().unwrap();
        let address = RedisAddress::from_url(&server.url(), None, None, &|_| None).unwrap();
        let source = RedisSource::new(RedisOptions {
            max_hold: Duration::from_millis(20),
            spool_limit,
            ..RedisOptions::new(address)
        });
        let context = BackupContext {
            name: "s".to_owned(),
            writer: vault.writer_to(store).await,
            pipeline: vault.pipeline.clone(),
            reporter: vault.reporter(),
            cancel: CancellationToken::new(),
            parallel: 1,
            spool_dir: spool.path().to_owned(),
        };
        let backup = tokio::spawn(async move { source.backup(context).await });
        let mut peak = 0;
        while !backup.is_finished() {
            let info = client.text(&[b"INFO", b"memory"]);
            let line = info.lines().find_map(|line| line.strip_prefix("mem_clients_slaves:"));
            peak = peak.max(line.unwrap().trim().parse::<u64>().unwrap());
            // The child that sends the RDB has come to its end, one way or the other.
            let info = client.text(&[b"INFO", b"persistence"]);
            let forked = client.text(&[b"INFO", b"stats"]).contains("total_forks:1");
            if forked && info.contains("rdb_bgsave_in_progress:0") {
                gate.close();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(peak, 0);
        assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
        match backup.await.unwrap() {
            Ok(outcome) => {
                assert!(fits);
                vault.archives = outcome.archives;
                let verified = stored::verify(&vault.reader().await, &CancellationToken::new())
                    .await
                    .unwrap();
                assert_eq!(verified.keys(), 24);
                assert_eq!(vault.reporter.notes(), ["spooled dump.rdb"]);
            }
            Err(error) => assert!(!fits && error.chain().contains("spool file"), "{error:?}"),
        }
    }
}

/// A service that keeps PSYNC to itself: keys are read one by one, and what is stored is an RDB like any other.
#[test]
fn keys_are_read_one_by_one_where_a_synchronisation_is_refused() {
    for kind in kinds() {
        let server = RedisServer::start(kind, &[]);
        let keys = fill(&server);
        let mut client = server.client();
        for n in 0..3000 {
            client.say(&format!("SET key:{n} {n}"));
        }
        client.ask(&[b"SET", b"large", &noise(20_000_000)]);
        client.say("PEXPIREAT key:7 4102444800000");
        client.say("ACL SETUSER managed on >streng-geheim ~* +@all -psync -replconf -sync");
        let program = Program::on_directory();
        let url = format!("redis://managed:streng-geheim@127.0.0.1:{}", server.port);
        program.refused(&["backup", &format!("{url}?method=psync")], "NOPERM", "+psync");
        program.expect(0, &["backup", &url]);
        let shown = program.json(&["show", "latest"]);
        let outcome = &shown["snapshot"]["sources"][0]["outcome"];
        assert_eq!(outcome["items"], keys + 3001, "{kind:?}: {outcome}");
        assert_eq!(outcome["position"]["method"], "scan");
        assert_eq!(outcome["position"]["functions"], "1");
        assert_eq!(outcome["note_counts"]["no-psync"], 1);
        let text = program.expect(0, &["show", "latest"]);
        assert!(
            text.contains("read by SCAN and DUMP") && text.contains("each key as of the moment"),
            "{text}"
        );
        program.expect(0, &["verify", "latest", "--level", "content"]);
        // A stock server starts on it, and it goes back like any other.
        let digest = server.digest();
        assert_eq!(
            RedisServer::start_on(kind, &[], Some(&cat(&program))).digest(),
            digest,
            "{kind:?}"
        );
        let target = RedisServer::start(kind, &[]);
        program.expect(0, &["restore", "latest", "--source", "redis", "--into", &target.url()]);
        assert_eq!(target.digest(), digest, "{kind:?}");
        assert_eq!(target.client().integer("PEXPIRETIME key:7"), 4_102_444_800_000);
        // Services that do not even show sizes, or know the newer commands.
        client.say("ACL SETUSER managed -memory -pexpiretime -function -info");
        let begin = std::time::Instant::now();
        program.expect(2, &["backup", &format!("{url}?method=scan&scan_rate=3000")]);
        assert!(begin.elapsed() > Duration::from_secs(1));
        client.say("ACL SETUSER managed -dump");
        program.refused(&["backup", &url], "keys cannot be read one by one either", "+psync");
    }
}

/// Keys come and go while they are read: those that stay all the time are there, none twice.
#[test]
fn keys_that_stay_are_read_whatever_happens_to_others() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    for n in 0..20_000 {
        client.say(&format!("SET stays:{n} {n}"));
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (port, ended) = (server.client(), stop.clone());
    let writer = std::thread::spawn(move || {
        let mut client = port;
        let mut n = 0_u64;
        // The table grows and shrinks, so SCAN names keys twice.
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            for _ in 0..40_000 {
                client.say(&format!("SET goes:{n} {n}"));
                n += 1;
                if ended.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
            }
            client.ask(&[
                b"EVAL",
                b"for _, k in ipairs(redis.call('KEYS', 'goes:*')) do redis.call('DEL', k) end",
                b"0",
            ]);
        }
    });
    let program = Program::on_directory();
    for _ in 0..2 {
        program.expect(0, &["backup", &format!("{}?method=scan", server.url())]);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    for id in program.listed() {
        let output = program.run(&["cat", &id, "redis", "dump.rdb"]);
        // A server refuses an RDB that holds a key twice.
        let copy = RedisServer::start_on(Kind::Redis7, &[], Some(&output.stdout));
        let mut client = copy.client();
        let Value::Array(found) = client.say("KEYS stays:*") else {
            panic!()
        };
        assert_eq!(found.len(), 20_000);
    }
}

/// A Sentinel names the primary and its replicas; without one, the primary does.
#[test]
fn replicas_are_found_and_read() {
    let primary = RedisServer::start(Kind::Redis7, &["--repl-diskless-sync", "yes"]);
    let keys = fill(&primary);
    let follow = format!("127.0.0.1 {}", primary.port);
    let replica = RedisServer::start(
        Kind::Redis7,
        &["--replicaof", &follow, "--replica-announce-ip", "127.0.0.1"],
    );
    let until = |what: &dyn Fn() -> bool| wait::until("servers know one another", what);
    until(&|| {
        replica
            .client()
            .text(&[b"INFO", b"replication"])
            .contains("master_link_status:up")
    });
    until(&|| {
        primary
            .client()
            .text(&[b"INFO", b"replication"])
            .contains("state=online")
    });
    let program = Program::on_directory();
    let from = |id: &str| {
        let shown = program.json(&["show", id]);
        shown["snapshot"]["sources"][0]["outcome"].clone()
    };
    program.expect(0, &["backup", &format!("{}?replica=yes", primary.url())]);
    let outcome = from("latest");
    assert_eq!(
        (&outcome["position"]["node"], &outcome["items"]),
        (&replica.url().into(), &keys.into()),
        "{outcome}"
    );

    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("sentinel.conf");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor shop 127.0.0.1 {} 1\n",
        directory.path().display(),
        primary.port
    );
    std::fs::write(&config, text).unwrap();
    let sentinel = Guarded::spawn(
        std::process::Command::new(std::env::var_os("WIREVAULT_TEST_REDIS7").unwrap())
            .arg(&config)
            .arg("--sentinel")
            .stdout(std::process::Stdio::null()),
    );
    let url = format!("redis://127.0.0.1:{port}?sentinel=shop");
    until(&|| {
        let output = program.run(&["backup", &url]);
        output.status.success() && from("latest")["position"]["node"] == replica.url()
    });
    program.refused(
        &["backup", &format!("redis://127.0.0.1:{port}?sentinel=other")],
        "other",
        "sentinel monitor",
    );
    // What is restored goes to the primary.
    primary.client().say("FLUSHALL");
    primary.client().say("FUNCTION FLUSH");
    program.expect(0, &["restore", "latest", "--source", "redis", "--into", &url]);
    assert!(primary.client().integer("DBSIZE") > 0);
    drop(sentinel);
    // A replica that lost its primary is not backed up: nobody knows how old its keys are.
    drop(primary);
    until(&|| {
        replica
            .client()
            .text(&[b"INFO", b"replication"])
            .contains("master_link_status:down")
    });
    program.refused(&["backup", &replica.url()], "not in sync", "Back up the primary");
}

#[test]
fn tls_is_spoken_and_the_certificate_verified() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    for name in ["ours", "other"] {
        let (key, certificate) = (path(&format!("{name}.key")), path(&format!("{name}.pem")));
        let made = std::process::Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=redis",
            ])
            .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &key, "-out", &certificate])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let (key, certificate) = (path("ours.key"), path("ours.pem"));
    let options = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &certificate,
        "--tls-auth-clients",
        "no",
    ];
    let server = RedisServer::start(Kind::Redis7, &options);
    fill(&server);
    server.client().ask(&[b"SET", b"large", &noise(9_000_000)]);
    let digest = server.digest();
    let program = Program::on_directory();
    let url = |cacert: &str| format!("rediss://127.0.0.1:{port}?cacert={}", path(cacert));
    program.expect(0, &["backup", &url("ours.pem")]);
    program.refused(&["backup", &url("other.pem")], "TLS handshake failed", "cacert");
    program.refused(
        &["backup", &format!("rediss://127.0.0.1:{}", server.port)],
        "no answer from the server in time",
        "uses TLS",
    );
    server.client().say("FLUSHALL");
    server.client().say("FUNCTION FLUSH");
    program.expect(
        0,
        &["restore", "latest", "--source", "redis", "--into", &url("ours.pem")],
    );
    assert_eq!(server.digest(), digest);
}
