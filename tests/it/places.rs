//! A restore goes where the operator has the source, with the operator's password. What a manifest says is shown, and followed
//! only when it is asked for; then it gets no secret of this host.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use wirevault::repository::document;

use crate::support::postgres::Cluster;
use crate::support::program::{Program, assert_one_error};
use crate::support::redis::{Kind, RedisServer};

/// A program with a configuration that names one database, and no password in the environment.
struct Configured {
    cluster: Arc<Cluster>,
    program: Program,
    names: [String; 2],
}

impl Configured {
    /// Backs up the first of two databases.
    fn start() -> Self {
        let cluster = Cluster::shared();
        let names = [cluster.fresh_name(), cluster.fresh_name()];
        for (name, text) in names.iter().zip(["stored", "damaged"]) {
            cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
            cluster.psql(name, &format!("CREATE TABLE t AS SELECT '{text}'::text AS a"));
        }
        let this = Self {
            cluster,
            program: Program::on_directory(),
            names,
        };
        std::fs::write(this.program.path("password"), "secret\n").unwrap();
        this.configure(&this.names[0], "password_file");
        this.program.expect(0, &["backup", "full"]);
        this
    }

    fn url(&self, user: &str, database: &str) -> String {
        format!(
            "postgres://{user}@127.0.0.1:{}/{database}?sslmode=disable",
            self.cluster.port
        )
    }

    /// Writes a configuration whose source is that database, with its password in one of three places.
    fn configure(&self, database: &str, how: &str) {
        let (user, more) = match how {
            "url" => ("admin:secret", String::new()),
            "parameter" => ("admin", String::new()),
            _ => (
                "admin",
                format!("password_file = {:?}\n", self.program.path("password")),
            ),
        };
        let mut url = self.url(user, database);
        if how == "parameter" {
            url.push_str("&password=secret");
        }
        let text =
            format!("[source.app]\nkind = \"postgres\"\nurl = \"{url}\"\n{more}[job.full]\nsources = [\"app\"]\n");
        std::fs::write(self.program.path("wirevault.toml"), text).unwrap();
    }

    fn text_in(&self, database: &str) -> String {
        self.cluster.psql(database, "SELECT a FROM t").trim().to_owned()
    }

    /// Removes the configuration and what this host remembers: it is another host now.
    fn become_another_host(&mut self) {
        std::fs::remove_file(self.program.path("wirevault.toml")).unwrap();
        become_another_host(&mut self.program);
    }
}

fn become_another_host(program: &mut Program) {
    let other = program.path("state-of-another-host").display().to_string();
    program.set("WIREVAULT_STATE_DIR", &other);
}

/// Changes the manifest of the only snapshot as somebody who may write into the repository can.
fn forge(program: &Program, edit: impl FnOnce(&mut Value)) {
    let mut manifests = std::fs::read_dir(program.path("repo/snapshots")).unwrap();
    let path = manifests.next().unwrap().unwrap().path();
    let mut manifest: Value = document::decode(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut manifest);
    std::fs::write(&path, document::encode(&manifest).unwrap()).unwrap();
}

/// A server that keeps what it is sent. As PostgreSQL it requests the password in clear text.
struct Listener {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Listener {
    fn start(postgres: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let keep = Arc::clone(&keep);
                std::thread::spawn(move || serve(stream, postgres, &keep));
            }
        });
        Self { port, heard }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }
}

fn serve(mut stream: TcpStream, postgres: bool, heard: &Mutex<Vec<u8>>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut buffer = [0; 4096];
    let mut asked = false;
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        heard.lock().unwrap().extend_from_slice(&buffer[..read]);
        let answer: &[u8] = match (postgres, asked) {
            // "Send the password as it is."
            (true, false) => b"R\0\0\0\x08\0\0\0\x03",
            (true, true) => return,
            (false, _) => b"-NOAUTH Authentication required.\r\n",
        };
        asked = true;
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

#[test]
fn a_moved_database_is_restored_where_the_configuration_has_it() {
    let app = Configured::start();
    let [old, new] = &app.names;
    app.cluster.psql(old, "UPDATE t SET a = 'lives on'");
    for how in ["password_file", "url", "parameter"] {
        app.cluster.psql(new, "UPDATE t SET a = 'damaged'");
        app.configure(new, how);
        app.program
            .expect(0, &["restore", "latest", "--source", "app", "--clean"]);
        assert_eq!(app.text_in(new), "stored", "{how}");
        app.program
            .expect(0, &["restore", "latest", "--source", "app", "--undo"]);
        assert_eq!(app.text_in(new), "damaged", "{how}");
    }
    assert_eq!(app.text_in(old), "lives on");
}

#[test]
fn a_database_of_the_environment_is_restored_with_its_password() {
    let app = Configured::start();
    let [name, copy] = &app.names;
    std::fs::remove_file(app.program.path("wirevault.toml")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = app.program.command(arguments);
        command
            .env_remove("WIREVAULT_REPOSITORY")
            .env("BACKUP_DIR", app.program.path("repo-of-env"));
        command
            .env("POSTGRES_HOST", "127.0.0.1")
            .env("POSTGRES_PORT", app.cluster.port.to_string());
        command
            .env("POSTGRES_USER", "admin")
            .env("POSTGRES_PASSWORD", "secret")
            .env("POSTGRES_DB", name);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    };
    run(&["backup"]);
    app.cluster.psql(name, "UPDATE t SET a = 'damaged'");
    run(&["restore", "latest", "--source", name, "--clean"]);
    assert_eq!(app.text_in(name), "stored");
    // The password of a configured server goes to another of its databases too.
    let into = app.url("admin", copy);
    run(&["restore", "latest", "--source", name, "--clean", "--into", &into]);
    assert_eq!(app.text_in(copy), "stored");
}

#[test]
fn without_a_configuration_the_error_prints_the_command_that_goes_on() {
    let mut app = Configured::start();
    app.become_another_host();
    let output = app.program.run(&["restore", "latest", "--source", "app", "--clean"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let place = format!("postgres://admin@127.0.0.1:{}/{}", app.cluster.port, app.names[0]);
    assert_one_error(
        &said,
        "no target for source \"app\"",
        "wirevault restore latest --source app --clean --into-original",
    );
    assert!(said.contains("--into 'postgres://") && said.contains(&place), "{said}");

    // A line of the password file that names the server is meant for it.
    app.cluster.psql(&app.names[0], "UPDATE t SET a = 'damaged'");
    let pgpass = app.program.path("pgpass");
    let write = |host: &str| {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::File::options();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let line = format!("{host}:{}:*:*:secret\n", app.cluster.port);
        options.open(&pgpass).unwrap().write_all(line.as_bytes()).unwrap();
    };
    let original = |code: i32| {
        let mut command = app
            .program
            .command(&["restore", "latest", "--clean", "--into-original"]);
        let output = command.env("PGPASSFILE", &pgpass).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
    };
    write("*");
    original(1);
    write("127.0.0.1");
    original(0);
    assert_eq!(app.text_in(&app.names[0]), "stored");
}

#[test]
fn a_place_that_only_a_manifest_names_gets_no_secret_of_this_host() {
    let mut app = Configured::start();
    let listener = Listener::start(true);
    std::fs::write(app.program.path("private"), "line-of-a-private-file\n").unwrap();
    let url = format!(
        "postgres://app@127.0.0.1:{}/app?sslmode=disable&allow_cleartext_password=true&password_file={}",
        listener.port,
        app.program.path("private").display()
    );
    forge(&app.program, |manifest| {
        manifest["plan"]["sources"][0]["url"] = url.as_str().into();
        manifest["plan"]["sources"][0]["password_file"] = app.program.path("private").display().to_string().into();
    });
    app.become_another_host();
    app.program.set("PGPASSWORD", "top-secret");
    for verb in [
        &["restore", "latest", "--dry-run"][..],
        &["restore", "latest", "--clean"],
        &["restore", "latest", "--undo"],
        &["recover", "latest", "--dry-run"],
        &["recover", "latest"],
    ] {
        app.program.expect(1, verb);
        assert_eq!(listener.heard(), "", "{verb:?} connected");
    }
    app.program.expect(1, &["restore", "latest", "--into-original"]);
    app.program
        .expect(1, &["recover", "latest", "--accept-places", "--wait", "1s"]);
    let heard = listener.heard();
    assert!(heard.contains("user\0app"), "it was followed: {heard:?}");
    assert!(!heard.contains("top-secret") && !heard.contains("private"), "{heard:?}");
}

/// A service is another host's: what this host takes where nothing is said would be another server.
#[test]
fn a_place_of_a_service_does_not_become_the_default_of_this_host() {
    let mut app = Configured::start();
    let listener = Listener::start(true);
    forge(&app.program, |manifest| {
        manifest["plan"]["sources"][0]["url"] = "postgres:///app?service=wv".into();
    });
    app.become_another_host();
    app.program.set("PGHOST", "127.0.0.1");
    app.program.set("PGPORT", &listener.port.to_string());
    app.program.refused(
        &["restore", "latest", "--into-original"],
        "no target for source \"app\"",
        "does not record its place either",
    );
    let recover = ["recover", "latest", "--accept-places", "--wait", "1s"];
    app.program.refused(&recover, "does not record where app was", "");
    assert_eq!(listener.heard(), "", "the server of PGHOST was taken");
}

#[test]
fn a_redis_server_that_only_a_manifest_names_gets_no_password() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    server.client().say("SET kept 1");
    let mut program = Program::on_directory();
    program.expect(0, &["backup", &server.url()]);
    let listener = Listener::start(false);
    let url = format!("redis://127.0.0.1:{}", listener.port);
    forge(&program, |manifest| {
        manifest["plan"]["sources"][0]["url"] = url.as_str().into();
    });
    program.set("REDISCLI_AUTH", "top-secret");
    program.expect(1, &["restore", "latest", "--clean"]);
    program.expect(1, &["recover", "latest"]);
    assert_eq!(listener.heard(), "");
    program.expect(1, &["restore", "latest", "--clean", "--into-original"]);
    let heard = listener.heard();
    assert!(!heard.is_empty() && !heard.contains("top-secret"), "{heard:?}");
    // The operator's own word gets it: that of the command line, and the one that was given to the backup here.
    program.expect(1, &["restore", "latest", "--clean", "--into", &url]);
    assert!(listener.heard().contains("top-secret"));
}

#[test]
fn a_moved_redis_server_is_restored_where_the_configuration_has_it() {
    let old = RedisServer::start(Kind::Redis7, &[]);
    let new = RedisServer::start(Kind::Redis7, &["--requirepass", "geheim-redis"]);
    old.client().say("SET k stored");
    let program = Program::on_directory();
    std::fs::write(program.path("password"), "geheim-redis\n").unwrap();
    let configure = |url: &str, password: bool| {
        let file = if password {
            format!("password_file = {:?}\n", program.path("password"))
        } else {
            String::new()
        };
        let text =
            format!("[source.cache]\nkind = \"redis\"\nurl = \"{url}\"\n{file}[job.full]\nsources = [\"cache\"]\n");
        std::fs::write(program.path("wirevault.toml"), text).unwrap();
    };
    configure(&old.url(), false);
    program.expect(0, &["backup", "full"]);
    old.client().say("SET k lives-on");
    let read = || {
        let mut client = new.client();
        client.say("AUTH geheim-redis");
        client.text(&[b"GET", b"k"])
    };
    // By its port, then by its socket; the second time over keys, which go into a snapshot first.
    for url in [new.url(), new.socket_url()] {
        configure(&url, true);
        let restore = ["restore", "latest:full", "--source", "cache", "--clean"];
        program.expect(0, &restore);
        assert_eq!(read(), "stored", "{url}");
    }
    assert_eq!(old.client().text(&[b"GET", b"k"]), "lives-on");
}

#[test]
fn moved_directories_and_files_are_restored_where_the_configuration_has_them() {
    let program = Program::on_directory();
    let at = |name: &str| program.path(name);
    for name in ["old/tree", "new"] {
        std::fs::create_dir_all(at(name)).unwrap();
    }
    std::fs::write(at("old/tree/f"), "stored").unwrap();
    std::fs::write(at("old/one.conf"), "stored").unwrap();
    let db = rusqlite::Connection::open(at("old/a.db")).unwrap();
    db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES ('stored')")
        .unwrap();
    drop(db);
    let configure = |below: &str| {
        let text = format!(
            "[source.tree]\nkind = \"files\"\nroot = {:?}\n[source.one]\nkind = \"files\"\nroot = {:?}\n\
             [source.db]\nkind = \"sqlite\"\npath = {:?}\n[job.full]\nsources = [\"tree\", \"one\", \"db\"]\n",
            at(below).join("tree"),
            at(below).join("one.conf"),
            at(below).join("a.db")
        );
        std::fs::write(at("wirevault.toml"), text).unwrap();
    };
    configure("old");
    program.expect(0, &["backup", "full"]);
    for name in ["old/tree/f", "old/one.conf"] {
        std::fs::write(at(name), "lives on").unwrap();
    }
    configure("new");
    program.expect(0, &["restore", "latest"]);
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(
        (read(&at("new/tree/f")), read(&at("new/one.conf"))),
        ("stored".into(), "stored".into())
    );
    let restored = rusqlite::Connection::open(at("new/a.db")).unwrap();
    let x: String = restored.query_row("SELECT x FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(x, "stored");
    assert_eq!(
        (read(&at("old/tree/f")), read(&at("old/one.conf"))),
        ("lives on".into(), "lives on".into())
    );
}

#[test]
fn a_forged_directory_is_not_written_to() {
    let mut program = Program::on_directory();
    std::fs::create_dir_all(program.path("src")).unwrap();
    std::fs::write(program.path("src/f"), "stored").unwrap();
    let source = format!("files:{}", program.path("src").display());
    program.expect(0, &["backup", &source]);
    let victim = program.path("victim").display().to_string();
    forge(&program, |manifest| {
        manifest["plan"]["sources"][0]["root"] = victim.as_str().into();
    });
    program.refused(&["restore", "latest"], "no target for source \"src\"", &victim);
    assert!(!program.path("victim").exists());
    // What was given to a backup here is this host's own word, for whoever did not forge it.
    forge(&program, |manifest| {
        manifest["plan"]["sources"][0]["root"] = program.path("src").display().to_string().into();
    });
    std::fs::remove_dir_all(program.path("src")).unwrap();
    program.expect(0, &["restore", "latest"]);
    assert!(program.path("src/f").exists());
    become_another_host(&mut program);
    program.refused(
        &["restore", "latest"],
        "no target for source \"src\"",
        "--into-original",
    );
    program.expect(0, &["restore", "latest", "--into-original"]);
}

/// A kind that no recovery restores, or that a newer release wrote.
#[test]
fn a_source_that_a_recovery_leaves_out_is_missing_from_it() {
    let program = Program::on_directory();
    let mut sources = Vec::new();
    for name in ["one", "two"] {
        std::fs::create_dir_all(program.path(name)).unwrap();
        std::fs::write(program.path(name).join("f"), name).unwrap();
        sources.push(format!("files:{}", program.path(name).display()));
    }
    program.expect(0, &["backup", &sources[0], &sources[1]]);
    forge(&program, |manifest| manifest["sources"][1]["kind"] = "later".into());
    for name in ["one", "two"] {
        std::fs::remove_dir_all(program.path(name)).unwrap();
    }
    let said = program.expect(2, &["recover", "latest"]);
    assert!(
        said.contains("recover does not restore kind later") && said.contains("--source two"),
        "{said}"
    );
    assert!(program.path("one/f").exists() && !program.path("two").exists());
}

#[test]
fn a_source_of_the_same_name_that_was_given_by_hand_is_asked_about() {
    let program = Program::on_directory();
    for name in ["one/data", "two/data"] {
        std::fs::create_dir_all(program.path(name)).unwrap();
    }
    std::fs::write(program.path("one/data/f"), "one").unwrap();
    let source = format!("files:{}", program.path("one/data").display());
    program.expect(0, &["backup", &source]);
    let text = format!(
        "[source.data]\nkind = \"files\"\nroot = {:?}\n[job.full]\nsources = [\"data\"]\n",
        program.path("two/data")
    );
    std::fs::write(program.path("wirevault.toml"), text).unwrap();
    program.refused(&["restore", "latest"], "from the command line as", "--into");
    assert!(!program.path("two/data/f").exists());
    let into = program.path("two/data").display().to_string();
    program.expect(0, &["restore", "latest", "--into", &into]);
}

#[test]
fn a_url_of_an_unknown_kind_does_not_become_a_directory() {
    let program = Program::on_directory();
    std::fs::create_dir(program.path("src")).unwrap();
    let source = format!("files:{}", program.path("src").display());
    program.expect(0, &["backup", &source]);
    let restore = ["restore", "latest", "--into", "postgress://u:geheim@127.0.0.1/x"];
    program.refused(
        &restore,
        "cannot restore into \"postgress://u@127.0.0.1/x\"",
        "postgres",
    );
}
