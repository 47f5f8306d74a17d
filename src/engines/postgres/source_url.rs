//! The connection strings of sources: stored without secrets, as URLs that every reader understands.

use url::Url;

use crate::base::error::{Context, Result};
use crate::base::secret::Secret;
use crate::engines::postgres::session::conninfo::{Params, is_connection_string};
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::redact::redact_url;
use crate::engines::url::without_parameters;

/// Splits the password off the connection string of a PostgreSQL server and checks its form. What is returned is a URL that may
/// be stored: the one that was given, where it is one that every reader understands.
pub fn split_postgres_url(text: &str) -> Result<(String, Option<Secret>)> {
    let params = Params::parse(text).and_then(|params| {
        ConnectOptions::check(&params, &|name| {
            std::env::var(name).ok().filter(|value| !value.is_empty())
        })?;
        Ok(params)
    });
    let params = params.with_context(|| format!("invalid PostgreSQL URL \"{}\"", redact_url(text)))?;
    let password = params.get("password").map(Secret::new);
    Ok((spelled(text, &params.without_secrets()), password))
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

/// Returns what a source is called after: its database, or else its service, or its user.
pub fn postgres_name(url: &str) -> String {
    let params = Params::parse(url).unwrap_or_default();
    let mut names = ["dbname", "service", "user"].into_iter();
    names.find_map(|name| params.get(name)).unwrap_or_default().to_owned()
}

/// Returns the connection string of a server that only a manifest names, without what it may not ask for: a password, files of
/// this host, an address in place of the host's, and leave for the server to ask for a password in clear text; and whether
/// what is left says where it is. None if the text is no connection string.
pub fn foreign(text: &str) -> Option<(String, bool)> {
    if !is_connection_string(text) {
        return None;
    }
    let mut params = Params::parse(text).ok()?;
    let has_place = params.keep_foreign();
    Some((spelled(text, &params.without_secrets()), has_place))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
    }

    #[test]
    fn values_that_could_never_be_used_are_refused_before_they_are() {
        for parameter in [
            "sslmode=nope",
            "target_session_attrs=x",
            "connect_timeout=x",
            "keepalives=x",
            "channel_binding=x",
            "port=0",
            "port=99999",
            "load_balance_hosts=x",
        ] {
            assert!(
                split_postgres_url(&format!("postgres://u@h/d?{parameter}")).is_err(),
                "{parameter}"
            );
        }
        // What a file of this host says is read when it is used.
        for parameter in [
            "passfile=/nope",
            "sslcert=/nope&sslkey=/nope",
            "service=nope&sslnegotiation=direct",
        ] {
            split_postgres_url(&format!("postgres://u@h/d?{parameter}")).unwrap();
        }
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
        ] {
            assert_eq!(foreign(text).unwrap(), (left.to_owned(), true));
        }
        assert!(foreign("postgres://db/app?nonsense=1").is_none());
        assert!(foreign("redis://db").is_none());
        // The defaults of this host are another place.
        for (text, name) in [
            ("postgres:///app?service=wv", "postgres:///app"),
            ("postgres:///app?hostaddr=10.0.0.1", "postgres:///app"),
        ] {
            assert_eq!(foreign(text).unwrap(), (name.to_owned(), false));
        }
    }
}
