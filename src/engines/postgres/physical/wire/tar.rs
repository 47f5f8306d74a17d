//! The tar streams of `BASE_BACKUP`, taken apart as they come.
//!
//! The server writes plain ustar headers (`src/port/tar.c`): names below 100 bytes, links below 100, sizes in octal or, from
//! 8 GiB on, in base 256; no extended headers. Nothing of a header is believed: its checksum, its kind, and a name that does not
//! climb are checked, and a member has exactly the bytes that it announces.

use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::engines::files::beneath::is_below;

/// Bytes of a header, and what the data of a member are padded to.
const BLOCK: usize = 512;

/// What kind of member it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link: the server sends one for each tablespace.
    Symlink,
}

/// The header of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Relative, without a trailing slash; it does not climb.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Bytes of a file, at most `i64::MAX`, as a file may have; 0 for all else.
    pub(crate) size: u64,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since the epoch.
    pub(crate) mtime: i64,
}

/// What [`TarReader::step`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'i> {
    /// A member begins.
    Begin(Member),
    /// Its next bytes; only files have any.
    Data(&'i [u8]),
    /// It ended.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes of the next header that are there.
    Header(usize),
    Data {
        left: u64,
        padding: u64,
    },
    /// The data are there; the end is to be told.
    Ending {
        padding: u64,
    },
    Padding {
        left: u64,
    },
    /// Behind the first block of zeros, only zeros come.
    Ended,
}

/// Takes one tar apart.
#[derive(Debug)]
pub(crate) struct TarReader {
    state: State,
    header: [u8; BLOCK],
}

impl TarReader {
    /// Begins in front of the first header.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Header(0),
            header: [0; BLOCK],
        }
    }

    /// Takes bytes off the front of `input`; returns how many, and what they made. Without an event all of them were taken.
    pub(crate) fn step<'i>(&mut self, input: &'i [u8]) -> Result<(usize, Option<Event<'i>>)> {
        let mut used = 0;
        loop {
            let rest = exact::part(input, used.., "no more is used than there is");
            match &mut self.state {
                State::Ending { padding } => {
                    self.state = State::Padding { left: *padding };
                    return Ok((used, Some(Event::End)));
                }
                State::Data { left: 0, padding } => self.state = State::Ending { padding: *padding },
                _ if rest.is_empty() => return Ok((used, None)),
                State::Header(have) => {
                    let missing = exact::part_mut(&mut self.header, *have.., "a whole header ends this state");
                    let count = missing.len().min(rest.len());
                    missing.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                    used += count;
                    *have += count;
                    if *have == BLOCK {
                        match parse(&self.header)? {
                            None => self.state = State::Ended,
                            Some(member) => {
                                let padding = member.size.next_multiple_of(exact::u64_from(BLOCK)) - member.size;
                                self.state = State::Data {
                                    left: member.size,
                                    padding,
                                };
                                return Ok((used, Some(Event::Begin(member))));
                            }
                        }
                    }
                }
                State::Data { left, .. } => {
                    let data = exact::first(rest, exact::usize_from(*left));
                    *left -= exact::u64_from(data.len());
                    return Ok((used + data.len(), Some(Event::Data(data))));
                }
                State::Padding { left } => {
                    let count = exact::first(rest, exact::usize_from(*left)).len();
                    *left -= exact::u64_from(count);
                    used += count;
                    if *left == 0 {
                        self.state = State::Header(0);
                    }
                }
                State::Ended => {
                    if rest.iter().any(|byte| *byte != 0) {
                        return Err(broken("something stands behind its end"));
                    }
                    return Ok((input.len(), None));
                }
            }
            // A member without data has no padding either.
            if self.state == (State::Padding { left: 0 }) {
                self.state = State::Header(0);
            }
        }
    }

    /// Refuses a tar that breaks off within a member. Servers before 15 leave the two blocks of zeros out.
    pub(crate) fn finish(&self) -> Result<()> {
        match self.state {
            State::Header(0) | State::Ended | State::Padding { left: 0 } => Ok(()),
            _ => Err(broken("it ends in the middle of a member")),
        }
    }
}

fn broken(what: &str) -> Error {
    Error::corrupt(format!("the server's tar cannot be read: {what}"))
        .with_hint("The connection is damaged, or the peer is not PostgreSQL. Nothing of this base is stored.")
}

/// Reads a header; `None` if it is a block of zeros.
fn parse(header: &[u8; BLOCK]) -> Result<Option<Member>> {
    if header.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let field = |from: usize, length: usize| exact::part(header, from..from + length, "a header has these fields");
    let number = |from: usize, length: usize, name: &str| {
        read_number(field(from, length)).ok_or_else(|| broken(&format!("a header's {name} is no number")))
    };
    let summed: u64 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            // The checksum itself counts as blanks.
            u64::from(if (148..156).contains(&at) { b' ' } else { *byte })
        })
        .sum();
    if number(148, 8, "checksum")? != summed {
        return Err(broken("a header has another checksum"));
    }
    if field(257, 5) != b"ustar" {
        return Err(broken("a header is not of the form ustar"));
    }
    let kind = match field(156, 1) {
        b"0" | b"\0" => Kind::File,
        b"5" => Kind::Directory,
        b"2" => Kind::Symlink,
        other => return Err(broken(&format!("a member has the kind '{}'", other.escape_ascii()))),
    };
    let mut path = text(field(345, 155)).to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(text(field(0, 100)));
    if kind == Kind::Directory && path.last() == Some(&b'/') {
        path.pop();
    }
    // The directories of `pg_wal` are made up by the server, and called so.
    if path.starts_with(b"./") {
        path.drain(..2);
    }
    if !is_below(&path) {
        return Err(broken(&format!("a member is called \"{}\"", path.escape_ascii())));
    }
    let size = number(124, 12, "size")?;
    if i64::try_from(size).is_err() {
        return Err(broken(&format!("a member has {size} bytes")));
    }
    if kind != Kind::File && size != 0 {
        return Err(broken("a member that is no file has data"));
    }
    let small = |from: usize, name: &str| -> Result<u32> {
        let wide = number(from, 8, name)?;
        u32::try_from(wide).map_err(|_| broken(&format!("a header's {name} is too large")))
    };
    Ok(Some(Member {
        path,
        kind,
        size,
        mode: small(100, "mode")? & 0o7777,
        uid: small(108, "owner")?,
        gid: small(116, "group")?,
        mtime: i64::try_from(number(136, 12, "time")?).map_err(|_| broken("a header's time is too large"))?,
    }))
}

/// Returns a field up to its first zero.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or(field)
}

/// Reads an octal number, which blanks may stand around, or one in base 256.
fn read_number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, rest)) = field.split_first() {
        return rest
            .iter()
            .try_fold(0_u64, |all, byte| all.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0_u64, |all, byte| match byte {
        b'0'..=b'7' => all.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// Writes a header as the server does.
    pub(crate) fn header(path: &str, kind: u8, size: u64, link: &str) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, path.as_bytes());
        put(100, b"0000600\0");
        put(108, b"0001750\0");
        put(116, b"0001751\0");
        if size < 1 << 33 {
            put(124, format!("{size:011o} ").as_bytes());
        } else {
            put(124, &[&[0x80, 0, 0, 0], &size.to_be_bytes()[..]].concat());
        }
        put(136, b"14700000000 ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000postgres");
        seal(&mut block);
        block
    }

    fn seal(block: &mut [u8]) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    /// Writes a file with its data and padding.
    pub(crate) fn file(path: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = header(path, b'0', data.len().try_into().unwrap(), "");
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    /// Reads pieces; each member with its data, and whether the tar is whole.
    fn read(pieces: &[&[u8]]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut reader = TarReader::new();
        let (mut found, mut open): (Vec<(String, Vec<u8>)>, bool) = (Vec::new(), false);
        for piece in pieces {
            let mut rest = *piece;
            loop {
                let (used, event) = reader.step(rest)?;
                rest = &rest[used..];
                match event {
                    Some(Event::Begin(member)) => {
                        assert!(!open);
                        open = true;
                        found.push((String::from_utf8(member.path).unwrap(), Vec::new()));
                    }
                    Some(Event::Data(data)) => found.last_mut().unwrap().1.extend_from_slice(data),
                    Some(Event::End) => open = false,
                    None => {
                        assert!(rest.is_empty());
                        break;
                    }
                }
            }
        }
        reader.finish()?;
        assert!(!open);
        Ok(found)
    }

    fn whole() -> Vec<u8> {
        [
            file("backup_label", b"START"),
            header("base", b'5', 0, ""),
            header("base/1/", b'5', 0, ""),
            header("./pg_wal/archive_status", b'5', 0, ""),
            file("base/1/empty", b""),
            file("base/1/1259", &[7; 1024]),
            header("pg_tblspc/16385", b'2', 0, "/mnt/fast"),
            vec![0; 1024],
        ]
        .concat()
    }

    #[test]
    fn members_are_the_same_however_the_bytes_are_cut() {
        let bytes = whole();
        let members = read(&[&bytes]).unwrap();
        let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "backup_label",
                "base",
                "base/1",
                "pg_wal/archive_status",
                "base/1/empty",
                "base/1/1259",
                "pg_tblspc/16385"
            ]
        );
        assert_eq!((members[0].1.as_slice(), members[5].1.len()), (&b"START"[..], 1024));
        for cut in 0..bytes.len() {
            assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]).unwrap(), members, "{cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single).unwrap(), members);
        // As servers before 15 end it.
        assert_eq!(read(&[&bytes[..bytes.len() - 1024]]).unwrap(), members);
    }

    #[test]
    fn a_header_says_what_the_file_was() {
        let (used, event) = TarReader::new()
            .step(&header("x", b'0', 9 << 30, ""))
            .map(|(used, event)| {
                let Some(Event::Begin(member)) = event else {
                    unreachable!()
                };
                (used, member)
            })
            .unwrap();
        assert_eq!(used, BLOCK);
        assert_eq!(
            (event.size, event.mode, event.uid, event.gid),
            (9 << 30, 0o600, 0o1750, 0o1751)
        );
        assert_eq!(event.mtime, 0o14_700_000_000);
    }

    #[test]
    fn what_is_cut_or_hostile_is_refused() {
        let bytes = whole();
        // Within a member or its padding; between members there is no telling.
        for cut in [1, 511, 513, 516, 600, 1023, bytes.len() - 1024 - 100] {
            assert!(read(&[&bytes[..cut]]).is_err(), "{cut}");
        }
        for name in ["../x", "/etc/passwd", "a/../b", "a//b", "././a", "a/./b", "", "a/.."] {
            assert!(read(&[&file(name, b"x")]).is_err(), "{name}");
        }
        for (kind, size) in [(b'1', 0), (b'x', 0), (b'3', 0), (b'5', 1), (b'2', 1)] {
            assert!(read(&[&header("a", kind, size, "")]).is_err(), "{kind}");
        }
        for size in [u64::MAX, u64::MAX - 511, 1 << 63] {
            let error = read(&[&header("a", b'0', size, "")]).unwrap_err();
            assert!(error.chain().contains(&format!("{size} bytes")), "{error:?}");
        }
        // The largest one is only not there.
        let error = read(&[&header("a", b'0', (1 << 63) - 1, "")]).unwrap_err();
        assert!(error.chain().contains("ends in the middle"), "{error:?}");
        for (at, with) in [(0, b'y'), (124, b'9'), (257, b'x'), (150, b'8')] {
            let mut damaged = file("x", b"data");
            damaged[at] = with;
            assert!(read(&[&damaged]).is_err(), "{at}");
            seal(&mut damaged[..BLOCK]);
            assert_eq!(read(&[&damaged]).is_err(), matches!(at, 124 | 257), "{at}");
        }
        let mut more = whole();
        *more.last_mut().unwrap() = 1;
        assert!(read(&[&more]).is_err());
        let huge = [&[0x80], &[0xff; 11][..]].concat();
        assert_eq!(
            (read_number(&huge), read_number(b"777 \0"), read_number(b"")),
            (None, Some(0o777), Some(0))
        );
    }
}
