//! What flows through the benchmarks: the same bytes on every machine, from one seed.

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

/// One mebibyte.
pub(crate) const MIB: usize = 1 << 20;

/// Words of rows and values; they repeat as those of real data do.
const WORDS: &[&str] = &[
    "order",
    "shipped",
    "Berlin",
    "customer",
    "2026-03-14",
    "pending",
    "invoice",
    "EUR",
    "warehouse",
    "return",
    "note",
    "item",
    "null",
    "street",
    "paid",
    "München",
];

pub(crate) fn rng() -> SmallRng {
    SmallRng::seed_from_u64(0x7769_7265_7661_756c)
}

/// Lines of COPY text, 20 to 300 bytes each with their newline, `bytes` together or a line less.
pub(crate) fn rows(bytes: usize) -> Vec<Vec<u8>> {
    let mut rng = rng();
    let (mut rows, mut written) = (Vec::new(), 0);
    loop {
        let mut row = format!("{}\t{:.2}\t", rows.len() + 1, rng.random_range(0.0..10_000.0)).into_bytes();
        for _ in 0..rng.random_range(1..24) {
            row.extend_from_slice(WORDS[rng.random_range(0..WORDS.len())].as_bytes());
            row.push(b' ');
        }
        row.extend_from_slice(format!("\t{:08x}\n", rng.random::<u32>()).as_bytes());
        written += row.len();
        if written > bytes {
            return rows;
        }
        rows.push(row);
    }
}

/// Bytes that do not compress.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    rng().fill_bytes(&mut noise);
    noise
}
