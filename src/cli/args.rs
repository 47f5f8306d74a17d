//! The flags: each with its name, default and help in one place.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::base::units;
use crate::operations::options::{self, AndThen, ContainersHow, Level};
use crate::storage::ThawSpeed;

/// Backs up databases and files over their own protocols, proves that they restore, and brings them back.
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
    /// Configuration file [default: wirevault.toml if it is there, otherwise the environment]
    #[arg(long, global = true, value_name = "FILE", env = "WIREVAULT_CONFIG")]
    pub config: Option<PathBuf>,

    /// Repository: s3://bucket/prefix, file:///path, or a name from the configuration
    #[arg(long, global = true, value_name = "URL", visible_aliases = ["to", "from"], env = "WIREVAULT_REPOSITORY")]
    pub repository: Option<String>,

    /// Endpoint of an S3-compatible store, for example http://127.0.0.1:9000
    #[arg(long, global = true, value_name = "URL")]
    pub endpoint: Option<String>,

    /// Name of this host in snapshots, for a container that gets a new one at each start; of `list` and `status` it is a
    /// filter [env: WIREVAULT_HOST] [default: host of the configuration, or the kernel's]
    #[arg(long, global = true, value_name = "NAME")]
    pub host: Option<String>,

    /// Bytes per second to and from each repository, for example 20MiB/s [default: its rate_limit, or none]
    #[arg(long, global = true, value_name = "RATE", value_parser = rate)]
    pub limit_rate: Option<u64>,

    /// Memory this process may use, at least 96MiB; a smaller limit of the container is respected [default: 256MiB]
    #[arg(long, global = true, value_name = "SIZE", value_parser = size)]
    pub memory_limit: Option<u64>,

    /// Directory for the few sources that need a local copy [default: the system's temporary directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,

    /// Print one JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,

    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Log more on standard error; repeat for more (RUST_LOG overrides)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a repository and probe its store
    Init(Init),
    /// Look at configuration, sources, store and memory; change nothing (a probe object in the store comes and goes)
    Check(Check),
    /// Print the effective configuration with secrets hidden; or an example file, a JSON Schema, or the reference page
    Config(ConfigFlags),
    /// Back up jobs, or sources given as URLs
    Backup(Backup),
    /// List snapshots
    List(List),
    /// Show one snapshot: its sources, sizes, times
    Show(Show),
    /// Say of each source how old its newest good snapshot is and how it was proven; exit code 1 if not all is well
    Status(StatusOptions),
    /// Say in one line whether all is well, for container health checks; exit code 0 or 1
    Health(Health),
    /// Read stored data back and compare digests
    Verify(Verify),
    /// Bring sources back
    Restore(Box<Restore>),
    /// Bring a whole server back onto this host: files, volumes, containers, databases
    Recover(Box<Recover>),
    /// Write one stored stream to standard output
    Cat(Cat),
    /// Expire snapshots by the keep rules and sweep what no snapshot needs
    Prune(Prune),
    /// Bring a repository up to date from another one
    Copy(Copy),
    /// Keep a snapshot, whatever the keep rules say
    Pin(Pin),
    /// Let the keep rules decide about a snapshot again
    Unpin(Unpin),
    /// Remove old local files, and what nobody uses on a Docker engine, by the [cleanup.NAME] rules; says what would go
    /// unless told to delete
    Cleanup(Cleanup),
    /// Run every job at its time, and prune after it, until a signal ends it
    Run(Run),
    /// Print completions for a shell
    Completions(Completions),
    /// Print the manual page, in the form that man reads
    Man(Man),
}

/// Flags of `init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault init --no-encryption --to s3://bucket/app\n  wirevault init --no-encryption --to file:///var/backups/app"
)]
pub struct Init {
    /// Store data as they are, readable by whoever reads the store (the only way in this version)
    #[arg(long)]
    pub no_encryption: bool,

    /// Create nothing: take the repository that is there for the one that this host expects from now on
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
    /// Print a file with every key, its help, type and default, each line behind a #
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

    /// Print the plan and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Connections or readers per source [default: 4, or the source's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub parallel: Option<u8>,

    /// Store no snapshot of a job whose content equals that of its last one
    #[arg(long)]
    pub if_changed: bool,

    /// zstd level, 1 (fast) to 19 (small) [default: 1, or the job's]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=19))]
    pub level: Option<i32>,

    /// PostgreSQL: give way when a statement has waited this long behind the backup, for example 30s [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_block: Option<std::time::Duration>,

    /// PostgreSQL: leave out the passwords of roles, for a role that may not read them
    #[arg(long)]
    pub no_role_passwords: bool,

    /// What of PostgreSQL databases is left out.
    #[command(flatten)]
    pub exclude: Exclude,
}

/// Flags of `backup` for what is left out of PostgreSQL databases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "PostgreSQL: what is left out (patterns as of psql: schema.table, *, ?, \"Name\")")]
pub struct Exclude {
    /// Tables, views, sequences, with partitions and children and what depends on them
    #[arg(long, value_name = "PATTERN")]
    pub exclude_table: Vec<String>,

    /// Schemas with all that lies in them
    #[arg(long, value_name = "PATTERN")]
    pub exclude_schema: Vec<String>,

    /// Rows of tables and of their partitions, values of sequences; the definitions come
    #[arg(long, value_name = "PATTERN")]
    pub exclude_table_data: Vec<String>,

    /// Extensions
    #[arg(long, value_name = "PATTERN")]
    pub exclude_extension: Vec<String>,

    /// Large objects
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
    /// Where `run` listens; if it does not, or with a repository given, the repositories themselves are looked at
    /// [default: 127.0.0.1:9188]
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
    after_help = "Examples:\n  wirevault verify latest --from s3://bucket/app\n  wirevault verify --all --level stored\n  wirevault verify latest --level restored --into postgres://postgres@scratch"
)]
pub struct Verify {
    /// Snapshots: ids, unique prefixes, latest, latest:JOB or latest:HOST/JOB
    #[arg(value_name = "SNAPSHOT", required_unless_present = "all")]
    pub snapshots: Vec<String>,

    /// Every snapshot of the repository
    #[arg(long, conflicts_with = "snapshots")]
    pub all: bool,

    /// How deep to look; a source that cannot be looked at so deeply makes exit code 2
    #[arg(long, value_enum, default_value_t = Level::Content)]
    pub level: Level,

    /// With level restored: the PostgreSQL server on which scratch databases wv_verify_… are made and dropped, or an empty
    /// Redis server (redis://…), which is emptied afterwards; repeat for both. Other kinds go into the spool directory
    #[arg(long, value_name = "URL")]
    pub into: Vec<String>,

    /// Do not store what was proven in the repository
    #[arg(long)]
    pub no_evidence: bool,

    /// What becomes of objects in cold classes.
    #[command(flatten)]
    pub thaw: Thaw,
}

/// Flags of `recover`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  wirevault recover latest --from s3://bucket/app --accept-places --dry-run\n  wirevault recover latest --from s3://bucket/app --accept-places\n  wirevault recover latest --only config --only app\n  wirevault recover latest --containers manual --address app=postgres://app@10.0.0.7/app"
)]
pub struct Recover {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB
    #[arg(value_name = "SNAPSHOT", default_value = "latest")]
    pub snapshot: String,

    /// Only these sources [default: all]
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,

    /// Look at everything, print the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Replace what is there: files, volumes, databases
    #[arg(long)]
    pub clean: bool,

    /// Who makes and starts containers
    #[arg(long, value_enum, default_value_t = ContainersHow::Engine)]
    pub containers: ContainersHow,

    /// Sources that no configuration here names go where the snapshot says they were; its sockets and health URLs are used
    #[arg(long)]
    pub accept_places: bool,

    /// Socket of the Docker engine, or tcp://host:port [default: the configuration's, or that of DOCKER_HOST]
    #[arg(long, value_name = "PATH")]
    pub docker_socket: Option<crate::engines::docker::api::Address>,

    /// A file of NAME=value lines that holds passwords; restored .env files are read anyway
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,

    /// Where a database is reached on this host, if not under its old name
    #[arg(long, value_name = "SOURCE=URL", value_parser = pair)]
    pub address: Vec<(String, String)>,

    /// A URL that answers when the application runs; those of the configuration are waited for anyway
    #[arg(long, value_name = "URL")]
    pub health: Vec<String>,

    /// How long to wait for each server, container and URL
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub wait: std::time::Duration,

    /// Where an interrupted recovery is remembered [default: wirevault-recover-SNAPSHOT.json]
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
    after_help = "Examples:\n  wirevault restore latest --source app --into postgres://app@db/app_copy --from s3://bucket/app\n  wirevault restore latest --into /tmp/look --from s3://bucket/app\n  wirevault restore latest --source etc --path 'nginx/**' --dry-run\n  wirevault restore latest --source app --table users\n  wirevault restore latest --source redis --into redis://cache2 --key 'session:*' --conflict skip"
)]
pub struct Restore {
    /// Snapshot: an id, a unique prefix, latest, latest:JOB or latest:HOST/JOB
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,

    /// Only these sources [default: all]
    #[arg(long, value_name = "NAME")]
    pub source: Vec<String>,

    /// Database or server URL, file, or directory that takes every file tree and SQLite database [default: where the
    /// configuration has the source]
    #[arg(long, value_name = "URL or PATH")]
    pub into: Option<String>,

    /// Sources that no configuration here names go where the snapshot says they were, with no password of this host
    #[arg(long, conflicts_with = "into")]
    pub into_original: bool,

    /// Replace what is there
    #[arg(long)]
    pub clean: bool,

    /// Remove files that the backup does not know
    #[arg(long)]
    pub delete: bool,

    /// Only files that match these globs; bytes that are no UTF-8 as \xHH
    #[arg(long, value_name = "GLOB", value_parser = named())]
    pub path: Vec<String>,

    /// Take files for unchanged by size and time [default: their content is compared with the backup's]
    #[arg(long)]
    pub trust_times: bool,

    /// Make device nodes too (only as root)
    #[arg(long)]
    pub devices: bool,

    /// Connections or writers per source
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub parallel: u8,

    /// Print the plan, and whatever would refuse the restore before its first write; write nothing (stored data are proven by
    /// `verify`, and by the restore itself)
    #[arg(long)]
    pub dry_run: bool,

    /// Restore nothing anew: finish the restore of files that was interrupted in this place
    #[arg(long, conflicts_with_all = ["undo", "clean", "delete", "path", "dry_run"])]
    pub resume: bool,

    /// Restore nothing: put back what the last restore in this place replaced (databases, files, volumes), or what an
    /// interrupted one did
    #[arg(long, conflicts_with_all = ["clean", "delete", "path", "dry_run", "verify_rows", "create_roles", "data_only", "schema_only"])]
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
    /// Only these volumes
    #[arg(long, value_name = "NAME")]
    pub volume: Vec<String>,

    /// Containers (names or compose services) to stop meanwhile [default: those of the source's configuration]
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
}

/// Flags of `restore` for Redis sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Redis and Valkey")]
pub struct RestoreRedis {
    /// Only keys that match these patterns (as of SCAN: *, ?, [a-z])
    #[arg(long, value_name = "PATTERN")]
    pub key: Vec<String>,

    /// Restore into a server that holds keys: what becomes of those the backup has too
    #[arg(long, value_enum, value_name = "RULE", conflicts_with = "clean")]
    pub conflict: Option<crate::engines::redis::Conflict>,

    /// Users (ACL) too: each as the backup has it, with its password; others stay
    #[arg(long)]
    pub users: bool,
}

/// Flags of `restore` for PostgreSQL sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "PostgreSQL")]
pub struct RestoreDatabase {
    /// Only these tables (globs; schema.table or table); without --into beside the living ones, in a schema of their own
    #[arg(long, value_name = "TABLE")]
    pub table: Vec<String>,

    /// Only these schemas
    #[arg(long, value_name = "SCHEMA", conflicts_with = "table")]
    pub schema: Vec<String>,

    /// With --table or --schema: also what they need and the target lacks (types, functions, sequences, parents, referenced
    /// tables, extensions)
    #[arg(long, conflicts_with = "data_only")]
    pub with_dependencies: bool,

    /// Definitions, but not the rows, of these tables (globs)
    #[arg(long, value_name = "TABLE")]
    pub exclude_table_data: Vec<String>,

    /// Definitions only, no rows
    #[arg(long, conflicts_with = "data_only")]
    pub schema_only: bool,

    /// Rows and sequence values only, into tables that are there
    #[arg(long)]
    pub data_only: bool,

    /// Objects belong to the role that restores
    #[arg(long)]
    pub no_owner: bool,

    /// Leave rights (GRANT, REVOKE) out
    #[arg(long)]
    pub no_privileges: bool,

    /// A role of the backup by its name here
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    pub role_map: Vec<(String, String)>,

    /// A tablespace of the backup by its name here; an empty NEW is the database's own
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    pub tablespace_map: Vec<(String, String)>,

    /// Encoding of the database that is made, as UTF8; what is stored is converted [default: the source's]
    #[arg(long, value_name = "NAME")]
    pub encoding: Option<String>,

    /// Locale of the database that is made, as C.UTF-8 [default: the source's]
    #[arg(long, value_name = "LOCALE")]
    pub locale: Option<String>,

    /// Where the locale comes from: libc, icu (with --icu-locale) or builtin
    #[arg(long, value_name = "PROVIDER")]
    pub locale_provider: Option<String>,

    /// With --locale-provider icu: its locale
    #[arg(long, value_name = "LOCALE")]
    pub icu_locale: Option<String>,

    /// Create roles that are missing
    #[arg(long, conflicts_with = "no_owner")]
    pub create_roles: bool,

    /// Name a table that cannot be loaded, bring everything else back, and end with exit code 2
    #[arg(long)]
    pub keep_going: bool,

    /// Where definitions find what they name without a schema [default: nowhere, then as the source's sessions did]
    #[arg(long, value_name = "SCHEMA", value_delimiter = ',')]
    pub search_path: Vec<String>,

    /// Read every restored table again and compare its digest with the backup's
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
    /// Ask the store to make objects of GLACIER, DEEP_ARCHIVE and the like readable; then wait until they are, or end
    #[arg(
        long,
        value_enum,
        value_name = "AND",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "wait"
    )]
    pub thaw: Option<AndThen>,

    /// How fast: the faster, the dearer
    #[arg(long, value_enum, value_name = "SPEED", default_value_t = ThawSpeed::Standard)]
    pub thaw_speed: ThawSpeed,

    /// How many days the readable copies stay
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

    /// Source of the snapshot
    #[arg(value_name = "SOURCE")]
    pub source: String,

    /// Path of an entry, or name of a stream
    #[arg(value_name = "PATH", value_parser = named())]
    pub path: String,

    /// What becomes of objects in cold classes.
    #[command(flatten)]
    pub thaw: Thaw,
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

    /// Why; `prune` and `list` show it
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
    /// Snapshots: ids, unique prefixes, latest, latest:JOB or latest:HOST/JOB [default: all that the other repository lacks
    /// and its keep rules would keep]
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,

    /// The repository that gets them: a URL or a configured name [default: every repository of a job, from the others]
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
    /// Rules [default: all]
    #[arg(value_name = "NAME")]
    pub rules: Vec<String>,

    /// Remove what the rules say
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
    /// One verb [default: the program as a whole]
    #[arg(value_name = "VERB")]
    pub verb: Option<String>,
}

/// Flags of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wirevault run\n  wirevault run --dry-run\n  wirevault run --json >> wirevault.log\n  wirevault run --listen off\n  wirevault run --drills-only"
)]
pub struct Run {
    /// Print when each job runs next, and end
    #[arg(long)]
    pub dry_run: bool,

    /// Address of the status page, /metrics and /health; off for none. Beyond the loopback it needs a status_token
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
    /// Print each snapshot with the rule that keeps or expires it, and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Only this job
    #[arg(long, value_name = "JOB")]
    pub job: Option<String>,

    /// Keep the newest N
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,

    /// Keep the newest of each of N hours
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<u32>,

    /// Keep the newest of each of N days
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u32>,

    /// Keep the newest of each of N weeks
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<u32>,

    /// Keep the newest of each of N months
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<u32>,

    /// Keep the newest of each of N years
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<u32>,

    /// Keep all of the last N days
    #[arg(long, value_name = "DAYS")]
    pub keep_within: Option<u32>,

    /// Do not sweep data without a snapshot
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
    Verify { snapshots, all, level, into, no_evidence, thaw } and drill;
    Recover { snapshot, only, dry_run, clean, containers, accept_places, docker_socket, env_file, address, health, wait, state, thaw };
    RestoreDocker { volume, quiesce };
    RestoreRedis { key, conflict, users };
    RestoreBase { tablespace };
    RestoreDatabase { table, schema, with_dependencies, exclude_table_data, schema_only, data_only, no_owner, no_privileges, role_map, tablespace_map, encoding, locale, locale_provider, icu_locale, create_roles, keep_going, search_path, verify_rows, drop_old };
    Thaw { thaw, thaw_speed, thaw_days };
    Cat { snapshot, source, path, thaw };
    Pin { snapshot, reason };
    Unpin { snapshot };
    Copy { snapshots, into, dry_run, thaw };
    Cleanup { rules, delete };
    Run { dry_run, listen, drills_only };
    Prune { dry_run, job, keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_within, no_sweep };
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
