//! Redis and Valkey: users who may not ask everything. What a server keeps to itself is not known, which is something else
//! than no.

use serde_json::Value as Json;

use crate::support::program::Program;
use crate::support::redis::{Kind, RedisCluster, RedisServer, Value, kinds};

/// Makes a user with these rights on all keys, and returns the URL that it logs in by.
fn user(server: &RedisServer, rights: &str) -> String {
    server
        .client()
        .say(&format!("ACL SETUSER some reset on >secret ~* {rights}"));
    format!("redis://some:secret@127.0.0.1:{}", server.port)
}

/// Starts a server that does not greet either; HELLO needs no right.
const NO_HELLO: [&str; 3] = ["--rename-command", "HELLO", "greet"];

/// A backup of one key.
fn small_backup(kind: Kind) -> Program {
    let server = RedisServer::start(kind, &[]);
    server.client().say("SET k backup");
    let program = Program::on_directory();
    program.expect(0, &["backup", &server.url()]);
    program
}

/// Runs to this exit code; returns what was said on both channels.
fn said(program: &Program, code: i32, arguments: &[&str]) -> String {
    let output = program.run(arguments);
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

fn restore<'a>(into: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["restore", "latest:adhoc", "--source", "redis", "--into", into], more].concat()
}

fn snapshots_before_a_restore(program: &Program) -> usize {
    program.listed().iter().filter(|id| id.contains("pre-restore")).count()
}

#[test]
fn a_target_whose_info_is_denied_is_not_empty_because_of_that() {
    for kind in kinds() {
        let program = small_backup(kind);
        for (rights, options, message) in [
            ("+@all -info", &[][..], "holds 2 keys"),
            ("+@all -info -role", &NO_HELLO, "holds 2 keys"),
            (
                "+@all -info -dbsize",
                &[],
                "unable to determine whether the target holds keys",
            ),
        ] {
            let target = RedisServer::start(kind, options);
            let mut client = target.client();
            client.say("SET mine 1");
            client.say("SELECT 9");
            client.say("SET nine 9");
            let url = user(&target, rights);
            program.refused(&restore(&url, &[]), message, "--clean");
            assert_eq!(client.integer("EXISTS nine"), 1);
        }
    }
}

#[test]
fn a_target_is_emptied_only_after_a_snapshot_whatever_it_tells() {
    for kind in kinds() {
        for (rights, code) in [("+@all -info", 0), ("+@all -info -dbsize -psync", 2)] {
            let program = small_backup(kind);
            let target = RedisServer::start(kind, &["--databases", "40"]);
            let mut client = target.client();
            client.say("SELECT 33");
            client.say("SET mine 33");
            let url = user(&target, rights);
            // Where nobody may count, that nothing was evicted is not known either.
            let text = said(&program, code, &restore(&url, &["--clean"]));
            assert_eq!(
                text.contains("unable to determine whether it kept all of them"),
                code == 2,
                "{text}"
            );
            assert_eq!(snapshots_before_a_restore(&program), 1, "{text}");
            assert_eq!(client.integer("DBSIZE"), 0);
            program.expect(
                0,
                &["restore", "latest:pre-restore", "--into", &target.url(), "--clean"],
            );
            assert_eq!(client.say("GET mine"), Value::Text(b"33".to_vec()));
        }
    }
}

/// A snapshot that may not be whole is no reason to empty a server.
#[test]
fn a_target_that_cannot_be_read_whole_is_not_emptied() {
    let program = small_backup(Kind::Redis7);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let mut client = target.client();
    client.say("SET mine 1");
    // Databases beside the first are neither shown nor to be chosen.
    let url = user(&target, "+@all -info -psync -select +select|0");
    let text = said(&program, 1, &restore(&url, &["--clean"]));
    assert!(text.contains("Nothing was removed"), "{text}");
    assert_eq!(client.integer("EXISTS mine"), 1);
}

#[test]
fn libraries_that_are_in_no_snapshot_stay() {
    let program = small_backup(Kind::Redis7);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let mut client = target.client();
    client.ask(&[
        b"FUNCTION",
        b"LOAD",
        b"#!lua name=a\nredis.register_function('f', function() return 1 end)",
    ]);
    let url = user(&target, "+@all -function|list");
    let text = said(&program, 2, &restore(&url, &["--clean"]));
    assert!(text.contains("no snapshot holds them"), "{text}");
    assert_eq!(client.integer("FCALL f 0"), 1);
    // Who may list them has them in the snapshot, also where there is no key.
    client.say("FLUSHALL");
    program.expect(0, &restore(&target.url(), &["--clean"]));
    assert_eq!(client.say("FUNCTION LIST"), Value::Array(vec![]));
    assert_eq!(snapshots_before_a_restore(&program), 1);
    program.expect(
        0,
        &["restore", "latest:pre-restore", "--into", &target.url(), "--clean"],
    );
    assert_eq!(client.integer("FCALL f 0"), 1);
}

#[test]
fn a_verification_deletes_nothing_in_a_server_that_is_not_proven_empty() {
    for kind in kinds() {
        let program = small_backup(kind);
        let verify = |url: &str| {
            [
                "verify",
                "latest",
                "--level",
                "restored",
                "--no-evidence",
                "--into",
                url,
            ]
            .map(str::to_owned)
        };
        let production = RedisServer::start(kind, &[]);
        let mut client = production.client();
        client.say("SELECT 3");
        for n in 0..30 {
            client.say(&format!("SET production:{n} 1"));
        }
        for (rights, message) in [
            ("+@all -info", "holds 30 keys"),
            (
                "+@all -info -dbsize",
                "unable to determine whether the scratch server holds keys",
            ),
            (
                "+@all -info -select +select|0",
                "unable to determine whether the scratch server holds keys",
            ),
        ] {
            let arguments = verify(&user(&production, rights));
            let text = said(&program, 1, &arguments.each_ref().map(String::as_str));
            assert!(text.contains(message), "{rights}: {text}");
            assert_eq!(client.integer("DBSIZE"), 30, "{rights}");
        }
        client.say("FLUSHALL");
        let arguments = verify(&user(&production, "+@all -function|list"));
        let text = said(&program, 1, &arguments.each_ref().map(String::as_str));
        assert!(text.contains("holds function libraries"), "{text}");
        // Without INFO an empty server is proven empty too.
        let arguments = verify(&user(&production, "+@all -info"));
        said(&program, 0, &arguments.each_ref().map(String::as_str));
        client.say("SELECT 0");
        assert_eq!(client.integer("DBSIZE"), 0);
    }
}

/// Somebody else uses the scratch server meanwhile: what is theirs stays.
#[test]
fn a_verification_deletes_what_it_loaded_and_nothing_else() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    client.say("DEBUG POPULATE 50000");
    client.ask(&[
        b"FUNCTION",
        b"LOAD",
        b"#!lua name=ours\nredis.register_function('ours', function() return 1 end)",
    ]);
    let program = Program::on_directory();
    program.expect(0, &["backup", &server.url()]);
    let scratch = RedisServer::start(Kind::Redis7, &[]);
    let mut other = scratch.client();
    let meddler = std::thread::spawn(move || {
        while other.integer("DBSIZE") == 0 {}
        other.say("SET theirs 1");
        other.ask(&[
            b"FUNCTION",
            b"LOAD",
            b"#!lua name=theirs\nredis.register_function('theirs', function() return 2 end)",
        ]);
    });
    let verify = ["verify", "latest", "--level", "restored", "--into", &scratch.url()];
    program.run(&verify);
    meddler.join().unwrap();
    let mut client = scratch.client();
    assert_eq!(
        client.say("KEYS *"),
        Value::Array(vec![Value::Text(b"theirs".to_vec())])
    );
    assert_eq!(client.integer("FCALL theirs 0"), 2);
    assert!(matches!(
        client.try_ask(&[b"FCALL", b"ours", b"0"]).unwrap(),
        Value::Error(_)
    ));
}

fn outcome(program: &Program) -> Json {
    program.json(&["show", "latest"])["snapshot"]["sources"][0]["outcome"].clone()
}

#[test]
fn all_databases_are_read_however_many_there_are() {
    for kind in kinds() {
        let server = RedisServer::start(kind, &["--databases", "100"]);
        let mut client = server.client();
        for database in [0, 15, 16, 99] {
            client.say(&format!("SELECT {database}"));
            client.say("SET k 1");
        }
        for rights in ["+@all -psync -info", "+@all -psync -info -dbsize"] {
            let program = Program::on_directory();
            program.expect(0, &["backup", &user(&server, rights)]);
            let outcome = outcome(&program);
            assert_eq!(
                outcome["position"]["keys_by_database"], "0:1 15:1 16:1 99:1",
                "{kind:?} {rights}: {outcome}"
            );
        }
    }
    let server = RedisServer::start(Kind::Redis7, &[]);
    server.client().say("SET k 1");
    let program = Program::on_directory();
    let url = user(&server, "+@all -psync -info -select +select|0");
    program.expect(2, &["backup", &url]);
    assert_eq!(outcome(&program)["note_counts"]["databases-not-shown"], 1);
}

#[test]
fn what_is_not_shown_makes_exit_code_2() {
    for kind in kinds() {
        let server = RedisServer::start(kind, &[]);
        let mut client = server.client();
        client.say("SET k 1");
        client.ask(&[
            b"FUNCTION",
            b"LOAD",
            b"#!lua name=a\nredis.register_function('f', function() return 1 end)",
        ]);
        let least = "+scan +dump +select +pexpiretime +ping +info";
        for (rights, query, code, notes) in [
            (least, "", 2, &["functions-not-shown", "not-shown"][..]),
            (least, "?settings=no", 2, &["functions-not-shown"]),
            (&format!("{least} +function|list"), "?settings=no", 0, &[]),
            ("+psync +replconf +ping +info", "", 2, &["not-shown"]),
            ("+psync +replconf +ping +info", "?settings=no", 0, &[]),
            (
                "+psync +replconf +ping +info +acl|list +config|get +module|list",
                "",
                0,
                &[],
            ),
        ] {
            let program = Program::on_directory();
            let url = format!("{}{query}", user(&server, rights));
            program.expect(code, &["backup", &url]);
            let outcome = outcome(&program);
            for note in [
                "functions-not-shown",
                "not-shown",
                "cluster-not-known",
                "databases-not-shown",
            ] {
                let counted = outcome["note_counts"][note].as_u64().unwrap_or(0) > 0;
                assert_eq!(counted, notes.contains(&note), "{kind:?} {rights}: {outcome}");
            }
        }
        // The check says so beforehand.
        let program = Program::on_directory();
        let text = said(&program, 0, &["check", &user(&server, "+psync +replconf +ping +info")]);
        assert!(
            text.contains("acl.txt cannot be stored") && text.contains("+acl|list"),
            "{text}"
        );
        let text = said(&program, 0, &["check", &user(&server, "+@all -info")]);
        assert!(text.contains("number of keys unknown"), "{text}");
    }
}

#[test]
fn the_rdb_is_the_same_where_nothing_is_known_of_the_server() {
    for kind in kinds() {
        let server = RedisServer::start(kind, &NO_HELLO);
        let mut client = server.client();
        client.say("SET k 1");
        if kind != Kind::Redis7 {
            client.say("HSET h f v");
            client.say("HEXPIRE h 100000 FIELDS 1 f");
        }
        let program = Program::on_directory();
        // A Valkey writes an older RDB, which cannot hold such hashes, unless it is told that a newer one is understood.
        let url = user(&server, "+psync +replconf +ping");
        program.refused(
            &["backup", &url],
            "whether the server is a node of a cluster",
            "?cluster=no",
        );
        program.expect(0, &["backup", &format!("{url}?cluster=no&settings=no")]);
        let versions = &outcome(&program)["versions"];
        let product = if kind == Kind::Valkey9 { "valkey" } else { "redis" };
        assert_ne!(versions[product], "unknown", "{versions}");
        let target = RedisServer::start(kind, &[]);
        program.expect(0, &restore(&target.url(), &[]));
        assert_eq!(target.digest(), server.digest(), "{kind:?}");
    }
}

#[test]
fn a_cluster_is_a_cluster_for_those_who_may_not_ask_info_too() {
    for kind in kinds() {
        let slots: &[&[(u16, u16)]] = &[&[(0, 5460)], &[(5461, 10922)], &[(10923, 16383)]];
        let cluster = RedisCluster::start(kind, slots, false, &NO_HELLO);
        for n in 0..60 {
            cluster.ask(&[b"SET", format!("key:{n}").as_bytes(), b"1"]);
        }
        let to_all = |rights: &str| {
            let urls: Vec<_> = cluster.nodes.iter().map(|node| user(node, rights)).collect();
            urls[0].clone()
        };
        for rights in ["+@all -info", "+@all -info -psync"] {
            let program = Program::on_directory();
            program.expect(0, &["backup", &to_all(rights)]);
            let outcome = outcome(&program);
            assert_eq!(
                (&outcome["items"], &outcome["position"]["shards"]),
                (&60.into(), &"3".into())
            );
        }
        let program = small_backup(kind);
        let url = to_all("+@all -info -cluster");
        program.refused(
            &["backup", &url],
            "whether the server is a node of a cluster",
            "+cluster|info",
        );
        program.refused(
            &restore(&url, &[]),
            "whether the target is a node of a cluster",
            "+cluster|info",
        );
        program.refused(&restore(&to_all("+@all -info"), &[]), "holds", "--clean");
        // A slot that moves could be missed.
        if kind == Kind::Valkey9 {
            let url = to_all("+@all -cluster|getslotmigrations");
            program.refused(
                &["backup", &url],
                "whether slots are moving",
                "+cluster|getslotmigrations",
            );
        }
    }
}

#[test]
fn replicas_that_are_not_known_are_not_none() {
    let primary = RedisServer::start(Kind::Redis7, &[]);
    primary.client().say("SET k 1");
    let replica = RedisServer::start(Kind::Redis7, &["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    for _ in 0..1200 {
        if primary
            .client()
            .text(&[b"INFO", b"replication"])
            .contains("state=online")
        {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    user(&replica, "+@all -info");
    let program = Program::on_directory();
    // ROLE tells them too.
    program.expect(
        0,
        &["backup", &format!("{}?replica=yes", user(&primary, "+@all -info"))],
    );
    let node = outcome(&program)["position"]["node"].as_str().unwrap().to_owned();
    assert!(node.ends_with(&format!(":{}", replica.port)), "{node}");
    let url = format!("{}?replica=yes", user(&primary, "+@all -info -role"));
    program.refused(&["backup", &url], "which replicas the server has", "+role");
}
