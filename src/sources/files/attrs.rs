//! Extended attributes as pax records `SCHILY.xattr.<name>`, POSIX ACLs among them (`system.posix_acl_access`).
//!
//! Attributes are read and written through the file's own descriptor. Kernel bounds: 64 KiB of names, 64 KiB a value.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// How a pax record of an attribute begins.
pub(crate) const PREFIX: &str = "SCHILY.xattr.";

/// Attributes of one file that are kept at most, in bytes; more are reported.
const MAX_BYTES: usize = 1 << 20;

/// Reads all attributes of an open file. `lost` learns what could not be read.
pub(crate) fn read(fd: impl AsFd, lost: &mut dyn FnMut(&str, String)) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut list = vec![0; 4096];
    let len = match rustix::fs::flistxattr(&fd, &mut list[..]) {
        Err(Errno::RANGE) => {
            list.resize(65_536, 0);
            rustix::fs::flistxattr(&fd, &mut list[..])
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
    for name in list
        .get(..len)
        .unwrap_or_default()
        .split(|b| *b == 0)
        .filter(|n| !n.is_empty())
    {
        let Some(text) = std::str::from_utf8(name).ok().filter(|t| !t.contains('=')) else {
            lost(
                &name.escape_ascii().to_string(),
                "its name cannot stand in a pax record".to_owned(),
            );
            continue;
        };
        let mut value = vec![0; 1024];
        let len = match rustix::fs::fgetxattr(&fd, name, &mut value[..]) {
            Err(Errno::RANGE) => {
                value.resize(65_536, 0);
                rustix::fs::fgetxattr(&fd, name, &mut value[..])
            }
            other => other,
        };
        match len {
            Ok(len) if total + len <= MAX_BYTES => {
                total += len;
                value.truncate(len);
                found.insert(format!("{PREFIX}{text}"), value);
            }
            Ok(_) => lost(text, "the attributes of the file exceed 1 MiB".to_owned()),
            Err(Errno::NODATA) => {}
            Err(errno) => lost(text, errno.to_string()),
        }
    }
    found
}

/// Sets the attributes of a pax map on an open file. `lost` learns what could not be set.
pub(crate) fn write(fd: impl AsFd, pax: &BTreeMap<String, Vec<u8>>, lost: &mut dyn FnMut(&str, Errno)) {
    for (key, value) in pax {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        if let Err(errno) = rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty()) {
            lost(name, errno);
        }
    }
}
