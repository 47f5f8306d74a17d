//! Progress on standard error: bars with rate and time left on a terminal, log lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::base::report::{Note, Reporter, SharedReporter};
use crate::cli::output::plain;

/// Notes of one code that are printed one by one; the rest is counted.
const NOTES_SHOWN: u64 = 20;

/// Makes the reporter that fits standard error.
pub(super) fn reporter(quiet: bool) -> SharedReporter {
    if quiet {
        crate::base::report::silent()
    } else if std::io::stderr().is_terminal() {
        Arc::new(Bars::new())
    } else {
        Arc::new(Lines::default())
    }
}

/// Bars on a terminal, one per task.
#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    tasks: Mutex<HashMap<String, ProgressBar>>,
    shown: Mutex<HashMap<String, u64>>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        Self {
            all,
            tasks: Mutex::default(),
            shown: Mutex::default(),
        }
    }

    fn with(&self, task: &str, act: impl FnOnce(&ProgressBar)) {
        if let Ok(tasks) = self.tasks.lock()
            && let Some(bar) = tasks.get(task)
        {
            act(bar);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Reporter for Bars {
    fn begin(&self, task: &str, total_bytes: Option<u64>) {
        let bar = self.all.add(match total_bytes {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{prefix:16} [{bar:24}] {binary_bytes:>11} of {binary_total_bytes} {binary_bytes_per_sec:>13} left {eta} {msg}",
            )),
            None => ProgressBar::new_spinner()
                .with_style(style("{prefix:16} {spinner} {binary_bytes:>11} {binary_bytes_per_sec:>13} {elapsed} {msg}")),
        });
        bar.set_prefix(plain(task).into_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        if let Ok(mut tasks) = self.tasks.lock() {
            tasks.insert(task.to_owned(), bar);
        }
    }

    fn phase(&self, task: &str, phase: &str) {
        self.with(task, |bar| bar.set_message(plain(phase).into_owned()));
    }

    fn advance(&self, task: &str, raw_bytes: u64, _items: u64) {
        self.with(task, |bar| bar.inc(raw_bytes));
    }

    fn note(&self, task: &str, note: Note) {
        if shown(&self.shown, task, &note.code) {
            let _ = self
                .all
                .println(plain(&format!("note: {task}: {}: {}", note.object, note.message)));
        }
    }

    fn end(&self, task: &str, ok: bool) {
        self.with(task, |bar| {
            if ok {
                bar.finish_with_message("done");
            } else {
                bar.abandon_with_message("failed");
            }
        });
    }
}

/// Log lines, for pipes and journals.
#[derive(Debug, Default)]
struct Lines {
    shown: Mutex<HashMap<String, u64>>,
}

impl Reporter for Lines {
    fn begin(&self, task: &str, total_bytes: Option<u64>) {
        tracing::info!(task, total_bytes, "begins");
    }

    fn phase(&self, task: &str, phase: &str) {
        tracing::info!(task, phase, "enters phase");
    }

    fn advance(&self, _: &str, _: u64, _: u64) {}

    fn note(&self, task: &str, note: Note) {
        if shown(&self.shown, task, &note.code) {
            tracing::warn!(task, code = note.code, "{}: {}", note.object, note.message);
        }
    }

    fn end(&self, task: &str, ok: bool) {
        tracing::info!(task, ok, "ends");
    }
}

/// Counts a note and returns whether it is still printed.
fn shown(counts: &Mutex<HashMap<String, u64>>, task: &str, code: &str) -> bool {
    let Ok(mut counts) = counts.lock() else { return true };
    let count = counts.entry(format!("{task}/{code}")).or_default();
    *count += 1;
    *count <= NOTES_SHOWN
}
