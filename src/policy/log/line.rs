//! One way through a log: the branches that lead to one of them, and how far a recovery can go on it.

use super::{Branch, Branches, Stretch};

/// The branches that lead to one, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(Vec<Leg>);

/// A branch on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leg {
    branch: u32,
    /// Where it begins; 0 where nothing says what it continues.
    begins: u64,
    /// The first position that is no longer its on this line.
    left: u64,
}

/// A part of a line that one branch holds without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The branch.
    pub branch: u32,
    /// The first position behind it.
    pub to: u64,
}

impl Line {
    /// Follows a branch back to the first that is known.
    pub fn to(branches: &Branches, branch: u32) -> Self {
        let (mut legs, mut number, mut left) = (Vec::new(), branch, u64::MAX);
        loop {
            let parent = branches.get(&number).and_then(|branch| branch.parent);
            let parent = parent.filter(|fork| fork.branch < number);
            let begins = parent.map_or(0, |fork| fork.at);
            legs.push(Leg {
                branch: number,
                begins,
                left,
            });
            let Some(parent) = parent else { return Self(legs) };
            // Whoever recovers for a second time, to an earlier moment, leaves a later branch at an earlier position.
            left = left.min(begins);
            number = parent.branch;
        }
    }

    /// Returns whether the line goes through a position of a branch.
    pub fn passes(&self, branch: u32, at: u64) -> bool {
        let mut legs = self.0.iter();
        legs.any(|leg| leg.branch == branch && leg.begins <= at && at <= leg.left)
    }

    /// Returns whether a branch of the line is left at a position: a server that is given what that branch has behind it would go on there.
    pub fn forks_at(&self, at: u64) -> bool {
        self.0.iter().any(|leg| leg.left == at)
    }

    /// Finds which branch holds a position, and how far. As a server does it: the newest branch comes first, from the beginning of
    /// the segment on in which it begins, which it holds a copy of.
    pub fn holding(&self, branches: &Branches, at: u64, segment_bytes: u64) -> Option<Held> {
        let start = |position: u64| position - position % segment_bytes;
        self.0.iter().find_map(|leg| {
            if start(leg.begins) > at || at >= leg.left {
                return None;
            }
            let reaches = |stretch: &&Stretch| stretch.from <= at && at < stretch.to;
            let stretch = stretches(branches, leg).find(reaches)?;
            let next = start(leg.left);
            let left = if next > at { next } else { leg.left };
            Some(Held {
                branch: leg.branch,
                to: stretch.to.min(left),
            })
        })
    }

    /// Returns how far the line goes without a hole; `from` itself where nothing holds it.
    pub fn reach(&self, branches: &Branches, from: u64, segment_bytes: u64) -> u64 {
        let mut at = from;
        while let Some(held) = self.holding(branches, at, segment_bytes) {
            at = held.to;
        }
        at
    }

    /// Returns where the line goes on behind a position at which it ends.
    pub fn next_behind(&self, branches: &Branches, at: u64) -> Option<u64> {
        let begins = self.0.iter().flat_map(|leg| {
            let own = stretches(branches, leg).filter(|stretch| stretch.from < leg.left);
            own.map(|stretch| stretch.from)
        });
        begins.filter(|from| *from > at).min()
    }
}

fn stretches<'b>(branches: &'b Branches, leg: &Leg) -> impl Iterator<Item = &'b Stretch> {
    let branch: Option<&Branch> = branches.get(&leg.branch);
    branch.into_iter().flat_map(|branch| &branch.stretches)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::log::{Fork, judge};

    const SEGMENT: u64 = 16;

    fn branch(parent: Option<(u32, u64)>, stretches: &[(u64, u64)]) -> Branch {
        let mut made = Branch {
            parent: parent.map(|(branch, at)| Fork { branch, at }),
            ..Branch::default()
        };
        for (from, to) in stretches {
            made.add(*from, to - from, (to - from) / SEGMENT);
        }
        made
    }

    fn held(line: &Line, branches: &Branches, at: u64) -> Option<(u32, u64)> {
        line.holding(branches, at, SEGMENT).map(|held| (held.branch, held.to))
    }

    #[test]
    fn a_line_goes_over_to_the_branch_that_left_with_the_segment_of_the_fork() {
        let branches = Branches::from([
            (1, branch(None, &[(0, 160)])),
            (2, branch(Some((1, 72)), &[(64, 96), (112, 128)])),
        ]);
        let (first, second) = (Line::to(&branches, 1), Line::to(&branches, 2));
        assert_eq!(held(&first, &branches, 70), Some((1, 160)));
        assert_eq!(held(&second, &branches, 0), Some((1, 64)));
        assert_eq!(held(&second, &branches, 64), Some((2, 96)));
        assert_eq!(first.reach(&branches, 8, SEGMENT), 160);
        assert_eq!(second.reach(&branches, 8, SEGMENT), 96);
        assert_eq!(
            (second.next_behind(&branches, 96), second.next_behind(&branches, 112)),
            (Some(112), None)
        );
        assert!(second.passes(1, 72) && !second.passes(1, 73) && second.passes(2, 73) && !second.passes(2, 71));
    }

    #[test]
    fn where_the_new_branch_has_no_segment_of_the_fork_the_old_one_leads_up_to_it() {
        let branches = Branches::from([
            (1, branch(None, &[(0, 160)])),
            (2, branch(Some((1, 72)), &[])),
            (3, branch(Some((2, 40)), &[(48, 64)])),
        ]);
        assert_eq!(Line::to(&branches, 2).reach(&branches, 0, SEGMENT), 72);
        // Left at an earlier position than where it began: nothing of 2 is on the way to 3.
        let third = Line::to(&branches, 3);
        assert_eq!(third.reach(&branches, 0, SEGMENT), 40);
        assert!(third.forks_at(40) && !third.forks_at(72) && !third.forks_at(64));
        assert!(!third.passes(2, 50) && third.passes(1, 40) && !third.passes(1, 41));
    }

    proptest! {
        #[test]
        fn whatever_is_stored_a_line_ends_and_reaches_no_less_than_its_windows(
            stored in proptest::collection::vec(
                (proptest::option::of((0..5_u32, 0..200_u64)), proptest::collection::vec((0..12_u64, 1..4_u64), 0..4)),
                1..5,
            ),
        ) {
            let mut branches = Branches::new();
            for (number, (parent, pieces)) in (1..).zip(stored) {
                let mut pieces = pieces;
                pieces.sort_unstable();
                let mut made = branch(parent, &[]);
                let mut at = 0;
                for (from, segments) in pieces {
                    let from = (from * SEGMENT).max(at);
                    made.add(from, segments * SEGMENT, segments);
                    at = from + segments * SEGMENT;
                }
                branches.insert(number, made);
            }
            let (windows, _) = judge(&branches);
            for window in windows {
                let line = Line::to(&branches, window.branch);
                prop_assert!(line.reach(&branches, window.from, SEGMENT) >= window.from);
                if window.branch == window.first_branch {
                    prop_assert!(line.reach(&branches, window.to - 1, SEGMENT) >= window.to
                        || !line.passes(window.branch, window.to - 1));
                }
            }
        }
    }
}
