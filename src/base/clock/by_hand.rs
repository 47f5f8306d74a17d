//! A clock that stands still until a test moves it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::Clock;

/// A clock for tests. Whoever sleeps by it is woken by [`TestClock::advance`], and by nothing else.
#[derive(Debug)]
pub struct TestClock {
    shown: watch::Sender<Shown>,
    zone: TimeZone,
}

#[derive(Debug)]
struct Shown {
    now: Timestamp,
    instant: Instant,
    /// Who sleeps, by number, and until when.
    sleepers: BTreeMap<u64, Instant>,
    next_sleeper: u64,
}

impl TestClock {
    /// Makes a clock that shows a time of day.
    pub fn at(now: Timestamp, zone: TimeZone) -> Self {
        let shown = Shown {
            now,
            instant: Instant::now(),
            sleepers: BTreeMap::new(),
            next_sleeper: 0,
        };
        Self {
            shown: watch::Sender::new(shown),
            zone,
        }
    }

    /// Lets time pass, for both clocks.
    ///
    /// # Panics
    ///
    /// Beyond the range of either.
    pub fn advance(&self, by: Duration) {
        self.shown.send_modify(|shown| {
            shown.now += by;
            shown.instant += by;
        });
    }

    /// Sets the time of day forward or back, as an administrator does. Nobody wakes of that.
    ///
    /// # Panics
    ///
    /// Beyond the range of the time of day.
    pub fn set_by(&self, by: SignedDuration) {
        self.shown.send_modify(|shown| shown.now += by);
    }

    /// Waits until somebody sleeps by this clock, and returns for how long the one who wakes first still does.
    ///
    /// # Panics
    ///
    /// Never: the clock is there as long as it is waited by.
    pub async fn asleep(&self) -> Duration {
        let mut seen = self.shown.subscribe();
        let left = |shown: &Shown| {
            let first = shown.sleepers.values().min()?;
            first
                .checked_duration_since(shown.instant)
                .filter(|left| !left.is_zero())
        };
        let shown = seen.wait_for(|shown| left(shown).is_some()).await;
        let shown = shown.expect("its sender is this clock");
        left(&shown).expect("it was waited for")
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.shown.borrow().now
    }

    fn zone(&self) -> TimeZone {
        self.zone.clone()
    }

    fn instant(&self) -> Instant {
        self.shown.borrow().instant
    }

    async fn sleep_until(&self, instant: Instant) {
        let _sleeper = Sleeper::begin(&self.shown, instant);
        let mut seen = self.shown.subscribe();
        let _ = seen.wait_for(|shown| shown.instant >= instant).await;
    }
}

/// One who sleeps, until it is dropped.
struct Sleeper<'a> {
    shown: &'a watch::Sender<Shown>,
    number: u64,
}

impl<'a> Sleeper<'a> {
    fn begin(shown: &'a watch::Sender<Shown>, until: Instant) -> Self {
        let mut number = 0;
        shown.send_modify(|shown| {
            number = shown.next_sleeper;
            shown.next_sleeper += 1;
            shown.sleepers.insert(number, until);
        });
        Self { shown, number }
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.shown.send_modify(|shown| {
            shown.sleepers.remove(&self.number);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_time_that_passes_wakes_a_sleeper() {
        let clock = TestClock::at(Timestamp::UNIX_EPOCH, TimeZone::UTC);
        let begun = clock.moment();
        let hour = Duration::from_secs(3600);
        let sleep = clock.sleep_until(begun.instant + hour);
        let watch = async {
            assert_eq!(clock.asleep().await, hour);
            clock.set_by(SignedDuration::from_hours(24));
            assert_eq!(clock.asleep().await, hour);
            clock.advance(hour / 2);
            assert_eq!(clock.asleep().await, hour / 2);
            clock.set_by(SignedDuration::from_hours(-24));
            clock.advance(hour / 2);
        };
        tokio::join!(sleep, watch);
        let woken = clock.moment();
        assert_eq!(woken.instant.duration_since(begun.instant), hour);
        assert_eq!(woken.now.duration_since(begun.now), SignedDuration::from_hours(1));
    }
}
