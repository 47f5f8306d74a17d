//! `log show`: of each server whose log is here, what a recovery can go through, and what is missing. `log verify`: the same,
//! after everything was read.
//!
//! Names and sizes come from one listing; segments that follow one another take the memory of one. Descriptors are read where
//! stretches begin and end alone, so a log of years costs a listing and some dozen small reads.

pub(super) mod found;
mod read;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::archive::log::{Descriptor, LogReader, Times};
use crate::base::error::{ErrorKind, Result, if_there};
use crate::base::exact;
use crate::engines::postgres::wal::{
    FileName, Lsn, MAX_HISTORY_BYTES, SegmentName, SegmentSize, Timeline, TimelineHistory, segment_facts,
};
use crate::operations::log::{key_of, redis};
use crate::operations::snapshots::open_repository;
use crate::operations::{Session, options};
use crate::policy::log::{Branch, Branches, Fork, Window, judge};
use crate::repository::Repository;
use crate::storage::ObjectKey;
use found::{Found, OpenSegment};
pub use report::{
    DamagedLog, LoggedSystem, LoggedTimeline, LoggedWindow, MissingLog, NewestLog, ReadLog, ShowLogReport,
};

/// Segments that are looked at for a time, from an end of a window on: one may hold the end of no transaction.
const LOOKED_AT: u64 = 8;

/// Windows whose ends are looked at, the newest of a system.
const WINDOWS: usize = 64;

/// History files that are read, the newest of a system, and lines of each, its last.
const HISTORIES: usize = 256;

/// Lists, judges, looks at the ends.
pub async fn run(session: &Session, options: &options::LogShow) -> Result<ShowLogReport> {
    let repository = open_repository(session).await?;
    let mut systems: BTreeMap<u64, Found> = BTreeMap::new();
    let mut each = |log: crate::repository::ListedLog| {
        systems.entry(log.system).or_default().add(&log);
        true
    };
    let listed = repository.for_each_log(options.system_id, &mut each);
    let unknown = session.or_cancelled(listed).await?;
    let now = session.or_cancelled(async { Ok(repository.clock().await) }).await?;
    let mut logs = Vec::new();
    for (system, found) in systems {
        let look = Look::new(session, &repository, system);
        logs.push(look.at(found, now, options.read).await?);
    }
    let streams = match options.system_id {
        Some(_) => Vec::new(),
        None => redis::show::streams(session, &repository, options.read).await?,
    };
    Ok(ShowLogReport { logs, unknown, streams })
}

/// Looks at the log of one system; None where nothing of it is stored.
pub(super) async fn of_system(session: &Session, repository: &Repository, system: u64) -> Result<Option<LoggedSystem>> {
    let mut found = None;
    let mut each = |log: crate::repository::ListedLog| {
        found.get_or_insert_with(Found::default).add(&log);
        true
    };
    let listed = repository.for_each_log(Some(system), &mut each);
    session.or_cancelled(listed).await?;
    let Some(found) = found else { return Ok(None) };
    let now = session.or_cancelled(async { Ok(repository.clock().await) }).await?;
    let look = Look::new(session, repository, system);
    look.at(found, now, false).await.map(Some)
}

/// A look at the log of one system.
pub(super) struct Look<'a> {
    session: &'a Session,
    repository: &'a Repository,
    system: u64,
    /// What is wrong with files, by their names.
    damaged: BTreeMap<String, String>,
    /// Segments that were looked at and are of another size than the newest: their names mean other places.
    other_size: BTreeSet<SegmentName>,
}

impl<'a> Look<'a> {
    pub(super) fn new(session: &'a Session, repository: &'a Repository, system: u64) -> Self {
        Self {
            session,
            repository,
            system,
            damaged: BTreeMap::new(),
            other_size: BTreeSet::new(),
        }
    }
}

impl Look<'_> {
    /// Learns the size of segments and the major version out of the newest that can be read.
    pub(super) async fn facts(&mut self, found: &Found) -> Result<Option<(SegmentSize, String)>> {
        for segment in found.samples() {
            let described = self.described(segment).await?;
            let facts = described.and_then(|described| segment_facts(&described).ok());
            if facts.is_some() {
                return Ok(facts);
            }
        }
        // Of a log that has just begun there are parts alone.
        let Some(open) = found.last_open() else {
            return Ok(None);
        };
        let described = self.described_at(&FileName::Segment(open.segment), &open.last).await?;
        Ok(described.and_then(|described| segment_facts(&described).ok()))
    }

    async fn at(mut self, found: Found, now: Timestamp, read: bool) -> Result<LoggedSystem> {
        let facts = self.facts(&found).await?;
        let mut system = LoggedSystem::of(self.system, &found);
        let open = found.open.values().flatten().map(|open| (open.segment, open.stored));
        let newest = found.newest.into_iter().chain(open).max_by_key(|(_, stored)| *stored);
        system.newest = newest.map(|(segment, stored)| NewestLog::of(segment, stored, now));
        let size = facts.as_ref().map(|(size, _)| *size);
        if let Some((size, major)) = facts {
            // To the policy the segment that is being written is a whole one; where it ends is put right later.
            let (branches, odd) = self.branches(&found, (size, size.bytes())).await?;
            system.segment_bytes = Some(size.bytes());
            system.major = Some(major);
            self.judged(&branches, &found, size, &mut system).await?;
            system.other_size = odd.saturating_add(exact::u64_from(self.other_size.len()));
        }
        if read {
            let everything = self.read_all(size).await?;
            system.other_size = everything.other_size;
            system.read = Some(everything.read);
            // The last segment of a window was looked at already.
            system.gaps.extend(everything.not_valid);
        }
        let damaged = self.damaged.into_iter();
        system.damaged = damaged.map(|(file, error)| DamagedLog { file, error }).collect();
        Ok(system)
    }

    /// Makes the branches that the policy judges: stretches out of names, forks out of history files. A segment of which parts are stored
    /// reaches as far as they do, but the last of a timeline `last_bytes`, if that is more.
    pub(super) async fn branches(
        &mut self,
        found: &Found,
        (size, last_bytes): (SegmentSize, u64),
    ) -> Result<(Branches, u64)> {
        let (mut branches, mut odd) = (Branches::new(), 0);
        let mut pieces: BTreeMap<Timeline, Vec<(Lsn, u64, u64)>> = BTreeMap::new();
        for (timeline, runs) in &found.timelines {
            for run in runs {
                // The name of a segment of another size means another place.
                match (run.first.start(size), run.last.start(size)) {
                    (Some(first), Some(last)) => {
                        let bytes = last.0 - first.0 + size.bytes();
                        pieces.entry(*timeline).or_default().push((first, bytes, run.segments));
                    }
                    _ => odd += run.segments,
                }
            }
        }
        for open in found.open.values().flatten() {
            if let Some(start) = open.segment.start(size) {
                let least = if found.is_last(open) { last_bytes } else { 0 };
                let bytes = u64::from(open.end).max(least);
                pieces.entry(open.segment.timeline).or_default().push((start, bytes, 0));
            }
        }
        for (timeline, mut pieces) in pieces {
            pieces.sort_unstable();
            let branch: &mut Branch = branches.entry(timeline.0).or_default();
            for (from, bytes, segments) in pieces {
                branch.add(from.0, bytes, segments);
            }
        }
        for timeline in found.histories.iter().rev().take(HISTORIES) {
            let Some(history) = self.history(*timeline).await? else {
                continue;
            };
            // Each file tells the whole line: one in the middle whose own is not stored is known by those that came of it.
            let older = history.ancestors.len().saturating_sub(HISTORIES);
            for (began, parent, left) in history.forks().skip(older) {
                let fork = Fork {
                    branch: parent.0,
                    at: left.0,
                };
                let known = &mut branches.entry(began.0).or_default().parent;
                if began == *timeline || known.is_none() {
                    *known = Some(fork);
                }
            }
        }
        Ok((branches, odd))
    }

    /// Fills in what can be gone through and what is missing.
    async fn judged(
        &mut self,
        branches: &Branches,
        found: &Found,
        size: SegmentSize,
        system: &mut LoggedSystem,
    ) -> Result<()> {
        system.timelines = branches.iter().map(LoggedTimeline::of).collect();
        let (windows, gaps) = judge(branches);
        system.gaps = gaps.iter().map(|gap| MissingLog::of(gap, size)).collect();
        let looked_at = windows.len().saturating_sub(WINDOWS);
        for (at, window) in windows.iter().enumerate() {
            let mut shown = LoggedWindow::of(window);
            let opens = found.open.get(&Timeline(window.branch)).into_iter().flatten();
            let open = opens
                .filter_map(|open| Some((open, open.segment.start(size)?)))
                .find(|(open, start)| {
                    let bytes = if found.is_last(open) {
                        size.bytes()
                    } else {
                        open.end.into()
                    };
                    start.0.saturating_add(bytes) == window.to
                });
            let mut whole = *window;
            if let Some((_, start)) = open {
                whole.to = start.0;
            }
            let has_whole = whole.from < whole.to;
            if at >= looked_at && has_whole && !self.look_at_ends(&whole, size, &mut shown, &mut system.gaps).await? {
                continue;
            }
            if let Some((open, start)) = open {
                self.look_at_parts(open, start, &mut shown).await?;
            }
            system.windows.push(shown);
        }
        Ok(())
    }

    /// Puts the end of a window right that lies within a segment of which parts are stored, and its times.
    async fn look_at_parts(&mut self, open: &OpenSegment, start: Lsn, shown: &mut LoggedWindow) -> Result<()> {
        shown.to = Lsn(start.0.saturating_add(u64::from(open.end)));
        let name = FileName::Segment(open.segment);
        let last = self.described_at(&name, &open.last).await?;
        let times = last.and_then(|described| described.about.times);
        shown.last_time = times.map(|times| times.last).or(shown.last_time);
        if shown.first_time.is_none() {
            let first = self.described_at(&name, &open.first).await?;
            let first = first.and_then(|described| described.about.times).or(times);
            shown.first_time = first.map(|times| times.first);
        }
        Ok(())
    }

    /// Reads the times at both ends of a window, and where the last segment ends that is valid. Returns whether it is a window:
    /// not if a segment there is of another size, because `pg_resetwal --wal-segsize` gives the same names to other places.
    async fn look_at_ends(
        &mut self,
        window: &Window,
        size: SegmentSize,
        shown: &mut LoggedWindow,
        gaps: &mut BTreeSet<MissingLog>,
    ) -> Result<bool> {
        let segments = (window.to - window.from) / size.bytes();
        let mut at = window.from;
        for _ in 0..segments.min(LOOKED_AT) {
            // Over a fork the names before it are of the timeline that the window begins on.
            let name = SegmentName::holding(Timeline(window.first_branch), Lsn(at), size);
            if let Some(described) = self.described(name).await? {
                if !self.fits(&described, name, Lsn(at), size) {
                    return Ok(false);
                }
                if let Some(Times { first, .. }) = described.about.times {
                    shown.first_time = Some(first);
                    break;
                }
            }
            at += size.bytes();
        }
        let mut at = window.to;
        for _ in 0..segments.min(LOOKED_AT) {
            at -= size.bytes();
            let name = SegmentName::holding(Timeline(window.branch), Lsn(at), size);
            let Some(described) = self.described(name).await? else {
                break;
            };
            if !self.fits(&described, name, Lsn(at), size) {
                return Ok(false);
            }
            // Whoever writes to the store says it: nothing outside of the segment follows from that.
            let end = described
                .about
                .span
                .map_or(window.to, |span| span.to.clamp(at, window.to));
            if at + size.bytes() == window.to && end < window.to {
                shown.to = Lsn(end);
                gaps.insert(MissingLog::not_valid(Timeline(window.branch), Lsn(end), Lsn(window.to)));
            }
            if let Some(Times { last, .. }) = described.about.times {
                shown.last_time = Some(last);
                break;
            }
        }
        Ok(true)
    }

    /// Returns whether a segment says the place and the size that its name has; one that does not is noted.
    fn fits(&mut self, described: &Descriptor, name: SegmentName, start: Lsn, size: SegmentSize) -> bool {
        let says_size = segment_facts(described).is_ok_and(|(said, _)| said == size);
        let fits = says_size && described.about.span.is_some_and(|span| span.from == start.0);
        if !fits {
            self.other_size.insert(name);
        }
        fits
    }

    /// Reads the descriptor of a segment; None where there is none, or none that can be read, which is told.
    async fn described(&mut self, segment: SegmentName) -> Result<Option<Descriptor>> {
        let name = FileName::Segment(segment);
        let key = key_of(self.system, &name)?;
        self.described_at(&name, &key).await
    }

    /// As [`Self::described`], of an object by its key.
    async fn described_at(&mut self, name: &FileName, key: &ObjectKey) -> Result<Option<Descriptor>> {
        let look = self
            .session
            .or_cancelled(LogReader::look(self.repository.store(), key))
            .await;
        self.readable(name, look.map(LogReader::into_descriptor))
    }

    /// Reads where a timeline came from.
    async fn history(&mut self, timeline: Timeline) -> Result<Option<TimelineHistory>> {
        let name = FileName::History(timeline);
        let key = key_of(self.system, &name)?;
        let read = async {
            let reader = LogReader::open(self.repository.store(), &key).await?;
            let text = reader.read_small(MAX_HISTORY_BYTES).await?;
            TimelineHistory::parse(timeline, &text)
        };
        let read = self.session.or_cancelled(read).await;
        self.readable(&name, read)
    }

    /// Returns what was read; None for what is not there, is damaged, which is noted, or lies in a cold class of the store.
    fn readable<T>(&mut self, name: &FileName, read: Result<T>) -> Result<Option<T>> {
        match if_there(read) {
            Err(error) if error.kind() == ErrorKind::Archived => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                // A segment may be looked at from both its sides.
                self.damaged.entry(name.to_string()).or_insert_with(|| error.chain());
                Ok(None)
            }
            read => read,
        }
    }
}
