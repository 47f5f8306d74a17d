//! What Docker volumes say of themselves.

use async_trait::async_trait;

use crate::archive::StoredSource;
use crate::base::error::{Context, Result};
use crate::engines::docker::restore::{contents, definitions};
use crate::engines::docker::restorer::VolumesRestorer;
use crate::engines::docker::source_url::parse;
use crate::engines::docker::{Contents, DockerSpec, KIND, StoredVolume};
use crate::engines::files::verify::{StoredTree, prove_content, prove_restored};
use crate::engines::proof::room;
use crate::engines::url::derived_name;
use crate::engines::{
    Engine, EngineKind, Named, PlanWord, RecoveryPhase, RestoreProof, RestoreRequest, Restorer, Spec, Stored, files,
};

/// The engine of Docker volumes.
#[derive(Debug, Clone, Copy)]
pub struct DockerEngine;

#[async_trait(?Send)]
impl Engine for DockerEngine {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["docker"]
    }

    fn read_url(&self, text: &str) -> Option<Result<Named>> {
        let rest = text.strip_prefix("docker:")?;
        let named = |spec: DockerSpec| Named {
            name: match spec.volumes.as_slice() {
                [one] => derived_name(one, KIND.word()),
                _ => KIND.word().to_owned(),
            },
            spec: Box::new(spec),
        };
        Some(parse(text, rest).map(named))
    }

    fn read_plan(&self, plan: &StoredSource, _: PlanWord) -> Option<Spec> {
        let spec: DockerSpec = plan.parse()?;
        Some(Box::new(spec))
    }

    fn by_hand(&self) -> &'static str {
        "Each volume lies under volumes/NAME: put its files back into a volume of that name. definitions/ holds what \
         the engine said of containers, networks and volumes, protected/ their environments; an image: `for chunk in \
         images/NAME/*; do cat \"$chunk\"; done | docker load`."
    }

    fn restorer(&self, request: RestoreRequest) -> Result<Box<dyn Restorer>> {
        Ok(Box::new(VolumesRestorer::new(request)?))
    }

    fn plan_key(&self) -> Option<&'static str> {
        None
    }

    fn has_files(&self) -> bool {
        true
    }

    fn recovery_phase(&self) -> Option<RecoveryPhase> {
        Some(RecoveryPhase::Containers)
    }

    async fn prove_content(&self, stored: &Stored) -> Result<Option<String>> {
        let contents = contents(&stored.reader).await.with_context(|| stored.act())?;
        prove_content(stored, trees(&contents)).await?;
        let read = definitions(&stored.reader).await;
        read.with_context(|| stored.act()).map(|_| None)
    }

    async fn prove_restored(&self, stored: &Stored, _: Option<Spec>) -> Result<RestoreProof> {
        let contents = contents(&stored.reader).await?;
        let mut proof = room(prove_restored(stored, trees(&contents)).await)?;
        if proof.why_not.is_none() && !contents.images.is_empty() {
            let line = "images were read and not loaded into an engine";
            proof.skipped.push(line.to_owned());
        }
        Ok(proof)
    }

    fn losses(&self) -> &'static [&'static str] {
        files::engine::LOSSES
    }
}

/// The volumes of an archive.
fn trees(contents: &Contents) -> Vec<StoredTree> {
    let tree = |volume: &StoredVolume| StoredTree {
        name: format!("volume {}", volume.name),
        stream: volume.stream(),
        prefix: format!("{}/", volume.stream()).into_bytes(),
    };
    contents.volumes.iter().map(tree).collect()
}
