//! Opens the snapshot, and reads the commands behind it for wherever they go.

use futures_util::StreamExt;

use crate::archive::ArchiveReader;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::log::position::ReplicationId;
use crate::engines::redis::log::replay::{CommandSink, Replay, Replayed};
use crate::engines::redis::log::tail::Joined;
use crate::engines::redis::stored;
use crate::operations::log::redis::bases::Base;
use crate::operations::log::redis::extent::is_damage;
use crate::operations::log::redis::lineage::Stretch;
use crate::operations::log::redis::restore::RestoredMoment;
use crate::operations::log::redis::restore::choose::{Chosen, Log};
use crate::operations::snapshots::open_reader;
use crate::operations::{Session, options, thaw};
use crate::repository::Repository;

/// Objects that are read ahead: a log has many, and a store answers slowly. Each is at most 8 MiB in memory.
const READ_AHEAD: usize = 4;

/// A snapshot that is there, and is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) reader: ArchiveReader,
    /// The database that the stream goes on in.
    database: u32,
    pub(super) raw_bytes: Option<u64>,
}

/// Opens the snapshot that a restore begins with; its presence is checked. What is cold is asked for as `--thaw` says, unless nothing
/// is to be written.
pub(super) async fn open(
    session: &Session,
    repository: &Repository,
    base: &Base,
    options: &options::Restore,
) -> Result<Opened> {
    let manifest = session.or_cancelled(repository.load(&base.id)).await?;
    let source = manifest.sources.iter().find(|source| source.name == base.source);
    let source = source.ok_or_else(|| Error::corrupt("the snapshot does not hold the source any more"))?;
    if !options.dry_run {
        thaw::sources(session, repository.store(), &[source], &options.thaw).await?;
    }
    let reader = open_reader(session, repository.store(), source).await?;
    let database = session
        .or_cancelled(stored::stream_database(&reader, &base.position))
        .await?;
    Ok(Opened {
        reader,
        database,
        raw_bytes: source.outcome.as_ref().map(|outcome| outcome.raw_bytes),
    })
}

/// Reads the commands that follow the snapshot, up to the cut, and has them go to where they go. Returns that, and how far they count.
pub(super) async fn commands<S: CommandSink + Send>(
    session: &Session,
    Chosen { base, log, cut }: &Chosen,
    opened: &Opened,
    out: S,
    report: &mut RestoredMoment,
) -> Result<(S, Replayed)> {
    let mut replay = Replay::begin(out, base.position.offset, cut.offset, opened.database)?;
    let mut objects = 0;
    for (number, stretch) in cut.way.iter().enumerate() {
        if replay.at() != stretch.from {
            return Err(Error::corrupt(format!(
                "the history {} begins behind what leads to it",
                stretch.id
            )));
        }
        let is_last = number.saturating_add(1) == cut.way.len();
        let to = if is_last { Some(cut.offset) } else { stretch.to };
        let to = to.ok_or_else(|| Error::corrupt("a history on the way has no end"))?;
        objects += copy(session, log, stretch, to, &mut replay).await?;
    }
    let (out, replayed) = replay.end();
    let last = cut.way.last().map_or(&base.position.id, |stretch| &stretch.id);
    report.to = format!("{last}:{}", replayed.offset);
    report.objects = objects;
    report.commands = replayed.commands;
    Ok((out, replayed))
}

/// Copies what lies on a stretch, without a hole. Returns how many objects that were.
async fn copy<S: CommandSink + Send>(
    session: &Session,
    log: &Log,
    stretch: &Stretch,
    to: u64,
    replay: &mut Replay<S>,
) -> Result<u64> {
    let (mut objects, mut at) = (0, stretch.from);
    if at >= to {
        return Ok(objects);
    }
    let mut joined = Joined::at(at);
    let extent = log.extent(stretch);
    // All that reach there: of one of them another receiver's may be the continuation.
    let first = session.or_cancelled(extent.first_behind(at)).await?;
    let first = extent.pieces.partition_point(|from| *from < first);
    let pieces = exact::part(extent.pieces, first.., "it is one of them, or there are none");
    let wanted = pieces.iter().take_while(|from| **from < to);
    let mut damage = None;
    let mut opened = futures_util::stream::iter(wanted)
        .map(|from| log.streams.open(&stretch.id, *from))
        .buffered(READ_AHEAD);
    while at < to
        && let Some(next) = session.or_cancelled(async { Ok(opened.next().await) }).await?
    {
        let (reader, piece) = match next {
            Ok(next) => next,
            // Another receiver may have stored what it holds.
            Err(error) if is_damage(error.kind()) => {
                damage = damage.or(Some(error));
                continue;
            }
            Err(error) => return Err(error),
        };
        if piece.from > at {
            return Err(damage.unwrap_or_else(|| hole(&stretch.id, at, &piece.from.to_string())));
        }
        // Another receiver has stored it as well.
        if piece.to <= at {
            continue;
        }
        joined.begin(piece.from);
        let mut left = to.saturating_sub(at);
        let mut out = |bytes: &[u8]| {
            // What two receivers have stored is compared, as far as it is still at hand.
            let new = joined.take(bytes);
            if !joined.agrees() {
                return Err(Error::corrupt(format!(
                    "it has other bytes before offset {at} than the piece before it"
                )));
            }
            let new = exact::first(new, exact::usize_from(left));
            left = left.saturating_sub(exact::u64_from(new.len()));
            tokio::task::block_in_place(|| replay.feed(new))
        };
        session.or_cancelled(reader.read(&mut out)).await?;
        objects += 1;
        at = piece.to.min(to);
    }
    if at < to {
        return Err(damage.unwrap_or_else(|| hole(&stretch.id, at, "its end")));
    }
    Ok(objects)
}

fn hole(id: &ReplicationId, from: u64, to: &str) -> Error {
    let message = format!("the log of {id} has a gap from {from} to {to}");
    Error::new(ErrorKind::NotFound, message)
        .with_hint("Choose a moment before it, or a snapshot that was taken after it: `wirevault list` shows them.")
}
