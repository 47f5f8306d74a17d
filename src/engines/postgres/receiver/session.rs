//! A session with a WAL sender: who the server is, its slot, its timelines, and the stream.

use jiff::Timestamp;

use super::framing::{Found, Framing, Said, status};
use super::server::APPLICATION;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::raw_text::to_bytes;
use crate::engines::postgres::session::connection::CopyOut;
use crate::engines::postgres::session::replication::{Begun, Replication, Rows, setting_bytes};
use crate::engines::postgres::wal::{Lsn, SegmentSize, Timeline};
use crate::engines::postgres::wire::server_error::sqlstate;

/// The first version that says where a slot is without an ordinary session.
const FIRST_VERSION: u32 = 150_000;

/// A server, as far as its log goes by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFacts {
    /// Whose log it is.
    pub system: u64,
    /// The timeline that the server writes, or follows.
    pub timeline: Timeline,
    /// Where its log ended when it was asked.
    pub flushed: Lsn,
    /// Bytes of a segment.
    pub segment: SegmentSize,
    /// `15.4 (Debian 15.4-1)`.
    pub version: String,
    /// Whether it follows another one.
    pub is_standby: bool,
    /// Bytes that a slot keeps at most, where `max_slot_wal_keep_size` bounds them.
    pub slot_bytes: Option<u64>,
}

/// A slot that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotState {
    /// Where the log that it keeps begins, and on which timeline; None for a slot that the server has taken its log from.
    pub keeps_from: Option<(Timeline, Lsn)>,
}

/// Where the log goes on behind the end of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextTimeline {
    /// The timeline that follows on the way to the server's own.
    pub timeline: Timeline,
    /// The position from which on it does.
    pub from: Lsn,
}

/// What [`LogSession::start`] began.
#[derive(Debug)]
pub enum Started<'a> {
    /// The log comes.
    Streaming(LogStream<'a>),
    /// The timeline ends where it was to begin.
    Ended(NextTimeline),
}

/// A session that is logged in.
#[derive(Debug)]
pub struct LogSession {
    replication: Replication,
    facts: StreamFacts,
}

impl LogSession {
    pub(super) async fn begin(mut replication: Replication) -> Result<Self> {
        let identity = replication.identify().await?;
        let version = replication.parameter("server_version").unwrap_or_default().to_owned();
        let number = replication.show("server_version_num").await?;
        if number.parse::<u32>().is_ok_and(|number| number < FIRST_VERSION) {
            return Err(
                Error::unsupported(format!("the log of PostgreSQL {version} cannot be received")).with_hint(
                    "It can from 15 on. Of 13 and 14, let archive_command hand it on: wirevault log push %p.",
                ),
            );
        }
        let names = replication.show("synchronous_standby_names").await?;
        if is_waited_for(&names) {
            return Err(Error::invalid(format!(
                "synchronous_standby_names of the server is \"{}\": its commits would wait for this receiver",
                names.escape_debug()
            ))
            .with_hint(
                "Name the standbys one by one. What a receiver confirms is in the store; it is not meant to delay commits.",
            ));
        }
        let segment = setting_bytes(&replication.show("wal_segment_size").await?)?;
        let bound = replication.show("max_slot_wal_keep_size").await?;
        let facts = StreamFacts {
            system: identity.system_id,
            timeline: Timeline(identity.timeline),
            flushed: position(&identity.position)?,
            segment: SegmentSize::new(segment)?,
            version,
            is_standby: replication.parameter("in_hot_standby") == Some("on"),
            slot_bytes: if bound == "-1" {
                None
            } else {
                Some(setting_bytes(&bound)?)
            },
        };
        Ok(Self { replication, facts })
    }

    /// Returns whether it follows another server, as far as it has said by now.
    pub fn is_standby(&self) -> bool {
        self.replication.parameter("in_hot_standby") == Some("on")
    }

    /// Returns what the server said when the session began.
    pub fn facts(&self) -> &StreamFacts {
        &self.facts
    }

    /// Looks for a slot; `None` if there is none of this name.
    pub async fn slot(&mut self, name: &str) -> Result<Option<SlotState>> {
        let found = self.replication.read_slot(name).await?;
        let row = found.first().map_or(&[][..], Vec::as_slice);
        match row {
            [None, ..] | [] => Ok(None),
            [Some(kind), restart, timeline, ..] if kind == "physical" => {
                let keeps_from = match (restart, timeline) {
                    (Some(restart), Some(timeline)) => Some((number(timeline)?, position(restart)?)),
                    _ => None,
                };
                Ok(Some(SlotState { keeps_from }))
            }
            _ => Err(
                Error::invalid(format!("the replication slot \"{name}\" is not a physical one"))
                    .with_hint("Choose another name: --slot NAME."),
            ),
        }
    }

    /// Makes a slot that keeps the log from the last checkpoint on.
    pub async fn make_slot(&mut self, name: &str) -> Result<()> {
        let made = self.replication.make_slot(name).await;
        made.map_err(|error| match sqlstate(&error) {
            Some("53400") => error.with_hint_instead(
                "Drop a replication slot that nobody uses (pg_replication_slots), or raise max_replication_slots.",
            ),
            _ => error,
        })
        .with_context(|| format!("make the replication slot \"{name}\""))
    }

    /// Drops a slot.
    pub async fn drop_slot(&mut self, name: &str) -> Result<()> {
        let dropped = self.replication.drop_slot(name).await;
        dropped.with_context(|| format!("drop the replication slot \"{name}\""))
    }

    /// Returns the history file of a timeline, as the server has it.
    pub async fn history(&mut self, timeline: Timeline) -> Result<Vec<u8>> {
        let rows = self.replication.timeline_history(timeline.0).await?;
        let text = rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten();
        let text = text.ok_or_else(|| Error::corrupt(format!("the server has no history of timeline {timeline}")))?;
        Ok(to_bytes(&text).into_owned())
    }

    /// Begins to stream a timeline from a position on.
    pub async fn start(&mut self, slot: &str, timeline: Timeline, at: Lsn) -> Result<Started<'_>> {
        let act = || format!("stream timeline {timeline} from {at}");
        let begun = self.replication.stream(slot, &at.to_string(), timeline.0).await;
        match begun.with_context(act)? {
            Begun::Copy(copy) => Ok(Started::Streaming(LogStream {
                copy,
                framing: Framing::new(),
                expected: at,
                timeline,
            })),
            Begun::Ended(rows) => Ok(Started::Ended(next_timeline(&rows, timeline)?)),
        }
    }

    /// Ends a stream whose timeline has ended; returns what follows.
    pub async fn next_timeline(&mut self, timeline: Timeline) -> Result<NextTimeline> {
        let rows = self.replication.end_of_stream().await?;
        next_timeline(&rows, timeline)
    }

    /// Says good-bye and closes.
    pub async fn close(self) {
        self.replication.close().await;
    }
}

/// The log of one timeline, as it comes.
#[derive(Debug)]
pub struct LogStream<'a> {
    copy: CopyOut<'a>,
    framing: Framing,
    /// Where the next byte belongs.
    expected: Lsn,
    timeline: Timeline,
}

impl LogStream<'_> {
    /// Waits until there is something to take, or the timeline has ended. Nothing is lost where this is given up.
    pub async fn ready(&mut self) -> Result<()> {
        self.copy.ready().await
    }

    /// Takes what is there; `None` if that is all, for now or for good.
    pub fn take(&mut self) -> Result<Option<Said<'_>>> {
        let (at, data, sent, end) = loop {
            let Some(piece) = self.copy.take()? else {
                return Ok(None);
            };
            match self.framing.take(&piece)? {
                Some(Found::Log { at, header, sent, end }) => break (at, header, sent, end),
                Some(Found::Alive(said)) => return Ok(Some(said)),
                None => {}
            }
        };
        let bytes = exact::range(self.copy.last(), data.., "a message of the server")?;
        if at != self.expected {
            return Err(Error::corrupt(format!(
                "the server sends timeline {} from {at} on, where {} follows",
                self.timeline, self.expected
            )));
        }
        self.expected = Lsn(at.0.saturating_add(exact::u64_from(bytes.len())));
        Ok(Some(Said::Log { at, bytes, sent, end }))
    }

    /// Returns whether the timeline has ended, and all of it was taken.
    pub fn has_ended(&self) -> bool {
        self.copy.is_done()
    }

    /// Tells the server how far the log was received, and how far it is kept: it may remove what lies before that.
    pub async fn confirm(&mut self, received: Lsn, kept: Lsn, asks: bool) -> Result<()> {
        self.copy.send(&status(received, kept, Timestamp::now(), asks)).await
    }
}

/// Returns whether the server says that it has removed the WAL that was asked for; in whatever language.
pub fn is_removed(error: &Error) -> bool {
    sqlstate(error) == Some("58P01")
}

/// Returns whether the server says that the slot is of no use any more: it was invalidated.
pub fn is_invalidated(error: &Error) -> bool {
    sqlstate(error) == Some("55000")
}

/// Returns whether the server says that somebody else streams by the slot.
pub fn is_in_use(error: &Error) -> bool {
    sqlstate(error) == Some("55006")
}

fn position(text: &str) -> Result<Lsn> {
    text.parse()
        .map_err(|_| Error::corrupt(format!("the server says position \"{}\"", text.escape_debug())))
}

fn number(text: &str) -> Result<Timeline> {
    let number = text.parse().ok().filter(|number| *number > 0);
    let wrong = || Error::corrupt(format!("the server says timeline \"{}\"", text.escape_debug()));
    number.map(Timeline).ok_or_else(wrong)
}

fn next_timeline(rows: &Rows, ended: Timeline) -> Result<NextTimeline> {
    let row = rows.first().map_or(&[][..], Vec::as_slice);
    let [Some(timeline), Some(from), ..] = row else {
        return Err(Error::new(
            ErrorKind::Unavailable,
            format!("the server has ended the stream of timeline {ended}"),
        )
        .with_hint("It is shut down, or was promoted and does not say so yet."));
    };
    let next = NextTimeline {
        timeline: number(timeline)?,
        from: position(from)?,
    };
    if next.timeline <= ended {
        return Err(Error::corrupt(format!(
            "the server says that timeline {} follows timeline {ended}",
            next.timeline
        )));
    }
    Ok(next)
}

/// Returns whether `synchronous_standby_names` matches the receiver.
fn is_waited_for(names: &str) -> bool {
    names
        .split([',', '(', ')', ' ', '\t', '\n'])
        .map(|name| name.trim_matches('"'))
        .any(|name| name == "*" || name.eq_ignore_ascii_case(APPLICATION))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_that_commits_wait_for_are_found() {
        for names in ["*", "FIRST 1 (a, wirevault)", "ANY 1 (\"WireVault\",b)", "a,*"] {
            assert!(is_waited_for(names), "{names}");
        }
        for names in ["", "a, b", "FIRST 2 (wirevault2, s1)"] {
            assert!(!is_waited_for(names), "{names}");
        }
    }

    #[test]
    fn a_timeline_is_followed_by_a_later_one() {
        let rows = |timeline: &str, from: &str| vec![vec![Some(timeline.to_owned()), Some(from.to_owned())]];
        let next = next_timeline(&rows("3", "0/5000148"), Timeline(1)).unwrap();
        assert_eq!((next.timeline, next.from), (Timeline(3), Lsn(0x500_0148)));
        for (timeline, from) in [("1", "0/1"), ("0", "0/1"), ("x", "0/1"), ("2", "1")] {
            assert!(
                next_timeline(&rows(timeline, from), Timeline(1)).is_err(),
                "{timeline} {from}"
            );
        }
        assert!(next_timeline(&Vec::new(), Timeline(1)).is_err());
    }
}
