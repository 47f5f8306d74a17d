//! How patterns are written: what a command line or a configuration gives, made into what the matcher takes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::base::error::{Error, Result};
use crate::base::exact;

/// The character that stands for byte 0 in a name that is no UTF-8: the last private plane, whose last 256 places no
/// name uses.
const FIRST: u32 = 0x0010_FE00;

/// Makes what a user wrote relative to the root, or says clearly that it means nothing here.
pub(crate) fn resolve(patterns: &[String], root: &Path) -> Result<Vec<String>> {
    let real = std::fs::canonicalize(root).ok();
    let roots: Vec<&str> = [Some(root), real.as_deref()]
        .into_iter()
        .flatten()
        .filter_map(Path::to_str)
        .map(|root| root.trim_end_matches('/'))
        .filter(|root| root.starts_with('/'))
        .collect();
    let one = |pattern: &String| {
        if let Some(name) = pattern.strip_prefix('!') {
            return Err(Error::invalid(format!(
                "file pattern {pattern:?} starts with \"!\", but negated patterns are not supported"
            ))
            .with_hint(format!(
                "An exclude always wins: make it more specific, or use `include`. A name that starts with \"!\" is \
                 written `\\!{name}`."
            )));
        }
        // A path as the user sees it, with the root in front.
        let below = roots.iter().find_map(|root| {
            let rest = pattern.strip_prefix(root)?;
            (rest.is_empty() || rest.starts_with('/')).then_some(rest)
        });
        Ok(match below {
            Some("") => "/".to_owned(),
            Some(rest) => rest.to_owned(),
            None => pattern.clone(),
        })
    };
    patterns.iter().map(one).collect()
}

/// Returns a pattern that means exactly this name.
pub(crate) fn literal(name: &OsStr) -> String {
    let mut pattern = String::new();
    for chunk in name.as_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            if "*?[]{}!\\".contains(letter) {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        for byte in chunk.invalid() {
            pattern.push_str(&format!("\\x{byte:02x}"));
        }
    }
    pattern
}

/// Returns an argument as text in which bytes that are no UTF-8 are written `\xHH`.
pub(crate) fn given(argument: &OsStr) -> String {
    let mut text = String::new();
    for chunk in argument.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Returns the bytes that `\xHH`, `\n`, `\r` and `\t` stand for, as names are shown; everything else as it is.
pub(crate) fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    each(text, |piece| match piece {
        Piece::Byte(byte) => bytes.push(byte),
        Piece::Text(text) => bytes.extend_from_slice(text.as_bytes()),
    });
    bytes
}

/// Returns a pattern as the matcher takes it: bytes by number become the characters that [`text`] writes for them.
pub(super) fn compiled(pattern: &str) -> String {
    let mut bytes = Vec::new();
    each(pattern, |piece| match piece {
        Piece::Byte(byte) => {
            if byte.is_ascii() {
                bytes.push(b'\\');
            }
            bytes.push(byte);
        }
        Piece::Text(text) => bytes.extend_from_slice(text.as_bytes()),
    });
    text(&bytes)
}

/// Returns a name as text in which a byte that is no UTF-8 is a character of its own.
pub(super) fn text(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(
            chunk
                .invalid()
                .iter()
                .filter_map(|byte| char::from_u32(FIRST + u32::from(*byte))),
        );
    }
    text
}

enum Piece<'a> {
    Byte(u8),
    Text(&'a str),
}

fn each(text: &str, mut take: impl FnMut(Piece<'_>)) {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, from) = rest.split_at(at);
        take(Piece::Text(before));
        let byte = match from.as_bytes() {
            [_, b'x', high, low, ..] => hex_byte(*high, *low).map(|byte| (byte, 4)),
            [_, b'n', ..] => Some((b'\n', 2)),
            [_, b'r', ..] => Some((b'\r', 2)),
            [_, b't', ..] => Some((b'\t', 2)),
            _ => None,
        };
        let len = match byte {
            // A separator is none that could be escaped.
            Some((byte, len)) if byte != b'/' && byte != 0 => {
                take(Piece::Byte(byte));
                len
            }
            _ => {
                // A backslash and what it protects.
                let len = 1 + from.chars().nth(1).map_or(0, char::len_utf8);
                take(Piece::Text(exact::text(from, ..len, "a whole character stands there")));
                len
            }
        };
        rest = exact::text(from, len.., "what was taken ends with a character");
    }
    take(Piece::Text(rest));
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_absolute_path_below_the_root_is_meant_as_one() {
        let resolve = |pattern: &str| super::resolve(&[pattern.to_owned()], Path::new("/srv/data/"));
        for (pattern, wanted) in [
            ("/srv/data/tmp", "/tmp"),
            ("/srv/data/*.log", "/*.log"),
            ("/srv/data", "/"),
            ("/srv/database", "/srv/database"),
            ("/tmp", "/tmp"),
            ("*.log", "*.log"),
        ] {
            assert_eq!(resolve(pattern).unwrap(), [wanted], "{pattern}");
        }
        let error = resolve("!keep").unwrap_err();
        assert!(error.hint().unwrap().contains("`\\!keep`"), "{:?}", error.hint());
    }

    #[test]
    fn bytes_that_are_no_utf8_are_written_by_number() {
        let name = OsStr::from_bytes(b"caf\xe9 [x]\\n");
        assert_eq!(given(name), "caf\\xe9 [x]\\n");
        assert_eq!(unescaped("caf\\xe9"), b"caf\xe9");
        assert_eq!(unescaped("new\\nline\\x2f\\*"), b"new\nline\\x2f\\*");
        assert_eq!(compiled("\\xc3\\xa9"), "é");
        assert_eq!(compiled("\\x2a"), "\\*");
        assert_eq!(compiled("a\\xff"), text(b"a\xff"));
        assert_ne!(text(b"a\xff"), text(b"a\xfe"));
        assert_eq!(literal(OsStr::new("[b]rack{et}*?")), "\\[b\\]rack\\{et\\}\\*\\?");
        assert_eq!(literal(OsStr::from_bytes(b"a\\n\xff")), "a\\\\n\\xff");
    }
}
