//! The one vocabulary of how things stand.

use super::Claim;

/// How something stands. Only [`State::Ok`] claims that all is well; page, health address, metrics, `status` and `health` say
/// it in no other way. In the order of weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// There is a good snapshot, it is not older than its schedule allows, and nothing is known against it.
    Ok,
    /// The configuration no longer has the job: nothing is expected of it, and nothing claimed.
    NotJudged,
    /// Nobody has looked yet.
    Unknown,
    /// A drill asked for more than it reached.
    LevelNotReached,
    /// The last run brought a snapshot that lacks something.
    Incomplete,
    /// The last run failed.
    Failing,
    /// The newest good snapshot is older than the schedule allows.
    Overdue,
    /// There is no good snapshot at all.
    NeverBackedUp,
    /// Stored data are damaged.
    Damaged,
    /// A repository cannot be reached, so nothing is known about it.
    StoreAway,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::NotJudged,
        Self::Unknown,
        Self::LevelNotReached,
        Self::Incomplete,
        Self::Failing,
        Self::Overdue,
        Self::NeverBackedUp,
        Self::Damaged,
        Self::StoreAway,
    ];

    /// Returns the words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ok => Claim::Ok.words(),
            Self::NotJudged => "no longer configured",
            Self::Unknown => "not known yet",
            Self::LevelNotReached => "level not reached",
            Self::Incomplete => "incomplete",
            Self::Failing => "failing",
            Self::Overdue => "overdue",
            Self::NeverBackedUp => "never backed up",
            Self::Damaged => "damaged",
            Self::StoreAway => "repository not reached",
        }
    }

    /// Returns whether all is well.
    pub fn is_ok(self) -> bool {
        self == Self::Ok
    }

    /// Returns the word of the health address.
    pub fn health_word(self) -> &'static str {
        if self.is_ok() { Claim::Ok.words() } else { "failing" }
    }

    /// Returns the sentence above everything else.
    pub fn verdict(self) -> &'static str {
        if self.is_ok() {
            Claim::AllWell.words()
        } else {
            "Not all is well."
        }
    }
}
