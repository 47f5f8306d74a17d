//! Words of success: one enum has them all, and none of them is said in a state in which it is not true.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use wirevault::policy::health::{Claim, Verification};
use wirevault::repository::{Evidence, document};

use crate::health::flip_a_byte;
use crate::run::{Scheduler, configure, get, with_tree};
use crate::support::program::{Program, files_below};
use crate::support::wait;

/// Words that claim something when they stand in a text that is printed.
const WORDS: [&str; 14] = [
    "ok",
    "okay",
    "fine",
    "healthy",
    "success",
    "successful",
    "successfully",
    "succeeded",
    "proven",
    "undamaged",
    "intact",
    "identical",
    "flawless",
    "equal",
];

/// The same of several words.
const PHRASES: [&str; 4] = ["all is well", "digest checked", "digests checked", "checked by sqlite"];

/// Literals that have such a word and claim nothing: the file, a part of the literal, why.
const OTHERS: &[(&str, &str, &str)] = &[
    ("cli/output.rs", "use an undamaged snapshot", "advice"),
    ("operations/recover/containers.rs", "healthy", "Docker's word"),
    ("engines/sqlite/restorer.rs", "as far as it can", "says how little"),
    (
        "service/scheduler/figures.rs",
        "last proven undamaged",
        "help of a time",
    ),
    (
        "service/scheduler/figures.rs",
        "1, or 0",
        "help of a figure that says which",
    ),
    ("service/scheduler/figures.rs", "was proven last", "help of a time"),
    ("service/scheduler/page.rs", "<h2>What was proven</h2>", "a heading"),
    ("service/scheduler/page/sources.rs", "<th>", "a heading of a column"),
    ("service/scheduler/page/sources.rs", "{proven}", "a placeholder"),
    ("operations/status.rs", "proven", "a heading of a column"),
    ("config/effective.rs", "success", "the name of a key"),
    ("engines/postgres/restore/refill.rs", "{equal}", "a placeholder"),
    ("engines/redis/session/client.rs", "OK", "the server's word"),
    ("engines/redis/session/cluster.rs", "success", "the server's word"),
    ("engines/redis/session/connection.rs", "OK", "the server's word"),
    ("engines/redis/session/holdings.rs", "OK", "the server's word"),
    ("engines/redis/log/live/handshake.rs", "OK", "a primary's word"),
    ("engines/redis/session/nodes.rs", "ok", "the server's word"),
    ("engines/redis/restore/pipeline.rs", "OK", "the server's word"),
    ("engines/sqlite/integrity.rs", "ok", "SQLite's word"),
    ("engines/sqlite/lock.rs", "no copy can be proven", "says that it cannot"),
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

/// Returns the string literals of a source text in front of its tests, with the line and the character that follows.
fn literals(text: &str) -> Vec<(usize, String, char)> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            '/' if chars.peek() == Some(&'/') => {
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
            }
            '\'' => {
                // A character, unless it is a lifetime.
                let mut ahead = chars.clone();
                match (ahead.next(), ahead.next()) {
                    (Some('\\'), _) => {
                        chars.nth(1);
                        while chars.next().is_some_and(|c| c != '\'') {}
                    }
                    (Some(_), Some('\'')) => {
                        chars.nth(1);
                    }
                    _ => {}
                }
            }
            'r' if matches!(chars.peek(), Some('"' | '#')) => {
                let mut ahead = chars.clone();
                let mut hashes = 0;
                while ahead.peek() == Some(&'#') {
                    ahead.next();
                    hashes += 1;
                }
                if ahead.next() == Some('"') {
                    chars = ahead;
                    let end = format!("\"{}", "#".repeat(hashes));
                    let mut literal = String::new();
                    while !literal.ends_with(&end) {
                        let Some(c) = chars.next() else { break };
                        line += usize::from(c == '\n');
                        literal.push(c);
                    }
                    literal.truncate(literal.len() - end.len().min(literal.len()));
                    found.push((line, literal, chars.peek().copied().unwrap_or(' ')));
                }
            }
            '"' => {
                let (begin, mut literal) = (line, String::new());
                while let Some(c) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => literal.push(chars.next().map_or(' ', |c| if c == '"' { '"' } else { ' ' })),
                        _ => literal.push(c),
                    }
                    line += usize::from(c == '\n');
                }
                found.push((begin, literal, chars.peek().copied().unwrap_or(' ')));
            }
            _ => {}
        }
    }
    found
}

fn claims(literal: &str) -> bool {
    let lower = literal.to_lowercase();
    let lower = ["not all is well", "not proven"]
        .iter()
        .fold(lower, |text, denied| text.replace(denied, ""));
    let mut words = lower.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| WORDS.contains(&word)) || PHRASES.iter().any(|phrase| lower.contains(phrase))
}

#[test]
fn words_of_success_stand_in_one_enum() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 100, "{}", files.len());
    let (mut found, mut used) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        if matches!(name.as_str(), "base/claim.rs" | "policy/health/claim.rs") || name.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = crate::layers::untested(&text);
        for (line, literal, next) in literals(code) {
            // A key of a JSON document is judged by its value.
            if !claims(&literal) || next == ':' {
                continue;
            }
            if let Some(known) = OTHERS
                .iter()
                .find(|(file, text, _)| *file == name && literal.contains(text))
            {
                used.push((known.0, known.1));
                continue;
            }
            found.push(format!("src/{name}:{line}: {literal:?} {next:?}"));
        }
    }
    assert!(
        found.is_empty(),
        "words of success outside health/claim.rs:\n{}",
        found.join("\n")
    );
    let idle: Vec<_> = OTHERS.iter().filter(|one| !used.contains(&(one.0, one.1))).collect();
    assert!(idle.is_empty(), "exceptions that nothing needs: {idle:?}");
}

#[test]
fn the_lint_sees_what_it_is_for() {
    let text = "fn a<'x>(b: &'x str) { let c = '\"'; println!(\"all ok: {b}\"); } // \"ok\"\nconst D: &str = r#\"it \"succeeded\"\"#;";
    let seen: Vec<String> = literals(text).into_iter().map(|(_, literal, _)| literal).collect();
    assert_eq!(seen, ["all ok: {b}", "it \"succeeded\""]);
    assert!(seen.iter().all(|literal| claims(literal)));
    assert!(!claims("not looked at, broken") && !claims("NOT PROVEN as asked"));
    for claim in Claim::ALL {
        assert!(claims(claim.words()), "{claim:?}: the lint does not know its words");
    }
}

/// A state in which not all is well: how it comes about, and what has to be said.
struct Case {
    name: &'static str,
    make: fn(&Program),
    why: &'static str,
}

const CASES: [Case; 6] = [
    Case {
        name: "never backed up",
        make: |program| {
            program.expect(0, &["init", "--no-encryption"]);
        },
        why: "no good snapshot",
    },
    Case {
        name: "failing",
        make: |program| {
            program.expect(0, &["backup", "full"]);
            fs::rename(program.path("tree"), program.path("elsewhere")).unwrap();
            program.expect(1, &["backup", "full"]);
        },
        why: "the last run failed",
    },
    Case {
        name: "damaged",
        make: |program| {
            program.expect(0, &["backup", "full"]);
            flip_a_byte(program);
            program.expect(1, &["verify", "latest"]);
        },
        why: "damaged",
    },
    Case {
        name: "from the future",
        make: |program| {
            program.expect(0, &["backup", "full"]);
            let first = program.listed().remove(0);
            let far = Timestamp::now() + SignedDuration::from_hours(400 * 24);
            crate::latest::redate(program, &first, far);
            fs::remove_file(program.path(&format!("repo/snapshots/{first}.json"))).unwrap();
        },
        why: "no good snapshot",
    },
    Case {
        name: "repository away",
        make: |program| {
            program.expect(0, &["backup", "full"]);
            fs::rename(program.path("repo"), program.path("elsewhere")).unwrap();
        },
        why: "repository default: not reached",
    },
    Case {
        name: "level not reached",
        make: |program| {
            program.expect(0, &["backup", "full"]);
            program.expect(0, &["verify", "latest", "--level", "content"]);
            fall_short(program);
        },
        why: "to level content instead of restored",
    },
];

/// Turns the proof that is there into that of a drill which asked for a restore.
fn fall_short(program: &Program) {
    let (path, _) = files_below(&program.path("repo/evidence")).into_iter().next().unwrap();
    let mut evidence: Value = document::decode(&fs::read(&path).unwrap()).unwrap();
    evidence["proved"]["drill"] = "sunday".into();
    evidence["proved"]["asked"] = "restored".into();
    fs::write(path, document::encode(&evidence).unwrap()).unwrap();
}

/// Nothing runs by itself: the next time is a leap day.
const SELDOM: &str = "schedule = \"0 2 29 2 *\"\n[drill.sunday]\nschedule = \"0 5 29 2 *\"\nlevel = \"restored\"\n";

/// Whoever is asked says that not all is well and why, and claims nothing; so does a new process.
#[test]
fn no_claim_is_made_in_a_state_in_which_it_is_not_true() {
    for Case { name, make, why } in CASES {
        let program = with_tree();
        configure(&program, "", SELDOM);
        make(&program);
        let said = program.run(&["status"]);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let cells = || text.lines().skip(1).flat_map(|line| line.split("  ").map(str::trim));
        assert_eq!(said.status.code(), Some(1), "{name}: {text}");
        if name != "level not reached" {
            assert!(cells().all(|cell| cell != Claim::Ok.words()), "{name}: {text}");
        }
        let said = program.run(&["health", "--listen", "off"]);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert_eq!(said.status.code(), Some(1), "{name}: {text}");
        assert!(text.starts_with("failing: ") && text.contains(why), "{name}: {text}");
        for start in ["started", "restarted"] {
            let scheduler = Scheduler::start(&program);
            let address = scheduler.event("serving")["address"].as_str().unwrap().to_owned();
            wait::until(&format!("{name}, {start}"), || get(&address, "/health").1.contains(why));
            let (status, body) = get(&address, "/health");
            let answer: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (status, &answer["status"]),
                (503, &"failing".into()),
                "{name}, {start}: {body}"
            );
            let page = get(&address, "/").1;
            assert!(
                page.contains("Not all is well.") && !page.contains(Claim::AllWell.words()),
                "{name}, {start}: {page}"
            );
            for claim in [Claim::Proven, Claim::Ok] {
                let cell = format!("<td class=\"state good\">{}</td>", claim.words());
                let shown = name == "level not reached" && claim == Claim::Ok;
                assert!(shown || !page.contains(&cell), "{name}, {start}: {page}");
            }
            let metrics = get(&address, "/metrics").1;
            assert!(metrics.contains("wirevault_ok 0\n"), "{name}, {start}: {metrics}");
            scheduler.end();
        }
    }
}

/// What could not be backed up cannot come back: a snapshot without it is no proof, however whole the rest is.
#[test]
fn a_snapshot_that_lacks_a_source_is_not_ok() {
    let verified = |optional: &str| {
        let program = with_tree();
        let cache = format!("[source.cache]\nkind = \"sqlite\"\npath = \"missing.db\"\n{optional}");
        let job = format!("{cache}[job.both]\nsources = [\"tree\", \"cache\"]\n");
        configure(&program, "", &job);
        program.run(&["backup", "both"]);
        let said = program.run(&["verify", &program.listed()[0]]);
        let evidence = files_below(&program.path("repo/evidence"))
            .into_iter()
            .next()
            .unwrap()
            .0;
        let evidence: Evidence = document::decode(&fs::read(evidence).unwrap()).unwrap();
        let came = Verification::of_document(&evidence.proved).unwrap();
        (said.status.code(), String::from_utf8(said.stdout).unwrap(), came)
    };
    let (code, text, came) = verified("");
    assert_eq!((code, came), (Some(2), Verification::NotReached), "{text}");
    assert!(
        text.contains("NOT PROVEN as asked, content (level content: tree; no level: cache)"),
        "{text}"
    );
    assert!(text.contains("skipped cache: failed when it was backed up"), "{text}");
    // Of an optional source that is what was agreed.
    let (code, text, came) = verified("optional = true\n");
    assert_eq!((code, came), (Some(0), Verification::Proven), "{text}");
    assert!(text.contains(" ok (level content: tree)"), "{text}");
}
