//! Which password of those that a recovery found is meant for a server.

use crate::engines::Secrets;
use crate::engines::postgres::session::conninfo::{Params, is_connection_string};
use crate::engines::postgres::session::url::ConnectOptions;

/// Names under which the password of PostgreSQL is known, in this order.
const PASSWORDS: &[&str] = &[
    "PGPASSWORD",
    "POSTGRES_PASSWORD",
    "DB_PASSWORD",
    "DATABASE_PASSWORD",
    "POSTGRESQL_PASSWORD",
];

/// Variables of a process that may have it.
pub(super) const VARIABLES: &[&str] = &[
    "PGPASSWORD",
    "POSTGRES_PASSWORD",
    "DB_PASSWORD",
    "DATABASE_PASSWORD",
    "POSTGRESQL_PASSWORD",
    "DATABASE_URL",
];

/// Returns the URL of a server with a password, if one is known for it.
pub(super) fn with_password(secrets: &Secrets, url: &str) -> String {
    let Ok(mut params) = Params::parse(url) else {
        return url.to_owned();
    };
    // The URL's own password, its file's and the service's come before all others, as when it is connected to.
    if params.has("password") || params.has("password_file") || service_has_password(secrets, &params) {
        return url.to_owned();
    }
    let user = params.get("user").map(str::to_owned);
    let of_string = || {
        let mut known = secrets.values().filter_map(connection_string);
        let known = known.find(|known| known.get("user") == user.as_deref())?;
        known.get("password").map(str::to_owned)
    };
    let plain = secrets.first_of(PASSWORDS).map(str::to_owned);
    let set = plain
        .or_else(of_string)
        .map(|password| params.set("password", password));
    match set {
        Some(Ok(())) => params.to_url(),
        _ => url.to_owned(),
    }
}

/// Reads a connection string with a password, if a value is one.
fn connection_string(value: &str) -> Option<Params> {
    if !is_connection_string(value) {
        return None;
    }
    // Parameters of other programs, `?schema=public` for one, do not hide the password.
    let place = value.split('?').next().unwrap_or(value);
    let read = Params::parse(value).or_else(|_| Params::parse(place)).ok();
    read.filter(|params| params.has("password"))
}

/// Returns whether the service of a place, its own or this process's, brings the password. A service that cannot be read
/// is told of when it is connected to.
fn service_has_password(secrets: &Secrets, params: &Params) -> bool {
    let of_process = secrets.has_process() && std::env::var("PGSERVICE").is_ok_and(|service| !service.is_empty());
    if !params.has("service") && !of_process {
        return false;
    }
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    ConnectOptions::from_params(params.clone(), None, &env)
        .is_ok_and(|options| options.password.is_some() || options.others.iter().any(|one| one.password.is_some()))
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
            let with = |url: &str| with_password(&secrets, url);
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
            with_password(&secrets, &url).contains("geheim")
        };
        assert!(!with("a"));
        // Unless whoever runs this has a password in the environment.
        assert_eq!(with("b"), std::env::var("PGPASSWORD").is_err());
    }

    #[test]
    fn passwords_come_from_variables_and_stand_encoded_in_a_url() {
        let mut secrets = Secrets::default();
        secrets.add("POSTGRES_PASSWORD", "a b/c#d");
        for (url, with) in [
            ("postgres://app@db:5432/app", "postgres://app:a%20b%2Fc%23d@db:5432/app"),
            (
                "postgres:///app?host=/run/pg&user=app",
                "postgres:///app?host=/run/pg&password=a%20b/c%23d&user=app",
            ),
            ("postgres://a:own@db/x", "postgres://a:own@db/x"),
            (
                "postgres://app@db/x?password_file=/run/secrets/pw",
                "postgres://app@db/x?password_file=/run/secrets/pw",
            ),
        ] {
            assert_eq!(with_password(&secrets, url), with);
        }
    }
}
