//! Which password of those that a recovery found is meant for a server.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::engines::Secrets;

/// Names under which the password of Redis is known, in this order.
const PASSWORDS: &[&str] = &["REDISCLI_AUTH", "REDIS_PASSWORD", "VALKEY_PASSWORD", "REDIS_PASS"];

/// Variables of a process that may have it.
pub(super) const VARIABLES: &[&str] = &[
    "REDISCLI_AUTH",
    "REDIS_PASSWORD",
    "VALKEY_PASSWORD",
    "REDIS_PASS",
    "REDIS_URL",
];

/// Returns the password that stands in the command of a container, `redis-server --requirepass …`, as a variable.
pub(super) fn of_command(words: &[&str]) -> Option<(&'static str, String)> {
    let flag = words.iter().position(|word| *word == "--requirepass")?;
    words
        .get(flag + 1)
        .map(|password| ("REDIS_PASSWORD", (*password).to_owned()))
}

/// Returns the URL of a server with a password, if one is known for it.
pub(super) fn with_password(secrets: &Secrets, url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else {
        return url.to_owned();
    };
    if parsed.password().is_some() {
        return url.to_owned();
    }
    let plain = secrets.first_of(PASSWORDS);
    let encoded = plain.map(|plain| utf8_percent_encode(plain, NON_ALPHANUMERIC).to_string());
    let Some(password) = encoded.or_else(|| secrets.values().find_map(of_url)) else {
        return url.to_owned();
    };
    match parsed.set_password(Some(&password)) {
        Ok(()) => parsed.into(),
        Err(()) => url.to_owned(),
    }
}

/// Returns the password of a URL of a server, as it is encoded there.
fn of_url(value: &str) -> Option<String> {
    let url = Url::parse(value).ok().filter(|_| value.contains("://"))?;
    let is_redis = ["redis", "rediss", "valkey", "valkeys"].contains(&url.scheme());
    let password = url.password().filter(|password| is_redis && !password.is_empty());
    password.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_come_from_variables_urls_and_commands() {
        let mut secrets = Secrets::default();
        assert_eq!(with_password(&secrets, "redis://cache"), "redis://cache");
        secrets.add("CACHE", "redis://:r%40t@cache:6379");
        assert_eq!(
            with_password(&secrets, "redis://cache:6379"),
            "redis://:r%40t@cache:6379"
        );
        secrets.add("REDIS_PASS", "a@b");
        assert_eq!(with_password(&secrets, "redis://cache"), "redis://:a%40b@cache");
        let words = ["redis-server", "--requirepass", "geheim"];
        assert_eq!(of_command(&words), Some(("REDIS_PASSWORD", "geheim".to_owned())));
        assert_eq!(of_command(&["--requirepass"]), None);
    }
}
