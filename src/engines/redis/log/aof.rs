//! Makes an append-only file of a base and a command stream: a directory that a server loads by itself.
//!
//! While it loads, a server expires nothing, so what was written to a key before its end is applied as it was. Left out is what
//! belongs to the link (PING, REPLCONF), and a transaction of which the end is not there.
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
use crate::base::exact;
use crate::engines::beside::{PREVIOUS, beside, is_running, lock, put_away};
use crate::engines::redis::log::commands::{Command, CommandKind, Scanner};
use crate::engines::redis::wire::resp;

/// Names that a server has by default: `appenddirname`, and what `appendfilename` leads to.
pub(crate) const DIRECTORY: &str = "appendonlydir";
const BASE: &str = "appendonly.aof.1.base.rdb";
const COMMANDS: &str = "appendonly.aof.1.incr.aof";
const MANIFEST: &str = "appendonly.aof.manifest";

/// What follows the name of the directory until it is whole.
const STAGING: &str = ".wirevault-restore.tmp";

/// A command is held so far before it is written: those that are left out are shorter.
const HELD_BYTES: usize = 64 << 10;

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
    pub(crate) fn commands(&self, first: u64, until: u64, database: u32) -> Result<AofWriter> {
        AofWriter::create(&self.at.join(COMMANDS), first, until, database)
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

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// The offset behind the last command that is in the file.
    pub(crate) offset: u64,
    /// Commands, without those of the link.
    pub(crate) commands: u64,
    /// Bytes of the file.
    pub(crate) bytes: u64,
}

/// Writes the commands of a stream up to an offset.
#[derive(Debug)]
pub(crate) struct AofWriter {
    scanner: Scanner,
    until: u64,
    out: BufWriter<File>,
    /// Bytes of the file.
    length: u64,
    /// The command that comes, as far as it is not written.
    held: Vec<u8>,
    /// Whether some of it is written.
    is_begun: bool,
    in_block: bool,
    commands: u64,
    /// Up to the last command that stands alone, or the end of the last block.
    whole: Written,
}

impl AofWriter {
    fn create(path: &Path, first: u64, until: u64, database: u32) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path)?;
        let mut select = Vec::new();
        resp::encode(&[b"SELECT", database.to_string().as_bytes()], &mut select);
        let mut out = BufWriter::with_capacity(256 << 10, file);
        out.write_all(&select)?;
        let length = exact::u64_from(select.len());
        Ok(Self {
            scanner: Scanner::new(first),
            until,
            out,
            length,
            held: Vec::new(),
            is_begun: false,
            in_block: false,
            commands: 0,
            whole: Written {
                offset: first,
                commands: 0,
                bytes: length,
            },
        })
    }

    /// Returns the offset of the next byte.
    pub(crate) fn at(&self) -> u64 {
        self.scanner.at()
    }

    /// Takes the next bytes of the stream; what lies behind the offset where it ends is left aside.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        let left = self.until.saturating_sub(self.scanner.at());
        let mut rest = exact::first(bytes, exact::usize_from(left));
        while !rest.is_empty() {
            let (used, command) = self.scanner.next(rest)?;
            let (piece, behind) = rest
                .split_at_checked(used)
                .ok_or_else(|| Error::corrupt("a command ends behind its bytes"))?;
            rest = behind;
            self.held.extend_from_slice(piece);
            match command {
                Some(command) => self.command(command)?,
                None if self.held.len() > HELD_BYTES => {
                    self.write()?;
                    self.is_begun = true;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        self.out.write_all(&self.held).context("write the commands")?;
        self.length = self.length.saturating_add(exact::u64_from(self.held.len()));
        self.held.clear();
        Ok(())
    }

    fn command(&mut self, command: Command) -> Result<()> {
        let strange = |what: &str| Err(Error::corrupt(format!("{what} ends at offset {}", command.ends)));
        let begun = std::mem::replace(&mut self.is_begun, false);
        match (command.kind, self.in_block) {
            (kind, _) if kind.is_of_link() => {
                if begun {
                    return strange("a command of the replication link that is none");
                }
                self.held.clear();
                if !self.in_block {
                    self.whole.offset = command.ends;
                }
                return Ok(());
            }
            (CommandKind::OfOneServer(name), _) => {
                return strange(&format!("{name}, which no primary sends,"));
            }
            (CommandKind::Multi, true) => return strange("a transaction within another one"),
            (CommandKind::Exec, false) => return strange("a transaction without a beginning"),
            (CommandKind::Multi, false) => self.in_block = true,
            (CommandKind::Exec, true) => self.in_block = false,
            _ => {}
        }
        self.write()?;
        self.commands = self.commands.saturating_add(1);
        if !self.in_block {
            self.whole = Written {
                offset: command.ends,
                commands: self.commands,
                bytes: self.length,
            };
        }
        Ok(())
    }

    /// Cuts the file behind the last whole command or block. Durable on return.
    pub(crate) fn finish(self) -> Result<Written> {
        let mut file = self
            .out
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .context("write the commands")?;
        file.set_len(self.whole.bytes)?;
        file.seek(SeekFrom::End(0))?;
        file.sync_all()?;
        Ok(self.whole)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(stream: &[u8], size: usize, until: u64) -> Result<(Written, Vec<u8>)> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("aof");
        let mut writer = AofWriter::create(&path, 100, until, 0).unwrap();
        for piece in stream.chunks(size) {
            writer.feed(piece)?;
        }
        let written = writer.finish()?;
        Ok((written, fs::read(&path).unwrap()))
    }

    fn encoded(commands: &[&[&[u8]]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for command in commands {
            resp::encode(command, &mut bytes);
        }
        bytes
    }

    #[test]
    fn a_stream_is_cut_behind_whole_commands_and_blocks_wherever_it_ends() {
        let long = vec![b'x'; 200_000];
        let (ping, ack): (&[&[u8]], &[&[u8]]) = (&[b"PING"], &[b"REPLCONF", b"GETACK", b"*"]);
        let commands: &[&[&[u8]]] = &[
            &[b"SET", b"a", b"1"],
            ping,
            &[b"MULTI"],
            &[b"SELECT", b"3"],
            &[b"SET", b"b", &long],
            &[b"EXEC"],
            ack,
            &[b"SET", b"c", b"2"],
        ];
        // After so many commands, the file holds these.
        let holds = [0, 1, 1, 1, 1, 1, 6, 6, 8];
        let stream = encoded(commands);
        for (count, holds) in holds.iter().enumerate() {
            let ends = encoded(commands.get(..count).unwrap()).len();
            let kept: Vec<&[&[u8]]> = commands.get(..*holds).unwrap().to_vec();
            let kept: Vec<&[&[u8]]> = kept.into_iter().filter(|one| *one != ping && *one != ack).collect();
            let expected = encoded(&[&[&[&b"SELECT"[..], b"0"][..]], kept.as_slice()].concat());
            for (until, size) in [(ends, 7), (ends, 1 << 20), (ends + 3, 50_000)] {
                let until = 100 + exact::u64_from(until);
                let (written, file) = write(&stream, size, until).unwrap();
                assert!(file == expected, "{count}, {until}, {size}");
                assert!(written.offset <= until);
                assert_eq!(written.bytes, exact::u64_from(file.len()));
                assert_eq!(written.commands, exact::u64_from(kept.len()));
            }
        }
    }

    #[test]
    fn hostile_streams_are_errors() {
        let long = vec![b'x'; 200_000];
        let hostile: [&[&[&[u8]]]; 3] = [&[&[b"EXEC"]], &[&[b"MULTI"], &[b"MULTI"]], &[&[b"PING", &long]]];
        for commands in hostile {
            assert!(write(&encoded(commands), 1000, u64::MAX).is_err());
        }
        for name in ["REPLICAOF", "config", "Shutdown", "AUTH"] {
            let stream = encoded(&[&[b"SET", b"a", b"1"], &[name.as_bytes(), b"x", b"1"]]);
            let error = write(&stream, 1000, u64::MAX).unwrap_err();
            assert!(error.chain().contains(&name.to_uppercase()), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        assert!(write(b"SET a b\r\n", 1000, u64::MAX).is_err());
        // What is cut short is left out.
        let (written, _) = write(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1000000\r\nabc", 1000, u64::MAX).unwrap();
        assert_eq!((written.offset, written.commands), (100, 0));
    }

    #[test]
    fn a_directory_gets_its_place_at_the_end_alone() {
        let place = tempfile::tempdir().unwrap();
        let make = || {
            let directory = AofDirectory::create(place.path()).unwrap();
            fs::write(directory.base(), "REDIS").unwrap();
            directory.commands(1, 2, 0).unwrap().finish().unwrap();
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
