//! The words of success. What the program claims about backups and restores it claims with one of these and in no other way,
//! and each says what has earned it: a reader of "ok" must be able to find the line that made it true.

use crate::repository::Proved;

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
    /// What was written, or was there already, has the digests of the index.
    EveryDigestChecked,
    /// A SQLite database was restored, and SQLite's own check found nothing wrong in it.
    CheckedBySqlite,
    /// A condition that `check` tried holds.
    Holds,
    /// A container's own health check says so; nobody else does.
    ContainersHealthy,
}

impl Claim {
    /// Every claim.
    pub const ALL: [Self; 9] = [
        Self::AllWell,
        Self::Ok,
        Self::Proven,
        Self::EveryByte,
        Self::EveryDigest,
        Self::EveryDigestChecked,
        Self::CheckedBySqlite,
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
            Self::EveryDigestChecked => "every digest checked",
            Self::CheckedBySqlite => "checked by SQLite",
            Self::ContainersHealthy => "healthy by their own check",
        }
    }
}

/// How a verification of a snapshot came out. Evidence, the status page, the log, notifications and `verify` itself ask here:
/// what one of them calls damaged or proven is so for all of them. In the order of weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verification {
    /// Nothing is wrong, and every source reached the level that was asked for.
    Proven,
    /// Every source reached the level, but a scratch server refused statements, or SQLite finds fault with bytes that are
    /// those which were read.
    Incomplete,
    /// A source did not reach the level, or the snapshot does not have it.
    NotReached,
    /// Something is not as it was stored.
    Damaged,
}

impl Verification {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Proven, Self::Incomplete, Self::NotReached, Self::Damaged];

    /// Decides: whether something is damaged, whether something was refused or found wrong beside that, and whether every
    /// source reached what was asked for.
    pub fn of(damaged: bool, wrong: bool, reached: bool) -> Self {
        match (damaged, reached, wrong) {
            (true, _, _) => Self::Damaged,
            (false, false, _) => Self::NotReached,
            (false, true, true) => Self::Incomplete,
            (false, true, false) => Self::Proven,
        }
    }

    /// Judges the document of a verification; `None` where it does not say what was asked for.
    pub fn of_document(proved: &Proved) -> Option<Self> {
        proved.asked?;
        let wrong = !proved.refused.is_empty() || !proved.integrity.is_empty();
        Some(Self::of(!proved.damage.is_empty(), wrong, proved.is_reached()))
    }

    /// What may be claimed of it: nothing unless it is a proof.
    pub fn claim(self) -> Option<Claim> {
        (self == Self::Proven).then_some(Claim::Ok)
    }

    /// Returns the words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Proven => Claim::Ok.words(),
            Self::Incomplete => "INCOMPLETE",
            Self::NotReached => "NOT PROVEN as asked",
            Self::Damaged => "DAMAGED",
        }
    }
}
