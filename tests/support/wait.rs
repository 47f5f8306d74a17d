//! Waiting for what happens, on a machine that may be busy with something else.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: only a fault takes so long, whatever else the machine does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// Waits until something is so. Fails with `what` after [`PATIENCE`].
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// As [`until`], for what is asked asynchronously.
pub(crate) async fn until_async(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
