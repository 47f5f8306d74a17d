//! Which items of a restore wait, are ready, run: an item starts when what it depends on was run, the rows that it reads are there,
//! and no running item is in the way of its locks; first the one with the longest way to the end behind it (by the weights of
//! what waits for it). Light items are handed out several at a time, to be run as one transaction.
//!
//! Rights wait for everything that is made, refreshes of materialized views for the rights, and event triggers for all else: no
//! catalog names these needs.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Mutex;

use tokio::sync::Notify;

use crate::engines::postgres::stored::streams::TocEntry;

/// Items that run as one transaction, at most: each holds some locks until the end.
const BATCH_ITEMS: usize = 64;

/// Text of the items that run as one transaction, in bytes.
const BATCH_BYTES: u64 = 256 * 1024;

/// Bytes of rows up to which an item is light.
const LIGHT_BYTES: u64 = 1 << 20;

/// What may run in one transaction with its like. Everything else runs alone, as an operator would run it.
const BATCHED: [&str; 20] = [
    "TABLE",
    "SEQUENCE",
    "VIEW",
    "FUNCTION",
    "TYPE",
    "DOMAIN",
    "DEFAULT",
    "TABLE ATTACH",
    "SEQUENCE SET",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "NOT NULL CONSTRAINT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "TRIGGER",
    "RULE",
    "POLICY",
    "ROW SECURITY",
    "ACL",
];

/// Passes of a restore.
const PASSES: usize = 5;

/// Returns the pass that items of a kind belong to; one begins when the one before has ended.
pub(crate) fn pass(kind: &str) -> usize {
    match kind {
        "ACL" | "DEFAULT ACL" | "LARGE OBJECT ACL" | "SECURITY LABEL" => 1,
        "MATERIALIZED VIEW DATA" => 2,
        kind if kind.starts_with("DATABASE") => 3,
        "EVENT TRIGGER" => 4,
        _ => 0,
    }
}

/// Gathers items for one transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    items: usize,
    bytes: u64,
}

impl Batch {
    /// Takes the item, unless there is no room for it beside those it has. The first one always fits.
    pub(crate) fn take(&mut self, line: &TocEntry, limit: usize) -> bool {
        let item = &line.item;
        let light = item.weight <= LIGHT_BYTES && BATCHED.contains(&item.kind.as_str());
        let room = self.items < limit.min(BATCH_ITEMS) && self.bytes + item.sql_bytes <= BATCH_BYTES;
        if self.items > 0 && !(light && room) {
            return false;
        }
        self.items += 1;
        // Behind an item that runs alone there is no room.
        self.bytes = if light {
            self.bytes + item.sql_bytes
        } else {
            u64::MAX / 2
        };
        true
    }
}

/// What a worker does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Run these items, and tell [`RestoreScheduler::done`].
    Items(Vec<usize>),
    Wait,
    Finished,
}

/// The items and their states.
#[derive(Debug)]
pub(crate) struct RestoreScheduler {
    state: Mutex<State>,
    /// Per item, its own weight and that of the heaviest chain that waits for it.
    ways: Vec<u64>,
    workers: usize,
    pub(crate) changed: Notify,
}

/// The number under which items wait for the rows of all tables: no table has it.
pub(crate) const ALL_TABLES: u32 = 0;

/// Returns the tables whose rows an item waits for.
fn tables_needed(line: &TocEntry, loading: &HashMap<u32, u32>) -> Vec<u32> {
    let item = &line.item;
    if loading.is_empty() {
        return Vec::new();
    }
    if !item.self_contained {
        return vec![ALL_TABLES];
    }
    let touched = item.locks.iter().chain(&item.shares);
    let needed: HashSet<u32> = touched.filter_map(|t| loading.get(t)).copied().collect();
    needed.into_iter().collect()
}

#[derive(Debug, Default)]
struct State {
    /// (way, reversed position): the longest first, else in order.
    ready: BinaryHeap<(u64, std::cmp::Reverse<usize>)>,
    /// Per item, how many it still waits for.
    waits: Vec<usize>,
    /// Per item, who waits for it.
    wakes: Vec<Vec<usize>>,
    /// Per table that is being loaded, who waits for its rows; under 0, who waits for those of all tables.
    loads: HashMap<u32, Vec<usize>>,
    /// Tables that running items lock, and that they share: how often.
    locked: HashMap<u32, usize>,
    shared: HashMap<u32, usize>,
    left: usize,
    /// Per item its pass, and per pass how many items have not ended.
    passes: Vec<usize>,
    left_in: [usize; PASSES],
    /// Ready items of passes that have not begun.
    held: Vec<usize>,
}

impl State {
    /// Something that these items waited for is there.
    fn wake(&mut self, items: &[usize], ways: &[u64]) {
        for &at in items {
            if let Some(waits) = self.waits.get_mut(at) {
                *waits -= 1;
                if *waits == 0 {
                    self.held.push(at);
                }
            }
        }
        self.begin(ways);
    }

    /// Makes ready what waits for nothing but its pass, if that has begun.
    fn begin(&mut self, ways: &[u64]) {
        let current = self.left_in.iter().position(|&left| left > 0).unwrap_or(PASSES);
        let passes = &self.passes;
        let ready = &mut self.ready;
        self.held.retain(|&at| {
            let begun = passes.get(at).is_none_or(|&pass| pass <= current);
            if begun {
                ready.push((ways.get(at).copied().unwrap_or(0), std::cmp::Reverse(at)));
            }
            !begun
        });
    }

    /// Returns per item its weight and that of the heaviest chain behind it. Whoever waits comes later.
    fn ways(&self, lines: &[&TocEntry]) -> Vec<u64> {
        let mut ways: Vec<u64> = lines.iter().map(|l| l.item.weight).collect();
        for (at, wakes) in self.wakes.iter().enumerate().rev() {
            let behind = wakes.iter().filter_map(|&w| ways.get(w)).max().copied().unwrap_or(0);
            if let Some(way) = ways.get_mut(at) {
                *way = way.saturating_add(behind);
            }
        }
        ways
    }

    fn is_in_the_way(&self, line: &TocEntry) -> bool {
        let item = &line.item;
        let taken = |map: &HashMap<u32, usize>, table| map.contains_key(table);
        item.locks
            .iter()
            .any(|t| taken(&self.locked, t) || taken(&self.shared, t))
            || item.shares.iter().any(|t| taken(&self.locked, t))
    }

    fn hold(&mut self, line: &TocEntry) {
        for (map, tables) in [
            (&mut self.locked, &line.item.locks),
            (&mut self.shared, &line.item.shares),
        ] {
            for &table in tables {
                *map.entry(table).or_default() += 1;
            }
        }
    }

    fn let_go(&mut self, line: &TocEntry) {
        for (map, tables) in [
            (&mut self.locked, &line.item.locks),
            (&mut self.shared, &line.item.shares),
        ] {
            for table in tables {
                if let Some(count) = map.get_mut(table) {
                    *count -= 1;
                    if *count == 0 {
                        map.remove(table);
                    }
                }
            }
        }
    }
}

impl RestoreScheduler {
    /// Makes the scheduler. `loading` are the tables whose rows come meanwhile, each with the number that [`RestoreScheduler::loaded`] will tell.
    pub(crate) fn new(lines: &[&TocEntry], workers: usize, loading: &HashMap<u32, u32>) -> Self {
        let places: HashMap<u32, usize> = lines.iter().enumerate().map(|(at, l)| (l.item.id, at)).collect();
        let mut state = State {
            waits: vec![0; lines.len()],
            wakes: vec![Vec::new(); lines.len()],
            left: lines.len(),
            passes: lines.iter().map(|l| pass(&l.item.kind)).collect(),
            ..State::default()
        };
        for &pass in &state.passes {
            if let Some(left) = state.left_in.get_mut(pass) {
                *left += 1;
            }
        }
        let mut rights: HashMap<(Option<&str>, &str), usize> = HashMap::new();
        for (at, line) in lines.iter().enumerate() {
            // Only earlier items count, so that a damaged table of contents cannot make a loop.
            let needed = line.item.depends_on.iter().filter_map(|id| places.get(id));
            let own = pass(&line.item.kind);
            let earlier = |n: &usize| *n < at && state.passes.get(*n).is_some_and(|&pass| pass <= own);
            let mut needed: HashSet<usize> = needed.copied().filter(earlier).collect();
            // Older backups hold several items for the rights to one object: what the first takes, the next may give again.
            if line.item.kind == "ACL" {
                let object = (line.item.schema.as_deref(), line.item.name.as_str());
                needed.extend(rights.insert(object, at));
            }
            for needed in needed {
                if let (Some(wakes), Some(waits)) = (state.wakes.get_mut(needed), state.waits.get_mut(at)) {
                    wakes.push(at);
                    *waits += 1;
                }
            }
            for table in tables_needed(line, loading) {
                state.loads.entry(table).or_default().push(at);
                if let Some(waits) = state.waits.get_mut(at) {
                    *waits += 1;
                }
            }
        }
        let ways = state.ways(lines);
        let free = (0..lines.len()).filter(|&at| state.waits.get(at) == Some(&0));
        state.held = free.collect();
        state.begin(&ways);
        Self {
            state: Mutex::new(state),
            ways,
            workers: workers.max(1),
            changed: Notify::new(),
        }
    }

    /// Returns the longest way of what waits for a table's rows alone.
    pub(crate) fn way_behind(&self, table: u32) -> u64 {
        let state = self.state.lock().expect("no panic happens under this lock");
        let waiting = state.loads.get(&table).filter(|_| table != ALL_TABLES);
        let ways = waiting.into_iter().flatten().filter_map(|&at| self.ways.get(at));
        ways.copied().max().unwrap_or(0)
    }

    /// Tells that the rows of a table are there.
    pub(crate) fn loaded(&self, table: u32) {
        let mut state = self.state.lock().expect("no panic happens under this lock");
        let woken = state.loads.remove(&table).unwrap_or_default();
        state.wake(&woken, &self.ways);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Gives out what is next, if its way is at least so long.
    pub(crate) fn take(&self, lines: &[&TocEntry], at_least: u64) -> Next {
        let mut state = self.state.lock().expect("no panic happens under this lock");
        if state.left == 0 {
            return Next::Finished;
        }
        // Everybody has several turns, so that nobody waits long for the last one.
        let limit = (state.ready.len() / (4 * self.workers)).max(1);
        let (mut aside, mut found) = (Vec::new(), Vec::new());
        let mut batch = Batch::default();
        while let Some(candidate) = state.ready.pop() {
            let at = candidate.1.0;
            if found.is_empty() && candidate.0 < at_least {
                aside.push(candidate);
                break;
            }
            let Some(line) = lines.get(at) else { continue };
            // What is in the way of each other within a batch is no harm: it runs one after another.
            if state.is_in_the_way(line) {
                aside.push(candidate);
            } else if batch.take(line, limit) {
                found.push(at);
            } else {
                aside.push(candidate);
                break;
            }
        }
        state.ready.extend(aside);
        for line in found.iter().filter_map(|&at| lines.get(at)) {
            state.hold(line);
        }
        if found.is_empty() {
            Next::Wait
        } else {
            Next::Items(found)
        }
    }

    pub(crate) fn done(&self, lines: &[&TocEntry], ended: &[usize]) {
        let mut state = self.state.lock().expect("no panic happens under this lock");
        for &at in ended {
            state.left -= 1;
            let pass = state.passes.get(at).copied().unwrap_or(0);
            if let Some(left) = state.left_in.get_mut(pass) {
                *left -= 1;
            }
            if let Some(line) = lines.get(at) {
                state.let_go(line);
            }
            let woken = state.wakes.get_mut(at).map(std::mem::take).unwrap_or_default();
            state.wake(&woken, &self.ways);
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::engines::postgres::schema::{Section, TocItem};

    fn line(id: u32, depends_on: Vec<u32>, locks: Vec<u32>, weight: u64) -> TocEntry {
        let item = TocItem {
            depends_on,
            locks,
            weight,
            ..TocItem::new(id, Section::PostData, "INDEX", id.to_string())
        };
        TocEntry {
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
        let lines: Vec<&TocEntry> = items.iter().collect();
        let scheduler = RestoreScheduler::new(&lines, 1, &HashMap::new());
        let take = |scheduler: &RestoreScheduler| match scheduler.take(&lines, 0) {
            Next::Items(at) => Some(at[0]),
            _ => None,
        };
        assert_eq!(
            take(&scheduler),
            Some(2),
            "the heaviest first; what lies in earlier sections is there"
        );
        assert_eq!(take(&scheduler), Some(3), "item 0 waits for the lock");
        assert_eq!(take(&scheduler), None);
        scheduler.done(&lines, &[2]);
        assert_eq!(take(&scheduler), Some(0));
        scheduler.done(&lines, &[3]);
        assert_eq!(take(&scheduler), None);
        scheduler.done(&lines, &[0]);
        assert_eq!(take(&scheduler), Some(1));
        scheduler.done(&lines, &[1]);
        assert!(matches!(scheduler.take(&lines, 0), Next::Finished));
    }

    #[test]
    fn rights_wait_for_what_is_made_and_event_triggers_for_all_else() {
        let mut items = [
            line(1, vec![], vec![], 0),
            line(2, vec![3], vec![], 9),
            line(3, vec![], vec![], 8),
            line(4, vec![], vec![], 7),
        ];
        for (item, kind) in items
            .iter_mut()
            .zip(["INDEX", "EVENT TRIGGER", "ACL", "MATERIALIZED VIEW DATA"])
        {
            kind.clone_into(&mut item.item.kind);
        }
        let lines: Vec<&TocEntry> = items.iter().collect();
        let scheduler = RestoreScheduler::new(&lines, 4, &HashMap::new());
        for at in [0, 2, 3, 1] {
            assert!(matches!(scheduler.take(&lines, 0), Next::Items(found) if found == [at]));
            assert!(matches!(scheduler.take(&lines, 0), Next::Wait));
            scheduler.done(&lines, &[at]);
        }
        assert!(matches!(scheduler.take(&lines, 0), Next::Finished));
    }

    #[test]
    fn rights_to_one_object_keep_their_order() {
        let mut items = [line(1, vec![], vec![], 0), line(2, vec![], vec![], 9)];
        for item in &mut items {
            item.item.kind = "ACL".into();
            item.item.name = "TABLE pg_catalog.pg_proc".into();
        }
        let lines: Vec<&TocEntry> = items.iter().collect();
        let scheduler = RestoreScheduler::new(&lines, 2, &HashMap::new());
        assert!(matches!(scheduler.take(&lines, 0), Next::Items(found) if found == [0]));
        assert!(matches!(scheduler.take(&lines, 0), Next::Wait));
        scheduler.done(&lines, &[0]);
        assert!(matches!(scheduler.take(&lines, 0), Next::Items(found) if found == [1]));
    }

    #[test]
    fn sharers_run_beside_each_other_and_not_beside_an_owner() {
        let mut items = [
            line(1, vec![], vec![], 9),
            line(2, vec![], vec![], 8),
            line(3, vec![], vec![7], 7),
        ];
        items[0].item.shares = vec![7];
        items[1].item.shares = vec![7];
        let lines: Vec<&TocEntry> = items.iter().collect();
        let scheduler = RestoreScheduler::new(&lines, 2, &HashMap::new());
        let take = |scheduler: &RestoreScheduler| match scheduler.take(&lines, 0) {
            Next::Items(at) => at,
            _ => Vec::new(),
        };
        assert_eq!((take(&scheduler), take(&scheduler)), (vec![0], vec![1]));
        assert!(take(&scheduler).is_empty());
        scheduler.done(&lines, &[0]);
        assert!(take(&scheduler).is_empty(), "one of the sharers still runs");
        scheduler.done(&lines, &[1]);
        assert_eq!(take(&scheduler), vec![2]);
    }

    #[test]
    fn many_light_items_go_together_and_heavy_ones_alone() {
        let mut items: Vec<TocEntry> = (0..1000).map(|n| line(n, vec![], vec![1], 0)).collect();
        items[500].item.weight = LIGHT_BYTES + 1;
        let lines: Vec<&TocEntry> = items.iter().collect();
        let scheduler = RestoreScheduler::new(&lines, 2, &HashMap::new());
        let take = |scheduler: &RestoreScheduler| match scheduler.take(&lines, 0) {
            Next::Items(at) => at,
            _ => Vec::new(),
        };
        assert_eq!(take(&scheduler), vec![500]);
        scheduler.done(&lines, &[500]);
        assert_eq!(take(&scheduler).len(), BATCH_ITEMS, "one lock among them all is theirs");
        assert!(take(&scheduler).is_empty());
    }

    #[test]
    fn items_wait_for_the_rows_they_read() {
        let mut items = [
            line(1, vec![], vec![7], 5),
            line(2, vec![], vec![7, 8], 9),
            line(3, vec![], vec![7], 1),
            line(4, vec![1], vec![], 50),
        ];
        for item in &mut items[..2] {
            item.item.self_contained = true;
        }
        let lines: Vec<&TocEntry> = items.iter().collect();
        let scheduler = RestoreScheduler::new(&lines, 1, &HashMap::from([(7, 7), (8, 8), (ALL_TABLES, ALL_TABLES)]));
        assert_eq!(
            (scheduler.way_behind(7), scheduler.way_behind(8)),
            (55, 9),
            "item 4 waits for item 1"
        );
        let take = |at_least| match scheduler.take(&lines, at_least) {
            Next::Items(at) => at,
            _ => Vec::new(),
        };
        assert!(take(0).is_empty());
        scheduler.loaded(7);
        assert!(take(56).is_empty());
        assert_eq!(take(55), vec![0]);
        scheduler.done(&lines, &[0]);
        assert!(take(0).is_empty(), "item 4 calls what may read any table");
        scheduler.loaded(8);
        assert_eq!(take(0), vec![1]);
        scheduler.done(&lines, &[1]);
        scheduler.loaded(ALL_TABLES);
        assert_eq!(take(0), vec![3]);
        assert_eq!(take(0), vec![2]);
    }
}
