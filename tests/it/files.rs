//! File trees: what is read comes back, and nothing else is touched.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;
use wirevault::ErrorKind;
use wirevault::archive::{EntryEvent, EntryKind, EntryMeta, Selection, StreamRecord};
use wirevault::engines::SourceOutcome;
use wirevault::engines::files::judge::Judge;
use wirevault::engines::files::restore::{self, FilesRestoreOptions, FilesRestoreReport};
use wirevault::engines::files::{FilesOptions, FilesSource};
use wirevault::engines::sqlite::registry;

use crate::support::archives::{Vault, as_nobody};

/// What a path is, in words: kind, mode, owner, time, content or target, attributes, and the first of its names.
fn describe(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut names: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut paths = Vec::new();
    list(root, &mut paths);
    for path in paths {
        let meta = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let kind = meta.file_type();
        let content = if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            let first = names.entry(meta.ino()).or_insert_with(|| name.clone());
            format!(
                "{} bytes {:?} first {}",
                bytes.len(),
                blake(&bytes),
                first.escape_ascii()
            )
        } else if kind.is_symlink() {
            format!("to {:?}", fs::read_link(&path).unwrap())
        } else {
            format!("{kind:?}")
        };
        let mut attributes = Vec::new();
        if kind.is_file() || kind.is_dir() {
            for attribute in xattr::list(&path).unwrap() {
                attributes.push((attribute.clone(), xattr::get(&path, &attribute).unwrap()));
            }
        }
        attributes.sort();
        let text = format!(
            "{:o} {}:{} {}.{:09} {content} {attributes:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        found.insert(name, text);
    }
    found
}

fn blake(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn list(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), found);
        }
    }
}

/// Like `assert_eq`, but shows only what differs.
fn same(left: &BTreeMap<Vec<u8>, String>, right: &BTreeMap<Vec<u8>, String>) {
    let differ: Vec<_> = left
        .keys()
        .chain(right.keys())
        .filter(|path| left.get(*path) != right.get(*path))
        .map(|path| (path.escape_ascii().to_string(), left.get(path), right.get(path)))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
}

/// One of everything.
fn tree(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir(root.join("empty dir")).unwrap();
    fs::write(root.join("a/regular"), "hello").unwrap();
    fs::write(root.join("a/nothing"), "").unwrap();
    fs::write(root.join("a-b"), "sorts before a/").unwrap();
    let big: Vec<u8> = (0..3_500_000u32)
        .map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    fs::write(root.join("a/big"), big).unwrap();
    symlink("../nowhere", root.join("a/link")).unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    fs::write(root.join("first"), "two names").unwrap();
    fs::hard_link(root.join("first"), root.join("a/b/second")).unwrap();
    fs::hard_link(root.join("first"), root.join("zz third")).unwrap();
    fifo(&root.join("a/pipe"));
    let setuid = root.join("setuid");
    fs::write(&setuid, "x").unwrap();
    mode(&setuid, 0o4755);
    mode(&root.join("a/b"), 0o2711);
    mode(&root.join("empty dir"), 0o1777);
    xattr::set(root.join("a/regular"), "user.k", &[0, 1, 255, b'\n']).unwrap();
    xattr::set(root.join("a/b"), "user.dir", b"of a directory").unwrap();
    let odd = OsStr::from_bytes(b"caf\xe9 \x01\n'\"\\");
    fs::write(root.join(odd), "odd name").unwrap();
    fs::write(root.join("n".repeat(255)), "long name").unwrap();
    let mut deep = root.to_path_buf();
    for _ in 0..60 {
        deep.push("a directory");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("leaf"), "leaf").unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(20 << 20).unwrap();
    sparse.write_all_at(b"island", 5 << 20).unwrap();
    sparse.write_all_at(b"second", 12 << 20).unwrap();
    fs::File::create(root.join("hole")).unwrap().set_len(1 << 20).unwrap();
    fs::File::create(root.join(OsStr::from_bytes(b"hole\xff")))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    xattr::set(root.join("sparse"), "user.s", b"sparse").unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(root.join("a/regular"), Some(1234), Some(5678)).unwrap();
        std::os::unix::fs::lchown(root.join("a/link"), Some(1234), Some(5678)).unwrap();
        std::os::unix::fs::chown(&setuid, Some(1234), Some(0)).unwrap();
        mode(&setuid, 0o4755);
    }
    let mut paths = Vec::new();
    list(root, &mut paths);
    for (number, path) in paths.iter().rev().enumerate() {
        let number = i64::try_from(number).unwrap();
        set_time(path, 1_600_000_000 + number, 123_456_789);
    }
    set_time(&root.join("a/nothing"), -1_000_000_000, 999_999_999);
    set_time(&root.join("a/link"), -1, 1);
    set_time(&root.join("empty dir"), -5, 0);
    set_time(root, 1_500_000_000, 7);
}

fn source(root: &Path) -> FilesSource {
    FilesSource::new(FilesOptions {
        root: root.to_path_buf(),
        ..FilesOptions::default()
    })
    .unwrap()
}

async fn backup(root: &Path) -> (Vault, SourceOutcome) {
    let mut vault = Vault::new();
    let outcome = vault.backup(&source(root), Path::new("/nonexistent")).await.unwrap();
    (vault, outcome)
}

async fn put_back(
    vault: &Vault,
    target: &Path,
    options: &FilesRestoreOptions,
) -> wirevault::Result<FilesRestoreReport> {
    let options = FilesRestoreOptions {
        clean: true,
        ..options.clone()
    };
    restore::restore(
        vault.reader().await,
        target,
        &options,
        vault.reporter(),
        CancellationToken::new(),
    )
    .await
}

fn selected(paths: &[&str]) -> FilesRestoreOptions {
    FilesRestoreOptions {
        paths: paths.iter().map(|p| (*p).to_owned()).collect(),
        ..FilesRestoreOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_in_a_new_directory_and_sparse_stays_sparse() {
    let dir = tempfile::tempdir().unwrap();
    let (root, target) = (dir.path().join("root"), dir.path().join("target"));
    fs::create_dir(&root).unwrap();
    tree(&root);
    let before = describe(&root);
    let (vault, outcome) = backup(&root).await;
    assert_eq!(vault.reporter.notes(), Vec::<String>::new());
    assert_eq!(outcome.items, u64::try_from(before.len()).unwrap());
    let report = put_back(&vault, &target, &FilesRestoreOptions::default())
        .await
        .unwrap();
    assert_eq!(vault.reporter.notes(), Vec::<String>::new());
    assert_eq!(report.entries, outcome.items);
    same(&before, &describe(&target));
    let (was, is) = (root.metadata().unwrap(), target.metadata().unwrap());
    assert_eq!(
        (was.mode(), was.mtime(), was.mtime_nsec()),
        (is.mode(), is.mtime(), is.mtime_nsec())
    );
    for name in ["sparse", "hole"] {
        assert!(
            target.join(name).metadata().unwrap().blocks() * 512 < 1 << 18,
            "{name} takes its holes"
        );
    }
    // A second restore finds nothing to do.
    let again = put_back(&vault, &target, &FilesRestoreOptions::default())
        .await
        .unwrap();
    assert_eq!(again.bytes, 0, "{again:?}");
    same(&before, &describe(&target));
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_tar_makes_the_same_tree() {
    let dir = tempfile::tempdir().unwrap();
    let (root, target) = (dir.path().join("root"), dir.path().join("target"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&target).unwrap();
    tree(&root);
    let (vault, _) = backup(&root).await;
    let archive = dir.path().join("a.tar.zst");
    fs::write(&archive, vault.bytes().await).unwrap();
    let mut zstd = Command::new("zstd")
        .args(["-dcq"])
        .arg(&archive)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let tar = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "-xp", "-C"])
        .arg(&target)
        .stdin(zstd.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(zstd.wait().unwrap().success());
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    let mut found = describe(&target);
    found.retain(|path, _| path != b"README.txt" && !path.starts_with(b"wirevault"));
    same(&describe(&root), &found);
    assert!(target.join("sparse").metadata().unwrap().blocks() * 512 < 1 << 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_mends_what_changed_keeps_what_is_new_and_can_be_undone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    tree(&root);
    let before = describe(&root);
    let (vault, _) = backup(&root).await;
    for delete in [false, true] {
        fs::write(root.join("a/regular"), "changed").unwrap();
        fs::remove_file(root.join("a/big")).unwrap();
        fs::remove_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b"), "a file where a directory was").unwrap();
        fs::remove_file(root.join("absolute")).unwrap();
        fs::write(root.join("absolute"), "a file where a link was").unwrap();
        fs::remove_file(root.join("first")).unwrap();
        fs::write(root.join("first"), "no link any more").unwrap();
        mode(&root.join("setuid"), 0o600);
        xattr::remove(root.join("sparse"), "user.s").unwrap();
        set_time(&root.join("sparse"), 1, 1);
        fs::create_dir_all(root.join("extra/dir")).unwrap();
        fs::write(root.join("extra/dir/file"), "extra").unwrap();
        fs::write(root.join("a/extra"), "extra").unwrap();
        let changed = describe(&root);
        let options = FilesRestoreOptions {
            delete,
            ..FilesRestoreOptions::default()
        };
        let report = put_back(&vault, &root, &options).await.unwrap();
        let mut after = describe(&root);
        assert_eq!(after.contains_key(b"extra/dir/file".as_slice()), !delete);
        // The file in place of the directory `a/b` is one that the backup does not know.
        assert_eq!(report.deleted, if delete { 3 } else { 0 });
        after.retain(|path, _| !path.starts_with(b"extra") && path != b"a/extra");
        same(&before, &after);
        restore::undo(&root, Some(&report.previous.unwrap())).await.unwrap();
        same(&without_dir_times(&changed), &without_dir_times(&describe(&root)));
        put_back(
            &vault,
            &root,
            &FilesRestoreOptions {
                delete: true,
                ..FilesRestoreOptions::default()
            },
        )
        .await
        .unwrap();
        same(&before, &describe(&root));
    }
}

/// Attributes and times of directories are not brought back by an undo.
fn without_dir_times(tree: &BTreeMap<Vec<u8>, String>) -> BTreeMap<Vec<u8>, String> {
    let mut tree = tree.clone();
    tree.retain(|_, text| !text.starts_with('4'));
    tree
}

#[tokio::test(flavor = "multi_thread")]
async fn selected_paths_alone_are_restored_with_whole_hard_links() {
    let dir = tempfile::tempdir().unwrap();
    let (root, target) = (dir.path().join("root"), dir.path().join("target"));
    fs::create_dir(&root).unwrap();
    tree(&root);
    let (vault, _) = backup(&root).await;
    let report = put_back(&vault, &target, &selected(&["a/regular"])).await.unwrap();
    assert_eq!(report.entries, 1);
    let names: Vec<_> = describe(&target).into_keys().collect();
    assert_eq!(names, [b"a".to_vec(), b"a/regular".to_vec()]);
    let error = put_back(&vault, &target, &selected(&["a/regulr"])).await.unwrap_err();
    assert_eq!(error.kind(), wirevault::ErrorKind::NotFound, "{}", error.chain());
    // Only the frames of what is selected are fetched.
    let reader = vault.reader().await;
    let target = dir.path().join("one");
    restore::restore(
        reader.clone(),
        &target,
        &selected(&["a/regular"]),
        vault.reporter(),
        CancellationToken::new(),
    )
    .await
    .unwrap();
    let all = vault.bytes().await.len();
    let fetched = usize::try_from(reader.fetched_bytes()).unwrap();
    assert!(fetched < all / 2, "{fetched} of {all}");
    // The first name stands in the archive with the data; here only others are wanted.
    let target = dir.path().join("links");
    put_back(&vault, &target, &selected(&["first", "zz third"]))
        .await
        .unwrap();
    let whole = describe(&target);
    assert_eq!(fs::read(target.join("first")).unwrap(), b"two names");
    assert_eq!(
        target.join("first").metadata().unwrap().ino(),
        target.join("zz third").metadata().unwrap().ino()
    );
    assert_eq!(whole.len(), 2);
    let sub = dir.path().join("sub");
    put_back(&vault, &sub, &selected(&["**/*third"])).await.unwrap();
    assert_eq!(fs::read(sub.join("zz third")).unwrap(), b"two names");
    assert_eq!(
        sub.join("zz third").metadata().unwrap().mtime(),
        root.join("first").metadata().unwrap().mtime()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_choose_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (root, target) = (dir.path().join("root"), dir.path().join("target"));
    for path in [
        ".env",
        "config/a.yml",
        "config/x.log",
        "config/node_modules/y",
        "other/z",
        "other/keep/me",
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let source = FilesSource::new(FilesOptions {
        root: root.clone(),
        include: [".env", "config/", "other/keep/*", "none/"].map(str::to_owned).to_vec(),
        exclude: ["*.log", "node_modules"].map(str::to_owned).to_vec(),
        ..FilesOptions::default()
    })
    .unwrap();
    let mut vault = Vault::new();
    let outcome = vault.backup(&source, dir.path()).await.unwrap();
    assert_eq!(vault.reporter.notes(), ["unmatched-pattern none/"]);
    assert_eq!(outcome.note_counts["unmatched-pattern"], 1);
    put_back(&vault, &target, &FilesRestoreOptions::default())
        .await
        .unwrap();
    let names: Vec<_> = describe(&target)
        .into_keys()
        .map(|n| String::from_utf8(n).unwrap())
        .collect();
    assert_eq!(
        names,
        [".env", "config", "config/a.yml", "other", "other/keep", "other/keep/me"]
    );
    // What the patterns leave out is not "extra".
    let options = FilesRestoreOptions {
        delete: true,
        ..FilesRestoreOptions::default()
    };
    fs::write(root.join("config/new"), "extra").unwrap();
    let report = put_back(&vault, &root, &options).await.unwrap();
    assert_eq!(report.deleted, 1);
    assert!(root.join("config/x.log").exists() && root.join("other/z").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_and_files_that_change_or_vanish_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (root, target) = (dir.path().join("root"), dir.path().join("target"));
    fs::create_dir(&root).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    fs::write(root.join("aa"), vec![7; 24 << 20]).unwrap();
    fs::write(root.join("log"), vec![1; 12 << 20]).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (writing, log) = (stop.clone(), root.join("log"));
    let writer = std::thread::spawn(move || {
        let mut shrink = false;
        while !writing.load(std::sync::atomic::Ordering::Relaxed) {
            let file = fs::File::options().append(true).open(&log).unwrap();
            if shrink {
                file.set_len(6 << 20).unwrap();
            } else {
                (&file).write_all(&vec![2; 7 << 20]).unwrap();
            }
            shrink = !shrink;
        }
    });
    // Where the writer does not get its turn while the file is read, nothing has changed: then it is read once more.
    let (vault, outcome) = loop {
        let (vault, outcome) = backup(&root).await;
        if outcome.note_counts.contains_key("changed") || writer.is_finished() {
            break (vault, outcome);
        }
    };
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(outcome.note_counts["skipped-socket"], 1);
    assert_eq!(outcome.note_counts["changed"], 1, "{:?}", vault.reporter.notes());
    put_back(&vault, &target, &FilesRestoreOptions::default())
        .await
        .unwrap();
    assert_eq!(fs::read(target.join("aa")).unwrap(), vec![7; 24 << 20]);
    let log = fs::read(target.join("log")).unwrap();
    assert!(log.iter().all(|b| *b <= 2) && !log.is_empty());
    assert!(!target.join("socket").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_archive_leaves_the_live_tree_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    tree(&root);
    let (vault, _) = backup(&root).await;
    fs::write(root.join("a/regular"), "changed").unwrap();
    fs::write(root.join("a/big"), "changed").unwrap();
    let before = describe(&root);
    vault.damage().await;
    let error = put_back(&vault, &root, &FilesRestoreOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), wirevault::ErrorKind::Corrupt, "{}", error.chain());
    same(&before, &describe(&root));
    let beside: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(beside, [root]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_killed_halfway_can_be_finished_or_undone() {
    for finish in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        tree(&root);
        let wanted = describe(&root);
        let (vault, _) = backup(&root).await;
        for name in ["a/regular", "a/big", "first", "setuid"] {
            fs::remove_file(root.join(name)).unwrap();
            fs::write(root.join(name), "changed").unwrap();
        }
        let changed = describe(&root);
        interrupt(&vault, &root).await;
        let options = FilesRestoreOptions::default();
        let (reader, reporter) = (vault.reader().await, vault.reporter());
        let again = restore::restore(reader, &root, &options, reporter, CancellationToken::new());
        let error = again.await.unwrap_err();
        assert!(
            error.chain().contains("an interrupted restore is in"),
            "{}",
            error.chain()
        );
        if finish {
            restore::finish_interrupted(&root).await.unwrap();
            same(&wanted, &describe(&root));
        } else {
            restore::undo(&root, None).await.unwrap();
            same(&without_dir_times(&changed), &without_dir_times(&describe(&root)));
        }
        assert!(restore::finish_interrupted(&root).await.is_err());
    }
}

/// Restores, and then makes it look as if the restore had been killed while it put files in place.
async fn interrupt(vault: &Vault, root: &Path) {
    let report = put_back(vault, root, &FilesRestoreOptions::default()).await.unwrap();
    let previous = report.previous.unwrap();
    // As it stood after some steps: the journal is back in the staging directory, and two files are still staged.
    let staging = root.join(".wirevault-restore-0000000000000001");
    fs::create_dir_all(staging.join("0")).unwrap();
    fs::rename(previous.join(".wirevault-restore-journal"), staging.join("journal")).unwrap();
    fs::write(staging.join("commit"), previous.as_os_str().as_bytes()).unwrap();
    for name in ["setuid", "a/big"] {
        let number = staged_number(&staging.join("journal"), name);
        fs::rename(root.join(name), staging.join(format!("0/{number}"))).unwrap();
        // One was moved away already, one not yet.
        if name == "setuid" {
            fs::rename(previous.join(name), root.join(name)).unwrap();
        }
    }
}

fn staged_number(journal: &Path, path: &str) -> u64 {
    let bytes = fs::read(journal).unwrap();
    let mut at = 0;
    while at < bytes.len() {
        let len = usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap();
        let step: serde_json::Value = serde_json::from_slice(&bytes[at + 4..at + 4 + len]).unwrap();
        let name: Vec<u8> = serde_json::from_value(step["path"].clone()).unwrap();
        if name == path.as_bytes() {
            return step["action"]["place"].as_u64().unwrap();
        }
        at += len + 8;
    }
    panic!("no step for {path}");
}

fn entry(path: &str, kind: EntryKind, link: Option<&str>) -> (EntryMeta, Vec<u8>) {
    let data = if kind == EntryKind::File {
        b"owned".to_vec()
    } else {
        Vec::new()
    };
    let meta = EntryMeta {
        kind,
        mode: 0o755,
        link: link.map(|l| l.as_bytes().to_vec()),
        device: matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice).then_some((1, 3)),
        ..EntryMeta::file(path, u64::try_from(data.len()).unwrap(), (1, 0))
    };
    (meta, data)
}

async fn hostile(entries: Vec<(EntryMeta, Vec<u8>)>) -> wirevault::Result<Vault> {
    let mut vault = Vault::new();
    let mut writer = vault.writer().await.into_sequential();
    let written = tokio::task::spawn_blocking(move || {
        for (meta, data) in entries {
            writer.begin_entry(&meta)?;
            writer.write(&data)?;
            writer.finish_entry(false)?;
        }
        writer.finish_stream(StreamRecord {
            stream: "files".to_owned(),
            prefixes: Vec::new(),
            chunks: 0,
            bytes: 0,
            rows: None,
            row_digest: None,
            facts: serde_json::json!({
                "root": "/x", "include": [], "exclude": [], "one_file_system": false,
                "mode": 0o755, "uid": 0, "gid": 0, "mtime": [1, 0],
            }),
        })?;
        Ok::<_, wirevault::Error>(writer)
    })
    .await
    .unwrap()?;
    vault.archives = written.finish().await?;
    Ok(vault)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_backup_writes_nothing_outside_and_nothing_at_all() {
    use EntryKind::{Directory, File, Hardlink, Symlink};
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "secret").unwrap();
    let out = secret.to_str().unwrap();
    let cases: Vec<(&str, Vec<_>)> = vec![
        (
            "through a link of its own",
            vec![entry("d", Symlink, Some(out)), entry("d/file", File, None)],
        ),
        (
            "link and directory",
            vec![
                entry("d", Symlink, Some(out)),
                entry("d/", Directory, None),
                entry("d/file", File, None),
            ],
        ),
        ("through a live link", vec![entry("live/file", File, None)]),
        ("climbing", vec![entry("../secret/file", File, None)]),
        ("absolute", vec![entry(&format!("{out}/file"), File, None)]),
        ("twice", vec![entry("a", Symlink, Some(out)), entry("a", File, None)]),
        ("out of order", vec![entry("b", File, None), entry("a", File, None)]),
        ("hard link out", vec![entry("h", Hardlink, Some("../secret/file"))]),
        (
            "hard link through a link",
            vec![entry("d", Symlink, Some(out)), entry("h", Hardlink, Some("d/file"))],
        ),
        (
            "hard link through a live link",
            vec![entry("h", Hardlink, Some("live/file"))],
        ),
        (
            "into the staging directory",
            vec![entry(".wirevault-restore-0/commit", File, None)],
        ),
    ];
    for (what, entries) in cases {
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        symlink(out, root.join("live")).unwrap();
        let before = describe(&root);
        if let Ok(vault) = hostile(entries).await {
            let error = put_back(&vault, &root, &FilesRestoreOptions::default())
                .await
                .expect_err(what);
            assert!(
                !error.chain().contains("Some files are restored"),
                "{what}: {}",
                error.chain()
            );
        }
        same(&before, &describe(&root));
        assert_eq!(fs::read(secret.join("file")).unwrap(), b"secret", "{what}");
        assert_eq!(fs::metadata(secret.join("file")).unwrap().nlink(), 1, "{what}");
        let mut beside: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        beside.sort();
        assert_eq!(beside, ["root", "secret"], "{what}");
        fs::remove_dir_all(&root).unwrap();
    }
}

/// Reads an archive as `verify` does at level content.
async fn judged(vault: &Vault) -> wirevault::Result<()> {
    let reader = vault.reader().await;
    let mut judge = Judge::open(&reader, "files", Vec::new()).await?;
    let mut entries = reader.entries(Selection::All);
    while let Some(event) = entries.next().await? {
        match event {
            EntryEvent::Begin(meta) => judge.begin(&meta, &reader).await?,
            EntryEvent::Data(data) => judge.data(&data)?,
            EntryEvent::End { .. } => judge.end()?,
        }
    }
    Ok(())
}

/// "ok" at level content means that a restore takes it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_refuses_is_no_proven_content() {
    use EntryKind::{Directory, File, Hardlink, Symlink};
    let sparse = |map: &str| {
        let mut data = map.as_bytes().to_vec();
        data.resize(512, 0);
        data.extend_from_slice(b"owned");
        let (mut meta, _) = entry("s", File, None);
        meta.size_bytes = u64::try_from(data.len()).unwrap();
        meta.pax = [("major", "1"), ("minor", "0"), ("name", "s"), ("realsize", "1000")]
            .map(|(key, value)| (format!("GNU.sparse.{key}"), value.as_bytes().to_vec()))
            .into();
        (meta, data)
    };
    let cases: Vec<(&str, bool, Vec<_>)> = vec![
        ("climbing", false, vec![entry("../file", File, None)]),
        (
            "through a link of its own",
            false,
            vec![entry("d", Symlink, Some("/etc")), entry("d/file", File, None)],
        ),
        ("twice", false, vec![entry("a", File, None), entry("a", File, None)]),
        (
            "out of order",
            false,
            vec![entry("b", File, None), entry("a", File, None)],
        ),
        (
            "a further name of nothing",
            false,
            vec![entry("h", Hardlink, Some("a"))],
        ),
        (
            "a further name of what follows",
            false,
            vec![entry("a", Hardlink, Some("b")), entry("b", File, None)],
        ),
        (
            "a further name of a link",
            false,
            vec![entry("a", Symlink, Some("x")), entry("h", Hardlink, Some("a"))],
        ),
        ("data beyond the map", false, vec![sparse("1\n10\n2\n")]),
        ("a map that is none", false, vec![sparse("1\n10\nx\n")]),
        ("a segment behind the end", false, vec![sparse("1\n999\n5\n")]),
        (
            "a good tree",
            true,
            vec![
                entry("d/", Directory, None),
                entry("d/file", File, None),
                entry("h", Hardlink, Some("d/file")),
                entry("l", Symlink, Some("../anywhere")),
                sparse("2\n10\n5\n1000\n0\n"),
            ],
        ),
    ];
    for (what, good, entries) in cases {
        let Ok(vault) = hostile(entries).await else {
            assert!(!good, "{what}");
            continue;
        };
        let dir = tempfile::tempdir().unwrap();
        let restored = put_back(&vault, &dir.path().join("root"), &FilesRestoreOptions::default()).await;
        let judged = judged(&vault).await;
        assert_eq!(restored.is_ok(), good, "{what}: {restored:?}");
        match judged {
            Ok(()) => assert!(good, "{what}"),
            Err(error) => assert!(!good && error.kind() == ErrorKind::Corrupt, "{what}: {}", error.chain()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn device_nodes_are_left_out_unless_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let vault = hostile(vec![
        entry("null", EntryKind::CharDevice, None),
        entry("x", EntryKind::File, None),
    ])
    .await
    .unwrap();
    put_back(&vault, &dir.path().join("t"), &FilesRestoreOptions::default())
        .await
        .unwrap();
    assert_eq!(vault.reporter.notes(), ["skipped-device null"]);
    assert!(!dir.path().join("t/null").exists() && dir.path().join("t/x").exists());
}

/// The locks of a process on a file are dropped when it closes any descriptor of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_walk_does_not_drop_the_locks_of_a_registered_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    fs::write(dir.path().join("other"), "x").unwrap();
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE t(x); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)")
        .unwrap();
    let _registered = registry::register(&path);
    let (vault, outcome) = backup(dir.path()).await;
    assert_eq!(outcome.items, 1, "{:?}", vault.reporter.notes());
    let other = Command::new("sqlite3")
        .arg(&path)
        .arg("PRAGMA busy_timeout=0; BEGIN IMMEDIATE;")
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("locked"),
        "the lock is gone: {other:?}"
    );
    db.execute_batch("COMMIT").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_restore_and_a_directory_in_the_way_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (root, target) = (dir.path().join("root"), dir.path().join("target"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), "1").unwrap();
    fs::write(root.join("x"), "a file").unwrap();
    let (vault, _) = backup(&root).await;
    fs::create_dir_all(target.join("x")).unwrap();
    fs::write(target.join("x/kept"), "kept").unwrap();
    let before = describe(&target);
    let error = put_back(&vault, &target, &FilesRestoreOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), wirevault::ErrorKind::AlreadyExists, "{}", error.chain());
    same(&before, &describe(&target));
    let other = fs::File::open(&root).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = put_back(&vault, &root, &FilesRestoreOptions::default())
        .await
        .unwrap_err();
    assert!(error.chain().contains("another restore"), "{}", error.chain());
}

#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>, u32),
    Link(Vec<u8>),
    Dir(Vec<(Vec<u8>, Node)>),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>().prop_filter("no separator", |b| *b != 0 && *b != b'/'), 1..6)
        .prop_filter("no dots", |n| n != b"." && n != b"..")
}

fn short_name() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(97u8..100, 1..2)
}

fn short_node() -> impl Strategy<Value = Node> {
    nodes(short_name().boxed())
}

fn node() -> impl Strategy<Value = Node> {
    nodes(name().boxed())
}

fn nodes(name: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..2000), 0u32..0o1000).prop_map(|(d, m)| Node::File(d, m)),
        name.clone().prop_map(Node::Link),
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        proptest::collection::vec((name.clone(), inner), 0..6).prop_map(Node::Dir)
    })
}

fn build(node: &Node, path: &Path) {
    match node {
        Node::File(data, bits) => {
            fs::write(path, data).unwrap();
            mode(path, *bits);
        }
        Node::Link(target) => symlink(OsStr::from_bytes(target), path).unwrap(),
        Node::Dir(children) => {
            fs::create_dir(path).unwrap();
            for (name, child) in children {
                let path = path.join(std::ffi::OsString::from_vec(name.clone()));
                if path.symlink_metadata().is_err() {
                    build(child, &path);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever tree is restored over whatever other tree of the same names, the backup's tree comes out.
    #[test]
    fn small_random_trees_come_back(
        children in proptest::collection::vec((name(), node()), 0..6),
        others in proptest::collection::vec((short_name(), short_node()), 0..6),
        kept in proptest::collection::vec((short_name(), short_node()), 0..6),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (root, target) = (dir.path().join("root"), dir.path().join("target"));
            build(&Node::Dir(children), &root);
            let before = describe(&root);
            let (vault, _) = backup(&root).await;
            put_back(&vault, &target, &FilesRestoreOptions::default()).await.unwrap();
            same(&before, &describe(&target));
            // Names of one letter meet: whatever stands in the way is replaced, or refused and left as it was.
            let (root, target) = (dir.path().join("others"), dir.path().join("kept"));
            build(&Node::Dir(others), &root);
            build(&Node::Dir(kept), &target);
            let (wanted, stood) = (describe(&root), describe(&target));
            let kept_nothing = fs::read_dir(&target).unwrap().next().is_none();
            let (vault, _) = backup(&root).await;
            let options = FilesRestoreOptions { delete: true, ..FilesRestoreOptions::default() };
            match put_back(&vault, &target, &options).await {
                Ok(report) => {
                    same(&wanted, &describe(&target));
                    // Nothing is kept where nothing was.
                    assert_eq!(report.previous.is_none(), kept_nothing);
                    if let Some(previous) = &report.previous {
                        restore::undo(&target, Some(previous)).await.unwrap();
                        same(&without_dir_times(&stood), &without_dir_times(&describe(&target)));
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), wirevault::ErrorKind::AlreadyExists, "{}", error.chain());
                    same(&stood, &describe(&target));
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_or_given_away_is_told() {
    if as_nobody("files::what_may_not_be_read_or_given_away_is_told") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, target) = (dir.path().join("root"), dir.path().join("target"));
    fs::create_dir_all(root.join("closed")).unwrap();
    fs::write(root.join("closed/file"), "x").unwrap();
    fs::write(root.join("open"), "x").unwrap();
    fs::write(root.join("secret"), "x").unwrap();
    mode(&root.join("secret"), 0);
    mode(&root.join("closed"), 0);
    let (vault, outcome) = backup(&root).await;
    mode(&root.join("closed"), 0o700);
    assert_eq!(vault.reporter.notes(), ["unreadable closed", "unreadable secret"]);
    assert_eq!((outcome.note_counts["unreadable"], outcome.items), (2, 2));
    put_back(&vault, &target, &FilesRestoreOptions::default())
        .await
        .unwrap();
    mode(&target.join("closed"), 0o700);
    assert_eq!(
        describe(&target).into_keys().collect::<Vec<_>>(),
        [b"closed".to_vec(), b"open".to_vec()]
    );
    // A program that would run as somebody else does not come back as one that runs as us.
    let mut setuid = entry("setuid", EntryKind::File, None);
    setuid.0.mode = 0o6755;
    let vault = hostile(vec![setuid]).await.unwrap();
    let target = dir.path().join("setuid target");
    put_back(&vault, &target, &FilesRestoreOptions::default())
        .await
        .unwrap();
    assert_eq!(target.join("setuid").metadata().unwrap().mode() & 0o7777, 0o755);
    assert!(
        vault.reporter.notes().contains(&"metadata-not-set setuid".to_owned()),
        "{:?}",
        vault.reporter.notes()
    );
}
