//! Packed values: a whole list, set, hash or sorted set as one string.
//!
//! Listpacks: <https://github.com/antirez/listpack/blob/master/listpack.md>. Ziplists, zipmaps and intsets are what
//! servers before 7.0 write: `ziplist.c`, `zipmap.c`, `intset.c` of Redis 6.

use std::borrow::Cow;

use crate::base::error::{Error, Result};

/// Entries of a packed value, numbers as text.
pub type Entries<'a> = Vec<Cow<'a, [u8]>>;

/// Bytes that are taken off the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| damaged())
    }

    fn byte(&mut self) -> Result<u8> {
        self.chunk().map(|[byte]| byte)
    }

    fn size(&mut self) -> Result<usize> {
        usize::try_from(u32::from_le_bytes(self.chunk()?)).map_err(|_| damaged())
    }

    fn finish(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(damaged()) }
    }
}

fn integer<'a>(value: i64) -> Cow<'a, [u8]> {
    Cow::Owned(value.to_string().into_bytes())
}

/// Reads a little-endian number with its sign.
fn signed(bytes: &[u8]) -> i64 {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = *from;
    }
    i64::from_le_bytes(wide)
}

/// Takes a listpack apart.
pub fn listpack(blob: &[u8]) -> Result<Entries<'_>> {
    let mut input = Bytes(blob);
    input.take(6)?;
    let mut entries = Vec::new();
    loop {
        let before = input.0.len();
        let entry = match input.byte()? {
            0xff => break,
            small @ 0..=0x7f => integer(i64::from(small)),
            length @ 0x80..=0xbf => Cow::Borrowed(input.take(usize::from(length & 63))?),
            high @ 0xc0..=0xdf => {
                let value = i64::from(high & 31) << 8 | i64::from(input.byte()?);
                integer(if value >= 1 << 12 { value - (1 << 13) } else { value })
            }
            high @ 0xe0..=0xef => {
                let low = input.byte()?;
                Cow::Borrowed(input.take(usize::from(high & 15) << 8 | usize::from(low))?)
            }
            0xf0 => {
                let length = input.size()?;
                Cow::Borrowed(input.take(length)?)
            }
            0xf1 => integer(signed(input.take(2)?)),
            0xf2 => integer(signed(input.take(3)?)),
            0xf3 => integer(signed(input.take(4)?)),
            0xf4 => integer(signed(input.take(8)?)),
            _ => return Err(damaged()),
        };
        entries.push(entry);
        // Its own length follows it, for walks backwards.
        let back = match before - input.0.len() {
            0..=127 => 1,
            128..=16_383 => 2,
            16_384..=2_097_151 => 3,
            2_097_152..=268_435_455 => 4,
            _ => 5,
        };
        input.take(back)?;
    }
    input.finish()?;
    Ok(entries)
}

/// Takes a ziplist apart.
pub fn ziplist(blob: &[u8]) -> Result<Entries<'_>> {
    let mut input = Bytes(blob);
    input.take(10)?;
    let mut entries = Vec::new();
    loop {
        // The length of the entry before it, or the end.
        match input.byte()? {
            0xff => break,
            0xfe => {
                input.take(4)?;
            }
            _ => {}
        }
        let entry = match input.byte()? {
            length @ 0..=0x3f => Cow::Borrowed(input.take(usize::from(length))?),
            high @ 0x40..=0x7f => {
                let low = input.byte()?;
                Cow::Borrowed(input.take(usize::from(high & 63) << 8 | usize::from(low))?)
            }
            0x80 => {
                let length = u32::from_be_bytes(input.chunk()?);
                Cow::Borrowed(input.take(usize::try_from(length).map_err(|_| damaged())?)?)
            }
            0xc0 => integer(signed(input.take(2)?)),
            0xd0 => integer(signed(input.take(4)?)),
            0xe0 => integer(signed(input.take(8)?)),
            0xf0 => integer(signed(input.take(3)?)),
            0xfe => integer(signed(input.take(1)?)),
            small @ 0xf1..=0xfd => integer(i64::from(small & 15) - 1),
            _ => return Err(damaged()),
        };
        entries.push(entry);
    }
    input.finish()?;
    Ok(entries)
}

/// Takes an intset apart.
pub fn intset(blob: &[u8]) -> Result<Entries<'_>> {
    let mut input = Bytes(blob);
    let (width, count) = (input.size()?, input.size()?);
    if !matches!(width, 2 | 4 | 8) || count.checked_mul(width) != Some(input.0.len()) {
        return Err(damaged());
    }
    Ok(input.0.chunks(width).map(|number| integer(signed(number))).collect())
}

/// Takes a zipmap apart: the hashes of servers before 2.6.
pub fn zipmap(blob: &[u8]) -> Result<Entries<'_>> {
    let mut input = Bytes(blob);
    input.take(1)?;
    let mut entries = Vec::new();
    loop {
        let length = match input.byte()? {
            0xff => break,
            0xfe => input.size()?,
            short => usize::from(short),
        };
        let is_value = entries.len() % 2 == 1;
        // Unused bytes may follow a value.
        let free = if is_value { usize::from(input.byte()?) } else { 0 };
        entries.push(Cow::Borrowed(input.take(length)?));
        input.take(free)?;
    }
    input.finish()?;
    Ok(entries)
}

/// The error of a packed value that is none.
pub fn damaged() -> Error {
    Error::corrupt("a value of the RDB cannot be taken apart")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn text(entries: Result<Entries<'_>>) -> Vec<String> {
        entries.unwrap().iter().map(|e| e.escape_ascii().to_string()).collect()
    }

    #[test]
    fn old_forms_are_read() {
        // A ziplist of "hi", 2, 1000 and -3; the headers are not looked at.
        let list = [
            &[0; 10][..],
            &[0, 2, b'h', b'i', 4, 0xf3, 2, 0xc0, 0xe8, 3, 4, 0xfe, 0xfd, 0xff],
        ]
        .concat();
        assert_eq!(text(ziplist(&list)), ["hi", "2", "1000", "-3"]);
        assert_eq!(text(intset(&[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0xff, 0xff])), ["1", "-1"]);
        let map = [2, 1, b'a', 2, 1, b'x', b'y', 0, 1, b'b', 0, 0, 0xff];
        assert_eq!(text(zipmap(&map)), ["a", "xy", "b", ""]);
    }

    proptest! {
        #[test]
        fn noise_is_never_a_panic(blob in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (listpack(&blob), ziplist(&blob), intset(&blob), zipmap(&blob));
        }
    }
}
