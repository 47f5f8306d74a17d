//! `log receive`: the log of servers, streamed into a repository, and what comes back out of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use wirevault::engines::postgres::wal::Lsn;

use crate::run::{Scheduler, get};
use crate::support::child::Guarded;
use crate::support::program::{Program, files_below};
use crate::support::wait;
use crate::support::wal_server::{Home, WalServer};

/// A server without `archive_mode`, and a repository beside it.
fn server(home: &Arc<Home>) -> (WalServer, String) {
    let server = WalServer::init(home, "primary", &[]);
    let repository = home.inside("repository");
    server.expect(0, &["init", "--no-encryption", "--to", &repository]);
    server.append("postgresql.conf", "wal_level = replica\nmax_wal_senders = 5\n");
    server.start();
    server.sql(&["CREATE TABLE rows (number serial, text text)"]);
    (server, repository)
}

/// A receiver at work; it is killed when this goes.
struct Receiving {
    child: Guarded,
    /// Where it tells what happens.
    told: PathBuf,
}

impl Receiving {
    fn of(server: &WalServer, url: &str, repository: &str) -> Self {
        let words = ["log", "receive", url, "--to", repository, "--flush", "1", "--json"];
        let mut command = server.tool_command(&words);
        let told = server.home.outside("receiver.log");
        let file = std::fs::File::options().append(true).create(true).open(&told).unwrap();
        command.stdout(Stdio::piped()).stderr(file);
        Self {
            child: Guarded::spawn(&mut command),
            told,
        }
    }

    /// Ends it as a service manager does; returns its exit code, its report, and what it has told.
    fn ended(mut self) -> (i32, Value, String) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        self.ends()
    }

    /// Waits until it ends.
    fn ends(&mut self) -> (i32, Value, String) {
        let mut out = String::new();
        std::io::Read::read_to_string(&mut self.child.stdout.take().unwrap(), &mut out).unwrap();
        let code = self.child.wait().unwrap().code().unwrap();
        let told = std::fs::read_to_string(&self.told).unwrap();
        (code, serde_json::from_str(&out).unwrap_or_default(), told)
    }
}

fn shown(server: &WalServer, repository: &str) -> Value {
    server.json(0, &["log", "show", "--from", repository])["logs"][0].clone()
}

fn lsn(text: &str) -> Lsn {
    text.parse().unwrap()
}

/// Writes rows, each a transaction; returns where the log ends then.
fn load(server: &WalServer, rows: u32) -> Lsn {
    server.sql(&[&format!(
        "DO $$ BEGIN FOR i IN 1..{rows} LOOP INSERT INTO rows (text) VALUES (repeat(md5(i::text), 20)); COMMIT; END LOOP; END $$"
    )]);
    lsn(&server.sql(&["SELECT pg_current_wal_flush_lsn()"]))
}

fn rows(server: &WalServer) -> String {
    server.sql(&["SELECT count(*), sum(number), md5(string_agg(text, ',' ORDER BY number)) FROM rows"])
}

/// Returns where the last window of the log ends.
fn end(server: &WalServer, repository: &str) -> Lsn {
    let log = shown(server, repository);
    let windows = log["windows"].as_array().cloned().unwrap_or_default();
    let to = windows.last().and_then(|window| window["to"].as_str());
    to.map_or(Lsn(0), lsn)
}

fn until_stored(server: &WalServer, repository: &str, to: Lsn) {
    let begun = Instant::now();
    while end(server, repository) < to {
        let told = std::fs::read_to_string(server.home.outside("receiver.log")).unwrap_or_default();
        assert!(
            begun.elapsed() < wait::PATIENCE,
            "the log is not stored up to {to}\n{told}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for the slot: from there on the log is kept. A checkpoint before it would leave a copy that was made earlier without its beginning.
fn slot_is_there(server: &WalServer) {
    wait::until("the receiver has made its slot", || {
        server.sql(&["SELECT count(*) FROM pg_replication_slots"]) != "0"
    });
}

/// Tells a copy of a data directory to recover out of the repository, and starts it.
fn recovered(copy: &WalServer, repository: &str) {
    let fetch = format!("{} log fetch %f %p --from {repository}", copy.home.inside("wirevault"));
    copy.append("postgresql.conf", &format!("restore_command = '{fetch}'\n"));
    copy.append("recovery.signal", "");
    copy.start();
    copy.recovered();
}

/// What a receiver that is killed again and again has stored brings a copy to the last row, within a segment that was never filled.
fn killed_and_recovered(home: &Arc<Home>) {
    let (primary, repository) = server(home);
    primary.stop("fast");
    let copy = primary.copied("copy");
    primary.start();
    let mut receiving = Receiving::of(&primary, &primary.url(), &repository);
    slot_is_there(&primary);
    for round in 0..4 {
        let to = load(&primary, 300 + round * 500);
        if round % 2 == 0 {
            until_stored(&primary, &repository, to);
        }
        drop(receiving);
        receiving = Receiving::of(&primary, &primary.url(), &repository);
    }
    let to = load(&primary, 50);
    until_stored(&primary, &repository, to);
    let log = shown(&primary, &repository);
    assert_eq!(log["gaps"], Value::Array(vec![]), "{log:#}");
    assert_eq!(log["windows"].as_array().unwrap().len(), 1, "{log:#}");
    assert!(log["windows"][0]["last_time"].is_string(), "{log:#}");

    let (code, report, told) = receiving.ended();
    assert_eq!(code, 0, "{told}");
    assert_eq!(
        (&report["gaps"], &report["timeline"]),
        (&Value::from(0), &Value::from(1)),
        "{report:#}"
    );
    // The server keeps what is not confirmed, and no more.
    let kept = lsn(&primary.sql(&["SELECT restart_lsn FROM pg_replication_slots WHERE NOT active"]));
    assert!(
        kept.0 >= to.0 - (1 << 20) && kept <= end(&primary, &repository),
        "{kept} and {to}"
    );
    let read = primary.json(0, &["log", "verify", "--from", &repository]);
    assert_eq!(read["logs"][0]["damaged"], Value::Array(vec![]), "{read:#}");
    // Parts are left of the segment at work alone.
    let parts = files_below(&home.outside("repository"));
    let parts = parts.iter().map(|(path, _)| path.display().to_string());
    let open: Vec<String> = parts.filter(|path| path.contains("/open/")).collect();
    let names: BTreeSet<&str> = open
        .iter()
        .filter_map(|path| path.rsplit('/').next()?.get(..24))
        .collect();
    assert!(!open.is_empty() && names.len() == 1, "{open:?}");

    let expected = rows(&primary);
    primary.stop("immediate");
    recovered(&copy, &repository);
    assert_eq!(rows(&copy), expected);
}

#[test]
fn a_receiver_that_is_killed_again_and_again_loses_nothing() {
    killed_and_recovered(&Home::of_15());
}

#[test]
fn a_receiver_of_postgresql_18_that_is_killed_again_and_again_loses_nothing() {
    if let Some(home) = Home::of_18() {
        killed_and_recovered(&home);
    }
}

/// A standby is promoted while it is followed; the log goes on on its timeline, and both come back.
#[test]
fn a_promotion_is_followed() {
    let home = Home::of_15();
    let (primary, repository) = server(&home);
    primary.stop("fast");
    let (copy, other) = (primary.copied("copy"), primary.copied("other"));
    primary.start();
    let standby = primary.without_data("standby");
    // Two hosts, as an application names them; the second is followed where the first does not answer.
    let url = format!(
        "postgres-physical://admin@127.0.0.1:{},127.0.0.1:{}?sslmode=disable",
        primary.port, standby.port
    );
    let receiving = Receiving::of(&primary, &url, &repository);
    slot_is_there(&primary);
    let to = load(&primary, 2000);
    primary.make_standby(&standby);
    standby.start();
    let first = rows(&primary);
    until_stored(&primary, &repository, to);
    primary.stop("immediate");
    standby.promote();
    let to = load(&standby, 700);
    until_stored(&standby, &repository, to);
    let second = rows(&standby);
    let (code, report, told) = receiving.ended();
    assert_eq!((code, &report["timeline"]), (0, &Value::from(2)), "{report:#}\n{told}");
    let log = shown(&standby, &repository);
    assert_eq!(log["gaps"], Value::Array(vec![]), "{log:#}");
    assert!(
        log["windows"]
            .as_array()
            .unwrap()
            .iter()
            .any(|window| (&window["first_timeline"], &window["timeline"]) == (&Value::from(1), &Value::from(2))),
        "{log:#}"
    );
    standby.expect(0, &["log", "verify", "--from", &repository]);
    standby.stop("immediate");
    recovered(&copy, &repository);
    assert_eq!(rows(&copy), second);
    other.append("postgresql.conf", "recovery_target_timeline = 'current'\n");
    recovered(&other, &repository);
    assert_eq!(rows(&other), first);
}

/// What the server has removed is a gap that is told, and the log goes on behind it.
#[test]
fn a_slot_that_is_lost_is_a_gap() {
    let home = Home::of_15();
    let (primary, repository) = server(&home);
    let receiving = Receiving::of(&primary, &primary.url(), &repository);
    slot_is_there(&primary);
    primary.expect(0, &["backup", &primary.url(), "--to", &repository]);
    let last = load(&primary, 2000);
    until_stored(&primary, &repository, last);
    assert_eq!(receiving.ended().0, 0);
    let parts = || {
        let files = files_below(&home.outside("repository")).into_iter();
        let files = files.map(|(path, _)| path.display().to_string());
        files
            .filter(|path| path.contains("/open/"))
            .collect::<BTreeSet<String>>()
    };
    let before_the_gap = parts();
    assert!(!before_the_gap.is_empty());
    primary.sql(&["SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"]);
    for _ in 0..4 {
        load(&primary, 3000);
        primary.sql(&["SELECT pg_switch_wal()", "CHECKPOINT"]);
    }
    let receiving = Receiving::of(&primary, &primary.url(), &repository);
    let to = load(&primary, 100);
    until_stored(&primary, &repository, to);
    let (code, report, told) = receiving.ended();
    assert_eq!((code, &report["gaps"]), (2, &Value::from(1)), "{report:#}\n{told}");
    assert!(told.contains("needs a base backup taken after it"), "{told}");
    let log = shown(&primary, &repository);
    assert_eq!(log["gaps"].as_array().unwrap().len(), 1, "{log:#}");
    assert_eq!(log["windows"].as_array().unwrap().len(), 2, "{log:#}");
    // What was stored of the segment before the gap counts.
    assert!(lsn(log["windows"][0]["to"].as_str().unwrap()) >= last, "{log:#}");
    assert!(lsn(log["gaps"][0]["from"].as_str().unwrap()) >= last, "{log:#}");
    let into = home.inside("before-the-gap");
    let restored = |code: i32, position: Lsn| {
        let position = position.to_string();
        let flags = ["--from", &repository, "--into", &into, "--lsn", &position, "--dry-run"];
        primary.expect(code, &[&["restore", "latest"], &flags[..]].concat())
    };
    restored(0, last);
    assert!(restored(1, to).contains("a gap in the log"));
    primary.expect(2, &["log", "verify", "--from", &repository]);
    // Of the segment before the gap the parts are all that there is: they stay, whoever begins anew.
    let receiving = Receiving::of(&primary, &primary.url(), &repository);
    let to = load(&primary, 2000);
    until_stored(&primary, &repository, to);
    let (code, report, told) = receiving.ended();
    assert_eq!(code, 0, "{report:#}\n{told}");
    assert!(parts().is_superset(&before_the_gap), "{before_the_gap:?}");
}

/// Whoever cannot be received is told why, at once.
#[test]
fn what_cannot_be_received_is_refused() {
    let home = Home::of_15();
    let (primary, repository) = server(&home);
    let refused = |server: &WalServer, source: &str, message: &str, hint: &str| {
        let said = server.expect(1, &["log", "receive", source, "--to", &repository]);
        assert!(said.contains(message) && said.contains(hint), "{said}");
    };
    refused(&primary, "files:/etc", "has no write-ahead log", "postgres-physical://");
    refused(
        &primary,
        "main",
        "no source of the configuration is called \"main\"",
        "postgres-physical://",
    );
    // Commits would wait for the store.
    primary.sql(&[
        "ALTER SYSTEM SET synchronous_standby_names = '*'",
        "SELECT pg_reload_conf()",
    ]);
    wait::until("the setting counts", || {
        primary.sql(&["SHOW synchronous_standby_names"]) == "*"
    });
    refused(&primary, &primary.url(), "its commits would wait", "one by one");
    primary.sql(&[
        "ALTER SYSTEM RESET synchronous_standby_names",
        "SELECT pg_reload_conf()",
    ]);
    wait::until("the setting counts", || {
        primary.sql(&["SHOW synchronous_standby_names"]).is_empty()
    });
    // An older copy of the disk, whose log would go on otherwise.
    primary.stop("fast");
    let copy = primary.copied("copy");
    primary.start();
    let receiving = Receiving::of(&primary, &primary.url(), &repository);
    let to = load(&primary, 4000);
    until_stored(&primary, &repository, to);
    assert_eq!(receiving.ended().0, 0);
    primary.stop("fast");
    copy.start();
    refused(&copy, &copy.url(), "is stored up to", "timeline of its own");
    // As far as it is beyond that, what is stored is compared.
    copy.sql(&["SELECT pg_create_physical_replication_slot('keep', true)"]);
    load(&copy, 6000);
    let (code, _, told) = Receiving::of(&copy, &copy.url(), &repository).ends();
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("other bytes"), "{told}");
}

/// The scheduler receives what the configuration asks for, shows how far it is, and begins anew where a server comes back.
#[test]
fn the_scheduler_receives_logs() {
    let home = Home::of_15();
    let primary = WalServer::init(&home, "primary", &[]);
    primary.start();
    primary.sql(&["CREATE TABLE rows (number serial, text text)"]);
    let program = Program::bare();
    let repository = program.path("repository").display().to_string();
    let configuration = format!(
        "[repository.near]\nurl = \"file://{repository}\"\n[source.cluster]\nkind = \"postgres-physical\"\nurl = \"{}\"\nlog = true\n\
         [job.yearly]\nsources = [\"cluster\"]\nschedule = \"0 0 1 1 *\"\n",
        primary.url()
    );
    std::fs::write(program.path("wirevault.toml"), configuration).unwrap();
    program.expect(0, &["init", "--no-encryption"]);
    let scheduler = Scheduler::start(&program);
    let address = scheduler.event("serving")["address"].as_str().unwrap().to_owned();
    let end = || {
        let logs = program.json(&["log", "show"])["logs"].clone();
        let windows = logs[0]["windows"].as_array().cloned().unwrap_or_default();
        let to = windows.last().and_then(|window| window["to"].as_str());
        to.map_or(Lsn(0), lsn)
    };
    let to = load(&primary, 500);
    wait::until("the log is stored", || end() >= to);
    // A log that no base backup leads to has one taken, whatever the time is.
    let begun = scheduler.event("begun");
    assert_eq!(
        (&begun["job"], &begun["why"]),
        (&json!("yearly"), &json!("base-needed"))
    );
    assert_eq!(scheduler.event("ended")["status"], "done");
    let metric = |name: &str, value: &str| {
        let line = format!("{name}{{source=\"cluster\",repository=\"near\"}} {value}\n");
        wait::until(&line, || get(&address, "/metrics").1.contains(&line));
    };
    metric("wirevault_log_receiving", "1");
    metric("wirevault_log_lag_bytes", "0");
    let page = get(&address, "/").1;
    assert!(page.contains("<h2>Logs</h2>") && page.contains("receiving"), "{page}");
    primary.stop("fast");
    metric("wirevault_log_receiving", "0");
    primary.start();
    let to = load(&primary, 500);
    wait::until("the log is stored again", || end() >= to);
    metric("wirevault_log_receiving", "1");
    metric("wirevault_log_gaps_total", "0");
    scheduler.end();
    wait::until("the slot is free", || {
        primary.sql(&["SELECT active FROM pg_replication_slots"]) == "f"
    });
    program.expect(0, &["log", "verify"]);
    // Behind a gap another one is needed.
    primary.sql(&["SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"]);
    load(&primary, 3000);
    primary.sql(&["SELECT pg_switch_wal()", "CHECKPOINT"]);
    let scheduler = Scheduler::start(&program);
    let to = load(&primary, 500);
    wait::until("the log is stored behind the gap", || end() >= to);
    assert_eq!(scheduler.event("begun")["why"], "base-needed");
    assert_eq!(scheduler.event("ended")["status"], "done");
    wait::until("a recovery comes behind the gap", || {
        let status = program.json(&["status"]);
        let log = &status[0]["log"];
        log["error"].is_null() && log["to"].as_str().is_some_and(|reached| lsn(reached) >= to)
    });
    scheduler.end();
}

/// A log is kept from the oldest base on; where that is not known, all of it is.
#[test]
fn a_log_is_kept_from_the_oldest_base_on() {
    let home = Home::of_15();
    let (primary, repository) = server(&home);
    let receiving = Receiving::of(&primary, &primary.url(), &repository);
    let prune = |flags: &[&str]| {
        let words = [&["prune", "--repository", &repository, "--keep-last", "1"], flags].concat();
        primary.json(0, &words)
    };
    let segments = || shown(&primary, &repository)["segments"].as_u64().unwrap();
    let base = |rows: u32| {
        let to = load(&primary, rows);
        until_stored(&primary, &repository, to);
        let said = primary.json(0, &["backup", &primary.url(), "--to", &repository]);
        said["snapshots"][0]["sources"][0]["outcome"]["position"]["start_lsn"].clone()
    };
    // No base at all: nothing is removed.
    let to = load(&primary, 3000);
    until_stored(&primary, &repository, to);
    let before = segments();
    assert!(before >= 2 && prune(&[])["logs"].is_null());
    base(3000);
    let start = base(3000);
    let planned = prune(&["--dry-run"]);
    assert_eq!(planned["logs"][0]["before"], start, "{planned:#}");
    let all = segments();
    assert!(all > before);
    let pruned = prune(&[]);
    assert_eq!(
        (&pruned["logs"][0]["before"], &pruned["logs"][0]["files"]),
        (&start, &planned["logs"][0]["files"]),
        "{pruned:#}"
    );
    let files = pruned["logs"][0]["files"].as_u64().unwrap();
    assert!(files >= before && segments() >= all - files, "{pruned:#}");
    let log = shown(&primary, &repository);
    assert_eq!(log["gaps"], Value::Array(vec![]), "{log:#}");
    let from = lsn(log["windows"][0]["from"].as_str().unwrap());
    assert!(from <= lsn(start.as_str().unwrap()), "{log:#}");
    // A manifest that cannot be read may be that of a base.
    base(3000);
    let manifests = home.outside("repository/snapshots");
    let first = std::fs::read_dir(manifests)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .min()
        .unwrap();
    std::fs::write(&first, b"{").unwrap();
    let kept = segments();
    assert!(prune(&[])["logs"].is_null() && segments() >= kept);
    assert_eq!(receiving.ended().0, 0);
}
