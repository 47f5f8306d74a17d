//! A Docker engine of the test's own: unpacked, not installed; its data below a temporary directory; everything it starts in
//! a process namespace that ends with it. Images are made from tars, for there is no registry.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use super::program::Program;
use super::wait::until;

/// A running engine; it ends with this.
pub(crate) struct DockerEngine {
    child: Child,
    root: PathBuf,
    pub(crate) dir: tempfile::TempDir,
}

impl Drop for DockerEngine {
    fn drop(&mut self) {
        self.remove_networks();
        // The namespace ends with its first process, and every container in it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unpacked() -> Option<PathBuf> {
    std::env::var_os("WIREVAULT_TEST_DOCKER").map(PathBuf::from)
}

impl DockerEngine {
    /// Starts an engine; `None` where there is none to start (not root).
    pub(crate) fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let root = unpacked().expect("run tests/servers/setup.sh");
        let dir = tempfile::Builder::new().prefix("wvd").tempdir().unwrap();
        let child = spawn(&root, dir.path());
        let mut engine = Self { child, root, dir };
        engine.wait();
        Some(engine)
    }

    /// Ends the engine with everything in it and starts another one on no data: a blank host.
    pub(crate) fn replace_by_a_blank_one(&mut self) {
        self.remove_networks();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let old = std::mem::replace(&mut self.dir, tempfile::Builder::new().prefix("wvd").tempdir().unwrap());
        drop(old);
        self.child = spawn(&self.root, self.dir.path());
        self.wait();
    }

    /// Bridges lie in the host's own namespace, so they do not end with the engine.
    fn remove_networks(&self) {
        if UnixStream::connect(self.socket()).is_err() {
            return;
        }
        let (_, networks) = self.try_call("GET", "/networks", None);
        let networks: Value = serde_json::from_slice(&networks).unwrap_or_default();
        for network in networks.as_array().into_iter().flatten() {
            let name = network["Name"].as_str().unwrap_or_default();
            if ["host", "none", "bridge"].contains(&name) {
                continue;
            }
            let (_, inside) = self.try_call("GET", &format!("/networks/{name}"), None);
            let inside: Value = serde_json::from_slice(&inside).unwrap_or_default();
            for container in inside["Containers"].as_object().into_iter().flatten().map(|(id, _)| id) {
                self.try_call("DELETE", &format!("/containers/{container}?force=1"), None);
            }
            self.try_call("DELETE", &format!("/networks/{name}"), None);
        }
    }

    /// Waits until the daemon answers; one that ended never will.
    fn wait(&mut self) {
        until("the engine answers", || {
            let ended = self.child.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(ended.is_none(), "the engine did not start: {}", log());
            UnixStream::connect(self.socket()).is_ok() && self.try_call("GET", "/_ping", None).0 == 200
        });
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// The URL of everything in it.
    pub(crate) fn url(&self) -> String {
        format!("docker://{}", self.socket().display())
    }

    /// Where a volume lies.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.dir.path().join("data/volumes").join(name).join("_data")
    }

    /// Sends a request; returns status and body.
    pub(crate) fn try_call(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> (u16, Vec<u8>) {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let (kind, bytes) = body.unwrap_or(("application/json", b""));
        // HTTP 1.0: the body ends with the connection.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: d\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(answer.len());
        let status = String::from_utf8_lossy(answer.get(9..12).unwrap_or(b"0"))
            .parse()
            .unwrap_or(0);
        (status, answer.get(end + 4..).unwrap_or_default().to_vec())
    }

    fn checked(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Value {
        let (status, bytes) = self.try_call(method, path, body);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!((200..=304).contains(&status), "{method} {path}: {status} {text}");
        serde_json::from_slice(&bytes).unwrap_or(Value::Null)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.checked("GET", path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let bytes = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        self.checked("POST", path, Some(("application/json", &bytes)))
    }

    pub(crate) fn delete(&self, path: &str) {
        self.checked("DELETE", path, None);
    }

    /// Makes an image from a directory.
    pub(crate) fn import(&self, name: &str, directory: &Path) {
        let tar = Command::new("tar")
            .arg("-C")
            .arg(directory)
            .args(["-c", "."])
            .output()
            .unwrap();
        assert!(tar.status.success());
        let (repository, tag) = name.split_once(':').unwrap();
        let path = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}");
        let (status, body) = self.try_call("POST", &path, Some(("application/x-tar", &tar.stdout)));
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    }

    /// Makes the image `busybox:1`.
    pub(crate) fn import_busybox(&self) {
        let files = tempfile::tempdir().unwrap();
        self.put_busybox(files.path());
        self.import("busybox:1", files.path());
    }

    /// Puts a static busybox, as sh too, into a directory that becomes an image.
    pub(crate) fn put_busybox(&self, files: &Path) {
        for sub in ["bin", "tmp", "etc"] {
            std::fs::create_dir_all(files.join(sub)).unwrap();
        }
        std::fs::copy(self.root.join("bin/busybox"), files.join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "cat", "httpd", "mkdir", "chown", "wget", "test"] {
            let link = files.join("bin").join(name);
            if !link.exists() {
                std::os::unix::fs::symlink("busybox", link).unwrap();
            }
        }
    }

    /// Creates and starts a container on the host's network and returns its id.
    pub(crate) fn run(&self, name: &str, config: &Value) -> String {
        let created = self.post(&format!("/containers/create?name={name}"), config);
        let id = created["Id"].as_str().unwrap().to_owned();
        self.post(&format!("/containers/{id}/start"), &Value::Null);
        id
    }

    /// Runs a container that stops when it is asked to, with volumes mounted (`volume:/place`).
    pub(crate) fn run_idle(&self, name: &str, binds: &[&str], more: &Value) -> String {
        let mut config = json!({
            "Image": "busybox:1",
            "Cmd": ["/bin/sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"],
            "HostConfig": { "Binds": binds, "NetworkMode": "host" },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        self.run(name, &config)
    }

    pub(crate) fn is_running(&self, name: &str) -> bool {
        self.get(&format!("/containers/{name}/json"))["State"]["Running"] == true
    }

    /// Waits until a container has ended.
    pub(crate) fn wait_ended(&self, name: &str) {
        self.post(&format!("/containers/{name}/wait"), &Value::Null);
    }

    pub(crate) fn started_at(&self, name: &str) -> String {
        self.get(&format!("/containers/{name}/json"))["State"]["StartedAt"].to_string()
    }
}

/// Starts the daemon as the first process of a namespace of its own: it ends with the test, and all of it at once.
fn spawn(root: &Path, dir: &Path) -> Child {
    let bin = |name: &str| root.join("usr").join(name);
    let path = format!(
        "{}:{}:/usr/sbin:/usr/bin:/sbin:/bin",
        bin("bin").display(),
        bin("sbin").display()
    );
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let at = |name: &str| dir.join(name).display().to_string();
    Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "--",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(bin("sbin/dockerd"))
        .args([
            "--iptables=false",
            "--ip6tables=false",
            "--bridge=none",
            "--storage-driver=vfs",
        ])
        .args([
            "--data-root",
            &at("data"),
            "--exec-root",
            &at("exec"),
            "--pidfile",
            &at("pid"),
        ])
        .args(["-H", &format!("unix://{}", at("docker.sock"))])
        .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
        .args(["--cgroup-parent", &format!("/wirevault-test-{}", std::process::id())])
        .env("PATH", path)
        .env("LD_LIBRARY_PATH", root.join("lib/x86_64-linux-gnu"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A command of the program with the rights of the engine's host: as root it owns what it restores.
pub(crate) fn command_as_root(program: &Program, arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("wirevault"));
    command.args(arguments);
    program.equip(&mut command);
    command
}

/// Runs it to the end; any other exit code fails the test.
pub(crate) fn expect_as_root(program: &Program, code: i32, arguments: &[&str]) -> Output {
    let output = command_as_root(program, arguments).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
