//! The program itself, run in a directory of its own with nothing of the caller's environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::s3::S3Server;

/// A directory, a repository, and the environment that reaches both.
pub(crate) struct Program {
    pub(crate) place: tempfile::TempDir,
    /// What this host remembers.
    pub(crate) state: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Program {
    /// Over a repository in a directory.
    pub(crate) fn on_directory() -> Self {
        let mut program = Self::bare();
        let repository = program.path("repo").display().to_string();
        program.set("WIREVAULT_REPOSITORY", &repository);
        program
    }

    /// Over a repository in a bucket of an S3 server that lives as long as the test binary.
    pub(crate) fn on_s3() -> Self {
        let mut program = Self::bare();
        std::fs::create_dir_all(program.path("s3/bucket")).unwrap();
        let endpoint = serve_s3(&program.path("s3"));
        let config =
            format!("[repository]\nurl = \"s3://bucket/app\"\nendpoint = \"{endpoint}\"\nregion = \"us-east-1\"\n");
        std::fs::write(program.path("wirevault.toml"), config).unwrap();
        program.set("AWS_ACCESS_KEY_ID", "tester");
        program.set("AWS_SECRET_ACCESS_KEY", "tester-secret");
        program
    }

    /// Over no repository.
    pub(crate) fn bare() -> Self {
        Self {
            place: tempfile::tempdir().unwrap(),
            state: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.place.path().join(relative)
    }

    /// Returns a command that is yet to be run; without capabilities, modes of files bind also root.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let program = assert_cmd::cargo::cargo_bin("wirevault");
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(arguments);
        self.equip(&mut command);
        command
    }

    /// Gives a command this program's directory and environment.
    pub(crate) fn equip(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .current_dir(self.place.path())
            .env_clear()
            .env("PATH", path)
            .env("WIREVAULT_STATE_DIR", self.state.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
    }

    /// Runs to the end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs to the end and returns standard output; any other exit code fails the test.
    pub(crate) fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}{said}");
        text
    }

    /// Runs with `--json` to exit code 0 and returns the document.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        serde_json::from_str(&self.expect(0, &arguments)).unwrap()
    }

    /// Returns the ids that `list` shows.
    pub(crate) fn listed(&self) -> Vec<String> {
        let document = self.json(&["list"]);
        let snapshots = document["snapshots"].as_array().unwrap();
        snapshots.iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Checks one clear error: exit code 1, one `error:` line with `message`, one `hint:` line with `hint`.
    pub(crate) fn refused(&self, arguments: &[&str], message: &str, hint: &str) {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert_one_error(&text, message, hint);
    }
}

/// Checks that standard error holds one error with one hint, and no password.
pub(crate) fn assert_one_error(text: &str, message: &str, hint: &str) {
    let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
    let (errors, hints) = (lines("error: "), lines("hint: "));
    assert_eq!((errors.len(), hints.len()), (1, 1), "{text}");
    assert!(errors[0].contains(message), "{message:?} is not in: {text}");
    assert!(hints[0].contains(hint), "{hint:?} is not in: {text}");
    assert!(!text.contains("geheim") && !text.contains("panicked"), "{text}");
}

/// Serves the subdirectories of `root` as buckets, on a thread of its own, and returns the endpoint.
pub(crate) fn serve_s3(root: &Path) -> String {
    let root = root.to_owned();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let keys = ("tester", "tester-secret");
            let server = S3Server::bind(&root, ("127.0.0.1", 0), keys, false).await.unwrap();
            send.send(format!("http://{}", server.address().unwrap())).unwrap();
            server.serve().await;
        });
    });
    receive.recv().unwrap()
}

/// Returns every file below a directory with its length, in order.
pub(crate) fn files_below(root: &Path) -> Vec<(PathBuf, u64)> {
    let (mut found, mut waiting) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue }; // a store's scratch file, gone since it was listed
            if meta.is_dir() {
                waiting.push(entry.path());
            } else {
                found.push((entry.path(), meta.len()));
            }
        }
    }
    found.sort();
    found
}

/// Returns the uploads that are open in a directory store, which keeps each with its description in `.uploads`. Small objects
/// have temporary files there too.
pub(crate) fn open_uploads(directory: &Path) -> Vec<PathBuf> {
    let files = files_below(directory).into_iter().map(|(path, _)| path);
    files
        .filter(|path| path.extension().is_some_and(|end| end == "about"))
        .collect()
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}
