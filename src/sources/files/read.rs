//! Reads a tree into an archive.
//!
//! The length of a file stands in its header before its data: a file that shrinks meanwhile is padded with zeros to
//! that length, one that grows is cut there, and either is marked `changed` and noted. A file is read straight into
//! the archive's buffer. Nothing is lost in silence: whatever is not stored as it was is a note.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::beneath::{self, show};
use super::patterns::Patterns;
use super::walk::{Found, WalkOptions, Walker, id};
use super::{attrs, sparse};
use crate::archive::{EntryKind, EntryMeta, SequentialWriter};
use crate::error::{Error, ErrorKind, Result};
use crate::report::{Note, SharedReporter};
use crate::sources::Notes;
use crate::sources::sqlite::registry;

/// Bytes of remembered paths of files with several names; later ones are stored as copies.
const MAX_LINK_BYTES: usize = 4 << 20;

/// What was read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Data bytes.
    pub(crate) bytes: u64,
    /// Entries.
    pub(crate) items: u64,
}

/// Reads one tree.
#[derive(Debug)]
pub(crate) struct TreeReader<'a> {
    pub(crate) writer: &'a mut SequentialWriter,
    pub(crate) notes: &'a Notes,
    pub(crate) reporter: &'a SharedReporter,
    pub(crate) task: &'a str,
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) links: HashMap<(u64, u64), Vec<u8>>,
    pub(crate) link_bytes: usize,
    pub(crate) totals: Totals,
    /// Stands before every path in the archive; empty, or a directory with its slash.
    pub(crate) prefix: &'a [u8],
}

impl TreeReader<'_> {
    /// Walks and stores everything.
    pub(crate) fn run(&mut self, root: BorrowedFd<'_>, patterns: &Patterns, options: WalkOptions) -> Result<()> {
        let notes = self.notes;
        let mut note = |n: Note| notes.add(n);
        let mut walker = Walker::new(root, patterns, options)?;
        // Directories above something that may be taken; they are stored when the first of it is.
        let mut pending: Vec<Found> = Vec::new();
        while let Some(found) = walker.next(&mut note)? {
            self.check_cancelled()?;
            pending
                .retain(|above| found.path.starts_with(&above.path) && found.path.get(above.path.len()) == Some(&b'/'));
            if !found.taken {
                pending.push(found);
                continue;
            }
            for above in std::mem::take(&mut pending) {
                self.store(&above)?;
            }
            self.store(&found)?;
        }
        for pattern in walker.unmatched() {
            notes.add(Note::new(
                "unmatched-pattern",
                pattern,
                "the include pattern matched nothing",
            ));
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
        }
        Ok(())
    }

    fn note(&self, code: &str, path: &[u8], message: impl Into<String>) {
        self.notes.add(Note::new(code, show(path), message));
    }

    fn store(&mut self, found: &Found) -> Result<()> {
        match found.kind() {
            FileType::RegularFile => self.store_file(found),
            FileType::Directory => {
                let mut meta = meta_of(found, EntryKind::Directory);
                meta.path.push(b'/');
                if let Ok(fd) = rustix::fs::openat(&found.dir, found.name(), beneath::DIRECTORY, Mode::empty()) {
                    meta.pax = self.xattrs(&fd, &found.path);
                }
                self.store_bare(&meta)
            }
            FileType::Symlink => match rustix::fs::readlinkat(&found.dir, found.name(), Vec::new()) {
                Ok(target) => {
                    let mut meta = meta_of(found, EntryKind::Symlink);
                    meta.link = Some(target.into_bytes());
                    self.store_bare(&meta)
                }
                Err(errno) => {
                    self.lost(found, errno);
                    Ok(())
                }
            },
            FileType::Fifo => self.store_bare(&meta_of(found, EntryKind::Fifo)),
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
                let kind = if kind == FileType::BlockDevice {
                    EntryKind::BlockDevice
                } else {
                    EntryKind::CharDevice
                };
                let mut meta = meta_of(found, kind);
                meta.device = Some((
                    rustix::fs::major(found.stat.st_rdev),
                    rustix::fs::minor(found.stat.st_rdev),
                ));
                self.store_bare(&meta)
            }
            FileType::Socket => {
                self.note(
                    "skipped-socket",
                    &found.path,
                    "is a socket, which only its server can make",
                );
                Ok(())
            }
            FileType::Unknown => {
                self.note("unreadable", &found.path, "is of an unknown kind");
                Ok(())
            }
        }
    }

    /// Begins an entry under the tree's prefix; a hard link's target lies under it too.
    fn begin(&mut self, meta: &EntryMeta) -> Result<()> {
        if self.prefix.is_empty() {
            return self.writer.begin_entry(meta);
        }
        let mut meta = meta.clone();
        meta.path = [self.prefix, &meta.path].concat();
        if meta.kind == EntryKind::Hardlink {
            meta.link = meta.link.map(|link| [self.prefix, &link].concat());
        }
        self.writer.begin_entry(&meta)
    }

    fn store_bare(&mut self, meta: &EntryMeta) -> Result<()> {
        self.begin(meta)?;
        self.writer.finish_entry(false)?;
        self.count(0);
        Ok(())
    }

    fn count(&mut self, bytes: u64) {
        self.totals.bytes += bytes;
        self.totals.items += 1;
        self.reporter.advance(self.task, bytes, 1);
    }

    fn lost(&self, found: &Found, errno: Errno) {
        match errno {
            Errno::NOENT | Errno::LOOP => self.note("vanished", &found.path, "vanished before it was read"),
            errno => self.note("unreadable", &found.path, format!("is not in the backup: {errno}")),
        }
    }

    fn xattrs(&self, fd: impl AsFd, path: &[u8]) -> std::collections::BTreeMap<String, Vec<u8>> {
        attrs::read(fd, &mut |name, why| {
            self.note(
                "xattr-lost",
                path,
                format!("extended attribute \"{name}\" is not in the backup: {why}"),
            );
        })
    }

    /// Returns whether the file was stored as a further name of one that is in the archive already.
    fn store_as_link(&mut self, found: &Found) -> Result<bool> {
        if found.stat.st_nlink < 2 {
            return Ok(false);
        }
        if let Some(first) = self.links.get(&id(&found.stat)) {
            let mut meta = meta_of(found, EntryKind::Hardlink);
            meta.link = Some(first.clone());
            self.store_bare(&meta)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn remember_link(&mut self, found: &Found) {
        if found.stat.st_nlink < 2 {
            return;
        }
        if self.link_bytes + found.path.len() + 64 > MAX_LINK_BYTES {
            self.note(
                "link-as-copy",
                &found.path,
                "has several names; too many such files are remembered, so its others are stored as copies",
            );
            return;
        }
        self.link_bytes += found.path.len() + 64;
        self.links.insert(id(&found.stat), found.path.clone());
    }

    fn store_file(&mut self, found: &Found) -> Result<()> {
        if self.store_as_link(found)? {
            return Ok(());
        }
        let fd = match open_file(found) {
            Ok(fd) => fd,
            Err(errno) => {
                self.lost(found, errno);
                return Ok(());
            }
        };
        let stat = rustix::fs::fstat(&fd).map_err(beneath::io)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.note("vanished", &found.path, "became something else before it was read");
            return Ok(());
        }
        if registry::is_registered_file(id(&stat)) {
            registry::keep_open(fd);
            self.note(
                "left-out-sqlite",
                &found.path,
                "belongs to a SQLite database that has its own source",
            );
            return Ok(());
        }
        let mut meta = meta_of(
            &Found {
                path: found.path.clone(),
                stat,
                ..found.clone_place()
            },
            EntryKind::File,
        );
        meta.pax = self.xattrs(&fd, &found.path);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let holes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < size;
        let segments = if holes { sparse::segments(&fd, size) } else { None };
        let changed = if let Some(segments) = segments {
            self.store_sparse(&fd, &mut meta, &segments, size)?
        } else {
            meta.size_bytes = size;
            self.begin(&meta)?;
            self.copy(&fd, &found.path, 0, size)?.map_or(Some("shrank"), |()| None)
        };
        let after = rustix::fs::fstat(&fd).map_err(beneath::io)?;
        let changed = changed.or_else(|| match () {
            () if after.st_size > stat.st_size => Some("grew"),
            () if after.st_size < stat.st_size => Some("shrank"),
            () if (after.st_mtime, after.st_mtime_nsec) != (stat.st_mtime, stat.st_mtime_nsec) => {
                Some("was written to")
            }
            () => None,
        });
        self.writer.finish_entry(changed.is_some())?;
        if let Some(how) = changed {
            self.note(
                "changed",
                &found.path,
                format!("{how} while it was read; {size} bytes are stored"),
            );
        }
        self.remember_link(found);
        self.count(size);
        Ok(())
    }

    fn store_sparse(
        &mut self,
        fd: &OwnedFd,
        meta: &mut EntryMeta,
        segments: &[sparse::Segment],
        size: u64,
    ) -> Result<Option<&'static str>> {
        let map = sparse::map(segments);
        let data: u64 = segments.iter().map(|s| s.1).sum();
        meta.size_bytes = u64::try_from(map.len()).unwrap_or(u64::MAX).saturating_add(data);
        meta.pax
            .extend(sparse::records(&[self.prefix, &meta.path].concat(), size));
        self.begin(meta)?;
        self.writer.write(&map)?;
        for (offset, len) in segments {
            rustix::fs::seek(fd, SeekFrom::Start(*offset)).map_err(beneath::io)?;
            if self.copy(fd, &meta.path, *offset, *len)?.is_none() {
                // Segments after this one are padded by `finish_entry`.
                return Ok(Some("shrank"));
            }
        }
        Ok(None)
    }

    /// Copies `len` bytes from `offset` into the entry; `None` if the file ended or could not be read before that.
    fn copy(&mut self, fd: &OwnedFd, path: &[u8], offset: u64, len: u64) -> Result<Option<()>> {
        let mut left = len;
        while left > 0 {
            self.check_cancelled()?;
            let space = self.writer.space()?;
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(space.len());
            let space = space.get_mut(..take).unwrap_or_default();
            match rustix::io::pread(fd, space, offset + (len - left)) {
                Ok(0) => return Ok(None),
                Ok(n) => {
                    self.writer.advance(n)?;
                    left -= u64::try_from(n).unwrap_or(0);
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    self.notes.add(Note::new(
                        "unreadable",
                        show(path),
                        format!("from byte {} on: {errno}; zeros are stored", offset + (len - left)),
                    ));
                    return Ok(None);
                }
            }
        }
        Ok(Some(()))
    }
}

impl Found {
    fn clone_place(&self) -> Self {
        Self {
            path: self.path.clone(),
            name_at: self.name_at,
            dir: std::sync::Arc::clone(&self.dir),
            stat: self.stat,
            taken: self.taken,
        }
    }
}

/// Opens a regular file without following a link, without waiting and, where we may, without touching its atime.
pub(crate) fn open_file(found: &Found) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    match rustix::fs::openat(&found.dir, found.name(), flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(&found.dir, found.name(), flags, Mode::empty()),
        other => other,
    }
}

fn meta_of(found: &Found, kind: EntryKind) -> EntryMeta {
    let stat = &found.stat;
    EntryMeta {
        path: found.path.clone(),
        kind,
        size_bytes: 0,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        link: None,
        device: None,
        pax: std::collections::BTreeMap::new(),
    }
}
