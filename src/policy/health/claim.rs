//! How a verification came out, and what may be claimed of it.

use crate::base::claim::Claim;
use crate::repository::Proved;

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

    /// Judges the document of a verification; `None` where it does not say what was asked for,
    /// nor names damage.
    pub fn of_document(proved: &Proved) -> Option<Self> {
        if proved.asked.is_none() && proved.damage.is_empty() {
            return None;
        }
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
