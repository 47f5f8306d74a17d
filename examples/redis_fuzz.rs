//! Damages RDBs at random and lets the walk and the decoder take them: no panic, the same answer however the bytes are
//! cut, and memory that a forged length does not raise.
//!
//! `redis_fuzz SECONDS SEED FILE…`; benches/end_to_end/redis_fuzz.sh makes the files. What makes it fail is written to
//! `redis_fuzz.failed.rdb`.

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a tool for tests"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wirevault::base::error::Result;
use wirevault::engines::redis::wire::rdb::decode::{Decoder, Element, Elements, Next};
use wirevault::engines::redis::wire::rdb::pull::InMemory;
use wirevault::engines::redis::wire::rdb::{Counter, Walker};

/// Adds up what the decoder tells.
#[derive(Default, Debug, PartialEq)]
struct Sum {
    keys: u64,
    elements: u64,
    bytes: u64,
}

impl Elements for Sum {
    async fn element(&mut self, element: Element<'_>) -> Result<()> {
        let bytes = match element {
            // How a string is cut into pieces depends on how the bytes came.
            Element::Piece(bytes) => {
                self.add(0, bytes.len());
                return Ok(());
            }
            Element::Item(item) => item.len(),
            Element::Member(member, score) => member.len() + usize::from(score.is_nan()),
            Element::Field(name, value, _) => name.len() + value.len(),
            Element::Entry(_, fields) => fields.iter().map(|part| part.len()).sum(),
            Element::Group(name, ..) | Element::Consumer(name) => name.len(),
            _ => 0,
        };
        self.add(1, bytes);
        Ok(())
    }
}

impl Sum {
    fn add(&mut self, elements: u64, bytes: usize) {
        self.elements += elements;
        self.bytes += u64::try_from(bytes).unwrap_or(0);
    }
}

/// Walks it; returns the number of keys, and whether it was understood to the end.
fn walked(pieces: &[Vec<u8>]) -> Option<(u64, bool)> {
    let (mut walker, mut counter) = (Walker::new(), Counter::default());
    for piece in pieces {
        walker.feed(piece, &mut counter).ok()?;
        if walker.unknown().is_some() {
            walker.feed_opaque(piece);
        }
    }
    Some((counter.keys(), walker.finish().is_ok()))
}

fn decoded(pieces: Vec<Vec<u8>>) -> Option<Sum> {
    let mut decoder = Decoder::new(InMemory(pieces.into_iter()), None);
    let mut sum = Sum::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
    runtime.block_on(async {
        loop {
            match decoder.next().await.ok()? {
                Next::End => return Some(sum),
                Next::Function(code) => sum.add(1, code.len()),
                Next::Key(value) => {
                    sum.keys += 1;
                    decoder.value(value, &mut sum).await.ok()?;
                }
            }
        }
    })
}

/// The beginnings that lengths and special strings have.
const HEADS: &[&[u8]] = &[
    &[0x81, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x80, 0xff, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0x40, 0],
    &[0xc3, 5, 0x80, 0, 0, 1, 0],
    &[0xc0, 7],
    &[0xc2, 0, 0, 0, 0x80],
    &[0x7f, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xf0, 0xff, 0xff, 0xff, 0x7f],
    &[0],
    &[0xfe],
];

fn damage(rng: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[rng.random_range(0..seeds.len())].clone();
    for _ in 0..rng.random_range(1..6) {
        if bytes.len() < 12 {
            break;
        }
        let at = rng.random_range(0..bytes.len());
        let span = rng.random_range(1..64.min(bytes.len() - at).max(2));
        let until = (at + span).min(bytes.len());
        match rng.random_range(0..8) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => drop(bytes.drain(at..until)),
            3 => {
                let head = HEADS[rng.random_range(0..HEADS.len())];
                bytes.splice(at..(at + head.len()).min(bytes.len()), head.iter().copied());
            }
            4 => {
                let head = HEADS[rng.random_range(0..HEADS.len())];
                bytes.splice(at..at, head.iter().copied());
            }
            5 => {
                let copy = bytes[at..until].to_vec();
                let to = rng.random_range(0..bytes.len());
                bytes.splice(to..to, copy);
            }
            6 => {
                let other = &seeds[rng.random_range(0..seeds.len())];
                let from = rng.random_range(0..other.len());
                let part = other[from..(from + span).min(other.len())].to_vec();
                bytes.splice(at..until, part);
            }
            // The type of a value becomes another.
            _ => bytes[at] = rng.random_range(0..28),
        }
    }
    bytes
}

fn cut(rng: &mut StdRng, bytes: &[u8]) -> Vec<Vec<u8>> {
    let largest = [3, 20, 300, 5000][rng.random_range(0..4)];
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rng.random_range(1..=largest).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let (seconds, seed) = (number(), number());
    let seeds: Vec<Vec<u8>> = arguments
        .map(|path| std::fs::read(path).expect("a readable file"))
        .collect();
    assert!(!seeds.is_empty(), "redis_fuzz SECONDS SEED FILE…");
    let mut rng = StdRng::seed_from_u64(seed);
    for whole in &seeds {
        let (walk, decode) = (walked(std::slice::from_ref(whole)), decoded(vec![whole.clone()]));
        assert!(walk.is_some_and(|(keys, whole)| whole && decode.is_some_and(|sum| sum.keys == keys)));
    }
    let (began, mut inputs, mut understood, mut slowest) = (Instant::now(), 0_u64, 0_u64, Duration::ZERO);
    while began.elapsed().as_secs() < seconds {
        let bytes = damage(&mut rng, &seeds);
        let pieces = cut(&mut rng, &bytes);
        let one = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| {
            let walk = walked(std::slice::from_ref(&bytes));
            let decode = decoded(vec![bytes.clone()]);
            assert_eq!(walk, walked(&pieces), "the walk");
            assert_eq!(decode, decoded(pieces), "the decoder");
            if let (Some((keys, true)), Some(sum)) = (walk, &decode) {
                assert_eq!(keys, sum.keys, "keys");
            }
            decode.is_some()
        }));
        slowest = slowest.max(one.elapsed());
        inputs += 1;
        let Ok(whole) = result else {
            std::fs::write("redis_fuzz.failed.rdb", &bytes).expect("a writable directory");
            println!("failed at input {inputs} of seed {seed}");
            std::process::exit(1);
        };
        understood += u64::from(whole);
    }
    println!(
        "{inputs} inputs in {seconds} s, {understood} of them decoded to the end, slowest {} ms, peak memory {} MiB",
        slowest.as_millis(),
        peak_mib()
    );
}
