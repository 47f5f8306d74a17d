//! Makes an append-only file of a base and a command stream: a directory that a server loads by itself.
//!
//! While it loads, a server expires nothing, so what was written to a key before its end is applied as it was. Left out is what
//! belongs to the link (PING, REPLCONF), and a transaction of which the end is not there.
//!
//! Format: `aof.c`, "Multi Part AOF", Redis 7.0 and every Valkey.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::engines::redis::log::commands::{Command, CommandKind, Scanner};
use crate::engines::redis::wire::resp;

/// Names that a server has by default: `appenddirname`, and what `appendfilename` leads to.
pub(crate) const DIRECTORY: &str = "appendonlydir";
const BASE: &str = "appendonly.aof.1.base.rdb";
const COMMANDS: &str = "appendonly.aof.1.incr.aof";
const MANIFEST: &str = "appendonly.aof.manifest";

/// A command is held so far before it is written: those that are left out are shorter.
const HELD_BYTES: usize = 64 << 10;

/// The directory while it is made: under a name of its own beside the place that it gets at the end.
#[derive(Debug)]
pub(crate) struct AofDirectory {
    at: PathBuf,
    place: PathBuf,
    published: bool,
}

impl AofDirectory {
    /// Makes it, for a server whose data directory is `data`.
    pub(crate) fn create(data: &Path) -> Result<Self> {
        let act = || format!("create \"{}\"", data.display());
        fs::create_dir_all(data).with_context(act)?;
        let at = data.join(format!(".{DIRECTORY}.wirevault-{:08x}", rand::random::<u32>()));
        fs::DirBuilder::new().mode(0o700).create(&at).with_context(act)?;
        Ok(Self {
            at,
            place: data.join(DIRECTORY),
            published: false,
        })
    }

    /// Returns where the base goes, an RDB.
    pub(crate) fn base(&self) -> PathBuf {
        self.at.join(BASE)
    }

    /// Begins the file of the commands that follow the base.
    pub(crate) fn commands(&self, first: u64, until: u64, database: u32) -> Result<AofWriter> {
        AofWriter::create(&self.at.join(COMMANDS), first, until, database)
    }

    /// Gives it its place, durably. What is there stays there, beside under another name, which is returned.
    pub(crate) fn publish(mut self) -> Result<Option<PathBuf>> {
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
        let mut kept = None;
        if self.place.symlink_metadata().is_ok() {
            let beside = format!("{DIRECTORY}.wirevault-{:08x}", rand::random::<u32>());
            let beside = self.place.with_file_name(beside);
            fs::rename(&self.place, &beside).with_context(act)?;
            kept = Some(beside);
        }
        fs::rename(&self.at, &self.place).with_context(act)?;
        self.published = true;
        let data = self.place.parent().unwrap_or(&self.place);
        sync(data).with_context(act)?;
        Ok(kept)
    }
}

impl Drop for AofDirectory {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_dir_all(&self.at);
        }
    }
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
        assert_eq!(make().publish().unwrap(), None);
        assert_eq!(
            fs::read_to_string(place.path().join("appendonlydir/appendonly.aof.manifest")).unwrap(),
            "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
        );
        let kept = make().publish().unwrap().unwrap();
        assert!(kept.join(BASE).exists());
    }
}
