//! Sources and repositories as URLs: `postgres://app@db/app`, `sqlite:data/app.db`, `files:/etc/app`, `s3://bucket/app`.

use std::path::Path;

use crate::base::error::{Error, Result};
use crate::base::nearest::nearest;
use crate::config::types::SourceConfig;
use crate::engines::redact::redact_url;
use crate::engines::{Named, Registry};
use crate::repository::id::sanitised_job;

const REPOSITORY_SCHEMES: &[&str] = &["s3", "file"];

/// Reads the URL of a source of an engine of this program; its name is derived: database, file stem, last path segment.
pub fn parse_source_url(text: &str) -> Result<SourceConfig> {
    parse_source_url_of(&Registry::standard(), text)
}

/// As [`parse_source_url`], of other engines too.
pub fn parse_source_url_of(engines: &Registry, text: &str) -> Result<SourceConfig> {
    if let Some(named) = engines.read_url(text) {
        let Named { name, spec } = named?;
        return Ok(SourceConfig {
            name,
            kind: spec.into(),
            rate_limit_bytes: None,
            optional: false,
        });
    }
    // What stands before a colon may be anything, a password for one.
    let Some((scheme, _)) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        return Err(no_source(text));
    };
    let known: Vec<&str> = engines.schemes().collect();
    let message = format!("unknown kind of source \"{scheme}:\" in \"{}\"", redact_url(text));
    Err(Error::invalid(message).with_hint(did_you_mean(
        scheme,
        &known,
        "Sources are postgres://…, postgres-physical://…, redis://…, sqlite:PATH, files:PATH and docker:VOLUME.",
    )))
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
}

/// The error for a text that is neither a job nor a URL, be it nearly a connection string.
fn no_source(text: &str) -> Error {
    let shown = redact_url(text);
    let is_quoted = text.trim().starts_with(['"', '\'']);
    let hint = if is_quoted {
        "Remove the quotes: docker's --env-file makes them part of the value.".to_owned()
    } else if text.contains('=') && text.contains(|c: char| c == ';' || c.is_whitespace()) {
        "Write postgres://user@host/database, or libpq keywords separated by spaces: host=… user=… dbname=…; put the \
         password into PGPASSWORD or ~/.pgpass."
            .to_owned()
    } else {
        format!("Write a URL such as files:{shown}, sqlite:{shown} or postgres://user@host/database.")
    };
    Error::invalid(format!("\"{shown}\" is neither a job nor the URL of a source")).with_hint(hint)
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
                return Err(Error::invalid(format!("\"{}\" has no bucket", redact_url(trimmed)))
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
pub fn checked_name(name: &str) -> Result<String> {
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
        return Err(Error::invalid(format!("invalid name of a host {name:?}")).with_hint(
            "A host name (--host, WIREVAULT_HOST or `host`) has 1 to 253 characters without spaces or \
                        slashes.",
        ));
    }
    Ok(name.to_owned())
}

fn directory_url(path: &Path) -> Result<String> {
    if path.as_os_str().is_empty() {
        return Err(Error::invalid("the URL of the repository has no path").with_hint("Write file:///path."));
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
            ("host=b;username=app;password=geheim", "spaces in single quotes"),
            ("Host=b;Username=app;Password=geheim", "separated by spaces"),
            ("Host=b:1;Username=app;Password=geheim", "separated by spaces"),
            ("usr=app pasword=geheim", "separated by spaces"),
            ("\"host=b password=geheim\"", "Remove the quotes"),
            ("\"host=b password=ge:heim\"", "Remove the quotes"),
            ("'postgres://a:geheim@b/c'", "Remove the quotes"),
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
