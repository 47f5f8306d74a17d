//! The schema of a database, read from its catalogs and written as SQL in dependency order.
//!
//! The graph (ids, kinds, names, edges) is held in memory, at most 600 bytes an object; details are read in keyset
//! pages in the order in which they are written. Definitions are the server's own text wherever it prints one; names
//! are always quoted and never stand in SQL comments.
//!
//! What makes the reading safe: the caller's transaction is a snapshot, [`Graph::read`] lists tables with plain column
//! reads and locks them before any definition function runs. What is not carried yet is counted and told as a note.

mod acl;
mod catalog;
mod census;
mod comments;
mod constraints;
mod database;
mod excluded;
mod extensions;
mod foreign;
mod functions;
mod globals;
mod graph;
mod indexes;
mod inherit;
mod large_objects;
mod members;
mod node;
mod note_collector;
mod operators;
mod options;
mod order;
mod refresh;
mod replication;
mod roles;
mod rows;
mod sequences;
mod statistics;
mod system_rights;
mod tables;
mod text;
mod triggers;
mod types;
mod views;
mod write;

use std::collections::HashSet;

use async_trait::async_trait;

use crate::base::error::Result;

pub use excluded::Excluded;
pub use globals::write_globals;
pub use graph::Graph;
pub(crate) use large_objects::READABLE as READABLE_LARGE_OBJECT;
pub use large_objects::{write_large_object_rights, write_large_objects};
pub use roles::named_roles;
pub use statistics::write_statistics;

/// What of the schema is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaOptions {
    /// Leave out `ALTER … OWNER TO`.
    pub no_owner: bool,
    /// Leave out `GRANT`, `REVOKE` and default privileges.
    pub no_acl: bool,
    /// Do not lock tables: the schema is one that nobody changes.
    pub no_lock: bool,
    /// OIDs of tables that the caller locked before the transaction had its snapshot.
    pub locked: HashSet<u32>,
    /// What the user leaves out.
    pub excluded: Excluded,
}

/// Which part of a restore a statement belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// Everything up to tables, owners included.
    PreData,
    /// Sequence values.
    Data,
    /// Indexes, constraints, triggers, views that need keys, rights.
    PostData,
    /// What the planner knows of the rows.
    Statistics,
}

/// One object's SQL in the table of contents.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TocItem {
    /// Number in writing order over all sections, from 0.
    pub id: u32,
    /// Section.
    pub section: Section,
    /// `TABLE`, `INDEX`, `FK CONSTRAINT`, `ACL` …: for messages.
    pub kind: String,
    /// Schema of the object, if it has one.
    pub schema: Option<String>,
    /// Name of the object (its table's name in front for constraints and triggers).
    pub name: String,
    /// Ids of items that must have been run before; items of earlier sections are implied.
    pub depends_on: Vec<u32>,
    /// Numbers of the tables ([`DataTable::number`]) the statements lock exclusively (two such items on one table never run at once).
    /// Numbers above the count of data tables stand for relations without rows of their own (partitioned tables, views).
    pub locks: Vec<u32>,
    /// Numbers of the tables that the statements lock against writers only, so that several such items may run at once. None in
    /// backups of older versions of this program, which did not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<u32>,
    /// Whether the statements read the rows of those tables alone: then they can run before other tables are loaded. What calls a
    /// function of the database's own may read any table, whatever the function promises.
    #[serde(default, skip_serializing_if = "is_false")]
    pub self_contained: bool,
    /// Rough cost for ordering (bytes of the table for an index; 0 else). Of planner statistics: rows that they know of.
    pub weight: u64,
    /// Length of the item's SQL text in bytes; it follows the item before it in the section's SQL stream.
    pub sql_bytes: u64,
}

impl TocItem {
    /// Returns an item of no schema that needs, locks and weighs nothing.
    pub(crate) fn new(id: u32, section: Section, kind: &str, name: impl Into<String>) -> Self {
        Self {
            id,
            section,
            kind: kind.to_owned(),
            schema: None,
            name: name.into(),
            depends_on: Vec::new(),
            locks: Vec::new(),
            shares: Vec::new(),
            self_contained: false,
            weight: 0,
            sql_bytes: 0,
        }
    }
}

/// For serde, which gives a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A table whose rows are to be copied.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DataTable {
    /// 1-based number: the key of the table in the archive.
    pub number: u32,
    /// OID at the source.
    pub oid: u32,
    /// Schema name, raw.
    pub schema: String,
    /// Table name, raw.
    pub name: String,
    /// Names of the columns that COPY carries (no dropped, no generated ones), raw, in attnum order.
    pub columns: Vec<String>,
    /// Heap pages (relpages, or by size where never analysed).
    pub pages: u64,
    /// Bytes of heap and TOAST.
    pub bytes: u64,
    /// Whether it has no row in any snapshot: its file was empty while we held its lock.
    pub empty: bool,
    /// Whether it is an ordinary heap, so that ctid ranges work (14 and newer).
    pub ctid_ranges: bool,
    /// For a partition whose rows may belong into another one elsewhere: the partitioned table through which they are loaded.
    /// The columns are in that table's order.
    pub root: Option<(String, String)>,
    /// For a configuration table of an extension the condition on its rows, which may be empty. The extension makes the
    /// table, and the rows that the condition leaves out.
    pub filter: Option<String>,
}

/// Receives statements in order.
#[async_trait]
pub trait SqlSink: Send {
    /// One object: `sql` holds complete statements, each ended by `;` and a newline. `item.sql_bytes` is set by the sink.
    async fn item(&mut self, item: TocItem, sql: &str) -> Result<()>;
}
