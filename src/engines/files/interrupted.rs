//! Restores that were interrupted, or ended: finished, or undone.
//!
//! A committed staging directory says that steps of its journal may have been done. It is finished by doing the rest, or
//! undone by going backwards; once an undo was begun it is never finished, for what it took away is not staged any more.
//! An undo destroys nothing either: what stands where something is put back moves to `<root>.undone-<time>/`.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::apply::{Places, set_meta};
use super::beneath::{self, show};
use super::journal::DirMeta;
use super::open_root;
use super::walk::{OWN_PREFIX, OWN_PREVIOUS_PREFIX};
use crate::base::blocking::blocking;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::report::{Note, SharedReporter};
use crate::base::shown_path;
use crate::engines::beside::{self, PREVIOUS, UNDONE};

/// The steps of a restore, in its staging directory.
pub(super) const JOURNAL: &str = "journal";
/// Where what is replaced goes; with it, the restore is committed.
const COMMIT: &str = "commit";
/// An undo was begun.
const UNDOING: &str = "undoing";
/// What else must be known to finish it: [`About`].
const ABOUT: &str = "about";
/// The journal of a finished restore, among the previous files; and its [`About`].
const KEPT_JOURNAL: &str = ".wirevault-restore-journal";
const KEPT_ABOUT: &str = ".wirevault-restore-about";

/// What a restore is, beside its steps. Restores of older versions have none.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct About {
    /// What is restored, for people: a snapshot.
    pub(super) origin: String,
    /// Whether the previous files are kept: something stood in the root before.
    pub(super) keep: bool,
    /// What the root gets; nothing where paths were selected.
    pub(super) root: Option<DirMeta>,
}

/// A restore that was finished or undone.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Settled {
    /// What it had restored, if that is known: a snapshot.
    pub origin: String,
    /// Where what was replaced is kept, after a finished one; where what had been restored is kept, after an undo.
    #[serde(serialize_with = "shown_path::optional")]
    pub kept: Option<PathBuf>,
}

/// Returns the staging directories in a root, and whether each was committed.
fn stagings(target: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(target)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(OWN_PREFIX) && entry.file_type()?.is_dir() {
            found.push((entry.path(), entry.path().join(COMMIT).exists()));
        }
    }
    Ok(found)
}

/// Opens the root and keeps other restores out of it until it is closed: they would take what is staged for leavings.
pub(super) fn lock(target: &Path) -> Result<OwnedFd> {
    let root = OwnedFd::from(open_root(target)?);
    beside::lock(&root, target)?;
    Ok(root)
}

/// Fails if an interrupted restore is in the root.
pub(super) fn refuse_interrupted(target: &Path) -> Result<()> {
    let Some((staging, _)) = stagings(target)?.into_iter().find(|(_, committed)| *committed) else {
        return Ok(());
    };
    let origin = about(&staging.join(ABOUT)).origin;
    let of = if origin.is_empty() {
        String::new()
    } else {
        format!(" of snapshot {origin}")
    };
    let undoing = staging.join(UNDOING).exists();
    let (what, hint) = if undoing {
        (
            format!("an interrupted undo of a restore{of}"),
            "Nothing was changed. Run the same restore with --undo to continue it, or with --clean, which does so \
             first.",
        )
    } else {
        (
            format!("an interrupted restore{of}"),
            "Nothing was changed. Run the same restore with --resume to finish it, with --undo to put back what it \
             replaced, or with --clean, which finishes it first.",
        )
    };
    Err(Error::new(
        ErrorKind::PreconditionFailed,
        format!("{what} is in \"{}\"", staging.display()),
    )
    .with_hint(hint))
}

/// Makes way for a restore: what was only staged is removed. What was committed is settled first with leave to overwrite,
/// and else an error.
pub(super) fn clear_the_way(
    target: &Path,
    root: &OwnedFd,
    clean: bool,
    (task, reporter): (&str, &SharedReporter),
) -> Result<()> {
    if !clean {
        refuse_interrupted(target)?;
    }
    for (staging, committed) in stagings(target)? {
        if !committed {
            std::fs::remove_dir_all(&staging)?;
            remove_unused_previous(target)?;
            continue;
        }
        let undoing = staging.join(UNDOING).exists();
        let settled = if undoing {
            undo_staging(target, &staging, root.try_clone()?)?
        } else {
            finish_staging(&staging, root.try_clone()?, (task, reporter))?
        };
        let did = if undoing { "undone" } else { "finished" };
        let kept = settled.kept.map_or_else(String::new, |kept| {
            let what = if undoing {
                "the restored data"
            } else {
                "the replaced data"
            };
            format!("; {what} is kept in \"{}\"", kept.display())
        });
        reporter.note(
            task,
            Note::new(
                "interrupted-restore",
                target.display().to_string(),
                format!("an interrupted restore was {did} first{kept}"),
            ),
        );
    }
    Ok(())
}

/// Removes what a restore left beside that was killed right before it committed: nothing lies in it yet.
fn remove_unused_previous(target: &Path) -> Result<()> {
    let target = std::fs::canonicalize(target)?;
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return Ok(());
    };
    let mut prefix = name.as_bytes().to_vec();
    prefix.extend_from_slice(PREVIOUS.as_bytes());
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(&prefix) {
            // Only an empty directory goes.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
    Ok(())
}

/// Makes a directory for what is replaced: beside the root, or inside it where that is not possible.
pub(super) fn make_previous(target: &Path) -> Result<PathBuf> {
    make_beside(target, PREVIOUS, "").context("create the directory for previous files")
}

fn make_beside(target: &Path, word: &str, inner: &str) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string();
    let make = |path: &Path| std::fs::DirBuilder::new().mode(0o700).create(path);
    let device = |path: &Path| rustix::fs::stat(path).map(|s| s.st_dev).ok();
    let target = std::fs::canonicalize(target)?;
    if let Some(name) = target.file_name() {
        let mut beside = name.to_owned();
        beside.push(format!("{word}{time}"));
        let beside = target.with_file_name(beside);
        if make(&beside).is_ok() {
            if device(&beside) == device(&target) {
                return Ok(beside);
            }
            let _ = std::fs::remove_dir(&beside);
        }
    }
    let prefix = String::from_utf8_lossy(OWN_PREVIOUS_PREFIX);
    let inside = target.join(format!("{prefix}{inner}{time}"));
    make(&inside)?;
    Ok(inside)
}

/// Commits a restore: from here on it is finished or undone, whatever happens.
pub(super) fn commit(staging: &Path, previous: &Path, about: &About) -> Result<()> {
    let json = serde_json::to_vec(about).map_err(|e| Error::invalid("write restored data").with_cause(e))?;
    write_durably(staging, ABOUT, &json)?;
    write_durably(staging, COMMIT, previous.as_os_str().as_bytes())
}

fn write_durably(staging: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let temporary = staging.join(format!("{name}.tmp"));
    std::fs::write(&temporary, bytes)?;
    File::open(&temporary)?.sync_all()?;
    std::fs::rename(&temporary, staging.join(name))?;
    File::open(staging)?.sync_all()?;
    Ok(())
}

fn about(path: &Path) -> About {
    let known = std::fs::read(path).ok();
    let known = known.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    // An older version kept the previous files always, and did not say what it restored.
    known.unwrap_or(About {
        keep: true,
        ..About::default()
    })
}

/// Keeps the journal for a later undo, or forgets it, and removes the staging directory.
pub(super) fn end(staging: &Path, previous: &Path, keep: bool) -> Result<()> {
    if keep {
        if staging.join(ABOUT).exists() {
            std::fs::rename(staging.join(ABOUT), previous.join(KEPT_ABOUT))?;
        }
        std::fs::rename(staging.join(JOURNAL), previous.join(KEPT_JOURNAL))?;
    }
    std::fs::remove_dir_all(staging)?;
    if !keep {
        remove_if_empty(previous);
    }
    Ok(())
}

/// Removes directories below a path, and it, unless something else lies in them.
fn remove_if_empty(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_if_empty(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(path);
}

/// Undoes what was done of a restore that failed in the middle.
pub(super) fn roll_back(staging: &Path, previous: &Path, places: &Places) -> Result<()> {
    write_durably(staging, UNDOING, b"")?;
    places.undo(&staging.join(JOURNAL))?;
    end(staging, previous, false)
}

fn finish_staging(staging: &Path, root: OwnedFd, (task, reporter): (&str, &SharedReporter)) -> Result<Settled> {
    let previous = previous_of(staging)?;
    let about_it = about(&staging.join(ABOUT));
    if staging.join(JOURNAL).exists() {
        // It may have been removed as a leaving meanwhile; what is still in place is kept all the same.
        std::fs::create_dir_all(&previous)?;
        let places = open_places(root, &previous, Some(staging))?;
        let done = places.finish(&staging.join(JOURNAL), &mut |path, what| {
            let path = if path.is_empty() { ".".to_owned() } else { show(path) };
            reporter.note(task, Note::new("metadata-not-set", path, what));
        });
        done.context("finish the interrupted restore")
            .map_err(|error| error.with_hint("It can still be undone: run the same restore with --undo."))?;
        end(staging, &previous, about_it.keep)?;
        if let Some(meta) = &about_it.root {
            set_meta(&places.root, meta, &mut |_| {});
        }
        rustix::fs::syncfs(&places.root)
            .map_err(beneath::io)
            .context("write the tree to disk")?;
    } else {
        // It had ended but for this.
        std::fs::remove_dir_all(staging)?;
    }
    Ok(Settled {
        origin: about_it.origin,
        kept: about_it.keep.then_some(previous),
    })
}

fn undo_staging(target: &Path, staging: &Path, root: OwnedFd) -> Result<Settled> {
    let previous = previous_of(staging)?;
    let about_it = about(&staging.join(ABOUT));
    if !staging.join(JOURNAL).exists() {
        // It had ended, or was undone, but for this.
        std::fs::remove_dir_all(staging)?;
        return if previous.join(KEPT_JOURNAL).exists() {
            undo_previous(target, &previous, root)
        } else {
            Ok(Settled::default())
        };
    }
    write_durably(staging, UNDOING, b"")?;
    let aside = make_aside(target)?;
    let mut places = open_places(root, &previous, Some(staging))?;
    places.aside = Some(open(&aside)?);
    places.undo(&staging.join(JOURNAL))?;
    end(staging, &previous, false)?;
    Ok(settled_undo(&aside, about_it.origin))
}

fn undo_previous(target: &Path, previous: &Path, root: OwnedFd) -> Result<Settled> {
    let about_it = about(&previous.join(KEPT_ABOUT));
    let aside = make_aside(target)?;
    let mut places = open_places(root, previous, None)?;
    places.aside = Some(open(&aside)?);
    places.undo(&previous.join(KEPT_JOURNAL))?;
    let _ = std::fs::remove_file(previous.join(KEPT_ABOUT));
    std::fs::remove_file(previous.join(KEPT_JOURNAL))?;
    remove_if_empty(previous);
    Ok(settled_undo(&aside, about_it.origin))
}

fn make_aside(target: &Path) -> Result<PathBuf> {
    make_beside(target, UNDONE, "undone-").context("create the directory for the restored data")
}

fn settled_undo(aside: &Path, origin: String) -> Settled {
    remove_if_empty(aside);
    Settled {
        origin,
        kept: aside.exists().then(|| aside.to_path_buf()),
    }
}

fn previous_of(staging: &Path) -> Result<PathBuf> {
    Ok(PathBuf::from(OsString::from_vec(std::fs::read(staging.join(COMMIT))?)))
}

fn committed(target: &Path) -> Result<Option<PathBuf>> {
    Ok(stagings(target)?.into_iter().find(|s| s.1).map(|s| s.0))
}

/// Finishes a restore that was interrupted after everything was staged.
pub async fn finish(target: &Path, task: &str, reporter: SharedReporter) -> Result<Settled> {
    let (place, task) = (target.to_path_buf(), task.to_owned());
    blocking(move || {
        let root = lock(&place)?;
        let Some(staging) = committed(&place)? else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no interrupted restore in \"{}\"", place.display()),
            )
            .with_hint("Nothing there is partially restored: run the restore without --resume."));
        };
        if staging.join(UNDOING).exists() {
            return refuse_interrupted(&place).map(|()| Settled::default());
        }
        finish_staging(&staging, root, (&task, &reporter))
    })
    .await
    .with_context(|| format!("finish the restore into \"{}\"", target.display()))
}

/// Undoes a restore: an interrupted one, or the one whose previous files lie in `previous`, or else the last one that
/// ended and replaced something.
pub async fn undo(target: &Path, previous: Option<&Path>) -> Result<Settled> {
    let (place, given) = (target.to_path_buf(), previous.map(Path::to_path_buf));
    blocking(move || {
        let root = lock(&place)?;
        if let Some(previous) = given {
            return undo_previous(&place, &previous, root);
        }
        if let Some(staging) = committed(&place)? {
            return undo_staging(&place, &staging, root);
        }
        let last = last_previous(&place)?.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("no restore into \"{}\" can be undone", place.display()),
            )
            .with_hint(format!(
                "Nothing was changed. Replaced files are kept in \"{}{PREVIOUS}…\", which does not exist.",
                place.display()
            ))
        })?;
        undo_previous(&place, &last, root)
    })
    .await
    .with_context(|| format!("undo the restore into \"{}\"", target.display()))
}

/// Returns the directory of the last restore that kept its journal: beside the root, or inside it.
fn last_previous(target: &Path) -> Result<Option<PathBuf>> {
    let target = std::fs::canonicalize(target)?;
    let mut found: Vec<(OsString, PathBuf)> = Vec::new();
    let mut look = |directory: &Path, prefix: &[u8]| -> Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(time) = name.as_bytes().strip_prefix(prefix) else {
                continue;
            };
            if entry.path().join(KEPT_JOURNAL).is_file() {
                found.push((OsString::from_vec(time.to_vec()), entry.path()));
            }
        }
        Ok(())
    };
    look(&target, OWN_PREVIOUS_PREFIX)?;
    if let (Some(parent), Some(name)) = (target.parent(), target.file_name()) {
        let mut prefix = name.as_bytes().to_vec();
        prefix.extend_from_slice(PREVIOUS.as_bytes());
        look(parent, &prefix)?;
    }
    Ok(found.into_iter().max().map(|(_, path)| path))
}

fn open(path: &Path) -> Result<OwnedFd> {
    let file = File::open(path).with_context(|| format!("open \"{}\"", path.display()))?;
    Ok(OwnedFd::from(file))
}

fn open_places(root: OwnedFd, previous: &Path, staging: Option<&Path>) -> Result<Places> {
    Ok(Places {
        root,
        previous: open(previous)?,
        staged: staging.map(open).transpose()?,
        aside: None,
    })
}
