//! The repository that is there is the one that was meant, and a lease is that of a process that runs.

use std::process::{Command, Stdio};

use wirevault::repository::lease::LeaseDocument;
use wirevault::repository::{SnapshotId, document};

use crate::support::child::Guarded;
use crate::support::program::{Program, files_below, noise};
use crate::support::wait;

fn with_jobs(jobs: &[&str]) -> Program {
    let program = Program::bare();
    std::fs::create_dir(program.path("src")).unwrap();
    std::fs::write(program.path("src/f"), "kept").unwrap();
    configure(&program, "repo", "", jobs);
    program
}

fn configure(program: &Program, repository: &str, more: &str, jobs: &[&str]) {
    let mut text = format!(
        "[repository]\nurl = \"file://{}\"\n{more}\n[source.t]\nkind = \"files\"\nroot = {:?}\n",
        program.path(repository).display(),
        program.path("src")
    );
    for job in jobs {
        text.push_str(&format!("[job.{job}]\nsources = [\"t\"]\n"));
    }
    std::fs::write(program.path("wirevault.toml"), text).unwrap();
}

#[test]
fn an_empty_place_where_a_repository_is_expected_is_an_error() {
    let program = with_jobs(&["j"]);
    program.expect(0, &["backup", "j"]);
    // The disk is not mounted: another process finds the empty mount point.
    std::fs::rename(program.path("repo"), program.path("disk")).unwrap();
    program.refused(&["backup", "j"], "no longer exists", "Is its disk mounted?");
    program.refused(&["list"], "no longer exists", "Is its disk mounted?");
    std::fs::create_dir(program.path("repo")).unwrap();
    program.refused(&["backup", "j"], "no longer exists", "Is its disk mounted?");
    assert_eq!(files_below(&program.path("repo")).len(), 0);
    std::fs::remove_dir(program.path("repo")).unwrap();
    std::fs::rename(program.path("disk"), program.path("repo")).unwrap();
    program.expect(0, &["backup", "j"]);
    assert_eq!(program.listed().len(), 2);
    // Who means it says so.
    std::fs::rename(program.path("repo"), program.path("disk")).unwrap();
    program.expect(0, &["init", "--no-encryption"]);
    program.expect(0, &["backup", "j"]);
    assert_eq!(program.listed().len(), 1);
}

#[test]
fn another_repository_in_the_place_is_read_and_not_written_to() {
    let program = with_jobs(&["j"]);
    program.expect(0, &["backup", "j"]);
    let other = with_jobs(&["j"]);
    other.expect(0, &["backup", "j"]);
    std::fs::rename(program.path("repo"), program.path("first")).unwrap();
    std::fs::rename(other.path("repo"), program.path("repo")).unwrap();
    let before = files_below(&program.path("repo")).len();
    program.refused(&["backup", "j"], "expected", "init --adopt");
    program.refused(&["prune", "--keep-last", "1"], "expected", "init --adopt");
    assert_eq!(program.listed().len(), 1);
    // Not even the record of the run that was refused.
    assert_eq!(files_below(&program.path("repo")).len(), before);
    program.expect(0, &["init", "--adopt"]);
    program.expect(0, &["backup", "j"]);
    // Disks that take turns are both known now.
    std::fs::rename(program.path("repo"), program.path("second")).unwrap();
    std::fs::rename(program.path("first"), program.path("repo")).unwrap();
    program.expect(0, &["backup", "j"]);
}

#[test]
fn a_mistyped_place_is_no_new_repository() {
    let program = with_jobs(&["j"]);
    program.expect(0, &["backup", "j"]);
    for verb in [
        &["list"][..],
        &["verify", "latest"],
        &["restore", "latest", "--into", "out"],
        &["prune", "--keep-last", "1"],
    ] {
        let mistyped = program.path("reop").display().to_string();
        let verb = [verb, &["--from", &mistyped]].concat();
        program.refused(&verb, "no repository at", "init");
        assert!(!program.path("reop").exists(), "{verb:?}");
    }
    let mistyped = program.path("reop").display().to_string();
    program.refused(&["copy", "--into", &mistyped], "no repository at", "init");
    assert!(!program.path("reop").exists());
    // The same in the configuration, whose repository is known by its name.
    configure(&program, "reop", "", &["j"]);
    program.refused(&["backup", "j"], "repository \"default\" was at", "Correct the URL");
    assert!(!program.path("reop").exists());
}

#[test]
fn a_repository_that_is_to_lie_on_a_mounted_disk_lies_nowhere_else() {
    let program = with_jobs(&["j"]);
    let mount = format!("require_mountpoint = {:?}", program.place.path());
    for required in ["require_mountpoint = true", &mount] {
        configure(&program, "repo", required, &["j"]);
        program.refused(&["backup", "j"], "is not on a mounted disk", "mounted");
        program.refused(&["init", "--no-encryption"], "is not on a mounted disk", "mounted");
        assert!(!program.path("repo").exists());
    }
    // A disk that is mounted, and a repository beside it.
    configure(&program, "repo", "require_mountpoint = \"/proc\"", &["j"]);
    program.refused(&["backup", "j"], "is not on \"/proc\"", "require_mountpoint");
    let disk = tempfile::tempdir_in("/dev/shm").unwrap();
    let on_disk = disk.path().join("repo").display().to_string();
    configure(&program, &on_disk, "require_mountpoint = \"/dev/shm\"", &["j"]);
    program.expect(0, &["init", "--no-encryption"]);
    program.expect(0, &["backup", "j"]);
}

#[test]
fn first_backups_of_three_jobs_at_once_all_succeed() {
    for _ in 0..5 {
        let jobs = ["a", "b", "c"];
        let program = with_jobs(&jobs);
        let running: Vec<_> = jobs
            .iter()
            .map(|job| {
                program
                    .command(&["backup", job])
                    .stderr(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for child in running {
            let output = child.wait_with_output().unwrap();
            assert_eq!(
                output.status.code(),
                Some(0),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        assert_eq!(program.listed().len(), 3);
        program.expect(0, &["verify", "--all"]);
    }
}

#[test]
fn the_lease_of_a_killed_run_is_taken_over_at_once_and_that_of_a_live_one_is_not() {
    let program = with_jobs(&["j"]);
    program.expect(0, &["init", "--no-encryption"]);
    let noise: Vec<u8> = (0..8_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    std::fs::write(program.path("src/large"), noise).unwrap();
    let mut slow = program.command(&["backup", "j", "--limit-rate", "1KiB/s"]);
    let mut slow = Guarded::spawn(slow.stderr(Stdio::null()).stdout(Stdio::null()));
    wait::until("the lease is taken", || program.path("repo/locks/j.json").exists());
    program.refused(&["backup", "j"], "is already running on", "Wait for it to end");
    slow.kill().unwrap();
    slow.wait().unwrap();
    assert!(program.path("repo/locks/j.json").exists());
    program.expect(0, &["backup", "j"]);
    assert!(!program.path("repo/locks/j.json").exists());
}

/// Runs the program as the first process of a process namespace of its own, as a container does.
fn in_a_namespace(program: &Program, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(assert_cmd::cargo::cargo_bin("wirevault"))
        .args(arguments);
    program.equip(&mut command);
    command
}

#[test]
fn a_run_in_another_container_is_not_taken_for_gone() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make a process namespace");
        return;
    }
    let program = with_jobs(&["j"]);
    program.expect(0, &["init", "--no-encryption"]);
    std::fs::write(program.path("src/large"), noise(8 << 20)).unwrap();
    let mut slow = in_a_namespace(&program, &["backup", "j", "--limit-rate", "1KiB/s"]);
    let mut slow = Guarded::spawn(slow.stderr(Stdio::null()).stdout(Stdio::null()));
    wait::until("the lease is taken", || program.path("repo/locks/j.json").exists());
    // One that shares the state directory sees its lock, one that does not sees nothing of it.
    let elsewhere = tempfile::tempdir().unwrap();
    let alone = |arguments: &[&str]| {
        let mut command = program.command(arguments);
        let output = command.env("WIREVAULT_STATE_DIR", elsewhere.path()).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    program.refused(&["backup", "j"], "is already running on", "Wait for it to end");
    let (code, said) = alone(&["backup", "j"]);
    assert!(code == Some(1) && said.contains("is already running on"), "{said}");
    let output = in_a_namespace(&program, &["backup", "j"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("is already running on"),
        "{said}"
    );
    slow.kill().unwrap();
    slow.wait().unwrap();
    // That it has ended is seen by the lock alone: its number says nothing here.
    wait::until("the kernel has given the lock back", || {
        let locks = std::fs::read_dir(program.state.path().join("leases"))
            .unwrap()
            .flatten();
        let free = |path| {
            let file = std::fs::File::open(path).unwrap();
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
        };
        locks.into_iter().all(|lock| free(lock.path()))
    });
    let (code, said) = alone(&["backup", "j"]);
    assert!(code == Some(1) && said.contains("expires after"), "{said}");
    program.expect(0, &["backup", "j"]);
    assert!(!program.path("repo/locks/j.json").exists());
}

/// Nothing rests on a lease, so the run ends well; that there is another one is told.
#[test]
fn a_run_whose_lease_was_taken_says_so_and_stores_its_snapshot() {
    let program = with_jobs(&["j"]);
    program.expect(0, &["init", "--no-encryption"]);
    let (held, lease, log) = (
        program.path("held"),
        program.path("repo/locks/j.json"),
        program.path("log"),
    );
    let mut command = program.command(&["backup", "j"]);
    command
        .env("WIREVAULT_TEST_HOLD", "manifest")
        .env("WIREVAULT_TEST_HELD", &held)
        .env("WIREVAULT_TEST_LEASE_SECONDS", "12")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap());
    let mut run = Guarded::spawn(&mut command);
    let said = || std::fs::read_to_string(&log).unwrap();
    wait::until("the run comes to its point", || {
        assert!(run.try_wait().unwrap().is_none(), "{}", said());
        held.exists()
    });
    let taker = LeaseDocument {
        format: document::FORMAT,
        job: "j".to_owned(),
        host: "web1".to_owned(),
        pid: 7,
        run: SnapshotId::new(jiff::Timestamp::now(), "j", 7),
        holder: None,
    };
    let body = document::encode(&taker).unwrap();
    // A renewal under way may write over it once.
    wait::until("it is told", || {
        std::fs::write(program.path("taker"), &body).unwrap();
        std::fs::rename(program.path("taker"), &lease).unwrap();
        assert!(run.try_wait().unwrap().is_none(), "{}", said());
        said().contains("took over the lease")
    });
    assert!(
        said().contains(taker.run.as_str()) && said().contains("on web1, process 7"),
        "{}",
        said()
    );
    std::fs::remove_file(&held).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(0), "{}", said());
    assert_eq!(program.listed().len(), 1);
    assert_eq!(std::fs::read(&lease).unwrap(), body, "it is the other run's");
}
