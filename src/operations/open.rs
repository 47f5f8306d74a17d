//! Configuration to live things: stores and sources.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::base::error::{Context as _, Error, Result};
use crate::config::{self, RepositoryConfig, SourceConfig, SourceKind};
use crate::engines::Source;
use crate::engines::docker::api::Address;
use crate::engines::docker::api::select::VolumeFilter;
use crate::engines::docker::{Access, DockerOptions, DockerSource};
use crate::engines::files::{FilesOptions, FilesSource};
use crate::engines::own;
use crate::engines::postgres::{ConnectOptions, Params, PostgresSource};
use crate::engines::redis::{RedisAddress, RedisOptions, RedisSource};
use crate::engines::sqlite::discover::NoDatabases;
use crate::engines::sqlite::{SqliteOptions, SqliteSource};
use crate::operations::meant;
use crate::operations::session::process_environment;
use crate::storage::limit::{LimitOptions, LimitStore};
use crate::storage::retry::RetryOptions;
use crate::storage::s3::{Encryption, S3Options};
use crate::storage::{self, SharedStore};

/// Opens the store of a repository; nothing is sent yet. `cancel` ends what waits for its rate limit.
pub(crate) async fn store(repository: &RepositoryConfig, cancel: &CancellationToken) -> Result<SharedStore> {
    let encryption = match repository.sse.as_deref() {
        None => None,
        Some("AES256") => Some(Encryption::Aes256),
        Some("aws:kms") => Some(Encryption::Kms(repository.sse_kms_key.clone())),
        Some(other) => {
            return Err(Error::invalid(format!("unknown server-side encryption \"{other}\""))
                .with_hint("Write AES256 or aws:kms."));
        }
    };
    let options = S3Options {
        endpoint: repository.endpoint.clone(),
        region: repository.region.clone(),
        access_key: repository
            .static_keys
            .as_ref()
            .map(|(key, secret)| (key.expose().to_owned(), secret.expose().to_owned())),
        encryption,
        path_style: repository.path_style,
        checksums: repository.checksums.unwrap_or_default(),
        max_parts: repository.max_parts,
        part_bytes: repository.part_size_bytes.unwrap_or_default(),
        ca_file: repository.ca_file.clone(),
        ..S3Options::default()
    };
    meant::check_mount(repository)?;
    if let Some(path) = storage::open::local_path(&repository.url) {
        own::keep_out(&path);
    }
    let store = storage::open::open(&repository.url, options, RetryOptions::default()).await?;
    Ok(match repository.rate_limit_bytes {
        None => store,
        Some(rate) => {
            let options = LimitOptions {
                upload_bytes_per_second: Some(rate),
                download_bytes_per_second: Some(rate),
            };
            Arc::new(LimitStore::new(store, options).until(cancel.clone()))
        }
    })
}

/// Makes a source; nothing is connected yet.
pub(crate) fn source(config: &SourceConfig) -> Result<Arc<dyn Source>> {
    match &config.kind {
        SourceKind::Postgres(source) => {
            let limit = source.max_block_seconds.map(Duration::from_secs);
            let opened = PostgresSource::new(postgres(source)?).with_max_block(limit);
            let opened = opened.without_role_passwords(source.no_role_passwords);
            Ok(Arc::new(opened.without(source.exclusion())))
        }
        SourceKind::Redis(source) => Ok(Arc::new(RedisSource::new(RedisOptions::new(redis(source)?)))),
        SourceKind::Sqlite(sqlite) if sqlite.unsearched.is_some() || sqlite.is_several() => {
            Ok(Arc::new(NoDatabases::of(sqlite.patterns(), sqlite.unsearched.clone())))
        }
        SourceKind::Sqlite(sqlite) => {
            let mut options = SqliteOptions::new(sqlite.path.clone());
            options.method = sqlite.method;
            Ok(Arc::new(SqliteSource::new(options)))
        }
        SourceKind::Files(files) => Ok(Arc::new(FilesSource::new(files_options(files))?)),
        SourceKind::Docker(docker) => Ok(Arc::new(DockerSource::new(docker_options(docker)?))),
    }
}

/// Says how a file tree is read.
pub(crate) fn files_options(files: &config::FilesSource) -> FilesOptions {
    FilesOptions {
        root: files.root.clone(),
        include: files.include.clone(),
        exclude: files.exclude.clone(),
        one_file_system: files.one_file_system,
        exclude_if_present: files.exclude_if_present.clone(),
        exclude_caches: files.exclude_caches,
        single_file: files.single_file,
    }
}

/// How long a container may take to stop where nothing is said.
const STOP_TIMEOUT_SECONDS: u64 = 30;

/// Finds the engine's socket and says how its volumes are read.
pub(crate) fn docker_options(docker: &config::DockerSource) -> Result<DockerOptions> {
    let host = process_environment("DOCKER_HOST");
    Ok(DockerOptions {
        socket: Address::meant(docker.socket.as_ref(), host.as_deref())?,
        wanted: VolumeFilter {
            volumes: docker.volumes.clone(),
            exclude: docker.exclude.clone(),
            containers: docker.containers.clone(),
            labels: docker.labels.clone(),
        },
        quiesce: docker.quiesce.clone(),
        stop_timeout: Duration::from_secs(docker.stop_timeout_seconds.unwrap_or(STOP_TIMEOUT_SECONDS)),
        kill: docker.kill,
        images: docker.images,
        environment: !docker.no_environment,
        access: if docker.archive_api {
            Access::Archive
        } else {
            Access::Auto
        },
    })
}

/// Finds out how to log in: the configuration's password, its file, PGPASSWORD, `~/.pgpass`, in this order. A server that only
/// a manifest names gets none of them that was not meant for it.
pub(crate) fn postgres(source: &config::PostgresSource) -> Result<ConnectOptions> {
    let wrong = || format!("invalid PostgreSQL URL \"{}\"", config::redact_url(&source.url));
    let mut params = Params::parse(&source.url).with_context(wrong)?;
    if let Some(password) = &source.password {
        params.set("password", password.expose().to_owned())?;
    }
    let env = |name: &str| process_environment(name).filter(|value| !value.is_empty());
    if source.foreign {
        return ConnectOptions::from_foreign_params(params, &env);
    }
    ConnectOptions::from_params(params, source.password_file.as_deref(), &env)
}

/// Finds out how to log in: the configuration's password, its file, REDISCLI_AUTH, in this order. A server that only a
/// manifest names gets none but a password that was found for it.
pub(crate) fn redis(source: &config::RedisSource) -> Result<RedisAddress> {
    let env = |name: &str| process_environment(name).filter(|value| !value.is_empty() && !source.foreign);
    let password = source.password.as_ref().map(|password| password.expose().to_owned());
    let file = source.password_file.as_deref().filter(|_| !source.foreign);
    RedisAddress::from_url(&source.url, password, file, &env)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::keys::Section;
    use crate::engines::docker::keys::DockerKeys;

    #[test]
    fn the_default_that_is_declared_is_the_one_that_holds() {
        let key = DockerKeys::KEYS.iter().find(|key| key.name == "stop_timeout").unwrap();
        let options = docker_options(&config::DockerSource::default()).unwrap();
        let declared = key.default.unwrap().trim_matches('"');
        assert_eq!(
            crate::base::units::parse_duration(declared).unwrap(),
            options.stop_timeout
        );
    }
}
