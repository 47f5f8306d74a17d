//! The folders of `src` are layers: each uses what stands above it in this list, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, and what each may use. A layer that is not named here may not exist.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("storage", &["base"]),
    ("archive", &["base", "storage"]),
    ("repository", &["base", "storage", "archive"]),
    // Where bytes go is not an engine's business.
    ("engines", &["base", "archive"]),
    // Decisions read no store; they know what stored documents say.
    ("policy", &["base", "repository"]),
    (
        "config",
        &["base", "storage", "archive", "repository", "engines", "policy"],
    ),
    (
        "operations",
        &[
            "base",
            "storage",
            "archive",
            "repository",
            "engines",
            "policy",
            "config",
        ],
    ),
    (
        "service",
        &[
            "base",
            "storage",
            "archive",
            "repository",
            "engines",
            "policy",
            "config",
            "operations",
        ],
    ),
    (
        "cli",
        &[
            "base",
            "storage",
            "archive",
            "repository",
            "engines",
            "policy",
            "config",
            "operations",
            "service",
        ],
    ),
];

/// Names of the crate's root, which are those of `base`.
const ROOT: &[&str] = &["Error", "ErrorKind", "Result"];

pub(crate) fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Returns a text up to its inline tests. A `mod tests;` among the others of a file hides nothing behind it.
pub(crate) fn untested(text: &str) -> &str {
    let is_inline = |(at, _): &(usize, &str)| {
        let mut lines = text[*at..].lines().skip(1);
        lines
            .find(|line| !line.trim_start().starts_with("#["))
            .is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
    };
    let end = text
        .match_indices("#[cfg(test)]")
        .find(is_inline)
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// Returns the layers that a text names behind `crate::`, each with its line. Comments name whatever they like.
fn named(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices("crate::") {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &code[at + "crate::".len()..];
            match rest.strip_prefix('{') {
                // `use crate::{a, b::c};` on one line or several.
                Some(_) => {
                    let from = text.lines().skip(number).collect::<Vec<_>>().join(" ");
                    let group = from.split_once("crate::{").map_or("", |(_, group)| group);
                    found.extend(heads(group).into_iter().map(|name| (number + 1, name)));
                }
                None => found.push((number + 1, word(rest))),
            }
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Returns the first word of each member of a group, up to the group's end.
fn heads(group: &str) -> Vec<String> {
    let (mut heads, mut depth, mut begins) = (Vec::new(), 0_usize, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && !c.is_whitespace() => {
                begins = false;
                heads.push(word(&group[at..]));
            }
            _ => {}
        }
    }
    heads
}

/// Returns the module of a file below `src`.
fn module_of(name: &Path) -> Vec<String> {
    let part = |part: &std::ffi::OsStr| part.to_str().unwrap().trim_end_matches(".rs").to_owned();
    let mut module: Vec<String> = name.iter().map(part).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// Returns the folders of the crate's root that a file reaches by `super`.
fn above(text: &str, module: &[String]) -> Vec<String> {
    let reached = paths(text, module)
        .into_iter()
        .filter_map(|path| path.into_iter().next());
    let layers = LAYERS.iter().map(|(name, _)| *name);
    let known: Vec<&str> = layers.collect();
    reached.filter(|name| known.contains(&name.as_str())).collect()
}

/// Returns what a file of a layer may not use.
fn upwards(layer: &str, text: &str) -> Vec<(usize, String)> {
    let allowed = LAYERS.iter().find(|(name, _)| *name == layer).map(|(_, uses)| *uses);
    let allowed = allowed.unwrap_or_default();
    let wrong = |name: &str| name != layer && !allowed.contains(&name) && !ROOT.contains(&name);
    named(text).into_iter().filter(|(_, name)| wrong(name)).collect()
}

#[test]
fn no_layer_uses_one_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 300, "{}", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap();
        let layer = name.components().next().unwrap().as_os_str().to_str().unwrap();
        if layer == "lib.rs" || layer == "main.rs" {
            continue;
        }
        assert!(
            LAYERS.iter().any(|(known, _)| *known == layer),
            "src/{layer} is no layer"
        );
        let text = fs::read_to_string(&file).unwrap();
        for (line, used) in upwards(layer, &text) {
            wrong.push(format!("src/{}:{line}: {layer} uses {used}", name.display()));
        }
        for used in above(&text, &module_of(name)) {
            if !upwards(layer, &format!("crate::{used}")).is_empty() {
                wrong.push(format!("src/{}: {layer} uses {used}, by super", name.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that no layer may have:\n{}", wrong.join("\n"));
}

#[test]
fn the_list_is_in_order_and_the_lint_sees_what_it_is_for() {
    for (at, (layer, uses)) in LAYERS.iter().enumerate() {
        for used in *uses {
            let before = LAYERS[..at].iter().any(|(name, _)| name == used);
            assert!(before, "{layer} uses {used}, which does not stand above it");
        }
    }
    let text = "use crate::{Error, cli::args,\n    storage::{SharedStore, s3}, engines};\nlet x = crate::service::y(); // crate::cli\n";
    let seen: Vec<String> = upwards("archive", text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(seen, ["cli", "engines", "service"]);
    assert_eq!(upwards("engines", "use crate::storage::SharedStore;").len(), 1);
    assert!(upwards("policy", "use crate::repository::RunRecord;").is_empty());
    let module = ["policy", "health", "judge"].map(str::to_owned);
    assert_eq!(
        above("use super::super::super::storage::SharedStore;", &module),
        ["storage"]
    );
    assert_eq!(
        untested("a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(test)]\n#[expect(x)]\nmod tests {\nc"),
        "a\n#[cfg(test)]\nmod tests;\nb\n"
    );
}

/// Returns the paths that a file of a module names behind `crate::` and `super::`, from the crate's root. What its tests use is
/// no arrow.
fn paths(text: &str, module: &[String]) -> Vec<Vec<String>> {
    let code: Vec<&str> = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let code = code.join("\n");
    let code = untested(&code);
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let (mut rest, mut base) = (&code[at..], module.to_vec());
            if root == "crate::" {
                (rest, base) = (&rest["crate::".len()..], Vec::new());
            }
            while let Some(after) = rest.strip_prefix("super::") {
                (rest, _) = (after, base.pop());
            }
            tree(rest, &base, &mut found);
        }
    }
    found
}

/// Adds every path of a `use` tree.
fn tree(text: &str, base: &[String], found: &mut Vec<Vec<String>>) {
    let name = word(text);
    let rest = &text[name.len()..];
    if let Some(group) = rest.is_empty().then_some("").or(text.strip_prefix('{')) {
        let (mut depth, mut begins) = (0_usize, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && !c.is_whitespace() => {
                    begins = false;
                    tree(&group[at..], base, found);
                }
                _ => {}
            }
        }
        return;
    }
    let path = [base, &[name]].concat();
    match rest.strip_prefix("::") {
        Some(rest) => tree(rest, &path, found),
        None => found.push(path),
    }
}

/// Returns each circle of folders that lie beside one another, with the files that close it.
fn circles(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let parts = |path: &Path| -> Vec<String> { path.iter().map(|part| part.to_str().unwrap().to_owned()).collect() };
    let is_folder = |path: &[String]| !path.is_empty() && root.join(path.join("/")).is_dir();
    let mut arrows: std::collections::BTreeMap<(String, String), String> = std::collections::BTreeMap::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap();
        let folder = parts(name.parent().unwrap());
        let module = module_of(name);
        if module.last().is_some_and(|last| last == "tests") {
            continue;
        }
        for path in paths(&fs::read_to_string(file).unwrap(), &module) {
            let common = folder.iter().zip(&path).take_while(|(a, b)| a == b).count();
            let (from, to) = (folder.get(..=common), path.get(..=common));
            let (Some(from), Some(to)) = (from, to) else { continue };
            if is_folder(from) && is_folder(to) {
                arrows
                    .entry((from.join("/"), to.join("/")))
                    .or_insert_with(|| name.display().to_string());
            }
        }
    }
    // What can be reached from each folder.
    let reach = |from: &str| {
        let (mut seen, mut next) = (std::collections::BTreeSet::new(), vec![from.to_owned()]);
        while let Some(one) = next.pop() {
            for ((_, to), _) in arrows.iter().filter(|((from, _), _)| *from == one) {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let closes = |(from, to): &(String, String)| reach(to).contains(from);
    arrows
        .iter()
        .filter(|(arrow, _)| closes(arrow))
        .map(|((from, to), file)| format!("{from} -> {to} ({file})"))
        .collect()
}

#[test]
fn folders_that_lie_beside_one_another_are_in_no_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let circles = circles(&root, &files);
    assert!(circles.is_empty(), "arrows of circles:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_of_folders_is_seen() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let mut files = Vec::new();
    for (file, text) in [
        ("a/x/mod.rs", "use crate::a::{y::{f, g}, z};"),
        ("a/y/one.rs", "// crate::a::x\nfn f() { super::super::z::h() }"),
        ("a/z/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::x;\n}"),
        ("a/mod.rs", "use self::x;"),
    ] {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        files.push(path);
    }
    assert!(circles(root, &files).is_empty(), "{:?}", circles(root, &files));
    fs::write(root.join("a/z/mod.rs"), "use super::x::T;").unwrap();
    let found = circles(root, &files);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].starts_with("a/x -> a/y (a/x/mod.rs"), "{found:?}");
}

/// What the verbs and the scheduler may name of one engine: the file, what it names, why.
const OF_ONE_ENGINE: &[(&str, &str, &str)] = &[
    (
        "operations/options.rs",
        "docker",
        "flags of restore, handed on to the command line; the engine of recover's containers",
    ),
    (
        "operations/options.rs",
        "postgres",
        "flags of backup and restore, handed on to the command line",
    ),
    (
        "operations/options.rs",
        "redis",
        "flags of restore, handed on to the command line",
    ),
    (
        "operations/cat.rs",
        "files",
        "names and holes of files, of whatever source",
    ),
    (
        "operations/cleanup/walls.rs",
        "files",
        "the patterns of a tree that a source occupies",
    ),
    (
        "operations/cleanup/docker.rs",
        "docker",
        "a rule is about the engine of this host, not about a source",
    ),
    (
        "operations/log/mod.rs",
        "postgres",
        "archive_command and restore_command are PostgreSQL's: names and bytes of its log",
    ),
    (
        "operations/log/redis/attach.rs",
        "redis",
        "a log of commands is that of Redis and Valkey servers",
    ),
    ("operations/log/redis/bases.rs", "redis", "the same"),
    ("operations/log/redis/extent.rs", "redis", "the same"),
    ("operations/log/redis/follow.rs", "redis", "the same"),
    ("operations/log/redis/lineage.rs", "redis", "the same"),
    ("operations/log/redis/taking.rs", "redis", "the same"),
    ("operations/log/redis/claim.rs", "redis", "the same"),
    ("operations/log/redis/link.rs", "redis", "the same"),
    ("operations/log/redis/meant.rs", "redis", "the same"),
    ("operations/log/redis/report.rs", "redis", "the same"),
    ("operations/log/redis/resume.rs", "redis", "the same"),
    ("operations/log/redis/prune.rs", "redis", "the same"),
    ("operations/log/redis/receive.rs", "redis", "the same"),
    ("operations/log/redis/restore/mod.rs", "redis", "the same"),
    ("operations/log/redis/restore/choose.rs", "redis", "the same"),
    ("operations/log/redis/restore/cut.rs", "redis", "the same"),
    ("operations/log/redis/restore/marks.rs", "redis", "the same"),
    ("operations/log/redis/restore/directory.rs", "redis", "the same"),
    ("operations/log/redis/restore/place.rs", "redis", "the same"),
    ("operations/log/redis/restore/read.rs", "redis", "the same"),
    ("operations/log/redis/restore/server.rs", "redis", "the same"),
    ("operations/log/redis/show.rs", "redis", "the same"),
    ("operations/log/redis/store.rs", "redis", "the same"),
    ("operations/log/redis/stored.rs", "redis", "the same"),
    ("operations/log/redis/trust.rs", "redis", "the same"),
    ("operations/log/redis/windows.rs", "redis", "the same"),
    ("operations/log/redis/went_back.rs", "redis", "the same"),
    ("operations/log/push.rs", "postgres", "the same"),
    ("operations/log/fetch.rs", "postgres", "the same"),
    ("operations/log/parts.rs", "postgres", "the same"),
    (
        "operations/log/receive/mod.rs",
        "postgres",
        "what is streamed is the log of a PostgreSQL server",
    ),
    ("operations/log/prune.rs", "postgres", "the same"),
    ("operations/log/prune.rs", "redis", "the same"),
    ("operations/log/receive/report.rs", "postgres", "the same"),
    ("operations/log/receive/resume.rs", "postgres", "the same"),
    ("operations/log/receive/segment.rs", "postgres", "the same"),
    ("operations/log/receive/store.rs", "postgres", "the same"),
    ("operations/log/recovery/mod.rs", "postgres", "the same"),
    ("operations/log/recovery/base.rs", "postgres", "the same"),
    ("operations/log/recovery/command.rs", "postgres", "the same"),
    ("operations/log/recovery/course.rs", "postgres", "the same"),
    ("operations/log/recovery/ending.rs", "postgres", "the same"),
    ("operations/log/recovery/proof.rs", "postgres", "the same"),
    ("operations/log/show/mod.rs", "postgres", "the same"),
    ("operations/log/show/found.rs", "postgres", "the same"),
    ("operations/log/show/read.rs", "postgres", "the same"),
    ("operations/log/show/report.rs", "postgres", "the same"),
    (
        "operations/recover.rs",
        "docker",
        "containers and their networks come back on the engine of this host",
    ),
    ("operations/recover/containers.rs", "docker", "the same"),
    ("operations/recover/plan.rs", "docker", "the same"),
    ("operations/recover/report.rs", "docker", "the same"),
    (
        "operations/recover/servers.rs",
        "docker",
        "the container that a server runs in",
    ),
];

/// Returns the engines that a text names in front of its tests, as a word or by their folder, each with its line.
fn engines_named(text: &str, kinds: &[&str]) -> Vec<(usize, String)> {
    let text = untested(text);
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for kind in kinds {
            let is_word = code.contains(&format!("\"{kind}\""));
            let is_folder = code.contains(&format!("engines::{kind}"));
            if is_word || is_folder {
                found.push((number + 1, (*kind).to_owned()));
            }
        }
        if code.contains("SourceKind::") {
            found.push((number + 1, "SourceKind".to_owned()));
        }
    }
    found
}

#[test]
fn verbs_and_scheduler_name_no_engine() {
    let engines = wirevault::engines::Registry::standard();
    let kinds: Vec<&str> = engines.iter().map(|engine| engine.kind().word()).collect();
    assert_eq!(
        kinds,
        ["postgres", "postgres-physical", "redis", "sqlite", "files", "docker"]
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root.join("operations"), &mut files);
    rust_files(&root.join("service"), &mut files);
    let (mut wrong, mut unused) = (Vec::new(), OF_ONE_ENGINE.to_vec());
    for file in files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        for (line, kind) in engines_named(&fs::read_to_string(&file).unwrap(), &kinds) {
            unused.retain(|(file, allowed, _)| *file != name || *allowed != kind);
            if !OF_ONE_ENGINE
                .iter()
                .any(|(file, allowed, _)| *file == name && *allowed == kind)
            {
                wrong.push(format!("src/{name}:{line}: {kind}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "what an engine alone should say:\n{}",
        wrong.join("\n")
    );
    assert!(unused.is_empty(), "these are not needed any more: {unused:?}");
}

#[test]
fn the_lint_sees_words_folders_and_variants() {
    let text = "match kind { \"redis\" => 1 }\nuse crate::engines::files::x; // \"sqlite\"\nSourceKind::Docker(_)\n#[cfg(test)]\nmod tests {\n\"redis\"";
    let seen: Vec<String> = engines_named(text, &["redis", "files", "sqlite"])
        .into_iter()
        .map(|(_, kind)| kind)
        .collect();
    assert_eq!(seen, ["redis", "files", "SourceKind"]);
}
