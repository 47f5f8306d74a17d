//! What `verify` found in each snapshot: for people, for programs, and as evidence.

use crate::base::moment::local;
use crate::engines::ScratchReport;
use crate::operations::log::proven::ProvenLog;
use crate::operations::{Report, Status, document_of};
use crate::policy::health::Verification;
use crate::repository::{Gap, Level, Proved, SnapshotId};

/// What `verify` found. Its fields are the keys of the JSON document.
#[derive(Debug, Default, serde::Serialize)]
pub struct VerifyReport {
    /// Each snapshot that was looked at.
    pub verified: Vec<Verified>,
    /// Unreadable snapshots that may be newer than a latest one, a line each.
    pub passed_over: Vec<String>,
    /// With `--all`: where manifests name a snapshot before them that is not there, or is another.
    pub chain: Vec<Gap>,
}

/// What was found in one snapshot.
#[derive(Debug, serde::Serialize)]
pub struct Verified {
    /// What was proven; this part is read back from evidence.
    #[serde(flatten)]
    pub proved: Proved,
    /// What restores into scratch places counted.
    pub restored: Vec<Restored>,
    /// Of base backups whose log is stored: up to where it was read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<ProvenLog>,
}

/// What came back into a scratch place.
#[derive(Debug, serde::Serialize)]
pub struct Restored {
    /// The source.
    pub source: String,
    /// What its engine compared.
    #[serde(flatten)]
    pub report: Box<dyn ScratchReport>,
}

impl Report for VerifyReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        let mut text: String = self.verified.iter().map(Verified::text).collect();
        for line in &self.passed_over {
            text.push_str(&format!("{line}\n"));
        }
        for gap in &self.chain {
            let word = if gap.damage { "damaged" } else { "note" };
            text.push_str(&format!("{word}: {gap}\n"));
        }
        text
    }

    fn status(&self) -> Status {
        let damaged = self.verified.iter().any(|one| !one.proved.damage.is_empty());
        if damaged || self.chain.iter().any(|gap| gap.damage) {
            Status::Failed
        } else if !self.passed_over.is_empty() || self.verified.iter().any(Verified::is_partial) {
            Status::Partial
        } else {
            Status::Done
        }
    }
}

impl Verified {
    pub(super) fn new(snapshot: SnapshotId, asked: Level, drill: Option<String>) -> Self {
        Self {
            proved: Proved::new(snapshot, Some(asked), drill),
            restored: vec![],
            logs: vec![],
        }
    }

    /// Returns how it came out.
    pub(crate) fn came(&self) -> Verification {
        Verification::of_document(&self.proved).unwrap_or(Verification::NotReached)
    }

    /// Returns whether something keeps this from being a proof.
    fn is_partial(&self) -> bool {
        self.proved.archived || self.came() != Verification::Proven
    }

    fn text(&self) -> String {
        let mut text = format!("{} {}\n", self.proved.snapshot, self.headline());
        let lines = |text: &mut String, words: &str, lines: &[String]| {
            for line in lines {
                text.push_str(&format!("  {words}{line}\n"));
            }
        };
        lines(&mut text, "skipped ", &self.proved.skipped);
        for one in &self.restored {
            text.push_str(&format!("  restored into {}\n", one.report.text()));
        }
        for log in &self.logs {
            let (s, to) = (if log.segments == 1 { "" } else { "s" }, local(log.moment));
            text.push_str(&format!(
                "  log of {} read to {to}, a moment within it ({} segment{s}, from {} to {})\n",
                log.source, log.segments, log.from, log.to
            ));
        }
        lines(&mut text, "refused by the scratch server: ", &self.proved.refused);
        lines(
            &mut text,
            "damaged before it was stored, and stored as read: ",
            &self.proved.integrity,
        );
        lines(&mut text, "damaged: ", &self.proved.damage);
        text
    }

    fn headline(&self) -> String {
        let (came, asked) = (self.came(), self.proved.asked.map_or("none", Level::word));
        let words = came.words();
        if came != Verification::NotReached {
            return format!("{words} ({})", self.by_level());
        }
        if self.proved.archived && self.proved.levels.iter().all(|one| one.level.is_none()) {
            return format!("not verified (level {asked} was requested)");
        }
        format!("{words}, {asked} ({})", self.by_level())
    }

    /// Names the sources by what they reached, the deepest level first.
    fn by_level(&self) -> String {
        let mut groups = Vec::new();
        for level in [Some(Level::Restored), Some(Level::Content), Some(Level::Stored), None] {
            let names = self.proved.levels.iter().filter(|one| one.level == level);
            let names: Vec<&str> = names.map(|one| one.source.as_str()).collect();
            if !names.is_empty() {
                let word = level.map_or("no level".to_owned(), |level| format!("level {}", level.word()));
                groups.push(format!("{word}: {}", names.join(", ")));
            }
        }
        if groups.is_empty() {
            groups.push("nothing was read".to_owned());
        }
        groups.join("; ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::repository::Reached;

    fn verified(asked: Level, levels: &[(&str, Option<Level>)]) -> Verified {
        let id = "20260201T020000Z-full-7f3a91c2d4e5b607".parse().unwrap();
        let mut verified = Verified::new(id, asked, None);
        for (source, level) in levels {
            verified.proved.reach(Reached {
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
        assert_eq!((whole.proved.level, whole.is_partial()), (restored, false));
        let less = verified(Level::Restored, &[("app", restored), ("db", content)]);
        assert!(!less.text().contains(" ok "), "{}", less.text());
        assert!(
            less.text().contains("level restored: app; level content: db"),
            "{}",
            less.text()
        );
        assert_eq!((less.proved.level, less.is_partial()), (content, true));
        let none = verified(Level::Content, &[("app", None), ("db", content)]);
        assert_eq!((none.proved.level, none.is_partial()), (None, true));
        assert_eq!(none.proved.sources, ["db"]);
    }
}
