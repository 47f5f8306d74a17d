//! The flags: each with its name, default and help in one place.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::base::error::Error;
use crate::base::units;
use crate::operations::options::{self, At, ContainersHow, Level, Lsn, TargetAction, ThawMode, WantedTimeline};
use crate::storage::ThawSpeed;

/// Backs up databases and files over their own protocols, verifies the backups and restores them.
#[derive(Debug, Parser)]
#[command(
    name = "wirevault",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "\
Examples:
  wirevault backup postgres://app@db/app sqlite:data/app.db files:/etc/app --to s3://bucket/app
  wirevault list --from s3://bucket/app
  wirevault verify latest --from s3://bucket/app
  wirevault restore latest --from s3://bucket/app --source app --into postgres://app@db/app_copy

Exit codes: 0 done, 1 failed, 2 finished but some sources failed."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Flags of every verb.
    #[command(flatten)]
    pub global: Global,
}

/// Flags that every verb takes, before or after it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file [default: wirevault.toml if it exists, otherwise environment variables]
    #[arg(long, global = true, value_name = "FILE", env = "WIREVAULT_CONFIG")]
    pub config: Option<PathBuf>,

    /// Repository: s3://bucket/prefix, file:///path, or a name from the configuration
    #[arg(long, global = true, value_name = "URL", visible_aliases = ["to", "from"], env = "WIREVAULT_REPOSITORY")]
    pub repository: Option<String>,

    /// Endpoint of an S3-compatible store, for example http://127.0.0.1:9000
    #[arg(long, global = true, value_name = "URL")]
    pub endpoint: Option<String>,

    /// Host name recorded in snapshots, for containers whose name changes at each start; a filter for `list` and
    /// `status` [env: WIREVAULT_HOST] [default: `host` of the configuration, or the system's host name]
    #[arg(long, global = true, value_name = "NAME")]
    pub host: Option<String>,

    /// Limit the transfer rate to and from each repository, for example 20MiB/s [default: its rate_limit, or unlimited]
    #[arg(long, global = true, value_name = "RATE", value_parser = rate)]
    pub limit_rate: Option<u64>,

    /// Memory limit of this process, at least 96MiB; a lower limit of the container takes precedence [default: 256MiB]
    #[arg(long, global = true, value_name = "SIZE", value_parser = size)]
    pub memory_limit: Option<u64>,

    /// Directory for temporary copies, which few sources need [default: the system's temporary directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,

    /// Print one JSON document to standard output
    #[arg(long, global = true)]
    pub json: bool,

    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Log more to standard error; repeat for more (RUST_LOG overrides)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a repository and test its store
    Init(Init),
    /// Check configuration, sources, repository access and memory; changes nothing (a test object in the store is
    /// written and removed)
    Check(Check),
    /// Print the effective configuration with secrets hidden, an example file, a JSON Schema, or the reference page
    Config(ConfigFlags),
    /// Back up jobs, or sources given as URLs
    Backup(Backup),
    /// List snapshots
    List(List),
    /// Show a snapshot: its sources, sizes and times
    Show(Show),
    /// Show the age and verification of each source's newest good snapshot; exit code 1 if something is wrong
    Status(StatusOptions),
    /// Print the state in one line, for container health checks; exit code 0 or 1
    Health(Health),
    /// Read stored data back and check its digests
    Verify(Verify),
    /// Restore sources from a snapshot
    Restore(Box<Restore>),
    /// Restore a whole server onto this host: files, volumes, containers, databases
    Recover(Box<Recover>),
    /// Write one stored file or stream to standard output
    Cat(Cat),
    /// Archive the write-ahead log of PostgreSQL servers (over the network or by archive_command), and the command stream
    /// of Redis and Valkey servers; restore_command, gaps
    Log(Log),
    /// Remove snapshots that no keep rule keeps, and data that no snapshot needs
    Prune(Prune),
    /// Copy missing snapshots from one repository to another
    Copy(Copy),
    /// Keep a snapshot regardless of the keep rules
    Pin(Pin),
    /// Let the keep rules apply to a snapshot again
    Unpin(Unpin),
    /// Remove old local files and unused Docker objects by the [cleanup.NAME] rules; only lists them without --delete
    Cleanup(Cleanup),
    /// Run the scheduler: jobs, pruning and drills at their times, until a signal stops it
    Run(Run),
    /// Print shell completions
    Completions(Completions),
    /// Print the manual page, as input for man
    Man(Man),
}

/// Flags of `init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault init --no-encryption --to s3://bucket/app\n  wirevault init --no-encryption --to file:///var/backups/app"
)]
pub struct Init {
    /// Store data unencrypted: anyone who can read the store can read the data (required in this version)
    #[arg(long)]
    pub no_encryption: bool,

    /// Create nothing: accept the existing repository as the one this host expects from now on
    #[arg(long, conflicts_with = "no_encryption")]
    pub adopt: bool,
}

/// Flags of `check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wirevault check\n  wirevault check postgres://app@db/app --to s3://bucket/app")]
pub struct Check {
    /// Jobs or source URLs [default: all jobs of the configuration]
    #[arg(value_name = "JOB or URL")]
    pub targets: Vec<String>,
}

/// Flags of `config`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault config                                   # each key with its line, or its default\n  wirevault config --config /etc/wirevault/wirevault.toml --json\n  wirevault config --example > wirevault.toml\n  wirevault config --schema > wirevault.schema.json  # and in the file: #:schema ./wirevault.schema.json"
)]
pub struct ConfigFlags {
    /// Print a file with every key, its help, type and default, all commented out
    #[arg(long, group = "page")]
    pub example: bool,

    /// Print a JSON Schema (draft 2020-12) of the file, for editors
    #[arg(long, group = "page")]
    pub schema: bool,

    /// Print the reference page of all keys and variables, in Markdown
    #[arg(long, group = "page")]
    pub reference: bool,
}

/// Flags of `backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault backup postgres://app@db/app files:/etc/app --to s3://bucket/app\n  wirevault backup full\n  wirevault backup --dry-run"
)]
pub struct Backup {
    /// Jobs of the configuration, or source URLs [default: all jobs]
    #[arg(value_name = "JOB or URL")]
    pub targets: Vec<String>,

    /// Print the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Connections or readers per source [default: 4, or the source's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub parallel: Option<u8>,

    /// Store no new snapshot of a job whose content has not changed since its last one
    #[arg(long)]
    pub if_changed: bool,

    /// zstd level, 1 (fast) to 19 (small) [default: 1, or the job's]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=19))]
    pub level: Option<i32>,

    /// PostgreSQL: abort when another session has waited this long for a lock of the backup, for example 30s [default:
    /// never]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_block: Option<std::time::Duration>,

    /// PostgreSQL: omit role passwords, for a role that may not read them
    #[arg(long)]
    pub no_role_passwords: bool,

    /// What of PostgreSQL databases is left out.
    #[command(flatten)]
    pub exclude: Exclude,
}

/// Flags of `backup` for what is left out of PostgreSQL databases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "PostgreSQL exclusions (psql patterns: schema.table, *, ?, \"Name\")")]
pub struct Exclude {
    /// Exclude tables, views and sequences, with their partitions, children and dependents
    #[arg(long, value_name = "PATTERN")]
    pub exclude_table: Vec<String>,

    /// Exclude schemas and everything in them
    #[arg(long, value_name = "PATTERN")]
    pub exclude_schema: Vec<String>,

    /// Exclude rows of tables (with partitions) and values of sequences, but not their definitions
    #[arg(long, value_name = "PATTERN")]
    pub exclude_table_data: Vec<String>,

    /// Exclude extensions
    #[arg(long, value_name = "PATTERN")]
    pub exclude_extension: Vec<String>,

    /// Exclude large objects
    #[arg(long)]
    pub exclude_large_objects: bool,
}

/// Flags of `list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wirevault list --from s3://bucket/app\n  wirevault list --job full --json")]
pub struct List {
    /// Only snapshots of this job
    #[arg(long, value_name = "JOB")]
    pub job: Option<String>,

    /// Only snapshots of this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
}

/// Flags of `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault status\n  wirevault status --from s3://bucket/app --json\n  wirevault status --host web1 --job full"
)]
pub struct StatusOptions {
    /// Only this job
    #[arg(long, value_name = "JOB")]
    pub job: Option<String>,

    /// Only this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
}

/// Flags of `health`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault health\n  HEALTHCHECK --interval=1m CMD [\"/wirevault\", \"health\"]\n  wirevault health --from s3://bucket/app"
)]
pub struct Health {
    /// Address of the scheduler (`run`); without an answer from it, or with --repository, the repositories are checked
    /// directly [default: 127.0.0.1:9188]
    #[arg(long, value_name = "ADDRESS:PORT", env = "WIREVAULT_LISTEN")]
    pub listen: Option<String>,
}

/// Flags of `show`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault show latest --from s3://bucket/app\n  wirevault show latest:full --json"
)]
pub struct Show {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,
}

/// Flags of `verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault verify latest --from s3://bucket/app\n  wirevault verify --all --level stored\n  wirevault verify latest --level restored --into postgres://postgres@scratch\n  wirevault verify latest --level restored --start"
)]
pub struct Verify {
    /// Snapshots: ids, unique prefixes, latest, latest:JOB or latest:HOST/JOB
    #[arg(value_name = "SNAPSHOT", required_unless_present = "all")]
    pub snapshots: Vec<String>,

    /// Verify every snapshot in the repository
    #[arg(long, conflicts_with = "snapshots")]
    pub all: bool,

    /// How thoroughly to verify; exit code 2 if a source cannot be verified to this level
    #[arg(long, value_enum, default_value_t = Level::Content)]
    pub level: Level,

    /// For level restored: a PostgreSQL server for scratch databases (wv_verify_…, dropped afterwards), or an empty
    /// Redis server (redis://…, emptied afterwards); repeat for both. Other kinds are restored into the spool directory
    #[arg(long, value_name = "URL")]
    pub into: Vec<String>,

    /// A scratch server on restored base backups.
    #[command(flatten)]
    pub server: StartServer,

    /// Do not record the result in the repository
    #[arg(long)]
    pub no_evidence: bool,

    /// What becomes of objects in cold classes.
    #[command(flatten)]
    pub thaw: Thaw,
}

/// Flags of `verify` for base backups of PostgreSQL.
#[derive(Debug, Args)]
pub struct StartServer {
    /// PostgreSQL base backups, with level restored: start a server of the same major version on each, with its log
    #[arg(long)]
    pub start: bool,

    /// Where the server's programs are [default: the usual places, then PATH]
    #[arg(long, value_name = "DIRECTORY", requires = "start")]
    pub bin_dir: Option<PathBuf>,

    /// User that the server runs as, if you are root [default: postgres]
    #[arg(long, value_name = "USER", requires = "start")]
    pub run_as: Option<String>,
}

/// Flags of `recover`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  wirevault recover latest --from s3://bucket/app --accept-places --dry-run\n  wirevault recover latest --from s3://bucket/app --accept-places\n  wirevault recover latest --only config --only app\n  wirevault recover latest --containers manual --address app=postgres://app@10.0.0.7/app\n  wirevault recover latest --at '2026-11-27 10:00:05+01' --data-directory db=/var/lib/postgresql/18/main"
)]
pub struct Recover {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB
    #[arg(value_name = "SNAPSHOT", default_value = "latest")]
    pub snapshot: String,

    /// Recover only these sources [default: all]
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,

    /// Bring all sources to this moment, with its time zone ('2026-11-27 10:00:05+01', 2026-11-27T09:00:05Z), or to the
    /// latest that is stored: base backups of PostgreSQL by their log, all others as of their newest snapshot before it
    #[arg(long, value_name = "TIME", value_parser = at)]
    pub at: Option<At>,

    /// Data directory that a base backup of PostgreSQL goes to [default: data_directory of the source]
    #[arg(long, value_name = "SOURCE=DIRECTORY", value_parser = pair)]
    pub data_directory: Vec<(String, String)>,

    /// Directory for a tablespace of a base backup, by its old directory or its OID
    #[arg(long, value_name = "OLD=DIRECTORY", value_parser = pair)]
    pub tablespace: Vec<(String, String)>,

    /// Check everything, print the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Replace existing files, volumes and databases
    #[arg(long)]
    pub clean: bool,

    /// Who creates and starts the containers
    #[arg(long, value_enum, default_value_t = ContainersHow::Engine)]
    pub containers: ContainersHow,

    /// Restore sources that are not configured on this host to the places recorded in the snapshot, and use its sockets
    /// and health URLs
    #[arg(long)]
    pub accept_places: bool,

    /// Docker socket, or tcp://host:port [default: from the configuration, or DOCKER_HOST]
    #[arg(long, value_name = "PATH")]
    pub docker_socket: Option<crate::engines::docker::api::Address>,

    /// File of NAME=value lines with passwords; restored .env files are read in any case
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,

    /// Address of a database on this host, if it has changed
    #[arg(long, value_name = "SOURCE=URL", value_parser = pair)]
    pub address: Vec<(String, String)>,

    /// URL that responds when the application is up, in addition to those of the configuration
    #[arg(long, value_name = "URL")]
    pub health: Vec<String>,

    /// How long to wait for each server, container and URL
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub wait: std::time::Duration,

    /// File that records the progress of the recovery [default: wirevault-recover-SNAPSHOT.json]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// What becomes of objects in cold classes.
    #[command(flatten)]
    pub thaw: Thaw,
}

/// Takes names as they are, UTF-8 or not.
fn named() -> impl clap::builder::TypedValueParser<Value = String> {
    use clap::builder::TypedValueParser;
    clap::builder::OsStringValueParser::new().map(|name| crate::engines::files::spelling::given(&name))
}

/// Flags of `restore`.
#[derive(Debug, Clone, Default, Args)]
#[command(
    after_help = "Examples:\n  wirevault restore latest --source app --into postgres://app@db/app_copy --from s3://bucket/app\n  wirevault restore latest --into /tmp/look --from s3://bucket/app\n  wirevault restore latest --source etc --path 'nginx/**' --dry-run\n  wirevault restore latest --source app --table users\n  wirevault restore latest --source redis --into redis://cache2 --key 'session:*' --conflict skip\n  wirevault restore latest --source db --into /srv/restored --at '2026-11-27 10:00:05+01'"
)]
pub struct Restore {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,

    /// Restore only these sources [default: all]
    #[arg(long, value_name = "NAME")]
    pub source: Vec<String>,

    /// Bring sources to this moment, with its time zone ('2026-11-27 10:00:05+01', 2026-11-27T09:00:05Z), or to the
    /// latest that is stored. Base backups of PostgreSQL: the server replays its log up to it; Redis and Valkey: the
    /// commands up to it, into a directory or an empty server. Without a log: as of the newest snapshot before it
    #[arg(long, value_name = "TIME", group = "target", value_parser = at)]
    pub at: Option<At>,

    /// Database or server URL, file, or a directory for all file trees and SQLite databases [default: the place of the
    /// source in the configuration]
    #[arg(long, value_name = "URL or PATH")]
    pub into: Option<String>,

    /// Restore sources that are not configured on this host to the places recorded in the snapshot, without using this
    /// host's passwords
    #[arg(long, conflicts_with = "into")]
    pub into_original: bool,

    /// Replace existing data
    #[arg(long)]
    pub clean: bool,

    /// Remove files that are not in the backup
    #[arg(long)]
    pub delete: bool,

    /// Restore only files that match these globs; write bytes that are not UTF-8 as \xHH
    #[arg(long, value_name = "GLOB", value_parser = named())]
    pub path: Vec<String>,

    /// Treat files with the same size and time as unchanged [default: compare their content]
    #[arg(long)]
    pub trust_times: bool,

    /// Also create device nodes (only as root)
    #[arg(long)]
    pub devices: bool,

    /// Connections or writers per source
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub parallel: u8,

    /// Print the plan and anything that would stop the restore before its first write; write nothing (`verify` and the
    /// restore itself check the stored data)
    #[arg(long)]
    pub dry_run: bool,

    /// Finish an interrupted restore of files in this place instead of starting a new one
    #[arg(long, conflicts_with_all = ["undo", "clean", "delete", "path", "dry_run", "target"])]
    pub resume: bool,

    /// Put back what the last restore in this place replaced (databases, files, volumes), or undo an interrupted
    /// restore
    #[arg(long, conflicts_with_all = ["clean", "delete", "path", "dry_run", "target", "verify_rows", "create_roles", "data_only", "schema_only"])]
    pub undo: bool,

    /// What of a PostgreSQL database comes back, and how.
    #[command(flatten)]
    pub database: RestoreDatabase,

    /// Where a base backup of a PostgreSQL cluster goes.
    #[command(flatten)]
    pub base: RestoreBase,

    /// What of a Redis or Valkey server comes back, and how.
    #[command(flatten)]
    pub redis: RestoreRedis,

    /// Which Docker volumes come back, and what stands still meanwhile.
    #[command(flatten)]
    pub docker: RestoreDocker,

    /// What becomes of objects in cold classes.
    #[command(flatten)]
    pub thaw: Thaw,
}

/// Flags of `restore` for Docker volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Docker")]
pub struct RestoreDocker {
    /// Restore only these volumes
    #[arg(long, value_name = "NAME")]
    pub volume: Vec<String>,

    /// Containers (names or compose services) to stop during the restore [default: from the source's configuration]
    #[arg(long, value_name = "NAME")]
    pub quiesce: Vec<String>,
}

/// Flags of `restore` for base backups of PostgreSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "PostgreSQL base backups")]
pub struct RestoreBase {
    /// A tablespace, by its directory or OID, and the new or empty directory that it goes into
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    pub tablespace: Vec<(String, String)>,

    /// Replay the log to this position: up to the end of the first record that begins there or behind it
    #[arg(long, value_name = "X/Y", group = "target", value_parser = lsn)]
    pub lsn: Option<Lsn>,

    /// Replay the log to this restore point (pg_create_restore_point)
    #[arg(long, value_name = "NAME", group = "target")]
    pub name: Option<String>,

    /// Timeline to follow: a number, latest (the newest that goes through the base) or current (that of the base)
    /// [default: latest]
    #[arg(long, value_name = "TIMELINE", requires = "target", value_parser = timeline)]
    pub timeline: Option<WantedTimeline>,

    /// What the server does when it is there [default: promote]
    #[arg(long, value_enum, value_name = "ACTION", requires = "target")]
    pub target_action: Option<TargetAction>,
}

/// Flags of `restore` for Redis sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Redis and Valkey")]
pub struct RestoreRedis {
    /// Restore only keys that match these patterns (SCAN syntax: *, ?, [a-z])
    #[arg(long, value_name = "PATTERN")]
    pub key: Vec<String>,

    /// For a server that already holds keys: what to do with a key that both have
    #[arg(long, value_enum, value_name = "RULE", conflicts_with = "clean")]
    pub conflict: Option<crate::engines::redis::Conflict>,

    /// Also restore ACL users with their passwords; other users are not changed
    #[arg(long)]
    pub users: bool,

    /// Restore to this offset of the command stream that `log receive` stored, into a directory or an empty server
    #[arg(long, value_name = "OFFSET or ID:OFFSET", group = "target", conflicts_with_all = ["key", "users", "conflict"])]
    pub offset: Option<String>,

    /// With --at or --offset into a server: the address of this host that the server connects to [default: the one that
    /// reaches the server, any port]
    #[arg(long, value_name = "ADDRESS[:PORT]", requires = "target")]
    pub listen: Option<String>,
}

/// Flags of `restore` for PostgreSQL sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "PostgreSQL")]
pub struct RestoreDatabase {
    /// Restore only these tables (globs; schema.table or table); without --into next to the existing ones, in a schema
    /// of their own
    #[arg(long, value_name = "TABLE")]
    pub table: Vec<String>,

    /// Restore only these schemas
    #[arg(long, value_name = "SCHEMA", conflicts_with = "table")]
    pub schema: Vec<String>,

    /// With --table or --schema: also restore what they need and the target lacks (types, functions, sequences,
    /// parents, referenced tables, extensions)
    #[arg(long, conflicts_with = "data_only")]
    pub with_dependencies: bool,

    /// Restore only the definitions of these tables (globs), not their rows
    #[arg(long, value_name = "TABLE")]
    pub exclude_table_data: Vec<String>,

    /// Restore definitions only, no rows
    #[arg(long, conflicts_with = "data_only")]
    pub schema_only: bool,

    /// Restore rows and sequence values only, into existing tables
    #[arg(long)]
    pub data_only: bool,

    /// Do not restore ownership: the restoring role owns all objects
    #[arg(long)]
    pub no_owner: bool,

    /// Do not restore privileges (GRANT, REVOKE)
    #[arg(long)]
    pub no_privileges: bool,

    /// Map a role of the backup to a role of the target
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    pub role_map: Vec<(String, String)>,

    /// Map a tablespace of the backup to one of the target; an empty NEW is the database's default
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    pub tablespace_map: Vec<(String, String)>,

    /// Encoding of the new database, for example UTF8; text is converted [default: the source's]
    #[arg(long, value_name = "NAME")]
    pub encoding: Option<String>,

    /// Locale of the new database, for example C.UTF-8 [default: the source's]
    #[arg(long, value_name = "LOCALE")]
    pub locale: Option<String>,

    /// Locale provider of the new database: libc, icu (with --icu-locale) or builtin
    #[arg(long, value_name = "PROVIDER")]
    pub locale_provider: Option<String>,

    /// ICU locale, with --locale-provider icu
    #[arg(long, value_name = "LOCALE")]
    pub icu_locale: Option<String>,

    /// Create missing roles
    #[arg(long, conflicts_with = "no_owner")]
    pub create_roles: bool,

    /// Report a table that cannot be loaded, restore everything else, and exit with code 2
    #[arg(long)]
    pub keep_going: bool,

    /// search_path for definitions with unqualified names [default: empty, then that of the source's sessions]
    #[arg(long, value_name = "SCHEMA", value_delimiter = ',')]
    pub search_path: Vec<String>,

    /// Read every restored table back and compare its digest with the backup's
    #[arg(long)]
    pub verify_rows: bool,

    /// With --clean: drop the replaced database instead of keeping it under a dated name
    #[arg(long, requires = "clean")]
    pub drop_old: bool,
}

/// Flags for objects in cold storage classes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Archived objects")]
pub struct Thaw {
    /// Ask the store to make objects in GLACIER, DEEP_ARCHIVE and similar classes readable; then wait, or exit
    #[arg(
        long,
        value_enum,
        value_name = "AND",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "wait"
    )]
    pub thaw: Option<ThawMode>,

    /// Retrieval speed; faster costs more
    #[arg(long, value_enum, value_name = "SPEED", default_value_t = ThawSpeed::Standard)]
    pub thaw_speed: ThawSpeed,

    /// Days for which the store keeps the readable copies
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=365))]
    pub thaw_days: u32,
}

/// Flags of `cat`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault cat latest app pre-data.sql --from s3://bucket/app\n  wirevault cat latest app tables/00001.users > users.copy\n  wirevault cat latest etc nginx/nginx.conf"
)]
pub struct Cat {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,

    /// Source in the snapshot
    #[arg(value_name = "SOURCE")]
    pub source: String,

    /// Path of a file, or name of a stream
    #[arg(value_name = "PATH", value_parser = named())]
    pub path: String,

    /// What becomes of objects in cold classes.
    #[command(flatten)]
    pub thaw: Thaw,
}

/// Flags of `log`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault log receive postgres-physical://backup@db1:5432 --to s3://bucket/app\n  archive_command = 'wirevault log push %p --to s3://bucket/app'         # in postgresql.conf\n  restore_command = 'wirevault log fetch %f %p --from s3://bucket/app'\n  wirevault log show --from s3://bucket/app"
)]
pub struct Log {
    /// What to do.
    #[command(subcommand)]
    pub verb: LogVerb,
}

/// What `log` does.
#[derive(Debug, Subcommand)]
pub enum LogVerb {
    /// Follow a server's log over the network and store it as it comes, until a signal ends it
    Receive(LogReceive),
    /// Store a file that the server archives; exit code 0 once it is durable, 1 otherwise
    Push(LogPush),
    /// Bring a file back that the server asks for; exit code 1 if it is not there
    Fetch(LogFetch),
    /// Show what a recovery can go through: timelines, windows, gaps
    Show(LogShow),
    /// Read every stored file too; exit code 1 if one is damaged, 2 if there are gaps
    Verify(LogVerify),
}

/// Flags of `log receive`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault log receive postgres-physical://backup@db1:5432 --to s3://bucket/app\n  wirevault log receive main --to app                  # a source of wirevault.toml\n  wirevault log receive redis://cache --to s3://bucket/app\n\nThe role of PostgreSQL needs REPLICATION, and pg_hba.conf a line for it: host replication backup ADDRESS scram-sha-256. SIGTERM ends it when all that came is stored."
)]
pub struct LogReceive {
    /// URL of the server, or name of a configured source
    #[arg(value_name = "SOURCE")]
    pub source: String,

    /// Redis, Valkey: name of the source, for a URL [default: redis]; two servers in one repository need two
    #[arg(long = "source", value_name = "NAME")]
    pub name: Option<String>,

    /// PostgreSQL: replication slot; it is made where it is missing [default: wirevault_ and the beginning of the repository's ID]
    #[arg(long, value_name = "NAME")]
    pub slot: Option<String>,

    /// Store what is new so often, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub flush: u64,

    /// zstd level, 1 (fast) to 19 (small)
    #[arg(long, value_name = "LEVEL", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub level: i32,
}

/// Flags of `log push`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  archive_command = 'wirevault log push %p --to s3://bucket/app'         # in postgresql.conf\n  wirevault log push pg_wal/000000010000000000000003 --to file:///var/backups/app"
)]
pub struct LogPush {
    /// A segment, a history file or a backup label, as the server names it: %p
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    /// System identifier of the server; a segment of another one is refused [default: of the file, or of pg_control]
    #[arg(long, value_name = "NUMBER")]
    pub system_id: Option<u64>,

    /// zstd level, 1 (fast) to 19 (small)
    #[arg(long, value_name = "LEVEL", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub level: i32,
}

/// Flags of `log fetch`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  restore_command = 'wirevault log fetch %f %p --from s3://bucket/app'   # in postgresql.conf\n  wirevault log fetch 000000010000000000000003 /tmp/segment --from s3://bucket/app\n\nExit codes: 0 it is written, 1 the repository does not have it, 200 not known: the server stops instead of ending its recovery (a standby, which asks again by itself, gets 1)."
)]
pub struct LogFetch {
    /// Name of the file: %f
    #[arg(value_name = "NAME")]
    pub file: String,

    /// Where it is written: %p
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    /// System identifier of the server whose log is meant [default: of the data directory, or the only one there is]
    #[arg(long, value_name = "NUMBER")]
    pub system_id: Option<u64>,

    /// Where the log ends for this server: a segment behind it is not there, and the one that holds it has zeros behind
    /// it (`restore --at` writes it where no transaction is stored that ended later)
    #[arg(long, value_name = "X/Y", value_parser = lsn)]
    pub until: Option<Lsn>,
}

/// Flags of `log show`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault log show --from s3://bucket/app\n  wirevault log show --from s3://bucket/app --json"
)]
pub struct LogShow {
    /// Only the server of this system identifier
    #[arg(long, value_name = "NUMBER")]
    pub system_id: Option<u64>,
}

/// Flags of `log verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wirevault log verify --from s3://bucket/app")]
pub struct LogVerify {
    /// Only the server of this system identifier
    #[arg(long, value_name = "NUMBER")]
    pub system_id: Option<u64>,
}

/// Flags of `pin`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault pin latest:full --reason 'before the move to version 3'\n  wirevault pin 20260201T02 --from s3://bucket/app"
)]
pub struct Pin {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,

    /// Reason, shown by `prune` and `list`
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// Flags of `unpin`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wirevault unpin 20260201T02 --from s3://bucket/app")]
pub struct Unpin {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,
}

/// Flags of `copy`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault copy\n  wirevault copy --from local --into offsite\n  wirevault copy latest:full --from s3://bucket/app --into file:///mnt/disk/app"
)]
pub struct Copy {
    /// Snapshots: ids, unique prefixes, latest, latest:JOB or latest:HOST/JOB [default: all that the target lacks and
    /// its keep rules would keep]
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,

    /// Target repository: a URL or a configured name [default: each repository of a job, from the others]
    #[arg(long, value_name = "URL")]
    pub into: Option<String>,

    /// Print what would be copied
    #[arg(long)]
    pub dry_run: bool,

    /// What becomes of objects in cold classes.
    #[command(flatten)]
    pub thaw: Thaw,
}

/// Flags of `cleanup`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wirevault cleanup\n  wirevault cleanup logs --delete")]
pub struct Cleanup {
    /// Rules to apply [default: all]
    #[arg(value_name = "NAME")]
    pub rules: Vec<String>,

    /// Remove what the rules match
    #[arg(long)]
    pub delete: bool,
}

/// Flags of `completions`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault completions bash > /usr/share/bash-completion/completions/wirevault\n  wirevault completions zsh > /usr/share/zsh/site-functions/_wirevault\n  wirevault completions fish > ~/.config/fish/completions/wirevault.fish"
)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Flags of `man`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault man > /usr/share/man/man1/wirevault.1\n  wirevault man restore | man -l -"
)]
pub struct Man {
    /// Command [default: wirevault as a whole]
    #[arg(value_name = "VERB")]
    pub verb: Option<String>,
}

/// Flags of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault run\n  wirevault run --dry-run\n  wirevault run --json >> wirevault.log\n  wirevault run --listen off\n  wirevault run --drills-only"
)]
pub struct Run {
    /// Print when each job runs next, and exit
    #[arg(long)]
    pub dry_run: bool,

    /// Address of the status page, /metrics and /health, or off; any other than a loopback address needs a status_token
    /// [default: 127.0.0.1:9188]
    #[arg(long, value_name = "ADDRESS:PORT", env = "WIREVAULT_LISTEN")]
    pub listen: Option<String>,

    /// Run the verification drills only: no backups, no pruning
    #[arg(long)]
    pub drills_only: bool,
}

/// Flags of `prune`.
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Examples:\n  wirevault prune --dry-run\n  wirevault prune --keep-last 3 --keep-daily 30 --from s3://bucket/app"
)]
pub struct Prune {
    /// Print each snapshot with the rule that keeps or expires it, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Only this job
    #[arg(long, value_name = "JOB")]
    pub job: Option<String>,

    /// Keep the newest N snapshots
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,

    /// Keep the newest snapshot of each of the last N hours that have one
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<u32>,

    /// Keep the newest snapshot of each of the last N days that have one
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u32>,

    /// Keep the newest snapshot of each of the last N weeks that have one
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<u32>,

    /// Keep the newest snapshot of each of the last N months that have one
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<u32>,

    /// Keep the newest snapshot of each of the last N years that have one
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<u32>,

    /// Keep all snapshots of the last N days
    #[arg(long, value_name = "DAYS")]
    pub keep_within: Option<u32>,

    /// Do not delete data that no snapshot needs
    #[arg(long)]
    pub no_sweep: bool,
}

/// The options of a verb out of its flags, field by field; what no flag has is named behind them.
macro_rules! options_of {
    ($($name:ident { $($field:ident),* $(,)? } $(and $($other:ident),*)?;)*) => {$(
        impl From<$name> for options::$name {
            fn from(flags: $name) -> Self {
                let $name { $($field),* } = flags;
                Self { $($field: $field.into(),)* $($($other: Default::default(),)*)? }
            }
        }
    )*};
}

options_of! {
    Init { no_encryption, adopt };
    Check { targets };
    Exclude { exclude_table, exclude_schema, exclude_table_data, exclude_extension, exclude_large_objects };
    List { job, host };
    StatusOptions { job, host };
    Health { listen };
    Show { snapshot };
    StartServer { start, bin_dir, run_as } and recovery;
    Recover { snapshot, only, at, data_directory, tablespace, dry_run, clean, containers, accept_places, docker_socket, env_file, address, health, wait, state, thaw };
    RestoreDocker { volume, quiesce };
    RestoreRedis { key, conflict, users, offset, listen };
    RestoreBase { tablespace, lsn, name, timeline, target_action } and recoveries, tablespaces_of_several;
    RestoreDatabase { table, schema, with_dependencies, exclude_table_data, schema_only, data_only, no_owner, no_privileges, role_map, tablespace_map, encoding, locale, locale_provider, icu_locale, create_roles, keep_going, search_path, verify_rows, drop_old };
    Thaw { thaw, thaw_speed, thaw_days };
    Cat { snapshot, source, path, thaw };
    LogPush { path, system_id, level };
    LogFetch { file, path, system_id, until };
    LogShow { system_id } and read;
    Pin { snapshot, reason };
    Unpin { snapshot };
    Copy { snapshots, into, dry_run, thaw };
    Cleanup { rules, delete };
    Run { dry_run, listen, drills_only };
    Prune { dry_run, job, keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_within, no_sweep };
}

impl From<Verify> for options::Verify {
    fn from(flags: Verify) -> Self {
        Self {
            snapshots: flags.snapshots,
            all: flags.all,
            level: flags.level,
            into: flags.into,
            no_evidence: flags.no_evidence,
            thaw: flags.thaw.into(),
            engines: options::EngineFlags::default().with(options::StartServer::from(flags.server)),
            drill: None,
        }
    }
}

impl From<LogReceive> for options::LogReceive {
    fn from(flags: LogReceive) -> Self {
        Self {
            source: flags.source,
            name: flags.name,
            slot: flags.slot,
            flush: std::time::Duration::from_secs(flags.flush),
            level: flags.level,
            turn: None,
            snapshots: None,
        }
    }
}

impl From<Backup> for options::Backup {
    fn from(flags: Backup) -> Self {
        let of_postgres = options::BackupDatabase {
            max_block: flags.max_block,
            no_role_passwords: flags.no_role_passwords,
            exclude: flags.exclude.into(),
        };
        Self {
            targets: flags.targets,
            dry_run: flags.dry_run,
            parallel: flags.parallel,
            if_changed: flags.if_changed,
            level: flags.level,
            engines: options::EngineFlags::default().with(of_postgres),
            scheduled: false,
        }
    }
}

impl From<LogVerify> for options::LogShow {
    fn from(LogVerify { system_id }: LogVerify) -> Self {
        Self { system_id, read: true }
    }
}

impl From<Restore> for options::Restore {
    fn from(flags: Restore) -> Self {
        let engines = options::EngineFlags::default()
            .with(options::RestoreDocker::from(flags.docker))
            .with(options::RestoreDatabase::from(flags.database))
            .with(options::RestoreBase::from(flags.base))
            .with(options::RestoreRedis::from(flags.redis));
        Self {
            snapshot: flags.snapshot,
            source: flags.source,
            at: flags.at,
            into: flags.into,
            into_original: flags.into_original,
            clean: flags.clean,
            delete: flags.delete,
            path: flags.path,
            trust_times: flags.trust_times,
            devices: flags.devices,
            parallel: flags.parallel,
            dry_run: flags.dry_run,
            resume: flags.resume,
            undo: flags.undo,
            engines,
            thaw: flags.thaw.into(),
        }
    }
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    units::parse_duration(text).map_err(|error| match error.hint() {
        Some(hint) => format!("{}. {hint}", error.chain()),
        None => error.chain(),
    })
}

fn rate(text: &str) -> Result<u64, String> {
    units::parse_rate(text).map_err(|error| match error.hint() {
        Some(hint) => format!("{}. {hint}", error.chain()),
        None => error.chain(),
    })
}

/// Reads a value by its type; the hint stands behind the error.
fn value_of<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: Error| match error.hint() {
        Some(hint) => format!("{}. {hint}", error.chain()),
        None => error.chain(),
    })
}

fn at(text: &str) -> Result<At, String> {
    value_of(text)
}

fn lsn(text: &str) -> Result<Lsn, String> {
    value_of(text)
}

fn timeline(text: &str) -> Result<WantedTimeline, String> {
    value_of(text)
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("write OLD=NEW".to_owned()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    units::parse_bytes(text).map_err(|error| match error.hint() {
        Some(hint) => format!("{}. {hint}", error.chain()),
        None => error.chain(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_has_help_and_no_two_clash() {
        Cli::command().debug_assert();
        for verb in Cli::command().get_subcommands() {
            for argument in verb.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    verb.get_name(),
                    argument.get_id()
                );
            }
        }
    }

    #[test]
    fn global_flags_stand_before_or_after_the_verb() {
        for line in ["wirevault --to /b --json list", "wirevault list --from /b --json"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.repository.as_deref(), Some("/b"));
            assert!(cli.global.json);
        }
    }
}
