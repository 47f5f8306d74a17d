//! Bringing a tree back: where to, how, and what is said of it.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::archive::ArchiveReader;
use crate::base::claim::Claim;
use crate::base::error::{ErrorKind, Result};
use crate::base::shown_path;
use crate::base::units::format_bytes;
use crate::engines::files::restore::{self, FilesRestoreOptions, FilesRestoreReport, Settled};
use crate::engines::files::survey::{self, FilesPlan};
use crate::engines::files::{FilesSpec, KIND};
use crate::engines::restorer::{kept_text, make_parents, occupied};
use crate::engines::{RestoreReport, RestoreRequest, Restorer, Settle, SettleReport, TargetPlan, Tools};

/// Brings a tree back into a directory.
#[derive(Debug)]
pub(super) struct FilesRestorer {
    root: PathBuf,
    how: FilesRestoreOptions,
    /// Whether the directory was given for this restore, and may not hold something else.
    is_given: bool,
    looks_first: bool,
    dry_run: bool,
    tools: Tools,
}

impl FilesRestorer {
    pub(super) fn new(request: RestoreRequest) -> Result<Self> {
        let mut only = Vec::new();
        let root = match (&request.into, &request.place) {
            // A directory takes every source under its name; one tree alone may go into the directory itself.
            (Some(given), _) => {
                let path = given.path().ok_or_else(|| request.cannot_go_into(given))?;
                if request.is_one_of_several {
                    path.join(&request.source)
                } else {
                    path
                }
            }
            (None, Some(place)) => {
                let files: &FilesSpec = place.of_engine(KIND)?;
                if files.single_file {
                    only.clone_from(&files.include);
                }
                files.root.clone()
            }
            (None, None) => return Err(request.has_no_place()),
        };
        let looks_first = request.looks_first();
        let options = request.options;
        Ok(Self {
            root,
            is_given: request.into.is_some(),
            looks_first,
            dry_run: options.dry_run,
            how: FilesRestoreOptions {
                task: request.source,
                paths: if options.paths.is_empty() { only } else { options.paths },
                clean: options.clean,
                delete: options.delete,
                trust_times: options.trust_times,
                devices: options.devices || request.wants_devices,
                origin: request.snapshot,
                ..FilesRestoreOptions::default()
            },
            tools: request.tools,
        })
    }
}

#[async_trait(?Send)]
impl Restorer for FilesRestorer {
    fn target(&self) -> String {
        self.root.display().to_string()
    }

    fn check_target(&self) -> Result<()> {
        let holds = || std::fs::read_dir(&self.root).is_ok_and(|mut entries| entries.next().is_some());
        if self.is_given && !self.how.clean && holds() {
            return Err(occupied(&self.root, "is not empty"));
        }
        Ok(())
    }

    /// Archived objects are not read for a dry run.
    async fn plan(&mut self, reader: &ArchiveReader) -> Result<Option<Box<dyn TargetPlan>>> {
        if !self.looks_first {
            return Ok(None);
        }
        let (reporter, cancel) = (self.tools.reporter.clone(), self.tools.cancel.clone());
        match survey::survey(reader.clone(), &self.root, &self.how, reporter, cancel).await {
            Err(error) if self.dry_run && error.kind() == ErrorKind::Archived => Ok(None),
            Err(error) => Err(error),
            Ok(plan) => {
                plan.check_space(&self.root)?;
                Ok(Some(Box::new(plan)))
            }
        }
    }

    async fn restore(self: Box<Self>, reader: ArchiveReader) -> Result<Box<dyn RestoreReport>> {
        make_parents(&self.root)?;
        let done = restore::restore(reader, &self.root, &self.how, self.tools.reporter, self.tools.cancel);
        Ok(Box::new(done.await?))
    }

    async fn settle(self: Box<Self>, how: Settle, _: Option<ArchiveReader>) -> Result<Box<dyn SettleReport>> {
        let report = settle(how, self.root.clone(), &self.how.task, &self.tools).await?;
        Ok(Box::new(SettledTree {
            into: self.root,
            report,
        }))
    }
}

/// Finishes or undoes the restore of one tree.
pub(crate) async fn settle(how: Settle, root: PathBuf, task: &str, tools: &Tools) -> Result<Settled> {
    match how {
        Settle::Undo => restore::undo(&root, None).await,
        Settle::Finish => restore::finish(&root, task, tools.reporter.clone()).await,
    }
}

/// A tree whose restore is finished or undone.
#[derive(Debug, serde::Serialize)]
pub(crate) struct SettledTree {
    #[serde(serialize_with = "shown_path::path")]
    pub(crate) into: PathBuf,
    pub(crate) report: Settled,
}

impl SettleReport for SettledTree {
    fn text(&self, source: &str, how: Settle) -> String {
        let of = match self.report.origin.as_str() {
            "" => String::new(),
            origin => format!(" of snapshot {origin}"),
        };
        let (did, kept) = match how {
            Settle::Undo => ("is undone", "the replaced data is kept in"),
            Settle::Finish => ("is finished", "the previous data is kept in"),
        };
        let mut text = format!("{source}: the restore{of} into {} {did}\n", self.into.display());
        if let Some(path) = &self.report.kept {
            text.push_str(&format!("  {kept} {}\n", path.display()));
        }
        text
    }
}

impl TargetPlan for FilesPlan {
    fn bytes(&self) -> Option<u64> {
        Some(self.bytes)
    }

    fn text(&self) -> String {
        let free = self
            .free_bytes
            .map_or_else(String::new, |free| format!(" of {} free", format_bytes(free)));
        format!(
            "  {} new, {} replaced, {} deleted, {} unchanged; {}{free} to write\n",
            self.new,
            self.replaced,
            self.deleted,
            self.unchanged,
            format_bytes(self.bytes),
        )
    }
}

impl RestoreReport for FilesRestoreReport {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn failures(&self) -> Vec<String> {
        lost(self.lost)
    }

    fn text(&self) -> String {
        kept_text(self.previous.as_ref())
    }

    fn summary(&self) -> String {
        let proof = Claim::EveryDigestChecked.words();
        format!("{} written, {} unchanged, {proof}", self.written, self.unchanged)
    }
}

/// Says that what came back is not all that was there.
pub(crate) fn lost(entries: u64) -> Vec<String> {
    let line = "some owners, modes, attributes or device nodes could not be restored; see the notes for the first of \
                each kind";
    (entries > 0).then(|| line.to_owned()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::Document;
    use serde_json::json;

    #[test]
    fn a_settled_tree_says_which_way_it_went_and_what_is_kept_where() {
        let tree = SettledTree {
            into: PathBuf::from("/etc/app"),
            report: Settled {
                origin: "S1".to_owned(),
                kept: Some(PathBuf::from("/etc/app.kept")),
            },
        };
        let expected = json!({ "into": "/etc/app", "report": { "origin": "S1", "kept": "/etc/app.kept" } });
        assert_eq!(tree.document(), expected);
        let finished = "etc: the restore of snapshot S1 into /etc/app is finished\n  the previous data is kept in \
                        /etc/app.kept\n";
        assert_eq!(tree.text("etc", Settle::Finish), finished);
        assert!(
            tree.text("etc", Settle::Undo)
                .contains("the replaced data is kept in /etc/app.kept")
        );
    }
}
