//! Runs that are killed or stopped. `benches/kill.sh` does this many times, on every store and under load.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::program::{Program, files_below, noise};

fn wait_for(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a backup that stops at a named point, does something there, and lets it go on; returns its exit code and errors.
fn held(program: &mut Program, point: &str, act: impl Fn(Pid)) -> (Option<i32>, String) {
    let held = program.path("held");
    let mut command = program.command(&["backup", "files:tree"]);
    command
        .env("WIREVAULT_TEST_HOLD", point)
        .env("WIREVAULT_TEST_HELD", &held)
        .env("WIREVAULT_TEST_LEASE_SECONDS", "1");
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(|| held.exists());
    act(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap());
    let _ = std::fs::remove_file(&held);
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_run_stopped_beyond_its_lease_fails_by_itself_and_says_so() {
    let mut program = Program::on_directory();
    std::fs::create_dir(program.path("tree")).unwrap();
    std::fs::write(program.path("tree/file"), noise(1000)).unwrap();
    for point in ["manifest", "committed"] {
        let (code, said) = held(&mut program, point, |run| {
            kill_process(run, Signal::STOP).unwrap();
            std::thread::sleep(Duration::from_secs(2));
            kill_process(run, Signal::CONT).unwrap();
        });
        assert_eq!(code, Some(1), "{point}: {said}");
        assert!(said.contains("could not show that it is alive"), "{point}: {said}");
        assert!(program.listed().is_empty(), "{point}");
    }
    // While it reads, too, and not as if somebody had sent a signal.
    std::fs::write(program.path("tree/file"), noise(6 << 20)).unwrap();
    let url = format!(
        "[repository]\nurl = \"file://{}\"\nrate_limit = \"1MiB/s\"\n",
        program.path("repo").display()
    );
    std::fs::write(program.path("slow.toml"), url).unwrap();
    let mut command = program.command(&["backup", "files:tree", "--config", "slow.toml"]);
    command
        .env_remove("WIREVAULT_REPOSITORY")
        .env("WIREVAULT_TEST_LEASE_SECONDS", "1");
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let before = files_below(&program.path("repo/.uploads")).len();
    wait_for(|| files_below(&program.path("repo/.uploads")).len() > before);
    let run = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(run, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    kill_process(run, Signal::CONT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("could not show that it is alive") && !said.contains("by a signal"),
        "{said}"
    );
    assert!(program.listed().is_empty());
}

#[test]
fn a_run_killed_before_its_manifest_offers_nothing_and_one_killed_after_it_a_whole_snapshot() {
    let mut program = Program::on_directory();
    std::fs::create_dir(program.path("tree")).unwrap();
    std::fs::write(program.path("tree/file"), noise(1000)).unwrap();
    for (point, offered) in [("manifest", 0), ("committed", 1)] {
        held(&mut program, point, |run| kill_process(run, Signal::KILL).unwrap());
        assert_eq!(program.listed().len(), offered, "{point}");
        program.expect(0, &["verify", "--all", "--no-evidence"]);
    }
}
