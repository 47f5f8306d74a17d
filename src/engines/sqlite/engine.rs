//! What SQLite says of itself.

use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::Value;

use crate::archive::StoredSource;
use crate::base::error::{Context, Result};
use crate::engines::engine::report;
use crate::engines::proof::room;
use crate::engines::sqlite::discover::fixed_part;
use crate::engines::sqlite::members::changes;
use crate::engines::sqlite::restore::{SqliteRestoreReport, judge};
use crate::engines::sqlite::restorer::SqliteRestorer;
use crate::engines::sqlite::verify::prove_restored;
use crate::engines::sqlite::{KIND, SqliteSpec};
use crate::engines::url::{derived_name, local_path};
use crate::engines::{
    Change, Engine, EngineKind, Named, PlanWord, RecoveryPhase, RestoreProof, RestoreReport, RestoreRequest, Restorer,
    SourceSpec, Spec, Stored,
};

/// The engine of SQLite.
#[derive(Debug, Clone, Copy)]
pub struct SqliteEngine;

#[async_trait(?Send)]
impl Engine for SqliteEngine {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["sqlite"]
    }

    fn read_url(&self, text: &str) -> Option<Result<Named>> {
        let rest = text.strip_prefix("sqlite:")?;
        let named = |path: PathBuf| {
            // Of a pattern, the directory that it is about.
            let about = fixed_part(&path);
            Named {
                name: derived_name(&about.file_stem().unwrap_or_default().to_string_lossy(), KIND.word()),
                spec: Box::new(SqliteSpec::of(path)),
            }
        };
        Some(local_path(text, rest).map(named))
    }

    fn read_plan(&self, plan: &StoredSource, _: PlanWord) -> Option<Spec> {
        let word = |name: &str| plan.text(name).filter(|text| !text.is_empty());
        let path = word("path").map(PathBuf::from).filter(|path| path.is_absolute())?;
        Some(Box::new(SqliteSpec {
            group: word("group").map(str::to_owned),
            ..SqliteSpec::of(path)
        }))
    }

    fn by_hand(&self) -> &'static str {
        "The database file lies in this archive; sqlite3 opens it."
    }

    fn restorer(&self, request: RestoreRequest) -> Result<Box<dyn Restorer>> {
        Ok(Box::new(SqliteRestorer::new(request)?))
    }

    fn recovery_phase(&self) -> Option<RecoveryPhase> {
        Some(RecoveryPhase::Files)
    }

    fn read_report(&self, value: Value) -> Result<Box<dyn RestoreReport>> {
        report::<SqliteRestoreReport>(value)
    }

    async fn prove_content(&self, stored: &Stored) -> Result<Option<String>> {
        stored.read_everything().await?;
        judge(&stored.reader).await.with_context(|| stored.act()).map(|()| None)
    }

    async fn prove_restored(&self, stored: &Stored, _: Option<Spec>) -> Result<RestoreProof> {
        room(prove_restored(stored).await)
    }

    fn changes(&self, now: &[(&str, &dyn SourceSpec)], before: &[(&StoredSource, bool)]) -> Vec<Change> {
        changes(now, before)
    }
}
