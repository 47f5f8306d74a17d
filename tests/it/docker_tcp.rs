//! A Docker engine over TCP, with and without TLS, and behind a socket that is not its own: a relay of the test stands before a real engine's socket.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use crate::support::docker::{DockerEngine, expect_as_root};
use crate::support::program::Program;

/// Passes connections on to a socket; returns its port. It serves as long as the test binary.
fn relay(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let back = client.try_clone().unwrap();
            pass_on(&socket, client.try_clone().unwrap(), back, move || {
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

/// As [`relay`], from one socket to another: what a forwarder is.
fn forwarder(own: &Path, socket: PathBuf) {
    let listener = UnixListener::bind(own).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let back = client.try_clone().unwrap();
            pass_on(&socket, client.try_clone().unwrap(), back, move || {
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
}

fn pass_on(
    socket: &Path,
    mut from_client: impl Read + Send + 'static,
    mut to_client: impl Write + Send + 'static,
    end: impl FnOnce() + Send + 'static,
) {
    let Ok(engine) = UnixStream::connect(socket) else {
        return end();
    };
    let (mut to, mut from) = (engine.try_clone().unwrap(), engine);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to_client);
        end();
    });
}

fn engine_with_a_volume() -> Option<DockerEngine> {
    let engine = DockerEngine::start()?;
    engine.post("/volumes/create", &json!({ "Name": "uploads" }));
    let root = engine.volume("uploads");
    std::fs::create_dir_all(root.join("deep")).unwrap();
    std::fs::write(root.join("deep/file"), b"hello").unwrap();
    Some(engine)
}

/// Its paths may be another host's, so volumes go through the archive API.
#[test]
fn volumes_of_an_engine_over_tcp_go_there_and_back() {
    let Some(engine) = engine_with_a_volume() else { return };
    let mut program = Program::on_directory();
    let url = format!("docker:tcp://127.0.0.1:{}/uploads", relay(engine.socket()));
    expect_as_root(&program, 0, &["backup", &url]);
    let shown = program.json(&["show", "latest"]);
    let source = &shown["snapshot"]["sources"][0];
    assert_eq!(
        source["outcome"]["note_counts"]["read-by-archive"].as_u64(),
        Some(1),
        "{source}"
    );
    std::fs::write(engine.volume("uploads").join("deep/file"), b"wrong").unwrap();
    expect_as_root(&program, 0, &["restore", "latest", "--clean"]);
    assert_eq!(
        std::fs::read(engine.volume("uploads").join("deep/file")).unwrap(),
        b"hello"
    );
    // By the variable of Docker's own client.
    program.set("DOCKER_HOST", &format!("tcp://127.0.0.1:{}", relay(engine.socket())));
    expect_as_root(&program, 0, &["backup", "docker:uploads"]);
    for (wrong, hint) in [("ssh://host", "ssh -L"), ("http://host", "tcp://host:2375")] {
        program.set("DOCKER_HOST", wrong);
        let output = program.run(&["backup", "docker:uploads"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(1) && text.contains("DOCKER_HOST") && text.contains(hint),
            "{text}"
        );
    }
}

/// Runs openssl, which is where the test's certificates come from.
/// A forwarder of any name, not of a few: a volume of that name on this host may be another one.
#[test]
fn volumes_behind_a_socket_that_is_no_engines_go_through_the_archive() {
    let Some(engine) = engine_with_a_volume() else { return };
    let program = Program::on_directory();
    let socket = program.path("forwarded.sock");
    forwarder(&socket, engine.socket());
    let check = |socket: &Path| {
        let url = format!("docker://{}?volume=uploads", socket.display());
        let output = expect_as_root(&program, 0, &["check", &url]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = check(&engine.socket());
    assert!(said.contains("read at"), "{said}");
    let said = check(&socket);
    assert!(
        said.contains("through the archive API (the engine is reached through"),
        "{said}"
    );
    let url = format!("docker://{}?volume=uploads", socket.display());
    expect_as_root(&program, 0, &["backup", &url]);
    let shown = program.json(&["show", "latest"]);
    let notes = &shown["snapshot"]["sources"][0]["outcome"]["note_counts"];
    assert_eq!(notes["read-by-archive"].as_u64(), Some(1), "{shown}");
    // As in a container with the host's socket: the engine is not seen, and only a container of it proves the directory.
    let unseen = || {
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(assert_cmd::cargo::cargo_bin("wirevault"))
            .args(["check", &format!("{}?volume=uploads", engine.url())]);
        program.equip(&mut command);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = unseen();
    assert!(said.contains("the process that listens"), "{said}");
    engine.import_busybox();
    engine.post(
        "/containers/create?name=holder",
        &json!({ "Image": "busybox:1", "Cmd": ["/bin/sh"], "HostConfig": { "Binds": ["uploads:/data"] } }),
    );
    let said = unseen();
    assert!(said.contains("read at"), "{said}");
}

fn openssl(directory: &Path, arguments: &[&str]) {
    let done = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// An authority, a certificate for 127.0.0.1, and one for the client.
fn certificates(directory: &Path) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let make = |more: &[&str]| openssl(directory, &[&["req"], &key[..], more].concat());
    make(&[
        "-x509",
        "-keyout",
        "ca-key.pem",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=test",
        "-days",
        "2",
    ]);
    std::fs::write(directory.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    for (name, ext) in [("server", true), ("client", false)] {
        let (private, request, signed) = (format!("{name}-key.pem"), format!("{name}.csr"), format!("{name}.pem"));
        make(&["-keyout", &private, "-out", &request, "-subj", &format!("/CN={name}")]);
        let mut sign = vec![
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca-key.pem",
            "-CAcreateserial",
        ];
        sign.extend(["-out", &signed, "-days", "2"]);
        std::fs::write(directory.join("none"), "basicConstraints=CA:FALSE\n").unwrap();
        sign.extend(["-extfile", if ext { "ext" } else { "none" }]);
        openssl(directory, &sign);
    }
}

/// The relay with TLS; it wants a certificate of the client.
fn tls_relay(socket: PathBuf, directory: &Path) -> u16 {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let read = |name: &str| CertificateDer::from_pem_file(directory.join(name)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(read("ca.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let asks = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(asks.build().unwrap())
        .with_single_cert(
            vec![read("server.pem")],
            PrivateKeyDer::from_pem_file(directory.join("server-key.pem")).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (config, socket) = (Arc::clone(&config), socket.clone());
            std::thread::spawn(move || {
                let connection = rustls::ServerConnection::new(config).unwrap();
                let mut client = rustls::StreamOwned::new(connection, client);
                // One request whose head comes at once and whose answer ends with the connection: `check` asks so.
                let mut head = vec![0; 64 << 10];
                let Ok(count) = client.read(&mut head) else { return };
                let Ok(mut engine) = UnixStream::connect(&socket) else {
                    return;
                };
                let text = String::from_utf8_lossy(&head[..count]).replacen("\r\n", "\r\nconnection: close\r\n", 1);
                engine.write_all(text.as_bytes()).unwrap();
                let _ = std::io::copy(&mut engine, &mut client);
                client.conn.send_close_notify();
                let _ = client.flush();
            });
        }
    });
    port
}

#[test]
fn an_engine_with_tls_is_verified_and_shown_a_certificate() {
    let Some(engine) = engine_with_a_volume() else { return };
    let place = tempfile::tempdir().unwrap();
    certificates(place.path());
    let port = tls_relay(engine.socket(), place.path());
    let certs = |name: &str, client: bool| {
        let directory = place.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        let copy = |from: &str, to: &str| std::fs::copy(place.path().join(from), directory.join(to)).unwrap();
        copy("ca.pem", "ca.pem");
        if client {
            copy("client.pem", "cert.pem");
            copy("client-key.pem", "key.pem");
        }
        directory.display().to_string()
    };
    let mut program = Program::on_directory();
    program.set("DOCKER_HOST", &format!("tcp://127.0.0.1:{port}"));
    program.set("DOCKER_TLS_VERIFY", "1");
    program.set("DOCKER_CERT_PATH", &certs("whole", true));
    expect_as_root(&program, 0, &["check", "docker:uploads"]);
    let refused = |program: &Program, message: &str| {
        let output = program.run(&["backup", "docker:uploads"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && text.contains(message), "{text}");
    };
    // The system's authorities do not know the engine's.
    program.set("DOCKER_CERT_PATH", place.path().join("server.csr").to_str().unwrap());
    refused(&program, "TLS handshake with the Docker engine");
    program.set("DOCKER_CERT_PATH", &certs("half", false));
    std::fs::copy(place.path().join("client.pem"), place.path().join("half/cert.pem")).unwrap();
    refused(&program, "key.pem is missing");
    std::fs::write(place.path().join("half/ca.pem"), "nothing").unwrap();
    refused(&program, "ca.pem");
}
