//! Variables of the environment, and the files of secrets that some of them name.
//!
//! Docker and Kubernetes mount a secret as a file; `POSTGRES_PASSWORD_FILE=/run/secrets/pg` then stands for
//! `POSTGRES_PASSWORD`. The file is read when the value is asked for: at the start, and at SIGHUP of `run`.
//! Two answers to one question are refused at the start ([`check`]), and so is a file that cannot be read.

use std::path::Path;

use crate::error::{Context, Error, Result};

/// Variables whose value may stand in a file that `NAME_FILE` names. The user and the database are here because the images
/// of PostgreSQL have them so.
pub const FROM_FILES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "BACKUP_PING_URL",
    "DATABASE_URL",
    "PGPASSWORD",
    "POSTGRES_DB",
    "POSTGRES_PASSWORD",
    "POSTGRES_USER",
    "REDISCLI_AUTH",
    "REDIS_URL",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "WIREVAULT_STATUS_TOKEN",
];

/// The longest file of a secret that is read, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Returns a variable of the process, or what its file holds.
pub fn variable(name: &str) -> Option<String> {
    resolve(&process, name).unwrap_or_default()
}

/// Fails if a variable is given twice, or its file cannot be read.
pub fn check() -> Result<()> {
    FROM_FILES.iter().try_for_each(|name| resolve(&process, name).map(drop))
}

/// Returns the value of a variable, or the first line of the file that `NAME_FILE` names; nothing that is empty.
pub fn resolve(lookup: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<Option<String>> {
    let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let value = get(name);
    if !FROM_FILES.contains(&name) {
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
}
