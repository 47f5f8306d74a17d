//! What is made of the declared keys for people and editors: the example, the reference page, the schema.

mod example;
mod reference;
mod schema;

pub use example::example;
pub use reference::reference;
pub use schema::schema;

use crate::base::keys::Key;
use crate::config::keys::{FileSection, SECTIONS, SOURCES, SourceKind};

/// A table of the example: its name, its keys (all where none is named), and values in place of those of the declarations.
struct Instance {
    name: &'static str,
    keys: &'static [&'static str],
    values: &'static [(&'static str, &'static str)],
}

impl Instance {
    const fn whole(name: &'static str) -> Self {
        Self {
            name,
            keys: &[],
            values: &[],
        }
    }

    /// Returns the value of a key here.
    fn value(&self, key: &Key) -> String {
        let own = self.values.iter().find(|(name, _)| *name == key.name);
        own.map_or_else(|| example_of(key), |(_, value)| (*value).to_owned())
    }

    fn has(&self, key: &Key) -> bool {
        self.keys.is_empty() || self.keys.contains(&key.name)
    }
}

/// Returns the tables of the example of a section, or of a kind of sources. Two keys of which a table may have one stand in two tables.
fn instances(section: &FileSection, kind: Option<&SourceKind>) -> &'static [Instance] {
    const TOP: &[Instance] = &[Instance::whole("")];
    const REPOSITORY: &[Instance] = &[
        Instance {
            name: "far",
            keys: &[
                "url",
                "endpoint",
                "region",
                "storage_class",
                "sse",
                "sse_kms_key",
                "rate_limit",
                "path_style",
                "part_size",
                "max_parts",
                "checksums",
                "ca_file",
                "access_key",
                "secret_key",
            ],
            values: &[],
        },
        Instance {
            name: "near",
            keys: &["url", "require_mountpoint"],
            values: &[("url", "\"file:///mnt/nas/app\"")],
        },
    ];
    const POSTGRES: &[Instance] = &[Instance {
        values: &[("kind", "\"postgres\"")],
        ..Instance::whole("app")
    }];
    const PHYSICAL: &[Instance] = &[Instance {
        values: &[("kind", "\"postgres-physical\"")],
        ..Instance::whole("cluster")
    }];
    const REDIS: &[Instance] = &[Instance {
        values: &[("kind", "\"redis\"")],
        ..Instance::whole("cache")
    }];
    const SQLITE: &[Instance] = &[Instance {
        values: &[("kind", "\"sqlite\"")],
        ..Instance::whole("state")
    }];
    const FILES: &[Instance] = &[Instance::whole("etc")];
    const DOCKER: &[Instance] = &[Instance {
        values: &[("kind", "\"docker\"")],
        ..Instance::whole("stack")
    }];
    const JOB: &[Instance] = &[Instance::whole("full")];
    const DRILL: &[Instance] = &[Instance::whole("sunday")];
    const NOTIFY: &[Instance] = &[
        Instance {
            name: "team",
            keys: &["kind", "url", "token", "jobs", "on"],
            values: &[],
        },
        Instance {
            name: "mail",
            keys: &["kind", "url_file", "token_file", "from", "to"],
            values: &[("kind", "\"email\"")],
        },
    ];
    const CLEANUP: &[Instance] = &[
        Instance {
            name: "logs",
            keys: &["path", "glob", "keep", "delete", "schedule", "timezone"],
            values: &[],
        },
        Instance {
            name: "docker",
            keys: &["unused_for", "socket", "images", "containers", "volumes", "exclude"],
            values: &[],
        },
    ];
    match (section.word, kind.map(|kind| kind.word)) {
        ("repository", _) => REPOSITORY,
        ("source", Some("postgres")) => POSTGRES,
        ("source", Some("postgres-physical")) => PHYSICAL,
        ("source", Some("redis")) => REDIS,
        ("source", Some("sqlite")) => SQLITE,
        ("source", Some("files")) => FILES,
        ("source", Some("docker")) => DOCKER,
        ("job", _) => JOB,
        ("drill", _) => DRILL,
        ("notify", _) => NOTIFY,
        ("cleanup", _) => CLEANUP,
        _ => TOP,
    }
}

/// Every section with its keys; sources once for each kind, their own keys behind those of every kind.
fn whole() -> impl Iterator<Item = (&'static FileSection, Option<&'static SourceKind>, Vec<&'static Key>)> {
    SECTIONS.iter().flat_map(|section| {
        let kinds: Vec<Option<&SourceKind>> = match section.word {
            "source" => SOURCES.iter().map(Some).collect(),
            _ => vec![None],
        };
        kinds.into_iter().map(move |kind| {
            let of_kind = kind.map_or(&[][..], |kind| kind.keys);
            (section, kind, section.keys.iter().chain(of_kind).collect())
        })
    })
}

/// Returns a value of a key as a person would write it. That of a table is made of the examples of its keys.
fn example_of(key: &Key) -> String {
    match key.kind {
        crate::base::keys::Kind::Table(keys) => inline(keys),
        crate::base::keys::Kind::Tables(keys) => format!("{{ far = {} }}", inline(keys)),
        _ => key.example.to_owned(),
    }
}

fn inline(keys: &[Key]) -> String {
    let pairs = keys.iter().map(|key| format!("{} = {}", key.name, example_of(key)));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

/// Takes the marks of Markdown out of a text: back-ticks, and links but for their words.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.trim();
    while let Some((before, after)) = rest.split_once('[') {
        plain.push_str(before);
        let link = after.split_once("](").filter(|(words, _)| !words.contains(']'));
        if let Some((words, (_, behind))) = link.and_then(|(words, behind)| Some((words, behind.split_once(')')?))) {
            plain.push_str(words);
            rest = behind;
        } else {
            plain.push('[');
            rest = after;
        }
    }
    plain.push_str(rest);
    plain.replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_markdown_go_and_brackets_of_sections_stay() {
        let text = " `[repository]` or `[repository.NAME]` ([stores](stores.md)), `KEY` or a[0].";
        assert_eq!(plain(text), "[repository] or [repository.NAME] (stores), KEY or a[0].");
    }
}
