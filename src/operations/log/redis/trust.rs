//! Whether a snapshot is of what is stored at its offset.
//!
//! Replication ID and offset say where a snapshot lies, but not of which server: one that went back to an older state, and a copy of a
//! server, go on with the same replication ID, and write other commands at the same offsets. What a log notes of it, and times, tell them
//! apart. A snapshot that is doubted begins a restore only where it is named: whoever names it may know better.

use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::redis::log::marks::Mark;
use crate::operations::log::redis::bases::Base;
use crate::operations::log::redis::extent::{Extent, is_another_course};
use crate::operations::log::redis::windows::Window;
use crate::operations::show::local_time;
use crate::repository::CLOCK_TOLERANCE;

/// Windows that are looked at for one that begins where a server went back.
const WINDOWS: usize = 16;

/// Why a snapshot may not be of what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It was taken after the stored stream had come further.
    Late(Mark),
    /// The server went back to an older state before it wrote what is stored from this offset on, and the snapshot may be of before or after.
    WentBack(u64),
}

impl Doubt {
    /// Says it of a snapshot.
    pub(super) fn error(self, base: &Base) -> Error {
        let (id, taken, place) = (&base.id, local_time(base.at), &base.position);
        let why = match self {
            Self::Late(mark) => format!(
                "it was taken at {taken}, at offset {}, and the log had come to {} by {}: the server went back to an older state, or it is of a copy of it, or a clock is wrong",
                place.offset,
                mark.offset,
                local_time(mark.at)
            ),
            Self::WentBack(offset) => format!(
                "the server went back to an older state, and wrote other commands from before offset {offset} on; this one may be of either"
            ),
        };
        Error::new(
            ErrorKind::NotFound,
            format!("snapshot {id} may not be of the log at {place}: {why}"),
        )
        .with_hint("Name the snapshot if you know that it is, or choose a moment after another one.")
    }
}

/// The course of one history, as far as it tells something of snapshots.
#[derive(Debug)]
pub(super) struct Course {
    windows: Vec<Window>,
}

impl Course {
    /// Looks at what is stored of a history.
    pub(super) async fn of(extent: &Extent<'_>) -> Result<Self> {
        Ok(Self::from(extent.windows(WINDOWS).await?.as_slice()))
    }

    /// Returns why a snapshot at an offset of this history is doubted.
    pub(super) async fn doubt(&self, extent: &Extent<'_>, base: &Base) -> Result<Option<Doubt>> {
        let late = late(extent, base).await?;
        Ok(late.or_else(|| self.went_back(base)))
    }

    /// A snapshot that was taken before what came last before a server went back is of before.
    fn went_back(&self, base: &Base) -> Option<Doubt> {
        let offset = base.position.offset;
        let is_doubtful = |(number, window): &(usize, &Window)| {
            let before = self.windows.get(number.saturating_add(1));
            let last = before.and_then(|before| before.last);
            let is_of_before = last.is_some_and(|last| last.duration_since(base.at) >= CLOCK_TOLERANCE);
            is_another_course(window.gap.as_ref()) && offset < window.from && !is_of_before
        };
        let found = self.windows.iter().enumerate().find(is_doubtful);
        found.map(|(_, window)| Doubt::WentBack(window.from))
    }
}

impl From<&[Window]> for Course {
    fn from(windows: &[Window]) -> Self {
        Self {
            windows: windows.to_vec(),
        }
    }
}

/// Returns the mark that says that a snapshot is not of what is stored: its server was further before it was taken. Clocks may differ.
pub(super) async fn late(extent: &Extent<'_>, base: &Base) -> Result<Option<Doubt>> {
    let mark = extent.first_mark_behind(base.position.offset).await?;
    let mark = mark.filter(|mark| base.at.duration_since(mark.at) > CLOCK_TOLERANCE);
    Ok(mark.map(Doubt::Late))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::engines::redis::log::described::{Gap, GapCause};
    use crate::engines::redis::log::position::Position;

    #[test]
    fn before_a_server_went_back_only_what_is_old_enough_is_beyond_doubt() {
        let id = "a".repeat(40);
        let at = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let window = |from, to, hours, why: Option<GapCause>| Window {
            from,
            to,
            gap: why.map(|why| Gap {
                from: format!("{id}:90").parse().unwrap(),
                why,
            }),
            first: None,
            last: Some(at(hours)),
        };
        let doubt = |windows: &[Window], offset, hours| {
            let base = Base {
                id: crate::repository::SnapshotId::new(Timestamp::UNIX_EPOCH, "job", 1),
                source: "redis".to_owned(),
                position: Position {
                    id: id.parse().unwrap(),
                    offset,
                },
                at: at(hours),
                window: None,
            };
            Course::from(windows).went_back(&base)
        };
        let back = Some(GapCause::RolledBack);
        let windows = [
            window(100, 200, 20, back),
            window(10, 90, 10, Some(GapCause::Backlog)),
            window(0, 5, 1, None),
        ];
        assert_eq!(doubt(&windows, 50, 9), None);
        assert_eq!(doubt(&windows, 50, 10), Some(Doubt::WentBack(100)));
        assert_eq!(doubt(&windows, 50, 15), Some(Doubt::WentBack(100)));
        assert_eq!(doubt(&windows, 100, 15), None);
        let [.., before, oldest] = windows;
        assert_eq!(doubt(&[before, oldest], 3, 15), None);
        assert_eq!(doubt(&[window(100, 200, 20, back)], 50, 1), Some(Doubt::WentBack(100)));
    }
}
