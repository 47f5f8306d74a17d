//! Files that do not say how long they are: what the kernel or a FUSE filesystem makes up as it is read.
//!
//! Their size by stat is 0 (`/proc`) or a page (`/sys`) whatever they hold, while the length of a member stands before its
//! data. So they are read to their end first: little into memory, more into a file of the spool directory.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use crate::base::exact;

/// Files of up to this size that take no blocks are read to their end first.
pub(super) const MOST_ANNOUNCED: u64 = 1 << 20;

/// Bytes kept in memory.
const MOST_IN_MEMORY: usize = 1 << 20;

/// Bytes of one such file at most: one may have no end.
const MOST: u64 = 1 << 30;

/// What was read.
#[derive(Debug)]
pub(super) enum Aside {
    /// All of it.
    Memory(Vec<u8>),
    /// A file without a name, and its length.
    Spooled(OwnedFd, u64),
}

/// Why it was not.
#[derive(Debug)]
pub(super) enum Failure {
    /// Reading it failed.
    Read(Errno),
    /// It is longer than anybody can wait for.
    Endless,
    /// There is no room for it.
    Spool(std::io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(errno) => write!(f, "{errno}"),
            Self::Endless => write!(
                f,
                "its size is reported as 0, but it contains more than {} MiB",
                MOST >> 20
            ),
            Self::Spool(error) => write!(
                f,
                "its size is unknown, and it could not be copied to the spool directory: {error}"
            ),
        }
    }
}

/// Reads an open file from its beginning to its end.
pub(super) fn read(fd: impl AsFd, spool: &Path) -> Result<Aside, Failure> {
    let mut memory = Vec::new();
    let mut piece = vec![0; 64 << 10];
    let mut file: Option<File> = None;
    let mut length = 0u64;
    loop {
        let len = match rustix::io::read(&fd, &mut piece[..]) {
            Ok(0) => break,
            Ok(len) => len,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Failure::Read(errno)),
        };
        length += exact::u64_from(len);
        if length > MOST {
            return Err(Failure::Endless);
        }
        let piece = exact::filled(&piece, len);
        if file.is_none() && memory.len() + len <= MOST_IN_MEMORY {
            memory.extend_from_slice(piece);
            continue;
        }
        if file.is_none() {
            let mut new = unnamed(spool).map_err(Failure::Spool)?;
            new.write_all(&memory).map_err(Failure::Spool)?;
            memory = Vec::new();
            file = Some(new);
        }
        if let Some(file) = &mut file {
            file.write_all(piece).map_err(Failure::Spool)?;
        }
    }
    Ok(match file {
        Some(file) => Aside::Spooled(file.into(), length),
        None => Aside::Memory(memory),
    })
}

/// Makes a file that is gone as soon as it is closed, however this process ends.
fn unnamed(spool: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(spool)?;
    let path = spool.join(format!("aside-{:016x}", rand::random::<u64>()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn what_is_long_goes_through_the_spool_directory_and_leaves_nothing_there() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        for len in [0, 5, MOST_IN_MEMORY, MOST_IN_MEMORY + 1, 3 * MOST_IN_MEMORY] {
            let data: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let path = dir.path().join("data");
            std::fs::write(&path, &data).unwrap();
            let mut back = Vec::new();
            match read(File::open(&path).unwrap(), &spool).unwrap() {
                Aside::Memory(bytes) => back = bytes,
                Aside::Spooled(fd, length) => {
                    assert_eq!(length, u64::try_from(len).unwrap());
                    let mut piece = vec![0; len];
                    assert_eq!(rustix::io::pread(&fd, &mut piece[..], 0).unwrap(), len);
                    back.append(&mut piece);
                }
            }
            assert!(back == data, "{len}");
        }
        assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
    }
}
