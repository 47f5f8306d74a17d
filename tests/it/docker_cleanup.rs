//! What nobody uses on a Docker engine goes, and nothing else; against a real engine, with the clock moved.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use wirevault::config::{CleanupConfig, CleanupScope, parse_source_url};
use wirevault::operations::cleanup::{Cleaned, Unwanted};
use wirevault::policy::schedule::Timing;

use crate::support::docker::{DockerEngine, expect_as_root};
use crate::support::program::Program;

fn names(engine: &DockerEngine, path: &str, pointer: &str) -> Vec<String> {
    let answer = engine.get(path);
    let list = answer.get("Volumes").unwrap_or(&answer).as_array().unwrap();
    let mut names: Vec<String> = list
        .iter()
        .map(|one| {
            one.pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("untagged")
                .to_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn what_nobody_uses_on_an_engine_goes_after_its_time_and_nothing_else() {
    let Some(engine) = DockerEngine::start() else { return };
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("layer"), "first").unwrap();
    for name in ["own:1", "spare:1", "built:1"] {
        std::fs::write(files.path().join("layer"), name).unwrap();
        engine.import(name, files.path());
    }
    // Built anew: the former image has no name any more.
    std::fs::write(files.path().join("layer"), "second").unwrap();
    engine.import("built:1", files.path());
    engine.import_busybox();
    for name in ["data", "cache-1", "cache-2", "precious"] {
        engine.post("/volumes/create", &json!({ "Name": name }));
    }
    engine.run_idle("api", &["data:/data", "cache-2:/cache"], &Value::Null);
    for name in ["once-1", "resting"] {
        engine.run(
            name,
            &json!({ "Image": "busybox:1", "Cmd": ["/bin/sleep", "0"], "HostConfig": { "NetworkMode": "host" } }),
        );
    }
    engine.wait_ended("once-1");
    engine.wait_ended("resting");

    // By the command line: a look, and nothing is old.
    let program = Program::on_directory();
    std::fs::create_dir(program.path("spool")).unwrap();
    let text = format!(
        "spool_dir = \"spool\"\n[cleanup.docker]\nunused_for = \"30d\"\nsocket = \"{}\"\nvolumes = [\"cache-*\"]\n",
        engine.socket().display()
    );
    std::fs::write(program.path("wirevault.toml"), &text).unwrap();
    let said = String::from_utf8(expect_as_root(&program, 0, &["cleanup", "--delete"]).stdout).unwrap();
    assert!(
        said.contains("removed 0 containers, 0 images, 0 volumes") && said.contains("2 are too new"),
        "{said}"
    );

    // A month later, with the record of that look.
    let rule = CleanupConfig {
        name: "docker".into(),
        reach: CleanupScope::Docker {
            socket: Some(engine.socket().into()),
            images: vec!["spare:*".into()],
            containers: vec!["once-*".into(), "api".into()],
            volumes: vec!["cache-*".into(), "data".into()],
            exclude: Vec::new(),
        },
        keep: Duration::from_secs(30 * 86_400),
        delete: true,
        timing: Timing::default(),
    };
    let unwanted = Unwanted::of(&rule, &program.path("spool")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let clean = |days: i64, delete: bool| -> Cleaned {
        let now = Timestamp::now() + SignedDuration::from_hours(24 * days);
        runtime.block_on(unwanted.clean(now, delete)).unwrap()
    };
    // The rule now names more than that look knew: those begin now.
    let dry = clean(31, false);
    assert_eq!(dry.paths.len(), 3, "{dry:?}");
    assert_eq!(names(&engine, "/volumes", "/Name").len(), 4);
    // A volume that a source names is none of its business.
    let source = parse_source_url(&format!("{}?volume=cache-*", engine.url())).unwrap();
    let other = program.path("other");
    std::fs::create_dir(&other).unwrap();
    let first = Unwanted::of(&rule, &other).unwrap();
    runtime.block_on(first.clean(Timestamp::now(), false)).unwrap();
    let spared = Unwanted::of(&rule, &other).unwrap().sparing(&[source]).unwrap();
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 62);
    let dry = runtime.block_on(spared.clean(later, false)).unwrap();
    assert_eq!(dry.counted, "1 containers, 2 images, 0 volumes", "{dry:?}");
    let done = clean(62, true);
    assert_eq!(done.counted, "1 containers, 2 images, 1 volumes", "{done:?}");
    assert!(done.failures.is_empty() && done.deleted, "{done:?}");
    assert_eq!(names(&engine, "/volumes", "/Name"), ["cache-2", "data", "precious"]);
    assert_eq!(
        names(&engine, "/images/json", "/RepoTags/0"),
        ["built:1", "busybox:1", "own:1"]
    );
    assert_eq!(
        names(&engine, "/containers/json?all=1", "/Names/0"),
        ["/api", "/resting"]
    );
    assert!(engine.is_running("api"));

    for (line, message, hint) in [
        ("keep = \"30d\"", "needs either", "path, glob and keep"),
        ("path = \"/var/log/app\"", "\"unused_for\" and a path", "write keep"),
    ] {
        std::fs::write(program.path("wirevault.toml"), format!("{text}{line}\n")).unwrap();
        program.refused(&["cleanup"], message, hint);
    }
}
