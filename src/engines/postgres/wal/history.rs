//! Timeline history files: out of which timeline each one came, and where.
//!
//! A line for each ancestor, oldest first: its number, a tab, the position at which it was left, a tab, why. The reason may name a
//! restore point, in whatever encoding the server's databases have.

use super::lsn::{Lsn, Timeline};
use crate::base::error::{Error, Result};

/// A history file is not read beyond this, in bytes: a line is some sixty.
pub const MAX_HISTORY_BYTES: u64 = 1 << 20;

/// Where a timeline came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineHistory {
    /// The timeline whose file it is.
    pub timeline: Timeline,
    /// The ancestors with the position at which each was left, oldest first. Numbers ascend. Positions need not: whoever recovers
    /// for a second time, to an earlier moment, leaves a later timeline at an earlier position.
    pub ancestors: Vec<(Timeline, Lsn)>,
}

impl TimelineHistory {
    /// Reads the file of a timeline.
    pub fn parse(timeline: Timeline, bytes: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut ancestors: Vec<(Timeline, Lsn)> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || Error::corrupt(format!("line {} of the history file is no ancestor", at + 1));
            let mut words = line.split_ascii_whitespace();
            let number = words.next().and_then(|word| word.parse().ok()).ok_or_else(wrong)?;
            let left: Lsn = words.next().and_then(|word| word.parse().ok()).ok_or_else(wrong)?;
            let follows = ancestors.last().is_none_or(|(before, _)| *before < Timeline(number));
            if number == 0 || !follows || Timeline(number) >= timeline {
                return Err(wrong());
            }
            ancestors.push((Timeline(number), left));
        }
        if ancestors.is_empty() {
            return Err(Error::corrupt("the history file names no ancestor"));
        }
        Ok(Self { timeline, ancestors })
    }

    /// Returns each fork on the way to this timeline, oldest first: the timeline that began there, the one that it continues, and
    /// the position from which it does.
    pub fn forks(&self) -> impl Iterator<Item = (Timeline, Timeline, Lsn)> {
        let began = self.ancestors.iter().skip(1).map(|(timeline, _)| *timeline);
        let left = self.ancestors.iter().copied();
        left.zip(began.chain([self.timeline]))
            .map(|((parent, at), timeline)| (timeline, parent, at))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_line_is_a_fork() {
        let text = "1\t0/3000000\tno recovery target specified\n\n# note\n2\t0/5000148\tat restore point \"x\"\n";
        let history = TimelineHistory::parse(Timeline(3), text.as_bytes()).unwrap();
        let forks: Vec<_> = history.forks().collect();
        assert_eq!(
            forks,
            [
                (Timeline(2), Timeline(1), Lsn(0x300_0000)),
                (Timeline(3), Timeline(2), Lsn(0x500_0148))
            ]
        );
    }

    #[test]
    fn what_a_server_writes_is_taken() {
        // A second recovery, to an earlier moment.
        let twice = TimelineHistory::parse(Timeline(3), b"1\t0/5000000\tx\n2\t0/3000000\tx\n").unwrap();
        assert_eq!(
            twice.ancestors,
            [(Timeline(1), Lsn(0x500_0000)), (Timeline(2), Lsn(0x300_0000))]
        );
        // A restore point that is named in LATIN1.
        let text = b"1\t0/3000000\tat restore point \"\xfcbung\"\n";
        let history = TimelineHistory::parse(Timeline(2), text).unwrap();
        assert_eq!(history.ancestors, [(Timeline(1), Lsn(0x300_0000))]);
    }

    #[test]
    fn numbers_that_do_not_ascend_are_refused() {
        for wrong in [
            "",
            "# nothing\n",
            "x\t0/1\ty\n",
            "1\n",
            "0\t0/1\tx\n",
            "3\t0/1\tx\n",
            "2\t0/1\tx\n1\t0/2\tx\n",
            "1\t0/2\tx\n1\t0/3\tx\n",
        ] {
            assert!(
                TimelineHistory::parse(Timeline(3), wrong.as_bytes()).is_err(),
                "{wrong:?}"
            );
        }
        assert!(TimelineHistory::parse(Timeline(2), &[0xff]).is_err());
    }
}
