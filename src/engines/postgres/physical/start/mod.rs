//! A scratch server on a restored base: the proof that only PostgreSQL itself can give.
//!
//! The server recovers as after any restore, in the spool directory, and with a configuration of its own ([`settings`]). What it is asked, over a
//! socket that nobody else reaches, is how far it came and whether its databases can be read; then it is stopped, and the checksums of all pages
//! are looked at. What this host cannot do is no fault of the backup and is told apart from what the server refuses.
//!
//! A data directory is code to a server: whoever could write into the repository could make it run anything as its user. So this is asked for by
//! name, and for a user who can do no harm.

mod control;
mod installation;
mod looked;
mod own_log;
mod pages;
mod process;
mod report;
mod roles;
mod said;
mod settings;
mod user;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::base::blocking::blocking;
use crate::base::environment;
use crate::base::error::{Context, ErrorKind, Result};
use crate::base::exact;
use crate::engines::Tools;
use crate::engines::postgres::physical::BaseFacts;
use crate::engines::postgres::physical::flags::StartServer;
use crate::engines::postgres::physical::recovery::Recovery;
use crate::engines::postgres::physical::restore::target::Owner;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::wal::{Lsn, SegmentSize};
use control::Sizes;
use installation::Installation;
use looked::{Looked, Position, Sessions};
use pages::Pages;
use process::{Postmaster, STEP, Start};
pub(super) use report::StartedServer;
use user::User;

/// A server that says nothing for so long makes no progress: while it recovers, it does every ten seconds.
const NO_PROGRESS: Duration = Duration::from_secs(10 * 60);

/// How long it may take to stop with a checkpoint.
const STOP: Duration = Duration::from_secs(5 * 60);

/// Bytes of `pg_control` that are read.
const CONTROL_BYTES: usize = 8 << 10;

/// Bytes of the path of a socket, at most (`sun_path`).
const SOCKET_BYTES: usize = 107;

/// What the recovery may stay short of the position that the plan names: the header of a page stands between two records.
const PAGE_HEADER_BYTES: u64 = 40;

/// Variables that `restore_command` may need beside those of the store.
const PASSED_ON: &[&str] = &[
    "PATH",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// Variables that hold keys: only where the repository needs them.
const SECRETS: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
];

/// What a server can be started with.
#[derive(Debug)]
pub(super) struct Ready {
    installation: Installation,
    user: User,
}

/// Looks for what it takes. Returns why a server cannot be started here.
pub(super) async fn ready(flags: &StartServer, major: u32) -> Result<Ready, String> {
    let user = User::find(flags.run_as.as_deref())?;
    let installation = installation::find(major, flags.bin_dir.as_deref(), &user).await?;
    Ok(Ready { installation, user })
}

impl Ready {
    /// Returns who the files have to belong to.
    pub(super) fn owner(&self) -> Owner {
        self.user.owner()
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// What the server said, if it recovered.
    pub(super) server: Option<StartedServer>,
    /// Why it says nothing about the backup, if it does not.
    pub(super) why_not: Option<String>,
    pub(super) damage: Vec<String>,
    pub(super) integrity: Vec<String>,
    pub(super) skipped: Vec<String>,
}

impl Proof {
    pub(super) fn not_reached(why: impl Into<String>) -> Self {
        Self {
            why_not: Some(format!("a scratch server shows nothing of it: {}", why.into())),
            ..Self::default()
        }
    }

    fn damaged(what: String) -> Self {
        Self {
            damage: vec![what],
            ..Self::default()
        }
    }
}

/// A base in a scratch directory.
pub(super) struct Scratch<'a> {
    /// The directory that is removed afterwards, with `data` in it; absolute, for the server is started elsewhere.
    pub(super) directory: PathBuf,
    pub(super) facts: &'a BaseFacts,
    pub(super) recovery: Option<&'a Recovery>,
    pub(super) task: &'a str,
    pub(super) tools: &'a Tools,
}

impl Scratch<'_> {
    /// Starts a server, asks it, stops it, and looks at all pages.
    pub(super) async fn prove(&self, ready: &Ready) -> Result<Proof> {
        let tools = self.tools;
        let data = self.directory.join("data");
        if self.directory.to_str().is_none() {
            let directory = tools.spool_dir.display();
            return Ok(Proof::not_reached(format!(
                "\"{directory}\" is no text; use --spool-dir"
            )));
        }
        let socket = self.directory.join(format!(".s.PGSQL.{}", settings::PORT));
        if socket.as_os_str().len() > SOCKET_BYTES {
            let directory = tools.spool_dir.display();
            return Ok(Proof::not_reached(format!(
                "the path of the spool directory \"{directory}\" is too long for a socket; use --spool-dir"
            )));
        }
        let sizes = Sizes::read(&beginning(&data.join("global/pg_control"), CONTROL_BYTES)?)?;
        let (facts, own) = (self.facts.clone(), data.clone());
        if let Some(place) = blocking(move || own_log::makes_tablespace(&own, &facts)).await? {
            return Ok(Proof::not_reached(tablespace_text(&place)));
        }
        tools.reporter.phase(self.task, "start server");
        self.write_configuration(&sizes, &ready.user)?;
        let log_path = self.directory.join("log");
        let log = File::create_new(&log_path).context("make the log of the scratch server")?;
        #[cfg(feature = "test-hooks")]
        self.hold("scratch-server").await?;
        let start = self.start(ready, &data);
        let mut server = match Postmaster::start(&start, &data, &log) {
            Ok(server) => server,
            Err(error) => return Ok(Proof::not_reached(refused(&error, ready, &tools.spool_dir))),
        };
        if let Some(why) = tools.or_cancelled(recovered(&mut server, &log)).await? {
            return Ok(self.failed(why, &said::tail(&log)?));
        }
        #[cfg(feature = "test-hooks")]
        self.hold("scratch-server-runs").await?;
        let page_bytes = exact::usize_from(sizes.page_bytes.into());
        let roles = roles::superusers(&data, page_bytes);
        let (sessions, connection) = match tools.or_cancelled(Sessions::open(&self.directory, &roles)).await {
            Ok(opened) => opened,
            Err(error) if looked::is_refused_login(&error) => {
                return Ok(Proof::not_reached(format!(
                    "no superuser could log in ({})",
                    error.chain()
                )));
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => return Ok(self.failed(error.chain(), &said::tail(&log)?)),
        };
        let asked = tools.or_cancelled(self.ask(&sessions, connection)).await;
        let (position, looked) = match asked {
            Ok(asked) => asked,
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => return Ok(self.failed(error.chain(), &said::tail(&log)?)),
        };
        let stopped = server.stop(STOP);
        if let Err(error) = tools.or_cancelled(stopped).await {
            return match error.kind() {
                ErrorKind::Cancelled => Err(error),
                _ => Ok(self.failed(error.chain(), &said::tail(&log)?)),
            };
        }
        let pages = self.pages(data, sizes).await?;
        Ok(self.proof(ready, &position, looked, pages))
    }

    fn start<'s>(&self, ready: &'s Ready, data: &'s Path) -> Start<'s> {
        let text = |path: &Path| path.display().to_string();
        Start {
            program: &ready.installation.program,
            arguments: vec![
                "-D".to_owned(),
                text(data),
                "-c".to_owned(),
                format!("config_file={}", text(&self.directory.join("postgresql.conf"))),
                "-c".to_owned(),
                format!("hba_file={}", text(&self.directory.join("pg_hba.conf"))),
                "-c".to_owned(),
                format!("ident_file={}", text(&self.directory.join("pg_ident.conf"))),
                "-c".to_owned(),
                format!("unix_socket_directories={}", socket_directory(&self.directory)),
            ],
            user: &ready.user,
            directory: data,
            environment: self.environment(ready),
        }
    }

    /// What `restore_command` needs to reach the repository, and nothing else of this process.
    fn environment(&self, ready: &Ready) -> Vec<(String, String)> {
        let needs = self
            .recovery
            .map(|recovery| recovery.needs.as_slice())
            .unwrap_or_default();
        let own = matches!(ready.user, User::Oneself).then_some("HOME");
        let names = PASSED_ON.iter().copied().chain(own);
        let names = names.chain(needs.iter().map(String::as_str));
        let mut all: Vec<(String, String)> = names
            .filter_map(|name| Some((name.to_owned(), environment::variable(name)?)))
            .collect();
        if self.recovery.is_some() {
            // Profiles and roles that the SDK looks for.
            let text = |text: OsString| text.into_string().ok();
            let given = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
            // Files of secrets were read for those above.
            let of_sdk = |name: &str| {
                let is_secret = SECRETS.contains(&name) || name.ends_with("_FILE");
                name == "AWS_WEB_IDENTITY_TOKEN_FILE" || (name.starts_with("AWS_") && !is_secret)
            };
            all.extend(given.filter(|(name, _)| of_sdk(name)));
        }
        let state = self.directory.join("state").display().to_string();
        all.push(("WIREVAULT_STATE_DIR".to_owned(), state));
        all.push(("LC_ALL".to_owned(), "C".to_owned()));
        all
    }

    /// Writes the configuration beside the data directory, in place of all that the cluster had, and gives it to the server's user.
    fn write_configuration(&self, sizes: &Sizes, user: &User) -> Result<()> {
        let segment = SegmentSize::new(self.facts.wal_segment_bytes)?;
        let recovery = self.recovery.map(Recovery::settings).unwrap_or_default();
        let text = settings::file(self.facts.major, sizes, segment, &recovery);
        let own = |path: &Path| match user.other() {
            Some((user, group)) => std::os::unix::fs::chown(path, Some(user), Some(group)),
            None => Ok(()),
        };
        let write = |name: &str, text: &str| -> Result<()> {
            let path = self.directory.join(name);
            let write = || -> std::io::Result<()> {
                let mut options = File::options();
                let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
                file?.write_all(text.as_bytes())?;
                own(&path)
            };
            write().with_context(|| format!("write \"{}\"", path.display()))
        };
        write("postgresql.conf", &text)?;
        write("pg_hba.conf", settings::ACCESS)?;
        write("pg_ident.conf", "")?;
        // The server would read this last.
        write("data/postgresql.auto.conf", "")?;
        if self.recovery.is_some() {
            write("data/recovery.signal", "")?;
        }
        own(&self.directory).context("give the scratch directory to the server's user")
    }

    async fn ask(&self, sessions: &Sessions, mut connection: Connection) -> Result<(Position, Looked)> {
        let position = looked::position(&mut connection).await?;
        let looked = sessions.look(&mut connection, self.tools).await?;
        Ok((position, looked))
    }

    /// Reads the pages of a cluster with checksums.
    async fn pages(&self, data: PathBuf, sizes: Sizes) -> Result<Option<Pages>> {
        if !self.facts.data_checksums {
            return Ok(None);
        }
        self.tools.reporter.phase(self.task, "check pages");
        let (start, cancel) = (self.facts.start_lsn, self.tools.cancel.clone());
        let is_cancelled = move || {
            if cancel.is_cancelled() {
                return Err(crate::base::cancel::cancelled());
            }
            Ok(())
        };
        blocking(move || pages::check(&data, &sizes, start, &is_cancelled))
            .await
            .map(Some)
    }

    /// Says what a failure of the server means: this host's, or the backup's.
    fn failed(&self, why: String, tail: &str) -> Proof {
        let words = said::last_words(tail);
        let said = if words.is_empty() {
            why
        } else {
            format!("{why}: {words}")
        };
        if let Some(cause) = said::of_host(&said) {
            return Proof::not_reached(format!("{cause} ({said})"));
        }
        let aim = match self.recovery {
            Some(recovery) => format!("{} over its log", recovery.to),
            None => self.facts.end_lsn.to_string(),
        };
        let major = self.facts.major;
        Proof::damaged(format!(
            "a server of PostgreSQL {major} could not recover on it to {aim}: {said}"
        ))
    }

    fn proof(&self, ready: &Ready, position: &Position, looked: Looked, pages: Option<Pages>) -> Proof {
        let mut proof = Proof::default();
        let reached = position.reached.unwrap_or_default();
        if let Some(wrong) = self.missed(position, reached) {
            proof.damage.push(wrong);
        }
        let stored = pages.as_ref().map(|pages| pages.stored.as_slice()).unwrap_or_default();
        for line in looked.wrong {
            // A page that was damaged before it was stored is not told twice.
            if stored.iter().any(|file| names(&line, file)) {
                proof.integrity.push(line);
            } else {
                proof
                    .damage
                    .push(format!("on a server of PostgreSQL {}: {line}", self.facts.major));
            }
        }
        proof.skipped.extend(looked.unread);
        let read = pages.as_ref().map(|pages| pages.read);
        if let Some(pages) = pages {
            proof.integrity.extend(pages.stored);
            let replayed = pages.replayed.into_iter();
            proof
                .damage
                .extend(replayed.map(|line| format!("after the recovery, {line}")));
            if pages.more > 0 {
                proof
                    .damage
                    .push(format!("{} more files with damaged pages", pages.more));
            }
        }
        proof.server = Some(StartedServer {
            version: ready.installation.version.clone(),
            reached,
            timeline: position.timeline,
            last_transaction: position.last_transaction,
            databases: looked.databases,
            closed_databases: looked.closed,
            catalog_tables: looked.catalog_tables,
            tables: looked.tables,
            rows: looked.rows,
            pages: read,
        });
        proof
    }

    /// Says that a recovery did not end where it was to end.
    fn missed(&self, position: &Position, reached: Lsn) -> Option<String> {
        if position.recovers {
            return Some("the server takes connections while it still recovers".to_owned());
        }
        let end = self.facts.end_lsn;
        let (is_there, to) = match self.recovery {
            None => (reached >= end, end),
            Some(recovery) => {
                let short = recovery.to.0.checked_sub(reached.0);
                (short.is_some_and(|short| short <= PAGE_HEADER_BYTES), recovery.to)
            }
        };
        (!is_there).then(|| format!("the server recovered to {reached}, and its log leads to {to}"))
    }

    #[cfg(feature = "test-hooks")]
    async fn hold(&self, point: &str) -> Result<()> {
        let held = async {
            crate::base::test_hooks::hold(point).await;
            Ok(())
        };
        self.tools.or_cancelled(held).await
    }
}

/// Says why a log is not replayed that makes a tablespace.
pub(crate) fn tablespace_text(place: &str) -> String {
    format!("its log makes a tablespace in \"{place}\", and a server that replays it would write there")
}

/// Returns whether a message of the server is about the relation of a file with damaged pages: `base/5/16384.1: wrong page …`.
fn names(message: &str, file: &str) -> bool {
    let file = file.split_once(':').map_or(file, |(file, _)| file);
    // Forks and segments have names of their own.
    let relation = match file.rsplit_once('/') {
        Some((directory, name)) => {
            let node: String = name.chars().take_while(char::is_ascii_digit).collect();
            format!("{directory}/{node}")
        }
        None => file.to_owned(),
    };
    message
        .split(&relation)
        .skip(1)
        .any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Waits until a server takes connections; returns why it does not.
async fn recovered(server: &mut Postmaster, log: &File) -> Result<Option<String>> {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        if let Some(status) = server.ended()? {
            return Ok(Some(format!("it ended with {status}")));
        }
        if server.is_ready() {
            return Ok(None);
        }
        let said = log.metadata().context("look at the log of the scratch server")?.len();
        if said != seen {
            (seen, since) = (said, Instant::now());
        } else if since.elapsed() > NO_PROGRESS {
            return Ok(Some("it made no progress for ten minutes".to_owned()));
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Says why a server could not be started at all.
fn refused(error: &std::io::Error, ready: &Ready, spool: &Path) -> String {
    let (user, program) = (ready.user.text(), ready.installation.program.display());
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => format!(
            "{user} may not enter the spool directory \"{}\", or run \"{program}\" ({error}); use another one with --spool-dir",
            spool.display()
        ),
        _ => format!("{user} could not run \"{program}\" ({error})"),
    }
}

/// Returns the directory of the socket as a list of one.
fn socket_directory(directory: &Path) -> String {
    format!("\"{}\"", directory.display().to_string().replace('"', "\"\""))
}

/// Returns the first bytes of a file.
fn beginning(path: &Path, most: usize) -> Result<Vec<u8>> {
    use std::io::Read;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(exact::u64_from(most)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().with_context(|| format!("read \"{}\"", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_about_the_relation_of_a_file() {
        let message = "invalid page in block 3 of relation base/5/16384";
        for (file, is_it) in [
            ("base/5/16384: wrong page checksum in block 3", true),
            ("base/5/16384.1: wrong page checksum in block 131075", true),
            ("base/5/16384_vm: wrong page checksum in block 0", true),
            ("base/5/1638: wrong page checksum in block 3", false),
            ("base/4/16384: wrong page checksum in block 3", false),
        ] {
            assert_eq!(names(message, file), is_it, "{file}");
        }
        assert!(!names(
            "invalid page in block 3 of relation base/5/163845",
            "base/5/16384: x"
        ));
    }

    #[test]
    fn a_directory_of_a_socket_is_one_of_a_list() {
        assert_eq!(socket_directory(Path::new("/a, b/\"c\"")), "\"/a, b/\"\"c\"\"\"");
    }
}
