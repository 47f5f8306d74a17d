//! From a table of a document to the struct of a section. Every error names file, line and section.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{Key, Kind, Value, Word};
use crate::base::error::{Error, Result};
use crate::base::nearest::nearest;

/// A file: its name and text, to name the line of a byte.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its name in messages.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
}

impl Source<'_> {
    /// Names the place of a byte offset: `wirevault.toml:12`.
    pub fn at(&self, offset: usize) -> String {
        format!("{}:{}", self.file, self.line(offset))
    }

    /// Returns the line of a byte offset, from 1.
    pub fn line(&self, offset: usize) -> usize {
        let before = self.text.bytes().take(offset);
        before.filter(|byte| *byte == b'\n').count() + 1
    }
}

/// A table of a document, and where it stands.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    /// The file.
    pub source: Source<'a>,
    /// What it is called in messages, `[job.full]`; empty for the top.
    pub section: String,
    /// Its keys.
    pub keys: &'a DeTable<'a>,
    /// The first byte of it.
    pub start: usize,
}

/// A value that was given for a key.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Its table.
    pub table: &'a Table<'a>,
    /// The name under which it stands there.
    pub name: &'a Spanned<DeString<'a>>,
    /// The value.
    pub value: &'a Spanned<DeValue<'a>>,
}

/// A section that was declared with [`section!`](super::section).
pub trait Section: Sized {
    /// What it is for; begins with a space.
    const ABOUT: &'static str;
    /// Its keys.
    const KEYS: &'static [Key];

    /// Reads it. Keys that it does not have are not its business: see [`known`].
    fn read(table: &Table<'_>) -> Result<Self>;
}

/// Returns the parameters of a URL that stand for keys of a section.
pub fn parameters<S: Section>() -> impl Iterator<Item = &'static str> {
    S::KEYS.iter().filter_map(|key| key.parameter)
}

impl<'a> Table<'a> {
    /// Returns the value that a table has for a key, under its name or the old one.
    pub fn given(&'a self, key: &Key) -> Result<Option<Given<'a>>> {
        let find = |name: &str| self.keys.iter().find(|(one, _)| one.get_ref() == name);
        let old = key.formerly.and_then(find);
        let found = match (find(key.name), old) {
            (Some(_), Some((twice, _))) => {
                let message = format!(
                    "\"{}\" is the old name of \"{}\", and both are set",
                    twice.get_ref(),
                    key.name
                );
                let error = Error::invalid(message).with_hint("Remove the line with the old name.");
                return Err(error.context(self.at(twice.span().start)));
            }
            (now, old) => now.or(old),
        };
        Ok(found.map(|(name, value)| Given {
            table: self,
            name,
            value,
        }))
    }

    /// Names a place within this table: `wirevault.toml:12: [job.full]`.
    pub fn at(&self, offset: usize) -> String {
        let place = self.source.at(offset);
        if self.section.is_empty() {
            place
        } else {
            format!("{place}: {}", self.section)
        }
    }

    /// Names the line of a key, or of the table where it has none.
    pub fn line_of(&self, key: &str) -> String {
        let found = self.keys.keys().find(|name| name.get_ref() == key);
        self.source.at(found.map_or(self.start, |name| name.span().start))
    }

    /// Reads a field of a section by its key.
    pub fn field<T: Field>(&self, key: Option<&'static Key>) -> Result<T> {
        let key = key.ok_or_else(|| Error::invalid("a section has fewer keys than fields"))?;
        T::field(key, self)
    }
}

/// Refuses the keys of a table that are neither one of `all` nor a word of `more`, by the first of them.
pub fn known(table: &Table<'_>, all: &[&[Key]], more: &[&str]) -> Result<()> {
    let keys = || all.iter().copied().flatten();
    let names = || keys().map(|key| key.name).chain(more.iter().copied());
    let read = || names().chain(keys().filter_map(|key| key.formerly));
    let unknown = table.keys.keys().filter(|key| read().all(|name| name != key.get_ref()));
    let Some(key) = unknown.min_by_key(|key| key.span().start) else {
        return Ok(());
    };
    let within = match table.section.as_str() {
        "" => String::new(),
        section => format!(" in {section}"),
    };
    let place = table.source.at(key.span().start);
    Err(
        Error::invalid(format!("{place}: unknown key \"{}\"{within}", key.get_ref())).with_hint(
            match nearest(key.get_ref(), names()) {
                Some(near) => format!("Did you mean \"{near}\"?"),
                None => format!("The keys{within} are {}.", names().collect::<Vec<_>>().join(", ")),
            },
        ),
    )
}

impl<'a> Given<'a> {
    /// Reads the value as what its key says.
    pub fn value(&self, key: &Key) -> Result<Value> {
        let read = key.kind.read(self.name.get_ref(), self.value.get_ref());
        read.map_err(|error| self.explained(key, error))
    }

    /// The error for a value of another type.
    pub fn refused(&self, key: &Key) -> Error {
        let error = key.kind.refuses(self.name.get_ref(), self.value.get_ref());
        self.explained(key, error)
    }

    /// Adds the place to an error, and an example where it has no better advice.
    fn explained(&self, key: &Key, error: Error) -> Error {
        let error = match (error.hint(), key.example) {
            (Some(_), _) => error,
            (None, "") => error.with_hint(format!("See {} in docs/reference-configuration.md.", key.name)),
            (None, example) => error.with_hint(format!("Write it like {} = {example}.", key.name)),
        };
        error.context(self.place())
    }

    /// Reads the table that the value is; `None` if it is none.
    pub fn section<T: Section>(&self) -> Option<Result<T>> {
        let keys = self.value.get_ref().as_table()?;
        Some(section(&self.inner(self.name.get_ref(), keys, self.value.span().start)))
    }

    /// Returns the tables by their names that the value holds; `None` if it holds anything else.
    pub fn tables(&self) -> Option<Vec<(String, Table<'a>)>> {
        let all = self.value.get_ref().as_table()?.iter();
        all.map(|(name, value)| {
            let keys = value.get_ref().as_table()?;
            let called = format!("{}.{}", self.name.get_ref(), name.get_ref());
            Some((name.get_ref().to_string(), self.inner(&called, keys, name.span().start)))
        })
        .collect()
    }

    /// A table within this one's.
    fn inner(&self, called: &str, keys: &'a DeTable<'a>, start: usize) -> Table<'a> {
        Table {
            source: self.table.source,
            section: match self.table.section.as_str() {
                "" => called.to_owned(),
                section => format!("{called} of {section}"),
            },
            keys,
            start,
        }
    }

    /// Names its line and section.
    pub fn place(&self) -> String {
        self.table.at(self.name.span().start)
    }
}

/// What a value that is there can be made into.
pub trait One: Sized {
    /// Makes it.
    fn one(key: &Key, given: &Given<'_>) -> Result<Self>;
}

/// What a field of a section can be: a value that may be missing, or one that is required or has a default.
pub trait Field: Sized {
    /// Reads it out of its table.
    fn field(key: &'static Key, table: &Table<'_>) -> Result<Self>;
}

impl<T: One> Field for Option<T> {
    fn field(key: &'static Key, table: &Table<'_>) -> Result<Self> {
        let given = table.given(key)?;
        given.map(|given| T::one(key, &given)).transpose()
    }
}

impl<T: One> Field for T {
    fn field(key: &'static Key, table: &Table<'_>) -> Result<Self> {
        match (table.given(key)?, key.default) {
            (Some(given), _) => T::one(key, &given),
            (None, Some(default)) => {
                let text = format!("{} = {default}", key.name);
                let source = Source {
                    file: "the default",
                    text: &text,
                };
                let document = DeTable::parse(&text).map_err(|error| Error::invalid(error.message()))?;
                let defaults = Table {
                    source,
                    section: String::new(),
                    keys: document.get_ref(),
                    start: 0,
                };
                match defaults.given(key)? {
                    Some(given) => T::one(key, &given),
                    None => Err(missing(key, table)),
                }
            }
            (None, None) => Err(missing(key, table)),
        }
    }
}

/// The error for a key that its section needs.
fn missing(key: &Key, table: &Table<'_>) -> Error {
    Error::invalid(format!("\"{}\" is missing", key.name))
        .with_hint(match key.kind {
            Kind::Word(words) => format!(
                "Add a line {} = {}; it is one of {}.",
                key.name,
                key.example,
                words.join(", ")
            ),
            _ => format!("Add a line {} = {}.", key.name, key.example),
        })
        .context(table.at(table.start))
}

impl<T: Section> Field for BTreeMap<String, T> {
    fn field(key: &'static Key, table: &Table<'_>) -> Result<Self> {
        let Some(given) = table.given(key)? else {
            return Ok(Self::new());
        };
        let tables = given.tables().ok_or_else(|| {
            Error::invalid(format!("{} must be {}", key.name, key.kind.what()))
                .with_hint(format!("Write it like {}.NAME = {{ … }}.", key.name))
                .context(given.place())
        })?;
        let one = |(name, inner): (String, Table<'_>)| Ok((name, section(&inner)?));
        tables.into_iter().map(one).collect()
    }
}

/// Reads a section that lies in another one.
fn section<T: Section>(table: &Table<'_>) -> Result<T> {
    known(table, &[T::KEYS], &[])?;
    T::read(table)
}

/// Makes a value of the one that was read; `None` if it is of another type, which is a mistake of the declaration.
trait FromValue: Sized {
    fn from_value(value: Value) -> Option<Self>;
}

impl<T: FromValue> One for T {
    fn one(key: &Key, given: &Given<'_>) -> Result<Self> {
        Self::from_value(given.value(key)?)
            .ok_or_else(|| Error::invalid(format!("the type of \"{}\" is not that of its key", key.name)))
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }
}

impl FromValue for PathBuf {
    fn from_value(value: Value) -> Option<Self> {
        String::from_value(value).map(Self::from)
    }
}

impl FromValue for Duration {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Duration(value) => Some(value),
            _ => None,
        }
    }
}

/// Numbers: the bounds of a key are within those of its field.
macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl FromValue for $type {
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::Integer(value) => Self::try_from(value).ok(),
                    _ => None,
                }
            }
        }
    )+};
}
numbers!(u64, usize, u32, i32);

impl<T: FromText> FromValue for Vec<T> {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Texts(values) => values.into_iter().map(T::from_text).collect(),
            _ => None,
        }
    }
}

/// A member of a list.
trait FromText: Sized {
    fn from_text(text: String) -> Option<Self>;
}

impl FromText for String {
    fn from_text(text: String) -> Option<Self> {
        Some(text)
    }
}

impl FromText for PathBuf {
    fn from_text(text: String) -> Option<Self> {
        Some(text.into())
    }
}

impl<T: Word> FromText for T {
    fn from_text(text: String) -> Option<Self> {
        T::of(&text)
    }
}

impl<T: Word> FromValue for T {
    fn from_value(value: Value) -> Option<Self> {
        String::from_value(value).and_then(|word| T::of(&word))
    }
}
