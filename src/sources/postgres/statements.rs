//! Runs the statements of a restore: those before the data one after another, those after it in parallel.
//!
//! After the data, an item starts when everything it depends on was run and no running item locks one of its tables;
//! the heaviest first. What failed is tried again at the end of its phase (what it needed may exist by then), and what
//! still fails is reported, not fatal: the rows are there, and the operator can run the statement later.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Mutex;

use futures_util::future::try_join_all;
use tokio::sync::Notify;

use super::connection::Connection;
use super::server_error::{server_error, sqlstate};
use super::sql_streams::TocLine;
use super::sql_text::{Contents, Texts};
use super::url::ConnectOptions;
use crate::error::{Context as _, Error, Result};

/// A statement that failed for good.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FailedItem {
    /// `INDEX`, `FK CONSTRAINT`, …
    pub kind: String,
    /// Object.
    pub name: String,
    /// Why.
    pub error: String,
    /// What to do.
    pub advice: String,
}

impl FailedItem {
    fn new(line: &TocLine, error: &Error) -> Self {
        let name = match &line.item.schema {
            Some(schema) => format!("{schema}.{}", line.item.name),
            None => line.item.name.clone(),
        };
        Self {
            kind: line.item.kind.clone(),
            name,
            error: error.chain(),
            advice: advice(error, &line.stream),
        }
    }
}

/// Returns what a person can do about a refused statement. Conditions: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn advice(error: &Error, stream: &str) -> String {
    let what = match sqlstate(error).unwrap_or_default() {
        "42704" if missing_role(error).is_some() => {
            "Create the role (--create-roles), or name another by --role-map or --no-owner"
        }
        "0A000" | "58P01" | "42704" => "If an extension, library or type is missing, install it on the server",
        "42501" => "The restoring role may not do this: let a superuser run it, or use --no-owner and --no-privileges",
        "42883" | "42P01" | "42703" | "3F000" => {
            "What it names is not found: a function that relies on search_path needs ALTER FUNCTION … SET search_path"
        }
        "42710" | "42P07" | "42P06" | "42723" => "It exists already, and was left as it is",
        code if code.starts_with("23") => "The rows violate it here: look at them, or at the function that it calls",
        code if code.starts_with("53") => "The server ran short of a resource: free disk or memory",
        _ => "Look at the statement",
    };
    format!("{what}; then run the statement by hand: `wirevault cat SNAPSHOT SOURCE {stream}` prints it.")
}

/// Session settings of everything that writes.
pub(super) const RESTORE_SESSION: &str = "SET client_encoding = 'UTF8'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; \
    SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET standard_conforming_strings = on; \
    SET check_function_bodies = off; SET xmloption = content; SET client_min_messages = warning; SET row_security = off; \
    SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET default_transaction_read_only = off; SET synchronous_commit = off; \
    SELECT pg_catalog.set_config('search_path', '', false); \
    SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name IN ('transaction_timeout', 'idle_session_timeout')";

/// Opens a session that writes.
pub(super) async fn open_session(options: &ConnectOptions) -> Result<Connection> {
    let mut connection = Connection::open(options).await?;
    connection
        .execute(RESTORE_SESSION)
        .await
        .context("set up the session")?;
    Ok(connection)
}

/// Runs items one after another; returns what failed for good.
pub(super) async fn run_in_order(
    options: &ConnectOptions,
    contents: &Contents,
    lines: &[&TocLine],
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
pub(super) async fn run_on(
    connection: &mut Connection,
    contents: &Contents,
    lines: &[&TocLine],
) -> Result<Vec<FailedItem>> {
    let mut texts = contents.texts();
    let (mut failed, mut report) = (Vec::new(), Vec::new());
    for &line in lines {
        match run_item(connection, &mut texts, line).await? {
            Outcome::Done => {}
            Outcome::WithoutOwner(error) => report.push(FailedItem::new(line, &error)),
            Outcome::Failed(error) => failed.push((line, error)),
        }
    }
    report.extend(retry(connection, &mut texts, failed).await?);
    Ok(report)
}

/// How one item ended.
enum Outcome {
    Done,
    /// Made, but without an owner that does not exist here: reported, not tried again.
    WithoutOwner(Error),
    Failed(Error),
}

/// Runs one item. An error ends the restore: it is the backup's or the connection's, not the item's.
async fn run_item(connection: &mut Connection, texts: &mut Texts<'_>, line: &TocLine) -> Result<Outcome> {
    let mut sql = texts.get(line).await?;
    if sql.is_empty() {
        return Ok(Outcome::Done);
    }
    let mut first: Option<Error> = None;
    loop {
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
        match missing_role(&error).and_then(|role| without_owner(&sql, &role)) {
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

/// Returns the name in `role "x" does not exist`.
fn missing_role(error: &Error) -> Option<String> {
    let refusal = server_error(error).filter(|e| e.code == "42704")?;
    let (_, rest) = refusal.message.split_once("role \"")?;
    rest.split_once("\" does not exist").map(|(name, _)| name.to_owned())
}

/// Returns the statements without the lines that give an object to a role that does not exist, if there are any.
fn without_owner(sql: &str, role: &str) -> Option<String> {
    let end = format!(" OWNER TO {};", super::schema::quote_ident(role));
    let is_owner = |line: &&str| line.starts_with("ALTER ") && line.ends_with(&end);
    let kept: Vec<&str> = sql.lines().filter(|line| !is_owner(line)).collect();
    (kept.len() < sql.lines().count() && !kept.is_empty()).then(|| kept.join("\n"))
}

/// Runs failed items again as long as that helps.
async fn retry(
    connection: &mut Connection,
    texts: &mut Texts<'_>,
    mut failed: Vec<(&TocLine, Error)>,
) -> Result<Vec<FailedItem>> {
    let mut report = Vec::new();
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
            break;
        }
    }
    report.extend(failed.iter().map(|(line, error)| FailedItem::new(line, error)));
    Ok(report)
}

/// Runs items in parallel as dependencies and locks allow; returns what failed for good.
pub(super) async fn run_parallel(
    options: &ConnectOptions,
    contents: &Contents,
    lines: &[&TocLine],
    parallel: usize,
) -> Result<Vec<FailedItem>> {
    let board = Board::new(lines);
    let workers = (0..parallel.clamp(1, lines.len().max(1))).map(|_| worker(options, contents, lines, &board));
    try_join_all(workers).await?;
    let mut failed = board.into_failed();
    failed.sort_by_key(|(at, _)| *at);
    let failed: Vec<(&TocLine, Error)> = failed
        .into_iter()
        .filter_map(|(at, e)| Some((*lines.get(at)?, e)))
        .collect();
    if failed.is_empty() {
        return Ok(Vec::new());
    }
    let mut connection = open_session(options).await?;
    let report = retry(&mut connection, &mut contents.texts(), failed).await?;
    connection.close().await;
    Ok(report)
}

async fn worker(options: &ConnectOptions, contents: &Contents, lines: &[&TocLine], board: &Board) -> Result<()> {
    let mut connection = open_session(options).await?;
    let mut texts = contents.texts();
    loop {
        let changed = board.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        match board.take(lines) {
            Next::Item(at) => {
                let Some(line) = lines.get(at) else { continue };
                let error = match run_item(&mut connection, &mut texts, line).await? {
                    Outcome::Done => None,
                    Outcome::WithoutOwner(error) | Outcome::Failed(error) => Some(error),
                };
                board.done(at, line, error);
            }
            Next::Wait => changed.await,
            Next::Finished => break,
        }
    }
    connection.close().await;
    Ok(())
}

enum Next {
    Item(usize),
    Wait,
    Finished,
}

/// Which items wait, are ready, run.
#[derive(Debug)]
struct Board {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// (weight, reversed position): the heaviest first, else in order.
    ready: BinaryHeap<(u64, std::cmp::Reverse<usize>)>,
    /// Per item, how many it still waits for.
    waits: Vec<usize>,
    /// Per item, who waits for it.
    wakes: Vec<Vec<usize>>,
    /// Per item its weight.
    weights: Vec<u64>,
    locked: HashSet<u32>,
    left: usize,
    running: usize,
    failed: Vec<(usize, Error)>,
}

impl Board {
    fn new(lines: &[&TocLine]) -> Self {
        let places: HashMap<u32, usize> = lines.iter().enumerate().map(|(at, l)| (l.item.id, at)).collect();
        let mut state = State {
            waits: vec![0; lines.len()],
            wakes: vec![Vec::new(); lines.len()],
            weights: lines.iter().map(|l| l.item.weight).collect(),
            left: lines.len(),
            ..State::default()
        };
        for (at, line) in lines.iter().enumerate() {
            // Only earlier items count, so that a damaged table of contents cannot make a loop.
            for &needed in line
                .item
                .depends_on
                .iter()
                .filter_map(|id| places.get(id))
                .filter(|&&n| n < at)
            {
                if let (Some(wakes), Some(waits)) = (state.wakes.get_mut(needed), state.waits.get_mut(at)) {
                    wakes.push(at);
                    *waits += 1;
                }
            }
            if state.waits.get(at) == Some(&0) {
                state.ready.push((line.item.weight, std::cmp::Reverse(at)));
            }
        }
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    fn take(&self, lines: &[&TocLine]) -> Next {
        let mut state = self.state.lock().expect("no panic happens under this lock");
        if state.left == 0 {
            return Next::Finished;
        }
        let mut aside = Vec::new();
        let mut found = None;
        while let Some(candidate) = state.ready.pop() {
            let at = candidate.1.0;
            let locks = lines.get(at).map(|l| l.item.locks.as_slice()).unwrap_or_default();
            if locks.iter().any(|t| state.locked.contains(t)) {
                aside.push(candidate);
                continue;
            }
            state.locked.extend(locks);
            found = Some(at);
            break;
        }
        state.ready.extend(aside);
        match found {
            Some(at) => {
                state.running += 1;
                Next::Item(at)
            }
            None => Next::Wait,
        }
    }

    fn done(&self, at: usize, line: &TocLine, error: Option<Error>) {
        let mut state = self.state.lock().expect("no panic happens under this lock");
        state.running -= 1;
        state.left -= 1;
        for table in &line.item.locks {
            state.locked.remove(table);
        }
        if let Some(error) = error {
            state.failed.push((at, error));
        }
        let woken = state.wakes.get_mut(at).map(std::mem::take).unwrap_or_default();
        for next in woken {
            let weight = state.weights.get(next).copied().unwrap_or(0);
            if let Some(waits) = state.waits.get_mut(next) {
                *waits -= 1;
                if *waits == 0 {
                    state.ready.push((weight, std::cmp::Reverse(next)));
                }
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn into_failed(self) -> Vec<(usize, Error)> {
        self.state
            .into_inner()
            .expect("no panic happens under this lock")
            .failed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::schema::{Section, TocItem};
    use super::*;

    fn line(id: u32, depends_on: Vec<u32>, locks: Vec<u32>, weight: u64) -> TocLine {
        let item = TocItem {
            id,
            section: Section::PostData,
            kind: "INDEX".into(),
            schema: None,
            name: id.to_string(),
            depends_on,
            locks,
            weight,
            sql_bytes: 0,
        };
        TocLine {
            stream: "post-data.sql".into(),
            offset: 0,
            item,
        }
    }

    #[test]
    fn items_wait_for_what_they_need_and_for_locked_tables() {
        let items = [
            line(10, vec![], vec![1], 5),
            line(11, vec![10], vec![2], 0),
            line(12, vec![99], vec![1], 9),
            line(13, vec![], vec![3], 1),
        ];
        let lines: Vec<&TocLine> = items.iter().collect();
        let board = Board::new(&lines);
        let take = |board: &Board| match board.take(&lines) {
            Next::Item(at) => Some(at),
            _ => None,
        };
        assert_eq!(
            take(&board),
            Some(2),
            "the heaviest first; what lies in earlier sections is there"
        );
        assert_eq!(take(&board), Some(3), "item 0 waits for the lock");
        assert_eq!(take(&board), None);
        board.done(2, lines[2], None);
        assert_eq!(take(&board), Some(0));
        board.done(3, lines[3], None);
        assert_eq!(take(&board), None);
        board.done(0, lines[0], None);
        assert_eq!(take(&board), Some(1));
        board.done(1, lines[1], None);
        assert!(matches!(board.take(&lines), Next::Finished));
    }

    #[test]
    fn an_owner_that_is_missing_is_taken_out_line_by_line() {
        let sql = "CREATE TABLE \"a\" ();\nALTER TABLE \"a\" OWNER TO \"gone\";\n";
        assert_eq!(without_owner(sql, "gone").unwrap(), "CREATE TABLE \"a\" ();");
        assert_eq!(without_owner(sql, "other"), None);
    }
}
