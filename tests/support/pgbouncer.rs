//! pgbouncer before a cluster, on a free port of the loopback. `tests/servers/setup.sh` installs it.

use std::process::{Child, Command, Stdio};

use super::postgres::{Cluster, is_root};
use super::wait;

/// A running pooler; ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Pgbouncer {
    child: Child,
    pub(crate) port: u16,
    _directory: tempfile::TempDir,
}

impl Pgbouncer {
    /// Starts one that logs in as the cluster's administrator, and lets everybody in.
    pub(crate) fn start(cluster: &Cluster, mode: &str, size: usize) -> Self {
        let program = std::env::var("WIREVAULT_TEST_PGBOUNCER").unwrap_or_else(|_| "/usr/sbin/pgbouncer".to_owned());
        let directory = tempfile::Builder::new()
            .prefix("wirevault-pgbouncer")
            .tempdir()
            .unwrap();
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let configuration = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=admin password=secret\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = any\npool_mode = {mode}\ndefault_pool_size = {size}\nunix_socket_dir =\n",
            cluster.port
        );
        std::fs::write(&configuration, text).unwrap();
        // It refuses to run as root.
        let mut command = if is_root() {
            let given = Command::new("chown")
                .args(["-R", "postgres"])
                .arg(directory.path())
                .status();
            assert!(given.unwrap().success());
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(&program);
            command
        } else {
            Command::new(&program)
        };
        let child = command
            .arg("-q")
            .arg(&configuration)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tests/servers/setup.sh installs pgbouncer");
        wait::until("pgbouncer listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            child,
            port,
            _directory: directory,
        }
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
