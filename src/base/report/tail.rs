//! The last warnings and errors of this process's log, for the record of a run.
//!
//! Only lines of this program are taken, which name no secrets, and of each only the message. The number of lines is bounded.

use std::collections::VecDeque;
use std::sync::Mutex;

use jiff::Timestamp;

/// Lines that are remembered.
const LINES: usize = 100;

/// Characters of a line.
const LONGEST: usize = 500;

static TAIL: Mutex<VecDeque<(Timestamp, String)>> = Mutex::new(VecDeque::new());

/// Remembers a line.
pub fn push(time: Timestamp, line: &str) {
    let line: String = line
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let Ok(mut tail) = TAIL.lock() else { return };
    if tail.len() == LINES {
        tail.pop_front();
    }
    tail.push_back((time, line));
}

/// Returns what was said since a moment, oldest first, each line with its time.
pub fn since(time: Timestamp) -> Vec<String> {
    let Ok(tail) = TAIL.lock() else { return Vec::new() };
    let lines = tail.iter().filter(|(at, _)| *at >= time);
    lines.map(|(at, line)| format!("{at:.0} {line}")).collect()
}
