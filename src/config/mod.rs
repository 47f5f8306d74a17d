//! Configuration: `wirevault.toml`, the environment and URLs, made into one validated [`Plan`].
//!
//! All three forms end in the same [`Config`], so no later stage knows where a value came from. Secrets are carried
//! in [`Secret`], which neither prints nor serialises; a plan can therefore stand in a manifest as it is.

mod checks;
mod cleanup;
mod document;
mod drill;
mod effective;
mod env;
mod exposed;
mod file;
mod hooks;
pub mod keys;
mod notify;
pub mod pages;
mod plan;
mod types;
mod url;

pub use crate::engines::redact::{redact_url, redact_urls};
pub use cleanup::{CleanupConfig, CleanupScope};
pub use drill::DrillConfig;
pub use effective::{Effective, Origin};
pub use env::{Environment, from_environment, refuse_unknown_names};
pub use file::{DEFAULT_LOG_WINDOW, parse, read};
pub use hooks::{Hook, Hooks, Ping};
pub use notify::{NotifyConfig, NotifyKind, NotifyOn, mailbox};
pub use plan::{Plan, plan_for_job, plan_for_sources, plan_for_urls, repository_for};
pub use types::{
    Config, DockerSource, FilesSource, JobConfig, PostgresSource, RedisSource, RepositoryConfig, RequiredMount,
    SourceConfig, SourceKind, SqliteSource,
};
pub use url::{checked_host, checked_name, parse_repository_url, parse_source_url, parse_source_url_of, unique_names};

/// Name of the configuration file that is read when it is there and none is given.
pub const DEFAULT_FILE: &str = "wirevault.toml";
