//! The sections of a configuration file, and the keys of each: the one place where a key is declared, but for those of an engine, which stand
//! in its folder (`engines/NAME/keys.rs`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::error::Result;
use crate::base::keys::{Given, Key, One, Section, Value, Word, section, words};
use crate::base::memory::MINIMUM_LIMIT_BYTES;
use crate::config::outside::{NotifyKind, Occasion};
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
const MANY: u64 = u32::MAX as u64;

/// The smallest and the largest part of an upload, in bytes.
const PARTS: (u64, u64) = (s3::MIN_PART_BYTES as u64, s3::MAX_PART_BYTES as u64);

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
    /// What holds for everything; these keys stand above all sections.
    pub struct TopKeys {
        /// Memory that this process may use, at least 96MiB; a smaller limit of the container is respected.
        memory_limit: Option<u64> = Key::size(MINIMUM_LIMIT_BYTES, u64::MAX).default("\"256MiB\"").example("\"512MiB\"").at_start(),
        /// Directory for the few sources that need a local copy; the system's temporary directory without it.
        spool_dir: Option<PathBuf> = Key::path().example("\"/var/tmp/wirevault\"").at_start(),
        /// Time zone of schedules, by its IANA name; the system's without it, by which keep rules go in any case.
        timezone: Option<String> = Key::text().example("\"Europe/Berlin\"").variable("TZ"),
        /// The name under which this host's snapshots are kept; the kernel's without it.
        host: Option<String> = Key::text().example("\"web1\"").variable("WIREVAULT_HOST"),
        /// Token that requests for the status page from another host must carry.
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
        /// Address of an S3-compatible store; AWS without it.
        endpoint: Option<String> = Key::url().example("\"https://s3.example.org\"").variable("S3_ENDPOINT"),
        /// Region of the bucket.
        region: Option<String> = Key::text().example("\"eu-central-1\"").variable("S3_REGION"),
        /// Storage class of new archives and indexes, by the store's name; the store's default without it.
        storage_class: Option<String> = Key::text().example("\"STANDARD_IA\""),
        /// Encryption at rest by the store: `AES256` or `aws:kms`.
        sse: Option<String> = Key::text().example("\"aws:kms\""),
        /// Key of `aws:kms`; the store's default without it.
        sse_kms_key: Option<String> = Key::text().example("\"alias/backups\""),
        /// Bytes per second at most to and from the repository; no limit without it.
        rate_limit: Option<Rate> = Key::rate().example("\"20MiB/s\""),
        /// What must be mounted for a directory to be the repository: `true` for any disk but that of `/`, or a mount point.
        require_mountpoint: Option<Mount> = Key::flag_or_path().default("false").example("\"/mnt/nas\""),
        /// Whether the bucket stands in the path; it does with an `endpoint`, and does not towards AWS.
        path_style: Option<bool> = Key::flag().without_default().example("false"),
        /// Size of a part of an upload; five wait in memory, and the largest of several repositories holds for all.
        part_size: Option<usize> = Key::size(PARTS.0, PARTS.1).default("\"8MiB\"").example("\"16MiB\"").at_start(),
        /// Parts that the store takes for one object.
        max_parts: Option<u32> = Key::integer(100, 10_000).default("10000").example("1000"),
        /// Which checksum goes with each body: `auto` is crc32 towards AWS and MD5 elsewhere.
        checksums: Option<ChecksumMode> = Key::word(ChecksumMode::WORDS).default("\"auto\"").example("\"sha256\""),
        /// Certificates in PEM form: the only authorities of this store.
        ca_file: Option<PathBuf> = Key::path().example("\"/etc/wirevault/store-ca.pem\""),
        /// Static key of the store; the usual chain of credentials without it.
        access_key: Option<String> = Key::text().example("\"AKIAEXAMPLE\"").variable("S3_ACCESS_KEY").secret(),
        /// The secret that belongs to `access_key`.
        secret_key: Option<String> = Key::text().example("\"a secret\"").variable("S3_SECRET_KEY").secret(),
    }
}

section! {
    /// The keys of sources of every kind.
    pub struct SourceKeys {
        /// What it is; the other keys go by it.
        kind: Chosen = Key::word(KINDS).required().example("\"files\""),
        /// Bytes per second at most that are read from it; no limit without it.
        rate_limit: Option<Rate> = Key::rate().example("\"50MiB/s\""),
        /// Makes its failure a warning: a snapshot is complete without it.
        optional: bool = Key::flag(),
    }
}

section! {
    /// Rules of what `prune` keeps: a snapshot stays if any of them keeps it, and with none everything stays.
    pub struct KeepKeys {
        /// Keep the last so many snapshots.
        last: u32 = Key::integer(0, MANY).default("0").example("3"),
        /// Keep the last snapshot of each of the last so many hours that have one.
        hourly: u32 = Key::integer(0, MANY).default("0").example("24"),
        /// Keep the last snapshot of each of the last so many days that have one.
        daily: u32 = Key::integer(0, MANY).default("0").example("7"),
        /// Keep the last snapshot of each of the last so many weeks that have one.
        weekly: u32 = Key::integer(0, MANY).default("0").example("4"),
        /// Keep the last snapshot of each of the last so many months that have one.
        monthly: u32 = Key::integer(0, MANY).default("0").example("12"),
        /// Keep the last snapshot of each of the last so many years that have one.
        yearly: u32 = Key::integer(0, MANY).default("0").example("5"),
        /// Keep all snapshots of the last so many days.
        within_days: u32 = Key::integer(0, MANY).default("0").example("2").variable("BACKUP_RETENTION_DAYS"),
        /// Always keep at least so many snapshots, whatever the rules say.
        minimum: u32 = Key::integer(0, MANY).default("0").example("3"),
        /// Storage class of new archives in the repository, in place of the repository's own.
        storage_class: Option<String> = Key::text().example("\"STANDARD_IA\""),
    }
}

section! {
    /// The addresses of a dead man's switch, one by one.
    pub struct PingKeys {
        /// Called when a run begins.
        start: Option<String> = Key::url().example("\"https://hc.example/uuid/start\"").secret(),
        /// Called when it succeeded.
        success: Option<String> = Key::url().example("\"https://hc.example/uuid\"").variable("BACKUP_PING_URL").secret(),
        /// Called when it failed, with the error as body.
        fail: Option<String> = Key::url().example("\"https://hc.example/uuid/fail\"").secret(),
    }
}

section! {
    /// What is backed up together, and when ([the scheduler](operations.md#the-scheduler)).
    pub struct JobKeys {
        /// Names of its sources, in the order in which they are read.
        sources: Vec<String> = Key::texts().without_default().required().example("[\"etc\", \"app\"]"),
        /// When `run` starts it: five cron fields, or `@every 6h`; only by hand without it.
        schedule: Option<String> = Key::text().example("\"0 2 * * *\"").variable("BACKUP_SCHEDULE"),
        /// Time zone of its schedule; the one of all jobs without it.
        timezone: Option<String> = Key::text().example("\"UTC\""),
        /// Its runs begin later by a part of this, which differs between hosts.
        jitter: Duration = Key::duration().default("\"0s\"").example("\"15min\""),
        /// Runs it after a change of its files, once they have been quiet for so long; needs a source of kind `files` or `sqlite`.
        on_change: Option<Duration> = Key::duration().example("\"30s\""),
        /// Ends a scheduled run that takes longer.
        timeout: Option<Duration> = Key::duration().example("\"6h\""),
        /// Ends a scheduled run during which no byte moves for so long.
        idle_timeout: Option<Duration> = Key::duration().example("\"10min\""),
        /// What `prune` keeps of it, in every repository; everything without it.
        keep: Option<KeepKeys> = Key::table(KeepKeys::KEYS),
        /// What `prune` keeps of it in one repository, by the repository's name, in place of `keep`.
        keep_in: BTreeMap<String, KeepKeys> = Key::tables(KeepKeys::KEYS),
        /// Names of the repositories to which it goes; all without it.
        repositories: Vec<String> = Key::texts().example("[\"near\", \"far\"]"),
        /// How long a repository may hold the others back in all before it is left behind.
        max_stall: Option<Duration> = Key::duration().default("\"30s\"").example("\"5min\""),
        /// zstd level of its archives: 1 is fast, 19 is slow and small.
        compression_level: Option<i32> = Key::integer(1, 19).default("1").example("3"),
        /// Called before a run, which fails if it does: an address, or a program by its full path with its arguments.
        before: Option<Call> = Key::call().example("[\"/usr/local/bin/stop-writers\"]"),
        /// Called after a run that brought a snapshot.
        after: Option<Call> = Key::call().example("\"http://127.0.0.1:8080/backed-up\""),
        /// Called after a run that brought none.
        on_failure: Option<Call> = Key::call().example("[\"/usr/local/bin/page\", \"--urgent\"]"),
        /// A dead man's switch that hears of its runs: a URL, behind which `/start` and `/fail` stand, or each of the three.
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
        /// Time zone of its schedule; the one of all jobs without it.
        timezone: Option<String> = Key::text().example("\"UTC\""),
        /// It begins later by a part of this, which differs between hosts.
        jitter: Duration = Key::duration().default("\"0s\"").example("\"15min\""),
        /// How deep it looks: at stored bytes, at what they hold, or at what a restore makes of them.
        level: String = Key::word(LEVELS).default("\"content\"").example("\"restored\""),
        /// Snapshots, as `verify` takes them; the latest of each job without it.
        snapshots: Vec<String> = Key::texts().example("[\"latest:full\"]"),
        /// Servers for scratch places of level `restored`, one of each engine.
        into: Vec<String> =
            Key::one_or_more().default("[]").example("[\"postgres://drill@scratch\", \"redis://scratch\"]"),
        /// In which repository; in every one without it.
        repository: Option<String> = Key::text().example("\"far\""),
        /// Ends a drill that takes longer.
        timeout: Option<Duration> = Key::duration().example("\"12h\""),
    }
}

section! {
    /// Who is told of failures ([hooks and notifications](operations.md#around-a-run)).
    pub struct NotifyKeys {
        /// What it speaks: `slack` also for Mattermost and Rocket.Chat, `webhook` for a JSON document.
        kind: NotifyKind = Key::word(NotifyKind::WORDS).required().example("\"slack\""),
        /// Address of the service; of mail the server, as `smtps://user@host` or `smtp://user@host`.
        url: Option<String> = Key::url().example("\"https://hooks.example/T0/B0\"").secret(),
        /// A file whose first line is the URL, in place of `url`.
        url_file: Option<PathBuf> = Key::path().example("\"/etc/wirevault/mail-url\""),
        /// Sent as bearer token; of mail, the user's password.
        token: Option<String> = Key::text().example("\"a secret\"").secret(),
        /// A file whose first line is the token.
        token_file: Option<PathBuf> = Key::path().example("\"/etc/wirevault/mail-password\""),
        /// Sender of mail.
        from: Option<String> = Key::text().example("\"Backups <backup@example.org>\""),
        /// Receivers of mail.
        to: Vec<String> = Key::texts().urls().example("[\"ops@example.org\"]"),
        /// Jobs and drills that notifications are sent for; all without it.
        jobs: Vec<String> = Key::texts().example("[\"full\"]"),
        /// Events that are sent.
        on: Vec<Occasion> = Key::words(Occasion::WORDS)
            .default("[\"failure\", \"recovery\", \"missed\"]")
            .example("[\"failure\", \"recovery\"]"),
    }
}

section! {
    /// Old plain files that go, or what nobody uses on a Docker engine ([old files](operations.md#old-files-of-your-own)).
    pub struct CleanupKeys {
        /// The directory of plain files, at least two levels deep.
        path: Option<PathBuf> = Key::path().example("\"/var/log/app\""),
        /// Which files below it, as patterns.
        glob: Option<Vec<String>> = Key::one_or_more().example("[\"*.log\", \"*.log.gz\"]"),
        /// How old a file must be to go.
        keep: Option<Duration> = Key::duration_from(3600).example("\"30d\""),
        /// How long nobody must have used a thing of a Docker engine for it to go; in place of `path`, `glob` and `keep`.
        unused_for: Option<Duration> = Key::duration_from(3600).example("\"30d\""),
        /// The engine's socket, or `tcp://host:port`; without it that of `DOCKER_HOST`, else `/var/run/docker.sock`.
        socket: Option<Address> = Key::text().urls().example("\"/var/run/docker.sock\"").variable("DOCKER_HOST"),
        /// Tagged images that no registry knows, as patterns; untagged and pulled ones need no name.
        images: Vec<String> = Key::texts().example("[\"shop-*:*\"]"),
        /// Stopped containers, as patterns.
        containers: Vec<String> = Key::texts().example("[\"shop-*-run-*\"]"),
        /// Volumes that no container has, as patterns.
        volumes: Vec<String> = Key::texts().example("[\"shop_cache-*\"]"),
        /// What stays.
        exclude: Vec<String> = Key::texts().example("[\"busybox:*\"]"),
        /// Lets `run` remove; otherwise it only says what it would remove.
        delete: bool = Key::flag(),
        /// When `run` applies it: five cron fields, or `@every 6h`.
        schedule: String = Key::text().default("\"30 4 * * *\"").example("\"0 4 * * 0\""),
        /// Time zone of its schedule; the one of all jobs without it.
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

words! { Occasion {
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
