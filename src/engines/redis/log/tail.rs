//! The last bytes of a stream that came. A server that goes on behind them is asked for them once more: one that went back to an
//! older state in the meantime, as a machine does that is brought back from a snapshot of it, has others there.

use std::collections::VecDeque;

use crate::base::exact;

/// Bytes that are remembered, at most.
pub(crate) const TAIL_BYTES: usize = 64 << 10;

/// The bytes before an offset, the last of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tail {
    to: u64,
    bytes: VecDeque<u8>,
}

impl Tail {
    /// Nothing is known of what lies before an offset.
    pub(crate) fn at(to: u64) -> Self {
        Self {
            to,
            bytes: VecDeque::new(),
        }
    }

    /// The offset of the first byte that is known.
    pub(crate) fn from(&self) -> u64 {
        self.to.saturating_sub(exact::u64_from(self.bytes.len()))
    }

    /// The offset behind the last byte.
    pub(crate) fn to(&self) -> u64 {
        self.to
    }

    /// Adds what follows.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.to = self.to.saturating_add(exact::u64_from(bytes.len()));
        let last = exact::last(bytes, TAIL_BYTES);
        let over = self.bytes.len().saturating_add(last.len()).saturating_sub(TAIL_BYTES);
        self.bytes.drain(..over.min(self.bytes.len()));
        self.bytes.extend(last);
    }

    /// Forgets what lies at an offset and behind it.
    pub(crate) fn cut(&mut self, to: u64) {
        let over = exact::usize_from(self.to.saturating_sub(to));
        self.bytes.truncate(self.bytes.len().saturating_sub(over));
        self.to = self.to.min(to);
    }

    /// Returns whether bytes that begin at an offset are those that are known, as far as some are.
    pub(crate) fn agrees(&self, at: u64, bytes: &[u8]) -> bool {
        let skipped = exact::usize_from(self.from().saturating_sub(at));
        let bytes = exact::part(bytes, skipped.min(bytes.len()).., "no more is skipped than there is");
        let known = exact::usize_from(at.saturating_sub(self.from()));
        self.bytes
            .iter()
            .skip(known)
            .zip(bytes)
            .all(|(one, other)| one == other)
    }
}

/// A stream that is put together from pieces, which may overlap: two receivers may have stored the same part.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    tail: Tail,
    /// The offset of the next byte that is read.
    next: u64,
    agrees: bool,
}

impl Joined {
    /// Begins at an offset, with nothing.
    pub(crate) fn at(offset: u64) -> Self {
        Self {
            tail: Tail::at(offset),
            next: offset,
            agrees: true,
        }
    }

    /// Takes note that a piece follows: it begins where the ones before it end, or earlier.
    pub(crate) fn begin(&mut self, from: u64) {
        self.next = from;
    }

    /// Takes bytes of a piece, and returns those that are new. Others are compared, as far as they are still at hand.
    pub(crate) fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let known = exact::usize_from(self.tail.to.saturating_sub(self.next)).min(bytes.len());
        self.agrees &= self.tail.agrees(self.next, exact::first(bytes, known));
        self.next = self.next.saturating_add(exact::u64_from(bytes.len()));
        let new = exact::part(bytes, known.., "no more is known than there is");
        self.tail.push(new);
        new
    }

    /// Returns whether what came twice was the same.
    pub(crate) fn agrees(&self) -> bool {
        self.agrees
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_overlap_are_one_stream_if_they_have_the_same_bytes() {
        let mut joined = Joined::at(100);
        joined.begin(100);
        assert_eq!((joined.take(b"abc"), joined.take(b"def")), (&b"abc"[..], &b"def"[..]));
        joined.begin(102);
        assert_eq!((joined.take(b"cd"), joined.take(b"efgh")), (&b""[..], &b"gh"[..]));
        assert!(joined.agrees());
        joined.begin(107);
        assert_eq!((joined.take(b"xi"), joined.agrees()), (&b"i"[..], false));
    }

    #[test]
    fn the_last_bytes_are_compared_wherever_they_come_again() {
        let mut tail = Tail::at(100);
        assert!(tail.agrees(90, b"anything"));
        tail.push(b"abcdef");
        assert_eq!((tail.from(), tail.to()), (100, 106));
        for (at, bytes, agrees) in [
            (100, &b"abcdefgh"[..], true),
            (102, b"cd", true),
            (98, b"??ab", true),
            (90, b"??", true),
            (106, b"?", true),
            (200, b"?", true),
            (100, b"abcdeg", false),
            (105, b"e", false),
            (98, b"??b", false),
        ] {
            assert_eq!(tail.agrees(at, bytes), agrees, "{at}");
        }
        tail.cut(103);
        assert!(tail.agrees(100, b"abcxyz") && !tail.agrees(100, b"abx"));
        assert_eq!((tail.from(), tail.to()), (100, 103));
        tail.cut(50);
        assert_eq!((tail.from(), tail.to()), (50, 50));
        let mut long = Tail::at(0);
        for _ in 0..9 {
            long.push(&[1; 10_000]);
        }
        long.push(&[2; 3]);
        assert_eq!(long.to() - long.from(), exact::u64_from(TAIL_BYTES));
        assert!(long.agrees(90_000, &[2; 3]) && !long.agrees(89_999, &[2; 3]));
        long.push(&vec![3; TAIL_BYTES + 1]);
        assert!(long.agrees(90_004, &[3; 9]) && long.bytes.len() == TAIL_BYTES);
    }
}
