//! The walk over an RDB as it passes.

use rand::Rng;
use wirevault::engines::redis::wire::rdb::{Counter, Crc64, Walker};

use crate::Case;
use crate::inputs::{self, MIB};

/// As much as a socket gives at once.
const READ_BYTES: usize = 64 << 10;

/// Walks 32 MiB of strings, lists, sets, hashes and sorted sets.
pub(crate) fn rdb_walk() -> Case {
    let (rdb, keys) = rdb(32 * MIB);
    Case::new(rdb.len(), move || {
        let (mut walker, mut counter) = (Walker::new(), Counter::default());
        for piece in rdb.chunks(READ_BYTES) {
            walker.feed(piece, &mut counter).unwrap();
        }
        walker.finish().unwrap();
        assert_eq!(counter.keys(), keys);
    })
}

/// An RDB of about so many bytes as Redis 7.2 frames one, and how many keys it has. Format:
/// <https://rdb.fnordig.de/file_format.html>
fn rdb(bytes: usize) -> (Vec<u8>, u64) {
    let mut rng = inputs::rng();
    let noise = inputs::noise(MIB);
    let mut text = |out: &mut Vec<u8>, most: usize| {
        let length = rng.random_range(1..most);
        let from = rng.random_range(0..noise.len() - length);
        string(out, &noise[from..from + length]);
    };
    let mut out = b"REDIS0011".to_vec();
    out.extend_from_slice(&[0xfe, 0]);
    let mut keys = 0_u64;
    while out.len() < bytes {
        // A type; how often its strings follow; whether a score follows each time.
        let (kind, count, strings, scored) = match keys % 8 {
            0 => (1, 50, 1, false),
            1 => (2, 50, 1, false),
            2 => (4, 30, 2, false),
            3 => (5, 40, 1, true),
            _ => (0, 1, 1, false),
        };
        if keys.is_multiple_of(5) {
            out.push(0xfc);
            out.extend_from_slice(&4_102_444_800_000_u64.to_le_bytes());
        }
        out.push(kind);
        string(&mut out, format!("shop:{kind}:{keys:09}").as_bytes());
        if kind != 0 {
            length(&mut out, count);
        }
        for _ in 0..count {
            for _ in 0..strings {
                text(&mut out, if kind == 0 { 600 } else { 60 });
            }
            if scored {
                out.extend_from_slice(&1.5_f64.to_le_bytes());
            }
        }
        keys += 1;
    }
    out.push(0xff);
    let crc = Crc64::of(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    (out, keys)
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// A length of 6 or 14 bits.
fn length(out: &mut Vec<u8>, length: usize) {
    if length < 64 {
        out.push(length as u8);
    } else {
        out.extend_from_slice(&(length as u16 | 0x4000).to_be_bytes());
    }
}
