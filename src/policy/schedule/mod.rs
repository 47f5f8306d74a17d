//! When a job runs next: a pure decision, `(schedule, history, now) -> next`.
//!
//! Occurrences are those of five cron fields in a time zone (crontab(5)). A run belongs to the occurrences up to its start;
//! an occurrence after the last start that has passed is overdue. `@every 6h` has occurrences that far apart, counted from the
//! last start. However many were missed while the process was down, the
//! machine asleep or a run in the way, they are caught up by one run. A run that failed is repeated with growing pauses,
//! until the next occurrence takes its place.
//!
//! Nothing here sleeps or reads a clock: `run` asks again after every pause, so a clock that jumps is only a new `now`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use cronexpr::{Crontab, MakeTimestamp};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::base::units::parse_duration;
use crate::repository::{CLOCK_TOLERANCE, PlannedSchedule};

/// Missed occurrences are counted up to here; a number beyond says no more.
pub const MAX_COUNTED: u32 = 1000;

/// Pause before the first repetition of a failed run; each further one is twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(60);

/// The longest pause before a repetition.
const LONGEST_RETRY: Duration = Duration::from_secs(30 * 60);

/// A time plan, of whatever it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timing {
    /// Five cron fields.
    pub schedule: String,
    /// IANA name, if not the one of all.
    pub timezone: Option<String>,
    /// Runs begin later by a part of this.
    pub jitter: Duration,
}

/// When a job runs.
#[derive(Debug, Clone)]
pub struct Schedule {
    times: Times,
    jitter: Duration,
    seed: u64,
}

/// When occurrences are.
#[derive(Debug, Clone)]
enum Times {
    /// On the clock.
    Clock {
        crontab: Box<Crontab>,
        zone: TimeZone,
        /// Whether the hours are named: then one that comes twice is meant once, and one that is left out is made up for.
        names_hours: bool,
    },
    /// So long after the last.
    Every(SignedDuration),
}

/// What is known of a job's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// When the last run that brought a snapshot was begun; for a job without one, when the scheduler was started.
    pub last_start: Timestamp,
    /// When the last failed attempt after that ended.
    pub failed_at: Option<Timestamp>,
    /// Failed attempts in a row.
    pub failures: u32,
}

impl History {
    /// Makes a history of what lies ahead of `now` one that ends now, for what has no schedule; see [`Schedule::settle`].
    pub fn end_by(&mut self, now: Timestamp) {
        self.last_start = self.last_start.min(now);
        self.failed_at = self.failed_at.map(|at| at.min(now));
    }

    /// When a run that failed is repeated, if nothing takes its place before.
    pub fn again(&self) -> Option<Timestamp> {
        let failed_at = self.failed_at?;
        Some(failed_at.checked_add(pause(self.failures)).unwrap_or(failed_at))
    }
}

/// The next run of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Next {
    /// When it is to begin; now or earlier when it is due.
    pub at: Timestamp,
    /// Why.
    pub why: Why,
    /// Occurrences before the last one that passed without a run, [`MAX_COUNTED`] at most.
    pub missed: u32,
}

/// Why a run takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is its time.
    Scheduled,
    /// Its time passed while nothing could run.
    CaughtUp,
    /// The last attempt failed.
    Repeated,
    /// Its files changed.
    Changed,
    /// No base backup leads to the log that is received.
    BaseNeeded,
    /// A repository lacks something that another one has.
    Behind,
}

impl PlannedSchedule {
    /// Takes a time plan; `zone` is the time zone of those that name none. The system's is written by its name.
    pub fn of(timing: &Timing, zone: Option<&str>) -> Self {
        let system = || TimeZone::system().iana_name().map(str::to_owned);
        let named = timing.timezone.as_deref().or(zone).map(str::to_owned);
        Self {
            schedule: timing.schedule.clone(),
            timezone: named.or_else(system),
            jitter_seconds: timing.jitter.as_secs(),
        }
    }

    /// Returns the time plan.
    pub fn timing(&self) -> Timing {
        Timing {
            schedule: self.schedule.clone(),
            timezone: self.timezone.clone(),
            jitter: Duration::from_secs(self.jitter_seconds),
        }
    }
}

impl Schedule {
    /// Reads the schedule of a job. `zone` is the time zone of jobs that name none.
    pub fn of_job(job: &str, timing: &Timing, zone: Option<&str>, host: &str) -> Result<Self> {
        let section = format!("[job.{job}]");
        // The seed of jobs is their name alone: their jitter stays what it was before there was anything else.
        Self::timed(timing, &section, zone, &format!("{host}/{job}"))
    }

    /// Reads the schedule of what stands in `section`.
    pub fn of_timing(timing: &Timing, section: &str, zone: Option<&str>, host: &str) -> Result<Self> {
        Self::timed(timing, section, zone, &format!("{host}/{section}"))
    }

    fn timed(timing: &Timing, section: &str, zone: Option<&str>, seed: &str) -> Result<Self> {
        let section = || section.to_owned();
        let zone = match timing.timezone.as_deref().or(zone) {
            None => system_zone()?,
            Some(name) => TimeZone::get(name).map_err(|_| {
                Error::invalid(format!("unknown time zone \"{name}\""))
                    .with_hint("Write a name like Europe/Berlin or UTC.")
                    .context(section())
            })?,
        };
        Self::parse(&timing.schedule, &zone, timing.jitter, seed).with_context(section)
    }

    /// Reads five cron fields, with a time zone as sixth field or `zone`; `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`
    /// for some of them, or `@every` with a duration. `jitter` moves each run by a part of it that
    /// depends on `name` and the occurrence alone, so that many hosts do not begin at once and a restart changes nothing.
    pub fn parse(expression: &str, zone: &TimeZone, jitter: Duration, name: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::invalid(format!("schedule \"{expression}\": {why}")).with_hint(
                "Five fields: minute, hour, day of month, month, day of week; for example \"0 2 * * *\" or \"*/15 * * * *\". \
                 Or @hourly, @daily, @weekly, @monthly, @yearly, or @every 6h.",
            )
        };
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let seed = hasher.finish();
        if expression.starts_with(['"', '\'']) {
            return Err(wrong(
                "the value contains quotes; remove them from the list in the compose file".to_owned(),
            ));
        }
        let mut fields: Vec<&str> = expression.split_whitespace().collect();
        if let ["@every", interval @ ..] = fields.as_slice() {
            let times = every(&interval.concat()).map_err(|why| wrong(why.chain()))?;
            return Ok(Self { times, jitter, seed });
        }
        if let Some(word) = fields.first().copied().filter(|word| word.starts_with('@')) {
            let Some((_, meant)) = WORDS.iter().find(|(known, _)| *known == word) else {
                return Err(wrong(format!("\"{word}\" is not known")));
            };
            fields.splice(..1, meant.split(' '));
        }
        let (cron, zone) = match fields.as_slice() {
            cron @ [_, _, _, _, _] => (cron, zone.clone()),
            [cron @ .., name] if cron.len() == 5 => {
                let why = |_| {
                    if name.contains(|c: char| c.is_ascii_digit() || "*?,".contains(c)) {
                        wrong("six fields; seconds are not among them, and a sixth field is a time zone".to_owned())
                    } else {
                        wrong(format!("unknown time zone \"{name}\""))
                    }
                };
                let zone = TimeZone::get(name).map_err(why)?;
                (cron, zone)
            }
            [_] => return Err(wrong("one field instead of five".to_owned())),
            other => return Err(wrong(format!("{} fields instead of five", other.len()))),
        };
        let names_hours = cron.get(1).is_some_and(|hours| !hours.starts_with('*'));
        // Named hours are looked for on the clock's face, others in the time that passes.
        let evaluated_in = zone.iana_name().filter(|_| !names_hours).unwrap_or("UTC");
        let crontab = cronexpr::parse_crontab(&format!("{} {evaluated_in}", cron.join(" ")))
            .map_err(|e| wrong(first_line(&e.to_string())))?;
        let times = Times::Clock {
            crontab: Box::new(crontab),
            zone,
            names_hours,
        };
        let schedule = Self { times, jitter, seed };
        // "0 0 30 2 *" is well-formed and never comes.
        if schedule.after(Timestamp::UNIX_EPOCH).is_none() {
            return Err(wrong("no such day".to_owned()));
        }
        Ok(schedule)
    }

    /// Returns the first occurrence after `time`, without jitter.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let (crontab, zone, names_hours) = match &self.times {
            Times::Every(interval) => return time.checked_add(*interval).ok(),
            Times::Clock {
                crontab,
                zone,
                names_hours,
            } => (crontab, zone, *names_hours),
        };
        let find = |time| crontab.find_next(MakeTimestamp(time)).ok();
        if !names_hours {
            return Some(find(time)?.timestamp());
        }
        let mut face = time.to_zoned(zone.clone()).datetime();
        loop {
            face = find(face.to_zoned(TimeZone::UTC).ok()?.timestamp())?.datetime();
            // 02:30 where there is none becomes 03:30; where there are two, the first.
            let occurrence = face.to_zoned(zone.clone()).ok()?.timestamp();
            if occurrence > time {
                return Some(occurrence);
            }
        }
    }

    /// Returns the start that a job without a run is taken to have had when the scheduler was started at `time`. Times on a clock
    /// come by themselves; an interval has to begin somewhere, and a container that is started every hour would never come
    /// to the end of its first.
    pub fn never_ran(&self, time: Timestamp) -> Timestamp {
        match &self.times {
            Times::Clock { .. } => time,
            Times::Every(interval) => time.checked_sub(*interval).unwrap_or(time),
        }
    }

    /// Returns the latest moment at which the first occurrence after `time` begins, with all of the jitter.
    pub fn latest_after(&self, time: Timestamp) -> Option<Timestamp> {
        let jitter = SignedDuration::try_from(self.jitter).ok()?;
        self.after(time)?.checked_add(jitter).ok()
    }

    /// When an occurrence begins: later than the occurrence by a part of the jitter.
    fn begins(&self, occurrence: Timestamp) -> Timestamp {
        let seconds = self.jitter.as_secs();
        if seconds == 0 {
            return occurrence;
        }
        let mut hasher = DefaultHasher::new();
        (self.seed, occurrence.as_second()).hash(&mut hasher);
        let later = Duration::from_secs(hasher.finish() % (seconds + 1));
        occurrence.checked_add(later).unwrap_or(occurrence)
    }

    /// Makes a history of what lies ahead of `now` one that ends now: a clock was set back, or was wrong when a run began. A job
    /// that has run, by a time that is not come yet, would not be due before it.
    pub fn settle(&self, history: &mut History, now: Timestamp) {
        let last_start = self.believed(history.last_start, now);
        history.end_by(now);
        history.last_start = last_start;
    }

    /// Returns what a last start counts for. One that lies a little ahead counts: its clock was set right since, and what comes
    /// until then has had its run. One further ahead, by more than clocks may differ or by half of an interval, counts as now.
    fn believed(&self, last_start: Timestamp, now: Timestamp) -> Timestamp {
        let ahead = last_start.duration_since(now);
        if !ahead.is_positive() {
            return last_start;
        }
        let following = self.after(last_start);
        let interval = following.and_then(|next| Some(self.after(next)?.duration_since(next)));
        let most = interval.map_or(CLOCK_TOLERANCE, |interval| CLOCK_TOLERANCE.min(interval / 2));
        if ahead <= most { last_start } else { now }
    }

    /// Decides the next run. `None` when the schedule has no further occurrence.
    pub fn next(&self, history: &History, now: Timestamp) -> Option<Next> {
        // A clock that was set back must not keep the job waiting for the time it has lived through already.
        let mut occurrence = self.after(self.believed(history.last_start, now))?;
        let mut missed = 0;
        while let Some(later) = self.after(occurrence) {
            if self.begins(later) > now || missed == MAX_COUNTED {
                break;
            }
            (occurrence, missed) = (later, missed + 1);
        }
        let at = self.begins(occurrence);
        let why = match self.after(occurrence) {
            Some(after) if at < now && late(at, after, now) => Why::CaughtUp,
            _ if missed > 0 => Why::CaughtUp,
            _ => Why::Scheduled,
        };
        let scheduled = Next { at, why, missed };
        // An attempt for this occurrence, or a later moment, failed: again after a pause, unless the next is nearer.
        let Some(failed_at) = history.failed_at.filter(|failed| *failed >= at) else {
            return Some(scheduled);
        };
        let again = failed_at.checked_add(pause(history.failures)).unwrap_or(failed_at);
        let following = self.after(failed_at.max(occurrence)).map(|next| self.begins(next));
        Some(match following.filter(|next| *next <= again) {
            Some(at) => Next {
                at,
                why: Why::Scheduled,
                missed,
            },
            None => Next {
                at: again,
                why: Why::Repeated,
                missed,
            },
        })
    }
}

/// Words for five fields, as cron has them.
const WORDS: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// Reads the interval of `@every`: from a minute to a year.
fn every(text: &str) -> Result<Times> {
    let interval = parse_duration(text)?;
    let bounds = Duration::from_secs(60)..=Duration::from_secs(366 * 24 * 3600);
    match SignedDuration::try_from(interval) {
        Ok(signed) if bounds.contains(&interval) => Ok(Times::Every(signed)),
        _ => Err(Error::invalid(format!("\"{text}\" is not within a minute to a year"))),
    }
}

/// Returns the time zone of this host: that of `TZ`, else `/etc/localtime`, else UTC.
pub fn system_zone() -> Result<TimeZone> {
    check_system_zone()?;
    Ok(TimeZone::system())
}

/// Fails if `TZ` names no time zone: what was to run at two at night would run at two in the morning of UTC.
pub fn check_system_zone() -> Result<()> {
    let Some(name) = std::env::var_os("TZ").filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let name = name.to_string_lossy();
    let path = name.trim_start_matches(':');
    // What has no end would be read to its end.
    let is_endless = path.starts_with('/') && std::fs::metadata(path).is_ok_and(|found| !found.is_file());
    if !is_endless && TimeZone::try_system().is_ok() {
        return Ok(());
    }
    Err(Error::invalid(format!("TZ is \"{name}\", which is not a time zone"))
        .with_hint("Write a name like Europe/Berlin or UTC, or unset TZ."))
}

/// Whether a run that was to begin at `at` is late: by more than a minute, or by half of its interval if that is less.
fn late(at: Timestamp, after: Timestamp, now: Timestamp) -> bool {
    let interval = after.duration_since(at).abs() / 2;
    now.duration_since(at) > interval.min(SignedDuration::from_mins(1))
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> SignedDuration {
    let factor = 1u32 << failures.saturating_sub(1).min(10);
    exact::saturating_signed(FIRST_RETRY.saturating_mul(factor).min(LONGEST_RETRY))
}

fn first_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or("not understood")
        .trim_start_matches(['^', ' '])
        .to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn schedule(expression: &str) -> Schedule {
        Schedule::parse(expression, &TimeZone::UTC, Duration::ZERO, "host/full").unwrap()
    }

    fn history(last: &str) -> History {
        History {
            last_start: at(last),
            failed_at: None,
            failures: 0,
        }
    }

    #[test]
    fn a_run_waits_for_its_time() {
        let next = schedule("0 2 * * *").next(&history("2026-01-01T02:00:03Z"), at("2026-01-01T12:00:00Z"));
        let want = Next {
            at: at("2026-01-02T02:00:00Z"),
            why: Why::Scheduled,
            missed: 0,
        };
        assert_eq!(next, Some(want));
    }

    /// The clock was a year ahead when the last run began, or was set back since.
    #[test]
    fn a_due_time_does_not_hang_on_a_clock_that_was_ahead() {
        let (mut history, nightly) = (history("2027-01-01T02:00:00Z"), schedule("0 2 * * *"));
        (history.failed_at, history.failures) = (Some(at("2027-01-01T02:10:00Z")), 9);
        nightly.settle(&mut history, at("2026-01-01T12:00:00Z"));
        for now in ["2026-01-02T01:59:00Z", "2026-01-02T02:00:01Z"] {
            nightly.settle(&mut history, at(now));
            let next = nightly.next(&history, at(now)).unwrap();
            assert_eq!(next.at, at("2026-01-02T02:00:00Z"), "at {now}");
        }
    }

    #[test]
    fn a_run_is_due_at_its_time_and_not_twice() {
        let nightly = schedule("0 2 * * *");
        let next = nightly
            .next(&history("2026-01-01T02:00:03Z"), at("2026-01-02T02:00:00Z"))
            .unwrap();
        assert_eq!((next.at, next.why), (at("2026-01-02T02:00:00Z"), Why::Scheduled));
        let next = nightly
            .next(&history("2026-01-02T02:00:01Z"), at("2026-01-02T02:00:02Z"))
            .unwrap();
        assert_eq!(next.at, at("2026-01-03T02:00:00Z"));
    }

    #[test]
    fn missed_runs_are_caught_up_by_one() {
        let next = schedule("0 2 * * *")
            .next(&history("2026-01-01T02:00:03Z"), at("2026-01-05T12:00:00Z"))
            .unwrap();
        assert_eq!(
            (next.at, next.why, next.missed),
            (at("2026-01-05T02:00:00Z"), Why::CaughtUp, 3)
        );
        let long = schedule("* * * * *")
            .next(&history("2025-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"))
            .unwrap();
        assert_eq!(long.missed, MAX_COUNTED);
    }

    #[test]
    fn a_failed_run_is_repeated_with_growing_pauses_until_the_next_occurrence() {
        let nightly = schedule("0 2 * * *");
        let failed = |failures, failed_at: &str| History {
            failures,
            failed_at: Some(at(failed_at)),
            ..history("2026-01-01T02:00:03Z")
        };
        let next = |failures, failed_at: &str| nightly.next(&failed(failures, failed_at), at(failed_at)).unwrap();
        assert_eq!(next(1, "2026-01-02T02:10:00Z").at, at("2026-01-02T02:11:00Z"));
        assert_eq!(next(3, "2026-01-02T02:10:00Z").at, at("2026-01-02T02:14:00Z"));
        assert_eq!(next(40, "2026-01-02T02:10:00Z").at, at("2026-01-02T02:40:00Z"));
        let last = next(40, "2026-01-03T01:50:00Z");
        assert_eq!((last.at, last.why), (at("2026-01-03T02:00:00Z"), Why::Scheduled));
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_job() {
        let next = schedule("0 2 * * *")
            .next(&history("2026-06-01T02:00:00Z"), at("2026-01-01T12:00:00Z"))
            .unwrap();
        assert_eq!(next.at, at("2026-01-02T02:00:00Z"));
    }

    /// A leap second, a daemon that sets the clock right: what ran by the clock before is not run again by the one after.
    #[test]
    fn a_clock_set_back_by_little_brings_no_run_twice() {
        let next =
            |expression: &str, last: &str, now: &str| schedule(expression).next(&history(last), at(now)).unwrap().at;
        let nightly = |last: &str, now: &str| next("0 2 * * *", last, now);
        assert_eq!(
            nightly("2026-01-02T02:00:00Z", "2026-01-02T01:59:59.5Z"),
            at("2026-01-03T02:00:00Z")
        );
        assert_eq!(
            nightly("2026-01-02T02:00:05Z", "2026-01-02T01:50:05Z"),
            at("2026-01-03T02:00:00Z")
        );
        // By more than that it was wrong: at two by the right one, the job has not run.
        assert_eq!(
            nightly("2026-01-02T02:00:05Z", "2026-01-02T01:50:04Z"),
            at("2026-01-02T02:00:00Z")
        );
        // What runs every minute does not rest for ten.
        let minutes = |now: &str| next("* * * * *", "2026-01-02T02:00:01Z", now);
        assert_eq!(minutes("2026-01-02T01:59:40Z"), at("2026-01-02T02:01:00Z"));
        assert_eq!(minutes("2026-01-02T01:55:00Z"), at("2026-01-02T01:56:00Z"));
    }

    #[test]
    fn a_time_zone_holds_through_the_change_of_clocks() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let schedule = Schedule::parse("30 2 * * *", &berlin, Duration::ZERO, "x").unwrap();
        // 02:30 does not exist on the day the clocks go forward, and comes twice on the day they go back.
        let days = [
            "2026-03-28T12:00:00Z",
            "2026-03-29T12:00:00Z",
            "2026-10-24T12:00:00Z",
            "2026-10-25T12:00:00Z",
        ];
        let next: Vec<String> = days
            .iter()
            .map(|day| schedule.after(at(day)).unwrap().to_string())
            .collect();
        assert_eq!(
            next[..],
            [
                "2026-03-29T01:30:00Z",
                "2026-03-30T00:30:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z"
            ],
            "03:30 where there is no 02:30"
        );
        let within = |from: &str, to: &str| {
            let (mut time, mut count) = (at(from), 0);
            while let Some(next) = schedule.after(time).filter(|next| *next <= at(to)) {
                (time, count) = (next, count + 1);
            }
            count
        };
        assert_eq!(
            within("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            1,
            "once on the long day"
        );
    }

    #[test]
    fn jitter_is_the_same_after_a_restart_and_differs_between_hosts() {
        let parse = |name: &str| Schedule::parse("0 2 * * *", &TimeZone::UTC, Duration::from_secs(3600), name).unwrap();
        let next = |name: &str| {
            parse(name)
                .next(&history("2026-01-01T12:00:00Z"), at("2026-01-01T12:00:00Z"))
                .unwrap()
                .at
        };
        assert_eq!(next("a/full"), next("a/full"));
        let hosts: std::collections::BTreeSet<Timestamp> = (0..20).map(|n| next(&format!("host{n}/full"))).collect();
        assert!(hosts.len() > 10);
        assert!(
            hosts
                .iter()
                .all(|t| *t >= at("2026-01-02T02:00:00Z") && *t <= at("2026-01-02T03:00:00Z"))
        );
    }

    #[test]
    fn words_stand_for_fields() {
        let from = at("2026-01-01T12:34:56Z");
        for (word, next) in [
            ("@hourly", "2026-01-01T13:00:00Z"),
            ("@daily", "2026-01-02T00:00:00Z"),
            ("@midnight", "2026-01-02T00:00:00Z"),
            ("@weekly", "2026-01-04T00:00:00Z"),
            ("@monthly", "2026-02-01T00:00:00Z"),
            ("@yearly", "2027-01-01T00:00:00Z"),
            ("@daily Asia/Tokyo", "2026-01-01T15:00:00Z"),
        ] {
            assert_eq!(schedule(word).after(from), Some(at(next)), "{word}");
        }
    }

    /// The last run, not the start of the scheduler, is what an interval counts from.
    #[test]
    fn an_interval_counts_from_the_last_run() {
        let every = schedule("@every 6h");
        let next = |last: &str, now: &str| every.next(&history(last), at(now)).unwrap();
        let waiting = next("2026-01-01T02:10:00Z", "2026-01-01T03:00:00Z");
        assert_eq!((waiting.at, waiting.why), (at("2026-01-01T08:10:00Z"), Why::Scheduled));
        let missed = next("2026-01-01T02:10:00Z", "2026-01-02T00:00:00Z");
        assert_eq!((missed.why, missed.missed), (Why::CaughtUp, 2));
        assert_eq!(
            schedule("@every 1h 30m").after(at("2026-01-01T00:00:00Z")),
            Some(at("2026-01-01T01:30:00Z"))
        );
        // A job that never ran is due at once, and one on the clock at its time.
        let now = at("2026-01-01T12:00:00Z");
        let first = |expression: &str| {
            let schedule = schedule(expression);
            let history = History {
                last_start: schedule.never_ran(now),
                ..history("2026-01-01T00:00:00Z")
            };
            schedule.next(&history, now).unwrap().at
        };
        assert_eq!(
            (first("@every 6h"), first("0 2 * * *")),
            (now, at("2026-01-02T02:00:00Z"))
        );
        // A failed run is repeated sooner.
        let failed = History {
            failed_at: Some(at("2026-01-01T08:20:00Z")),
            failures: 1,
            ..history("2026-01-01T02:10:00Z")
        };
        let again = every.next(&failed, at("2026-01-01T08:20:00Z")).unwrap();
        assert_eq!((again.at, again.why), (at("2026-01-01T08:21:00Z"), Why::Repeated));
    }

    #[test]
    fn wrong_expressions_are_refused_with_advice() {
        for wrong in [
            "",
            "* * * *",
            "61 * * * *",
            "0 2 * * * * *",
            "\"0 2 * * *\"",
            "@dayly",
            "@every",
            "@every 6",
            "@every 5s",
            "@every 400d",
            "@daily 5",
            "0 0 2 * * *",
            "0 0 30 2 *",
            "0 2 * * * Nowhere/City",
        ] {
            let error = Schedule::parse(wrong, &TimeZone::UTC, Duration::ZERO, "x").unwrap_err();
            assert!(error.hint().is_some(), "{wrong}: {}", error.chain());
        }
    }
}
