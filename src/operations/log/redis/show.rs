//! The command streams that are stored, for `log show` and `log verify`: each history with its windows, the snapshot with which a restore
//! of each begins, and what is missing.
//!
//! A window costs some small reads: the end of a piece says from where on its history has no hole. `log verify` reads every piece, and
//! believes none of them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::table::Table;
use crate::base::units::format_bytes;
use crate::engines::redis::log::described::{Gap, Piece};
use crate::engines::redis::log::position::{Position, ReplicationId};
use crate::engines::redis::log::tail::Joined;
use crate::operations::log::redis::bases::{self, Base};
use crate::operations::log::redis::extent::{Extent, MOST_DAMAGED, gap_before, is_another_course, is_damage};
use crate::operations::log::redis::stored::{Listed, Sources, Streams};
use crate::operations::log::redis::trust::Course;
use crate::operations::log::redis::windows::{Beginning, Stored, Window, beginning};
use crate::operations::show::local_time;
use crate::operations::{Session, Status};
use crate::repository::{Repository, SnapshotId};

/// Windows that are shown, the newest of a history.
const WINDOWS: usize = 64;

/// One history of a server. Its fields are keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct LoggedStream {
    /// Name of the source.
    pub source: String,
    /// Its replication ID.
    pub id: String,
    /// Where the history was left that this one continues, as ID:OFFSET.
    pub follows: Option<String>,
    /// Stored pieces.
    pub pieces: u64,
    /// Bytes that they take in the store.
    pub stored_bytes: u64,
    /// What is stored without a hole, the newest first.
    pub windows: Vec<StreamWindow>,
    /// What is missing between two windows.
    pub gaps: Vec<StreamGap>,
    /// Pieces whose stored bytes are damaged, the first of them.
    pub damaged: Vec<DamagedPiece>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub damaged_more: u64,
    /// Of `log verify`: bytes that were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
}

/// A part of a history without a hole.
#[derive(Debug, serde::Serialize)]
pub struct StreamWindow {
    /// The offset where it begins.
    pub from: u64,
    /// The offset where it ends.
    pub to: u64,
    /// Its first time mark.
    pub first_time: Option<Timestamp>,
    /// Its last time mark.
    pub last_time: Option<Timestamp>,
    /// The snapshot with which a restore begins; None where no snapshot leads into it.
    pub snapshot: Option<SnapshotId>,
    /// Where that snapshot lies, as ID:OFFSET.
    pub base: Option<String>,
    /// From this offset on a restore reaches every one; what lies before was written before the snapshot.
    pub restorable_from: Option<u64>,
    /// What is known to be missing before it.
    pub gap: Option<MissingBefore>,
    /// Why no snapshot leads into it: `no-snapshot`, `not-continued` (the history that it continues is not stored up to it either).
    pub why: Option<&'static str>,
}

impl StreamWindow {
    fn of(window: &Window, beginning: Beginning<'_>, is_stored: impl Fn(&ReplicationId) -> bool) -> Self {
        let (base, restorable_from, why) = match beginning {
            Beginning::With(base, from) => (Some(base), Some(from), None),
            Beginning::NoSnapshot => (None, None, Some("no-snapshot")),
            Beginning::NotContinued => (None, None, Some("not-continued")),
        };
        Self {
            from: window.from,
            to: window.to,
            first_time: window.first,
            last_time: window.last,
            snapshot: base.map(|base| base.id.clone()),
            base: base.map(|base| base.position.to_string()),
            restorable_from,
            gap: window.gap.as_ref().map(|gap| MissingBefore::of(gap, is_stored)),
            why,
        }
    }

    /// Returns whether no restore reaches it, or one does not reach it from what is stored before it.
    fn lacks(&self) -> bool {
        self.why.is_some() || self.gap.as_ref().is_some_and(|gap| gap.is_felt)
    }

    /// Says of a window that no restore reaches why that is.
    fn unreachable(&self, follows: Option<&str>) -> Option<String> {
        let (from, to) = (self.from, self.to);
        let why = match self.why? {
            "not-continued" => format!(
                "what it continues is not stored up to {}, and no snapshot was taken in it",
                follows.unwrap_or("there")
            ),
            _ => "no snapshot leads into it".to_owned(),
        };
        Some(format!(
            "no restore reaches {from} to {to}: {why}; restore past {to} needs a snapshot taken after it\n"
        ))
    }
}

/// What is missing before a window.
#[derive(Debug, serde::Serialize)]
pub struct MissingBefore {
    /// Where the stream should have gone on, as ID:OFFSET.
    pub from: String,
    /// Why it did not.
    pub why: &'static str,
    /// The same for people.
    #[serde(skip)]
    told: &'static str,
    /// Whether the history is still stored that should have gone on.
    #[serde(skip)]
    is_felt: bool,
}

impl MissingBefore {
    fn of(gap: &Gap, is_stored: impl Fn(&ReplicationId) -> bool) -> Self {
        Self {
            from: gap.from.to_string(),
            why: gap.why.word(),
            told: gap.why.told(),
            is_felt: is_stored(&gap.from.id),
        }
    }
}

/// A part of a history that is not stored.
#[derive(Debug, serde::Serialize)]
pub struct StreamGap {
    /// The offset where it begins.
    pub from: u64,
    /// The offset where it ends.
    pub to: u64,
}

/// A piece whose stored bytes are damaged.
#[derive(Debug, serde::Serialize)]
pub struct DamagedPiece {
    /// The offset where it begins.
    pub from: u64,
    /// What is wrong.
    pub error: String,
}

impl LoggedStream {
    fn of(
        source: &str,
        id: &ReplicationId,
        pieces: &[Listed],
        damaged: BTreeMap<u64, Error>,
        read_bytes: Option<u64>,
    ) -> Self {
        let damaged = damaged.into_iter().map(|(from, error)| DamagedPiece {
            from,
            error: error.chain(),
        });
        Self {
            source: source.to_owned(),
            id: id.to_string(),
            follows: None,
            pieces: exact::u64_from(pieces.len()),
            stored_bytes: pieces.iter().map(|piece| piece.stored_bytes).sum(),
            windows: Vec::new(),
            gaps: Vec::new(),
            damaged: damaged.collect(),
            damaged_more: 0,
            read_bytes,
        }
    }

    /// Returns it for people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "source {}, replication ID {}: {} pieces, {} stored\n",
            self.source,
            self.id,
            self.pieces,
            format_bytes(self.stored_bytes)
        );
        if let Some(follows) = &self.follows {
            text.push_str(&format!("it continues {follows}\n"));
        }
        let headings = [
            ">from",
            ">to",
            "first time mark",
            "last time mark",
            ">restorable from",
            "snapshot",
        ];
        let mut table = Table::new(&headings);
        let none = || "-".to_owned();
        let time = |time: Option<Timestamp>| time.map_or_else(none, local_time);
        for window in &self.windows {
            table.row([
                window.from.to_string(),
                window.to.to_string(),
                time(window.first_time),
                time(window.last_time),
                window.restorable_from.map_or_else(none, |from| from.to_string()),
                window.snapshot.as_ref().map_or_else(none, SnapshotId::to_string),
            ]);
        }
        if !table.is_empty() {
            text.push_str(&table.render());
        }
        let follows = self.follows.as_deref();
        text.extend(self.windows.iter().filter_map(|window| window.unreachable(follows)));
        for window in &self.windows {
            if let Some(gap) = &window.gap {
                text.push_str(&format!("missing from {} to {}: {}\n", gap.from, window.from, gap.told));
            }
        }
        for gap in &self.gaps {
            text.push_str(&format!(
                "gap from {} to {}: restore past {} needs a snapshot taken after it\n",
                gap.from, gap.to, gap.to
            ));
        }
        for damaged in &self.damaged {
            text.push_str(&format!("DAMAGED at {}: {}\n", damaged.from, damaged.error));
        }
        if self.damaged_more > 0 {
            text.push_str(&format!("DAMAGED: {} more\n", self.damaged_more));
        }
        if let Some(bytes) = self.read_bytes {
            text.push_str(&format!("read {}\n", format_bytes(bytes)));
        }
        text
    }

    /// Returns how a look at it ends. A gap, or a window that no snapshot leads into, is a fact to whoever looks, and something that is
    /// missing to whoever asks whether all is there.
    pub(crate) fn status(&self) -> Status {
        match self.read_bytes {
            _ if !self.damaged.is_empty() => Status::Failed,
            Some(_) if !self.gaps.is_empty() || self.windows.iter().any(StreamWindow::lacks) => Status::Partial,
            _ => Status::Done,
        }
    }
}

/// Looks at all streams of a repository; `read` reads every piece.
pub(crate) async fn streams(session: &Session, repository: &Repository, read: bool) -> Result<Vec<LoggedStream>> {
    let mut sources = Sources::of(repository.store());
    let (mut found, mut bases) = (Vec::new(), None);
    while let Some((source, histories)) = session.or_cancelled(sources.next()).await? {
        let histories = histories?;
        let bases = match &mut bases {
            Some(bases) => bases,
            none => none.insert(session.or_cancelled(all_bases(repository)).await?),
        };
        let streams = Streams::of(repository.store(), &source);
        let (mut shown, mut stored, mut starts) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for (id, listed) in histories {
            let pieces: Vec<u64> = listed.iter().map(|piece| piece.from).collect();
            let look = Look {
                streams: &streams,
                id: &id,
                pieces: &pieces,
            };
            let looked = if read {
                look.read(session).await?
            } else {
                session.or_cancelled(look.windows()).await?
            };
            let mut one = LoggedStream::of(&source, &id, &listed, looked.damaged, looked.read_bytes);
            one.damaged_more = looked.damaged_more;
            shown.push(one);
            starts.insert(id.clone(), pieces);
            stored.insert(id, looked.stored);
        }
        let trusted = session.or_cancelled(trusted(&streams, &starts, &stored, bases)).await?;
        for (stream, (id, of_one)) in shown.iter_mut().zip(&stored) {
            stream.follows = of_one.follows.as_ref().map(Position::to_string);
            let window = |window: &Window| {
                let beginning = beginning(&stored, &trusted, id, window);
                StreamWindow::of(window, beginning, |id| stored.contains_key(id))
            };
            stream.windows = of_one.windows.iter().map(window).collect();
            stream.gaps = gaps(&of_one.windows);
        }
        found.extend(shown);
    }
    Ok(found)
}

/// Returns the snapshots with which restores can begin.
async fn all_bases(repository: &Repository) -> Result<Vec<Base>> {
    let survey = repository.survey(bases::of).await?;
    for (id, error) in &survey.damaged {
        tracing::warn!("skipping snapshot {id}: {}", error.chain());
    }
    Ok(survey.snapshots.into_iter().flatten().collect())
}

/// Returns the snapshots that begin a restore by themselves: those that are of what is stored.
async fn trusted(
    streams: &Streams,
    starts: &BTreeMap<ReplicationId, Vec<u64>>,
    stored: &BTreeMap<ReplicationId, Stored>,
    bases: &[Base],
) -> Result<Vec<Base>> {
    let mut trusted = Vec::new();
    for base in bases {
        let id = &base.position.id;
        if let (Some(pieces), Some(stored)) = (starts.get(id), stored.get(id)) {
            let extent = Extent::new(streams, id, pieces);
            let course = Course::from(stored.windows.as_slice());
            if let Some(doubt) = course.doubt(&extent, base).await? {
                tracing::warn!("{}", doubt.error(base).chain());
                continue;
            }
        }
        trusted.push(base.clone());
    }
    Ok(trusted)
}

/// Returns what is missing between windows, of which the newest comes first. Where they meet, the server went back between them.
fn gaps(windows: &[Window]) -> Vec<StreamGap> {
    let between = windows.iter().zip(windows.iter().skip(1));
    let gap = |(later, earlier): (&Window, &Window)| StreamGap {
        from: earlier.to,
        to: later.from,
    };
    between.map(gap).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// One history.
struct Look<'a> {
    streams: &'a Streams,
    id: &'a ReplicationId,
    pieces: &'a [u64],
}

/// What was found of it.
#[derive(Default)]
struct Looked {
    stored: Stored,
    damaged: BTreeMap<u64, Error>,
    /// How many more are damaged.
    damaged_more: u64,
    read_bytes: Option<u64>,
}

impl Looked {
    fn note(&mut self, from: u64, error: Error) {
        if self.damaged.len() < MOST_DAMAGED {
            self.damaged.insert(from, error);
        } else {
            self.damaged_more = self.damaged_more.saturating_add(1);
        }
    }
}

/// Returns whether a piece continues a window: it begins within it, and is of its course.
fn goes_on(piece: &Piece, window: &Window) -> bool {
    let is_of_its_course = piece.from > piece.since || !is_another_course(piece.gap.as_ref());
    is_of_its_course && piece.from <= window.to
}

impl Look<'_> {
    /// Goes back from the newest piece, window by window, by what the ends of pieces say.
    async fn windows(&self) -> Result<Looked> {
        let extent = Extent::new(self.streams, self.id, self.pieces);
        let follows = extent.follows().await?;
        let windows = extent.windows(WINDOWS).await?;
        Ok(Looked {
            stored: Stored { follows, windows },
            damaged: extent.into_damaged(),
            damaged_more: 0,
            read_bytes: None,
        })
    }

    /// Reads every piece: its digest, and how far it reaches. What is damaged is missing.
    async fn read(&self, session: &Session) -> Result<Looked> {
        let (mut looked, mut bytes) = (Looked::default(), 0_u64);
        let mut joined = Joined::at(0);
        for from in self.pieces {
            let (windows, before) = (&looked.stored.windows, &mut joined);
            let read = async {
                let (reader, piece) = self.streams.open(self.id, *from).await?;
                let mut now = if windows.last().is_some_and(|window| goes_on(&piece, window)) {
                    before.clone()
                } else {
                    Joined::at(piece.from)
                };
                now.begin(piece.from);
                reader
                    .read(&mut |bytes: &[u8]| {
                        now.take(bytes);
                        Ok(())
                    })
                    .await?;
                if !now.agrees() {
                    let message = format!("it has other bytes than what is stored before {}", piece.to);
                    return Err(Error::corrupt(message));
                }
                *before = now;
                Ok(piece)
            };
            let piece = match session.or_cancelled(read).await {
                Ok(piece) => piece,
                // Of a later release: so are those behind it.
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    looked.note(*from, error);
                    break;
                }
                Err(error) if is_damage(error.kind()) => {
                    looked.note(*from, error);
                    continue;
                }
                // It was removed since.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            bytes = bytes.saturating_add(piece.to.saturating_sub(piece.from));
            let (first, last) = (piece.marks.first(), piece.marks.last());
            let windows = &mut looked.stored.windows;
            match windows.last_mut() {
                Some(window) if goes_on(&piece, window) => {
                    window.first = window.first.or(first.map(|mark| mark.at));
                    if piece.to > window.to {
                        (window.to, window.last) = (piece.to, last.map(|mark| mark.at).or(window.last));
                    }
                }
                _ => windows.push(Window {
                    from: piece.from,
                    to: piece.to,
                    gap: gap_before(&piece, piece.from),
                    first: first.map(|mark| mark.at),
                    last: last.map(|mark| mark.at),
                }),
            }
            if looked.stored.follows.is_none() && windows.len() == 1 {
                looked.stored.follows = piece.follows;
            }
        }
        looked.stored.windows.reverse();
        for aside in session.or_cancelled(self.streams.aside(self.id)).await? {
            let is_there = |window: &Window| window.from <= aside.from && aside.from < window.to;
            if !looked.stored.windows.iter().any(is_there) {
                let why = format!("it could not be read, and was set aside as \"{}\"", aside.object.key);
                looked.note(aside.from, Error::corrupt(why));
            }
        }
        looked.read_bytes = Some(bytes);
        Ok(looked)
    }
}
