//! No silent slices and no silent numbers: a wrong length or number is an error, and never an empty or a largest value.

use std::fs;
use std::path::Path;

use crate::layers::rust_files;

/// The one file in which a conversion may have a default: its functions' names say which.
const HELPERS: &str = "base/exact.rs";

/// Other places where a default is right: the file, a part of the statement, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// What begins an expression that may have no value, and what would hide that it has none.
const BEGINS: [&str; 5] = [".get(", ".get_mut(", "try_from(", ".try_into()", "try_into("];
const HIDES: [&str; 6] = [
    "unwrap_or(",
    "unwrap_or_default()",
    "unwrap_or_else(",
    "map_or(",
    "map_or_default(",
    "map_or_else(",
];

/// Methods that may stand between the two: what they are given is not looked into.
const BETWEEN: [&str; 6] = ["ok(", "copied(", "cloned(", "map(", "and_then(", "filter("];

/// Returns where the parenthesis that opens at `open` is closed.
fn closes(text: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text[open..].char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(open + at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns whether the expression that ends before `rest` is given a default by the methods that follow.
fn is_hidden(mut rest: &str) -> bool {
    loop {
        let Some(method) = rest.trim_start().strip_prefix('.') else {
            return false;
        };
        let method = method.trim_start();
        if HIDES.iter().any(|word| method.starts_with(word)) {
            return true;
        }
        let Some(end) = BETWEEN
            .iter()
            .find(|word| method.starts_with(**word))
            .and_then(|word| closes(method, word.len() - 1))
        else {
            return false;
        };
        rest = &method[end + 1..];
    }
}

/// Returns the statements of a source text, its tests left out, that give a slice or a number a default, each with its line.
fn silent(text: &str) -> Vec<(usize, String)> {
    // Comments hold no code, and keep their length here.
    let code: Vec<String> = text
        .lines()
        .map(|line| {
            if line.trim_start().starts_with("//") {
                " ".repeat(line.len())
            } else {
                line.to_owned()
            }
        })
        .collect();
    let code = code.join("\n");
    let code = crate::layers::untested(&code);
    let mut found = Vec::new();
    for begin in BEGINS {
        for (at, _) in code.match_indices(begin) {
            // `try_into(` is also the end of `.try_into()`.
            if begin == "try_into(" && code[..at].ends_with('.') {
                continue;
            }
            let open = at + begin.find('(').unwrap();
            let Some(close) = closes(code, open) else { continue };
            let is_range = code[open..close].contains("..");
            if begin.starts_with(".get") && !is_range || !is_hidden(&code[close + 1..]) {
                continue;
            }
            let line = code[..at].matches('\n').count();
            let from = code[..at].rfind('\n').map_or(0, |end| end + 1);
            let to = code[close..].find(';').map_or(code.len(), |end| close + end);
            let statement = code[from..to].split_whitespace().collect::<Vec<_>>().join(" ");
            found.push((line + 1, statement));
        }
    }
    found
}

#[test]
fn no_slice_and_no_number_has_a_silent_default() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 300, "{}", files.len());
    let (mut wrong, mut used) = (Vec::new(), vec![false; EXCEPTIONS.len()]);
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
        if name == HELPERS {
            continue;
        }
        for (line, statement) in silent(&fs::read_to_string(&file).unwrap()) {
            let known = EXCEPTIONS
                .iter()
                .position(|(file, part, _)| *file == name && statement.contains(part));
            match known {
                Some(known) => used[known] = true,
                None => wrong.push(format!("src/{name}:{line}: {statement}")),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "a default hides a wrong length or number here; crate::base::exact has what says so:\n{}",
        wrong.join("\n")
    );
    for ((file, part, _), used) in EXCEPTIONS.iter().zip(used) {
        assert!(used, "{file} has no {part:?} any more: it needs no exception");
    }
}

#[test]
fn the_lint_sees_what_it_is_for() {
    for hidden in [
        "let a = b.get(at..).unwrap_or_default();",
        "let a = b.get_mut(..n.min(f(2))).unwrap_or_default();",
        "let a = b\n    .get(1..)\n    .map(|b| b.trim())\n    .unwrap_or(b\"\");",
        "let a = b.get(..=end).map_or(0, <[u8]>::len);",
        "let a = u64::try_from(b.len()).unwrap_or(u64::MAX);",
        "let a = u32::try_from(n)\n    .ok()\n    .unwrap_or_default();",
        "let a: u8 = n.try_into().unwrap_or(0);",
        "let a = b.map_or(0, |b| u64::try_from(b.len()).unwrap_or(0));",
        "let a = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX);",
    ] {
        assert_eq!(silent(hidden).len(), 1, "{hidden}");
    }
    for fine in [
        "let a = b.get(at..).ok_or_else(short)?;",
        "let a = b.get(at).unwrap_or(&0);",
        "let a = u32::try_from(n).map_err(|_| bad())?;",
        "let a = exact::range(b, 1.., \"it\")?.first().unwrap_or(&0);",
        "// a.get(1..).unwrap_or_default()",
        "#[cfg(test)]\nmod tests {\n    let a = b.get(1..).unwrap_or_default();\n}",
    ] {
        assert!(silent(fine).is_empty(), "{fine}");
    }
    let (line, statement) =
        silent("fn f() {\n    let a = b\n        .get(1..)\n        .unwrap_or_default();\n}").remove(0);
    assert_eq!((line, statement.as_str()), (3, ".get(1..) .unwrap_or_default()"));
}
