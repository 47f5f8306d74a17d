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

#[cfg(test)]
mod tests {
    use super::*;

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
