//! What a backup knows before it reads rows: the snapshot, the graph of the schema, and all of its SQL, written.
//!
//! Definitions are printed by the server from its newest catalogs, not from the snapshot's. Locked tables stand still; views,
//! functions, types, sequences and schemas do not: one that is dropped or renamed at this moment is not found. Nothing that was
//! read until then counts, and the backup begins again with a new snapshot.

use std::time::Duration;

use tokio_postgres::Client;

use super::catalog_moves::moved;
use super::exclusion::Exclusion;
use super::snapshot::{Leader, blockers};
use crate::archive::ArchiveWriter;
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::base::report::Note;
use crate::engines::Notes;
use crate::engines::postgres::schema;
use crate::engines::postgres::schema::Section;
use crate::engines::postgres::session::client::open_reading_client;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::sessions::{TOO_MANY, open_within};
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::settings::Session;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::stored::copy_table::CopyTable;
use crate::engines::postgres::stored::large_objects;
use crate::engines::postgres::stored::streams::{
    LARGE_OBJECTS, POST_DATA, PRE_DATA, SEQUENCES, STATISTICS, SqlStreams,
};
use crate::engines::postgres::stored::table_stream::TextResult;
use crate::engines::postgres::wire::server_error::sqlstate;

/// How often locks are waited for; each time for as long as the leader's `lock_timeout`.
const WAITS: u32 = 5;

/// How often a backup begins because the schema was changed at its first moment.
const BEGINNINGS: u32 = 10;

/// Time from one beginning to the next.
const PAUSE: Duration = Duration::from_millis(250);

/// A snapshot whose definitions are written.
#[derive(Debug)]
pub(crate) struct Defined {
    pub(crate) leader: Leader,
    /// What is to be read; large objects last.
    pub(crate) tables: Vec<CopyTable>,
    pub(crate) sql: Vec<TextResult>,
    /// What is not in the backup.
    pub(crate) lacks: Vec<Note>,
}

impl Defined {
    /// Takes a snapshot and writes its definitions; names whoever blocks, and begins again when the schema moves.
    pub(crate) async fn new(
        options: &ConnectOptions,
        writer: &ArchiveWriter,
        (parallel, passwords): (usize, bool),
        exclusion: &Exclusion,
        notes: &Notes,
    ) -> Result<Self> {
        let (mut waits, mut beginnings) = (0, 0);
        loop {
            let attempt = waits + beginnings + 1;
            let last = beginnings + 1 == BEGINNINGS;
            let (error, moved) = match begin(options, writer, (parallel, passwords), exclusion, (attempt, last)).await {
                Ok(Some((defined, found))) => {
                    for note in found {
                        notes.add(note);
                    }
                    return Ok(defined);
                }
                Ok(None) => {
                    let text = "the schema was changed while it was read";
                    (Error::new(ErrorKind::Unavailable, text), true)
                }
                Err(error) => {
                    let moved = is_of_the_moment(&error);
                    (error, moved)
                }
            };
            if sqlstate(&error) == Some("55P03") {
                waits += 1;
                let blockers = blockers(options).await.unwrap_or_default();
                let text = format!("tables are locked by {blockers}; trying again");
                notes.add(Note::new("waiting", &options.database, text));
            } else if moved {
                beginnings += 1;
                tracing::info!(
                    "the schema was changed meanwhile, so the backup starts over: {}",
                    error.chain()
                );
            } else {
                return Err(error.context("open a snapshot"));
            }
            if waits == WAITS || beginnings == BEGINNINGS {
                let error = error.context("open a snapshot");
                if waits == WAITS {
                    return Err(error);
                }
                return Err(error.with_hint_instead(format!(
                    "The schema was changed during each of {beginnings} attempts; run the backup when there are fewer \
                     changes."
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Makes one attempt; returns the notes that belong to it, too. None, if a table moved, or a definition and it is not the last one.
async fn begin(
    options: &ConnectOptions,
    writer: &ArchiveWriter,
    (parallel, passwords): (usize, bool),
    exclusion: &Exclusion,
    (attempt, last): (u32, bool),
) -> Result<Option<(Defined, Vec<Note>)>> {
    let client = open_reading_client(options).await?;
    let mut scout = scout(options).await?;
    let Some(leader) = Leader::open(client, scout.as_mut(), exclusion).await? else {
        return Ok(None);
    };
    let mut notes = leader.graph.notes().to_vec();
    notes.extend(leader.unmatched.iter().cloned());
    notes.extend(leader.unpinned().await?);
    let objects = if exclusion.large_objects {
        None
    } else {
        let read = large_objects::Plan::read(&leader.client, &mut notes).await;
        read.context("look for large objects")?
    };
    let helpers = leader.helpers(options, parallel).await;
    let (sql, mut lacks) = write_sql(
        passwords,
        &leader,
        &helpers,
        SqlStreams::new(writer.clone(), attempt),
        objects.as_ref(),
    )
    .await?;
    drop(helpers);
    let readable_only = objects.as_ref().is_some_and(|plan| plan.readable_only);
    let census = leader.graph.census(&leader.client, readable_only).await;
    census.context("compare the backup with the catalogs")?;
    lacks.extend(leader.graph.take_findings());
    notes.extend(lacks.iter().cloned());
    let mut tables = CopyTable::all(&leader.client, leader.graph.tables()).await?;
    tables.extend(objects.map(large_objects::Plan::table));
    // A definition that was replaced meanwhile was printed as it is now, beside others as they were.
    let moved = match &mut scout {
        Some(scout) => moved(&leader.client, scout, false).await?,
        None => Vec::new(),
    };
    if let Some(scout) = scout {
        scout.close().await;
    }
    if !moved.is_empty() && !last {
        return Ok(None);
    }
    if !moved.is_empty() {
        // Where that never ends, a backup with a warning is worth more than none.
        let text = format!(
            "rows of {} were changed while they were read, in each of {BEGINNINGS} attempts: definitions may be \
             inconsistent",
            moved.join(", ")
        );
        notes.push(Note::new("changed-definitions", &options.database, text));
    }
    let defined = Defined {
        leader,
        tables,
        sql,
        lacks,
    };
    Ok(Some((defined, notes)))
}

/// Opens a session beside the leader's; none where the server has room for one only.
async fn scout(options: &ConnectOptions) -> Result<Option<Connection>> {
    match open_within(options, PAUSE).await {
        Ok(mut connection) => {
            settings::set(&mut connection, Session::Reading, &options.context)
                .await
                .context("set up the session")?;
            Ok(Some(connection))
        }
        Err(error) if sqlstate(&error) == Some(TOO_MANY) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether an error may come from an object that was changed while it was read.
fn is_of_the_moment(error: &Error) -> bool {
    match sqlstate(error) {
        // XX000 is how a definition function fails on an object that is gone; 40P01 is a deadlock, of which we were the one to end.
        Some(code) => matches!(
            code,
            "XX000" | "40P01" | "42P01" | "42703" | "42704" | "42809" | "42883" | "3F000"
        ),
        None => printed_nothing(error),
    }
}

/// Returns whether a definition was NULL: that of an object that is gone is.
fn printed_nothing(error: &Error) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if cause.is::<tokio_postgres::types::WasNull>() {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Writes all SQL before the data: definitions are read from the current catalogs, so the sooner the better. Returns what was
/// written, and what could not be seen.
async fn write_sql(
    passwords: bool,
    leader: &Leader,
    helpers: &[Client],
    mut streams: SqlStreams,
    objects: Option<&large_objects::Plan>,
) -> Result<(Vec<TextResult>, Vec<Note>)> {
    let mut hidden = schema::write_globals(&leader.client, passwords, &mut streams)
        .await
        .context("read roles and settings of the server")?;
    for (name, section) in [
        (PRE_DATA, Section::PreData),
        (SEQUENCES, Section::Data),
        (LARGE_OBJECTS, Section::Data),
        (POST_DATA, Section::PostData),
    ] {
        if name == LARGE_OBJECTS {
            let Some(plan) = objects else { continue };
            streams.next_stream(name).await?;
            schema::write_large_objects(&leader.graph, &leader.client, plan.readable_only, &mut streams)
                .await
                .context("write large objects")?;
            continue;
        }
        streams.next_stream(name).await?;
        leader
            .graph
            .write(&leader.client, helpers, section, &mut streams)
            .await
            .with_context(|| format!("write {name}"))?;
    }
    if let Some(plan) = objects {
        schema::write_large_object_rights(&leader.graph, &leader.client, plan.readable_only, &mut streams)
            .await
            .context("write rights of large objects")?;
    }
    streams.next_stream(STATISTICS).await?;
    schema::write_statistics(&leader.graph, &leader.client, &mut streams)
        .await
        .context("write planner statistics")?;
    hidden.extend(streams.take_refused());
    Ok((streams.finish().await?, hidden))
}
