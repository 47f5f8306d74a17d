//! What the user leaves out of a backup, and what has to go with it.
//!
//! A restore must be able to make everything that is written, so whoever depends on something that is left out is left out too:
//! views, foreign keys, triggers, functions that return its rows, defaults. They are named (`excluded-with`). Tables that were not named
//! themselves would lose rows that way; they are named by a code of their own (`excluded-rows`), and the backup ends with exit code 2.

use std::collections::HashSet;

use tokio_postgres::Client;

use super::graph::Graph;
use super::node::{Kind, NONE, Node, class, flag};
use super::rows::{Columns, query};
use crate::error::Result;

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

const BY_USER: &str = "is left out, as the user wants";
const BY_NEED: &str = "is not in this backup: it needs something that the user leaves out";

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
            self.told
                .add(EXCLUDED, "are left out, as the user wants", "large objects");
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
        let edges = std::mem::take(&mut self.edges);
        let stays = |index: u32| !self.is_excluded(index);
        self.edges = edges.into_iter().filter(|e| stays(e.0) && stays(e.1)).collect();
        self.without_rows(&excluded.rows);
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
            self.told.add(EXCLUDED, BY_USER, self.called(node));
        }
        found
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
        self.told.add(code, BY_NEED, name);
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
                Kind::Sequence => "its value is left out, as the user wants",
                Kind::MatView | Kind::Table | Kind::Member => "its rows are left out, as the user wants",
                _ => continue,
            };
            if let Some(node) = usize::try_from(index).ok().and_then(|i| self.nodes.get_mut(i)) {
                node.flags &= !flag::DATA;
            }
            self.told.add(EXCLUDED, what, self.called(&node));
        }
    }

    /// Returns the word and name of a node for messages.
    fn called(&self, node: &Node) -> String {
        let word = node.kind.word();
        match self
            .node(node.parent)
            .filter(|p| node.schema == NONE && !p.kind.is_schema())
        {
            Some(parent) => format!(
                "{word} {} of {}",
                super::quote_ident(self.name(node)),
                self.qualified(parent)
            ),
            None => format!("{word} {}", self.qualified(node)),
        }
    }
}

/// Returns the defaults that are expressions of generated columns.
async fn generated(client: &Client) -> Result<HashSet<u32>> {
    let sql = "SELECT d.oid FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
               WHERE a.attgenerated <> '' AND d.adrelid >= 16384";
    let rows = query(client, "generated columns", sql, &[]).await?;
    rows.iter().map(|row| row.oid(0)).collect()
}
