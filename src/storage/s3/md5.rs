//! MD5, for `Content-MD5`: the one checksum of a body that every S3-compatible store knows and compares.
//!
//! It guards against accidents on the way, not against anybody; what is stored is known by its SHA-256. Buckets whose objects
//! are locked by default refuse a put without it, or without another checksum, which many stores do not know.
//!
//! RFC 1321: <https://www.rfc-editor.org/rfc/rfc1321>.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// Bodies up to this size are digested where they are, in bytes; larger ones by a thread that may block.
const SMALL_BYTES: usize = 64 << 10;

/// The MD5 of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Md5([u8; 16]);

impl Md5 {
    pub(super) async fn of(body: Bytes) -> Result<Self> {
        if body.len() <= SMALL_BYTES {
            return Ok(Self(digest(&body)));
        }
        let ended = |error| Error::new(ErrorKind::Other, "digest worker ended early").with_cause(error);
        tokio::task::spawn_blocking(move || Self(digest(&body)))
            .await
            .map_err(ended)
    }

    /// Returns the value of the header.
    pub(super) fn header(&self) -> String {
        aws_smithy_types::base64::encode(self.0)
    }

    /// Whether an entity tag is an MD5, and another one.
    pub(super) fn differs_from(&self, tag: &str) -> bool {
        let tag = tag.trim_matches('"');
        let is_md5 = tag.len() == 32 && tag.bytes().all(|b| b.is_ascii_hexdigit());
        is_md5 && !tag.eq_ignore_ascii_case(&hex::encode(self.0))
    }
}

/// Bits by which each step of a round turns.
const TURNS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// The integer part of 2^32 times the sine of each step, from 1 (RFC 1321, 3.4).
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// Returns the MD5 of some bytes.
fn digest(bytes: &[u8]) -> [u8; 16] {
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let (blocks, rest) = bytes.as_chunks::<64>();
    for block in blocks {
        mix(&mut state, block);
    }
    // The end: a one bit, zeros, and the length in bits.
    let mut tail = rest.to_vec();
    tail.push(0x80);
    while tail.len() % 64 != 56 {
        tail.push(0);
    }
    let bits = u64::try_from(bytes.len()).unwrap_or(u64::MAX).wrapping_mul(8);
    tail.extend_from_slice(&bits.to_le_bytes());
    for block in tail.as_chunks::<64>().0 {
        mix(&mut state, block);
    }
    let mut out = [0; 16];
    for (place, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *place = word.to_le_bytes();
    }
    out
}

/// Mixes one block into the state.
fn mix(state: &mut [u32; 4], block: &[u8; 64]) {
    let mut words = [0_u32; 16];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let [mut a, mut b, mut c, mut d] = *state;
    for ((step, sine), turn) in (0_usize..).zip(SINES).zip(turns()) {
        let (mixed, word) = match step / 16 {
            0 => ((b & c) | (!b & d), step),
            1 => ((d & b) | (!d & c), 5 * step + 1),
            2 => (b ^ c ^ d, 3 * step + 5),
            _ => (c ^ (b | !d), 7 * step),
        };
        let word = words.get(word % 16).copied().unwrap_or_default();
        let sum = a.wrapping_add(mixed).wrapping_add(sine).wrapping_add(word);
        (a, d, c) = (d, c, b);
        b = b.wrapping_add(sum.rotate_left(turn));
    }
    for (old, new) in state.iter_mut().zip([a, b, c, d]) {
        *old = old.wrapping_add(new);
    }
}

/// How far each of the 64 steps turns.
fn turns() -> impl Iterator<Item = u32> {
    TURNS.into_iter().flat_map(|round| round.into_iter().cycle().take(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1321, A.5, and lengths around a block.
    #[test]
    fn digests_are_those_of_the_rfc() {
        for (text, wanted) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(hex::encode(digest(text.as_bytes())), wanted, "{text}");
        }
        let a = |n: usize| hex::encode(digest(&vec![b'a'; n]));
        assert_eq!(a(55), "ef1772b6dff9a122358552954ad0df65");
        assert_eq!(a(56), "3b0c8ac703f828b04c6c197006d17218");
        assert_eq!(a(64), "014842d480b571495a4a0363793f7367");
    }
}
