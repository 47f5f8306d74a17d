//! Odd files: each comes back as it was or is named, and none is the end of the others.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokio_util::sync::CancellationToken;
use wirevault::base::report::{Note, Reporter};
use wirevault::engines::files::restore::{self, FilesRestoreOptions};
use wirevault::engines::files::{FilesOptions, FilesSource};
use wirevault::engines::{BackupContext, Source, SourceOutcome};

use crate::support::archives::Vault;
use crate::support::program::Program;

fn source(root: &Path, include: &[&str]) -> FilesSource {
    FilesSource::new(FilesOptions {
        root: root.to_path_buf(),
        include: include.iter().map(|one| (*one).to_owned()).collect(),
        ..FilesOptions::default()
    })
    .unwrap()
}

async fn put_back(vault: &Vault, target: &Path) {
    let (reader, cancel) = (vault.reader().await, CancellationToken::new());
    let options = FilesRestoreOptions {
        clean: true,
        ..FilesRestoreOptions::default()
    };
    restore::restore(reader, target, &options, vault.reporter(), cancel)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_say_they_are_empty_are_read_to_their_end() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = Path::new("/proc/sys/kernel");
    assert_eq!(kernel.join("ostype").metadata().unwrap().len(), 0);
    let mut vault = Vault::new();
    let source = source(kernel, &["ostype", "osrelease"]);
    let outcome = vault.backup(&source, &dir.path().join("spool")).await.unwrap();
    assert_eq!(vault.reporter.notes(), Vec::<String>::new());
    put_back(&vault, &dir.path().join("out")).await;
    let mut bytes = 0;
    for name in ["ostype", "osrelease"] {
        let wanted = fs::read(kernel.join(name)).unwrap();
        assert!(!wanted.is_empty());
        bytes += u64::try_from(wanted.len()).unwrap();
        assert_eq!(fs::read(dir.path().join("out").join(name)).unwrap(), wanted, "{name}");
    }
    assert_eq!(outcome.raw_bytes, bytes);
}

/// Does something as soon as the first entry is stored, while the backup waits.
#[derive(Debug)]
struct AfterFirst(Mutex<Option<PathBuf>>);

impl Reporter for AfterFirst {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn phase(&self, _: &str, _: &str) {}
    fn note(&self, _: &str, _: Note) {}
    fn end(&self, _: &str, _: bool) {}
    fn advance(&self, _: &str, _: u64, items: u64) {
        let path = self.0.lock().unwrap().take_if(|_| items > 0);
        if let Some(path) = path {
            replace(&path);
        }
    }
}

/// Gives a file other bytes of the same number under the same time, until the filesystem's clock has moved.
fn replace(path: &Path) {
    let before = path.metadata().unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    let ctime = |meta: &fs::Metadata| (meta.ctime(), meta.ctime_nsec());
    loop {
        file.write_all_at(b"NEW", 0).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        if ctime(&path.metadata().unwrap()) != ctime(&before) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inode_that_is_not_what_it_was_is_no_further_name() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    for (first, second) in [("a", "z"), ("k", "l")] {
        fs::write(root.join(first), "OLD").unwrap();
        fs::hard_link(root.join(first), root.join(second)).unwrap();
    }
    let mut vault = Vault::new();
    let reporter = std::sync::Arc::new(AfterFirst(Mutex::new(Some(root.join("a")))));
    let context = BackupContext {
        name: "root".to_owned(),
        writer: vault.writer().await,
        pipeline: vault.pipeline.clone(),
        reporter,
        cancel: CancellationToken::new(),
        parallel: 1,
        spool_dir: dir.path().to_path_buf(),
    };
    let outcome: SourceOutcome = source(&root, &[]).backup(context).await.unwrap();
    assert_eq!(outcome.note_counts["link-as-copy"], 1);
    vault.archives = outcome.archives;
    let out = dir.path().join("out");
    put_back(&vault, &out).await;
    assert_eq!(fs::read(out.join("a")).unwrap(), b"OLD");
    assert_eq!(fs::read(out.join("z")).unwrap(), b"NEW");
    let inode = |name: &str| out.join(name).metadata().unwrap().ino();
    assert_eq!(inode("k"), inode("l"), "names of a file that stayed are one file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_too_long_is_named_and_the_others_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("good"), "good").unwrap();
    let name = "d".repeat(250);
    let mut at = OwnedFd::from(fs::File::open(&root).unwrap());
    for _ in 0..264 {
        rustix::fs::mkdirat(&at, &name, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        at = rustix::fs::openat(&at, &name, flags, rustix::fs::Mode::empty()).unwrap();
    }
    let mut vault = Vault::new();
    let outcome = vault.backup(&source(&root, &[]), dir.path()).await.unwrap();
    assert_eq!(outcome.note_counts["unreadable"], 1);
    // 65,536 bytes hold 261 such names with their slashes.
    assert_eq!(outcome.items, 1 + 261);
    let out = dir.path().join("out");
    put_back(&vault, &out).await;
    assert_eq!(fs::read(out.join("good")).unwrap(), b"good");
    let mut levels = 0;
    let mut at = OwnedFd::from(fs::File::open(&out).unwrap());
    while let Ok(next) = rustix::fs::openat(&at, &name, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()) {
        (at, levels) = (next, levels + 1);
    }
    assert_eq!(levels, 261);
}

/// Only tmpfs keeps so much: 650 kB of attributes come back, and what does not fit into a header is named alone.
#[tokio::test(flavor = "multi_thread")]
async fn many_extended_attributes_are_no_end() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let space = if rustix::process::geteuid().is_root() {
        "trusted"
    } else {
        "user"
    };
    for (name, count) in [("a", 0), ("many", 10), ("too many", 14), ("z", 0)] {
        fs::write(root.join(name), name).unwrap();
        for number in 0..count {
            let value = vec![u8::try_from(number).unwrap(); 65_000];
            xattr::set(root.join(name), format!("{space}.x{number:02}"), &value).unwrap();
        }
    }
    let mut vault = Vault::new();
    let outcome = vault.backup(&source(&root, &[]), dir.path()).await.unwrap();
    assert_eq!(outcome.items, 4);
    assert_eq!(outcome.note_counts["xattr-lost"], 2);
    let out = dir.path().join("out");
    put_back(&vault, &out).await;
    for (name, count) in [("a", 0), ("many", 10), ("too many", 12), ("z", 0)] {
        assert_eq!(fs::read_to_string(out.join(name)).unwrap(), name);
        assert_eq!(xattr::list(out.join(name)).unwrap().count(), count, "{name}");
    }
    assert_eq!(
        xattr::get(out.join("many"), format!("{space}.x07")).unwrap().unwrap(),
        vec![7; 65_000]
    );
}

/// What `cat` writes is the file, not what the archive keeps of it.
#[test]
fn a_file_is_written_to_standard_output_with_its_holes_and_by_any_of_its_names() {
    let program = Program::on_directory();
    let root = program.path("tree");
    fs::create_dir(&root).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    sparse.write_all_at(b"island", 1 << 20).unwrap();
    fs::hard_link(root.join("sparse"), root.join("also")).unwrap();
    program.expect(0, &["backup", &format!("files:{}", root.display())]);
    for name in ["sparse", "also"] {
        let said = program.run(&["cat", "latest", "tree", name]);
        assert!(said.status.success(), "{said:?}");
        let wanted = fs::read(root.join("sparse")).unwrap();
        assert!(said.stdout == wanted, "{name}: {} bytes", said.stdout.len());
    }
}
