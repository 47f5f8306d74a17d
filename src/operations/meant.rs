//! The repository that is there is the one that was meant.
//!
//! A disk that is not mounted, or a letter that is missing in a URL, is an empty place like that of a first backup. So this
//! host remembers which repository stood where, and an empty place where one is expected is an error. Only `init`, a first
//! backup and a copy into a configured repository make one. Where nothing can be remembered (a container that is new each
//! time), `require_mountpoint` says it in the configuration.

use std::path::{Path, PathBuf};

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::config::{RepositoryConfig, RequiredMount};
use crate::operations::cleanup::mounts::Mounts;
use crate::operations::session::process_environment;
use crate::operations::{Session, open};
use crate::repository::Repository;
use crate::storage::open::local_path;

/// Whether the caller adds to the repository or only reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// A stranger is named in the log.
    Read,
    /// A stranger is refused.
    Write,
}

/// Opens a repository that is expected to be there.
pub(crate) async fn open(session: &Session, config: &RepositoryConfig, intent: Intent) -> Result<Repository> {
    let store = open::store(config, &session.cancel).await?;
    match session.or_cancelled(Repository::open(store)).await {
        Ok(repository) => {
            recognize(session, config, &repository, intent)?;
            Ok(repository)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(gone(session, config).unwrap_or(error)),
        Err(error) => Err(error),
    }
}

/// Opens the repository that is meant; `None` where there is none yet and a first run will make it.
pub(crate) async fn if_there(session: &Session, config: &RepositoryConfig) -> Result<Option<Repository>> {
    match open(session, config, Intent::Write).await {
        Ok(repository) => Ok(Some(repository)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a repository, or makes one in a place that never held any; the flag tells which.
pub(crate) async fn open_or_create(session: &Session, config: &RepositoryConfig) -> Result<(Repository, bool)> {
    let store = open::store(config, &session.cancel).await?;
    if gone(session, config).is_some() {
        return open(session, config, Intent::Write)
            .await
            .map(|repository| (repository, false));
    }
    let (repository, created) = match session.or_cancelled(Repository::open(store.clone())).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            may_create(session, config)?;
            session.or_cancelled(Repository::open_or_init(store)).await?
        }
        opened => (opened?, false),
    };
    recognize(session, config, &repository, Intent::Write)?;
    Ok((repository, created))
}

/// Fails where a new repository would lie beside the disk that is meant.
pub(crate) fn may_lie_here(config: &RepositoryConfig) -> Result<()> {
    if let Some(required) = &config.require_mountpoint
        && let Some(path) = local_path(&config.url)
    {
        // What lies on the disk that is not mounted is not there to be seen: an empty place counts only on the mount itself.
        let there = nearest_directory(&path);
        if *required == RequiredMount::Any && !is_mount_point(&there)? {
            return Err(not_mounted(&there).with_hint(
                "Is the disk mounted? For a repository in a subdirectory of the mount point, set require_mountpoint = \
                 \"/mnt/disk\".",
            ));
        }
    }
    Ok(())
}

/// Fails where this user could not make a repository, by the rights of the directory or of the nearest one above it that is
/// there; returns which that is.
pub(crate) fn may_write(path: &Path) -> Result<PathBuf> {
    use rustix::fs::{Access, access};
    let there = nearest_directory(path);
    let act = || format!("write to \"{}\"", there.display());
    if !there.is_dir() {
        return Err(Error::invalid(format!("\"{}\" is not a directory", there.display()))
            .with_hint("A repository is a directory; use another path."));
    }
    access(&there, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(std::io::Error::from)
        .with_context(act)
        .map_err(|error| error.with_hint("Make it writable for this user, or use another directory."))?;
    Ok(there)
}

/// Fails where a new repository would not be the one that is meant.
pub(crate) fn may_create(session: &Session, config: &RepositoryConfig) -> Result<()> {
    may_lie_here(config)?;
    let Some(name) = name_of(session, config) else {
        return Ok(());
    };
    match session.state.repositories_at(&name).last() {
        None => Ok(()),
        Some(before) if *before == config.url => Ok(()),
        Some(before) => Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "repository \"{}\" was at {before}, but {} has none",
                config.name, config.url
            ),
        )
        .with_hint("Nothing was written. Correct the URL, or create a new repository there with `wirevault init`.")),
    }
}

/// Remembers the repository that is there for the one that is meant.
pub(crate) fn remember(session: &Session, config: &RepositoryConfig, repository: &Repository) {
    if let Some(place) = place_of(config) {
        session.state.remember_repository(&place, repository.id());
    }
    if let Some(name) = name_of(session, config) {
        session.state.remember_repository(&name, &config.url);
    }
    session.seen.note(&config.url);
}

/// Compares the repository that is there with those that stood there before.
fn recognize(session: &Session, config: &RepositoryConfig, repository: &Repository, intent: Intent) -> Result<()> {
    let known = place_of(config)
        .map(|place| session.state.repositories_at(&place))
        .unwrap_or_default();
    let stranger = !known.is_empty() && !known.iter().any(|id| id == repository.id());
    match (stranger, intent, known.last()) {
        (true, Intent::Write, Some(last)) => Err(Error::new(
            ErrorKind::PreconditionFailed,
            format!(
                "repository at {} has id {}, expected {last}",
                config.url,
                repository.id()
            ),
        )
        .with_hint(
            "Nothing was written. Is the right disk mounted? To use this repository from now on: `wirevault init \
             --adopt`.",
        )),
        (true, Intent::Read, Some(last)) => {
            tracing::warn!(
                "repository at {} has id {}, expected {last}",
                config.url,
                repository.id()
            );
            Ok(())
        }
        _ => {
            remember(session, config, repository);
            Ok(())
        }
    }
}

/// The error for an empty place in which a repository stood, if one did.
pub(crate) fn gone(session: &Session, config: &RepositoryConfig) -> Option<Error> {
    let known = place_of(config)
        .map(|place| session.state.repositories_at(&place))
        .unwrap_or_default();
    if known.is_empty() && !session.seen.knows(&config.url) {
        return None;
    }
    let which = known.last().map(|id| format!(" {id}")).unwrap_or_default();
    Some(
        Error::new(
            ErrorKind::Unavailable,
            format!("the repository{which} at {} no longer exists", config.url),
        )
        .with_hint(
            "Nothing was written. Is its disk mounted? If it was removed on purpose, create a new one with `wirevault \
             init`.",
        ),
    )
}

/// Returns under what a place is remembered. A server at a loopback address is not: its port may be another's next time.
fn place_of(config: &RepositoryConfig) -> Option<String> {
    if local_path(&config.url).is_some() {
        return Some(config.url.clone());
    }
    let env = |name: &str| process_environment(name).filter(|value| !value.is_empty());
    let endpoint = config.endpoint.clone();
    let endpoint = endpoint
        .or_else(|| env("AWS_ENDPOINT_URL_S3"))
        .or_else(|| env("AWS_ENDPOINT_URL"));
    match endpoint {
        None => Some(config.url.clone()),
        Some(endpoint)
            if ["//127.", "//localhost", "//[::1]"]
                .iter()
                .any(|part| endpoint.contains(part)) =>
        {
            None
        }
        Some(endpoint) => Some(format!("{} at {endpoint}", config.url)),
    }
}

/// Returns under what a configured name is remembered: names are those of one file.
fn name_of(session: &Session, config: &RepositoryConfig) -> Option<String> {
    let configured = session
        .config
        .repositories
        .iter()
        .any(|one| one.name == config.name && one.url == config.url);
    let file = std::path::absolute(&session.config.origin)
        .ok()
        .filter(|path| configured && path.is_file())?;
    Some(format!("{}#{}", file.display(), config.name))
}

/// Fails if the repository is to lie on a mounted disk and does not.
pub(crate) fn check_mount(config: &RepositoryConfig) -> Result<()> {
    let (Some(required), Some(path)) = (&config.require_mountpoint, local_path(&config.url)) else {
        return Ok(());
    };
    let hint = "Nothing was written. Is the disk mounted?";
    match required {
        RequiredMount::At(place) if !is_mount_point(place)? => Err(not_mounted(place).with_hint(hint)),
        // A letter that is missing in the URL leads beside the disk that is mounted.
        RequiredMount::At(place) => {
            let below = std::fs::canonicalize(place).is_ok_and(|place| nearest_directory(&path).starts_with(place));
            if below {
                Ok(())
            } else {
                let message = format!("\"{}\" is not on \"{}\"", path.display(), place.display());
                Err(Error::new(ErrorKind::PreconditionFailed, message)
                    .with_hint("Nothing was written. See require_mountpoint and the repository's URL."))
            }
        }
        RequiredMount::Any => {
            let there = nearest_directory(&path);
            let mounts = Mounts::read()?;
            let mut above = there.ancestors().filter(|above| *above != Path::new("/"));
            let below = above.any(|above| mounts.is_mount(above));
            if below {
                Ok(())
            } else {
                Err(not_mounted(&path).with_hint(hint))
            }
        }
    }
}

fn not_mounted(path: &Path) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("\"{}\" is not on a mounted disk", path.display()),
    )
}

/// Returns the nearest directory above a path that is there, with links followed.
fn nearest_directory(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|above| std::fs::canonicalize(above).ok());
    there.unwrap_or_else(|| PathBuf::from("/"))
}

fn is_mount_point(path: &Path) -> Result<bool> {
    let Ok(path) = std::fs::canonicalize(path) else {
        return Ok(false);
    };
    Ok(path != Path::new("/") && Mounts::read()?.is_mount(&path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_root_is_no_disk_of_its_own() {
        assert!(is_mount_point(Path::new("/proc")).unwrap() && !is_mount_point(Path::new("/proc/self")).unwrap());
        assert!(!is_mount_point(Path::new("/")).unwrap() && !is_mount_point(Path::new("/nowhere/at/all")).unwrap());
    }

    #[test]
    fn a_place_below_a_mount_point_is_on_a_disk_and_one_below_the_root_is_not() {
        let repository = |url: &str, required: RequiredMount| RepositoryConfig {
            require_mountpoint: Some(required),
            ..RepositoryConfig::from_url("r", url)
        };
        assert!(check_mount(&repository("file:///proc/self/repo", RequiredMount::Any)).is_ok());
        assert!(check_mount(&repository("file:///nowhere/repo", RequiredMount::Any)).is_err());
        let at = |place: &str| RequiredMount::At(PathBuf::from(place));
        assert!(check_mount(&repository("file:///proc/self/repo", at("/proc"))).is_ok());
        assert!(check_mount(&repository("file:///proc/self/repo", at("/proc/self"))).is_err());
        assert!(check_mount(&repository("s3://bucket/x", RequiredMount::Any)).is_ok());
    }
}
