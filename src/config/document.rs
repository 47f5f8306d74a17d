//! A configuration file as the tables of its sections, before their values are read: which tables there are, and that each has the keys that
//! its section knows and no other.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::base::keys::{Key, One, Section, Source, Table, known};
use crate::config::keys::{Chosen, FileSection, Form, SECTIONS, SOURCES, SourceKeys, SourceKind};

/// A table of a section.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// The section.
    pub(super) section: &'static FileSection,
    /// Of a source, its kind.
    pub(super) kind: Option<&'static SourceKind>,
    /// The name that the file gives it; empty for the top, `default` for a repository without one.
    pub(super) name: &'a str,
    /// The table.
    pub(super) table: Table<'a>,
}

impl Found<'_> {
    /// Returns its keys: those of the section, and of a source's kind.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static Key> {
        let of_kind = self.kind.map_or(&[][..], |kind| kind.keys);
        self.section.keys.iter().chain(of_kind)
    }
}

/// Reads the form of a file. A key that stands twice, or that is none, is named with its line.
pub(super) fn parse(source: Source<'_>) -> Result<Spanned<DeTable<'_>>> {
    DeTable::parse(source.text).map_err(|error| match error.span() {
        Some(span) if error.message() == "duplicate key" => twice(source, span),
        span => {
            let place = source.at(span.map_or(0, |span| span.start));
            Error::invalid(format!("{place}: {}", error.message().trim()))
                .with_hint("See docs/reference-configuration.md for the keys, docs/operations.md for the file's form.")
        }
    })
}

/// The error for a key or a section that stands twice.
fn twice(source: Source<'_>, key: Range<usize>) -> Error {
    let place = source.at(key.start);
    let before = exact::text(source.text, ..key.start, "the parser found the key in the text");
    let line = source.text.lines().nth(source.line(key.start) - 1).unwrap_or_default();
    let is_header = before
        .rsplit('\n')
        .next()
        .is_some_and(|line| line.trim_start().starts_with('['));
    if is_header {
        let named = header(line).map_or_else(|| "a section".to_owned(), |header| format!("the section {header}"));
        return Error::invalid(format!("{place}: {named} is defined twice"))
            .with_hint("Merge the two, or rename one of them.");
    }
    let within = before.lines().rev().find_map(header);
    let within = within.map_or(String::new(), |header| format!(" in {header}"));
    let key = exact::text(source.text, key, "the parser found the key in the text");
    Error::invalid(format!("{place}: \"{key}\" is set twice{within}")).with_hint("Remove one of the two lines.")
}

/// Returns the header that a line begins with, if it is one of bare names. Whatever else a line holds may be a secret.
fn header(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let header = line.get(..=line.find(']')?)?;
    let name = header.strip_prefix('[')?.strip_suffix(']')?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (!name.is_empty() && name.chars().all(is_plain)).then_some(header)
}

/// Returns the tables of a file, the top first, and refuses what no section has.
pub(super) fn sections<'a>(source: Source<'a>, root: &'a DeTable<'a>) -> Result<Vec<Found<'a>>> {
    let mut found = Vec::new();
    for section in SECTIONS {
        let table = |called: String, keys, start| Table {
            source,
            section: called,
            keys,
            start,
        };
        if section.form == Form::Top {
            let words: Vec<&str> = SECTIONS
                .iter()
                .map(|one| one.word)
                .filter(|word| !word.is_empty())
                .collect();
            let top = table(String::new(), root, 0);
            known(&top, &[section.keys], &words)?;
            found.push(of(section, "", top)?);
            continue;
        }
        let word = section.word;
        let Some((key, value)) = root.iter().find(|(key, _)| key.get_ref() == word) else {
            continue;
        };
        let at = source.at(key.span().start);
        let Some(all) = value.get_ref().as_table() else {
            let name = if section.form == Form::Named { ".NAME" } else { "" };
            return Err(Error::invalid(format!("{at}: \"{word}\" is not a section"))
                .with_hint(format!("Write [{word}{name}] above its keys.")));
        };
        let is_one = |key: &Key| all.keys().any(|name| name.get_ref() == key.name);
        if section.form == Form::OneOrNamed && section.keys.iter().any(is_one) {
            let one = table(format!("[{word}]"), all, key.span().start);
            known(&one, &[section.keys], &[])?;
            found.push(of(section, "default", one)?);
            continue;
        }
        for (name, value) in all {
            let DeValue::Table(keys) = value.get_ref() else {
                return Err(no_name(source, section, name, all));
            };
            let called = format!("[{word}.{}]", name.get_ref());
            found.push(of(section, name.get_ref(), table(called, keys, name.span().start))?);
        }
    }
    Ok(found)
}

/// Finds the kind of a source, and checks the keys of a table.
fn of<'a>(section: &'static FileSection, name: &'a str, table: Table<'a>) -> Result<Found<'a>> {
    let kind = match section.word {
        "source" => Some(kind_of(&table)?),
        "" => None,
        _ => {
            known(&table, &[section.keys], &[])?;
            None
        }
    };
    Ok(Found {
        section,
        kind,
        name,
        table,
    })
}

/// Finds out of which kind a source is, and checks its keys.
fn kind_of(table: &Table<'_>) -> Result<&'static SourceKind> {
    let key = SourceKeys::KEYS.iter().find(|key| key.name == "kind");
    if let Some(key) = key
        && let Some(given) = table.given(key)?
    {
        let Chosen(kind) = Chosen::one(key, &given)?;
        known(table, &[SourceKeys::KEYS, kind.keys], &[])?;
        return Ok(kind);
    }
    // The key itself may be misspelt.
    let all: Vec<&[Key]> = SOURCES.iter().map(|kind| kind.keys).chain([SourceKeys::KEYS]).collect();
    known(table, &all, &[])?;
    table.field::<Chosen>(key).map(|Chosen(kind)| kind)
}

/// The error for a key that stands where names of sections are.
fn no_name(
    source: Source<'_>,
    section: &FileSection,
    key: &Spanned<toml::de::DeString<'_>>,
    all: &DeTable<'_>,
) -> Error {
    let word = section.word;
    let at = source.at(key.span().start);
    let has_tables = all.values().any(|value| value.get_ref().is_table());
    if section.form == Form::OneOrNamed && !has_tables {
        let names = section.keys.iter().map(|key| key.name);
        return Error::invalid(format!("{at}: unknown key \"{}\" in [{word}]", key.get_ref())).with_hint(
            match crate::base::nearest::nearest(key.get_ref(), names) {
                Some(near) => format!("Did you mean \"{near}\"?"),
                None => format!("Write [{word}] with a line url = \"s3://bucket/prefix\" below it."),
            },
        );
    }
    Error::invalid(format!("{at}: \"{}\" is set directly in [{word}]", key.get_ref()))
        .with_hint(format!("Every {word} has a name: write [{word}.NAME] above its keys."))
}
