//! Windows and gaps of a log, out of what is stored of it.
//!
//! A log is written in branches: PostgreSQL's timelines. Each but the first continues another one from a position on. Stored
//! segments that follow one another are a stretch; a window is what a recovery can go through without a hole, over branches
//! as well; a gap is where two stretches of one branch do not meet, or a branch and the one that it came from. Nothing here
//! knows what a position means.

mod line;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use line::Line;

/// Segments that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Where the first begins.
    pub from: u64,
    /// Where the last ends.
    pub to: u64,
    /// How many they are.
    pub segments: u64,
}

/// What is stored of one branch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Branch {
    /// What it continues, and from where on; None for the first, and where nothing stored says it.
    pub parent: Option<Fork>,
    /// Its stretches, in the order of their positions.
    pub stretches: Vec<Stretch>,
}

/// Where a branch left another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// The branch that was left.
    pub branch: u32,
    /// The first position that is no longer its.
    pub at: u64,
}

/// Branches by their number; each has a higher one than the branch it came from.
pub type Branches = BTreeMap<u32, Branch>;

/// A part of the log that can be gone through without a hole, to the end of a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The branch that it ends on.
    pub branch: u32,
    /// The branch that it begins on.
    pub first_branch: u32,
    /// Where it begins.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
}

/// A part of the log that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The branch.
    pub branch: u32,
    /// Where the log before it ends.
    pub from: u64,
    /// Where it goes on.
    pub to: u64,
    /// Why it is one.
    pub why: Why,
}

/// Why there is a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The segments in between are not stored.
    Missing,
    /// What is stored of the branch begins behind the position from which it continues another one.
    BeginsLate,
    /// Nothing says what the branch continues.
    NoHistory,
}

impl Branch {
    /// Adds segments without a hole that come next in the order of positions: so many, of so many bytes together.
    pub fn add(&mut self, from: u64, bytes: u64, segments: u64) {
        let to = from.saturating_add(bytes);
        match self.stretches.last_mut() {
            Some(last) if last.to == from => {
                last.to = to;
                last.segments = last.segments.saturating_add(segments);
            }
            _ => self.stretches.push(Stretch { from, to, segments }),
        }
    }

    /// Returns the stretch that reaches a position from before it, or begins there.
    fn reaching(&self, at: u64) -> Option<usize> {
        self.stretches
            .iter()
            .position(|stretch| stretch.from <= at && at <= stretch.to)
    }
}

/// Decides what can be gone through, and what is missing: windows and gaps, each in the order of branches and positions.
pub fn judge(branches: &Branches) -> (Vec<Window>, Vec<Gap>) {
    let (mut windows, mut gaps): (Vec<Window>, Vec<Gap>) = (Vec::new(), Vec::new());
    // Where the log that leads to each stretch begins.
    let mut origins: BTreeMap<(u32, usize), (u32, u64)> = BTreeMap::new();
    for (&number, branch) in branches {
        for (at, stretch) in branch.stretches.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|before| branch.stretches.get(before));
            let mut origin = (number, stretch.from);
            match before {
                Some(before) => gaps.push(Gap {
                    branch: number,
                    from: before.to,
                    to: stretch.from,
                    why: Why::Missing,
                }),
                None => match joined(branches, number, branch, stretch) {
                    Ok(Some(parent)) => origin = origins.get(&parent).copied().unwrap_or(origin),
                    Ok(None) => {}
                    Err(gap) => gaps.push(gap),
                },
            }
            origins.insert((number, at), origin);
            windows.push(Window {
                branch: number,
                first_branch: origin.0,
                from: origin.1,
                to: stretch.to,
            });
        }
    }
    (windows, gaps)
}

/// Finds the stretch of another branch that the first stretch of a branch continues; None for a branch that continues nothing.
///
/// Of a branch between the two nothing may be stored: a server that was promoted twice within a segment archives that segment
/// under the last name alone. So the line is followed back as far as it is known.
fn joined(branches: &Branches, number: u32, branch: &Branch, first: &Stretch) -> Result<Option<(u32, usize)>, Gap> {
    let gap = |from: u64, why| Gap {
        branch: number,
        from,
        to: first.from,
        why,
    };
    let Some(fork) = branch.parent.filter(|fork| fork.branch < number) else {
        // The first branch needs none.
        return if number <= 1 {
            Ok(None)
        } else {
            Err(gap(first.from, Why::NoHistory))
        };
    };
    // A branch begins with a segment of its own that holds the fork, and what was before it.
    if first.from > fork.at {
        return Err(gap(fork.at, Why::BeginsLate));
    }
    // What of a branch lies behind the position at which its line was left does not lead here.
    let (mut line, mut left, mut before) = (fork, fork.at, None);
    loop {
        let ancestor = branches.get(&line.branch);
        left = left.min(line.at);
        let reached = ancestor.and_then(|ancestor| ancestor.reaching(first.from));
        if let Some(at) = reached.filter(|_| first.from <= left) {
            return Ok(Some((line.branch, at)));
        }
        let leading = ancestor.into_iter().flat_map(|ancestor| &ancestor.stretches);
        let ends = leading
            .filter(|stretch| stretch.from < left)
            .map(|stretch| stretch.to.min(left));
        before = before.max(ends.filter(|end| *end < first.from).max());
        let up = ancestor.and_then(|ancestor| ancestor.parent);
        match up.filter(|up| up.branch < line.branch) {
            Some(up) => line = up,
            None => break,
        }
    }
    match before {
        Some(from) => Err(gap(from, Why::Missing)),
        // Nothing is stored before it: the log begins here.
        None => Ok(None),
    }
}
