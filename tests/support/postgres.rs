//! A PostgreSQL cluster of its own for the test binary: in a temporary directory, on a free port of the loopback.
//!
//! `PG_BIN` names the directory of `initdb` and `pg_ctl`; otherwise the newest under `/usr/lib/postgresql`. The server
//! refuses to run as root, so a test run by root starts it as user `postgres`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, Weak};

use wirevault::engines::postgres::ConnectOptions;

/// A running cluster; stopped when the last test that uses it is done.
#[derive(Debug)]
pub(crate) struct Cluster {
    directory: tempfile::TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Cluster {
    /// Returns the cluster that all tests running now share.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Mutex<Weak<Cluster>>> = OnceLock::new();
        let mut slot = SHARED
            .get_or_init(Mutex::default)
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(cluster) = slot.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(Self::start());
        *slot = Arc::downgrade(&cluster);
        cluster
    }

    /// Starts a cluster of its own.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// As `start`, with more in the server's environment.
    pub(crate) fn start_with(environment: &[(&str, &Path)]) -> Self {
        let bin = find_bin();
        let directory = tempfile::Builder::new().prefix("wirevault-pg").tempdir().unwrap();
        let data = directory.path().join("data");
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(directory.path()));
        }
        // Everyone may connect over TCP with a password: SCRAM is what is tested.
        let password = directory.path().join("password");
        std::fs::write(&password, "secret\n").unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&password));
        }
        let mut initdb = as_server_user(&bin.join("initdb"));
        initdb.args([
            "-U",
            "admin",
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--pwfile",
        ]);
        run(initdb.arg(&password).arg("-D").arg(&data));
        start_server(bin, directory, environment)
    }

    /// Stops the server at once, as a crash does, and starts it again.
    pub(crate) fn restart(&self) {
        let mut restart = as_server_user(&self.bin.join("pg_ctl"));
        restart
            .args(["-w", "-t", "240", "-m", "immediate", "-l"])
            .arg(self.directory.path().join("log"))
            .arg("-D")
            .arg(self.directory.path().join("data"))
            .arg("restart")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        assert!(restart.status().unwrap().success());
    }

    /// Returns how to connect to a database.
    pub(crate) fn options(&self, database: &str) -> ConnectOptions {
        let url = format!("postgres://admin:secret@127.0.0.1:{}/?sslmode=disable", self.port);
        ConnectOptions::from_url_with(&url, None, &|_| None)
            .unwrap()
            .with_database(database)
    }

    /// Returns the directory of the server's socket, and lets everybody in.
    pub(crate) fn socket(&self) -> &Path {
        let path = self.directory.path();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    /// Writes a file into the data directory, as the server's own.
    pub(crate) fn place_file(&self, name: &str, content: &[u8]) {
        let path = self.directory.path().join("data").join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&path));
        }
    }

    /// Starts a standby that follows this cluster.
    pub(crate) fn standby(&self) -> Self {
        let directory = tempfile::Builder::new().prefix("wirevault-pg").tempdir().unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(directory.path()));
        }
        let data = directory.path().join("data");
        let mut copy = as_server_user(&self.bin.join("pg_basebackup"));
        copy.env("PGPASSWORD", "secret")
            .args(["-R", "-c", "fast", "-X", "stream", "-h", "127.0.0.1", "-U", "admin"])
            .args(["-p", &self.port.to_string()])
            .arg("-D")
            .arg(&data);
        run(&mut copy);
        start_server(self.bin.clone(), directory, &[])
    }

    /// Returns a database name that no other test uses.
    #[expect(clippy::unused_self, reason = "a name is one of a server")]
    pub(crate) fn fresh_name(&self) -> String {
        format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs SQL with psql in a database.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        self.psql_in(database, Path::new("/"), &["-c", sql])
    }

    /// Starts psql on a database, to say one thing after another.
    pub(crate) fn session(&self, database: &str) -> Session {
        let mut command = Command::new(self.bin.join("psql"));
        command
            .env("PGPASSWORD", "secret")
            .current_dir("/")
            .args(["-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-U", "admin"])
            .args(["-p", &self.port.to_string(), "-d", database])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null());
        Session(command.spawn().unwrap())
    }

    /// Returns what `pg_dump` says of a database, without the lines that differ each time.
    pub(crate) fn pg_dump(&self, database: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(self.bin.join("pg_dump"));
        command
            .env("PGPASSWORD", "secret")
            .args(["-h", "127.0.0.1", "-U", "admin"]);
        command
            .args(["-p", &self.port.to_string(), "-d", database])
            .args(arguments);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "pg_dump: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        let kept = text
            .lines()
            .filter(|l| !l.starts_with("\\restrict") && !l.starts_with("\\unrestrict"));
        kept.collect::<Vec<_>>().join("\n")
    }

    /// Runs psql in a directory.
    pub(crate) fn psql_in(&self, database: &str, directory: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new(self.bin.join("psql"));
        command.env("PGPASSWORD", "secret").current_dir(directory).args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
        ]);
        command
            .args(["-U", "admin", "-p", &self.port.to_string(), "-d", database])
            .args(arguments);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "psql: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A session of psql; what it holds is let go when it ends.
#[derive(Debug)]
pub(crate) struct Session(std::process::Child);

impl Session {
    /// Sends SQL, and does not wait for its end: what it did is seen in the server.
    pub(crate) fn say(&mut self, sql: &str) {
        use std::io::Write;
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(format!("{sql}\n").as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// Ends it once everything it was told is done.
    pub(crate) fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = as_server_user(&self.bin.join("pg_ctl"));
        let _ = stop
            .args(["-w", "-m", "immediate", "-D"])
            .arg(self.directory.path().join("data"))
            .arg("stop")
            .output();
    }
}

/// Starts the server of a data directory on a free port.
fn start_server(bin: PathBuf, directory: tempfile::TempDir, environment: &[(&str, &Path)]) -> Cluster {
    let data = directory.path().join("data");
    for _ in 0..5 {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let options = format!(
            "-p {port} -k {} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=60 -c max_wal_size=2GB",
            directory.path().display()
        );
        let log = directory.path().join("log");
        let mut start = as_server_user(&bin.join("pg_ctl"));
        start
            .args(["-w", "-t", "240", "-o", &options, "-l"])
            .arg(&log)
            .arg("-D")
            .arg(&data)
            .arg("start");
        start
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        start.envs(environment.iter().copied());
        if start.status().is_ok_and(|s| s.success()) {
            return Cluster { directory, bin, port };
        }
    }
    panic!(
        "PostgreSQL does not start: {:?}",
        std::fs::read_to_string(directory.path().join("log"))
    );
}

fn find_bin() -> PathBuf {
    if let Some(bin) = std::env::var_os("PG_BIN") {
        return bin.into();
    }
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|d| d.flatten().map(|e| e.path().join("bin")).collect())
        .unwrap_or_default();
    versions.retain(|p| p.join("initdb").exists());
    versions.sort();
    versions
        .pop()
        .expect("PostgreSQL's initdb is installed, or PG_BIN names its directory")
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn as_server_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program);
    command.current_dir("/");
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
