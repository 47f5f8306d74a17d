//! Volumes that move while they are read: through the mount point, and through an engine whose tar breaks off.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::docker::{DockerEngine, expect_as_root};
use crate::support::program::{Program, noise};
use crate::support::wait::until;

#[test]
fn a_volume_whose_root_never_rests_is_read_at_its_mount_point() {
    let Some(engine) = DockerEngine::start() else { return };
    engine.import_busybox();
    engine.post("/volumes/create", &json!({ "Name": "busy" }));
    let script = "trap 'exit 0' TERM; i=0; while true; do i=$((i+1)); echo $i >/data/s$((i%50)); echo $i >/data/lock; \
                  mkdir -p /data/d; /bin/busybox rmdir /data/d; /bin/busybox rm -f /data/s$(((i+25)%50)); done";
    engine.run_idle("writer", &["busy:/data"], &json!({ "Cmd": ["/bin/sh", "-c", script] }));
    let volume = engine.volume("busy");
    std::fs::write(volume.join("kept"), "kept").unwrap();
    until("something is written", || volume.join("lock").exists());
    let program = Program::on_directory();
    for _ in 0..5 {
        expect_as_root(&program, 0, &["backup", &engine.url()]);
        let shown = program.json(&["show", "latest"]);
        let notes = &shown["snapshot"]["sources"][0]["outcome"]["note_counts"];
        assert_eq!(notes["read-by-archive"], Value::Null, "{notes}");
    }
    assert!(engine.is_running("writer"));
    assert_eq!(
        program.expect(0, &["cat", "latest", "docker", "volumes/busy/kept"]),
        "kept"
    );
}

/// Stands before an engine and lets its answers through, but for tars: of the first ones only so many bytes arrive,
/// and the answer ends well, as the engine's own does when a file moved under it.
struct Breaker {
    socket: PathBuf,
    asked: Arc<AtomicUsize>,
}

impl Breaker {
    fn new(engine: &DockerEngine, socket: PathBuf, cuts: &'static [usize]) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let (behind, asked) = (engine.socket(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), behind, asked) = (stream, behind.clone(), Arc::clone(&counter)) else {
                    return;
                };
                std::thread::spawn(move || pass(stream, &behind, cuts, &asked));
            }
        });
        Self { socket, asked }
    }

    fn url(&self, query: &str) -> String {
        format!("docker://{}?{query}", self.socket.display())
    }
}

/// Passes one connection on.
fn pass(mut client: UnixStream, behind: &Path, cuts: &[usize], asked: &AtomicUsize) -> Option<()> {
    let mut engine = UnixStream::connect(behind).ok()?;
    let head = head(&mut client)?;
    engine.write_all(&head).ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, engine.try_clone().ok()?);
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let request = String::from_utf8_lossy(&head).into_owned();
    let cut = if request.starts_with("GET ") && request.contains("/archive?") {
        cuts.get(asked.fetch_add(1, Ordering::SeqCst)).copied()
    } else {
        None
    };
    let Some(mut left) = cut else {
        let _ = std::io::copy(&mut engine, &mut client);
        let _ = client.shutdown(std::net::Shutdown::Both);
        return None;
    };
    client.write_all(&self::head(&mut engine)?).ok()?;
    // Chunked, as an answer without a length is.
    while left > 0 {
        let length = usize::from_str_radix(line(&mut engine)?.trim(), 16).ok()?;
        assert!(length > 0, "the tar is shorter than where it is to be cut");
        let mut chunk = vec![0; length + 2];
        engine.read_exact(&mut chunk).ok()?;
        let take = length.min(left);
        left -= take;
        client.write_all(format!("{take:x}\r\n").as_bytes()).ok()?;
        client.write_all(&chunk[..take]).ok()?;
        client.write_all(b"\r\n").ok()?;
    }
    client.write_all(b"0\r\n\r\n").ok()?;
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = engine.shutdown(std::net::Shutdown::Both);
    Some(())
}

fn head(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.extend(one(stream)?);
    }
    Some(bytes)
}

fn line(stream: &mut UnixStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n") {
        bytes.extend(one(stream)?);
    }
    String::from_utf8(bytes).ok()
}

fn one(stream: &mut UnixStream) -> Option<[u8; 1]> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    Some(byte)
}

#[test]
fn a_tar_that_breaks_off_is_asked_for_again_and_goes_on() {
    let Some(engine) = DockerEngine::start() else { return };
    engine.post("/volumes/create", &json!({ "Name": "data" }));
    let volume = engine.volume("data");
    std::fs::create_dir(volume.join("sub")).unwrap();
    for name in ["a", "b", "sub/c", "z"] {
        std::fs::write(volume.join(name), noise(100_000)).unwrap();
    }
    std::fs::hard_link(volume.join("a"), volume.join("sub/linked")).unwrap();
    std::fs::hard_link(volume.join("z"), volume.join("zz")).unwrap();
    let program = Program::on_directory();
    // Within "b", which is held until it is whole; then before it comes; then within "sub/c".
    let breaker = Breaker::new(&engine, program.path("breaker.sock"), &[150_000, 120_000, 250_000]);
    expect_as_root(&program, 0, &["backup", &breaker.url("access=archive")]);
    assert_eq!(
        breaker.asked.load(Ordering::SeqCst),
        5,
        "three cuts, a link alone, and the whole"
    );
    expect_as_root(&program, 0, &["verify", "latest", "--level", "content"]);
    let shown = program.json(&["show", "latest"]);
    let notes = &shown["snapshot"]["sources"][0]["outcome"]["note_counts"];
    assert_eq!(
        (&notes["link-as-copy"], &notes["changed"]),
        (&json!(1), &Value::Null),
        "{notes}"
    );
    expect_as_root(&program, 0, &["restore", "latest", "--into", "out"]);
    for name in ["a", "b", "sub/c", "sub/linked", "z", "zz"] {
        let path = program.path("out/data").join(name);
        assert!(std::fs::read(&path).unwrap() == noise(100_000), "{name}");
    }
}

#[test]
fn a_large_file_that_breaks_off_is_marked_and_one_that_always_does_is_an_error() {
    let Some(engine) = DockerEngine::start() else { return };
    engine.post("/volumes/create", &json!({ "Name": "data" }));
    let volume = engine.volume("data");
    let big = noise(3 << 20);
    std::fs::write(volume.join("big"), &big).unwrap();
    std::fs::write(volume.join("small"), "small").unwrap();
    let program = Program::on_directory();
    let breaker = Breaker::new(&engine, program.path("breaker.sock"), &[2 << 20]);
    expect_as_root(&program, 0, &["backup", &breaker.url("access=archive")]);
    let shown = program.json(&["show", "latest"]);
    let notes = &shown["snapshot"]["sources"][0]["outcome"]["note_counts"];
    assert_eq!(notes["changed"], 1, "{notes}");
    expect_as_root(&program, 0, &["restore", "latest", "--into", "out"]);
    let came = std::fs::read(program.path("out/data/big")).unwrap();
    assert_eq!(came.len(), big.len());
    assert!(came[..1 << 20] == big[..1 << 20] && came[came.len() - 1000..].iter().all(|byte| *byte == 0));
    assert_eq!(std::fs::read(program.path("out/data/small")).unwrap(), b"small");

    let never = Breaker::new(&engine, program.path("never.sock"), &[1500; 100]);
    let output = expect_as_root(&program, 1, &["backup", &never.url("access=archive")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("the engine's tar was cut short") && said.contains("quiesce"),
        "{said}"
    );
    assert!(never.asked.load(Ordering::SeqCst) > 3);
}
