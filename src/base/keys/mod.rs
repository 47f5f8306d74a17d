//! Keys of a configuration, each declared once.
//!
//! [`section!`] makes of one declaration the struct that parsing fills and the list of [`Key`]s from which the reference page, the example,
//! the schema for editors and "did you mean" are made: none of them can know a key that the others do not.
//!
//! The help of a key is its doc comment, its type that of the field. What the type does not say (a range, a default, a variable of the
//! environment) stands behind it:
//!
//! ```ignore
//! section! {
//!     /// What is backed up together, and when.
//!     pub struct JobKeys {
//!         /// zstd level of the archives: 1 is fast, 19 is small.
//!         compression_level: Option<i32> = Key::integer(1, 19).default("1").example("3"),
//!     }
//! }
//! ```

mod kind;
mod read;

pub use kind::{Kind, Value, Word, short_size};
pub use read::{Field, Given, One, Section, Source, Table, known, parameters};

/// One key of a section. Defaults and examples are written as in a file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The name of its old, which is still read.
    pub formerly: Option<&'static str>,
    /// What it is for; see [`Key::help`].
    doc: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// Whether its section needs it.
    pub required: bool,
    /// What holds without it, where that is one value.
    pub default: Option<&'static str>,
    /// A value as a person would write it; empty for a table, whose keys have examples of their own.
    pub example: &'static str,
    /// The variable of the environment that says the same.
    pub variable: Option<&'static str>,
    /// The parameter that says the same in the URL of a source.
    pub parameter: Option<&'static str>,
    /// Whether its value is a secret.
    pub secret: bool,
    /// Whether its texts are URLs or the connection strings of servers, though its kind does not say so.
    urls: bool,
    /// Whether a scheduler that runs takes a new value at SIGHUP; others wait for its next start.
    pub reloads: bool,
}

impl Key {
    const fn of(kind: Kind) -> Self {
        Self {
            name: "",
            formerly: None,
            doc: "",
            kind,
            required: false,
            default: None,
            example: "",
            variable: None,
            parameter: None,
            secret: false,
            urls: false,
            reloads: true,
        }
    }

    /// A string.
    pub const fn text() -> Self {
        Self::of(Kind::Text)
    }

    /// A URL.
    pub const fn url() -> Self {
        Self::of(Kind::Url)
    }

    /// A path.
    pub const fn path() -> Self {
        Self::of(Kind::Path)
    }

    /// `true` or `false`, the latter without it.
    pub const fn flag() -> Self {
        Self::of(Kind::Bool).default("false").example("true")
    }

    /// A whole number within these bounds, both inclusive.
    pub const fn integer(min: u64, max: u64) -> Self {
        Self::of(Kind::Integer { min, max })
    }

    /// A time span.
    pub const fn duration() -> Self {
        Self::duration_from(0)
    }

    /// A time span of at least so many seconds.
    pub const fn duration_from(seconds: u64) -> Self {
        Self::of(Kind::Duration { seconds })
    }

    /// A size within these bounds in bytes, both inclusive.
    pub const fn size(min: u64, max: u64) -> Self {
        Self::of(Kind::Size { min, max })
    }

    /// Bytes per second.
    pub const fn rate() -> Self {
        Self::of(Kind::Rate)
    }

    /// One of some words.
    pub const fn word(words: &'static [&'static str]) -> Self {
        Self::of(Kind::Word(words))
    }

    /// Some of some words.
    pub const fn words(words: &'static [&'static str]) -> Self {
        Self::of(Kind::Words(words))
    }

    /// A list of strings, empty without it.
    pub const fn texts() -> Self {
        Self::of(Kind::Texts).default("[]")
    }

    /// A string, or a list of them.
    pub const fn one_or_more() -> Self {
        Self::of(Kind::OneOrMore)
    }

    /// `true`, `false` or a path.
    pub const fn flag_or_path() -> Self {
        Self::of(Kind::FlagOrPath)
    }

    /// An address, or a program with its arguments.
    pub const fn call() -> Self {
        Self::of(Kind::Call)
    }

    /// A URL, or a table of these keys.
    pub const fn url_or_table(keys: &'static [Self]) -> Self {
        Self::of(Kind::UrlOrTable(keys))
    }

    /// A table of these keys.
    pub const fn table(keys: &'static [Self]) -> Self {
        Self::of(Kind::Table(keys))
    }

    /// Tables of these keys by names.
    pub const fn tables(keys: &'static [Self]) -> Self {
        Self::of(Kind::Tables(keys))
    }

    /// The section needs it.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// What holds without it.
    #[must_use]
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    /// No one value holds without it.
    #[must_use]
    pub const fn without_default(mut self) -> Self {
        self.default = None;
        self
    }

    /// A value as a person would write it.
    #[must_use]
    pub const fn example(mut self, value: &'static str) -> Self {
        self.example = value;
        self
    }

    /// The variable of the environment that says the same.
    #[must_use]
    pub const fn variable(mut self, name: &'static str) -> Self {
        self.variable = Some(name);
        self
    }

    /// The parameter that says the same in the URL of a source.
    #[must_use]
    pub const fn parameter(mut self, name: &'static str) -> Self {
        self.parameter = Some(name);
        self
    }

    /// Its value never prints.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Its texts are URLs, or the connection strings of servers.
    #[must_use]
    pub const fn urls(mut self) -> Self {
        self.urls = true;
        self
    }

    /// Returns whether its texts are URLs or the connection strings of servers, in which a password may stand.
    pub fn holds_urls(&self) -> bool {
        self.urls || matches!(self.kind, Kind::Url | Kind::UrlOrTable(_))
    }

    /// A scheduler that runs takes no new value.
    #[must_use]
    pub const fn at_start(mut self) -> Self {
        self.reloads = false;
        self
    }

    /// It had this name, which is still read.
    #[must_use]
    pub const fn formerly(mut self, name: &'static str) -> Self {
        self.formerly = Some(name);
        self
    }

    /// Gives it its name and help: [`section!`] calls it.
    #[must_use]
    pub const fn named(mut self, name: &'static str, doc: &'static str) -> Self {
        self.name = name;
        self.doc = doc;
        self
    }

    /// Returns what it is for, in one sentence.
    pub fn help(&self) -> &'static str {
        self.doc.trim()
    }
}

/// Declares a section: see the [module](self).
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $name:ident {
            $($(#[doc = $help:literal])+ $field:ident: $type:ty = $key:expr,)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone)]
        $vis struct $name {
            $($(#[doc = $help])+ $vis $field: $type,)+
        }

        impl $crate::base::keys::Section for $name {
            const ABOUT: &'static str = concat!($($about),+);
            const KEYS: &'static [$crate::base::keys::Key] =
                &[$($key.named(stringify!($field), concat!($($help),+)),)+];

            fn read(table: &$crate::base::keys::Table<'_>) -> $crate::base::error::Result<Self> {
                // The keys and the fields are in one order.
                let mut keys = Self::KEYS.iter();
                Ok(Self { $($field: table.field(keys.next())?,)+ })
            }
        }

        impl $crate::base::keys::One for $name {
            fn one(
                key: &$crate::base::keys::Key,
                given: &$crate::base::keys::Given<'_>,
            ) -> $crate::base::error::Result<Self> {
                given.section().unwrap_or_else(|| Err(given.refused(key)))
            }
        }
    };
}
pub(crate) use section;

/// Gives the words of an enum: what a file says for each of its values.
macro_rules! words {
    ($type:ty { $($word:literal => $value:ident),+ $(,)? }) => {
        impl $crate::base::keys::Word for $type {
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn of(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$value),)+
                    _ => None,
                }
            }

            fn word(&self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests;
