//! What `verify` found in one snapshot: for people, for programs, and as evidence.

use serde_json::Value;

use crate::operations::options::Level;
use crate::policy::health::{Claim, Verification};
use crate::repository::SnapshotId;

/// How far one source was proven.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct SourceLevel {
    /// The source.
    pub(super) source: String,
    /// The deepest level that was reached; none where not even the stored objects are as they were, or nothing could be read.
    pub(super) level: Option<Level>,
    /// Why not the level that was asked for.
    pub(super) why_not: Option<String>,
}

/// What was found in one snapshot.
#[derive(Debug, serde::Serialize)]
pub(super) struct Verified {
    pub(super) snapshot: SnapshotId,
    /// The level that every source reached; none if one of them reached none.
    pub(super) level: Option<Level>,
    /// The level that was asked for.
    pub(super) asked: Level,
    /// The same source by source.
    pub(super) levels: Vec<SourceLevel>,
    pub(super) sources: Vec<String>,
    pub(super) skipped: Vec<String>,
    pub(super) damage: Vec<String>,
    /// Statements of a restore that the scratch server refused: the rows are proven, these are not.
    pub(super) refused: Vec<String>,
    /// What SQLite finds wrong in a database whose bytes are those that were stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) integrity: Vec<String>,
    /// What restores into scratch places counted.
    pub(super) restored: Vec<Value>,
    /// Whether objects lie in cold storage classes, so that nothing of them is proven.
    pub(super) archived: bool,
    /// The drill that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drill: Option<String>,
}

impl Verified {
    pub(super) fn new(snapshot: SnapshotId, asked: Level, drill: Option<String>) -> Self {
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
            restored: vec![],
            archived: false,
            drill,
        }
    }

    /// Takes what was reached for a source that the snapshot has.
    pub(super) fn reach(&mut self, one: SourceLevel) {
        if one.level.is_some() {
            self.sources.push(one.source.clone());
        }
        self.levels.push(one);
        self.level = self.levels.iter().map(|one| one.level).min().flatten();
    }

    /// Returns whether every source reached what was asked for.
    pub(super) fn is_reached(&self) -> bool {
        !self.levels.is_empty() && self.levels.iter().all(|one| one.level == Some(self.asked))
    }

    /// Returns how it came out.
    pub(super) fn came(&self) -> Verification {
        let wrong = !self.refused.is_empty() || !self.integrity.is_empty();
        Verification::of(!self.damage.is_empty(), wrong, self.is_reached())
    }

    /// Returns whether something keeps this from being a proof.
    pub(super) fn is_partial(&self) -> bool {
        self.archived || self.came() != Verification::Proven
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("{} {}\n", self.snapshot, self.headline());
        let lines = |text: &mut String, words: &str, lines: &[String]| {
            for line in lines {
                text.push_str(&format!("  {words}{line}\n"));
            }
        };
        lines(&mut text, "skipped ", &self.skipped);
        for one in &self.restored {
            text.push_str(&restored_text(one));
        }
        lines(&mut text, "refused by the scratch server: ", &self.refused);
        lines(
            &mut text,
            "damaged before it was stored; the bytes are those that were read: ",
            &self.integrity,
        );
        lines(&mut text, "damaged: ", &self.damage);
        text
    }

    fn headline(&self) -> String {
        let (came, asked) = (self.came(), word(self.asked));
        let words = came.words();
        if came != Verification::NotReached {
            return format!("{words} ({})", self.by_level());
        }
        if self.archived && self.levels.iter().all(|one| one.level.is_none()) {
            return format!("not read (level {asked} was asked for)");
        }
        format!("{words}, {asked} ({})", self.by_level())
    }

    /// Names the sources by what they reached, the deepest level first.
    fn by_level(&self) -> String {
        let mut groups = Vec::new();
        for level in [Some(Level::Restored), Some(Level::Content), Some(Level::Stored), None] {
            let names = self.levels.iter().filter(|one| one.level == level);
            let names: Vec<&str> = names.map(|one| one.source.as_str()).collect();
            if !names.is_empty() {
                let word = level.map_or("no level".to_owned(), |level| format!("level {}", word(level)));
                groups.push(format!("{word}: {}", names.join(", ")));
            }
        }
        if groups.is_empty() {
            groups.push("nothing was read".to_owned());
        }
        groups.join("; ")
    }
}

/// The word of a level.
fn word(level: Level) -> &'static str {
    match level {
        Level::Stored => "stored",
        Level::Content => "content",
        Level::Restored => "restored",
    }
}

/// What came back into a scratch place.
fn restored_text(one: &Value) -> String {
    let number = |name: &str| one.get(name).and_then(Value::as_u64).unwrap_or(0);
    if one.get("keys").is_some() {
        return format!(
            "  restored into a scratch server: {} keys compared, {} differ, {} expired or about to\n",
            number("keys"),
            number("differing_keys"),
            number("expired")
        );
    }
    if one.get("entries").is_some() {
        return format!(
            "  restored into a scratch directory: {} entries, {}\n",
            number("entries"),
            Claim::EveryByte.words()
        );
    }
    let counted = format!("{} tables, {} rows", number("tables"), number("rows"));
    // A server that refused a table has rows that nobody compared.
    let proof = if one.get("rows_verified") == Some(&Value::Bool(true)) {
        Claim::EveryDigest.words()
    } else {
        "not every table compared"
    };
    format!("  restored into a scratch database: {counted}, {proof}\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn verified(asked: Level, levels: &[(&str, Option<Level>)]) -> Verified {
        let id = "20260201T020000Z-full-7f3a91c2d4e5b607".parse().unwrap();
        let mut verified = Verified::new(id, asked, None);
        for (source, level) in levels {
            verified.reach(SourceLevel {
                source: (*source).to_owned(),
                level: *level,
                why_not: None,
            });
        }
        verified
    }

    #[test]
    fn ok_is_said_only_where_every_source_reached_what_was_asked_for() {
        let (content, restored) = (Some(Level::Content), Some(Level::Restored));
        let whole = verified(Level::Restored, &[("app", restored), ("db", restored)]);
        assert!(
            whole.text().ends_with(" ok (level restored: app, db)\n"),
            "{}",
            whole.text()
        );
        assert_eq!((whole.level, whole.is_partial()), (restored, false));
        let less = verified(Level::Restored, &[("app", restored), ("db", content)]);
        assert!(!less.text().contains(" ok "), "{}", less.text());
        assert!(
            less.text().contains("level restored: app; level content: db"),
            "{}",
            less.text()
        );
        assert_eq!((less.level, less.is_partial()), (content, true));
        let none = verified(Level::Content, &[("app", None), ("db", content)]);
        assert_eq!((none.level, none.is_partial()), (None, true));
        assert_eq!(none.sources, ["db"]);
    }
}
