//! The snapshot that a restore begins with: taken by itself where the log has none.

use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::base::error::{Error, Result};
use crate::engines::redis::log::position::Position;
use crate::operations::backup;
use crate::operations::log::redis::bases::{self, Base};
use crate::operations::log::redis::lineage;
use crate::operations::log::redis::link::Link;
use crate::operations::log::redis::receive::{Receiver, Work};
use crate::repository::{Manifest, Survey};

impl<'a> Receiver<'a> {
    /// Returns whether a snapshot is missing from which a restore could begin.
    pub(super) fn wants_base(&self) -> bool {
        let lacks = self
            .follower
            .as_ref()
            .is_some_and(|follower| follower.branch.base.is_none());
        lacks && matches!(self.link, Link::Up(_)) && self.bases.again_at().is_none_or(|again| again <= Instant::now())
    }

    pub(super) fn take_base(&self) -> Pin<Box<dyn Future<Output = Result<Manifest>> + Send + 'a>> {
        let (session, source, turn) = (self.session, self.source.clone(), self.options.snapshots.clone());
        Box::pin(async move {
            let _turn = match &turn {
                Some(turn) => session.or_cancelled(async { Ok(turn.acquire().await.ok()) }).await?,
                None => None,
            };
            backup::snapshot_of(session, source).await
        })
    }

    /// Begins to look, once, whether the snapshot that begins what is stored is still there.
    pub(super) fn look_for_base(&mut self) -> Work<'a, Result<Survey<Vec<Base>>>> {
        let has_one = self
            .follower
            .as_ref()
            .is_some_and(|follower| follower.branch.base.is_some());
        if !has_one || std::mem::replace(&mut self.has_looked, true) {
            return None;
        }
        Some(Box::pin(self.repository.survey(bases::of)))
    }

    /// Forgets a snapshot that is gone. Another one in this history is as good.
    pub(super) fn is_looked_for(&mut self, found: Result<Survey<Vec<Base>>>) {
        let found = match found {
            Ok(found) if found.damaged.is_empty() => found,
            Ok(_) => return,
            Err(error) => return tracing::debug!("{}", error.chain()),
        };
        let Some(branch) = self.follower.as_mut().map(|follower| &mut follower.branch) else {
            return;
        };
        let there = || found.snapshots.iter().flatten().map(|base| &base.position);
        let Some(base) = branch.base.clone().filter(|base| there().all(|there| there != base)) else {
            return;
        };
        let held = there().filter(|there| branch.holds(there));
        branch.base = held.max_by_key(|there| there.offset).cloned();
        if branch.base.is_none() {
            tracing::warn!(
                "the snapshot at {base}, which began the log of \"{}\", is gone: another one is taken",
                self.source.name
            );
        }
    }

    pub(super) fn is_taken(&mut self, taken: Result<Manifest>) {
        self.has_looked = true;
        self.bases.happened(Instant::now());
        let pause = self
            .bases
            .again_at()
            .map_or(Duration::ZERO, |again| again.duration_since(Instant::now()));
        let Some(follower) = &mut self.follower else { return };
        let position = taken.and_then(|manifest| {
            self.report.snapshots.push(manifest.id.to_string());
            base_of(&manifest, &self.source.name)
        });
        match position {
            Ok(position) if self.lost.is_none() && follower.branch.holds(&position) => {
                tracing::info!("a snapshot at {position} begins the log of \"{}\"", self.source.name);
                follower.branch.base = Some(position);
            }
            Ok(position) => {
                let branch = &follower.branch;
                tracing::warn!(
                    "the snapshot at {position} does not lie on the log, which is stored from {}:{} on; another one is taken in {} s",
                    branch.id,
                    branch.since,
                    pause.as_secs()
                );
            }
            Err(error) => {
                tracing::error!(
                    "no snapshot to begin the log of \"{}\": {}; the next try is in {} s",
                    self.source.name,
                    error.chain_and_hint(),
                    pause.as_secs()
                );
            }
        }
    }
}

/// Returns where a snapshot of the source lies in its history.
fn base_of(manifest: &Manifest, source: &str) -> Result<Position> {
    let none = || Error::unsupported("the snapshot has no replication ID and offset, because it was read key by key");
    let source = manifest
        .sources
        .iter()
        .find(|one| one.name == source)
        .ok_or_else(none)?;
    lineage::position_of(source.outcome.as_ref()).ok_or_else(none)
}
