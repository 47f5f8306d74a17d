//! Walks a tree depth-first, in the order of the archive, without ever following a link.
//!
//! The order is plain byte order of full paths in which a directory's path ends in `/`: `a-b`, `a/`, `a/x`, `a0`. The
//! archive keeps this order, so its index can be searched by bisection, and a restore can merge the archive with a
//! walk of the live tree. Every name is opened relative to its directory's descriptor with `O_NOFOLLOW`, so a link put
//! in place meanwhile cannot lead out of the root. Memory: one listing pass of 4 MiB in all (listings of directories
//! above are dropped and read again from where they were), 128 descriptors.
//!
//! Left out: what the patterns and marks leave out, this program's own directories (see [`own`]), other filesystems with
//! [`WalkOptions::one_file_system`], and every file of a registered SQLite database.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, Stat};
use rustix::io::Errno;

use super::beneath::{self, show};
use super::listing::{self, Key, PassBounds};
use super::patterns::{Hit, Patterns, Verdict};
use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::base::report::Note;
use crate::engines::own;
use crate::engines::sqlite::registry;

/// Names of this program's own directories begin so.
pub(crate) const OWN_PREFIX: &[u8] = b".wirevault-restore-";
/// And so, where the files that a restore replaced are kept inside the root.
pub(crate) const OWN_PREVIOUS_PREFIX: &[u8] = b".wirevault-pre-restore-";

/// Directories that stay open; those above are opened again when the walk comes back.
const MAX_OPEN: usize = 128;

/// How much of a path that is too long is shown.
const SHOWN_BYTES: usize = 100;

/// Options of a walk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WalkOptions {
    /// Whether directories on other filesystems are left out.
    pub(crate) one_file_system: bool,
    /// Bounds of one listing pass.
    pub(crate) bounds: PassBounds,
}

/// Something found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Path below the root, without a trailing slash.
    pub(crate) path: Vec<u8>,
    /// Length of the path up to its name.
    pub(super) name_at: usize,
    /// Its directory, open.
    pub(crate) dir: Arc<OwnedFd>,
    /// Its own facts.
    pub(crate) stat: Stat,
    /// Whether the patterns take it; otherwise it is a directory above something that may be taken.
    pub(crate) taken: bool,
}

impl Found {
    /// Returns the name within its directory.
    pub(crate) fn name(&self) -> &[u8] {
        exact::part(&self.path, self.name_at.., "a path ends with its name")
    }

    /// Returns the kind.
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Returns the path that sorts: a directory's ends in `/`.
    pub(crate) fn sort_path(&self) -> Vec<u8> {
        let mut path = self.path.clone();
        if self.kind() == FileType::Directory {
            path.push(b'/');
        }
        path
    }
}

#[derive(Debug)]
struct Frame {
    fd: Option<Arc<OwnedFd>>,
    id: (u64, u64),
    path_len: usize,
    inside: bool,
    names: Vec<Key>,
    names_bytes: usize,
    last: Option<Key>,
    more: bool,
    /// The mark that keeps everything else of the directory out.
    tag: Option<Vec<u8>>,
}

/// A walk under way.
#[derive(Debug)]
pub(crate) struct Walker<'a> {
    patterns: &'a Patterns,
    options: WalkOptions,
    root_device: u64,
    path: Vec<u8>,
    frames: Vec<Frame>,
    included: Vec<bool>,
    excluded: Vec<bool>,
    own: HashSet<(u64, u64)>,
}

/// Returns device and inode.
pub(crate) fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl<'a> Walker<'a> {
    /// Begins a walk at an open directory.
    pub(crate) fn new(root: BorrowedFd<'_>, patterns: &'a Patterns, options: WalkOptions) -> Result<Self> {
        let fd = beneath::open_dir(root, b"").map_err(beneath::io)?;
        let stat = rustix::fs::fstat(&fd).map_err(beneath::io)?;
        let mut walker = Self {
            patterns,
            options,
            root_device: stat.st_dev,
            path: Vec::new(),
            frames: Vec::new(),
            included: vec![false; patterns.includes().len()],
            excluded: vec![false; patterns.excludes().len()],
            own: own::ids(),
        };
        walker.push(fd, &stat, patterns.includes().is_empty(), None);
        Ok(walker)
    }

    /// Returns the patterns that matched nothing so far, each with what it is.
    pub(crate) fn unmatched(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let includes = self.patterns.includes().iter().zip(&self.included);
        let excludes = self.patterns.excludes().iter().zip(&self.excluded);
        let named = |what| move |(pattern, hit): (&'a String, &bool)| (!*hit).then_some((what, pattern.as_str()));
        let includes = includes.filter_map(named("include"));
        includes.chain(excludes.filter_map(named("exclude")))
    }

    /// Returns the next thing found, in order. What is left out and worth telling goes to `note`.
    pub(crate) fn next(&mut self, note: &mut dyn FnMut(Note)) -> Result<Option<Found>> {
        loop {
            let Some(key) = self.next_name(note)? else {
                if self.frames.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            if let Some(found) = self.look_at(&key, note)? {
                return Ok(Some(found));
            }
        }
    }

    /// Pops the next name of the deepest directory; `None` when that directory ended and was left.
    fn next_name(&mut self, note: &mut dyn FnMut(Note)) -> Result<Option<Key>> {
        let bounds = self.options.bounds;
        let Some(frame) = self.frames.last_mut() else {
            return Ok(None);
        };
        self.path.truncate(frame.path_len);
        if frame.names.is_empty() && frame.more {
            let Some(fd) = self.reopen(note)? else { return Ok(None) };
            let frame = self.frames.last_mut().ok_or_else(lost)?;
            match listing::pass(&fd, frame.last.as_deref(), bounds) {
                Ok((names, more)) => {
                    frame.names_bytes = names.iter().map(|n| n.len() + 40).sum();
                    frame.names = names;
                    frame.more = more;
                }
                Err(errno) if self.frames.len() > 1 => {
                    note(Note::new(
                        "unreadable",
                        show(&self.path),
                        format!("unable to read the directory: {errno}"),
                    ));
                    self.frames.pop();
                    return Ok(None);
                }
                Err(errno) => return Err(beneath::io(errno)).context("read the root directory"),
            }
        }
        let frame = self.frames.last_mut().ok_or_else(lost)?;
        let Some(key) = frame.names.pop() else {
            if !frame.more {
                self.frames.pop();
            }
            return Ok(None);
        };
        frame.names_bytes = frame.names_bytes.saturating_sub(key.len() + 40);
        frame.last = Some(key.clone());
        Ok(Some(key))
    }

    /// Judges one name; enters it if it is a directory that is wanted.
    fn look_at(&mut self, key: &[u8], note: &mut dyn FnMut(Note)) -> Result<Option<Found>> {
        let frame = self.frames.last().ok_or_else(lost)?;
        let listed_as_dir = key.last() == Some(&b'/');
        let name = key.strip_suffix(b"/").unwrap_or(key);
        let (inside, at_root, parent_id) = (frame.inside, frame.path_len == 0, frame.id);
        if frame.tag.as_ref().is_some_and(|tag| tag != name) {
            return Ok(None);
        }
        if at_root && (name.starts_with(OWN_PREFIX) || name.starts_with(OWN_PREVIOUS_PREFIX)) {
            // Ours are directories.
            if !listed_as_dir {
                note(Note::new(
                    "left-out-own",
                    show(name),
                    "is not in the backup: its name is reserved for wirevault",
                ));
            }
            return Ok(None);
        }
        if !at_root {
            self.path.push(b'/');
        }
        let name_at = self.path.len();
        self.path.extend_from_slice(name);
        if self.path.len() > beneath::MAX_PATH_BYTES {
            let end = show(exact::last(&self.path, SHOWN_BYTES));
            note(Note::new(
                "unreadable",
                format!("...{end}"),
                "is not in the backup, nor is anything below it: its path is longer than 64 KiB",
            ));
            return Ok(None);
        }
        let verdict = {
            let (included, excluded) = (&mut self.included, &mut self.excluded);
            self.patterns.judge(&self.path, listed_as_dir, inside, &mut |hit| {
                let place = match hit {
                    Hit::Include(number) => included.get_mut(number),
                    Hit::Exclude(number) => excluded.get_mut(number),
                };
                if let Some(place) = place {
                    *place = true;
                }
            })
        };
        if verdict == Verdict::Leave {
            return Ok(None);
        }
        let Some(dir) = self.reopen(note)? else { return Ok(None) };
        let stat = match rustix::fs::statat(&dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => {
                note(Note::new("vanished", show(&self.path), "vanished before it was read"));
                return Ok(None);
            }
            Err(errno) => {
                note(Note::new("unreadable", show(&self.path), errno.to_string()));
                return Ok(None);
            }
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if (kind == FileType::Directory) != listed_as_dir {
            note(Note::new(
                "vanished",
                show(&self.path),
                "became something else before it was read",
            ));
            return Ok(None);
        }
        if listed_as_dir && self.own.contains(&id(&stat)) {
            note(Note::new(
                "left-out-own",
                show(&self.path),
                "is a repository or the spool directory of wirevault",
            ));
            return Ok(None);
        }
        if kind != FileType::Directory && registry::is_registered(parent_id, name, id(&stat)) {
            note(Note::new(
                "left-out-sqlite",
                show(&self.path),
                "belongs to a SQLite database that has its own source",
            ));
            return Ok(None);
        }
        let found = Found {
            path: self.path.clone(),
            name_at,
            dir,
            stat,
            taken: verdict == Verdict::Take,
        };
        if listed_as_dir {
            self.enter(&found, note);
        }
        Ok(Some(found))
    }

    fn enter(&mut self, found: &Found, note: &mut dyn FnMut(Note)) {
        if self.options.one_file_system && found.stat.st_dev != self.root_device {
            note(Note::new(
                "other-filesystem",
                show(&found.path),
                "is on another filesystem and was not entered",
            ));
            return;
        }
        match rustix::fs::openat(&found.dir, found.name(), beneath::DIRECTORY, Mode::empty()) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).unwrap_or(found.stat);
                let tag = self.patterns.tags().find(&fd).map(|tag| tag.as_bytes().to_vec());
                self.push(fd, &stat, found.taken, tag);
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                note(Note::new(
                    "vanished",
                    show(&found.path),
                    "the directory vanished before it was read",
                ));
            }
            Err(errno) => note(Note::new(
                "unreadable",
                show(&found.path),
                format!("unable to open the directory: {errno}"),
            )),
        }
    }

    fn push(&mut self, fd: OwnedFd, stat: &Stat, inside: bool, tag: Option<Vec<u8>>) {
        // Listings above are dropped when they are large: they are read again from the last name on.
        let held: usize = self.frames.iter().map(|f| f.names_bytes).sum();
        if held > self.options.bounds.bytes / 2 {
            for frame in &mut self.frames {
                frame.more |= !frame.names.is_empty();
                frame.names = Vec::new();
                frame.names_bytes = 0;
            }
        }
        if self.frames.len() >= MAX_OPEN {
            let closing = self.frames.len() + 1 - MAX_OPEN;
            if let Some(frame) = self.frames.get_mut(closing) {
                frame.fd = None;
            }
        }
        self.frames.push(Frame {
            fd: Some(Arc::new(fd)),
            id: id(stat),
            path_len: self.path.len(),
            inside,
            names: Vec::new(),
            names_bytes: 0,
            last: None,
            more: true,
            tag,
        });
    }

    /// Returns the descriptor of the deepest directory, opening it again if it was closed.
    fn reopen(&mut self, note: &mut dyn FnMut(Note)) -> Result<Option<Arc<OwnedFd>>> {
        let frame = self.frames.last().ok_or_else(lost)?;
        if let Some(fd) = &frame.fd {
            return Ok(Some(Arc::clone(fd)));
        }
        let root = self.frames.first().and_then(|f| f.fd.as_ref()).ok_or_else(lost)?;
        let path = exact::part(
            &self.path,
            ..frame.path_len,
            "the path is that of a directory below the frame, or its own",
        );
        let again = beneath::open_dir(root.as_fd(), path).ok();
        let same = again.filter(|fd| rustix::fs::fstat(fd).is_ok_and(|s| id(&s) == frame.id));
        if let Some(fd) = same {
            let fd = Arc::new(fd);
            if let Some(frame) = self.frames.last_mut() {
                frame.fd = Some(Arc::clone(&fd));
            }
            return Ok(Some(fd));
        }
        note(Note::new(
            "vanished",
            show(path),
            "the directory was moved away while it was read; the rest of it is missing",
        ));
        self.frames.pop();
        Ok(None)
    }
}

fn lost() -> Error {
    Error::new(crate::base::error::ErrorKind::Other, "the walk lost its place")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn walk(
        root: &std::path::Path,
        include: &[&str],
        exclude: &[&str],
        bounds: PassBounds,
    ) -> (Vec<String>, Vec<String>) {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let patterns = Patterns::new(&own(include), &own(exclude)).unwrap();
        let fd = fs::File::open(root).unwrap();
        let mut walker = Walker::new(
            fd.as_fd(),
            &patterns,
            WalkOptions {
                one_file_system: false,
                bounds,
            },
        )
        .unwrap();
        let (mut paths, mut notes) = (Vec::new(), Vec::new());
        while let Some(found) = walker.next(&mut |n| notes.push(n.code)).unwrap() {
            paths.push(String::from_utf8(found.sort_path()).unwrap());
        }
        (paths, notes)
    }

    #[test]
    fn order_is_plain_byte_order_with_slashes_even_with_tiny_passes() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/x/1", "a/y/2", "a-b", "a0", "b/.hidden", "b/c/d/e/f", ".env", "z"] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let (large, notes) = walk(dir.path(), &[], &[], PassBounds::default());
        let (small, _) = walk(dir.path(), &[], &[], PassBounds { names: 1, bytes: 1 });
        assert_eq!(large, small);
        assert!(large.is_sorted(), "{large:?}");
        assert!(large.contains(&"link".to_owned()) && large.contains(&"b/c/d/e/f".to_owned()));
        assert!(notes.is_empty());
    }

    #[test]
    fn a_tree_deeper_than_the_open_directories_is_walked_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut path = dir.path().to_path_buf();
        for level in 0..300 {
            path.push("d");
            fs::create_dir(&path).unwrap();
            fs::write(path.join("e"), level.to_string()).unwrap();
        }
        let (paths, notes) = walk(dir.path(), &[], &[], PassBounds::default());
        assert_eq!(paths.len(), 600);
        assert!(paths.is_sorted() && notes.is_empty());
    }

    #[test]
    fn a_registered_database_is_left_out_with_a_note() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["app.db", "app.db-wal", "other"] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        let _kept = registry::register(&dir.path().join("app.db"));
        fs::write(dir.path().join("app.db-shm"), b"").unwrap();
        let (paths, notes) = walk(dir.path(), &[], &[], PassBounds::default());
        assert_eq!(paths, ["other"]);
        assert_eq!(notes, ["left-out-sqlite"; 3]);
    }
}
