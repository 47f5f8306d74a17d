//! URLs for messages: whatever was typed, however wrong, its password does not print.

use crate::engines::postgres::session::conninfo;

/// Schemes whose rest is a path or a name: there is no user in them, and an `@` is one.
const LOCAL: &[&str] = &["files", "sqlite", "docker", "file"];

/// Parameters whose values are no secrets, beside those of PostgreSQL. The value of any other is not printed: it may be one,
/// with its name misspelt.
const PLAIN: &[&str] = &[
    "cacert",
    "cert",
    "db",
    "failover_wait",
    "sentinel",
    "replica",
    "cluster",
    "settings",
    "method",
    "scan_rate",
    "max_hold",
    "spool_limit",
    "volume",
    "exclude",
    "label",
    "container",
    "quiesce",
    "images",
    "access",
];

/// Returns a URL without its password. Everything between the scheme and the last `@` may be one, for characters that ought
/// to be percent-encoded put its end anywhere; only a plain user's name is left.
pub fn redact_url(text: &str) -> String {
    if let Some(shown) = redact_keywords(text) {
        return shown;
    }
    if !is_url(text)
        && let Some((before, after)) = conninfo::password_sign(text).and_then(|at| text.split_at_checked(at))
    {
        // Nearly a connection string. Where an `@` follows, what stands behind a colon may be a part of the password.
        if before.contains(':') && after.contains('@') {
            return "***".to_owned();
        }
        return format!("{}=***", redact_url(before));
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return text.to_owned();
    };
    if LOCAL.contains(&scheme) || scheme.contains('/') {
        return redact_query(text);
    }
    let (slashes, rest) = match rest.strip_prefix("//") {
        Some(rest) => ("//", rest),
        None => ("", rest),
    };
    let Some((user, rest)) = rest.rsplit_once('@') else {
        return redact_place(text);
    };
    let rest = redact_place(rest);
    let (name, password) = match user.split_once(':') {
        Some((name, _)) => (name, true),
        None => (user, false),
    };
    let plain = |name: &str| !name.is_empty() && !name.contains(['/', '?', '#', '@']);
    // Without slashes it is no URL, and the user's place may be the password's: `app:password@host`.
    match (plain(name) && !slashes.is_empty(), password) {
        (true, _) => format!("{scheme}:{slashes}{name}@{rest}"),
        (false, _) if name.is_empty() && password && !user.contains(['/', '?', '#', '@']) => {
            format!("{scheme}:{slashes}{rest}")
        }
        (false, _) => format!("{scheme}:{slashes}***@{rest}"),
    }
}

/// Returns whether a text has the form of a URL.
fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let is_scheme = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    is_scheme && (rest.starts_with("//") || LOCAL.contains(&scheme))
}

/// Returns a message with every URL of a server in it as [`redact_url`] shows it.
pub fn redact_urls(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(slashes) = rest.find("://") {
        let (before, after) = rest.split_at(slashes);
        let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let scheme = before.len() - before.trim_end_matches(of_scheme).len();
        let (before, scheme) = before.split_at(before.len() - scheme);
        let end = after
            .find(|c: char| c.is_whitespace() || c == '"')
            .unwrap_or(after.len());
        let (place, next) = after.split_at(end);
        shown.push_str(before);
        let user = !LOCAL.contains(&scheme) && place.contains('@');
        if user {
            shown.push_str(&redact_url(&format!("{scheme}{place}")));
        } else {
            shown.push_str(scheme);
            shown.push_str(place);
        }
        rest = next;
    }
    shown.push_str(rest);
    shown
}

/// Returns whether the value of a parameter may be printed.
fn is_plain(name: &str) -> bool {
    PLAIN.contains(&name) || conninfo::parameter(name).is_some_and(|known| known.value == conninfo::Value::Plain)
}

/// Hides values in `host=… password=…`; nothing if a text is something else. It may follow the name of a flag, or of a source.
fn redact_keywords(text: &str) -> Option<String> {
    let flagged = |text: &str| {
        let (flag, rest) = text.split_once('=')?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        // A flag, or the name of a source that no parameter has.
        let is_flag = flag.starts_with('-') || !conninfo::is_keywords(text) || conninfo::parameter(flag).is_none();
        (is_flag && !flag.is_empty() && flag.chars().all(is_name) && conninfo::is_keywords(rest))
            .then(|| (flag.to_owned(), rest.to_owned()))
    };
    if let Some((flag, rest)) = flagged(text) {
        return Some(format!("{flag}={}", redact_keywords(&rest)?));
    }
    if !conninfo::is_keywords(text) {
        // A single word that looks like a password's.
        let (name, _) = text.split_once('=')?;
        let near = crate::base::nearest::nearest(name, ["password", "sslpassword"]).is_some();
        return (near && !name.starts_with('-') && !name.contains(['/', ':', '?'])).then(|| format!("{name}=***"));
    }
    let quote = |c: char| c.is_whitespace() || c == '\'' || c == '\\';
    let shown = |(name, value): (String, String)| {
        let is_no_host = name == "host" && !value.contains("://") && !conninfo::is_host_list(&value);
        if !is_plain(&name) || is_no_host || conninfo::password_sign(&value).is_some() {
            format!("{name}=***")
        } else if value.contains("://") {
            format!("{name}={}", redact_url(&value))
        } else if value.is_empty() || value.contains(quote) {
            format!("{name}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
        } else {
            format!("{name}={value}")
        }
    };
    let pairs = conninfo::lenient_pairs(text);
    let meant = pairs.iter().take_while(|(name, _)| conninfo::is_meant(name)).count();
    // A password with a blank that is not quoted goes on as a keyword.
    let more = (meant < pairs.len()).then(|| "…".to_owned());
    let shown: Vec<String> = pairs.into_iter().take(meant).map(shown).chain(more).collect();
    Some(shown.join(" "))
}

/// As [`redact_query`], and hides what follows `password=` before the parameters.
fn redact_place(text: &str) -> String {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    match text.split_at_checked(end) {
        Some((place, query)) => match conninfo::password_sign(place).and_then(|at| place.get(..at)) {
            Some(place) => redact_query(&format!("{place}=***{query}")),
            None => redact_query(text),
        },
        None => redact_query(text),
    }
}

/// Hides the values of parameters that are not known to be harmless, and of what follows a `#`.
fn redact_query(text: &str) -> String {
    let (text, fragment) = match text.split_once('#') {
        Some((text, _)) => (text, "#***"),
        None => (text, ""),
    };
    let Some((place, query)) = text.split_once('?') else {
        return format!("{text}{fragment}");
    };
    // Beside a certificate a key is the file of one.
    let has_certificate = query.split('&').any(|pair| pair.starts_with("cert="));
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_plain(name) || (name == "key" && has_certificate) => pair.to_owned(),
        Some((name, _)) => format!("{name}=***"),
        None => pair.to_owned(),
    });
    let pairs: Vec<String> = pairs.collect();
    format!("{place}?{}{fragment}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_no_password_of_any_url_in_it() {
        for (said, shown) in [
            (
                "BACKUP_RETENTION_DAYS is \"postgres://app:geheim@db/app\": a number",
                "BACKUP_RETENTION_DAYS is \"postgres://app@db/app\": a number",
            ),
            (
                "é=redis://:geheim@a and s3://bucket/x, https://u:geheim@h/p?a=b",
                "é=redis://a and s3://bucket/x, https://u@h/p?a=***",
            ),
            ("file:///srv/a@b:c/d: no such file", "file:///srv/a@b:c/d: no such file"),
            ("://:a@b", "://b"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(redact_urls(said), shown);
        }
    }

    #[test]
    fn whatever_is_typed_its_password_does_not_print() {
        for text in [
            "postgres://app:pa/geheim@127.0.0.1:1/app",
            "postgres://app:pa?geheim@127.0.0.1:1/app",
            "postgres://app:pa#geheim@127.0.0.1:1/app",
            "postgres://app:a@geheim@127.0.0.1/app",
            "postgres://app:1/geheim@127.0.0.1/app",
            "postgres://127.0.0.1/app?user=app&password=geheim",
            "postgres://127.0.0.1/app?pasword=geheim",
            "postgres:app:geheim@127.0.0.1/app",
            "app:geheim@127.0.0.1/app",
            "redis:geheim@127.0.0.1",
            "redis://:pa#geheim@127.0.0.1:1",
            "redis://127.0.0.1#geheim",
            "unix://:geheim@/tmp/x.sock",
            "s3://AKIA:pa/geheim@bucket/x",
            "s3://bucket/x?secret=geheim",
            "https://AKIA:geheim@host/bucket",
            "host=db password=geheim",
            "host=db password = 'a geheim'",
            "host=db pasword=geheim",
            "host=db options='-c a.b=geheim'",
            "pasword=geheim",
            "--into=host=db password=geheim",
            "app=host=db password=geheim",
            "host=postgres://app:geheim@db/x",
            "postgres://a:geheim@h1:1,h2:2/x",
            "postgres://h/x?sslpassword=geheim&options=geheim",
            "postgres://h/x;password=geheim",
            "postgres://u@h/x password=geheim",
            "jdbc:postgresql://h/x?user=a&password=geheim",
            "host=db;username=app;password=geheim",
            "user=app;Pwd = geheim",
            "host=app:geheim@db",
            "Host=db;Username=app;Password=geheim",
            "Host=db:1;Username=app;Password=a@geheim",
            "usr=app pasword=geheim",
            "usr=app PASSWD=geheim",
            "\"host=db password=geheim\"",
            "\"host=db password=a:geheim\"",
            "'postgres://app:geheim@db/x'",
            "app:geheim password=x@h",
            "host=a password=x geheim=1",
            "host=a password=x geheim = 1",
            "--into=Host=db;Password=geheim",
        ] {
            assert!(!redact_url(text).contains("geheim"), "{text}: {}", redact_url(text));
        }
    }

    #[test]
    fn what_is_no_secret_is_still_read() {
        for (text, shown) in [
            ("postgres://app:pw@db:5432/app", "postgres://app@db:5432/app"),
            ("rediss://h?cert=/c&key=/k", "rediss://h?cert=/c&key=/k"),
            ("rediss://h?key=geheim", "rediss://h?key=***"),
            ("redis://:pw@cache:6379", "redis://cache:6379"),
            (
                "postgres:///x?host=/run/pg&sslmode=require",
                "postgres:///x?host=/run/pg&sslmode=require",
            ),
            ("s3://bucket/app", "s3://bucket/app"),
            (
                "host=db user=app password=x dbname='a b'",
                "host=db user=app password=*** dbname='a b'",
            ),
            ("host=db pasword=x user=app", "host=db pasword=*** user=app"),
            ("host=db password=x y=z user=app", "host=db password=*** …"),
            ("Host=db;Password=x", "Host=db;Password=***"),
            ("--password-file=/etc/x", "--password-file=/etc/x"),
            ("files:/srv/password=x", "files:/srv/password=x"),
            ("--into=host=db password=x", "--into=host=db password=***"),
            ("postgres://u@/x?hostaddr=10.0.0.1", "postgres://u@/x?hostaddr=10.0.0.1"),
            ("tag=a=b", "tag=a=b"),
            ("--repository=nas", "--repository=nas"),
            ("/srv/a@b:c", "/srv/a@b:c"),
            ("files:/home/me@work", "files:/home/me@work"),
        ] {
            assert_eq!(redact_url(text), shown);
        }
    }
}
