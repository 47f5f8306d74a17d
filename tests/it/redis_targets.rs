//! Redis and Valkey: targets that do not keep, take or answer what a restore sends them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;
use wirevault::archive::ArchiveReader;
use wirevault::engines::redis::wire::rdb;
use wirevault::engines::redis::{RedisAddress, RedisOptions, RedisRestore, RedisRestoreOptions, RedisSource};

use crate::support::archives::Vault;
use crate::support::program::{Program, noise};
use crate::support::redis::{Kind, RedisServer, Value, fill, kinds};

/// Backs a server up into a new repository.
fn backed_up(url: &str, code: i32) -> Program {
    let program = Program::on_directory();
    program.expect(code, &["backup", url]);
    program
}

fn restored(program: &Program, code: i32, arguments: &[&str]) -> Json {
    let arguments = [&["restore", "latest:adhoc", "--source", "redis", "--json"], arguments].concat();
    serde_json::from_str(&program.expect(code, &arguments)).unwrap()
}

#[test]
fn keys_that_a_target_evicts_are_counted() {
    for kind in kinds() {
        let server = RedisServer::start(kind, &[]);
        let mut client = server.client();
        for n in 0..6000 {
            client.ask(&[b"SET", format!("k{n}").as_bytes(), &noise(1000)]);
        }
        let program = backed_up(&server.url(), 0);
        let evicting = ["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"];
        let target = RedisServer::start(kind, &evicting);
        let planned = program.expect(0, &["restore", "latest", "--into", &target.url(), "--dry-run"]);
        assert!(planned.contains("warning: maxmemory of the target is 4"), "{planned}");
        assert!(planned.contains("it will evict keys"), "{planned}");
        let done = restored(&program, 2, &["--into", &target.url()]);
        let left = target.client().integer("DBSIZE");
        assert!(left < 6000);
        let said = done["errors"][0].as_str().unwrap();
        assert!(said.contains("it evicted ") && said.contains("maxmemory"), "{said}");
        // A user who may not ask INFO counts keys.
        target.client().say("FLUSHALL");
        target.client().say("ACL SETUSER some on >secret ~* +@all -info");
        let url = format!("redis://some:secret@127.0.0.1:{}", target.port);
        let done = restored(&program, 2, &["--into", &url]);
        let said = done["errors"][0].as_str().unwrap();
        assert!(said.contains("6000 were restored, but it holds "), "{said}");
        // With room for all of them nothing is said.
        let roomy = RedisServer::start(kind, &["--maxmemory", "400mb", "--maxmemory-policy", "allkeys-lru"]);
        let done = restored(&program, 0, &["--into", &roomy.url()]);
        assert_eq!(done["restored"][0]["report"]["restored"], 6000);
    }
}

/// Keys that expire while the rest is loaded are not missed.
#[test]
fn keys_that_expire_are_not_taken_for_evicted() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    for n in 0..500 {
        client.say(&format!("SET short:{n} 1 PX 4000"));
        client.say(&format!("SET stays:{n} 1"));
    }
    let program = backed_up(&server.url(), 0);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let mut client = target.client();
    client.say("ACL SETUSER some on >secret ~* +@all -info");
    let url = format!("redis://some:secret@127.0.0.1:{}", target.port);
    restored(&program, 0, &["--into", &url]);
    assert_eq!(client.integer("EXISTS stays:0 stays:499"), 2);
}

#[test]
fn a_library_of_the_target_is_not_replaced_unasked() {
    let library = |server: &RedisServer, number: i32| {
        let code = format!("#!lua name=a\nredis.register_function('f', function() return {number} end)");
        server.client().ask(&[b"FUNCTION", b"LOAD", code.as_bytes()]);
    };
    for kind in kinds() {
        let server = RedisServer::start(kind, &[]);
        library(&server, 1);
        server.client().say("SET k 1");
        let program = backed_up(&server.url(), 0);
        let target = RedisServer::start(kind, &[]);
        library(&target, 2);
        let into = ["--into", &target.url()];
        let done = restored(&program, 2, &into);
        let said = done["errors"][0].as_str().unwrap();
        assert!(said.contains("library \"a\"") && said.contains("--conflict"), "{said}");
        assert_eq!(target.client().integer("FCALL f 0"), 2);
        assert_eq!(target.client().integer("EXISTS k"), 1);
        restored(&program, 0, &[&into[..], &["--conflict", "skip"]].concat());
        assert_eq!(target.client().integer("FCALL f 0"), 2);
        restored(&program, 0, &[&into[..], &["--conflict", "replace"]].concat());
        assert_eq!(target.client().integer("FCALL f 0"), 1);
        // One that is the same is no conflict.
        target.client().say("FLUSHALL");
        let done = restored(&program, 0, &into);
        assert_eq!(done["restored"][0]["report"]["functions"], 1);
    }
}

/// A restore that was planned and not begun.
async fn planned(server: &RedisServer, target: &RedisServer, user: &str, timeout: Duration) -> (Vault, RedisRestore) {
    let mut vault = Vault::new();
    let address = RedisAddress::from_url(&server.url(), None, None, &|_| None).unwrap();
    let source = RedisSource::new(RedisOptions::new(address));
    let spool = tempfile::tempdir().unwrap();
    vault.backup(&source, spool.path()).await.unwrap();
    let url = format!("redis://{user}127.0.0.1:{}", target.port);
    let mut address = RedisAddress::from_url(&url, None, None, &|_| None).unwrap();
    address.read_timeout = timeout;
    let restore = RedisRestore {
        address,
        reader: vault.reader().await,
        options: RedisRestoreOptions::default(),
        task: "s".to_owned(),
        reporter: vault.reporter(),
        cancel: CancellationToken::new(),
    };
    (vault, restore)
}

/// The server takes no commands that write, or no bytes at all, for longer than anybody waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_hangs_is_given_up() {
    for kind in kinds() {
        // Its answers do not come; it does not take the bytes.
        for large in [false, true] {
            let server = RedisServer::start(kind, &[]);
            let mut client = server.client();
            if large {
                client.ask(&[b"SET", b"large", &noise(30_000_000)]);
            } else {
                client.say("DEBUG POPULATE 5000");
            }
            let target = RedisServer::start(kind, &[]);
            let (_vault, restore) = planned(&server, &target, "", Duration::from_secs(3)).await;
            let plan = restore.plan().await.unwrap();
            let verified = restore.verify().await.unwrap();
            target.client().say("CLIENT PAUSE 600000 WRITE");
            let began = std::time::Instant::now();
            let error = restore.run(plan, verified).await.unwrap_err();
            let said = error.chain();
            assert!(
                said.contains("after 0 keys") && said.contains("no data from the server for 3 seconds"),
                "{said}"
            );
            assert!(error.hint().unwrap().contains("--conflict skip"));
            assert!(began.elapsed() < Duration::from_secs(300));
        }
    }
}

/// A slow store is no fault of the target: only the time counts in which the server owes an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_waits_for_us_is_not_given_up() {
    use std::sync::Arc;
    use wirevault::storage::limit::{LimitOptions, LimitStore};
    let server = RedisServer::start(Kind::Redis7, &[]);
    server.client().ask(&[b"SET", b"large", &noise(6_000_000)]);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let (vault, mut restore) = planned(&server, &target, "", Duration::from_secs(1)).await;
    let limit = LimitOptions {
        upload_bytes_per_second: None,
        download_bytes_per_second: Some(1 << 20),
    };
    let plan = restore.plan().await.unwrap();
    let verified = restore.verify().await.unwrap();
    let slow = Arc::new(LimitStore::new(vault.store.clone(), limit));
    restore.reader = ArchiveReader::open(slow, &vault.pipeline, vault.archives.clone())
        .await
        .unwrap();
    let tally = restore.run(plan, verified).await.unwrap();
    assert_eq!(tally.restored, 1);
}

/// A database that can no longer be chosen: its keys do not go into the one before.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_behind_a_select_that_is_refused() {
    for kind in kinds() {
        let server = RedisServer::start(kind, &[]);
        let mut client = server.client();
        for n in 0..100 {
            client.say(&format!("SET zero:{n} 0"));
        }
        client.say("SELECT 5");
        for n in 0..100 {
            client.say(&format!("SET five:{n} 5"));
            client.say(&format!("RPUSH list:{n} 5"));
        }
        let target = RedisServer::start(kind, &[]);
        let mut admin = target.client();
        admin.say("ACL SETUSER some on >secret ~* +@all");
        let (_vault, restore) = planned(&server, &target, "some:secret@", Duration::from_secs(60)).await;
        let plan = restore.plan().await.unwrap();
        let verified = restore.verify().await.unwrap();
        admin.say("ACL SETUSER some -select");
        let said = restore.run(plan, verified).await.unwrap_err().chain();
        assert!(said.contains("choose database 5"), "{said}");
        assert_eq!(admin.say("KEYS five:*"), Value::Array(vec![]));
        assert_eq!(admin.say("KEYS list:*"), Value::Array(vec![]));
        admin.say("SELECT 5");
        assert_eq!(admin.integer("DBSIZE"), 0);
    }
}

/// A primary that gives one RDB to whoever asks for a synchronisation.
fn primary(rdb: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let rdb = rdb.clone();
            std::thread::spawn(move || serve(stream.unwrap(), &rdb));
        }
    });
    port
}

/// Reads `*3` or `$5`.
fn number(input: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    line.trim_end().get(1..)?.parse().ok()
}

/// Reads a command; returns its first word.
fn command(input: &mut BufReader<TcpStream>) -> Option<String> {
    let mut words = Vec::new();
    for _ in 0..number(input)? {
        let mut bytes = vec![0; number(input)? + 2];
        input.read_exact(&mut bytes).ok()?;
        words.push(String::from_utf8_lossy(&bytes).trim_end().to_owned());
    }
    words.into_iter().next()
}

fn serve(mut stream: TcpStream, rdb: &[u8]) {
    let mut input = BufReader::new(stream.try_clone().unwrap());
    while let Some(word) = command(&mut input) {
        let info = "redis_version:8.6.0\r\nrole:master\r\ncluster_enabled:0\r\n# Keyspace\r\n";
        let answer = match word.as_str() {
            "INFO" => format!("${}\r\n{info}\r\n", info.len()).into_bytes(),
            "ACL" | "CONFIG" | "MODULE" => b"*0\r\n".to_vec(),
            "PSYNC" => {
                let head = format!("+FULLRESYNC {} 0\r\n${}\r\n", "a".repeat(40), rdb.len());
                [head.as_bytes(), rdb].concat()
            }
            _ => b"+OK\r\n".to_vec(),
        };
        let _ = stream.write_all(&answer);
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// Number of a module's type as an RDB has it.
fn type_id(name: &str) -> Vec<u8> {
    let characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let id = name
        .chars()
        .fold(0, |id, c| id << 6 | characters.find(c).unwrap() as u64)
        << 10
        | 1;
    [&[0x81][..], &id.to_be_bytes()].concat()
}

/// An RDB with a hundred strings, a graph, a document, and what the module of graphs keeps beside the keys, before or
/// after them.
fn with_module_data(last: bool, version: u16) -> Vec<u8> {
    let value =
        |key: &[u8], kind: &str| [&[7][..], &string(key), &type_id(kind), &[5], &string(b"value"), &[0]].concat();
    let data = [
        &[247][..],
        &type_id("graphdata"),
        &[2, 2, 5],
        &string(b"half of a graph"),
        &[0],
    ]
    .concat();
    let nothing = [&[247][..], &type_id("othertype"), &[2, 2, 0]].concat();
    let mut keys = vec![254, 0];
    for n in 0..100 {
        keys.extend([&[0][..], &string(format!("k{n}").as_bytes()), &string(b"v")].concat());
    }
    keys.extend(
        [
            value(b"graph", "graphdata"),
            value(b"other half", "graphmeta"),
            value(b"document", "ReJSON-RL"),
        ]
        .concat(),
    );
    let parts = if last {
        [keys, nothing, data]
    } else {
        [nothing, data, keys]
    };
    let mut bytes = [format!("REDIS{version:04}").as_bytes(), &parts.concat(), &[255]].concat();
    let crc = rdb::Crc64::of(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

#[test]
fn keys_whose_module_keeps_data_beside_them_go_into_a_file_only() {
    for last in [false, true] {
        let rdb = with_module_data(last, 12);
        let program = backed_up(&format!("redis://127.0.0.1:{}", primary(rdb.clone())), 0);
        let facts = program.json(&["show", "latest"]);
        let position = &facts["snapshot"]["sources"][0]["outcome"]["position"];
        assert_eq!(position["module_data"], "graphdata", "{facts}");
        let target = RedisServer::start(Kind::Redis7, &[]);
        let done = restored(&program, 2, &["--into", &target.url()]);
        let report = &done["restored"][0]["report"];
        assert_eq!(
            (&report["restored"], &report["failed_keys"]),
            (&100.into(), &3.into()),
            "{done}"
        );
        let failed = report["failed"].as_array().unwrap();
        let why = |name: &str| {
            let item = failed
                .iter()
                .find(|item| item["name"].as_str().unwrap().starts_with(name))
                .unwrap();
            format!(
                "{} {}",
                item["error"].as_str().unwrap(),
                item["advice"].as_str().unwrap()
            )
        };
        for name in ["graph ", "other half"] {
            assert!(
                why(name).contains("outside keys") && why(name).contains("--into file:"),
                "{done}"
            );
        }
        // Nothing is missing of a document; this target has no module for it.
        assert!(!why("document").contains("outside keys"), "{done}");
        let losses = report["losses"].as_array().unwrap();
        assert_eq!((losses.len(), &losses[0]["name"]), (1, &"graphdata".into()), "{done}");
        assert_eq!(target.client().integer("DBSIZE"), 100);
        // A choice of keys is no promise of more than them.
        restored(
            &program,
            0,
            &["--into", &target.url(), "--conflict", "replace", "--key", "k*"],
        );
        program.expect(
            0,
            &["restore", "latest", "--source", "redis", "--into", "file:dump.rdb"],
        );
        assert_eq!(std::fs::read(program.path("dump.rdb")).unwrap(), rdb);
    }
}

/// What a module keeps beside the keys is not in the backup of one database, so no file brings it; keys that need it stay out
/// however the RDB is proven.
#[test]
fn data_of_modules_are_not_in_a_backup_of_one_database() {
    for version in [12, 13] {
        let url = format!("redis://127.0.0.1:{}?db=0", primary(with_module_data(true, version)));
        let program = backed_up(&url, 2);
        let shown = program.json(&["show", "latest"]);
        let notes = &shown["snapshot"]["sources"][0]["outcome"]["note_counts"];
        assert_eq!(notes["module-data-not-stored"], 1, "{notes}");
        assert!(notes["module-data"].is_null(), "{notes}");
        let target = RedisServer::start(Kind::Redis7, &[]);
        for clean in [&[][..], &["--clean"]] {
            target.client().say("FLUSHALL");
            let done = restored(&program, 2, &[&["--into", &target.url()][..], clean].concat());
            let failed = done["restored"][0]["report"]["failed"].as_array().unwrap();
            let graph = failed.iter().find(|item| item["name"] == "graph (database 0)").unwrap();
            assert!(
                graph["error"].as_str().unwrap().contains("outside keys"),
                "{version} {clean:?}: {graph}"
            );
            let advice = graph["advice"].as_str().unwrap();
            assert!(
                advice.contains("back up the whole server"),
                "{version} {clean:?}: {graph}"
            );
        }
    }
}

/// An RDB has times of its own, and keys in any order; what counts is what it holds.
#[test]
fn content_that_did_not_change_is_found_unchanged() {
    for kind in kinds() {
        let server = RedisServer::start(kind, &["--maxmemory", "900mb", "--maxmemory-policy", "allkeys-lru"]);
        fill(&server);
        let mut client = server.client();
        for change in [
            "SET int 12346",
            "PEXPIRE embedded 90000000",
            "COPY embedded elsewhere",
            "FUNCTION DELETE wv",
            "ACL SETUSER another",
        ] {
            let program = Program::on_directory();
            let backup = |stored: usize| {
                let said = program.expect(0, &["backup", &server.url(), "--if-changed"]);
                assert_eq!(program.listed().len(), stored, "{kind:?}, {change}: {said}");
            };
            backup(1);
            // When a key was used last is no content.
            client.say("GET int");
            backup(1);
            client.say(change);
            backup(2);
        }
    }
}

/// What stands before a type that nobody knows comes back; what does not is named.
#[test]
fn keys_before_an_unknown_type_go_into_a_server() {
    let mut bytes = [&b"REDIS0013"[..], &[254, 0]].concat();
    for n in 0..100 {
        bytes.extend([&[0][..], &string(format!("k{n}").as_bytes()), &string(b"v")].concat());
    }
    bytes.extend([&[99][..], &string(b"odd"), &[7; 20], &[255]].concat());
    let crc = rdb::Crc64::of(&bytes);
    bytes.extend(crc.to_le_bytes());
    let program = backed_up(&format!("redis://127.0.0.1:{}", primary(bytes)), 0);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let done = restored(&program, 2, &["--into", &target.url()]);
    assert_eq!(done["restored"][0]["report"]["restored"], 100, "{done}");
    let said = done["errors"][0].as_str().unwrap();
    assert!(
        said.contains("type or opcode 99") && said.contains("--into file:"),
        "{said}"
    );
    restored(
        &program,
        2,
        &["--into", &target.url(), "--conflict", "replace", "--key", "k1*"],
    );
    // A part replaces no whole, and proves none.
    let clean = ["restore", "latest:adhoc", "--into", &target.url(), "--clean"];
    program.refused(&clean, "type or opcode 99", "--into file:");
    assert_eq!(target.client().integer("DBSIZE"), 100);
    target.client().say("FLUSHALL");
    let verify = ["verify", "latest", "--level", "restored", "--into", &target.url()];
    let said = program.expect(2, &verify);
    assert!(
        said.contains("type or opcode 99") && said.contains("only be restored as a file"),
        "{said}"
    );
    assert_eq!(target.client().integer("DBSIZE"), 0);
}
