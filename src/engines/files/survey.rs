//! Looks at what a restore would change, and changes nothing: for `--dry-run`, and before the first write of a restore
//! of several sources.
//!
//! A tree that holds files is compared as the restore itself does it, which reads the backup once; where nothing is yet,
//! the index is enough.

use std::os::fd::OwnedFd;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::interrupted::refuse_interrupted;
use super::journal::JournalWriter;
use super::patterns::Patterns;
use super::restore::{FilesRestoreOptions, facts_of, root_meta};
use super::stage::{Stager, below, no_match};
use super::{TreeFacts, beneath, open_root};
use crate::archive::{ArchiveReader, EntryKind};
use crate::base::blocking::blocking;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::report::SharedReporter;

/// What a restore would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct FilesPlan {
    /// Entries of the backup that are selected, directories among them.
    pub entries: u64,
    /// Files, links and other things that are missing.
    pub new: u64,
    /// Those that are there and differ.
    pub replaced: u64,
    /// Those that would be moved away because the backup does not know them.
    pub deleted: u64,
    /// Those that stay as they are.
    pub unchanged: u64,
    /// Bytes that would be written.
    pub bytes: u64,
    /// Bytes that are free where they go; `None` where the system does not say.
    pub free_bytes: Option<u64>,
}

impl FilesPlan {
    /// Fails if what would be written does not fit.
    pub fn check_space(&self, target: &Path) -> Result<()> {
        match self.free_bytes {
            Some(free) if free < self.bytes => Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "{} are free at \"{}\", but the restore needs {}",
                    crate::base::units::format_bytes(free),
                    target.display(),
                    crate::base::units::format_bytes(self.bytes)
                ),
            )
            .with_hint(
                "Nothing was changed. All files are staged before any is replaced: free space, choose --path, or \
                 restore --into another place.",
            )),
            _ => Ok(()),
        }
    }
}

/// Looks at what [`super::restore::restore`] would do with the same arguments; fails where it would refuse.
pub async fn survey(
    reader: ArchiveReader,
    target: &Path,
    options: &FilesRestoreOptions,
    reporter: SharedReporter,
    cancel: CancellationToken,
) -> Result<FilesPlan> {
    let facts = facts_of(&reader, &options.stream).await?;
    let (place, options) = (target.to_path_buf(), options.clone());
    let runtime = tokio::runtime::Handle::current();
    blocking(move || {
        let mut plan = if holds_something(&place)? {
            if !options.clean {
                refuse_interrupted(&place)?;
            }
            compare(&reader, &facts, &place, &options, &reporter, &cancel, &runtime)?
        } else {
            count(&reader, &options, &runtime)?
        };
        plan.free_bytes = free_bytes(&place);
        Ok(plan)
    })
    .await
    .with_context(|| format!("look at \"{}\"", target.display()))
}

fn holds_something(target: &Path) -> Result<bool> {
    match std::fs::read_dir(target) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn compare(
    reader: &ArchiveReader,
    facts: &TreeFacts,
    target: &Path,
    options: &FilesRestoreOptions,
    reporter: &SharedReporter,
    cancel: &CancellationToken,
    runtime: &tokio::runtime::Handle,
) -> Result<FilesPlan> {
    let root = OwnedFd::from(open_root(target)?);
    reporter.phase(&options.task, "compare");
    let mut stager = Stager::new(&root, &root, JournalWriter::forgetful(), options, reporter)?;
    stager.only_looks = true;
    if options.paths.is_empty() {
        stager.plan_root(&root_meta(facts)?, true)?;
    }
    stager.stage_all(reader, facts, cancel, runtime)?;
    stager.differing.refuse(target)?;
    let report = stager.report;
    Ok(FilesPlan {
        entries: report.entries,
        new: report.written - report.replaced,
        replaced: report.replaced,
        deleted: report.deleted,
        unchanged: report.unchanged,
        bytes: report.bytes,
        free_bytes: None,
    })
}

/// Where nothing is, everything is new.
fn count(reader: &ArchiveReader, options: &FilesRestoreOptions, runtime: &tokio::runtime::Handle) -> Result<FilesPlan> {
    let selection = Patterns::new(&options.paths, &[])?;
    let mut plan = FilesPlan::default();
    runtime.block_on(reader.for_each_entry(&mut |entry| {
        let Some(path) = below(&entry.path, &options.prefix) else {
            return Ok(());
        };
        let is_dir = entry.kind == EntryKind::Directory;
        if selection.selects(beneath::checked(path)?, is_dir) {
            plan.entries += 1;
            plan.new += u64::from(!is_dir);
            plan.bytes += entry.size_bytes;
        }
        Ok(())
    }))?;
    if plan.entries == 0 && !options.paths.is_empty() {
        return Err(no_match());
    }
    Ok(plan)
}

/// Returns what is free on the filesystem of a path, or of the nearest directory above it that exists.
fn free_bytes(target: &Path) -> Option<u64> {
    let target = std::path::absolute(target).ok()?;
    let there = target.ancestors().find(|above| above.is_dir())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
