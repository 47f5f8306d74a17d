//! Puts a tree back: everything is staged and verified beside, and only then takes its place, by renames.
//!
//! The backup is not trusted: its paths may not climb, must ascend (so none stands twice), and none may lie below
//! something that is no directory. Staged files lie under numbers in `<root>/.wirevault-restore-<id>/`, on the same filesystem; what
//! they replace moves to `<root>.pre-restore-<time>/`. Damage found while staging removes what was staged and leaves the live
//! tree as it was; an error after that undoes the steps that were done. Files the backup does not know stay, unless
//! [`FilesRestoreOptions::delete`] says otherwise, and then only where the backup would have looked. A part of the
//! root that lies on another filesystem is refused: restore that directory on its own.

use std::collections::{BTreeSet, HashMap};
use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::apply::{Places, set_meta, staged_name, times};
use super::beneath::{self, show};
use super::journal::{Action, DirMeta, JournalWriter, Step};
use super::patterns::Patterns;
use super::walk::{Found, OWN_PREFIX, OWN_PREVIOUS_PREFIX, WalkOptions, Walker};
use super::{STREAM, TreeFacts, blocking, sparse};
use crate::archive::reader::Selection;
use crate::archive::{ArchiveReader, EntryEvent, EntryKind, EntryMeta};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::report::{Note, SharedReporter};
use crate::sources::sqlite::registry;

/// Options of a restore.
#[derive(Debug, Clone)]
pub struct FilesRestoreOptions {
    /// Task name towards the reporter.
    pub task: String,
    /// Globs of the paths to restore, as a source's includes; nothing here means everything.
    pub paths: Vec<String>,
    /// Compares content even where size, time, mode and owner are equal.
    pub checksum: bool,
    /// Moves away what the backup does not know, within what it would have taken.
    pub delete: bool,
    /// Makes device nodes (only as root).
    pub devices: bool,
}

impl Default for FilesRestoreOptions {
    fn default() -> Self {
        Self {
            task: STREAM.to_owned(),
            paths: Vec::new(),
            checksum: false,
            delete: false,
            devices: false,
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
    /// Where what was replaced is kept, with the journal; pass it to [`undo`].
    pub previous: Option<PathBuf>,
    /// Notes made.
    pub notes: u64,
}

/// Restores a tree into `target`, which is made if it does not exist.
pub async fn restore(
    reader: ArchiveReader,
    target: &Path,
    options: &FilesRestoreOptions,
    reporter: SharedReporter,
    cancel: CancellationToken,
) -> Result<FilesRestoreReport> {
    let record = reader.streams().await?.into_iter().find(|r| r.stream == STREAM);
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
    let name = format!("{:016x}", rand::random::<u64>());
    let staging = target.join(format!("{}{name}", String::from_utf8_lossy(OWN_PREFIX)));
    DirBuilder::new()
        .mode(0o700)
        .create(&staging)
        .context("make the directory for staged files")?;
    let mut guard = Guard(Some(staging.clone()));
    let staged = OwnedFd::from(File::open(&staging)?);
    let mut stager = Stager {
        root: &root,
        root_device: rustix::fs::fstat(&root).map_err(beneath::io)?.st_dev,
        staged: &staged,
        journal: JournalWriter::create(&staging.join("journal"))?,
        number: 0,
        options,
        reporter,
        noted: BTreeSet::new(),
        parent: None,
        replaced: None,
        not_dirs: Vec::new(),
        last: Vec::new(),
        alone: HashMap::new(),
        alone_bytes: 0,
        report: FilesRestoreReport::default(),
        is_root: rustix::process::geteuid().is_root(),
    };
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
            reporter.note(&options.task, Note::new("metadata-not-set", show(path), what));
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
    report.notes += u64::try_from(failures.len()).unwrap_or(0);
    if options.paths.is_empty() {
        let meta = DirMeta {
            mode: facts.mode,
            uid: facts.uid,
            gid: facts.gid,
            mtime: facts.mtime,
            pax: std::collections::BTreeMap::new(),
        };
        end(&staging, &previous, true)?;
        set_meta(&places.root, &meta, &mut |_| {});
    } else {
        end(&staging, &previous, true)?;
    }
    rustix::fs::syncfs(&places.root)
        .map_err(beneath::io)
        .context("write the tree to disk")?;
    report.previous = Some(previous);
    Ok(report)
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

/// Stages entries and writes the journal.
#[derive(Debug)]
struct Stager<'a> {
    root: &'a OwnedFd,
    root_device: u64,
    staged: &'a OwnedFd,
    journal: JournalWriter,
    number: u64,
    options: &'a FilesRestoreOptions,
    reporter: &'a SharedReporter,
    /// Kinds of failure that were told already.
    noted: BTreeSet<String>,
    /// The live directory looked at last; `None` inside when it does not exist.
    parent: Option<(Vec<u8>, Option<OwnedFd>)>,
    /// The last directory of the backup that takes the place of something else.
    replaced: Option<Vec<u8>>,
    /// Entries that are no directories and whose paths begin the present one.
    not_dirs: Vec<Vec<u8>>,
    /// The last path, as it sorts.
    last: Vec<u8>,
    /// Targets of hard links that are not selected, and the path each was restored at instead.
    alone: HashMap<Vec<u8>, Vec<u8>>,
    alone_bytes: usize,
    report: FilesRestoreReport,
    is_root: bool,
}

/// Bytes of selected entries that are named one by one; beyond, the whole archive is read.
const MAX_CHOSEN_BYTES: usize = 8 << 20;

/// Chooses the entries to read by the index alone, so that one file of many costs its own frames.
fn choose(reader: &ArchiveReader, selection: &Patterns, runtime: &tokio::runtime::Handle) -> Result<Selection> {
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    runtime.block_on(reader.for_each_entry(&mut |entry| {
        let path = beneath::checked(&entry.path)?;
        if bytes <= MAX_CHOSEN_BYTES && selection.selects(path, entry.kind == EntryKind::Directory) {
            bytes += path.len() + 128;
            chosen.push(entry);
        }
        Ok(())
    }))?;
    Ok(if bytes > MAX_CHOSEN_BYTES {
        Selection::All
    } else {
        Selection::Entries(chosen)
    })
}

/// Bytes of remembered paths in [`Stager::alone`]; links to later targets become copies.
const MAX_ALONE_BYTES: usize = 4 << 20;

/// Returns the target of a hard link if it is not selected itself.
fn unselected_target(meta: &EntryMeta, selection: &Patterns) -> Result<Option<Vec<u8>>> {
    if meta.kind != EntryKind::Hardlink {
        return Ok(None);
    }
    let target = beneath::checked(meta.link.as_deref().unwrap_or_default())?;
    Ok((!selection.selects(target, false)).then(|| target.to_vec()))
}

/// A file being staged.
#[derive(Debug)]
struct Staging {
    meta: EntryMeta,
    number: u64,
    file: File,
    at: u64,
    real_size: u64,
    map: Option<sparse::MapParser>,
    segments: Vec<sparse::Segment>,
    segment: usize,
    existed: bool,
    compare: bool,
}

impl Stager<'_> {
    fn stage_all(
        &mut self,
        reader: &ArchiveReader,
        facts: &TreeFacts,
        cancel: &CancellationToken,
        runtime: &tokio::runtime::Handle,
    ) -> Result<()> {
        let selection = Patterns::new(&self.options.paths, &[])?;
        let covered = Patterns::new(&facts.include, &facts.exclude)?;
        let mut live = None;
        if self.options.delete {
            let walk = WalkOptions {
                one_file_system: true,
                ..WalkOptions::default()
            };
            live = Some(Extras {
                walker: Walker::new(self.root.as_fd(), &covered, walk)?,
                next: None,
                leaving: Vec::new(),
            });
        }
        let wanted = if self.options.paths.is_empty() || self.options.delete {
            Selection::All
        } else {
            choose(reader, &selection, runtime)?
        };
        let mut entries = reader.entries(wanted);
        let mut open: Option<Staging> = None;
        while let Some(event) = runtime.block_on(entries.next())? {
            if cancel.is_cancelled() {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    "cancelled; the live tree was not touched",
                ));
            }
            match event {
                EntryEvent::Begin(meta) => {
                    let path = self.judge(&meta)?;
                    if let Some(live) = &mut live {
                        self.remove_extras(live, Some(&self.last.clone()), &selection)?;
                    }
                    if selection.selects(&path, meta.kind == EntryKind::Directory) {
                        self.report.entries += 1;
                        open = match unselected_target(&meta, &selection)? {
                            Some(target) => self.stage_alone(reader, runtime, meta, path, target).map(|()| None)?,
                            None => self.begin(meta, path)?,
                        };
                    }
                }
                EntryEvent::Data(data) => {
                    if let Some(staging) = &mut open {
                        self.write(staging, &data)?;
                    }
                }
                EntryEvent::End { .. } => {
                    if let Some(staging) = open.take() {
                        self.end_file(staging)?;
                    }
                    self.reporter.advance(&self.options.task, 0, 1);
                }
            }
        }
        if let Some(live) = &mut live {
            self.remove_extras(live, None, &selection)?;
        }
        if self.report.entries == 0 && !self.options.paths.is_empty() {
            return Err(
                Error::new(ErrorKind::NotFound, "nothing in the backup matches the selected paths")
                    .with_hint("Nothing was changed. Paths are relative to the root of the backup."),
            );
        }
        Ok(())
    }

    fn write(&mut self, staging: &mut Staging, data: &[u8]) -> Result<()> {
        staging.write(data)?;
        let len = u64::try_from(data.len()).unwrap_or(0);
        self.report.bytes += len;
        self.reporter.advance(&self.options.task, len, 0);
        Ok(())
    }

    /// Stages a hard link whose target is not selected: its data is fetched, and further links to that target link
    /// to this path.
    fn stage_alone(
        &mut self,
        reader: &ArchiveReader,
        runtime: &tokio::runtime::Handle,
        mut meta: EntryMeta,
        path: Vec<u8>,
        target: Vec<u8>,
    ) -> Result<()> {
        let missing = || {
            Error::corrupt(format!(
                "the backup lacks the file \"{}\" that \"{}\" is a further name of",
                show(&target),
                show(&path)
            ))
        };
        if let Some(first) = self.alone.get(&target) {
            meta.link = Some(first.clone());
            return self.begin(meta, path).map(|_| ());
        }
        let found = runtime.block_on(reader.find(&target))?;
        let found = found.filter(|f| f.kind == EntryKind::File).ok_or_else(missing)?;
        let mut entries = reader.entries(Selection::Entries(vec![found]));
        let mut open = None;
        while let Some(event) = runtime.block_on(entries.next())? {
            match event {
                EntryEvent::Begin(first) => {
                    if first.kind != EntryKind::File {
                        return Err(missing());
                    }
                    open = self.begin(first, path.clone())?;
                }
                EntryEvent::Data(data) => {
                    if let Some(staging) = &mut open {
                        self.write(staging, &data)?;
                    }
                }
                EntryEvent::End { .. } => {
                    if let Some(staging) = open.take() {
                        self.end_file(staging)?;
                    }
                }
            }
        }
        let bytes = target.len() + path.len() + 128;
        if self.alone_bytes + bytes <= MAX_ALONE_BYTES {
            self.alone_bytes += bytes;
            self.alone.insert(target, path);
        }
        Ok(())
    }

    /// Checks an entry's path against everything before it, and returns it without a trailing slash.
    fn judge(&mut self, meta: &EntryMeta) -> Result<Vec<u8>> {
        let path = beneath::checked(&meta.path)?.to_vec();
        let mut sorted = path.clone();
        let is_dir = meta.kind == EntryKind::Directory;
        if is_dir {
            sorted.push(b'/');
        }
        if sorted <= self.last {
            return Err(Error::corrupt(format!(
                "the backup's path \"{}\" is out of order or stands twice",
                show(&path)
            )));
        }
        if path.starts_with(OWN_PREFIX) || path.starts_with(OWN_PREVIOUS_PREFIX) {
            return Err(Error::corrupt(format!(
                "the backup's path \"{}\" is one of this program's own",
                show(&path)
            )));
        }
        while self.not_dirs.last().is_some_and(|above| !path.starts_with(above)) {
            self.not_dirs.pop();
        }
        if self
            .not_dirs
            .iter()
            .any(|above| path.get(above.len()).is_none_or(|b| *b == b'/'))
        {
            return Err(Error::corrupt(format!(
                "the backup's path \"{}\" lies below something that is no directory",
                show(&path)
            ))
            .with_hint(
                "Nothing was written. Such a path was never written by this program; do not trust this backup.",
            ));
        }
        if !is_dir {
            self.not_dirs.push(path.clone());
        }
        self.last = sorted;
        Ok(path)
    }

    fn note_once(&mut self, code: &str, path: &[u8], message: String) {
        let kind = format!("{code} {}", message.split(':').next().unwrap_or_default());
        if self.noted.insert(kind) {
            self.note(code, path, message);
        }
    }

    fn note(&mut self, code: &str, path: &[u8], message: impl Into<String>) {
        self.report.notes += 1;
        self.reporter
            .note(&self.options.task, Note::new(code, show(path), message));
    }

    /// Returns what stands at a path of the live tree.
    fn live(&mut self, path: &[u8]) -> Result<Option<Stat>> {
        let (parent, name) = beneath::split(path);
        if self.parent.as_ref().is_none_or(|(known, _)| known != parent) {
            let fd = match beneath::open_dir(self.root, parent) {
                Ok(fd) => {
                    let device = rustix::fs::fstat(&fd).map_err(beneath::io)?.st_dev;
                    if device != self.root_device {
                        return Err(Error::unsupported(format!(
                            "\"{}\" lies on another filesystem than the root",
                            show(parent)
                        ))
                        .with_hint(
                            "Restore that directory on its own, or choose paths outside it. Nothing was changed.",
                        ));
                    }
                    Some(fd)
                }
                Err(Errno::NOENT) => None,
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let replaced = self.replaced.as_ref();
                    if !replaced
                        .is_some_and(|r| parent == r || parent.starts_with(r) && parent.get(r.len()) == Some(&b'/'))
                    {
                        return Err(Error::new(
                            ErrorKind::Denied,
                            format!("\"{}\" leads through a link or a file in the live tree", show(path)),
                        )
                        .with_hint(
                            "Nothing was changed. Select the directory too, or remove what stands in its place.",
                        ));
                    }
                    None
                }
                Err(errno) => return Err(beneath::io(errno)),
            };
            self.parent = Some((parent.to_vec(), fd));
        }
        match &self.parent {
            Some((_, Some(fd))) => beneath::stat(fd, name),
            _ => Ok(None),
        }
    }

    /// Plans one entry. Returns a file that waits for its data.
    fn begin(&mut self, meta: EntryMeta, path: Vec<u8>) -> Result<Option<Staging>> {
        let live = self.live(&path)?;
        let kind = live.map(|s| FileType::from_raw_mode(s.st_mode));
        if meta.kind == EntryKind::Directory {
            return self.plan_dir(meta, path, live).map(|()| None);
        }
        if kind == Some(FileType::Directory) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("the live \"{}\" is a directory, the backup's is not", show(&path)),
            )
            .with_hint("Nothing was changed. Move the directory away, or restore into another one."));
        }
        if let (Some(stat), Some((_, Some(dir)))) = (&live, &self.parent) {
            let dir = rustix::fs::fstat(dir).map_err(beneath::io)?;
            if registry::is_registered(
                (dir.st_dev, dir.st_ino),
                beneath::split(&path).1,
                (stat.st_dev, stat.st_ino),
            ) {
                self.note(
                    "left-out-sqlite",
                    &path,
                    "belongs to a SQLite database that has its own source and stays as it is",
                );
                return Ok(None);
            }
        }
        let existed = live.is_some();
        if meta.kind == EntryKind::Hardlink {
            let target = beneath::checked(meta.link.as_deref().unwrap_or_default())?.to_vec();
            self.report.written += 1;
            return self
                .journal
                .add(&Step {
                    path,
                    existed,
                    action: Action::Link(target),
                })
                .map(|()| None);
        }
        if live.is_some_and(|stat| self.is_same(&meta, &path, &stat))
            && !(self.options.checksum && meta.kind == EntryKind::File)
        {
            self.report.unchanged += 1;
            return Ok(None);
        }
        if meta.kind == EntryKind::File {
            let compare = self.options.checksum && live.is_some_and(|stat| self.is_same(&meta, &path, &stat));
            return self.begin_file(meta, path, existed, compare).map(Some);
        }
        if self.stage_special(&meta, &path)? {
            self.report.written += 1;
            self.journal.add(&Step {
                path,
                existed,
                action: Action::Place(self.number - 1),
            })?;
        }
        Ok(None)
    }

    fn plan_dir(&mut self, meta: EntryMeta, path: Vec<u8>, live: Option<Stat>) -> Result<()> {
        let is_dir = live.is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
        if live.is_some() && !is_dir {
            self.replaced = Some(path.clone());
        }
        let old = live.filter(|_| is_dir).map(|s| dir_meta(&s));
        let mut pax = meta.pax;
        pax.retain(|key, _| key.starts_with(super::attrs::PREFIX));
        let new = DirMeta {
            mode: meta.mode & 0o7777,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            pax,
        };
        self.journal.add(&Step {
            path,
            existed: live.is_some(),
            action: Action::Directory { new, old },
        })
    }

    fn is_same(&self, meta: &EntryMeta, path: &[u8], stat: &Stat) -> bool {
        let owner = !self.is_root || (stat.st_uid, stat.st_gid) == (meta.uid, meta.gid);
        let mode = stat.st_mode & 0o7777 == meta.mode & 0o7777;
        let mtime = stat.st_mtime == meta.mtime.0 && u32::try_from(stat.st_mtime_nsec).is_ok_and(|n| n == meta.mtime.1);
        match (meta.kind, FileType::from_raw_mode(stat.st_mode)) {
            (EntryKind::File, FileType::RegularFile) => {
                let size = sparse::real_size(&meta.pax).ok().flatten().unwrap_or(meta.size_bytes);
                owner && mode && mtime && u64::try_from(stat.st_size).is_ok_and(|n| n == size)
            }
            (EntryKind::Symlink, FileType::Symlink) => {
                let Some((_, Some(dir))) = &self.parent else {
                    return false;
                };
                let target = rustix::fs::readlinkat(dir, beneath::split(path).1, Vec::new());
                owner && mtime && target.is_ok_and(|t| Some(t.as_bytes()) == meta.link.as_deref())
            }
            (EntryKind::Fifo, FileType::Fifo) => owner && mode,
            _ => false,
        }
    }

    fn next_name(&mut self) -> Result<String> {
        let name = staged_name(self.number);
        if self.number.is_multiple_of(4096) {
            rustix::fs::mkdirat(
                self.staged,
                format!("{:x}", self.number >> 12),
                Mode::from_raw_mode(0o700),
            )
            .map_err(beneath::io)?;
        }
        self.number += 1;
        Ok(name)
    }

    /// Stages what has no data. Returns whether it was made.
    fn stage_special(&mut self, meta: &EntryMeta, path: &[u8]) -> Result<bool> {
        if matches!(meta.kind, EntryKind::CharDevice | EntryKind::BlockDevice)
            && !(self.is_root && self.options.devices)
        {
            self.note(
                "skipped-device",
                path,
                "is a device node; those are made only as root and when asked for",
            );
            return Ok(false);
        }
        let name = self.next_name()?;
        let mode = Mode::from_raw_mode(meta.mode & 0o777);
        match meta.kind {
            EntryKind::Symlink => {
                let target = meta.link.as_deref().filter(|l| !l.is_empty() && !l.contains(&0));
                let target = target
                    .ok_or_else(|| Error::corrupt(format!("the symbolic link \"{}\" has no target", show(path))))?;
                rustix::fs::symlinkat(target, self.staged, &name)
            }
            EntryKind::Fifo => rustix::fs::mknodat(self.staged, &name, FileType::Fifo, mode, 0),
            kind => {
                let (major, minor) = meta.device.unwrap_or_default();
                let kind = if kind == EntryKind::BlockDevice {
                    FileType::BlockDevice
                } else {
                    FileType::CharacterDevice
                };
                rustix::fs::mknodat(self.staged, &name, kind, mode, rustix::fs::makedev(major, minor))
            }
        }
        .map_err(beneath::io)
        .with_context(|| format!("stage \"{}\"", show(path)))?;
        let owner = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        if let Err(errno) = rustix::fs::chownat(self.staged, &name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW) {
            self.note_once("metadata-not-set", path, format!("owner: {errno}"));
        }
        if meta.kind != EntryKind::Symlink {
            rustix::fs::chmodat(self.staged, &name, mode, AtFlags::empty()).map_err(beneath::io)?;
        }
        let _ = rustix::fs::utimensat(self.staged, &name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW);
        Ok(true)
    }

    fn begin_file(&mut self, mut meta: EntryMeta, path: Vec<u8>, existed: bool, compare: bool) -> Result<Staging> {
        let number = self.number;
        let name = self.next_name()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.staged, &name, flags, Mode::from_raw_mode(0o600)).map_err(beneath::io)?;
        let real = sparse::real_size(&meta.pax)?;
        meta.path = path;
        let size = meta.size_bytes;
        Ok(Staging {
            number,
            file: File::from(fd),
            at: 0,
            real_size: real.unwrap_or(size),
            map: real.map(|_| sparse::MapParser::default()),
            segments: if real.is_some() { Vec::new() } else { vec![(0, size)] },
            segment: 0,
            existed,
            compare,
            meta,
        })
    }

    fn end_file(&mut self, staging: Staging) -> Result<()> {
        let Staging {
            meta,
            number,
            file,
            real_size,
            map,
            existed,
            compare,
            ..
        } = staging;
        if map.is_some() {
            return Err(Error::corrupt(format!(
                "the sparse member \"{}\" ends within its map",
                show(&meta.path)
            )));
        }
        file.set_len(real_size).context("set the length of a staged file")?;
        if compare && self.equals_live(&meta.path, &file)? {
            rustix::fs::unlinkat(self.staged, staged_name(number), AtFlags::empty()).map_err(beneath::io)?;
            self.report.unchanged += 1;
            return Ok(());
        }
        let dir_meta = DirMeta {
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            pax: meta.pax,
        };
        let mut failed = Vec::new();
        set_meta(&file, &dir_meta, &mut |what| failed.push(what.to_owned()));
        for what in failed {
            self.note_once("metadata-not-set", &meta.path, what);
        }
        self.report.written += 1;
        self.journal.add(&Step {
            path: meta.path,
            existed,
            action: Action::Place(number),
        })
    }

    fn equals_live(&self, path: &[u8], staged: &File) -> Result<bool> {
        use std::os::unix::fs::FileExt;
        let Some((_, Some(dir))) = &self.parent else {
            return Ok(false);
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(live) = rustix::fs::openat(dir, beneath::split(path).1, flags, Mode::empty()) else {
            return Ok(false);
        };
        let live = File::from(live);
        let (mut a, mut b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        let mut at = 0;
        loop {
            let len = staged.read_at(&mut a, at)?;
            if len == 0 {
                return Ok(live.read_at(&mut b, at)? == 0);
            }
            let (Some(left), Some(right)) = (a.get(..len), b.get_mut(..len)) else {
                return Ok(false);
            };
            if live.read_exact_at(right, at).is_err() || left != right {
                return Ok(false);
            }
            at += u64::try_from(len).unwrap_or(0);
        }
    }

    /// Plans away what the live tree has before `until` and the backup has not.
    fn remove_extras(&mut self, live: &mut Extras<'_>, until: Option<&[u8]>, selection: &Patterns) -> Result<()> {
        loop {
            if live.next.is_none() {
                live.next = live.walker.next(&mut |_| {})?;
            }
            let Some(found) = &live.next else { break };
            let sorted = found.sort_path();
            if until.is_some_and(|until| sorted.as_slice() > until) {
                break;
            }
            let found = live.next.take();
            if until == Some(sorted.as_slice()) {
                break;
            }
            let Some(found) = found.filter(|f| f.taken) else {
                continue;
            };
            self.leave(live, Some(&found.path))?;
            let is_dir = found.kind() == FileType::Directory;
            if !selection.selects(&found.path, is_dir) || found.stat.st_dev != self.root_device {
                continue;
            }
            if is_dir {
                live.leaving.push((found.path, dir_meta(&found.stat)));
            } else {
                self.report.deleted += 1;
                self.journal.add(&Step {
                    path: found.path,
                    existed: true,
                    action: Action::Remove,
                })?;
            }
        }
        self.leave(live, until)
    }

    /// Plans the removal of directories that `next` no longer lies in.
    fn leave(&mut self, live: &mut Extras<'_>, next: Option<&[u8]>) -> Result<()> {
        while let Some((path, _)) = live.leaving.last() {
            if next.is_some_and(|next| next.starts_with(path) && next.get(path.len()) == Some(&b'/')) {
                break;
            }
            if let Some((path, meta)) = live.leaving.pop() {
                self.journal.add(&Step {
                    path,
                    existed: true,
                    action: Action::RemoveDir(meta),
                })?;
            }
        }
        Ok(())
    }
}

/// The live tree, walked beside the archive.
#[derive(Debug)]
struct Extras<'a> {
    walker: Walker<'a>,
    next: Option<Found>,
    leaving: Vec<(Vec<u8>, DirMeta)>,
}

fn dir_meta(stat: &Stat) -> DirMeta {
    DirMeta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        pax: std::collections::BTreeMap::new(),
    }
}

impl Staging {
    fn write(&mut self, mut data: &[u8]) -> Result<()> {
        use std::os::unix::fs::FileExt;
        if let Some(map) = &mut self.map {
            let (used, found) = map.take(data, self.real_size)?;
            data = data.get(used..).unwrap_or_default();
            let Some(found) = found else { return Ok(()) };
            self.segments = found;
            self.map = None;
        }
        while !data.is_empty() {
            let (offset, len) = *self
                .segments
                .get(self.segment)
                .ok_or_else(|| Error::corrupt("a member has more data than its map says"))?;
            let take = usize::try_from(len - self.at).unwrap_or(usize::MAX).min(data.len());
            let (now, rest) = data.split_at(take);
            self.file
                .write_all_at(now, offset + self.at)
                .context("write a staged file")?;
            self.at += u64::try_from(take).unwrap_or(0);
            data = rest;
            if self.at == len {
                self.segment += 1;
                self.at = 0;
            }
        }
        Ok(())
    }
}
