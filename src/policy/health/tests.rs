//! Every state, out of facts alone.

#![allow(clippy::unwrap_used)]

use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::repository::PlannedSchedule;
use crate::repository::record::RecordedSource;
use crate::repository::{Evidence, RunOutcome, TaskKind};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn nightly() -> PlannedSchedule {
    PlannedSchedule {
        schedule: "0 2 * * *".to_owned(),
        timezone: Some("UTC".to_owned()),
        jitter_seconds: 0,
    }
}

fn taken(day: u32, sources: &[(&str, bool)]) -> SnapshotFact {
    let started = at(&format!("2026-01-{day:02}T02:00:00Z"));
    let source = |(name, good): &(&str, bool)| SourceFact {
        name: (*name).to_owned(),
        good: *good,
        optional: false,
        stored_bytes: 100,
    };
    SnapshotFact {
        id: SnapshotId::new(started, "full", u64::from(day)),
        host: "web1".to_owned(),
        job: "full".to_owned(),
        started,
        finished: started.checked_add(SignedDuration::from_mins(5)).unwrap(),
        sources: sources.iter().map(source).collect(),
        schedule: Some(nightly()),
    }
}

fn run(day: u32, outcome: RunOutcome, snapshots: &[&SnapshotFact]) -> RunRecord {
    let started = at(&format!("2026-01-{day:02}T02:00:00Z"));
    RunRecord {
        format: 1,
        host: "web1".to_owned(),
        task: TaskKind::Backup,
        name: "full".to_owned(),
        started,
        ended: started.checked_add(SignedDuration::from_mins(6)).unwrap(),
        outcome,
        error: (outcome != RunOutcome::Done).then(|| "no route to host".to_owned()),
        hint: None,
        log: vec![],
        snapshots: snapshots.iter().map(|one| one.id.clone()).collect(),
        sources: vec![wanted("db")],
        schedule: Some(nightly()),
        program: "test".to_owned(),
    }
}

fn wanted(name: &str) -> RecordedSource {
    RecordedSource {
        name: name.to_owned(),
        optional: false,
    }
}

fn came_of(proved: &serde_json::Value) -> Option<Verification> {
    let snapshot = taken(5, &[("db", true)]);
    Verification::of_document(&Proved::read(snapshot.id, proved))
}

fn proof(of: &SnapshotFact, time: &str, proved: &serde_json::Value) -> Proof {
    let evidence = Evidence {
        snapshot: of.id.clone(),
        time: at(time),
        proved: Proved::read(of.id.clone(), proved),
    };
    Proof::of(&evidence).unwrap()
}

/// Noon of a day.
fn noon(day: u32) -> Timestamp {
    at(&format!("2026-01-{day:02}T12:00:00Z"))
}

fn facts(snapshots: Vec<SnapshotFact>) -> Facts {
    Facts {
        repository: "near".to_owned(),
        snapshots,
        ..Facts::default()
    }
}

fn only(health: &Health) -> &SourceHealth {
    assert_eq!(health.sources.len(), 1, "{health:?}");
    &health.sources[0]
}

fn states(health: &Health) -> Vec<State> {
    let mut states: Vec<State> = health.findings.iter().map(|finding| finding.state).collect();
    states.sort();
    states
}

#[test]
fn a_snapshot_within_its_schedule_is_ok_and_later_overdue() {
    let facts = facts(vec![taken(4, &[("db", true)]), taken(5, &[("db", true)])]);
    let health = assess(&facts, noon(5));
    assert_eq!(
        (health.state(), only(&health).state),
        (State::Ok, State::Ok),
        "{health:?}"
    );
    assert_eq!(only(&health).newest_good.as_ref(), Some(&facts.snapshots[1].id));
    assert_eq!(
        (only(&health).age_seconds, only(&health).stored_bytes),
        (Some(10 * 3600), 100)
    );
    // An hour and the length of the last one are allowed.
    assert!(assess(&facts, at("2026-01-06T03:04:00Z")).state().is_ok());
    let health = assess(&facts, at("2026-01-06T03:06:00Z"));
    assert!(only(&health).overdue, "{health:?}");
    assert_eq!(states(&health), [State::Overdue]);
}

#[test]
fn a_job_that_was_never_backed_up_is_not_ok() {
    let mut facts = facts(vec![]);
    facts.expected = Expected {
        host: "web1".to_owned(),
        jobs: Some(vec![ExpectedJob {
            name: "full".to_owned(),
            sources: vec![wanted("db")],
            schedule: Some(nightly()),
        }]),
        runs_here: true,
        tasks: vec![],
        since: None,
    };
    let health = assess(&facts, noon(5));
    assert_eq!(states(&health), [State::NeverBackedUp]);
    let row = only(&health);
    assert!(
        row.overdue && row.newest_good.is_none() && row.age_seconds.is_none(),
        "{row:?}"
    );

    // Nor is a source that failed whenever its job ran.
    let mut facts = self::facts(vec![taken(5, &[("db", true), ("cache", false)])]);
    let mut partial = run(5, RunOutcome::Partial, &[&facts.snapshots[0]]);
    partial.sources = vec![wanted("db"), wanted("cache")];
    facts.runs = vec![partial];
    let health = assess(&facts, noon(5));
    assert_eq!(states(&health), [State::Incomplete, State::NeverBackedUp]);
    let of = |name: &str| health.sources.iter().find(|row| row.source == name).unwrap().state;
    assert_eq!((of("db"), of("cache")), (State::Ok, State::NeverBackedUp), "{health:?}");
}

#[test]
fn the_last_run_decides_until_a_snapshot_follows_it() {
    let mut facts = facts(vec![taken(5, &[("db", true)])]);
    let mut failed = run(5, RunOutcome::Failed, &[]);
    failed.ended = at("2026-01-05T09:00:00Z");
    facts.runs = vec![failed];
    let health = assess(&facts, noon(5));
    assert_eq!(
        (states(&health), only(&health).state),
        (vec![State::Failing], State::Failing)
    );
    assert!(health.findings[0].text.contains("no route to host"), "{health:?}");
    assert_eq!((health.tasks[0].failures, health.tasks[0].last_success), (1, None));

    let mut well = run(5, RunOutcome::Done, &[&facts.snapshots[0]]);
    well.ended = at("2026-01-05T10:00:00Z");
    let mut later = facts.clone();
    later.runs.push(well);
    assert!(assess(&later, noon(5)).state().is_ok());

    // By hand, by a release that wrote no records.
    facts.snapshots.push(taken(6, &[("db", true)]));
    assert!(assess(&facts, noon(6)).state().is_ok());
    // Of what failed, a snapshot of an older release tells too.
    let facts = self::facts(vec![taken(4, &[("db", true)]), taken(5, &[("db", false)])]);
    assert_eq!(states(&assess(&facts, noon(5))), [State::Incomplete, State::Overdue]);
}

#[test]
fn a_run_that_was_done_counts_only_while_its_snapshot_is_there() {
    // Nothing changed for days: the old snapshot is up to date.
    let mut facts = facts(vec![taken(2, &[("db", true)])]);
    facts.runs = vec![run(5, RunOutcome::Done, &[&facts.snapshots[0]])];
    let health = assess(&facts, noon(5));
    assert!(health.state().is_ok(), "{health:?}");
    assert_eq!(only(&health).age_seconds, Some(3 * 86_400 + 10 * 3600));
    // Each new one was pruned at once.
    let gone = taken(5, &[("db", true)]);
    facts.runs = vec![run(5, RunOutcome::Done, &[&gone])];
    assert_eq!(states(&assess(&facts, noon(5))), [State::Overdue]);
}

#[test]
fn damage_stands_until_something_makes_up_for_it() {
    let mut facts = facts(vec![taken(4, &[("db", true)]), taken(5, &[("db", true)])]);
    let found = json!({ "level": "content", "sources": ["db"], "damage": ["read source \"db\" at entry \"x\": bad"] });
    let damaged = proof(&facts.snapshots[1], "2026-01-05T05:00:00Z", &found);
    facts.proofs = vec![damaged];
    let health = assess(&facts, noon(5));
    let row = only(&health);
    assert_eq!(
        (states(&health), row.state, row.damaged),
        (vec![State::Overdue, State::Damaged], State::Damaged, true)
    );
    assert_eq!(
        row.newest_good.as_ref(),
        Some(&facts.snapshots[0].id),
        "a damaged one is not good"
    );
    assert_eq!((row.verified_level, row.verified_at), (None, None));

    // A look that goes less deep says nothing; one that goes as deep does.
    let shallow = json!({ "level": "stored", "sources": ["db"], "damage": [] });
    facts
        .proofs
        .push(proof(&facts.snapshots[1], "2026-01-05T06:00:00Z", &shallow));
    assert_eq!(states(&assess(&facts, noon(5))), [State::Overdue, State::Damaged]);
    let deep = json!({ "level": "content", "sources": ["db"], "damage": [] });
    let mut healed = facts.clone();
    healed
        .proofs
        .push(proof(&facts.snapshots[1], "2026-01-05T07:00:00Z", &deep));
    assert!(assess(&healed, noon(5)).state().is_ok());

    // A new snapshot alone is not enough: it must be proven.
    facts.snapshots.push(taken(6, &[("db", true)]));
    let health = assess(&facts, noon(6));
    assert_eq!((states(&health), only(&health).overdue), (vec![State::Damaged], false));
    facts
        .proofs
        .push(proof(&facts.snapshots[2], "2026-01-06T05:00:00Z", &deep));
    let health = assess(&facts, noon(6));
    assert!(health.state().is_ok(), "{health:?}");
    assert_eq!(only(&health).verified_level, Some(Level::Content));
    // A manifest that cannot be read is damage as well.
    facts.unreadable = vec![(facts.snapshots[0].id.clone(), "its digest differs".to_owned())];
    assert_eq!(states(&assess(&facts, noon(6))), [State::Damaged]);
}

#[test]
fn damage_of_one_source_is_not_that_of_another() {
    let mut facts = facts(vec![taken(5, &[("db", true), ("etc", true)])]);
    let line = format!(
        "\"data/{}/db/0000.tar.zst\" has SHA-256 x, but the manifest says y",
        facts.snapshots[0].id
    );
    let found = json!({ "level": "stored", "sources": ["db", "etc"], "damage": [line] });
    facts.proofs = vec![proof(&facts.snapshots[0], "2026-01-05T05:00:00Z", &found)];
    let health = assess(&facts, noon(5));
    let of = |name: &str| health.sources.iter().find(|row| row.source == name).unwrap();
    assert!(of("db").damaged && !of("etc").damaged, "{health:?}");
    assert_eq!(of("etc").verified_level, Some(Level::Stored));
    let found = json!({ "level": "stored", "sources": ["db", "etc"], "damage": ["the manifest is damaged"] });
    facts.proofs = vec![proof(&facts.snapshots[0], "2026-01-05T05:00:00Z", &found)];
    assert!(assess(&facts, noon(5)).sources.iter().all(|row| row.damaged));
}

#[test]
fn a_level_counts_only_where_it_was_reached() {
    let mut facts = facts(vec![taken(5, &[("db", true)])]);
    let time = "2026-01-05T05:00:00Z";
    let before = json!({ "level": "restored", "sources": ["db"], "damage": [], "drill": "sunday",
        "skipped": ["db: pass a server for its scratch database with --into postgres://…; content was checked"] });
    let now = json!({ "level": "restored", "sources": ["db"], "damage": [], "drill": "sunday",
        "levels": [{ "source": "db", "level": "content", "why_not": "no server" }] });
    for proved in [before, now] {
        facts.proofs = vec![proof(&facts.snapshots[0], time, &proved)];
        let health = assess(&facts, noon(5));
        assert_eq!(states(&health), [State::LevelNotReached], "{health:?}");
        assert_eq!(only(&health).verified_level, Some(Level::Content));
    }
    let reached = json!({ "level": "restored", "sources": ["db"], "damage": [], "drill": "sunday",
        "levels": [{ "source": "db", "level": "restored", "why_not": null }] });
    facts.proofs = vec![proof(&facts.snapshots[0], time, &reached)];
    let health = assess(&facts, noon(5));
    assert!(health.state().is_ok(), "{health:?}");
    assert_eq!(
        (only(&health).verified_level, only(&health).verified_at),
        (Some(Level::Restored), Some(at(time)))
    );
    let nothing = json!({ "level": "content", "sources": [], "damage": [], "drill": "sunday",
        "levels": [{ "source": "db", "level": null, "why_not": "archived" }] });
    facts.proofs = vec![proof(&facts.snapshots[0], time, &nothing)];
    assert_eq!(states(&assess(&facts, noon(5))), [State::LevelNotReached]);
}

#[test]
fn what_is_dated_ahead_and_what_a_restore_took_counts_for_nothing() {
    let mut ahead = taken(31, &[("db", true)]);
    let mut before_restore = taken(5, &[("db", true)]);
    "pre-restore".clone_into(&mut before_restore.job);
    let mut facts = facts(vec![ahead.clone(), taken(3, &[("db", true)]), before_restore]);
    facts.runs = vec![run(31, RunOutcome::Done, &[&ahead])];
    let health = assess(&facts, noon(5));
    assert_eq!(states(&health), [State::Overdue]);
    assert_eq!(health.ahead, [ahead.id.clone()]);
    assert_eq!(only(&health).newest_good.as_ref(), Some(&facts.snapshots[1].id));
    // Ten minutes are no wrong clock.
    ahead.started = noon(5).checked_add(SignedDuration::from_mins(5)).unwrap();
    ahead.finished = ahead.started;
    let health = assess(&self::facts(vec![ahead]), noon(5));
    assert_eq!((health.state(), only(&health).age_seconds), (State::Ok, Some(0)));
}

#[test]
fn a_store_that_is_away_is_never_ok() {
    let mut facts = facts(vec![taken(5, &[("db", true)])]);
    facts.away = Some("no route to host".to_owned());
    assert_eq!(states(&assess(&facts, noon(5))), [State::StoreAway]);
}

#[test]
fn an_optional_source_and_a_job_that_is_no_more_do_not_count() {
    let mut snapshot = taken(5, &[("db", true), ("cache", false)]);
    snapshot.sources[1].optional = true;
    let health = assess(&facts(vec![snapshot.clone()]), noon(5));
    assert!(health.state().is_ok() && health.sources.len() == 2, "{health:?}");
    let mut facts = facts(vec![snapshot]);
    facts.expected = Expected {
        host: "web1".to_owned(),
        jobs: Some(vec![]),
        runs_here: true,
        tasks: vec![],
        since: None,
    };
    let health = assess(&facts, noon(20));
    assert_eq!((health.state(), health.sources[0].state), (State::Ok, State::NotJudged));
    "db2".clone_into(&mut facts.expected.host);
    assert_eq!(
        states(&assess(&facts, noon(20))),
        [State::Overdue],
        "another host's is overdue all the same"
    );
}

#[test]
fn a_drill_that_failed_or_no_longer_runs_is_told() {
    let mut facts = facts(vec![taken(5, &[("db", true)])]);
    let mut drill = run(5, RunOutcome::Failed, &[]);
    (drill.task, drill.name) = (TaskKind::Drill, "sunday".to_owned());
    facts.runs = vec![drill.clone()];
    let health = assess(&facts, noon(5));
    assert_eq!(
        (states(&health), health.findings[0].subject.as_str()),
        (vec![State::Failing], "drill sunday")
    );
    drill.outcome = RunOutcome::Done;
    facts.runs = vec![drill];
    facts.expected = Expected {
        host: "web1".to_owned(),
        jobs: Some(vec![ExpectedJob {
            name: "full".to_owned(),
            sources: vec![wanted("db")],
            schedule: None,
        }]),
        runs_here: true,
        tasks: vec![(TaskKind::Drill, "sunday".to_owned(), nightly())],
        since: None,
    };
    assert!(assess(&facts, noon(5)).state().is_ok());
    assert_eq!(states(&assess(&facts, noon(6))), [State::Overdue]);
}

#[test]
fn a_drill_that_never_ran_is_overdue_when_its_time_has_passed() {
    let never_ran = |since, created, day| {
        // Retention takes old snapshots away: how old the oldest is says nothing of the drill.
        let mut facts = facts(vec![taken(day, &[("db", true)])]);
        facts.created = created;
        facts.expected = Expected {
            host: "web1".to_owned(),
            tasks: vec![
                (TaskKind::Drill, "sunday".to_owned(), nightly()),
                (TaskKind::Cleanup, "cleanup.dumps".to_owned(), nightly()),
            ],
            since,
            ..Expected::default()
        };
        let health = assess(&facts, noon(day));
        health.findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let told = ["drill sunday: never ran".to_owned()];
    assert_eq!(never_ran(Some(noon(1)), Some(noon(1)), 9), told);
    assert_eq!(
        never_ran(Some(noon(1)), Some(noon(8)), 9),
        [""; 0],
        "the repository is new"
    );
    assert_eq!(
        never_ran(Some(noon(8)), Some(noon(1)), 9),
        [""; 0],
        "the drill is new, or at its first run"
    );
    assert_eq!(never_ran(Some(noon(7)), Some(noon(1)), 9), told);
    assert_eq!(never_ran(None, Some(noon(1)), 9), [""; 0], "nobody knows since when");
}

#[test]
fn an_empty_repository_is_not_well_for_a_drill_or_for_whoever_asks() {
    let mut facts = facts(vec![]);
    facts.expected = Expected::default();
    assert_eq!(states(&assess(&facts, noon(5))), [State::NeverBackedUp]);
    facts.expected.tasks = vec![(TaskKind::Drill, "sunday".to_owned(), nightly())];
    assert_eq!(states(&assess(&facts, noon(5))), [State::NeverBackedUp]);
    facts.expected.tasks = vec![(TaskKind::Cleanup, "cleanup.dumps".to_owned(), nightly())];
    assert!(
        assess(&facts, noon(5)).state().is_ok(),
        "a rule for plain files needs no snapshot"
    );
}

#[test]
fn only_one_state_claims_success() {
    for state in State::ALL {
        assert_eq!(state.is_ok(), state == State::Ok);
        assert_eq!(state.health_word() == "ok", state.is_ok(), "{state:?}");
        assert_eq!(state.verdict() == "All is well.", state.is_ok(), "{state:?}");
        assert_eq!(state.words() == "ok", state.is_ok(), "{state:?}");
    }
}

#[test]
fn a_row_has_these_keys_and_no_others() {
    let health = assess(&facts(vec![taken(5, &[("db", true)])]), noon(5));
    let row = serde_json::to_value(&health.sources[0]).unwrap();
    let keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    let want = "age_seconds damaged host job newest_good overdue source stored_bytes verified_at verified_level";
    assert_eq!(keys.join(" "), want);
}

#[test]
fn a_verification_is_proven_only_where_nothing_is_missing() {
    let came = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut proved = json!({
            "asked": "content", "level": "content", "skipped": [], "damage": [], "refused": [],
            "levels": [{ "source": "db", "level": "content", "why_not": null }],
        });
        change(&mut proved);
        came_of(&proved)
    };
    assert_eq!(came(&|_| ()), Some(Verification::Proven));
    assert_eq!(
        came(&|one| one["asked"] = "restored".into()),
        Some(Verification::NotReached)
    );
    assert_eq!(came(&|one| one["levels"] = json!([])), Some(Verification::NotReached));
    assert_eq!(
        came(&|one| one["refused"] = json!(["x"])),
        Some(Verification::Incomplete)
    );
    assert_eq!(
        came(&|one| one["integrity"] = json!(["x"])),
        Some(Verification::Incomplete)
    );
    assert_eq!(came(&|one| one["damage"] = json!(["x"])), Some(Verification::Damaged));
    let both = |one: &mut serde_json::Value| (one["refused"], one["damage"]) = (json!(["x"]), json!(["y"]));
    assert_eq!(came(&both), Some(Verification::Damaged));
    let neither = |one: &mut serde_json::Value| (one["asked"], one["level"]) = ("deep".into(), "deep".into());
    assert_eq!(came(&neither), None);
    // Of releases that had one level for all.
    let old = json!({ "level": "content", "sources": ["db"], "skipped": [], "damage": [] });
    assert_eq!(came_of(&old), Some(Verification::Proven));
    for one in Verification::ALL {
        assert_eq!(one.claim().is_some(), one == Verification::Proven);
    }
}
