//! Logs that no one receiver stores on demand: several receivers, clocks that differ, holes, snapshots from elsewhere. Pieces are made by
//! hand behind a real snapshot.

use std::ops::Range;
use std::path::PathBuf;
use std::process::Stdio;

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use wirevault::repository::document;

use crate::documents::pin_output;
use crate::support::program::{Program, files_below};
use crate::support::redis::{Kind, RedisServer};
use crate::support::wait;

/// The first time mark of a log, in seconds since 1970.
const BEGAN: i64 = 1_700_000_000;

/// A snapshot, and commands after it that are stored as a test wants them.
struct Made {
    program: Program,
    server: RedisServer,
    /// The history of the server.
    id: String,
    /// Where the first command begins: where the snapshot lies, unless it is told otherwise.
    base: u64,
    snapshot: PathBuf,
}

/// What the descriptor of a piece says beside its offsets.
#[derive(Default)]
struct Facts {
    since: Option<u64>,
    follows: Option<String>,
    /// Where the stream should have gone on, and why it did not.
    gap: Option<(u64, &'static str)>,
    /// In which history, where it is another one.
    gap_id: Option<String>,
    /// Numbers of commands, and the second by which they had come.
    marks: Vec<(usize, i64)>,
}

fn command(number: usize) -> Vec<u8> {
    let key = format!("key:{number}");
    format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$1\r\n1\r\n", key.len()).into_bytes()
}

/// A moment, so many tenths of a second behind the first time mark.
fn tenths(count: i64) -> String {
    Timestamp::from_millisecond(BEGAN * 1000 + count * 100)
        .unwrap()
        .to_string()
}

impl Made {
    fn new() -> Self {
        let program = Program::on_directory();
        program.expect(0, &["init", "--no-encryption"]);
        let server = RedisServer::start(Kind::Redis7, &[]);
        server.client().say("SET first value");
        // The first snapshot makes the server count.
        program.expect(0, &["backup", &server.url()]);
        // Before the snapshot there is room for some commands.
        server.client().say(&format!("SET second {}", "x".repeat(4096)));
        std::fs::remove_file(only(&program)).unwrap();
        program.expect(0, &["backup", &server.url()]);
        let snapshot = only(&program);
        let mut made = Self {
            program,
            server,
            id: String::new(),
            base: 0,
            snapshot,
        };
        let position = &made.manifest()["sources"][0]["outcome"]["position"];
        let (id, base) = (
            position["replication_id"].clone(),
            position["replication_offset"].clone(),
        );
        id.as_str().unwrap().clone_into(&mut made.id);
        made.base = base.as_str().unwrap().parse().unwrap();
        assert!(made.base > 0);
        made.taken(-3600);
        made
    }

    /// Says that the snapshot was taken so many seconds after the first time mark.
    fn taken(&self, second: i64) {
        let at = tenths(second * 10);
        self.edit(|manifest| manifest["sources"][0]["outcome"]["consistent_at"] = json!(at));
    }

    /// Has the snapshot lie behind so many commands. Nothing may be stored yet.
    fn lies_behind(&mut self, commands: usize) {
        let before = self.at(commands) - self.base;
        self.base = self.offset() - before;
    }

    /// Where the snapshot lies.
    fn offset(&self) -> u64 {
        let offset = &self.manifest()["sources"][0]["outcome"]["position"]["replication_offset"];
        offset.as_str().unwrap().parse().unwrap()
    }

    /// The ID of the snapshot.
    fn name(&self) -> String {
        self.manifest()["id"].as_str().unwrap().to_owned()
    }

    fn manifest(&self) -> Value {
        document::decode(&std::fs::read(&self.snapshot).unwrap()).unwrap()
    }

    /// Changes what the snapshot says of itself.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut manifest = self.manifest();
        change(&mut manifest);
        std::fs::write(&self.snapshot, document::encode(&manifest).unwrap()).unwrap();
    }

    /// Where a command begins; the first follows the snapshot.
    fn at(&self, number: usize) -> u64 {
        self.base + (0..number).map(|one| command(one).len() as u64).sum::<u64>()
    }

    /// Stores some commands as one piece of the server's history.
    fn put(&self, numbers: Range<usize>, facts: &Facts) {
        let raw: Vec<u8> = numbers.clone().flat_map(command).collect();
        self.put_raw(&self.id, self.at(numbers.start), &raw, facts);
    }

    /// The same of any history, from an offset on.
    fn put_raw(&self, id: &str, from: u64, raw: &[u8], facts: &Facts) {
        let data = zstd::bulk::compress(raw, 1).unwrap();
        let to = from + raw.len() as u64;
        let marks = facts.marks.iter();
        let marks: Vec<_> = marks
            .map(|(number, second)| format!("{}@{}", self.at(*number), (BEGAN + second) * 1000))
            .collect();
        let mut about = json!({
            "commands_to": to.to_string(),
            "since": facts.since.unwrap_or(self.base).to_string(),
            "marks": marks.join(" "),
        });
        if let Some(follows) = &facts.follows {
            about["follows"] = json!(follows);
        }
        if let Some((from, why)) = facts.gap {
            about["gap_from"] = json!(format!("{}:{from}", facts.gap_id.as_deref().unwrap_or(id)));
            about["gap_why"] = json!(why);
        }
        let descriptor = json!({
            "format": 1, "raw_bytes": raw.len(), "raw_sha256": sha256(raw), "data_bytes": data.len(), "engine": "redis",
            "kind": "commands", "span": {"from": from, "to": to}, "times": null, "facts": about, "signature": null,
        });
        let text = serde_json::to_vec(&descriptor).unwrap();
        let length = text.len() as u64 + 16;
        let mut object = data;
        object.extend(0x184D_2A57_u32.to_le_bytes());
        object.extend((length as u32 - 8).to_le_bytes());
        object.extend(text);
        object.extend(length.to_le_bytes());
        let directory = self.program.path(&format!("repo/log/redis/redis/{id}"));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("{from:020}.zst")), object).unwrap();
    }

    /// Takes the log away again.
    fn clear(&self) {
        std::fs::remove_dir_all(self.program.path("repo/log")).unwrap();
    }

    /// Plans a restore; returns the report, or the error.
    fn plan(&self, moment: &[&str]) -> Result<Value, String> {
        self.plan_with("latest", moment)
    }

    /// The same with a snapshot that is named.
    fn plan_with(&self, snapshot: &str, moment: &[&str]) -> Result<Value, String> {
        let usual = [
            "restore",
            snapshot,
            "--source",
            "redis",
            "--into",
            "into",
            "--dry-run",
            "--json",
        ];
        let before = files_below(&self.program.path("into"));
        let output = self.program.run(&[&usual[..], moment].concat());
        assert_eq!(files_below(&self.program.path("into")), before);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("panicked"), "{said}");
        match output.status.code() {
            Some(0) => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            _ => Err(said),
        }
    }

    /// Plans a restore that leads behind so many commands.
    fn leads(&self, moment: &[&str], commands: usize) -> Value {
        let report = self.plan(moment).unwrap_or_else(|said| panic!("{moment:?}: {said}"));
        let expected = format!("{}:{}", self.id, self.at(commands));
        assert_eq!(report["to"], json!(expected), "{moment:?}: {report:#}");
        report
    }

    /// A restore that is refused with these words, also without `--dry-run`.
    fn refused(&self, moment: &[&str], words: &str) {
        let said = self.plan(moment).unwrap_err();
        assert!(said.contains(words) && said.contains("hint: "), "{moment:?}: {said}");
    }

    /// Restores, and returns the numbers of the commands that are there.
    fn restored(&self, moment: &[&str]) -> Vec<usize> {
        let usual = ["restore", "latest", "--source", "redis", "--into", "into", "--clean"];
        self.program.expect(0, &[&usual[..], moment].concat());
        let path = self.program.path("into/appendonlydir/appendonly.aof.1.incr.aof");
        let text = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
        let words = text.lines().filter_map(|line| line.strip_prefix("key:"));
        words.map(|number| number.parse().unwrap()).collect()
    }
}

fn only(program: &Program) -> PathBuf {
    let all = files_below(&program.path("repo/snapshots"));
    let [(path, _)] = all.as_slice() else { panic!("{all:?}") };
    path.clone()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

fn marks(marks: &[(usize, i64)]) -> Facts {
    Facts {
        marks: marks.to_vec(),
        ..Facts::default()
    }
}

/// When a snapshot was taken is told by another clock than that of the marks: a moment goes by the marks alone.
#[test]
fn a_moment_goes_by_the_marks_alone() {
    let mut made = Made::new();
    made.put(0..4, &marks(&[(1, 10), (4, 20)]));
    made.put(4..8, &marks(&[(5, 30), (8, 40)]));
    // The clock of the host that took the snapshot is ahead, or far behind.
    for second in [500, -700_000_000] {
        made.taken(second);
        let report = made.leads(&["--at", &tenths(250)], 4);
        assert_eq!(report["at"], json!(tenths(200)), "{report:#}");
        assert_eq!(report["next_at"], json!(tenths(300)), "{report:#}");
        made.leads(&["--at", &tenths(400)], 8);
        made.refused(&["--at", &tenths(401)], "the log ends at");
        // Before the first mark nothing says what had come.
        made.refused(&["--at", &tenths(99)], "the oldest is of");
    }
    // The snapshot was taken after the moment, whatever its clock says.
    made.clear();
    made.lies_behind(5);
    made.put(0..4, &marks(&[(1, 10), (4, 20)]));
    made.put(4..8, &marks(&[(5, 30), (8, 40)]));
    made.refused(&["--at", &tenths(250)], "the oldest is of");
    made.leads(&["--at", &tenths(300)], 5);
    made.leads(&["--at", &tenths(310)], 5);
    made.leads(&["--at", &tenths(400)], 8);
}

#[test]
fn marks_that_are_out_of_order_around_a_moment_are_refused() {
    let made = Made::new();
    made.put(0..4, &marks(&[(2, 10), (4, 20)]));
    // The clock was set back.
    made.put(4..6, &marks(&[(5, 14), (6, 16)]));
    made.put(6..9, &marks(&[(7, 25), (9, 40)]));
    for at in [140, 150, 199] {
        made.refused(&["--at", &tenths(at)], "out of order");
        let said = made.plan(&["--at", &tenths(at)]).unwrap_err();
        assert!(said.contains("Use --offset"), "{said}");
    }
    // Of other moments there is no doubt.
    made.leads(&["--at", &tenths(130)], 2);
    made.leads(&["--at", &tenths(260)], 7);
    let offset = made.at(5).to_string();
    made.leads(&["--offset", &offset], 5);

    // Two receivers whose clocks differ by less than marks are apart.
    made.clear();
    made.put(0..4, &marks(&[(1, 10), (2, 11), (4, 12)]));
    made.put(3..6, &marks(&[(5, 11), (6, 14)]));
    made.leads(&["--at", &tenths(115)], 2);
    made.leads(&["--at", &tenths(130)], 5);
}

#[test]
fn pieces_without_marks_are_passed_over() {
    let made = Made::new();
    made.put(0..2, &marks(&[(2, 10)]));
    for number in 2..12 {
        made.put(number..number + 1, &marks(&[]));
    }
    made.put(12..14, &marks(&[(13, 20), (14, 21)]));
    let report = made.leads(&["--at", &tenths(150)], 2);
    assert_eq!(report["next_at"], json!(tenths(200)), "{report:#}");
    made.leads(&["--at", &tenths(205)], 13);
    assert_eq!(made.restored(&["--at", &tenths(205)]), (0..13).collect::<Vec<_>>());
}

#[test]
fn a_plan_over_a_hole_is_refused() {
    let made = Made::new();
    made.put(0..4, &marks(&[(2, 10), (4, 20)]));
    let since = Some(made.at(6));
    for numbers in [6..9, 9..12] {
        made.put(
            numbers.clone(),
            &Facts {
                since,
                marks: vec![(numbers.end, numbers.end as i64 * 10)],
                ..Facts::default()
            },
        );
    }
    let words = format!("has a gap from {} to {}", made.at(4), made.at(6));
    made.refused(&["--at", "latest"], &words);
    made.refused(&["--at", &tenths(950)], &words);
    // What had come by then is not known: the next mark lies behind the hole.
    made.refused(&["--at", &tenths(300)], &words);
    made.refused(&["--offset", &made.at(10).to_string()], &words);
    made.refused(&["--offset", &made.at(5).to_string()], "does not hold offset");
    made.leads(&["--at", &tenths(150)], 2);
    made.leads(&["--offset", &made.at(4).to_string()], 4);

    // Nothing is stored of what follows the snapshot directly.
    std::fs::remove_dir_all(made.program.path("repo/log")).unwrap();
    made.put(2..4, &marks(&[(4, 20)]));
    made.refused(&["--offset", &made.at(4).to_string()], "has a gap from");
}

/// Of two receivers the one that began its last piece later need not have come further.
#[test]
fn two_receivers_are_one_log() {
    let mut made = Made::new();
    made.put(0..4, &marks(&[(4, 10)]));
    made.put(4..6, &marks(&[(6, 12)]));
    made.put(6..8, &marks(&[(8, 14)]));
    let since = Some(made.at(2));
    let other = |numbers: Range<usize>, second| {
        let facts = Facts {
            since,
            marks: vec![(numbers.end, second)],
            ..Facts::default()
        };
        made.put(numbers, &facts);
    };
    other(2..5, 11);
    other(5..12, 16);
    made.leads(&["--at", "latest"], 12);
    made.leads(&["--offset", &made.at(11).to_string()], 11);
    assert_eq!(made.restored(&["--at", "latest"]), (0..12).collect::<Vec<_>>());
    std::fs::remove_dir_all(made.program.path("into")).unwrap();
    let shown = made.program.json(&["log", "show"]);
    for document in [shown, made.program.json(&["log", "verify"])] {
        let stream = &document["streams"][0];
        assert_eq!(stream["gaps"], json!([]), "{document:#}");
        let windows = stream["windows"].as_array().unwrap();
        assert_eq!(windows.len(), 1, "{document:#}");
        assert_eq!(windows[0]["to"], json!(made.at(12)), "{document:#}");
        assert_eq!(windows[0]["restorable_from"], json!(made.base), "{document:#}");
    }
    // Where they have other bytes at the same offsets, they were not of one server.
    made.clear();
    made.put(0..4, &marks(&[]));
    let other: Vec<u8> = (2..6).flat_map(command).collect();
    let other = String::from_utf8(other).unwrap().replace("key:2", "KEY:2");
    let facts = Facts {
        since,
        ..Facts::default()
    };
    made.put_raw(&made.id, made.at(2), other.as_bytes(), &facts);
    let restore = [
        "restore", "latest", "--source", "redis", "--into", "into", "--at", "latest",
    ];
    made.program.refused(&restore, "has other bytes before offset", "");
    assert_eq!(files_below(&made.program.path("into")), []);
    // A snapshot whose offset lies in the piece of the first receiver alone, though one of the other begins nearer.
    made.clear();
    made.lies_behind(4);
    made.put(0..6, &marks(&[]));
    made.put(2..3, &marks(&[]));
    made.put(6..8, &marks(&[]));
    made.leads(&["--at", "latest"], 8);
    // Or goes further than the one of the other.
    made.clear();
    made.put(0..6, &marks(&[]));
    made.put(3..5, &marks(&[]));
    made.put(6..8, &marks(&[]));
    assert_eq!(made.restored(&["--at", "latest"]), [4, 5, 6, 7]);
}

#[test]
fn a_window_is_shown_with_the_snapshot_that_leads_into_it() {
    let made = Made::new();
    made.put(0..4, &marks(&[(4, 10)]));
    let next = "b".repeat(40);
    let raw: Vec<u8> = (3..6).flat_map(command).collect();
    let follows = |offset: u64| Facts {
        since: Some(offset),
        follows: Some(format!("{}:{offset}", made.id)),
        marks: vec![(6, 20)],
        ..Facts::default()
    };
    made.put_raw(&next, made.at(3), &raw, &follows(made.at(3)));
    let window = |code: i32, verb: &str, number: usize| {
        let output = made.program.run(&["log", verb, "--json"]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let windows = document["streams"].as_array().unwrap().iter();
        let mut windows = windows.flat_map(|stream| stream["windows"].as_array().unwrap().clone());
        windows.nth(number).unwrap()
    };
    let both = if made.id < next { [0, 1] } else { [1, 0] };
    for (verb, code) in [("show", 0), ("verify", 0)] {
        let own = window(code, verb, both[0]);
        assert_eq!(own["base"], json!(format!("{}:{}", made.id, made.base)), "{own:#}");
        assert_eq!(own["restorable_from"], json!(made.base), "{own:#}");
        let later = window(code, verb, both[1]);
        assert_eq!(later["base"], own["base"], "{later:#}");
        assert_eq!(later["restorable_from"], json!(made.at(3)), "{later:#}");
    }
    // What it continues is not stored up to there: a piece is lost.
    made.clear();
    made.put(0..2, &marks(&[(2, 10)]));
    made.put_raw(&next, made.at(3), &raw, &follows(made.at(3)));
    for (verb, code) in [("show", 0), ("verify", 2)] {
        let later = window(code, verb, both[1]);
        assert_eq!((&later["base"], &later["why"]), (&Value::Null, &json!("not-continued")));
    }
    made.refused(&["--at", "latest"], "does not hold offset");
    let text = made.program.expect(2, &["log", "verify"]);
    assert!(
        text.contains("no restore reaches") && text.contains("is not stored up to"),
        "{text}"
    );
    // The snapshot is gone.
    std::fs::remove_file(&made.snapshot).unwrap();
    for (verb, code) in [("show", 0), ("verify", 2)] {
        let own = window(code, verb, both[0]);
        assert_eq!((&own["base"], &own["why"]), (&Value::Null, &json!("no-snapshot")));
    }
    made.refused(&["--at", "latest"], "no snapshot lies in the log");
}

/// A server that went back to an older state writes other commands: what it had written does not lead into them, even where both meet.
#[test]
fn what_a_server_wrote_before_it_went_back_leads_nowhere() {
    let made = Made::new();
    made.put(0..4, &marks(&[(4, 10)]));
    let later = |why| {
        let facts = Facts {
            since: Some(made.at(4)),
            gap: Some((made.at(3), why)),
            marks: vec![(6, 20)],
            ..Facts::default()
        };
        made.put(4..6, &facts);
        made.put(6..8, &facts_behind(&facts));
    };
    // What one receiver has missed another one has stored.
    later("backlog");
    made.leads(&["--at", "latest"], 8);
    later("rolled-back");
    made.refused(&["--at", "latest"], "went back to an older state");
    made.refused(&["--offset", &made.at(5).to_string()], "went back to an older state");
    made.leads(&["--offset", &made.at(4).to_string()], 4);
    for (verb, code) in [("show", 0), ("verify", 2)] {
        let text = made.program.expect(code, &["log", verb]);
        assert!(text.contains("writes other commands at the same offsets"), "{text}");
        assert!(text.contains("no snapshot leads into it"), "{text}");
        let output = made.program.run(&["log", verb, "--json"]);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let stream = &document["streams"][0];
        let gap = json!({"from": format!("{}:{}", made.id, made.at(3)), "why": "rolled-back"});
        assert_eq!(stream["windows"][0]["gap"], gap, "{document:#}");
        assert_eq!(
            stream["gaps"],
            json!([{"from": made.at(4), "to": made.at(4)}]),
            "{document:#}"
        );
        assert_eq!(
            stream["windows"][1]["base"],
            json!(format!("{}:{}", made.id, made.base))
        );
    }
    // Taken about when the server went back, it may be of either course: only who names it knows.
    made.taken(5);
    let offset = made.at(2).to_string();
    made.refused(&["--offset", &offset], "may be of either");
    let report = made.plan_with(&made.name(), &["--offset", &offset]).unwrap();
    assert_eq!(report["to"], json!(format!("{}:{offset}", made.id)), "{report:#}");
    let shown = made.program.json(&["log", "show"]);
    assert_eq!(
        shown["streams"][0]["windows"][1]["why"],
        json!("no-snapshot"),
        "{shown:#}"
    );
}

/// A snapshot that was taken after the stored stream had come further is of a server that went back, or of a copy of one.
#[test]
fn a_snapshot_that_is_too_late_for_its_offset_begins_nothing_by_itself() {
    let made = Made::new();
    made.put(0..4, &marks(&[(2, 10), (4, 20)]));
    made.taken(700);
    for moment in [["--at", "latest"], ["--offset", &made.at(2).to_string()]] {
        made.refused(&moment, "may not be of the log");
    }
    let report = made.plan_with(&made.name(), &["--at", "latest"]).unwrap();
    assert_eq!(report["to"], json!(format!("{}:{}", made.id, made.at(4))), "{report:#}");
    let text = made.program.expect(2, &["log", "verify"]);
    assert!(text.contains("no snapshot leads into it"), "{text}");
    made.taken(500);
    made.leads(&["--at", "latest"], 4);
}

/// Everything means the history of which something came last, or an error that says what is reached.
#[test]
fn latest_is_the_newest_or_an_error() {
    let made = Made::new();
    made.put(0..4, &marks(&[(4, 30)]));
    let next = "b".repeat(40);
    let raw: Vec<u8> = (2..6).flat_map(command).collect();
    let put_next = |follows: bool, second: i64| {
        let facts = Facts {
            since: Some(made.at(2)),
            follows: follows.then(|| format!("{}:{}", made.id, made.at(2))),
            gap: (!follows).then(|| (made.at(4), "unknown-history")),
            gap_id: Some(made.id.clone()),
            marks: vec![(6, second)],
        };
        made.put_raw(&next, made.at(2), &raw, &facts);
    };
    // What came last is of the server that was left.
    put_next(true, 20);
    made.leads(&["--at", "latest"], 4);
    put_next(true, 40);
    let report = made.plan(&["--at", "latest"]).unwrap();
    assert_eq!(report["to"], json!(format!("{next}:{}", made.at(6))), "{report:#}");
    // The newest history is that of a server without its data.
    put_next(false, 40);
    made.refused(&["--at", "latest"], &format!("which comes to {next}:{}", made.at(6)));
    let place = format!("{}:{}", made.id, made.at(4));
    made.refused(&["--at", "latest"], &format!("--offset {place}"));
    made.leads(&["--offset", &place], 4);
    let text = made.program.expect(2, &["log", "verify"]);
    assert!(
        text.contains(&format!("missing from {place} to {}", made.at(2))),
        "{text}"
    );
    let text = made.program.expect(0, &["log", "show"]);
    assert!(text.contains(&format!("missing from {place}")), "{text}");
}

/// What cannot be read behind the end is not silently left out.
#[test]
fn damage_at_the_end_of_a_log_is_told() {
    let made = Made::new();
    made.put(0..4, &marks(&[(2, 10), (4, 20)]));
    made.put(4..6, &marks(&[(6, 30)]));
    let last = format!("repo/log/redis/redis/{}/{:020}.zst", made.id, made.at(4));
    std::fs::write(made.program.path(&last), b"x").unwrap();
    let place = format!("{}:{}", made.id, made.at(4));
    made.refused(&["--at", "latest"], &format!("--offset {place}"));
    made.leads(&["--offset", &place], 4);
    made.leads(&["--at", &tenths(150)], 2);
    // Another receiver has what it began with, but perhaps not what it ended with.
    made.put(3..5, &marks(&[(5, 25)]));
    let place = format!("{}:{}", made.id, made.at(5));
    made.refused(&["--at", "latest"], &format!("--offset {place}"));
    assert_eq!(made.restored(&["--offset", &place]), [0, 1, 2, 3, 4]);
    made.put(3..7, &marks(&[(7, 35)]));
    made.put(5..7, &marks(&[(7, 35)]));
    assert_eq!(made.restored(&["--at", "latest"]), [0, 1, 2, 3, 4, 5, 6]);
}

/// A plan looks at the snapshot as well.
#[test]
fn a_plan_opens_the_snapshot() {
    let made = Made::new();
    made.put(0..4, &marks(&[(4, 20)]));
    made.leads(&["--at", "latest"], 4);
    let archives = made.manifest()["sources"][0]["outcome"]["archives"].clone();
    let key = archives[0]["archive"]["key"].as_str().unwrap().to_owned();
    std::fs::remove_file(made.program.path("repo").join(key)).unwrap();
    let said = made.plan(&["--at", "latest"]).unwrap_err();
    assert!(said.contains("open the archives of source"), "{said}");
}

fn facts_behind(facts: &Facts) -> Facts {
    Facts {
        since: facts.since,
        gap: facts.gap,
        gap_id: facts.gap_id.clone(),
        marks: vec![(8, 30)],
        ..Facts::default()
    }
}

/// A position says of which server a snapshot is, whatever host took it, and whatever it was called there.
#[test]
fn snapshots_of_other_hosts_begin_a_restore() {
    let made = Made::new();
    made.put(0..4, &marks(&[(2, 10), (4, 20)]));
    made.edit(|manifest| {
        manifest["host"] = json!("elsewhere");
        manifest["sources"][0]["name"] = json!("cache");
    });
    // This host has one of another server.
    let other = RedisServer::start(Kind::Redis7, &[]);
    made.program.expect(0, &["backup", &other.url()]);
    let report = made.leads(&["--at", &tenths(150)], 2);
    let id = made.manifest()["id"].clone();
    assert_eq!((&report["snapshot"], &report["source"]), (&id, &json!("redis")));
    made.leads(&["--at", "latest"], 4);
    // Or what it was told to choose from.
    let restore = [
        "restore",
        "latest:here/adhoc",
        "--source",
        "redis",
        "--into",
        "into",
        "--at",
        "latest",
    ];
    made.program
        .refused(&restore, "no snapshot lies in the log of redis", "read by PSYNC");
}

#[test]
fn a_snapshot_of_one_database_begins_nothing() {
    let made = Made::new();
    made.put(0..4, &marks(&[(2, 10), (4, 20)]));
    let whole = made.snapshot.clone();
    let mut client = made.server.client();
    client.say("SELECT 5");
    client.say("SET in five");
    made.program.expect(0, &["backup", &format!("{}/5", made.server.url())]);
    let report = made.leads(&["--at", "latest"], 4);
    assert!(
        whole
            .display()
            .to_string()
            .contains(report["snapshot"].as_str().unwrap()),
        "{report:#}"
    );
    std::fs::remove_file(&whole).unwrap();
    made.refused(&["--at", "latest"], "no snapshot lies in the log");
    let id = made.program.listed().remove(0);
    let restore = ["restore", &id, "--source", "redis", "--into", "into", "--at", "latest"];
    made.program
        .refused(&restore, "is not all of one Redis or Valkey server", "read by PSYNC");
    let text = made.program.expect(2, &["log", "verify"]);
    assert!(text.contains("no snapshot leads into it"), "{text}");
}

/// Without a name of a source as well, and never as of a snapshot alone.
#[test]
fn a_moment_of_a_source_with_a_log_goes_by_the_log() {
    let made = Made::new();
    made.put(0..4, &marks(&[(2, 10), (4, 20)]));
    let at = tenths(150);
    let restore = ["restore", "latest", "--into", "into", "--at", &at, "--json"];
    let report: Value = serde_json::from_str(&made.program.expect(0, &restore)).unwrap();
    assert_eq!(report["to"], json!(format!("{}:{}", made.id, made.at(2))), "{report:#}");
    assert!(made.program.path("into/appendonlydir").exists());
    let into = made.server.url();
    let restore = ["restore", "latest", "--into", &into, "--at", &at];
    made.program.refused(&restore, "the target holds 2 keys", "--clean");

    // Of a snapshot of several sources it is one.
    std::fs::create_dir(made.program.path("tree")).unwrap();
    made.program.expect(0, &["backup", &made.server.url(), "files:tree"]);
    let at = Timestamp::now().to_string();
    let restore = ["restore", "latest", "--into", "both", "--at", &at];
    made.program
        .refused(&restore, "the log ends at", "Choose an earlier moment");
    assert!(!made.program.path("both").exists());
    made.program.expect(
        0,
        &["restore", "latest", "--source", "tree", "--into", "both", "--at", &at],
    );
}

/// At no moment is there a part of an append-only file, and what a killed restore left is gone after the next one.
#[test]
fn a_restore_that_is_killed_leaves_the_place_as_it_was() {
    let made = Made::new();
    made.put(0..4, &marks(&[(2, 10), (4, 20)]));
    let held = made.program.path("held");
    let directory = made.program.path("into");
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(&directory)
            .unwrap()
            .map(|one| one.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let arguments = [
        "restore", "latest", "--source", "redis", "--into", "into", "--at", "latest", "--clean",
    ];
    let kill = || {
        let mut command = made.program.command(&arguments);
        command
            .env("WIREVAULT_TEST_HOLD", "append-only-file")
            .env("WIREVAULT_TEST_HELD", &held);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait::until("all is written but the name", || {
            held.exists() || child.try_wait().unwrap().is_some()
        });
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        made.program
            .refused(&arguments, "another restore into", "Wait for it to end");
        kill_process(pid, Signal::KILL).unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&held).unwrap();
    };
    kill();
    assert_eq!(names(), ["appendonlydir.wirevault-restore.tmp"]);
    std::fs::write(directory.join("dump.rdb"), "own").unwrap();
    assert_eq!(made.restored(&["--at", "latest"]), [0, 1, 2, 3]);
    assert_eq!(names(), ["appendonlydir", "dump.rdb"]);

    // What is there stays as it is until the other one is whole, and then under another name.
    std::fs::write(directory.join("appendonlydir/own"), "").unwrap();
    kill();
    assert!(directory.join("appendonlydir/own").exists());
    made.restored(&["--offset", &made.at(1).to_string()]);
    let names = names();
    let [now, kept, own] = names.as_slice() else {
        panic!("{names:?}")
    };
    assert_eq!((now.as_str(), own.as_str()), ("appendonlydir", "dump.rdb"));
    assert!(kept.starts_with("appendonlydir.pre-restore-"), "{names:?}");
    assert!(directory.join(kept).join("own").exists());
}

/// What no kept snapshot leads into goes, and a restore finds all that it did.
#[test]
fn prune_keeps_what_the_oldest_snapshot_needs() {
    let mut made = Made::new();
    made.lies_behind(5);
    for number in 0..4 {
        made.put(
            number * 2..number * 2 + 2,
            &marks(&[(number * 2 + 2, 10 + number as i64)]),
        );
    }
    // Another receiver's, that reaches behind the snapshot.
    made.put(3..6, &marks(&[(6, 12)]));
    // Of a server that was restarted without its data, twice.
    let (gone, young) = ("0".repeat(40), "1".repeat(40));
    let raw = command(1);
    for id in [&gone, &young] {
        made.put_raw(
            id,
            5,
            &raw,
            &Facts {
                since: Some(5),
                ..Facts::default()
            },
        );
    }
    let piece = |id: &str, from: u64| made.program.path(&format!("repo/log/redis/redis/{id}/{from:020}.zst"));
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    std::fs::File::options()
        .append(true)
        .open(piece(&gone, 5))
        .unwrap()
        .set_modified(old)
        .unwrap();
    let offset = made.at(5);

    // By a clock that is ahead everything would be old.
    let taken = made.manifest()["sources"][0]["outcome"]["consistent_at"].clone();
    let set_taken = |at: Value| made.edit(|manifest| manifest["sources"][0]["outcome"]["consistent_at"] = at);
    set_taken(json!("2099-01-01T00:00:00Z"));
    let planned = made.program.json(&["prune", "--keep-last", "1", "--dry-run"]);
    assert_eq!(planned["streams"].as_array().unwrap().len(), 1, "{planned:#}");
    set_taken(taken);

    let before = files_below(&made.program.path("repo/log"));
    let prune = ["prune", "--keep-last", "1", "--json"];
    let planned = made.program.run(&[&prune[..], &["--dry-run"]].concat());
    pin_output("prune_streams", &planned);
    assert_eq!(files_below(&made.program.path("repo/log")), before);
    let pruned = made.program.run(&prune);
    let [planned, pruned] = [planned, pruned].map(|output| {
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["streams"].clone()
    });
    assert_eq!(planned, pruned);
    let mut all = pruned.as_array().unwrap().clone();
    all.sort_by_key(|one| one["pieces"].as_u64());
    let [other, own] = all.as_slice() else {
        panic!("{pruned:#}")
    };
    assert_eq!(
        (&other["id"], &other["before"], &other["pieces"]),
        (&json!(gone), &Value::Null, &json!(1))
    );
    assert_eq!(
        (&own["id"], &own["before"], &own["pieces"]),
        (&json!(made.id), &json!(offset), &json!(2))
    );
    assert!(!piece(&gone, 5).exists() && piece(&young, 5).exists());
    let is_there = [0, 2, 3, 4, 6].map(|number| piece(&made.id, made.at(number)).exists());
    assert_eq!(is_there, [false, false, true, true, true]);
    made.leads(&["--at", "latest"], 8);
    let shown = made.program.expect(0, &["log", "show"]);
    assert!(!shown.contains("gap"), "{shown}");

    // Once no snapshot is here, its log is nobody's to judge.
    std::fs::remove_file(&made.snapshot).unwrap();
    let pruned = made.program.json(&["prune", "--keep-last", "1"]);
    assert_eq!(pruned["streams"], Value::Null, "{pruned:#}");
}

/// Of the snapshots that are older than the window the last one is needed, and what was set aside goes with what is older.
#[test]
fn prune_keeps_what_the_window_needs() {
    let made = Made::new();
    for number in 0..4 {
        made.put(number * 2..number * 2 + 2, &marks(&[(number * 2 + 2, 10)]));
    }
    let aside = |number: usize| {
        let name = format!("{:020}.0123456789abcdef.damaged", made.at(number));
        made.program.path(&format!("repo/log/redis/redis/{}/{name}", made.id))
    };
    std::fs::write(aside(1), b"x").unwrap();
    std::fs::write(aside(5), b"x").unwrap();
    // One that no piece covers since.
    std::fs::write(aside(9), b"x").unwrap();
    let text = made.program.expect(1, &["log", "verify"]);
    assert_eq!(text.matches("was set aside").count(), 1, "{text}");
    assert!(text.contains(&format!("DAMAGED at {}", made.at(9))), "{text}");
    std::fs::remove_file(aside(9)).unwrap();

    // Another snapshot, later in the log.
    made.program.expect(0, &["backup", &made.server.url()]);
    let all = files_below(&made.program.path("repo/snapshots"));
    let newer = all
        .into_iter()
        .map(|(path, _)| path)
        .find(|path| *path != made.snapshot);
    let newer = newer.unwrap();
    let edit = |change: &dyn Fn(&mut Value)| {
        let mut manifest: Value = document::decode(&std::fs::read(&newer).unwrap()).unwrap();
        change(&mut manifest);
        std::fs::write(&newer, document::encode(&manifest).unwrap()).unwrap();
    };
    let offset = made.at(4).to_string();
    edit(&|manifest| {
        let outcome = &mut manifest["sources"][0]["outcome"];
        outcome["position"]["replication_offset"] = json!(offset);
        outcome["consistent_at"] = json!(tenths(-18_000));
        manifest["plan"]["sources"][0]["log_window_seconds"] = json!(4_000_000_000_u64);
    });
    let prune = ["prune", "--keep-last", "2", "--json"];
    let pruned: Value = serde_json::from_str(&made.program.expect(0, &prune)).unwrap();
    assert_eq!(pruned["streams"], Value::Null, "{pruned:#}");
    edit(&|manifest| manifest["plan"]["sources"][0]["log_window_seconds"] = json!(86_400));
    // One of a server that went back, or of a copy, is no beginning of the window.
    edit(&|manifest| manifest["sources"][0]["outcome"]["consistent_at"] = json!(tenths(7000)));
    let pruned: Value = serde_json::from_str(&made.program.expect(0, &prune)).unwrap();
    assert_eq!(pruned["streams"], Value::Null, "{pruned:#}");
    edit(&|manifest| manifest["sources"][0]["outcome"]["consistent_at"] = json!(tenths(-18_000)));
    let pruned: Value = serde_json::from_str(&made.program.expect(0, &prune)).unwrap();
    assert_eq!(
        (&pruned["streams"][0]["before"], &pruned["streams"][0]["pieces"]),
        (&json!(made.at(4)), &json!(2)),
        "{pruned:#}"
    );
    assert!(!aside(1).exists() && aside(5).exists());
}

/// What a descriptor says is believed by nobody.
#[test]
fn descriptors_that_say_what_cannot_be_are_damage() {
    let mut made = Made::new();
    made.put(0..2, &marks(&[(2, 10)]));
    made.put(2..4, &marks(&[(4, 20)]));
    let second = made
        .program
        .path(&format!("repo/log/redis/redis/{}/{:020}.zst", made.id, made.at(2)));
    let whole = std::fs::read(&second).unwrap();
    let far = i64::MAX as u64;
    // Names far behind everything, which no piece has.
    for (from, words) in [
        (far - 3, "says other offsets"),
        (far, "says other offsets"),
        (u64::MAX, "says other offsets"),
    ] {
        let name = second.with_file_name(format!("{from:020}.zst"));
        std::fs::write(&name, &whole).unwrap();
        // It would be the newest.
        made.refused(&["--at", "latest"], "says other offsets");
        made.leads(&["--offset", &made.at(4).to_string()], 4);
        made.leads(&["--at", &tenths(150)], 2);
        let text = made.program.expect(1, &["log", "verify"]);
        assert!(text.contains("DAMAGED") && text.contains(words), "{text}");
        made.program.expect(1, &["log", "show"]);
        made.program.expect(0, &["prune", "--keep-last", "1"]);
        std::fs::remove_file(&name).unwrap();
    }
    // A piece that begins at the last offset there is.
    made.put_raw(&made.id, far, b"x", &Facts::default());
    made.refused(&["--at", "latest"], "is no replication offset");
    std::fs::remove_file(second.with_file_name(format!("{far:020}.zst"))).unwrap();
    // Marks at the ends of time.
    made.put(2..4, &marks(&[(3, i64::from(i32::MIN)), (4, 250_000_000_000)]));
    made.leads(&["--at", &tenths(150)], 3);
    made.leads(&["--at", "latest"], 4);
    // The first pieces are not to be read: the others are.
    std::fs::write(&second, &whole).unwrap();
    let damage_first = |made: &Made| {
        let first = second.with_file_name(format!("{:020}.zst", made.base));
        std::fs::write(&first, b"x").unwrap();
    };
    damage_first(&made);
    made.refused(&["--at", "latest"], "descriptor");
    made.clear();
    made.lies_behind(2);
    made.put(0..2, &marks(&[]));
    made.put(2..4, &marks(&[]));
    damage_first(&made);
    made.leads(&["--at", "latest"], 4);
}
