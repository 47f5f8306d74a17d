//! The `postgres` source: one snapshot, its schema as SQL, its tables as COPY data.

pub(crate) mod catalog_moves;
pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod definitions;
pub mod exclusion;
pub(crate) mod lock_watch;
pub(crate) mod script;
pub(crate) mod snapshot;
pub(crate) mod table_locks;
pub(crate) mod tables;

use crate::engines::postgres::stored::FACTS;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use self::catalog_moves::moved;
use self::definitions::Defined;
use self::exclusion::Exclusion;
use self::snapshot::{Leader, ServerFacts};
use self::tables::{TableReaders, TableResult, read_all};
use crate::archive::{ArchiveWriter, EntryMeta, StreamRecord};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::raw_text::to_bytes;
use crate::base::report::Note;
use crate::engines::postgres::session::pooler;
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::settings::Session;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::stored::copy_table::CopyTable;
use crate::engines::postgres::stored::table_stream::TextResult;
use crate::engines::{BackupContext, Finding, Notes, Source, SourceOutcome};

/// Notes of what is missing that a backup keeps, at most.
const MAX_LACKS: usize = 100;

/// A PostgreSQL database to back up.
#[derive(Debug, Clone)]
pub struct PostgresSource {
    options: ConnectOptions,
    max_block: Option<Duration>,
    no_role_passwords: bool,
    exclusion: Exclusion,
}

impl PostgresSource {
    /// Makes a source of a database.
    pub fn new(options: ConnectOptions) -> Self {
        Self {
            options,
            max_block: None,
            no_role_passwords: false,
            exclusion: Exclusion::default(),
        }
    }

    /// Ends a backup behind which a statement has waited for longer than this.
    #[must_use]
    pub fn with_max_block(mut self, max_block: Option<Duration>) -> Self {
        self.max_block = max_block;
        self
    }

    /// Leaves out the passwords of roles, and does not miss them.
    #[must_use]
    pub fn without_role_passwords(mut self, without: bool) -> Self {
        self.no_role_passwords = without;
        self
    }

    /// Leaves out what the patterns name, and what cannot be made without it.
    #[must_use]
    pub fn without(mut self, exclusion: Exclusion) -> Self {
        self.exclusion = exclusion;
        self
    }

    async fn run(&self, context: BackupContext) -> Result<SourceOutcome> {
        let BackupContext {
            name,
            writer,
            reporter,
            cancel,
            parallel,
            ..
        } = context;
        let notes = Arc::new(Notes::new(&name, Arc::clone(&reporter)));
        reporter.phase(&name, "schema");
        let lent = pooler::refuse(&self.options).await?;
        let parallel = lent.map_or(parallel, |lent| parallel.min(lent));
        let passwords = !self.no_role_passwords;
        let defined = Defined::new(&self.options, &writer, (parallel, passwords), &self.exclusion, &notes).await?;
        let Defined {
            leader,
            tables,
            sql,
            mut lacks,
        } = defined;
        // Whoever restores must hear of it as well, and the manifest has only its count.
        let lacking = |note: &&Note| ["not-covered", "unlogged-on-standby"].contains(&note.code.as_str());
        lacks.extend(leader.graph.notes().iter().filter(lacking).cloned());
        lacks.truncate(MAX_LACKS);
        let facts = ServerFacts {
            lacks,
            ..leader.facts.clone()
        };
        writer.finish_stream(facts_record(&facts)?).await?;

        reporter.phase(&name, "data");
        reporter.begin(&name, Some(tables.iter().map(CopyTable::bytes).sum()));
        let room = leader.room().await?;
        let parallel = room.map_or(parallel, |room| parallel.min(room.max(1)));
        let (facts, graph_tables) = (leader.facts.clone(), leader.graph.tables().len());
        // Without a session to spare the leader's own reads the tables.
        let (leader, only) = if room == Some(0) {
            (None, Some(leader.part().await?.0))
        } else {
            (Some(leader), None)
        };
        let readers = Arc::new(TableReaders {
            options: self.options.clone(),
            facts: facts.clone(),
            only: Mutex::new(only),
            writer: writer.clone(),
            reporter: Arc::clone(&reporter),
            task: name.clone(),
            notes: Arc::clone(&notes),
            cancel,
        });
        let watch = lock_watch::watch(&self.options, facts.process_id, self.max_block, &notes);
        let read = async {
            let reading = read_all(&readers, &tables, parallel).await?;
            let leader = match leader {
                Some(leader) if reading.is_held_up() => {
                    let (connection, rest) = leader.part().await?;
                    let connection = reading.read_rest(&readers, connection).await?;
                    Some(Leader::join(connection, rest, &self.options).await?)
                }
                leader => leader,
            };
            Ok::<_, Error>((reading.results()?, leader))
        };
        let (results, leader) = tokio::select! {
            biased;
            read = read => read?,
            waited = watch => return Err(waited),
        };
        drop(readers);
        // The snapshot was needed until here.
        if let Some(leader) = leader {
            warn_of_moves(&leader, &self.options, &notes).await?;
            leader.end().await?;
        }

        reporter.phase(&name, "finish");
        write_scripts(&writer, &tables, &results, &sql, &facts).await?;
        let archives = writer.finish().await?;
        let table_bytes: u64 = results.iter().flat_map(|t| &t.parts).map(|p| p.bytes).sum();
        Ok(SourceOutcome {
            versions: BTreeMap::from([("postgresql".to_owned(), facts.version.clone())]),
            position: BTreeMap::from([("wal_lsn".to_owned(), facts.wal_lsn.clone())]),
            consistent_at: facts.consistent_at(),
            raw_bytes: table_bytes + sql.iter().map(|s| s.bytes).sum::<u64>(),
            items: exact::u64_from(graph_tables),
            note_counts: notes.counts(),
            archives,
        })
    }
}

#[async_trait]
impl Source for PostgresSource {
    fn location(&self) -> String {
        self.options.location()
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        check::check(&self.options, &self.exclusion).await
    }

    async fn backup(&self, context: BackupContext) -> Result<SourceOutcome> {
        let cancel = context.cancel.clone();
        // Dropping the work closes its connections; the server then rolls back what they held.
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the backup was cancelled")),
            done = self.run(context) => done,
        }
    }
}

/// Says so if the labels of an enum or the shape of a row type were changed while rows were read: they are printed as they are now.
async fn warn_of_moves(leader: &Leader, options: &ConnectOptions, notes: &Notes) -> Result<()> {
    let mut scout = settings::open(options, Session::Reading).await?;
    for catalog in moved(&leader.client, &mut scout, true).await? {
        let what = if catalog == "pg_enum" {
            "an enum"
        } else {
            "a composite type"
        };
        let text = format!(
            "{what} was changed while rows were read: rows may not match its stored definition; run the backup again"
        );
        notes.add(Note::new("changed-types", &options.database, text));
    }
    scout.close().await;
    Ok(())
}

fn facts_record(facts: &ServerFacts) -> Result<StreamRecord> {
    let facts = serde_json::to_value(facts).map_err(|e| Error::invalid("write the server's facts").with_cause(e))?;
    Ok(StreamRecord {
        stream: FACTS.to_owned(),
        prefixes: Vec::new(),
        chunks: 0,
        bytes: 0,
        rows: None,
        row_digest: None,
        facts,
    })
}

async fn write_scripts(
    writer: &ArchiveWriter,
    tables: &[CopyTable],
    results: &[TableResult],
    sql: &[TextResult],
    facts: &ServerFacts,
) -> Result<()> {
    let now = facts.consistent_at().as_second();
    let script = |kind| Script {
        writer,
        text: String::new(),
        kind,
        number: 0,
        now,
    };
    let (mut data, mut joins) = (script(("", "sql")), script(("join-", "sh")));
    for stream in sql {
        joins.push(&script::joins(&stream.prefix, &stream.joined)).await?;
    }
    let by_number: HashMap<u32, &CopyTable> = tables.iter().map(|t| (t.table.number, t)).collect();
    for result in results {
        // Large objects have number 0, and come when their objects were made.
        let Some(table) = by_number.get(&result.number) else {
            continue;
        };
        joins.push(&script::table_joins(table, &result.parts)).await?;
        if table.pieces.is_none() {
            data.push(&script::table_lines(table, &result.parts)).await?;
        }
    }
    data.flush().await?;
    joins.flush().await?;
    let objects = tables.iter().find(|t| t.pieces.is_some());
    let objects = objects.and_then(|t| Some((t, results.iter().find(|r| r.number == t.table.number)?)));
    let objects = objects.map(|(table, result)| script::large_object_lines(table, &result.parts));
    let main = script::main_script(sql, joins.number, data.number, objects.as_deref(), &facts.context);
    write_entry(writer, "restore.sql", &to_bytes(&main), now).await
}

/// A script in pieces: `restore/0000.sql`, `restore/join-0000.sh`.
struct Script<'a> {
    writer: &'a ArchiveWriter,
    text: String,
    kind: (&'static str, &'static str),
    number: u32,
    now: i64,
}

impl Script<'_> {
    async fn push(&mut self, text: &str) -> Result<()> {
        // Whole lines only, so a table with very many chunks is cut between two of them.
        for line in text.split_inclusive('\n') {
            self.text.push_str(line);
            if self.text.len() > 256 * 1024 {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let name = format!("restore/{}{:04}.{}", self.kind.0, self.number, self.kind.1);
        write_entry(self.writer, &name, &to_bytes(&self.text), self.now).await?;
        self.number += 1;
        self.text.clear();
        Ok(())
    }
}

async fn write_entry(writer: &ArchiveWriter, name: &str, data: &[u8], now: i64) -> Result<()> {
    let mut chunk = writer.chunk_buffer().await?;
    if data.len() > chunk.room() {
        return Err(
            Error::new(ErrorKind::LimitExceeded, format!("{name} does not fit into a chunk"))
                .with_hint("Raise --memory-limit: larger limits have larger chunks."),
        );
    }
    chunk.extend(data);
    let size = exact::u64_from(data.len());
    writer
        .submit_entry(EntryMeta::file(name.as_bytes(), size, (now, 0)), chunk)
        .await
}
