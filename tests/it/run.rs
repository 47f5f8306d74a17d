//! The scheduler as a process: what it catches up, repeats, refuses and says. When a job is due is tested in `schedule`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::program::{Program, noise};

const JOB: &str = "[source.tree]\nkind = \"files\"\nroot = \"tree\"\n[job.full]\nsources = [\"tree\"]\n";

fn configure(program: &Program, repository: &str, job: &str) {
    let text = format!(
        "[repository]\nurl = \"file://{}\"\n{repository}\n{JOB}{job}\n",
        program.path("repo").display()
    );
    std::fs::write(program.path("wirevault.toml"), text).unwrap();
}

/// A scheduler two days from now, so that every nightly job is overdue.
struct Scheduler {
    process: Child,
    events: Receiver<Value>,
}

impl Scheduler {
    fn start(program: &Program) -> Self {
        let mut command = program.command(&["run", "--json"]);
        command.env_remove("WIREVAULT_REPOSITORY");
        command.env("WIREVAULT_TEST_CLOCK_SECONDS", (2 * 24 * 3600).to_string());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { process, events }
    }

    /// Waits for the next event of a kind.
    fn event(&self, kind: &str) -> Value {
        loop {
            let event = self.events.recv_timeout(Duration::from_secs(60)).unwrap();
            if event["event"] == kind {
                return event;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(
            Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap(),
            signal,
        )
        .unwrap();
    }

    fn end(mut self) {
        self.signal(Signal::TERM);
        self.event("stopped");
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
    }
}

fn with_tree() -> Program {
    let program = Program::bare();
    std::fs::create_dir(program.path("tree")).unwrap();
    std::fs::write(program.path("tree/file"), noise(1000)).unwrap();
    program
}

#[test]
fn a_missed_run_is_caught_up_once_and_the_keep_rules_follow() {
    let program = with_tree();
    configure(&program, "", "schedule = \"0 2 * * *\"\nkeep = { last = 1 }");
    program.expect(0, &["backup", "full"]);
    let before = program.listed();
    let scheduler = Scheduler::start(&program);
    let begun = scheduler.event("begun");
    assert_eq!((&begun["why"], &begun["job"]), (&"caught-up".into(), &"full".into()));
    assert_eq!(scheduler.event("ended")["status"], "done");
    assert_eq!(scheduler.event("pruned")["expired"], 1);
    scheduler.end();
    let after = program.listed();
    assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
    program.expect(0, &["verify", "--all", "--no-evidence"]);
}

#[test]
fn a_failed_run_is_repeated_and_a_new_configuration_is_read() {
    let program = with_tree();
    configure(&program, "", "schedule = \"0 2 * * *\"");
    program.expect(0, &["backup", "full"]);
    std::fs::rename(program.path("tree"), program.path("away")).unwrap();
    let scheduler = Scheduler::start(&program);
    let ended = scheduler.event("ended");
    assert_eq!(
        (&ended["status"], &ended["repeats"]),
        (&"failed".into(), &true.into()),
        "{ended}"
    );
    configure(&program, "", "schedule = \"0 25 * * *\"");
    scheduler.signal(Signal::HUP);
    let refused = scheduler.event("reload-refused");
    assert!(refused["error"].as_str().unwrap().contains("[job.full]"), "{refused}");
    configure(&program, "", "schedule = \"30 3 * * *\"");
    scheduler.signal(Signal::HUP);
    assert_eq!(scheduler.event("reloaded")["jobs"], 1);
    scheduler.end();
    assert_eq!(program.listed().len(), 1);
}

#[test]
fn a_run_that_takes_too_long_is_ended() {
    let program = with_tree();
    configure(&program, "", "schedule = \"0 2 * * *\"");
    program.expect(0, &["backup", "full"]);
    std::fs::write(program.path("tree/file"), noise(12 << 20)).unwrap();
    configure(
        &program,
        "rate_limit = \"2MiB/s\"",
        "schedule = \"0 2 * * *\"\ntimeout = \"1s\"",
    );
    let scheduler = Scheduler::start(&program);
    let ended = scheduler.event("ended");
    assert!(ended["error"].as_str().unwrap().contains("not done within"), "{ended}");
    scheduler.end();
    assert_eq!(program.listed().len(), 1);
}

#[test]
fn a_dry_run_names_the_next_time_and_wrong_schedules_are_refused_by_every_verb() {
    let program = with_tree();
    configure(
        &program,
        "",
        "schedule = \"0 2 * * *\"\ntimezone = \"Europe/Berlin\"\njitter = \"10min\"",
    );
    let said = program.expect(0, &["run", "--dry-run", "--json"]);
    let document: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(document["jobs"][0]["job"], "full", "{said}");
    for wrong in [
        "schedule = \"0 2 * *\"",
        "schedule = \"0 2 * * *\"\ntimezone = \"Berlin\"",
    ] {
        configure(&program, "", wrong);
        program.refused(&["list"], "[job.full]", "");
    }
    configure(&program, "", "");
    program.refused(&["run"], "has no job with a schedule", "schedule = ");
}
