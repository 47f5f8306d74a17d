//! A file tree that had entries and has none now: a disk that is not mounted, a path that moved.
//!
//! Such a run succeeds, and its snapshots push the good ones out. So it is told, and makes the exit code 2, until the tree
//! holds something again or the configuration says that it may be empty.

use crate::base::error::Result;
use crate::base::report::{Note, SharedReporter};
use crate::config::Plan;
use crate::operations::backup::BECAME_EMPTY;
use crate::repository::{ManifestSource, Repository};

/// Snapshots that are looked at for what a source held before; backups given by hand come in any order.
const LOOKS: usize = 50;

/// Notes each source of the run that became empty.
pub(crate) async fn note(
    repository: &Repository,
    host: &str,
    plan: &Plan,
    reporter: &SharedReporter,
    sources: &mut [ManifestSource],
) {
    for source in sources {
        let config = plan.sources.iter().find(|config| config.name == source.name);
        let Some(outcome) = source.outcome.as_mut().filter(|outcome| outcome.items == 0) else {
            continue;
        };
        if !config.is_some_and(|config| config.kind.spec().may_not_become_empty()) {
            continue;
        }
        let message = match held(repository, host, &plan.job, &source.name).await {
            Ok(false) => continue,
            Ok(true) => "is empty, but was not empty before",
            // Not to know is not to know that it was empty.
            Err(_) => "is empty, and its earlier content cannot be determined",
        };
        let message = format!("{message}; if this is intended, set allow_empty = true in its section");
        reporter.note(&source.name, Note::new(BECAME_EMPTY, &source.name, message));
        *outcome.note_counts.entry(BECAME_EMPTY.to_owned()).or_default() += 1;
    }
}

/// Returns whether the source held something in its last snapshot, or had become empty by then.
async fn held(repository: &Repository, host: &str, job: &str, source: &str) -> Result<bool> {
    for id in repository.list().await?.into_iter().rev().take(LOOKS) {
        // One that is damaged is for `verify` to tell.
        let Ok(manifest) = repository.load(&id).await else {
            continue;
        };
        if manifest.host != host || manifest.job != job {
            continue;
        }
        let last = manifest.sources.iter().find(|one| one.name == source);
        if let Some(outcome) = last.and_then(|one| one.outcome.as_ref()) {
            return Ok(outcome.items > 0 || outcome.note_counts.contains_key(BECAME_EMPTY));
        }
    }
    Ok(false)
}
