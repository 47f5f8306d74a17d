//! Watches the files of an `on_change` job.
//!
//! It looks at names, sizes and times again and again instead of asking the kernel for events: that works on every file
//! system, across mounts and for trees that are replaced as a whole, and opens no file. Looking takes a twentieth of the
//! time at most, however large the tree is. A change is due once nothing else changed for the job's `on_change` time; under
//! changes that never rest, ten times that after the first.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::base::clock::SharedClock;
use crate::base::error::Result;
use crate::config::{Config, JobConfig};
use crate::engines::Watched;

/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The shortest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// A look takes one part of so many of the time.
const SHARE: u32 = 20;
/// The quickest of so many looks counts.
const LOOKS: usize = 3;
/// Changes that never rest are due after so many quiet times.
const LONGEST_UNREST: u32 = 10;

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
            watched.extend(source.kind.spec().watch()?);
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

async fn look(watched: Vec<Box<dyn Watched>>, quiet: Duration, due: Due, clock: SharedClock, woken: Arc<Notify>) {
    let watched = Arc::new(watched);
    let (mut known, mut first): (Option<Vec<u64>>, Option<Instant>) = (None, None);
    // Until there are so many, those that were count.
    let mut looks = [Duration::MAX; LOOKS];
    loop {
        let (begun, these) = (clock.instant(), Arc::clone(&watched));
        let Ok(seen) = tokio::task::spawn_blocking(move || fingerprints(&these)).await else {
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
        let now = clock.instant();
        looks.rotate_left(1);
        if let Some(last) = looks.last_mut() {
            *last = now.saturating_duration_since(begun);
        }
        clock.sleep_until(now + pause(quiet, looks)).await;
    }
}

/// Returns the pause after a look. The quickest of the last looks says how long one takes: a machine that was busy during one
/// of them is no reason to look away twenty times as long.
fn pause(quiet: Duration, looks: [Duration; LOOKS]) -> Duration {
    let takes = looks.into_iter().min().unwrap_or_default();
    let shortest = (quiet / 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    shortest.max(takes.saturating_mul(SHARE))
}

fn fingerprints(watched: &[Box<dyn Watched>]) -> Vec<u64> {
    watched.iter().map(|one| one.fingerprint()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_a_large_tree_are_rare_and_one_on_a_busy_machine_is_not() {
        let (quick, slow) = (Duration::from_millis(1), Duration::from_secs(12));
        let quiet = Duration::from_secs(1);
        assert_eq!(pause(quiet, [quick; LOOKS]), Duration::from_millis(500));
        assert_eq!(pause(quiet, [quick, slow, slow]), Duration::from_millis(500));
        assert_eq!(pause(quiet, [slow; LOOKS]), Duration::from_secs(240));
        assert_eq!(
            pause(quiet, [Duration::MAX, Duration::MAX, slow]),
            Duration::from_secs(240)
        );
        assert_eq!(pause(Duration::from_secs(60), [quick; LOOKS]), LONGEST_PAUSE);
        assert_eq!(pause(Duration::ZERO, [quick; LOOKS]), SHORTEST_PAUSE);
    }
}
