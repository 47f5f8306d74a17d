//! LZF decompression, as RDB strings use it.
//!
//! Nothing is allocated before the announced length was found possible: a byte of LZF makes at most 88 bytes (a
//! three-byte reference copies at most 264), so a forged length cannot make memory grow beyond that.

use crate::error::{Error, Result};

/// Bytes that one compressed byte can become, at most.
const MAX_EXPANSION: usize = 88;

/// Returns whether `compressed` bytes can become `raw` bytes.
pub fn plausible(compressed: u64, raw: u64) -> bool {
    raw <= compressed.saturating_mul(88)
}

/// Decompresses `input`, which must become exactly `len` bytes.
pub fn decompress(input: &[u8], len: usize) -> Result<Vec<u8>> {
    let damaged = || Error::corrupt("a compressed string of the RDB does not decompress to its announced length");
    if len > input.len().saturating_mul(MAX_EXPANSION) {
        return Err(damaged());
    }
    let mut output = Vec::with_capacity(len);
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
    if output.len() == len {
        Ok(output)
    } else {
        Err(damaged())
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
