//! Time marks of a stream: what had come by when, by the clock of the machine that received it.
//!
//! A mark of an offset and a time says that all of the stream before that offset had come by then. So what a server had done by a
//! moment holds all that the last mark before it names; what came up to a second later may belong to it too, and is left out.

use jiff::Timestamp;

use crate::base::error::{Error, Result};
use crate::engines::redis::log::position::offset_of;

/// Marks of one stored object, at most: they are part of its descriptor.
pub(crate) const MOST: usize = 256;

/// By a time, all before an offset had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: u64,
    pub(crate) at: Timestamp,
}

/// Marks in order, bounded: where there are too many, every other one goes, but the first and the last.
#[derive(Debug, Default)]
pub(crate) struct Marks(Vec<Mark>);

impl Marks {
    /// Adds a mark. Of those of one offset the first and the last count: what lies between is the same.
    pub(crate) fn add(&mut self, mark: Mark) {
        if self
            .0
            .last()
            .is_some_and(|last| mark.at < last.at || mark.offset < last.offset)
        {
            // The clock was set back: time goes on when it has caught up.
            return;
        }
        let same = self.0.iter().rev().take(2).filter(|one| one.offset == mark.offset);
        if same.count() == 2 {
            self.0.pop();
        }
        self.0.push(mark);
        if self.0.len() > MOST {
            self.thin();
        }
    }

    fn thin(&mut self) {
        let last = self.0.len() - 1;
        let mut at = 0;
        self.0.retain(|_| {
            let stays = at % 2 == 0 || at == last;
            at += 1;
            stays
        });
    }

    /// Takes out the marks up to an offset.
    pub(crate) fn take_to(&mut self, offset: u64) -> Vec<Mark> {
        let later = self.0.iter().position(|mark| mark.offset > offset);
        let rest = later.map(|at| self.0.split_off(at)).unwrap_or_default();
        std::mem::replace(&mut self.0, rest)
    }
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
        for (offset, second) in [(5, 1), (9, 2), (9, 3), (9, 4), (9, 2), (12, 5)] {
            marks.add(mark(offset, second));
        }
        let first = marks.take_to(9);
        assert_eq!(first, [mark(5, 1), mark(9, 2), mark(9, 4)]);
        assert_eq!(decode(&encode(&first), 9).unwrap(), first);
        assert_eq!(marks.take_to(u64::MAX), [mark(12, 5)]);
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
