//! What is said of a base that would come back, came back, or was put away again.

use std::path::PathBuf;

use crate::base::shown_path;
use crate::base::units::format_bytes;
use crate::engines::postgres::physical::recovery::Recovery;
use crate::engines::postgres::physical::stored::TABLESPACE_MAP;
use crate::engines::postgres::wal::Lsn;
use crate::engines::restorer::kept_text;
use crate::engines::{RestoreReport, Settle, SettleReport, TargetPlan};

/// A tablespace and its new place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct MovedTablespace {
    /// Its OID.
    pub(crate) oid: u32,
    /// Where it was, by the word of the server.
    pub(crate) was: String,
    /// Where it goes.
    #[serde(serialize_with = "shown_path::path")]
    pub(crate) into: PathBuf,
}

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct BasePlan {
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Files.
    pub(crate) files: u64,
    /// Bytes that are free where the data directory goes.
    pub(crate) free_bytes: u64,
    /// Whether a data directory is there, which would be kept beside.
    pub(crate) replaces: bool,
    /// The version that the server must have.
    pub(crate) major: u32,
    /// Tablespaces.
    pub(crate) tablespaces: Vec<MovedTablespace>,
    /// How the server would go on behind the end of the base.
    pub(crate) recovery: Option<Recovery>,
}

impl TargetPlan for BasePlan {
    fn bytes(&self) -> Option<u64> {
        Some(self.bytes)
    }

    fn text(&self) -> String {
        let place = if self.replaces {
            "replaces the directory there, which is kept beside"
        } else {
            "nothing is there"
        };
        let mut text = format!(
            "  {place}; needs {}, {} free; needs PostgreSQL {}\n",
            format_bytes(self.bytes),
            format_bytes(self.free_bytes),
            self.major
        );
        text.push_str(&tablespaces_text(&self.tablespaces, "goes into"));
        text.extend(self.recovery.as_ref().map(Recovery::text));
        text
    }
}

fn tablespaces_text(tablespaces: &[MovedTablespace], verb: &str) -> String {
    let line = |one: &MovedTablespace| {
        let (oid, was, into) = (one.oid, &one.was, one.into.display());
        format!("  tablespace {oid}, which was at {was}, {verb} {into}\n")
    };
    tablespaces.iter().map(line).collect()
}

/// A base that came back.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct BaseRestored {
    /// The data directory.
    #[serde(default, rename = "data_directory", serialize_with = "shown_path::path")]
    pub(crate) directory: PathBuf,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Files.
    pub(crate) files: u64,
    /// Where the data directory is kept that was there before.
    #[serde(serialize_with = "shown_path::optional")]
    pub(crate) previous: Option<PathBuf>,
    /// The server that was backed up.
    pub(crate) server_version: String,
    /// The version that the server must have.
    pub(crate) major: u32,
    /// Where recovery begins.
    pub(crate) start_lsn: Lsn,
    /// Where it comes to, at least.
    pub(crate) end_lsn: Lsn,
    /// On which timeline.
    pub(crate) timeline: u32,
    /// Tablespaces.
    pub(crate) tablespaces: Vec<MovedTablespace>,
    /// Files of the base that were left out.
    pub(crate) left_out: Vec<String>,
    /// Whether the server's configuration is in it.
    pub(crate) has_configuration: bool,
    /// Files with pages that were damaged when the base was taken.
    pub(crate) damaged_files: u64,
    /// How the server goes on behind the end of the base.
    pub(crate) recovery: Option<Recovery>,
}

impl RestoreReport for BaseRestored {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn place(&self) -> Option<String> {
        Some(self.directory.display().to_string())
    }

    fn damage(&self) -> Option<&'static str> {
        (self.damaged_files > 0).then_some(
            "pages were damaged when the base was taken, and came back as they were; an older base may hold them whole",
        )
    }

    fn text(&self) -> String {
        let directory = self.directory.display();
        let mut text = kept_text(self.previous.as_ref());
        text.push_str(&tablespaces_text(&self.tablespaces, "is in"));
        if self.damaged_files > 0 {
            let (count, files) = (
                self.damaged_files,
                if self.damaged_files == 1 { "file" } else { "files" },
            );
            text.push_str(&format!(
                "  {count} {files} had damaged pages when the base was taken, and came back so\n"
            ));
        }
        for name in &self.left_out {
            let why = if name.as_bytes() == TABLESPACE_MAP {
                ": the links in pg_tblspc replace it"
            } else {
                ", so that the server starts as a primary"
            };
            text.push_str(&format!("  {name} was left out{why}\n"));
        }
        if !self.has_configuration {
            text.push_str(
                "  no postgresql.conf is in it, for the server kept it elsewhere: name one with -c config_file=…\n",
            );
        }
        if let Some(recovery) = &self.recovery {
            text.push_str(&recovery.text());
            if !recovery.needs.is_empty() {
                let names = recovery.needs.join(", ");
                text.push_str(&format!(
                    "  restore_command needs {names} in the server's environment\n"
                ));
            }
            text.push_str(&format!(
                "  start a server of PostgreSQL {}: pg_ctl -D {directory} -o '-c archive_mode=off' start\n  it recovers from {}, {}\n",
                self.major,
                self.start_lsn,
                recovery.then()
            ));
            return text;
        }
        text.push_str(&format!(
            "  start a server of PostgreSQL {}: pg_ctl -D {directory} start\n  it recovers from {} to {} on timeline {}, by the WAL in \
             pg_wal\n",
            self.major, self.start_lsn, self.end_lsn, self.timeline
        ));
        text
    }
}

/// A data directory that is the old one again.
#[derive(Debug, serde::Serialize)]
pub(crate) struct BaseUndone {
    /// The data directory.
    #[serde(serialize_with = "shown_path::path")]
    pub(crate) into: PathBuf,
    /// Where it was kept.
    #[serde(serialize_with = "shown_path::path")]
    pub(crate) previous: PathBuf,
    /// Where what the restore had brought is kept.
    #[serde(serialize_with = "shown_path::optional")]
    pub(crate) kept: Option<PathBuf>,
}

impl SettleReport for BaseUndone {
    fn text(&self, _: &str, _: Settle) -> String {
        let mut text = format!("{} is {} again\n", self.previous.display(), self.into.display());
        if let Some(kept) = &self.kept {
            text.push_str(&format!(
                "  what the restore had brought is kept in {}\n",
                kept.display()
            ));
        }
        text
    }
}
