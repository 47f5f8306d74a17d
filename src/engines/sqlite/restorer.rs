//! Bringing a database file back: where to, how, and what is said of it.

use std::fs::FileType;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::archive::ArchiveReader;
use crate::base::claim::Claim;
use crate::base::error::{ErrorKind, Result};
use crate::base::shown_path;
use crate::base::units::format_bytes;
use crate::engines::beside::last_previous;
use crate::engines::restorer::{kept_text, make_parents, occupied};
use crate::engines::sqlite::plan::{self, SqlitePlan};
use crate::engines::sqlite::restore::{self, SqliteRestoreOptions, SqliteRestoreReport};
use crate::engines::sqlite::{Integrity, KIND, SqliteSpec};
use crate::engines::{RestoreReport, RestoreRequest, Restorer, Settle, SettleReport, TargetPlan, Tools};

/// Brings a database back into a file.
#[derive(Debug)]
pub(super) struct SqliteRestorer {
    path: PathBuf,
    how: SqliteRestoreOptions,
    looks_first: bool,
    dry_run: bool,
    tools: Tools,
}

impl SqliteRestorer {
    pub(super) fn new(request: RestoreRequest) -> Result<Self> {
        let path = match (&request.into, &request.place) {
            (Some(given), _) => {
                let path = given.path().ok_or_else(|| request.cannot_go_into(given))?;
                if request.is_one_of_several || given.is_directory(&path) {
                    // Below a directory it keeps the name that it has at its place, or had where it came from.
                    let known = request.place.as_ref().or(request.called.as_ref());
                    let known = known.and_then(|spec| spec.downcast_ref::<SqliteSpec>());
                    path.join(&request.source).join(file_name(known))
                } else {
                    path
                }
            }
            (None, Some(place)) => place.of_engine::<SqliteSpec>(KIND)?.path.clone(),
            (None, None) => return Err(request.has_no_place()),
        };
        Ok(Self {
            path,
            looks_first: request.looks_first(),
            dry_run: request.options.dry_run,
            how: SqliteRestoreOptions {
                task: request.source,
                replace: request.options.clean,
                ..SqliteRestoreOptions::default()
            },
            tools: request.tools,
        })
    }
}

fn file_name(known: Option<&SqliteSpec>) -> String {
    let name = known.and_then(|known| known.path.file_name());
    name.map_or_else(|| "database.db".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[async_trait(?Send)]
impl Restorer for SqliteRestorer {
    fn target(&self) -> String {
        self.path.display().to_string()
    }

    fn check_target(&self) -> Result<()> {
        if !self.how.replace && self.path.symlink_metadata().is_ok() {
            return Err(occupied(&self.path, "exists"));
        }
        Ok(())
    }

    /// Archived objects are not read for a dry run.
    async fn plan(&mut self, reader: &ArchiveReader) -> Result<Option<Box<dyn TargetPlan>>> {
        if !self.looks_first {
            return Ok(None);
        }
        match plan::plan(reader, &self.path, &self.how).await {
            Err(error) if self.dry_run && error.kind() == ErrorKind::Archived => Ok(None),
            Err(error) => Err(error),
            Ok(plan) => Ok(Some(Box::new(plan))),
        }
    }

    async fn restore(self: Box<Self>, reader: ArchiveReader) -> Result<Box<dyn RestoreReport>> {
        make_parents(&self.path)?;
        let Tools { reporter, cancel, .. } = self.tools;
        let done = restore::restore(reader, &self.path, &self.how, reporter, cancel).await;
        let done = done.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => error.with_hint(
                "Add --clean to replace it (the old file is kept next to it), or choose another \
                                 --into.",
            ),
            _ => error,
        });
        Ok(Box::new(done?))
    }

    async fn settle(self: Box<Self>, how: Settle, _: Option<ArchiveReader>) -> Result<Box<dyn SettleReport>> {
        if how == Settle::Finish {
            return Err(how.is_not_done(KIND.word()));
        }
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let previous = last_previous(&target, FileType::is_file)?;
        let aside = restore::undo(&self.path, &previous, &self.how);
        let aside = self.tools.or_cancelled(aside).await?;
        let kept = aside.exists().then_some(aside);
        Ok(Box::new(SettledFile {
            into: self.path,
            report: UndoneFile { previous, kept },
        }))
    }
}

/// A database whose restore is undone.
#[derive(Debug, serde::Serialize)]
struct SettledFile {
    #[serde(serialize_with = "shown_path::path")]
    into: PathBuf,
    report: UndoneFile,
}

/// A SQLite database that is the old one again.
#[derive(Debug, serde::Serialize)]
struct UndoneFile {
    /// Where that was kept.
    #[serde(serialize_with = "shown_path::path")]
    previous: PathBuf,
    /// Where what the restore had brought is kept.
    #[serde(serialize_with = "shown_path::optional")]
    kept: Option<PathBuf>,
}

impl SettleReport for SettledFile {
    fn text(&self, _: &str, _: Settle) -> String {
        let Self { into, report } = self;
        let mut text = format!("{} is {} again\n", report.previous.display(), into.display());
        if let Some(kept) = &report.kept {
            text.push_str(&format!("  the restored file is kept in {}\n", kept.display()));
        }
        text
    }
}

impl TargetPlan for SqlitePlan {
    fn text(&self) -> String {
        let mut text = format!(
            "  {}; {} of {} free\n",
            if self.replaces {
                "replaces the existing file, which is kept next to it"
            } else {
                "creates a new file"
            },
            format_bytes(self.bytes),
            format_bytes(self.free_bytes),
        );
        match (self.replaces, self.hidden_processes) {
            (true, 0) => text.push_str("  no process has it open\n"),
            (true, hidden) => text.push_str(&format!(
                "  no process was found to have it open; {hidden} processes could not be inspected\n"
            )),
            (false, _) => {}
        }
        text
    }
}

impl RestoreReport for SqliteRestoreReport {
    fn place(&self) -> Option<String> {
        Some(self.path.display().to_string())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn damage(&self) -> Option<&'static str> {
        self.integrity.is_damaged().then_some(
            "the database was damaged when it was stored, and was restored as stored; another snapshot may have a \
             good copy",
        )
    }

    fn text(&self) -> String {
        kept_text(self.previous.as_ref()) + &integrity_text(&self.integrity)
    }

    fn summary(&self) -> String {
        let checked = match (self.integrity.is_damaged(), self.integrity.unchecked.is_empty()) {
            (true, _) => "DAMAGED as it was when it was stored",
            (false, false) => "checked by SQLite as far as it can without its application",
            (false, true) => Claim::CheckedBySqlite.words(),
        };
        format!("{} bytes, {checked}", self.bytes)
    }
}

/// What SQLite says of a database that came back as it was stored.
fn integrity_text(integrity: &Integrity) -> String {
    let mut text = String::new();
    for (lines, words) in [
        (
            &integrity.damaged,
            "it was damaged when it was stored, and was restored as stored",
        ),
        (
            &integrity.violated,
            "rows break a rule of their table, as they did when it was stored",
        ),
        (&integrity.unchecked, "not checked"),
    ] {
        for line in lines {
            text.push_str(&format!("  {words}: {line}\n"));
        }
    }
    if integrity.is_damaged() {
        text.push_str("  use `.recover` of the sqlite3 program to save its rows, or try an older snapshot\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_that_came_back_is_told_with_what_to_do() {
        let mut done = SqliteRestoreReport::default();
        assert!(done.damage().is_none() && done.text().is_empty());
        done.integrity.damaged.push("page 7".to_owned());
        assert!(done.damage().is_some());
        assert_eq!(
            done.text(),
            "  it was damaged when it was stored, and was restored as stored: page 7\n  use `.recover` of the sqlite3 \
             program to save its rows, or try an older snapshot\n"
        );
    }
}
