//! Names of files that are in the archive already under another one.
//!
//! Device and inode alone do not tell a file: an inode that is free is given to the next one, and a file may be written
//! to between two of its names. So a further name is one only while the inode is as it was after its data was read.

use std::collections::HashMap;

use rustix::fs::Stat;

use super::walk::id;
use crate::base::exact;

/// Bytes of remembered paths; names of later files are stored as copies.
const MAX_BYTES: usize = 4 << 20;

/// What an entry costs beside its path, in bytes.
const OVERHEAD: usize = 128;

/// Remembers the first name of every file that has several.
#[derive(Debug, Default)]
pub(crate) struct Links {
    known: HashMap<(u64, u64), Known>,
    bytes: usize,
}

#[derive(Debug)]
struct Known {
    path: Vec<u8>,
    state: State,
}

/// How an inode was. Whatever happens to it, a write, a link or its end and a new life, moves its `ctime`.
#[derive(Debug, PartialEq, Eq)]
struct State {
    ctime: (i64, i64),
    mtime: (i64, i64),
    size: i64,
    kind_and_mode: u32,
}

impl State {
    fn of(stat: &Stat) -> Self {
        Self {
            ctime: (stat.st_ctime, exact::saturating_i64(stat.st_ctime_nsec)),
            mtime: (stat.st_mtime, exact::saturating_i64(stat.st_mtime_nsec)),
            size: stat.st_size,
            kind_and_mode: stat.st_mode,
        }
    }
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// The file has no other, or none that was seen.
    First,
    /// The file is in the archive under this path.
    Further(&'a [u8]),
    /// A file of this inode is in the archive, but the inode is not as it was.
    OfAnother,
}

impl Links {
    /// Looks a file up.
    pub(crate) fn look(&self, stat: &Stat) -> Name<'_> {
        if stat.st_nlink < 2 {
            return Name::First;
        }
        match self.known.get(&id(stat)) {
            None => Name::First,
            Some(known) if known.state == State::of(stat) => Name::Further(&known.path),
            Some(_) => Name::OfAnother,
        }
    }

    /// Remembers a file by what it was after it was read. Returns whether there was room.
    pub(crate) fn remember(&mut self, path: &[u8], stat: &Stat) -> bool {
        if stat.st_nlink < 2 {
            return true;
        }
        let state = State::of(stat);
        if let Some(known) = self.known.get_mut(&id(stat)) {
            self.bytes = self.bytes.saturating_sub(known.path.len()) + path.len();
            *known = Known {
                path: path.to_vec(),
                state,
            };
            return true;
        }
        if self.bytes + path.len() + OVERHEAD > MAX_BYTES {
            return false;
        }
        self.bytes += path.len() + OVERHEAD;
        let path = path.to_vec();
        self.known.insert(id(stat), Known { path, state });
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_inode_that_changed_is_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "x").unwrap();
        std::fs::hard_link(&one, &two).unwrap();
        let stat = rustix::fs::stat(&one).unwrap();
        let mut links = Links::default();
        assert_eq!(links.look(&stat), Name::First);
        assert!(links.remember(b"one", &stat));
        assert_eq!(
            links.look(&rustix::fs::stat(&two).unwrap()),
            Name::Further(b"one".as_slice())
        );
        for change in [
            |stat: &mut Stat| stat.st_ctime += 1,
            |stat: &mut Stat| stat.st_ctime_nsec += 1,
            |stat: &mut Stat| stat.st_size += 1,
        ] {
            let mut later = stat;
            change(&mut later);
            assert_eq!(links.look(&later), Name::OfAnother);
        }
    }
}
