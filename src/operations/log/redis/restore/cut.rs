//! Where a log is cut: behind a snapshot, at a place up to which everything is stored.

use jiff::Timestamp;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::log::marks::Mark;
use crate::engines::redis::log::position::{Position, ReplicationId};
use crate::operations::log::redis::bases::Base;
use crate::operations::log::redis::extent::Extent;
use crate::operations::log::redis::lineage::{self, Stretch};
use crate::operations::log::redis::restore::Moment;
use crate::operations::log::redis::restore::choose::Log;
use crate::operations::log::redis::restore::marks::{Around, MarkedWay};
use crate::operations::show::local_time;

/// Where the log is cut.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    /// The parts of histories that are read, one behind another.
    pub(super) way: Vec<Stretch>,
    /// Within the last of them.
    pub(super) offset: u64,
    /// The time mark by which it was chosen, and the one behind the moment.
    pub(super) marks: (Option<Mark>, Option<Mark>),
}

/// The histories of a way, and where each was left: whatever the snapshot, the marks along them are the same.
type Line = Vec<(ReplicationId, Option<u64>)>;

/// Tries one snapshot after another.
#[derive(Debug)]
pub(super) struct Cutter<'a> {
    log: &'a Log,
    moment: &'a Moment,
    /// The marks on the way that was looked at last: snapshots of one history have the same.
    around: Option<(Line, Around)>,
    /// Where the log ends, if all of it is wanted.
    newest: Option<(Position, Option<Mark>)>,
}

impl<'a> Cutter<'a> {
    pub(super) async fn new(log: &'a Log, moment: &'a Moment) -> Result<Self> {
        let newest = match moment {
            Moment::Latest => newest(log).await?,
            _ => None,
        };
        Ok(Self {
            log,
            moment,
            around: None,
            newest,
        })
    }

    /// Returns where the log ends, if all of it is wanted.
    pub(super) fn newest(&self) -> Option<Position> {
        self.newest.as_ref().map(|(place, _)| place.clone())
    }

    /// Returns the first time mark behind the moment, on the way that was looked at last.
    pub(super) fn first_mark(&self) -> Option<Timestamp> {
        self.around.as_ref()?.1.after.map(|placed| placed.mark.at)
    }

    /// Decides where the log is cut behind a snapshot. None where the snapshot was taken later; an error of kind
    /// [`ErrorKind::NotFound`] says why the log does not lead there.
    pub(super) async fn cut(&mut self, base: &Base) -> Result<Option<Cut>> {
        let cut = match self.moment {
            Moment::Offset(id, offset) => self.at_offset(base, id.as_ref(), *offset)?,
            Moment::Latest => self.at_end(base)?,
            Moment::At(at) => self.at_time(base, *at).await?,
        };
        if let Some(cut) = &cut {
            self.is_stored(&cut.way, cut.offset).await?;
        }
        Ok(cut)
    }

    /// Without a named history, the way ends where its offset is.
    fn at_offset(&self, base: &Base, id: Option<&ReplicationId>, offset: u64) -> Result<Option<Cut>> {
        let mut way = lineage::way(&self.log.histories, &base.position, id)?;
        if id.is_none() {
            let ends = way.iter().position(|stretch| stretch.to.is_none_or(|to| offset <= to));
            way.truncate(ends.map_or(way.len(), |at| at.saturating_add(1)));
        }
        match way.as_slice() {
            [only] if offset < only.from => return Ok(None),
            [.., last] if offset < last.from => {
                let message = format!("offset {offset} lies before {}, where its history begins", last.from);
                return Err(
                    Error::new(ErrorKind::NotFound, message).with_hint("Name the history before it: ID:OFFSET.")
                );
            }
            _ => {}
        }
        let marks = (None, None);
        Ok(Some(Cut { way, offset, marks }))
    }

    /// Goes to the end of the history of which something came last.
    fn at_end(&self, base: &Base) -> Result<Option<Cut>> {
        let Some((newest, mark)) = &self.newest else {
            return Err(nothing_behind(base));
        };
        if base.position.id == newest.id && newest.offset < base.position.offset {
            // An older snapshot would lead to an older state than this one is.
            let message = format!(
                "the log ends at offset {}, before snapshot {}, which is of {}",
                newest.offset,
                base.id,
                local_time(base.at)
            );
            return Err(Error::invalid(message).with_hint(
                "The snapshot alone is newer: leave --at out. An older snapshot that is named leads to the end of the log.",
            ));
        }
        let cut = self.at_offset(base, Some(&newest.id), newest.offset)?;
        Ok(cut.map(|cut| Cut {
            marks: (*mark, None),
            ..cut
        }))
    }

    /// Returns the end of another history, to which a snapshot leads.
    pub(super) async fn elsewhere(&self, bases: &[Base]) -> Option<Position> {
        for base in bases {
            if let Some(place) = self.end_of_way(base).await {
                return Some(place);
            }
        }
        None
    }

    /// Returns where the newest way from a snapshot ends, if all of it is stored.
    async fn end_of_way(&self, base: &Base) -> Option<Position> {
        let way = lineage::way(&self.log.histories, &base.position, None).ok()?;
        let last = way.last()?;
        let offset = self.log.histories.get(&last.id)?.end;
        let goes = offset >= last.from && self.is_stored(&way, offset).await.is_ok();
        goes.then(|| Position {
            id: last.id.clone(),
            offset,
        })
    }

    /// Goes up to the last time mark before a moment; that there is one behind it, or at it, says that the log reaches it. When the
    /// snapshot was taken is not asked: that was another clock. A mark before its offset says that it was taken later than the moment.
    async fn at_time(&mut self, base: &Base, at: Timestamp) -> Result<Option<Cut>> {
        let mut way = lineage::way(&self.log.histories, &base.position, None)?;
        let Around { before, after } = self.around(&way, at).await?;
        let Some(before) = before else {
            return if after.is_some() {
                Ok(None)
            } else {
                Err(nothing_behind(base))
            };
        };
        if after.is_none() && before.mark.at < at {
            let message = format!(
                "the log ends at {}, offset {}",
                local_time(before.mark.at),
                before.mark.offset
            );
            return Err(Error::new(ErrorKind::NotFound, message).with_hint(
                "`wirevault log receive` stores it. Choose an earlier moment, or restore a snapshot alone.",
            ));
        }
        if before.stretch == 0 && before.mark.offset < base.position.offset {
            return Ok(None);
        }
        if let Some(after) = after {
            // Behind a hole it says nothing of the moment.
            let on_the_way = exact::first(&way, after.stretch.saturating_add(1));
            self.is_stored(on_the_way, after.mark.offset).await?;
        }
        way.truncate(before.stretch.saturating_add(1));
        Ok(Some(Cut {
            way,
            offset: before.mark.offset,
            marks: (Some(before.mark), after.map(|placed| placed.mark)),
        }))
    }

    async fn around(&mut self, way: &[Stretch], at: Timestamp) -> Result<Around> {
        let line: Line = way.iter().map(|stretch| (stretch.id.clone(), stretch.to)).collect();
        if let Some((known, around)) = &self.around
            && *known == line
        {
            return Ok(*around);
        }
        let marks = MarkedWay::new(&self.log.streams, &self.log.histories, way);
        let around = marks.around(at).await?;
        if let (Around { before: None, .. } | Around { after: None, .. }, Some(damage)) = (&around, marks.damage()) {
            return Err(damage);
        }
        self.around = Some((line, around));
        Ok(around)
    }

    /// Fails unless all that lies on a way is stored, up to an offset of its last history, as far as the descriptors say it.
    async fn is_stored(&self, way: &[Stretch], offset: u64) -> Result<()> {
        for (number, stretch) in way.iter().enumerate() {
            let is_last = number.saturating_add(1) == way.len();
            let to = if is_last { Some(offset) } else { stretch.to };
            let to = to.ok_or_else(|| Error::corrupt("a history on the way has no end"))?;
            if to <= stretch.from {
                continue;
            }
            let extent = self.log.extent(stretch);
            let begin = extent.begin(to, stretch.from).await?;
            if begin <= stretch.from {
                continue;
            }
            if let Some(damage) = extent.damage() {
                return Err(damage);
            }
            let before = extent.end_before(begin).await?;
            let before = before.map_or(stretch.from, |before| before.clamp(stretch.from, begin));
            return Err(missing(&stretch.id, (before, begin), to));
        }
        Ok(())
    }
}

/// Returns where the log ends: the history of which something came last, and its last mark. What is damaged behind it is an error, for
/// it would be the newest.
async fn newest(log: &Log) -> Result<Option<(Position, Option<Mark>)>> {
    let Some((id, history)) = lineage::newest(&log.histories) else {
        return Ok(None);
    };
    let extent = Extent::new(&log.streams, id, &history.pieces);
    let newest = extent.furthest(usize::MAX).await?;
    let (begin, end) = newest.as_ref().map_or((0, 0), |piece| (piece.from, piece.to));
    // One that begins behind the one that reaches furthest may reach further.
    if let Some(damage) = extent.damage_behind(begin) {
        let hint = if newest.is_some() {
            format!("What lies before it is there: --offset {id}:{end}, or --at with a moment before it.")
        } else {
            "No piece of it can be read. Choose a moment before it with --at, or a place with --offset.".to_owned()
        };
        return Err(damage
            .context(format!("read the end of the log of {id}"))
            .with_hint_instead(hint));
    }
    let end = newest.map(|piece| {
        let place = Position {
            id: id.clone(),
            offset: piece.to,
        };
        (place, piece.marks.last().copied())
    });
    Ok(end)
}

/// The error where something is not stored on the way to an offset.
fn missing(id: &ReplicationId, (from, to): (u64, u64), wanted: u64) -> Error {
    let message = match () {
        () if to == wanted => {
            format!("the log of {id} does not hold offset {wanted}: it is stored to {from} before it")
        }
        () if from == to => format!(
            "the log of {id} does not go on at offset {to}: the server went back to an older state, and wrote other commands"
        ),
        () => format!("the log of {id} has a gap from {from} to {to}, before offset {wanted}"),
    };
    Error::new(ErrorKind::NotFound, message).with_hint(
        "Choose a moment or an offset before it, or a snapshot that was taken behind it: `wirevault log show` shows what is stored.",
    )
}

fn nothing_behind(base: &Base) -> Error {
    let message = format!(
        "no log is stored behind snapshot {}, which is of {}",
        base.id,
        local_time(base.at)
    );
    Error::new(ErrorKind::NotFound, message)
        .with_hint("`wirevault log receive` stores it. Choose an earlier moment, or restore the snapshot alone.")
}
