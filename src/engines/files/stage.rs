//! Stages the entries of a backup and writes the journal of what is to be done with them.
//!
//! The paths of the archive are judged here: they may not climb, must ascend, and none may lie below something that is no
//! directory. The live tree is only looked at; everything is written below the staging directory.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::apply::lies_in;
use super::attrs::{self, AttrHolder};
use super::beneath::{self, show};
use super::compare::Comparison;
use super::differing::Differing;
use super::extras::Extras;
use super::journal::{Action, DirMeta, JournalWriter, Step};
use super::judge::{self, PathOrder};
use super::patterns::Patterns;
use super::restore::{FilesRestoreOptions, FilesRestoreReport};
use super::staged_file::StagedFile;
use super::walk::{self, WalkOptions, Walker};
use super::{TreeFacts, TreeOrder, sparse, spelling};
use crate::archive::reader::Selection;
use crate::archive::{ArchiveReader, EntryEvent, EntryKind, EntryMeta, EntryRef};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::{Note, SharedReporter};
use crate::engines::sqlite::registry;

/// Stages entries and writes the journal.
#[derive(Debug)]
pub(super) struct Stager<'a> {
    pub(super) root: &'a OwnedFd,
    pub(super) root_device: u64,
    pub(super) staged: &'a OwnedFd,
    pub(super) journal: JournalWriter,
    pub(super) number: u64,
    pub(super) options: &'a FilesRestoreOptions,
    pub(super) reporter: &'a SharedReporter,
    /// Kinds of failure that were told already.
    pub(super) noted: BTreeSet<String>,
    /// The live directory looked at last; `None` inside when it does not exist.
    pub(super) parent: Option<(Vec<u8>, Option<OwnedFd>)>,
    /// The last directory of the backup that takes the place of something else.
    pub(super) replaced: Option<Vec<u8>>,
    /// The order of the backup's paths.
    pub(super) paths: PathOrder,
    /// Targets of hard links that are not selected, and the path each was restored at instead.
    pub(super) alone: HashMap<Vec<u8>, Vec<u8>>,
    pub(super) alone_bytes: usize,
    pub(super) report: FilesRestoreReport,
    /// What may not be replaced: with an entry here the restore is refused.
    pub(super) differing: Differing,
    /// Whether everything is only looked at and counted.
    pub(super) only_looks: bool,
    pub(super) is_root: bool,
    /// Whether the backup knows all attributes of files and directories, and those of links, pipes and devices.
    pub(super) exact: bool,
    pub(super) exact_specials: bool,
    /// Directories that the present path lies in and that are not selected.
    above: Vec<(Vec<u8>, EntryMeta)>,
    /// Live files with several names that an entry of the backup is equal to: no other entry may be the same file.
    pub(super) taken: HashSet<(u64, u64)>,
}

/// Bytes of selected entries that are named one by one; beyond, the whole archive is read.
const MAX_CHOSEN_BYTES: usize = 8 << 20;

/// Chooses the entries to read by the index alone, so that one file of many costs its own frames.
fn choose(
    reader: &ArchiveReader,
    prefix: &[u8],
    selection: &Patterns,
    runtime: &tokio::runtime::Handle,
) -> Result<Selection> {
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    // Directories that the present path lies in and that are not chosen yet: what is made of them has their rights.
    let mut above: Vec<EntryRef> = Vec::new();
    runtime.block_on(reader.for_each_entry(&mut |entry| {
        let Some(path) = below(&entry.path, prefix) else {
            return Ok(());
        };
        let path = beneath::checked(path)?;
        let is_dir = entry.kind == EntryKind::Directory;
        above.retain(|dir| entry.path.starts_with(&dir.path));
        if bytes <= MAX_CHOSEN_BYTES && selection.selects(path, is_dir) {
            bytes += path.len() + 128 + above.iter().map(|dir| dir.path.len() + 128).sum::<usize>();
            chosen.append(&mut above);
            chosen.push(entry);
        } else if is_dir {
            above.push(entry);
        }
        Ok(())
    }))?;
    Ok(if bytes > MAX_CHOSEN_BYTES {
        Selection::All
    } else {
        Selection::Entries(chosen)
    })
}

/// Returns a path of the archive as one of the tree; `None` outside of it, and for its root.
pub(super) fn below<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(prefix).filter(|rest| !rest.is_empty())
}

/// Notes of what is not as it was in the backup.
const LOSSES: &[&str] = &["metadata-not-set", "skipped-device", "hard-links-not-compared"];

/// Live files with several names that are remembered at most.
const MAX_TAKEN: usize = 1 << 17;

/// A file of the backup whose data is awaited.
#[derive(Debug)]
enum Open {
    /// It is written beside.
    Staged(StagedFile),
    /// It is compared with the live one.
    Compared(Comparison),
}

/// What became of a file that was read by itself.
#[derive(Debug)]
enum One {
    /// The archive has no such file.
    Missing,
    /// It is staged, or as it was.
    Done,
    /// It was only compared, and the live one is another.
    Differs,
}

/// The error of selected paths that the backup does not have.
pub(super) fn no_match() -> Error {
    Error::new(ErrorKind::NotFound, "nothing in the backup matches the selected paths")
        .with_hint("Nothing was changed. Paths are relative to the root of the backup.")
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

impl<'a> Stager<'a> {
    /// Makes a stager between a live root and an empty staging directory.
    pub(super) fn new(
        root: &'a OwnedFd,
        staged: &'a OwnedFd,
        journal: JournalWriter,
        options: &'a FilesRestoreOptions,
        reporter: &'a SharedReporter,
    ) -> Result<Self> {
        Ok(Self {
            root,
            root_device: rustix::fs::fstat(root).map_err(beneath::io)?.st_dev,
            staged,
            journal,
            number: 0,
            options,
            reporter,
            noted: BTreeSet::new(),
            parent: None,
            replaced: None,
            paths: PathOrder::default(),
            alone: HashMap::new(),
            alone_bytes: 0,
            report: FilesRestoreReport::default(),
            differing: Differing::default(),
            only_looks: false,
            is_root: rustix::process::geteuid().is_root(),
            exact: false,
            exact_specials: false,
            above: Vec::new(),
            taken: HashSet::new(),
        })
    }
}

impl Stager<'_> {
    pub(super) fn stage_all(
        &mut self,
        reader: &ArchiveReader,
        facts: &TreeFacts,
        cancel: &CancellationToken,
        runtime: &tokio::runtime::Handle,
    ) -> Result<()> {
        let chosen = spelling::resolve(&self.options.paths, Path::new(&facts.root))?;
        let selection = Patterns::new(&chosen, &[])?;
        let covered = facts.patterns()?;
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
        self.paths.order = facts.order;
        // Through a Docker engine only file capabilities are seen.
        self.exact = facts.order == TreeOrder::Paths;
        self.exact_specials = self.exact && facts.attributes.is_some();
        if self.options.delete && facts.order != TreeOrder::Paths {
            return Err(Error::unsupported(
                "files that are not in the backup cannot be removed: this tree was read through a Docker engine",
            )
            .with_hint("Nothing was changed. Omit --delete, or restore into an empty place."));
        }
        let everything = self.options.paths.is_empty() && self.options.prefix.is_empty();
        let wanted = if everything || self.options.delete {
            Selection::All
        } else {
            choose(reader, &self.options.prefix, &selection, runtime)?
        };
        let mut entries = reader.entries(wanted);
        let mut open: Option<Open> = None;
        while let Some(event) = runtime.block_on(entries.next())? {
            if cancel.is_cancelled() {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    "cancelled; the live tree was not touched",
                ));
            }
            match event {
                EntryEvent::Begin(meta) => {
                    let Some(meta) = judge::within(meta, &self.options.prefix)? else {
                        continue;
                    };
                    let path = self.paths.judge(&meta)?;
                    if let Some(live) = &mut live {
                        self.remove_extras(live, Some(&self.paths.last.clone()), &selection)?;
                    }
                    let is_dir = meta.kind == EntryKind::Directory;
                    self.above.retain(|(above, _)| lies_in(&path, above));
                    if selection.selects(&path, is_dir) {
                        self.report.entries += 1;
                        self.plan_above()?;
                        open = match unselected_target(&meta, &selection)? {
                            Some(target) => self.stage_alone(reader, runtime, meta, path, target).map(|()| None)?,
                            None => self.begin(meta, path)?,
                        };
                    } else if is_dir {
                        self.above.push((path, meta));
                    }
                }
                EntryEvent::Data(data) => self.take(&mut open, &data)?,
                EntryEvent::End { .. } => {
                    if let Some(path) = self.end(open.take())? {
                        self.stage_again(reader, runtime, &path)?;
                    }
                    self.reporter.advance(&self.options.task, 0, 1);
                }
            }
        }
        if let Some(live) = &mut live {
            self.remove_extras(live, None, &selection)?;
        }
        if self.report.entries == 0 && !self.options.paths.is_empty() {
            return Err(no_match());
        }
        Ok(())
    }

    fn take(&mut self, open: &mut Option<Open>, data: &[u8]) -> Result<()> {
        let len = exact::u64_from(data.len());
        match open {
            None => return Ok(()),
            Some(Open::Compared(comparison)) => comparison.take(data)?,
            Some(Open::Staged(staging)) => {
                staging.write(data)?;
                self.report.bytes += len;
            }
        }
        self.reporter.advance(&self.options.task, len, 0);
        Ok(())
    }

    /// Ends a file. Returns the path of a live one that turned out to differ: it is to be staged.
    fn end(&mut self, open: Option<Open>) -> Result<Option<Vec<u8>>> {
        match open {
            None => {}
            Some(Open::Staged(staging)) => self.end_file(staging)?,
            Some(Open::Compared(comparison)) if comparison.is_equal() => self.report.unchanged += 1,
            Some(Open::Compared(comparison)) => {
                let size = comparison.size();
                return Ok(self.may_write(&comparison.path, true, size).then_some(comparison.path));
            }
        }
        Ok(None)
    }

    /// Stages a file that was only compared.
    fn stage_again(&mut self, reader: &ArchiveReader, runtime: &tokio::runtime::Handle, path: &[u8]) -> Result<()> {
        let stored = [&self.options.prefix, path].concat();
        let begin = |stager: &mut Self, meta| {
            let staging = stager.begin_file(meta, path.to_vec(), true)?;
            Ok(Some(Open::Staged(staging)))
        };
        match self.read_one(reader, runtime, &stored, &begin)? {
            One::Missing => Err(Error::corrupt(format!(
                "the index does not find \"{}\" again",
                show(path)
            ))),
            One::Done | One::Differs => Ok(()),
        }
    }

    /// Reads one file of the archive by itself.
    fn read_one(
        &mut self,
        reader: &ArchiveReader,
        runtime: &tokio::runtime::Handle,
        stored: &[u8],
        begin: &dyn Fn(&mut Self, EntryMeta) -> Result<Option<Open>>,
    ) -> Result<One> {
        let found = runtime.block_on(reader.find(stored))?;
        let Some(found) = found.filter(|f| f.kind == EntryKind::File) else {
            return Ok(One::Missing);
        };
        let mut entries = reader.entries(Selection::Entries(vec![found]));
        let (mut open, mut one) = (None, One::Done);
        while let Some(event) = runtime.block_on(entries.next())? {
            match event {
                EntryEvent::Begin(meta) if meta.kind != EntryKind::File => return Ok(One::Missing),
                EntryEvent::Begin(meta) => open = begin(self, meta)?,
                EntryEvent::Data(data) => self.take(&mut open, &data)?,
                EntryEvent::End { .. } => {
                    if self.end(open.take())?.is_some() {
                        one = One::Differs;
                    }
                }
            }
        }
        Ok(one)
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
                "the backup does not contain the file \"{}\" that \"{}\" is a hard link to",
                show(&target),
                show(&path)
            ))
        };
        if let Some(first) = self.alone.get(&target) {
            meta.link = Some(first.clone());
            return self.begin(meta, path).map(|_| ());
        }
        let stored = [&self.options.prefix, target.as_slice()].concat();
        let begin = |stager: &mut Self, first| stager.begin(first, path.clone());
        match self.read_one(reader, runtime, &stored, &begin)? {
            One::Missing => return Err(missing()),
            One::Done => {}
            One::Differs => {
                // The data lies under the target's path, the file under this one.
                let anew = |stager: &mut Self, meta| {
                    let staging = stager.begin_file(meta, path.clone(), true)?;
                    Ok(Some(Open::Staged(staging)))
                };
                self.read_one(reader, runtime, &stored, &anew)?;
            }
        }
        let bytes = target.len() + path.len() + 128;
        if self.alone_bytes + bytes <= MAX_ALONE_BYTES {
            self.alone_bytes += bytes;
            self.alone.insert(target, path);
        }
        Ok(())
    }

    pub(super) fn note_once(&mut self, code: &str, path: &[u8], message: String) {
        let kind = format!("{code} {}", message.split(':').next().unwrap_or_default());
        if self.noted.insert(kind) {
            self.note(code, path, message);
        }
    }

    pub(super) fn note(&mut self, code: &str, path: &[u8], message: impl Into<String>) {
        self.report.notes += 1;
        self.report.lost += u64::from(LOSSES.contains(&code));
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
                            "\"{}\" is on another filesystem than the root",
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
                        .with_hint("Nothing was changed. Select the directory too, or remove what is in its place."));
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
    fn begin(&mut self, meta: EntryMeta, path: Vec<u8>) -> Result<Option<Open>> {
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
            let linked = match &live {
                Some(stat) => {
                    beneath::stat_path(self.root, &target)?.is_some_and(|target| walk::id(&target) == walk::id(stat))
                }
                None => false,
            };
            if linked && self.only_looks {
                self.report.unchanged += 1;
                return Ok(None);
            }
            if !linked && !self.may_write(&path, existed, 0) {
                return Ok(None);
            }
            self.count_written(existed);
            return self
                .journal
                .add(&Step {
                    path,
                    existed,
                    action: Action::Link(target),
                })
                .map(|()| None);
        }
        if let Some(stat) = live.filter(|stat| self.is_same(&meta, &path, stat)) {
            // Two files of the backup that are one file here differ from it, whatever they hold.
            let alone = stat.st_nlink < 2 || meta.kind != EntryKind::File || self.take_inode(&stat, &path);
            let content = meta.kind == EntryKind::File && meta.size_bytes > 0 && !self.options.trust_times;
            if alone && !content {
                self.report.unchanged += 1;
                return Ok(None);
            }
            if alone && let Some(live) = self.open_live(&path) {
                return Ok(Some(Open::Compared(Comparison::new(path, live, &meta)?)));
            }
        }
        let skipped = self.skips(&meta);
        if skipped && self.only_looks || !skipped && !self.may_write(&path, existed, meta.size_bytes) {
            return Ok(None);
        }
        if meta.kind == EntryKind::File {
            return self.begin_file(meta, path, existed).map(Open::Staged).map(Some);
        }
        if self.stage_special(&meta, &path)? {
            self.count_written(existed);
            self.journal.add(&Step {
                path,
                existed,
                action: Action::Place(self.number - 1),
            })?;
        }
        Ok(None)
    }

    /// Returns whether something may be staged that is missing, or there and not as in the backup. Where it is only looked
    /// at, it is counted; where it may not be replaced, the restore will be refused, and nothing more is staged.
    fn may_write(&mut self, path: &[u8], existed: bool, bytes: u64) -> bool {
        if existed && !self.options.clean {
            self.differing.add(path);
            return false;
        }
        if self.only_looks {
            self.count_written(existed);
            self.report.bytes += bytes;
        }
        !self.only_looks && !self.differing.any()
    }

    pub(super) fn count_written(&mut self, existed: bool) {
        self.report.written += 1;
        self.report.replaced += u64::from(existed);
    }

    /// Compares mode, attributes and, where it could be set, owner of a directory. Its time tells nothing: any new name in
    /// it changes that.
    fn same_rights(&self, place: &AttrHolder<'_>, new: &DirMeta, stat: &Stat) -> bool {
        let owner = !self.is_root || (stat.st_uid, stat.st_gid) == (new.uid, new.gid);
        owner && stat.st_mode & 0o7777 == new.mode & 0o7777 && attrs::equal(place, &new.pax, new.exact)
    }

    /// Plans what the root itself gets; what it has is kept for an undo. `held` tells whether anything was in it.
    pub(super) fn plan_root(&mut self, new: &DirMeta, held: bool) -> Result<()> {
        let stat = rustix::fs::fstat(self.root).map_err(beneath::io)?;
        if held && !self.options.clean && !self.same_rights(&AttrHolder::named(self.root, b"."), new, &stat) {
            self.differing.add(b".");
        }
        let action = Action::Directory {
            new: new.clone(),
            old: Some(live_meta(self.root, b".", &stat)),
        };
        self.journal.add(&Step {
            path: Vec::new(),
            existed: true,
            action,
        })
    }

    /// Plans the directories above what is selected that are not there: they get the rights they had.
    fn plan_above(&mut self) -> Result<()> {
        for (path, meta) in std::mem::take(&mut self.above) {
            if self.live(&path)?.is_none() {
                self.plan_dir(meta, path, None)?;
            }
        }
        Ok(())
    }

    fn plan_dir(&mut self, meta: EntryMeta, path: Vec<u8>, live: Option<Stat>) -> Result<()> {
        let is_dir = live.is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
        if live.is_some() && !is_dir {
            self.replaced = Some(path.clone());
        }
        let parent = self.parent.as_ref().and_then(|(_, fd)| fd.as_ref());
        let old = live.filter(|_| is_dir).zip(parent);
        let old = old.map(|(stat, parent)| live_meta(parent, beneath::split(&path).1, &stat));
        let mut pax = meta.pax;
        pax.retain(|key, _| key.starts_with(super::attrs::PREFIX));
        let new = DirMeta {
            mode: meta.mode & 0o7777,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            pax,
            exact: self.exact,
        };
        let parent = self.parent.as_ref().and_then(|(_, fd)| fd.as_ref());
        if let (Some(stat), Some(parent), false) = (&live, parent, self.options.clean) {
            let place = AttrHolder::named(parent, beneath::split(&path).1);
            if !is_dir || !self.same_rights(&place, &new, stat) {
                self.differing.add(&meta.path);
            }
        }
        self.journal.add(&Step {
            path,
            existed: live.is_some(),
            action: Action::Directory { new, old },
        })
    }

    /// Remembers a live file with several names. Returns whether no entry before it was the same.
    fn take_inode(&mut self, stat: &Stat, path: &[u8]) -> bool {
        if self.taken.len() >= MAX_TAKEN && !self.taken.contains(&walk::id(stat)) {
            self.note_once(
                "hard-links-not-compared",
                path,
                "too many files have several hard links; extra links were not looked for".to_owned(),
            );
            return true;
        }
        self.taken.insert(walk::id(stat))
    }

    /// Opens a live file to compare it.
    fn open_live(&self, path: &[u8]) -> Option<File> {
        let (_, dir) = self.parent.as_ref()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let name = beneath::split(path).1;
        rustix::fs::openat(dir.as_ref()?, name, flags, Mode::empty())
            .ok()
            .map(File::from)
    }

    fn is_same(&self, meta: &EntryMeta, path: &[u8], stat: &Stat) -> bool {
        let Some((_, Some(dir))) = &self.parent else {
            return false;
        };
        let name = beneath::split(path).1;
        let owner = !self.is_root || (stat.st_uid, stat.st_gid) == (meta.uid, meta.gid);
        let mode = stat.st_mode & 0o7777 == meta.mode & 0o7777;
        let mtime = stat.st_mtime == meta.mtime.0 && u32::try_from(stat.st_mtime_nsec).is_ok_and(|n| n == meta.mtime.1);
        let device = || meta.device == Some((rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)));
        let facts = match (meta.kind, FileType::from_raw_mode(stat.st_mode)) {
            (EntryKind::File, FileType::RegularFile) => {
                let size = sparse::real_size(&meta.pax).ok().flatten().unwrap_or(meta.size_bytes);
                owner && mode && mtime && u64::try_from(stat.st_size).is_ok_and(|n| n == size)
            }
            (EntryKind::Symlink, FileType::Symlink) => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new());
                owner && mtime && target.is_ok_and(|t| Some(t.as_bytes()) == meta.link.as_deref())
            }
            (EntryKind::Fifo, FileType::Fifo) => owner && mode,
            (EntryKind::CharDevice, FileType::CharacterDevice) | (EntryKind::BlockDevice, FileType::BlockDevice) => {
                owner && mode && device()
            }
            _ => false,
        };
        let exact = if meta.kind == EntryKind::File {
            self.exact
        } else {
            self.exact_specials
        };
        facts && attrs::equal(&AttrHolder::named(dir, name), &meta.pax, exact)
    }
}

/// Returns what the journal keeps of a live directory.
pub(super) fn live_meta(parent: impl AsFd, name: &[u8], stat: &Stat) -> DirMeta {
    let mut exact = true;
    let pax = attrs::read(&AttrHolder::named(parent, name), &mut |_, _| exact = false);
    DirMeta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: beneath::mtime(stat),
        pax,
        exact,
    }
}
