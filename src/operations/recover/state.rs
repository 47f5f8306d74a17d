//! What an interrupted recovery remembers: which steps are done, and what each proved.
//!
//! The file is replaced by a rename before and after each step, so a crash leaves a step begun at most. A step that was
//! begun and not ended is done again, over what it left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use crate::base::error::{Context, Error, Result};

/// One step.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Step {
    begun: Option<Timestamp>,
    done: Option<Timestamp>,
    /// What it proved, as it was written: each step knows the form of its own.
    #[serde(default)]
    proof: Option<Box<RawValue>>,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Document {
    snapshot: String,
    steps: BTreeMap<String, Step>,
}

/// The state of a recovery.
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
    document: Document,
}

impl State {
    /// Reads the state of an earlier attempt, or begins anew.
    pub(super) fn open(path: &Path, snapshot: &str) -> Result<Self> {
        let fresh = Document {
            snapshot: snapshot.to_owned(),
            steps: BTreeMap::new(),
        };
        let document = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => fresh,
            Err(error) => return Err(Error::from(error).context(format!("read \"{}\"", path.display()))),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                Error::corrupt(format!("\"{}\" is not the state of a recovery", path.display())).with_cause(e)
            })?,
        };
        if document.snapshot != snapshot {
            return Err(Error::invalid(format!(
                "\"{}\" is the state of a recovery of snapshot {}",
                path.display(),
                document.snapshot
            ))
            .with_hint(if document.snapshot.contains(' ') {
                "Move the file away to start over; add --clean to replace what that recovery restored.".to_owned()
            } else {
                format!(
                    "Continue that one (wirevault recover {}), or remove the file to start over.",
                    document.snapshot
                )
            }));
        }
        Ok(Self {
            path: path.to_owned(),
            document,
        })
    }

    /// Returns whether an earlier attempt is gone on with.
    pub(super) fn is_resumed(&self) -> bool {
        !self.document.steps.is_empty()
    }

    /// Returns what a finished step proved.
    pub(super) fn done<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let step = self.document.steps.get(key).filter(|step| step.done.is_some());
        let Some(step) = step else { return Ok(None) };
        let proof = step.proof.as_ref().map_or("null", |proof| proof.get());
        let read = serde_json::from_str(proof).map_err(|cause| self.unreadable(key).with_cause(cause))?;
        Ok(Some(read))
    }

    /// The error for a step whose proof cannot be read.
    pub(super) fn unreadable(&self, key: &str) -> Error {
        let path = self.path.display();
        Error::corrupt(format!("the result of step \"{key}\" cannot be read from \"{path}\""))
            .with_hint("Move the file away to start over; add --clean to replace what was restored already.")
    }

    /// Returns whether a step was finished before.
    pub(super) fn is_done(&self, key: &str) -> bool {
        self.document.steps.get(key).is_some_and(|step| step.done.is_some())
    }

    /// Returns whether a step was begun before.
    pub(super) fn begun(&self, key: &str) -> bool {
        self.document.steps.contains_key(key)
    }

    /// Has a step done once more: what it proved may not hold any longer.
    pub(super) fn reopen(&mut self, key: &str) {
        self.document.steps.remove(key);
    }

    /// Takes back that a step was begun: it changed nothing.
    pub(super) fn withdraw(&mut self, key: &str) -> Result<()> {
        self.reopen(key);
        self.write()
    }

    /// Remembers that a step begins.
    pub(super) fn begin(&mut self, key: &str) -> Result<()> {
        let step = self.document.steps.entry(key.to_owned()).or_default();
        step.begun = Some(Timestamp::now());
        self.write()
    }

    /// Remembers what a step proved.
    pub(super) fn end(&mut self, key: &str, proof: &impl Serialize) -> Result<()> {
        let proof = to_raw_value(proof)
            .map_err(|cause| Error::invalid(format!("write the result of step \"{key}\"")).with_cause(cause))?;
        let step = self.document.steps.entry(key.to_owned()).or_default();
        step.done = Some(Timestamp::now());
        step.proof = Some(proof);
        self.write()
    }

    /// Forgets everything: the recovery is complete.
    pub(super) fn forget(self) {
        let _ = std::fs::remove_file(&self.path);
    }

    fn write(&self) -> Result<()> {
        let act = || format!("write \"{}\"", self.path.display());
        let bytes = serde_json::to_vec_pretty(&self.document).map_err(|e| Error::invalid(act()).with_cause(e))?;
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        std::fs::write(&temporary, bytes).with_context(act)?;
        std::fs::rename(&temporary, &self.path).with_context(act)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn steps_are_remembered_across_attempts_and_never_for_another_snapshot() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("state");
        let mut state = State::open(&path, "one").unwrap();
        assert!(!state.is_resumed());
        state.begin("a").unwrap();
        state.end("a", &7).unwrap();
        state.begin("b").unwrap();
        state.begin("c").unwrap();
        state.withdraw("c").unwrap();
        let state = State::open(&path, "one").unwrap();
        assert!(!state.begun("c"), "a refused step was never begun");
        assert_eq!(state.done("a").unwrap(), Some(7));
        assert!(state.is_resumed() && state.begun("b") && state.done::<u32>("b").unwrap().is_none());
        let error = State::open(&path, "two").unwrap_err();
        assert!(error.hint().unwrap().contains("recover one"));
        state.forget();
        assert!(!path.exists());
    }
}
