//! Proofs of archives: reading them, and restoring them into a scratch place.

use std::fmt::Debug;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::archive::reader::Selection;
use crate::archive::{ArchiveReader, EntryEvent};
use crate::base::error::{Context, ErrorKind, Result};
use crate::engines::files::judge::Judge;
use crate::engines::{Document, EngineFlags, Tools};

/// An archive that is to be proven.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Name of its source.
    pub source: String,
    /// The snapshot that it is in.
    pub snapshot: String,
    /// The archive.
    pub reader: ArchiveReader,
    /// What the work is done with.
    pub tools: Tools,
    /// Flags that only one engine knows.
    pub flags: EngineFlags,
}

/// What a restore into a scratch place showed. Lines do not name the source.
#[derive(Debug, Default)]
pub struct RestoreProof {
    /// What came back, for people and programs.
    pub restored: Option<Box<dyn ScratchReport>>,
    /// Why the level is not reached, if it is not.
    pub why_not: Option<String>,
    /// What is not as it was stored.
    pub damage: Vec<String>,
    /// What was damaged before it was stored.
    pub integrity: Vec<String>,
    /// What the scratch server refused.
    pub refused: Vec<String>,
    /// What was not looked at.
    pub skipped: Vec<String>,
}

impl RestoreProof {
    /// Nothing was restored, and why.
    pub fn not_reached(why: impl Into<String>) -> Self {
        Self {
            why_not: Some(why.into()),
            ..Self::default()
        }
    }
}

/// What came back into a scratch place.
pub trait ScratchReport: Document + Debug + Send + Sync {
    /// Returns it for people, as one line without its end: "12 entries, every byte equal".
    fn text(&self) -> String;
}

impl Serialize for dyn ScratchReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.document().serialize(serializer)
    }
}

impl Stored {
    /// Decodes every frame and parses every entry; the reader compares digests as it goes.
    pub async fn read_everything(&self) -> Result<()> {
        self.read_and_judge(&mut []).await
    }

    /// As [`Self::read_everything`]; each judge looks at what belongs to its tree.
    pub(crate) async fn read_and_judge(&self, judges: &mut [Judge]) -> Result<()> {
        let mut entries = self.reader.entries(Selection::All);
        let mut path = Vec::new();
        loop {
            let act = |path: &[u8]| {
                format!(
                    "read source \"{}\" at entry \"{}\"",
                    self.source,
                    String::from_utf8_lossy(path)
                )
            };
            let event = self.tools.or_cancelled(entries.next()).await;
            match event.with_context(|| act(&path))? {
                None => return Ok(()),
                Some(EntryEvent::Begin(meta)) => {
                    path.clone_from(&meta.path);
                    for judge in &mut *judges {
                        judge.begin(&meta, &self.reader).await.with_context(|| act(&path))?;
                    }
                }
                Some(EntryEvent::Data(data)) => {
                    for judge in &mut *judges {
                        judge.data(&data).with_context(|| act(&path))?;
                    }
                }
                Some(EntryEvent::End { .. }) => {
                    for judge in &mut *judges {
                        judge.end().with_context(|| act(&path))?;
                    }
                }
            }
        }
    }

    /// Says what is done, for errors.
    pub(crate) fn act(&self) -> String {
        format!("read source \"{}\"", self.source)
    }
}

/// A spool directory without room is a reason, not damage.
pub(crate) fn room(restored: Result<RestoreProof>) -> Result<RestoreProof> {
    match restored {
        Err(error) if error.kind() == ErrorKind::LimitExceeded => Ok(RestoreProof::not_reached(format!(
            "not enough space in the spool directory ({}); use a larger one with --spool-dir; content was checked",
            error.chain()
        ))),
        other => other,
    }
}

/// Says that a scratch server did not take everything.
pub(crate) fn refused_by_server(items: usize) -> Option<String> {
    (items > 0).then(|| format!("the scratch server refused {items} items; the others were compared"))
}

/// A directory that only this process uses, removed with all that is in it.
#[derive(Debug)]
pub(crate) struct ScratchDirectory(Option<PathBuf>);

impl ScratchDirectory {
    pub(crate) fn create(spool_dir: &Path) -> Result<Self> {
        let name = format!("wirevault-verify-{:016x}", rand::random::<u64>());
        let path = spool_dir.join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("create scratch directory \"{}\"", path.display()))?;
        Ok(Self(Some(path)))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.clone().unwrap_or_default()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.clone().unwrap_or_default().join(name)
    }

    pub(crate) async fn remove(mut self) -> Result<()> {
        let Some(path) = self.0.take() else { return Ok(()) };
        let removed = tokio::fs::remove_dir_all(&path).await;
        removed.with_context(|| format!("remove scratch directory \"{}\"", path.display()))
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
