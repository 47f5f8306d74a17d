#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions)]

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::ISOWeekDate;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn snapshot(started: Timestamp, job: &str, sources: &[(&str, bool)], random: u64) -> SnapshotFacts {
    SnapshotFacts {
        id: SnapshotId::new(started, job, random),
        host: "web1".to_owned(),
        job: job.to_owned(),
        started,
        finished: started,
        sources: sources.iter().map(|(name, ok)| ((*name).to_owned(), *ok)).collect(),
        optional: BTreeSet::new(),
        pin: None,
    }
}

fn kept(facts: &[SnapshotFacts], policy: RetentionPolicy, now: &str) -> Vec<String> {
    let plan = decide(facts, |_, _| Some(policy), at(now), &TimeZone::UTC);
    assert_eq!(plan.decisions.len(), facts.len());
    plan.kept().map(|id| id.as_str()[..11].to_owned()).collect()
}

fn days(good: &[(&str, bool)]) -> Vec<SnapshotFacts> {
    let one = |(day, ok): &(&str, bool)| snapshot(at(&format!("{day}T02:00:00Z")), "full", &[("db", *ok)], 1);
    good.iter().map(one).collect()
}

#[test]
fn a_policy_reads_as_the_configuration_writes_it() {
    let policy: RetentionPolicy = toml::from_str("last = 3\ndaily = 30").unwrap();
    assert_eq!((policy.last, policy.daily, policy.yearly), (3, 30, 0));
    assert!(toml::from_str::<RetentionPolicy>("dayly = 30").is_err());
}

#[test]
fn without_a_rule_everything_stays() {
    let facts = days(&[("2020-01-01", true), ("2026-01-01", false)]);
    let plan = decide(&facts, |_, _| None, at("2026-02-01T00:00:00Z"), &TimeZone::UTC);
    assert_eq!(plan.expired().count(), 0);
    assert_eq!(
        kept(&facts, RetentionPolicy::default(), "2026-02-01T00:00:00Z").len(),
        2
    );
}

#[test]
fn a_failed_snapshot_takes_no_place_and_the_last_good_one_stays() {
    let facts = days(&[
        ("2026-01-01", true),
        ("2026-01-02", true),
        ("2026-01-03", false),
        ("2026-01-04", false),
    ]);
    let policy = RetentionPolicy {
        last: 1,
        ..Default::default()
    };
    assert_eq!(kept(&facts, policy, "2026-01-05T00:00:00Z"), ["20260102T02"]);
    let within = RetentionPolicy {
        within_days: 1,
        ..Default::default()
    };
    assert_eq!(kept(&facts, within, "2026-06-01T00:00:00Z"), ["20260102T02"]);
}

/// One source fails for weeks: the other keeps its history, and the last good state of the failed one stays.
#[test]
fn a_source_that_fails_costs_the_others_nothing() {
    let mut facts = Vec::new();
    for day in 1..=20 {
        let started = at(&format!("2026-01-{day:02}T02:00:00Z"));
        facts.push(snapshot(started, "full", &[("db", true), ("cache", day < 5)], 1));
    }
    let policy = RetentionPolicy {
        daily: 3,
        ..Default::default()
    };
    let expected: Vec<_> = [2, 3, 4, 18, 19, 20]
        .iter()
        .map(|day| format!("202601{day:02}T02"))
        .collect();
    assert_eq!(kept(&facts, policy, "2026-01-21T00:00:00Z"), expected);
}

#[test]
fn a_source_that_was_renamed_ages_out() {
    let mut facts = Vec::new();
    for day in 1..=9 {
        let name = if day < 6 { "db" } else { "database" };
        let started = at(&format!("2026-01-{day:02}T02:00:00Z"));
        facts.push(snapshot(started, "full", &[(name, true)], 1));
    }
    let policy = RetentionPolicy {
        last: 2,
        ..Default::default()
    };
    assert_eq!(
        kept(&facts, policy, "2026-01-10T00:00:00Z"),
        ["20260108T02", "20260109T02"]
    );
}

#[test]
fn jobs_and_hosts_do_not_share_their_places() {
    let mut facts = days(&[("2026-01-01", true), ("2026-01-02", true)]);
    facts.push(snapshot(at("2026-01-03T02:00:00Z"), "other", &[("db", true)], 1));
    let mut elsewhere = snapshot(at("2026-01-04T02:00:00Z"), "full", &[("db", true)], 1);
    elsewhere.host = "web2".to_owned();
    facts.push(elsewhere);
    let policy = RetentionPolicy {
        last: 1,
        ..Default::default()
    };
    assert_eq!(
        kept(&facts, policy, "2026-01-05T00:00:00Z"),
        ["20260102T02", "20260103T02", "20260104T02"]
    );
}

#[test]
fn days_are_those_of_the_time_zone() {
    // 23:30 and 00:30 UTC: two days in UTC, one in Berlin.
    let facts = [
        snapshot(at("2026-01-01T23:30:00Z"), "full", &[("db", true)], 1),
        snapshot(at("2026-01-02T00:30:00Z"), "full", &[("db", true)], 2),
    ];
    let policy = |_: &str, _: &str| {
        Some(RetentionPolicy {
            daily: 5,
            ..Default::default()
        })
    };
    let now = at("2026-01-03T00:00:00Z");
    let berlin = TimeZone::fixed(jiff::tz::offset(1));
    assert_eq!(decide(&facts, policy, now, &TimeZone::UTC).expired().count(), 0);
    assert_eq!(decide(&facts, policy, now, &berlin).expired().count(), 1);
}

#[test]
fn a_plan_prints_a_reason_for_each_snapshot() {
    let facts = days(&[("2026-01-01", true), ("2026-01-02", true)]);
    let policy = |_: &str, _: &str| {
        Some(RetentionPolicy {
            last: 1,
            weekly: 1,
            ..Default::default()
        })
    };
    let plan = decide(&facts, policy, at("2026-01-03T00:00:00Z"), &TimeZone::UTC);
    assert_eq!(
        plan.to_string(),
        "expire 20260101T020000Z-full-0000000000000001: no rule keeps it\n\
         keep   20260102T020000Z-full-0000000000000001: newest complete, newest with source \"db\", last, weekly 2026-W01\n"
    );
}

/// The naive oracle: for each history and rule, walk every period of the calendar from scratch.
fn oracle(facts: &[SnapshotFacts], policy: RetentionPolicy, now: Timestamp, zone: &TimeZone) -> BTreeSet<SnapshotId> {
    let mut keep = BTreeSet::new();
    let groups: BTreeSet<_> = facts.iter().map(|f| (f.host.clone(), f.job.clone())).collect();
    for (host, job) in groups {
        let group: Vec<_> = facts.iter().filter(|f| f.host == host && f.job == job).collect();
        let newest = group.iter().max_by_key(|f| (f.started, f.id.clone())).unwrap();
        let mut histories = vec![group.iter().filter(|f| f.is_complete()).copied().collect::<Vec<_>>()];
        for name in newest.sources.keys() {
            histories.push(
                group
                    .iter()
                    .filter(|f| f.sources.get(name) == Some(&true))
                    .copied()
                    .collect(),
            );
        }
        for history in &histories {
            keep.extend(naive(history, policy, now, zone));
        }
        for mut history in histories {
            history.sort_by_key(|f| std::cmp::Reverse((f.started, f.id.clone())));
            while history.iter().filter(|f| keep.contains(&f.id)).count() < policy.minimum as usize {
                let Some(newest) = history.iter().find(|f| !keep.contains(&f.id)) else {
                    break;
                };
                keep.insert(newest.id.clone());
            }
        }
    }
    if policy.is_empty() {
        facts.iter().map(|f| f.id.clone()).collect()
    } else {
        keep
    }
}

type NaiveRule = (u32, Box<dyn Fn(&Zoned) -> Vec<i64>>);

fn naive(history: &[&SnapshotFacts], policy: RetentionPolicy, now: Timestamp, zone: &TimeZone) -> Vec<SnapshotId> {
    let order = |f: &&SnapshotFacts| (f.started, f.id.clone());
    let newer = |f: &SnapshotFacts| history.iter().filter(|o| order(o) > (f.started, f.id.clone())).count();
    let local = |f: &SnapshotFacts| f.started.to_zoned(zone.clone());
    let week = |time: &Zoned| {
        let week = ISOWeekDate::from(time.date());
        (week.year(), i16::from(week.week()))
    };
    let keys: [NaiveRule; 5] = [
        (
            policy.hourly,
            Box::new(|t| {
                vec![
                    (t.timestamp().as_second() + i64::from(t.offset().seconds())).div_euclid(3600),
                    t.offset().seconds().into(),
                ]
            }),
        ),
        (
            policy.daily,
            Box::new(|t| vec![t.year().into(), t.month().into(), t.day().into()]),
        ),
        (
            policy.weekly,
            Box::new(move |t| vec![week(t).0.into(), week(t).1.into()]),
        ),
        (policy.monthly, Box::new(|t| vec![t.year().into(), t.month().into()])),
        (policy.yearly, Box::new(|t| vec![t.year().into()])),
    ];
    let mut keep = Vec::new();
    for f in history {
        let rank = newer(f);
        let young = now.as_second() - f.started.as_second() <= i64::from(policy.within_days) * 86_400;
        let mut stays = rank == 0 || rank < policy.last as usize || (policy.within_days > 0 && young);
        for (wanted, key) in &keys {
            let mine = key(&local(f));
            let newest_of_it = !history
                .iter()
                .any(|o| order(o) > (f.started, f.id.clone()) && key(&local(o)) == mine);
            let newer_periods: BTreeSet<_> = history
                .iter()
                .filter(|o| order(o) > (f.started, f.id.clone()))
                .map(|o| key(&local(o)))
                .collect();
            stays |= newest_of_it && newer_periods.len() < *wanted as usize;
        }
        if stays {
            keep.push(f.id.clone());
        }
    }
    keep
}

fn histories() -> impl Strategy<Value = Vec<SnapshotFacts>> {
    // Steps of whole seconds between ten minutes and six weeks, two hosts, two jobs, sources that come, fail and go.
    let sources = proptest::collection::btree_map("[abc]", proptest::bool::weighted(0.8), 0..4);
    let step = (600_i64..3_600_000, 0..2_u8, 0..2_u8, sources);
    proptest::collection::vec(step, 0..60).prop_map(|steps| {
        let mut time = at("2024-10-20T00:00:00Z");
        let make = |(index, (step, host, job, sources)): (usize, (i64, u8, u8, BTreeMap<String, bool>))| {
            time = time
                .checked_add(SignedDuration::from_secs(step / if index % 3 == 0 { 1 } else { 200 }))
                .unwrap();
            let job = format!("job{job}");
            SnapshotFacts {
                id: SnapshotId::new(time, &job, index as u64),
                host: format!("host{host}"),
                job,
                started: time,
                finished: time,
                sources,
                optional: BTreeSet::new(),
                pin: None,
            }
        };
        steps.into_iter().enumerate().map(make).collect()
    })
}

fn policies() -> impl Strategy<Value = RetentionPolicy> {
    let calendar = (0..5_u32, 0..5_u32, 0..5_u32, 0..5_u32, 0..3_u32);
    (0..4_u32, 0..40_u32, calendar, 0..6_u32).prop_map(
        |(last, within_days, (hourly, daily, weekly, monthly, yearly), minimum)| RetentionPolicy {
            last,
            within_days,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            minimum,
        },
    )
}

#[test]
fn a_pin_and_the_minimum_stand_above_the_rules() {
    let mut facts = days(&[
        ("2026-01-01", true),
        ("2026-01-02", true),
        ("2026-01-03", false),
        ("2026-01-04", true),
        ("2026-01-05", true),
    ]);
    facts[0].pin = Some("before the move".to_owned());
    let policy = RetentionPolicy {
        last: 1,
        ..Default::default()
    };
    let now = "2026-02-01T00:00:00Z";
    assert_eq!(kept(&facts, policy, now), ["20260101T02", "20260105T02"]);
    // The pinned one counts, the failed one does not.
    let three = RetentionPolicy { minimum: 3, ..policy };
    assert_eq!(kept(&facts, three, now), ["20260101T02", "20260104T02", "20260105T02"]);
    let plan = decide(&facts, |_, _| Some(three), at(now), &TimeZone::UTC);
    let said: Vec<String> = plan.decisions.iter().map(ToString::to_string).collect();
    assert!(said[0].ends_with(": pinned: before the move"), "{said:?}");
    assert!(
        said[1].starts_with("expire") && said[1].ends_with("no rule keeps it"),
        "{said:?}"
    );
    assert!(said[2].ends_with("failed sources take no place"), "{said:?}");
    assert!(said[3].ends_with(": minimum"), "{said:?}");
}

#[test]
fn a_plan_that_leaves_a_job_nothing_is_refused() {
    let facts = days(&[("2026-01-01", true), ("2026-01-02", true)]);
    let decide_with = |keeps: bool| PrunePlan {
        decisions: facts
            .iter()
            .map(|snapshot| Decision {
                snapshot: snapshot.clone(),
                reasons: keeps.then_some(Reason::Last).into_iter().collect(),
            })
            .collect(),
    };
    decide_with(true).check().unwrap();
    let mut plan = decide_with(false);
    let refused = plan.check().unwrap_err();
    assert!(
        refused.message().contains("every snapshot of job \"full\""),
        "{refused:?}"
    );
    plan.keep(&facts[0].id, &Reason::Locked(Timestamp::MAX));
    plan.check().unwrap();
}

proptest! {
    #[test]
    fn random_histories_agree_with_the_oracle(facts in histories(), policy in policies(), ahead in 0_i64..5_000_000) {
        let zone = TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC);
        let newest = facts.iter().map(|f| f.started).max().unwrap_or(Timestamp::UNIX_EPOCH);
        let now = newest.checked_add(SignedDuration::from_secs(ahead - 600)).unwrap();
        let plan = decide(&facts, |_, _| Some(policy), now, &zone);
        let kept: BTreeSet<_> = plan.kept().cloned().collect();
        prop_assert_eq!(&kept, &oracle(&facts, policy, now, &zone));
        // Deciding again after the expired ones are gone expires nothing more: plans do not creep. (When the newest
        // snapshot of a job expired because nothing in it succeeded, another one says which sources the job has.)
        let left: Vec<_> = facts.iter().filter(|f| kept.contains(&f.id)).cloned().collect();
        let newer_stays = |f: &SnapshotFacts| left.iter().any(|l| (&l.host, &l.job) == (&f.host, &f.job) && l.started >= f.started);
        if facts.iter().all(newer_stays) {
            prop_assert_eq!(decide(&left, |_, _| Some(policy), now, &zone).expired().count(), 0);
        }
    }
}

/// A clock that was off by a year once must not cost a job the snapshots it makes since.
#[test]
fn what_a_wrong_clock_dated_ahead_stays_and_takes_no_place() {
    let facts = days(&[
        ("2026-01-01", true),
        ("2026-01-02", true),
        ("2026-01-03", true),
        ("2027-02-01", true),
        ("2027-02-02", true),
    ]);
    let policy = RetentionPolicy {
        last: 2,
        ..Default::default()
    };
    assert_eq!(
        kept(&facts, policy, "2026-01-03T03:00:00Z"),
        ["20260102T02", "20260103T02", "20270201T02", "20270202T02"]
    );
    let plan = decide(&facts, |_, _| Some(policy), at("2026-01-03T03:00:00Z"), &TimeZone::UTC);
    assert!(plan.to_string().contains("dated in the future"), "{plan}");
    plan.check().unwrap();
}

/// No rule of a job is asked about what restores put aside, and nothing of it is the last good one of anything.
#[test]
fn what_was_taken_before_a_restore_goes_after_seven_days() {
    let facts = [
        snapshot(at("2026-01-01T02:00:00Z"), "pre-restore", &[("cache", true)], 1),
        snapshot(at("2026-01-05T02:00:00Z"), "pre-restore", &[("cache", true)], 2),
    ];
    let all = RetentionPolicy {
        last: 9,
        ..Default::default()
    };
    assert_eq!(
        kept(&facts, all, "2026-01-08T01:00:00Z"),
        ["20260101T02", "20260105T02"]
    );
    assert_eq!(kept(&facts, all, "2026-01-09T02:00:00Z"), ["20260105T02"]);
    let plan = decide(&facts, |_, _| None, at("2026-02-01T00:00:00Z"), &TimeZone::UTC);
    assert_eq!(plan.kept().count(), 0);
    plan.check().unwrap();
}

/// Backups by hand share one job; the only copy of one source must not go because another was backed up later.
#[test]
fn ad_hoc_backups_of_other_sources_do_not_compete() {
    let facts = [
        snapshot(at("2026-02-01T02:00:00Z"), "adhoc", &[("db", true)], 1),
        snapshot(at("2026-02-02T02:00:00Z"), "adhoc", &[("etc", true)], 2),
        snapshot(at("2026-02-03T02:00:00Z"), "adhoc", &[("db", true)], 3),
    ];
    let policy = RetentionPolicy {
        last: 1,
        ..RetentionPolicy::default()
    };
    assert_eq!(
        kept(&facts, policy, "2026-02-04T00:00:00Z"),
        ["20260202T02", "20260203T02"]
    );
}
