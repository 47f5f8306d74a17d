//! Reads a tree into an archive.
//!
//! The length of a file stands in its header before its data: a file that shrinks meanwhile is padded with zeros to
//! that length, one that grows is cut there, and either is marked `changed` and noted. A file is read straight into
//! the archive's buffer. Nothing is lost in silence: whatever is not stored as it was is a note.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::aside::{self, Aside};
use super::attrs::AttrHolder;
use super::beneath::{self, show};
use super::links::{Links, Name};
use super::patterns::Patterns;
use super::walk::{Found, WalkOptions, Walker, id};
use super::{attrs, sparse};
use crate::archive::{EntryKind, EntryMeta, SequentialWriter};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::{Note, SharedReporter};
use crate::engines::Notes;
use crate::engines::sqlite::{MAGIC, registry};

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
    pub(crate) links: Links,
    pub(crate) totals: Totals,
    /// Stands before every path in the archive; empty, or a directory with its slash.
    pub(crate) prefix: &'a [u8],
    /// Where long files that do not say how long they are lie meanwhile.
    pub(crate) spool: &'a Path,
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
        for (what, pattern) in walker.unmatched() {
            let message = format!("the {what} pattern matched nothing");
            notes.add(Note::new("unmatched-pattern", pattern, message));
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
                match rustix::fs::openat(&found.dir, found.name(), beneath::DIRECTORY, Mode::empty()) {
                    Ok(fd) => meta.pax = self.xattrs(&AttrHolder::open(&fd), &found.path),
                    // Whoever may not list a directory may still ask for its attributes.
                    Err(Errno::ACCESS) => meta.pax = self.xattrs(&named(found), &found.path),
                    // The walk says what became of it.
                    Err(_) => {}
                }
                self.store_bare(&meta)
            }
            FileType::Symlink => match rustix::fs::readlinkat(&found.dir, found.name(), Vec::new()) {
                Ok(target) => {
                    let mut meta = meta_of(found, EntryKind::Symlink);
                    meta.link = Some(target.into_bytes());
                    meta.pax = self.xattrs(&named(found), &found.path);
                    self.store_bare(&meta)
                }
                Err(errno) => {
                    self.lost(found, errno);
                    Ok(())
                }
            },
            FileType::Fifo => {
                let mut meta = meta_of(found, EntryKind::Fifo);
                meta.pax = self.xattrs(&named(found), &found.path);
                self.store_bare(&meta)
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
                let kind = if kind == FileType::BlockDevice {
                    EntryKind::BlockDevice
                } else {
                    EntryKind::CharDevice
                };
                let mut meta = meta_of(found, kind);
                meta.pax = self.xattrs(&named(found), &found.path);
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
                    "is a socket, which only its server can create",
                );
                Ok(())
            }
            FileType::Unknown => {
                self.note("unreadable", &found.path, "is of an unknown kind");
                Ok(())
            }
        }
    }

    /// Begins an entry, or says why it cannot stand in the archive: one odd file is not the end of the others. Returns
    /// whether it was begun.
    fn begin(&mut self, meta: &EntryMeta) -> Result<bool> {
        let Err(error) = self.begin_below_prefix(meta) else {
            return Ok(true);
        };
        match error.kind() {
            ErrorKind::LimitExceeded if meta.pax.keys().any(|key| key.starts_with(attrs::PREFIX)) => {
                self.note(
                    "xattr-lost",
                    &meta.path,
                    "its extended attributes are not in the backup: they are larger than a header may be",
                );
                let mut bare = meta.clone();
                bare.pax.retain(|key, _| !key.starts_with(attrs::PREFIX));
                self.begin(&bare)
            }
            ErrorKind::LimitExceeded | ErrorKind::Invalid => {
                self.note(
                    "unreadable",
                    &meta.path,
                    format!("is not in the backup: {}", error.chain()),
                );
                Ok(false)
            }
            _ => Err(error),
        }
    }

    /// Begins an entry under the tree's prefix; a hard link's target lies under it too.
    fn begin_below_prefix(&mut self, meta: &EntryMeta) -> Result<()> {
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
        if self.begin(meta)? {
            self.writer.finish_entry(false)?;
            self.count(0);
        }
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

    fn xattrs(&self, place: &AttrHolder<'_>, path: &[u8]) -> attrs::Records {
        attrs::read(place, &mut |name, why| {
            self.note(
                "xattr-lost",
                path,
                format!("extended attribute \"{name}\" is not in the backup: {why}"),
            );
        })
    }

    /// Returns whether the file was stored as a further name of one that is in the archive already.
    fn store_as_link(&mut self, found: &Found) -> Result<bool> {
        match self.links.look(&found.stat) {
            Name::First => Ok(false),
            Name::Further(first) => {
                let mut meta = meta_of(found, EntryKind::Hardlink);
                meta.link = Some(first.to_vec());
                self.store_bare(&meta)?;
                Ok(true)
            }
            Name::OfAnother => {
                self.note(
                    "link-as-copy",
                    &found.path,
                    "is stored as a file of its own: its inode changed since another name of it was read",
                );
                Ok(false)
            }
        }
    }

    fn store_file(&mut self, found: &Found) -> Result<()> {
        if self.store_as_link(found)? {
            return Ok(());
        }
        let opened = open_file(found).and_then(|fd| rustix::fs::fstat(&fd).map(|stat| (fd, stat)));
        let (fd, stat) = match opened {
            Ok(opened) => opened,
            Err(errno) => {
                self.lost(found, errno);
                return Ok(());
            }
        };
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
        if is_live_database(&fd, &stat, found) {
            self.note(
                "sqlite-in-files",
                &found.path,
                "is a SQLite database in use, and its stored copy may be inconsistent; add a source of kind sqlite \
                 for it",
            );
        }
        let mut meta = meta_of(
            &Found {
                path: found.path.clone(),
                stat,
                ..found.clone_place()
            },
            EntryKind::File,
        );
        meta.pax = self.xattrs(&AttrHolder::open(&fd), &found.path);
        let Some(Stored { size, shrank }) = self.store_data(&fd, &mut meta, found, &stat)? else {
            return Ok(());
        };
        let after = rustix::fs::fstat(&fd).ok();
        let changed = shrank.or_else(|| how_it_changed(&stat, after.as_ref()));
        self.writer.finish_entry(changed.is_some())?;
        if let Some(how) = changed {
            self.note(
                "changed",
                &found.path,
                format!("{how} while it was read; {size} bytes are stored"),
            );
        }
        if !self.links.remember(&found.path, after.as_ref().unwrap_or(&stat)) {
            self.note(
                "link-as-copy",
                &found.path,
                "has several names; too many such files, so its other names are stored as copies",
            );
        }
        self.count(size);
        Ok(())
    }

    /// Stores the data of an open file; `None` if there is no entry of it.
    fn store_data(&mut self, fd: &OwnedFd, meta: &mut EntryMeta, found: &Found, stat: &Stat) -> Result<Option<Stored>> {
        let Ok(size) = u64::try_from(stat.st_size) else {
            let said = format!(
                "is not in the backup: its file system reports a size of {} bytes",
                stat.st_size
            );
            self.note("unreadable", &found.path, said);
            return Ok(None);
        };
        let holes = exact::saturating_u64(stat.st_blocks).saturating_mul(512) < size;
        if let Some(segments) = holes.then(|| sparse::segments(fd, size)).flatten() {
            return self.store_sparse(fd, meta, &segments, size);
        }
        if stat.st_blocks == 0 && size <= aside::MOST_ANNOUNCED {
            return self.store_unannounced(fd, meta, found);
        }
        meta.size_bytes = size;
        if !self.begin(meta)? {
            return Ok(None);
        }
        let shrank = self.copy(fd, &found.path, 0, size)?.is_none().then_some("shrank");
        Ok(Some(Stored { size, shrank }))
    }

    /// Stores a file whose size by stat may be none.
    fn store_unannounced(&mut self, fd: &OwnedFd, meta: &mut EntryMeta, found: &Found) -> Result<Option<Stored>> {
        // The look for holes may have moved it; what cannot be moved is at its beginning.
        let _ = rustix::fs::seek(fd, SeekFrom::Start(0));
        let data = match aside::read(fd, self.spool) {
            Ok(data) => data,
            Err(why) => {
                self.note("unreadable", &found.path, format!("is not in the backup: {why}"));
                return Ok(None);
            }
        };
        meta.size_bytes = match &data {
            Aside::Memory(bytes) => exact::u64_from(bytes.len()),
            Aside::Spooled(_, length) => *length,
        };
        if !self.begin(meta)? {
            return Ok(None);
        }
        match data {
            Aside::Memory(bytes) => self.writer.write(&bytes)?,
            Aside::Spooled(file, length) => {
                self.copy(&file, &found.path, 0, length)?;
            }
        }
        Ok(Some(Stored {
            size: meta.size_bytes,
            shrank: None,
        }))
    }

    fn store_sparse(
        &mut self,
        fd: &OwnedFd,
        meta: &mut EntryMeta,
        segments: &[sparse::Segment],
        size: u64,
    ) -> Result<Option<Stored>> {
        let map = sparse::map(segments);
        let data: u64 = segments.iter().map(|s| s.1).sum();
        meta.size_bytes = exact::u64_from(map.len()).saturating_add(data);
        meta.pax
            .extend(sparse::records(&[self.prefix, &meta.path].concat(), size));
        if !self.begin(meta)? {
            return Ok(None);
        }
        self.writer.write(&map)?;
        let mut shrank = None;
        for (offset, len) in segments {
            if self.copy(fd, &meta.path, *offset, *len)?.is_none() {
                // Segments after this one are padded by `finish_entry`.
                shrank = Some("shrank");
                break;
            }
        }
        Ok(Some(Stored { size, shrank }))
    }

    /// Copies `len` bytes from `offset` into the entry; `None` if the file ended or could not be read before that.
    fn copy(&mut self, fd: &OwnedFd, path: &[u8], offset: u64, len: u64) -> Result<Option<()>> {
        let mut left = len;
        while left > 0 {
            self.check_cancelled()?;
            let space = self.writer.space()?;
            let space = exact::first_mut(space, exact::usize_from(left));
            match rustix::io::pread(fd, space, offset + (len - left)) {
                Ok(0) => return Ok(None),
                Ok(n) => {
                    self.writer.advance(n)?;
                    left -= exact::u64_from(n);
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

/// What of a file is in the archive.
struct Stored {
    size: u64,
    /// Whether it ended before its size by stat.
    shrank: Option<&'static str>,
}

/// Says what happened to a file between two looks at it.
fn how_it_changed(before: &Stat, after: Option<&Stat>) -> Option<&'static str> {
    let Some(after) = after else {
        return Some("could not be checked again");
    };
    match () {
        () if after.st_size > before.st_size => Some("grew"),
        () if after.st_size < before.st_size => Some("shrank"),
        () if (after.st_mtime, after.st_mtime_nsec) != (before.st_mtime, before.st_mtime_nsec) => {
            Some("was written to")
        }
        () => None,
    }
}

fn named(found: &Found) -> AttrHolder<'static> {
    AttrHolder::named(&found.dir, found.name())
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

/// Whether a file begins like a SQLite database and what its application keeps beside it while it works is there.
fn is_live_database(fd: &OwnedFd, stat: &Stat, found: &Found) -> bool {
    // The smallest has one page of 512 bytes.
    let mut magic = [0; 16];
    let begins = stat.st_size >= 512 && rustix::io::pread(fd, &mut magic, 0) == Ok(magic.len());
    let companions = registry::SUFFIXES.iter().filter(|suffix| !suffix.is_empty());
    begins
        && magic == *MAGIC
        && companions.into_iter().any(|suffix| {
            let name = [found.name(), suffix.as_bytes()].concat();
            let stat = rustix::fs::statat(&found.dir, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
        })
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
        mtime: beneath::mtime(stat),
        link: None,
        device: None,
        pax: std::collections::BTreeMap::new(),
    }
}
