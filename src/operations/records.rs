//! Keeps the records of runs: in each repository of the job, and in the state directory while one cannot be reached.
//!
//! What waits in the state directory counts like what is stored, and goes into its repository as soon as that answers. A run
//! that begins leaves a note there; the note of one whose process is gone becomes the record of a failure.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::held::{self, Standing};
use crate::config::{Config, JobConfig, RepositoryConfig};
use crate::operations::meant::{self, Intent};
use crate::operations::{Session, Status};
use crate::policy::health::ExpectedJob;
use crate::repository::PlannedSchedule;
use crate::repository::record::{KEPT, RecordedSource};
use crate::repository::{Repository, RunOutcome, RunRecord, document, holder};

/// A repository gets the record within this, or later.
const PATIENCE: Duration = Duration::from_secs(10);

impl From<Status> for RunOutcome {
    fn from(status: Status) -> Self {
        match status {
            Status::Done => Self::Done,
            Status::Partial => Self::Partial,
            Status::Failed => Self::Failed,
        }
    }
}

/// Where what waits is kept: the state directory, or the spool directory of a host that has none.
fn state_directory(session: &Session) -> PathBuf {
    let own = session.state.directory().map(Path::to_path_buf);
    own.unwrap_or_else(|| session.spool_dir.join("wirevault-state"))
}

/// Where records wait for a repository.
fn waiting_room(session: &Session, config: &RepositoryConfig) -> PathBuf {
    let place = format!("{}\n{}", config.url, config.endpoint.as_deref().unwrap_or_default());
    let digest = document::sha256_hex(place.as_bytes());
    let name = exact::text(&digest, ..16, "a digest in hexadecimal has 64 digits");
    state_directory(session).join("records").join(name)
}

/// What the configuration says of a job, for its records and for what is expected of it.
pub(crate) fn expected_job(config: &Config, job: &JobConfig) -> ExpectedJob {
    let source = |name: &String| RecordedSource {
        name: name.clone(),
        optional: config
            .sources
            .iter()
            .any(|source| source.name == *name && source.optional),
    };
    let timing = job.timing();
    ExpectedJob {
        name: job.name.clone(),
        sources: job.sources.iter().map(source).collect(),
        schedule: timing.map(|timing| PlannedSchedule::of(&timing, config.timezone.as_deref())),
    }
}

/// Keeps a record. It is never the failure of a run that its record cannot be kept; it is logged.
pub(crate) async fn keep(session: &Session, repositories: &[RepositoryConfig], record: &RunRecord) {
    let name = record.file_name();
    let each = repositories
        .iter()
        .map(|config| keep_in(session, config, record, &name));
    futures_util::future::join_all(each).await;
}

/// A run at work. Dropping it ends its notes, which are locked until then.
#[derive(Debug, Default)]
pub(crate) struct Begun(Vec<(PathBuf, File)>);

impl Drop for Begun {
    fn drop(&mut self) {
        for (note, _) in &self.0 {
            let _ = std::fs::remove_file(note);
        }
    }
}

/// Ends the name of a note.
const NOTE: &str = ".begun";

/// Leaves a note of a run that begins. `record` is what it came to if this process does not live to say otherwise.
pub(crate) fn begin(session: &Session, repositories: &[RepositoryConfig], record: &RunRecord) -> Begun {
    let mut begun = Begun::default();
    for config in repositories {
        let name = format!("{}_{}{NOTE}", task_word(record), this_process());
        match write(&waiting_room(session, config), record, &name) {
            Ok(note) => begun.0.push(note),
            Err(error) => tracing::debug!("no note of the run: {}", error.chain()),
        }
    }
    begun
}

/// Makes records of the notes that processes left which are gone.
pub(crate) fn bury(session: &Session, config: &RepositoryConfig) {
    let room = waiting_room(session, config);
    for path in names_ending(&room, NOTE) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let process = name.split_once('_').and_then(|(_, rest)| rest.strip_suffix(NOTE));
        // Without a lock it was written by an older version, or where there are none: then the number of its process tells.
        if held::standing(&path) == Standing::Held || process.is_some_and(is_alive) {
            continue;
        }
        if let Some(record) = read(&path)
            && let Err(error) = put(&room, &record, &record.file_name())
        {
            tracing::warn!("unable to store the record of {}: {}", record.name, error.chain());
        }
        let _ = std::fs::remove_file(&path);
    }
}

/// Names this process for as long as the machine runs: in containers every process is number 1, but begins at another time.
fn this_process() -> String {
    let id = std::process::id();
    format!("{id}-{}", holder::started(id).unwrap_or_default())
}

fn is_alive(process: &str) -> bool {
    let number = |(id, begun): (&str, &str)| Some((id.parse().ok()?, begun.parse().ok()?));
    let known: Option<(u32, u64)> = process.split_once('-').and_then(number);
    known.is_some_and(|(id, begun)| holder::started(id) == Some(begun))
}

async fn keep_in(session: &Session, config: &RepositoryConfig, record: &RunRecord, name: &str) {
    let work = async {
        // Nothing goes into a repository that another run refused.
        let repository = meant::open(session, config, Intent::Write).await?;
        repository.write_record(record, name).await?;
        hand_in(session, config, &repository).await;
        Ok(())
    };
    let late = |_| Err(Error::new(ErrorKind::TimedOut, "no answer in time"));
    let kept: Result<()> = tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(late);
    let Err(error) = kept else { return };
    tracing::warn!(
        "the record of {} waits for repository {}: {}",
        record.name,
        config.url,
        error.chain()
    );
    if let Err(error) = put(&waiting_room(session, config), record, name) {
        tracing::warn!("unable to store the record of {}: {}", record.name, error.chain());
    }
}

/// Puts the records that wait for a repository into it.
pub(crate) async fn hand_in(session: &Session, config: &RepositoryConfig, repository: &Repository) {
    for (path, record) in waiting_files(&waiting_room(session, config)) {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.split_once('_'));
        let Some((_, name)) = name else { continue };
        match repository.write_record(&record, name).await {
            Ok(()) => drop(std::fs::remove_file(&path)),
            Err(error) => {
                tracing::debug!("records still waiting for {}: {}", config.url, error.chain());
                return;
            }
        }
    }
}

/// Returns the records that wait for a repository.
pub(crate) fn waiting(session: &Session, config: &RepositoryConfig) -> Vec<RunRecord> {
    let files = waiting_files(&waiting_room(session, config));
    files.into_iter().map(|(_, record)| record).collect()
}

fn waiting_files(room: &Path) -> Vec<(PathBuf, RunRecord)> {
    let paths = names_ending(room, ".json").into_iter();
    paths
        .filter_map(|path| read(&path).map(|record| (path, record)))
        .collect()
}

fn names_ending(room: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(room).into_iter().flatten();
    let entries = entries.map_while(std::result::Result::ok);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.to_str().is_some_and(|path| path.ends_with(end)));
    paths.sort();
    paths
}

fn read(path: &Path) -> Option<RunRecord> {
    let size = std::fs::metadata(path).ok()?.len();
    let bytes = (size <= document::MAX_DOCUMENT_BYTES).then(|| std::fs::read(path).ok())??;
    RunRecord::decode(&bytes).ok()
}

/// Begins the names of all files about the task of a record.
fn task_word(record: &RunRecord) -> String {
    let digest = document::sha256_hex(record.directory().as_bytes());
    digest.chars().take(8).collect()
}

/// Lets a record wait, with the newest others of its task.
fn put(room: &Path, record: &RunRecord, name: &str) -> Result<()> {
    let task = task_word(record);
    write(room, record, &format!("{task}_{name}"))?;
    let of_task = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(&format!("{task}_"))
    };
    let paths: Vec<PathBuf> = names_ending(room, ".json").into_iter().filter(of_task).collect();
    for path in paths.iter().take(paths.len().saturating_sub(KEPT)) {
        std::fs::remove_file(path).with_context(|| format!("remove \"{}\"", path.display()))?;
    }
    Ok(())
}

/// Writes a record whole or not at all. It is locked while the file is open.
fn write(room: &Path, record: &RunRecord, name: &str) -> Result<(PathBuf, File)> {
    let path = room.join(name);
    let act = || format!("write \"{}\"", path.display());
    std::fs::create_dir_all(room).with_context(act)?;
    let temporary = room.join(format!("{name}.{}.part", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&temporary).with_context(act)?;
    held::lock(&file);
    let body = record.encode()?;
    file.write_all(&body).and_then(|()| file.sync_all()).with_context(act)?;
    std::fs::rename(&temporary, &path).with_context(act)?;
    Ok((path, file))
}
