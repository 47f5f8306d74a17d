//! Codec of COPY OUT: takes the rows out of the server's messages where they lie. No I/O.
//!
//! The server sends one CopyData message per row in both formats, so a message's length is its row's length and is
//! known before its first byte: a chunk can be ended before a row that would not fit. A row is never collected here;
//! its bytes are handed on as ranges of the caller's read buffer. Only other messages (errors, notices, completion) are
//! collected, and their length is bounded, so a forged length cannot make memory grow.
//!
//! Protocol: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY>

use std::ops::Range;

use crate::base::error::{Error, Result};
use crate::base::exact;

/// Longest message other than CopyData, in bytes. Errors quote at most a line or two.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Longest CopyData the server can make: it builds the row in one buffer of at most 1 GiB.
const MAX_ROW_BYTES: u32 = 1 << 30;

/// What [`CopyDecoder::step`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Bytes `range` of the input belong to a row.
    Row {
        /// Where in the input; may be empty for the start of a row.
        range: Range<usize>,
        /// Length of the whole row if it begins here.
        starts: Option<usize>,
        /// Whether the row ends here.
        ends: bool,
    },
    /// A whole other message.
    Message {
        /// Its type byte.
        tag: u8,
        /// Its body without the length.
        body: Vec<u8>,
    },
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; 5], have: usize },
    Row { left: usize, started: bool },
    Message { tag: u8, body: Vec<u8>, left: usize },
}

const START: State = State::Header { bytes: [0; 5], have: 0 };

/// Cuts the server's bytes into events.
#[derive(Debug)]
pub(crate) struct CopyDecoder {
    state: State,
}

impl CopyDecoder {
    /// Begins at a message boundary.
    pub(crate) fn new() -> Self {
        Self { state: START }
    }

    /// Takes bytes off the front of `input`. Returns how many, and the event they made, if any; when no event came all
    /// of the input was taken.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<(usize, Option<Event>)> {
        let mut used = 0;
        if let State::Header { bytes, have } = &mut self.state {
            let missing = exact::part_mut(bytes, *have.., "a whole header ends this state");
            let count = missing.len().min(input.len());
            for (to, from) in missing.iter_mut().zip(input) {
                *to = *from;
            }
            *have += count;
            used = count;
            if *have < 5 {
                return Ok((used, None));
            }
            self.state = begin(*bytes)?;
        }
        let rest = exact::part(input, used.., "no more is used than there is");
        match &mut self.state {
            State::Header { .. } => Ok((used, None)),
            State::Row { left, started } => {
                if rest.is_empty() && *left > 0 {
                    return Ok((used, None));
                }
                let count = rest.len().min(*left);
                let starts = (!*started).then_some(*left);
                *left -= count;
                *started = true;
                let ends = *left == 0;
                if ends {
                    self.state = START;
                }
                Ok((
                    used + count,
                    Some(Event::Row {
                        range: used..used + count,
                        starts,
                        ends,
                    }),
                ))
            }
            State::Message { tag, body, left } => {
                let piece = exact::first(rest, *left);
                let count = piece.len();
                body.extend_from_slice(piece);
                *left -= count;
                if *left > 0 {
                    return Ok((used + count, None));
                }
                let event = Event::Message {
                    tag: *tag,
                    body: std::mem::take(body),
                };
                self.state = START;
                Ok((used + count, Some(event)))
            }
        }
    }
}

fn begin(header: [u8; 5]) -> Result<State> {
    let [tag, a, b, c, d] = header;
    let length = u32::from_be_bytes([a, b, c, d]);
    let forged = || Error::corrupt(format!("message '{}' announces {length} bytes", tag.escape_ascii()));
    let body = length.checked_sub(4).ok_or_else(forged)?;
    let left = usize::try_from(body).map_err(|_| forged())?;
    if tag == b'd' {
        if body > MAX_ROW_BYTES {
            return Err(forged());
        }
        return Ok(State::Row { left, started: false });
    }
    if left > MAX_MESSAGE_BYTES || !matches!(tag, b'c' | b'C' | b'Z' | b'E' | b'N' | b'S' | b'A') {
        return Err(forged().with_hint("The connection is damaged, or the peer is not PostgreSQL."));
    }
    Ok(State::Message {
        tag,
        body: Vec::new(),
        left,
    })
}

/// A piece of a row of COPY OUT.
#[derive(Debug)]
pub struct RowPiece<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Length of the whole row if it begins here.
    pub starts: Option<usize>,
    /// Whether the row ends here.
    pub ends: bool,
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::type_complexity
    )]
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// Runs pieces through a decoder and joins each row again, checking that its announced length is true.
    fn decode(pieces: &[&[u8]]) -> Result<(Vec<Vec<u8>>, Vec<(u8, Vec<u8>)>)> {
        let mut decoder = CopyDecoder::new();
        let (mut rows, mut messages, mut row, mut announced) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for piece in pieces {
            let mut at = 0;
            loop {
                let input = &piece[at..];
                let (used, event) = decoder.step(input)?;
                match event {
                    Some(Event::Row { range, starts, ends }) => {
                        if let Some(len) = starts {
                            announced = len;
                            assert!(row.is_empty());
                        }
                        row.extend_from_slice(&input[range]);
                        if ends {
                            assert_eq!(row.len(), announced);
                            rows.push(std::mem::take(&mut row));
                        }
                    }
                    Some(Event::Message { tag, body }) => messages.push((tag, body)),
                    None => assert_eq!(used, input.len()),
                }
                at += used;
                if at == piece.len() {
                    break;
                }
            }
        }
        Ok((rows, messages))
    }

    fn conversation() -> Vec<u8> {
        let mut bytes = Vec::new();
        for row in [&b"1\ta\n"[..], b"\n", b"", b"2\tsome longer text\n"] {
            bytes.extend(message(b'd', row));
        }
        bytes.extend(message(b'N', b"SNOTICE\0\0"));
        bytes.extend(message(b'd', b"3\t\\N\n"));
        bytes.extend(message(b'c', b""));
        bytes.extend(message(b'C', b"COPY 5\0"));
        bytes.extend(message(b'Z', b"I"));
        bytes
    }

    #[test]
    fn every_cut_gives_the_same_rows() {
        let bytes = conversation();
        let whole = decode(&[&bytes]).unwrap();
        assert_eq!(whole.0.len(), 5);
        assert_eq!(whole.1.iter().map(|m| m.0).collect::<Vec<_>>(), b"NcCZ");
        for first in 0..bytes.len() {
            for second in [first, (first + 1).min(bytes.len()), (first + 7).min(bytes.len())] {
                assert_eq!(
                    decode(&[&bytes[..first], &bytes[first..second], &bytes[second..]]).unwrap(),
                    whole
                );
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single).unwrap(), whole);
    }

    #[test]
    fn forged_lengths_and_tags_are_refused_without_allocating() {
        for forged in [
            &b"E\x7f\xff\xff\xff"[..],
            b"d\x00\x00\x00\x03",
            b"d\xff\xff\xff\xff",
            b"Z\x00\x00\x00\x00",
            b"X\x00\x00\x00\x04",
            b"\x00\x00\x00\x00\x10",
        ] {
            assert!(decode(&[forged]).is_err(), "{forged:?}");
        }
    }
}
