//! Extended attributes as pax records `SCHILY.xattr.<name>`, POSIX ACLs among them (`system.posix_acl_access`).
//!
//! Those of files and directories are read and written through their own descriptor. Links, pipes and devices cannot be
//! opened for that: theirs go by `/proc/self/fd/<directory>/<name>`, where the last step is not followed and every step
//! before it is the directory that is held open. Kernel bounds: 64 KiB of names, 64 KiB a value.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::base::exact;

/// How a pax record of an attribute begins.
pub(crate) const PREFIX: &str = "SCHILY.xattr.";

/// The ACL that grants, and the one that what is made in a directory gets.
const ACCESS_ACL: &str = "system.posix_acl_access";
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Attributes of one file that are kept at most, names included, in bytes; more are reported. With a path of 64 KiB they
/// still fit into the one chunk that a header may take.
const MAX_BYTES: usize = 768 << 10;

/// Attributes as pax records.
pub(crate) type Records = BTreeMap<String, Vec<u8>>;

/// What has attributes.
#[derive(Debug)]
pub(crate) enum AttrHolder<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// A path below `/proc/self/fd`; its last component is not followed.
    Named(Vec<u8>),
}

impl<'a> AttrHolder<'a> {
    /// What is open.
    pub(crate) fn open(fd: &'a impl AsFd) -> Self {
        Self::Open(fd.as_fd())
    }

    /// A name in an open directory, itself and not what it points to.
    pub(crate) fn named(dir: impl AsFd, name: &[u8]) -> Self {
        let dir = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd());
        Self::Named([dir.as_bytes(), name].concat())
    }

    fn list(&self, into: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, into),
            Self::Named(path) => rustix::fs::llistxattr(path.as_slice(), into),
        }
    }

    fn get(&self, name: &[u8], into: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, into),
            Self::Named(path) => rustix::fs::lgetxattr(path.as_slice(), name, into),
        }
    }

    fn set(&self, name: &str, value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Named(path) => rustix::fs::lsetxattr(path.as_slice(), name, value, XattrFlags::empty()),
        }
    }

    fn remove(&self, name: &str) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Named(path) => rustix::fs::lremovexattr(path.as_slice(), name),
        }
    }
}

/// Reads all attributes. `lost` learns what could not be read.
pub(crate) fn read(place: &AttrHolder<'_>, lost: &mut dyn FnMut(&str, String)) -> Records {
    let mut found = BTreeMap::new();
    let mut list = vec![0; 4096];
    let len = match place.list(&mut list) {
        Err(Errno::RANGE) => {
            list.resize(65_536, 0);
            place.list(&mut list)
        }
        other => other,
    };
    let len = match len {
        Ok(len) => len,
        Err(Errno::NOTSUP) => return found,
        Err(errno) => {
            lost("*", errno.to_string());
            return found;
        }
    };
    let mut total = 0;
    for name in exact::filled(&list, len).split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let Some(text) = std::str::from_utf8(name).ok().filter(|t| !t.contains(['=', '\n'])) else {
            lost(
                &name.escape_ascii().to_string(),
                "its name cannot be stored in a pax record".to_owned(),
            );
            continue;
        };
        let mut value = vec![0; 1024];
        let len = match place.get(name, &mut value) {
            Err(Errno::RANGE) => {
                value.resize(65_536, 0);
                place.get(name, &mut value)
            }
            other => other,
        };
        match len {
            Ok(len) if total + len + name.len() <= MAX_BYTES => {
                total += len + name.len();
                value.truncate(len);
                found.insert(format!("{PREFIX}{text}"), value);
            }
            Ok(_) => lost(
                text,
                format!("the attributes of the file exceed {} KiB", MAX_BYTES >> 10),
            ),
            Err(Errno::NODATA) => {}
            Err(errno) => lost(text, errno.to_string()),
        }
    }
    found
}

/// Makes the attributes those of a pax map; with `exact`, what the map has not goes. `lost` learns what could not be
/// done. Returns the mode that may be set: where the ACL of the map could not be set, the group bits of `mode` would
/// give the group what the ACL's mask allows to others, so they become the group's own.
pub(crate) fn write(
    place: &AttrHolder<'_>,
    pax: &Records,
    exact: bool,
    mode: u32,
    lost: &mut dyn FnMut(&str, Errno),
) -> u32 {
    let mut unread = Vec::new();
    let there = read(place, &mut |name, _| unread.push(name.to_owned()));
    if exact {
        for name in there.keys().filter(|key| !pax.contains_key(*key)).map(|key| bare(key)) {
            if owned(name)
                && let Err(errno) = place.remove(name)
                && errno != Errno::NODATA
            {
                lost(name, errno);
            }
        }
        for name in unread.iter().filter(|name| owned(name)) {
            if !pax.contains_key(&format!("{PREFIX}{name}")) {
                let _ = place.remove(name);
            }
        }
    }
    let mut mode = mode;
    for (key, value) in pax {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        if there.get(key) == Some(value) {
            continue;
        }
        if let Err(errno) = place.set(name, value) {
            lost(name, errno);
            if name == ACCESS_ACL {
                mode = without_acl(mode, value);
            }
        }
    }
    mode
}

/// Returns whether the attributes are those of a pax map; with `exact`, whether there are no others.
pub(crate) fn equal(place: &AttrHolder<'_>, pax: &Records, exact: bool) -> bool {
    let mut whole = true;
    let there = read(place, &mut |_, _| whole = false);
    let wanted = || pax.iter().filter(|(key, _)| key.starts_with(PREFIX));
    whole
        && wanted().all(|(key, value)| there.get(key) == Some(value))
        && (!exact || there.keys().all(|key| pax.contains_key(key) || !owned(bare(key))))
}

fn bare(key: &str) -> &str {
    key.strip_prefix(PREFIX).unwrap_or(key)
}

/// Returns whether an attribute belongs to whoever owns the file. Labels of security modules and what a filesystem
/// shows of itself (`security.selinux`, `system.nfs4_acl`) are the host's: they are set where a backup has them, and
/// stay where it has none.
fn owned(name: &str) -> bool {
    name.starts_with("user.")
        || name.starts_with("trusted.")
        || [ACCESS_ACL, DEFAULT_ACL, "security.capability"].contains(&name)
}

/// Returns a mode whose group bits are what an access ACL gives to the group itself: under an ACL they are its mask.
///
/// Format: <https://github.com/torvalds/linux/blob/v6.1/include/uapi/linux/posix_acl_xattr.h>
fn without_acl(mode: u32, acl: &[u8]) -> u32 {
    const GROUP_OBJ: u16 = 4;
    const MASK: u16 = 16;
    let Some((_, entries)) = acl.split_first_chunk::<4>() else {
        // What is cut gives the group nothing.
        return mode & !0o070;
    };
    let perm = |wanted: u16| {
        entries.chunks_exact(8).find_map(|entry| match entry {
            [a, b, c, d, ..] if u16::from_le_bytes([*a, *b]) == wanted => Some(u16::from_le_bytes([*c, *d]) & 7),
            _ => None,
        })
    };
    let group = perm(GROUP_OBJ).unwrap_or(0) & perm(MASK).unwrap_or(7);
    (mode & !0o070) | (mode & (u32::from(group) << 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_acl_a_file_gives_its_group_no_more_than_the_acl_did() {
        let entry =
            |tag: u16, perm: u16, id: u32| [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat();
        let none = u32::MAX;
        let acl = |group, mask| {
            [
                2u32.to_le_bytes().to_vec(),
                entry(1, 6, none),
                entry(2, 7, 65_534),
                entry(4, group, none),
                entry(16, mask, none),
                entry(32, 0, none),
            ]
            .concat()
        };
        assert_eq!(without_acl(0o670, &acl(0, 7)), 0o600);
        assert_eq!(without_acl(0o670, &acl(4, 7)), 0o640);
        assert_eq!(without_acl(0o650, &acl(7, 5)), 0o650);
        assert_eq!(without_acl(0o4670, b"no acl"), 0o4600);
    }
}
