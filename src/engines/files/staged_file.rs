//! Files, links and nodes below the staging directory, under numbers.

use std::fs::File;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};

use super::apply::{set_meta, staged_name, times};
use super::attrs::{self, AttrHolder};
use super::beneath::{self, show};
use super::compare::Layout;
use super::journal::{Action, DirMeta, Step};
use super::judge::{ends_in_map, link_target};
use super::stage::Stager;
use crate::archive::{EntryKind, EntryMeta};
use crate::base::error::{Context, Result};

/// A file being staged.
#[derive(Debug)]
pub(super) struct StagedFile {
    pub(super) meta: EntryMeta,
    pub(super) number: u64,
    pub(super) file: File,
    pub(super) layout: Layout,
    pub(super) existed: bool,
}

impl StagedFile {
    /// Writes the next data of the member.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<()> {
        use std::os::unix::fs::FileExt;
        let file = &self.file;
        self.layout.place(data, &mut |offset, piece| {
            file.write_all_at(piece, offset).context("write a staged file")
        })
    }
}

impl Stager<'_> {
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

    /// Returns whether an entry is a device node that is not made.
    pub(super) fn skips(&self, meta: &EntryMeta) -> bool {
        matches!(meta.kind, EntryKind::CharDevice | EntryKind::BlockDevice) && !(self.is_root && self.options.devices)
    }

    /// Stages what has no data. Returns whether it was made.
    pub(super) fn stage_special(&mut self, meta: &EntryMeta, path: &[u8]) -> Result<bool> {
        if self.skips(meta) {
            self.note(
                "skipped-device",
                path,
                "is a device node, which is created only as root and with --devices",
            );
            return Ok(false);
        }
        let name = self.next_name()?;
        let mut mode = meta.mode & 0o7777;
        // What it may do is given once it belongs to its owner and has its ACL.
        let closed = Mode::from_raw_mode(0o600);
        match meta.kind {
            EntryKind::Symlink => {
                let target = link_target(meta, path)?;
                rustix::fs::symlinkat(target, self.staged, &name)
            }
            EntryKind::Fifo => rustix::fs::mknodat(self.staged, &name, FileType::Fifo, closed, 0),
            kind => {
                let (major, minor) = meta.device.unwrap_or_default();
                let kind = if kind == EntryKind::BlockDevice {
                    FileType::BlockDevice
                } else {
                    FileType::CharacterDevice
                };
                rustix::fs::mknodat(self.staged, &name, kind, closed, rustix::fs::makedev(major, minor))
            }
        }
        .map_err(beneath::io)
        .with_context(|| format!("stage \"{}\"", show(path)))?;
        let mut failed = Vec::new();
        let owner = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        if let Err(errno) = rustix::fs::chownat(self.staged, &name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW) {
            failed.push(format!("owner: {errno}"));
            mode &= 0o1777;
        }
        let place = AttrHolder::named(self.staged, name.as_bytes());
        mode = attrs::write(&place, &meta.pax, self.exact_specials, mode, &mut |name, errno| {
            failed.push(format!("extended attribute: \"{name}\": {errno}"));
        });
        if meta.kind != EntryKind::Symlink
            && let Err(errno) = rustix::fs::chmodat(self.staged, &name, Mode::from_raw_mode(mode), AtFlags::empty())
        {
            failed.push(format!("mode: {errno}"));
        }
        if let Err(errno) = rustix::fs::utimensat(self.staged, &name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW) {
            failed.push(format!("time: {errno}"));
        }
        for what in failed {
            self.note_once("metadata-not-set", path, what);
        }
        Ok(true)
    }

    pub(super) fn begin_file(&mut self, mut meta: EntryMeta, path: Vec<u8>, existed: bool) -> Result<StagedFile> {
        let number = self.number;
        let name = self.next_name()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.staged, &name, flags, Mode::from_raw_mode(0o600)).map_err(beneath::io)?;
        let layout = Layout::new(&meta)?;
        meta.path = path;
        Ok(StagedFile {
            number,
            file: File::from(fd),
            layout,
            existed,
            meta,
        })
    }

    pub(super) fn end_file(&mut self, staging: StagedFile) -> Result<()> {
        let StagedFile {
            meta,
            number,
            file,
            layout,
            existed,
        } = staging;
        if layout.in_map() {
            return Err(ends_in_map(&meta.path));
        }
        file.set_len(layout.real_size())
            .context("set the length of a staged file")?;
        let file_meta = DirMeta {
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            pax: meta.pax,
            exact: self.exact,
        };
        let mut failed = Vec::new();
        set_meta(&file, &file_meta, &mut |what| failed.push(what.to_owned()));
        for what in failed {
            self.note_once("metadata-not-set", &meta.path, what);
        }
        self.count_written(existed);
        self.journal.add(&Step {
            path: meta.path,
            existed,
            action: Action::Place(number),
        })
    }
}
