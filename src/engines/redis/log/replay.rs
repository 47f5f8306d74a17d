//! Makes of a command stream what a server takes of it: whole commands and whole transactions up to an offset.
//!
//! Left out is what belongs to the link (PING, REPLCONF). The stream is parsed strictly, and what no primary sends its replicas is an
//! error. The end of a transaction may be far behind its beginning, so some of one may have gone out of which the end never comes: where
//! it goes says what becomes of that.

use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::engines::redis::log::commands::{Command, CommandKind, Scanner};
use crate::engines::redis::wire::resp;

/// A command is held so far before it goes out: those that are left out are shorter.
const HELD_BYTES: usize = 64 << 10;

/// Where commands go.
pub(crate) trait CommandSink {
    /// Takes the next bytes; `is_whole` says whether a command, and a transaction if there was one, ends with them.
    fn put(&mut self, bytes: &[u8], is_whole: bool) -> Result<()>;
}

/// Takes commands and keeps none: whether a stream can be replayed is found out so.
#[derive(Debug)]
pub(crate) struct Nowhere;

impl CommandSink for Nowhere {
    fn put(&mut self, _: &[u8], _: bool) -> Result<()> {
        Ok(())
    }
}

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// The offset behind the last command that counts.
    pub(crate) offset: u64,
    /// Commands, without those of the link.
    pub(crate) commands: u64,
    /// Bytes of them, with the SELECT in front.
    pub(crate) bytes: u64,
    /// Those of them that only a node of a cluster carries out.
    pub(crate) trims: u64,
}

/// Sends the commands of a stream up to an offset to where they go.
#[derive(Debug)]
pub(crate) struct Replay<S> {
    scanner: Scanner,
    until: u64,
    out: S,
    /// Bytes that went out.
    length: u64,
    /// The command that comes, as far as it has not gone out.
    held: Vec<u8>,
    /// Whether some of it has gone out.
    is_begun: bool,
    in_block: bool,
    commands: u64,
    trims: u64,
    /// Up to the last command that stands alone, or the end of the last block.
    whole: Replayed,
}

impl<S: CommandSink> Replay<S> {
    /// Begins at an offset where a command begins, with the choice of the database that the stream goes on in.
    pub(crate) fn begin(mut out: S, first: u64, until: u64, database: u32) -> Result<Self> {
        let mut select = Vec::new();
        resp::encode(&[b"SELECT", database.to_string().as_bytes()], &mut select);
        out.put(&select, true)?;
        let length = exact::u64_from(select.len());
        Ok(Self {
            scanner: Scanner::new(first),
            until,
            out,
            length,
            held: Vec::new(),
            is_begun: false,
            in_block: false,
            commands: 0,
            trims: 0,
            whole: Replayed {
                offset: first,
                commands: 0,
                bytes: length,
                trims: 0,
            },
        })
    }

    /// Returns the offset of the next byte.
    pub(crate) fn at(&self) -> u64 {
        self.scanner.at()
    }

    /// Takes the next bytes of the stream; what lies behind the offset where it ends is left aside.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        let left = self.until.saturating_sub(self.scanner.at());
        let mut rest = exact::first(bytes, exact::usize_from(left));
        while !rest.is_empty() {
            let (used, command) = self.scanner.next(rest)?;
            let (piece, behind) = rest
                .split_at_checked(used)
                .ok_or_else(|| Error::corrupt("a command ends behind its bytes"))?;
            rest = behind;
            self.held.extend_from_slice(piece);
            match command {
                Some(command) => self.command(command)?,
                None if self.held.len() > HELD_BYTES => {
                    self.put(false)?;
                    self.is_begun = true;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn put(&mut self, is_whole: bool) -> Result<()> {
        self.out.put(&self.held, is_whole)?;
        self.length = self.length.saturating_add(exact::u64_from(self.held.len()));
        self.held.clear();
        Ok(())
    }

    fn command(&mut self, command: Command) -> Result<()> {
        let strange = |what: &str| Err(Error::corrupt(format!("{what} ends at offset {}", command.ends)));
        let begun = std::mem::replace(&mut self.is_begun, false);
        match (command.kind, self.in_block) {
            (kind, _) if kind.is_of_link() => {
                if begun {
                    return strange("a command of the replication link that is none");
                }
                self.held.clear();
                if !self.in_block {
                    self.whole.offset = command.ends;
                }
                return Ok(());
            }
            (CommandKind::OfOneServer(name), _) => {
                return strange(&format!("{name}, which no primary sends,"));
            }
            (CommandKind::Multi, true) => return strange("a transaction within another one"),
            (CommandKind::Exec, false) => return strange("a transaction without a beginning"),
            (CommandKind::Multi, false) => self.in_block = true,
            (CommandKind::Exec, true) => self.in_block = false,
            (CommandKind::TrimSlots, _) => self.trims = self.trims.saturating_add(1),
            _ => {}
        }
        self.put(!self.in_block)?;
        self.commands = self.commands.saturating_add(1);
        if !self.in_block {
            self.whole = Replayed {
                offset: command.ends,
                commands: self.commands,
                bytes: self.length,
                trims: self.trims,
            };
        }
        Ok(())
    }

    /// Ends it; returns where the commands went, and how far they count.
    pub(crate) fn end(self) -> (S, Replayed) {
        (self.out, self.whole)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::error::ErrorKind;

    /// Keeps what came, and how far it was whole.
    #[derive(Default)]
    struct Kept(Vec<u8>, usize);

    impl CommandSink for Kept {
        fn put(&mut self, bytes: &[u8], is_whole: bool) -> Result<()> {
            self.0.extend_from_slice(bytes);
            if is_whole {
                self.1 = self.0.len();
            }
            Ok(())
        }
    }

    fn write(stream: &[u8], size: usize, until: u64) -> Result<(Replayed, Vec<u8>)> {
        let mut replay = Replay::begin(Kept::default(), 100, until, 0)?;
        for piece in stream.chunks(size) {
            replay.feed(piece)?;
        }
        let (Kept(mut bytes, whole), replayed) = replay.end();
        assert_eq!(exact::u64_from(whole), replayed.bytes);
        bytes.truncate(whole);
        Ok((replayed, bytes))
    }

    fn encoded(commands: &[&[&[u8]]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for command in commands {
            resp::encode(command, &mut bytes);
        }
        bytes
    }

    #[test]
    fn what_a_cluster_tells_of_slots_that_move_is_no_data() {
        let told = encoded(&[
            &[b"CLUSTER", b"SYNCSLOTS", b"ESTABLISH", b"x"],
            &[b"cluster", b"setslot", b"7", b"NODE", b"x"],
        ]);
        let stream = [
            told,
            encoded(&[&[b"SET", b"a", b"b"], &[b"TRIMSLOTS", b"RANGES", b"1", b"0", b"9"]]),
        ]
        .concat();
        let (replayed, bytes) = write(&stream, 7, u64::MAX).unwrap();
        assert_eq!((replayed.commands, replayed.trims), (2, 1));
        assert!(!bytes.windows(7).any(|seven| seven.eq_ignore_ascii_case(b"CLUSTER")));
        let other = encoded(&[&[b"CLUSTER", b"RESET"]]);
        assert_eq!(write(&other, 7, u64::MAX).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_stream_is_cut_behind_whole_commands_and_blocks_wherever_it_ends() {
        let long = vec![b'x'; 200_000];
        let (ping, ack): (&[&[u8]], &[&[u8]]) = (&[b"PING"], &[b"REPLCONF", b"GETACK", b"*"]);
        let commands: &[&[&[u8]]] = &[
            &[b"SET", b"a", b"1"],
            ping,
            &[b"MULTI"],
            &[b"SELECT", b"3"],
            &[b"SET", b"b", &long],
            &[b"EXEC"],
            ack,
            &[b"SET", b"c", b"2"],
        ];
        // After so many commands, the file holds these.
        let holds = [0, 1, 1, 1, 1, 1, 6, 6, 8];
        let stream = encoded(commands);
        for (count, holds) in holds.iter().enumerate() {
            let ends = encoded(commands.get(..count).unwrap()).len();
            let kept: Vec<&[&[u8]]> = commands.get(..*holds).unwrap().to_vec();
            let kept: Vec<&[&[u8]]> = kept.into_iter().filter(|one| *one != ping && *one != ack).collect();
            let expected = encoded(&[&[&[&b"SELECT"[..], b"0"][..]], kept.as_slice()].concat());
            for (until, size) in [(ends, 7), (ends, 1 << 20), (ends + 3, 50_000)] {
                let until = 100 + exact::u64_from(until);
                let (written, file) = write(&stream, size, until).unwrap();
                assert!(file == expected, "{count}, {until}, {size}");
                assert!(written.offset <= until);
                assert_eq!(written.bytes, exact::u64_from(file.len()));
                assert_eq!(written.commands, exact::u64_from(kept.len()));
            }
        }
    }

    #[test]
    fn hostile_streams_are_errors() {
        let long = vec![b'x'; 200_000];
        let hostile: [&[&[&[u8]]]; 3] = [&[&[b"EXEC"]], &[&[b"MULTI"], &[b"MULTI"]], &[&[b"PING", &long]]];
        for commands in hostile {
            assert!(write(&encoded(commands), 1000, u64::MAX).is_err());
        }
        for name in ["REPLICAOF", "config", "Shutdown", "AUTH"] {
            let stream = encoded(&[&[b"SET", b"a", b"1"], &[name.as_bytes(), b"x", b"1"]]);
            let error = write(&stream, 1000, u64::MAX).unwrap_err();
            assert!(error.chain().contains(&name.to_uppercase()), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        assert!(write(b"SET a b\r\n", 1000, u64::MAX).is_err());
        // What is cut short is left out.
        let (written, _) = write(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1000000\r\nabc", 1000, u64::MAX).unwrap();
        assert_eq!((written.offset, written.commands), (100, 0));
    }
}
