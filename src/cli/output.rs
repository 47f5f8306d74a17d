//! What people and programs read: one report on standard output, errors with a hint on standard error.

use std::borrow::Cow;
use std::io::{BufRead, IsTerminal, Read, Write};

use crate::base::error::{Error, ErrorKind};
use crate::cli::args::Global;
use crate::config::redact_urls;
use crate::operations::{Report, Status};
use crate::service::scheduler::Event;

/// Whether a character does something to a terminal instead of being shown: control characters, and those that turn the direction
/// of what follows. Names and errors of a repository may hold any.
fn acts(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns a text that is only shown. Everything for people passes here, once, on its way out.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(acts) {
        Cow::Owned(text.replace(acts, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The same for JSON, in which such a character can only be part of a string: it is written as an escape and stays what it is.
fn plain_json(text: String) -> String {
    if !text.contains(acts) {
        return text;
    }
    let escaped = |c: char| {
        if acts(c) {
            format!("\\u{:04x}", u32::from(c))
        } else {
            c.to_string()
        }
    };
    text.chars().map(escaped).collect()
}

/// Prints a finished report, as one JSON document or as text. Quiet means errors only, and damage that `verify` found is
/// one. A reader that went away is no error.
pub(super) fn print_report(report: &dyn Report, global: &Global) {
    if !report.prints() {
        return;
    }
    let text = if global.json {
        let mut text = serde_json::to_string_pretty(&report.document()).unwrap_or_default();
        text.push('\n');
        plain_json(text)
    } else if global.quiet && report.status() == Status::Done {
        return;
    } else {
        plain(&report.text()).into_owned()
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
        plain_json(format!("{document}\n"))
    } else if global.quiet {
        return;
    } else {
        plain(&format!("{} {event}", now.strftime("%Y-%m-%d %H:%M:%S %Z"))).into_owned()
    };
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

/// Prints what a long command is about to do on standard error, unless only errors are wanted.
pub(super) fn print_progress(text: &str, global: &Global) {
    if !global.quiet {
        let _ = std::io::stderr().lock().write_all(plain(text).as_bytes());
    }
}

/// Returns how a person is asked, where standard input and standard error are a terminal.
pub(super) fn asks() -> Option<fn(&str) -> bool> {
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let ask: fn(&str) -> bool = ask;
    terminal.then_some(ask)
}

/// Asks a question; anything but a yes is a no.
fn ask(question: &str) -> bool {
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    let read = std::io::stdin().lock().take(64).read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Prints the chain of an error once, with the innermost hint; as a JSON document too if one was asked for. A value that is
/// refused may be a URL in the place of something else: its password does not print.
pub(super) fn print_error(error: &Error, json: bool) {
    let chain = redact_urls(&error.chain());
    let hint = error.hint().or_else(|| default_hint(error)).map(redact_urls);
    if json {
        print_error_document(error.kind(), &chain, hint.as_deref());
    }
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "error: {}", plain(&chain));
    if let Some(hint) = &hint {
        let _ = writeln!(err, "hint: {}", plain(hint));
    }
}

fn print_error_document(kind: ErrorKind, message: &str, hint: Option<&str>) {
    let document = serde_json::json!({
        "error": { "kind": kind_word(kind), "message": message, "hint": hint }
    });
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", plain_json(format!("{document:#}")));
}

/// Prints what the reader of the command line says: help that was asked for, or that something is wrong, which is an error like
/// any other to a program that asked for JSON.
pub(super) fn print_usage(error: &clap::Error, json: bool) {
    if !error.use_stderr() {
        let _ = error.print();
        return;
    }
    let text = error.render().to_string();
    let shown = redact_urls(&text);
    if json {
        let (message, hint) = usage_words(error.kind(), &shown);
        print_error_document(ErrorKind::Invalid, &message, Some(&hint));
    }
    if shown == text {
        // With colours on a terminal.
        let _ = error.print();
    } else {
        let _ = std::io::stderr().lock().write_all(plain(&shown).as_bytes());
    }
}

/// Takes clap's text apart: the first paragraph is what is wrong, tips and usage are what to do about it.
fn usage_words(kind: clap::error::ErrorKind, text: &str) -> (String, String) {
    if kind == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let message = "the command line is incomplete".to_owned();
        return (message, "`wirevault --help` lists the commands.".to_owned());
    }
    let one_line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n").map(one_line);
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
    let advice = paragraphs.filter_map(|paragraph| match paragraph.strip_prefix("tip: ") {
        Some(tips) => Some(tips.replace(" tip: ", "; ")),
        None => paragraph.starts_with("Usage: ").then_some(paragraph),
    });
    let mut lines: Vec<String> = advice.map(|line| format!("{line}.")).collect();
    lines.push("`--help` lists all options.".to_owned());
    (message, lines.join(" "))
}

/// What can be said of a kind when nobody on the way knew more.
fn default_hint(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::NotFound if is_about_a_path(error) => {
            Some("Check that the path exists and, in a container, that it is mounted.")
        }
        ErrorKind::NotFound => Some("Check the name; `wirevault list` shows the snapshots."),
        ErrorKind::AlreadyExists => Some("Choose another name, or remove the existing one."),
        ErrorKind::PreconditionFailed => Some("Another run was active; run the command again."),
        ErrorKind::Denied => Some("Check user, keys and permissions."),
        ErrorKind::Corrupt => Some("Run `wirevault verify --all` and use an undamaged snapshot."),
        ErrorKind::TimedOut | ErrorKind::Unavailable => {
            Some("Check address, port and network, then run the command again.")
        }
        ErrorKind::LimitExceeded => Some("Raise the limit or free space, then run the command again."),
        _ => None,
    }
}

/// Whether the operating system, and no repository, found nothing.
fn is_about_a_path(error: &Error) -> bool {
    let first: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    std::iter::successors(first, |cause| cause.source())
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::NotFound)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_found_on_disk_is_a_path_and_in_a_repository_a_name() {
        use crate::base::error::Context;
        let missing = || Err::<(), _>(std::io::Error::from(std::io::ErrorKind::NotFound));
        let path = missing()
            .context("open \"/nowhere\"")
            .context("backup")
            .expect_err("it is one");
        assert!(
            default_hint(&path).is_some_and(|hint| hint.contains("path")),
            "{path:?}"
        );
        let name = Error::new(ErrorKind::NotFound, "no snapshot \"x\"");
        assert!(default_hint(&name).is_some_and(|hint| hint.contains("wirevault list")));
    }

    #[test]
    fn nothing_that_is_printed_acts_on_a_terminal() {
        let odd = "a\u{1b}]0;x\u{7}b\rc\u{9b}d\u{202e}e\u{7f}\nf ü";
        assert_eq!(
            plain(odd),
            "a\u{fffd}]0;x\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}\nf ü"
        );
        let json = plain_json(serde_json::json!({ "a": odd }).to_string());
        assert!(!json.contains(acts), "{json}");
        let back: serde_json::Value = serde_json::from_str(&json).expect("escapes are JSON");
        assert_eq!(back, serde_json::json!({ "a": odd }));
    }
}
