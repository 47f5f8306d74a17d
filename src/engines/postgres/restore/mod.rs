//! Restores a backup into a new database, beside the live one.
//!
//! Order: what comes before the data, the data in parallel (each table's rows counted, and on request read again and
//! compared by digest), sequences, what comes after the data in parallel, ANALYZE, and last the swap. A failure before
//! the swap drops what was created and leaves the live database as it was. Statements after the data that fail twice
//! are reported and do not undo the restore; a failure of data does.

pub(crate) mod analyze;
pub(crate) mod compare;
pub(crate) mod create_database;
pub(crate) mod data_phase;
pub(crate) mod database_settings;
pub(crate) mod excuse;
pub(crate) mod fk_order;
pub(crate) mod in_place;
pub(crate) mod inspect;
pub(crate) mod keep_going;
pub(crate) mod load;
pub(crate) mod locale_override;
pub(crate) mod merge_sql;
pub(crate) mod ownership;
pub(crate) mod plan;
pub(crate) mod powers;
pub(crate) mod refill;
pub(crate) mod replace;
pub(crate) mod replaced_views;
pub(crate) mod roles;
pub(crate) mod scheduler;
pub(crate) mod selection;
pub(crate) mod staging;
pub(crate) mod statements;
pub(crate) mod swap;
pub(crate) mod table_choice;
pub(crate) mod undo;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::analyze::analyze;
use self::compare::compare_all;
use self::data_phase::DataPhase;
use self::in_place::schemas;
use self::inspect::look;
use self::keep_going::ways_on;
use self::load::TableData;
use self::locale_override::{LocaleOverride, refuse_conversion};
use self::powers::Powers;
use self::selection::{Chosen, Needs, Selection, choose};
use self::staging::StagingDatabase;
use self::statements::{Ended, FailedItem, retry_failed, run_free, run_in_order, run_on, run_pre_data};
use crate::archive::ArchiveReader;
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::{Note, SharedReporter};
use crate::engines::postgres::backup::snapshot::ServerFacts;
use crate::engines::postgres::session::search_path::BUILT_IN;
use crate::engines::postgres::session::sessions::open_session;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::GLOBALS;
use crate::engines::postgres::sql::quote::quote_ident;
use crate::engines::postgres::sql::rewrite::Rewrite;
use crate::engines::postgres::stored::FACTS;
use crate::engines::postgres::stored::streams::TocEntry;
use crate::engines::postgres::stored::text::Contents;
use crate::engines::postgres::wire::server_error::sqlstate;

/// How a restore is done.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Connections that write at once.
    pub parallel: usize,
    /// Replace a database that is not empty: restore beside, then swap.
    pub clean: bool,
    /// A table that cannot be loaded, or differs, is named; the others come back.
    pub keep_going: bool,
    /// Schemas in which definitions find what they do not qualify, for the whole restore. If empty, the source's own path is
    /// tried for what fails without one.
    pub search_path: Vec<String>,
    /// Read every table again and compare digests before anything is swapped.
    pub verify_rows: bool,
    /// Create roles that the backup knows and the server does not.
    pub create_roles: bool,
    /// Drop the replaced database instead of keeping it under a dated name.
    pub drop_old: bool,
    /// How long to try to get the old database for itself at the swap.
    pub swap_timeout: Duration,
    /// Which part of the backup comes back.
    pub selection: Selection,
    /// Objects belong to the restoring role.
    pub no_owner: bool,
    /// Objects have built-in rights.
    pub no_privileges: bool,
    /// Roles of the backup by their names here: old and new.
    pub role_map: Vec<(String, String)>,
    /// Tablespaces of the backup by their names here; an empty one is the database's own.
    pub tablespace_map: Vec<(String, String)>,
    /// With selected tables: bring them back in this new schema of the existing database.
    pub beside: Option<String>,
    /// Comment that the new database carries from its creation on.
    pub comment: Option<String>,
    /// Encoding and locale of the new database, where they are not the source's.
    pub locale_override: LocaleOverride,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            parallel: 4,
            clean: false,
            keep_going: false,
            search_path: Vec::new(),
            verify_rows: false,
            create_roles: false,
            drop_old: false,
            swap_timeout: Duration::from_secs(60),
            selection: Selection::default(),
            no_owner: false,
            no_privileges: false,
            role_map: Vec::new(),
            tablespace_map: Vec::new(),
            beside: None,
            comment: None,
            locale_override: LocaleOverride::default(),
        }
    }
}

/// What a restore did. A field that an earlier release did not write is as of a restore that had nothing of the kind.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RestoreReport {
    /// The restored database.
    pub database: String,
    /// Tables loaded.
    pub tables: u64,
    /// Rows loaded, as the server counted them.
    pub rows: u64,
    /// Bytes of COPY data sent.
    pub bytes: u64,
    /// Tables whose planner statistics came from the backup; the others were analysed.
    pub statistics: u64,
    /// Whether every row was read again and compared.
    pub rows_verified: bool,
    /// Statements that failed for good; if there are any, the command ends with exit code 2.
    pub failed: Vec<FailedItem>,
    /// Statements about what this server does not have: told, and no failure.
    pub left_out: Vec<FailedItem>,
    /// Name under which a replaced database was kept.
    pub kept_old: Option<String>,
    /// Sessions of the replaced database that were ended.
    pub ended_sessions: u64,
    /// What a person does next, as SQL with a word in front.
    pub next: Vec<String>,
    /// What of the backup runs code with power: functions in C and in untrusted languages, event triggers.
    pub powers: Vec<String>,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// A restore of one PostgreSQL source.
#[derive(Debug)]
pub struct PostgresRestore {
    /// Database to make, or with `clean` to replace.
    pub target: ConnectOptions,
    /// The backup.
    pub reader: ArchiveReader,
    /// How.
    pub options: RestoreOptions,
    /// Progress and notes.
    pub reporter: SharedReporter,
    /// Task name towards the reporter.
    pub task: String,
    /// Ends the work early; what was created is then dropped.
    pub cancel: CancellationToken,
}

impl PostgresRestore {
    /// Restores. On an error the target is as it was before.
    pub async fn run(self) -> Result<RestoreReport> {
        // The future is large, and callers hold several.
        Box::pin(self.carry_out()).await
    }

    async fn carry_out(mut self) -> Result<RestoreReport> {
        self.target.search_path.clone_from(&self.options.search_path);
        let started = Instant::now();
        let (contents, toc, facts) = self.open().await?;
        let powers = Powers::of(&contents, &toc).await?.lines();
        for lack in facts.iter().flat_map(|f| &f.lacks) {
            let note = Note::new("not-in-backup", lack.object.as_str(), lack.message.as_str());
            self.reporter.note(&self.task, note);
        }
        self.target.context = facts.as_ref().map(|f| f.context.clone()).unwrap_or_default();
        let looked = look(&self.target).await;
        let (mut admin, look) = looked.with_context(|| format!("inspect target \"{}\"", self.target.location()))?;
        self.refuse_target(&look)?;
        let in_place = self.goes_in_place(&look);
        if let Some(facts) = &facts {
            let made = self.makes(in_place, &look, facts);
            refuse_conversion(&mut admin, facts, &made.encoding).await?;
        }
        let chosen = Box::pin(self.choose(in_place && !look.empty, &contents, &toc)).await?;
        let mut contents = self.rewriting(contents, &chosen.relations);
        if self.options.search_path.is_empty() {
            let own = facts.as_ref().map(|f| f.search_path.clone()).unwrap_or_default();
            contents.search_path = Some(if own.is_empty() { BUILT_IN.to_owned() } else { own });
        }
        if in_place {
            admin.close().await;
            let mut report = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Error::new(ErrorKind::Cancelled, "the restore was cancelled")),
                done = Box::pin(self.in_place(&contents, chosen)) => done?,
            };
            report.seconds = started.elapsed().as_secs_f64();
            report.powers = powers;
            return Ok(report);
        }
        let needs_known = facts.as_ref().is_some_and(|f| f.needs_known);
        let room = look.role.room;
        let target = StagingDatabase::create(admin, look, &self.target, facts.as_ref(), &self.options);
        let mut target = Box::pin(target).await?;
        self.spare_sessions(&mut target, room).await;
        for note in target.notes.drain(..) {
            self.reporter.note(&self.task, note);
        }
        let filling = target.filling.clone();
        // A database that replaces another gets that one's owner, rights and settings at the swap; a scratch database keeps its
        // comment.
        let has_own = !target.replaces() && self.options.comment.is_none();
        let work = async {
            let mut report = self.fill(&filling, &contents, &toc, &chosen, needs_known).await?;
            if has_own {
                let failed = self.properties(&filling, &contents, &chosen).await;
                report.failed.extend(failed.context("set properties of the database")?);
            }
            Ok(report)
        };
        let filled = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the restore was cancelled")),
            done = Box::pin(work) => done,
        };
        let mut report = match filled {
            Ok(report) => report,
            Err(error) => {
                if let Err(left) = target.discard().await {
                    let text = format!("could not be dropped: {}", left.chain());
                    self.reporter
                        .note(&self.task, Note::new("left-behind", &filling.database, text));
                }
                return Err(error.context(format!("restore into \"{}\"", self.target.location())));
            }
        };
        self.tell_left_out(&mut report);
        self.reporter.phase(&self.task, "swap");
        // What is not whole is no reason to drop what was there.
        let drop_old = self.options.drop_old && report.failed.is_empty();
        let finished = Box::pin(target.finish(drop_old, self.options.swap_timeout)).await?;
        report.failed.extend(finished.failed);
        self.note_failed(&report.failed);
        if let Some(kept) = finished.kept.as_ref().filter(|_| self.options.drop_old && !drop_old) {
            let text = "was replaced, and is kept despite --drop-old because the restore is incomplete";
            self.reporter.note(&self.task, Note::new("kept", kept, text));
        }
        report.ended_sessions = finished.ended_sessions;
        report.kept_old = finished.kept;
        report.database.clone_from(&self.target.database);
        report.seconds = started.elapsed().as_secs_f64();
        report.powers = powers;
        Ok(report)
    }

    /// Opens the backup: its streams, table of contents, and the facts of its server.
    pub(super) async fn open(&self) -> Result<(Contents, Vec<TocEntry>, Option<ServerFacts>)> {
        // Data workers read a stream each; two more cover the table of contents and the SQL beside it.
        let contents = Contents::open(self.reader.share(self.options.parallel.saturating_add(2)))
            .await
            .context("read the backup's index")?;
        let toc = contents.toc().await?;
        let facts = server_facts(&contents)?;
        Ok((contents, toc, facts))
    }

    /// Chooses the part of the backup that comes back. A database that is made or empty has nothing of what tables need.
    pub(super) async fn choose<'a>(
        &self,
        in_use: bool,
        contents: &Contents,
        toc: &'a [TocEntry],
    ) -> Result<Chosen<'a>> {
        let selection = &self.options.selection;
        let needs = match (selection.data_only, selection.with_dependencies, in_use) {
            (true, ..) | (_, false, true) => Needs::Nothing,
            (_, true, _) => Needs::Everything,
            _ if selection.tables.is_empty() => Needs::Nothing,
            _ => Needs::Definitions,
        };
        let beside = self.options.beside.is_some();
        let tables = TableData::all(contents)?;
        choose(selection, beside, needs, contents, toc, tables).await
    }

    /// Puts the changes that the options want on everything that is read from now on.
    fn rewriting(&self, mut contents: Contents, relations: &[(String, String)]) -> Contents {
        let options = &self.options;
        contents.rewrite = Rewrite {
            no_owner: options.no_owner,
            no_privileges: options.no_privileges,
            roles: options.role_map.clone(),
            tablespaces: options.tablespace_map.clone(),
            ..Rewrite::default()
        };
        if let Some(schema) = &options.beside {
            contents.rewrite.moved = relations.to_vec();
            contents.rewrite.into_schema.clone_from(schema);
        }
        contents
    }

    async fn fill(
        &self,
        into: &ConnectOptions,
        contents: &Contents,
        toc: &[TocEntry],
        chosen: &Chosen<'_>,
        needs_known: bool,
    ) -> Result<RestoreReport> {
        let globals: Vec<&TocEntry> = toc.iter().filter(|l| l.stream == GLOBALS).collect();
        let (parallel, tables) = (self.options.parallel, &chosen.tables);
        let mut report = RestoreReport::default();
        if !self.options.no_owner {
            self.roles(into, contents, &globals).await?;
        }
        self.reporter.phase(&self.task, "schema");
        if self.options.selection.is_partial() {
            let made = |schema: &String| {
                chosen
                    .pre_data
                    .iter()
                    .any(|l| l.item.kind == "SCHEMA" && &l.item.name == schema)
            };
            let mut connection = open_session(into).await?;
            for schema in schemas(chosen).into_iter().filter(|s| !made(s)) {
                let sql = format!("CREATE SCHEMA IF NOT EXISTS {}", quote_ident(&schema));
                connection.execute(&sql).await.context("create schema")?;
            }
            connection.close().await;
        }
        for (line, (schema, name)) in &chosen.attach {
            let text = format!(
                "was a partition of {schema}.{name}, which is not restored: it is restored as a table \
                                of its own"
            );
            self.reporter
                .note(&self.task, Note::new("not-attached", &line.item.name, text));
        }
        report.failed = run_pre_data(into, contents, &chosen.pre_data, parallel, needs_known)
            .await
            .context("create objects before the data")?;

        report.failed.extend(
            run_in_order(into, contents, &chosen.large_objects)
                .await
                .context("create large objects")?,
        );

        report.failed.extend(
            run_in_order(into, contents, &chosen.sequences)
                .await
                .context("set sequences")?,
        );
        // Settings of the database would be those of the sessions that fill it: they come last of all.
        let mut post_data = chosen.post_data.clone();
        post_data.retain(|l| !is_of_database(l));
        // They would watch, or forbid, what is tried again and what follows.
        let (event_triggers, post_data): (Vec<&TocEntry>, Vec<&TocEntry>) =
            post_data.into_iter().partition(|l| l.item.kind == "EVENT TRIGGER");

        self.reporter.phase(&self.task, "data");
        self.reporter
            .begin(&self.task, Some(tables.iter().map(|t| t.record.bytes).sum()));
        let fill = DataPhase {
            options: into,
            contents,
            tables,
            parallel,
            keep_going: self.options.keep_going,
            reporter: &self.reporter,
            task: &self.task,
        };
        let mut ended = Ended::default();
        let verify = self.options.verify_rows;
        // Rows are compared before row security and rules stand in the way.
        let beside: &[&TocEntry] = if verify { &[] } else { &post_data };
        let loaded = fill.run(beside, &mut ended).await;
        let loaded = loaded.map_err(|e| ways_on(e, &report.failed))?;
        let failed = loaded.failed.into_inner().expect("no panic happens under this lock");
        let lost: HashSet<usize> = failed.iter().map(|(at, _)| *at).collect();
        report.failed.extend(failed.into_iter().map(|(_, item)| item));
        let there = tables.iter().enumerate().filter(|(at, _)| !lost.contains(at));
        let there: Vec<&TableData> = there.map(|(_, table)| table).collect();
        report.tables = exact::u64_from(there.iter().filter(|t| t.pieces.is_none()).count());
        report.rows = loaded.rows.load(Ordering::Relaxed);
        report.bytes = loaded.bytes.load(Ordering::Relaxed);
        if verify {
            self.reporter.phase(&self.task, "compare rows");
            let differing = compare_all(into, &there, parallel, self.options.keep_going).await;
            let differing = differing.map_err(|e| ways_on(e, &[]))?;
            report.rows_verified = lost.is_empty() && differing.is_empty();
            report.failed.extend(differing);
            self.reporter.phase(&self.task, "indexes and constraints");
            run_free(into, contents, &post_data, parallel, &mut ended)
                .await
                .context("create objects after the data")?;
        }
        report.failed.extend(
            retry_failed(into, contents, ended)
                .await
                .context("create objects after the data")?,
        );
        report.failed.extend(
            run_in_order(into, contents, &event_triggers)
                .await
                .context("create event triggers")?,
        );
        self.reporter.phase(&self.task, "analyze");
        let analyzed = analyze(into, contents, chosen, parallel)
            .await
            .context("collect statistics")?;
        report.statistics = analyzed.restored;
        for (name, error) in analyzed.failed {
            self.reporter
                .note(&self.task, Note::new("not-analyzed", name, error.chain()));
        }
        Ok(report)
    }

    /// Gives the database what belongs to it itself: owner, rights, comment, limit, settings. Its mark stays.
    async fn properties(
        &self,
        into: &ConnectOptions,
        contents: &Contents,
        chosen: &Chosen<'_>,
    ) -> Result<Vec<FailedItem>> {
        let lines: Vec<&TocEntry> = chosen.post_data.iter().copied().filter(|l| is_of_database(l)).collect();
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = open_session(into).await?;
        connection.execute("BEGIN").await?;
        let mut failed = run_on(&mut connection, contents, &lines).await?;
        if let Err(error) = StagingDatabase::mark(&mut connection, &self.target.database).await {
            if connection.is_dead() || sqlstate(&error) != Some("42501") {
                return Err(error);
            }
            // The role gave the database to one whose rights it has not by itself, and could not even rename it now.
            connection.execute("ROLLBACK; BEGIN").await?;
            let (mut own, mut texts) = (Vec::new(), contents.texts());
            failed = Vec::new();
            for line in lines {
                if texts.get(line).await?.contains(" OWNER TO ") {
                    failed.push(FailedItem::new(line, &error));
                } else {
                    own.push(line);
                }
            }
            failed.extend(run_on(&mut connection, contents, &own).await?);
            StagingDatabase::mark(&mut connection, &self.target.database).await?;
        }
        connection.execute("COMMIT").await?;
        connection.close().await;
        Ok(failed)
    }

    /// Where the role has few sessions, the maintenance connection is one of them, and a transaction that goes beside the workers.
    async fn spare_sessions(&mut self, target: &mut StagingDatabase, room: Option<usize>) {
        target.rest(room == Some(0)).await;
        if let Some(room) = room {
            let workers = room.saturating_sub(1).max(1);
            self.options.parallel = self.options.parallel.min(workers);
        }
    }

    pub(super) fn note_failed(&self, failed: &[FailedItem]) {
        for item in failed {
            self.reporter.note(
                &self.task,
                Note::new("failed", format!("{} {}", item.kind, item.name), item.error.clone()),
            );
        }
    }
}

/// Returns whether an item is of the database itself, not of what is in it.
pub(super) fn is_of_database(line: &TocEntry) -> bool {
    line.item.kind.starts_with("DATABASE")
}

/// Reads what a restore reads before its first write: the table of contents, the server's facts, those of every table.
pub async fn judge(reader: &ArchiveReader) -> Result<()> {
    let contents = Contents::open(reader.clone())
        .await
        .context("read the backup's index")?;
    contents.toc().await?;
    server_facts(&contents)?;
    TableData::all(&contents).map(drop)
}

/// Reads what the backup says of its server; none in a backup without it.
pub(super) fn server_facts(contents: &Contents) -> Result<Option<ServerFacts>> {
    let Some(record) = contents.record(FACTS) else {
        return Ok(None);
    };
    let facts = serde_json::from_value(record.facts.clone());
    let mut facts: ServerFacts =
        facts.map_err(|e| Error::corrupt("the server's facts in the backup are not readable").with_cause(e))?;
    facts.context.check_encoding(&facts.encoding)?;
    Ok(Some(facts))
}
