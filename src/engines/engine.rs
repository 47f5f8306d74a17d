//! What an engine says of itself: whatever differs between kinds of sources and no single source can say.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::archive::{SourceOutcome, StoredSource};
use crate::base::error::{Error, Result};
use crate::engines::{
    Change, EngineFlags, EngineKind, Named, RestoreProof, RestoreReport, RestoreRequest, Restorer, SourceSpec, Spec,
    Stored,
};

/// By whose word a stored plan is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanWord {
    /// The operator's: this host remembers that it was given here, in these words.
    Own,
    /// The manifest's: nothing comes of it that a stranger may not ask for, and it names a place or is nothing.
    Foreign,
    /// The manifest's, for names alone: where it was may not be among it.
    Name,
}

/// The parts of a recovery, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecoveryPhase {
    /// Trees of files, the configuration among them.
    Trees,
    /// Files that may lie within trees.
    Files,
    /// Data directories on which servers are started afterwards.
    DataDirectories,
    /// Volumes, and the containers in which servers run.
    Containers,
    /// Databases of servers, once these answer.
    Servers,
}

/// Reads a report of one type.
pub(crate) fn report<R: RestoreReport + DeserializeOwned + 'static>(value: Value) -> Result<Box<dyn RestoreReport>> {
    match serde_json::from_value::<R>(value) {
        Ok(report) => Ok(Box::new(report)),
        Err(cause) => Err(Error::corrupt("the report of a restore cannot be read").with_cause(cause)),
    }
}

/// A kind of sources. There is one object of each, which keeps nothing; a source of its own is a [`SourceSpec`]. A verb runs in one
/// task, so its futures need not move between threads.
#[async_trait(?Send)]
pub trait Engine: Debug + Send + Sync {
    /// Returns the kind.
    fn kind(&self) -> EngineKind;

    /// Returns the schemes of its URLs, for advice.
    fn schemes(&self) -> &'static [&'static str];

    /// Reads the URL of a source; None if it is not one of this engine.
    fn read_url(&self, text: &str) -> Option<Result<Named>>;

    /// Reads a source out of the plan of a snapshot. Files of passwords that it names are left aside: they are in the
    /// configuration or nowhere.
    fn read_plan(&self, plan: &StoredSource, word: PlanWord) -> Option<Spec>;

    /// Says how a person gets everything out of an archive with stock tools: the end of its README.
    fn by_hand(&self) -> &'static str;

    /// Returns the codes of notes about what was there to be backed up and is not in the archive. What vanished while it was
    /// read, or what the configuration leaves out, is not missed.
    fn losses(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns what came or went between two runs, out of several sources that one stands for. `before` are the sources of the
    /// earlier run, and whether its snapshot holds each.
    fn changes(&self, _now: &[(&str, &dyn SourceSpec)], _before: &[(&StoredSource, bool)]) -> Vec<Change> {
        Vec::new()
    }

    /// Returns what two backups of the same content have in common, and others do not; None if an archive does not say it.
    fn content(&self, outcome: &SourceOutcome) -> Option<Vec<String>> {
        let archives = outcome.archives.iter();
        archives.map(|info| info.content_sha256.clone()).collect()
    }

    /// Decides where a source goes; nothing is connected yet.
    fn restorer(&self, request: RestoreRequest) -> Result<Box<dyn Restorer>>;

    /// Returns in which part of a recovery its sources come back; None if they do not. Whoever says one has to say
    /// [`Self::read_report`] too.
    fn recovery_phase(&self) -> Option<RecoveryPhase> {
        None
    }

    /// Returns words in the names of images of its servers: their containers start before others.
    fn server_images(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns the flags with which a recovery restores.
    fn recovery_flags(&self) -> EngineFlags {
        EngineFlags::default()
    }

    /// Reads what a finished step of a recovery wrote of a restore: this release, or an earlier one.
    fn read_report(&self, _report: Value) -> Result<Box<dyn RestoreReport>> {
        let kind = self.kind();
        Err(Error::unsupported(format!(
            "sources of kind {kind} cannot be recovered"
        )))
    }

    /// Returns the variables of a process in which its passwords may stand.
    fn secret_variables(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns a password that stands in the command of a container, as a variable.
    fn secret_in_command(&self, _words: &[&str]) -> Option<(&'static str, String)> {
        None
    }

    /// Returns the key of its plan in the document of a dry run, if it makes one.
    fn plan_key(&self) -> Option<&'static str> {
        Some(self.kind().word())
    }

    /// Returns whether files can be chosen from its sources by patterns.
    fn has_files(&self) -> bool {
        false
    }

    /// Proves the content of an archive: whatever a restore would refuse is refused here. Returns why it is not proven, if that
    /// is no damage: there is something in it that this version could not bring back.
    async fn prove_content(&self, stored: &Stored) -> Result<Option<String>> {
        stored.read_everything().await.map(|()| None)
    }

    /// Returns whether a restore is proven on a server that has to be named.
    fn needs_scratch_server(&self) -> bool {
        false
    }

    /// Restores an archive into a scratch place, where the engine itself, or a second reading, compares it. What is restored is
    /// removed again, whatever happened.
    async fn prove_restored(&self, _stored: &Stored, _server: Option<Spec>) -> Result<RestoreProof> {
        Ok(RestoreProof::not_reached(format!(
            "this version cannot restore sources of kind {} for a test; content was checked",
            self.kind()
        )))
    }

    /// Says what a snapshot holds of a source beside what all have, as lines for people.
    fn describe(&self, _source: &str, _outcome: &SourceOutcome) -> String {
        String::new()
    }

    /// Says what the plan of a source leaves out of what it names.
    fn left_out(&self, _plan: &StoredSource) -> Option<String> {
        None
    }
}
