//! What a verb is asked to do: plain values, which the command line fills from flags and the scheduler from the configuration.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::base::error::{Error, Result};
use crate::base::moment::parse_moment;
pub use crate::engines::EngineFlags;
use crate::engines::docker::api::Address;
pub use crate::engines::docker::flags::RestoreDocker;
pub use crate::engines::postgres::flags::{BackupFlags as BackupDatabase, Exclude, RestoreDatabase};
pub use crate::engines::postgres::physical::flags::{RestoreBase, StartServer, WantedTimeline};
pub use crate::engines::postgres::physical::recovery::TargetAction;
pub use crate::engines::postgres::wal::Lsn;
pub use crate::engines::redis::flags::RestoreRedis;
pub use crate::repository::Level;
use crate::storage::ThawSpeed;

/// Connections or readers per source, where nothing else is said.
pub const DEFAULT_PARALLEL: u8 = 4;

/// Where `run` listens if nothing else is said.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9188";

/// Who starts containers in a recovery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContainersHow {
    /// This program, through the Docker engine.
    #[default]
    Engine,
    /// You: wirevault prints the command and continues when the servers respond.
    Manual,
}

/// What follows once objects were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThawMode {
    /// Ask, wait until they can be read, and go on.
    Wait,
    /// Ask, say how long it takes, and end.
    Ask,
}

/// Options of `init`.
#[derive(Debug, Clone, Default)]
pub struct Init {
    /// Store data as they are, readable by whoever reads the store (the only way in this version).
    pub no_encryption: bool,
    /// Create nothing: take the repository that is there for the one that this host expects from now on.
    pub adopt: bool,
}

/// Options of `check`.
#[derive(Debug, Clone, Default)]
pub struct Check {
    /// Jobs or source URLs [default: all jobs of the configuration].
    pub targets: Vec<String>,
}

/// Options of `backup`.
#[derive(Debug, Clone, Default)]
pub struct Backup {
    /// Jobs of the configuration, or source URLs [default: all jobs].
    pub targets: Vec<String>,
    /// Print the plan and do nothing.
    pub dry_run: bool,
    /// Connections or readers per source [default: [`DEFAULT_PARALLEL`], or the source's].
    pub parallel: Option<u8>,
    /// Store no snapshot of a job whose content equals that of its last one.
    pub if_changed: bool,
    /// zstd level, 1 (fast) to 19 (small) [default: 1, or the job's].
    pub level: Option<i32>,
    /// Flags that only one engine knows.
    pub engines: EngineFlags,
    /// The scheduler runs it, and keeps the record of the run.
    pub scheduled: bool,
}

/// Options of `list`.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// Only snapshots of this job.
    pub job: Option<String>,
    /// Only snapshots of this host.
    pub host: Option<String>,
}

/// Options of `status`.
#[derive(Debug, Clone, Default)]
pub struct StatusOptions {
    /// Only this job.
    pub job: Option<String>,
    /// Only this host.
    pub host: Option<String>,
}

/// Options of `health`.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Where `run` listens; if it does not, or with a repository given, the repositories themselves are looked at
    /// [default: 127.0.0.1:9188].
    pub listen: Option<String>,
}

/// Options of `show`.
#[derive(Debug, Clone, Default)]
pub struct Show {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB.
    pub snapshot: String,
}

/// Options of `verify`.
#[derive(Debug, Clone, Default)]
pub struct Verify {
    /// Snapshots: ids, unique prefixes, latest, latest:JOB or latest:HOST/JOB.
    pub snapshots: Vec<String>,
    /// Every snapshot of the repository.
    pub all: bool,
    /// How deep to look; a source that cannot be looked at so deeply makes exit code 2.
    pub level: Level,
    /// With level restored: the PostgreSQL server on which scratch databases wv_verify_… are made and dropped, or an empty
    /// Redis server (redis://…), which is emptied afterwards; repeat for both. Other kinds go into the spool directory.
    pub into: Vec<String>,
    /// Do not store what was proven in the repository.
    pub no_evidence: bool,
    /// What becomes of objects in cold classes.
    pub thaw: Thaw,
    /// Flags that only one engine knows.
    pub engines: EngineFlags,
    /// Name of the drill on whose behalf; it stands in the evidence.
    pub drill: Option<String>,
}

/// Options of `recover`.
#[derive(Debug, Clone, Default)]
pub struct Recover {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB.
    pub snapshot: String,
    /// Only these sources [default: all].
    pub only: Vec<String>,
    /// The moment that they are brought to [default: what the snapshots hold].
    pub at: Option<At>,
    /// Where the data directory of a server goes, by the name of its source.
    pub data_directory: Vec<(String, String)>,
    /// Where a tablespace of a base backup goes, by its old directory or its OID.
    pub tablespace: Vec<(String, String)>,
    /// Look at everything, print the plan and change nothing.
    pub dry_run: bool,
    /// Replace what is there: files, volumes, databases.
    pub clean: bool,
    /// Who makes and starts containers.
    pub containers: ContainersHow,
    /// Sources that no configuration here names go where the snapshot says they were; its sockets and health URLs are used.
    pub accept_places: bool,
    /// Socket of the Docker engine, or tcp://host:port [default: the configuration's, or that of DOCKER_HOST].
    pub docker_socket: Option<Address>,
    /// A file of NAME=value lines that holds passwords; restored .env files are read anyway.
    pub env_file: Vec<PathBuf>,
    /// Where a database is reached on this host, if not under its old name.
    pub address: Vec<(String, String)>,
    /// A URL that answers when the application runs; those of the configuration are waited for anyway.
    pub health: Vec<String>,
    /// How long to wait for each server, container and URL.
    pub wait: Duration,
    /// Where an interrupted recovery is remembered [default: wirevault-recover-SNAPSHOT.json].
    pub state: Option<PathBuf>,
    /// What becomes of objects in cold classes.
    pub thaw: Thaw,
}

/// A moment to which sources are brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The newest that is stored.
    Latest,
    /// This one, to the microsecond.
    Moment(Timestamp),
}

impl FromStr for At {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "latest" => Ok(Self::Latest),
            text => parse_moment(text).map(Self::Moment),
        }
    }
}

/// Options of `restore`.
#[derive(Debug, Clone, Default)]
pub struct Restore {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB.
    pub snapshot: String,
    /// Only these sources [default: all].
    pub source: Vec<String>,
    /// Bring sources to this moment: `latest` is the newest snapshot before it, and the log of a source is replayed up to it
    /// [default: what the snapshot holds].
    pub at: Option<At>,
    /// Database or server URL, file, or directory that takes every file tree and SQLite database [default: where the
    /// configuration has the source].
    pub into: Option<String>,
    /// Sources that no configuration here names go where the snapshot says they were, with no password of this host.
    pub into_original: bool,
    /// Replace what is there.
    pub clean: bool,
    /// Remove files that the backup does not know.
    pub delete: bool,
    /// Only files that match these globs; bytes that are no UTF-8 as \xHH.
    pub path: Vec<String>,
    /// Take files for unchanged by size and time [default: their content is compared with the backup's].
    pub trust_times: bool,
    /// Make device nodes too (only as root).
    pub devices: bool,
    /// Connections or writers per source.
    pub parallel: u8,
    /// Check everything, print the plan and write nothing.
    pub dry_run: bool,
    /// Restore nothing anew: finish the restore of files that was interrupted in this place.
    pub resume: bool,
    /// Restore nothing: put back what the last restore in this place replaced (databases, files, volumes), or what an
    /// interrupted one did.
    pub undo: bool,
    /// Flags that only one engine knows: which of its things come back, and how.
    pub engines: EngineFlags,
    /// What becomes of objects in cold classes.
    pub thaw: Thaw,
}

/// Options for objects in cold storage classes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thaw {
    /// Ask the store to make objects of GLACIER, DEEP_ARCHIVE and the like readable; then wait until they are, or end.
    pub thaw: Option<ThawMode>,
    /// How fast: the faster, the dearer.
    pub thaw_speed: ThawSpeed,
    /// How many days the readable copies stay.
    pub thaw_days: u32,
}

/// Options of `cat`.
#[derive(Debug, Clone, Default)]
pub struct Cat {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB.
    pub snapshot: String,
    /// Source of the snapshot.
    pub source: String,
    /// Path of an entry, or name of a stream.
    pub path: String,
    /// What becomes of objects in cold classes.
    pub thaw: Thaw,
}

/// Options of `log push`.
#[derive(Debug, Clone)]
pub struct LogPush {
    /// The file.
    pub path: PathBuf,
    /// The system that it must be of.
    pub system_id: Option<u64>,
    /// zstd level, 1 (fast) to 19 (small).
    pub level: i32,
}

/// Options of `log receive`.
#[derive(Debug, Clone)]
pub struct LogReceive {
    /// The URL of a server, or the name of a configured source.
    pub source: String,
    /// The name of the source, for a URL of a Redis or Valkey server.
    pub name: Option<String>,
    /// The replication slot [default: one that is named after the repository].
    pub slot: Option<String>,
    /// How often what is new of an open segment is stored.
    pub flush: Duration,
    /// zstd level, 1 (fast) to 19 (small).
    pub level: i32,
    /// What several receivers of one process share: one stores at a time.
    pub turn: Option<Arc<Semaphore>>,
    /// What runs of one process share: a snapshot that a receiver begins with is taken beside none of them.
    pub snapshots: Option<Arc<Semaphore>>,
}

/// Options of `log fetch`.
#[derive(Debug, Clone)]
pub struct LogFetch {
    /// Name of the file.
    pub file: String,
    /// Where it is written.
    pub path: PathBuf,
    /// The system whose log is meant [default: that of the data directory, or the only one that there is].
    pub system_id: Option<u64>,
    /// Where the log ends: what is behind it is not there, or zeros.
    pub until: Option<Lsn>,
}

/// Options of `log show` and `log verify`.
#[derive(Debug, Clone, Default)]
pub struct LogShow {
    /// Only this system.
    pub system_id: Option<u64>,
    /// Read every stored file.
    pub read: bool,
}

/// Options of `pin`.
#[derive(Debug, Clone, Default)]
pub struct Pin {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB.
    pub snapshot: String,
    /// Why; `prune` and `list` show it.
    pub reason: String,
}

/// Options of `unpin`.
#[derive(Debug, Clone, Default)]
pub struct Unpin {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB.
    pub snapshot: String,
}

/// Options of `copy`.
#[derive(Debug, Clone, Default)]
pub struct Copy {
    /// Snapshots: ids, unique prefixes, latest, latest:JOB or latest:HOST/JOB [default: all that the other repository lacks
    /// and its keep rules would keep].
    pub snapshots: Vec<String>,
    /// The repository that gets them: a URL or a configured name [default: every repository of a job, from the others].
    pub into: Option<String>,
    /// Print what would be copied.
    pub dry_run: bool,
    /// What becomes of objects in cold classes.
    pub thaw: Thaw,
}

/// Options of `cleanup`.
#[derive(Debug, Clone, Default)]
pub struct Cleanup {
    /// Rules [default: all].
    pub rules: Vec<String>,
    /// Remove what the rules say.
    pub delete: bool,
}

/// Options of `run`.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Print when each job runs next, and end.
    pub dry_run: bool,
    /// Address of the status page, /metrics and /health; off for none. Beyond the loopback it needs a status_token
    /// [default: 127.0.0.1:9188].
    pub listen: Option<String>,
    /// Run the verification drills only: no backups, no pruning.
    pub drills_only: bool,
}

/// Options of `prune`.
#[derive(Debug, Clone, Default)]
pub struct Prune {
    /// Print each snapshot with the rule that keeps or expires it, and do nothing.
    pub dry_run: bool,
    /// Only this job.
    pub job: Option<String>,
    /// Keep the newest N.
    pub keep_last: Option<u32>,
    /// Keep the newest of each of N hours.
    pub keep_hourly: Option<u32>,
    /// Keep the newest of each of N days.
    pub keep_daily: Option<u32>,
    /// Keep the newest of each of N weeks.
    pub keep_weekly: Option<u32>,
    /// Keep the newest of each of N months.
    pub keep_monthly: Option<u32>,
    /// Keep the newest of each of N years.
    pub keep_yearly: Option<u32>,
    /// Keep all of the last N days.
    pub keep_within: Option<u32>,
    /// Do not sweep data without a snapshot.
    pub no_sweep: bool,
}
