//! What a receiver says when it ends.

use crate::base::units::format_bytes;
use crate::engines::postgres::wal::{Lsn, Timeline};
use crate::operations::{Report, Status, document_of};

/// What was received. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct ReceiveReport {
    /// The server.
    pub server: String,
    /// Its system identifier; empty if it was not reached.
    pub system: String,
    /// The replication slot.
    pub slot: String,
    /// The timeline that was received last.
    pub timeline: Option<Timeline>,
    /// Where it began.
    pub from: Option<Lsn>,
    /// Where what is stored ends.
    pub to: Option<Lsn>,
    /// Bytes that the server sent.
    pub streamed_bytes: u64,
    /// Whole segments that were stored.
    pub segments: u64,
    /// Parts of segments.
    pub parts: u64,
    /// Bytes of new objects.
    pub stored_bytes: u64,
    /// Connections that were lost.
    pub reconnects: u64,
    /// Gaps: WAL that the server had removed.
    pub gaps: u64,
}

impl ReceiveReport {
    pub(super) fn of(server: String) -> Self {
        Self {
            server,
            system: String::new(),
            slot: String::new(),
            timeline: None,
            from: None,
            to: None,
            streamed_bytes: 0,
            segments: 0,
            parts: 0,
            stored_bytes: 0,
            reconnects: 0,
            gaps: 0,
        }
    }

    /// Takes note of what is stored.
    pub(super) fn reached(&mut self, timeline: Timeline, to: Lsn) {
        self.timeline = Some(timeline);
        self.to = Some(to);
    }
}

impl Report for ReceiveReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn status(&self) -> Status {
        if self.gaps > 0 { Status::Partial } else { Status::Done }
    }

    fn text(&self) -> String {
        let (Some(from), Some(to), Some(timeline)) = (self.from, self.to, self.timeline) else {
            return format!("received nothing from {}\n", self.server);
        };
        format!(
            "received {} from {}, stored {} in {} segments and {} parts: {from} to {to}, timeline {timeline}{}\n",
            format_bytes(self.streamed_bytes),
            self.server,
            format_bytes(self.stored_bytes),
            self.segments,
            self.parts,
            if self.gaps > 0 {
                "; there is a gap, see `wirevault log show`"
            } else {
                ""
            }
        )
    }
}
