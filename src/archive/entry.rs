//! What one tar member says of itself, and its header blocks (POSIX pax).

use std::collections::BTreeMap;

/// Kind of a tar member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Hard link to an earlier entry of the same source.
    Hardlink,
    /// Named pipe.
    Fifo,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
}

/// Header of one entry. Names are bytes: no encoding is assumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryMeta {
    /// Path within the archive: relative, `/`-separated, never climbing.
    pub path: Vec<u8>,
    /// Kind.
    pub kind: EntryKind,
    /// Length of the member's data in bytes (0 for all but files).
    pub size_bytes: u64,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time: seconds since the epoch, and nanoseconds.
    pub mtime: (i64, u32),
    /// Target of a symbolic or hard link.
    pub link: Option<Vec<u8>>,
    /// Device numbers (major, minor).
    pub device: Option<(u32, u32)>,
    /// Further pax records (`SCHILY.xattr.user.x`, `GNU.sparse.major`), value as bytes.
    pub pax: BTreeMap<String, Vec<u8>>,
}

impl EntryMeta {
    /// A plain file of mode 0600, owner 0, with the given time.
    pub fn file(path: impl Into<Vec<u8>>, size_bytes: u64, mtime: (i64, u32)) -> Self {
        Self {
            path: path.into(),
            kind: EntryKind::File,
            size_bytes,
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime,
            link: None,
            device: None,
            pax: BTreeMap::new(),
        }
    }
}
