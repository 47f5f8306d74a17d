//! `log fetch`: brings one file of the log back, for `restore_command`.
//!
//! The server goes by the exit code alone. From 1 to 125 means that the log ends here, and a recovery is over; beyond that it
//! stops and can be started again. So only what the repository was asked for and does not have is 1. A store that does not answer, a
//! damaged object, a slip in the command line are [`STOPS`]. A standby asks again by itself, whatever the reason, and streams
//! meanwhile, so there nothing stops the server.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::archive::log::LogReader;
use crate::base::error::{Context, Error, ErrorKind, Result, if_there};
use crate::base::exact;
use crate::engines::postgres::wal::{
    FileName, HEADER_BYTES, Lsn, SegmentHeader, SegmentName, SegmentReader, SegmentSize, goes_on,
};
use crate::operations::log::parts::{join, parts_of};
use crate::operations::log::{data_directory, key_of, system_at};
use crate::operations::snapshots::open_repository;
use crate::operations::{Report, Session, Status, document_of, options};
use crate::repository::Repository;
use crate::storage::ObjectKey;

/// The exit code after which the server does not go on as if the log had ended. It is no number of a signal.
pub const STOPS: u8 = 200;

/// The exit code of a process that SIGTERM ended: by that the server knows that it is itself being shut down.
pub const ENDED: u8 = 143;

/// What `log fetch` did. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct FetchReport {
    /// Name of the file.
    pub file: String,
    /// The system whose log it is.
    pub system: String,
    /// Whether the repository has it; if not, nothing was written.
    pub found: bool,
    /// Bytes of the file.
    pub raw_bytes: Option<u64>,
}

impl Report for FetchReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    /// A server asks for what is not there all the time: that is nothing to tell.
    fn text(&self) -> String {
        String::new()
    }

    fn status(&self) -> Status {
        if self.found { Status::Done } else { Status::Failed }
    }
}

/// Returns the exit code of a failure. `path` is where the file was to be written, as far as that is known.
pub fn exit_code(error: &Error, path: &Path) -> u8 {
    let follows = data_directory(path).is_some_and(|directory| directory.join("standby.signal").exists());
    match error.kind() {
        ErrorKind::Cancelled => ENDED,
        _ if follows => Status::Failed.exit_code(),
        _ => STOPS,
    }
}

/// Writes beside the place where the server expects the file, and renames only what has its digest.
pub async fn run(session: &Session, options: &options::LogFetch) -> Result<FetchReport> {
    let act = || format!("fetch {:?}", options.file);
    let name: FileName = options.file.parse().with_context(act)?;
    fetch(session, options, &name).await.with_context(act)
}

async fn fetch(session: &Session, options: &options::LogFetch, name: &FileName) -> Result<FetchReport> {
    let repository = open_repository(session).await?;
    let system = system_of(session, options, &repository).await?;
    let wanted = Wanted {
        repository: &repository,
        key: key_of(system, name)?,
        name,
        system,
        path: &options.path,
        until: options.until,
    };
    let mut report = FetchReport {
        file: name.to_string(),
        system: system.to_string(),
        found: false,
        raw_bytes: None,
    };
    let mut again = true;
    loop {
        match session.or_cancelled(wanted.bring()).await {
            // The bytes may have changed on their way; or a receiver has made a whole of the parts meanwhile, and removed them.
            Err(error) if again && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => again = false,
            // Not the kind by which the file is known not to be there.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(
                    Error::new(ErrorKind::Unavailable, "its parts went away while they were read").with_cause(error),
                );
            }
            Err(error) => return Err(error),
            Ok(Some(raw_bytes)) => {
                report.found = true;
                report.raw_bytes = Some(raw_bytes);
                return Ok(report);
            }
            // A receiver may have made a whole of the parts between the two questions.
            Ok(None) if again && matches!(name, FileName::Segment(_)) => again = false,
            Ok(None) => {
                session.or_cancelled(has_log(&repository, system)).await?;
                return Ok(report);
            }
        }
    }
}

/// Decides whose log is meant: said, or that of the data directory, or the only one that there is.
async fn system_of(session: &Session, options: &options::LogFetch, repository: &Repository) -> Result<u64> {
    if let Some(system) = options.system_id {
        return Ok(system);
    }
    if let Some(directory) = data_directory(&options.path)
        && let Some(system) = system_at(&directory)?
    {
        return Ok(system);
    }
    match session.or_cancelled(repository.log_systems()).await?.as_slice() {
        [one] => Ok(*one),
        [] => Err(Error::invalid("the repository holds no log of any server").with_hint(WRONG_REPOSITORY)),
        _ => Err(Error::invalid("the repository holds the logs of several servers, and nothing says whose is meant")
            .with_hint("Give the path as the server does (pg_wal/RECOVERYXLOG, in its data directory), or --system-id; `wirevault log show` names them.")),
    }
}

const WRONG_REPOSITORY: &str = "Is this the repository that the server archived into? See --from in restore_command.";

/// A log of which nothing at all is here has not ended: it is elsewhere.
async fn has_log(repository: &Repository, system: u64) -> Result<()> {
    let mut any = false;
    let mut each = |_| {
        any = true;
        false
    };
    repository.for_each_log(Some(system), &mut each).await?;
    if any {
        return Ok(());
    }
    // Not the kind by which one file is known not to be there.
    Err(Error::invalid(format!("the repository holds no log of system {system}")).with_hint(WRONG_REPOSITORY))
}

/// Returns whether a segment in a file has something behind an offset; None where that cannot be read.
fn goes_further(own: &Path, header: &SegmentHeader, end: u64) -> Option<bool> {
    let file = File::open(own).ok()?;
    let page_bytes = u64::from(header.page_bytes);
    let page = end.checked_sub(end.checked_rem(page_bytes)?)?;
    if file.metadata().ok()?.len() != header.segment.bytes() || page >= header.segment.bytes() {
        return None;
    }
    let mut bytes = vec![0; exact::usize_from(page_bytes)];
    file.read_exact_at(&mut bytes, page).ok()?;
    let at = Lsn(header.position.0.checked_add(page)?);
    Some(goes_on(
        &bytes,
        at,
        page == 0,
        exact::usize_from(end.saturating_sub(page)),
    ))
}

/// A file that is wanted.
struct Wanted<'a> {
    repository: &'a Repository,
    key: ObjectKey,
    name: &'a FileName,
    system: u64,
    path: &'a Path,
    /// The log ends here, whatever is stored.
    until: Option<Lsn>,
}

impl Wanted<'_> {
    /// Brings the file back; returns its length, or None where the repository does not have it. Whatever else is not there is
    /// an error.
    async fn bring(&self) -> Result<Option<u64>> {
        let Some(reader) = if_there(LogReader::open(self.repository.store(), &self.key).await)? else {
            return self.bring_parts().await;
        };
        let raw_bytes = reader.descriptor().raw_bytes;
        let kept = self.kept(raw_bytes)?;
        if kept == Some(0) {
            return Ok(None);
        }
        let mut temporary = Temporary::create(self.path)?;
        let mut beginning = Vec::new();
        reader.read(&mut self.into(&mut temporary, &mut beginning)).await?;
        self.is_it(raw_bytes, &beginning)?;
        if let Some(kept) = kept {
            temporary.cut(kept, raw_bytes)?;
        }
        temporary.publish(self.path)?;
        Ok(Some(raw_bytes))
    }

    /// Brings back what there is of a segment that is still being written. Zeros follow, as in a segment that the server has not filled
    /// yet: another size than a segment's would end its recovery with an error.
    async fn bring_parts(&self) -> Result<Option<u64>> {
        let FileName::Segment(segment) = self.name else {
            return Ok(None);
        };
        let parts = parts_of(self.repository, self.system, segment).await?;
        if parts.is_empty() {
            return Ok(None);
        }
        let mut temporary = Temporary::create(self.path)?;
        let mut beginning = Vec::new();
        let joined = join(self.repository, &parts, &mut self.into(&mut temporary, &mut beginning)).await;
        let (end, size) = joined?;
        self.is_it(size.bytes(), &beginning)?;
        let kept = self.kept(size.bytes())?;
        // The server's own, out of the base, may go further than what was received by then.
        let own = self.path.with_file_name(segment.to_string());
        let header = SegmentHeader::parse(&beginning)?;
        let own_is_asked = kept.is_none_or(|kept| kept > end);
        if kept == Some(0) || (own_is_asked && goes_further(&own, &header, end).is_some_and(|further| further)) {
            return Ok(None);
        }
        temporary.cut(kept.map_or(end, |kept| kept.min(end)), size.bytes())?;
        temporary.publish(self.path)?;
        Ok(Some(size.bytes()))
    }

    /// Returns how much of a segment is left where the log is to end; None if all of it is.
    fn kept(&self, raw_bytes: u64) -> Result<Option<u64>> {
        match (self.until, self.name) {
            (Some(until), FileName::Segment(segment) | FileName::Partial(segment)) => {
                kept_until(until, segment, raw_bytes)
            }
            _ => Ok(None),
        }
    }

    /// Returns what writes into the file, and holds the beginning.
    fn into<'f>(
        &'f self,
        temporary: &'f mut Temporary,
        beginning: &'f mut Vec<u8>,
    ) -> impl FnMut(&[u8]) -> Result<()> + Send + 'f {
        move |bytes| {
            let missing = HEADER_BYTES.saturating_sub(beginning.len());
            beginning.extend_from_slice(exact::first(bytes, missing));
            let act = || format!("write \"{}\"", self.path.display());
            temporary.file.write_all(bytes).with_context(act)
        }
    }

    /// What another writer of the store has put under this name is not handed to the server.
    fn is_it(&self, raw_bytes: u64, beginning: &[u8]) -> Result<()> {
        let (FileName::Segment(segment) | FileName::Partial(segment)) = self.name else {
            return Ok(());
        };
        let other = || format!("\"{}\" holds another segment than its name says", self.key);
        let reader = SegmentReader::begin(segment, raw_bytes, beginning).with_context(other)?;
        let written_by = reader.header().system;
        if written_by != self.system {
            return Err(Error::corrupt(format!("it is of system {written_by}"))).with_context(other);
        }
        Ok(())
    }
}

/// Returns how many bytes of a file lie before a position, if not all do: a server whose recovery ends there must not see what follows.
fn kept_until(until: Lsn, segment: &SegmentName, raw_bytes: u64) -> Result<Option<u64>> {
    let start = segment.start(SegmentSize::new(raw_bytes)?);
    let start =
        start.ok_or_else(|| Error::corrupt(format!("{segment} is no name of a segment of {raw_bytes} bytes")))?;
    let kept = until.0.saturating_sub(start.0);
    Ok((kept < raw_bytes).then_some(kept))
}

/// A file beside the one that is made; it goes away unless it was given that one's name.
///
/// A server that is killed kills its `restore_command` as well, and nobody looks for what that leaves in `pg_wal`. So the name is
/// always the same, and whoever comes next takes the file over; the lock says whether somebody still writes it.
struct Temporary {
    path: PathBuf,
    file: File,
    published: bool,
}

impl Temporary {
    fn create(target: &Path) -> Result<Self> {
        let name = target
            .file_name()
            .ok_or_else(|| Error::invalid("the path names no file"))?;
        let beside = |end: &str| {
            let name = [name, end.as_ref()].into_iter().collect::<OsString>();
            target.with_file_name(name)
        };
        let path = beside(".wirevault");
        let act = || format!("create \"{}\"", path.display());
        if let Some(file) = taken_over(&path).with_context(act)? {
            return Ok(Self::at(path, file));
        }
        // The one that a killed server has left behind is still at work.
        let path = beside(&format!(".wirevault-{:016x}", rand::random::<u64>()));
        let act = || format!("create \"{}\"", path.display());
        let file = options().create_new(true).open(&path).with_context(act)?;
        Ok(Self::at(path, file))
    }

    fn at(path: PathBuf, file: File) -> Self {
        Self {
            path,
            file,
            published: false,
        }
    }

    /// Leaves zeros behind the first bytes, as where a server has not written yet.
    fn cut(&mut self, kept: u64, whole: u64) -> Result<()> {
        let cut = self.file.set_len(kept).and_then(|()| self.file.set_len(whole));
        cut.with_context(|| format!("write \"{}\"", self.path.display()))
    }

    /// The server syncs a file itself before it keeps it.
    fn publish(mut self, target: &Path) -> Result<()> {
        std::fs::rename(&self.path, target).with_context(|| format!("make \"{}\"", target.display()))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Once it has another name, somebody else may have made one of this.
        if !self.published {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Opens a file, empties it and locks it; None where another process has it, or has given it another name meanwhile.
fn taken_over(path: &Path) -> std::io::Result<Option<File>> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = options().create(true).truncate(false).custom_flags(flags).open(path)?;
    // Some file systems have no locks.
    if file.try_lock().is_err() {
        return Ok(None);
    }
    let (ours, named) = (file.metadata()?, std::fs::symlink_metadata(path));
    if !named.is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
        return Ok(None);
    }
    file.set_len(0)?;
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_killed_fetch_left_is_taken_over_and_one_at_work_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("RECOVERYXLOG");
        let names = || {
            let entries = std::fs::read_dir(place.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        std::fs::write(place.path().join("RECOVERYXLOG.wirevault"), "left behind").unwrap();
        let mut first = Temporary::create(&target).unwrap();
        let mut second = Temporary::create(&target).unwrap();
        assert_eq!(names().len(), 2);
        first.file.write_all(b"first").unwrap();
        second.file.write_all(b"second").unwrap();
        first.publish(&target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"first");
        second.publish(&target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"second");
        drop(Temporary::create(&target).unwrap());
        assert_eq!(names(), ["RECOVERYXLOG"]);
    }

    #[test]
    fn only_a_standby_goes_on_after_a_failure() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("pg_wal/RECOVERYXLOG");
        let failed = Error::new(ErrorKind::Unavailable, "no answer");
        assert_eq!(exit_code(&failed, &target), STOPS);
        assert_eq!(exit_code(&failed, Path::new("")), STOPS);
        assert_eq!(exit_code(&Error::new(ErrorKind::Cancelled, "SIGTERM"), &target), ENDED);
        std::fs::write(place.path().join("standby.signal"), "").unwrap();
        assert_eq!(exit_code(&failed, &target), 1);
        const { assert!(STOPS > 125 && ENDED > 125) }
    }
}
