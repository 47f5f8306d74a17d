//! What file trees say of themselves.

use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::Value;

use crate::archive::StoredSource;
use crate::base::error::Result;
use crate::engines::engine::report;
use crate::engines::files::restore::FilesRestoreReport;
use crate::engines::files::restorer::FilesRestorer;
use crate::engines::files::verify::{StoredTree, prove_content, prove_restored};
use crate::engines::files::{FilesSpec, KIND, STREAM};
use crate::engines::proof::room;
use crate::engines::url::{derived_name, local_path};
use crate::engines::{
    Engine, EngineKind, Named, PlanWord, RecoveryPhase, RestoreProof, RestoreReport, RestoreRequest, Restorer, Spec,
    Stored,
};

/// The engine of file trees.
#[derive(Debug, Clone, Copy)]
pub struct FilesEngine;

/// Codes of notes about what of a tree is not in the archive.
pub(crate) const LOSSES: &[&str] = &["unreadable", "xattr-lost"];

#[async_trait(?Send)]
impl Engine for FilesEngine {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["files"]
    }

    fn read_url(&self, text: &str) -> Option<Result<Named>> {
        let rest = text.strip_prefix("files:")?;
        let named = |root: PathBuf| Named {
            name: derived_name(&root.file_name().unwrap_or_default().to_string_lossy(), KIND.word()),
            spec: Box::new(FilesSpec {
                root,
                ..FilesSpec::default()
            }),
        };
        Some(local_path(text, rest).map(named))
    }

    fn read_plan(&self, plan: &StoredSource, _: PlanWord) -> Option<Spec> {
        let root = plan.text("root").map(PathBuf::from).filter(|root| root.is_absolute())?;
        Some(Box::new(FilesSpec {
            root,
            include: plan.texts("include"),
            single_file: plan.is_on("single_file"),
            ..FilesSpec::default()
        }))
    }

    fn by_hand(&self) -> &'static str {
        "The files lie in this archive with their modes, owners and times."
    }

    fn restorer(&self, request: RestoreRequest) -> Result<Box<dyn Restorer>> {
        Ok(Box::new(FilesRestorer::new(request)?))
    }

    fn has_files(&self) -> bool {
        true
    }

    fn recovery_phase(&self) -> Option<RecoveryPhase> {
        Some(RecoveryPhase::Trees)
    }

    fn read_report(&self, value: Value) -> Result<Box<dyn RestoreReport>> {
        report::<FilesRestoreReport>(value)
    }

    async fn prove_content(&self, stored: &Stored) -> Result<Option<String>> {
        prove_content(stored, vec![tree(stored)]).await.map(|()| None)
    }

    async fn prove_restored(&self, stored: &Stored, _: Option<Spec>) -> Result<RestoreProof> {
        room(prove_restored(stored, vec![tree(stored)]).await)
    }

    fn losses(&self) -> &'static [&'static str] {
        LOSSES
    }
}

/// The only tree of an archive.
fn tree(stored: &Stored) -> StoredTree {
    StoredTree {
        name: stored.source.clone(),
        stream: STREAM.to_owned(),
        prefix: Vec::new(),
    }
}
