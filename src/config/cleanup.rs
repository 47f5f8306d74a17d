//! Clean-up rules: by age for plain local files, or for what nobody uses on a Docker engine.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::error::{Error, Result};
use crate::config::keys::CleanupKeys;
use crate::engines::docker::api::Address;
use crate::policy::schedule::Timing;

/// A rule by age for plain local files, or for what nobody uses on a Docker engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanupConfig {
    /// Its name.
    pub name: String,
    /// What it reaches.
    pub reach: CleanupScope,
    /// What was written, or seen in use, within this stays.
    pub keep: Duration,
    /// Whether `run` removes; otherwise it only says what it would remove.
    pub delete: bool,
    /// When `run` applies it.
    pub timing: Timing,
}

/// What a clean-up rule reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CleanupScope {
    /// Plain files.
    Files {
        /// The directory.
        path: PathBuf,
        /// Which files below it.
        globs: Vec<String>,
    },
    /// Things of a Docker engine.
    Docker {
        /// Where the engine listens, if not at the usual place.
        socket: Option<Address>,
        /// Tagged images that no registry knows, as patterns; others need no name.
        images: Vec<String>,
        /// Stopped containers.
        containers: Vec<String>,
        /// Volumes without a container.
        volumes: Vec<String>,
        /// What stays.
        exclude: Vec<String>,
    },
}

pub(super) fn cleanup(name: String, keys: CleanupKeys) -> Result<CleanupConfig> {
    let section = format!("[cleanup.{name}]");
    let (of_files, keep) = match (keys.keep, keys.unused_for) {
        (Some(keep), None) => (true, keep),
        (None, Some(unused_for)) => (false, unused_for),
        _ => {
            return Err(
                Error::invalid(format!("{section} needs either \"keep\" or \"unused_for\"")).with_hint(
                    "Write path, glob and keep = \"30d\" for plain files, or unused_for = \"30d\" for unused Docker \
                     objects.",
                ),
            );
        }
    };
    Ok(CleanupConfig {
        delete: keys.delete,
        timing: Timing {
            schedule: keys.schedule.clone(),
            timezone: keys.timezone.clone(),
            jitter: Duration::ZERO,
        },
        reach: if of_files {
            files(keys, &section)?
        } else {
            docker(keys, &section)?
        },
        keep,
        name,
    })
}

fn files(keys: CleanupKeys, section: &str) -> Result<CleanupScope> {
    let others = [&keys.images, &keys.containers, &keys.volumes, &keys.exclude];
    let (Some(path), Some(globs)) = (keys.path, keys.glob) else {
        return Err(Error::invalid(format!("{section} needs both \"path\" and \"glob\""))
            .with_hint("Write for example path = \"/var/log/app\", glob = \"*.log\", keep = \"30d\"."));
    };
    if keys.socket.is_some() || others.iter().any(|list| !list.is_empty()) {
        return Err(
            Error::invalid(format!("{section} has keys for files and for a Docker engine"))
                .with_hint("Write two sections: one with path, glob and keep, one with unused_for."),
        );
    }
    if !path.is_absolute() || path.components().count() < 3 {
        return Err(
            Error::invalid(format!("path \"{}\" of {section} is too broad", path.display()))
                .with_hint("Name a directory by its full path, at least two levels deep, for example /var/log/app."),
        );
    }
    Ok(CleanupScope::Files { path, globs })
}

fn docker(keys: CleanupKeys, section: &str) -> Result<CleanupScope> {
    if keys.path.is_some() || keys.glob.is_some() {
        return Err(
            Error::invalid(format!("{section} has \"unused_for\" and a path or glob"))
                .with_hint("For plain files write keep instead of unused_for."),
        );
    }
    for pattern in [&keys.images, &keys.containers, &keys.volumes, &keys.exclude]
        .into_iter()
        .flatten()
    {
        globset::Glob::new(pattern)
            .map_err(|e| Error::invalid(format!("invalid pattern \"{pattern}\" in {section}")).with_cause(e))?;
    }
    Ok(CleanupScope::Docker {
        socket: keys.socket,
        images: keys.images,
        containers: keys.containers,
        volumes: keys.volumes,
        exclude: keys.exclude,
    })
}

/// A clean-up rule must not reach a repository: its data are removed by the keep rules alone.
pub(super) fn spares_repositories(rule: &CleanupConfig, urls: &[String]) -> Result<()> {
    let CleanupScope::Files { path, .. } = &rule.reach else {
        return Ok(());
    };
    for url in urls {
        let Some(directory) = url.strip_prefix("file://").map(std::path::Path::new) else {
            continue;
        };
        if directory.starts_with(path) || path.starts_with(directory) {
            return Err(
                Error::invalid(format!("[cleanup.{}] reaches the repository {url}", rule.name))
                    .with_hint("Snapshots are removed by the keep rules of their jobs; choose another path."),
            );
        }
    }
    Ok(())
}
