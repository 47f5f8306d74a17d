//! The names of one directory in order, however many there are, in bounded memory.
//!
//! A directory gives its names in no order. Each pass over it keeps the smallest names greater than the last one
//! handed out, up to a bound on their number and bytes; the next pass begins where that one ended. A directory of two
//! million names is read some forty times, which costs seconds and no memory.

use std::collections::BinaryHeap;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, FileType};

/// One name; a directory's ends in `/`, which is what sorts it: plain byte order of full paths.
pub(crate) type Key = Vec<u8>;

/// What a heap entry costs beside its bytes: vector header and allocation.
const KEY_OVERHEAD: usize = 40;

/// Bounds of one pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PassBounds {
    /// Names at most.
    pub(crate) names: usize,
    /// Bytes at most.
    pub(crate) bytes: usize,
}

impl Default for PassBounds {
    fn default() -> Self {
        Self {
            names: 65_536,
            bytes: 4 << 20,
        }
    }
}

/// Returns the smallest names greater than `after`, in descending order (so that `pop` yields the next one), and
/// whether the directory has more after them.
pub(crate) fn pass(dir: impl AsFd, after: Option<&[u8]>, bounds: PassBounds) -> rustix::io::Result<(Vec<Key>, bool)> {
    let mut heap: BinaryHeap<Key> = BinaryHeap::new();
    let mut bytes = 0;
    let mut more = false;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let is_dir = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory),
            _ => false,
        };
        if after.is_some_and(|after| compare(name, is_dir, after).is_le()) {
            continue;
        }
        if more && heap.peek().is_some_and(|last| compare(name, is_dir, last).is_gt()) {
            continue;
        }
        let mut key = name.to_vec();
        if is_dir {
            key.push(b'/');
        }
        bytes += key.len() + KEY_OVERHEAD;
        heap.push(key);
        while heap.len() > 1 && (heap.len() > bounds.names || bytes > bounds.bytes) {
            more = true;
            bytes -= heap.pop().map_or(0, |key| key.len() + KEY_OVERHEAD);
        }
    }
    let mut names = heap.into_sorted_vec();
    names.reverse();
    Ok((names, more))
}

fn compare(name: &[u8], is_dir: bool, key: &[u8]) -> std::cmp::Ordering {
    let slash: &[u8] = if is_dir { b"/" } else { b"" };
    name.iter().chain(slash).cmp(key.iter())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn small_passes_give_the_same_order_as_one_sort() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..100 {
            std::fs::write(dir.path().join(format!("f{}", n * 37 % 100)), b"").unwrap();
        }
        for name in ["a", "f1-x", "f1x"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("a-b"), b"").unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        let (mut all, more) = pass(&fd, None, PassBounds::default()).unwrap();
        assert!(!more);
        all.reverse();
        assert!(all.is_sorted());
        assert_eq!(
            &all[..2],
            &[b"a-b".to_vec(), b"a/".to_vec()],
            "a directory sorts with its slash"
        );
        let mut found: Vec<Key> = Vec::new();
        loop {
            let (mut names, more) = pass(
                &fd,
                found.last().map(Vec::as_slice),
                PassBounds {
                    names: 7,
                    bytes: 4 << 20,
                },
            )
            .unwrap();
            assert!(names.len() <= 7);
            while let Some(name) = names.pop() {
                found.push(name);
            }
            if !more {
                break;
            }
        }
        assert_eq!(found, all);
    }
}
