//! Sources and repositories as URLs: `postgres://app@db/app`, `sqlite:data/app.db`, `files:/etc/app`, `s3://bucket/app`.

use std::path::{Path, PathBuf};

use url::Url;

use crate::base::error::{Context as _, Error, Result};
use crate::base::nearest::nearest;
use crate::base::secret::Secret;
use crate::config::keys::parameters;
use crate::config::redact::redact_url;
use crate::config::types::{
    DockerSource, FilesSource, PostgresSource, RedisSource, SourceConfig, SourceKind, SqliteSource,
};
use crate::engines::docker::api::Address;
use crate::engines::postgres::session::conninfo::is_keywords;
use crate::engines::postgres::{Params, is_connection_string};
use crate::engines::redis::RedisAddress;
use crate::repository::id::sanitised_job;

const SOURCE_SCHEMES: &[&str] = &[
    "postgres",
    "postgresql",
    "sqlite",
    "files",
    "redis",
    "rediss",
    "valkey",
    "valkeys",
    "docker",
];
/// Schemes of Redis and Valkey servers; those that end in `s` ask for TLS.
const REDIS_SCHEMES: &[&str] = &["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix"];
const REPOSITORY_SCHEMES: &[&str] = &["s3", "file"];

/// Reads the URL of a source; its name is derived: database, file stem, last path segment.
pub fn parse_source_url(text: &str) -> Result<SourceConfig> {
    if is_keywords(text) {
        return postgres_source(text);
    }
    // What stands before a colon may be anything, a password for one.
    let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        return Err(no_source(text));
    };
    match scheme {
        scheme
            if ["postgres", "postgresql"]
                .iter()
                .any(|one| scheme.eq_ignore_ascii_case(one)) =>
        {
            postgres_source(text)
        }
        "sqlite" => {
            let path = local_path(text, rest)?;
            // Of a pattern, the directory that it is about.
            let about = crate::engines::sqlite::discover::fixed_part(&path);
            let name = derived_name(&about.file_stem().unwrap_or_default().to_string_lossy(), "sqlite");
            Ok(SourceConfig {
                rate_limit_bytes: None,
                optional: false,
                name,
                kind: SourceKind::Sqlite(SqliteSource::of(path)),
            })
        }
        "files" => {
            let root = local_path(text, rest)?;
            let name = derived_name(&root.file_name().unwrap_or_default().to_string_lossy(), "files");
            let kind = SourceKind::Files(FilesSource {
                root,
                ..FilesSource::default()
            });
            Ok(SourceConfig {
                name,
                kind,
                rate_limit_bytes: None,
                optional: false,
            })
        }
        scheme if REDIS_SCHEMES.contains(&scheme) => {
            let (url, password) = split_redis_url(text)?;
            Ok(SourceConfig {
                rate_limit_bytes: None,
                optional: false,
                name: "redis".to_owned(),
                kind: SourceKind::Redis(RedisSource {
                    url,
                    password,
                    ..RedisSource::default()
                }),
            })
        }
        "docker" => {
            let docker = parse_docker(text, rest)?;
            let name = match docker.volumes.as_slice() {
                [one] => derived_name(one, "docker"),
                _ => "docker".to_owned(),
            };
            Ok(SourceConfig {
                rate_limit_bytes: None,
                optional: false,
                name,
                kind: SourceKind::Docker(docker),
            })
        }
        other => Err(Error::invalid(format!(
            "unknown kind of source \"{other}:\" in \"{}\"",
            redact_url(text)
        ))
        .with_hint(did_you_mean(
            other,
            SOURCE_SCHEMES,
            "Sources are postgres://…, redis://…, sqlite:PATH, files:PATH and docker:VOLUME.",
        ))),
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
}

/// The error for a text that is neither a job nor a URL, be it nearly a connection string.
fn no_source(text: &str) -> Error {
    let shown = redact_url(text);
    let is_quoted = text.trim().starts_with(['"', '\'']);
    let hint = if is_quoted {
        "The quotes are part of the text, as docker's --env-file leaves them there: write it without them.".to_owned()
    } else if text.contains('=') && text.contains(|c: char| c == ';' || c.is_whitespace()) {
        "Write postgres://user@host/database, or libpq's keywords with blanks between them: host=… user=… dbname=…; leave the \
         password to PGPASSWORD or ~/.pgpass."
            .to_owned()
    } else {
        format!("Write a URL such as files:{shown}, sqlite:{shown} or postgres://user@host/database.")
    };
    Error::invalid(format!("\"{shown}\" is neither a job nor the URL of a source")).with_hint(hint)
}

fn postgres_source(text: &str) -> Result<SourceConfig> {
    let (url, password) = split_postgres_url(text)?;
    let name = derived_name(&postgres_name(&url), "postgres");
    Ok(SourceConfig {
        rate_limit_bytes: None,
        optional: false,
        name,
        kind: SourceKind::Postgres(PostgresSource {
            url,
            password,
            ..PostgresSource::default()
        }),
    })
}

/// Reads `docker:`, `docker:VOLUME,VOLUME`, `docker:///run/docker.sock`, `docker:tcp://host:2375`, each with `?volume=…&label=…&container=…&quiesce=…`.
fn parse_docker(text: &str, rest: &str) -> Result<DockerSource> {
    let wrong = |why: String| {
        Error::invalid(format!("invalid URL of Docker volumes \"{}\": {why}", redact_url(text))).with_hint(
            "Write docker: for everything, docker:VOLUME,VOLUME, docker:tcp://host:2375, or docker:///run/docker.sock?volume=NAME&label=KEY=VALUE&quiesce=NAME.",
        )
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut docker = DockerSource::default();
    let words = |list: &str| {
        list.split(',')
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    match place.strip_prefix("//") {
        Some(path) if path.starts_with('/') => docker.socket = Some(PathBuf::from(path).into()),
        Some("") => {}
        Some(host) => return Err(wrong(format!("an engine over a network is docker:tcp://{host}"))),
        None if place.starts_with('/') => docker.socket = Some(PathBuf::from(place).into()),
        None if place.contains("://") => {
            // Behind the port, names of volumes may stand: docker:tcp://host:2375/uploads.
            let (scheme, rest) = place.split_once("://").unwrap_or((place, ""));
            let (host, volumes) = rest.split_once('/').unwrap_or((rest, ""));
            let address = match scheme {
                "unix" => format!("unix://{rest}"),
                _ => format!("{scheme}://{host}"),
            };
            docker.socket = Some(Address::parse(&address).map_err(|error| wrong(error.chain()))?);
            docker.volumes = if scheme == "unix" { vec![] } else { words(volumes) };
        }
        None => docker.volumes = words(place),
    }
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "volume" => docker.volumes.extend(words(&value)),
            "exclude" => docker.exclude.extend(words(&value)),
            "label" => docker.labels.push(value.into_owned()),
            "container" => docker.containers.extend(words(&value)),
            "quiesce" => docker.quiesce.extend(words(&value)),
            "images" => docker.images = &*value != "false",
            "access" if &*value == "archive" => docker.archive_api = true,
            "access" => return Err(wrong(format!("\"{key}={value}\" is not known"))),
            _ => return Err(wrong(format!("unknown parameter \"{key}\""))),
        }
    }
    Ok(docker)
}

/// Checks the URL of a repository and returns it without a trailing slash. A path alone means a directory.
pub fn parse_repository_url(text: &str) -> Result<String> {
    let trimmed = text.trim();
    let Some((scheme, rest)) = trimmed.split_once("://") else {
        if trimmed.starts_with(['/', '.']) {
            return directory_url(Path::new(trimmed));
        }
        if let Some(path) = trimmed.strip_prefix("file:") {
            return directory_url(Path::new(path));
        }
        return Err(
            Error::invalid(format!("\"{}\" is not the URL of a repository", redact_url(trimmed)))
                .with_hint("Write s3://bucket/prefix, file:///path, or a path that begins with / or ./."),
        );
    };
    match scheme {
        "s3" => {
            let bucket = rest.split('/').next().unwrap_or_default();
            let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            if bucket.is_empty() || !bucket.chars().all(right) {
                return Err(Error::invalid(format!("\"{}\" names no bucket", redact_url(trimmed)))
                    .with_hint("Write s3://bucket/prefix; keys come from the environment or the configuration, never from the URL."));
            }
            if rest
                .split_once('?')
                .is_some_and(|(_, parameters)| parameters.contains('='))
            {
                return Err(Error::invalid(format!("\"{}\" has parameters", redact_url(trimmed)))
                    .with_hint("Write s3://bucket/prefix; endpoint, region and keys have options of their own."));
            }
            Ok(trimmed.trim_end_matches('/').to_owned())
        }
        "file" => directory_url(Path::new(rest)),
        other => Err(
            Error::invalid(format!("unknown kind of repository \"{other}://\"")).with_hint(did_you_mean(
                other,
                REPOSITORY_SCHEMES,
                "Repositories are s3://bucket/prefix and file:///path.",
            )),
        ),
    }
}

/// Splits the password off the connection string of a PostgreSQL server and checks its form. What is returned is a URL that may
/// be stored: the one that was given, where it is one that every reader understands.
pub(super) fn split_postgres_url(text: &str) -> Result<(String, Option<Secret>)> {
    let params = Params::parse(text).with_context(|| format!("invalid PostgreSQL URL \"{}\"", redact_url(text)))?;
    let password = params.get("password").map(Secret::new);
    Ok((spelled(text, &params.without_secrets()), password))
}

/// Returns the connection string of a PostgreSQL server as a URL that every reader understands, with its password; any other
/// text as it is.
pub fn postgres_url(text: &str) -> Result<String> {
    if !is_connection_string(text) {
        return Ok(text.to_owned());
    }
    let params = Params::parse(text).with_context(|| format!("invalid PostgreSQL URL \"{}\"", redact_url(text)))?;
    Ok(spelled(text, &params))
}

/// Writes parameters as a URL; as they were written, if that says the same.
fn spelled(text: &str, wanted: &Params) -> String {
    let as_written = || {
        let mut url = Url::parse(text.trim()).ok()?;
        if !wanted.has("password") && url.password().is_some() {
            url.set_password(None).ok()?;
        }
        let names: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
        let gone: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| !wanted.has(name))
            .collect();
        without_parameters(&mut url, &gone);
        Params::parse(url.as_str())
            .is_ok_and(|read| read == *wanted)
            .then(|| url.into())
    };
    as_written().unwrap_or_else(|| wanted.to_url())
}

/// Parameters of the URL of a Redis server that name files for TLS: those that stand for keys.
fn tls_parameters() -> Vec<&'static str> {
    parameters("redis").collect()
}

/// Parameters of the URL of a Redis server that say how it is read, which nobody else decides.
const REDIS_READING: &[&str] = &[
    "failover_wait",
    "scan_rate",
    "settings",
    "cluster",
    "method",
    "max_hold",
    "spool_limit",
];

/// Adds files for TLS to the URL of a Redis server, where it does not name them itself.
pub fn with_tls_files(url: &str, files: &[(&str, &str)]) -> String {
    let Ok(mut parsed) = Url::parse(url) else {
        return url.to_owned();
    };
    for (name, file) in files {
        if parsed.query_pairs().all(|(known, _)| known != *name) {
            let file: String = url::form_urlencoded::byte_serialize(file.as_bytes()).collect();
            // A path stays readable.
            let pair = format!("{name}={}", file.replace("%2F", "/"));
            let query = match parsed.query().filter(|query| !query.is_empty()) {
                Some(query) => format!("{query}&{pair}"),
                None => pair,
            };
            parsed.set_query(Some(&query));
        }
    }
    parsed.into()
}

/// Returns the files for TLS that the URL of a Redis server names.
pub fn tls_files(url: &str) -> Vec<(String, String)> {
    let Ok(parsed) = Url::parse(url) else { return Vec::new() };
    let pairs = parsed.query_pairs().into_owned();
    let names = tls_parameters();
    pairs.filter(|(name, _)| names.contains(&name.as_str())).collect()
}

/// Takes the number of a database out of the URL of a Redis server: then all of the server is meant.
pub fn without_database(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else {
        return url.to_owned();
    };
    if !parsed.scheme().ends_with("unix") {
        parsed.set_path("");
    }
    without_parameters(&mut parsed, &["db"]);
    parsed.into()
}

/// Returns whether a text is the URL of a Redis or Valkey server.
pub fn is_redis_url(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(scheme, _)| REDIS_SCHEMES.contains(&scheme))
}

/// Splits the password off the URL of a Redis or Valkey server and checks its form.
pub(super) fn split_redis_url(text: &str) -> Result<(String, Option<Secret>)> {
    let wrong = |why: &str| {
        Error::invalid(format!("invalid URL of a Redis server \"{}\": {why}", redact_url(text)))
            .with_hint("Write redis://user@host:6379, rediss://host for TLS, or unix:///path/of/the.sock.")
    };
    let mut url = Url::parse(text).map_err(|e| wrong(&e.to_string()))?;
    if !REDIS_SCHEMES.contains(&url.scheme()) || url.cannot_be_a_base() {
        return Err(wrong("it does not begin with redis://"));
    }
    if url.scheme().ends_with("unix") {
        if url.path().len() < 2 {
            return Err(wrong("it names no socket"));
        }
    } else {
        well_encoded(&url).map_err(wrong)?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong("it names no host"));
        }
    }
    let password = take_password(&mut url).map_err(wrong)?;
    RedisAddress::from_url(url.as_str(), None, None, &|_| None)?;
    Ok((url.into(), password))
}

/// Returns what a source is called after: its database, or else its service, or its user.
pub(super) fn postgres_name(url: &str) -> String {
    let params = Params::parse(url).unwrap_or_default();
    let mut names = ["dbname", "service", "user"].into_iter();
    names.find_map(|name| params.get(name)).unwrap_or_default().to_owned()
}

/// Refuses a URL in which a `/`, `?` or `#` of the password ended the user's part: what follows would be taken for a name,
/// and names are stored and printed.
fn well_encoded(url: &Url) -> std::result::Result<(), &'static str> {
    let strange = url.path().contains('@') || url.fragment().is_some();
    if strange || url.query_pairs().any(|(name, _)| name.contains('@')) {
        return Err("write /, ?, # and @ in a password or name as %2F, %3F, %23 and %40");
    }
    Ok(())
}

/// Takes the password out of a URL, be it with the user or a parameter: what is left may be stored.
fn take_password(url: &mut Url) -> std::result::Result<Option<Secret>, &'static str> {
    let mut password = match url.password() {
        None => None,
        Some(encoded) => Some(Secret::new(
            percent_encoding::percent_decode_str(encoded)
                .decode_utf8()
                .map_err(|_| "the password is not UTF-8")?
                .into_owned(),
        )),
    };
    if url.password().is_some() {
        url.set_password(None).map_err(|()| "it names no host")?;
    }
    for (key, value) in url.query_pairs() {
        if key == "password" {
            password = Some(Secret::new(value));
        }
    }
    without_parameters(url, &["password"]);
    Ok(password)
}

/// Takes parameters out of a URL, and leaves the others as they are written.
fn without_parameters(url: &mut Url, names: &[&str]) {
    let Some(query) = url.query() else { return };
    let is_one = |pair: &&str| {
        let key = url::form_urlencoded::parse(pair.as_bytes()).next();
        key.is_some_and(|(key, _)| names.contains(&&*key))
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_one(pair)).collect();
    let kept = kept.join("&");
    url.set_query(Some(kept.as_str()).filter(|query| !query.is_empty()));
}

/// Returns the URL of a server that only a manifest names, without what it may not ask for: a password, files of this host, an
/// address in place of the host's, and leave for the server to ask for a password in clear text. None if without these nothing
/// says where it is.
pub fn foreign_url(text: &str) -> Option<String> {
    let (url, has_place) = foreign(text)?;
    has_place.then_some(url)
}

/// As [`foreign_url`], for what a source was called: nobody may follow it, for it may not say where the server is.
pub fn foreign_name(text: &str) -> Option<String> {
    foreign(text).map(|(url, _)| url)
}

fn foreign(text: &str) -> Option<(String, bool)> {
    if is_connection_string(text) {
        let mut params = Params::parse(text).ok()?;
        let has_place = params.keep_foreign();
        return Some((spelled(text, &params.without_secrets()), has_place));
    }
    let mut url = Url::parse(text).ok()?;
    if url.password().is_some() {
        url.set_password(None).ok()?;
    }
    without_parameters(&mut url, &["password", "password_file", "allow_cleartext_password"]);
    // As it was read: a scheme in capitals is the same one.
    if is_redis_url(url.as_str()) {
        // Files of this host, which the word of a manifest does not choose; nor does it choose how a server is read.
        without_parameters(&mut url, &tls_parameters());
        without_parameters(&mut url, REDIS_READING);
    }
    Some((url.into(), true))
}

/// Gives sources of the same name the endings `-2`, `-3`, … Names that differ in nothing that object keys keep are the same.
pub fn unique_names(sources: &mut [SourceConfig]) {
    let mut taken = std::collections::BTreeSet::new();
    for source in sources {
        let base = source.name.clone();
        let mut number = 2;
        while !taken.insert(sanitised_job(&source.name)) {
            source.name = format!("{base}-{number}");
            number += 1;
        }
    }
}

/// Checks the name of a source, job or repository: it becomes part of object keys.
pub(super) fn checked_name(name: &str) -> Result<String> {
    let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(right) {
        return Err(Error::invalid(format!("invalid name {name:?}")).with_hint(
            "Names have 1 to 64 letters, digits, dots, underscores and hyphens, and do not begin with a dot.",
        ));
    }
    Ok(name.to_owned())
}

/// Checks the name of a host: snapshots are kept and chosen by it (`latest:HOST/JOB`).
pub fn checked_host(name: &str) -> Result<String> {
    let wrong = |c: char| c.is_control() || c.is_whitespace() || c == '/';
    if name.is_empty() || name.len() > 253 || name.contains(wrong) {
        return Err(Error::invalid(format!("invalid name of a host {name:?}"))
            .with_hint("It has 1 to 253 characters, and neither spaces nor slashes: --host, WIREVAULT_HOST or host."));
    }
    Ok(name.to_owned())
}

fn derived_name(text: &str, default: &str) -> String {
    let right = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            c
        } else {
            '-'
        }
    };
    let name: String = text.chars().map(right).take(64).collect();
    let name = name.trim_start_matches(['.', '-']).trim_end_matches('-');
    if name.is_empty() {
        default.to_owned()
    } else {
        name.to_owned()
    }
}

fn local_path(text: &str, rest: &str) -> Result<PathBuf> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() {
        return Err(
            Error::invalid(format!("\"{text}\" names no path")).with_hint("Write files:/path or sqlite:/path/app.db.")
        );
    }
    Ok(PathBuf::from(path))
}

fn directory_url(path: &Path) -> Result<String> {
    if path.as_os_str().is_empty() {
        return Err(Error::invalid("the URL of the repository names no path").with_hint("Write file:///path."));
    }
    let absolute = std::path::absolute(path)?;
    let text = absolute
        .to_str()
        .ok_or_else(|| Error::invalid(format!("path {} is not UTF-8", absolute.display())))?;
    Ok(format!(
        "file://{}",
        if text == "/" { text } else { text.trim_end_matches('/') }
    ))
}

fn did_you_mean(word: &str, all: &[&str], otherwise: &str) -> String {
    match nearest(word, all.iter().copied()) {
        Some(near) => format!("Did you mean \"{near}\"? {otherwise}"),
        None => otherwise.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn numbers_of_databases_are_taken_out() {
        for (with, without) in [
            ("redis://u@h:1/5?method=scan", "redis://u@h:1?method=scan"),
            ("redis://h?db=0&replica=yes", "redis://h?replica=yes"),
            ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock"),
            ("redis://h", "redis://h"),
        ] {
            assert_eq!(without_database(with), without);
        }
    }

    #[test]
    fn docker_urls_name_socket_volumes_and_labels() {
        let read = |text: &str| match parse_source_url(text).unwrap().kind {
            SourceKind::Docker(docker) => docker,
            other => panic!("{other:?}"),
        };
        assert_eq!(read("docker:"), DockerSource::default());
        assert_eq!(read("docker:a,b").volumes, ["a", "b"]);
        let whole = read("docker:///run/d.sock?volume=up*&label=a=b&quiesce=api&images");
        assert_eq!(whole.socket.unwrap().to_string(), "/run/d.sock");
        let far = read("docker:tcp://h:2375/uploads,media?quiesce=api");
        assert_eq!(far.socket.unwrap().to_string(), "tcp://h:2375");
        assert_eq!(
            (far.volumes, far.quiesce),
            (vec!["uploads".into(), "media".into()], vec!["api".to_owned()])
        );
        assert_eq!((whole.volumes[0].as_str(), whole.labels[0].as_str()), ("up*", "a=b"));
        assert!(whole.quiesce == ["api"] && whole.images);
        for bad in ["docker://host/x", "docker:?volumes=a", "docker:ssh://h"] {
            assert!(
                parse_source_url(bad).unwrap_err().hint().unwrap().contains("docker:"),
                "{bad}"
            );
        }
    }

    #[test]
    fn parameters_that_stand_for_keys_are_read() {
        for name in parameters("docker") {
            let read = parse_source_url(&format!("docker:?{name}=archive")).unwrap().kind;
            assert_ne!(read, parse_source_url("docker:").unwrap().kind, "{name}");
        }
        assert_eq!(tls_parameters().len(), 3);
        for name in tls_parameters() {
            assert_eq!(
                tls_files(&format!("rediss://h?{name}=/f")),
                [(name.to_owned(), "/f".to_owned())]
            );
        }
    }

    #[test]
    fn names_are_derived_and_made_unique() {
        let urls = [
            "postgres://app:pw@db/app",
            "sqlite:data/app.db",
            "files:/etc/app",
            "files:/etc/nginx/",
            "files:/",
            "redis://:pw@cache/0",
            "unix:///run/redis.sock",
            "host=/cloudsql/p:r:i user=u dbname=shop",
            "postgres:///?service=wv",
            "postgres://",
            "sqlite:APP.db",
        ];
        let mut sources: Vec<_> = urls.iter().map(|u| parse_source_url(u).unwrap()).collect();
        unique_names(&mut sources);
        let names: Vec<_> = sources.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "app", "app-2", "app-3", "nginx", "files", "redis", "redis-2", "shop", "wv", "postgres", "APP-4"
            ]
        );
    }

    #[test]
    fn wrong_urls_have_a_hint_and_show_no_password() {
        for (text, hint) in [
            ("postgre://a:geheim@b/c", "postgres"),
            ("postgres:app:geheim@b/c", "postgres://user@host"),
            ("postgres://a:geheim/x@b/c", "percent-encoded"),
            ("pasword=geheim", "files:"),
            ("host=b pasword=geheim", "password"),
            ("host=b password=top geheim", "single quotes"),
            ("host=b;username=app;password=geheim", "blanks in single quotes"),
            ("Host=b;Username=app;Password=geheim", "blanks between"),
            ("Host=b:1;Username=app;Password=geheim", "blanks between"),
            ("usr=app pasword=geheim", "blanks between"),
            ("\"host=b password=geheim\"", "without them"),
            ("\"host=b password=ge:heim\"", "without them"),
            ("'postgres://a:geheim@b/c'", "without them"),
            ("/etc/app", "files:/etc/app"),
            ("redis://", "redis://user@host"),
            ("unix:", "unix:///path"),
            ("sqlite:", "sqlite:"),
        ] {
            let error = parse_source_url(text).unwrap_err();
            assert!(error.hint().unwrap().contains(hint), "{error:?}");
            let said = format!("{error:?}");
            assert!(!said.contains("geheim") && !said.contains("ge:heim"), "{error:?}");
        }
    }

    /// What is stored is a URL that every reader understands, without secrets; a plain one stays as it was written.
    #[test]
    fn connection_strings_are_stored_as_urls() {
        for (text, stored) in [
            (
                "postgres://app:geheim@db:5433/app?sslmode=require",
                "postgres://app@db:5433/app?sslmode=require",
            ),
            (
                "postgres://app@db/app?password=geheim&sslmode=require",
                "postgres://app@db/app?sslmode=require",
            ),
            (
                "postgres://app@db/app?sslkey=k&sslpassword=geheim",
                "postgres://app@db/app?sslkey=k",
            ),
            ("postgres://%2Fvar%2Frun%2Fpg/db", "postgres://%2Fvar%2Frun%2Fpg/db"),
            ("host=db user=app password='a geheim' dbname=x", "postgres://app@db/x"),
            (
                "postgres://u:geheim@a:1,b:2/x",
                "postgres:///x?host=a,b&port=1,2&user=u",
            ),
            (
                "postgresql://u:geheim@/x?host=/run/pg",
                "postgres:///x?host=/run/pg&user=u",
            ),
        ] {
            let (url, password) = split_postgres_url(text).unwrap();
            assert_eq!(url, stored, "{text}");
            assert!(password.is_none_or(|password| password.expose().contains("geheim")));
            Url::parse(&url).unwrap();
        }
        let whole = postgres_url("host=db password=geheim").unwrap();
        assert_eq!(whole, "postgres://db/?password=geheim");
        assert_eq!(postgres_url("/srv/a=b").unwrap(), "/srv/a=b");
    }

    #[test]
    fn a_manifest_names_no_file_of_this_host() {
        for (text, left) in [
            (
                "postgres://app:geheim@db/app?sslmode=require&sslrootcert=/etc/x&service=y",
                "postgres://app@db/app?sslmode=require",
            ),
            (
                "postgres://db/app?hostaddr=10.0.0.1&options=-c%20a%3Db",
                "postgres://db/app",
            ),
            (
                "postgres:///app?host=a,b&passfile=/etc/shadow&sslcert=/c&sslkey=/k",
                "postgres:///app?host=a,b",
            ),
            ("redis://:geheim@cache:1?password_file=/etc/shadow", "redis://cache:1"),
        ] {
            assert_eq!(foreign_url(text).unwrap(), left);
        }
        assert!(foreign_url("postgres://db/app?nonsense=1").is_none());
        // The defaults of this host are another place.
        for (text, name) in [
            ("postgres:///app?service=wv", "postgres:///app"),
            ("postgres:///app?hostaddr=10.0.0.1", "postgres:///app"),
        ] {
            assert!(foreign_url(text).is_none(), "{text}");
            assert_eq!(foreign_name(text).unwrap(), name);
        }
    }

    #[test]
    fn a_manifest_chooses_no_files_of_this_host() {
        let url = "rediss://h:1?cacert=/a&cert=/b&key=/c&db=3";
        assert_eq!(foreign_url(url).unwrap(), "rediss://h:1?db=3");
        for text in [
            "REDISS://h:1?cert=/etc/shadow&key=/k&db=3",
            " rediss://h:1?CERT=x&c%65rt=/etc/shadow&db=3",
            "re\tdiss://h:1?cacert=/etc/shadow&failover_wait=18446744073709551615&cluster=no&settings=no&scan_rate=1&db=3",
        ] {
            let foreign = foreign_url(text).unwrap();
            assert!(foreign.starts_with("rediss://h:1?"), "{foreign}");
            assert!(foreign.ends_with("db=3"), "{foreign}");
            assert!(!foreign.contains("shadow"), "{foreign}");
            assert!(
                !foreign.contains("failover_wait") && !foreign.contains("cluster"),
                "{foreign}"
            );
        }
        let files = tls_files(url);
        let files: Vec<_> = files
            .iter()
            .map(|(name, file)| (name.as_str(), file.as_str()))
            .collect();
        assert_eq!(files, [("cacert", "/a"), ("cert", "/b"), ("key", "/c")]);
        assert_eq!(
            with_tls_files("rediss://h?cert=/x", &files),
            "rediss://h?cert=/x&cacert=/a&key=/c"
        );
    }

    #[test]
    fn repository_urls_are_checked() {
        assert_eq!(parse_repository_url("s3://b/p/").unwrap(), "s3://b/p");
        assert_eq!(parse_repository_url("file:///var/b/").unwrap(), "file:///var/b");
        assert_eq!(parse_repository_url("/var/b").unwrap(), "file:///var/b");
        for bad in ["b", "s3://", "s3://key:secret@b/p", "ftp://x", ""] {
            assert!(parse_repository_url(bad).is_err(), "{bad}");
        }
    }
}
