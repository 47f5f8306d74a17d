//! How far a stream has come: what was received, what is stored, where the next object ends. Pure but for the bytes it holds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::base::error::Result;
use crate::base::exact;
use crate::engines::redis::log::commands::{CommandKind, Scanner};
use crate::engines::redis::log::described::Piece;
use crate::engines::redis::log::held::HeldBytes;
use crate::engines::redis::log::marks::{Mark, Marks};
use crate::engines::redis::log::tail::Tail;
use crate::operations::log::redis::resume::{Branch, Known};

/// Bytes of one object, at most.
pub(super) const OBJECT_BYTES: u64 = 4 << 20;

/// Ends of commands are remembered when they are so far apart, in bytes: one of them ends an object.
const ENDS_APART: u64 = 256 << 10;

/// The server asked how far we are: what came is stored at once, but not more often than this.
const ASKED_PAUSE: Duration = Duration::from_millis(250);

/// What says no more than that the server is there may wait so long.
const IDLE_PAUSE: Duration = Duration::from_secs(60);

/// One history while it comes.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) branch: Branch,
    scanner: Scanner,
    /// What lies before is stored already, and only scanned.
    hold_from: u64,
    stored: u64,
    /// The end of the last whole command.
    commands_to: u64,
    /// The same for what is stored.
    stored_commands_to: u64,
    /// Ends of commands that are not stored, some of them.
    ends: VecDeque<u64>,
    marks: Marks,
    /// Where the server was when the link was made. What comes before that is older than the moment at which it comes.
    caught_up_at: u64,
    /// Since when the clock lies behind the last time mark.
    early: Option<Instant>,
    /// The last bytes.
    tail: Tail,
    held: HeldBytes,
    /// Whether bytes came since the last mark.
    is_moving: bool,
    /// Where the last command ended that is more than a sign of life.
    writes_to: u64,
    is_asked: bool,
    /// When the last object was begun.
    flushed: Instant,
}

/// What a part of the stream holds.
#[derive(Debug)]
pub(super) struct Scanned {
    scanner: Scanner,
    /// The end of the last whole command, if one ends in it.
    commands_to: Option<u64>,
    ends: Vec<u64>,
    writes_to: Option<u64>,
    is_asked: bool,
}

impl Follower {
    /// Begins with a command at `from`; what lies before `hold_from` is stored, `tail` is the end of that, and `mark` its last time
    /// mark.
    pub(super) fn new(
        branch: Branch,
        (from, hold_from): (u64, u64),
        (tail, mark): (Tail, Option<Mark>),
        held: HeldBytes,
    ) -> Self {
        // Where nothing is known of what lies before, it is remembered from here on.
        let tail = if tail.to() == hold_from {
            tail
        } else {
            Tail::at(hold_from)
        };
        Self {
            branch,
            scanner: Scanner::new(from),
            hold_from,
            stored: hold_from,
            commands_to: from,
            stored_commands_to: from,
            ends: VecDeque::new(),
            marks: Marks::behind(mark),
            caught_up_at: from,
            early: None,
            tail,
            held,
            is_moving: false,
            writes_to: 0,
            is_asked: false,
            flushed: Instant::now(),
        }
    }

    /// Returns what another connection needs to go on.
    pub(super) fn known(&self) -> Known {
        Known {
            branch: self.branch.clone(),
            received: self.received(),
            commands_to: self.commands_to,
            tail: self.tail.clone(),
            mark: self.marks.last(),
        }
    }

    /// Takes note that a link was made while the server was at an offset.
    pub(super) fn is_linked(&mut self, server: u64) {
        self.caught_up_at = server;
    }

    /// Gives the empty buffers back.
    pub(super) fn into_held(self) -> HeldBytes {
        self.held
    }

    /// Returns the offset up to which all is stored.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    pub(super) fn held(&self) -> &HeldBytes {
        &self.held
    }

    /// Returns the offset up to which it came.
    pub(super) fn received(&self) -> u64 {
        self.scanner.at()
    }

    /// Returns the offset up to which something came that is more than a sign of life, and waits for the store.
    pub(super) fn written(&self) -> u64 {
        if self.writes_to > self.stored {
            self.received().max(self.stored)
        } else {
            self.stored
        }
    }

    /// Returns whether it is still open that a command begins where what is stored says so: none has ended behind that.
    pub(super) fn is_doubted(&self) -> bool {
        let goes_on = self.hold_from > self.branch.since || self.branch.follows.is_some();
        goes_on && self.commands_to <= self.hold_from
    }

    /// Returns how much came that is not stored, in bytes.
    pub(super) fn unstored(&self) -> u64 {
        self.received().saturating_sub(self.stored)
    }

    /// Looks at bytes that came. Nothing is taken yet.
    pub(super) fn scan(&self, bytes: &[u8]) -> Result<Scanned> {
        let mut scanned = Scanned {
            scanner: self.scanner.clone(),
            commands_to: None,
            ends: Vec::new(),
            writes_to: None,
            is_asked: false,
        };
        let (mut rest, mut last) = (bytes, self.ends.back().copied().unwrap_or(self.stored));
        while !rest.is_empty() {
            let (used, command) = scanned.scanner.next(rest)?;
            rest = exact::part(rest, used.., "no more is used than there is");
            let Some(command) = command else { continue };
            scanned.commands_to = Some(command.ends);
            scanned.is_asked |= command.kind == CommandKind::GetAck;
            if !command.kind.is_of_link() {
                scanned.writes_to = Some(command.ends);
            }
            if command.ends >= last.saturating_add(ENDS_APART) {
                scanned.ends.push(command.ends);
                last = command.ends;
            }
        }
        Ok(scanned)
    }

    /// Takes bytes that were looked at: all of them, or none where they cannot be held. Returns whether the server asks how far we
    /// are.
    pub(super) fn take(&mut self, bytes: &[u8], scanned: Scanned) -> Result<bool> {
        let known = exact::usize_from(self.hold_from.saturating_sub(self.received()));
        if let Some(new) = bytes.get(known.min(bytes.len())..).filter(|new| !new.is_empty()) {
            self.held.push(new)?;
            self.tail.push(new);
            self.is_moving = true;
        }
        self.scanner = scanned.scanner;
        self.commands_to = scanned.commands_to.unwrap_or(self.commands_to);
        self.ends.extend(scanned.ends);
        self.writes_to = scanned.writes_to.unwrap_or(self.writes_to);
        self.is_asked |= scanned.is_asked;
        Ok(scanned.is_asked)
    }

    /// Notes what has come by now, if something has. What the server wrote while there was no link comes late, and has no marks: they
    /// would say that the server was there only now.
    pub(super) fn mark(&mut self, at: Timestamp) {
        let is_late = self.received() < self.caught_up_at;
        if is_late || self.commands_to <= self.hold_from || !std::mem::take(&mut self.is_moving) {
            return;
        }
        let offset = self.commands_to;
        let is_early = !self.marks.add(Mark { offset, at });
        if !is_early {
            self.early = None;
        } else if self.early.is_none() {
            self.early = Some(Instant::now());
            let last = self.marks.last().map(|mark| mark.at.to_string()).unwrap_or_default();
            tracing::warn!(
                "the clock says {at}, and the last time mark is of {last}: there are no new ones until then"
            );
        }
    }

    /// Returns the last time mark, and for how long the clock has been behind it.
    pub(super) fn early(&self) -> Option<(Timestamp, Duration)> {
        Some((self.marks.last()?.at, self.early?.elapsed()))
    }

    /// Returns when the next object is due, if something waits for that.
    pub(super) fn due(&self, flush: Duration) -> Option<Instant> {
        let held = self.held.len();
        if held == 0 {
            return None;
        }
        if held >= OBJECT_BYTES || self.marked_to().is_some() {
            return Some(self.flushed);
        }
        let pause = match () {
            // The rest of a command is awaited.
            () if self.commands_to <= self.stored => return None,
            () if self.is_asked => ASKED_PAUSE.min(flush),
            () if self.writes_to > self.stored => flush,
            () => IDLE_PAUSE.max(flush),
        };
        Some(self.flushed + pause)
    }

    /// Returns where the next object ends at the latest, to hold all its time marks: behind a command.
    fn marked_to(&self) -> Option<u64> {
        self.marks.room_to().filter(|to| *to > self.stored)
    }

    /// Returns where the next object ends: behind a command, unless that is longer than an object, or `all` is to go.
    fn cut(&self, all: bool) -> u64 {
        let most = self.stored.saturating_add(OBJECT_BYTES);
        if let Some(to) = self.marked_to().filter(|to| *to <= most) {
            return to;
        }
        if all && self.received() <= most {
            return self.received();
        }
        let ends = self.ends.iter().copied().chain([self.commands_to]);
        let end = ends.filter(|end| *end > self.stored && *end <= most).max();
        end.unwrap_or(most.min(self.received()))
    }

    /// Takes out the next object. `all` takes the beginning of a command with it.
    pub(super) fn next_piece(&mut self, at: Timestamp, all: bool) -> Result<(Piece, Vec<u8>)> {
        self.mark(at);
        let (to, marked_to) = (self.cut(all), self.marked_to());
        let bytes = self.held.take(exact::usize_from(to.saturating_sub(self.stored)))?;
        let ends = self.ends.iter().copied().chain([self.commands_to]).chain(marked_to);
        let commands_to = ends.filter(|end| *end <= to).max();
        let piece = Piece {
            from: self.stored,
            to,
            commands_to: commands_to.unwrap_or_default().max(self.stored_commands_to),
            since: self.branch.since,
            follows: self.branch.follows.clone(),
            gap: self.branch.gap.clone(),
            base: self.branch.base.clone(),
            marks: self.marks.take_to(to),
        };
        self.flushed = Instant::now();
        self.is_asked = false;
        Ok((piece, bytes))
    }

    /// Takes note of an object that is stored.
    pub(super) fn is_stored(&mut self, to: u64, commands_to: u64) {
        self.stored = to;
        self.stored_commands_to = commands_to;
        while self.ends.front().is_some_and(|end| *end <= to) {
            self.ends.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engines::redis::log::marks;
    use crate::engines::redis::log::position::Position;

    fn follower(from: u64, hold_from: u64) -> Follower {
        let id = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let branch = Branch::begun(Position { id, offset: from }, None);
        // A spool file that cannot be made.
        let held = HeldBytes::new("/dev/null/none".into(), 1 << 20);
        Follower::new(branch, (from, hold_from), (Tail::at(hold_from), None), held)
    }

    /// Takes bytes as the receiver does.
    fn take(follower: &mut Follower, bytes: &[u8]) -> bool {
        let scanned = follower.scan(bytes).unwrap();
        follower.take(bytes, scanned).unwrap()
    }

    fn command(words: &[&str]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        bytes.into_bytes()
    }

    fn second(number: i64) -> Timestamp {
        Timestamp::from_second(number).unwrap()
    }

    /// Stores all pieces that there are, and returns them; their bytes must be those that came.
    fn store(follower: &mut Follower, stream: &[u8], from: u64, all: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while follower.held().len() > 0 && (all || follower.due(Duration::ZERO).is_some()) {
            let (piece, bytes) = follower.next_piece(second(9), all).unwrap();
            let range = exact::usize_from(piece.from - from)..exact::usize_from(piece.to - from);
            assert!(stream.get(range).unwrap() == bytes);
            follower.is_stored(piece.to, piece.commands_to);
            pieces.push(piece);
        }
        pieces
    }

    #[test]
    fn objects_end_behind_commands_and_split_only_what_is_longer() {
        let mut stream = Vec::new();
        for n in 0..300 {
            stream.extend(command(&["SET", "key", &"x".repeat(100_000 + n)]));
        }
        let whole = stream.len();
        let long = command(&["SET", "long", &"y".repeat(10 << 20)]);
        stream.extend_from_slice(&long);
        stream.extend(command(&["SET", "a", "b"]));
        let end = stream.len();
        stream.extend_from_slice(b"*3\r\n$3\r\nSE");
        let mut follower = follower(1000, 1000);
        let mut pieces = Vec::new();
        for piece in stream.chunks(60_000) {
            take(&mut follower, piece);
            follower.mark(second(1));
            pieces.extend(store(&mut follower, &stream, 1000, false));
        }
        let at = |offset: usize| 1000 + exact::u64_from(offset);
        // The rest of the last command is awaited.
        assert_eq!((follower.stored(), follower.due(Duration::ZERO)), (at(end), None));
        pieces.extend(store(&mut follower, &stream, 1000, true));
        assert_eq!(follower.stored(), at(stream.len()));
        for piece in &pieces {
            assert!(piece.to - piece.from <= OBJECT_BYTES);
            let is_in_long = piece.to > at(whole) && piece.to < at(whole + long.len());
            let expected = match piece.to {
                to if to == at(stream.len()) => at(end),
                _ if is_in_long => at(whole),
                to => to,
            };
            assert_eq!(piece.commands_to, expected, "{piece:?}");
            assert_eq!(
                marks::decode(&marks::encode(&piece.marks), piece.to).unwrap(),
                piece.marks
            );
        }
        assert!(
            pieces
                .windows(2)
                .all(|two| two.first().unwrap().to == two.last().unwrap().from)
        );
    }

    #[test]
    fn a_write_waits_for_the_store_until_it_is_there() {
        let mut follower = follower(1000, 1000);
        take(&mut follower, &command(&["SET", "a", "b"]));
        let end = follower.received();
        follower.next_piece(second(5), false).unwrap();
        take(&mut follower, &command(&["PING"]));
        assert_eq!((follower.written(), follower.stored()), (follower.received(), 1000));
        follower.is_stored(end, end);
        assert_eq!((follower.written(), follower.stored()), (end, end));
    }

    #[test]
    fn what_is_stored_is_only_scanned_and_signs_of_life_may_wait() {
        let ping = command(&["PING"]);
        let stream = [command(&["SET", "a", "b"]), ping.clone()].concat();
        let part = 1000 + exact::u64_from(stream.len()) - 3;
        let mut follower = follower(1000, part);
        let begun = follower.flushed;
        assert!(!take(&mut follower, &stream));
        assert_eq!(follower.held().len(), 3);
        let flush = Duration::from_secs(2);
        assert_eq!(follower.due(flush), Some(begun + IDLE_PAUSE));
        take(&mut follower, &command(&["DEL", "a"]));
        assert_eq!(follower.due(flush), Some(begun + flush));
        assert!(take(&mut follower, &command(&["REPLCONF", "GETACK", "*"])));
        assert_eq!(follower.due(flush), Some(begun + ASKED_PAUSE));
        let (piece, bytes) = follower.next_piece(second(5), false).unwrap();
        assert_eq!(
            (piece.from, piece.commands_to, bytes.len()),
            (part, piece.to, exact::usize_from(piece.to - part))
        );
        assert_eq!(
            piece.marks,
            [Mark {
                offset: piece.to,
                at: second(5)
            }]
        );
    }

    #[test]
    fn what_cannot_be_held_or_is_no_stream_changes_nothing() {
        let mut follower = follower(0, 0);
        let long = command(&["SET", "key", &"x".repeat(5 << 20)]);
        take(&mut follower, &long);
        let scanned = follower.scan(&long).unwrap();
        follower.take(&long, scanned).unwrap_err();
        follower.scan(b"*1\r\n$4\r\nPING\r\nPING\r\n").unwrap_err();
        assert_eq!(
            (follower.received(), follower.commands_to),
            (exact::u64_from(long.len()), follower.received())
        );
        assert_eq!(follower.held().len(), exact::u64_from(long.len()));
        // Once something is stored, it goes on with the same bytes.
        let pieces = store(&mut follower, &long, 0, true);
        assert_eq!(pieces.last().unwrap().to, exact::u64_from(long.len()));
        take(&mut follower, &long);
        assert_eq!(
            (follower.unstored(), follower.written()),
            (exact::u64_from(long.len()), follower.received())
        );
    }
}
