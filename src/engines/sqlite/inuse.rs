//! Who else has a file open, for journal modes in which an idle connection holds no lock.
//!
//! `/proc` shows the open files of every process that this one may look into: all of them as root, else those of the same
//! user; never those of another PID namespace. So "nobody seen" is no proof, and how many were hidden is told.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::registry::FileId;

/// What a look at the processes of this machine showed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct FileUsers {
    /// Others that have the file open: number and name.
    pub(super) holders: Vec<String>,
    /// Processes whose files could not be seen.
    pub(super) hidden: usize,
}

/// Looks for other processes that have the file `wanted` open.
pub(super) fn who_has_open(wanted: FileId) -> FileUsers {
    let mut seen = FileUsers::default();
    let own = std::process::id();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return FileUsers { hidden: 1, ..seen };
    };
    for process in processes.flatten() {
        let number = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(number) = number.filter(|number| *number != own) else {
            continue;
        };
        match has_open(&process.path(), wanted) {
            Ok(true) => seen.holders.push(format!("{number} ({})", name_of(&process.path()))),
            Ok(false) => {}
            // One that ended meanwhile holds nothing.
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => seen.hidden += 1,
        }
    }
    seen
}

fn has_open(process: &Path, (device, inode): FileId) -> std::io::Result<bool> {
    let mut denied = None;
    for entry in std::fs::read_dir(process.join("fd"))?.flatten() {
        // Asks no server of a network filesystem, which may be gone.
        let flags = AtFlags::STATX_DONT_SYNC;
        let found = match rustix::fs::statx(CWD, entry.path(), flags, StatxFlags::INO) {
            Ok(found) => found,
            // A descriptor that was closed meanwhile.
            Err(rustix::io::Errno::NOENT) => continue,
            Err(cause) => {
                denied = Some(cause);
                continue;
            }
        };
        let on = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
        if (on, found.stx_ino) == (device, inode) {
            return Ok(true);
        }
    }
    denied.map_or(Ok(false), |cause| Err(cause.into()))
}

fn name_of(process: &Path) -> String {
    std::fs::read_to_string(process.join("comm")).map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn another_process_is_seen_and_this_one_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let meta = file.as_file().metadata().unwrap();
        let id = (meta.dev(), meta.ino());
        assert!(who_has_open(id).holders.is_empty());
        let mut other = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(file.reopen().unwrap())
            .spawn()
            .unwrap();
        let seen = who_has_open(id);
        assert_eq!(seen.holders.len(), 1, "{seen:?}");
        assert!(seen.holders.iter().all(|one| one.starts_with(&other.id().to_string())));
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(who_has_open(id).holders.is_empty());
    }
}
