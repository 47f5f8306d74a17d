//! Loads the rows and runs what comes after them, by one set of connections: an index is built as soon as its table is there, while
//! others are still loaded, so that no processor waits at the end of either.
//!
//! A worker takes whichever has the longer way behind it: rows to be sent, or an item that is ready. Items that may read more
//! than their own tables wait for the last row of all ([`crate::engines::postgres::schema::TocItem::self_contained`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::try_join_all;

use super::fk_order::by_foreign_keys;
use super::keep_going::{costs_only_its_table, empty, failed_rows, load_rows};
use super::load::{Loaded, TableData, Unit, check_count, cut, load_within};
use super::scheduler::{ALL_TABLES, Next, RestoreScheduler};
use super::statements::{Ended, Outcome, run_items};
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::base::report::SharedReporter;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::sessions::open_session;
use crate::engines::postgres::session::sessions::open_worker;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::stored::streams::TocEntry;
use crate::engines::postgres::stored::text::{Contents, Texts};

/// What is filled, and who is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DataPhase<'a> {
    pub(crate) options: &'a ConnectOptions,
    pub(crate) contents: &'a Contents,
    pub(crate) tables: &'a [TableData],
    /// Connections.
    pub(crate) parallel: usize,
    /// Whether a table that cannot be loaded leaves the others alone.
    pub(crate) keep_going: bool,
    pub(crate) reporter: &'a SharedReporter,
    pub(crate) task: &'a str,
}

/// Rows that wait to be sent, and what is still on its way.
#[derive(Debug)]
struct Loads {
    /// The longest way first; the units of one table in order.
    queue: Mutex<VecDeque<(u64, Unit)>>,
    state: Mutex<LoadState>,
}

#[derive(Debug, Default)]
struct LoadState {
    tables: HashMap<usize, TableState>,
}

/// How far a table is.
#[derive(Debug, Default)]
struct TableState {
    /// Units that are not loaded yet.
    left: usize,
    /// Rows that are.
    rows: u64,
    /// Why it is given up.
    failed: Option<Error>,
}

impl Loads {
    fn next_way(&self) -> Option<u64> {
        let queue = self.queue.lock().expect("no panic happens under this lock");
        queue.front().map(|(way, _)| *way)
    }

    fn take(&self) -> Option<Unit> {
        let mut queue = self.queue.lock().expect("no panic happens under this lock");
        queue.pop_front().map(|(_, unit)| unit)
    }

    /// Returns whether a unit of the table has failed: the others need not be sent.
    fn is_given_up(&self, table: usize) -> bool {
        let state = self.state.lock().expect("no panic happens under this lock");
        state.tables.get(&table).is_some_and(|t| t.failed.is_some())
    }

    /// Notes the rows of a unit, or why they are not there; returns the table's end if that was its last unit, and whether it
    /// was the last of all.
    fn done(&self, table: usize, rows: Result<u64>) -> (Option<TableState>, bool) {
        let mut state = self.state.lock().expect("no panic happens under this lock");
        let Some(of_table) = state.tables.get_mut(&table) else {
            return (None, false);
        };
        of_table.left -= 1;
        match rows {
            Ok(rows) => of_table.rows += rows,
            Err(error) => {
                of_table.failed.get_or_insert(error);
            }
        }
        if of_table.left > 0 {
            return (None, false);
        }
        let ended = state.tables.remove(&table);
        (ended, state.tables.is_empty())
    }
}

impl DataPhase<'_> {
    /// Loads every table and runs the items; the first failure of a load ends it, unless it is to keep going. What failed of the
    /// items is left in `ended`.
    pub(crate) async fn run<'a>(self, lines: &[&'a TocEntry], ended: &mut Ended<'a>) -> Result<Loaded> {
        let loaded = Loaded::default();
        self.configuration(&loaded).await?;
        let mut units: HashMap<usize, Vec<Unit>> = HashMap::new();
        for (at, table) in self.tables.iter().enumerate().filter(|(_, t)| t.filter.is_none()) {
            let units_of_it = cut(at, table, self.contents).and_then(|cut| {
                if cut.is_empty() {
                    check_count(table, 0)?;
                }
                Ok(cut)
            });
            match units_of_it {
                Ok(cut) if cut.is_empty() => {}
                Ok(cut) => {
                    units.insert(at, cut);
                }
                Err(error) if self.keep_going && error.kind() == ErrorKind::Corrupt => {
                    loaded.fail(at, failed_rows(table, &error, 0));
                }
                Err(error) => return Err(error),
            }
        }
        let mut loading = HashMap::new();
        if !units.is_empty() {
            let coming = |(at, table): &(usize, &TableData)| units.contains_key(at) || table.root.is_some();
            let tables = self
                .tables
                .iter()
                .enumerate()
                .filter(|(_, t)| t.filter.is_none())
                .filter(coming);
            loading.extend(tables.map(|(_, table)| (table.number, table.gate())));
            loading.insert(ALL_TABLES, ALL_TABLES);
        }
        let workers = self.parallel.max(1);
        let scheduler = RestoreScheduler::new(lines, workers, &loading);
        let loads = self.loads(units, &scheduler);
        let told = AtomicBool::new(false);
        let work = |number| self.worker(lines, &scheduler, &loads, (&loaded, &told), number);
        let done = try_join_all((0..workers).map(work)).await?;
        ended.add_all(lines, done.into_iter().flatten().collect());
        Ok(loaded)
    }

    /// Loads the configuration tables of extensions first, one after another: their foreign keys exist already.
    async fn configuration(&self, loaded: &Loaded) -> Result<()> {
        let places = self.tables.iter().enumerate().filter(|(_, t)| t.filter.is_some());
        let places: HashMap<String, usize> = places.map(|(at, t)| (t.qualified(), at)).collect();
        let mut tables: Vec<TableData> = self.tables.iter().filter(|t| t.filter.is_some()).cloned().collect();
        if tables.is_empty() {
            return Ok(());
        }
        let mut connection = open_session(self.options).await?;
        by_foreign_keys(&mut connection, &mut tables).await?;
        connection.execute("BEGIN; SET CONSTRAINTS ALL DEFERRED").await?;
        for table in &tables {
            match load_within(&mut connection, self.contents, table, self.reporter, self.task).await {
                Ok(rows) => {
                    loaded.rows.fetch_add(rows, Ordering::Relaxed);
                    loaded.bytes.fetch_add(table.record.bytes, Ordering::Relaxed);
                }
                Err(error) if self.keep_going && costs_only_its_table(&error, &connection) => {
                    let at = places.get(&table.qualified()).copied().unwrap_or(usize::MAX);
                    loaded.fail(at, failed_rows(table, &error, 0));
                }
                Err(error) => return Err(error),
            }
        }
        connection
            .execute("COMMIT")
            .await
            .context("commit the configuration tables of extensions")?;
        connection.close().await;
        Ok(())
    }

    fn loads(&self, units: HashMap<usize, Vec<Unit>>, scheduler: &RestoreScheduler) -> Loads {
        let state = |cut: &Vec<Unit>| TableState {
            left: cut.len(),
            ..TableState::default()
        };
        let left = units.iter().map(|(&at, cut)| (at, state(cut))).collect();
        let mut queue: Vec<(u64, Unit)> = Vec::new();
        for (at, cut) in units {
            let Some(table) = self.tables.get(at) else { continue };
            let way = table.record.bytes.saturating_add(scheduler.way_behind(table.gate()));
            queue.extend(cut.into_iter().map(|unit| (way, unit)));
        }
        queue.sort_by_key(|(way, unit)| (std::cmp::Reverse(*way), unit.table, unit.number));
        Loads {
            queue: Mutex::new(queue.into()),
            state: Mutex::new(LoadState { tables: left }),
        }
    }

    async fn worker(
        &self,
        lines: &[&TocEntry],
        scheduler: &RestoreScheduler,
        loads: &Loads,
        (loaded, told): (&Loaded, &AtomicBool),
        number: usize,
    ) -> Result<Vec<(usize, Outcome)>> {
        let Some(mut connection) = open_worker(self.options, number).await? else {
            return Ok(Vec::new());
        };
        let mut texts = self.contents.texts();
        let mut outcomes = Vec::new();
        loop {
            let changed = scheduler.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match scheduler.take(lines, loads.next_way().unwrap_or(0)) {
                Next::Items(places) => {
                    let run = run_places(&mut connection, &mut texts, lines, &places).await?;
                    scheduler.done(lines, &places);
                    outcomes.extend(run);
                    continue;
                }
                Next::Wait | Next::Finished if loads.next_way().is_some() => {}
                Next::Wait => {
                    changed.await;
                    continue;
                }
                Next::Finished => break,
            }
            if let Some(unit) = loads.take() {
                self.load(&mut connection, &unit, scheduler, loads, loaded).await?;
                if loads.next_way().is_none() && !told.swap(true, Ordering::Relaxed) {
                    self.reporter.phase(self.task, "indexes and constraints");
                }
            }
        }
        connection.close().await;
        Ok(outcomes)
    }

    async fn load(
        &self,
        connection: &mut Connection,
        unit: &Unit,
        scheduler: &RestoreScheduler,
        loads: &Loads,
        loaded: &Loaded,
    ) -> Result<()> {
        let Some(table) = self.tables.get(unit.table) else {
            return Ok(());
        };
        let rows = if loads.is_given_up(unit.table) {
            Ok(0)
        } else {
            let teller = (self.reporter, self.task);
            let rows = load_rows(connection, self.contents, table, unit, loaded, teller).await;
            rows.with_context(|| format!("load {}", table.label()))
        };
        let rows = match rows {
            Err(error) if !(self.keep_going && costs_only_its_table(&error, connection)) => return Err(error),
            rows => rows,
        };
        let (whole, last) = loads.done(unit.table, rows);
        if let Some(state) = whole {
            self.end_table(connection, unit.table, state, loaded).await?;
            if table.gate() != ALL_TABLES {
                scheduler.loaded(table.gate());
            }
        }
        if last {
            scheduler.loaded(ALL_TABLES);
        }
        Ok(())
    }
}

impl DataPhase<'_> {
    /// Counts a table whose last unit is loaded; or empties it, and names it.
    async fn end_table(
        &self,
        connection: &mut Connection,
        at: usize,
        state: TableState,
        loaded: &Loaded,
    ) -> Result<()> {
        let Some(table) = self.tables.get(at) else {
            return Ok(());
        };
        let (error, rows) = match state.failed {
            Some(error) => (error, empty(connection, table, state.rows).await?),
            None => match check_count(table, state.rows) {
                Ok(()) => {
                    loaded.rows.fetch_add(state.rows, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) if self.keep_going => (error, state.rows),
                Err(error) => return Err(error),
            },
        };
        loaded.rows.fetch_add(rows, Ordering::Relaxed);
        loaded.fail(at, failed_rows(table, &error, rows));
        Ok(())
    }
}

/// Runs items of the board; returns what did not simply succeed.
pub(crate) async fn run_places(
    connection: &mut Connection,
    texts: &mut Texts<'_>,
    lines: &[&TocEntry],
    places: &[usize],
) -> Result<Vec<(usize, Outcome)>> {
    let items: Vec<&TocEntry> = places.iter().filter_map(|&at| lines.get(at).copied()).collect();
    let outcomes = run_items(connection, texts, &items).await?;
    let outcomes = places.iter().copied().zip(outcomes);
    Ok(outcomes
        .filter(|(_, outcome)| !matches!(outcome, Outcome::Done))
        .collect())
}
