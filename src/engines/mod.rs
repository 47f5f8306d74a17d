//! Sources: what is backed up, each over its own protocol.
//!
//! A source reads through an [`ArchiveWriter`] and does not know where bytes go. Each has a codec (no I/O), a
//! connection, and a stream on top; restoring lives beside reading, because both know the same formats.

mod beside;
pub mod docker;
mod engine;
pub mod files;
mod flags;
mod kind;
pub(crate) mod own;
pub mod postgres;
mod proof;
pub mod redact;
pub mod redis;
mod registry;
mod restorer;
mod secrets;
mod spec;
pub mod sqlite;
mod transport;
pub(crate) mod url;

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub use crate::archive::SourceOutcome;
use crate::archive::{ArchiveWriter, Pipeline};
use crate::base::error::Result;
use crate::base::report::{Note, SharedReporter};
pub use engine::{Engine, PlanWord, RecoveryPhase};
pub use flags::{EngineFlags, Flags};
pub use kind::EngineKind;
pub use proof::{RestoreProof, ScratchReport, Stored};
pub use registry::Registry;
pub use restorer::{
    Document, GivenPlace, KeptSnapshot, RestoreChoices, RestoreReport, RestoreRequest, Restorer, Settle, SettleReport,
    TargetPlan, Tools,
};
pub use secrets::Secrets;
pub use spec::{Change, Member, Named, Occupied, ReceivedLog, Server, SourceSpec, Spec, SpecObject, Watched};

/// What a source gets for one backup.
#[derive(Debug)]
pub struct BackupContext {
    /// The source's name in the configuration; also the task name towards the reporter.
    pub name: String,
    /// Where its streams go. The source finishes it; on an error it just drops it and the caller aborts.
    pub writer: ArchiveWriter,
    /// Shared buffers and workers.
    pub pipeline: Pipeline,
    /// Progress and notes.
    pub reporter: SharedReporter,
    /// Ends the work early; the source then returns [`crate::ErrorKind::Cancelled`].
    pub cancel: CancellationToken,
    /// Parallel readers the source may use.
    pub parallel: usize,
    /// Directory for the named exceptions that need a local copy.
    pub spool_dir: PathBuf,
}

/// One line of `check`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: FindingLevel,
    /// What was found, in the error style.
    pub message: String,
    /// What the reader can do.
    pub hint: Option<String>,
}

/// Level of a [`Finding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingLevel {
    /// Something holds: it answers, with this version, size, method.
    Info,
    /// Worth knowing, and neither a success nor a fault: what cannot be done here, or was not looked at.
    Note,
    /// Works, but with a cost or a loss that is named.
    Warning,
    /// A backup would fail.
    Error,
}

/// Something that can be backed up.
#[async_trait]
pub trait Source: Send + Sync + std::fmt::Debug {
    /// Returns where it is, for people; no secrets.
    fn location(&self) -> String;

    /// Looks at configuration and access without reading data.
    async fn check(&self) -> Result<Vec<Finding>>;

    /// Reads everything into the writer and finishes it.
    async fn backup(&self, context: BackupContext) -> Result<SourceOutcome>;
}

/// Notes of one run: each goes to the reporter, and is counted by code for the manifest.
#[derive(Debug)]
pub struct Notes {
    task: String,
    reporter: SharedReporter,
    counts: std::sync::Mutex<BTreeMap<String, u64>>,
}

impl Notes {
    /// Makes an empty collection for a task.
    pub fn new(task: impl Into<String>, reporter: SharedReporter) -> Self {
        Self {
            task: task.into(),
            reporter,
            counts: std::sync::Mutex::default(),
        }
    }

    /// Reports and counts a note.
    pub fn add(&self, note: Note) {
        *self
            .counts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .entry(note.code.clone())
            .or_default() += 1;
        self.reporter.note(&self.task, note);
    }

    /// Returns the counts by code.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}
