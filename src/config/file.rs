//! Reads `wirevault.toml`. Every error names file, line and, for an unknown key, the nearest right one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;

use crate::base::error::{Context, Error, Result};
use crate::base::nearest::nearest;
use crate::base::secret::Secret;
use crate::base::units;
use crate::base::units::parse_duration;
use crate::config::exposed;
use crate::config::keys::{self, Place};
use crate::config::outside::{self, Hooks, RawCleanup, RawDrill, RawHook, RawNotify, RawPing, Sections};
use crate::config::types::{
    Config, DockerSource, FilesSource, JobConfig, PostgresSource, RedisSource, RepositoryConfig, RequiredMount,
    SourceConfig, SourceKind, SqliteSource,
};
use crate::config::url::{checked_host, checked_name, parse_repository_url};
use crate::engines::docker::api::Address;
use crate::engines::postgres::source_url::split_postgres_url;
use crate::engines::redis::source_url::{split_redis_url, tls_files, with_tls_files};
use crate::engines::sqlite::{Method, discover};
use crate::policy::retention::KeepConfig;
use crate::policy::retention::RetentionPolicy;
use crate::policy::schedule::{Schedule, Timing};
use crate::repository::ADHOC_JOB;
use crate::repository::PRE_RESTORE_JOB;
use crate::repository::id::sanitised_job;
use crate::storage::open::checked_endpoint;
use crate::storage::s3::{ChecksumMode, MAX_PART_BYTES, MIN_PART_BYTES};

#[derive(Deserialize)]
struct RawFile {
    repository: Option<RawRepositories>,
    #[serde(default)]
    source: BTreeMap<String, RawSource>,
    #[serde(default)]
    job: BTreeMap<String, RawJob>,
    memory_limit: Option<String>,
    spool_dir: Option<PathBuf>,
    timezone: Option<String>,
    host: Option<String>,
    #[serde(default)]
    notify: Sections<RawNotify>,
    #[serde(default)]
    drill: Sections<RawDrill>,
    #[serde(default)]
    cleanup: Sections<RawCleanup>,
    status_token: Option<String>,
    status_token_file: Option<PathBuf>,
}

/// One repository, or several by their names: which of them it is, its keys say.
enum RawRepositories {
    One(Box<RawRepository>),
    Several(BTreeMap<String, RawRepository>),
}

impl<'de> Deserialize<'de> for RawRepositories {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let table = toml::Table::deserialize(deserializer)?;
        let read = if table.keys().any(|key| keys::REPOSITORY.contains(&key.as_str())) {
            table.try_into().map(|one| Self::One(Box::new(one)))
        } else {
            table.try_into().map(Self::Several)
        };
        read.map_err(|error| serde::de::Error::custom(error.to_string().trim().replace('\n', " ")))
    }
}

#[derive(Deserialize)]
struct RawRepository {
    url: String,
    endpoint: Option<String>,
    region: Option<String>,
    storage_class: Option<String>,
    sse: Option<String>,
    sse_kms_key: Option<String>,
    rate_limit: Option<String>,
    require_mountpoint: Option<RawMount>,
    path_style: Option<bool>,
    part_size: Option<String>,
    max_parts: Option<u32>,
    checksums: Option<String>,
    ca_file: Option<PathBuf>,
    access_key: Option<String>,
    secret_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawMount {
    Whether(bool),
    At(PathBuf),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawPaths {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

/// The keys of all kinds; which of them a kind may have was checked before.
#[derive(Deserialize)]
struct RawSource {
    kind: String,
    url: Option<String>,
    password_file: Option<PathBuf>,
    cert: Option<String>,
    key: Option<String>,
    cacert: Option<String>,
    parallel: Option<usize>,
    max_block: Option<String>,
    #[serde(default)]
    no_role_passwords: bool,
    #[serde(default)]
    exclude_tables: Vec<String>,
    #[serde(default)]
    exclude_schemas: Vec<String>,
    #[serde(default)]
    exclude_table_data: Vec<String>,
    #[serde(default)]
    exclude_extensions: Vec<String>,
    #[serde(default)]
    exclude_large_objects: bool,
    path: Option<RawPaths>,
    method: Option<Method>,
    root: Option<PathBuf>,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    one_file_system: bool,
    #[serde(default)]
    exclude_if_present: Vec<String>,
    #[serde(default)]
    exclude_caches: bool,
    #[serde(default)]
    allow_empty: bool,
    #[serde(default)]
    devices: bool,
    socket: Option<Address>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    containers: Vec<String>,
    #[serde(default)]
    quiesce: Vec<String>,
    stop_timeout: Option<String>,
    #[serde(default)]
    kill: bool,
    #[serde(default)]
    images: bool,
    environment: Option<bool>,
    access: Option<String>,
    #[serde(default)]
    health: Vec<String>,
    rate_limit: Option<String>,
    #[serde(default)]
    optional: bool,
}

#[derive(Deserialize)]
struct RawJob {
    sources: Vec<String>,
    schedule: Option<String>,
    timezone: Option<String>,
    jitter: Option<String>,
    timeout: Option<String>,
    keep: Option<KeepConfig>,
    #[serde(default)]
    keep_in: BTreeMap<String, KeepConfig>,
    #[serde(default)]
    repositories: Vec<String>,
    compression_level: Option<i32>,
    before: Option<RawHook>,
    after: Option<RawHook>,
    on_failure: Option<RawHook>,
    ping: Option<RawPing>,
    on_change: Option<String>,
    idle_timeout: Option<String>,
    max_stall: Option<String>,
}

/// Reads and checks a configuration file.
pub fn read(path: &Path) -> Result<Config> {
    let text = crate::base::small_file::read_small(path)
        .with_context(|| format!("read configuration \"{}\"", path.display()))
        .map_err(|e| e.with_hint("Give the right file with --config, or none to use the environment."))?;
    let config = parse(&path.display().to_string(), &text)?;
    if let Ok(document) = DeTable::parse(&text) {
        exposed::warn(path, document.get_ref());
    }
    Ok(config)
}

/// Checks the text of a configuration file; `file` is its name in messages.
pub fn parse(file: &str, text: &str) -> Result<Config> {
    let place = Place { file, text };
    let syntax = |error: toml::de::Error| {
        let at = place.at(error.span().map_or(0, |span| span.start));
        Error::invalid(format!("{at}: {}", error.message().trim()))
            .with_hint("See docs/operations.md for the file's form.")
    };
    let document = DeTable::parse(text).map_err(syntax)?;
    keys::check(place, document.get_ref())?;
    let raw: RawFile = toml::from_str(text).map_err(syntax)?;
    build(file, raw).context(file.to_owned())
}

fn build(file: &str, raw: RawFile) -> Result<Config> {
    let repositories = match raw.repository {
        None => Vec::new(),
        Some(RawRepositories::One(one)) => vec![repository("default", *one)?],
        Some(RawRepositories::Several(several)) => several
            .into_iter()
            .map(|(name, one)| repository(&name, one))
            .collect::<Result<_>>()?,
    };
    let sources = raw
        .source
        .into_iter()
        .map(|(name, one)| source(&name, one))
        .collect::<Result<Vec<SourceConfig>>>()?;
    let mut keys = BTreeMap::new();
    for source in &sources {
        if let Some(other) = keys.insert(sanitised_job(&source.name), &source.name) {
            let message = format!(
                "[source.{other}] and [source.{}] would share their object keys",
                source.name
            );
            return Err(Error::invalid(message)
                .with_hint("Keys keep small letters, digits, _ and -; give one of them another name."));
        }
    }
    let jobs = raw
        .job
        .into_iter()
        .map(|(name, one)| job(name, one, &sources, &repositories))
        .collect::<Result<Vec<JobConfig>>>()?;
    for job in &jobs {
        // Wrong expressions and zones are told at once, not when the scheduler starts.
        job.schedule(raw.timezone.as_deref(), "")?;
    }
    let job_names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    let drill_names: Vec<String> = raw.drill.keys().cloned().collect();
    let known: Vec<&str> = job_names
        .iter()
        .copied()
        .chain(drill_names.iter().map(String::as_str))
        .collect();
    if let Some(twice) = drill_names.iter().find(|name| job_names.contains(&name.as_str())) {
        return Err(Error::invalid(format!("a job and a drill are both named \"{twice}\""))
            .with_hint("Give the drill another name; messages and figures go by it."));
    }
    let repository_names: Vec<&str> = repositories.iter().map(|r| r.name.as_str()).collect();
    let each = |timing: &Timing, section: String| Schedule::of_timing(timing, &section, raw.timezone.as_deref(), "");
    let drills = raw
        .drill
        .into_iter()
        .map(|(name, one)| outside::drill(name, one, &repository_names))
        .collect::<Result<Vec<_>>>()?;
    for drill in &drills {
        each(&drill.timing, format!("[drill.{}]", drill.name))?;
    }
    let cleanups = raw
        .cleanup
        .into_iter()
        .map(|(name, one)| outside::cleanup(name, one))
        .collect::<Result<Vec<_>>>()?;
    let urls: Vec<String> = repositories.iter().map(|r| r.url.clone()).collect();
    for rule in &cleanups {
        outside::spares_repositories(rule, &urls)?;
        each(&rule.timing, format!("[cleanup.{}]", rule.name))?;
    }
    let notify = raw
        .notify
        .into_iter()
        .map(|(name, one)| outside::notify(name, one, &known))
        .collect::<Result<Vec<_>>>()?;
    let status_token = match (raw.status_token, raw.status_token_file) {
        (Some(token), _) => Some(token),
        (None, Some(path)) => Some(outside::from_file(&path).context("status_token_file")?),
        (None, None) => None,
    };
    Ok(Config {
        origin: file.to_owned(),
        repositories,
        sources,
        jobs,
        memory_limit_bytes: raw
            .memory_limit
            .map(|text| units::parse_bytes(&text))
            .transpose()
            .context("memory_limit")?,
        spool_dir: raw.spool_dir,
        timezone: raw.timezone,
        host: raw.host.as_deref().map(checked_host).transpose().context("host")?,
        notify,
        drills,
        cleanups,
        status_token: status_token.map(Secret::new),
    })
}

fn repository(name: &str, raw: RawRepository) -> Result<RepositoryConfig> {
    let section = || format!("[repository.{name}]");
    let static_keys = match (raw.access_key, raw.secret_key) {
        (Some(access), Some(secret)) => Some((Secret::new(access), Secret::new(secret))),
        (None, None) => None,
        _ => {
            return Err(Error::invalid(format!(
                "{} has only one of \"access_key\" and \"secret_key\"",
                section()
            ))
            .with_hint("Give both, or none to use the usual credential chain (AWS_*, profile, instance)."));
        }
    };
    let url = parse_repository_url(&raw.url).with_context(section)?;
    let of_s3 = [
        ("endpoint", raw.endpoint.is_some()),
        ("path_style", raw.path_style.is_some()),
        ("part_size", raw.part_size.is_some()),
        ("max_parts", raw.max_parts.is_some()),
        ("checksums", raw.checksums.is_some()),
        ("ca_file", raw.ca_file.is_some()),
    ];
    if let Some((key, _)) = of_s3.iter().find(|(_, given)| *given && !url.starts_with("s3://")) {
        return Err(
            Error::invalid(format!("{} has \"{key}\", but {url} is a directory", section()))
                .with_hint("Remove the line; it belongs to s3://bucket/prefix."),
        );
    }
    Ok(RepositoryConfig {
        name: checked_name(name).with_context(section)?,
        url,
        endpoint: raw
            .endpoint
            .as_deref()
            .map(checked_endpoint)
            .transpose()
            .with_context(section)?,
        path_style: raw.path_style,
        part_size_bytes: raw
            .part_size
            .as_deref()
            .map(part_size)
            .transpose()
            .with_context(section)?,
        max_parts: raw.max_parts.map(max_parts).transpose().with_context(section)?,
        checksums: raw
            .checksums
            .as_deref()
            .map(checksums)
            .transpose()
            .with_context(section)?,
        ca_file: raw.ca_file,
        region: raw.region,
        storage_class: raw.storage_class,
        sse: raw.sse,
        sse_kms_key: raw.sse_kms_key,
        rate_limit_bytes: raw
            .rate_limit
            .map(|text| units::parse_rate(&text))
            .transpose()
            .with_context(section)?,
        require_mountpoint: match raw.require_mountpoint {
            None | Some(RawMount::Whether(false)) => None,
            Some(RawMount::Whether(true)) => Some(RequiredMount::Any),
            Some(RawMount::At(path)) => Some(RequiredMount::At(path)),
        },
        static_keys,
    })
}

fn part_size(text: &str) -> Result<usize> {
    let bytes = units::parse_bytes(text).context("part_size")?;
    let range = MIN_PART_BYTES..=MAX_PART_BYTES;
    let bytes = usize::try_from(bytes).ok().filter(|bytes| range.contains(bytes));
    bytes.ok_or_else(|| {
        Error::invalid(format!("part_size {text} is not within 5MiB to 256MiB"))
            .with_hint("Parts wait in memory, five at once by default; 8MiB is the default.")
    })
}

fn max_parts(count: u32) -> Result<u32> {
    if (100..=10_000).contains(&count) {
        return Ok(count);
    }
    Err(Error::invalid(format!("max_parts {count} is not within 100 to 10000"))
        .with_hint("Write what the store allows for one upload, for example 1000."))
}

fn checksums(word: &str) -> Result<ChecksumMode> {
    Ok(match word {
        "auto" => ChecksumMode::Auto,
        "crc32" => ChecksumMode::Crc32,
        "sha256" => ChecksumMode::Sha256,
        "none" => ChecksumMode::None,
        other => {
            return Err(Error::invalid(format!("unknown checksums \"{other}\""))
                .with_hint("It is one of auto, crc32, sha256, none."));
        }
    })
}

fn source(name: &str, raw: RawSource) -> Result<SourceConfig> {
    let section = || format!("[source.{name}]");
    let missing = |key: &str, example: &str| {
        Error::invalid(format!("\"{key}\" is missing"))
            .with_hint(format!("Add a line {key} = \"{example}\"."))
            .context(section())
    };
    let rate_limit = raw.rate_limit.as_deref().map(units::parse_rate).transpose();
    let optional = raw.optional;
    let kind = match raw.kind.as_str() {
        "postgres" => {
            let url = raw
                .url
                .ok_or_else(|| missing("url", "postgres://user@host:5432/database"))?;
            let (url, password) = split_postgres_url(&url).with_context(section)?;
            let postgres = PostgresSource {
                url,
                password,
                password_file: raw.password_file,
                parallel: raw.parallel,
                no_role_passwords: raw.no_role_passwords,
                max_block_seconds: raw
                    .max_block
                    .map(|text| parse_duration(&text).map(|d| d.as_secs().max(1)).with_context(section))
                    .transpose()?,
                exclude_tables: raw.exclude_tables,
                exclude_schemas: raw.exclude_schemas,
                exclude_table_data: raw.exclude_table_data,
                exclude_extensions: raw.exclude_extensions,
                exclude_large_objects: raw.exclude_large_objects,
                foreign: false,
            };
            postgres.exclusion().check().with_context(section)?;
            SourceKind::Postgres(postgres)
        }
        "redis" => {
            let url = raw.url.ok_or_else(|| missing("url", "redis://user@host:6379"))?;
            let files = [
                ("cacert", raw.cacert.as_deref()),
                ("cert", raw.cert.as_deref()),
                ("key", raw.key.as_deref()),
            ];
            let url = with_keys(&url, &files).with_context(section)?;
            let (url, password) = split_redis_url(&url).with_context(section)?;
            SourceKind::Redis(RedisSource {
                url,
                password,
                password_file: raw.password_file,
                foreign: false,
            })
        }
        "sqlite" => {
            let mut paths = match raw.path {
                Some(RawPaths::One(path)) => vec![path],
                Some(RawPaths::Several(paths)) => paths,
                None => vec![],
            };
            if paths.is_empty() {
                return Err(missing("path", "/data/app.db"));
            }
            for path in &paths {
                discover::check_pattern(path).with_context(section)?;
            }
            let many = paths.len() > 1 || paths.iter().any(|path| discover::is_place(path));
            if many && name.len() > discover::MAX_GROUP_NAME {
                let message = format!("{} names several databases, and its name is too long", section());
                return Err(Error::invalid(message).with_hint(format!(
                    "Each database gets a name that begins with it: {} letters at most.",
                    discover::MAX_GROUP_NAME
                )));
            }
            let path = paths.remove(0);
            SourceKind::Sqlite(SqliteSource {
                also: paths,
                method: raw.method.unwrap_or_default(),
                ..SqliteSource::of(path)
            })
        }
        "files" => SourceKind::Files(FilesSource {
            root: raw.root.ok_or_else(|| missing("root", "/etc/app"))?,
            include: raw.include,
            exclude: raw.exclude,
            one_file_system: raw.one_file_system,
            exclude_if_present: raw.exclude_if_present,
            exclude_caches: raw.exclude_caches,
            allow_empty: raw.allow_empty,
            devices: raw.devices,
            single_file: false,
        }),
        "docker" | "docker-volumes" => SourceKind::Docker(docker(raw).with_context(section)?),
        other => return Err(keys::later_kind(other).context(section())),
    };
    Ok(SourceConfig {
        name: checked_name(name).with_context(section)?,
        kind,
        rate_limit_bytes: rate_limit.with_context(section)?,
        optional,
    })
}

fn docker(raw: RawSource) -> Result<DockerSource> {
    let archive_api = match raw.access.as_deref() {
        None | Some("auto") => false,
        Some("archive") => true,
        Some(other) => {
            return Err(Error::invalid(format!("unknown access \"{other}\""))
                .with_hint("Write auto (the mount point where it is visible, else the archive API) or archive."));
        }
    };
    Ok(DockerSource {
        socket: raw.socket,
        volumes: raw.volumes,
        exclude: raw.exclude,
        labels: raw.labels,
        containers: raw.containers,
        quiesce: raw.quiesce,
        stop_timeout_seconds: raw
            .stop_timeout
            .map(|text| parse_duration(&text).map(|d| d.as_secs().max(1)))
            .transpose()
            .context("stop_timeout")?,
        kill: raw.kill,
        images: raw.images,
        no_environment: raw.environment == Some(false),
        archive_api,
        health: raw.health,
    })
}

fn job(name: String, raw: RawJob, sources: &[SourceConfig], repositories: &[RepositoryConfig]) -> Result<JobConfig> {
    let section = format!("[job.{name}]");
    checked_name(&name).context(section.clone())?;
    if [ADHOC_JOB, PRE_RESTORE_JOB].contains(&sanitised_job(&name).as_str()) {
        return Err(Error::invalid(format!("{section}: the name is reserved")).with_hint(
            "Backups of URLs, and what restores replace, are kept under it by rules of their own. Choose another name.",
        ));
    }
    if raw.sources.is_empty() {
        return Err(Error::invalid(format!("{section} has no sources")).with_hint("Name at least one [source.NAME]."));
    }
    let all_sources = sources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>();
    let all_repositories = repositories.iter().map(|r| r.name.as_str()).collect::<Vec<_>>();
    for wanted in &raw.sources {
        defined(wanted, "source", &all_sources, &section)?;
    }
    for wanted in raw.repositories.iter().chain(raw.keep_in.keys()) {
        defined(wanted, "repository", &all_repositories, &section)?;
    }
    let watchable = |name: &String| {
        let of = sources.iter().find(|source| source.name == *name);
        of.is_some_and(|source| matches!(source.kind, SourceKind::Files(_) | SourceKind::Sqlite(_)))
    };
    if raw.on_change.is_some() && !raw.sources.iter().any(watchable) {
        return Err(Error::invalid(format!("on_change: {section} has no files to watch"))
            .with_hint("It needs a source of kind files or sqlite; others run by a schedule."));
    }
    if let Some(level) = raw.compression_level.filter(|level| !(1..=19).contains(level)) {
        return Err(
            Error::invalid(format!("compression_level {level} of {section} is not within 1 to 19"))
                .with_hint("1 is fast and the default; 19 is slow and small."),
        );
    }
    for keep in raw.keep.iter().chain(raw.keep_in.values()) {
        if keep.storage_class.is_none() && RetentionPolicy::from(keep).is_empty() {
            return Err(Error::invalid(format!("the keep rules of {section} keep no snapshot"))
                .with_hint("Give at least one rule with a number above 0, or leave \"keep\" out to keep everything."));
        }
    }
    Ok(JobConfig {
        name,
        sources: raw.sources,
        schedule: raw.schedule,
        timezone: raw.timezone,
        jitter: duration(raw.jitter, "jitter")?.unwrap_or_default(),
        timeout: duration(raw.timeout, "timeout")?,
        keep: raw.keep,
        keep_in: raw.keep_in,
        repositories: raw.repositories,
        compression_level: raw.compression_level,
        hooks: Hooks {
            before: outside::hook(raw.before, "before").context(section.clone())?,
            after: outside::hook(raw.after, "after").context(section.clone())?,
            on_failure: outside::hook(raw.on_failure, "on_failure").context(section.clone())?,
        },
        ping: outside::ping(raw.ping).context(section.clone())?,
        on_change: duration(raw.on_change, "on_change")?,
        idle_timeout: duration(raw.idle_timeout, "idle_timeout")?,
        max_stall: duration(raw.max_stall, "max_stall")?,
    })
}

fn duration(text: Option<String>, key: &str) -> Result<Option<std::time::Duration>> {
    text.map(|text| units::parse_duration(&text))
        .transpose()
        .context(key.to_owned())
}

/// Refuses a word that is none of those that are possible.
pub(super) fn one_of(word: &str, key: &str, all: &[&str], section: &str) -> Result<()> {
    if all.contains(&word) {
        return Ok(());
    }
    let hint = format!("It is one of {}.", all.join(", "));
    Err(Error::invalid(format!("unknown {key} \"{word}\" in {section}")).with_hint(hint))
}

/// Refuses a name that nothing defines.
pub(super) fn defined(wanted: &str, what: &str, all: &[&str], section: &str) -> Result<()> {
    if all.contains(&wanted) {
        return Ok(());
    }
    Err(
        Error::invalid(format!("{section} names {what} \"{wanted}\", which is not defined")).with_hint(
            match nearest(wanted, all.iter().copied()) {
                Some(near) => format!("Did you mean \"{near}\"?"),
                None => format!("Define it as [{what}.{wanted}]."),
            },
        ),
    )
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
            Error::invalid(format!("\"{twice}\" stands in the URL and as a key")).with_hint("Leave one of them out.")
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
            (
                "kind = \"files\"",
                "kind = \"postgres-physical\"",
                "not yet supported",
                "postgres, redis, sqlite, files, docker",
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
