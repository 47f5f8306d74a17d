//! What a restore keeps beside its target, and who else restores into it.

use std::ffi::{OsStr, OsString};
use std::fs::FileType;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::base::error::{Context, Error, ErrorKind, Result};

/// What stands between the name of a target and the time at which a restore replaced it.
pub(crate) const PREVIOUS: &str = ".pre-restore-";
/// The same of what an undoing put away.
pub(crate) const UNDONE: &str = ".undone-";

/// Returns the name of something beside a target.
pub(crate) fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    target.with_file_name(name)
}

/// Returns the name beside a target of what is put away now: `data.pre-restore-20261128T140300000Z`.
pub(crate) fn put_away(target: &Path, word: &str) -> PathBuf {
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
    beside(target, &format!("{word}{time}"))
}

/// Returns the directory that a path lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Returns whether a name ends as [`put_away`] makes it; its fraction of a second may have any length.
fn is_time(text: &[u8]) -> bool {
    let Some((date, rest)) = text.split_at_checked(8) else {
        return false;
    };
    let time = rest.strip_prefix(b"T").and_then(|rest| rest.strip_suffix(b"Z"));
    date.iter().all(u8::is_ascii_digit)
        && time.is_some_and(|time| time.len() >= 6 && time.iter().all(u8::is_ascii_digit))
}

/// Returns the last of what restores kept beside a target, of one kind. What is only called alike is nobody's previous data.
pub(crate) fn last_previous(target: &Path, is_kind: fn(&FileType) -> bool) -> Result<PathBuf> {
    let prefix = beside(target, PREVIOUS);
    let prefix = prefix.file_name().unwrap_or_default();
    let act = || format!("look beside \"{}\"", target.display());
    let mut found: Option<OsString> = None;
    for entry in std::fs::read_dir(parent(target)).with_context(act)? {
        let entry = entry.with_context(act)?;
        let name = entry.file_name();
        let is_kept = name.as_bytes().strip_prefix(prefix.as_bytes()).is_some_and(is_time);
        if is_kept && is_kind(&entry.file_type().with_context(act)?) {
            found = found.max(Some(name));
        }
    }
    found
        .map(|name| target.with_file_name(name))
        .ok_or_else(|| nothing_kept(target, prefix))
}

fn nothing_kept(target: &Path, prefix: &OsStr) -> Error {
    let message = format!("no restore into \"{}\" can be undone", target.display());
    Error::new(ErrorKind::NotFound, message).with_hint(format!(
        "Nothing was changed. A restore with --clean keeps what it replaced next to it as \"{}…\", which does not exist.",
        prefix.display()
    ))
}

/// Keeps other restores out of a directory until its handle is closed. Where the filesystem has no such locks, nobody is kept out.
pub(crate) fn lock(directory: impl AsFd, shown: &Path) -> Result<()> {
    match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(is_running(shown)),
        _ => Ok(()),
    }
}

/// The error for a directory that another restore holds.
pub(crate) fn is_running(directory: &Path) -> Error {
    let message = format!("another restore into \"{}\" is running", directory.display());
    Error::new(ErrorKind::PreconditionFailed, message).with_hint("Wait for it to end. Nothing was changed.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_a_restore_kept_is_put_back() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("data");
        assert_eq!(
            last_previous(&target, FileType::is_dir).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        let kept = "data.pre-restore-20261128T140300123Z";
        for name in [
            kept,
            "data.pre-restore-20251128T140300Z",
            "data.pre-restore-20261128T140300123Z.old",
            "data.pre-restore-99991128T140300123",
            "data.pre-restore-upgrade",
            "data.pre-restore-zzz",
            "data.pre-restore-",
            "data2.pre-restore-99991128T140300123Z",
        ] {
            std::fs::create_dir(place.path().join(name)).unwrap();
        }
        std::fs::write(place.path().join("data.pre-restore-99991128T140300123Z"), b"").unwrap();
        let found = last_previous(&target, FileType::is_dir).unwrap();
        assert_eq!(found, place.path().join(kept));
        let made = put_away(&target, PREVIOUS);
        std::fs::create_dir(&made).unwrap();
        std::fs::remove_dir(found).unwrap();
        assert_eq!(last_previous(&target, FileType::is_dir).unwrap(), made);
    }

    #[test]
    fn a_directory_is_held_by_one_restore() {
        let place = tempfile::tempdir().unwrap();
        let open = || std::fs::File::open(place.path()).unwrap();
        let (first, second) = (open(), open());
        lock(&first, place.path()).unwrap();
        let error = lock(&second, place.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
        drop(first);
        lock(&second, place.path()).unwrap();
    }
}
