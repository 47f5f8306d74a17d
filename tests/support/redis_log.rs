//! Receivers of the log of Redis and Valkey servers, and what they have stored.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;

use super::child::Guarded;
use super::program::{Program, files_below};
use super::redis::{Client, RedisServer};
use super::wait;

/// A running `log receive`.
pub(crate) struct Receiver {
    child: Guarded,
    said: PathBuf,
}

impl Receiver {
    pub(crate) fn start(program: &Program, url: &str) -> Self {
        Self::start_with(program, url, &[])
    }

    pub(crate) fn start_with(program: &Program, url: &str, flags: &[&str]) -> Self {
        let said = program.path(&format!("said-{}", uniquely()));
        let output = std::fs::File::create(said.with_extension("json")).unwrap();
        let words = [&["log", "receive", url, "--flush", "1", "--json", "-v"], flags].concat();
        let mut command = program.command(&words);
        command
            .stdout(output)
            .stderr(std::fs::File::create(&said).unwrap())
            .stdin(Stdio::null());
        Self {
            child: Guarded::spawn(&mut command),
            said,
        }
    }

    /// What it has said on standard error so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// Waits until all that the server has written by now is acknowledged.
    pub(crate) fn catch_up(&mut self, server: &RedisServer) {
        let mut client = server.client();
        let now = offset(&mut client);
        wait::until("the receiver has caught up", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.said());
            acknowledged(&mut client) >= Some(now)
        });
    }

    /// Ends it as a signal does, and returns its report.
    pub(crate) fn stop(self) -> Value {
        self.stops(0)
    }

    /// As [`Receiver::stop`], where not all is well.
    pub(crate) fn stops(self, code: i32) -> Value {
        let output = self.ended();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until it has said something.
    pub(crate) fn until_said(&mut self, words: &str) {
        wait::until(words, || {
            let ended = self.child.try_wait().unwrap();
            let said = self.said();
            assert!(ended.is_none() || said.contains(words), "{words}: {ended:?}: {said}");
            said.contains(words)
        });
    }

    /// Waits until it has ended by itself; returns the exit code and what it said.
    pub(crate) fn ends(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        (status.code(), self.said())
    }

    /// Ends it as a signal does.
    pub(crate) fn ended(mut self) -> Output {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        let read = |path: &Path| std::fs::read(path).unwrap();
        Output {
            status,
            stdout: read(&self.said.with_extension("json")),
            stderr: read(&self.said),
        }
    }

    /// Ends it as the loss of a machine does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn uniquely() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A field of INFO replication.
pub(crate) fn info(client: &mut Client, name: &str) -> Option<String> {
    let text = client.text(&[b"INFO", b"replication"]);
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned))
}

/// Where the stream of a server is.
pub(crate) fn offset(client: &mut Client) -> u64 {
    info(client, "master_repl_offset").unwrap().parse().unwrap()
}

/// What a receiver has acknowledged: it is the replica without a port.
pub(crate) fn acknowledged(client: &mut Client) -> Option<u64> {
    let text = client.text(&[b"INFO", b"replication"]);
    let replicas = text
        .lines()
        .filter(|line| line.starts_with("slave") && line.contains(",port=0,"));
    let offsets = replicas.filter_map(|line| {
        let rest = line.split_once("offset=")?.1;
        rest.split(',').next()?.parse().ok()
    });
    offsets.max()
}

/// A stored piece of a log.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) path: PathBuf,
    pub(crate) id: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) descriptor: Value,
}

impl Piece {
    /// A fact of its descriptor.
    pub(crate) fn fact(&self, name: &str) -> Option<&str> {
        self.descriptor["facts"][name].as_str()
    }

    /// Changes a fact of its descriptor, in the store.
    pub(crate) fn forge(&self, name: &str, value: &str) {
        let mut descriptor = self.descriptor.clone();
        descriptor["facts"][name] = Value::from(value);
        let mut object = std::fs::read(&self.path).unwrap();
        object.truncate(descriptor["data_bytes"].as_u64().unwrap() as usize);
        let text = serde_json::to_vec(&descriptor).unwrap();
        let length = text.len() as u64 + 16;
        object.extend(0x184D_2A57_u32.to_le_bytes());
        object.extend((length as u32 - 8).to_le_bytes());
        object.extend(text);
        object.extend(length.to_le_bytes());
        std::fs::write(&self.path, object).unwrap();
    }

    /// The bytes of the stream.
    pub(crate) fn raw(&self) -> Vec<u8> {
        zstd::stream::decode_all(&std::fs::read(&self.path).unwrap()[..]).unwrap()
    }
}

/// All pieces in a repository, by history and offset.
pub(crate) fn pieces(program: &Program) -> Vec<Piece> {
    let files = files_below(&program.path("repo/log/redis"))
        .into_iter()
        .map(|(path, _)| path);
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "zst"));
    files.map(|path| piece(&path)).collect()
}

/// The offset up to which a history is stored, counted by its pieces.
pub(crate) fn stored_to(program: &Program, id: &str) -> u64 {
    let all = pieces(program);
    let of_it = all.iter().filter(|piece| piece.id == id);
    of_it.map(|piece| piece.to).max().unwrap_or(0)
}

fn piece(path: &Path) -> Piece {
    let bytes = std::fs::read(path).unwrap();
    let end = bytes.len() - 8;
    let length = u64::from_le_bytes(bytes[end..].try_into().unwrap()) as usize;
    let descriptor: Value = serde_json::from_slice(&bytes[bytes.len() - length + 8..end]).unwrap();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    Piece {
        id: name(path.parent().unwrap()),
        from: name(path).parse().unwrap(),
        to: descriptor["span"]["to"].as_u64().unwrap(),
        descriptor,
        path: path.to_owned(),
    }
}

/// Waits until a snapshot is there.
pub(crate) fn base_is_there(program: &Program) {
    wait::until("a snapshot begins the log", || {
        !files_below(&program.path("repo/snapshots")).is_empty()
    });
}

/// Restores into the directory of a new server, and starts it.
pub(crate) fn restored(program: &Program, like: &RedisServer, moment: &[&str]) -> (RedisServer, Value) {
    let mut report = Value::Null;
    let server = RedisServer::start_in(like.kind, &["--appendonly", "yes"], |directory| {
        let into = directory.display().to_string();
        report = program.json(&[&["restore", "latest", "--source", "redis", "--into", &into], moment].concat());
    });
    (server, report)
}
