//! Whether a configuration file that holds secrets itself can be read by everybody on the host.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::engines::postgres::Params;

/// Keys whose values are secrets, wherever they stand.
const SECRETS: &[&str] = &["access_key", "secret_key", "token", "status_token", "password"];

/// Sections whose URLs are secrets as a whole: whoever knows the address of a hook may call it.
const HOOKS: &[&str] = &["notify"];

/// Warns of a file that everybody may read and that holds secrets; the keys are named, not the values.
pub(super) fn warn(path: &Path, document: &DeTable<'_>) {
    let open = std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o004 != 0);
    if !open {
        return;
    }
    let found = secrets(document, "");
    if let Some(first) = found.first() {
        let more = match found.len() {
            1 => String::new(),
            more => format!(" and {} more", more - 1),
        };
        let path = path.display();
        tracing::warn!(
            "\"{path}\" holds secrets ({first}{more}) and everybody on this host may read it: run chmod 0600 \"{path}\", or move \
             them into files (password_file, token_file)"
        );
    }
}

/// Returns the keys that hold secrets, with their sections.
fn secrets(table: &DeTable<'_>, section: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in table {
        let key = &**key.get_ref();
        let name = if section.is_empty() {
            key.to_owned()
        } else {
            format!("{section}.{key}")
        };
        let hook = HOOKS.iter().any(|hook| section.starts_with(hook)) && key == "url";
        match value.get_ref() {
            DeValue::String(text) if SECRETS.contains(&key) || hook || has_password(text) => found.push(name),
            DeValue::Array(items) if items.iter().any(|item| is_secret(item.get_ref())) => found.push(name),
            DeValue::Table(inner) => found.extend(secrets(inner, &name)),
            _ => {}
        }
    }
    found
}

fn is_secret(item: &DeValue<'_>) -> bool {
    matches!(item, DeValue::String(text) if has_password(text))
}

fn has_password(text: &str) -> bool {
    let of_user = text.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    let of_keywords = Params::parse(text).is_ok_and(|params| params.has("password") || params.has("sslpassword"));
    of_user.is_some_and(|(user, _)| user.contains(':'))
        || text.contains("://") && text.contains("password=")
        || of_keywords
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_with_secrets_are_found_and_files_of_secrets_are_none() {
        let text = "status_token = \"t\"\n[source.app]\nurl = \"postgres://app:pw@db/app\"\n[source.b]\nurl = \"postgres://b@db/b\"\n\
                    password_file = \"/x\"\n[source.c]\nurl = \"host=db password = x\"\n[source.d]\nurl = \"host=db\"\n[notify.chat]\nurl = \"https://hooks.example/T0\"\n[repository]\nsecret_key = \"s\"\n";
        let document = DeTable::parse(text).unwrap();
        let mut found = secrets(document.get_ref(), "");
        found.sort();
        assert_eq!(
            found,
            [
                "notify.chat.url",
                "repository.secret_key",
                "source.app.url",
                "source.c.url",
                "status_token"
            ]
        );
    }
}
