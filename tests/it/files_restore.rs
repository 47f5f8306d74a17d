//! Restores into trees that hold something already: what differs is never overwritten unasked.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::program::{Program, assert_one_error};

/// A program with one snapshot of the tree `d`.
fn backed_up(make: impl FnOnce(&Path)) -> Program {
    let program = Program::on_directory();
    let root = program.path("d");
    fs::create_dir(&root).unwrap();
    make(&root);
    program.expect(0, &["backup", &format!("files:{}", root.display())]);
    program
}

/// Names below the program's directory, without the repository.
fn beside(program: &Program) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(program.place.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "repo")
        .collect();
    names.sort();
    names
}

#[test]
fn files_that_differ_are_counted_and_named_and_nothing_is_touched() {
    let program = backed_up(|root| {
        fs::create_dir(root.join("sub")).unwrap();
        for name in ["a", "b", "keep", "sub/c", "sub/d", "sub/e", "sub/f"] {
            fs::write(root.join(name), "old").unwrap();
        }
        symlink("a", root.join("link")).unwrap();
        fs::hard_link(root.join("a"), root.join("second")).unwrap();
    });
    let at = |name: &str| program.path("d").join(name);
    fs::write(at("a"), "newer work").unwrap();
    fs::remove_file(at("b")).unwrap();
    program.refused(&["restore", "latest"], "\"a\" differs from the backup", "--clean");
    fs::remove_file(at("link")).unwrap();
    symlink("keep", at("link")).unwrap();
    for name in ["sub/c", "sub/d", "sub/e", "sub/f"] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o640)).unwrap();
    }
    program.refused(
        &["restore", "latest"],
        "6 files differ from the backup: \"a\", \"link\", \"sub/c\", \"sub/d\", \"sub/e\" and 1 more",
        "--clean",
    );
    assert_eq!(fs::read_to_string(at("a")).unwrap(), "newer work");
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("keep"));
    assert!(!at("b").exists(), "not even what is missing comes back");
    assert_eq!(beside(&program), ["d"], "nothing is left beside");
    assert!(!fs::read_dir(program.path("d")).unwrap().any(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.starts_with(".wirevault")
    }));

    // What is missing alone, and then all of it.
    program.expect(0, &["restore", "latest", "--path", "b"]);
    assert_eq!(fs::read_to_string(at("b")).unwrap(), "old");
    assert_eq!(fs::read_to_string(at("a")).unwrap(), "newer work");
    program.expect(0, &["restore", "latest", "--clean"]);
    assert_eq!(fs::read_to_string(at("a")).unwrap(), "old");
    assert_eq!(
        fs::metadata(at("a")).unwrap().ino(),
        fs::metadata(at("second")).unwrap().ino()
    );
    // And nothing differs any more.
    program.expect(0, &["restore", "latest"]);
}

#[test]
fn other_kinds_rights_of_directories_and_broken_links_between_names_differ_too() {
    let program = backed_up(|root| {
        fs::create_dir(root.join("dir")).unwrap();
        fs::write(root.join("dir/x"), "x").unwrap();
        fs::write(root.join("one"), "one").unwrap();
        fs::hard_link(root.join("one"), root.join("two")).unwrap();
    });
    let at = |name: &str| program.path("d").join(name);
    let refused = |what: &str| program.refused(&["restore", "latest"], what, "--clean");

    fs::set_permissions(at("dir"), fs::Permissions::from_mode(0o700)).unwrap();
    refused("\"dir/\" differs from the backup");
    fs::set_permissions(at("dir"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(program.path("d"), fs::Permissions::from_mode(0o711)).unwrap();
    refused("\".\" differs from the backup");
    fs::set_permissions(program.path("d"), fs::Permissions::from_mode(0o755)).unwrap();

    // A new file under the further name: a link would replace it.
    fs::remove_file(at("two")).unwrap();
    fs::write(at("two"), "written since").unwrap();
    refused("\"two\" differs from the backup");
    assert_eq!(fs::read_to_string(at("two")).unwrap(), "written since");
    fs::remove_file(at("two")).unwrap();

    // A file where the backup has a directory.
    fs::remove_dir_all(at("dir")).unwrap();
    fs::write(at("dir"), "a file now").unwrap();
    refused("\"dir/\" differs from the backup");
    assert_eq!(fs::read_to_string(at("dir")).unwrap(), "a file now");
    program.expect(0, &["restore", "latest", "--clean"]);
    assert_eq!(fs::read_to_string(at("dir/x")).unwrap(), "x");
    assert_eq!(
        fs::metadata(at("one")).unwrap().ino(),
        fs::metadata(at("two")).unwrap().ino()
    );
}

#[test]
fn a_job_is_refused_as_a_whole_before_its_first_write() {
    let program = Program::on_directory();
    for name in ["one", "two"] {
        fs::create_dir(program.path(name)).unwrap();
        fs::write(program.path(name).join("f"), "old").unwrap();
    }
    let text = format!(
        "[source.one]\nkind = \"files\"\nroot = \"{}\"\n[source.two]\nkind = \"files\"\nroot = \"{}\"\n[job.j]\nsources = [\"one\", \"two\"]\n",
        program.path("one").display(),
        program.path("two").display()
    );
    fs::write(program.path("wirevault.toml"), text).unwrap();
    program.expect(0, &["backup"]);
    fs::remove_file(program.path("one/f")).unwrap();
    fs::write(program.path("two/f"), "newer").unwrap();
    let output = program.run(&["restore", "latest"]);
    assert_eq!(output.status.code(), Some(1));
    assert_one_error(
        &String::from_utf8_lossy(&output.stderr),
        "\"f\" differs from the backup",
        "--clean",
    );
    assert!(
        !program.path("one/f").exists(),
        "the other source was not touched either"
    );
    assert_eq!(fs::read_to_string(program.path("two/f")).unwrap(), "newer");
}

#[test]
fn a_dry_run_counts_what_would_change_and_checks_paths_and_space() {
    let program = backed_up(|root| {
        fs::create_dir(root.join("sub")).unwrap();
        for name in ["same", "changed", "sub/gone"] {
            fs::write(root.join(name), name).unwrap();
        }
        fs::hard_link(root.join("same"), root.join("same again")).unwrap();
        // Larger than the file system below.
        fs::write(root.join("big"), crate::support::program::noise(3 << 20)).unwrap();
    });
    let at = |name: &str| program.path("d").join(name);
    fs::write(at("changed"), "newer").unwrap();
    fs::remove_file(at("sub/gone")).unwrap();
    fs::write(at("sub/unknown"), "since then").unwrap();
    program.refused(&["restore", "latest", "--dry-run"], "\"changed\" differs", "--clean");
    let plan = |more: &[&str]| {
        let arguments = [&["restore", "latest", "--dry-run"], more].concat();
        let document = program.json(&arguments);
        let files = document["would_restore"][0]["files"].clone();
        let number = |key: &str| files[key].as_u64().unwrap();
        assert!(number("free_bytes") > number("bytes"));
        (
            (
                number("new"),
                number("replaced"),
                number("deleted"),
                number("unchanged"),
            ),
            number("bytes"),
        )
    };
    assert_eq!(plan(&["--clean"]), ((1, 1, 0, 3), 15));
    assert_eq!(plan(&["--clean", "--delete"]), ((1, 1, 1, 3), 15));
    assert_eq!(plan(&["--path", "sub/"]), ((1, 0, 0, 0), 8));
    assert_eq!(plan(&["--into", "elsewhere"]), ((5, 0, 0, 0), (3 << 20) + 19));
    let said = program.expect(0, &["restore", "latest", "--dry-run", "--clean", "--delete"]);
    assert!(said.contains("1 new, 1 replaced, 1 deleted, 3 unchanged"), "{said}");
    program.refused(
        &["restore", "latest", "--dry-run", "--path", "nothing/of/that"],
        "nothing in the backup matches",
        "relative to the root",
    );
    program.refused(
        &["restore", "latest", "--dry-run", "--path", "no", "--into", "elsewhere"],
        "nothing in the backup matches",
        "relative to the root",
    );
    assert_eq!(fs::read_to_string(at("changed")).unwrap(), "newer");
    assert!(!at("sub/gone").exists() && at("sub/unknown").exists());
    assert_eq!(beside(&program), ["d"], "nothing was made");
}

#[test]
fn a_dry_run_says_that_there_is_no_room() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let program = backed_up(|root| {
        fs::write(root.join("big"), crate::support::program::noise(3 << 20)).unwrap();
    });
    let small = program.path("small");
    fs::create_dir(&small).unwrap();
    let _mounted = SmallDisk::mount(&small);
    let into = ["restore", "latest", "--into", "small/d"];
    program.refused(&[&into[..], &["--dry-run"]].concat(), "are free at", "free space");
    program.refused(&into, "no space left", "");
    assert!(!small.join("d").join("big").exists());
}

#[test]
fn a_file_that_is_a_mount_point_is_named_and_nothing_is_changed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let program = backed_up(|root| {
        fs::write(root.join("a"), "1").unwrap();
        fs::write(root.join("f"), "1").unwrap();
    });
    let (root, other) = (program.path("d"), program.path("other"));
    fs::write(root.join("a"), "other").unwrap();
    fs::write(&other, "mounted").unwrap();
    let mounted = root.join("f");
    let mut bind = Command::new("mount");
    assert!(bind.arg("--bind").args([&other, &mounted]).status().unwrap().success());
    let _mounted = SmallDisk(&mounted);
    program.refused(&["restore", "latest", "--clean"], "mount point", "--into");
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "other");
    assert_eq!(fs::read_to_string(&other).unwrap(), "mounted");
}

/// A file system of 2 MiB that is unmounted with this.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(at);
        assert!(mount.status().unwrap().success());
        Self(at)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
