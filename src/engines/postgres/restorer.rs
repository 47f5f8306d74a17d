//! Bringing a database back: where to, how, and what is said of it.

use async_trait::async_trait;

use crate::archive::ArchiveReader;
use crate::base::claim::Claim;
use crate::base::error::Result;
use crate::base::raw_text::printable;
use crate::engines::postgres::flags::RestoreDatabase;
use crate::engines::postgres::server_url::{database_of, names_database, with_database};
use crate::engines::postgres::{
    self, FailedItem, KIND, LocaleOverride, PostgresRestore, PostgresSpec, RestoreOptions, RestorePlan, Selection,
    Undone,
};
use crate::engines::redact::redact_url;
use crate::engines::{RestoreReport, RestoreRequest, Restorer, Settle, SettleReport, TargetPlan, Tools};

/// Brings a database back into a server.
#[derive(Debug)]
pub(super) struct DatabaseRestorer {
    server: PostgresSpec,
    task: String,
    options: RestoreOptions,
    tools: Tools,
}

impl DatabaseRestorer {
    pub(super) fn new(request: RestoreRequest) -> Result<Self> {
        let server = server(&request)?;
        let flags: RestoreDatabase = request.options.engines.of();
        // Without a place of their own, tables come back beside the living ones.
        let beside = !flags.table.is_empty() && request.into.is_none() && !flags.data_only;
        Ok(Self {
            server,
            options: RestoreOptions {
                parallel: request.options.parallel,
                clean: request.options.clean,
                keep_going: flags.keep_going,
                search_path: flags.search_path,
                verify_rows: flags.verify_rows,
                create_roles: flags.create_roles,
                drop_old: flags.drop_old,
                selection: Selection {
                    tables: flags.table,
                    schemas: flags.schema,
                    exclude_table_data: flags.exclude_table_data,
                    schema_only: flags.schema_only,
                    data_only: flags.data_only,
                    with_dependencies: flags.with_dependencies,
                },
                no_owner: flags.no_owner,
                no_privileges: flags.no_privileges,
                role_map: flags.role_map,
                tablespace_map: flags.tablespace_map,
                beside: beside.then(|| format!("restored_{}", request.snapshot)),
                locale_override: LocaleOverride {
                    encoding: flags.encoding,
                    locale: flags.locale,
                    provider: flags.locale_provider,
                    icu_locale: flags.icu_locale,
                },
                ..RestoreOptions::default()
            },
            task: request.source,
            tools: request.tools,
        })
    }

    fn restore_from(&self, reader: ArchiveReader) -> Result<PostgresRestore> {
        Ok(PostgresRestore {
            target: self.server.connect_options()?,
            reader,
            options: self.options.clone(),
            reporter: self.tools.reporter.clone(),
            task: self.task.clone(),
            cancel: self.tools.cancel.clone(),
        })
    }
}

/// Decides which database of which server is meant.
fn server(request: &RestoreRequest) -> Result<PostgresSpec> {
    let Some(given) = &request.into else {
        let place = request.place.as_ref().ok_or_else(|| request.has_no_place())?;
        return place.of_engine(KIND).cloned();
    };
    let given_server = given.spec.as_ref().and_then(|spec| spec.downcast_ref::<PostgresSpec>());
    let server = given_server.ok_or_else(|| request.cannot_go_into(given))?;
    if names_database(&server.url) {
        if request.is_one_of_several {
            let shown = redact_url(&given.text);
            return Err(request.cannot_go(&format!("\"{shown}\" together with others")));
        }
        return Ok(server.clone());
    }
    // A whole server takes every database under its own name.
    let known = request.place.as_ref().or(request.called.as_ref());
    let known = known.and_then(|spec| spec.downcast_ref::<PostgresSpec>());
    Ok(match known.and_then(|known| database_of(&known.url)) {
        Some(name) => PostgresSpec {
            url: with_database(&server.url, &name),
            ..server.clone()
        },
        None => server.clone(),
    })
}

#[async_trait(?Send)]
impl Restorer for DatabaseRestorer {
    fn target(&self) -> String {
        redact_url(&self.server.url)
    }

    async fn plan(&mut self, reader: &ArchiveReader) -> Result<Option<Box<dyn TargetPlan>>> {
        let restore = self.restore_from(reader.clone())?;
        let plan = Box::pin(restore.plan()).await?;
        Ok(Some(Box::new(plan)))
    }

    async fn restore(self: Box<Self>, reader: ArchiveReader) -> Result<Box<dyn RestoreReport>> {
        let done = Box::pin(self.restore_from(reader)?.run()).await?;
        Ok(Box::new(DatabaseRestored {
            bytes: done.bytes,
            failed: done.failed.len(),
            report: done,
        }))
    }

    async fn settle(self: Box<Self>, how: Settle, _: Option<ArchiveReader>) -> Result<Box<dyn SettleReport>> {
        if how == Settle::Finish {
            return Err(how.is_not_done(KIND.word()));
        }
        let wanted = self.server.connect_options()?;
        let undoing = Box::pin(postgres::undo(&wanted, self.options.swap_timeout));
        let report = self.tools.or_cancelled(undoing).await?;
        let into = self.target();
        Ok(Box::new(SettledDatabase { into, report }))
    }
}

/// A database of PostgreSQL that came back.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct DatabaseRestored {
    /// Bytes of COPY data sent.
    pub bytes: u64,
    /// Statements that failed for good.
    pub failed: usize,
    /// What was done.
    pub report: postgres::RestoreReport,
}

/// A database whose restore is undone.
#[derive(Debug, serde::Serialize)]
struct SettledDatabase {
    into: String,
    report: Undone,
}

impl SettleReport for SettledDatabase {
    fn failures(&self) -> Vec<String> {
        self.report.failed.iter().map(item_line).collect()
    }

    fn text(&self, _: &str, _: Settle) -> String {
        let report = &self.report;
        let mut text = format!("{} was renamed back to {}\n", report.was_kept_as, report.database);
        if let Some(restored) = &report.restored_kept_as {
            text.push_str(&format!("  the restored database is kept as {restored}\n"));
        }
        text + &sessions_text(report.ended_sessions)
    }
}

impl TargetPlan for RestorePlan {
    fn bytes(&self) -> Option<u64> {
        Some(self.bytes)
    }

    fn text(&self) -> String {
        self.lines()
    }
}

impl RestoreReport for DatabaseRestored {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn failures(&self) -> Vec<String> {
        self.report.failed.iter().map(item_line).collect()
    }

    fn text(&self) -> String {
        database_text(&self.report)
    }

    fn summary(&self) -> String {
        let report = &self.report;
        let proof = if report.rows_verified {
            Claim::EveryDigest.words()
        } else {
            "rows not read again"
        };
        format!("{} tables, {} rows, {proof}", report.tables, report.rows)
    }
}

/// Returns a line for a statement that failed for good: the object, why, what to do.
fn item_line(item: &FailedItem) -> String {
    let fields = [&item.kind, &item.name, &item.error, &item.advice];
    let [kind, name, error, advice] = fields.map(|field| printable(field.clone()));
    format!("{kind} {name}: {error}. {advice}")
}

fn database_text(report: &postgres::RestoreReport) -> String {
    let mut text = String::new();
    if let Some(old) = &report.kept_old {
        text.push_str(&format!("  the replaced database is kept as {old}\n"));
    }
    text.push_str(&sessions_text(report.ended_sessions));
    for line in &report.powers {
        text.push_str(&format!("  the backup contains {line}\n"));
    }
    for line in &report.next {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// Says that sessions had to end for a swap.
fn sessions_text(sessions: u64) -> String {
    match sessions {
        0 => String::new(),
        1 => "  1 session of the replaced database was terminated\n".to_owned(),
        more => format!("  {more} sessions of the replaced database were terminated\n"),
    }
}
