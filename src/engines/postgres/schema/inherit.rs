//! The order of columns in inheritance children.
//!
//! `CREATE TABLE … INHERITS` puts inherited columns first, so a child whose parent got a column later, or that joined
//! its parent later, would come back with its columns in another order. Two remedies, by plain DDL:
//!
//! 1. Every inherited column is the child's own too: the child is made with its full list and joins by
//!    `ALTER TABLE … INHERIT`.
//! 2. Else the parent is made without the *late* columns, then the children, then `ALTER TABLE parent ADD COLUMN`: the
//!    column arrives at the end of every child, as it once did.
//!
//! [`plan`] finds both by building each table on paper and marking what comes too early as late, until all lists are
//! right. Where no order of the additions fits all children, they keep the plain form and a note says so.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tokio_postgres::{Client, Row};

use super::graph::Graph;
use super::node::{Kind, class, flag, number_of};
use super::rows::{Columns, query};
use crate::base::error::Result;
use crate::base::report::Note;
use crate::engines::postgres::sql::template::for_version;

const INHERITANCE: &str = include_str!("sql/inheritance.sql");
const CHECKS: &str = include_str!("sql/inheriting_checks.sql");
const PARENT_CHECKS: &str = include_str!("sql/parent_checks.sql");
const DEFAULTS: &str = include_str!("sql/inheriting_defaults.sql");
const COLUMNS: &str = include_str!("sql/inheriting_columns.sql");

/// A column of a table that inherits or is inherited from.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    number: i16,
    /// Declared by the table itself.
    local: bool,
    inherited: bool,
    /// Its NOT NULL is only the parent's [18]: the first remedy would make it the child's own.
    foreign_not_null: bool,
}

impl Column {
    /// Takes a row of `inheriting_columns.sql`.
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            name: row.text("name")?,
            number: row.col("number")?,
            local: row.flag("is_local")?,
            inherited: row.flag("inherited")?,
            foreign_not_null: row.flag("foreign_not_null")?,
        })
    }
}

#[derive(Debug, Clone)]
struct Table {
    oid: u32,
    /// Positions of the parents, in their order.
    parents: Vec<usize>,
    columns: Vec<Column>,
}

/// `ALTER TABLE … ADD COLUMN` of one late column; the last one of a family completes the columns that came late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addition {
    pub(super) table: u32,
    pub(super) column: i16,
    /// Tables whose late columns get their settings and comments after this addition.
    pub(super) completes: Vec<u32>,
}

/// What the renderer of tables must know.
#[derive(Debug, Default)]
pub(super) struct ColumnOrder {
    /// Tables that are made stand-alone and then join their parents.
    pub(super) standalone: HashSet<u32>,
    /// Columns that are not part of CREATE TABLE.
    pub(super) late: HashMap<u32, HashSet<i16>>,
    pub(super) additions: Vec<Addition>,
}

impl ColumnOrder {
    pub(super) fn is_late(&self, table: u32, column: i16) -> bool {
        self.late.get(&table).is_some_and(|l| l.contains(&column))
    }
}

#[derive(Debug, Default)]
struct Plan {
    standalone: Vec<bool>,
    late: Vec<BTreeSet<usize>>,
    /// (table, column), in order.
    additions: Vec<(usize, usize)>,
    /// Tables that keep a wrong order.
    given_up: Vec<usize>,
}

impl Plan {
    /// Leaves every column where CREATE TABLE puts it.
    fn given_up(self) -> Self {
        Self {
            given_up: (0..self.late.len())
                .filter(|&t| self.late.get(t).is_some_and(|l| !l.is_empty()))
                .collect(),
            late: vec![BTreeSet::new(); self.late.len()],
            standalone: self.standalone,
            additions: Vec::new(),
        }
    }
}

struct Planner<'a> {
    tables: &'a [Table],
    standalone: Vec<bool>,
    late: Vec<BTreeSet<usize>>,
}

#[allow(clippy::indexing_slicing)] // every index is the position of a table, or of a column found in that table
impl Planner<'_> {
    fn find(&self, table: usize, name: &str) -> Option<usize> {
        self.tables[table].columns.iter().position(|c| c.name == name)
    }

    /// Returns the columns that CREATE TABLE gives, in the order in which it does.
    fn early(&self, table: usize) -> Vec<usize> {
        let own = &self.tables[table];
        let mut list = Vec::new();
        let mut seen = BTreeSet::new();
        if !self.standalone[table] {
            for &parent in &own.parents {
                // A parent that was looked at before has the right order.
                for (at, column) in self.tables[parent].columns.iter().enumerate() {
                    if self.late[parent].contains(&at) {
                        continue;
                    }
                    if let Some(mine) = self.find(table, &column.name)
                        && seen.insert(mine)
                    {
                        list.push(mine);
                    }
                }
            }
        }
        for (at, column) in own.columns.iter().enumerate() {
            let declared = column.local || self.standalone[table];
            if declared && !self.late[table].contains(&at) && seen.insert(at) {
                list.push(at);
            }
        }
        list
    }

    /// Marks a column that comes too early.
    fn postpone(&mut self, table: usize, column: usize) {
        let mut open = vec![(table, column)];
        while let Some((table, column)) = open.pop() {
            let name = &self.tables[table].columns[column].name;
            let early: Vec<(usize, usize)> = self.tables[table]
                .parents
                .iter()
                .filter(|_| !self.standalone[table])
                .filter_map(|&p| Some((p, self.find(p, name)?)))
                .filter(|&(p, c)| !self.late[p].contains(&c))
                .collect();
            // What the table declares itself stays where it is as long as a parent brings it too early.
            if early.is_empty() || !self.tables[table].columns[column].local {
                self.late[table].insert(column);
            }
            open.extend(early);
        }
    }

    /// Compares one table with its list; returns whether something was changed.
    fn settle(&mut self, table: usize) -> bool {
        let early = self.early(table);
        let misplaced = early.iter().enumerate().find(|&(place, &at)| place != at);
        if let Some((_, &at)) = misplaced {
            self.postpone(table, at);
            return true;
        }
        let rest: Vec<usize> = (early.len()..self.tables[table].columns.len())
            .filter(|at| !self.late[table].contains(at))
            .collect();
        self.late[table].extend(&rest);
        !rest.is_empty()
    }

    /// Returns the additions that bring a late column to a table.
    fn sources(&self, table: usize, column: usize) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut open = vec![(table, column)];
        while let Some((table, column)) = open.pop() {
            let own = &self.tables[table].columns[column];
            if own.local || self.standalone[table] {
                found.push((table, column));
                continue;
            }
            let parents = self.tables[table].parents.iter();
            open.extend(parents.filter_map(|&p| Some((p, self.find(p, &own.name)?))));
        }
        found
    }

    /// Orders the additions; `None` when they contradict each other.
    fn additions(&self) -> Option<Vec<(usize, usize)>> {
        let mut before: BTreeMap<(usize, usize), BTreeSet<(usize, usize)>> = BTreeMap::new();
        for (table, late) in self.late.iter().enumerate() {
            let mut previous: Vec<(usize, usize)> = Vec::new();
            for &column in late {
                let sources = self.sources(table, column);
                for &source in &sources {
                    let needs = before.entry(source).or_default();
                    needs.extend(previous.iter().copied().filter(|&p| p != source));
                }
                let own = &self.tables[table].columns[column];
                if own.local && own.inherited && !self.standalone[table] {
                    // First its own, then the parents' additions merge with it.
                    for &parent in &self.tables[table].parents {
                        if let Some(theirs) = self.find(parent, &own.name).filter(|c| self.late[parent].contains(c)) {
                            for source in self.sources(parent, theirs) {
                                before.entry(source).or_default().insert((table, column));
                            }
                        }
                    }
                }
                previous = sources;
            }
        }
        let mut ordered = Vec::new();
        while !before.is_empty() {
            let next = before.iter().find(|(_, needs)| needs.is_empty()).map(|(&e, _)| e)?;
            before.remove(&next);
            for needs in before.values_mut() {
                needs.remove(&next);
            }
            ordered.push(next);
        }
        Some(ordered)
    }
}

/// Plans one family of tables; parents stand before their children.
#[allow(clippy::indexing_slicing)] // as above
fn plan(tables: &[Table]) -> Plan {
    let mut planner = Planner {
        tables,
        standalone: vec![false; tables.len()],
        late: vec![BTreeSet::new(); tables.len()],
    };
    for (at, own) in tables.iter().enumerate() {
        let movable = own.columns.iter().all(|c| c.local && !c.foreign_not_null);
        let early = planner.early(at);
        if movable && !own.parents.is_empty() && early.iter().enumerate().any(|(place, &c)| place != c) {
            planner.standalone[at] = true;
        }
    }
    // Each turn marks a column, so there are at most as many as columns.
    let mut turns: usize = tables.iter().map(|t| t.columns.len() + 1).sum();
    let mut changed = true;
    while changed && turns > 0 {
        changed = false;
        for at in 0..tables.len() {
            while turns > 0 && planner.settle(at) {
                changed = true;
                turns -= 1;
            }
        }
    }
    match planner.additions().filter(|_| turns > 0) {
        Some(additions) => Plan {
            additions,
            standalone: planner.standalone,
            late: planner.late,
            given_up: Vec::new(),
        },
        None => Plan {
            additions: Vec::new(),
            standalone: planner.standalone,
            late: planner.late,
            given_up: Vec::new(),
        }
        .given_up(),
    }
}

#[allow(clippy::indexing_slicing)] // the vector holds its own positions
fn top(root: &mut [usize], mut at: usize) -> usize {
    while root[at] != at {
        root[at] = root[root[at]];
        at = root[at];
    }
    at
}

/// Splits tables into families (connected by inheritance), parents first.
#[allow(clippy::indexing_slicing)] // positions of tables only
fn families(tables: &[Table]) -> Vec<Vec<usize>> {
    let mut root: Vec<usize> = (0..tables.len()).collect();
    for (at, table) in tables.iter().enumerate() {
        for &parent in &table.parents {
            let (a, b) = (top(&mut root, at), top(&mut root, parent));
            root[a] = b;
        }
    }
    // Parents first: by the longest way down to the table.
    let mut depth = vec![0usize; tables.len()];
    let mut changed = true;
    let mut turns = tables.len() + 1;
    while changed && turns > 0 {
        changed = false;
        turns -= 1;
        for (at, table) in tables.iter().enumerate() {
            let needed = table.parents.iter().map(|&p| depth[p] + 1).max().unwrap_or(0);
            if depth[at] < needed {
                depth[at] = needed;
                changed = true;
            }
        }
    }
    let mut families: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for at in 0..tables.len() {
        families.entry(top(&mut root, at)).or_default().push(at);
    }
    let mut families: Vec<Vec<usize>> = families.into_values().collect();
    for family in &mut families {
        family.sort_by_key(|&at| depth[at]);
    }
    families
}

async fn read(client: &Client, version: i32) -> Result<Vec<Table>> {
    let mut places: HashMap<u32, usize> = HashMap::new();
    let mut tables: Vec<Table> = Vec::new();
    let mut place = |tables: &mut Vec<Table>, oid: u32| {
        *places.entry(oid).or_insert_with(|| {
            tables.push(Table {
                oid,
                parents: Vec::new(),
                columns: Vec::new(),
            });
            tables.len() - 1
        })
    };
    for row in query(client, "inheritance", INHERITANCE, &[]).await? {
        let (child, parent) = (
            place(&mut tables, row.oid("child")?),
            place(&mut tables, row.oid("parent")?),
        );
        if let Some(table) = tables.get_mut(child) {
            table.parents.push(parent);
        }
    }
    if tables.is_empty() {
        return Ok(tables);
    }
    let oids: Vec<u32> = tables.iter().map(|t| t.oid).collect();
    for row in query(client, "inherited columns", &for_version(COLUMNS, version), &[&oids]).await? {
        let at = place(&mut tables, row.oid("relation")?);
        if let Some(table) = tables.get_mut(at) {
            table.columns.push(Column::from_row(&row)?);
        }
    }
    Ok(tables)
}

/// Reads what inherits and plans how each table gets its columns in their order.
pub(super) async fn arrange(graph: &mut Graph, client: &Client) -> Result<()> {
    let tables = read(client, graph.version).await?;
    let mut plans = Vec::new();
    for family in families(&tables) {
        let places: HashMap<usize, usize> = family.iter().enumerate().map(|(new, &old)| (old, new)).collect();
        let members: Vec<Table> = family
            .iter()
            .filter_map(|&at| tables.get(at))
            .map(|t| Table {
                parents: t.parents.iter().filter_map(|p| places.get(p).copied()).collect(),
                ..t.clone()
            })
            .collect();
        let mut plan = plan(&members);
        // An extension makes its tables whole: no column of them can come later.
        let is_member = |oid| {
            let node = graph.find(class::RELATION, oid).and_then(|i| graph.node(i));
            node.is_some_and(|n| n.kind.is_member())
        };
        let fixed = |(table, late): (&Table, &BTreeSet<usize>)| !late.is_empty() && is_member(table.oid);
        if members.iter().zip(&plan.late).any(fixed) {
            plan = plan.given_up();
        }
        mark(graph, &members, &plan);
        plans.push((members, plan));
    }
    part_from_tables(graph, client).await?;
    for (members, plan) in plans {
        add_nodes(graph, &members, &plan);
    }
    Ok(())
}

/// Notes which tables and columns are made otherwise.
fn mark(graph: &mut Graph, members: &[Table], plan: &Plan) {
    for (member, _) in members.iter().zip(&plan.standalone).filter(|(_, alone)| **alone) {
        graph.column_order.standalone.insert(member.oid);
    }
    for member in plan.given_up.iter().filter_map(|&at| members.get(at)) {
        let name = graph.qualified_oid(class::RELATION, member.oid).unwrap_or_default();
        graph.notes.push(Note::new(
            "column-order",
            name,
            "inherits in a way that no order of statements gives: its columns come back in another order",
        ));
    }
    for (member, late) in members.iter().zip(&plan.late).filter(|(_, late)| !late.is_empty()) {
        let numbers = late.iter().filter_map(|&c| member.columns.get(c)).map(|c| c.number);
        graph.column_order.late.insert(member.oid, numbers.collect());
    }
}

/// Adds a node for each addition, in a chain, and makes everybody who needs one of the tables wait for the last one.
fn add_nodes(graph: &mut Graph, members: &[Table], plan: &Plan) {
    let Some(last) = plan.additions.last() else { return };
    let late = members.iter().zip(&plan.late).filter(|(_, late)| !late.is_empty());
    let late_tables: Vec<u32> = late.map(|(member, _)| member.oid).collect();
    let nodes: Vec<u32> = members
        .iter()
        .filter_map(|m| graph.find(class::RELATION, m.oid))
        .collect();
    let mut previous: Option<u32> = None;
    let first_addition = graph.nodes.len();
    for addition in &plan.additions {
        let Some(table) = members.get(addition.0) else { continue };
        let Some(column) = table.columns.get(addition.1) else {
            continue;
        };
        let Some(of) = graph.find(class::RELATION, table.oid) else {
            continue;
        };
        let Some(node) = graph.push_derived(of, Kind::LateColumns) else {
            continue;
        };
        // Several additions may belong to one table: what tells them apart is their number.
        let number = number_of(graph.column_order.additions.len());
        if let Some(added) = graph.nodes.last_mut() {
            added.oid = number;
            added.flags = 0;
        }
        graph.column_order.additions.push(Addition {
            table: table.oid,
            column: column.number,
            completes: if addition == last {
                late_tables.clone()
            } else {
                Vec::new()
            },
        });
        graph.edges.extend(nodes.iter().map(|&n| (node, n)));
        graph.edges.extend(previous.map(|p| (node, p)));
        previous = Some(node);
    }
    let Some(complete) = previous else { return };
    // Whoever needs one of the tables needs all of it; its own inline parts are printed within it.
    let family: HashSet<u32> = nodes.into_iter().collect();
    let inside = |graph: &Graph, at: u32| {
        family.contains(&at)
            || usize::try_from(at).is_ok_and(|at| at >= first_addition)
            || graph
                .node(at)
                .is_some_and(|n| n.has(flag::INLINE) && family.contains(&n.parent))
    };
    let added: Vec<(u32, u32)> = graph
        .edges
        .iter()
        .filter(|e| family.contains(&e.1) && !inside(graph, e.0))
        .map(|e| (e.0, complete))
        .collect();
    graph.edges.extend(added);
}

/// Defaults of late columns, and CHECKs that need one, stand on their own; so do CHECKs whose inherited copy a stand-alone
/// child must not declare itself.
async fn part_from_tables(graph: &mut Graph, client: &Client) -> Result<()> {
    let order = &graph.column_order;
    let oids: Vec<u32> = order.late.keys().chain(&order.standalone).copied().collect();
    if oids.is_empty() {
        return Ok(());
    }
    let mut inherited: HashMap<(u32, String), Vec<u32>> = HashMap::new();
    for row in query(client, "inherited CHECK constraints", PARENT_CHECKS, &[&oids]).await? {
        inherited
            .entry((row.oid("child")?, row.text("name")?))
            .or_default()
            .push(row.oid("oid")?);
    }
    let mut moved = Vec::new();
    for row in query(client, "CHECK constraints of inheritance", CHECKS, &[&oids]).await? {
        let (oid, table, keys, local) = (
            row.oid("oid")?,
            row.oid("relation")?,
            row.col::<Vec<i16>>("columns")?,
            row.flag("is_local")?,
        );
        if keys.iter().any(|&k| order.is_late(table, k)) {
            moved.push(oid);
        }
        if order.standalone.contains(&table) && !local {
            moved.extend(inherited.remove(&(table, row.text("name")?)).unwrap_or_default());
        }
    }
    // A default may need what needs the table (a sequence that a column owns): it follows the column.
    let mut moved: Vec<(u32, u32)> = moved.into_iter().map(|oid| (class::CONSTRAINT, oid)).collect();
    for row in query(client, "defaults of inheritance", DEFAULTS, &[&oids]).await? {
        if order.is_late(row.oid("relation")?, row.col("number")?) {
            moved.push((class::ATTRDEF, row.oid("oid")?));
        }
    }
    for (class, oid) in moved {
        if let Some(node) = graph
            .find(class, oid)
            .and_then(|n| usize::try_from(n).ok())
            .and_then(|n| graph.nodes.get_mut(n))
        {
            node.flags &= !flag::INLINE;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// `"a"`: own, `"^a"`: inherited, `"+a"`: both.
    fn table(oid: u32, parents: &[usize], columns: &[&str]) -> Table {
        let column = |(at, text): (usize, &&str)| Column {
            name: text.trim_start_matches(['^', '+']).to_owned(),
            number: i16::try_from(at + 1).unwrap(),
            local: !text.starts_with('^'),
            inherited: text.starts_with(['^', '+']),
            foreign_not_null: false,
        };
        Table {
            oid,
            parents: parents.to_vec(),
            columns: columns.iter().enumerate().map(column).collect(),
        }
    }

    /// Carries a plan out and returns each table's columns.
    fn build(tables: &[Table], plan: &Plan) -> Vec<Vec<String>> {
        let mut made: Vec<Vec<String>> = vec![Vec::new(); tables.len()];
        for (at, table) in tables.iter().enumerate() {
            let mut list: Vec<String> = Vec::new();
            if !plan.standalone[at] {
                for &parent in &table.parents {
                    for name in made[parent].clone() {
                        if !list.contains(&name) {
                            list.push(name);
                        }
                    }
                }
            }
            for (place, column) in table.columns.iter().enumerate() {
                if (column.local || plan.standalone[at])
                    && !plan.late[at].contains(&place)
                    && !list.contains(&column.name)
                {
                    list.push(column.name.clone());
                }
            }
            made[at] = list;
        }
        for &(table, column) in &plan.additions {
            let name = tables[table].columns[column].name.clone();
            let mut open = vec![table];
            while let Some(at) = open.pop() {
                if !made[at].contains(&name) {
                    made[at].push(name.clone());
                }
                open.extend((0..tables.len()).filter(|&c| tables[c].parents.contains(&at)));
            }
        }
        made
    }

    fn check(tables: &[Table]) -> Plan {
        let plan = plan(tables);
        assert!(plan.given_up.is_empty());
        let wanted: Vec<Vec<String>> = tables
            .iter()
            .map(|t| t.columns.iter().map(|c| c.name.clone()).collect())
            .collect();
        assert_eq!(build(tables, &plan), wanted);
        plan
    }

    #[test]
    fn usual_children_need_nothing() {
        let plan = check(&[table(1, &[], &["a", "b"]), table(2, &[0], &["^a", "+b", "c"])]);
        assert!(plan.additions.is_empty());
        assert_eq!(plan.standalone, [false, false]);
    }

    #[test]
    fn a_child_that_joined_later_is_made_alone() {
        let plan = check(&[table(1, &[], &["a", "b"]), table(2, &[0], &["+b", "c", "+a"])]);
        assert_eq!(plan.standalone, [false, true]);
        assert!(plan.additions.is_empty());
    }

    #[test]
    fn columns_that_came_later_come_later_again() {
        let plan = check(&[
            table(1, &[], &["class", "aa", "a"]),
            table(2, &[0], &["^class", "^aa", "bb", "^a"]),
            table(3, &[0], &["^class", "^aa", "cc", "^a"]),
            table(4, &[1, 2], &["^class", "^aa", "^bb", "^cc", "dd", "^a"]),
            table(5, &[2], &["^class", "^aa", "^cc", "ee", "e", "^a"]),
            table(6, &[4], &["^class", "^aa", "^cc", "^ee", "ff", "f", "^e", "^a"]),
        ]);
        assert_eq!(plan.additions, [(4, 4), (0, 2)]);
    }

    #[test]
    fn a_column_of_the_child_merges_with_the_parents_later_one() {
        check(&[table(1, &[], &["a", "b"]), table(2, &[0], &["^a", "c", "+b"])]);
    }

    #[test]
    fn two_parents_that_grew_in_turn() {
        check(&[
            table(1, &[], &["a", "x"]),
            table(2, &[], &["b", "y"]),
            table(3, &[0, 1], &["^a", "^b", "own", "^y", "^x"]),
        ]);
    }

    #[test]
    fn a_contradiction_is_said_and_not_guessed() {
        let tables = [
            table(1, &[], &["a", "x", "y"]),
            table(2, &[0], &["^a", "c", "^y", "^x"]),
        ];
        assert_eq!(plan(&tables).given_up, [0, 1]);
    }

    #[test]
    fn families_hold_parents_first() {
        let tables = [table(1, &[1], &[]), table(2, &[], &[]), table(3, &[], &[])];
        let mut found = families(&tables);
        found.sort_by_key(Vec::len);
        assert_eq!(found, [vec![2], vec![1, 0]]);
    }
}
