//! What is said of backups comes out of what is stored: page, health address, metrics, `status` and `health`, in every state.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::run::{Listener, Scheduler, configure, get, walk, with_tree};
use crate::support::program::{Program, files_below, noise};
use crate::support::wait;

const NIGHTLY: &str = "schedule = \"0 2 * * *\"";

/// So many seconds later.
const DAYS_LATER: &str = "259200";

/// Runs a verb some days later.
fn later(program: &Program, arguments: &[&str]) -> (i32, String) {
    let mut command = program.command(arguments);
    command.env("WIREVAULT_TEST_CLOCK_SECONDS", DAYS_LATER);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), text)
}

fn rows(text: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(text).unwrap();
    document.as_array().unwrap().clone()
}

pub(crate) fn flip_a_byte(program: &Program) {
    let data = walk(&program.path("repo/data"), ".tar.zst");
    let mut bytes = std::fs::read(&data).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(&data, bytes).unwrap();
}

/// Every way of asking agrees that not all is well, and says why.
fn assert_says(address: &str, why: &str) {
    wait::until(why, || get(address, "/health").1.contains(why));
    let (status, body) = get(address, "/health");
    assert_eq!(status, 503, "{body}");
    let page = get(address, "/").1;
    assert!(
        page.contains("Not all is well.") && !page.contains("All is well."),
        "{page}"
    );
    assert!(get(address, "/metrics").1.contains("wirevault_ok 0\n"));
}

fn assert_all_is_well(address: &str) {
    wait::until("all is well", || get(address, "/health").0 == 200);
    assert!(get(address, "/").1.contains("All is well."));
    assert!(get(address, "/metrics").1.contains("wirevault_ok 1\n"));
}

fn address(scheduler: &Scheduler) -> String {
    scheduler.event("serving")["address"].as_str().unwrap().to_owned()
}

#[test]
fn status_of_a_repository_needs_nothing_else() {
    let program = with_tree();
    configure(&program, "", NIGHTLY);
    program.expect(0, &["backup", "full"]);
    std::fs::remove_file(program.path("wirevault.toml")).unwrap();
    let repository = program.path("repo").display().to_string();
    let ask = ["status", "--json", "--from", &repository];
    let found = rows(&program.expect(0, &ask));
    let row = found[0].as_object().unwrap();
    let keys: BTreeSet<&str> = row.keys().map(String::as_str).collect();
    let want = [
        "host",
        "job",
        "source",
        "newest_good",
        "age_seconds",
        "overdue",
        "verified_level",
        "verified_at",
        "damaged",
        "stored_bytes",
    ];
    assert_eq!((found.len(), keys), (1, BTreeSet::from(want)));
    assert_eq!((&row["job"], &row["source"]), (&"full".into(), &"tree".into()));
    assert_eq!((&row["overdue"], &row["damaged"]), (&false.into(), &false.into()));
    assert!(row["verified_level"].is_null() && row["verified_at"].is_null());
    assert!(row["stored_bytes"].as_u64().unwrap() > 0 && row["newest_good"].is_string());

    program.expect(0, &["verify", "latest", "--level", "content", "--from", &repository]);
    let row = rows(&program.expect(0, &ask)).remove(0);
    assert_eq!(row["verified_level"], "content");
    assert!(row["verified_at"].is_string());

    // The schedule stands in the plan of the snapshot.
    let (code, text) = later(&program, &ask);
    let row = rows(&text).remove(0);
    assert_eq!((code, &row["overdue"]), (1, &true.into()), "{text}");
    assert!(row["age_seconds"].as_i64().unwrap() > 250_000, "{text}");
    let (code, text) = later(&program, &["status", "--from", &repository]);
    assert!(code == 1 && text.contains("overdue: "), "{text}");
    let (code, text) = later(&program, &["health", "--from", &repository]);
    assert!(
        code == 1 && text.starts_with("failing: job full: source tree is overdue"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(program.expect(0, &["health", "--from", &repository]), "ok\n");
    program.refused(&["status", "--from", "/nowhere"], "no repository at", "wirevault init");
}

#[test]
fn a_job_that_never_had_a_snapshot_is_not_well() {
    let program = with_tree();
    configure(&program, "", NIGHTLY);
    program.expect(0, &["init", "--no-encryption"]);
    let row = rows(&program.expect(1, &["status", "--json"])).remove(0);
    assert!(row["newest_good"].is_null() && row["age_seconds"].is_null(), "{row}");
    assert_eq!(row["overdue"], true);
    let said = program.expect(1, &["health", "--listen", "off"]);
    assert!(
        said.starts_with("failing: ") && said.contains("no good snapshot"),
        "{said}"
    );

    program.expect(0, &["backup", "full"]);
    program.expect(0, &["status"]);
    assert_eq!(program.expect(0, &["health", "--listen", "off"]), "ok\n");
}

/// A failure, a restart, and another process: all say the same.
#[test]
fn a_failure_is_known_after_a_restart_and_told_once() {
    let program = with_tree();
    let listener = Listener::start();
    let chat = format!(
        "[notify.chat]\nkind = \"webhook\"\nurl = \"{}\"\non = [\"failure\", \"recovery\"]",
        listener.url("/chat")
    );
    configure(&program, "", &format!("{NIGHTLY}\n{chat}"));
    program.expect(0, &["backup", "full"]);
    std::fs::rename(program.path("tree"), program.path("away")).unwrap();
    let scheduler = Scheduler::start(&program);
    let first = address(&scheduler);
    assert_eq!(scheduler.event("ended")["status"], "failed");
    assert_says(&first, "the last run failed");
    assert!(listener.expect("/chat").contains("\"failure\""));
    scheduler.end();

    // Its next time is far, so nothing runs.
    configure(&program, "", &format!("schedule = \"0 2 29 2 *\"\n{chat}"));
    let scheduler = Scheduler::start(&program);
    let second = address(&scheduler);
    assert_says(&second, "the last run failed");
    let metrics = get(&second, "/metrics").1;
    for line in [
        "wirevault_last_run_success{job=\"full\",what=\"backup\"} 0",
        "wirevault_consecutive_failures{job=\"full\",what=\"backup\"} 1",
        // Its name of the release before.
        "wirevault_failures_in_a_row{job=\"full\",what=\"backup\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert!(
        metrics.contains("wirevault_last_success_timestamp_seconds{job=\"full\""),
        "{metrics}"
    );
    let said = program.run(&["health", "--listen", &second]);
    let line = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.status.code() == Some(1) && line.starts_with("failing: job full: the last run failed"),
        "{line}"
    );
    scheduler.end();
    let (code, text) = later(&program, &["status"]);
    assert!(code == 1 && text.contains("failing: "), "{text}");

    // The end of a failure that an earlier process told is told by this one.
    std::fs::rename(program.path("away"), program.path("tree")).unwrap();
    configure(&program, "", &format!("{NIGHTLY}\n{chat}"));
    let scheduler = Scheduler::start(&program);
    let third = address(&scheduler);
    assert_eq!(scheduler.event("ended")["status"], "done");
    assert!(listener.expect("/chat").contains("\"recovery\""));
    assert_all_is_well(&third);
    let said = program.expect(0, &["health", "--listen", &third]);
    assert_eq!(said, "ok\n");
    scheduler.end();
}

#[test]
fn damage_stands_until_a_new_snapshot_is_proven() {
    let program = with_tree();
    configure(&program, "", NIGHTLY);
    program.expect(0, &["backup", "full"]);
    flip_a_byte(&program);
    program.expect(1, &["verify", "latest"]);
    let row = rows(&program.expect(1, &["status", "--json"])).remove(0);
    assert_eq!(row["damaged"], true, "{row}");
    assert!(row["newest_good"].is_null(), "{row}");
    assert!(program.expect(1, &["status"]).contains("damaged: "));

    program.expect(0, &["backup", "full"]);
    let row = rows(&program.expect(1, &["status", "--json"])).remove(0);
    assert!(row["damaged"] == true && row["newest_good"].is_string(), "{row}");
    program.expect(0, &["verify", "latest"]);
    let row = rows(&program.expect(0, &["status", "--json"])).remove(0);
    assert_eq!(row["damaged"], false, "{row}");
}

fn records_below(root: &Path) -> usize {
    let all = if root.exists() { files_below(root) } else { Vec::new() };
    all.into_iter()
        .filter(|(path, _)| path.to_string_lossy().ends_with(".json"))
        .count()
}

/// The record of a run waits in the state directory while the repository is away, which is itself not well.
#[test]
fn a_repository_that_is_away_is_not_well_and_gets_its_records_later() {
    let program = with_tree();
    configure(&program, "", "on_change = \"1s\"");
    let scheduler = Scheduler::start(&program);
    let address = address(&scheduler);
    assert_eq!(scheduler.event("ended")["status"], "done");
    assert_all_is_well(&address);
    assert_eq!(
        (
            records_below(&program.path("repo/records")),
            records_below(program.state.path().join("records").as_path())
        ),
        (1, 0)
    );

    std::fs::rename(program.path("repo"), program.path("away")).unwrap();
    std::fs::write(program.path("tree/file"), "changed").unwrap();
    assert_eq!(scheduler.event("ended")["status"], "failed");
    assert_says(&address, "repository default: not reached");
    assert_says(&address, "the last run failed");
    scheduler.end();
    // The run may have been repeated meanwhile.
    let waiting = records_below(program.state.path().join("records").as_path());
    assert!(waiting > 0);

    // Another process knows of it, and stores it once it can.
    std::fs::rename(program.path("away"), program.path("repo")).unwrap();
    let scheduler = Scheduler::start(&program);
    assert_eq!(scheduler.event("ended")["status"], "done");
    let stored = records_below(&program.path("repo/records"));
    assert_eq!(
        (stored, records_below(program.state.path().join("records").as_path())),
        (waiting + 2, 0)
    );
    scheduler.end();
}

/// What was killed left no record; the next process finds the note of its beginning.
#[test]
fn a_run_that_was_killed_is_known_to_the_next_process() {
    let program = with_tree();
    configure(&program, "", NIGHTLY);
    program.expect(0, &["backup", "full"]);
    std::fs::write(program.path("tree/file"), noise(12 << 20)).unwrap();
    configure(&program, "rate_limit = \"1MiB/s\"", NIGHTLY);
    let scheduler = Scheduler::start(&program);
    scheduler.event("begun");
    wait::until("the note of the run", || {
        files_below(program.state.path().join("records").as_path())
            .iter()
            .any(|(path, _)| path.to_string_lossy().ends_with(".begun"))
    });
    scheduler.signal(Signal::KILL);
    configure(&program, "", "schedule = \"0 2 29 2 *\"");
    let scheduler = Scheduler::start(&program);
    assert_says(&address(&scheduler), "the process ended during the run");
    assert_eq!(files_below(program.state.path().join("records").as_path()).len(), 0);
    scheduler.end();
}

#[test]
fn the_failure_of_an_optional_source_is_a_warning() {
    let program = with_tree();
    let source = |optional: &str| {
        format!(
            "[source.cache]\nkind = \"sqlite\"\npath = \"missing.db\"\n{optional}\n[job.both]\nsources = [\"tree\", \"cache\"]\n"
        )
    };
    configure(&program, "", &source(""));
    program.expect(2, &["backup", "both"]);
    let said = program.expect(1, &["status", "--job", "both"]);
    assert!(said.contains("incomplete"), "{said}");

    configure(&program, "", &source("optional = true"));
    let output = program.run(&["backup", "both"]);
    let (text, log) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!(output.status.code(), Some(0), "{text}{log}");
    assert!(
        text.contains("cache failed (optional)") && log.contains("WARN"),
        "{text}{log}"
    );
    // The snapshot is complete without it, so it is the latest.
    let shown = program.json(&["show", "latest:both"]);
    assert_eq!(shown["snapshot"]["sources"][1]["optional"], true, "{shown}");
    program.expect(0, &["status", "--job", "both"]);
    // Nothing at all is a failure whatever is optional.
    std::fs::rename(program.path("tree"), program.path("away")).unwrap();
    program.expect(1, &["backup", "both"]);
}

#[test]
fn an_environment_that_would_keep_nothing_or_is_misspelled_is_refused() {
    for (name, value, message) in [
        ("BACKUP_RETENTION_DAYS", "0", "BACKUP_RETENTION_DAYS is \"0\""),
        (
            "BACKUP_RETENTION_DAY",
            "7",
            "unknown environment variable BACKUP_RETENTION_DAY",
        ),
        (
            "BACKUP_SHEDULE",
            "0 3 * * *",
            "unknown environment variable BACKUP_SHEDULE",
        ),
    ] {
        let mut program = Program::bare();
        std::fs::create_dir(program.path("tree")).unwrap();
        let tree = program.path("tree").display().to_string();
        program.set("BACKUP_PATHS", &tree);
        let repository = program.path("repo").display().to_string();
        program.set("BACKUP_DIR", &repository);
        program.expect(0, &["backup", "--dry-run"]);
        program.set(name, value);
        program.refused(&["backup"], message, "");
    }
}
