//! What Redis and Valkey say of themselves.

use async_trait::async_trait;
use serde_json::Value;

use crate::archive::{SourceOutcome, StoredSource};
use crate::base::error::{Context, Result};
use crate::engines::engine::report;
use crate::engines::redis::restorer::restorer;
use crate::engines::redis::secrets::{VARIABLES, of_command};
use crate::engines::redis::source_url::{SCHEMES, foreign};
use crate::engines::redis::spec::IMAGES;
use crate::engines::redis::verify::proof::{prove_content, prove_restored};
use crate::engines::redis::{KIND, KeysRestored, RedisSpec};
use crate::engines::{
    Engine, EngineKind, Named, PlanWord, RecoveryPhase, RestoreProof, RestoreReport, RestoreRequest, Restorer, Spec,
    Stored,
};

/// The engine of Redis and Valkey.
#[derive(Debug, Clone, Copy)]
pub struct RedisEngine;

#[async_trait(?Send)]
impl Engine for RedisEngine {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["redis", "rediss", "valkey", "valkeys"]
    }

    fn read_url(&self, text: &str) -> Option<Result<Named>> {
        let (scheme, _) = text.split_once(':')?;
        SCHEMES.contains(&scheme).then(|| {
            Ok(Named {
                name: KIND.word().to_owned(),
                spec: Box::new(RedisSpec::of_url(text)?),
            })
        })
    }

    fn read_plan(&self, plan: &StoredSource, word: PlanWord) -> Option<Spec> {
        let url = plan.text("url").filter(|url| !url.is_empty())?;
        let is_own = word == PlanWord::Own;
        let url = if is_own { url.to_owned() } else { foreign(url)? };
        let spec = RedisSpec::of_url(&url).ok()?;
        Some(Box::new(RedisSpec {
            foreign: !is_own,
            ..spec
        }))
    }

    fn by_hand(&self) -> &'static str {
        "Join the chunks of the RDB in the order of their names: `for chunk in dump.rdb/*; do cat \"$chunk\"; done > joined.rdb` \
         (of a cluster shard-0000/dump.rdb and so on, each for a server of its own). Put it as dump.rdb into the data directory \
         of a stopped server whose AOF is off, and start the server."
    }

    fn restorer(&self, request: RestoreRequest) -> Result<Box<dyn Restorer>> {
        restorer(request)
    }

    fn recovery_phase(&self) -> Option<RecoveryPhase> {
        Some(RecoveryPhase::Servers)
    }

    fn read_report(&self, value: Value) -> Result<Box<dyn RestoreReport>> {
        report::<KeysRestored>(value)
    }

    fn server_images(&self) -> &'static [&'static str] {
        IMAGES
    }

    fn secret_variables(&self) -> &'static [&'static str] {
        VARIABLES
    }

    fn secret_in_command(&self, words: &[&str]) -> Option<(&'static str, String)> {
        of_command(words)
    }

    async fn prove_content(&self, stored: &Stored) -> Result<Option<String>> {
        stored.read_everything().await?;
        prove_content(stored).await.with_context(|| stored.act())
    }

    fn needs_scratch_server(&self) -> bool {
        true
    }

    async fn prove_restored(&self, stored: &Stored, server: Option<Spec>) -> Result<RestoreProof> {
        match server {
            None => Ok(RestoreProof::not_reached(
                "pass an empty scratch server with --into redis://…; content was checked",
            )),
            Some(server) => prove_restored(stored, server.of_engine(KIND)?).await,
        }
    }

    /// What the server did not show.
    fn losses(&self) -> &'static [&'static str] {
        &[
            "not-shown",
            "cut-short",
            "functions-not-shown",
            "databases-not-shown",
            "cluster-not-known",
            "role-not-known",
            "module-data-not-stored",
        ]
    }

    /// Each RDB has times of its own, and keys in an order of its own.
    fn content(&self, outcome: &SourceOutcome) -> Option<Vec<String>> {
        Some(vec![outcome.position.get("content")?.clone()])
    }

    fn describe(&self, source: &str, outcome: &SourceOutcome) -> String {
        let versions = outcome
            .versions
            .iter()
            .map(|(what, version)| format!("{what} {version}"));
        let types = outcome.position.iter().filter_map(|(what, keys)| {
            let kind = what.strip_prefix("keys_").filter(|kind| *kind != "by_database")?;
            Some(format!("{keys} {}", kind.replace('_', " ")))
        });
        let consistency = match (
            outcome.position.get("method").map(String::as_str),
            outcome.position.get("consistency"),
        ) {
            (Some("scan"), Some(consistency)) => {
                let at = |what| outcome.position.get(what).map_or("?", String::as_str);
                format!(
                    "  read by SCAN and DUMP from {} to {}: {consistency}\n",
                    at("read_from"),
                    at("read_to")
                )
            }
            _ => String::new(),
        };
        format!(
            "\n{source}: {}; keys: {}\n{consistency}",
            versions.collect::<Vec<_>>().join(", "),
            types.collect::<Vec<_>>().join(", ")
        )
    }
}
