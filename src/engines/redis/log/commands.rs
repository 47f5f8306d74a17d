//! Finds where commands end in a stream of them. No I/O, and memory for the first words of one command.
//!
//! What a primary sends is arrays of strings and nothing else: whatever differs is an error.

use crate::base::error::{Error, Result};
use crate::base::exact;

/// Digits of a number of the protocol, at most.
const MAX_DIGITS: usize = 19;

/// Arguments of a command, and bytes of one: beyond what any server accepts.
const MAX_ARGUMENTS: u64 = 1 << 31;
const MAX_ARGUMENT_BYTES: u64 = 1 << 42;

/// Bytes of the first two words that are kept.
const WORD_BYTES: usize = 24;

/// Commands that no primary sends its replicas: they are about one server, not about its data. A server that loads them from a file would
/// carry them out.
const OF_ONE_SERVER: [&str; 16] = [
    "REPLICAOF",
    "SLAVEOF",
    "CONFIG",
    "MODULE",
    "DEBUG",
    "SHUTDOWN",
    "ACL",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "FAILOVER",
    "CLUSTER",
    "SYNC",
    "PSYNC",
    "CLIENT",
    "AUTH",
];

/// What of a command matters to whoever keeps or cuts the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandKind {
    /// The primary shows that it is there. It is no write.
    Ping,
    /// `REPLCONF GETACK`: the primary wants to know how far we are. It is no write.
    GetAck,
    /// Another `REPLCONF`, or what a primary tells its replicas of slots that move; no write either.
    OfLink,
    /// `TRIMSLOTS`: the keys of slots go that the node has given away. A server that is no node of a cluster refuses it.
    TrimSlots,
    /// What follows up to EXEC is applied as one.
    Multi,
    /// The end of that.
    Exec,
    /// Chooses a database.
    Select,
    /// One that is about one server, by its name: no primary sends it.
    OfOneServer(&'static str),
    /// Any other.
    Write,
}

impl CommandKind {
    /// Returns whether it belongs to the link between primary and replica and not to the data.
    pub(crate) fn is_of_link(self) -> bool {
        matches!(self, Self::Ping | Self::GetAck | Self::OfLink)
    }
}

/// A command of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command {
    /// The offset behind it.
    pub(crate) ends: u64,
    /// What it is.
    pub(crate) kind: CommandKind,
}

/// Where in a command the scanner is.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Before `*`.
    Begin,
    /// In the number of arguments.
    Count(Number),
    /// Before `$`.
    Argument,
    /// In the length of an argument.
    Length(Number),
    /// So many bytes of an argument are to come.
    Body(u64),
    /// Before the line end of an argument: CR, then LF.
    EndOfArgument { has_cr: bool },
}

/// A number that ends with its line.
#[derive(Debug, Clone, Copy, Default)]
struct Number {
    value: u64,
    digits: usize,
    has_cr: bool,
}

impl Number {
    /// Takes a byte; returns the number at its end.
    fn take(&mut self, byte: u8) -> Option<Taken> {
        match byte {
            b'0'..=b'9' if !self.has_cr && self.digits < MAX_DIGITS => {
                self.value = self.value * 10 + u64::from(byte - b'0');
                self.digits += 1;
                Some(Taken::More)
            }
            b'\r' if !self.has_cr && self.digits > 0 => {
                self.has_cr = true;
                Some(Taken::More)
            }
            b'\n' if self.has_cr => Some(Taken::Whole(self.value)),
            _ => None,
        }
    }
}

enum Taken {
    More,
    Whole(u64),
}

/// Follows a stream from the beginning of a command on.
#[derive(Debug, Clone)]
pub(crate) struct Scanner {
    /// Offset of the next byte.
    at: u64,
    step: Step,
    /// Arguments of the command that are to come, this one included.
    left: u64,
    /// The first two words, as far as they are kept.
    words: [Vec<u8>; 2],
    /// The word that comes now.
    word: usize,
}

impl Scanner {
    /// Begins at an offset where a command begins.
    pub(crate) fn new(at: u64) -> Self {
        Self {
            at,
            step: Step::Begin,
            left: 0,
            words: [const { Vec::new() }; 2],
            word: 0,
        }
    }

    /// Returns the offset of the next byte.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Takes bytes up to the end of one command, or all of them; returns how many, and the command if it ended.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<(usize, Option<Command>)> {
        let mut used = 0;
        while let Some(byte) = bytes.get(used).copied() {
            if let Step::Body(left) = self.step {
                let rest = exact::part(bytes, used.., "the byte there was just read");
                let piece = exact::first(rest, exact::usize_from(left));
                self.keep(piece);
                self.advance(piece.len());
                used += piece.len();
                let left = left.saturating_sub(exact::u64_from(piece.len()));
                self.step = match left {
                    0 => Step::EndOfArgument { has_cr: false },
                    left => Step::Body(left),
                };
                continue;
            }
            let ended = self.byte(byte)?;
            self.advance(1);
            used += 1;
            if ended {
                let command = Command {
                    ends: self.at,
                    kind: self.kind(),
                };
                return Ok((used, Some(command)));
            }
        }
        Ok((used, None))
    }

    /// Takes a byte that is no part of an argument; returns whether the command ends with it.
    fn byte(&mut self, byte: u8) -> Result<bool> {
        let step = match self.step {
            Step::Begin if byte == b'*' => {
                for word in &mut self.words {
                    word.clear();
                }
                self.word = 0;
                Some(Step::Count(Number::default()))
            }
            Step::Count(mut number) => match number.take(byte) {
                Some(Taken::More) => Some(Step::Count(number)),
                Some(Taken::Whole(count)) if (1..=MAX_ARGUMENTS).contains(&count) => {
                    self.left = count;
                    Some(Step::Argument)
                }
                _ => None,
            },
            Step::Argument if byte == b'$' => Some(Step::Length(Number::default())),
            Step::Length(mut number) => match number.take(byte) {
                Some(Taken::More) => Some(Step::Length(number)),
                Some(Taken::Whole(0)) => Some(Step::EndOfArgument { has_cr: false }),
                Some(Taken::Whole(length)) if length <= MAX_ARGUMENT_BYTES => Some(Step::Body(length)),
                _ => None,
            },
            Step::EndOfArgument { has_cr: false } if byte == b'\r' => Some(Step::EndOfArgument { has_cr: true }),
            Step::EndOfArgument { has_cr: true } if byte == b'\n' => {
                self.left -= 1;
                self.word += 1;
                if self.left == 0 {
                    self.step = Step::Begin;
                    return Ok(true);
                }
                Some(Step::Argument)
            }
            _ => None,
        };
        self.step = step.ok_or_else(|| self.strange(byte))?;
        Ok(false)
    }

    fn advance(&mut self, count: usize) {
        self.at = self.at.saturating_add(exact::u64_from(count));
    }

    /// Keeps the beginning of the first words.
    fn keep(&mut self, piece: &[u8]) {
        if let Some(word) = self.words.get_mut(self.word) {
            let room = WORD_BYTES.saturating_sub(word.len());
            word.extend_from_slice(exact::first(piece, room));
        }
    }

    fn kind(&self) -> CommandKind {
        let [name, first] = &self.words;
        let is = |word: &[u8], known: &str| word.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if is(name, "PING") => CommandKind::Ping,
            () if is(name, "REPLCONF") && is(first, "GETACK") => CommandKind::GetAck,
            () if is(name, "REPLCONF") => CommandKind::OfLink,
            // Redis 8.4, Valkey 8 and later.
            () if is(name, "CLUSTER") && (is(first, "SYNCSLOTS") || is(first, "SETSLOT")) => CommandKind::OfLink,
            () if is(name, "TRIMSLOTS") => CommandKind::TrimSlots,
            () if is(name, "MULTI") => CommandKind::Multi,
            () if is(name, "EXEC") => CommandKind::Exec,
            () if is(name, "SELECT") => CommandKind::Select,
            () => {
                let known = OF_ONE_SERVER.into_iter().find(|known| is(name, known));
                known.map_or(CommandKind::Write, CommandKind::OfOneServer)
            }
        }
    }

    fn strange(&self, byte: u8) -> Error {
        Error::corrupt(format!(
            "the command stream is not RESP at offset {}: unexpected '{}'",
            self.at,
            byte.escape_ascii()
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engines::redis::wire::resp::encode;

    fn stream() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&[b"SELECT", b"3"], &mut bytes);
        encode(&[b"ping"], &mut bytes);
        encode(&[b"MULTI"], &mut bytes);
        encode(&[b"SET", b"", b"a\r\n*1\r\n$4\r\nEXEC\r\n"], &mut bytes);
        encode(&[b"EXEC"], &mut bytes);
        encode(&[b"REPLCONF", b"GETACK", b"*"], &mut bytes);
        encode(&[b"REPLCONF", b"OTHER"], &mut bytes);
        bytes
    }

    fn commands(pieces: impl Iterator<Item = Vec<u8>>, from: u64) -> Result<Vec<Command>> {
        let (mut scanner, mut found) = (Scanner::new(from), Vec::new());
        for piece in pieces {
            let mut rest = piece.as_slice();
            while !rest.is_empty() {
                let (used, command) = scanner.next(rest)?;
                found.extend(command);
                rest = rest.get(used..).unwrap();
            }
        }
        Ok(found)
    }

    #[test]
    fn commands_end_where_they_do_however_they_come() {
        let bytes = stream();
        let whole = commands(std::iter::once(bytes.clone()), 1000).unwrap();
        let kinds: Vec<_> = whole.iter().map(|command| command.kind).collect();
        assert_eq!(
            kinds,
            [
                CommandKind::Select,
                CommandKind::Ping,
                CommandKind::Multi,
                CommandKind::Write,
                CommandKind::Exec,
                CommandKind::GetAck,
                CommandKind::OfLink
            ]
        );
        assert_eq!(whole.last().unwrap().ends, 1000 + exact::u64_from(bytes.len()));
        for size in [1, 2, 3, 7] {
            let pieces = bytes.chunks(size).map(<[u8]>::to_vec);
            assert_eq!(commands(pieces, 1000).unwrap(), whole, "{size}");
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        for wrong in [
            &b"PING\r\n"[..],
            b"\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*1\n",
            b"*\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$2\r\nabc\r\n",
            b"*1\r\n$99999999999999999999\r\n",
            b"*9223372036854775807\r\n",
            b"*1\r\n$9223372036854775807\r\n",
            b"*1\r\n$1\r\na\n",
        ] {
            let read = commands(std::iter::once(wrong.to_vec()), 0);
            assert!(read.is_err(), "{}", wrong.escape_ascii());
        }
        // Every byte of a stream that is not in an argument matters.
        let bytes = stream();
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            *other.get_mut(at).unwrap() ^= 0x80;
            let _ = commands(std::iter::once(other), 0);
        }
    }
}
