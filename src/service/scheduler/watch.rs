//! Watches the files of an `on_change` job.
//!
//! It looks at names, sizes and times again and again instead of asking the kernel for events: that works on every file
//! system, across mounts and for trees that are replaced as a whole, and opens no file. Looking takes a twentieth of the
//! time at most, however large the tree is. A change is due once nothing else changed for the job's `on_change` time; under
//! changes that never rest, ten times that after the first.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::base::clock::SharedClock;
use crate::base::error::Result;
use crate::config::{Config, JobConfig, SourceKind};
use crate::engines::files::FilesSource;
use crate::engines::sqlite::discover;

/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The shortest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// A look takes one part of so many of the time.
const SHARE: u32 = 20;
/// Changes that never rest are due after so many quiet times.
const LONGEST_UNREST: u32 = 10;

/// What is looked at.
enum Watched {
    Files(Box<FilesSource>),
    Sqlite(PathBuf),
    /// The databases in some places.
    Databases(Vec<PathBuf>),
}

/// When a job is due because of a change; by instants, so that a time of day that is set does not move it.
type Due = Arc<Mutex<Option<Instant>>>;

/// A job's files under watch. Dropping it ends the watch.
#[derive(Debug)]
pub(super) struct Watch {
    due: Due,
    _looking: AbortOnDropHandle<()>,
}

impl Watch {
    /// Starts to look; `None` for a job that does not run after changes. What changed while nobody looked is not known, so
    /// the job is due at the start: if the content is that of its last snapshot, nothing is stored.
    pub(super) fn start(
        config: &Config,
        job: &JobConfig,
        clock: &SharedClock,
        woken: &Arc<Notify>,
    ) -> Result<Option<Self>> {
        let Some(quiet) = job.on_change else { return Ok(None) };
        let sources = config
            .sources
            .iter()
            .filter(|source| job.sources.contains(&source.name));
        let mut watched = Vec::new();
        for source in sources {
            match &source.kind {
                SourceKind::Files(files) => {
                    let options = crate::operations::open::files_options(files);
                    watched.push(Watched::Files(Box::new(FilesSource::new(options)?)));
                }
                SourceKind::Sqlite(sqlite) if sqlite.is_several() => {
                    watched.push(Watched::Databases(sqlite.patterns()));
                }
                SourceKind::Sqlite(sqlite) => watched.push(Watched::Sqlite(sqlite.path.clone())),
                _ => {}
            }
        }
        let due = Arc::new(Mutex::new(clock.instant().checked_add(quiet)));
        let looking = look(watched, quiet, Arc::clone(&due), Arc::clone(clock), Arc::clone(woken));
        Ok(Some(Self {
            due,
            _looking: AbortOnDropHandle::new(tokio::spawn(looking)),
        }))
    }

    /// When the job is due because of a change.
    pub(super) fn due(&self) -> Option<Instant> {
        *self.due.lock().expect("no panic happens under this lock")
    }

    /// A run begins: what changes from here on is for the next one.
    pub(super) fn taken(&self) {
        *self.due.lock().expect("no panic happens under this lock") = None;
    }
}

async fn look(watched: Vec<Watched>, quiet: Duration, due: Due, clock: SharedClock, woken: Arc<Notify>) {
    let watched = Arc::new(watched);
    let (mut known, mut first): (Option<u64>, Option<Instant>) = (None, None);
    loop {
        let (begun, these) = (clock.instant(), Arc::clone(&watched));
        let Ok(seen) = tokio::task::spawn_blocking(move || fingerprint(&these)).await else {
            return;
        };
        if known.is_some_and(|known| known != seen) {
            let now = clock.instant();
            let mut due = due.lock().expect("no panic happens under this lock");
            if due.is_none() {
                first = Some(now);
            }
            let unrest = first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first));
            let left = quiet.saturating_mul(LONGEST_UNREST).saturating_sub(unrest);
            *due = now.checked_add(quiet.min(left));
            drop(due);
            woken.notify_one();
        }
        known = Some(seen);
        let pause = (quiet / 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let now = clock.instant();
        let pause = pause.max(now.saturating_duration_since(begun) * SHARE);
        clock.sleep_until(now + pause).await;
    }
}

/// A place that is not there, or may not be read, has a fingerprint too.
fn fingerprint(watched: &[Watched]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for one in watched {
        match one {
            Watched::Files(files) => files.fingerprint().ok().hash(&mut hasher),
            Watched::Sqlite(path) => of_database(path).hash(&mut hasher),
            Watched::Databases(places) => {
                for path in discover::candidates(places) {
                    (&path, of_database(&path)).hash(&mut hasher);
                }
            }
        }
    }
    hasher.finish()
}

type DatabaseFacts = (Option<Facts>, Option<Facts>);

fn of_database(path: &Path) -> DatabaseFacts {
    let mut log = path.to_owned().into_os_string();
    log.push("-wal");
    // An empty one says nothing: a backup of a resting database makes one, and takes it away.
    let log = facts(Path::new(&log)).filter(|(_, size, ..)| *size > 0);
    (facts(path), log)
}

type Facts = (u64, u64, i64, i64);

/// Asked by name: opening the database, and closing it again, would drop its locks.
fn facts(path: &Path) -> Option<Facts> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_empty_wal_does_not_change_the_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        std::fs::write(&path, b"database").unwrap();
        let watched = [Watched::Sqlite(path)];
        let before = fingerprint(&watched);
        std::fs::write(dir.path().join("app.db-wal"), b"").unwrap();
        assert_eq!(fingerprint(&watched), before);
        std::fs::write(dir.path().join("app.db-wal"), b"frames").unwrap();
        assert_ne!(fingerprint(&watched), before);
    }
}
