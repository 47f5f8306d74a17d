//! Where a path lies within its filesystem: the same for every bind mount of it.
//!
//! Two paths that look unrelated may be one directory (`mount --bind`). The kernel says of each mount which directory of its
//! filesystem it shows, so that paths can be compared as what they are.
//!
//! Format: <https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html>

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::base::error::{Context, Result};

/// Says what is mounted where.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// Major and minor number of the filesystem.
    device: String,
    /// The directory of the filesystem that it shows.
    shows: PathBuf,
    /// Where.
    at: PathBuf,
}

/// All mounts that this process sees.
#[derive(Debug, Clone, Default)]
pub(in crate::operations) struct Mounts(Vec<Mount>);

/// A path within a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Within {
    device: String,
    path: PathBuf,
}

impl Within {
    /// Returns whether one lies in the other, either way, or both are the same.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.device == other.device && (self.path.starts_with(&other.path) || other.path.starts_with(&self.path))
    }
}

impl Mounts {
    /// Asks the kernel.
    pub(in crate::operations) fn read() -> Result<Self> {
        let bytes = std::fs::read(MOUNTINFO).with_context(|| format!("read \"{MOUNTINFO}\""))?;
        Ok(Self(bytes.split(|byte| *byte == b'\n').filter_map(parse).collect()))
    }

    /// Returns where a path without links lies within its filesystem.
    pub(super) fn within(&self, path: &Path) -> Option<Within> {
        let mut best: Option<&Mount> = None;
        for mount in &self.0 {
            let deeper = best.is_none_or(|best| mount.at.components().count() >= best.at.components().count());
            // Of several mounts at one place the last one is seen.
            if path.starts_with(&mount.at) && deeper {
                best = Some(mount);
            }
        }
        let mount = best?;
        Some(Within {
            device: mount.device.clone(),
            path: mount.shows.join(path.strip_prefix(&mount.at).ok()?),
        })
    }

    /// Returns whether something is mounted at a path without links.
    pub(in crate::operations) fn is_mount(&self, path: &Path) -> bool {
        self.0.iter().any(|mount| mount.at == path)
    }
}

/// Reads one line: id, parent, device, root, place, and more.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ').skip(2);
    let device = String::from_utf8(fields.next()?.to_vec()).ok()?;
    Some(Mount {
        device,
        shows: unescape(fields.next()?),
        at: unescape(fields.next()?),
    })
}

/// Blanks, tabs, line ends and backslashes stand as three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let [first, more @ ..] = rest {
        let octal = match (first, more) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                rest = after;
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        if octal.is_none() {
            rest = more;
        }
        bytes.push(octal.unwrap_or(*first));
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bind_mounts_are_seen_through() {
        let text = b"22 1 8:1 / / rw - ext4 /dev/a rw\n\
            30 22 8:1 /srv/repo /mnt/b\\040x rw,relatime shared:1 - ext4 /dev/a rw\n\
            31 22 0:45 / /mnt/other rw - tmpfs none rw\n";
        let mounts = Mounts(text.split(|byte| *byte == b'\n').filter_map(parse).collect());
        assert_eq!(mounts.0.len(), 3);
        let within = |path: &str| mounts.within(Path::new(path)).unwrap();
        assert_eq!(within("/mnt/b x/data"), within("/srv/repo/data"));
        assert!(within("/mnt/b x").meets(&within("/srv")));
        assert!(within("/").meets(&within("/mnt/b x/data")));
        assert!(!within("/srv/repo2").meets(&within("/mnt/b x")));
        assert!(!within("/mnt/other").meets(&within("/")));
        assert!(mounts.is_mount(Path::new("/mnt/other")) && !mounts.is_mount(Path::new("/mnt")));
    }
}
