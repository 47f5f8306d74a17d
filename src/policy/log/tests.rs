#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions)]
use proptest::prelude::*;

use super::*;

/// Bytes of a segment here.
const S: u64 = 10;

fn branch(parent: Option<(u32, u64)>, segments: impl IntoIterator<Item = u64>) -> Branch {
    let mut branch = Branch {
        parent: parent.map(|(branch, at)| Fork { branch, at }),
        ..Branch::default()
    };
    for segment in segments {
        branch.add(segment * S, S, 1);
    }
    branch
}

fn window(branch: u32, from: u64, to: u64) -> Window {
    Window {
        branch,
        first_branch: branch,
        from,
        to,
    }
}

#[test]
fn one_timeline_without_and_with_a_hole() {
    assert_eq!(judge(&Branches::new()), (vec![], vec![]));
    let whole = Branches::from([(1, branch(None, 3..8))]);
    assert_eq!(judge(&whole), (vec![window(1, 30, 80)], vec![]));
    assert_eq!(whole[&1].stretches[0].segments, 5);
    let holed = Branches::from([(1, branch(None, [3, 4, 6, 7, 9]))]);
    let (windows, gaps) = judge(&holed);
    assert_eq!(windows, [window(1, 30, 50), window(1, 60, 80), window(1, 90, 100)]);
    let missing = |from, to| Gap {
        branch: 1,
        from,
        to,
        why: Why::Missing,
    };
    assert_eq!(gaps, [missing(50, 60), missing(80, 90)]);
}

#[test]
fn a_window_goes_over_forks() {
    // 1 was left at 55, within segment 5, and went on; 2 at 75; 3 came of 2.
    let branches = Branches::from([
        (1, branch(None, [2, 3, 4, 5, 6])),
        (2, branch(Some((1, 55)), 5..8)),
        (3, branch(Some((2, 75)), 7..9)),
    ]);
    let (windows, gaps) = judge(&branches);
    let over = |branch, to| Window {
        first_branch: 1,
        ..window(branch, 20, to)
    };
    assert_eq!((windows, gaps), (vec![over(1, 70), over(2, 80), over(3, 90)], vec![]));
    // The last segment of 1 was archived as a partial one alone: the copy on 2 holds the same.
    let branches = Branches::from([(1, branch(None, 2..5)), (2, branch(Some((1, 55)), 5..8))]);
    assert_eq!(judge(&branches), (vec![over(1, 50), over(2, 80)], vec![]));
    // The switch fell on the beginning of a segment.
    let branches = Branches::from([(1, branch(None, 2..5)), (2, branch(Some((1, 50)), 5..8))]);
    assert_eq!(judge(&branches), (vec![over(1, 50), over(2, 80)], vec![]));
}

#[test]
fn a_fork_that_does_not_join_is_a_gap() {
    let gap = |from, to, why| {
        vec![Gap {
            branch: 2,
            from,
            to,
            why,
        }]
    };
    for (first, second, expected) in [
        // The new timeline's first segments are not there.
        (
            branch(None, 2..6),
            branch(Some((1, 55)), 7..9),
            gap(55, 70, Why::BeginsLate),
        ),
        // The old timeline ends before.
        (
            branch(None, 2..4),
            branch(Some((1, 55)), 5..9),
            gap(40, 50, Why::Missing),
        ),
        // Its history file is not there, or leads in a circle.
        (branch(None, 2..6), branch(None, 5..9), gap(50, 50, Why::NoHistory)),
        (
            branch(None, 2..6),
            branch(Some((2, 55)), 5..9),
            gap(50, 50, Why::NoHistory),
        ),
        (
            branch(None, 2..6),
            branch(Some((9, 55)), 5..9),
            gap(50, 50, Why::NoHistory),
        ),
        // Nothing older is stored: it begins here.
        (branch(None, []), branch(Some((1, 55)), 5..9), vec![]),
        (branch(None, 6..9), branch(Some((1, 55)), 5..9), vec![]),
    ] {
        let (windows, gaps) = judge(&Branches::from([(1, first), (2, second)]));
        assert_eq!(gaps, expected);
        assert!(
            windows.iter().all(|window| window.first_branch == window.branch),
            "{windows:?}"
        );
    }
}

#[test]
fn a_branch_of_which_nothing_is_stored_is_passed_over() {
    let over = |from, to| Window {
        first_branch: 1,
        ..window(3, from, to)
    };
    let gap = |from, to| Gap {
        branch: 3,
        from,
        to,
        why: Why::Missing,
    };
    let judged = |first: Branch, second: Branch, third: Branch| {
        let (windows, gaps) = judge(&Branches::from([(1, first), (2, second), (3, third)]));
        (windows.into_iter().find(|window| window.branch == 3).unwrap(), gaps)
    };
    let nothing = |at| branch(Some((1, at)), []);
    // 2 left 1 and was left itself within segment 5: all of it stands in the first segment of 3.
    assert_eq!(
        judged(branch(None, 2..6), nothing(55), branch(Some((2, 57)), 5..9)),
        (over(20, 90), vec![])
    );
    // A second recovery, to an earlier moment: 3 came of 2, and left the line of 1 before 2 did.
    assert_eq!(
        judged(
            branch(None, 2..8),
            branch(Some((1, 55)), 5..8),
            branch(Some((2, 35)), 3..9)
        ),
        (over(20, 90), vec![])
    );
    // Segments 5 and 6 of 2 are missing, and what 1 wrote behind the fork does not stand for them.
    assert_eq!(
        judged(branch(None, 2..8), nothing(55), branch(Some((2, 75)), 7..9)),
        (window(3, 70, 90), vec![gap(55, 70)])
    );
    // 1 ends before the fork.
    assert_eq!(
        judged(branch(None, 2..4), nothing(55), branch(Some((2, 57)), 5..9)),
        (window(3, 50, 90), vec![gap(40, 50)])
    );
    // Nothing of either is stored that came before.
    assert_eq!(
        judged(branch(None, []), nothing(55), branch(Some((2, 57)), 5..9)),
        (window(3, 50, 90), vec![])
    );
}

proptest! {
    /// On one branch windows and gaps take turns, and cover what lies between the first and the last segment once.
    #[test]
    fn windows_and_gaps_take_turns(mut segments in proptest::collection::btree_set(0u64..200, 1..120)) {
        let branches = Branches::from([(1, branch(None, segments.iter().copied()))]);
        let (windows, gaps) = judge(&branches);
        prop_assert_eq!(windows.len(), gaps.len() + 1);
        for (pair, gap) in windows.windows(2).zip(&gaps) {
            prop_assert_eq!((pair[0].to, pair[1].from), (gap.from, gap.to));
            prop_assert!(gap.from < gap.to);
        }
        for window in windows {
            for segment in window.from / S..window.to / S {
                prop_assert!(segments.remove(&segment));
            }
        }
        prop_assert!(segments.is_empty());
    }

    /// Whatever is stored and whatever history files say: each stretch has a window that ends with it, and no panic.
    #[test]
    fn any_forks_are_judged(made in proptest::collection::btree_map(0u32..6, (proptest::option::of((0u32..7, 0u64..2000)), proptest::collection::btree_set(0u64..200, 0..30)), 0..6)) {
        let branches: Branches = made.into_iter().map(|(number, (parent, segments))| (number, branch(parent, segments))).collect();
        let (windows, _) = judge(&branches);
        let stretches: usize = branches.values().map(|branch| branch.stretches.len()).sum();
        prop_assert_eq!(windows.len(), stretches);
        for window in windows {
            prop_assert!(window.from < window.to && window.first_branch <= window.branch);
        }
    }
}
