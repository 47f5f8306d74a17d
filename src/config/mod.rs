//! Configuration: `wirevault.toml`, the environment and URLs, made into one validated [`Plan`].
//!
//! All three forms end in the same [`Config`], so no later stage knows where a value came from. Secrets are carried
//! in [`Secret`], which neither prints nor serialises; a plan can therefore stand in a manifest as it is.

mod env;
mod exposed;
mod file;
mod keys;
mod outside;
mod plan;
mod redact;
mod secret;
mod types;
mod units;
mod url;

pub use env::{Environment, from_environment, refuse_unknown_names};
pub use file::{parse, read};
pub use outside::{CleanupConfig, DrillConfig, Hook, Hooks, NotifyConfig, NotifyKind, Occasion, Ping, Reach, Timing};
pub use plan::{ADHOC_JOB, Plan, PlannedSchedule, plan_for_job, plan_for_urls, repository_for};
pub use redact::{redact_url, redact_urls};
pub use secret::Secret;
pub use types::{
    Config, DockerSource, FilesSource, JobConfig, KeepConfig, PostgresSource, RedisSource, RepositoryConfig,
    RequiredMount, SourceConfig, SourceKind, SqliteMethod, SqliteSource,
};
pub use units::{format_bytes, format_duration, parse_bytes, parse_duration, parse_rate};
pub use url::{
    checked_host, foreign_name, foreign_url, is_redis_url, parse_repository_url, parse_source_url, postgres_url,
    tls_files, unique_names, with_tls_files, without_database,
};

/// Bytes of a file of configuration or of a secret, at most.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Reads a file that a person wrote, which has an end: `/dev/zero` has none.
pub fn read_small(path: impl AsRef<std::path::Path>) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let mut file = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1);
    file.read_to_string(&mut text)?;
    if file.limit() == 0 {
        let message = "it is larger than 4 MiB, which no such file is";
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// Name of the configuration file that is read when it is there and none is given.
pub const DEFAULT_FILE: &str = "wirevault.toml";

/// Returns the candidate nearest to `word`, if one is near enough to have been meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_without_an_end_is_not_read_to_it() {
        let error = read_small("/dev/zero").unwrap_err();
        assert!(error.to_string().contains("larger than 4 MiB"), "{error}");
        assert_eq!(read_small("/dev/null").unwrap(), "");
    }
}
