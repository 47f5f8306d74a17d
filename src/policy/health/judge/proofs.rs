//! What verifications say of the snapshots of a job.

use std::collections::BTreeSet;

use super::Judge;
use crate::policy::health::{Proof, Reached, SnapshotFact};
use crate::repository::{SnapshotId, id};

impl<'a> Judge<'a> {
    /// Evidence about the snapshots of a job, newest first. That of snapshots which are gone counts too, where the job's name
    /// in their ids is that of one host only.
    pub(super) fn proofs_of(&self, snapshots: &[&'a SnapshotFact], job: &str) -> impl Iterator<Item = &'a Proof> {
        let known: BTreeSet<&SnapshotId> = snapshots.iter().map(|one| &one.id).collect();
        let all: BTreeSet<&SnapshotId> = self.facts.snapshots.iter().map(|one| &one.id).collect();
        let word = id::sanitised_job(job);
        let alike = |one: &&SnapshotFact| id::sanitised_job(&one.job) == word;
        let hosts: BTreeSet<&str> = self
            .snapshots
            .iter()
            .copied()
            .filter(alike)
            .map(|one| one.host.as_str())
            .collect();
        let alone = hosts.len() <= 1;
        self.proofs.iter().copied().filter(move |proof| {
            known.contains(&proof.snapshot) || (alone && !all.contains(&proof.snapshot) && proof.snapshot.job() == word)
        })
    }

    /// Whether a snapshot's source is known to be damaged: no proof that went as deep says otherwise since.
    pub(super) fn is_damaged(&self, id: &SnapshotId, source: &str) -> bool {
        self.damage(id, source).is_some()
    }

    fn damage(&self, id: &SnapshotId, source: &str) -> Option<&'a Proof> {
        let mut deepest = None;
        for proof in self.proofs_by_snapshot.get(id)? {
            if proof.is_damaged() && proof.damages(source) {
                return (deepest < Some(proof.asked)).then_some(*proof);
            }
            deepest = deepest.max(proof.level_of(source));
        }
        None
    }

    fn is_proven(&self, id: &SnapshotId, source: &str) -> bool {
        let proofs = self.proofs_by_snapshot.get(id);
        proofs.is_some_and(|proofs| proofs.iter().any(|proof| proof.level_of(source).is_some()))
    }

    /// The first line of damage to a source that nothing makes up for: a snapshot that was begun after the damage was found,
    /// and was proven.
    pub(super) fn damage_of(&self, source: &str, snapshots: &[&'a SnapshotFact]) -> Option<String> {
        let proven = snapshots
            .iter()
            .rev()
            .filter(|one| one.has(source) && self.is_proven(&one.id, source));
        let proven = proven.map(|one| one.started).max();
        for one in snapshots.iter().rev() {
            let damage = self.damage(&one.id, source);
            if let Some(proof) = damage.filter(|proof| proven.is_none_or(|proven| proven <= proof.time)) {
                let line = proof.damage.first().cloned().unwrap_or_default();
                return Some(format!("snapshot {}: {line}", one.id));
            }
        }
        None
    }

    /// The last drill of a source, if it reached less than was asked.
    pub(super) fn fell_short(&self, source: &str, snapshots: &[&'a SnapshotFact]) -> Option<(&'a Reached, &'a Proof)> {
        let ids: BTreeSet<&SnapshotId> = snapshots.iter().map(|one| &one.id).collect();
        let of_drill = |proof: &&&Proof| proof.drill.is_some() && ids.contains(&proof.snapshot);
        let mut drills = self.proofs.iter().filter(of_drill);
        let (reached, proof) = drills.find_map(|proof| {
            let reached = proof.reached.iter().find(|one| one.source == source)?;
            Some((reached, *proof))
        })?;
        (reached.level < Some(proof.asked)).then_some((reached, proof))
    }
}
