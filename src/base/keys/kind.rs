//! What a value may be, and the value itself.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::Key;
use crate::base::error::{Context, Error, Result};
use crate::base::nearest::nearest;
use crate::base::units::{as_written, parse_bytes, parse_duration, parse_rate};

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A string.
    Text,
    /// A string that is a URL, or the connection string of a server.
    Url,
    /// A string that is a path.
    Path,
    /// A string such as `30s`.
    Duration {
        /// The shortest, in seconds.
        seconds: u64,
    },
    /// A string such as `256MiB`.
    Size {
        /// The smallest, in bytes.
        min: u64,
        /// The largest, in bytes.
        max: u64,
    },
    /// A string such as `20MiB/s`, not zero.
    Rate,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of these words.
    Words(&'static [&'static str]),
    /// A list of strings.
    Texts,
    /// A string, or a list of strings.
    OneOrMore,
    /// `true`, `false`, or a path.
    FlagOrPath,
    /// An address that is called, or a list: a program and its arguments.
    Call,
    /// A URL, or a table of these keys.
    UrlOrTable(&'static [Key]),
    /// A table of these keys.
    Table(&'static [Key]),
    /// Tables of these keys by names.
    Tables(&'static [Key]),
}

/// A value that was read. Tables are read field by field instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Bool`] and [`Kind::FlagOrPath`].
    Bool(bool),
    /// A number; bytes, or bytes per second, of sizes and rates.
    Integer(u64),
    /// Text of whatever meaning.
    Text(String),
    /// A time span.
    Duration(Duration),
    /// A list.
    Texts(Vec<String>),
}

/// An enum whose values have words in a file; see [`words!`](super::words).
pub trait Word: Sized {
    /// The words, in the order in which they are shown.
    const WORDS: &'static [&'static str];

    /// Returns the value of a word.
    fn of(word: &str) -> Option<Self>;

    /// Returns the word of a value.
    fn word(&self) -> &'static str;
}

impl Kind {
    /// Says what it is, for people: "a duration".
    pub fn what(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Integer { .. } => "a whole number".to_owned(),
            Self::Text => "a string".to_owned(),
            Self::Url => "a URL in quotes".to_owned(),
            Self::Path => "a path in quotes".to_owned(),
            Self::Duration { .. } => "a duration in quotes".to_owned(),
            Self::Size { .. } => "a size in quotes".to_owned(),
            Self::Rate => "a rate in quotes".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Words(words) => format!("a list of {}", words.join(", ")),
            Self::Texts => "a list of strings".to_owned(),
            Self::OneOrMore => "a string or a list of strings".to_owned(),
            Self::FlagOrPath => "true, false or a path in quotes".to_owned(),
            Self::Call => "an address in quotes, or a program with its arguments as a list".to_owned(),
            Self::UrlOrTable(_) => "a URL in quotes, or a table".to_owned(),
            Self::Table(_) => "a table".to_owned(),
            Self::Tables(_) => "a table of tables".to_owned(),
        }
    }

    /// Returns the keys of the tables that it may be.
    pub fn keys(&self) -> Option<&'static [Key]> {
        match self {
            Self::UrlOrTable(keys) | Self::Table(keys) | Self::Tables(keys) => Some(keys),
            _ => None,
        }
    }

    /// The error for a value that it may not be.
    pub(super) fn refuses(&self, name: &str, value: &DeValue<'_>) -> Error {
        Error::invalid(format!("{name} must be {}, but is {}", self.what(), found(value)))
    }

    /// Reads a value; `name` is its key. Errors name neither file nor line.
    pub(super) fn read(&self, name: &str, value: &DeValue<'_>) -> Result<Value> {
        let wrong = || self.refuses(name, value);
        let text = || value.as_str().ok_or_else(wrong);
        Ok(match self {
            Self::Bool => Value::Bool(value.as_bool().ok_or_else(wrong)?),
            Self::Integer { min, max } => {
                Value::Integer(integer(name, value, *min, *max).transpose().ok_or_else(wrong)??)
            }
            Self::Text | Self::Url | Self::Path | Self::UrlOrTable(_) => Value::Text(text()?.to_owned()),
            Self::Duration { seconds } => Value::Duration(duration(name, text()?, *seconds)?),
            Self::Size { min, max } => Value::Integer(size(name, text()?, *min, *max)?),
            Self::Rate => Value::Integer(parse_rate(text()?).context(name)?),
            Self::Word(words) => Value::Text(word(name, text()?, words)?.to_owned()),
            Self::Words(words) => {
                let given = list(value).ok_or_else(wrong)?;
                for one in &given {
                    word(name, one, words)?;
                }
                Value::Texts(given)
            }
            Self::Texts => Value::Texts(list(value).ok_or_else(wrong)?),
            Self::OneOrMore => match value.as_str() {
                Some(one) => Value::Texts(vec![one.to_owned()]),
                None => Value::Texts(list(value).ok_or_else(wrong)?),
            },
            Self::FlagOrPath => match value.as_bool() {
                Some(flag) => Value::Bool(flag),
                None => Value::Text(text()?.to_owned()),
            },
            Self::Call => match value.as_str() {
                Some(address) => Value::Text(address.to_owned()),
                None => Value::Texts(list(value).ok_or_else(wrong)?),
            },
            Self::Table(_) | Self::Tables(_) => return Err(wrong()),
        })
    }
}

/// Names the type of a value as TOML does; the value itself may be a secret in a wrong place.
fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_str()) => "a list of strings",
        DeValue::Array(_) => "a list with other values than strings",
        DeValue::Table(_) => "a table",
    }
}

/// Reads a number; `None` if the value is none.
fn integer(name: &str, value: &DeValue<'_>, min: u64, max: u64) -> Result<Option<u64>> {
    let Some(given) = value.as_integer() else {
        return Ok(None);
    };
    let number = u64::from_str_radix(given.as_str(), given.radix()).ok();
    match number.filter(|number| (min..=max).contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(Error::invalid(format!("{name} {given} is not within {min} to {max}"))
            .with_hint(format!("Write a whole number from {min} to {max}."))),
    }
}

fn duration(name: &str, text: &str, seconds: u64) -> Result<Duration> {
    let duration = parse_duration(text).context(name)?;
    let shortest = Duration::from_secs(seconds);
    if duration < shortest {
        let shortest = short_duration(seconds);
        return Err(
            Error::invalid(format!("{name} = \"{text}\" is less than {shortest}")).with_hint(format!(
                "Write a duration from {shortest}, for example {name} = \"30d\"."
            )),
        );
    }
    Ok(duration)
}

fn size(name: &str, text: &str, min: u64, max: u64) -> Result<u64> {
    let bytes = parse_bytes(text).context(name)?;
    if (min..=max).contains(&bytes) {
        return Ok(bytes);
    }
    if max == u64::MAX {
        let min = short_size(min);
        return Err(Error::invalid(format!("{name} {text} is less than {min}"))
            .with_hint(format!("Write a size of at least {min}.")));
    }
    let (min, max) = (short_size(min), short_size(max));
    Err(Error::invalid(format!("{name} {text} is not within {min} to {max}"))
        .with_hint(format!("Write a size from {min} to {max}.")))
}

fn word<'t>(name: &str, word: &'t str, words: &[&str]) -> Result<&'t str> {
    if words.contains(&word) {
        return Ok(word);
    }
    let all = format!("It is one of {}.", words.join(", "));
    Err(Error::invalid(format!("unknown {name}{}", as_written(word))).with_hint(
        match nearest(word, words.iter().copied()) {
            Some(near) => format!("Did you mean \"{near}\"? {all}"),
            None => all,
        },
    ))
}

/// Returns the strings of a list; `None` if the value is none, or holds anything else.
fn list(value: &DeValue<'_>) -> Option<Vec<String>> {
    let items = value.as_array()?.iter().map(Spanned::get_ref);
    items.map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Writes seconds as a file has them: `1h`.
pub(super) fn short_duration(seconds: u64) -> String {
    match seconds {
        0 => "0s".to_owned(),
        hours if hours % 3600 == 0 => format!("{}h", hours / 3600),
        minutes if minutes % 60 == 0 => format!("{}min", minutes / 60),
        seconds => format!("{seconds}s"),
    }
}

/// Writes bytes as a file has them: `5MiB`.
pub fn short_size(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit));
    match unit {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

impl Kind {
    /// Says what it may be, with its bounds, for a page: "whole number, 1 to 19".
    pub fn bounds(&self) -> String {
        match self {
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Integer { min: 0, max } if *max == u64::from(u32::MAX) => "whole number".to_owned(),
            Self::Integer { min, max } => format!("whole number, {min} to {max}"),
            Self::Text => "string".to_owned(),
            Self::Url => "URL".to_owned(),
            Self::Path => "path".to_owned(),
            Self::Duration { seconds: 0 } => "duration".to_owned(),
            Self::Duration { seconds } => format!("duration, at least {}", short_duration(*seconds)),
            Self::Size { min: 0, .. } => "size".to_owned(),
            Self::Size { min, max: u64::MAX } => format!("size, at least {}", short_size(*min)),
            Self::Size { min, max } => format!("size, {} to {}", short_size(*min), short_size(*max)),
            Self::Rate => "rate".to_owned(),
            Self::Word(words) => quoted(words).join(", "),
            Self::Words(words) => format!("list of {}", quoted(words).join(", ")),
            Self::Texts => "list of strings".to_owned(),
            Self::OneOrMore => "string, or list of strings".to_owned(),
            Self::FlagOrPath => "`true`, `false` or a path".to_owned(),
            Self::Call => "address, or list of a program and its arguments".to_owned(),
            Self::UrlOrTable(_) => "URL, or table".to_owned(),
            Self::Table(_) => "table".to_owned(),
            Self::Tables(_) => "tables by names".to_owned(),
        }
    }
}

fn quoted(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| format!("`{word}`")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_word_is_not_repeated() {
        let refused = |text: &str| {
            word("checkpoint", text, &["fast", "spread"])
                .unwrap_err()
                .chain_and_hint()
        };
        assert!(refused("fats").contains("\"fats\"") && refused("fats").contains("Did you mean \"fast\"?"));
        for hidden in ["user:hidden@", "hidden/hidden", &"hidden".repeat(9)] {
            let said = refused(hidden);
            assert!(said.contains("fast, spread") && !said.contains("hidden"), "{said}");
        }
    }
}
