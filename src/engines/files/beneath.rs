//! Paths from a backup, and directories below a root that no link leads out of.
//!
//! A path from an archive is untrusted: it is relative, has no empty, `.` or `..` component and no NUL. Directories
//! are opened component by component with `O_NOFOLLOW`, so a link that stands (or is put) where a directory should be
//! is an error, never a way out of the root.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;

/// Bytes of a path at most: what a backup takes and a restore accepts.
pub(crate) const MAX_PATH_BYTES: usize = 65_536;

/// How a directory is opened.
pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// Returns bytes of a path as text for people.
pub(crate) fn show(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}

/// Checks a path of an archive and returns it without the trailing slash of a directory.
pub(crate) fn checked(path: &[u8]) -> Result<&[u8]> {
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    if !is_below(trimmed) {
        return Err(Error::corrupt(format!(
            "the backup holds the path \"{}\", which climbs or is not a path",
            show(path)
        ))
        .with_hint("Nothing was written. wirevault never writes such a path; do not trust this backup."));
    }
    Ok(trimmed)
}

/// Returns whether a path without a trailing slash lies below where it is unpacked.
pub(crate) fn is_below(path: &[u8]) -> bool {
    let bad = |component: &[u8]| {
        component.is_empty()
            || component == b"."
            || component == b".."
            || component.contains(&0)
            || component.len() > 255
    };
    path.len() <= MAX_PATH_BYTES && !path.split(|b| *b == b'/').any(bad)
}

/// Splits a path into its parent ("" at the root) and its name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (
            exact::part(path, ..at, "a slash stands there"),
            exact::part(path, at + 1.., "a slash stands before it"),
        ),
        None => (b"", path),
    }
}

/// Opens the directory `path` ("" is the root itself) below `root`. A link or a file on the way is an error.
pub(crate) fn open_dir(root: impl AsFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let mut fd = rustix::fs::openat(root, ".", DIRECTORY, Mode::empty())?;
    for component in path.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
        fd = rustix::fs::openat(&fd, component, DIRECTORY, Mode::empty())?;
    }
    Ok(fd)
}

/// Like [`open_dir`], and makes what is missing.
pub(crate) fn make_dirs(root: impl AsFd, path: &[u8], mut made: impl FnMut(&[u8]) -> Result<()>) -> Result<OwnedFd> {
    let mut fd = rustix::fs::openat(root, ".", DIRECTORY, Mode::empty()).map_err(io)?;
    let mut end = 0;
    for component in path.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
        end += component.len() + usize::from(end > 0);
        let next = rustix::fs::openat(&fd, component, DIRECTORY, Mode::empty());
        fd = match next {
            Err(Errno::NOENT) => {
                made(exact::part(path, ..end, "its components are no longer than the path"))?;
                rustix::fs::mkdirat(&fd, component, Mode::from_raw_mode(0o755)).map_err(io)?;
                rustix::fs::openat(&fd, component, DIRECTORY, Mode::empty()).map_err(io)?
            }
            other => other
                .map_err(io)
                .with_context(|| format!("open directory \"{}\"", show(path)))?,
        };
    }
    Ok(fd)
}

/// Returns the file's own facts, not those of what a link points to; `None` if there is nothing.
pub(crate) fn stat(dir: impl AsFd, name: &[u8]) -> Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(io(errno)),
    }
}

/// Returns the facts of `path` below `root`, or `None` if it or a directory above it is missing or no directory.
pub(crate) fn stat_path(root: impl AsFd, path: &[u8]) -> Result<Option<Stat>> {
    let (parent, name) = split(path);
    match open_dir(root, parent) {
        Ok(dir) => stat(dir, name),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(io(errno)),
    }
}

/// Returns the modification time, within what a header can say whatever a filesystem makes of it.
pub(crate) fn mtime(stat: &Stat) -> (i64, u32) {
    let nanoseconds = exact::saturating_u32(stat.st_mtime_nsec);
    (stat.st_mtime.max(-i64::MAX + 1), nanoseconds.min(999_999_999))
}

/// The error for a mount point, which no rename replaces.
pub(crate) fn mount_point(what: &str) -> Error {
    let message = format!("{what} is a mount point, and cannot be replaced");
    Error::new(ErrorKind::Unsupported, message).with_hint("Unmount it, or restore into another directory with --into.")
}

/// Turns an error number into this crate's error.
pub(crate) fn io(errno: Errno) -> Error {
    if errno == Errno::XDEV {
        return Error::new(ErrorKind::Unsupported, "the path is on another filesystem");
    }
    if errno == Errno::BUSY {
        return mount_point("the path");
    }
    Error::from(std::io::Error::from(errno))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn climbing_paths_are_refused() {
        for path in ["", "/", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/.", "a\0b"] {
            assert!(checked(path.as_bytes()).is_err(), "{path:?}");
        }
        assert_eq!(checked(b"a/b/").unwrap(), b"a/b");
        assert_eq!(checked(b"..a/b..").unwrap(), b"..a/b..");
    }

    #[test]
    fn a_link_on_the_way_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join("out")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        assert!(open_dir(&root, b"out").is_err());
        assert!(make_dirs(&root, b"out/x", |_| Ok(())).is_err());
        make_dirs(&root, b"a/b", |_| Ok(())).unwrap();
        assert!(open_dir(&root, b"a/b").is_ok());
    }
}
