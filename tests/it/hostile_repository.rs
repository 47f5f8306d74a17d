//! A repository that somebody else has written: whatever a manifest or an index says, it is refused or does no harm.
//!
//! Digests are right everywhere: this is not damage. Nothing may be written outside `--into`, no run may panic, take more
//! memory than it was given, or send a control character to the terminal.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wirevault::repository::document;

use crate::support::program::{Program, files_below};

/// What a run may take at its peak: the limit it is given, and what a build with debug information has around it.
const PEAK_KIB: u64 = 170 << 10;

/// A repository with one snapshot of a tree.
struct Hostile {
    program: Program,
    id: String,
    manifest: Value,
}

impl Hostile {
    fn new() -> Self {
        let program = Program::on_directory();
        std::fs::create_dir_all(program.path("tree/sub")).unwrap();
        std::fs::write(program.path("tree/sub/a"), "a").unwrap();
        std::fs::write(program.path("tree/b"), vec![7; 3000]).unwrap();
        program.expect(0, &["backup", "files:tree"]);
        let id = program.listed().remove(0);
        let bytes = std::fs::read(program.path(&format!("repo/snapshots/{id}.json"))).unwrap();
        let manifest = document::decode(&bytes).unwrap();
        Self { program, id, manifest }
    }

    fn write(&self, manifest: &Value) {
        let path = self.program.path(&format!("repo/snapshots/{}.json", self.id));
        std::fs::write(path, document::encode(manifest).unwrap()).unwrap();
    }

    /// Runs a command and returns its exit code and peak; what it says is harmless in any case.
    fn run(&self, arguments: &[&str]) -> (i32, u64, String) {
        let mut all = vec!["--memory-limit", "96MiB"];
        all.extend_from_slice(arguments);
        let (output, peak_kib) = watched(&self.program, &all);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let code = output.status.code().unwrap_or(-1);
        assert!(
            (0..=2).contains(&code) && !said.contains("panicked"),
            "{arguments:?}: {code} {said}"
        );
        let acts = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!said.contains(acts), "{arguments:?}: {said:?}");
        assert!(peak_kib < PEAK_KIB, "{arguments:?} took {peak_kib} KiB: {said}");
        (code, peak_kib, said)
    }

    /// Restores and checks that nothing lies anywhere but in `out`.
    fn restore(&self, what: &str) -> i32 {
        let before = outside(&self.program);
        let (code, _, _) = self.run(&["restore", &self.id, "--into", "in/out"]);
        assert_eq!(outside(&self.program), before, "{what}");
        let _ = std::fs::remove_dir_all(self.program.path("in"));
        code
    }
}

/// Runs a command and watches the peak of its memory, in KiB.
fn watched(program: &Program, arguments: &[&str]) -> (Output, u64) {
    let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    // Without a wrapper around it, so that the process is the program.
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("wirevault"));
    program.equip(command.args(arguments));
    command
        .stdout(out.try_clone().unwrap())
        .stderr(err.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let code = loop {
        if let Some(code) = child.try_wait().unwrap() {
            break code;
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().trim_end_matches("kB").trim().parse().ok());
        peak_kib = peak_kib.max(peak.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    };
    let read = |mut file: std::fs::File| {
        use std::io::{Read, Seek};
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let output = Output {
        status: code,
        stdout: read(out),
        stderr: read(err),
    };
    (output, peak_kib)
}

/// Every file that is neither of the repository nor below the place of the restore.
fn outside(program: &Program) -> Vec<String> {
    let all = files_below(program.place.path());
    let names = all.into_iter().map(|(path, _)| path);
    let names = names.map(|path| {
        path.strip_prefix(program.place.path())
            .unwrap_or(&path)
            .display()
            .to_string()
    });
    names
        .filter(|name| !name.starts_with("repo/") && !name.starts_with("in/out/"))
        .collect()
}

/// Pointers to every value of a document.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                pointers(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (number, value) in list.iter().enumerate() {
                pointers(value, &format!("{at}/{number}"), found);
            }
        }
        _ => {}
    }
    if !at.is_empty() {
        found.push(at.to_owned());
    }
}

/// What each field is replaced by.
fn hostile_values(place: &Path, old: &Value) -> Vec<Value> {
    let outside = place.join("escaped").display().to_string();
    let mut values = vec![
        Value::Null,
        json!(-1),
        json!(1_000_000),
        json!(u64::MAX),
        json!(1e308),
        json!("../escaped"),
        json!(outside),
        json!("https://evil.example/x"),
        json!("a\u{1b}]0;owned\u{7}\r\nb"),
        json!("x".repeat(100_000)),
        json!([]),
    ];
    if let Value::Array(list) = old
        && let Some(first) = list.first()
    {
        values.push(json!([first, first]));
        // As many as a document holds.
        let bytes = first.to_string().len() + 1;
        let most = (1 << 20) / bytes - 10_000 / bytes.min(10_000);
        values.push(Value::Array(vec![first.clone(); most.saturating_sub(8)]));
    }
    values
}

#[test]
fn every_field_of_a_manifest_with_every_value() {
    let hostile = Hostile::new();
    let mut fields = Vec::new();
    pointers(&hostile.manifest, "", &mut fields);
    assert!(fields.len() > 30, "{fields:?}");
    for field in fields {
        let old = hostile.manifest.pointer(&field).unwrap().clone();
        for value in hostile_values(hostile.program.place.path(), &old) {
            let mut manifest = hostile.manifest.clone();
            *manifest.pointer_mut(&field).unwrap() = value.clone();
            if document::encode(&manifest).is_err() {
                continue;
            }
            hostile.write(&manifest);
            let mut what = format!("{field} = {value}");
            what.truncate(200);
            hostile.restore(&what);
        }
    }
    hostile.write(&hostile.manifest);
    assert_eq!(hostile.restore("as it was"), 0);
}

/// A name that leaves the directory, a control character, one object twice, and sums that overflow.
#[test]
fn what_no_release_writes_is_named_as_damage() {
    let hostile = Hostile::new();
    let archive = "/sources/0/outcome/archives/0";
    let first = hostile.manifest.pointer(archive).unwrap().clone();
    let source = hostile.manifest.pointer("/sources/0").unwrap().clone();
    for (field, value, named) in [
        ("/sources/0/name", json!("../x"), "an invalid source name"),
        ("/sources/0/name", json!("/x"), "an invalid source name"),
        ("/sources/0/kind", json!("\u{1b}k"), "an invalid kind"),
        ("/host", json!("h\u{1b}[2J"), "an invalid host name"),
        ("/job", json!("../j"), "an invalid job name"),
        ("/sources", json!([source, source]), "two sources of one name"),
        ("/sources/0/outcome/archives", json!([first, first]), "an object twice"),
        ("/sources/0/outcome/raw_bytes", json!(u64::MAX), "an impossible count"),
        (
            "/sources/0/outcome/archives/0/archive/size_bytes",
            json!(u64::MAX),
            "impossible",
        ),
        ("/sources/0/outcome/archives/0/index/sha256", json!("00"), "impossible"),
        (
            "/sources/0/outcome/archives/0/entries",
            json!(u64::MAX),
            "impossible counts",
        ),
        (
            "/sources/0/outcome/archives/0/directory_bytes",
            json!(0),
            "an impossible index directory",
        ),
    ] {
        let mut manifest = hostile.manifest.clone();
        *manifest.pointer_mut(field).unwrap() = value;
        hostile.write(&manifest);
        let (code, _, said) = hostile.run(&["verify", &hostile.id, "--no-evidence"]);
        assert!(code == 1 && said.contains(named), "{field}: {code} {said}");
        let (code, _, said) = hostile.run(&["restore", &hostile.id, "--into", "out"]);
        assert!(code == 1 && said.contains(named), "{field}: {code} {said}");
        let (_, _, said) = hostile.run(&["list"]);
        assert!(said.contains("DAMAGED"), "{said}");
    }
}

fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).unwrap()
}

/// Writes another index: `change` gets its directory and its parts.
fn with_index(hostile: &Hostile, change: &dyn Fn(&mut Value, &mut Vec<u8>)) {
    let mut manifest = hostile.manifest.clone();
    let info = manifest.pointer_mut("/sources/0/outcome/archives/0").unwrap();
    let path = hostile
        .program
        .path("repo")
        .join(info["index"]["key"].as_str().unwrap());
    let whole = std::fs::read(&path).unwrap();
    let (directory, parts) = whole.split_at(usize::try_from(info["directory_bytes"].as_u64().unwrap()).unwrap());
    let directory = zstd::bulk::decompress(directory, 1 << 20).unwrap();
    let mut directory: Value = serde_json::from_slice(&directory).unwrap();
    let mut parts = parts.to_vec();
    change(&mut directory, &mut parts);
    let directory = compressed(&serde_json::to_vec(&directory).unwrap());
    info["directory_bytes"] = json!(directory.len());
    info["directory_sha256"] = json!(sha(&directory));
    let index = [directory, parts].concat();
    info["index"]["size_bytes"] = json!(index.len());
    info["index"]["sha256"] = json!(sha(&index));
    let before = std::fs::read(&path).unwrap();
    std::fs::write(&path, &index).unwrap();
    hostile.write(&manifest);
    for command in [
        ["verify", &hostile.id, "--no-evidence", "-q"].as_slice(),
        ["restore", &hostile.id, "--into", "in/out"].as_slice(),
    ] {
        let (code, _, said) = hostile.run(command);
        assert_eq!(code, 1, "{command:?}: {said}");
    }
    std::fs::write(&path, before).unwrap();
}

/// Adds a part with these lines to a directory.
fn add_part(directory: &mut Value, parts: &mut Vec<u8>, lines: &[u8]) {
    let stored = compressed(lines);
    directory["parts"].as_array_mut().unwrap().push(json!({
        "offset": parts.len(), "length": stored.len(), "raw": lines.len(), "sha256": sha(&stored), "frame": 1_000_000
    }));
    parts.extend_from_slice(&stored);
}

#[test]
fn a_small_index_takes_no_more_memory_than_there_is() {
    let hostile = Hostile::new();
    let stream = |facts: &str| {
        format!(
            "{{\"stream\":{{\"stream\":\"x\",\"prefixes\":[\"{}\"],\"chunks\":0,\"bytes\":0,\"rows\":null,\"row_digest\":null,\"facts\":{facts}}}}}\n",
            "p".repeat(4000)
        )
    };
    // 6 GB of streams in less than a megabyte.
    with_index(&hostile, &|directory, parts| {
        let lines = stream("null").repeat(900);
        for _ in 0..1500 {
            add_part(directory, parts, lines.as_bytes());
        }
    });
    // Maps of one pair each.
    with_index(&hostile, &|directory, parts| {
        let maps = vec!["{\"a\":0}"; 400_000].join(",");
        add_part(directory, parts, stream(&format!("[{maps}]")).as_bytes());
    });
    // Very many lines about one frame.
    with_index(&hostile, &|directory, parts| {
        let frame = format!(
            "{{\"f\":{{\"f\":1000000,\"o\":0,\"l\":0,\"r\":0,\"h\":\"{}\"}}}}\n",
            "0".repeat(64)
        );
        let lines = frame + &"{\"end\":{\"h\":\"\"}}\n".repeat(200_000);
        add_part(directory, parts, lines.as_bytes());
    });
    // Very many parts.
    with_index(&hostile, &|directory, _| {
        let part = json!({ "offset": 0, "length": 0, "raw": 0, "sha256": "", "frame": 1_000_000 });
        directory["parts"].as_array_mut().unwrap().extend(vec![part; 100_000]);
    });
}

#[test]
fn counts_that_are_not_those_of_what_is_read_are_damage() {
    let hostile = Hostile::new();
    for key in ["raw_bytes", "entries", "frames", "described_bytes"] {
        for value in [json!(1), json!(1_000_000), json!(u64::MAX)] {
            with_index(&hostile, &|directory, _| directory[key] = value.clone());
        }
    }
    // An index without one of its lines hides a file.
    with_index(&hostile, &|directory, parts| {
        let raw = usize::try_from(directory["parts"][0]["raw"].as_u64().unwrap()).unwrap();
        let lines = String::from_utf8(zstd::bulk::decompress(parts, raw).unwrap()).unwrap();
        let kept: String = lines
            .split_inclusive('\n')
            .filter(|line| !line.contains("\"p\":\"b\""))
            .collect();
        assert_ne!(kept, lines);
        directory["parts"] = json!([]);
        parts.clear();
        add_part(directory, parts, kept.as_bytes());
        directory["parts"][0]["frame"] = json!(0);
    });
}

/// Waits for the next second: ids are of whole seconds.
fn next_second() {
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let begun = now();
    crate::support::wait::until("the next second", || now() > begun);
}

#[test]
fn a_manifest_that_was_replaced_or_is_gone_is_noticed() {
    let program = Program::on_directory();
    std::fs::create_dir(program.path("tree")).unwrap();
    let backup = |text: &str| {
        std::fs::write(program.path("tree/a"), text).unwrap();
        program.expect(0, &["backup", "files:tree"]);
    };
    backup("1");
    backup("2");
    program.expect(0, &["prune", "--keep-last", "1"]);
    let removed = files_below(&program.path("repo/removed"));
    assert_eq!(removed.len(), 1, "{removed:?}");
    program.expect(0, &["verify", "--all", "--no-evidence"]);
    next_second();
    backup("3");
    backup("4");
    program.expect(0, &["verify", "--all", "--no-evidence"]);
    let ids = program.listed();
    let manifest = |at: usize| program.path(&format!("repo/snapshots/{}.json", ids[at]));
    let third = std::fs::read(manifest(1)).unwrap();
    // Another one with a digest that is right.
    let mut other: Value = document::decode(&third).unwrap();
    other["sources"][0]["outcome"]["items"] = json!(7);
    std::fs::write(manifest(1), document::encode(&other).unwrap()).unwrap();
    let said = program.expect(1, &["verify", "--all", "--no-evidence"]);
    assert!(
        said.contains(&ids[1]) && said.contains("its manifest was replaced"),
        "{said}"
    );
    let said = program.expect(1, &["check", "files:tree"]);
    assert!(
        said.contains(&ids[1]) && said.contains("its manifest was replaced"),
        "{said}"
    );
    std::fs::remove_file(manifest(1)).unwrap();
    let said = program.expect(1, &["verify", "--all", "--no-evidence"]);
    assert!(
        said.contains(&ids[1]) && said.contains("no removal is recorded"),
        "{said}"
    );
    std::fs::write(manifest(1), third).unwrap();
    program.expect(0, &["verify", "--all", "--no-evidence"]);
    // What nothing leads to any more is forgotten.
    program.expect(0, &["prune", "--keep-last", "1"]);
    let removed = files_below(&program.path("repo/removed"));
    assert_eq!(removed.len(), 1, "{removed:?}");
    assert!(removed[0].0.display().to_string().contains(&ids[1]), "{removed:?}");
    let said = program.expect(0, &["verify", "--all", "--no-evidence"]);
    assert!(!said.contains("no removal"), "{said}");
    let said = program.expect(0, &["check", "files:tree"]);
    assert!(!said.contains("no removal"), "{said}");
}
