//! The directory that a base goes into: what is there, who owns it, and whether there is room.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::restorer::{make_parents, occupied};

/// The file by which a server says that it runs in a data directory.
const LOCK: &str = "postmaster.pid";

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Absent,
    /// An empty directory.
    Empty,
    /// A directory with something in it.
    Occupied,
}

/// Looks at a place; a link to a directory is the directory.
pub(crate) fn look(directory: &Path) -> Result<Found> {
    let act = || format!("look into \"{}\"", directory.display());
    match std::fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            None => Ok(Found::Empty),
            Some(entry) => entry.map(|_| Found::Occupied).with_context(act),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && directory.symlink_metadata().is_err() => {
            Ok(Found::Absent)
        }
        Err(error) => Err(error).with_context(act),
    }
}

/// Refuses a data directory that a server may run in.
pub(crate) fn refuse_running(directory: &Path) -> Result<()> {
    if directory.join(LOCK).symlink_metadata().is_err() {
        return Ok(());
    }
    let message = format!("a server may run in \"{}\": there is a {LOCK}", directory.display());
    Err(Error::new(ErrorKind::PreconditionFailed, message).with_hint(format!(
        "Stop it with pg_ctl stop. After a crash, remove {LOCK} once no server runs there."
    )))
}

/// Returns the nearest directory that is there.
pub(crate) fn existing(directory: &Path) -> PathBuf {
    let mut ancestors = directory.ancestors().filter(|path| !path.as_os_str().is_empty());
    ancestors
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"))
        .to_path_buf()
}

/// Who files are given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Whoever runs this.
    Oneself,
    /// The numbers in the backup.
    AsStored,
    /// User and group.
    Of(u32, u32),
}

/// Returns who files are given to: the owner of the directory, or of the nearest one above it; where that is root, those to whom they
/// belonged. An error names an owner to whom this process cannot give them.
pub(crate) fn owner(directory: &Path) -> Result<std::result::Result<Owner, u32>> {
    use rustix::thread::{CapabilitySet, capabilities};
    let own = rustix::process::geteuid().as_raw();
    let gives_away = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::CHOWN));
    let meta = existing(directory).metadata()?;
    Ok(match (meta.uid(), gives_away) {
        (uid, false) if uid == own => Ok(Owner::Oneself),
        (uid, false) => Err(uid),
        (0, true) => Ok(Owner::AsStored),
        (uid, true) => Ok(Owner::Of(uid, meta.gid())),
    })
}

/// Refuses a filesystem without room; returns the bytes that are free.
pub(crate) fn check_space(directory: &Path, bytes: u64) -> Result<u64> {
    let place = existing(directory);
    let space = rustix::fs::statvfs(&place).map_err(|e| Error::from(std::io::Error::from(e)));
    let space = space.with_context(|| format!("look at \"{}\"", place.display()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < bytes {
        let message = format!(
            "{} MiB go into \"{}\", {} MiB are free",
            bytes >> 20,
            directory.display(),
            free >> 20
        );
        return Err(Error::new(ErrorKind::LimitExceeded, message).with_hint("Free space, or restore elsewhere."));
    }
    Ok(free)
}

/// Makes a directory that only its owner may enter, with those above it; returns whether it was not there.
pub(crate) fn make(directory: &Path) -> Result<bool> {
    let act = || format!("make \"{}\"", directory.display());
    make_parents(directory)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(act),
    }
}

/// A directory that was empty or not there, and is that again unless it is kept.
#[derive(Debug)]
pub(crate) struct Fresh {
    path: PathBuf,
    was_made: bool,
    is_kept: bool,
}

impl Fresh {
    /// Makes a directory, or takes one that is empty.
    pub(crate) fn claim(path: &Path) -> Result<Self> {
        let was_made = make(path)?;
        if look(path)? == Found::Occupied {
            return Err(occupied(path, "is not empty"));
        }
        Ok(Self {
            path: path.to_owned(),
            was_made,
            is_kept: false,
        })
    }

    /// Lets it stay with what is in it, whatever its name is by now, and brings names beside it to the disk.
    pub(crate) fn keep(mut self) -> Result<()> {
        self.is_kept = true;
        match self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => Ok(File::open(parent)?.sync_all()?),
            None => Ok(()),
        }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        if self.was_made {
            let _ = std::fs::remove_dir_all(&self.path);
            return;
        }
        // Whatever is in it came after it was seen empty.
        for entry in std::fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = match entry.file_type() {
                Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(&path),
                _ => std::fs::remove_file(&path),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_not_kept_leaves_the_place_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let (new, empty) = (root.path().join("a/new"), root.path().join("empty"));
        std::fs::create_dir(&empty).unwrap();
        for path in [&new, &empty] {
            let fresh = Fresh::claim(path).unwrap();
            std::fs::create_dir(path.join("base")).unwrap();
            std::fs::write(path.join("base/1"), b"x").unwrap();
            std::fs::write(path.join("file"), b"x").unwrap();
            assert!(Fresh::claim(path).is_err());
            drop(fresh);
        }
        assert_eq!(
            (look(&new).unwrap(), look(&empty).unwrap()),
            (Found::Absent, Found::Empty)
        );
        Fresh::claim(&new).unwrap().keep().unwrap();
        assert_eq!(look(&new).unwrap(), Found::Empty);
        std::fs::write(new.join("postmaster.pid"), b"1\n").unwrap();
        assert_eq!(refuse_running(&new).unwrap_err().kind(), ErrorKind::PreconditionFailed);
        std::fs::write(root.path().join("file"), b"x").unwrap();
        assert!(look(&root.path().join("file")).is_err());
    }
}
