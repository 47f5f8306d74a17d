//! Which keys a configuration file may have, and what to say of any other.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::base::error::{Error, Result};
use crate::base::nearest::nearest;

pub(super) const TOP: &[&str] = &[
    "repository",
    "source",
    "job",
    "drill",
    "notify",
    "cleanup",
    "memory_limit",
    "spool_dir",
    "timezone",
    "host",
    "status_token",
    "status_token_file",
];
pub(super) const REPOSITORY: &[&str] = &[
    "url",
    "endpoint",
    "region",
    "storage_class",
    "sse",
    "sse_kms_key",
    "rate_limit",
    "require_mountpoint",
    "path_style",
    "part_size",
    "max_parts",
    "checksums",
    "ca_file",
    "access_key",
    "secret_key",
];
pub(super) const POSTGRES: &[&str] = &[
    "kind",
    "url",
    "password_file",
    "parallel",
    "max_block",
    "no_role_passwords",
    "exclude_tables",
    "exclude_schemas",
    "exclude_table_data",
    "exclude_extensions",
    "exclude_large_objects",
    "rate_limit",
    "optional",
];
pub(super) const SQLITE: &[&str] = &["kind", "path", "method", "rate_limit", "optional"];
pub(super) const REDIS: &[&str] = &[
    "kind",
    "url",
    "password_file",
    "cert",
    "key",
    "cacert",
    "rate_limit",
    "optional",
];
pub(super) const FILES: &[&str] = &[
    "kind",
    "root",
    "include",
    "exclude",
    "one_file_system",
    "exclude_if_present",
    "exclude_caches",
    "allow_empty",
    "devices",
    "rate_limit",
    "optional",
];
pub(super) const DOCKER: &[&str] = &[
    "kind",
    "socket",
    "volumes",
    "exclude",
    "labels",
    "containers",
    "quiesce",
    "stop_timeout",
    "kill",
    "images",
    "environment",
    "access",
    "health",
    "rate_limit",
    "optional",
];
pub(super) const JOB: &[&str] = &[
    "sources",
    "schedule",
    "timezone",
    "jitter",
    "timeout",
    "keep",
    "keep_in",
    "repositories",
    "compression_level",
    "before",
    "after",
    "on_failure",
    "ping",
    "on_change",
    "idle_timeout",
    "max_stall",
];
pub(super) const NOTIFY: &[&str] = &[
    "kind",
    "url",
    "url_file",
    "token",
    "token_file",
    "from",
    "to",
    "jobs",
    "on",
];
pub(super) const DRILL: &[&str] = &[
    "schedule",
    "timezone",
    "jitter",
    "level",
    "snapshots",
    "into",
    "repository",
    "timeout",
];
pub(super) const CLEANUP: &[&str] = &[
    "path",
    "glob",
    "keep",
    "unused_for",
    "socket",
    "images",
    "containers",
    "volumes",
    "exclude",
    "delete",
    "schedule",
    "timezone",
];
pub(super) const KEEP: &[&str] = &[
    "last",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "yearly",
    "within_days",
    "minimum",
    "storage_class",
];

/// Kinds of the design that this version does not read yet.
pub(super) const LATER_KINDS: &[&str] = &["postgres-physical"];
pub(super) const KINDS: &[&str] = &["postgres", "redis", "sqlite", "files", "docker"];

/// A file being checked: its name and text, to name the line of a byte.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Place<'_> {
    /// Names the place of a byte offset: `wirevault.toml:12`.
    pub(super) fn at(&self, offset: usize) -> String {
        let before = self.text.bytes().take(offset);
        format!("{}:{}", self.file, before.filter(|byte| *byte == b'\n').count() + 1)
    }
}

type Table<'a> = DeTable<'a>;

/// Checks every key of a document against the tables above.
pub(super) fn check(place: Place<'_>, root: &Table<'_>) -> Result<()> {
    known(place, root, TOP, "")?;
    for (name, table) in tables(root, "repository") {
        if name == "repository" {
            let short = table.keys().any(|key| REPOSITORY.contains(&&**key.get_ref()));
            if short {
                known(place, table, REPOSITORY, "[repository]")?;
                continue;
            }
            for (key, value) in table {
                let section = format!("[repository.{}]", key.get_ref());
                let inner = value
                    .get_ref()
                    .as_table()
                    .ok_or_else(|| unknown(place, key, REPOSITORY, "[repository]"))?;
                known(place, inner, REPOSITORY, &section)?;
            }
        }
    }
    for (name, table) in named_tables(place, root, "source")? {
        check_source(place, &name, table)?;
    }
    for (word, keys) in [("notify", NOTIFY), ("drill", DRILL), ("cleanup", CLEANUP)] {
        for (name, table) in named_tables(place, root, word)? {
            known(place, table, keys, &format!("[{word}.{name}]"))?;
        }
    }
    for (name, table) in named_tables(place, root, "job")? {
        let section = format!("[job.{name}]");
        known(place, table, JOB, &section)?;
        for (_, keep) in tables(table, "keep") {
            known(place, keep, KEEP, &format!("keep of {section}"))?;
        }
        for (_, keep_in) in tables(table, "keep_in") {
            for (repository, keep) in keep_in {
                if let Some(keep) = keep.get_ref().as_table() {
                    known(
                        place,
                        keep,
                        KEEP,
                        &format!("keep_in.{} of {section}", repository.get_ref()),
                    )?;
                }
            }
        }
    }
    Ok(())
}

fn check_source(place: Place<'_>, name: &str, table: &Table<'_>) -> Result<()> {
    let section = format!("[source.{name}]");
    let kind = table.iter().find(|(key, _)| &**key.get_ref() == "kind");
    let Some((_, kind)) = kind else {
        let offset = table.keys().map(|key| key.span().start).min().unwrap_or(0);
        return Err(
            Error::invalid(format!("{}: {section} has no \"kind\"", place.at(offset)))
                .with_hint(format!("Add a line kind = \"…\"; the kinds are {}.", KINDS.join(", "))),
        );
    };
    let at = place.at(kind.span().start);
    match kind.get_ref().as_str().unwrap_or_default() {
        "postgres" => known(place, table, POSTGRES, &section),
        "sqlite" => known(place, table, SQLITE, &section),
        "redis" => known(place, table, REDIS, &section),
        "files" => known(place, table, FILES, &section),
        "docker" | "docker-volumes" => known(place, table, DOCKER, &section),
        later if LATER_KINDS.contains(&later) => Err(later_kind(later).context(format!("{at}: {section}"))),
        other => Err(
            Error::invalid(format!("{at}: unknown kind \"{other}\" in {section}")).with_hint(
                match nearest(other, KINDS.iter().copied()) {
                    Some(near) => format!("Did you mean \"{near}\"?"),
                    None => format!("The kinds are {}.", KINDS.join(", ")),
                },
            ),
        ),
    }
}

/// The error for a kind that a later version will read.
pub(super) fn later_kind(kind: &str) -> Error {
    Error::unsupported(format!("kind \"{kind}\" is not yet supported by this version"))
        .with_hint(format!("This version backs up {}.", KINDS.join(", ")))
}

fn known(place: Place<'_>, table: &Table<'_>, keys: &[&str], section: &str) -> Result<()> {
    match table
        .keys()
        .filter(|key| !keys.contains(&&**key.get_ref()))
        .min_by_key(|key| key.span().start)
    {
        Some(key) => Err(unknown(place, key, keys, section)),
        None => Ok(()),
    }
}

fn unknown(place: Place<'_>, key: &Spanned<impl AsRef<str>>, keys: &[&str], section: &str) -> Error {
    let word = key.get_ref().as_ref();
    let within = if section.is_empty() {
        String::new()
    } else {
        format!(" in {section}")
    };
    Error::invalid(format!(
        "{}: unknown key \"{word}\"{within}",
        place.at(key.span().start)
    ))
    .with_hint(match nearest(word, keys.iter().copied()) {
        Some(near) => format!("Did you mean \"{near}\"?"),
        None => format!("The keys{within} are {}.", keys.join(", ")),
    })
}

fn tables<'a, 'i>(table: &'a Table<'i>, name: &'a str) -> impl Iterator<Item = (&'a str, &'a Table<'i>)> {
    table
        .iter()
        .filter(move |(key, _)| &**key.get_ref() == name)
        .filter_map(move |(_, value)| value.get_ref().as_table().map(|table| (name, table)))
}

fn named_tables<'a, 'i>(place: Place<'_>, root: &'a Table<'i>, name: &'a str) -> Result<Vec<(String, &'a Table<'i>)>> {
    let mut found = Vec::new();
    for (_, table) in tables(root, name) {
        for (key, value) in table {
            match value.get_ref() {
                DeValue::Table(inner) => found.push((key.get_ref().to_string(), inner)),
                _ => {
                    return Err(Error::invalid(format!(
                        "{}: \"{}\" stands directly in [{name}]",
                        place.at(key.span().start),
                        key.get_ref()
                    ))
                    .with_hint(format!("Every {name} has a name: write [{name}.NAME] above its keys.")));
                }
            }
        }
    }
    Ok(found)
}
