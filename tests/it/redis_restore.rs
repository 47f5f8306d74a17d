//! Redis and Valkey: keys go back into live servers of the same and of other versions, and the rules for those that
//! hold keys.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::support::program::{Program, noise};
use crate::support::redis::{Client, FUTURE_MS, Kind, RedisServer, Value, fill, kinds};

/// Backs a server up into a new repository.
fn backed_up(server: &RedisServer) -> Program {
    let program = Program::on_directory();
    program.expect(0, &["backup", &server.url()]);
    program
}

fn report(program: &Program, code: i32, arguments: &[&str]) -> Json {
    let arguments = [&["restore", "latest:adhoc", "--source", "redis", "--json"], arguments].concat();
    let document: Json = serde_json::from_str(&program.expect(code, &arguments)).unwrap();
    document["restored"][0]["report"].clone()
}

/// Every key of every database: type, expiry, digest of its content.
fn content(server: &RedisServer) -> BTreeMap<String, String> {
    let mut client = server.client();
    let mut found = BTreeMap::new();
    for database in 0..16 {
        client.say(&format!("SELECT {database}"));
        let Value::Array(keys) = client.say("KEYS *") else {
            panic!()
        };
        for key in keys {
            let Value::Text(key) = key else { panic!() };
            let kind = client.text(&[b"TYPE", &key]);
            let expires = client.ask(&[b"PEXPIRETIME", &key]);
            let digest = client.ask(&[b"DEBUG", b"DIGEST-VALUE", &key]);
            let shown = format!(
                "{database} {}",
                key.escape_ascii().to_string().chars().take(60).collect::<String>()
            );
            found.insert(shown, format!("{kind} {expires:?} {digest:?}"));
        }
    }
    found
}

#[test]
fn every_type_comes_back_on_the_same_version() {
    for kind in kinds() {
        let server = RedisServer::start(kind, &[]);
        let keys = fill(&server);
        server.client().ask(&[b"SET", b"forty", &noise(40_000_000)]);
        let program = backed_up(&server);
        let target = RedisServer::start(kind, &[]);
        let done = report(&program, 0, &["--into", &target.url()]);
        assert_eq!(done["restored"], keys + 1, "{kind:?}: {done}");
        assert_eq!((&done["functions"], &done["transcoded"]), (&1.into(), &0.into()));
        assert_eq!(target.digest(), server.digest(), "{kind:?}");
        assert_eq!(content(&target), content(&server), "{kind:?}");
        assert_eq!(target.client().say("FCALL wv_one 0"), Value::Integer(1));
        let mut client = target.client();
        assert_eq!(
            client.say("XPENDING stream g1"),
            server.client().say("XPENDING stream g1")
        );
        assert_eq!(
            client.say("XINFO GROUPS stream"),
            server.client().say("XINFO GROUPS stream")
        );
        if kind != Kind::Redis7 {
            field_expiries(&mut client);
        }
    }
}

fn field_expiries(client: &mut Client) {
    let (at, never) = (Value::Integer(FUTURE_MS.parse().unwrap()), Value::Integer(-1));
    let expected = Value::Array(vec![never.clone(), at.clone(), never.clone()]);
    assert_eq!(client.say("HPEXPIRETIME hash-ttl FIELDS 3 f0 f1 f2"), expected);
    let expected = Value::Array(vec![never, at.clone(), at]);
    assert_eq!(
        client.say("HPEXPIRETIME hash-ttl-big FIELDS 3 field:0 field:1 field:500"),
        expected
    );
}

#[test]
fn every_type_goes_into_other_versions_or_is_named() {
    let kinds = kinds();
    for &from in &kinds {
        let server = RedisServer::start(from, &[]);
        let keys = fill(&server);
        let program = backed_up(&server);
        for &to in kinds.iter().filter(|to| **to != from) {
            let target = RedisServer::start(to, &[]);
            // Only Redis 7.0 knows no fields that expire.
            let lost = if to == Kind::Redis7 { 2 } else { 0 };
            let done = report(&program, if lost > 0 { 2 } else { 0 }, &["--into", &target.url()]);
            assert_eq!(done["restored"], keys - lost, "{from:?} to {to:?}: {done}");
            let named: Vec<_> = done["failed"]
                .as_array()
                .unwrap()
                .iter()
                .map(|f| f["name"].as_str().unwrap())
                .collect();
            assert_eq!(named.len() as i64, lost);
            assert!(named.iter().all(|name| name.starts_with("hash-ttl")), "{named:?}");
            let (mut expected, mut found) = (content(&server), content(&target));
            for content in [&mut expected, &mut found] {
                content.retain(|name, _| !name.contains("hash-ttl"));
            }
            assert_eq!(found, expected, "{from:?} to {to:?}");
            let mut client = target.client();
            assert_eq!(
                client.say("XPENDING stream g1"),
                server.client().say("XPENDING stream g1")
            );
            if from != Kind::Redis7 && to != Kind::Redis7 {
                field_expiries(&mut client);
                assert_eq!(client.integer("HLEN hash-ttl-big"), 1000);
            }
        }
    }
}

#[test]
fn servers_that_hold_keys_are_treated_as_told() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    for n in 0..1000 {
        client.say(&format!("SET key:{n} backup"));
    }
    client.say("SET other backup");
    let program = backed_up(&server);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let into = ["--into", &target.url()];
    let mut client = target.client();
    client.say("SET key:1 mine");
    client.say("SET own mine");
    let restore = ["restore", "latest:adhoc", "--source", "redis", "--into", &target.url()];
    program.refused(&restore, "holds 2 keys", "--conflict");

    let done = report(
        &program,
        2,
        &[&into[..], &["--conflict", "fail", "--key", "key:1*"]].concat(),
    );
    assert_eq!(
        (&done["restored"], &done["failed_keys"], &done["not_selected"]),
        (&110.into(), &1.into(), &890.into())
    );
    assert!(
        done["failed"][0]["name"].as_str().unwrap().starts_with("key:1 "),
        "{done}"
    );
    let done = report(&program, 0, &[&into[..], &["--conflict", "skip"]].concat());
    assert_eq!((&done["restored"], &done["skipped"]), (&890.into(), &111.into()));
    assert_eq!(client.text(&[b"GET", b"key:1"]), "mine");
    let done = report(&program, 0, &[&into[..], &["--conflict", "replace"]].concat());
    assert_eq!((&done["restored"], &done["skipped"]), (&1001.into(), &0.into()));
    assert_eq!(client.text(&[b"GET", b"key:1"]), "backup");
    assert_eq!(client.text(&[b"GET", b"own"]), "mine");

    // Emptied first, with a snapshot of what was there.
    let done = report(&program, 0, &[&into[..], &["--clean"]].concat());
    assert_eq!(done["restored"], 1001);
    assert_eq!(client.say("EXISTS own"), Value::Integer(0));
    assert_eq!(target.digest(), server.digest());
    assert_eq!(program.listed().len(), 2);
    let back = [
        "restore",
        "latest:pre-restore",
        "--source",
        "redis",
        "--into",
        &target.url(),
        "--clean",
    ];
    program.expect(0, &back);
    assert_eq!(client.text(&[b"GET", b"own"]), "mine");
}

/// A changed byte anywhere in the stored RDB is found before the target loses or gets a key.
#[test]
fn a_damaged_backup_leaves_the_target_as_it_was() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    fill(&server);
    server.client().ask(&[b"SET", b"large", &noise(3_000_000)]);
    let program = backed_up(&server);
    let target = RedisServer::start(Kind::Redis7, &[]);
    target.client().say("SET own mine");
    let before = target.digest();
    let archive = files(&program.path(""))
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with("0000.tar.zst"))
        .unwrap();
    let good = std::fs::read(&archive).unwrap();
    for place in [good.len() / 2, good.len() * 3 / 4] {
        let mut damaged = good.clone();
        damaged[place] ^= 1;
        std::fs::write(&archive, damaged).unwrap();
        for how in [&["--clean"][..], &["--conflict", "replace"]] {
            let restore = ["restore", "latest:adhoc", "--source", "redis", "--into", &target.url()];
            let output = program.run(&[&restore[..], how].concat());
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{text}");
            assert!(text.contains("digest"), "{text}");
            assert_eq!(target.digest(), before);
        }
    }
    std::fs::write(&archive, good).unwrap();
    report(&program, 0, &["--into", &target.url(), "--clean"]);
    assert_eq!(target.digest(), server.digest());
}

fn files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

/// A user who may not set several keys at once is no obstacle, nor is one who may set some keys only.
#[test]
fn keys_go_one_by_one_where_msetnx_is_refused() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    for n in 0..300 {
        client.ask(&[b"SET", format!("key:{n}").as_bytes(), "v".repeat(n).as_bytes()]);
        client.say(&format!("SET number:{n} {}", n * n * n));
    }
    client.say("SELECT 3");
    client.say("SET three 3");
    let program = backed_up(&server);
    for (rights, code, restored) in [("~* -msetnx", 0, 601), ("~key:* ~wirevault*", 2, 300)] {
        let target = RedisServer::start(Kind::Redis7, &[]);
        let mut admin = target.client();
        admin.say(&format!("ACL SETUSER some on >secret +@all {rights}"));
        let url = format!("redis://some:secret@127.0.0.1:{}", target.port);
        let done = report(&program, code, &["--into", &url]);
        assert_eq!(done["restored"], restored, "{done}");
        assert_eq!(done["failed_keys"], 601 - restored, "{done}");
        assert_eq!(admin.say("DBSIZE"), Value::Integer(restored.min(600)));
    }
}

#[test]
fn targets_that_cannot_take_keys_are_named() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    client.ask(&[b"SET", b"large", &noise(3_000_000)]);
    client.say("SET small 1");
    client.say("SELECT 9");
    client.say("SET nine 1");
    let program = backed_up(&server);
    let restore = |target: &RedisServer, code| {
        let arguments = ["restore", "latest", "--source", "redis", "--into", &target.url()];
        let output = program.run(&arguments);
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(code), "{text}");
        text
    };
    let few = RedisServer::start(Kind::Redis7, &["--databases", "2"]);
    assert!(restore(&few, 1).contains("choose database 9"));
    let replica = RedisServer::start(Kind::Redis7, &["--replicaof", &format!("127.0.0.1 {}", server.port)]);
    assert!(restore(&replica, 1).contains("replica"));
    let bulk = RedisServer::start(Kind::Redis7, &["--proto-max-bulk-len", "1mb"]);
    let text = restore(&bulk, 2);
    assert!(
        text.contains("large (database 0)") && text.contains("proto-max-bulk-len"),
        "{text}"
    );
    assert_eq!(bulk.client().say("EXISTS small large"), Value::Integer(1));
    let full = RedisServer::start(Kind::Redis7, &["--maxmemory", "1"]);
    let text = restore(&full, 2);
    assert!(text.contains("OOM") && text.contains("3 failed"), "{text}");
    assert!(
        program
            .run(&["restore", "latest", "--into", "redis://127.0.0.1:1"])
            .status
            .code()
            == Some(1)
    );
}

#[test]
fn the_rdb_goes_into_a_file_that_a_server_starts_on() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    fill(&server);
    let program = backed_up(&server);
    let into = ["restore", "latest", "--source", "redis", "--into", "file:out/dump.rdb"];
    let said = program.expect(0, &into);
    assert!(said.contains("appendonly"), "{said}");
    program.refused(&into, "exists", "--clean");
    program.expect(0, &[&into[..], &["--clean"]].concat());
    let rdb = std::fs::read(program.path("out/dump.rdb")).unwrap();
    assert_eq!(
        RedisServer::start_on(Kind::Redis7, &[], Some(&rdb)).digest(),
        server.digest()
    );
    assert_eq!(std::fs::read_dir(program.path("out")).unwrap().count(), 1);
    let text = program.expect(0, &["show", "latest"]);
    assert!(text.contains("redis 7.0") && text.contains("stream"), "{text}");
    let planned = program.expect(
        0,
        &[
            "restore",
            "latest",
            "--dry-run",
            "--into",
            &RedisServer::start(Kind::Redis7, &[]).url(),
        ],
    );
    assert!(planned.contains("keys by database 0: "), "{planned}");
}

#[test]
fn every_key_is_compared_in_a_scratch_server() {
    let kinds = kinds();
    for &from in &kinds {
        let server = RedisServer::start(from, &[]);
        let keys = fill(&server);
        let mut client = server.client();
        client.ask(&[b"SET", b"long-and-even", &vec![b'e'; 9_000_000]]);
        for n in 0..40 {
            let members: Vec<Vec<u8>> = (0..200).map(|m| format!("member-{n}-{m}").into_bytes()).collect();
            let mut command: Vec<&[u8]> = vec![b"SADD", b"large-set"];
            command.extend(members.iter().map(Vec::as_slice));
            client.ask(&command);
        }
        let program = backed_up(&server);
        for &to in &kinds {
            let scratch = RedisServer::start(to, &[]);
            let lost = if to == Kind::Redis7 && from != to { 2 } else { 0 };
            let arguments = [
                "verify",
                "latest",
                "--level",
                "restored",
                "--json",
                "--into",
                &scratch.url(),
            ];
            let said = program.expect(if lost > 0 { 2 } else { 0 }, &arguments);
            let said: Json = serde_json::from_str(&said).unwrap();
            let report = &said["verified"][0]["restored"][0];
            assert_eq!(report["keys"], keys + 2 - lost, "{from:?} to {to:?}: {said}");
            assert_eq!(
                (&report["failed_keys"], &report["functions"]),
                (&lost.into(), &1.into()),
                "{said}"
            );
            assert_eq!(scratch.client().integer("DBSIZE"), 0);
        }
    }
}

#[test]
fn a_scratch_server_that_changes_keys_is_found_out() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    for n in 0..50 {
        client.say(&format!("SET key:{n} value"));
        client.say(&format!("ZADD zset:{n} {n} member"));
    }
    let program = backed_up(&server);
    let scratch = RedisServer::start(Kind::Redis7, &[]);
    let verify = ["verify", "latest", "--level", "restored", "--into", &scratch.url()];
    scratch.client().say("SET mine 1");
    program.refused(&verify, "holds 1 keys", "empty server");
    scratch.client().say("DEL mine");
    // A server that loses what it was given: it evicts keys as soon as they are there.
    let mut client = scratch.client();
    client.say("CONFIG SET maxmemory-policy allkeys-random");
    client.say("CONFIG SET maxmemory 1mb");
    let output = program.run(&verify);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_ne!(output.status.code(), Some(0), "{text}");
}

/// Also what a digest leaves out: counters, groups, consumers, who has what pending.
fn stream_facts(client: &mut Client, key: &str) -> String {
    let mut facts = Vec::new();
    for command in ["XINFO STREAM", "XINFO GROUPS"] {
        let Value::Array(parts) = client.say(&format!("{command} {key}")) else {
            panic!()
        };
        facts.extend(parts.into_iter().map(|part| format!("{part:?}")));
    }
    // How the tree of its nodes is cut is not its content.
    let from = facts
        .iter()
        .position(|part| part.contains(&format!("{:?}", b"radix-tree-keys")));
    if let Some(from) = from {
        facts.drain(from..from + 4);
    }
    facts.join(" ")
}

/// Versions write scores differently, also into digests, so those are compared as numbers.
fn same_content(left: &RedisServer, right: &RedisServer) {
    let (mut found, mut expected) = (content(left), content(right));
    if left.kind != right.kind {
        found.remove("0 zset");
        expected.remove("0 zset");
    }
    assert_eq!(found, expected, "{:?} and {:?}", left.kind, right.kind);
    let scores = |server: &RedisServer| {
        let Value::Array(parts) = server.client().say("ZRANGE zset 0 -1 WITHSCORES") else {
            panic!()
        };
        let score = |part: &Value| match part {
            Value::Text(text) => std::str::from_utf8(text).unwrap().parse::<f64>().unwrap().to_bits(),
            other => panic!("{other:?}"),
        };
        let pairs = parts.chunks(2).map(|pair| (pair[0].clone(), score(&pair[1])));
        pairs.collect::<Vec<_>>()
    };
    assert!(scores(left) == scores(right));
}

#[test]
fn keys_go_by_commands_where_restore_is_refused() {
    let kinds = kinds();
    for &from in &kinds {
        let server = RedisServer::start(from, &[]);
        let keys = fill(&server);
        server.client().ask(&[b"SET", b"long", &noise(3_000_000)]);
        let program = backed_up(&server);
        for &to in &kinds {
            let target = RedisServer::start(to, &[]);
            let mut client = target.client();
            client.say("ACL SETUSER default -restore");
            let lost = if to == Kind::Redis7 && from != to { 2 } else { 0 };
            let done = report(&program, if lost > 0 { 2 } else { 0 }, &["--into", &target.url()]);
            assert_eq!(
                (&done["restored"], &done["replayed"], &done["expired"]),
                (&(keys + 1 - lost).into(), &(keys + 1 - lost).into(), &0.into()),
                "{from:?} to {to:?}: {done}"
            );
            let failed = done["failed"].as_array().unwrap();
            assert!(
                failed
                    .iter()
                    .all(|f| f["name"].as_str().unwrap().starts_with("hash-ttl"))
            );
            assert_eq!(failed.len() as i64, lost);
            let (mut expected, mut found) = (content(&server), content(&target));
            if from != to {
                expected.retain(|name, _| !name.contains("hash-ttl"));
                found.retain(|name, _| !name.contains("hash-ttl"));
            }
            assert_eq!(found, expected, "{from:?} to {to:?}");
            if from == to {
                assert_eq!(target.digest(), server.digest(), "{from:?}");
            }
            let mut original = server.client();
            assert_eq!(client.say("XPENDING stream g1"), original.say("XPENDING stream g1"));
            if from == to {
                for key in ["stream", "stream-empty"] {
                    assert_eq!(stream_facts(&mut client, key), stream_facts(&mut original, key));
                }
            }
            if from != Kind::Redis7 && to != Kind::Redis7 {
                field_expiries(&mut client);
            }
        }
    }
}

#[test]
fn values_above_the_limit_of_the_target_go_by_commands_and_never_in_part() {
    let kinds = kinds();
    let noise = noise(8_000_000);
    for &from in &kinds {
        let server = RedisServer::start(from, &[]);
        let mut client = server.client();
        for n in 0..100 {
            let parts: Vec<Vec<u8>> = (0..400)
                .map(|m| [format!("{n}:{m}:").as_bytes(), &noise[(n * 400 + m) * 197..][..100]].concat())
                .collect();
            for (verb, key) in [("RPUSH", "list"), ("SADD", "set"), ("HSET", "hash")] {
                let mut command: Vec<&[u8]> = vec![verb.as_bytes(), key.as_bytes()];
                command.extend(parts.iter().map(Vec::as_slice));
                client.ask(&command);
            }
            let scores: Vec<String> = (0..400_u32)
                .map(|m| format!("{}", f64::from(u32::try_from(n).unwrap() * 400 + m) / 7.0))
                .collect();
            let mut command: Vec<&[u8]> = vec![b"ZADD", b"zset"];
            for (score, part) in scores.iter().zip(&parts) {
                command.extend([score.as_bytes(), part]);
            }
            client.ask(&command);
            for part in &parts {
                client.ask(&[b"XADD", b"stream", b"*", b"field", part]);
            }
        }
        client.say("PEXPIREAT zset 4102444800000");
        client.say("XGROUP CREATE stream group 0");
        client.say("XREADGROUP GROUP group alice COUNT 3000 STREAMS stream >");
        client.say("XREADGROUP GROUP group bob COUNT 10 STREAMS stream >");
        client.say("XADD deleted 1-1 a b");
        client.say("SET plain 1");
        let program = backed_up(&server);
        for &to in &kinds {
            let target = RedisServer::start(to, &["--proto-max-bulk-len", "1mb"]);
            let done = report(&program, 0, &["--into", &target.url()]);
            assert_eq!(
                (&done["restored"], &done["replayed"]),
                (&7.into(), &5.into()),
                "{from:?} to {to:?}: {done}"
            );
            same_content(&target, &server);
            let (mut client, mut original) = (target.client(), server.client());
            assert_eq!(
                client.say("XPENDING stream group"),
                original.say("XPENDING stream group")
            );
            // It holds them now.
            let done = report(&program, 0, &["--into", &target.url(), "--conflict", "skip"]);
            assert_eq!((&done["restored"], &done["skipped"]), (&0.into(), &7.into()), "{done}");
            let done = report(&program, 2, &["--into", &target.url(), "--conflict", "fail"]);
            assert_eq!(
                (&done["restored"], &done["failed_keys"]),
                (&0.into(), &7.into()),
                "{done}"
            );
            let done = report(&program, 0, &["--into", &target.url(), "--conflict", "replace"]);
            assert_eq!((&done["restored"], &done["replayed"]), (&7.into(), &5.into()), "{done}");
            same_content(&target, &server);
        }
        // Memory ends in the middle of a value: nothing of it stays.
        let target = RedisServer::start(from, &["--proto-max-bulk-len", "1mb", "--maxmemory", "20mb"]);
        let done = report(&program, 2, &["--into", &target.url()]);
        let failed = done["failed"].as_array().unwrap();
        assert!(
            failed.iter().any(|f| f["error"].as_str().unwrap().starts_with("OOM")),
            "{done}"
        );
        let restored = done["restored"].as_i64().unwrap();
        assert_eq!(target.client().integer("DBSIZE"), restored, "{done}");
        let (expected, found) = (content(&server), content(&target));
        assert!(found.iter().all(|(name, content)| expected.get(name) == Some(content)));
    }
}

#[test]
fn pending_entries_that_no_command_brings_back_are_named() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    for command in [
        "XADD s 1-1 a b",
        "XADD s 2-1 a b",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g c STREAMS s >",
        "XDEL s 1-1",
    ] {
        client.say(command);
    }
    let program = backed_up(&server);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let mut client = target.client();
    client.say("ACL SETUSER default -restore");
    let done = report(&program, 2, &["--into", &target.url()]);
    assert!(
        done["failed"][0]["error"]
            .as_str()
            .unwrap()
            .starts_with("1 pending entries"),
        "{done}"
    );
    assert_eq!((&done["restored"], client.integer("XLEN s")), (&1.into(), 1));
}

#[test]
fn users_come_back_where_that_is_asked_for() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    client.say("SET a 1");
    client.say("ACL SETUSER alice on >geheim ~a +get");
    client.say("ACL SETUSER default >streng-geheim");
    client.say("AUTH default streng-geheim");
    let mut program = Program::on_directory();
    program.set("REDISCLI_AUTH", "streng-geheim");
    program.expect(0, &["backup", &server.url()]);
    let target = RedisServer::start(Kind::Redis7, &["--requirepass", "streng-geheim"]);
    let done = report(&program, 0, &["--into", &target.url()]);
    assert_eq!(done["users"], 0);
    let mut there = target.client();
    there.say("AUTH default streng-geheim");
    let Value::Array(users) = there.say("ACL LIST") else {
        panic!()
    };
    assert_eq!(users.len(), 1);
    let done = report(
        &program,
        0,
        &["--into", &target.url(), "--conflict", "replace", "--users"],
    );
    assert_eq!(
        (&done["users"], &done["users_in_memory"]),
        (&2.into(), &true.into()),
        "{done}"
    );
    let mut alice = target.client();
    alice.say("AUTH alice geheim");
    assert_eq!(alice.say("GET a"), Value::Text(b"1".to_vec()));
    assert!(matches!(alice.try_ask(&[b"SET", b"a", b"2"]).unwrap(), Value::Error(text) if text.contains("NOPERM")));

    // A rule that the target does not know: that user is named, without its password, and the rest is there.
    if let Some(newer) = kinds().into_iter().find(|kind| *kind == Kind::Redis8) {
        let server = RedisServer::start(newer, &[]);
        server.client().say("ACL SETUSER bob on >geheim ~* +hgetex");
        server.client().say("SET a 1");
        let program = backed_up(&server);
        let target = RedisServer::start(Kind::Redis7, &[]);
        let done = report(&program, 2, &["--into", &target.url(), "--users"]);
        assert_eq!((&done["users"], &done["restored"]), (&1.into(), &1.into()), "{done}");
        assert_eq!(
            (&done["failed"][0]["kind"], &done["failed"][0]["name"]),
            (&"user".into(), &"bob".into())
        );
    }
    // Nothing is written if there are none.
    let server = RedisServer::start(Kind::Redis7, &[]);
    server
        .client()
        .say("ACL SETUSER backup on >geheim +psync +replconf +ping +info");
    let program = Program::on_directory();
    program.expect(
        2,
        &["backup", &format!("redis://backup:geheim@127.0.0.1:{}", server.port)],
    );
    let target = RedisServer::start(Kind::Redis7, &[]);
    program.refused(
        &["restore", "latest:adhoc", "--into", &target.url(), "--users"],
        "holds no users",
        "+acl|list",
    );
}

/// An expiry is a time: what has expired by now stays out, is counted and said; what has not keeps its time.
#[test]
fn keys_that_expired_meanwhile_are_counted_and_said() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    // The server leaves expired keys in its RDB as long as nobody looks at them.
    client.say("DEBUG SET-ACTIVE-EXPIRE 0");
    for n in 0..3 {
        client.say(&format!("SET soon:{n} x PX 1"));
    }
    client.say(&format!("SET later x PXAT {FUTURE_MS}"));
    client.say("SET always x");
    let program = backed_up(&server);
    let shown = program.json(&["show", "latest"]);
    let outcome = &shown["snapshot"]["sources"][0]["outcome"];
    assert_eq!(
        (&outcome["items"], &outcome["position"]["keys_expiring"]),
        (&5.into(), &"4".into())
    );
    let target = RedisServer::start(Kind::Redis7, &[]);
    let done = report(&program, 0, &["--into", &target.url()]);
    assert_eq!((&done["restored"], &done["expired"]), (&2.into(), &3.into()), "{done}");
    let mut copy = target.client();
    assert_eq!(copy.integer("DBSIZE"), 2);
    assert_eq!(
        copy.say("PEXPIRETIME later"),
        Value::Integer(FUTURE_MS.parse().unwrap())
    );
    copy.say("FLUSHALL");
    let said = program.expect(0, &["restore", "latest", "--source", "redis", "--into", &target.url()]);
    assert!(said.contains("3 expired meanwhile"), "{said}");
}
