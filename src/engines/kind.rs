//! What tells engines apart.

use std::fmt;

/// A kind of sources: the word for it in configurations, URLs and manifests, and the name that people know.
///
/// Each engine has one, in its own folder. What a manifest of a newer release names stays a text, for which no engine is
/// found ([`crate::engines::Registry::of_kind`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineKind {
    word: &'static str,
    name: &'static str,
}

impl EngineKind {
    /// Makes a kind of its word and its name for people.
    pub const fn new(word: &'static str, name: &'static str) -> Self {
        Self { word, name }
    }

    /// Returns the word of configurations and manifests: `postgres`.
    pub const fn word(self) -> &'static str {
        self.word
    }

    /// Returns the name for people: `PostgreSQL`.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word)
    }
}
