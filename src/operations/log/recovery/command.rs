//! The `restore_command` of a server that recovers: this program, by its absolute path, with what it takes to reach the repository.

use std::path::{Path, PathBuf};

use crate::base::environment::{VARIABLES, variable};
use crate::base::error::{Error, Result};
use crate::config::redact_url;
use crate::engines::postgres::wal::Lsn;
use crate::operations::Session;
use crate::operations::session::quoted;

/// What the names of variables begin with that reach a bucket.
const OF_STORES: [&str; 2] = ["AWS_", "S3_"];

/// Returns the command, as a shell reads it once the server has put names for `%f` and `%p`. It holds no secret: keys of a bucket come from the
/// configuration file or the server's environment.
pub(super) fn restore_command(session: &Session, system: u64, until: Option<Lsn>) -> Result<String> {
    let repository = session.repository_config()?;
    let mut words = vec![text(&program()?)?];
    let file = configuration(session);
    if let Some(file) = &file {
        words.extend(["--config".to_owned(), text(file)?]);
    }
    let configured = session.config.repositories.iter();
    let configured = configured.filter(|one| one.name == repository.name && one.url == repository.url);
    // The file says more of it than its URL: region, endpoint, keys.
    let named = file.is_some() && configured.count() > 0;
    let from = if named { repository.name } else { repository.url };
    let told = [Some(&from), session.endpoint.as_ref()];
    if told.into_iter().flatten().any(|url| redact_url(url) != **url) {
        return Err(
            Error::invalid("a URL of the repository holds a secret, which would stand in restore_command")
                .with_hint("Put it into a configuration file, and give that with --config."),
        );
    }
    let mut more = vec!["--from".to_owned(), from];
    if let Some(endpoint) = session.endpoint.clone() {
        more.extend(["--endpoint".to_owned(), endpoint]);
    }
    more.extend(["--system-id".to_owned(), system.to_string()]);
    if let Some(until) = until {
        more.extend(["--until".to_owned(), until.to_string()]);
    }
    let shown = |words: &[String]| words.iter().map(|word| escaped(word)).collect::<Vec<_>>().join(" ");
    Ok(format!("{} log fetch %f \"%p\" {}", shown(&words), shown(&more)))
}

/// Returns the variables that reach the repository here, and that the server's environment may not have.
pub(super) fn needs(session: &Session) -> Result<Vec<String>> {
    let repository = session.repository_config()?;
    let keys_are_in_file = repository.static_keys.is_some() && configuration(session).is_some();
    if keys_are_in_file || !repository.url.starts_with("s3://") {
        return Ok(Vec::new());
    }
    let of_stores = |name: &str| OF_STORES.iter().any(|start| name.starts_with(start));
    let has_value = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let names = VARIABLES.iter().map(|variable| variable.name);
    Ok(names
        .filter(|name| of_stores(name) && has_value(name))
        .filter(|name| !name.starts_with("S3_BACKUP_"))
        .map(str::to_owned)
        .collect())
}

/// Returns where this program lies.
fn program() -> Result<PathBuf> {
    // Where there is no /proc, as it was called.
    let called = || std::env::args_os().next().map(PathBuf::from);
    let found = std::env::current_exe().ok().filter(|path| path.is_file());
    let found = found.or_else(|| called().filter(|path| path.is_file()));
    let found = found.ok_or_else(|| {
        Error::invalid("the path of this program is not known, and restore_command needs it")
            .with_hint("Call it by its absolute path.")
    })?;
    Ok(std::path::absolute(found)?)
}

/// Returns the configuration file of this session, if there is one.
fn configuration(session: &Session) -> Option<PathBuf> {
    std::path::absolute(&session.config.origin)
        .ok()
        .filter(|path| path.is_file())
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    let text = text.ok_or_else(|| {
        let shown = path.to_string_lossy();
        Error::invalid(format!("{shown:?} cannot stand in restore_command"))
    })?;
    Ok(text.to_owned())
}

/// Writes a word for a shell, in which the server replaces nothing.
fn escaped(word: &str) -> String {
    quoted(word).replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_neither_split_nor_replaced() {
        for (word, is) in [
            ("/usr/bin/wirevault", "/usr/bin/wirevault"),
            ("/srv/100%f", "/srv/100%%f"),
            ("/srv/it's here", "'/srv/it'\\''s here'"),
        ] {
            assert_eq!(escaped(word), is);
        }
    }
}
