//! What a rule for plain files must never reach: repositories, whose data go by their keep rules alone, and what jobs
//! back up.
//!
//! Paths are compared without their links, and as what they are within their filesystem, so that neither `..` nor a
//! link nor a bind mount leads around. A rule that meets one is refused; what is found only in the walk (a repository that
//! nobody configured, a file that is a source) is left alone and named.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use globset::GlobSet;
use rustix::fs::Stat;

use super::mounts::{Mounts, Within};
use crate::base::error::{Context, Error, Result};
use crate::config::SourceConfig;
use crate::engines::Occupied;
use crate::engines::files::patterns::Patterns;
use crate::operations::Session;
use crate::storage::open::local_path;

/// Something that no rule reaches, as it is configured.
#[derive(Debug, Clone)]
enum Spared {
    Repository {
        url: String,
        path: PathBuf,
    },
    Tree {
        source: String,
        path: PathBuf,
        patterns: Option<Box<Patterns>>,
    },
    File {
        source: String,
        path: PathBuf,
        companions: &'static [&'static str],
    },
}

/// Everything that no rule reaches.
#[derive(Debug, Clone, Default)]
pub(super) struct Walls(Vec<Spared>);

/// What the walk of one rule must know.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// Mount points below the rule's directory are other places.
    mounts: Mounts,
    /// The rule's directory without links.
    root: PathBuf,
    /// Device and inode of directories that are not entered, and what they are.
    directories: Vec<((u64, u64), String)>,
    /// Device and inode of files that stay, and what they are.
    files: Vec<((u64, u64), String)>,
}

/// Why a directory is not entered.
#[derive(Debug)]
pub(super) enum Closed<'a> {
    /// It is another place; nothing is said of it.
    Mount,
    /// It is what this says.
    Spared(&'a str),
}

impl Walls {
    /// Collects what is configured; Docker engines are asked where their volumes lie.
    pub(super) async fn of(session: &Session) -> Result<Self> {
        let mut all = Vec::new();
        let given = session
            .repository
            .as_ref()
            .map(|_| session.repository_config())
            .transpose()?;
        for repository in session.config.repositories.iter().chain(&given) {
            if let Some(path) = local_path(&repository.url).filter(|_| repository.url != "memory:") {
                all.push(Spared::Repository {
                    url: repository.url.clone(),
                    path,
                });
            }
        }
        for source in &session.config.sources {
            all.extend(of_source(session, source).await?);
        }
        Ok(Self(all))
    }

    /// Refuses a rule whose directory meets something that is spared; returns what its walk must know.
    pub(super) fn check(&self, rule: &Path, globs: &GlobSet) -> Result<Bounds> {
        let mounts = Mounts::read()?;
        let root = canonical(rule)?;
        let mut bounds = Bounds {
            mounts: mounts.clone(),
            root: root.clone(),
            ..Bounds::default()
        };
        for above in root.ancestors() {
            if above.join(MARK).symlink_metadata().is_ok() {
                return Err(Error::invalid(format!(
                    "\"{}\" is inside the repository \"{}\"",
                    rule.display(),
                    above.display()
                ))
                .with_hint("Snapshots are removed by the keep rules of their jobs; choose another path."));
            }
        }
        for spared in &self.0 {
            let path = canonical(spared.path())?;
            let same = |within: &Within| mounts.within(&root).is_some_and(|own| own.meets(within));
            let meets = root.starts_with(&path)
                || path.starts_with(&root)
                || mounts.within(&path).is_some_and(|within| same(&within))
                || id_of(&path).is_some_and(|id| id_of(&root) == Some(id));
            spared.judge(meets, (&root, rule), (&path, globs))?;
            spared.keep(&path, &mut bounds);
        }
        Ok(bounds)
    }
}

/// What marks a directory as a repository.
pub(super) const MARK: &str = "repository.json";

impl Spared {
    fn path(&self) -> &Path {
        match self {
            Self::Repository { path, .. } | Self::Tree { path, .. } | Self::File { path, .. } => path,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Repository { url, .. } => format!("the repository {url}"),
            Self::Tree { source, .. } | Self::File { source, .. } => format!("source \"{source}\""),
        }
    }

    /// Refuses the rule if it may reach this.
    fn judge(&self, meets: bool, (root, rule): (&Path, &Path), (path, globs): (&Path, &GlobSet)) -> Result<()> {
        let reaches = meets
            && match self {
                Self::Repository { .. } => true,
                // What the source leaves out is nobody's.
                Self::Tree { patterns, .. } => !root.strip_prefix(path).is_ok_and(|below| {
                    use std::os::unix::ffi::OsStrExt;
                    let below = below.as_os_str().as_bytes();
                    !below.is_empty() && patterns.as_ref().is_some_and(|patterns| patterns.never_enters(below))
                }),
                Self::File { companions, .. } => {
                    let below = path.strip_prefix(root).unwrap_or(Path::new(""));
                    let names = std::iter::once("").chain(companions.iter().copied());
                    names
                        .map(|ending| with_ending(below, ending))
                        .any(|name| globs.is_match(name))
                }
            };
        if !reaches {
            return Ok(());
        }
        let hint = match self {
            Self::Repository { .. } => "Snapshots are removed by the keep rules of their jobs; choose another path.",
            _ => {
                "Files that a job backs up are not removed by age: choose another path, or exclude the directory from \
                 the source."
            }
        };
        Err(Error::invalid(format!("path \"{}\" reaches {}", rule.display(), self.name())).with_hint(hint))
    }

    fn keep(&self, path: &Path, bounds: &mut Bounds) {
        match self {
            Self::File { companions, .. } => {
                let names = std::iter::once("").chain(companions.iter().copied());
                let ids = names.filter_map(|ending| id_of(&with_ending(path, ending)));
                bounds.files.extend(ids.map(|id| (id, self.name())));
            }
            _ => bounds.directories.extend(id_of(path).map(|id| (id, self.name()))),
        }
    }
}

impl Bounds {
    /// Returns why a directory below the rule's is not entered, if there is a reason.
    pub(super) fn closed(&self, path: &Path, stat: &Stat) -> Option<Closed<'_>> {
        if self.mounts.is_mount(&self.root.join(path)) {
            return Some(Closed::Mount);
        }
        let found = self
            .directories
            .iter()
            .find(|(id, _)| *id == (stat.st_dev, stat.st_ino));
        found.map(|(_, name)| Closed::Spared(name))
    }

    /// Returns what a file is, if it must stay.
    pub(super) fn spared(&self, stat: &Stat) -> Option<&str> {
        let found = self.files.iter().find(|(id, _)| *id == (stat.st_dev, stat.st_ino));
        found.map(|(_, name)| name.as_str())
    }

    /// Returns whether an open directory is the one that was judged.
    pub(super) fn is_root(&self, stat: &Stat) -> bool {
        id_of(&self.root) == Some((stat.st_dev, stat.st_ino))
    }
}

async fn of_source(session: &Session, source: &SourceConfig) -> Result<Vec<Spared>> {
    let occupied = session.or_cancelled(source.kind.spec().occupied()).await?;
    let spared = |one| {
        let source = source.name.clone();
        match one {
            Occupied::Tree { path, patterns } => Spared::Tree { source, path, patterns },
            Occupied::File { path, companions } => Spared::File {
                source,
                path,
                companions,
            },
        }
    };
    Ok(occupied.into_iter().map(spared).collect())
}

/// Returns a path without links and `..`; what does not exist of it stays as it is written.
fn canonical(path: &Path) -> Result<PathBuf> {
    let act = || format!("resolve \"{}\"", path.display());
    let absolute = std::path::absolute(path).with_context(act)?;
    for above in absolute.ancestors() {
        match std::fs::canonicalize(above) {
            Ok(found) if above == absolute => return Ok(found),
            Ok(found) => return Ok(found.join(absolute.strip_prefix(above).unwrap_or(Path::new("")))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // A component that is no directory: nothing lies below it.
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(error).with_context(act),
        }
    }
    Ok(absolute)
}

fn id_of(path: &Path) -> Option<(u64, u64)> {
    rustix::fs::stat(path).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(OsStr::new(ending));
    PathBuf::from(name)
}
