//! Pauses that grow while the same thing is needed again and again, and begin anew once it was not for long. Pure: `now` is an
//! argument.

use std::time::{Duration, Instant};

/// When something may happen next.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    pause: Duration,
    last: Option<Instant>,
}

impl Backoff {
    /// It may happen at once; then there are pauses, from the first to the longest.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            pause: first,
            last: None,
        }
    }

    /// Takes note that it happens now. Each pause is twice the one before, unless it was not needed for the longest of them.
    pub(super) fn happened(&mut self, now: Instant) {
        let is_new = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) > self.longest.saturating_add(self.pause));
        self.pause = if is_new {
            self.first
        } else {
            self.longest.min(self.pause.saturating_mul(2))
        };
        self.last = Some(now);
    }

    /// Returns from when on it may happen again; None where it may at any time.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.last.map(|last| last + self.pause)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_anew_after_a_quiet_time() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 10 * second);
        assert_eq!(backoff.again_at(), None);
        let mut now = Instant::now();
        for seconds in [1, 2, 4, 8, 10, 10] {
            backoff.happened(now);
            let again = backoff.again_at().unwrap();
            assert_eq!(again, now + seconds * second);
            now = again;
        }
        // Once the longest pause has passed beyond the last one, it is something new.
        now += 11 * second;
        backoff.happened(now);
        assert_eq!(backoff.again_at(), Some(now + second));
    }
}
