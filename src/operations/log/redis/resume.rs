//! Where a stream should go on: by what came over the connection before, else by what is stored.

use crate::base::error::Result;
use crate::engines::redis::log::described::{Gap, GapCause, Piece};
use crate::engines::redis::log::marks::Mark;
use crate::engines::redis::log::position::{Position, ReplicationId};
use crate::engines::redis::log::replica::History;
use crate::engines::redis::log::tail::Tail;
use crate::operations::log::redis::stored::{Newest, Streams};

/// A history that is being stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) id: ReplicationId,
    /// It is stored from here on without a hole.
    pub(super) since: u64,
    /// Where the history that it continues was left.
    pub(super) follows: Option<Position>,
    /// What is missing before `since`.
    pub(super) gap: Option<Gap>,
    /// A snapshot from which a restore can begin.
    pub(super) base: Option<Position>,
}

impl Branch {
    /// What begins without anything before it.
    pub(super) fn begun(position: Position, gap: Option<Gap>) -> Self {
        Self {
            id: position.id,
            since: position.offset,
            follows: None,
            gap,
            base: None,
        }
    }

    /// What a piece says of its history. A snapshot counts only if it lies on the way to the piece: older releases kept one that a
    /// failover had left on a dead branch.
    fn of(id: &ReplicationId, piece: &Piece) -> Self {
        let lies_on_it = |base: &Position| {
            if base.id == *id {
                return base.offset >= piece.since;
            }
            let left = piece.follows.as_ref();
            left.is_some_and(|left| left.id != base.id || base.offset <= left.offset)
        };
        Self {
            id: id.clone(),
            since: piece.since,
            follows: piece.follows.clone(),
            gap: piece.gap.clone(),
            base: piece.base.clone().filter(lies_on_it),
        }
    }

    /// Returns whether a snapshot lies where this history is stored from.
    pub(super) fn holds(&self, base: &Position) -> bool {
        base.id == self.id && base.offset >= self.since
    }

    /// The history that continues this one from an offset on. Its snapshot is one for that too, unless it was taken behind that.
    ///
    /// Where nothing of this one is stored before that offset, it continues what this one does: of two changes of the ID without a
    /// byte between them, the first leaves no trace. What is missing before this one is missing before that one then.
    pub(super) fn left_for(self, id: ReplicationId, offset: u64) -> Self {
        let is_before = |base: &Position| {
            if base.id == self.id {
                return base.offset <= offset;
            }
            let left = self.follows.as_ref().filter(|left| left.id == base.id);
            self.since <= offset || left.is_some_and(|left| base.offset <= left.offset.min(offset))
        };
        let base = self.base.clone().filter(is_before);
        let is_its_own = base.as_ref().is_some_and(|base| base.id == self.id);
        let follows = match self.follows {
            Some(left) if offset <= self.since && !is_its_own => Some(Position {
                offset: left.offset.min(offset),
                ..left
            }),
            None if offset < self.since => None,
            _ => Some(Position { id: self.id, offset }),
        };
        Self {
            id,
            since: offset,
            follows,
            gap: self.gap.filter(|_| offset <= self.since),
            base,
        }
    }
}

/// What has come of a stream.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) branch: Branch,
    /// Up to here it came.
    pub(super) received: u64,
    /// The end of the last whole command before that.
    pub(super) commands_to: u64,
    /// The last bytes.
    pub(super) tail: Tail,
    /// The last time mark.
    pub(super) mark: Option<Mark>,
}

impl Known {
    pub(super) fn position(&self) -> Position {
        Position {
            id: self.branch.id.clone(),
            offset: self.received,
        }
    }
}

/// Where the stream should go on.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) branch: Branch,
    pub(super) at: Position,
    /// What lies before is stored, or held.
    pub(super) hold_from: u64,
    pub(super) goes_on: bool,
    pub(super) tail: Tail,
    pub(super) mark: Option<Mark>,
    /// Why what follows is missing, should the server not have it.
    pub(super) cause: GapCause,
    /// Whether some of what is known came behind the place where the server left that history.
    leaves_some: bool,
}

impl Wish {
    /// Returns whether it is open that what is known leads to what the server writes under an ID: the server went on from an earlier
    /// place of it, and nothing comes again that could be compared. A server that went back and then got an ID of its own says the
    /// same as one that was promoted.
    pub(super) fn is_unsure(&self, id: &ReplicationId, asked_from: u64) -> bool {
        let is_compared = asked_from < self.at.offset || self.tail.to() > self.at.offset;
        let leads_on = || {
            self.branch
                .clone()
                .left_for(id.clone(), self.at.offset)
                .follows
                .is_some()
        };
        self.leaves_some && *id != self.at.id && !is_compared && leads_on()
    }

    /// The offset from which the stream is asked for: somewhat earlier, if the server surely still has that, so that what comes can be
    /// compared with what is known.
    pub(super) fn asked_from(&self, backlog_from: Option<u64>) -> u64 {
        let at = self.at.offset;
        // Its backlog moves on meanwhile; half of it is far enough away.
        let room = backlog_from.map_or(0, |from| at.saturating_sub(from) / 2);
        at.saturating_sub(room.min(at.saturating_sub(self.tail.from())))
    }
}

/// Returns where to go on, if the server knows the history that was received.
pub(super) fn of_known(known: &Known, history: &History) -> Option<Wish> {
    if known.branch.id == history.now.id {
        return Some(Wish {
            at: known.position(),
            branch: known.branch.clone(),
            hold_from: known.received,
            goes_on: true,
            tail: known.tail.clone(),
            mark: known.mark,
            cause: GapCause::Backlog,
            leaves_some: false,
        });
    }
    let before = history.before.as_ref().filter(|before| before.id == known.branch.id)?;
    let wish = continued(known.branch.clone(), known.commands_to, before, &known.tail);
    Some(wish.marked(known.mark))
}

/// Returns where to go on by what is stored of the server's history, or of the one that it continues.
pub(super) async fn of_stored(streams: &Streams, history: &History) -> Result<Option<Wish>> {
    let cause = |newest: &Newest| {
        if newest.was_damaged {
            GapCause::Damaged
        } else {
            GapCause::Backlog
        }
    };
    let id = &history.now.id;
    if let Some(newest) = streams.newest(id).await? {
        let piece = &newest.piece;
        return Ok(Some(Wish {
            branch: Branch::of(id, piece),
            // The rest of a command that is stored in part is read once more, to know where it ends.
            at: Position {
                id: id.clone(),
                offset: piece.commands_to,
            },
            hold_from: piece.to,
            goes_on: false,
            mark: piece.marks.last().copied(),
            cause: cause(&newest),
            leaves_some: false,
            tail: newest.tail,
        }));
    }
    let Some(before) = &history.before else {
        return Ok(None);
    };
    let Some(newest) = streams.newest(&before.id).await? else {
        return Ok(None);
    };
    let piece = &newest.piece;
    // It may have been left in front of the last piece.
    let earlier = if before.offset <= piece.from {
        streams.tail_before(&before.id, before.offset).await?
    } else {
        None
    };
    let wish = continued(Branch::of(&before.id, piece), piece.commands_to, before, &newest.tail);
    let wish = wish.with_tail(earlier);
    let wish = wish.marked(piece.marks.last().copied());
    Ok(Some(Wish {
        cause: cause(&newest),
        ..wish
    }))
}

/// Goes on in the history that continues another one. What of that one came behind its end for this server was never there.
fn continued(branch: Branch, commands_to: u64, before: &Position, tail: &Tail) -> Wish {
    let offset = commands_to.min(before.offset);
    if commands_to > before.offset {
        tracing::warn!(
            "the new primary continues {before}; what the old one wrote behind that, up to {commands_to}, is kept as a dead branch"
        );
    }
    let leaves_some = before.offset < tail.to();
    let mut tail = tail.clone();
    tail.cut(before.offset);
    Wish {
        at: Position {
            id: branch.id.clone(),
            offset,
        },
        branch,
        hold_from: offset,
        goes_on: false,
        tail,
        mark: None,
        cause: GapCause::Backlog,
        leaves_some,
    }
}

impl Wish {
    /// Compares with a tail that reaches up to where it goes on.
    fn with_tail(self, tail: Option<Tail>) -> Self {
        match tail {
            Some(tail) => Self { tail, ..self },
            None => self,
        }
    }

    /// Goes on behind a time mark: no later one tells an earlier time.
    fn marked(self, mark: Option<Mark>) -> Self {
        let before = |mark: Mark| Mark {
            offset: mark.offset.min(self.at.offset),
            at: mark.at,
        };
        Self {
            mark: mark.map(before),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn position(digit: char, offset: u64) -> Position {
        Position {
            id: digit.to_string().repeat(40).parse().unwrap(),
            offset,
        }
    }

    fn known(base: Position) -> Known {
        Known {
            branch: Branch {
                base: Some(base),
                follows: Some(position('a', 400)),
                ..Branch::begun(position('b', 400), None)
            },
            received: 1010,
            commands_to: 1000,
            tail: Tail::at(1010),
            mark: None,
        }
    }

    #[test]
    fn a_snapshot_that_a_failover_left_behind_is_none_for_what_follows() {
        let history = |left: u64| History {
            now: position('c', 1100),
            before: Some(position('b', left)),
        };
        let left_at = |base: Position, left: u64| {
            let wish = of_known(&known(base), &history(left)).unwrap();
            let branch = wish.branch.left_for(position('c', 0).id, wish.hold_from);
            assert_eq!((branch.since, &branch.gap), (wish.at.offset, &None));
            (branch.follows.unwrap(), branch.base)
        };
        for base in [position('b', 900), position('a', 300)] {
            assert_eq!(left_at(base.clone(), 950), (position('b', 950), Some(base)));
        }
        // Taken behind the place where the new primary left the old one.
        assert_eq!(left_at(position('b', 960), 950), (position('b', 950), None));
        assert_eq!(left_at(position('b', 1005), 2000), (position('b', 1000), None));
        // Nothing of the old one is stored before that place: what it continues is what leads there.
        let base = position('a', 300);
        for left in [399, 400] {
            assert_eq!(left_at(base.clone(), left), (position('a', left), Some(base.clone())));
        }
        assert_eq!(left_at(position('a', 399), 398), (position('a', 398), None));
        assert_eq!(left_at(position('0', 9000), 399), (position('a', 399), None));
        // Where a snapshot lies at that very place, it is one all the same.
        let base = position('b', 400);
        assert_eq!(left_at(base.clone(), 400), (base.clone(), Some(base)));
    }

    #[test]
    fn what_is_missing_before_a_history_is_missing_before_the_one_that_leaves_it_earlier() {
        let gap = Gap {
            from: position('b', 300),
            why: GapCause::RolledBack,
        };
        let branch = Branch::begun(position('b', 400), Some(gap.clone()));
        let left_at = |offset: u64| branch.clone().left_for(position('c', 0).id, offset);
        let (before, at, behind) = (left_at(399), left_at(400), left_at(401));
        assert_eq!((before.follows, before.gap), (None, Some(gap.clone())));
        assert_eq!((at.follows, at.gap), (Some(position('b', 400)), Some(gap)));
        assert_eq!((behind.follows, behind.gap), (Some(position('b', 401)), None));
    }

    #[test]
    fn a_place_that_cannot_be_compared_leads_nowhere_for_sure() {
        let mut tail = Tail::at(1000);
        tail.push(&[0; 10]);
        let known = Known {
            tail,
            ..known(position('b', 900))
        };
        let wish = |left: u64| {
            let before = Some(position('b', left));
            let now = position('c', 2000);
            of_known(&known, &History { now, before }).unwrap()
        };
        let id = position('c', 0).id;
        // All of it was there, the beginning of a command too.
        assert!(!wish(1010).is_unsure(&id, 1000));
        assert!(!wish(1005).is_unsure(&id, 1000));
        assert!(wish(1000).is_unsure(&id, 1000) && wish(950).is_unsure(&id, 950));
        assert!(!wish(950).is_unsure(&id, 949));
        assert!(!wish(950).is_unsure(&position('b', 0).id, 950));
    }

    #[test]
    fn what_older_releases_stored_of_a_snapshot_is_looked_at() {
        let piece = |base: Position, follows: Option<Position>| Piece {
            from: 500,
            to: 600,
            commands_to: 600,
            since: 400,
            follows,
            gap: None,
            base: Some(base),
            marks: Vec::new(),
        };
        let id = position('b', 0).id;
        let base = |base: Position, follows: Option<Position>| Branch::of(&id, &piece(base, follows)).base;
        let left = || Some(position('a', 400));
        for good in [position('b', 400), position('a', 400), position('0', 9000)] {
            assert_eq!(base(good.clone(), left()), Some(good));
        }
        for bad in [position('b', 399), position('a', 401)] {
            assert_eq!(base(bad, left()), None);
        }
        assert_eq!(base(position('a', 1), None), None);
    }

    #[test]
    fn so_much_is_asked_for_again_as_is_known_and_surely_there() {
        let mut tail = Tail::at(900);
        tail.push(&[0; 100]);
        let known = Known {
            tail,
            received: 1000,
            ..known(position('b', 400))
        };
        let history = History {
            now: position('b', 5000),
            before: None,
        };
        let wish = of_known(&known, &history).unwrap();
        assert!(wish.goes_on);
        for (backlog, from) in [
            (None, 1000),
            (Some(0), 900),
            (Some(900), 950),
            (Some(1000), 1000),
            (Some(2000), 1000),
        ] {
            assert_eq!(wish.asked_from(backlog), from, "{backlog:?}");
        }
    }
}
