//! A scheduler in a few lines: it asks, waits and runs as the real one does, by a clock that is set meanwhile.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::super::task::tests::scheduled;
use super::*;
use crate::base::clock::{Clock, SharedClock, TestClock};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Host {
    clock: Arc<TestClock>,
    agenda: Agenda,
    /// What begun, by the time of day, and why.
    runs: Vec<(Timestamp, Why)>,
    /// Whether runs are well.
    well: bool,
}

impl Host {
    fn new(expression: &str, zone: &str, at: &str) -> Self {
        let clock = Arc::new(TestClock::at(at.parse().unwrap(), TimeZone::get(zone).unwrap()));
        let shared: SharedClock = clock.clone();
        let agenda = Agenda::new(vec![scheduled(expression, &shared)], clock.moment());
        Self {
            clock,
            agenda,
            runs: Vec::new(),
            well: true,
        }
    }

    /// Lets time pass, and runs what is due. A run lasts five seconds.
    fn pass(&mut self, time: Duration) {
        let end = self.clock.instant() + time;
        while self.clock.instant() < end {
            let now = self.clock.moment();
            if let Some((at, next)) = self.agenda.due(now) {
                self.runs.push((now.now, next.why));
                self.clock.advance(Duration::from_secs(5));
                let ended = self.clock.now();
                self.agenda.tasks[at].ended(self.well, now, ended);
            } else {
                let left = end.saturating_duration_since(now.instant);
                self.clock.advance(self.agenda.pause(now, false).min(left));
            }
        }
    }

    /// What begun since it was last asked, to the minute.
    fn begun(&mut self) -> Vec<String> {
        let minute = |(at, _): (Timestamp, Why)| at.strftime("%m-%d %H:%M").to_string();
        self.runs.drain(..).map(minute).collect()
    }
}

/// The clock is set five seconds after the run of two o'clock began, and what begins in the 25 hours after is written down.
#[test]
fn a_clock_that_is_set_costs_no_run_and_brings_none_twice() {
    let (second, minute, hour) = (1, 60, 3600);
    let cases: &[(i64, &[&str])] = &[
        (0, &["01-03 02:00"]),
        // A leap second; what a daemon does that sets clocks right.
        (-second, &["01-03 02:00"]),
        (second, &["01-03 02:00"]),
        (-10 * minute, &["01-03 02:00"]),
        (10 * minute, &["01-03 02:00"]),
        // It was wrong by an hour: that run was the one of one o'clock.
        (-hour, &["01-02 02:00", "01-03 02:00"]),
        (-30 * hour, &["01-01 02:00"]),
        (-30 * 24 * hour, &["12-04 02:00"]),
        (20 * hour, &["01-03 02:00"]),
        // What passed is caught up once.
        (30 * hour, &["01-03 08:00", "01-04 02:00"]),
        (5 * 24 * hour, &["01-07 02:00", "01-08 02:00"]),
    ];
    for (step, begins) in cases {
        let mut host = Host::new("0 2 * * *", "UTC", "2026-01-01T12:00:00Z");
        host.pass(14 * HOUR + Duration::from_secs(5));
        assert_eq!(host.begun(), ["01-02 02:00"]);
        host.clock.set_by(SignedDuration::from_secs(*step));
        host.pass(25 * HOUR);
        assert_eq!(host.begun(), *begins, "set by {step} seconds");
    }
}

#[test]
fn a_clock_that_is_set_forward_and_back_costs_one_run() {
    for days in [1, 30, 400] {
        let mut host = Host::new("0 2 * * *", "UTC", "2026-01-01T12:00:00Z");
        host.pass(15 * HOUR);
        host.begun();
        host.clock.set_by(SignedDuration::from_hours(24 * days));
        host.pass(HOUR);
        assert_eq!(
            host.runs.iter().map(|(_, why)| *why).collect::<Vec<_>>(),
            [Why::CaughtUp]
        );
        host.begun();
        host.clock.set_by(SignedDuration::from_hours(-24 * days));
        host.pass(2 * DAY);
        assert_eq!(host.begun(), ["01-03 02:00", "01-04 02:00"], "{days} days");
    }
}

/// Whatever the clock does by less than ten minutes, once an hour at most: each night has its run.
#[test]
fn a_clock_that_wanders_brings_each_night_one_run() {
    let mut host = Host::new("0 2 * * *", "UTC", "2026-01-01T12:00:00Z");
    let mut dice = 20_260_101_u64;
    let mut roll = |sides: u64| {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    for _ in 0..200 {
        host.pass(HOUR + Duration::from_secs(roll(3600)));
        let step = i64::try_from(roll(1200)).unwrap() - 600;
        host.clock.set_by(SignedDuration::from_secs(step));
    }
    let nights: Vec<String> = host.begun().into_iter().map(|begun| begun[..5].to_owned()).collect();
    let mut once = nights.clone();
    once.dedup();
    assert_eq!(nights, once);
    let (first, last) = ("2026-01-02".parse::<jiff::civil::Date>().unwrap(), host.clock.now());
    let wanted: Vec<String> = first
        .series(1_i32.day())
        .take_while(|day| day.at(2, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp() < last)
        .map(|day| day.strftime("%m-%d").to_string())
        .collect();
    assert_eq!(nights, wanted);
}

/// By the zone of the clock: 02:30 is left out on the one day and comes twice on the other.
#[test]
fn summer_time_brings_each_day_its_runs() {
    let days = [
        ("2026-03-28T22:59:00Z", "03-29 01:30", 23_usize),
        ("2026-10-24T21:59:00Z", "10-25 00:30", 25),
    ];
    for (from, nightly, hours) in days {
        let mut host = Host::new("30 2 * * *", "Europe/Berlin", from);
        host.pass(DAY);
        assert_eq!(host.begun(), [nightly]);
        let day = MINUTE * 60 * u32::try_from(hours).unwrap();
        let mut host = Host::new("0 * * * *", "Europe/Berlin", from);
        host.pass(day);
        assert_eq!(host.runs.len(), hours);
        let apart = |runs: &[(Timestamp, Why)]| runs[1].0.duration_since(runs[0].0) == SignedDuration::from_hours(1);
        assert!(host.runs.windows(2).all(apart), "{:?}", host.runs);
    }
}

#[test]
fn a_leap_day_has_its_runs() {
    let mut host = Host::new("0 2 * * *", "UTC", "2028-02-27T12:00:00Z");
    host.pass(3 * DAY);
    assert_eq!(host.begun(), ["02-28 02:00", "02-29 02:00", "03-01 02:00"]);
    let mut host = Host::new("0 2 29 2 *", "UTC", "2028-02-27T12:00:00Z");
    host.pass(3 * DAY);
    assert_eq!(host.begun(), ["02-29 02:00"]);
}

/// An interval goes on by the time that really passed.
#[test]
fn an_interval_does_not_begin_anew_when_the_clock_is_set_back() {
    let mut host = Host::new("@every 12h", "UTC", "2026-01-10T12:00:00Z");
    host.pass(11 * HOUR);
    assert_eq!(host.begun(), ["01-10 12:00"]);
    host.clock.set_by(SignedDuration::from_hours(-48));
    host.pass(2 * HOUR);
    assert_eq!(host.begun(), ["01-09 00:00"]);
}

#[test]
fn a_failed_run_is_repeated_also_when_the_clock_is_set() {
    // Set back by an hour, its time is yet to come.
    for (hours, within) in [(-24 * 40, 2), (-12, 2), (-1, 61), (0, 2), (1, 2), (24, 2)] {
        let mut host = Host::new("0 2 * * *", "UTC", "2026-03-01T12:00:00Z");
        host.well = false;
        host.pass(14 * HOUR + Duration::from_secs(10));
        assert_eq!(host.begun(), ["03-02 02:00"]);
        host.clock.set_by(SignedDuration::from_hours(hours));
        host.well = true;
        host.pass(within * MINUTE);
        assert_eq!(host.runs.len(), 1, "set by {hours} hours");
    }
}

#[test]
fn a_pause_ends_when_something_is_due_and_is_never_long() {
    let host = Host::new("0 2 * * *", "UTC", "2026-01-01T01:59:50Z");
    let now = host.clock.moment();
    assert_eq!(host.agenda.pause(now, false), Duration::from_secs(10));
    let host = Host::new("0 2 * * *", "UTC", "2026-01-01T12:00:00Z");
    let now = host.clock.moment();
    assert_eq!(
        (host.agenda.pause(now, false), host.agenda.pause(now, true)),
        (LONGEST_WAIT, LOOK_AT_MOST)
    );
}

#[test]
fn repositories_are_looked_at_sooner_when_there_is_a_reason() {
    let ago = |minutes| Some(MINUTE * minutes);
    assert!(is_look_due(None, false, false));
    assert!(is_look_due(ago(1), true, false) && is_look_due(ago(1), false, true));
    assert!(!is_look_due(ago(29), false, false) && is_look_due(ago(30), false, false));
    assert!(!is_look_due(Some(Duration::from_secs(9)), true, true));
}

#[test]
fn keep_rules_have_their_turn_once_a_day() {
    let (mut turns, begun) = (Turns::default(), Instant::now());
    let due = |turns: &mut Turns, after: Duration| turns.next_prune(["a", "b"].into_iter(), begun + after);
    assert_eq!(due(&mut turns, Duration::ZERO), None);
    assert_eq!(due(&mut turns, HOUR), Some("a"));
    turns.pruned("a", begun + HOUR);
    assert_eq!(due(&mut turns, HOUR), Some("b"));
    turns.pruned("b", begun + HOUR);
    assert_eq!(due(&mut turns, 24 * HOUR), None);
    assert_eq!(due(&mut turns, 25 * HOUR), Some("a"));
    turns.swept("here", begun);
    assert!(turns.is_swept("here", begun + MINUTE) && !turns.is_swept("there", begun + MINUTE));
    assert!(!turns.is_swept("here", begun + HOUR));
}
