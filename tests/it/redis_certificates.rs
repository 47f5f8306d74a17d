//! Servers that ask for a client certificate, as Redis with TLS does by default.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::support::program::Program;
use crate::support::redis::{Kind, RedisServer, fill};
use crate::support::redis_log::Receiver;

fn openssl(directory: &Path, arguments: &[&str]) {
    let done = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Makes an authority and what it signs: NAME.crt and NAME.key.
pub(crate) fn certificates(directory: &Path, authority: &str, names: &[&str]) {
    let (key, certificate) = (format!("{authority}.key"), format!("{authority}.crt"));
    let subject = format!("/CN={authority}");
    let new = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject,
    ];
    openssl(
        directory,
        &[&new[..], &["-keyout", &key, "-out", &certificate]].concat(),
    );
    std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    for name in names {
        let (own, request, signed) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        let new = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"];
        openssl(directory, &[&new[..], &["-keyout", &own, "-out", &request]].concat());
        let sign = ["x509", "-req", "-days", "2", "-CAcreateserial", "-extfile", "names"];
        let files = ["-in", &request, "-out", &signed, "-CA", &certificate, "-CAkey", &key];
        openssl(directory, &[&sign[..], &files].concat());
    }
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

#[test]
fn a_client_certificate_goes_to_the_server_that_asks_for_it() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path(), "ours", &["server", "client"]);
    certificates(directory.path(), "other", &["stranger"]);
    let path = |name: &str| directory.path().join(name).display().to_string();
    let port = free_port();
    let (certificate, key, authority) = (path("server.crt"), path("server.key"), path("ours.crt"));
    let options = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &authority,
        "--repl-diskless-sync",
        "yes",
    ];
    let server = RedisServer::start(Kind::Redis7, &options);
    fill(&server);
    let digest = server.digest();
    let program = Program::on_directory();
    let plain = format!("rediss://127.0.0.1:{port}?cacert={authority}");
    let with = |name: &str| {
        format!(
            "{plain}&cert={}&key={}",
            path(&format!("{name}.crt")),
            path(&format!("{name}.key"))
        )
    };
    program.refused(&["backup", &plain], "", "?cert=FILE&key=FILE");
    program.refused(&["backup", &with("stranger")], "", "client certificate");
    program.expect(0, &["backup", &with("client")]);
    let said = program.expect(0, &["check", &with("client")]);
    assert!(said.contains("redis 7"), "{said}");
    // One file may hold both.
    let both = [path("client.crt"), path("client.key")].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(directory.path().join("both.pem"), both.concat()).unwrap();
    program.expect(0, &["backup", &format!("{plain}&cert={}", path("both.pem"))]);

    // What is wrong with the files is said.
    let named = |cert: &str, key: &str| format!("{plain}&cert={}&key={}", path(cert), path(key));
    program.refused(
        &["backup", &named("missing.crt", "client.key")],
        "unable to read cert",
        "",
    );
    program.refused(&["backup", &named("client.crt", "stranger.key")], "is not the key", "");
    program.refused(
        &["backup", &named("client.crt", "client.crt")],
        "private key",
        "unencrypted",
    );
    program.refused(
        &["backup", &named("client.key", "client.key")],
        "holds no certificate",
        "cert",
    );

    // So does a receiver of its log.
    program.expect(
        0,
        &[
            "init",
            "--no-encryption",
            "--to",
            &program.path("logs").display().to_string(),
        ],
    );
    let mut receiver = Receiver::start_with(
        &program,
        &with("client"),
        &["--to", &program.path("logs").display().to_string()],
    );
    receiver.until_said("begins the log");
    server.client().say("SET over tls");
    receiver.catch_up(&server);
    assert_eq!(receiver.stop()["gaps"], serde_json::json!([]));
    server.client().say("DEL over");

    // Everything else that reaches the server shows it too.
    server.client().say("FLUSHALL");
    server.client().say("FUNCTION FLUSH");
    let verify = ["verify", "latest", "--level", "restored", "--into", &with("client")];
    program.expect(0, &verify);
    assert_eq!(server.client().integer("DBSIZE"), 0);
    let restore = ["restore", "latest", "--source", "redis", "--into", &with("client")];
    program.expect(0, &restore);
    assert_eq!(server.digest(), digest);

    // As keys of the configuration; they go with the same server where it is named on the command line.
    let config = format!(
        "[repository]\nurl = \"file://{}\"\n[source.cache]\nkind = \"redis\"\nurl = \"rediss://127.0.0.1:{port}\"\n\
         cacert = \"{authority}\"\ncert = \"{}\"\nkey = \"{}\"\n[job.all]\nsources = [\"cache\"]\n",
        program.path("repo2").display(),
        path("client.crt"),
        path("client.key")
    );
    let program = Program::bare();
    std::fs::write(program.path("wirevault.toml"), &config).unwrap();
    program.expect(0, &["backup", "all"]);
    program.expect(0, &["check"]);
    program.expect(0, &["restore", "latest:all", "--clean"]);
    let into = format!("rediss://127.0.0.1:{port}");
    program.expect(
        0,
        &["restore", "latest:all", "--source", "cache", "--into", &into, "--clean"],
    );
    assert_eq!(server.digest(), digest);
    let twice = config.replace(&format!(":{port}\""), &format!(":{port}?cert=/x\""));
    std::fs::write(program.path("wirevault.toml"), twice).unwrap();
    program.refused(&["check"], "is set in the URL and as a key", "Remove one");
}
