//! Level `restored`: each source into a scratch place, where its own engine, or a second reading, compares it.
//!
//! SQLite databases and file trees (volumes of Docker among them) go into the spool directory; PostgreSQL and Redis need a
//! server that is named with `--into`. Each function returns why the level was not reached, if it was not.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use super::content::{self, Tree};
use super::report::{Restored, Verified};
use crate::archive::ArchiveReader;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::config::{SourceKind, is_redis_url, redact_url};
use crate::engines::docker::restore as docker;
use crate::engines::files::restore::{self as files, FilesRestoreOptions};
use crate::engines::files::survey::survey;
use crate::engines::postgres::{ConnectOptions, Scratch, verify_restored};
use crate::engines::redis;
use crate::engines::sqlite::restore as sqlite;
use crate::operations::options;
use crate::operations::snapshots::open_reader;
use crate::operations::{Session, open, places};
use crate::repository::{ManifestSource, Repository};

/// Restores a source into a scratch place.
pub(super) async fn prove(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
    options: &options::Verify,
    verified: &mut Verified,
) -> Result<Option<String>> {
    let reader = open_reader(session, repository.store(), source).await?;
    let server = |redis: bool| options.into.iter().find(|url| is_redis_url(url) == redis);
    match source.kind.as_str() {
        "sqlite" => room(sqlite_file(session, reader, source, verified).await),
        "files" | "docker" => room(trees(session, reader, source, verified).await),
        "postgres" => match server(false) {
            None => Ok(Some(
                "name a server for its scratch database with --into postgres://…; content was checked".to_owned(),
            )),
            Some(url) => database(session, reader, source, url, verified).await,
        },
        "redis" => match server(true) {
            None => Ok(Some(
                "name an empty scratch server with --into redis://…; content was checked".to_owned(),
            )),
            Some(url) => keys(session, reader, source, url, verified).await,
        },
        kind => Ok(Some(format!(
            "this version restores nothing of kind {kind} for a test; content was checked"
        ))),
    }
}

/// A spool directory without room is a reason, not damage.
fn room(restored: Result<Option<String>>) -> Result<Option<String>> {
    match restored {
        Err(error) if error.kind() == ErrorKind::LimitExceeded => Ok(Some(format!(
            "the spool directory has no room ({}); name a larger one with --spool-dir; content was checked",
            error.chain()
        ))),
        other => other,
    }
}

/// A directory that only this process uses, removed with all that is in it.
#[derive(Debug)]
struct ScratchDirectory(Option<PathBuf>);

impl ScratchDirectory {
    fn create(session: &Session) -> Result<Self> {
        let name = format!("wirevault-verify-{:016x}", rand::random::<u64>());
        let path = session.spool_dir.join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("make scratch directory \"{}\"", path.display()))?;
        Ok(Self(Some(path)))
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.clone().unwrap_or_default().join(name)
    }

    async fn remove(mut self) -> Result<()> {
        let Some(path) = self.0.take() else { return Ok(()) };
        let removed = tokio::fs::remove_dir_all(&path).await;
        removed.with_context(|| format!("remove scratch directory \"{}\"", path.display()))
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Restores trees into the spool directory and compares each with the archive once more, as a second restore would.
async fn trees(
    session: &Session,
    reader: ArchiveReader,
    source: &ManifestSource,
    verified: &mut Verified,
) -> Result<Option<String>> {
    let scratch = ScratchDirectory::create(session)?;
    let (mut entries, mut bytes, mut lost) = (0_u64, 0_u64, 0_u64);
    let trees = content::trees(&reader, source).await?;
    let whole = trees.len();
    for (number, tree) in trees.into_iter().enumerate() {
        let root = scratch.join(&format!("{number:04}"));
        let done = one_tree(session, &reader, source, &tree, root).await;
        let done = done.with_context(|| format!("restore {} into a scratch directory", tree.name))?;
        (entries, bytes, lost) = (entries + done.entries, bytes + done.bytes, lost + done.lost);
        if let Some(why) = done.why_not {
            return scratch.remove().await.map(|()| Some(format!("{}: {why}", tree.name)));
        }
    }
    scratch.remove().await?;
    if lost > 0 {
        let line = "device nodes, owners or attributes could not be made here as they were; the notes name them";
        verified.proved.skipped.push(format!("{}: {line}", source.name));
    }
    if source.kind == "docker" && !docker::contents(&reader).await?.images.is_empty() {
        verified.proved.skipped.push(format!(
            "{}: images were read and not loaded into an engine",
            source.name
        ));
    }
    verified.restored.push(Restored::Trees {
        source: source.name.clone(),
        trees: whole,
        entries,
        bytes,
    });
    Ok(None)
}

/// What became of one tree.
struct RestoredTree {
    entries: u64,
    bytes: u64,
    lost: u64,
    why_not: Option<String>,
}

async fn one_tree(
    session: &Session,
    reader: &ArchiveReader,
    source: &ManifestSource,
    tree: &Tree,
    root: PathBuf,
) -> Result<RestoredTree> {
    let mut how = FilesRestoreOptions {
        task: source.name.clone(),
        stream: tree.stream.clone(),
        prefix: tree.prefix.clone(),
        ..FilesRestoreOptions::default()
    };
    let (reporter, cancel) = (&session.reporter, &session.cancel);
    let planned = survey(reader.clone(), &root, &how, reporter.clone(), cancel.clone()).await?;
    planned.check_space(&root)?;
    let done = files::restore(reader.clone(), &root, &how, reporter.clone(), cancel.clone()).await?;
    how.clean = true;
    let again = survey(reader.clone(), &root, &how, reporter.clone(), cancel.clone()).await?;
    let differing = again.new + again.replaced;
    let why_not = match (differing, done.lost) {
        (0, _) => None,
        (_, 0) => {
            return Err(Error::corrupt(format!(
                "{differing} entries are not in the scratch directory as they are in the backup"
            )));
        }
        _ => Some(format!(
            "owners, modes or attributes of {differing} entries could not be set in the spool directory; content was checked"
        )),
    };
    Ok(RestoredTree {
        entries: done.entries,
        bytes: done.bytes,
        lost: done.lost,
        why_not,
    })
}

/// Restores a SQLite database into the spool directory, where SQLite checks all of it.
async fn sqlite_file(
    session: &Session,
    reader: ArchiveReader,
    source: &ManifestSource,
    verified: &mut Verified,
) -> Result<Option<String>> {
    let scratch = ScratchDirectory::create(session)?;
    let options = sqlite::SqliteRestoreOptions {
        task: source.name.clone(),
        full_check: true,
        ..Default::default()
    };
    let (reporter, cancel) = (session.reporter.clone(), session.cancel.clone());
    let restored = sqlite::restore(reader, &scratch.join("database.db"), &options, reporter, cancel).await;
    let removed = scratch.remove().await;
    let found = restored?.integrity;
    let named = |line: &String| format!("{}: {line}", source.name);
    verified.proved.integrity.extend(found.damaged.iter().map(named));
    let others = found
        .violated
        .iter()
        .map(|line| format!("{}: row breaks a rule: {line}", source.name));
    let unchecked = found
        .unchecked
        .iter()
        .map(|line| format!("{}: not checked: {line}", source.name));
    verified.proved.skipped.extend(others.chain(unchecked));
    removed?;
    let damaged = !found.damaged.is_empty();
    Ok(damaged.then(|| "SQLite finds damage that was there when it was stored; content was checked".to_owned()))
}

/// Reads where scratch databases are made: a URL given by a person.
fn scratch_postgres(session: &Session, url: &str) -> Result<ConnectOptions> {
    match places::given(session, url)? {
        SourceKind::Postgres(server) => open::postgres(&server),
        _ => Err(no_server(url, "PostgreSQL")),
    }
}

/// The same for keys.
fn scratch_redis(session: &Session, url: &str) -> Result<redis::RedisAddress> {
    match places::given(session, url)? {
        SourceKind::Redis(server) => open::redis(&server),
        _ => Err(no_server(url, "Redis")),
    }
}

fn no_server(url: &str, what: &str) -> Error {
    let shown = redact_url(url);
    Error::invalid(format!("\"{shown}\" is no {what} server"))
        .with_hint("Scratch servers are postgres://user@host and redis://host.")
}

/// Restores into a scratch database and compares every table.
async fn database(
    session: &Session,
    reader: ArchiveReader,
    source: &ManifestSource,
    url: &str,
    verified: &mut Verified,
) -> Result<Option<String>> {
    let report = verify_restored(Scratch {
        server: scratch_postgres(session, url)?,
        reader,
        snapshot: verified.proved.snapshot.to_string(),
        parallel: 2,
        reporter: session.reporter.clone(),
        task: source.name.clone(),
        cancel: session.cancel.clone(),
    })
    .await?;
    let refused = report
        .failed
        .iter()
        .map(|item| format!("{}: {} {}: {}", source.name, item.kind, item.name, item.error));
    verified.proved.refused.extend(refused);
    let left_out = report.left_out.iter().map(|item| {
        format!(
            "{}: {} {}: it names what the scratch server does not have: {}",
            source.name, item.kind, item.name, item.error
        )
    });
    verified.proved.skipped.extend(left_out);
    verified.restored.push(Restored::Database {
        source: source.name.clone(),
        server: redact_url(url),
        tables: report.tables,
        rows: report.rows,
        bytes: report.bytes,
        rows_verified: report.rows_verified,
        seconds: report.seconds,
    });
    Ok(refused_by_server(report.failed.len()))
}

fn refused_by_server(items: usize) -> Option<String> {
    (items > 0).then(|| format!("the scratch server refused {items} items; what it took was compared"))
}

/// Loads a scratch server and compares every key.
async fn keys(
    session: &Session,
    reader: ArchiveReader,
    source: &ManifestSource,
    url: &str,
    verified: &mut Verified,
) -> Result<Option<String>> {
    let report = redis::verify_restored(redis::RedisScratch {
        address: scratch_redis(session, url)?,
        reader,
        task: source.name.clone(),
        reporter: session.reporter.clone(),
        cancel: session.cancel.clone(),
    })
    .await?;
    let name = &source.name;
    let more = |all: u64, named: usize| {
        let more = all.saturating_sub(exact::u64_from(named));
        (more > 0).then(|| format!("{name}: and {more} keys more"))
    };
    let line = |item: &redis::FailedKey| format!("{name}: {} {}: {}", item.kind, item.name, item.error);
    verified.proved.refused.extend(report.failed.iter().map(line));
    verified
        .proved
        .refused
        .extend(more(report.failed_keys, report.failed.len()));
    verified.proved.refused.extend(report.losses.iter().map(line));
    for (why, keys) in &report.not_compared {
        verified
            .proved
            .skipped
            .push(format!("{name}: {keys} keys hold {why}, which cannot be compared"));
    }
    let differing = report.differing.iter().map(|line| format!("{name}: {line}"));
    verified.proved.damage.extend(differing);
    verified
        .proved
        .damage
        .extend(more(report.differing_keys, report.differing.len()));
    let why_not = match report.differing_keys {
        0 => refused_by_server(report.failed.len() + report.losses.len()),
        keys => Some(format!("{keys} keys differ")),
    };
    verified.restored.push(Restored::Keys {
        source: name.clone(),
        server: redact_url(url),
        compared: Box::new(report),
    });
    Ok(why_not)
}
