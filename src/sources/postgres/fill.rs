//! Loads the rows and runs what comes after them, by one set of connections: an index is built as soon as its table is there, while
//! others are still loaded, so that no processor waits at the end of either.
//!
//! A worker takes whichever has the longer way behind it: rows to be sent, or an item that is ready. Items that may read more
//! than their own tables wait for the last row of all ([`super::schema::TocItem::self_contained`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::try_join_all;

use super::board::{ALL_TABLES, Board, Next};
use super::connection::Connection;
use super::load::{Loaded, TableData, Unit, check_count, cut, load};
use super::sql_streams::TocLine;
use super::sql_text::{Contents, Texts};
use super::statements::{Ended, Outcome, open_session, run_items};
use super::url::ConnectOptions;
use crate::error::{Context as _, Result};
use crate::report::SharedReporter;

/// What is filled, and who is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fill<'a> {
    pub(super) options: &'a ConnectOptions,
    pub(super) contents: &'a Contents,
    pub(super) tables: &'a [TableData],
    /// Connections.
    pub(super) parallel: usize,
    pub(super) reporter: &'a SharedReporter,
    pub(super) task: &'a str,
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
    /// Per table, its units that are not loaded yet, and the rows that are.
    tables: HashMap<usize, (usize, u64)>,
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

    /// Notes a unit's rows; returns the table's if that was its last unit, and whether it was the last of all.
    fn done(&self, table: usize, rows: u64) -> (Option<u64>, bool) {
        let mut state = self.state.lock().expect("no panic happens under this lock");
        let Some((left, sum)) = state.tables.get_mut(&table) else {
            return (None, false);
        };
        *left -= 1;
        *sum += rows;
        if *left > 0 {
            return (None, false);
        }
        let rows = *sum;
        state.tables.remove(&table);
        (Some(rows), state.tables.is_empty())
    }
}

impl Fill<'_> {
    /// Loads every table and runs the items; the first failure of a load ends it. What failed of the items is left in `ended`.
    pub(super) async fn run<'a>(self, lines: &[&'a TocLine], ended: &mut Ended<'a>) -> Result<Loaded> {
        let mut units: HashMap<usize, Vec<Unit>> = HashMap::new();
        for (at, table) in self.tables.iter().enumerate() {
            let cut = cut(at, table, self.contents)?;
            if cut.is_empty() {
                check_count(table, 0)?;
            } else {
                units.insert(at, cut);
            }
        }
        let mut loading = HashMap::new();
        if !units.is_empty() {
            let coming = |(at, table): &(usize, &TableData)| units.contains_key(at) || table.root.is_some();
            let tables = self.tables.iter().enumerate().filter(coming);
            loading.extend(tables.map(|(_, table)| (table.number, table.gate())));
            loading.insert(ALL_TABLES, ALL_TABLES);
        }
        let workers = self.parallel.max(1);
        let board = Board::new(lines, workers, &loading);
        let loads = self.loads(units, &board);
        let loaded = Loaded::default();
        let told = AtomicBool::new(false);
        let work = || self.worker(lines, &board, &loads, &loaded, &told);
        let done = try_join_all((0..workers).map(|_| work())).await?;
        ended.add_all(lines, done.into_iter().flatten().collect());
        Ok(loaded)
    }

    fn loads(&self, units: HashMap<usize, Vec<Unit>>, board: &Board) -> Loads {
        let left = units.iter().map(|(&at, cut)| (at, (cut.len(), 0))).collect();
        let mut queue: Vec<(u64, Unit)> = Vec::new();
        for (at, cut) in units {
            let Some(table) = self.tables.get(at) else { continue };
            let way = table.record.bytes.saturating_add(board.way_behind(table.gate()));
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
        lines: &[&TocLine],
        board: &Board,
        loads: &Loads,
        loaded: &Loaded,
        told: &AtomicBool,
    ) -> Result<Vec<(usize, Outcome)>> {
        let mut connection = open_session(self.options).await?;
        let mut texts = self.contents.texts();
        let mut outcomes = Vec::new();
        loop {
            let changed = board.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match board.take(lines, loads.next_way().unwrap_or(0)) {
                Next::Items(places) => {
                    let run = run_places(&mut connection, &mut texts, lines, &places).await?;
                    board.done(lines, &places);
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
                self.load(&mut connection, &unit, board, loads, loaded).await?;
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
        board: &Board,
        loads: &Loads,
        loaded: &Loaded,
    ) -> Result<()> {
        let Some(table) = self.tables.get(unit.table) else {
            return Ok(());
        };
        let rows = load(connection, self.contents, table, unit, loaded, self.reporter, self.task)
            .await
            .with_context(|| format!("load {}", table.label()))?;
        loaded.rows.fetch_add(rows, Ordering::Relaxed);
        let (whole, last) = loads.done(unit.table, rows);
        if let Some(rows) = whole {
            check_count(table, rows)?;
            if table.gate() != ALL_TABLES {
                board.loaded(table.gate());
            }
        }
        if last {
            board.loaded(ALL_TABLES);
        }
        Ok(())
    }
}

/// Runs items of the board; returns what did not simply succeed.
pub(super) async fn run_places(
    connection: &mut Connection,
    texts: &mut Texts<'_>,
    lines: &[&TocLine],
    places: &[usize],
) -> Result<Vec<(usize, Outcome)>> {
    let items: Vec<&TocLine> = places.iter().filter_map(|&at| lines.get(at).copied()).collect();
    let outcomes = run_items(connection, texts, &items).await?;
    let outcomes = places.iter().copied().zip(outcomes);
    Ok(outcomes
        .filter(|(_, outcome)| !matches!(outcome, Outcome::Done))
        .collect())
}
