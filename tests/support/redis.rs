//! Redis and Valkey servers, each with a directory of its own, and a small client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::wait;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis7,
    Redis8,
    Valkey9,
}

/// The kinds that are there: the newer two need root.
pub(crate) fn kinds() -> Vec<Kind> {
    assert!(Kind::Redis7.program().is_some(), "run tests/servers/setup.sh");
    let all = [Kind::Redis7, Kind::Redis8, Kind::Valkey9];
    all.into_iter().filter(|kind| kind.program().is_some()).collect()
}

impl Kind {
    /// Returns the chroot, if any, and the program.
    fn program(self) -> Option<(Option<PathBuf>, PathBuf)> {
        let root = || std::env::var_os("WIREVAULT_TEST_REDIS_ROOT").map(PathBuf::from);
        match self {
            Self::Redis7 => {
                let program = std::env::var_os("WIREVAULT_TEST_REDIS7").map(PathBuf::from)?;
                Some((None, program))
            }
            Self::Redis8 => Some((Some(root()?), "/usr/bin/redis-server".into())),
            Self::Valkey9 => Some((Some(root()?), "/usr/bin/valkey-server".into())),
        }
    }
}

/// A running server; it ends with this.
pub(crate) struct RedisServer {
    child: Child,
    pub(crate) port: u16,
    pub(crate) kind: Kind,
    pub(crate) dir: tempfile::TempDir,
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RedisServer {
    pub(crate) fn start(kind: Kind, options: &[&str]) -> Self {
        Self::start_on(kind, options, None)
    }

    /// Starts a server, on an RDB if one is given.
    pub(crate) fn start_on(kind: Kind, options: &[&str], rdb: Option<&[u8]>) -> Self {
        Self::start_in(kind, options, |directory| {
            if let Some(rdb) = rdb {
                std::fs::write(directory.join("dump.rdb"), rdb).unwrap();
            }
        })
    }

    /// Starts a server on a data directory that is filled before.
    pub(crate) fn start_in(kind: Kind, options: &[&str], fill: impl FnOnce(&Path)) -> Self {
        let (root, program) = kind.program().unwrap();
        let dir = match &root {
            Some(root) => tempfile::tempdir_in(root.join("tmp")).unwrap(),
            None => tempfile::tempdir().unwrap(),
        };
        fill(dir.path());
        let inside = match &root {
            Some(root) => PathBuf::from("/").join(dir.path().strip_prefix(root).unwrap()),
            None => dir.path().to_owned(),
        };
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = match &root {
                Some(root) => {
                    let mut command = Command::new("chroot");
                    command.arg(root).arg(&program);
                    command
                }
                None => Command::new(&program),
            };
            command
                .args([
                    "--port",
                    &port.to_string(),
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--loglevel",
                    "notice",
                ])
                .args([
                    "--repl-diskless-sync-delay",
                    "0",
                    "--enable-debug-command",
                    "yes",
                    "--appendonly",
                    "no",
                ])
                .args(["--unixsocket", &inside.join("s.sock").display().to_string()])
                .arg("--dir")
                .arg(&inside)
                .args(options)
                .stdin(Stdio::null())
                .stdout(std::fs::File::create(dir.path().join("log")).unwrap());
            let mut child = command.spawn().unwrap();
            // It says so once the port is its own and the data are loaded; a server that answers could be another one's.
            let (mut ready, mut ended) = (false, false);
            wait::until("the server is ready, or ends", || {
                let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
                ready = log.contains("Ready to accept connections");
                ended = child.try_wait().unwrap().is_some();
                ready || ended
            });
            if ready && !ended {
                return Self { child, port, kind, dir };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        panic!("{kind:?} did not start: {log}");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn socket_url(&self) -> String {
        format!("unix://{}", self.dir.path().join("s.sock").display())
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port).unwrap()
    }

    /// The digest of the whole data set, which does not depend on encodings or order.
    pub(crate) fn digest(&self) -> String {
        self.client().text(&[b"DEBUG", b"DIGEST"])
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(Vec<u8>),
    Error(String),
    Integer(i64),
    Nothing,
    Array(Vec<Value>),
}

/// A connection that sends one command after another.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(wait::PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a command; an error of the server fails the test.
    pub(crate) fn ask(&mut self, arguments: &[&[u8]]) -> Value {
        let reply = self.try_ask(arguments).unwrap();
        if let Value::Error(text) = &reply {
            let command: Vec<_> = arguments.iter().map(|a| a.escape_ascii().to_string()).collect();
            panic!("{}: {text}", command.join(" ").chars().take(200).collect::<String>());
        }
        reply
    }

    /// Sends a command of words without spaces.
    pub(crate) fn say(&mut self, command: &str) -> Value {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.ask(&words)
    }

    pub(crate) fn text(&mut self, arguments: &[&[u8]]) -> String {
        match self.ask(arguments) {
            Value::Text(text) => String::from_utf8_lossy(&text).into_owned(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn integer(&mut self, command: &str) -> i64 {
        match self.say(command) {
            Value::Integer(number) => number,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn try_ask(&mut self, arguments: &[&[u8]]) -> std::io::Result<Value> {
        let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&bytes)?;
        self.reply()
    }

    fn reply(&mut self) -> std::io::Result<Value> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let rest = line.trim_end()[1..].to_owned();
        Ok(match line.as_bytes()[0] {
            b'+' => Value::Text(rest.into_bytes()),
            b'-' => Value::Error(rest),
            b':' => Value::Integer(rest.parse().unwrap()),
            b'$' if rest == "-1" => Value::Nothing,
            b'$' => {
                let mut body = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut body)?;
                body.truncate(body.len() - 2);
                Value::Text(body)
            }
            b'*' => {
                let count: i64 = rest.parse().unwrap();
                let elements = (0..count.max(0)).map(|_| self.reply()).collect::<Result<_, _>>()?;
                Value::Array(elements)
            }
            other => panic!("reply of kind {other}"),
        })
    }
}

/// Far enough away that no test outlives it.
pub(crate) const FUTURE_MS: &str = "4102444800000";

/// Fills a server with every core type in each of its encodings. Returns how many keys.
pub(crate) fn fill(server: &RedisServer) -> i64 {
    let mut c = server.client();
    for command in [
        "SET int 12345",
        "SET negative -7",
        "SET embedded hello",
        "SETRANGE bitmap 1000 x",
        "SETBIT bits 77777 1",
        "RPUSH list-small a b c 1 2 3",
        "SADD intset 1 2 3 70000 5000000000",
        "SADD set-small a b c",
        "ZADD zset-small 1.5 a -inf b inf c 3 d",
        "HSET hash-small f1 v1 f2 2",
        "PFADD hll a b c d e f",
        "GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
        "XADD stream 1-1 f v g w",
        "XADD stream 2-1 f v2",
        "XADD stream 3-1 other fields here too",
        "XDEL stream 2-1",
        "XGROUP CREATE stream g1 0",
        "XGROUP CREATE stream g2 $",
        "XREADGROUP GROUP g1 alice COUNT 1 STREAMS stream >",
        "XREADGROUP GROUP g1 bob STREAMS stream >",
        "XADD stream-empty 1-1 a b",
        "XTRIM stream-empty MAXLEN 0",
        "SET gone soon",
        "PEXPIREAT gone 1",
    ] {
        c.say(command);
    }
    for (command, count) in [("RPUSH", 3000), ("SADD", 3000), ("ZADD", 3000), ("HSET", 3000)] {
        for n in 0..count {
            let (key, member, value) = (
                format!("big-{command}"),
                format!("member:{n:06}"),
                format!("{}.25", n * 7),
            );
            match command {
                "ZADD" => c.ask(&[command.as_bytes(), key.as_bytes(), value.as_bytes(), member.as_bytes()]),
                "HSET" => c.ask(&[command.as_bytes(), key.as_bytes(), member.as_bytes(), value.as_bytes()]),
                _ => c.ask(&[command.as_bytes(), key.as_bytes(), member.as_bytes()]),
            };
        }
    }
    for n in 0..500 {
        c.say(&format!("XADD stream-big {}-1 field value{n} n {n}", n + 1));
    }
    c.ask(&[b"SET", b"compressible", &vec![b'z'; 100_000]]);
    c.ask(&[b"SET", b"noise", &super::program::noise(3_000_000)]);
    c.ask(&[
        b"RPUSH",
        b"list-of-large",
        &super::program::noise(100_000),
        b"x",
        &vec![b'y'; 20_000],
    ]);
    c.ask(&[b"SET", b"bin\0ary\xff\r\nkey", b"bin\0ary\xff\r\nvalue"]);
    c.ask(&[b"SET", &vec![b'k'; 3000], b"a long key that LZF compresses"]);
    c.ask(&[b"SET", b"", b"the empty key"]);
    c.ask(&[b"SET", b"1234567", b"a key that is a number"]);
    c.say(&format!("SET expiring later PXAT {FUTURE_MS}"));
    c.say(&format!("PEXPIREAT hash-small {FUTURE_MS}"));
    c.ask(&[
        b"FUNCTION",
        b"LOAD",
        b"#!lua name=wv\nredis.register_function('wv_one', function() return 1 end)",
    ]);
    if server.kind != Kind::Redis7 {
        for n in 0..3 {
            c.say(&format!("HSET hash-ttl f{n} v{n}"));
        }
        c.say(&format!("HPEXPIREAT hash-ttl {FUTURE_MS} FIELDS 1 f1"));
        for n in 0..1000 {
            c.say(&format!("HSET hash-ttl-big field:{n} {n}"));
        }
        c.say(&format!(
            "HPEXPIREAT hash-ttl-big {FUTURE_MS} FIELDS 2 field:1 field:500"
        ));
    }
    let mut keys = c.integer("DBSIZE");
    for database in 1..16 {
        c.say(&format!("SELECT {database}"));
        c.say(&format!("SET in-db {database}"));
        c.say(&format!("RPUSH list-{database} a"));
        keys += 2;
    }
    keys
}

/// Primaries of a cluster, each with its slots.
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a primary for each list of slot ranges, and a replica of the first if asked for.
    pub(crate) fn start(kind: Kind, slots: &[&[(u16, u16)]], replica: bool, options: &[&str]) -> Self {
        let start = |_| {
            let bus = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port()
                .to_string();
            let cluster = [
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "30000",
                "--cluster-port",
                &bus,
            ];
            let server = RedisServer::start(kind, &[&cluster[..], options].concat());
            (server, bus)
        };
        let started: Vec<_> = (0..slots.len() + usize::from(replica)).map(start).collect();
        for (node, bus) in started.iter().skip(1) {
            let port = node.port.to_string();
            let meet: [&[u8]; 5] = [b"CLUSTER", b"MEET", b"127.0.0.1", port.as_bytes(), bus.as_bytes()];
            started[0].0.client().ask(&meet);
        }
        let cluster = Self {
            nodes: started.into_iter().map(|(node, _)| node).collect(),
        };
        for (node, ranges) in cluster.nodes.iter().zip(slots) {
            for (from, to) in *ranges {
                node.client().say(&format!("CLUSTER ADDSLOTSRANGE {from} {to}"));
            }
        }
        cluster.wait("cluster_state:ok", &|node| node.client().text(&[b"CLUSTER", b"INFO"]));
        let known = format!("cluster_known_nodes:{}", cluster.nodes.len());
        cluster.wait(&known, &|node| node.client().text(&[b"CLUSTER", b"INFO"]));
        if replica {
            let id = cluster.id(0);
            let last = cluster.nodes.last().unwrap();
            last.client().say(&format!("CLUSTER REPLICATE {id}"));
            let replication = |_: &RedisServer| cluster.nodes[0].client().text(&[b"INFO", b"replication"]);
            cluster.wait("state=online", &replication);
            let link = |_: &RedisServer| last.client().text(&[b"INFO", b"replication"]);
            cluster.wait("master_link_status:up", &link);
            cluster.wait("slave", &|node| node.client().text(&[b"CLUSTER", b"NODES"]));
        }
        cluster
    }

    /// Waits until every node says this.
    fn wait(&self, words: &str, ask: &dyn Fn(&RedisServer) -> String) {
        for node in &self.nodes {
            wait::until(words, || ask(node).contains(words));
        }
    }

    pub(crate) fn id(&self, node: usize) -> String {
        self.nodes[node].client().text(&[b"CLUSTER", b"MYID"])
    }

    /// Says it to every node.
    pub(crate) fn say(&self, command: &str) {
        for node in &self.nodes {
            node.client().say(command);
        }
    }

    /// Asks the node that serves the key, which is the second word.
    pub(crate) fn ask(&self, arguments: &[&[u8]]) -> Value {
        for node in &self.nodes {
            match node.client().try_ask(arguments).unwrap() {
                Value::Error(text) if text.starts_with("MOVED") => {}
                Value::Error(text) => panic!("{text}"),
                reply => return reply,
            }
        }
        panic!("no node serves {}", arguments[1].escape_ascii());
    }
}
