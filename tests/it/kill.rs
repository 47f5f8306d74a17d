//! Runs that are killed or stopped. `benches/end_to_end/kill.sh` does this many times, on every store and under load.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::program::{Program, noise, open_uploads};
use crate::support::wait;

/// The lease of a run that is stopped. A run on a busy machine must be able to renew it in time: what stands still for so
/// long was stopped.
const LEASE: Duration = Duration::from_secs(12);

/// Stops a run for longer than its lease.
fn stop_beyond_the_lease(run: Pid) {
    kill_process(run, Signal::STOP).unwrap();
    std::thread::sleep(LEASE + Duration::from_secs(1));
    kill_process(run, Signal::CONT).unwrap();
}

/// Starts a backup that stops at a named point, does something there, and lets it go on; returns its exit code and errors.
fn held(program: &mut Program, point: &str, act: impl Fn(Pid)) -> (Option<i32>, String) {
    let held = program.path("held");
    let mut command = program.command(&["backup", "files:tree"]);
    command
        .env("WIREVAULT_TEST_HOLD", point)
        .env("WIREVAULT_TEST_HELD", &held)
        .env("WIREVAULT_TEST_LEASE_SECONDS", LEASE.as_secs().to_string());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait::until("the run comes to its point, or ends", || {
        held.exists() || child.try_wait().unwrap().is_some()
    });
    act(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap());
    let _ = std::fs::remove_file(&held);
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn with_tree(bytes: usize) -> Program {
    let program = Program::on_directory();
    std::fs::create_dir(program.path("tree")).unwrap();
    std::fs::write(program.path("tree/file"), noise(bytes)).unwrap();
    program
}

fn stopped_at(point: &str) {
    let mut program = with_tree(1000);
    let (code, said) = held(&mut program, point, stop_beyond_the_lease);
    assert_eq!(code, Some(1), "{point}: {said}");
    assert!(said.contains("could not renew its heartbeat"), "{point}: {said}");
    assert!(program.listed().is_empty(), "{point}");
}

#[test]
fn a_run_stopped_beyond_its_lease_before_its_manifest_fails_by_itself_and_says_so() {
    stopped_at("manifest");
}

#[test]
fn a_run_stopped_beyond_its_lease_after_its_manifest_takes_it_back_and_says_so() {
    stopped_at("committed");
}

/// While it reads, too, and not as if somebody had sent a signal.
#[test]
fn a_run_stopped_beyond_its_lease_while_it_reads_fails_by_itself_and_says_so() {
    let program = with_tree(20 << 20);
    let config = format!(
        "[repository]\nurl = \"file://{}\"\nrate_limit = \"256KiB/s\"\n",
        program.path("repo").display()
    );
    std::fs::write(program.path("slow.toml"), config).unwrap();
    let mut command = program.command(&["backup", "files:tree", "--config", "slow.toml"]);
    command
        .env_remove("WIREVAULT_REPOSITORY")
        .env("WIREVAULT_TEST_LEASE_SECONDS", LEASE.as_secs().to_string());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let uploads = program.path("repo/.uploads");
    wait::until("an upload is begun", || !open_uploads(&uploads).is_empty());
    stop_beyond_the_lease(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("could not renew its heartbeat") && !said.contains("by a signal"),
        "{said}"
    );
    assert!(program.listed().is_empty());
}

#[test]
fn a_run_killed_before_its_manifest_offers_nothing_and_one_killed_after_it_a_whole_snapshot() {
    let mut program = with_tree(1000);
    for (point, offered) in [("manifest", 0), ("committed", 1)] {
        held(&mut program, point, |run| kill_process(run, Signal::KILL).unwrap());
        assert_eq!(program.listed().len(), offered, "{point}");
        // Nothing to verify is nothing proven.
        program.expect(i32::from(offered == 0), &["verify", "--all", "--no-evidence"]);
    }
}
