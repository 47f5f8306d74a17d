//! Containers that are stopped while volumes are read or written, and always started again.
//!
//! Before the first one is stopped, a journal in the spool directory names them all; it goes away when the last one runs
//! again. So they are started by whoever comes first: the run itself, whatever its outcome; its destructor, if the
//! run's future is dropped; or the next run, if the process was killed.

use std::fs::File;
use std::io::{Read, Write};
use std::net::ToSocketAddrs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use globset::Glob;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{note, running as is_running};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::held::{self, Standing};
use crate::engines::Notes;
use crate::engines::docker::api::definition::container_name;
use crate::engines::docker::api::select::is_meant;
use crate::engines::docker::api::{Address, Engine, text};

/// How the names of journals begin.
const JOURNAL: &str = "wirevault-quiesced-";

/// Pause between two looks at a container that is stopping.
const LOOK: Duration = Duration::from_millis(100);

/// Starting is tried so often: an engine under load answers late.
const START_TRIES: u32 = 3;

/// A container to stop.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The signal that asks it to stop.
    #[serde(default)]
    pub signal: String,
}

/// What is to be stopped, and how.
#[derive(Debug, Clone)]
pub struct Stop {
    /// The names that were asked for.
    pub names: Vec<String>,
    /// How long stopping may take.
    pub timeout: Duration,
    /// Whether whatever still runs then is killed.
    pub kill: bool,
    /// Those of them that run.
    pub containers: Vec<Member>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Journal {
    pid: u32,
    /// Whether the file is locked while its process is at work; older versions do not lock it.
    #[serde(default)]
    locked: bool,
    socket: Address,
    containers: Vec<Member>,
}

/// Containers that are stopped until [`Quiesced::start`].
#[derive(Debug)]
pub struct Quiesced {
    engine: Engine,
    containers: Vec<Member>,
    /// The journal, locked while it is open.
    journal: Option<(PathBuf, File)>,
}

/// Returns whether the names mean a container.
pub(crate) fn names(names: &[String], container: &Value) -> bool {
    let globs = names.iter().filter_map(|name| Glob::new(name).ok());
    globs
        .map(|glob| glob.compile_matcher())
        .any(|glob| is_meant(container, &glob))
}

/// Returns the running containers that the names mean, in the order of the names.
pub fn running(names: &[String], containers: &[Value]) -> Result<Vec<Member>> {
    let mut found: Vec<Member> = Vec::new();
    for name in names {
        let glob = Glob::new(name).map_err(|e| Error::invalid(format!("invalid pattern \"{name}\"")).with_cause(e))?;
        let glob = glob.compile_matcher();
        for one in containers.iter().filter(|one| is_running(one) && is_meant(one, &glob)) {
            let id = text(one, "/Id").to_owned();
            if found.iter().any(|member| member.id == id) {
                continue;
            }
            let signal = match text(one, "/Config/StopSignal") {
                "" => "SIGTERM",
                other => other,
            };
            found.push(Member {
                id,
                name: container_name(one).to_owned(),
                signal: signal.to_owned(),
            });
        }
    }
    Ok(found)
}

/// Stops containers one after another. If one does not stop, or the run is cancelled, all are started again.
pub async fn stop(engine: &Engine, stop: Stop, spool: &Path, cancel: &CancellationToken) -> Result<Quiesced> {
    let mut quiesced = Quiesced {
        engine: engine.clone(),
        containers: stop.containers.clone(),
        journal: None,
    };
    if stop.containers.is_empty() {
        return Ok(quiesced);
    }
    quiesced.journal = Some(write_journal(engine.address(), &stop.containers, spool)?);
    for member in &stop.containers {
        let stopped = stop_one(engine, member, &stop, cancel).await;
        if let Err(error) = stopped {
            let again = quiesced.start().await;
            return Err(match again {
                Ok(()) => error,
                Err(second) => error.context(second.chain()),
            });
        }
    }
    Ok(quiesced)
}

async fn stop_one(engine: &Engine, member: &Member, stop: &Stop, cancel: &CancellationToken) -> Result<()> {
    engine.signal(&member.id, &member.signal).await?;
    if ended(engine, member, stop.timeout, cancel).await? {
        return Ok(());
    }
    if stop.kill {
        tracing::warn!(
            "container \"{}\" did not stop within {} s and is killed",
            member.name,
            stop.timeout.as_secs()
        );
        engine.signal(&member.id, "SIGKILL").await?;
        if ended(engine, member, Duration::from_secs(10), cancel).await? {
            return Ok(());
        }
    }
    Err(Error::new(
        ErrorKind::TimedOut,
        format!(
            "container \"{}\" did not stop within {} s of {}",
            member.name,
            stop.timeout.as_secs(),
            member.signal
        ),
    )
    .with_hint(
        "It was not killed. Raise stop_timeout, set kill = true (as `docker stop` does), or remove it from `quiesce`. \
         A program that runs as PID 1 and handles no signals never stops by itself: use `init: true` in compose.",
    ))
}

/// Waits until a container has ended; false if it has not in time.
async fn ended(engine: &Engine, member: &Member, within: Duration, cancel: &CancellationToken) -> Result<bool> {
    let from = Instant::now();
    loop {
        match engine.container(&member.id).await? {
            Some(now) if is_running(&now) => {}
            _ => return Ok(true),
        }
        if from.elapsed() >= within {
            return Ok(false);
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::new(ErrorKind::Cancelled, "cancelled")),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

impl Quiesced {
    /// Returns how many containers are stopped.
    pub fn len(&self) -> usize {
        self.containers.len()
    }

    /// Returns whether none is stopped.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty()
    }

    /// Starts every container again, last stopped first. One that does not start does not keep the others from it.
    pub async fn start(mut self) -> Result<()> {
        let members = std::mem::take(&mut self.containers);
        let failed = start_all(&self.engine, &members).await;
        match failed {
            None => {
                if let Some((journal, _lock)) = self.journal.take() {
                    let _ = std::fs::remove_file(journal);
                }
                Ok(())
            }
            // The journal stays, and its lock does not: the next run tries again, one of this process too.
            Some(error) => Err(error),
        }
    }
}

async fn start_all(engine: &Engine, members: &[Member]) -> Option<Error> {
    let mut failures = Failures::default();
    for (at, member) in members.iter().enumerate().rev() {
        if let Err(error) = start_one(engine, member).await {
            tracing::error!("{}", error.chain());
            if failures.add(members, at, error) {
                break;
            }
        }
    }
    failures.first.map(|error| error.with_hint(start_hint(&failures.left)))
}

/// Containers that were not started, and the first reason.
#[derive(Default)]
struct Failures<'a> {
    first: Option<Error>,
    left: Vec<&'a str>,
}

impl<'a> Failures<'a> {
    /// Notes that one was not started. Returns whether it is of no use to go on to those before it: an engine that said nothing
    /// would let each of them wait as long. The journal has them.
    fn add(&mut self, members: &'a [Member], at: usize, error: Error) -> bool {
        let is_silent = error.kind() == ErrorKind::TimedOut;
        self.first.get_or_insert(error);
        let of_no_use = members.iter().take(at).filter(|_| is_silent);
        let left = members.get(at).into_iter().chain(of_no_use.rev());
        self.left.extend(left.map(|member| member.name.as_str()));
        is_silent
    }
}

/// Says what stands still, and how a person starts it.
fn start_hint(names: &[&str]) -> String {
    let verb = if names.len() == 1 {
        "It is still"
    } else {
        "They are still"
    };
    format!("{verb} stopped: docker start {}", names.join(" "))
}

async fn start_one(engine: &Engine, member: &Member) -> Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match engine.start(&member.id).await {
            Ok(()) => return Ok(()),
            // It was removed, or made anew under its name: nothing of ours is left to start.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if tries < START_TRIES => {
                tracing::warn!("{}; trying again", error.chain());
                tokio::time::sleep(Duration::from_secs(u64::from(tries))).await;
            }
            Err(error) => {
                return Err(error.context(format!("start container \"{}\" again", member.name)));
            }
        }
    }
}

impl Drop for Quiesced {
    /// The run was dropped in the middle: its containers are started from here, without the runtime.
    fn drop(&mut self) {
        let (mut all, from) = (true, Instant::now());
        for member in self.containers.iter().rev() {
            let left = DROPPED.saturating_sub(from.elapsed());
            let Ok(started) = start_blocking(self.engine.address(), member, left) else {
                // The engine is not reached, or silent: each of the others would wait as long. The journal has them.
                all = false;
                break;
            };
            all &= started;
        }
        if let Some((journal, _lock)) = self.journal.take().filter(|_| all && !self.containers.is_empty()) {
            let _ = std::fs::remove_file(journal);
        }
    }
}

/// How long an engine over TCP may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a run that is dropped waits for an answer of the engine.
const SILENCE: Duration = Duration::from_secs(60);

/// How long it starts containers in all; with an engine that answers, dozens have started by then.
const DROPPED: Duration = Duration::from_secs(300);

/// Returns whether the container was started; an error if the engine cannot be reached, or does not answer within `left`.
fn start_blocking(address: &Address, member: &Member, left: Duration) -> std::io::Result<bool> {
    if left.is_zero() {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    let (patience, hurry) = (Some(SILENCE.min(left)), Some(Duration::from_secs(10)));
    match address {
        Address::Unix(path) => {
            let stream = std::os::unix::net::UnixStream::connect(path)?;
            stream.set_read_timeout(patience)?;
            stream.set_write_timeout(hurry)?;
            unless_silent(ask_to_start(stream, member))
        }
        // With TLS or a proxy the journal stays, and the next run starts the containers.
        Address::Tcp { host, port } if address.is_plain() => {
            let stream = connect(host, *port)?;
            stream.set_read_timeout(patience)?;
            stream.set_write_timeout(hurry)?;
            unless_silent(ask_to_start(stream, member))
        }
        Address::Tcp { .. } => Err(std::io::Error::other("the engine cannot be reached from here")),
    }
}

/// Whether the container was started, unless the engine said nothing: a socket's time-out is told as "would block".
fn unless_silent(asked: std::io::Result<()>) -> std::io::Result<bool> {
    match asked {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ) =>
        {
            Err(error)
        }
        Err(_) => Ok(false),
    }
}

/// Connects to the first of a host's addresses that accepts, within [`CONNECT`] for all of them.
fn connect(host: &str, port: u16) -> std::io::Result<std::net::TcpStream> {
    let (from, mut last) = (Instant::now(), std::io::Error::other("it has no address"));
    for address in (host, port).to_socket_addrs()? {
        let left = CONNECT.saturating_sub(from.elapsed());
        if left.is_zero() {
            break;
        }
        match std::net::TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask_to_start(mut stream: impl Read + Write, member: &Member) -> std::io::Result<()> {
    let request = format!(
        "POST /containers/{}/start HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        member.id
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    // 204 started, 304 runs already, 404 gone.
    match answer.get(9..12) {
        Some(b"204" | b"304" | b"404") => Ok(()),
        _ => Err(std::io::Error::other("the container did not start")),
    }
}

fn write_journal(socket: &Address, containers: &[Member], spool: &Path) -> Result<(PathBuf, File)> {
    let pid = std::process::id();
    let path = spool.join(format!("{JOURNAL}{pid}-{:08x}", rand::random::<u32>()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("write \"{}\", which names the containers to be stopped", path.display()))?;
    // Before its content: without that nobody takes it for a journal.
    let journal = Journal {
        pid,
        locked: held::lock(&file),
        socket: socket.clone(),
        containers: containers.to_vec(),
    };
    let bytes = serde_json::to_vec(&journal).map_err(|e| Error::invalid("write the journal").with_cause(e))?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok((path, file))
}

/// Journals of processes of ours that are gone.
fn abandoned(spool: &Path) -> Vec<(PathBuf, Journal)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(spool).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(JOURNAL) {
            continue;
        }
        // The directory may be everybody's: only our own word is taken.
        let ours = entry
            .metadata()
            .is_ok_and(|meta| meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw());
        let read = std::fs::read(entry.path()).ok().filter(|_| ours);
        let Some(journal) = read.and_then(|bytes| serde_json::from_slice::<Journal>(&bytes).ok()) else {
            continue;
        };
        let alive = if journal.locked {
            // In a container each run is process 1, and those of another container are not seen.
            held::standing(&entry.path()) != Standing::Free
        } else {
            journal.pid == std::process::id() || Path::new(&format!("/proc/{}", journal.pid)).exists()
        };
        if !alive {
            found.push((entry.path(), journal));
        }
    }
    found
}

/// Starts what a killed run left stopped.
pub(crate) async fn start_left_behind(spool: &Path, notes: &Notes) {
    for (path, journal) in abandoned(spool) {
        let Ok(engine) = Engine::connect(&journal.socket).await else {
            continue;
        };
        if start_all(&engine, &journal.containers).await.is_none() {
            for member in &journal.containers {
                notes.add(note(
                    "container-started-again",
                    &member.name,
                    "was left stopped by a run that was killed; starting it again",
                ));
            }
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::os::unix::net::UnixListener;

    use super::*;

    fn member(name: &str) -> Member {
        Member {
            id: name.to_owned(),
            name: name.to_owned(),
            signal: "SIGTERM".to_owned(),
        }
    }

    #[test]
    fn a_journal_is_abandoned_when_its_run_is_over_whatever_its_number() {
        let spool = tempfile::tempdir().unwrap();
        let address = Address::Unix("/nowhere".into());
        let (path, lock) = write_journal(&address, &[member("api")], spool.path()).unwrap();
        assert!(abandoned(spool.path()).is_empty(), "its run is at work");
        drop(lock);
        // As in a container, the process that left it had the number of this one.
        let found = abandoned(spool.path());
        assert!(found.len() == 1 && found[0].0 == path && found[0].1.containers == [member("api")]);
        // What an older version wrote says nothing but a number.
        let mut older = serde_json::to_value(&found[0].1).unwrap();
        older.as_object_mut().unwrap().remove("locked");
        std::fs::write(&path, older.to_string()).unwrap();
        assert!(abandoned(spool.path()).is_empty());
    }

    #[test]
    fn an_engine_that_is_silent_is_waited_for_once_and_what_stands_still_is_named() {
        let members: Vec<Member> = ["db", "api", "web"].map(member).into();
        let mut failures = Failures::default();
        let refused = Error::new(ErrorKind::Other, "no such network");
        assert!(!failures.add(&members, 2, refused), "the others may start");
        assert!(failures.add(&members, 1, Error::new(ErrorKind::TimedOut, "it did not answer")));
        assert_eq!(failures.left, ["web", "api", "db"]);
        assert_eq!(failures.first.unwrap().message(), "no such network");
        assert_eq!(
            start_hint(&failures.left),
            "They are still stopped: docker start web api db"
        );
        assert_eq!(start_hint(&["db"]), "It is still stopped: docker start db");
    }

    #[test]
    fn an_engine_that_is_silent_is_as_one_that_is_not_reached() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("docker.sock");
        // Nobody accepts, so that nothing is ever answered.
        let _listener = UnixListener::bind(&path).unwrap();
        let address = Address::Unix(path);
        let error = start_blocking(&address, &member("api"), Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        let error = start_blocking(&address, &member("api"), Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }
}
