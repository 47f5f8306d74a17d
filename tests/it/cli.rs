//! The command line: exit codes, one clear error with a hint, nothing half-written taken for a snapshot.

use std::path::Path;

use assert_cmd::Command;

fn wirevault(directory: &Path) -> Command {
    let mut command = Command::cargo_bin("wirevault").unwrap();
    command.current_dir(directory).env_clear();
    command.env("WIREVAULT_STATE_DIR", directory.join("state"));
    command
}

/// Runs a command that must fail with exit code 1, one `error:` line and one `hint:` line.
fn refused(directory: &Path, arguments: &[&str], message: &str, hint: &str) {
    let output = wirevault(directory).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
    assert_eq!(text.matches("error: ").count(), 1, "{text}");
    assert_eq!(text.matches("hint: ").count(), 1, "{text}");
    assert!(text.contains(message), "{arguments:?}: {text}");
    assert!(text.contains(hint), "{arguments:?}: {text}");
    assert!(!text.contains("geheim"), "{text}");
}

#[test]
fn bad_input_is_one_clear_error_and_leaves_no_snapshot() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    std::fs::write(dir.join("not.db"), "no database ".repeat(1000)).unwrap();
    std::fs::write(
        dir.join("bad.toml"),
        "[repository]\nurl = \"s3://b\"\nendpont = \"http://x\"\n",
    )
    .unwrap();
    for (arguments, message, hint) in [
        (&["backup", "files:/x", "--to", "s4://b"][..], "s4", "s3://"),
        (
            &["backup", "postgre://a:geheim@h/d", "--to", "./repo"],
            "postgre",
            "postgres",
        ),
        (
            &["backup", "docker:///nowhere/docker.sock", "--to", "./repo"],
            "no Docker engine",
            "Start the engine",
        ),
        (
            &["list", "--config", "bad.toml"],
            "bad.toml:3: unknown key \"endpont\"",
            "\"endpoint\"",
        ),
        (&["list", "--config", "none.toml"], "none.toml", "--config"),
        (&["list", "--to", "./nothing"], "no repository", "wirevault init"),
        (&["init", "--to", "./repo"], "encryption", "--no-encryption"),
        (
            &["backup", "sqlite:not.db", "--to", "./repo"],
            "not a SQLite database",
            "",
        ),
        (&["backup", "files:/nonexistent", "--to", "./repo"], "/nonexistent", ""),
        (
            &["backup", "postgres://a:geheim@127.0.0.1:1/d", "--to", "./repo"],
            "127.0.0.1:1",
            "host and port",
        ),
        (
            &["backup", "--memory-limit", "8MiB", "files:.", "--to", "./repo"],
            "minimum",
            "--memory-limit",
        ),
    ] {
        refused(dir, arguments, message, hint);
    }
    let output = wirevault(dir)
        .args(["list", "--json", "--from", "./repo"])
        .output()
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["snapshots"].as_array().unwrap().len(), 0);
}

#[test]
fn a_failed_source_does_not_lose_the_others() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    std::fs::create_dir(dir.join("tree")).unwrap();
    std::fs::write(dir.join("tree/a"), "hello").unwrap();
    let arguments = ["backup", "files:tree", "files:/nonexistent", "--to", "./repo"];
    let output = wirevault(dir).args(arguments).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // It is listed, but never offered as the latest.
    let listed = wirevault(dir)
        .args(["list", "--json", "--from", "./repo"])
        .output()
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(document["snapshots"][0]["complete"], false);
    refused(
        dir,
        &["show", "latest", "--from", "./repo"],
        "no complete snapshot",
        "wirevault list",
    );
}

#[test]
fn usage_errors_exit_with_1_and_help_with_0() {
    let place = tempfile::tempdir().unwrap();
    wirevault(place.path()).args(["lst"]).assert().code(1);
    wirevault(place.path()).args(["--help"]).assert().code(0);
    for verb in [
        "init", "check", "backup", "list", "show", "verify", "restore", "cat", "prune",
    ] {
        let output = wirevault(place.path()).args([verb, "--help"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Examples:") && text.contains("--repository"), "{text}");
    }
}
