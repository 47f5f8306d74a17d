//! The ways to a server that libpq knows, against real servers: certificates, channel binding, several hosts, services, poolers.

use std::path::{Path, PathBuf};
use std::process::Command;

use wirevault::ErrorKind;
use wirevault::engines::postgres::{ConnectOptions, Connection};

use crate::support::pgbouncer::Pgbouncer;
use crate::support::postgres::Cluster;
use crate::support::program::Program;
use crate::support::wait;

fn options(text: &str) -> ConnectOptions {
    ConnectOptions::from_url_with(text, None, &|_| None).unwrap()
}

async fn ask(text: &str, sql: &str) -> wirevault::Result<String> {
    ask_with(&options(text), sql).await
}

async fn ask_with(options: &ConnectOptions, sql: &str) -> wirevault::Result<String> {
    let mut connection = Connection::open(options).await?;
    let answer = connection.query(sql).await?;
    connection.close().await;
    Ok(answer.scalar().unwrap_or_default().to_owned())
}

/// An authority with certificates for a server and a client, and lists of what it revoked.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        authority.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=authority",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        ]);
        authority.issue("server", "server", "subjectAltName=DNS:localhost,IP:127.0.0.1");
        authority.issue("client", "app", "extendedKeyUsage=clientAuth");
        std::fs::write(authority.path("ca.conf"), CONFIGURATION).unwrap();
        std::fs::write(authority.path("index.txt"), "").unwrap();
        std::fs::write(authority.path("crlnumber"), "01\n").unwrap();
        authority.openssl(&["ca", "-config", "ca.conf", "-gencrl", "-out", "none.crl"]);
        authority.openssl(&["ca", "-config", "ca.conf", "-revoke", "server.pem"]);
        authority.openssl(&["ca", "-config", "ca.conf", "-gencrl", "-out", "server.crl"]);
        authority
    }

    fn issue(&self, name: &str, common: &str, extension: &str) {
        std::fs::write(
            self.path("extension"),
            format!("{extension}\nbasicConstraints=critical,CA:FALSE\n"),
        )
        .unwrap();
        let (key, request, certificate) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        self.openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            &format!("/CN={common}"),
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "extension",
            "-out",
            &certificate,
        ]);
    }

    fn openssl(&self, arguments: &[&str]) {
        let made = Command::new("openssl")
            .current_dir(self.0.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

const CONFIGURATION: &str = "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\nprivate_key = ca.key\ncertificate = ca.pem\ndefault_md = sha256\n\
    default_crl_days = 2\ncrlnumber = crlnumber\ncrl_extensions = of_list\n[of_list]\nauthorityKeyIdentifier = keyid:always\n";

/// Lines of pg_hba.conf: one database for each way in.
const WAYS: &str = "local all all trust\nhostssl by_certificate all 127.0.0.1/32 cert\nhostssl encrypted all 127.0.0.1/32 scram-sha-256\n\
    hostnossl plain all 127.0.0.1/32 scram-sha-256\nhost trusted all 127.0.0.1/32 trust\nhost md5 all 127.0.0.1/32 md5\n\
    host postgres all 127.0.0.1/32 scram-sha-256\n";

/// A cluster with TLS by the authority.
fn secured(authority: &Authority) -> Cluster {
    let cluster = Cluster::start();
    for database in ["by_certificate", "encrypted", "plain", "trusted", "md5"] {
        cluster.psql("postgres", &format!("CREATE DATABASE {database}"));
    }
    cluster.psql("postgres", "CREATE ROLE app LOGIN SUPERUSER PASSWORD 'secret'");
    cluster.psql(
        "postgres",
        "SET password_encryption = md5; CREATE ROLE old LOGIN PASSWORD 'secret'",
    );
    for name in ["ca.pem", "server.pem", "server.key"] {
        cluster.place_file(name, &std::fs::read(authority.path(name)).unwrap());
    }
    cluster.place_file("pg_hba.conf", WAYS.as_bytes());
    for setting in [
        "ssl_ca_file = 'ca.pem'",
        "ssl_cert_file = 'server.pem'",
        "ssl_key_file = 'server.key'",
        "ssl = on",
    ] {
        cluster.psql("postgres", &format!("ALTER SYSTEM SET {setting}"));
    }
    cluster.psql("postgres", "SELECT pg_reload_conf()");
    wait::until("the server takes its new settings", || {
        cluster.psql("postgres", "SHOW ssl") == "on\n"
    });
    cluster
}

const ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[tokio::test]
async fn certificates_of_both_sides_are_looked_at() {
    let authority = Authority::new();
    let cluster = secured(&authority);
    let (port, ca) = (cluster.port, authority.text("ca.pem"));
    let (certificate, key) = (authority.text("client.pem"), authority.text("client.key"));
    let base = format!(
        "host=localhost hostaddr=127.0.0.1 port={port} dbname=by_certificate user=app sslmode=verify-full sslrootcert={ca}"
    );
    let whole = format!("{base} sslcert={certificate} sslkey={key}");
    // openssl writes keys for their owner alone.
    assert_eq!(ask(&whole, "SELECT current_user").await.unwrap(), "app");
    assert_eq!(
        ask(&format!("{whole} sslcertmode=require"), ENCRYPTED).await.unwrap(),
        "t"
    );
    for less in [base.clone(), format!("{whole} sslcertmode=disable")] {
        let error = ask(&less, "SELECT 1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    }
    // Of another authority: the client's key does not belong to the server's certificate.
    let error = ask(
        &format!("{base} sslcert={} sslkey={key}", authority.text("server.pem")),
        "SELECT 1",
    )
    .await
    .unwrap_err();
    assert!(error.chain().contains("cannot be used"), "{error:?}");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = ask(&whole, "SELECT 1").await.unwrap_err();
    assert!(error.hint().unwrap().contains("chmod 0600"), "{error:?}");

    let login = format!("postgres://app:secret@localhost:{port}/encrypted?sslmode=verify-full&sslrootcert={ca}");
    assert_eq!(
        ask(&format!("{login}&sslcrl={}", authority.text("none.crl")), ENCRYPTED)
            .await
            .unwrap(),
        "t"
    );
    let error = ask(&format!("{login}&sslcrl={}", authority.text("server.crl")), "SELECT 1")
        .await
        .unwrap_err();
    assert!(error.hint().unwrap().contains("revocation"), "{error:?}");
    let version = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let bound = |name: &str, version: &str| format!("{login}&ssl_{name}_protocol_version={version}");
    assert_eq!(ask(&bound("max", "TLSv1.2"), version).await.unwrap(), "TLSv1.2");
    assert_eq!(ask(&bound("min", "TLSv1.3"), version).await.unwrap(), "TLSv1.3");
    // This server is older than direct TLS, or speaks it.
    match ask(&format!("{login}&sslnegotiation=direct"), ENCRYPTED).await {
        Ok(encrypted) => assert_eq!(encrypted, "t"),
        Err(error) => assert!(error.hint().unwrap().contains("sslnegotiation=postgres"), "{error:?}"),
    }
}

#[tokio::test]
async fn a_login_is_bound_or_of_the_kind_that_is_demanded() {
    let authority = Authority::new();
    let cluster = secured(&authority);
    let at = |database: &str, rest: &str| format!("postgres://app:secret@127.0.0.1:{}/{database}?{rest}", cluster.port);
    let bound = "channel_binding=require";
    assert_eq!(
        ask(&at("encrypted", &format!("sslmode=require&{bound}")), ENCRYPTED)
            .await
            .unwrap(),
        "t"
    );
    for refused in [
        at("plain", &format!("sslmode=disable&{bound}")),
        at("trusted", &format!("sslmode=require&{bound}")),
        at("md5", &format!("sslmode=require&{bound}")).replace("app:", "old:"),
        at("trusted", "require_auth=scram-sha-256"),
        at("encrypted", "require_auth=!scram-sha-256&sslmode=require"),
        at("md5", "require_auth=scram-sha-256").replace("app:", "old:"),
    ] {
        let error = ask(&refused, "SELECT 1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{refused}: {error:?}");
        assert!(error.hint().unwrap().contains("pg_hba.conf"), "{refused}: {error:?}");
    }
    assert_eq!(
        ask(&at("encrypted", "sslmode=require&channel_binding=disable"), ENCRYPTED)
            .await
            .unwrap(),
        "t"
    );
    assert_eq!(
        ask(&at("encrypted", "require_auth=scram-sha-256"), ENCRYPTED)
            .await
            .unwrap(),
        "t"
    );
    // Where the mode leaves it open, pg_hba.conf decides.
    for mode in ["allow", "prefer"] {
        assert_eq!(
            ask(&at("encrypted", &format!("sslmode={mode}")), ENCRYPTED)
                .await
                .unwrap(),
            "t",
            "{mode}"
        );
        assert_eq!(
            ask(&at("plain", &format!("sslmode={mode}")), ENCRYPTED).await.unwrap(),
            "f",
            "{mode}"
        );
    }
    assert_eq!(ask(&at("postgres", "sslmode=allow"), ENCRYPTED).await.unwrap(), "f");
    assert!(ask(&at("plain", "sslmode=require"), ENCRYPTED).await.is_err());
}

#[tokio::test]
async fn the_first_server_that_is_wanted_is_taken_by_all_sessions() {
    let primary = Cluster::start();
    let standby = primary.standby();
    let (one, two) = (primary.port, standby.port);
    let recovering = "SELECT pg_is_in_recovery()";
    let at = |hosts: &str, rest: &str| format!("postgres://admin:secret@{hosts}/postgres?sslmode=disable&{rest}");
    let both = format!("127.0.0.1:{one},127.0.0.1:{two}");
    let turned = format!("127.0.0.1:{two},127.0.0.1:{one}");
    for (hosts, wanted, answer) in [
        (&both, "any", "f"),
        (&turned, "any", "t"),
        (&both, "standby", "t"),
        (&both, "read-only", "t"),
        (&both, "prefer-standby", "t"),
        (&turned, "primary", "f"),
        (&turned, "read-write", "f"),
        (&format!("127.0.0.1:{one}"), "prefer-standby", "f"),
        (&format!("127.0.0.1:1,127.0.0.1:{one}"), "primary", "f"),
        (&format!("127.0.0.1:1,127.0.0.1:{two}"), "prefer-standby", "t"),
    ] {
        let found = ask(&at(hosts, &format!("target_session_attrs={wanted}")), recovering).await;
        assert_eq!(found.unwrap(), answer, "{hosts} {wanted}");
    }
    let keywords = format!(
        "host=nowhere.invalid,127.0.0.1,localhost hostaddr=,,127.0.0.1 port=1,1,{one} user=admin password=secret dbname=postgres sslmode=disable"
    );
    assert_eq!(ask(&keywords, recovering).await.unwrap(), "f");
    let error = ask(
        &at(&format!("127.0.0.1:1,127.0.0.1:{one}"), "target_session_attrs=standby"),
        recovering,
    )
    .await
    .unwrap_err();
    assert!(
        error.chain().contains("127.0.0.1:1") && error.chain().contains("target_session_attrs=standby"),
        "{error:?}"
    );
    assert!(!format!("{error:?}").contains("secret"));
    // A refused login is not tried elsewhere.
    let wrong = at(&both, "").replace("secret", "wrong");
    assert_eq!(ask(&wrong, recovering).await.unwrap_err().kind(), ErrorKind::Denied);

    // A snapshot of one server is nothing to the other: whichever was chosen, all go there.
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let options = options(&at(&both, "load_balance_hosts=random"));
        let first = ask_with(&options, recovering).await.unwrap();
        for _ in 0..4 {
            assert_eq!(
                ask_with(&options.with_database("postgres"), recovering).await.unwrap(),
                first
            );
        }
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2, "both are chosen now and then");
}

#[tokio::test]
async fn settings_and_services_reach_the_server() {
    let cluster = Cluster::shared();
    let port = cluster.port;
    let url = format!(
        "postgres://admin:secret@127.0.0.1:{port}/postgres?sslmode=disable&keepalives_idle=5&keepalives_count=2&tcp_user_timeout=5000"
    );
    let setting = "SHOW work_mem";
    assert_eq!(
        ask(&format!("{url}&options=-c%20work_mem%3D123kB"), setting)
            .await
            .unwrap(),
        "123kB"
    );
    let env = |name: &str| (name == "PGOPTIONS").then(|| "-c work_mem=321kB".to_owned());
    let options = ConnectOptions::from_url_with(&url, None, &env).unwrap();
    assert_eq!(ask_with(&options, setting).await.unwrap(), "321kB");
    let bad = ask(&format!("{url}&options=-c%20nonsense%3D1"), setting)
        .await
        .unwrap_err();
    assert!(bad.chain().contains("nonsense"), "{bad:?}");
}

/// What a person types: each is taken by `check`, backed up by keywords, and restored by keywords into another database.
#[test]
fn keywords_services_and_sockets_are_taken_wherever_a_url_is() {
    let cluster = Cluster::shared();
    let name = cluster.fresh_name();
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(&name, "CREATE TABLE t AS SELECT generate_series(1, 100) AS id");
    let mut program = Program::on_directory();
    let (port, socket) = (cluster.port, cluster.socket().display().to_string());
    let services = program.path("services");
    let service = format!("[wv]\nhost=127.0.0.1\nport={port}\nuser=admin\ndbname={name}\npassword=secret\n");
    std::fs::write(&services, service).unwrap();
    program.set("PGSERVICEFILE", &services.display().to_string());
    let keywords = format!("host=127.0.0.1 port={port} user=admin password='secret' dbname={name}");
    for given in [
        keywords.clone(),
        "postgresql:///?service=wv".to_owned(),
        "service=wv".to_owned(),
        format!("host={socket} port={port} user=admin password=secret dbname={name}"),
        format!("postgres:///{name}?host={socket}&port={port}&user=admin&password=secret"),
        format!("postgres://admin:secret@{}:{port}/{name}", socket.replace('/', "%2F")),
        format!("postgres://admin:secret@127.0.0.1:1,127.0.0.1:{port}/{name}"),
        format!("postgres://admin:secret@/{name}?host=localhost&hostaddr=127.0.0.1&port={port}"),
    ] {
        program.expect(0, &["check", &given]);
    }
    for (at, given) in [keywords.as_str(), "service=wv"].into_iter().enumerate() {
        program.expect(0, &["backup", given]);
        let into = format!("{name}_{at}");
        let target = format!("host=127.0.0.1 port={port} user=admin password=secret dbname={into}");
        program.expect(0, &["restore", "latest", "--into", &target]);
        assert_eq!(cluster.psql(&into, "SELECT count(*) FROM t"), "100\n");
    }
    // The place of a source that was given as a service is remembered as such.
    program.expect(0, &["restore", "latest", "--clean"]);
    assert!(
        !holds(program.path("repo").as_path(), b"secret"),
        "the repository has the password"
    );
    program.refused(
        &["check", "host=127.0.0.1 pasword=geheim dbname=x"],
        "pasword",
        "password",
    );
    let said = program.run(&["check", "host=127.0.0.1 password=top geheim dbname=x"]);
    assert!(!String::from_utf8_lossy(&said.stderr).contains("geheim"));
}

/// Returns whether a file below a directory holds these bytes.
fn holds(directory: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(directory).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        std::fs::read(&path)
            .unwrap()
            .windows(bytes.len())
            .any(|window| window == bytes)
    })
}

#[test]
fn poolers_are_named_by_what_they_lend() {
    let cluster = Cluster::shared();
    let name = cluster.fresh_name();
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(&name, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    for target in ["copy", "one"] {
        cluster.psql("postgres", &format!("CREATE DATABASE {name}_{target}"));
    }
    let stored = Program::on_directory();
    stored.expect(
        0,
        &[
            "backup",
            &format!("postgres://admin:secret@127.0.0.1:{}/{name}", cluster.port),
        ],
    );
    for (mode, size, message, hint) in [
        ("session", 20, "", ""),
        ("session", 5, "", ""),
        ("session", 1, "only 1 session at once", "default_pool_size"),
        ("transaction", 20, "transaction mode", "session mode"),
        ("transaction", 1, "transaction mode", "session mode"),
        ("statement", 20, "statement mode", "session mode"),
        ("statement", 1, "statement mode", "session mode"),
    ] {
        let pooler = Pgbouncer::start(&cluster, mode, size);
        let program = Program::on_directory();
        let url = format!("postgres://admin@127.0.0.1:{}/{name}", pooler.port);
        if message.is_empty() {
            let said = program.expect(0, &["check", &url]);
            assert!(said.contains("in session mode"), "{mode} {size}: {said}");
            program.expect(0, &["backup", &url]);
        } else {
            let output = program.run(&["check", &url]);
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert_eq!(output.status.code(), Some(1), "{mode} {size}: {said}");
            assert!(said.contains(message) && said.contains(hint), "{mode} {size}: {said}");
            program.refused(&["backup", &url], message, hint);
            if mode == "session" {
                // A restore makes do with one at a time.
                stored.expect(0, &["restore", "latest", "--into", &format!("{url}_one")]);
            }
            if mode == "transaction" {
                stored.refused(&["restore", "latest", "--into", &format!("{url}_copy")], message, hint);
            }
        }
    }
}
