//! Verification by a whole restore: into a scratch database of its own, compared row by row, dropped afterwards.
//!
//! Only a database that is named `wv_verify_…` and carries our comment is ever dropped. The comment is put on it in the
//! moment it is made, before anything else is.

pub(super) mod scratch;

use tokio_util::sync::CancellationToken;

use super::restore::{PostgresRestore, RestoreOptions, RestoreReport};
use crate::archive::ArchiveReader;
use crate::base::error::{Context as _, Error, Result};
use crate::base::report::{Note, SharedReporter};
use crate::engines::postgres::restore::plan::LEAVE_TIMEOUT;
use crate::engines::postgres::restore::swap::{drop_database, drop_subscriptions};
use crate::engines::postgres::session::maintenance::open_admin;
use crate::engines::postgres::session::marks;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::quote::{literal, quote_ident};
use crate::engines::postgres::sql::template::with_names;
use crate::engines::postgres::wire::server_error::sqlstate;

const LEFT_SCRATCH: &str = include_str!("verify/sql/scratch_databases.sql");

/// Beginning of the name of every scratch database.
const PREFIX: &str = "wv_verify_";

/// Beginning of its comment.
const COMMENT: &str = "wirevault verification of ";

/// A verification: what is restored, and on which server.
#[derive(Debug)]
pub struct Scratch {
    /// Server; the database that the options name is not touched.
    pub server: ConnectOptions,
    /// The backup.
    pub reader: ArchiveReader,
    /// Snapshot's id, for the comment.
    pub snapshot: String,
    /// Connections.
    pub parallel: usize,
    /// Who hears of it.
    pub reporter: SharedReporter,
    /// Name in reports.
    pub task: String,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// Restores into a scratch database of a server, compares counts and digests of every table, and drops it again.
///
/// An error of kind `Corrupt` is damage of the backup; statements that the server refused are in the report.
pub async fn verify_restored(scratch: Scratch) -> Result<RestoreReport> {
    let name = format!("{PREFIX}{:016x}", rand::random::<u64>());
    let (server, reporter, task) = (scratch.server, scratch.reporter, scratch.task);
    for note in drop_left(&server).await? {
        reporter.note(&task, note);
    }
    let restore = PostgresRestore {
        target: server.with_database(&name),
        reader: scratch.reader,
        options: RestoreOptions {
            parallel: scratch.parallel,
            verify_rows: true,
            // A scratch server need not know the roles; whose an object is was read with the definitions.
            no_owner: true,
            no_privileges: true,
            comment: Some(format!("{COMMENT}{}", scratch.snapshot)),
            ..RestoreOptions::default()
        },
        reporter: reporter.clone(),
        task: task.clone(),
        cancel: scratch.cancel,
    };
    let done = Box::pin(restore.run()).await;
    let dropped = drop_scratch(&server, &name).await;
    if let Err(error) = &dropped {
        let text = format!("could not be dropped: {}", error.chain());
        reporter.note(&task, Note::new("left-behind", &name, text));
    }
    let report = done?;
    dropped.map(|()| report)
}

/// Drops what verifications that were killed have left on the server; says what.
async fn drop_left(server: &ConnectOptions) -> Result<Vec<Note>> {
    let mut admin = open_admin(&server.with_database("")).await?;
    let sql = with_names(
        LEFT_SCRATCH,
        &[("prefix", &literal(PREFIX)), ("comment", &literal(COMMENT))],
    );
    let found = admin.query(&sql).await.context("look for scratch databases")?;
    let mut notes = Vec::new();
    for row in found.named() {
        let (oid, name) = (row.number("oid")?.unwrap_or(0), row.text("name")?);
        if marks::is_in_use(&mut admin, oid).await? {
            continue;
        }
        notes.push(match drop_database(&mut admin, server, name, LEAVE_TIMEOUT).await {
            Ok(()) => Note::new(
                "removed",
                name,
                "left over from an interrupted verification: it was dropped",
            ),
            Err(error) => Note::new(
                "left-behind",
                name,
                format!("left over from an interrupted verification: {}", error.chain()),
            ),
        });
    }
    admin.close().await;
    Ok(notes)
}

/// Drops a scratch database; none is no error. Anything but a scratch database of ours is refused.
async fn drop_scratch(server: &ConnectOptions, name: &str) -> Result<()> {
    let mut admin = open_admin(&server.with_database(name)).await?;
    let sql = format!(
        "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = {}",
        literal(name)
    );
    let found = admin.query(&sql).await.context("look for the scratch database")?;
    if found.rows.is_empty() {
        admin.close().await;
        return Ok(());
    }
    let ours = found.scalar().is_some_and(|comment| comment.starts_with(COMMENT));
    if !ours || !name.starts_with(PREFIX) {
        return Err(Error::invalid(format!(
            "database \"{name}\" is not a scratch database of a verification: it is not dropped"
        )));
    }
    // A subscription would keep the database.
    if let Err(error) = drop_subscriptions(&server.with_database(name)).await {
        tracing::debug!("subscriptions of \"{name}\": {}", error.chain());
    }
    let deadline = tokio::time::Instant::now() + LEAVE_TIMEOUT;
    loop {
        match admin.execute(&format!("DROP DATABASE {}", quote_ident(name))).await {
            Ok(()) => break,
            // Our own sessions are still leaving.
            Err(error) if sqlstate(&error) == Some("55006") && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.context(format!("drop scratch database \"{name}\""))),
        }
    }
    admin.close().await;
    Ok(())
}
