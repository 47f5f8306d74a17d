//! Exchanges a data directory for another one, and back: two renames, so that both stay whole.

use std::fs::{File, FileType};
use std::path::{Path, PathBuf};

use super::target::{Found, LINKED, hold, look, refuse_running};
use crate::base::error::{Context, Result};
use crate::engines::beside::{PREVIOUS, UNDONE, last_previous, parent, put_away};
use crate::engines::files::beneath::io;

/// Puts `new` in place of `directory`; returns where what was there is kept. `in_place` is called once it has the name, whatever the disk
/// says then.
pub(crate) fn swap(new: &Path, directory: &Path, in_place: impl FnOnce()) -> Result<PathBuf> {
    let kept = put_away(directory, PREVIOUS);
    replace(new, directory, &kept, in_place)?;
    Ok(kept)
}

fn replace(new: &Path, directory: &Path, kept: &Path, in_place: impl FnOnce()) -> Result<()> {
    refuse_running(directory)?;
    let parent = open_parent(directory)?;
    rename(directory, kept)?;
    if let Err(error) = rename(new, directory) {
        rename(kept, directory)?;
        return Err(error.context("put the new data directory in place; the old one is back"));
    }
    in_place();
    parent.sync_all().with_context(|| {
        let (new, old) = (directory.display(), kept.display());
        format!("write the names to disk: the new data directory is \"{new}\", the old one \"{old}\"")
    })
}

/// Puts the data directory back that the last restore replaced. Returns which it was, and where what the restore had brought is kept.
pub(crate) fn undo(directory: &Path) -> Result<(PathBuf, Option<PathBuf>)> {
    let previous = last_previous(directory, FileType::is_dir)?;
    if look(directory)? == Found::Absent {
        let parent = open_parent(directory)?;
        rename(&previous, directory)?;
        parent.sync_all().context("write the name to disk")?;
        return Ok((previous, None));
    }
    // None that a restore is writing into.
    let _held = hold(directory, LINKED)?;
    let kept = put_away(directory, UNDONE);
    replace(&previous, directory, &kept, || ())?;
    Ok((previous, Some(kept)))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    let renamed = rustix::fs::rename(from, to).map_err(io);
    renamed.with_context(|| format!("rename \"{}\" to \"{}\"", from.display(), to.display()))
}

fn open_parent(directory: &Path) -> Result<File> {
    let parent = parent(directory);
    File::open(parent).with_context(|| format!("open \"{}\"", parent.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_replaced_comes_back() {
        let place = tempfile::tempdir().unwrap();
        let (data, new) = (place.path().join("data"), place.path().join("new"));
        for (directory, word) in [(&data, "old"), (&new, "new")] {
            std::fs::create_dir(directory).unwrap();
            std::fs::write(directory.join("PG_VERSION"), word).unwrap();
        }
        let is = |directory: &Path| std::fs::read_to_string(directory.join("PG_VERSION")).unwrap();
        let mut is_told = false;
        let kept = swap(&new, &data, || is_told = true).unwrap();
        assert!(is_told && !new.exists());
        assert_eq!((is(&data), is(&kept)), ("new".to_owned(), "old".to_owned()));
        let (previous, undone) = undo(&data).unwrap();
        assert_eq!(
            (previous, is(&data), is(&undone.unwrap())),
            (kept, "old".to_owned(), "new".to_owned())
        );

        // Nothing is told, and all is where it was, where the new one is not there.
        let error = swap(&new, &data, || unreachable!()).unwrap_err();
        assert!(error.chain().contains("the old one is back"), "{error:?}");
        assert_eq!(is(&data), "old");

        let kept = put_away(&data, PREVIOUS);
        std::fs::rename(&data, &kept).unwrap();
        assert_eq!(undo(&data).unwrap(), (kept, None));
        assert_eq!(is(&data), "old");
    }
}
