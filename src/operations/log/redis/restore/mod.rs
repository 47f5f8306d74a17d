//! `restore --at TIME | --offset OFFSET` of a Redis or Valkey server: a snapshot and the commands after it, as a directory that
//! a server loads by itself, or into a live server.
//!
//! Commands are never sent to a server that is a primary: it would expire keys while they come. A server that loads an append-only
//! file expires nothing until it is done, and neither does a replica: a live server is one of ours meanwhile.

mod choose;
mod cut;
mod directory;
mod marks;
mod place;
mod read;
mod server;

use std::path::PathBuf;

use jiff::Timestamp;

use crate::base::error::{Context, Error, Result, if_there};
use crate::base::units::format_bytes;
use crate::engines::redis::KIND;
use crate::engines::redis::log::aof::DIRECTORY;
use crate::engines::redis::log::position::{Position, ReplicationId, offset_of};
use crate::engines::{RestoreReport, TargetPlan};
use crate::operations::choose::{self as snapshots, Purpose};
use crate::operations::log::redis::stored::Streams;
use crate::operations::options::At;
use crate::operations::show::local_time;
use crate::operations::snapshots::open_repository;
use crate::operations::{Report, Session, Status, document_of, options};
use crate::repository::{ManifestSource, Repository, Selector, SnapshotId};
use choose::Chosen;
pub use place::MomentPlace;
use place::Target;
use server::LiveServer;

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
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct RestoredMoment {
    /// The snapshot that it begins with.
    pub snapshot: SnapshotId,
    /// The source.
    pub source: String,
    /// The data directory of the server to be, or the server.
    pub into: MomentPlace,
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
    /// Where the directory is that was there before, or what has the data of the server.
    pub previous: Option<String>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Keys that the server held before, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_keys: Option<u64>,
    /// Keys that the server holds now, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// Commands that the server refused, if it counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_commands: Option<u64>,
    /// Commands in a directory that only a node of a cluster carries out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub trims: u64,
    /// What is to be feared of the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl RestoredMoment {
    /// Says how far it comes, and of a restore what there is now, in lines that are indented.
    pub(crate) fn lines(&self) -> String {
        let mut text = String::new();
        match (self.at, self.next_at) {
            (Some(at), Some(next)) => text.push_str(&format!(
                "  all that had come of the server by {} is there; what came from then to {} is not\n",
                local_time(at),
                local_time(next)
            )),
            (Some(at), None) => text.push_str(&format!(
                "  all that had come of the server by {} is there\n",
                local_time(at)
            )),
            _ => {}
        }
        if self.dry_run {
            if let Some(keys) = self.target_keys {
                text.push_str(&format!("  the target holds {keys} keys\n"));
            }
            for warning in &self.warnings {
                text.push_str(&format!("  warning: {warning}\n"));
            }
            return text;
        }
        text.push_str(&format!(
            "  {} commands after the snapshot, {} in {} objects of the log\n",
            self.commands,
            format_bytes(self.bytes),
            self.objects
        ));
        for line in self.missing() {
            text.push_str(&format!("  {line}\n"));
        }
        let previous = self.previous.as_deref();
        match &self.into {
            MomentPlace::Directory(place) => {
                if let Some(previous) = previous {
                    text.push_str(&format!("  the previous {DIRECTORY} is kept in {previous}\n"));
                }
                text.push_str(&format!(
                    "  start a server on it: redis-server --dir {} --appendonly yes (or valkey-server); keys that have expired since are removed as it starts\n",
                    place.display()
                ));
            }
            MomentPlace::Server(_) => {
                if let Some(previous) = previous {
                    text.push_str(&format!("  the previous data is kept in {previous}\n"));
                }
                let keys = self
                    .keys
                    .map_or("an unknown number of".to_owned(), |keys| keys.to_string());
                text.push_str(&format!(
                    "  the server is a primary again and holds {keys} keys; those that have expired since go from now on\n"
                ));
            }
        }
        text
    }

    /// What of it is not there.
    fn missing(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.failed_keys > 0 {
            let keys = self.failed_keys;
            lines.push(format!(
                "{keys} keys of the snapshot are missing: their form is unknown"
            ));
        }
        if let Some(refused) = self.refused_commands.filter(|count| *count > 0) {
            lines.push(format!(
                "{refused} commands were refused by the server, whose log names them (CRITICAL): what they wrote is missing"
            ));
        }
        if self.trims > 0 {
            lines.push(
                "the node gave slots away (TRIMSLOTS): a server without --cluster-enabled yes keeps their keys"
                    .to_owned(),
            );
        }
        lines
    }

    fn head(&self) -> String {
        let (base_at, place) = (local_time(self.base_at), &self.into);
        let would = if self.dry_run { "would be restored" } else { "restored" };
        format!(
            "{} {would} into {place} from snapshot {} ({}, {base_at}) to {}\n",
            self.source, self.snapshot, self.base, self.to
        )
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl TargetPlan for RestoredMoment {
    fn text(&self) -> String {
        let from = format!("  from snapshot {} ({}) to {}\n", self.snapshot, self.base, self.to);
        from + &self.lines()
    }
}

impl RestoreReport for RestoredMoment {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn failures(&self) -> Vec<String> {
        self.missing()
    }

    fn text(&self) -> String {
        self.lines()
    }

    fn summary(&self) -> String {
        format!(
            "{} commands after snapshot {}, to {}",
            self.commands, self.snapshot, self.to
        )
    }
}

impl Report for RestoredMoment {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        self.head() + &self.lines()
    }

    fn status(&self) -> Status {
        if self.missing().is_empty() {
            Status::Done
        } else {
            Status::Partial
        }
    }
}

/// Returns whether a restore goes by a log of commands: to an offset, or to a moment where all that is restored is one source that has a
/// log. Where several sources are, [`logged`] looks.
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

/// Returns whether a repository has a log that a restore may go by, or no restore to a moment is asked for.
pub async fn is_stored_for(session: &Session, options: &options::Restore) -> Result<bool> {
    let flags: options::RestoreRedis = options.engines.of();
    if options.at.is_none() && flags.offset.is_none() {
        return Ok(true);
    }
    let repository = Box::pin(open_repository(session)).await?;
    if options.source.is_empty() {
        return session.or_cancelled(Streams::any_at_all(repository.store())).await;
    }
    for source in &options.source {
        if has_log(session, &repository, source).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the kind of such sources.
pub(crate) fn kind() -> &'static str {
    KIND.word()
}

/// Parts the sources of a restore to a moment: those that have a log come back by it, each with options of its own, into a directory below the one
/// that is given. One that would come back as of a snapshot alone, because its place is a server, is refused.
pub(crate) async fn logged<'a>(
    session: &Session,
    repository: &Repository,
    options: &options::Restore,
    selected: Vec<&'a ManifestSource>,
) -> Result<(Vec<options::Restore>, Vec<&'a ManifestSource>)> {
    let (mut logged, mut others) = (Vec::new(), Vec::new());
    let several = selected.len() > 1;
    for source in selected {
        let name = &source.name;
        let is_kind = options.at.is_some() && source.kind == KIND.word();
        if !is_kind || !has_log(session, repository, name).await? {
            others.push(source);
            continue;
        }
        let Some(into) = options.into.as_ref().filter(|into| !into.contains("://")) else {
            let message = format!(
                "source \"{name}\" has a log, and together with others it is restored to a moment into a directory alone"
            );
            return Err(Error::unsupported(message).with_hint(format!(
                "Add --into DIRECTORY, or run restore twice: with --source {name} --into DIRECTORY or redis://HOST, and \
                 with the other sources. To restore snapshots alone, leave --at out."
            )));
        };
        let directory = into.strip_prefix("file:").unwrap_or(into);
        let below = PathBuf::from(directory).join(name);
        let is_latest = matches!(Selector::parse(&options.snapshot), Selector::Latest { .. });
        logged.push(options::Restore {
            snapshot: if is_latest {
                "latest".to_owned()
            } else {
                options.snapshot.clone()
            },
            source: vec![name.clone()],
            into: Some(if several {
                below.display().to_string()
            } else {
                directory.to_owned()
            }),
            ..options.clone()
        });
    }
    Ok((logged, others))
}

/// Finds the way to a moment, and writes nothing.
pub(crate) async fn plan(session: &Session, options: &options::Restore) -> Result<RestoredMoment> {
    let dry = options::Restore {
        dry_run: true,
        ..options.clone()
    };
    run(session, &dry).await
}

/// Returns whether a source of this name has a log.
pub(crate) async fn has_log(session: &Session, repository: &Repository, source: &str) -> Result<bool> {
    session
        .or_cancelled(Streams::of(repository.store(), source).any())
        .await
}

/// Chooses the snapshot and the commands; writes beside, and gives the directory its place at the end, or brings the server there.
pub async fn run(session: &Session, options: &options::Restore) -> Result<RestoredMoment> {
    let moment = moment_of(options)?;
    let target = Target::of(session, options)?;
    let repository = open_repository(session).await?;
    let chosen = session
        .or_cancelled(choose::choose(session, &repository, options, &moment))
        .await?;
    let Chosen { base, log, cut } = &chosen;
    let last = cut.way.last().map_or(&base.position.id, |stretch| &stretch.id);
    let mut report = RestoredMoment {
        snapshot: base.id.clone(),
        source: log.streams.source.clone(),
        into: target.place()?,
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
        target_keys: None,
        keys: None,
        refused_commands: None,
        trims: 0,
        warnings: Vec::new(),
    };
    let opened = read::open(session, &repository, base, options).await?;
    let act = format!("restore source \"{}\" into \"{}\"", log.streams.source, report.into);
    match &target {
        Target::Directory(_) if options.dry_run => {}
        Target::Directory(data) => {
            let written = directory::write(session, &chosen, &opened, (data, options.clean), &mut report);
            written.await.with_context(|| act)?;
        }
        Target::Server(spec, listen) => {
            let options_and = (options, *listen);
            let server = LiveServer::inspect(session, spec, &opened, options_and, &mut report).await?;
            if !options.dry_run {
                let restored = server.restore(session, &chosen, &opened, options, &mut report);
                Box::pin(restored).await.with_context(|| act)?;
            }
        }
    }
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
