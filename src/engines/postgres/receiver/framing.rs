//! What a WAL sender says within its copy, and what it is told. No I/O.
//!
//! ```text
//! 'w'  u64 position of the data, u64 end of the log there, i64 time, data      'r'  u64 written, u64 flushed, u64 applied,
//! 'k'  u64 end of what was sent, i64 time, u8 whether to answer                     i64 time, u8 whether to answer
//! ```
//!
//! Numbers are big-endian, times microseconds since 2000 by the clock of whoever says them.

use jiff::Timestamp;

use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::engines::postgres::wal::{Lsn, microseconds, timestamp};
use crate::engines::postgres::wire::copy_out::RowPiece;

/// Bytes in front of data.
const DATA_HEADER: usize = 25;
/// Bytes of a keepalive.
const ALIVE: usize = 18;

/// What a server says in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// The log goes on with these bytes.
    Log {
        /// Position of the first.
        at: Lsn,
        /// They may be none.
        bytes: &'a [u8],
        /// When the message that they are of was sent, by the server's clock.
        sent: Timestamp,
        /// Where the server's log ended then.
        end: Lsn,
    },
    /// Nothing new.
    Alive {
        /// All that the server has was sent up to here.
        end: Lsn,
        /// When it said so, by its clock.
        sent: Timestamp,
        /// Whether it wants to hear at once how far the log is kept.
        wants_answer: bool,
    },
}

/// What [`Framing::take`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Data of the log, which begin so many bytes behind the beginning of the piece.
    Log {
        at: Lsn,
        header: usize,
        sent: Timestamp,
        end: Lsn,
    },
    /// As [`Said::Alive`].
    Alive(Said<'static>),
}

/// Puts messages together, whose pieces come as the connection has them. Of each only the header is held.
#[derive(Debug)]
pub(super) struct Framing {
    header: [u8; DATA_HEADER],
    have: usize,
    /// Of the data at work.
    at: Lsn,
    sent: Timestamp,
    end: Lsn,
}

impl Framing {
    /// Begins between two messages.
    pub(super) fn new() -> Self {
        Self {
            header: [0; DATA_HEADER],
            have: 0,
            at: Lsn(0),
            sent: Timestamp::UNIX_EPOCH,
            end: Lsn(0),
        }
    }

    /// Takes a piece of a message; `None` if it says nothing yet.
    pub(super) fn take(&mut self, piece: &RowPiece<'_>) -> Result<Option<Found>> {
        if piece.starts.is_some() {
            self.have = 0;
        }
        let before = self.have;
        let new = exact::first(piece.bytes, DATA_HEADER - before);
        let room = exact::part_mut(&mut self.header, before.., "no more than a header is held");
        room.iter_mut().zip(new).for_each(|(to, from)| *to = *from);
        self.have += new.len();
        match self.header.first() {
            _ if self.have == 0 => return Ok(None),
            Some(b'w') if self.have < DATA_HEADER && piece.ends => return Err(short()),
            Some(b'w') if self.have < DATA_HEADER => return Ok(None),
            Some(b'w') => {}
            Some(b'k') if piece.ends && self.have == ALIVE => return self.alive().map(Found::Alive).map(Some),
            Some(b'k') if piece.ends || self.have > ALIVE => return Err(short()),
            // The rest of it is to come; or it is of a kind that a later version has.
            _ => return Ok(None),
        }
        if before < DATA_HEADER {
            self.at = Lsn(self.number(1)?);
            self.end = Lsn(self.number(9)?);
            self.sent = timestamp(self.number(17)?.cast_signed())?;
        }
        let at = self.at;
        let (header, sent, end) = (new.len(), self.sent, self.end);
        let length = exact::u64_from(piece.bytes.len() - header);
        let next = at.0.checked_add(length);
        self.at = Lsn(next.ok_or_else(|| Error::corrupt("the server sends a log beyond its last position"))?);
        Ok((length > 0).then_some(Found::Log { at, header, sent, end }))
    }

    fn alive(&self) -> Result<Said<'static>> {
        Ok(Said::Alive {
            end: Lsn(self.number(1)?),
            sent: timestamp(self.number(9)?.cast_signed())?,
            wants_answer: self.header.get(17) == Some(&1),
        })
    }

    fn number(&self, at: usize) -> Result<u64> {
        let bytes = exact::range(&self.header, at.., "a message of the server")?.first_chunk();
        bytes.copied().map(u64::from_be_bytes).ok_or_else(short)
    }
}

fn short() -> Error {
    Error::corrupt("a message within the server's log has another length than its kind has")
}

/// Returns the message that says how far the log was received, and how far it is kept. What is applied is left out: nobody may
/// take it for a standby that does.
pub(super) fn status(received: Lsn, kept: Lsn, now: Timestamp, asks: bool) -> [u8; 34] {
    let mut message = [0; 34];
    let numbers = [received.0, kept.0, 0, microseconds(now).cast_unsigned()];
    let (kind, rest) = message.split_at_mut(1);
    kind.fill(b'r');
    for (to, number) in rest.chunks_mut(8).zip(numbers) {
        to.copy_from_slice(&number.to_be_bytes());
    }
    if let Some(last) = rest.last_mut() {
        *last = u8::from(asks);
    }
    message
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn data(at: u64, bytes: &[u8]) -> Vec<u8> {
        let header = [&b"w"[..], &at.to_be_bytes(), &[0; 8], &1_000_000_i64.to_be_bytes()].concat();
        [&header, bytes].concat()
    }

    /// Feeds a message in pieces of `size`; returns the data that came, by their positions.
    fn fed(framing: &mut Framing, message: &[u8], size: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut found = Vec::new();
        let count = message.len().div_ceil(size);
        for (number, bytes) in message.chunks(size).enumerate() {
            let piece = RowPiece {
                bytes,
                starts: (number == 0).then_some(message.len()),
                ends: number + 1 == count,
            };
            match framing.take(&piece)? {
                Some(Found::Log { at, header, .. }) => found.push((at.0, bytes[header..].to_vec())),
                Some(Found::Alive(Said::Alive { end, wants_answer, .. })) => {
                    found.push((end.0, vec![u8::from(wants_answer)]));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    #[test]
    fn data_come_whole_however_they_are_cut() {
        let bytes: Vec<u8> = (0..200).collect();
        for size in 1..=300 {
            let mut framing = Framing::new();
            for at in [0x300_0000_u64, 7] {
                let found = fed(&mut framing, &data(at, &bytes), size).unwrap();
                let mut expected = at;
                for (at, piece) in &found {
                    assert_eq!(*at, expected);
                    expected += u64::try_from(piece.len()).unwrap();
                }
                assert_eq!(
                    found.into_iter().flat_map(|(_, piece)| piece).collect::<Vec<_>>(),
                    bytes
                );
            }
        }
    }

    #[test]
    fn keepalives_are_read_and_what_is_new_is_passed_over() {
        let alive = [&b"k"[..], &9_u64.to_be_bytes(), &[0; 8], &[1]].concat();
        for size in 1..=20 {
            assert_eq!(fed(&mut Framing::new(), &alive, size).unwrap(), [(9, vec![1])]);
        }
        assert_eq!(fed(&mut Framing::new(), b"z is unknown", 5).unwrap(), []);
        assert_eq!(fed(&mut Framing::new(), &data(5, b""), 30).unwrap(), []);
    }

    #[test]
    fn other_lengths_and_positions_are_refused() {
        let alive = [&b"k"[..], &9_u64.to_be_bytes(), &[0; 8], &[1]].concat();
        for (message, why) in [
            (&alive[..17], "a keepalive that is cut"),
            (&[&alive[..], b"x"].concat(), "a longer one"),
            (&data(1, b"")[..24], "data without their header"),
            (&data(u64::MAX, b"abc"), "a position that ends"),
        ] {
            assert!(fed(&mut Framing::new(), message, 64).is_err(), "{why}");
        }
        let mut late = data(1, b"x");
        late.splice(17..25, i64::MAX.to_be_bytes());
        assert!(fed(&mut Framing::new(), &late, 64).is_err());
    }

    #[test]
    fn a_status_says_what_is_kept_and_nothing_of_what_is_applied() {
        let now = "2000-01-01T00:00:01Z".parse().unwrap();
        let message = status(Lsn(0x10), Lsn(0x8), now, true);
        let expected = [
            &b"r"[..],
            &0x10_u64.to_be_bytes(),
            &8_u64.to_be_bytes(),
            &[0; 8],
            &1_000_000_i64.to_be_bytes(),
            &[1],
        ];
        assert_eq!(message.as_slice(), expected.concat());
    }
}
