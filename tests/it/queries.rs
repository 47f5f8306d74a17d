//! Queries stand in `.sql` files beside their module, where they can be read; see docs/architecture.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::layers::{rust_files, untested};

/// Characters of SQL that may stand in one string of the program.
const LONGEST: usize = 120;

/// Longer strings that are right: the file, a part of the string, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "restore/refill.rs",
    "NOT EXISTS (SELECT FROM {other_only}{other} r",
    "proves a foreign key: its tables and conditions are what the server printed",
)];

/// Major versions of servers that a block of lines may be about.
const VERSIONS: std::ops::RangeInclusive<u32> = 14..=18;

fn engine() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engines/postgres")
}

/// Returns the program's files, by their paths within the engine, without their tests.
fn modules() -> BTreeMap<String, String> {
    let mut paths = Vec::new();
    rust_files(&engine(), &mut paths);
    let text = |path: PathBuf| {
        let name = path.strip_prefix(engine()).unwrap().to_str().unwrap().to_owned();
        (name, untested(&fs::read_to_string(path).unwrap()).to_owned())
    };
    let all = paths.into_iter().map(text);
    all.filter(|(name, _)| !name.ends_with("/tests.rs")).collect()
}

/// Returns the queries, by their paths within the engine.
fn queries() -> BTreeMap<String, String> {
    fn find(folder: &Path, into: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                find(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "sql") {
                let name = path.strip_prefix(engine()).unwrap().to_str().unwrap().to_owned();
                into.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    find(&engine(), &mut found);
    assert!(found.len() > 100, "{}", found.len());
    found
}

/// Returns the strings of a source text as they are written, each with its line; a line that is continued counts as one.
fn strings(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    let line = |rest: &str| text[..text.len() - rest.len()].matches('\n').count() + 1;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let from = &rest[at..];
        if from.starts_with("//") {
            rest = from.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(after) = from.strip_prefix("'\"'").or_else(|| from.strip_prefix("'\\\"'")) {
            rest = after;
        } else if let Some(body) = from.strip_prefix('"') {
            let hashes = rest[..at].len() - rest[..at].trim_end_matches('#').len();
            let is_raw = rest[..at].trim_end_matches('#').ends_with('r');
            let end = if is_raw {
                body.find(&format!("\"{}", "#".repeat(hashes)))
            } else {
                let mut escaped = false;
                body.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                })
            };
            let end = end.expect("a string ends");
            let words: Vec<&str> = body[..end].lines().map(|l| l.trim().trim_end_matches('\\')).collect();
            found.push((line(from), words.join("")));
            rest = &body[end + 1..];
        } else {
            rest = &from[1..];
        }
    }
    found
}

/// Returns whether a text is a query or another statement about rows, and no sentence.
fn is_sql(text: &str) -> bool {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    (text.contains("SELECT ") && has(&[" FROM "]))
        || (has(&["UPDATE "]) && has(&[" SET "]))
        || has(&["DELETE FROM ", "INSERT INTO "])
        || text.starts_with("WITH ")
}

#[test]
fn long_sql_stands_in_files_of_its_own() {
    let mut wrong = Vec::new();
    for (name, text) in modules() {
        for (line, string) in strings(&text) {
            let excepted = EXCEPTIONS
                .iter()
                .any(|(file, part, _)| *file == name && string.contains(part));
            if is_sql(&string) && string.chars().count() > LONGEST && !excepted {
                wrong.push(format!("{name}:{line}: {string}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "these are queries of more than a line; put each into an .sql file beside its module:\n{}",
        wrong.join("\n")
    );
}

/// Returns the queries that a module includes, by their paths within the engine.
fn included(module: &str, text: &str) -> Vec<String> {
    let folder = Path::new(module).parent().unwrap();
    let calls = text.split("include_str!(\"").skip(1);
    let names = calls.filter_map(|rest| rest.split('"').next());
    names
        .filter(|name| name.ends_with(".sql"))
        .map(|name| folder.join(name).to_str().unwrap().to_owned())
        .collect()
}

/// Returns the lines of a query that are no comments.
fn code(query: &str) -> String {
    let lines = query.split_inclusive('\n');
    lines.filter(|line| !line.trim_start().starts_with("--")).collect()
}

/// Returns whether a query is another one, or reads what is not there, on some versions of the server: it has blocks, or asks a row
/// for a column by name.
fn differs(query: &str) -> bool {
    let is_marker = |line: &str| line.starts_with("-- since ") || line.starts_with("-- before ");
    query.contains("to_jsonb(") || query.lines().any(|line| is_marker(line.trim()))
}

#[test]
fn every_query_is_used_says_what_it_is_and_ends_with_its_line() {
    let used: Vec<String> = modules().iter().flat_map(|(name, text)| included(name, text)).collect();
    for (name, text) in queries() {
        let uses = used.iter().filter(|file| **file == name).count();
        assert_eq!(uses, 1, "{name} is included {uses} times");
        let comment: Vec<&str> = text.lines().take_while(|line| line.starts_with("-- ")).collect();
        let says_of = |what: &str| comment.iter().any(|line| line.starts_with(what));
        assert!(
            comment
                .first()
                .is_some_and(|line| !line.starts_with("-- Versions: ") && !line.starts_with("-- Parameters: ")),
            "{name} begins with what it returns"
        );
        assert!(
            !differs(&text) || says_of("-- Versions: "),
            "{name} does not say what differs between versions of the server"
        );
        let has_parameters = text.contains("$1");
        assert_eq!(
            has_parameters,
            says_of("-- Parameters: $1"),
            "{name}: parameters and what is said of them"
        );
        assert!(
            text.ends_with('\n') && !text.ends_with("\n\n"),
            "{name} ends with its last line"
        );
        for line in text.lines() {
            assert!(line.len() <= 140 && line.trim_end() == line, "{name}: {line}");
        }
        // An empty array is no name of `format!`.
        assert!(!text.replace("'{}'", "").contains(['{', '}']), "{name} has braces");
    }
}

#[test]
fn blocks_for_versions_are_whole() {
    for (name, text) in queries() {
        let mut is_open = false;
        for line in text.lines().map(str::trim) {
            let major = line
                .strip_prefix("-- since ")
                .or_else(|| line.strip_prefix("-- before "))
                .and_then(|major| major.parse().ok());
            if let Some(major) = major {
                assert!(VERSIONS.contains(&major), "{name}: {line}");
                is_open = true;
            } else if line == "-- end" {
                assert!(is_open, "{name} ends a block that has not begun");
                is_open = false;
            }
        }
        assert!(!is_open, "{name} has a block without an end");
    }
}

/// Returns the names that a query is given values for, `:name`.
fn names(query: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in code(query).lines() {
        for (at, _) in line.match_indices(':') {
            let name: String = line[at + 1..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            if !line[..at].ends_with(':') && !name.is_empty() {
                found.push(name);
            }
        }
    }
    found
}

#[test]
fn names_of_a_query_are_told_in_its_comment_and_given_by_its_module() {
    let queries = queries();
    for (module, text) in modules() {
        for file in included(&module, &text) {
            let query = &queries[&file];
            let comment: String = query.lines().take_while(|line| line.starts_with("-- ")).collect();
            for name in names(query) {
                assert!(
                    text.contains(&format!("\"{name}\"")),
                    "{module} gives {file} no \"{name}\""
                );
                let is_flag = ["partitioned", "partition", "data", "inline"].contains(&name.as_str());
                assert!(
                    is_flag || comment.contains(&format!(":{name}")),
                    "{file} does not say what :{name} is"
                );
            }
        }
    }
}

/// What reads a column of a row by its name.
const READS: [&str; 13] = [
    ".text(\"",
    ".opt(\"",
    ".oid(\"",
    ".flag(\"",
    ".list(\"",
    ".col(\"",
    ".try_get(\"",
    ".number(\"",
    ">(\"",
    " number(\"",
    "(number(\"",
    " text(\"",
    "(text(\"",
];

#[test]
fn columns_that_are_read_have_a_query_that_names_them() {
    // A column that only a comment mentions is none.
    let queries: BTreeMap<String, String> = queries()
        .into_iter()
        .map(|(file, query)| (file, code(&query)))
        .collect();
    for (module, text) in modules() {
        // Helpers read rows of queries of their neighbours.
        let folder = Path::new(&module).parent().unwrap().join("sql");
        let of_folder = queries.iter().filter(|(file, _)| Path::new(file).starts_with(&folder));
        let mut known: Vec<&str> = of_folder.map(|(_, query)| query.as_str()).collect();
        known.extend(included(&module, &text).iter().map(|file| queries[file].as_str()));
        if known.is_empty() {
            continue;
        }
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        let has = |query: &str, name: &str| {
            query.match_indices(name).any(|(at, _)| {
                let (before, after) = (&query[..at], &query[at + name.len()..]);
                !is_word(before.chars().next_back()) && !is_word(after.chars().next())
            })
        };
        for read in READS {
            for rest in text.split(read).skip(1) {
                let name = rest.split('"').next().unwrap();
                if !name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
                {
                    continue;
                }
                let own = ["AS ", "SELECT ", ", "]
                    .iter()
                    .any(|before| text.contains(&format!("{before}{name}")));
                assert!(
                    own || known.iter().any(|query| has(query, name)),
                    "{module} reads a column \"{name}\" that no query of it has"
                );
            }
        }
    }
}
