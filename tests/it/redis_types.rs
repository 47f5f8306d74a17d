//! Values of the newest types, and of types that this version does not know: from scripted servers, into real ones.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;
use wirevault::engines::redis::wire::rdb::Crc64;

use crate::support::program::Program;
use crate::support::redis::{Kind, RedisServer, Value, kinds};

/// A command, word by word.
type Words = Vec<Vec<u8>>;

/// Database, key and payload.
type Kept = (u32, Vec<u8>, Vec<u8>);

/// A server that gives one RDB, and keys by SCAN and DUMP if it is to have some; what it is sent by RESTORE is kept.
#[derive(Clone, Default)]
struct Scripted {
    rdb: Vec<u8>,
    keys: Option<Vec<Kept>>,
    /// The highest database that it has.
    databases: u32,
    version: u16,
    /// What it answers to RESTORE of the key `odd`.
    refusal: Option<&'static str>,
    restored: Arc<Mutex<Vec<Words>>>,
}

impl Scripted {
    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let scripted = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let scripted = scripted.clone();
                std::thread::spawn(move || scripted.serve(stream.unwrap()));
            }
        });
        format!("redis://127.0.0.1:{port}")
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut input = BufReader::new(stream.try_clone().unwrap());
        let mut database = 0;
        while let Some(words) = command(&mut input) {
            let answer = self.answer(&words, &mut database);
            let _ = stream.write_all(&answer);
        }
    }

    /// Returns keys and payloads of a database.
    fn keys_of(&self, database: u32) -> Vec<(&[u8], &[u8])> {
        let all = self.keys.iter().flatten().filter(|(of, ..)| *of == database);
        all.map(|(_, key, payload)| (&key[..], &payload[..])).collect()
    }

    fn size(&self, database: u32) -> usize {
        match &self.keys {
            Some(_) => self.keys_of(database).len(),
            None => self.restored.lock().unwrap().len(),
        }
    }

    fn answer(&self, words: &Words, database: &mut u32) -> Vec<u8> {
        let word = |n: usize| words.get(n).map(|word| String::from_utf8_lossy(word).to_uppercase());
        let keyspace = (0..=self.databases).map(|number| match self.size(number) {
            0 => String::new(),
            keys => format!("db{number}:keys={keys},expires=0\r\n"),
        });
        let info = format!(
            "redis_version:8.6.0\r\nrole:master\r\ncluster_enabled:0\r\n# Keyspace\r\n{}",
            keyspace.collect::<String>()
        );
        match (word(0).as_deref().unwrap_or_default(), word(1).as_deref()) {
            ("INFO", _) => bulk(info.as_bytes()),
            ("ACL" | "CONFIG" | "MODULE", _) | ("FUNCTION", Some("LIST")) => b"*0\r\n".to_vec(),
            ("FUNCTION", Some("DUMP")) => bulk(&payload(&[], self.version)),
            ("PSYNC", _) => {
                let head = format!("+FULLRESYNC {} 0\r\n${}\r\n", "a".repeat(40), self.rdb.len());
                [head.as_bytes(), &self.rdb].concat()
            }
            ("SELECT", Some(number)) if number.parse::<u32>().unwrap() <= self.databases => {
                *database = number.parse().unwrap();
                b"+OK\r\n".to_vec()
            }
            ("SELECT", _) => b"-ERR DB index is out of range\r\n".to_vec(),
            ("DBSIZE", _) => format!(":{}\r\n", self.size(*database)).into_bytes(),
            ("MSETNX", _) => b"-ERR unknown command\r\n".to_vec(),
            ("PEXPIRETIME", _) => b":-1\r\n".to_vec(),
            ("MEMORY", _) => b":100\r\n".to_vec(),
            ("SCAN" | "DUMP", _) if self.keys.is_none() => b"-ERR unknown command\r\n".to_vec(),
            ("SCAN", _) => {
                let keys: Vec<Vec<u8>> = self.keys_of(*database).iter().map(|(key, _)| bulk(key)).collect();
                let head = format!("*2\r\n$1\r\n0\r\n*{}\r\n", keys.len());
                [head.as_bytes(), &keys.concat()].concat()
            }
            ("DUMP", _) => {
                let keys = self.keys_of(*database);
                let found = keys.iter().find(|(key, _)| *key == words[1]);
                found.map_or_else(|| b"$-1\r\n".to_vec(), |(_, payload)| bulk(payload))
            }
            ("RESTORE", _) if word(2).as_deref() == Some("-1") => b"-ERR Invalid TTL value\r\n".to_vec(),
            ("RESTORE", Some("ODD")) if self.refusal.is_some() => {
                format!("-{}\r\n", self.refusal.unwrap()).into_bytes()
            }
            ("RESTORE", _) => {
                self.restored.lock().unwrap().push(words.clone());
                b"+OK\r\n".to_vec()
            }
            _ => b"+OK\r\n".to_vec(),
        }
    }
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Reads `*3` or `$5`.
fn number(input: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    line.trim_end().get(1..)?.parse().ok()
}

fn command(input: &mut BufReader<TcpStream>) -> Option<Words> {
    let mut words = Vec::new();
    for _ in 0..number(input)? {
        let length = number(input)?;
        let mut bytes = vec![0; length + 2];
        input.read_exact(&mut bytes).ok()?;
        bytes.truncate(length);
        words.push(bytes);
    }
    Some(words)
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// What DUMP gives: type and value, version, CRC64.
fn payload(value: &[u8], version: u16) -> Vec<u8> {
    let mut bytes = [value, &version.to_le_bytes()].concat();
    let crc = Crc64::of(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

fn rdb(version: u16, keys: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = format!("REDIS{version:04}").into_bytes();
    bytes.extend([254, 0]);
    for (key, value) in keys {
        bytes.push(value[0]);
        bytes.extend(string(key));
        bytes.extend_from_slice(&value[1..]);
    }
    bytes.push(255);
    let crc = Crc64::of(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// A hundred strings before a value, and fifty behind it.
fn around(key: &[u8], value: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let plain = |n: u32| (format!("k{n}").into_bytes(), [&[0][..], &string(b"v")].concat());
    let mut keys: Vec<_> = (0..100).map(plain).collect();
    keys.push((key.to_vec(), value.to_vec()));
    keys.extend((100..150).map(plain));
    keys
}

fn scripted(version: u16, keys: &[(Vec<u8>, Vec<u8>)], scans: bool) -> Scripted {
    let payloads = keys
        .iter()
        .map(|(key, value)| (0, key.clone(), payload(value, version)));
    Scripted {
        rdb: rdb(version, keys),
        keys: scans.then(|| payloads.collect()),
        version,
        ..Scripted::default()
    }
}

fn backed_up(url: &str) -> Program {
    let program = Program::on_directory();
    program.expect(0, &["backup", url]);
    program
}

fn report(program: &Program, code: i32, arguments: &[&str]) -> Json {
    let start = ["restore", "latest:adhoc", "--source", "redis", "--json"];
    let said = program.expect(code, &[&start[..], arguments].concat());
    serde_json::from_str::<Json>(&said).unwrap()["restored"][0]["report"].clone()
}

/// A type that nobody knows: its key and those behind it go back as DUMP gave them; the RDB stays as it is.
#[test]
fn keys_of_unknown_types_go_back_as_payloads() {
    let odd = [&[99][..], &string(b"odd"), &[7; 20]].concat();
    let keys = around(b"odd", &odd);
    let source = scripted(17, &keys, true);
    let url = source.start();
    for method in ["psync", "scan"] {
        let url = format!("{url}?method={method}");
        let program = Program::on_directory();
        program.expect(0, &["backup", &url]);
        let said = program.expect(0, &["check", &url]);
        assert!(said.contains("RDB version 17") && said.contains("DUMP"), "{said}");
        let shown = program.json(&["show", "latest"]);
        assert_eq!(shown["snapshot"]["sources"][0]["outcome"]["items"], 151, "{shown}");
        program.expect(0, &["verify", "latest", "--level", "content"]);
        if method == "psync" {
            let stored = program.run(&["cat", "latest", "redis", "dump.rdb"]).stdout;
            assert_eq!(stored, source.rdb);
        }
        program.expect(0, &["restore", "latest", "--source", "redis", "--into", "file:out.rdb"]);
        let file = std::fs::read(program.path("out.rdb")).unwrap();
        let odd_key = [&[99][..], &string(b"odd"), &odd[1..]].concat();
        assert!(file.windows(odd_key.len()).any(|window| window == odd_key), "{method}");

        // A server that does not know it refuses that one key.
        let target = RedisServer::start(Kind::Redis7, &[]);
        let done = report(&program, 2, &["--into", &target.url()]);
        assert_eq!(
            (&done["restored"], &done["failed_keys"]),
            (&150.into(), &1.into()),
            "{done}"
        );
        assert_eq!(done["failed"][0]["name"], "odd (database 0)");
        assert_eq!(target.client().integer("DBSIZE"), 150);
        target.client().say("SET surplus x");
        let done = report(&program, 2, &["--into", &target.url(), "--clean"]);
        assert_eq!(done["restored"], 150, "{done}");
        assert_eq!(target.client().integer("DBSIZE"), 150);
        let done = report(
            &program,
            0,
            &["--into", &target.url(), "--key", "k12*", "--conflict", "replace"],
        );
        assert_eq!(
            (&done["restored"], &done["not_selected"]),
            (&11.into(), &140.into()),
            "{done}"
        );

        // One that knows it gets the very payload.
        let knowing = Scripted::default();
        let done = report(&program, 0, &["--into", &knowing.start()]);
        assert_eq!(done["restored"], 151, "{done}");
        let restored = knowing.restored.lock().unwrap();
        let sent = restored.iter().find(|words| words[1] == b"odd").unwrap();
        assert_eq!(sent[3], payload(&odd, 17));
        target.client().say("FLUSHALL");
        let scratch = ["verify", "latest:adhoc", "--level", "restored", "--into", &target.url()];
        program.expect(2, &scratch);
        assert_eq!(target.client().integer("DBSIZE"), 0);
    }
}

/// A type that is known, in a form that is not: what stands before it is believed; by DUMP all come back but the key itself.
#[test]
fn a_known_type_of_another_form_costs_no_other_key() {
    let odd = [&[26][..], &[0; 20]].concat();
    let keys = around(b"stream", &odd);
    let target = RedisServer::start(Kind::Redis7, &[]);
    for (scans, restored) in [(false, 100), (true, 150)] {
        let program = backed_up(&scripted(13, &keys, scans).start());
        target.client().say("FLUSHALL");
        let done = report(&program, 2, &["--into", &target.url()]);
        assert_eq!(done["restored"], restored, "{scans}: {done}");
        assert_eq!(target.client().integer("DBSIZE"), restored, "{scans}");
    }
}

/// By SCAN, what is too long to be looked at as a whole, and metadata that are other than guessed, hide no key behind them.
#[test]
fn nothing_is_guessed_of_payloads() {
    let long = [&[26][..], &vec![0; 5 << 20]].concat();
    let target = RedisServer::start(Kind::Redis7, &[]);
    for (odd, beside) in [(long, 0), (strange(), 1)] {
        let url = format!("{}?method=scan", scripted(16, &around(b"odd", &odd), true).start());
        let program = Program::on_directory();
        let output = program.run(&["backup", &url]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        // A type that is known is not called unknown because the value is long.
        assert_eq!(
            said.contains("a form that this version does not know"),
            beside > 0,
            "{said}"
        );
        assert_eq!(said.contains("values above 4 MiB"), beside == 0, "{said}");
        let shown = program.json(&["show", "latest"]);
        let outcome = &shown["snapshot"]["sources"][0]["outcome"];
        assert_eq!(outcome["note_counts"]["keys-as-payloads"], 1, "{outcome}");
        target.client().say("FLUSHALL");
        let done = report(&program, 2, &["--into", &target.url()]);
        assert_eq!(
            (&done["restored"], &done["failed_keys"]),
            (&150.into(), &1.into()),
            "{done}"
        );
        let knowing = Scripted::default();
        let done = report(&program, 0, &["--into", &knowing.start()]);
        assert_eq!(done["restored"], 151, "{done}");
        // What is not in the RDB is in no file either.
        let into = [
            "restore",
            "latest",
            "--source",
            "redis",
            "--into",
            "file:out.rdb",
            "--json",
        ];
        let done = program.expect(if beside > 0 { 2 } else { 0 }, &into);
        let done: Json = serde_json::from_str(&done).unwrap();
        let report = &done["restored"][0]["report"];
        assert_eq!(report["failed_keys"], beside, "{done}");
        if beside > 0 {
            assert_eq!(report["failed"][0]["name"], "odd (database 0)", "{done}");
            let said = done["errors"][0].as_str().unwrap();
            assert!(
                said.contains("odd (database 0): it is not in the file") && said.contains("--into redis://"),
                "{said}"
            );
        }
        let limited = format!("{url}&spool_limit=0");
        program.refused(&["backup", &limited], "0 MiB of spool file are full", "spool_limit");
    }
}

/// A payload with metadata that are other than guessed.
fn strange() -> Vec<u8> {
    [&[243, 0xff][..], &[1; 30]].concat()
}

fn text(value: &[u8]) -> Vec<u8> {
    [&[0][..], &string(value)].concat()
}

/// Backs keys up by SCAN: database, key and value of each.
fn backed_up_by_scan(keys: &[(u32, &str, Vec<u8>)]) -> Program {
    let payloads = keys.iter();
    let payloads = payloads.map(|(number, key, value)| (*number, key.as_bytes().to_vec(), payload(value, 16)));
    let source = Scripted {
        keys: Some(payloads.collect()),
        databases: 3,
        version: 16,
        ..Scripted::default()
    };
    backed_up(&format!("{}?method=scan", source.start()))
}

/// A key that is left out of the RDB takes nothing with it that the next one needs.
#[test]
fn a_key_that_is_in_no_file_leaves_the_others_in_their_databases() {
    let odd = [&[99][..], &[7; 20]].concat();
    let keys = [
        (0, "plain", text(b"v")),
        (1, "strange", strange()),
        (1, "odd", odd.clone()),
        (2, "other", odd),
    ];
    let program = backed_up_by_scan(&keys);
    let file = program.run(&["cat", "latest", "redis", "dump.rdb"]).stdout;
    for (database, key) in [(1, &b"odd"[..]), (2, b"other")] {
        let written = [&[254, database, 99][..], &string(key)].concat();
        assert!(
            file.windows(written.len()).any(|window| window == written),
            "{}",
            file.escape_ascii()
        );
    }
    let restore = ["restore", "latest", "--source", "redis", "--into", "file:out.rdb"];
    let said = program.run(&restore);
    assert_eq!(said.status.code(), Some(2));
    assert_eq!(std::fs::read(program.path("out.rdb")).unwrap(), file);
}

/// Keys that go as payloads of DUMP are keys of a database as all others.
#[test]
fn databases_of_payloads_are_counted() {
    let odd = [&[99][..], &[7; 20]].concat();
    let program = backed_up_by_scan(&[
        (0, "plain", text(b"v")),
        (1, "odd", odd.clone()),
        (3, "far", odd.clone()),
    ]);
    let shown = program.json(&["show", "latest"]);
    let position = &shown["snapshot"]["sources"][0]["outcome"]["position"];
    assert_eq!(position["keys_by_database"], "0:1 1:1 3:1", "{position}");
    let target = RedisServer::start(Kind::Redis7, &[]);
    let restore = |program: &Program, into: &str, code: i32, flags: &[&str]| {
        program.expect(
            code,
            &[&["restore", "latest", "--source", "redis", "--into", into][..], flags].concat(),
        )
    };
    let into = format!("{}/5", target.url());
    let refused = ["restore", "latest", "--source", "redis", "--into", &into];
    program.refused(&refused, "keys in databases 0, 1, 3", "Remove the number");
    let said = restore(&program, &target.url(), 0, &["--dry-run"]);
    assert!(said.contains("keys by database 0: 1, 1: 1, 3: 1;"), "{said}");
    // A target without such a database is refused before the first write.
    let small = Scripted::default();
    let refused = ["restore", "latest", "--source", "redis", "--into", &small.start()];
    program.refused(&refused, "choose database 1 of the target", "");
    assert!(small.restored.lock().unwrap().is_empty());
    // All of one database, nothing of which is in the RDB.
    let program = backed_up_by_scan(&[(1, "odd", odd)]);
    let said = restore(&program, &into, 0, &["--dry-run"]);
    assert!(said.contains("keys of database 1 go into database 5"), "{said}");
}

/// Keys behind a value of a guessed form are counted, and not believed when the guess turns out wrong much later.
#[test]
fn a_guess_that_turns_out_wrong_late_costs_no_backup() {
    let mut keys: Vec<_> = (0..10).map(|n| (format!("k{n}").into_bytes(), text(b"v"))).collect();
    keys.push((b"array".to_vec(), [&[28, 1, 0, 5, 0][..], &string(b"x")].concat()));
    keys.extend((0..50_000).map(|n| (format!("more:{n}").into_bytes(), text(&[b'v'; 60]))));
    keys.push((b"odd".to_vec(), vec![99; 30]));
    let program = backed_up(&scripted(14, &keys, false).start());
    let shown = program.json(&["show", "latest"]);
    assert_eq!(shown["snapshot"]["sources"][0]["outcome"]["items"], 10, "{shown}");
}

/// What can be done about a payload that a target refuses depends on why it does.
#[test]
fn advice_about_a_payload_is_that_of_its_error() {
    let program = backed_up_by_scan(&[(0, "odd", vec![99; 30])]);
    for (refusal, advice) in [
        (
            "OOM command not allowed when used memory > 'maxmemory'.",
            "Raise maxmemory",
        ),
        (
            "NOPERM this user has no permissions to access the key",
            "permission for RESTORE",
        ),
        ("ERR Bad data format", "the version of the backup or a later one"),
    ] {
        let target = Scripted {
            refusal: Some(refusal),
            ..Scripted::default()
        };
        let done = report(&program, 2, &["--into", &target.start()]);
        assert_eq!(done["failed"][0]["error"], refusal, "{done}");
        let said = done["failed"][0]["advice"].as_str().unwrap();
        assert!(said.contains(advice), "{said}");
    }
}

/// Streams of Redis 8.6 and 8.8, hashes of Redis 8.10: into servers that know older forms of them.
#[test]
fn the_newest_types_go_into_older_servers() {
    let Some(writer) = kinds().into_iter().find(|kind| *kind == Kind::Redis8) else {
        return;
    };
    let writer = RedisServer::start(writer, &[]);
    let mut client = writer.client();
    client.say("XADD s 1-1 f v g w");
    client.say("XADD s 2-1 f v2");
    let without_groups = dump(&mut client);
    client.say("XGROUP CREATE s g 0");
    client.say("XREADGROUP GROUP g alice COUNT 1 STREAMS s >");
    let with_group = dump(&mut client);
    let producers = |stream: &[u8]| [stream, &[50, 60, 1], &string(b"p"), &[1], &string(b"i"), &[1, 1, 1, 0]].concat();
    let none = |stream: &[u8]| [stream, &[50, 60, 0, 0, 0]].concat();
    let retyped = |kind: u8, stream: Vec<u8>| [&[kind][..], &stream[1..]].concat();
    let values = [14, 0, 0, 0, 3, 0, 7, 1, 0x81, b'x', 2, 5, 1, 0xff];
    let keys = [
        (b"fourth".to_vec(), retyped(26, none(&with_group))),
        (b"dedup".to_vec(), retyped(26, producers(&with_group))),
        (b"fifth".to_vec(), retyped(27, none(&without_groups))),
        (b"packed".to_vec(), [&[30][..], &string(&values)].concat()),
        (b"values".to_vec(), [&[32, 7][..], &string(b"x"), &[0xc0, 5]].concat()),
    ];
    let mut bytes = rdb(15, &keys);
    // The template stands before the keys.
    let template = [&[242, 7, 2][..], &string(b"a"), &string(b"bb")].concat();
    bytes.splice(9..9, template);
    bytes.truncate(bytes.len() - 8);
    let crc = Crc64::of(&bytes);
    bytes.extend(crc.to_le_bytes());
    let source = Scripted {
        rdb: bytes,
        version: 15,
        ..Scripted::default()
    };
    let program = backed_up(&source.start());
    program.expect(0, &["verify", "latest", "--level", "content"]);
    for kind in kinds() {
        let target = RedisServer::start(kind, &[]);
        // What a stream knew of its producers is named.
        let done = report(&program, 2, &["--into", &target.url()]);
        assert_eq!(
            (&done["restored"], &done["failed_keys"]),
            (&5.into(), &0.into()),
            "{kind:?}: {done}"
        );
        assert_eq!(done["losses"].as_array().unwrap().len(), 1, "{kind:?}: {done}");
        assert!(done["losses"][0]["name"].as_str().unwrap().contains("dedup"), "{done}");
        let mut copy = target.client();
        for stream in ["fourth", "dedup", "fifth"] {
            assert_eq!(
                copy.say(&format!("XRANGE {stream} - +")),
                client.say("XRANGE s - +"),
                "{kind:?}"
            );
        }
        assert_eq!(copy.say("XINFO GROUPS dedup"), copy.say("XINFO GROUPS fourth"));
        for hash in ["packed", "values"] {
            assert_eq!(copy.text(&[b"HGET", hash.as_bytes(), b"a"]), "x", "{kind:?}");
            assert_eq!(copy.text(&[b"HGET", hash.as_bytes(), b"bb"]), "5", "{kind:?}");
            assert_eq!(copy.integer(&format!("HLEN {hash}")), 2);
        }
        copy.say("FLUSHALL");
        let verify = ["verify", "latest", "--level", "restored", "--into", &target.url()];
        program.expect(2, &verify);
        assert_eq!(copy.integer("DBSIZE"), 0);
    }
}

/// Returns type and value of the key `s`.
fn dump(client: &mut crate::support::redis::Client) -> Vec<u8> {
    match client.say("DUMP s") {
        Value::Text(payload) => payload[..payload.len() - 10].to_vec(),
        other => panic!("{other:?}"),
    }
}

/// A name of more than 4 MiB is not held by the walk; the key comes back all the same, and is compared.
#[test]
fn keys_with_very_long_names_come_back() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    let long: Vec<u8> = [&b"long:"[..], &vec![b'k'; 5 << 20]].concat();
    let noisy = [&b"noisy:"[..], &crate::support::program::noise(6 << 20)].concat();
    client.ask(&[b"RPUSH", &long, b"a", b"b"]);
    client.ask(&[b"SET", &noisy, b"value"]);
    client.ask(&[b"PEXPIREAT", &noisy, b"4102444800000"]);
    client.say("SET short x");
    let digest = server.digest();
    let program = backed_up(&server.url());
    program.expect(0, &["verify", "latest", "--level", "content"]);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let done = report(&program, 0, &["--into", &target.url()]);
    assert_eq!((&done["restored"], &done["replayed"]), (&3.into(), &2.into()), "{done}");
    assert_eq!(target.digest(), digest);
    target.client().say("FLUSHALL");
    let done = report(&program, 0, &["--into", &target.url(), "--key", "long:*"]);
    assert_eq!(
        (&done["restored"], &done["not_selected"]),
        (&1.into(), &2.into()),
        "{done}"
    );
    target.client().say("FLUSHALL");
    let verify = ["verify", "latest", "--level", "restored", "--into", &target.url()];
    program.expect(0, &verify);
    assert_eq!(target.client().integer("DBSIZE"), 0);
}
