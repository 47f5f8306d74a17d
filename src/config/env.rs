//! Configuration out of the environment alone, under the names people already have in their compose files.

use std::path::PathBuf;

use crate::base::environment::VARIABLES;
use crate::base::error::{Context, Error, Result};
use crate::base::nearest::nearest;
use crate::base::secret::Secret;
use crate::config::Ping;
use crate::config::types::{Config, FilesSource, JobConfig, RepositoryConfig, SourceConfig, SourceKind};
use crate::config::url::{parse_repository_url, parse_source_url, unique_names};
use crate::engines::postgres::Params;
use crate::policy::retention::KeepConfig;
use crate::storage::open::checked_endpoint;

/// Where variables are looked up; tests pass their own.
pub struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Environment")
    }
}

impl<'a> Environment<'a> {
    /// Looks variables up by `lookup`.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self(lookup)
    }

    /// Returns a variable that is set and not empty.
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }
}

/// What our own names begin with that nothing else may begin with.
const PREFIX: &str = "BACKUP_";

/// Returns our own names that begin so, each with its `_FILE` where it has one.
fn backup_names() -> Vec<String> {
    let ours = VARIABLES.iter().filter(|variable| variable.name.starts_with(PREFIX));
    let mut names: Vec<String> = ours
        .flat_map(|variable| {
            let of_file = variable.has_file.then(|| format!("{}_FILE", variable.name));
            std::iter::once(variable.name.to_owned()).chain(of_file)
        })
        .collect();
    names.sort();
    names
}

/// Refuses names that begin with `BACKUP_` and mean nothing: a rule that is misspelled would keep, or remove, in silence.
/// What is not near one of ours may be another program's, as long as the environment configures no job.
pub fn refuse_unknown_names<'n>(names: impl IntoIterator<Item = &'n str>, config: &Config) -> Result<()> {
    let ours = backup_names();
    let unknown = |name: &&str| name.starts_with(PREFIX) && ours.iter().all(|one| one != name);
    for name in names.into_iter().filter(unknown) {
        let what = || Error::invalid(format!("unknown environment variable {name}"));
        // Without what they all begin with, which would make everything look alike.
        let near = nearest(bare(name), ours.iter().map(|name| bare(name)));
        match near {
            Some(near) => return Err(what().with_hint(format!("Did you mean {PREFIX}{near}?"))),
            None if config.jobs.is_empty() => {}
            None => {
                let hint = format!(
                    "Known names are {}. Unset it, or use a configuration file, which replaces the environment.",
                    ours.join(", ")
                );
                return Err(what().with_hint(hint));
            }
        }
    }
    Ok(())
}

fn bare(name: &str) -> &str {
    name.trim_start_matches(PREFIX)
}

/// Makes a configuration of the environment: one repository, one job `full` of everything that is named.
pub fn from_environment(env: &Environment<'_>) -> Result<Config> {
    let mut sources = Vec::new();
    sources.extend(postgres(env)?);
    if let Some(url) = env.get("REDIS_URL") {
        sources.push(parse_source_url(&url).context("REDIS_URL")?);
    }
    if let Some(path) = env.get("DB_PATH") {
        if path.contains("://") {
            return Err(
                Error::invalid("DB_PATH holds a URL").with_hint("A server goes into DATABASE_URL or REDIS_URL.")
            );
        }
        sources.push(parse_source_url(&format!("sqlite:{path}")).context("DB_PATH")?);
    }
    let paths = env.get("BACKUP_PATHS");
    if paths.as_ref().is_some_and(|paths| paths.contains("://")) {
        return Err(Error::invalid("BACKUP_PATHS holds a URL").with_hint(
            "It takes directories and files, with : or , between them; DATABASE_URL and REDIS_URL are for servers, DB_PATH for a SQLite database.",
        ));
    }
    for path in paths
        .iter()
        .flat_map(|paths| paths.split([':', ',']))
        .map(str::trim)
        .filter(|p| !p.is_empty())
    {
        sources.push(files(path)?);
    }
    unique_names(&mut sources);
    let jobs = if sources.is_empty() {
        vec![]
    } else {
        vec![job(env, &sources)?]
    };
    Ok(Config {
        origin: "the environment".to_owned(),
        repositories: vec![repository(env)?],
        sources,
        jobs,
        status_token: env.get("WIREVAULT_STATUS_TOKEN").map(Secret::new),
        ..Config::default()
    })
}

fn postgres(env: &Environment<'_>) -> Result<Option<SourceConfig>> {
    if let Some(url) = env.get("DATABASE_URL") {
        return parse_source_url(&url).context("DATABASE_URL").map(Some);
    }
    let pick = |first: &str, second: &str| env.get(first).or_else(|| env.get(second));
    // The source would be called after it, password and all.
    let names = [
        "POSTGRES_HOST",
        "PGHOST",
        "POSTGRES_USER",
        "PGUSER",
        "POSTGRES_DB",
        "PGDATABASE",
        "PGSERVICE",
    ];
    if let Some(name) = names
        .into_iter()
        .find(|name| env.get(name).is_some_and(|value| value.contains("://")))
    {
        return Err(Error::invalid(format!("{name} holds a URL")).with_hint("A whole URL goes into DATABASE_URL."));
    }
    // A service comes before PG* variables, as in libpq, and is read when it is connected to.
    let service = env.get("PGSERVICE").filter(|_| env.get("POSTGRES_HOST").is_none());
    // It may hold the password, which comes before PGPASSWORD.
    let password = match service {
        Some(_) => env.get("POSTGRES_PASSWORD"),
        None => pick("POSTGRES_PASSWORD", "PGPASSWORD"),
    };
    let mut params = Params::default();
    if let Some(service) = service {
        params.set("service", service)?;
        // libpq does not know these names: they are as good as written into the connection string.
        for (name, variable) in [
            ("user", "POSTGRES_USER"),
            ("dbname", "POSTGRES_DB"),
            ("port", "POSTGRES_PORT"),
        ] {
            params.set(name, env.get(variable).unwrap_or_default())?;
        }
    } else {
        let (host, address) = (pick("POSTGRES_HOST", "PGHOST"), env.get("PGHOSTADDR"));
        if host.is_none() && address.is_none() {
            return Ok(None);
        }
        let user = pick("POSTGRES_USER", "PGUSER").unwrap_or_else(|| "postgres".to_owned());
        let database = pick("POSTGRES_DB", "PGDATABASE").unwrap_or_else(|| user.clone());
        let port = pick("POSTGRES_PORT", "PGPORT").unwrap_or_else(|| "5432".to_owned());
        for (name, value) in [("user", user), ("dbname", database), ("port", port)] {
            params.set(name, value)?;
        }
        // An address alone is the host: a manifest's hostaddr is followed by nobody.
        params.set("host", host.or(address).unwrap_or_default())?;
    }
    let url = params.to_url();
    let mut source = parse_source_url(&url).context("POSTGRES_HOST, POSTGRES_USER, POSTGRES_DB")?;
    if let SourceKind::Postgres(postgres) = &mut source.kind {
        postgres.password = password.map(Secret::new);
    }
    Ok(Some(source))
}

fn files(path: &str) -> Result<SourceConfig> {
    let mut source = parse_source_url(&format!("files:{path}")).context("BACKUP_PATHS")?;
    source.kind = SourceKind::Files(FilesSource {
        root: PathBuf::from(path),
        ..FilesSource::default()
    });
    Ok(source)
}

fn repository(env: &Environment<'_>) -> Result<RepositoryConfig> {
    let bucket = env.get("S3_BACKUP_BUCKET");
    let enabled = match env
        .get("S3_BACKUP_ENABLED")
        .as_deref()
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        None => bucket.is_some(),
        Some("true" | "1" | "yes" | "on") => true,
        Some("false" | "0" | "no" | "off") => false,
        Some(other) => {
            return Err(Error::invalid(format!("S3_BACKUP_ENABLED is \"{other}\"")).with_hint("Write true or false."));
        }
    };
    if !enabled {
        let directory = env
            .get("BACKUP_DIR")
            .unwrap_or_else(|| "/var/backups/wirevault".to_owned());
        return Ok(RepositoryConfig::from_url(
            "default",
            parse_repository_url(&format!("file://{directory}")).context("BACKUP_DIR")?,
        ));
    }
    let bucket = bucket.ok_or_else(|| {
        Error::invalid("S3_BACKUP_ENABLED is true, but S3_BACKUP_BUCKET is not set")
            .with_hint("Set S3_BACKUP_BUCKET to the bucket's name.")
    })?;
    let url = if bucket.starts_with("s3://") {
        bucket
    } else {
        format!("s3://{bucket}")
    };
    let mut repository = RepositoryConfig::from_url("default", parse_repository_url(&url).context("S3_BACKUP_BUCKET")?);
    s3_of(env, &mut repository)?;
    Ok(repository)
}

/// Puts what `S3_*` says of a store into a repository that no file describes. `AWS_*` names, `AWS_ENDPOINT_URL` included, are
/// read by the credential chain itself.
pub(super) fn s3_of(env: &Environment<'_>, repository: &mut RepositoryConfig) -> Result<()> {
    if !repository.url.starts_with("s3://") {
        return Ok(());
    }
    repository.endpoint = env
        .get("S3_ENDPOINT")
        .map(|endpoint| checked_endpoint(&endpoint))
        .transpose()
        .context("S3_ENDPOINT")?;
    repository.region = env.get("S3_REGION");
    repository.static_keys = match (env.get("S3_ACCESS_KEY"), env.get("S3_SECRET_KEY")) {
        (Some(access), Some(secret)) => Some((Secret::new(access), Secret::new(secret))),
        (None, None) => None,
        (access, _) => {
            let missing = if access.is_some() {
                "S3_SECRET_KEY"
            } else {
                "S3_ACCESS_KEY"
            };
            return Err(
                Error::invalid(format!("{missing} is not set, but the other key of the pair is"))
                    .with_hint("Set both S3_ACCESS_KEY and S3_SECRET_KEY, or neither to use AWS_* or a profile."),
            );
        }
    };
    Ok(())
}

fn job(env: &Environment<'_>, sources: &[SourceConfig]) -> Result<JobConfig> {
    let days = env.get("BACKUP_RETENTION_DAYS").unwrap_or_else(|| "30".to_owned());
    let within_days = days.trim().parse().ok().filter(|days| *days > 0).ok_or_else(|| {
        Error::invalid(format!("BACKUP_RETENTION_DAYS is \"{days}\"")).with_hint(
            "Write a number of days from 1, for example 30. To keep every snapshot, use a configuration file without keep.",
        )
    })?;
    Ok(JobConfig {
        name: "full".to_owned(),
        sources: sources.iter().map(|s| s.name.clone()).collect(),
        schedule: Some(env.get("BACKUP_SCHEDULE").unwrap_or_else(|| "0 2 * * *".to_owned())),
        keep: Some(KeepConfig {
            last: 1,
            within_days,
            ..KeepConfig::default()
        }),
        ping: Ping {
            success: env.get("BACKUP_PING_URL").map(Secret::new),
            ..Ping::default()
        },
        ..JobConfig::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<Config> {
        let lookup = |name: &str| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        from_environment(&Environment::new(&lookup))
    }

    #[test]
    fn a_compose_file_is_enough() {
        let config = config(&[
            ("POSTGRES_HOST", "db"),
            ("POSTGRES_USER", "app"),
            ("POSTGRES_PASSWORD", "geheim"),
            ("POSTGRES_DB", "media"),
            ("DB_PATH", "/data/media.db"),
            ("BACKUP_PATHS", "/etc/app:/srv/conf"),
            ("S3_BACKUP_BUCKET", "backups"),
            ("S3_ACCESS_KEY", "a"),
            ("S3_SECRET_KEY", "geheim"),
            ("BACKUP_RETENTION_DAYS", "7"),
        ])
        .unwrap();
        assert_eq!(config.jobs[0].sources, ["media", "media-2", "app", "conf"]);
        assert_eq!(config.jobs[0].keep.as_ref().unwrap().within_days, 7);
        assert_eq!(config.repositories[0].url, "s3://backups");
        assert!(config.repositories[0].static_keys.is_some());
        assert!(!format!("{config:?}").contains("geheim"));
    }

    #[test]
    fn servers_of_the_environment_are_read_as_libpq_reads_them() {
        let url = |pairs: &[(&str, &str)]| match &config(pairs).unwrap().sources[0].kind {
            SourceKind::Postgres(source) => source.url.clone(),
            other => other.word().to_owned(),
        };
        assert_eq!(
            url(&[("PGHOST", "db"), ("PGUSER", "a b")]),
            "postgres://a%20b@db:5432/a%20b"
        );
        assert_eq!(
            url(&[("PGHOST", "/run/pg"), ("PGPORT", "6")]),
            "postgres:///postgres?host=/run/pg&port=6&user=postgres"
        );
        assert_eq!(
            url(&[("PGHOST", "a,b"), ("PGPORT", "1,2"), ("PGDATABASE", "x")]),
            "postgres:///x?host=a,b&port=1,2&user=postgres"
        );
        assert_eq!(url(&[("PGSERVICE", "wv"), ("PGHOST", "db")]), "postgres:///?service=wv");
        assert_eq!(
            url(&[("PGHOSTADDR", "10.0.0.1"), ("PGUSER", "u")]),
            "postgres://u@10.0.0.1:5432/u"
        );
        assert_eq!(
            url(&[("PGHOST", "db"), ("PGHOSTADDR", "10.0.0.1"), ("PGUSER", "u")]),
            "postgres://u@db:5432/u"
        );
        assert_eq!(
            url(&[
                ("PGSERVICE", "wv"),
                ("POSTGRES_DB", "shop"),
                ("POSTGRES_USER", "app"),
                ("POSTGRES_PORT", "6"),
                ("PGDATABASE", "not this")
            ]),
            "postgres:///shop?port=6&service=wv&user=app"
        );
        let strings = [
            ("DATABASE_URL", "host=db user=app dbname=x password='a b'"),
            ("DATABASE_URL", "postgres://app:a%20b@db/x"),
        ];
        for string in strings {
            assert_eq!(url(&[string]), "postgres://app@db/x");
        }
    }

    #[test]
    fn the_directory_is_used_while_s3_is_off() {
        let off = config(&[
            ("S3_BACKUP_BUCKET", "b"),
            ("S3_BACKUP_ENABLED", "false"),
            ("BACKUP_DIR", "/b"),
        ])
        .unwrap();
        assert_eq!(off.repositories[0].url, "file:///b");
        assert_eq!(
            config(&[]).unwrap().repositories[0].url,
            "file:///var/backups/wirevault"
        );
        assert!(
            config(&[("S3_BACKUP_ENABLED", "true")])
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("S3_BACKUP_BUCKET")
        );
        assert!(config(&[("S3_BACKUP_ENABLED", "perhaps")]).is_err());
    }

    /// Its parts would be taken for paths, and printed: one may be a password.
    #[test]
    fn a_url_is_no_list_of_paths() {
        let error = config(&[("BACKUP_PATHS", "/etc/app,postgres://app:hidden@db/app")]).unwrap_err();
        assert!(error.chain().contains("BACKUP_PATHS") && !error.chain_and_hint().contains("hidden"));
        assert!(error.hint().unwrap().contains("DATABASE_URL"), "{error:?}");
        for name in ["POSTGRES_USER", "PGDATABASE"] {
            let error = config(&[("POSTGRES_HOST", "db"), (name, "postgres://app:hidden@db/app")]).unwrap_err();
            assert!(
                error.chain().contains(name) && !error.chain_and_hint().contains("hidden"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_retention_that_keeps_nothing_or_is_misspelled_is_refused() {
        for days in ["0", "-1", "a week", "99999999999"] {
            let error = config(&[("DB_PATH", "/a.db"), ("BACKUP_RETENTION_DAYS", days)]).unwrap_err();
            assert!(error.hint().unwrap().contains("from 1"), "{days}: {error:?}");
        }
        let job = config(&[("DB_PATH", "/a.db")]).unwrap();
        let none = config(&[]).unwrap();
        for (name, meant) in [
            ("BACKUP_RETENTION_DAY", "BACKUP_RETENTION_DAYS"),
            ("BACKUP_RETENTION", "BACKUP_RETENTION_DAYS"),
            ("BACKUP_SHEDULE", "BACKUP_SCHEDULE"),
            ("BACKUP_PATH", "BACKUP_PATHS"),
        ] {
            for config in [&job, &none] {
                let error = refuse_unknown_names(["PATH", name], config).unwrap_err();
                assert!(error.chain().contains(name), "{error:?}");
                assert!(error.hint().unwrap().contains(meant), "{name}: {error:?}");
            }
        }
        // Another program's.
        refuse_unknown_names(["BACKUP_XYZ", "BACKUP_DIR", "HOME"], &none).unwrap();
        let error = refuse_unknown_names(["BACKUP_XYZ"], &job).unwrap_err();
        assert!(error.hint().unwrap().contains("BACKUP_SCHEDULE"), "{error:?}");
    }
}
