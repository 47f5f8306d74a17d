//! Passwords of the servers that come back: from the environment, restored `.env` files, and the stored environments of
//! containers, in this order. They are handed to connections and never printed.

use std::collections::BTreeMap;
use std::path::Path;

use url::Url;

use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::{Params, is_connection_string};

/// Variables found, first come first kept.
#[derive(Default)]
pub(super) struct Secrets {
    found: BTreeMap<String, String>,
    /// URLs with a password, whatever their variable is called.
    urls: Vec<Url>,
    /// Connection strings of PostgreSQL with a password.
    postgres: Vec<Params>,
    /// Whether what this process has is among it.
    has_process: bool,
}

/// Names under which the password of PostgreSQL is known, in this order.
const POSTGRES: &[&str] = &[
    "PGPASSWORD",
    "POSTGRES_PASSWORD",
    "DB_PASSWORD",
    "DATABASE_PASSWORD",
    "POSTGRESQL_PASSWORD",
];
/// The same for Redis.
const REDIS: &[&str] = &["REDISCLI_AUTH", "REDIS_PASSWORD", "VALKEY_PASSWORD", "REDIS_PASS"];

impl Secrets {
    /// Adds a variable.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        if is_connection_string(value) {
            // Parameters of other programs, `?schema=public` for one, do not hide the password.
            let place = value.split('?').next().unwrap_or(value);
            let read = Params::parse(value).or_else(|_| Params::parse(place)).ok();
            self.postgres.extend(read.filter(|params| params.has("password")));
        } else if value.contains("://")
            && let Ok(url) = Url::parse(value)
            && url.password().is_some_and(|password| !password.is_empty())
        {
            self.urls.push(url);
        }
        self.found.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// Adds the variables of this process.
    pub(super) fn add_process(&mut self) {
        self.has_process = true;
        for name in POSTGRES.iter().chain(REDIS).chain(&["DATABASE_URL", "REDIS_URL"]) {
            if let Ok(value) = std::env::var(name) {
                self.add(name, &value);
            }
        }
    }

    /// Adds the lines of a `.env` file, if it is there.
    pub(super) fn add_file(&mut self, path: &Path) -> bool {
        let Ok(text) = crate::base::small_file::read_small(path) else {
            return false;
        };
        for (name, value) in variables(&text) {
            self.add(&name, &value);
        }
        true
    }

    /// Adds the environment of a container: `NAME=value` each.
    pub(super) fn add_environment(&mut self, environment: &serde_json::Value) {
        for line in environment
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(serde_json::Value::as_str)
        {
            if let Some((name, value)) = line.split_once('=') {
                self.add(name, value);
            }
        }
    }

    /// Adds a password that stands in the command of a container: `redis-server --requirepass …`.
    pub(super) fn add_command(&mut self, container: Option<&serde_json::Value>) {
        let lists = ["/Config/Entrypoint", "/Config/Cmd"].into_iter();
        let lists = lists.filter_map(|list| container?.pointer(list)?.as_array());
        let words: Vec<&str> = lists.flatten().filter_map(serde_json::Value::as_str).collect();
        let flag = words.iter().position(|word| *word == "--requirepass");
        if let Some(password) = flag.and_then(|flag| words.get(flag + 1)) {
            self.add("REDIS_PASSWORD", password);
        }
    }

    /// Returns the URL of a server with a password, if one is known for it.
    pub(super) fn with_password(&self, url: &str, kind: &str) -> String {
        if kind == "postgres" {
            return self.with_password_of_postgres(url);
        }
        let Ok(mut parsed) = Url::parse(url) else {
            return url.to_owned();
        };
        if parsed.password().is_some() {
            return url.to_owned();
        }
        let is_redis = |url: &&Url| ["redis", "rediss", "valkey", "valkeys"].contains(&url.scheme());
        let mut of_url = self.urls.iter().filter(is_redis);
        let of_url = of_url.find_map(|known| known.password().map(str::to_owned));
        let plain = REDIS.iter().find_map(|name| self.found.get(*name)).cloned();
        let encoded = |plain: String| {
            percent_encoding::utf8_percent_encode(&plain, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let Some(password) = plain.map(encoded).or(of_url) else {
            return url.to_owned();
        };
        match parsed.set_password(Some(&password)) {
            Ok(()) => parsed.into(),
            Err(()) => url.to_owned(),
        }
    }

    fn with_password_of_postgres(&self, url: &str) -> String {
        let Ok(mut params) = Params::parse(url) else {
            return url.to_owned();
        };
        // The URL's own password, its file's and the service's come before all others, as when it is connected to.
        if params.has("password") || params.has("password_file") || self.service_has_password(&params) {
            return url.to_owned();
        }
        let user = params.get("user").map(str::to_owned);
        let of_url = || {
            let mut known = self.postgres.iter();
            let known = known.find(|known| known.get("user") == user.as_deref())?;
            known.get("password").map(str::to_owned)
        };
        let plain = POSTGRES.iter().find_map(|name| self.found.get(*name)).cloned();
        let set = plain.or_else(of_url).map(|password| params.set("password", password));
        match set {
            Some(Ok(())) => params.to_url(),
            _ => url.to_owned(),
        }
    }
}

impl Secrets {
    /// Returns whether the service of a place, its own or this process's, brings the password. A service that cannot be read
    /// is told of when it is connected to.
    fn service_has_password(&self, params: &Params) -> bool {
        let of_process = self.has_process && std::env::var("PGSERVICE").is_ok_and(|service| !service.is_empty());
        if !params.has("service") && !of_process {
            return false;
        }
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        ConnectOptions::from_params(params.clone(), None, &env)
            .is_ok_and(|options| options.password.is_some() || options.others.iter().any(|one| one.password.is_some()))
    }
}

/// Reads the lines of a `.env` file as compose does: comments, `export`, quotes; nothing is expanded.
fn variables(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let value = value.trim();
        let quoted = |quote: char| {
            value
                .strip_prefix(quote)
                .and_then(|rest| rest.find(quote).and_then(|end| rest.get(..end)))
        };
        let value = match quoted('"').or_else(|| quoted('\'')) {
            Some(inner) => inner,
            None => value.split(" #").next().unwrap_or_default().trim_end(),
        };
        found.push((name.trim().to_owned(), value.to_owned()));
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn connection_strings_of_any_form_bring_the_password_of_their_user() {
        for text in [
            "postgres://app:geheim@db/x",
            "postgresql://app:geheim@a:1,b:2/x",
            "host=db user=app password='geheim'",
            "postgres://db/x?user=app&password=geheim",
            "postgres://app:geheim@db/x?schema=public",
        ] {
            let mut secrets = Secrets::default();
            secrets.add("DATABASE_URL", text);
            let with = |url: &str| secrets.with_password(url, "postgres");
            assert_eq!(with("postgres://app@h/x"), "postgres://app:geheim@h/x", "{text}");
            assert_eq!(with("postgres://other@h/x"), "postgres://other@h/x", "{text}");
        }
    }

    #[test]
    fn the_password_of_a_service_comes_first() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "[a]\nhost=db\npassword=own\n[b]\nhost=db\npassfile=/nonexistent\n",
        )
        .unwrap();
        let mut secrets = Secrets::default();
        secrets.add("POSTGRES_PASSWORD", "geheim");
        let with = |service: &str| {
            let url = format!("postgres:///x?service={service}&servicefile={}", file.path().display());
            secrets.with_password(&url, "postgres").contains("geheim")
        };
        assert!(!with("a"));
        // Unless whoever runs this has a password in the environment.
        assert_eq!(with("b"), std::env::var("PGPASSWORD").is_err());
    }

    #[test]
    fn passwords_come_from_variables_and_urls_and_stand_encoded_in_a_url() {
        let mut secrets = Secrets::default();
        for (name, value) in variables(
            "# comment\nexport POSTGRES_PASSWORD=\"a b/c#d\" # x\nREDIS_URL=redis://:r%40t@cache:6379 # y\nEMPTY=\nX='q'\n",
        ) {
            secrets.add(&name, &value);
        }
        secrets.add("POSTGRES_PASSWORD", "later ones do not count");
        assert_eq!(
            secrets.with_password("postgres://app@db:5432/app", "postgres"),
            "postgres://app:a%20b%2Fc%23d@db:5432/app"
        );
        assert_eq!(
            secrets.with_password("postgres:///app?host=/run/pg&user=app", "postgres"),
            "postgres:///app?host=/run/pg&password=a%20b/c%23d&user=app"
        );
        assert_eq!(
            secrets.with_password("redis://cache:6379", "redis"),
            "redis://:r%40t@cache:6379"
        );
        assert_eq!(
            secrets.with_password("postgres://a:own@db/x", "postgres"),
            "postgres://a:own@db/x"
        );
        assert_eq!(
            secrets.with_password("postgres://app@db/x?password_file=/run/secrets/pw", "postgres"),
            "postgres://app@db/x?password_file=/run/secrets/pw"
        );
        assert_eq!(
            Secrets::default().with_password("redis://cache", "redis"),
            "redis://cache"
        );
    }
}
