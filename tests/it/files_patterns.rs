//! What a source and a restore take: patterns, marks, single files, and what is left out unasked.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::support::program::Program;

/// A directory with these files, each of which holds its own path.
fn tree(root: &Path, files: &[&str]) {
    for file in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
}

/// The files below a directory, sorted.
fn files(root: &Path) -> Vec<String> {
    let (mut found, mut todo) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                todo.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap();
                found.push(name.as_os_str().as_bytes().escape_ascii().to_string());
            }
        }
    }
    found.sort();
    found
}

/// A program whose job `j` has one source of the files in `data`, with further lines.
fn configured(lines: &str) -> Program {
    let program = Program::bare();
    configure(&program, lines);
    program
}

fn configure(program: &Program, lines: &str) {
    let (repository, data) = (program.path("repo"), program.path("data"));
    let config = format!(
        "[repository]\nurl = \"file://{}\"\n[source.data]\nkind = \"files\"\nroot = \"{}\"\n{lines}\n[job.j]\nsources = [\"data\"]\n",
        repository.display(),
        data.display()
    );
    fs::write(program.path("wirevault.toml"), config).unwrap();
}

/// Backs up the job. Ids of snapshots order them by whole seconds, so each begins in one of its own.
fn backup(program: &Program, code: i32) -> String {
    let second = || jiff::Timestamp::now().as_second();
    let last = program.path("last second");
    let before = fs::read_to_string(&last).map_or(0, |text| text.parse().unwrap());
    while second() <= before {
        std::thread::yield_now();
    }
    let output = program.run(&["backup", "j"]);
    fs::write(last, second().to_string()).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// Backs up, restores beside, and returns what came back.
fn round(program: &Program, code: i32) -> Vec<String> {
    backup(program, code);
    let out = program.path("out");
    if out.exists() {
        fs::remove_dir_all(&out).unwrap();
    }
    program.expect(0, &["restore", "latest", "--into", "out"]);
    files(&out)
}

/// The notes of the last snapshot by code.
fn notes(program: &Program) -> Value {
    let shown = program.json(&["show", "latest"]);
    let text = shown.to_string();
    let at = text.find("\"note_counts\":").unwrap() + "\"note_counts\":".len();
    serde_json::Deserializer::from_str(&text[at..])
        .into_iter::<Value>()
        .next()
        .unwrap()
        .unwrap()
}

const SITE: &[&str] = &[
    "nginx/nginx.conf",
    "nginx/sites/x",
    "cache/c1",
    "cache/deep/c2",
    "other/o",
];

#[test]
fn a_directory_with_two_stars_means_its_tree_everywhere() {
    let program = configured("");
    tree(&program.path("data"), SITE);
    for (line, wanted) in [
        ("include = [\"nginx/**\"]", vec!["nginx/nginx.conf", "nginx/sites/x"]),
        ("include = [\"nginx/*\"]", vec!["nginx/nginx.conf", "nginx/sites/x"]),
        ("include = [\"**/sites/**\"]", vec!["nginx/sites/x"]),
        (
            "exclude = [\"cache/**\"]",
            vec!["nginx/nginx.conf", "nginx/sites/x", "other/o"],
        ),
        (
            "exclude = [\"**/deep/**\"]",
            vec!["cache/c1", "nginx/nginx.conf", "nginx/sites/x", "other/o"],
        ),
    ] {
        configure(&program, line);
        assert_eq!(round(&program, 0), wanted, "{line}");
        assert_eq!(notes(&program), serde_json::json!({}), "{line}");
    }
    configure(&program, "");
    backup(&program, 0);
    program.expect(0, &["restore", "latest", "--path", "nginx/**", "--into", "some"]);
    assert_eq!(files(&program.path("some")), ["nginx/nginx.conf", "nginx/sites/x"]);
}

/// What is made of a directory above a selected file has the rights of the backup, not those of any new one.
#[test]
fn directories_above_selected_paths_come_back_with_their_rights() {
    let program = configured("");
    let data = program.path("data");
    tree(&data, &["private/keys/one", "private/keys/two", "public/x"]);
    fs::set_permissions(data.join("private"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(data.join("private/keys"), fs::Permissions::from_mode(0o2750)).unwrap();
    backup(&program, 0);
    program.expect(0, &["restore", "latest", "--path", "private/keys/one", "--into", "out"]);
    assert_eq!(files(&program.path("out")), ["private/keys/one"]);
    for name in ["private", "private/keys"] {
        let mode = |root: &str| program.path(root).join(name).metadata().unwrap().mode();
        assert_eq!(mode("data"), mode("out"), "{name}");
    }
}

#[test]
fn excludes_are_meant_refused_or_told() {
    let program = configured("");
    let data = program.path("data");
    tree(&data, &["tmp/secret", "keep/a.LOG", "keep/b.log", "keep/!odd"]);
    configure(
        &program,
        &format!("exclude = [\"{}/tmp\", \"*.log\", \"nosuch*\"]", data.display()),
    );
    assert_eq!(round(&program, 0), ["keep/!odd", "keep/a.LOG"]);
    assert_eq!(notes(&program), serde_json::json!({ "unmatched-pattern": 1 }));
    let checked = program.expect(0, &["check", "j"]);
    assert!(
        checked.contains("exclude pattern \"nosuch*\" matches nothing"),
        "{checked}"
    );
    configure(&program, "exclude = [\"*\", \"!keep\"]");
    program.refused(
        &["backup", "j"],
        "file pattern \"!keep\" starts with \"!\"",
        "An exclude always wins",
    );
    configure(&program, "exclude = ['\\!odd', 'tmp']");
    assert_eq!(round(&program, 0), ["keep/a.LOG", "keep/b.log"]);
    // A path as the user sees it is one of the backup's too.
    configure(&program, "");
    backup(&program, 0);
    let path = data.join("keep/b.log").display().to_string();
    program.expect(0, &["restore", "latest", "--path", &path, "--into", "one"]);
    assert_eq!(files(&program.path("one")), ["keep/b.log"]);
}

#[test]
fn marked_directories_and_caches_are_left_out_but_for_the_mark() {
    let program = configured("exclude_if_present = [\".nobackup\"]\nexclude_caches = true");
    let data = program.path("data");
    tree(
        &data,
        &[
            "cache/big",
            "cache/deep/big",
            "fake/CACHEDIR.TAG",
            "fake/file",
            "scratch/.nobackup",
            "scratch/a",
            "scratch/b/c",
            "kept",
        ],
    );
    fs::write(
        data.join("cache/CACHEDIR.TAG"),
        "Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n",
    )
    .unwrap();
    let wanted = [
        "cache/CACHEDIR.TAG",
        "fake/CACHEDIR.TAG",
        "fake/file",
        "kept",
        "scratch/.nobackup",
    ];
    assert_eq!(round(&program, 0), wanted);
    // What a backup did not look at is not what it does not know.
    fs::write(data.join("fake/new"), "new").unwrap();
    program.expect(0, &["restore", "latest", "--clean", "--delete"]);
    assert!(data.join("cache/deep/big").exists() && data.join("scratch/b/c").exists());
    assert!(!data.join("fake/new").exists());
    configure(&program, "exclude_if_present = [\"a/b\"]");
    program.refused(
        &["backup", "j"],
        "\"a/b\" in exclude_if_present is not a file name",
        "Write only the name",
    );
}

#[test]
fn names_that_are_no_utf8_can_be_chosen() {
    let program = configured("");
    let data = program.path("data");
    tree(&data, &["plain"]);
    let odd = OsStr::from_bytes(b"latin\xe9\xff");
    fs::write(data.join(odd), "odd").unwrap();
    fs::create_dir(data.join(OsStr::from_bytes(b"dir\xfe"))).unwrap();
    fs::write(data.join(OsStr::from_bytes(b"dir\xfe/in")), "in").unwrap();
    backup(&program, 0);
    for (number, pattern, wanted) in [
        (1, "latin\\xe9\\xff", "latin\\xe9\\xff"),
        (2, "latin*", "latin\\xe9\\xff"),
        (3, "dir\\xfe/in", "dir\\xfe/in"),
        (4, "dir?/**", "dir\\xfe/in"),
    ] {
        let into = format!("out{number}");
        program.expect(0, &["restore", "latest", "--path", pattern, "--into", &into]);
        assert_eq!(files(&program.path(&into)), [wanted], "{pattern}");
    }
    let mut raw = program.command(&["restore", "latest", "--into", "raw", "--path"]);
    assert!(raw.arg(odd).output().unwrap().status.success());
    assert_eq!(files(&program.path("raw")), ["latin\\xe9\\xff"]);
    assert_eq!(program.expect(0, &["cat", "latest", "data", "latin\\xe9\\xff"]), "odd");
    let mut raw = program.command(&["cat", "latest", "data"]);
    assert_eq!(raw.arg(odd).output().unwrap().stdout, b"odd");
    configure(&program, "exclude = ['latin\\xe9\\xff', 'dir\\xfe/']");
    assert_eq!(round(&program, 0), ["plain"]);
}

#[test]
fn a_single_file_is_a_source_and_goes_back_to_its_directory() {
    let program = Program::on_directory();
    let app = program.path("app");
    tree(&app, &[".env", "other", "we[i]rd*"]);
    fs::set_permissions(app.join(".env"), fs::Permissions::from_mode(0o600)).unwrap();
    program.expect(0, &["backup", "files:app/.env"]);
    fs::write(app.join(".env"), "changed").unwrap();
    fs::write(app.join("other"), "changed too").unwrap();
    fs::set_permissions(&app, fs::Permissions::from_mode(0o711)).unwrap();
    program.expect(0, &["restore", "latest", "--clean"]);
    assert_eq!(fs::read(app.join(".env")).unwrap(), b".env");
    assert_eq!(fs::read(app.join("other")).unwrap(), b"changed too");
    assert_eq!(
        app.metadata().unwrap().mode() & 0o777,
        0o711,
        "its directory was not named"
    );
    program.expect(0, &["restore", "latest", "--into", "out"]);
    assert_eq!(files(&program.path("out")), [".env"]);
    assert_eq!(program.path("out/.env").metadata().unwrap().mode() & 0o777, 0o600);
    // Letters that mean something in a pattern mean themselves in a name.
    let path = format!("files:{}", app.join("we[i]rd*").display());
    let said = program.json(&["backup", &path]);
    let id = said["snapshots"][0]["id"].as_str().unwrap();
    program.expect(0, &["restore", id, "--into", "odd"]);
    assert_eq!(files(&program.path("odd")), ["we[i]rd*"]);
    symlink("other", app.join("link")).unwrap();
    program.refused(
        &["backup", "files:app/link"],
        "is a link to a file",
        "Use the file it points to",
    );
}

#[test]
fn single_files_of_the_environment_are_sources_too() {
    let mut program = Program::on_directory();
    tree(&program.path("app"), &[".env", "conf/a"]);
    let paths = ["app/.env", "app/conf"].map(|path| program.path(path).display().to_string());
    program.set("BACKUP_PATHS", &paths.join(":"));
    program.set("BACKUP_DIR", &program.path("repo").display().to_string());
    program.expect(0, &["backup"]);
    program.expect(0, &["restore", "latest", "--into", "out"]);
    let found = files(&program.path("out"));
    assert!(found.iter().any(|path| path.ends_with("/.env")), "{found:?}");
    assert!(found.iter().any(|path| path.ends_with("conf/a")), "{found:?}");
    assert_eq!(found.len(), 2);
}

#[test]
fn a_source_that_lost_all_its_entries_is_told_until_it_may_be_empty() {
    let program = configured("");
    let data = program.path("data");
    fs::create_dir(&data).unwrap();
    // Empty from the beginning is nothing to tell.
    backup(&program, 0);
    tree(&data, &["a"]);
    backup(&program, 0);
    fs::remove_file(data.join("a")).unwrap();
    for _ in 0..2 {
        let said = backup(&program, 2);
        assert!(said.contains("allow_empty"), "{said}");
        assert_eq!(notes(&program), serde_json::json!({ "became-empty": 1 }));
    }
    configure(&program, "allow_empty = true");
    backup(&program, 0);
    configure(&program, "");
    backup(&program, 0);
    tree(&data, &["a"]);
    backup(&program, 0);
}

#[test]
fn the_repository_and_the_spool_directory_are_left_out_of_a_tree_that_holds_them() {
    let program = configured("");
    let data = program.path("data");
    tree(&data, &["file", "spool/left", "sub/file"]);
    let config = fs::read_to_string(program.path("wirevault.toml")).unwrap();
    let config = config.replace(
        &format!("file://{}", program.path("repo").display()),
        &format!("file://{}", data.join("sub/backups").display()),
    );
    let config = format!("spool_dir = \"{}\"\n{config}", data.join("spool").display());
    fs::write(program.path("wirevault.toml"), config).unwrap();
    for _ in 0..3 {
        backup(&program, 0);
        assert_eq!(notes(&program)["left-out-own"], 2);
    }
    program.expect(0, &["restore", "latest", "--into", "out"]);
    assert_eq!(files(&program.path("out")), ["file", "sub/file"]);
    // Nor is it moved away as something that the backup does not know.
    fs::write(data.join("extra"), "x").unwrap();
    program.expect(0, &["restore", "latest", "--clean", "--delete"]);
    assert!(!data.join("extra").exists() && data.join("spool/left").exists());
    assert_eq!(program.listed().len(), 3);
}
