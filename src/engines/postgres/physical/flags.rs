//! Flags of verbs for base backups.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use crate::base::error::{Error, Result};
use crate::engines::postgres::physical::KIND;
use crate::engines::postgres::physical::recovery::{Recovery, TargetAction};
use crate::engines::postgres::wal::Lsn;
use crate::engines::{EngineKind, Flags};

/// Options of `restore` for base backups of PostgreSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreBase {
    /// A tablespace, by its directory or OID, and the directory that it goes into.
    pub tablespace: Vec<(String, String)>,
    /// Whether some of these may be of another base: no flag.
    pub tablespaces_of_several: bool,
    /// Recover to this position in the log.
    pub lsn: Option<Lsn>,
    /// Recover to the restore point of this name.
    pub name: Option<String>,
    /// The timeline whose line the recovery follows [default: the newest that goes through the base].
    pub timeline: Option<WantedTimeline>,
    /// What the server does where the recovery ends [default: it is promoted].
    pub target_action: Option<TargetAction>,
    /// How the server goes on, by the name of the source: planned out of the log by the verb, and no flag.
    pub recoveries: BTreeMap<String, Recovery>,
}

impl Flags for RestoreBase {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn is_given(&self) -> bool {
        let planned = Self {
            recoveries: self.recoveries.clone(),
            tablespaces_of_several: self.tablespaces_of_several,
            ..Self::default()
        };
        *self != planned
    }
}

/// Options of `verify` for base backups of PostgreSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartServer {
    /// Start a scratch server on what was restored.
    pub start: bool,
    /// Where its programs are [default: the usual places].
    pub bin_dir: Option<PathBuf>,
    /// The user that it runs as, where this is root [default: postgres].
    pub run_as: Option<String>,
    /// How it goes on by its log: planned by the verb, and no flag.
    pub recovery: Option<Recovery>,
}

impl Flags for StartServer {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn is_given(&self) -> bool {
        self.start
    }
}

/// A timeline, as `recovery_target_timeline` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedTimeline {
    /// The newest that goes through the base.
    Latest,
    /// That of the base.
    Current,
    /// This one.
    Number(u32),
}

impl FromStr for WantedTimeline {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("latest", _) => Ok(Self::Latest),
            ("current", _) => Ok(Self::Current),
            (_, Ok(number)) if number > 0 => Ok(Self::Number(number)),
            _ => {
                Err(Error::invalid(format!("{text:?} is no timeline")).with_hint("Write latest, current or a number."))
            }
        }
    }
}
