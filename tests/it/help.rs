//! `--help` of every verb, pinned: a change to a flag shows in a review.

use std::process::Command;

#[test]
fn help_of_every_verb() {
    for verb in [
        "",
        "init",
        "check",
        "config",
        "backup",
        "list",
        "show",
        "status",
        "health",
        "verify",
        "restore",
        "recover",
        "cat",
        "log",
        "log push",
        "log fetch",
        "log show",
        "log verify",
        "log receive",
        "prune",
        "copy",
        "pin",
        "unpin",
        "cleanup",
        "run",
        "completions",
        "man",
    ] {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("wirevault"));
        // Width does not depend on whose terminal this is.
        command.env_clear().env("COLUMNS", "100");
        let output = command.args(verb.split_whitespace()).arg("--help").output().unwrap();
        assert!(output.status.success());
        let name = if verb.is_empty() {
            "help".to_owned()
        } else {
            verb.replace(' ', "_")
        };
        insta::assert_snapshot!(format!("help_{name}"), String::from_utf8(output.stdout).unwrap());
    }
}
