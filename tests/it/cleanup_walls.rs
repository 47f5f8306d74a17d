//! What clean-up rules must not reach, however their paths are written.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::program::{Program, files_below};

/// A repository `deep/repos/r` with a snapshot of `src`; all of it old.
fn old_repository() -> Program {
    let program = Program::bare();
    fs::create_dir_all(program.path("src/sub")).unwrap();
    fs::write(program.path("src/f.zst"), "data").unwrap();
    fs::write(program.path("src/sub/g.zst"), "data").unwrap();
    fs::create_dir_all(program.path("deep/repos")).unwrap();
    configure(&program, "");
    program.expect(0, &["backup"]);
    for (path, _) in files_below(program.place.path()) {
        age(&path);
    }
    program
}

fn age(path: &Path) {
    let old = SystemTime::now() - Duration::from_secs(3 * 86_400);
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(old)
        .unwrap();
}

fn old_file(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "old").unwrap();
    age(path);
}

/// Writes the configuration; `more` stands in the source's section or begins others.
fn configure(program: &Program, more: &str) {
    let at = |name: &str| program.path(name).display().to_string();
    let text = format!(
        "[repository]\nurl = \"{}\"\n[job.j]\nsources = [\"t\"]\n[source.t]\nkind = \"files\"\nroot = \"{}\"\n{more}",
        at("deep/repos/r"),
        at("src")
    );
    fs::write(program.path("wirevault.toml"), text).unwrap();
}

fn rule(path: &Path, glob: &str) -> String {
    let path = path.display();
    format!("[cleanup.c]\npath = \"{path}\"\nglob = [{glob}]\nkeep = \"1h\"\ndelete = true\n")
}

/// The rule ends with an error that says `why`, and nothing is gone.
fn refuses(program: &Program, source: &str, path: &Path, why: &str) {
    configure(program, &format!("{source}{}", rule(path, "\"*\"")));
    let before = files_below(program.place.path());
    let output = program.run(&["cleanup", "--delete"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{}: {said}", path.display());
    assert!(
        said.contains(why) && said.contains("hint: "),
        "{}: {said}",
        path.display()
    );
    assert_eq!(files_below(program.place.path()), before, "{}", path.display());
}

/// A mount of one directory at another, undone with this.
struct Bind(PathBuf);

impl Bind {
    fn new(from: &Path, to: PathBuf) -> Self {
        fs::create_dir_all(&to).unwrap();
        let done = Command::new("mount").arg("--bind").arg(from).arg(&to).status().unwrap();
        assert!(done.success());
        Self(to)
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn no_path_leads_into_a_repository() {
    let program = old_repository();
    let at = |name: &str| program.path(name);
    symlink(at("deep/repos"), at("link")).unwrap();
    symlink(at("link/r/data"), at("data")).unwrap();
    for path in [
        at("link"),
        at("link/r"),
        at("data"),
        at("deep"),
        at("src/../deep/repos"),
        at("deep/repos/r"),
        at("deep/repos/r/data"),
    ] {
        refuses(&program, "", &path, "repository");
    }
    // A repository that is not configured any more still is one, from above and from within.
    let text = format!("[job.j]\nsources = []\n{}", rule(&at("deep/repos/r/data"), "\"*\""));
    fs::write(at("wirevault.toml"), text.replace("[job.j]\nsources = []\n", "")).unwrap();
    let before = files_below(&at("deep"));
    let output = program.run(&["cleanup", "--delete"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is inside the repository"));
    fs::write(at("wirevault.toml"), rule(&at("deep"), "\"*\"")).unwrap();
    old_file(&at("deep/other/x"));
    let said = program.expect(0, &["cleanup", "--delete"]);
    assert!(said.contains("left alone: \"repos/r\" holds a repository"), "{said}");
    assert_eq!(files_below(&at("deep")), before, "all but deep/other/x");
    // And one on the command line.
    let repository = at("deep/repos/r").display().to_string();
    program.refused(
        &["cleanup", "--delete", "--repository", &repository],
        "reaches the repository",
        "keep rules",
    );
    program.expect(0, &["verify", "latest", "--from", &repository]);
}

#[test]
fn no_bind_mount_leads_into_a_repository_or_a_source() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let program = old_repository();
    let at = |name: &str| program.path(name);
    let _mounts = [
        Bind::new(&at("deep/repos/r"), at("bound/whole")),
        Bind::new(&at("deep/repos/r/data"), at("bound/part")),
        Bind::new(&at("deep"), at("bound/above")),
        Bind::new(&at("src/sub"), at("bound/source")),
    ];
    for (name, why) in [
        ("bound/whole", "repository"),
        ("bound/part", "repository"),
        ("bound/above", "repository"),
        ("bound/above/repos", "repository"),
        ("bound/source", "source \"t\""),
    ] {
        refuses(&program, "", &at(name), why);
    }
    // What is mounted below a rule's directory is another place.
    old_file(&at("bound/old"));
    configure(&program, &rule(&at("bound"), "\"*\""));
    let before = files_below(&at("deep"));
    let said = program.expect(0, &["cleanup", "--delete"]);
    assert!(said.contains("removed 1 files"), "{said}");
    assert!(!at("bound/old").exists() && at("src/sub/g.zst").exists());
    assert_eq!(files_below(&at("deep")), before);
}

#[test]
fn no_path_leads_into_a_source_except_where_it_looks_away() {
    let program = old_repository();
    let at = |name: &str| program.path(name);
    symlink(at("src"), at("link")).unwrap();
    fs::create_dir_all(at("src/logs/app")).unwrap();
    for path in [
        at("src"),
        at("link"),
        at("link/sub"),
        at("deep/../src/sub"),
        at("src/logs/app"),
    ] {
        refuses(&program, "", &path, "source \"t\"");
    }
    refuses(
        &program,
        "include = [\"logs/app/*.txt\"]\n",
        &at("src/logs"),
        "source \"t\"",
    );
    // A directory that the source excludes is nobody's.
    old_file(&at("src/logs/app/old.log"));
    configure(
        &program,
        &format!("exclude = [\"logs/\"]\n{}", rule(&at("src/logs/app"), "\"*.log\"")),
    );
    program.expect(0, &["cleanup", "--delete"]);
    assert!(!at("src/logs/app/old.log").exists() && at("src/f.zst").exists());
}

#[test]
fn a_database_stays_whatever_its_name_matches() {
    let program = old_repository();
    let at = |name: &str| program.path(name);
    for name in ["data/app.db", "data/app.db-wal", "data/app.log", "data/other.db"] {
        old_file(&at(name));
    }
    let database = format!(
        "[source.db]\nkind = \"sqlite\"\npath = \"{}\"\n",
        at("data/app.db").display()
    );
    refuses(&program, &database, &at("data"), "source \"db\"");
    configure(&program, &format!("{database}{}", rule(&at("data"), "\"*.db-wal\"")));
    program.refused(&["cleanup", "--delete"], "source \"db\"", "backs up");
    // Under another name it is still the same file.
    fs::hard_link(at("data/app.db"), at("data/kept.old")).unwrap();
    configure(
        &program,
        &format!("{database}{}", rule(&at("data"), "\"*.log\", \"*.old\"")),
    );
    let said = program.expect(0, &["cleanup", "--delete"]);
    assert!(
        said.contains("left alone: \"kept.old\" belongs to source \"db\""),
        "{said}"
    );
    assert!(!at("data/app.log").exists());
    for name in ["data/app.db", "data/app.db-wal", "data/kept.old", "data/other.db"] {
        assert!(at(name).exists(), "{name}");
    }
}
