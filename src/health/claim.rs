//! The words of success. What the program claims about backups and restores it claims with one of these and in no other way,
//! and each says what has earned it: a reader of "ok" must be able to find the line that made it true.

use super::{Proof, State};
use crate::repository::Evidence;

/// Something that went as it should, in the words that a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claim {
    /// The sentence of the status page: nothing is known against any job, drill or repository ([`State::Ok`] of all).
    AllWell,
    /// The word of [`State::Ok`] in `status` and at the health address; of a verification or a drill that found nothing wrong
    /// and reached the level that was asked for, of every source.
    Ok,
    /// The same of stored evidence.
    Proven,
    /// A file tree was restored beside, and each file, its kind and its attributes compared with the index.
    EveryByte,
    /// A database was restored, and the rows of each table read again and compared by their digest.
    EveryDigest,
    /// A condition that `check` tried holds.
    Holds,
    /// A container's own health check says so; nobody else does.
    ContainersHealthy,
}

impl Claim {
    /// Every claim.
    pub const ALL: [Self; 7] = [
        Self::AllWell,
        Self::Ok,
        Self::Proven,
        Self::EveryByte,
        Self::EveryDigest,
        Self::Holds,
        Self::ContainersHealthy,
    ];

    /// Returns the words.
    pub fn words(self) -> &'static str {
        match self {
            Self::AllWell => "All is well.",
            Self::Ok | Self::Holds => "ok",
            Self::Proven => "proven",
            Self::EveryByte => "every byte equal",
            Self::EveryDigest => "every table's row digest equal",
            Self::ContainersHealthy => "healthy by their own check",
        }
    }

    /// What may be claimed of a verification: nothing where something is wrong, or where a source did not reach what was asked
    /// for.
    pub fn of_verification(wrong: bool, reached: bool) -> Option<Self> {
        (!wrong && reached).then_some(Self::Ok)
    }

    /// What stored evidence claims; nothing where a scratch server refused a statement, either.
    pub fn of_evidence(evidence: &Evidence) -> Option<Self> {
        let proof = Proof::of(evidence)?;
        let refused = evidence.proved.get("refused").and_then(serde_json::Value::as_array);
        let refused = refused.is_some_and(|refused| !refused.is_empty());
        Self::of_verification(refused || proof.is_damaged(), proof.is_reached()).map(|_| Self::Proven)
    }
}

impl State {
    /// What the state claims in a word; nothing unless all is well.
    pub fn claim(self) -> Option<Claim> {
        (self == Self::Ok).then_some(Claim::Ok)
    }
}
