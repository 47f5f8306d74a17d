//! What a receiver says when it ends.

use crate::base::units::format_bytes;
use crate::engines::redis::log::described::Gap;
use crate::engines::redis::log::position::Position;
use crate::operations::{Report, Status, document_of};

/// What `log receive` did until it was ended. Its fields are the keys of the JSON document.
#[derive(Debug, Default, serde::Serialize)]
pub struct ReceiveReport {
    /// Name of the source.
    pub source: String,
    /// Replication ID and offset up to which all is stored, as ID:OFFSET.
    pub stored_to: Option<String>,
    /// Objects that were stored.
    pub objects: u64,
    /// Bytes of the stream that were stored.
    pub raw_bytes: u64,
    /// Bytes of the objects.
    pub stored_bytes: u64,
    /// Bytes that came behind `stored_to`, and that the store did not take before the end.
    pub unstored_bytes: u64,
    /// Bytes that came and were not stored, because others are stored at their offsets.
    pub dropped_bytes: u64,
    /// What else is not as it should be at the end.
    pub problems: Vec<String>,
    /// Bytes that the server keeps for whoever comes again, at least, as far as it says so.
    #[serde(skip)]
    pub backlog_bytes: Option<u64>,
    /// Snapshots that were taken to begin with.
    pub snapshots: Vec<String>,
    /// What of the stream is lost, between two positions each.
    pub gaps: Vec<ReceiveGap>,
}

/// A part of a stream that is lost.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ReceiveGap {
    /// Where the stream should have gone on.
    pub from: String,
    /// Where it went on.
    pub to: String,
    /// Why: `backlog`, `unknown-history`, `rolled-back`, `damaged`.
    pub why: &'static str,
}

impl ReceiveGap {
    pub(super) fn of(gap: &Gap, to: &Position) -> Self {
        Self {
            from: gap.from.to_string(),
            to: to.to_string(),
            why: gap.why.word(),
        }
    }
}

impl Report for ReceiveReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn status(&self) -> Status {
        let is_all_stored = self.unstored_bytes == 0 && self.dropped_bytes == 0;
        if self.gaps.is_empty() && is_all_stored && self.problems.is_empty() {
            Status::Done
        } else {
            Status::Partial
        }
    }

    fn text(&self) -> String {
        let to = self.stored_to.as_deref().unwrap_or("nothing");
        let mut text = format!(
            "{}: stored to {to}: {} of commands in {} objects\n",
            self.source,
            format_bytes(self.raw_bytes),
            self.objects
        );
        for gap in &self.gaps {
            text.push_str(&format!("gap from {} to {} ({})\n", gap.from, gap.to, gap.why));
        }
        if self.unstored_bytes > 0 {
            text.push_str(&format!("{}\n", self.unstored()));
        }
        if self.dropped_bytes > 0 {
            let count = format_bytes(self.dropped_bytes);
            text.push_str(&format!("NOT STORED: {count} at offsets at which others are stored\n"));
        }
        for problem in &self.problems {
            text.push_str(&format!("PROBLEM: {problem}\n"));
        }
        text
    }
}

impl ReceiveReport {
    /// Tells what becomes of what the store did not take.
    pub(super) fn unstored(&self) -> String {
        let (count, to) = (
            format_bytes(self.unstored_bytes),
            self.stored_to.as_deref().unwrap_or("nothing"),
        );
        let kept = match self.backlog_bytes {
            Some(backlog) if backlog < self.unstored_bytes => format!(
                "the server keeps {} of its stream (repl-backlog-size): the rest of them is lost, and the next receiver begins behind a gap",
                format_bytes(backlog)
            ),
            Some(backlog) => format!(
                "the server still has them, until it has written about {} more: start the receiver again before that",
                format_bytes(backlog.saturating_sub(self.unstored_bytes))
            ),
            None => "the server still has them as far as its backlog reaches: start the receiver again soon".to_owned(),
        };
        format!("NOT STORED: {count} that came behind {to}; {kept}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_stored_is_told_with_what_the_server_still_has() {
        let mut report = ReceiveReport {
            source: "cache".to_owned(),
            unstored_bytes: 3 << 20,
            ..ReceiveReport::default()
        };
        assert_eq!(report.status(), Status::Partial);
        for (backlog, told) in [
            (None, "as far as its backlog reaches"),
            (
                Some(1 << 20),
                "1.0 MiB of its stream (repl-backlog-size): the rest of them is lost",
            ),
            (Some(8 << 20), "until it has written about 5.0 MiB more"),
        ] {
            report.backlog_bytes = backlog;
            assert!(report.text().contains(told), "{}", report.text());
        }
        report.unstored_bytes = 0;
        assert_eq!((report.status(), report.text().lines().count()), (Status::Done, 1));
        report.dropped_bytes = 1;
        assert_eq!((report.status(), report.text().lines().count()), (Status::Partial, 2));
        report.dropped_bytes = 0;
        report.problems.push("no connection".to_owned());
        assert_eq!((report.status(), report.text().lines().count()), (Status::Partial, 2));
    }
}
