//! What PostgreSQL says of itself.

use async_trait::async_trait;
use serde_json::Value;

use crate::archive::StoredSource;
use crate::base::error::{Context, Result};
use crate::engines::engine::report;
use crate::engines::postgres::flags::RestoreDatabase;
use crate::engines::postgres::restorer::DatabaseRestorer;
use crate::engines::postgres::secrets::VARIABLES;
use crate::engines::postgres::session::conninfo::is_keywords;
use crate::engines::postgres::source_url::{foreign, postgres_name};
use crate::engines::postgres::spec::IMAGES;
use crate::engines::postgres::verify::scratch::prove_restored;
use crate::engines::postgres::{DatabaseRestored, KIND, PostgresSpec, examine, judge};
use crate::engines::url::derived_name;
use crate::engines::{
    Engine, EngineFlags, EngineKind, Named, PlanWord, RecoveryPhase, RestoreProof, RestoreReport, RestoreRequest,
    Restorer, Spec, Stored,
};

/// The engine of PostgreSQL.
#[derive(Debug, Clone, Copy)]
pub struct PostgresEngine;

/// Schemes of its URLs, as libpq has them.
const SCHEMES: &[&str] = &["postgres", "postgresql"];

#[async_trait(?Send)]
impl Engine for PostgresEngine {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn schemes(&self) -> &'static [&'static str] {
        SCHEMES
    }

    fn read_url(&self, text: &str) -> Option<Result<Named>> {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        let is_url = scheme.is_some_and(|scheme| SCHEMES.iter().any(|one| scheme.eq_ignore_ascii_case(one)));
        (is_keywords(text) || is_url).then(|| {
            let spec = PostgresSpec::of_url(text)?;
            Ok(Named {
                name: derived_name(&postgres_name(&spec.url), KIND.word()),
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
        let spec = PostgresSpec::of_url(&url).ok()?;
        Some(Box::new(PostgresSpec {
            foreign: !is_own,
            ..spec
        }))
    }

    fn by_hand(&self) -> &'static str {
        "Create an empty database. In the directory where this was unpacked, first join the files that psql needs as \
         one, if there are files restore/join-*.sh: `for script in restore/join-*.sh; do sh \"$script\"; done`. Then: \
         `psql -X -d DATABASE -f restore.sql`"
    }

    fn restorer(&self, request: RestoreRequest) -> Result<Box<dyn Restorer>> {
        Ok(Box::new(DatabaseRestorer::new(request)?))
    }

    fn plan_key(&self) -> Option<&'static str> {
        Some("plan")
    }

    fn recovery_phase(&self) -> Option<RecoveryPhase> {
        Some(RecoveryPhase::Servers)
    }

    /// Every row is read again, and what cannot be loaded is named.
    fn recovery_flags(&self) -> EngineFlags {
        EngineFlags::default().with(RestoreDatabase {
            verify_rows: true,
            keep_going: true,
            create_roles: true,
            ..RestoreDatabase::default()
        })
    }

    fn read_report(&self, value: Value) -> Result<Box<dyn RestoreReport>> {
        report::<DatabaseRestored>(value)
    }

    fn server_images(&self) -> &'static [&'static str] {
        IMAGES
    }

    fn secret_variables(&self) -> &'static [&'static str] {
        VARIABLES
    }

    async fn prove_content(&self, stored: &Stored) -> Result<Option<String>> {
        stored.read_everything().await?;
        judge(&stored.reader).await.with_context(|| stored.act())?;
        // A restore refuses statements that this program does not write.
        let examined = stored.tools.or_cancelled(examine(&stored.reader)).await;
        examined.with_context(|| stored.act()).map(|()| None)
    }

    fn needs_scratch_server(&self) -> bool {
        true
    }

    async fn prove_restored(&self, stored: &Stored, server: Option<Spec>) -> Result<RestoreProof> {
        match server {
            None => Ok(RestoreProof::not_reached(
                "pass a server for its scratch database with --into postgres://…; content was checked",
            )),
            Some(server) => prove_restored(stored, server.of_engine(KIND)?).await,
        }
    }

    fn losses(&self) -> &'static [&'static str] {
        &[
            "large-objects-skipped",
            // What cannot be carried, or not seen.
            "not-covered",
            "not-restorable",
            "not-stored",
            "unknown-option",
            "hidden-options",
            "hidden-passwords",
            // What changed while it was read.
            "changed-types",
            "changed-definitions",
            // Tables that were not named, and need something that the user leaves out.
            "excluded-rows",
            // Damaged pages that the server reads as empty or sound, and the role may not change that.
            "unreadable",
        ]
    }

    fn left_out(&self, plan: &StoredSource) -> Option<String> {
        let words = [
            ("exclude_tables", "tables"),
            ("exclude_schemas", "schemas"),
            ("exclude_table_data", "rows of"),
            ("exclude_extensions", "extensions"),
        ];
        let mut parts: Vec<String> = words
            .iter()
            .filter_map(|(key, word)| {
                let patterns = plan.texts(key);
                (!patterns.is_empty()).then(|| format!("{word} {}", patterns.join(", ")))
            })
            .collect();
        if plan.is_on("exclude_large_objects") {
            parts.push("large objects".to_owned());
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
