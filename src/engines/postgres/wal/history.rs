//! Timeline history files: out of which timeline each one came, and where.
//!
//! A line for each ancestor, oldest first: its number, a tab, the position at which it was left, a tab, why.

use super::lsn::{Lsn, Timeline};
use crate::base::error::{Error, Result};

/// A history file is not read beyond this, in bytes: a line is some sixty.
pub const MAX_HISTORY_BYTES: u64 = 1 << 20;

/// Where a timeline came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineHistory {
    /// The ancestors with the position at which each was left, oldest first. Numbers and positions ascend.
    pub ancestors: Vec<(Timeline, Lsn)>,
}

impl TimelineHistory {
    /// Reads the file of a timeline.
    pub fn parse(timeline: Timeline, bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::corrupt("the history file is no text"))?;
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
            let follows = ancestors
                .last()
                .is_none_or(|(before, at)| *before < Timeline(number) && *at <= left);
            if number == 0 || !follows || Timeline(number) >= timeline {
                return Err(wrong());
            }
            ancestors.push((Timeline(number), left));
        }
        if ancestors.is_empty() {
            return Err(Error::corrupt("the history file names no ancestor"));
        }
        Ok(Self { ancestors })
    }

    /// Returns the timeline that this one continues, and the position from which it does.
    pub fn parent(&self) -> Option<(Timeline, Lsn)> {
        self.ancestors.last().copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_line_is_the_parent() {
        let text = "1\t0/3000000\tno recovery target specified\n\n# note\n2\t0/5000148\tat restore point \"x\"\n";
        let history = TimelineHistory::parse(Timeline(3), text.as_bytes()).unwrap();
        assert_eq!(history.ancestors.len(), 2);
        assert_eq!(history.parent(), Some((Timeline(2), Lsn(0x500_0148))));
    }

    #[test]
    fn what_does_not_ascend_is_refused() {
        for wrong in [
            "",
            "# nothing\n",
            "x\t0/1\ty\n",
            "1\n",
            "0\t0/1\tx\n",
            "3\t0/1\tx\n",
            "1\t0/2\tx\n2\t0/1\tx\n",
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
