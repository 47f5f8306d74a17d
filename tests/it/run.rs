//! The scheduler as a process: what it catches up, repeats, refuses and says. When a job is due is tested in `schedule`; what takes
//! time, in `scheduler`.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::program::{Program, noise};
use crate::support::wait::{self, PATIENCE};

pub(crate) fn configure(program: &Program, repository: &str, job: &str) {
    let text = format!(
        "[repository]\nurl = \"file://{}\"\n{repository}\n[source.tree]\nkind = \"files\"\nroot = \"{}\"\n\
         [job.full]\nsources = [\"tree\"]\n{job}\n",
        program.path("repo").display(),
        program.path("tree").display(),
    );
    std::fs::write(program.path("wirevault.toml"), text).unwrap();
}

/// A scheduler two days from now, so that every nightly job is overdue.
pub(crate) struct Scheduler {
    process: Child,
    events: Receiver<Value>,
}

impl Scheduler {
    pub(crate) fn start(program: &Program) -> Self {
        Self::start_with(program, &[])
    }

    pub(crate) fn start_with(program: &Program, arguments: &[&str]) -> Self {
        Self::of(program.command(&[&["run", "--json"], arguments].concat()))
    }

    fn of(mut command: std::process::Command) -> Self {
        command.env_remove("WIREVAULT_REPOSITORY");
        command.env("WIREVAULT_TEST_CLOCK_SECONDS", (2 * 24 * 3600).to_string());
        command.env("WIREVAULT_LISTEN", "127.0.0.1:0");
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
    pub(crate) fn event(&self, kind: &str) -> Value {
        loop {
            let event = self.events.recv_timeout(PATIENCE).unwrap();
            if event["event"] == kind {
                return event;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(
            Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap(),
            signal,
        )
        .unwrap();
    }

    pub(crate) fn end(mut self) {
        self.signal(Signal::TERM);
        self.event("stopped");
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
    }
}

pub(crate) fn with_tree() -> Program {
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

/// A secret whose file is gone is not one that nobody set: the old configuration stays.
#[test]
fn a_secret_that_cannot_be_read_is_refused_at_sighup() {
    let program = with_tree();
    configure(&program, "", "schedule = \"0 2 * * *\"");
    program.expect(0, &["backup", "full"]);
    let secret = program.path("secret");
    std::fs::write(&secret, "word\n").unwrap();
    let mut command = program.command(&["run", "--json"]);
    command.env("REDIS_URL_FILE", &secret);
    let scheduler = Scheduler::of(command);
    scheduler.event("ended");
    std::fs::remove_file(&secret).unwrap();
    scheduler.signal(Signal::HUP);
    let refused = scheduler.event("reload-refused");
    assert!(
        refused["error"].as_str().unwrap().contains("REDIS_URL_FILE"),
        "{refused}"
    );
    scheduler.end();
}

/// A disk that is not mounted for a while: no other repository is begun in its place, and nothing is lost.
#[test]
fn a_repository_that_is_gone_for_a_while_is_not_made_anew() {
    let program = with_tree();
    configure(&program, "", "on_change = \"1s\"");
    let scheduler = Scheduler::start(&program);
    assert_eq!(scheduler.event("ended")["status"], "done");
    std::fs::rename(program.path("repo"), program.path("away")).unwrap();
    std::fs::create_dir(program.path("repo")).unwrap();
    std::fs::write(program.path("tree/file"), "changed").unwrap();
    let ended = scheduler.event("ended");
    assert!(ended["error"].as_str().unwrap().contains("no longer exists"), "{ended}");
    assert_eq!(std::fs::read_dir(program.path("repo")).unwrap().count(), 0);
    std::fs::remove_dir(program.path("repo")).unwrap();
    std::fs::rename(program.path("away"), program.path("repo")).unwrap();
    std::fs::write(program.path("tree/file"), "changed again").unwrap();
    assert_eq!(scheduler.event("ended")["status"], "done");
    scheduler.end();
    assert_eq!(program.listed().len(), 2);
    program.expect(0, &["verify", "--all", "--no-evidence"]);
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

/// Takes HTTP requests and answers each with 200, or with 503 the first time it hears of a path that contains "flaky".
pub(crate) struct Listener {
    address: String,
    heard: Receiver<(String, String)>,
}

impl Listener {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            let mut flaked = false;
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let mut first = String::new();
                reader.read_line(&mut first).unwrap();
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if line.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let flakes = first.contains("flaky") && !flaked;
                flaked |= flakes;
                let status = if flakes { "503 Busy" } else { "200 OK" };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
                if !flakes {
                    let path = first.split(' ').nth(1).unwrap().to_owned();
                    let _ = sender.send((path, String::from_utf8(body).unwrap()));
                }
            }
        });
        Self { address, heard }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits for the next request and checks its path.
    pub(crate) fn expect(&self, path: &str) -> String {
        let (heard, body) = self.heard.recv_timeout(PATIENCE).unwrap();
        assert_eq!(heard, path, "{body}");
        body
    }
}

/// One GET; returns status and body.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn a_hook_that_fails_before_a_run_is_the_failure_of_the_run() {
    let program = with_tree();
    configure(&program, "", "before = [\"/bin/false\"]");
    program.refused(
        &["backup", "full"],
        "hook before of job \"full\"",
        "See the log for its output",
    );
    configure(&program, "", "before = \"stop the thing\"");
    program.refused(
        &["list"],
        "an address to call is not a URL",
        "a program with its arguments as a list",
    );
    configure(&program, "", "before = [\"sh\", \"-c\"]");
    program.refused(&["list"], "full path", "do not run in a shell");
}

/// Every line of the Prometheus text format: comments, or a name, labels and a number; each family once.
fn assert_is_exposition(text: &str) {
    let mut families = std::collections::BTreeSet::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            rest.split(' ').next().unwrap().clone_into(&mut family);
            assert!(families.insert(family.clone()), "{family} twice");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(name == family && matches!(kind, "gauge" | "counter"), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap();
        assert!(series.split('{').next().unwrap() == family, "{line}");
        if let Some((_, labels)) = series.split_once('{') {
            for label in labels.strip_suffix('}').unwrap().split("\",") {
                let (name, value) = label.split_once("=\"").unwrap();
                assert!(
                    name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !value.is_empty(),
                    "{line}"
                );
            }
        }
    }
}

#[test]
fn a_drill_proves_the_last_snapshots_and_finds_damage() {
    let program = with_tree();
    let drill = "keep = { last = 3 }\n[drill.sunday]\nschedule = \"0 5 * * *\"\n";
    configure(&program, "", drill);
    program.expect(0, &["backup", "full"]);
    let drills = Scheduler::start_with(&program, &["--drills-only"]);
    let address = drills.event("serving")["address"].as_str().unwrap().to_owned();
    // Without evidence, the drill's history begins with the process.
    drills.end();
    program.expect(0, &["verify", "latest"]);

    configure(&program, "", "[drill.sunday]\nschedule = \"* * * * *\"\n");
    let drills = Scheduler::start_with(&program, &["--drills-only"]);
    let address_now = drills.event("serving")["address"].as_str().unwrap().to_owned();
    assert!(!address.is_empty());
    let proved = drills.event("proved");
    assert_eq!(
        (&proved["level"], &proved["damage"]),
        (&"content".into(), &serde_json::json!([])),
        "{proved}"
    );
    assert_eq!(drills.event("ended")["what"], "drill");
    // The page shows what the repositories hold, which are looked at now and then.
    wait::until("the proof is seen", || {
        let (status, metrics) = get(&address_now, "/metrics");
        assert_eq!(status, 200);
        assert_is_exposition(&metrics);
        metrics.contains("wirevault_verified_timestamp_seconds{")
    });
    let page = get(&address_now, "/").1;
    assert!(
        page.contains("proven") && page.contains("sunday") && page.contains("<svg"),
        "{page}"
    );
    drills.end();

    // A flipped byte: the drill fails, is not repeated every minute, and health says so.
    let data = walk(&program.path("repo/data"), ".tar.zst");
    let mut bytes = std::fs::read(&data).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(&data, bytes).unwrap();
    let drills = Scheduler::start_with(&program, &["--drills-only"]);
    let address = drills.event("serving")["address"].as_str().unwrap().to_owned();
    let proved = drills.event("proved");
    assert!(proved["damage"][0].as_str().unwrap().contains("SHA-256"), "{proved}");
    let ended = drills.event("ended");
    assert_eq!(
        (&ended["status"], &ended["repeats"]),
        (&"failed".into(), &false.into()),
        "{ended}"
    );
    assert_eq!(get(&address, "/health").0, 503);
    drills.end();
}

pub(crate) fn walk(root: &std::path::Path, suffix: &str) -> std::path::PathBuf {
    let found = crate::support::program::files_below(root)
        .into_iter()
        .map(|(path, _)| path);
    found
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(suffix))
        .map(|path| root.join(path))
        .unwrap()
}

#[test]
fn clean_up_is_dry_until_told_and_never_reaches_a_repository() {
    let program = with_tree();
    let logs = program.path("logs/app");
    std::fs::create_dir_all(&logs).unwrap();
    let old = std::fs::File::create(logs.join("old.log")).unwrap();
    old.set_modified(std::time::SystemTime::now() - Duration::from_secs(40 * 86_400))
        .unwrap();
    let rule = |path: &std::path::Path, delete: bool| {
        format!(
            "[cleanup.logs]\npath = \"{}\"\nglob = \"*.log\"\nkeep = \"30d\"\ndelete = {delete}",
            path.display()
        )
    };
    configure(&program, "", &rule(&logs, false));
    let said = program.expect(0, &["cleanup"]);
    assert!(
        said.contains("would remove old.log") && logs.join("old.log").exists(),
        "{said}"
    );
    let scheduler = Scheduler::start(&program);
    scheduler.event("planned");
    scheduler.end();
    program.expect(0, &["cleanup", "logs", "--delete"]);
    assert!(!logs.join("old.log").exists());
    program.refused(&["cleanup", "log"], "no [cleanup.log]", "\"logs\"");
    configure(&program, "", &rule(&program.path("repo/data"), false));
    program.refused(&["list"], "reaches the repository", "keep rules");
    configure(&program, "", &rule(std::path::Path::new("/var"), false));
    program.refused(&["list"], "is too broad", "two levels");
}

#[test]
fn beyond_the_loopback_the_status_page_needs_a_token() {
    let program = with_tree();
    configure(&program, "", "schedule = \"0 2 * * *\"");
    program.refused(
        &["run", "--listen", "0.0.0.0:0"],
        "status_token is not set",
        "WIREVAULT_STATUS_TOKEN",
    );
    program.refused(&["run", "--drills-only"], "has no [drill.NAME]", "[drill.sunday]");
}
