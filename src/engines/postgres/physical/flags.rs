//! Flags of verbs for base backups.

use crate::engines::postgres::physical::KIND;
use crate::engines::{EngineKind, Flags};

/// Options of `restore` for base backups of PostgreSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreBase {
    /// A tablespace, by its directory or OID, and the directory that it goes into.
    pub tablespace: Vec<(String, String)>,
}

impl Flags for RestoreBase {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn is_given(&self) -> bool {
        *self != Self::default()
    }
}
