//! Text of a database that need not be UTF-8, held as a Rust string without losing a byte.
//!
//! Names and definitions are read in the database's own encoding, as `pg_dump` reads them: not every byte that a server stores
//! has an equivalent in UTF-8 (0x81 in WIN1252, characters of users in EUC_JP), MULE_INTERNAL has no conversion at all, an `SQL_ASCII` database
//! holds whatever it was given, and names of roles lie in catalogs that all databases share.
//!
//! A byte that is no part of a UTF-8 character is one character of a range for private use. Characters of that range that come
//! from the server are taken apart likewise, so bytes to string to bytes is the identity for all bytes. Every encoding that a server
//! may have keeps ASCII for itself, so whoever looks for quotes, commas and keywords finds them.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The character of byte 0; bytes from 0x80 on are used.
const BASE: u32 = 0x10_FE00;

/// The first byte in UTF-8 of every character of the range, and of few others.
const LEAD: u8 = 0xF4;

/// Returns the byte that a character stands for.
fn byte_of(c: char) -> Option<u8> {
    let byte = u8::try_from(u32::from(c).checked_sub(BASE)?).ok()?;
    (byte >= 0x80).then_some(byte)
}

fn push_byte(text: &mut String, byte: u8) {
    text.extend(char::from_u32(BASE + u32::from(byte)));
}

/// Makes a string of a server's bytes.
pub fn from_bytes(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !bytes.contains(&LEAD)
    {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if byte_of(c).is_none() {
                text.push(c);
                continue;
            }
            let mut buffer = [0; 4];
            let encoded = c.encode_utf8(&mut buffer);
            encoded.bytes().for_each(|byte| push_byte(&mut text, byte));
        }
        chunk.invalid().iter().for_each(|&byte| push_byte(&mut text, byte));
    }
    Cow::Owned(text)
}

/// Returns how many bytes the string of [`from_bytes`] has.
pub fn length(bytes: &[u8]) -> usize {
    const OF_BYTE: usize = 4;
    let of_chunk = |chunk: std::str::Utf8Chunk<'_>| {
        let own = chunk.valid().len() + OF_BYTE * chunk.invalid().len();
        if !chunk.valid().as_bytes().contains(&LEAD) {
            return own;
        }
        // A character of the range has four bytes, each of which becomes one.
        let ours = chunk.valid().chars().filter(|&c| byte_of(c).is_some()).count();
        own + ours * (OF_BYTE * OF_BYTE - OF_BYTE)
    };
    bytes.utf8_chunks().map(of_chunk).sum()
}

/// As [`from_bytes`], of bytes that are done with.
pub fn from_vec(bytes: Vec<u8>) -> String {
    unchanged(bytes).unwrap_or_else(|bytes| from_bytes(&bytes).into_owned())
}

/// Makes a string of bytes that it holds as they are; gives back others, whose string is longer.
pub fn unchanged(bytes: Vec<u8>) -> std::result::Result<String, Vec<u8>> {
    match String::from_utf8(bytes) {
        Ok(text) if !text.as_bytes().contains(&LEAD) => Ok(text),
        Ok(text) => Err(text.into_bytes()),
        Err(error) => Err(error.into_bytes()),
    }
}

/// Returns the server's bytes of a string.
pub fn to_bytes(text: &str) -> Cow<'_, [u8]> {
    if !has_bytes(text) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut buffer = [0; 4];
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// Returns whether a string holds bytes that are no UTF-8.
pub fn has_bytes(text: &str) -> bool {
    text.as_bytes().contains(&LEAD) && text.chars().any(|c| byte_of(c).is_some())
}

/// Returns a string for people: bytes that are no UTF-8 as `\xE9`.
pub fn printable(text: String) -> String {
    if !has_bytes(&text) {
        return text;
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => drop(write!(shown, "\\x{byte:02X}")),
            None => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let every: Vec<u8> = (0..=255).collect();
        let private = "a\u{10FE80}b\u{10FEFF}c\u{10FFFD}\u{10FE7F}";
        for bytes in [
            &every[..],
            b"",
            b"plain",
            "Größe".as_bytes(),
            b"caf\xE9",
            private.as_bytes(),
        ] {
            let text = from_bytes(bytes);
            assert_eq!(to_bytes(&text), bytes);
            assert_eq!(length(bytes), text.len());
            assert_eq!(to_bytes(&from_vec(bytes.to_vec())), bytes);
        }
        assert_eq!(from_bytes("Größe".as_bytes()), "Größe");
        assert!(has_bytes(&from_bytes(b"caf\xE9")) && !has_bytes("Größe"));
    }

    #[test]
    fn people_read_bytes_as_numbers() {
        assert_eq!(printable(from_vec(b"caf\xE9 \x81".to_vec())), "caf\\xE9 \\x81");
        assert_eq!(printable("Größe".to_owned()), "Größe");
    }
}
