//! Benchmarks of the ways that every byte of a backup goes.
//!
//! `cargo bench --bench hot_path [-- FILTER]` runs them under criterion, in bytes a second. With `compare FILE` or `write FILE`
//! behind the dashes ([`quick`]) each runs some times only, and its processor time and allocated bytes are held against a
//! file, or written there.

#![allow(
    clippy::unwrap_used,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "a tool for developers, which may fail loudly"
)]

mod allocations;
mod archive;
mod inputs;
mod postgres;
mod quick;
mod redis;
mod sqlite;

use std::process::ExitCode;
use std::time::Duration;

use criterion::{Criterion, Throughput};

/// One benchmark: what is done again and again, and how many bytes go through each time.
pub(crate) struct Case {
    pub(crate) bytes: u64,
    pub(crate) run: Box<dyn FnMut()>,
}

impl Case {
    pub(crate) fn new(bytes: usize, run: impl FnMut() + 'static) -> Self {
        let run = Box::new(run);
        Self {
            bytes: bytes as u64,
            run,
        }
    }
}

/// Makes a benchmark ready.
type Make = fn() -> Case;

/// Every benchmark by its name.
pub(crate) const CASES: &[(&str, Make)] = &[
    ("postgres/strip_copy", postgres::strip_copy),
    ("postgres/row_digest", postgres::row_digest),
    ("archive/frames_of_rows", archive::frames_of_rows),
    ("archive/frames_of_noise", archive::frames_of_noise),
    ("archive/small_entries", archive::small_entries),
    ("archive/read_all", archive::read_all),
    ("archive/read_ranges", archive::read_ranges),
    ("redis/rdb_walk", redis::rdb_walk),
    ("sqlite/page_stream", sqlite::page_stream),
];

fn main() -> ExitCode {
    // Cargo itself adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["compare", file] => quick::compare(file.as_ref()),
        ["write", file] => quick::write(file.as_ref()),
        _ => {
            under_criterion();
            ExitCode::SUCCESS
        }
    }
}

fn under_criterion() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    for (name, make) in CASES {
        let (area, what) = name.split_once('/').unwrap();
        let mut case = make();
        let mut group = criterion.benchmark_group(area);
        group.throughput(Throughput::Bytes(case.bytes));
        group.bench_function(what, |bencher| bencher.iter(|| (case.run)()));
        group.finish();
    }
    criterion.final_summary();
}
