//! What the descriptor of a stored piece of a stream says.

use std::collections::BTreeMap;

use crate::archive::log::{About, Descriptor, Span, Times};
use crate::base::error::{Error, Result};
use crate::engines::redis::KIND;
use crate::engines::redis::log::marks::{self, Mark};
use crate::engines::redis::log::position::{Position, offset_of};

/// What the bytes are.
const WORD: &str = "commands";

/// The names of facts; docs/format.md tells what they mean.
const COMMANDS_TO: &str = "commands_to";
const SINCE: &str = "since";
const FOLLOWS: &str = "follows";
const BASE: &str = "base";
const MARKS: &str = "marks";
const GAP_FROM: &str = "gap_from";
const GAP_WHY: &str = "gap_why";

/// Why a stream does not go on where it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GapCause {
    /// The server did not have the bytes any more.
    Backlog,
    /// The server continues no history that is stored: it lost its own, or is another one.
    UnknownHistory,
    /// The server went back to an older state, and wrote other bytes at offsets that are stored.
    RolledBack,
    /// What was stored last cannot be read, and the server did not have it any more.
    Damaged,
    /// Something that a later release knows.
    Other,
}

impl GapCause {
    const ALL: [Self; 5] = [
        Self::Backlog,
        Self::UnknownHistory,
        Self::RolledBack,
        Self::Damaged,
        Self::Other,
    ];

    /// Returns the word of descriptors and reports.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Backlog => "backlog",
            Self::UnknownHistory => "unknown-history",
            Self::RolledBack => "rolled-back",
            Self::Damaged => "damaged",
            Self::Other => "other",
        }
    }

    fn of_word(word: &str) -> Self {
        let known = Self::ALL.into_iter().find(|cause| cause.word() == word);
        known.unwrap_or(Self::Other)
    }

    /// Tells what happened, for people.
    pub(crate) fn told(self) -> &'static str {
        match self {
            Self::Backlog => "the server does not have what lies between any more; raise repl-backlog-size",
            Self::UnknownHistory => {
                "the server continues no history that is stored: it was started anew without its data, or is another server"
            }
            Self::RolledBack => "the server went back to an older state, and writes other commands at the same offsets",
            Self::Damaged => "what was stored last cannot be read, and the server does not have it any more",
            Self::Other => "a later release of this program knows why",
        }
    }
}

/// What is missing before a window of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Where the stream should have gone on.
    pub(crate) from: Position,
    /// Why it did not.
    pub(crate) why: GapCause,
}

/// A stored piece of a stream: where it lies, and what leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Offset of its first byte.
    pub(crate) from: u64,
    /// Offset behind its last byte.
    pub(crate) to: u64,
    /// Offset behind the last whole command before `to`. It lies before `from` if a command goes through all of it.
    pub(crate) commands_to: u64,
    /// From here on its history is stored without a hole up to this piece.
    pub(crate) since: u64,
    /// Where the history that this one continues was left, if it continues one.
    pub(crate) follows: Option<Position>,
    /// What is missing before `since`, if something is.
    pub(crate) gap: Option<Gap>,
    /// The newest snapshot from which a restore to this piece can begin, as far as the receiver knew.
    pub(crate) base: Option<Position>,
    /// Time marks, in order.
    pub(crate) marks: Vec<Mark>,
}

impl Piece {
    /// Returns what the descriptor says.
    pub(crate) fn about(&self) -> About {
        let position = |position: &Option<Position>| position.as_ref().map(Position::to_string);
        let facts = [
            (COMMANDS_TO, Some(self.commands_to.to_string())),
            (SINCE, Some(self.since.to_string())),
            (FOLLOWS, position(&self.follows)),
            (GAP_FROM, self.gap.as_ref().map(|gap| gap.from.to_string())),
            (GAP_WHY, self.gap.as_ref().map(|gap| gap.why.word().to_owned())),
            (BASE, position(&self.base)),
            (MARKS, Some(marks::encode(&self.marks))),
        ];
        let facts = facts.into_iter();
        let facts = facts.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        About {
            engine: KIND.word().to_owned(),
            kind: WORD.to_owned(),
            span: Some(Span {
                from: self.from,
                to: self.to,
            }),
            times: self.marks.first().zip(self.marks.last()).map(|(first, last)| Times {
                first: first.at,
                last: last.at,
            }),
            facts: facts.collect(),
        }
    }

    /// Reads a descriptor; the piece must begin where its name says.
    pub(crate) fn read(from: u64, descriptor: &Descriptor) -> Result<Self> {
        let about = &descriptor.about;
        let wrong = |what: &str| Error::corrupt(format!("its descriptor {what}"));
        if about.engine != KIND.word() || about.kind != WORD {
            return Err(wrong("is not that of a command stream"));
        }
        let span = about.span.ok_or_else(|| wrong("has no offsets"))?;
        if span.from != from || span.to.checked_sub(span.from) != Some(descriptor.raw_bytes) || span.to == span.from {
            return Err(wrong("says other offsets than its name and its length"));
        }
        let facts: &BTreeMap<String, String> = &about.facts;
        let offset = |name: &str| offset_of(facts.get(name).ok_or_else(|| wrong("lacks an offset"))?);
        let position = |name: &str| facts.get(name).map(|text| text.parse::<Position>()).transpose();
        let piece = Self {
            from,
            to: offset_of(&span.to.to_string())?,
            commands_to: offset(COMMANDS_TO)?,
            since: offset(SINCE)?,
            follows: position(FOLLOWS)?,
            gap: position(GAP_FROM)?.map(|from| Gap {
                from,
                why: facts
                    .get(GAP_WHY)
                    .map_or(GapCause::Other, |word| GapCause::of_word(word)),
            }),
            base: position(BASE)?,
            marks: match facts.get(MARKS) {
                Some(text) => marks::decode(text, span.to)?,
                None => Vec::new(),
            },
        };
        if piece.commands_to > piece.to || piece.since > piece.from {
            return Err(wrong("says what cannot be"));
        }
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn piece() -> Piece {
        let id = "0123456789abcdef0123456789abcdef01234567";
        Piece {
            from: 100,
            to: 150,
            commands_to: 140,
            since: 90,
            follows: Some(format!("{id}:90").parse().unwrap()),
            gap: Some(Gap {
                from: format!("{id}:70").parse().unwrap(),
                why: GapCause::RolledBack,
            }),
            base: None,
            marks: vec![Mark {
                offset: 140,
                at: "2026-11-28T10:00:00.5Z".parse().unwrap(),
            }],
        }
    }

    fn descriptor(about: &About) -> Descriptor {
        serde_json::from_value(serde_json::json!({
            "format": 1, "raw_bytes": 50, "raw_sha256": "0".repeat(64), "data_bytes": 9,
            "engine": about.engine, "kind": about.kind, "span": about.span, "times": about.times, "facts": about.facts,
        }))
        .unwrap()
    }

    #[test]
    fn pieces_go_both_ways_and_forged_ones_are_refused() {
        let about = piece().about();
        assert_eq!(Piece::read(100, &descriptor(&about)).unwrap(), piece());
        assert!(Piece::read(101, &descriptor(&about)).is_err());
        let other = |change: &dyn Fn(&mut About)| {
            let mut about = about.clone();
            change(&mut about);
            Piece::read(100, &descriptor(&about))
        };
        assert!(other(&|about| "postgres".clone_into(&mut about.engine)).is_err());
        assert!(other(&|about| about.span = Some(Span { from: 100, to: 151 })).is_err());
        assert!(other(&|about| about.span = None).is_err());
        for (name, value) in [
            (COMMANDS_TO, "151"),
            (COMMANDS_TO, "-1"),
            (SINCE, "101"),
            (SINCE, ""),
            (FOLLOWS, "x:1"),
            (GAP_FROM, "x:1"),
            (BASE, "../..:1"),
            (MARKS, "151@1"),
        ] {
            let read = other(&|about| {
                about.facts.insert(name.to_owned(), value.to_owned());
            });
            assert!(read.is_err(), "{name} {value}");
        }
        let of_later = other(&|about| {
            about.facts.insert(GAP_WHY.to_owned(), "something new".to_owned());
        });
        assert_eq!(of_later.unwrap().gap.unwrap().why, GapCause::Other);
        assert!(
            GapCause::ALL
                .iter()
                .all(|cause| GapCause::of_word(cause.word()) == *cause)
        );
        for name in [COMMANDS_TO, SINCE] {
            assert!(other(&|about| drop(about.facts.remove(name))).is_err(), "{name}");
        }
    }
}
