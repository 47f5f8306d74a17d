//! Where a recovery ends: whether the server will find its target in the stored log, or what stands for one.
//!
//! At a time a server stops before the first transaction that ended later. Where none is stored it would end with an error, though nothing may have
//! happened since: then the log has to be known to reach the moment by something else, no target is set, and the server is given the log up
//! to where it was looked through.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::course::{Course, Walk};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::moment::local;
use crate::engines::postgres::physical::recovery::RecoveryTarget;
use crate::engines::postgres::wal::{Lsn, Mark, PointName};

/// Names of restore points that an error tells, at most: the last ones.
const NAMES: usize = 20;

/// Bytes of the name of a restore point, at most.
const MAX_NAME_BYTES: usize = 63;

/// Where a recovery ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) target: RecoveryTarget,
    /// Up to where the log is replayed.
    pub(super) to: Lsn,
    /// Behind which the server is given nothing.
    pub(super) until: Option<Lsn>,
    /// Where the last record begins, of a log that is replayed to its end.
    pub(super) last: Option<Lsn>,
}

impl Ending {
    fn target(target: RecoveryTarget, to: Lsn) -> Self {
        Self {
            target,
            to,
            until: None,
            last: None,
        }
    }

    /// All that was walked over, and nothing that comes later.
    fn end_of(course: &Course<'_>, walk: &Walk<'_>) -> Result<Self> {
        let (to, base) = (walk.end(), course.base.end);
        if to < base {
            return Err(Error::corrupt(format!(
                "the stored log is not valid from {to} on, and the base needs it up to {base}"
            )));
        }
        Ok(Self {
            target: RecoveryTarget::End,
            to,
            until: Some(to),
            last: walk.last_record(),
        })
    }
}

/// Goes to the newest stored position.
pub(super) async fn newest(course: &Course<'_>) -> Result<Ending> {
    let mut walk = Walk::of(course);
    if let Some(last) = course.segments().checked_sub(1) {
        walk.step(last, &mut |_| {}).await?;
    }
    let ending = Ending::end_of(course, &walk)?;
    Ok(Ending {
        until: ending.until.filter(|_| course.ends_at_fork()),
        ..ending
    })
}

/// Goes to a moment.
pub(super) async fn at_moment(course: &Course<'_>, moment: Timestamp) -> Result<Ending> {
    let found = course.first_later(moment).await?;
    if let Some(place) = found {
        let mut later = None;
        let mut tell = |mark: Mark| {
            if mark.is_end() && mark.time > moment {
                later.get_or_insert(mark);
            }
        };
        Walk::of(course).step(place, &mut tell).await?;
        if let Some(mark) = later {
            return before(course, mark, moment);
        }
    }
    // No segment holds such an end as a whole. One may lie over the border of two, so the rest is read on end.
    let last = course.last_time(found.unwrap_or_else(|| course.segments())).await?;
    let mut walk = Walk::of(course);
    let (mut later, mut told, mut ended) = (None, None, last.map(|(_, time)| time));
    for place in last.map_or(0, |(place, _)| place)..course.segments() {
        let mut tell = |mark: Mark| {
            if !mark.is_end() {
                told = told.max(Some(mark.time));
            } else if mark.time > moment {
                later.get_or_insert(mark);
            } else {
                ended = ended.max(Some(mark.time));
            }
        };
        walk.step(place, &mut tell).await?;
        if let Some(mark) = later {
            return before(course, mark, moment);
        }
        if walk.is_over() {
            break;
        }
    }
    // A restore point tells the time as well, though no server stops at it; so does a transaction that ended right then.
    if told.max(ended) < Some(moment) && course.seen(walk.end()).await? < Some(moment) {
        return Err(course.short(&local(moment), walk.end(), ended));
    }
    Ending::end_of(course, &walk)
}

/// Stops before the end of a transaction.
fn before(course: &Course<'_>, mark: Mark, moment: Timestamp) -> Result<Ending> {
    if mark.at < course.base.end {
        let message = format!(
            "{} lies within the base backup: a transaction ended later, at {}, before the base did, at {}",
            local(moment),
            mark.at,
            course.base.end
        );
        return Err(Error::invalid(message).with_hint("Name an older snapshot."));
    }
    Ok(Ending::target(RecoveryTarget::Time(moment), mark.at))
}

/// Goes to a position: the first record that begins there or behind it is the last that is replayed.
pub(super) async fn at_lsn(course: &Course<'_>, lsn: Lsn) -> Result<Ending> {
    if lsn < course.base.end {
        let message = format!("{lsn} lies before the end of the base, {}", course.base.end);
        return Err(Error::invalid(message).with_hint("Name an older snapshot."));
    }
    let mut walk = Walk::of(course);
    // Where the log ends exactly between two segments, the last one leads there.
    let first = course.place_of(lsn).min(course.segments().saturating_sub(1));
    for place in first..course.segments() {
        walk.step(place, &mut |_| {}).await?;
        if walk.last_record() >= Some(lsn) {
            return Ok(Ending::target(RecoveryTarget::Lsn(lsn), lsn));
        }
        if walk.is_over() {
            break;
        }
    }
    // No record begins there yet, but all before it is stored.
    if walk.end() >= lsn && course.end >= lsn {
        return Ending::end_of(course, &walk);
    }
    let last = course.last_time(course.segments()).await?;
    Err(course.short(&lsn.to_string(), course.end, last.map(|(_, time)| time)))
}

/// Goes to a restore point: the first of its name behind the base.
pub(super) async fn at_name(course: &Course<'_>, name: &str, points: &Points) -> Result<Ending> {
    if name.len() > MAX_NAME_BYTES || name.is_empty() {
        return Err(Error::invalid(format!(
            "{name:?} is no name of a restore point: it has 1 to {MAX_NAME_BYTES} bytes"
        )));
    }
    let mut found = None;
    let mut walk = Walk::of(course);
    for place in 0..course.segments() {
        let mut tell = |mark: Mark| {
            let Some(point) = mark.name else { return };
            points.add(point, mark.time);
            if point.as_bytes() == name.as_bytes() {
                found.get_or_insert(mark);
            }
        };
        walk.step(place, &mut tell).await?;
        if found.is_some() || walk.is_over() {
            break;
        }
    }
    match found {
        Some(mark) if mark.at < course.base.end => Err(Error::invalid(format!(
            "restore point {name:?} lies within the base backup, which ended at {}",
            course.base.end
        ))
        .with_hint("Name an older snapshot.")),
        Some(mark) => Ok(Ending::target(RecoveryTarget::Name(name.to_owned()), mark.at)),
        None => {
            let message = format!(
                "no restore point {name:?} behind {}, where the base ended",
                course.base.end
            );
            Err(Error::new(ErrorKind::NotFound, message).with_hint(points.text()))
        }
    }
}

/// The latest restore points that were come by, for whoever asks for one that is none.
#[derive(Debug, Default)]
pub(super) struct Points(Mutex<Vec<(Timestamp, PointName)>>);

impl Points {
    fn add(&self, name: PointName, time: Timestamp) {
        let mut points = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        points.push((time, name));
        // A log may hold any number of them.
        if points.len() > 2 * NAMES {
            points.sort_by_key(|(time, _)| *time);
            points.drain(..NAMES);
        }
    }

    fn text(&self) -> String {
        let mut points = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        points.sort_by_key(|(time, _)| *time);
        let names: Vec<String> = exact::last(&points, NAMES)
            .iter()
            .map(|(time, name)| format!("\"{name}\" of {}", local(*time)))
            .collect();
        match names.as_slice() {
            [] => "There is none of any name.".to_owned(),
            names => format!("The latest there are: {}.", names.join(", ")),
        }
    }
}
