//! Few runs of each benchmark, held against a file of the repository: processor time and allocated bytes.
//!
//! Seconds of one machine say nothing on another. So processor time (all threads, user and system) is given as a multiple of
//! what a fixed loop takes just before on the same machine; of some such pairs the median counts, which a machine that is busy
//! with something else moves little. Allocated bytes are the same everywhere but for what threads do in another order.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::allocations::allocated_bytes;
use crate::{CASES, Case};

/// More processor time than this is a regression, in percent of the baseline.
const CPU_TOLERANCE: f64 = 25.0;

/// More allocated bytes than this are one: percent of the baseline, and bytes for what is small.
const BYTES_TOLERANCE: f64 = 1.0;
const BYTES_SLACK: u64 = 64 << 10;

/// A benchmark that seems worse is measured again, up to so often in all: a busy machine is slow once, a regression each time.
const TRIES: usize = 3;

/// Pairs of the loop and a benchmark.
const PAIRS: usize = 9;

/// A benchmark of less processor time is repeated within its pair until it has so much.
const PAIR_TIME: Duration = Duration::from_millis(60);

/// What is written down of a benchmark.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Figures {
    /// Processor time of one run, as a multiple of the loop's.
    cpu: f64,
    /// Bytes allocated in one run.
    allocated_bytes: u64,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Measured {
    figures: Figures,
    /// Mebibytes per second of processor time, for people.
    mib_a_second: f64,
}

impl Measured {
    /// Returns the measurement that took less processor time.
    fn or_less(self, other: Self) -> Self {
        if other.figures.cpu < self.figures.cpu {
            other
        } else {
            self
        }
    }
}

/// The file: figures by the name of the benchmark.
type Baseline = BTreeMap<String, Figures>;

/// Measures, prints a table, and fails if something got worse or has no figures to be held against.
pub(crate) fn compare(file: &Path) -> ExitCode {
    let baseline: Baseline = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    println!("{}", header());
    let mut worse = Vec::new();
    for (name, make) in CASES {
        let mut case = make();
        let mut best = measure(&mut case);
        let before = baseline.get(*name);
        let mut found = judge(name, best.figures, before);
        for _ in 1..TRIES {
            if found.is_empty() {
                break;
            }
            best = best.or_less(measure(&mut case));
            found = judge(name, best.figures, before);
        }
        println!("{}", line(name, best, before));
        worse.extend(found);
    }
    if worse.is_empty() {
        println!("no regression: processor time within {CPU_TOLERANCE} %, allocated bytes within {BYTES_TOLERANCE} %");
        return ExitCode::SUCCESS;
    }
    for one in worse {
        eprintln!("error: {one}");
    }
    eprintln!("hint: run it again on a quiet machine; `make bench-baseline` takes what is meant as the new baseline.");
    ExitCode::FAILURE
}

/// Measures and writes the file anew.
pub(crate) fn write(file: &Path) -> ExitCode {
    println!("{}", header());
    let mut baseline = Baseline::new();
    for (name, make) in CASES {
        let mut case = make();
        let best = (1..TRIES).fold(measure(&mut case), |best, _| best.or_less(measure(&mut case)));
        println!("{}", line(name, best, None));
        let cpu = (best.figures.cpu * 1000.0).round() / 1000.0;
        let figures = Figures { cpu, ..best.figures };
        baseline.insert((*name).to_owned(), figures);
    }
    let mut text = serde_json::to_string_pretty(&baseline).unwrap();
    text.push('\n');
    fs::write(file, text).unwrap();
    ExitCode::SUCCESS
}

/// Returns what is worse than the baseline by more than the tolerance, each in one line.
fn judge(name: &str, now: Figures, before: Option<&Figures>) -> Vec<String> {
    let Some(before) = before else {
        return vec![format!("{name} has no baseline")];
    };
    let mut worse = Vec::new();
    let cpu = percent(now.cpu, before.cpu);
    if cpu > CPU_TOLERANCE {
        worse.push(format!("{name} takes {cpu:.0} % more processor time"));
    }
    let more = now.allocated_bytes.saturating_sub(before.allocated_bytes);
    if more > BYTES_SLACK && more as f64 > before.allocated_bytes as f64 * BYTES_TOLERANCE / 100.0 {
        worse.push(format!("{name} allocates {} KiB more", more >> 10));
    }
    worse
}

fn percent(now: f64, before: f64) -> f64 {
    if before > 0.0 {
        (now / before - 1.0) * 100.0
    } else {
        0.0
    }
}

fn header() -> String {
    format!(
        "{:<24} {:>9} {:>8} {:>8} {:>7} {:>11} {:>11} {:>7}",
        "benchmark", "MiB/cpu s", "cpu", "before", "change", "alloc KiB", "before", "change"
    )
}

fn line(name: &str, measured: Measured, before: Option<&Figures>) -> String {
    let (now, mib_a_second) = (measured.figures, measured.mib_a_second);
    let (cpu, bytes) = before.map_or(("-".into(), "-".into()), |before| {
        let kib = before.allocated_bytes as f64 / 1024.0;
        (format!("{:.3}", before.cpu), format!("{kib:.0}"))
    });
    let change = |now: f64, before: Option<f64>| before.map_or("-".into(), |b| format!("{:+.1} %", percent(now, b)));
    format!(
        "{name:<24} {mib_a_second:>9.0} {:>8.3} {cpu:>8} {:>7} {:>11.0} {bytes:>11} {:>7}",
        now.cpu,
        change(now.cpu, before.map(|b| b.cpu)),
        now.allocated_bytes as f64 / 1024.0,
        change(now.allocated_bytes as f64, before.map(|b| b.allocated_bytes as f64)),
    )
}

/// Measures a benchmark once.
fn measure(case: &mut Case) -> Measured {
    let mut buffer = vec![1; 4 << 20];
    // What is made once per process (buffers of the pool, contexts) is no part of a run.
    (case.run)();
    let times = repetitions(case);
    let (mut ratios, mut seconds, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let unit = timed(|| fixed_loop(&mut buffer)).as_secs_f64();
        let before = allocated_bytes();
        let taken = timed(|| (0..times).for_each(|_| (case.run)())).as_secs_f64() / f64::from(times);
        bytes.push((allocated_bytes() - before) / u64::from(times));
        ratios.push(taken / unit);
        seconds.push(taken);
    }
    let figures = Figures {
        cpu: median(&mut ratios),
        allocated_bytes: bytes.into_iter().min().unwrap_or(0),
    };
    let mib = case.bytes as f64 / f64::from(1 << 20);
    Measured {
        figures,
        mib_a_second: mib / median(&mut seconds),
    }
}

/// Returns how often a benchmark runs within a pair.
fn repetitions(case: &mut Case) -> u32 {
    let once = timed(|| (case.run)()).as_nanos().max(1);
    PAIR_TIME.as_nanos().div_ceil(once) as u32
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the processor time that all threads of this process take meanwhile.
fn timed(work: impl FnOnce()) -> Duration {
    let before = processor_time();
    work();
    processor_time().saturating_sub(before)
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The unit: four chains of multiplications over a buffer, some tens of milliseconds of arithmetic and memory. It uses no
/// library, so that a slower library shows.
fn fixed_loop(buffer: &mut [u8]) {
    let mut lanes = [1_u64, 2, 3, 4];
    for _ in 0..24 {
        for block in buffer.chunks_exact_mut(32) {
            for (lane, word) in lanes.iter_mut().zip(block.chunks_exact_mut(8)) {
                let value = u64::from_le_bytes(word.try_into().unwrap());
                *lane = (*lane ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
                word.copy_from_slice(&lane.to_le_bytes());
            }
        }
    }
    black_box(lanes);
}
