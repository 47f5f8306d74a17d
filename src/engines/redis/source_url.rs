//! The URLs of sources: `redis://`, `rediss://` and `unix:///`, stored without passwords.

use url::Url;

use crate::base::error::{Error, Result};
use crate::base::keys::parameters;
use crate::base::secret::Secret;
use crate::engines::redact::redact_url;
use crate::engines::redis::RedisAddress;
use crate::engines::redis::keys::RedisKeys;
use crate::engines::url::without_parameters;

/// Schemes of Redis and Valkey servers; those that end in `s` ask for TLS.
pub const SCHEMES: &[&str] = &["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix"];

/// Parameters of the URL of a Redis server that name files for TLS: those that stand for keys.
fn tls_parameters() -> Vec<&'static str> {
    parameters::<RedisKeys>().collect()
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
        .is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}

/// Splits the password off the URL of a Redis or Valkey server and checks its form.
pub fn split_redis_url(text: &str) -> Result<(String, Option<Secret>)> {
    let wrong = |why: &str| {
        Error::invalid(format!("invalid URL of a Redis server \"{}\": {why}", redact_url(text)))
            .with_hint("Write redis://user@host:6379, rediss://host for TLS, or unix:///path/of/the.sock.")
    };
    let mut url = Url::parse(text).map_err(|e| wrong(&e.to_string()))?;
    if !SCHEMES.contains(&url.scheme()) || url.cannot_be_a_base() {
        return Err(wrong("it does not begin with redis://"));
    }
    if url.scheme().ends_with("unix") {
        if url.path().len() < 2 {
            return Err(wrong("it has no socket"));
        }
    } else {
        well_encoded(&url).map_err(wrong)?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong("it has no host"));
        }
    }
    let password = take_password(&mut url).map_err(wrong)?;
    RedisAddress::from_url(url.as_str(), None, None, &|_| None)?;
    Ok((url.into(), password))
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
        url.set_password(None).map_err(|()| "it has no host")?;
    }
    for (key, value) in url.query_pairs() {
        if key == "password" {
            password = Some(Secret::new(value));
        }
    }
    without_parameters(url, &["password"]);
    Ok(password)
}

/// Returns the URL of a server that only a manifest names, without what it may not ask for: a password, files of this host, and
/// how it is read. None if the text is no URL.
pub fn foreign(text: &str) -> Option<String> {
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
    Some(url.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
    fn a_manifest_names_no_password() {
        let url = "redis://:geheim@cache:1?password_file=/etc/shadow";
        assert_eq!(foreign(url).unwrap(), "redis://cache:1");
    }

    #[test]
    fn a_manifest_chooses_no_files_of_this_host() {
        let url = "rediss://h:1?cacert=/a&cert=/b&key=/c&db=3";
        assert_eq!(foreign(url).unwrap(), "rediss://h:1?db=3");
        for text in [
            "REDISS://h:1?cert=/etc/shadow&key=/k&db=3",
            " rediss://h:1?CERT=x&c%65rt=/etc/shadow&db=3",
            "re\tdiss://h:1?cacert=/etc/shadow&failover_wait=18446744073709551615&cluster=no&settings=no&scan_rate=1&db=3",
        ] {
            let foreign = foreign(text).unwrap();
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
}
