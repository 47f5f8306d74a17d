//! Files, links and nodes below the staging directory, under numbers.

use std::fs::File;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};

use super::apply::{set_meta, staged_name, times};
use super::beneath::{self, show};
use super::journal::{Action, DirMeta, Step};
use super::sparse;
use super::stage::Stager;
use crate::archive::{EntryKind, EntryMeta};
use crate::error::{Context, Error, Result};

/// A file being staged.
#[derive(Debug)]
pub(super) struct StagedFile {
    pub(super) meta: EntryMeta,
    pub(super) number: u64,
    pub(super) file: File,
    pub(super) at: u64,
    pub(super) real_size: u64,
    pub(super) map: Option<sparse::MapParser>,
    pub(super) segments: Vec<sparse::Segment>,
    pub(super) segment: usize,
    pub(super) existed: bool,
    pub(super) compare: bool,
}

impl StagedFile {
    /// Writes the next data of the member.
    pub(super) fn write(&mut self, mut data: &[u8]) -> Result<()> {
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

    /// Stages what has no data. Returns whether it was made.
    pub(super) fn stage_special(&mut self, meta: &EntryMeta, path: &[u8]) -> Result<bool> {
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

    pub(super) fn begin_file(
        &mut self,
        mut meta: EntryMeta,
        path: Vec<u8>,
        existed: bool,
        compare: bool,
    ) -> Result<StagedFile> {
        let number = self.number;
        let name = self.next_name()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.staged, &name, flags, Mode::from_raw_mode(0o600)).map_err(beneath::io)?;
        let real = sparse::real_size(&meta.pax)?;
        meta.path = path;
        let size = meta.size_bytes;
        Ok(StagedFile {
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

    pub(super) fn end_file(&mut self, staging: StagedFile) -> Result<()> {
        let StagedFile {
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
}
