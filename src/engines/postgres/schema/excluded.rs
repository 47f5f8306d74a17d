//! What the user leaves out of a backup, and what has to go with it.
//!
//! A restore must be able to make everything that is written, so whoever depends on something that is left out is left out too:
//! views, foreign keys, triggers, functions that return its rows, defaults. They are named (`excluded-with`). Tables that were not named
//! themselves would lose rows that way; they are named by a code of their own (`excluded-rows`), and the backup ends with exit code 2.

use crate::engines::postgres::sql::quote::quote_ident;
use std::collections::HashSet;

use tokio_postgres::Client;

use super::graph::Graph;
use super::node::{Kind, NONE, Node, class, flag};
use super::rows::{Columns, query};
use crate::base::error::Result;

const GENERATED: &str = include_str!("sql/generated_columns.sql");
const UNREFERENCED: &str = include_str!("sql/foreign_keys_without_rows.sql");

/// OIDs of what the user leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excluded {
    /// Tables with their children, views, sequences.
    pub relations: HashSet<u32>,
    /// Schemas with all that lies in them.
    pub schemas: HashSet<u32>,
    /// Extensions.
    pub extensions: HashSet<u32>,
    /// Relations whose definitions come without rows and values.
    pub rows: HashSet<u32>,
    /// Large objects.
    pub large_objects: bool,
}

const EXCLUDED: &str = "excluded";
const WITH: &str = "excluded-with";
const ROWS: &str = "excluded-rows";

const BY_USER: &str = "is excluded, as requested";
const UNCHECKED: &str = "comes back as NOT VALID, because the rows it references are excluded: new rows are checked, \
                         those in the backup are not";

/// First version that makes a foreign key of a partitioned table without checking the rows.
const NOT_VALID_ON_PARTITIONED: i32 = 180_000;

const BY_NEED: &str = "is not in this backup: it needs something that is excluded";

impl Graph {
    /// Returns whether a node is left out.
    pub(super) fn is_excluded(&self, index: u32) -> bool {
        self.node(index).is_some_and(|n| n.has(flag::EXCLUDED))
    }

    /// Returns whether an object, or the extension that makes it, is left out.
    pub(super) fn excludes(&self, class: u32, oid: u32) -> bool {
        let of = |index: Option<u32>| index.is_some_and(|i| self.is_excluded(i));
        of(self.find(class, oid)) || of(self.owner(class, oid))
    }

    /// Marks what is left out. Dependencies are known; nothing is derived from nodes yet.
    pub(super) async fn exclude(&mut self, client: &Client) -> Result<()> {
        let excluded = self.options.excluded.clone();
        if excluded == Excluded::default() {
            return Ok(());
        }
        if excluded.large_objects {
            self.note_collector
                .add(EXCLUDED, "are excluded, as requested", "large objects");
        }
        let generated = generated(client).await?;
        let mut open = self.named(&excluded);
        self.edges.sort_unstable();
        let mut needed_by: Vec<(u32, u32)> = self.edges.iter().map(|&(from, to)| (to, from)).collect();
        needed_by.sort_unstable();
        while let Some(index) = open.pop() {
            let start = needed_by.partition_point(|e| e.0 < index);
            let dependants: Vec<u32> = needed_by
                .iter()
                .skip(start)
                .take_while(|e| e.0 == index)
                .map(|e| e.1)
                .collect();
            for from in dependants {
                let Some(node) = self.node(from).copied() else { continue };
                // A column that is generated cannot come without its expression, nor its table without the column.
                if node.kind == Kind::Default && generated.contains(&node.oid) {
                    self.exclude_with(node.parent, index, &mut open);
                }
                self.exclude_with(from, index, &mut open);
            }
        }
        self.without_rows(&excluded.rows);
        self.release_foreign_keys(client, &excluded.rows).await?;
        let edges = std::mem::take(&mut self.edges);
        let stays = |index: u32| !self.is_excluded(index);
        self.edges = edges.into_iter().filter(|e| stays(e.0) && stays(e.1)).collect();
        Ok(())
    }

    /// Marks what the user names, and tells of it.
    fn named(&mut self, excluded: &Excluded) -> Vec<u32> {
        let mut found = Vec::new();
        for (class, oids) in [
            (class::NAMESPACE, &excluded.schemas),
            (class::EXTENSION, &excluded.extensions),
            (class::RELATION, &excluded.relations),
        ] {
            let nodes = oids.iter().filter_map(|&oid| self.find(class, oid));
            found.extend(nodes.collect::<Vec<_>>());
        }
        found.sort_unstable();
        for &index in &found {
            self.mark(index);
            let Some(node) = self.node(index) else { continue };
            self.note_collector.add(EXCLUDED, BY_USER, self.called(node));
        }
        found.extend(self.within_schemas(&found));
        found
    }

    /// Marks what lies in the schemas among these nodes. It was named with its schema, whatever else it needs.
    fn within_schemas(&mut self, named: &[u32]) -> Vec<u32> {
        let numbers: HashSet<u32> = named
            .iter()
            .filter_map(|&index| self.node(index))
            .filter(|n| n.kind.is_schema())
            .map(|n| n.schema)
            .collect();
        if numbers.is_empty() {
            return Vec::new();
        }
        // An extension lies in no schema, only what it makes does.
        let lies_within = |n: &Node| numbers.contains(&n.schema) && n.kind != Kind::Extension && !n.has(flag::EXCLUDED);
        let within: Vec<u32> = (0_u32..)
            .zip(&self.nodes)
            .filter(|(_, node)| lies_within(node))
            .map(|(index, _)| index)
            .collect();
        for &index in &within {
            self.mark(index);
        }
        within
    }

    fn mark(&mut self, index: u32) {
        if let Some(node) = usize::try_from(index).ok().and_then(|i| self.nodes.get_mut(i)) {
            // What was to be printed within its container is printed nowhere.
            node.flags = (node.flags | flag::EXCLUDED) & !flag::INLINE;
        }
    }

    /// Leaves a node out because it needs another one; tells of it unless it is a part of that one.
    fn exclude_with(&mut self, index: u32, needs: u32, open: &mut Vec<u32>) {
        let Some(node) = self.node(index).copied().filter(|n| !n.has(flag::EXCLUDED)) else {
            return;
        };
        self.mark(index);
        open.push(index);
        let Some(other) = self.node(needs).copied() else { return };
        let lies_within = other.kind.is_schema() && node.kind != Kind::Extension;
        if node.kind.is_member() || lies_within || (node.parent != NONE && self.is_excluded(node.parent)) {
            return;
        }
        let name = format!("{} (needs {})", self.called(&node), self.called(&other));
        let code = if node.kind == Kind::Table { ROWS } else { WITH };
        self.note_collector.add(code, BY_NEED, name);
    }

    /// Has the definitions of relations come without their rows.
    fn without_rows(&mut self, rows: &HashSet<u32>) {
        let mut named: Vec<u32> = rows.iter().filter_map(|&oid| self.find(class::RELATION, oid)).collect();
        named.sort_unstable();
        for index in named {
            let Some(node) = self.node(index).copied().filter(|n| !n.has(flag::EXCLUDED)) else {
                continue;
            };
            let what = match node.kind {
                Kind::Sequence => "its value is excluded, as requested",
                Kind::MatView | Kind::Table | Kind::Member => "its rows are excluded, as requested",
                _ => continue,
            };
            if let Some(node) = usize::try_from(index).ok().and_then(|i| self.nodes.get_mut(i)) {
                node.flags &= !flag::DATA;
            }
            self.note_collector.add(EXCLUDED, what, self.called(&node));
        }
    }

    /// Has foreign keys not be checked whose referenced rows are left out while their own come: no restore could make them otherwise.
    /// Those of partitioned tables cannot be made without a check before PostgreSQL 18, and are left out.
    async fn release_foreign_keys(&mut self, client: &Client, rows: &HashSet<u32>) -> Result<()> {
        let excluded = self
            .nodes
            .iter()
            .filter(|n| n.kind == Kind::Table && n.has(flag::EXCLUDED))
            .map(|n| n.oid);
        let without: Vec<u32> = rows.iter().copied().chain(excluded).collect();
        if without.is_empty() {
            return Ok(());
        }
        for row in query(
            client,
            "foreign keys without referenced rows",
            UNREFERENCED,
            &[&without],
        )
        .await?
        {
            let oid = row.oid("oid")?;
            let Some(index) = self.find(class::CONSTRAINT, oid) else {
                continue;
            };
            let Some(node) = self.node(index).copied().filter(|n| !n.has(flag::EXCLUDED)) else {
                continue;
            };
            if row.flag("partitioned")? && self.version < NOT_VALID_ON_PARTITIONED {
                self.mark(index);
                let referenced = self
                    .find(class::RELATION, row.oid("referenced")?)
                    .and_then(|i| self.node(i));
                let needs = referenced.map_or_else(String::new, |n| format!(" (needs the rows of {})", self.called(n)));
                self.note_collector
                    .add(WITH, BY_NEED, format!("{}{needs}", self.called(&node)));
            } else {
                self.not_valid.insert(oid);
                self.note_collector.add(WITH, UNCHECKED, self.called(&node));
            }
        }
        Ok(())
    }

    /// Returns the word and name of a node for messages.
    fn called(&self, node: &Node) -> String {
        let word = node.kind.word();
        match self
            .node(node.parent)
            .filter(|p| node.schema == NONE && !p.kind.is_schema())
        {
            Some(parent) => format!("{word} {} of {}", quote_ident(self.name(node)), self.qualified(parent)),
            None => format!("{word} {}", self.qualified(node)),
        }
    }
}

/// Returns the defaults that are expressions of generated columns.
async fn generated(client: &Client) -> Result<HashSet<u32>> {
    let rows = query(client, "generated columns", GENERATED, &[]).await?;
    rows.iter().map(|row| row.oid("oid")).collect()
}
