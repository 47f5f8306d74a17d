//! What a scratch server has logged, and whether what it failed by is this host's doing or the backup's.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::base::error::{Context, Result};
use crate::base::exact;
use crate::base::raw_text::printable;

/// Bytes of the end of the log that are read.
const TAIL_BYTES: u64 = 64 << 10;

/// Lines of it that an error tells, at most, and characters of each.
const LINES: usize = 8;
const CHARACTERS: usize = 300;

/// Parts of messages that are about this host and its installation: (the part, what to do).
const OF_HOST: &[(&str, &str)] = &[
    (
        "resource manager with ID",
        "its log has records of an extension's own, which a scratch server does not load",
    ),
    (
        "could not access file \"$libdir",
        "an extension's library is missing on this host",
    ),
    (
        "could not load library",
        "an extension's library cannot be loaded on this host",
    ),
    (
        "No space left on device",
        "the spool directory is full; use a larger one with --spool-dir",
    ),
    (
        "Disk quota exceeded",
        "the spool directory is full; use a larger one with --spool-dir",
    ),
    (
        "could not map anonymous shared memory",
        "this host has too little memory",
    ),
    ("Cannot allocate memory", "this host has too little memory"),
    ("out of memory", "this host has too little memory"),
    ("shared memory segment", "this host has too little shared memory"),
    ("could not create semaphores", "this host has too few semaphores"),
    ("could not create lock file", "the server could not write its lock file"),
    (
        "incompatible with operating system",
        "a locale of the cluster is missing on this host",
    ),
    (
        "database files are incompatible with server",
        "the installation was built with other sizes than the original",
    ),
    (
        "from archive: ",
        "restore_command failed: the server's user must be able to run this program and to read its configuration and the repository",
    ),
    (
        "maximum number of prepared transactions",
        "the log has more prepared transactions than the base's server was set up for",
    ),
    ("it made no progress", "the server was ended"),
    ("the scratch server did not stop", "the server was ended"),
    (
        "unrecognized configuration parameter",
        "the installation does not know a setting of the scratch server",
    ),
];

/// Returns the end of the log.
///
/// It is read by the handle that it was made with: what lies at its path by now is for the server's user to say.
pub(super) fn tail(log: &File) -> Result<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let bytes = log.metadata()?.len();
        let mut tail = vec![0; exact::usize_from(bytes.min(TAIL_BYTES))];
        let mut at = 0;
        while let Some(rest) = tail.get_mut(at..).filter(|rest| !rest.is_empty()) {
            match log.read_at(
                rest,
                bytes.saturating_sub(TAIL_BYTES).saturating_add(exact::u64_from(at)),
            )? {
                0 => break,
                count => at = at.saturating_add(count),
            }
        }
        tail.truncate(at);
        Ok(tail)
    };
    let tail = read().context("read the log of the scratch server")?;
    Ok(String::from_utf8_lossy(&tail).into_owned())
}

/// Returns why a message is this host's doing, if it is.
pub(super) fn of_host(text: &str) -> Option<&'static str> {
    OF_HOST
        .iter()
        .find(|(part, _)| text.contains(part))
        .map(|(_, why)| *why)
}

/// Returns the lines by which a server says why it ended: what is fatal, what belongs to it, and errors of the program that it has run. Without
/// any of these, its last ones.
pub(super) fn last_words(tail: &str) -> String {
    const FATAL: [&str; 2] = ["FATAL:", "PANIC:"];
    const MORE: [&str; 4] = ["DETAIL:", "HINT:", "error: ", "hint: "];
    let begins = |line: &str, words: &[&str]| words.iter().any(|word| line.starts_with(word));
    let all: Vec<&str> = tail.lines().filter(|line| !line.trim().is_empty()).collect();
    let (mut told, mut is_fatal) = (Vec::new(), false);
    for line in &all {
        is_fatal = begins(line, &FATAL) || (is_fatal && begins(line, &MORE));
        if is_fatal || line.starts_with("error: ") {
            told.push(*line);
        }
    }
    if told.is_empty() {
        told = all;
    }
    let from = told.len().saturating_sub(LINES);
    let lines = told.iter().skip(from);
    let short = |line: &&str| printable(line.chars().take(CHARACTERS).collect::<String>());
    lines.map(short).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_fatal_is_told_with_what_belongs_to_it() {
        let log = "LOG:  starting PostgreSQL 15.4\nerror: fetch \"x\": denied\nHINT:  of a line that is not fatal\nFATAL:  could not restore file\nDETAIL:  of it\nLOG:  shutting down\n";
        assert_eq!(
            last_words(log),
            "error: fetch \"x\": denied | FATAL:  could not restore file | DETAIL:  of it"
        );
        assert_eq!(last_words("LOG:  a\n\nLOG:  b\n"), "LOG:  a | LOG:  b");
        let many: String = (0..20)
            .flat_map(|number| ["PANIC:  ".to_owned(), number.to_string(), "\n".to_owned()])
            .collect();
        assert!(last_words(&many).starts_with("PANIC:  12 | "));
    }

    #[test]
    fn a_missing_module_is_this_hosts_doing_and_a_missing_segment_is_not() {
        assert!(of_host("FATAL:  resource manager with ID 128 not registered").is_some());
        assert!(of_host("FATAL:  recovery ended before configured recovery target was reached").is_none());
        assert!(of_host("ERROR:  could not open file \"base/5/16384\": No such file or directory").is_none());
    }

    #[test]
    fn a_command_that_cannot_be_run_is_this_hosts_doing() {
        for how in ["command not found", "child process exited with exit code 200"] {
            let line = format!("FATAL:  could not restore file \"000000010000000000000003\" from archive: {how}");
            assert!(
                of_host(&line).is_some_and(|why| why.contains("restore_command")),
                "{line}"
            );
        }
        assert!(of_host("LOG:  restored log file \"000000010000000000000003\" from archive").is_none());
    }

    #[test]
    fn of_a_long_log_the_end_is_read() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("log");
        std::fs::write(&log, ["x".repeat(100_000), "the end".to_owned()].concat()).unwrap();
        let tail = tail(&File::open(&log).unwrap()).unwrap();
        assert!(tail.len() == 64 << 10 && tail.ends_with("the end"));
    }
}
