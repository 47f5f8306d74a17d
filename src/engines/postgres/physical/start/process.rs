//! A scratch server as a process: started without a shell, watched, and ended whatever happens.
//!
//! This is one of the two places where this program starts another (docs/decisions.md): `postgres`, out of an installation of this host, because
//! a person asked for it by `--start`. The server is a child that dies with its [`Postmaster`]; whoever drops that ends the server at once.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};

use super::user::User;
use crate::base::error::{Context, Error, ErrorKind, Result};

/// How often a process is looked at.
pub(super) const STEP: Duration = Duration::from_millis(50);

/// How long a server may take to end at once, before it is killed.
const END: Duration = Duration::from_secs(10);

/// How long `postgres --version` may take.
const VERSION: Duration = Duration::from_secs(10);

/// Bytes of what it says, at most.
const VERSION_BYTES: u64 = 4 << 10;

/// Bytes of the lock file, at most.
const STATUS_BYTES: u64 = 8 << 10;

/// Opens a file of the data directory. Whoever runs the server may have put anything in its place: no link is followed, and nothing but a
/// file is read.
pub(super) fn opened(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    Ok(file)
}

/// A program that is to be run.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) program: &'a Path,
    pub(super) arguments: Vec<String>,
    pub(super) user: &'a User,
    /// Where it is started; its user has to be able to enter that.
    pub(super) directory: &'a Path,
    /// All that it finds in its environment.
    pub(super) environment: Vec<(String, String)>,
}

impl Start<'_> {
    /// Starts it in a process group of its own: what a terminal sends to this program is not the server's.
    #[expect(
        clippy::disallowed_methods,
        reason = "only PostgreSQL itself can show that a server starts on a data directory; docs/decisions.md"
    )]
    fn spawn(&self, output: Stdio, errors: Stdio) -> std::io::Result<Child> {
        let mut command = Command::new(self.program);
        command
            .args(&self.arguments)
            .current_dir(self.directory)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        if let Some((user, group)) = self.user.other() {
            // Supplementary groups go with the change.
            command.uid(user).gid(group);
        }
        // What a service manager lets this program do is not the server's. The ambient set is that of a thread.
        let spawn = || -> std::io::Result<Child> {
            rustix::thread::clear_ambient_capability_set()?;
            command.spawn()
        };
        let broken = |_| Err(std::io::Error::other("the thread that starts it broke off"));
        std::thread::scope(|scope| scope.spawn(spawn).join().unwrap_or_else(broken))
    }
}

/// Returns the first line that a program says of its version.
pub(super) async fn version(start: &Start<'_>) -> std::io::Result<String> {
    let mut child = start.spawn(Stdio::piped(), Stdio::null())?;
    let begun = Instant::now();
    let ended = loop {
        match child.try_wait() {
            Ok(None) if begun.elapsed() < VERSION => tokio::time::sleep(STEP).await,
            ended => break ended,
        }
    };
    if !matches!(ended, Ok(Some(_))) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    let mut said = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(VERSION_BYTES).read_to_end(&mut said)?;
    }
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

/// A server that runs on a data directory.
#[derive(Debug)]
pub(super) struct Postmaster {
    /// None once it has ended.
    child: Option<Child>,
    status_file: PathBuf,
}

impl Postmaster {
    /// Starts a server; what it says goes to the end of a file.
    pub(super) fn start(start: &Start<'_>, data: &Path, log: &File) -> std::io::Result<Self> {
        let child = start.spawn(log.try_clone()?.into(), log.try_clone()?.into())?;
        Ok(Self {
            child: Some(child),
            status_file: data.join("postmaster.pid"),
        })
    }

    /// Returns how it has ended, if it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(Some(ExitStatus::default()));
        };
        let ended = child.try_wait().context("wait for the scratch server")?;
        if ended.is_some() {
            self.child = None;
        }
        Ok(ended)
    }

    /// Returns whether it takes connections: the last line of its lock file says so, as `pg_ctl` reads it.
    pub(super) fn is_ready(&self) -> bool {
        let mut text = String::new();
        let read = opened(&self.status_file).and_then(|file| file.take(STATUS_BYTES).read_to_string(&mut text));
        read.is_ok() && text.lines().nth(7).is_some_and(|status| status.trim() == "ready")
    }

    /// Ends it as `pg_ctl stop -m fast` does: with a checkpoint, after which its files are whole.
    pub(super) async fn stop(mut self, limit: Duration) -> Result<()> {
        self.signal(Signal::INT);
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                if status.success() {
                    return Ok(());
                }
                return Err(Error::new(
                    ErrorKind::Other,
                    format!("the scratch server ended with {status} when it was stopped"),
                ));
            }
            if begun.elapsed() > limit {
                return Err(Error::new(ErrorKind::TimedOut, "the scratch server did not stop"));
            }
            tokio::time::sleep(STEP).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        if let Some(id) = id.and_then(Pid::from_raw) {
            let _ = kill_process(id, signal);
        }
    }
}

impl Drop for Postmaster {
    /// Ends the server as `pg_ctl stop -m immediate` does. Its own processes go with it, and what `restore_command` has started.
    fn drop(&mut self) {
        if self.child.is_none() {
            return;
        }
        self.signal(Signal::QUIT);
        let begun = Instant::now();
        while begun.elapsed() < END {
            if !matches!(self.ended(), Ok(None)) {
                return;
            }
            std::thread::sleep(STEP);
        }
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell(script: &str) -> Start<'static> {
        Start {
            program: Path::new("/bin/sh"),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            user: &User::Oneself,
            directory: Path::new("/"),
            environment: vec![("ONLY".to_owned(), "this".to_owned())],
        }
    }

    #[tokio::test]
    async fn a_program_sees_its_own_environment_alone() {
        let said = version(&shell("echo \"$ONLY-$CARGO_MANIFEST_DIR\"; echo more")).await;
        assert_eq!(said.unwrap(), "this-");
        let missing = Start {
            program: Path::new("/no/such/program"),
            ..shell("")
        };
        assert_eq!(
            version(&missing).await.unwrap_err().kind(),
            std::io::ErrorKind::NotFound
        );
    }

    #[tokio::test]
    async fn a_server_ends_when_it_is_stopped_and_when_it_is_dropped() {
        let place = tempfile::tempdir().unwrap();
        let log = File::create(place.path().join("log")).unwrap();
        let script = "trap 'exit 0' INT; trap 'exit 1' QUIT; printf '1\\n2\\n3\\n4\\n5\\n6\\n7\\nready   \\n' > \"$0\"; while :; do sleep 0.05; done";
        let mut start = shell(script);
        start
            .arguments
            .push(place.path().join("postmaster.pid").display().to_string());
        let ready = async |server: &Postmaster| {
            while !server.is_ready() {
                tokio::time::sleep(STEP).await;
            }
        };
        let mut server = Postmaster::start(&start, place.path(), &log).unwrap();
        ready(&server).await;
        assert!(server.ended().unwrap().is_none());
        server.stop(Duration::from_secs(60)).await.unwrap();
        std::fs::remove_file(place.path().join("postmaster.pid")).unwrap();
        let server = Postmaster::start(&start, place.path(), &log).unwrap();
        ready(&server).await;
        let id = Pid::from_raw(i32::try_from(server.child.as_ref().unwrap().id()).unwrap()).unwrap();
        drop(server);
        assert!(rustix::process::test_kill_process(id).is_err());
    }
}
