//! What people and programs read: one report on standard output, errors with a hint on standard error.

use std::io::Write;

use crate::cli::args::Global;
use crate::commands::run::Event;
use crate::commands::{Report, Status};
use crate::error::{Error, ErrorKind};

/// Prints a finished report, as one JSON document or as text. Quiet means errors only, and damage that `verify` found is
/// one. A reader that went away is no error.
pub(super) fn print_report(report: &dyn Report, global: &Global) {
    if !report.prints() {
        return;
    }
    let text = if global.json {
        let mut text = serde_json::to_string_pretty(&report.document()).unwrap_or_default();
        text.push('\n');
        text
    } else if global.quiet && report.status() == Status::Done {
        return;
    } else {
        report.text()
    };
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints one line for something that happened: JSON for programs, otherwise text with the time of day.
pub(super) fn print_event(event: &Event, global: &Global) {
    let now = jiff::Zoned::now();
    let line = if global.json {
        let mut document = serde_json::to_value(event).unwrap_or_default();
        if let Some(fields) = document.as_object_mut() {
            fields.insert("time".to_owned(), now.timestamp().to_string().into());
        }
        format!("{document}\n")
    } else if global.quiet {
        return;
    } else {
        format!("{} {event}", now.strftime("%Y-%m-%d %H:%M:%S %Z"))
    };
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

/// Prints what a long command is about to do on standard error, unless only errors are wanted.
pub(super) fn print_progress(text: &str, global: &Global) {
    if !global.quiet {
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Prints the chain of an error once, with the innermost hint; as a JSON document too if one was asked for.
pub(super) fn print_error(error: &Error, json: bool) {
    if json {
        let document = serde_json::json!({
            "error": { "kind": kind_word(error.kind()), "message": error.chain(), "hint": error.hint() }
        });
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{document:#}");
    }
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "error: {}", error.chain());
    if let Some(hint) = error.hint().or_else(|| default_hint(error.kind())) {
        let _ = writeln!(err, "hint: {hint}");
    }
}

/// What can be said of a kind when nobody on the way knew more.
fn default_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::NotFound => Some("Check the name; `wirevault list` shows what is there."),
        ErrorKind::AlreadyExists => Some("Choose another name, or remove what is there."),
        ErrorKind::PreconditionFailed => Some("Another run was at work; run the command again."),
        ErrorKind::Denied => Some("Check user, keys and permissions."),
        ErrorKind::Corrupt => Some("Run `wirevault verify --all` and use an undamaged snapshot."),
        ErrorKind::TimedOut | ErrorKind::Unavailable => {
            Some("Check address, port and network, then run the command again.")
        }
        ErrorKind::LimitExceeded => Some("Raise the limit or free space, then run the command again."),
        _ => None,
    }
}

pub(super) fn kind_word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "not-found",
        ErrorKind::AlreadyExists => "already-exists",
        ErrorKind::PreconditionFailed => "precondition-failed",
        ErrorKind::Denied => "denied",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::TimedOut => "timed-out",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Invalid => "invalid",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::LimitExceeded => "limit-exceeded",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Archived => "archived",
        ErrorKind::Other => "other",
    }
}
