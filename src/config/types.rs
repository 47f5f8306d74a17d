//! What a configuration says, whatever form it came in.

use std::path::PathBuf;

use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::config::cleanup::CleanupConfig;
use crate::config::drill::DrillConfig;
use crate::config::hooks::{Hooks, Ping};
use crate::config::notify::NotifyConfig;
pub use crate::engines::docker::DockerSpec as DockerSource;
pub use crate::engines::files::FilesSpec as FilesSource;
pub use crate::engines::postgres::PostgresSpec as PostgresSource;
pub use crate::engines::redis::RedisSpec as RedisSource;
pub use crate::engines::sqlite::SqliteSpec as SqliteSource;
use crate::engines::{SourceSpec, Spec};
use crate::policy::retention::KeepConfig;
use crate::policy::schedule::{Schedule, Timing};
use crate::storage::s3::ChecksumMode;

/// Everything that is configured.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Where it came from, for messages: a file name, or `the environment`.
    pub origin: String,
    /// Repositories, in the order of their names.
    pub repositories: Vec<RepositoryConfig>,
    /// Sources, in the order of their names.
    pub sources: Vec<SourceConfig>,
    /// Jobs, in the order of their names.
    pub jobs: Vec<JobConfig>,
    /// Memory limit in bytes, if one is given.
    pub memory_limit_bytes: Option<u64>,
    /// Directory for the named exceptions that need a local copy.
    pub spool_dir: Option<PathBuf>,
    /// IANA name of the time zone of schedules; the system's when there is none.
    pub timezone: Option<String>,
    /// The name under which this host's snapshots are kept; the kernel's when there is none.
    pub host: Option<String>,
    /// Who is told of failures.
    pub notify: Vec<NotifyConfig>,
    /// Verifications on schedule.
    pub drills: Vec<DrillConfig>,
    /// Rules by age for plain local files.
    pub cleanups: Vec<CleanupConfig>,
    /// Token that requests for the status page and `/metrics` must carry; without one, only this host may ask.
    pub status_token: Option<Secret>,
}

impl Config {
    /// Returns the memory that receivers of logs hold for one repository, in bytes, beside that of an upload; None where no log is
    /// received as long as the scheduler runs.
    pub fn receivers_hold(&self) -> Option<u64> {
        let sources = self.sources.iter();
        let logs = sources.filter_map(|source| source.kind.spec().received_log());
        logs.map(|log| log.held_bytes).reduce(u64::saturating_add)
    }
}

/// One repository.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RepositoryConfig {
    /// Its name; `default` for the short form.
    pub name: String,
    /// `s3://bucket/prefix` or `file:///path`; no secrets.
    pub url: String,
    /// Endpoint of an S3-compatible store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region of the bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Storage class of new archives, by the store's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Server-side encryption: `AES256`, `aws:kms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse: Option<String>,
    /// KMS key of server-side encryption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse_kms_key: Option<String>,
    /// Bytes per second at most, both ways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_bytes: Option<u64>,
    /// What must be mounted for a directory to be the repository; of this host, so not stored.
    #[serde(skip)]
    pub require_mountpoint: Option<RequiredMount>,
    /// Whether the bucket stands in the path; it does where an endpoint is given, unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Bytes of a part of an upload; 8 MiB when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part_size_bytes: Option<usize>,
    /// Parts that the store takes for one object, where they are fewer than 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parts: Option<u32>,
    /// Which checksum goes with each body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksums: Option<ChecksumMode>,
    /// Certificates of the store's authority; of this host, so not stored.
    #[serde(skip)]
    pub ca_file: Option<PathBuf>,
    /// Static keys; the usual credential chain when there are none.
    #[serde(skip)]
    pub static_keys: Option<(Secret, Secret)>,
}

/// What must be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequiredMount {
    /// The directory of the repository lies on a mounted disk, whichever.
    Any,
    /// This is a mount point.
    At(PathBuf),
}

impl RepositoryConfig {
    /// A repository of which only the URL is known.
    pub fn from_url(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            endpoint: None,
            region: None,
            storage_class: None,
            sse: None,
            sse_kms_key: None,
            rate_limit_bytes: None,
            require_mountpoint: None,
            path_style: None,
            part_size_bytes: None,
            max_parts: None,
            checksums: None,
            ca_file: None,
            static_keys: None,
        }
    }
}

/// One source with its name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SourceConfig {
    /// Its name: letters, digits, `.`, `_` and `-`; also the directory of its archives.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: SourceKind,
    /// Bytes per second that are read from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_bytes: Option<u64>,
    /// Whether its failure is only a warning.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// The kinds of sources. Whoever does not write or read configurations sees the specification alone ([`Self::spec`]).
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// A PostgreSQL database, dumped logically.
    Postgres(PostgresSource),
    /// A SQLite database file.
    Sqlite(SqliteSource),
    /// A Redis or Valkey server.
    Redis(RedisSource),
    /// A tree of files.
    Files(FilesSource),
    /// Volumes of a Docker engine, and the definitions of what belongs to them.
    Docker(DockerSource),
    /// A source that nothing here asks for more than every specification says.
    Other(Spec),
}

impl SourceKind {
    /// Returns the word for it in configuration files.
    pub fn word(&self) -> &'static str {
        self.spec().kind().word()
    }

    /// Returns what its engine makes of it.
    pub fn spec(&self) -> &dyn SourceSpec {
        match self {
            Self::Postgres(spec) => spec,
            Self::Sqlite(spec) => spec,
            Self::Redis(spec) => spec,
            Self::Files(spec) => spec,
            Self::Docker(spec) => spec,
            Self::Other(spec) => spec.as_ref(),
        }
    }

    /// Returns it as what its engine makes of it.
    pub fn into_spec(self) -> Spec {
        match self {
            Self::Other(spec) => spec,
            known => known.spec().boxed(),
        }
    }

    /// As [`Self::spec`], to change it.
    pub fn spec_mut(&mut self) -> &mut dyn SourceSpec {
        match self {
            Self::Postgres(spec) => spec,
            Self::Sqlite(spec) => spec,
            Self::Redis(spec) => spec,
            Self::Files(spec) => spec,
            Self::Docker(spec) => spec,
            Self::Other(spec) => spec.as_mut(),
        }
    }
}

impl From<Spec> for SourceKind {
    fn from(spec: Spec) -> Self {
        let found = [
            spec.downcast_ref().cloned().map(Self::Postgres),
            spec.downcast_ref().cloned().map(Self::Sqlite),
            spec.downcast_ref().cloned().map(Self::Redis),
            spec.downcast_ref().cloned().map(Self::Files),
            spec.downcast_ref().cloned().map(Self::Docker),
        ];
        found.into_iter().flatten().next().unwrap_or(Self::Other(spec))
    }
}

impl PartialEq for SourceKind {
    fn eq(&self, other: &Self) -> bool {
        self.spec() == other.spec()
    }
}

impl Eq for SourceKind {}

impl serde::Serialize for SourceKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.spec().serialize(serializer)
    }
}

/// One job.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct JobConfig {
    /// Its name.
    pub name: String,
    /// Names of its sources, in the order in which they are read.
    pub sources: Vec<String>,
    /// When the scheduler runs it (five cron fields).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// IANA name of the time zone of its schedule, if it is not the one of all jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Its runs begin later by a part of this, which differs between hosts.
    #[serde(skip)]
    pub jitter: std::time::Duration,
    /// A scheduled run that takes longer is ended.
    #[serde(skip)]
    pub timeout: Option<std::time::Duration>,
    /// What `prune` keeps, in every repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepConfig>,
    /// What `prune` keeps in one repository, by its name; it replaces `keep` there.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub keep_in: std::collections::BTreeMap<String, KeepConfig>,
    /// Names of the repositories it goes to; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
    /// zstd level of its archives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_level: Option<i32>,
    /// What is called around its runs.
    #[serde(skip)]
    pub hooks: Hooks,
    /// The dead man's switch that hears of its runs.
    #[serde(skip)]
    pub ping: Ping,
    /// Runs after a change of its files, when they have been quiet for so long.
    #[serde(skip)]
    pub on_change: Option<std::time::Duration>,
    /// A scheduled run during which no byte moves for so long is ended.
    #[serde(skip)]
    pub idle_timeout: Option<std::time::Duration>,
    /// A repository that holds the others back for longer than this in all is left behind.
    #[serde(skip)]
    pub max_stall: Option<std::time::Duration>,
}

impl JobConfig {
    /// Reads the schedule; `None` if it has none. `zone` is the time zone of jobs that name none.
    pub fn schedule(&self, zone: Option<&str>, host: &str) -> Result<Option<Schedule>> {
        let timing = self.timing();
        timing
            .map(|timing| Schedule::of_job(&self.name, &timing, zone, host))
            .transpose()
    }

    /// Returns when it runs, if it has a schedule.
    pub fn timing(&self) -> Option<Timing> {
        self.schedule.as_ref().map(|schedule| Timing {
            schedule: schedule.clone(),
            timezone: self.timezone.clone(),
            jitter: self.jitter,
        })
    }
}
