//! Decides which snapshot a restore begins with, and where the log behind it is cut. Nothing but the ends of pieces is read.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use jiff::Timestamp;

use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::redis::KIND;
use crate::engines::redis::log::position::ReplicationId;
use crate::operations::log::redis::bases::{self, Base};
use crate::operations::log::redis::extent::Extent;
use crate::operations::log::redis::lineage::{self, History, Stretch};
use crate::operations::log::redis::restore::Moment;
use crate::operations::log::redis::restore::cut::{Cut, Cutter};
use crate::operations::log::redis::stored::{Listed, Sources, Streams};
use crate::operations::log::redis::trust::{Course, Doubt};
use crate::operations::show::local_time;
use crate::operations::{Session, options};
use crate::repository::{Manifest, Repository, Selector};

/// What a restore reads.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) base: Base,
    pub(super) log: Log,
    pub(super) cut: Cut,
}

/// The log of one source.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) streams: Streams,
    pub(super) histories: BTreeMap<ReplicationId, History>,
}

impl Log {
    /// Returns what is stored of the history that a stretch is of.
    pub(super) fn extent<'a>(&'a self, stretch: &'a Stretch) -> Extent<'a> {
        let history = self.histories.get(&stretch.id);
        let pieces = history.map(|history| history.pieces.as_slice());
        Extent::new(&self.streams, &stretch.id, pieces.unwrap_or_default())
    }
}

/// Finds the newest snapshot from which the log leads to the moment.
pub(super) async fn choose(
    session: &Session,
    repository: &Repository,
    options: &options::Restore,
    moment: &Moment,
) -> Result<Chosen> {
    let logs = logs(repository, &options.source).await?;
    let all = snapshots(session, repository, options).await?;
    let (log, mut bases) = one_log(logs, &all)?;
    let is_named = matches!(Selector::parse(&options.snapshot), Selector::Prefix(_));
    // The newest history that a snapshot leads to, and of its snapshots the newest. What a server wrote that had been replaced by another
    // one is reached only where nothing else is there, or it is named.
    bases.sort_by_cached_key(|base| {
        let way = lineage::way(&log.histories, &base.position, None);
        let last = way.ok().and_then(|way| Some(way.last()?.id.clone()));
        let last = last.and_then(|last| lineage::last_mark(&log.histories, &last));
        Reverse((last, base.at))
    });
    let mut cutter = Cutter::new(&log, moment).await?;
    let mut courses = BTreeMap::new();
    let (mut first, mut doubted) = (None, None);
    let mut found = None;
    for base in &bases {
        let cut = match cutter.cut(base).await {
            Ok(Some(cut)) => cut,
            // It was taken later.
            Ok(None) => continue,
            // The newest one is nearest to what is asked for; why it does not lead there is the reason to tell.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                first = first.or(Some(error));
                continue;
            }
            Err(error) => return Err(error),
        };
        let doubt = doubt(&log, base, &mut courses).await?;
        if let Some(doubt) = doubt {
            let error = doubt.error(base);
            tracing::warn!("{}", error.chain());
            if !is_named {
                doubted = doubted.or(Some(error));
                continue;
            }
        }
        found = Some((base.clone(), cut));
        break;
    }
    if let Some((base, cut)) = found {
        return Ok(Chosen { base, log, cut });
    }
    let is_doubted = doubted.is_some();
    let why = doubted.or(first);
    let why = why.unwrap_or_else(|| all_later(&bases, cutter.first_mark()));
    Err(match cutter.newest() {
        Some(newest) => {
            let why = why.context(format!("restore all of the log, which comes to {newest}"));
            // Where one is doubted, no other way is told.
            let elsewhere = if is_doubted {
                None
            } else {
                cutter.elsewhere(&bases).await
            };
            match elsewhere {
                Some(place) => why.with_hint_instead(format!(
                    "Take a snapshot: from it on the log leads on. Now a snapshot leads to another place: --offset {place}."
                )),
                None => why,
            }
        }
        None => why,
    })
}

/// Returns why a snapshot may not be of what is stored.
async fn doubt(log: &Log, base: &Base, courses: &mut BTreeMap<ReplicationId, Course>) -> Result<Option<Doubt>> {
    let id = &base.position.id;
    let pieces = log.histories.get(id).map(|history| history.pieces.as_slice());
    let extent = Extent::new(&log.streams, id, pieces.unwrap_or_default());
    let course = match courses.entry(id.clone()) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(none) => none.insert(Course::of(&extent).await?),
    };
    course.doubt(&extent, base).await
}

/// The error where every snapshot was taken later.
fn all_later(bases: &[Base], first_mark: Option<Timestamp>) -> Error {
    let oldest = bases.iter().min_by_key(|base| base.at);
    let oldest = oldest
        .map(|base| format!("; the oldest is of {}, at {}", local_time(base.at), base.position))
        .unwrap_or_default();
    let message = format!("no snapshot in the log lies before what is asked for{oldest}");
    let error = Error::new(ErrorKind::NotFound, message);
    match first_mark {
        Some(mark) => error.with_hint(format!(
            "A moment is found by the time marks of the log, the first of them behind it is of {}. Choose a later one, or restore a snapshot alone.",
            local_time(mark)
        )),
        None => error.with_hint("`wirevault list` shows all snapshots."),
    }
}

/// Looks at what is stored: of the source that is named, or of all.
async fn logs(repository: &Repository, named: &[String]) -> Result<Vec<Log>> {
    let store = repository.store();
    let starts = |pieces: Vec<Listed>| pieces.into_iter().map(|piece| piece.from).collect();
    let stored: BTreeMap<String, BTreeMap<ReplicationId, Vec<u64>>> = match named {
        [] => {
            let (mut sources, mut all) = (Sources::of(store), BTreeMap::new());
            while let Some((source, histories)) = sources.next().await? {
                let histories = histories?.into_iter();
                all.insert(source, histories.map(|(id, pieces)| (id, starts(pieces))).collect());
            }
            all
        }
        [name] => {
            let histories = Streams::of(store, name).all().await?;
            BTreeMap::from([(name.clone(), histories)])
        }
        _ => {
            return Err(
                Error::invalid("a restore to a moment of a log is of one source").with_hint("Give one --source.")
            );
        }
    };
    let mut logs = Vec::new();
    for (source, histories) in stored {
        let mut log = Log {
            streams: Streams::of(store, &source),
            histories: BTreeMap::new(),
        };
        for (id, pieces) in histories {
            let history = history(&log.streams, &id, pieces).await?;
            log.histories.insert(id, history);
        }
        if !log.histories.is_empty() {
            logs.push(log);
        }
    }
    if logs.is_empty() {
        let of = named
            .first()
            .map(|name| format!(" of source \"{name}\""))
            .unwrap_or_default();
        return Err(Error::new(ErrorKind::NotFound, format!("no log{of} is stored"))
            .with_hint("`wirevault log receive` stores it, `wirevault log show` shows what there is. Without --at and --offset a snapshot comes back alone."));
    }
    Ok(logs)
}

/// Looks at both ends of a history: the one says what it continues, the other how far it comes.
async fn history(streams: &Streams, id: &ReplicationId, pieces: Vec<u64>) -> Result<History> {
    let extent = Extent::new(streams, id, &pieces);
    let follows = extent.follows().await?;
    let newest = extent.furthest(usize::MAX).await?;
    let (begin, end) = newest.as_ref().map_or((0, 0), |piece| (piece.from, piece.to));
    let last = newest.and_then(|piece| Some(piece.marks.last()?.at));
    if let Some(damage) = extent.damage_behind(begin) {
        tracing::warn!("the end of the log of {id} cannot be read: {}", damage.chain());
    }
    Ok(History {
        pieces,
        follows,
        end,
        last,
    })
}

/// Returns the snapshots that may be meant. Those of other hosts count: that they are of this server is said by their positions.
async fn snapshots(session: &Session, repository: &Repository, options: &options::Restore) -> Result<Vec<Base>> {
    let (host, job) = match Selector::parse(&options.snapshot) {
        Selector::Latest { host, job } => (host, job),
        Selector::Prefix(_) => {
            let id = session.or_cancelled(repository.resolve(&options.snapshot)).await?;
            let manifest = session.or_cancelled(repository.load(&id)).await?;
            let bases = bases::of(&manifest);
            if bases.is_empty() {
                return Err(no_base(&manifest));
            }
            return Ok(bases);
        }
    };
    let of = |manifest: &Manifest| {
        let is_meant = host.as_ref().is_none_or(|host| *host == manifest.host)
            && job.as_ref().is_none_or(|job| *job == manifest.job);
        if is_meant { bases::of(manifest) } else { Vec::new() }
    };
    let survey = session.or_cancelled(repository.survey(of)).await?;
    for (id, error) in &survey.damaged {
        tracing::warn!("skipping snapshot {id}: {}", error.chain());
    }
    Ok(survey.snapshots.into_iter().flatten().collect())
}

fn no_base(manifest: &Manifest) -> Error {
    let has_any = manifest.sources.iter().any(|source| source.kind == KIND.word());
    let what = if has_any {
        "is not all of one Redis or Valkey server at one moment"
    } else {
        "holds no Redis or Valkey server"
    };
    Error::unsupported(format!("snapshot {} {what}", manifest.id))
        .with_hint("A log is replayed on a snapshot that was read by PSYNC, of a whole server: `latest` finds one.")
}

/// Finds the log in which snapshots lie; it must be one.
fn one_log(logs: Vec<Log>, all: &[Base]) -> Result<(Log, Vec<Base>)> {
    let lies_in = |log: &Log| -> Vec<Base> {
        let lies = |base: &&Base| lineage::may_lie_in(&log.histories, &base.position);
        all.iter().filter(lies).cloned().collect()
    };
    let sources: Vec<String> = logs.iter().map(|log| log.streams.source.clone()).collect();
    let mut found: Vec<(Vec<Base>, Log)> = logs.into_iter().map(|log| (lies_in(&log), log)).collect();
    found.retain(|(bases, _)| !bases.is_empty());
    match (found.pop(), found.as_slice()) {
        (Some((bases, log)), []) => Ok((log, bases)),
        (Some(_), _) => Err(
            Error::invalid(format!("several sources have a log: {}", sources.join(", ")))
                .with_hint("Name one with --source."),
        ),
        (None, _) => Err(Error::new(
            ErrorKind::NotFound,
            format!("no snapshot lies in the log of {}", sources.join(", ")),
        )
        .with_hint(
            "A restore begins with a snapshot of the whole server that was read by PSYNC. `wirevault log receive` takes one where it lacks one; `wirevault list` shows all.",
        )),
    }
}
