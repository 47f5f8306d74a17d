//! What base backups of PostgreSQL say of themselves.

use async_trait::async_trait;
use serde_json::Value;

use crate::archive::{SourceOutcome, StoredSource};
use crate::base::error::{Context, Result};
use crate::engines::engine::report;
use crate::engines::postgres::physical::restore::report::BaseRestored;
use crate::engines::postgres::physical::restorer::BaseRestorer;
use crate::engines::postgres::physical::spec::SCHEME;
use crate::engines::postgres::physical::{KIND, PhysicalSpec, verify};
use crate::engines::postgres::source_url::foreign;
use crate::engines::proof::room;
use crate::engines::url::derived_name;
use crate::engines::{
    Engine, EngineKind, Named, PlanWord, RecoveryPhase, RestoreProof, RestoreReport, RestoreRequest, Restorer, Spec,
    Stored,
};

/// The engine of base backups.
#[derive(Debug, Clone, Copy)]
pub struct PhysicalEngine;

#[async_trait(?Send)]
impl Engine for PhysicalEngine {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn schemes(&self) -> &'static [&'static str] {
        &[SCHEME]
    }

    fn read_url(&self, text: &str) -> Option<Result<Named>> {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme)?;
        scheme.eq_ignore_ascii_case(SCHEME).then(|| {
            let spec = PhysicalSpec::of_url(text)?;
            Ok(Named {
                name: derived_name(&spec.name(), KIND.word()),
                spec: Box::new(spec),
            })
        })
    }

    fn read_plan(&self, plan: &StoredSource, word: PlanWord) -> Option<Spec> {
        let url = plan.text("url").filter(|url| !url.is_empty())?;
        let is_own = word == PlanWord::Own;
        let url = if is_own {
            url.to_owned()
        } else {
            let (url, has_place) = foreign(url)?;
            (has_place || word == PlanWord::Name).then_some(url)?
        };
        let spec = PhysicalSpec::of_url(&url).ok()?;
        Some(Box::new(PhysicalSpec {
            foreign: !is_own,
            ..spec
        }))
    }

    fn by_hand(&self) -> &'static str {
        "This is a data directory of PostgreSQL; the file PG_VERSION names the major version that it needs. Unpack all archives into an \
         empty directory of mode 0700 that belongs to the server's user. For each line `OID PATH` of tablespace_map, if there is one: \
         `mv pg_tblspc/OID PATH && ln -s PATH pg_tblspc/OID`. Remove standby.signal and recovery.signal. Then `pg_ctl -D DIRECTORY start`; \
         backup_label and the WAL in pg_wal make it consistent."
    }

    fn restorer(&self, request: RestoreRequest) -> Result<Box<dyn Restorer>> {
        Ok(Box::new(BaseRestorer::new(request)?))
    }

    fn recovery_phase(&self) -> Option<RecoveryPhase> {
        Some(RecoveryPhase::DataDirectories)
    }

    fn read_report(&self, value: Value) -> Result<Box<dyn RestoreReport>> {
        report::<BaseRestored>(value)
    }

    fn plan_key(&self) -> Option<&'static str> {
        Some("base")
    }

    async fn prove_content(&self, stored: &Stored) -> Result<Option<String>> {
        let proven = verify::prove_content(stored).await;
        proven.with_context(|| stored.act()).map(|()| None)
    }

    async fn prove_restored(&self, stored: &Stored, _: Option<Spec>) -> Result<RestoreProof> {
        room(verify::prove_restored(stored).await)
    }

    fn describe(&self, source: &str, outcome: &SourceOutcome) -> String {
        let said = |name: &str| outcome.position.get(name).map_or("?", String::as_str);
        let version = outcome.versions.get("postgres").map_or("?", String::as_str);
        format!(
            "\n{source} is a base backup of PostgreSQL {version}: system {}, timeline {}, WAL from {} to {}\n",
            said("system_identifier"),
            said("timeline"),
            said("start_lsn"),
            said("end_lsn")
        )
    }
}
