//! Bad input, one test each: one clear error with one hint, the right exit code, and nothing half-written listed.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::postgres::Cluster;
use crate::support::program::{Program, assert_one_error, files_below, noise};

fn with_tree(program: Program) -> Program {
    std::fs::create_dir(program.path("tree")).unwrap();
    std::fs::write(program.path("tree/a"), "hello").unwrap();
    program
}

fn set_mode(program: &Program, path: &str, mode: u32) {
    std::fs::set_permissions(program.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A backup that must fail with one error and leave an empty list.
fn refused_backup(program: &Program, source: &str, message: &str, hint: &str) {
    program.refused(&["backup", source], message, hint);
    assert!(program.listed().is_empty());
}

#[test]
fn wrong_urls() {
    let program = Program::on_directory();
    program.expect(0, &["init", "--no-encryption"]);
    refused_backup(&program, "postgre://a:geheim@h/d", "postgre", "postgres");
    refused_backup(
        &program,
        "postgres://a:geheim@h:port/d",
        "invalid",
        "postgres://user@host",
    );
    program.refused(&["list", "--from", "s4://bucket"], "s4", "s3://");
    program.refused(&["list", "--from", "repo"], "\"repo\" is not the URL", "./");
}

#[test]
fn unknown_key_in_the_configuration() {
    let program = Program::bare();
    std::fs::write(
        program.path("wirevault.toml"),
        "[repository]\nurl = \"s3://b\"\nregoin = \"x\"\n",
    )
    .unwrap();
    program.refused(&["list"], "wirevault.toml:3: unknown key \"regoin\"", "\"region\"");
}

#[test]
fn missing_and_wrong_password() {
    let cluster = Cluster::shared();
    let mut program = Program::on_directory();
    program.expect(0, &["init", "--no-encryption"]);
    let url = format!("postgres://admin@127.0.0.1:{}/postgres?sslmode=disable", cluster.port);
    refused_backup(&program, &url, "password", "PGPASSWORD");
    program.set("PGPASSWORD", "geheim");
    refused_backup(&program, &url, "password authentication failed", "password is wrong");
}

#[test]
fn unreachable_host() {
    let program = Program::on_directory();
    program.expect(0, &["init", "--no-encryption"]);
    refused_backup(
        &program,
        "postgres://a:geheim@127.0.0.1:1/d",
        "127.0.0.1:1",
        "host and port",
    );
    refused_backup(
        &program,
        "postgres://a:geheim@no.such.host.invalid/d",
        "no.such.host.invalid",
        "",
    );
}

#[test]
fn no_such_database() {
    let cluster = Cluster::shared();
    let mut program = Program::on_directory();
    program.expect(0, &["init", "--no-encryption"]);
    program.set("PGPASSWORD", "secret");
    let url = format!("postgres://admin@127.0.0.1:{}/nowhere?sslmode=disable", cluster.port);
    refused_backup(&program, &url, "\"nowhere\" does not exist", "");
}

#[test]
fn no_privilege_on_a_table() {
    let cluster = Cluster::shared();
    let mut program = with_tree(Program::on_directory());
    program.expect(0, &["init", "--no-encryption"]);
    let name = cluster.fresh_name();
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    let sql = format!(
        "CREATE TABLE hidden (a int); INSERT INTO hidden VALUES (1); CREATE ROLE {name}_poor LOGIN PASSWORD 'geheim'"
    );
    cluster.psql(&name, &sql);
    program.set("PGPASSWORD", "geheim");
    let url = format!(
        "postgres://{name}_poor@127.0.0.1:{}/{name}?sslmode=disable",
        cluster.port
    );
    refused_backup(&program, &url, "permission denied for table hidden", "");
    // `check` finds it before a backup does.
    program.expect(1, &["check", &url]);
    cluster.psql("postgres", &format!("DROP DATABASE {name}"));
    cluster.psql("postgres", &format!("DROP ROLE {name}_poor"));
}

#[test]
fn wrong_keys_of_a_store() {
    let mut program = with_tree(Program::on_s3());
    program.set("AWS_SECRET_ACCESS_KEY", "geheim");
    program.refused(
        &["backup", "files:tree"],
        "SignatureDoesNotMatch",
        "secret key is wrong",
    );
}

/// Answers every request with one S3 error.
fn always_answers(status: &'static str, code: &'static str) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = [0; 16 << 10];
            let read = socket.read(&mut request).unwrap_or(0);
            let body = if request.starts_with(b"HEAD") || read == 0 {
                String::new()
            } else {
                format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>")
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nConnection: close\r\n");
            let _ = write!(socket, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    endpoint
}

#[test]
fn answers_of_a_store_that_refuses() {
    for (status, code, hint) in [
        ("400 Bad Request", "AuthorizationHeaderMalformed", "another region"),
        ("301 Moved Permanently", "PermanentRedirect", "another region"),
        ("403 Forbidden", "RequestTimeTooSkewed", "clock"),
        ("403 Forbidden", "AccessDenied", "permission"),
        ("404 Not Found", "NoSuchBucket", "bucket"),
    ] {
        let mut program = with_tree(Program::bare());
        program.set("AWS_ACCESS_KEY_ID", "tester");
        program.set("AWS_SECRET_ACCESS_KEY", "geheim");
        program.set("AWS_REGION", "us-east-1");
        let endpoint = always_answers(status, code);
        for verb in [&["list"][..], &["backup", "files:tree"]] {
            let mut arguments = verb.to_vec();
            arguments.extend(["--repository", "s3://bucket/app", "--endpoint", &endpoint]);
            program.refused(&arguments, code, hint);
        }
    }
}

#[test]
fn unreachable_store() {
    let mut program = with_tree(Program::bare());
    program.set("AWS_ACCESS_KEY_ID", "tester");
    program.set("AWS_SECRET_ACCESS_KEY", "geheim");
    program.set("AWS_REGION", "us-east-1");
    let arguments = [
        "backup",
        "files:tree",
        "--to",
        "s3://bucket/app",
        "--endpoint",
        "http://127.0.0.1:1",
    ];
    program.refused(
        &arguments,
        "could not connect to http://127.0.0.1:1",
        "endpoint is spelled",
    );
}

#[test]
fn full_disk() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let program = with_tree(Program::bare());
    std::fs::write(program.path("tree/noise"), noise(3 << 20)).unwrap();
    std::fs::create_dir(program.path("small")).unwrap();
    // The mount lives in a namespace of its own and goes with it.
    let script = "mount -t tmpfs -o size=1m none small && \"$0\" backup files:tree --to ./small/repo; code=$?
        \"$0\" list --json --from ./small/repo; exit $code";
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script])
        .arg(assert_cmd::cargo::cargo_bin("wirevault"));
    program.equip(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_one_error(&text, "no space", "full");
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 0);
}

#[test]
fn unreadable_file_is_named_and_ends_with_2() {
    let program = with_tree(Program::on_directory());
    std::fs::write(program.path("tree/secret"), "hidden").unwrap();
    set_mode(&program, "tree/secret", 0o000);
    let output = program.run(&["backup", "files:tree"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("secret") && said.contains("not in the"), "{said}");
    assert_eq!(program.listed().len(), 1);
    assert_eq!(program.expect(0, &["cat", "latest", "tree", "a"]), "hello");
}

#[test]
fn sqlite_file_that_is_not_one() {
    let program = Program::on_directory();
    program.expect(0, &["init", "--no-encryption"]);
    std::fs::write(program.path("not.db"), "no database ".repeat(1000)).unwrap();
    refused_backup(&program, "sqlite:not.db", "not a SQLite database", "");
    refused_backup(&program, "sqlite:missing.db", "missing.db", "");
}

#[test]
fn store_without_write_permission() {
    let program = with_tree(Program::on_directory());
    std::fs::create_dir(program.path("repo")).unwrap();
    set_mode(&program, "repo", 0o500);
    program.refused(&["backup", "files:tree"], "ermission denied", "");
    program.refused(&["init", "--no-encryption"], "ermission denied", "");
    // Also when the permission went away later.
    set_mode(&program, "repo", 0o700);
    program.expect(0, &["init", "--no-encryption"]);
    for name in std::fs::read_dir(program.path("repo")).unwrap().flatten() {
        if name.path().is_dir() {
            set_mode(&program, &format!("repo/{}", name.file_name().to_string_lossy()), 0o500);
        }
    }
    set_mode(&program, "repo", 0o500);
    program.refused(&["backup", "files:tree"], "ermission denied", "");
    assert!(program.listed().is_empty());
}

#[test]
fn repository_of_a_newer_format() {
    let program = with_tree(Program::on_directory());
    program.expect(0, &["init", "--no-encryption"]);
    let path = program.path("repo/repository.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().next().unwrap().replace("\"format\":1", "\"format\":2");
    let trailer = wirevault::repository::document::sha256_hex(line.as_bytes());
    std::fs::write(
        &path,
        format!("{line}\n{{\"sha256\":\"{trailer}\",\"signature\":null}}\n"),
    )
    .unwrap();
    for verb in [
        &["list"][..],
        &["backup", "files:tree"],
        &["restore", "latest"],
        &["verify", "latest"],
        &["prune"],
    ] {
        program.refused(verb, "format 2", "newer");
    }
    assert_eq!(files_below(&program.path("repo")).len(), 1);
}

#[test]
fn when_all_sources_fail_there_is_no_snapshot() {
    let program = Program::on_directory();
    program.expect(0, &["init", "--no-encryption"]);
    let arguments = ["backup", "files:/nonexistent/a", "sqlite:/nonexistent/b.db"];
    program.refused(&arguments, "/nonexistent/a", "");
    assert!(program.listed().is_empty());
    let left = files_below(&program.path("repo"));
    assert_eq!(left.len(), 1, "{left:?}");
}
