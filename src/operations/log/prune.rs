//! What `prune` does with logs: it keeps each from a base on, the last one before the window in which any moment can be recovered, or the
//! oldest that is kept.
//!
//! A recovery begins at a base and reads what follows, on whatever timeline; so what ends before that base began is of no use to any moment of the
//! window. Bases that are kept longer come back as of their own end, for which they hold the log themselves. Of a system without a base here nothing is removed: its bases are elsewhere. Nor is anything where a manifest cannot be read,
//! for it may be that of a base. History files stay, they are small.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::units::format_bytes;
use crate::engines::postgres::wal::{FileName, Lsn, SegmentSize, Timeline};
use crate::operations::Session;
use crate::operations::log::redis::{self, prune::PrunedStream};
use crate::repository::{ListedLog, Manifest, Repository, SnapshotId};
use crate::storage::{ObjectKey, SharedStore};

/// How many objects the store did not let go, and why the first of them.
pub(crate) type Refused = Option<(u64, String)>;

/// The snapshots with which recoveries and restores of logs begin.
#[derive(Debug, Default)]
pub(crate) struct KnownBases {
    systems: Vec<KnownBase>,
    streams: Vec<redis::bases::Base>,
}

impl KnownBases {
    /// Returns those of a snapshot: sources whose positions say what a log is about.
    pub(crate) fn of(manifest: &Manifest) -> Result<Self> {
        Ok(Self {
            systems: bases(manifest)?,
            streams: redis::bases::of(manifest),
        })
    }

    /// Adds those of another snapshot.
    pub(crate) fn extend(&mut self, other: Self) {
        self.systems.extend(other.systems);
        self.streams.extend(other.streams);
    }

    /// Leaves those alone whose snapshots are kept.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&SnapshotId) -> bool) {
        self.systems.retain(|base| is_kept(&base.snapshot));
        self.streams.retain(|base| is_kept(&base.id));
    }
}

/// A base of a system, by its snapshot.
#[derive(Debug, Clone)]
struct KnownBase {
    snapshot: SnapshotId,
    system: u64,
    /// Where a recovery begins that is begun with it.
    start: Lsn,
    segment: SegmentSize,
    /// The timeline that it is of.
    timeline: Timeline,
    /// When it ended.
    at: Timestamp,
    /// How far back moments are wanted, if its source says so.
    window: Option<u64>,
}

/// Seconds of the window of a source that says none: seven days.
const DEFAULT_WINDOW: u64 = crate::config::DEFAULT_LOG_WINDOW;

/// What was removed of the log of one system, or would be.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PrunedLog {
    /// Its system identifier; a number of 64 bits, so a string.
    pub system: String,
    /// Where the base begins from which on it is kept.
    pub before: Lsn,
    /// Files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// Files that the store did not let go, and why the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Refused,
}

impl PrunedLog {
    /// Says it in a line.
    pub(crate) fn text(&self, dry_run: bool) -> String {
        let did = if dry_run { "would remove" } else { "removed" };
        let s = if self.files == 1 { "" } else { "s" };
        let mut text = format!(
            "{did} {} file{s} of the log of system {} before {}, {}\n",
            self.files,
            self.system,
            self.before,
            format_bytes(self.bytes)
        );
        if let Some((count, why)) = &self.refused {
            text.push_str(&format!("  failed: {count} stay: {why}\n"));
        }
        text
    }
}

/// Returns the bases of PostgreSQL in a snapshot.
fn bases(manifest: &Manifest) -> Result<Vec<KnownBase>> {
    let mut found = Vec::new();
    for source in &manifest.sources {
        let Some(outcome) = &source.outcome else { continue };
        let said = |name: &str| outcome.position.get(name);
        let (Some(system), Some(start), Some(bytes)) =
            (said("system_identifier"), said("start_lsn"), said("wal_segment_bytes"))
        else {
            continue;
        };
        let wrong = |what: &str| Error::corrupt(format!("snapshot {} says no {what}", manifest.id));
        found.push(KnownBase {
            snapshot: manifest.id.clone(),
            system: system.parse().map_err(|_| wrong("system identifier"))?,
            start: start.parse().map_err(|_| wrong("position"))?,
            segment: SegmentSize::new(bytes.parse().map_err(|_| wrong("size of segments"))?)?,
            timeline: said("timeline")
                .and_then(|number| number.parse().ok())
                .map(Timeline)
                .ok_or_else(|| wrong("timeline"))?,
            at: outcome.consistent_at,
            window: manifest
                .plan_of(source)
                .and_then(|plan| plan.number("log_window_seconds")),
        });
    }
    Ok(found)
}

/// What became of logs.
#[derive(Debug, Default)]
pub(crate) struct Pruned {
    pub(crate) systems: Vec<PrunedLog>,
    pub(crate) streams: Vec<PrunedStream>,
    pub(crate) failures: Vec<FailedLog>,
}

/// A log of which not all could be removed that is not needed. Its fields are keys of the JSON document.
#[derive(Debug, Clone, serde::Serialize)]
pub struct FailedLog {
    /// Which it is.
    pub log: String,
    /// Why.
    pub error: String,
}

impl FailedLog {
    /// Notes a failure; that the work is to end is none.
    pub(crate) fn of(log: &str, error: Error) -> Result<Self> {
        if error.kind() == ErrorKind::Cancelled {
            return Err(error);
        }
        Ok(Self {
            log: log.to_owned(),
            error: error.chain(),
        })
    }
}

/// Removes what the bases that are kept do not need, unless it is only to be shown. What fails with one log keeps the others from
/// nothing.
pub(crate) async fn prune(
    session: &Session,
    repository: &Repository,
    kept: &KnownBases,
    dry_run: bool,
) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    if let Err(error) = prune_systems(session, repository, &kept.systems, dry_run, &mut pruned.systems).await {
        pruned.failures.push(FailedLog::of("postgres", error)?);
    }
    if let Err(error) = redis::prune::prune(session, repository, &kept.streams, dry_run, &mut pruned).await {
        pruned.failures.push(FailedLog::of("redis", error)?);
    }
    Ok(pruned)
}

/// Removes an object; returns whether it is gone. What the store does not let go stays, and is counted.
pub(crate) async fn remove(store: &SharedStore, key: &ObjectKey, refused: &mut Refused) -> Result<bool> {
    match store.delete(key).await {
        Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::PreconditionFailed) => {
            refused.get_or_insert_with(|| (0, error.chain())).0 += 1;
            Ok(false)
        }
        done => done.map(|()| true),
    }
}

async fn prune_systems(
    session: &Session,
    repository: &Repository,
    kept: &[KnownBase],
    dry_run: bool,
    pruned: &mut Vec<PrunedLog>,
) -> Result<()> {
    let now = session.or_cancelled(async { Ok(repository.clock().await) }).await?;
    let mut systems: BTreeMap<u64, Vec<&KnownBase>> = BTreeMap::new();
    for base in kept {
        systems.entry(base.system).or_default().push(base);
    }
    for (system, bases) in systems {
        let newest = newest_timeline(session, repository, system).await?;
        let Some(first) = first_needed(&bases, newest, now) else {
            continue;
        };
        let (before, size) = (first.start, first.segment);
        let mut log = PrunedLog {
            system: system.to_string(),
            before,
            files: 0,
            bytes: 0,
            refused: None,
        };
        let mut next = None;
        loop {
            let page = session.or_cancelled(repository.logs(Some(system), next)).await?;
            for file in page.logs.iter().filter(|file| is_before(file, before, size)) {
                session.check_cancelled()?;
                if !dry_run && !remove(repository.store(), &file.key, &mut log.refused).await? {
                    continue;
                }
                log.files += 1;
                log.bytes = log.bytes.saturating_add(file.stored_bytes);
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        if log.files > 0 || log.refused.is_some() {
            pruned.push(log);
        }
    }
    Ok(())
}

/// Returns the highest timeline of which something is stored.
async fn newest_timeline(session: &Session, repository: &Repository, system: u64) -> Result<Timeline> {
    let mut newest = Timeline::default();
    let mut each = |log: ListedLog| {
        let name = log.name.parse::<FileName>();
        newest = newest.max(name.map(|name| name.timeline()).unwrap_or_default());
        true
    };
    session
        .or_cancelled(repository.for_each_log(Some(system), &mut each))
        .await?;
    Ok(newest)
}

/// Returns the base from which on the log is kept: the last one that ended before the window, or else the oldest.
///
/// A timeline may leave another before a base of that one ended, and then only an older base leads to it. So there is a window where all
/// bases and the log are of one timeline; otherwise the log is kept from the oldest base on.
fn first_needed<'a>(bases: &[&'a KnownBase], newest: Timeline, now: Timestamp) -> Option<&'a KnownBase> {
    let is_one = bases.iter().all(|base| base.timeline == newest);
    let since = needed_since(bases.iter().map(|base| (base.at, base.window)), now).filter(|_| is_one);
    let needed = bases.iter().filter(|base| since.is_none_or(|since| base.at >= since));
    needed.min_by_key(|base| base.start).copied()
}

/// Of bases of one log, by when they were taken and how far back moments are wanted, returns when the last one was taken before the
/// window: those before it are not needed for any moment of the window. None where none is that old.
fn needed_since(bases: impl Iterator<Item = (Timestamp, Option<u64>)> + Clone, now: Timestamp) -> Option<Timestamp> {
    let begin = window_begin(bases.clone(), now)?;
    bases.map(|(at, _)| at).filter(|at| *at <= begin).max()
}

/// Returns when the window of a log begins, by what its bases say: the newest word counts. None where it reaches back before all time.
pub(crate) fn window_begin(bases: impl Iterator<Item = (Timestamp, Option<u64>)>, now: Timestamp) -> Option<Timestamp> {
    let newest = bases.filter(|(_, window)| window.is_some()).max_by_key(|(at, _)| *at);
    let window = newest.and_then(|(_, window)| window).unwrap_or(DEFAULT_WINDOW);
    let window = i64::try_from(window).ok().map(SignedDuration::from_secs)?;
    now.checked_sub(window).ok()
}

/// Returns whether all that a file holds lies before a position.
fn is_before(file: &ListedLog, before: Lsn, size: SegmentSize) -> bool {
    let Ok(FileName::Segment(segment) | FileName::Partial(segment) | FileName::BackupLabel(segment, _)) =
        file.name.parse()
    else {
        return false;
    };
    let end = segment.start(size).map(|start| start.0.saturating_add(size.bytes()));
    end.is_some_and(|end| end <= before.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn base(start: u64, day: i64, window: Option<u64>) -> KnownBase {
        KnownBase {
            snapshot: "20260101T000000Z-full-0000000000000001".parse().unwrap(),
            system: 7,
            start: Lsn(start),
            segment: SegmentSize::new(1 << 20).unwrap(),
            timeline: Timeline(1),
            at: Timestamp::from_second(day * 86_400).unwrap(),
            window: window.map(|days| days * 86_400),
        }
    }

    #[test]
    fn the_log_is_kept_from_the_last_base_before_the_window_on() {
        let first = |bases: &[KnownBase], day: i64| {
            let bases: Vec<&KnownBase> = bases.iter().collect();
            let now = Timestamp::from_second(day * 86_400).unwrap();
            first_needed(&bases, Timeline(1), now).map(|base| base.start.0)
        };
        let said = |window| {
            [
                base(10, 1, window),
                base(20, 8, window),
                base(30, 15, window),
                base(40, 22, None),
            ]
        };
        for (window, day, wanted) in [
            (None, 22, 30),
            (None, 21, 20),
            (Some(7), 22, 30),
            (Some(8), 22, 20),
            (Some(30), 22, 10),
            (Some(1), 23, 40),
            (Some(u64::MAX / 86_400), 22, 10),
        ] {
            assert_eq!(first(&said(window), day), Some(wanted), "{window:?} at day {day}");
        }
        // None is old enough; the newest word counts; a copy of the server that was set back lies lower.
        assert_eq!(first(&[base(20, 8, None), base(10, 7, None)], 9), Some(10));
        assert_eq!(
            first(&[base(10, 1, Some(1)), base(20, 8, Some(30)), base(30, 15, None)], 16),
            Some(10)
        );
        assert_eq!(
            first(&[base(10, 1, None), base(30, 8, None), base(20, 15, None)], 16),
            Some(20)
        );
        assert_eq!(first(&[], 16), None);
        // Timeline 2 may have left timeline 1 before the second base ended: only the first one leads to it for sure.
        let (one, two) = (said(None), Timeline(2));
        let now = Timestamp::from_second(22 * 86_400).unwrap();
        let all: Vec<&KnownBase> = one.iter().collect();
        assert_eq!(first_needed(&all, two, now).map(|base| base.start.0), Some(10));
        let mut mixed = said(None);
        mixed[3].timeline = two;
        let all: Vec<&KnownBase> = mixed.iter().collect();
        assert_eq!(first_needed(&all, two, now).map(|base| base.start.0), Some(10));
    }

    #[test]
    fn what_reaches_into_the_oldest_base_stays() {
        let size = SegmentSize::new(1 << 20).unwrap();
        let file = |name: &str| ListedLog {
            key: crate::repository::layout::wal_file(7, None, name).unwrap(),
            system: 7,
            name: name.to_owned(),
            part: None,
            stored_bytes: 1,
            stored: jiff::Timestamp::UNIX_EPOCH,
        };
        let goes = |name: &str, before| is_before(&file(name), Lsn(before), size);
        for name in [
            "000000010000000000000003",
            "000000020000000000000003",
            "000000010000000000000003.partial",
            "000000010000000000000003.00000028.backup",
        ] {
            assert!(
                goes(name, 0x40_0000) && goes(name, 0x40_0028) && !goes(name, 0x3F_FFFF),
                "{name}"
            );
        }
        for name in ["00000002.history", "notes", "0000000100000000FFFFFFFF"] {
            assert!(!goes(name, u64::MAX), "{name}");
        }
    }
}
