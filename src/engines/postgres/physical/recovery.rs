//! How a server goes on from a base: through its log, up to a recovery target.
//!
//! Whoever plans a restore knows the log and says what is to be replayed; here it becomes the settings of the server, which does the
//! rest by itself.
//!
//! Settings: <https://www.postgresql.org/docs/current/runtime-config-wal.html#RUNTIME-CONFIG-WAL-RECOVERY-TARGET>

use jiff::Timestamp;

use crate::base::error::{Error, Result};
use crate::base::moment::local;
use crate::base::units::format_bytes;
use crate::engines::postgres::physical::BaseFacts;
use crate::engines::postgres::wal::{Lsn, Timeline};

/// What ends a recovery.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "kebab-case")]
pub enum RecoveryTarget {
    /// The first transaction that ended later. To the microsecond.
    Time(Timestamp),
    /// The first record that begins at this position or behind it, which is still replayed.
    Lsn(Lsn),
    /// The restore point of this name.
    Name(String),
    /// Nothing: all of the log that the server is given.
    End,
}

/// What the server does where its recovery ends: `recovery_target_action`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetAction {
    /// It becomes a primary on a timeline of its own.
    #[default]
    Promote,
    /// It waits and can be read, until `pg_wal_replay_resume()` promotes it.
    Pause,
    /// It stops.
    Shutdown,
}

impl TargetAction {
    /// Returns its word in settings.
    pub fn word(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Pause => "pause",
            Self::Shutdown => "shutdown",
        }
    }
}

/// How a server goes on from a base.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Recovery {
    /// What ends it.
    pub target: RecoveryTarget,
    /// What follows.
    pub action: TargetAction,
    /// The timeline whose line is followed.
    pub timeline: Timeline,
    /// Where the log begins that is replayed.
    pub from: Lsn,
    /// Up to where it is replayed.
    pub to: Lsn,
    /// Segments that hold it.
    pub segments: u64,
    /// Bytes between the two positions.
    pub bytes: u64,
    /// The position behind which the server is given nothing, where no target can be set.
    pub until: Option<Lsn>,
    /// Its `restore_command`, as a shell reads it.
    pub restore_command: String,
    /// Variables without which that may not reach the repository.
    pub needs: Vec<String>,
    /// The base that it was planned for.
    #[serde(skip)]
    pub base: PlannedBase,
}

/// What of a base a recovery was planned by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlannedBase {
    /// Its system identifier.
    pub system: u64,
    /// Where recovery begins.
    pub start: Lsn,
    /// Where it is consistent.
    pub end: Lsn,
}

impl Recovery {
    /// Refuses an archive that holds another base than the manifest said when this was planned.
    pub(super) fn check(&self, facts: &BaseFacts) -> Result<()> {
        let of_archive = PlannedBase {
            system: facts.system_identifier,
            start: facts.start_lsn,
            end: facts.end_lsn,
        };
        if of_archive == self.base {
            return Ok(());
        }
        Err(Error::corrupt(
            "the archive holds another base backup than the snapshot says",
        ))
    }

    /// Returns the lines that follow those of the base in `postgresql.auto.conf`, which the server reads last.
    ///
    /// A server refuses to start with two targets, and one that the base has from an earlier recovery is one. So each is emptied, and ours comes
    /// last: emptying one behind another that is set would be refused as well.
    pub(in crate::engines::postgres::physical) fn settings(&self) -> String {
        let mut lines = vec![
            "# From here on: a recovery that `wirevault restore` has set up. Remove it once it is over.".to_owned(),
            setting("restore_command", &self.restore_command),
        ];
        let target = match &self.target {
            RecoveryTarget::Time(time) => {
                let utc = time.strftime("%Y-%m-%d %H:%M:%S%.6f+00");
                Some(("recovery_target_time", utc.to_string()))
            }
            RecoveryTarget::Lsn(lsn) => Some(("recovery_target_lsn", lsn.to_string())),
            RecoveryTarget::Name(name) => Some(("recovery_target_name", name.clone())),
            RecoveryTarget::End => None,
        };
        let set = target.as_ref().map(|(name, _)| *name);
        let others = TARGETS.iter().filter(|name| Some(**name) != set);
        lines.extend(others.map(|name| setting(name, "")));
        lines.extend(target.as_ref().map(|(name, value)| setting(name, value)));
        lines.push(setting("recovery_target_inclusive", "on"));
        lines.push(setting("recovery_target_timeline", &self.timeline.to_string()));
        lines.push(setting("recovery_target_action", self.action.word()));
        lines.join("\n") + "\n"
    }

    /// Says what is replayed, and up to what.
    pub(crate) fn text(&self) -> String {
        let segments = if self.segments == 1 { "segment" } else { "segments" };
        let to = match &self.target {
            RecoveryTarget::Time(time) => {
                let (time, to) = (local(*time), self.to);
                format!("{time}, before the first transaction that ended later (at {to})")
            }
            RecoveryTarget::Lsn(lsn) => lsn.to_string(),
            RecoveryTarget::Name(name) => format!("restore point \"{name}\" at {}", self.to),
            RecoveryTarget::End => match self.until {
                Some(until) => format!("{until}, where the stored log ends; what is archived later is not replayed"),
                None => format!("the end of the stored log, {} now", self.to),
            },
        };
        let (count, bytes, timeline) = (self.segments, format_bytes(self.bytes), self.timeline);
        format!("  recovers over {count} {segments} of log ({bytes}) on timeline {timeline}, to {to}\n")
    }

    /// Says what the server does once its recovery is over.
    pub(super) fn then(&self) -> &'static str {
        match self.action {
            TargetAction::Promote => "then takes writes, on a new timeline",
            TargetAction::Pause => "then waits, and can be read; SELECT pg_wal_replay_resume() makes it take writes",
            TargetAction::Shutdown => "then stops",
        }
    }
}

/// The settings of which a server takes one.
const TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
];

/// Writes a line of a configuration file. Quotes are doubled; a backslash begins an escape, and a line break stands as one.
fn setting(name: &str, value: &str) -> String {
    let mut quoted = String::new();
    for c in value.chars() {
        match c {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\{:03o}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    format!("{name} = '{quoted}'")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn recovery(target: RecoveryTarget) -> Recovery {
        Recovery {
            target,
            action: TargetAction::Pause,
            timeline: Timeline(3),
            from: Lsn(0x10_0028),
            to: Lsn(0x30_0028),
            segments: 3,
            bytes: 0x20_0000,
            until: None,
            restore_command: "'/opt/our'\\''s' log fetch %f \"%p\"".to_owned(),
            needs: Vec::new(),
            base: PlannedBase {
                system: 7,
                start: Lsn(0x10_0028),
                end: Lsn(0x20_0000),
            },
        }
    }

    #[test]
    fn one_target_is_set_behind_the_others_which_are_emptied() {
        let time = "2026-11-28T14:03:00.25+01:00".parse().unwrap();
        let said = recovery(RecoveryTarget::Time(time)).settings();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines[1],
            r#"restore_command = '''/opt/our''\\''''s'' log fetch %f "%p"'"#
        );
        assert_eq!(lines[2..6].iter().filter(|line| line.ends_with(" = ''")).count(), 4);
        assert_eq!(
            lines[6..],
            [
                "recovery_target_time = '2026-11-28 13:03:00.250000+00'",
                "recovery_target_inclusive = 'on'",
                "recovery_target_timeline = '3'",
                "recovery_target_action = 'pause'",
            ]
        );
        let said = recovery(RecoveryTarget::End).settings();
        assert_eq!(said.lines().filter(|line| line.ends_with(" = ''")).count(), 5);
    }

    #[test]
    fn no_value_leaves_its_quotes() {
        let said = recovery(RecoveryTarget::Name("it's \\ a\nname'; x = 1".to_owned())).settings();
        let line = r"recovery_target_name = 'it''s \\ a\012name''; x = 1'";
        assert!(said.lines().any(|one| one == line), "{said}");
    }

    #[test]
    fn a_recovery_is_of_one_base() {
        let facts = crate::engines::postgres::physical::stored::wal::tests::facts();
        let mut planned = recovery(RecoveryTarget::End);
        planned.base = PlannedBase {
            system: facts.system_identifier,
            start: facts.start_lsn,
            end: facts.end_lsn,
        };
        planned.check(&facts).unwrap();
        planned.base.end = Lsn(1);
        assert!(planned.check(&facts).is_err());
    }
}
