//! Reads `wirevault.toml`: the sections of the document into what they mean together. Every error names file and line.

use std::path::Path;

use crate::base::error::{Context, Error, Result};
use crate::base::keys::{Section, Source, Table};
use crate::base::secret::Secret;
use crate::config::checks::{defined, from_file};
use crate::config::document::{self, Found};
use crate::config::exposed;
use crate::config::hooks::{self, Hooks};
use crate::config::keys::{
    CleanupKeys, DrillKeys, JobKeys, KeepKeys, NotifyKeys, OF_S3, RepositoryKeys, SourceKeys, TopKeys,
};
use crate::config::types::{
    Config, DockerSource, FilesSource, JobConfig, PostgresSource, RedisSource, RepositoryConfig, SourceConfig,
    SourceKind, SqliteSource,
};
use crate::config::url::{checked_host, checked_name, parse_repository_url};
use crate::config::{cleanup, drill, notify};
use crate::engines::docker::Access;
use crate::engines::docker::keys::DockerKeys;
use crate::engines::files::keys::FilesKeys;
use crate::engines::postgres::keys::PostgresKeys;
use crate::engines::postgres::physical::PhysicalSpec;
use crate::engines::postgres::physical::keys::PhysicalKeys;
use crate::engines::postgres::source_url::split_postgres_url;
use crate::engines::redis::keys::RedisKeys;
use crate::engines::redis::source_url::{split_redis_url, tls_files, with_tls_files};
use crate::engines::sqlite::discover;
use crate::engines::sqlite::keys::SqliteKeys;
use crate::policy::retention::KeepConfig;
use crate::policy::retention::RetentionPolicy;
use crate::policy::schedule::{Schedule, Timing};
use crate::repository::ADHOC_JOB;
use crate::repository::PRE_RESTORE_JOB;
use crate::repository::id::sanitised_job;
use crate::storage::open::checked_endpoint;

/// Reads and checks a configuration file.
pub fn read(path: &Path) -> Result<Config> {
    let text = read_text(path)?;
    let file = path.display().to_string();
    let source = Source {
        file: &file,
        text: &text,
    };
    let document = document::parse(source)?;
    let found = document::sections(source, document.get_ref())?;
    let config = build(&file, &found)?;
    exposed::warn(path, &found);
    Ok(config)
}

/// Reads the text of a configuration file.
pub(super) fn read_text(path: &Path) -> Result<String> {
    crate::base::small_file::read_small(path)
        .with_context(|| format!("read configuration \"{}\"", path.display()))
        .map_err(|e| e.with_hint("Pass an existing file with --config, or omit it to use the environment."))
}

/// Checks the text of a configuration file; `file` is its name in messages.
pub fn parse(file: &str, text: &str) -> Result<Config> {
    let source = Source { file, text };
    let document = document::parse(source)?;
    build(file, &document::sections(source, document.get_ref())?)
}

/// A section that was read: its name and keys, and where it stands.
struct Read<'a, T> {
    name: &'a str,
    table: &'a Table<'a>,
    keys: T,
}

impl<T> Read<'_, T> {
    /// Names the line of a key, or of the section where it has none, and the section.
    fn at(&self, key: &str) -> String {
        format!("{}: {}", self.table.line_of(key), self.table.section)
    }

    /// Names the line of a key, for what names the section itself.
    fn line(&self, key: &str) -> String {
        self.table.line_of(key)
    }
}

/// Reads every table of a section.
fn each<'a, T: Section>(found: &'a [Found<'a>], word: &str) -> Result<Vec<Read<'a, T>>> {
    let of_section = found.iter().filter(|one| one.section.word == word);
    of_section.map(read_one).collect()
}

fn read_one<'a, T: Section>(found: &'a Found<'a>) -> Result<Read<'a, T>> {
    Ok(Read {
        name: found.name,
        table: &found.table,
        keys: T::read(&found.table)?,
    })
}

fn build(file: &str, found: &[Found<'_>]) -> Result<Config> {
    let top = each::<TopKeys>(found, "")?.pop();
    let top = top.ok_or_else(|| Error::invalid("a document has no top"))?;
    let zone = top.keys.timezone.as_deref();
    let repositories = each(found, "repository")?
        .into_iter()
        .map(repository)
        .collect::<Result<Vec<_>>>()?;
    let sources = found
        .iter()
        .filter_map(|one| one.kind.map(|kind| source(one, kind.word)))
        .collect::<Result<Vec<SourceConfig>>>()?;
    for (number, one) in sources.iter().enumerate() {
        let same = |other: &&SourceConfig| sanitised_job(&other.name) == sanitised_job(&one.name);
        if let Some(other) = sources.iter().take(number).find(same) {
            let message = format!(
                "[source.{}] and [source.{}] would share their object keys",
                other.name, one.name
            );
            return Err(Error::invalid(message)
                .with_hint("Object keys keep only lower-case letters, digits, _ and -; rename one of them.")
                .context(file));
        }
    }
    let jobs = each(found, "job")?
        .into_iter()
        .map(|one| job(&one, zone, &sources, &repositories))
        .collect::<Result<Vec<JobConfig>>>()?;
    let drills = each::<DrillKeys>(found, "drill")?;
    let mut known: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    if let Some(twice) = drills.iter().find(|drill| known.contains(&drill.name)) {
        return Err(
            Error::invalid(format!("a job and a drill are both named \"{}\"", twice.name))
                .with_hint("Rename the drill; messages and metrics refer to the name.")
                .context(twice.line("")),
        );
    }
    known.extend(drills.iter().map(|drill| drill.name));
    let repository_names: Vec<&str> = repositories.iter().map(|r| r.name.as_str()).collect();
    let timed = |timing: &Timing, section: &str| Schedule::of_timing(timing, section, zone, "").map(drop);
    let drills = drills
        .into_iter()
        .map(|one| {
            let (line, at) = (one.line("schedule"), one.at(""));
            let drill = drill::drill(one.name.to_owned(), one.keys, &repository_names).context(at)?;
            timed(&drill.timing, &one.table.section).context(line)?;
            Ok(drill)
        })
        .collect::<Result<Vec<_>>>()?;
    let urls: Vec<String> = repositories.iter().map(|r| r.url.clone()).collect();
    let cleanups = each::<CleanupKeys>(found, "cleanup")?
        .into_iter()
        .map(|one| {
            let (line, at) = (one.line("schedule"), one.at(""));
            let rule = cleanup::cleanup(one.name.to_owned(), one.keys).context(at.clone())?;
            cleanup::spares_repositories(&rule, &urls).context(at)?;
            timed(&rule.timing, &one.table.section).context(line)?;
            Ok(rule)
        })
        .collect::<Result<Vec<_>>>()?;
    let notify = each::<NotifyKeys>(found, "notify")?
        .into_iter()
        .map(|one| {
            let at = one.at("");
            notify::notify(one.name.to_owned(), one.keys, &known).context(at)
        })
        .collect::<Result<Vec<_>>>()?;
    let status_token = match (&top.keys.status_token, &top.keys.status_token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(path)) => {
            let line = top.line("status_token_file");
            Some(from_file(path).context("status_token_file").context(line)?)
        }
        (None, None) => None,
    };
    let host = top.keys.host.as_deref().map(checked_host).transpose();
    Ok(Config {
        origin: file.to_owned(),
        repositories,
        sources,
        jobs,
        memory_limit_bytes: top.keys.memory_limit,
        host: host.context("host").with_context(|| top.line("host"))?,
        spool_dir: top.keys.spool_dir,
        timezone: top.keys.timezone,
        notify,
        drills,
        cleanups,
        status_token: status_token.map(Secret::new),
    })
}

fn repository(read: Read<'_, RepositoryKeys>) -> Result<RepositoryConfig> {
    let Read { name, table, keys } = &read;
    let static_keys = match (&keys.access_key, &keys.secret_key) {
        (Some(access), Some(secret)) => Some((Secret::new(access), Secret::new(secret))),
        (None, None) => None,
        (access, _) => {
            let there = if access.is_some() { "access_key" } else { "secret_key" };
            let message = format!("{} has only one of \"access_key\" and \"secret_key\"", table.section);
            return Err(Error::invalid(message)
                .with_hint("Give both, or none to use the usual credential chain (AWS_*, profile, instance).")
                .context(read.line(there)));
        }
    };
    let url = parse_repository_url(&keys.url).with_context(|| read.at("url"))?;
    let given = |key: &&&str| table.keys.iter().any(|(name, _)| name.get_ref() == **key);
    if let Some(key) = OF_S3.iter().find(given).filter(|_| !url.starts_with("s3://")) {
        return Err(
            Error::invalid(format!("{} has \"{key}\", but {url} is a directory", table.section))
                .with_hint("Remove the line; it belongs to s3://bucket/prefix.")
                .context(read.line(key)),
        );
    }
    let endpoint = keys.endpoint.as_deref().map(checked_endpoint).transpose();
    Ok(RepositoryConfig {
        name: checked_name(name).with_context(|| read.at(""))?,
        url,
        endpoint: endpoint.with_context(|| read.at("endpoint"))?,
        path_style: keys.path_style,
        part_size_bytes: keys.part_size,
        max_parts: keys.max_parts,
        checksums: keys.checksums,
        require_mountpoint: keys.require_mountpoint.clone().and_then(|mount| mount.0),
        static_keys,
        rate_limit_bytes: keys.rate_limit,
        ca_file: read.keys.ca_file,
        region: read.keys.region,
        storage_class: read.keys.storage_class,
        sse: read.keys.sse,
        sse_kms_key: read.keys.sse_kms_key,
    })
}

fn source(found: &Found<'_>, kind: &str) -> Result<SourceConfig> {
    let every = read_one::<SourceKeys>(found)?;
    let kind = match kind {
        "postgres" => postgres(read_one(found)?)?,
        "postgres-physical" => physical(read_one(found)?)?,
        "redis" => redis(read_one(found)?)?,
        "sqlite" => sqlite(read_one(found)?)?,
        "files" => files(read_one(found)?),
        "docker" => docker(read_one(found)?),
        other => return Err(Error::unsupported(format!("kind \"{other}\" is not read")).context(every.at("kind"))),
    };
    Ok(SourceConfig {
        name: checked_name(found.name).with_context(|| every.at(""))?,
        kind,
        rate_limit_bytes: every.keys.rate_limit,
        optional: every.keys.optional,
    })
}

fn postgres(read: Read<'_, PostgresKeys>) -> Result<SourceKind> {
    let (url, password) = split_postgres_url(&read.keys.url).with_context(|| read.at("url"))?;
    let at = read.at("");
    let keys = read.keys;
    let postgres = PostgresSource {
        url,
        password,
        password_file: keys.password_file,
        parallel: keys.parallel,
        no_role_passwords: keys.no_role_passwords,
        max_block_seconds: keys.max_block.map(|wait| wait.as_secs().max(1)),
        exclude_tables: keys.exclude_tables,
        exclude_schemas: keys.exclude_schemas,
        exclude_table_data: keys.exclude_table_data,
        exclude_extensions: keys.exclude_extensions,
        exclude_large_objects: keys.exclude_large_objects,
        foreign: false,
    };
    postgres.exclusion().check().context(at)?;
    Ok(SourceKind::Postgres(postgres))
}

/// Seconds of a log's window where the configuration says none: seven days.
pub const DEFAULT_LOG_WINDOW: u64 = 7 * 24 * 60 * 60;

fn physical(read: Read<'_, PhysicalKeys>) -> Result<SourceKind> {
    let spec = PhysicalSpec::of_url(&read.keys.url).with_context(|| read.at("url"))?;
    Ok(SourceKind::Other(Box::new(PhysicalSpec {
        password_file: read.keys.password_file,
        log: read.keys.log,
        auto_base: read.keys.auto_base,
        slot: read.keys.slot,
        log_window: Some(
            read.keys
                .log_window
                .map_or(DEFAULT_LOG_WINDOW, |window| window.as_secs()),
        ),
        data_directory: read.keys.data_directory,
        checkpoint: read.keys.checkpoint,
        manifest_checksums: read.keys.manifest_checksums,
        ..spec
    })))
}

fn redis(read: Read<'_, RedisKeys>) -> Result<SourceKind> {
    let keys = &read.keys;
    let files = [
        ("cacert", keys.cacert.as_deref()),
        ("cert", keys.cert.as_deref()),
        ("key", keys.key.as_deref()),
    ];
    let url = with_keys(&keys.url, &files).and_then(|url| split_redis_url(&url));
    let (url, password) = url.with_context(|| read.at("url"))?;
    Ok(SourceKind::Redis(RedisSource {
        url,
        password,
        password_file: read.keys.password_file,
        log: read.keys.log,
        log_window: Some(
            read.keys
                .log_window
                .map_or(DEFAULT_LOG_WINDOW, |window| window.as_secs()),
        ),
        data_directory: read.keys.data_directory,
        foreign: false,
    }))
}

fn sqlite(read: Read<'_, SqliteKeys>) -> Result<SourceKind> {
    let paths = &read.keys.path;
    for path in paths {
        discover::check_pattern(path).with_context(|| read.at("path"))?;
    }
    let many = paths.len() > 1 || paths.iter().any(|path| discover::is_place(path));
    if many && read.name.len() > discover::MAX_GROUP_NAME {
        let message = format!(
            "{} names several databases, and its name is too long",
            read.table.section
        );
        let hint = format!(
            "The name of each database starts with it: use at most {} characters.",
            discover::MAX_GROUP_NAME
        );
        return Err(Error::invalid(message).with_hint(hint).context(read.line("")));
    }
    let at = read.at("path");
    let mut paths = read.keys.path.into_iter();
    let path = paths.next().ok_or_else(|| {
        Error::invalid("\"path\" is missing")
            .with_hint("Add a line path = \"/data/app.db\".")
            .context(at)
    })?;
    Ok(SourceKind::Sqlite(SqliteSource {
        also: paths.collect(),
        method: read.keys.method,
        ..SqliteSource::of(path)
    }))
}

fn files(read: Read<'_, FilesKeys>) -> SourceKind {
    let keys = read.keys;
    SourceKind::Files(FilesSource {
        root: keys.root,
        include: keys.include,
        exclude: keys.exclude,
        one_file_system: keys.one_file_system,
        exclude_if_present: keys.exclude_if_present,
        exclude_caches: keys.exclude_caches,
        allow_empty: keys.allow_empty,
        devices: keys.devices,
        single_file: false,
    })
}

fn docker(read: Read<'_, DockerKeys>) -> SourceKind {
    let keys = read.keys;
    SourceKind::Docker(DockerSource {
        socket: keys.socket,
        volumes: keys.volumes,
        exclude: keys.exclude,
        labels: keys.labels,
        containers: keys.containers,
        quiesce: keys.quiesce,
        stop_timeout_seconds: keys.stop_timeout.map(|time| time.as_secs().max(1)),
        kill: keys.kill,
        images: keys.images,
        no_environment: !keys.environment,
        archive_api: keys.access == Access::Archive,
        health: keys.health,
    })
}

fn job(
    read: &Read<'_, JobKeys>,
    zone: Option<&str>,
    sources: &[SourceConfig],
    repositories: &[RepositoryConfig],
) -> Result<JobConfig> {
    let (section, keys) = (read.table.section.as_str(), &read.keys);
    checked_name(read.name).with_context(|| read.at(""))?;
    if [ADHOC_JOB, PRE_RESTORE_JOB].contains(&sanitised_job(read.name).as_str()) {
        let hint = "It is used for backups of URLs or for data replaced by restores. Choose another name.";
        return Err(Error::invalid(format!("{section}: the name is reserved"))
            .with_hint(hint)
            .context(read.line("")));
    }
    if keys.sources.is_empty() {
        return Err(Error::invalid(format!("{section} has no sources"))
            .with_hint("Name at least one [source.NAME].")
            .context(read.line("sources")));
    }
    let all_sources = sources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>();
    let all_repositories = repositories.iter().map(|r| r.name.as_str()).collect::<Vec<_>>();
    for wanted in &keys.sources {
        defined(wanted, "source", &all_sources, section).with_context(|| read.line("sources"))?;
    }
    for wanted in &keys.repositories {
        defined(wanted, "repository", &all_repositories, section).with_context(|| read.line("repositories"))?;
    }
    for wanted in keys.keep_in.keys() {
        defined(wanted, "repository", &all_repositories, section).with_context(|| read.line("keep_in"))?;
    }
    let watchable = |name: &String| {
        let of = sources.iter().find(|source| source.name == *name);
        of.is_some_and(|source| matches!(source.kind, SourceKind::Files(_) | SourceKind::Sqlite(_)))
    };
    if keys.on_change.is_some() && !keys.sources.iter().any(watchable) {
        return Err(Error::invalid(format!("on_change: {section} has no files to watch"))
            .with_hint("It needs a source of kind files or sqlite; others run by a schedule.")
            .context(read.line("on_change")));
    }
    let keep = keys.keep.clone().map(KeepConfig::from);
    let keep_in = keys.keep_in.clone().into_iter();
    let keep_in: std::collections::BTreeMap<_, _> = keep_in.map(|(name, keep)| (name, keep.into())).collect();
    let rules = keep.iter().map(|keep| ("keep", keep));
    for (key, keep) in rules.chain(keep_in.values().map(|keep| ("keep_in", keep))) {
        if keep.storage_class.is_none() && RetentionPolicy::from(keep).is_empty() {
            return Err(Error::invalid(format!("the keep rules of {section} keep no snapshot"))
                .with_hint("Give at least one rule with a number above 0, or omit \"keep\" to keep everything.")
                .context(read.line(key)));
        }
    }
    let hook = |key: &str, call: &Option<_>| hooks::hook(call.clone(), key).with_context(|| read.at(key));
    let job = JobConfig {
        name: read.name.to_owned(),
        keep,
        keep_in,
        hooks: Hooks {
            before: hook("before", &keys.before)?,
            after: hook("after", &keys.after)?,
            on_failure: hook("on_failure", &keys.on_failure)?,
        },
        ping: hooks::ping(keys.ping.clone()).with_context(|| read.at("ping"))?,
        jitter: keys.jitter,
        timeout: keys.timeout,
        compression_level: keys.compression_level,
        on_change: keys.on_change,
        idle_timeout: keys.idle_timeout,
        max_stall: keys.max_stall,
        sources: keys.sources.clone(),
        repositories: keys.repositories.clone(),
        schedule: keys.schedule.clone(),
        timezone: keys.timezone.clone(),
    };
    // Wrong expressions and zones are told at once, not when the scheduler starts.
    job.schedule(zone, "").with_context(|| read.line("schedule"))?;
    Ok(job)
}

impl From<KeepKeys> for KeepConfig {
    fn from(keys: KeepKeys) -> Self {
        Self {
            last: keys.last,
            hourly: keys.hourly,
            daily: keys.daily,
            weekly: keys.weekly,
            monthly: keys.monthly,
            yearly: keys.yearly,
            within_days: keys.within_days,
            minimum: keys.minimum,
            storage_class: keys.storage_class,
        }
    }
}

/// Adds keys that name files for TLS to the URL of a Redis server; each is said once.
fn with_keys(url: &str, files: &[(&str, Option<&str>)]) -> Result<String> {
    let given = files.iter().filter_map(|(name, file)| Some((*name, (*file)?)));
    let given: Vec<(&str, &str)> = given.collect();
    let named = tls_files(url);
    if let Some((twice, _)) = given
        .iter()
        .find(|(name, _)| named.iter().any(|(known, _)| known == name))
    {
        return Err(
            Error::invalid(format!("\"{twice}\" is set in the URL and as a key")).with_hint("Remove one of them.")
        );
    }
    Ok(if given.is_empty() {
        url.to_owned()
    } else {
        with_tls_files(url, &given)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const DESIGN: &str = r#"
[repository]
url = "s3://backups/catalogizer"
endpoint = "http://127.0.0.1:9000"

[source.database]
kind = "postgres"
url = "postgres://catalogizer:geheim@db:5432/catalogizer"

[source.config]
kind = "files"
root = "/opt/catalogizer"
include = [".env", "config/"]
exclude = ["*.log", "node_modules"]

[job.full]
sources = ["database", "config"]
schedule = "0 2 * * *"
keep = { last = 3, daily = 30, weekly = 12, monthly = 12 }
keep_in.default = { monthly = 12, storage_class = "GLACIER" }
"#;

    #[test]
    fn the_file_of_the_design_is_understood_and_its_password_never_prints() {
        let config = parse("wirevault.toml", DESIGN).unwrap();
        assert_eq!(config.repositories[0].name, "default");
        assert_eq!(config.jobs[0].keep.as_ref().unwrap().daily, 30);
        assert!(!format!("{config:?}").contains("geheim"));
        assert!(!serde_json::to_string(&config.sources).unwrap().contains("geheim"));
    }

    #[test]
    fn every_mistake_is_named_with_its_line_and_the_nearest_right_word() {
        let cases: &[(&str, &str, &str, &str)] = &[
            (
                "endpoint = ",
                "endpont = ",
                ":4: unknown key \"endpont\" in [repository]",
                "\"endpoint\"",
            ),
            (
                "exclude = ",
                "exlude = ",
                ":14: unknown key \"exlude\" in [source.config]",
                "\"exclude\"",
            ),
            ("daily = 30", "dayly = 30", "unknown key \"dayly\"", "\"daily\""),
            ("[job.full]", "[jobs.full]", "unknown key \"jobs\"", "\"job\""),
            (
                "kind = \"files\"",
                "kind = \"file\"",
                "unknown kind \"file\"",
                "\"files\"",
            ),
            ("\"config\"]", "\"confg\"]", "names source \"confg\"", "\"config\""),
            ("root = \"/opt/catalogizer\"", "", "\"root\" is missing", "root = "),
            ("\"s3://backups", "\"s4://backups", "s4", "s3"),
        ];
        for (from, to, message, hint) in cases {
            let error = parse("wirevault.toml", &DESIGN.replace(from, to)).unwrap_err();
            assert!(error.chain().contains(message), "{to}: {error:?}");
            assert!(error.hint().unwrap().contains(hint), "{to}: {error:?}");
            assert!(error.chain().starts_with("wirevault.toml"), "{error:?}");
        }
    }

    #[test]
    fn names_of_jobs_that_have_rules_of_their_own_are_reserved() {
        for name in ["adhoc", "pre-restore", "Pre-Restore"] {
            let text = format!(
                "[repository]\nurl = \"file:///b\"\n[source.s]\nkind = \"files\"\nroot = \"/x\"\n[job.{name}]\nsources = [\"s\"]\n"
            );
            let error = parse("f", &text).unwrap_err();
            assert!(error.chain().contains("reserved"), "{error:?}");
        }
    }

    /// What one stored, the other would replace.
    #[test]
    fn sources_whose_keys_are_the_same_are_refused() {
        let text =
            "[source.app]\nkind = \"sqlite\"\npath = \"/a.db\"\n[source.App]\nkind = \"sqlite\"\npath = \"/b.db\"\n";
        let error = parse("f", text).unwrap_err();
        assert!(error.chain().contains("[source.App] and [source.app]"), "{error:?}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named() {
        for (line, word) in [("path_style = \"yes\"", "path_style"), ("endpoint = 9000", "endpoint")] {
            let text = format!("[repository]\nurl = \"s3://b\"\n{line}\n");
            let error = parse("f", &text).unwrap_err();
            assert!(error.chain().contains(word), "{error:?}");
        }
    }

    #[test]
    fn several_repositories_have_names() {
        let text = "[repository.local]\nurl = \"file:///b\"\n[repository.offsite]\nurl = \"s3://b/p\"\nrate_limit = \"20MiB/s\"\n";
        let config = parse("f", text).unwrap();
        assert_eq!(
            config.repositories.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
            ["local", "offsite"]
        );
        assert_eq!(config.repositories[1].rate_limit_bytes, Some(20 << 20));
    }
}
