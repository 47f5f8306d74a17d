//! PostgreSQL servers by their data directory: made, stopped, and started again on one that a restore wrote.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::postgres::is_root;

/// A server, running or not. It is stopped when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    bin: PathBuf,
    /// The chroot that holds its programs, if any.
    root: Option<PathBuf>,
    directory: Arc<tempfile::TempDir>,
    name: String,
    pub(crate) port: u16,
}

impl Server {
    /// Makes a cluster of the usual version with checksums, and starts it.
    pub(crate) fn start() -> Self {
        let bin = std::env::var_os("PG_BIN").unwrap_or_else(|| "/usr/lib/postgresql/15/bin".into());
        let server = Self::make(bin.into(), None);
        server.run(&[]);
        server
    }

    /// The same of PostgreSQL 18, in the chroot that `tests/servers/pg18.sh` makes. None for a user who cannot enter it.
    #[allow(clippy::print_stderr, reason = "what is not run is said")]
    pub(crate) fn start_18() -> Option<Self> {
        if !is_root() {
            eprintln!("not root: PostgreSQL 18 is skipped");
            return None;
        }
        let root = std::env::var_os("WIREVAULT_TEST_PG18_ROOT").expect("tests/servers/setup.sh makes a chroot");
        let server = Self::make("/usr/lib/postgresql/18/bin".into(), Some(root.into()));
        server.run(&[]);
        Some(server)
    }

    fn make(bin: PathBuf, root: Option<PathBuf>) -> Self {
        let directory = match &root {
            Some(root) => tempfile::tempdir_in(root.join("tmp")),
            None => tempfile::tempdir(),
        };
        let server = Self {
            bin,
            root,
            directory: Arc::new(directory.unwrap()),
            name: "data".to_owned(),
            port: free_port(),
        };
        std::fs::write(server.directory.path().join("password"), "secret\n").unwrap();
        server.own(server.directory.path());
        let mut initdb = server.program("initdb");
        initdb.args([
            "-U",
            "admin",
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-k",
            "-N",
            "--pwfile",
        ]);
        initdb.arg(server.seen(&server.directory.path().join("password")));
        succeed(initdb.arg("-D").arg(server.seen(&server.data())));
        server
    }

    /// A server of the same programs on a copy of a data directory. It is not started.
    pub(crate) fn on_copy_of(&self, data: &Path, name: &str) -> Self {
        let server = Self {
            bin: self.bin.clone(),
            root: self.root.clone(),
            directory: Arc::clone(&self.directory),
            name: name.to_owned(),
            port: free_port(),
        };
        succeed(Command::new("cp").arg("-a").arg(data).arg(server.data()));
        server.own(&server.data());
        server
    }

    /// A standby that follows this server.
    pub(crate) fn standby(&self) -> Self {
        let server = Self {
            bin: self.bin.clone(),
            root: self.root.clone(),
            directory: Arc::clone(&self.directory),
            name: "standby".to_owned(),
            port: free_port(),
        };
        let mut copy = server.program("pg_basebackup");
        copy.args([
            "-R",
            "-c",
            "fast",
            "-X",
            "stream",
            "-h",
            "127.0.0.1",
            "-U",
            "admin",
            "-p",
        ]);
        copy.arg(self.port.to_string())
            .arg("-D")
            .arg(server.seen(&server.data()));
        succeed(&mut copy);
        server.run(&[]);
        server
    }

    /// Starts it, with settings beside its configuration.
    pub(crate) fn run(&self, settings: &[&str]) {
        let mut options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c archive_mode=off",
            self.port
        );
        for setting in settings {
            options.push_str(&format!(" -c {setting}"));
        }
        let mut start = self.program("pg_ctl");
        start
            .args(["start", "-w", "-t", "240", "-l"])
            .arg(self.seen(&self.log()));
        start.arg("-o").arg(options).arg("-D").arg(self.seen(&self.data()));
        let started = start.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(
            started.success(),
            "{}",
            std::fs::read_to_string(self.log()).unwrap_or_default()
        );
    }

    /// Stops it, with a checkpoint.
    pub(crate) fn stop(&self) {
        let mut stop = self.program("pg_ctl");
        succeed(
            stop.args(["stop", "-w", "-m", "fast", "-D"])
                .arg(self.seen(&self.data())),
        );
    }

    /// Returns its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join(&self.name)
    }

    /// Makes a directory of the server's own beside it.
    pub(crate) fn make_directory(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        self.own(&path);
        path
    }

    /// Runs SQL as the superuser and returns what psql prints.
    pub(crate) fn psql(&self, sql: &str) -> String {
        let mut psql = self.program("psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-U",
            "admin",
            "-p",
        ]);
        psql.args([&self.port.to_string(), "-d", "postgres", "-c", sql]);
        let output = psql.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Says whether the server's own program finds a data directory to be the base of its manifest.
    pub(crate) fn verify_backup(&self, data: &Path, flags: &[&str]) -> String {
        let mut verify = self.program("pg_verifybackup");
        // WAL has to be read by a pg_waldump of the same version, which lies beside it.
        let output = verify.args(flags).arg(self.seen(data)).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).trim().to_owned()
    }

    /// Returns the URL of its cluster.
    pub(crate) fn url(&self, user: &str) -> String {
        format!("postgres-physical://{user}@127.0.0.1:{}?sslmode=disable", self.port)
    }

    /// Gives files to the user of the server.
    pub(crate) fn own(&self, path: &Path) {
        let mut own = match &self.root {
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg("chown");
                command
            }
            None if is_root() => Command::new("chown"),
            None => return,
        };
        succeed(own.args(["-R", "postgres:postgres"]).arg(self.seen(path)));
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join(format!("{}.log", self.name))
    }

    /// Returns a path as the programs see it.
    fn seen(&self, path: &Path) -> PathBuf {
        match &self.root {
            Some(root) => Path::new("/").join(path.strip_prefix(root).unwrap()),
            None => path.to_owned(),
        }
    }

    /// Runs a program of the server; it refuses to be run by root, so root steps down.
    fn program(&self, name: &str) -> Command {
        let path = self.bin.join(name);
        let mut command = match (&self.root, is_root()) {
            (Some(root), _) => {
                let mut command = Command::new("chroot");
                command.arg("--userspec=postgres:postgres").arg(root).arg(path);
                command
            }
            (None, true) => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                    .arg(path);
                command
            }
            (None, false) => Command::new(path),
        };
        command.current_dir("/").env("HOME", "/tmp").env("PGPASSWORD", "secret");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stop = self.program("pg_ctl");
        let _ = stop
            .args(["stop", "-w", "-m", "immediate", "-D"])
            .arg(self.seen(&self.data()))
            .output();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
