//! The directory that a base goes into: what is there, who owns it, and whether there is room.

use std::fs::{DirBuilder, File, Metadata};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::beside::{is_running, lock, parent};
use crate::engines::files::beneath::{DIRECTORY, io, mount_point};
use crate::engines::restorer::{make_parents, occupied};

/// The file by which a server says that it runs in a data directory.
const LOCK: &str = "postmaster.pid";

/// What follows the name of a directory in that of its replacement, until it is whole.
pub(crate) const STAGING: &str = ".wirevault-restore.tmp";

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

/// Returns a path without links on its way, as far as it is there: a link is not what is renamed, and hides what lies within what.
pub(crate) fn resolved(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let there = path
        .ancestors()
        .find_map(|part| Some((part, part.canonicalize().ok()?)));
    let Some((there, real)) = there else { return Ok(path) };
    Ok(match path.strip_prefix(there) {
        Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
        _ => real,
    })
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

/// Refuses filesystems without room for the bytes that go below directories: those of one filesystem are summed.
pub(crate) fn check_space(places: &[(&Path, u64)]) -> Result<()> {
    let mut filesystems: Vec<(u64, &Path, u64)> = Vec::new();
    for (directory, bytes) in places {
        let device = device(&existing(directory))?;
        match filesystems.iter_mut().find(|(known, ..)| *known == device) {
            Some((_, _, sum)) => *sum = sum.saturating_add(*bytes),
            None => filesystems.push((device, directory, *bytes)),
        }
    }
    for (_, directory, bytes) in filesystems {
        let free = free_bytes(directory)?;
        if free < bytes {
            let message = format!(
                "{} MiB go into the filesystem of \"{}\", {} MiB are free",
                bytes >> 20,
                directory.display(),
                free >> 20
            );
            return Err(Error::new(ErrorKind::LimitExceeded, message).with_hint("Free space, or restore elsewhere."));
        }
    }
    Ok(())
}

/// Returns the bytes that are free where a directory is or would be.
pub(crate) fn free_bytes(directory: &Path) -> Result<u64> {
    let place = existing(directory);
    let space = rustix::fs::statvfs(&place).map_err(io);
    let space = space.with_context(|| format!("look at \"{}\"", place.display()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

fn device(path: &Path) -> Result<u64> {
    let meta = path
        .metadata()
        .with_context(|| format!("look at \"{}\"", path.display()))?;
    Ok(meta.dev())
}

/// Refuses a directory that no rename puts away.
pub(crate) fn refuse_mount_point(directory: &Path) -> Result<()> {
    if device(directory)? == device(parent(directory))? {
        return Ok(());
    }
    Err(mount_point(&format!("\"{}\"", directory.display())))
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

/// Opens a directory and keeps other restores out of it until it is closed.
pub(crate) fn hold(directory: &Path, flags: OFlags) -> Result<File> {
    let held = rustix::fs::open(directory, flags, Mode::empty()).map_err(io);
    let held = File::from(held.with_context(|| format!("open \"{}\"", directory.display()))?);
    lock(&held, directory)?;
    // A restore that failed meanwhile has taken its directory away.
    let id = |meta: Metadata| (meta.dev(), meta.ino());
    if directory.metadata().map(id).ok() != held.metadata().map(id).ok() {
        return Err(is_running(directory));
    }
    Ok(held)
}

/// How a directory is opened that may be a link to one.
pub(crate) const LINKED: OFlags = DIRECTORY.difference(OFlags::NOFOLLOW);

/// A directory that was empty or not there, and is that again unless it is kept. Meanwhile no other restore takes it.
#[derive(Debug)]
pub(crate) struct Fresh {
    path: PathBuf,
    was_made: bool,
    is_kept: bool,
    _held: File,
}

impl Fresh {
    /// Makes a directory, or takes one that is empty.
    pub(crate) fn claim(path: &Path) -> Result<Self> {
        let was_made = make(path)?;
        let held = hold(path, LINKED)?;
        if look(path)? == Found::Occupied {
            return Err(occupied(path, "is not empty"));
        }
        Ok(Self {
            path: path.to_owned(),
            was_made,
            is_kept: false,
            _held: held,
        })
    }

    /// Makes the directory [`STAGING`] of a restore that replaces another one; what a killed restore left in it is removed.
    pub(crate) fn claim_staging(path: &Path) -> Result<Self> {
        make(path)?;
        let held = hold(path, DIRECTORY)?;
        empty(path).with_context(|| format!("remove what an interrupted restore left in \"{}\"", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            was_made: true,
            is_kept: false,
            _held: held,
        })
    }

    /// Lets it stay with what is in it, whatever its name is by now. That name is on disk with what is in it: a directory that was made
    /// lies on the filesystem of its parent, which was synced as a whole.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let _ = if self.was_made {
            std::fs::remove_dir_all(&self.path)
        } else {
            // Whatever is in it came after it was seen empty.
            empty(&self.path)
        };
    }
}

/// Removes all that can be removed in a directory; returns the first error.
fn empty(directory: &Path) -> std::io::Result<()> {
    let mut done = Ok(());
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(entry.path()),
            _ => std::fs::remove_file(entry.path()),
        };
        done = done.and(removed);
    }
    done
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
        Fresh::claim(&new).unwrap().keep();
        assert_eq!(look(&new).unwrap(), Found::Empty);
        std::fs::write(new.join("postmaster.pid"), b"1\n").unwrap();
        assert_eq!(refuse_running(&new).unwrap_err().kind(), ErrorKind::PreconditionFailed);
        std::fs::write(root.path().join("file"), b"x").unwrap();
        assert!(look(&root.path().join("file")).is_err());
    }
    #[test]
    fn a_directory_goes_to_one_restore_alone() {
        let root = tempfile::tempdir().unwrap();
        let (new, staging) = (root.path().join("data"), root.path().join("old").join(STAGING));
        let first = Fresh::claim(&new).unwrap();
        std::fs::write(new.join("PG_VERSION"), b"15\n").unwrap();
        let error = Fresh::claim(&new).unwrap_err();
        assert!(error.chain().contains("another restore into"), "{error:?}");
        assert!(new.join("PG_VERSION").exists());
        first.keep();
        assert!(new.join("PG_VERSION").exists());

        // What a killed one left is removed, and what a running one writes is not.
        make(&staging).unwrap();
        std::fs::create_dir(staging.join("base")).unwrap();
        std::fs::write(staging.join("base/1"), b"x").unwrap();
        let first = Fresh::claim_staging(&staging).unwrap();
        assert_eq!(look(&staging).unwrap(), Found::Empty);
        std::fs::write(staging.join("PG_VERSION"), b"15\n").unwrap();
        assert!(Fresh::claim_staging(&staging).is_err());
        assert!(staging.join("PG_VERSION").exists());
        drop(first);
        assert_eq!(look(&staging).unwrap(), Found::Absent);
        // No link is followed to what would be removed.
        std::os::unix::fs::symlink(&new, &staging).unwrap();
        assert!(Fresh::claim_staging(&staging).is_err());
        assert!(new.join("PG_VERSION").exists());
    }

    #[test]
    fn room_is_counted_for_each_filesystem_once() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("a/b"), root.path().join("c"));
        let free = free_bytes(&a).unwrap();
        check_space(&[(&a, 1), (&b, 1)]).unwrap();
        // Each of them alone would be held.
        let error = check_space(&[(&a, u64::MAX / 2), (&b, u64::MAX / 2 + 2)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{free}");
        let error = check_space(&[(&a, free / 4 * 3), (&b, free)]).unwrap_err();
        assert!(error.chain().contains("a/b"), "{error:?}");
    }

    #[test]
    fn links_are_resolved_and_mount_points_refused() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap();
        std::fs::create_dir(root.path().join("data")).unwrap();
        std::os::unix::fs::symlink("data", root.path().join("link")).unwrap();
        for (path, is) in [("link", "data"), ("link/new/x", "data/new/x"), ("new", "new")] {
            assert_eq!(resolved(&root.path().join(path)).unwrap(), real.join(is));
        }
        refuse_mount_point(&real.join("data")).unwrap();
        let error = refuse_mount_point(Path::new("/proc")).unwrap_err();
        assert!(error.chain().contains("\"/proc\" is a mount point"), "{error:?}");
    }
}
