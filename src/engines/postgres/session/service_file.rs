//! `pg_service.conf`: connection parameters under a name. Read only for connection strings of this host.
//!
//! Specification: <https://www.postgresql.org/docs/current/libpq-pgservice.html>

use std::path::{Path, PathBuf};

use super::conninfo::{Params, parameter};
use super::url::Env;
use crate::base::error::{Context as _, Error, Result};

/// Where Debian's packages of libpq look when nothing says it.
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

/// Finds a service: in the file that is named, else in `~/.pg_service.conf`, then in that of the system.
pub(crate) fn look_up(service: &str, named: Option<&str>, env: Env<'_>) -> Result<Params> {
    let own = || env("HOME").map(|home| Path::new(&home).join(".pg_service.conf"));
    let user = named.map(PathBuf::from).or_else(own);
    let directory = env("PGSYSCONFDIR").unwrap_or_else(|| SYSTEM_DIRECTORY.to_owned());
    let files: Vec<PathBuf> = user
        .into_iter()
        .chain([Path::new(&directory).join("pg_service.conf")])
        .collect();
    for file in &files {
        let text = match crate::base::small_file::read_small(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("read service file \"{}\"", file.display()))?,
        };
        let found = parse(&text, service);
        if let Some(found) = found.with_context(|| format!("read service file \"{}\"", file.display()))? {
            return Ok(found);
        }
    }
    let places: Vec<String> = files.iter().map(|file| format!("\"{}\"", file.display())).collect();
    Err(Error::invalid(format!(
        "no service \"{service}\" is defined in {}",
        places.join(" or ")
    ))
    .with_hint("Write [NAME] and lines such as host=… there, or name the file with PGSERVICEFILE."))
}

/// Reads one section. The first value of a parameter counts, as in libpq.
fn parse(text: &str, service: &str) -> Result<Option<Params>> {
    let mut found: Option<Params> = None;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        // What stands in the line may be a password.
        let wrong = |why: &str| Error::invalid(format!("line {}: {why}", at + 1));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if name.strip_suffix(']') == Some(service) {
                found = Some(Params::default());
            }
            continue;
        }
        let Some(params) = &mut found else { continue };
        if line.starts_with("ldap") {
            return Err(wrong("services in a directory (LDAP) are not supported"));
        }
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("it has no \"=\""))?;
        if matches!(name, "service" | "servicefile") {
            return Err(wrong("a service cannot name another one"));
        }
        // What other programs read in another encoding, we read as UTF8.
        if name == "client_encoding" || params.has(name) {
            continue;
        }
        if parameter(name).is_none() {
            params.set(name, String::new()).map_err(|error| {
                let hint = error.hint().unwrap_or_default().to_owned();
                wrong("its parameter is not known").with_hint(hint)
            })?;
        }
        params.set(name, value.to_owned())?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_section_is_read_until_the_next() {
        let text = "# services\n[other]\nhost=no\n\n[wv]\nhost=db\nport=6000\n  user=app  \npassword=a b=c\nhost=second\n[wv2]\nuser=no\n";
        let found = parse(text, "wv").unwrap().unwrap();
        assert_eq!(found.get("host"), Some("db"));
        assert_eq!((found.get("user"), found.get("password")), (Some("app"), Some("a b=c")));
        assert!(parse(text, "none").unwrap().is_none());
        for (bad, hint) in [
            ("[wv]\nhots=geheim", "host"),
            ("[wv]\ngeheim", ""),
            ("[wv]\nservice=geheim", ""),
            ("[wv]\nldap://geheim", ""),
        ] {
            let error = parse(bad, "wv").unwrap_err();
            assert!(
                error.chain().contains("line 2") && !error.chain_and_hint().contains("geheim"),
                "{error:?}"
            );
            assert!(error.hint().unwrap_or_default().contains(hint), "{error:?}");
        }
    }

    #[test]
    fn the_users_file_comes_before_the_systems() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().display().to_string();
        std::fs::write(place.path().join(".pg_service.conf"), "[a]\nhost=own\n").unwrap();
        std::fs::write(
            place.path().join("pg_service.conf"),
            "[a]\nhost=system\n[b]\nhost=system\n",
        )
        .unwrap();
        std::fs::write(place.path().join("named"), "[a]\nhost=named\n").unwrap();
        let env = |name: &str| matches!(name, "HOME" | "PGSYSCONFDIR").then(|| root.clone());
        let host =
            |service: &str, named: Option<&str>| look_up(service, named, &env).unwrap().get("host").unwrap().to_owned();
        assert_eq!((host("a", None).as_str(), host("b", None).as_str()), ("own", "system"));
        let named = format!("{root}/named");
        assert_eq!(
            (host("a", Some(&named)).as_str(), host("b", Some(&named)).as_str()),
            ("named", "system")
        );
        let error = look_up("c", None, &env).unwrap_err();
        assert!(error.chain().contains(".pg_service.conf"), "{error:?}");
    }
}
