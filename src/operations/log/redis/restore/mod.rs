//! `restore --at TIME | --offset OFFSET` of a Redis or Valkey server: a snapshot and the commands after it, as a directory that
//! a server loads by itself.
//!
//! Commands are never sent to a server that is a primary: it would expire keys while they come. A server that loads an append-only
//! file expires nothing until it is done.

mod choose;
mod cut;
mod marks;
mod write;

use std::path::PathBuf;

use jiff::Timestamp;

use crate::base::error::{Context, Error, Result, if_there};
use crate::base::units::format_bytes;
use crate::engines::redis::KIND;
use crate::engines::redis::log::aof::{self, DIRECTORY};
use crate::engines::redis::log::position::{Position, ReplicationId, offset_of};
use crate::operations::choose::{self as snapshots, Purpose};
use crate::operations::log::redis::stored::Streams;
use crate::operations::options::At;
use crate::operations::show::local_time;
use crate::operations::snapshots::open_repository;
use crate::operations::{Report, Session, Status, document_of, options};
use crate::repository::{ManifestSource, Repository, SnapshotId};
use choose::Chosen;

/// The moment that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Moment {
    /// All that is stored.
    Latest,
    /// All that had come by then, by the receiver's clock.
    At(Timestamp),
    /// The commands before an offset, of a history that is named or of the newest.
    Offset(Option<ReplicationId>, u64),
}

/// What a restore to a moment did. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct RestoredMoment {
    /// The snapshot that it begins with.
    pub snapshot: SnapshotId,
    /// The source.
    pub source: String,
    /// The data directory of the server to be.
    pub into: PathBuf,
    /// Where the snapshot lies, as ID:OFFSET.
    pub base: String,
    /// When the snapshot was taken.
    pub base_at: Timestamp,
    /// Behind the last command that is restored, as ID:OFFSET; with `--dry-run` where the log is cut at the latest.
    pub to: String,
    /// The time mark that the restore goes up to: all that had come by then is there.
    pub at: Option<Timestamp>,
    /// The next time mark: what came between the two is not there.
    pub next_at: Option<Timestamp>,
    /// Objects of the log that were read.
    pub objects: u64,
    /// Commands after the snapshot.
    pub commands: u64,
    /// Bytes of snapshot and commands.
    pub bytes: u64,
    /// Keys of the snapshot that are in no file, because their form is unknown.
    pub failed_keys: u64,
    /// Where the directory is that was there before.
    pub previous: Option<PathBuf>,
    /// Whether nothing was written.
    pub dry_run: bool,
}

impl Report for RestoredMoment {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        let (base_at, place) = (local_time(self.base_at), self.into.display());
        let would = if self.dry_run { "would be restored" } else { "restored" };
        let mut text = format!(
            "{} {would} into {place} from snapshot {} ({}, {base_at}) to {}\n",
            self.source, self.snapshot, self.base, self.to
        );
        match (self.at, self.next_at) {
            (Some(at), Some(next)) => text.push_str(&format!(
                "  all that the server sent by {} is there; what it sent from then to {} is not\n",
                local_time(at),
                local_time(next)
            )),
            (Some(at), None) => text.push_str(&format!("  all that the server sent by {} is there\n", local_time(at))),
            _ => {}
        }
        if self.dry_run {
            return text;
        }
        text.push_str(&format!(
            "  {} commands after the snapshot, {} in {} objects of the log\n",
            self.commands,
            format_bytes(self.bytes),
            self.objects
        ));
        if let Some(previous) = &self.previous {
            text.push_str(&format!(
                "  the previous {DIRECTORY} is kept in {}\n",
                previous.display()
            ));
        }
        if self.failed_keys > 0 {
            text.push_str(&format!(
                "  {} keys of the snapshot are missing: their form is unknown\n",
                self.failed_keys
            ));
        }
        text.push_str(&format!(
            "  start a server on it: redis-server --dir {place} --appendonly yes (or valkey-server); keys that have expired since are removed as it starts\n"
        ));
        text
    }

    fn status(&self) -> Status {
        if self.failed_keys > 0 {
            Status::Partial
        } else {
            Status::Done
        }
    }
}

/// Returns whether a restore goes by a log of commands: to an offset, or to a moment where all that is restored is one source that has a
/// log. Where several sources are, [`refuse_snapshot_alone`] looks.
pub async fn is_meant(session: &Session, options: &options::Restore) -> Result<bool> {
    let flags: options::RestoreRedis = options.engines.of();
    if flags.offset.is_some() {
        return Ok(true);
    }
    if options.at.is_none() || options.source.len() > 1 {
        return Ok(false);
    }
    let repository = Box::pin(open_repository(session)).await?;
    let store = repository.store();
    if let [source] = options.source.as_slice() {
        return session.or_cancelled(Streams::of(store, source).any()).await;
    }
    if !session.or_cancelled(Streams::any_at_all(store)).await? {
        return Ok(false);
    }
    // All sources of a snapshot are meant, of the newest: what it holds is what the others hold.
    let name = &options.snapshot;
    let chosen = Box::pin(snapshots::snapshot(session, &repository, name, &[], Purpose::Read)).await;
    let Some(chosen) = if_there(chosen)? else {
        return Ok(false);
    };
    match chosen.manifest.sources.as_slice() {
        [only] if only.kind == KIND.word() => session.or_cancelled(Streams::of(store, &only.name).any()).await,
        _ => Ok(false),
    }
}

/// Refuses a restore to a moment that would bring a source that has a log back as of a snapshot alone.
pub(crate) async fn refuse_snapshot_alone(
    session: &Session,
    repository: &Repository,
    options: &options::Restore,
    selected: &[&ManifestSource],
) -> Result<()> {
    if options.at.is_none() {
        return Ok(());
    }
    for source in selected.iter().filter(|source| source.kind == KIND.word()) {
        let name = &source.name;
        let streams = Streams::of(repository.store(), name);
        if session.or_cancelled(streams.any()).await? {
            let message = format!("source \"{name}\" has a log, and is restored to a moment alone");
            return Err(Error::unsupported(message).with_hint(format!(
                "Run restore twice: with --source {name} --into DIRECTORY, and with the other sources. To restore snapshots alone, leave --at out."
            )));
        }
    }
    Ok(())
}

/// Chooses the snapshot and the commands; writes beside, and gives the directory its place at the end.
pub async fn run(session: &Session, options: &options::Restore) -> Result<RestoredMoment> {
    let moment = moment_of(options)?;
    let data = directory_of(options)?;
    let repository = open_repository(session).await?;
    let chosen = session
        .or_cancelled(choose::choose(session, &repository, options, &moment))
        .await?;
    let Chosen { base, log, cut } = &chosen;
    let last = cut.way.last().map_or(&base.position.id, |stretch| &stretch.id);
    let mut report = RestoredMoment {
        snapshot: base.id.clone(),
        source: log.streams.source.clone(),
        into: data.clone(),
        base: base.position.to_string(),
        base_at: base.at,
        to: format!("{last}:{}", cut.offset),
        at: cut.marks.0.map(|mark| mark.at),
        next_at: cut.marks.1.map(|mark| mark.at),
        objects: 0,
        commands: 0,
        bytes: 0,
        failed_keys: 0,
        previous: None,
        dry_run: options.dry_run,
    };
    if options.dry_run {
        return Ok(report);
    }
    let act = || format!("restore source \"{}\" into \"{}\"", log.streams.source, data.display());
    let written = write::write(session, &repository, &chosen, (&data, options.clean), &mut report).await;
    written.with_context(act)?;
    Ok(report)
}

fn moment_of(options: &options::Restore) -> Result<Moment> {
    let flags: options::RestoreRedis = options.engines.of();
    if options.resume || options.undo {
        return Err(Error::invalid("a restore to a moment cannot be resumed or undone")
            .with_hint("It gives its directory the name at the end alone: run it again."));
    }
    if !flags.key.is_empty() || flags.users || flags.conflict.is_some() {
        return Err(
            Error::invalid("a restore to a moment is that of a whole server").with_hint(
                "Leave --key, --users and --conflict out; restore keys from a server that runs on the directory.",
            ),
        );
    }
    match (options.at, &flags.offset) {
        (Some(_), Some(_)) => {
            Err(Error::invalid("--at and --offset exclude each other").with_hint("Give one of them."))
        }
        (Some(At::Latest), None) => Ok(Moment::Latest),
        (Some(At::Moment(at)), None) => Ok(Moment::At(at)),
        (None, Some(text)) => {
            let parsed = match text.split_once(':') {
                None => offset_of(text).map(|offset| Moment::Offset(None, offset)),
                Some(_) => text
                    .parse()
                    .map(|position: Position| Moment::Offset(Some(position.id), position.offset)),
            };
            parsed.map_err(|error| {
                Error::invalid(format!("invalid --offset: {}", error.chain()))
                    .with_hint("Write OFFSET, or REPLICATION_ID:OFFSET.")
            })
        }
        (None, None) => Err(Error::invalid("no moment is given").with_hint("Give --at or --offset.")),
    }
}

/// Returns the data directory of the server to be.
fn directory_of(options: &options::Restore) -> Result<PathBuf> {
    let hint = "Give the data directory of a stopped server, or an empty one: --into DIRECTORY.";
    let Some(into) = &options.into else {
        return Err(Error::invalid("a restore to a moment makes a data directory, and none is given").with_hint(hint));
    };
    if into.contains("://") {
        return Err(Error::unsupported(
            "commands are not sent to a server that runs: it would expire keys while they come",
        )
        .with_hint(hint));
    }
    let data = PathBuf::from(into.strip_prefix("file:").unwrap_or(into));
    let place = data.join(DIRECTORY);
    if place.symlink_metadata().is_ok() && !options.clean {
        return Err(aof::exists(&place));
    }
    Ok(data)
}
