//! What `prune` does with command streams: it keeps each from a snapshot on, the last one before the window in which any moment can be restored,
//! or the oldest that is kept. In what follows, older ones do not count.
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
use crate::operations::log::prune::{FailedLog, Pruned, Refused, remove, window_begin};
use crate::operations::log::redis::bases::Base;
use crate::operations::log::redis::extent::Extent;
use crate::operations::log::redis::stored::{Aside, Histories, Listed, Sources, Streams};
use crate::operations::log::redis::trust;
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

/// Removes what the snapshots that are kept do not need for any moment of the window, unless it is only to be shown. What fails with one
/// source keeps the others from nothing.
pub(crate) async fn prune(
    session: &Session,
    repository: &Repository,
    kept: &[Base],
    dry_run: bool,
    pruned: &mut Pruned,
) -> Result<()> {
    let store = repository.store();
    let mut sources = Sources::of(store);
    let mut now = None;
    while let Some((source, histories)) = session.or_cancelled(sources.next()).await? {
        let now = if let Some(now) = now {
            now
        } else {
            let by_store = session.or_cancelled(store.now()).await;
            *now.insert(by_store.context("ask the store for the time")?)
        };
        let streams = Streams::of(store, &source);
        let done = async {
            let of_source = OfSource {
                session,
                streams: &streams,
                histories: histories?,
                dry_run,
            };
            of_source.prune(kept, now, &mut pruned.streams).await
        };
        if let Err(error) = done.await {
            pruned.failures.push(FailedLog::of(&source, error)?);
        }
    }
    Ok(())
}

/// The streams of one source.
struct OfSource<'a> {
    session: &'a Session,
    streams: &'a Streams,
    histories: Histories,
    dry_run: bool,
}

impl OfSource<'_> {
    async fn prune(&self, kept: &[Base], now: Timestamp, pruned: &mut Vec<PrunedStream>) -> Result<()> {
        let (mut follows, mut last) = (Follows::new(), BTreeMap::new());
        let pieces: BTreeMap<&ReplicationId, Vec<u64>> =
            self.histories.iter().map(|(id, listed)| (id, starts(listed))).collect();
        for (id, pieces) in &pieces {
            let extent = Extent::new(self.streams, id, pieces);
            follows.insert((*id).clone(), self.session.or_cancelled(extent.follows()).await?);
            let newest = self.session.or_cancelled(extent.furthest(usize::MAX)).await?;
            let mark = newest.and_then(|piece| piece.marks.last().copied());
            last.insert((*id).clone(), mark.map(|mark| mark.at));
        }
        let own = kept.iter().filter(|base| may_lie_in(&follows, &base.position));
        let mut candidates = Vec::new();
        for base in own {
            let pieces = pieces.get(&base.position.id).map(Vec::as_slice).unwrap_or_default();
            let extent = Extent::new(self.streams, &base.position.id, pieces);
            let late = self.session.or_cancelled(trust::late(&extent, base)).await?;
            candidates.push((base, late.is_none()));
        }
        let own = needed(&follows, &last, &candidates, now);
        let Some(oldest) = own.iter().map(|base| base.at).min() else {
            return Ok(());
        };
        for (id, listed) in &self.histories {
            let one = PrunedStream {
                source: self.streams.source.clone(),
                id: id.to_string(),
                before: None,
                pieces: 0,
                bytes: 0,
                refused: None,
            };
            let mut pruning = Pruning {
                session: self.session,
                streams: self.streams,
                id,
                dry_run: self.dry_run,
                pruned: one,
            };
            let done = match stays(&follows, &own, id) {
                Stays::All => Ok(()),
                Stays::From(offset) => pruning.before(listed, offset).await,
                // A clock that is ahead would make everything old.
                Stays::Young if is_ahead(oldest, now) => Ok(()),
                Stays::Young => pruning.older(oldest).await,
            };
            if pruning.pruned.pieces > 0 || pruning.pruned.refused.is_some() {
                pruned.push(pruning.pruned);
            }
            done?;
        }
        Ok(())
    }
}

/// Returns the snapshots that are needed for the moments of the window: of each history of which something came within it, those that lead into
/// it from the last one before the window on. One that is of another course than what is stored, as it says beside each, is no such last one.
fn needed<'a>(
    follows: &Follows,
    last: &BTreeMap<ReplicationId, Option<Timestamp>>,
    bases: &[(&'a Base, bool)],
    now: Timestamp,
) -> Vec<&'a Base> {
    let Some(begin) = window_begin(bases.iter().map(|(base, _)| (base.at, base.window)), now) else {
        return bases.iter().map(|(base, _)| *base).collect();
    };
    // The end of the log is wanted however old it is.
    let within = last.values().flatten().max().map_or(begin, |newest| begin.min(*newest));
    let is_within = |id: &ReplicationId| last.get(id).copied().flatten().is_none_or(|at| at >= within);
    let mut is_needed = vec![false; bases.len()];
    for id in follows.keys().filter(|id| is_within(id)) {
        let leads = |base: &Base| leads_into(follows, base, id);
        let before = bases
            .iter()
            .filter(|(base, is_trusted)| *is_trusted && base.at <= begin && leads(base));
        let since = before.map(|(base, _)| base.at).max();
        for ((base, _), is_needed) in bases.iter().zip(&mut is_needed) {
            *is_needed |= since.is_none_or(|since| base.at >= since) && leads(base);
        }
    }
    let all = bases.iter().zip(is_needed);
    all.filter(|(_, is_needed)| *is_needed)
        .map(|((base, _), _)| *base)
        .collect()
}

/// Returns whether a snapshot lies in a history, or in what it continues.
fn leads_into(follows: &Follows, base: &Base, id: &ReplicationId) -> bool {
    let (mut at, mut end) = (id, u64::MAX);
    // A circle is no history.
    for _ in 0..=follows.len() {
        if base.position.id == *at && base.position.offset <= end {
            return true;
        }
        let Some(left) = follows.get(at).and_then(Option::as_ref) else {
            return false;
        };
        (at, end) = (&left.id, end.min(left.offset));
    }
    false
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
        self.aside(|aside| aside.from < first).await
    }

    /// Removes what was set aside along with pieces that are gone.
    async fn aside(&mut self, goes: impl Fn(&Aside) -> bool) -> Result<()> {
        if self.dry_run || self.pruned.pieces == 0 {
            return Ok(());
        }
        let all = self.session.or_cancelled(self.streams.aside(self.id)).await?;
        for aside in all.iter().filter(|aside| goes(aside)) {
            self.session.check_cancelled()?;
            remove(&self.streams.store, &aside.object.key, &mut self.pruned.refused).await?;
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
                return self.aside(|aside| aside.object.modified < limit).await;
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
    fn of_a_history_of_the_window_the_last_snapshot_before_it_is_needed() {
        let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        // b continues a, of which another snapshot was taken on a dead branch; d is over.
        let follows: Follows = [('a', None), ('b', Some(at('a', 100))), ('d', None)]
            .into_iter()
            .map(|(digit, left)| (at(digit, 0).id, left))
            .collect();
        let last = [('a', 12), ('b', 20), ('d', 3)];
        let last = last
            .into_iter()
            .map(|(digit, at_day)| (at(digit, 0).id, Some(day(at_day))))
            .collect();
        let base = |digit, offset, at_day, window: Option<u64>| Base {
            id: SnapshotId::new(Timestamp::UNIX_EPOCH, "job", 1),
            source: "redis".to_owned(),
            position: at(digit, offset),
            at: day(at_day),
            window: window.map(|days| days * 86_400),
        };
        let needed = |bases: &[(Base, bool)]| {
            let bases: Vec<(&Base, bool)> = bases.iter().map(|(base, is_trusted)| (base, *is_trusted)).collect();
            let needed = needed(&follows, &last, &bases, day(20));
            let places = needed
                .into_iter()
                .map(|base| (base.position.id.as_str().chars().next().unwrap(), base.position.offset));
            places.collect::<Vec<_>>()
        };
        let mut bases = vec![
            (base('a', 10, 5, None), true),
            (base('a', 50, 6, None), true),
            (base('a', 120, 9, None), true),
            (base('d', 10, 2, None), true),
        ];
        assert_eq!(needed(&bases), [('a', 50)]);
        bases.push((base('b', 200, 12, None), true));
        assert_eq!(needed(&bases), [('b', 200)]);
        // Of a copy of the server.
        bases.pop();
        bases.push((base('b', 200, 12, None), false));
        assert_eq!(needed(&bases), [('a', 50), ('b', 200)]);
        bases.pop();
        bases.push((base('b', 200, 12, Some(10)), true));
        assert_eq!(needed(&bases), [('a', 50), ('a', 120), ('b', 200)]);
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
                window: None,
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
