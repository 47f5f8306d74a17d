//! One file per verb; the top function of each reads as its phases.
//!
//! A command prints nothing: it tells the reporter what it does and returns a [`Report`], which the command line prints
//! as text or as one JSON document. The flags of a verb are its options.

pub mod backup;
pub mod cat;
pub mod check;
pub(crate) mod choose;
pub mod cleanup;
pub(crate) mod clock;
pub mod config;
pub mod copy;
pub(crate) mod destination;
pub(crate) mod emptied;
pub(crate) mod expand;
pub(crate) mod facts;
pub(crate) mod hooks;
pub mod init;
pub(crate) mod lease;
pub mod list;
pub mod local;
pub mod log;
pub(crate) mod meant;
pub mod notify;
pub(crate) mod open;
pub mod options;
pub mod pin;
pub(crate) mod places;
pub(crate) mod probe;
pub mod prune;
pub(crate) mod records;
pub mod recover;
pub mod restore;
pub mod session;
pub(crate) mod settle;
pub mod several;
pub mod show;
pub(crate) mod snapshots;
pub mod status;
pub(crate) mod stored;
pub(crate) mod targets;
pub(crate) mod thaw;
pub mod verify;

use crate::base::error::Result;

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

    /// Returns the status of two that ended: the worse one.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (Self::Partial, _) | (_, Self::Partial) => Self::Partial,
            (Self::Done, Self::Done) => Self::Done,
        }
    }
}

/// What a command has to say at its end. Each verb has a type of its own, whose fields are the keys of its JSON document; programs
/// read that (docs/json.md), and other code of this program reads the fields.
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

/// A finished command, of any verb.
pub type Outcome = Result<Box<dyn Report>>;

impl Report for Box<dyn Report> {
    fn document(&self) -> serde_json::Value {
        (**self).document()
    }
    fn text(&self) -> String {
        (**self).text()
    }
    fn prints(&self) -> bool {
        (**self).prints()
    }
    fn status(&self) -> Status {
        (**self).status()
    }
}

impl serde::Serialize for dyn Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.document().serialize(serializer)
    }
}

/// Returns the JSON document of a report.
pub(crate) fn document_of(report: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(report).expect("the keys of a report are strings, and its numbers have a form in JSON")
}
