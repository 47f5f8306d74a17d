//! Variables of the environment, and the files of secrets that some of them name.
//!
//! Docker and Kubernetes mount a secret as a file; `POSTGRES_PASSWORD_FILE=/run/secrets/pg` then stands for
//! `POSTGRES_PASSWORD`. The file is read when the value is asked for: at the start, and at SIGHUP of `run`.
//! Two answers to one question are refused at the start ([`check`]), and so are half of a pair of keys and a file that cannot be
//! read.

use std::path::Path;

use crate::base::error::{Context, Error, Result};

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

/// Fails if a variable is given twice, its file cannot be read, or half of a pair of keys is missing.
pub fn check() -> Result<()> {
    FROM_FILES
        .iter()
        .try_for_each(|name| resolve(&process, name).map(drop))?;
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
        Error::invalid(format!("{present} is set, and {missing} is not")).with_hint(format!(
            "Set {missing} or {missing}_FILE too; or unset {present}, and the keys of a profile or of this machine are used."
        )),
    )
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
