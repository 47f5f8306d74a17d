//! That a stored log leads somewhere: all that a server would replay from a base to a moment is read.

use jiff::Timestamp;

use super::base::Base;
use super::course::{StoredLog, Walk};
use super::{ending, planned};
use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::postgres::physical::flags::WantedTimeline;
use crate::engines::postgres::physical::recovery::{Recovery, TargetAction};
use crate::engines::postgres::physical::tablespace_text;
use crate::engines::postgres::wal::Lsn;
use crate::operations::Session;
use crate::operations::log::proven::ProvenLog;
use crate::repository::{ManifestSource, Repository};

/// A log that was read, and how a server goes on by it.
#[derive(Debug)]
pub(crate) struct Proven {
    pub(crate) log: ProvenLog,
    /// The recovery to the moment; an error says why a scratch server cannot be given this log.
    pub(crate) recovery: Result<Recovery>,
}

/// Chooses a moment between the first and the last that the log behind a base knows, and reads all before it: digests, and each record by its CRC,
/// one behind the other without a hole. None where no log is stored behind the base, or nothing ended in it.
pub(crate) async fn prove(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
) -> Result<Option<Proven>> {
    let base = Base::of(source)?;
    let Some(log) = StoredLog::open(session, repository, base.system).await? else {
        return Ok(None);
    };
    let course = log.course(&base, WantedTimeline::Latest)?;
    let (Some(first), Some((_, last))) = (course.first_time().await?, course.last_time(course.segments()).await?)
    else {
        return Ok(None);
    };
    let moment = between(first, last);
    let (moment, ending) = match ending::at_moment(&course, moment).await {
        // It lies within the base.
        Err(error) if error.kind() == ErrorKind::Invalid => (last, ending::at_moment(&course, last).await?),
        ending => (moment, ending?),
    };
    let mut walk = Walk::of(&course);
    let places = course.place_of(Lsn(ending.to.0.saturating_sub(1))).saturating_add(1);
    for place in 0..places.min(course.segments()) {
        walk.step(place, &mut |_| {}).await?;
        if walk.is_over() {
            break;
        }
    }
    if walk.end() < ending.to {
        let (end, to) = (walk.end(), ending.to);
        let message = format!(
            "the log of system {} is not valid from {end} on, and a recovery to {to} needs it",
            base.system
        );
        return Err(Error::corrupt(message));
    }
    let recovery = match walk.tablespace() {
        Some(place) => Err(Error::unsupported(tablespace_text(place))),
        None => planned(session, &course, &ending, TargetAction::Promote),
    };
    let log = ProvenLog {
        source: source.name.clone(),
        moment,
        from: base.end.to_string(),
        to: ending.to.to_string(),
        segments: places,
    };
    Ok(Some(Proven { log, recovery }))
}

fn between(first: Timestamp, last: Timestamp) -> Timestamp {
    let (from, to) = (first.as_microsecond(), last.as_microsecond());
    if from > to {
        return last;
    }
    Timestamp::from_microsecond(rand::random_range(from..=to)).unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_between_the_first_and_the_last() {
        let (first, last) = (Timestamp::UNIX_EPOCH, Timestamp::constant(3, 500_000_000));
        for _ in 0..100 {
            let moment = between(first, last);
            assert!(first <= moment && moment <= last, "{moment}");
        }
        assert_eq!(between(last, last), last);
        // A clock that was set back.
        assert_eq!(between(last, first), first);
    }
}
