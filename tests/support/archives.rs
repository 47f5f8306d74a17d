//! Backups of a source into memory, and what it told while it ran.

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;
use wirevault::archive::{ArchiveInfo, ArchiveOptions, ArchiveReader, ArchiveWriter, Compression, Pipeline};
use wirevault::base::memory::{MIB, MemoryPlan};
use wirevault::base::report::{Note, Reporter, SharedReporter};
use wirevault::engines::{BackupContext, Source, SourceOutcome};
use wirevault::storage::memory::MemoryStore;
use wirevault::storage::upload::UploadOptions;
use wirevault::storage::{ObjectKey, ObjectOptions, ObjectStore, PutMode, SharedStore};

/// Keeps notes.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<Note>>);

impl Recorder {
    /// Returns what the notes say.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|n| n.message.clone()).collect()
    }

    /// Returns the notes as `code object`, sorted.
    pub(crate) fn notes(&self) -> Vec<String> {
        let notes = self.0.lock().unwrap();
        let mut found: Vec<_> = notes.iter().map(|n| format!("{} {}", n.code, n.object)).collect();
        found.sort();
        found
    }
}

impl Reporter for Recorder {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn phase(&self, _: &str, _: &str) {}
    fn advance(&self, _: &str, _: u64, _: u64) {}
    fn note(&self, _: &str, note: Note) {
        self.0.lock().unwrap().push(note);
    }
    fn end(&self, _: &str, _: bool) {}
}

/// A store in memory with the archives of one source.
#[derive(Debug, Clone)]
pub(crate) struct Vault {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) pipeline: Pipeline,
    pub(crate) reporter: Arc<Recorder>,
    pub(crate) archives: Vec<ArchiveInfo>,
}

impl Vault {
    pub(crate) fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            pipeline: Pipeline::start(MemoryPlan::for_limit(96 * MIB, 2).unwrap()),
            reporter: Arc::default(),
            archives: Vec::new(),
        }
    }

    pub(crate) async fn writer(&self) -> ArchiveWriter {
        self.writer_to(self.store.clone()).await
    }

    /// As `writer`, through a wrapper of the store.
    pub(crate) async fn writer_to(&self, store: SharedStore) -> ArchiveWriter {
        let options = ArchiveOptions {
            prefix: ObjectKey::new("data/x/s").unwrap(),
            compression: Compression::Zstd(1),
            upload: UploadOptions::default(),
            max_index_bytes: 4 << 20,
            readme: "how to restore".to_owned(),
        };
        ArchiveWriter::create(store, &self.pipeline, options).await.unwrap()
    }

    /// Backs a source up.
    pub(crate) async fn backup(&mut self, source: &dyn Source, spool: &Path) -> wirevault::Result<SourceOutcome> {
        let context = BackupContext {
            name: "s".to_owned(),
            writer: self.writer().await,
            pipeline: self.pipeline.clone(),
            reporter: self.reporter(),
            cancel: CancellationToken::new(),
            parallel: 2,
            spool_dir: spool.to_path_buf(),
        };
        let outcome = source.backup(context).await?;
        self.archives.clone_from(&outcome.archives);
        Ok(outcome)
    }

    pub(crate) fn reporter(&self) -> SharedReporter {
        self.reporter.clone()
    }

    pub(crate) async fn reader(&self) -> ArchiveReader {
        ArchiveReader::open(self.store.clone(), &self.pipeline, self.archives.clone())
            .await
            .unwrap()
    }

    /// Returns the bytes of the first archive.
    pub(crate) async fn bytes(&self) -> Vec<u8> {
        self.store
            .get(&self.archives[0].archive.key, 1 << 30)
            .await
            .unwrap()
            .to_vec()
    }

    /// Flips bits of one byte in the middle of the first archive.
    pub(crate) async fn damage(&self) {
        let mut bytes = self.bytes().await;
        let at = bytes.len() / 2;
        bytes[at] ^= 0x55;
        let key = &self.archives[0].archive.key;
        self.store
            .put(key, bytes.into(), PutMode::Overwrite, &ObjectOptions::default())
            .await
            .unwrap();
    }
}

/// Runs the named test again as a user without rights, if this one is root. Returns whether it did.
pub(crate) fn as_nobody(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // The build directory may be closed to others.
    let program = dir.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let said = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", test])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.contains("1 passed"), "{text}");
    true
}
