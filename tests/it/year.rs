//! A year of a real schedule on a clock of its own: daily database, Redis every six hours, configuration after every
//! change, weekly full, monthly archive, in a zone with summer time, with failed runs, failed sources and a week without
//! power. The product's scheduler, keep rules, removal and sweep work on a store in memory. At each month end the
//! snapshots that are left are compared with what the rules say of everything that was ever made, computed here by another
//! algorithm, with a calendar of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use wirevault::config;
use wirevault::engines::SourceOutcome;
use wirevault::policy::retention::{RetentionPolicy, SnapshotFacts, decide};
use wirevault::policy::schedule::{History, Next, Schedule};
use wirevault::repository::{Manifest, ManifestSource, Repository, SnapshotId, SweepOptions, document, layout};
use wirevault::storage::memory::MemoryStore;
use wirevault::storage::{ObjectKey, ObjectOptions, ObjectStore, PutMode, SharedStore};

const GUIDE: &str = r#"
timezone = "Europe/Berlin"
[repository]
url = "file:///nowhere"
[source.db]
kind = "postgres"
url = "postgres://app@db/app"
[source.redis]
kind = "redis"
url = "redis://cache"
[source.config]
kind = "files"
root = "/opt/app"
[job.database]
sources = ["db"]
schedule = "0 2 * * *"
keep = { daily = 30 }
[job.redis]
sources = ["redis"]
schedule = "0 */6 * * *"
keep = { within_days = 7 }
[job.config]
sources = ["config"]
keep = { within_days = 90, minimum = 3 }
[job.full]
sources = ["db", "redis", "config"]
schedule = "0 3 * * 0"
keep = { weekly = 12 }
[job.archive]
sources = ["db", "redis", "config"]
schedule = "0 4 1 * *"
keep = { monthly = 12 }
"#;

/// What was made, whether it is still there or not.
#[derive(Clone)]
struct Made {
    id: SnapshotId,
    job: String,
    at: i64,
    sources: BTreeMap<String, bool>,
}

struct Job {
    name: String,
    sources: Vec<String>,
    policy: RetentionPolicy,
    schedule: Option<Schedule>,
    /// Changes of the configuration, for the job that runs after each.
    changes: Vec<Timestamp>,
    history: History,
}

impl Job {
    fn next(&self, now: Timestamp) -> Option<Next> {
        match &self.schedule {
            Some(schedule) => schedule.next(&self.history, now),
            None => self.changes.first().map(|at| Next {
                at: *at,
                why: wirevault::policy::schedule::Why::Scheduled,
                missed: 0,
            }),
        }
    }
}

/// A small generator with a seed that is printed: the year is the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

struct Year {
    store: Arc<MemoryStore>,
    repository: Repository,
    jobs: Vec<Job>,
    zone: TimeZone,
    made: Vec<Made>,
    failed_runs: u32,
    caught_up: u32,
    expired: usize,
    swept: u64,
}

impl Year {
    async fn begin(start: Timestamp, dice: &mut Dice) -> Self {
        let config = config::parse("guide.toml", GUIDE).unwrap();
        let store = Arc::new(MemoryStore::new());
        let repository = Repository::init(Arc::clone(&store) as SharedStore).await.unwrap();
        let make = |job: &config::JobConfig| Job {
            name: job.name.clone(),
            sources: job.sources.clone(),
            policy: RetentionPolicy::from(job.keep.as_ref().unwrap()),
            schedule: job.schedule(config.timezone.as_deref(), "web1").unwrap(),
            changes: Vec::new(),
            history: History {
                last_start: start,
                failed_at: None,
                failures: 0,
            },
        };
        let mut jobs: Vec<Job> = config.jobs.iter().map(make).collect();
        let mut change = start;
        let on_change = jobs.iter_mut().find(|job| job.schedule.is_none()).unwrap();
        for _ in 0..90 {
            // Nothing changes in summer, so that the ninety days run out.
            let pause = if change.to_string().contains("-06-") {
                120
            } else {
                1 + dice.roll(7)
            };
            change += SignedDuration::from_secs((pause * 86_400 + dice.roll(86_400)) as i64);
            on_change.changes.push(change);
        }
        Self {
            store,
            repository,
            jobs,
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            made: Vec::new(),
            failed_runs: 0,
            caught_up: 0,
            expired: 0,
            swept: 0,
        }
    }

    async fn set_clock(&self, now: Timestamp) {
        let shows = self.store.now().await.unwrap();
        self.store.advance(now.duration_since(shows));
    }

    async fn put(&self, key: ObjectKey, body: Vec<u8>) {
        let options = ObjectOptions::default();
        self.store
            .put(&key, Bytes::from(body), PutMode::Create, &options)
            .await
            .unwrap();
    }

    /// One run in thirty fails; in one of twelve that does not, one of several sources does.
    async fn run(&mut self, at: usize, now: Timestamp, dice: &mut Dice) {
        let sources = self.jobs[at].sources.clone();
        let name = self.jobs[at].name.clone();
        let failed = dice.roll(30) == 0;
        if self.jobs[at].schedule.is_none() {
            self.jobs[at].changes.remove(0);
        }
        let history = &mut self.jobs[at].history;
        if failed {
            self.failed_runs += 1;
            history.failed_at = Some(now);
            history.failures += 1;
            return;
        }
        *history = History {
            last_start: now,
            failed_at: None,
            failures: 0,
        };
        let bad = (sources.len() > 1 && dice.roll(12) == 0).then(|| dice.roll(sources.len() as u64) as usize);
        let id = SnapshotId::new(now, &name, dice.roll(u64::MAX));
        let outcome = || SourceOutcome {
            versions: BTreeMap::new(),
            position: BTreeMap::new(),
            consistent_at: now,
            raw_bytes: 1,
            items: 1,
            note_counts: BTreeMap::new(),
            archives: Vec::new(),
        };
        let source = |(index, name): (usize, &String)| ManifestSource {
            name: name.clone(),
            kind: "files".to_owned(),
            started: now,
            finished: now,
            outcome: (bad != Some(index)).then(outcome),
            error: None,
            optional: false,
        };
        let manifest = Manifest {
            format: document::FORMAT,
            repository: self.repository.id().to_owned(),
            id: id.clone(),
            host: "web1".to_owned(),
            job: name.clone(),
            started: now,
            finished: now,
            previous: None,
            skew_seconds: 0.0,
            sources: sources.iter().enumerate().map(source).collect(),
            plan: serde_json::Value::Null.into(),
            program: "test".to_owned(),
        };
        let data = ObjectKey::new(format!("{}db/0000.tar.zst", layout::data(&id))).unwrap();
        self.put(data, b"data".to_vec()).await;
        self.put(layout::manifest(&id).unwrap(), document::encode(&manifest).unwrap())
            .await;
        self.made.push(Made {
            id,
            job: name,
            at: now.as_second(),
            sources: manifest
                .sources
                .iter()
                .map(|s| (s.name.clone(), s.outcome.is_some()))
                .collect(),
        });
    }

    /// What `run` does once a day: keep rules of every job, then a sweep.
    async fn prune(&mut self, now: Timestamp) {
        let survey = self
            .repository
            .survey(|manifest: &Manifest| SnapshotFacts::from(manifest))
            .await
            .unwrap();
        let policy = |_: &str, job: &str| self.jobs.iter().find(|j| j.name == job).map(|j| j.policy);
        let plan = decide(&survey.snapshots, policy, now, &self.zone);
        plan.check().unwrap();
        for id in plan.expired() {
            self.repository.remove_snapshot(id).await.unwrap();
            self.expired += 1;
        }
        let plan = self
            .repository
            .sweep_plan(self.store.now().await.unwrap(), &SweepOptions::default())
            .await
            .unwrap();
        let report = self.repository.sweep(&plan).await;
        assert!(report.failures.is_empty());
        self.swept += report.objects;
    }

    /// Data whose snapshot is gone for more than the grace and a day.
    async fn left_over(&self) -> usize {
        let kept: BTreeSet<SnapshotId> = self.repository.list().await.unwrap().into_iter().collect();
        let page = self.store.list(layout::DATA, None).await.unwrap();
        assert!(page.next.is_none());
        page.objects
            .iter()
            .filter(|object| layout::id_in(&object.key, layout::DATA, "/").is_none_or(|id| !kept.contains(&id)))
            .count()
    }
}

/// Central European time by its rule: summer from the last Sunday of March to that of October, 01:00 UTC.
fn berlin(second: i64) -> i64 {
    let (year, _, _) = date(second.div_euclid(86_400));
    let last_sunday = |month: i64| {
        let last = days(year, month, 31);
        // 1970-01-01 was a Thursday: Sunday is day 3 of that count.
        last - (last - 3).rem_euclid(7)
    };
    let summer = last_sunday(3) * 86_400 + 3600..last_sunday(10) * 86_400 + 3600;
    second + if summer.contains(&second) { 7200 } else { 3600 }
}

/// Days since 1970 of a date of the Gregorian calendar, by counting.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let leap = |y: i64| y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    let lengths = |y: i64| {
        [
            31,
            if leap(y) { 29 } else { 28 },
            31,
            30,
            31,
            30,
            31,
            31,
            30,
            31,
            30,
            31,
        ]
    };
    let years: i64 = (1970..year).map(|y| if leap(y) { 366 } else { 365 }).sum();
    let months: i64 = lengths(year)[..(month - 1) as usize].iter().sum();
    years + months + day - 1
}

fn date(day: i64) -> (i64, i64, i64) {
    let mut year = 1970;
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let month = (1..=12).rev().find(|m| days(year, *m, 1) <= day).unwrap();
    (year, month, day - days(year, month, 1) + 1)
}

/// How many periods are kept, and the number of the period of a snapshot.
type Rule = (u32, Box<dyn Fn(&Made) -> i64>);

/// The rules over everything that was ever made: maps from period to newest, not a walk.
fn expected(made: &[Made], job: &Job, now: i64) -> BTreeSet<SnapshotId> {
    let mine: Vec<&Made> = made.iter().filter(|m| m.job == job.name).collect();
    let mut histories: Vec<Vec<&Made>> = vec![
        mine.iter()
            .filter(|m| m.sources.values().all(|ok| *ok))
            .copied()
            .collect(),
    ];
    for source in &job.sources {
        histories.push(mine.iter().filter(|m| m.sources[source]).copied().collect());
    }
    let mut keep = BTreeSet::new();
    for history in &histories {
        keep.extend(history.last().map(|m| m.id.clone()));
        let young = |m: &&&Made| now - m.at <= i64::from(job.policy.within_days) * 86_400;
        keep.extend(
            history
                .iter()
                .filter(young)
                .filter(|_| job.policy.within_days > 0)
                .map(|m| m.id.clone()),
        );
        let day = |m: &Made| berlin(m.at).div_euclid(86_400);
        let period: [Rule; 3] = [
            (job.policy.daily, Box::new(day)),
            // Weeks from Monday, counted from Monday 1969-12-29.
            (job.policy.weekly, Box::new(move |m| (day(m) + 3).div_euclid(7))),
            (
                job.policy.monthly,
                Box::new(move |m| date(day(m)).0 * 12 + date(day(m)).1),
            ),
        ];
        for (count, period) in &period {
            let newest: BTreeMap<i64, &SnapshotId> = history.iter().map(|m| (period(m), &m.id)).collect();
            keep.extend(newest.values().rev().take(*count as usize).map(|id| (*id).clone()));
        }
    }
    for history in &histories {
        let mut rest = history
            .iter()
            .rev()
            .filter(|m| !keep.contains(&m.id))
            .map(|m| m.id.clone())
            .collect::<Vec<_>>();
        rest.reverse();
        while history.iter().filter(|m| keep.contains(&m.id)).count() < job.policy.minimum as usize {
            let Some(newest) = rest.pop() else { break };
            keep.insert(newest);
        }
    }
    keep
}

#[tokio::test]
async fn a_year_of_the_schedule_keeps_what_the_rules_say() {
    let mut dice = Dice(20_260_101);
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let start: Timestamp = "2025-12-31T23:00:00Z".parse().unwrap();
    let mut year = Year::begin(start, &mut dice).await;
    let mut now = start;
    let dark: std::ops::Range<Timestamp> =
        "2026-08-10T12:00:00Z".parse().unwrap().."2026-08-17T12:00:00Z".parse().unwrap();
    let mut month_ends: Vec<Timestamp> = (1..=12)
        .map(|month| {
            let first = jiff::civil::date(if month == 12 { 2027 } else { 2026 }, month % 12 + 1, 1);
            first.to_zoned(zone.clone()).unwrap().timestamp() - SignedDuration::from_secs(1)
        })
        .collect();
    let mut next_prune = start;
    let mut table = String::from("| month end | database | redis | config | full | archive | all |\n");
    while let Some(month_end) = month_ends.first().copied() {
        let due = (0..year.jobs.len()).filter_map(|at| Some((year.jobs[at].next(now)?, at)));
        let (next, at) = due.min_by_key(|(next, at)| (next.at, *at)).unwrap();
        let begins = next.at.max(now).min(next_prune.max(now)).min(month_end);
        now = if dark.contains(&begins) { dark.end } else { begins };
        year.set_clock(now).await;
        if now >= month_end {
            year.prune(now).await;
            let mut left: BTreeSet<SnapshotId> = year.repository.list().await.unwrap().into_iter().collect();
            let mut row = Vec::new();
            for name in ["database", "redis", "config", "full", "archive"] {
                let job = year.jobs.iter().find(|job| job.name == name).unwrap();
                let wanted = expected(&year.made, job, now.as_second());
                let of_job: BTreeSet<SnapshotId> = left
                    .iter()
                    .filter(|id| year.made.iter().any(|m| m.id == **id && m.job == name))
                    .cloned()
                    .collect();
                assert_eq!(of_job, wanted, "{name} at {now}");
                left.retain(|id| !of_job.contains(id));
                row.push(of_job.len());
            }
            assert!(left.is_empty());
            let day = now.to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string();
            let cells: Vec<String> = row.iter().map(ToString::to_string).collect();
            table += &format!("| {day} | {} | {} |\n", cells.join(" | "), row.iter().sum::<usize>());
            month_ends.remove(0);
        } else if now >= next_prune {
            year.prune(now).await;
            next_prune = now + SignedDuration::from_hours(24);
        } else {
            year.caught_up += u32::from(next.missed > 0);
            year.run(at, now, &mut dice).await;
        }
    }
    println!("{table}");
    // The data of the last removed ones wait for their grace.
    now += SignedDuration::from_hours(25);
    year.set_clock(now).await;
    year.prune(now).await;
    year.set_clock(now + SignedDuration::from_hours(25)).await;
    year.prune(now).await;
    let left_over = year.left_over().await;
    println!(
        "{} snapshots made, {} runs failed, {} caught up after {:?}; {} expired, {} objects swept, {left_over} left over",
        year.made.len(),
        year.failed_runs,
        year.caught_up,
        dark,
        year.expired,
        year.swept
    );
    assert_eq!(left_over, 0);
    let count = |job: &str| year.made.iter().filter(|m| m.job == job).count();
    assert!(count("database") > 350 && count("redis") > 1400 && count("full") >= 51 && count("archive") == 12);
}
