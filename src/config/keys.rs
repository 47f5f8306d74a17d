//! The sections of a configuration file, and the keys of each: the one place where a key is declared, but for those of an engine, which stand
//! in its folder (`engines/NAME/keys.rs`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::error::Result;
use crate::base::exact;
use crate::base::keys::{Given, Key, One, Section, Value, Word, section, words};
use crate::base::memory::MINIMUM_LIMIT_BYTES;
use crate::config::notify::{NotifyKind, NotifyOn};
use crate::config::types::RequiredMount;
use crate::engines::docker::api::Address;
use crate::engines::docker::keys::DockerKeys;
use crate::engines::files::keys::FilesKeys;
use crate::engines::postgres::keys::PostgresKeys;
use crate::engines::postgres::physical::keys::PhysicalKeys;
use crate::engines::redis::keys::RedisKeys;
use crate::engines::sqlite::keys::SqliteKeys;
use crate::storage::s3::{self, ChecksumMode};

/// The largest number that a keep rule takes.
const MANY: u64 = 0xffff_ffff;

/// The smallest and the largest part of an upload, in bytes.
const PARTS: (u64, u64) = (exact::u64_from(s3::MIN_PART_BYTES), exact::u64_from(s3::MAX_PART_BYTES));

/// Keys of repositories that only a bucket has.
pub const OF_S3: &[&str] = &[
    "endpoint",
    "path_style",
    "part_size",
    "max_parts",
    "checksums",
    "ca_file",
];

section! {
    /// Global settings; these keys come before the first section.
    pub struct TopKeys {
        /// Memory limit of this process, at least 96MiB; a lower limit of the container takes precedence.
        memory_limit: Option<u64> = Key::size(MINIMUM_LIMIT_BYTES, u64::MAX).default("\"256MiB\"").example("\"512MiB\"").at_start(),
        /// Directory for temporary copies, which few sources need; default: the system's temporary directory.
        spool_dir: Option<PathBuf> = Key::path().example("\"/var/tmp/wirevault\"").at_start(),
        /// IANA time zone of schedules; default: the system's. Keep rules always use the system's.
        timezone: Option<String> = Key::text().example("\"Europe/Berlin\"").variable("TZ"),
        /// Host name recorded in snapshots; default: the system's host name.
        host: Option<String> = Key::text().example("\"web1\"").variable("WIREVAULT_HOST"),
        /// Token that requests for the status page and `/metrics` must carry; without one, only this host may ask.
        status_token: Option<String> =
            Key::text().example("\"a long random word\"").variable("WIREVAULT_STATUS_TOKEN").secret().at_start(),
        /// A file whose first line is the token.
        status_token_file: Option<PathBuf> =
            Key::path().example("\"/etc/wirevault/status-token\"").variable("WIREVAULT_STATUS_TOKEN_FILE").at_start(),
    }
}

section! {
    /// Where snapshots go: `[repository]` if there is one, `[repository.NAME]` if there are several ([stores](stores.md)).
    pub struct RepositoryKeys {
        /// `s3://bucket/prefix`, or `file:///path` or a path for a directory.
        url: String = Key::url().required().example("\"s3://backups/app\"").variable("S3_BACKUP_BUCKET"),
        /// Endpoint of an S3-compatible store; default: AWS.
        endpoint: Option<String> = Key::url().example("\"https://s3.example.org\"").variable("S3_ENDPOINT"),
        /// Region of the bucket.
        region: Option<String> = Key::text().example("\"eu-central-1\"").variable("S3_REGION"),
        /// Storage class of new archives and indexes, by the store's name for it; default: the store's default.
        storage_class: Option<String> = Key::text().example("\"STANDARD_IA\""),
        /// Encryption at rest by the store: `AES256` or `aws:kms`.
        sse: Option<String> = Key::text().example("\"aws:kms\""),
        /// KMS key for `aws:kms`; default: the store's default.
        sse_kms_key: Option<String> = Key::text().example("\"alias/backups\""),
        /// Limit of the transfer rate to and from the repository; default: unlimited.
        rate_limit: Option<Rate> = Key::rate().example("\"20MiB/s\""),
        /// For a repository in a directory: require that it is on a mounted disk other than that of `/` (`true`), or on
        /// the given mount point.
        require_mountpoint: Option<Mount> = Key::flag_or_path().default("false").example("\"/mnt/nas\""),
        /// Whether the bucket is part of the path of requests; default: `true` with an `endpoint`, `false` for AWS.
        path_style: Option<bool> = Key::flag().without_default().example("false"),
        /// Size of the parts of an upload; five of them are buffered in memory, and the largest value of several
        /// repositories applies to all.
        part_size: Option<usize> = Key::size(PARTS.0, PARTS.1).default("\"8MiB\"").example("\"16MiB\"").at_start(),
        /// Maximum number of parts per object in this store.
        max_parts: Option<u32> = Key::integer(100, 10_000).default("10000").example("1000"),
        /// Checksum sent with each request body: `auto` is crc32 for AWS and MD5 for other stores.
        checksums: Option<ChecksumMode> = Key::word(ChecksumMode::WORDS).default("\"auto\"").example("\"sha256\""),
        /// File of CA certificates in PEM form, the only ones trusted for this store.
        ca_file: Option<PathBuf> = Key::path().example("\"/etc/wirevault/store-ca.pem\""),
        /// Access key of the store; default: the usual credential chain.
        access_key: Option<String> = Key::text().example("\"AKIAEXAMPLE\"").variable("S3_ACCESS_KEY").secret(),
        /// Secret key that belongs to `access_key`.
        secret_key: Option<String> = Key::text().example("\"a secret\"").variable("S3_SECRET_KEY").secret(),
    }
}

section! {
    /// The keys of sources of every kind.
    pub struct SourceKeys {
        /// Kind of the source; determines its other keys.
        kind: Chosen = Key::word(KINDS).required().example("\"files\""),
        /// Limit of the rate at which the source is read; default: unlimited.
        rate_limit: Option<Rate> = Key::rate().example("\"50MiB/s\""),
        /// Treat its failure as a warning: a snapshot is complete without it.
        optional: bool = Key::flag(),
    }
}

section! {
    /// Rules of what `prune` keeps: a snapshot stays if any of them keeps it, and with none everything stays.
    pub struct KeepKeys {
        /// Keep the newest N snapshots.
        last: u32 = Key::integer(0, MANY).default("0").example("3"),
        /// Keep the newest snapshot of each of the last N hours that have one.
        hourly: u32 = Key::integer(0, MANY).default("0").example("24"),
        /// Keep the newest snapshot of each of the last N days that have one.
        daily: u32 = Key::integer(0, MANY).default("0").example("7"),
        /// Keep the newest snapshot of each of the last N weeks that have one.
        weekly: u32 = Key::integer(0, MANY).default("0").example("4"),
        /// Keep the newest snapshot of each of the last N months that have one.
        monthly: u32 = Key::integer(0, MANY).default("0").example("12"),
        /// Keep the newest snapshot of each of the last N years that have one.
        yearly: u32 = Key::integer(0, MANY).default("0").example("5"),
        /// Keep all snapshots of the last N days.
        within_days: u32 = Key::integer(0, MANY).default("0").example("2").variable("BACKUP_RETENTION_DAYS"),
        /// Always keep at least N snapshots, regardless of the rules.
        minimum: u32 = Key::integer(0, MANY).default("0").example("3"),
        /// Storage class of new archives in the repository, overriding the repository's own.
        storage_class: Option<String> = Key::text().example("\"STANDARD_IA\""),
    }
}

section! {
    /// The addresses of a dead man's switch, one by one.
    pub struct PingKeys {
        /// Called when a run starts.
        start: Option<String> = Key::url().example("\"https://hc.example/uuid/start\"").secret(),
        /// Called when a run succeeds.
        success: Option<String> = Key::url().example("\"https://hc.example/uuid\"").variable("BACKUP_PING_URL").secret(),
        /// Called when a run fails, with the error as the body.
        fail: Option<String> = Key::url().example("\"https://hc.example/uuid/fail\"").secret(),
    }
}

section! {
    /// What is backed up together, and when ([the scheduler](operations.md#the-scheduler)).
    pub struct JobKeys {
        /// Names of its sources, in the order in which they are read.
        sources: Vec<String> = Key::texts().without_default().required().example("[\"etc\", \"app\"]"),
        /// When `run` starts it: five cron fields, or `@every 6h`; without it, the job only runs manually.
        schedule: Option<String> = Key::text().example("\"0 2 * * *\"").variable("BACKUP_SCHEDULE"),
        /// Time zone of its schedule; default: the `timezone` of all jobs.
        timezone: Option<String> = Key::text().example("\"UTC\""),
        /// Delay each start by up to this; the delay differs between hosts.
        jitter: Duration = Key::duration().default("\"0s\"").example("\"15min\""),
        /// Run after a change of its files, once they have been unchanged for this long; needs a source of kind `files`
        /// or `sqlite`.
        on_change: Option<Duration> = Key::duration().example("\"30s\""),
        /// Abort a scheduled run that takes longer.
        timeout: Option<Duration> = Key::duration().example("\"6h\""),
        /// Abort a scheduled run that transfers no data for this long.
        idle_timeout: Option<Duration> = Key::duration().example("\"10min\""),
        /// Keep rules for `prune`, in every repository; without them, everything is kept.
        keep: Option<KeepKeys> = Key::table(KeepKeys::KEYS),
        /// Keep rules for single repositories, by name of the repository; they replace `keep` there.
        keep_in: BTreeMap<String, KeepKeys> = Key::tables(KeepKeys::KEYS),
        /// Names of the repositories it is stored in; default: all.
        repositories: Vec<String> = Key::texts().example("[\"near\", \"far\"]"),
        /// How long a repository may delay the others in total before it is left behind.
        max_stall: Option<Duration> = Key::duration().default("\"30s\"").example("\"5min\""),
        /// zstd compression level of its archives: 1 is fast, 19 is slow and small.
        compression_level: Option<i32> = Key::integer(1, 19).default("1").example("3"),
        /// Hook before a run, which fails if the hook fails: a URL, or a program by its full path with its arguments.
        before: Option<Call> = Key::call().example("[\"/usr/local/bin/stop-writers\"]"),
        /// Hook after a run that stored a snapshot.
        after: Option<Call> = Key::call().example("\"http://127.0.0.1:8080/backed-up\""),
        /// Hook after a run that stored no snapshot.
        on_failure: Option<Call> = Key::call().example("[\"/usr/local/bin/page\", \"--urgent\"]"),
        /// URL of a dead man's switch that is notified of runs (with `/start` and `/fail` appended), or a table of
        /// three URLs.
        ping: Option<PingTo> = Key::url_or_table(PingKeys::KEYS)
            .example("\"https://hc.example/uuid\"")
            .secret(),
    }
}

section! {
    /// A verification on schedule ([drills](operations.md#drills)).
    pub struct DrillKeys {
        /// When `run` starts it: five cron fields, or `@every 6h`.
        schedule: String = Key::text().required().example("\"0 5 * * 0\""),
        /// Time zone of its schedule; default: the `timezone` of all jobs.
        timezone: Option<String> = Key::text().example("\"UTC\""),
        /// Delay each start by up to this; the delay differs between hosts.
        jitter: Duration = Key::duration().default("\"0s\"").example("\"15min\""),
        /// How thoroughly to verify: stored objects, their content, or a test restore.
        level: String = Key::word(LEVELS).default("\"content\"").example("\"restored\""),
        /// Snapshots, as for `verify`; default: the latest of each job.
        snapshots: Vec<String> = Key::texts().example("[\"latest:full\"]"),
        /// Scratch servers for level `restored`, one per engine.
        into: Vec<String> =
            Key::one_or_more().urls().default("[]").example("[\"postgres://drill@scratch\", \"redis://scratch\"]"),
        /// Start a scratch server on each restored base backup of PostgreSQL, with its log; needs level `restored`.
        start: bool = Key::flag(),
        /// Where its programs are; default: the usual places, then `PATH`.
        bin_dir: Option<PathBuf> = Key::path().example("\"/usr/lib/postgresql/18/bin\""),
        /// User that it runs as, where `run` is root; default: `postgres`.
        run_as: Option<String> = Key::text().example("\"scratch\""),
        /// Repository to verify; default: all.
        repository: Option<String> = Key::text().example("\"far\""),
        /// Abort a drill that takes longer.
        timeout: Option<Duration> = Key::duration().example("\"12h\""),
    }
}

section! {
    /// Notifications of failures ([hooks and notifications](operations.md#hooks)).
    pub struct NotifyKeys {
        /// Service: `slack` (also Mattermost and Rocket.Chat), `webhook` (a JSON document), `ntfy` or `email`.
        kind: NotifyKind = Key::word(NotifyKind::WORDS).required().example("\"slack\""),
        /// URL of the service; for mail the server, as `smtps://user@host` or `smtp://user@host`.
        url: Option<String> = Key::url().example("\"https://hooks.example/T0/B0\"").secret(),
        /// A file whose first line is the URL, instead of `url`.
        url_file: Option<PathBuf> = Key::path().example("\"/etc/wirevault/mail-url\""),
        /// Sent as bearer token; for mail, the user's password.
        token: Option<String> = Key::text().example("\"a secret\"").secret(),
        /// A file whose first line is the token.
        token_file: Option<PathBuf> = Key::path().example("\"/etc/wirevault/mail-password\""),
        /// Sender address of mail.
        from: Option<String> = Key::text().example("\"Backups <backup@example.org>\""),
        /// Recipients of mail.
        to: Vec<String> = Key::texts().urls().example("[\"ops@example.org\"]"),
        /// Jobs and drills to notify about; default: all.
        jobs: Vec<String> = Key::texts().example("[\"full\"]"),
        /// Events to notify about.
        on: Vec<NotifyOn> = Key::words(NotifyOn::WORDS)
            .default("[\"failure\", \"recovery\", \"missed\"]")
            .example("[\"failure\", \"recovery\"]"),
    }
}

section! {
    /// Removal of old plain files or unused Docker objects ([old files](operations.md#cleaning-up-old-files)).
    pub struct CleanupKeys {
        /// The directory of plain files, at least two levels deep.
        path: Option<PathBuf> = Key::path().example("\"/var/log/app\""),
        /// Files to remove below it, as patterns.
        glob: Option<Vec<String>> = Key::one_or_more().example("[\"*.log\", \"*.log.gz\"]"),
        /// Minimum age of the files to remove.
        keep: Option<Duration> = Key::duration_from(3600).example("\"30d\""),
        /// How long a Docker object must be unused before it is removed; instead of `path`, `glob` and `keep`.
        unused_for: Option<Duration> = Key::duration_from(3600).example("\"30d\""),
        /// Docker socket, or `tcp://host:port`; default: `DOCKER_HOST`, else `/var/run/docker.sock`.
        socket: Option<Address> = Key::text().urls().example("\"/var/run/docker.sock\"").variable("DOCKER_HOST"),
        /// Tagged images that are in no registry, as patterns; untagged and pulled images need no pattern.
        images: Vec<String> = Key::texts().example("[\"shop-*:*\"]"),
        /// Stopped containers, as patterns.
        containers: Vec<String> = Key::texts().example("[\"shop-*-run-*\"]"),
        /// Volumes that no container uses, as patterns.
        volumes: Vec<String> = Key::texts().example("[\"shop_cache-*\"]"),
        /// Objects to keep.
        exclude: Vec<String> = Key::texts().example("[\"busybox:*\"]"),
        /// Let `run` remove the objects; otherwise it only reports them.
        delete: bool = Key::flag(),
        /// When `run` applies it: five cron fields, or `@every 6h`.
        schedule: String = Key::text().default("\"30 4 * * *\"").example("\"0 4 * * 0\""),
        /// Time zone of its schedule; default: the `timezone` of all jobs.
        timezone: Option<String> = Key::text().example("\"UTC\""),
    }
}

/// Levels of a drill.
const LEVELS: &[&str] = &["stored", "content", "restored"];

/// Kinds of sources.
const KINDS: &[&str] = &["postgres", "postgres-physical", "redis", "sqlite", "files", "docker"];

/// What a kind of sources is called, for people, and its own keys beside those of every kind.
#[derive(Debug, Clone, Copy)]
pub struct SourceKind {
    /// The word of the key `kind`.
    pub word: &'static str,
    /// A name that is no longer written, and still read.
    pub formerly: Option<&'static str>,
    /// What it is for.
    pub about: &'static str,
    /// Its own keys.
    pub keys: &'static [Key],
}

impl SourceKind {
    const fn of<T: Section>(word: &'static str) -> Self {
        Self {
            word,
            formerly: None,
            about: T::ABOUT,
            keys: T::KEYS,
        }
    }
}

/// The kinds of sources, in the order of [`KINDS`].
pub const SOURCES: &[SourceKind] = &[
    SourceKind::of::<PostgresKeys>("postgres"),
    SourceKind::of::<PhysicalKeys>("postgres-physical"),
    SourceKind::of::<RedisKeys>("redis"),
    SourceKind::of::<SqliteKeys>("sqlite"),
    SourceKind::of::<FilesKeys>("files"),
    SourceKind {
        formerly: Some("docker-volumes"),
        ..SourceKind::of::<DockerKeys>("docker")
    },
];

/// How the tables of a section stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Above all sections.
    Top,
    /// `[NAME]`, or `[NAME.x]` for each of several.
    OneOrNamed,
    /// `[NAME.x]`.
    Named,
}

/// A section of the file. The keys of sources depend on their kind: see [`SOURCES`].
#[derive(Debug, Clone, Copy)]
pub struct FileSection {
    /// Its word in the file; empty for the top.
    pub word: &'static str,
    /// How its tables stand there.
    pub form: Form,
    /// What it is for.
    pub about: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

impl FileSection {
    const fn of<T: Section>(word: &'static str, form: Form) -> Self {
        Self {
            word,
            form,
            about: T::ABOUT,
            keys: T::KEYS,
        }
    }
}

/// The sections, in the order in which pages and the example have them.
pub const SECTIONS: &[FileSection] = &[
    FileSection::of::<TopKeys>("", Form::Top),
    FileSection::of::<RepositoryKeys>("repository", Form::OneOrNamed),
    FileSection::of::<SourceKeys>("source", Form::Named),
    FileSection::of::<JobKeys>("job", Form::Named),
    FileSection::of::<DrillKeys>("drill", Form::Named),
    FileSection::of::<NotifyKeys>("notify", Form::Named),
    FileSection::of::<CleanupKeys>("cleanup", Form::Named),
];

words! { ChecksumMode {
    "auto" => Auto,
    "crc32" => Crc32,
    "sha256" => Sha256,
    "none" => None,
} }

words! { NotifyKind {
    "slack" => Slack,
    "webhook" => Webhook,
    "ntfy" => Ntfy,
    "email" => Email,
} }

words! { NotifyOn {
    "failure" => Failure,
    "recovery" => Recovery,
    "missed" => Missed,
} }

/// Bytes per second.
pub type Rate = u64;

/// What `require_mountpoint` says; `None` is `false`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount(pub Option<RequiredMount>);

impl One for Mount {
    fn one(key: &Key, given: &Given<'_>) -> Result<Self> {
        Ok(Self(match given.value(key)? {
            Value::Bool(false) => None,
            Value::Bool(true) => Some(RequiredMount::Any),
            Value::Text(path) => Some(RequiredMount::At(path.into())),
            _ => return Err(given.refused(key)),
        }))
    }
}

/// What a hook says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// An address.
    Address(String),
    /// A program and its arguments.
    Program(Vec<String>),
}

impl One for Call {
    fn one(key: &Key, given: &Given<'_>) -> Result<Self> {
        match given.value(key)? {
            Value::Text(address) => Ok(Self::Address(address)),
            Value::Texts(words) => Ok(Self::Program(words)),
            _ => Err(given.refused(key)),
        }
    }
}

/// What `ping` says.
#[derive(Debug, Clone)]
pub enum PingTo {
    /// The address of success, behind which the others stand.
    Base(String),
    /// Each by itself.
    Each(PingKeys),
}

impl One for PingTo {
    fn one(key: &Key, given: &Given<'_>) -> Result<Self> {
        if let Some(each) = given.section() {
            return each.map(Self::Each);
        }
        match given.value(key)? {
            Value::Text(base) => Ok(Self::Base(base)),
            _ => Err(given.refused(key)),
        }
    }
}

/// The kind that a source names.
#[derive(Debug, Clone, Copy)]
pub struct Chosen(pub &'static SourceKind);

impl One for Chosen {
    fn one(key: &Key, given: &Given<'_>) -> Result<Self> {
        let word = given.value.get_ref().as_str().ok_or_else(|| given.refused(key))?;
        if let Some(kind) = SOURCES
            .iter()
            .find(|kind| kind.word == word || kind.formerly == Some(word))
        {
            return Ok(Self(kind));
        }
        given.value(key).and(Err(given.refused(key)))
    }
}
