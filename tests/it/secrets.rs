//! Passwords, wherever they were typed and however wrong, are in no message, no log and no object of the repository.

use std::os::unix::fs::PermissionsExt;

use crate::support::program::{Program, files_below};

fn said(program: &Program, arguments: &[&str]) -> String {
    let output = program.run(arguments);
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}

fn assert_not_stored(program: &Program) {
    let places = [program.path("repo"), program.state.path().to_owned()].map(|place| files_below(&place));
    for (path, _) in places.into_iter().flatten() {
        let bytes = std::fs::read(&path).unwrap();
        assert!(
            !bytes.windows(6).any(|window| window == b"geheim"),
            "{}",
            path.display()
        );
    }
}

#[test]
fn mistyped_urls_are_told_without_their_passwords() {
    let program = Program::on_directory();
    std::fs::create_dir(program.path("src")).unwrap();
    let source = format!("files:{}", program.path("src").display());
    program.expect(0, &["backup", &source]);
    for url in [
        "postgres://app:pa/geheim@127.0.0.1:1/app",
        "postgres://app:1/geheim@127.0.0.1:1/app",
        "postgres://app:pa?geheim@127.0.0.1:1/app",
        "postgres://app:1?geheim@127.0.0.1:1/app",
        "postgres://app:pa#geheim@127.0.0.1:1/app",
        "postgres://app:geheim%zz@127.0.0.1:1/app",
        "postgres://app:geheim@127.0.0.1:99999/app",
        "postgres://app:geheim@127.0.0.1:1/app",
        "postgres://127.0.0.1:1/app?user=app&password=geheim",
        "postgres://127.0.0.1:1/app?user=app&pasword=geheim",
        "postgres:app:geheim@127.0.0.1/app",
        "postgress://app:geheim@127.0.0.1/app",
        "mysql://app:geheim@127.0.0.1/app",
        "app:geheim@127.0.0.1/app",
        "redis://:pa/geheim@127.0.0.1:1",
        "redis://:1/geheim@127.0.0.1:1",
        "redis://:pa#geheim@127.0.0.1:1",
        "redis://:geheim@127.0.0.1:1",
        "redis://127.0.0.1:1?password=geheim",
        "redis://127.0.0.1:1?pasword=geheim",
        "redis:geheim@127.0.0.1",
        "unix://:geheim@/tmp/x.sock",
        "unix:///tmp/x.sock?password=geheim",
    ] {
        // Without slashes it is the name of a directory, and one may be called so.
        let verbs: [&[&str]; 4] = [
            &["backup", "-vvv"][..],
            &["backup", "--dry-run", "--json"],
            &["check"],
            &["restore", "latest", "--into"],
        ];
        for verb in verbs.iter().filter(|verb| verb[0] != "restore" || url.contains("://")) {
            let text = said(&program, &[*verb, &[url]].concat());
            assert!(!text.contains("geheim"), "{verb:?} {url}: {text}");
        }
    }
    for repository in [
        "s3://AKIA:geheim@bucket/x",
        "s3://AKIA:pa/geheim@bucket/x",
        "https://AKIA:geheim@host/bucket",
        "s3://bucket/x?secret=geheim",
    ] {
        let text = said(&program, &["list", "-vvv", "--from", repository]);
        assert!(!text.contains("geheim"), "{repository}: {text}");
    }
    let endpoint = [
        "list",
        "--from",
        "s3://bucket/x",
        "--endpoint",
        "http://AKIA:geheim@127.0.0.1:1",
    ];
    let text = said(&program, &endpoint);
    assert!(!text.contains("geheim") && text.contains("endpoint"), "{text}");
    assert_not_stored(&program);
}

#[test]
fn a_configuration_with_secrets_that_everybody_may_read_is_warned_of() {
    let program = Program::on_directory();
    std::fs::create_dir(program.path("src")).unwrap();
    let path = program.path("wirevault.toml");
    let text = "status_token = \"geheim\"\n[source.t]\nkind = \"files\"\nroot = \"src\"\n[job.j]\nsources = [\"t\"]\n";
    std::fs::write(&path, text).unwrap();
    for (mode, warned) in [(0o644, true), (0o640, false), (0o600, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let text = said(&program, &["backup", "--dry-run"]);
        assert_eq!(
            text.contains("readable by every user of this host"),
            warned,
            "{mode:o}: {text}"
        );
        assert!(!text.contains("geheim"), "{text}");
    }
    std::fs::write(&path, text.replace("status_token = \"geheim\"\n", "")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!said(&program, &["backup", "--dry-run"]).contains("readable by every user"));
}

/// Libraries write whole requests into the log, with their keys, when they are asked for everything.
#[test]
fn a_log_of_everything_holds_no_keys() {
    let mut program = Program::on_s3();
    std::fs::create_dir(program.path("src")).unwrap();
    program.set("RUST_LOG", "trace");
    program.set("AWS_SESSION_TOKEN", "geheim-token");
    let source = format!("files:{}", program.path("src").display());
    let text = said(&program, &["backup", &source]);
    for secret in ["tester-secret", "geheim-token", "aws4_request"] {
        assert!(!text.contains(secret), "{secret}");
    }
}
