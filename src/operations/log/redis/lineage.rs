//! Which pieces lead from a snapshot to a moment: over histories that continue one another. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::SourceOutcome;
use crate::engines::redis::log::position::{Position, ReplicationId, offset_of};

/// Returns where a snapshot lies in its history; None where it is not all that one server held at one moment: one that was read key by
/// key, that of a cluster, that of a single database.
pub(super) fn position_of(outcome: Option<&SourceOutcome>) -> Option<Position> {
    let outcome = outcome?;
    let said = &outcome.position;
    let is_whole = !said.contains_key("database") && !outcome.note_counts.contains_key("one-database");
    if !is_whole || said.get("method").is_some_and(|method| method != "psync") {
        return None;
    }
    Some(Position {
        id: said.get("replication_id")?.parse().ok()?,
        offset: offset_of(said.get("replication_offset")?).ok()?,
    })
}

/// A history of which something is stored.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// Where its pieces begin, in order.
    pub(super) pieces: Vec<u64>,
    /// Where the history was left that it continues.
    pub(super) follows: Option<Position>,
    /// Where it ends, as far as it can be read.
    pub(super) end: u64,
    /// The last time mark at its end.
    pub(super) last: Option<Timestamp>,
}

/// A part of the way: of one history, from an offset to another one, or as far as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) id: ReplicationId,
    pub(super) from: u64,
    pub(super) to: Option<u64>,
}

/// Returns whether a place may lie in one of these histories, or where one of them left the one before.
pub(super) fn may_lie_in(histories: &BTreeMap<ReplicationId, History>, position: &Position) -> bool {
    let mut left = histories.values().filter_map(|history| history.follows.as_ref());
    histories.contains_key(&position.id) || left.any(|left| left.id == position.id)
}

/// Returns the way from a base on: to a history that is named, else over those that continue one another to the newest.
pub(super) fn way(
    histories: &BTreeMap<ReplicationId, History>,
    base: &Position,
    to: Option<&ReplicationId>,
) -> Result<Vec<Stretch>> {
    match to {
        Some(to) => way_to(histories, base, to),
        None => Ok(newest_way(histories, base)),
    }
}

fn way_to(histories: &BTreeMap<ReplicationId, History>, base: &Position, to: &ReplicationId) -> Result<Vec<Stretch>> {
    let unreachable = || {
        let message = format!("no stored history leads from the snapshot at {base} to {to}");
        Error::new(ErrorKind::NotFound, message)
            .with_hint("Choose a snapshot that was taken in that history, or after the last gap before it.")
    };
    let (mut back, mut end, mut at) = (Vec::new(), None, to.clone());
    let mut steps = 0;
    while at != base.id {
        let history = histories.get(&at).ok_or_else(unreachable)?;
        let left = history.follows.clone().ok_or_else(unreachable)?;
        // What left this history before it had begun had gone on from the one before it: up to there they are one.
        if end.is_none_or(|end| end >= left.offset) {
            back.push(Stretch {
                id: at,
                from: left.offset,
                to: end,
            });
            end = Some(left.offset);
        }
        steps += 1;
        if steps > histories.len() {
            return Err(unreachable());
        }
        at = left.id;
    }
    if end.is_some_and(|end| end < base.offset) {
        return Err(unreachable());
    }
    back.push(Stretch {
        id: at,
        from: base.offset,
        to: end,
    });
    back.reverse();
    Ok(back)
}

/// Returns when the last of a history came. A history counts as no older than what it continues.
pub(super) fn last_mark(histories: &BTreeMap<ReplicationId, History>, id: &ReplicationId) -> Option<Timestamp> {
    let history = histories.get(id)?;
    let before = || histories.get(&history.follows.as_ref()?.id)?.last;
    history.last.or_else(before)
}

/// Returns the history of which something came last; of several the one that continues the most.
pub(super) fn newest(histories: &BTreeMap<ReplicationId, History>) -> Option<(&ReplicationId, &History)> {
    let before = |id: &ReplicationId| histories.get(id)?.follows.as_ref().map(|left| left.id.clone());
    let depth = |id: &ReplicationId| {
        let all = std::iter::successors(Some(id.clone()), before);
        // A circle is no history.
        all.take(histories.len()).count()
    };
    histories
        .iter()
        .max_by_key(|(id, _)| (last_mark(histories, id), depth(id)))
}

/// Of the histories that a base leads to, the newest is that of which something came last.
fn newest_way(histories: &BTreeMap<ReplicationId, History>, base: &Position) -> Vec<Stretch> {
    let ways = histories.keys().filter_map(|id| {
        let way = way_to(histories, base, id).ok()?;
        Some((last_mark(histories, id), way))
    });
    let newest = ways.max_by_key(|(last, way)| (*last, way.len()));
    // Of a history of which nothing is stored as well.
    newest.map_or_else(
        || {
            vec![Stretch {
                id: base.id.clone(),
                from: base.offset,
                to: None,
            }]
        },
        |(_, way)| way,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(digit: char) -> ReplicationId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn position(digit: char, offset: u64) -> Position {
        Position { id: id(digit), offset }
    }

    fn stretch(digit: char, from: u64, to: Option<u64>) -> Stretch {
        Stretch {
            id: id(digit),
            from,
            to,
        }
    }

    fn history(follows: Option<Position>, second: i64) -> History {
        History {
            pieces: vec![0],
            follows,
            end: 1000,
            last: Timestamp::from_second(second).ok(),
        }
    }

    #[test]
    fn the_way_goes_over_failovers_and_into_a_dead_branch_only_where_it_is_named() {
        let histories = BTreeMap::from([
            (id('a'), history(None, 1)),
            (id('b'), history(Some(position('a', 100)), 2)),
            (id('c'), history(Some(position('b', 150)), 3)),
            // Split from a as well, and earlier.
            (id('d'), history(Some(position('a', 90)), 1)),
        ]);
        let base = position('a', 40);
        let newest = [
            stretch('a', 40, Some(100)),
            stretch('b', 100, Some(150)),
            stretch('c', 150, None),
        ];
        assert_eq!(way(&histories, &base, None).unwrap(), newest);
        assert_eq!(way(&histories, &base, Some(&id('c'))).unwrap(), newest);
        assert_eq!(
            way(&histories, &base, Some(&id('a'))).unwrap(),
            [stretch('a', 40, None)]
        );
        assert_eq!(
            way(&histories, &base, Some(&id('d'))).unwrap(),
            [stretch('a', 40, Some(90)), stretch('d', 90, None)]
        );
        // A snapshot of the dead branch itself.
        assert_eq!(
            way(&histories, &position('a', 120), None).unwrap(),
            [stretch('a', 120, None)]
        );
        assert!(way(&histories, &position('a', 120), Some(&id('c'))).is_err());
        assert!(way(&histories, &base, Some(&id('e'))).is_err());
    }

    /// A history that was left where it had not begun: b continues a from 150 on, and c left b at 120.
    #[test]
    fn what_left_a_history_before_it_began_left_the_one_before() {
        let histories = BTreeMap::from([
            (id('a'), history(None, 1)),
            (id('b'), history(Some(position('a', 150)), 2)),
            (id('c'), history(Some(position('b', 120)), 3)),
        ]);
        let expected = [stretch('a', 40, Some(120)), stretch('c', 120, None)];
        assert_eq!(way(&histories, &position('a', 40), None).unwrap(), expected);
        assert_eq!(way(&histories, &position('a', 40), Some(&id('c'))).unwrap(), expected);
        assert!(way(&histories, &position('a', 130), Some(&id('c'))).is_err());
    }

    #[test]
    fn a_snapshot_of_less_than_a_server_has_no_place() {
        let outcome = |more: &[(&str, &str)], notes: &[&str]| {
            let usual = [
                ("replication_id", id('a').to_string()),
                ("replication_offset", "40".to_owned()),
            ];
            let usual = usual.into_iter().map(|(name, value)| (name.to_owned(), value));
            let more = more
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let outcome = SourceOutcome {
                versions: BTreeMap::new(),
                position: usual.chain(more).collect(),
                consistent_at: Timestamp::UNIX_EPOCH,
                raw_bytes: 0,
                items: 0,
                note_counts: notes.iter().map(|code| ((*code).to_owned(), 1)).collect(),
                archives: Vec::new(),
            };
            position_of(Some(&outcome))
        };
        let whole = Some(position('a', 40));
        assert_eq!(outcome(&[], &[]), whole);
        assert_eq!(outcome(&[("method", "psync")], &["module-data"]), whole);
        assert_eq!(outcome(&[("method", "scan")], &[]), None);
        assert_eq!(outcome(&[("database", "5")], &[]), None);
        assert_eq!(outcome(&[], &["one-database"]), None);
        assert_eq!(outcome(&[("replication_offset", "-1")], &[]), None);
        assert_eq!(position_of(None), None);
    }

    #[test]
    fn forged_histories_lead_in_no_circle() {
        let histories = BTreeMap::from([
            (id('a'), history(Some(position('b', 10)), 1)),
            (id('b'), history(Some(position('a', 10)), 2)),
            (id('c'), history(Some(position('c', 10)), 3)),
        ]);
        assert_eq!(way(&histories, &position('a', 1), None).unwrap().len(), 2);
        assert!(way(&histories, &position('a', 1), Some(&id('c'))).is_err());
        assert!(way(&histories, &position('e', 1), Some(&id('b'))).is_err());
    }
}
