//! Makes an append-only file of a base and a command stream: a directory that a server loads by itself.
//!
//! While it loads, a server expires nothing, so what was written to a key before its end is applied as it was.
//!
//! The directory is made beside its place, under one name that is its alone, and gets its place by a rename: what stands at the place is
//! nothing, what was there before, or all of it. A restore that is killed leaves what it had made under that name, without a lock; the
//! next one into the same place removes it. The manifest is written last: a directory that has one is whole, and is never removed.
//!
//! Format: `aof.c`, "Multi Part AOF", Redis 7.0 and every Valkey.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::beside::{PREVIOUS, beside, is_running, lock, put_away};
use crate::engines::redis::log::replay::{CommandSink, Replayed};

/// Names that a server has by default: `appenddirname`, and what `appendfilename` leads to.
pub(crate) const DIRECTORY: &str = "appendonlydir";
const BASE: &str = "appendonly.aof.1.base.rdb";
const COMMANDS: &str = "appendonly.aof.1.incr.aof";
const MANIFEST: &str = "appendonly.aof.manifest";

/// What follows the name of the directory until it is whole.
const STAGING: &str = ".wirevault-restore.tmp";

/// The directory while it is made: under a name of its own beside the place that it gets at the end.
#[derive(Debug)]
pub(crate) struct AofDirectory {
    at: PathBuf,
    place: PathBuf,
    /// Its lock tells others that somebody is at work.
    held: File,
}

impl AofDirectory {
    /// Makes it, for a server whose data directory is `data`. What a restore left there that was killed is removed.
    pub(crate) fn create(data: &Path) -> Result<Self> {
        let act = || format!("create \"{}\"", data.display());
        fs::create_dir_all(data).with_context(act)?;
        let place = data.join(DIRECTORY);
        let at = beside(&place, STAGING);
        loop {
            let held = hold(&at).with_context(act)?;
            if clear(&at).with_context(act)? {
                return Ok(Self { at, place, held });
            }
            let kept = put_away(&place, PREVIOUS);
            rename_new(&at, &kept).with_context(act)?;
            tracing::warn!(
                "an interrupted restore left an append-only file that may be whole; it is kept as \"{}\"",
                kept.display()
            );
        }
    }

    /// Returns where the base goes, an RDB.
    pub(crate) fn base(&self) -> PathBuf {
        self.at.join(BASE)
    }

    /// Begins the file of the commands that follow the base.
    pub(crate) fn commands(&self) -> Result<CommandFile> {
        CommandFile::create(&self.at.join(COMMANDS))
    }

    /// Gives it its place, durably. What is there is an error, or with `replace` stays beside under another name, which is returned.
    pub(crate) fn publish(self, replace: bool) -> Result<Option<PathBuf>> {
        let act = || format!("make \"{}\"", self.place.display());
        let mut options = OpenOptions::new();
        let mut manifest = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.at.join(MANIFEST))
            .with_context(act)?;
        let text = format!("file {BASE} seq 1 type b\nfile {COMMANDS} seq 1 type i\n");
        manifest.write_all(text.as_bytes()).with_context(act)?;
        manifest.sync_all().with_context(act)?;
        sync(&self.at).with_context(act)?;
        let kept = if replace && self.place.symlink_metadata().is_ok() {
            Some(exchange(&self.at, &self.place).with_context(act)?)
        } else {
            rename_new(&self.at, &self.place).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => exists(&self.place),
                _ => Error::from(error).context(act()),
            })?;
            None
        };
        let data = self.place.parent().unwrap_or(&self.place);
        sync(data).with_context(act)?;
        Ok(kept)
    }
}

impl Drop for AofDirectory {
    fn drop(&mut self) {
        // Once it has its place, the name is nobody's, or that of what stood there before.
        if !is_at(&self.held, &self.at) {
            return;
        }
        // What cannot be removed now is what the next restore finds.
        let _ = fs::remove_file(self.at.join(MANIFEST));
        if clear(&self.at).is_ok_and(|is_empty| is_empty) {
            let _ = fs::remove_dir(&self.at);
        }
    }
}

/// The error for a place at which something stands.
pub(crate) fn exists(place: &Path) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("\"{}\" exists", place.display()))
        .with_hint("Add --clean to replace it (it is kept under another name), or choose another --into.")
}

/// Makes a directory, or takes the one that is there, and locks it.
fn hold(at: &Path) -> Result<File> {
    match fs::DirBuilder::new().mode(0o700).create(at) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut options = OpenOptions::new();
    let held = options.read(true).custom_flags(flags.bits().cast_signed()).open(at)?;
    lock(&held, at)?;
    // Whoever had it may have given it its place, or removed it, in between.
    if is_at(&held, at) {
        Ok(held)
    } else {
        Err(is_running(at))
    }
}

/// Returns whether an open directory has this name.
fn is_at(held: &File, at: &Path) -> bool {
    match (held.metadata(), at.symlink_metadata()) {
        (Ok(held), Ok(there)) => held.dev() == there.dev() && held.ino() == there.ino(),
        _ => false,
    }
}

/// Removes the files of a directory that was never whole. Returns false, and removes nothing, where there is anything else.
fn clear(at: &Path) -> io::Result<bool> {
    let names: Vec<_> = fs::read_dir(at)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<_>>()?;
    if !names.iter().all(|name| name.to_str().is_some_and(is_unfinished)) {
        return Ok(false);
    }
    for name in names {
        fs::remove_file(at.join(name))?;
    }
    Ok(true)
}

/// Returns whether a name is one of those that stand in the directory before the manifest does.
fn is_unfinished(name: &str) -> bool {
    let beside = name
        .strip_prefix(BASE)
        .and_then(|rest| rest.strip_prefix(".wirevault-"));
    let is_random = |rest: &str| rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    name == BASE || name == COMMANDS || beside.is_some_and(is_random)
}

/// Renames without replacing anything, where the filesystem can.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A directory replaces at most an empty one then.
        Err(Errno::INVAL | Errno::NOSYS) => fs::rename(from, to),
        done => Ok(done?),
    }
}

/// Puts `new` in the place of what stands there; returns where that is kept. Where the filesystem can, at no moment is there nothing at
/// the place.
fn exchange(new: &Path, place: &Path) -> io::Result<PathBuf> {
    let kept = put_away(place, PREVIOUS);
    match renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE) {
        // A restore that ends between the two leaves what was there under the name of what is made. It has a manifest, so it stays.
        Ok(()) => {
            let moved = rename_new(new, &kept);
            return Ok(if moved.is_ok() { kept } else { new.to_owned() });
        }
        Err(Errno::INVAL | Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    rename_new(place, &kept)?;
    rename_new(new, place).inspect_err(|_| {
        let _ = rename_new(&kept, place);
    })?;
    Ok(kept)
}

fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A file of commands, durable once it is finished.
#[derive(Debug)]
pub(crate) struct CommandFile(BufWriter<File>);

impl CommandFile {
    fn create(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self(BufWriter::with_capacity(256 << 10, file)))
    }

    /// Cuts it behind the last whole command or block. Durable on return.
    pub(crate) fn finish(self, whole: &Replayed) -> Result<()> {
        let mut file = self
            .0
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .context("write the commands")?;
        file.set_len(whole.bytes)?;
        file.seek(SeekFrom::End(0))?;
        file.sync_all()?;
        Ok(())
    }
}

impl CommandSink for CommandFile {
    fn put(&mut self, bytes: &[u8], _: bool) -> Result<()> {
        self.0.write_all(bytes).context("write the commands")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_gets_its_place_at_the_end_alone() {
        let place = tempfile::tempdir().unwrap();
        let make = || {
            let directory = AofDirectory::create(place.path()).unwrap();
            fs::write(directory.base(), "REDIS").unwrap();
            drop(directory.commands().unwrap());
            directory
        };
        drop(make());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        assert_eq!(make().publish(false).unwrap(), None);
        assert_eq!(
            fs::read_to_string(place.path().join("appendonlydir/appendonly.aof.manifest")).unwrap(),
            "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
        );
        assert_eq!(make().publish(false).unwrap_err().kind(), ErrorKind::AlreadyExists);
        fs::write(place.path().join("appendonlydir/own"), "").unwrap();
        let kept = make().publish(true).unwrap().unwrap();
        assert!(kept.join("own").exists() && kept.join(BASE).exists());
        assert!(!place.path().join("appendonlydir/own").exists());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_second_restore_removes_what_a_killed_one_left_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let staging = place.path().join("appendonlydir.wirevault-restore.tmp");
        // Killed while it wrote the snapshot, or the commands.
        fs::create_dir(&staging).unwrap();
        for name in [&format!("{BASE}.wirevault-0123abcd"), BASE, COMMANDS] {
            fs::write(staging.join(name), "half").unwrap();
        }
        let directory = AofDirectory::create(place.path()).unwrap();
        assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
        // That one is at work.
        let error = AofDirectory::create(place.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error:?}");
        drop(directory);
        assert!(!staging.exists());

        // Killed between two renames: it is what was at the place, or all of what was made.
        fs::create_dir(&staging).unwrap();
        fs::write(staging.join(MANIFEST), "whole").unwrap();
        fs::write(staging.join(BASE), "whole").unwrap();
        drop(AofDirectory::create(place.path()).unwrap());
        let left: Vec<_> = fs::read_dir(place.path())
            .unwrap()
            .map(|one| one.unwrap().path())
            .collect();
        let [kept] = left.as_slice() else { panic!("{left:?}") };
        assert!(
            kept.display().to_string().contains("/appendonlydir.pre-restore-"),
            "{left:?}"
        );
        assert_eq!(fs::read_to_string(kept.join(MANIFEST)).unwrap(), "whole");

        // A link is somebody else's.
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join(BASE), "own").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &staging).unwrap();
        AofDirectory::create(place.path()).unwrap_err();
        assert_eq!(fs::read_to_string(elsewhere.path().join(BASE)).unwrap(), "own");
    }
}
