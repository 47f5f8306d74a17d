//! The validated plan of one run: what is read, where it goes, what is kept. It stands in the manifest.

use crate::base::error::{Context, Error, Result};
use crate::base::nearest::nearest;
use crate::config::env::{Environment, s3_of};
use crate::config::types::{Config, JobConfig, RepositoryConfig, SourceConfig};
use crate::config::url::{parse_repository_url, parse_source_url, unique_names};
use crate::policy::retention::KeepConfig;
use crate::repository::{ADHOC_JOB, PlannedSchedule};
use crate::storage::open::checked_endpoint;

/// How long a repository may hold the others back in all, unless the job says so.
pub(super) const MAX_STALL: std::time::Duration = std::time::Duration::from_secs(30);

/// One run: a job's sources into one repository. It serialises without secrets.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    /// Name of the job; `adhoc` for sources given as URLs.
    pub job: String,
    /// Where it goes.
    pub repository: RepositoryConfig,
    /// What is read, in this order.
    pub sources: Vec<SourceConfig>,
    /// zstd level of the archives.
    pub compression_level: i32,
    /// A repository that holds the others back for longer than this in all is left behind.
    #[serde(skip)]
    pub max_stall: std::time::Duration,
    /// What `prune` keeps of this job here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepConfig>,
    /// When the scheduler runs it: what the age of its newest snapshot is measured by, on whatever host.
    #[serde(flatten)]
    pub schedule: Option<PlannedSchedule>,
}

/// Plans a configured job: one plan for each repository it goes to, or for `only`.
pub fn plan_for_job(config: &Config, job: &JobConfig, only: Option<&RepositoryConfig>) -> Result<Vec<Plan>> {
    let sources = job
        .sources
        .iter()
        .map(|name| {
            let found = config.sources.iter().find(|s| s.name == *name).cloned();
            found.map(absolute).transpose()?.ok_or_else(|| {
                Error::invalid(format!(
                    "job \"{}\" names source \"{name}\", which is not defined",
                    job.name
                ))
            })
        })
        .collect::<Result<Vec<SourceConfig>>>()?;
    let targets: Vec<&RepositoryConfig> = match only {
        Some(one) => vec![one],
        None => config
            .repositories
            .iter()
            .filter(|r| job.repositories.is_empty() || job.repositories.contains(&r.name))
            .collect(),
    };
    if targets.is_empty() {
        return Err(no_repository(config));
    }
    let schedule = job.timing();
    let schedule = schedule.map(|timing| PlannedSchedule::of(&timing, config.timezone.as_deref()));
    Ok(targets
        .into_iter()
        .map(|repository| {
            let keep = job.keep_in.get(&repository.name).or(job.keep.as_ref()).cloned();
            let mut repository = repository.clone();
            if let Some(class) = keep.as_ref().and_then(|keep| keep.storage_class.clone()) {
                repository.storage_class = Some(class);
            }
            let compression_level = job.compression_level.unwrap_or(1);
            Plan {
                job: job.name.clone(),
                repository,
                sources: sources.clone(),
                compression_level,
                max_stall: job.max_stall.unwrap_or(MAX_STALL),
                keep,
                schedule: schedule.clone(),
            }
        })
        .collect())
}

/// Plans a backup of sources given as URLs.
pub fn plan_for_urls(urls: &[String], repository: RepositoryConfig) -> Result<Plan> {
    let sources = urls.iter().map(|url| parse_source_url(url));
    plan_for_sources(sources.collect::<Result<Vec<_>>>()?, repository)
}

/// Plans a backup of sources that no job names; they get names of their own.
pub fn plan_for_sources(sources: Vec<SourceConfig>, repository: RepositoryConfig) -> Result<Plan> {
    let mut sources = sources.into_iter().map(absolute).collect::<Result<Vec<_>>>()?;
    unique_names(&mut sources);
    Ok(Plan {
        job: ADHOC_JOB.to_owned(),
        repository,
        sources,
        compression_level: 1,
        max_stall: MAX_STALL,
        keep: None,
        schedule: None,
    })
}

/// Finds the repository that `given` (a URL or a configured name) means; without it, the only one that is configured.
pub fn repository_for(
    config: &Config,
    given: Option<&str>,
    endpoint: Option<&str>,
    env: &Environment<'_>,
) -> Result<RepositoryConfig> {
    let mut repository = match given {
        None => match config.repositories.as_slice() {
            [one] => one.clone(),
            [] => return Err(no_repository(config)),
            several => {
                let names = several.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(
                    Error::invalid(format!("{} defines several repositories: {names}", config.origin))
                        .with_hint("Choose one with --repository NAME."),
                );
            }
        },
        Some(given) => {
            if let Some(configured) = config.repositories.iter().find(|r| r.name == given) {
                configured.clone()
            } else {
                let names = config.repositories.iter().map(|r| r.name.as_str());
                let url = parse_repository_url(given).map_err(|error| match nearest(given, names) {
                    Some(near) => error.with_hint(format!(
                        "Did you mean repository \"{near}\"? A URL is s3://bucket/prefix or file:///path."
                    )),
                    None => error,
                })?;
                // The same place under its URL keeps its configured endpoint and keys.
                if let Some(configured) = config.repositories.iter().find(|r| r.url == url) {
                    configured.clone()
                } else {
                    let mut found = RepositoryConfig::from_url("default", url);
                    s3_of(env, &mut found)?;
                    found
                }
            }
        }
    };
    if let Some(endpoint) = endpoint {
        repository.endpoint = Some(checked_endpoint(endpoint).context("--endpoint")?);
    }
    Ok(repository)
}

fn no_repository(config: &Config) -> Error {
    let origin = if config.origin.is_empty() {
        "the configuration"
    } else {
        &config.origin
    };
    Error::invalid(format!("{origin} has no repository")).with_hint(
        "Set one with --to URL (s3://bucket/prefix or file:///path), WIREVAULT_REPOSITORY, or [repository] \
                    in wirevault.toml.",
    )
}

/// Makes local paths absolute: a restore may start in another directory.
fn absolute(mut source: SourceConfig) -> Result<SourceConfig> {
    source.kind.spec_mut().make_absolute()?;
    Ok(source)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::keys::Section;
    use crate::config::keys::JobKeys;

    #[test]
    fn the_default_that_is_declared_is_the_one_that_holds() {
        let key = JobKeys::KEYS.iter().find(|key| key.name == "max_stall").unwrap();
        let declared = key.default.unwrap().trim_matches('"');
        assert_eq!(crate::base::units::parse_duration(declared).unwrap(), MAX_STALL);
    }
}
