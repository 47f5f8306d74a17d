//! Redis and Valkey clusters: all shards in one snapshot, and keys that find their way back while slots move.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;
use wirevault::engines::redis::{
    Conflict, RedisAddress, RedisOptions, RedisRestore, RedisRestoreOptions, RedisSource, Tally,
};

use crate::support::archives::Vault;
use crate::support::program::Program;
use crate::support::redis::{FUTURE_MS, Kind, RedisCluster, RedisServer, Value, fill, kinds};

/// Slots of three shards and of two, cut at other places.
const THREE: &[&[(u16, u16)]] = &[&[(0, 5460)], &[(5461, 10922)], &[(10923, 16383)]];
const TWO: &[&[(u16, u16)]] = &[&[(100, 4999), (9000, 16383)], &[(0, 99), (5000, 8999)]];

/// Every key of these servers: type, expiry, digest of its content.
fn content<'a>(servers: impl IntoIterator<Item = &'a RedisServer>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for server in servers {
        let mut client = server.client();
        let Value::Array(keys) = client.say("KEYS *") else {
            panic!()
        };
        for key in keys {
            let Value::Text(key) = key else { panic!() };
            let kind = client.text(&[b"TYPE", &key]);
            let expires = client.ask(&[b"PEXPIRETIME", &key]);
            let digest = client.ask(&[b"DEBUG", b"DIGEST-VALUE", &key]);
            let before = found.insert(key.escape_ascii().to_string(), format!("{kind} {expires:?} {digest:?}"));
            assert!(before.is_none(), "{} is in two servers", key.escape_ascii());
        }
    }
    found
}

/// A server with every type in database 0, and nothing in the others.
fn filled(kind: Kind) -> RedisServer {
    let server = RedisServer::start(kind, &[]);
    fill(&server);
    let mut client = server.client();
    for database in 1..16 {
        client.say(&format!("SELECT {database}"));
        client.say("FLUSHDB");
    }
    client.say("SELECT 0");
    for n in 0..2000 {
        let key = format!("key:{n}");
        client.ask(&[b"SET", key.as_bytes(), key.as_bytes()]);
    }
    client.ask(&[b"SET", b"{tag}expires", b"x", b"PXAT", FUTURE_MS.as_bytes()]);
    client.ask(&[b"SET", b"a}b{}c", b"y"]);
    // Sent while it is read.
    for _ in 0..40 {
        client.ask(&[b"RPUSH", b"large", &crate::support::program::noise(100_000)]);
    }
    server
}

fn report(program: &Program, code: i32, arguments: &[&str]) -> serde_json::Value {
    let arguments = [&["restore", "latest:adhoc", "--json"], arguments].concat();
    let document: serde_json::Value = serde_json::from_str(&program.expect(code, &arguments)).unwrap();
    document["restored"][0]["report"].clone()
}

#[test]
fn keys_go_from_a_server_into_a_cluster_and_on() {
    for kind in kinds() {
        let server = filled(kind);
        let expected = content([&server]);
        let program = Program::on_directory();
        program.expect(0, &["backup", &server.url()]);
        let three = RedisCluster::start(kind, THREE, false, &[]);
        let done = report(&program, 0, &["--into", &three.nodes[2].url()]);
        assert_eq!(done["restored"], expected.len(), "{kind:?}: {done}");
        assert_eq!(done["functions"], 1);
        assert_eq!(content(&three.nodes), expected, "{kind:?}");
        for node in &three.nodes {
            let Value::Array(libraries) = node.client().say("FUNCTION LIST") else {
                panic!()
            };
            assert_eq!(libraries.len(), 1);
        }

        // The whole cluster, by the URL of any node.
        let program = Program::on_directory();
        program.expect(0, &["backup", &three.nodes[1].url()]);
        let shown = program.json(&["show", "latest"]);
        let outcome = &shown["snapshot"]["sources"][0]["outcome"];
        assert_eq!(outcome["items"], expected.len(), "{outcome}");
        let position = &outcome["position"];
        assert_eq!(
            (&position["shards"], &position["functions"]),
            (&"3".into(), &"1".into())
        );
        assert!(
            position["shard-0001"].as_str().unwrap().contains("slots 5461-10922"),
            "{position}"
        );
        assert!(position["consistency"].as_str().unwrap().contains("each shard"));
        program.expect(0, &["verify", "latest", "--level", "content"]);

        // Into another cluster, which is cut at other places, and into one server.
        let two = RedisCluster::start(kind, TWO, false, &[]);
        let done = report(&program, 0, &["--into", &two.nodes[0].url()]);
        assert_eq!(
            (&done["restored"], &done["functions"]),
            (&expected.len().into(), &1.into()),
            "{done}"
        );
        assert_eq!(content(&two.nodes), expected, "{kind:?}");
        let one = RedisServer::start(kind, &[]);
        let restored = program.expect(0, &["verify", "latest", "--level", "restored", "--into", &one.url()]);
        assert!(restored.contains("keys"), "{restored}");
        assert_eq!(one.client().integer("DBSIZE"), 0);
        let done = report(&program, 0, &["--into", &one.url()]);
        assert_eq!(
            (&done["restored"], &done["functions"]),
            (&expected.len().into(), &1.into()),
            "{done}"
        );
        assert_eq!(content([&one]), expected, "{kind:?}");

        // A stock server starts on each of the RDBs.
        let directory = program.path("rdb");
        program.expect(
            0,
            &["restore", "latest", "--into", &format!("file:{}", directory.display())],
        );
        let mut keys = 0;
        for shard in ["shard-0000", "shard-0001", "shard-0002"] {
            let rdb = std::fs::read(directory.join(shard).join("dump.rdb")).unwrap();
            let output = program.run(&["cat", "latest", "redis", &format!("{shard}/dump.rdb")]);
            assert_eq!(output.stdout, rdb);
            keys += RedisServer::start_on(kind, &[], Some(&rdb)).client().integer("DBSIZE");
        }
        assert_eq!(usize::try_from(keys).unwrap(), expected.len());
        assert!(
            program
                .expect(0, &["cat", "latest", "redis", "shard-0002/acl.txt"])
                .contains("user default")
        );
    }
}

#[test]
fn a_cluster_that_holds_keys_follows_the_same_rules() {
    let two = RedisCluster::start(Kind::Redis7, TWO, false, &[]);
    let server = filled(Kind::Redis7);
    let expected = content([&server]);
    let program = Program::on_directory();
    program.expect(0, &["backup", &server.url()]);
    for n in 0..10 {
        two.ask(&[b"SET", format!("old:{n}").as_bytes(), b"old"]);
    }
    two.ask(&[b"SET", b"key:7", b"newer"]);
    let url = two.nodes[1].url();
    let into = ["restore", "latest:adhoc", "--into", &url];
    program.refused(&into, "the target holds 11 keys", "--clean");
    let done = report(&program, 0, &["--into", &url, "--conflict", "skip"]);
    assert_eq!(
        (&done["skipped"], &done["restored"]),
        (&1.into(), &(expected.len() - 1).into()),
        "{done}"
    );
    assert_eq!(two.ask(&[b"GET", b"key:7"]), Value::Text(b"newer".to_vec()));
    let done = report(
        &program,
        0,
        &["--into", &url, "--conflict", "replace", "--key", "key:7"],
    );
    assert_eq!(done["restored"], 1);
    assert_eq!(two.ask(&[b"GET", b"key:7"]), Value::Text(b"key:7".to_vec()));
    report(&program, 0, &["--into", &url, "--clean"]);
    assert_eq!(content(&two.nodes), expected);
    // What was there before is in a snapshot of the whole cluster.
    let shown = program.json(&["show", "latest:pre-restore"]);
    assert_eq!(shown["snapshot"]["sources"][0]["outcome"]["items"], expected.len() + 10);

    server.client().say("SELECT 3");
    let mut other = server.client();
    other.say("SELECT 3");
    other.say("SET elsewhere 1");
    program.expect(0, &["backup", &server.url()]);
    program.refused(
        &[&into[..], &["--clean"]].concat(),
        "database 3 of the target",
        "cluster",
    );
    let scratch = ["verify", "latest", "--level", "restored", "--into", &url];
    assert_eq!(program.run(&scratch).status.code(), Some(1));
}

#[test]
fn what_one_argument_cannot_hold_goes_by_commands_beside_its_key() {
    let two = RedisCluster::start(Kind::Redis7, TWO, false, &["--proto-max-bulk-len", "1mb"]);
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    for key in ["large", "a}b{}c", "{user}:list", "other"] {
        for n in 0..40 {
            let mut item = crate::support::program::noise(50_000);
            item.extend_from_slice(n.to_string().as_bytes());
            client.ask(&[b"RPUSH", key.as_bytes(), &item]);
        }
        client.ask(&[b"PEXPIREAT", key.as_bytes(), FUTURE_MS.as_bytes()]);
    }
    let program = Program::on_directory();
    program.expect(0, &["backup", &server.url()]);
    let done = report(&program, 0, &["--into", &two.nodes[0].url()]);
    assert_eq!((&done["restored"], &done["replayed"]), (&4.into(), &4.into()), "{done}");
    assert_eq!(content(&two.nodes), content([&server]));
}

#[test]
fn clusters_that_cannot_be_backed_up_whole_are_refused() {
    for kind in kinds() {
        let three = RedisCluster::start(kind, THREE, true, &[]);
        three.ask(&[b"SET", b"foo", b"bar"]);
        let outcome = |url: &str| {
            let program = Program::on_directory();
            program.expect(0, &["backup", url]);
            program.json(&["show", "latest"])["snapshot"]["sources"][0]["outcome"].clone()
        };
        // A replica of the first shard is read, the primaries of the others.
        let position = &outcome(&format!("{}?replica=yes", three.nodes[1].url()))["position"];
        let replica = format!("127.0.0.1:{},", three.nodes[3].port);
        assert!(
            position["shard-0000"].as_str().unwrap().contains(&replica),
            "{position}"
        );
        // The URL of a replica leads to the primaries.
        let position = &outcome(&format!("{}?method=scan", three.nodes[3].url()))["position"];
        assert_eq!(
            (&position["method"], &position["keys"]),
            (&"scan".into(), &"1".into()),
            "{position}"
        );
        // One node alone, if that is asked for.
        assert_eq!(outcome(&format!("{}?cluster=no", three.nodes[0].url()))["items"], 0);

        let program = Program::on_directory();
        let (from, to) = (three.id(0), three.id(1));
        three.nodes[1]
            .client()
            .say(&format!("CLUSTER SETSLOT 77 IMPORTING {from}"));
        three.nodes[0]
            .client()
            .say(&format!("CLUSTER SETSLOT 77 MIGRATING {to}"));
        let backup = ["backup", &three.nodes[2].url()];
        program.refused(&backup, &format!("77 to node {to}"), "slot migration is finished");
        let check = program.run(&["check", &three.nodes[2].url()]);
        assert!(
            String::from_utf8_lossy(&check.stdout).contains("slots are moving"),
            "{check:?}"
        );
        three.nodes[0].client().say("CLUSTER SETSLOT 77 STABLE");
        program.refused(&backup, &format!("77 from node {from}"), "slot migration is finished");
        three.nodes[1].client().say("CLUSTER SETSLOT 77 STABLE");
        program.expect(0, &backup);
        // A slot that nobody serves.
        for node in &three.nodes[..3] {
            node.client().say("CLUSTER DELSLOTS 12182");
        }
        program.refused(&backup, "serves slots 12182", "CLUSTER INFO");
    }
}

fn address(server: &RedisServer) -> RedisAddress {
    RedisAddress::from_url(&server.url(), None, None, &|_| None).unwrap()
}

/// Restores into a cluster and lets something happen between the look at it and the first key.
async fn while_slots_move(
    vault: &Vault,
    cluster: &RedisCluster,
    conflict: Option<Conflict>,
    meanwhile: impl FnOnce(),
) -> Tally {
    let restore = RedisRestore {
        address: address(&cluster.nodes[0]),
        reader: vault.reader().await,
        options: RedisRestoreOptions {
            conflict,
            ..RedisRestoreOptions::default()
        },
        task: "s".to_owned(),
        reporter: vault.reporter(),
        cancel: CancellationToken::new(),
    };
    let plan = restore.plan().await.unwrap();
    let verified = restore.verify().await.unwrap();
    meanwhile();
    restore.run(plan, verified).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_follow_slots_that_move_during_a_restore() {
    for kind in kinds() {
        let server = filled(kind);
        for n in 0..500 {
            server
                .client()
                .ask(&[b"SET", format!("{{foo}}{n}").as_bytes(), b"moves"]);
        }
        let expected = content([&server]);
        let mut vault = Vault::new();
        let source = RedisSource::new(RedisOptions::new(address(&server)));
        let spool = tempfile::tempdir().unwrap();
        let outcome = vault.backup(&source, spool.path()).await.unwrap();
        vault.archives = outcome.archives;

        // The slot of {foo} belongs to another node by the time its keys come: MOVED.
        let three = RedisCluster::start(kind, THREE, false, &[]);
        let to = three.id(0);
        let tally = while_slots_move(&vault, &three, None, || {
            three.nodes[0].client().say(&format!("CLUSTER SETSLOT 12182 NODE {to}"));
            three.nodes[2].client().say(&format!("CLUSTER SETSLOT 12182 NODE {to}"));
        })
        .await;
        assert_eq!(
            (tally.restored, tally.failed_keys),
            (expected.len() as u64, 0),
            "{kind:?}: {tally:?}"
        );
        assert_eq!(content(&three.nodes), expected, "{kind:?}");
        assert_eq!(three.nodes[0].client().integer("CLUSTER COUNTKEYSINSLOT 12182"), 500);

        // It is on its way, and the keys that are there stay until they are moved: ASK for the others.
        let two = RedisCluster::start(kind, TWO, false, &[]);
        two.ask(&[b"SET", b"{foo}0", b"newer"]);
        let (from, to) = (two.id(0), two.id(1));
        two.nodes[1]
            .client()
            .say(&format!("CLUSTER SETSLOT 12182 IMPORTING {from}"));
        two.nodes[0]
            .client()
            .say(&format!("CLUSTER SETSLOT 12182 MIGRATING {to}"));
        let tally = while_slots_move(&vault, &two, Some(Conflict::Replace), || {}).await;
        assert_eq!(
            (tally.restored, tally.failed_keys),
            (expected.len() as u64, 0),
            "{kind:?}: {tally:?}"
        );
        assert_eq!(two.nodes[1].client().integer("CLUSTER COUNTKEYSINSLOT 12182"), 499);
        assert_eq!(two.nodes[0].client().integer("CLUSTER COUNTKEYSINSLOT 12182"), 1);
        let port = two.nodes[1].port;
        two.nodes[0]
            .client()
            .say(&format!("MIGRATE 127.0.0.1 {port} {{foo}}0 0 5000"));
        two.nodes[1].client().say(&format!("CLUSTER SETSLOT 12182 NODE {to}"));
        two.nodes[0].client().say(&format!("CLUSTER SETSLOT 12182 NODE {to}"));
        assert_eq!(content(&two.nodes), expected, "{kind:?}");
    }
}
