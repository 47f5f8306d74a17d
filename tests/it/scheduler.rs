//! The scheduler by a clock that the test moves: what takes a minute, a day, or a clock that somebody sets.

use std::time::Duration;

use jiff::SignedDuration;
use wirevault::base::clock::Clock;

use crate::run::{Listener, configure, get, with_tree};
use crate::support::program::noise;
use crate::support::scheduler::LocalScheduler;

const NIGHTLY: &str = "schedule = \"0 2 * * *\"";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// So that every nightly job is overdue.
fn two_days() -> SignedDuration {
    SignedDuration::from_hours(48)
}

#[test]
fn hooks_pings_and_channels_hear_of_a_run() {
    let program = with_tree();
    let listener = Listener::start();
    let (ping, chat) = (listener.url("/ping"), listener.url("/chat/flaky"));
    let log = program.path("hooks.log");
    let hook = |word: &str| {
        let script = format!(
            "echo $WIREVAULT_HOOK $WIREVAULT_JOB $WIREVAULT_STATUS >> {}",
            log.display()
        );
        format!("{word} = [\"/bin/sh\", \"-c\", \"{script}\"]\n")
    };
    let job = format!(
        "schedule = \"0 2 * * *\"\nping = \"{ping}\"\n{}{}{}[notify.chat]\nkind = \"slack\"\nurl = \"{chat}\"\non = [\"failure\", \"recovery\"]",
        hook("before"),
        hook("after"),
        hook("on_failure"),
    );
    configure(&program, "", &job);
    program.expect(0, &["backup", "full"]);
    assert_eq!(
        std::fs::read_to_string(&log).unwrap(),
        "before full begun\nafter full done\n"
    );
    std::fs::rename(program.path("tree"), program.path("away")).unwrap();

    let scheduler = LocalScheduler::start(&program, two_days());
    let address = scheduler.event("serving")["address"].as_str().unwrap().to_owned();
    assert_eq!(scheduler.event("ended")["status"], "failed");
    listener.expect("/ping/start");
    let said = listener.expect("/ping/fail");
    assert!(said.contains("tree"), "{said}");
    let text = listener.expect("/chat/flaky");
    assert!(text.contains(": full failed*"), "{text}");
    assert_eq!(get(&address, "/health").0, 503);
    let page = get(&address, "/").1;
    assert!(page.contains("Not all is well.") && page.contains("/tree"), "{page}");
    let lines = std::fs::read_to_string(&log).unwrap();
    assert!(
        lines.ends_with("before full begun\non_failure full failed\n"),
        "{lines}"
    );

    std::fs::rename(program.path("away"), program.path("tree")).unwrap();
    // The repetition comes after a minute.
    scheduler.asleep();
    scheduler.clock.advance(Duration::from_secs(60));
    assert_eq!(scheduler.event("ended")["status"], "done");
    listener.expect("/ping/start");
    listener.expect("/ping");
    assert!(listener.expect("/chat/flaky").contains("has recovered"));
    assert_eq!(get(&address, "/health").0, 200);
    scheduler.end();
}

/// Forward, what passed is caught up once; back, nothing runs that ran already, and the next night has its run.
#[test]
fn a_clock_that_is_set_forward_and_back_costs_one_run() {
    let program = with_tree();
    configure(&program, "", NIGHTLY);
    program.expect(0, &["backup", "full"]);
    let scheduler = LocalScheduler::start(&program, SignedDuration::ZERO);
    scheduler.event("planned");
    scheduler.rest(Duration::from_secs(60));
    scheduler.clock.set_by(SignedDuration::from_hours(5 * 24));
    scheduler.rest(Duration::from_secs(60));
    let begun = scheduler.event("begun");
    assert_eq!(begun["why"], "caught-up", "{begun}");
    assert!(begun["missed"].as_u64().unwrap() >= 3, "{begun}");
    assert_eq!(scheduler.event("ended")["status"], "done");
    scheduler.clock.set_by(SignedDuration::from_hours(-5 * 24));
    scheduler.rest(DAY);
    let begun = scheduler.event("begun");
    assert_eq!(
        (&begun["why"], &begun["missed"]),
        (&"scheduled".into(), &0.into()),
        "{begun}"
    );
    assert_eq!(scheduler.event("ended")["status"], "done");
    assert_eq!(scheduler.end(), ["stopped"]);
    assert_eq!(program.listed().len(), 3);
}

/// A job that runs after changes is due by the time that passes: a clock that is set back does not put it off.
#[test]
fn a_change_is_stored_whatever_the_clock_says() {
    let program = with_tree();
    configure(&program, "", "on_change = \"10s\"");
    let scheduler = LocalScheduler::start(&program, two_days());
    let started = scheduler.clock.moment();
    scheduler.clock.set_by(SignedDuration::from_hours(-30 * 24));
    // Time passes until the run begins, and none while it works, however long that takes.
    scheduler.event_later("begun");
    assert_eq!(scheduler.event("ended")["status"], "done");
    std::fs::write(program.path("tree/file"), "changed").unwrap();
    scheduler.clock.set_by(SignedDuration::from_hours(-30 * 24));
    let begun = scheduler.event_later("begun");
    assert_eq!(begun["why"], "changed", "{begun}");
    assert_eq!(scheduler.event("ended")["status"], "done");
    let passed = scheduler.clock.instant().duration_since(started.instant);
    assert!(passed < DAY, "{passed:?}");
    scheduler.end();
    assert_eq!(program.listed().len(), 2);
}

#[test]
fn a_run_that_takes_too_long_is_ended() {
    let program = with_tree();
    configure(&program, "", NIGHTLY);
    program.expect(0, &["backup", "full"]);
    std::fs::write(program.path("tree/file"), noise(12 << 20)).unwrap();
    configure(
        &program,
        "rate_limit = \"64KiB/s\"",
        &format!("{NIGHTLY}\ntimeout = \"3h\""),
    );
    let scheduler = LocalScheduler::start(&program, two_days());
    scheduler.event("begun");
    assert_eq!(scheduler.asleep(), Duration::from_secs(3 * 60 * 60));
    scheduler.clock.advance(Duration::from_secs(3 * 60 * 60));
    let ended = scheduler.event("ended");
    assert!(
        ended["error"].as_str().unwrap().contains("did not finish within 3"),
        "{ended}"
    );
    scheduler.end();
    assert_eq!(program.listed().len(), 1);
}
