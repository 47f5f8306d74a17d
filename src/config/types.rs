//! What a configuration says, whatever form it came in.

use std::path::PathBuf;

use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::config::outside::{CleanupConfig, DrillConfig, Hooks, NotifyConfig, Ping};
use crate::engines::docker::api::Address;
use crate::engines::postgres::Exclusion;
use crate::engines::sqlite::{Method, discover};
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
    /// What whoever asks for the status page over a network must know.
    pub status_token: Option<Secret>,
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

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
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
}

impl SourceKind {
    /// Returns the word for it in configuration files.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Sqlite(_) => "sqlite",
            Self::Redis(_) => "redis",
            Self::Files(_) => "files",
            Self::Docker(_) => "docker",
        }
    }
}

/// A PostgreSQL database.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PostgresSource {
    /// `postgres://user@host:port/database?options`, without a password.
    pub url: String,
    /// The password, if it is known already; otherwise PGPASSWORD and `~/.pgpass` are asked.
    #[serde(skip)]
    pub password: Option<Secret>,
    /// A file whose first line is the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Connections that read tables at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<usize>,
    /// How long, in seconds, a statement may wait behind the backup before the backup gives way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_block_seconds: Option<u64>,
    /// Leave out the passwords of roles.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_role_passwords: bool,
    /// Patterns of tables, views and sequences that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_tables: Vec<String>,
    /// Patterns of schemas that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_schemas: Vec<String>,
    /// Patterns of tables and sequences whose rows and values are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_table_data: Vec<String>,
    /// Patterns of extensions that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_extensions: Vec<String>,
    /// Leave out large objects.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exclude_large_objects: bool,
    /// Whether this host does not answer for the place: only a manifest names it. No secret goes there that was not
    /// meant for it.
    #[serde(skip)]
    pub foreign: bool,
}

impl PostgresSource {
    /// Returns what is left out.
    pub fn exclusion(&self) -> Exclusion {
        Exclusion {
            tables: self.exclude_tables.clone(),
            schemas: self.exclude_schemas.clone(),
            table_data: self.exclude_table_data.clone(),
            extensions: self.exclude_extensions.clone(),
            large_objects: self.exclude_large_objects,
        }
    }
}

/// A Redis or Valkey server.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct RedisSource {
    /// `redis://user@host:port`, `rediss://…` for TLS, or `unix:///path/of/the.sock`, without a password.
    pub url: String,
    /// The password, if it is known already; otherwise REDISCLI_AUTH is asked.
    #[serde(skip)]
    pub password: Option<Secret>,
    /// A file whose first line is the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whether this host does not answer for the place: only a manifest names it. No secret goes there that was not
    /// meant for it.
    #[serde(skip)]
    pub foreign: bool,
}

/// A SQLite database file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SqliteSource {
    /// The file; or a pattern, or a directory: then every database that is there at the time of a run.
    pub path: PathBuf,
    /// Further files, patterns and directories.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<PathBuf>,
    /// Of a database that was found: the name of the source that means it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Of a part of a place that could not be searched, or holds none: why. It stands for the databases that may be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsearched: Option<discover::Unseen>,
    /// How it is read.
    pub method: Method,
}

impl SqliteSource {
    /// One database.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            also: vec![],
            group: None,
            unsearched: None,
            method: Method::Auto,
        }
    }

    /// Whether it stands for all the databases in some place, as it is now.
    pub fn is_several(&self) -> bool {
        self.group.is_none() && (!self.also.is_empty() || discover::is_place(&self.path))
    }

    /// Returns what it names: files, patterns, directories.
    pub fn patterns(&self) -> Vec<PathBuf> {
        std::iter::once(&self.path).chain(&self.also).cloned().collect()
    }
}

/// A tree of files.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct FilesSource {
    /// The root directory, or one file.
    pub root: PathBuf,
    /// What is taken; everything when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// What is left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Whether other file systems below the root are left out.
    pub one_file_system: bool,
    /// A directory that holds one of these names is left out, but for that file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_if_present: Vec<String>,
    /// Whether directories that hold a CACHEDIR.TAG are left out, but for the tag.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exclude_caches: bool,
    /// Whether a source that had entries may have none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_empty: bool,
    /// Whether restores make device nodes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub devices: bool,
    /// Whether one file was named: the root is only where it lies, and stays as it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub single_file: bool,
}

/// Volumes of a Docker engine, and the definitions of their containers and networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct DockerSource {
    /// The engine's socket, or `tcp://host:port`; else that of DOCKER_HOST, else /var/run/docker.sock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<Address>,
    /// Names or globs of volumes. Where no volume, label and container is named, everything is meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Volumes that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Labels of volumes and containers, `key` or `key=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Further containers (names or compose services) whose definitions are stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
    /// Containers that are stopped while volumes are read or written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quiesce: Vec<String>,
    /// How long, in seconds, they may take to stop; 30 when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout_seconds: Option<u64>,
    /// Whether one that does not stop by then is killed.
    pub kill: bool,
    /// Whether images are stored.
    pub images: bool,
    /// Whether the environments of containers are left out.
    pub no_environment: bool,
    /// Whether volumes are read through the archive API even where their mount points are visible.
    pub archive_api: bool,
    /// URLs that answer when everything runs: `recover` waits for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<String>,
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
