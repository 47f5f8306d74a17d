//! What of histories can be gone through, and with which snapshot a restore of it begins. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::engines::redis::log::described::Gap;
use crate::engines::redis::log::position::{Position, ReplicationId};
use crate::operations::log::redis::bases::Base;

/// A part of a history without a hole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: u64,
    pub(super) to: u64,
    /// What is known to be missing before it.
    pub(super) gap: Option<Gap>,
    /// Its first and its last time mark.
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
}

/// What is stored of a history.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    /// Where the history was left that it continues.
    pub(super) follows: Option<Position>,
    /// The newest first.
    pub(super) windows: Vec<Window>,
}

/// Where a restore of a window begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beginning<'a> {
    /// With a snapshot; from this offset on every one is reached.
    With(&'a Base, u64),
    /// No snapshot leads into it.
    NoSnapshot,
    /// The history that it continues is not stored up to it, and no snapshot was taken in it.
    NotContinued,
}

/// Finds the snapshot that leads into a window, with which most of it is reached.
pub(super) fn beginning<'a>(
    histories: &BTreeMap<ReplicationId, Stored>,
    bases: &'a [Base],
    id: &ReplicationId,
    window: &Window,
) -> Beginning<'a> {
    let stored = histories.get(id);
    let follows = stored.and_then(|stored| stored.follows.as_ref());
    // Into its beginning leads what leads to the end of the history before.
    let follows = follows.filter(|left| window.from <= left.offset && left.offset <= window.to);
    if let Some(left) = follows
        && let Some(base) = leading_to(histories, bases, left)
    {
        return Beginning::With(base, left.offset);
    }
    let own = bases.iter().filter(|base| {
        base.position.id == *id && window.from <= base.position.offset && base.position.offset <= window.to
    });
    match (own.min_by_key(|base| base.position.offset), follows) {
        (Some(base), _) => Beginning::With(base, base.position.offset),
        (None, Some(left)) if holding(histories, left).is_none() => Beginning::NotContinued,
        (None, _) => Beginning::NoSnapshot,
    }
}

/// Finds the newest snapshot before a place from which everything is stored up to it, over histories that continue one another.
fn leading_to<'a>(
    histories: &BTreeMap<ReplicationId, Stored>,
    bases: &'a [Base],
    place: &Position,
) -> Option<&'a Base> {
    let mut place = place.clone();
    // A circle is no history.
    for _ in 0..=histories.len() {
        let since = holding(histories, &place).map_or(place.offset, |window| window.from);
        let own = bases.iter().filter(|base| {
            base.position.id == place.id && since <= base.position.offset && base.position.offset <= place.offset
        });
        if let Some(base) = own.max_by_key(|base| base.position.offset) {
            return Some(base);
        }
        let left = histories.get(&place.id)?.follows.clone()?;
        if since > left.offset || left.offset > place.offset {
            return None;
        }
        place = left;
    }
    None
}

/// Returns the window that reaches up to a place.
fn holding<'a>(histories: &'a BTreeMap<ReplicationId, Stored>, place: &Position) -> Option<&'a Window> {
    let windows = &histories.get(&place.id)?.windows;
    windows
        .iter()
        .find(|window| window.from < place.offset && place.offset <= window.to)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(digit: char) -> ReplicationId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn at(digit: char, offset: u64) -> Position {
        Position { id: id(digit), offset }
    }

    fn window(from: u64, to: u64) -> Window {
        Window {
            from,
            to,
            ..Window::default()
        }
    }

    fn base(digit: char, offset: u64) -> Base {
        Base {
            id: crate::repository::SnapshotId::new(Timestamp::UNIX_EPOCH, "job", 1),
            source: "redis".to_owned(),
            position: at(digit, offset),
            at: Timestamp::UNIX_EPOCH,
            window: None,
        }
    }

    fn found(
        histories: &BTreeMap<ReplicationId, Stored>,
        bases: &[Base],
        digit: char,
        (from, to): (u64, u64),
    ) -> String {
        match beginning(histories, bases, &id(digit), &window(from, to)) {
            Beginning::With(base, since) => format!("{}{} {since}", digit_of(base), base.position.offset),
            Beginning::NoSnapshot => "no snapshot".to_owned(),
            Beginning::NotContinued => "not continued".to_owned(),
        }
    }

    fn digit_of(base: &Base) -> String {
        base.position.id.as_str().get(..1).unwrap().to_owned()
    }

    fn stored(follows: Option<Position>, windows: &[(u64, u64)]) -> Stored {
        Stored {
            follows,
            windows: windows.iter().rev().map(|(from, to)| window(*from, *to)).collect(),
        }
    }

    #[test]
    fn a_window_begins_with_the_snapshot_that_leads_into_it() {
        let histories = BTreeMap::from([
            (id('a'), stored(None, &[(100, 200), (300, 400)])),
            (id('b'), stored(Some(at('a', 390)), &[(390, 500)])),
            (id('c'), stored(Some(at('b', 500)), &[(500, 600), (650, 700)])),
            (id('d'), stored(Some(at('e', 50)), &[(50, 90)])),
            (id('f'), stored(Some(at('f', 50)), &[(50, 90)])),
        ]);
        let none: &[Base] = &[];
        assert_eq!(found(&histories, none, 'a', (100, 200)), "no snapshot");
        assert_eq!(found(&histories, none, 'd', (50, 90)), "not continued");
        assert_eq!(found(&histories, none, 'f', (50, 90)), "not continued");
        let bases = [
            base('a', 150),
            base('a', 180),
            base('a', 310),
            base('b', 450),
            base('e', 50),
        ];
        assert_eq!(found(&histories, &bases, 'a', (100, 200)), "a150 150");
        assert_eq!(found(&histories, &bases, 'a', (300, 400)), "a310 310");
        assert_eq!(found(&histories, &bases, 'b', (390, 500)), "a310 390");
        assert_eq!(found(&histories, &bases, 'c', (500, 600)), "b450 500");
        assert_eq!(found(&histories, &bases, 'c', (650, 700)), "no snapshot");
        // Nothing is stored of the history before, and nothing is missing.
        assert_eq!(found(&histories, &bases, 'd', (50, 90)), "e50 50");
        // In a dead branch.
        assert_eq!(found(&histories, &[base('a', 395)], 'b', (390, 500)), "no snapshot");
        // Behind a hole.
        assert_eq!(found(&histories, &[base('a', 150)], 'b', (390, 500)), "no snapshot");
    }
}
