//! Exchanges a data directory for another one, and back: two renames, so that both stay whole.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::target::{Found, look, refuse_running};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::files::beneath::io;

/// What stands between the name of a data directory and the time at which a restore replaced it.
const PREVIOUS: &str = ".pre-restore-";
/// The same of one that an undoing put away.
const UNDONE: &str = ".undone-";

/// Returns the name of a directory beside another one.
pub(crate) fn beside(directory: &Path, ending: &str) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    directory.with_file_name(name)
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string()
}

/// Puts `new` in place of `directory`; returns where what was there is kept.
pub(crate) fn swap(new: &Path, directory: &Path) -> Result<PathBuf> {
    replace(new, directory, &beside(directory, &format!("{PREVIOUS}{}", now())))
}

fn replace(new: &Path, directory: &Path, kept: &Path) -> Result<PathBuf> {
    refuse_running(directory)?;
    let rename = |from: &Path, to: &Path| {
        let renamed = rustix::fs::rename(from, to).map_err(io);
        renamed.with_context(|| format!("rename \"{}\" to \"{}\"", from.display(), to.display()))
    };
    rename(directory, kept)?;
    if let Err(error) = rename(new, directory) {
        rename(kept, directory)?;
        return Err(error.context("put the new data directory in place; the old one is back"));
    }
    if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(kept.to_owned())
}

/// Puts the data directory back that the last restore replaced. Returns which it was, and where what the restore had brought is kept.
pub(crate) fn undo(directory: &Path) -> Result<(PathBuf, Option<PathBuf>)> {
    let previous = last_previous(directory)?;
    if look(directory)? == Found::Absent {
        rustix::fs::rename(&previous, directory).map_err(io)?;
        return Ok((previous, None));
    }
    let kept = replace(&previous, directory, &beside(directory, &format!("{UNDONE}{}", now())))?;
    Ok((previous, Some(kept)))
}

fn last_previous(directory: &Path) -> Result<PathBuf> {
    let prefix = beside(directory, PREVIOUS);
    let prefix = prefix.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = std::fs::read_dir(parent.unwrap_or(Path::new(".")));
    let mut found = Vec::new();
    for entry in entries.with_context(|| format!("look beside \"{}\"", directory.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    found.into_iter().max().ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("no restore into \"{}\" can be undone", directory.display())).with_hint(format!(
            "The data directory that a restore with --clean replaced is kept as \"{prefix}…\" beside it; there is none. Nothing was \
             changed."
        ))
    })
}
