//! The `postgres` source: one snapshot, its schema as SQL, its tables as COPY data.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::connection::Connection;
use super::copy_table::CopyTable;
use super::large_objects;
use super::restore_script;
use super::schema::{self, SESSION_SQL, Section};
use super::server_error::sqlstate;
use super::snapshot::{Leader, ServerFacts};
use super::sql_streams::{LARGE_OBJECTS, POST_DATA, PRE_DATA, SEQUENCES, SqlStreams};
use super::table_stream::TextResult;
use super::tables::{TableReaders, TableResult, read_all};
use super::url::ConnectOptions;
use crate::archive::{ArchiveWriter, EntryMeta, StreamRecord};
use crate::error::{Context as _, Error, ErrorKind, Result};
use crate::sources::{BackupContext, Finding, FindingLevel, Notes, Source, SourceOutcome};

/// Name of the stream record that carries [`ServerFacts`]; it has no members.
pub(super) const FACTS: &str = "postgres";

/// A PostgreSQL database to back up.
#[derive(Debug, Clone)]
pub struct PostgresSource {
    options: ConnectOptions,
}

impl PostgresSource {
    /// Makes a source of a database.
    pub fn new(options: ConnectOptions) -> Self {
        Self { options }
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
        let notes = Notes::new(&name, Arc::clone(&reporter));
        reporter.phase(&name, "schema");
        let leader = Leader::open(&self.options, &notes).await?;
        leader.graph.notes().iter().for_each(|note| notes.add(note.clone()));
        let objects = large_objects::Plan::read(&leader.client, &notes)
            .await
            .context("look for large objects")?;
        let sql = write_sql(&leader, &writer, objects.as_ref()).await?;
        let mut tables = CopyTable::all(&leader.client, leader.graph.tables()).await?;
        tables.extend(objects.map(large_objects::Plan::table));
        writer.finish_stream(facts_record(&leader.facts)?).await?;

        reporter.phase(&name, "data");
        reporter.begin(&name, Some(tables.iter().map(CopyTable::bytes).sum()));
        let readers = Arc::new(TableReaders {
            options: self.options.clone(),
            facts: leader.facts.clone(),
            writer: writer.clone(),
            reporter: Arc::clone(&reporter),
            task: name.clone(),
            cancel,
        });
        let results = read_all(Arc::clone(&readers), &tables, parallel).await?;
        drop(readers);
        // The snapshot was needed until here.
        leader
            .client
            .batch_execute("COMMIT")
            .await
            .map_err(super::client_error)
            .context("end the snapshot")?;

        reporter.phase(&name, "finish");
        write_scripts(&writer, &tables, &results, &sql, &leader.facts).await?;
        let archives = writer.finish().await?;
        let table_bytes: u64 = results.iter().flat_map(|t| &t.parts).map(|p| p.bytes).sum();
        Ok(SourceOutcome {
            versions: BTreeMap::from([("postgresql".to_owned(), leader.facts.version.clone())]),
            position: BTreeMap::from([("wal_lsn".to_owned(), leader.facts.wal_lsn.clone())]),
            consistent_at: leader.facts.consistent_at(),
            raw_bytes: table_bytes + sql.iter().map(|s| s.bytes).sum::<u64>(),
            items: u64::try_from(leader.graph.tables().len()).unwrap_or(u64::MAX),
            note_counts: notes.counts(),
            archives,
        })
    }
}

#[async_trait]
impl Source for PostgresSource {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn location(&self) -> String {
        self.options.location()
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        check(&self.options).await
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

/// Writes all SQL before the data: definitions are read from the current catalogs, so the sooner the better.
async fn write_sql(
    leader: &Leader,
    writer: &ArchiveWriter,
    objects: Option<&large_objects::Plan>,
) -> Result<Vec<TextResult>> {
    let mut streams = SqlStreams::new(writer.clone());
    schema::write_globals(&leader.client, &mut streams)
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
            .write(&leader.client, section, &mut streams)
            .await
            .with_context(|| format!("write {name}"))?;
    }
    if let Some(plan) = objects {
        schema::write_large_object_rights(&leader.graph, &leader.client, plan.readable_only, &mut streams)
            .await
            .context("write rights of large objects")?;
    }
    streams.finish().await
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
        joins
            .push(&restore_script::joins(&stream.prefix, &stream.joined))
            .await?;
    }
    for result in results {
        // Large objects have number 0, and come when their objects were made.
        let Some(table) = tables.iter().find(|t| t.table.number == result.number) else {
            continue;
        };
        joins.push(&restore_script::table_joins(table, &result.parts)).await?;
        if table.pieces.is_none() {
            data.push(&restore_script::table_lines(table, &result.parts)).await?;
        }
    }
    data.flush().await?;
    joins.flush().await?;
    let objects = tables.iter().find(|t| t.pieces.is_some());
    let objects = objects.and_then(|t| Some((t, results.iter().find(|r| r.number == t.table.number)?)));
    let objects = objects.map(|(table, result)| restore_script::large_object_lines(table, &result.parts));
    let main = restore_script::main_script(sql, joins.number, data.number, objects.as_deref());
    write_entry(writer, "restore.sql", main.as_bytes(), now).await
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
        write_entry(self.writer, &name, self.text.as_bytes(), self.now).await?;
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
    let size = u64::try_from(data.len()).unwrap_or(0);
    writer
        .submit_entry(EntryMeta::file(name.as_bytes(), size, (now, 0)), chunk)
        .await
}

/// Looks at a database without reading data.
async fn check(options: &ConnectOptions) -> Result<Vec<Finding>> {
    let mut connection = Connection::open(options).await?;
    let finding = |level, message: String, hint: Option<&str>| Finding {
        level,
        message,
        hint: hint.map(str::to_owned),
    };
    let mut findings = Vec::new();
    let sql = "SELECT current_setting('server_version'), current_setting('server_version_num'), \
        pg_catalog.pg_size_pretty(pg_catalog.pg_database_size(pg_catalog.current_database())), \
        (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), \
        (SELECT count(*) FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p') AND relnamespace NOT IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_' OR nspname = 'information_schema')), \
        current_setting('max_locks_per_transaction')::bigint * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint), \
        (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata), pg_catalog.pg_is_in_recovery()";
    let row = connection.query(sql).await.context("read the server's facts")?;
    let text = |at: usize| {
        row.rows
            .first()
            .and_then(|r| r.get(at))
            .cloned()
            .flatten()
            .unwrap_or_default()
    };
    let number = |at: usize| text(at).parse::<u64>().unwrap_or(0);
    let tls = if connection.is_tls() { "TLS" } else { "no TLS" };
    findings.push(finding(
        FindingLevel::Info,
        format!("PostgreSQL {}, {}, {} tables, {tls}", text(0), text(2), number(4)),
        None,
    ));
    if number(1) < 130_000 {
        findings.push(finding(
            FindingLevel::Warning,
            "servers older than 13 are not tested".into(),
            None,
        ));
    }
    if text(3) != "t" {
        let hint = "Grant pg_read_all_data (14 and newer); role passwords and some definitions need a superuser.";
        findings.push(finding(
            FindingLevel::Info,
            format!("role \"{}\" is no superuser", options.user),
            Some(hint),
        ));
    }
    if number(4) > number(5) / 2 {
        let message = format!(
            "{} tables need as many locks, the server's lock table holds about {}",
            number(4),
            number(5)
        );
        findings.push(finding(
            FindingLevel::Warning,
            message,
            Some("Raise max_locks_per_transaction."),
        ));
    }
    if number(6) > 0 {
        findings.push(finding(
            FindingLevel::Info,
            format!("{} large objects", number(6)),
            None,
        ));
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata o WHERE NOT pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT') AND NOT {}",
            schema::READABLE_SQL
        );
        let hidden = connection
            .query(&sql)
            .await
            .context("look at rights of large objects")?;
        if let Some(count) = hidden.scalar().filter(|&c| c != "0") {
            let hint = "Grant pg_read_all_data (14 and newer), or SELECT on each large object.";
            let message = format!("no privilege to read {count} large objects: they will not be in the backup");
            findings.push(finding(FindingLevel::Warning, message, Some(hint)));
        }
    }
    if text(7) == "t" {
        let hint = "Turn on hot_standby_feedback, or raise max_standby_streaming_delay.";
        findings.push(finding(
            FindingLevel::Warning,
            "the server is a standby: conflicts with replay can cancel the backup".into(),
            Some(hint),
        ));
    }
    findings.extend(unreadable(&mut connection).await?);
    findings.extend(pooled(&mut connection, options).await?);
    connection.close().await;
    Ok(findings)
}

async fn unreadable(connection: &mut Connection) -> Result<Vec<Finding>> {
    let sql = "SELECT c.oid::pg_catalog.regclass::text, \
        pg_catalog.row_security_active(c.oid) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
        AND (NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') OR NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') OR pg_catalog.row_security_active(c.oid)) LIMIT 20";
    let result = connection.query(sql).await.context("look at privileges")?;
    let make = |row: &Vec<Option<String>>| {
        let name = row.first().cloned().flatten().unwrap_or_default();
        let hidden = row.get(1).cloned().flatten().as_deref() == Some("t");
        let (message, hint) = if hidden {
            (
                format!("row security hides rows of table {name}"),
                "Back up as the table's owner or a role with BYPASSRLS.",
            )
        } else {
            (
                format!("no privilege to read table {name}"),
                "Grant SELECT on it, or pg_read_all_data (14 and newer).",
            )
        };
        Finding {
            level: FindingLevel::Error,
            message,
            hint: Some(hint.to_owned()),
        }
    };
    Ok(result.rows.iter().map(make).collect())
}

/// Finds a pooler that gives each transaction another session: an exported snapshot is then useless.
async fn pooled(connection: &mut Connection, options: &ConnectOptions) -> Result<Option<Finding>> {
    connection
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let exported = connection.query("SELECT pg_catalog.pg_export_snapshot()").await?;
    let snapshot = exported.scalar().unwrap_or_default().replace('\'', "''");
    let mut second = Connection::open(options).await?;
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{snapshot}'; {SESSION_SQL} COMMIT"
    );
    let imported = second.execute(&sql).await;
    let first_pid = connection
        .query("SELECT pg_catalog.pg_backend_pid()")
        .await?
        .scalar()
        .and_then(|p| p.parse::<i32>().ok());
    let pooled = first_pid.is_some_and(|pid| connection.process_id() != 0 && pid != connection.process_id());
    connection.execute("COMMIT").await?;
    second.close().await;
    let hint = Some("Connect to the server itself, not to a pooler.".to_owned());
    Ok(match imported {
        Err(error) => {
            let state = sqlstate(&error).unwrap_or("none").to_owned();
            Some(Finding {
                level: FindingLevel::Error,
                message: format!("a snapshot cannot be shared between connections (SQLSTATE {state})"),
                hint,
            })
        }
        Ok(()) if pooled => Some(Finding {
            level: FindingLevel::Warning,
            message: "a connection pooler stands between".into(),
            hint,
        }),
        Ok(()) => None,
    })
}
