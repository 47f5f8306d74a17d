//! Puts a tree back: everything is staged and verified beside, and only then takes its place, by renames.
//!
//! The backup is not trusted: its paths may not climb, must ascend (so none stands twice), and none may lie below
//! something that is no directory. Staged files lie under numbers in `<root>/.wirevault-restore-<id>/`, on the same filesystem; what
//! they replace moves to `<root>.pre-restore-<time>/`. Damage found while staging removes what was staged and leaves the live
//! tree as it was; an error after that undoes the steps that were done. Files that differ are replaced only with
//! [`FilesRestoreOptions::clean`]. Files the backup does not know stay, unless [`FilesRestoreOptions::delete`] says
//! otherwise, and then only where the backup would have looked. A part of the root that lies on another filesystem is
//! refused: restore that directory on its own.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::apply::{Places, set_meta};
use super::beneath::{self, show};
use super::interrupted::{self, About, JOURNAL, clear_the_way, commit, end, lock, make_previous};
use super::journal::{DirMeta, JournalWriter};
use super::stage::Stager;
use super::walk::OWN_PREFIX;
use super::{STREAM, TreeFacts};
use crate::archive::ArchiveReader;
use crate::base::blocking::blocking;
use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::base::report::{Note, SharedReporter};
use crate::base::shown_path;

pub use super::interrupted::{Settled, finish, undo};

/// Options of a restore.
#[derive(Debug, Clone)]
pub struct FilesRestoreOptions {
    /// Task name towards the reporter.
    pub task: String,
    /// Globs of the paths to restore, as a source's includes; nothing here means everything.
    pub paths: Vec<String>,
    /// Takes a file for that of the backup where size, time, mode, owner and attributes are equal, without reading it.
    pub trust_times: bool,
    /// Replaces what is there and differs (it is kept beside); without it such a restore is refused before anything is
    /// touched.
    pub clean: bool,
    /// Moves away what the backup does not know, within what it would have taken.
    pub delete: bool,
    /// Makes device nodes (only as root).
    pub devices: bool,
    /// Name of the stream record that holds the tree's facts.
    pub stream: String,
    /// Where the tree's entries lie in the archive: empty, or a directory with its slash.
    pub prefix: Vec<u8>,
    /// What is restored, for whoever finds an interrupted restore: the id of a snapshot.
    pub origin: String,
}

impl Default for FilesRestoreOptions {
    fn default() -> Self {
        Self {
            task: STREAM.to_owned(),
            paths: Vec::new(),
            trust_times: false,
            clean: false,
            delete: false,
            devices: false,
            stream: STREAM.to_owned(),
            prefix: Vec::new(),
            origin: String::new(),
        }
    }
}

/// What a restore did. A field that an earlier release did not write is as of a restore that had nothing of the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct FilesRestoreReport {
    /// Entries of the backup that were selected.
    #[serde(skip)]
    pub entries: u64,
    /// Files, links and other things that were written.
    pub written: u64,
    /// Those of them that took the place of something.
    pub replaced: u64,
    /// Those that were there already.
    pub unchanged: u64,
    /// Those that were moved away because the backup does not know them.
    pub deleted: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Where what was replaced is kept, with the journal; pass it to [`undo`]. `None` where the target was empty.
    #[serde(serialize_with = "shown_path::optional")]
    pub previous: Option<PathBuf>,
    /// Notes made.
    #[serde(skip)]
    pub notes: u64,
    /// Those of them about something that could not be made as it was.
    pub lost: u64,
}

/// Restores a tree into `target`, which is made if it does not exist.
pub async fn restore(
    reader: ArchiveReader,
    target: &Path,
    options: &FilesRestoreOptions,
    reporter: SharedReporter,
    cancel: CancellationToken,
) -> Result<FilesRestoreReport> {
    let facts = facts_of(&reader, &options.stream).await?;
    let (target, options) = (target.to_path_buf(), options.clone());
    let runtime = tokio::runtime::Handle::current();
    let act = format!("restore into \"{}\"", target.display());
    blocking(move || run(&reader, &facts, &target, &options, &reporter, &cancel, &runtime))
        .await
        .context(act)
}

/// Returns what the archive says of a tree as a whole.
pub(super) async fn facts_of(reader: &ArchiveReader, stream: &str) -> Result<TreeFacts> {
    let record = reader.streams().await?.into_iter().find(|r| r.stream == stream);
    let record = record.ok_or_else(|| Error::corrupt("the archive holds no file tree"))?;
    serde_json::from_value(record.facts).map_err(|e| Error::corrupt("the tree's facts do not parse").with_cause(e))
}

fn run(
    reader: &ArchiveReader,
    facts: &TreeFacts,
    target: &Path,
    options: &FilesRestoreOptions,
    reporter: &SharedReporter,
    cancel: &CancellationToken,
    runtime: &tokio::runtime::Handle,
) -> Result<FilesRestoreReport> {
    std::fs::create_dir_all(target)?;
    let root = lock(target)?;
    clear_the_way(target, &root, options.clean, (&options.task, reporter))?;
    // Where nothing was, nothing is kept: whoever wants to undo removes the directory.
    let keep = std::fs::read_dir(target)?.next().is_some();
    let name = format!("{:016x}", rand::random::<u64>());
    let staging = target.join(format!("{}{name}", String::from_utf8_lossy(OWN_PREFIX)));
    DirBuilder::new()
        .mode(0o700)
        .create(&staging)
        .context("create the directory for staged files")?;
    let mut guard = Guard(Some(staging.clone()));
    let staged = OwnedFd::from(File::open(&staging)?);
    let journal = JournalWriter::create(&staging.join(JOURNAL))?;
    let mut stager = Stager::new(&root, &staged, journal, options, reporter)?;
    let root_meta = if options.paths.is_empty() && !facts.single_file {
        Some(root_meta(facts)?)
    } else {
        None
    };
    if let Some(new) = &root_meta {
        stager.plan_root(new, keep)?;
    }
    reporter.phase(&options.task, "stage");
    stager.stage_all(reader, facts, cancel, runtime)?;
    stager.differing.refuse(target)?;
    let Stager {
        journal, mut report, ..
    } = stager;
    journal.finish()?;
    let previous = make_previous(target)?;
    // One call makes every staged file durable; a call per file would take hours for millions.
    rustix::fs::syncfs(&staged)
        .map_err(beneath::io)
        .context("write the staged files to disk")?;
    let about = About {
        origin: options.origin.clone(),
        keep,
        root: root_meta,
    };
    commit(&staging, &previous, &about)?;
    guard.0 = None;
    reporter.phase(&options.task, "place");
    let places = Places {
        root,
        previous: OwnedFd::from(File::open(&previous)?),
        staged: Some(staged),
        aside: None,
    };
    let mut failures = BTreeSet::new();
    let journal = staging.join(JOURNAL);
    let done = places.finish(&journal, &mut |path, what| {
        if failures.insert(what.split(':').next().unwrap_or(what).to_owned()) {
            let path = if path.is_empty() { ".".to_owned() } else { show(path) };
            reporter.note(&options.task, Note::new("metadata-not-set", path, what));
        }
    });
    if let Err(cause) = done {
        return match interrupted::roll_back(&staging, &previous, &places) {
            Ok(()) => Err(cause.context("move files into place; all changes were reverted")),
            Err(second) => Err(second
                .context(cause.chain())
                .with_hint("Some files are restored and others are not: run the same restore with --undo.")),
        };
    }
    let failures = exact::u64_from(failures.len());
    report.notes += failures;
    report.lost += failures;
    end(&staging, &previous, keep)?;
    if let Some(meta) = &about.root {
        // The end of the staging directory changed the root's time; what could not be set was told before.
        set_meta(&places.root, meta, &mut |_| {});
    }
    rustix::fs::syncfs(&places.root)
        .map_err(beneath::io)
        .context("write the tree to disk")?;
    report.previous = keep.then_some(previous);
    Ok(report)
}

/// Returns what the root of the tree gets. Of a backup that did not read the root's attributes, those that are there stay.
pub(super) fn root_meta(facts: &TreeFacts) -> Result<DirMeta> {
    if [facts.uid, facts.gid].contains(&u32::MAX) {
        return Err(Error::corrupt("the backup's root has no valid owner: 4294967295"));
    }
    Ok(DirMeta {
        mode: facts.mode,
        uid: facts.uid,
        gid: facts.gid,
        mtime: facts.mtime,
        pax: facts.records()?,
        exact: facts.attributes.is_some(),
    })
}

/// Removes the staging directory unless the restore got beyond staging.
#[derive(Debug)]
struct Guard(Option<PathBuf>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Finishes a restore that was interrupted after everything was staged.
pub async fn finish_interrupted(target: &Path) -> Result<Settled> {
    interrupted::finish(target, STREAM, crate::base::report::silent()).await
}
