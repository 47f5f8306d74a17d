//! A restore over a tree makes it what the backup has: bytes, attributes, ACLs; what the backup has not goes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use wirevault::engines::files::restore::{self, FilesRestoreOptions, FilesRestoreReport};
use wirevault::engines::files::{FilesOptions, FilesSource};

use crate::support::archives::{Vault, as_nobody};
use crate::support::program::Program;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// An ACL that gives user 65534 something, as the kernel stores it.
fn acl(user: u16, group: u16) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in [
        (1u16, 7u16, u32::MAX),
        (2, user, 65_534),
        (4, group, u32::MAX),
        (16, user | group, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn set(path: &Path, name: &str, value: &[u8]) {
    xattr::set(path, name, value).unwrap_or_else(|error| panic!("{name} of {}: {error}", path.display()));
}

fn attributes(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let names = xattr::list(path).unwrap();
    names
        .map(|name| (name.clone(), xattr::get(path, &name).unwrap().unwrap()))
        .collect()
}

/// Everything of a tree that a backup keeps, its root included.
fn state(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().unwrap();
        let kind = meta.file_type();
        if kind.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let content = if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            format!(
                "{} bytes, sum {}",
                bytes.len(),
                bytes.iter().map(|b| u64::from(*b)).sum::<u64>()
            )
        } else if kind.is_symlink() {
            format!("to {:?}", fs::read_link(&path).unwrap())
        } else {
            format!("{kind:?}")
        };
        let name = path.strip_prefix(root).unwrap().to_path_buf();
        found.insert(
            name,
            format!(
                "{:o} {}:{} {}.{:09} {content} {:?}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec(),
                attributes(&path)
            ),
        );
    }
    found
}

#[track_caller]
fn same(left: &BTreeMap<PathBuf, String>, right: &BTreeMap<PathBuf, String>) {
    let all = left.keys().chain(right.keys());
    let differ: Vec<_> = all
        .filter(|path| left.get(*path) != right.get(*path))
        .map(|path| (path, left.get(path), right.get(path)))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

fn set_time(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: 5,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn node(path: &Path, kind: rustix::fs::FileType, device: u64) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, device).unwrap();
}

fn noise(len: u32) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect()
}

/// One of each thing that has attributes, all of the same time.
fn tree(root: &Path) {
    fs::create_dir_all(root.join("dir/below")).unwrap();
    fs::write(root.join("small"), "hello").unwrap();
    fs::write(root.join("dir/big"), noise(3_500_000)).unwrap();
    fs::write(root.join("dir/below/plain"), "plain").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    symlink("nowhere", root.join("link")).unwrap();
    node(&root.join("pipe"), rustix::fs::FileType::Fifo, 0);
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(4 << 20).unwrap();
    sparse.write_all_at(b"island", 1 << 20).unwrap();
    set(&root.join("small"), "user.keep", b"yes");
    set(&root.join("small"), ACCESS, &acl(6, 0));
    set(&root.join("pipe"), ACCESS, &acl(7, 0));
    set(&root.join("dir"), DEFAULT, &acl(5, 5));
    set(root, ACCESS, &acl(5, 4));
    set(root, DEFAULT, &acl(7, 1));
    set(root, "user.tag", b"root");
    if rustix::process::geteuid().is_root() {
        for name in ["link", "pipe", "dir"] {
            set(&root.join(name), "trusted.t", name.as_bytes());
        }
    }
    let mut paths: Vec<_> = state(root).into_keys().map(|path| root.join(path)).collect();
    paths.reverse();
    for path in paths {
        set_time(&path, 1_600_000_000);
    }
}

async fn backup(root: &Path) -> Vault {
    let options = FilesOptions {
        root: root.to_path_buf(),
        ..FilesOptions::default()
    };
    let mut vault = Vault::new();
    let source = FilesSource::new(options).unwrap();
    vault.backup(&source, Path::new("/nonexistent")).await.unwrap();
    assert_eq!(vault.reporter.notes(), Vec::<String>::new());
    vault
}

async fn put_back(vault: &Vault, target: &Path, options: &FilesRestoreOptions) -> FilesRestoreReport {
    let (reader, cancel) = (vault.reader().await, CancellationToken::new());
    let options = FilesRestoreOptions {
        clean: true,
        ..options.clone()
    };
    let done = restore::restore(reader, target, &options, vault.reporter(), cancel).await;
    assert_eq!(vault.reporter.notes(), Vec::<String>::new());
    done.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_come_back_in_a_new_directory_with_those_of_root_pipes_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let (root, target) = (dir.path().join("root"), dir.path().join("target"));
    fs::create_dir(&root).unwrap();
    tree(&root);
    let before = state(&root);
    assert!(before[Path::new("")].contains("posix_acl_default"), "{before:#?}");
    let vault = backup(&root).await;
    put_back(&vault, &target, &FilesRestoreOptions::default()).await;
    same(&before, &state(&target));
    // A default ACL of the place it goes to is inherited by what is made there, and must not stay.
    let target = dir.path().join("shared");
    fs::create_dir(&target).unwrap();
    set(&target, DEFAULT, &acl(7, 7));
    put_back(&vault, &target, &FilesRestoreOptions::default()).await;
    same(&before, &state(&target));
}

/// Writes other bytes into a file whose facts stay as they are.
fn damage(path: &Path, at: u64) {
    let meta = path.metadata().unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(b"!", at).unwrap();
    drop(file);
    set_time(path, meta.mtime());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_under_equal_facts_are_mended_unless_times_are_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    tree(&root);
    let before = state(&root);
    let vault = backup(&root).await;
    let inode = |name: &str| root.join(name).symlink_metadata().unwrap().ino();
    for (name, at) in [
        ("small", 0),
        ("dir/big", 0),
        ("dir/big", 3_499_999),
        ("sparse", 1 << 20),
        // Data where the backup has a hole, before and after the data.
        ("sparse", 100),
        ("sparse", (4 << 20) - 1),
    ] {
        damage(&root.join(name), at);
        let damaged = state(&root);
        let trusting = FilesRestoreOptions {
            trust_times: true,
            ..FilesRestoreOptions::default()
        };
        let report = put_back(&vault, &root, &trusting).await;
        assert_eq!(report.bytes, 0, "{name} {at}");
        same(&damaged, &state(&root));
        let others = [inode("empty"), inode("dir/below/plain"), inode("pipe"), inode("link")];
        let report = put_back(&vault, &root, &FilesRestoreOptions::default()).await;
        assert_eq!(report.written, 1, "{name} {at}: {report:?}");
        same(&before, &state(&root));
        // What is as it was is not made anew.
        let now = [inode("empty"), inode("dir/below/plain"), inode("pipe"), inode("link")];
        assert_eq!(others, now);
        fs::remove_dir_all(report.previous.unwrap()).unwrap();
    }
    // Zeros are a hole's content, however they are stored.
    let sparse = fs::File::options().write(true).open(root.join("sparse")).unwrap();
    sparse.write_all_at(&vec![0; 100_000], 2 << 20).unwrap();
    drop(sparse);
    set_time(&root.join("sparse"), 1_600_000_000);
    let report = put_back(&vault, &root, &FilesRestoreOptions::default()).await;
    assert_eq!(report.written, 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_added_to_rights_and_attributes_goes_and_an_undo_brings_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    tree(&root);
    let before = state(&root);
    let vault = backup(&root).await;
    for name in ["", "dir", "dir/below", "small", "empty", "pipe"] {
        let path = root.join(name);
        set(&path, ACCESS, &acl(7, 7));
        if path.is_dir() {
            set(&path, DEFAULT, &acl(7, 7));
        }
        if name != "pipe" {
            set(&path, "user.evil", b"1");
        }
    }
    xattr::remove(root.join("small"), "user.keep").unwrap();
    set(&root, "user.tag", b"other");
    xattr::remove(root.join("dir"), DEFAULT).unwrap();
    for path in ["small", "empty", "pipe"] {
        set_time(&root.join(path), 1_600_000_000);
    }
    let changed = state(&root);
    let report = put_back(&vault, &root, &FilesRestoreOptions::default()).await;
    same(&before, &state(&root));
    restore::undo(&root, Some(&report.previous.unwrap())).await.unwrap();
    let timeless = |state: BTreeMap<PathBuf, String>| -> BTreeMap<PathBuf, String> {
        // Times of directories are those of the undo.
        let cut = |text: String| {
            if text.starts_with('4') {
                let words = text.split(' ').enumerate().filter(|(at, _)| *at != 2);
                words.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
            } else {
                text
            }
        };
        state.into_iter().map(|(path, text)| (path, cut(text))).collect()
    };
    same(&timeless(changed), &timeless(state(&root)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_files_that_became_one_are_two_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    for name in ["a", "b", "linked"] {
        fs::write(root.join(name), "alike").unwrap();
    }
    fs::hard_link(root.join("linked"), root.join("other")).unwrap();
    for name in ["a", "b", "linked"] {
        set_time(&root.join(name), 1_600_000_000);
    }
    let vault = backup(&root).await;
    fs::remove_file(root.join("b")).unwrap();
    fs::hard_link(root.join("a"), root.join("b")).unwrap();
    let inode = |name: &str| root.join(name).metadata().unwrap().ino();
    let linked = inode("linked");
    put_back(&vault, &root, &FilesRestoreOptions::default()).await;
    assert_ne!(inode("a"), inode("b"));
    assert_eq!((inode("linked"), inode("other")), (linked, linked));
    assert_eq!(fs::read(root.join("b")).unwrap(), b"alike");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_without_its_target_is_mended_too() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("first"), noise(2_500_000)).unwrap();
    fs::hard_link(root.join("first"), root.join("second")).unwrap();
    set_time(&root.join("first"), 1_600_000_000);
    let vault = backup(&root).await;
    fs::remove_file(root.join("second")).unwrap();
    let mut damaged = noise(2_500_000);
    damaged[2_400_000] ^= 1;
    fs::write(root.join("second"), damaged).unwrap();
    let mode = root.join("first").metadata().unwrap().permissions();
    fs::set_permissions(root.join("second"), mode).unwrap();
    set_time(&root.join("second"), 1_600_000_000);
    let options = FilesRestoreOptions {
        paths: vec!["second".to_owned()],
        ..FilesRestoreOptions::default()
    };
    put_back(&vault, &root, &options).await;
    assert!(fs::read(root.join("second")).unwrap() == noise(2_500_000));
}

/// Device nodes need root; where the test has it, they come back once they are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn device_nodes_come_back_on_request_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let (root, target) = (dir.path().join("root"), dir.path().join("target"));
    fs::create_dir(&root).unwrap();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let null = rustix::fs::makedev(1, 3);
    node(&root.join("null"), rustix::fs::FileType::CharacterDevice, null);
    fs::set_permissions(root.join("null"), fs::Permissions::from_mode(0o666)).unwrap();
    let vault = backup(&root).await;
    let options = FilesRestoreOptions {
        devices: true,
        ..FilesRestoreOptions::default()
    };
    assert_eq!(put_back(&vault, &target, &options).await.written, 1);
    assert_eq!(target.join("null").symlink_metadata().unwrap().rdev(), null);
    assert_eq!(put_back(&vault, &target, &options).await.unchanged, 1);
    // Unasked it is named, and counts as lost.
    let other = dir.path().join("other");
    let (reader, cancel) = (vault.reader().await, CancellationToken::new());
    let unasked = FilesRestoreOptions {
        clean: true,
        ..FilesRestoreOptions::default()
    };
    let report = restore::restore(reader, &other, &unasked, vault.reporter(), cancel).await;
    assert_eq!(report.unwrap().lost, 1);
    assert_eq!(vault.reporter.notes(), ["skipped-device null"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_is_not_root_gets_acls_back_too() {
    if as_nobody("files_exact::an_owner_who_is_not_root_gets_acls_back_too") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, target) = (dir.path().join("root"), dir.path().join("target"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), "x").unwrap();
    set(&root.join("file"), ACCESS, &acl(7, 0));
    set(&root.join("file"), "user.x", b"1");
    let before = state(&root);
    let vault = backup(&root).await;
    put_back(&vault, &target, &FilesRestoreOptions::default()).await;
    same(&before, &state(&target));
}

#[test]
fn the_command_compares_content_unless_told_to_trust_times() {
    let program = Program::on_directory();
    let root = program.path("data");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("app.conf"), "port=8080").unwrap();
    set_time(&root.join("app.conf"), 1);
    program.expect(0, &["backup", "files:data"]);
    fs::write(root.join("app.conf"), "port=9090").unwrap();
    set_time(&root.join("app.conf"), 1);
    program.expect(0, &["restore", "latest", "--clean", "--trust-times"]);
    assert_eq!(fs::read(root.join("app.conf")).unwrap(), b"port=9090");
    program.expect(0, &["restore", "latest", "--clean"]);
    assert_eq!(fs::read(root.join("app.conf")).unwrap(), b"port=8080");
}
