//! The process around a command: threads, signals, memory limit, log.

use std::io::IsTerminal;
use std::path::Path;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::base::error::Result;
use crate::cli::output::plain;

/// Blocking threads at most: sources, directory store and compression; a bound, so that memory has one too.
const BLOCKING_THREADS: usize = 32;

/// Stack of each thread, in bytes. Only touched pages count towards the memory limit.
const STACK_BYTES: usize = 2 << 20;

/// Returns the number of processors this process may use.
pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Makes the runtime.
pub(super) fn runtime() -> Result<Runtime> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(cpus().clamp(1, 4))
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK_BYTES)
        .thread_name("wirevault")
        .enable_all()
        .build()?;
    Ok(runtime)
}

/// Cancels the token on the first SIGINT or SIGTERM; the second one ends the process at once, with an exit code that says no
/// more than that it was ended.
pub(super) fn cancel_on_signals(cancel: CancellationToken, ended: u8) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let name = tokio::select! { _ = interrupt.recv() => "SIGINT", _ = terminate.recv() => "SIGTERM" };
        tracing::warn!("{name}: aborting uploads and exiting; a second signal exits at once");
        cancel.cancel();
        tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
        // Whatever is half-written has no manifest; the sweep takes it.
        std::process::exit(i32::from(ended));
    });
    Ok(())
}

/// Sends logs to standard error, as RUST_LOG or the flags say.
pub(super) fn start_log(verbose: u8, quiet: bool) {
    let default = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "wirevault=info,warn",
        (false, 2) => "wirevault=debug,info",
        (false, _) => "wirevault=trace,debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let printed = tracing_subscriber::fmt::layer()
        .with_writer(|| PlainLog)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(verbose > 1);
    let _ = tracing_subscriber::registry()
        .with(
            printed
                .with_filter(filter)
                .with_filter(filter_fn(|meta| may_log(meta.target(), *meta.level()))),
        )
        .with(Tail.with_filter(LevelFilter::WARN))
        .try_init();
}

/// Standard error for the log: a line at a time, and nothing of it acts on a terminal but the log's own colours.
struct PlainLog;

impl std::io::Write for PlainLog {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let mut out = String::with_capacity(text.len());
        let mut rest: &str = &text;
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            out.push_str(&plain(before));
            let colour = after.split_inclusive('m').next().filter(|code| is_colour(code));
            let (kept, later) = after.split_at(colour.map_or(0, str::len));
            out.push_str(if kept.is_empty() { "\u{fffd}" } else { "\u{1b}" });
            out.push_str(kept);
            rest = later;
        }
        out.push_str(&plain(rest));
        std::io::stderr().lock().write_all(out.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether what follows an escape character is `[…m`, and colours are written at all.
fn is_colour(code: &str) -> bool {
    let numbers = code.strip_prefix('[').and_then(|rest| rest.strip_suffix('m'));
    numbers.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit() || b == b';')) && std::io::stderr().is_terminal()
}

/// Remembers this program's own warnings and errors for the record of a run, whatever is printed.
struct Tail;

impl<S: tracing::Subscriber> Layer<S> for Tail {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target().starts_with(env!("CARGO_PKG_NAME")) {
            let mut message = Message(metadata.level().to_string());
            event.record(&mut message);
            crate::base::report::tail::push(jiff::Timestamp::now(), &message.0);
        }
    }
}

/// Takes the message of an event and leaves its other fields.
struct Message(String);

impl tracing::field::Visit for Message {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.push_str(&format!(" {value:?}"));
        }
    }
}

/// Libraries write requests with their keys, and statements with their values, at their finer levels: whatever RUST_LOG
/// says, those stay out of the log.
fn may_log(target: &str, level: Level) -> bool {
    target == "wirevault" || target.starts_with("wirevault::") || level <= Level::INFO
}

/// Returns the memory limit of the container in bytes, if there is one (cgroup v2, then v1).
pub(super) fn cgroup_limit() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    smallest_limit(Path::new("/sys/fs/cgroup"), &own)
}

/// Walks from this process's group up to the root: the smallest limit on the way counts.
fn smallest_limit(root: &Path, own: &str) -> Option<u64> {
    let mut smallest: Option<u64> = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (base, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            list if list.split(',').any(|c| c == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut group = base.join(path.trim_start_matches('/'));
        loop {
            let limit = std::fs::read_to_string(group.join(file))
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok());
            // Version 1 writes a number near 2^63 for "no limit".
            if let Some(limit) = limit.filter(|limit| *limit < 1 << 60) {
                smallest = Some(smallest.map_or(limit, |s| s.min(limit)));
            }
            if group == base || !group.pop() {
                break;
            }
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn libraries_log_no_more_than_what_they_tell() {
        assert!(may_log("wirevault::storage", Level::TRACE) && may_log("aws_smithy_runtime", Level::INFO));
        assert!(!may_log("aws_smithy_runtime::client", Level::DEBUG) && !may_log("wirevaultx", Level::DEBUG));
    }

    #[test]
    fn the_smallest_limit_of_all_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("a/memory.max"), "134217728\n").unwrap();
        std::fs::write(root.path().join("a/b/memory.max"), "max\n").unwrap();
        assert_eq!(smallest_limit(root.path(), "0::/a/b\n"), Some(128 << 20));
        assert_eq!(smallest_limit(root.path(), "0::/\n"), None);
        std::fs::create_dir_all(root.path().join("memory/x")).unwrap();
        std::fs::write(
            root.path().join("memory/x/memory.limit_in_bytes"),
            "9223372036854771712\n",
        )
        .unwrap();
        std::fs::write(root.path().join("memory/memory.limit_in_bytes"), "268435456\n").unwrap();
        assert_eq!(smallest_limit(root.path(), "4:memory:/x\n"), Some(256 << 20));
    }
}
