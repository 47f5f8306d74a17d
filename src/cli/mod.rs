//! Flags to options, output, progress.

use std::process::ExitCode;

/// Runs the program and returns its exit code: 0 done, 1 failed, 2 finished but some sources failed.
pub fn main() -> ExitCode {
    ExitCode::from(1)
}
