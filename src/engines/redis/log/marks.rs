//! Time marks of a stream: what had come by when, by the clock of the machine that received it.
//!
//! A mark of an offset and a time says that all of the stream before that offset had come by then. So what a server had done by a
//! moment holds all that the last mark before it names; what came up to a second later may belong to it too, and is left out.

use jiff::Timestamp;

use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::engines::redis::log::position::offset_of;

/// Marks of one stored object, at most: they are part of its descriptor.
pub(crate) const MOST: usize = 256;

/// Marks that wait for objects, at most: four hours of them. While a store is away for longer they are farther apart.
const MOST_WAITING: usize = 32 << 10;

/// By a time, all before an offset had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: u64,
    pub(crate) at: Timestamp,
}

/// Marks in order over all pieces of a history, bounded: where there are too many for one piece, or too many wait, every other one goes,
/// but the first and the last.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// The last one that was taken out, or stored by an earlier receiver: none comes before it.
    before: Option<Mark>,
    waiting: Vec<Mark>,
    /// Milliseconds between two that wait, at least: as far as those are apart that were thinned, so that all are.
    apart: i64,
}

impl Marks {
    /// Goes on behind a mark that is stored.
    pub(crate) fn behind(before: Option<Mark>) -> Self {
        Self {
            before,
            waiting: Vec::new(),
            apart: 0,
        }
    }

    /// Returns the last one, be it waiting or not.
    pub(crate) fn last(&self) -> Option<Mark> {
        self.waiting.last().copied().or(self.before)
    }

    /// Adds a mark. Of those of one offset the first and the last count: what lies between is the same. Returns false where it was
    /// left out because its time lies before that of another one: the clock was set back, and time goes on when it has caught up.
    pub(crate) fn add(&mut self, mark: Mark) -> bool {
        if self
            .last()
            .is_some_and(|last| mark.at < last.at || mark.offset < last.offset)
        {
            return false;
        }
        let same = self.waiting.iter().rev().take(2);
        let is_between = same.filter(|one| one.offset == mark.offset).count() == 2;
        let mut last_two = self.waiting.iter().rev().take(2).map(|one| one.at.as_millisecond());
        let is_close = match (last_two.next(), last_two.next()) {
            (Some(_), Some(before)) => mark.at.as_millisecond().saturating_sub(before) < self.apart.saturating_mul(2),
            _ => false,
        };
        // The last one stays until another one is as far behind it as all are.
        if is_between || is_close {
            self.waiting.pop();
        }
        self.waiting.push(mark);
        if self.waiting.len() > MOST_WAITING {
            let span = self.waiting.first().map_or(0, |first| {
                mark.at.as_millisecond().saturating_sub(first.at.as_millisecond())
            });
            thin(&mut self.waiting);
            let count = exact::saturating_i64(exact::u64_from(self.waiting.len()));
            self.apart = span / count.max(1);
        }
        true
    }

    /// Returns where an object has to end that is to have all its marks; None where there is room for all that wait.
    pub(crate) fn room_to(&self) -> Option<u64> {
        self.waiting.get(MOST..)?.first()?;
        self.waiting.get(MOST - 1).map(|mark| mark.offset)
    }

    /// Takes out the marks up to an offset; where there is none, the one before them once more, so that each piece tells a time.
    pub(crate) fn take_to(&mut self, offset: u64) -> Vec<Mark> {
        let later = self.waiting.iter().position(|mark| mark.offset > offset);
        let rest = later.map(|at| self.waiting.split_off(at)).unwrap_or_default();
        let mut taken = std::mem::replace(&mut self.waiting, rest);
        self.before = taken.last().copied().or(self.before);
        if self.waiting.is_empty() {
            self.apart = 0;
        }
        while taken.len() > MOST {
            thin(&mut taken);
        }
        if taken.is_empty() {
            return self.before.into_iter().collect();
        }
        taken
    }
}

/// Leaves out every other one, but the last.
fn thin(marks: &mut Vec<Mark>) {
    let last = marks.len().saturating_sub(1);
    let mut at = 0;
    marks.retain(|_| {
        let stays = at % 2 == 0 || at == last;
        at += 1;
        stays
    });
}

/// Writes marks: `offset@milliseconds` since 1970, with blanks between.
pub(crate) fn encode(marks: &[Mark]) -> String {
    let texts = marks
        .iter()
        .map(|mark| format!("{}@{}", mark.offset, mark.at.as_millisecond()));
    texts.collect::<Vec<_>>().join(" ")
}

/// Reads marks of an object that ends before `to`; they must be in order.
pub(crate) fn decode(text: &str, to: u64) -> Result<Vec<Mark>> {
    let wrong = || Error::corrupt("its time marks cannot be read");
    let mut marks: Vec<Mark> = Vec::new();
    for word in text.split_ascii_whitespace() {
        let (offset, at) = word.split_once('@').ok_or_else(wrong)?;
        let at = at.parse().map_err(|_| wrong())?;
        let mark = Mark {
            offset: offset_of(offset)?,
            at: Timestamp::from_millisecond(at).map_err(|_| wrong())?,
        };
        let follows = |last: &Mark| last.at <= mark.at && last.offset <= mark.offset;
        if mark.offset > to || marks.len() == MOST || !marks.last().is_none_or(follows) {
            return Err(wrong());
        }
        marks.push(mark);
    }
    Ok(marks)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mark(offset: u64, second: i64) -> Mark {
        Mark {
            offset,
            at: Timestamp::from_second(second).unwrap(),
        }
    }

    #[test]
    fn marks_are_bounded_and_say_from_when_to_when_nothing_came() {
        let mut marks = Marks::default();
        for (offset, second) in [(5, 1), (9, 2), (9, 3), (9, 4), (12, 5)] {
            assert!(marks.add(mark(offset, second)));
            assert!(!marks.add(mark(offset, second - 1)));
        }
        let first = marks.take_to(9);
        assert_eq!(first, [mark(5, 1), mark(9, 2), mark(9, 4)]);
        assert_eq!(decode(&encode(&first), 9).unwrap(), first);
        assert_eq!(marks.take_to(u64::MAX), [mark(12, 5)]);
        let mut marks = Marks::default();
        for n in 0..5000 {
            marks.add(mark(u64::try_from(n).unwrap(), n));
        }
        let all = marks.take_to(u64::MAX);
        assert!(all.len() <= MOST, "{}", all.len());
        assert_eq!((all.first(), all.last()), (Some(&mark(0, 0)), Some(&mark(4999, 4999))));
        // A descriptor has room for 16 KiB.
        let longest = vec![mark(u64::MAX >> 1, 253_402_207_200); MOST];
        assert!(encode(&longest).len() < 12 << 10);
    }

    #[test]
    fn marks_that_wait_for_long_are_all_as_far_apart() {
        let mut marks = Marks::default();
        let count = 200_000_i64;
        for n in 0..count {
            assert!(marks.add(mark(u64::try_from(n).unwrap(), n)));
        }
        assert!(marks.waiting.len() <= MOST_WAITING && marks.waiting.len() > MOST_WAITING / 8);
        let seconds = |two: &[Mark]| two.last().unwrap().at.as_second() - two.first().unwrap().at.as_second();
        let farthest = marks.waiting.windows(2).map(seconds).max().unwrap();
        let mean = count / i64::try_from(marks.waiting.len()).unwrap();
        assert!(farthest <= 4 * mean.max(1), "{farthest} of {mean}");
        assert_eq!(marks.last(), Some(mark(199_999, 199_999)));
        // Objects that end where there is room have all of them.
        let mut taken = 0;
        while let Some(to) = marks.room_to() {
            let own = marks.take_to(to);
            assert!(own.len() <= MOST);
            taken += own.len();
        }
        assert!(taken + marks.take_to(u64::MAX).len() > MOST_WAITING / 8);
    }

    #[test]
    fn marks_go_on_behind_those_of_the_pieces_before() {
        let mut marks = Marks::behind(Some(mark(5, 10)));
        // The clock was set back, or is that of another machine: nothing is told until it has caught up.
        assert!(!marks.add(mark(9, 8)));
        assert_eq!(
            marks.take_to(9),
            [mark(5, 10)],
            "of a piece without a mark, the last one before it"
        );
        assert!(marks.add(mark(12, 10)) && marks.add(mark(15, 11)));
        assert_eq!(marks.take_to(12), [mark(12, 10)]);
        assert_eq!(marks.take_to(20), [mark(15, 11)]);
        assert!(!marks.add(mark(20, 10)));
        assert_eq!(marks.last(), Some(mark(15, 11)));
        assert_eq!(Marks::default().take_to(9), []);
    }

    #[test]
    fn forged_marks_are_refused() {
        for wrong in [
            "5",
            "5@",
            "@5",
            "6@1",
            "5@x",
            "5@9223372036854775807",
            "3@2 4@1",
            "4@1 3@2",
            "-1@1",
        ] {
            assert!(decode(wrong, 5).is_err(), "{wrong}");
        }
        assert_eq!(decode("", 5).unwrap(), []);
    }
}
