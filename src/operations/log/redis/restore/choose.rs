//! Decides which snapshot a restore begins with, and where the log behind it is cut. Nothing but the ends of pieces is read.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::redis::KIND;
use crate::engines::redis::log::marks::Mark;
use crate::engines::redis::log::position::ReplicationId;
use crate::operations::log::redis::lineage::{self, History, Stretch};
use crate::operations::log::redis::restore::marks::marks_around;
use crate::operations::log::redis::restore::{Base, Cut, Moment};
use crate::operations::log::redis::stored::Streams;
use crate::operations::show::local_time;
use crate::operations::{Session, options};
use crate::repository::{Manifest, Repository, Selector};

/// Finds the newest snapshot from which the log leads to the moment.
pub(super) async fn choose(
    session: &Session,
    repository: &Repository,
    options: &options::Restore,
    moment: &Moment,
) -> Result<(Base, Streams, Cut)> {
    let mut bases = bases(session, repository, options).await?;
    let fits = |base: &Base| match moment {
        Moment::Latest => true,
        Moment::At(at) => base.at <= *at,
        Moment::Offset(Some(id), offset) => base.position.id != *id || base.position.offset <= *offset,
        Moment::Offset(None, offset) => base.position.offset <= *offset,
    };
    let oldest = bases.iter().map(|base| base.at).min();
    bases.retain(fits);
    bases.sort_by_key(|base| std::cmp::Reverse(base.at));
    if bases.is_empty() {
        let oldest = oldest
            .map(|at| format!("; the oldest is of {}", local_time(at)))
            .unwrap_or_default();
        let message =
            format!("no snapshot of one moment of a Redis or Valkey server lies before what is asked for{oldest}");
        return Err(Error::new(ErrorKind::NotFound, message).with_hint("`wirevault list` shows all snapshots."));
    }
    let (mut known, mut first) = (BTreeMap::new(), None);
    for base in bases {
        let streams = Streams {
            store: repository.store().clone(),
            source: base.source.clone(),
        };
        if !known.contains_key(&base.source) {
            known.insert(base.source.clone(), histories(&streams).await?);
        }
        let Some(histories) = known.get(&base.source) else {
            continue;
        };
        match cut(&streams, histories, &base, moment).await {
            Ok(cut) => return Ok((base, streams, cut)),
            // The newest one is nearest to what is asked for; why it does not lead there is the reason to tell.
            Err(error) if error.kind() == ErrorKind::NotFound => first = first.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(first.unwrap_or_else(|| Error::new(ErrorKind::NotFound, "no log leads to what is asked for")))
}

/// Returns the snapshots that may be meant, of one source each.
async fn bases(session: &Session, repository: &Repository, options: &options::Restore) -> Result<Vec<Base>> {
    let wanted: Vec<&String> = options.source.iter().collect();
    let of = |manifest: &Manifest| {
        let sources = manifest.sources.iter();
        let meant = sources.filter(|source| wanted.is_empty() || wanted.contains(&&source.name));
        let bases: Vec<Base> = meant
            .filter(|source| source.kind == KIND.word())
            .filter_map(|source| {
                Some(Base {
                    id: manifest.id.clone(),
                    source: source.name.clone(),
                    position: lineage::position_of(source.outcome.as_ref())?,
                    at: source.outcome.as_ref()?.consistent_at,
                })
            })
            .collect();
        (manifest.host.clone(), manifest.job.clone(), bases)
    };
    let (host, job) = match Selector::parse(&options.snapshot) {
        Selector::Latest { host, job } => (host, job),
        Selector::Prefix(_) => {
            let id = repository.resolve(&options.snapshot).await?;
            let (_, _, bases) = of(&repository.load(&id).await?);
            return one_source(bases);
        }
    };
    let survey = repository.survey(of).await?;
    let here = session.host();
    let is_meant = |(of_host, of_job, _): &(String, String, Vec<Base>)| {
        host.as_ref().is_none_or(|host| host == of_host) && job.as_ref().is_none_or(|job| job == of_job)
    };
    let mut all: Vec<_> = survey.snapshots.into_iter().filter(is_meant).collect();
    // Snapshots of this host come first, as with every `latest`.
    if host.is_none() && all.iter().any(|(host, _, bases)| *host == here && !bases.is_empty()) {
        all.retain(|(host, _, _)| *host == here);
    }
    one_source(all.into_iter().flat_map(|(_, _, bases)| bases).collect())
}

fn one_source(bases: Vec<Base>) -> Result<Vec<Base>> {
    let mut names: Vec<&str> = bases.iter().map(|base| base.source.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [] | [_] => Ok(bases),
        several => Err(
            Error::invalid(format!("several sources have snapshots: {}", several.join(", ")))
                .with_hint("Name one with --source."),
        ),
    }
}

/// Looks at what is stored of each history.
async fn histories(streams: &Streams) -> Result<BTreeMap<ReplicationId, History>> {
    let mut histories = BTreeMap::new();
    for (id, pieces) in streams.all().await? {
        let Some(first) = pieces.first() else { continue };
        let first = streams.look(&id, *first).await?;
        let history = History {
            pieces,
            follows: first.follows,
            begun: first.marks.first().map(|mark| mark.at),
        };
        histories.insert(id, history);
    }
    Ok(histories)
}

/// Decides where the log is cut, out of the ends of what is stored.
async fn cut(
    streams: &Streams,
    histories: &BTreeMap<ReplicationId, History>,
    base: &Base,
    moment: &Moment,
) -> Result<Cut> {
    match moment {
        Moment::Offset(id, offset) => cut_at_offset(streams, histories, base, (id.as_ref(), *offset)).await,
        Moment::Latest => cut_at_end(streams, histories, base).await,
        Moment::At(at) => cut_at_time(streams, histories, base, *at).await,
    }
}

/// Without a named history, the way ends where its offset is.
async fn cut_at_offset(
    streams: &Streams,
    histories: &BTreeMap<ReplicationId, History>,
    base: &Base,
    (id, offset): (Option<&ReplicationId>, u64),
) -> Result<Cut> {
    let mut way = lineage::way(histories, &base.position, id)?;
    if id.is_none() {
        let ends = way.iter().position(|stretch| stretch.to.is_none_or(|to| offset <= to));
        way.truncate(ends.map_or(way.len(), |at| at.saturating_add(1)));
    }
    if let Some(last) = way.last() {
        if offset < last.from {
            let message = format!("offset {offset} lies before {}, where its history begins", last.from);
            return Err(Error::new(ErrorKind::NotFound, message).with_hint("Name the history before it: ID:OFFSET."));
        }
        if offset > last.from {
            is_stored_to(streams, histories, last, offset).await?;
        }
    }
    Ok(Cut {
        way,
        offset,
        marks: (None, None),
    })
}

/// Goes as far as something is stored.
async fn cut_at_end(streams: &Streams, histories: &BTreeMap<ReplicationId, History>, base: &Base) -> Result<Cut> {
    let way = lineage::way(histories, &base.position, None)?;
    let last = way
        .last()
        .and_then(|stretch| Some((stretch, histories.get(&stretch.id)?.pieces.last()?)));
    let newest = match last {
        Some((stretch, from)) => Some(streams.look(&stretch.id, *from).await?),
        None => None,
    };
    let newest = newest.filter(|piece| piece.to >= base.position.offset);
    let newest = newest.ok_or_else(|| ends_before(None, base))?;
    Ok(Cut {
        way,
        offset: newest.to,
        marks: (newest.marks.last().copied(), None),
    })
}

/// Goes up to the last time mark before a moment; that there is one behind it, or at it, says that the log reaches it.
async fn cut_at_time(
    streams: &Streams,
    histories: &BTreeMap<ReplicationId, History>,
    base: &Base,
    at: Timestamp,
) -> Result<Cut> {
    let mut way = lineage::way(histories, &base.position, None)?;
    let (mut before, mut after, mut reached): (Option<Mark>, _, _) = (None, None, 0_usize);
    for (number, stretch) in way.iter().enumerate() {
        let (last, next) = marks_around(streams, histories, stretch, at).await?;
        if last.is_some() {
            (before, reached) = (last, number);
        }
        after = next;
        if after.is_some() {
            break;
        }
    }
    if after.is_none() && before.is_none_or(|mark| mark.at < at) {
        return Err(ends_before(before, base));
    }
    way.truncate(reached.saturating_add(1));
    let offset = before.map_or(base.position.offset, |mark| mark.offset);
    Ok(Cut {
        way,
        offset: offset.max(base.position.offset),
        marks: (before, after),
    })
}

/// Fails unless the last piece before an offset holds what lies before it.
async fn is_stored_to(
    streams: &Streams,
    histories: &BTreeMap<ReplicationId, History>,
    stretch: &Stretch,
    offset: u64,
) -> Result<()> {
    let pieces = histories.get(&stretch.id).map(|history| history.pieces.as_slice());
    let at = pieces.and_then(|pieces| last_before(pieces, offset));
    let piece = match at {
        Some(at) => Some(streams.look(&stretch.id, at).await?),
        None => None,
    };
    match piece {
        Some(piece) if piece.to >= offset => Ok(()),
        piece => {
            let to = piece.map_or(stretch.from, |piece| piece.to);
            let message = format!(
                "the log of {} does not hold offset {offset}: it is stored to {to} before it",
                stretch.id
            );
            Err(Error::new(ErrorKind::NotFound, message)
                .with_hint("Choose an offset that is stored, or a later snapshot."))
        }
    }
}

/// Returns the last of the offsets that lies before another one.
fn last_before(pieces: &[u64], offset: u64) -> Option<u64> {
    let count = pieces.partition_point(|from| *from < offset);
    pieces.get(count.checked_sub(1)?).copied()
}

fn ends_before(last: Option<Mark>, base: &Base) -> Error {
    let message = match last {
        Some(mark) => format!("the log ends at {}, offset {}", local_time(mark.at), mark.offset),
        None => format!(
            "no log is stored behind snapshot {}, which is of {}",
            base.id,
            local_time(base.at)
        ),
    };
    Error::new(ErrorKind::NotFound, message)
        .with_hint("`wirevault log receive` stores it. Choose an earlier moment, or restore the snapshot alone.")
}
