//! What holds at present: every key that has a value, with the line or the default that it comes from, and no secret.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Value;
use toml::de::{DeTable, DeValue};

use crate::base::error::{Error, Result};
use crate::base::keys::{Key, Kind, Section, Source};
use crate::config::document::{self, Found};
use crate::config::file;
use crate::config::keys::{OF_S3, TopKeys};
use crate::config::types::{Config, SourceKind};
use crate::config::{redact_url, redact_urls};

/// What is printed in place of a secret.
const HIDDEN: &str = "***";

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The file.
    File,
    /// Nothing was said.
    Default,
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Held {
    /// Its name.
    pub key: &'static str,
    /// Its value, as in a file.
    pub value: Value,
    /// Where it comes from.
    pub from: Origin,
    /// The line of the file, from 1, if it comes from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// A section with the keys that have a value.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct HeldSection {
    /// Its name in a file, without brackets: `job.full`; empty for what stands above all sections.
    pub section: String,
    /// Its keys, in the order of the reference page.
    pub keys: Vec<Held>,
}

/// Everything that holds.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Effective {
    /// Where it comes from: the name of a file, or `the environment`.
    pub origin: String,
    /// Its sections.
    pub sections: Vec<HeldSection>,
}

impl Effective {
    /// Reads and checks a file.
    pub fn of_file(path: &Path) -> Result<Self> {
        let text = file::read_text(path)?;
        let name = path.display().to_string();
        file::parse(&name, &text)?;
        Self::of(&name, &text, Origin::File)
    }

    /// Says as a file what the environment configures.
    pub fn of_environment(config: &Config) -> Result<Self> {
        Self::of(&config.origin, &written(config), Origin::Environment)
    }

    fn of(origin: &str, text: &str, from: Origin) -> Result<Self> {
        let source = Source { file: origin, text };
        let document = document::parse(source)?;
        let found = document::sections(source, document.get_ref())?;
        Ok(Self {
            origin: origin.to_owned(),
            sections: found.iter().map(|one| section(one, from)).collect::<Result<_>>()?,
        })
    }

    /// Takes a value that comes before the file's, of a key above all sections.
    pub fn set_top(&mut self, key: &'static str, value: String, from: Origin) {
        let Some(top) = self.sections.first_mut() else { return };
        let order = |key: &str| TopKeys::KEYS.iter().position(|one| one.name == key);
        top.keys.retain(|held| held.key != key);
        let at = top.keys.iter().position(|held| order(held.key) > order(key));
        let held = Held {
            key,
            value: Value::String(value),
            from,
            line: None,
        };
        top.keys.insert(at.unwrap_or(top.keys.len()), held);
    }

    /// Returns it as a file, each value with a comment of where it comes from.
    pub fn text(&self) -> String {
        let mut text = format!(
            "# Effective configuration from {}. Secrets are shown as {HIDDEN}.\n",
            self.origin
        );
        for HeldSection { section, keys } in &self.sections {
            if !section.is_empty() {
                text.push_str(&format!("\n[{section}]\n"));
            }
            for held in keys {
                let pair = format!("{} = {}", held.key, held.value);
                let from = match (held.line, held.from) {
                    (Some(number), _) => format!("line {number}"),
                    (None, Origin::Default) => "default".to_owned(),
                    (None, Origin::Flag) => "command line".to_owned(),
                    (None, _) => "environment".to_owned(),
                };
                text.push_str(&format!("{pair:<60} # {from}\n"));
            }
        }
        text
    }
}

fn section(found: &Found<'_>, from: Origin) -> Result<HeldSection> {
    let mut keys = Vec::new();
    // What only a bucket has may not stand beside a directory.
    let is_of_bucket = |key: &Key| found.section.word == "repository" && OF_S3.contains(&key.name);
    let is_directory = !found.table.keys.iter().any(|(name, value)| {
        name.get_ref() == "url" && value.get_ref().as_str().is_some_and(|url| url.starts_with("s3://"))
    });
    for key in found.keys() {
        let held = match (found.table.given(key)?, key.default) {
            (Some(given), _) => {
                let line = found.table.source.line(given.name.span().start);
                let line = (from == Origin::File).then_some(line);
                (shown(key, given.value.get_ref()), from, line)
            }
            (None, Some(_)) if is_directory && is_of_bucket(key) => continue,
            (None, Some(text)) => (default(key, text)?, Origin::Default, None),
            (None, None) => continue,
        };
        let (value, from, line) = held;
        keys.push(Held {
            key: key.name,
            value,
            from,
            line,
        });
    }
    let name = if found.name.contains('.') {
        format!("\"{}\"", found.name)
    } else {
        found.name.to_owned()
    };
    let words = [found.section.word, &name];
    let is_short = found.name == "default" && found.table.section == format!("[{}]", found.section.word);
    Ok(HeldSection {
        section: match words {
            ["", _] => String::new(),
            [word, _] if is_short => word.to_owned(),
            words => words.join("."),
        },
        keys,
    })
}

/// Returns the value of a default.
fn default(key: &Key, text: &str) -> Result<Value> {
    let document: toml::Table = format!("value = {text}")
        .parse()
        .map_err(|_| Error::invalid(format!("the default of {} is no value", key.name)))?;
    document
        .get("value")
        .cloned()
        .ok_or_else(|| Error::invalid(format!("{} has no default", key.name)))
}

/// Returns a value for people: a secret is hidden, and of a URL its password. A pattern may look like part of a URL.
fn shown(key: &Key, value: &DeValue<'_>) -> Value {
    let text = |text: &str| {
        Value::String(if key.holds_urls() {
            redact_url(text)
        } else {
            redact_urls(text)
        })
    };
    let list = |items: &toml::de::DeArray<'_>| items.iter().map(|item| shown(key, item.get_ref())).collect();
    match (value, key.kind) {
        (DeValue::Table(tables), Kind::Tables(keys)) => Value::Table(
            tables
                .iter()
                .filter_map(|(name, value)| {
                    Some((name.get_ref().to_string(), inner(keys, value.get_ref().as_table()?)))
                })
                .collect(),
        ),
        (DeValue::Table(table), kind) => inner(kind.keys().unwrap_or_default(), table),
        (DeValue::String(_), _) if key.secret => Value::String(HIDDEN.to_owned()),
        // Whoever knows the address of a hook may call it, and a program's arguments may be secrets.
        (DeValue::String(address), Kind::Call) => Value::String(call(address)),
        (DeValue::Array(words), Kind::Call) => {
            let program = words.iter().take(1).map(|word| shown(&Key::text(), word.get_ref()));
            let hidden = words.iter().skip(1).map(|_| Value::String(HIDDEN.to_owned()));
            Value::Array(program.chain(hidden).collect())
        }
        (DeValue::String(one), _) => text(one),
        (DeValue::Array(items), _) => Value::Array(list(items)),
        (DeValue::Boolean(flag), _) => Value::Boolean(*flag),
        (DeValue::Integer(number), _) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            number.map_or_else(|_| Value::String(HIDDEN.to_owned()), Value::Integer)
        }
        (DeValue::Float(_) | DeValue::Datetime(_), _) => Value::String(HIDDEN.to_owned()),
    }
}

fn inner(keys: &[Key], table: &DeTable<'_>) -> Value {
    let held = keys.iter().filter_map(|key| {
        let (_, value) = table.iter().find(|(name, _)| name.get_ref() == key.name)?;
        Some((key.name.to_owned(), shown(key, value.get_ref())))
    });
    Value::Table(held.collect())
}

/// Returns the server of an address that is called.
fn call(address: &str) -> String {
    let url = url::Url::parse(address).ok();
    let server = url.as_ref().and_then(|url| Some((url.scheme(), url.host_str()?)));
    server.map_or_else(
        || HIDDEN.to_owned(),
        |(scheme, host)| format!("{scheme}://{host}/{HIDDEN}"),
    )
}

/// Writes what the environment configures as a file. Secrets that have a key stand there as stars; passwords of servers have none.
fn written(config: &Config) -> String {
    let mut file = toml::Table::new();
    let text = |text: &str| Value::String(text.to_owned());
    let mut add = |section: &str, name: &str, keys: BTreeMap<&str, Option<Value>>| {
        let keys = keys
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let table = Value::Table(keys.collect());
        match name {
            "" => {
                file.insert(section.to_owned(), table);
            }
            name => {
                let of_section = file.entry(section).or_insert_with(|| Value::Table(toml::Table::new()));
                if let Some(named) = of_section.as_table_mut() {
                    named.insert(name.to_owned(), table);
                }
            }
        }
    };
    for one in &config.repositories {
        let secret = one.static_keys.as_ref().map(|_| text(HIDDEN));
        let keys = [
            ("url", Some(text(&one.url))),
            ("endpoint", one.endpoint.as_deref().map(text)),
            ("region", one.region.as_deref().map(text)),
            ("access_key", secret.clone()),
            ("secret_key", secret),
        ];
        add("repository", "", keys.into());
    }
    for source in &config.sources {
        let place = match &source.kind {
            SourceKind::Postgres(one) => ("url", Some(text(&one.url))),
            SourceKind::Redis(one) => ("url", Some(text(&one.url))),
            SourceKind::Sqlite(one) => ("path", one.path.to_str().map(text)),
            SourceKind::Files(one) => ("root", one.root.to_str().map(text)),
            SourceKind::Docker(_) | SourceKind::Other(_) => continue,
        };
        let keys = [("kind", Some(text(source.kind.word()))), place];
        add("source", &source.name, keys.into());
    }
    for job in &config.jobs {
        let sources = job.sources.iter().map(|name| text(name)).collect();
        let keep = job.keep.as_ref().map(|keep| {
            let rules = [
                ("last", keep.last),
                ("hourly", keep.hourly),
                ("daily", keep.daily),
                ("weekly", keep.weekly),
                ("monthly", keep.monthly),
                ("yearly", keep.yearly),
                ("within_days", keep.within_days),
                ("minimum", keep.minimum),
            ];
            let rules = rules.into_iter().filter(|(_, number)| *number > 0);
            Value::Table(
                rules
                    .map(|(rule, number)| (rule.to_owned(), Value::Integer(number.into())))
                    .collect(),
            )
        });
        let keys = [
            ("sources", Some(Value::Array(sources))),
            ("schedule", job.schedule.as_deref().map(text)),
            ("keep", keep),
            (
                "ping",
                job.ping
                    .success
                    .as_ref()
                    .map(|_| Value::Table([("success".to_owned(), text(HIDDEN))].into_iter().collect())),
            ),
        ];
        add("job", &job.name, keys.into());
    }
    if config.status_token.is_some() {
        file.insert("status_token".to_owned(), text(HIDDEN));
    }
    file.to_string()
}
