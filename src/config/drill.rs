//! Drills: verifications on schedule.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::error::{Error, Result};
use crate::base::secret::Secret;
use crate::config::checks::defined;
use crate::config::keys::DrillKeys;
use crate::config::url::checked_name;
use crate::policy::schedule::Timing;

/// A verification on schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillConfig {
    /// Its name.
    pub name: String,
    /// When.
    pub timing: Timing,
    /// `stored`, `content` or `restored`.
    pub level: String,
    /// Snapshots, as `verify` takes them; the latest of each job when empty.
    pub snapshots: Vec<String>,
    /// Servers for scratch places of level `restored`, at most one of each engine.
    pub into: Vec<Secret>,
    /// Whether a scratch server is started on restored base backups.
    pub start: bool,
    /// Where its programs are.
    pub bin_dir: Option<PathBuf>,
    /// The user that it runs as.
    pub run_as: Option<String>,
    /// In which repository, if there are several.
    pub repository: Option<String>,
    /// A drill that takes longer is ended.
    pub timeout: Option<Duration>,
}

pub(super) fn drill(name: String, keys: DrillKeys, repositories: &[&str]) -> Result<DrillConfig> {
    let section = format!("[drill.{name}]");
    checked_name(&name)?;
    if let Some(repository) = &keys.repository {
        defined(repository, "repository", repositories, &section)?;
    }
    let into = keys.into;
    if !into.is_empty() && keys.level != "restored" {
        return Err(
            Error::invalid(format!("{section} has \"into\", but level {}", keys.level))
                .with_hint("\"into\" is only for level = \"restored\"."),
        );
    }
    if keys.start && keys.level != "restored" {
        return Err(
            Error::invalid(format!("{section} has \"start\", but level {}", keys.level))
                .with_hint("\"start\" is only for level = \"restored\"."),
        );
    }
    if !keys.start && (keys.bin_dir.is_some() || keys.run_as.is_some()) {
        return Err(
            Error::invalid(format!("{section} has \"bin_dir\" or \"run_as\", and starts no server"))
                .with_hint("Add start = true."),
        );
    }
    for redis in [true, false] {
        if into
            .iter()
            .filter(|url| crate::engines::redis::source_url::is_redis_url(url) == redis)
            .count()
            > 1
        {
            return Err(
                Error::invalid(format!("{section} names several servers of one engine in \"into\""))
                    .with_hint("Write one of each: into = [\"postgres://…\", \"redis://…\"]."),
            );
        }
    }
    Ok(DrillConfig {
        name,
        timing: Timing {
            schedule: keys.schedule,
            timezone: keys.timezone,
            jitter: keys.jitter,
        },
        level: keys.level,
        snapshots: keys.snapshots,
        into: into.into_iter().map(Secret::new).collect(),
        start: keys.start,
        bin_dir: keys.bin_dir,
        run_as: keys.run_as,
        repository: keys.repository,
        timeout: keys.timeout,
    })
}
