//! Marks within a directory that say "leave this out": `exclude_if_present`, and the Cache Directory Tagging Specification.
//!
//! The directory and its mark are stored, and nothing else of it. The root of a source is stored whatever it holds: it was
//! named.
//!
//! Specification: <https://bford.info/cachedir/>

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::base::error::{Error, Result};

/// The name of a cache's mark.
const CACHE: &str = "CACHEDIR.TAG";

/// What such a file begins with; another one of this name is no mark.
const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Which marks count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tags {
    names: Vec<String>,
    caches: bool,
}

impl Tags {
    /// Checks the names.
    pub(crate) fn new(names: &[String], caches: bool) -> Result<Self> {
        for name in names {
            if name.is_empty() || name.contains(['/', '\0']) || [".", ".."].contains(&name.as_str()) {
                return Err(
                    Error::invalid(format!("{name:?} in exclude_if_present is not a file name")).with_hint(
                        "Write only the name, such as \".nobackup\"; a directory that contains it is excluded.",
                    ),
                );
            }
        }
        Ok(Self {
            names: names.to_vec(),
            caches,
        })
    }

    /// Returns the mark that an open directory holds, if any.
    pub(crate) fn find(&self, dir: impl AsFd) -> Option<&str> {
        let there = |name: &&String| rustix::fs::statat(&dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let named = self.names.iter().find(there).map(String::as_str);
        named.or_else(|| (self.caches && is_cache(&dir)).then_some(CACHE))
    }
}

fn is_cache(dir: impl AsFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let Ok(fd) = rustix::fs::openat(dir, CACHE, flags, Mode::empty()) else {
        return false;
    };
    let mut begins = [0; SIGNATURE.len()];
    rustix::io::pread(&fd, &mut begins[..], 0).is_ok_and(|len| len == SIGNATURE.len()) && begins == *SIGNATURE
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cache_is_known_by_the_signature_and_not_by_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        let tags = Tags::new(&[".nobackup".to_owned()], true).unwrap();
        assert_eq!(tags.find(&fd), None);
        std::fs::write(dir.path().join(CACHE), "Signature: no").unwrap();
        assert_eq!(tags.find(&fd), None);
        std::fs::write(dir.path().join(CACHE), [SIGNATURE, b"\n# more\n"].concat()).unwrap();
        assert_eq!(tags.find(&fd), Some(CACHE));
        assert_eq!(Tags::default().find(&fd), None);
        std::os::unix::fs::symlink("nowhere", dir.path().join(".nobackup")).unwrap();
        assert_eq!(tags.find(&fd), Some(".nobackup"));
        assert!(Tags::new(&["a/b".to_owned()], false).is_err());
    }
}
