//! Puts a tree back: everything is staged and verified beside, and only then takes its place, by renames.
//!
//! The backup is not trusted: its paths may not climb, must ascend (so none stands twice), and none may lie below
//! something that is no directory. Staged files lie under numbers in `<root>/.wirevault-restore-<id>/`, on the same filesystem; what
//! they replace moves to `<root>.pre-restore-<time>/`. Damage found while staging removes what was staged and leaves the live
//! tree as it was; an error after that undoes the steps that were done. Files the backup does not know stay, unless
//! [`FilesRestoreOptions::delete`] says otherwise, and then only where the backup would have looked. A part of the
//! root that lies on another filesystem is refused: restore that directory on its own.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::apply::{Places, set_meta};
use super::beneath::{self, show};
use super::journal::{DirMeta, JournalWriter};
use super::stage::Stager;
use super::walk::{OWN_PREFIX, OWN_PREVIOUS_PREFIX};
use super::{STREAM, TreeFacts, blocking};
use crate::archive::ArchiveReader;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::report::{Note, SharedReporter};

/// Options of a restore.
#[derive(Debug, Clone)]
pub struct FilesRestoreOptions {
    /// Task name towards the reporter.
    pub task: String,
    /// Globs of the paths to restore, as a source's includes; nothing here means everything.
    pub paths: Vec<String>,
    /// Takes a file for that of the backup where size, time, mode, owner and attributes are equal, without reading it.
    pub trust_times: bool,
    /// Moves away what the backup does not know, within what it would have taken.
    pub delete: bool,
    /// Makes device nodes (only as root).
    pub devices: bool,
    /// Name of the stream record that holds the tree's facts.
    pub stream: String,
    /// Where the tree's entries lie in the archive: empty, or a directory with its slash.
    pub prefix: Vec<u8>,
}

impl Default for FilesRestoreOptions {
    fn default() -> Self {
        Self {
            task: STREAM.to_owned(),
            paths: Vec::new(),
            trust_times: false,
            delete: false,
            devices: false,
            stream: STREAM.to_owned(),
            prefix: Vec::new(),
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesRestoreReport {
    /// Entries of the backup that were selected.
    pub entries: u64,
    /// Files, links and other things that were written.
    pub written: u64,
    /// Those that were there already.
    pub unchanged: u64,
    /// Those that were moved away because the backup does not know them.
    pub deleted: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Where what was replaced is kept, with the journal; pass it to [`undo`]. `None` where the target was empty.
    pub previous: Option<PathBuf>,
    /// Notes made.
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
    let record = reader.streams().await?.into_iter().find(|r| r.stream == options.stream);
    let record = record.ok_or_else(|| Error::corrupt("the archive holds no file tree"))?;
    let facts: TreeFacts = serde_json::from_value(record.facts)
        .map_err(|e| Error::corrupt("the tree's facts do not parse").with_cause(e))?;
    let (target, options) = (target.to_path_buf(), options.clone());
    let runtime = tokio::runtime::Handle::current();
    let act = format!("restore into \"{}\"", target.display());
    blocking(move || run(&reader, &facts, &target, &options, &reporter, &cancel, &runtime))
        .await
        .context(act)
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
    clear_the_way(target)?;
    // Where nothing was, nothing is kept: whoever wants to undo removes the directory.
    let keep = std::fs::read_dir(target)?.next().is_some();
    let name = format!("{:016x}", rand::random::<u64>());
    let staging = target.join(format!("{}{name}", String::from_utf8_lossy(OWN_PREFIX)));
    DirBuilder::new()
        .mode(0o700)
        .create(&staging)
        .context("make the directory for staged files")?;
    let mut guard = Guard(Some(staging.clone()));
    let staged = OwnedFd::from(File::open(&staging)?);
    let journal = JournalWriter::create(&staging.join("journal"))?;
    let mut stager = Stager::new(&root, &staged, journal, options, reporter)?;
    let root_meta = if options.paths.is_empty() && !facts.single_file {
        Some(root_meta(facts)?)
    } else {
        None
    };
    if let Some(new) = &root_meta {
        stager.plan_root(new)?;
    }
    reporter.phase(&options.task, "stage");
    stager.stage_all(reader, facts, cancel, runtime)?;
    let Stager {
        journal, mut report, ..
    } = stager;
    journal.finish()?;
    let previous = make_previous(target)?;
    // One call makes every staged file durable; a call per file would take hours for millions.
    rustix::fs::syncfs(&staged)
        .map_err(beneath::io)
        .context("write the staged files to disk")?;
    commit(&staging, &previous)?;
    guard.0 = None;
    reporter.phase(&options.task, "place");
    let places = Places {
        root,
        previous: OwnedFd::from(File::open(&previous)?),
        staged: Some(staged),
    };
    let mut failures = BTreeSet::new();
    let journal = staging.join("journal");
    let done = places.finish(&journal, &mut |path, what| {
        if failures.insert(what.split(':').next().unwrap_or(what).to_owned()) {
            let path = if path.is_empty() { ".".to_owned() } else { show(path) };
            reporter.note(&options.task, Note::new("metadata-not-set", path, what));
        }
    });
    if let Err(cause) = done {
        return match places.undo(&journal).and_then(|()| end(&staging, &previous, false)) {
            Ok(()) => Err(cause.context("put files in place; everything is back as it was")),
            Err(second) => Err(second
                .context(cause.chain())
                .with_hint("Files stand half restored: finish or undo the restore.")),
        };
    }
    let failures = u64::try_from(failures.len()).unwrap_or(0);
    report.notes += failures;
    report.lost += failures;
    end(&staging, &previous, keep)?;
    if let Some(meta) = root_meta {
        // The end of the staging directory changed the root's time; what could not be set was told before.
        set_meta(&places.root, &meta, &mut |_| {});
    }
    rustix::fs::syncfs(&places.root)
        .map_err(beneath::io)
        .context("write the tree to disk")?;
    report.previous = keep.then_some(previous);
    Ok(report)
}

/// Returns what the root of the tree gets. Of a backup that did not read the root's attributes, those that are there stay.
fn root_meta(facts: &TreeFacts) -> Result<DirMeta> {
    if [facts.uid, facts.gid].contains(&u32::MAX) {
        return Err(Error::corrupt(
            "the backup's root belongs to nobody: 4294967295 is no owner",
        ));
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

/// Returns the staging directories in a root, and whether each was committed.
fn stagings(target: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(target)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(OWN_PREFIX) && entry.file_type()?.is_dir() {
            found.push((entry.path(), entry.path().join("commit").exists()));
        }
    }
    Ok(found)
}

/// Opens the root and keeps other restores out of it until it is closed: they would take what is staged for leavings.
fn lock(target: &Path) -> Result<OwnedFd> {
    let root = OwnedFd::from(File::open(target).with_context(|| format!("open \"{}\"", target.display()))?);
    match rustix::fs::flock(&root, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Error::new(
            ErrorKind::PreconditionFailed,
            format!("another restore into \"{}\" is running", target.display()),
        )
        .with_hint("Wait for it to end. Nothing was changed.")),
        // A filesystem without such locks.
        _ => Ok(root),
    }
}

fn clear_the_way(target: &Path) -> Result<()> {
    for (path, committed) in stagings(target)? {
        if committed {
            return Err(Error::new(
                ErrorKind::PreconditionFailed,
                format!("an interrupted restore is in \"{}\"", path.display()),
            )
            .with_hint("Finish or undo it first."));
        }
        std::fs::remove_dir_all(&path)?;
    }
    Ok(())
}

/// Makes the directory for what is replaced: beside the root, or inside it where that is not possible.
fn make_previous(target: &Path) -> Result<PathBuf> {
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string();
    let device = |path: &Path| rustix::fs::stat(path).map(|s| s.st_dev).ok();
    let target = std::fs::canonicalize(target)?;
    if let Some(name) = target.file_name() {
        let mut beside = name.to_owned();
        beside.push(format!(".pre-restore-{time}"));
        let beside = target.with_file_name(beside);
        if DirBuilder::new().mode(0o700).create(&beside).is_ok() {
            if device(&beside) == device(&target) {
                return Ok(beside);
            }
            let _ = std::fs::remove_dir(&beside);
        }
    }
    let inside = target.join(format!("{}{time}", String::from_utf8_lossy(OWN_PREVIOUS_PREFIX)));
    DirBuilder::new()
        .mode(0o700)
        .create(&inside)
        .context("make the directory for previous files")?;
    Ok(inside)
}

fn commit(staging: &Path, previous: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let temporary = staging.join("commit.tmp");
    std::fs::write(&temporary, previous.as_os_str().as_bytes())?;
    File::open(&temporary)?.sync_all()?;
    std::fs::rename(&temporary, staging.join("commit"))?;
    File::open(staging)?.sync_all()?;
    Ok(())
}

/// Keeps the journal for a later undo, or forgets it, and removes the staging directory.
fn end(staging: &Path, previous: &Path, keep: bool) -> Result<()> {
    if keep {
        std::fs::rename(staging.join("journal"), previous.join(KEPT_JOURNAL))?;
    }
    std::fs::remove_dir_all(staging)?;
    if !keep {
        let _ = std::fs::remove_dir_all(previous);
    }
    Ok(())
}

/// The journal of a finished restore, among the previous files.
const KEPT_JOURNAL: &str = ".wirevault-restore-journal";

fn committed(target: &Path) -> Result<(PathBuf, PathBuf)> {
    use std::os::unix::ffi::OsStringExt;
    let staging = stagings(target)?.into_iter().find(|s| s.1).map(|s| s.0);
    let staging = staging.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("no interrupted restore in \"{}\"", target.display()),
        )
    })?;
    let previous = PathBuf::from(std::ffi::OsString::from_vec(std::fs::read(staging.join("commit"))?));
    Ok((staging, previous))
}

/// Finishes a restore that was interrupted after everything was staged.
pub async fn finish_interrupted(target: &Path) -> Result<PathBuf> {
    let target = target.to_path_buf();
    blocking(move || {
        let (staging, previous) = committed(&target)?;
        if staging.join("journal").exists() {
            let places = open_places(&target, &previous, Some(&staging))?;
            places.finish(&staging.join("journal"), &mut |_, _| {})?;
            end(&staging, &previous, true)?;
        } else {
            std::fs::remove_dir_all(&staging)?;
        }
        Ok(previous)
    })
    .await
}

/// Undoes a restore: an interrupted one, or, with `previous`, one that ended.
pub async fn undo(target: &Path, previous: Option<&Path>) -> Result<()> {
    let (target, previous) = (target.to_path_buf(), previous.map(Path::to_path_buf));
    blocking(move || {
        if let Some(previous) = previous {
            open_places(&target, &previous, None)?.undo(&previous.join(KEPT_JOURNAL))?;
            std::fs::remove_dir_all(&previous)?;
            return Ok(());
        }
        let (staging, previous) = committed(&target)?;
        open_places(&target, &previous, Some(&staging))?.undo(&staging.join("journal"))?;
        end(&staging, &previous, false)
    })
    .await
}

fn open_places(target: &Path, previous: &Path, staging: Option<&Path>) -> Result<Places> {
    let open = |path: &Path| -> Result<OwnedFd> {
        Ok(OwnedFd::from(
            File::open(path).with_context(|| format!("open \"{}\"", path.display()))?,
        ))
    };
    Ok(Places {
        root: lock(target)?,
        previous: open(previous)?,
        staged: staging.map(open).transpose()?,
    })
}
