//! What tests ask of the program by its environment: to wait at a named point, to shorten its lease, to move its clock.
//!
//! It exists with the feature `test-hooks` alone, which nothing that is shipped has; the test `hooks` reads the source, and
//! `make dist` the binary, for these names.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Waits at a named point when `WIREVAULT_TEST_HOLD` names it, after making the file `WIREVAULT_TEST_HELD`, until that file
/// is removed: a test stops, or kills, a run exactly there.
pub async fn hold(point: &str) {
    if !std::env::var("WIREVAULT_TEST_HOLD").is_ok_and(|wanted| wanted == point) {
        return;
    }
    let Some(path) = std::env::var_os("WIREVAULT_TEST_HELD") else {
        return std::future::pending().await;
    };
    let _ = tokio::fs::write(&path, point).await;
    while tokio::fs::metadata(&path).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the life of a lease by `WIREVAULT_TEST_LEASE_SECONDS`, for a test that stops a run for longer than that. Longer than
/// ten minutes would outlive the promise of a sweep's grace, and none at all beats without a pause.
pub fn lease() -> Option<Duration> {
    let seconds = std::env::var("WIREVAULT_TEST_LEASE_SECONDS").ok()?.parse().ok()?;
    (1..=600).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// Moves a time of day by the seconds of `WIREVAULT_TEST_CLOCK_SECONDS`.
pub fn moved(now: Timestamp) -> Timestamp {
    let seconds = std::env::var("WIREVAULT_TEST_CLOCK_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(0);
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now)
}
