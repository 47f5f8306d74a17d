//! The words of success. What the program claims about backups and restores it claims with one of these and in no other way,
//! and each says what has earned it: a reader of "ok" must be able to find the line that made it true.

/// Something that went as it should, in the words that a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claim {
    /// The sentence of the status page: nothing is known against any job, drill or repository.
    AllWell,
    /// The word of a good state in `status` and at the health address; of a verification or a drill that found nothing wrong
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
