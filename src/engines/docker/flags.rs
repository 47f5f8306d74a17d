//! Flags of verbs for Docker volumes.

use crate::engines::docker::KIND;
use crate::engines::{EngineKind, Flags};

/// Options of `restore` for Docker volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreDocker {
    /// Only these volumes.
    pub volume: Vec<String>,
    /// Containers (names or compose services) to stop meanwhile [default: those of the source's configuration].
    pub quiesce: Vec<String>,
}

impl Flags for RestoreDocker {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn is_given(&self) -> bool {
        *self != Self::default()
    }
}
