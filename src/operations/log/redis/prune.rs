//! What `prune` does with command streams: it keeps each from the oldest snapshot on that is kept and lies in it.
//!
//! A restore begins with a snapshot and reads what follows, also in histories that continue its own. So of a history that no older one
//! leads into, what ends before its first snapshot is of no use. A history that no snapshot leads into at all is of none either, but one
//! may be on its way: it goes, piece by piece, once it was stored before the oldest snapshot of the source was taken. Of a source without a
//! snapshot here nothing is removed.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::base::error::{Context, Result};
use crate::base::units::format_bytes;
use crate::engines::redis::log::position::{Position, ReplicationId};
use crate::operations::Session;
use crate::operations::log::prune::{Refused, remove};
use crate::operations::log::redis::bases::Base;
use crate::operations::log::redis::extent::Extent;
use crate::operations::log::redis::stored::{Listed, Streams};
use crate::repository::{CLOCK_TOLERANCE, Repository, is_ahead};

/// What was removed of one history, or would be. Its fields are keys of the JSON document.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PrunedStream {
    /// Name of the source.
    pub source: String,
    /// Replication ID of the history.
    pub id: String,
    /// What lies before this offset is not needed: the oldest snapshot lies there. None where no snapshot leads into the history.
    pub before: Option<u64>,
    /// Pieces.
    pub pieces: u64,
    /// Their size.
    pub bytes: u64,
    /// Pieces that the store did not let go, and why the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Refused,
}

impl PrunedStream {
    /// Says it in a line.
    pub(crate) fn text(&self, dry_run: bool) -> String {
        let did = if dry_run { "would remove" } else { "removed" };
        let s = if self.pieces == 1 { "" } else { "s" };
        let which = match self.before {
            Some(before) => format!("before {before}"),
            None => "into which no snapshot leads".to_owned(),
        };
        let mut text = format!(
            "{did} {} piece{s} of the log of {}, replication ID {}, {which}: {}\n",
            self.pieces,
            self.source,
            self.id,
            format_bytes(self.bytes)
        );
        if let Some((count, why)) = &self.refused {
            text.push_str(&format!("  failed: {count} stay: {why}\n"));
        }
        text
    }
}

/// What stays of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stays {
    All,
    /// What reaches behind an offset.
    From(u64),
    /// What was stored lately.
    Young,
}

/// Removes what the snapshots that are kept do not need, unless it is only to be shown.
pub(crate) async fn prune(
    session: &Session,
    repository: &Repository,
    kept: &[Base],
    dry_run: bool,
) -> Result<Vec<PrunedStream>> {
    let store = repository.store();
    let all = session.or_cancelled(Streams::every(store)).await?;
    let mut pruned = Vec::new();
    if all.is_empty() {
        return Ok(pruned);
    }
    let now = session.or_cancelled(store.now()).await;
    let now = now.context("ask the store for the time")?;
    for (source, histories) in all {
        let streams = Streams::of(store, &source);
        let mut follows = BTreeMap::new();
        for (id, listed) in &histories {
            let pieces = starts(listed);
            let extent = Extent::new(&streams, id, &pieces);
            follows.insert(id.clone(), session.or_cancelled(extent.follows()).await?);
        }
        let own = kept.iter().filter(|base| may_lie_in(&follows, &base.position));
        let own: Vec<&Base> = own.collect();
        let Some(oldest) = own.iter().map(|base| base.at).min() else {
            continue;
        };
        for (id, listed) in &histories {
            let one = PrunedStream {
                source: source.clone(),
                id: id.to_string(),
                before: None,
                pieces: 0,
                bytes: 0,
                refused: None,
            };
            let mut pruning = Pruning {
                session,
                streams: &streams,
                id,
                dry_run,
                pruned: one,
            };
            match stays(&follows, &own, id) {
                Stays::All => {}
                Stays::From(offset) => pruning.before(listed, offset).await?,
                // A clock that is ahead would make everything old.
                Stays::Young if is_ahead(oldest, now) => {}
                Stays::Young => pruning.older(oldest).await?,
            }
            if pruning.pruned.pieces > 0 || pruning.pruned.refused.is_some() {
                pruned.push(pruning.pruned);
            }
        }
    }
    Ok(pruned)
}

fn starts(listed: &[Listed]) -> Vec<u64> {
    listed.iter().map(|piece| piece.from).collect()
}

/// Where each history left the one that it continues.
type Follows = BTreeMap<ReplicationId, Option<Position>>;

fn may_lie_in(follows: &Follows, position: &Position) -> bool {
    let mut left = follows.values().flatten();
    follows.contains_key(&position.id) || left.any(|left| left.id == position.id)
}

/// Decides what stays of a history.
fn stays(follows: &Follows, bases: &[&Base], id: &ReplicationId) -> Stays {
    let before = |place: &Position| {
        let mut bases = bases.iter();
        bases.any(|base| base.position.id == place.id && base.position.offset <= place.offset)
    };
    // A circle is no history.
    let mut at = id;
    for _ in 0..=follows.len() {
        let Some(left) = follows.get(at).and_then(Option::as_ref) else {
            break;
        };
        if before(left) {
            return Stays::All;
        }
        at = &left.id;
    }
    let own = bases.iter().filter(|base| base.position.id == *id);
    match own.map(|base| base.position.offset).min() {
        Some(offset) => Stays::From(offset),
        None => Stays::Young,
    }
}

/// Removes pieces of one history.
struct Pruning<'a> {
    session: &'a Session,
    streams: &'a Streams,
    id: &'a ReplicationId,
    dry_run: bool,
    pruned: PrunedStream,
}

impl Pruning<'_> {
    /// Removes what ends before an offset, the oldest first: what a crash leaves is still without a hole.
    async fn before(&mut self, listed: &[Listed], offset: u64) -> Result<()> {
        self.pruned.before = Some(offset);
        let pieces = starts(listed);
        let extent = Extent::new(self.streams, self.id, &pieces);
        let first = self.session.or_cancelled(extent.first_behind(offset)).await?;
        for piece in listed.iter().take_while(|piece| piece.from < first) {
            self.remove(piece.from, piece.stored_bytes).await?;
        }
        Ok(())
    }

    /// Removes what was stored before a moment; clocks may differ.
    async fn older(&mut self, moment: Timestamp) -> Result<()> {
        let Ok(limit) = moment.checked_sub(CLOCK_TOLERANCE) else {
            return Ok(());
        };
        let mut next = None;
        loop {
            let page = self.session.or_cancelled(self.streams.page(self.id, next)).await?;
            for piece in page.pieces.iter().filter(|(_, stored)| *stored < limit) {
                self.remove(piece.0.from, piece.0.stored_bytes).await?;
            }
            next = page.next;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    async fn remove(&mut self, from: u64, stored_bytes: u64) -> Result<()> {
        self.session.check_cancelled()?;
        let key = self.streams.key(self.id, from)?;
        if self.dry_run || remove(&self.streams.store, &key, &mut self.pruned.refused).await? {
            self.pruned.pieces += 1;
            self.pruned.bytes = self.pruned.bytes.saturating_add(stored_bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use Stays::{All, From, Young};

    use super::*;
    use crate::repository::SnapshotId;

    fn at(digit: char, offset: u64) -> Position {
        Position {
            id: digit.to_string().repeat(40).parse().unwrap(),
            offset,
        }
    }

    #[test]
    fn what_no_kept_snapshot_leads_into_goes() {
        let follows: Follows = [
            ('a', None),
            ('b', Some(at('a', 100))),
            ('c', Some(at('b', 200))),
            ('d', None),
            ('f', Some(at('f', 1))),
        ]
        .into_iter()
        .map(|(digit, left)| (at(digit, 0).id, left))
        .collect();
        let decided = |bases: &[Position]| {
            let base = |position: &Position| Base {
                id: SnapshotId::new(Timestamp::UNIX_EPOCH, "job", 1),
                source: "redis".to_owned(),
                position: position.clone(),
                at: Timestamp::UNIX_EPOCH,
            };
            let bases: Vec<Base> = bases.iter().map(base).collect();
            let bases: Vec<&Base> = bases.iter().collect();
            ['a', 'b', 'c', 'd', 'f'].map(|digit| stays(&follows, &bases, &at(digit, 0).id))
        };
        assert_eq!(
            decided(&[at('a', 40), at('b', 150)]),
            [From(40), All, All, Young, Young]
        );
        assert_eq!(
            decided(&[at('b', 150), at('b', 170)]),
            [Young, From(150), All, Young, Young]
        );
        // Of a dead branch: what continues the history before it is not led into.
        assert_eq!(
            decided(&[at('a', 120), at('c', 300)]),
            [From(120), Young, From(300), Young, Young]
        );
        assert_eq!(decided(&[at('f', 1)]), [Young, Young, Young, Young, All]);
    }
}
