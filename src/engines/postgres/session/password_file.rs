//! Passwords out of files: `password_file`, whose first line is one, and `~/.pgpass`, which has one for each server.
//!
//! Specification: <https://www.postgresql.org/docs/current/libpq-pgpass.html>

use std::path::{Path, PathBuf};

use super::url::{Env, Host, Secret};
use crate::base::error::{Context as _, Error, Result};

/// Reads the first line of a file. One that is empty is refused, or another password would go out in its place.
pub(crate) fn first_line(path: &Path) -> Result<Secret> {
    let text = crate::base::small_file::read_small(path)
        .with_context(|| format!("read password file \"{}\"", path.display()))?;
    let line = text.lines().next().filter(|line| !line.is_empty());
    let line = line.ok_or_else(|| {
        Error::invalid(format!("password file \"{}\" is empty", path.display()))
            .with_hint("Write the password into its first line.")
    })?;
    Ok(Secret::new(line))
}

/// A password file that was read, or that there is none.
#[derive(Default)]
pub(crate) struct Pgpass(Option<String>);

impl Pgpass {
    /// Reads the file that is named, else that of `PGPASSFILE`, else `~/.pgpass`. As libpq, it is passed by where it is missing
    /// or others can read it: a password that is needed then is missed at login.
    pub(crate) fn read(named: Option<&str>, env: Env<'_>) -> Result<Self> {
        let named = named
            .map(PathBuf::from)
            .or_else(|| env("PGPASSFILE").map(PathBuf::from));
        let Some(path) = named.or_else(|| env("HOME").map(|home| Path::new(&home).join(".pgpass"))) else {
            return Ok(Self(None));
        };
        let Ok(metadata) = std::fs::metadata(&path) else {
            return Ok(Self(None));
        };
        let shown = path.display();
        if !metadata.is_file() {
            tracing::warn!("ignoring password file \"{shown}\": it is not a regular file");
            return Ok(Self(None));
        }
        let mode = std::os::unix::fs::MetadataExt::mode(&metadata);
        if mode & 0o077 != 0 {
            tracing::warn!("ignoring password file \"{shown}\": others can read it; run chmod 0600 \"{shown}\"");
            return Ok(Self(None));
        }
        let text =
            crate::base::small_file::read_small(&path).with_context(|| format!("read password file \"{shown}\""))?;
        Ok(Self(Some(text)))
    }

    /// Finds the password of a server; `exact` leaves lines aside that do not name host and port.
    pub(crate) fn find(&self, host: &str, port: u16, login: (&str, &str), exact: bool) -> Option<Secret> {
        let (user, database) = login;
        let text = self.0.as_deref()?;
        look_up(text, &[host, &port.to_string(), database, user], exact).map(Secret::new)
    }
}

/// Returns what lines of the file call a server.
pub(crate) fn called(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        // libpq matches the default socket directory as "localhost".
        Host::Unix(path) if matches!(path.to_str(), Some("/tmp" | "/var/run/postgresql")) => "localhost".to_owned(),
        Host::Unix(path) => path.display().to_string(),
    }
}

/// Finds the password of the first matching line `host:port:database:user:password`; `\` escapes `:` and `\`.
fn look_up(text: &str, wanted: &[&str; 4], exact: bool) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split(line);
        let (password, keys) = fields.split_last()?;
        let named = keys.iter().take(2).all(|field| field != "*");
        let matches = keys.len() == 4
            && (named || !exact)
            && keys
                .iter()
                .zip(wanted)
                .all(|(field, want)| field == "*" || field == want);
        matches.then(|| password.clone())
    })
}

fn split(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let literal = match c {
            '\\' => chars.next(),
            ':' if fields.len() < 5 => None,
            other => Some(other),
        };
        match literal {
            Some(c) => {
                if let Some(last) = fields.last_mut() {
                    last.push(c);
                }
            }
            None => fields.push(String::new()),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pgpass_lines_match_in_order_with_wildcards_and_escapes() {
        let text = "# comment\nother:5432:*:*:no\n*:5432:my\\:db:u:p\\\\w:rest\n*:*:*:*:last\n";
        assert_eq!(look_up(text, &["h", "5432", "my:db", "u"], false).unwrap(), "p\\w:rest");
        assert_eq!(look_up(text, &["h", "1", "x", "u"], false).unwrap(), "last");
        assert_eq!(look_up("bad line", &["h", "1", "x", "u"], false), None);
        assert_eq!(look_up(text, &["h", "5432", "my:db", "u"], true), None);
    }

    #[test]
    fn an_empty_password_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, right) in [("", false), ("\nx\n", false), ("x", true), ("x\ny\n", true)] {
            std::fs::write(file.path(), text).unwrap();
            let read = first_line(file.path());
            assert_eq!(read.is_ok(), right, "{text:?}");
            assert!(read.map_or_else(|error| error.chain().contains("is empty"), |read| read.expose() == b"x"));
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_passed_by() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("pass");
        std::fs::write(&path, "h:5432:*:*:geheim\n").unwrap();
        let named = path.display().to_string();
        let find = |mode: u32| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let file = Pgpass::read(Some(&named), &|_| None).unwrap();
            file.find("h", 5432, ("u", "d"), false)
        };
        assert!(find(0o600).is_some() && find(0o400).is_some());
        assert!(find(0o640).is_none() && find(0o604).is_none());
        // By the variable as by the parameter, and the parameter first.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let env = |name: &str| (name == "PGPASSFILE").then(|| named.clone());
        assert!(
            Pgpass::read(None, &env)
                .unwrap()
                .find("h", 5432, ("u", "d"), true)
                .is_some()
        );
        let none = Pgpass::read(Some("/nonexistent"), &env).unwrap();
        assert!(none.find("h", 5432, ("u", "d"), false).is_none());
    }
}
