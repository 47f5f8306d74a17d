//! Whether a configuration file that holds secrets itself can be read by everybody on the host.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use toml::de::DeValue;

use crate::base::keys::Key;
use crate::config::document::Found;
use crate::engines::postgres::Params;

/// Warns of a file that everybody may read and that holds secrets; the keys are named, not the values.
pub(super) fn warn(path: &Path, found: &[Found<'_>]) {
    let open = std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o004 != 0);
    if !open {
        return;
    }
    let found = secrets(found);
    if let Some(first) = found.first() {
        let more = match found.len() {
            1 => String::new(),
            more => format!(" and {} more", more - 1),
        };
        let path = path.display();
        tracing::warn!(
            "\"{path}\" holds secrets ({first}{more}) and is readable by every user of this host: run chmod 0600 \
             \"{path}\", or move \
             them into files (password_file, token_file)"
        );
    }
}

/// Returns the keys that hold secrets, with their sections.
fn secrets(found: &[Found<'_>]) -> Vec<String> {
    let mut named = Vec::new();
    for one in found {
        let section: Vec<&str> = [one.section.word, one.name]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect();
        for (name, value) in one.table.keys {
            let name = name.get_ref().as_ref();
            let key = one.keys().find(|key| key.name == name || key.formerly == Some(name));
            if key.is_some_and(|key| is_held(key, value.get_ref())) {
                named.push([&section[..], &[name]].concat().join("."));
            }
        }
    }
    named
}

/// Whether the value of a key is a secret, or has one in it: the password of a URL, the address of a hook.
fn is_held(key: &Key, value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => key.secret || has_password(text),
        DeValue::Array(items) => items.iter().any(|item| is_secret(item.get_ref())),
        DeValue::Table(inner) => inner.iter().any(|(name, value)| {
            let mut keys = key.kind.keys().unwrap_or_default().iter();
            let inner = keys.find(|key| key.name == name.get_ref());
            inner.is_some_and(|key| is_held(key, value.get_ref()))
        }),
        _ => false,
    }
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
    use crate::base::keys::Source;
    use crate::config::document;

    #[test]
    fn keys_with_secrets_are_found_and_files_of_secrets_are_none() {
        let text = "status_token = \"t\"\n[source.app]\nkind = \"postgres\"\nurl = \"postgres://app:pw@db/app\"\n[source.b]\nkind = \"postgres\"\nurl = \"postgres://b@db/b\"\n\
                    password_file = \"/x\"\n[source.c]\nkind = \"postgres\"\nurl = \"host=db password = x\"\n[source.d]\nkind = \"postgres\"\nurl = \"host=db\"\n[notify.chat]\nkind = \"slack\"\nurl = \"https://hooks.example/T0\"\n[repository.x]\nsecret_key = \"s\"\n[job.full]\nping = { start = \"https://p.example\" }\nkeep = { last = 1 }\n";
        let source = Source { file: "f", text };
        let document = document::parse(source).unwrap();
        let mut found = secrets(&document::sections(source, document.get_ref()).unwrap());
        found.sort();
        assert_eq!(
            found,
            [
                "job.full.ping",
                "notify.chat.url",
                "repository.x.secret_key",
                "source.app.url",
                "source.c.url",
                "status_token"
            ]
        );
    }
}
