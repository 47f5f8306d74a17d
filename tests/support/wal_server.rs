//! A PostgreSQL server that archives with this program, and copies of its data directory that recover with it.
//!
//! The program is run as the server runs it: by its user, in its surroundings. PostgreSQL 18 lives in a chroot, and the program with
//! it. Segments have 1 MiB, so that a test needs few rows.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use super::postgres::is_root;
use super::wait;

/// Where the system's programs are, in a chroot as well.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Where servers live: the machine, or a chroot.
#[derive(Debug)]
pub(crate) struct Home {
    bin: String,
    root: Option<PathBuf>,
    directory: tempfile::TempDir,
}

/// A server of its own.
#[derive(Debug)]
pub(crate) struct WalServer {
    pub(crate) home: Arc<Home>,
    name: String,
    pub(crate) port: u16,
    environment: Vec<(String, String)>,
}

impl Home {
    /// PostgreSQL 15 of the distribution.
    pub(crate) fn of_15() -> Arc<Self> {
        let bin = std::env::var("WIREVAULT_TEST_PG15_BIN").unwrap_or_else(|_| "/usr/lib/postgresql/15/bin".to_owned());
        Arc::new(Self::new(&bin, None))
    }

    /// PostgreSQL 18 in its chroot; None for a user who cannot enter one.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub(crate) fn of_18() -> Option<Arc<Self>> {
        if !is_root() {
            eprintln!("not root: PostgreSQL 18 is skipped");
            return None;
        }
        let root = std::env::var_os("WIREVAULT_TEST_PG18_ROOT").expect("tests/servers/setup.sh makes a chroot");
        Some(Arc::new(Self::new("/usr/lib/postgresql/18/bin", Some(root.into()))))
    }

    fn new(bin: &str, root: Option<PathBuf>) -> Self {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("wirevault-wal");
        let directory = match &root {
            Some(root) => builder.tempdir_in(root.join("tmp")),
            None => builder.tempdir(),
        };
        let home = Self {
            bin: bin.to_owned(),
            root,
            directory: directory.unwrap(),
        };
        // Its user reads and writes here, and runs a copy of the program.
        let everybody = PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(home.directory.path(), everybody).unwrap();
        let program = home.outside("wirevault");
        std::fs::copy(assert_cmd::cargo::cargo_bin("wirevault"), &program).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        home
    }

    /// Returns a path as the machine sees it.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns a path as the servers see it.
    pub(crate) fn inside(&self, name: &str) -> String {
        let path = self.outside(name);
        let path = match &self.root {
            Some(root) => Path::new("/").join(path.strip_prefix(root).unwrap()),
            None => path,
        };
        path.display().to_string()
    }

    /// Returns a command that the servers' user runs among them.
    pub(crate) fn command(&self, program: &str) -> Command {
        let user = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"];
        let mut command = match &self.root {
            _ if !is_root() => return Command::new(program),
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg("setpriv");
                command
            }
            None => Command::new("setpriv"),
        };
        command.args(user).arg(program).current_dir("/");
        command
    }

    /// Returns a program of the server's installation.
    fn server_program(&self, name: &str) -> Command {
        self.command(&format!("{}/{name}", self.bin))
    }

    /// Returns what pg_waldump says of a file.
    pub(crate) fn waldump(&self, arguments: &[&str]) -> Output {
        let mut command = self.server_program("pg_waldump");
        command.env("TZ", "UTC").args(arguments).output().unwrap()
    }
}

/// Runs to the end; any failure fails the test.
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

impl WalServer {
    /// Makes a data directory. The variables reach whatever the server runs.
    pub(crate) fn init(home: &Arc<Home>, name: &str, environment: &[(&str, &str)]) -> Self {
        let server = Self::over(home, name, environment);
        let mut initdb = home.server_program("initdb");
        initdb.args([
            "-U",
            "admin",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]);
        run(initdb.args(["--wal-segsize=1", "-D", &server.data()]));
        server
    }

    fn over(home: &Arc<Home>, name: &str, environment: &[(&str, &str)]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let state = home.inside(&format!("{name}.state"));
        let mut environment: Vec<(String, String)> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        environment.push(("WIREVAULT_STATE_DIR".to_owned(), state));
        Self {
            home: Arc::clone(home),
            name: name.to_owned(),
            port,
            environment,
        }
    }

    /// Returns a server of the same surroundings whose data directory is to be made.
    pub(crate) fn without_data(&self, name: &str) -> Self {
        let variables: Vec<(&str, &str)> = self
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Self::over(&self.home, name, &variables)
    }

    /// Copies a data directory of a server that is stopped.
    pub(crate) fn copied(&self, name: &str) -> Self {
        let copy = self.without_data(name);
        run(self.home.command("cp").args(["-a", &self.data(), &copy.data()]));
        copy
    }

    /// Returns the data directory as the server sees it.
    pub(crate) fn data(&self) -> String {
        self.home.inside(&self.name)
    }

    /// Returns a file of the data directory as the machine sees it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.outside(&self.name).join(name)
    }

    /// Writes lines at the end of a file of the data directory.
    pub(crate) fn append(&self, file: &str, lines: &str) {
        use std::io::Write;
        let path = self.file(file);
        let mut opened = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        opened.write_all(lines.as_bytes()).unwrap();
        if is_root() {
            run(Command::new("chown")
                .arg("--reference")
                .arg(self.file("PG_VERSION"))
                .arg(&path));
        }
    }

    /// Returns `pg_ctl start`, which waits until the server takes connections or has ended.
    fn starting(&self) -> Command {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off -c max_wal_size=64MB -c min_wal_size=2MB",
            self.port,
            self.home.inside("")
        );
        let mut start = self.home.server_program("pg_ctl");
        start.args([
            "-w",
            "-t",
            "240",
            "-o",
            &options,
            "-l",
            &self.home.inside(&format!("{}.log", self.name)),
        ]);
        start.args(["-D", &self.data(), "start"]);
        // Nothing of whoever runs the tests reaches the program.
        start.env_clear().env("PATH", PATH);
        start.envs(self.environment.iter().map(|(name, value)| (name, value)));
        start.stdout(Stdio::null()).stderr(Stdio::null());
        start
    }

    pub(crate) fn start(&self) {
        let started = self.starting().status().unwrap();
        assert!(started.success(), "{}: {}", self.name, self.log());
    }

    /// Starts a server that is to end by itself.
    pub(crate) fn start_in_vain(&self) {
        let started = self.starting().status().unwrap();
        assert!(!started.success(), "{}: {}", self.name, self.log());
    }

    pub(crate) fn stop(&self, mode: &str) {
        run(self
            .home
            .server_program("pg_ctl")
            .args(["-w", "-m", mode, "-D", &self.data(), "stop"]));
    }

    /// Returns what the server has logged.
    pub(crate) fn log(&self) -> String {
        let path = self.home.outside(&format!("{}.log", self.name));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Runs SQL; several statements are separate transactions.
    pub(crate) fn sql(&self, statements: &[&str]) -> String {
        let mut psql = self.home.server_program("psql");
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
        ]);
        psql.args(["-p", &self.port.to_string(), "-d", "postgres"]);
        for statement in statements {
            psql.args(["-c", statement]);
        }
        let output = psql.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statements:?}: {said}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Ends the segment at work, and waits until it is archived; returns its name.
    pub(crate) fn archive_all(&self) -> String {
        // One that nothing was written to is not ended.
        let name = self.sql(&["SELECT pg_walfile_name(pg_logical_emit_message(false, 'end', 'of segment')); "]);
        self.sql(&["SELECT pg_switch_wal()"]);
        wait::until(&format!("{name} is archived: {}", self.log()), || {
            self.sql(&[&format!(
                "SELECT coalesce(max(last_archived_wal), '') >= '{name}' FROM pg_stat_archiver"
            )]) == "t"
        });
        name
    }

    /// Waits until a recovery has ended by itself.
    pub(crate) fn recovered(&self) {
        wait::until("the recovery ends", || self.sql(&["SELECT pg_is_in_recovery()"]) == "f");
    }

    /// Makes the data directory of a standby that follows this server, which runs.
    pub(crate) fn make_standby(&self, standby: &Self) {
        let mut base = self.home.server_program("pg_basebackup");
        base.args([
            "-h",
            "127.0.0.1",
            "-U",
            "admin",
            "-c",
            "fast",
            "-X",
            "stream",
            "-R",
            "--no-sync",
        ]);
        run(base.args(["-p", &self.port.to_string(), "-D", &standby.data()]));
    }

    /// Makes a standby a primary, on a timeline of its own.
    pub(crate) fn promote(&self) {
        let mut promote = self.home.server_program("pg_ctl");
        run(promote.args(["-w", "-t", "240", "-D", &self.data(), "promote"]));
    }

    /// Returns its URL as a source of base backups.
    pub(crate) fn url(&self) -> String {
        format!("postgres-physical://admin@127.0.0.1:{}?sslmode=disable", self.port)
    }

    /// Runs the program as the server would, in its data directory if it is there.
    pub(crate) fn tool(&self, arguments: &[&str]) -> Output {
        self.tool_command(arguments).output().unwrap()
    }

    /// As [`Self::tool`], yet to be run; the process is the program itself.
    pub(crate) fn tool_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command("env");
        let directory = if self.file("PG_VERSION").exists() {
            self.data()
        } else {
            self.home.inside("")
        };
        command
            .args(["-C", &directory, &self.home.inside("wirevault")])
            .args(arguments);
        command.env_clear().env("PATH", PATH);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs the program to an exit code; returns what it printed, standard error behind standard output.
    pub(crate) fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.tool(arguments);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    }

    /// Runs the program with `--json` to an exit code.
    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> serde_json::Value {
        let output = self.tool(&[arguments, &["--json"]].concat());
        let (said, document) = (
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout),
        );
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}{document}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for WalServer {
    fn drop(&mut self) {
        let mut stop = self.home.server_program("pg_ctl");
        let _ = stop
            .args(["-w", "-m", "immediate", "-D", &self.data(), "stop"])
            .output();
    }
}
