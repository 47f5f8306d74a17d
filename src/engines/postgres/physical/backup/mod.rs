//! Takes a base backup: a slot that keeps WAL, `BASE_BACKUP`, and its streams into one archive.

mod announced;
mod passing;
mod receive;
pub(super) mod server;
mod spooled;
mod wal_files;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::runtime::Handle;

use crate::archive::SequentialWriter;
use crate::base::blocking::blocking;
use crate::base::cancel::or_cancelled;
use crate::base::error::{Context, Error, Result};
use crate::base::keys::Word;
use crate::base::report::Note;
use crate::engines::postgres::physical::check::check;
use crate::engines::postgres::physical::stored::facts::BaseFacts;
use crate::engines::postgres::physical::{Checkpoint, ManifestChecksums, PhysicalSpec};
use crate::engines::postgres::session::replication::Replication;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::wire::server_error::sqlstate;
use crate::engines::{BackupContext, Finding, Notes, Source, SourceOutcome};
use receive::{Received, Receiver, Work};
use server::ServerFacts;

/// A cluster that is read as a whole.
#[derive(Debug)]
pub(super) struct PhysicalSource {
    replication: ConnectOptions,
    sql: ConnectOptions,
    checkpoint: Checkpoint,
    checksums: ManifestChecksums,
}

impl PhysicalSource {
    /// Finds out how to log in; nothing is connected yet.
    pub(super) fn new(spec: &PhysicalSpec) -> Result<Self> {
        Ok(Self {
            replication: spec.connect_options()?,
            sql: spec.sql_options()?,
            checkpoint: spec.checkpoint,
            checksums: spec.manifest_checksums,
        })
    }

    /// Returns the options of `BASE_BACKUP`.
    ///
    /// WAL comes with it, so the archive alone is enough, and whether the server's own archiving works is not waited for. The server verifies pages:
    /// it alone can read again what was torn by a write.
    fn command(&self, rate: Option<u64>) -> String {
        let mut options = format!(
            "LABEL 'wirevault', PROGRESS, CHECKPOINT '{}', WAL, WAIT false, TABLESPACE_MAP, MANIFEST 'yes', MANIFEST_CHECKSUMS '{}'",
            self.checkpoint.word(),
            self.checksums.manifest_word()
        );
        if let Some(rate) = rate {
            // In KiB per second, within what the server takes.
            options.push_str(&format!(", MAX_RATE {}", (rate >> 10).clamp(32, 1 << 20)));
        }
        options
    }
}

#[async_trait]
impl Source for PhysicalSource {
    fn location(&self) -> String {
        self.replication.location()
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        check(&self.replication, &self.sql).await
    }

    async fn backup(&self, context: BackupContext) -> Result<SourceOutcome> {
        let mut session = Replication::open(&self.replication).await?;
        let server = ServerFacts::ask(&mut session).await?;
        server.refuse_old()?;
        let notes = Arc::new(Notes::new(context.name.clone(), context.reporter.clone()));
        keep_wal(&mut session, &notes).await?;
        let command = self.command(context.writer.rate_limit());
        let work = Work {
            task: context.name,
            server,
            algorithm: self.checksums,
            limit_bytes: context.pipeline.plan.limit_bytes,
            spool_dir: context.spool_dir,
            notes: Arc::clone(&notes),
            reporter: context.reporter,
            cancel: context.cancel,
            runtime: Handle::current(),
        };
        let mut writer = context.writer.into_sequential();
        let (session, writer, facts, received) = blocking(move || {
            let received = take(&mut session, &command, work, &mut writer)?;
            let facts = received.facts.clone();
            writer.finish_stream(facts.record(received.bytes)?)?;
            Ok((session, writer, facts, received))
        })
        .await
        .context("take a base backup")?;
        session.close().await;
        Ok(SourceOutcome {
            versions: BTreeMap::from([("postgres".to_owned(), facts.server_version.clone())]),
            position: position(&facts),
            consistent_at: received.ended_at,
            raw_bytes: received.bytes,
            items: received.files,
            note_counts: notes.counts(),
            archives: writer.finish().await?,
        })
    }
}

fn position(facts: &BaseFacts) -> BTreeMap<String, String> {
    let spaces: Vec<String> = facts.tablespaces.iter().map(|one| one.oid.to_string()).collect();
    let mut position = BTreeMap::from([
        ("system_identifier".to_owned(), facts.system_identifier.to_string()),
        ("timeline".to_owned(), facts.end_timeline.to_string()),
        ("start_lsn".to_owned(), facts.start_lsn.to_string()),
        ("end_lsn".to_owned(), facts.end_lsn.to_string()),
        ("wal_segment_bytes".to_owned(), facts.wal_segment_bytes.to_string()),
        ("data_checksums".to_owned(), facts.data_checksums.to_string()),
    ]);
    if !spaces.is_empty() {
        position.insert("tablespaces".to_owned(), spaces.join(" "));
    }
    position
}

/// SQLSTATE of a server whose slots are all in use, or that has none.
const NO_SLOT_LEFT: &str = "53400";
/// SQLSTATEs of a server that may have no slots, and of a role that may make none.
const NO_SLOTS: [&str; 3] = ["55000", "0A000", "42501"];

/// Keeps the WAL of the server by a slot that ends with the session. It is one session with the backup: a second one would take
/// another WAL sender, and could end alone.
async fn keep_wal(session: &mut Replication, notes: &Notes) -> Result<()> {
    let Err(error) = session.keep_wal("base").await else {
        return Ok(());
    };
    let state = sqlstate(&error).unwrap_or_default().to_owned();
    let has_none = match state.as_str() {
        NO_SLOT_LEFT => session.show("max_replication_slots").await? == "0",
        state => NO_SLOTS.contains(&state),
    };
    let error = error.context("make a temporary replication slot, which keeps the WAL of the backup");
    if has_none {
        let message = "no slot keeps its WAL, and the backup fails if the server removes some of it meanwhile";
        notes.add(Note::new(
            "wal-not-kept",
            "replication slot",
            format!("{message}: {}", error.chain()),
        ));
        return Ok(());
    }
    if state == NO_SLOT_LEFT {
        return Err(error.with_hint_instead(
            "Drop a replication slot that nobody uses (pg_replication_slots), or raise max_replication_slots.",
        ));
    }
    Err(error)
}

/// Runs `BASE_BACKUP` from a blocking thread, and stores what comes.
fn take(session: &mut Replication, command: &str, work: Work, writer: &mut SequentialWriter) -> Result<Received> {
    let (runtime, cancel) = (work.runtime.clone(), work.cancel.clone());
    let (notes, reporter, task) = (Arc::clone(&work.notes), work.reporter.clone(), work.task.clone());
    reporter.phase(&task, "checkpoint");
    let (rows, mut copy) = runtime.block_on(or_cancelled(&cancel, session.base_backup(command)))?;
    let mut receiver = Receiver::new(work, &rows, writer)?;
    reporter.phase(&task, "data");
    while let Some(piece) = runtime.block_on(or_cancelled(&cancel, copy.next()))? {
        receiver.take(&piece)?;
    }
    let warnings = copy.take_notices();
    drop(copy);
    let (rows, failure) = runtime.block_on(or_cancelled(&cancel, session.end_of_backup()))?;
    for warning in warnings {
        notes.add(Note::new("server-warning", "server", warning.message));
    }
    match failure {
        // All of it came by then.
        Some(error) if is_damage(&error) && !rows.is_empty() => receiver.is_damaged(&error),
        Some(error) => return Err(error),
        None => {}
    }
    receiver.finish(&rows)
}

/// SQLSTATE of data that are damaged: here, of pages with a wrong checksum.
fn is_damage(error: &Error) -> bool {
    sqlstate(error) == Some("XX001")
}
