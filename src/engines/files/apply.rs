//! Does the steps of a journal, or undoes them.
//!
//! Every step can be repeated: a staged file that is gone was placed. What stands at a path is moved to the same path
//! below the directory of previous files before anything takes its place, so undoing is moving back.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, RenameFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::journal::{self, Action, DirMeta, Step};
use super::{attrs, beneath};
use crate::base::error::{Context, Error, ErrorKind, Result};

/// The directories of one restore.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) root: OwnedFd,
    pub(super) previous: OwnedFd,
    /// `None` when a finished restore is undone: everything was placed.
    pub(super) staged: Option<OwnedFd>,
    /// Where an undo moves what stands in its way: somebody may have worked on it. Without it that is removed.
    pub(super) aside: Option<OwnedFd>,
}

/// The name of a staged file: its shard and number.
pub(super) fn staged_name(number: u64) -> String {
    format!("{:x}/{number}", number >> 12)
}

/// Returns whether a path lies in a directory; everything lies in the root, whose path is empty.
pub(super) fn lies_in(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() || path.starts_with(directory) && path.get(directory.len()) == Some(&b'/')
}

/// Makes `Timestamps` that set the modification time.
pub(super) fn times(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.0,
        tv_nsec: i64::from(mtime.1.min(999_999_999)),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

impl Places {
    /// Does all steps.
    pub(super) fn finish(&self, journal: &Path, failed: &mut dyn FnMut(&[u8], &str)) -> Result<()> {
        let mut open: Vec<(Vec<u8>, DirMeta)> = Vec::new();
        journal::forwards(journal, &mut |step| {
            while let Some((path, _)) = open.last() {
                if lies_in(&step.path, path) {
                    break;
                }
                if let Some((path, meta)) = open.pop() {
                    self.set_dir(&path, &meta, failed)?;
                }
            }
            let act = || format!("restore \"{}\"", beneath::show(&step.path));
            match &step.action {
                Action::Directory { new, .. } => {
                    self.do_dir(&step.path).with_context(act)?;
                    open.push((step.path.clone(), new.clone()));
                }
                Action::RemoveDir(_) => {
                    let (parent, name) = beneath::split(&step.path);
                    if let Ok(dir) = beneath::open_dir(&self.root, parent) {
                        // One that is not empty holds what the backup left out.
                        let _ = rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR);
                    }
                }
                _ => self.do_step(&step).with_context(act)?,
            }
            Ok(())
        })?;
        while let Some((path, meta)) = open.pop() {
            self.set_dir(&path, &meta, failed)?;
        }
        Ok(())
    }

    fn do_step(&self, step: &Step) -> Result<()> {
        let (parent, name) = beneath::split(&step.path);
        match &step.action {
            Action::Place(number) => {
                let Some(staged) = &self.staged else { return Ok(()) };
                let from = staged_name(*number);
                if rustix::fs::statat(staged, &from, AtFlags::SYMLINK_NOFOLLOW).is_err() {
                    return Ok(());
                }
                let dir = beneath::make_dirs(&self.root, parent, |_| Ok(()))?;
                self.move_away(&dir, &step.path)?;
                rustix::fs::renameat(staged, &from, &dir, name).map_err(beneath::io)
            }
            Action::Link(target) => {
                let dir = beneath::make_dirs(&self.root, parent, |_| Ok(()))?;
                let (target_parent, target_name) = beneath::split(target);
                let target_dir = beneath::open_dir(&self.root, target_parent).map_err(beneath::io)?;
                let there = beneath::stat(&target_dir, target_name)?
                    .filter(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile)
                    .ok_or_else(|| {
                        Error::corrupt(format!(
                            "the hard link's target \"{}\" is not a file",
                            beneath::show(target)
                        ))
                    })?;
                if beneath::stat(&dir, name)?.is_some_and(|s| (s.st_dev, s.st_ino) == (there.st_dev, there.st_ino)) {
                    return Ok(());
                }
                self.move_away(&dir, &step.path)?;
                rustix::fs::linkat(&target_dir, target_name, &dir, name, AtFlags::empty()).map_err(beneath::io)
            }
            Action::Remove => match beneath::open_dir(&self.root, parent) {
                Ok(dir) => self.move_away(&dir, &step.path),
                Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(beneath::io(errno)),
            },
            Action::Directory { .. } | Action::RemoveDir(_) => Ok(()),
        }
    }

    fn do_dir(&self, path: &[u8]) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        let (parent, name) = beneath::split(path);
        let dir = beneath::make_dirs(&self.root, parent, |_| Ok(()))?;
        match beneath::stat(&dir, name)? {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => return Ok(()),
            Some(_) => self.move_away(&dir, path)?,
            None => {}
        }
        rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)).map_err(beneath::io)
    }

    /// Moves what stands at the path below the directory of previous files. A directory is never moved.
    fn move_away(&self, dir: &OwnedFd, path: &[u8]) -> Result<()> {
        let (parent, name) = beneath::split(path);
        let Some(stat) = beneath::stat(dir, name)? else {
            return Ok(());
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(Error::invalid("there is a directory where the backup has a file"));
        }
        let to = beneath::make_dirs(&self.previous, parent, |_| Ok(()))?;
        move_to(dir, name, &to)
    }

    /// Clears a path for what is put back.
    fn put_aside(&self, dir: &OwnedFd, path: &[u8]) -> Result<()> {
        let (parent, name) = beneath::split(path);
        if beneath::stat(dir, name)?.is_none() {
            return Ok(());
        }
        let Some(aside) = &self.aside else {
            return match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                // A directory is removed by its own step, unless somebody put something into it.
                Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(()),
                Err(errno) => Err(beneath::io(errno)),
            };
        };
        let to = beneath::make_dirs(aside, parent, |_| Ok(()))?;
        move_to(dir, name, &to)
    }

    fn set_dir(&self, path: &[u8], meta: &DirMeta, failed: &mut dyn FnMut(&[u8], &str)) -> Result<()> {
        let fd = beneath::open_dir(&self.root, path).map_err(beneath::io)?;
        set_meta(&fd, meta, &mut |what| failed(path, what));
        Ok(())
    }

    /// Undoes all steps that were done.
    pub(super) fn undo(&self, journal: &Path) -> Result<()> {
        journal::backwards(journal, &mut |step| {
            self.undo_step(&step)
                .with_context(|| format!("undo \"{}\"", beneath::show(&step.path)))
        })
    }

    fn undo_step(&self, step: &Step) -> Result<()> {
        let (parent, name) = beneath::split(&step.path);
        if step.path.is_empty() {
            if let Action::Directory { old: Some(old), .. } = &step.action {
                set_meta(&self.root, old, &mut |_| {});
            }
            return Ok(());
        }
        if let Action::RemoveDir(old) = &step.action {
            let fd = beneath::make_dirs(&self.root, &step.path, |_| Ok(()))?;
            set_meta(&fd, old, &mut |_| {});
            return Ok(());
        }
        let dir = match beneath::open_dir(&self.root, parent) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(beneath::io(errno)),
        };
        let kept = beneath::stat_path(&self.previous, &step.path)?
            .filter(|s| FileType::from_raw_mode(s.st_mode) != FileType::Directory);
        if let Action::Directory { old, .. } = &step.action {
            if let Some(old) = old {
                if let Ok(fd) = beneath::open_dir(&dir, name) {
                    set_meta(&fd, old, &mut |_| {});
                }
            } else {
                // One that is not empty holds what somebody else put there.
                let _ = rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR);
            }
        }
        if kept.is_some() {
            self.put_aside(&dir, &step.path)?;
            let from = beneath::open_dir(&self.previous, parent).map_err(beneath::io)?;
            return rustix::fs::renameat(&from, name, &dir, name).map_err(beneath::io);
        }
        let placed = match &step.action {
            Action::Place(number) => self.staged.as_ref().is_none_or(|staged| {
                rustix::fs::statat(staged, staged_name(*number), AtFlags::SYMLINK_NOFOLLOW).is_err()
            }),
            Action::Link(_) => true,
            _ => false,
        };
        if placed && !step.existed {
            self.put_aside(&dir, &step.path)?;
        }
        Ok(())
    }
}

/// Moves a name into another directory. What has that name there stays: this one gets a number.
fn move_to(dir: &OwnedFd, name: &[u8], to: &OwnedFd) -> Result<()> {
    let mut free = name.to_vec();
    for number in 1..=MAX_SAME_NAME {
        match rustix::fs::renameat_with(dir, name, to, free.as_slice(), RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            // A filesystem that does not know the flag.
            Err(Errno::INVAL | Errno::NOSYS) if beneath::stat(to, &free)?.is_none() => {
                return rustix::fs::renameat(dir, name, to, free.as_slice()).map_err(beneath::io);
            }
            Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => {}
            Err(errno) => return Err(beneath::io(errno)),
        }
        free = [name, format!(".{number}").as_bytes()].concat();
    }
    Err(Error::new(
        ErrorKind::AlreadyExists,
        format!("\"{}\" and its numbered names are taken", beneath::show(name)),
    ))
}

/// Things of one name that are kept side by side at most.
const MAX_SAME_NAME: u32 = 1000;

/// Sets owner, mode, attributes and time of an open file or directory. `failed` learns what could not be set.
pub(super) fn set_meta(fd: impl AsFd, meta: &DirMeta, failed: &mut dyn FnMut(&str)) {
    let mut mode = meta.mode & 0o7777;
    if let Err(errno) = rustix::fs::fchown(&fd, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid))) {
        failed(&format!("owner: {errno}"));
        // A program that runs as its owner must not run as somebody else.
        mode &= 0o1777;
    }
    mode = attrs::write(
        &attrs::AttrHolder::open(&fd),
        &meta.pax,
        meta.exact,
        mode,
        &mut |name, errno| {
            failed(&format!("extended attribute: \"{name}\": {errno}"));
        },
    );
    if let Err(errno) = rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)) {
        failed(&format!("mode: {errno}"));
    }
    if let Err(errno) = rustix::fs::futimens(&fd, &times(meta.mtime)) {
        failed(&format!("time: {errno}"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::journal::JournalWriter;
    use super::*;
    use std::fs;

    fn places(root: &Path) -> Places {
        let open = |p: &str| OwnedFd::from(fs::File::open(root.join(p)).unwrap());
        Places {
            root: open("live"),
            previous: open("previous"),
            staged: Some(open("staged")),
            aside: None,
        }
    }

    #[test]
    fn steps_can_be_repeated_and_undone() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["live/a", "live/gone", "previous", "staged/0"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let at = |p: &str| dir.path().join(p);
        fs::write(at("live/a/x"), "old").unwrap();
        fs::write(at("live/gone/y"), "extra").unwrap();
        fs::write(at("live/b"), "a file where a directory goes").unwrap();
        fs::write(at("staged/0/0"), "new").unwrap();
        fs::write(at("staged/0/1"), "new in b").unwrap();
        let meta = DirMeta {
            mode: 0o750,
            uid: 0,
            gid: 0,
            mtime: (1, 2),
            pax: std::collections::BTreeMap::new(),
            exact: true,
        };
        let step = |path: &str, existed, action| Step {
            path: path.as_bytes().to_vec(),
            existed,
            action,
        };
        let steps = [
            step(
                "a",
                true,
                Action::Directory {
                    new: meta.clone(),
                    old: Some(meta.clone()),
                },
            ),
            step("a/x", true, Action::Place(0)),
            step("a/z", false, Action::Link(b"a/x".to_vec())),
            step(
                "b",
                true,
                Action::Directory {
                    new: meta.clone(),
                    old: None,
                },
            ),
            step("b/n", false, Action::Place(1)),
            step("gone/y", true, Action::Remove),
            step("gone", true, Action::RemoveDir(meta)),
        ];
        let journal = at("journal");
        let mut writer = JournalWriter::create(&journal).unwrap();
        for s in &steps {
            writer.add(s).unwrap();
        }
        writer.finish().unwrap();
        for _ in 0..2 {
            places(dir.path()).finish(&journal, &mut |_, _| {}).unwrap();
            assert_eq!(fs::read_to_string(at("live/a/x")).unwrap(), "new");
            assert_eq!(fs::read_to_string(at("live/a/z")).unwrap(), "new");
            assert_eq!(fs::read_to_string(at("live/b/n")).unwrap(), "new in b");
            assert!(!at("live/gone").exists());
        }
        places(dir.path()).undo(&journal).unwrap();
        assert_eq!(fs::read_to_string(at("live/a/x")).unwrap(), "old");
        assert_eq!(fs::read_to_string(at("live/gone/y")).unwrap(), "extra");
        assert!(at("live/b").is_file() && !at("live/a/z").exists());
    }
}
