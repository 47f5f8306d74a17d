//! One file per verb; the top function of each reads as its phases.
//!
//! A command prints nothing: it tells the reporter what it does and returns a [`Report`], which the command line prints
//! as text or as one JSON document. The flags of a verb are its options.

pub mod backup;
pub mod cat;
pub mod check;
mod choose;
pub mod cleanup;
mod clock;
mod cluster;
pub mod copy;
mod destination;
mod emptied;
mod facts;
mod found;
pub mod health;
mod hooks;
pub mod init;
mod lease;
pub mod list;
pub mod local;
mod meant;
mod open;
pub mod pin;
mod places;
mod probe;
pub mod prune;
mod records;
pub mod recover;
pub mod restore;
pub mod run;
mod said;
pub mod session;
mod settle;
pub mod several;
pub mod show;
mod snapshots;
pub mod status;
mod stored;
mod targets;
mod thaw;
pub mod verify;
mod volumes;

use crate::error::Result;

pub use session::Session;

/// How a command ended, when it did not fail outright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Everything was done: exit code 0.
    Done,
    /// Finished, and what was found is a failure (damage, a finding of `check`): exit code 1.
    Failed,
    /// Finished, but some sources failed: exit code 2.
    Partial,
}

impl Status {
    /// Returns the exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Partial => 2,
        }
    }
}

/// What a command has to say at its end.
pub trait Report {
    /// Returns the one JSON document of `--json`.
    fn document(&self) -> serde_json::Value;
    /// Returns the text for people, with its last line break.
    fn text(&self) -> String;
    /// Returns whether there is anything to print; `cat` has written its bytes already.
    fn prints(&self) -> bool {
        true
    }
    /// Returns how it ended.
    fn status(&self) -> Status {
        Status::Done
    }
}

/// A finished command.
pub type Outcome = Result<Box<dyn Report>>;
