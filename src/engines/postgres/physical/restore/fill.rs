//! Writes the entries of a base below directories that were empty.
//!
//! Nothing is written through a link: paths are opened part by part, files are made new, and the links to tablespaces are made by this
//! program alone, once all else is there. `pg_control` is written last, when every file was compared with the manifest and is on disk: no
//! server starts without it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::tablespaces::Assigned;
use super::target::{LINKED, Owner};
use crate::archive::reader::Selection;
use crate::archive::{ArchiveReader, EntryEvent, EntryKind, EntryMeta};
use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::engines::Tools;
use crate::engines::files::beneath::{self, io};
use crate::engines::postgres::physical::stored::facts::BaseFacts;
use crate::engines::postgres::physical::stored::judge::{BaseJudge, check_entry};
use crate::engines::postgres::physical::stored::{CONTROL, TABLESPACE_MAP, TABLESPACES};
use crate::engines::postgres::physical::wire::digest::FileTable;

/// Bytes of `pg_control` at most; a server's has 8 KiB.
const MOST_CONTROL_BYTES: usize = 64 << 10;

/// Files that are left out. The signals would make a server wait for another one, or go on after it, and a base is a primary of its own. By the
/// map a server makes links to wherever an archive says; those to tablespaces are made here.
const LEFT_OUT: [&[u8]; 3] = [b"standby.signal", RECOVERY_SIGNAL, TABLESPACE_MAP];

/// Makes a server recover from an archive, to a target.
const RECOVERY_SIGNAL: &[u8] = b"recovery.signal";

/// The settings that a server reads last: those of `ALTER SYSTEM`.
const AUTO_SETTINGS: &[u8] = b"postgresql.auto.conf";

/// Where a base goes.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    /// The data directory; it is there and empty.
    pub(crate) directory: PathBuf,
    /// Directories of tablespaces; they are there and empty.
    pub(crate) tablespaces: Vec<Assigned>,
    /// Who gets the files.
    pub(crate) owner: Owner,
}

impl Placement {
    /// Returns where a path of the base lies, but for those that were left out.
    pub(crate) fn place_of(&self, path: &[u8], left_out: &[String]) -> Option<PathBuf> {
        let below = |directory: &Path, rest: &[u8]| directory.join(OsStr::from_bytes(rest));
        if left_out.iter().any(|one| one.as_bytes() == path) {
            return None;
        }
        let beside = self.tablespaces.iter().find_map(|one| {
            let rest = path.strip_prefix(one.tablespace.prefix().as_bytes())?;
            Some(below(&one.into, rest))
        });
        beside.or_else(|| Some(below(&self.directory, path)))
    }
}

/// What was written.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) facts: BaseFacts,
    /// The files of the manifest.
    pub(crate) table: FileTable,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Files of the base that were left out.
    pub(crate) left_out: Vec<String>,
    /// Whether the server's configuration file is in it.
    pub(crate) has_configuration: bool,
}

/// Writes a base, and settings by which the server recovers further than to its end. Whatever differs from its manifest is an
/// error, and leaves no `pg_control`.
pub(crate) async fn fill(
    reader: &ArchiveReader,
    facts: BaseFacts,
    placement: &Placement,
    settings: Option<&str>,
    (task, tools): (&str, &Tools),
) -> Result<Filled> {
    let mut judge = BaseJudge::open(reader, facts.clone()).await?;
    let mut writer = Writer::open(placement, facts.directory_mode)?;
    let mut entries = reader.entries(Selection::All);
    while let Some(event) = tools.or_cancelled(entries.next()).await? {
        match event {
            EntryEvent::Begin(meta) => {
                judge.begin(&meta)?;
                writer.begin(&meta)?;
            }
            EntryEvent::Data(data) => {
                judge.data(&data);
                writer.data(&data)?;
                tools.reporter.advance(task, exact::u64_from(data.len()), 0);
            }
            EntryEvent::End { .. } => {
                judge.end()?;
                if writer.end() {
                    tools.reporter.advance(task, 0, 1);
                }
            }
        }
    }
    let (facts, table) = judge.finish()?;
    if let Some(settings) = settings {
        writer.recover(settings)?;
    }
    tools.reporter.phase(task, "sync");
    writer.finish(placement, facts, table)
}

fn no_control() -> Error {
    Error::corrupt("the base has no pg_control")
}

/// A directory below which a part of the archive goes.
struct Root {
    /// Of its entries, with a slash; empty for the data directory.
    prefix: Vec<u8>,
    directory: OwnedFd,
}

struct Writer {
    /// The data directory is the last one: its prefix is that of all.
    roots: Vec<Root>,
    owner: Owner,
    current: Current,
    control: Vec<u8>,
    control_meta: Option<EntryMeta>,
    files: u64,
    bytes: u64,
    left_out: Vec<String>,
    has_configuration: bool,
}

/// What becomes of the bytes that come.
enum Current {
    Nothing,
    File(File, String),
    Control,
    LeftOut,
}

impl Writer {
    fn open(placement: &Placement, mode: u32) -> Result<Self> {
        let open = |path: &Path| {
            let opened = rustix::fs::open(path, LINKED, Mode::empty()).map_err(io);
            opened.with_context(|| format!("open \"{}\"", path.display()))
        };
        let mut roots = Vec::new();
        for one in &placement.tablespaces {
            roots.push(Root {
                prefix: one.tablespace.prefix().into_bytes(),
                directory: open(&one.into)?,
            });
        }
        roots.push(Root {
            prefix: Vec::new(),
            directory: open(&placement.directory)?,
        });
        for root in &roots {
            // A server refuses a directory that others may write.
            let mode = if root.prefix.is_empty() { mode } else { 0o700 };
            match rustix::fs::fchmod(&root.directory, Mode::from_raw_mode(mode)) {
                // It is somebody else's, to whom the files have to be given anyway.
                Err(Errno::PERM) if placement.owner == Owner::Oneself => {}
                done => done.map_err(io)?,
            }
        }
        Ok(Self {
            roots,
            owner: placement.owner,
            current: Current::Nothing,
            control: Vec::new(),
            control_meta: None,
            files: 0,
            bytes: 0,
            left_out: Vec::new(),
            has_configuration: false,
        })
    }

    /// Returns the directory that a path goes below, and the rest of it.
    fn root_of<'p>(&self, path: &'p [u8]) -> Result<(&Root, &'p [u8])> {
        let found = self
            .roots
            .iter()
            .find_map(|root| Some((root, path.strip_prefix(root.prefix.as_slice())?)));
        found.ok_or_else(|| Error::corrupt("a path of the base lies nowhere"))
    }

    fn begin(&mut self, meta: &EntryMeta) -> Result<()> {
        let path = check_entry(meta)?;
        let shown = path.escape_ascii().to_string();
        if meta.kind == EntryKind::Directory {
            return self
                .make_directory(path, meta)
                .with_context(|| format!("make directory \"{shown}\""));
        }
        self.has_configuration |= path == b"postgresql.conf";
        // A server without tablespaces writes a map all the same, which `pg_verifybackup` looks for.
        let is_empty_map = path == TABLESPACE_MAP && meta.size_bytes == 0;
        if LEFT_OUT.contains(&path) && !is_empty_map {
            self.left_out.push(shown);
            self.current = Current::LeftOut;
            return Ok(());
        }
        if path == CONTROL {
            self.control_meta = Some(meta.clone());
            self.current = Current::Control;
            return Ok(());
        }
        let file = self.create(path, meta).with_context(|| format!("create \"{shown}\""))?;
        self.current = Current::File(file, shown);
        Ok(())
    }

    fn make_directory(&self, path: &[u8], meta: &EntryMeta) -> Result<()> {
        let (root, rest) = self.root_of(path)?;
        let made = beneath::make_dirs(&root.directory, rest, |_| Ok(()))?;
        self.dress(&made, meta, 0o777)
    }

    fn create(&self, path: &[u8], meta: &EntryMeta) -> Result<File> {
        let (root, rest) = self.root_of(path)?;
        let (parent, name) = beneath::split(rest);
        let parent = beneath::make_dirs(&root.directory, parent, |_| Ok(()))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map_err(io)?;
        self.dress(&file, meta, 0o666)?;
        Ok(File::from(file))
    }

    /// Gives a file its owner and then its mode, without what a data directory has no use for.
    fn dress(&self, fd: impl AsFd, meta: &EntryMeta, allowed: u32) -> Result<()> {
        self.give(&fd, meta)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(meta.mode & allowed)).map_err(io)
    }

    fn give(&self, fd: impl AsFd, meta: &EntryMeta) -> Result<()> {
        let (user, group) = match self.owner {
            Owner::Oneself => return Ok(()),
            Owner::AsStored => (meta.uid, meta.gid),
            Owner::Of(user, group) => (user, group),
        };
        rustix::fs::fchown(fd, Some(Uid::from_raw(user)), Some(Gid::from_raw(group))).map_err(io)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.current {
            Current::Nothing | Current::LeftOut => {}
            Current::File(file, shown) => {
                file.write_all(bytes).with_context(|| format!("write \"{shown}\""))?;
                self.bytes += exact::u64_from(bytes.len());
            }
            Current::Control => {
                if self.control.len() + bytes.len() > MOST_CONTROL_BYTES {
                    return Err(Error::corrupt("pg_control is longer than any server's"));
                }
                self.control.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// Ends an entry; returns whether it was a file.
    fn end(&mut self) -> bool {
        let ended = std::mem::replace(&mut self.current, Current::Nothing);
        let is_file = matches!(ended, Current::File(..));
        self.files += u64::from(is_file);
        is_file
    }

    /// Makes the server recover by settings that follow its own. They come to the disk with all else.
    fn recover(&mut self, settings: &str) -> Result<()> {
        let meta = self.control_meta.clone().ok_or_else(no_control)?;
        let data = self.data_root()?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let act = || format!("write \"{}\"", AUTO_SETTINGS.escape_ascii());
        let opened = rustix::fs::openat(&data.directory, AUTO_SETTINGS, flags, Mode::from_raw_mode(0o600));
        let opened = opened.map_err(io).with_context(act)?;
        self.dress(&opened, &meta, 0o666).with_context(act)?;
        // The last line of the base's own may have no end.
        let written = File::from(opened).write_all(format!("\n{settings}").as_bytes());
        written.with_context(act)?;
        let created = self.create(RECOVERY_SIGNAL, &meta);
        created.with_context(|| format!("create \"{}\"", RECOVERY_SIGNAL.escape_ascii()))?;
        self.left_out.retain(|name| name.as_bytes() != RECOVERY_SIGNAL);
        Ok(())
    }

    /// Returns the data directory.
    fn data_root(&self) -> Result<&Root> {
        let data = self.roots.last();
        data.ok_or_else(|| Error::corrupt("the base has no data directory"))
    }

    /// Makes the links, brings all to the disk, and then writes `pg_control`.
    fn finish(mut self, placement: &Placement, facts: BaseFacts, table: FileTable) -> Result<Filled> {
        let meta = self.control_meta.take().ok_or_else(no_control)?;
        let data = self.data_root()?;
        for root in &self.roots {
            self.give(&root.directory, &meta)?;
        }
        let links = beneath::make_dirs(
            &data.directory,
            TABLESPACES.trim_end_matches('/').as_bytes(),
            |_| Ok(()),
        )?;
        for one in &placement.tablespaces {
            let made = rustix::fs::symlinkat(one.into.as_path(), &links, one.tablespace.oid.to_string());
            made.map_err(io)
                .with_context(|| format!("link tablespace {}", one.tablespace.oid))?;
        }
        for root in &self.roots {
            rustix::fs::syncfs(&root.directory)
                .map_err(io)
                .context("write the files to disk")?;
        }
        let mut control = self.create(CONTROL, &meta).context("create \"global/pg_control\"")?;
        control
            .write_all(&self.control)
            .context("write \"global/pg_control\"")?;
        control.sync_all().context("write \"global/pg_control\" to disk")?;
        let (parent, _) = beneath::split(CONTROL);
        let parent = beneath::open_dir(&data.directory, parent).map_err(io)?;
        rustix::fs::fsync(&parent).map_err(io)?;
        Ok(Filled {
            facts,
            table,
            files: self.files + 1,
            bytes: self.bytes + exact::u64_from(self.control.len()),
            left_out: self.left_out,
            has_configuration: self.has_configuration,
        })
    }
}
