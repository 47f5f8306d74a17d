//! The way back: what an engine is asked for, what brings a source back, and what it says of it.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::archive::{ArchiveReader, SourceOutcome};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::report::SharedReporter;
use crate::engines::redact::redact_url;
use crate::engines::{EngineFlags, EngineKind, Spec};

/// One source that is to come back.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Its name; also the task name towards the reporter.
    pub source: String,
    /// Its engine.
    pub kind: EngineKind,
    /// The snapshot that it comes from.
    pub snapshot: String,
    /// What the snapshot has of it.
    pub outcome: Option<SourceOutcome>,
    /// Where it goes, if that was given for this restore.
    pub into: Option<GivenPlace>,
    /// Where it belongs, by the word of this host.
    pub place: Option<Spec>,
    /// What it was by the word of the manifest: for names alone.
    pub called: Option<Spec>,
    /// Whether it comes back together with others.
    pub is_one_of_several: bool,
    /// Whether the configuration of this host asks for its device nodes.
    pub wants_devices: bool,
    /// How.
    pub options: RestoreChoices,
    /// What it works with.
    pub tools: Tools,
}

/// What was chosen for all sources of a restore.
#[derive(Debug, Clone, Default)]
pub struct RestoreChoices {
    /// Replace what is there.
    pub clean: bool,
    /// Remove files that the backup does not know.
    pub delete: bool,
    /// Only files that match these globs; all if there are none.
    pub paths: Vec<String>,
    /// Take files for unchanged by size and time.
    pub trust_times: bool,
    /// Make device nodes too.
    pub devices: bool,
    /// Connections or writers.
    pub parallel: usize,
    /// Whether nothing is going to be written.
    pub dry_run: bool,
    /// What only one engine knows.
    pub engines: EngineFlags,
}

/// What work on an archive needs beside it.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Progress and notes.
    pub reporter: SharedReporter,
    /// Ends the work early.
    pub cancel: CancellationToken,
    /// Directory for the named exceptions that need a local copy.
    pub spool_dir: PathBuf,
}

impl Tools {
    /// Awaits work, or fails as soon as a signal asks to end. Dropping the work must leave nothing half-done.
    pub async fn or_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        crate::base::cancel::or_cancelled(&self.cancel, work).await
    }
}

/// A place that was given for a restore: a URL, or a path.
#[derive(Debug, Clone)]
pub struct GivenPlace {
    /// As it was given.
    pub text: String,
    /// What it is by its engine, if it is the URL of one.
    pub spec: Option<Spec>,
}

impl GivenPlace {
    /// Returns the path that is meant; None if it is the URL of another engine than those of local paths.
    pub fn path(&self) -> Option<PathBuf> {
        const LOCAL: &[&str] = &["file://", "file:"];
        if let Some(spec) = &self.spec {
            return spec.local_path().map(Path::to_owned);
        }
        let rest = LOCAL.iter().find_map(|scheme| self.text.strip_prefix(scheme));
        Some(PathBuf::from(rest.unwrap_or(&self.text)))
    }

    /// Returns whether a directory is meant, below which a source keeps its name.
    pub fn is_directory(&self, path: &Path) -> bool {
        path.is_dir() || self.text.ends_with('/')
    }
}

impl RestoreRequest {
    /// The error for a place that the source cannot go into.
    pub fn cannot_go_into(&self, given: &GivenPlace) -> Error {
        self.cannot_go(&format!("\"{}\"", redact_url(&given.text)))
    }

    /// As [`Self::cannot_go_into`], with more to say of the place.
    pub fn cannot_go(&self, into: &str) -> Error {
        let message = format!("source \"{}\" of kind {} cannot go into {into}", self.source, self.kind);
        Error::invalid(message).with_hint(
            "Choose sources with --source: databases go into postgres://…, Redis servers into redis://… or file:PATH, files and \
             SQLite databases into a path.",
        )
    }

    /// The error for a source that has no place.
    pub fn has_no_place(&self) -> Error {
        Error::invalid(format!("no target for source \"{}\"", self.source))
    }

    /// Returns whether the target is looked at before the restore itself does it: where nothing is written afterwards, or
    /// another source before this one.
    pub fn looks_first(&self) -> bool {
        self.options.dry_run || self.is_one_of_several
    }
}

/// Brings one source back. It knows its target from the start; nothing is written before [`Restorer::restore`].
#[async_trait(?Send)]
pub trait Restorer: Debug + Send + Sync {
    /// Returns where the source goes, for people; no secrets.
    fn target(&self) -> String;

    /// Refuses a target that is occupied, as far as a look at this host says so.
    fn check_target(&self) -> Result<()> {
        Ok(())
    }

    /// Looks at archive and target, and refuses what the restore itself would refuse. None where nothing is to be said before.
    async fn plan(&mut self, reader: &ArchiveReader) -> Result<Option<Box<dyn TargetPlan>>>;

    /// Returns what the restore removes and cannot keep beside: the caller takes a snapshot of it, and says so by
    /// [`Self::is_kept`]. Whatever can refuse the restore is proven by then.
    async fn to_keep(&mut self) -> Result<Option<Spec>> {
        Ok(None)
    }

    /// Takes the snapshot of what is removed; refuses one that does not hold all of it. An engine that asks for one has to judge it.
    fn is_kept(&mut self, snapshot: KeptSnapshot) -> Result<()> {
        let message = format!(
            "snapshot {} may not contain everything that would be removed",
            snapshot.id
        );
        Err(Error::unsupported(message))
    }

    /// Brings the source back.
    async fn restore(self: Box<Self>, reader: ArchiveReader) -> Result<Box<dyn RestoreReport>>;

    /// Returns whether an earlier restore is settled with the archive at hand.
    fn settles_with_archive(&self) -> bool {
        false
    }

    /// Finishes or undoes the last restore into the target.
    async fn settle(self: Box<Self>, _how: Settle, _reader: Option<ArchiveReader>) -> Result<Box<dyn SettleReport>> {
        Err(Error::unsupported(
            "restores of this kind of source cannot be finished or undone",
        ))
    }
}

/// What becomes of an earlier restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// What an interrupted one left is finished.
    Finish,
    /// What it replaced is put back.
    Undo,
}

impl Settle {
    /// The error of an engine that does it not, by its kind.
    pub fn is_not_done(self, kind: &str) -> Error {
        match self {
            Self::Finish => Error::unsupported(format!("a restore of kind {kind} cannot be resumed"))
                .with_hint("It never replaces data with a partial restore: run it again without --resume."),
            Self::Undo => Error::unsupported(format!("a restore of kind {kind} cannot be undone with --undo")),
        }
    }
}

/// A snapshot of what a restore removes.
#[derive(Debug, Clone)]
pub struct KeptSnapshot {
    /// Its id.
    pub id: String,
    /// Codes of the notes that were made.
    pub notes: Vec<String>,
}

/// A report as an object of JSON; its keys are those of the engine (docs/json.md).
pub trait Document {
    /// Returns the object.
    fn document(&self) -> Value;
}

impl<T: Serialize> Document for T {
    fn document(&self) -> Value {
        serde_json::to_value(self).expect("the keys of a report are strings, and its numbers have a form in JSON")
    }
}

/// What was found out about a target before anything is written.
pub trait TargetPlan: Document + Debug + Send + Sync {
    /// Returns the bytes that would be written, if that is known better than by the size of the backup.
    fn bytes(&self) -> Option<u64> {
        None
    }

    /// Returns it for people: lines that are indented by two blanks.
    fn text(&self) -> String;
}

/// What a restore did.
pub trait RestoreReport: Document + Debug + Send + Sync {
    /// Returns the bytes that were written, for people.
    fn bytes(&self) -> u64;

    /// Returns where it went, if that is known better than by the target.
    fn place(&self) -> Option<String> {
        None
    }

    /// Returns a line for each item that did not come back, and one for what is not as it was.
    fn failures(&self) -> Vec<String> {
        Vec::new()
    }

    /// Says that what came back was damaged when it was stored.
    fn damage(&self) -> Option<&'static str> {
        None
    }

    /// Returns it for people: lines that are indented by two blanks.
    fn text(&self) -> String {
        String::new()
    }

    /// Returns what came back and how it is proven, for one line of a recovery.
    fn summary(&self) -> String {
        format!("{} bytes", self.bytes())
    }
}

/// What became of an earlier restore.
pub trait SettleReport: Document + Debug + Send + Sync {
    /// Returns a line for each item that failed.
    fn failures(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns it for people.
    fn text(&self, source: &str, how: Settle) -> String;
}

impl Serialize for dyn TargetPlan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.document().serialize(serializer)
    }
}

impl Serialize for dyn RestoreReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.document().serialize(serializer)
    }
}

impl Serialize for dyn SettleReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.document().serialize(serializer)
    }
}

/// Says where what was replaced is.
pub(crate) fn kept_text(previous: Option<&PathBuf>) -> String {
    previous.map_or_else(String::new, |previous| {
        format!("  the previous data is kept in {}\n", previous.display())
    })
}

/// Makes the directory that a path lies in.
pub(crate) fn make_parents(path: &Path) -> Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => std::fs::create_dir_all(parent).with_context(|| format!("create \"{}\"", parent.display())),
        None => Ok(()),
    }
}

/// The error for a target that is occupied.
pub(crate) fn occupied(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("\"{}\" {what}", path.display()))
        .with_hint("Add --clean to replace it (the previous data is kept), or choose another --into.")
}
