//! Variables of the environment, and the files of secrets that some of them name.
//!
//! Docker and Kubernetes mount a secret as a file; `POSTGRES_PASSWORD_FILE=/run/secrets/pg` then stands for
//! `POSTGRES_PASSWORD`. The file is read when the value is asked for: at the start, and at SIGHUP of `run`.
//! Two answers to one question are refused at the start ([`check`]), and so are half of a pair of keys and a file that cannot be
//! read.

use std::path::Path;

use crate::base::error::{Context, Error, Result};

/// Where a variable is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Where there is no configuration file.
    NoFile,
    /// Beside a file too.
    Always,
}

/// A variable of the environment that means something here.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Where it is read.
    pub scope: Scope,
    /// Whether its value may stand in a file that `NAME_FILE` names. The user and the database may because the images of PostgreSQL have
    /// them so.
    pub has_file: bool,
    /// What it is for, in one sentence.
    pub help: &'static str,
}

const fn variable_of(name: &'static str, scope: Scope, has_file: bool, help: &'static str) -> Variable {
    Variable {
        name,
        scope,
        has_file,
        help,
    }
}

/// Every variable. The reference page has them in this order.
#[rustfmt::skip]
pub const VARIABLES: &[Variable] = &[
    variable_of("DATABASE_URL", Scope::NoFile, true, "The PostgreSQL database to back up, as a URL or libpq keywords."),
    variable_of("POSTGRES_HOST", Scope::NoFile, false, "Its host, if `DATABASE_URL` is not set; default: `PGHOST`."),
    variable_of("POSTGRES_PORT", Scope::NoFile, false, "Its port; default: `PGPORT`, else 5432."),
    variable_of("POSTGRES_USER", Scope::NoFile, true, "Its user; default: `PGUSER`, else postgres."),
    variable_of("POSTGRES_PASSWORD", Scope::NoFile, true, "The user's password; default: `PGPASSWORD`."),
    variable_of("POSTGRES_DB", Scope::NoFile, true, "The database; default: `PGDATABASE`, else the user's name."),
    variable_of("PGSERVICE", Scope::NoFile, false, "A libpq service; all of the above except the host override it."),
    variable_of("REDIS_URL", Scope::NoFile, true, "The Redis or Valkey server to back up."),
    variable_of("DB_PATH", Scope::NoFile, false, "The SQLite database to back up; a pattern or a directory means \
                                                  every database found there."),
    variable_of("BACKUP_PATHS", Scope::NoFile, false, "File trees to back up, separated by `:` or `,`."),
    variable_of("S3_BACKUP_ENABLED", Scope::NoFile, false, "Whether the repository is in a bucket, `true` or `false`; \
                                                            default: `true` if `S3_BACKUP_BUCKET` is set."),
    variable_of("S3_BACKUP_BUCKET", Scope::NoFile, false, "The bucket, with an optional prefix: `backups/app`."),
    variable_of("BACKUP_DIR", Scope::NoFile, false, "The directory of the repository, if it is not in a bucket; \
                                                     default: `/var/backups/wirevault`."),
    variable_of("BACKUP_SCHEDULE", Scope::NoFile, false, "Schedule of the backups of `run`; default: `0 2 * * *`."),
    variable_of("BACKUP_RETENTION_DAYS", Scope::NoFile, false, "Days to keep snapshots, at least 1; default: 30."),
    variable_of("BACKUP_PING_URL", Scope::NoFile, true, "URL of a dead man's switch, called after each completed run."),
    variable_of("WIREVAULT_STATUS_TOKEN", Scope::NoFile, true, "Token that requests for the status page and `/metrics` must carry; \
     without one, only this host may ask."),
    variable_of("WIREVAULT_CONFIG", Scope::Always, false, "The configuration file, as `--config`."),
    variable_of("WIREVAULT_REPOSITORY", Scope::Always, false, "The repository, as `--repository`."),
    variable_of("WIREVAULT_HOST", Scope::Always, false, "The host name recorded in snapshots, as `--host`; overrides \
                                                         the key `host`."),
    variable_of("WIREVAULT_LISTEN", Scope::Always, false, "Address that `run` listens on and `health` asks, as \
                                                           `--listen`."),
    variable_of("WIREVAULT_STATE_DIR", Scope::Always, false, "The [state directory](places.md#the-state-directory) of \
                                                              this host; overrides `STATE_DIRECTORY`."),
    variable_of("STATE_DIRECTORY", Scope::Always, false, "The same, set by systemd."),
    variable_of("XDG_STATE_HOME", Scope::Always, false, "Parent of the state directory for users other than root; \
                                                         default: `~/.local/state`."),
    variable_of("RUST_LOG", Scope::Always, false, "Filter of the log on standard error; overrides `-v`."),
    variable_of("TZ", Scope::Always, false, "Time zone of schedules, unless the key `timezone` is set."),
    variable_of("S3_ENDPOINT", Scope::Always, false, "Endpoint of an S3-compatible store, for a repository that is \
                                                      not in a configuration file."),
    variable_of("S3_REGION", Scope::Always, false, "Region of the bucket, for a repository that is not in a \
                                                    configuration file."),
    variable_of("S3_ACCESS_KEY", Scope::Always, true, "Access key of the store, for a repository that is not in a \
                                                       configuration file."),
    variable_of("S3_SECRET_KEY", Scope::Always, true, "Its secret key."),
    variable_of("AWS_ACCESS_KEY_ID", Scope::Always, true, "Access key of the store; otherwise profiles, web identity, \
                                                           container and instance credentials are tried, as in the \
                                                           AWS SDK."),
    variable_of("AWS_SECRET_ACCESS_KEY", Scope::Always, true, "Its secret key."),
    variable_of("AWS_SESSION_TOKEN", Scope::Always, true, "Session token of temporary credentials."),
    variable_of("AWS_REGION", Scope::Always, false, "Region of the bucket; default: `AWS_DEFAULT_REGION`."),
    variable_of("AWS_DEFAULT_REGION", Scope::Always, false, "The same."),
    variable_of("AWS_ENDPOINT_URL_S3", Scope::Always, false, "Endpoint of an S3-compatible store; default: \
                                                              `AWS_ENDPOINT_URL`."),
    variable_of("AWS_ENDPOINT_URL", Scope::Always, false, "The same."),
    variable_of("AWS_CA_BUNDLE", Scope::Always, false, "Certificates to trust for stores, in addition to the \
                                                        system's."),
    variable_of("SSL_CERT_FILE", Scope::Always, false, "Certificates to trust instead of the system's."),
    variable_of("PGPASSWORD", Scope::Always, true, "Password of PostgreSQL servers whose source has none; libpq's \
                                                    other variables work as in libpq \
                                                    ([PostgreSQL](postgres.md#connection))."),
    variable_of("PGHOST", Scope::Always, false, "Default host of a PostgreSQL URL, as in libpq."),
    variable_of("PGHOSTADDR", Scope::Always, false, "Its address."),
    variable_of("PGPORT", Scope::Always, false, "Its port."),
    variable_of("PGUSER", Scope::Always, false, "Its user."),
    variable_of("PGDATABASE", Scope::Always, false, "Its database."),
    variable_of("REDISCLI_AUTH", Scope::Always, true, "Password of Redis servers whose source has none."),
    variable_of("DOCKER_HOST", Scope::Always, false, "Address of the Docker engine, unless `socket` is set."),
    variable_of("DOCKER_TLS_VERIFY", Scope::Always, false, "Any value means TLS with an engine at `tcp://`; \
                                                            `DOCKER_TLS` does the same, and both verify certificates."),
    variable_of("DOCKER_TLS", Scope::Always, false, "The same."),
    variable_of("DOCKER_CERT_PATH", Scope::Always, false, "Directory of `ca.pem`, `cert.pem` and `key.pem` for TLS; \
                                                           default: `~/.docker`."),
    variable_of("HTTP_PROXY", Scope::Always, false, "Proxy for `http://`; lower-case names work too \
                                                     ([proxies](operations.md#where-values-come-from))."),
    variable_of("HTTPS_PROXY", Scope::Always, false, "Proxy for `https://`."),
    variable_of("ALL_PROXY", Scope::Always, false, "Proxy for both."),
    variable_of("NO_PROXY", Scope::Always, false, "Hosts to reach without a proxy."),
];

/// Whether the value of a variable may stand in a file.
fn has_file(name: &str) -> bool {
    VARIABLES
        .iter()
        .any(|variable| variable.has_file && variable.name == name)
}

/// The longest file of a secret that is read, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Returns a variable of the process, or what its file holds.
pub fn variable(name: &str) -> Option<String> {
    resolve(&process, name).unwrap_or_default()
}

/// Fails if a variable is given twice, its file cannot be read, or half of a pair of keys is missing.
pub fn check() -> Result<()> {
    VARIABLES
        .iter()
        .filter(|variable| variable.has_file)
        .try_for_each(|variable| resolve(&process, variable.name).map(drop))?;
    aws_keys(&process).map(drop)
}

/// Returns the pair of AWS keys, `None` if neither is there. Half of it is refused: the SDK would pass it over without a word and
/// go on with the keys of somebody else, those of a profile or of the machine.
pub fn aws_keys(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<(String, String)>> {
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    // What is blank is not there for the SDK either.
    let key = |name| -> Result<Option<String>> { Ok(resolve(lookup, name)?.filter(|value| !value.trim().is_empty())) };
    let (present, missing) = match (key(id)?, key(secret)?) {
        (None, None) => return Ok(None),
        (Some(access), Some(secret)) => return Ok(Some((access, secret))),
        (None, Some(_)) => (secret, id),
        // The SDK knows an older name too.
        (Some(access), None) => match key("SECRET_ACCESS_KEY")? {
            Some(secret) => return Ok(Some((access, secret))),
            None => (id, secret),
        },
    };
    let of_file = format!("{present}_FILE");
    let present = if lookup(&of_file).is_some_and(|path| !path.is_empty()) {
        of_file.as_str()
    } else {
        present
    };
    Err(
        Error::invalid(format!("{present} is set, but {missing} is not")).with_hint(format!(
            "Set {missing} or {missing}_FILE too; or unset {present} to use a profile or instance credentials."
        )),
    )
}

/// Returns the value of a variable, or the first line of the file that `NAME_FILE` names; nothing that is empty.
pub fn resolve(lookup: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<Option<String>> {
    let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let value = get(name);
    if !has_file(name) {
        return Ok(value);
    }
    let of_file = format!("{name}_FILE");
    match (value, get(&of_file)) {
        (value, None) => Ok(value),
        (None, Some(path)) => first_line(Path::new(&path)).context(of_file).map(Some),
        (Some(_), Some(_)) => Err(
            Error::invalid(format!("{name} and {of_file} are both set")).with_hint(format!(
                "Unset one of them; {of_file} names a file that holds the value."
            )),
        ),
    }
}

/// Reads the first line of a file, without its end: what editors and `echo` put behind a secret is no part of it.
fn first_line(path: &Path) -> Result<String> {
    use std::io::Read;
    let act = || format!("read \"{}\"", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(act)?;
    file.take(MAX_BYTES).read_to_string(&mut text).with_context(act)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(
            Error::invalid(format!("the first line of \"{}\" is empty", path.display()))
                .with_hint("Write the value into the file, or unset the variable."),
        );
    }
    Ok(line.to_owned())
}

/// Looks into the environment of the process.
pub fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_stands_for_its_variable_and_never_beside_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("pw");
        std::fs::write(&path, "geheim mit Leerzeichen \r\nzweite Zeile\n").unwrap();
        let path = path.display().to_string();
        let one = |name: &str| (name == "PGPASSWORD_FILE").then(|| path.clone());
        assert_eq!(resolve(&one, "PGPASSWORD").unwrap().unwrap(), "geheim mit Leerzeichen ");
        assert_eq!(resolve(&one, "PGHOST").unwrap(), None);
        let both = |name: &str| name.starts_with("PGPASSWORD").then(|| path.clone());
        let error = resolve(&both, "PGPASSWORD").unwrap_err();
        assert!(error.chain().contains("PGPASSWORD_FILE"), "{error:?}");
        let none = |name: &str| (name == "PGPASSWORD_FILE").then(|| "/nowhere/pw".to_owned());
        let error = resolve(&none, "PGPASSWORD").unwrap_err();
        assert!(
            error.chain().contains("PGPASSWORD_FILE: read \"/nowhere/pw\""),
            "{error:?}"
        );
        let empty = place.path().join("empty");
        std::fs::write(&empty, "\n").unwrap();
        let empty = |name: &str| (name == "PGPASSWORD_FILE").then(|| empty.display().to_string());
        assert!(resolve(&empty, "PGPASSWORD").unwrap_err().hint().is_some());
        // A name that has no such form is looked up as it is.
        let other = |name: &str| (name == "DB_PATH_FILE").then(|| path.clone());
        assert_eq!(resolve(&other, "DB_PATH").unwrap(), None);
    }

    #[test]
    fn half_of_a_pair_of_keys_is_refused_by_both_names() {
        let keys = |pairs: &[(&str, &str)]| {
            let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
            aws_keys(&find)
        };
        let (id, secret) = (("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "geheim"));
        let whole = Some(("AKIA".to_owned(), "geheim".to_owned()));
        assert_eq!(keys(&[]).unwrap(), None);
        assert_eq!(keys(&[id, secret]).unwrap(), whole);
        assert_eq!(keys(&[id, ("SECRET_ACCESS_KEY", "geheim")]).unwrap(), whole);
        assert_eq!(keys(&[("SECRET_ACCESS_KEY", "geheim")]).unwrap(), None);
        assert_eq!(
            keys(&[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")]).unwrap(),
            None
        );
        for (half, missing) in [
            (&[id][..], "AWS_SECRET_ACCESS_KEY"),
            (&[id, ("AWS_SECRET_ACCESS_KEY", " ")], "AWS_SECRET_ACCESS_KEY"),
            (&[secret], "AWS_ACCESS_KEY_ID"),
        ] {
            let error = keys(half).unwrap_err();
            assert!(error.chain().ends_with(&format!("{missing} is not")), "{error:?}");
            let hint = error.hint().unwrap();
            assert!(
                hint.contains(missing) && !format!("{error:?}").contains("geheim"),
                "{hint}"
            );
        }
    }
}
