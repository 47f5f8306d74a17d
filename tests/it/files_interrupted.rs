//! Restores of files that were killed: the next run names the way, and they are finished or undone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::program::Program;

/// Files below a root by path, without this program's own directories; with their modes.
fn content(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with(".wirevault-") {
                continue;
            }
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                waiting.push(path);
            } else {
                found.insert(
                    path.strip_prefix(root).unwrap().to_owned(),
                    (meta.mode(), fs::read(&path).unwrap()),
                );
            }
        }
    }
    found
}

/// The one directory whose name begins so, in another one.
fn only(directory: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found = entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix));
    let first = found.next();
    assert!(found.next().is_none(), "two of {prefix}");
    first
}

const STAGING: &str = ".wirevault-restore-";

/// What a restore that was killed in the middle of its renames leaves: some files are placed, some are not, of one
/// only the old one was moved away.
struct Halfway {
    program: Program,
    before: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    wanted: BTreeMap<PathBuf, (u32, Vec<u8>)>,
}

impl Halfway {
    fn new() -> Self {
        let program = Program::on_directory();
        let root = program.path("d");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o750)).unwrap();
        for name in ["a", "b", "c", "sub/deep/d", "gone"] {
            fs::write(root.join(name), format!("{name} of the backup")).unwrap();
        }
        let wanted = content(&root);
        program.expect(0, &["backup", &format!("files:{}", root.display())]);
        for name in ["a", "b", "c", "sub/deep/d"] {
            fs::write(root.join(name), format!("{name}, newer")).unwrap();
        }
        fs::remove_file(root.join("gone")).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
        let before = content(&root);
        program.expect(0, &["restore", "latest", "--clean"]);
        assert_eq!(content(&root), wanted);

        // Back to the middle: the journal is in the staging directory again, and it is committed.
        let previous = only(program.place.path(), "d.pre-restore-").unwrap();
        let staging = root.join(format!("{STAGING}0123456789abcdef"));
        fs::create_dir_all(staging.join("0")).unwrap();
        fs::rename(previous.join(".wirevault-restore-journal"), staging.join("journal")).unwrap();
        fs::rename(previous.join(".wirevault-restore-about"), staging.join("about")).unwrap();
        fs::write(staging.join("commit"), previous.display().to_string()).unwrap();
        for (number, name) in ["a", "b", "c", "gone", "sub/deep/d"].into_iter().enumerate() {
            let staged = staging.join(format!("0/{number}"));
            match name {
                "a" => {}
                "c" => fs::rename(root.join(name), staged).unwrap(),
                _ => {
                    fs::rename(root.join(name), staged).unwrap();
                    if previous.join(name).exists() {
                        fs::rename(previous.join(name), root.join(name)).unwrap();
                    }
                }
            }
        }
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
        Self {
            program,
            before,
            wanted,
        }
    }

    fn root(&self) -> PathBuf {
        self.program.path("d")
    }

    fn mode(&self) -> u32 {
        self.root().metadata().unwrap().mode() & 0o777
    }
}

#[test]
fn the_next_run_names_the_way_and_resume_finishes() {
    let halfway = Halfway::new();
    let program = &halfway.program;
    let id = program.listed().remove(0);
    let said = format!("an interrupted restore of snapshot {id} is in");
    for more in [&[][..], &["--dry-run"], &["--path", "a"]] {
        program.refused(&[&["restore", "latest"], more].concat(), &said, "--resume");
    }
    let half = content(&halfway.root());
    assert!(half != halfway.before && half != halfway.wanted);
    let text = program.expect(0, &["restore", "latest", "--resume"]);
    assert!(
        text.contains("is finished") && text.contains("d.pre-restore-"),
        "{text}"
    );
    assert_eq!(content(&halfway.root()), halfway.wanted);
    assert_eq!(halfway.mode(), 0o750, "the root too");
    assert_eq!(only(&halfway.root(), STAGING), None);
    program.refused(
        &["restore", "latest", "--resume"],
        "no interrupted restore",
        "without --resume",
    );
    // And what was finished can still be undone.
    program.expect(0, &["restore", "latest", "--undo"]);
    assert_eq!(content(&halfway.root()), halfway.before);
    assert_eq!(halfway.mode(), 0o700);
}

#[test]
fn undo_takes_back_what_was_done_and_keeps_what_was_written_since() {
    let halfway = Halfway::new();
    let (program, root) = (&halfway.program, halfway.root());
    // The application goes on meanwhile.
    fs::write(root.join("a"), "written after the kill").unwrap();
    fs::write(root.join("c"), "made where the file was moved away").unwrap();
    let text = program.expect(0, &["restore", "latest", "--undo"]);
    assert_eq!(content(&root), halfway.before);
    assert_eq!(halfway.mode(), 0o700);
    let aside = only(program.place.path(), "d.undone-").unwrap();
    assert!(text.contains(&aside.display().to_string()), "{text}");
    assert_eq!(fs::read_to_string(aside.join("a")).unwrap(), "written after the kill");
    assert_eq!(
        fs::read_to_string(aside.join("c")).unwrap(),
        "made where the file was moved away"
    );
    assert_eq!(only(&root, STAGING), None);
    assert_eq!(only(program.place.path(), "d.pre-restore-"), None);
    program.refused(&["restore", "latest", "--undo"], "can be undone", "pre-restore-");
}

#[test]
fn a_restore_with_clean_finishes_the_interrupted_one_first_and_loses_nothing() {
    let halfway = Halfway::new();
    let (program, root) = (&halfway.program, halfway.root());
    let previous = only(program.place.path(), "d.pre-restore-").unwrap();
    // It stands where the old file was moved away and the new one is not yet.
    fs::write(root.join("c"), "made in between").unwrap();
    let output = program.run(&["restore", "latest", "--clean"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("an interrupted restore was finished first"), "{said}");
    assert_eq!(content(&root), halfway.wanted);
    assert_eq!(fs::read_to_string(previous.join("c")).unwrap(), "c, newer");
    assert_eq!(fs::read_to_string(previous.join("c.1")).unwrap(), "made in between");
    assert_eq!(only(&root, STAGING), None);
}

#[test]
fn an_undo_that_was_begun_is_not_finished_the_other_way() {
    let halfway = Halfway::new();
    let program = &halfway.program;
    let staging = only(&halfway.root(), STAGING).unwrap();
    fs::write(staging.join("undoing"), "").unwrap();
    program.refused(&["restore", "latest", "--resume"], "an interrupted undo", "--undo");
    program.refused(&["restore", "latest"], "an interrupted undo", "--undo");
    program.expect(0, &["restore", "latest", "--undo"]);
    assert_eq!(content(&halfway.root()), halfway.before);
}

#[test]
fn an_ended_restore_is_undone_and_later_work_is_kept_aside() {
    let program = Program::on_directory();
    let root = program.path("d");
    fs::create_dir(&root).unwrap();
    for name in ["changed", "missing", "dir"] {
        fs::write(root.join(name), "of the backup").unwrap();
    }
    program.expect(0, &["backup", &format!("files:{}", root.display())]);
    fs::write(root.join("changed"), "before the restore").unwrap();
    for name in ["missing", "dir"] {
        fs::remove_file(root.join(name)).unwrap();
    }
    fs::write(root.join("unknown"), "unknown to the backup").unwrap();
    let before = content(&root);
    program.expect(0, &["restore", "latest", "--clean", "--delete"]);
    assert!(!root.join("unknown").exists());
    // Days of work.
    fs::write(root.join("changed"), "worked on").unwrap();
    fs::write(root.join("unknown"), "made anew").unwrap();
    program.expect(0, &["restore", "latest", "--undo"]);
    assert_eq!(content(&root), before);
    let aside = only(program.place.path(), "d.undone-").unwrap();
    assert_eq!(fs::read_to_string(aside.join("changed")).unwrap(), "worked on");
    assert_eq!(fs::read_to_string(aside.join("unknown")).unwrap(), "made anew");
    assert_eq!(fs::read_to_string(aside.join("missing")).unwrap(), "of the backup");
}

/// Kills a restore when something of it is seen, or lets it end if it is faster.
fn kill_at(program: &Program, seen: impl Fn() -> bool) {
    let mut command = program.command(&["restore", "latest", "--clean"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !seen() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    // The program's own wrapper has become the program.
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn whenever_it_is_killed_the_next_run_brings_the_backup() {
    let program = Program::on_directory();
    let root = program.path("d");
    let name = |number: u32| root.join(format!("{:02}/{number}", number % 60));
    for number in 0..3000 {
        fs::create_dir_all(name(number).parent().unwrap()).unwrap();
        fs::write(name(number), format!("one {number}")).unwrap();
    }
    let wanted = content(&root);
    program.expect(0, &["backup", &format!("files:{}", root.display())]);
    let staging = || only(&root, STAGING);
    let staged = || staging().is_some();
    let journal = || staging().is_some_and(|path| path.join("journal").exists());
    let previous = || only(program.place.path(), "d.pre-restore-").is_some();
    let committed = || staging().is_some_and(|path| path.join("commit").exists());
    let placed = || previous() && fs::read_dir(&root).is_ok_and(|_| fs::read(name(0)).is_ok_and(|b| b == b"one 0"));
    let moments: [&dyn Fn() -> bool; 5] = [&staged, &journal, &previous, &committed, &placed];
    for (round, moment) in moments.into_iter().enumerate() {
        for number in 0..3000 {
            fs::write(name(number), format!("two {number}")).unwrap();
        }
        let before = content(&root);
        kill_at(&program, moment);
        if committed() {
            if round % 2 == 0 {
                program.expect(0, &["restore", "latest", "--undo"]);
                assert_eq!(content(&root), before);
            } else {
                program.expect(0, &["restore", "latest", "--resume"]);
                assert_eq!(content(&root), wanted);
            }
        }
        program.expect(0, &["restore", "latest", "--clean"]);
        assert_eq!(content(&root), wanted);
        assert_eq!(staging(), None);
        for entry in fs::read_dir(program.place.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("d.") {
                fs::remove_dir_all(path).unwrap();
            }
        }
    }
}
