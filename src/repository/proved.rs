//! What `verify` found in one snapshot: the document that it prints, and that stays in the repository as evidence.
//!
//! There is one type to write it and one reader of what any release has written ([`Proved::read`]): nobody else looks into a
//! document of a verification.

use serde_json::Value;

use crate::repository::SnapshotId;

/// How deep a verification looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Digests of the stored objects.
    Stored,
    /// Every entry was decoded too, and what a restore would refuse is refused.
    #[default]
    Content,
    /// It was restored into a scratch place too, and compared there.
    Restored,
}

impl Level {
    /// Reads its word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "stored" => Some(Self::Stored),
            "content" => Some(Self::Content),
            "restored" => Some(Self::Restored),
            _ => None,
        }
    }

    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Content => "content",
            Self::Restored => "restored",
        }
    }
}

/// How far a verification of one source came.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reached {
    /// The source.
    pub source: String,
    /// The deepest level; `None` if not even the stored objects are as they were, or nothing could be read.
    pub level: Option<Level>,
    /// Why not the level that was asked for.
    pub why_not: Option<String>,
}

/// What a verification found in one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Proved {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The level that every source reached; `None` if one of them reached none. In documents without `asked`, the level that
    /// was asked for.
    pub level: Option<Level>,
    /// The level that was asked for; `None` in a document that does not say it in words that this release knows.
    pub asked: Option<Level>,
    /// What was reached, source by source.
    pub levels: Vec<Reached>,
    /// The sources that reached any level.
    pub sources: Vec<String>,
    /// What could not be looked at that deep, and why.
    pub skipped: Vec<String>,
    /// What is not as it was stored.
    pub damage: Vec<String>,
    /// Statements of a restore that the scratch server refused: the rows are proven, these are not.
    pub refused: Vec<String>,
    /// What SQLite finds wrong in a database whose bytes are those that were stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub integrity: Vec<String>,
    /// Whether objects lie in cold storage classes, so that nothing of them is proven.
    pub archived: bool,
    /// The drill that asked, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<String>,
}

/// The line of damage that cannot be read.
const UNREADABLE: &str = "the evidence names damage that this version cannot read";

impl Proved {
    /// Begins a document that says nothing yet.
    pub fn new(snapshot: SnapshotId, asked: Option<Level>, drill: Option<String>) -> Self {
        Self {
            snapshot,
            level: None,
            asked,
            levels: vec![],
            sources: vec![],
            skipped: vec![],
            damage: vec![],
            refused: vec![],
            integrity: vec![],
            archived: false,
            drill,
        }
    }

    /// Takes what was reached for a source that the snapshot has.
    pub fn reach(&mut self, one: Reached) {
        if one.level.is_some() {
            self.sources.push(one.source.clone());
        }
        self.levels.push(one);
        self.level = self.levels.iter().map(|one| one.level).min().flatten();
    }

    /// Returns whether every source reached what was asked for; not where there is no source.
    pub fn is_reached(&self) -> bool {
        self.asked.is_some() && !self.levels.is_empty() && self.levels.iter().all(|one| one.level >= self.asked)
    }

    /// Returns what keeps it from being a whole proof, beside damage: what was refused or found wrong, and what was skipped.
    pub fn amiss(&self) -> impl Iterator<Item = &String> {
        self.refused.iter().chain(&self.integrity).chain(&self.skipped)
    }

    /// Reads the document of any release. Older ones have one level for all sources; which of them fell short of it can only be
    /// read off the lines about what was skipped. What is missing, or of another type, is empty.
    pub fn read(snapshot: SnapshotId, document: &Value) -> Self {
        let word = |key: &str| document.get(key).and_then(Value::as_str);
        let level = word("level").and_then(Level::parse);
        // Older documents say under `level` what was asked for; newer ones what every source reached.
        let asked = match document.get("asked") {
            Some(asked) => asked.as_str().and_then(Level::parse),
            None => level,
        };
        let (sources, skipped) = (texts(document, "sources"), texts(document, "skipped"));
        let levels = match (document.get("levels").and_then(Value::as_array), asked) {
            (Some(levels), _) => levels.iter().filter_map(reached).collect(),
            (None, Some(asked)) => sources
                .iter()
                .map(|name| level_before(name.clone(), asked, &skipped))
                .collect(),
            (None, None) => Vec::new(),
        };
        Self {
            snapshot,
            level,
            asked,
            levels,
            sources,
            skipped,
            damage: damage(document),
            refused: texts(document, "refused"),
            integrity: texts(document, "integrity"),
            archived: document.get("archived").and_then(Value::as_bool).unwrap_or(false),
            drill: word("drill").map(str::to_owned),
        }
    }
}

/// Reads the lines of damage. One that is no text is damage all the same: a document that cannot be read clears nothing.
fn damage(document: &Value) -> Vec<String> {
    let line = |line: &Value| line.as_str().map_or_else(|| UNREADABLE.to_owned(), str::to_owned);
    match document.get("damage") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(lines)) => lines.iter().map(line).collect(),
        Some(_) => vec![UNREADABLE.to_owned()],
    }
}

fn texts(document: &Value, key: &str) -> Vec<String> {
    let list = document.get(key).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Reads `{"source", "level", "why_not"}`; a level that is `null` or unknown was not reached at all.
fn reached(document: &Value) -> Option<Reached> {
    Some(Reached {
        source: document.get("source")?.as_str()?.to_owned(),
        level: document.get("level").and_then(Value::as_str).and_then(Level::parse),
        why_not: document.get("why_not").and_then(Value::as_str).map(str::to_owned),
    })
}

fn level_before(source: String, asked: Level, skipped: &[String]) -> Reached {
    let of_this = |line: &&String| line.starts_with(&format!("{source}: "));
    let short = skipped
        .iter()
        .filter(of_this)
        .find(|line| line.ends_with("content was checked"));
    let level = short.map_or(asked, |_| Level::Content.min(asked));
    Reached {
        level: Some(level),
        why_not: short.cloned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn id() -> SnapshotId {
        "20260201T020000Z-full-7f3a91c2d4e5b607".parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut written = Proved::new(id(), Some(Level::Restored), Some("sunday".to_owned()));
        for (source, level) in [("db", Some(Level::Content)), ("etc", None)] {
            written.reach(Reached {
                source: source.to_owned(),
                level,
                why_not: level.map(|_| "no server".to_owned()),
            });
        }
        let texts = [
            &mut written.skipped,
            &mut written.damage,
            &mut written.refused,
            &mut written.integrity,
        ];
        for (number, list) in texts.into_iter().enumerate() {
            list.push(format!("line {number}"));
        }
        written.archived = true;
        let document = serde_json::to_value(&written).unwrap();
        assert_eq!(Proved::read(id(), &document), written);
    }

    #[test]
    fn what_cannot_be_read_is_empty_and_never_a_proof() {
        let odd = json!({ "asked": 7, "level": "deep", "levels": [{ "level": "stored" }, 1, { "source": "db", "level": "deep" }],
            "sources": "db", "damage": ["a", 2], "archived": "no" });
        let read = Proved::read(id(), &odd);
        assert_eq!((read.asked, read.level, read.is_reached()), (None, None, false));
        let levels: Vec<_> = read.levels.iter().map(|one| (one.source.as_str(), one.level)).collect();
        assert_eq!((levels, read.sources.len()), (vec![("db", None)], 0));
        assert_eq!(read.damage, ["a", UNREADABLE]);
        for odd in [json!("torn"), json!({ "db": "torn" }), json!(true)] {
            let odd = json!({ "asked": "stored", "levels": [{ "source": "db", "level": "stored" }], "damage": odd });
            assert_eq!(Proved::read(id(), &odd).damage, [UNREADABLE], "{odd}");
        }
        assert!(!Proved::read(id(), &Value::Null).is_reached());
    }
}
