//! Flags of verbs for Redis and Valkey.

use crate::engines::redis::{Conflict, KIND};
use crate::engines::{EngineKind, Flags};

/// Options of `restore` for Redis sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreRedis {
    /// Only keys that match these patterns (as of SCAN: *, ?, [a-z]).
    pub key: Vec<String>,
    /// Restore into a server that holds keys: what becomes of those the backup has too.
    pub conflict: Option<Conflict>,
    /// Users (ACL) too: each as the backup has it, with its password; others stay.
    pub users: bool,
    /// Go on to this offset of the command stream: OFFSET, or REPLICATION_ID:OFFSET.
    pub offset: Option<String>,
    /// The address by which a live target of that, or of a moment, reaches this host: ADDRESS, or ADDRESS:PORT.
    pub listen: Option<String>,
}

impl Flags for RestoreRedis {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn is_given(&self) -> bool {
        *self != Self::default()
    }
}
