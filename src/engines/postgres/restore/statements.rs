//! Runs the statements of a restore: those before the data one after another, those after it in parallel.
//!
//! In parallel, items go by [`super::scheduler`]. Many small statements in a row are one transaction: that saves the round trip and
//! the commit of each; if the server refuses it, they run one by one. What failed is tried again at the end of its phase (what it needed may exist by then), and what
//! still fails is reported, not fatal: the rows are there, and the operator can run the statement later.

use crate::engines::postgres::session::sessions::open_session;
use crate::engines::postgres::sql::quote::quote_ident;
use std::collections::{HashMap, HashSet};

use futures_util::future::try_join_all;

use super::data_phase::run_places;
use super::excuse::{Excuse, excuse, missing_role};
use super::scheduler::{Batch, Next, RestoreScheduler};
use crate::base::error::{Error, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::search_path;
use crate::engines::postgres::session::search_path::may_rely_on_it;
use crate::engines::postgres::session::sessions::open_worker;
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::guard;
use crate::engines::postgres::sql::guard::StatementScope;
use crate::engines::postgres::sql::rewrite::statements;
use crate::engines::postgres::stored::streams::TocEntry;
use crate::engines::postgres::stored::text::{Contents, Texts};
use crate::engines::postgres::wire::server_error::sqlstate;

/// A statement that failed for good.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailedItem {
    /// `INDEX`, `FK CONSTRAINT`, …
    pub kind: String,
    /// Object.
    pub name: String,
    /// Why.
    pub error: String,
    /// What to do.
    pub advice: String,
    /// Why it may be no failure.
    #[serde(skip)]
    pub(crate) excuse: Option<Excuse>,
}

impl FailedItem {
    pub(crate) fn new(line: &TocEntry, error: &Error) -> Self {
        let name = match &line.item.schema {
            Some(schema) => format!("{schema}.{}", line.item.name),
            None => line.item.name.clone(),
        };
        Self {
            kind: line.item.kind.clone(),
            name,
            error: error.chain(),
            advice: advice(error, &line.stream),
            excuse: excuse(line, error),
        }
    }
}

/// Returns what a person can do about a refused statement. Conditions: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn advice(error: &Error, stream: &str) -> String {
    let what = match sqlstate(error).unwrap_or_default() {
        "42704" | "22023" if missing_role(error).is_some() => {
            "Create the role (--create-roles), or name another by --role-map or --no-owner"
        }
        "0A000" | "58P01" | "42704" => "If an extension, library or type is missing, install it on the server",
        "42501" => {
            "The restoring role has no permission: let a superuser run it, or use --no-owner and \
                    --no-privileges"
        }
        "42883" | "42P01" | "42703" | "3F000" => {
            "Something it refers to was not found: for a function that relies on search_path, restore with \
             --search-path SCHEMA,… or set it with ALTER FUNCTION … SET search_path"
        }
        "42710" | "42P07" | "42P06" | "42723" => "It already exists and was not changed",
        code if code.starts_with("23") => "The restored rows violate it: check them, or the function it calls",
        code if code.starts_with("53") => "The server ran short of a resource: free disk or memory",
        _ => "Check the statement",
    };
    format!("{what}; then run the statement manually: `wirevault cat SNAPSHOT SOURCE {stream}` prints it.")
}

/// Runs items one after another; returns what failed for good.
pub(crate) async fn run_in_order(
    options: &ConnectOptions,
    contents: &Contents,
    lines: &[&TocEntry],
) -> Result<Vec<FailedItem>> {
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let mut connection = open_session(options).await?;
    let report = run_on(&mut connection, contents, lines).await?;
    connection.close().await;
    Ok(report)
}

/// Runs items on a connection, within its transaction if it is in one.
pub(crate) async fn run_on(
    connection: &mut Connection,
    contents: &Contents,
    lines: &[&TocEntry],
) -> Result<Vec<FailedItem>> {
    let mut texts = contents.texts();
    let mut ended = Ended::default();
    run_ordered(connection, &mut texts, lines, &mut ended).await?;
    ended
        .report
        .extend(retry(connection, contents, &mut texts, ended.failed).await?);
    Ok(ended.report)
}

/// Runs items on a connection within its transaction. Those that are only needed may be there already, and stay as they are.
/// Returns what failed for good, and the numbers of those that were there.
pub(crate) async fn run_needed(
    connection: &mut Connection,
    contents: &Contents,
    lines: &[&TocEntry],
    needed: &HashMap<u32, Option<(String, String)>>,
) -> Result<(Vec<FailedItem>, HashSet<u32>)> {
    let (mut failed, mut there) = (Vec::new(), HashSet::new());
    let mut texts = contents.texts();
    for run in lines.chunk_by(|a, b| needed.contains_key(&a.item.id) == needed.contains_key(&b.item.id)) {
        if !run.first().is_some_and(|l| needed.contains_key(&l.item.id)) {
            failed.extend(run_on(connection, contents, run).await?);
            continue;
        }
        for &line in run {
            match run_item(connection, &mut texts, line).await? {
                Outcome::Done => {}
                Outcome::Failed(error) if says_exists(&error) => {
                    there.insert(line.item.id);
                }
                Outcome::WithoutOwner(error) | Outcome::Failed(error) => failed.push(FailedItem::new(line, &error)),
            }
        }
    }
    Ok((failed, there))
}

/// Returns whether the server refused because there is such an object. Parts of text search have no code of their own for that.
fn says_exists(error: &Error) -> bool {
    matches!(sqlstate(error), Some("42710" | "42P07" | "42P06" | "42723" | "23505"))
}

/// What a first run leaves.
#[derive(Default)]
pub(crate) struct Ended<'a> {
    /// To be tried again.
    failed: Vec<(&'a TocEntry, Error)>,
    report: Vec<FailedItem>,
}

impl<'a> Ended<'a> {
    /// Takes what workers did not simply succeed with.
    pub(crate) fn add_all(&mut self, lines: &[&'a TocEntry], mut outcomes: Vec<(usize, Outcome)>) {
        outcomes.sort_by_key(|(at, _)| *at);
        for (at, outcome) in outcomes {
            if let Some(line) = lines.get(at) {
                self.add(line, outcome);
            }
        }
    }

    fn add(&mut self, line: &'a TocEntry, outcome: Outcome) {
        match outcome {
            Outcome::Done => {}
            Outcome::WithoutOwner(error) => self.report.push(FailedItem::new(line, &error)),
            Outcome::Failed(error) => self.failed.push((line, error)),
        }
    }
}

/// Runs items in their order.
async fn run_ordered<'a>(
    connection: &mut Connection,
    texts: &mut Texts<'_>,
    lines: &[&'a TocEntry],
    ended: &mut Ended<'a>,
) -> Result<()> {
    let mut rest = lines;
    while !rest.is_empty() {
        let mut batch = Batch::default();
        let count = rest.iter().take_while(|line| batch.take(line, usize::MAX)).count();
        let (items, later) = rest.split_at(count.clamp(1, rest.len()));
        rest = later;
        for (&line, outcome) in items.iter().zip(run_items(connection, texts, items).await?) {
            ended.add(line, outcome);
        }
    }
    Ok(())
}

/// How one item ended.
pub(crate) enum Outcome {
    Done,
    /// Made, but without an owner that does not exist here: reported, not tried again.
    WithoutOwner(Error),
    Failed(Error),
}

/// Runs several items as one transaction; if that is refused, one after another.
pub(crate) async fn run_items(
    connection: &mut Connection,
    texts: &mut Texts<'_>,
    lines: &[&TocEntry],
) -> Result<Vec<Outcome>> {
    if lines.len() > 1 {
        let mut all = String::new();
        for line in lines {
            all.push_str(&texts.get(line).await?);
            all.push('\n');
        }
        check_reading(connection)?;
        match execute(connection, &all).await {
            Ok(()) => return Ok(lines.iter().map(|_| Outcome::Done).collect()),
            Err(error) if connection.is_dead() => {
                let first = lines.first().map_or("", |l| l.item.name.as_str());
                return Err(error.context(format!("create {} objects from \"{first}\" on", lines.len())));
            }
            Err(_) => {}
        }
    }
    let mut outcomes = Vec::with_capacity(lines.len());
    for line in lines {
        outcomes.push(run_item(connection, texts, line).await?);
    }
    Ok(outcomes)
}

/// Runs one item. An error ends the restore: it is the backup's or the connection's, not the item's.
async fn run_item(connection: &mut Connection, texts: &mut Texts<'_>, line: &TocEntry) -> Result<Outcome> {
    let mut sql = texts.get(line).await?;
    if sql.is_empty() {
        return Ok(Outcome::Done);
    }
    let mut first: Option<Error> = None;
    loop {
        check_reading(connection)?;
        let error = match execute(connection, &sql).await {
            Ok(()) => return Ok(first.map_or(Outcome::Done, Outcome::WithoutOwner)),
            Err(error) if connection.is_dead() => {
                return Err(error.context(format!("create {} \"{}\"", line.item.kind, line.item.name)));
            }
            Err(error) => error,
        };
        // A new database has it already.
        if sqlstate(&error) == Some("42P06") && line.item.name == "public" {
            return Ok(Outcome::Done);
        }
        // The object without its owner is worth more than no object. Each turn takes a line away, so this ends.
        let without = missing_role(&error).and_then(|role| without_owner(&sql, &role));
        // What is sent has been judged, also where it was cut.
        let place = StatementScope::of_stream(&line.stream);
        match without.filter(|sql| guard::judge(sql, place).is_ok()) {
            Some(without) => sql = without,
            None => return Ok(Outcome::Failed(first.unwrap_or(error))),
        }
        first.get_or_insert(error);
    }
}

/// Executes an item's SQL; within a transaction behind a savepoint, so that its failure costs only itself.
async fn execute(connection: &mut Connection, sql: &str) -> Result<()> {
    if !connection.in_transaction() {
        return connection.execute(sql).await;
    }
    connection.execute("SAVEPOINT \"wirevault item\"").await?;
    let done = connection.execute(sql).await;
    if !connection.is_dead() {
        let end = if done.is_ok() {
            ""
        } else {
            "ROLLBACK TO SAVEPOINT \"wirevault item\"; "
        };
        connection
            .execute(&format!("{end}RELEASE SAVEPOINT \"wirevault item\""))
            .await?;
    }
    done
}

/// Ends the restore where a function of the backup has changed how the server reads statements: they were judged as they are read
/// under the settings of [`settings::PINS`], and might say something else now. The server reports both whenever they change.
fn check_reading(connection: &Connection) -> Result<()> {
    let encoding = connection.parameter("client_encoding").unwrap_or("UTF8");
    let strings = connection.parameter("standard_conforming_strings").unwrap_or("on");
    if settings::is_of_databases(encoding) && strings == "on" {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "a function of the backup has changed the session (client_encoding is \"{encoding}\", standard_conforming_strings \"{strings}\"): \
         the server might interpret the next statement differently from how it was checked"
    ))
    .with_hint(
        "If you trust the database, have its functions keep these settings (SET in CREATE FUNCTION, or set_config \
         with is_local) and back it up again. --data-only restores the rows only.",
    ))
}

/// Returns the text without the statements that give an object to a role that does not exist, if there are any. What lies within
/// strings is none: without it the rest would be another text.
fn without_owner(sql: &str, role: &str) -> Option<String> {
    let end = format!(" OWNER TO {};", quote_ident(role));
    let is_owner = |text: &&str| text.trim_start().starts_with("ALTER ") && text.trim_end().ends_with(&end);
    let ranges = statements(sql);
    let all: Vec<&str> = ranges
        .iter()
        .map(|range| sql.get(range.clone()).unwrap_or_default())
        .collect();
    let kept: Vec<&str> = all.iter().copied().filter(|text| !is_owner(text)).collect();
    (kept.len() < all.len() && !kept.is_empty()).then(|| kept.concat())
}

/// Runs failed items again as long as that helps; at last with the source's `search_path`, on which a function in an index or
/// a check may rely.
async fn retry(
    connection: &mut Connection,
    contents: &Contents,
    texts: &mut Texts<'_>,
    failed: Vec<(&TocEntry, Error)>,
) -> Result<Vec<FailedItem>> {
    let mut report = Vec::new();
    let mut still = again(connection, texts, failed, &mut report).await?;
    if let Some(path) = &contents.search_path
        && still.iter().any(|(_, error)| may_rely_on_it(error))
    {
        search_path::set(connection, path).await?;
        still = again(connection, texts, still, &mut report).await?;
        search_path::set(connection, "").await?;
    }
    report.extend(still.iter().map(|(line, error)| FailedItem::new(line, error)));
    Ok(report)
}

/// Runs failed items again as long as that helps; returns what still fails.
async fn again<'a>(
    connection: &mut Connection,
    texts: &mut Texts<'_>,
    mut failed: Vec<(&'a TocEntry, Error)>,
    report: &mut Vec<FailedItem>,
) -> Result<Vec<(&'a TocEntry, Error)>> {
    loop {
        let before = failed.len();
        let mut still = Vec::new();
        for (line, _) in failed {
            match run_item(connection, texts, line).await? {
                Outcome::Done => {}
                Outcome::WithoutOwner(error) => report.push(FailedItem::new(line, &error)),
                Outcome::Failed(error) => still.push((line, error)),
            }
        }
        failed = still;
        if failed.len() == before || failed.is_empty() {
            return Ok(failed);
        }
    }
}

/// Runs failed items again; returns what failed for good.
pub(crate) async fn retry_failed(
    options: &ConnectOptions,
    contents: &Contents,
    mut ended: Ended<'_>,
) -> Result<Vec<FailedItem>> {
    if !ended.failed.is_empty() {
        let mut connection = open_session(options).await?;
        let again = retry(&mut connection, contents, &mut contents.texts(), ended.failed).await?;
        ended.report.extend(again);
        connection.close().await;
    }
    Ok(ended.report)
}

/// Kinds that may be made in parallel before the data.
const RELATIONS: [&str; 4] = ["TABLE", "SEQUENCE", "VIEW", "MATERIALIZED VIEW"];

/// Relations in a row from which on that is worth further connections.
const LONG_RUN: usize = 500;

/// Runs what comes before the data; returns what failed for good.
///
/// Relations in long rows are made in parallel where the backup says what each needs. All else keeps its order: a view, say,
/// needs a cast that no catalog names as its need.
pub(crate) async fn run_pre_data(
    options: &ConnectOptions,
    contents: &Contents,
    lines: &[&TocEntry],
    parallel: usize,
    needs_known: bool,
) -> Result<Vec<FailedItem>> {
    let mut connection = open_session(options).await?;
    let mut texts = contents.texts();
    let mut ended = Ended::default();
    let is_relation = |l: &TocEntry| needs_known && RELATIONS.contains(&l.item.kind.as_str());
    for run in lines.chunk_by(|a, b| is_relation(a) == is_relation(b)) {
        if parallel > 1 && run.len() >= LONG_RUN && run.first().is_some_and(|l| is_relation(l)) {
            run_free(options, contents, run, parallel, &mut ended).await?;
        } else {
            run_ordered(&mut connection, &mut texts, run, &mut ended).await?;
        }
    }
    ended
        .report
        .extend(retry(&mut connection, contents, &mut texts, ended.failed).await?);
    connection.close().await;
    Ok(ended.report)
}

/// Runs every item once, as its needs and locks allow.
pub(crate) async fn run_free<'a>(
    options: &ConnectOptions,
    contents: &Contents,
    lines: &[&'a TocEntry],
    parallel: usize,
    ended: &mut Ended<'a>,
) -> Result<()> {
    let workers = parallel.clamp(1, lines.len().max(1));
    let scheduler = RestoreScheduler::new(lines, workers, &HashMap::new());
    let done = try_join_all((0..workers).map(|number| worker(options, contents, lines, &scheduler, number))).await?;
    ended.add_all(lines, done.into_iter().flatten().collect());
    Ok(())
}

/// Runs items until the board has no more; returns what did not simply succeed.
async fn worker(
    options: &ConnectOptions,
    contents: &Contents,
    lines: &[&TocEntry],
    scheduler: &RestoreScheduler,
    number: usize,
) -> Result<Vec<(usize, Outcome)>> {
    let Some(mut connection) = open_worker(options, number).await? else {
        return Ok(Vec::new());
    };
    let mut texts = contents.texts();
    let mut told = Vec::new();
    loop {
        let changed = scheduler.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        match scheduler.take(lines, 0) {
            Next::Items(places) => {
                told.extend(run_places(&mut connection, &mut texts, lines, &places).await?);
                scheduler.done(lines, &places);
            }
            Next::Wait => changed.await,
            Next::Finished => break,
        }
    }
    connection.close().await;
    Ok(told)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_owner_that_is_missing_is_taken_out_line_by_line() {
        let sql = "CREATE TABLE \"a\" ();\nALTER TABLE \"a\" OWNER TO \"gone\";\n";
        assert_eq!(without_owner(sql, "gone").unwrap(), "CREATE TABLE \"a\" ();\n");
        let within = "COMMENT ON TABLE a IS 'x\nALTER TABLE \"a\" OWNER TO \"gone\";\n';\n";
        assert_eq!(without_owner(within, "gone"), None);
        assert_eq!(without_owner(sql, "other"), None);
    }
}
