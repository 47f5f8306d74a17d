//! Puts a database back: beside, checked, then in place of the old one, which is kept.
//!
//! Until the last step the live database is untouched; how it is exchanged stands in [`super::swap`].

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::registry::{self, companion};
use super::swap::{parent, swap};
use super::{DatabaseFacts, Integrity, STREAM, check_file};
use crate::archive::reader::Selection;
use crate::archive::{ArchiveReader, EntryEvent};
use crate::base::blocking::blocking;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::{Note, SharedReporter};
use crate::base::shown_path;

pub use super::swap::undo;

/// Options of a restore.
#[derive(Debug, Clone)]
pub struct SqliteRestoreOptions {
    /// Task name towards the reporter.
    pub task: String,
    /// Whether an existing database may be replaced; it is kept beside.
    pub replace: bool,
    /// Runs `integrity_check` instead of `quick_check`.
    pub full_check: bool,
    /// How long to wait for others to leave the old database.
    pub busy_timeout: Duration,
}

impl Default for SqliteRestoreOptions {
    fn default() -> Self {
        Self {
            task: STREAM.to_owned(),
            replace: false,
            full_check: false,
            busy_timeout: Duration::from_secs(10),
        }
    }
}

/// What a restore did. A field that an earlier release did not write is as of a restore that had nothing of the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SqliteRestoreReport {
    /// The database.
    #[serde(skip)]
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Where the old database is kept, if there was one; pass it to [`undo`].
    #[serde(serialize_with = "shown_path::optional")]
    pub previous: Option<PathBuf>,
    /// What SQLite says of it. The bytes are those that were stored, whatever it says.
    pub integrity: Integrity,
}

/// A file that is removed unless it is kept.
#[derive(Debug)]
struct Beside(Option<PathBuf>);

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            for suffix in registry::SUFFIXES {
                let _ = std::fs::remove_file(companion(path, suffix));
            }
        }
    }
}

/// Restores the database of a source to the file `target`.
pub async fn restore(
    reader: ArchiveReader,
    target: &Path,
    options: &SqliteRestoreOptions,
    reporter: SharedReporter,
    cancel: CancellationToken,
) -> Result<SqliteRestoreReport> {
    let facts = facts_of(&reader).await?;
    let (target, options) = (target.to_path_buf(), options.clone());
    let runtime = tokio::runtime::Handle::current();
    let act = format!("restore \"{}\"", target.display());
    blocking(move || {
        // SQLite's companions stand beside the file itself, not beside a link to it.
        let target = std::fs::canonicalize(&target).unwrap_or(target);
        if !options.replace && target.symlink_metadata().is_ok() {
            return Err(
                Error::new(ErrorKind::AlreadyExists, format!("\"{}\" exists", target.display())).with_hint(
                    "Restore into another file, or allow the old one to be replaced; it is kept next to \
                                it.",
                ),
            );
        }
        let temporary = companion(&target, ".restore.tmp");
        let bytes = facts.page_size.saturating_mul(facts.page_count);
        check_space(parent(&target), bytes)?;
        let file = claim(&temporary)?;
        let mut beside = Beside(Some(temporary.clone()));
        runtime.block_on(receive(&reader, &facts, &file, &options, &reporter, &cancel))?;
        if file.metadata()?.len() != bytes {
            return Err(Error::corrupt(format!(
                "the stored database has {} bytes instead of {bytes}",
                file.metadata()?.len()
            )));
        }
        file.sync_all().context("write the database to disk")?;
        reporter.phase(&options.task, "check");
        let integrity = check_file(&temporary, options.full_check)
            .context("check the restored database; the live one was not touched")?;
        for note in integrity.notes(&target.display().to_string()) {
            reporter.note(&options.task, note);
        }
        dress(&temporary, &target, &facts, &options, &reporter)?;
        let previous = swap(&temporary, &target, &options, &reporter)?;
        beside.0 = None;
        // Until here no other restore takes the temporary file for a leaving.
        drop(file);
        Ok(SqliteRestoreReport {
            path: target,
            bytes,
            previous,
            integrity,
        })
    })
    .await
    .context(act)
}

/// Makes the temporary file, or takes over what a killed restore left.
fn claim(path: &Path) -> Result<File> {
    let act = || format!("create \"{}\"", path.display());
    for _ in 0..10 {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .with_context(act)?;
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            == Err(rustix::io::Errno::WOULDBLOCK)
        {
            return Err(Error::new(
                ErrorKind::PreconditionFailed,
                "another restore of this database is running",
            )
            .with_hint("Wait for it to end. Nothing was changed."));
        }
        // Whoever held the lock may have ended meanwhile: then this file is the live database, or is gone.
        let own = file.metadata()?;
        let same = path
            .symlink_metadata()
            .is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()));
        if same {
            for suffix in registry::SUFFIXES.into_iter().filter(|s| !s.is_empty()) {
                let _ = std::fs::remove_file(companion(path, suffix));
            }
            rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o600)).map_err(std::io::Error::from)?;
            file.set_len(0).with_context(act)?;
            return Ok(file);
        }
    }
    Err(Error::new(
        ErrorKind::PreconditionFailed,
        "other restores of this database are running",
    ))
}

/// Returns the facts of the database in an archive.
pub async fn facts_of(reader: &ArchiveReader) -> Result<DatabaseFacts> {
    let record = reader.streams().await?.into_iter().find(|r| r.stream == STREAM);
    let record = record.ok_or_else(|| Error::corrupt("the archive holds no SQLite database"))?;
    serde_json::from_value(record.facts).map_err(|e| Error::corrupt("the database's facts do not parse").with_cause(e))
}

/// How every SQLite database begins.
///
/// Format: <https://www.sqlite.org/fileformat2.html#the_database_header>
const MAGIC: &[u8] = super::open::MAGIC;

/// Reads what SQLite must find before it opens a database: its length, its header and the page size there.
pub async fn judge(reader: &ArchiveReader) -> Result<()> {
    let facts = facts_of(reader).await?;
    let found = reader.find(facts.member.as_bytes()).await?;
    let found = found.ok_or_else(|| Error::corrupt("the archive lacks the database"))?;
    let bytes = facts.page_size.saturating_mul(facts.page_count);
    if found.size_bytes != bytes {
        let stored = found.size_bytes;
        return Err(Error::corrupt(format!(
            "the stored database has {stored} bytes instead of {bytes}"
        )));
    }
    if bytes == 0 {
        return Ok(());
    }
    let mut head = Vec::with_capacity(18);
    let mut entries = reader.entries(Selection::Entries(vec![found]));
    while let Some(event) = entries.next().await? {
        if let EntryEvent::Data(data) = event {
            head.extend_from_slice(exact::first(&data, 18 - head.len()));
        }
        if head.len() == 18 {
            break;
        }
    }
    judge_header(&head, facts.page_size)
}

/// Compares the first bytes of a database with the page size that the backup noted.
fn judge_header(head: &[u8], noted: u64) -> Result<()> {
    let page_size = match exact::range(head, 16..18, "the header of the stored database")? {
        [0, 1] => 65_536,
        bytes => bytes.iter().fold(0, |size, byte| size << 8 | u64::from(*byte)),
    };
    if !head.starts_with(MAGIC) || page_size != noted {
        return Err(Error::corrupt(
            "the stored file does not begin as its SQLite database did",
        ));
    }
    Ok(())
}

async fn receive(
    reader: &ArchiveReader,
    facts: &DatabaseFacts,
    file: &File,
    options: &SqliteRestoreOptions,
    reporter: &SharedReporter,
    cancel: &CancellationToken,
) -> Result<()> {
    let found = reader
        .find(facts.member.as_bytes())
        .await?
        .ok_or_else(|| Error::corrupt("the archive lacks the database"))?;
    let mut entries = reader.entries(Selection::Entries(vec![found]));
    let mut out = file;
    while let Some(event) = entries.next().await? {
        if cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
        }
        if let EntryEvent::Data(data) = event {
            out.write_all(&data).context("write the database")?;
            reporter.advance(&options.task, exact::u64_from(data.len()), 0);
        }
    }
    Ok(())
}

/// Returns the bytes that are free in a directory, if they are enough.
pub(super) fn check_space(directory: &Path, bytes: u64) -> Result<u64> {
    let space = rustix::fs::statvfs(directory)
        .map_err(|e| Error::from(std::io::Error::from(e)))
        .with_context(|| format!("look at \"{}\"", directory.display()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < bytes {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "the database needs {} MiB in addition to the old one, but {} MiB are free",
                bytes >> 20,
                free >> 20
            ),
        )
        .with_hint("Free space, or restore into a file elsewhere."));
    }
    Ok(free)
}

/// Gives the new file journal mode, owner and mode: those of the old file, or else those of the backup.
fn dress(
    new: &Path,
    old: &Path,
    facts: &DatabaseFacts,
    options: &SqliteRestoreOptions,
    reporter: &SharedReporter,
) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(new)?;
    if facts.journal_mode == "wal" && facts.page_count > 0 {
        file.write_all_at(&[2, 2], 18)?;
    }
    let (uid, gid, mode) = match std::fs::metadata(old) {
        Ok(meta) => (meta.uid(), meta.gid(), meta.mode() & 0o777),
        Err(_) => (facts.uid, facts.gid, facts.mode & 0o777),
    };
    if let Err(cause) = std::os::unix::fs::fchown(&file, Some(uid), Some(gid)) {
        reporter.note(
            &options.task,
            Note::new(
                "owner-not-set",
                old.display().to_string(),
                format!("owner {uid}:{gid} could not be set: {cause}"),
            ),
        );
    }
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(mode)).map_err(std::io::Error::from)?;
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_header_that_is_cut_is_not_one_of_another_page_size() {
        let mut head = [MAGIC, &[16, 0]].concat();
        judge_header(&head, 4096).unwrap();
        for noted in [0, 1, 512, 65_536] {
            let error = judge_header(&head, noted).unwrap_err();
            assert!(error.message().contains("does not begin as"), "{error}");
        }
        assert!(judge_header(&[MAGIC, &[0, 1]].concat(), 65_536).is_ok());
        head.pop();
        for noted in [0, 4096] {
            let error = judge_header(&head, noted).unwrap_err();
            assert_eq!(error.kind(), crate::base::error::ErrorKind::Corrupt);
            assert_eq!(
                error.message(),
                "the header of the stored database has 17 bytes, not the range 16..18"
            );
        }
    }
}
