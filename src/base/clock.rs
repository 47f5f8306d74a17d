//! What time it is: by this host's clock, or by one that a test moves.
//!
//! Two clocks go at once. The *time of day* is what schedules and documents are about; it is set, forward or back, by whoever
//! looks after the host. The *instant* only goes forward: how long ago something was, and until when to sleep, is measured by it.
//! Whoever decides by the time takes a [`Clock`]; how long a network may take is not decided here, that is tokio's own time.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;

#[cfg(any(test, feature = "test-hooks"))]
mod by_hand;
#[cfg(any(test, feature = "test-hooks"))]
pub use by_hand::TestClock;

/// A clock that several tasks read.
pub type SharedClock = Arc<dyn Clock>;

/// Tells the time, and waits for it.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    /// Returns the time of day.
    fn now(&self) -> Timestamp;

    /// Returns the time zone of schedules that name none.
    fn zone(&self) -> TimeZone;

    /// Returns the present instant.
    fn instant(&self) -> Instant;

    /// Waits until an instant; dropping it ends the wait.
    async fn sleep_until(&self, instant: Instant);

    /// Reads both clocks.
    fn moment(&self) -> Moment {
        Moment {
            now: self.now(),
            instant: self.instant(),
        }
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time of day.
    pub now: Timestamp,
    /// The instant.
    pub instant: Instant,
}

/// This host's clocks. A machine that sleeps does not move its instants on: for them it is as if the time of day were set forward.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        #[cfg(feature = "test-hooks")]
        let now = super::test_hooks::moved(now);
        now
    }

    fn zone(&self) -> TimeZone {
        TimeZone::system()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    async fn sleep_until(&self, instant: Instant) {
        tokio::time::sleep_until(instant.into()).await;
    }
}
