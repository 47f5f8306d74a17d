//! LZF decompression, as RDB strings use it.
//!
//! Nothing is allocated before the announced length was found possible: a byte of LZF makes at most 88 bytes (a
//! three-byte reference copies at most 264), so a forged length cannot make memory grow beyond that.

use crate::base::error::{Error, Result};
use crate::base::exact;

/// Bytes that one compressed byte can become, at most.
const MAX_EXPANSION: usize = 88;

/// Returns whether `compressed` bytes can become `raw` bytes.
pub fn plausible(compressed: u64, raw: u64) -> bool {
    raw <= compressed.saturating_mul(88)
}

/// Decompresses `input`, which must become exactly `len` bytes.
pub fn decompress(input: &[u8], len: usize) -> Result<Vec<u8>> {
    let mut output = Vec::new();
    decompress_into(input, len, &mut output)?;
    Ok(output)
}

fn damaged() -> Error {
    Error::corrupt("a compressed string of the RDB does not decompress to its announced length")
}

/// The same, behind what `output` was emptied of.
pub fn decompress_into(input: &[u8], len: usize, output: &mut Vec<u8>) -> Result<()> {
    output.clear();
    if len > input.len().saturating_mul(MAX_EXPANSION) {
        return Err(damaged());
    }
    output.reserve(len);
    let mut rest = input;
    while let Some((&control, after)) = rest.split_first() {
        let control = usize::from(control);
        if control < 32 {
            let (literal, after) = after.split_at_checked(control + 1).ok_or_else(damaged)?;
            output.extend_from_slice(literal);
            rest = after;
        } else {
            let (count, after) = match control >> 5 {
                7 => {
                    let (&more, after) = after.split_first().ok_or_else(damaged)?;
                    (usize::from(more) + 9, after)
                }
                short => (short + 2, after),
            };
            let (&low, after) = after.split_first().ok_or_else(damaged)?;
            let back = ((control & 31) << 8 | usize::from(low)) + 1;
            let from = output.len().checked_sub(back).ok_or_else(damaged)?;
            if output.len() + count > len {
                return Err(damaged());
            }
            // The source may overlap what is being written: one byte after another.
            for at in from..from + count {
                let byte = output.get(at).copied().ok_or_else(damaged)?;
                output.push(byte);
            }
            rest = after;
        }
        if output.len() > len {
            return Err(damaged());
        }
    }
    if output.len() == len { Ok(()) } else { Err(damaged()) }
}

/// Bytes a reference reaches back at most.
const REACH: usize = 1 << 13;

/// Decompresses a string of any length, keeping only what references can reach.
#[derive(Debug)]
pub struct Window {
    bytes: Vec<u8>,
    /// From here on nothing was handed on yet.
    from: usize,
    left: u64,
}

impl Window {
    /// Expects so many bytes.
    pub fn new(len: u64) -> Self {
        Self {
            bytes: Vec::new(),
            from: 0,
            left: len,
        }
    }

    /// Takes whole instructions; returns how many bytes those were.
    pub fn feed(&mut self, input: &[u8]) -> Result<usize> {
        let mut rest = input;
        while let Some((&control, after)) = rest.split_first() {
            let control = usize::from(control);
            let before = self.bytes.len();
            if control < 32 {
                let Some((literal, after)) = after.split_at_checked(control + 1) else {
                    break;
                };
                self.bytes.extend_from_slice(literal);
                rest = after;
            } else {
                let (count, low, after) = match (control >> 5, after) {
                    (7, [more, low, after @ ..]) => (usize::from(*more) + 9, *low, after),
                    (short @ 1..=6, [low, after @ ..]) => (short + 2, *low, after),
                    _ => break,
                };
                let back = ((control & 31) << 8 | usize::from(low)) + 1;
                let from = self.bytes.len().checked_sub(back).ok_or_else(damaged)?;
                for at in from..from + count {
                    let byte = self.bytes.get(at).copied().ok_or_else(damaged)?;
                    self.bytes.push(byte);
                }
                rest = after;
            }
            let made = exact::u64_from(self.bytes.len() - before);
            self.left = self.left.checked_sub(made).ok_or_else(damaged)?;
            if self.bytes.len() > 16 * REACH {
                break;
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Returns what was made and not handed on yet.
    pub fn ready(&self) -> &[u8] {
        exact::part(&self.bytes, self.from.., "it is an earlier end")
    }

    /// Says that it was handed on.
    pub fn slide(&mut self) {
        let old = self.bytes.len().saturating_sub(REACH);
        self.bytes.drain(..old);
        self.from = self.bytes.len();
    }

    /// Fails if bytes are missing.
    pub fn finish(&self) -> Result<()> {
        if self.left == 0 { Ok(()) } else { Err(damaged()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn literals_and_references_come_back() {
        // "a" then a reference one back of 8 + 1 more bytes.
        assert_eq!(decompress(&[0, b'a', 0xe0, 0, 0], 10).unwrap(), b"aaaaaaaaaa");
        assert_eq!(decompress(&[2, b'a', b'b', b'c', 0x20, 2], 6).unwrap(), b"abcabc");
    }

    #[test]
    fn damage_is_an_error() {
        for (input, len) in [
            (&[0u8, b'a', 0xe0][..], 10),
            (&[0, b'a', 0x20, 5], 4),
            (&[5, b'a'], 6),
            (&[0, b'a'], 1 << 40),
            (&[0, b'a', 0xe0, 255, 0], 10),
            (&[0, b'a'], 2),
        ] {
            assert!(decompress(input, len).is_err(), "{input:?}");
        }
    }
}
